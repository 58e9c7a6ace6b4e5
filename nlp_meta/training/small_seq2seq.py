"""Encoder-decoders that are built here, from nothing or around an encoder, and their vocabularies.

From nothing the architecture is Marian's. A pretrained encoder of BERT's shape has
learned positions and a norm behind its embeddings, which Marian has no place for and
BART has: a BART model holds such an encoder weight for weight. A vocabulary is either
SentencePiece pieces trained on the texts at hand, as a Marian tokenizer, or those pieces
of a pretrained encoder's vocabulary that the texts need; both have tags of target languages.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor
from transformers import (
    AutoModel,
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from nlp_meta.encoders.backbone import is_head, load_network, load_tokenizer, reading
from nlp_meta.encoders.seq2seq import TAGS, UNDETERMINED
from nlp_meta.errors import BackboneError, SettingsError, need_packages

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
    with reading(f"the encoder '{encoder}'", setting="`small_model.encoder_init`"):
        pretrained = load_network(AutoModel, encoder, may_lack=is_head, dtype=torch.float32)
        whole: Any = load_tokenizer(encoder)
    config = pretrained.config
    if config.model_type not in SHAPED or encoder_layers > config.num_hidden_layers:
        raise BackboneError(
            f"cannot begin with {encoder_layers} layers of '{encoder}', a {config.model_type} of "
            f"{config.num_hidden_layers}: one of {', '.join(SHAPED)} with as many layers is "
            "needed; change `small_model.encoder_init` or `small_model.encoder_layers`"
        )
    layers = (encoder_layers, decoder_layers)
    bart_config = _bart_config(config, tokenizer, layers, dropout=dropout)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BartForConditionalGeneration(bart_config)
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    words = (piece for piece in pieces if not any(tag.fullmatch(piece) for tag in TAGS))
    kept = [whole.convert_tokens_to_ids(word) for word in words]
    weights = pretrained.state_dict()
    _copy_encoder(model, weights, kept, offset=_offset(config))
    _copy_decoder(model, weights)
    return model


def _bart_config(
    config: Any, tokenizer: PreTrainedTokenizerBase, layers: tuple[int, int], *, dropout: float
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


END, UNKNOWN, PADDING = "</s>", "<unk>", "<pad>"
NEVER_PIECES = ("<s>", END, UNKNOWN)
LONGEST_TEXT = 16384
"""Bytes; SentencePiece leaves longer texts out."""


def save_marian_vocabulary(
    folder: Path, texts: Sequence[str], *, languages: Sequence[str], size: int, max_tokens: int
) -> MarianTokenizer:
    """Train pieces on texts and save them as a Marian tokenizer.

    Characters that no text has are spelled by their bytes, so no text is unknown.

    Args:
        languages: Target languages, each of which gets a tag, beside `und`.
        size: Pieces, tags and special tokens in all.

    Raises:
        SettingsError: The texts do not give so many pieces, or are more than fit into them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tags = _tags(languages)
    model = folder / "source.spm"
    # Three pieces of SentencePiece's own are replaced by three of Marian's.
    _train_pieces(model, texts, size=size - len(tags))
    shutil.copyfile(model, folder / "target.spm")
    sentencepiece = _load_sentencepiece()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    names = [pieces.id_to_piece(place) for place in range(pieces.get_piece_size())]
    names = [name for name in names if name not in NEVER_PIECES]
    order = [END, UNKNOWN, *names, *tags, PADDING]
    vocabulary = json.dumps({name: place for place, name in enumerate(order)}, ensure_ascii=False)
    (folder / "vocab.json").write_text(vocabulary, encoding="utf-8")
    tokenizer = MarianTokenizer(
        str(model),
        str(folder / "target.spm"),
        str(folder / "vocab.json"),
        model_max_length=max_tokens,
    )
    tokenizer.save_pretrained(str(folder))
    return tokenizer


