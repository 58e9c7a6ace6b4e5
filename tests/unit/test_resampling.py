"""Resampling tasks, draws and rows: hand-worked chances, known variances, coverage."""

import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from nlp_meta.data.answers import Prediction, share_interval
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation import statistics
from nlp_meta.evaluation.judged import Judged
from nlp_meta.evaluation.metrics import LABEL_METRICS
from nlp_meta.evaluation.statistics import (
    Interval,
    interval_of_metric,
    resampled_interval,
    resampled_means,
)

LABELS = ("bad", "good")
RIGHT = Prediction("good", {"bad": 0.2, "good": 0.8})
WRONG = Prediction("bad", {"bad": 0.8, "good": 0.2})


def judged_of(right: Sequence[Sequence[object]], *, task: str = "a", key: str = "") -> list[Judged]:
    """Answers of draws to rows, right where the value is true."""
    return [
        Judged(
            task=task,
            draw=draw,
            labels=LABELS,
            rows=tuple(f"{key or task}{row:04}" for row in range(len(rows))),
            true=("good",) * len(rows),
            predictions=tuple(RIGHT if one else WRONG for one in rows),
        )
        for draw, rows in enumerate(right)
    ]


def random_judged(tasks: int, draws: int, rows: int, *, seed: int = 0) -> list[Judged]:
    right = np.random.default_rng(seed).random((tasks, draws, rows)) < 0.8
    return [
        one for task in range(tasks) for one in judged_of(right[task].tolist(), task=f"t{task:02}")
    ]


def test_rows_that_all_answer_alike_have_the_interval_of_a_share():
    found = resampled_interval(
        judged_of([[1, 1, 1]] * 2), "accuracy", over_tasks=False, level=0.95, resamples=50, seed=0
    )

    assert (found.low, found.high) == share_interval(1.0, 3)


def test_a_row_is_resampled_once_for_all_draws():
    """By hand: of two rows one is right in both draws, so that a resample scores 0, 0.5 or 1 with
    chances 1/4, 1/2, 1/4, and its 10 % quantile is 0.

    Were the rows resampled for each draw anew, 0 would have chance 1/16.
    """
    judged = judged_of([[1, 0], [1, 0]])

    found = resampled_interval(
        judged, "accuracy", over_tasks=False, level=0.8, resamples=2000, seed=0
    )

    assert found == Interval(0.5, 0.0, 1.0)


def test_the_interval_of_a_small_calibration_error_holds_it():
    """Answers right as often as they are sure: resampled, such an error only grows, and plain
    percentiles of the resamples all lie above it.
    """
    judged = random_judged(2, 3, 100)
    value = float(np.mean([_ece(one) for one in judged]))

    plain = resampled_means([judged], "ece", over_tasks=False, resamples=400, seed=0)[0]
    found = resampled_interval(judged, "ece", over_tasks=False, level=0.95, resamples=400, seed=0)

    assert plain.mean() > value
    assert found.mean == pytest.approx(value)
    assert 0 <= found.low < value < found.high


def _ece(one: Judged) -> float:
    return LABEL_METRICS["ece"](one.true, one.predictions, one.labels)


@pytest.mark.parametrize(("key", "low"), [("shared", 0.0), ("", 0.25)])
def test_rows_that_tasks_share_by_key_are_resampled_together(key, low):
    """By hand: with shared rows as above; with rows of their own both tasks score 0 with chance
    1/16, and at most 0.25 with chance 5/16.
    """
    judged = judged_of([[1, 0]], task="a", key=key) + judged_of([[1, 0]], task="b", key=key)

    found = resampled_interval(
        judged, "accuracy", over_tasks=False, level=0.8, resamples=4000, seed=0
    )

    assert found == Interval(0.5, low, 1 - low)


def test_draws_vary_as_the_unbiased_variance_of_their_mean():
    """By hand: scores 1, 1, 1, 0 have variance 0.25, their mean 0.25 / 4, a deviation of 0.25."""
    judged = judged_of([[1, 1], [1, 1], [1, 1], [0, 0]])

    means = resampled_means([judged], "accuracy", over_tasks=False, resamples=8000, seed=0)

    assert means.mean() == pytest.approx(0.75, abs=0.01)
    assert means.std() == pytest.approx(0.25, rel=0.03)


def test_tasks_vary_as_the_unbiased_variance_of_their_mean_if_over_tasks():
    """By hand: as above, with tasks in place of draws; for these very tasks nothing varies."""
    scores = {"a": 1, "b": 1, "c": 1, "d": 0}
    judged = [one for task, right in scores.items() for one in judged_of([[right] * 2], task=task)]

    over, fixed = (
        resampled_means([judged], "accuracy", over_tasks=over, resamples=8000, seed=0)
        for over in (True, False)
    )

    assert over.std() == pytest.approx(0.25, rel=0.03)
    assert fixed.min() == fixed.max() == 0.75


def test_a_task_chosen_twice_has_its_draws_chosen_anew():
    """By hand: of 3 tasks 2 places are filled; each place shows one of its task's two draws, 0 or
    1, so both show 0 with chance 1/4, whether the task is the same (1/3) or not.

    Did equal places show one draw, 0 would have chance 1/3 * 1/2 + 2/3 * 1/4 = 1/3.
    """
    judged = [one for task in "abc" for one in judged_of([[1, 1], [0, 0]], task=task)]

    means = resampled_means([judged], "accuracy", over_tasks=True, resamples=8000, seed=0)

    assert (means == 0).mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("metric", LABEL_METRICS)
