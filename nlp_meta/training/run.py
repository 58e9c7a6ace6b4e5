"""A whole meta-training run: from settings and tasks to a start that tells of its training.

A run begins under Accelerate, as many processes as were asked for, with its trackers. What
the start tells of it is free of machine paths; its card reads it.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from torch import Tensor

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.episodes import Stream
from nlp_meta.data.mapped_rows import MappedRows
from nlp_meta.data.tasks import Example, Task
from nlp_meta.encoders.heads import ridge_parameters
from nlp_meta.errors import MissingPackageError, SettingsError
from nlp_meta.files.outputs import RUN_LOG, RUN_PAGE, Layout, check_file, check_folder
from nlp_meta.hub.data_cards import describe_data
from nlp_meta.hub.pull import source_of
from nlp_meta.hub.records import START, find_model
from nlp_meta.hub.storage import layout_of
from nlp_meta.meta.objective import Trial, Validation, by_skill
from nlp_meta.meta.outer_loop import Callback, MetaTrained, meta_train
from nlp_meta.meta.state import ROWS, Checkpoint, StepRecord, best_parameters, check_run_folder
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.skills import AnySettings
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.ngrams import NgramModel, fit_prior
from nlp_meta.report.runs import PAGE_SECONDS, Run, read_run, write_runs
from nlp_meta.settings import (
    AdaptationSettings,
    MetaTraining,
    ModelSettings,
    RunSettings,
    fingerprint,
)
from nlp_meta.training.diagnosis import tell_tasks
from nlp_meta.training.plan import (
    Objectives,
    begin,
    check_labels_known,
    check_plan,
    choose_tasks,
    examples_before,
    find_adaptation,
    judged_adaptation,
    judged_objectives,
    labels_of_head,
    plan_objectives,
    plan_outer_loop,
    plan_training,
    plan_validation,
)
from nlp_meta.training.pushes import with_pushes
from nlp_meta.training.trust import learn_trust, look_at_tasks


@dataclass(frozen=True, slots=True)
class Share:
    """This process among those that share a comparison's cells.

    Attributes:
        wait: Returns when every process has come so far.
    """

    rank: int = 0
    processes: int = 1
    wait: Callable[[], None] = lambda: None


def share_cells() -> Share:
    """Begin as one of the processes that were launched to share a comparison."""
    # The slowest share may take hours longer than the quickest.
    patient = InitProcessGroupKwargs(timeout=timedelta(days=1))
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[patient])
    return Share(
        accelerator.process_index, accelerator.num_processes, accelerator.wait_for_everyone
    )


def start_accelerator(run: RunSettings) -> Accelerator:
    """Begin as one of the processes that were launched.

    Raises:
        SettingsError: Fewer processes run than were asked for, or a tracker is unknown.
        MissingPackageError: A tracker is not installed.
        OutputError: `run.output_dir` holds a run that goes on or would be lost.
    """
    check_run_folder(Path(run.output_dir), resume=run.resume, replace=run.replace)
    check_trackers(run.report_to)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        log_with=run.report_to or None,
        project_dir=run.output_dir,
    )
    # `accelerate launch --cpu --num_processes 2` names a master port and starts one process.
    alone = "MASTER_PORT" in os.environ and "WORLD_SIZE" not in os.environ
    wanted = run.num_processes or accelerator.num_processes
    if alone or accelerator.num_processes != wanted:
        asked = "several" if alone else str(wanted)
        raise SettingsError(
            f"cannot train: {asked} processes were asked for and {accelerator.num_processes} "
            "started; as many as asked for are needed; on CPUs launch with "
            "`ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 recipes/meta_train.py ...` or "
            "change `run.num_processes`"
        )
    return accelerator


def check_trackers(names: Sequence[str]) -> None:
    """Stop where Accelerate would leave a tracker out without a word.

    Raises:
        SettingsError: It does not know the name.
        MissingPackageError: The tracker is not installed.
    """
    known = [*LOGGER_TYPE_TO_CLASS, "all"]
    there = [*map(str, get_available_trackers()), "all"]
    for name in names:
        if name not in known:
            raise SettingsError(
                f"cannot report to '{name}': one of {', '.join(known)} is needed; change "
                "`run.report_to`"
            )
        if name not in there:
            raise MissingPackageError(
                f"cannot report to '{name}': its package, not installed here, is needed; install "
                f"it with `pip install {name}`, or change `run.report_to`"
            )


def check_run_output(run: RunSettings, layout: Layout) -> None:
    """Stop before the work where what a run writes would replace what is not its own.

    Raises:
        OutputError: Names what is in the way.
    """
    inputs = [] if run.init_from is None else [Path(run.init_from)]
    folder, replace = Path(run.output_dir), run.replace
    check_folder(folder, layout, inputs=inputs, replace=replace, argument="run.output_dir")
    if RUN_PAGE in layout.run:
        page, known = folder / RUN_PAGE, replace or run.resume
        check_file(page, inputs=inputs, replace=known, argument="run.output_dir")


def hash_rows(tasks: Sequence[Task]) -> dict[str, str]:
    """Hash of the rows of each task, as a run's fingerprint names them."""
    return {
        f"{ROWS}{task.name}": hashlib.sha256(
            json.dumps([_rows_of(task.train), _rows_of(task.test)]).encode()
        ).hexdigest()[:16]
        for task in tasks
    }


