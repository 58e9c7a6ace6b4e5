"""Families of encoders: the same model, ended below one of its layers or begun there.

Either is a second tree over the same modules and tensors, in which the list of layers is shorter
and a few parts are others. The family's own forward runs it, so masks, positions and whatever
else its layers are given are its own; hooks on a layer act in every tree that has it.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Part = Callable[[], nn.Module | None]


class Given(nn.Module):
    """Stands for embeddings: the states that a pass begins with, as they are."""

    def forward(self, *values: Any, **named: Any) -> Tensor:
        states = (v for v in (*values, *named.values()) if isinstance(v, Tensor) and v.dim() == 3)
        return next(states)


class Nothing(nn.Module):
    """Stands for positions, which the states of a layer have already: adds zero."""

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return torch.zeros(())


def absent() -> None:
    """Stand for a part that the family's forward looks for before it calls it."""


@dataclass(frozen=True, slots=True)
class Family:
    """Where the parts of an architecture's encoder are.

    Attributes:
        layers: Its transformer layers.
        before: What stands for the parts that lead to the first layer, where a pass begins above.
        last: A norm behind the last layer; empty for none.
        bias: Within a layer, the attention whose bias of positions the first layer has for all;
            empty where each layer is given its own.
    """

    layers: str
    before: Mapping[str, Part] = field(default_factory=lambda: {"embeddings": Given})
    last: str = ""
    bias: str = ""


_BERT = Family("encoder.layer")
_SUMMED: Mapping[str, Part] = {"embed_positions": Nothing}
_NORMED: Mapping[str, Part] = {**_SUMMED, "layernorm_embedding": nn.Identity}
_T5 = Family("block", {}, "final_layer_norm", "layer.0.SelfAttention")

FAMILIES: Mapping[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "mpnet": _BERT,
    "deberta": _BERT,
    # The first layer may be followed by a convolution.
    "deberta-v2": Family("encoder.layer", {"embeddings": Given, "encoder.conv": absent}),
    "electra": Family("encoder.layer", {"embeddings": Given, "embeddings_project": nn.Identity}),
    "distilbert": Family("transformer.layer"),
    "modernbert": Family("layers", last="final_norm"),
    "marian": Family("layers", _SUMMED),
    "m2m_100": Family("layers", _SUMMED, "layer_norm"),
    "bart": Family("layers", _NORMED),
    "mbart": Family("layers", _NORMED, "layer_norm"),
    "t5": _T5,
    "mt5": _T5,
}
"""By model type; NLLB is of M2M-100's. Of an encoder-decoder, the encoder."""


def ended(encoder: nn.Module, family: Family, *, layer: int) -> nn.Module:
    """The encoder up to a layer, 1 or above: its last states are what that layer is given."""
    parts: dict[str, nn.Module | None] = {
        family.layers: nn.ModuleList(_layers(encoder, family)[:layer])
    }
    if family.last:
        parts[family.last] = nn.Identity()
    return without_pooler(exchanged(encoder, parts))


def begun(encoder: nn.Module, family: Family, *, layer: int) -> nn.Module:
    """The encoder from a layer on, 1 or above: it takes that layer's states as `inputs_embeds`."""
    layers = _layers(encoder, family)
    parts = {name: part() for name, part in family.before.items()}
    upper = exchanged(encoder, {family.layers: nn.ModuleList(layers[layer:]), **parts})
    if not family.bias or layer >= len(layers):
        return upper
    first = layers[0].get_submodule(family.bias)
    attention = exchanged(
        layers[layer].get_submodule(family.bias),
        {"relative_attention_bias": first.get_submodule("relative_attention_bias")},
    )
    attention.has_relative_attention_bias = True  # type: ignore[assignment]  # T5's own flag
    return exchanged(upper, {f"{family.layers}.0.{family.bias}": attention})


def without_pooler(encoder: nn.Module) -> nn.Module:
    """The encoder without what its last states do not depend on."""
    return exchanged(encoder, {"pooler": None}) if "pooler" in encoder._modules else encoder


def exchanged(module: nn.Module, parts: Mapping[str, nn.Module | None]) -> nn.Module:
    """The same modules in a new tree, with other ones at some paths."""
    copied = copy.copy(module)
    children = dict(module._modules)
    for path, part in parts.items():
        name, _, rest = path.partition(".")
        inner = children.get(name)
        children[name] = exchanged(inner, {rest: part}) if rest and inner is not None else part
    copied.__dict__["_modules"] = children
    return copied


def _layers(encoder: nn.Module, family: Family) -> nn.ModuleList:
    layers = encoder.get_submodule(family.layers)
    assert isinstance(layers, nn.ModuleList)  # noqa: S101  narrows
    return layers
