"""When two texts count as the same: the keys that duplicates are found by."""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache

# Punctuation, separators, control and format characters, spacing accents such as the
# back quote. Letters, marks, digits, currency and emoji stay: they can carry the sentiment.
_FOLDED = frozenset({"Cc", "Cf", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sk", "Zl", "Zp", "Zs"})


def text_key(text: str) -> str:
    """Fold case, punctuation and blanks, so that near-identical copies share a key.

    Returns:
        The folded text; of a text that is nothing but punctuation, such as ":)",
        the text itself without blanks, so that it does not equal every other one.
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    # `translate` is five times as fast as a pattern, in plain ASCII only.
    if folded.isascii():
        key = folded.translate(_ascii_table())
    else:
        key = _folded_characters().sub("", folded)
    return key or "".join(folded.split())


def sentence_key(text: str) -> str:
    """Fold case, blanks and the stop after a word, so that only one sentence has a key.

    Signs stay, other than in `text_key`: 5 is not -5, C not C#, a question no statement.
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return re.sub(r"(?<=[^\d\s])\s?[.!\u2026\u3002\uff01]+$", "", " ".join(folded.split()))


def first_by_key(texts: Sequence[str], *, key: Callable[[str], str] = text_key) -> dict[str, int]:
    """By key, the place of the first text that has it."""
    firsts: dict[str, int] = {}
    for place, text in enumerate(texts):
        firsts.setdefault(key(text), place)
    return firsts


def first_places(texts: Sequence[str], *, key: Callable[[str], str] = sentence_key) -> list[int]:
    """Places of the texts that no earlier one equals, by their keys."""
    return list(first_by_key(texts, key=key).values())


def number_texts(texts: Sequence[str]) -> list[int]:
    """The number of each text among the different ones, from 0."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(text_key(text), len(numbers)) for text in texts]


def hash_texts(texts: Sequence[str]) -> list[str]:
    """Tell texts again without keeping them; of four billion others one has the same hash."""
    return [hashlib.sha256(text_key(text).encode()).hexdigest()[:8] for text in texts]


def describe_repeats(texts: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Say how many rows of a labeled table repeat a text, which contradict, or tell a label."""
    rows_of: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        rows_of.setdefault(text_key(text), []).append(place)
    repeated = len(texts) - len(rows_of)
    torn = [rows for rows in rows_of.values() if len({labels[place] for place in rows}) > 1]
    keys = [(text_key(text), text_key(label)) for text, label in zip(texts, labels, strict=True)]
    leaks = [place for place, (text, label) in enumerate(keys) if len(label) > 2 and label in text]
    notes = []
    if len(leaks) > 0.8 * len(texts) and len({*labels}) > 1:
        notes.append(
            f"{len(leaks)} of {len(texts)} texts have their label in them, such as that of row "
            f"{leaks[0] + 1}, {labels[leaks[0]]!r}: a figure over them says nothing of other texts"
        )
    if repeated:
        notes.append(
            f"{repeated} of {len(texts)} rows repeat a text that stands there already, up to case "
            f"and punctuation; {len(rows_of)} texts are different"
        )
    if torn:
        first = torn[0]
        other = next(place for place in first if labels[place] != labels[first[0]])
        notes.append(
            f"{len(torn)} {'texts have' if len(torn) > 1 else 'text has'} more than one label, "
            f"such as that of rows {first[0] + 1} and {other + 1}: {labels[first[0]]!r} and "
            f"{labels[other]!r}"
        )
    return notes


@cache
def _ascii_table() -> dict[int, None]:
    return {code: None for code in range(128) if unicodedata.category(chr(code)) in _FOLDED}


@cache
def _folded_characters() -> re.Pattern[str]:
    # The planes above 0x1FFFF hold ideographs and tags, no punctuation.
    folded = [chr(code) for code in range(0x20000) if unicodedata.category(chr(code)) in _FOLDED]
    return re.compile("[" + re.escape("".join(folded)) + "]+")
