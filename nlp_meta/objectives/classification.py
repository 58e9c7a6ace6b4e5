"""Classification of texts: what moves, its loss, its predictions.

Labels have places: `labels[i]` is answered by the i-th logit. Tasks that lack a label
have it masked, so tasks of different label sets meet in one stack. With the `shared`
head the last linear layer is a meta-parameter; with the `prototype` head it is rebuilt
from each support set, for any number of labels.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from nlp_meta.data.answers import Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import Backbone, autocasting
from nlp_meta.encoders.batches import (
    Batch,
    Row,
    count_minibatches,
    split_by_task,
    split_minibatches,
    stack_batches,
)
from nlp_meta.encoders.lora import (
    BIAS,
    WEIGHT,
    LoraPlan,
    Weights,
    lowest_adapted_layer,
    stacked,
    start_weights,
)
from nlp_meta.encoders.prefix import Network, build_network
from nlp_meta.errors import SettingsError

HEADS = ("shared", "prototype")
LOWEST, HIGHEST = 0.25, 8.0
"""Temperatures that are tried."""
MASKED = -1e4
"""Logit of a label that a task lacks: its probability is 0 in every dtype, its gradient too."""

LEAST_SPREAD = 0.1
"""Least spread within classes, as a share of the spread of the whole support set."""


@dataclass(frozen=True, slots=True)
class Classification:
    """A frozen network, the layers of it that move, and the labels it tells apart.

    Attributes:
        labels: Names in the order of the logits. With the prototype head a task's own
            labels take the first places and this only bounds their number.
        head: `shared` or `prototype`.
        autocast: Dtype of the matrix products; None computes as the backbone is stored.
        batch_tokens: Most tokens of one padded batch, over all tasks of the stack.
    """

    backbone: Backbone
    network: Network
    plan: LoraPlan
    labels: tuple[str, ...]
    head: str
    autocast: torch.dtype | None
    batch_tokens: int

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise SettingsError(
                f"cannot build the head '{self.head}': one of {', '.join(HEADS)} is needed; "
                "change `model.head`"
            )

    def over(self, backbone: Backbone) -> "Classification":
        """The same over a copy of its encoder, or over itself, with no text's states kept."""
        network = build_network(backbone, frozen_layers=lowest_adapted_layer(self.plan))
        return replace(self, backbone=backbone, network=network)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Classification":
        return self.over(copy.deepcopy(self.backbone, memo))

    def meta_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the tensors that the outer loop moves, at their beginning."""
        weights = start_weights(
            self.backbone, self.plan, num_labels=len(self.labels), generator=generator
        )
        if self.head == "prototype":
            for suffix in (WEIGHT, BIAS):
                del weights[self.plan.head[-1] + suffix]
        return weights

    def loss(self, weights: Weights, batch: Batch) -> Tensor:
        """Cross-entropy of each task, `(tasks,)` in nats: this batch's share of the mean."""
        logits = self._run(weights, batch)
        row_losses = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")
        losses = row_losses.new_zeros(len(batch.owners.counts))
        return losses.index_add(0, batch.owners.index, row_losses * batch.shares)

    def start(self, weights: Weights, support: Sequence[Sequence[Batch]]) -> Weights:
        """Complete stacked meta-parameters to the weights that adaptation starts from."""
        if self.head == "shared":
            return weights
        return {**weights, **self._prototypes(weights, support)}

    def answer(
        self, weights: Weights, query: Sequence[Batch], episodes: Sequence[Episode]
    ) -> list[list[Prediction]]:
        """Predictions for the query sets of W episodes."""
        episode_logs = self.predict(weights, query)
        return [
            to_predictions(logs, self.label_places(episode.labels), episode.labels)
            for logs, episode in zip(episode_logs, episodes, strict=True)
        ]

    @torch.no_grad()
    def predict(self, weights: Weights, batches: Sequence[Batch]) -> list[Tensor]:
        """Log-probabilities of each task's examples, in their order.

        Returns:
            One tensor `(examples, labels)` for each task, float32, on the CPU.
        """
        logs = [self._run(weights, batch).log_softmax(-1).cpu() for batch in batches]
        return split_by_task(logs, batches)

    def support_batches(
        self, episodes: Sequence[Episode], *, minibatch: int | None
    ) -> list[list[Batch]]:
        """Support sets of W episodes as minibatches of about `minibatch` examples a task."""
        tasks = self._rows(episodes, [episode.support for episode in episodes])
        count = count_minibatches([len(rows) for rows in tasks], minibatch=minibatch)
        split = [split_minibatches(rows, count=count) for rows in tasks]
        return [self._stack([parts[i] for parts in split]) for i in range(count)]

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
        for episode, side in zip(episodes, sides, strict=True):
            names = self.label_places(episode.labels)
            allowed = [name in episode.labels for name in names]
            allowed += [False] * (len(self.labels) - len(allowed))
            places = {name: place for place, name in enumerate(names)}
            tasks.append([Row(next(states), places.get(e.target, 0), allowed) for e in side])
        return tasks

    def label_places(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the logits for a task with these labels."""
        return self.labels if self.head == "shared" else labels

    def _stack(self, tasks: Sequence[Sequence[Row]]) -> list[Batch]:
        return stack_batches(
            tasks,
            padding=self.network.padding,
            tokens=self.batch_tokens,
            device=self.backbone.device,
        )

    def _run(self, weights: Weights, batch: Batch) -> Tensor:
        """Logits `(rows, labels)`; features where the weights hold no last layer."""
        adapted = stacked(self.backbone, self.plan, weights, batch.owners)
        with adapted, autocasting(self.autocast, self.backbone.device):
            out = self.network.run(batch.states, batch.mask).float().flatten(1)
        if self.plan.head[-1] + WEIGHT not in weights:
            return out
        return out.masked_fill(~batch.allowed, MASKED)

    def _prototypes(
        self, weights: Weights, support: Sequence[Sequence[Batch]]
    ) -> Mapping[str, Tensor]:
        batches = [batch for minibatch in support for batch in minibatch]
        features = torch.cat([self._run(weights, batch) for batch in batches])
        weight, bias = prototype_head(
            features,
            torch.cat([batch.targets for batch in batches]),
            torch.cat([batch.owners.index for batch in batches]),
            tasks=len(batches[0].owners.counts),
            num_labels=len(self.labels),
        )
        name = self.plan.head[-1]
        return {name + WEIGHT: weight, name + BIAS: bias}


def prototype_head(
    features: Tensor, targets: Tensor, owners: Tensor, *, tasks: int, num_labels: int
) -> tuple[Tensor, Tensor]:
    """Nearest class mean of W tasks, each written as a linear layer.

    The squared distance to the mean c of a class gives the logits 2c.x - |c|^2, up to
    what all classes share. They are divided by the mean squared distance of an example
    to its own class mean, so that the head is as sure on any encoder's scale, and the
    features are centered on the support set's mean, which leaves the answers as they
    are and keeps the weights small.

    Args:
        features: `(examples, features)` of all tasks.
        targets: `(examples,)` indices of labels.
        owners: `(examples,)` places of the examples' tasks.

    Returns:
        Weight `(tasks, labels, features)` and bias `(tasks, labels)`; zero for a label
        that has no example.

    Source:
        Snell et al. 2017, arXiv:1703.05175, section 2.4; Triantafillou et al. 2020,
        arXiv:1903.03096, section 3.2.
    """
    classes = owners * num_labels + targets
    means, counts = _means_by(classes, features, tasks * num_labels)
    centers, _ = _means_by(owners, features, tasks)
    distance = (features - means[classes]).square().sum(-1, keepdim=True)
    spread = _means_by(owners, distance, tasks)[0]
    # A class of one example has no distance to its mean: it must not make the head certain.
    whole = _means_by(owners, (features - centers[owners]).square().sum(-1, keepdim=True), tasks)[0]
    spread = torch.maximum(spread, LEAST_SPREAD * whole).clamp(min=1e-6).unsqueeze(-1)
    means = means.view(tasks, num_labels, -1)
    present = (counts > 0).view(tasks, num_labels, 1)
    weight = 2 * (means - centers.unsqueeze(1)) / spread * present
    shared = centers.square().sum(-1, keepdim=True).unsqueeze(-1)
    bias = (shared - means.square().sum(-1, keepdim=True)) / spread * present
    return weight, bias.squeeze(-1)


def _means_by(places: Tensor, values: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Mean of the rows at each place, `(size, ...)`, 0 where there are none; and their number."""
    counts = torch.bincount(places, minlength=size).to(values.dtype)
    sums = values.new_zeros(size, values.shape[-1]).index_add(0, places, values)
    return sums / counts.clamp(min=1).unsqueeze(-1), counts


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
