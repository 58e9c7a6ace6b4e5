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


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("<!-- results of shelves: scores -->\n\nNo end.\n", "not closed"),
        ("<!-- results of shelves scores -->\n<!-- end of results -->\n", "written otherwise"),
        (ASKING.format("").replace("scores", "score"), "no part 'score' of results; there are"),
    ],
)
def test_a_document_that_asks_wrongly_is_told(results, document, says):
    with pytest.raises(DataError, match=says):
        fill_markdown(document, lambda _: results)
