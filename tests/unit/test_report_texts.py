"""Single answers: counts, bins and disagreements against hand-worked cases."""

import numpy as np
import pyarrow as pa
import pytest

from nlp_meta.report.texts import (
    bin_probabilities,
    chance_gap,
    count_confusions,
    find_disagreements,
    one_label_tasks,
    rows_of,
)


def row(text, true, predicted, *, probability=0.9, draw=0, task="books", method="reptile"):
    return {
        "method": method,
        "task": task,
        "labels": 50,
        "draw": draw,
        "row": text,
        "text": text,
        "true": true,
        "predicted": predicted,
        "probability": probability,
    }


def test_rows_are_those_of_the_method_and_the_number_of_labels(predictions):
    """By hand: 2 tasks of 2 draws of 4 rows."""
    rows = rows_of(predictions, "joint", 50)

    assert len(rows) == 16
    assert {one["method"] for one in rows} == {"joint"}
    assert rows_of(predictions, "joint", 8) == []
    assert rows_of(predictions, None, 50) == []
    assert rows_of(None, "joint", 50) == []


def test_rows_do_not_depend_on_their_order_or_on_how_names_are_stored(predictions):
    turned = predictions.take(list(range(predictions.num_rows))[::-1])
    place = turned.schema.get_field_index("method")
    turned = turned.set_column(place, "method", turned["method"].dictionary_encode())

    assert rows_of(turned, "joint", 50) == rows_of(predictions, "joint", 50)
    assert isinstance(turned["method"].type, pa.DictionaryType)


def test_confusions_count_true_labels_in_rows_and_answers_in_columns():
    """By hand: one bad row called good, one bad and one good row called rightly."""
    rows = [row("a", "bad", "good"), row("b", "bad", "bad"), row("c", "good", "good")]

    (found,) = count_confusions(rows, tasks=[{"name": "books", "labels": ["bad", "good"]}])

    assert found.labels == ("bad", "good")
    np.testing.assert_array_equal(found.counts, [[1, 1], [0, 1]])


def test_tasks_of_other_labels_have_a_matrix_of_their_own():
    rows = [row("a", "bad", "bad"), row("b", "up", "down", task="stocks")]
    tasks = [
        {"name": "books", "labels": ["bad", "good"]},
        {"name": "stocks", "labels": ["down", "up"]},
    ]

    found = count_confusions(rows, tasks=tasks)

    assert [one.tasks for one in found] == [("books",), ("stocks",)]
    np.testing.assert_array_equal(found[1].counts, [[0, 0], [1, 0]])


def test_bins_hold_their_upper_edge():
    """By hand: of two bins 0.5 is in the first; 0.6 and 1.0 in the second, one of them right."""
    rows = [
        row("a", "bad", "bad", probability=0.5),
        row("b", "bad", "bad", probability=0.6),
        row("c", "bad", "good", probability=1.0),
    ]

    low, high = bin_probabilities(rows, bins=2)

    assert (low.probability, low.right, low.rows) == (0.5, 1.0, 1)
    assert (high.probability, high.right, high.rows) == (pytest.approx(0.8), 0.5, 2)
    assert bin_probabilities([], bins=2) == []


def test_so_few_answers_show_a_calibration_error_by_chance():
    """By hand: the share of n coins that show heads is off by sqrt(1 / (2 pi n)) on average."""
    rows = [row(str(place), "bad", "bad", probability=0.5, draw=place // 4) for place in range(8)]

    assert chance_gap(rows[:4]) == pytest.approx(chance_gap(rows)) == (1 / (8 * np.pi)) ** 0.5
    assert chance_gap([row("a", "bad", "bad", probability=1.0)]) == chance_gap([]) == 0


def test_a_test_set_of_one_label_is_found():
    rows = [row("a", "bad", "good"), row("b", "bad", "bad"), row("c", "up", "up", task="stocks")]

    assert one_label_tasks([*rows, row("d", "down", "up", task="stocks")]) == {"books": "bad"}


def test_disagreements_of_most_draws_come_first_then_the_surest_mistake():
    """By hand: text a in two draws, c with 0.8 before b with 0.7, d is not right at all."""
    right = [
        *(row("a", "bad", "bad", draw=draw, probability=0.6 + 0.2 * draw) for draw in (0, 1)),
        *(row(text, "bad", "bad") for text in "bc"),
        row("d", "bad", "good"),
    ]
    wrong = [
        *(row("a", "bad", "good", draw=draw, probability=0.55) for draw in (0, 1)),
        row("b", "bad", "good", probability=0.7),
        row("c", "bad", "good", probability=0.8),
        row("d", "bad", "good"),
    ]

    found = find_disagreements(right, wrong, most=9)

    assert [(one.text, one.draws, one.judged) for one in found] == [
        ("a", 2, 2),
        ("c", 1, 1),
        ("b", 1, 1),
    ]
    assert found[0].better == ("bad", pytest.approx(0.7))
    assert found[0].worse == ("good", pytest.approx(0.55))
    assert [one.text for one in find_disagreements(right, wrong, most=1)] == ["a"]


def test_tasks_take_turns_among_the_disagreements():
    names = [("books", "a"), ("books", "b"), ("music", "c")]
    right = [row(text, "bad", "bad", task=task) for task, text in names]
    wrong = [row(text, "bad", "good", task=task) for task, text in names]

    assert [one.text for one in find_disagreements(right, wrong, most=2)] == ["a", "c"]


def test_rows_that_only_one_method_answered_are_no_disagreement():
    assert find_disagreements([row("a", "bad", "bad")], [row("b", "bad", "good")], most=5) == []
