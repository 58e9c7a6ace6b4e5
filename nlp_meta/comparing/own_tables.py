"""Comparing on a user's own table of labels or sentence pairs: one table for a task.

The methods and the protocol are those of a recipe. What a support draw leaves of the table
judges it, or the rows of a second table do. There are no meta-validation tasks beside a
table, so every method chooses inside each support set.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nlp_meta.comparing.bench import AnyComparison, Bench
from nlp_meta.comparing.methods import READY, methods_of
from nlp_meta.comparing.recommendation import Recommendation, recommend
from nlp_meta.comparing.run import run_comparison, save_comparison
from nlp_meta.data.cards import CLASSIFICATION, TRANSLATION
from nlp_meta.data.cells import LabelMap
from nlp_meta.data.duplicates import first_by_key
from nlp_meta.data.episodes import GENERATION, RETRIEVAL
from nlp_meta.data.labels import LabelMatch, match_labels
from nlp_meta.data.languages import check_pair, join_pair
from nlp_meta.data.leaks import LeakReport, check_leaks
from nlp_meta.data.tasks import Example, Task
from nlp_meta.encoders.seq2seq import direct
from nlp_meta.errors import DataError, MetaModelError, SettingsError
from nlp_meta.evaluation.answers import ANSWERS
from nlp_meta.evaluation.statistics import count_needed_draws
from nlp_meta.files.memories import Memory, describe_memory
from nlp_meta.files.tables import LabeledTable
from nlp_meta.hub.records import START, Record, find_model, read_settings
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.report.scores import join_names
from nlp_meta.settings import (
    AdaptationSettings,
    Comparison,
    ComparisonSettings,
    DataSettings,
    GenerationComparison,
    ModelSettings,
    PoolSettings,
    PromptingSettings,
    RetrievalComparison,
    RivalSettings,
    RunSettings,
    Seq2SeqSettings,
    TranslationPrompting,
)
from nlp_meta.training.run import Share

logger = logging.getLogger(__name__)

LEAST_ROWS = 30
JUDGED_SHARE = 3
"""A third of a table without test rows of its own is kept for judging, at least."""
LEAST_JUDGED, _FEW_JUDGED = 2, 30
"""Of one row no interval can be told."""
OVERLAP_THRESHOLD = 0.7
RESAMPLES = 2000
DRAWS = 10
QUICK = ("ngrams", "linear_probe", "prototypes", "memory")
WITH_META = ("hybrid", "adapt", *QUICK)
OURS: Mapping[str, Mapping[str, str]] = {
    CLASSIFICATION: {"hybrid": "hybrid", "adapt": "adapt"},
    RETRIEVAL: {"hybrid": "hybrid", "adapt": "adapt"},
    GENERATION: {"adapt": "start"},
}
"""By skill, names of methods that begin at the user's start, and their rows in the table
of methods. Where translations are written, n-grams have no say."""
_TITLES = {CLASSIFICATION: "Your labels"}
MAIN_METRICS: Mapping[str, str] = {RETRIEVAL: "precision_at_1", GENERATION: "chrf"}

ENCODER = "builtin:minilm"
PLAIN = ModelSettings(
    model_name_or_path=ENCODER,
    revision=None,
    pooling="mean",
    head="shared",
    prefix_text="",
    max_tokens=128,
    lora_r=8,
    lora_alpha=16.0,
    lora_layers=3,
    lora_target_modules=None,
)
STEPS, LEARNING_RATES = [5, 10, 20], [1e-3, 3e-4]
RIVALS = RivalSettings(
    regularization=[0.01, 0.1, 1.0, 10.0, 100.0],
    folds=4,
    scalings=["plain", "unit", "standard"],
    temperatures=[0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0],
    full_steps=[10, 20, 40],
    full_learning_rates=[3e-5, 1e-4],
    full_batch_size=16,
    setfit_pairs=2,
)
PROMPTING = PromptingSettings(
    model_name_or_path="builtin:smollm2",
    revision=None,
    gguf_file=None,
    context_tokens=None,
    templates=["review", "sentiment", "label"],
    scorings=["calibrated", "sum", "mean", "pmi"],
    demonstrations=None,
    selection="balanced",
    chat=False,
    choosing_draws=None,
    orders=1,
    endpoint=None,
    api_key_env="OPENAI_API_KEY",
    timeout=60.0,
    retries=5,
    requests_per_minute=None,
    price_per_million_tokens=None,
)
WRITING = TranslationPrompting(max_new_tokens=96, num_beams=1, translation_templates=["translate"])
POOL = PoolSettings(candidates=1000, fill_cards=[], ngrams=[2, 3, 4, 5])
NO_CARDS = DataSettings([], None, "files", {}, [])


Check = Callable[[Sequence[str], LabelMatch], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class OwnComparison:
    """What a user asks for.

    Attributes:
        meta: Folder or name of the start.
        joint: Folder of a jointly trained start, the rival at equal compute; None leaves it out.
        methods: Names, or `all`.
        labels: Support examples in all, as many budgets as wanted; those that the table
            cannot give are left out.
        draws: None takes `DRAWS`, or as many as a difference needs to be shown.
        metric: Empty takes the one that suits how a start answers with translations.
        overlap: `exclude` or `stop`, for texts of the test table that are in the first.
        replace: Results that are in the folder may be lost.
        title: Of the page, such as the file's name with its rows.
    """

    meta: str | None
    joint: str | None
    methods: tuple[str, ...]
    labels: tuple[int, ...]
    draws: int | None
    metric: str
    overlap: str
    seed: int
    prompting: PromptingSettings
    replace: bool = False
    title: str = ""


def compare_table(
    wanted: OwnComparison,
    data: LabeledTable,
    test_data: LabeledTable | None,
    *,
    folder: Path,
    label_map: LabelMap | None,
    on_cell: Callable[[int, int], None] | None = None,
) -> str:
    """Judge every method on draws of a user's labels and write the report.

    Returns:
        The sentence with the answer.

    Raises:
        DataError: Too few rows, or labels that are not those of the start.
        SettingsError: An unknown method, or a budget that no draw can give.
    """
    known, model, how = read_start(wanted.meta, encoder=ENCODER)
    check = _check_meaning(wanted.meta)
    task = build_task(data, test_data, known=known, label_map=label_map, check=check)
    task, leaks = _without_overlap(wanted, task)
    budgets = check_budgets(wanted.labels, task)
    settings = build_settings(wanted, model, how, budgets, folder=str(folder))
    return _compare(settings, task, leaks, notes=(), on_cell=on_cell)


def compare_pairs(
    wanted: OwnComparison,
    data: Memory,
    test_data: Memory | None,
    *,
    languages: tuple[str, str],
    folder: Path,
    on_cell: Callable[[int, int], None] | None = None,
) -> str:
    """Judge every method on draws of a user's sentence pairs and write the report.

    Args:
        wanted: Its start decides whether translations are found or written, and what is
            measured where `metric` is empty.
        languages: Codes of the languages translated from and into.

    Returns:
        The sentence with the answer.

    Raises:
        BackboneError: A model that writes does not know a language; lists the near ones.
        DataError: Too few pairs, or one language.
        MetaModelError: The start learned no translation.
        SettingsError: An unknown method or metric, or a budget that no draw can give.
    """
    record = _find_start(str(wanted.meta))
    skill = GENERATION if GENERATION in record.skills else RETRIEVAL
    wanted = replace(wanted, metric=wanted.metric or MAIN_METRICS[skill])
    _check_metric(wanted.metric, skill)
    task = build_pair_task(data, test_data, languages=languages)
    task, leaks = _without_overlap(wanted, task)
    budgets = check_budgets(wanted.labels, task)
    build = _writing_settings if skill == GENERATION else _finding_settings
    settings = build(wanted, record, budgets, folder=str(folder))
    notes = _tell_memory("Your pairs", data)
    if test_data is not None:
        notes += _tell_memory("The pairs that judge", test_data)
    return _compare(settings, task, leaks, notes=notes, on_cell=on_cell)


def recommend_for_table(
    data: LabeledTable,
    *,
    wanted: OwnComparison,
    encoder: str,
    folds: int,
    repeats: int,
    label_map: LabelMap | None,
    on_step: Callable[[int, int], None] | None = None,
) -> Recommendation:
    """Cross-validate methods on a user's table, without rows that nearly repeat another.

    Args:
        encoder: What methods read where there is no start.

    Raises:
        DataError: Too few rows.
        SettingsError: An unknown method.
    """
    known, model, how = read_start(wanted.meta, encoder=encoder)
    check = _check_meaning(wanted.meta)
    task = build_task(data, None, known=known, label_map=label_map, check=check)
    task, leaks = _without_overlap(wanted, task)
    rows = [len(task.train)]
    settings = build_settings(wanted, model, how, rows, folder="", may_be_joint=False)
    recommendation = recommend(
        Bench(settings, (), task.labels),
        task,
        folds=folds,
        repeats=repeats,
        seed=wanted.seed,
        on_step=on_step,
    )
    repeated = leaks.excluded.get(task.name, {}).get("train", 0)
    return replace(recommendation, near_duplicates=repeated)


def _compare(
    settings: AnyComparison,
    task: Task,
    leaks: LeakReport,
    *,
    notes: Sequence[str],
    on_cell: Callable[[int, int], None] | None,
) -> str:
    _tell_draws(settings)
    doubts = doubt_judges(task, leaks)
    for doubt in doubts:
        logger.info("%s", doubt)
    bench, folder = Bench(settings, (), task.labels), Path(settings.run.output_dir)
    if isinstance(settings, GenerationComparison):
        # A language that the model does not know stops here, not in the first cell.
        direct(bench.objective(settings.model).backbone, task.language)
    ran = run_comparison(bench, (task,), folder=folder, share=Share(), on_cell=on_cell)
    ran = replace(ran, notes=(*ran.notes, *notes, *doubts))
    return save_comparison(ran, bench, (task,), leaks, folder=folder)


def build_task(
    data: LabeledTable,
    test_data: LabeledTable | None,
    *,
    known: Sequence[str],
    label_map: LabelMap | None,
    check: Check = lambda _texts, _match: (),
) -> Task:
    """Make a task of one or two tables, with the start's names for labels that it knows.

    Args:
        check: Called with the texts that are learned from, and what their labels mean.
    """
    train, match = _read_labeled(data, known=known, label_map=label_map)
    check(data.texts, match)
    judged: tuple[Example, ...] = ()
    if test_data is not None:
        judged, _ = _read_labeled(test_data, known=known, label_map=label_map, part=True)
    _check_rows(train, alone=test_data is None, called="different texts")
    names = {example.target for example in train}
    strange = sorted({example.target for example in judged} - names)
    if strange or len(names) < 2:
        raise DataError(
            f"cannot compare on the labels {', '.join(sorted(names))}"
            f"{' and, of the test table, ' + ', '.join(strange) if strange else ''}: at least 2 "
            "labels, and in the test table none that the first lacks, are needed; correct the "
            "tables or name the column of the labels with `label_column`"
        )
    ordered = [name for name in known if name in names]
    labels = tuple(ordered if len(ordered) == len(names) else sorted(names))
    return Task("own/table", CLASSIFICATION, "", "", "meta-test", labels, train, judged)


def build_pair_task(data: Memory, test_data: Memory | None, *, languages: tuple[str, str]) -> Task:
    """Make a task of one or two memories.

    Raises:
        DataError: Too few pairs to learn from some and to judge by others, or one language.
    """
    check_pair(*languages)
    train = _read_pairs(data)
    judged = () if test_data is None else _read_pairs(test_data)
    _check_rows(train, alone=test_data is None, called="sentence pairs")
    return Task("own/pairs", TRANSLATION, join_pair(*languages), "", "meta-test", (), train, judged)


def check_budgets(labels: Sequence[int], task: Task) -> list[int]:
    """Keep the numbers of labels that leave enough rows to judge by.

    Raises:
        SettingsError: None is left.
        DataError: Too few rows of a second table.
    """
    if 0 < len(task.test) < LEAST_JUDGED:
        raise DataError(
            f"cannot judge by {len(task.test)} row: at least {LEAST_JUDGED} different ones are "
            "needed; give more as `test_data`, or leave it out to judge by a part of `data`"
        )
    rows = len(task.train)
    most = rows if task.test else rows - max(rows // JUDGED_SHARE, LEAST_JUDGED)
    kept = sorted({count for count in labels if count <= most})
    if not kept:
        raise SettingsError(
            f"cannot draw {min(labels)} labels of {rows} rows: at most {most} leave enough to "
            "judge by; lower `labels` or label more texts"
        )
    return kept


def _check_rows(train: Sequence[Example], *, alone: bool, called: str) -> None:
    if alone and len(train) < LEAST_ROWS:
        raise DataError(
            f"cannot compare on {len(train)} {called}: at least {LEAST_ROWS} are needed, so that "
            "some are left to judge by; give more, or others to judge by as `test_data`"
        )


def _read_labeled(
    table: LabeledTable, *, known: Sequence[str], label_map: LabelMap | None, part: bool = False
) -> tuple[tuple[Example, ...], LabelMatch]:
    """Different texts of a table, each with its first label; and what the labels mean."""
    match = match_labels(table.labels or (), known, label_map=label_map, part=part)
    places = first_by_key(table.texts).values()
    return tuple(Example(table.texts[p].strip(), match.labels[p]) for p in places), match


def _check_meaning(meta: str | None) -> Check:
    """What holds labels whose meaning is assumed against the start's answers."""

    def check(texts: Sequence[str], match: LabelMatch) -> tuple[str, ...]:
        if meta is None or not match.assumed:
            return ()
        return MetaModel.from_pretrained(meta).check_meaning(texts, match)

    return check