def save_trimmed_vocabulary(
    folder: Path,
    texts: Sequence[str],
    *,
    encoder: str,
    languages: Sequence[str],
    size: int,
    max_tokens: int,
) -> PreTrainedTokenizerFast:
    """Keep the pieces of an encoder's vocabulary that texts need, and add tags.

    Args:
        size: Pieces, most frequent first; characters and special tokens are kept beyond it.

    Raises:
        BackboneError: The encoder's tokenizer is not of SentencePiece's unigram kind.
    """
    with reading(f"the tokenizer of '{encoder}'", setting="`small_model.encoder_init`"):
        whole: Any = load_tokenizer(encoder)
    state = json.loads(whole.backend_tokenizer.to_str())
    if state["model"]["type"] != "Unigram":
        raise BackboneError(
            f"cannot keep pieces of the vocabulary of '{encoder}': it is of the kind "
            f"{state['model']['type']} and Unigram is needed; change `small_model.encoder_init`"
        )
    kept = _needed(whole, state, texts, size=size)
    _renumber(state, {old: new for new, old in enumerate(kept)})
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_max_length=max_tokens,
        **{name: str(token) for name, token in whole.special_tokens_map.items() if token},
    )
    tokenizer.add_tokens([AddedToken(tag, special=True) for tag in _tags(languages)])
    tokenizer.save_pretrained(str(folder))
    return tokenizer


def tag_of(language: str) -> str:
    """The token before a source that tells which language to write."""
    return f">>{language}<<"


def _tags(languages: Sequence[str]) -> list[str]:
    return [tag_of(language) for language in sorted({*languages, UNDETERMINED})]


def _load_sentencepiece() -> Any:
    need_packages("train a vocabulary", "sentencepiece", extra="translation")
    import sentencepiece

    return sentencepiece


def _train_pieces(path: Path, texts: Sequence[str], *, size: int) -> None:
    sentencepiece = _load_sentencepiece()
    try:
        with path.open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=file,
                vocab_size=size,
                model_type="unigram",
                character_coverage=0.9995,
                byte_fallback=True,
                max_sentence_length=LONGEST_TEXT,
                num_threads=1,
                minloglevel=2,
            )
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].rstrip(".")
        raise SettingsError(
            f"cannot make a vocabulary of {size} pieces from {len(texts)} texts ({reason}): a size "
            "that they give is needed; change `small_model.vocabulary`"
        ) from error


def _needed(whole: Any, state: dict[str, Any], texts: Sequence[str], *, size: int) -> list[int]:
    """Ids of the special tokens, of the most frequent pieces of texts, and of all characters."""
    pieces = [piece for piece, _ in state["model"]["vocab"]]
    counts: Counter[int] = Counter()
    for first in range(0, len(texts), 1024):
        for ids in whole(list(texts[first : first + 1024]), verbose=False)["input_ids"]:
            counts.update(ids)
    signs = {sign for place in counts if place < len(pieces) for sign in pieces[place]}
    kept = {token["id"] for token in state["added_tokens"]} | {state["model"]["unk_id"]}
    kept |= {place for place, piece in enumerate(pieces) if piece in signs}
    # Of two equally frequent ones the earlier, which the encoder found likelier.
    frequent = sorted(counts.keys() - kept, key=lambda place: (-counts[place], place))
    return sorted(kept.union(frequent[: max(0, size - len(kept))]))


def _renumber(state: dict[str, Any], new: dict[int, int]) -> None:
    """Give the kept pieces their new ids everywhere in a tokenizer's state."""
    model = state["model"]
    pieces = model["vocab"]
    # Added tokens may lie beyond the pieces (a mask); they are pieces of the new model.
    extra = {token["id"]: [token["content"], 0.0] for token in state["added_tokens"]}
    model["vocab"] = [pieces[old] if old < len(pieces) else extra[old] for old in new]
    model["unk_id"] = new[model["unk_id"]]
    for token in state["added_tokens"]:
        token["id"] = new[token["id"]]
    for token in (state["post_processor"] or {}).get("special_tokens", {}).values():
        token["ids"] = [new[old] for old in token["ids"]]
