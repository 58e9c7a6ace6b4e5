"""Protocol: what a predictor may see, what a cell holds, what may be summarized."""

import time
from dataclasses import replace

import numpy as np
import pytest

from nlp_meta.data.answers import Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import DataError
from nlp_meta.evaluation.protocol import (
    Cell,
    Scores,
    Stopwatch,
    evaluate,
    hash_support,
    hide_query,
    summarize,
)

LABELS = ("bad", "good")


def episode(draw: int = 0, *, task: str = "reviews/kitchen", rows: int = 12) -> Episode:
    support = tuple(Example(f"support {draw} {i}", LABELS[i % 2], f"s{i}") for i in range(4))
    query = tuple(Example(f"query {i}", LABELS[i % 2], f"q{i}") for i in range(rows))
    return Episode(task, LABELS, support, query, draw)


def shuffle_query_labels(one: Episode, seed: int) -> Episode:
    order = np.random.default_rng(seed).permutation(len(one.query))
    targets = [one.query[i].target for i in order]
    query = (replace(e, target=t) for e, t in zip(one.query, targets, strict=True))
    return replace(one, query=tuple(query))


def answer(label: str, probability: float = 1.0) -> Prediction:
    other = LABELS[1 - LABELS.index(label)]
    return Prediction(label, {label: probability, other: 1 - probability})


def always_bad(given: Episode) -> list[Prediction]:
    return [answer("bad", 0.75) for _ in given.query]


def cheat(given: Episode) -> list[Prediction]:
    """Answer with the query labels where they can be had, by target or by group."""
    looked_up = {f"q{i}": LABELS[i % 2] for i in range(len(given.query))}
    found = [e.target or looked_up.get(e.group or "", "good") for e in given.query]
    return [answer(label) for label in found]


def scores(method: str, cells: dict[str, list[float]], *, labels: int = 8) -> Scores:
    return Scores(
        method,
        tuple(
            Cell(task, labels, draw, 10, {"accuracy": value}, 0.5 + draw, 2.0, "hash")
            for task, values in cells.items()
            for draw, value in enumerate(values)
        ),
    )


def test_shuffled_query_labels_do_not_change_what_a_predictor_sees_or_says():
    seen: list[Episode] = []
    said: list[list[Prediction]] = []

    def remember(given: Episode) -> list[Prediction]:
        seen.append(given)
        said.append(cheat(given))
        return said[-1]

    first = episode()
    evaluate(remember, [first, shuffle_query_labels(first, seed=1)], method="cheat")

    assert shuffle_query_labels(first, seed=1) != first
    assert seen[0] == seen[1]
    assert said[0] == said[1]


def test_a_predictor_that_reads_query_labels_or_groups_gains_nothing():
    """By hand: of 12 queries in turn bad and good, always good is right on 6."""
    found = evaluate(cheat, [episode()], method="cheat")

    assert found.cells[0].scores["accuracy"] == 0.5


def test_hidden_queries_keep_their_texts_and_the_support_set_is_whole():
    given = episode()

    hidden = hide_query(given)

    assert [e.source for e in hidden.query] == [e.source for e in given.query]
    assert {(e.target, e.group) for e in hidden.query} == {("", None)}
    assert (hidden.support, hidden.labels, hidden.task, hidden.index) == (
        given.support,
        given.labels,
        given.task,
        given.index,
    )


def test_a_cell_holds_the_scores_of_its_episode():
    """By hand: always bad at 0.75 is right on half: F1 of bad 2*6/(12+6) = 2/3, gap 0.25."""
    found = evaluate(always_bad, [episode(0), episode(3)], method="always")

    cell = found.cells[1]
    assert found.method == "always"
    assert (cell.task, cell.labels, cell.draw, cell.rows) == ("reviews/kitchen", 4, 3, 12)
    assert cell.scores == pytest.approx({"accuracy": 0.5, "macro_f1": 1 / 3, "ece": 0.25})
    assert (cell.seconds_adapt, cell.ms_per_prediction >= 0) == (0, True)


