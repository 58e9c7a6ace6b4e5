"""Data cards: what loads, and what each bad card is told."""

import re
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, DatasetCardData

from nlp_meta.data.cards import Columns, cards_folder, find_card, list_cards, load_card
from nlp_meta.errors import CardError

GOOD = """---
language: en
license: mit
pretty_name: Shops
task_categories: [text-classification]
size_categories: [n<1K]
source_datasets: [original]
nlp_meta:
  kind: classification
  parallel: false
  source:
    files: "shops/{task}.{split}.jsonl"
    hub: null
    obtain: write it
  columns: {text: text, label: stars, group: null}
  labels: {0: negative, true: positive, "2": positive}
  tasks:
  - {name: tea, domain: food, language: eng, meta_split: meta-train, splits: {train: train}}
  - {name: hats, domain: fashion, language: eng, meta_split: meta-test, splits: {train: dev}}
---
# Shops
"""

PAIRS = """---
language: [en, de]
license: mit
pretty_name: Notes
task_categories: [translation]
size_categories: [n<1K]
source_datasets: [original]
nlp_meta:
  kind: translation
  parallel: false
  source: {files: "notes/{task}.{split}.jsonl", obtain: write it}
  columns: {source: left, target: right, group: null}
  tasks:
  - {name: t, domain: tea, language: eng-deu, meta_split: meta-train, splits: {train: train+dev}}
---
# Notes
"""


def write_card(folder: Path, text: str) -> Path:
    path = folder / "shops.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_card_says_what_its_file_says(tmp_path):
    card = load_card(write_card(tmp_path, GOOD))

    assert (card.name, card.license, card.files) == ("shops", "mit", "shops/{task}.{split}.jsonl")
    assert [task.name for task in card.tasks] == ["tea", "hats"]
    assert card.tasks[1].splits == {"train": "dev"}
    assert card.hub is None and card.builtin is None


def test_label_values_that_yaml_reads_as_numbers_or_booleans_become_text(tmp_path):
    card = load_card(write_card(tmp_path, GOOD))

    assert card.labels == {"0": "negative", "True": "positive", "2": "positive"}
    assert card.label_names == ("negative", "positive")


def test_labels_may_be_a_list_of_names_that_stand_in_the_rows(tmp_path):
    mapping = 'labels: {0: negative, true: positive, "2": positive}'
    card = load_card(write_card(tmp_path, GOOD.replace(mapping, "labels: [refund, delay]")))

    assert card.labels == {"refund": "refund", "delay": "delay"}
    assert card.label_names == ("refund", "delay")


@pytest.mark.parametrize(
    ("old", "new", "key", "remedy"),
    [
        ("pretty_name: Shops", "pretty_nam: Shops", "`pretty_nam`", "write `pretty_name`"),
        ("  kind:", "  kinds:", "`nlp_meta.kinds`", "write `kind`"),
        ("obtain: write it", "obtian: write it", "`nlp_meta.source.obtian`", "write `obtain`"),
        ("domain: food", "domian: food", "`nlp_meta.tasks[0].domian`", "write `domain`"),
        ("license: mit\n", "", "`license`", "license: unknown"),
        ("license: mit", "license: other", "`license_name`", "add the key"),
        ("meta-train", "meta-tain", "`nlp_meta.tasks[0].meta_split`", "write 'meta-train'"),
        (
            "kind: classification",
            "kind: classifications",
            "`nlp_meta.kind`",
            "write 'classification'",
        ),
        ("name: hats", "name: tea", "`nlp_meta.tasks[1].name`", "rename"),
        ("parallel: false", "parallel: 'no'", "`nlp_meta.parallel`", "true or false"),
        ("domain: food", "domain: 3", "`nlp_meta.tasks[0].domain`", "a text is needed"),
        ("0: negative", "0: 1", "`nlp_meta.labels.0`", "a text is needed"),
        ("splits: {train: dev}", "splits: {dev: dev}", ".splits.dev`", "train"),
        ("splits: {train: dev}", "splits: {test: dev}", ".splits.train`", "add the key"),
        ("labels: {0: negative", "labels: [1] # {", "`nlp_meta.labels[0]`", "a text is needed"),
        ("splits: {train: dev}", "labels: [sad], splits: {train: dev}", "[1].labels`", "'sad'"),
        ("files: ", "builtin: 'x{task}'\n    files: ", "`nlp_meta.source.files`", "exactly one"),
        ("{task}.{split}", "{split}", "`nlp_meta.source.files`", "{task}"),
        ("hub: null", "hub: {revision: null}", "`nlp_meta.source.hub.id`", "add the key"),
        ("hub: null", "hub: {id: a/b, labels: {1: sad}}", "source.hub.labels`", "'sad'"),
        ("  tasks:\n", "  tasks: []\n  x:\n", "`nlp_meta.x`", "take it out"),
        ("language: en\n", "language: [1]\n", "`language[0]`", "a text is needed"),
    ],
)
def test_a_bad_card_names_file_key_and_remedy(tmp_path, old, new, key, remedy):
    assert old in GOOD
    path = write_card(tmp_path, GOOD.replace(old, new, 1))

    with pytest.raises(CardError) as caught:
        load_card(path)

    message = str(caught.value)
    assert str(path) in message and key in message and remedy in message
    assert "\n" not in message and message.count("; ") >= 2


