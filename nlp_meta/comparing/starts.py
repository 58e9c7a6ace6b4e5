"""Methods that adapt LoRA matrices: ours, joint training then fine-tuning, plain LoRA.

They differ in their start alone. Steps and rate come out of one search for all of them:
on the meta-validation episodes or, where there are none, inside each support set.

Methods that are what `nlp-meta adapt` does, held-out folds, temperature and all.

The two differ in the companion alone, so one adaptation serves both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from nlp_meta.comparing.bench import BYTES_A_NUMBER, Bench, Method, name_start
from nlp_meta.data.answers import Learned, LearnedWithFacts, Prediction
from nlp_meta.data.cache import charge, work_time
from nlp_meta.data.episodes import Episode, Queries, SupportSet
from nlp_meta.evaluation.protocol import hash_support
from nlp_meta.meta.inner_loop import InnerLoop, Weights, drop_step_sizes, repeat
from nlp_meta.models.adaptation import narrow_labels
from nlp_meta.models.meta_model import AdaptedModel, MetaModel
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.ngrams import FEATURES
from nlp_meta.rivals.fine_tune import Search, fine_tune, fine_tune_inside
from nlp_meta.training.plan import judged_inner
from nlp_meta.training.run import find_adaptation

Choice = Mapping[str, object]


def choose_start(bench: Bench, folder: str) -> dict[str, object]:
    """Steps and rate of a meta-model."""
    _, objective, weights = _begin(bench, folder)
    return _choose(bench, objective, weights)


def build_start(bench: Bench, folder: str, choice: Choice) -> Method:
    """A meta-model that is fine-tuned; with 0 labels it answers as it is."""
    model, objective, weights = _begin(bench, folder)
    facts = {
        "title": f"{name_start(model)}, then fine-tuning",
        "examples_before": model.provenance["examples"],
        "start": Path(folder).name,
        "pooling": model.settings.pooling,
    }
    alone = bench.knows(model)
    return _build(bench, objective, weights, choice, facts, without_labels=alone)


def choose_lora(bench: Bench, _: str) -> dict[str, object]:
    """Steps and rate of LoRA matrices that begin at the pretrained encoder."""
    objective, weights = _plain(bench)
    return _choose(bench, objective, weights)


def build_lora(bench: Bench, _: str, choice: Choice) -> Method:
    """Plain LoRA, from the pretrained encoder."""
    objective, weights = _plain(bench)
    facts = {"examples_before": 0, "pooling": bench.settings.model.pooling}
    return _build(bench, objective, weights, choice, facts, without_labels=False)


def _begin(bench: Bench, folder: str) -> tuple[MetaModel, Classification, Weights]:
    """Load a start; for labels that it never saw, with a head of prototypes."""
    model = bench.start(folder)
    if bench.knows(model) or model.objective.head != "shared":
        return model, model.objective, model.weights
    new, weights = narrow_labels(model.objective, model.weights, bench.labels, shared=False)
    return model, new, weights


def _plain(bench: Bench) -> tuple[Classification, Weights]:
    objective = bench.objective(bench.settings.model, bench.labels)
    generator = torch.Generator().manual_seed(bench.settings.run.seed)
    return objective, objective.meta_parameters(generator)


def _choose(bench: Bench, objective: Classification, weights: Weights) -> dict[str, object]:
    if not bench.judged:
        return {"chosen": "inside each support set"}
    adaptation = bench.settings.adaptation
    inner, trials = find_adaptation(objective, dict(weights), bench.judged, adaptation)
    return {
        "chosen": "on meta-validation",
        "steps": inner.steps,
        "learning_rate": inner.learning_rate,
        "validation_score": max(trial.score for trial in trials),
        "trials": len(trials),
    }


def _build(
    bench: Bench,
    objective: Classification,
    weights: Weights,
    choice: Choice,
    facts: Mapping[str, object],
    *,
    without_labels: bool,
) -> Method:
    minibatch, chosen = bench.settings.adaptation.batch_size, read_choice(bench, choice)
    if chosen is not None:
        learn = fine_tune(objective, weights, inner=chosen, minibatch=minibatch)
    else:
        learn = fine_tune_inside(
            objective,
            weights,
            inner=judged_inner(bench.settings.adaptation),
            minibatch=minibatch,
            search=_search(bench),
        )
    moved = sum(value.numel() for value in drop_step_sizes(weights).values())
    cost = {"parameters": moved, "bytes": BYTES_A_NUMBER * moved}
    examples = partial(count_examples, bench, chosen)
    told = {**facts, **cost, "choice": dict(choice)}
    return Method(learn, 2, examples, told, without_labels=without_labels)


def read_choice(bench: Bench, choice: Choice) -> InnerLoop | None:
    """The inner loop that was chosen on meta-validation; None where each support set chooses."""
    if "steps" not in choice:
        return None
    adaptation = bench.settings.adaptation
    steps, rate = int(str(choice["steps"])), float(str(choice["learning_rate"]))
    return InnerLoop(steps, rate, adaptation.optimizer, adaptation.anchor, adaptation.average)


def count_examples(bench: Bench, chosen: InnerLoop | None, labels: int) -> int:
    """Support examples through forward and backward; a search inside counts, at its most."""
    adaptation = bench.settings.adaptation
    batches = 1 if adaptation.batch_size is None else max(1, round(labels / adaptation.batch_size))
    if chosen is not None:
        return round(chosen.steps * labels / batches)
    # Each copy of the search adapts to all folds but one.
    copies = (bench.settings.rivals.folds - 1) * len(adaptation.learning_rates)
    return round((1 + copies) * max(adaptation.steps) * labels / batches)


def _search(bench: Bench) -> Search:
    adaptation = bench.settings.adaptation
    return Search(
        adaptation.steps,
        adaptation.learning_rates,
        bench.settings.rivals.folds,
        bench.settings.run.seed,
    )


EXAMPLES_A_LABEL = 2
"""What `adapt` asks for; without any, only a head that knows all labels can answer."""
FOLDED = 4
"""Adaptations of a call of `adapt`: its own, and copies of three quarters on four folds."""


def build_adapt(bench: Bench, folder: str, choice: Choice) -> Method:
    """A meta-model as users adapt it, without companion."""
    return _build_product(bench, folder, mixed=False)


def build_hybrid(bench: Bench, folder: str, choice: Choice) -> Method:
    """A meta-model as users adapt it, with its n-gram companion where that pays."""
    return _build_product(bench, folder, mixed=True)


def _build_product(bench: Bench, folder: str, *, mixed: bool) -> Method:
    model = bench.start(folder)

    def learn(support_set: SupportSet) -> Learned:
        if not support_set.examples:
            return lambda queries: _answer(model, support_set.ask(queries))
        adapted = _adapt(bench, folder, model, support_set)

        def answer(queries: Queries) -> Sequence[Prediction]:
            episode = replace(support_set.ask(queries), labels=adapted.labels)
            answers = _answer(adapted, episode)
            if mixed and adapted.companion is not None:
                return adapted.companion.mix(queries.texts, answers)
            return answers

        return LearnedWithFacts(answer, _tell(adapted, mixed=mixed))

    moved = sum(value.numel() for value in drop_step_sizes(model.weights).values())
    if mixed:
        prior = model.companion
        moved += len(bench.labels) * (FEATURES if prior is None else prior.weight.shape[1])
    how = "with n-grams" if mixed else "without n-grams"
    facts = {
        "title": f"{name_start(model)}, `nlp-meta adapt` {how}",
        "examples_before": model.provenance["examples"],
        "start": Path(folder).name,
        "pooling": model.settings.pooling,
        "parameters": moved,
        "bytes": BYTES_A_NUMBER * moved,
        "choice": {"chosen": "by held-out folds of each support set"},
    }

    def examples(labels: int) -> int:
        batches = 1 if model.minibatch is None else max(1, round(labels / model.minibatch))
        return round(FOLDED * model.adaptation.steps * labels / batches)

    alone, each = bench.knows(model), EXAMPLES_A_LABEL
    return Method(learn, each * len(bench.labels), examples, facts, None, alone, each)


def _adapt(bench: Bench, folder: str, model: MetaModel, support_set: SupportSet) -> AdaptedModel:
    """Adapt, or give what the other method has just adapted, at its cost."""
    key = f"{folder} {hash_support(support_set)}"
    if key not in bench.adapted:
        began = work_time()
        adapted = model.adapt(
            support_set.texts,
            [example.target for example in support_set.examples],
            seed=bench.settings.run.seed,
        )
        bench.adapted.clear()
        bench.adapted[key] = adapted, work_time() - began
    else:
        charge(bench.adapted[key][1])
    return bench.adapted[key][0]


def _answer(model: MetaModel | AdaptedModel, episode: Episode) -> list[Prediction]:
    """Answer through the cached prefix, which `AdaptedModel.predict` does not keep.

    Args:
        episode: Of an adapted model, with its labels in the order of its logits.
    """
    objective, stacked = model.objective, repeat(model.weights, tasks=1)
    return objective.answer(stacked, objective.query_batches([episode]), [episode])[0]


def _tell(adapted: AdaptedModel, *, mixed: bool) -> dict[str, object]:
    report = adapted.report
    if report is None:
        return {}
    told: dict[str, object] = {"steps": report.steps, "temperature": report.temperature}
    if mixed and report.companion is not None:
        weight = report.companion.weight if report.companion.on else 0.0
        told |= {"companion_weight": weight, "prior_scale": report.companion.prior_scale}
    return told
