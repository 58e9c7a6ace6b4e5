"""Classification of texts: what moves, its loss, its predictions.

Labels have places: `labels[i]` is answered by the i-th logit. Tasks that lack a label
have it masked, so tasks of different label sets meet in one stack. With the `shared`
head the last linear layer is a meta-parameter, and with `per_task` too, where each task has
rows of its own; with the heads `prototype` and `ridge` it is made from each support set, for
any number of labels.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from nlp_meta.data.answers import Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import Backbone
from nlp_meta.encoders.batches import (
    Batch,
    Row,
    count_minibatches,
    prepare_batches,
    split_by_task,
    split_minibatches,
    stack_batches,
)
from nlp_meta.encoders.heads import prototype_head, ridge_head, ridge_numbers, ridge_parameters
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
from nlp_meta.errors import SettingsError

HEADS = ("shared", "prototype", "ridge", "per_task")
FROM_SUPPORT = ("prototype", "ridge")
"""Heads that are made from a support set."""
LOWEST, HIGHEST = 0.25, 8.0
"""Temperatures that are tried."""
MASKED = -1e4
"""Logit of a label that a task lacks: its probability is 0 in every dtype, its gradient too."""


@dataclass(frozen=True, slots=True)
class Classification:
    """A frozen network, the layers of it that move, and the labels it tells apart.

    Attributes:
        labels: Names in the order of the logits, `task/label` where each task has its own. A
            head that is made from a support set takes that set's labels instead.
        head: One of `HEADS`.
        batch_tokens: Most tokens of one padded batch, over all tasks of the stack.
    """

    backbone: Backbone
    network: Network
    plan: LoraPlan
    labels: tuple[str, ...]
    head: str
    batch_tokens: int

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise SettingsError(
                f"cannot build the head '{self.head}': one of {', '.join(HEADS)} is needed; "
                "change `model.head`"
            )

    def over(self, backbone: Backbone) -> "Classification":
        """The same over a copy of its encoder, or over itself, with no text's states kept."""
        network = build_network(
            backbone, frozen_layers=lowest_adapted_layer(self.plan), dtype=self.network.dtype
        )
        return replace(self, backbone=backbone, network=network)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Classification":
        return self.over(copy.deepcopy(self.backbone, memo))

    def meta_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the tensors that the outer loop moves, at their beginning."""
        weights = start_weights(
            self.backbone, self.plan, num_labels=len(self.labels), generator=generator
        )
        if self.head in FROM_SUPPORT:
            for suffix in (WEIGHT, BIAS):
                del weights[self.plan.head[-1] + suffix]
        if self.head == "ridge":
            weights |= ridge_parameters(device=self.backbone.device)
        return weights

    def loss(self, weights: Weights, batch: Batch) -> Tensor:
        """Cross-entropy of each task, `(tasks,)` in nats: this batch's share of the mean."""
        logits = self.run(weights, batch)
        row_losses = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")
        losses = row_losses.new_zeros(len(batch.owners.counts))
        return losses.index_add(0, batch.owners.index, row_losses * batch.shares)

    def start(self, weights: Weights, support: Sequence[Sequence[Batch]]) -> Weights:
        """Complete stacked meta-parameters to the weights that adaptation starts from."""
        if self.head not in FROM_SUPPORT:
            return weights
        return {**weights, **self._head(weights, support)}

    def answer(
        self, weights: Weights, query: Sequence[Batch], episodes: Sequence[Episode]
    ) -> list[list[Prediction]]:
        """Predictions for the query sets of W episodes."""
        episode_logs = self.predict(weights, query)
        return [
            to_predictions(logs, self.label_places(episode), episode.labels)
            for logs, episode in zip(episode_logs, episodes, strict=True)
        ]

    @torch.no_grad()
    def predict(self, weights: Weights, batches: Sequence[Batch]) -> list[Tensor]:
        """Log-probabilities of each task's examples, in their order.

        Returns:
            One tensor `(examples, labels)` for each task, float32, on the CPU.
        """
        logs = [self.run(weights, batch).log_softmax(-1).cpu() for batch in batches]
        return split_by_task(logs, batches)

    def support_batches(
        self, episodes: Sequence[Episode], *, minibatch: int | None
    ) -> list[list[Batch]]:
        """Support sets of W episodes as minibatches of about `minibatch` examples a task."""
        tasks = self._rows(episodes, [episode.support for episode in episodes])
        count = count_minibatches([len(rows) for rows in tasks], minibatch=minibatch)
        split = [split_minibatches(rows, count=count) for rows in tasks]
        stacked = [self._stack([parts[i] for parts in split]) for i in range(count)]
        return prepare_batches(stacked, self.network.prepare)

    def query_batches(self, episodes: Sequence[Episode]) -> list[Batch]:
        """Query sets of W episodes."""
        return self._stack(self._rows(episodes, [episode.query for episode in episodes]))

    def _rows(
        self, episodes: Sequence[Episode], sides: Sequence[Sequence[Example]]
    ) -> list[list[Row]]:
        """The support or the query sets of W episodes; all texts are encoded together."""
        texts = [example.source for side in sides for example in side]
        states = iter(self.network.encode(texts))
        tasks: list[list[Row]] = []
        all_names = [self.label_places(episode) for episode in episodes]
        width = max(map(len, all_names), default=0)
        for episode, names, side in zip(episodes, all_names, sides, strict=True):
            allowed = [name in episode.labels for name in names]
            allowed += [False] * (width - len(allowed))
            places = {name: place for place, name in enumerate(names)}
            tasks.append([Row(next(states), places.get(e.target, 0), allowed) for e in side])
        return tasks

    def label_places(self, episode: Episode) -> tuple[str, ...]:
        """Names of the logits for an episode's task; empty for rows of other tasks."""
        if self.head in FROM_SUPPORT:
            return episode.labels
        if self.head == "shared":
            return self.labels
        task = name_row(episode.task, "")
        return tuple(n.removeprefix(task) if n.startswith(task) else "" for n in self.labels)

    def _stack(self, tasks: Sequence[Sequence[Row]]) -> list[Batch]:
        return stack_batches(
            tasks,
            padding=self.network.padding,
            tokens=self.batch_tokens,
            device=self.backbone.device,
        )

    def run(self, weights: Weights, batch: Batch) -> Tensor:
        """Logits `(rows, labels)`; features where the weights hold no last layer."""
        adapter = Adapter(self.plan, weights, batch.owners)
        out = self.network.run(batch.states, batch.mask, adapter).float()
        if self.plan.head[-1] + WEIGHT not in weights:
            return out
        return out.masked_fill(~batch.allowed, MASKED)

    @torch.no_grad()
    def features(self, weights: Weights, texts: Sequence[str]) -> Tensor:
        """What the last linear layer gets for texts, `(texts, features)`, float32, on the CPU.

        Args:
            weights: Meta-parameters, without the task dimension.
        """
        last = {self.plan.head[-1] + suffix for suffix in (WEIGHT, BIAS)}
        below = {name: value[None] for name, value in weights.items() if name not in last}
        batches = self._stack([[Row(states, 0, [True]) for states in self.network.encode(texts)]])
        return split_by_task([self.run(below, batch).cpu() for batch in batches], batches)[0]

    def own_head(self, weights: Weights) -> tuple[Tensor, Tensor] | None:
        """Weight and bias of the last linear layer; None where it is made from a support set."""
        last = self.plan.head[-1]
        return (weights[last + WEIGHT], weights[last + BIAS]) if last + WEIGHT in weights else None

    def _head(self, weights: Weights, support: Sequence[Sequence[Batch]]) -> Mapping[str, Tensor]:
        """The last linear layer, `(tasks, ...)`, from the features of W support sets."""
        batches = [batch for minibatch in support for batch in minibatch]
        last = {self.plan.head[-1] + suffix for suffix in (WEIGHT, BIAS)}
        below = {name: value for name, value in weights.items() if name not in last}
        make = prototype_head
        if self.head == "ridge":
            make = partial(ridge_head, numbers=ridge_numbers(weights))
        weight, bias = make(
            torch.cat([self.run(below, batch) for batch in batches]),
            torch.cat([batch.targets for batch in batches]),
            torch.cat([batch.owners.index for batch in batches]),
            tasks=len(batches[0].owners.counts),
            num_labels=batches[0].allowed.shape[1],
        )
        name = self.plan.head[-1]
        return {name + WEIGHT: weight, name + BIAS: bias}


