"""The pages over HTTP: who may enter, a table dropped, labels, two windows, hostile cells."""

import csv
import io
import re
import sys

import pytest
from fastapi.testclient import TestClient

from nlp_meta.app.server import LearnerProcess, build_app
from nlp_meta.files.projects import LABELED, Project

TOKEN = "a-word-that-lets-in"
HTMX = {"hx-request": "true"}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202eright to left by force",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643\u0645",
    "x" * 30_000,
    "{{ 7 * 7 }} {% include 'base.html.j2' %}",
)


def fields(page: str) -> dict[str, str]:
    """Hidden fields of the form of a text."""
    return dict(re.findall(r'name="(row|version|is_random)" value="(\d+)"', page))


def shown_text(page: str) -> str:
    return re.search(r'<blockquote id="text"[^>]*>(.*?)</blockquote>', page, re.DOTALL)[1]


def test_nobody_enters_without_the_token(project):
    app = build_app(project, token=TOKEN, order=lambda order: None)
    client = TestClient(app, base_url="http://127.0.0.1:8000", follow_redirects=False)

    for path in ("/", "/label", "/static/app.js", "/download.csv", "/?token=wrong", "/?token=\xe9"):
        answer = client.get(path)
        assert answer.status_code == 401 and "great phone" not in answer.text
    entered = client.get("/", params={"token": TOKEN})
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert "HttpOnly; SameSite=Strict" in entered.headers["set-cookie"]
    assert client.get("/label").status_code == 200


def test_another_host_and_another_origin_are_refused(client):
    assert client.get("/label", headers={"host": "evil.example"}).status_code == 421
    answer = client.post("/label", data={"do": "undo"}, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403


def test_a_report_that_was_not_made_leads_to_the_command_that_makes_it(client, project):
    assert client.get("/report").url.path == "/use"
    (project.folder / "report").mkdir()
    (project.folder / "report" / "report.html").write_text("made", encoding="utf-8")
    assert client.get("/report").text == "made"


def test_pages_load_nothing_from_elsewhere_and_weigh_little(client):
    """200 kB is the bound for a page with its scripts; the largest page lists 40 texts."""
    page = client.get("/texts")
    policy = page.headers["content-security-policy"]
    places = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    parts = [client.get(place) for place in places if place.startswith("/static/")]

    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert all(place.startswith(("/", "#", "data:,", "?")) for place in places)
    assert len(parts) == 3 and all(part.status_code == 200 for part in parts)
    assert sum(len(part.content) for part in [page, *parts]) < 200_000


@pytest.mark.parametrize("form", ["csv", "json", "txt"])
def test_a_dropped_table_becomes_a_project(tmp_path, form):
    rows = [("the lift is new", "good"), ("the lift is old", "bad"), ("no lift at all", "")]
    contents = {
        "csv": "\n".join(["text,kind", *(",".join(row) for row in rows), "never used,bad"]),
        "json": '[{"text": "the lift is new", "kind": "good"}, {"text": "old", "kind": "bad"}]',
        "txt": "the lift is new\nthe lift is old\n",
    }
    project, orders = Project(tmp_path / "p", create=True), []
    with TestClient(
        build_app(project, token=TOKEN, order=orders.append), base_url="http://127.0.0.1"
    ) as client:
        client.get("/", params={"token": TOKEN})
        page = client.post("/drop", files={"table": (f"my.{form}", contents[form].encode())})
        assert page.status_code == 200 and "What is in the table?" in page.text
        label_column = "kind" if form == "csv" else ""
        chosen = {"text_column": "text", "label_column": label_column, "names": "good\nbad\nodd"}
        page = client.post("/columns", data=chosen)
        assert page.url.path == "/label" and shown_text(page.text)
        assert set(project.labels) == {"good", "bad", "odd"}
        given = project.count_labels()
    assert given == ({"bad": 2, "good": 1, "odd": 0} if form == "csv" else dict.fromkeys(given, 0))
    assert orders


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", b""), ("a.xlsx", b"no workbook"), ("a.pdf", b"%PDF-1.4"), ("../../a.csv", b"\0\1")],
)
def test_what_is_no_table_is_refused_in_a_sentence(tmp_path, name, content):
    project = Project(tmp_path / "p", create=True)
    app = build_app(project, token=TOKEN, order=lambda order: None)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        client.get("/", params={"token": TOKEN})
        page = client.post("/drop", files={"table": (name, content)})

    assert page.status_code == 422 and "cannot" in page.text
    assert (name in page.text or "this table" in page.text) and "dropped" not in page.text
    assert {path.parent.name for path in tmp_path.rglob("*") if path.is_file()} == {"p"}


