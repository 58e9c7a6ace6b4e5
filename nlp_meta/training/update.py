"""Continual meta-training: a meta-model goes on with new domains, and old ones are replayed.

The settings of its training are in its record. Old and new domains are judged before and
after: both meta-models adapt to the same support sets and answer the same held-out rows,
so that what was forgotten, and what was gained, has an interval.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.episodes import ROWS
from nlp_meta.data.tasks import Task
from nlp_meta.errors import MetaModelError, SettingsError
from nlp_meta.evaluation.judged import Judged
from nlp_meta.evaluation.pairing import Paired, paired_difference
from nlp_meta.evaluation.protocol import judge, row_key
from nlp_meta.evaluation.statistics import Interval, resampled_interval
from nlp_meta.hub.records import START, Record, find_model
from nlp_meta.meta.state import StepRecord
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.rivals.fine_tune import fine_tune
from nlp_meta.settings import (
    AdaptationSettings,
    DataSettings,
    EpisodeSettings,
    HubSettings,
    InnerSettings,
    MetaTraining,
    ModelSettings,
    OuterSettings,
    RunSettings,
)
from nlp_meta.training.plan import plan_stream, validation_episodes
from nlp_meta.training.replay import ADDED, Recalled, drop_judged, make_task, mix_streams, recall
from nlp_meta.training.run import train_meta_model

RESAMPLES, LEVEL = 1000, 0.95


@dataclass(frozen=True, slots=True)
class DomainChange:
    """What an update did to one domain.

    Attributes:
        added: New in this update.
        rows: Held-out rows it was judged by, in each draw.
        difference: After minus before, on the same support sets and rows.
    """

    task: str
    added: bool
    rows: int
    before: Interval
    after: Interval
    difference: Paired

    @property
    def forgotten(self) -> bool:
        """An old domain is worse, beyond the interval."""
        return not self.added and self.difference.high < 0


@dataclass(frozen=True, slots=True)
class Forgetting:
    """All domains that could be judged, old ones first.

    Attributes:
        old: The old ones together; None where there is none.
    """

    old: Paired | None
    domains: tuple[DomainChange, ...]


def measure_forgetting(
    before: MetaModel,
    after: MetaModel,
    *,
    old: Sequence[Task],
    new: Sequence[Task],
    adaptation: AdaptationSettings,
) -> Forgetting:
    """Judge two meta-models on the test rows of each task with labels.

    Args:
        adaptation: Draws, labels and metric; tasks with fewer rows are given fewer labels.
    """
    metric = adaptation.metric
    changes: list[DomainChange] = []
    first: list[Judged] = []
    second: list[Judged] = []
    for added, tasks in ((False, old), (True, new)):
        for task in tasks:
            if task.kind != CLASSIFICATION or len({row_key(one.source) for one in task.test}) < 2:
                continue
            one, other = (_judge(model, task, adaptation) for model in (before, after))
            if not added:
                first += one
                second += other
            scores = _interval(one, metric), _interval(other, metric)
            rows, difference = len(one[0].rows), _pair(other, one, metric)
            changes.append(DomainChange(task.name, added, rows, *scores, difference))
    return Forgetting(_pair(second, first, metric) if first else None, tuple(changes))


def _judge(model: MetaModel, task: Task, adaptation: AdaptationSettings) -> list[Judged]:
    # Draws of nearly all rows would be one and the same.
    labels = min(adaptation.labels, 3 * len(task.train) // 4)
    how = model.adaptation[CLASSIFICATION]
    rival = fine_tune(
        model.objectives[CLASSIFICATION],
        model.start_of(CLASSIFICATION),
        inner=how.inner,
        minibatch=how.minibatch,
    )
    return [
        Judged(
            task.name,
            episode.index,
            task.labels,
            tuple(row_key(one.source) for one in episode.query),
            tuple(one.target for one in episode.query),
            judge(rival, episode, method="meta-model").answers,
        )
        for episode in validation_episodes(
            [task], replace(adaptation, labels=labels), (CLASSIFICATION,)
        )
    ]


def _interval(judged: Sequence[Judged], metric: str) -> Interval:
    return resampled_interval(
        judged, metric, over_tasks=False, level=LEVEL, resamples=RESAMPLES, seed=0
    )


def _pair(after: Sequence[Judged], before: Sequence[Judged], metric: str) -> Paired:
    return paired_difference(
        after, before, metric, over_tasks=False, level=LEVEL, resamples=RESAMPLES, seed=0
    )


STEPS_SHARE = 4
"""An update takes one outer step for so many of the first training, unless told otherwise."""

_Section = TypeVar("_Section")


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """One update.

    Attributes:
        replayed: Old tasks that took part in training.
        missing: Why old tasks could not be replayed or judged, by name.
        old: All old domains together; None where none could be judged.
        domains: Old ones, then new ones.
    """

    metric: str
    draws: int
    steps: int
    replay: float
    replayed: tuple[str, ...]
    missing: Mapping[str, str]
    old: Paired | None
    domains: tuple[DomainChange, ...]
    seconds: float

    @property
    def forgotten(self) -> tuple[str, ...]:
        """Old domains that are worse, beyond the interval."""
        return tuple(one.task for one in self.domains if one.forgotten)


def update_meta_model(
    name_or_path: str | Path,
    added: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    *,
    steps: int | None = None,
    replay: float = 0.5,
    label_map: Mapping[str, str] | None = None,
    data_root: str | None = None,
    seed: int = 0,
    on_step: Callable[[StepRecord], None] | None = None,
) -> tuple[MetaModel, UpdateReport]:
    """Go on with the meta-training of a saved meta-model.

    Args:
        added: Texts and labels of each new domain, by its name.
        steps: Outer steps; None takes a quarter of those of the first training.
        replay: Share of the episodes that old tasks give.
        data_root: Folder of the old tasks' files; None takes the environment's NLP_META_DATA.

    Returns:
        The new meta-model, whose record holds the report, and the report.

    Raises:
        MetaModelError: There is no meta-model, or its record does not say how it was trained.
        SettingsError: Nothing is left to replay, or `replay` is not from 0 to below 1.
        LabelError: A new domain has labels that the meta-model's head does not know.
    """
    began = time.monotonic()
    if not (added and 0 <= replay < 1):
        raise SettingsError(
            f"cannot update with {len(added)} new domains and a replay of {replay}: at least one "
            "domain and a share from 0 to below 1 are needed; change `added` or `replay`"
        )
    _, record = find_model(str(name_or_path), role=START, skill=CLASSIFICATION)
    settings = _read_settings(record, name_or_path, data_root=data_root, steps=steps, seed=seed)
    model = MetaModel.from_pretrained(name_or_path)
    shared = model.encoder_settings.head == "shared"
    new = [
        make_task(name, *pairs, known=model.labels, shared=shared, label_map=label_map)
        for name, pairs in added.items()
    ]
    plan = _plan(settings, record, new, replay=replay)
    after = _train(settings, model, plan, on_step=on_step)
    report = _report(settings, model, after, plan, began=began)
    return replace(after, provenance=_provenance(record, after, plan, report)), report


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is trained on and judged by; `old` is in the record and here."""

    new: Sequence[Task]
    old: Sequence[Task]
    validation: Sequence[Task]
    missing: Mapping[str, str]
    cards: Sequence[str]
    replay: float


