"""Methods that adapt LoRA matrices: ours, joint training then fine-tuning, plain LoRA.

They differ in their start alone. Steps and rate come out of one search for all of them:
on the meta-validation episodes or, where there are none, inside each support set.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from nlp_meta.adapting import narrow_labels
from nlp_meta.baselines.fine_tune import Search, fine_tune, fine_tune_inside
from nlp_meta.comparing.bench import BYTES_A_NUMBER, Bench, Method, name_start
from nlp_meta.meta.adaptation import InnerLoop, Weights
from nlp_meta.meta.step_sizes import drop_step_sizes
from nlp_meta.mixed_training import judged_inner
from nlp_meta.models import MetaModel
from nlp_meta.objectives.classification import Classification
from nlp_meta.training import find_adaptation

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
    said: dict[str, object] = {}
    minibatch, chosen = bench.settings.adaptation.batch_size, read_choice(bench, choice)
    on_adapted = bench.stopwatch.adapted
    if chosen is not None:
        predict = fine_tune(
            objective, weights, inner=chosen, minibatch=minibatch, on_adapted=on_adapted
        )
    else:
        predict = fine_tune_inside(
            objective,
            weights,
            inner=judged_inner(bench.settings.adaptation),
            minibatch=minibatch,
            search=_search(bench),
            said=said,
            on_adapted=on_adapted,
        )
    moved = sum(value.numel() for value in drop_step_sizes(weights).values())
    cost = {"parameters": moved, "bytes": BYTES_A_NUMBER * moved}
    examples = partial(count_examples, bench, chosen)
    told = {**facts, **cost, "choice": dict(choice)}
    return Method(predict, 2, examples, told, said, without_labels=without_labels)


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
