"""Texts: what the answers to single ones tell, beyond their scores.

A row is the dict of one row of the predictions table: method, task, labels, draw, row (the key
of a text), text, true, predicted; of labels `probability`, that of the predicted one; of written
translations `chrf`, its own score; of rankings `rank`, that of the right sentence.
"""

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from statistics import fmean
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nlp_meta.escapes import visible
from nlp_meta.evaluation.metrics import BINS

AnswerRow = Mapping[str, Any]
Rows = Sequence[AnswerRow]
Mark = Literal["same", "ins", "del"]
Shown = TypeVar("Shown")

_TEXT = 260  # signs of a text that the page shows
_LEAST_EQUAL = 2  # fewer signs alike between two changes are shown as changed
_LEAST_RATIO = 0.4  # share of signs alike below which single marks would be no help


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
class Part:
    """A piece of a marked text: in both, only in the answer, or only in the reference."""

    mark: Mark
    text: str


@dataclass(frozen=True, slots=True)
class Translated:
    """One method's translation of a text.

    Attributes:
        parts: Against the reference; all `same` where the answer is the reference.
        note: How good it is, in words.
    """

    parts: tuple[Part, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Contrast(Generic[Shown]):
    """A text that one method answers better than the other.

    Attributes:
        better: The answer of the method that is ahead: a label with its mean probability, or a
            translation. `worse` is that of the other.
        draws: In so many of the `judged` draws that both answered.
    """

    task: str
    text: str
    true: str
    better: Shown
    worse: Shown
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
    rows: list[AnswerRow] = predictions.filter(chosen).to_pylist()
    return sorted(rows, key=lambda row: (row["task"], row["draw"], row["row"]))


def count_confusions(rows: Rows, *, tasks: Sequence[Mapping[str, Any]]) -> list[Confusion]:
    """Count a matrix for every set of labels; tasks with the same labels share one."""
    labels_of = {task["name"]: tuple(task["labels"]) for task in tasks}
    groups: dict[tuple[str, ...], list[AnswerRow]] = {}
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
    labels_of: dict[str, set[str]] = {}
    for row in rows:
        labels_of.setdefault(row["task"], set()).add(row["true"])
    return {task: next(iter(labels)) for task, labels in labels_of.items() if len(labels) == 1}


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


def chance_gap(rows: Rows) -> float:
    """The calibration error of answers that are right as often as they say, mean over cells.

    With so few answers it is not 0: of n with mean probability p, the share that is right is off by
    sqrt(2 p (1 - p) / (pi n)) on average.
    """
    cells: dict[tuple[str, int], list[AnswerRow]] = {}
    for row in rows:
        cells.setdefault((row["task"], row["draw"]), []).append(row)
    bins = [each for cell in cells.values() for each in bin_probabilities(cell, bins=BINS)]
    spreads = [each.rows * each.probability * (1 - each.probability) for each in bins]
    return math.fsum((2 * spread / math.pi) ** 0.5 for spread in spreads) / max(len(rows), 1)


def find_disagreements(
    better: Rows, worse: Rows, *, most: int
) -> list[Contrast[tuple[str, float]]]:
    """Find texts that the first method gets right and the second wrong, tasks in turn.

    Those of the most draws come first, then those the wrong method was surest of.

    Args:
        most: Texts to give.
    """
    ranked = []
    for judged in _pair_up(better, worse):
        apart = [
            (row, twin)
            for row, twin in judged
            if row["predicted"] == row["true"] != twin["predicted"]
        ]
        if apart:
            first = apart[0][0]
            contrast = Contrast(
                task=first["task"],
                text=first["text"],
                true=first["true"],
                better=_usual_answer([row for row, _ in apart]),
                worse=_usual_answer([twin for _, twin in apart]),
                draws=len(apart),
                judged=len(judged),
            )
            ranked.append(((-contrast.draws, -contrast.worse[1], contrast.text), contrast))
    return _take_turns(ranked, most)


def find_examples(
    better: Rows, worse: Rows, *, skill: str, most: int
) -> list[Contrast[Translated]]:
    """Find texts on which the first method is furthest ahead of the second, tasks in turn.

    Shown is the draw in which they are furthest apart.

    Args:
        skill: `generation` or `retrieval`.
        most: Texts to give.
    """
    score, ranked = _SCORES[skill], []
    for judged in _pair_up(better, worse):
        gaps = [score(row) - score(twin) for row, twin in judged]
        if fmean(gaps) <= 0:
            continue
        row, twin = judged[max(range(len(gaps)), key=gaps.__getitem__)]
        contrast = Contrast(
            task=row["task"],
            text=shorten_text(row["text"]),
            true=shorten_text(row["true"]),
            better=_translated(row, skill),
            worse=_translated(twin, skill),
            draws=sum(gap > 0 for gap in gaps),
            judged=len(judged),
        )
        ranked.append(((-fmean(gaps), contrast.text), contrast))
    return _take_turns(ranked, most)


def mark_differences(answer: str, reference: str) -> tuple[Part, ...]:
    """Mark what an answer has and the reference lacks, and the other way round.

    Signs are compared with the marks that belong to them, so that none is torn apart. An
    answer that has little in common with the reference is marked as a whole.
    """
    ours, theirs = _clusters(answer), _clusters(reference)
    matcher = SequenceMatcher(None, theirs, ours, autojunk=False)
    if matcher.ratio() < _LEAST_RATIO:
        return (Part("ins", answer),)
    codes = matcher.get_opcodes()
    parts: list[Part] = []
    lost, new = "", ""
    for place, (code, i, j, k, m) in enumerate(codes):
        inside = 0 < place < len(codes) - 1
        if code == "equal" and not (inside and j - i < _LEAST_EQUAL):
            parts += _changes(lost, new)
            lost, new = "", ""
            parts.append(Part("same", "".join(theirs[i:j])))
        else:
            lost, new = lost + "".join(theirs[i:j]), new + "".join(ours[k:m])
    return (*parts, *_changes(lost, new))


def shorten(text: str, most: int) -> str:
    """Cut a text at a word's end where it is longer than so many signs."""
    whole = visible(" ".join(text.split()))
    if len(whole) <= most:
        return whole
    cut = whole[: most - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[most // 2 :] else cut).rstrip(" ,;") + "…"


def shorten_text(text: object) -> str:
    """Cut a text to what the page shows; signs that cannot be seen are written out."""
    return shorten(str(text), _TEXT)


def _pair_up(rows: Rows, others: Rows) -> Iterable[list[tuple[AnswerRow, AnswerRow]]]:
    """Answers of two methods to the same text, those of all draws together."""
    twins = {(row["task"], row["draw"], row["row"]): row for row in others}
    pairs: dict[tuple[str, str], list[tuple[AnswerRow, AnswerRow]]] = {}
    for row in rows:
        twin = twins.get((row["task"], row["draw"], row["row"]))
        if twin is not None:
            pairs.setdefault((row["task"], row["row"]), []).append((row, twin))
    return pairs.values()


def _take_turns(
    ranked: Sequence[tuple[tuple[Any, ...], Contrast[Shown]]], most: int
) -> list[Contrast[Shown]]:
    """Give the first of each task, then the second of each, so that no task fills the list."""
    by_task: dict[str, list[tuple[tuple[Any, ...], Contrast[Shown]]]] = {}
    for key, contrast in ranked:
        by_task.setdefault(contrast.task, []).append((key, contrast))
    columns = [sorted(group, key=lambda item: item[0]) for group in by_task.values()]
    turns = [row for turn in zip_longest(*columns) for row in turn if row is not None]
    return [contrast for _, contrast in turns[:most]]


def _usual_answer(rows: Rows) -> tuple[str, float]:
    label = Counter(row["predicted"] for row in rows).most_common(1)[0][0]
    return label, fmean(row["probability"] for row in rows if row["predicted"] == label)


def _translated(row: AnswerRow, skill: str) -> Translated:
    answer, reference = shorten_text(row["predicted"]), shorten_text(row["true"])
    return Translated(mark_differences(answer, reference), _NOTES[skill](row))


def _changes(lost: str, new: str) -> list[Part]:
    changes: Sequence[tuple[Mark, str]] = (("del", lost), ("ins", new))
    return [Part(mark, text) for mark, text in changes if text]


def _clusters(text: str) -> list[str]:
    """Signs with the marks and joiners that follow them."""
    clusters: list[str] = []
    for sign in text:
        if clusters and (unicodedata.category(sign)[0] == "M" or sign in "\u200c\u200d"):
            clusters[-1] += sign
        else:
            clusters.append(sign)
    return clusters


def _say_rank(rank: int) -> str:
    return "first" if rank == 1 else f"at rank {rank}"


# By skill: how good an answer is, and how that is told.
_SCORES: Mapping[str, Callable[[AnswerRow], float]] = {
    "generation": lambda row: float(row["chrf"]),
    "retrieval": lambda row: float(row["rank"] == 1),
}
_NOTES: Mapping[str, Callable[[AnswerRow], str]] = {
    "generation": lambda row: f"chrF++ {row['chrf']:.1f}",
    "retrieval": lambda row: f"the right one {_say_rank(row['rank'])}",
}
