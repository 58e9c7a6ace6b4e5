"""What is frozen is computed once: hidden states below the lowest adapted layer.

Three `Network`s do the same job. `whole_network` starts from token ids and runs any
model. The others know encoders of BERT's and RoBERTa's shape (embeddings, a list of
layers, a head on the last states): `prefix_network` runs the lower layers once for each
text, keeps their states in memory, and every pass afterwards starts from them;
`lean_network` keeps nothing and leaves out what no head reads. An embedder gives the whole
frozen encoder's states of a text as one vector.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask

from nlp_meta.data.cache import TextCache
from nlp_meta.encoders.backbone import Backbone, MeanPooled, autocasting
from nlp_meta.encoders.batches import by_length, pad_rows, tokenize
from nlp_meta.encoders.layers import (
    Block,
    Layer,
    project,
    read_out,
    run_first_token,
    run_layers,
    upper_layers,
)
from nlp_meta.encoders.lora import Adapter, stacked

logger = logging.getLogger(__name__)

LAYERED = ("bert", "roberta", "xlm-roberta", "camembert")
"""Model types whose encoder is `embeddings`, then `encoder.layer`, and nothing else."""

ENCODING_TOKENS = 2048
"""Tokens of one batch while prefixes are computed: short texts are not padded to long ones."""


Run = Callable[[Tensor, Tensor, Adapter], Tensor]


@dataclass(frozen=True, slots=True)
class Network:
    """A frozen model seen as two functions.

    Attributes:
        encode: Texts to rows, one tensor `(tokens, ...)` a text: what a pass starts from.
        run: Padded rows `(rows, tokens, ...)` and their mask `(rows, tokens)` to logits
            `(rows, labels)`, through what an adapter adds.
        padding: What fills short rows.
        dtype: Of matrix products; None computes as the backbone is stored.
        prepare: Padded rows and their mask to what many passes over them begin with: products
            with frozen weights.
    """

    encode: Callable[[Sequence[str]], list[Tensor]]
    run: Run
    padding: int
    dtype: torch.dtype | None = None
    prepare: Callable[[Tensor, Tensor], Tensor] = lambda states, _: states


def build_network(
    backbone: Backbone,
    *,
    frozen_layers: int,
    cache_dtype: torch.dtype = torch.bfloat16,
    dtype: torch.dtype | None = None,
) -> Network:
    """Choose the cached prefix where the backbone's shape is known, else the whole model.

    Args:
        frozen_layers: Transformer layers below the lowest adapted one.
        cache_dtype: Of the kept states; bfloat16 halves the memory.
        dtype: Of matrix products; None computes as the backbone is stored.
    """
    if backbone.config.model_type in LAYERED:
        return prefix_network(
            backbone, frozen_layers=frozen_layers, cache_dtype=cache_dtype, dtype=dtype
        )
    logger.info(
        "the prefix of a %s model cannot be cached (known: %s): every pass runs all its layers",
        backbone.config.model_type,
        ", ".join(LAYERED),
    )
    return whole_network(backbone, dtype=dtype)


def whole_network(backbone: Backbone, *, dtype: torch.dtype | None = None) -> Network:
    """Start every pass from token ids."""

    def encode(texts: Sequence[str]) -> list[Tensor]:
        return tokenize(backbone, texts)

    def run(ids: Tensor, mask: Tensor, adapter: Adapter) -> Tensor:
        adapted = stacked(backbone, adapter.plan, adapter.weights, adapter.owners)
        with adapted, autocasting(dtype, backbone.device):
            out = backbone.model(input_ids=ids, attention_mask=mask)
        logits: Tensor = out if isinstance(out, Tensor) else out.logits
        return logits

    return Network(encode, run, padding=_padding_id(backbone), dtype=dtype)


def lean_network(backbone: Backbone) -> Network:
    """Start every pass from token ids, keep nothing, and compute no more than the head reads.

    The answers are those of `whole_network` up to rounding; other shapes of models get that.
    """
    if backbone.config.model_type not in LAYERED:
        return whole_network(backbone)
    run_upper = _run_upper(backbone, upper_layers(backbone, first=0, dtype=None))

    def run(ids: Tensor, mask: Tensor, adapter: Adapter) -> Tensor:
        return run_upper(backbone.encoder.embeddings(input_ids=ids), mask, adapter)

    return replace(whole_network(backbone), run=run)


def prefix_network(
    backbone: Backbone,
    *,
    frozen_layers: int,
    cache_dtype: torch.dtype,
    dtype: torch.dtype | None = None,
) -> Network:
    """Start every pass from the states below layer `frozen_layers`, kept in memory by text."""

    def compute(texts: Sequence[str]) -> list[Tensor]:
        states = _lower_states(backbone, texts, frozen_layers=frozen_layers)
        return [state.to(cache_dtype) for state in states]

    kept = TextCache(compute, clock=backbone.clock)

    def encode(texts: Sequence[str]) -> list[Tensor]:
        with backbone.running():
            return kept.take(texts)

    layers = upper_layers(backbone, first=frozen_layers, dtype=dtype)

    @torch.no_grad()
    def prepare(states: Tensor, mask: Tensor) -> Tensor:
        states = states.to(layers[0].dtype)
        # All tokens' queries, keys and values are needed where more than the first is read.
        read_whole = len(layers) > 1 or isinstance(backbone.model, MeanPooled)
        return project(layers[0], Block(mask).pack(states)) if read_whole else states

    run = _run_upper(backbone, layers)
    return Network(encode, run, padding=0, dtype=dtype, prepare=prepare)


def _run_upper(backbone: Backbone, layers: Sequence[Layer]) -> Run:
    """Run some topmost layers, no further than the head reads."""
    whole = isinstance(backbone.model, MeanPooled)

    def run(states: Tensor, mask: Tensor, adapter: Adapter) -> Tensor:
        with backbone.running():
            states = states.to(layers[-1].dtype)
            hidden = run_layers(layers if whole else layers[:-1], states, mask, adapter)
            if not whole:
                hidden = run_first_token(layers[-1], hidden, mask, adapter)
            return read_out(backbone, hidden.to(backbone.encoder.dtype), mask, adapter)

    return run


@torch.no_grad()
def _lower_states(backbone: Backbone, texts: Sequence[str], *, frozen_layers: int) -> list[Tensor]:
    encoder = backbone.encoder
    ids = tokenize(backbone, texts)
    states: list[Tensor] = [torch.empty(0)] * len(texts)
    for rows in by_length([len(row) for row in ids], tokens=ENCODING_TOKENS):
        padded, mask = pad_rows([ids[row] for row in rows], padding=_padding_id(backbone))
        padded, mask = padded.to(backbone.device), mask.to(backbone.device)
        hidden = encoder.embeddings(input_ids=padded)
        hidden = _run_layers(backbone, hidden, mask, first=0, stop=frozen_layers)
        for row, state in zip(rows, hidden, strict=True):
            states[row] = state[: len(ids[row])].clone()
    return states


def _run_layers(
    backbone: Backbone, hidden: Tensor, mask: Tensor, *, first: int, stop: int | None = None
) -> Tensor:
    encoder = backbone.encoder
    hidden = hidden.to(encoder.dtype)
    attention = create_bidirectional_mask(backbone.config, hidden, mask)
    for layer in encoder.encoder.layer[first:stop]:
        hidden = layer(hidden, attention)
    return hidden


def _padding_id(backbone: Backbone) -> int:
    pad = backbone.tokenizer.pad_token_id
    return int(pad) if isinstance(pad, int) else 0


Embed = Callable[[Sequence[str]], NDArray[Any]]
"""Texts to features, `(texts, features)`."""


def mean_pooled_embedder(backbone: Backbone, *, batch_tokens: int) -> Embed:
    """Make features of texts: the mean of the encoder's last states over real tokens.

    Features are float32 and kept by text, so that many draws of a task cost one pass.

    Args:
        batch_tokens: Most tokens of one padded batch.
    """

    def compute(texts: Sequence[str]) -> list[NDArray[np.float32]]:
        ids = tokenize(backbone, texts)
        features = [np.zeros(0, dtype=np.float32)] * len(texts)
        for group in by_length([len(row) for row in ids], tokens=batch_tokens):
            means = _mean_states(backbone, [ids[row] for row in group])
            for row, mean in zip(group, means, strict=True):
                features[row] = mean
        return features

    kept = TextCache(compute, clock=backbone.clock)

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, int(backbone.config.hidden_size)), dtype=np.float32)
        with backbone.running():
            return np.stack(kept.take(texts))

    return embed


@torch.no_grad()
def _mean_states(backbone: Backbone, ids: Sequence[Tensor]) -> NDArray[np.float32]:
    padded, mask = pad_rows(ids, padding=backbone.tokenizer.pad_token_id or 0)
    padded, mask = padded.to(backbone.device), mask.to(backbone.device)
    states = backbone.encoder(input_ids=padded, attention_mask=mask).last_hidden_state.float()
    real = mask.unsqueeze(-1).float()
    means: NDArray[np.float32] = ((states * real).sum(1) / real.sum(1)).cpu().numpy()
    return means
