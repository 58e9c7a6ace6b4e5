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
from nlp_meta.encoders.backbone import Backbone, MeanPooled
from nlp_meta.encoders.batches import by_length, pad_rows, tokenize

logger = logging.getLogger(__name__)

LAYERED = ("bert", "roberta", "xlm-roberta", "camembert")
"""Model types whose encoder is `embeddings`, then `encoder.layer`, and nothing else."""

ENCODING_TOKENS = 2048
"""Tokens of one batch while prefixes are computed: short texts are not padded to long ones."""


@dataclass(frozen=True, slots=True)
class Network:
    """A frozen model seen as two functions.

    Attributes:
        encode: Texts to rows, one tensor `(tokens, ...)` a text: what a pass starts from.
        run: Padded rows `(rows, tokens, ...)` and their mask `(rows, tokens)` to logits
            `(rows, labels)`; stacked weights act on it.
        padding: What fills short rows.
    """

    encode: Callable[[Sequence[str]], list[Tensor]]
    run: Callable[[Tensor, Tensor], Tensor]
    padding: int


def build_network(
    backbone: Backbone, *, frozen_layers: int, cache_dtype: torch.dtype = torch.bfloat16
) -> Network:
    """Choose the cached prefix where the backbone's shape is known, else the whole model.

    Args:
        frozen_layers: Transformer layers below the lowest adapted one.
        cache_dtype: Of the kept states; bfloat16 halves the memory.
    """
    if backbone.config.model_type in LAYERED:
        return prefix_network(backbone, frozen_layers=frozen_layers, cache_dtype=cache_dtype)
    logger.info(
        "the prefix of a %s model cannot be cached (known: %s): every pass runs all its layers",
        backbone.config.model_type,
        ", ".join(LAYERED),
    )
    return whole_network(backbone)


def whole_network(backbone: Backbone) -> Network:
    """Start every pass from token ids."""

    def encode(texts: Sequence[str]) -> list[Tensor]:
        return tokenize(backbone, texts)

    def run(ids: Tensor, mask: Tensor) -> Tensor:
        out = backbone.model(input_ids=ids, attention_mask=mask)
        logits: Tensor = out if isinstance(out, Tensor) else out.logits
        return logits

    return Network(encode, run, padding=_padding_id(backbone))


def lean_network(backbone: Backbone) -> Network:
    """Start every pass from token ids, keep nothing, and compute no more than the head reads.

    The answers are those of `whole_network` up to rounding; other shapes of models get that.
    """
    if backbone.config.model_type not in LAYERED or isinstance(backbone.model, MeanPooled):
        return whole_network(backbone)

    def run(ids: Tensor, mask: Tensor) -> Tensor:
        hidden = backbone.encoder.embeddings(input_ids=ids)
        hidden = _run_layers(backbone, hidden, mask, first=0, stop=-1)
        return _classify(backbone, _first_token_of_last_layer(backbone, hidden, mask))

    return replace(whole_network(backbone), run=run)


def prefix_network(backbone: Backbone, *, frozen_layers: int, cache_dtype: torch.dtype) -> Network:
    """Start every pass from the states below layer `frozen_layers`, kept in memory by text."""

    def compute(texts: Sequence[str]) -> list[Tensor]:
        states = _lower_states(backbone, texts, frozen_layers=frozen_layers)
        return [state.to(cache_dtype) for state in states]

    kept = TextCache(compute, clock=backbone.clock)

    def encode(texts: Sequence[str]) -> list[Tensor]:
        with backbone.running():
            return kept.take(texts)

    def run(states: Tensor, mask: Tensor) -> Tensor:
        if isinstance(backbone.model, MeanPooled):
            hidden = _run_layers(backbone, states, mask, first=frozen_layers)
            return backbone.model.read_out(hidden, mask)
        hidden = _run_layers(backbone, states, mask, first=frozen_layers, stop=-1)
        return _classify(backbone, _first_token_of_last_layer(backbone, hidden, mask))

    return Network(encode, run, padding=0)


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


def _first_token_of_last_layer(backbone: Backbone, hidden: Tensor, mask: Tensor) -> Tensor:
    """The last layer's state of the first token, `(rows, 1, hidden)`.

    Native heads read no other, so queries and the feed-forward part of the other tokens
    need not be computed: four fifths of the layer's work.
    """
    layer = backbone.encoder.encoder.layer[-1]
    attention = layer.attention.self
    first = hidden[:, :1]
    query, key, value = (
        part.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)
        for part in (attention.query(first), attention.key(hidden), attention.value(hidden))
    )
    # Written out: exact MAML needs a second derivative, which the fused kernel has not.
    scores = query @ key.mT * attention.attention_head_size**-0.5
    scores = scores.masked_fill(mask[:, None, None, :] == 0, torch.finfo(scores.dtype).min)
    mixed = scores.softmax(-1).to(value.dtype) @ value
    attended = layer.attention.output(mixed.transpose(1, 2).flatten(2), first)
    state: Tensor = layer.output(layer.intermediate(attended), attended)
    return state


def _classify(backbone: Backbone, first: Tensor) -> Tensor:
    pooler = getattr(backbone.encoder, "pooler", None)
    classifier = backbone.model.get_submodule("classifier")
    logits: Tensor = classifier(first if pooler is None else pooler(first))
    return logits


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