def test_labels_go_from_text_to_text(client, project, orders):
    page = client.get("/label").text
    first = shown_text(page)
    page = client.post("/label", data={**fields(page), "do": "label:good"}, headers=HTMX).text

    assert not page.lstrip().startswith("<!doctype")
    assert shown_text(page) != first
    assert project.count_labels() == {"good": 1, "bad": 0}
    page = client.post("/label", data={"do": "undo"}, headers=HTMX).text
    assert shown_text(page) == first
    assert project.count_labels() == {"good": 0, "bad": 0}
    assert orders.count("work") >= 3


def test_the_same_works_without_scripts(client, project):
    page = client.get("/label").text
    page = client.post("/label", data={**fields(page), "do": "label:bad"})

    assert page.url.path == "/label" and page.text.startswith("<!doctype html>")
    assert project.count_labels()["bad"] == 1


def test_a_second_window_is_told_and_overwrites_nothing(client, project):
    old = fields(client.get("/label").text)
    client.post("/label", data={**old, "do": "label:good"}, headers=HTMX)
    page = client.post("/label", data={**old, "do": "label:bad"}, headers=HTMX).text

    assert "answered in another window: it is good there" in page
    assert project.count_labels() == {"good": 1, "bad": 0}
    page = client.post("/texts", data={**old, "do": "label:bad"}, headers=HTMX).text
    assert "Changed in another window" in page
    assert project.count_labels() == {"good": 1, "bad": 0}


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_a_hostile_cell_is_a_text(tmp_path, text):
    project = Project(tmp_path / "p", create=True)
    given = {"text_column": "a", "columns": ["a"], "labels": [text[1:50], "b"], "given": [None]}
    project.set_up([text], [{"a": text}], **given)
    app = build_app(project, token=TOKEN, order=lambda order: None)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        client.get("/", params={"token": TOKEN})
        pages = [client.get(path).text for path in ("/label", "/texts", "/results", "/use")]
        data = {**fields(pages[0]), "do": f"label:{text[1:50]}"}
        client.post("/label", data=data, headers=HTMX)

    for page in pages:
        assert "<script>alert" not in page and "<img" not in page and "\u202e" not in page
    assert "7 * 7" in shown_text(pages[0]) or "7" not in text
    assert 'dir="auto"' in pages[0] and 'dir="auto"' in pages[1]
    assert [row.label for row in project_rows(tmp_path)] == [text[1:50]]


def project_rows(tmp_path):
    return Project(tmp_path / "p").list_rows(LABELED)


def test_answers_are_filtered_corrected_and_downloaded(client, project):
    """The model is sure of the first text, and less so of the others."""
    odds = {str(row.id): [0.95, 0.05] if row.id == 1 else [0.4, 0.6] for row in project.list_rows()}
    project.write_fact("answers", {"labels": ["good", "bad"], "answers": odds})

    page = client.get("/texts", params={"least": "90", "by": "model"}).text
    assert "great phone" in page and "awful service" not in page
    assert "1 of 10 texts" in client.get("/texts", params={"label": "good"}, headers=HTMX).text
    data = {**fields(page), "do": "label:bad"}
    line = client.post("/texts", data=data, headers=HTMX).text
    assert '<option value="label:bad" selected>' in line and "you" in line
    assert not project.find_row(1).is_random  # chosen by its answer, so it judges nothing
    table = list(csv.DictReader(io.StringIO(client.get("/download.csv").text)))
    assert table[0] == {
        "id": "0",
        "text": "great phone",
        "final_label": "bad",
        "confidence": "1.0",
        "labeled_by": "person",
    }
    assert table[1]["labeled_by"] == "model" and table[1]["confidence"] == "0.6"
    assert client.get("/download.xlsx").content.startswith(b"PK")


