"""Batches: texts or pairs as token ids, rows of like length side by side, tasks stacked."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

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
class Owners:
    """Which task of the stack each row of a batch belongs to; rows stand in order of tasks.

    Attributes:
        index: `(rows,)` places of the tasks.
        counts: Rows of each task; may be 0.
    """

    index: Tensor
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of like length from W tasks, padded to one block.

    Attributes:
        states: `(rows, tokens, ...)`, or what `Network.prepare` made of that.
        mask: `(rows, tokens)`, 1 for real tokens.
        targets: `(rows,)` indices of labels.
        allowed: `(rows, labels)`, False for labels that a row's task lacks.
        shares: `(rows,)`, each example's share in its task's mean; over all batches of a
            minibatch they add up to 1 for each task.
        positions: `(rows,)`, where each example stood in its task.
    """

    states: Tensor
    mask: Tensor
    owners: Owners
    targets: Tensor
    allowed: Tensor
    shares: Tensor
    positions: Tensor


def tokenize(backbone: Backbone, texts: Sequence[str]) -> list[Tensor]:
    """Token ids of each text, special tokens included, cut at `max_tokens`."""
    if not texts:
        return []
    with backbone.reading():
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
    """Put the examples of W tasks into batches of like length.

    A batch takes rows from whichever tasks have some of that length, so no task is
    padded to another's texts.

    Args:
        tokens: No batch, padded, holds more, unless a single row does.
    """
    places = [(w, i) for w, rows in enumerate(tasks) for i in range(len(rows))]
    lengths = [len(tasks[w][i].states) for w, i in places]
    return [
        _stack(tasks, sorted(places[row] for row in group), padding=padding, device=device)
        for group in by_length(lengths, tokens=tokens)
    ]


KEPT_TOKENS = 32_768
"""Most tokens of support sets whose products with frozen weights are kept: a bound on memory."""


def prepare_batches(
    minibatches: Sequence[Sequence[Batch]], prepare: Callable[[Tensor, Tensor], Tensor]
) -> list[list[Batch]]:
    """Compute once what every inner step begins with, unless it would take too much memory."""
    batches = [batch for minibatch in minibatches for batch in minibatch]
    if sum(batch.mask.numel() for batch in batches) > KEPT_TOKENS:
        return [list(minibatch) for minibatch in minibatches]
    return [
        [replace(batch, states=prepare(batch.states, batch.mask)) for batch in minibatch]
        for minibatch in minibatches
    ]


class Placed(Protocol):
    """Rows that know their task and where they stood in it."""

    @property
    def owners(self) -> Owners: ...

    @property
    def positions(self) -> Tensor: ...


def split_by_task(values: Sequence[Tensor], batches: Sequence[Placed]) -> list[Tensor]:
    """Give each task what was computed for its rows, in their order.

    Args:
        values: `(rows, ...)` of each batch, on whatever device.
    """
    rows = torch.cat(list(values))
    owners = torch.cat([batch.owners.index for batch in batches]).to(rows.device)
    places = torch.cat([batch.positions for batch in batches]).to(rows.device)
    tasks = range(len(batches[0].owners.counts))
    return [rows[owners == w][places[owners == w].argsort()] for w in tasks]


def count_minibatches(sizes: Sequence[int], *, minibatch: int | None, least: int = 1) -> int:
    """Minibatches of about `minibatch` examples that the largest of W sets is split into.

    Args:
        minibatch: None takes all at once.
        least: No minibatch gets fewer of a set that has as many.

    Returns:
        0 where there is no example at all.
    """
    if not max(sizes):
        return 0
    count = 1 if minibatch is None else max(1, round(max(sizes) / minibatch))
    return max(1, min(count, min(sizes) // least))


def split_minibatches(rows: Sequence[Row], *, count: int) -> list[list[Row]]:
    """Split one task's examples into `count` minibatches with like shares of each label."""
    by_label = sorted(range(len(rows)), key=lambda r: rows[r].target)
    parts: list[list[Row]] = [[] for _ in range(count)]
    for place, row in enumerate(by_label):
        parts[place % count].append(rows[row])
    return parts


def _stack(
    tasks: Sequence[Sequence[Row]],
    places: Sequence[tuple[int, int]],
    *,
    padding: int,
    device: torch.device,
) -> Batch:
    rows = [tasks[w][i] for w, i in places]
    owners = [w for w, _ in places]
    block, mask = pad_rows([row.states for row in rows], padding=padding)
    shares = [1 / len(tasks[w]) for w in owners]
    return Batch(
        states=block.to(device),
        mask=mask.to(device),
        owners=Owners(
            torch.tensor(owners, device=device), tuple(owners.count(w) for w in range(len(tasks)))
        ),
        targets=torch.tensor([row.target for row in rows], device=device),
        allowed=torch.tensor([row.allowed for row in rows], device=device),
        shares=torch.tensor(shares, dtype=torch.float32, device=device),
        positions=torch.tensor([i for _, i in places], device=device),
    )


IGNORED = -100
"""Label of a padded place, which has no loss."""


@dataclass(frozen=True, slots=True)
class PairRow:
    """One sentence pair as the network and the loss take it.

    Attributes:
        source: `(tokens,)` ids or `(tokens, hidden)` states of the encoder.
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
        sources: `(rows, tokens, ...)`.
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
            torch.tensor(owners, device=device), tuple(owners.count(w) for w in range(len(tasks)))
        ),
        shares=torch.tensor([1 / tokens[w] for w in owners], dtype=torch.float32, device=device),
        positions=torch.tensor([i for _, i in places], device=device),
    )
