"""The answer in a sentence: true whether ours wins, loses, ties or was never measured."""

import pytest

from nlp_meta.errors import DataError
from nlp_meta.report.scores import (
    join_names,
    rank_methods,
    say_number,
    say_p,
    score_of,
    scored_methods,
    title_of,
)
from nlp_meta.report.verdict import answer_sentence, judge_ours

LEAD = "With 50 labels of each of 2 new domains, adapting our start (Reptile) gives accuracy"
RIVAL = "the best rival (joint training, then fine-tuning) gives"
REST = "prompting SmolLM2-135M gives 0.71 with 8 labels, the most it was given. Skipped: SetFit."


def change(rows, **found):
    """Change the only row that the `where` of a change names."""
    where, values = found.pop("where"), found
    (row,) = [one for one in rows if all(one[name] == value for name, value in where.items())]
    row.update(values)


def test_a_difference_within_chance_is_called_not_significant(results):
    """By hand: the fixture's means, intervals of 0.02 a side, two rivals compared at 50."""
    assert answer_sentence(results) == (
        f"{LEAD} 0.87 [0.85, 0.89]; {RIVAL} 0.86 [0.84, 0.88]; the difference +0.01 "
        f"[-0.01, +0.03] is not significant (p = 0.41, corrected for 2 comparisons); {REST}"
    )


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (0.05, "+0.05 [+0.03, +0.07] is significant, ours is better (p = 0.004, corrected"),
        (-0.05, "-0.05 [-0.07, -0.03] is significant, the rival is better (p = 0.004, corrected"),
    ],
)
def test_a_significant_difference_says_who_is_better(results, difference, said):
    where = {"rival": "joint", "labels": 50}
    low, high = difference - 0.02, difference + 0.02
    change(results["paired"], where=where, difference=difference, low=low, high=high)
    change(results["paired"], where=where, p_adjusted=0.004)
    change(
        results["summary"],
        where={"method": "joint", "labels": 50, "metric": "accuracy"},
        mean=0.87 - difference,
    )

    assert f"the difference {said} for 2 comparisons)" in answer_sentence(results)


def test_the_corrected_p_decides_and_not_the_plain_one(results):
    change(results["paired"], where={"rival": "joint", "labels": 50}, p=0.02, p_adjusted=0.06)

    assert judge_ours(results, 50).outcome == "undecided"


def test_two_digits_become_three_where_two_would_show_no_difference(results):
    """By hand: 0.874 and 0.871 both round to 0.87, their difference to 0.00."""
    for method, mean in (("reptile", 0.874), ("joint", 0.871)):
        where = {"method": method, "labels": 50, "metric": "accuracy"}
        change(results["summary"], where=where, mean=mean, low=mean - 0.02, high=mean + 0.02)
    change(
        results["paired"],
        where={"rival": "joint", "labels": 50},
        difference=0.003,
        low=-0.017,
        high=0.023,
    )

    sentence = answer_sentence(results)

    assert "0.874 [0.854, 0.894]" in sentence
    assert "the difference +0.003 [-0.017, +0.023]" in sentence


def test_a_rival_judged_on_fewer_draws_is_paired_on_those(results):
    """By hand: the means differ by 0.01, the draws that both have by 0.04."""
    change(
        results["paired"],
        where={"rival": "joint", "labels": 50},
        difference=0.04,
        low=0.02,
        high=0.06,
    )

    assert "[+0.020, +0.060] on the draws that both have is" in answer_sentence(results)


def test_the_number_of_labels_can_be_told(results):
    sentence = answer_sentence(results, labels=8)

    assert sentence.startswith("With 8 labels of each of 2 new domains, adapting our start")
    assert "prompting SmolLM2-135M gives 0.71. Skipped" in sentence


def test_without_labels_nothing_is_adapted_or_tested(results):
    sentence = answer_sentence(results, labels=0)

    assert sentence.startswith(
        "Without a label of each of 2 new domains, our start (Reptile) gives"
    )
    assert "was not tested" in sentence


def test_without_a_rival_the_score_is_called_incomparable(without):
    results = without("joint", "lora", "prompting")

    assert answer_sentence(results) == (
        f"{LEAD} 0.87 [0.85, 0.89]; no rival was measured, so nothing says whether that is good. "
        "Skipped: SetFit."
    )


def test_without_ours_the_best_method_is_named_and_called_no_rival(without):
    results = without("reptile")

    assert "ours (reptile) was not measured; the best method measured (joint training, then " in (
        answer_sentence(results)
    )
    assert judge_ours(results, 50).outcome == "absent"


def test_a_comparison_may_have_no_method_of_ours(results):
    results |= {"ours": None, "paired": [], "break_even": []}

    sentence = answer_sentence(results)

    assert "no method is named as ours; the best method measured (Reptile) gives 0.87" in sentence


def test_one_draw_is_called_one_draw(results):
    results["draws"] = 1
    for row in results["summary"]:
        row.update(low=None, high=None)
    results["paired"] = []

    sentence = answer_sentence(results)

    assert "accuracy 0.87, from one support draw and without an interval; the best" in sentence
    assert "the difference +0.01 was not tested" in sentence


def test_one_task_is_called_by_its_domain(results):
    results["tasks"] = [{"name": "own/estate", "domain": "real estate", "language": "eng"}]
    assert answer_sentence(results).startswith("With 50 labels of real estate, adapting")

    results["tasks"] = [{"name": "own/table", "domain": "", "language": ""}]
    assert answer_sentence(results).startswith("With 50 labels, adapting")


def test_references_are_ranked_but_are_no_rivals(results):
    assert rank_methods(results, 0) == ["reptile", "joint", "zero", "prompting", "lora"]
    assert scored_methods(results, 0, ["rival"]) == ["joint", "prompting"]


def test_methods_of_one_title_are_told_apart(results):
    results["methods"]["lora"]["title"] = "Reptile"

    assert title_of(results, "lora") == "Reptile (lora)"
    assert title_of(results, "joint") == "joint training, then fine-tuning"


def test_a_score_that_is_no_number_is_none(results):
    change(
        results["summary"],
        where={"method": "joint", "labels": 50, "metric": "accuracy"},
        mean=float("nan"),
    )

    assert score_of(results, "joint", 50) is None
    assert judge_ours(results, 50).rival == "lora"


@pytest.mark.parametrize(
    "values", [{"format": 2}, {"metric": "ece"}, {"labels": []}], ids=["format", "metric", "labels"]
)
def test_results_that_cannot_be_reported_are_refused(results, values):
    with pytest.raises(DataError, match="run the comparison again"):
        answer_sentence(results | values)


def test_a_number_of_labels_that_was_not_measured_is_refused(results):
    with pytest.raises(DataError, match=r"cannot answer at 64 labels.*change `labels`"):
        answer_sentence(results, labels=64)


def test_numbers_are_written_for_people():
    assert say_number(-0.0004, 2) == "0.00"
    assert say_number(0.0004, 3, sign=True) == "0.000"
    assert say_number(-0.0126, 3, sign=True) == "-0.013"
    assert [say_p(p) for p in (0.0004, 0.004, 0.041, 0.41)] == [
        "p < 0.001",
        "p = 0.004",
        "p = 0.041",
        "p = 0.41",
    ]
    assert [join_names(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
