"""Leaks: rows of a judged task that a method may have seen, excluded before a comparison runs.

A row is looked for in the whole train part of its task, from which the support sets of
all draws come, and in all rows of the meta-train tasks, so that one check serves every
draw and every method. Both sentences of a translation are looked for.

Two texts are compared by the Jaccard similarity of their shingles, runs of five
characters of the folded text, so that it works alike in languages with and without
blanks between words. The search is an exact join, not a sketch: nothing that reaches
the threshold is missed, nothing is drawn at random, and in long texts it is faster
than MinHash, whose recall near the threshold is far below 1.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from nlp_meta.data.cards import TRANSLATION
from nlp_meta.data.duplicates import first_by_key, text_key
from nlp_meta.data.tasks import Example, Task, texts_of
from nlp_meta.errors import DataError, SettingsError

SEEN_QUERY, SEEN_SUPPORT = "meta-train/query", "meta-train/support"
SUPPORT_QUERY, PARALLEL = "support/query", "parallel"
LEAKS = (SEEN_QUERY, SEEN_SUPPORT, SUPPORT_QUERY, PARALLEL)
EXCLUDED, KEPT = "excluded", "kept"
OVERLAPS = ("exclude", "stop")

# Leaks of each kind in a report, and characters of each text there.
_LISTED, _SHOWN = 20, 80

_LOG = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class Leak:
    """A row of a judged task, and what it repeats.

    Attributes:
        kind: `meta-train/query`: a row that the task is judged on nearly repeats one of a
            meta-train task. `meta-train/support`: a row of its train part does, which gives
            no answer away. `support/query`: a row of its train part nearly repeats one
            that it is judged on. `parallel`: a row that it is judged on is a translation
            of one of a meta-train task, by the corpus's own key.
        task: The judged task.
        part, row: `train` or `test`, and the position there.
        text: The repeated one of the row's texts, of which a translation has two.
        other_task: Where the repeated row is; `task` itself for `support/query`.
        similarity: Of the texts, from the threshold to 1; None for `parallel`.
        action: What `exclude_leaks` does with the row: `excluded`, or `kept` where it
            gives no answer away.
    """

    kind: str
    task: str
    part: str
    row: int
    text: str
    other_task: str
    other_text: str
    similarity: float | None
    action: str


class _Place(NamedTuple):
    task: Task
    part: str
    row: int
    example: Example


def find_leaks(
    meta_train: Sequence[Task], judged: Sequence[Task], *, threshold: float
) -> tuple[Leak, ...]:
    """Find the leaks, each row once a kind with what it resembles most, in the tasks' order.

    A task without test rows is judged on what a draw leaves of its train part: there
    the train rows are what is judged on, and of two that are alike the later is a leak.

    Nothing was learned from the tasks of meta-validation that are among those of
    meta-training; choices were made on them. A translation task of these counts by its
    targets alone: in a parallel corpus its sources are those of every other pair.
    """
    return (
        *_find_seen(meta_train, judged, threshold=threshold),
        *(leak for task in judged for leak in _find_between(task, threshold=threshold)),
        *_find_parallel(meta_train, judged),
    )


def parts_of(task: Task) -> Iterator[tuple[str, Sequence[Example]]]:
    """The parts of a task with their names."""
    yield "train", task.train
    yield "test", task.test


def _judged_part(task: Task) -> str:
    return "test" if task.test else "train"


def _chosen_on(task: Task) -> bool:
    return task.kind == TRANSLATION and task.meta_split == "meta-validation"


def _find_seen(
    meta_train: Sequence[Task], judged: Sequence[Task], *, threshold: float
) -> Iterator[Leak]:
    seen = [
        (task, text)
        for task in meta_train
        for example in chain(task.train, task.test)
        for text in ((example.target,) if _chosen_on(task) else texts_of(example, task.kind))
    ]
    places = [
        _Place(task, part, row, example)
        for task in judged
        for part, rows in parts_of(task)
        for row, example in enumerate(rows)
    ]
    texts = [
        (number, text)
        for number, place in enumerate(places)
        for text in texts_of(place.example, place.task.kind)
    ]
    matches = find_near_duplicates(
        [text for _, text in texts], [text for _, text in seen], threshold=threshold
    )
    best: dict[int, Match] = {}
    for match in matches:
        number, _ = texts[match.left]
        if number not in best or best[number].similarity < match.similarity:
            best[number] = match
    for number, match in best.items():
        place, text = places[number], texts[match.left][1]
        kind = SEEN_QUERY if place.part == _judged_part(place.task) else SEEN_SUPPORT
        yield _leak(kind, place, text, seen[match.right], match.similarity)


def _find_between(task: Task, *, threshold: float) -> Iterator[Leak]:
    """Compare each side with the same side: a translation may resemble its own source."""
    others = task.test or task.train
    train, test = _sides(task.train, task.kind), _sides(task.test, task.kind)
    best: dict[int, tuple[Match, int]] = {}
    for side, texts in enumerate(train):
        if task.test:
            matches = find_near_duplicates(texts, test[side], threshold=threshold)
        else:
            matches = find_repeats(texts, threshold=threshold)
        for match in matches:
            known = best.get(match.left)
            if known is None or known[0].similarity < match.similarity:
                best[match.left] = match, side
    for row in sorted(best):
        match, side = best[row]
        place = _Place(task, "train", row, task.train[row])
        other = texts_of(others[match.right], task.kind)[side]
        yield _leak(SUPPORT_QUERY, place, train[side][row], (task, other), match.similarity)


def _sides(examples: Sequence[Example], kind: str) -> list[list[str]]:
    sources = [example.source for example in examples]
    if kind != TRANSLATION:
        return [sources]
    return [sources, [example.target for example in examples]]


def _find_parallel(meta_train: Sequence[Task], judged: Sequence[Task]) -> Iterator[Leak]:
    """Find translations by group; the same group of two corpora means nothing."""
    seen: dict[tuple[str, str | None], tuple[Task, str]] = {}
    for task in meta_train:
        for example in () if _chosen_on(task) else chain(task.train, task.test):
            seen.setdefault((_corpus(task), example.group), (task, example.source))
    for task in judged:
        for row, example in enumerate(task.test or task.train):
            other = seen.get((_corpus(task), example.group))
            if example.group is not None and other is not None:
                place = _Place(task, _judged_part(task), row, example)
                yield _leak(PARALLEL, place, example.source, other, None)


def _leak(
    kind: str, place: _Place, text: str, other: tuple[Task, str], similarity: float | None
) -> Leak:
    return Leak(
        kind=kind,
        task=place.task.name,
        part=place.part,
        row=place.row,
        text=text,
        other_task=other[0].name,
        other_text=other[1],
        similarity=similarity,
        action=KEPT if kind == SEEN_SUPPORT else EXCLUDED,
    )


def _corpus(task: Task) -> str:
    return task.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What was checked, found and excluded; `dataclasses.asdict` gives plain values.

    Attributes:
        checked: How many meta-train tasks and rows, judged tasks, train and test rows.
        found: Rows by kind, also where there are none; a row may be of two kinds.
        excluded: Judged task to part to rows removed; only what lost any.
        dropped: Meta-train task to the rows that `load_tasks` had left out of it, since a
            judged row repeats them word for word; only what lost any.
        examples: The first of each kind, their texts shortened.
    """

    overlap: str
    threshold: float
    checked: Mapping[str, int]
    found: Mapping[str, int]
    excluded: Mapping[str, Mapping[str, int]]
    dropped: Mapping[str, int]
    examples: tuple[Leak, ...]


