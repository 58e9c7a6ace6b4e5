"""Episodes: few-shot problems drawn from tasks, each a function of a seed and a number.

An example of the query set shares neither its text nor its group (the same sentence in
another language) with any example of the support set: examples that share one are a unit,
which stays on one side. A mixed stream takes episodes of several skills in a ratio that
every stretch of it keeps.
"""

import zlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import numpy as np

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.labels import SENTIMENTS
from nlp_meta.data.mapped_rows import MappedRows
from nlp_meta.data.tasks import Example, Task, texts_of
from nlp_meta.errors import EpisodeError, SettingsError

RETRIEVAL, GENERATION = "retrieval", "generation"
"""Two of the skills; the third is `CLASSIFICATION`, which is a kind of rows too."""

# Random streams that must not meet: which episode of training, which labels or pairs are bought
# for an evaluation, which queries are kept of a long test part; which episode of pairs, which
# order of candidates.
TRAINING, SUPPORT, QUERY, PAIR_TRAINING, CANDIDATES = range(5)

Unit = tuple[Example, ...]
"""Examples that must stay on one side: they share a text or a group."""


def tokens_of(example: Example, kind: str) -> tuple[Hashable, ...]:
    """What an example may share with another: the keys of its texts, and its group."""
    texts = tuple(("text", text_key(text)) for text in texts_of(example, kind))
    return texts if example.group is None else (*texts, ("group", example.group))


def join_units(examples: Sequence[Example], kind: str) -> list[Unit]:
    """Put together what shares a text or a group; two units share neither."""
    units: list[list[Example]] = []
    unit_of: dict[Hashable, list[Example]] = {}
    for example in examples:
        tokens = tokens_of(example, kind)
        joined = next((unit_of[token] for token in tokens if token in unit_of), None)
        if joined is None:
            joined = []
            units.append(joined)
        joined.append(example)
        for token in tokens:
            other = unit_of.setdefault(token, joined)
            if other is not joined:
                joined += other
                for moved in other:
                    unit_of.update((t, joined) for t in tokens_of(moved, kind))
                other.clear()
    return [tuple(unit) for unit in units if unit]


def draw_units(units: Sequence[Unit], number: int, generator: np.random.Generator) -> list[Example]:
    """One example of each of `number` different units, in random order."""
    chosen = generator.permutation(len(units))[:number]
    return [units[i][int(generator.integers(len(units[i])))] for i in chosen]


