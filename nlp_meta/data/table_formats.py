"""Tables as bytes: CSV, TSV, JSONL, JSON and Parquet, read into rows and written back.

A cell is what was written: `NA` and `null` of a CSV file are texts, 007 is not 7. A row
knows the line where it begins, so that errors and reports can name it.
"""

import csv
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any

from nlp_meta.data.json_tables import unfold

TABLE_FORMS = ("csv", "tsv", "jsonl", "json", "parquet")
WRITTEN_TABLES = ("csv", "tsv", "jsonl", "parquet")
"""As endings of file names, without the point."""

_SEPARATORS = {"csv": ",", "tsv": "\t"}

Cells = Mapping[str, object]


class TableError(ValueError):
    """A table that does not keep to its format.

    Attributes:
        line: Where, from 1; None if that is not known.
    """

    def __init__(self, reason: object, line: int | None = None) -> None:
        """Say what is wrong and in which line."""
        super().__init__(str(reason))
        self.line = line


@dataclass(frozen=True, slots=True)
class Rows:
    """A table as it is in its file.

    Attributes:
        columns: All of the file, in its order.
        cells: Of each row by column; a column that a row lacks is not there.
        lines: Where each row begins, from 1; its number in a Parquet file or a JSON array.
        count: Rows of the file, of which no more may have been read than were asked for.
        notes: What was taken for granted, a sentence each: `the separator is ';'`.
    """

    columns: tuple[str, ...]
    cells: tuple[Cells, ...]
    lines: tuple[int, ...]
    count: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """How the user says that a table is to be read; None looks at the file.

    Attributes:
        encoding: Name of the encoding, such as `cp1252`.
        separator: What stands between two cells of a CSV or TSV file.
        sheet: Name of the sheet of a workbook.
    """

    encoding: str | None = None
    separator: str | None = None
    sheet: str | None = None


LOOK = Reading()


def parse_table(
    form: str,
    content: bytes,
    reading: Reading = LOOK,
    *,
    columns: Collection[str] | None = None,
    most: int | None = None,
) -> Rows:
    """Read a table of one of the `TABLE_FORMS`; blank rows at its end are left out.

    A TSV file whose quotes are not those of a table, as in most parallel corpora, is taken
    as written: if its lines are rows of one width already, no quote joins two of them.

    Args:
        columns: Those whose cells are wanted; None takes all.
        most: Read the cells of no more rows than these; the others are counted.

    Raises:
        TableError: It does not keep to its format.
        UnicodeDecodeError: It is not UTF-8.
    """
    if form == "parquet":
        return _read_parquet(content, columns, most)
    text = content.decode("utf-8-sig")
    if form in _SEPARATORS:
        return _read_delimited(text, form, columns, most)
    return _read_json(text, columns, most)