def _plan(settings: MetaTraining, record: Record, new: Sequence[Task], *, replay: float) -> _Plan:
    trained, judged = record.provenance["meta_train"], record.provenance["meta_validation"]
    again = {task.name for task in new}
    names = [name for name in (*trained, *judged) if name not in again]
    fewest = settings.episode.shot + settings.episode.query_shot
    found: Recalled = recall(settings.data, names, fewest=fewest)
    old = [found.tasks[name] for name in trained if name in found.tasks]
    skills = set(settings.skills) if replay else {CLASSIFICATION}
    kinds = {task.kind for task in old}
    lost = {skill for skill in skills if ROWS[skill] not in kinds}
    if replay and lost:
        reason = next(iter(found.missing.values()), "the record names none").rstrip(".")
        raise SettingsError(
            f"cannot replay old tasks for {', '.join(sorted(lost))}: none of "
            f"{len(trained)} is here ({reason}); the data of at least one are needed; name their "
            "folder with `data_root`, or go on without them with `replay=0`"
        )
    old, new = (drop_judged(some, judged=[*found.tasks.values(), *new]) for some in (old, new))
    validation = [found.tasks[name] for name in judged if name in found.tasks]
    return _Plan(new, old, validation or [*old, *new], found.missing, found.cards, replay)