def make_generator(seed: int, *key: int) -> np.random.Generator:
    """A random stream that depends on the seed and on the numbers of its key alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def number_of(task: Task) -> int:
    """A number for the task in the key of a random stream, from its name."""
    return zlib.crc32(task.name.encode())


def choose_task(
    chances: Sequence[float], seed: int, stream: int, index: int
) -> tuple[np.random.Generator, int]:
    """Choose the task of episode `index`; the generator goes on with its examples.

    Raises:
        EpisodeError: `index` is below 0.
    """
    if index < 0:
        raise EpisodeError(
            f"cannot draw episode {index}: episodes are numbered from 0; ask for 0 or above"
        )
    generator = make_generator(seed, stream, index)
    return generator, int(generator.choice(len(chances), p=chances))


def check_shots(shots: Mapping[str, int]) -> None:
    """Refuse a support set below 0 examples and a query set below 1, by their settings' names.

    Args:
        shots: First that of the support set, then that of the query set.

    Raises:
        SettingsError: One is too small.
    """
    for least, (name, value) in enumerate(shots.items()):
        if value < least:
            raise SettingsError(
                f"cannot draw episodes with {name} {value}: at least {least} is needed; "
                f"raise `episode.{name}`"
            )


def keep_some(
    examples: Sequence[Example], most: int | None, generator: np.random.Generator
) -> tuple[Example, ...]:
    """Keep at most so many examples, drawn at random, in their order; None keeps all."""
    if most is None or len(examples) <= most:
        return tuple(examples)
    kept = generator.choice(len(examples), size=most, replace=False)
    return tuple(examples[place] for place in sorted(kept))


@dataclass(frozen=True, slots=True)
class Queries:
    """What a method is asked once it has learned: texts, and nothing that tells their targets.

    Attributes:
        candidates: Translations among which each text's own is to be found; none where a
            method tells a label or writes.
    """

    texts: tuple[str, ...]
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SupportSet:
    """What a method learns from: the labeled half of an episode.

    Attributes are those of `Episode`; `examples` are its `support`.
    """

    task: str
    labels: tuple[str, ...]
    examples: tuple[Example, ...]
    index: int
    skill: str
    language: str

    @property
    def texts(self) -> tuple[str, ...]:
        """Sources of the examples."""
        return tuple(example.source for example in self.examples)

    def ask(self, queries: Queries) -> "Episode":
        """The episode as a method may see it: its queries have texts and no targets.

        Groups are not there either: in a parallel corpus they lead to translations with a label.
        """
        return Episode(
            task=self.task,
            labels=self.labels,
            support=self.examples,
            query=tuple(Example(text, "") for text in queries.texts),
            index=self.index,
            skill=self.skill,
            language=self.language,
            candidates=queries.candidates,
        )


@dataclass(frozen=True, slots=True)
class Episode:
    """One few-shot problem.

    Attributes:
        labels: The task's, in its order, or some of them in random order; none in a translation.
        index: Its number in the stream, or the number of the draw in an evaluation.
        skill: What is asked: `classification`, `retrieval` or `generation`.
        language: Of the texts; the pair of a translation, such as `ind-jav`.
        candidates: Translations among which a query's own is to be found, each once.
    """

    task: str
    labels: tuple[str, ...]
    support: tuple[Example, ...]
    query: tuple[Example, ...]
    index: int
    skill: str = CLASSIFICATION
    language: str = ""
    candidates: tuple[str, ...] = ()

    @property
    def support_set(self) -> SupportSet:
        """The half that a method learns from."""
        return SupportSet(
            task=self.task,
            labels=self.labels,
            examples=self.support,
            index=self.index,
            skill=self.skill,
            language=self.language,
        )

    @property
    def queries(self) -> Queries:
        """The half that a method is then asked, without targets."""
        return Queries(tuple(example.source for example in self.query), self.candidates)


def make_episode(
    task: Task,
    support: Sequence[Example],
    query: Sequence[Example],
    *,
    labels: tuple[str, ...] = (),
    index: int,
    skill: str,
    candidates: tuple[str, ...] = (),
) -> Episode:
    """An episode of a task, with its name and language."""
    sides = tuple(support), tuple(query)
    return Episode(task.name, labels, *sides, index, skill, task.language, candidates)


@dataclass(frozen=True, slots=True)
class EpisodeStream:
    """Endless episodes of several tasks, for training; `at(i)` gives the i-th.

    The order in which the tasks are given does not matter.

    Attributes:
        shot: Support examples per label; 0 for joint training, which looks at none. With
            `ways` each episode draws 1 to so many.
        query_shot: Query examples per label.
        sampling: A task's chance goes with its number of training examples to this
            power, from 0 to 1; `uniform` is 0, `size` is 1. `corpus` draws a corpus, then one
            of its tasks.
        ways: Each episode draws 2 to so many of its task's labels, in random order, so that
            no label has a place of its own. None takes all labels, in the task's order.
        sentiment_share: Part of the episodes that the tasks of sentiment give, which then keep
            all their labels. None treats them as all others.
    """

    tasks: tuple[Task, ...]
    shot: int
    query_shot: int
    sampling: str | float
    seed: int
    skill: str = CLASSIFICATION
    ways: int | None = None
    sentiment_share: float | None = None
    _pools: tuple[Mapping[str, Sequence[Unit]], ...] = field(init=False, repr=False, compare=False)
    _chances: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tasks = tuple(sorted(self.tasks, key=lambda task: task.name))
        if self.ways is not None and self.ways < 2:
            raise SettingsError(
                f"cannot draw episodes of {self.ways} labels: at least 2 are needed; raise "
                "`episode.ways`, or set it to null"
            )
        pools = _check_pools(
            tasks, shot=self.shot, query_shot=self.query_shot, fewer=self.ways is not None
        )
        chances = sampling_chances(
            tasks, sampling=self.sampling, sentiment_share=self.sentiment_share
        )
        object.__setattr__(self, "tasks", tasks)
        object.__setattr__(self, "_pools", pools)
        object.__setattr__(self, "_chances", chances)

    def at(self, index: int) -> Episode:
        """Draw episode `index`: the same for the same seed, whatever was drawn before.

        Raises:
            EpisodeError: `index` is below 0.
        """
        generator, number = choose_task(self._chances, self.seed, TRAINING, index)
        task, pool = self.tasks[number], self._pools[number]
        labels, shot = self._draw_labels(task, generator)
        support: list[Example] = []
        query: list[Example] = []
        for label in labels:
            drawn = draw_units(pool[label], shot + self.query_shot, generator)
            cut = len(drawn) - self.query_shot
            support += drawn[:cut]
            query += drawn[cut:]
        support = [support[i] for i in generator.permutation(len(support))]
        query = [query[i] for i in generator.permutation(len(query))]
        return make_episode(task, support, query, labels=labels, index=index, skill=self.skill)

    def _draw_labels(
        self, task: Task, generator: np.random.Generator
    ) -> tuple[tuple[str, ...], int]:
        """The labels of an episode, in its order, and the support examples of each."""
        if self.ways is None:
            return task.labels, self.shot
        whole = self.sentiment_share is not None and _is_sentiment(task)
        most = len(task.labels) if whole else min(self.ways, len(task.labels))
        way = most if whole else int(generator.integers(2, most + 1))
        order = generator.permutation(len(task.labels))[:way]
        shot = int(generator.integers(min(1, self.shot), self.shot + 1))
        return tuple(task.labels[place] for place in order), shot


def sampling_chances(
    tasks: Sequence[Task], *, sampling: str | float, sentiment_share: float | None = None
) -> tuple[float, ...]:
    """Chance of each task to be drawn; they sum to 1.

    Args:
        sentiment_share: Of all tasks of sentiment; None leaves it to `sampling`.

    Raises:
        SettingsError: `sampling` is neither a name nor a power from 0 to 1, or there are no two
            sorts of tasks to share between.
    """
    corpora = [task.name.partition("/")[0] for task in tasks]
    powers = {"uniform": 0.0, "size": 1.0, "corpus": 0.0}
    power = powers.get(sampling) if isinstance(sampling, str) else sampling
    if power is None or not 0 <= power <= 1:
        raise SettingsError(
            f"cannot sample tasks by {sampling!r}: 'uniform', 'size', 'corpus' or a power from 0 "
            "to 1 is needed; change `episode.sampling`"
        )
    weights = np.array([float(len(task.train)) for task in tasks]) ** power
    if sampling == "corpus":
        weights /= np.array([corpora.count(corpus) for corpus in corpora])
    if sentiment_share is not None:
        sentiment = np.array([_is_sentiment(task) for task in tasks])
        if not 0 < sentiment_share < 1 or sentiment.all() or not sentiment.any():
            raise SettingsError(
                f"cannot give {sentiment_share} of the episodes to the {sentiment.sum()} tasks of "
                f"sentiment among {len(tasks)}: a part between 0 and 1, and tasks of both sorts, "
                "are needed; change `episode.sentiment_share`, or set it to null"
            )
        for sort, share in ((sentiment, sentiment_share), (~sentiment, 1 - sentiment_share)):
            weights[sort] *= share / weights[sort].sum()
    return tuple(float(chance) for chance in weights / weights.sum())


def _is_sentiment(task: Task) -> bool:
    return SENTIMENTS.issuperset(task.labels)


def draw_support(task: Task, *, labels_total: int, seed: int, draw: int) -> tuple[Example, ...]:
    """Draw the examples that someone with a budget of `labels_total` labels would have.

    Labels take turns in the task's order until the budget is spent; one that has
    run out is passed over. So the support set is as balanced as the data allow,
    and that of a smaller budget is the beginning of that of a larger one.

    Raises:
        EpisodeError: The task has fewer examples than `labels_total`, or that is below 0.
    """
    pool = _label_pool(task)
    available = sum(len(units) for units in pool.values())
    if not 0 <= labels_total <= available:
        raise EpisodeError(
            f"cannot draw a support set of {labels_total} examples from task {task.name!r}: it "
            f"has {available} distinct training examples, 0 to {available} can be drawn; lower "
            "the number of labels or leave the task out (`data.exclude`)"
        )
    generator = make_generator(seed, SUPPORT, number_of(task), draw)
    queues = [draw_units(pool[label], len(pool[label]), generator) for label in task.labels]
    longest = max((len(queue) for queue in queues), default=0)
    turns = [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
    return tuple(turns[:labels_total])


def evaluation_episode(
    task: Task,
    *,
    labels_total: int,
    seed: int,
    draw: int,
    reserve: int | None = None,
    max_query: int | None = None,
    skill: str = CLASSIFICATION,
) -> Episode:
    """Give the episode that every method is judged on.

    Its query set is the task's test part or, where there is none, its training part,
    in that order, without what shares a text or a group with the reserve.

    Args:
        labels_total: Support examples in all, by `draw_support`; 0 gives none.
        reserve: The largest `labels_total` of the comparison: with it the query set
            is the same for all sizes of a draw.
        max_query: Keep at most so many query examples, drawn at random.

    Raises:
        EpisodeError: Too few examples, or a reserve below `labels_total`.
    """
    reserve = labels_total if reserve is None else reserve
    if reserve < labels_total:
        raise EpisodeError(
            f"cannot draw {labels_total} support examples from a reserve of {reserve}: the "
            "largest number of labels of the comparison is needed; raise `reserve`"
        )
    reserved = draw_support(task, labels_total=reserve, seed=seed, draw=draw)
    query = _query_without(reserved, task)
    query = keep_some(query, max_query, make_generator(seed, QUERY, number_of(task), draw))
    support = reserved[:labels_total]
    return make_episode(task, support, query, labels=task.labels, index=draw, skill=skill)


def _query_without(reserved: Sequence[Example], task: Task) -> tuple[Example, ...]:
    taken = {token for example in reserved for token in tokens_of(example, task.kind)}
    query = tuple(e for e in task.test or task.train if taken.isdisjoint(tokens_of(e, task.kind)))
    if not query:
        raise EpisodeError(
            f"cannot evaluate on task {task.name!r}: a support set of {len(reserved)} examples "
            "leaves no query example, at least one is needed; lower the number of labels or "
            "leave the task out (`data.exclude`)"
        )
    return query


def _check_pools(
    tasks: Sequence[Task], *, shot: int, query_shot: int, fewer: bool
) -> tuple[Mapping[str, Sequence[Unit]], ...]:
    """Units of each task's labels; with `fewer` a label may have as few as one support example."""
    check_shots({"shot": shot, "query_shot": query_shot})
    check_names(tasks)
    pools = tuple(_label_pool(task) for task in tasks)
    shot = min(shot, 1) if fewer else shot
    for task, pool in zip(tasks, pools, strict=True):
        _check_pool(task, pool, shot=shot, query_shot=query_shot)
    return pools


