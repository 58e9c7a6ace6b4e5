"""Labels: what is matched, what is a new set, and what stops."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_meta.data.cells import parse_label_map, read_label_map
from nlp_meta.data.labels import (
    check_columns,
    check_labels,
    describe_match,
    drop_rows,
    label_text,
    match_labels,
    pair_names,
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
        (["true", "0", "1"], TWO, ("positive", "negative", "positive")),
        (["Pos.", "Negative:"], TWO, ("positive", "negative")),
        (["pos", "positive", "neg"], TWO, ("positive", "positive", "negative")),
        (["refund", "Delay"], ("delay", "refund"), ("refund", "delay")),
        (["1", "1.0"], TWO, ("positive", "positive")),  # a part means what the whole table does
        (
            ["\u200bpositive", "nega\u200btive\ufeff", "positive\u00a0"],
            TWO,
            ("positive", "negative", "positive"),
        ),
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
    "written", [["Refund", "refund "], ["01", "1"], ["late  delivery", "Late delivery"]]
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
    [
        *((cell, "1") for cell in (1, 1.0, "1.0", "1,0", "1.00E+00", "+1", "1.", " 1 ", "\uff11")),
        *((cell, "0.5") for cell in (0.5, "0,5", ".50", "5E-1", "0,500")),
        *((cell, "-1") for cell in (-1, "-1.0", "\u22121")),
        *((cell, None) for cell in (None, math.nan, "", " ", "\u200b\ufeff", "\u3000", "\u00ad")),
        (1.5, "1.5"),
        (0.1 + 0.2, "0.3"),
        ("0.30000000000000004", "0.3"),
        ("12345678901234567890", "12345678901234567890"),
        (True, "True"),
        ("1,000", "1,000"),  # perhaps a thousand
        ("007", "007"),
        ("1.2.3", "1.2.3"),
        ("1e9999999", "1e9999999"),
        ("ne\u0301gatif", "n\u00e9gatif"),
        ("late\u00a0delivery\u200b", "late delivery"),
        ("\U0001f44d\ufe0f", "\U0001f44d"),
        # Joiners that are seen stay: in Persian and in emoji, not in Latin letters.
        ("\u0645\u06cc\u200c\u0634", "\u0645\u06cc\u200c\u0634"),
        ("posi\u200dtive", "positive"),
    ],
)
def test_a_cell_of_a_label_column_is_written_as_text(cell, expected):
    assert label_text(cell) == expected


@given(st.text())
def test_a_label_written_as_text_stays_so(text):
    written = label_text(text)

    assert written is None or label_text(written) == written


@given(st.integers(-(10**12), 10**12))
def test_every_spelling_of_a_whole_number_is_one_label(number):
    spellings = (number, float(number), f"{number}.0", f"{number},0", f" {number:+d}", f"{number}.")

    assert {label_text(spelling) for spelling in spellings} == {str(number)}


LABELS = st.text(min_size=1).map(label_text).filter(bool)


@given(st.dictionaries(LABELS, LABELS, min_size=1))
def test_every_label_map_can_be_written_as_text(label_map):
    def quote(label):
        return '"' + label.replace('"', '""') + '"'

    text = ",".join(f"{quote(label)}={quote(name)}" for label, name in label_map.items())

    assert parse_label_map(text) == label_map


def test_quotes_hold_commas_and_equals_signs_of_labels():
    text = '"good, very"=positive, "not=good"=negative,"say ""no"""=other'

    assert parse_label_map(text) == {
        "good, very": "positive",
        "not=good": "negative",
        'say "no"': "other",
    }


def test_python_gives_a_label_map_as_a_mapping_or_as_text():
    assert read_label_map({0: "negative", 1.0: "positive"}) == read_label_map(
        "0=negative,1=positive"
    )
    with pytest.raises(LabelError, match="type list"):
        read_label_map(["bad=negative"])


