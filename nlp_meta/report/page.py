"""Report: one page that needs nothing but itself, its pictures as files, and Markdown.

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

from nlp_meta.report.answer import answer_sentence, say_interval, say_number
from nlp_meta.report.examples import find_examples, shorten_text
from nlp_meta.report.facts import (
    break_even_table,
    choices_table,
    leaks_table,
    list_circumstances,
    list_settings,
    say_break_even,
    say_interval_meaning,
    say_leaks,
    tasks_table,
)
from nlp_meta.report.layout import Table, to_markdown_table
from nlp_meta.report.outcomes import (
    Rows,
    find_disagreements,
    one_label_tasks,
    rows_of,
)
from nlp_meta.report.pictures import plan_drawings, save_pictures
from nlp_meta.report.tables import (
    SAID,
    cost_table,
    domains_table,
    glance_table,
    measures_table,
    paired_table,
    scores_table,
)
from nlp_meta.report.verdict import (
    Results,
    Verdict,
    check_results,
    headline_labels,
    judge_ours,
    skipped,
    title_of,
)
from nlp_meta.report.words import kind_of_results, measure_of, words_of

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
        **_say_all(results, verdict),
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


def to_markdown(results: Results, *, labels: int | None = None) -> str:
    """Write the answer and the tables of the page as Markdown."""
    check_results(results)
    values = _say_all(results, judge_ours(results, headline_labels(results, labels)))
    names = ("glance", "scores", "measures", "domains", "cost", "paired")
    tables: list[Table] = [values[name] for name in names]
    parts = [f"## {results['title']}", values["sentence"], *values["remarks"]]
    parts += [to_markdown_table(table) for table in tables if table.rows]
    parts += values["break_even"]
    later = ("break_even_table", "tasks", "choices", "leaks_table")
    parts += [to_markdown_table(values[name]) for name in later if values[name].rows]
    parts.append(" ".join(values["leaks"]))
    parts += [f"- {name}: {value}" for name, value in values["circumstances"]]
    parts += [f"- Skipped: {title} ({reason})" for title, reason in values["skipped"].items()]
    parts += [f"- {note}" for note in values["notes"]]
    return "\n\n".join(parts) + "\n"


def _say_all(results: Results, verdict: Verdict) -> dict[str, Any]:
    """Everything of the page that needs neither texts nor pictures."""
    labels = verdict.labels
    rival = title_of(results, verdict.rival) if verdict.rival else None
    words = words_of(results)
    return {
        "title": results["title"],
        "made": results.get("made") or "",
        "sentence": answer_sentence(results, labels=labels),
        "verdict": verdict,
        "ours_title": title_of(results, results["ours"]) if results["ours"] else "",
        "intervals": say_interval_meaning(results),
        "rival_title": rival,
        "outcome_in_words": SAID[verdict.outcome],
        "labels": labels,
        "kind": kind_of_results(results),
        "words": words,
        "given": words.count(labels),
        "measure": measure_of(results),
        "draws": results["draws"],
        "glance": glance_table(results),
        "scores": scores_table(results, labels),
        "measures": measures_table(results, labels),
        "domains": domains_table(results, labels),
        "cost": cost_table(results, labels),
        "paired": paired_table(results),
        "break_even": say_break_even(results, verdict.rival),
        "break_even_table": break_even_table(results),
        "leaks": say_leaks(results),
        "leaks_table": leaks_table(results),
        "tasks": tasks_table(results),
        "choices": choices_table(results),
        "circumstances": list_circumstances(results),
        "settings": list_settings(results),
        "skipped": skipped(results),
        "notes": [str(note) for note in results.get("notes") or ()],
        "remarks": _remark(results, verdict),
    }


def _remark(results: Results, verdict: Verdict) -> list[str]:
    """What a reader must know before trusting a number."""
    remarks = []
    if results["draws"] == 1:
        remarks.append(
            "One support draw was judged: intervals and tests, where there are any, speak of other "
            "test texts and not of other support sets; another draw may turn the order round."
        )
    if verdict.outcome == "absent" and results["ours"]:
        remarks.append(f"Ours has no score at {words_of(results).count(verdict.labels)}.")
    if verdict.outcome == "untested" and results["draws"] > 1:
        remarks.append("The difference from the best rival was not tested.")
    if not verdict.rival:
        remarks.append(f"No rival has a score at {words_of(results).count(verdict.labels)}.")
    return remarks


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
