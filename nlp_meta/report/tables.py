"""Tables of scores, differences and costs, the same for the page and for Markdown.

A table is a value; `report.html.j2` writes it as HTML, `to_markdown_table` as Markdown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_meta.escapes import escape_markdown
from nlp_meta.evaluation.metrics import LOWER_IS_BETTER
from nlp_meta.report.scores import (
    MEASURES,
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
    rank_advised,
    rank_methods,
    say_bytes,
    say_count,
    say_interval,
    say_number,
    say_p,
    say_quantity,
    score_of,
    scored_methods,
    title_of,
    words_of,
)
from nlp_meta.report.verdict import judge_methods


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a table.

    Attributes:
        detail: Smaller, behind the text: an interval, a p.
        mark: `best`, `tie`, `ahead`, `behind` or nothing; also told in signs, not by color alone.
    """

    text: str
    detail: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A row: what it is about, and a field for each further column."""

    head: Field
    fields: tuple[Field, ...]
    advised: bool = False


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table with its caption.

    Attributes:
        columns: Headings; the first stands above the heads of the rows.
        words: Whether fields are sentences and not numbers.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[ReportRow, ...]
    words: bool = False


def to_markdown_table(table: ReportTable) -> str:
    """Write a table in Markdown: the best in bold, ties and significance in signs."""
    columns = [escape_markdown(name, inside=True) for name in table.columns]
    lines = [f"**{escape_markdown(table.caption, inside=True)}**", "", _line(columns)]
    lines.append(_line(["---"] * len(table.columns)))
    for row in table.rows:
        lines.append(_line([_mark(field) for field in (row.head, *row.fields)]))
    return "\n".join(lines)


def _line(fields: Sequence[str]) -> str:
    return "| " + " | ".join(fields) + " |"


def _mark(field: Field) -> str:
    signs = {"tie": " ≈", "ahead": " ▲", "behind": " ▼"}
    text = escape_markdown(field.text, inside=True)
    text = f"**{text}**" if field.mark == "best" else text
    detail = f" {escape_markdown(field.detail, inside=True)}" if field.detail else ""
    return text + detail + signs.get(field.mark, "")


_OUTCOMES = {
    "shown": "better",
    "undecided": "no difference shown",
    "untested": "not tested",
    "alone": "no other method",
    "absent": "nothing measured",
}


def glance_table(results: Results) -> ReportTable:
    """The best method at each number of labels, and what it is held against."""
    rows, measure = [], measure_of(results)
    for labels in results["labels"]:
        verdict = judge_methods(results, labels)
        best, other = verdict.best, verdict.other
        tested = f" ({say_p(verdict.p)})" if verdict.p is not None else ""
        fields = (
            Field(title_of(results, best) if best else NONE),
            _score_field(verdict.score, measure),
            Field(title_of(results, other) if other else NONE),
            _score_field(verdict.other_score, measure),
            _difference_field(verdict.difference, measure) if verdict.difference else Field(NONE),
            Field(
                _OUTCOMES[verdict.outcome], tested, "ahead" if verdict.outcome == "shown" else ""
            ),
        )
        rows.append(ReportRow(Field(str(labels)), fields))
    given = f"{words_of(results).given}s"
    return ReportTable(
        f"The best method at each number of {given}, {measure.name}",
        (given, "best", "its score", "held against", "its score", "difference", "the best is"),
        tuple(rows),
    )


def scores_table(
    results: Results,
    labels: int,
    *,
    methods: Sequence[str] | None = None,
    columns: Sequence[int] | None = None,
) -> ReportTable:
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
            fields = tuple(_score_field(score, measure, best[n]) for n, score in scores.items())
            rows.append(_method_row(results, name, fields, labels=labels))
    heads = [words.count(n) for n in shown]
    caption = f"{measure.title} by number of {words.given}s"
    return ReportTable(caption, ("method", *heads), tuple(rows))


def measures_table(results: Results, labels: int) -> ReportTable:
    """Every metric at one number of labels, and of several domains the one where each is worst."""
    names, measures = scored_methods(results, labels), measures_of(results)
    main, words = measure_of(results), words_of(results)
    worst = {
        row["method"]: row
        for row in results.get("worst") or ()
        if (row["labels"], row["metric"]) == (labels, results["metric"])
    }
    columns = []
    for metric, measure in measures.items():
        scores = [score_of(results, name, labels, metric) for name in names]
        best = _best(scores, smallest=metric in LOWER_IS_BETTER)
        columns.append([_score_field(score, measure, best) for score in scores])
    heads = ["method", *(measure.name for measure in measures.values())]
    if len(results["tasks"]) > 1:
        columns.append([_worst_field(worst.get(name), main) for name in names])
        heads.append(f"worst {words.task}")
    rows = zip(names, zip(*columns, strict=True), strict=True)
    less = "".join(
        f"; of the {measure.name} less is better"
        for metric, measure in measures.items()
        if metric in LOWER_IS_BETTER
    )
    return ReportTable(
        f"Every measure at {words.count(labels)}{less}",
        tuple(heads),
        tuple(_method_row(results, name, fields, labels=labels) for name, fields in rows),
    )


def domains_table(results: Results, labels: int) -> ReportTable:
    """Every method's mean on every task."""
    names, measure, words = scored_methods(results, labels), measure_of(results), words_of(results)
    means: dict[str, dict[str, Score | None]] = {}
    for row in results.get("by_task") or ():
        if (row["labels"], row["metric"]) == (labels, results["metric"]):
            score = Score(float(row["mean"]), None, None)
            means.setdefault(row["task"], {})[row["method"]] = score
    rows = []
    for task, scores in means.items():
        best = _best(scores.get(name) for name in names)
        fields = tuple(_score_field(scores.get(name), measure, best) for name in names)
        rows.append(ReportRow(Field(task), fields))
    return ReportTable(
        f"{measure.title} by {words.task} at {words.count(labels)}",
        (words.task, *(title_of(results, name) for name in names)),
        tuple(rows),
    )


