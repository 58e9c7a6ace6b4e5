"""Paired comparisons: hand-worked sign patterns, scipy's exact tests, and equal methods."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from nlp_meta.data.answers import Prediction
from nlp_meta.errors import DataError
from nlp_meta.evaluation import statistics
from nlp_meta.evaluation.judged import Judged
from nlp_meta.evaluation.metrics import LABEL_METRICS
from nlp_meta.evaluation.statistics import (
    Paired,
    count_needed_draws,
    holm,
    least_p,
    paired_difference,
    sign_flip,
)

LABELS = ("bad", "good")
RIGHT = Prediction("good", {"bad": 0.2, "good": 0.8})
WRONG = Prediction("bad", {"bad": 0.8, "good": 0.2})
SETTINGS = {"level": 0.95, "resamples": 400, "seed": 0}


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


def of_tasks(right: np.ndarray, *, key: str = "") -> list[Judged]:
    """Answers right where `(tasks, draws, rows)` is true."""
    return [
        one
        for task, draws in enumerate(right)
        for one in judged_of(draws.tolist(), task=str(task), key=key)
    ]


@pytest.mark.parametrize("metric", LABEL_METRICS)
@pytest.mark.parametrize("over_tasks", [False, True])
def test_a_method_does_not_differ_from_itself(metric, over_tasks):
    judged = of_tasks(np.random.default_rng(0).random((3, 4, 20)) < 0.7)

    found = paired_difference(judged, judged, metric, over_tasks=over_tasks, **SETTINGS)

    assert found == Paired(0.0, 0.0, 0.0, 1.0)


def test_what_is_hard_for_both_is_not_in_the_interval_of_their_difference():
    """By hand: the rival is wrong on the same rows and on every second one of the others; so
    whatever rows are drawn, ours is better by about 0.25 and neither row nor draw adds much.
    """
    ours = np.tile([1, 1, 0, 0], (1, 3, 100))
    rival = np.tile([1, 0, 0, 0], (1, 3, 100))

    found = paired_difference(
        of_tasks(ours), of_tasks(rival), "accuracy", over_tasks=False, **SETTINGS
    )

    half = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert found.difference == pytest.approx(0.25)
    assert found.low == pytest.approx(0.25 - half, abs=0.25 * half)
    assert found.high == pytest.approx(0.25 + half, abs=0.25 * half)


@pytest.mark.parametrize("chunk", [2_000_000, 1000])
def test_answers_of_one_draw_are_tested_as_by_mcnemar(chunk, monkeypatch):
    """Another route: the binomial test of the 12 rows that one method alone has right."""
    monkeypatch.setattr(statistics, "_CHUNK", chunk)
    ours = [1] * 10 + [0] * 2 + [1] * 20
    rival = [0] * 10 + [1] * 2 + [1] * 20

    found = paired_difference(
        judged_of([ours]), judged_of([rival]), "accuracy",
        over_tasks=False, level=0.9, resamples=20_000, seed=0,
    )  # fmt: skip

    assert found.p == pytest.approx(stats.binomtest(10, 12).pvalue, abs=0.005)


def test_over_tasks_the_signs_of_tasks_are_turned():
    """By hand: better in each of 6 tasks is as much as 2 of 64 patterns give, of 3 tasks 2 of 8."""
    ours, rival = np.ones((6, 2, 20)), np.ones((6, 2, 20))
    rival[:, :, :5] = 0

    six, three = (
        paired_difference(
            of_tasks(ours[:n]), of_tasks(rival[:n]), "accuracy", over_tasks=True, **SETTINGS
        )
        for n in (6, 3)
    )

    assert (six.p, three.p) == (2 / 64, 2 / 8)


def test_tasks_that_share_their_test_rows_prove_less():
    """By hand: the same 3 rows make the difference in all tasks, 2 of 8 of their patterns do."""
    ours, rival = np.ones((8, 1, 20)), np.ones((8, 1, 20))
    rival[:, :, :3] = 0

    apart, shared = (
        paired_difference(
            of_tasks(ours, key=key), of_tasks(rival, key=key), "accuracy",
            over_tasks=True, **SETTINGS,
        )
        for key in ("", "same")
    )  # fmt: skip

    assert apart.p == 2 / 256
    assert shared.p > 0.1


def test_equal_methods_are_rarely_told_apart_though_their_draws_share_rows():
    """Two methods of one law, 100 times: what each finds hard is the same in all its draws, so
    that a test over draws alone, which knows nothing of other rows, finds too many differences.
    """
    generator = np.random.default_rng(1)
    values, of_draws = [], []
    for seed in range(100):
        rows, draws = (
            generator.normal(0, 1.5, (2, 3, 1, 50)),
            generator.normal(0, 0.2, (2, 3, 4, 1)),
        )
        right = rows + draws + generator.normal(0, 0.5, (2, 3, 4, 50)) + 1 > 0
        ours, rival = map(of_tasks, right)
        found = paired_difference(
            ours, rival, "accuracy", over_tasks=False, level=0.95, resamples=200, seed=seed
        )
        values.append(found.p)
        cells = (right[0].mean(-1) - right[1].mean(-1)).ravel()
        of_draws.append(sign_flip(cells, resamples=200, seed=seed))

    assert np.mean(np.array(of_draws) <= 0.05) > 0.15
    assert np.mean(np.array(values) <= 0.05) <= 0.08
    assert np.mean(np.array(values) <= 0.5) == pytest.approx(0.5, abs=0.12)


def test_sign_patterns_of_three_differences():
    """By hand: of 3, 1, -1 the sum 3 is reached by 5, 3, 3 and their negatives, not by 1."""
    assert sign_flip([3, 1, -1], resamples=1, seed=0) == 6 / 8
    assert sign_flip([1, 1, 1], resamples=1, seed=0) == 2 / 8
    assert sign_flip([0.0, 0.0], resamples=1, seed=0) == 1


def test_exact_sign_flips_agree_with_scipy():
    differences = np.random.default_rng(0).normal(0.4, 1, 9)
    expected = stats.permutation_test(
        (differences, np.zeros(9)),
        lambda first, second: np.mean(first - second),
        permutation_type="samples",
        n_resamples=np.inf,
    )

    assert sign_flip(differences, resamples=1, seed=0) == pytest.approx(expected.pvalue)


def test_drawn_sign_flips_agree_with_the_binomial_test():
    """Another route: of 20 equal differences 15 are above 0."""
    differences = [0.1] * 15 + [-0.1] * 5

    found = sign_flip(differences, resamples=20_000, seed=0)

    assert found == pytest.approx(stats.binomtest(15, 20).pvalue, abs=0.004)
    assert found == sign_flip(differences, resamples=20_000, seed=0)


def test_no_drawn_p_is_zero():
    """By hand: none of 99 patterns is all plus or all minus, and the one found counts too."""
    assert sign_flip([1.0] * 40, resamples=99, seed=0) == 0.01


def test_holm_multiplies_by_the_number_of_hypotheses_left():
    """By hand: 3 * 0.01; 2 * 0.03; then 1 * 0.04, raised to the one before."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_is_bonferroni_closed_over_all_subsets():
    """Another route: a hypothesis falls when every set that holds it falls by Bonferroni."""
    values = np.random.default_rng(0).random(5) ** 3
    subsets = [s for n in range(1, 6) for s in itertools.combinations(range(5), n)]
    expected = [
        max(min(1, len(s) * min(values[list(s)])) for s in subsets if number in s)
        for number in range(5)
    ]

    assert holm(values.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[0.5, 1.2], [-0.1], [float("nan")]])
