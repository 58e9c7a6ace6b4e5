"""Pairs of sentences: dropped, found, accepted or rejected, learned from, downloaded."""

import csv
import io
import re
import sqlite3

import numpy as np
import pytest
from fastapi.testclient import TestClient

from nlp_meta.app.pairs import PairLearner, begin_pairs, choose_pair_start, fit_chances
from nlp_meta.app.server import build_app
from nlp_meta.errors import DataError
from nlp_meta.files.memories import read_memory
from nlp_meta.files.projects import (
    ACCEPTED,
    DATABASE,
    LABELED,
    MODEL,
    OPEN,
    REJECTED,
    UNSURE,
    Project,
)
from nlp_meta.files.tables import read_table
from nlp_meta.files.tmx import render_tmx
from nlp_meta.models.retrieval import RetrievalModel

TOKEN = "a-word-that-lets-in"
HTMX = {"hx-request": "true"}
THINGS = "phone house food room staff battery agent service money plot".split()
WORDS = "good bad great awful".split()
LEFT = [f"the {thing} is {word}" for thing in THINGS for word in WORDS]
RIGHT = [f"a {word} {thing} this is" for thing in THINGS for word in WORDS]


@pytest.fixture
def client(tmp_path):
    project = Project(tmp_path / "p", create=True)
    app = build_app(project, token=TOKEN, order=lambda order: None)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        client.get("/", params={"token": TOKEN})
        yield client


def drop(client, *files):
    return client.post("/drop", files=[("table", file) for file in files])


def answer_all(project, count):
    """Accept what is a translation and reject the rest, as a person would."""
    for _ in range(count):
        turn = project.next_row()
        if turn is None:
            return
        row, is_random = turn
        label = ACCEPTED if LEFT.index(row.text) == RIGHT.index(row.target) else REJECTED
        project.answer(row.id, row.version, state=LABELED, label=label, is_random=is_random)


def finish(learner):
    while learner.has_work:
        learner.work()


def memory(pairs):
    return ("memory.tmx", render_tmx(pairs, source_lang="en", target_lang="de"))


def two_texts():
    return ("a.en", "\n".join(LEFT).encode()), ("b.de", "\n".join(RIGHT[::-1]).encode())


def test_a_memory_names_its_languages_and_its_pairs_wait(client, tmp_path):
    page = drop(client, memory([("a house", "ein Haus"), ("a phone", "ein Telefon")]))
    assert re.findall(r'name="\w+_lang"[^>]*value="(\w+)"', page.text) == ["en", "de"]
    page = client.post("/pairs", data={"source_lang": "en", "target_lang": "de"})

    rows = Project(tmp_path / "p").list_rows()
    assert [(row.text, row.target, row.state) for row in rows] == [
        ("a house", "ein Haus", OPEN),
        ("a phone", "ein Telefon", OPEN),
    ]
    assert "being compared" in page.text or "ein" in page.text
    assert client.get("/results").url.path == "/label"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("a.txt", b"x"), ("b.txt", b"y"), ("c.txt", b"z")], "cannot take 3 files"),
        ([("a.txt", b"one line"), ("b.txt", b"  \n ")], "0 different lines"),
        ([("a.tmx", b"<tmx><body></body></tmx>"), ("b.txt", b"y")], "is a .tmx file"),
    ],
)
def test_what_cannot_be_paired_is_refused_in_a_sentence(client, files, words):
    page = drop(client, *files)
    assert page.status_code == 422 and words in page.text


def test_a_word_that_is_no_language_is_refused(client):
    drop(client, *two_texts())
    page = client.post("/pairs", data={"source_lang": "english", "target_lang": "de"})

    assert page.status_code == 422 and "cannot use the language" in page.text


