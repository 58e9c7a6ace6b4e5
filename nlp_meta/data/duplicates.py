"""Near duplicates: texts that are the same but for a few words.

Two texts are compared by the Jaccard similarity of their shingles, runs of five
characters of the folded text, so that it works alike in languages with and without
blanks between words. The search is an exact join, not a sketch: nothing that reaches
the threshold is missed, nothing is drawn at random, and in long texts it is faster
than MinHash, whose recall near the threshold is far below 1. Texts whose keys are equal are
the same.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from nlp_meta.errors import SettingsError

# Punctuation, separators, control and format characters, spacing accents such as the
# back quote. Letters, marks, digits, currency and emoji stay: they can carry the sentiment.
_FOLDED = frozenset({"Cc", "Cf", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sk", "Zl", "Zp", "Zs"})

LEAST_THRESHOLD = 0.5

_SHINGLE = 5
# Short texts are alike by chance ("works very well"), so below this they must be equal.
_LEAST_SHINGLES = 16
# Rare shingles that two texts must share before they are compared; at most what the shortest
# text shares with its match at the least threshold, 16 * 0.5.
_RARE_SHARED = 8
# Rows of one sparse product and pairs of one comparison: they bound the memory.
_ROWS, _PAIRS = 512, 1000
_ROUNDING = 1e-9
# Odd, so that a product with it modulo 2**64 loses nothing.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Left rows, right rows and their similarities."""


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


def first_places(texts: Sequence[str]) -> list[int]:
    """Places of the sentences that no earlier one equals."""
    firsts: dict[str, int] = {}
    for place, text in enumerate(texts):
        firsts.setdefault(sentence_key(text), place)
    return list(firsts.values())


@cache
def _ascii_table() -> dict[int, None]:
    return {code: None for code in range(128) if unicodedata.category(chr(code)) in _FOLDED}


@cache
def _folded_characters() -> re.Pattern[str]:
    # The planes above 0x1FFFF hold ideographs and tags, no punctuation.
    folded = [chr(code) for code in range(0x20000) if unicodedata.category(chr(code)) in _FOLDED]
    return re.compile("[" + re.escape("".join(folded)) + "]+")


@dataclass(frozen=True, slots=True)
class Match:
    """A text and the one that it nearly repeats.

    Attributes:
        left, right: Positions among the texts that were handed in.
        similarity: Shared shingles over all shingles of both; 1 for equal folded texts.
    """

    left: int
    right: int
    similarity: float


def find_near_duplicates(
    left: Sequence[str], right: Sequence[str], *, threshold: float
) -> list[Match]:
    """Match each left text with the most similar right text, the first of equal ones.

    Texts whose folded forms are equal are always found; those of fewer than 20
    characters, folded, are found in no other way.

    Args:
        threshold: Least similarity, from 0.5 to 1. One word changed in 30 gives about
            0.88, one in 15 about 0.76.

    Raises:
        SettingsError: `threshold` is not from 0.5 to 1.

    Source:
        Chaudhuri et al. 2006, "A Primitive Operator for Similarity Joins in Data
        Cleaning" (prefixes of rare shingles); Wang et al. 2012, "Can We Beat the Prefix
        Filtering?", section 3 (longer prefixes that must share more).
    """
    _check_threshold(threshold)
    left_keys, first = [text_key(text) for text in left], _first_places(right)
    nearest = {key: (first[key], 1.0) for key in left_keys if key in first}
    sought = [key for key in dict.fromkeys(left_keys) if key not in first and _is_long(key)]
    known = [key for key in first if _is_long(key)]
    if sought and known:
        sets = _shingle_sets([*sought, *known])
        pairs = _join(sets[: len(sought)], sets[len(sought) :], threshold)
        for row, other, similarity in _best(pairs):
            nearest[sought[row]] = (first[known[other]], similarity)
    return [Match(i, *nearest[key]) for i, key in enumerate(left_keys) if key in nearest]


def find_repeats(texts: Sequence[str], *, threshold: float) -> list[Match]:
    """Match each text with the most similar one before it, as `find_near_duplicates` does.

    Without the left texts of all matches no two texts are near duplicates.
    """
    _check_threshold(threshold)
    first = _first_places(texts)
    nearest: dict[int, tuple[int, float]] = {}
    long = [key for key in first if _is_long(key)]
    if long:
        sets = _shingle_sets(long)
        left, right, similarity = _join(sets, sets, threshold)
        before = right < left
        for row, other, value in _best((left[before], right[before], similarity[before])):
            nearest[first[long[row]]] = (first[long[other]], value)
    for place, text in enumerate(texts):
        if first[text_key(text)] != place:
            nearest[place] = (first[text_key(text)], 1.0)
    return [Match(place, *nearest[place]) for place in sorted(nearest)]


