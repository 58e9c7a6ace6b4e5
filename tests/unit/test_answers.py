"""Kinds of answers: judged, stored, read back and analyzed, each by its own metrics."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nlp_meta.data.answers import (
    Answer,
    Coverage,
    Placed,
    Prediction,
    Ranking,
    Rival,
    Translation,
    cover,
    risk_curve,
)
from nlp_meta.data.episodes import Episode, Queries
from nlp_meta.data.tasks import Example
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation import answers as kinds
from nlp_meta.evaluation.answers import ANSWERS, episode_scorer, form_of, skill_of_metric
from nlp_meta.evaluation.protocol import (
    FinishedCell,
    append_record,
    check_record,
    columns_of,
    evaluate,
    hash_query,
    judge,
    read_records,
)
from nlp_meta.evaluation.results import Analysis, analyze

WORDS = ("omah", "banyu", "geni", "lemah", "angin", "srengenge")
# As the version before kinds of answers wrote it.
OLD_LINE = (
    '{"fingerprint": "f", "method": "probe", "cell": {"task": "reviews/kitchen", "labels": 2, '
    '"draw": 0, "rows": 2, "accuracy": 0.5, "macro_f1": 0.3333333333333333, "ece": 0.25, '
    '"seconds_adapt": 0.5, "ms_per_prediction": 1.5, "support_hash": "00"}, "facts": {"steps": 5}, '
    '"query_hash": "0123456789ab", "labels": ["bad", "good"], '
    '"answers": [[1, 0.25, 0.75], [1, 0.25, 0.75]]}\n'
)


def pairs(draw: int = 0, *, task: str = "nusax/ind-jav", candidates: bool = False) -> Episode:
    """A translation episode of 2 support pairs and 6 queries; text i is translated by word i."""
    support = tuple(Example(f"support {draw} {row}", f"pair {row}") for row in range(2))
    query = tuple(Example(f"{task} text {row}", f"{word} iku") for row, word in enumerate(WORDS))
    pool = tuple(f"{word} iku" for word in reversed(WORDS)) if candidates else ()
    return Episode(
        task, (), support, query, draw, "retrieval" if pool else "generation", "ind-jav", pool
    )


def write(wrong: int):
    """A method that writes the last words wrongly."""

    def answer(queries: Queries) -> list[Answer]:
        good = len(queries.texts) - wrong
        return [
            Translation(f"{WORDS[row]} iku" if row < good else "ora ngerti")
            for row in range(len(queries.texts))
        ]

    return lambda _: answer


def rank(wrong: int):
    """A method that puts the right one last and mines the first for the last queries."""

    def answer(queries: Queries) -> list[Answer]:
        pool = list(range(len(queries.candidates)))
        found = []
        for row in range(len(queries.texts)):
            right = len(WORDS) - 1 - row
            others = [place for place in pool if place != right]
            good = row < len(queries.texts) - wrong
            order = (right, *others) if good else (*others, right)
            found.append(Ranking(order, order[0]))
        return found

    return lambda _: answer


PREDICTORS = {"generation": write, "retrieval": rank}


def episodes(kind: str, *, tasks=("nusax/ind-jav", "nusax/ind-sun"), draws: int = 2):
    return [
        pairs(draw, task=task, candidates=kind == "retrieval")
        for draw in range(draws)
        for task in tasks
    ]


def record(method: str, one: Episode, rival: Rival) -> FinishedCell:
    judgment = judge(rival, one, method=method)
    return FinishedCell(method, judgment.cell, judgment.answers, {}, hash_query(one))


def records(kind: str) -> list[FinishedCell]:
    """Ours errs on 1 of 6 rows, the rival on 3."""
    found = []
    for method, wrong in (("ours", 1), ("rival", 3)):
        for one in episodes(kind):
            found.append(record(method, one, PREDICTORS[kind](wrong)))
    return found


def test_a_cell_that_an_older_version_wrote_is_read_and_written_to_the_byte(tmp_path: Path):
    path = tmp_path / "cells" / "probe.0.jsonl"
    path.parent.mkdir()
    path.write_text(OLD_LINE, encoding="utf-8")

    (found,) = read_records(tmp_path, fingerprints={"probe": "f"}).values()
    append_record(tmp_path, found, fingerprint="f", rank=1)

    assert found.cell.scores == {"accuracy": 0.5, "macro_f1": 1 / 3, "ece": 0.25}
    assert found.predictions == (Prediction("good", {"bad": 0.25, "good": 0.75}),) * 2
    assert (path.parent / "probe.1.jsonl").read_text(encoding="utf-8") == OLD_LINE


@pytest.mark.parametrize("kind", PREDICTORS)
def test_answers_of_each_kind_are_read_as_they_were_stored(kind, tmp_path: Path):
    kept = records(kind)
    for one in kept:
        append_record(tmp_path, one, fingerprint="f", rank=0)

    found = read_records(tmp_path, fingerprints={"ours": "f", "rival": "f"})

    assert list(found.values()) == sorted(kept, key=lambda one: one.method)
    assert {form_of(one.predictions).skill for one in found.values()} == {kind}


def test_a_cell_scores_by_the_metrics_of_its_kind():
    """By hand: 5 of 6 first and mined, and one at rank 6 of 6."""
    (cell,) = evaluate(rank(1), [pairs(candidates=True)], method="ours").cells

    assert cell.scores == pytest.approx(
        {"precision_at_1": 5 / 6, "mrr": (5 + 1 / 6) / 6, "xsim": 1 / 6}
    )
    assert cell.labels == 2


def test_a_metric_that_cannot_be_computed_here_is_left_out_and_nothing_fails(monkeypatch):
    monkeypatch.setattr(kinds.metrics, "spbleu_missing", lambda: "no vocabulary")
    scores = evaluate(write(0), [pairs()], method="ours")
    found = analyze(
        {one.key: one for one in records("generation")},
        episodes("generation"),
        Analysis("chrf", "ours", False, 50, 0),
    )

    assert scores.cells[0].scores == {"chrf": pytest.approx(100), "bleu": 0, "spbleu": None}
    assert {row["metric"] for row in found["summary"]} == {"chrf", "bleu"}
    assert {row["metric"] for row in found["by_task"]} == {"chrf", "bleu"}
    assert all(row["spbleu"] is None for row in found["cells"])


@pytest.mark.parametrize(("kind", "metric"), [("generation", "chrf"), ("retrieval", "mrr")])
def test_every_analysis_of_a_comparison_serves_each_kind(kind, metric):
    """By hand: ours is right on 5 of 6 rows and the rival on 3, in all tasks and draws."""
    found = analyze(
        {one.key: one for one in records(kind)},
        episodes(kind),
        Analysis(metric, "ours", False, 200, 0),
    )

    means = {(row["method"], row["metric"]): row["mean"] for row in found["summary"]}
    (paired,) = found["paired"]
    (even,) = found["break_even"]
    assert means["ours", metric] > means["rival", metric]
    assert paired["difference"] == pytest.approx(means["ours", metric] - means["rival", metric])
    assert paired["low"] <= paired["difference"] <= paired["high"]
    assert (even["at"], even["labels"]) == (2, None)
    assert {row["metric"] for row in found["worst"]} <= set(ANSWERS[kind].main_metrics)
    by_cell = [row[metric] for row in found["cells"] if row["method"] == "ours"]
    assert means["ours", metric] == pytest.approx(np.mean(by_cell))
    json.dumps(found, allow_nan=False)


def test_an_error_that_is_a_mean_is_not_moved_as_a_calibration_error_is():
    """By hand: 1 of 6 rows mined wrongly in two tasks: every resample is some twelfths."""
    found = analyze(
        {one.key: one for one in records("retrieval")},
        episodes("retrieval"),
        Analysis("mrr", "ours", False, 400, 0),
    )

    (row,) = [r for r in found["summary"] if (r["method"], r["metric"]) == ("ours", "xsim")]
    assert row["mean"] == pytest.approx(1 / 6)
    assert row["low"] == 0 and (12 * row["high"]) == pytest.approx(round(12 * row["high"]))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Ranking((0, 1), 0), "each of the places 0 to 5 of its candidates once"),
        (Ranking((0, 1, 2, 3, 4, 4), 0), "once, and a mined one"),
        (Ranking((0, 1, 2, 3, 4, 5), 6), "a mined one"),
        (Translation(None), "a translation that is a text"),
        ("omah", "one of Prediction, Translation, Ranking"),
    ],
)
def test_answers_that_are_not_of_their_kind_are_refused(answer, message):
    with pytest.raises(DataError, match=message):
        judge(lambda _: lambda _: [answer] * 6, pairs(candidates=True), method="broken")


def test_two_kinds_in_one_set_of_answers_are_refused():
    mixed = [Translation("omah"), Ranking(tuple(range(6)), 0), *[Translation("banyu")] * 4]

    with pytest.raises(DataError, match="for text 1 it gave Ranking"):
        judge(lambda _: lambda _: mixed, pairs(candidates=True), method="mixed")


def test_a_pool_of_other_candidates_is_other_data():
    one = pairs(candidates=True)
    ours = record("ours", one, rank(0))

    check_record(ours, one)
    with pytest.raises(DataError, match="other rows"):
        check_record(ours, replace(one, candidates=one.candidates[::-1]))
    with pytest.raises(DataError, match="other rows or languages"):
        check_record(ours, replace(one, language="ind-mad"))


@pytest.mark.parametrize("kind", PREDICTORS)
def test_stored_answers_that_were_altered_are_refused(kind):
    """Of each kind the answers of ours, with its scores, are those of the rival."""
    by_place = {(one.task, one.index): one for one in episodes(kind)}
    half = len(by_place)
    for ours, rival in zip(records(kind)[:half], records(kind)[half:], strict=True):
        one = by_place[ours.cell.task, ours.cell.draw]
        check_record(ours, one)
        with pytest.raises(DataError, match=r"answers of its cell .* damaged.*'cells/ours\.\*"):
            check_record(replace(ours, predictions=rival.predictions), one)


@pytest.mark.parametrize("damage", [{"rank": 0}, {"rank": 7}, {"right": 6}, {"mined": -1}])
def test_a_stored_place_outside_of_the_pool_is_refused(damage):
    one = pairs(candidates=True)
    ours = record("ours", one, rank(0))
    altered = (*ours.predictions[:-1], replace(ours.predictions[-1], **damage))

    with pytest.raises(DataError, match="are damaged"):
        check_record(replace(ours, predictions=altered), one)


def test_answers_become_rows_with_what_was_found_in_place_of_the_right_one():
    """By hand: the last query's right candidate is the first of the pool, ranked last of six."""
    one = pairs(candidates=True)
    ours = record("ours", one, rank(1))
    columns = columns_of([ours], {(one.task, 2, 0): one})

    assert ours.predictions[5] == Placed(6, 0, 1, 1)
    assert columns["true"][5] == "srengenge iku"
    assert (columns["predicted"][5], columns["mined"][5], columns["rank"][5]) == (
        "angin iku",
        "angin iku",
        6,
    )
    assert columns["predicted"][:5] == columns["true"][:5]


