"""Tasks: one meta-split a call, no text on two sides."""

import json
import logging
from pathlib import Path

import pytest

from nlp_meta.data.duplicates import sentence_key, text_key
from nlp_meta.data.tasks import load_tasks
from nlp_meta.errors import CardError, SettingsError

HEAD = """---
language: en
license: mit
pretty_name: Shops
task_categories: [text-classification]
size_categories: [n<1K]
source_datasets: [original]
nlp_meta:
  kind: classification
  parallel: PARALLEL
  source: {files: "{task}.{split}.jsonl", obtain: write it}
  columns: {text: text, label: label, group: GROUP}
  labels: {positive: positive, neutral: neutral, negative: negative}
  tasks:
"""
TASK = (
    "  - {{name: {name}, domain: d, language: eng, meta_split: {meta_split}, splits: {splits}}}\n"
)


@pytest.fixture
def make_shops(tmp_path):
    """Write a card `shops` and its files; `tasks` is name to (meta-split, train, test)."""

    def make(tasks, *, parallel="false", group="null", name="shops") -> str:
        text = HEAD.replace("PARALLEL", parallel).replace("GROUP", group)
        for task, (meta_split, train, test) in tasks.items():
            splits = "{train: train}" if test is None else "{train: train, test: test}"
            text += TASK.format(name=task, meta_split=meta_split, splits=splits)
            for part, rows in (("train", train), ("test", test)):
                lines = [
                    json.dumps(dict(zip(("text", "label", "key"), row, strict=False)))
                    for row in rows or ()
                ]
                (tmp_path / f"{task}.{part}.jsonl").write_text("\n".join(lines) + "\n")
        path = tmp_path / f"{name}.md"
        path.write_text(text + "---\n")
        return str(path)

    return make


def load(card, tmp_path: Path, *, meta_split="meta-train", **arguments):
    return load_tasks([card], meta_split=meta_split, data_root=str(tmp_path), **arguments)


def texts(examples):
    return [example.source for example in examples]


PLAIN = {
    "tea": ("meta-train", [("hot", "positive")], [("cold", "negative")]),
    "hats": ("meta-train", [("warm", "positive")], [("thin", "negative")]),
    "cars": ("meta-test", [("fast", "positive")], [("loud", "negative")]),
}


def test_each_meta_split_gives_its_own_tasks_in_the_order_of_the_card(make_shops, tmp_path):
    card = make_shops(PLAIN)

    assert [task.name for task in load(card, tmp_path)] == ["shops/tea", "shops/hats"]
    (cars,) = load(card, tmp_path, meta_split="meta-test")
    assert (cars.name, cars.kind, cars.meta_split) == ("shops/cars", "classification", "meta-test")
    assert texts(cars.train) == ["fast"] and texts(cars.test) == ["loud"]


def test_meta_train_tasks_come_without_their_test_rows(make_shops, tmp_path):
    assert [task.test for task in load(make_shops(PLAIN), tmp_path)] == [(), ()]


def test_labels_are_those_of_the_task_in_the_order_of_the_card(make_shops, tmp_path):
    rows = [("a", "negative"), ("b", "positive")]
    (task,) = load(make_shops({"tea": ("meta-train", rows, None)}), tmp_path)

    assert task.labels == ("positive", "negative")


def test_equal_texts_are_kept_once_and_never_on_both_sides(make_shops, tmp_path):
    """By hand: two writings of `great tea`, one of which test has; `bad` twice in test."""
    train = [("Great tea!", "positive"), ("great, TEA", "positive"), ("fine", "positive")]
    test = [("great tea", "positive"), ("bad", "negative"), ("Bad.", "negative")]
    card = make_shops({"tea": ("meta-test", [*train, ("Fine...", "positive")], test)})

    (task,) = load(card, tmp_path, meta_split="meta-test")

    assert texts(task.train) == ["fine"]
    assert texts(task.test) == ["great tea", "bad"]


def test_meta_train_drops_what_any_task_is_judged_on_and_logs_how_many(
    make_shops, tmp_path, caplog
):
    """By hand: `loud` is in the test rows of cars, `pale` in the only rows of walls."""
    card = make_shops(
        {
            **PLAIN,
            "tea": ("meta-train", [("Loud!", "positive"), ("pale", "negative")], None),
            "hats": ("meta-train", [("warm", "positive"), ("fast", "positive")], None),
            "walls": ("meta-validation", [("Pale", "negative")], None),
        }
    )
    with caplog.at_level(logging.INFO, logger="nlp_meta.data.tasks"):
        tea, hats = load(card, tmp_path)

    assert texts(tea.train) == [] and texts(hats.train) == ["warm", "fast"]
    assert "shops/tea: 2 train rows dropped" in caplog.text


