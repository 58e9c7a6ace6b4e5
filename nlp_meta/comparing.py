"""Methods by name: how a comparison builds each rival, with choices made alike for all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from nlp_meta.adapting import build_objective
from nlp_meta.baselines.fine_tune import fine_tune, without_labels
from nlp_meta.baselines.linear_probe import linear_probe, mean_pooled_embedder
from nlp_meta.data.answers import Predict
from nlp_meta.data.episodes import Episode
from nlp_meta.errors import SettingsError
from nlp_meta.models import MetaModel
from nlp_meta.objectives.classification import Classification
from nlp_meta.settings import AdaptationSettings, Comparison, ModelSettings
from nlp_meta.training import find_adaptation

REGULARIZATION = (0.001, 0.01, 0.1, 1.0, 10.0)
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Method:
    """A predictor and what is worth saying of how it was made.

    Attributes:
        facts: The choices that were made, and the examples that its start was trained on.
    """

    predict: Predict
    facts: Mapping[str, object]


Builder = Callable[[str, Comparison, tuple[str, ...], Sequence[Episode]], Method]


def build_method(
    text: str, settings: Comparison, *, labels: tuple[str, ...], judged: Sequence[Episode]
) -> Method:
    """Build a method from its line in the config: `kind` or `kind folder`.

    Args:
        labels: Of all tasks that it will meet.
        judged: Episodes of the meta-validation tasks; every choice is made on them.

    Raises:
        SettingsError: There is no such kind of method.
    """
    kind, _, folder = text.partition(" ")
    if kind not in METHODS:
        raise SettingsError(
            f"cannot compare the method '{text}': one of {', '.join(METHODS)} is needed, with the "
            "folder of a meta-model after `start` and `zero`; change `comparison.methods`"
        )
    return METHODS[kind](folder, settings, labels, judged)


def _build_start(
    folder: str, settings: Comparison, _: tuple[str, ...], judged: Sequence[Episode]
) -> Method:
    model = MetaModel.from_pretrained(folder)
    objective = replace(model.objective, batch_tokens=settings.run.batch_tokens)
    facts = {"examples_before": model.provenance["examples"], "start": Path(folder).name}
    return _tuned(objective, dict(model.weights), judged, settings.adaptation, facts)


def _build_zero(
    folder: str, settings: Comparison, _: tuple[str, ...], judged: Sequence[Episode]
) -> Method:
    model = MetaModel.from_pretrained(folder)
    objective = replace(model.objective, batch_tokens=settings.run.batch_tokens)
    facts = {"examples_before": model.provenance["examples"], "start": Path(folder).name}
    return Method(without_labels(objective, model.weights), facts)


def _build_lora(
    _: str, settings: Comparison, labels: tuple[str, ...], judged: Sequence[Episode]
) -> Method:
    objective = build_objective(
        settings.model,
        labels=labels,
        precision=settings.run.mixed_precision,
        batch_tokens=settings.run.batch_tokens,
    )
    generator = torch.Generator().manual_seed(settings.run.seed)
    facts = {"examples_before": 0, "pooling": settings.model.pooling}
    return _tuned(
        objective, objective.meta_parameters(generator), judged, settings.adaptation, facts
    )


def _build_probe(
    _: str, settings: Comparison, labels: tuple[str, ...], judged: Sequence[Episode]
) -> Method:
    backbone = build_objective(_mean(settings.model), labels=labels).backbone
    embed = mean_pooled_embedder(backbone, batch_tokens=settings.run.batch_tokens)
    predict = linear_probe(
        embed, regularization=REGULARIZATION, folds=FOLDS, seed=settings.run.seed
    )
    return Method(predict, {"examples_before": 0, "pooling": "mean"})


METHODS: dict[str, Builder] = {
    "start": _build_start,
    "zero": _build_zero,
    "lora": _build_lora,
    "linear_probe": _build_probe,
}


def _mean(model: ModelSettings) -> ModelSettings:
    return replace(model, pooling="mean")


def _tuned(
    objective: Classification,
    meta_parameters: dict[str, Tensor],
    judged: Sequence[Episode],
    adaptation: AdaptationSettings,
    facts: dict[str, object],
) -> Method:
    """Rate and steps by the same search for every start."""
    inner, trials = find_adaptation(objective, meta_parameters, judged, adaptation)
    facts |= {
        "steps": inner.steps,
        "learning_rate": inner.learning_rate,
        "validation_score": max(trial.score for trial in trials),
    }
    predict = fine_tune(objective, meta_parameters, inner=inner, minibatch=adaptation.batch_size)
    return Method(predict, facts)
