"""Labels: what is matched, what is a new set, and what stops."""

import pytest

from nlp_meta.data.labels import (
    check_labels,
    describe_match,
    label_text,
    match_labels,
    parse_label_map,
)
from nlp_meta.errors import LabelError

TWO = ("negative", "positive")
THREE = ("negative", "neutral", "positive")


@pytest.mark.parametrize(
    ("written", "known", "expected"),
    [
        (["Positive ", "NEGATIVE"], TWO, ("positive", "negative")),
        (["pos", "neg", "neu"], THREE, ("positive", "negative", "neutral")),
        (["+", "-"], TWO, ("positive", "negative")),
        (["positif", "netral", "NÉGATIF"], THREE, ("positive", "neutral", "negative")),
        (["ne\u0301gatif", "positif"], TWO, ("negative", "positive")),
        (["1", "0", "1"], TWO, ("positive", "negative", "positive")),
        (["False", "True"], TWO, ("negative", "positive")),
        (["pos", "positive", "neg"], TWO, ("positive", "positive", "negative")),
        (["refund", "Delay"], ("delay", "refund"), ("refund", "delay")),
    ],
)
def test_labels_that_mean_known_ones_become_these(written, known, expected):
    match = match_labels(written, known, label_map=None)

    assert match.labels == expected
    assert match.shared


@pytest.mark.parametrize(
    ("written", "known"),
    [
        (["0", "1"], THREE),
        (["0", "1", "2"], TWO),
        (["1", "1"], TWO),
        (["true", "0"], TWO),
        (["1", "5"], TWO),
        (["pos", "neg", "mixed"], TWO),
        (["pos", "neg", "neu"], TWO),
        (["refund", "delay"], THREE),
        (["pos", "neg"], ()),
    ],
)
def test_labels_of_which_one_is_unknown_stay_as_written(written, known):
    match = match_labels(written, known, label_map=None)

    assert match.labels == tuple(written)
    assert not match.shared
    assert not match.matched


def test_label_map_goes_before_every_other_rule():
    label_map = {"pos": "negative", "bad": "Positive"}

    match = match_labels(["pos", "bad", "neg"], TWO, label_map=label_map)

    assert match.labels == ("negative", "positive", "negative")
    assert match.matched == {"pos": "negative", "bad": "positive", "neg": "negative"}
    assert match.shared


def test_label_map_to_an_unknown_name_makes_a_new_label_set():
    match = match_labels(["pos", "neg", "meh"], TWO, label_map={"meh": "lukewarm"})

    assert match.labels == ("pos", "neg", "lukewarm")
    assert match.matched == {"meh": "lukewarm"}
    assert not match.shared


def test_label_map_joins_spellings():
    match = match_labels(["Refund", "refund ", "delay"], THREE, label_map={"refund": "refund"})

    assert match.labels == ("refund", "refund", "delay")


def test_blanks_around_labels_of_a_new_set_go():
    match = match_labels([" refund", "delay "], THREE, label_map=None)

    assert match.labels == ("refund", "delay")
    assert not match.matched


@pytest.mark.parametrize(
    "written", [["Refund", "refund "], ["refund", "refund "], ["late  delivery", "Late delivery"]]
)
def test_two_spellings_of_one_new_label_stop(written):
    with pytest.raises(LabelError, match=r"cannot tell labels .* apart.*`label_map`"):
        match_labels([*written, "other"], THREE, label_map=None)


def test_a_renamed_label_may_not_differ_from_another_in_case_only():
    with pytest.raises(LabelError, match=r"cannot tell labels 'Delay' and 'delay' apart"):
        match_labels(["late", "delay"], THREE, label_map={"late": "Delay"})


def test_a_label_map_key_that_no_example_has_stops():
    with pytest.raises(LabelError, match=r"'god': no example has it.*nearest: 'good'"):
        match_labels(["good", "bad"], TWO, label_map={"god": "positive"})


def test_an_empty_label_stops():
    with pytest.raises(LabelError, match=r"example 2: it is empty"):
        match_labels(["good", " "], TWO, label_map=None)


def test_label_map_is_read_from_text():
    assert parse_label_map(" bad=negative, good = positive") == {
        "bad": "negative",
        "good": "positive",
    }


@pytest.mark.parametrize("text", ["", "bad", "bad=", "=negative", "a=b,", "a=b,a=c"])
def test_a_label_map_that_cannot_be_read_stops(text):
    with pytest.raises(LabelError, match=r"cannot read the label map .*`label_map`"):
        parse_label_map(text)


def test_one_label_only_stops():
    with pytest.raises(LabelError, match=r"all 3 examples are labeled 'positive'"):
        check_labels(["positive"] * 3)


def test_too_few_examples_of_a_label_stop_with_its_name_and_count():
    with pytest.raises(LabelError, match=r"label 'b' from 1 example: at least 2"):
        check_labels(["a", "a", "b"])
    with pytest.raises(LabelError, match=r"label 'a' from 2 examples: at least 3"):
        check_labels(["a", "a", "b", "b", "b"], min_per_label=3)


def test_no_labels_at_all_stop():
    with pytest.raises(LabelError, match="0 examples"):
        check_labels([])


def test_enough_labels_pass_and_one_fewer_does_not():
    check_labels(["a", "b", "a", "b"])

    with pytest.raises(LabelError, match="'b'"):
        check_labels(["a", "b", "a"])


def test_a_match_is_told_in_one_line():
    pos_neg = match_labels(["pos", "neg", "pos", "positive"], TWO, label_map=None)
    same = match_labels(["positive", "negative "], TWO, label_map=None)
    new = match_labels(["refund", "delay", "refund"], TWO, label_map=None)

    assert describe_match(pos_neg) == (
        "labels matched: pos -> positive (2), neg -> negative (1), positive (1)"
    )
    assert describe_match(same) == "labels: positive (1), negative (1)"
    assert describe_match(new) == "new label set: refund (2), delay (1)"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [(1, "1"), (1.0, "1"), (1.5, "1.5"), (True, "True"), ("1.0", "1.0"), (None, None), (" ", None)],
)
def test_a_cell_of_a_label_column_is_written_as_text(cell, expected):
    assert label_text(cell) == expected
