"""Layers of BERT's shape with stacked LoRA, written out: few products, few copies.

They compute what transformers' own modules do, from the same frozen tensors, and leave out what
nothing depends on: the keys and values of the last layer where only its first token is read, and
the slopes of what lies below the lowest adapted layer.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nlp_meta.encoders.backbone import Backbone, MeanPooled
from nlp_meta.encoders.batches import Owners
from nlp_meta.encoders.lora import Adapter

QUERY, KEY, VALUE = (f".attention.self.{part}" for part in ("query", "key", "value"))
MIXED, WIDE, NARROW = ".attention.output.dense", ".intermediate.dense", ".output.dense"


@dataclass(frozen=True, slots=True)
class Layer:
    """A frozen transformer layer in the dtype that it computes in.

    Attributes:
        name: Of the layer within the model, as a plan knows it.
    """

    module: Any
    name: str

    @property
    def projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """Linear layers that give queries, keys and values."""
        attention = self.module.attention.self
        return attention.query, attention.key, attention.value

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.projections[0].weight.dtype
        return dtype

    @property
    def heads(self) -> int:
        return int(self.module.attention.self.num_attention_heads)


def upper_layers(backbone: Backbone, *, first: int, dtype: torch.dtype | None) -> list[Layer]:
    """The layers of an encoder from number `first` on.

    Args:
        dtype: They compute in it, as copies where they are stored in another; None as stored.
    """
    modules = backbone.encoder.encoder.layer
    names = {id(module): name for name, module in backbone.model.named_modules()}
    layers = [Layer(module, names[id(module)]) for module in modules[first:]]
    if dtype in (None, backbone.encoder.dtype):
        return layers
    with backbone.running():
        return [Layer(copy.deepcopy(layer.module).to(dtype), layer.name) for layer in layers]


def project(layer: Layer, hidden: Tensor) -> Tensor:
    """States `(..., hidden)` and their frozen queries, keys and values, side by side.

    They do not change while a layer's own input stays.
    """
    return torch.cat([hidden, *_frozen(layer, hidden)], -1)


def _frozen(layer: Layer, hidden: Tensor) -> list[Tensor]:
    # Not by calling the modules: another thread's pass may have its hooks on them.
    return [nn.functional.linear(hidden, it.weight, it.bias) for it in layer.projections]


def run_layers(layers: Sequence[Layer], states: Tensor, mask: Tensor, adapter: Adapter) -> Tensor:
    """All tokens' states after some layers, `(rows, tokens, hidden)`.

    Only attention is padded; all else is computed for real tokens, side by side.

    Args:
        states: What the first of them is given, `(rows, tokens, hidden)`, or what `project`
            made of the real tokens of that.
        mask: `(rows, tokens)`, 1 for real tokens.
    """
    if not layers:
        return states
    block = Block(mask)
    states = states if states.dim() == mask.dim() else block.pack(states)
    bias, by_token = _attention_bias(mask, states.dtype), _by_token(adapter, mask)
    for layer in layers:
        states = _run_layer(layer, states, block, bias, by_token)
    return block.pad(states)


class Block:
    """Padded rows of tokens, and where the real ones stand in them."""

    def __init__(self, mask: Tensor) -> None:
        """Find the places of `(rows, tokens)` where the mask is not 0."""
        self._shape = mask.shape
        self._places = mask.flatten().nonzero().squeeze(1)

    def pack(self, padded: Tensor) -> Tensor:
        """Real tokens of `(rows, tokens, ...)` side by side, `(real tokens, ...)`."""
        return padded.flatten(0, 1).index_select(0, self._places)

    def pad(self, packed: Tensor) -> Tensor:
        """Put real tokens back to their places, zeros at the others."""
        empty = packed.new_zeros(self._shape.numel(), packed.shape[-1])
        return empty.index_copy(0, self._places, packed).view(*self._shape, -1)


def _by_token(adapter: Adapter, mask: Tensor) -> Adapter:
    """The same for real tokens side by side in place of rows."""
    owners, lengths = adapter.owners, mask.sum(1)
    counts = tuple(sum(part.tolist()) for part in torch.split(lengths.cpu(), list(owners.counts)))
    return replace(adapter, owners=Owners(owners.index.repeat_interleave(lengths), counts))


def run_first_token(layer: Layer, hidden: Tensor, mask: Tensor, adapter: Adapter) -> Tensor:
    """A layer's state of the first token, `(rows, hidden)`, from all tokens' states before it.

    Its query is asked through the key's matrix of the states themselves, and the value's matrix
    sees the states after they are mixed: neither is multiplied with every token.
    """
    heads, width = layer.heads, hidden.shape[-1]
    query, key, value = layer.projections
    first = hidden[:, 0]
    # Which features, `(heads, hidden)`, belong to which head.
    places = torch.eye(heads, dtype=hidden.dtype, device=hidden.device)
    places = places.repeat_interleave(width // heads, 1)
    asked = adapter.linear(layer.name + QUERY, query, first) * (width // heads) ** -0.5
    through_key = _by_head(asked.view(len(asked), heads, -1), key.weight.view(heads, -1, width))
    # A key's bias is the same for every token and falls out of the softmax.
    through_key = adapter.add_reversed(layer.name + KEY, asked.unsqueeze(1) * places, through_key)
    scores = through_key @ hidden.mT + _attention_bias(mask, hidden.dtype).squeeze(1)
    mixed = scores.softmax(-1) @ hidden
    values = _by_head(mixed, value.weight.view(heads, -1, width).mT).flatten(1) + value.bias
    if layer.name + VALUE in adapter.plan.scales:
        zero = torch.zeros((), dtype=hidden.dtype, device=hidden.device)
        term = adapter.add_terms([layer.name + VALUE], mixed, [zero])[0]
        values = values + (term * places).sum(1)
    return _feed_forward(layer, values, first, adapter)


def _split_heads(states: Tensor, heads: int) -> Tensor:
    """From `(rows, tokens, hidden)` to `(rows, heads, tokens, features)`."""
    return states.view(*states.shape[:-1], heads, -1).transpose(1, 2)


def _by_head(rows: Tensor, matrices: Tensor) -> Tensor:
    """Multiply `(rows, heads, in)` with `(heads, in, out)`."""
    return (rows.transpose(0, 1) @ matrices).transpose(0, 1)


def _attention_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores, `(rows, 1, 1, tokens)`: 0, or next to nothing where padded."""
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill(mask == 0, torch.finfo(dtype).min)[:, None, None]