def check_names(tasks: Sequence[Task]) -> None:
    """Stop unless there are tasks, each with a name of its own.

    Raises:
        EpisodeError: No task, or two of one name.
    """
    if not tasks:
        raise EpisodeError(
            "cannot draw episodes from 0 tasks: at least one is needed; "
            "add a card to `data.cards` or change `data.splits`"
        )
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise EpisodeError(
                f"cannot tell tasks named {name!r} apart: {names.count(name)} have that name, "
                "one is needed; give each card once in `data.cards`"
            )


def _check_pool(
    task: Task, pool: Mapping[str, Sequence[Unit]], *, shot: int, query_shot: int
) -> None:
    if len(task.labels) < 2:
        raise EpisodeError(
            f"cannot draw an episode from task {task.name!r}: it has {len(task.labels)} labels, "
            "at least 2 are needed; leave the task out (`data.exclude`)"
        )
    for label, units in pool.items():
        count, needed = len(units), shot + query_shot
        if count >= needed:
            continue
        written = sum(example.target == label for example in task.train)
        distinct = "examples" if written == count else f"distinct examples (of {written})"
        lower = f"lower `episode.query_shot` to {count - shot} or " if count > shot else ""
        raise EpisodeError(
            f"cannot draw a {shot}-shot episode from task {task.name!r}: label {label!r} has "
            f"{count} {distinct}, {shot} support + {query_shot} query = {needed} are needed; "
            f"{lower}leave the task out (`data.exclude`)"
        )


