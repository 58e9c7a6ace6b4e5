"""Learning curves: what more labels would give, and how many a rival needs to catch up.

What more labels give is told by a curve that is fitted to scores at fewer,

    score(n) = ceiling - scale * n^(-rate)

with a ceiling of at most 1 and neither scale nor rate below 0, so that it never falls and
never passes 1. Doubling the labels divides the distance to the ceiling by 2^rate. Scores that
do not rise give a flat curve of scale 0. A break-even is read off the scores themselves, on
straight lines between the numbers of labels that were measured.

Source:
    Cortes et al. 1993, Learning Curves: Asymptotic Values and Rate of Convergence, section 3;
    Viering and Loog 2021, arXiv:2103.10948, on how often real curves have this shape.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation.judged import Judged, task_means
from nlp_meta.evaluation.metrics import LOWER_IS_BETTER, Numbers
from nlp_meta.evaluation.statistics import (
    Interval,
    check_settings,
    percentile_interval,
    resampled_means,
)

# Slower curves look like a logarithm, faster ones are flat behind the second size.
_SLOWEST, _FASTEST = 0.01, 4.0
# Rates tried at once; each search after the first looks between the neighbors of the best.
_RATES, _SEARCHES = 32, 4
FEWEST_SIZES = 3
PAYS = 0.005
"""Least lower end of the expected gain at which more labels are said to pay."""


@dataclass(frozen=True, slots=True)
class ScoresBySize:
    """Scores at several numbers of training labels, and the same in resamples.

    Attributes:
        sizes: Numbers of labels, ascending.
        scores: `(sizes,)`.
        resampled: `(resamples, sizes)`.
    """

    sizes: tuple[int, ...]
    scores: Numbers
    resampled: Numbers


def scores_of_answers(
    judged: Mapping[int, Sequence[Judged]], metric: str, *, resamples: int, seed: int
) -> ScoresBySize:
    """Score held-out answers by number of training labels, resampling repeats and rows.

    Args:
        judged: By number of labels. A repeat is a draw: a splitting of the support set with
            an answer to each row that it held out, under the row's key.

    Raises:
        DataError: Fewer than 3 sizes, or what `resampled_means` refuses.
        SettingsError: An unknown metric or one of which less is better, or no resample.
    """
    if metric in LOWER_IS_BETTER:
        raise SettingsError(
            f"cannot fit a learning curve to '{metric}': a metric that rises with more labels is "
            "needed; change `metric`"
        )
    sizes = _check_sizes(judged)
    check_settings(0.5, resamples)
    methods = [judged[size] for size in sizes]
    scores = [np.mean(list(task_means(method, metric).values())) for method in methods]
    resampled = resampled_means(methods, metric, over_tasks=False, resamples=resamples, seed=seed)
    return ScoresBySize(sizes, np.array(scores), resampled.T)


def gain_of_doubling(scored: ScoresBySize, labels: int, *, level: float) -> Interval:
    """Predict how much twice as many labels would add to the score, as `gain_of` does."""
    return gain_of(scored, labels, more=labels, level=level)


def gain_of(scored: ScoresBySize, labels: int, *, more: int, level: float) -> Interval:
    """Predict how much so many more labels would add to the score.

    Never below 0, as no curve falls: where the interval begins at 0, more labels may not pay.

    Args:
        labels: How many there are now.

    Raises:
        SettingsError: A level that is not between 0 and 1.
    """
    check_settings(level, len(scored.resampled))
    curves = fit_curves(scored.sizes, np.vstack([scored.scores, scored.resampled]))
    gains = _predict(curves, labels + more) - _predict(curves, labels)
    return percentile_interval(float(gains[0]), gains[1:], level)


def curve_of(scored: ScoresBySize, sizes: Sequence[int]) -> Numbers:
    """Scores of the fitted curve at some numbers of labels, `(sizes,)`."""
    curve = fit_curves(scored.sizes, scored.scores[None])
    return np.array([_predict(curve, size)[0] for size in sizes])


def _predict(curves: Numbers, labels: float) -> Numbers:
    ceiling, scale, rate = curves.T
    return np.asarray(ceiling - scale * labels**-rate)


def fit_curves(sizes: Sequence[int], scores: Numbers) -> Numbers:
    """Fit a curve to each row of scores, `(curves, sizes)`: ceiling, scale, rate, `(curves, 3)`.

    For a given rate the best ceiling and scale have a closed form, so that only the rate is
    searched: nothing to start from, nothing that fails to converge.
    """
    # Over the smallest size the powers are 1 and below, whatever the rate.
    relative = np.array(sizes) / sizes[0]
    row = np.arange(len(scores))
    rates = np.broadcast_to(np.geomspace(_SLOWEST, _FASTEST, _RATES), (len(scores), _RATES))
    step = (_FASTEST / _SLOWEST) ** (1 / (_RATES - 1))
    for _ in range(_SEARCHES):
        powers = relative ** -rates[..., None]
        ceiling, scale = _fit_line(powers, scores[:, None])
        errors = ((ceiling[..., None] - scale[..., None] * powers - scores[:, None]) ** 2).sum(-1)
        best = errors.argmin(1)
        curves = np.stack([ceiling[row, best], scale[row, best], rates[row, best]], axis=1)
        around = curves[:, 2:] * np.geomspace(1 / step, step, _RATES)
        rates, step = np.clip(around, _SLOWEST, _FASTEST), step ** (2 / (_RATES - 1))
    curves[:, 1] *= sizes[0] ** curves[:, 2]
    return curves


def _fit_line(powers: Numbers, scores: Numbers) -> tuple[Numbers, Numbers]:
    """Least squares of scores on ceiling - scale * powers; ceiling at most 1, scale at least 0.

    Where the free solution breaks a bound, the best lies on it. It breaks but one: no score
    is above 1, so that a ceiling above 1 comes with a scale above 0.
    """
    mean, center = powers.mean(-1), scores.mean(-1)
    spread = powers - mean[..., None]
    scale = -(spread * (scores - center[..., None])).sum(-1) / (spread**2).sum(-1)
    scale = np.maximum(scale, 0)
    ceiling = center + scale * mean
    to_one = (powers * (1 - scores)).sum(-1) / (powers**2).sum(-1)
    return np.minimum(ceiling, 1), np.where(ceiling > 1, to_one, scale)


def _check_sizes(scores: Mapping[int, object]) -> tuple[int, ...]:
    sizes = tuple(sorted(scores))
    if len(sizes) < FEWEST_SIZES or sizes[0] < 1:
        raise DataError(
            f"cannot fit a learning curve to scores at {list(sizes)} labels: at least "
            f"{FEWEST_SIZES} numbers of labels, none below 1, are needed; add sizes"
        )
    return sizes


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
        The first crossing of the means, and an interval of it.

    Raises:
        DataError: No number of labels, one below 0, or what `resampled_means` refuses.
        SettingsError: An unknown metric, no resample, or a level not between 0 and 1.
    """
    check_settings(level, resamples)
    labels = _check_labels(rival)
    better = -1.0 if metric in LOWER_IS_BETTER else 1.0
    methods = [ours, *(rival[number] for number in labels)]
    means = np.array([np.mean(list(task_means(method, metric).values())) for method in methods])
    resampled = resampled_means(
        methods, metric, over_tasks=over_tasks, resamples=resamples, seed=seed
    )
    points = better * np.vstack([means, resampled.T])
    crossings = first_crossings(np.array(labels), points[:, 1:], points[:, 0])
    ordered = np.sort(crossings[1:])
    # Of order statistics, as nothing lies between a number and infinity.
    low = ordered[math.floor((1 - level) / 2 * (resamples - 1))]
    high = ordered[math.ceil((1 + level) / 2 * (resamples - 1))]
    ends = (crossings[0], low, high)
    return BreakEven(*(float(value) if math.isfinite(value) else None for value in ends))


