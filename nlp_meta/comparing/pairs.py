"""Methods that adapt to sentence pairs, whether they find translations or write them.

Steps and rate of every method that adapts come out of the same search on the
meta-validation episodes. Where there are none, a method does what `nlp-meta adapt` does:
held-out pairs of each support set choose the steps.

Episodes of sentence pairs that a comparison judges its methods on.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from nlp_meta.comparing.bench import BYTES_A_NUMBER, AnySettings, Method, name_training
from nlp_meta.data.answers import LearnedWithFacts
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import GENERATION, RETRIEVAL, Episode, SupportSet
from nlp_meta.data.pairs import draw_pairs, evaluation_pairs
from nlp_meta.data.tasks import Task
from nlp_meta.meta.inner_loop import InnerLoop, Weights, drop_step_sizes
from nlp_meta.meta.objective import Objective
from nlp_meta.rivals.fine_tune import answer_by, fine_tune, keep_start
from nlp_meta.training.run import episode_metric, find_adaptation

Choice = Mapping[str, object]
Own = TypeVar("Own", bound=Objective)
Own_co = TypeVar("Own_co", bound=Objective, covariant=True)


class PairModel(Protocol[Own_co]):
    """A meta-model of pairs."""

    @property
    def objective(self) -> Own_co: ...

    @property
    def weights(self) -> Weights: ...

    @property
    def adaptation(self) -> InnerLoop: ...

    @property
    def minibatch(self) -> int | None: ...

    @property
    def early_stop(self) -> bool: ...

    @property
    def provenance(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Inside:
    """How a method adapts where each support set has its own say.

    Attributes:
        minibatch: Support pairs of one inner step; None takes all.
        early_stop: Held-out pairs of the support set may choose fewer steps.
        companion: Whether n-grams take part: `auto`, `ngrams` or `none`.
    """

    inner: InnerLoop
    minibatch: int | None
    early_stop: bool
    companion: str = "none"


class Adapted(Protocol):
    """An adaptation to a support set, as long as its held-out pairs advised."""

    @property
    def weights(self) -> Weights: ...

    @property
    def steps(self) -> int: ...


class PairBench(Protocol[Own]):
    """A bench whose methods adapt to pairs.

    Attributes:
        passes: Support sets' worth of examples in a step of `adapt_inside`, held-out copies too.
    """

    passes: ClassVar[float]

    @property
    def settings(self) -> AnySettings: ...

    @property
    def judged(self) -> tuple[Episode, ...]: ...

    def start(self, folder: str) -> PairModel[Own]:
        """Load a meta-model; those of one backbone share it."""

    def pretrained(self) -> tuple[Own, Weights]:
        """The backbone of the settings, with LoRA matrices that change nothing yet."""

    def adapt_inside(
        self,
        objective: Own,
        weights: Weights,
        support_set: SupportSet,
        *,
        inside: "Inside",
    ) -> tuple[Own, Adapted]:
        """Adapt to a support set as `nlp-meta adapt` does; what answers then comes first."""

    def while_choosing(self, objective: Own) -> Own:
        """The objective as it answers the many episodes that choices are made by."""


def choose_start(bench: PairBench[Own], folder: str) -> dict[str, object]:
    """Steps and rate of a meta-model."""
    if not bench.judged:
        return dict(INSIDE)
    model = bench.start(folder)
    return _choose_inner(bench, model.objective, model.weights)


def build_start(bench: PairBench[Own], folder: str, choice: Choice) -> Method:
    """A meta-model that is fine-tuned; with 0 pairs it answers as it is."""
    model = bench.start(folder)
    facts = _tell_start(model, folder, how="then fine-tuning")
    found = model.objective, model.weights
    if "steps" in choice:
        return _build_adapting(bench, *found, choice, facts, without_pairs=True)
    inside = Inside(model.adaptation, model.minibatch, model.early_stop)
    return _build_inside(bench, *found, inside, facts, without_pairs=True)


def build_product(bench: PairBench[Own], folder: str, *, companion: str) -> Method:
    """A meta-model as `nlp-meta adapt` adapts it, with n-grams beside it or without."""
    model = bench.start(folder)
    how = "without" if companion == "none" else "with"
    facts = _tell_start(model, folder, how=f"`nlp-meta adapt` {how} n-grams")
    inside = Inside(model.adaptation, model.minibatch, model.early_stop, companion)
    return _build_inside(bench, model.objective, model.weights, inside, facts, without_pairs=True)


def _tell_start(model: PairModel[Own], folder: str, *, how: str) -> dict[str, object]:
    return {
        "title": f"{name_training(model.provenance)}, {how}",
        "examples_before": model.provenance["examples"],
        "start": Path(folder).name,
    }


def choose_lora(bench: PairBench[Own], _: str) -> dict[str, object]:
    """Steps and rate of LoRA matrices that begin at the pretrained backbone."""
    if not bench.judged:
        return dict(INSIDE)
    return _choose_inner(bench, *bench.pretrained())


def build_lora(bench: PairBench[Own], _: str, choice: Choice) -> Method:
    """Plain LoRA, from the pretrained backbone."""
    facts = {"examples_before": 0}
    if "steps" in choice:
        return _build_adapting(bench, *bench.pretrained(), choice, facts, without_pairs=False)
    plan = bench.settings.adaptation
    inner = InnerLoop(max(plan.steps), plan.learning_rates[0], plan.optimizer, plan.anchor)
    inside = Inside(inner, plan.batch_size, plan.early_stop)
    return _build_inside(bench, *bench.pretrained(), inside, facts, without_pairs=False)


def build_pretrained(bench: PairBench[Own], _: str, choice: Choice) -> Method:
    """The pretrained backbone as it is; pairs change nothing."""
    return Method(keep_start(*bench.pretrained()), 0, lambda _pairs: 0, UNMOVED)


INSIDE: Mapping[str, object] = {"chosen": "by held-out pairs of each support set"}
"""A choice that is left to each support set."""
UNMOVED: Mapping[str, object] = {"examples_before": 0, "parameters": 0, "bytes": 0}
"""Facts of a method that neither was trained before nor moves a number of its own."""


def _choose_inner(bench: PairBench[Own], objective: Own, weights: Weights) -> dict[str, object]:
    """Steps and rate of a start, on the meta-validation episodes."""
    adaptation = bench.settings.adaptation
    inner, trials = find_adaptation(
        bench.while_choosing(objective),
        dict(weights),
        bench.judged,
        adaptation,
        metric=episode_metric(adaptation.metric),
    )
    return {
        "chosen": "on meta-validation",
        "steps": inner.steps,
        "learning_rate": inner.learning_rate,
        "validation_score": max(trial.score for trial in trials),
        "trials": len(trials),
    }


def _build_adapting(
    bench: PairBench[Own],
    objective: Own,
    weights: Weights,
    choice: Choice,
    facts: Mapping[str, object],
    *,
    without_pairs: bool,
) -> Method:
    """Fine-tune a start on each support set, as was chosen.

    Args:
        without_pairs: With 0 pairs the start answers as it is.
    """
    adaptation = bench.settings.adaptation
    steps, rate = int(str(choice["steps"])), float(str(choice["learning_rate"]))
    learn = fine_tune(
        objective,
        weights,
        inner=InnerLoop(steps, rate, adaptation.optimizer, adaptation.anchor, adaptation.average),
        minibatch=adaptation.batch_size,
    )
    examples = partial(_count_examples, steps, adaptation.batch_size)
    told = {**facts, **_count_numbers(weights), "choice": dict(choice)}
    return Method(learn, LEAST_PAIRS, examples, told, without_labels=without_pairs)


def _build_inside(
    bench: PairBench[Own],
    objective: Own,
    weights: Weights,
    inside: Inside,
    facts: Mapping[str, object],
    *,
    without_pairs: bool,
) -> Method:
    """Adapt to each support set as users do, as long as its held-out pairs advise."""

    def learn(support_set: SupportSet) -> LearnedWithFacts:
        if not support_set.examples:
            return LearnedWithFacts(answer_by(objective, weights, support_set), {})
        ready, adapted = bench.adapt_inside(objective, weights, support_set, inside=inside)
        answer = answer_by(ready, adapted.weights, support_set)
        return LearnedWithFacts(answer, {"steps": adapted.steps})

    def examples(pairs: int) -> int:
        return round(bench.passes * _count_examples(inside.inner.steps, inside.minibatch, pairs))

    told = {**facts, **_count_numbers(weights), "choice": dict(INSIDE)}
    return Method(learn, FOLDED_PAIRS, examples, told, without_labels=without_pairs)


def _count_numbers(weights: Weights) -> dict[str, object]:
    moved = sum(value.numel() for value in drop_step_sizes(weights).values())
    return {"parameters": moved, "bytes": BYTES_A_NUMBER * moved}


LEAST_PAIRS = 2
"""A pair is told from others, so one alone teaches retrieval nothing."""
FOLDED_PAIRS = 4
"""Some to learn from and some to hold out."""


def _count_examples(steps: int, minibatch: int | None, pairs: int) -> int:
    """Support pairs through forward and backward."""
    batches = 1 if minibatch is None else max(1, round(pairs / minibatch))
    return round(steps * pairs / batches)


def draw_pair_episodes(
    settings: AnySettings,
    tasks: Sequence[Task],
    *,
    candidates: int | None = None,
    distractors: Mapping[str, Sequence[str]] | None = None,
    fill: Sequence[str] = (),
) -> tuple[Episode, ...]:
    """Give every episode of pairs: draws, then tasks, then numbers of pairs.

    Args:
        candidates: Translations in each pool; None for methods that write.
        distractors: Texts that fill pools up, by their language; those that a support set of
            the draw may show are left out of its pools.
        fill: Texts of whatever language, for what is then still missing.

    Raises:
        EpisodeError: A task has too few pairs.
    """
    plan, seed = settings.comparison, settings.run.seed
    found = []
    for draw, task in itertools.product(range(plan.draws), tasks):
        others = [*(distractors or {}).get(task.pair[1], ()), *fill]
        reserved = draw_pairs(task, pairs=max(plan.labels), seed=seed, draw=draw)
        shown = {text_key(example.target) for example in reserved}
        kept = [text for text in others if text_key(text) not in shown]
        found += [
            evaluation_pairs(
                task,
                pairs=pairs,
                seed=seed,
                draw=draw,
                reserve=max(plan.labels),
                max_query=plan.max_query,
                candidates=candidates,
                distractors=kept,
                skill=GENERATION if candidates is None else RETRIEVAL,
            )
            for pairs in plan.labels
        ]
    return tuple(found)


def gather_texts(tasks: Sequence[Task]) -> dict[str, list[str]]:
    """Every sentence of some tasks, by its language."""
    found: dict[str, dict[str, None]] = {}
    for task in tasks:
        source, target = task.pair
        for example in (*task.train, *task.test):
            found.setdefault(source, {})[example.source] = None
            found.setdefault(target, {})[example.target] = None
    return {language: list(texts) for language, texts in found.items()}
