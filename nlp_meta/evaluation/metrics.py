"""Metrics: one number for the answers to one query set.

Each metric is a function of sums over rows: `row_terms` gives a row's terms,
`finish` turns their sums into the score. So `statistics.py` can score thousands of
resamples of the rows by one matrix product.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlp_meta.data.answers import Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.errors import DataError

Numbers = NDArray[np.float64]
Metric = Callable[[Sequence[str], Sequence[Prediction], Sequence[str]], float]
"""True label names, one prediction for each, and the labels of the task, to a score."""

BINS = 15
"""Equal-width bins of the calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True, slots=True)
class RowSums:
    """A metric in two steps.

    Attributes:
        row_terms: Arguments of a `Metric` to `(rows, terms)`.
        finish: Sums over rows, `(..., terms)`, and the number of rows to scores `(...)`.
    """

    row_terms: Callable[[Sequence[str], Sequence[Prediction], Sequence[str]], Numbers]
    finish: Callable[[Numbers, int], Numbers]


def accuracy(
    true: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]
) -> float:
    """Share of predictions that are right, from 0 to 1.

    Raises:
        DataError: No row, or as many predictions as rows were not given.
    """
    return _score("accuracy", true, predictions, labels)


def macro_f1(
    true: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]
) -> float:
    """Mean over the task's labels of F1 = 2 right / (predicted + true), from 0 to 1.

    A label that is neither true nor predicted anywhere has F1 0, as scikit-learn has
    it with `zero_division=0`.

    Raises:
        DataError: No row or no label, or as many predictions as rows were not given.
    """
    return _score("macro_f1", true, predictions, labels)


def expected_calibration_error(
    true: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]
) -> float:
    """How far the probability of the predicted label is from how often it is right.

    With n rows in 15 bins ((m-1)/15, m/15] by that probability, 0 in the first,

        ECE = sum over bins m of |B_m| / n * |accuracy(B_m) - mean probability(B_m)|

    Raises:
        DataError: No row, or as many predictions as rows were not given.

    Source:
        Guo et al. 2017, arXiv:1706.04599, section 2, equations 3 and 5; Naeini et al. 2015.
    """
    return _score("ece", true, predictions, labels)


METRICS: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "ece": expected_calibration_error,
}


LOWER_IS_BETTER = frozenset({"ece"})
"""Metrics of which less is better; of the others more is."""


def score_episode(episode: Episode, predictions: Sequence[Prediction]) -> dict[str, float]:
    """Score the answers to an episode's query set by every metric of `METRICS`."""
    true = [example.target for example in episode.query]
    return {name: metric(true, predictions, episode.labels) for name, metric in METRICS.items()}


def check_rows(true: Sequence[str], predictions: Sequence[Prediction]) -> None:
    """Stop unless there is one prediction for each of at least one row.

    Raises:
        DataError: There is not.
    """
    if not true or len(true) != len(predictions):
        raise DataError(
            f"cannot score {len(predictions)} predictions for {len(true)} labelled texts: one "
            "prediction for each of at least one text is needed; give the labels and the "
            "predictions of the same rows"
        )


def _right(
    true: Sequence[str], predictions: Sequence[Prediction], _labels: Sequence[str]
) -> Numbers:
    right = [name == one.label for name, one in zip(true, predictions, strict=True)]
    return np.array(right, dtype=np.float64)[:, None]


def _share_right(sums: Numbers, rows: int) -> Numbers:
    return sums[..., 0] / rows


def _hits(true: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]) -> Numbers:
    """For each label whether a row is rightly predicted, predicted, true: `(rows, 3 * labels)`."""
    if not labels:
        raise DataError(
            "cannot average F1 over 0 labels: at least one is needed; give the labels of the task"
        )
    is_true = np.array([[name == label for label in labels] for name in true])
    predicted = np.array([[one.label == label for label in labels] for one in predictions])
    return np.hstack([is_true & predicted, predicted, is_true]).astype(np.float64)


