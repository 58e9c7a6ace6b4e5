"""Break-even: how many labels a rival needs to score what we score."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nlp_meta.errors import DataError
from nlp_meta.evaluation.judged import Judged, task_means
from nlp_meta.evaluation.metrics import LOWER_IS_BETTER, Numbers
from nlp_meta.evaluation.resampling import resampled_means
from nlp_meta.evaluation.statistics import check_settings


@dataclass(frozen=True, slots=True)
class BreakEven:
    """The number of labels at which a rival catches up; None is more than was measured.

    Attributes:
        low: Of the interval around `labels`.
        high: Of the same.
    """

    labels: float | None
    low: float | None
    high: float | None


def break_even(
    ours: Sequence[Judged],
    rival: Mapping[int, Sequence[Judged]],
    metric: str,
    *,
    over_tasks: bool,
    level: float,
    resamples: int,
    seed: int,
) -> BreakEven:
    """Find the smallest number of labels at which a rival scores at least what we do.

    Tasks, draws and rows are resampled at once for us and for the rival at every number of
    labels: its small support sets are parts of its large ones, and all are judged on the
    same rows, so its curve moves as a whole.

    Args:
        ours: Our answers at one number of labels.
        rival: The rival's answers by number of labels.

    Returns:
        What `labels_to_reach` gives for the means, and an interval of it.

    Raises:
        DataError: No number of labels, one below 0, or what `resampled_means` refuses.
        SettingsError: An unknown metric, no resample, or a level not between 0 and 1.
    """
    check_settings(level, resamples)
    labels = _check_labels(rival)
    better = -1.0 if metric in LOWER_IS_BETTER else 1.0
    methods = [ours, *(rival[number] for number in labels)]
    means = np.array([np.mean(list(task_means(one, metric).values())) for one in methods])
    resampled = resampled_means(
        methods, metric, over_tasks=over_tasks, resamples=resamples, seed=seed
    )
    points = better * np.vstack([means, resampled.T])
    found = _first_crossings(np.array(labels), points[:, 1:], points[:, 0])
    ordered = np.sort(found[1:])
    # Of order statistics, as nothing lies between a number and infinity.
    low = ordered[math.floor((1 - level) / 2 * (resamples - 1))]
    high = ordered[math.ceil((1 + level) / 2 * (resamples - 1))]
    return BreakEven(*(_or_none(value) for value in (found[0], low, high)))


def labels_to_reach(score: float, curve: Mapping[int, float]) -> float | None:
    """Find the smallest number of labels at which a curve is at or above a score.

    Between the numbers of labels that were measured the curve is taken as straight over
    log(1 + labels), so that 0 labels have their place.

    Args:
        curve: Mean score by number of labels; may go down again.

    Returns:
        The smallest number measured if the score is reached there; None if it is not
        reached at any.

    Raises:
        DataError: No number of labels, or one below 0.
    """
    labels = _check_labels(curve)
    scores = np.array([[curve[number] for number in labels]])
    return _or_none(_first_crossings(np.array(labels), scores, np.array([score]))[0])


def _first_crossings(labels: Numbers, curves: Numbers, scores: Numbers) -> Numbers:
    """First place where each curve, `(curves, labels)`, reaches its score, `(curves,)`."""
    places = np.log1p(labels)
    reached = curves >= scores[:, None]
    right = reached.argmax(1)
    left = np.maximum(right - 1, 0)
    row = np.arange(len(curves))
    from_left, rise = scores - curves[row, left], curves[row, right] - curves[row, left]
    # At the first number there is no segment; nor is there one that rises.
    share = np.divide(from_left, rise, out=np.ones(len(curves)), where=rise > 0)
    found = np.expm1(places[left] + share * (places[right] - places[left]))
    found = np.where(share == 1, labels[right], found)
    return np.where(reached.any(1), found, np.inf)


def _or_none(labels: float) -> float | None:
    return float(labels) if math.isfinite(labels) else None


def _check_labels(curve: Mapping[int, object]) -> list[int]:
    labels = sorted(curve)
    if not labels or labels[0] < 0:
        raise DataError(
            f"cannot find a break-even on a curve at {labels} labels: at least one number of "
            "labels, none below 0, is needed; give the rival's scores by number of labels"
        )
    return labels
