"""Learning curves: known curves, scipy's least squares, hand arithmetic, noise."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from nlp_meta.data.answers import Prediction
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation.judged import Judged
from nlp_meta.evaluation.learning_curve import (
    LearningCurve,
    extrapolate,
    fit_learning_curve,
    gain_of_doubling,
    scores_of_answers,
    scores_of_repeats,
)
from nlp_meta.evaluation.statistics import Interval

SIZES = (8, 16, 32, 64)
RESAMPLES = {"resamples": 200, "seed": 0}


def power_law(sizes, ceiling, scale, rate):
    return ceiling - scale * np.asarray(sizes, dtype=float) ** -rate


def judged_of(right, sizes=SIZES):
    """Held-out answers, right where `(sizes, repeats, rows)` is true."""
    answers = {True: Prediction("good", {"good": 1.0}), False: Prediction("bad", {"bad": 1.0})}
    rows = tuple(f"{row:03}" for row in range(right.shape[2]))
    return {
        size: [
            Judged(
                task="own",
                draw=repeat,
                labels=("bad", "good"),
                rows=rows,
                true=("good",) * len(rows),
                predictions=tuple(answers[bool(one)] for one in right[number, repeat]),
            )
            for repeat in range(right.shape[1])
        ]
        for number, size in enumerate(sizes)
    }


@pytest.mark.parametrize("truth", [(0.9, 0.8, 0.5), (1.0, 1.2, 0.3), (0.8, 5.0, 1.5)])
def test_a_curve_without_noise_is_found_again(truth):
    found = fit_learning_curve(dict(zip(SIZES, power_law(SIZES, *truth), strict=True)))

    assert (found.ceiling, found.scale, found.rate) == pytest.approx(truth, rel=0.02)
    assert found.predict(128) == pytest.approx(power_law(128, *truth), abs=1e-4)


def test_the_fit_is_as_close_as_that_of_scipy():
    for seed in range(5):
        noise = np.random.default_rng(seed).normal(0, 0.01, len(SIZES))
        scores = power_law(SIZES, 0.85, 1.0, 0.6) + noise
        bounds = ([0, 0, 0.01], [1, np.inf, 4])
        expected, _ = curve_fit(power_law, SIZES, scores, p0=(0.9, 1, 0.5), bounds=bounds)

        found = fit_learning_curve(dict(zip(SIZES, scores, strict=True)))

        ours = np.array([found.predict(size) for size in SIZES])
        error, least = (((one - scores) ** 2).sum() for one in (ours, power_law(SIZES, *expected)))
        assert error <= least + 1e-7


@pytest.mark.parametrize("scores", [(0.7, 0.7, 0.7), (0.8, 0.7, 0.6), (0.6, 0.9, 0.3)])
def test_scores_that_do_not_rise_give_a_flat_line_at_their_mean(scores):
    found = fit_learning_curve(dict(zip((8, 16, 32), scores, strict=True)))

    assert found.predict(8) == pytest.approx(np.mean(scores))
    assert found.predict(1000) == pytest.approx(np.mean(scores))


def test_no_curve_falls_or_passes_one_whatever_the_scores():
    generator = np.random.default_rng(0)
    for _ in range(100):
        sizes = np.sort(
            generator.choice(np.arange(1, 500), size=generator.integers(3, 7), replace=False)
        )
        scores = generator.choice(
            [generator.random(len(sizes)), generator.integers(2, size=len(sizes))]
        )

        found = fit_learning_curve(dict(zip(sizes.tolist(), scores.tolist(), strict=True)))

        assert found.ceiling <= 1
        assert found.scale >= 0
        assert found.rate > 0
        assert np.isfinite(found.predict(1)) and found.predict(1) <= found.predict(10_000) <= 1


def test_a_predicted_score_is_that_of_the_formula():
    """By hand: 0.9 - 0.8 / sqrt(64)."""
    assert LearningCurve(ceiling=0.9, scale=0.8, rate=0.5).predict(64) == pytest.approx(0.8)


def test_doubling_gains_what_the_curve_rises():
    """By hand: 0.8 * (1/8 - 1/sqrt(128)) from 64 labels on; repeats that agree leave no doubt."""
    truth = power_law(SIZES, 0.9, 0.8, 0.5)
    scored = scores_of_repeats(
        {size: [score] * 3 for size, score in zip(SIZES, truth, strict=True)}, **RESAMPLES
    )

    found = gain_of_doubling(scored, 64, level=0.95)

    expected = 0.8 * (1 / 8 - 1 / np.sqrt(128))
    assert (found.mean, found.low, found.high) == pytest.approx((expected,) * 3, abs=1e-4)


def test_flat_scores_gain_nothing_and_stay_where_they_are():
    scored = scores_of_repeats({size: [0.6, 0.6] for size in SIZES}, **RESAMPLES)

    gain = gain_of_doubling(scored, 64, level=0.9)
    later = extrapolate(scored, [128, 256], level=0.9)

    assert (gain.mean, gain.low, gain.high) == pytest.approx((0, 0, 0))
    assert [(one.mean, one.low, one.high) for one in later.values()] == [
        pytest.approx((0.6, 0.6, 0.6))
    ] * 2


def test_two_repeats_leave_two_curves():
    """By hand: one of two repeats is drawn each time, so the interval ends at their own curves."""
    low, high = power_law(SIZES, 0.8, 0.8, 0.5), power_law(SIZES, 0.9, 0.8, 0.5)
    scores = dict(zip(SIZES, zip(low, high, strict=True), strict=True))

    found = extrapolate(scores_of_repeats(scores, **RESAMPLES), [128], level=0.95)[128]

    at_128 = 0.8 / np.sqrt(128)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (0.85 - at_128, 0.8 - at_128, 0.9 - at_128), abs=1e-3
    )


def test_an_interval_holds_the_true_score_of_twice_the_labels_about_so_often():
    generator = np.random.default_rng(0)
    truth = power_law(SIZES, 0.9, 1.0, 0.5)
    held = []
    for seed in range(60):
        noisy = np.clip(truth[:, None] + generator.normal(0, 0.03, (len(SIZES), 8)), 0, 1)
        scores = dict(zip(SIZES, noisy.tolist(), strict=True))
        scored = scores_of_repeats(scores, resamples=100, seed=seed)
        found = extrapolate(scored, [128], level=0.95)[128]
        held.append(found.low <= power_law(128, 0.9, 1.0, 0.5) <= found.high)

    assert np.mean(held) >= 0.85


def test_rows_add_to_the_doubt_that_repeats_leave():
    """Repeats that answer nearly alike say little of other rows; 40 rows are few."""
    generator = np.random.default_rng(0)
    chance = power_law(SIZES, 0.9, 0.8, 0.5)[:, None, None]
    right = (generator.random((1, 1, 40)) + generator.normal(0, 0.02, (4, 5, 40))) < chance
    scores = dict(zip(SIZES, right.mean(2).tolist(), strict=True))

    of_rows = scores_of_answers(judged_of(right), "accuracy", **RESAMPLES)
    of_repeats = scores_of_repeats(scores, **RESAMPLES)

    np.testing.assert_allclose(of_rows.scores, of_repeats.scores)
    with_rows, without = (
        extrapolate(scored, [64], level=0.95)[64] for scored in (of_rows, of_repeats)
    )
    assert with_rows.high - with_rows.low > 3 * (without.high - without.low)


def test_the_same_seed_gives_the_same_interval():
    generator = np.random.default_rng(0)
    scores = {size: generator.uniform(0.5, 0.7, 6).tolist() for size in SIZES}

    first, again, other = (
        extrapolate(scores_of_repeats(scores, resamples=50, seed=seed), [100], level=0.9)[100]
        for seed in (0, 0, 1)
    )

    assert isinstance(first, Interval)
    assert first == again != other


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({8: [0.5, 0.6], 16: [0.6, 0.6]}, r"scores at \[8, 16\] labels: at least 3"),
        ({0: [0.5, 0.6], 8: [0.6, 0.6], 16: [0.6, 0.6]}, "none below 1"),
        ({8: [0.5], 16: [0.6], 32: [0.7]}, "1 repeats of its sizes"),
        ({8: [0.5], 16: [0.6, 0.6], 32: [0.7, 0.6]}, "1 and 2 repeats"),
        ({8: [0.5, 0.6], 16: [0.6, 1.6], 32: [0.7, 0.6]}, "from 0.5 to 1.6"),
        ({8: [0.5, 0.6], 16: [0.6, float("nan")], 32: [0.7, 0.6]}, "from 0 to 1"),
    ],
)
def test_scores_that_show_no_curve_are_refused(scores, message):
    with pytest.raises(DataError, match=message):
        scores_of_repeats(scores, **RESAMPLES)


def test_a_metric_that_should_fall_is_refused():
    with pytest.raises(SettingsError, match="a metric that rises"):
        scores_of_answers(judged_of(np.ones((4, 2, 5))), "ece", **RESAMPLES)