def _check_threshold(threshold: float) -> None:
    if not LEAST_THRESHOLD <= threshold <= 1:
        raise SettingsError(
            f"cannot search near duplicates of similarity {threshold}: {LEAST_THRESHOLD} to 1 is "
            "needed; change `threshold`"
        )


def _first_places(texts: Sequence[str]) -> dict[str, int]:
    first: dict[str, int] = {}
    for place, text in enumerate(texts):
        first.setdefault(text_key(text), place)
    return first


def _is_long(key: str) -> bool:
    return len(key) - _SHINGLE + 1 >= _LEAST_SHINGLES


def _shingle_sets(keys: Sequence[str]) -> Any:
    """Sparse zeros and ones, `(keys, shingles)`, the rarest shingle first; short keys fail."""
    lengths = np.array([len(key) for key in keys])
    counts = lengths - _SHINGLE + 1
    rows = np.repeat(np.arange(len(keys)), counts)
    # The shingles that begin before the end of one key and end in the next are passed over.
    starts = np.arange(len(rows)) + (_SHINGLE - 1) * rows
    _, columns = np.unique(_hash_shingles("".join(keys))[starts], return_inverse=True)
    ones = np.ones(len(columns), dtype=np.float32)
    sets = csr_array((ones, (rows, columns)))
    sets.data[:] = 1  # equal shingles of one text were added up
    order = np.argsort(np.bincount(sets.indices), kind="stable")
    rank = np.empty(len(order), dtype=sets.indices.dtype)
    rank[order] = np.arange(len(order))
    ranked = csr_array((sets.data, rank[sets.indices], sets.indptr), shape=sets.shape)
    ranked.sort_indices()
    return ranked


def _hash_shingles(text: str) -> NDArray[np.uint64]:
    """A number for the shingle at each place; two shingles share one with chance 2**-64."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    places = len(codes) - _SHINGLE + 1
    hashed = np.zeros(places, dtype=np.uint64)
    for offset in range(_SHINGLE):
        hashed = hashed * _MULTIPLIER + codes[offset : offset + places]
    return hashed


def _join(left: Any, right: Any, threshold: float) -> Pairs:
    """Find all pairs of rows that reach the threshold."""
    left_sizes, right_sizes = np.diff(left.indptr), np.diff(right.indptr)
    rare_left = _rarest(left, left_sizes, threshold)
    rare_right = _rarest(right, right_sizes, threshold).T.tocsr()
    pairs: list[Pairs] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for start in range(0, left.shape[0], _ROWS):
        shared = (rare_left[start : start + _ROWS] @ rare_right).tocoo()
        likely = shared.data >= _RARE_SHARED
        rows, others = shared.row[likely] + start, shared.col[likely]
        smaller = np.minimum(left_sizes[rows], right_sizes[others])
        larger = np.maximum(left_sizes[rows], right_sizes[others])
        near = smaller >= threshold * larger - _ROUNDING
        pairs += _compare(left, right, rows[near], others[near], threshold)
    rows, others, similarity = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return rows, others, similarity


def _rarest(sets: Any, sizes: NDArray[Any], threshold: float) -> Any:
    """Keep of each row its rarest shingles, enough to share `_RARE_SHARED` with any match.

    A match shares at least `threshold * size` shingles with it, so at least
    `_RARE_SHARED` of them are among all but the last `threshold * size - _RARE_SHARED`.
    """
    kept = sizes - np.ceil(threshold * sizes - _ROUNDING).astype(sizes.dtype) + _RARE_SHARED
    kept = np.where(sizes >= _LEAST_SHINGLES, np.minimum(kept, sizes), 0)
    within = np.arange(sets.nnz) - np.repeat(sets.indptr[:-1], sizes) < np.repeat(kept, sizes)
    bounds = np.concatenate([[0], np.cumsum(kept)])
    return csr_array((sets.data[within], sets.indices[within], bounds), shape=sets.shape)


def _compare(
    left: Any, right: Any, rows: NDArray[Any], others: NDArray[Any], threshold: float
) -> list[Pairs]:
    pairs: list[Pairs] = []
    for start in range(0, len(rows), _PAIRS):
        i, j = rows[start : start + _PAIRS], others[start : start + _PAIRS]
        shared = left[i].multiply(right[j]).sum(axis=1).astype(np.float64)
        sizes = left[i].sum(axis=1) + right[j].sum(axis=1)
        similarity = shared / (sizes - shared)
        near = similarity >= threshold - _ROUNDING
        pairs.append((i[near].astype(np.int64), j[near].astype(np.int64), similarity[near]))
    return pairs


def _best(pairs: Pairs) -> list[tuple[int, int, float]]:
    """Of each left row the most similar right row, the first of equal ones."""
    rows, others, similarity = pairs
    best = np.lexsort((others, -similarity, rows))
    _, firsts = np.unique(rows[best], return_index=True)
    return [(int(rows[k]), int(others[k]), float(similarity[k])) for k in best[firsts]]
