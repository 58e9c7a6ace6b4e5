"""Learning curves: known curves, scipy's least squares, hand arithmetic, noise."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from nlp_meta.data.answers import Prediction
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation.judged import Judged
from nlp_meta.evaluation.learning_curve import (
    ScoresBySize,
    fit_curves,
    gain_of,
    gain_of_doubling,
    scores_of_answers,
)
from nlp_meta.evaluation.statistics import Interval

SIZES = (8, 16, 32, 64)
RESAMPLES = {"resamples": 200, "seed": 0}


def power_law(sizes, ceiling, scale, rate):
    return ceiling - scale * np.asarray(sizes, dtype=float) ** -rate


def fit(sizes, scores):
    """Ceiling, scale and rate."""
    return fit_curves(sizes, np.array([scores], dtype=float))[0]


def resampled(*scores, times=100):
    """Scores at `SIZES` of which each is drawn as often."""
    curves = np.repeat(np.array(scores, dtype=float), times, axis=0)
    return ScoresBySize(SIZES, np.mean(scores, axis=0), curves)


def judged_of(right, sizes=SIZES):
    """Held-out answers, right where `(sizes, repeats, rows)` is true."""
    answers = {True: Prediction("good", {"good": 1.0}), False: Prediction("bad", {"bad": 1.0})}
    rows = tuple(f"{row:03}" for row in range(right.shape[2]))
    return {
        size: [
            Judged(
                task="own",
                draw=repeat,
                labels=("bad", "good"),
                rows=rows,
                true=("good",) * len(rows),
                predictions=tuple(answers[bool(one)] for one in right[number, repeat]),
            )
            for repeat in range(right.shape[1])
        ]
        for number, size in enumerate(sizes)
    }


@pytest.mark.parametrize("truth", [(0.9, 0.8, 0.5), (1.0, 1.2, 0.3), (0.8, 5.0, 1.5)])
def test_a_curve_without_noise_is_found_again(truth):
    found = fit(SIZES, power_law(SIZES, *truth))

    assert tuple(found) == pytest.approx(truth, rel=0.02)
    assert power_law(128, *found) == pytest.approx(power_law(128, *truth), abs=1e-4)


def test_the_fit_is_as_close_as_that_of_scipy():
    for seed in range(5):
        noise = np.random.default_rng(seed).normal(0, 0.01, len(SIZES))
        scores = power_law(SIZES, 0.85, 1.0, 0.6) + noise
        bounds = ([0, 0, 0.01], [1, np.inf, 4])
        expected, _ = curve_fit(power_law, SIZES, scores, p0=(0.9, 1, 0.5), bounds=bounds)

        ours = power_law(SIZES, *fit(SIZES, scores))
        error, least = (((one - scores) ** 2).sum() for one in (ours, power_law(SIZES, *expected)))
        assert error <= least + 1e-7


@pytest.mark.parametrize("scores", [(0.7, 0.7, 0.7), (0.8, 0.7, 0.6), (0.6, 0.9, 0.3)])
def test_scores_that_do_not_rise_give_a_flat_line_at_their_mean(scores):
    found = fit((8, 16, 32), scores)

    assert power_law((8, 1000), *found) == pytest.approx([np.mean(scores)] * 2)


def test_no_curve_falls_or_passes_one_whatever_the_scores():
    generator = np.random.default_rng(0)
    for _ in range(100):
        sizes = np.sort(
            generator.choice(np.arange(1, 500), size=generator.integers(3, 7), replace=False)
        )
        scores = generator.choice(
            [generator.random(len(sizes)), generator.integers(2, size=len(sizes))]
        )

        ceiling, scale, rate = found = fit(sizes, scores)

        assert ceiling <= 1 and scale >= 0 and rate > 0
        first, last = power_law((1, 10_000), *found)
        assert np.isfinite(first) and first <= last <= 1


def test_doubling_gains_what_the_curve_rises():
    """By hand: 0.8 * (1/8 - 1/sqrt(128)) from 64 labels on; resamples that agree leave no doubt."""
    found = gain_of_doubling(resampled(power_law(SIZES, 0.9, 0.8, 0.5)), 64, level=0.95)

    expected = 0.8 * (1 / 8 - 1 / np.sqrt(128))
    assert (found.mean, found.low, found.high) == pytest.approx((expected,) * 3, abs=1e-4)


def test_a_few_labels_more_gain_what_the_curve_rises_so_far():
    """By hand: 0.8 * (1/8 - 1/10) from 64 labels to 100."""
    curve = resampled(power_law(SIZES, 0.9, 0.8, 0.5))

    found = gain_of(curve, 64, more=36, level=0.95)

    assert found.mean == pytest.approx(0.02, abs=1e-4)


def test_flat_scores_gain_nothing():
    gain = gain_of_doubling(resampled([0.6] * len(SIZES)), 64, level=0.9)

    assert (gain.mean, gain.low, gain.high) == pytest.approx((0, 0, 0))


def test_resamples_of_two_curves_give_an_interval_between_their_gains():
    """By hand: scales 0.4 and 0.8 at one rate, of which the mean has 0.6."""
    curves = power_law(SIZES, 0.9, 0.4, 0.5), power_law(SIZES, 0.9, 0.8, 0.5)

    found = gain_of_doubling(resampled(*curves), 64, level=0.95)

    rise = 1 / 8 - 1 / np.sqrt(128)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (0.6 * rise, 0.4 * rise, 0.8 * rise), abs=1e-3
    )


def test_rows_add_to_the_doubt_that_repeats_leave():
    """Repeats that answer nearly alike say little of other rows; 40 rows are few.

    Another route: repeats alone, of which one fewer than there are is drawn each time.
    """
    generator = np.random.default_rng(0)
    chance = power_law(SIZES, 0.9, 0.8, 0.5)[:, None, None]
    right = (generator.random((1, 1, 40)) + generator.normal(0, 0.02, (4, 5, 40))) < chance
    scores = right.mean(2)

    of_rows = scores_of_answers(judged_of(right), "accuracy", **RESAMPLES)
    of_repeats = scores[:, generator.integers(5, size=(200, 4))].mean(2).T

    np.testing.assert_allclose(of_rows.scores, scores.mean(1))
    assert (of_rows.resampled.std(0) > 3 * of_repeats.std(0)).all()


def test_the_same_seed_gives_the_same_interval():
    right = np.random.default_rng(0).random((4, 6, 20)) < 0.6

    first, again, other = (
        gain_of_doubling(
            scores_of_answers(judged_of(right), "accuracy", resamples=50, seed=seed),
            64,
            level=0.9,
        )
        for seed in (0, 0, 1)
    )

    assert isinstance(first, Interval)
    assert first == again != other


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((8, 16), r"scores at \[8, 16\] labels: at least 3"), ((0, 8, 16), "none below 1")],
)
def test_sizes_that_show_no_curve_are_refused(sizes, message):
    right = np.ones((len(sizes), 2, 5))
    with pytest.raises(DataError, match=message):
        scores_of_answers(judged_of(right, sizes), "accuracy", **RESAMPLES)


def test_a_metric_that_should_fall_is_refused():
    with pytest.raises(SettingsError, match="a metric that rises"):
        scores_of_answers(judged_of(np.ones((4, 2, 5))), "ece", **RESAMPLES)
