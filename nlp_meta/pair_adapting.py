"""From a start that finds translations and a few dozen pairs to one language pair's own model.

K copies of the support set, each without one fold, are adapted in one stack. What they say
of the pairs that they have not seen chooses the number of steps, the threshold of mining,
and the precision that is reported.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nlp_meta.data.episodes import Episode
from nlp_meta.data.overlap import text_key
from nlp_meta.data.tasks import Example
from nlp_meta.errors import DataError, DivergedError
from nlp_meta.meta.adaptation import InnerLoop, Weights, adaptation_path
from nlp_meta.meta.step_sizes import drop_step_sizes
from nlp_meta.meta.validation import begin_episodes
from nlp_meta.mining import MinedPairs, choose_threshold, pair_margins
from nlp_meta.objectives.retrieval import TEMPERATURE, Retrieval, tell_apart

FOLDS = 4
STOPS = (0.0, 0.25, 0.5, 1.0)
"""Shares of the inner steps after which an adaptation may stop early; a start can answer too."""
LEAST_PAIRS = 4


@dataclass(frozen=True, slots=True)
class AdaptedPairs:
    """An adaptation to pairs, and what the held-out folds of its support set said."""

    weights: dict[str, Tensor]
    steps: int
    held_out: MinedPairs


def adapt_to_pairs(
    objective: Retrieval,
    meta_parameters: Weights,
    support: Sequence[Example],
    *,
    inner: InnerLoop,
    minibatch: int | None,
    early_stop: bool,
    seed: int,
    on_step: Callable[[], None] | None = None,
) -> AdaptedPairs:
    """Adapt to a support set of pairs, as long as its held-out folds advise.

    Of 0, a quarter, a half and all of the inner steps those with the least held-out loss
    are taken; without `early_stop` all of them.

    Raises:
        DataError: Fewer than 4 distinct pairs.
        DivergedError: A loss became infinite, or the answers are not numbers.
    """
    tick = on_step or _do_nothing
    parts = fold_pairs(support, folds=min(FOLDS, len(support) // 2), seed=seed)
    stops = {round(inner.steps * share) for share in STOPS} if early_stop else {inner.steps}
    episodes = [_episode([e for i, e in enumerate(support) if i not in part]) for part in parts]
    batches, start = begin_episodes(objective, meta_parameters, episodes, minibatch=minibatch)
    judged: dict[int, tuple[float, MinedPairs]] = {}
    for step, each in enumerate(adaptation_path(objective.loss, start, batches, inner=inner)):
        tick()
        if step in stops:
            judged[step] = _judge(objective, each, support, parts, step=step)
    # Of equal losses the longest: it is what the meta-model was found to need.
    steps = min(sorted(judged, reverse=True), key=lambda step: judged[step][0])
    whole, start = begin_episodes(
        objective, meta_parameters, [_episode(support)], minibatch=minibatch
    )
    fast: Weights = start
    path = adaptation_path(objective.loss, start, whole, inner=replace(inner, steps=steps))
    for fast in path:  # noqa: B007  the last one is the result
        tick()
    kept = {n: v[0].detach().clone() for n, v in drop_step_sizes(fast).items()}
    return AdaptedPairs(kept, steps, judged[steps][1])


def fold_pairs(support: Sequence[Example], *, folds: int, seed: int) -> list[set[int]]:
    """Places of pairs in K folds; pairs that share a sentence stay together.

    Raises:
        DataError: There are too few distinct pairs for 2 folds of 2.
    """
    unit_of: dict[tuple[str, str], list[int]] = {}
    units: list[list[int]] = []
    for place, pair in enumerate(support):
        keys = [("source", text_key(pair.source)), ("target", text_key(pair.target))]
        joined = next((unit_of[key] for key in keys if key in unit_of), None)
        if joined is None:
            joined = []
            units.append(joined)
        joined.append(place)
        for key in keys:
            unit_of.setdefault(key, joined)
    if len(units) < LEAST_PAIRS:
        raise DataError(
            f"cannot adapt to {len(support)} sentence pairs, {len(units)} of them distinct: at "
            f"least {LEAST_PAIRS} are needed, some to learn from and some to hold out; give more"
        )
    order = np.random.default_rng(seed).permutation(len(units)).tolist()
    return [{p for unit in order[fold::folds] for p in units[unit]} for fold in range(folds)]


def _judge(
    objective: Retrieval,
    fast: Weights,
    support: Sequence[Example],
    parts: Sequence[set[int]],
    *,
    step: int,
) -> tuple[float, MinedPairs]:
    """Held-out loss in nats, and what mining would make of the pairs."""
    texts = [e.source for e in support] + [e.target for e in support]
    apart = tell_apart(support).to(objective.backbone.device)
    same = torch.eye(len(support), dtype=torch.bool, device=apart.device)
    losses, margins = [], []
    for task, embedded in enumerate(objective.embed(fast, [texts] * len(parts))):
        cosines = embedded[: len(support)] @ embedded[len(support) :].T
        _check_finite(cosines, step)
        places = torch.tensor(sorted(parts[task]), device=apart.device)
        scores = cosines * fast[TEMPERATURE][task].exp()
        told = scores.masked_fill(~(apart | same), -torch.inf)
        losses.append((told.logsumexp(1) - scores.diagonal())[places])
        margins.append(pair_margins(cosines, apart, neighbors=objective.neighbors)[places])
    return float(torch.cat(losses).mean()), choose_threshold(*torch.cat(margins).unbind(1))


def _episode(pairs: Sequence[Example]) -> Episode:
    return Episode("support", (), tuple(pairs), (), 0, kind="translation")


def _do_nothing() -> None:
    pass


def _check_finite(cosines: Tensor, step: int) -> None:
    """No support loss follows the last step, so its answers are what can tell."""
    if not bool(cosines.isfinite().all()):
        raise DivergedError(
            f"cannot adapt: after {step} steps the embeddings of held-out pairs are not numbers "
            "and finite ones are needed; lower the learning rate (`--learning-rate`, "
            "`learning_rate`)"
        )
