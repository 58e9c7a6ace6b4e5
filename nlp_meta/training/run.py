"""A whole meta-training run: from settings and tasks to a meta-model."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.episodes import RETRIEVAL, Episode, Stream
from nlp_meta.data.tasks import Task, load_tasks
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.meta.choice import Trial, choose_adaptation
from nlp_meta.meta.deviations import drop_deviations
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.meta.objective import Metric, Objective, Validation, by_skill
from nlp_meta.meta.outer_loop import MetaTrained, meta_train
from nlp_meta.meta.schedule import OuterLoop
from nlp_meta.meta.state import Checkpoint, StepRecord, best_parameters
from nlp_meta.models.adaptation import build_objective
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.retrieval import AlignmentMetaModel, describe_defaults
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.ngrams import fit_prior
from nlp_meta.objectives.retrieval import TEMPERATURE, Retrieval
from nlp_meta.settings import AdaptationSettings, DataSettings, MetaTraining, fingerprint
from nlp_meta.training.launch import with_trackers
from nlp_meta.training.plan import (
    Objectives,
    build_objectives,
    build_training,
    build_validation,
    check_skills,
    choose_tasks,
    find_metrics,
    judged_inner,
    validation_episodes,
)
from nlp_meta.training.provenance import describe_draft, describe_run
from nlp_meta.training.pushes import with_pushes
from nlp_meta.training.start import begin

Found = dict[str, tuple[InnerLoop, tuple[Trial, ...]]]
"""By skill, the adaptation that was found best and all that were tried."""


def train_meta_model(
    settings: MetaTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    *,
    accelerator: Accelerator,
    on_step: Callable[[StepRecord], None] | None = None,
    labels: Sequence[str] | None = None,
    stream: Stream | None = None,
) -> tuple[MetaModel | AlignmentMetaModel | None, MetaTrained]:
    """Meta-train, then find the defaults of users' adaptation on the validation tasks.

    Tasks that no skill of the run learns from are left out.

    Args:
        labels: In the order of the logits, those of `train` among them; None takes just those.
        stream: Episodes to train on, in place of those that `train` and the settings give.

    Returns:
        The meta-model, of translation alone an alignment meta-model, None where a signal
        ended the run; and how the run ended.
    """
    check_skills(settings.episode)
    train = choose_tasks(train, settings.episode.shares)
    validation = choose_tasks(validation, settings.episode.shares)
    objectives = build_objectives(
        settings, labels=labels or union_of_labels(train), device=accelerator.device
    )
    judge = build_validation(
        settings.adaptation, validation_episodes(validation, settings.adaptation)
    )
    draft = _drafts(settings, objectives, train, validation)
    on_step = with_pushes(settings, accelerator, draft, on_step)
    ended = meta_train(
        build_training(settings, objectives, train, stream=stream),
        begin(objectives, settings, tasks=[task.name for task in train]),
        outer=_outer_loop(settings),
        validation=judge,
        accelerator=accelerator,
        folder=Path(settings.run.output_dir),
        fingerprint=fingerprint(settings),
        resume=settings.run.resume,
        on_step=with_trackers(accelerator, on_step),
    )
    if ended.interrupted:
        return None, ended
    found = _find_adaptations(objectives, ended.meta_parameters, judge, settings.adaptation)
    trials = {skill: tried for skill, (_, tried) in found.items()}
    told = describe_run(settings, train, validation, ended, trials)
    return _build_model(settings, objectives, ended.meta_parameters, found, told, train), ended


def _find_adaptations(
    objectives: Objectives,
    meta_parameters: dict[str, Tensor],
    judge: Validation,
    adaptation: AdaptationSettings,
) -> Found:
    return {
        skill: find_adaptation(
            objectives[skill], meta_parameters, some, adaptation, metric=judge.metrics[skill]
        )
        for skill, some in by_skill(judge.episodes).items()
    }


def _build_model(
    settings: MetaTraining,
    objectives: Objectives,
    weights: dict[str, Tensor],
    found: Found,
    provenance: dict[str, object],
    train: Sequence[Task],
) -> MetaModel | AlignmentMetaModel | None:
    """Put together what users hold; without n-grams where no tasks are given to fit them on."""
    labeled = [task for task in train if task.kind == CLASSIFICATION]
    adaptation = settings.adaptation
    minibatch, early_stop = adaptation.batch_size, adaptation.early_stop
    retrieval, classification = objectives.get(RETRIEVAL), objectives.get(CLASSIFICATION)
    aligning = None
    if isinstance(retrieval, Retrieval):
        inner, _ = found[RETRIEVAL]
        aligning = AlignmentMetaModel(
            retrieval, weights, settings.model, inner, minibatch, early_stop, provenance
        )
    if not isinstance(classification, Classification):
        return aligning
    return MetaModel(
        classification,
        {name: value for name, value in weights.items() if name != TEMPERATURE},
        settings.model,
        found[CLASSIFICATION][0],
        minibatch,
        early_stop,
        provenance,
        companion=fit_prior(labeled, classification.labels, seed=settings.run.seed)
        if labeled
        else None,
        translation=None if aligning is None else describe_defaults(aligning),
    )


def _drafts(
    settings: MetaTraining,
    objectives: Objectives,
    train: Sequence[Task],
    validation: Sequence[Task],
) -> Callable[[Checkpoint, Path], None]:
    """Give a function that saves what a checkpoint holds as a meta-model, to be looked at.

    Its adaptation is the one that the run is judged by: the best is found at the end only.
    """

    def save(checkpoint: Checkpoint, folder: Path) -> None:
        found: Found = {skill: (judged_inner(settings.adaptation), ()) for skill in objectives}
        weights = drop_deviations(best_parameters(checkpoint))
        told = describe_draft(settings, train, validation, checkpoint)
        model = _build_model(settings, objectives, weights, found, told, ())
        if model is not None:
            model.save_pretrained(folder)

    return save


def load_splits(data: DataSettings, *meta_splits: str) -> list[tuple[Task, ...]]:
    """Tasks of each meta-split named, as the section `data` of a config places them."""
    return [
        load_tasks(
            data.cards,
            meta_split=meta_split,
            data_root=data.root,
            source=data.source,
            splits=data.splits,
            exclude=data.exclude,
        )
        for meta_split in meta_splits
    ]


def build_training_objective(
    settings: MetaTraining, *, labels: Sequence[str], device: torch.device | None = None
) -> Classification:
    """The backbone, adapter and labels of a run."""
    return build_objective(
        settings.model,
        labels=labels,
        device=device,
        precision=settings.run.mixed_precision,
        batch_tokens=settings.run.batch_tokens,
    )


def union_of_labels(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Every label of the tasks, in the order in which they first appear in the longest set."""
    ordered = sorted(tasks, key=lambda task: -len(task.labels))
    return tuple(dict.fromkeys(label for task in ordered for label in task.labels))


def find_adaptation(
    objective: Objective,
    meta_parameters: dict[str, Tensor],
    episodes: Sequence[Episode],
    adaptation: AdaptationSettings,
    *,
    metric: Metric | None = None,
) -> tuple[InnerLoop, tuple[Trial, ...]]:
    """Choose steps and rate on episodes of the meta-validation tasks, all of one skill.

    Args:
        metric: In place of the one that `adaptation` names.
    """
    (skill,) = {episode.skill for episode in episodes}
    return choose_adaptation(
        objective,
        meta_parameters,
        episodes,
        inner=judged_inner(adaptation),
        minibatch=adaptation.batch_size,
        steps=adaptation.steps,
        learning_rates=adaptation.learning_rates,
        stack=adaptation.stack,
        metric=metric or find_metrics(adaptation.metric, {skill})[skill],
    )


def episode_metric(name: str) -> Metric:
    """A metric of any skill as a function of an episode and its answers.

    Raises:
        SettingsError: There is none of that name.
    """
    return episode_scorer(name, setting="adaptation.metric")


def _outer_loop(settings: MetaTraining) -> OuterLoop:
    values = asdict(settings.outer)
    del values["algorithm"], values["deviation_r"]
    return OuterLoop(**values)
