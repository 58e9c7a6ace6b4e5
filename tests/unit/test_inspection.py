"""Doubtful rows of a labeled table, each made by hand; and labels questioned by a head."""

from dataclasses import replace

import numpy as np
import pytest

from nlp_meta.comparing.explanation import explain
from nlp_meta.comparing.inspection import (
    CONTRADICTION,
    DUPLICATE,
    FINDINGS,
    LENGTH,
    RARE,
    UNKNOWN,
    WRONG,
    Inspection,
    inspect_labels,
)
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import NEW_LABELS, Views, question_labels

THINGS = "room agent phone staff food house money plot brake service battery".split()
TEXTS = [
    f"the {thing} was {word} and {word} again" for thing in THINGS for word in ("great", "awful")
]
LABELS = ["positive", "negative"] * len(THINGS)


def look(start: MetaModel, texts: list[str], labels: list[str]) -> Inspection:
    """Inspect without the answers of a start that learned nothing."""
    how = {"classification": replace(start.adaptation["classification"], trust=NEW_LABELS)}
    return inspect_labels(texts, labels, start=replace(start, adaptation=how))


def places(inspection: Inspection, what: str) -> list[int]:
    return [finding.place for finding in inspection.findings if finding.what == what]


def test_a_flipped_label_is_found_and_its_own_suggested(tiny_start):
    labels = [*LABELS]
    labels[4] = "negative"

    inspection = look(tiny_start, TEXTS, labels)

    first = inspection.findings[0]
    assert (first.place, first.what, first.suggestion) == (4, WRONG, "positive")
    assert np.argmin(inspection.chances) == 4


def test_rows_that_stand_out_are_named_by_what_they_are(tiny_start):
    texts = [*TEXTS, "The agent was GREAT, and great again!", "the plot", "汉 语 汉 语", "x"]
    labels = [*LABELS, "negative", "neutral", "positive", "positive"]

    inspection = look(tiny_start, texts, labels)

    first, same = 2, len(TEXTS)
    assert places(inspection, CONTRADICTION) == [first, same]
    assert places(inspection, DUPLICATE)[-1] == same
    assert places(inspection, RARE) == [same + 1]
    assert places(inspection, UNKNOWN) == [same + 2]
    assert same + 3 in places(inspection, LENGTH)
    assert inspection.counts.keys() == set(FINDINGS)


def test_a_table_without_doubt_has_no_wrong_labels(tiny_start):
    assert not places(look(tiny_start, TEXTS, LABELS), WRONG)


def test_one_label_alone_is_counted_but_not_questioned(tiny_start):
    inspection = look(tiny_start, TEXTS, ["positive"] * len(TEXTS))

    assert inspection.counts[WRONG] == 0
    assert inspection.chances == (1.0,) * len(TEXTS)


def test_a_start_may_be_named_and_what_is_none_is_refused(tiny_start, tmp_path):
    tiny_start.save_pretrained(tmp_path / "start")

    named = inspect_labels(TEXTS, LABELS, start=str(tmp_path / "start"))
    assert named == inspect_labels(TEXTS, LABELS, start=tiny_start)
    with pytest.raises(SettingsError, match=r"as `start`: a model of the class MetaModel, its"):
        inspect_labels(TEXTS, LABELS, start=7)
    with pytest.raises(SettingsError, match=r"its folder, or its name on the Hub, in UTF-8, is"):
        inspect_labels(TEXTS, LABELS, start="m\udcff")
    with pytest.raises(SettingsError, match=r"as `model`: a model of the class AdaptedModel, its"):
        explain(tiny_start, TEXTS)


def test_more_rows_than_can_be_compared_are_refused(tiny_start):
    with pytest.raises(DataError, match="1001 texts"):
        look(tiny_start, [f"text {number}" for number in range(1001)], ["a"] * 1001)


def line(labels: int = 2) -> tuple[Views, np.ndarray]:
    """Forty examples on a line, those left of 0 of label 0; the nearest of 0 is 1 away."""
    values = np.concatenate([np.linspace(-5, -1, 20), np.linspace(1, 5, 20)])[:, None]
    nothing = np.zeros((40, labels))
    return Views(values, None, nothing, nothing), (values[:, 0] > 0).astype(np.int64)


def test_labels_that_answers_contradict_are_taken_back():
    """Two of forty labels are flipped far from the border, where every neighbor says otherwise."""
    views, targets = line()
    given = targets.copy()
    given[[2, 37]] = 1 - given[[2, 37]]

    parts = [list(range(place, 40, 5)) for place in range(5)]
    shares = question_labels(NEW_LABELS, views, given, parts)

    np.testing.assert_array_equal(shares.argmax(1), targets)
    np.testing.assert_allclose(shares.sum(1), 1)


def test_what_is_never_held_out_keeps_its_label():
    views, targets = line()
    shares = question_labels(NEW_LABELS, views, 1 - targets, [])
    np.testing.assert_array_equal(shares.argmax(1), 1 - targets)
