"""Units: examples that must stay on one side of an episode, and the random streams they are
drawn by.

Two examples belong together if they share a text or a group (the same sentence in
another language); of a translation both sentences count as its texts.
"""

import zlib
from collections.abc import Hashable, Sequence

import numpy as np

from nlp_meta.data.overlap import text_key
from nlp_meta.data.tasks import Example, Task, texts_of

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
