"""Break-even: crossings worked out by hand, and answers whose resamples are known."""

from dataclasses import replace

import numpy as np
import pytest

from nlp_meta.data.answers import Prediction
from nlp_meta.errors import DataError
from nlp_meta.evaluation.judged import Judged
from nlp_meta.evaluation.learning_curve import BreakEven, break_even, first_crossings

LABELS = ("bad", "good")
SETTINGS = {"over_tasks": False, "level": 0.95, "resamples": 200, "seed": 0}


def judged_of(share: float, *, draws: int = 3, rows: int = 40, probability: float = 1.0):
    """Answers of which the first `share` are right, alike in all draws."""
    right = Prediction("good", {"bad": 1 - probability, "good": probability})
    wrong = Prediction("bad", {"bad": probability, "good": 1 - probability})
    count = round(share * rows)
    return [
        Judged(
            task="a",
            draw=draw,
            labels=LABELS,
            rows=tuple(f"{row:03}" for row in range(rows)),
            true=("good",) * rows,
            predictions=(right,) * count + (wrong,) * (rows - count),
        )
        for draw in range(draws)
    ]


def labels_to_reach(score: float, curve: dict[int, float]) -> float:
    labels = sorted(curve)
    scores = np.array([[curve[number] for number in labels]])
    return first_crossings(np.array(labels), scores, np.array([score]))[0]


@pytest.mark.parametrize(
    ("score", "labels"),
    [(0.4, 0), (0.5, 0), (0.6, 1), (0.7, 3), (0.75, 7), (0.8, 15), (0.81, np.inf)],
)
def test_labels_are_found_on_a_straight_line_over_their_logarithm(score, labels):
    """By hand: log(1 + n) is 0, log 4, log 16 at 0, 3, 15; halves lie at log 2 and log 8."""
    found = labels_to_reach(score, {15: 0.8, 0: 0.5, 3: 0.7})

    assert found == pytest.approx(labels)


def test_a_curve_that_falls_again_is_left_at_its_first_crossing():
    """By hand: 0.65 lies at three quarters of log 4 on the first segment: 4^0.75 - 1."""
    found = labels_to_reach(0.65, {0: 0.5, 3: 0.7, 15: 0.6, 63: 0.9})

    assert found == pytest.approx(4**0.75 - 1)


def test_a_curve_that_begins_above_is_left_at_its_beginning():
    assert labels_to_reach(0.5, {8: 0.6, 16: 0.5}) == 8
    assert labels_to_reach(0.5, {8: 0.6}) == 8


def test_answers_that_never_vary_give_an_interval_of_no_width():
    """By hand: all wrong at 0 labels, all right at 3."""
    rival = {0: judged_of(0), 3: judged_of(1)}

    assert break_even(judged_of(1), rival, "accuracy", **SETTINGS) == BreakEven(3, 3, 3)
    assert break_even(judged_of(0), rival, "accuracy", **SETTINGS) == BreakEven(0, 0, 0)


def test_a_rival_that_never_catches_up_has_none():
    rival = {0: judged_of(0), 16: judged_of(0.5)}

    assert break_even(judged_of(1), rival, "accuracy", **SETTINGS) == BreakEven(None, None, None)


def test_a_calibration_error_is_reached_from_above():
    """By hand: all right, sure to 0.5 and 1: errors 0.5 and 0; 0.1 lies at 0.8 of log 4."""
    rival = {0: judged_of(1, probability=0.5), 3: judged_of(1, probability=1.0)}

    found = break_even(judged_of(1, probability=0.9), rival, "ece", **SETTINGS)

    assert found.labels == pytest.approx(4**0.8 - 1)
    assert (found.low, found.high) == pytest.approx((found.labels, found.labels))


def test_we_and_the_rival_meet_the_same_resamples():
    """By hand: with our very answers at 16 labels the rival is level in every resample."""
    rival = {0: judged_of(0), 16: judged_of(0.6)}

    found = break_even(judged_of(0.6), rival, "accuracy", **SETTINGS)

    assert found == BreakEven(16, 16, 16)


def test_a_rival_that_is_level_on_other_rows_is_not_so_in_every_resample():
    ours = judged_of(0.5)
    mirrored = [replace(one, predictions=one.predictions[::-1]) for one in ours]

    found = break_even(ours, {0: judged_of(0), 16: mirrored}, "accuracy", **SETTINGS)

    assert found.labels == 16
    assert found.low is not None and found.low < 16
    assert found.high is None


def test_zero_labels_may_come_with_one_draw():
    rival = {0: judged_of(0.2, draws=1), 3: judged_of(0.6)}

    found = break_even(judged_of(0.4), rival, "accuracy", **SETTINGS)

    assert found.labels == pytest.approx(1)
    assert found.low is not None and found.high is not None
    assert 0 < found.low < 1 < found.high < 3


def test_the_interval_narrows_with_more_rows():
    widths = []
    for rows in (40, 4000):
        rival = {0: judged_of(0.2, rows=rows), 3: judged_of(0.6, rows=rows)}
        found = break_even(judged_of(0.4, rows=rows), rival, "accuracy", **SETTINGS)
        assert found.low is not None and found.high is not None
        widths.append(found.high - found.low)

    assert widths[1] == pytest.approx(widths[0] / 10, rel=0.4)
    assert np.isfinite(widths).all()


@pytest.mark.parametrize("curve", [{}, {-1: judged_of(0.5), 3: judged_of(0.6)}])
def test_a_curve_without_numbers_of_labels_is_refused(curve):
    with pytest.raises(DataError, match="at least one number of labels, none below 0"):
        break_even(judged_of(0.5), curve, "accuracy", **SETTINGS)