def _rows_of(rows: Sequence[Example]) -> str | list[dict[str, Any]]:
    """The rows themselves; of rows on disk what changes with them."""
    return rows.fingerprint if isinstance(rows, MappedRows) else [asdict(row) for row in rows]


def with_trackers(
    accelerator: Accelerator, on_step: Callable[[StepRecord], None] | None
) -> Callable[[StepRecord], None]:
    """Give each outer step to the trackers of `run.report_to`, then to `on_step`."""

    def report(record: StepRecord) -> None:
        # Not before the first step: a run that fails earlier must leave nothing behind.
        if accelerator.log_with and not accelerator.trackers:
            accelerator.init_trackers("nlp_meta")
        values = asdict(record)
        skills = values.pop("skills")
        values |= {f"{skill}.{name}": v for skill, its in skills.items() for name, v in its.items()}
        metrics = {name: value for name, value in values.items() if value is not None}
        accelerator.log(metrics, step=record.step)
        if on_step:
            on_step(record)

    return report


class _Page(Callback):
    """The page of a run: written at judgements, at the end, and twice a minute between them."""

    def __init__(
        self, settings: MetaTraining, accelerator: Accelerator, seen: int, unseen: int
    ) -> None:
        self._writes = accelerator.is_main_process
        self._folder, self._steps = Path(settings.run.output_dir), settings.outer.steps
        self._facts = {"tasks": f"{seen} seen, {unseen} unseen"}
        self._written, self._records = time.monotonic(), list[Mapping[str, Any]]()

    def on_outer_step(self, record: StepRecord) -> None:
        if not self._writes:
            return
        # The log of a run that goes on has what came before.
        self._records += [asdict(record)] if self._records else read_run(self._folder).records
        due = time.monotonic() - self._written > PAGE_SECONDS
        if due or record.score is not None or record.step >= self._steps:
            run = Run(self._folder.name, self._records, steps=self._steps, facts=self._facts)
            live = record.step < self._steps
            write_runs(self._folder / RUN_PAGE, [run], live=live, replace=True)
            self._written = time.monotonic()


_ELSEWHERE = ("skills", "run", "model", "hub")
"""Sections of a config that a record keeps elsewhere, or not at all."""


def describe_run(
    settings: MetaTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    ended: MetaTrained,
    trials: Mapping[str, Sequence[Trial]],
) -> dict[str, object]:
    """Settings, tasks with their licenses, results, time and hardware of a finished run."""
    reached = {name: getattr(ended, name) for name in ("best_step", "best_score", "examples")}
    chosen = {
        "trials" if skill == CLASSIFICATION else f"{skill}_trials": list(map(asdict, of_skill))
        for skill, of_skill in trials.items()
    }
    return _describe(settings, train, validation, steps=ended.step, reached=reached) | chosen


def describe_draft(
    settings: MetaTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    checkpoint: Checkpoint,
) -> dict[str, object]:
    """The same of a run that has come to a checkpoint."""
    steps, reached = checkpoint.step, checkpoint.record
    known = _describe(settings, train, validation, steps=steps, reached=reached)
    return known | {"unfinished": True, "trials": []}


def describe_hardware() -> str:
    """Devices, cores and threads of this machine."""
    devices = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    cpu = f"{os.cpu_count()} CPU cores ({torch.backends.cpu.get_cpu_capability()})"
    return ", ".join([*devices, cpu, f"{torch.get_num_threads()} threads a process"])