def test_one_draw_of_one_task_has_its_rows_resampled_alone(metric):
    """Another route: the interval of the metric over one test set."""
    judged = random_judged(1, 1, 40)

    found = resampled_interval(judged, metric, over_tasks=False, level=0.9, resamples=80, seed=3)

    expected = interval_of_metric(
        judged[0].true,
        judged[0].predictions,
        metric,
        labels=LABELS,
        level=0.9,
        resamples=80,
        seed=3,
    )
    assert (found.mean, found.low, found.high) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )


def test_a_method_with_one_draw_stands_for_all_draws_alike():
    """The same numbers as if the one draw's answers had been given in every draw."""
    several = random_judged(2, 3, 20)
    alike = [
        replace(one, predictions=several[0 if one.task == "t00" else 3].predictions)
        for one in several
    ]
    once = [one for one in alike if one.draw == 0]

    for over_tasks in (False, True):
        means = resampled_means(
            [several, alike, once], "macro_f1", over_tasks=over_tasks, resamples=50, seed=0
        )
        np.testing.assert_allclose(means[1], means[2])
        assert not np.allclose(means[0], means[1])


def test_the_order_of_answers_and_rows_does_not_matter():
    judged = random_judged(3, 4, 25)
    turned = [
        replace(one, rows=one.rows[::-1], predictions=one.predictions[::-1]) for one in judged[::-1]
    ]

    first, second = (
        resampled_means([one], "macro_f1", over_tasks=True, resamples=40, seed=1)
        for one in (judged, turned)
    )

    np.testing.assert_allclose(first, second)


def test_draws_may_hold_different_rows():
    """By hand: rows 0 to 2 in one draw, 2 to 4 in the other; all right but row 2, in both."""
    first, second = judged_of([[1, 1, 0], [0, 1, 1]])
    second = replace(second, rows=("a0002", "a0003", "a0004"))

    found = resampled_interval(
        [first, second], "accuracy", over_tasks=False, level=0.9, resamples=500, seed=0
    )

    assert found.mean == pytest.approx(2 / 3)
    assert 0 <= found.low < found.mean < found.high <= 1


def test_resamples_made_in_parts_are_as_good(monkeypatch):
    """By hand, as above: 0, 0.5, 1 with chances 1/4, 1/2, 1/4, here 3 resamples at a time."""
    monkeypatch.setattr(statistics, "_CHUNK", 6)

    means = resampled_means(
        [judged_of([[1, 0], [1, 0]])], "accuracy", over_tasks=False, resamples=2000, seed=0
    )[0]

    shares = [(means == value).mean() for value in (0, 0.5, 1)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_sixty_cells_of_400_rows_in_2000_resamples_take_seconds_and_little_memory():
    judged = random_judged(12, 5, 400)

    tracemalloc.start()
    started = time.process_time()
    resampled_interval(judged, "macro_f1", over_tasks=True, level=0.95, resamples=2000, seed=0)
    seconds, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert seconds < 8
    assert peak < 300e6


def simulate(generator: np.random.Generator, tasks: int, draws: int, rows: int) -> list[Judged]:
    """Answers that depend on the task, its draw, its row and chance, right for half of all."""
    shape = [(tasks, 1, 1), (tasks, draws, 1), (tasks, 1, rows), (tasks, draws, rows)]
    effects = [
        generator.normal(0, scale, size)
        for scale, size in zip((0.6, 0.4, 1, 1), shape, strict=True)
    ]
    right = sum(effects) > 0
    return [one for task in range(tasks) for one in judged_of(right[task].tolist(), task=str(task))]


def test_a_95_percent_interval_over_tasks_holds_the_truth_about_so_often():
    """The truth is 0.5, by symmetry: new tasks, draws and rows 100 times."""
    generator = np.random.default_rng(0)
    found = [
        resampled_interval(
            simulate(generator, 6, 3, 50),
            "accuracy",
            over_tasks=True,
            level=0.95,
            resamples=200,
            seed=seed,
        )
        for seed in range(100)
    ]

    held = np.mean([one.low <= 0.5 <= one.high for one in found])

    assert 0.9 <= held <= 1.0


def test_a_95_percent_interval_of_these_tasks_holds_the_truth_about_so_often():
    """The truth is 0.5, as only draws and rows vary here: 3 tasks that are alike."""
    generator = np.random.default_rng(0)
    held = []
    for seed in range(100):
        draws, rows = generator.normal(0, 0.5, (3, 5, 1)), generator.normal(0, 1, (3, 1, 60))
        right = draws + rows + generator.normal(0, 0.5, (3, 5, 60)) > 0
        judged = [
            one for task in range(3) for one in judged_of(right[task].tolist(), task=str(task))
        ]
        found = resampled_interval(
            judged, "accuracy", over_tasks=False, level=0.95, resamples=200, seed=seed
        )
        held.append(found.low <= 0.5 <= found.high)

    assert 0.9 <= np.mean(held) <= 0.99


def test_too_little_to_resample_and_methods_apart_are_refused():
    one, two = random_judged(1, 3, 5), random_judged(2, 3, 5)
    cases = [
        ([one], True, "1 task: at least 2"),
        ([judged_of([[1]])], False, "1 test row of task 'a'"),
        ([one, two], False, "on other tasks"),
        ([one, one[:2]], False, "draws of task 't00' together"),
        ([[]], False, "0 episodes"),
    ]
    for methods, over_tasks, message in cases:
        with pytest.raises(DataError, match=message):
            resampled_means(methods, "accuracy", over_tasks=over_tasks, resamples=5, seed=0)


@pytest.mark.parametrize(("level", "resamples"), [(0.0, 10), (1.0, 10), (0.95, 0)])
def test_a_level_or_a_number_of_resamples_without_sense_is_refused(level, resamples):
    with pytest.raises(SettingsError, match="change `level` or `resamples`"):
        resampled_interval(
            random_judged(1, 2, 5),
            "accuracy",
            over_tasks=False,
            level=level,
            resamples=resamples,
            seed=0,
        )
