"""The table of a project: what is dropped, which column means what, and what is taken away."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nlp_meta.data.cells import fold_label, is_empty, label_text
from nlp_meta.data.duplicates import first_places
from nlp_meta.data.languages import common_codes, name_language
from nlp_meta.errors import DataError, LabelError
from nlp_meta.files.entries import UserFile, read_user_file, recognize
from nlp_meta.files.memories import MEMORY_FORMS, read_lines, read_memory
from nlp_meta.files.projects import ACCEPTED, LABELED, OPEN, SKIPPED, Project
from nlp_meta.files.shapes import take_labels
from nlp_meta.files.tables import disarm, read_rows_of, read_table
from nlp_meta.files.tmx import render_tmx, tmx_entries
from nlp_meta.tables.formats import TABLE_FORMS, render_table
from nlp_meta.tables.rows import Cells, Rows

SURE = 0.8
"""Chance from which on a pair is taken over, unless a person asks for another."""
MOST_ROWS, _MOST_SENTENCES = 20_000, 10_000
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


def has_memory(path: Path) -> bool:
    """Whether a file is a translation memory, not a table."""
    file = recognize(read_user_file(path), plain=TABLE_FORMS)
    return file.form in MEMORY_FORMS and file.form not in TABLE_FORMS


def read_sentences(path: Path) -> list[str]:
    """Different sentences of a text.

    Raises:
        DataError: It is none, is empty, or has too many.
    """
    lines = [line for line in read_lines(path, known=MEMORY_FORMS) if not is_empty(line)]
    sentences = [lines[place] for place in first_places(lines)]
    if not 0 < len(sentences) <= _MOST_SENTENCES:
        raise DataError(
            f"cannot take this text: it has {len(sentences)} different lines and 1 to "
            f"{_MOST_SENTENCES} are needed, a sentence in each; drop a text, or a part of it"
        )
    return sentences


def read_pairs(path: Path, languages: tuple[str, str]) -> list[tuple[str, str]]:
    """Read the pairs of a memory.

    Raises:
        DataError: It is none, is empty, has too many, or other languages.
    """
    memory = read_memory(path, source_lang=languages[0], target_lang=languages[1])
    if len(memory.pairs) > _MOST_SENTENCES:
        raise DataError(
            f"cannot take this memory: it has {len(memory.pairs)} pairs and at most "
            f"{_MOST_SENTENCES} are needed; drop a part of it"
        )
    return [(pair.source, pair.target) for pair in memory.pairs]


def check_languages(languages: Sequence[str]) -> None:
    """Refuse a word that is no code of a language.

    Raises:
        DataError: Names codes like it.
    """
    for code in languages:
        if name_language(code) == code:
            near = get_close_matches(code.lower(), common_codes(), n=3, cutoff=0.5)
            raise DataError(
                f"cannot use the language {code[:40]!r}: a code such as "
                f"{', '.join(near) or 'en, de or pt-BR'} is needed; write one"
            )


def guess_languages(path: Path) -> tuple[str, str]:
    """The languages of a TMX file that has two; else empty words."""
    file = recognize(read_user_file(path), plain=TABLE_FORMS)
    if file.form != "tmx":
        return "", ""
    try:
        source, target = tmx_entries(file, source_lang=None, target_lang=None).languages[0]
    except DataError:  # several languages: a person chooses
        return "", ""
    return source or "", target or ""


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


def render_checked(project: Project, form: str, *, least: float) -> bytes:
    """Write pairs that a person accepted, and those that are as surely right as is asked.

    Args:
        form: `csv`, `xlsx` or `tmx`.
        least: From 0 to 1; above 1 for those of a person alone.
    """
    odds = (project.read_fact("answers") or {"answers": {}})["answers"]
    rows = []
    for row in project.list_rows():
        chance = 1.0 if row.label == ACCEPTED else odds.get(str(row.id), [0.0])[0]
        if row.label == ACCEPTED or (row.state in (OPEN, SKIPPED) and chance >= least):
            by = "person" if row.label else "model"
            rows.append({"source": row.text, "target": row.target, "chance": chance, "by": by})
    if form == "tmx":
        source, target = project.read_fact("setup")["languages"]
        pairs = [(str(row["source"]), str(row["target"])) for row in rows]
        return render_tmx(pairs, source_lang=source, target_lang=target)
    if form == "csv":
        rows = [{name: disarm(cell) for name, cell in row.items()} for row in rows]
    return render_table(form, ["source", "target", "chance", "by"], rows)


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
