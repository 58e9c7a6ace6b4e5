"""The advice: which method to use, and no difference that a test does not show."""

import pytest

from nlp_meta.errors import DataError
from nlp_meta.report.scores import (
    join_names,
    rank_advised,
    rank_methods,
    say_number,
    say_p,
    score_of,
    title_of,
)
from nlp_meta.report.verdict import answer_sentence, judge_methods

USE = "Use Reptile: accuracy 0.87 [0.85, 0.89] with 50 labels of each of 2 new domains."
GAIN = "30 more labels may bring about +2 points (+0.02 [0.00, +0.04])."
LORA = "It is shown to be better than plain LoRA."
JOINT = "joint training, then fine-tuning"


def change(rows, **found):
    """Change the only row that the `where` of a change names."""
    where, values = found.pop("where"), found
    (row,) = [one for one in rows if all(one[name] == value for name, value in where.items())]
    row.update(values)


def test_the_best_method_is_advised_and_a_difference_within_chance_is_not_claimed(results):
    """By hand: the fixture's means, intervals of 0.02 a side, two others compared at 50."""
    assert answer_sentence(results) == (
        f"{USE} {GAIN} {LORA} No difference is shown between it and {JOINT} "
        "(+0.01 [-0.01, +0.03], p = 0.41, corrected for 2 comparisons). Skipped: SetFit."
    )


def make_joint(results, mean, **paired):
    where = {"method": "joint", "labels": 50, "metric": "accuracy"}
    change(results["summary"], where=where, mean=mean)
    change(results["paired"], where={"rival": "joint", "labels": 50}, **paired)


def test_a_difference_beyond_chance_says_so(results):
    make_joint(results, 0.82, difference=0.05, low=0.03, high=0.07, p_adjusted=0.004)

    assert f"It is shown to be better than {JOINT} (+0.05 [+0.03, +0.07], p = 0.004" in (
        answer_sentence(results)
    )
    assert judge_methods(results, 50).behind == ("joint", "lora")


@pytest.mark.parametrize(
    ("p", "shown"), [(0.004, "It is shown to be better than"), (0.4, "No difference is shown betw")]
)
def test_another_method_that_is_ahead_is_advised_in_its_place(results, p, shown):
    """By hand: 0.92 is 0.05 above 0.87; the tests are of Reptile, so LoRA is held against none."""
    make_joint(results, 0.92, difference=-0.05, low=-0.07, high=-0.03, p_adjusted=p)

    sentence = answer_sentence(results)

    assert sentence.startswith(f"Use {JOINT}: accuracy 0.92")
    assert f"{shown}" in sentence and "Reptile (+0.05 [+0.03, +0.07], p" in sentence
    assert "It was not tested against plain LoRA, which has 0.70." in sentence
    assert GAIN not in sentence


def test_a_method_of_fewer_draws_is_advised_only_if_it_is_shown_to_be_better(results):
    results["cells"] = [o for o in results["cells"] if (o["method"], o["draw"]) != ("joint", 1)]
    make_joint(results, 0.92, difference=-0.05, low=-0.07, high=-0.03, p_adjusted=0.4)
    assert judge_methods(results, 50).best == "reptile"

    make_joint(results, 0.92, p_adjusted=0.004)
    assert answer_sentence(results).startswith(f"Use {JOINT} (judged on 1 of 2 draws): acc")


def test_the_corrected_p_decides_and_not_the_plain_one(results):
    change(results["paired"], where={"rival": "joint", "labels": 50}, p=0.02, p_adjusted=0.06)

    assert judge_methods(results, 50).outcome == "undecided"


