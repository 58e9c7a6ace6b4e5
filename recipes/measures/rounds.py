"""Rounds: ways of doing the same thing in turns, and rows that say how they compare."""

import json
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nlp_meta.errors import OutputError
from nlp_meta.files.outputs import write_file
from nlp_meta.training.run import describe_hardware

Way = Callable[[], float]
"""Does some work and says at what rate: examples, texts or runs a second."""

Rates = dict[str, list[float]]
"""Work a second of each way, one number a round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number of the benchmark, over all rounds.

    Attributes:
        ratio: Median over the rounds; `low` and `high` are the least and the largest.
        target: None where none was set.
        unit: What `ratio` counts.
    """

    name: str
    ratio: float
    low: float
    high: float
    target: float | None
    met: bool | None
    unit: str


def make_row(
    name: str,
    values: Sequence[float],
    *,
    unit: str,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    """Sum up the rounds of one number, and hold the median against its target."""
    middle = median(values)
    target = at_most if at_least is None else at_least
    met = None if target is None else middle >= target if at_most is None else middle <= target
    return Row(
        name=name,
        ratio=middle,
        low=min(values),
        high=max(values),
        target=target,
        met=met,
        unit=unit,
    )


def timed(work: float, run: Callable[[], object]) -> Way:
    """The rate of something that does so much work."""

    def rate() -> float:
        began = time.perf_counter()
        run()
        return work / (time.perf_counter() - began)

    return rate


def take_turns(ways: Mapping[str, Way], *, rounds: int) -> Rates:
    """Measure each way once a round, one after another; a round before the first warms up."""
    turns = [{name: way() for name, way in ways.items()} for _ in range(rounds + 1)]
    return {name: [turn[name] for turn in turns[1:]] for name in ways}


def ratios(rates: Rates, name: str, other: str) -> list[float]:
    """How many times as fast one way is as another, round by round."""
    return [a / b for a, b in zip(rates[name], rates[other], strict=True)]


def growth(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fit the exponent of a cost that grows as a power of a size: 1 is linear, 0 is flat."""
    x = [math.log(size) for size in sizes]
    y = [math.log(cost) for cost in costs]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return above / sum((a - x_mean) ** 2 for a in x)


def print_rows(rows: Sequence[Row], rates: Rates) -> None:
    """Print medians of rates, and each row with its spread and its target."""
    for name, values in rates.items():
        print(f"{median(values):9.1f} a second  {name}")
    for row in rows:
        met = "" if row.target is None else f"; {row.target}: {'met' if row.met else 'missed'}"
        spread = f"{row.low:.2f} to {row.high:.2f}{met}"
        print(f"{row.ratio:9.2f} {row.unit} ({spread})  {row.name}", flush=True)


def read_results(path: Path) -> dict[str, Any]:
    """Results that rows of this machine may be added to; empty ones where there is no file.

    Raises:
        OutputError: The file holds something else, or rows of another machine.
    """
    machine = {
        "hardware": describe_hardware(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if not path.exists():
        return {**machine, "rates": {}, "rows": []}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        kept = None
    if not isinstance(kept, dict) or {name: kept.get(name) for name in machine} != machine:
        raise OutputError(
            f"cannot add rows to '{path}': it holds no results of this benchmark on this machine "
            "and a file of such results, or none, is needed; name another one"
        )
    return kept


def keep_rows(path: Path, rows: Sequence[Row], rates: Rates) -> None:
    """Write rows into a file of results, over those of the same names; see `read_results`."""
    results = read_results(path)
    new = {row.name: asdict(row) for row in rows}
    others = [row for row in results["rows"] if row["name"] not in new]
    results["rates"] |= {name: median(values) for name, values in rates.items()}
    results["rows"] = [*others, *new.values()]
    write_file(path, json.dumps(results, indent=1) + "\n", replace=True)
