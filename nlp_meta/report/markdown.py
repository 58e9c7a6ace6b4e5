"""The answer and the tables of the page as Markdown, whole or in chosen parts of a document."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nlp_meta.errors import DataError
from nlp_meta.report.contents import contents_of
from nlp_meta.report.layout import Table, to_markdown_table
from nlp_meta.report.verdict import Results, check_results, headline_labels, judge_ours

_MARKED = re.compile(
    r"(?P<begin><!-- results of (?P<name>[\w-]+): (?P<parts>[\w, ]+) -->\n)"
    r"(?P<body>.*?)(?P<end>^<!-- end of results -->$)",
    re.DOTALL | re.MULTILINE,
)


def _write_table(table: Table) -> list[str]:
    return [to_markdown_table(table)] if table.rows else []


def _write_items(items: Sequence[str]) -> list[str]:
    return [f"- {item}" for item in items]


def _write_sentences(sentences: Sequence[str]) -> list[str]:
    return list(sentences)


# In the order of the page: a part, and how what it holds becomes paragraphs.
PARTS: Mapping[str, Callable[[Any], list[str]]] = {
    "sentence": lambda sentence: [sentence],
    "remarks": _write_sentences,
    "glance": _write_table,
    "scores": _write_table,
    "measures": _write_table,
    "domains": _write_table,
    "cost": _write_table,
    "paired": _write_table,
    "break_even": _write_sentences,
    "break_even_table": _write_table,
    "tasks": _write_table,
    "choices": _write_table,
    "leaks_table": _write_table,
    "leaks": lambda sentences: [" ".join(sentences)],
    "circumstances": lambda pairs: _write_items([f"{name}: {value}" for name, value in pairs]),
    "skipped": lambda reasons: _write_items(
        [f"Skipped: {title} ({reason})" for title, reason in reasons.items()]
    ),
    "notes": _write_items,
}


def to_markdown(
    results: Results, *, labels: int | None = None, parts: Sequence[str] | None = None
) -> str:
    """Write what the page says as Markdown.

    Args:
        labels: The number of labels that it speaks of; the largest unless told.
        parts: Names of `PARTS`, in the order wanted; all of them under a heading unless told.

    Raises:
        DataError: Results of another format, a part that there is not, or nothing was measured
            at `labels`.
    """
    check_results(results)
    unknown = [part for part in parts or () if part not in PARTS]
    if unknown:
        raise DataError(f"there is no part {unknown[0]!r} of results; there are {', '.join(PARTS)}")
    contents = contents_of(results, judge_ours(results, headline_labels(results, labels)))
    paragraphs = [f"## {results['title']}"] if parts is None else []
    for part in PARTS if parts is None else parts:
        paragraphs += PARTS[part](contents[part])
    return "\n\n".join(paragraphs) + "\n"


def fill_markdown(document: str, read: Callable[[str], Results]) -> str:
    """Write results anew wherever a document asks for them.

    It asks with a line `<!-- results of NAME: PART, PART -->`; what follows, as far as a line
    `<!-- end of results -->`, is replaced.

    Args:
        read: From a name to its results.

    Raises:
        DataError: As `to_markdown` does, and a document that asks and does not end.
    """
    if len(_MARKED.findall(document)) != document.count("<!-- results of "):
        raise DataError(
            "a line `<!-- results of NAME: PART, PART -->` is not closed by "
            "`<!-- end of results -->`, or is written otherwise"
        )

    def fill(found: re.Match[str]) -> str:
        parts = [part.strip() for part in found["parts"].split(",")]
        body = to_markdown(read(found["name"]), parts=parts)
        return f"{found['begin']}\n{body}\n{found['end']}"

    return _MARKED.sub(fill, document)
