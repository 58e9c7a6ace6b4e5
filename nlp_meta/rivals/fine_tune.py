"""Fine-tuning from a start: the same predictor for every start there is.

From the pretrained encoder it is plain LoRA, from jointly trained meta-parameters it is
multi-task training then fine-tuning, from meta-learned ones it is ours. What differs is
the start alone. Without a support set the start itself answers, with its shared head.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nlp_meta.data.answers import Answer, Predict, only_predictions
from nlp_meta.data.episodes import Episode
from nlp_meta.errors import DivergedError
from nlp_meta.meta.choice import held_out_path
from nlp_meta.meta.inner_loop import InnerLoop, Weights, repeat
from nlp_meta.meta.objective import Objective, adapt_episodes


def fine_tune(
    objective: Objective,
    meta_parameters: Weights,
    *,
    inner: InnerLoop,
    minibatch: int | None,
    on_adapted: Callable[[], None] | None = None,
) -> Predict:
    """Make a predictor that adapts to each support set, as long and as fast as `inner` says."""

    def predict(episode: Episode) -> Sequence[Answer]:
        if not episode.support:
            fast = repeat(meta_parameters, tasks=1)
        else:
            fast = adapt_episodes(
                objective, meta_parameters, [episode], inner=inner, minibatch=minibatch
            )
        if on_adapted:
            on_adapted()
        return objective.answer(fast, objective.query_batches([episode]), [episode])[0]

    return predict


def without_labels(
    objective: Objective,
    meta_parameters: Weights,
    *,
    on_adapted: Callable[[], None] | None = None,
) -> Predict:
    """Make a predictor that looks at no label: the start itself, with its shared head."""

    def predict(episode: Episode) -> Sequence[Answer]:
        if on_adapted:
            on_adapted()
        fast = repeat(meta_parameters, tasks=1)
        return objective.answer(fast, objective.query_batches([episode]), [episode])[0]

    return predict


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
    said: dict[str, object] | None = None,
    on_adapted: Callable[[], None] | None = None,
) -> Predict:
    """Make a predictor that chooses steps and rate inside each support set.

    For a new domain without meta-validation tasks beside it: every rate is tried on all
    folds at once, each example is answered by the copy that has not seen it, and the
    least held-out log loss decides, of equal ones the fewest steps.

    Args:
        inner: Optimizer and anchor; its steps and rate are replaced.
        said: What was chosen is put here.
    """

    def predict(episode: Episode) -> Sequence[Answer]:
        chosen = inner
        if episode.support:
            chosen = _choose_inside(
                objective,
                meta_parameters,
                episode,
                inner=inner,
                minibatch=minibatch,
                search=search,
            )
        if said is not None:
            said.update(steps=chosen.steps, learning_rate=chosen.learning_rate)
        ready = fine_tune(
            objective, meta_parameters, inner=chosen, minibatch=minibatch, on_adapted=on_adapted
        )
        return ready(episode)

    return predict


def _choose_inside(
    objective: Objective,
    meta_parameters: Weights,
    episode: Episode,
    *,
    inner: InnerLoop,
    minibatch: int | None,
    search: Search,
) -> InnerLoop:
    fewest = min(sum(e.target == name for e in episode.support) for name in episode.labels)
    if fewest < 2:
        # Nothing can be held out of a label with one example: the most cautious choice.
        return replace(inner, steps=min(search.steps), learning_rate=min(search.learning_rates))
    trials: list[tuple[float, int, float]] = []
    for rate in search.learning_rates:
        with contextlib.suppress(DivergedError):
            answers = held_out_path(
                objective,
                meta_parameters,
                episode,
                inner=replace(inner, steps=max(search.steps), learning_rate=rate),
                minibatch=minibatch,
                at_steps=search.steps,
                folds=min(search.folds, fewest),
                seed=search.seed,
            )
            trials += [(_log_loss(episode, rows), step, rate) for step, rows in answers.items()]
    if not trials:
        raise DivergedError(
            f"cannot adapt to task '{episode.task}': a loss became infinite at each of the rates "
            f"{list(search.learning_rates)} and a finite one is needed; add lower ones to "
            "`adaptation.learning_rates`"
        )
    _, steps, rate = min(trials)
    return replace(inner, steps=steps, learning_rate=rate)


def _log_loss(episode: Episode, answers: Sequence[Answer]) -> float:
    found = [
        answer.probabilities[example.target]
        for example, answer in zip(episode.support, only_predictions(answers), strict=True)
    ]
    return float(-np.log(np.maximum(found, np.finfo(np.float64).tiny)).mean())