def render_table(form: str, columns: Sequence[str], rows: Sequence[Cells]) -> bytes:
    """Write a table of one of the `WRITTEN_TABLES` as bytes; JSONL takes each row as it is."""
    if form == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.table({name: [row.get(name) for row in rows] for name in columns})
        sink = BytesIO()
        parquet.write_table(table, sink)
        return sink.getvalue()
    out = StringIO(newline="")
    if form == "jsonl":
        out.writelines(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)
    else:
        writer = csv.writer(out, delimiter=_SEPARATORS[form], lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([row.get(name) for name in columns] for row in rows)
    return out.getvalue().encode()


def _read_delimited(
    text: str, form: str, columns: Collection[str] | None, most: int | None
) -> Rows:
    rows = _parse_delimited(text, form)
    _, header = next(rows, (1, []))
    cells, lines, count = [], [], 0
    for number, (line, row) in enumerate(rows, start=1):
        if len(row) > len(header):
            raise TableError(
                f"it has {len(row)} cells where the header has {len(header)} (texts that contain "
                f"{_SEPARATORS[form]!r} are put in double quotes)",
                line,
            )
        if any(cell.strip() for cell in row):
            count = number
        if most is None or number <= most:
            cells.append(_pick(dict(zip(header, row, strict=False)), columns))
            lines.append(line)
    return Rows(tuple(header), tuple(cells[:count]), tuple(lines[:count]), count)


def _parse_delimited(text: str, form: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(
        StringIO(text, newline=""),
        delimiter=_SEPARATORS[form],
        strict=True,
        quoting=_find_quoting(text) if form == "tsv" else csv.QUOTE_MINIMAL,  # type: ignore[arg-type]
    )
    line = 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise TableError(error, line) from error


def _find_quoting(text: str) -> int:
    """How `csv` is to take the double quotes of a TSV file.

    Most corpora write texts as they are, quotes included. So quotes are the texts' own where
    they do not keep to the form of a table, and where they would join lines that are rows of
    one width already.
    """
    if '"' not in text:
        return csv.QUOTE_MINIMAL
    try:
        rows = list(csv.reader(StringIO(text, newline=""), delimiter="\t", strict=True))
    except csv.Error:
        return csv.QUOTE_NONE
    if any(len(row) > len(rows[0]) for row in rows):
        return csv.QUOTE_NONE
    joined = any(re.search(r"[\t\r\n]", cell) for row in rows for cell in row)
    tabs = {line.count("\t") for line in StringIO(text, newline="") if line.strip()}
    return csv.QUOTE_NONE if joined and len(tabs) == 1 and 0 not in tabs else csv.QUOTE_MINIMAL


def _read_json(text: str, columns: Collection[str] | None, most: int | None) -> Rows:
    names: dict[str, None] = {}
    cells, lines, count = [], [], 0
    escapes = "\\u" in text
    for line, row in _parse_json(text):
        if not isinstance(row, dict):
            raise TableError("it is not a JSON object", line)
        if escapes and not _is_unicode(row):
            raise TableError("a text has half of a surrogate pair", line)
        names |= dict.fromkeys(row)
        count += 1
        if most is None or count <= most:
            cells.append(_pick(row, columns))
            lines.append(line)
    return Rows(tuple(names), tuple(cells), tuple(lines), count)


def _parse_json(text: str) -> Iterator[tuple[int, object]]:
    """The rows of an array, or of lines."""
    number = 1
    try:
        value = _parse_whole(text)
        if value is not None:
            yield from enumerate(unfold(value), start=1)
            return
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield number, json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        number += getattr(error, "lineno", 1) - 1
        raise TableError(f"it is not JSON ({getattr(error, 'msg', error)})", number) from error


def _parse_whole(text: str) -> object:
    """The one value that a text holds; None where it holds a value in each line, or none."""
    if text.lstrip().startswith("["):
        return json.loads(text)
    try:
        return json.loads(text) if text.lstrip().startswith("{") else None
    except json.JSONDecodeError as error:
        # Another object follows the first, or a line is broken: its number is told then.
        if "\n" not in text[: error.pos].strip() or error.msg == "Extra data":
            return None
        raise


def _is_unicode(value: object) -> bool:
    """Whether the texts of a JSON value can be written down; half of a surrogate pair cannot."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_parquet(content: bytes, columns: Collection[str] | None, most: int | None) -> Rows:
    import pyarrow as pa  # 0.1 s, and most tables are text
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(BytesIO(content)) as file:
            names, count = tuple(file.schema_arrow.names), file.metadata.num_rows
            if most is not None and count > most:
                return Rows(names, (), (), count)
            wanted = [name for name in names if columns is None or name in columns]
            classes = _find_classes(file.schema_arrow.metadata or {})
            cells = [_name_classes(row, classes) for row in file.read(wanted).to_pylist()]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableError(error) from error
    return Rows(names, tuple(cells), tuple(range(1, count + 1)), count)


def _find_classes(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Names of class numbers by column, which `datasets` writes into its files."""
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {
        column: feature["names"]
        for column, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }


def _name_classes(row: Cells, classes: Mapping[str, list[str]]) -> Cells:
    """Write class names for class numbers; -1 stands for no label there."""
    names: dict[str, Any] = {
        column: dict(enumerate(classes[column])).get(row[column])  # type: ignore[call-overload]
        for column in classes
        if column in row
    }
    return {**row, **names}


def _pick(row: Cells, columns: Collection[str] | None) -> Cells:
    return row if columns is None else {name: row[name] for name in columns if name in row}
