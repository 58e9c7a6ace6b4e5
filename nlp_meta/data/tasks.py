"""Tasks: named pools of examples of one domain in one language or one language pair.

A task belongs to one meta-split, and `load_tasks` gives one meta-split per call,
so that training code cannot see a task that it will be judged on.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nlp_meta.data.cards import (
    META_SPLITS,
    TRANSLATION,
    DataCard,
    TaskCard,
    find_card,
    list_cards,
    load_card,
)
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.languages import split_pair
from nlp_meta.data.sources import Row, read_rows
from nlp_meta.errors import CardError, DataError, SettingsError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Example:
    """One source text and its target.

    Attributes:
        source: The text, never empty.
        target: A label's name or a translation.
        group: What is the same sentence in another language of a parallel
            corpus; None where the corpus gives no such key.
    """

    source: str
    target: str
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A named pool of examples of one domain in one language or one language pair.

    Attributes:
        name: `corpus/task`, unique within a run.
        kind: What its rows hold: `classification` or `translation`.
        language: Of the texts; the pair of a translation, such as `ind-jav`.
        labels: Label names in the card's order; only those that the task has; none of a
            translation.
        train: Examples that support sets, and query sets of training, are drawn from; a tuple,
            or rows that stay on disk (`nlp_meta/data/mapped_rows.py`).
        test: Examples that are only ever evaluated on; empty where a corpus has
            no test part, then what a draw leaves of `train` serves.
        dropped: Rows of `train` left out because a row that is judged repeats them.
    """

    name: str
    kind: str
    language: str
    domain: str
    meta_split: str
    labels: tuple[str, ...]
    train: Sequence[Example]
    test: tuple[Example, ...]
    dropped: int = 0

    @property
    def pair(self) -> tuple[str, str]:
        """The languages that a translation goes from and into.

        Raises:
            DataError: The task is no translation.
            EpisodeError: Its language is no pair.
        """
        if self.kind != TRANSLATION:
            raise DataError(
                f"cannot name the language pair of task '{self.name}': it is of kind "
                f"'{self.kind}' in '{self.language}' and a translation is needed; choose another "
                "task"
            )
        return split_pair(self.language)


@dataclass(frozen=True, slots=True)
class _Place:
    """A task of a card with the meta-split that this run gives it."""

    card: DataCard
    task: TaskCard
    meta_split: str

    @property
    def name(self) -> str:
        return f"{self.card.name}/{self.task.name}"


def texts_of(one: Row | Example, kind: str) -> tuple[str, ...]:
    """The sentences of an example: its text, and the other one if it is a translation."""
    return (one.source, one.target) if kind == TRANSLATION else (one.source,)


_Read = Callable[[_Place, str], tuple[Row, ...]]


def load_tasks(
    cards: Sequence[str],
    *,
    meta_split: str,
    data_root: str | None = None,
    source: str = "files",
    splits: Mapping[str, Sequence[str]] | None = None,
    exclude: Sequence[str] = (),
) -> tuple[Task, ...]:
    """Load the tasks of one meta-split, in the order of the cards.

    Of rows that are equal up to case and punctuation one is kept in each part, and
    train rows that repeat a test row of their task are dropped. Meta-train tasks come
    without their test rows, which in a parallel corpus are translations of the rows
    that meta-test tasks are judged on, and without the train rows that any task of
    these cards, of either kind, is judged on. Of a translation either sentence repeats
    a row, whichever side has it there: parallel corpora share them between pairs.

    Args:
        cards: Names of shipped cards, or paths.
        splits: Meta-split to patterns over `corpus/task`, such as `nusax/*`, in place
            of the cards' own; tasks that no pattern matches keep theirs.
        exclude: Patterns of tasks to leave out altogether.

    Raises:
        CardError: A card or its rows cannot be read, or a parallel card has
            translations of one sentence in train and in test rows.
        SettingsError: A pattern matches nothing, or a task twice; or nothing is left.
    """
    places = _place_tasks(cards, splits=splits or {}, exclude=exclude)
    chosen = [place for place in places if place.meta_split == meta_split]
    if not chosen:
        raise _nothing_error(places, meta_split)

    def read(place: _Place, part: str) -> tuple[Row, ...]:
        return read_rows(place.card, place.task, part, source=source, data_root=data_root)

    judged = _collect_judged(places, read) if meta_split == "meta-train" else frozenset()
    tasks = tuple(_build_task(place, read, judged=judged) for place in chosen)
    _check_groups(list(zip(chosen, tasks, strict=True)), places, read)
    return tasks


def name_tasks(
    cards: Sequence[str],
    *,
    meta_split: str,
    splits: Mapping[str, Sequence[str]],
    exclude: Sequence[str],
) -> tuple[str, ...]:
    """Name what `load_tasks` would load, without reading a row; arguments and errors are its."""
    places = _place_tasks(cards, splits=splits, exclude=exclude)
    return tuple(place.name for place in places if place.meta_split == meta_split)


