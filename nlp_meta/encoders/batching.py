"""Batches: texts to token ids, rows of like length side by side, tasks stacked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nlp_meta.encoders.backbone import Backbone


@dataclass(frozen=True, slots=True)
class Row:
    """One example as the network and the loss take it.

    Attributes:
        states: `(tokens,)` ids or `(tokens, hidden)` states, as `Network.encode` gave them.
        target: Index of the label; 0 where it is unknown.
        allowed: Labels that the example's task has, `(labels,)`.
    """

    states: Tensor
    target: int
    allowed: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Batch:
    """A part of the examples of W tasks, padded to one block.

    Attributes:
        states: `(tasks * rows, tokens, ...)`, ordered by task.
        mask: `(tasks * rows, tokens)`, 1 for real tokens.
        targets: `(tasks, rows)` indices of labels.
        allowed: `(tasks, rows, labels)`, False for labels that a task lacks.
        shares: `(tasks, rows)`, each example's share in its task's mean; 0 for padding.
            They add up to 1 for each task over all batches of a minibatch.
        positions: `(tasks, rows)`, where each example stood in its task; -1 for padding.
    """

    states: Tensor
    mask: Tensor
    targets: Tensor
    allowed: Tensor
    shares: Tensor
    positions: Tensor


def tokenize(backbone: Backbone, texts: Sequence[str]) -> list[Tensor]:
    """Token ids of each text, special tokens included, cut at `max_tokens`."""
    if not texts:
        return []
    encoded = backbone.tokenizer(
        [backbone.prefix_text + text for text in texts],
        truncation=True,
        max_length=backbone.max_tokens,
        padding=False,
    )
    return [torch.tensor(ids, dtype=torch.long) for ids in encoded["input_ids"]]


def by_length(lengths: Sequence[int], *, tokens: int) -> Iterator[list[int]]:
    """Group rows of like length so that no group, padded, is larger than `tokens`."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if group and lengths[group[0]] * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def pad_rows(rows: Sequence[Tensor], *, padding: int) -> tuple[Tensor, Tensor]:
    """Pad `(tokens, ...)` tensors to one block `(rows, tokens, ...)` and its mask."""
    lengths = torch.tensor([len(row) for row in rows])
    block = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=padding)
    mask = torch.arange(block.shape[1]).unsqueeze(0) < lengths.unsqueeze(1)
    return block, mask.long()


def stack_batches(
    tasks: Sequence[Sequence[Row]], *, padding: int, tokens: int, device: torch.device
) -> list[Batch]:
    """Cut the examples of W tasks into stacked batches of like length.

    Each task's rows are sorted by length, then all tasks are cut at the same ranks, so
    that a batch holds rows of like length from every task. A task with fewer examples
    than the largest one is filled up with rows that have no share in the loss.

    Args:
        tokens: No batch, padded, holds more, unless a single row of each task does.
    """
    ranked = [sorted(range(len(rows)), key=lambda r: -len(rows[r].states)) for rows in tasks]
    most = max(len(ranks) for ranks in ranked)
    lengths = [
        max(
            len(rows[ranks[rank]].states)
            for rows, ranks in zip(tasks, ranked, strict=True)
            if rank < len(ranks)
        )
        for rank in range(most)
    ]
    groups = by_length(lengths, tokens=max(tokens // len(tasks), 1))
    return [_stack(tasks, ranked, group, padding=padding, device=device) for group in groups]


def split_minibatches(rows: Sequence[Row], *, count: int) -> list[list[Row]]:
    """Split one task's examples into `count` minibatches with like shares of each label."""
    by_label = sorted(range(len(rows)), key=lambda r: rows[r].target)
    parts: list[list[Row]] = [[] for _ in range(count)]
    for place, row in enumerate(by_label):
        parts[place % count].append(rows[row])
    return parts


def _stack(
    tasks: Sequence[Sequence[Row]],
    ranked: Sequence[Sequence[int]],
    group: Sequence[int],
    *,
    padding: int,
    device: torch.device,
) -> Batch:
    shape = (len(tasks), len(group))
    labels = len(tasks[0][0].allowed)
    targets, positions = np.zeros(shape, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
    shares, allowed = np.zeros(shape, dtype=np.float32), np.ones((*shape, labels), dtype=bool)
    states: list[Tensor] = []
    for w, (rows, ranks) in enumerate(zip(tasks, ranked, strict=True)):
        for column, rank in enumerate(group):
            if rank >= len(ranks):
                states.append(rows[ranks[-1]].states[:1])
                continue
            row = rows[ranks[rank]]
            states.append(row.states)
            targets[w, column], positions[w, column] = row.target, ranks[rank]
            shares[w, column], allowed[w, column] = 1 / len(rows), row.allowed
    block, mask = pad_rows(states, padding=padding)
    return Batch(
        states=block.to(device),
        mask=mask.to(device),
        targets=torch.from_numpy(targets).to(device),
        allowed=torch.from_numpy(allowed).to(device),
        shares=torch.from_numpy(shares).to(device),
        positions=torch.from_numpy(positions).to(device),
    )
