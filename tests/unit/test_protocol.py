"""Protocol: what a method may see, what a cell holds, what may be summarized."""

import time
from dataclasses import replace

import numpy as np
import pytest

from nlp_meta.data.answers import Learned, LearnedWithFacts, Prediction
from nlp_meta.data.clock import Clock
from nlp_meta.data.episodes import Episode, Queries, SupportSet
from nlp_meta.data.tasks import Example
from nlp_meta.errors import DataError
from nlp_meta.evaluation.protocol import (
    Cell,
    Scores,
    evaluate,
    hash_support,
    judge,
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


def always_bad(_: SupportSet) -> Learned:
    return lambda queries: [answer("bad", 0.75) for _ in queries.texts]


def scores(method: str, cells: dict[str, list[float]], *, labels: int = 8) -> Scores:
    return Scores(
        method,
        tuple(
            Cell(task, labels, draw, 10, {"accuracy": value}, 0.5 + draw, 2.0, "hash")
            for task, values in cells.items()
            for draw, value in enumerate(values)
        ),
    )


def test_shuffled_query_labels_do_not_change_what_a_method_sees():
    seen: list[tuple[SupportSet, Queries]] = []

    def remember(support_set: SupportSet) -> Learned:
        def answer_all(queries: Queries) -> list[Prediction]:
            seen.append((support_set, queries))
            return always_bad(support_set)(queries)

        return answer_all

    first = episode()
    evaluate(remember, [first, shuffle_query_labels(first, seed=1)], method="curious")

    assert shuffle_query_labels(first, seed=1) != first
    assert seen[0] == seen[1]


def test_a_method_sees_the_support_set_and_of_the_queries_the_texts():
    given = replace(episode(), language="ind-jav", candidates=("omah", "banyu"))

    seen = given.support_set.ask(given.queries)

    assert given.queries == Queries(tuple(e.source for e in given.query), ("omah", "banyu"))
    assert {(e.target, e.group) for e in seen.query} == {("", None)}
    assert replace(seen, query=given.query) == given


def test_a_cell_holds_the_scores_of_its_episode():
    """By hand: always bad at 0.75 is right on half: F1 of bad 2*6/(12+6) = 2/3, gap 0.25."""
    found = evaluate(always_bad, [episode(0), episode(3)], method="always")

    cell = found.cells[1]
    assert found.method == "always"
    assert (cell.task, cell.labels, cell.draw, cell.rows) == ("reviews/kitchen", 4, 3, 12)
    assert cell.scores == pytest.approx({"accuracy": 0.5, "macro_f1": 1 / 3, "ece": 0.25})
    assert cell.seconds_adapt >= 0 and cell.ms_per_prediction >= 0


def test_learning_is_timed_apart_from_answering():
    """The method sleeps 20 ms over its support set and 5 over 12 queries."""

    def slow(support_set: SupportSet) -> Learned:
        def answer_slowly(queries: Queries) -> list[Prediction]:
            time.sleep(0.005)
            return always_bad(support_set)(queries)

        time.sleep(0.02)
        return answer_slowly

    cell = evaluate(slow, [episode()], method="slow").cells[0]

    assert cell.seconds_adapt >= 0.02
    assert cell.ms_per_prediction >= 5 / 12


def test_what_an_earlier_episode_paid_for_is_charged_where_it_is_used():
    """By hand: 3 seconds of learning and 12 of answering 12 queries."""
    clock = Clock()

    def shares(support_set: SupportSet) -> Learned:
        def answer_again(queries: Queries) -> list[Prediction]:
            clock.charge(12)
            return always_bad(support_set)(queries)

        clock.charge(3)
        return answer_again

    cell = judge(shares, episode(), method="shares", clock=clock).cell

    assert 3 <= cell.seconds_adapt < 4
    assert 1000 <= cell.ms_per_prediction < 1100


def test_a_method_may_say_what_it_did():
    def tells(support_set: SupportSet) -> LearnedWithFacts:
        facts: dict[str, object] = {"steps": 5}

        def answer_and_tell(queries: Queries) -> list[Prediction]:
            facts["texts"] = len(queries.texts)
            return always_bad(support_set)(queries)

        return LearnedWithFacts(answer_and_tell, facts)

    assert judge(tells, episode(), method="tells").facts == {"steps": 5, "texts": 12}
    assert judge(always_bad, episode(), method="silent").facts == {}


def test_support_sets_have_the_same_hash_if_they_are_the_same():
    assert hash_support(episode(0).support_set) == hash_support(episode(0, rows=3).support_set)
    assert hash_support(episode(0).support_set) != hash_support(episode(1).support_set)


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
        evaluate(lambda _: lambda _: answers, [episode(7, rows=2)], method="broken")

    assert "method 'broken' on task 'reviews/kitchen', draw 7" in str(caught.value)