def _mean_f1(sums: Numbers, _rows: int) -> Numbers:
    hits, predicted, is_true = np.split(sums, 3, axis=-1)
    f1: Numbers = 2 * hits / np.maximum(predicted + is_true, 1)
    return np.asarray(f1.mean(-1))


def _gaps(true: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]) -> Numbers:
    """Right minus confidence, in the column of the row's bin: `(rows, bins)`."""
    confidence = np.array([one.probabilities[one.label] for one in predictions])
    inner_edges = np.arange(1, BINS) / BINS
    # Left of an equal edge: a bin holds its upper edge, not its lower one.
    column = np.searchsorted(inner_edges, confidence, side="left")
    gap = _right(true, predictions, labels)[:, 0] - confidence
    return np.where(column[:, None] == np.arange(BINS), gap[:, None], 0.0)


def _total_gap(sums: Numbers, rows: int) -> Numbers:
    return np.asarray(np.abs(sums).sum(-1) / rows)


ROW_SUMS: Mapping[str, RowSums] = {
    "accuracy": RowSums(_right, _share_right),
    "macro_f1": RowSums(_hits, _mean_f1),
    "ece": RowSums(_gaps, _total_gap),
}
"""The same metrics as `METRICS`, in two steps."""


def _score(
    name: str, true: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]
) -> float:
    check_rows(true, predictions)
    metric = ROW_SUMS[name]
    sums = metric.row_terms(true, predictions, labels).sum(0)
    return float(metric.finish(sums, len(true)))


def __getattr__(name: str) -> Any:
    """Give `Accuracy`, `MacroF1` and `ExpectedCalibrationError`, subclasses of `evaluate.Metric`.

    They are made at first use and without network. Importing `evaluate` takes seconds, as
    it imports every framework that it finds.
    """
    if name in _COMPUTE:
        return _metric_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _compute_accuracy(*, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    return {"accuracy": accuracy(references, _with_confidence(predictions), ())}


def _compute_macro_f1(
    *, predictions: Sequence[str], references: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """`labels` are those that the task has."""
    return {"macro_f1": macro_f1(references, _with_confidence(predictions), labels)}


def _compute_ece(
    *, predictions: Sequence[str], references: Sequence[str], confidences: Sequence[float]
) -> dict[str, float]:
    """`confidences` are the probabilities of the predicted labels, one a row."""
    answers = _with_confidence(predictions, confidences)
    return {"ece": expected_calibration_error(references, answers, ())}


_COMPUTE: Mapping[str, tuple[Metric, Callable[..., dict[str, float]]]] = {
    "Accuracy": (accuracy, _compute_accuracy),
    "MacroF1": (macro_f1, _compute_macro_f1),
    "ExpectedCalibrationError": (expected_calibration_error, _compute_ece),
}


@cache
def _metric_class(name: str) -> type:
    import evaluate
    from datasets import Features, Value

    metric, compute = _COMPUTE[name]
    columns = {"predictions": Value("string"), "references": Value("string")}
    if name == "ExpectedCalibrationError":
        columns["confidences"] = Value("float64")

    def info(_self: object) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=metric.__doc__ or "",
            citation="",
            inputs_description=compute.__doc__ or "",
            features=Features(columns),
        )

    def compute_rows(_self: object, **inputs: Any) -> dict[str, float]:
        return compute(**inputs)

    members = {"__module__": __name__, "__doc__": metric.__doc__}
    return type(name, (evaluate.Metric,), {**members, "_info": info, "_compute": compute_rows})


def _with_confidence(
    names: Sequence[str], confidences: Sequence[float] | None = None
) -> list[Prediction]:
    sure = [1.0] * len(names) if confidences is None else confidences
    return [
        Prediction(name, {name: confidence}) for name, confidence in zip(names, sure, strict=True)
    ]
