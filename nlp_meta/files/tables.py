"""Users' tables: texts and their labels, or sentences and their translations, by columns."""

import difflib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from html.entities import html5
from pathlib import Path
from typing import Any

import yaml

from nlp_meta.data.cells import (
    POLICIES,
    SKIP,
    STOP,
    check_policy,
    is_empty,
    list_places,
    note_missing_words,
    read_pairs,
    select_rows,
    write_number,
)
from nlp_meta.data.labels import check_columns, drop_rows, label_text
from nlp_meta.errors import DataError, LabelError
from nlp_meta.files.entries import Entry, UserFile, damaged, decode_text, ending_of, read_user_file
from nlp_meta.files.projects import is_project, read_project
from nlp_meta.files.shapes import find_shape, take_labels
from nlp_meta.tables.contents import Decoded, decode_bytes, find_kind
from nlp_meta.tables.delimited import has_header, has_tabs, split_lines
from nlp_meta.tables.formats import TABLE_FORMS, parse_table, render_table
from nlp_meta.tables.rows import LOOK, Cells, Reading, Rows, TableError

PAIR_TABLES = tuple(form for form in TABLE_FORMS if form not in ("txt", "yaml", "yml"))
WRITTEN_PAIR_TABLES = ("csv", "tsv", "jsonl", "xlsx")
LABEL_FILES = ("csv", "tsv", "txt", "json", "jsonl", "yaml", "yml", "xlsx")
"""Endings of files that a label map is read from."""
_EXPORTS = {("data_row", "projects"): "Labelbox", ("Labeled Data", "Label"): "Labelbox"}
"""By their columns what is read of no tool."""
_ENTITY = re.compile(r"&(\w{2,32};|#\d{1,7};|#[xX][\da-fA-F]{1,6};)")


