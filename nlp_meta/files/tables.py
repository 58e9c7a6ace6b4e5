"""Users' tables: texts and their labels, or sentences and their translations, by columns."""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from nlp_meta.data.labels import label_text
from nlp_meta.data.table_formats import (
    LOOK,
    TABLE_FORMS,
    Reading,
    Rows,
    TableError,
    parse_table,
)
from nlp_meta.errors import DataError
from nlp_meta.files.entries import Entry, UserFile, damaged, not_utf8, read_user_file

PAIR_TABLES = ("csv", "tsv", "jsonl", "parquet")
WRITTEN_PAIR_TABLES = ("csv", "tsv", "jsonl")

_NUMBER = re.compile(r"\s*[-+]?\d+(\.\d+)?\s*")


@dataclass(frozen=True, slots=True)
class LabeledTable:
    """A user's rows, in the file's order.

    Attributes:
        labels: None where no label column was asked for.
        columns: All columns that the file has.
        notes: What was taken for granted, a sentence each.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None
    columns: tuple[str, ...]
    path: Path
    notes: tuple[str, ...] = ()


def read_table(
    path: str | Path,
    *,
    text_column: str = "text",
    label_column: str | None = "label",
    max_rows: int,
    encoding: str | None = None,
    separator: str | None = None,
    sheet: str | None = None,
) -> LabeledTable:
    """Read texts and labels from a CSV, TSV, JSONL, JSON or Parquet file.

    Integers, booleans and whole floats are labels too: 1, 1.0 and "1" are one label.
    Blank rows at the end of a CSV or TSV file are left out, quotes of a TSV file's texts kept.

    Args:
        label_column: None reads texts only.
        max_rows: A longer table is an error.
        encoding, separator, sheet: How to read the file; None looks at it.

    Raises:
        DataError: No such file, an unknown ending, not UTF-8, damaged, no rows or too many,
            a missing column, an empty text or a missing label; names the line.
    """
    file = read_user_file(Path(path), forms=TABLE_FORMS)
    wanted = {"text_column": text_column}
    if label_column is not None:
        wanted["label_column"] = label_column
    reading = Reading(encoding, separator, sheet)
    rows = read_rows_of(file, reading, columns=set(wanted.values()), most=max_rows)
    _check_count(file, rows.count, max_rows)
    _check_columns(file, rows, wanted)
    return LabeledTable(
        texts=_texts(file, rows, text_column),
        labels=None if label_column is None else _labels(file, rows, label_column),
        columns=rows.columns,
        path=file.path,
        notes=rows.notes,
    )


def read_rows_of(
    file: UserFile,
    reading: Reading = LOOK,
    *,
    columns: Collection[str] | None = None,
    most: int | None = None,
) -> Rows:
    """Read a table that a user brought; arguments are those of `parse_table`.

    Raises:
        DataError: It does not keep to its format; names the line.
    """
    try:
        return parse_table(file.form, file.content, reading, columns=columns, most=most)
    except TableError as error:
        raise damaged(file, error, line=error.line) from error
    except UnicodeDecodeError as error:
        raise not_utf8(file, error) from error


def table_entries(
    file: UserFile, rows: Rows, *, source_column: str, target_column: str | None
) -> list[Entry]:
    """Take the sentences out of a table.

    Args:
        target_column: None gives entries without a target.

    Raises:
        DataError: A column is not there or twice there, or a cell holds no text.
    """
    wanted = {"source_column": source_column}
    if target_column is not None:
        wanted["target_column"] = target_column
    _check_columns(file, rows, wanted)
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


def _check_count(file: UserFile, count: int, max_rows: int) -> None:
    if count == 0:
        raise DataError(
            f"cannot use table {file.path}: it has no rows, at least one is needed; "
            "add rows or name another file"
        )
    if count > max_rows:
        raise DataError(
            f"cannot use table {file.path}: it has {count} rows where at most {max_rows} are "
            "taken; give a sample of it or raise `max_rows`"
        )


def _check_columns(file: UserFile, rows: Rows, wanted: Mapping[str, str]) -> None:
    columns = rows.columns
    for argument, name in wanted.items():
        if name not in columns:
            nearest = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
            hint = f" (nearest: {nearest[0]!r})" if nearest else ""
            raise DataError(
                f"cannot find column {name!r} in table {file.path}: its columns are "
                f"{', '.join(map(repr, columns)) or 'none'}{hint}; name the right one with "
                f"`{argument}`"
            )
        if columns.count(name) > 1:
            raise DataError(
                f"cannot tell the columns {name!r} of table {file.path} apart: "
                f"{columns.count(name)} have that name, one is needed; rename one or name "
                f"another with `{argument}`"
            )


def _cells(
    file: UserFile, rows: Rows, column: str, *, argument: str
) -> list[str | int | float | None]:
    cells = [row.get(column) for row in rows.cells]
    for cell, line in zip(cells, rows.lines, strict=True):
        if cell is not None and not isinstance(cell, str | int | float):
            raise DataError(
                f"cannot use table {file.path}: line {line} has a {type(cell).__name__} in column "
                f"{column!r}, text or a number is needed; name another column with `{argument}`"
            )
    return cells  # type: ignore[return-value]


def _write(cell: str | int | float | None) -> str | None:
    return None if cell is None else str(cell)


def _texts(file: UserFile, rows: Rows, column: str) -> tuple[str, ...]:
    cells = _cells(file, rows, column, argument="text_column")
    for cell, line in zip(cells, rows.lines, strict=True):
        if label_text(cell) is None:
            raise DataError(
                f"cannot use table {file.path}: line {line} has an empty text in column "
                f"{column!r}, a text in each row is needed; fill it in, remove the row or name "
                "another column with `text_column`"
            )
    return tuple(map(str, cells))


def _labels(file: UserFile, rows: Rows, column: str) -> tuple[str, ...]:
    labels = []
    cells = _cells(file, rows, column, argument="label_column")
    for label, line in zip(map(label_text, cells), rows.lines, strict=True):
        if label is None:
            raise DataError(
                f"cannot use table {file.path}: line {line} has no label in column {column!r}, a "
                "label in each row is needed; fill it in, remove the row or name another column "
                "with `label_column`"
            )
        labels.append(label)
    if all(_NUMBER.fullmatch(label) for label in labels):
        # A column of whole numbers is written 1.0 by programs that keep numbers as floats.
        return tuple(re.sub(r"\.0+(?=\s*$)", "", label) for label in labels)
    return tuple(labels)
