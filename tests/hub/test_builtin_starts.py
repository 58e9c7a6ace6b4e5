"""Starts that come with the package: whole, licensed, and able to answer."""

import json
import re

import pytest

from nlp_meta.cli import main
from nlp_meta.errors import MetaModelError
from nlp_meta.hub.builtin_starts import FOLDER, choose_start, list_starts, place_start
from nlp_meta.hub.pull import CARD
from nlp_meta.hub.records import START, check_files, read_record

NAMES = [start.name for start in list_starts()]
OPEN = re.compile(r"(cc0|cc-by|mit|apache|bsd|odbl)\b(?!.*-n[cd])")


@pytest.mark.parametrize("name", NAMES)
def test_is_as_it_was_saved_and_has_a_card(name):
    folder = place_start(name)
    record = read_record(folder, name=name)

    check_files(folder, record.files, name=name, labels=0)
    card = (folder / CARD).read_text(encoding="utf-8")

    assert record.role == START
    assert all(task in card for task in record.provenance["meta_train"])


@pytest.mark.parametrize("start", list_starts(), ids=NAMES)
def test_learned_from_what_may_be_passed_on_and_tells_its_scores(start):
    assert start.corpora and all(OPEN.match(license_id) for license_id in start.corpora.values())
    assert start.scores


def test_is_light_and_tells_no_place_of_a_machine():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) <= 4_000_000
    for path in files:
        assert not re.search(rb'"(/[a-z]+/|[A-Z]:\\)', path.read_bytes()), path


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(MetaModelError, match="one of builtin:labels-multi, builtin:pairs-multi"):
        place_start("builtin:reviews")
    with pytest.raises(MetaModelError, match="no such start"):
        place_start("builtin:../starts/reviews-en")


@pytest.mark.parametrize(
    ("labels", "label_map", "start"),
    [
        (["food", "travel"], None, "builtin:labels-multi"),
        (["Positif", "neg"], None, "builtin:sentiment-multi"),
        (["gut", "mies"], {"gut": "positive", "mies": "negative"}, "builtin:sentiment-multi"),
    ],
)
def test_other_labels_in_other_languages_have_a_start_of_their_own(labels, label_map, start):
    texts = ["Sepatu ini cepat rusak.", "Die Schuhe waren zu klein."]
    assert choose_start(texts, labels, label_map) == start
    english = ["The shoes were too small for me and they fell apart."] * 2
    assert choose_start(english, labels, label_map) == "builtin:reviews-en"


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("The shoes were too small for me and they fell apart.", "builtin:reviews-en"),
        ("Sepatu ini terlalu kecil dan cepat rusak.", "builtin:sentiment-multi"),
        ("Die Schuhe waren zu klein und sind gleich kaputt gegangen.", "builtin:sentiment-multi"),
        ("鞋子太小了", "builtin:sentiment-multi"),
    ],
)
def test_the_language_of_the_texts_chooses(text, start):
    assert choose_start([text]) == start


def test_starts_are_listed(capsys):
    assert main(["starts"]) == 0
    shown = capsys.readouterr().out
    assert main(["starts", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["starts"]

    assert [start["name"] for start in told] == NAMES
    assert all(name in shown for name in NAMES)


@pytest.mark.slow
def test_labels_are_enough_to_adapt_and_a_start_answers_without(tmp_path, capsys):
    table, model = tmp_path / "labels.csv", tmp_path / "mine"
    good = [f"I love this {thing}, it works very well" for thing in ("lamp", "coat", "desk")]
    bad = [f"The {thing} broke after a day and I am angry" for thing in ("lamp", "coat", "desk")]
    rows = [*((text, "positive") for text in good), *((text, "negative") for text in bad)]
    lines = [f'"{text}",{label}' for text, label in rows]
    table.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")

    assert main(["adapt", "--data", str(table), "--output-dir", str(model)]) == 0
    assert "builtin:reviews-en" in capsys.readouterr().out
    for name in (str(model), "builtin:reviews-en"):
        scores = tmp_path / "scores.json"
        words = ["evaluate", name, "--data", str(table), "--output", str(scores), "--replace"]
        assert main(words) == 0
        assert json.loads(scores.read_text("utf-8"))["accuracy"]["value"] == 1.0
    assert "the start answers negative or positive alone" in capsys.readouterr().err
    for command in ("inspect", "suggest"):
        words = [command, "--data", str(table), "--output", str(tmp_path / f"{command}.csv")]
        assert main(words) == 0
        assert "builtin:reviews-en" in capsys.readouterr().out
