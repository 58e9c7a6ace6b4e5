"""Domains: what is kept of an adapted model beside an encoder that others use too."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from nlp_meta.encoders.backbone import Backbone, resolve_name
from nlp_meta.encoders.lora import BIAS, LORA_A, LORA_B, WEIGHT
from nlp_meta.errors import BackboneError
from nlp_meta.hub.records import ADAPTED_MODEL, find_model, read_settings
from nlp_meta.hub.storage import load_companion, load_weights
from nlp_meta.models.adaptation import PREDICTION_TOKENS
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.companion import FACTORS, Companion
from nlp_meta.objectives.classification import build_classification
from nlp_meta.settings import ModelSettings


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """The adapter and the head of one domain, and how its texts are read.

    Attributes:
        layers: Names of the linear layers that have a low-rank term.
        weights: The scale of each low-rank term is in its `lora_B`.
        source: Folder or Hub id; empty for a model that was never saved.
    """

    labels: tuple[str, ...]
    layers: tuple[str, ...]
    weights: Mapping[str, Tensor]
    prefix_text: str
    max_tokens: int
    companion: Companion | None
    source: str

    @property
    def bytes(self) -> int:
        """Memory of the adapter, the head and the n-grams."""
        own = sum(tensor.nbytes for tensor in self.weights.values())
        return own + (self.companion.model.weight.nbytes if self.companion else 0)


def make_domain(model: AdaptedModel, *, source: str = "") -> Domain:
    """Take from an adapted model what is its own, and let go of its encoder."""
    plan, settings = model.objective.plan, model.settings
    weights: dict[str, Tensor] = {}
    for name, scale in plan.scales.items():
        weights[name + LORA_A] = model.weights[name + LORA_A].detach()
        weights[name + LORA_B] = model.weights[name + LORA_B].detach() * scale
    for name in plan.head:
        weights |= {name + part: model.weights[name + part].detach() for part in (WEIGHT, BIAS)}
    return Domain(
        labels=model.labels,
        layers=tuple(plan.scales),
        weights=weights,
        prefix_text=settings.prefix_text,
        max_tokens=settings.max_tokens,
        companion=model.companion,
        source=source,
    )


def load_adapted(
    name_or_path: str | Path, *, backbone: Backbone, base: ModelSettings, revision: str | None
) -> AdaptedModel:
    """Load an adapted model over an encoder that is there already.

    Args:
        base: What the encoder was loaded by.

    Raises:
        MetaModelError: There is no adapted model.
        BackboneError: It was adapted from another encoder.
    """
    folder, record = find_model(str(name_or_path), kind=ADAPTED_MODEL, revision=revision)
    settings = read_settings(record, ModelSettings)
    check_base(settings, base, name=str(name_or_path))
    objective = build_classification(
        replace(backbone, prefix_text=settings.prefix_text, max_tokens=settings.max_tokens),
        labels=tuple(record.labels),
        head=settings.head,
        lora_r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_layers=settings.lora_layers,
        lora_target_modules=settings.lora_target_modules,
        autocast=None,
        batch_tokens=PREDICTION_TOKENS,
    )
    weights = load_weights(folder, backbone=objective.backbone, plan=objective.plan)
    required = bool((record.adaptation.get("companion") or {}).get("on"))
    stored = load_companion(folder, labels=record.labels, factors=FACTORS, required=required)
    companion = None if stored is None else Companion.of(stored.model, stored.factors)
    return AdaptedModel(objective, weights, settings, companion=companion)


def check_base(settings: ModelSettings, base: ModelSettings, *, name: str) -> None:
    """Refuse a model whose encoder is not the one that is loaded.

    Raises:
        BackboneError: Another backbone, revision or pooling.
    """
    revisions = {settings.revision, base.revision} - {None}
    same = _place(settings.model_name_or_path) == _place(base.model_name_or_path)
    if same and len(revisions) < 2 and settings.pooling == base.pooling:
        return
    raise BackboneError(
        f"cannot serve '{name}' with the others: it was adapted from {_describe(settings)} and "
        f"{_describe(base)}, which is loaded, is needed; leave it out and serve it by itself"
    )


def _place(name: str) -> str:
    found = resolve_name(name)
    return str(Path(found).resolve()) if Path(found).is_dir() else found


def _describe(settings: ModelSettings) -> str:
    revision = f" at {settings.revision}" if settings.revision else ""
    return f"'{settings.model_name_or_path}'{revision} with {settings.pooling} pooling"
