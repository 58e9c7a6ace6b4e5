"""Comparing on a user's own labels: the same methods and protocol, one table for a task.

What a support draw leaves of the table judges it, or the rows of a second table do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nlp_meta.comparing.bench import Bench
from nlp_meta.comparing.methods import KINDS
from nlp_meta.comparing.own_settings import (
    ENCODER,
    OVERLAP_THRESHOLD,
    OwnComparison,
    build_settings,
    read_start,
)
from nlp_meta.comparing.recommending import Recommendation, recommend
from nlp_meta.comparing.reporting import save_comparison
from nlp_meta.comparing.running import run_comparison
from nlp_meta.data.labels import match_labels
from nlp_meta.data.leaks import LeakReport, check_leaks
from nlp_meta.data.overlap import text_key
from nlp_meta.data.tables import Table
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation.protocol import Stopwatch
from nlp_meta.launch import Share

LEAST_ROWS = 30
JUDGED_SHARE = 3
"""A third of a table without test rows of its own is kept for judging, at least."""
LEAST_JUDGED = 2
"""Of one row no interval can be told."""


def compare_table(
    wanted: OwnComparison,
    table: Table,
    test: Table | None,
    *,
    folder: Path,
    label_map: Mapping[str, str] | None,
    on_cell: Callable[[int, int], None] | None = None,
) -> str:
    """Judge every method on draws of a user's table and write the report.

    Returns:
        The sentence with the answer.

    Raises:
        DataError: Too few rows, or labels that are not those of the meta-model.
        SettingsError: An unknown method, or a budget that no draw can give.
    """
    known, model, inner = read_start(wanted.meta, encoder=ENCODER)
    task, leaks = _open(wanted, table, test, known=known, label_map=label_map)
    budgets = check_budgets(wanted.labels, task)
    settings = build_settings(wanted, model, inner, budgets, folder=str(folder))
    bench = Bench(settings, task.labels, (), Stopwatch())
    ran = run_comparison(bench, (task,), folder=folder, share=Share(), on_cell=on_cell)
    return save_comparison(ran, bench, (task,), leaks, folder=folder)


def recommend_for_table(
    table: Table,
    *,
    wanted: OwnComparison,
    encoder: str,
    folds: int,
    repeats: int,
    label_map: Mapping[str, str] | None,
    on_step: Callable[[int, int], None] | None = None,
) -> Recommendation:
    """Cross-validate methods on a user's table, without rows that nearly repeat another.

    Args:
        encoder: What methods read where there is no meta-model.

    Raises:
        DataError: Too few rows.
        SettingsError: An unknown method.
    """
    known, model, inner = read_start(wanted.meta, encoder=encoder)
    task, leaks = _open(wanted, table, None, known=known, label_map=label_map)
    kinds = {name: kind for name, kind in KINDS.items() if name != "joint"}
    settings = build_settings(wanted, model, inner, [len(task.train)], folder="", kinds=kinds)
    bench = Bench(settings, task.labels, (), Stopwatch())
    found = recommend(bench, task, folds=folds, repeats=repeats, seed=wanted.seed, on_step=on_step)
    return replace(found, near_duplicates=leaks.excluded.get(task.name, {}).get("train", 0))


def build_task(
    table: Table,
    test: Table | None,
    *,
    known: Sequence[str],
    label_map: Mapping[str, str] | None,
) -> Task:
    """Make a task of one or two tables, with the meta-model's names for labels that it knows."""
    train = _examples(table, known=known, label_map=label_map)
    judged = () if test is None else _examples(test, known=known, label_map=label_map)
    if test is None and len(train) < LEAST_ROWS:
        raise DataError(
            f"cannot compare on {len(train)} different texts: at least {LEAST_ROWS} are needed, so "
            "that some are left to judge by; label more, or give a second table with `--test-data`"
        )
    names = {example.target for example in train}
    strange = sorted({example.target for example in judged} - names)
    if strange or len(names) < 2:
        raise DataError(
            f"cannot compare on the labels {', '.join(sorted(names))}"
            f"{' and, of the test table, ' + ', '.join(strange) if strange else ''}: at least 2 "
            "labels, and in the test table none that the first lacks, are needed; correct the "
            "tables or name the columns with `--label-column`"
        )
    ordered = [name for name in known if name in names]
    labels = tuple(ordered if len(ordered) == len(names) else sorted(names))
    return Task("own/table", "sentiment", "", "", "meta-test", labels, train, judged)


def _open(
    wanted: OwnComparison,
    table: Table,
    test: Table | None,
    *,
    known: Sequence[str],
    label_map: Mapping[str, str] | None,
) -> tuple[Task, LeakReport]:
    """Make a task in which no row that judges is nearly one that is learned from."""
    task = build_task(table, test, known=known, label_map=label_map)
    (task,), leaks = check_leaks((), (task,), overlap=wanted.overlap, threshold=OVERLAP_THRESHOLD)
    return task, leaks


def check_budgets(labels: Sequence[int], task: Task) -> list[int]:
    """Keep the numbers of labels that leave enough rows to judge by.

    Raises:
        SettingsError: None is left.
        DataError: Too few rows of a second table.
    """
    if 0 < len(task.test) < LEAST_JUDGED:
        raise DataError(
            f"cannot judge by {len(task.test)} row: at least {LEAST_JUDGED} different ones are "
            "needed; give more with `--test-data`, or leave it out to judge by a part of `--data`"
        )
    rows = len(task.train)
    most = rows if task.test else rows - max(rows // JUDGED_SHARE, LEAST_JUDGED)
    kept = sorted({count for count in labels if count <= most})
    if not kept:
        raise SettingsError(
            f"cannot draw {min(labels)} labels of {rows} rows: at most {most} leave enough to "
            "judge by; lower `--labels` or label more texts"
        )
    return kept


def _examples(
    table: Table, *, known: Sequence[str], label_map: Mapping[str, str] | None
) -> tuple[Example, ...]:
    """Different texts of a table, each with its first label."""
    match = match_labels(table.labels or (), known, label_map=label_map)
    kept: dict[str, Example] = {}
    for text, label in zip(table.texts, match.labels, strict=True):
        kept.setdefault(text_key(text), Example(text.strip(), label))
    return tuple(kept.values())
