"""Methods on what needs no adapting: the frozen encoder's features, or characters alone.

Each chooses inside the support set, by cross-validation or by leaving one out.
"""

from collections.abc import Mapping

from nlp_meta.baselines.linear_probe import linear_probe
from nlp_meta.baselines.memory import memory
from nlp_meta.baselines.ngrams import ngrams
from nlp_meta.baselines.prototypes import prototypes
from nlp_meta.comparing.bench import BYTES_A_NUMBER, Bench, Method
from nlp_meta.data.answers import Predict
from nlp_meta.objectives.ngrams import FEATURES

Choice = Mapping[str, object]


def build_probe(bench: Bench, _: str, choice: Choice) -> Method:
    """Logistic regression on the frozen encoder's features."""
    rivals = bench.settings.rivals
    predict = linear_probe(
        bench.embed(),
        regularization=rivals.regularization,
        folds=rivals.folds,
        seed=bench.settings.run.seed,
        on_adapted=bench.stopwatch.adapted,
    )
    return _on_features(bench, predict, numbers=_width(bench) * len(bench.labels))


def build_prototypes(bench: Bench, _: str, choice: Choice) -> Method:
    """The nearest class mean of the support set."""
    rivals = bench.settings.rivals
    predict = prototypes(
        bench.embed(),
        scalings=rivals.scalings,
        temperatures=rivals.temperatures,
        on_adapted=bench.stopwatch.adapted,
    )
    return _on_features(bench, predict, numbers=_width(bench) * len(bench.labels))


def build_memory(bench: Bench, _: str, choice: Choice) -> Method:
    """The support set itself, read by attention."""
    predict = memory(
        bench.embed(),
        temperatures=bench.settings.rivals.temperatures,
        on_adapted=bench.stopwatch.adapted,
    )
    return _on_features(bench, predict, numbers=_width(bench) * max(_budgets(bench)))


def build_ngrams(bench: Bench, _: str, choice: Choice) -> Method:
    """Logistic regression on TF-IDF of character n-grams."""
    rivals = bench.settings.rivals
    predict = ngrams(
        regularization=rivals.regularization,
        folds=rivals.folds,
        seed=bench.settings.run.seed,
        on_adapted=bench.stopwatch.adapted,
    )
    numbers = FEATURES * len(bench.labels)
    facts = {"examples_before": 0, "parameters": numbers, "bytes": BYTES_A_NUMBER * numbers}
    return Method(predict, 2, _once, facts)


def _on_features(bench: Bench, predict: Predict, *, numbers: int) -> Method:
    facts = {
        "examples_before": 0,
        "pooling": "mean",
        "parameters": numbers,
        "bytes": BYTES_A_NUMBER * numbers,
    }
    return Method(predict, 2, _once, facts)


def _once(labels: int) -> int:
    """Every support example goes through the encoder once, forward alone."""
    return labels


def _width(bench: Bench) -> int:
    return int(bench.embed()(["one text"]).shape[1])


def _budgets(bench: Bench) -> list[int]:
    return bench.settings.comparison.labels