def _read_pairs(memory: Memory) -> tuple[Example, ...]:
    return tuple(Example(pair.source.strip(), pair.target.strip()) for pair in memory.pairs)


def _without_overlap(wanted: OwnComparison, task: Task) -> tuple[Task, LeakReport]:
    """Leave no row that judges nearly one that is learned from."""
    (task,), leaks = check_leaks((), (task,), overlap=wanted.overlap, threshold=OVERLAP_THRESHOLD)
    return task, leaks


def _tell_memory(whose: str, memory: Memory) -> tuple[str, ...]:
    """What was left out of a memory, and what is doubtful of the rest."""
    facts = describe_memory(memory)
    del facts["pairs"]
    return tuple(f"{whose}, {name}: {description}." for name, description in facts.items())


def read_start(
    meta: str | None, *, encoder: str
) -> tuple[tuple[str, ...], ModelSettings, Adaptation]:
    """Labels, backbone and adaptation of a start, or of plain LoRA on an encoder."""
    if meta is None:
        inner = InnerLoop(max(STEPS), LEARNING_RATES[0], "adam")
        return (), replace(PLAIN, model_name_or_path=encoder), Adaptation(inner, 16, True)
    _, record = find_model(meta, role=START, skill=CLASSIFICATION)
    how = Adaptation.of(record.adaptation[CLASSIFICATION])
    return tuple(record.labels), ModelSettings(**record.model), how


