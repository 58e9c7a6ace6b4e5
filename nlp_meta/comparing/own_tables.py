"""Comparing on a user's own labels: the same methods and protocol, one table for a task.

What a support draw leaves of the table judges it, or the rows of a second table do.

Comparing on a user's own sentence pairs: found or written, as their meta-model does.

What a support draw leaves of the pairs judges it, or the pairs of a second memory do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nlp_meta.comparing import generation as generating
from nlp_meta.comparing import retrieval as retrieving
from nlp_meta.comparing.bench import AnyBench, Bench
from nlp_meta.comparing.methods import KINDS
from nlp_meta.comparing.outputs import save_comparison
from nlp_meta.comparing.own_settings import (
    ENCODER,
    NO_CARDS,
    OVERLAP_THRESHOLD,
    Inner,
    OwnComparison,
    build_settings,
    name_methods,
    plan_adaptation,
    plan_comparison,
    plan_run,
    read_start,
)
from nlp_meta.comparing.recommendation import Recommendation, recommend
from nlp_meta.comparing.run import Contest, run_comparison
from nlp_meta.data.cards import TRANSLATION
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.labels import match_labels
from nlp_meta.data.languages import check_pair, join_pair
from nlp_meta.data.leaks import LeakReport, check_leaks
from nlp_meta.data.tasks import Example, Task
from nlp_meta.encoders.seq2seq import direct
from nlp_meta.errors import DataError, MetaModelError, SettingsError
from nlp_meta.evaluation.answers import KINDS as KINDS_OF_ANSWERS
from nlp_meta.files.memories import Memory, describe_memory
from nlp_meta.files.tables import Table
from nlp_meta.hub.records import (
    META_MODEL,
    OTHER_STARTS,
    TRANSLATION_META_MODEL,
    Record,
    find_any_model,
    read_settings,
)
from nlp_meta.settings import (
    GenerationComparison,
    GenerationSettings,
    ModelSettings,
    PoolSettings,
    RetrievalComparison,
    TranslationPrompting,
)
from nlp_meta.training.launch import Share

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
    bench = Bench(settings, task.labels, ())
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
    bench = Bench(settings, task.labels, ())
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


CANDIDATES = 1000
POOL = PoolSettings(candidates=CANDIDATES, fill_cards=[], ngrams=[2, 3, 4, 5])
WRITING = TranslationPrompting(max_new_tokens=96, num_beams=1, translation_templates=["translate"])
WRITERS: Mapping[str, str] = {"adapt": "start"}
"""Ours where translations are written: n-grams have no say in that."""
DEFAULT_METRICS: Mapping[str, str] = {"retrieval": "precision_at_1", "generation": "chrf"}


def compare_pairs(
    wanted: OwnComparison,
    memory: Memory,
    test: Memory | None,
    *,
    languages: tuple[str, str],
    folder: Path,
    on_cell: Callable[[int, int], None] | None = None,
) -> str:
    """Judge every method on draws of a user's sentence pairs and write the report.

    Args:
        wanted: Its meta-model decides whether translations are found or written, and what is
            measured where `metric` is empty.
        languages: Codes of the languages translated from and into.

    Returns:
        The sentence with the answer.

    Raises:
        BackboneError: A model that writes does not know a language; lists the near ones.
        DataError: Too few pairs, or one language.
        MetaModelError: The meta-model learned no translation.
        SettingsError: An unknown method or metric, or a budget that no draw can give.
    """
    record = _find_start(str(wanted.meta))
    writes = record.kind == TRANSLATION_META_MODEL
    answers = "generation" if writes else "retrieval"
    wanted = replace(wanted, metric=wanted.metric or DEFAULT_METRICS[answers])
    _check_metric(wanted.metric, answers)
    task = build_pair_task(memory, test, languages=languages)
    (task,), leaks = check_leaks((), (task,), overlap=wanted.overlap, threshold=OVERLAP_THRESHOLD)
    budgets = check_budgets(wanted.labels, task)
    enter = _enter_generation if writes else _enter_retrieval
    bench, contest = enter(wanted, record, task, budgets, str(folder))
    ran = run_comparison(
        bench, (task,), folder=folder, share=Share(), on_cell=on_cell, contest=contest
    )
    ran = replace(ran, notes=(*ran.notes, *_notes("Your pairs", memory)))
    if test is not None:
        ran = replace(ran, notes=(*ran.notes, *_notes("The pairs that judge", test)))
    return save_comparison(ran, bench, (task,), leaks, folder=folder)


def build_pair_task(memory: Memory, test: Memory | None, *, languages: tuple[str, str]) -> Task:
    """Make a task of one or two memories.

    Raises:
        DataError: Too few pairs to learn from some and to judge by others, or one language.
    """
    check_pair(*languages)
    train = _examples_own_pairs(memory)
    judged = () if test is None else _examples_own_pairs(test)
    if test is None and len(train) < LEAST_ROWS:
        raise DataError(
            f"cannot compare on {len(train)} sentence pairs: at least {LEAST_ROWS} are needed, so "
            "that some are left to judge by; give more, or a second memory with `--test-data`"
        )
    pair = join_pair(*languages)
    return Task("own/pairs", TRANSLATION, pair, "", "meta-test", (), train, judged)


def _examples_own_pairs(memory: Memory) -> tuple[Example, ...]:
    return tuple(Example(pair.source.strip(), pair.target.strip()) for pair in memory.pairs)


def _notes(whose: str, memory: Memory) -> list[str]:
    """What was left out of a memory, and what is doubtful of the rest."""
    facts = describe_memory(memory)
    del facts["pairs"]
    return [f"{whose}, {name}: {said}." for name, said in facts.items()]


def _find_start(meta: str) -> Record:
    _, record = find_any_model(meta)
    if record.kind not in (META_MODEL, *OTHER_STARTS):
        raise MetaModelError(
            f"cannot compare from '{meta}': it is of the kind '{record.kind}' and a meta-model is "
            "needed; name the one that it was adapted from"
        )
    if record.kind == META_MODEL and not record.adaptation.get("translation"):
        raise MetaModelError(
            f"cannot compare translations from '{meta}': it learned sentiment alone and a "
            "meta-model that learned from sentence pairs is needed; leave out `--source-lang` and "
            "`--target-lang`, or name another"
        )
    return record


def _check_metric(metric: str, answers: str) -> None:
    fitting: Sequence[str] = KINDS_OF_ANSWERS[answers].main_metrics
    if metric not in fitting:
        raise SettingsError(
            f"cannot compare translations by '{metric}': of this meta-model one of "
            f"{', '.join(fitting)} is needed; change `--metric`"
        )


def _inner(record: Record) -> Inner:
    """The inner loop of a meta-model, without its steps and rate."""
    own: Mapping[str, Any] = record.adaptation.get("translation") or record.adaptation
    return Inner(own["optimizer"], own["minibatch"], own["anchor"], own.get("average", 0.0))


def _enter_retrieval(
    wanted: OwnComparison, record: Record, task: Task, budgets: list[int], folder: str
) -> tuple[AnyBench, Contest]:
    methods = name_methods(wanted, kinds=retrieving.KINDS)
    settings = RetrievalComparison(
        data=NO_CARDS,
        comparison=plan_comparison(wanted, methods, budgets, title="Your sentence pairs"),
        retrieval=POOL,
        model=replace(read_settings(record, ModelSettings), pooling="mean"),
        adaptation=plan_adaptation(wanted, _inner(record), budgets),
        run=plan_run(wanted, folder=folder),
    )
    bench = retrieving.RetrievalBench(settings, ())
    return bench, retrieving.retrieval_contest(settings, (task,))


def _enter_generation(
    wanted: OwnComparison, record: Record, task: Task, budgets: list[int], folder: str
) -> tuple[AnyBench, Contest]:
    methods = name_methods(wanted, kinds=generating.KINDS, ours=WRITERS)
    own = record.adaptation
    settings = GenerationComparison(
        data=NO_CARDS,
        comparison=plan_comparison(wanted, methods, budgets, title="Your sentence pairs"),
        generation=read_settings(record, GenerationSettings),
        # Plain LoRA may take as many steps as the meta-model was found to need, at its rate.
        adaptation=plan_adaptation(
            wanted,
            _inner(record),
            budgets,
            steps=[own["steps"]],
            learning_rates=[own["learning_rate"]],
        ),
        prompting=replace(wanted.prompting, templates=[], scorings=[]),
        translation_prompting=WRITING,
        run=plan_run(wanted, folder=folder),
    )
    bench = generating.GenerationBench(settings, ())
    # A language that the model does not know stops here, not in the first cell.
    direct(bench.objective(settings.generation).backbone, task.language)
    return bench, generating.CONTEST
