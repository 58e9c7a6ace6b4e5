"""Old and new domains of a meta-model that is trained on: what is replayed, what is held out.

The meta-train tasks that a record names are read from their cards again. Each domain, old or
new, keeps rows apart that the training does not see: the test part of its corpus, else a
quarter of its rows. Of old domains without a test part the first training saw those rows too,
so before is judged kindly there, and what is forgotten is never understated.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from nlp_meta.data.cards import CLASSIFICATION, META_SPLITS, find_card, load_card
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import (
    EpisodeStream,
    MixedStream,
    Stream,
    Unit,
    join_units,
    make_generator,
    number_of,
)
from nlp_meta.data.labels import check_labels, match_labels
from nlp_meta.data.tasks import Example, Task, load_tasks, texts_of
from nlp_meta.errors import CardError, LabelError, SettingsError
from nlp_meta.settings import DataSettings, EpisodeSettings

ADDED = "added"
"""Corpus of the domains that came from tables; no card leads back to them."""
FEWEST = 8
"""Examples of each label of a new domain: six to train on, two to be judged by."""

_HELD_OUT, _SEED = 4, 7  # one row in four, the same ones in every update


@dataclass(frozen=True, slots=True)
class Recalled:
    """The tasks of a record, as far as their data are here.

    Attributes:
        tasks: By name; `train` to be replayed, `test` to be judged by.
        missing: Why, by the names of the others.
        cards: Those whose data are here.
    """

    tasks: Mapping[str, Task]
    missing: Mapping[str, str]
    cards: Sequence[str]


def recall(data: DataSettings, names: Sequence[str], *, fewest: int) -> Recalled:
    """Read the tasks that a record names, as it placed them, from the cards whose data are here.

    Args:
        fewest: Examples of each label that holding out must leave.
    """
    names = list(dict.fromkeys(names))
    cards: list[str] = []
    missing: dict[str, str] = {}
    for card in data.cards:
        own = [name for name in names if name.partition("/")[0] == _name_of(card)]
        try:
            _load(replace(data, cards=[card]), own)
        except (CardError, SettingsError) as error:
            missing |= dict.fromkeys(own, str(error))
        else:
            cards.append(card)
    tasks: dict[str, Task] = {}
    there = [name for name in names if name.partition("/")[0] in map(_name_of, cards)]
    if there:
        tasks = _load(replace(data, cards=cards), there)
    for name in names:
        if name not in tasks and name not in missing:
            missing[name] = "it is in none of the record's cards"
    return Recalled({n: hold_out(task, fewest=fewest) for n, task in tasks.items()}, missing, cards)


def make_task(
    name: str,
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    known: Sequence[str],
    shared: bool,
    label_map: Mapping[str, str] | None,
) -> Task:
    """A new domain from a user's labeled texts; of a repeated text the first is kept.

    Args:
        known: Labels of the meta-model.
        shared: Its head answers with these and no other.

    Raises:
        LabelError: A label that the head does not know, or too few examples of one.
    """
    match = match_labels(labels, known, label_map=label_map)
    if shared and not match.shared:
        strange = sorted(set(match.labels).difference(known))
        raise LabelError(
            f"cannot add the domain '{name}': {', '.join(map(repr, strange))} is none of the "
            f"meta-model's labels, {', '.join(map(repr, known))}, and its head has no other; say "
            "what it means with `label_map`, or leave these rows out"
        )
    kept: dict[str, Example] = {}
    for text, label in zip(texts, match.labels, strict=True):
        kept.setdefault(text_key(text), Example(text.strip(), label))
    rows = tuple(kept.values())
    counts = Counter(row.target for row in rows)
    check_labels([row.target for row in rows], min_per_label=FEWEST)
    ordered = [label for label in known if label in counts]
    ordered += sorted(counts.keys() - set(ordered))
    found = Task(
        f"{ADDED}/{name}", CLASSIFICATION, "und", name, "meta-train", tuple(ordered), rows, ()
    )
    return hold_out(found, fewest=2)


def hold_out(task: Task, *, fewest: int) -> Task:
    """Move a quarter of each label's rows from `train` to `test`, where a task has no test part.

    Args:
        fewest: Units of each label that stay, so that training can still draw its episodes.
    """
    if task.test or task.kind != CLASSIFICATION:
        return task
    pools: dict[str, list[Unit]] = {}
    for unit in join_units(task.train, task.kind):
        pools.setdefault(unit[0].target, []).append(unit)
    taken: set[Example] = set()
    for place, label in enumerate(task.labels):
        pool = pools.get(label, [])
        number = max(0, min(len(pool) // _HELD_OUT, len(pool) - fewest))
        order = make_generator(_SEED, number_of(task), place).permutation(len(pool))
        taken.update(example for i in order[:number] for example in pool[i])
    return replace(
        task,
        train=tuple(example for example in task.train if example not in taken),
        test=tuple(example for example in task.train if example in taken),
    )


def drop_judged(tasks: Sequence[Task], *, judged: Sequence[Task]) -> list[Task]:
    """Leave out of the training rows what any of these tasks is judged by."""
    keys = {text_key(text) for one in judged for e in one.test for text in texts_of(e, one.kind)}
    return [
        replace(
            task,
            train=tuple(
                e for e in task.train if keys.isdisjoint(map(text_key, texts_of(e, task.kind)))
            ),
        )
        for task in tasks
    ]


def mix_streams(
    added: Sequence[Task],
    replayed: Stream | None,
    *,
    replay: float,
    episode: EpisodeSettings,
    seed: int,
) -> Stream:
    """Episodes of new domains, each as often as another, among replayed ones.

    A new domain with fewer examples than the old episodes take gives smaller ones, with the
    same ratio of support to query where there is enough for it.
    """
    streams: dict[str, Stream] = {}
    for task in added:
        shot, query_shot = _fit(task, episode)
        streams[task.name] = EpisodeStream((task,), shot, query_shot, episode.sampling, seed)
    each = (1 - replay if replayed is not None else 1.0) / len(added)
    shares = dict.fromkeys(streams, each)
    if replayed is not None:
        streams["replayed"], shares["replayed"] = replayed, replay
    return MixedStream(streams, shares)


def _fit(task: Task, episode: EpisodeSettings) -> tuple[int, int]:
    units = Counter(unit[0].target for unit in join_units(task.train, task.kind))
    there, wanted = min(units.values()), episode.shot + episode.query_shot
    if there >= wanted or not episode.shot:
        return episode.shot, min(episode.query_shot, there)
    shot = min(max(1, there * episode.shot // wanted), there - 1)
    return shot, there - shot


def _load(data: DataSettings, names: Sequence[str]) -> dict[str, Task]:
    """Training rows without what any card is judged by, and the test parts of these tasks."""
    if not names:
        return {}
    place, left_out = _place(data, names)
    options: dict[str, Any] = {
        "data_root": data.root,
        "source": data.source,
        "exclude": left_out,
    }
    train, judged = (
        load_tasks(
            data.cards,
            meta_split=meta_split,
            splits={**place, meta_split: [*place.get(meta_split, []), *names]},
            **options,
        )
        for meta_split in ("meta-train", "meta-test")
    )
    tests = {task.name: task.test for task in judged}
    return {task.name: replace(task, test=tests[task.name]) for task in train if task.name in names}


def _place(data: DataSettings, names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Every other task by its full name: where the record's run placed it, or left it out."""
    place: dict[str, list[str]] = {}
    left_out: list[str] = []
    for card in map(load_card, map(find_card, data.cards)):
        for task in card.tasks:
            name = f"{card.name}/{task.name}"
            asked = [split for split in META_SPLITS if _matches(name, data.splits.get(split, ()))]
            if name in names:
                continue
            if _matches(name, data.exclude):
                left_out.append(name)
            else:
                place.setdefault((asked or [task.meta_split])[0], []).append(name)
    return place, left_out


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _name_of(card: str) -> str:
    return card.rpartition("/")[2].removesuffix(".md")
