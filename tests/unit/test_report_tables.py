"""Tables of a report: what is marked, what is left blank, and how numbers are written."""

from dataclasses import asdict

import pytest

from nlp_meta.data.leaks import check_leaks
from nlp_meta.data.tasks import Example, Task
from nlp_meta.report.facts import (
    break_even_table,
    choices_table,
    leaks_table,
    list_circumstances,
    list_settings,
    say_break_even,
    say_interval_meaning,
    say_leaks,
    tasks_table,
)
from nlp_meta.report.scores import say_bytes, say_count, say_quantity
from nlp_meta.report.tables import (
    Field,
    ReportRow,
    ReportTable,
    cost_table,
    domains_table,
    glance_table,
    measures_table,
    paired_table,
    scores_table,
    to_markdown_table,
)


def entries_of(table, head):
    (row,) = [row for row in table.rows if row.head.text == head]
    return [(one.text, one.detail, one.mark) for one in row.fields]


def test_the_best_is_marked_and_what_lies_in_its_interval_is_a_tie(results):
    """By hand: at 50 labels 0.86 lies in [0.85, 0.89] and 0.70 does not; at 0 two are best."""
    table = scores_table(results, 50)

    assert table.columns == ("method", "0 labels", "8 labels", "50 labels")
    assert entries_of(table, "Reptile")[2] == ("0.870", " [0.850, 0.890]", "best")
    assert entries_of(table, "joint training, then fine-tuning")[2][2] == "tie"
    assert entries_of(table, "plain LoRA")[2] == ("0.700", " [0.680, 0.720]", "")
    assert [entries_of(table, row.head.text)[0][2] for row in table.rows[:2]] == ["best", "best"]


def test_rows_are_ordered_by_score_and_name_what_is_missing(results):
    """Zero labels and prompting have no score at 50 and come last."""
    table = scores_table(results, 50)

    assert [row.head.text for row in table.rows] == [
        "Reptile",
        "joint training, then fine-tuning",
        "plain LoRA",
        "zero labels",
        "prompting SmolLM2-135M",
    ]
    assert [row.advised for row in table.rows] == [True, False, False, False, False]
    assert table.rows[3].head.detail == " (reference)"
    assert entries_of(table, "zero labels")[1:] == [("-", "", ""), ("-", "", "")]


def test_a_method_of_fewer_draws_says_so(results):
    results["cells"] = [
        one for one in results["cells"] if (one["method"], one["draw"]) != ("lora", 1)
    ]

    heads = {row.head.text: row.head.detail for row in scores_table(results, 50).rows}

    assert heads["plain LoRA"] == " (1 of 2 draws)"
    assert heads["Reptile"] == ""


def test_of_the_calibration_error_the_smallest_is_best(results):
    """By hand: 1 - 0.87 = 0.13 is below 0.14 and 0.30."""
    table = measures_table(results, 50)

    marks = [row.fields[2].mark for row in table.rows]

    assert [row.fields[2].text for row in table.rows] == ["0.130", "0.140", "0.300"]
    assert marks == ["best", "tie", ""]
    assert table.rows[0].fields[3] == Field("0.870", " reviews/books")


def test_the_glance_says_each_verdict_in_words(results):
    rows = {row.head.text: row.fields for row in glance_table(results).rows}

    assert rows["50"][0] == Field("Reptile")
    assert rows["50"][5] == Field("no difference shown", " (p = 0.41)")
    assert rows["0"][5] == Field("not tested")


def test_domains_stand_in_rows_and_methods_in_columns(results):
    table = domains_table(results, 50)

    assert table.columns[1:] == ("Reptile", "joint training, then fine-tuning", "plain LoRA")
    assert [one[0] for one in entries_of(table, "reviews/books")] == ["0.870", "0.860", "0.700"]


def test_costs_are_means_and_of_the_most_labels_that_a_method_was_given(results):
    """By hand: seconds are a tenth, examples twenty times the labels."""
    table = cost_table(results, 50)

    assert [text for text, _, _ in entries_of(table, "Reptile")] == [
        "31,040",
        "1,000",
        "148,226",
        "593 kB",
        "5.0",
        "9.5",
    ]
    assert table.rows[4].head.detail == " (at 8 labels)"
    assert entries_of(table, "prompting SmolLM2-135M")[4][0] == "0.80"


def test_differences_are_signed_and_marked_only_where_the_corrected_p_is_small(results):
    table = paired_table(results)

    assert entries_of(table, "plain LoRA")[2] == ("+0.170", " [+0.150, +0.190] p < 0.001", "ahead")
    assert entries_of(table, "joint training, then fine-tuning")[2][2] == ""
    assert paired_table(results | {"paired": []}).rows == ()


def test_break_even_says_over_where_a_rival_never_gets_there(results):
    """None is more than was measured: for plain LoRA 50 labels."""
    table = break_even_table(results)

    assert table.columns == ("method", "as with 8")
    assert entries_of(table, "plain LoRA") == [("over 50", "", "")]
    assert say_break_even(results, "joint") == [
        "With 8 labels Reptile gives accuracy 0.820; joint training, then fine-tuning needs 12 "
        "labels [6, over 50] for that."
    ]
    assert break_even_table(results | {"break_even": None}).rows == ()


