"""What is frozen is computed once: hidden states below the lowest adapted layer.

Three `Network`s do the same job. `whole_network` starts from token ids and runs any
model. `prefix_network` runs the lower layers once for each text, keeps their states, and every
pass afterwards starts from them; it knows the families of `families.py`. `lean_network` keeps
nothing and leaves out what no head reads, where the model is of BERT's shape. A `SourceNetwork`
is the encoder of an encoder-decoder. An embedder gives the whole frozen encoder's states of a
text as one vector.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from nlp_meta.encoders.backbone import Backbone, MeanPooled, autocasting
from nlp_meta.encoders.batches import pad_rows, tokenize
from nlp_meta.encoders.cache import Computation, Storage, TextCache
from nlp_meta.encoders.families import FAMILIES, begun, ended, exchanged, without_pooler
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
from nlp_meta.encoders.seq2seq import Direction, Seq2Seq, tokenize_sources

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
    storage: Storage | None = None,
    cache_dtype: torch.dtype = torch.bfloat16,
    dtype: torch.dtype | None = None,
) -> Network:
    """Choose the cached prefix where there is one, else the whole model and cached ids.

    Args:
        frozen_layers: Transformer layers below the lowest adapted one.
        storage: Where what is computed once is kept; None keeps it for this process alone.
        cache_dtype: Of the kept states; bfloat16 halves the memory.
        dtype: Of matrix products; None computes as the backbone is stored.
    """
    storage = storage or Storage()
    layered = backbone.config.model_type in LAYERED  # whose embeddings too are worth keeping
    if layered or (frozen_layers and has_prefix(backbone.config)):
        return prefix_network(
            backbone,
            frozen_layers=frozen_layers,
            storage=storage,
            cache_dtype=cache_dtype,
            dtype=dtype,
        )
    alone = replace(storage, shared=None, beside=storage.beside or storage.shared)
    ids = TextCache(partial(tokenize, backbone), _SAME_IDS, clock=backbone.clock, storage=alone)
    return replace(whole_network(backbone, dtype=dtype), encode=ids.take)


def has_prefix(config: PretrainedConfig) -> bool:
    """Whether a classifier's encoder can begin at any of its layers."""
    return config.model_type in FAMILIES and not config.is_encoder_decoder


def warn_of_whole_passes(config: PretrainedConfig, *, frozen_layers: int) -> None:
    """Say so where frozen layers are run in every pass."""
    known = has_prefix(config) or (config.is_encoder_decoder and config.model_type in FAMILIES)
    if frozen_layers and not known:
        logger.warning(
            "the frozen layers of a %s model cannot be run once (known: %s): every pass runs all "
            "layers",
            config.model_type,
            ", ".join(FAMILIES),
        )


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
    storage: Storage,
    cache_dtype: torch.dtype,
    dtype: torch.dtype | None = None,
) -> Network:
    """Start every pass from the states below layer `frozen_layers`, kept by text."""
    padding = _padding_id(backbone)
    below = states_below(backbone.encoder, frozen_layers, padding=padding, dtype=cache_dtype)
    cache = TextCache(partial(tokenize, backbone), below, clock=backbone.clock, storage=storage)

    def encode(texts: Sequence[str]) -> list[Tensor]:
        with backbone.running():
            return cache.take(texts)

    if backbone.config.model_type not in LAYERED:
        run = _run_family(backbone, first=frozen_layers, dtype=dtype)
        return Network(encode, run, padding=0, dtype=dtype)
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


def _run_family(backbone: Backbone, *, first: int, dtype: torch.dtype | None) -> Run:
    """Let the family's own forward run the layers from `first` on, and its head."""
    encoder = begun(backbone.encoder, FAMILIES[backbone.config.model_type], layer=first)
    mean = backbone.model if isinstance(backbone.model, MeanPooled) else None
    prefix = str(getattr(backbone.model, "base_model_prefix", ""))
    whole = encoder if mean else exchanged(backbone.model, {prefix: encoder})

    def run(states: Tensor, mask: Tensor, adapter: Adapter) -> Tensor:
        adapted = stacked(backbone, adapter.plan, adapter.weights, adapter.owners)
        with adapted, autocasting(dtype, backbone.device):
            out = whole(inputs_embeds=states.to(backbone.encoder.dtype), attention_mask=mask)
            logits = mean.read_out(out.last_hidden_state, mask) if mean else out.logits
        assert isinstance(logits, Tensor)  # noqa: S101  narrows
        return logits

    return run


def states_below(
    encoder: PreTrainedModel, layer: int, *, padding: int, dtype: torch.dtype
) -> Computation:
    """States of each token that a layer is given, `(tokens, hidden)`."""
    lower = ended(encoder, FAMILIES[encoder.config.model_type], layer=layer)

    @torch.no_grad()
    def run(ids: list[Tensor]) -> list[Tensor]:
        hidden = _last_states(lower, ids, padding=padding, device=encoder.device)[0]
        return [
            state[: len(row)].to(dtype, copy=True) for row, state in zip(ids, hidden, strict=True)
        ]

    return Computation(
        run,
        ENCODING_TOKENS,
        dtype,
        (int(encoder.config.hidden_size),),
        encoder.device,
        partial(_identify, lower, kind=f"states below layer {layer} as {dtype}"),
    )


