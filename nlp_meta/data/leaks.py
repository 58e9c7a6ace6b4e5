"""Leaks: what a comparison judges on and a method may have seen, found before it runs.

A row is looked for in the whole train part of its task, from which the support sets of
all draws come, and in all rows of the meta-train tasks, so that one check serves every
draw and every method.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from nlp_meta.data.near_duplicates import find_near_duplicates, find_repeats
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import DataError, SettingsError

_LOG = logging.getLogger(__name__)

OVERLAPS = ("exclude", "stop")

SEEN_QUERY, SEEN_SUPPORT = "meta-train/query", "meta-train/support"
SUPPORT_QUERY, PARALLEL = "support/query", "parallel"
KINDS = (SEEN_QUERY, SEEN_SUPPORT, SUPPORT_QUERY, PARALLEL)
EXCLUDED, KEPT = "excluded", "kept"

# Of each kind in a report, and characters of each text there.
_LISTED, _SHOWN = 20, 80


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


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What was checked, found and excluded; `dataclasses.asdict` gives plain values.

    Attributes:
        checked: How many meta-train tasks and rows, judged tasks, train and test rows.
        found: Rows by kind, also where there are none; a row may be of two kinds.
        excluded: Judged task to part to rows removed; only what lost any.
        examples: The first of each kind, their texts shortened.
    """

    overlap: str
    threshold: float
    checked: Mapping[str, int]
    found: Mapping[str, int]
    excluded: Mapping[str, Mapping[str, int]]
    examples: tuple[Leak, ...]


class _Place(NamedTuple):
    task: Task
    part: str
    row: int


def check_leaks(
    meta_train: Sequence[Task], judged: Sequence[Task], *, overlap: str, threshold: float
) -> tuple[tuple[Task, ...], LeakReport]:
    """Find leaks and exclude them, or stop if there are any.

    Args:
        meta_train: Every task that a method, or a choice between methods, has seen.
        overlap: `exclude` or `stop`; rows of kind `meta-train/support` stop nothing.
        threshold: Least similarity of near duplicates, by `find_near_duplicates`.

    Returns:
        The judged tasks, in their order, without the leaks.

    Raises:
        DataError: There are leaks and `overlap` is `stop`, or a task keeps too little.
        SettingsError: `overlap` or `threshold` is not what it must be.
    """
    if overlap not in OVERLAPS:
        raise SettingsError(
            f"cannot treat leaks by '{overlap}': one of {', '.join(OVERLAPS)} is needed; "
            "change `--overlap`"
        )
    leaks = find_leaks(meta_train, judged, threshold=threshold)
    if overlap == "stop":
        _stop_at(leaks)
    kept = exclude_leaks(judged, leaks)
    report = LeakReport(
        overlap=overlap,
        threshold=threshold,
        checked={
            "meta_train_tasks": len(meta_train),
            "meta_train_rows": sum(len(task.train) + len(task.test) for task in meta_train),
            "judged_tasks": len(judged),
            "judged_train_rows": sum(len(task.train) for task in judged),
            "judged_test_rows": sum(len(task.test) for task in judged),
        },
        found={kind: sum(leak.kind == kind for leak in leaks) for kind in KINDS},
        excluded=_count_excluded(leaks),
        examples=tuple(
            _shorten(leak)
            for kind in KINDS
            for leak in [leak for leak in leaks if leak.kind == kind][:_LISTED]
        ),
    )
    return kept, report


def find_leaks(
    meta_train: Sequence[Task], judged: Sequence[Task], *, threshold: float
) -> tuple[Leak, ...]:
    """Find the leaks, each row once a kind with what it resembles most, in the tasks' order.

    A task without test rows is judged on what a draw leaves of its train part: there
    the train rows are what is judged on, and of two that are alike the later is a leak.
    """
    return (
        *_find_seen(meta_train, judged, threshold=threshold),
        *(leak for task in judged for leak in _find_between(task, threshold=threshold)),
        *_find_parallel(meta_train, judged),
    )


def exclude_leaks(judged: Sequence[Task], leaks: Sequence[Leak]) -> tuple[Task, ...]:
    """Copy the tasks without the rows that leak.

    What repeats between a task's own parts leaves its train part, so that test parts
    stay as whole as they can be; rows of kind `meta-train/support` stay.

    Raises:
        DataError: A part of a task loses its last row of a label; names the task.
    """
    removed = _removed(leaks)
    kept = []
    for task in judged:
        parts = {
            part: tuple(
                one for row, one in enumerate(rows) if (task.name, part, row) not in removed
            )
            for part, rows in _parts(task)
        }
        for part, rows in _parts(task):
            _check_left(task.name, part, before=rows, after=parts[part])
            if len(parts[part]) < len(rows):
                lost = len(rows) - len(parts[part])
                _LOG.info("%s: %d %s rows excluded that leak", task.name, lost, part)
        kept.append(replace(task, train=parts["train"], test=parts["test"]))
    return tuple(kept)