def _label_pool(task: Task) -> Mapping[str, Sequence[Unit]]:
    """Units of each label; two units share neither text nor group, whatever their labels.

    A unit with examples of several labels counts for one of them, always the same.
    """
    if isinstance(task.train, MappedRows):
        return {label: task.train.of_label(label) for label in task.labels}
    pool: dict[str, list[Unit]] = {label: [] for label in task.labels}
    for unit in join_units(task.train, task.kind):
        label = unit[0].target
        pool[label].append(tuple(e for e in unit if e.target == label))
    return pool


def support_targets(support_set: SupportSet, *, purpose: str) -> list[int]:
    """Place of each support example's label among the labels of the task.

    Args:
        purpose: What cannot be done without, for the message: `fit a linear probe`.

    Raises:
        EpisodeError: Fewer than 2 labels.
    """
    targets = [example.target for example in support_set.examples]
    if len(set(targets)) < 2:
        raise EpisodeError(
            f"cannot {purpose} on task '{support_set.task}': its support set of "
            f"{len(targets)} examples has {len(set(targets))} labels, at least 2 are needed; "
            "raise the number of labels"
        )
    return [support_set.labels.index(target) for target in targets]


_FINEST = 10_000
"""Shares are rounded to fractions with no larger denominator, so that positions are exact."""