def first_crossings(labels: Numbers, curves: Numbers, scores: Numbers) -> Numbers:
    """Labels at which each curve, `(curves, labels)`, first reaches its score, `(curves,)`.

    Between the numbers of labels that were measured a curve is taken as straight over
    log(1 + labels), so that 0 labels have their place. It may go down again.

    Returns:
        `(curves,)`: the smallest number if the score is reached there, infinite if it never is.
    """
    places = np.log1p(labels)
    reached = curves >= scores[:, None]
    right = reached.argmax(1)
    left = np.maximum(right - 1, 0)
    row = np.arange(len(curves))
    from_left, rise = scores - curves[row, left], curves[row, right] - curves[row, left]
    # At the first number there is no segment; nor is there one that rises.
    share = np.divide(from_left, rise, out=np.ones(len(curves)), where=rise > 0)
    between = np.expm1(places[left] + share * (places[right] - places[left]))
    crossings = np.where(share == 1, labels[right], between)
    return np.where(reached.any(1), crossings, np.inf)


def _check_labels(curve: Mapping[int, object]) -> list[int]:
    labels = sorted(curve)
    if not labels or labels[0] < 0:
        raise DataError(
            f"cannot find a break-even on a curve at {labels} labels: at least one number of "
            "labels, none below 0, is needed; give the rival's scores by number of labels"
        )
    return labels
