"""The door of Python: what is taken for texts, labels and options, and how the rest is refused."""

import array
import collections
import datetime
import decimal
import enum
import fractions
import math
import pathlib

import numpy
import pandas
import polars
import pyarrow
import pytest
import torch

from nlp_meta.comparing.explanation import explain, measure_layers
from nlp_meta.comparing.suggestion import suggest
from nlp_meta.data.inputs import (
    as_labels,
    as_texts,
    check_choice,
    check_number,
    check_switch,
    check_whole,
)
from nlp_meta.errors import DataError, LabelError, NlpMetaError, SettingsError
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.retrieval import RetrievalModel
from nlp_meta.serving.pack import DomainPack

STATES = ("great", "awful", "loved", "hated")
TEXTS = [f"the {thing} was {state}" for thing in ("agent", "food", "room") for state in STATES]
LABELS = ["positive", "negative"] * 6
TARGETS = [f"{text}, very" for text in TEXTS]


class Mood(enum.Enum):
    GOOD = "positive"
    BAD = "negative"


def column(values: list) -> object:
    from datasets import Dataset

    return Dataset.from_dict({"column": values})["column"]


HOLDERS = {
    "tuple": tuple,
    "array": numpy.array,
    "array of objects": lambda values: numpy.array(values, dtype=object),
    "polars": polars.Series,
    "Series": pandas.Series,
    "Series with another index": lambda values: pandas.Series(
        values, index=range(len(values), 0, -1)
    ),
    "Index": pandas.Index,
    "categories": lambda values: pandas.Series(values, dtype="category"),
    "Arrow": pyarrow.array,
    "Arrow in chunks": lambda values: pyarrow.chunked_array([values[:5], values[5:]]),
    "column of a data set": column,
    "generator": lambda values: (value for value in values),
    "iterator": iter,
    "deque": collections.deque,
    "dict view": lambda values: dict(enumerate(values)).values(),
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_whatever_holds_texts_and_labels_is_taken(hold):
    assert as_texts(hold(TEXTS), "texts") == TEXTS
    assert as_labels(hold(LABELS), "labels") == LABELS
    assert all(type(text) is str for text in as_texts(hold(TEXTS), "texts"))


@pytest.mark.parametrize(
    "hold",
    [numpy.array, torch.tensor, pandas.Series, pyarrow.array, list, column],
    ids=["array", "tensor", "Series", "Arrow", "list", "column of a data set"],
)
@pytest.mark.parametrize("kind", [int, float, bool], ids=["numbers", "floats", "truth values"])
def test_numbers_and_truth_values_are_labels_as_in_a_table(hold, kind):
    """1, 1.0 and "1" are one label; True is the word."""
    values = [kind(place % 2) for place in range(6)]
    expected = ["False", "True"] * 3 if kind is bool else ["0", "1"] * 3

    assert as_labels(hold(values), "labels") == expected


def test_enumerations_and_numbers_of_arrays_are_labels():
    number = numpy.int8(3)
    values = [Mood.GOOD, number, torch.tensor(4), numpy.float32(5), fractions.Fraction(6), "7"]

    assert as_labels(values, "labels") == ["positive", "3", "4", "5", "6", "7"]
    assert as_labels(array.array("i", [1, 0]), "labels") == ["1", "0"]


HOLES = {
    "None": None,
    "NaN": float("nan"),
    "NaN of an array": numpy.float32("nan"),
    "NA": pandas.NA,
    "NaT": pandas.NaT,
    "masked": numpy.ma.masked,
    "NaN of a tensor": torch.tensor(float("nan")),
    "Arrow's null": pyarrow.scalar(None),
    "empty": "",
    "blanks": " \n\t ",
}
STRANGERS = {
    "bytes": b"late",
    "bytes of an array": numpy.bytes_(b"late"),
    "list": ["late"],
    "tuple": ("late",),
    "dict": {"text": "late"},
    "object": object(),
    "date": datetime.date(2026, 1, 1),
    "time of an array": numpy.datetime64("2026-01-01T00:00:00.000000001"),
    "complex": 1j,
    "path": pathlib.Path("late"),
    "class": str,
    "function": len,
    "array": numpy.array(["late", "late"]),
    "half a character": "late \ud83d",
    "infinite": float("inf"),
}


@pytest.mark.parametrize("value", [*HOLES.values(), *STRANGERS.values()], ids=[*HOLES, *STRANGERS])
def test_holes_and_strangers_are_refused_by_their_place(value):
    with pytest.raises(DataError, match=r"cannot read text 3 of 4: it "):
        as_texts(["late", "good", value, "fine"], "texts")
    with pytest.raises(LabelError, match=r"cannot use the label of example 2: it "):
        as_labels(["late", value, "fine"], "labels")


@pytest.mark.parametrize(
    "value", [5, 0.5, True, numpy.int64(5), torch.tensor(5), decimal.Decimal(5)]
)
def test_a_number_among_texts_is_refused_by_its_place(value):
    with pytest.raises(DataError, match=r"text 2 of 2: it is the .* and text is needed; write it"):
        as_texts(["late", value], "texts")


def test_all_holes_of_one_kind_are_told():
    with pytest.raises(DataError, match=r"source 1 of 4: it is empty.*goes for sources 2, 4$"):
        as_texts(["", " ", "good", ""], "sources")
    with pytest.raises(LabelError, match=r"example 2: it is empty.*for example 3$"):
        as_labels(["a", None, ""], "labels")
    with pytest.raises(DataError, match=r"texts 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 89 more$"):
        as_texts([None] * 100, "texts")


NO_COLUMNS = {
    "string": "late",
    "string of an array": numpy.str_("late"),
    "bytes": b"late",
    "dict": {"text": TEXTS},
    "set": set(TEXTS),
    "frozenset": frozenset(TEXTS),
    "table": pandas.DataFrame({"text": TEXTS}),
    "Arrow table": pyarrow.table({"text": TEXTS}),
    "array of two dimensions": numpy.array([TEXTS]).T,
    "array of none": numpy.array("late"),
    "tensor of two dimensions": torch.zeros(3, 2),
    "None": None,
    "number": 5,
    "truth value": True,
    "function": len,
    "class": list,
    "path": pathlib.Path("late"),
    "object": object(),
}


@pytest.mark.parametrize("values", NO_COLUMNS.values(), ids=NO_COLUMNS)
def test_what_is_no_column_is_refused_by_the_argument(values):
    with pytest.raises(DataError, match=r"cannot take .* as `sources`: .*(needed|give)"):
        as_texts(values, "sources")
    with pytest.raises(LabelError, match=r"cannot take .* as `labels`"):
        as_labels(values, "labels")


def test_a_data_set_is_asked_for_its_column():
    from datasets import Dataset

    with pytest.raises(DataError, match=r"cannot take a Dataset as `texts`.*name the column"):
        as_texts(Dataset.from_dict({"text": TEXTS}), "texts")


NO_NUMBERS = ("3", "no", None, float("nan"), float("inf"), -1, 1j, [1], True, len, 10**400)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 2.5, numpy.array([1, 2])], ids=repr)
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(SettingsError, match="as `steps`: a whole number, 0 or more, is needed"):
        check_whole(value, "steps")


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0], ids=repr)
def test_what_is_no_number_above_0_is_refused(value):
    with pytest.raises(SettingsError, match="as `learning_rate`: a number above 0 is needed"):
        check_number(value, "learning_rate", above=0)
    with pytest.raises(SettingsError, match="a number from 0 to 1 is needed"):
        check_number(value or 90, "min_confidence", share=True)


