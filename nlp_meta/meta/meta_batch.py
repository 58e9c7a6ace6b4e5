"""A meta-batch: meta-gradients of its episodes added up, kind by kind, and what they measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nlp_meta.data.episodes import Episode
from nlp_meta.data.mixing import Stream
from nlp_meta.meta.adaptation import InnerLoop, Weights, repeat
from nlp_meta.meta.algorithms import Algorithm
from nlp_meta.meta.deviations import join_deviations
from nlp_meta.meta.validation import Objective

LOSS_BEFORE, LOSS_AFTER, SIZE, EPISODES, EXAMPLES = range(5)
MEASURES = 5
"""Sums over episodes, in this order: two losses, the way, their number, examples passed."""


@dataclass(frozen=True, slots=True)
class Training:
    """What the episodes of a meta-batch are and how they adapt.

    Attributes:
        objectives: By the kind of episode that they serve; all move the same meta-parameters,
            and one that has no part in a loss stays where it is.
        weights: Of each kind: its meta-gradients are multiplied by it before the mean over
            all episodes is taken.
        minibatch: Support examples of one inner step; None takes the whole support set.
    """

    objectives: Mapping[str, Objective]
    weights: Mapping[str, float]
    stream: Stream
    algorithm: Algorithm
    inner: InnerLoop
    minibatch: int | None


def add_stack(
    training: Training,
    kind: str,
    meta_parameters: Weights,
    episodes: Sequence[Episode],
    sums: Mapping[str, Tensor],
) -> Tensor:
    """Add the weighted meta-gradients of episodes of one kind to `sums`, in place.

    Returns:
        What they measured, `(MEASURES,)` in float64.
    """
    objective = training.objectives[kind]
    tasks = [episode.task for episode in episodes]
    support = objective.support_batches(episodes, minibatch=training.minibatch)
    found = training.algorithm(
        objective.loss,
        repeat(meta_parameters, tasks=len(episodes)),
        support,
        objective.query_batches(episodes),
        inner=training.inner,
        start=lambda weights: objective.start(join_deviations(weights, tasks), support),
    )
    for name, total in sums.items():
        total += training.weights[kind] * found.gradient[name].sum(0)
    # Reptile only measures its query sets; they count all the same, since the counts decide
    # how much a rival may train, and a rival should rather get too much.
    shown = sum(len(episode.support) for episode in episodes) * training.inner.steps
    seen = shown // max(len(support), 1) + sum(len(episode.query) for episode in episodes)
    sizes = (found.loss_before, found.loss_after, found.adaptation_size)
    return torch.tensor(
        [*(float(each.sum()) for each in sizes), len(episodes), seen], dtype=torch.float64
    )


def sum_processes(
    sums: Mapping[str, Tensor],
    measured: Tensor,
    reduce: Callable[[Tensor], Tensor] | None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Add up over all processes, in one exchange of gradients and one of measurements.

    Args:
        reduce: Sums a tensor over the processes; None where there is one process.
    """
    if reduce is None:
        return dict(sums), measured
    flat = reduce(torch.cat([value.flatten() for value in sums.values()]))
    counts = reduce(measured.float().to(flat.device)).cpu()
    total, place = {}, 0
    for name, value in sums.items():
        total[name] = flat[place : place + value.numel()].view_as(value)
        place += value.numel()
    return total, counts


def describe_kinds(kinds: Sequence[str], measured: Tensor) -> dict[str, dict[str, float]]:
    """Means over the episodes of each kind that the meta-batch held.

    Args:
        measured: `(kinds, MEASURES)`, over all processes.
    """
    return {
        kind: {
            "loss_before": float(row[LOSS_BEFORE] / row[EPISODES]),
            "loss_after": float(row[LOSS_AFTER] / row[EPISODES]),
            "episodes": float(row[EPISODES]),
        }
        for kind, row in zip(kinds, measured, strict=True)
        if row[EPISODES] > 0
    }