def test_a_cell_that_a_spreadsheet_would_run_is_text(tmp_path):
    project = Project(tmp_path / "p", create=True)
    cells = [{"a": "=cmd()"}, {"a": "-5"}]
    given = {"text_column": "a", "columns": ["a"], "labels": ["x", "y"], "given": [None, None]}
    project.set_up(["=cmd()", "-5"], cells, **given)
    app = build_app(project, token=TOKEN, order=lambda order: None)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        client.get("/", params={"token": TOKEN})
        table = list(csv.DictReader(io.StringIO(client.get("/download.csv").text)))

    assert [row["a"] for row in table] == ["'=cmd()", "-5"]


def test_a_doubted_label_is_kept_or_changed(client, project):
    for row, name in ((1, "bad"), (2, "bad")):
        project.answer(row, 0, state=LABELED, label=name)
    doubts = [{"row": row, "suggestion": "good", "chance": 0.9} for row in (1, 2)]
    figures = {"labels": 2, "changes": 2, "random": 0, "doubts": doubts, "words": {}}
    project.write_fact("figures", figures)

    assert client.get("/results").text.count("Make it") == 2
    client.post("/results", data={"row": 1, "version": 1, "do": "label:good"})
    page = client.post("/results", data={"row": 2, "version": 1, "do": "keep"}).text
    assert "Make it" not in page
    assert [project.find_row(row).label for row in (1, 2)] == ["good", "bad"]


def test_the_state_is_sent_where_it_changed(client, project):
    page = client.get("/label").text
    seen = re.search(r"/status\?seen=([\d-]+)", page)[1]

    assert client.get("/status", params={"seen": seen}).status_code == 204
    project.write_fact("progress", {"seen": 3, "of": 10})
    assert "3 of 10 texts read" in client.get("/status", params={"seen": seen}).text


def test_a_label_more_has_a_key(client, project):
    page = client.post("/labels", data={"name": "mixed"}).text

    assert project.labels == ["good", "bad", "mixed"]
    assert re.search(r'value="label:mixed" data-key="3"', page)
    assert client.post("/labels", data={"name": "MIXED "}).status_code == 422


def test_why_waits_for_the_words_and_marks_them(client, project, orders):
    odds = {str(row.id): [0.95, 0.05] for row in project.list_rows()}
    project.write_fact("answers", {"labels": ["good", "bad"], "answers": odds})
    assert client.get("/texts").text.count("Why?") == 10
    page = client.post("/why", data={"row": 1}, headers=HTMX).text
    again = re.search(r'hx-get="(/why[^"]+)"', page)[1].replace("&amp;", "&")
    assert orders[-1] == "why" and "being weighed" in client.get(again).text

    pieces = [["<b>", "for"], [" phone", ""], ["slow", "against"]]
    project.write_fact("why", {"ticket": 1, "label": "good", "pieces": pieces, "by": "all of it"})
    page = client.get(again).text
    assert "<mark>&lt;b&gt;</mark> phone<del>slow</del>" in page and "hx-get" not in page


def test_a_process_that_keeps_ending_is_told_and_no_save_waits_for_it(project, monkeypatch):
    learner = LearnerProcess(project, start=None)
    monkeypatch.setattr(learner, "_command", [sys.executable, "-c", "raise SystemExit(1)"])
    project.write_fact("saving", "save")

    for _ in range(4):
        learner.order("save")
        if learner._process:
            learner._process.wait()

    assert "ended 3 times" in project.read_fact("problem")
    assert project.read_fact("saving") is False