def _find_start(meta: str) -> Record:
    """The record of a start that learned from sentence pairs."""
    _, record = find_model(meta, role=START)
    if record.skills == (CLASSIFICATION,):
        raise MetaModelError(
            f"cannot compare translations from '{meta}': it learned labels alone and a start "
            "that learned from sentence pairs is needed; leave out `source_lang` and "
            "`target_lang`, or name another"
        )
    return record


def _check_metric(metric: str, skill: str) -> None:
    fitting: Sequence[str] = ANSWERS[skill].main_metrics
    if metric not in fitting:
        raise SettingsError(
            f"cannot compare translations by '{metric}': of this start one of "
            f"{', '.join(fitting)} is needed; change `metric`"
        )


def build_settings(
    wanted: OwnComparison,
    model: ModelSettings,
    how: Adaptation,
    budgets: list[int],
    *,
    folder: str,
    may_be_joint: bool = True,
) -> Comparison:
    """Write the config that a recipe would have for this comparison of labels.

    Args:
        may_be_joint: As for `name_methods`.
    """
    methods = name_methods(wanted, CLASSIFICATION, may_be_joint=may_be_joint)
    return Comparison(
        **_shared_sections(wanted, CLASSIFICATION, methods, budgets, folder=folder),
        model=replace(model, pooling="mean", head="shared"),
        adaptation=_plan_adaptation(wanted, how, budgets),
        rivals=RIVALS,
        prompting=wanted.prompting,
    )