def name_row(task: str, label: str) -> str:
    """The name of a label's row where each task has rows of its own."""
    return f"{task}/{label}"


def to_predictions(
    log_probabilities: Tensor, places: Sequence[str], labels: Sequence[str]
) -> list[Prediction]:
    """Read log-probabilities `(examples, labels)` as predictions among a task's labels."""
    kept = [place for place, name in enumerate(places) if name in labels]
    names = [places[place] for place in kept]
    rows = log_probabilities[:, kept].softmax(-1).tolist()
    return [
        Prediction(
            names[max(range(len(row)), key=row.__getitem__)], dict(zip(names, row, strict=True))
        )
        for row in rows
    ]


def pair_answers(logs: Tensor, targets: Tensor) -> tuple[tuple[float, bool], ...]:
    """How sure each answer is, to 4 digits, and whether it is right.

    Args:
        logs: Log-probabilities, `(texts, labels)`.
        targets: Places of the labels, `(texts,)`.
    """
    sure, places = logs.exp().max(-1)
    right = (places == targets).tolist()
    return tuple((round(one, 4), good) for one, good in zip(sure.tolist(), right, strict=True))


def fit_temperature(log_probabilities: Tensor, targets: Tensor) -> float:
    """Temperature that makes held-out answers most likely.

    Args:
        log_probabilities: `(examples, labels)`, of examples that were not adapted to.
        targets: `(examples,)` indices of labels.

    Returns:
        What logits are divided by, between 0.25 and 8.

    Source:
        Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """

    def loss(log_temperature: float) -> float:
        scaled = log_probabilities.double() / math.exp(log_temperature)
        return float(torch.nn.functional.cross_entropy(scaled, targets))

    bounds = (math.log(LOWEST), math.log(HIGHEST))
    best = minimize_scalar(loss, bounds=bounds, method="bounded")
    return math.exp(float(best.x))


def log_probabilities(answers: Sequence[Prediction], labels: Sequence[str]) -> Tensor:
    """Logarithms of predictions, `(texts, labels)`, float64; never infinite."""
    rows = [[answer.probabilities[name] for name in labels] for answer in answers]
    return torch.tensor(rows, dtype=torch.float64).clamp(min=1e-12).log()
