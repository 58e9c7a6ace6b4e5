"""The page of a comparison, which needs nothing but itself, and the same in Markdown.

The page is a function of the results and the predictions table. Texts of users are escaped, no
script is in it, and nothing is fetched. Its pictures are written as files too. Markdown has its
answer and tables, whole or in chosen parts of a document.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from nlp_meta.errors import DataError
from nlp_meta.escapes import escape_markdown, visible
from nlp_meta.files.outputs import write_file
from nlp_meta.report.facts import contents_of
from nlp_meta.report.pictures import plan_drawings, save_pictures
from nlp_meta.report.scores import (
    Results,
    check_results,
    headline_labels,
    say_interval,
    say_number,
    skill_of,
)
from nlp_meta.report.tables import ReportTable, scores_table, to_markdown_table
from nlp_meta.report.texts import (
    Rows,
    find_disagreements,
    find_examples,
    one_label_tasks,
    rows_of,
    shorten_text,
)
from nlp_meta.report.verdict import judge_ours

PAGE = "report.html"

_TEMPLATE = "report.html.j2"
_LONGEST = 5_000  # signs of one value on the page; prompts are the longest


def write_report(
    folder: Path,
    results: Results,
    predictions: pa.Table | None,
    *,
    labels: int | None = None,
    texts: int = 6,
) -> tuple[Path, ...]:
    """Write `report.html` and its pictures as `figures/*.png` and `figures/*.svg`.

    Args:
        predictions: Columns method, task, labels, draw, row, text, true, predicted, and
            what the skill adds; without it the page says what it cannot show.
        labels: The number of labels that the page speaks of; the largest unless told.
        texts: To show of those that ours does better, and as many of the rival's.

    Returns:
        The page, then the pictures.

    Raises:
        DataError: Results of another format, or nothing was measured at `labels`.
    """
    check_results(results)
    verdict = judge_ours(results, headline_labels(results, labels))
    ours = rows_of(predictions, results["ours"], verdict.labels)
    rival = rows_of(predictions, verdict.rival, verdict.labels)
    pictures, paths = save_pictures(folder, plan_drawings(results, verdict, ours, rival))
    values = {
        **contents_of(results, verdict),
        "pictures": pictures,
        "answered": bool(ours),
        **_show_texts(results, ours, rival, most=texts),
    }
    page = folder / PAGE
    html = _template().render(values).lstrip()
    write_file(page, html.encode(errors="replace"), argument="folder")
    return (page, *paths)


def _show_texts(results: Results, ours: Rows, rival: Rows, *, most: int) -> dict[str, Any]:
    """Texts that each side does better, with labels or with what was written or found."""
    skill = skill_of(results)
    if skill == "classification":
        return {
            "one_label": one_label_tasks(ours),
            "ours_alone": find_disagreements(ours, rival, most=most),
            "rival_alone": find_disagreements(rival, ours, most=most),
        }
    return {
        "one_label": {},
        "ours_alone": find_examples(ours, rival, skill=skill, most=most),
        "rival_alone": find_examples(rival, ours, skill=skill, most=most),
    }


@cache
def _template() -> Template:
    source = resources.files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True,
        finalize=_show_signs,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = shorten_text
    environment.globals.update(say_number=say_number, say_interval=say_interval)
    environment.filters["unbroken"] = _keep_together
    return environment.from_string(source)


def _show_signs(value: object) -> object:
    """Let no value turn the page around or fill it; what the template wrote stays as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    shown = visible(value, keep="\n\t")
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def _keep_together(text: str) -> str:
    """Let no line break fall inside an interval or between p and its value."""
    inside = re.sub(r"\[[^]]*\]", lambda match: match[0].replace(" ", "\u00a0"), text)
    return re.sub(r"p ([=<]) ", "p\u00a0\\1\u00a0", inside)


_MARKED = re.compile(
    r"(?P<begin><!-- results of (?P<name>[\w-]+): (?P<parts>[\w, ]+)"
    r"(?: \((?P<methods>[\w, ]+) at (?P<labels>[\d, ]+)\))? -->\n)"
    r"(?P<body>.*?)(?P<end>^<!-- end of results -->$)",
    re.DOTALL | re.MULTILINE,
)


def _write_table(table: ReportTable) -> list[str]:
    return [to_markdown_table(table)] if table.rows else []


def _write_items(items: Sequence[str]) -> list[str]:
    return [f"- {escape_markdown(item)}" for item in items]


def _write_sentences(sentences: Sequence[str]) -> list[str]:
    return [escape_markdown(sentence) for sentence in sentences]


# In the order of the page: a part, and how what it holds becomes paragraphs.
PARTS: Mapping[str, Callable[[Any], list[str]]] = {
    "sentence": lambda sentence: [escape_markdown(sentence)],
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
    "leaks": lambda sentences: [escape_markdown(" ".join(sentences))],
    "circumstances": lambda pairs: _write_items([f"{name}: {value}" for name, value in pairs]),
    "skipped": lambda reasons: _write_items(
        [f"Skipped: {title} ({reason})" for title, reason in reasons.items()]
    ),
    "notes": _write_items,
}


def to_markdown(
    results: Results,
    *,
    labels: int | None = None,
    parts: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    columns: Sequence[int] | None = None,
) -> str:
    """Write what the page says as Markdown.

    Args:
        labels: The number of labels that it speaks of; the largest unless told.
        parts: Names of `PARTS`, in the order wanted; all of them under a heading unless told.
        methods: Those that the table of scores shows; None shows all.
        columns: Numbers of labels that the table of scores shows; None shows all.

    Raises:
        DataError: Results of another format, a part, method or number of labels that there is
            not, or nothing was measured at `labels`.
    """
    check_results(results)
    for name, asked, known in (
        ("part", parts, PARTS),
        ("method", methods, results["methods"]),
        ("number of labels", columns, results["labels"]),
    ):
        if missing := [value for value in asked or () if value not in known]:
            names = ", ".join(map(str, known))
            raise DataError(f"there is no {name} {missing[0]!r} of results; there are {names}")
    verdict = judge_ours(results, headline_labels(results, labels))
    contents = contents_of(results, verdict)
    if methods is not None or columns is not None:
        contents["scores"] = scores_table(results, verdict.labels, methods=methods, columns=columns)
    paragraphs = [f"## {escape_markdown(results['title'], inside=True)}"] if parts is None else []
    for part in PARTS if parts is None else parts:
        paragraphs += PARTS[part](contents[part])
    return "\n\n".join(paragraphs) + "\n"


def fill_markdown(document: str, read: Callable[[str], Results]) -> str:
    """Write results anew wherever a document asks for them.

    It asks with a line `<!-- results of NAME: PART, PART -->`; what follows, as far as a line
    `<!-- end of results -->`, is replaced. `scores (METHOD, METHOD at 0, 100)` asks for some
    rows and columns of the table of scores.

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

    def fill(asked: re.Match[str]) -> str:
        labels = _split(asked["labels"])
        body = to_markdown(
            read(asked["name"]),
            parts=_split(asked["parts"]),
            methods=_split(asked["methods"]),
            columns=None if labels is None else [int(number) for number in labels],
        )
        return f"{asked['begin']}\n{body}\n{asked['end']}"

    return _MARKED.sub(fill, document)


def _split(listed: str | None) -> list[str] | None:
    return None if listed is None else [item.strip() for item in listed.split(",")]