class Stream(Protocol):
    """Episodes by number."""

    def at(self, index: int) -> Episode: ...


@dataclass(frozen=True, slots=True)
class MixedStream:
    """Endless episodes of several skills; `at(i)` gives the i-th.

    Each skill's own stream is taken from its beginning, one episode after another, so the
    episodes of classification in a mixed run are those of a run on classification alone.

    Attributes:
        shares: Part of the episodes that each skill gives, above 0, in any unit: 1 and 3
            are a quarter and three quarters.
    """

    streams: Mapping[str, Stream]
    shares: Mapping[str, float]
    _parts: Mapping[str, Fraction] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_shares(self.shares)
        if set(self.streams) != set(self.shares):
            raise SettingsError(
                f"cannot mix episodes of {', '.join(self.streams) or 'no skill'} by shares for "
                f"{', '.join(self.shares)}: a share for each skill is needed; change "
                "`episode.shares`"
            )
        object.__setattr__(self, "_parts", _conditional_parts(self.shares))

    def at(self, index: int) -> Episode:
        """Draw episode `index`: the same for the same streams, whatever was drawn before.

        Any n episodes in a row hold a skill's share of n, less or more by 1 for two skills.

        Raises:
            EpisodeError: `index` is below 0.
        """
        if index < 0:
            raise EpisodeError(
                f"cannot draw episode {index}: episodes are numbered from 0; ask for 0 or above"
            )
        *skills, last = self._parts
        for skill in skills:
            place = _taken(index, self._parts[skill])
            if _taken(index + 1, self._parts[skill]) > place:
                return self.streams[skill].at(place)
            index -= place
        return self.streams[last].at(index)


def check_shares(shares: Mapping[str, float]) -> None:
    """Stop unless there is a skill, and each has a share above 0.

    Raises:
        SettingsError: There is none, or one is 0, negative, infinite or not a number.
    """
    if not shares or not all(0 < share < float("inf") for share in shares.values()):
        raise SettingsError(
            f"cannot mix episodes by the shares {dict(shares)}: at least one skill, each with a "
            "number above 0, is needed; change `episode.shares`, and leave out a skill that is not "
            "wanted"
        )


def _taken(count: int, part: Fraction) -> int:
    """How many of the first `count` places go to a skill with this part."""
    return count * part.numerator // part.denominator


def _conditional_parts(shares: Mapping[str, float]) -> dict[str, Fraction]:
    """Each skill's part of what the skills before it leave; that of the last is 1."""
    left = sum(shares.values())
    parts: dict[str, Fraction] = {}
    for skill in sorted(shares):
        last = len(parts) + 1 == len(shares)
        parts[skill] = Fraction(1) if last else Fraction(shares[skill] / left)
        parts[skill] = parts[skill].limit_denominator(_FINEST)
        left -= shares[skill]
    return parts


def split_folds(examples: Sequence[Example], *, folds: int, seed: int) -> list[list[int]]:
    """Places of examples in K folds with like shares of each label.

    Examples of one text stand in one fold. A text of several labels counts for the rarest.

    Args:
        folds: K; no more than the rarest label has different texts.
    """
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    counts = Counter(example.target for example in examples)
    rows_of: dict[str, list[int]] = {}
    for place in order:
        rows_of.setdefault(text_key(examples[place].source), []).append(place)
    labels = [
        min((examples[place].target for place in rows), key=lambda name: (counts[name], name))
        for rows in rows_of.values()
    ]
    by_label = sorted(zip(labels, rows_of.values(), strict=True), key=lambda pair: pair[0])
    return [
        sorted(place for _, rows in by_label[fold::folds] for place in rows)
        for fold in range(folds)
    ]


def count_texts(examples: Iterable[Example]) -> Counter[str]:
    """Count the different texts of each label."""
    return Counter(label for _, label in {(text_key(e.source), e.target) for e in examples})
