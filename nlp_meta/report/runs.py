"""What a training run does, on a page while it goes; and several runs side by side.

The page is a function of the runs' logs. Its curves are SVG that the page's own colors draw, light
or dark; nothing is fetched and no script is in it. While a run goes, the page loads itself anew.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from nlp_meta.errors import DataError
from nlp_meta.escapes import visible
from nlp_meta.files.outputs import RUN_LOG, write_file

PAGE = "runs.html"
"""Of several runs."""
PAGE_SECONDS = 30
"""After which the page of a run that goes is written, and loads itself, anew."""

_TEMPLATE = "runs.html.j2"
_LONGEST = 5_000
"""Signs of one value on a page; prompts are the longest."""
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BELOW, _ABOVE = 640, 230, 46, 18, 26, 10
_COLORS, _FEW = 6, 12
_WINDOW = 10
"""Outer steps whose mean loss is drawn: single episodes differ more than the training moves."""

Points = Sequence[tuple[float, float]]
Curve = tuple[str, int, bool, Points]
"""Its name, place of its color, whether it is dashed, and its points."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training run as its log tells it.

    Attributes:
        records: The log's lines, one an outer step.
        steps: Outer steps that it is to make; None where that is not known.
        facts: What else the page says of it, by name.
    """

    name: str
    records: Sequence[Mapping[str, Any]]
    steps: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def scores(self) -> Points:
        """Step and score on tasks of meta-validation, which trained nothing."""
        return [(r["step"], r["score"]) for r in self.records if r.get("score") is not None]

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None where it is over, or its length not known."""
        if not self.steps or not self.records or self.records[-1]["step"] >= self.steps:
            return None
        pace = sum(float(r["seconds"]) for r in self.records) / len(self.records)
        return pace * (self.steps - int(self.records[-1]["step"]))

    def describe(self) -> dict[str, str]:
        """How far it has come, in words, by name."""
        last = self.records[-1] if self.records else None
        if last is None:
            return {"outer steps": "none yet", **self.facts}
        of = f" of {self.steps}" if self.steps else ""
        facts = {"outer steps": f"{last['step']}{of}", "examples": f"{last['examples']:,}"}
        if last.get("best_score") is not None:
            facts["best score on unseen tasks"] = f"{last['best_score']:.3f}"
        facts["time"] = say_time(sum(float(r["seconds"]) for r in self.records))
        if self.seconds_left is not None:
            facts["time left"] = f"about {say_time(self.seconds_left)}"
        return facts | dict(self.facts)

    def losses(self) -> dict[str, dict[str, Points]]:
        """By skill, loss on queries of seen tasks before and after adaptation, in nats."""
        curves: dict[str, dict[str, Points]] = {}
        for skill in dict.fromkeys(s for r in self.records for s in r["skills"]):
            known = [(r["step"], r["skills"][skill]) for r in self.records if skill in r["skills"]]
            for name, when in (("loss_before", "before"), ("loss_after", "after")):
                points = [(step, its[name]) for step, its in known if its.get(name) is not None]
                if points:
                    curves.setdefault(skill, {})[when] = _smooth(points)
            if not any(r["adaptation_size"] for r in self.records):
                curves.get(skill, {}).pop("before", None)  # nothing was adapted
        return curves


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves of one kind, ready to be drawn.

    Attributes:
        lines: Curves, their points in the picture's own units.
        across, upright: Ticks: place in the picture and what is written there.
        alt: The picture in words.
    """

    title: str
    lines: Sequence[Curve]
    across: Sequence[tuple[float, str]]
    upright: Sequence[tuple[float, str]]
    alt: str


def read_run(folder: Path) -> Run:
    """Read the log of a run.

    Raises:
        DataError: There is none, or a line of it is none that a run writes.
    """
    log = folder / RUN_LOG
    if not log.is_file():
        raise DataError(
            f"cannot show the run '{folder}': no {RUN_LOG} is in it and that of a training run is "
            "needed; name the `run.output_dir` of one"
        )
    try:
        records = [json.loads(line) for line in log.read_bytes().splitlines()]
        ordered = all(r["skills"] is not None and float(r["seconds"]) >= 0 for r in records)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"cannot show the run '{folder}': a line of its {RUN_LOG} is not that of an outer step "
            f"and JSON with `step`, `skills` and `seconds` is needed ({error}); train anew"
        ) from error
    return Run(folder.name, records if ordered else [])


def find_runs(folder: Path) -> list[Run]:
    """Every run in a folder and in those right below it, by name.

    Raises:
        DataError: There is none.
    """
    places = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())]
    runs = [read_run(place) for place in places if (place / RUN_LOG).is_file()]
    if not runs:
        raise DataError(
            f"cannot show runs in '{folder}': no {RUN_LOG} is in it or right below it and that "
            "of at least one training run is needed; name the folder that holds them"
        )
    return runs


def write_runs(
    path: Path, runs: Sequence[Run], *, live: bool = False, replace: bool = False
) -> None:
    """Write the page of one run, or of several side by side.

    Args:
        live: A run still goes: the page loads itself anew every half minute.
        replace: Replace what is in its place, whatever it is.

    Raises:
        OutputError: What is in its place is no such page, or was changed since.
    """
    losses = [run.losses() for run in runs]
    scores = [(run.name, place, False, run.scores) for place, run in enumerate(runs)]
    charts = [_chart("Score on unseen tasks", scores)]
    for skill in dict.fromkeys(skill for by_skill in losses for skill in by_skill):
        names = [f"{run.name}, " if len(runs) > 1 else "" for run in runs]
        curves = [
            (f"{names[place]}{when} adaptation", place, when == "before", points)
            for place, by_skill in enumerate(losses)
            for when, points in by_skill.get(skill, {}).items()
        ]
        charts.append(_chart(f"Loss on seen tasks, {skill}", curves))
    values = {
        "title": runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
        "runs": [(run, run.describe()) for run in runs],
        "charts": [chart for chart in charts if chart.lines],
        "live": PAGE_SECONDS if live else None,
        "window": _WINDOW,
        "size": (_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BELOW),
        "few": _FEW,
    }
    page = load_template(_TEMPLATE).render(values)
    write_file(path, page.encode(errors="replace"), replace=replace, argument="output")


def say_time(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _smooth(points: Points) -> Points:
    """The mean of each point and those shortly before it."""
    parts = [points[max(0, at - _WINDOW + 1) : at + 1] for at in range(len(points))]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def _chart(title: str, curves: Sequence[Curve]) -> Chart:
    """Place curves in a picture that their values fill, from step 0 on."""
    kept = [
        (name, color, dashed, [point for point in points if math.isfinite(point[1])])
        for name, color, dashed, points in curves
    ]
    everything = [point for *_, points in kept for point in points]
    if not everything:
        return Chart(title, (), (), (), "")
    right = max(x for x, _ in everything)
    ticks = list(_ticks(min(y for _, y in everything), max(y for _, y in everything)))
    low, high = ticks[0], ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _BELOW - _ABOVE
        across, down = wide * x / max(right, 1), tall * (high - y) / (high - low)
        return round(_LEFT + across, 1), round(_ABOVE + down, 1)

    lines = [
        (name, color % _COLORS, dashed, [place(x, y) for x, y in points])
        for name, color, dashed, points in kept
        if points
    ]
    ends = [f"{name} {p[-1][1]:.3f} at step {p[-1][0]}" for name, _, _, p in kept if p]
    across = [(place(x, low)[0], f"{x:g}") for x in _ticks(0, right) if x <= right]
    upright = [(place(0, y)[1], f"{y:.10g}") for y in ticks]
    return Chart(title, lines, across, upright, f"{title} by outer step: {'; '.join(ends)}.")


def _ticks(low: float, high: float) -> Iterator[float]:
    """Three to six round numbers around an interval."""
    span = max(high - low, 1e-3)
    unit = 10 ** math.floor(math.log10(span))
    step = next(unit * part for part in (0.2, 0.5, 1, 2) if span / (unit * part) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    for at in range(first, max(last, first + 1) + 1):
        yield round(at * step, 10)


@cache
def load_template(name: str, **filters: Callable[[str], str]) -> Template:
    """Load a template of this folder, which escapes every value and shows what is not seen."""
    source = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True,
        finalize=show_signs,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.from_string(source)


def show_signs(value: object) -> object:
    """Let no value turn the page around or fill it; what the template wrote stays as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    shown = visible(value, keep="\n\t")
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
