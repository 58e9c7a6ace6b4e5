"""Retrieval of translations: what moves, its loss, its rankings.

A text's embedding is the mean of the encoder's last states, through stacked LoRA and
without a head, of length 1. The loss is a symmetric InfoNCE over the pairs of one
minibatch: each source picks its target among all targets of its episode, each target its
source. The temperature is a meta-parameter, and a fast weight, beside the LoRA matrices.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nlp_meta.data.answers import Ranking
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import Backbone
from nlp_meta.encoders.batches import (
    Batch,
    Row,
    count_minibatches,
    prepare_batches,
    split_by_task,
    stack_batches,
)
from nlp_meta.encoders.lora import (
    BIAS,
    WEIGHT,
    Adapter,
    LoraPlan,
    Weights,
    lowest_adapted_layer,
    start_weights,
)
from nlp_meta.encoders.prefix import Network, build_network
from nlp_meta.encoders.similarity import NEIGHBORS, Overlap, ratio_margin
from nlp_meta.errors import EpisodeError, SettingsError

TEMPERATURE = "temperature"
"""Name of the logarithm of the inverse temperature among the weights."""
START_TEMPERATURE = 0.01
"""What E5 was trained with: Wang et al. 2022, arXiv:2212.03533."""
COLDEST = 0.001
"""Least temperature that counts: below it a loss is as steep as float32 can tell."""


@dataclass(frozen=True, slots=True)
class PairBatch:
    """All pairs of one minibatch of W tasks, as pieces of like length for each side.

    Attributes:
        sources, targets: Pieces of all tasks' rows; the positions in them are places of pairs.
        apart: `(tasks, pairs, pairs)`, True where two pairs of a task may be told apart, and
            for each pair with itself; False for pairs that share a text.
        shares: `(tasks, pairs)`, each pair's share in its task's mean; 0 where a task has
            no more pairs.
    """

    sources: tuple[Batch, ...]
    targets: tuple[Batch, ...]
    apart: Tensor
    shares: Tensor


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A frozen network and the layers of it that move.

    Attributes:
        batch_tokens: Most tokens of one padded piece, over all tasks of the stack.
        neighbors: Of the margin that mined candidates are chosen by.
        overlap: What the overlap of two sentences' n-grams counts for in answers, beside
            their cosine; the loss knows nothing of it.
    """

    backbone: Backbone
    network: Network
    plan: LoraPlan
    batch_tokens: int
    neighbors: int = NEIGHBORS
    overlap: float = 0.0

    def __post_init__(self) -> None:
        if self.backbone.pooling != "mean":
            raise SettingsError(
                f"cannot retrieve translations with the pooling '{self.backbone.pooling}': a text "
                "is compared as the mean of its states; set `model.pooling` to mean"
            )

    def over(self, backbone: Backbone) -> "Retrieval":
        """The same over a copy of its encoder, or over itself, with no text's states kept."""
        network = build_network(
            backbone, frozen_layers=lowest_adapted_layer(self.plan), dtype=self.network.dtype
        )
        return replace(self, backbone=backbone, network=network)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Retrieval":
        return self.over(copy.deepcopy(self.backbone, memo))

    def meta_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the tensors that the outer loop moves, at their beginning."""
        weights = start_weights(self.backbone, self.plan, num_labels=0, generator=generator)
        kept = {name: value for name, value in weights.items() if name not in self._head}
        return {**kept, TEMPERATURE: self.start_temperature()}

    def start_temperature(self) -> Tensor:
        """Give the temperature's meta-parameter at its beginning, a scalar."""
        return torch.tensor(-math.log(START_TEMPERATURE), device=self.backbone.device)

    def loss(self, weights: Weights, batch: PairBatch) -> Tensor:
        """Symmetric InfoNCE of each task, `(tasks,)` in nats, averaged over its pairs.

        Source:
            van den Oord et al. 2018, arXiv:1807.03748, equation 4; symmetric, with a learned
            temperature: Radford et al. 2021, arXiv:2103.00020, figure 3.
        """
        sources = self._by_pair(weights, batch.sources, batch.shares)
        targets = self._by_pair(weights, batch.targets, batch.shares)
        scale = weights[TEMPERATURE].clamp(max=-math.log(COLDEST)).exp()
        scores = sources @ targets.mT * scale.view(-1, 1, 1)
        positives = scores.diagonal(dim1=1, dim2=2)
        masked = scores.masked_fill(~batch.apart, -torch.inf)
        losses = (masked.logsumexp(1) + masked.logsumexp(2)) / 2 - positives
        return (losses * batch.shares).sum(1)

    def start(self, weights: Weights, support: Sequence[Sequence[PairBatch]]) -> Weights:
        """Start from the meta-parameters alone."""
        return weights

    def answer(
        self, weights: Weights, query: Sequence[PairBatch], episodes: Sequence[Episode]
    ) -> list[list[Ranking]]:
        """Rank the candidates of W episodes for each of their queries.

        Raises:
            EpisodeError: An episode has no candidates.
        """
        for episode in episodes:
            if not episode.candidates:
                raise EpisodeError(
                    f"cannot rank translations in task '{episode.task}': the episode has no "
                    "candidates and at least one is needed; draw it with `candidates`"
                )
        pieces = [piece for batch in query for piece in batch.sources]
        sources = self._by_task(weights, pieces)
        targets = self.embed(weights, [episode.candidates for episode in episodes])
        return [
            rank_candidates(
                asked @ candidates.T + self._overlaps(episode).to(asked.device),
                neighbors=self.neighbors,
            )
            for asked, candidates, episode in zip(sources, targets, episodes, strict=True)
        ]

    def embed(self, weights: Weights, texts: Sequence[Sequence[str]]) -> list[Tensor]:
        """Embed the texts of each task with its own weights.

        Returns:
            One tensor `(texts, hidden)` for each task, rows of length 1, in float32.
        """
        rows = iter(self.network.encode([text for its in texts for text in its]))
        tasks = [[Row(next(rows), 0, ()) for _ in its] for its in texts]
        return self._by_task(weights, self._stack(tasks))

    def support_batches(
        self, episodes: Sequence[Episode], *, minibatch: int | None
    ) -> list[list[PairBatch]]:
        """Support sets of W episodes as minibatches of about `minibatch` pairs a task.

        None has less than 2 pairs of a task that has as many: one alone has no negatives.
        """
        sizes = [len(episode.support) for episode in episodes]
        count = count_minibatches(sizes, minibatch=minibatch, least=2)
        minibatches = [
            self._pairs([episode.support[part::count] for episode in episodes])
            for part in range(count)
        ]
        sides = [side for pairs in minibatches for side in (pairs.sources, pairs.targets)]
        prepared = iter(map(tuple, prepare_batches(sides, self.network.prepare)))
        return [
            [replace(pairs, sources=next(prepared), targets=next(prepared))]
            for pairs in minibatches
        ]

    def query_batches(self, episodes: Sequence[Episode]) -> list[PairBatch]:
        """Query sets of W episodes, each whole."""
        return [self._pairs([episode.query for episode in episodes])]

    def _overlaps(self, episode: Episode) -> Tensor:
        """What n-grams add to the cosines of an episode's queries with its candidates."""
        if not self.overlap:
            return torch.zeros(1, 1)
        queries = [example.source for example in episode.query]
        return self.overlap * Overlap.of(queries, episode.candidates).cosines()

    @property
    def _head(self) -> tuple[str, ...]:
        return tuple(name + suffix for name in self.plan.head for suffix in (WEIGHT, BIAS))

    def _pairs(self, tasks: Sequence[Sequence[Example]]) -> PairBatch:
        texts = [e.source for pairs in tasks for e in pairs]
        texts += [e.target for pairs in tasks for e in pairs]
        states = iter(self.network.encode(texts))
        sides = [[[Row(next(states), 0, ()) for _ in pairs] for pairs in tasks] for _ in range(2)]
        most = max(len(pairs) for pairs in tasks)
        apart = torch.zeros(len(tasks), most, most, dtype=torch.bool)
        shares = torch.zeros(len(tasks), most)
        for task, pairs in enumerate(tasks):
            apart[task, : len(pairs), : len(pairs)] = tell_apart(pairs)
            shares[task, : len(pairs)] = 1 / max(len(pairs), 1)
        apart |= torch.eye(most, dtype=torch.bool)
        device = self.backbone.device
        sources, targets = (tuple(self._stack(side)) for side in sides)
        return PairBatch(sources, targets, apart.to(device), shares.to(device))

    def _stack(self, tasks: Sequence[Sequence[Row]]) -> list[Batch]:
        return stack_batches(
            tasks,
            padding=self.network.padding,
            tokens=self.batch_tokens,
            device=self.backbone.device,
        )

    def _by_pair(self, weights: Weights, pieces: Sequence[Batch], shares: Tensor) -> Tensor:
        """Embeddings `(tasks, pairs, hidden)`, zeros where a task has no more pairs."""
        rows = torch.cat([self._run(weights, piece) for piece in pieces])
        owners = torch.cat([piece.owners.index for piece in pieces])
        places = torch.cat([piece.positions for piece in pieces])
        empty = rows.new_zeros(*shares.shape, rows.shape[-1])
        return empty.index_put((owners, places), rows)

    @torch.no_grad()
    def _by_task(self, weights: Weights, pieces: Sequence[Batch]) -> list[Tensor]:
        """Embeddings of each task's rows, in their order."""
        return split_by_task([self._run(weights, piece) for piece in pieces], pieces)

    def _run(self, weights: Weights, piece: Batch) -> Tensor:
        """Embeddings `(rows, hidden)`: features come out where the head's weights are absent."""
        headless = {name: value for name, value in weights.items() if name not in self._head}
        adapter = Adapter(self.plan, headless, piece.owners)
        out = self.network.run(piece.states, piece.mask, adapter).float()
        return torch.nn.functional.normalize(out, dim=-1)


def tell_apart(pairs: Sequence[Example]) -> Tensor:
    """Which pairs are negatives of each other, `(pairs, pairs)`; none is of itself.

    Pairs that share a source or a target, up to case and punctuation, or a group are not:
    what one has on the other side is right for the other too.
    """
    apart = torch.ones(len(pairs), len(pairs), dtype=torch.bool)
    sides = (
        [text_key(pair.source) for pair in pairs],
        [text_key(pair.target) for pair in pairs],
        [pair.group if pair.group is not None else place for place, pair in enumerate(pairs)],
    )
    for keys in sides:
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        ids = torch.tensor([numbers[key] for key in keys], dtype=torch.long)
        apart &= ids.unsqueeze(0) != ids.unsqueeze(1)
    return apart


def rank_candidates(cosines: Tensor, *, neighbors: int = NEIGHBORS) -> list[Ranking]:
    """Order candidates by cosine, the first of equal ones first, and mine one by margin.

    Args:
        cosines: `(queries, candidates)`.
    """
    orders = cosines.argsort(dim=1, descending=True, stable=True).tolist()
    mined = ratio_margin(cosines, neighbors=neighbors).argmax(1).tolist()
    return [Ranking(tuple(order), best) for order, best in zip(orders, mined, strict=True)]
