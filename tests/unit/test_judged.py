"""Answers as tables: weighted rows against repeated rows, and what does not fit together."""

from dataclasses import replace

import numpy as np
import pytest

from nlp_meta.data.answers import Prediction
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation.judged import Judged, find_blocks, tabulate, task_means, worst_task
from nlp_meta.evaluation.metrics import LABEL_METRICS

LABELS = ("bad", "fair", "good")


def random_judged(rows: int = 30, *, draw: int = 0, task: str = "a", key: str = "") -> Judged:
    generator = np.random.default_rng(draw)
    probabilities = generator.dirichlet([1, 1, 1], size=rows)
    return Judged(
        task=task,
        draw=draw,
        labels=LABELS,
        rows=tuple(f"{key}{number:03}" for number in range(rows)),
        true=tuple(LABELS[i] for i in generator.integers(3, size=rows)),
        predictions=tuple(
            Prediction(LABELS[int(row.argmax())], dict(zip(LABELS, row.tolist(), strict=True)))
            for row in probabilities
        ),
    )


@pytest.mark.parametrize("metric", LABEL_METRICS)
def test_weighted_keys_score_as_rows_that_are_there_as_often(metric):
    """Another route: the plain metric on rows repeated one by one.

    The second draw holds other rows than the first, and one key names two of its rows.
    """
    first, second = random_judged(30, draw=0), random_judged(20, draw=1)
    second = replace(second, rows=("029", *second.rows[1:19], "018"))
    times = np.random.default_rng(9).integers(4, size=30)

    table = tabulate([first, second], metric)["a"]
    weights = times[None].astype(float)
    found = table.finish(table.sums(weights), weights @ table.counts)

    for column, one in enumerate((first, second)):
        rows = [row for row, key in enumerate(one.rows) for _ in range(times[int(key)])]
        true, predictions = zip(*((one.true[i], one.predictions[i]) for i in rows), strict=True)
        assert found[0, column] == pytest.approx(LABEL_METRICS[metric](true, predictions, LABELS))


def test_a_draw_without_a_row_in_a_resample_keeps_its_score():
    first, second = random_judged(4, draw=0), random_judged(4, draw=1, key="other")
    table = tabulate([first, second], "accuracy")["a"]
    weights = np.array([[1.0] * 4 + [0.0] * 4])

    found = table.finish(table.sums(weights), weights @ table.counts)

    assert found[0].tolist() == table.scores.tolist()


@pytest.mark.parametrize("metric", LABEL_METRICS)
def test_the_mean_of_a_task_is_that_of_its_draws(metric):
    judged = [random_judged(draw=draw) for draw in range(3)]
    scores = [LABEL_METRICS[metric](one.true, one.predictions, LABELS) for one in judged]

    assert task_means(judged, metric) == {"a": pytest.approx(np.mean(scores))}


def test_the_worst_task_has_the_least_accuracy_and_the_greatest_calibration_error():
    """By hand: half right with certainty in task a, error 0.5; all right at 0.6 in b, error 0.4."""
    right, wrong = Prediction("good", {"good": 1.0}), Prediction("bad", {"bad": 1.0})
    unsure = Prediction("good", {"good": 0.6})
    rows, true = ("1", "2"), ("good", "good")
    judged = [
        Judged("b", 0, LABELS, rows, true, (unsure, unsure)),
        Judged("a", 0, LABELS, rows, true, (right, wrong)),
    ]

    assert worst_task(judged, "accuracy") == ("a", 0.5)
    assert worst_task(judged, "ece") == ("a", 0.5)
    assert worst_task(judged[:1], "ece") == ("b", pytest.approx(0.4))


def test_tasks_that_share_rows_through_a_third_are_one_block():
    """By hand: a and c share no row, each shares one with b; d stands alone."""
    rows = {"a": ("1", "2"), "b": ("4", "5"), "c": ("2", "4"), "d": ("6", "7")}
    judged = [replace(random_judged(2, task=task), rows=keys) for task, keys in rows.items()]

    blocks = find_blocks([tabulate(judged, "accuracy")])

    assert sorted(sorted(block.tasks) for block in blocks) == [["a", "b", "c"], ["d"]]
    assert sorted(block.keys for block in blocks) == [("1", "2", "4", "5"), ("6", "7")]


def test_answers_that_do_not_fit_together_are_refused():
    one = random_judged(3)
    cases = {
        "0 episodes": [],
        "there 2 times": [one, one],
        "3 keys, 3 true labels and 2 pred": [replace(one, predictions=one.predictions[:2])],
        "0 keys": [replace(one, rows=(), true=(), predictions=())],
        "its labels are bad": [one, replace(one, draw=1, labels=("bad",))],
    }
    for message, judged in cases.items():
        with pytest.raises(DataError, match=message):
            tabulate(judged, "accuracy")
    with pytest.raises(SettingsError, match="one of accuracy, macro_f1, ece"):
        tabulate([one], "recall")
