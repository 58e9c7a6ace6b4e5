"""The sentence pairs that train a small encoder-decoder, epoch after epoch.

Beside the pairs as they are the model may see them backwards, sentences to be written
as they are, and pairs whose target language it is not told: so a tag stands for every
language that it does not know. An epoch is a function of a seed and of its number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from nlp_meta.data.duplicates import text_key
from nlp_meta.data.languages import join_pair, split_pair
from nlp_meta.data.tasks import Task
from nlp_meta.encoders.batches import PairRow, by_length
from nlp_meta.encoders.seq2seq import (
    UNDETERMINED,
    Seq2Seq,
    direct,
    tokenize_sources,
    tokenize_targets,
)
from nlp_meta.errors import SettingsError

_HELD_OUT, _EPOCH = 0, 1


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its translation; `language` is such as `ind-jav`."""

    source: str
    target: str
    language: str

    def turned(self) -> "Pair":
        """The pair backwards."""
        source, target = split_pair(self.language)
        return Pair(self.target, self.source, join_pair(target, source))

    def copied(self) -> "Pair":
        """The target, to be written as it is."""
        _, target = split_pair(self.language)
        return Pair(self.target, self.target, join_pair(target, target))


@dataclass(frozen=True, slots=True)
class Corpus:
    """Pairs as ids, ready to be dealt into batches.

    Attributes:
        copies: Rows that `copies` of every epoch are drawn from.
        tags: Ids of the tags of target languages.
        undetermined: Id of the tag that stands for any of them.
    """

    pairs: tuple[PairRow, ...]
    copies: tuple[PairRow, ...]
    tags: torch.Tensor
    undetermined: int


def gather_pairs(
    tasks: Sequence[Task], *, held_out: int, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """All pairs of translation tasks, and some held out that share no sentence with the rest.

    Raises:
        SettingsError: Fewer than twice as many pairs as are to be held out.
    """
    pairs = [
        Pair(example.source, example.target, task.language)
        for task in sorted(tasks, key=lambda task: task.name)
        for example in task.train
    ]
    if len(pairs) < 2 * held_out or not pairs:
        raise SettingsError(
            f"cannot hold out {held_out} of {len(pairs)} pairs: twice as many pairs are needed; "
            "lower `corpus.held_out` or add cards to `data.cards`"
        )
    order = _generator(seed, _HELD_OUT).permutation(len(pairs))
    held = [pairs[place] for place in order[:held_out]]
    taken = {key for pair in held for key in _keys(pair)}
    return [pair for pair in pairs if taken.isdisjoint(_keys(pair))], held


def target_languages(pairs: Sequence[Pair], *, both_directions: bool) -> list[str]:
    """Languages that the model is to write."""
    sides = [split_pair(pair.language) for pair in pairs]
    return sorted({code for side in sides for code in (side if both_directions else side[1:])})


def encode_corpus(backbone: Seq2Seq, pairs: Sequence[Pair], *, both_directions: bool) -> Corpus:
    """Tokenize every pair, in the directions asked for, and every target to be copied."""
    shown = [*pairs, *(pair.turned() for pair in pairs)] if both_directions else list(pairs)
    copies = {pair.target: pair.copied() for pair in shown}
    convert: Any = backbone.tokenizer.convert_tokens_to_ids
    known = backbone.languages.known
    return Corpus(
        pairs=tuple(encode_pairs(backbone, shown)),
        copies=tuple(encode_pairs(backbone, list(copies.values()))),
        tags=torch.tensor([convert(str(tag)) for tag in known.values()]),
        undetermined=int(convert(str(known[UNDETERMINED]))),
    )


def encode_pairs(backbone: Seq2Seq, pairs: Sequence[Pair]) -> list[PairRow]:
    """Ids of pairs, in their order."""
    rows: dict[int, PairRow] = {}
    for language in dict.fromkeys(pair.language for pair in pairs):
        places = [place for place, pair in enumerate(pairs) if pair.language == language]
        direction = direct(backbone, language)
        sources = tokenize_sources(backbone, [pairs[i].source for i in places], direction)
        targets = tokenize_targets(backbone, [pairs[i].target for i in places], direction)
        for place, source, target in zip(places, sources, targets, strict=True):
            rows[place] = PairRow(source, target, direction.start)
    return [rows[place] for place in range(len(pairs))]


def deal_batches(
    corpus: Corpus, *, copies: float, undetermined: float, tokens: int, seed: int, after: int = 0
) -> Iterator[list[PairRow]]:
    """Endless batches of pairs of like length, in an order of their own in every epoch.

    Args:
        copies: Sentences to be copied in an epoch, as a share of the pairs.
        undetermined: Share of the rows whose tag is replaced by that for any language.
        tokens: No batch, padded, holds more, unless a single pair does.
        after: Batches to pass over.
    """
    number = 0
    while True:
        generator = _generator(seed, _EPOCH, number)
        drawn = generator.permutation(len(corpus.copies))[: round(copies * len(corpus.pairs))]
        rows = [*corpus.pairs, *(corpus.copies[place] for place in drawn)]
        rows = [rows[place] for place in generator.permutation(len(rows))]
        lengths = [max(len(row.source), len(row.target)) for row in rows]
        groups = list(by_length(lengths, tokens=tokens // 2))
        hidden = generator.random(len(rows)) < undetermined
        for group in generator.permutation(len(groups)).tolist():
            if after:
                after -= 1
                continue
            yield [
                _hide_tag(rows[place], corpus) if hidden[place] else rows[place]
                for place in groups[group]
            ]
        number += 1


def _hide_tag(row: PairRow, corpus: Corpus) -> PairRow:
    is_tag = torch.isin(row.source, corpus.tags)
    return replace(row, source=row.source.masked_fill(is_tag, corpus.undetermined))


def _keys(pair: Pair) -> tuple[str, str]:
    return text_key(pair.source), text_key(pair.target)


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
