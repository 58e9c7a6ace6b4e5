"""Vocabularies of encoder-decoders that start from nothing, with tags of target languages.

Either SentencePiece pieces trained on the texts at hand, as a Marian tokenizer, or those
pieces of a pretrained encoder's vocabulary that the texts need, as a tokenizer of its kind.
"""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, MarianTokenizer, PreTrainedTokenizerFast

from nlp_meta.encoders.languages import UNDETERMINED
from nlp_meta.errors import BackboneError, SettingsError

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
    whole = AutoTokenizer.from_pretrained(encoder)
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


def _train_pieces(path: Path, texts: Sequence[str], *, size: int) -> None:
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
