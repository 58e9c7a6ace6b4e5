"""Tables of scores, differences and costs, the same for the page and for Markdown.

A table is a value; `report.html.j2` writes it as HTML, `to_markdown_table` as Markdown.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_meta.evaluation.metrics import LOWER_IS_BETTER
from nlp_meta.report.scores import (
    METRICS,
    NONE,
    Measure,
    Results,
    Score,
    cost_of,
    is_significant,
    judged_on,
    measure_of,
    measured,
    measures_of,
    p_of,
    paired_with,
    rank_methods,
    say_bytes,
    say_count,
    say_interval,
    say_number,
    say_p,
    say_quantity,
    score_of,
    title_of,
    words_of,
)
from nlp_meta.report.verdict import (
    judge_ours,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of a table.

    Attributes:
        detail: Smaller, behind the text: an interval, a p.
        mark: `best`, `tie`, `ahead`, `behind` or nothing; also told in signs, not by color alone.
    """

    text: str
    detail: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row: what it is about, and an entry for each further column."""

    head: Entry
    entries: tuple[Entry, ...]
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its caption.

    Attributes:
        columns: Headings; the first stands above the heads of the rows.
        words: Whether entries are sentences and not numbers.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    words: bool = False


def to_markdown_table(table: Table) -> str:
    """Write a table in Markdown: the best in bold, ties and significance in signs."""
    lines = [f"**{_plain(table.caption)}**", "", _line(table.columns)]
    lines.append(_line(["---"] * len(table.columns)))
    for row in table.rows:
        lines.append(_line([_mark(entry) for entry in (row.head, *row.entries)]))
    return "\n".join(lines)


def _line(fields: Sequence[str]) -> str:
    return "| " + " | ".join(fields) + " |"


def _mark(entry: Entry) -> str:
    signs = {"tie": " ≈", "ahead": " ▲", "behind": " ▼"}
    text = f"**{_plain(entry.text)}**" if entry.mark == "best" else _plain(entry.text)
    return text + _plain(entry.detail) + signs.get(entry.mark, "")


def _plain(text: str) -> str:
    """Keep a text from ending a field, a line or the Markdown around it."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")


_COSTS = ("examples_adapt", "seconds_adapt", "ms_per_prediction")

SAID = {
    "ahead": "ours is better",
    "behind": "the rival is better",
    "undecided": "no difference shown",
    "untested": "not tested",
    "alone": "no rival",
    "absent": "ours not measured",
}
"""Outcomes in words."""


def glance_table(results: Results) -> Table:
    """Ours and the best rival at each number of labels."""
    rows, measure = [], measure_of(results)
    for labels in results["labels"]:
        verdict = judge_ours(results, labels)
        outcome, gap = verdict.outcome, verdict.difference
        mark = outcome if outcome in ("ahead", "behind") else ""
        tested = f" ({say_p(verdict.p)})" if verdict.p is not None else ""
        entries = (
            _score_entry(verdict.ours, measure),
            Entry(title_of(results, verdict.rival) if verdict.rival else NONE),
            _score_entry(verdict.rival_score, measure),
            _difference_entry(gap, measure) if gap else Entry(NONE),
            Entry(SAID[outcome], tested, mark),
        )
        rows.append(Row(Entry(str(labels)), entries))
    given = f"{words_of(results).given}s"
    return Table(
        f"Ours and the best rival at each number of {given}, {measure.name}",
        (given, "ours", "best rival", "its score", "difference", "in words"),
        tuple(rows),
    )


def scores_table(
    results: Results,
    labels: int,
    *,
    methods: Sequence[str] | None = None,
    columns: Sequence[int] | None = None,
) -> Table:
    """Mean and interval of methods at numbers of labels, best first at `labels`.

    Args:
        methods: Names of those to show; None shows all. The best is marked among all of them.
        columns: Numbers of labels to show; None shows all.
    """
    shown = results["labels"] if columns is None else columns
    best = {n: _best(score_of(results, name, n) for name in measured(results)) for n in shown}
    rows, measure, words = [], measure_of(results), words_of(results)
    for name in rank_methods(results, labels):
        if methods is None or name in methods:
            scores = {n: score_of(results, name, n) for n in shown}
            entries = tuple(_score_entry(one, measure, best[n]) for n, one in scores.items())
            rows.append(_method_row(results, name, entries))
    heads = [words.count(n) for n in shown]
    caption = f"{measure.title} by number of {words.given}s"
    return Table(caption, ("method", *heads), tuple(rows))


def measures_table(results: Results, labels: int) -> Table:
    """Every metric at one number of labels, and the domain where a method is worst."""
    names = [name for name in rank_methods(results, labels) if score_of(results, name, labels)]
    worst = {
        row["method"]: row
        for row in results.get("worst") or ()
        if (row["labels"], row["metric"]) == (labels, results["metric"])
    }
    columns, measures = {}, measures_of(results)
    for metric, measure in measures.items():
        scores = [score_of(results, name, labels, metric) for name in names]
        best = _best(scores, smallest=metric in LOWER_IS_BETTER)
        columns[metric] = [_score_entry(one, measure, best) for one in scores]
    rows = []
    for place, name in enumerate(names):
        low = _worst_entry(worst.get(name), measure_of(results))
        entries = tuple(column[place] for column in columns.values())
        rows.append(_method_row(results, name, (*entries, low)))
    errors = [one.name for metric, one in measures.items() if metric in LOWER_IS_BETTER]
    words, less = words_of(results), "".join(f"; of the {name} less is better" for name in errors)
    return Table(
        f"Every measure at {words.count(labels)}{less}",
        ("method", *(one.name for one in measures.values()), f"worst {words.task}"),
        tuple(rows),
    )


