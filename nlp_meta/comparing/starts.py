"""Methods that adapt LoRA matrices: ours, joint training then fine-tuning, plain LoRA.

They differ in their start alone. Steps and rate come out of one search on the meta-validation
episodes for all of them. Where there are none, each support set chooses: of labels by its
folds, of sentence pairs as `nlp-meta adapt` does. Methods that are `nlp-meta adapt` itself
stand here too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nlp_meta.comparing.bench import UNMOVED, Bench, Method, count_numbers, name_training
from nlp_meta.data.answers import Learned, LearnedWithFacts, Prediction
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.cells import is_missing_word
from nlp_meta.data.episodes import GENERATION, RETRIEVAL, Queries, SupportSet
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.evaluation.protocol import hash_support
from nlp_meta.meta.inner_loop import InnerLoop, Weights
from nlp_meta.models.adaptation import Adaptation, Adapted
from nlp_meta.models.classification import AdaptedModel, narrow_labels
from nlp_meta.models.companion import Companion
from nlp_meta.models.generation import learn_writing
from nlp_meta.models.label_judge import count_passed
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.retrieval import learn_matches
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.ngrams import FEATURES
from nlp_meta.rivals.fine_tune import Search, answer_by, fine_tune, fine_tune_inside, keep_start
from nlp_meta.training.plan import find_adaptation, judged_adaptation

Choice = Mapping[str, object]

LEAST_EXAMPLES = 2
"""One label, or one pair that is told from no other, teaches nothing."""
LEAST_FOLDED_PAIRS = 4
"""Some to learn from and some to hold out."""
EXAMPLES_A_LABEL = 2
"""What `adapt` asks for; without any, only a head that knows all labels can answer."""
PASSES, WRITING_PASSES = 4, 1.75
"""Support sets' worth of examples in a step of `adapt`: its own, and three quarters for each of
four folds; where translations are written, once beside the held-out pairs."""
INSIDE: Mapping[str, Mapping[str, object]] = {
    CLASSIFICATION: {"chosen": "inside each support set"},
    RETRIEVAL: {"chosen": "by held-out pairs of each support set"},
    GENERATION: {"chosen": "by held-out pairs of each support set"},
}
"""A choice that is left to each support set."""


def choose_start(bench: Bench, folder: str) -> dict[str, object]:
    """Steps and rate of a start."""
    _, objective, weights = _begin(bench, folder)
    return _choose(bench, objective, weights)


def build_start(bench: Bench, folder: str, choice: Choice) -> Method:
    """A start that is fine-tuned; without examples it answers as it is, if it can."""
    model, objective, weights = _begin(bench, folder)
    facts = _tell_start(bench, model, folder, how="then fine-tuning")
    alone = bench.skill != CLASSIFICATION or bench.knows(model)
    if "steps" in choice or bench.skill == CLASSIFICATION:
        return _build_tuned(bench, objective, weights, choice, facts, without_labels=alone)
    how = model.adaptation[bench.skill]
    return _build_inside(bench, objective, weights, how, facts, without_labels=alone)


def choose_lora(bench: Bench, _: str) -> dict[str, object]:
    """Steps and rate of LoRA matrices that begin at the pretrained model."""
    return _choose(bench, *bench.pretrained())


def build_lora(bench: Bench, _: str, choice: Choice) -> Method:
    """Plain LoRA, from the pretrained model."""
    facts: dict[str, object] = {"examples_before": 0}
    if bench.skill == CLASSIFICATION:
        facts["pooling"] = bench.settings.model.pooling
    if "steps" in choice or bench.skill == CLASSIFICATION:
        return _build_tuned(bench, *bench.pretrained(), choice, facts, without_labels=False)
    plan = bench.settings.adaptation
    inner = InnerLoop(max(plan.steps), plan.learning_rates[0], plan.optimizer, plan.anchor)
    how = Adaptation(inner, plan.batch_size, plan.early_stop)
    return _build_inside(bench, *bench.pretrained(), how, facts, without_labels=False)


def build_pretrained(bench: Bench, _: str, choice: Choice) -> Method:
    """The pretrained model as it is; a support set changes nothing."""
    return Method(keep_start(*bench.pretrained()), 0, lambda _pairs: 0, UNMOVED)


def build_adapt(bench: Bench, folder: str, choice: Choice) -> Method:
    """A start as users adapt it, without n-grams."""
    if bench.skill == CLASSIFICATION:
        return _build_product(bench, folder, mixed=False)
    return _build_pair_product(bench, folder, companion="none")


def build_hybrid(bench: Bench, folder: str, choice: Choice) -> Method:
    """A start as users adapt it, with n-grams where that pays."""
    if bench.skill == CLASSIFICATION:
        return _build_product(bench, folder, mixed=True)
    return _build_pair_product(bench, folder, companion="auto")


def _begin(bench: Bench, folder: str) -> tuple[MetaModel, Any, Weights]:
    """Load a start; for labels that it never saw, with a head of prototypes."""
    model = bench.start(folder)
    known = bench.skill != CLASSIFICATION or bench.knows(model)
    objective: Any = model.objectives[bench.skill]
    weights = model.start_of(bench.skill)
    if known or objective.head != "shared":
        return model, objective, weights
    return model, *narrow_labels(objective, weights, bench.labels, shared=False)


def _tell_start(bench: Bench, model: MetaModel, folder: str, *, how: str) -> dict[str, object]:
    facts = {
        "title": f"{name_training(model.provenance)}, {how}",
        "examples_before": model.provenance.get("examples", 0),
        "start": Path(folder).name,
    }
    return facts | (
        {"pooling": model.encoder_settings.pooling} if bench.skill == CLASSIFICATION else {}
    )


def _choose(bench: Bench, objective: Any, weights: Weights) -> dict[str, object]:
    """Steps and rate on the meta-validation episodes."""
    if not bench.judged:
        return dict(INSIDE[bench.skill])
    if bench.skill == GENERATION:
        # Choices are made by greedy translations, which take a fraction of the time.
        objective = replace(objective, num_beams=1)
    adaptation = bench.settings.adaptation
    inner, trials = find_adaptation(
        objective,
        dict(weights),
        bench.judged,
        adaptation,
        metric=episode_scorer(adaptation.metric, setting="adaptation.metric"),
    )
    return {
        "chosen": "on meta-validation",
        "steps": inner.steps,
        "learning_rate": inner.learning_rate,
        "validation_score": max(trial.score for trial in trials),
        "trials": len(trials),
    }


def _build_tuned(
    bench: Bench,
    objective: Any,
    weights: Weights,
    choice: Choice,
    facts: Mapping[str, object],
    *,
    without_labels: bool,
) -> Method:
    """Fine-tune as was chosen on meta-validation or, labels, as each support set chooses.

    Args:
        without_labels: Without a support set the start answers as it is.
    """
    adaptation, seed = bench.settings.adaptation, bench.settings.run.seed
    minibatch, rates = adaptation.batch_size, adaptation.learning_rates
    if "steps" in choice:
        steps, rate = int(str(choice["steps"])), float(str(choice["learning_rate"]))
        inner = InnerLoop(steps, rate, adaptation.optimizer, adaptation.anchor, adaptation.average)
        learn = fine_tune(objective, weights, inner=inner, minibatch=minibatch)
    else:
        folds = bench.settings.rivals.folds
        search = Search(adaptation.steps, rates, folds, seed)
        inner = judged_adaptation(adaptation).inner
        learn = fine_tune_inside(
            objective, weights, inner=inner, minibatch=minibatch, search=search
        )
        # At most: each copy of the search adapts to all folds but one.
        steps = (1 + (folds - 1) * len(rates)) * max(adaptation.steps)
    examples = partial(count_examples, steps, minibatch)
    all_facts = {**facts, **_count_moved(weights), "choice": dict(choice)}
    return Method(learn, LEAST_EXAMPLES, examples, all_facts, without_labels=without_labels)


def _build_inside(
    bench: Bench,
    objective: Any,
    weights: Weights,
    how: Adaptation,
    facts: Mapping[str, object],
    *,
    without_labels: bool,
    companion: str = "none",
) -> Method:
    """Adapt to sentence pairs as users do, as long as held-out pairs advise."""

    def learn(support_set: SupportSet) -> LearnedWithFacts:
        if not support_set.examples:
            return LearnedWithFacts(answer_by(objective, weights, support_set), {})
        ready, adapted = _learn_pairs(
            bench, objective, weights, support_set, how=how, companion=companion
        )
        answer = answer_by(ready, adapted.weights, support_set)
        return LearnedWithFacts(answer, {"steps": adapted.steps})

    def examples(pairs: int) -> int:
        passes = WRITING_PASSES if bench.skill == GENERATION else PASSES
        return round(passes * count_examples(how.inner.steps, how.minibatch, pairs))

    all_facts = {**facts, **_count_moved(weights), "choice": dict(INSIDE[bench.skill])}
    return Method(learn, LEAST_FOLDED_PAIRS, examples, all_facts, without_labels=without_labels)


def _learn_pairs(
    bench: Bench,
    objective: Any,
    weights: Weights,
    support_set: SupportSet,
    *,
    how: Adaptation,
    companion: str,
) -> tuple[Any, Adapted[Any]]:
    """Adapt as `nlp-meta adapt` does; the objective that then answers comes first."""
    examples, seed = support_set.examples, bench.settings.run.seed
    if bench.skill == GENERATION:
        language = support_set.language
        written, _ = learn_writing(
            objective, weights, examples, language=language, how=how, seed=seed
        )
        return objective, written
    matched = learn_matches(objective, weights, examples, how=how, companion=companion, seed=seed)
    return replace(objective, overlap=matched.judgement.share), matched


def _build_pair_product(bench: Bench, folder: str, *, companion: str) -> Method:
    model = bench.start(folder)
    facts = _tell_start(bench, model, folder, how=_name_product(mixed=companion != "none"))
    return _build_inside(
        bench,
        model.objectives[bench.skill],
        model.start_of(bench.skill),
        model.adaptation[bench.skill],
        facts,
        without_labels=True,
        companion=companion,
    )


def _build_product(bench: Bench, folder: str, *, mixed: bool) -> Method:
    model = bench.start(folder)
    objective = model.objective_of(CLASSIFICATION, Classification)
    start, how = model.start_of(CLASSIFICATION), model.adaptation[CLASSIFICATION]

    def learn(support_set: SupportSet) -> Learned:
        if not support_set.examples:
            mixture = model.unlabeled_mixture if mixed else None
            return _mix_into(mixture, answer_by(objective, start, support_set))
        adapted = _adapt(bench, folder, model, support_set, mixed=mixed)
        ready = adapted.objective
        if adapted.settings == model.settings:
            # Through what all methods keep of the queries, which an adapted model does not.
            ready = replace(ready, network=objective.network)
        alone = answer_by(ready, adapted.weights, replace(support_set, labels=adapted.labels))
        answer = _mix_into(adapted.companion if mixed else None, alone)
        return LearnedWithFacts(answer, _tell_adapted(adapted, mixed=mixed))

    prior = model.companion
    features = FEATURES if prior is None else prior.weight.shape[1]
    facts = {
        **_tell_start(bench, model, folder, how=_name_product(mixed=mixed)),
        **_count_moved(start, beside=len(bench.labels) * features if mixed else 0),
        "choice": {"chosen": "by held-out folds of each support set"},
    }
    least = EXAMPLES_A_LABEL
    passed: Callable[[int], int] = partial(count_examples, PASSES * how.inner.steps, how.minibatch)
    if how.trust is not None:
        facts["choice"] = {"chosen": "on other tasks"}
        least, passed = 1, int if bench.knows(model) else count_passed
    return Method(
        learn,
        max(least * len(bench.labels), len(bench.labels) + 1),
        passed,
        facts,
        without_labels=bench.knows(model),
        least_a_label=least,
    )


def _mix_into(mixture: Companion | None, alone: Learned) -> Learned:
    """Let n-grams take part in answers; None leaves these as they are."""
    if mixture is None:
        return alone

    def answer(queries: Queries) -> Sequence[Prediction]:
        answers: Any = alone(queries)
        return mixture.mix(queries.texts, answers)

    return answer


def _name_product(*, mixed: bool) -> str:
    return f"`nlp-meta adapt` {'with' if mixed else 'without'} n-grams"


def _adapt(
    bench: Bench, folder: str, model: MetaModel, support_set: SupportSet, *, mixed: bool
) -> AdaptedModel:
    """Adapt, or give what the other method has just adapted, at its cost.

    Where inner steps are taken the two methods differ in the companion alone, so one adaptation
    serves both; a head over views is made of those that take part.
    """
    apart = model.adaptation[CLASSIFICATION].trust is not None and not mixed
    key = f"{folder} {hash_support(support_set)}" + " alone" * apart
    if key in bench.adapted:
        adapted, seconds = bench.adapted[key]
        bench.clock.charge(seconds)
        return adapted
    began = bench.clock.read()
    labels = [example.target for example in support_set.examples]
    adapted = model.adapt(
        support_set.texts,
        labels,
        label_map={label: label for label in labels if is_missing_word(label)},
        seed=bench.settings.run.seed,
        companion="none" if apart else "auto",
    )
    bench.adapted.clear()
    bench.adapted[key] = adapted, bench.clock.read() - began
    return adapted


def _tell_adapted(adapted: AdaptedModel, *, mixed: bool) -> dict[str, object]:
    report = adapted.report
    if report is None:
        return {}
    facts: dict[str, object] = {"steps": report.steps, "temperature": report.temperature}
    if mixed and report.companion is not None:
        weight = report.companion.weight if report.companion.on else 0.0
        facts |= {"companion_weight": weight, "prior_scale": report.companion.prior_scale}
    return facts


def _count_moved(weights: Weights, *, beside: int = 0) -> dict[str, object]:
    moved = beside + sum(value.numel() for value in weights.values())
    return count_numbers(moved)


def count_examples(steps: int, minibatch: int | None, support: int) -> int:
    """Support examples through forward and backward in so many steps."""
    batches = 1 if minibatch is None else max(1, round(support / minibatch))
    return round(steps * support / batches)