def check_leaks(
    meta_train: Sequence[Task], judged: Sequence[Task], *, overlap: str, threshold: float
) -> tuple[tuple[Task, ...], LeakReport]:
    """Find leaks and exclude them, or stop if there are any.

    Args:
        meta_train: Every task that a method, or a choice between methods, has seen.
        overlap: `exclude` or `stop`; rows of kind `meta-train/support` stop nothing.
        threshold: Least similarity of near duplicates, by `find_near_duplicates`.

    Returns:
        The judged tasks, in their order, without the leaks.

    Raises:
        DataError: There are leaks and `overlap` is `stop`, or a task keeps too little.
        SettingsError: `overlap` or `threshold` is not what it must be.
    """
    if overlap not in OVERLAPS:
        raise SettingsError(
            f"cannot treat leaks by '{overlap}': one of {', '.join(OVERLAPS)} is needed; "
            "change `overlap`"
        )
    leaks = find_leaks(meta_train, judged, threshold=threshold)
    if overlap == "stop":
        _stop_at(leaks)
    kept = exclude_leaks(judged, leaks)
    report = LeakReport(
        overlap=overlap,
        threshold=threshold,
        checked={
            "meta_train_tasks": len(meta_train),
            "meta_train_rows": sum(len(task.train) + len(task.test) for task in meta_train),
            "judged_tasks": len(judged),
            "judged_train_rows": sum(len(task.train) for task in judged),
            "judged_test_rows": sum(len(task.test) for task in judged),
        },
        found={kind: sum(leak.kind == kind for leak in leaks) for kind in LEAKS},
        excluded=_count_excluded(leaks),
        dropped={
            task.name: task.dropped
            for task in meta_train
            if task.dropped and task.meta_split == "meta-train"
        },
        examples=tuple(
            _shorten(leak)
            for kind in LEAKS
            for leak in [leak for leak in leaks if leak.kind == kind][:_LISTED]
        ),
    )
    return kept, report


