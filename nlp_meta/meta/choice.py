"""Choices that are made on episodes: how long and how fast an adaptation goes.

`choose_adaptation` picks the steps and the rate that users' adaptation starts with, on
episodes of the meta-validation tasks. `held_out_path` looks inside one support set: it
adapts K copies of it at once, each without one fold, and answers every example by the
copy that has not seen it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from nlp_meta.data.answers import Answer
from nlp_meta.data.episodes import Episode, split_folds
from nlp_meta.errors import DivergedError
from nlp_meta.meta.inner_loop import InnerLoop, Weights, adaptation_path
from nlp_meta.meta.objective import Metric, Objective, begin_episodes, in_stacks, score_path


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
                found = score_path(
                    objective,
                    meta_parameters,
                    stacked,
                    inner=longest,
                    minibatch=minibatch,
                    at_steps=steps,
                    metric=metric,
                )
                for step, values in found.items():
                    scores[step] += values
        except DivergedError:
            scores = {step: [float("-inf")] for step in steps}
        trials += [Trial(step, rate, fmean(values)) for step, values in scores.items()]
    if all(trial.score == float("-inf") for trial in trials):
        raise DivergedError(
            f"cannot choose among the learning rates {list(learning_rates)}: a loss became "
            "infinite at each of them and a finite one is needed; add lower ones to "
            "`adaptation.learning_rates`"
        )
    best = max(trials, key=lambda trial: (trial.score, -trial.steps))
    return replace(inner, steps=best.steps, learning_rate=best.learning_rate), tuple(trials)


def held_out_path(
    objective: Objective,
    meta_parameters: Weights,
    episode: Episode,
    *,
    inner: InnerLoop,
    minibatch: int | None,
    at_steps: Sequence[int],
    folds: int,
    seed: int,
    on_step: Callable[[], None] | None = None,
) -> dict[int, list[Answer]]:
    """Answer each support example by an adaptation that has not seen it.

    Args:
        folds: K; no more than the rarest label has examples.

    Returns:
        For each of `at_steps`, one answer for each support example, in its order.
    """
    parts = split_folds(episode.support, folds=folds, seed=seed)
    episodes = [_without(episode, part) for part in parts]
    support, start = begin_episodes(objective, meta_parameters, episodes, minibatch=minibatch)
    query = objective.query_batches(episodes)
    found: dict[int, list[Answer]] = {}
    path = adaptation_path(objective.loss, start, support, inner=inner)
    for step, fast in enumerate(path):
        if on_step:
            on_step()
        if step in at_steps:
            answers = objective.answer(fast, query, episodes)
            by_place = {
                place: answer
                for part, row in zip(parts, answers, strict=True)
                for place, answer in zip(part, row, strict=True)
            }
            found[step] = [by_place[place] for place in range(len(episode.support))]
    return found


def _without(episode: Episode, held_out: Sequence[int]) -> Episode:
    kept = [e for place, e in enumerate(episode.support) if place not in set(held_out)]
    return replace(
        episode, support=tuple(kept), query=tuple(episode.support[place] for place in held_out)
    )