@pytest.mark.parametrize(
    "value", ["off", "None", "AUTO", "", None, True, False, 0, ["auto"]], ids=repr
)
def test_a_word_that_is_no_choice_is_never_taken_for_the_default(value):
    with pytest.raises(SettingsError, match="as `companion`: one of auto, none is needed"):
        check_choice(value, ("auto", "none"), "companion")


@pytest.mark.parametrize("value", ["no", "yes", "False", 0, 1, None, []], ids=repr)
def test_a_word_is_no_switch(value):
    with pytest.raises(SettingsError, match="as `private`: True or False is needed"):
        check_switch(value, "private")


def test_numbers_of_arrays_are_options():
    assert check_whole(numpy.int64(3), "steps") == 3 and check_whole(torch.tensor(3), "steps") == 3
    assert check_number(numpy.float64(0.5), "learning_rate", above=0) == 0.5
    assert check_number(1, "learning_rate", above=0) == 1.0
    assert check_switch(numpy.bool_(True), "private") is True


@pytest.fixture(scope="module")
def adapted(tiny_start: MetaModel) -> AdaptedModel:
    return tiny_start.adapt(TEXTS, LABELS, companion="none")


@pytest.fixture(scope="module")
def finder(tiny_start: MetaModel) -> RetrievalModel:
    model = tiny_start.adapt_to_pairs(TEXTS, TARGETS, companion="none")
    assert isinstance(model, RetrievalModel)
    return model


