"""Search for leaks: rows of a judged task that repeat what a method may have seen.

A row is looked for in the whole train part of its task, from which the support sets of
all draws come, and in all rows of the meta-train tasks, so that one check serves every
draw and every method. Of a translation both sentences are looked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from nlp_meta.data.card_parts import TRANSLATION
from nlp_meta.data.near_duplicates import Match, find_near_duplicates, find_repeats
from nlp_meta.data.tasks import Example, Task, texts_of

SEEN_QUERY, SEEN_SUPPORT = "meta-train/query", "meta-train/support"
SUPPORT_QUERY, PARALLEL = "support/query", "parallel"
KINDS = (SEEN_QUERY, SEEN_SUPPORT, SUPPORT_QUERY, PARALLEL)
EXCLUDED, KEPT = "excluded", "kept"


@dataclass(frozen=True, slots=True)
class Leak:
    """A row of a judged task, and what it repeats.

    Attributes:
        kind: `meta-train/query`: a row that the task is judged on nearly repeats one of a
            meta-train task. `meta-train/support`: a row of its train part does, which gives
            no answer away. `support/query`: a row of its train part nearly repeats one
            that it is judged on. `parallel`: a row that it is judged on is a translation
            of one of a meta-train task, by the corpus's own key.
        task: The judged task.
        part, row: `train` or `test`, and the position there.
        text: The repeated one of the row's texts, of which a translation has two.
        other_task: Where the repeated row is; `task` itself for `support/query`.
        similarity: Of the texts, from the threshold to 1; None for `parallel`.
        action: What `exclude_leaks` does with the row: `excluded`, or `kept` where it
            gives no answer away.
    """

    kind: str
    task: str
    part: str
    row: int
    text: str
    other_task: str
    other_text: str
    similarity: float | None
    action: str


class _Place(NamedTuple):
    task: Task
    part: str
    row: int
    example: Example


def find_leaks(
    meta_train: Sequence[Task], judged: Sequence[Task], *, threshold: float
) -> tuple[Leak, ...]:
    """Find the leaks, each row once a kind with what it resembles most, in the tasks' order.

    A task without test rows is judged on what a draw leaves of its train part: there
    the train rows are what is judged on, and of two that are alike the later is a leak.

    Nothing was learned from the tasks of meta-validation that are among those of
    meta-training; choices were made on them. A translation task of these counts by its
    targets alone: in a parallel corpus its sources are those of every other pair.
    """
    return (
        *_find_seen(meta_train, judged, threshold=threshold),
        *(leak for task in judged for leak in _find_between(task, threshold=threshold)),
        *_find_parallel(meta_train, judged),
    )


def parts_of(task: Task) -> Iterator[tuple[str, tuple[Example, ...]]]:
    """The parts of a task with their names."""
    yield "train", task.train
    yield "test", task.test


def _judged_part(task: Task) -> str:
    return "test" if task.test else "train"


def _chosen_on(task: Task) -> bool:
    return task.kind == TRANSLATION and task.meta_split == "meta-validation"


def _find_seen(
    meta_train: Sequence[Task], judged: Sequence[Task], *, threshold: float
) -> Iterator[Leak]:
    seen = [
        (task, text)
        for task in meta_train
        for one in chain(task.train, task.test)
        for text in ((one.target,) if _chosen_on(task) else texts_of(one, task.kind))
    ]
    places = [
        _Place(task, part, row, one)
        for task in judged
        for part, rows in parts_of(task)
        for row, one in enumerate(rows)
    ]
    texts = [
        (number, text)
        for number, place in enumerate(places)
        for text in texts_of(place.example, place.task.kind)
    ]
    matches = find_near_duplicates(
        [text for _, text in texts], [text for _, text in seen], threshold=threshold
    )
    best: dict[int, Match] = {}
    for match in matches:
        number, _ = texts[match.left]
        if number not in best or best[number].similarity < match.similarity:
            best[number] = match
    for number, match in best.items():
        place, text = places[number], texts[match.left][1]
        kind = SEEN_QUERY if place.part == _judged_part(place.task) else SEEN_SUPPORT
        yield _leak(kind, place, text, seen[match.right], match.similarity)


def _find_between(task: Task, *, threshold: float) -> Iterator[Leak]:
    """Compare each side with the same side: a translation may resemble its own source."""
    others = task.test or task.train
    train, test = _sides(task.train, task.kind), _sides(task.test, task.kind)
    best: dict[int, tuple[Match, int]] = {}
    for side, texts in enumerate(train):
        if task.test:
            matches = find_near_duplicates(texts, test[side], threshold=threshold)
        else:
            matches = find_repeats(texts, threshold=threshold)
        for match in matches:
            known = best.get(match.left)
            if known is None or known[0].similarity < match.similarity:
                best[match.left] = match, side
    for row in sorted(best):
        match, side = best[row]
        place = _Place(task, "train", row, task.train[row])
        other = texts_of(others[match.right], task.kind)[side]
        yield _leak(SUPPORT_QUERY, place, train[side][row], (task, other), match.similarity)


def _sides(examples: Sequence[Example], kind: str) -> list[list[str]]:
    sources, targets = [one.source for one in examples], [one.target for one in examples]
    return [sources, targets] if kind == TRANSLATION else [sources]


def _find_parallel(meta_train: Sequence[Task], judged: Sequence[Task]) -> Iterator[Leak]:
    """Find translations by group; the same group of two corpora means nothing."""
    seen: dict[tuple[str, str | None], tuple[Task, str]] = {}
    for task in meta_train:
        for one in () if _chosen_on(task) else chain(task.train, task.test):
            seen.setdefault((_corpus(task), one.group), (task, one.source))
    for task in judged:
        for row, one in enumerate(task.test or task.train):
            other = seen.get((_corpus(task), one.group))
            if one.group is not None and other is not None:
                place = _Place(task, _judged_part(task), row, one)
                yield _leak(PARALLEL, place, one.source, other, None)


def _leak(
    kind: str, place: _Place, text: str, other: tuple[Task, str], similarity: float | None
) -> Leak:
    return Leak(
        kind=kind,
        task=place.task.name,
        part=place.part,
        row=place.row,
        text=text,
        other_task=other[0].name,
        other_text=other[1],
        similarity=similarity,
        action=KEPT if kind == SEEN_SUPPORT else EXCLUDED,
    )


def _corpus(task: Task) -> str:
    return task.name.partition("/")[0]
