"""Labels, names and texts of users harm nothing where others read them.

Expected lines follow the rules of CommonMark and of terminals, worked out by hand.
"""

import io
import json
import re
from argparse import ArgumentParser

import pytest
from rich.console import Console

from nlp_meta.cli.screen import Screen, show_facts, show_notes, show_sentence, show_table
from nlp_meta.escapes import escape_markdown, escape_markdown_code, one_line, visible
from nlp_meta.report.page import to_markdown, write_report

HOSTILE = (
    "<script>alert(1)</script>",
    "![x](http://evil.example/p.png)",
    "a | b",
    "\n## Title",
    "\x1b]0;owned\x07\x1b[2J",
    "\u202etxt.exe",
    "x" * 30_000,
    "---\nlicense: x\n---\n",
    "`code` and ``more",
    "{{ 7 * 7 }}{% raw %}",
    "\x9b2J",
    "a\u2028b\rc",
    "\ud800",
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("<b>", "&lt;b>"),
        ("&lt;", "&amp;lt;"),
        ("a | b", r"a \| b"),
        ("\n## Title", r"\## Title"),
        ("1. one", r"1\. one"),
        ("- one", r"\- one"),
        ("-0.5", "-0.5"),
        ("*a* __b__ macro_f1", r"\*a\* \_\_b\_\_ macro_f1"),
        ("[here](x)", r"\[here\](x)"),
        ("x [0.1, 0.2]", "x [0.1, 0.2]"),
        ("see http://evil.example now", "see `http://evil.example` now"),
        ("a.b@c.org", "`a.b@c.org`"),
        ("precision@1", "precision@1"),
        ("`code|` but `", r"`code\|` but \`"),
        ("\x1b[2J", r"\\x1b[2J"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
    ],
)
def test_a_value_is_text_of_one_line_of_markdown(text, line):
    assert escape_markdown(text) == line


def test_a_name_is_one_span_of_code():
    assert escape_markdown_code("a`b") == "``a`b``"
    assert escape_markdown_code("`") == "`` ` ``"
    assert escape_markdown_code("a|b\n# c") == r"`a\|b # c`"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_line_is_printable_and_short(text):
    for line in (one_line(text), escape_markdown(text), escape_markdown_code(text)):
        assert all(sign.isprintable() for sign in line)
        assert len(line) < 2_100
        line.encode("utf-8")


def test_what_cannot_be_seen_is_written_as_python_would():
    assert visible("a\x1b\u202e\ud800\n\u00e9") == r"a\x1b\u202e\ud800\n" + "\u00e9"
    assert visible("a\nb", keep="\n") == "a\nb"


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_steers_a_terminal(text):
    streams = io.StringIO(), io.StringIO()
    consoles = [Console(file=stream, markup=False, width=100) for stream in streams]
    screen = Screen(*consoles, ArgumentParser())

    show_table(screen, ("label", "rows"), [(text, "1")])
    show_facts(screen, {"label": text})
    show_sentence(screen, text)
    show_notes(screen, [text])

    printed = "".join(stream.getvalue() for stream in streams)
    assert all(sign.isprintable() or sign == "\n" for sign in printed)
    assert len(printed) < 8_000


@pytest.mark.slow
@pytest.mark.parametrize("name", [" ".join(HOSTILE[:6]), HOSTILE[6]], ids=("signs", "length"))
def test_names_change_nothing_of_a_report_but_themselves(results, tmp_path, name):
    """Titles of methods, names of tasks and notes: the same headings, rows and elements."""
    plain, hostile = (rename(results, word) for word in ("plain", name))

    pages = []
    for number, renamed in enumerate((plain, hostile)):
        folder = tmp_path / str(number)
        folder.mkdir()
        page = write_report(folder, renamed, None)[0].read_text(encoding="utf-8")
        pages.append([len(re.findall(f"<{tag}[ >]", page)) for tag in ("tr", "h2", "li", "p")])
        assert not re.search('<script|src="http', page)
        assert all(sign.isprintable() or sign in "\n\t\u00a0" for sign in page)
    assert pages[0] == pages[1]
    lines = [to_markdown(renamed).splitlines() for renamed in (plain, hostile)]
    starts = [[line[:3] for line in text if line.startswith(("#", "| -"))] for text in lines]
    bars = [[len(re.findall(r"(?<!\\)\|", line)) for line in text] for text in lines]
    assert starts[0] == starts[1]
    assert bars[0] == bars[1]


def rename(results, name):
    """The same results with one name in every place that a user fills."""
    changed = json.loads(json.dumps(results))
    for facts in changed["methods"].values():
        facts["title"] = f"{facts['title']} {name}"
    changed["title"], changed["notes"] = name, [name]
    return changed
