"""The table of a project: what is dropped, which column means what, and what is taken away."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_meta.data.cells import fold_label, label_text
from nlp_meta.errors import DataError, LabelError
from nlp_meta.files.entries import UserFile, read_user_file
from nlp_meta.files.projects import LABELED, Project
from nlp_meta.files.shapes import take_labels
from nlp_meta.files.tables import disarm, read_rows_of, read_table
from nlp_meta.tables.formats import TABLE_FORMS, render_table
from nlp_meta.tables.rows import Cells, Rows

MOST_ROWS = 20_000
_MOST_LABELS, _LONGEST_LABEL, _EXAMPLES = 30, 60, 3
_LIKELY = ("label", "labels", "class", "category", "sentiment", "topic", "intent", "rating")


@dataclass(frozen=True, slots=True)
class Column:
    """What is told of a column before one is chosen.

    Attributes:
        examples: Its first cells.
        values: Its values, where these may be labels.
        has_texts, has_labels: It is the likeliest one for that.
    """

    name: str
    examples: tuple[str, ...]
    values: tuple[str, ...]
    has_texts: bool
    has_labels: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """The rows of a table as a project takes them."""

    texts: tuple[str, ...]
    cells: tuple[Cells, ...]
    columns: tuple[str, ...]
    labels: list[str]
    given: list[str | None]


def read_dropped(path: Path) -> Rows:
    """Read a table as it is in its file.

    Raises:
        DataError: It is none, is empty, or has too many rows.
    """
    file = read_user_file(path, forms=TABLE_FORMS)
    rows = _read_lines(file) if file.form == "txt" else read_rows_of(file, most=MOST_ROWS)
    if not 0 < rows.count <= MOST_ROWS:
        raise DataError(
            f"cannot take this table: it has {rows.count} rows and 1 to {MOST_ROWS} are needed; "
            "drop a table with texts, or a part of it"
        )
    return rows


def _read_lines(file: UserFile) -> Rows:
    table = read_table(file.path, label_column=None, max_rows=MOST_ROWS, empty="skip")
    return Rows(table.columns, table.rows, table.lines, len(table.rows))


def describe_columns(rows: Rows) -> list[Column]:
    """Tell of each column what it holds, and guess which has the texts and which the labels."""
    cells = {name: [_write(row.get(name)) for row in rows.cells] for name in rows.columns}
    lengths = {name: sum(map(len, column)) for name, column in cells.items()}
    longest = max(lengths, key=lengths.__getitem__, default="")
    values = {name: _find_values(column) for name, column in cells.items()}
    likely = [name for name in cells if values[name] and fold_label(name) in _LIKELY]
    return [
        Column(
            name,
            tuple(cell[:160] for cell in column if cell)[:_EXAMPLES],
            () if name == longest else values[name],
            has_texts=name == longest,
            has_labels=likely[:1] == [name],
        )
        for name, column in cells.items()
    ]


def _write(cell: object) -> str:
    return "" if cell is None or cell != cell else str(cell)


def _find_values(column: Sequence[str]) -> tuple[str, ...]:
    """Different values where they are few, and one of them at least comes twice."""
    counts = Counter(label for cell in column if (label := label_text(cell)))
    is_few = 1 < len(counts) <= _MOST_LABELS and max(counts.values()) > 1
    is_few = is_few and max(map(len, counts)) <= _LONGEST_LABEL
    return tuple(sorted(counts)) if is_few else ()


def split_names(names: str) -> list[str]:
    """Read names of labels, one a line or between commas."""
    parts = [part for line in names.splitlines() for part in line.split(",")]
    return [label for part in parts if (label := label_text(part))]


def check_names(names: Sequence[str], *, least: int = 2) -> list[str]:
    """Names of labels, each once.

    Raises:
        LabelError: Too few, too many, too long, or two that are alike.
    """
    labels = list(dict.fromkeys(names))
    if not least <= len(labels) <= _MOST_LABELS:
        raise LabelError(
            f"cannot take {len(labels)} labels: {least} to {_MOST_LABELS} are needed; name each in "
            "a line of its own"
        )
    if max(map(len, labels)) > _LONGEST_LABEL:
        raise LabelError(
            f"cannot take a label of {max(map(len, labels))} characters: at most {_LONGEST_LABEL} "
            "are needed; shorten it"
        )
    if len({fold_label(label) for label in labels}) < len(labels):
        raise LabelError(
            "cannot tell two of the labels apart: they differ in nothing but case or blanks, and "
            "different names are needed; rename one"
        )
    return labels


def take_rows(path: Path, *, text_column: str, label_column: str, names: str) -> Taken:
    """Take texts, and labels where a column has some.

    Args:
        label_column: Empty where there is none.
        names: Of labels, beside those of the column.

    Raises:
        DataError: There is no such column, or no text in it.
        LabelError: The labels cannot be used.
    """
    table = read_table(
        path, text_column=text_column, label_column=None, max_rows=MOST_ROWS, empty="skip"
    )
    given: list[str | None] = [None] * len(table.texts)
    if label_column:
        given = [_read_label(row.get(label_column)) for row in table.rows]
    written = sorted({label for label in given if label})
    labels = check_names([*written, *split_names(names)])
    return Taken(table.texts, table.rows, table.columns, labels, given)


def _read_label(cell: Any) -> str | None:
    """The label of a cell that has exactly one."""
    labels = [label_text(part) for part in take_labels(cell)]
    return labels[0] if len(labels) == 1 else None


def render_answers(project: Project, form: str) -> bytes:
    """Write the table of a project with the label of each row, and who gave it.

    Args:
        form: `csv` or `xlsx`.
    """
    setup, answers = project.read_fact("setup"), project.read_fact("answers")
    names = list(dict.fromkeys(setup["columns"]))
    added = [_free(name, names) for name in ("final_label", "confidence", "labeled_by")]
    rows = []
    for row, cells in zip(project.list_rows(), project.read_cells(), strict=True):
        odds = (answers or {"answers": {}})["answers"].get(str(row.id))
        values: tuple[object, ...] = (None, None, row.state if row.state != "open" else "")
        if row.state == LABELED:
            values = (row.label, 1.0, "person")
        elif odds is not None:
            best = max(odds)
            values = (answers["labels"][odds.index(best)], best, "model")
        fields = {name: cells.get(name) for name in names}
        rows.append(fields | dict(zip(added, values, strict=True)))
    if form == "csv":
        rows = [{name: disarm(cell) for name, cell in row.items()} for row in rows]
    return render_table(form, [*names, *added], rows)


def _free(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name = f"nlp_meta_{name}"
    return name