def test_too_few_draws_to_show_anything_are_called_that(results):
    """By hand: of 2 tasks of 2 draws p is 1/16 at least, of 3 draws 1/64; twice that for two."""
    few = "With 2 draws no difference could be shown; it takes 3 or more."
    assert few not in answer_sentence(results)  # plain LoRA was shown to be worse

    change(results["paired"], where={"rival": "lora", "labels": 50}, p_adjusted=0.2)
    assert few in answer_sentence(results)

    results["settings"] = {"comparison": {"over_tasks": True}}
    assert "With 2 tasks no difference could be shown; it takes more" in answer_sentence(results)


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        ((0.018, 0.006, 0.04), "30 more labels should bring about +2 points (+0.02 [+0.01, +0.04"),
        ((0.002, 0.0, 0.01), "30 more labels may bring little (0.00 [0.00, +0.01])."),
        ((0.012, 0.001, 0.02), "30 more labels may bring about +1 point (+0.01 [0.00, +0.02])."),
    ],
)
def test_more_labels_are_promised_no_more_than_the_curve_gives(results, gain, says):
    results["gains"][0] |= dict(zip(("mean", "low", "high"), gain, strict=True))

    assert says in answer_sentence(results)


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
    assert "(+0.003 [-0.017, +0.023], p" in sentence


def test_a_rival_judged_on_fewer_draws_is_paired_on_those(results):
    """By hand: the means differ by 0.01, the draws that both have by 0.04."""
    change(
        results["paired"],
        where={"rival": "joint", "labels": 50},
        difference=0.04,
        low=0.02,
        high=0.06,
    )

    assert "[+0.020, +0.060] on the draws that both have, p" in answer_sentence(results)


def test_the_number_of_labels_can_be_told(results):
    sentence = answer_sentence(results, labels=8)

    assert sentence.startswith("Use Reptile: accuracy 0.82 [0.80, 0.84] with 8 labels of each")
    assert "p = 0.50, corrected for 2 comparisons" in sentence


def test_without_labels_nothing_is_tested(results):
    """By hand: both have 0.80, of a tie ours is named."""
    sentence = answer_sentence(results, labels=0)

    assert sentence.startswith("Use Reptile: accuracy 0.80 [0.78, 0.82] without a label of each")
    assert f"Its difference from {JOINT} (0.00) was not tested." in sentence


def test_a_method_alone_is_not_advised(without):
    results = without("joint", "lora", "prompting")

    assert answer_sentence(results) == (
        "Reptile gives accuracy 0.87 [0.85, 0.89] with 50 labels of each of 2 new domains; no "
        f"other method was measured, so nothing says whether that is good. {GAIN} Skipped: SetFit."
    )


@pytest.mark.parametrize("ours", ["reptile", None])
def test_without_ours_the_best_method_is_advised_untested(without, results, ours):
    results = without("reptile") if ours else results | {"ours": None, "paired": []}

    sentence = answer_sentence(results)

    assert sentence.startswith(f"Use {JOINT if ours else 'Reptile'}: accuracy 0.8")
    assert "was not tested" in sentence
    assert judge_methods(results, 50).outcome == "untested"


def test_without_any_score_nothing_is_advised(results):
    results["summary"] = []

    assert answer_sentence(results).startswith("No method has a score with 50 labels")
    assert judge_methods(results, 50).outcome == "absent"


def test_one_draw_is_called_one_draw(results):
    results["draws"] = 1
    for row in results["summary"]:
        row.update(low=None, high=None)
    results["paired"] = []

    sentence = answer_sentence(results)

    assert "domains, from one support draw and without an interval." in sentence
    assert f"Its difference from {JOINT} (+0.01) was not tested" in sentence


def test_one_task_is_called_by_its_domain(results):
    results["tasks"] = [{"name": "own/estate", "domain": "real estate", "language": "eng"}]
    assert answer_sentence(results).startswith(USE.replace("each of 2 new domains", "real estate"))

    results["tasks"] = [{"name": "own/table", "domain": "", "language": ""}]
    assert answer_sentence(results).startswith(USE.replace(" of each of 2 new domains", ""))


def test_references_are_ranked_but_not_advised(results):
    assert rank_methods(results, 0) == ["reptile", "joint", "zero", "prompting", "lora"]
    assert rank_advised(results, 0) == ["reptile", "joint", "prompting"]


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
    assert judge_methods(results, 50).other == "lora"


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