def _parts(task: Task) -> Iterator[tuple[str, tuple[Example, ...]]]:
    yield "train", task.train
    yield "test", task.test


def _judged_part(task: Task) -> str:
    return "test" if task.test else "train"


def _find_seen(
    meta_train: Sequence[Task], judged: Sequence[Task], *, threshold: float
) -> Iterator[Leak]:
    seen = [(task, one) for task in meta_train for _, rows in _parts(task) for one in rows]
    places = [
        _Place(task, part, row)
        for task in judged
        for part, rows in _parts(task)
        for row in range(len(rows))
    ]
    matches = find_near_duplicates(
        [_example(place).source for place in places],
        [one.source for _, one in seen],
        threshold=threshold,
    )
    for match in matches:
        place = places[match.left]
        kind = SEEN_QUERY if place.part == _judged_part(place.task) else SEEN_SUPPORT
        yield _leak(kind, place, seen[match.right], match.similarity)


def _find_between(task: Task, *, threshold: float) -> Iterator[Leak]:
    train = [one.source for one in task.train]
    if task.test:
        test = [one.source for one in task.test]
        matches = find_near_duplicates(train, test, threshold=threshold)
    else:
        matches = find_repeats(train, threshold=threshold)
    for match in matches:
        other = (task.test or task.train)[match.right]
        place = _Place(task, "train", match.left)
        yield _leak(SUPPORT_QUERY, place, (task, other), match.similarity)


def _find_parallel(meta_train: Sequence[Task], judged: Sequence[Task]) -> Iterator[Leak]:
    """Find translations by group; the same group of two corpora means nothing."""
    seen: dict[tuple[str, str | None], tuple[Task, Example]] = {}
    for task in meta_train:
        for _, rows in _parts(task):
            for one in rows:
                seen.setdefault((_corpus(task), one.group), (task, one))
    for task in judged:
        for row, one in enumerate(task.test or task.train):
            other = seen.get((_corpus(task), one.group))
            if one.group is not None and other is not None:
                yield _leak(PARALLEL, _Place(task, _judged_part(task), row), other, None)


def _leak(kind: str, place: _Place, other: tuple[Task, Example], similarity: float | None) -> Leak:
    return Leak(
        kind=kind,
        task=place.task.name,
        part=place.part,
        row=place.row,
        text=_example(place).source,
        other_task=other[0].name,
        other_text=other[1].source,
        similarity=similarity,
        action=KEPT if kind == SEEN_SUPPORT else EXCLUDED,
    )


def _example(place: _Place) -> Example:
    return dict(_parts(place.task))[place.part][place.row]


def _corpus(task: Task) -> str:
    return task.name.partition("/")[0]


def _removed(leaks: Sequence[Leak]) -> set[tuple[str, str, int]]:
    return {(leak.task, leak.part, leak.row) for leak in leaks if leak.action == EXCLUDED}


def _count_excluded(leaks: Sequence[Leak]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for task, part, _ in sorted(_removed(leaks)):
        of_task = counts.setdefault(task, {})
        of_task[part] = of_task.get(part, 0) + 1
    return counts


def _check_left(
    task: str, part: str, *, before: Sequence[Example], after: Sequence[Example]
) -> None:
    lost = sorted({one.target for one in before} - {one.target for one in after})
    if lost:
        raise DataError(
            f"cannot judge task '{task}' without its leaks: {len(before) - len(after)} of its "
            f"{len(before)} {part} rows leak, which leaves none of label '{lost[0]}'; at least "
            "one of each label is needed; leave the task, or the meta-train tasks that hold its "
            "rows, out with `data.exclude`"
        )


def _stop_at(leaks: Sequence[Leak]) -> None:
    stopping = [leak for leak in leaks if leak.action == EXCLUDED]
    if not stopping:
        return
    counts = Counter(leak.kind for leak in stopping)
    found = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    first = _shorten(stopping[0])
    raise DataError(
        f"cannot compare on tasks that leak: {found} rows, such as {first.part} row {first.row} "
        f"of '{first.task}' ('{first.text}') like one of '{first.other_task}' "
        f"('{first.other_text}'); rows that no method has seen are needed; exclude them with "
        "`--overlap exclude`, or leave tasks out with `data.exclude`"
    )


def _shorten(leak: Leak) -> Leak:
    def cut(text: str) -> str:
        return text if len(text) <= _SHOWN else text[: _SHOWN - 1].rstrip() + "…"

    return replace(leak, text=cut(leak.text), other_text=cut(leak.other_text))
