"""The pictures of the page: which ones, what they say in words, drawn twice and embedded."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from nlp_meta.report.palette import NARROW, WIDE, drawable, save_figure, to_svg
from nlp_meta.report.plots import (
    plot_calibration,
    plot_confusion,
    plot_cost,
    plot_domains,
    plot_learning_curves,
)
from nlp_meta.report.scores import (
    Results,
    cost_of,
    join_names,
    measure_of,
    rank_methods,
    say_number,
    say_quantity,
    score_of,
    scored_methods,
    skill_of,
    title_of,
    words_of,
)
from nlp_meta.report.texts import Rows, bin_probabilities, count_confusions
from nlp_meta.report.verdict import Verdict

FIGURES = "figures"

_BINS = 10
_BARS, _PANELS, _MATRICES = 4, 24, 4  # more of each would be no picture
_PIXELS = 98  # for an inch: the text of a picture is then about as large as the page's


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the page.

    Attributes:
        wide: For a desk and for paper, as a data address.
        narrow: For a phone.
        pixels: How wide `wide` is meant to be seen.
    """

    alt: str
    caption: str
    wide: Markup
    narrow: Markup
    pixels: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture before it is drawn; `draw` takes a width in inches."""

    draw: Callable[[float], Figure]
    alt: str
    caption: str


def save_pictures(
    folder: Path, drawings: Mapping[str, Drawing]
) -> tuple[dict[str, Picture], list[Path]]:
    """Draw all, write the wide ones as PNG and SVG, and give both as parts of a page."""
    pictures: dict[str, Picture] = {}
    paths: list[Path] = []
    for name, drawing in drawings.items():
        wide, narrow = drawing.draw(WIDE), drawing.draw(NARROW)
        png, svg = save_figure(wide, folder / FIGURES, name)
        paths += [png, svg]
        pictures[name] = Picture(
            alt=drawing.alt,
            caption=drawing.caption,
            wide=_address(svg.read_text(encoding="utf-8")),
            narrow=_address(to_svg(narrow, salt=f"{name}-narrow")),
            pixels=round(wide.get_figwidth() * _PIXELS),
        )
    return pictures, paths


def plan_drawings(
    results: Results, verdict: Verdict, ours: Rows, rival: Rows
) -> dict[str, Drawing]:
    """Choose the pictures that these results allow.

    Args:
        ours: Rows of our method at the verdict's number of labels; without any there is
            no confusion matrix.
        rival: Those of the best rival.
    """
    names = rank_methods(results, verdict.labels)
    here = scored_methods(results, verdict.labels)
    drawings = {}
    if any(score_of(results, name, n) for name in names for n in results["labels"]):
        drawings["learning_curves"] = _curves(results, verdict)
    if here and results.get("cells"):
        drawings["domains"] = _domains(results, verdict, here)
        drawings["cost"] = _cost(results, verdict, here)
    if ours and skill_of(results) == "classification":
        drawings["confusion"] = _confusion(results, verdict, ours)
        drawings["calibration"] = _calibration(results, verdict, ours, rival)
    return drawings


def _curves(results: Results, verdict: Verdict) -> Drawing:
    measure, given = measure_of(results), words_of(results).given
    ends = [
        f"{title_of(results, name)} {say_number(score.mean, measure.places - 1)}"
        for name in rank_methods(results, verdict.labels)
        if (score := score_of(results, name, verdict.labels))
    ]
    alt = f"{measure.name} against the number of {given}s. At {verdict.labels}: {join_names(ends)}."
    caption = (
        f"Mean {measure.name} over tasks and support draws; shaded, its 95% interval. The "
        f"upright axis need not begin at 0. A curve ends where a method takes no more {given}s."
    )
    return Drawing(lambda width: plot_learning_curves(results, width=width), alt, caption)


def _domains(results: Results, verdict: Verdict, here: list[str]) -> Drawing:
    first = [name for name in (results["ours"], verdict.rival) if name in here]
    most = _BARS if len(results["tasks"]) <= 12 else 2
    chosen = [*first, *(name for name in here if name not in first)][:most]
    shown = {**results, "tasks": results["tasks"][:_PANELS]}
    names = [title_of(results, name) for name in chosen if name]
    measure, words = measure_of(results), words_of(results)
    tasks = [task["name"] for task in shown["tasks"]]
    renamed = [
        f"{new} is {old}" for new, old in zip(drawable(tasks), tasks, strict=True) if new != old
    ]
    caption = (
        f"{measure.title} at {words.count(verdict.labels)}. A thin line goes from the lowest to "
        "the highest support draw."
    )
    caption += f" Names: {', '.join(renamed)}." if renamed else ""
    if len(results["tasks"]) > _PANELS:
        caption += f" The first {_PANELS} of {len(results['tasks'])}; the table has all."
    return Drawing(
        lambda width: plot_domains(shown, labels=verdict.labels, methods=chosen, width=width),
        f"Bars of {measure.name} by {words.task} for {join_names(names)}; the table below has the "
        "numbers.",
        caption,
    )


def _cost(results: Results, verdict: Verdict, here: list[str]) -> Drawing:
    metric, labels, words = measure_of(results).name, verdict.labels, words_of(results)
    costs = [
        f"{title_of(results, name)} {say_quantity(cost_of(results, name, labels, 'seconds_adapt'))}"
        for name in here
    ]
    return Drawing(
        lambda width: plot_cost(results, labels=labels, width=width),
        f"{metric} at {words.count(labels)} against seconds to adapt: {join_names(costs)}.",
        "Up is better, left is cheaper; lines are 95% intervals. What was spent on a start "
        "before it met the new task is in the table, not here.",
    )


def _confusion(results: Results, verdict: Verdict, ours: Rows) -> Drawing:
    matrices = count_confusions(ours, tasks=results["tasks"])[:_MATRICES]
    shares = [
        f"{int(matrix.counts.trace()):,} of {int(matrix.counts.sum()):,} answers right"
        for matrix in matrices
    ]
    keys = [
        f"{new} is {old}"
        for matrix in matrices
        for new, old in zip(drawable(matrix.labels), matrix.labels, strict=True)
        if new != old
    ]
    caption = (
        f"Answers of {title_of(results, results['ours'])} at "
        f"{words_of(results).count(verdict.labels)}, over all support draws; shares are of the "
        "true label."
    )
    caption += f" Labels: {', '.join(keys)}." if keys else ""
    if len(matrices) > 1:
        caption += " A matrix for each set of labels: " + "; ".join(
            join_names(matrix.tasks) for matrix in matrices
        )
    return Drawing(
        lambda width: plot_confusion(matrices, width=width),
        f"Confusion matrix of ours: {'; '.join(shares)}.",
        caption,
    )


def _calibration(results: Results, verdict: Verdict, ours: Rows, rival: Rows) -> Drawing:
    bins = {results["ours"]: bin_probabilities(ours, bins=_BINS)}
    if rival and verdict.rival:
        bins[verdict.rival] = bin_probabilities(rival, bins=_BINS)
    errors = [
        f"{title_of(results, name)} {say_number(score.mean, 3)}"
        for name in bins
        if (score := score_of(results, name, verdict.labels, "ece"))
    ]
    summary = f" Calibration error: {join_names(errors)}." if errors else ""
    return Drawing(
        lambda width: plot_calibration(bins, results, width=width),
        f"Share of right answers against the probability given to them.{summary}",
        "On the dotted line a method is right as often as it says; below, it is too sure of "
        f"itself. Larger marks stand for more answers.{summary}",
    )


def _address(svg: str) -> Markup:
    # Nothing of base64 has to be escaped.
    return Markup("data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode())  # noqa: S704
