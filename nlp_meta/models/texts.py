"""Texts as users give them: none empty, sides of one length, none longer than a model takes."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from nlp_meta.encoders.backbone import Backbone
from nlp_meta.encoders.batches import tokenize
from nlp_meta.errors import DataError


def check_texts(texts: Sequence[str]) -> None:
    """Refuse empty texts, by their place."""
    for place, text in enumerate(texts, start=1):
        if not text.strip():
            raise DataError(
                f"cannot read text {place} of {len(texts)}: it is empty and every text needs at "
                "least one character; leave it out"
            )


def check_labeled(texts: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse texts and labels that differ in number, and empty texts."""
    if len(texts) != len(labels):
        raise DataError(
            f"cannot adapt to {len(texts)} texts with {len(labels)} labels: one label for each "
            "text is needed; give as many"
        )
    check_texts(texts)


def check_sides(sources: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse sides that differ in number, and empty sentences."""
    if len(sources) != len(targets):
        raise DataError(
            f"cannot adapt to {len(sources)} sentences with {len(targets)} translations: one "
            "translation for each sentence is needed; give as many"
        )
    check_texts(sources)
    check_texts(targets)


def count_cut(
    backbone: Backbone,
    texts: Sequence[str],
    *,
    long_texts: str,
    name: Callable[[int], str] = lambda place: f"text {place + 1}",
) -> int:
    """Number of texts longer than an encoder takes.

    Args:
        name: What a text is called, by its place from 0.

    Raises:
        DataError: There are some and `long_texts` is `stop`.
    """
    longest = backbone.max_tokens
    rows = tokenize(replace(backbone, max_tokens=longest + 1), texts)
    return count_long_texts(list(map(len, rows)), longest=longest, long_texts=long_texts, name=name)


def count_long_texts(
    lengths: Sequence[int], *, longest: int, long_texts: str, name: Callable[[int], str]
) -> int:
    """Number of texts longer than a model takes, by their lengths in tokens.

    Arguments and errors are those of `count_cut`.
    """
    long = [place for place, length in enumerate(lengths) if length > longest]
    if long and long_texts == "stop":
        raise DataError(
            f"cannot take {len(long)} of {len(lengths)} texts, {name(long[0])} the first: they "
            f"have more than {longest} tokens and the model takes no more; shorten them, or set "
            "`long_texts` to cut"
        )
    return len(long)


def name_sentence(place: int, *, sources: int, lines: Sequence[int] | None) -> str:
    """Say which sentence is meant of sources that are followed by their targets.

    Args:
        lines: Of the pairs in their file; None counts the pairs.
    """
    side, pair = ("source", place) if place < sources else ("target", place - sources)
    return f"{side} {pair + 1}" if lines is None else f"the {side} in line {lines[pair]}"
