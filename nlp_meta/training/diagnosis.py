"""Diagnose a meta-model on the meta-validation tasks of a config."""

from collections.abc import Sequence
from dataclasses import replace

from nlp_meta.data.tasks import Task
from nlp_meta.errors import SettingsError
from nlp_meta.meta.diagnosis import Diagnosis, diagnose
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import MetaTraining
from nlp_meta.training.plan import find_metrics, judged_adaptation, validation_episodes


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
) -> Diagnosis:
    """Follow the adaptation of `settings.adaptation` on fixed support draws of each task."""
    adaptation = settings.adaptation
    skill, objective = next(iter(model.objectives.items()))
    return diagnose(
        replace(objective, batch_tokens=settings.run.batch_tokens),
        model.start_of(skill),
        validation_episodes(validation, adaptation, (skill,)),
        inner=judged_adaptation(adaptation).inner,
        minibatch=adaptation.batch_size,
        at_steps=[0, *adaptation.steps],
        stack=adaptation.stack,
        metric=find_metrics(adaptation.metric, (skill,))[skill],
    )
