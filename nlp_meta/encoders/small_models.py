"""Encoder-decoders that are built here: from nothing, or around a pretrained encoder.

From nothing the architecture is Marian's. A pretrained encoder of BERT's shape has
learned positions and a norm behind its embeddings, which Marian has no place for and
BART has: a BART model holds such an encoder weight for weight.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from nlp_meta.encoders.languages import TAGS
from nlp_meta.errors import BackboneError

SHAPED = ("bert", "roberta", "xlm-roberta", "camembert")
"""Model types whose layers BART's encoder can hold."""

# BART numbers positions from 2 on, as RoBERTa does; BERT from 0.
BART_OFFSET = 2
_LAYER = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn_layer_norm": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "final_layer_norm": "output.LayerNorm",
}


def build_marian(
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden: int,
    encoder_layers: int,
    decoder_layers: int,
    attention_heads: int,
    feed_forward: int,
    dropout: float,
    max_tokens: int,
    seed: int,
) -> PreTrainedModel:
    """A Marian model with random weights; all three of its embeddings are one matrix."""
    size, padding = len(tokenizer), tokenizer.pad_token_id
    config = MarianConfig(
        vocab_size=size,
        d_model=hidden,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=attention_heads,
        decoder_attention_heads=attention_heads,
        encoder_ffn_dim=feed_forward,
        decoder_ffn_dim=feed_forward,
        activation_function="gelu",
        dropout=dropout,
        max_position_embeddings=max_tokens,
        scale_embedding=True,
        # The embeddings are scaled up by the root of `hidden`.
        init_std=hidden**-0.5,
        pad_token_id=padding,
        decoder_start_token_id=padding,
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MarianMTModel(config)


def build_around_encoder(
    encoder: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    encoder_layers: int,
    decoder_layers: int,
    dropout: float,
    seed: int,
) -> PreTrainedModel:
    """A BART model whose encoder is the lowest layers of a pretrained one.

    Its decoder begins with the same weights; with more layers than the encoder keeps, with
    the lowest of them several times.

    Args:
        tokenizer: Of pieces of the encoder's own vocabulary and tags behind them.

    Raises:
        BackboneError: The encoder has another shape or fewer layers.
    """
    pretrained = AutoModel.from_pretrained(encoder, dtype=torch.float32, use_safetensors=True)
    config = pretrained.config
    if config.model_type not in SHAPED or encoder_layers > config.num_hidden_layers:
        raise BackboneError(
            f"cannot begin with {encoder_layers} layers of '{encoder}', a {config.model_type} of "
            f"{config.num_hidden_layers}: one of {', '.join(SHAPED)} with as many layers is "
            "needed; change `small_model.encoder_init` or `small_model.encoder_layers`"
        )
    layers = (encoder_layers, decoder_layers)
    own = _bart_config(config, tokenizer, layers, dropout=dropout)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BartForConditionalGeneration(own)
    whole: Any = AutoTokenizer.from_pretrained(encoder)
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    kept = [whole.convert_tokens_to_ids(piece) for piece in pieces if not _is_tag(piece)]
    weights = pretrained.state_dict()
    _copy_encoder(model, weights, kept, offset=_offset(config))
    _copy_decoder(model, weights)
    return model


def _bart_config(
    config: Any,
    tokenizer: PreTrainedTokenizerBase,
    layers: tuple[int, int],
    *,
    dropout: float,
) -> BartConfig:
    return BartConfig(
        vocab_size=len(tokenizer),
        d_model=config.hidden_size,
        encoder_layers=layers[0],
        decoder_layers=layers[1],
        encoder_attention_heads=config.num_attention_heads,
        decoder_attention_heads=config.num_attention_heads,
        encoder_ffn_dim=config.intermediate_size,
        decoder_ffn_dim=config.intermediate_size,
        activation_function="gelu",
        dropout=dropout,
        max_position_embeddings=_positions(config),
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
    )


def _is_tag(piece: str) -> bool:
    return any(tag.fullmatch(piece) for tag in TAGS)


def _offset(config: object) -> int:
    return 0 if getattr(config, "model_type", "") == "bert" else BART_OFFSET


def _positions(config: object) -> int:
    return int(getattr(config, "max_position_embeddings", 0)) - _offset(config)


@torch.no_grad()
def _copy_encoder(
    model: BartForConditionalGeneration,
    pretrained: Mapping[str, Tensor],
    kept: Sequence[int],
    *,
    offset: int,
) -> None:
    encoder = model.model.encoder
    words = pretrained["embeddings.word_embeddings.weight"]
    shared = model.model.shared.weight
    # Tags begin at the mean of all words, the scale that the pretrained norm expects.
    shared.copy_(words.mean(0).expand_as(shared))
    shared[: len(kept)] = words[list(kept)]
    types = pretrained["embeddings.token_type_embeddings.weight"][0]
    positions = pretrained["embeddings.position_embeddings.weight"][offset:]
    encoder.embed_positions.weight[BART_OFFSET:] = positions + types
    _copy(encoder, "layernorm_embedding", pretrained, "embeddings.LayerNorm")
    for layer in range(len(encoder.layers)):
        for name, theirs in _LAYER.items():
            _copy(encoder, f"layers.{layer}.{name}", pretrained, f"encoder.layer.{layer}.{theirs}")


@torch.no_grad()
def _copy_decoder(model: BartForConditionalGeneration, pretrained: Mapping[str, Tensor]) -> None:
    """Begin the decoder's layers with the topmost ones that the encoder keeps.

    What attends to the source begins with what attends to the text itself. Both read states
    of one space, so that copying is learned long before a decoder of random weights learns it.

    Source: Rothe et al. 2020, arXiv:1907.12461, for the layers; attention to the source is
    random there.
    """
    decoder, encoder = model.model.decoder, model.model.encoder
    decoder.embed_positions.weight.copy_(encoder.embed_positions.weight)
    _copy(decoder, "layernorm_embedding", pretrained, "embeddings.LayerNorm")
    kept, count = len(encoder.layers), len(decoder.layers)
    for layer in range(count):
        source = f"encoder.layer.{max(0, kept - count + layer)}"
        for name, theirs in _LAYER.items():
            _copy(decoder, f"layers.{layer}.{name}", pretrained, f"{source}.{theirs}")
            if name.startswith("self_attn"):
                across = f"layers.{layer}.{name.replace('self_attn', 'encoder_attn')}"
                _copy(decoder, across, pretrained, f"{source}.{theirs}")


def _copy(model: torch.nn.Module, name: str, pretrained: Mapping[str, Tensor], theirs: str) -> None:
    for part in ("weight", "bias"):
        model.get_submodule(name).get_parameter(part).copy_(pretrained[f"{theirs}.{part}"])