@pytest.mark.parametrize(
    "word",
    [
        *("nan", "NaN", "None", "NULL", "#N/A", "<NA>", "NaT", "?", "-", "—", ".", "#WERT!"),
        *("k. A.", "keine Angabe", "no data", "N/R", "sin datos", "...", "TBD", "not available"),
    ],
)
def test_a_word_for_a_missing_label_is_doubted_beside_labels(word):
    labels = ["positive", "negative", "positive", "negative", word]

    with pytest.raises(LabelError, match=r"is a label: .*`drop_labels=.*`label_map="):
        match_labels(labels, TWO, label_map=None)
    assert match_labels(labels, TWO, label_map={word: word}).counts[word] == 1


def test_a_model_may_have_a_label_that_elsewhere_means_missing():
    assert match_labels(["none", "racism"], ("none", "racism"), label_map=None).shared
    assert match_labels(["+", "-"], (), label_map=None).labels == ("+", "-")


@pytest.mark.parametrize("slip", ["positve", "Positive!", "postive"])
def test_a_slip_is_told_with_what_it_costs(slip):
    match = match_labels(["positive"] * 29 + ["negative"] * 30 + [slip], TWO, label_map=None)

    assert len(match.notes) == 1
    assert "looks like a slip of 'positive'" in match.notes[0]
    assert "the start's head is not used" in match.notes[0]
    with pytest.raises(LabelError, match="from 1 example, and it looks like a slip of 'positive'"):
        check_labels(match.labels)


@pytest.mark.parametrize("other", ["unpositive", "negative", "impolite", "refund2", "car"])
def test_other_words_are_no_slips(other):
    labels = ["positive"] * 40 + ["polite"] * 40 + ["refund1"] * 40 + ["cat"] * 40 + [other] * 2

    assert match_labels(labels, TWO, label_map=None).notes == ()


@pytest.mark.parametrize("day", ["01-Mar", "Mar-01", "3. Mrz", "2024-03-01 00:00:00", "05.06.2024"])
def test_a_label_that_a_spreadsheet_made_a_date_of_is_doubted(day):
    notes = match_labels([day, "10+"] * 4, TWO, label_map=None).notes

    assert "as spreadsheets make of labels such as 1-3: say with `label_map`" in notes[0]
    assert match_labels(["May", "June", "1-3", "45"] * 4, TWO, label_map=None).notes == ()


@pytest.mark.parametrize("code", ["-1", "99", "-999"])
def test_a_number_for_a_missing_answer_is_doubted_and_no_slip(code):
    (note, *_) = match_labels([*("1", "0") * 10, code, code], TWO, label_map=None).notes

    assert f"{code!r} may stand for a missing label" in note
    assert f'`drop_labels="{code}"`' in note
    many = match_labels(["1", "0", "-1"] * 10, TWO, label_map=None).notes
    assert not any("missing label" in note for note in many)


@pytest.mark.parametrize("other", ["very_bad", "very-bad", "Very  Bad"])
def test_words_of_a_label_may_be_joined_in_one_way_alone(other):
    with pytest.raises(LabelError, match=r"nothing but case, blanks, hyphens"):
        match_labels(["very bad", "good", other] * 4, (), label_map=None)
    assert match_labels([other, "good"], ("good", "very bad"), label_map=None).shared


def test_emoji_that_differ_in_color_are_no_two_labels():
    with pytest.raises(LabelError, match=r"cannot tell labels .* apart"):
        match_labels(["\U0001f44d\U0001f3fd", "\U0001f44d"] * 4, TWO, label_map=None)


def test_truth_values_of_a_spreadsheet_in_another_language_are_truth_values():
    match = match_labels(["WAHR", "FALSCH"], TWO, label_map=None)

    assert match.labels == ("positive", "negative")


def test_labels_that_transformers_counts_are_told():
    """Of two that are negative and positive the order is the usual one; others have no names."""
    both = match_labels(["LABEL_0", "LABEL_1"], TWO, label_map=None)
    new = match_labels(["LABEL_0", "LABEL_1"] * 2, ["a", "b"], label_map=None)

    assert both.assumed == {"LABEL_0": "negative", "LABEL_1": "positive"}
    assert "have no names: say with `label_map`" in new.notes[0]