def _describe(
    settings: MetaTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    *,
    steps: int,
    reached: Mapping[str, Any],
) -> dict[str, object]:
    # Folders of the machine that trained are no part of what a model is.
    names = [Path(card).stem if card.endswith(".md") else card for card in settings.data.cards]
    blocks = asdict(replace(settings, data=replace(settings.data, root=None, cards=names)))
    tasks = {
        "meta_train": [task.name for task in train],
        "meta_validation": [task.name for task in validation],
    }
    return {
        "settings": {name: block for name, block in blocks.items() if name not in _ELSEWHERE},
        "seed": settings.run.seed,
        **tasks,
        "data": describe_data(settings.data.cards, tasks),
        "seconds": _seconds(Path(settings.run.output_dir) / RUN_LOG, steps=steps),
        "hardware": describe_hardware(),
        "outer_steps": steps,
        "best_step": reached["best_step"],
        "best_score": reached["best_score"],
        "examples": reached["examples"] + examples_before(settings.run.init_from),
        "init_from": _find_start(settings.run.init_from),
    }


def _find_start(init_from: str | None) -> Mapping[str, Any] | None:
    """What a run went on from: its place on the Hub if it has one, and all tasks seen so far."""
    if init_from is None:
        return None
    folder, record = find_model(init_from, role=START)
    source = source_of(init_from, folder)
    place = {"name": None, "commit": None} if source is None else asdict(source)
    last, earlier = record.provenance, record.provenance.get("init_from") or {}
    return place | {
        use: list(dict.fromkeys([*last.get(use, ()), *earlier.get(use, ())]))
        for use in ("meta_train", "meta_validation")
    }


def _seconds(log: Path, *, steps: int) -> float | None:
    """Time of all outer steps, those before a resumption too; None where some left no line."""
    lines = log.read_bytes().splitlines() if log.is_file() else []
    try:
        seconds = [float(json.loads(line)["seconds"]) for line in lines]
    except (ValueError, KeyError, TypeError):
        return None
    return sum(seconds) if len(seconds) == steps else None


def train_meta_model(
    settings: MetaTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    *,
    accelerator: Accelerator,
    on_step: Callable[[StepRecord], None] | None = None,
    callbacks: Sequence[Callback] = (),
    labels: Sequence[str] | None = None,
    stream: Stream | None = None,
) -> tuple[MetaModel | None, MetaTrained]:
    """Meta-train, then find the defaults of users' adaptation on the validation tasks.

    Tasks that no skill of the run learns from are left out.

    Args:
        on_step: Called on every process after each outer step.
        callbacks: Called after each outer step, judgement and checkpoint.
        labels: In the order of the logits, those of `train` among them; None takes just those.
        stream: Episodes to train on, in place of those that `train` and the settings give.

    Returns:
        The start, None where a signal ended the run; and how the run ended.
    """
    train, validation = _check_and_choose(settings, train, validation, labels)
    objectives = plan_objectives(
        settings, labels=labels or labels_of_head(settings.model, train), device=accelerator.device
    )
    judge = plan_validation(settings, judged := judged_objectives(objectives), validation)
    drafts = _drafts(settings, objectives, train, validation)
    pushes = with_pushes(settings, accelerator, drafts, on_step)
    ended = meta_train(
        plan_training(settings, objectives, train, stream=stream),
        begin(objectives, settings),
        outer=plan_outer_loop(settings.outer),
        validation=judge,
        accelerator=accelerator,
        folder=Path(settings.run.output_dir),
        fingerprint={**fingerprint(settings), **hash_rows([*train, *validation])},
        resume=settings.run.resume,
        replace=settings.run.replace,
        on_step=with_trackers(accelerator, pushes),
        callbacks=(_Page(settings, accelerator, len(train), len(validation)), *callbacks),
    )
    if ended.interrupted:
        return None, ended
    adaptations, trials = _find_adaptations(judged, ended, judge, settings.adaptation)
    provenance = describe_run(settings, train, validation, ended, trials)
    companion = _fit_companion(settings, objectives, train)
    saved = _without_rows(settings.model, objectives, ended.meta_parameters)
    unseen = [task for task in validation if task.name not in {one.name for one in train}]
    trusted = _with_trust(adaptations, *saved[:2], settings, unseen, companion)
    return MetaModel(*saved, trusted, provenance, companion), ended


def _without_rows(
    model: AnySettings, objectives: Objectives, weights: Mapping[str, Tensor]
) -> tuple[Objectives, Mapping[str, Tensor], AnySettings]:
    """What a start is made of: rows that belong to single tasks answer no new one, and go."""
    if not isinstance(model, ModelSettings) or model.head != "per_task":
        return objectives, weights, model
    last = objectives[CLASSIFICATION].plan.head[-1] + "."
    kept = {name: value for name, value in weights.items() if not name.startswith(last)}
    kept |= ridge_parameters(device=next(iter(kept.values())).device)
    return judged_objectives(objectives), kept, replace(model, head="ridge")


