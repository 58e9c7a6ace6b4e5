"""The page of a comparison, which needs nothing but itself, and the same in Markdown.

The page is a function of the results and the predictions table. Texts of users are escaped, no
script is in it, and nothing is fetched. Its pictures are said in words too, embedded, and written
as files. Markdown has its answer and tables, whole or in chosen parts of a document.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from nlp_meta.errors import DataError
from nlp_meta.escapes import escape_markdown
from nlp_meta.files.outputs import write_file
from nlp_meta.report.facts import contents_of
from nlp_meta.report.plots import (
    NARROW,
    WIDE,
    drawable,
    follow_screen,
    list_drawn,
    plot_calibration,
    plot_confusion,
    plot_cost,
    plot_domains,
    plot_learning_curves,
    save_figure,
    to_svg,
)
from nlp_meta.report.runs import load_template, show_signs
from nlp_meta.report.scores import (
    Results,
    check_results,
    cost_of,
    headline_labels,
    join_names,
    kind_of,
    measure_of,
    rank_advised,
    rank_methods,
    say_number,
    say_quantity,
    score_of,
    scored_methods,
    skill_of,
    title_of,
    words_of,
)
from nlp_meta.report.tables import ReportTable, scores_table, to_markdown_table
from nlp_meta.report.texts import (
    Rows,
    bin_probabilities,
    chance_gap,
    count_confusions,
    find_disagreements,
    find_examples,
    one_label_tasks,
    rows_of,
    shorten_text,
)
from nlp_meta.report.verdict import Verdict, judge_methods

FIGURES = "figures"

_BINS = 10
_BARS, _PANELS, _MATRICES = 4, 24, 4  # more of each would be no picture
# The simple method that a picture shows: the first of these that was measured.
_SIMPLE = (
    *("ngrams", "linear_probe", "prototypes", "lora", "frozen_retrieval", "ngram_overlap"),
    *("zero_pairs", "copied_source"),
)
_PIXELS = 98  # for an inch: the text of a picture is then about as large as the page's


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the page.

    Attributes:
        wide: For a desk and for paper, as a data address.
        narrow: For a phone.
        pixels: How wide `wide` is meant to be seen.
    """

    alt: str
    caption: str
    wide: Markup
    narrow: Markup
    pixels: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture before it is drawn; `draw` takes a width in inches."""

    draw: Callable[[float], Figure]
    alt: str
    caption: str


def save_pictures(
    folder: Path, drawings: Mapping[str, Drawing]
) -> tuple[dict[str, Picture], list[Path]]:
    """Draw all, write the wide ones as PNG and SVG, and give both as parts of a page."""
    pictures: dict[str, Picture] = {}
    paths: list[Path] = []
    for name, drawing in drawings.items():
        wide, narrow = drawing.draw(WIDE), drawing.draw(NARROW)
        png, svg = save_figure(wide, folder / FIGURES, name)
        paths += [png, svg]
        pictures[name] = Picture(
            alt=drawing.alt,
            caption=drawing.caption,
            wide=_address(follow_screen(svg.read_text(encoding="utf-8"))),
            narrow=_address(follow_screen(to_svg(narrow, salt=f"{name}-narrow"))),
            pixels=round(wide.get_figwidth() * _PIXELS),
        )
    return pictures, paths


def plan_drawings(
    results: Results, verdict: Verdict, best: Rows, other: Rows
) -> dict[str, Drawing]:
    """Choose the pictures that these results allow.

    Args:
        best: Rows of the best method at the verdict's number of labels; without any there is
            no confusion matrix.
        other: Those of the method that it is held against.
    """
    here, drawn = scored_methods(results, verdict.labels), list_drawn(results)
    first, drawings = _choose_curves(results, verdict), {}
    if drawn:
        drawings["learning_curves"] = _curves(results, verdict, first)
    if len(first) < len(drawn):
        drawings["all_curves"] = _curves(results, verdict, drawn)
    if here and results.get("cells"):
        if len(results["tasks"]) > 1:
            drawings["domains"] = _domains(results, verdict, here)
        drawings["cost"] = _cost(results, verdict, here)
    if best and skill_of(results) == "classification":
        drawings["confusion"] = _confusion(results, verdict, best)
        drawings["calibration"] = _calibration(results, verdict, best, other)
    return drawings


def _choose_curves(results: Results, verdict: Verdict) -> list[str]:
    """The best method, the best of the others, a simple one and prompting."""
    drawn, kinds = list_drawn(results), {n: kind_of(results, n) for n in results["methods"]}
    ranked = [name for name in rank_advised(results, verdict.labels) if name in drawn] or drawn
    simple = [name for kind in _SIMPLE for name in drawn if kinds[name] == kind]
    prompted = [name for name in drawn if "prompt" in kinds[name]]
    second = [verdict.other] if verdict.other else ranked[1:2]
    return list(dict.fromkeys([*ranked[:1], *second, *simple[:1], *prompted[:1]]))


def _curves(results: Results, verdict: Verdict, methods: Sequence[str]) -> Drawing:
    measure, given = measure_of(results), words_of(results).given
    ends = [
        f"{title_of(results, name)} {say_number(score.mean, measure.places - 1)}"
        for name in rank_methods(results, verdict.labels)
        if name in methods and (score := score_of(results, name, verdict.labels))
    ]
    alt = f"{measure.name} against the number of {given}s. At {verdict.labels}: {join_names(ends)}."
    caption = (
        f"Mean {measure.name} over {'tasks and ' if len(results['tasks']) > 1 else ''}support "
        "draws; shaded, its 95% interval. The "
        f"upright axis need not begin at 0. A curve ends where a method takes no more {given}s."
    )
    return Drawing(
        lambda width: plot_learning_curves(results, methods=methods, width=width), alt, caption
    )


def _domains(results: Results, verdict: Verdict, here: list[str]) -> Drawing:
    first = [name for name in (verdict.best, verdict.other) if name in here]
    most = _BARS if len(results["tasks"]) <= 12 else 2
    chosen = [*first, *(name for name in here if name not in first)][:most]
    shown = {**results, "tasks": results["tasks"][:_PANELS]}
    names = [title_of(results, name) for name in chosen if name]
    measure, words = measure_of(results), words_of(results)
    tasks = [task["name"] for task in shown["tasks"]]
    renamed = [
        f"{new} is {old}" for new, old in zip(drawable(tasks), tasks, strict=True) if new != old
    ]
    caption = (
        f"{measure.title} at {words.count(verdict.labels)}. A thin line goes from the lowest to "
        "the highest support draw."
    )
    caption += f" Names: {', '.join(renamed)}." if renamed else ""
    if len(results["tasks"]) > _PANELS:
        caption += f" The first {_PANELS} of {len(results['tasks'])}; the table has all."
    return Drawing(
        lambda width: plot_domains(shown, labels=verdict.labels, methods=chosen, width=width),
        f"Bars of {measure.name} by {words.task} for {join_names(names)}; the table below has the "
        "numbers.",
        caption,
    )


def _cost(results: Results, verdict: Verdict, here: list[str]) -> Drawing:
    metric, labels, words = measure_of(results).name, verdict.labels, words_of(results)
    costs = [
        f"{title_of(results, name)} {say_quantity(cost_of(results, name, labels, 'seconds_adapt'))}"
        for name in here
    ]
    return Drawing(
        lambda width: plot_cost(results, labels=labels, width=width),
        f"{metric} at {words.count(labels)} against seconds to adapt: {join_names(costs)}.",
        "Up is better, left is cheaper; lines are 95% intervals. What was spent on a start "
        "before it met the new task is in the table, not here.",
    )


def _confusion(results: Results, verdict: Verdict, best: Rows) -> Drawing:
    title = title_of(results, verdict.best or "")
    matrices = count_confusions(best, tasks=results["tasks"])[:_MATRICES]
    shares = [
        f"{int(matrix.counts.trace()):,} of {int(matrix.counts.sum()):,} answers right"
        for matrix in matrices
    ]
    keys = [
        f"{new} is {old}"
        for matrix in matrices
        for new, old in zip(drawable(matrix.labels), matrix.labels, strict=True)
        if new != old
    ]
    caption = (
        f"Answers of {title} at "
        f"{words_of(results).count(verdict.labels)}, over all support draws; shares are of the "
        "true label."
    )
    caption += f" Labels: {', '.join(keys)}." if keys else ""
    if len(matrices) > 1:
        caption += " A matrix for each set of labels: " + "; ".join(
            join_names(matrix.tasks) for matrix in matrices
        )
    return Drawing(
        lambda width: plot_confusion(matrices, width=width),
        f"Confusion matrix of {title}: {'; '.join(shares)}.",
        caption,
    )


def _calibration(results: Results, verdict: Verdict, best: Rows, other: Rows) -> Drawing:
    bins = {verdict.best or "": bin_probabilities(best, bins=_BINS)}
    if other and verdict.other:
        bins[verdict.other] = bin_probabilities(other, bins=_BINS)
    errors = [
        f"{title_of(results, name)} {say_number(score.mean, 3)} "
        f"({say_number(chance_gap(rows), 3)} by chance alone)"
        for name, rows in zip(bins, (best, other), strict=False)
        if (score := score_of(results, name, verdict.labels, "ece"))
    ]
    summary = (
        f" Calibration error: {join_names(errors)}; chance is what so few answers would show if "
        "each were right as often as it says."
        if errors
        else ""
    )
    return Drawing(
        lambda width: plot_calibration(bins, results, width=width),
        f"Share of right answers against the probability given to them.{summary}",
        "On the dotted line a method is right as often as it says; below, it is too sure of "
        f"itself. Larger marks stand for more answers.{summary}",
    )


def _address(svg: str) -> Markup:
    # Nothing of base64 has to be escaped.
    return Markup("data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode())  # noqa: S704


PAGE = "report.html"

_TEMPLATE = "report.html.j2"


def write_report(
    folder: Path,
    results: Results,
    predictions: pa.Table | None,
    *,
    labels: int | None = None,
    texts: int = 4,
) -> tuple[Path, ...]:
    """Write `report.html` and its pictures as `figures/*.png` and `figures/*.svg`.

    Args:
        predictions: Columns method, task, labels, draw, row, text, true, predicted, and
            what the skill adds; without it the page says what it cannot show.
        labels: The number of labels that the page speaks of; the largest unless told.
        texts: To show of those that the best method does better, and as many of the other's.

    Returns:
        The page, then the pictures.

    Raises:
        DataError: Results of another format, or nothing was measured at `labels`.
    """
    check_results(results)
    verdict = judge_methods(results, headline_labels(results, labels))
    best = rows_of(predictions, verdict.best, verdict.labels)
    other = rows_of(predictions, verdict.other, verdict.labels)
    pictures, paths = save_pictures(folder, plan_drawings(results, verdict, best, other))
    values = {
        **contents_of(results, verdict),
        "pictures": pictures,
        "answered": bool(best),
        **_show_texts(results, best, other, most=texts),
    }
    page = folder / PAGE
    filters = {"short": shorten_text, "unbroken": _keep_together, "prose": _write_prose}
    html = load_template(_TEMPLATE, **filters).render(values).lstrip()
    write_file(page, html.encode(errors="replace"), argument="folder")
    return (page, *paths)


def _show_texts(results: Results, best: Rows, other: Rows, *, most: int) -> dict[str, Any]:
    """Texts that each side does better, with labels or with what was written or found."""
    skill = skill_of(results)
    if skill == "classification":
        return {
            "one_label": one_label_tasks(best),
            "best_alone": find_disagreements(best, other, most=most),
            "other_alone": find_disagreements(other, best, most=most),
        }
    return {
        "one_label": {},
        "best_alone": find_examples(best, other, skill=skill, most=most),
        "other_alone": find_examples(other, best, skill=skill, most=most),
    }


def _keep_together(text: str) -> str:
    """Let no line break fall inside an interval or between p and its value."""
    inside = re.sub(r"\[[^]]*\]", lambda match: match[0].replace(" ", "\u00a0"), text)
    return re.sub(r"p ([=<]) ", "p\u00a0\\1\u00a0", inside)


def _write_prose(text: str) -> Markup:
    """Write what stands in backticks as code, as titles have commands."""
    shown = str(escape(str(show_signs(_keep_together(text)))))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", shown))  # noqa: S704


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
    verdict = judge_methods(results, headline_labels(results, labels))
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