def test_a_stopwatch_tells_adaptation_from_prediction():
    """The predictor sleeps 20 ms over its support set and 5 over 12 queries."""
    stopwatch = Stopwatch()

    def slow(given: Episode) -> list[Prediction]:
        time.sleep(0.02)
        stopwatch.adapted()
        time.sleep(0.005)
        return always_bad(given)

    cell = evaluate(slow, [episode()], method="slow", stopwatch=stopwatch).cells[0]

    assert cell.seconds_adapt >= 0.02
    assert cell.ms_per_prediction >= 5 / 12


def test_support_sets_have_the_same_hash_if_they_are_the_same():
    assert hash_support(episode(0)) == hash_support(episode(0, rows=3))
    assert hash_support(episode(0)) != hash_support(episode(1))


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([answer("bad")], "1 predictions for 2 texts"),
        ([Prediction("bad", {"bad": 1.0})] * 2, "text 0"),
        ([Prediction("ugly", {"bad": 0.5, "good": 0.5})] * 2, "ugly"),
        ([answer("bad"), Prediction("bad", {"bad": 0.6, "good": 0.6})], "text 1"),
        ([Prediction("bad", {"bad": float("nan"), "good": 0.0})] * 2, "nan"),
    ],
)
def test_answers_that_are_not_those_of_the_task_stop_with_method_task_and_draw(answers, message):
    with pytest.raises(DataError, match=message) as caught:
        evaluate(lambda _: answers, [episode(7, rows=2)], method="broken")

    assert "method 'broken' on task 'reviews/kitchen', draw 7" in str(caught.value)


def test_a_summary_gives_mean_and_interval_of_each_method_over_its_tasks():
    """By hand: task means 0.5 and 1; a task of draws 0 and 1 resampled is 0, 0.5 or 1."""
    ours = scores("ours", {"a": [0.0, 1.0], "b": [1.0, 1.0]})
    rival = scores("rival", {"a": [0.5, 0.5], "b": [0.5, 0.5]})

    found = summarize([ours, rival], metric="accuracy", over_tasks=False, resamples=400, seed=0)

    assert list(found) == ["ours", "rival"]
    assert found["ours"] == {"mean": 0.75, "low": 0.5, "high": 1.0}
    assert found["rival"] == {"mean": 0.5, "low": 0.5, "high": 0.5}


def test_seconds_are_summarized_like_a_score():
    """By hand: draws took 0.5 and 1.5 seconds."""
    ours = scores("ours", {"a": [0.0, 1.0]})

    found = summarize([ours], metric="seconds_adapt", over_tasks=False, resamples=400, seed=0)

    assert found["ours"] == {"mean": 1.0, "low": 0.5, "high": 1.5}


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([scores("rival", {"b": [0.5, 0.5]})], "same tasks and draws"),
        ([scores("rival", {"a": [0.5, 0.5, 0.5]})], "same tasks and draws"),
        ([scores("ours", {"a": [0.5, 0.5]})], "2 methods named 'ours'"),
    ],
)
def test_methods_that_cannot_be_compared_are_refused(others, message):
    ours = scores("ours", {"a": [0.0, 1.0]})

    with pytest.raises(DataError, match=message):
        summarize([ours, *others], metric="accuracy", over_tasks=False, resamples=9, seed=0)


def test_several_numbers_of_labels_are_not_mixed():
    mixed = Scores(
        "ours",
        scores("ours", {"a": [0.1, 0.2]}).cells
        + scores("ours", {"a": [0.1, 0.2]}, labels=16).cells,
    )

    with pytest.raises(DataError, match=r"over \[8, 16\] labels at once"):
        summarize([mixed], metric="accuracy", over_tasks=False, resamples=9, seed=0)


def test_an_unknown_metric_of_a_summary_is_refused():
    with pytest.raises(DataError, match="cannot summarize by 'draw'"):
        summarize(
            [scores("ours", {"a": [0.1, 0.2]})],
            metric="draw",
            over_tasks=False,
            resamples=9,
            seed=0,
        )
