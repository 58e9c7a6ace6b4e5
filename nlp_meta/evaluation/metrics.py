"""Metrics: one number for the answers to one query set.

Those of labels and of rankings stand here, `translation_metrics.py` has those of written
translations, and `METRICS` has all. `load_metric` gives any of them to Hugging Face `evaluate`.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from nlp_meta.data.answers import Placed, Prediction
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation.row_metrics import (
    Columns,
    Numbers,
    RowMetric,
    check_rows,
    make_module,
    mean_of_terms,
)
from nlp_meta.evaluation.translation_metrics import TRANSLATION_METRICS

BINS = 15
"""Equal-width bins of the calibration error, as in Guo et al. 2017."""
LOWER_IS_BETTER = frozenset({"ece", "xsim"})
"""Metrics of which less is better; of the others more is."""


def load_metric(name: str, **options: Any) -> Any:
    """Give a metric as an `evaluate.Metric`, which can be combined with any others.

    It is made without network. `evaluate.combine([load_metric("accuracy"),
    load_metric("macro_f1", labels=["bad", "good"])])` scores by both at once.

    Args:
        name: Of `METRICS`.
        options: `labels` of macro-F1, which takes those that occur unless told; `language` of
            BLEU, the target language; or what any `evaluate.Metric` takes.

    Raises:
        SettingsError: There is no metric of that name.
    """
    metric = find_metric(name)
    known: dict[str, Any] = {
        key: options.pop(key) for key in ("labels", "language") if key in options
    }
    return make_module(metric, known, **options)


def score(name: str, true: Sequence[str], answers: Sequence[Any], known: Sequence[str]) -> float:
    """Score answers through the `evaluate.Metric` of a name, to the number that it gives itself.

    Args:
        known: Of the task, by the skill of the metric.

    Raises:
        DataError: No row, or as many answers as rows were not given.
        SettingsError: There is no metric of that name.
    """
    metric = find_metric(name)
    check_rows(true, answers)
    columns = metric.columns.write(true, answers)
    given = {column: columns[column] for column in metric.inputs}
    option = {metric.option: list(known)} if metric.option else {}
    return float(_kept_module(name).compute(**given, **option)[name])


@cache
def _kept_module(name: str) -> Any:
    return load_metric(name)


def find_metric(name: str, *, setting: str = "metric") -> RowMetric:
    """Look a metric of any skill up by its name.

    Args:
        setting: Where the user named the metric, for the message.

    Raises:
        SettingsError: There is none of that name.
    """
    if name not in METRICS:
        raise SettingsError(
            f"cannot score by '{name}': one of {', '.join(METRICS)} is needed; change `{setting}`"
        )
    return METRICS[name]


def _right(
    true: Sequence[str], predictions: Sequence[Prediction], _labels: Sequence[str]
) -> Numbers:
    right = [name == prediction.label for name, prediction in zip(true, predictions, strict=True)]
    return np.array(right, dtype=np.float64)[:, None]


def _hits(true: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]) -> Numbers:
    """For each label whether a row is rightly predicted, predicted, true: `(rows, 3 * labels)`."""
    if not labels:
        raise DataError(
            "cannot average F1 over 0 labels: at least one is needed; give the labels of the task"
        )
    is_true = np.array([[name == label for label in labels] for name in true])
    predicted = np.array(
        [[prediction.label == label for label in labels] for prediction in predictions]
    )
    return np.hstack([is_true & predicted, predicted, is_true]).astype(np.float64)


def _mean_f1(sums: Numbers, _rows: int) -> Numbers:
    hits, predicted, is_true = np.split(sums, 3, axis=-1)
    f1: Numbers = 2 * hits / np.maximum(predicted + is_true, 1)
    return np.asarray(f1.mean(-1))


def _gaps(true: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]) -> Numbers:
    """Right minus confidence, in the column of the row's bin: `(rows, bins)`."""
    confidence = np.array(
        [prediction.probabilities[prediction.label] for prediction in predictions]
    )
    inner_edges = np.arange(1, BINS) / BINS
    # Left of an equal edge: a bin holds its upper edge, not its lower one.
    column = np.searchsorted(inner_edges, confidence, side="left")
    gap = _right(true, predictions, labels)[:, 0] - confidence
    return np.where(column[:, None] == np.arange(BINS), gap[:, None], 0.0)


def _total_gap(sums: Numbers, rows: int) -> Numbers:
    return np.asarray(np.abs(sums).sum(-1) / rows)