def _place_tasks(
    cards: Sequence[str], *, splits: Mapping[str, Sequence[str]], exclude: Sequence[str]
) -> list[_Place]:
    loaded = [load_card(find_card(card)) for card in cards]
    names = [f"{card.name}/{task.name}" for card in loaded for task in card.tasks]
    for name, count in Counter(card.name for card in loaded).items():
        if count > 1:
            raise SettingsError(
                f"cannot load card '{name}' {count} times; names of cards must differ; "
                "take one out of `data.cards` or rename its file"
            )
    meta_splits = _match_splits(names, splits)
    left_out = {name for pattern in exclude for name in _match(names, pattern, "data.exclude")}
    places = [
        _Place(card, task, meta_splits.get(f"{card.name}/{task.name}", task.meta_split))
        for card in loaded
        for task in card.tasks
    ]
    return [place for place in places if place.name not in left_out]


def _match_splits(names: Sequence[str], splits: Mapping[str, Sequence[str]]) -> dict[str, str]:
    meta_splits: dict[str, str] = {}
    matched_by: dict[str, str] = {}
    for meta_split, patterns in splits.items():
        if meta_split not in META_SPLITS:
            raise _meta_split_error(meta_split, "data.splits")
        for pattern in patterns:
            for name in _match(names, pattern, f"data.splits.{meta_split}"):
                if name in meta_splits:
                    raise SettingsError(
                        f"cannot place task '{name}': '{matched_by[name]}' ({meta_splits[name]}) "
                        f"and '{pattern}' ({meta_split}) both match it; one pattern a task is "
                        "needed; narrow one of them in `data.splits`"
                    )
                meta_splits[name], matched_by[name] = meta_split, pattern
    return meta_splits


def _match(names: Sequence[str], pattern: str, setting: str) -> list[str]:
    matches = [name for name in names if fnmatchcase(name, pattern)]
    if not matches:
        raise SettingsError(
            f"cannot use pattern '{pattern}': it matches no task of these cards; a pattern over "
            f"corpus/task is needed, of {', '.join(names)}; correct it in `{setting}`"
        )
    return matches


def _collect_judged(places: Sequence[_Place], read: _Read) -> frozenset[str]:
    """Gather the keys of all rows that some task of these cards is judged on."""
    keys: set[str] = set()
    for place in places:
        rows = read(place, "test")
        if not rows and place.meta_split != "meta-train":
            rows = read(place, "train")
        keys.update(key for row in rows for key in _keys(row, place.card.kind))
    return frozenset(keys)


def _build_task(place: _Place, read: _Read, *, judged: frozenset[str]) -> Task:
    kind, judges = place.card.kind, place.meta_split != "meta-train"
    train = _keep_first(read(place, "train"), kind)
    test = _keep_first(read(place, "test"), kind) if judges else {}
    taken = judged.union(*test)
    kept = [row for keys, row in train.items() if taken.isdisjoint(keys)]
    dropped = len(train) - len(kept)
    if dropped:
        _LOG.info("%s: %d train rows dropped that repeat a test row", place.name, dropped)
    present = {row.target for row in (*kept, *test.values())}
    return Task(
        name=place.name,
        kind=kind,
        language=place.task.language,
        domain=place.task.domain,
        meta_split=place.meta_split,
        labels=tuple(label for label in place.card.label_names if label in present),
        train=tuple(Example(row.source, row.target, row.group) for row in kept),
        test=tuple(Example(row.source, row.target, row.group) for row in test.values()),
        dropped=dropped,
    )


def _keep_first(rows: Sequence[Row], kind: str) -> dict[tuple[str, ...], Row]:
    kept: dict[tuple[str, ...], Row] = {}
    for row in rows:
        kept.setdefault(_keys(row, kind), row)
    return kept


def _keys(row: Row, kind: str) -> tuple[str, ...]:
    return tuple(text_key(text) for text in texts_of(row, kind))


def _check_groups(
    chosen: Sequence[tuple[_Place, Task]], places: Sequence[_Place], read: _Read
) -> None:
    """Refuse a parallel card whose train rows are translations of its test rows."""
    parallel = [
        (place, task) for place, task in chosen if place.card.parallel and place.card.columns.group
    ]
    names = {place.card.name for place, _ in parallel}
    tested = {
        (place.card.name, row.group): place.name
        for place in places
        if place.card.name in names
        for row in read(place, "test")
    }
    for place, task in parallel:
        for example in task.train:
            other = tested.get((place.card.name, example.group))
            if other is not None:
                raise CardError(
                    f"cannot use card '{place.card.path}': key `columns.group` has sentence "
                    f"'{example.group}' in the train rows of '{task.name}' and the test rows of "
                    f"'{other}'; a parallel corpus must split its sentences alike in every "
                    "language; correct the files, or leave one task out with `data.exclude`"
                )


def _meta_split_error(meta_split: str, setting: str) -> SettingsError:
    return SettingsError(
        f"cannot use meta-split '{meta_split}'; one of {', '.join(META_SPLITS)} is needed; "
        f"correct `{setting}`"
    )


def _nothing_error(places: Sequence[_Place], meta_split: str) -> SettingsError:
    if meta_split not in META_SPLITS:
        return _meta_split_error(meta_split, "meta_split")
    if not places:
        return SettingsError(
            f"cannot load {meta_split} tasks: no card, or no task of one, is left; at least one "
            f"card is needed, of {', '.join(list_cards())}; name it in `data.cards`"
        )
    there = ", ".join(f"{place.name} ({place.meta_split})" for place in places)
    return SettingsError(
        f"cannot load {meta_split} tasks: these cards have none; at least one is needed, and "
        f"there are {there}; place one with `data.splits` or add a card to `data.cards`"
    )
