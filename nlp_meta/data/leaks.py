"""Leaks: what a comparison judges on and a method may have seen, excluded before it runs."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nlp_meta.data.card_parts import TRANSLATION
from nlp_meta.data.leak_search import EXCLUDED, KINDS, Leak, find_leaks, parts_of
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import DataError, SettingsError

_LOG = logging.getLogger(__name__)

OVERLAPS = ("exclude", "stop")

# Of each kind in a report, and characters of each text there.
_LISTED, _SHOWN = 20, 80


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What was checked, found and excluded; `dataclasses.asdict` gives plain values.

    Attributes:
        checked: How many meta-train tasks and rows, judged tasks, train and test rows.
        found: Rows by kind, also where there are none; a row may be of two kinds.
        excluded: Judged task to part to rows removed; only what lost any.
        dropped: Meta-train task to the rows that `load_tasks` had left out of it, since a
            judged row repeats them word for word; only what lost any.
        examples: The first of each kind, their texts shortened.
    """

    overlap: str
    threshold: float
    checked: Mapping[str, int]
    found: Mapping[str, int]
    excluded: Mapping[str, Mapping[str, int]]
    dropped: Mapping[str, int]
    examples: tuple[Leak, ...]


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
        dropped={
            task.name: task.dropped
            for task in meta_train
            if task.dropped and task.meta_split == "meta-train"
        },
        examples=tuple(
            _shorten(leak)
            for kind in KINDS
            for leak in [leak for leak in leaks if leak.kind == kind][:_LISTED]
        ),
    )
    return kept, report


def exclude_leaks(judged: Sequence[Task], leaks: Sequence[Leak]) -> tuple[Task, ...]:
    """Copy the tasks without the rows that leak.

    What repeats between a task's own parts leaves its train part, so that test parts
    stay as whole as they can be; rows of kind `meta-train/support` stay.

    Raises:
        DataError: A part of a task loses its last row of a label, or of all; names the task.
    """
    removed = _removed(leaks)
    kept = []
    for task in judged:
        parts = {
            part: tuple(
                one for row, one in enumerate(rows) if (task.name, part, row) not in removed
            )
            for part, rows in parts_of(task)
        }
        for part, rows in parts_of(task):
            _check_left(task, part, before=rows, after=parts[part])
            if len(parts[part]) < len(rows):
                lost = len(rows) - len(parts[part])
                _LOG.info("%s: %d %s rows excluded that leak", task.name, lost, part)
        kept.append(replace(task, train=parts["train"], test=parts["test"]))
    return tuple(kept)


def _removed(leaks: Sequence[Leak]) -> set[tuple[str, str, int]]:
    return {(leak.task, leak.part, leak.row) for leak in leaks if leak.action == EXCLUDED}


def _count_excluded(leaks: Sequence[Leak]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for task, part, _ in sorted(_removed(leaks)):
        of_task = counts.setdefault(task, {})
        of_task[part] = of_task.get(part, 0) + 1
    return counts


def _check_left(
    task: Task, part: str, *, before: Sequence[Example], after: Sequence[Example]
) -> None:
    lost = sorted({one.target for one in before} - {one.target for one in after})
    left, needed = f"none of label '{lost[0]}'" if lost else "", "one of each label"
    if task.kind == TRANSLATION:
        left, needed = "none" if before and not after else "", "one"
    if left:
        raise DataError(
            f"cannot judge task '{task.name}' without its leaks: {len(before) - len(after)} of its "
            f"{len(before)} {part} rows leak, which leaves {left}; at least {needed} is "
            "needed; leave the task, or the meta-train tasks that hold its rows, out with "
            "`data.exclude`"
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