def _finding_settings(
    wanted: OwnComparison, record: Record, budgets: list[int], *, folder: str
) -> RetrievalComparison:
    methods, how = name_methods(wanted, RETRIEVAL), Adaptation.of(record.adaptation[RETRIEVAL])
    return RetrievalComparison(
        **_shared_sections(wanted, RETRIEVAL, methods, budgets, folder=folder),
        retrieval=POOL,
        model=replace(read_settings(record, ModelSettings), pooling="mean"),
        adaptation=_plan_adaptation(wanted, how, budgets),
    )


def _writing_settings(
    wanted: OwnComparison, record: Record, budgets: list[int], *, folder: str
) -> GenerationComparison:
    methods, how = name_methods(wanted, GENERATION), Adaptation.of(record.adaptation[GENERATION])
    # Plain LoRA may take as many steps as the start was found to need, at its rate.
    adaptation = replace(
        _plan_adaptation(wanted, how, budgets),
        steps=[how.inner.steps],
        learning_rates=[how.inner.learning_rate],
    )
    return GenerationComparison(
        **_shared_sections(wanted, GENERATION, methods, budgets, folder=folder),
        model=read_settings(record, Seq2SeqSettings),
        adaptation=adaptation,
        prompting=replace(wanted.prompting, templates=[], scorings=[]),
        translation_prompting=WRITING,
    )