def cost_table(results: Results, labels: int) -> ReportTable:
    """What each method costs, before it meets a support set and then.

    A method that was not judged at `labels` is shown at the most labels it was given.
    """
    rows, words = [], words_of(results)
    for name in rank_methods(results, labels):
        facts, given = results["methods"][name], [n for n in results["labels"] if n <= labels]
        at = max((n for n in given if score_of(results, name, n)), default=labels)
        fields = (
            Field(say_count(facts.get("examples_before"))),
            Field(say_count(cost_of(results, name, at, "examples_adapt"))),
            Field(say_count(facts.get("parameters"))),
            Field(say_bytes(facts.get("bytes"))),
            Field(say_quantity(cost_of(results, name, at, "seconds_adapt"))),
            Field(say_quantity(cost_of(results, name, at, "ms_per_prediction"))),
        )
        note = "" if at == labels else f"at {words.count(at)}"
        rows.append(_method_row(results, name, fields, labels=labels, note=note))
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
    return ReportTable(caption, heads, tuple(rows))


def paired_table(results: Results) -> ReportTable:
    """The method that every other is paired with minus each of them, at each number of labels."""
    rows = []
    for rival in rank_methods(results, max(results["labels"])):
        pairs = [paired_with(results, rival, n) for n in results["labels"]]
        if any(pairs):
            fields = tuple(_paired_field(results, pair) for pair in pairs)
            rows.append(_method_row(results, rival, fields, labels=max(results["labels"])))
    heads = [words_of(results).count(n) for n in results["labels"]]
    ours = title_of(results, results["ours"]) if rows else ""
    caption = f"{ours} minus each other method, {measure_of(results).name}"
    return ReportTable(caption, ("minus", *heads), tuple(rows))


def _method_row(
    results: Results, name: str, fields: tuple[Field, ...], *, labels: int, note: str = ""
) -> ReportRow:
    draws = judged_on(results, name)
    fewer = 0 < draws < results["draws"]
    notes = ["reference"] if results["methods"][name].get("group") == "reference" else []
    notes += [f"{draws} of {results['draws']} draws"] if fewer else []
    notes += [note] if note else []
    detail = f" ({', '.join(notes)})" if notes else ""
    advised = rank_advised(results, labels)[:1] == [name]
    return ReportRow(Field(title_of(results, name), detail), fields, advised)


def _score_field(score: Score | None, measure: Measure, best: Score | None = None) -> Field:
    if score is None:
        return Field(NONE)
    mark, places = "", measure.places
    if best and round(score.mean, places) == round(best.mean, places):
        mark = "best"
    elif best and best.low is not None and best.high is not None:
        mark = "tie" if best.low <= score.mean <= best.high else ""
    return Field(say_number(score.mean, places), say_interval(score, places), mark)


def _worst_field(row: Mapping[str, Any] | None, measure: Measure) -> Field:
    return Field(say_number(row["mean"], measure.places), f" {row['task']}") if row else Field(NONE)


def _difference_field(score: Score, measure: Measure, *, detail: str = "", mark: str = "") -> Field:
    interval = say_interval(score, measure.places, sign=True)
    return Field(say_number(score.mean, measure.places, sign=True), interval + detail, mark)


def _paired_field(results: Results, row: Mapping[str, Any] | None) -> Field:
    if row is None:
        return Field(NONE)
    p, _ = p_of(results, row)
    score = Score(row["difference"], row.get("low"), row.get("high"))
    side = "ahead" if row["difference"] > 0 else "behind"
    return _difference_field(
        score,
        MEASURES[row["metric"]],
        detail=f" {say_p(p)}" if p is not None else "",
        mark=side if is_significant(p) else "",
    )


def _best(scores: Iterable[Score | None], *, smallest: bool = False) -> Score | None:
    known = [score for score in scores if score]
    choose = min if smallest else max
    return choose(known, key=lambda score: score.mean, default=None)
