"""From a start that writes translations and a few dozen pairs to one language pair's own model.

A quarter of the pairs is held out while the others are adapted to: their loss chooses the
number of steps, their translations give the score that is reported. Then all pairs are
adapted to for as many steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nlp_meta.adapting import check_texts
from nlp_meta.data.answers import Translation
from nlp_meta.data.card_parts import TRANSLATION
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.data.units import join_units
from nlp_meta.encoders.precision import choose_autocast
from nlp_meta.encoders.seq2seq import direct, load_seq2seq, tokenize_sources, tokenize_targets
from nlp_meta.errors import DataError, DivergedError
from nlp_meta.evaluation.translation_metrics import chrf
from nlp_meta.generation_settings import GenerationSettings
from nlp_meta.meta.adaptation import InnerLoop, Weights, adaptation_path, repeat
from nlp_meta.meta.step_sizes import drop_step_sizes
from nlp_meta.meta.validation import begin_episodes
from nlp_meta.objectives.generation import Generation, build_generation

HELD_OUT, LEAST_PAIRS = 4, 4
"""One pair of so many is held out, and so many are needed at least."""
STOPS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the inner steps after which an adaptation may stop early; a start can answer too."""
WRITING_TOKENS = 4096


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
    """An adaptation to pairs, and what the held-out ones among them said."""

    weights: dict[str, Tensor]
    steps: int
    held_out: HeldOutPairs


def build_generator(
    settings: GenerationSettings,
    *,
    device: torch.device | str | None = None,
    precision: str = "auto",
    batch_tokens: int = 2048,
    token: str | None = None,
) -> Generation:
    """Load the encoder-decoder that settings name and plan its adapter."""
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    backbone = load_seq2seq(
        settings.model_name_or_path,
        max_tokens=settings.max_tokens,
        device=place,
        revision=settings.revision,
        token=token,
    )
    return build_generation(
        backbone,
        lora_r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_sides=settings.lora_sides,
        lora_layers=settings.lora_layers,
        lora_target_modules=settings.lora_target_modules,
        label_smoothing=settings.label_smoothing,
        num_beams=settings.num_beams,
        autocast=choose_autocast(precision, place),
        batch_tokens=batch_tokens,
    )


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
    episode = _episode(rest, judged, language)
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
    whole = _episode(support, (), language)
    batches, start = begin_episodes(objective, meta_parameters, [whole], minibatch=minibatch)
    weights: Weights = start
    path = adaptation_path(objective.loss, start, batches, inner=replace(inner, steps=steps))
    for weights in path:  # noqa: B007  the last one is the result
        tick()
    own = {n: v[0].detach().clone() for n, v in drop_step_sizes(weights).items()}
    said = HeldOutPairs(len(judged), losses[0], losses[steps], *scores)
    return AdaptedGeneration(own, steps, said)


def hold_out(support: Sequence[Example], *, seed: int) -> tuple[list[Example], list[Example]]:
    """Pairs to learn from, and a quarter that shares no sentence with them.

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
    held = {pair for place in order[::HELD_OUT] for pair in units[place]}
    return [one for one in support if one not in held], [one for one in support if one in held]


def write_texts(
    objective: Generation,
    weights: Weights,
    texts: Sequence[str],
    *,
    language: str,
    num_beams: int | None = None,
) -> list[str]:
    """Translate texts with one set of weights, in float32.

    Args:
        num_beams: None takes the objective's.

    Raises:
        DataError: A text is empty.
    """
    check_texts(texts)
    if not texts:
        return []
    exact = replace(
        objective,
        autocast=None,
        batch_tokens=WRITING_TOKENS,
        num_beams=num_beams or objective.num_beams,
    )
    episode = _episode((), [Example(text.strip(), "") for text in texts], language)
    answers = exact.answer(repeat(weights, tasks=1), exact.query_batches([episode]), [episode])
    return [answer.text for answer in answers[0]]


def embed_texts(
    objective: Generation, weights: Weights, texts: Sequence[str], *, language: str
) -> Tensor:
    """Means of the adapted encoder's states, `(texts, hidden)`, in float32.

    Args:
        language: The texts' own and the one that the model translates into: `ind-jav`.
    """
    check_texts(texts)
    exact = replace(objective, autocast=None, batch_tokens=WRITING_TOKENS)
    episode = _episode((), [Example(text.strip(), "") for text in texts], language)
    return exact.embed(repeat(weights, tasks=1), exact.query_batches([episode]))[0]


def check_sentences(sources: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse sides that differ in number, and empty sentences."""
    if len(sources) != len(targets):
        raise DataError(
            f"cannot adapt to {len(sources)} sentences with {len(targets)} translations: one for "
            "each is needed; give as many"
        )
    check_texts(sources)
    check_texts(targets)


def count_long(
    objective: Generation,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    language: str,
    long_texts: str,
) -> int:
    """Number of sentences, of both sides, longer than the model takes.

    Raises:
        DataError: There are some and `long_texts` is `stop`.
    """
    longest = objective.backbone.max_tokens
    backbone = replace(objective.backbone, max_tokens=longest + 1)
    direction = direct(backbone, language)
    ids = [
        *tokenize_sources(backbone, sources, direction),
        *tokenize_targets(backbone, targets, direction),
    ]
    long = [place for place, row in enumerate(ids) if len(row) > longest]
    if long and long_texts == "stop":
        first = long[0] % len(sources) + 1
        raise DataError(
            f"cannot take {len(long)} of {len(ids)} sentences, one in line {first} the first: they "
            f"have more than {longest} tokens and the model takes no more; shorten them, or cut "
            "them with `--long-texts cut`"
        )
    return len(long)


def _episode(support: Sequence[Example], query: Sequence[Example], language: str) -> Episode:
    return Episode(
        "pairs", (), tuple(support), tuple(query), 0, kind=TRANSLATION, language=language
    )


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
    target = episode.language.partition("-")[2]
    return chrf([pair.target for pair in episode.query], answers, (target,))


def _do_nothing() -> None:
    pass


def count_ticks(
    on_step: Callable[[int, int], None] | None, *, total: int
) -> Callable[[], None] | None:
    """Turn a bar of done and total into a function that is called once a step."""
    if on_step is None:
        return None
    done = iter(range(1, total + 1))
    return lambda: on_step(next(done, total), total)