def test_what_only_custom_says_is_told_as_assumed():
    match = match_labels(["0", "1"], TWO, label_map=None)

    assert match.assumed == {"0": "negative", "1": "positive"}
    assert "0 as negative and 1 as positive: that is assumed" in match.notes[0]
    assert match_labels(["0", "1"], TWO, label_map={"0": "positive", "1": "negative"}).notes == ()
    beside_neutral = match_labels(["0", "1"], THREE, label_map=None)
    assert beside_neutral.labels == ("0", "1")
    assert 'say `label_map="0=negative,1=positive"`' in beside_neutral.notes[0]


def test_labels_mean_what_they_meant_when_the_model_was_adapted():
    learned = {"0": "positive", "1": "negative"}

    match = match_labels(["1.0", "1"], TWO, label_map=None, spellings=learned, part=True)

    assert match.labels == ("negative", "negative")
    assert match.notes == ()
    # A label map of the whole table may name labels that a part of it lacks.
    assert match_labels(["1"], TWO, label_map={"1": "negative", "0": "positive"}, part=True).shared


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (
            [f"{0.01 * row:.2f}" for row in range(60)],
            "60 different values in 60 rows .*like scores",
        ),
        ([f"2026-01-{row:02}" for row in range(1, 25)], "looks like dates"),
        ([f"The lift is late on day {row}." for row in range(60)], "looks like texts"),
        ([f"ID-{row}" for row in range(60)], "looks like names of single rows"),
    ],
)
def test_a_column_of_the_wrong_kind_is_named(labels, kind):
    with pytest.raises(LabelError, match=kind):
        match_labels(labels, TWO, label_map=None)


def test_texts_and_labels_that_look_swapped_are_named():
    texts = [f"The lift is late on day {row}." for row in range(20)]

    check_columns(texts, ["a", "b"] * 10)
    with pytest.raises(LabelError, match="look swapped; give `texts` and `labels`"):
        check_columns(["a", "b"] * 10, texts)


def test_labels_that_join_others_are_several():
    labels = ["positive", "negative", "urgent", "positive;urgent", "negative"]

    with pytest.raises(LabelError, match=r"'positive;urgent' \(1 of 5 rows\): it joins labels"):
        match_labels(labels, TWO, label_map=None)
    with pytest.raises(LabelError, match="or the model knows"):
        match_labels(["positive;urgent", "negative;urgent"], TWO, label_map=None)
    assert match_labels(["a/b", "c"], (), label_map=None).labels == ("a/b", "c")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("e-mail", "e\u2011mail"),
        ("don't know", "don\u2019t know"),
        ("spam", "sp\u0430m"),  # a Cyrillic letter
        ("\u0130yi", "iyi"),
        ("food", '"food"'),
        ("1000", "1,000"),
        ("food", "Food."),
        ("1", "True"),
        ("food/wine", "food / wine"),
    ],
)
def test_labels_that_a_person_would_call_the_same_are_refused(first, second):
    with pytest.raises(LabelError, match="apart"):
        match_labels([first, second, "other"] * 3, TWO, label_map=None)


def test_labels_in_quotes_are_those_without():
    match = match_labels(['"positive"', "'negative'"], TWO, label_map=None)

    assert match.labels == ("positive", "negative")


def test_labels_joined_by_any_sign_are_several():
    with pytest.raises(LabelError, match="'food#room'"):
        match_labels(["food", "room", "food#room"] * 3, TWO, label_map=None)


def test_a_slip_in_a_label_to_leave_out_stops():
    labels = [["good"], ["mixed"]]

    with pytest.raises(LabelError, match="nearest: 'mixed'"):
        drop_rows(labels, "mixd")
    assert drop_rows(labels, "Mixed")[0] == {1}
    assert drop_rows(labels, "unclear")[0] == set()


def test_names_of_one_meaning_are_paired_whichever_side_writes_them():
    assert pair_names(("NEG", "Neutral", "5 stars"), ("negative", "positive")) == {
        "NEG": "negative"
    }
    assert pair_names(("POSITIVE", "spam"), ("pos", "Spam")) == {"POSITIVE": "pos", "spam": "Spam"}
