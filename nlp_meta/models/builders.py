"""Builders: from the settings of a backbone and its adapter to the objective of a skill."""

from collections.abc import Sequence

import torch

from nlp_meta.encoders.backbone import Backbone, choose_autocast, choose_device, load_backbone
from nlp_meta.encoders.seq2seq import load_seq2seq
from nlp_meta.objectives.classification import Classification, build_classification
from nlp_meta.objectives.generation import Generation, build_generation
from nlp_meta.objectives.retrieval import Retrieval, build_retrieval
from nlp_meta.settings import ModelSettings, Seq2SeqSettings


def build_classifier(
    settings: ModelSettings,
    *,
    labels: Sequence[str],
    device: torch.device | str | None = None,
    precision: str = "auto",
    batch_tokens: int = 2048,
    token: str | None = None,
) -> Classification:
    """Load the encoder that settings name and plan its adapter and head.

    Args:
        labels: Names in the order of the logits.
        precision: `auto`, or the dtype of the matrix products.
        batch_tokens: Most tokens of one padded batch.
        token: Of the Hub.
    """
    backbone = _load_encoder(settings, device, token=token)
    return build_classification(
        backbone,
        labels=labels,
        head=settings.head,
        lora_r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_layers=settings.lora_layers,
        lora_target_modules=settings.lora_target_modules,
        autocast=choose_autocast(precision, backbone.device),
        batch_tokens=batch_tokens,
    )


def build_retriever(
    settings: ModelSettings,
    *,
    device: torch.device | str | None = None,
    precision: str = "auto",
    batch_tokens: int = 2048,
    token: str | None = None,
) -> Retrieval:
    """Load the encoder that settings name to find translations with; it has no head."""
    backbone = _load_encoder(settings, device, token=token)
    return build_retrieval(
        backbone,
        lora_r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_layers=settings.lora_layers,
        lora_target_modules=settings.lora_target_modules,
        autocast=choose_autocast(precision, backbone.device),
        batch_tokens=batch_tokens,
    )


def retrieval_beside(objective: Classification) -> Retrieval:
    """Retrieval on the backbone, the cached states and the LoRA matrices of a classification."""
    return Retrieval(
        objective.backbone,
        objective.network,
        objective.plan,
        objective.autocast,
        objective.batch_tokens,
    )


def build_generator(
    settings: Seq2SeqSettings,
    *,
    device: torch.device | str | None = None,
    precision: str = "auto",
    batch_tokens: int = 2048,
    token: str | None = None,
) -> Generation:
    """Load the encoder-decoder that settings name and plan its adapter."""
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
    )


def _load_encoder(
    settings: ModelSettings, device: torch.device | str | None, *, token: str | None
) -> Backbone:
    return load_backbone(
        settings.model_name_or_path,
        pooling=settings.pooling,
        max_tokens=settings.max_tokens,
        prefix_text=settings.prefix_text,
        device=choose_device(device),
        revision=settings.revision,
        token=token,
    )
