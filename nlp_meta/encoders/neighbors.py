"""Nearest neighbors among embeddings, in blocks, and the margin by which a pair stands out.

All embeddings are rows of length 1 in float32, so that a product is a cosine.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBORS = 4
"""Nearest neighbors on either side that a margin is taken against."""

SMALLEST = 1e-6
"""Least mean cosine to divide by: random embeddings may have none above 0."""

BLOCK = 4096
"""Rows and columns of one block of cosines: 64 MiB."""


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The k nearest of the other side for each row, the nearest first.

    Attributes:
        cosines: `(rows, k)`.
        places: `(rows, k)`, rows of the other side.
    """

    cosines: Tensor
    places: Tensor


def ratio_margin(cosines: Tensor, *, neighbors: int) -> Tensor:
    """Score every pair by its cosine over the mean cosine of both sides' neighbors.

        margin(x, y) = cos(x, y) / (sum over z in N(x) of cos(x, z) / 2k
                                    + sum over z in N(y) of cos(y, z) / 2k)

    Args:
        cosines: `(sources, targets)` of all pairs.
        neighbors: k; no more than a side has rows.

    Source:
        Artetxe and Schwenk 2019, arXiv:1811.01136, section 3, ratio.
    """
    forward = cosines.topk(min(neighbors, cosines.shape[1]), dim=1).values.mean(1, keepdim=True)
    backward = cosines.topk(min(neighbors, cosines.shape[0]), dim=0).values.mean(0, keepdim=True)
    return cosines / ((forward + backward) / 2).clamp(min=SMALLEST)


def nearest(
    sources: Tensor, targets: Tensor, *, neighbors: int, block: int = BLOCK
) -> tuple[Neighbors, Neighbors]:
    """Find the neighbors of every source among the targets and of every target among the sources.

    No more than one block of cosines is held at once, and each is computed once for both.
    """
    forward = _empty(len(sources), min(neighbors, len(targets)), sources.device)
    backward = _empty(len(targets), min(neighbors, len(sources)), sources.device)
    for rows in _slices(len(sources), block):
        for columns in _slices(len(targets), block):
            cosines = sources[rows] @ targets[columns].T
            _keep_nearest(forward, rows, cosines, first=columns.start)
            _keep_nearest(backward, columns, cosines.T, first=rows.start)
    return forward, backward


def margins_of(own: Neighbors, other: Neighbors) -> Tensor:
    """Ratio margins of each row with its neighbors, `(rows, k)`."""
    means, others = own.cosines.mean(1, keepdim=True), other.cosines.mean(1)
    return own.cosines / ((means + others[own.places]) / 2).clamp(min=SMALLEST)


def _empty(rows: int, neighbors: int, device: torch.device) -> Neighbors:
    cosines = torch.full((rows, neighbors), -torch.inf, device=device)
    return Neighbors(cosines, torch.zeros(rows, neighbors, dtype=torch.long, device=device))


def _slices(count: int, block: int) -> Iterator[slice]:
    for first in range(0, count, block):
        yield slice(first, min(first + block, count))


def _keep_nearest(found: Neighbors, rows: slice, cosines: Tensor, *, first: int) -> None:
    """Let a block's nearest, whose places begin at `first`, take the places of farther ones."""
    wanted = found.cosines.shape[1]
    near = cosines.topk(min(wanted, cosines.shape[1]), dim=1)
    both = torch.cat([found.cosines[rows], near.values], dim=1)
    places = torch.cat([found.places[rows], near.indices + first], dim=1)
    best = both.topk(wanted, dim=1)
    found.cosines[rows] = best.values
    found.places[rows] = places.gather(1, best.indices)
