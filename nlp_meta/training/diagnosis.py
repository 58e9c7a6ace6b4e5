"""Diagnose a meta-model on the meta-validation tasks of a config."""

from collections.abc import Sequence
from dataclasses import replace

from nlp_meta.data.tasks import Task
from nlp_meta.errors import SettingsError
from nlp_meta.meta.diagnosis import Diagnosis, Lever, diagnose
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import MetaTraining
from nlp_meta.training.plan import judged_inner, validation_episodes
from nlp_meta.training.run import episode_metric


def load_start(settings: MetaTraining) -> MetaModel:
    """The meta-model that `run.init_from` names.

    Raises:
        SettingsError: It names none.
        MetaModelError: There is none of that name.
    """
    if settings.run.init_from is None:
        raise SettingsError(
            "cannot diagnose the pretrained encoder: a meta-model is needed; set `run.init_from`"
        )
    return MetaModel.from_pretrained(settings.run.init_from)


def diagnose_start(
    settings: MetaTraining,
    model: MetaModel,
    validation: Sequence[Task],
    *,
    lever: Lever | None = None,
) -> Diagnosis:
    """Follow the adaptation of `settings.adaptation` on fixed support draws of each task.

    Args:
        lever: Changes the adaptation, as `nlp_meta.meta.diagnosis.diagnose` says.
    """
    adaptation = settings.adaptation
    return diagnose(
        replace(model.objective, batch_tokens=settings.run.batch_tokens),
        model.weights,
        validation_episodes(validation, adaptation),
        inner=judged_inner(adaptation),
        minibatch=adaptation.batch_size,
        at_steps=[0, *adaptation.steps],
        stack=adaptation.stack,
        metric=episode_metric(adaptation.metric),
        lever=lever,
    )