def _write_labels(true: Sequence[str], predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
    return {
        "predictions": [prediction.label for prediction in predictions],
        "references": list(true),
        "confidences": [prediction.probabilities[prediction.label] for prediction in predictions],
    }


def _read_labels(
    predictions: Sequence[str],
    references: Sequence[str],
    confidences: Sequence[float] | None = None,
) -> tuple[Sequence[str], list[Prediction]]:
    sure = [1.0] * len(predictions) if confidences is None else confidences
    pairs = zip(predictions, sure, strict=True)
    return references, [Prediction(label, {label: confidence}) for label, confidence in pairs]


_LABELS = Columns(
    {"predictions": "string", "references": "string", "confidences": "float64"},
    _write_labels,
    _read_labels,
)
accuracy = RowMetric(
    name="accuracy",
    description="Share of predictions that are right, from 0 to 1.",
    row_terms=_right,
    finish=mean_of_terms,
    columns=_LABELS,
)
macro_f1 = RowMetric(
    name="macro_f1",
    description="""\
Mean over the task's labels of F1 = 2 right / (predicted + true), from 0 to 1.

A label that is neither true nor predicted anywhere has F1 0, as scikit-learn has it with
`zero_division=0`.""",
    row_terms=_hits,
    finish=_mean_f1,
    columns=_LABELS,
    option="labels",
)
expected_calibration_error = RowMetric(
    name="ece",
    description="""\
Expected calibration error: how far probabilities are from how often they are right.

`confidences` are the probabilities of the predicted labels. With n rows in 15 bins
((m-1)/15, m/15] by that probability, 0 in the first,

    ECE = sum over bins m of |B_m| / n * |accuracy(B_m) - mean probability(B_m)|

Source:
    Guo et al. 2017, arXiv:1706.04599, section 2, equations 3 and 5; Naeini et al. 2015.""",
    row_terms=_gaps,
    finish=_total_gap,
    columns=_LABELS,
    inputs=("predictions", "references", "confidences"),
)
LABEL_METRICS: Mapping[str, RowMetric] = {
    metric.name: metric for metric in (accuracy, macro_f1, expected_calibration_error)
}
"""Of predictions; the labels of a task are what is known of it."""


def _first(_true: Sequence[str], placed: Sequence[Placed], _known: Sequence[str]) -> Numbers:
    return np.array([[float(place.rank == 1)] for place in placed])


def _reciprocal(_true: Sequence[str], placed: Sequence[Placed], _known: Sequence[str]) -> Numbers:
    return np.array([[1 / place.rank] for place in placed])


def _mined_wrongly(
    _true: Sequence[str], placed: Sequence[Placed], _known: Sequence[str]
) -> Numbers:
    return np.array([[float(place.mined != place.right)] for place in placed])


def _write_placed(true: Sequence[str], placed: Sequence[Placed]) -> dict[str, list[Any]]:
    """Candidates other than the right one are empty here: their texts are not asked for."""
    pairs = list(zip(true, placed, strict=True))
    return {
        "predictions": [[*[""] * (place.rank - 1), target] for target, place in pairs],
        "references": list(true),
        "mined": [target if place.mined == place.right else "" for target, place in pairs],
    }


def _read_placed(
    references: Sequence[str],
    predictions: Sequence[Sequence[str]] | None = None,
    mined: Sequence[str] | None = None,
) -> tuple[Sequence[str], list[Placed]]:
    taken = references if mined is None else mined
    ranked = [[reference] for reference in references] if predictions is None else predictions
    placed = []
    for row, (candidates, reference) in enumerate(zip(ranked, references, strict=True)):
        if reference not in candidates:
            raise DataError(
                f"cannot score the ranking of row {row}: '{reference}' is not among its "
                f"{len(candidates)} candidates, where it is needed; rank all candidates"
            )
        place = candidates.index(reference)
        placed.append(
            Placed(rank=place + 1, right=0, first=place, mined=0 if taken[row] == reference else 1)
        )
    return references, placed


_RANKINGS = Columns(
    {"predictions": ["string"], "references": "string", "mined": "string"},
    _write_placed,
    _read_placed,
)
_RANKED = "`predictions` are ranked candidates, the likeliest first, with the right one among them."
precision_at_1 = RowMetric(
    name="precision_at_1",
    description=f"Share of queries whose translation is ranked first, from 0 to 1. {_RANKED}",
    row_terms=_first,
    finish=mean_of_terms,
    columns=_RANKINGS,
)
mean_reciprocal_rank = RowMetric(
    name="mrr",
    description=f"Mean of 1 / rank of the right translation, from 0 to 1. {_RANKED}",
    row_terms=_reciprocal,
    finish=mean_of_terms,
    columns=_RANKINGS,
)
xsim_error = RowMetric(
    name="xsim",
    description="""\
Share of queries for which mining by margin would take a wrong translation, from 0 to 1.

`mined` are the candidates that mining takes, one a row.

Source:
    Artetxe and Schwenk 2019, arXiv:1811.01136, section 3, for the margin; Heffernan et al.
    2022, arXiv:2205.12654, section 3, for the error.""",
    row_terms=_mined_wrongly,
    finish=mean_of_terms,
    columns=_RANKINGS,
    inputs=("references", "mined"),
)
RANKING_METRICS: Mapping[str, RowMetric] = {
    metric.name: metric for metric in (precision_at_1, mean_reciprocal_rank, xsim_error)
}
"""Of rankings; of a task nothing need be known."""
METRICS: Mapping[str, RowMetric] = {**LABEL_METRICS, **TRANSLATION_METRICS, **RANKING_METRICS}
"""By name."""
