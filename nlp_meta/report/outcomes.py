"""Outcomes: what the answers to single texts tell, beyond their scores.

A row is the dict of one row of the predictions table: method, task, labels, draw, row
(the key of a text), text, true, predicted and, of labels, probability (of the predicted one).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Rows = Sequence[Mapping[str, Any]]
Shown = TypeVar("Shown")


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each true label was answered by each label.

    Attributes:
        counts: `(true, predicted)`, over all draws.
        tasks: That share these labels.
    """

    labels: tuple[str, ...]
    counts: NDArray[np.int64]
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same probability: their mean, and the share that is right."""

    probability: float
    right: float
    rows: int


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A text that one method gets right and the other wrong, in some of the draws.

    Attributes:
        draws: In so many of the `judged` draws that both answered.
        right: The answer of the method that is right, `wrong` that of the other, with the
            mean probability that each gave it.
    """

    task: str
    text: str
    true: str
    right: tuple[str, float]
    wrong: tuple[str, float]
    draws: int
    judged: int


def rows_of(predictions: pa.Table | None, method: str | None, labels: int) -> Rows:
    """Take a method's rows at one number of labels, in an order that is always the same."""
    if predictions is None or method is None:
        return []
    chosen = pc.and_(
        pc.equal(pc.cast(predictions["method"], pa.string()), method),
        pc.equal(predictions["labels"], labels),
    )
    found: list[Mapping[str, Any]] = predictions.filter(chosen).to_pylist()
    return sorted(found, key=lambda row: (row["task"], row["draw"], row["row"]))


def count_confusions(rows: Rows, *, tasks: Sequence[Mapping[str, Any]]) -> list[Confusion]:
    """Count a matrix for every set of labels; tasks with the same labels share one."""
    labels_of = {task["name"]: tuple(task["labels"]) for task in tasks}
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if {row["true"], row["predicted"]} <= set(labels_of.get(row["task"], ())):
            groups.setdefault(labels_of[row["task"]], []).append(row)
    confusions = []
    for labels, members in groups.items():
        counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
        for row in members:
            counts[labels.index(row["true"]), labels.index(row["predicted"])] += 1
        names = tuple(dict.fromkeys(row["task"] for row in members))
        confusions.append(Confusion(labels, counts, names))
    return confusions


def one_label_tasks(rows: Rows) -> dict[str, str]:
    """Name the tasks whose test set has a single label, and that label."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["task"], set()).add(row["true"])
    return {task: next(iter(labels)) for task, labels in found.items() if len(labels) == 1}


def bin_probabilities(rows: Rows, *, bins: int) -> list[Bin]:
    """Group answers by the probability of the predicted label, in bins of equal width."""
    if not rows:
        return []
    probability = np.array([row["probability"] for row in rows], dtype=np.float64)
    right = np.array([row["true"] == row["predicted"] for row in rows], dtype=np.float64)
    place = np.clip(np.ceil(probability * bins).astype(np.int64) - 1, 0, bins - 1)
    return [
        Bin(float(probability[held].mean()), float(right[held].mean()), int(held.sum()))
        for held in (place == number for number in range(bins))
        if held.any()
    ]


def find_disagreements(right: Rows, wrong: Rows, *, most: int) -> list[Disagreement]:
    """Find texts that the first method gets right and the second wrong.

    Those of the most draws come first, then those the wrong method was surest of; tasks
    take turns, so that no domain fills the list.

    Args:
        most: Texts to give.
    """
    other = {(row["task"], row["draw"], row["row"]): row for row in wrong}
    pairs: dict[tuple[str, str], list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for row in right:
        twin = other.get((row["task"], row["draw"], row["row"]))
        if twin is not None:
            pairs.setdefault((row["task"], row["row"]), []).append((row, twin))
    by_task: dict[str, list[Disagreement]] = {}
    for (task, _), judged in pairs.items():
        apart = [
            (one, two) for one, two in judged if one["predicted"] == one["true"] != two["predicted"]
        ]
        if apart:
            by_task.setdefault(task, []).append(_disagreement(apart, len(judged)))
    for found in by_task.values():
        found.sort(key=lambda one: (-one.draws, -one.wrong[1], one.text))
    return list(take_turns(by_task.values()))[:most]


def _disagreement(
    apart: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], judged: int
) -> Disagreement:
    first = apart[0][0]
    return Disagreement(
        task=first["task"],
        text=first["text"],
        true=first["true"],
        right=_usual_answer([one for one, _ in apart]),
        wrong=_usual_answer([two for _, two in apart]),
        draws=len(apart),
        judged=judged,
    )


def _usual_answer(rows: Rows) -> tuple[str, float]:
    label = Counter(row["predicted"] for row in rows).most_common(1)[0][0]
    chances = [float(row["probability"]) for row in rows if row["predicted"] == label]
    return label, sum(chances) / len(chances)


def take_turns(groups: Iterable[Sequence[Shown]]) -> Iterable[Shown]:
    """Give the first of each list, then the second of each."""
    lists = list(groups)
    for place in range(max(map(len, lists), default=0)):
        yield from (one[place] for one in lists if place < len(one))
