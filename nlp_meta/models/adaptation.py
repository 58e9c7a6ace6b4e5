"""Adaptation: from a start and one support set to the weights of one domain.

Every skill adapts alike. Parts of the support set are held out in turn, the rest is adapted
to, and a judge says at some steps what the adaptation is worth on the part that it has not
seen. The steps with the least held-out loss are then taken on the whole support set.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

from nlp_meta.data.episodes import Episode
from nlp_meta.data.inputs import check_callback, check_choice, check_number, check_whole
from nlp_meta.hub.records import ADAPTATION, read_part
from nlp_meta.meta.inner_loop import InnerLoop, Weights, adaptation_path
from nlp_meta.meta.objective import Objective, begin_episodes
from nlp_meta.progress import Ticker

FOLDS = 4
"""Most parts of a support set that are held out in turn."""
WHEN = ("auto", "ngrams", "none")
"""When n-grams take part: where they pay, always, never."""
LONG_TEXTS = ("cut", "stop")


@dataclass(frozen=True, slots=True)
class Adaptation:
    """How a start adapts.

    Attributes:
        minibatch: Support examples of one inner step; None takes all.
        early_stop: Held-out parts of the support set may choose fewer steps.
        trust: In the views of a text, in place of inner steps (`nlp_meta/models/views.py`);
            None where the start learned none.
    """

    inner: InnerLoop
    minibatch: int | None
    early_stop: bool
    trust: Mapping[str, float] | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Adaptation":
        """Read what `stored` gave; keys that it did not give are left out.

        Raises:
            MetaModelError: Keys are missing, or values are of another type.
        """
        names = InnerLoop.__dataclass_fields__
        values: dict[str, Any] = {key: stored[key] for key in cls.__slots__ if key in stored}
        values["inner"] = {key: stored[key] for key in stored if key in names}
        return read_part(cls, values, what=ADAPTATION)

    @property
    def stored(self) -> dict[str, Any]:
        """What a record keeps of it."""
        return {
            **asdict(self.inner),
            "minibatch": self.minibatch,
            "early_stop": self.early_stop,
            "trust": self.trust,
        }

    def instead(self, *, steps: int | None, learning_rate: float | None) -> "Adaptation":
        """Take a user's steps and rate where they are given; steps that are given are taken.

        Either asks for inner steps, also of a start that adapts without.

        Raises:
            SettingsError: They are no such numbers.
        """
        if steps is not None:
            steps = check_whole(steps, "steps")
        if learning_rate is not None:
            learning_rate = check_number(learning_rate, "learning_rate", above=0)
        inner = self.inner.instead(steps=steps, learning_rate=learning_rate)
        trust = self.trust if steps is None and learning_rate is None else None
        early_stop = self.early_stop and steps is None
        return replace(self, inner=inner, early_stop=early_stop, trust=trust)


def check_options(
    *, companion: str, seed: int, long_texts: str, on_step: Callable[[int, int], None] | None
) -> int:
    """Refuse options of an adaptation that are none; give the seed as a number.

    Raises:
        SettingsError: Names the option and what it may be.
    """
    check_choice(companion, WHEN, "companion")
    check_choice(long_texts, LONG_TEXTS, "long_texts")
    check_callback(on_step, "on_step")
    return check_whole(seed, "seed")


class Judgement(Protocol):
    """What held-out examples say of an adaptation after some steps."""

    @property
    def loss(self) -> float:
        """In nats; the least is chosen."""


A = TypeVar("A")
J = TypeVar("J", bound=Judgement)
J_co = TypeVar("J_co", bound=Judgement, covariant=True)


class Judge(Protocol[J_co]):
    """Judges the adaptations to a support set without its held-out parts.

    Attributes:
        folds: One episode for each held-out part: the rest is its support set, the part its
            query set.
    """

    @property
    def folds(self) -> Sequence[Episode]: ...

    def __call__(self, fast: Weights, step: int) -> J_co:
        """Judge the stacked weights of all folds after some steps."""


@dataclass(frozen=True, slots=True)
class Adapted(Generic[J]):
    """An adaptation to one support set.

    Attributes:
        weights: Without the task dimension.
        steps: Inner steps that were taken.
        judgement: What held-out examples said after as many.
        before: What they said of the start; None where the judge did not look at it.
    """

    weights: dict[str, Tensor]
    steps: int
    judgement: J
    before: J | None


def adapt(
    objective: Objective,
    start: Weights,
    support: Episode,
    *,
    judge: Judge[J],
    stops: Collection[float],
    how: Adaptation,
    judge_start: bool = False,
    on_step: Callable[[int, int], None] | None = None,
) -> Adapted[J]:
    """Adapt to a support set for as many steps as its held-out parts advise.

    Args:
        start: Meta-parameters, without the task dimension.
        support: An episode of the whole support set, without queries.
        stops: Shares of the inner steps to choose among, 0 for the start itself;
            `how.early_stop` off takes all steps.
        judge_start: Judge the start too, though it may not be chosen.
        on_step: Called with the steps done and their number.

    Raises:
        DivergedError: A loss became infinite or not a number.
    """
    steps = how.inner.steps
    tick = Ticker(on_step, total=2 * steps)
    choices = {round(steps * share) for share in stops} if how.early_stop else {steps}
    choices = choices - (set() if 0 in stops else {0}) or {steps}
    looks = choices | ({0} if judge_start else set())
    judged: dict[int, J] = {}
    for step, fast in enumerate(_path(objective, start, judge.folds, how=how, steps=steps)):
        if step:  # the path begins before the first step
            tick()
        if step in looks:
            judged[step] = judge(fast, step)
    # Of equal losses the longest: it is what the start was found to need.
    best = min(sorted(choices, reverse=True), key=lambda step: judged[step].loss)
    weights: Weights = {}
    for step, weights in enumerate(  # noqa: B007  the last one is the result
        _path(objective, start, [support], how=how, steps=best)
    ):
        if step:
            tick()
    single = {name: value[0].detach().clone() for name, value in weights.items()}
    return Adapted(single, best, judged[best], judged.get(0))


def hold_out(support: Episode, parts: Sequence[Collection[int]]) -> list[Episode]:
    """Episodes that have one part of a support set as their query set and no more to learn."""
    folds = []
    for part in parts:
        kept = [e for place, e in enumerate(support.support) if place not in part]
        held_out = [support.support[place] for place in sorted(part)]
        folds.append(replace(support, support=tuple(kept), query=tuple(held_out)))
    return folds


def in_order(parts: Sequence[Sequence[int]], answers: Sequence[Sequence[A]]) -> list[A]:
    """Answers to the held-out parts, in the order of the support set."""
    rows = zip(parts, answers, strict=True)
    pairs = [pair for part, row in rows for pair in zip(part, row, strict=True)]
    return [answer for _, answer in sorted(pairs, key=lambda pair: pair[0])]


def _path(
    objective: Objective,
    start: Weights,
    episodes: Sequence[Episode],
    *,
    how: Adaptation,
    steps: int,
) -> Iterator[Weights]:
    batches, weights = begin_episodes(objective, start, episodes, minibatch=how.minibatch)
    return adaptation_path(objective.loss, weights, batches, inner=replace(how.inner, steps=steps))
