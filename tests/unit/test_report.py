"""The page: complete, escaped, readable by machines, and one that says what is missing."""

import base64
import re
from html.parser import HTMLParser

import pyarrow as pa
import pytest

from nlp_meta.errors import DataError
from nlp_meta.report.page import to_markdown, write_report
from nlp_meta.report.verdict import answer_sentence

VOID = {"meta", "img", "br", "link", "input", "hr", "source"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether every tag is closed."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def attributes(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def write(folder, results, predictions):
    html = write_report(folder, results, predictions)[0].read_text(encoding="utf-8")
    return html, Page(html)


@pytest.fixture(scope="module")
def written(careless_page):
    results, paths = careless_page
    html = paths[0].read_text(encoding="utf-8")
    return results, paths, html, Page(html)


def test_page_and_pictures_are_written(written):
    _, paths, _, _ = written

    assert paths[0].name == "report.html"
    assert sorted(path.name for path in paths[1:]) == sorted(
        f"{name}.{kind}"
        for name in (
            *("learning_curves", "all_curves", "domains", "cost", "confusion", "calibration"),
        )
        for kind in ("png", "svg")
    )
    assert {path.parent.name for path in paths[1:]} == {"figures"}
    assert all(path.stat().st_size > 1000 for path in paths)


def test_page_says_the_answer_first_and_then_all_else_in_order(written):
    results, _, _, page = written
    parts = [
        answer_sentence(results),
        "The curve of every method",
        "Every method, at every number of labels",
        "Every measure",
        "Domain by domain",
        "Is the difference real?",
        "How many labels another method needs",
        "What it costs",
        "Where it errs",
        "Does it know when it is wrong?",
        "Had any test text been seen before?",
        "How it was measured",
        "Skipped methods",
        "A note.",
    ]
    text = page.text.replace("\u00a0", " ")

    places = [text.find(part) for part in parts[:2]]
    rest = text.partition(" How it was measured ")[2]  # the contents end with that name
    places += [len(text) + rest.find(part) for part in parts[2:]]

    assert -1 not in places and len(text) - 1 not in places
    assert places == sorted(places)
    assert "the package setfit is missing" in rest


def test_every_picture_has_words_and_every_table_a_caption_and_scopes(written):
    _, _, html, page = written

    assert len(page.attributes("img")) == 12
    assert all(len(one["alt"]) > 20 for one in page.attributes("img"))
    assert page.attributes("svg") == []
    assert len(page.attributes("table")) == len(page.attributes("caption")) > 6
    assert {one.get("scope") for one in page.attributes("th")} == {"col", "row"}
    assert page.attributes("html") == [{"lang": "en"}]
    assert any(one.get("name") == "viewport" for one in page.attributes("meta"))
    assert page.open == []
    assert html.startswith("<!doctype html>")


def test_page_fetches_nothing_and_runs_nothing(written):
    _, _, html, page = written
    addresses = [
        attrs[name]
        for _, attrs in page.tags
        for name in ("src", "href", "srcset", "action", "data", "poster")
        if name in attrs
    ]

    assert all(one.startswith(("data:image/svg+xml;base64,", "#")) for one in addresses)
    assert page.attributes("script") == page.attributes("link") == page.attributes("iframe") == []
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert "url(" not in html and "@import" not in html
    policy = [one for one in page.attributes("meta") if "Content-Security-Policy" in one.values()]
    assert policy[0]["content"].startswith("default-src 'none'")


def test_contents_lead_to_sections(written):
    _, _, _, page = written
    names = {attrs["id"] for _, attrs in page.tags if "id" in attrs}

    assert {one["href"].removeprefix("#") for one in page.attributes("a")} == names


def test_texts_are_escaped_shortened_and_keep_their_direction(written):
    """Control characters and those that turn a text around are written out."""
    _, _, html, page = written

    assert "<script" not in html
    assert (
        "&lt;script&gt;alert(&#39;key3&#39;)&lt;/script&gt; &amp; "
        "\\x00 \\u202e\u0637\u0639\u0627\u0645\\u202c long" in html
    )
    assert "Shelves &lt;b&gt; &amp; &#34;more&#34;" in html
    assert not set(html) & {"\x00", "\u202e", "\u202c"}
    assert all(one.get("dir") == "auto" for one in page.attributes("blockquote"))
    quotes = re.findall(r"<blockquote[^>]*>(.*?)</blockquote>", html, flags=re.DOTALL)
    assert max(map(len, quotes)) < 330


def test_texts_are_those_that_one_side_alone_gets_right(written):
    """By hand: the rival errs on row 0 of draw 0, ours on row 3 of both draws, in two tasks."""
    _, _, html, _ = written
    ours, rival = html.split("<h3>joint training, then fine-tuning is right, Reptile is wrong")

    assert ours.count("alert(&#39;key0&#39;)") == 2
    assert rival.count("alert(&#39;key3&#39;)") == 2
    assert "so in 1 of 2 draws" in ours
    assert "so in 2 of 2 draws" in rival


def test_no_method_is_called_ours_or_a_rival(written, results):
    """Methods have names; what the settings and the columns of the results say stays."""
    _, _, _, page = written

    for text in (page.text, to_markdown(results)):
        assert not re.search(r"\b(ours|rivals?)\b", text, flags=re.IGNORECASE)


def test_a_page_of_one_task_repeats_no_table(tmp_path, results):
    results["tasks"] = results["tasks"][:1]

    _, page = write(tmp_path, results, None)

    assert "Domain by domain" not in page.text and "worst domain" not in page.text
    assert "5 methods, each judged by 4 texts after learning from up to 50 labels, in 2 draws" in (
        page.text
    )


def test_pictures_in_the_page_are_dark_on_a_dark_screen_and_those_written_are_plain(written):
    _, paths, _, page = written
    pictures = [
        base64.b64decode(one["src"].partition(",")[2]).decode() for one in (page.attributes("img"))
    ]

    assert all("screen and (prefers-color-scheme:dark)" in one for one in pictures)
    assert not any("#1f2933" in one.partition("</style>")[2] for one in pictures)
    assert "var(" not in next(path for path in paths if path.suffix == ".svg").read_text()


def test_the_page_is_the_same_twice(tmp_path, results):
    one, _ = write(tmp_path / "one", results, None)
    two, _ = write(tmp_path / "two", results, None)

    assert one == two


def test_without_answers_the_page_says_what_it_cannot_show(tmp_path, results):
    _, page = write(tmp_path, results, None)

    assert "Answers to single texts were not kept at 50 labels" in page.text
    assert len(page.attributes("img")) == 8


def test_without_tests_of_one_draw_and_ours_the_page_says_so(tmp_path, without, predictions):
    results = without("reptile")
    results |= {"draws": 1, "cells": [one for one in results["cells"] if one["draw"] == 0]}
    for row in results["summary"]:
        row.update(low=None, high=None)

    _, page = write(tmp_path, results, predictions)

    for said in (
        "One support draw was judged",
        "Use joint training, then fine-tuning",
        "Differences were not tested",
    ):
        assert said in page.text


def test_without_any_rival_the_page_says_so(tmp_path, without):
    _, page = write(tmp_path, without("joint", "lora", "zero", "prompting"), None)

    assert "no other method was measured" in page.text


def test_least_results_make_a_page(tmp_path, results):
    """Nothing but what must be there: no score at all, and no method of ours."""
    needed = ("format", "title", "metric", "labels", "draws", "tasks", "methods")
    least = {name: results[name] for name in needed} | {"ours": None, "summary": []}

    _, page = write(tmp_path, least, None)

    assert "No method has a score, so there are no curves." in page.text
    assert page.attributes("img") == []
    assert to_markdown(least).startswith("## Two shelves of reviews")


def test_a_test_set_of_one_label_is_named(tmp_path, results, predictions):
    good = [one for one in predictions.to_pylist() if one["true"] == "good"]

    _, page = write(tmp_path, results, pa.Table.from_pylist(good))

    assert re.search(r"The test set of\s+reviews/books\s+has one label only", page.text)


def test_the_number_of_labels_can_be_told(tmp_path, results, predictions):
    path, *_ = write_report(tmp_path, results, predictions, labels=8)

    text = path.read_text(encoding="utf-8")

    assert "with 8 labels of each of 2 new domains" in text
    assert "not kept at 8 labels" in text


def test_results_of_another_format_are_refused_before_anything_is_written(tmp_path, results):
    with pytest.raises(DataError, match="format 7"):
        write_report(tmp_path / "new", results | {"format": 7}, None)

    assert not (tmp_path / "new").exists()


def test_markdown_holds_the_answer_and_the_same_numbers(results):
    text = to_markdown(results)

    assert text.startswith(f"## Two shelves of reviews\n\n{answer_sentence(results)}\n")
    assert "| Reptile | **0.800** [0.780, 0.820] | **0.820** [0.800, 0.840] |" in text
    assert "| plain LoRA | - | +0.270 [+0.250, +0.290] p = 0.001 ▲ |" in text
    assert "- Skipped: SetFit (the package `setfit` is missing" in text
    assert "- Hardware: 2 CPU cores" in text
    assert "\n\n\n" not in text