def _check_and_choose(
    settings: MetaTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    labels: Sequence[str] | None,
) -> tuple[Sequence[Task], Sequence[Task]]:
    """Stop before the work where it could not end well; the tasks that the skills learn from."""
    check_plan(settings)
    check_run_output(settings.run, layout_of(START, settings.skills))
    train = choose_tasks(train, settings.skills)
    validation = choose_tasks(validation, settings.skills)
    check_labels_known(settings, labels or labels_of_head(settings.model, train), validation)
    tell_tasks(train)
    return train, validation


def _find_adaptations(
    objectives: Objectives, ended: MetaTrained, judge: Validation, settings: AdaptationSettings
) -> tuple[dict[str, Adaptation], dict[str, Sequence[Trial]]]:
    """By skill, the adaptation that scored best and all that were tried.

    Where there is one to choose from, and one skill, training has judged by it already.
    """
    adaptations: dict[str, Adaptation] = {}
    trials: dict[str, Sequence[Trial]] = {}
    sizes = {len(settings.steps), len(settings.learning_rates), len(objectives)}
    for skill, episodes in by_skill(judge.episodes).items():
        inner = judge.inner
        if sizes == {1} and ended.best_score is not None:
            trials[skill] = (Trial(inner.steps, inner.learning_rate, ended.best_score),)
        else:
            inner, trials[skill] = find_adaptation(
                objectives[skill],
                ended.meta_parameters,
                episodes,
                settings,
                metric=judge.metrics[skill],
            )
        adaptations[skill] = replace(judged_adaptation(settings), inner=inner)
    return adaptations, trials


def _with_trust(
    adaptations: Mapping[str, Adaptation],
    objectives: Objectives,
    weights: Mapping[str, Tensor],
    settings: MetaTraining,
    tasks: Sequence[Task],
    companion: NgramModel | None,
) -> Mapping[str, Adaptation]:
    """Beside each other default, how far a head may trust the views of a text.

    Args:
        tasks: Of meta-validation, and not trained on: without any, a start keeps the numbers of
            the one that it went on from.
    """
    objective = objectives.get(CLASSIFICATION)
    if not isinstance(objective, Classification):
        return adaptations
    labeled = [task for task in tasks if task.kind == CLASSIFICATION]
    if labeled:
        seed = settings.run.seed
        pools = look_at_tasks(objective, weights, labeled, prior=companion, seed=seed)
        trust = learn_trust(pools, seed=seed)
    elif settings.run.init_from is None:
        return adaptations
    else:
        _, record = find_model(settings.run.init_from, role=START)
        trust = record.adaptation.get(CLASSIFICATION, {}).get("trust")
    how = replace(adaptations[CLASSIFICATION], trust=trust)
    return {**adaptations, CLASSIFICATION: how}


def _fit_companion(
    settings: MetaTraining, objectives: Objectives, train: Sequence[Task]
) -> NgramModel | None:
    """N-grams of the labeled tasks, from which those of a new domain start.

    Where each episode has labels of its own, n-grams have none to speak for.
    """
    objective = objectives.get(CLASSIFICATION)
    labeled = [task for task in train if task.kind == CLASSIFICATION]
    if not isinstance(objective, Classification) or objective.head in ("ridge", "per_task"):
        return None
    if not labeled or settings.episode.ways:
        return None
    return fit_prior(labeled, objective.labels, seed=settings.run.seed)


def _drafts(
    settings: MetaTraining,
    objectives: Objectives,
    train: Sequence[Task],
    validation: Sequence[Task],
) -> Callable[[Checkpoint, Path], None]:
    """Give a function that saves what a checkpoint holds as a start, to be looked at.

    Its adaptation is the one that the run is judged by: the best is found at the end only.
    """
    adaptations: Mapping[str, Adaptation] = {
        skill: judged_adaptation(settings.adaptation) for skill in objectives
    }

    def save(checkpoint: Checkpoint, folder: Path) -> None:
        provenance = describe_draft(settings, train, validation, checkpoint)
        saved = _without_rows(settings.model, objectives, best_parameters(checkpoint))
        MetaModel(*saved, adaptations, provenance).save_pretrained(folder)

    return save