def test_a_card_of_translations_has_a_pair_and_no_labels(tmp_path):
    card = load_card(write_card(tmp_path, PAIRS))

    assert (card.kind, card.columns) == ("translation", Columns("left", "right", None))
    assert (card.labels, card.label_names, card.tasks[0].labels) == ({}, (), None)
    assert (card.tasks[0].language, card.tasks[0].splits) == ("eng-deu", {"train": "train+dev"})


@pytest.mark.parametrize(
    ("old", "new", "key", "remedy"),
    [
        ("  tasks:", "  labels: {a: b}\n  tasks:", "`nlp_meta.labels`", "take it out"),
        ("source: left", "text: left", "`nlp_meta.columns.text`", "group, source, target"),
        ("eng-deu", "eng", "`nlp_meta.tasks[0].language`", "such as ind-jav"),
        ("eng-deu", "eng-deu-fra", "`nlp_meta.tasks[0].language`", "such as ind-jav"),
        ("domain: tea", "domain: tea, labels: [a]", "`nlp_meta.tasks[0].labels`", "take it out"),
    ],
)
def test_a_bad_card_of_translations_names_file_key_and_remedy(tmp_path, old, new, key, remedy):
    path = write_card(tmp_path, PAIRS.replace(old, new, 1))

    with pytest.raises(CardError) as caught:
        load_card(path)

    message = str(caught.value)
    assert str(path) in message and key in message and remedy in message


@pytest.mark.parametrize(
    "text", ["# no front matter\n", "---\na: [1\n---\n", "---\n- a\n---\n", "---\na: 1\n", ""]
)
def test_a_file_without_front_matter_is_refused(tmp_path, text):
    with pytest.raises(CardError, match="front matter"):
        load_card(write_card(tmp_path, text))


def test_an_unknown_card_is_answered_with_the_nearest_or_where_they_are_listed():
    with pytest.raises(CardError, match=r"did you mean 'nusax'\?.*"):
        find_card("nusaxx")
    with pytest.raises(CardError, match="a name that `nlp-meta cards` lists"):
        find_card("nothing like it")


def test_a_path_is_a_card(tmp_path):
    path = write_card(tmp_path, GOOD)

    assert find_card(str(path)) == path


@pytest.mark.parametrize("name", list_cards())
def test_shipped_cards_load_and_are_valid_on_the_hub(name):
    """The Hub's own reader is the other route to the same front matter."""
    path = cards_folder() / f"{name}.md"
    card = load_card(path)
    hub = DatasetCard.load(path).data

    assert isinstance(hub, DatasetCardData)
    assert hub.pretty_name == card.pretty_name and hub.license == card.license
    categories = {"classification": ["text-classification"], "translation": ["translation"]}
    assert hub.task_categories == categories[card.kind]
    assert all(isinstance(code, str) and 2 <= len(code) <= 3 for code in hub.language)
    assert yaml.safe_load(str(hub))["nlp_meta"]["kind"] == card.kind


def test_every_meta_split_of_the_fixed_cards_is_as_documented():
    """By hand, from the tables in the cards."""
    held_out = {
        "fdu_mtl": {"camera_photo", "health_personal_care", "magazines", "software"},
        "nusax": {"ban", "bjn", "nij"},
        "afrisenti": {"ibo", "orm", "arq"},
        "nlp_meta_reviews": {"real_estate"},
        "nusax_mt": {"ind-ban", "ind-bjn", "ind-nij"},
        "mafand": {"eng-ibo.news", "eng-sna.news", "fra-wol.news"},
        "udhr": {"eng-quy.legal", "eng-wol.legal"},
        "nusatranslation_mt": set(),
    }
    for name, expected in held_out.items():
        tasks = load_card(find_card(name)).tasks
        assert {task.name for task in tasks if task.meta_split == "meta-test"} == expected


