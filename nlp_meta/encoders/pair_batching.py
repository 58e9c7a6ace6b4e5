"""Batches of sentence pairs: rows of like length side by side, tasks stacked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nlp_meta.encoders.batching import Owners, by_length, pad_rows

IGNORED = -100
"""Label of a padded place, which has no loss."""


@dataclass(frozen=True, slots=True)
class PairRow:
    """One sentence pair as the network and the loss take it.

    Attributes:
        source: Ids for the encoder, `(tokens,)`.
        target: Ids that the decoder is to write, `(tokens,)`.
        start: Ids that its decoding begins with.
    """

    source: Tensor
    target: Tensor
    start: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Sentence pairs of like length from W tasks, padded to one block.

    Attributes:
        sources: `(rows, tokens)`.
        mask: `(rows, tokens)`, 1 for real tokens of the sources.
        labels: `(rows, target tokens)`, `IGNORED` where padded.
        starts: `(rows, ids)` that decoding begins with.
        shares: `(rows,)`, each target token's share of its task's mean.
        positions: `(rows,)`, where each pair stood in its task.
    """

    sources: Tensor
    mask: Tensor
    labels: Tensor
    starts: Tensor
    owners: Owners
    shares: Tensor
    positions: Tensor


def stack_pairs(
    tasks: Sequence[Sequence[PairRow]], *, padding: int, tokens: int, device: torch.device
) -> list[PairBatch]:
    """Put the pairs of W tasks into batches of like length, whichever task they are of.

    Args:
        tokens: No batch, both sides padded, holds more, unless a single pair does.
    """
    places = [(w, i) for w, rows in enumerate(tasks) for i in range(len(rows))]
    pairs = [tasks[w][i] for w, i in places]
    lengths = [max(len(pair.source), len(pair.target)) for pair in pairs]
    return [
        _pad(tasks, sorted(places[row] for row in group), padding=padding, device=device)
        for group in by_length(lengths, tokens=tokens // 2)
    ]


def select_rows(batch: PairBatch, rows: Sequence[int]) -> PairBatch:
    """Some rows of a batch, in its order, padded no further than they need."""
    kept = list(rows)
    index, mask = batch.owners.index[kept], batch.mask[kept]
    longest = int(mask.sum(1).max())
    counts = tuple(int((index == w).sum()) for w in range(len(batch.owners.counts)))
    return replace(
        batch,
        sources=batch.sources[kept, :longest],
        mask=mask[:, :longest],
        labels=batch.labels[kept],
        starts=batch.starts[kept],
        owners=Owners(index, counts),
        shares=batch.shares[kept],
        positions=batch.positions[kept],
    )


def _pad(
    tasks: Sequence[Sequence[PairRow]],
    places: Sequence[tuple[int, int]],
    *,
    padding: int,
    device: torch.device,
) -> PairBatch:
    rows = [tasks[w][i] for w, i in places]
    owners = [w for w, _ in places]
    tokens = [sum(len(pair.target) for pair in task) for task in tasks]
    sources, mask = pad_rows([row.source for row in rows], padding=padding)
    labels, _ = pad_rows([row.target for row in rows], padding=IGNORED)
    return PairBatch(
        sources=sources.to(device),
        mask=mask.to(device),
        labels=labels.to(device),
        starts=torch.tensor([row.start for row in rows], device=device),
        owners=Owners(
            torch.tensor(owners, device=device),
            tuple(owners.count(w) for w in range(len(tasks))),
        ),
        shares=torch.tensor([1 / tokens[w] for w in owners], device=device),
        positions=torch.tensor([i for _, i in places], device=device),
    )
