"""Throughput against the sizes of an episode and its adapter: exponents and a picture."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from measures.episodes import Case, pose
from measures.loops import OURS, PLAIN, time_ours, time_rival
from measures.rivals import build_rival, plain_loop
from measures.rounds import Rates, Row, growth, make_row, take_turns
from nlp_meta.files.outputs import write_file

SIZES: Mapping[str, Sequence[int]] = {
    "examples": (4, 8, 16, 32),
    "tasks": (1, 2, 4, 8, 16),
    "steps": (1, 2, 4, 8),
    "layers": (1, 2, 4, 6),
    "tokens": (32, 64, 128, 256),
    "rank": (2, 4, 8, 16, 32),
}
NAMES = {
    "examples": "examples per episode",
    "tasks": "tasks per meta-batch",
    "steps": "inner steps",
    "layers": "adapted layers of 6",
    "tokens": "tokens of the longest text",
    "rank": "rank",
}
LINEAR = ("tasks", "examples", "steps")

Curve = dict[int, Rates]


def change(case: Case, variable: str, size: int) -> Case:
    """The case with another size; texts are of a quarter of the tokens to all of them."""
    values: dict[str, Any] = {variable: (size // 4, size) if variable == "tokens" else size}
    return replace(case, **values)


def measure_curve(
    small: str, variable: str, *, rounds: int, device: str | None, rivals: bool
) -> Curve:
    """Examples a second of ours, and of a plain loop in the same precision, at each size."""
    base = Case(model=small, layers=2, tasks=4, examples=8, tokens=(16, 64), steps=2)
    curve: Curve = {}
    for size in SIZES[variable]:
        problem = pose(change(base, variable, size), device=device)
        ways = {OURS: time_ours(problem)}
        if rivals:
            # A plain loop goes task by task: one of them tells its rate.
            rival = build_rival(problem.first(1), autocast=problem.objective.network.dtype)
            ways[PLAIN] = time_rival(plain_loop, rival)
        curve[size] = take_turns(ways, rounds=rounds)
    return curve


def measure_growth(small: str, *, rounds: int, device: str | None) -> tuple[list[Row], Rates]:
    """Exponents of the time of an outer step in what it should be linear in."""
    rows, rates = list[Row](), Rates()
    base = Case(model=small, layers=2, tasks=4, examples=8, steps=2)
    for variable in LINEAR:
        curve = measure_curve(small, variable, rounds=rounds, device=device, rivals=False)
        # The query set is one pass more than the inner steps.
        work = [size + (variable == "steps") for size in curve]
        passes = [change(base, variable, size).passes for size in curve]
        fitted = [
            growth(work, [p / rate for p, rate in zip(passes, at, strict=True)])
            for at in zip(*(point[OURS] for point in curve.values()), strict=True)
        ]
        name = f"time grows with {NAMES[variable]} to the power"
        rows.append(make_row(name, fitted, at_most=1.05, unit="exponent"))
        rates |= {f"{NAMES[variable]} {size}": point[OURS] for size, point in curve.items()}
    return rows, rates


def draw_curves(curves: Mapping[str, Curve], path: Path) -> None:
    """One panel a variable, examples a second; ours and the plain loop, medians with their span."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(2, 3, sharey=True).flatten()
    for panel, (variable, curve) in zip(panels, curves.items(), strict=True):
        for name, color in ((OURS, "tab:blue"), (PLAIN, "tab:gray")):
            values = [sorted(point[name]) for point in curve.values()]
            middle = [at[len(at) // 2] for at in values]
            panel.plot(list(curve), middle, marker="o", color=color, label=name)
            low, high = ([at[place] for at in values] for place in (0, -1))
            panel.fill_between(list(curve), low, high, color=color, alpha=0.2)
        panel.set_xlabel(NAMES[variable])
        panel.set_xscale("log", base=2)
        panel.set_xticks(list(curve), [str(size) for size in curve])
    panels[0].set_yscale("log")  # of all: they share it
    panels[0].set_ylabel("examples a second")
    panels[3].set_ylabel("examples a second")
    panels[0].legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:] or "png")
    write_file(path, picture.getvalue())