def test_models_take_what_holds_texts(tiny_start, adapted, finder):
    """Each the same as from a list."""
    answers = adapted.predict(TEXTS)

    assert adapted.predict(numpy.array(TEXTS)) == answers
    assert adapted.predict(pandas.Series(TEXTS)) == answers
    assert adapted.predict(text for text in TEXTS) == answers
    assert DomainPack(adapted, name="a").predict(("a" for _ in TEXTS), iter(TEXTS))
    assert torch.equal(finder.embed(pyarrow.array(TEXTS)), finder.embed(TEXTS))
    assert finder.align(iter(TEXTS), iter(TARGETS)) == finder.align(TEXTS, TARGETS)
    assert finder.rank(iter(TEXTS), iter(TARGETS)) == finder.rank(TEXTS, TARGETS)
    other = tiny_start.adapt(iter(TEXTS), numpy.array([1, 0] * 6), companion="none")
    assert other.labels == ("negative", "positive") and other.predict(TEXTS) == answers


def test_examples_of_a_label_are_left_out(tiny_start, adapted):
    """An example more, of a label that is dropped, changes nothing; one label may stand alone."""
    texts, labels = [*TEXTS, "what is this"], [*LABELS, "Unclear"]

    for drop_labels in (["unclear"], "unclear", ("Unclear ",)):
        model = tiny_start.adapt(texts, labels, companion="none", drop_labels=drop_labels)
        assert model.predict(TEXTS) == adapted.predict(TEXTS)


def test_examples_without_a_text_or_a_label_are_left_out_where_asked(tiny_start, adapted):
    texts = [*TEXTS, None, "who", " \u200b", "what"]
    labels = [*LABELS, "negative", math.nan, "positive", ""]

    model = tiny_start.adapt(texts, labels, companion="none", empty="skip")

    assert model.predict(TEXTS) == adapted.predict(TEXTS)
    assert model.match.notes == (
        "2 of 16 rows have no text and are left out (examples 13 and 15)",
        "2 of 16 rows have no label and are left out (examples 14 and 16)",
    )
    for given, message in (("stop", "cannot read text 13 of 16"), ("keep", "one of stop, skip")):
        with pytest.raises((DataError, SettingsError), match=message):
            tiny_start.adapt(texts, labels, empty=given)
    with pytest.raises(DataError, match="all 2 rows have no text"):
        tiny_start.adapt([None, ""], ["a", "b"], empty="skip")