def _last_states(
    encoder: nn.Module, ids: Sequence[Tensor], *, padding: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Last states `(rows, tokens, hidden)` and the mask `(rows, tokens)` of some rows."""
    padded, mask = pad_rows(ids, padding=padding)
    padded, mask = padded.to(device), mask.to(device)
    return encoder(input_ids=padded, attention_mask=mask).last_hidden_state, mask


_UNREAD = "_name_or_path architectures dtype id2label label2id transformers_version".split()
"""Keys of a config that change nothing in an encoder's states."""


def _identify(encoder: nn.Module, *, kind: str) -> bytes:
    """Hash an encoder's weights and config, so that equal hashes mean equal states."""
    config = encoder.config
    assert isinstance(config, PretrainedConfig)  # noqa: S101  narrows nn.Module's attribute
    settings = {name: v for name, v in config.to_dict().items() if name not in _UNREAD}
    about = [kind, transformers.__version__, settings]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.digest()


_SAME_IDS = Computation(list, 1 << 62, torch.long, (), torch.device("cpu"), lambda: bytes(32))
"""Ids as they are, so that a text is tokenized once."""


@dataclass(frozen=True, slots=True)
class SourceNetwork:
    """The frozen encoder of an encoder-decoder seen as two functions.

    Attributes:
        encode: Texts of one direction to rows, one tensor `(tokens, ...)` a text.
        run: Padded rows `(rows, tokens, ...)` and their mask `(rows, tokens)` to last states
            `(rows, tokens, hidden)`; stacked weights act on it.
        padding: What fills short rows.
    """

    encode: Callable[[Sequence[str], Direction], list[Tensor]]
    run: Callable[[Tensor, Tensor], Tensor]
    padding: int


def whole_source_network(backbone: Seq2Seq) -> SourceNetwork:
    """Start every pass from token ids, and keep nothing."""

    def run(ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = backbone.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return states

    return SourceNetwork(partial(tokenize_sources, backbone), run, padding=backbone.padding)


def build_source_network(
    backbone: Seq2Seq,
    *,
    frozen_layers: int,
    storage: Storage | None = None,
    cache_dtype: torch.dtype = torch.bfloat16,
) -> SourceNetwork:
    """Start every pass from the states below layer `frozen_layers`, where that is known how.

    Args:
        frozen_layers: Of the encoder, those below its lowest adapted one, or all.
        storage, cache_dtype: As in `build_network`.
    """
    family, encoder = FAMILIES.get(backbone.config.model_type), backbone.encoder
    if family is None or not frozen_layers:
        return whole_source_network(backbone)
    upper = begun(encoder, family, layer=frozen_layers)

    def read(sources: Sequence[tuple[Direction, str]]) -> list[Tensor]:
        return [
            row
            for direction, texts in groupby(sources, key=itemgetter(0))
            for row in tokenize_sources(backbone, [text for _, text in texts], direction)
        ]

    below = states_below(encoder, frozen_layers, padding=backbone.padding, dtype=cache_dtype)
    cache = TextCache(read, below, clock=backbone.clock, storage=storage or Storage())

    def encode(texts: Sequence[str], direction: Direction) -> list[Tensor]:
        with backbone.running():
            return cache.take([(direction, text) for text in texts])

    def run(states: Tensor, mask: Tensor) -> Tensor:
        given = states.to(encoder.dtype)
        out: Tensor = upper(inputs_embeds=given, attention_mask=mask).last_hidden_state
        return out

    return SourceNetwork(encode, run, padding=0)


def _padding_id(backbone: Backbone) -> int:
    pad = backbone.tokenizer.pad_token_id
    return int(pad) if isinstance(pad, int) else 0


Embed = Callable[[Sequence[str]], NDArray[Any]]
"""Texts to features, `(texts, features)`."""


def mean_pooled_embedder(
    backbone: Backbone, *, batch_tokens: int, storage: Storage | None = None
) -> Embed:
    """Make features of texts: the mean of the encoder's last states over real tokens.

    Features are float32 and kept by text, so that many draws of a task cost one pass.

    Args:
        batch_tokens: Most tokens of one padded batch.
        storage: Where features are kept; None keeps them for this process alone.
    """
    encoder, device = without_pooler(backbone.encoder), backbone.device
    hidden = int(backbone.config.hidden_size)

    @torch.no_grad()
    def run(ids: list[Tensor]) -> Sequence[Tensor]:
        padding = _padding_id(backbone)
        states, mask = _last_states(encoder, ids, padding=padding, device=device)
        real = mask.unsqueeze(-1).float()
        means = (states.float() * real).sum(1) / real.sum(1)
        return [mean.unsqueeze(0).clone() for mean in means.cpu()]

    identity = partial(_identify, encoder, kind="means of last states")
    cpu = torch.device("cpu")
    means = Computation(run, batch_tokens, torch.float32, (hidden,), cpu, identity)
    features = TextCache(
        partial(tokenize, backbone), means, clock=backbone.clock, storage=storage or Storage()
    )

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, hidden), dtype=np.float32)
        with backbone.running():
            return torch.cat(features.take(texts)).numpy()

    return embed