def _run_layer(
    layer: Layer, states: Tensor, block: Block, bias: Tensor, adapter: Adapter
) -> Tensor:
    width = layer.projections[0].in_features
    hidden = states[..., :width]
    if states.shape[-1] == width:
        frozen = _frozen(layer, hidden)
    else:
        frozen = list(torch.split(states[..., width:], width, -1))
    names = [layer.name + part for part in (QUERY, KEY, VALUE)]
    query, key, value = (
        _split_heads(block.pad(part), layer.heads)
        for part in adapter.add_terms(names, hidden, frozen)
    )
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    mixed = block.pack(mixed.transpose(1, 2).flatten(2))
    return _feed_forward(layer, mixed, hidden, adapter)


def _feed_forward(layer: Layer, mixed: Tensor, hidden: Tensor, adapter: Adapter) -> Tensor:
    """What follows attention, for each token alone."""
    module, name = layer.module, layer.name
    output = module.attention.output
    attended = output.LayerNorm(adapter.linear(name + MIXED, output.dense, mixed) + hidden)
    wide = adapter.linear(name + WIDE, module.intermediate.dense, attended)
    wide = module.intermediate.intermediate_act_fn(wide)
    narrow = adapter.linear(name + NARROW, module.output.dense, wide)
    state: Tensor = module.output.LayerNorm(narrow + attended)
    return state


def read_out(backbone: Backbone, hidden: Tensor, mask: Tensor, adapter: Adapter) -> Tensor:
    """Logits, or features, of states `(rows, tokens, hidden)`, or of the first token's alone."""
    *inner, last = adapter.plan.head
    if isinstance(backbone.model, MeanPooled):
        real = mask.unsqueeze(-1).to(hidden.dtype)
        hidden = (hidden * real).sum(1) / real.sum(1).clamp(min=1)
    for name in inner:
        hidden = adapter.head(name, hidden).tanh()
    return adapter.head(last, hidden)
