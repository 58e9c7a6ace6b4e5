"""Pictures: they show the numbers that the results hold, alike on every run and machine."""

import subprocess
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pytest

from nlp_meta.report.plots import (
    NARROW,
    WIDE,
    drawable,
    looks_of,
    plot_calibration,
    plot_confusion,
    plot_cost,
    plot_domains,
    plot_learning_curves,
    save_figure,
    shorten,
    spread,
    to_svg,
)
from nlp_meta.report.texts import bin_probabilities, count_confusions, rows_of


def curve_of(figure, color):
    """The longest line of a color: its heights."""
    (axes,) = figure.axes
    lines = [
        line for line in axes.lines if line.get_color() == color and line.get_clip_on() is False
    ]
    return max((list(line.get_ydata()) for line in lines), key=len)


def texts_of(figure):
    own = [text.get_text() for text in figure.texts]
    return own + [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_curves_go_through_the_means_and_name_every_method(results, width):
    """By hand: the fixture's means; prompting ends at 8 labels."""
    figure = plot_learning_curves(results, width=width)
    looks = looks_of(results)

    assert curve_of(figure, looks["reptile"].color) == [0.80, 0.82, 0.87]
    assert any("plain LoRA" in text for text in texts_of(figure))
    assert not any("SetFit" in text for text in texts_of(figure))
    assert figure.get_figwidth() == width


def test_the_axis_of_labels_has_a_place_for_none_and_keeps_distances_of_factors(results):
    """By hand: log2(1 + n / 8) of 0, 8 and 50."""
    (axes,) = plot_learning_curves(results).axes

    np.testing.assert_allclose(axes.get_xticks(), [0, 1, np.log2(1 + 50 / 8)])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "8", "50"]


def test_bands_span_the_intervals(results):
    (axes,) = plot_learning_curves(results).axes
    color = matplotlib.colors.to_rgba(looks_of(results)["reptile"].color, alpha=0.2)
    (band,) = [one for one in axes.collections if color in map(tuple, one.get_facecolor())]

    heights = band.get_paths()[0].vertices[:, 1]

    assert (heights.min(), heights.max()) == (pytest.approx(0.78), pytest.approx(0.89))


def test_bars_are_as_long_as_the_means_of_the_draws(results):
    """By hand: 0.86 and 0.88 are 0.87 in the middle."""
    figure = plot_domains(results, labels=50, methods=["reptile", "zero"])

    assert len(figure.axes) == 2
    for axes in figure.axes:
        assert [bar.get_width() for bar in axes.patches] == [pytest.approx(0.87)]
        assert "not measured" in [text.get_text() for text in axes.texts]


def test_cost_is_logarithmic_with_a_place_for_no_time(results):
    """By hand: at 0 labels adapting takes no time, left of 1 second, at -1."""
    (axes,) = plot_cost(results, labels=50).axes
    places = [line.get_xdata()[0] for line in axes.lines]
    np.testing.assert_allclose(places, np.log10(5))

    (axes,) = plot_cost(results, labels=0).axes
    assert {float(line.get_xdata()[0]) for line in axes.lines} == {-1.0}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "10"]


def test_a_confusion_shows_shares_of_the_true_label_and_counts(results, predictions):
    """By hand: row 3, a good one, is called bad in 4 of 8 good rows."""
    found = count_confusions(rows_of(predictions, "reptile", 50), tasks=results["tasks"])

    figure = plot_confusion(found)

    assert texts_of(figure) == ["100%\n8", "0%\n0", "50%\n4", "50%\n4"]


def test_calibration_shows_probabilities_against_shares_that_are_right(results, predictions):
    """By hand: row 0 at 0.65 is always right, of rows 1 to 3 at 0.95 two in three."""
    bins = {"reptile": bin_probabilities(rows_of(predictions, "reptile", 50), bins=10)}

    (axes,) = plot_calibration(bins, results).axes

    np.testing.assert_allclose(axes.lines[1].get_xdata(), [0.65, 0.95])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [1, 2 / 3])


def test_a_picture_is_written_alike_twice(results, tmp_path):
    one = save_figure(plot_learning_curves(results), tmp_path / "one", "curves")
    two = save_figure(plot_learning_curves(results), tmp_path / "two", "curves")

    assert [path.name for path in one] == ["curves.png", "curves.svg"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert "<dc:date>" not in one[1].read_text(encoding="utf-8")


def test_drawing_leaves_settings_alone_and_does_not_follow_them(results):
    plain = to_svg(plot_learning_curves(results), salt="a")
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.fonttype": "none"}):
        before = dict(matplotlib.rcParams)
        styled = to_svg(plot_learning_curves(results), salt="a")
        assert dict(matplotlib.rcParams) == before

    assert styled == plain


def test_no_window_system_is_loaded():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import nlp_meta.report.plots, sys; print('matplotlib.pyplot' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "False"


def test_names_that_the_font_lacks_become_numbers_and_nothing_warns(results):
    """Warnings, such as of a missing glyph, are errors here; a dollar sign starts no formula."""
    names = ["kitchen", "مطبخ", "厨房", "a $b$ c", "books"]
    results["tasks"] = [dict(results["tasks"][0], name=name) for name in names]
    results["methods"]["lora"]["title"] = "厨房 $x$"
    results["methods"]["joint"]["title"] = "cost_$5 ^and$ _more_"

    assert drawable(names) == ["kitchen", "no. 2", "no. 3", "a $b$ c", "books"]
    to_svg(plot_domains(results, labels=50, methods=["reptile", "lora"]), salt="a")
    assert any("lora" in text for text in texts_of(plot_learning_curves(results)))
    to_svg(plot_learning_curves(results), salt="a")


def test_results_of_one_number_of_labels_and_no_interval_are_drawn(results):
    results["labels"] = [50]
    results["summary"] = [
        dict(one, low=None, high=None) for one in results["summary"] if one["labels"] == 50
    ]

    curves = to_svg(plot_learning_curves(results), salt="a")
    costs = to_svg(plot_cost(results, labels=50), salt="a")
    assert "<svg" in curves
    assert "<svg" in costs


def test_every_method_has_a_look_of_its_own_and_ours_is_always_the_same(results):
    many = {f"m{place}": {"title": "m"} for place in range(14)}
    looks = looks_of(results | {"methods": {**many, "reptile": {}}})

    assert looks["reptile"] == looks_of(results)["reptile"]
    assert len({(look.color, look.marker) for look in looks.values()}) == 15


def test_places_are_moved_apart_in_their_order_and_stay_within():
    """By hand: three at the upper end need two steps of room below it."""
    found = spread([1.0, 0.99, 0.2, 0.98], gap=0.1, low=0.0, high=1.0)

    assert found == [pytest.approx(1.0), pytest.approx(0.9), pytest.approx(0.2), pytest.approx(0.8)]
    crowded = sorted(spread([0.5] * 6, gap=0.3, low=0.0, high=1.0))
    assert [b - a for a, b in pairwise(crowded)] == [pytest.approx(0.2)] * 5
    assert spread([], gap=0.1, low=0.0, high=1.0) == []


def test_long_texts_are_cut_at_a_word():
    assert shorten("one two three", 20) == "one two three"
    assert shorten("one  two\nthree four", 12) == "one two…"
    assert shorten("a" * 20, 5) == "aaaa…"
