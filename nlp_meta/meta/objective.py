"""Adapt and score: what the meta floor needs of an objective, and choices made on episodes.

`score_path` says what meta-parameters are worth on episodes of unseen tasks.
`choose_adaptation` picks the steps and the rate that users' adaptation starts with, on
episodes of the meta-validation tasks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Protocol

import torch
from torch import Tensor

from nlp_meta.data.answers import Answer
from nlp_meta.data.episodes import Episode
from nlp_meta.errors import DivergedError
from nlp_meta.meta.inner_loop import (
    Batch,
    InnerLoop,
    Minibatch,
    Weights,
    adapt,
    adaptation_path,
    repeat,
)

Metric = Callable[[Episode, Sequence[Answer]], float]


class Objective(Protocol):
    """What the meta floor needs to know of a skill."""

    def loss(self, weights: Weights, batch: Batch) -> Tensor: ...

    def start(self, weights: Weights, support: Sequence[Minibatch]) -> Weights: ...

    def support_batches(
        self, episodes: Sequence[Episode], *, minibatch: int | None
    ) -> Sequence[Minibatch]: ...

    def query_batches(self, episodes: Sequence[Episode]) -> Minibatch: ...

    def answer(
        self, weights: Weights, query: Minibatch, episodes: Sequence[Episode]
    ) -> Sequence[Sequence[Answer]]: ...


@dataclass(frozen=True, slots=True)
class Validation:
    """How meta-parameters are judged: adapted to episodes of unseen tasks.

    Attributes:
        inner: The adaptation that is judged, which may differ from the one in training.
        stack: Episodes adapted in one pass.
        metrics: By skill. Each skill's mean counts as much as another's.
        objectives: By skill, as they are judged: greedy translations, a head for new tasks.
    """

    episodes: Sequence[Episode]
    inner: InnerLoop
    minibatch: int | None
    stack: int
    metrics: Mapping[str, Metric]
    objectives: Mapping[str, Objective]


def adapt_episodes(
    objective: Objective,
    meta_parameters: Weights,
    episodes: Sequence[Episode],
    *,
    inner: InnerLoop,
    minibatch: int | None,
) -> dict[str, Tensor]:
    """Fast weights of W episodes, stacked."""
    support, start = begin_episodes(objective, meta_parameters, episodes, minibatch=minibatch)
    return adapt(objective.loss, start, support, inner=inner)


def begin_episodes(
    objective: Objective,
    meta_parameters: Weights,
    episodes: Sequence[Episode],
    *,
    minibatch: int | None,
) -> tuple[Sequence[Minibatch], Weights]:
    """Support minibatches of W episodes and the stacked weights that adaptation starts from."""
    support = objective.support_batches(episodes, minibatch=minibatch)
    with torch.no_grad():
        start = objective.start(repeat(meta_parameters, tasks=len(episodes)), support)
    return support, start


def score_path(
    objective: Objective,
    meta_parameters: Weights,
    episodes: Sequence[Episode],
    *,
    inner: InnerLoop,
    minibatch: int | None,
    at_steps: Sequence[int],
    metric: Metric,
) -> dict[int, list[float]]:
    """Score W episodes after several numbers of inner steps of one adaptation.

    Returns:
        For each of `at_steps`, one score an episode.
    """
    support, start = begin_episodes(objective, meta_parameters, episodes, minibatch=minibatch)
    query = objective.query_batches(episodes)
    scores: dict[int, list[float]] = {}
    path = adaptation_path(objective.loss, start, support, inner=inner)
    for step, fast in enumerate(path):
        if step in at_steps:
            answers = objective.answer(fast, query, episodes)
            scores[step] = [metric(e, a) for e, a in zip(episodes, answers, strict=True)]
    return scores


def by_skill(episodes: Iterable[Episode]) -> dict[str, list[Episode]]:
    """Sort episodes by their skill, each in its order."""
    groups: dict[str, list[Episode]] = {}
    for episode in episodes:
        groups.setdefault(episode.skill, []).append(episode)
    return dict(sorted(groups.items()))


def in_stacks(items: Sequence[Any], *, size: int) -> Iterator[Sequence[Any]]:
    """Cut episodes into stacks of at most `size`."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


@dataclass(frozen=True, slots=True)
class Trial:
    """What one number of steps at one rate scored, averaged over the episodes."""

    steps: int
    learning_rate: float
    score: float


def choose_adaptation(
    objective: Objective,
    meta_parameters: Weights,
    episodes: Sequence[Episode],
    *,
    inner: InnerLoop,
    minibatch: int | None,
    steps: Sequence[int],
    learning_rates: Sequence[float],
    stack: int,
    metric: Metric,
) -> tuple[InnerLoop, tuple[Trial, ...]]:
    """Find the steps and the rate that score best on episodes of unseen tasks.

    One adaptation for each rate serves all numbers of steps. A rate at which a loss
    becomes infinite scores nothing.

    Args:
        inner: Optimizer and anchor; its steps and rate are replaced.

    Returns:
        The best choice, of equal ones the shortest, and every trial.
    """
    trials: list[Trial] = []
    for rate in learning_rates:
        longest = replace(inner, steps=max(steps), learning_rate=rate)
        scores: dict[int, list[float]] = {step: [] for step in steps}
        try:
            for stacked in in_stacks(episodes, size=stack):
                path_scores = score_path(
                    objective,
                    meta_parameters,
                    stacked,
                    inner=longest,
                    minibatch=minibatch,
                    at_steps=steps,
                    metric=metric,
                )
                for step, values in path_scores.items():
                    scores[step] += values
        except DivergedError:
            scores = {step: [float("-inf")] for step in steps}
        trials += [Trial(step, rate, fmean(values)) for step, values in scores.items()]
    best = best_trial(trials, setting="adaptation.learning_rates")
    return replace(inner, steps=best.steps, learning_rate=best.learning_rate), tuple(trials)


def best_trial(trials: Sequence[Trial], *, setting: str) -> Trial:
    """The trial that scored best, of equal ones the shortest.

    Args:
        setting: That holds the learning rates.

    Raises:
        DivergedError: A loss became infinite at each of them.
    """
    best = max(trials, key=lambda trial: (trial.score, -trial.steps))
    if best.score == float("-inf"):
        rates = list(dict.fromkeys(trial.learning_rate for trial in trials))
        raise DivergedError(
            f"cannot choose among the learning rates {rates}: a loss became infinite at each of "
            f"them and a finite one is needed; add lower ones to `{setting}`"
        )
    return best