@dataclass(frozen=True, slots=True)
class LabeledTable:
    """A user's rows, in the file's order.

    Attributes:
        texts: One a row; empty where a row without a text is kept.
        labels: None where no label column was asked for.
        columns: All columns that the file has.
        notes: What was taken for granted and what was left out, a sentence each.
        rows: The cells of each row, by column.
        lines: Where each row begins in the file, from 1.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None
    columns: tuple[str, ...]
    path: Path
    notes: tuple[str, ...] = ()
    rows: tuple[Cells, ...] = ()
    lines: tuple[int, ...] = ()


def read_table(
    path: str | Path,
    *,
    text_column: str = "text",
    label_column: str | None = "label",
    max_rows: int,
    empty: str = STOP,
    drop_labels: Sequence[str] | str = (),
    encoding: str | None = None,
    separator: str | None = None,
    sheet: str | None = None,
) -> LabeledTable:
    """Read texts and labels from a CSV, TSV, JSONL, JSON or Parquet file, or from fastText's.

    The folder of a project of the app is read too: its labeled rows, or all its texts.

    Numbers and truth values are labels too: 1, 1.0 and "1,0" are one label. What annotation
    tools, pandas and `datasets` export is read where it says the same as such a table.
    Blank rows at the end of a CSV or TSV file are left out, quotes of a TSV file's texts kept.

    Args:
        label_column: None reads texts only.
        max_rows: A longer table is an error.
        empty: Rows without a text or a label `stop`, or `skip` leaves them out; where texts
            only are read, `keep` keeps them.
        drop_labels: Labels whose rows are left out.
        encoding, separator, sheet: How to read the file; None looks at it.

    Raises:
        DataError: No such file, an unknown ending, not UTF-8, damaged, no rows or too many,
            a missing column, empty texts or missing labels; names the lines.
        LabelError: Several labels of one text, or texts and labels that look swapped.
        SettingsError: `empty` is no policy here.
    """
    check_policy(empty, policies=POLICIES if label_column is None else (STOP, SKIP))
    if is_project(Path(path)):
        return _take_project(Path(path), labeled=label_column is not None, max_rows=max_rows)
    file = read_user_file(Path(path), forms=TABLE_FORMS)
    reading = Reading(encoding, separator, sheet)
    read = _read(file, reading, text_column, label_column, max_rows=max_rows)
    rows = find_shape(read, text_column=text_column, label_column=label_column)
    wanted = {"text_column": text_column}
    wanted |= {} if label_column is None else {"label_column": label_column}
    added = set(wanted.values()) - set(read.columns)
    _check_columns(file, rows, wanted, written=[c for c in rows.columns if c not in added])
    texts = _texts(file, rows, text_column)
    labels = None if label_column is None else _labels(file, rows, label_column)
    used, notes = _find_used(
        file, rows, texts, labels, wanted=wanted, empty=empty, drop_labels=drop_labels
    )
    used_texts = tuple(texts[place] for place in used)
    used_labels = None if labels is None else tuple(labels[place][0] for place in used)
    check_columns(used_texts, used_labels or (), arguments="`text_column` and `label_column`")
    return LabeledTable(
        texts=used_texts,
        labels=used_labels,
        columns=read.columns,
        path=file.path,
        notes=(*rows.notes, *notes, *note_missing_words(used_texts, argument="text_column")),
        rows=tuple(rows.cells[place] for place in used),
        lines=tuple(rows.lines[place] for place in used),
    )


def _take_project(folder: Path, *, labeled: bool, max_rows: int) -> LabeledTable:
    setup, rows, cells = read_project(folder, labeled=labeled)
    _check_count(folder, len(rows), max_rows)
    return LabeledTable(
        texts=tuple(row.text for row in rows),
        labels=tuple(row.label or "" for row in rows) if labeled else None,
        columns=tuple(setup["columns"]),
        path=folder,
        rows=tuple(cells),
        lines=tuple(row.id for row in rows),
    )


def _read(
    file: UserFile, reading: Reading, text_column: str, label_column: str | None, *, max_rows: int
) -> Rows:
    known = [text_column] if label_column is None else [text_column, label_column]
    lines = file.form == "txt" or file.content.startswith(b"__label__")
    if lines and label_column and b"__label__" not in file.content and has_tabs(file.content):
        lines = False
    lines = lines and find_kind(file.content).is_read and reading.sheet is None
    if lines and not has_header(_decode(file, reading.encoding).text, known):
        rows = _read_lines(file, reading, text_column, label_column)
    else:
        rows = read_rows_of(file, reading, known=known, most=max_rows)
    _check_count(file.path, rows.count, max_rows)
    return rows


def _find_used(
    file: UserFile,
    rows: Rows,
    texts: Sequence[str],
    labels: Sequence[Sequence[str]] | None,
    *,
    wanted: Mapping[str, str],
    empty: str,
    drop_labels: Sequence[str] | str,
) -> tuple[list[int], tuple[str, ...]]:
    """Places of the rows that are used, of one label each, and what is told of the others."""
    dropped, notes = drop_rows(labels or [], drop_labels)
    holes = {"text": {place for place, text in enumerate(texts) if is_empty(text)}}
    if labels is not None:
        _check_single(file, rows, labels, dropped)
        holes["label"] = {place for place, names in enumerate(labels) if not names}
    selection = select_rows(
        {what: places - dropped for what, places in holes.items()},
        count=len(texts),
        empty=empty,
        subject=f"table {file.path}",
        name=lambda places: list_places(rows.unit, [rows.lines[place] for place in places]),
        remedies={name.removesuffix("_column"): f"change `{name}`" for name in wanted},
    )
    used = [place for place in selection.places if place not in dropped]
    if not used:
        raise DataError(
            f"cannot use table {file.path}: no row is left of its {len(texts)}, at least one is "
            "needed; name fewer labels in `drop_labels`, or fill in what is missing"
        )
    written = {
        rows.lines[place]: " ".join([texts[place], *(labels[place] if labels else ())])
        for place in used
    }
    return used, (*notes, *selection.notes, *note_entities(written, unit=rows.unit))


def note_entities(written: Mapping[int, str], *, unit: str) -> tuple[str, ...]:
    """Tell of rows, by their lines, in which signs are written as in web pages."""
    found = {
        line: match[0]
        for line, text in written.items()
        for match in _ENTITY.finditer(text)
        if match[1] in html5 or match[1].startswith("#")
    }
    if not found:
        return ()
    first = next(iter(found.values()))
    return (
        f"{len(found)} of {len(written)} rows write signs as web pages do, such as {first!r} for "
        f"{unescape(first)!r} ({list_places(unit, list(found))}), and are read so: write the signs "
        "themselves there if they are meant",
    )


def _check_single(
    file: UserFile, rows: Rows, labels: Sequence[Sequence[str]], dropped: Collection[int]
) -> None:
    several = [n for n, names in enumerate(labels) if len(names) > 1 and n not in dropped]
    if several:
        first = labels[several[0]]
        common = Counter(label for place in several for label in labels[place][1:])
        raise LabelError(
            f"cannot learn from table {file.path}: {len(several)} of {len(labels)} rows have "
            f"several labels ({rows.unit} {rows.lines[several[0]]}: "
            f"{', '.join(map(repr, first[:5]))}), and one label a text is "
            "what is learned; keep one label in each of these rows, or leave out the rows of a "
            f'label, such as `drop_labels="{common.most_common(1)[0][0]}"`'
        )


def _read_lines(
    file: UserFile, reading: Reading, text_column: str, label_column: str | None
) -> Rows:
    """Texts of one line each, behind their labels as fastText writes them."""
    cells, lines = [], []
    decoded = _decode(file, reading.encoding)
    for line, text in enumerate(split_lines(decoded.text), start=1):
        words = re.split("[ \t]", text)
        labels = [word for word in words if word.startswith("__label__")]
        if label_column is not None and not labels and not is_empty(text):
            raise DataError(
                f"cannot read labels from '{file.path}': line {line} has none, a line such as "
                f"'__label__good The lift is new.' or a table with the columns {text_column!r} and "
                f"{label_column!r} is needed; write it so"
            )
        if text.strip():
            row = {text_column: re.sub(r"(?<!\S)__label__\S*[ \t]?", "", text).strip()}
            cells.append(row if label_column is None else {**row, label_column: labels})
            lines.append(line)
    columns = (text_column,) if label_column is None else (text_column, label_column)
    notes = (decoded.note,) if decoded.note else ()
    return Rows(columns, tuple(cells), tuple(lines), len(cells), notes)


def read_label_file(path: Path) -> dict[str, str]:
    """Read a label map: a table of two columns, as written and name, or a JSON or YAML object.

    Raises:
        DataError: The file cannot be read as such.
        LabelError: A label has no name, or is there twice.
    """
    file = read_user_file(path, forms=LABEL_FILES)
    shown = f"'{path}'"
    if file.form in ("yaml", "yml"):
        try:
            # Without types, so that `no` and `1.0` stay as they are written.
            value = yaml.BaseLoader(decode_text(file)).get_single_data()
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise damaged(file, error) from error
        rows = Rows((), (value,), (1,), 1) if isinstance(value, dict) else Rows((), (), (), 0)
    else:
        rows = read_rows_of(file)
    if file.form in ("yaml", "yml", "json", "jsonl") and rows.count == 1:
        return read_pairs(rows.cells[0].items(), shown=shown)
    if len(rows.columns) != 2:
        raise DataError(
            f"cannot read the label map {shown}: it has {len(rows.columns)} columns, and two are "
            "needed, the label as written and its name, or an object such as "
            '{"bad": "negative"}; correct it'
        )
    pairs = [(row.get(rows.columns[0]), row.get(rows.columns[1])) for row in rows.cells]
    header = rows.columns[0].strip().casefold()
    if header not in ("written", "label", "from", "old", "as written", "source"):
        pairs = [(rows.columns[0], rows.columns[1]), *pairs]
    return read_pairs(pairs, shown=shown)


def read_rows_of(
    file: UserFile,
    reading: Reading = LOOK,
    *,
    columns: Collection[str] | None = None,
    known: Collection[str] | None = None,
    most: int | None = None,
) -> Rows:
    """Read a table that a user brought; arguments are those of `parse_table`.

    Raises:
        DataError: It does not keep to its format; names the line.
    """
    try:
        return parse_table(
            file.form, file.content, reading, columns=columns, known=known, most=most
        )
    except TableError as error:
        raise refuse_table(file, error) from error


def _decode(file: UserFile, encoding: str | None) -> Decoded:
    try:
        return decode_bytes(file.content, encoding=encoding)
    except TableError as error:
        raise refuse_table(file, error) from error


def refuse_table(file: UserFile, error: TableError) -> DataError:
    """Say why a table is not read, and what to change."""
    if not error.needed and not error.remedy:
        return damaged(file, error, line=error.line)
    where = "" if error.line is None else f"line {error.line}: "
    needed = error.needed or f"a well-formed .{file.form} file is needed"
    remedy = error.remedy or "mend it or save it anew"
    return DataError(f"cannot read '{file.path}': {where}{error}, {needed}; {remedy}")


def render_rows(
    path: Path, columns: Sequence[str], rows: Sequence[Cells], *, goes_on: bool = False
) -> bytes:
    """Give the content of a new table, in the format that its name asks for.

    Args:
        goes_on: As in `render_table`.

    Raises:
        DataError: A workbook cannot hold it.
    """
    try:
        return render_table(ending_of(path), columns, rows, goes_on=goes_on)
    except TableError as error:
        needed = f", {error.needed}" if error.needed else ", fewer rows are needed"
        remedy = error.remedy or "write .csv or .jsonl"
        raise DataError(f"cannot write '{path}': {error}{needed}; {remedy}") from error


def disarm(cell: Any) -> Any:
    """A text that a spreadsheet would take for a formula, with an apostrophe before it."""
    if not isinstance(cell, str) or len(cell.strip()) < 2 or write_number(cell.strip()):
        return cell
    begins = cell.lstrip(" ")[:1]
    return f"'{cell}" if begins in "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20" else cell


def table_entries(
    file: UserFile,
    rows: Rows,
    *,
    source_column: str,
    target_column: str | None,
    written: Sequence[str] | None = None,
) -> list[Entry]:
    """Take the sentences out of a table.

    Args:
        target_column: None gives entries without a target.
        written: Columns that the file names; None takes those of the rows.

    Raises:
        DataError: A column is not there or twice there, or a cell holds no text.
    """
    wanted = {"source_column": source_column}
    if target_column is not None:
        wanted["target_column"] = target_column
    _check_columns(file, rows, wanted, written=written)
    sources, *targets = (
        _cells(file, rows, name, argument=argument) for argument, name in wanted.items()
    )
    return [
        Entry(source, target, line)
        for source, target, line in zip(
            map(_write, sources),
            map(_write, targets[0]) if targets else [None] * len(sources),
            rows.lines,
            strict=True,
        )
    ]


def _check_count(path: Path, count: int, max_rows: int) -> None:
    if count == 0:
        raise DataError(
            f"cannot use table {path}: it has no rows, at least one is needed; "
            "add rows or name another file"
        )
    if count > max_rows:
        raise DataError(
            f"cannot use table {path}: it has {count} rows where at most {max_rows} are "
            "taken; give a sample of it or raise `max_rows`"
        )


def _check_columns(
    file: UserFile, rows: Rows, wanted: Mapping[str, str], *, written: Sequence[str] | None = None
) -> None:
    """Stop where a column is not there, or twice; `written` are those that the file names."""
    columns, written = rows.columns, rows.columns if written is None else written
    for argument, name in wanted.items():
        if name not in columns:
            nearest = difflib.get_close_matches(name, written, n=1, cutoff=0.5)
            hint = f" (nearest: {nearest[0]!r})" if nearest else ""
            tools = (tool for keys, tool in _EXPORTS.items() if {*keys} <= {*written})
            tool = "".join(f", an export of {tool}" for tool in tools)
            raise DataError(
                f"cannot find column {name!r} in table {file.path}{tool}: its columns are "
                f"{', '.join(repr(column[:60]) for column in written[:20]) or 'none'}{hint}; "
                f"name the right one with `{argument}`{_advise(file, written, wanted)}"
            )
        if columns.count(name) > 1:
            raise DataError(
                f"cannot tell the columns {name!r} of table {file.path} apart: "
                f"{columns.count(name)} have that name, one is needed; rename one or name "
                f"another with `{argument}`"
            )


def _advise(file: UserFile, columns: Sequence[str], wanted: Mapping[str, str]) -> str:
    """What to do where the first line is a row, as names are short and no numbers; or JSON has
    another shape."""
    if file.form in ("json", "jsonl", "ndjson"):
        row = ", ".join(f'"{name}": "..."' for name in wanted.values())
        return f", or write rows such as {{{row}}}"
    if all(len(name.split()) < 4 and not name.strip().isdecimal() for name in columns):
        return ""
    line = f"a line {','.join(wanted.values())!r}"
    if len(columns) != len(wanted):
        line = f"a line of {len(columns)} names, {' and '.join(wanted.values())} among them,"
    return f"; or, if the first line is a row and no names of columns, put {line} above it"


def _cells(
    file: UserFile, rows: Rows, column: str, *, argument: str
) -> list[str | int | float | None]:
    cells = [row.get(column) for row in rows.cells]
    for cell, line in zip(cells, rows.lines, strict=True):
        if cell is not None and not isinstance(cell, str | int | float):
            raise DataError(
                f"cannot use table {file.path}: {rows.unit} {line} has a "
                f"{type(cell).__name__} in column {column!r}, text or a number is needed, such as "
                f'{{"{column}": "The lift is new."}}; name another column with `{argument}`'
            )
    return cells  # type: ignore[return-value]


def _write(cell: str | int | float | None) -> str | None:
    return None if cell is None or cell != cell else str(cell)


def _texts(file: UserFile, rows: Rows, column: str) -> list[str]:
    return [_write(cell) or "" for cell in _cells(file, rows, column, argument="text_column")]


def _labels(file: UserFile, rows: Rows, column: str) -> list[list[str]]:
    """All labels of each row."""
    labels = []
    for row, line in zip(rows.cells, rows.lines, strict=True):
        try:
            cells = map(label_text, take_labels(row.get(column)))
        except LabelError as error:
            raise LabelError(
                f"cannot use table {file.path}: {rows.unit} {line} has no single label in column "
                f"{column!r}: {error}, and one label a text is what is learned, such as "
                f'{{"{column}": "good"}}; name another column with `label_column`'
            ) from error
        labels.append(list(dict.fromkeys(label for label in cells if label is not None)))
    return labels
