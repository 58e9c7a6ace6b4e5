"""Rivals that adapt no LoRA matrices, on the settings of a comparison.

Some move the whole encoder (full fine-tuning, SetFit), some read the frozen encoder's features
or characters alone, and one copies. Each chooses inside the support set, by cross-validation
or by leaving one out, unless it says otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nlp_meta.comparing.bench import BYTES_A_NUMBER, UNMOVED, Bench, Method, fold_episodes
from nlp_meta.data.answers import LearnedWithFacts, Rival
from nlp_meta.data.episodes import Episode, Queries, SupportSet
from nlp_meta.encoders.backbone import Backbone
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.objectives.ngrams import FEATURES
from nlp_meta.rivals.copied_source import copied_source
from nlp_meta.rivals.full_fine_tune import FullFineTuning, choose_full_fine_tuning, full_fine_tune
from nlp_meta.rivals.linear_probe import linear_probe
from nlp_meta.rivals.memory import memory
from nlp_meta.rivals.ngram_overlap import ngram_overlap
from nlp_meta.rivals.ngrams import ngrams
from nlp_meta.rivals.prototypes import prototypes
from nlp_meta.rivals.setfit import setfit
from nlp_meta.settings import RivalSettings

Choice = Mapping[str, object]

HEAD_FACTOR = 30.0
"""The head begins at zero and learns so much faster than the encoder."""
INSIDE_FOLDS = 2
"""Of the search inside a support set: each costs a whole training for every rate."""


def choose_full(bench: Bench, _: str) -> dict[str, object]:
    """Steps and rate of full fine-tuning."""
    if not bench.judged:
        return {"chosen": "inside each support set"}
    tuning, trials = _search(bench, _objective(bench), bench.judged)
    return {
        "chosen": "on meta-validation",
        "steps": tuning.steps,
        "learning_rate": tuning.learning_rate,
        "validation_score": max(trials),
        "trials": len(trials),
    }


def build_full(bench: Bench, _: str, choice: Choice) -> Method:
    """Every parameter of the encoder and a fresh head."""
    objective = _objective(bench)
    rivals: RivalSettings = bench.settings.rivals

    def learn(support_set: SupportSet) -> LearnedWithFacts:
        tuning = _first(bench)
        if "steps" in choice:
            tuning = _chosen(tuning, int(str(choice["steps"])), float(str(choice["learning_rate"])))
        else:
            episode = support_set.ask(Queries(()))
            held_out = fold_episodes(episode, folds=INSIDE_FOLDS, seed=bench.settings.run.seed)
            if held_out:
                tuning, _ = _search(bench, objective, held_out)
        adapt = full_fine_tune(
            objective.backbone,
            tuning=tuning,
            batch_tokens=bench.settings.run.batch_tokens,
            autocast=objective.network.dtype,
        )
        facts = {"steps": tuning.steps, "learning_rate": tuning.learning_rate}
        return LearnedWithFacts(adapt(support_set), facts)

    steps, trainings = int(str(choice.get("steps", max(rivals.full_steps)))), 1
    if "steps" not in choice:  # each copy of the search learns from all folds but one
        trainings += (INSIDE_FOLDS - 1) * len(rivals.full_learning_rates)

    def examples(labels: int) -> int:
        """At most, where a search inside finds folds and the longest training best."""
        batches = max(1, round(labels / rivals.full_batch_size))
        return round(trainings * steps * labels / batches)

    return Method(learn, 2, examples, _facts(objective.backbone, choice))


def build_setfit(bench: Bench, _: str, choice: Choice) -> Method:
    """SetFit, by its own package, on the same encoder."""
    backbone, pairs = _objective(bench).backbone, bench.settings.rivals.setfit_pairs
    learn = setfit(
        backbone,
        pairs=pairs,
        seed=bench.settings.run.seed,
    )
    examples: Callable[[int], int] = lambda labels: 2 * pairs * 2 * labels  # noqa: E731
    choices = {"chosen": "beforehand", "pairs_of_each_kind_an_example": pairs, **choice}
    return Method(learn, 2, examples, _facts(backbone, choices))


def _objective(bench: Bench) -> Any:
    """What holds the encoder and the precision that it computes in."""
    return bench.objective(replace(bench.settings.model, pooling="mean"), bench.labels)


def _facts(backbone: Backbone, choice: Choice) -> dict[str, object]:
    moved = sum(value.numel() for value in backbone.encoder.parameters())
    return {
        "examples_before": 0,
        "pooling": "mean",
        "parameters": moved,
        "bytes": BYTES_A_NUMBER * moved,
        "choice": dict(choice),
    }


def _first(bench: Bench) -> FullFineTuning:
    rivals = bench.settings.rivals
    rate, steps = min(rivals.full_learning_rates), min(rivals.full_steps)
    return FullFineTuning(
        learning_rate=rate,
        head_learning_rate=HEAD_FACTOR * rate,
        steps=steps,
        decay_steps=max(rivals.full_steps),
        batch_size=rivals.full_batch_size,
        seed=bench.settings.run.seed,
    )


def _chosen(tuning: FullFineTuning, steps: int, rate: float) -> FullFineTuning:
    return replace(tuning, steps=steps, learning_rate=rate, head_learning_rate=HEAD_FACTOR * rate)


def _search(
    bench: Bench, objective: Any, episodes: Sequence[Episode]
) -> tuple[FullFineTuning, list[float]]:
    settings = bench.settings
    tuning, trials = choose_full_fine_tuning(
        objective.backbone,
        episodes,
        tuning=_first(bench),
        steps=settings.rivals.full_steps,
        learning_rates=settings.rivals.full_learning_rates,
        metric=episode_scorer(settings.adaptation.metric, setting="adaptation.metric"),
        batch_tokens=settings.run.batch_tokens,
        autocast=objective.network.dtype,
    )
    chosen = _chosen(tuning, tuning.steps, tuning.learning_rate)
    return chosen, [trial.score for trial in trials]


def build_probe(bench: Bench, _: str, choice: Choice) -> Method:
    """Logistic regression on the frozen encoder's features."""
    rivals = bench.settings.rivals
    learn = linear_probe(
        bench.embed(),
        regularization=rivals.regularization,
        folds=rivals.folds,
        seed=bench.settings.run.seed,
    )
    return _on_features(learn, numbers=_width(bench) * len(bench.labels))


