"""Comparing on a user's own sentence pairs: found or written, as their meta-model does.

What a support draw leaves of the pairs judges it, or the pairs of a second memory do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nlp_meta.comparing import generating, retrieving
from nlp_meta.comparing.bench import AnyBench
from nlp_meta.comparing.own_settings import (
    NO_CARDS,
    OVERLAP_THRESHOLD,
    Inner,
    OwnComparison,
    name_methods,
    plan_adaptation,
    plan_comparison,
    plan_run,
)
from nlp_meta.comparing.own_table import LEAST_ROWS, check_budgets
from nlp_meta.comparing.reporting import save_comparison
from nlp_meta.comparing.running import Contest, run_comparison
from nlp_meta.data.card_parts import TRANSLATION
from nlp_meta.data.language_tags import check_pair, join_pair
from nlp_meta.data.leaks import check_leaks
from nlp_meta.data.memories import Memory
from nlp_meta.data.memory_facts import describe_memory
from nlp_meta.data.tasks import Example, Task
from nlp_meta.encoders.seq2seq import direct
from nlp_meta.errors import DataError, MetaModelError, SettingsError
from nlp_meta.evaluation.kinds import KINDS as KINDS_OF_ANSWERS
from nlp_meta.evaluation.protocol import Stopwatch
from nlp_meta.generation_settings import GenerationComparison, GenerationSettings
from nlp_meta.hub.records import (
    META_MODEL,
    OTHER_STARTS,
    TRANSLATION_META_MODEL,
    Record,
    find_any_model,
    read_settings,
)
from nlp_meta.launch import Share
from nlp_meta.settings import ModelSettings, PoolSettings, RetrievalComparison, TranslationPrompting

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
    train = _examples(memory)
    judged = () if test is None else _examples(test)
    if test is None and len(train) < LEAST_ROWS:
        raise DataError(
            f"cannot compare on {len(train)} sentence pairs: at least {LEAST_ROWS} are needed, so "
            "that some are left to judge by; give more, or a second memory with `--test-data`"
        )
    pair = join_pair(*languages)
    return Task("own/pairs", TRANSLATION, pair, "", "meta-test", (), train, judged)


def _examples(memory: Memory) -> tuple[Example, ...]:
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
    bench = retrieving.RetrievalBench(settings, (), Stopwatch())
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
    bench = generating.GenerationBench(settings, (), Stopwatch())
    # A language that the model does not know stops here, not in the first cell.
    direct(bench.objective(settings.generation).backbone, task.language)
    return bench, generating.CONTEST