def test_a_translation_of_a_test_row_in_train_is_refused(make_shops, tmp_path):
    """Sentence 7 is in the train rows of one language and the test rows of the other."""
    card = make_shops(
        {
            "eng": ("meta-train", [("good", "positive", "7")], [("bad", "negative", "8")]),
            "ind": ("meta-test", [("buruk", "negative", "8")], [("bagus", "positive", "7")]),
        },
        parallel="true",
        group="key",
    )

    with pytest.raises(CardError, match=r"`columns\.group`.*'7'.*'shops/eng'.*'shops/ind'"):
        load(card, tmp_path)


def test_a_parallel_card_that_is_split_alike_loads_with_its_groups(make_shops, tmp_path):
    card = make_shops(
        {
            "eng": ("meta-train", [("good", "positive", "7")], [("bad", "negative", "8")]),
            "ind": ("meta-test", [("bagus", "positive", "7")], [("buruk", "negative", "8")]),
        },
        parallel="true",
        group="key",
    )

    (task,) = load(card, tmp_path)

    assert [example.group for example in task.train] == ["7"]


def test_patterns_replace_the_meta_splits_of_the_card(make_shops, tmp_path):
    card = make_shops(PLAIN)
    splits = {"meta-test": ["shops/t*"], "meta-validation": ["*/cars"]}

    (tea,) = load(card, tmp_path, meta_split="meta-test", splits=splits)
    (cars,) = load(card, tmp_path, meta_split="meta-validation", splits=splits)
    (hats,) = load(card, tmp_path, splits=splits)

    assert (tea.name, texts(tea.test), tea.meta_split) == ("shops/tea", ["cold"], "meta-test")
    assert (cars.name, hats.name) == ("shops/cars", "shops/hats")


def test_excluded_tasks_are_left_out(make_shops, tmp_path):
    (tea,) = load(make_shops(PLAIN), tmp_path, exclude=["shops/hats"])

    assert tea.name == "shops/tea"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"splits": {"meta-test": ["shops/tee"]}}, r"'shops/tee'.*shops/tea.*data\.splits\.meta"),
        ({"exclude": ["tea"]}, r"'tea'.*shops/tea.*`data\.exclude`"),
        (
            {"splits": {"meta-test": ["shops/tea"], "meta-validation": ["*/t*"]}},
            r"'shops/tea'.*both match.*`data\.splits`",
        ),
        ({"splits": {"meta-tst": ["shops/tea"]}}, r"'meta-tst'.*meta-test.*`data\.splits`"),
        ({"meta_split": "meta-validation"}, r"none.*shops/cars \(meta-test\).*`data\.splits`"),
        ({"meta_split": "train"}, r"'train'.*meta-train, meta-validation, meta-test"),
        ({"exclude": ["*"]}, r"no card.*`data\.cards`"),
    ],
)
def test_settings_that_give_nothing_name_what_there_is(make_shops, tmp_path, arguments, message):
    with pytest.raises(SettingsError, match=message):
        load(make_shops(PLAIN), tmp_path, **arguments)


def test_no_card_and_the_same_card_twice_are_refused(make_shops):
    card = make_shops(PLAIN)
    with pytest.raises(SettingsError, match=r"no card.*fdu_mtl.*`data\.cards`"):
        load_tasks([], meta_split="meta-train")
    with pytest.raises(SettingsError, match=r"'shops' 2 times"):
        load_tasks([card, card], meta_split="meta-train")


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("It's  GREAT!", "its great", True),
        ("``great''", '"Great"', True),
        ("Cafe\u0301", "caf\u00c9", True),
        ("Stra\u00dfe", "STRASSE", True),
        ("\u0928\u093e", "\u0928\u093f", False),
        (":)", ":(", False),
        (": )", ":)", True),
        ("\U0001f600", "\U0001f622", False),
        ("5 stars", "1 star", False),
        ("\u201ebuono\u201c \u2013 s\u00ec", "Buono: s\u00ec", True),
    ],
)
def test_texts_are_equal_up_to_case_punctuation_and_blanks(one, other, equal):
    assert (text_key(one) == text_key(other)) is equal


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("Thank you.", "thank  YOU!", True),
        ("Merci !", "merci", True),
        ("Cafe\u0301\u2026", "caf\u00c9", True),
        ("C#.", "C.", False),
        ("-5", "5", False),
        ("5.", ".5", False),
        ("3!", "3", False),
        ("You came?", "You came.", False),
        ("(:", ":)", False),
        ("...", "!", False),
    ],
)
def test_only_case_blanks_and_the_stop_are_no_part_of_a_sentence(one, other, equal):
    assert (sentence_key(one) == sentence_key(other)) is equal