def test_a_table_with_both_columns_may_be_a_memory(client, tmp_path):
    page = drop(client, ("pairs.csv", b"source,target\na house,ein Haus\na room,ein Zimmer\n"))
    assert 'href="/pairs"' in page.text
    client.post("/pairs", data={"source_lang": "en", "target_lang": "de"})

    assert [row.target for row in Project(tmp_path / "p").list_rows()] == ["ein Haus", "ein Zimmer"]


def test_pairs_are_accepted_rejected_and_taken_back(client, tmp_path):
    drop(client, memory([("a house", "ein Haus"), ("a <b>", "\u0645\u0631\u062d\u0628\u0627")]))
    client.post("/pairs", data={"source_lang": "en", "target_lang": "de"})
    project = Project(tmp_path / "p")
    project.write_fact("answers", {"labels": [], "answers": {}, "alike": {"1": 0.91}})
    page = client.get("/label").text
    assert 'data-key="a"' in page and 'data-key="r"' in page and "<b>" not in page.split("pair")[2]
    for label in (ACCEPTED, REJECTED):
        fields = dict(re.findall(r'name="(row|version|is_random)" value="(\d+)"', page))
        page = client.post("/label", data={**fields, "do": f"label:{label}"}, headers=HTMX).text

    assert "All pairs have an answer" in page
    assert sorted(project.count_labels().values()) == [1, 1]
    old = {"row": "1", "version": "0", "do": "unsure"}
    assert "answered in another window" in client.post("/label", data=old, headers=HTMX).text
    client.post("/label", data={"do": "undo"}, headers=HTMX)
    assert sum(project.count_labels().values()) == 1


def test_accepted_pairs_and_sure_ones_are_downloaded(client, tmp_path):
    """Of five the first is accepted, the second rejected, the third doubtful; two are open."""
    pairs = [(f"sentence {name}", f"=Satz {name}") for name in "abcde"]
    drop(client, memory(pairs))
    client.post("/pairs", data={"source_lang": "en", "target_lang": "de"})
    project = Project(tmp_path / "p")
    project.answer(1, 0, state=LABELED, label=ACCEPTED)
    project.answer(2, 0, state=LABELED, label=REJECTED)
    project.answer(3, 0, state=UNSURE)
    odds = {
        str(row): [chance, 1 - chance] for row, chance in enumerate((0.2, 0.9, 0.9, 0.9, 0.6), 1)
    }
    project.write_fact("answers", {"labels": [ACCEPTED, REJECTED], "answers": odds, "alike": {}})

    table = list(csv.DictReader(io.StringIO(client.get("/download.csv").text)))
    assert [(row["source"], row["by"]) for row in table] == [
        ("sentence a", "person"),
        ("sentence d", "model"),
    ]
    assert table[0]["target"] == "'=Satz a"
    (tmp_path / "x.tmx").write_bytes(client.get("/download.tmx", params={"least": "50"}).content)
    read = read_memory(tmp_path / "x.tmx", source_lang="en", target_lang="de")
    assert [pair.target for pair in read.pairs] == ["=Satz a", "=Satz d", "=Satz e"]
    page = client.get("/texts").text
    assert "3 of 5 pairs" in page and "sentence e" not in page  # 3 and 4 are sure, 1 is accepted


def test_other_commands_read_what_was_accepted(tmp_path):
    project = Project(tmp_path / "p", create=True)
    project.set_up_pairs([("a house", "ein Haus"), ("a room", "Raum")], languages=("en", "de"))
    project.answer(2, 0, state=LABELED, label=ACCEPTED)

    pairs = read_memory(tmp_path / "p", source_lang="en", target_lang="de").pairs
    assert [(pair.source, pair.target) for pair in pairs] == [("a room", "Raum")]
    with pytest.raises(DataError, match="it has pairs of sentences"):
        read_table(tmp_path / "p", max_rows=10)