def _train(
    settings: MetaTraining,
    model: MetaModel,
    plan: _Plan,
    *,
    on_step: Callable[[StepRecord], None] | None,
) -> MetaModel:
    replayed = plan_stream(settings, plan.old) if plan.replay else None
    stream = mix_streams(
        plan.new, replayed, replay=plan.replay, episode=settings.episode, seed=settings.run.seed
    )
    train = [*(plan.old if plan.replay else ()), *plan.new]
    labels = dict.fromkeys((*model.labels, *(label for one in plan.new for label in one.labels)))
    least = min(len(task.train) // (1 if task.test else 2) for task in plan.validation)
    adaptation = replace(settings.adaptation, labels=min(settings.adaptation.labels, least))
    with tempfile.TemporaryDirectory() as folder:
        run = replace(settings.run, output_dir=folder)
        data = replace(settings.data, cards=list(plan.cards))
        after, _ = train_meta_model(
            replace(settings, run=run, data=data, adaptation=adaptation),
            train,
            plan.validation,
            accelerator=Accelerator(cpu=not torch.cuda.is_available()),
            on_step=on_step,
            labels=tuple(labels),
            stream=stream,
        )
    if after is None:
        raise KeyboardInterrupt
    # N-grams of the tasks that are here would forget those of the others.
    whole = plan.replay and not plan.missing
    return after if whole or model.companion is None else replace(after, companion=model.companion)


def _report(
    settings: MetaTraining, before: MetaModel, after: MetaModel, plan: _Plan, *, began: float
) -> UpdateReport:
    adaptation = settings.adaptation
    found = measure_forgetting(before, after, old=plan.old, new=plan.new, adaptation=adaptation)
    return UpdateReport(
        metric=adaptation.metric,
        draws=adaptation.draws,
        steps=settings.outer.steps,
        replay=plan.replay,
        replayed=tuple(task.name for task in plan.old) if plan.replay else (),
        missing=plan.missing,
        old=found.old,
        domains=found.domains,
        seconds=time.monotonic() - began,
    )


def _provenance(
    record: Record, after: MetaModel, plan: _Plan, report: UpdateReport
) -> dict[str, Any]:
    """The first training's settings stay, so that a later update goes on from them too."""
    first, ran = record.provenance, after.provenance
    names = [*first["meta_train"], *(task.name for task in plan.new)]
    told = {
        **asdict(report),
        # Reasons name folders of this machine.
        "missing": list(report.missing),
        "forgotten": list(report.forgotten),
        "added": [{"task": task.name, "rows": len(task.train)} for task in plan.new],
        "outer_steps": ran["outer_steps"],
        "best_score": ran["best_score"],
    }
    return {
        **first,
        "meta_train": list(dict.fromkeys(names)),
        "data": [*(first.get("data") or ()), *(_describe_table(task) for task in plan.new)],
        "examples": ran["examples"],
        "trials": ran["trials"],
        "updates": [*first.get("updates", []), told],
    }


def _describe_table(task: Task) -> dict[str, Any]:
    """An entry as a card has one; what a user's own table may be used for is not stated."""
    own = {"name": task.name, "language": task.language, "domain": task.domain, "config": None}
    return {
        "card": ADDED,
        "pretty_name": f"a table of one's own, '{task.domain}'",
        "license": "unknown",
        "hub": None,
        "tasks": [{**own, "use": "meta_train"}],
    }


def _read_settings(
    record: Record,
    name: str | Path,
    *,
    data_root: str | None,
    steps: int | None,
    seed: int,
) -> MetaTraining:
    """The settings of the first training, for an update."""
    try:
        own = record.provenance["settings"]
        outer = _section(OuterSettings, own, "outer")
        steps = steps or max(1, outer.steps // STEPS_SHARE)
        return MetaTraining(
            skills=list(record.skills),
            data=replace(_section(DataSettings, own, "data"), root=data_root),
            episode=_section(EpisodeSettings, own, "episode"),
            model=ModelSettings(**record.model),
            inner=_section(InnerSettings, own, "inner"),
            outer=replace(
                outer,
                steps=steps,
                warmup_steps=min(outer.warmup_steps, steps // 10),
                validate_every=min(outer.validate_every, steps),
                checkpoint_every=steps,
                average_last=min(outer.average_last, steps),
                patience=None,
            ),
            adaptation=_section(AdaptationSettings, own, "adaptation"),
            run=RunSettings(seed, "", str(name), "auto", 2048, None, [], resume=False),
            hub=HubSettings(False, None, None, None, None, "end", None),
        )
    except (KeyError, TypeError) as error:
        raise MetaModelError(
            f"cannot go on with the training of '{name}': its record lacks {error} and the "
            "settings of a training by this package are needed; train it with a recipe"
        ) from error


def _section(kind: type[_Section], own: Mapping[str, Any], name: str) -> _Section:
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in own[name].items() if key in known})
