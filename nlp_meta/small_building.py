"""Building a small encoder-decoder as its config describes it: the vocabulary, then the model."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from nlp_meta.encoders.languages import read_languages
from nlp_meta.encoders.seq2seq import Seq2Seq
from nlp_meta.encoders.small_models import build_around_encoder, build_marian
from nlp_meta.encoders.vocabulary import save_marian_vocabulary, save_trimmed_vocabulary, tag_of
from nlp_meta.errors import SettingsError
from nlp_meta.generation_settings import SmallModelSettings, SmallTraining
from nlp_meta.small_corpus import Pair


def save_vocabulary(
    settings: SmallTraining, folder: Path, pairs: Sequence[Pair], languages: Sequence[str]
) -> None:
    """Make the tokenizer of a run from the texts that it trains on, and keep it in a folder.

    A run that goes on from an earlier model keeps that one's.

    Raises:
        SettingsError: The earlier model has no tag for a language of the pairs.
    """
    if settings.run.init_from is not None:
        _keep_vocabulary(settings.run.init_from, folder, languages)
        return
    texts = _texts(pairs)
    small = settings.small_model
    if small.encoder_init is None:
        save_marian_vocabulary(
            folder,
            texts,
            languages=languages,
            size=small.vocabulary,
            max_tokens=small.max_tokens,
        )
    else:
        save_trimmed_vocabulary(
            folder,
            texts,
            encoder=small.encoder_init,
            languages=languages,
            size=small.vocabulary,
            max_tokens=small.max_tokens,
        )


def _keep_vocabulary(earlier: str, folder: Path, languages: Sequence[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(earlier)
    known = tokenizer.get_vocab().keys()
    missing = [language for language in languages if tag_of(language) not in known]
    if missing:
        raise SettingsError(
            f"cannot go on from '{earlier}': it has no tag for {', '.join(missing)}, and one for "
            "every language of the pairs is needed; change `run.init_from`, or set it to null"
        )
    tokenizer.save_pretrained(folder)


def _texts(pairs: Sequence[Pair]) -> list[str]:
    return list(dict.fromkeys(text for pair in pairs for text in (pair.source, pair.target)))


def build_backbone(settings: SmallTraining, folder: Path, device: torch.device) -> Seq2Seq:
    """Begin with the model of a run: its kept tokenizer and the weights before any step."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    small, seed = settings.small_model, settings.run.seed
    if settings.run.init_from is not None:
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_pretrained(
            settings.run.init_from, dtype=torch.float32, use_safetensors=True
        )
    else:
        model = _build_model(small, tokenizer, seed=seed)
    model.to(device)  # type: ignore[arg-type]  # transformers wraps it without its types
    name, begin = settings.run.output_dir, int(model.config.decoder_start_token_id)
    languages = read_languages(model.config, tokenizer, name=name, begin=begin)
    return Seq2Seq(model.eval(), tokenizer, name, languages, small.max_tokens)


def _build_model(
    small: SmallModelSettings, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> PreTrainedModel:
    if small.encoder_init is not None:
        return build_around_encoder(
            small.encoder_init,
            tokenizer,
            encoder_layers=small.encoder_layers,
            decoder_layers=small.decoder_layers,
            dropout=small.dropout,
            seed=seed,
        )
    return build_marian(
        tokenizer,
        hidden=small.hidden,
        encoder_layers=small.encoder_layers,
        decoder_layers=small.decoder_layers,
        attention_heads=small.attention_heads,
        feed_forward=small.feed_forward,
        dropout=small.dropout,
        max_tokens=small.max_tokens,
        seed=seed,
    )