ODD = {**HOLES, **STRANGERS, **NO_COLUMNS, "negative": -1, "fraction": 0.5, "huge": 10**400}
ODD["long"] = "q" * 5000


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_no_value_reaches_the_insides(tiny_start, adapted, finder, tmp_path, value):
    """Every argument of every public method: a sentence of the package, or an answer."""
    pack = DomainPack(adapted, name="a")
    common = {"steps": 1, "companion": "none"}
    calls = [
        lambda: adapted.predict(value),
        lambda: adapted.predict([value]),
        lambda: adapted.among(value),
        lambda: adapted.predict_frame({"text": TEXTS}, min_confidence=value),
        lambda: tiny_start.predict(value),
        lambda: tiny_start.adapt(value, LABELS, **common),
        lambda: tiny_start.adapt(TEXTS, value, **common),
        lambda: tiny_start.adapt([*TEXTS[:-1], value], LABELS, **common),
        lambda: tiny_start.adapt(TEXTS, [*LABELS[:-1], value], **common),
        lambda: tiny_start.adapt_to_pairs(value, TARGETS, **common),
        lambda: tiny_start.adapt_to_pairs(TEXTS, [value] * len(TEXTS), **common),
        lambda: tiny_start.translate(value, source_lang=value, target_lang=value),
        lambda: finder.embed(value),
        lambda: finder.rank(value, TARGETS),
        lambda: finder.rank(TEXTS, value),
        lambda: finder.align(value, TARGETS),
        lambda: finder.align(TEXTS, value),
        lambda: pack.predict(value, TEXTS),
        lambda: pack.predict(["a"], value),
        lambda: AdaptedModel.from_pretrained(value),
        lambda: explain(value, TEXTS),
        lambda: explain(adapted, value, ngrams_only=True),
        lambda: measure_layers(adapted, value),
        lambda: suggest(value, TEXTS, number=1),
        lambda: AdaptedModel.from_pretrained("absent", revision=value),
        lambda: AdaptedModel.from_pretrained("absent", token=value),
    ]
    calls += [
        lambda name=name: tiny_start.adapt(TEXTS, LABELS, **{**common, name: value})
        for name in (
            "steps",
            "learning_rate",
            "seed",
            "companion",
            "long_texts",
            "label_map",
            "drop_labels",
            "empty",
        )
    ]
    calls += [
        lambda name=name: tiny_start.adapt_to_pairs(TEXTS, TARGETS, **{**common, name: value})
        for name in ("seed", "companion", "long_texts", "source_lang", "target_lang", "lines")
    ]
    calls += [
        lambda name=name: finder.align(TEXTS, TARGETS, **{name: value})
        for name in ("threshold", "neighbors")
    ]
    if not callable(value):
        calls += [lambda: tiny_start.adapt(TEXTS, LABELS, **common, on_step=value)]
    for call in calls:
        sentence = refusal(call)
        assert len(sentence) < 2000 and "--" not in sentence


def refusal(call) -> str:
    """The sentence of the package that a call ends in; empty where it answers."""
    try:
        call()
    except NlpMetaError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:7", "meta", "", 3, True, 1j], ids=repr)
def test_a_device_that_is_not_here_is_refused(adapted, tmp_path, device):
    if torch.cuda.is_available() and device == "cuda":
        pytest.skip("it is here")
    adapted.save_pretrained(tmp_path / "model")

    with pytest.raises(SettingsError, match=r"cannot compute on the device .*change `device`"):
        AdaptedModel.from_pretrained(tmp_path / "model", device=device)


def test_a_model_is_saved_to_a_path_alone(adapted):
    for folder in (None, "", 5, b"late", "a\0b", object()):
        with pytest.raises(SettingsError, match="as `folder`: a path is needed"):
            adapted.save_pretrained(folder)


