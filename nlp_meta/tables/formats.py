"""Tables as bytes: CSV, TSV, JSONL, JSON, Parquet and workbooks, read into rows and written back.

A cell is what was written: `NA` and `null` of a CSV file are texts, 007 is not 7. A row
knows the line where it begins, so that errors and reports can name it.
"""

import csv
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from io import BytesIO, StringIO
from typing import Any

import yaml

from nlp_meta.errors import need_packages
from nlp_meta.tables.contents import JSON, PARQUET, WORKBOOK, decode_bytes, find_kind
from nlp_meta.tables.delimited import SEPARATORS, read_delimited
from nlp_meta.tables.json_tables import read_json
from nlp_meta.tables.rows import LOOK, Cells, Reading, Rows, TableError
from nlp_meta.tables.workbooks import read_workbook, render_workbook

TABLE_FORMS = (
    *("csv", "tsv", "txt", "jsonl", "ndjson", "json", "yaml", "yml", "parquet", "xlsx", "xlsm"),
)
WRITTEN_TABLES = ("csv", "tsv", "jsonl", "json", "parquet", "xlsx")
"""As endings of file names, without the point."""

GROWING_TABLES = ("csv", "tsv", "jsonl")
"""Those that are whole after every row."""

_JSON_FORMS = ("jsonl", "ndjson", "json")
_WORKBOOK_FORMS = ("xlsx", "xlsm")
_YAML_FORMS = ("yaml", "yml")
_NAMES = re.compile(r"\s*[^\W\d]\w*\s*[,;|\t]")
"""Of a text of cells."""
_LARGEST = 2**33
"""Bytes of a Parquet file's columns as they are unpacked."""


def parse_table(
    form: str,
    content: bytes,
    reading: Reading = LOOK,
    *,
    columns: Collection[str] | None = None,
    known: Collection[str] | None = None,
    most: int | None = None,
) -> Rows:
    """Read a table; what it is says its content, and its ending where that leaves a choice.

    Args:
        form: One of the `TABLE_FORMS`.
        columns: Those whose cells are wanted; None takes all.
        known: Columns that tell which line is the header, and which sheet or list the table;
            None takes `columns`.
        most: Read the cells of no more rows than these; the others are counted.

    Raises:
        TableError: It does not keep to its format, can be read in two ways, or is no table;
            says what is needed and what to change.
    """
    kind = find_kind(content)
    if not kind.is_read:
        raise TableError(f"it is {kind.name}", needed="a table is needed", remedy=kind.remedy)
    names = (columns if known is None else known) or ()
    wanted: dict[str, Any] = {"columns": columns, "most": most}
    if kind.name == PARQUET:
        return _tell(_read_parquet(content, **wanted), form, (PARQUET,), "Parquet")
    if kind.name == WORKBOOK:
        rows = read_workbook(content, known=names, sheet=reading.sheet, **wanted)
        return _tell(rows, form, _WORKBOOK_FORMS, "a workbook")
    if reading.sheet is not None:
        raise TableError(
            f"it is no workbook and has no sheet {reading.sheet!r}",
            needed="a workbook is needed to take a sheet of",
            remedy="leave `sheet` out, or name the workbook",
        )
    if form == PARQUET:
        raise TableError("it is no Parquet file")
    decoded = decode_bytes(content, encoding=reading.encoding)
    has_names = _NAMES.match(decoded.text) is not None
    if form in _YAML_FORMS and kind.name != JSON:
        rows = read_json(_read_yaml(decoded.text), known=names, **wanted)
    elif kind.name == JSON or (form in _JSON_FORMS and not has_names):
        rows = _tell(read_json(decoded.text, known=names, **wanted), form, _JSON_FORMS, "JSON")
    else:
        separator = reading.separator
        rows = read_delimited(decoded.text, form, known=names, separator=separator, **wanted)
        rows = _tell(rows, form, (*SEPARATORS, "txt"), "a table of lines")
    return replace(rows, notes=(decoded.note, *rows.notes)) if decoded.note else rows


