"""Builders: from the settings of a base and its adapter to the objective of a skill."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

import torch

from nlp_meta.encoders.backbone import Backbone, choose_autocast, choose_device, load_backbone
from nlp_meta.encoders.cache import Storage
from nlp_meta.encoders.lora import LoraPlan, lowest_adapted_layer, plan_lora
from nlp_meta.encoders.prefix import Network, build_network, warn_of_whole_passes
from nlp_meta.encoders.seq2seq import load_seq2seq
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.generation import Generation, build_generation
from nlp_meta.objectives.retrieval import Retrieval
from nlp_meta.settings import ModelSettings, Seq2SeqSettings


class LoadOptions(TypedDict, total=False):
    """How a base is loaded and computed with.

    Keys:
        precision: `auto`, or the dtype of the matrix products.
        batch_tokens: Most tokens of one padded batch.
        token: Of the Hub.
        storage: Where what the frozen layers give is kept; None keeps it for this process alone.
    """

    device: torch.device | str | None
    precision: str
    batch_tokens: int
    token: str | None
    storage: Storage | None


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder, the layers of it that move, and the states that its frozen layers gave."""

    backbone: Backbone
    network: Network
    plan: LoraPlan
    batch_tokens: int


def load_encoder(
    settings: ModelSettings,
    *,
    device: torch.device | str | None = None,
    precision: str = "auto",
    batch_tokens: int = 2048,
    token: str | None = None,
    storage: Storage | None = None,
) -> Encoder:
    """Load the encoder that settings name and plan its adapter."""
    backbone = load_backbone(
        settings.model_name_or_path,
        pooling=settings.pooling,
        max_tokens=settings.max_tokens,
        prefix_text=settings.prefix_text,
        device=choose_device(device),
        revision=settings.revision,
        token=token,
    )
    dtype = choose_autocast(precision, backbone.device)
    encoder = plan_encoder(
        backbone, settings, dtype=dtype, batch_tokens=batch_tokens, storage=storage
    )
    warn_of_whole_passes(backbone.config, frozen_layers=lowest_adapted_layer(encoder.plan))
    return encoder


def plan_encoder(
    backbone: Backbone,
    settings: ModelSettings,
    *,
    dtype: torch.dtype | None,
    batch_tokens: int,
    storage: Storage | None = None,
) -> Encoder:
    """Let PEFT choose the adapted layers and keep what the frozen ones give.

    Raises:
        BackboneError: The layers cannot be adapted.
    """
    plan = plan_lora(
        backbone,
        lora_r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_layers=settings.lora_layers,
        lora_target_modules=settings.lora_target_modules,
    )
    network = build_network(
        backbone, frozen_layers=lowest_adapted_layer(plan), storage=storage, dtype=dtype
    )
    return Encoder(backbone, network, plan, batch_tokens)


def build_classifier(
    settings: ModelSettings,
    *,
    labels: Sequence[str],
    beside: Encoder | Retrieval | None = None,
    **options: Unpack[LoadOptions],
) -> Classification:
    """Make the objective of classification.

    Args:
        labels: Names in the order of the logits.
        beside: Has the encoder already; None loads it.
    """
    encoder = beside or load_encoder(settings, **options)
    return Classification(
        encoder.backbone,
        encoder.network,
        encoder.plan,
        tuple(labels),
        settings.head,
        encoder.batch_tokens,
    )


def build_retriever(
    settings: ModelSettings,
    *,
    labels: Sequence[str] = (),
    beside: Encoder | Classification | None = None,
    **options: Unpack[LoadOptions],
) -> Retrieval:
    """Make the objective of retrieval, which has no head.

    Args:
        labels: Are not read.
        beside: Has the encoder already; None loads it.
    """
    encoder = beside or load_encoder(settings, **options)
    return Retrieval(encoder.backbone, encoder.network, encoder.plan, encoder.batch_tokens)


def build_generator(
    settings: Seq2SeqSettings,
    *,
    labels: Sequence[str] = (),
    beside: None = None,
    device: torch.device | str | None = None,
    precision: str = "auto",
    batch_tokens: int = 2048,
    token: str | None = None,
    storage: Storage | None = None,
) -> Generation:
    """Load the encoder-decoder that settings name and make the objective of generation.

    Args:
        labels: Are not read.
        beside: No other skill shares its base.
    """
    place = choose_device(device)
    backbone = load_seq2seq(
        settings.model_name_or_path,
        max_tokens=settings.max_tokens,
        device=place,
        revision=settings.revision,
        token=token,
    )
    return build_generation(
        backbone,
        lora_r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_sides=settings.lora_sides,
        lora_layers=settings.lora_layers,
        lora_target_modules=settings.lora_target_modules,
        label_smoothing=settings.label_smoothing,
        num_beams=settings.num_beams,
        autocast=choose_autocast(precision, place),
        batch_tokens=batch_tokens,
        storage=storage,
    )