def _shared_sections(
    wanted: OwnComparison, skill: str, methods: dict[str, str], budgets: list[int], *, folder: str
) -> dict[str, Any]:
    """Sections that every comparison has: all rows that a draw leaves judge."""
    comparison = ComparisonSettings(
        title=wanted.title or _TITLES.get(skill, "Your sentence pairs"),
        metric=wanted.metric,
        ours=next((name for name in ("hybrid", "adapt") if name in methods), None),
        labels=budgets,
        draws=wanted.draws or max(DRAWS, _count_needed(methods)),
        max_query=None,
        overlap=wanted.overlap,
        overlap_threshold=OVERLAP_THRESHOLD,
        over_tasks=False,
        resamples=RESAMPLES,
        methods=methods,
        limits={},
    )
    run = RunSettings(
        wanted.seed, folder, None, "auto", 2048, None, [], resume=False, replace=wanted.replace
    )
    return {"skills": [skill], "data": NO_CARDS, "comparison": comparison, "run": run}


def _count_needed(methods: Mapping[str, str]) -> int:
    return count_needed_draws(max(1, len(methods) - 1), tasks=1)


def _tell_draws(settings: AnyComparison) -> None:
    """Say before the work how much of it there is, and whether that can show a difference."""
    plan = settings.comparison
    needed = _count_needed(plan.methods)
    enough = "enough" if plan.draws >= needed else f"too few, it takes {needed}"
    logger.info(
        "%d methods learn from %d draws of %s %s (%s to show a difference between methods)",
        len(plan.methods),
        plan.draws,
        join_names([str(count) for count in plan.labels]),
        "labels" if isinstance(settings, Comparison) else "pairs",
        enough,
    )


def doubt_judges(task: Task, leaks: LeakReport) -> list[str]:
    """Say what was left out for the rows that judge, and what these cannot tell."""
    left_out, count = leaks.excluded.get(task.name, {}).get("train", 0), len(task.test)
    labels = {example.target for example in task.test}
    doubts = []
    if left_out:
        doubts.append(
            f"{left_out} rows to learn from nearly repeat a row that judges, and are left out."
        )
    if 0 < count < _FEW_JUDGED:
        doubts.append(f"Only {count} rows judge: another {count} may give other scores.")
    if task.kind == CLASSIFICATION and len(labels) == 1:
        doubts.append(
            f"All rows that judge are labeled {min(labels)!r}: no score says how often another "
            "label is right."
        )
    return doubts


def _plan_adaptation(
    wanted: OwnComparison, how: Adaptation, budgets: list[int]
) -> AdaptationSettings:
    """Write the section `adaptation`: there is no episode of another task to choose by."""
    return AdaptationSettings(
        labels=max(budgets),
        draws=1,
        max_query=1,
        metric=wanted.metric,
        optimizer=how.inner.optimizer,
        batch_size=how.minibatch,
        anchor=how.inner.anchor,
        average=how.inner.average,
        early_stop=True,
        stack=1,
        steps=STEPS,
        learning_rates=LEARNING_RATES,
    )


def name_methods(wanted: OwnComparison, skill: str, *, may_be_joint: bool = True) -> dict[str, str]:
    """Lines of a config for the methods asked for; those without a start have their own names.

    Args:
        may_be_joint: Whether a jointly trained start can be given at all.

    Raises:
        SettingsError: One is unknown, or needs a start that was not given.
    """
    ours, table = OURS[skill], methods_of(skill)
    lines = {name: name for name, row in table.items() if not (row.folder or row.model)}
    if wanted.meta is not None:
        lines = {**{name: f"{row} {wanted.meta}" for name, row in ours.items()}, **lines}
    # What a joint start is worth as ours is adapted; where that is fine-tuning alone, `joint` is.
    joint = {f"joint_{name}": row for name, row in ours.items() if row != "start"}
    joint = {"joint": "joint", **joint} if may_be_joint else {}
    if wanted.joint is not None:
        lines |= {name: f"{row} {wanted.joint}" for name, row in joint.items()}
    if wanted.methods == ("all",):
        costly = {name for name, row in table.items() if row.costly}
        return {name: line for name, line in lines.items() if name not in costly}
    models = [name for name in wanted.methods if name.startswith(f"{READY}:")]
    if READY in table:
        lines |= {name: f"{READY} {name.removeprefix(f'{READY}:')}" for name in models}
    starts = {**dict.fromkeys(ours, "meta"), **dict.fromkeys(joint, "joint")}
    for name in wanted.methods:
        if name not in lines:
            missing = f" (it needs a start: `{starts[name]}`)" if name in starts else ""
            raise SettingsError(
                f"cannot compare the method '{name}'{missing}: one of {', '.join(lines)} is "
                "needed; change `methods`"
            )
    # A name is one of files too.
    return {re.sub(r"[^\w.-]+", "_", name): lines[name] for name in wanted.methods}