def render_table(
    form: str, columns: Sequence[str], rows: Sequence[Cells], *, goes_on: bool = False
) -> bytes:
    """Write a table of one of the `WRITTEN_TABLES` as bytes; JSON takes each row as it is.

    Elsewhere a list or an object is written as JSON, and a column of Parquet that has cells of
    several kinds as texts.

    Args:
        goes_on: The rows follow others of a table in `GROWING_TABLES`.

    Raises:
        TableError: A workbook cannot hold it.
    """
    if form in _JSON_FORMS:
        lines = [json.dumps(dict(row), ensure_ascii=False, default=str) for row in rows]
        text = "\n".join(lines) if form != JSON else "[\n" + ",\n".join(lines) + "\n]"
        return (text + "\n" if lines or form == JSON else "").encode()
    cells = {name: _write_cells([row.get(name) for row in rows], form) for name in columns}
    if form == PARQUET:
        need_packages("write a Parquet file", "pyarrow", extra="parquet")
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.table(cells)
        sink = BytesIO()
        parquet.write_table(table, sink)
        return sink.getvalue()
    if form == WORKBOOK:
        return render_workbook(cells)
    out = StringIO(newline="")
    writer = csv.writer(out, delimiter=SEPARATORS[form], lineterminator="\n")
    if not goes_on:
        writer.writerow(columns)
    writer.writerows(zip(*cells.values(), strict=True))
    return out.getvalue().encode()


def _read_yaml(text: str) -> str:
    """Write YAML as JSON, with texts as they are written: `no` and 1.0 are texts."""
    try:
        has_references = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))
        value = None if has_references else yaml.BaseLoader(text).get_single_data()
        written = json.dumps(value, ensure_ascii=False)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise TableError(f"it is not YAML ({' '.join(str(error).split())[:200]})") from error
    if has_references:
        raise TableError(
            "it has references (*), which may grow without bound",
            needed="a file without them is needed",
            remedy="write their values in their place",
        )
    return written


def _write_cells(cells: Sequence[object], form: str) -> list[Any]:
    plain = [
        json.dumps(cell, ensure_ascii=False, default=str) if isinstance(cell, list | dict) else cell
        for cell in cells
    ]
    if form == WORKBOOK:
        kept = (str, int, float, type(None))
        return [cell if isinstance(cell, kept) else str(cell) for cell in plain]
    kinds = {type(cell) for cell in plain if cell is not None}
    if form == PARQUET and len(kinds) > 1 and not kinds <= {int, float}:
        return [None if cell is None else str(cell) for cell in plain]
    return plain


def _tell(rows: Rows, form: str, forms: Collection[str], what: str) -> Rows:
    """Say that a file is not what its ending says."""
    note = f"it is read as {what}, whatever its ending .{form} says"
    return rows if form in forms else replace(rows, notes=(note, *rows.notes))


def _read_parquet(content: bytes, columns: Collection[str] | None, most: int | None) -> Rows:
    need_packages("read a Parquet file", "pyarrow", extra="parquet")
    import pyarrow as pa  # 0.1 s, and most tables are text
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(BytesIO(content)) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
            names = tuple(schema.names)
            if most is not None and count > most:
                return Rows(names, (), (), count, unit="row")
            _check_size(file.metadata)
            wanted = [name for name in names if columns is None or name in columns]
            classes = _find_classes(schema.metadata or {})
            table = pa.table({name: _write_text(file.read([name])[name]) for name in wanted})
            cells = [_name_classes(row, classes) for row in table.to_pylist()]
    except TableError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        reason = f"it is a Parquet file that is damaged ({' '.join(str(error).split())[:200]})"
        raise TableError(
            reason, needed="an unbroken one is needed", remedy="get it anew"
        ) from error
    return Rows(names, tuple(cells), tuple(range(1, count + 1)), count, unit="row")


def _check_size(metadata: Any) -> None:
    """Refuse a file whose columns unpack to more than memory is likely to hold."""
    groups = range(metadata.num_row_groups)
    size = sum(metadata.row_group(group).total_byte_size for group in groups)
    if size > _LARGEST:
        raise TableError(
            f"unpacked it has {size} bytes, at most {_LARGEST} are read",
            needed="a smaller file is needed",
            remedy="write a part of its rows into another",
        )


def _write_text(column: Any) -> Any:
    """Write dates, times and exact decimals as text, and bytes that are UTF-8."""
    import pyarrow as pa
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        return _write_text(column.cast(kind.value_type))
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        if types.is_fixed_size_binary(kind):
            column = column.cast(pa.binary())
        return column.cast(pa.large_string())
    is_text = types.is_temporal(kind) or types.is_decimal(kind)
    return column.cast(pa.string()) if is_text else column


def _find_classes(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Names of class numbers by column, which `datasets` writes into its files."""
    try:
        written = json.loads(metadata.get(b"huggingface", b"{}"))
        features = written.get("info", {}).get("features", {})
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return {}  # not of `datasets`; numbers stay numbers


def _name_classes(row: Cells, classes: Mapping[str, list[str]]) -> Cells:
    """Write class names for class numbers; -1 stands for no label there."""
    names: dict[str, Any] = {
        column: dict(enumerate(classes[column])).get(row[column])  # type: ignore[call-overload]
        for column in classes
        if isinstance(row.get(column), int)
    }
    return {**row, **names}
