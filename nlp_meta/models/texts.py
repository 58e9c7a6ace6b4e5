"""Texts longer than a model takes: counted, or an error that names the first of them."""

from collections.abc import Callable, Sequence

from nlp_meta.errors import DataError


def count_long_texts(
    lengths: Sequence[int], *, longest: int, long_texts: str, name: Callable[[int], str]
) -> int:
    """Number of texts longer than a model takes, by their lengths in tokens.

    Args:
        name: What a text is called, by its place from 0.

    Raises:
        DataError: There are some and `long_texts` is `stop`.
    """
    long = [place for place, length in enumerate(lengths) if length > longest]
    if long and long_texts == "stop":
        raise DataError(
            f"cannot take {len(long)} of {len(lengths)} texts, {name(long[0])} the first: they "
            f"have more than {longest} tokens and the model takes no more; shorten them, or cut "
            "them with `--long-texts cut`"
        )
    return len(long)


def name_sentence(place: int, *, sources: int, lines: Sequence[int] | None) -> str:
    """Say which sentence is meant of sources that are followed by their targets.

    Args:
        lines: Of the pairs in their file; None counts the pairs.
    """
    side, pair = ("source", place) if place < sources else ("target", place - sources)
    return f"{side} {pair + 1}" if lines is None else f"the {side} in line {lines[pair]}"