def build_prototypes(bench: Bench, _: str, choice: Choice) -> Method:
    """The nearest class mean of the support set."""
    rivals = bench.settings.rivals
    learn = prototypes(
        bench.embed(),
        scalings=rivals.scalings,
        temperatures=rivals.temperatures,
    )
    return _on_features(learn, numbers=_width(bench) * len(bench.labels))


def build_memory(bench: Bench, _: str, choice: Choice) -> Method:
    """The support set itself, read by attention."""
    learn = memory(
        bench.embed(),
        temperatures=bench.settings.rivals.temperatures,
    )
    return _on_features(learn, numbers=_width(bench) * max(bench.settings.comparison.labels))


def build_ngrams(bench: Bench, _: str, choice: Choice) -> Method:
    """Logistic regression on TF-IDF of character n-grams."""
    rivals = bench.settings.rivals
    learn = ngrams(
        regularization=rivals.regularization,
        folds=rivals.folds,
        seed=bench.settings.run.seed,
    )
    numbers = FEATURES * len(bench.labels)
    facts = {"examples_before": 0, "parameters": numbers, "bytes": BYTES_A_NUMBER * numbers}
    return Method(learn, 2, _once, facts)


def build_overlap(bench: Bench, _: str, choice: Choice) -> Method:
    """Overlap of character n-grams."""
    orders = bench.settings.retrieval.ngrams
    return Method(ngram_overlap(orders=orders), 0, _once, UNMOVED)


def build_copied(bench: Bench, _: str, choice: Choice) -> Method:
    """Every source as its own translation."""
    return Method(copied_source, 0, lambda _pairs: 0, UNMOVED)


def _on_features(learn: Rival, *, numbers: int) -> Method:
    facts = {
        "examples_before": 0,
        "pooling": "mean",
        "parameters": numbers,
        "bytes": BYTES_A_NUMBER * numbers,
    }
    return Method(learn, 2, _once, facts)


def _once(labels: int) -> int:
    """Every support example goes through the encoder once, forward alone."""
    return labels


def _width(bench: Bench) -> int:
    return int(bench.embed()(["one text"]).shape[1])
