"""A whole meta-training run: from settings and tasks to a meta-model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.episodes import Stream
from nlp_meta.data.tasks import Task
from nlp_meta.meta.choice import Trial
from nlp_meta.meta.objective import Validation, by_skill
from nlp_meta.meta.outer_loop import MetaTrained, meta_train
from nlp_meta.meta.state import Checkpoint, StepRecord, best_parameters
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.ngrams import NgramModel, fit_prior
from nlp_meta.settings import AdaptationSettings, MetaTraining, fingerprint
from nlp_meta.training.launch import with_trackers
from nlp_meta.training.plan import (
    Objectives,
    begin,
    check_plan,
    choose_tasks,
    find_adaptation,
    judged_adaptation,
    judged_objectives,
    plan_objectives,
    plan_outer_loop,
    plan_training,
    plan_validation,
    union_of_labels,
    validation_episodes,
)
from nlp_meta.training.provenance import describe_draft, describe_run
from nlp_meta.training.pushes import with_pushes


def train_meta_model(
    settings: MetaTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    *,
    accelerator: Accelerator,
    on_step: Callable[[StepRecord], None] | None = None,
    labels: Sequence[str] | None = None,
    stream: Stream | None = None,
) -> tuple[MetaModel | None, MetaTrained]:
    """Meta-train, then find the defaults of users' adaptation on the validation tasks.

    Tasks that no skill of the run learns from are left out.

    Args:
        labels: In the order of the logits, those of `train` among them; None takes just those.
        stream: Episodes to train on, in place of those that `train` and the settings give.

    Returns:
        The meta-model, None where a signal ended the run; and how the run ended.
    """
    check_plan(settings)
    skills = settings.skills
    train, validation = choose_tasks(train, skills), choose_tasks(validation, skills)
    labels = union_of_labels(train) if labels is None else labels
    objectives = plan_objectives(settings, labels=labels, device=accelerator.device)
    judged = judged_objectives(objectives)
    judge = plan_validation(
        settings.adaptation, validation_episodes(validation, settings.adaptation, skills)
    )
    drafts = _drafts(settings, objectives, train, validation)
    on_step = with_pushes(settings, accelerator, drafts, on_step)
    ended = meta_train(
        plan_training(settings, judged, train, stream=stream),
        begin(judged, settings),
        outer=plan_outer_loop(settings.outer),
        validation=judge,
        accelerator=accelerator,
        folder=Path(settings.run.output_dir),
        fingerprint=fingerprint(settings),
        resume=settings.run.resume,
        on_step=with_trackers(accelerator, on_step),
    )
    if ended.interrupted:
        return None, ended
    adaptations, trials = _find_adaptations(
        judged, ended.meta_parameters, judge, settings.adaptation
    )
    model = MetaModel(
        objectives,
        ended.meta_parameters,
        settings.model,
        adaptations,
        describe_run(settings, train, validation, ended, trials),
        _fit_companion(objectives, train, seed=settings.run.seed),
    )
    return model, ended


def _find_adaptations(
    objectives: Objectives,
    meta_parameters: dict[str, Tensor],
    judge: Validation,
    settings: AdaptationSettings,
) -> tuple[dict[str, Adaptation], dict[str, Sequence[Trial]]]:
    """By skill, the adaptation that scored best and all that were tried."""
    adaptations: dict[str, Adaptation] = {}
    trials: dict[str, Sequence[Trial]] = {}
    for skill, episodes in by_skill(judge.episodes).items():
        inner, trials[skill] = find_adaptation(
            objectives[skill], meta_parameters, episodes, settings, metric=judge.metrics[skill]
        )
        adaptations[skill] = replace(judged_adaptation(settings), inner=inner)
    return adaptations, trials


def _fit_companion(
    objectives: Objectives, train: Sequence[Task], *, seed: int
) -> NgramModel | None:
    """N-grams of the labeled tasks, from which those of a new domain start."""
    objective = objectives.get(CLASSIFICATION)
    labeled = [task for task in train if task.kind == CLASSIFICATION]
    if not isinstance(objective, Classification) or not labeled:
        return None
    return fit_prior(labeled, objective.labels, seed=seed)


def _drafts(
    settings: MetaTraining,
    objectives: Objectives,
    train: Sequence[Task],
    validation: Sequence[Task],
) -> Callable[[Checkpoint, Path], None]:
    """Give a function that saves what a checkpoint holds as a meta-model, to be looked at.

    Its adaptation is the one that the run is judged by: the best is found at the end only.
    """
    adaptations: Mapping[str, Adaptation] = {
        skill: judged_adaptation(settings.adaptation) for skill in objectives
    }

    def save(checkpoint: Checkpoint, folder: Path) -> None:
        provenance = describe_draft(settings, train, validation, checkpoint)
        weights = best_parameters(checkpoint)
        MetaModel(objectives, weights, settings.model, adaptations, provenance).save_pretrained(
            folder
        )

    return save