def test_written_answers_become_rows_with_a_score_each():
    one = pairs()
    columns = columns_of([record("ours", one, write(1))], {(one.task, 2, 0): one})

    assert columns["predicted"][5] == "ora ngerti"
    assert columns["chrf"][:5] == pytest.approx([100] * 5)
    assert columns["chrf"][5] < 20


def ask(rival: Rival, one: Episode):
    return rival(one.support_set)(one.queries)


def test_a_metric_scores_what_a_method_answers():
    one = pairs(candidates=True)

    assert episode_scorer("precision_at_1")(one, ask(rank(3), one)) == 0.5
    assert episode_scorer("chrf")(one, ask(write(0), one)) == pytest.approx(100)
    assert skill_of_metric("bleu") == "generation"
    with pytest.raises(SettingsError, match=r"'rouge'.*change `adaptation\.metric`"):
        episode_scorer("rouge", setting="adaptation.metric")


def test_risk_falls_as_the_less_sure_are_left_out():
    """By hand: of ten answers the surest five are right; the equally sure stay together."""
    answers = [(0.9, True)] * 2 + [(0.8, True)] * 3 + [(0.5, False)] * 5

    assert cover(answers, 0.6).accuracy == 1 and cover(answers, 0.6).answered == 0.5
    assert cover(answers, 0.95) == Coverage(0.95, 0.0, None, None, None)
    curve = [(part.min_confidence, part.answered, part.accuracy) for part in risk_curve(answers)]
    assert curve == [(0.5, 1.0, 0.5), (0.8, 0.5, 1.0), (0.9, 0.2, 1.0)]
