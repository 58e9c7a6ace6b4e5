"""Results in documents: the parts asked for, and nothing else of the document touched."""

import pytest

from nlp_meta.errors import DataError
from nlp_meta.report.page import fill_markdown, to_markdown
from nlp_meta.report.verdict import answer_sentence

ASKING = (
    "Before.\n\n<!-- results of shelves: sentence, scores -->\n{}<!-- end of results -->\n\n"
    "After.\n"
)


def test_parts_come_in_the_order_asked_for(results):
    text = to_markdown(results, parts=["scores", "sentence"])

    assert text.startswith("**Accuracy by number of labels**\n\n| method |")
    assert text.endswith(f"|\n\n{answer_sentence(results)}\n")


def test_what_stands_between_the_marks_is_replaced_and_nothing_else(results):
    filled = fill_markdown(ASKING.format("What was measured last year.\n"), lambda _: results)

    body = to_markdown(results, parts=["sentence", "scores"])
    assert filled == ASKING.format(f"\n{body}\n")
    assert fill_markdown(filled, lambda _: results) == filled


def test_each_mark_gets_the_results_that_it_names(results):
    names = []
    document = ASKING.format("") + ASKING.format("").replace("shelves", "two_shelves")

    fill_markdown(document, lambda name: names.append(name) or results)

    assert names == ["shelves", "two_shelves"]


def test_a_document_may_ask_for_some_methods_at_some_numbers_of_labels(results):
    """By hand: two rows, two columns, and no bold where the best method is not shown."""
    asking = ASKING.format("").replace("sentence, scores", "scores (lora, joint at 8, 50)")

    lines = fill_markdown(asking, lambda _: results).splitlines()

    rows = [line for line in lines if line.startswith("| ")]
    assert rows[0] == "| method | 8 labels | 50 labels |"
    assert [row.split(" | ")[0] for row in rows[2:]] == [
        "| joint training, then fine-tuning",
        "| plain LoRA",
    ]
    assert "**0." not in "".join(rows)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("<!-- results of shelves: scores -->\n\nNo end.\n", "not closed"),
        ("<!-- results of shelves scores -->\n<!-- end of results -->\n", "written otherwise"),
        (ASKING.format("").replace("scores", "score"), "no part 'score' of results; there are"),
        (
            ASKING.format("").replace("scores", "scores (magic at 0)"),
            "no method 'magic' of results; there are reptile",
        ),
        (
            ASKING.format("").replace("scores", "scores (reptile at 9)"),
            "no number of labels 9 of results; there are 0, 8, 50",
        ),
    ],
)
def test_a_document_that_asks_wrongly_is_told(results, document, says):
    with pytest.raises(DataError, match=says):
        fill_markdown(document, lambda _: results)
