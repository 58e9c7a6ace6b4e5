"""From a start that finds translations and a few dozen pairs to one language pair's own model.

K copies of the support set, each without one fold, are adapted in one stack. What they say
of the pairs that they have not seen chooses the number of steps, what the overlap of
n-grams counts for beside the encoder, the threshold of mining, and the precision that is
reported.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nlp_meta.data.card_parts import TRANSLATION
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.data.units import join_units
from nlp_meta.encoders.overlap import Overlap
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
SHARES = (0.1, 0.2, 0.3, 0.5)
"""What n-grams may count for: a cosine of theirs, times this, is added to the encoder's."""


@dataclass(frozen=True, slots=True)
class AdaptedPairs:
    """An adaptation to pairs, and what the held-out folds of its support set said.

    Attributes:
        overlap: What the overlap of n-grams counts for beside a cosine; 0 where it takes no
            part.
    """

    weights: dict[str, Tensor]
    steps: int
    held_out: MinedPairs
    overlap: float


def adapt_to_pairs(
    objective: Retrieval,
    meta_parameters: Weights,
    support: Sequence[Example],
    *,
    inner: InnerLoop,
    minibatch: int | None,
    early_stop: bool,
    companion: str,
    seed: int,
    on_step: Callable[[], None] | None = None,
) -> AdaptedPairs:
    """Adapt to a support set of pairs, as long as its held-out folds advise.

    Of 0, a quarter, a half and all of the inner steps those with the least held-out loss
    are taken; without `early_stop` all of them.

    Args:
        companion: `auto` lets n-grams count where they lower the held-out loss, `ngrams`
            always, `none` never.

    Raises:
        DataError: Fewer than 4 distinct pairs.
        DivergedError: A loss became infinite, or the answers are not numbers.
    """
    tick = on_step or _do_nothing
    shares = {"auto": (0.0, *SHARES), "ngrams": SHARES, "none": (0.0,)}[companion]
    parts = fold_pairs(support, folds=min(FOLDS, len(support) // 2), seed=seed)
    stops = {round(inner.steps * share) for share in STOPS} if early_stop else {inner.steps}
    episodes = [_episode([e for i, e in enumerate(support) if i not in part]) for part in parts]
    batches, start = begin_episodes(objective, meta_parameters, episodes, minibatch=minibatch)
    judged: dict[int, _Judged] = {}
    alike = Overlap.of([e.source for e in support], [e.target for e in support]).cosines()
    judge = partial(_judge, objective, support=support, parts=parts, shares=shares, alike=alike)
    for step, each in enumerate(adaptation_path(objective.loss, start, batches, inner=inner)):
        tick()
        if step in stops:
            judged[step] = judge(each, step=step)
    # Of equal losses the longest: it is what the meta-model was found to need.
    steps = min(sorted(judged, reverse=True), key=lambda step: judged[step].loss)
    whole, start = begin_episodes(
        objective, meta_parameters, [_episode(support)], minibatch=minibatch
    )
    fast: Weights = start
    path = adaptation_path(objective.loss, start, whole, inner=replace(inner, steps=steps))
    for fast in path:  # noqa: B007  the last one is the result
        tick()
    kept = {n: v[0].detach().clone() for n, v in drop_step_sizes(fast).items()}
    return AdaptedPairs(kept, steps, judged[steps].mined, judged[steps].share)


def fold_pairs(support: Sequence[Example], *, folds: int, seed: int) -> list[set[int]]:
    """Places of pairs in K folds; pairs that share a sentence stay together.

    Raises:
        DataError: Fewer than 4 pairs are distinct.
    """
    units = join_units(support, TRANSLATION)
    if len(units) < LEAST_PAIRS:
        raise DataError(
            f"cannot adapt to {len(support)} sentence pairs, {len(units)} of them distinct: at "
            f"least {LEAST_PAIRS} are needed, some to learn from and some to hold out; give more"
        )
    order = np.random.default_rng(seed).permutation(len(units)).tolist()
    parts = [{pair for unit in order[fold::folds] for pair in units[unit]} for fold in range(folds)]
    return [{place for place, pair in enumerate(support) if pair in part} for part in parts]


@dataclass(frozen=True, slots=True)
class _Judged:
    """What held-out pairs said after some steps: at the share of n-grams with the least loss.

    Attributes:
        loss: In nats.
    """

    loss: float
    share: float
    mined: MinedPairs


def _judge(
    objective: Retrieval,
    fast: Weights,
    *,
    support: Sequence[Example],
    parts: Sequence[set[int]],
    shares: Sequence[float],
    alike: Tensor,
    step: int,
) -> _Judged:
    texts = [e.source for e in support] + [e.target for e in support]
    embedded = objective.embed(fast, [texts] * len(parts))
    cosines = [rows[: len(support)] @ rows[len(support) :].T for rows in embedded]
    for each in cosines:
        _check_finite(each, step)
    alike = alike.to(objective.backbone.device)
    apart = tell_apart(support).to(alike.device)
    told = apart | torch.eye(len(support), dtype=torch.bool, device=apart.device)
    places = [torch.tensor(sorted(part), device=apart.device) for part in parts]
    losses: dict[float, float] = {}
    for share in shares:
        scores = [
            (each + share * alike) * fast[TEMPERATURE][task].exp()
            for task, each in enumerate(cosines)
        ]
        held_out = [
            (each.masked_fill(~told, -torch.inf).logsumexp(1) - each.diagonal())[own]
            for each, own in zip(scores, places, strict=True)
        ]
        losses[share] = float(torch.cat(held_out).mean())
    best = min(shares, key=lambda share: losses[share])
    margins = [
        pair_margins(each + best * alike, apart, neighbors=objective.neighbors)[own]
        for each, own in zip(cosines, places, strict=True)
    ]
    return _Judged(losses[best], best, choose_threshold(*torch.cat(margins).unbind(1)))


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
