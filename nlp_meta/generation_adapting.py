"""From a start that writes translations and a few dozen pairs to one language pair's own model.

A quarter of the pairs is held out while the others are adapted to: their loss chooses the
number of steps, their translations give the score that is reported. Then all pairs are
adapted to for as many steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nlp_meta.adapting import check_texts
from nlp_meta.data.answers import Translation
from nlp_meta.data.episodes import Episode
from nlp_meta.data.language_tags import join_pair, split_pair
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.neighbors import NEIGHBORS
from nlp_meta.errors import DataError, DivergedError
from nlp_meta.evaluation.translation_metrics import chrf
from nlp_meta.meta.adaptation import InnerLoop, Weights, adaptation_path
from nlp_meta.meta.step_sizes import drop_step_sizes
from nlp_meta.meta.validation import begin_episodes
from nlp_meta.mining import MinedPairs, choose_threshold, pair_margins
from nlp_meta.objectives.generation import Generation
from nlp_meta.objectives.retrieval import tell_apart
from nlp_meta.pair_adapting import fold_pairs
from nlp_meta.writing import embed_texts, episode_of

HELD_OUT = 4
"""One pair of so many is held out."""
STOPS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the inner steps after which an adaptation may stop early; a start can answer too."""


@dataclass(frozen=True, slots=True)
class HeldOutPairs:
    """What an adaptation was worth on pairs that it had not seen.

    Attributes:
        loss: In nats a token, at the steps chosen; `loss_before` at the start as it was.
        chrf: chrF++ of greedy translations, from 0 to 100; `chrf_before` at the start.
    """

    pairs: int
    loss_before: float
    loss: float
    chrf_before: float
    chrf: float


@dataclass(frozen=True, slots=True)
class AdaptedGeneration:
    """An adaptation to pairs, and what the held-out ones among them said of both uses of it."""

    weights: dict[str, Tensor]
    steps: int
    held_out: HeldOutPairs
    mined: MinedPairs


def adapt_generation(
    objective: Generation,
    meta_parameters: Weights,
    support: Sequence[Example],
    *,
    language: str,
    inner: InnerLoop,
    minibatch: int | None,
    early_stop: bool,
    seed: int,
    on_step: Callable[[], None] | None = None,
) -> AdaptedGeneration:
    """Adapt to a support set of pairs, as long as the held-out ones advise.

    Args:
        language: The pair, such as `ind-jav`.
        early_stop: Of 0, a quarter, a half, three quarters and all of the inner steps take
            those with the least held-out loss; else all of them.

    Raises:
        DataError: Fewer than 4 distinct pairs.
        DivergedError: A loss became infinite or not a number.
    """
    tick = on_step or _do_nothing
    rest, judged = hold_out(support, seed=seed)
    episode = episode_of(rest, judged, language)
    stops = {0} | ({round(inner.steps * s) for s in STOPS} if early_stop else {inner.steps})
    batches, start = begin_episodes(objective, meta_parameters, [episode], minibatch=minibatch)
    losses: dict[int, float] = {}
    kept: dict[int, Weights] = {}
    for step, fast in enumerate(adaptation_path(objective.loss, start, batches, inner=inner)):
        tick()
        if step in stops:
            losses[step], kept[step] = _held_out_loss(objective, fast, episode, step), fast
    # Of equal losses the longest: it is what the meta-model was found to need.
    allowed = sorted(losses if early_stop else [inner.steps], reverse=True)
    steps = min(allowed, key=lambda step: losses[step])
    scores = [_held_out_chrf(objective, kept[step], episode) for step in (0, steps)]
    mined = _held_out_mining(objective, kept[steps], support, judged, language)
    whole = episode_of(support, (), language)
    batches, start = begin_episodes(objective, meta_parameters, [whole], minibatch=minibatch)
    weights: Weights = start
    path = adaptation_path(objective.loss, start, batches, inner=replace(inner, steps=steps))
    for weights in path:  # noqa: B007  the last one is the result
        tick()
    own = {n: v[0].detach().clone() for n, v in drop_step_sizes(weights).items()}
    said = HeldOutPairs(len(judged), losses[0], losses[steps], *scores)
    return AdaptedGeneration(own, steps, said, mined)


def hold_out(support: Sequence[Example], *, seed: int) -> tuple[list[Example], list[Example]]:
    """Pairs to learn from, and a quarter that shares no sentence with them.

    Raises:
        DataError: Fewer than 4 pairs are distinct.
    """
    held = fold_pairs(support, folds=HELD_OUT, seed=seed)[0]
    rest = [pair for place, pair in enumerate(support) if place not in held]
    return rest, [support[place] for place in sorted(held)]


def check_sentences(sources: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse sides that differ in number, and empty sentences."""
    if len(sources) != len(targets):
        raise DataError(
            f"cannot adapt to {len(sources)} sentences with {len(targets)} translations: one for "
            "each is needed; give as many"
        )
    check_texts(sources)
    check_texts(targets)


@torch.no_grad()
def _held_out_loss(objective: Generation, fast: Weights, episode: Episode, step: int) -> float:
    plain = replace(objective, label_smoothing=0.0)
    loss = sum(float(plain.loss(fast, batch)) for batch in plain.query_batches([episode]))
    if not loss < float("inf"):
        raise DivergedError(
            f"cannot adapt: after {step} steps the loss of held-out pairs is {loss} and a finite "
            "one is needed; lower the learning rate (`--learning-rate`, `learning_rate`)"
        )
    return loss


def _held_out_chrf(objective: Generation, fast: Weights, episode: Episode) -> float:
    greedy = replace(objective, num_beams=1)
    answers: list[Translation] = greedy.answer(fast, greedy.query_batches([episode]), [episode])[0]
    _, target = split_pair(episode.language)
    return chrf([pair.target for pair in episode.query], answers, (target,))


def _held_out_mining(
    objective: Generation,
    fast: Weights,
    support: Sequence[Example],
    judged: Sequence[Example],
    language: str,
) -> MinedPairs:
    """What mining by the adapted encoder makes of the held-out pairs, among all targets."""
    own = {name: value[0] for name, value in drop_step_sizes(fast).items()}
    source, target = split_pair(language)
    sides = (
        ([pair.source for pair in support], source),
        ([pair.target for pair in support], target),
    )
    left, right = (
        embed_texts(objective, own, texts, language=join_pair(code, target))
        for texts, code in sides
    )
    margins = pair_margins(left @ right.T, tell_apart(support), neighbors=NEIGHBORS)
    held = set(judged)
    places = [place for place, pair in enumerate(support) if pair in held]
    return choose_threshold(*margins[places].unbind(1))


def _do_nothing() -> None:
    pass