def test_a_project_of_an_older_release_is_opened(tmp_path):
    """Format 1 had no column for the other sentence."""
    project = Project(tmp_path / "p", create=True)
    project.close()
    with sqlite3.connect(tmp_path / "p" / DATABASE) as base:
        base.execute("ALTER TABLE rows DROP COLUMN target")
        base.execute("INSERT INTO rows (text, cells, turn) VALUES ('old', '{}', 0)")
        base.execute("PRAGMA user_version = 1")

    assert [row.text for row in Project(tmp_path / "p").list_rows()] == ["old"]


def test_a_pair_that_is_no_longer_found_keeps_its_answer(tmp_path):
    project = Project(tmp_path / "p", create=True)
    project.set_up_pairs([], languages=("en", "de"))
    project.place_pairs([("a", "A"), ("b", "B"), ("c", "C")])
    project.answer(1, 0, state=LABELED, label=ACCEPTED)
    project.place_pairs([("b", "X")])
    assert [row.target for row in project.list_rows()] == ["A", "X"]

    # A window that still shows the second pair may answer it.
    assert project.answer(2, 0, state=LABELED, label=REJECTED)
    project.place_pairs([("b", "X"), ("c", "C")])
    assert [row.target for row in project.list_rows()] == ["A", "B", "C", "X"]


def test_chances_grow_with_the_margin_and_follow_the_answers():
    margins = np.linspace(0.9, 1.3, 21)
    before = fit_chances(margins, margins[:0], np.zeros(0, dtype=bool))
    judged = np.array([1.0, 1.05, 1.1, 1.15, 1.2, 1.25])
    careful = fit_chances(margins, judged, judged > 1.18)

    assert fit_chances(margins[:0], margins[:0], np.zeros(0, dtype=bool)).size == 0
    assert before[10] == pytest.approx(0.5, abs=0.01)
    for chances in (before, careful):
        assert (np.diff(chances) > 0).all() and 0 < chances[0] < chances[-1] < 1
    assert careful[10] < 0.2 < 0.8 < careful[-1]


def test_the_encoder_is_that_of_both_languages():
    english = ["the house is old and it was a very good one", "we had all of it"]

    assert choose_pair_start([english, english]) == "builtin:reviews-en"
    assert choose_pair_start([english, ["das Haus ist alt"]]) == "builtin:pairs-multi"


@pytest.mark.slow
def test_two_texts_are_paired_learned_from_and_saved(client, tmp_path, tiny_start):
    """The texts share their words, so that the overlap of letters tells what translates what."""
    drop(client, *two_texts())
    client.post("/pairs", data={"source_lang": "en", "target_lang": "de"})
    project = Project(tmp_path / "p")
    learner = PairLearner(project, start=tiny_start)
    finish(learner)
    first = {row.id for row in project.list_rows()}
    assert first and project.read_fact("answers")["alike"].keys() == set(map(str, first))
    for _ in range(5):
        answer_all(project, 5)
        finish(learner)

    assert project.read_fact("problem") is None
    assert project.read_fact("figures")["taken"] >= len(project.list_accepted()) > 4
    open_pairs = project.list_rows(OPEN)
    taken = {row.text for row in project.list_accepted()}
    assert not taken & {row.text for row in open_pairs}
    learner.obey("save")
    model = RetrievalModel.from_pretrained(project.folder / MODEL)
    assert model.languages == ("en", "de")
    assert project.read_fact("saved")["labels"] == len(project.list_accepted())


@pytest.mark.slow
def test_a_start_without_pairs_lends_its_encoder(tmp_path, tiny_start):
    project = Project(tmp_path / "p", create=True)
    project.set_up_pairs(list(zip(LEFT[:8], RIGHT[:8], strict=True)), languages=("en", "de"))
    learner = PairLearner(project, start=begin_pairs(tiny_start))
    for row in project.list_rows()[:6]:
        project.answer(row.id, 0, state=LABELED, label=ACCEPTED, is_random=row.id > 4)
    finish(learner)

    assert len(project.list_rows(OPEN)) == 2  # a memory's pairs stay
    learner.obey("save")
    assert project.read_fact("problem") is None and project.read_fact("saved")["labels"] == 6