def test_columns_of_classes_have_their_names():
    """A number of a class means what its own column says, whatever 0 means elsewhere."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["good", "bad"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)

    assert as_labels(rows["label"], "labels") == ["good", "bad"]
    assert as_texts(rows["text"], "texts") == ["a", "b"]


def test_rows_of_ones_are_answered_with_a_way_out():
    with pytest.raises(LabelError, match=r"array\.argmax\(1\)"):
        as_labels(numpy.eye(2), "labels")


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere", "~/nowhere", __file__])
def test_a_path_without_a_model_is_named_as_such(name):
    with pytest.raises(NlpMetaError, match=r"no such folder|is a file"):
        MetaModel.from_pretrained(name)


def test_what_torch_was_told_elsewhere_changes_no_model(tiny_start, adapted):
    """A notebook may have another default type, or compute without gradients."""
    expected = [answer.probabilities for answer in adapted.predict(TEXTS)]

    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            again = tiny_start.adapt(TEXTS, LABELS, companion="none")
        answers = [answer.probabilities for answer in again.predict(TEXTS)]
    finally:
        torch.set_default_dtype(torch.float32)

    for answer, wanted in zip(answers, expected, strict=True):
        assert answer == pytest.approx(wanted, abs=1e-6)


def data_set(columns: dict[str, list]) -> object:
    from datasets import Dataset

    return Dataset.from_dict(columns)


FRAMES = {
    "dictionary": (dict, dict),
    "pandas": (
        lambda columns: pandas.DataFrame(columns, index=[7, 7]),
        lambda f: f.to_dict("list"),
    ),
    "polars": (polars.DataFrame, lambda frame: frame.to_dict(as_series=False)),
    "pyarrow": (pyarrow.table, pyarrow.Table.to_pydict),
    "datasets": (data_set, lambda frame: frame.to_dict()),
}


@pytest.mark.parametrize(("make", "read"), FRAMES.values(), ids=FRAMES)
def test_a_table_gets_its_answers_as_columns(adapted, make, read):
    """Of the same kind; its columns stay, a label of its own too, and a hole has no answer."""
    columns = {"id": [3, 4], "review": [TEXTS[0], None], "label": ["a", "b"]}
    frame = make(columns)

    answered = adapted.predict_frame(frame, column="review")

    (answer,) = adapted.predict(TEXTS[:1])
    expected = {**columns, "predicted_label": [answer.label, None]}
    expected |= {name: [odds, None] for name, odds in answer.probabilities.items()}
    found = {
        name: [None if value != value else value for value in values]
        for name, values in read(answered).items()
    }
    assert found == expected and type(answered) is type(frame)
    unsure = read(adapted.predict_frame(frame, column="review", min_confidence=1))
    assert all(value is None or value != value for value in unsure["predicted_label"])
    assert list(read(frame)) == list(columns)


@pytest.mark.parametrize(
    ("frame", "column", "said"),
    [
        (["a"], "text", "cannot take the list as `frame`"),
        (pandas.Series(["a"]), "text", "cannot take the Series as `frame`"),
        (polars.DataFrame({"a": [1]}).lazy(), "a", "cannot take the LazyFrame as `frame`"),
        ({"a": ["x"]}, "text", "cannot read the column 'text': the columns are 'a'"),
        ({"a": ["x", 1, None, 2]}, "a", "cannot read row 2 of column 'a': it is the int 1"),
    ],
)
def test_what_is_no_table_of_texts_is_refused(adapted, frame, column, said):
    with pytest.raises(DataError, match=said):
        adapted.predict_frame(frame, column=column)
    with pytest.raises(SettingsError, match=r"cannot take 80 as `min_confidence`: .* from 0 to 1"):
        adapted.predict_frame({"a": ["x"]}, column="a", min_confidence=80)


def test_a_model_is_called_for_its_answers_and_shown_in_a_line(tiny_start, adapted, finder):
    answers = adapted.predict(TEXTS)

    assert adapted(TEXTS) == answers
    rows = [[answer.probabilities[name] for name in adapted.labels] for answer in answers]
    assert adapted.predict_proba(TEXTS).tolist() == rows
    assert adapted.predict_proba([]).shape == (0, 2)
    assert repr(adapted).startswith("AdaptedModel(labels=('negative', 'positive'), base=")
    assert all(len(repr(model)) < 150 for model in (tiny_start, adapted, finder))