def test_leaks_are_told_as_the_check_found_them(results):
    """By hand: one of three train rows repeats a test row, and one is left of each label."""
    examples = [Example("the staff was kind to us", "good"), Example("a cold room", "bad")]
    tests = (Example("the staff was kind to us!", "good"), Example("we slept badly", "bad"))
    train = (*examples, Example("breakfast was lovely", "good"))
    task = Task(
        "own/inn", "classification", "eng", "inn", "meta-test", ("bad", "good"), train, tests
    )
    _, report = check_leaks((), (task,), overlap="exclude", threshold=0.8)
    results["leaks"] = asdict(report)

    said = " ".join(say_leaks(results))

    assert "the 5 texts of the judged tasks were searched" in said
    assert "What starts were trained on was not at hand and not searched." in said
    assert "Found: texts to learn from like a test text (1). 1 text was excluded." in said
    assert leaks_table(results).rows[0].head.text == "own/inn, train"
    assert leaks_table(results).rows[0].fields[0].text == "the staff was kind to us"


def test_rows_that_loading_left_out_are_told(results):
    """By hand: 5 + 7 rows of two tasks."""
    _, report = check_leaks((), (), overlap="exclude", threshold=0.8)
    results["leaks"] = asdict(report) | {"dropped": {"a/x": 5, "b/y": 7}}

    assert say_leaks(results)[-1] == (
        "12 rows of the tasks for meta-training repeat a judged one word for word and are left "
        "out of them from the start."
    )


def test_prompts_are_told_as_they_were(results):
    """By hand: 20 cells, two templates, one rule; a choice of old results is written as ever."""
    choice = {"chosen": "inside each support set", "order_deviation": 0.0125}
    prompts = {
        "templates": {"review": 1, "sentiment": 19},
        "scorings": {"sum": 20},
        "demonstrations": {"0": [0, 0], "8": [0, 8]},
    }
    before = {"template": "review", "demonstrations": 0, "scoring": "sum"}
    facts = results["methods"]
    facts["prompting"] |= {"choice": choice, "prompts": prompts}
    facts["lora"]["choice"] = before

    assert entries_of(choices_table(results), "prompting SmolLM2-135M")[1][0] == (
        "chosen inside each support set, order deviation 0.0125, template sentiment in 19 cells "
        "and review in 1 cell, scoring sum, demonstrations 0 with 0 labels and 0 to 8 with 8 "
        "labels"
    )
    assert entries_of(choices_table(results), "plain LoRA")[1][0] == (
        "template review, demonstrations 0, scoring sum"
    )


def test_no_search_for_leaks_is_called_none(results):
    assert say_leaks(results) == [
        "No search for near-duplicates between training and test texts was made."
    ]
    assert leaks_table(results).rows == ()


def test_circumstances_choices_and_settings_are_written_out(results):
    assert ("Versions", "torch 2.13.0") in list_circumstances(results)
    assert entries_of(choices_table(results), "plain LoRA")[1][0] == "learning rate 0.001"
    assert "SetFit" not in [row.head.text for row in choices_table(results).rows]
    assert entries_of(tasks_table(results), "reviews/books")[2][0] == "bad, good"
    assert list_settings(results) == "run.seed: 0"
    assert (
        list_settings(results | {"settings": {"a": {"b": [1], "c": None}}}) == "a.b: [1]\na.c: null"
    )


def test_the_meaning_of_the_intervals_follows_the_settings(results):
    results["settings"] = {"comparison": {"over_tasks": True}}
    assert "tasks, support sets and test texts" in say_interval_meaning(results)

    results["settings"] = {"comparison": {"over_tasks": False}}
    assert "choice of support sets and test texts" in say_interval_meaning(results)


def test_markdown_keeps_fields_apart_whatever_they_hold():
    row = ReportRow(
        Field("a|b\nc <i>"), (Field("0.9", " [0.8, 1.0]", "best"), Field("0.8", mark="tie"))
    )

    assert to_markdown_table(ReportTable("Scores", ("method", "8", "16"), (row,))) == (
        "**Scores**\n\n| method | 8 | 16 |\n| --- | --- | --- |\n"
        "| a\\|b c &lt;i> | **0.9** [0.8, 1.0] | 0.8 ≈ |"
    )


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (say_count, 31040, "31,040"),
        (say_count, None, "-"),
        (say_bytes, 999, "999 bytes"),
        (say_bytes, 592_904, "593 kB"),
        (say_bytes, 133_440_000, "133 MB"),
        (say_bytes, 2_500_000_000, "2.5 GB"),
        (say_bytes, None, "-"),
        (say_quantity, 0.0, "0"),
        (say_quantity, 0.0004, "<0.001"),
        (say_quantity, 0.0661, "0.066"),
        (say_quantity, 8.25, "8.2"),
        (say_quantity, 1234.5, "1,234"),
        (say_quantity, None, "-"),
    ],
)
def test_quantities_are_written_for_people(write, value, text):
    assert write(value) == text
