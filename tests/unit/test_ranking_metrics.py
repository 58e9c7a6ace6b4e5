"""Metrics of rankings, worked by hand."""

import pytest

from nlp_meta.data.answers import Placed, Ranking
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import DataError
from nlp_meta.evaluation.answers import place_rankings
from nlp_meta.evaluation.metrics import (
    RANKING_METRICS,
    load_metric,
    mean_reciprocal_rank,
    precision_at_1,
    score,
    xsim_error,
)

CANDIDATES = ("omah", "banyu", "geni", "lemah")
TRUE = ("banyu", "geni", "Omah!")


def episode() -> Episode:
    query = tuple(Example(f"text {row}", target) for row, target in enumerate(TRUE))
    return Episode("a/b", (), (), query, 0, "retrieval", "ind-jav", CANDIDATES)


RANKINGS = (
    Ranking((1, 0, 2, 3), 1),  # right, and mined rightly
    Ranking((0, 1, 3, 2), 2),  # last of four, but mined rightly
    Ranking((3, 0, 1, 2), 3),  # second, mined wrongly
)


def test_the_right_candidate_is_found_by_its_folded_text():
    assert place_rankings(episode(), RANKINGS) == (
        Placed(1, 1, 1, 1),
        Placed(4, 2, 0, 2),
        Placed(2, 0, 3, 3),
    )


def test_scores_of_three_rankings():
    """By hand: 1 of 3 first; (1 + 1/4 + 1/2) / 3; 1 of 3 mined wrongly."""
    placed = place_rankings(episode(), RANKINGS)

    assert precision_at_1(TRUE, placed, ()) == pytest.approx(1 / 3)
    assert mean_reciprocal_rank(TRUE, placed, ()) == pytest.approx(1.75 / 3)
    assert xsim_error(TRUE, placed, ()) == pytest.approx(1 / 3)


def test_a_translation_that_is_no_candidate_is_refused():
    query = (Example("text", "segara"),)
    without = Episode("a/b", (), (), query, 3, "retrieval", "ind-jav", CANDIDATES)

    with pytest.raises(DataError, match=r"task 'a/b', draw 3: the translation of text 0"):
        place_rankings(without, RANKINGS[:1])


@pytest.mark.parametrize("metric", [precision_at_1, mean_reciprocal_rank, xsim_error])
def test_no_rows_cannot_be_scored(metric):
    with pytest.raises(DataError, match="cannot score 0 predictions for 0"):
        metric((), (), ())


def test_metrics_of_evaluate_take_ranked_texts():
    """The same three rankings as texts; mining gives one text a row."""
    import evaluate

    ranked = [[CANDIDATES[place] for place in one.order] for one in RANKINGS]
    true = ["banyu", "geni", "omah"]
    mined = [CANDIDATES[one.mined] for one in RANKINGS]
    combined = evaluate.combine([load_metric(name) for name in RANKING_METRICS])

    scores = combined.compute(predictions=ranked, references=true, mined=mined)

    assert scores == pytest.approx({"precision_at_1": 1 / 3, "mrr": 1.75 / 3, "xsim": 1 / 3})
    with pytest.raises(DataError, match="row 0: 'banyu' is not among its 1"):
        load_metric("precision_at_1").compute(predictions=[["omah"]] * 3, references=true)


@pytest.mark.parametrize("metric", RANKING_METRICS.values())
def test_a_score_through_evaluate_is_the_same_number(metric):
    placed = place_rankings(episode(), RANKINGS)

    assert score(metric.name, TRUE, placed, ()) == metric(TRUE, placed, ())
