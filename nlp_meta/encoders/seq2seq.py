"""Encoder-decoders: pretrained, frozen, with what it takes to tell them their languages.

Weights are read from safetensors only, are never changed, and the model stays in
evaluation mode: dropout would be a random input that nobody passed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from nlp_meta.data.languages import split_pair
from nlp_meta.encoders.language_codes import Direction, Languages, find_direction, read_languages
from nlp_meta.errors import BackboneError


@dataclass(frozen=True, slots=True)
class Seq2Seq:
    """A frozen encoder-decoder and what is needed to feed and to adapt it.

    Attributes:
        name: Hub id or folder, as the user typed it; what an adapter is saved for.
        max_tokens: Longer texts are cut; special tokens count.
        pooling: Its own form is what an adapter is saved for.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    languages: Languages
    max_tokens: int
    pooling: str = "native"

    @property
    def config(self) -> PretrainedConfig:
        return self.model.config

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def padding(self) -> int:
        """Id that fills short rows."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if isinstance(pad, int) else 0


def load_seq2seq(
    name: str,
    *,
    max_tokens: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    token: str | None = None,
) -> Seq2Seq:
    """Load a pretrained encoder-decoder and freeze it.

    Args:
        name: Hub id or a folder.
        dtype: Of the frozen weights. transformers 5 would otherwise take the checkpoint's.
        token: For a private model on the Hub; None takes HF_TOKEN, or the login.

    Raises:
        BackboneError: No such model, no safetensors, or a model that takes fewer tokens.
    """
    device = torch.device(device)
    found = {"revision": revision or "main", "token": token}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **found)
        config = AutoConfig.from_pretrained(name, **found)
        model = AutoModelForSeq2SeqLM.from_pretrained(
            name,
            dtype=dtype,
            use_safetensors=True,
            attn_implementation="eager" if device.type == "cpu" else None,
            **found,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise BackboneError(
            f"cannot load the encoder-decoder '{name}' ({reason}): a Hub id or a folder with "
            "config.json, a tokenizer and model.safetensors is needed; change "
            "`model.model_name_or_path`"
        ) from error
    _check_length(name, config, tokenizer, max_tokens)
    model.requires_grad_(False).eval().to(device)
    languages = read_languages(config, tokenizer, name=name, begin=_begin(name, model))
    return Seq2Seq(model, tokenizer, name, languages, max_tokens)


def skeleton(backbone: Seq2Seq) -> PreTrainedModel:
    """Build the architecture without memory, for PEFT to look at."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(backbone.config)
    return model


def direct(backbone: Seq2Seq, pair: str) -> Direction:
    """Tell a backbone a language pair such as `ind-jav`; see `find_direction` for errors."""
    return find_direction(backbone.languages, *split_pair(pair))


def tokenize_sources(backbone: Seq2Seq, texts: Sequence[str], direction: Direction) -> list[Tensor]:
    """Ids of source texts as the encoder takes them, cut at `max_tokens`."""
    _set_languages(backbone.tokenizer, direction)
    return _tokenize(backbone, text=[direction.prefix_text + text for text in texts])


def tokenize_targets(backbone: Seq2Seq, texts: Sequence[str], direction: Direction) -> list[Tensor]:
    """Ids of translations as the decoder is to write them, cut at `max_tokens`."""
    _set_languages(backbone.tokenizer, direction)
    return _tokenize(backbone, text_target=list(texts))


def _tokenize(backbone: Seq2Seq, **texts: list[str]) -> list[Tensor]:
    if not next(iter(texts.values())):
        return []
    encoded = backbone.tokenizer(
        **texts, truncation=True, max_length=backbone.max_tokens, padding=False
    )
    return [torch.tensor(ids, dtype=torch.long) for ids in encoded["input_ids"]]


def _set_languages(tokenizer: PreTrainedTokenizerBase, direction: Direction) -> None:
    """A tokenizer keeps its languages as state, so every use sets them first."""
    if direction.source is not None:
        tokenizer.src_lang = direction.source
        tokenizer.tgt_lang = direction.target


def _begin(name: str, model: PreTrainedModel) -> int:
    config, decoding = model.config, model.generation_config
    found = [getattr(place, "decoder_start_token_id", None) for place in (config, decoding)]
    found += [getattr(place, "bos_token_id", None) for place in (config, decoding)]
    known = [place for place in found if isinstance(place, int)]
    if not known:
        raise BackboneError(
            f"cannot decode with '{name}': its config has no `decoder_start_token_id`, which an "
            "encoder-decoder needs; change `model.model_name_or_path`"
        )
    return known[0]


def _check_length(
    name: str, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> None:
    longest = int(getattr(config, "max_position_embeddings", max_tokens))
    longest = min(longest, int(tokenizer.model_max_length))
    if not 3 <= max_tokens <= longest:
        raise BackboneError(
            f"cannot cut texts at {max_tokens} tokens for '{name}': 3 to {longest} are needed; "
            "change `model.max_tokens`"
        )