NOTES = """---
language: [en, de]
license: mit
pretty_name: Notes
task_categories: [translation]
size_categories: [n<1K]
source_datasets: [original]
nlp_meta:
  kind: translation
  parallel: true
  source: {files: "{task}.{split}.jsonl", obtain: write it}
  columns: {source: source, target: target, group: null}
  tasks:
"""
PAIR = (
    "  - {{name: {name}, domain: d, language: {name}, meta_split: {meta_split}, "
    "splits: {{train: train, test: test}}}}\n"
)


@pytest.fixture
def make_notes(tmp_path):
    """Write a card `notes` and its files; `tasks` is pair to (meta-split, train, test)."""

    def make(tasks) -> str:
        text = NOTES
        for name, (meta_split, train, test) in tasks.items():
            text += PAIR.format(name=name, meta_split=meta_split)
            for part, rows in (("train", train), ("test", test)):
                lines = [json.dumps({"source": one, "target": other}) for one, other in rows]
                (tmp_path / f"{name}.{part}.jsonl").write_text("\n".join(lines) + "\n")
        (tmp_path / "notes.md").write_text(text + "---\n")
        return str(tmp_path / "notes.md")

    return make


def sentences(examples):
    return [(one.source, one.target) for one in examples]


def test_translations_load_with_their_pair_and_without_labels(make_notes, tmp_path):
    """By hand: one copy of `yes, ja`; another translation of `yes` is another pair."""
    rows = [("yes", "ja"), ("Yes!", "Ja"), ("yes", "doch")]
    card = make_notes({"eng-deu": ("meta-train", rows, [("no", "nein")])})

    (task,) = load(card, tmp_path)

    assert (task.kind, task.pair, task.labels) == ("translation", ("eng", "deu"), ())
    assert sentences(task.train) == [("yes", "ja"), ("yes", "doch")]
    assert (task.test, task.dropped) == ((), 0)


def test_a_train_pair_that_shares_either_sentence_with_a_judged_pair_is_dropped(
    make_notes, tmp_path
):
    """By hand: `tea` is a judged source, `Kaffee` a judged target, `milk` in the own test rows."""
    train = [("Tea!", "Tee"), ("koffie", "kaffee."), ("milk", "Milch"), ("juice", "Saft")]
    card = make_notes(
        {
            "eng-deu": ("meta-train", train, [("milk", "Sahne")]),
            "eng-fra": ("meta-test", [("juice", "jus")], [("tea", "the"), ("coffee", "Kaffee")]),
        }
    )

    (task,) = load(card, tmp_path)
    (judged,) = load(card, tmp_path, meta_split="meta-test")

    assert sentences(task.train) == [("juice", "Saft")] and task.dropped == 3
    assert len(judged.test) == 2 and judged.dropped == 0


def test_a_train_pair_that_repeats_a_side_of_an_own_test_pair_is_dropped(make_notes, tmp_path):
    train = [("good day", "guten Tag"), ("hello", "Guten Tag!"), ("bye", "tschau")]
    card = make_notes({"eng-deu": ("meta-test", train, [("how do you do", "guten Tag")])})

    (task,) = load(card, tmp_path, meta_split="meta-test")

    assert sentences(task.train) == [("bye", "tschau")] and task.dropped == 2


def test_kinds_that_are_loaded_together_hold_back_what_the_other_is_judged_on(
    make_shops, make_notes, tmp_path
):
    """By hand: `buruk` is judged as a review and `bagus` as a translation."""
    shops = make_shops(
        {
            "ind": ("meta-train", [("Bagus.", "positive"), ("lama", "negative")], None),
            "ban": ("meta-test", [("x", "positive")], [("buruk", "negative")]),
        }
    )
    notes = make_notes(
        {
            "eng-ind": ("meta-train", [("bad", "Buruk!"), ("new", "baru")], []),
            "ind-ban": ("meta-test", [("kecil", "cenik")], [("bagus", "luung")]),
        }
    )

    reviews, pairs = load_tasks([shops, notes], meta_split="meta-train", data_root=str(tmp_path))

    assert (texts(reviews.train), reviews.dropped) == (["lama"], 1)
    assert (sentences(pairs.train), pairs.dropped) == ([("new", "baru")], 1)
