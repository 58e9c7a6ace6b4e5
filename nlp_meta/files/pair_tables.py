"""Tables of sentences: CSV, TSV, JSONL and Parquet, read with their lines and written back."""

import csv
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO

from nlp_meta.errors import DataError
from nlp_meta.files.entries import (
    Entry,
    UserFile,
    damaged,
    decode_lines,
    decode_text,
    is_unicode,
    tsv_quoting,
)

TABLES = ("csv", "tsv", "jsonl", "parquet")
WRITTEN_TABLES = ("csv", "tsv", "jsonl")

_SEPARATORS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True, slots=True)
class Rows:
    """A table as it is in its file.

    Attributes:
        columns: All of the file, in its order.
        cells: Of each row by column; a column that a row lacks is not there.
        lines: Where each row begins, from 1; its number in a Parquet file.
    """

    columns: tuple[str, ...]
    cells: tuple[Mapping[str, object], ...]
    lines: tuple[int, ...]


def read_rows_of(file: UserFile) -> Rows:
    """Read a table of one of the forms `TABLES`; blank rows at its end are left out.

    A TSV file whose quotes are not those of a table, as in most parallel corpora, is taken
    as written: if its lines are rows of one width already, no quote joins two of them.

    Raises:
        DataError: It does not keep to its format; names the line.
    """
    if file.form == "jsonl":
        lines, cells = _split(_read_json_lines(file))
        columns = tuple(dict.fromkeys(name for row in cells for name in row))
        return Rows(columns, cells, lines)
    if file.form == "parquet":
        return _read_parquet(file)
    found = list(_read_delimited(file))
    while len(found) > 1 and not any(cell.strip() for cell in found[-1][1]):
        found.pop()
    header = tuple(found[0][1]) if found else ()
    return Rows(
        header,
        tuple(dict(zip(header, row, strict=False)) for _, row in found[1:]),
        tuple(line for line, _ in found[1:]),
    )


def table_entries(
    file: UserFile, rows: Rows, *, source_column: str, target_column: str | None
) -> list[Entry]:
    """Take the sentences out of a table.

    Args:
        target_column: None gives entries without a target.

    Raises:
        DataError: A column is not there or twice there, or a cell holds no text.
    """
    wanted = {"--source-column": source_column}
    if target_column is not None:
        wanted["--target-column"] = target_column
    for option, name in wanted.items():
        _check_column(file, rows, name, option=option)
    return [
        Entry(
            _text(file, row.get(source_column), line, column=source_column),
            None
            if target_column is None
            else _text(file, row.get(target_column), line, column=target_column),
            line,
        )
        for line, row in zip(rows.lines, rows.cells, strict=True)
    ]


def render_table(form: str, columns: Sequence[str], cells: Sequence[Mapping[str, object]]) -> bytes:
    """Write a table of one of the forms `WRITTEN_TABLES` as bytes."""
    out = StringIO(newline="")
    if form == "jsonl":
        for row in cells:
            out.write(json.dumps(dict(row), ensure_ascii=False) + "\n")
    else:
        writer = csv.writer(out, delimiter=_SEPARATORS[form], lineterminator="\n")
        writer.writerow(columns)
        for row in cells:
            found = (row.get(name) for name in columns)
            writer.writerow(["" if cell is None else cell for cell in found])
    return out.getvalue().encode()


def _split(
    found: Iterator[tuple[int, Mapping[str, object]]],
) -> tuple[tuple[int, ...], tuple[Mapping[str, object], ...]]:
    pairs = list(found)
    return tuple(line for line, _ in pairs), tuple(row for _, row in pairs)


def _read_json_lines(file: UserFile) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(decode_lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise damaged(file, f"{error} in what must be JSON", line=number) from error
        if not isinstance(row, dict):
            raise damaged(file, "it is not a JSON object", line=number)
        if "\\u" in line and not is_unicode(row):
            raise damaged(file, "a text has half of a surrogate pair", line=number)
        yield number, row


def _read_parquet(file: UserFile) -> Rows:
    import pyarrow as pa  # 0.1 s, and most memories are text
    from pyarrow import parquet

    try:
        table = parquet.read_table(BytesIO(file.content))
        cells = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(file, error) from error
    return Rows(tuple(table.column_names), tuple(cells), tuple(range(1, len(cells) + 1)))


def _read_delimited(file: UserFile) -> Iterator[tuple[int, list[str]]]:
    separator, text = _SEPARATORS[file.form], decode_text(file)
    reader = csv.reader(
        StringIO(text, newline=""),
        delimiter=separator,
        strict=True,
        quoting=tsv_quoting(text) if file.form == "tsv" else csv.QUOTE_MINIMAL,  # type: ignore[arg-type]
    )
    width, line = None, 1
    try:
        for row in reader:
            width = len(row) if width is None else width
            if len(row) > width:
                raise damaged(
                    file,
                    f"it has {len(row)} cells where the header has {width} (texts that contain "
                    f"{separator!r} are put in double quotes)",
                    line=line,
                )
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise damaged(file, error, line=line) from error


def _check_column(file: UserFile, rows: Rows, name: str, *, option: str) -> None:
    if name not in rows.columns:
        nearest = difflib.get_close_matches(name, rows.columns, n=1, cutoff=0.5)
        hint = f" (nearest: {nearest[0]!r})" if nearest else ""
        raise DataError(
            f"cannot find column {name!r} in '{file.path}': its columns are "
            f"{', '.join(map(repr, rows.columns)) or 'none'}{hint}; name the right one with "
            f"`{option}`"
        )
    if rows.columns.count(name) > 1:
        raise DataError(
            f"cannot tell the columns {name!r} of '{file.path}' apart: "
            f"{rows.columns.count(name)} have that name, one is needed; rename one or name another "
            f"with `{option}`"
        )


def _text(file: UserFile, cell: object, line: int, *, column: str) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, int | float):
        return str(cell)
    raise DataError(
        f"cannot use '{file.path}': line {line} has a {type(cell).__name__} in column {column!r}, "
        "text is needed; name another column with `--source-column` or `--target-column`"
    )
