"""What streams of episodes share: units, examples that must stay on one side of an episode,
and the random streams that these are drawn by.

Two examples belong together if they share a text or a group (the same sentence in
another language); of a translation both sentences count as its texts.
"""

import zlib
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from nlp_meta.data.overlap import text_key
from nlp_meta.data.tasks import Example, Task, texts_of
from nlp_meta.errors import EpisodeError, SettingsError

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
