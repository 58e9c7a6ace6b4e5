"""Report: one page that needs nothing but itself, and its pictures as files.

The page is a function of the results and the predictions table. Texts of users are
escaped, no script is in it, and nothing is fetched.
"""

import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, StrictUndefined, Template

from nlp_meta.report.answer import say_interval, say_number
from nlp_meta.report.contents import contents_of
from nlp_meta.report.examples import find_examples, shorten_text
from nlp_meta.report.outcomes import (
    Rows,
    find_disagreements,
    one_label_tasks,
    rows_of,
)
from nlp_meta.report.pictures import plan_drawings, save_pictures
from nlp_meta.report.verdict import Results, check_results, headline_labels, judge_ours
from nlp_meta.report.words import kind_of_results

PAGE = "report.html"

_TEMPLATE = "report.html.j2"


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
            what the kind of answers adds; without it the page says what it cannot show.
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
    page.write_text(html, encoding="utf-8", errors="replace")
    return (page, *paths)


def _show_texts(results: Results, ours: Rows, rival: Rows, *, most: int) -> dict[str, Any]:
    """Texts that each side does better, with labels or with what was written or found."""
    kind = kind_of_results(results)
    if kind == "classification":
        return {
            "one_label": one_label_tasks(ours),
            "ours_alone": find_disagreements(ours, rival, most=most),
            "rival_alone": find_disagreements(rival, ours, most=most),
        }
    return {
        "one_label": {},
        "ours_alone": find_examples(ours, rival, kind=kind, most=most),
        "rival_alone": find_examples(rival, ours, kind=kind, most=most),
    }


@cache
def _template() -> Template:
    source = resources.files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["short"] = shorten_text
    environment.globals.update(say_number=say_number, say_interval=say_interval)
    environment.filters["unbroken"] = _keep_together
    return environment.from_string(source)


def _keep_together(text: str) -> str:
    """Let no line break fall inside an interval or between p and its value."""
    inside = re.sub(r"\[[^]]*\]", lambda found: found[0].replace(" ", "\u00a0"), text)
    return re.sub(r"p ([=<]) ", "p\u00a0\\1\u00a0", inside)
