"""Intervals: hand-worked resamples, known standard errors, and a plain loop."""

import time

import numpy as np
import pytest

from nlp_meta.data.answers import Prediction
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation.metrics import LABEL_METRICS
from nlp_meta.evaluation.statistics import (
    Interval,
    interval_of_draws,
    interval_of_metric,
)

LABELS = ("bad", "good")


def random_rows(rows: int, seed: int = 0) -> tuple[list[str], list[Prediction]]:
    generator = np.random.default_rng(seed)
    true = [LABELS[i] for i in generator.integers(2, size=rows)]
    answers = []
    for chance in generator.random(rows).tolist():
        label = LABELS[int(chance >= 0.5)]
        answers.append(Prediction(label, {"bad": 1 - chance, "good": chance}))
    return true, answers


def interval_of_right(right, **options) -> Interval:
    """The interval of accuracy, of rows that are right where `right` says so."""
    true = [LABELS[int(one)] for one in right]
    answers = [Prediction("good", {"bad": 0.0, "good": 1.0}) for _ in true]
    settings = {"labels": LABELS, "seed": 0, **options}
    return interval_of_metric(true, answers, "accuracy", **settings)


@pytest.mark.parametrize(("right", "low", "high"), [(5, 0.57, 1.0), (0, 0.0, 0.43)])
def test_rows_that_all_answer_alike_have_the_interval_of_a_share(right, low, high):
    """Wilson's bounds for 5 of 5 and 0 of 5, by hand: 5 / (5 + 1.96 ** 2) and the rest of it."""
    interval = interval_of_right([place < right for place in range(5)], resamples=50)

    assert interval.mean == right / 5
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.005)


def test_the_interval_of_a_proportion_is_that_of_the_normal_law():
    """By hand: 0.8 of 2000 rows, standard error sqrt(0.8 * 0.2 / 2000), 1.96 of them a side."""
    half = 1.96 * np.sqrt(0.8 * 0.2 / 2000)

    found = interval_of_right([True] * 1600 + [False] * 400, resamples=4000)

    assert found.mean == 0.8
    assert found.low == pytest.approx(0.8 - half, abs=0.1 * half)
    assert found.high == pytest.approx(0.8 + half, abs=0.1 * half)


def test_a_higher_level_is_wider_and_the_same_seed_is_the_same_interval():
    right = np.random.default_rng(0).random(100) < 0.6

    narrow, wide, again = (
        interval_of_right(right, level=level, resamples=500, seed=3) for level in (0.5, 0.9, 0.9)
    )

    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high
    assert wide == again
    assert wide != interval_of_right(right, level=0.9, resamples=499, seed=4)


@pytest.mark.parametrize("metric", LABEL_METRICS)
def test_a_metrics_interval_equals_scoring_each_resample_by_itself(metric):
    """Another route: the plain metric on resampled rows, one resample after another.

    Those of a calibration error are moved by their mean to the error itself, none below 0.
    """
    true, answers = random_rows(40)
    drawn = np.random.default_rng(5).integers(40, size=(60, 40))
    one_by_one = [
        LABEL_METRICS[metric]([true[i] for i in rows], [answers[i] for i in rows], LABELS)
        for rows in drawn
    ]

    if metric == "ece":
        moved = (
            np.array(one_by_one)
            - np.mean(one_by_one)
            + LABEL_METRICS[metric](true, answers, LABELS)
        )
        one_by_one = np.clip(moved, 0, None).tolist()

    found = interval_of_metric(true, answers, metric, labels=LABELS, resamples=60, seed=5)

    assert found.mean == pytest.approx(LABEL_METRICS[metric](true, answers, LABELS))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(one_by_one, [0.025, 0.975])))


def test_rows_of_one_text_are_resampled_together():
    """Ten rows of each of 40 texts say as much as the 40; ten of one that is right, as one row."""
    right = (np.random.default_rng(1).random(40) < 0.7).tolist()
    groups = [place // 10 for place in range(400)]

    repeated = interval_of_right(
        [one for one in right for _ in range(10)], groups=groups, resamples=90
    )

    assert repeated == interval_of_right(right, resamples=90)
    alone = interval_of_right([True] * 10, groups=[0] * 10, resamples=90)
    assert alone == interval_of_right([True], resamples=90)


def test_ten_thousand_rows_and_a_thousand_resamples_take_under_two_seconds():
    true, answers = random_rows(10_000)

    started = time.process_time()
    interval_of_metric(true, answers, "accuracy", labels=LABELS, resamples=1000, seed=0)

    assert time.process_time() - started < 2


def test_draws_are_resampled():
    """By hand: the mean of 0 and 1 is 0, 0.5, 1 with chances 1/4, 1/2, 1/4: all are in 95 %."""
    assert interval_of_draws([0.0, 1.0], resamples=400, seed=0) == Interval(0.5, 0.0, 1.0)
    assert interval_of_draws([0.2] * 4, resamples=400, seed=0).low == pytest.approx(0.2)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, float("nan")], [[0.5], [0.6]]])
def test_values_that_are_no_list_of_two_finite_numbers_are_refused(values):
    with pytest.raises(DataError, match="at least 2, all finite"):
        interval_of_draws(values, resamples=10, seed=0)


@pytest.mark.parametrize(("level", "resamples"), [(0.0, 10), (1.0, 10), (0.95, 0)])
def test_a_level_or_a_number_of_resamples_without_sense_is_refused(level, resamples):
    with pytest.raises(SettingsError, match="change `level` or `resamples`"):
        interval_of_right([True], level=level, resamples=resamples)


def test_an_unknown_metric_is_refused_with_those_there_are():
    true, answers = random_rows(3)
    with pytest.raises(SettingsError, match="'recall': one of accuracy, macro_f1, ece"):
        interval_of_metric(true, answers, "recall", labels=LABELS, resamples=10, seed=0)