def test_holm_refuses_what_is_no_p_value(values):
    with pytest.raises(DataError, match="from 0 to 1"):
        holm(values)


def test_methods_judged_on_other_draws_or_rows_are_not_paired():
    ours = judged_of([[1, 0, 1], [1, 1, 1]])
    other_rows = [ours[0], replace(ours[1], rows=("x", "y", "z"))]
    cases = {"draw 1: only one": ours[:1], "draw 1: their test rows differ": other_rows}
    for message, rival in cases.items():
        with pytest.raises(DataError, match=message):
            paired_difference(ours, rival, "accuracy", over_tasks=False, **SETTINGS)


@pytest.mark.parametrize("draws", [2, 3, 5])
def test_no_difference_has_a_smaller_p_than_the_draws_allow(draws):
    """Ours is right everywhere, the rival on nothing: of 40 rows, so that draws alone bound it."""
    ours, rival = (judged_of([[right] * 40] * draws) for right in (True, False))

    found = paired_difference(
        ours, rival, "accuracy", over_tasks=False, level=0.95, resamples=20_000, seed=0
    )

    least = least_p(tasks=1, draws=draws, over_tasks=False)
    assert 0.95 * least <= found.p <= 2.2 * least


def test_the_draws_needed_are_the_fewest_that_could_show_a_difference():
    """By hand: 9 comparisons take p below 0.05 / 9, 1/180: 2^-8, of two tasks in four draws."""
    assert count_needed_draws(9, tasks=1) == 8
    assert count_needed_draws(9, tasks=2) == 4
    assert count_needed_draws(1, tasks=9) == 2
    assert least_p(tasks=6, draws=1, over_tasks=True) == 2 / 64
    assert least_p(tasks=6, draws=1, over_tasks=False) == 0
