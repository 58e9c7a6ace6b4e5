"""Fine-tuning from a start: the same method for every start there is.

From the pretrained encoder it is plain LoRA, from jointly trained meta-parameters it is
multi-task training then fine-tuning, from meta-learned ones it is ours. Only the start
differs. Without a support set the start itself answers, with its shared head.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from nlp_meta.data.answers import Answer, Learned, LearnedWithFacts, Rival, only_predictions
from nlp_meta.data.episodes import Episode, Queries, SupportSet, split_folds
from nlp_meta.errors import DivergedError
from nlp_meta.meta.inner_loop import InnerLoop, Weights, adaptation_path, repeat
from nlp_meta.meta.objective import Objective, adapt_episodes, begin_episodes
from nlp_meta.models.adaptation import hold_out, in_order


def fine_tune(
    objective: Objective, meta_parameters: Weights, *, inner: InnerLoop, minibatch: int | None
) -> Rival:
    """Make a method that adapts to each support set, as long and as fast as `inner` says."""

    def learn(support_set: SupportSet) -> Learned:
        if not support_set.examples:
            return answer_by(objective, meta_parameters, support_set)
        fast = adapt_episodes(
            objective,
            meta_parameters,
            [support_set.ask(Queries(()))],
            inner=inner,
            minibatch=minibatch,
        )
        return _answer_by_stacked(objective, fast, support_set)

    return learn


def keep_start(objective: Objective, meta_parameters: Weights) -> Rival:
    """Make a method that learns nothing: the start itself answers, with its shared head."""
    return partial(answer_by, objective, meta_parameters)


def answer_by(objective: Objective, weights: Weights, support_set: SupportSet) -> Learned:
    """Answer queries with the weights of one model, `(...)` without a task dimension."""
    return _answer_by_stacked(objective, repeat(weights, tasks=1), support_set)


def _answer_by_stacked(objective: Objective, fast: Weights, support_set: SupportSet) -> Learned:
    def answer(queries: Queries) -> Sequence[Answer]:
        episode = support_set.ask(queries)
        return objective.answer(fast, objective.query_batches([episode]), [episode])[0]

    return answer


@dataclass(frozen=True, slots=True)
class Search:
    """What a search inside a support set tries.

    Attributes:
        folds: Fewer where a label has fewer examples.
        seed: Of the folds.
    """

    steps: Sequence[int]
    learning_rates: Sequence[float]
    folds: int
    seed: int


def fine_tune_inside(
    objective: Objective,
    meta_parameters: Weights,
    *,
    inner: InnerLoop,
    minibatch: int | None,
    search: Search,
) -> Rival:
    """Make a method that chooses steps and rate inside each support set.

    For a new domain without meta-validation tasks beside it: every rate is tried on all
    folds at once, each example is answered by the copy that has not seen it, and the
    least held-out log loss decides, of equal ones the fewest steps. What was chosen is
    among the facts of the learned method.

    Args:
        inner: Optimizer and anchor; its steps and rate are replaced.
    """

    def learn(support_set: SupportSet) -> LearnedWithFacts:
        chosen = inner
        if support_set.examples:
            chosen = _choose_inside(
                objective,
                meta_parameters,
                support_set,
                inner=inner,
                minibatch=minibatch,
                search=search,
            )
        adapt = fine_tune(objective, meta_parameters, inner=chosen, minibatch=minibatch)
        facts = {"steps": chosen.steps, "learning_rate": chosen.learning_rate}
        return LearnedWithFacts(adapt(support_set), facts)

    return learn


def _choose_inside(
    objective: Objective,
    meta_parameters: Weights,
    support_set: SupportSet,
    *,
    inner: InnerLoop,
    minibatch: int | None,
    search: Search,
) -> InnerLoop:
    targets = [example.target for example in support_set.examples]
    fewest = min(targets.count(label) for label in support_set.labels)
    if fewest < 2:
        # Nothing can be held out of a label with one example: the most cautious choice.
        return replace(inner, steps=min(search.steps), learning_rate=min(search.learning_rates))
    trials: list[tuple[float, int, float]] = []
    for rate in search.learning_rates:
        with contextlib.suppress(DivergedError):
            answers = held_out_path(
                objective,
                meta_parameters,
                support_set.ask(Queries(())),
                inner=replace(inner, steps=max(search.steps), learning_rate=rate),
                minibatch=minibatch,
                at_steps=search.steps,
                folds=min(search.folds, fewest),
                seed=search.seed,
            )
            trials += [(_log_loss(targets, rows), step, rate) for step, rows in answers.items()]
    if not trials:
        raise DivergedError(
            f"cannot adapt to task '{support_set.task}': a loss became infinite at each of the "
            f"rates {list(search.learning_rates)} and a finite one is needed; add lower ones to "
            "`adaptation.learning_rates`"
        )
    _, steps, rate = min(trials)
    return replace(inner, steps=steps, learning_rate=rate)


def _log_loss(targets: Sequence[str], answers: Sequence[Answer]) -> float:
    predictions = only_predictions(answers)
    given = [
        prediction.probabilities[target]
        for target, prediction in zip(targets, predictions, strict=True)
    ]
    return float(-np.log(np.maximum(given, np.finfo(np.float64).tiny)).mean())


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
    episodes = hold_out(episode, parts)
    support, start = begin_episodes(objective, meta_parameters, episodes, minibatch=minibatch)
    query = objective.query_batches(episodes)
    answers_at: dict[int, list[Answer]] = {}
    path = adaptation_path(objective.loss, start, support, inner=inner)
    for step, fast in enumerate(path):
        if on_step:
            on_step()
        if step in at_steps:
            answers_at[step] = in_order(parts, objective.answer(fast, query, episodes))
    return answers_at