def test_a_language_of_one_meta_split_in_sentiment_is_of_the_same_in_translation():
    """English, Indonesian and what medicine holds out as a domain are apart."""
    names = ("afrisenti", "nusax", "nusatranslation", "nusax_mt", "nusatranslation_mt", "mafand")
    splits: dict[str, set[str]] = {}
    for name in names:
        for task in load_card(find_card(name)).tasks:
            splits.setdefault(task.language.rpartition("-")[2], set()).add(task.meta_split)

    assert {language: found for language, found in splits.items() if len(found) > 1} == {}


def test_medicine_is_held_out_and_some_of_its_languages_are_trained_on():
    """By hand, from the tables: news of MAFAND, the encyclopedia of FLORES."""
    assert {task.meta_split for task in load_card(find_card("tico19")).tasks} == {"meta-test"}
    trained = {
        task.language
        for name in ("mafand", "flores_v1")
        for task in load_card(find_card(name)).tasks
        if task.meta_split == "meta-train"
    }
    judged = {task.language for task in load_card(find_card("tico19")).tasks}

    assert judged & trained == {"eng-hau", "eng-lug", "eng-swa", "eng-zul", "eng-nep"}


def test_questions_about_the_same_reviews_share_a_meta_split():
    tasks = load_card(find_card("arsc")).tasks
    found = {(task.domain, task.meta_split) for task in tasks}

    assert set(Counter(domain for domain, _ in found).values()) == {1}


def test_hub_ids_are_pinned_to_a_commit():
    hubs = [card.hub for card in map(load_card, map(find_card, list_cards())) if card.hub]

    assert hubs and all(hub.revision and len(hub.revision) == 40 for hub in hubs)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("license: mit", "license: !!int mit", r"not YAML \(line 3: 'mit' is no whole number\)"),
        ("license: mit", "license: mit\nlicense: x", r"line 4: the key 'license' is there twice"),
        ("license: mit", "license: 2024-02-31", r"line 3: '2024-02-31' is no date"),
        ("pretty_name: Shops", "pretty_name: " + "[" * 999, r"line 4: it is nested more than 50"),
    ],
)
def test_yaml_that_is_none_is_named_with_the_line_of_the_card(tmp_path, old, new, message):
    with pytest.raises(CardError, match=message) as caught:
        load_card(write_card(tmp_path, GOOD.replace(old, new)))

    assert "\n" not in str(caught.value)


def test_a_card_may_begin_with_a_byte_order_mark_and_end_lines_as_windows_does(tmp_path):
    path = tmp_path / "shops.md"
    path.write_bytes(("\ufeff" + GOOD.replace("\n", "\r\n").replace("---\r", "--- \r")).encode())

    assert load_card(path).pretty_name == "Shops"


SUITES = sorted((cards_folder().parent / "recipes/configs").glob("[!s]*_labels*.yaml"))
"""Without those of starts in the box, which learn from some of these corpora alone."""
SHIPPABLE = {"cc0-1.0", "mit", "apache-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-4.0"}


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_tasks_of_any_labels_are_judged_on_corpora_and_label_sets_that_no_training_saw(path):
    """A corpus is in one meta-split; each config has all cards, so none is judged and learned."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    label_sets: dict[str, list[frozenset[str]]] = {}
    corpora: dict[str, set[str]] = {}
    for card in map(load_card, map(find_card, data["cards"])):
        for task in card.tasks:
            corpora.setdefault(card.name, set()).add(task.meta_split)
            if not any(fnmatchcase(f"{card.name}/{task.name}", p) for p in data["exclude"]):
                labels = frozenset(task.labels or card.label_names)
                label_sets.setdefault(task.meta_split, []).append(labels)

    assert {len(splits) for splits in corpora.values()} == {1}
    learned = set(label_sets["meta-train"])
    assert learned.isdisjoint(label_sets["meta-test"] + label_sets["meta-validation"])
    assert len(label_sets["meta-test"]) >= 15
    assert sum(splits == {"meta-validation"} for splits in corpora.values()) in range(4, 8)


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_corpora_that_a_shipped_start_may_learn_from_say_so_in_their_license(path):
    """The config names them in a group of their own."""
    text = path.read_text(encoding="utf-8").split("    # ")
    groups = {part.partition("\n")[0]: part.partition("\n")[2] for part in text[1:5]}
    licenses = [
        {load_card(find_card(name)).license in SHIPPABLE for name in re.findall(r"[a-z]\w+", names)}
        for names in (re.split(r"\]", part)[0] for part in groups.values())
    ]

    assert "may be shipped" in next(iter(groups)) and licenses[:2] == [{True}, {False}]
