"""A meta-learned start that finds translations, and what its record keeps beside the adapter."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlp_meta.adapting import build_retriever
from nlp_meta.errors import MetaModelError
from nlp_meta.hub.packaging import load_weights, save_model
from nlp_meta.hub.pulling import Source, source_of
from nlp_meta.hub.pushable import Pushable
from nlp_meta.hub.records import ALIGNMENT_META_MODEL, META_MODEL, Record, find_model, read_settings
from nlp_meta.meta.adaptation import InnerLoop
from nlp_meta.meta.step_sizes import describe_step_sizes, restore_step_sizes
from nlp_meta.objectives.retrieval import TEMPERATURE, Retrieval
from nlp_meta.settings import ModelSettings


@dataclass(frozen=True, slots=True)
class AlignmentMetaModel(Pushable):
    """A meta-learned start with the defaults that its adaptation to pairs was found to need.

    Attributes:
        weights: LoRA matrices, the temperature, learned step sizes; of a mixed run the
            classifier's head too, which has no part here.
        adaptation: Defaults found on the meta-validation tasks.
        minibatch: Support pairs of one inner step; None takes all.
        early_stop: Let held-out folds of the pairs choose fewer steps.
        provenance: Settings and results of its training.
        source: Where on the Hub it was pulled from, and at which commit.
    """

    objective: Retrieval
    weights: Mapping[str, Tensor]
    settings: ModelSettings
    adaptation: InnerLoop
    minibatch: int | None
    early_stop: bool
    provenance: Mapping[str, Any]
    source: Source | None = None

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str | None = None,
    ) -> "AlignmentMetaModel":
        """Load from a folder or the Hub; a mixed meta-model serves as well.

        Raises:
            MetaModelError: There is no meta-model, or it learned sentiment alone.
        """
        name, kinds = str(name_or_path), (ALIGNMENT_META_MODEL, META_MODEL)
        folder, record = find_model(
            name, kind=kinds[0], or_kind=kinds[1], revision=revision, token=token
        )
        defaults = dict(record.adaptation.get("translation") or {})
        if not defaults:
            raise MetaModelError(
                f"cannot find translations with '{name_or_path}': it learned sentiment alone and "
                "a meta-model that learned from sentence pairs is needed; name another, or train "
                "one with recipes/configs/mixed_multilingual.yaml"
            )
        settings, objective = build_recorded(record, device=device, token=token)
        backbone = objective.backbone
        weights = load_weights(folder, backbone=backbone, plan=objective.plan, with_head=False)
        weights |= _read_scalars(record, weights, backbone.device)
        del defaults["temperature"]
        minibatch, early_stop = defaults.pop("minibatch"), defaults.pop("early_stop")
        return cls(
            objective,
            weights,
            settings,
            InnerLoop(**defaults),
            minibatch,
            early_stop,
            record.provenance,
            source_of(name, folder),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write an ordinary PEFT adapter, the tokenizer and a record."""
        sizes = describe_step_sizes(self.weights)
        record = Record(
            ALIGNMENT_META_MODEL,
            asdict(self.settings),
            (),
            {"translation": describe_defaults(self)},
            sizes,
            self.provenance,
        )
        save_lora(Path(folder), record, self.objective, self.weights)


def build_recorded(
    record: Record, *, device: str | None, token: str | None
) -> tuple[ModelSettings, Retrieval]:
    """Build what a record says; its weights are not read yet.

    Raises:
        MetaModelError: The record is of another version.
    """
    settings = read_settings(record, ModelSettings)
    return settings, build_retriever(settings, device=device, token=token)


def _read_scalars(
    record: Record, lora: Mapping[str, Tensor], device: torch.device
) -> dict[str, Tensor]:
    """The temperature, and the step sizes of what retrieval moves."""
    found: dict[str, Tensor] = {}
    temperature = read_temperature(record, device)
    if temperature is not None:
        found[TEMPERATURE] = temperature
    moving = {*lora, *found}
    sizes = {name: value for name, value in record.step_sizes.items() if name in moving}
    return found | restore_step_sizes(sizes, device)


def describe_defaults(model: AlignmentMetaModel) -> dict[str, object]:
    """What a record keeps of translation beside the adapter: how to adapt, the temperature."""
    return {
        **asdict(model.adaptation),
        "minibatch": model.minibatch,
        "early_stop": model.early_stop,
        "temperature": math.exp(-float(model.weights[TEMPERATURE])),
    }


def read_temperature(record: Record, device: torch.device) -> Tensor | None:
    """The temperature's meta-parameter out of a record; None where there was no translation."""
    block = record.adaptation.get("translation")
    if not block:
        return None
    return torch.tensor(-math.log(block["temperature"]), dtype=torch.float32, device=device)


def save_lora(
    folder: Path, record: Record, objective: Retrieval, weights: Mapping[str, Tensor]
) -> None:
    """Save the LoRA matrices among some weights; all else is in the record."""
    lora = {
        name: value
        for name, value in weights.items()
        if any(name.startswith(layer + ".") for layer in objective.plan.scales)
    }
    save_model(folder, record, lora, backbone=objective.backbone, plan=objective.plan)
