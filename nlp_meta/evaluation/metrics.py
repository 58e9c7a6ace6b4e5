"""Metrics: one number for the answers to one query set, those of labels first.

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
from nlp_meta.errors import DataError

Numbers = NDArray[np.float64]
Metric = Callable[[Sequence[str], Sequence[Any], Sequence[str]], float]
"""What is true, one answer for each, and what is known of the task, to a score.

Of labels: true names, predictions, and the labels of the task.
"""

BINS = 15
"""Equal-width bins of the calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True, slots=True)
class RowSums:
    """A metric in two steps.

    Attributes:
        row_terms: Arguments of a `Metric` to `(rows, terms)`.
        finish: Sums over rows, `(..., terms)`, and the number of rows to scores `(...)`.
    """

    row_terms: Callable[[Sequence[str], Sequence[Any], Sequence[str]], Numbers]
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


LOWER_IS_BETTER = frozenset({"ece", "xsim"})
"""Metrics of which less is better; of the others more is."""


def check_rows(true: Sequence[str], predictions: Sequence[object]) -> None:
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
    return score_rows(ROW_SUMS[name], true, predictions, labels)


def score_rows(
    metric: RowSums, true: Sequence[str], answers: Sequence[Any], known: Sequence[str]
) -> float:
    """Score answers by a metric that is given in two steps; the arguments are a `Metric`'s.

    Raises:
        DataError: No row, or as many answers as rows were not given.
    """
    check_rows(true, answers)
    return float(metric.finish(metric.row_terms(true, answers, known).sum(0), len(true)))


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


Compute = Callable[..., dict[str, float]]
"""Columns of a metric's inputs, by name, to its score under its name."""


def make_metric_class(
    name: str,
    compute: Compute,
    columns: Mapping[str, str | list[str]],
    *,
    description: str,
    module: str,
) -> type:
    """Make a subclass of `evaluate.Metric`, without network.

    Args:
        columns: Name to type, such as `string`; of a list of these, the type in a list.
        module: Where the class is found by its name.
    """
    import evaluate
    from datasets import Features, List, Value

    features = Features(
        {
            column: List(Value(kind[0])) if isinstance(kind, list) else Value(kind)
            for column, kind in columns.items()
        }
    )

    def info(_self: object) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=description,
            citation="",
            inputs_description=compute.__doc__ or "",
            features=features,
        )

    def compute_rows(_self: object, **inputs: Any) -> dict[str, float]:
        return compute(**inputs)

    members = {"__module__": module, "__doc__": description}
    return type(name, (evaluate.Metric,), {**members, "_info": info, "_compute": compute_rows})


STRINGS: Mapping[str, str] = {"predictions": "string", "references": "string"}
"""Columns of most metrics."""
_COMPUTE: Mapping[str, tuple[Metric, Compute, Mapping[str, str]]] = {
    "Accuracy": (accuracy, _compute_accuracy, STRINGS),
    "MacroF1": (macro_f1, _compute_macro_f1, STRINGS),
    "ExpectedCalibrationError": (
        expected_calibration_error,
        _compute_ece,
        {**STRINGS, "confidences": "float64"},
    ),
}


@cache
def _metric_class(name: str) -> type:
    metric, compute, columns = _COMPUTE[name]
    about = metric.__doc__ or ""
    return make_metric_class(name, compute, columns, description=about, module=__name__)


def _with_confidence(
    names: Sequence[str], confidences: Sequence[float] | None = None
) -> list[Prediction]:
    sure = [1.0] * len(names) if confidences is None else confidences
    return [
        Prediction(name, {name: confidence}) for name, confidence in zip(names, sure, strict=True)
    ]