def domains_table(results: Results, labels: int) -> Table:
    """Every method's mean on every task."""
    names = [name for name in rank_methods(results, labels) if score_of(results, name, labels)]
    means = {
        (row["method"], row["task"]): float(row["mean"])
        for row in results.get("by_task") or ()
        if (row["labels"], row["metric"]) == (labels, results["metric"])
    }
    rows, measure, words = [], measure_of(results), words_of(results)
    for task in dict.fromkeys(task for _, task in means):
        scores = [
            Score(means[name, task], None, None) if (name, task) in means else None
            for name in names
        ]
        best = _best(scores)
        rows.append(Row(Entry(task), tuple(_score_entry(one, measure, best) for one in scores)))
    return Table(
        f"{measure.title} by {words.task} at {words.count(labels)}",
        (words.task, *(title_of(results, name) for name in names)),
        tuple(rows),
    )


def cost_table(results: Results, labels: int) -> Table:
    """What each method costs, before it meets a support set and then.

    A method that was not judged at `labels` is shown at the most labels it was given.
    """
    rows, words = [], words_of(results)
    for name in rank_methods(results, labels):
        facts, given = results["methods"][name], [n for n in results["labels"] if n <= labels]
        at = max((n for n in given if score_of(results, name, n)), default=labels)
        examples, seconds, milliseconds = (cost_of(results, name, at, one) for one in _COSTS)
        entries = (
            Entry(say_count(facts.get("examples_before"))),
            Entry(say_count(examples)),
            Entry(say_count(facts.get("parameters"))),
            Entry(say_bytes(facts.get("bytes"))),
            Entry(say_quantity(seconds)),
            Entry(say_quantity(milliseconds)),
        )
        note = "" if at == labels else f"at {words.count(at)}"
        rows.append(_method_row(results, name, entries, note=note))
    heads = (
        "method",
        "examples before",
        "examples to adapt",
        "parameters moved",
        "bytes to store",
        "seconds to adapt",
        f"ms a {words.answer}",
    )
    caption = f"What each method costs; examples and times to adapt at {words.count(labels)}"
    return Table(caption, heads, tuple(rows))


def paired_table(results: Results) -> Table:
    """Ours minus every other method, paired, at each number of labels."""
    rows = []
    for rival in rank_methods(results, max(results["labels"])):
        found = {n: paired_with(results, rival, n) for n in results["labels"]}
        if any(found.values()):
            entries = tuple(_paired_entry(results, row) for row in found.values())
            rows.append(_method_row(results, rival, entries))
    heads = [words_of(results).count(n) for n in results["labels"]]
    caption = f"Ours minus each other method, {measure_of(results).name}"
    return Table(caption, ("ours minus …", *heads), tuple(rows))


def _method_row(results: Results, name: str, entries: tuple[Entry, ...], *, note: str = "") -> Row:
    draws = judged_on(results, name)
    fewer = 0 < draws < results["draws"]
    notes = ["reference"] if results["methods"][name].get("group") == "reference" else []
    notes += [f"{draws} of {results['draws']} draws"] if fewer else []
    notes += [note] if note else []
    detail = f" ({', '.join(notes)})" if notes else ""
    return Row(Entry(title_of(results, name), detail), entries, name == results["ours"])


def _score_entry(score: Score | None, measure: Measure, best: Score | None = None) -> Entry:
    if score is None:
        return Entry(NONE)
    mark, places = "", measure.places
    if best and round(score.mean, places) == round(best.mean, places):
        mark = "best"
    elif best and best.low is not None and best.high is not None:
        mark = "tie" if best.low <= score.mean <= best.high else ""
    return Entry(say_number(score.mean, places), say_interval(score, places), mark)


def _worst_entry(row: Mapping[str, Any] | None, measure: Measure) -> Entry:
    return Entry(say_number(row["mean"], measure.places), f" {row['task']}") if row else Entry(NONE)


def _difference_entry(score: Score, measure: Measure, *, detail: str = "", mark: str = "") -> Entry:
    interval = say_interval(score, measure.places, sign=True)
    return Entry(say_number(score.mean, measure.places, sign=True), interval + detail, mark)


def _paired_entry(results: Results, row: Mapping[str, Any] | None) -> Entry:
    if row is None:
        return Entry(NONE)
    p, _ = p_of(results, row)
    score = Score(row["difference"], row.get("low"), row.get("high"))
    side = "ahead" if row["difference"] > 0 else "behind"
    return _difference_entry(
        score,
        METRICS[row["metric"]],
        detail=f" {say_p(p)}" if p is not None else "",
        mark=side if is_significant(p) else "",
    )


def _best(scores: Iterable[Score | None], *, smallest: bool = False) -> Score | None:
    found = [one for one in scores if one]
    if not found:
        return None
    choose = min if smallest else max
    return choose(found, key=lambda one: one.mean)