def exclude_leaks(judged: Sequence[Task], leaks: Sequence[Leak]) -> tuple[Task, ...]:
    """Copy the tasks without the rows that leak.

    What repeats between a task's own parts leaves its train part, so that test parts
    stay as whole as they can be; rows of kind `meta-train/support` stay.

    Raises:
        DataError: A part of a task loses its last row of a label, or of all; names the task.
    """
    removed = _removed(leaks)
    kept = []
    for task in judged:
        parts = {
            part: tuple(
                example for row, example in enumerate(rows) if (task.name, part, row) not in removed
            )
            for part, rows in parts_of(task)
        }
        for part, rows in parts_of(task):
            _check_left(task, part, before=rows, after=parts[part])
            if len(parts[part]) < len(rows):
                lost = len(rows) - len(parts[part])
                _LOG.info("%s: %d %s rows excluded that leak", task.name, lost, part)
        kept.append(replace(task, train=parts["train"], test=parts["test"]))
    return tuple(kept)


def _removed(leaks: Sequence[Leak]) -> set[tuple[str, str, int]]:
    return {(leak.task, leak.part, leak.row) for leak in leaks if leak.action == EXCLUDED}


def _count_excluded(leaks: Sequence[Leak]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for task, part, _ in sorted(_removed(leaks)):
        of_task = counts.setdefault(task, {})
        of_task[part] = of_task.get(part, 0) + 1
    return counts


def _check_left(
    task: Task, part: str, *, before: Sequence[Example], after: Sequence[Example]
) -> None:
    lost = sorted(_targets(before) - _targets(after))
    left, needed = f"none of label '{lost[0]}'" if lost else "", "one of each label"
    if task.kind == TRANSLATION:
        left, needed = "none" if before and not after else "", "one"
    if left:
        raise DataError(
            f"cannot judge task '{task.name}' without its leaks: {len(before) - len(after)} of its "
            f"{len(before)} {part} rows leak, which leaves {left}; at least {needed} is "
            "needed; leave the task, or the meta-train tasks that hold its rows, out with "
            "`data.exclude`"
        )


def _targets(examples: Sequence[Example]) -> set[str]:
    return {example.target for example in examples}


def _stop_at(leaks: Sequence[Leak]) -> None:
    stopping = [leak for leak in leaks if leak.action == EXCLUDED]
    if not stopping:
        return
    counts = Counter(leak.kind for leak in stopping)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in LEAKS if counts[kind])
    first = _shorten(stopping[0])
    raise DataError(
        f"cannot compare on tasks that leak: {kinds} rows, such as {first.part} row {first.row} "
        f"of '{first.task}' ('{first.text}') like one of '{first.other_task}' "
        f"('{first.other_text}'); rows that no method has seen are needed; exclude them with "
        '`overlap="exclude"`, or leave tasks out with `data.exclude`'
    )


def _shorten(leak: Leak) -> Leak:
    def cut(text: str) -> str:
        return text if len(text) <= _SHOWN else text[: _SHOWN - 1].rstrip() + "…"

    return replace(leak, text=cut(leak.text), other_text=cut(leak.other_text))


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
    left_keys, first = [text_key(text) for text in left], first_by_key(right)
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
    first = first_by_key(texts)
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
