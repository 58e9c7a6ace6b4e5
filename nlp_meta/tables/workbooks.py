"""Workbooks of spreadsheet programs (.xlsx): a sheet as rows, and rows as a sheet.

Cells arrive as a person sees them: 1 and not 1.0, dates as ISO writes them, formulas by the
values that were stored with them.
"""

import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from nlp_meta.errors import MissingPackageError, need_packages
from nlp_meta.tables.rows import Cells, Rows, TableError, pick_cells

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook

_LARGEST = 2**29
"""Bytes of the unpacked sheets; more is a mistake or an attack."""
_HEADER_ROWS = 50
_SHOWN = 5
_LONGEST_CELL, _MOST_ROWS = 32_767, 1_048_576
"""What a spreadsheet program takes."""
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]|_(?=x[0-9A-Fa-f]{4}_)")

_Row = tuple[int, list[object]]
_BROKEN = (zipfile.BadZipFile, zlib.error)


def read_workbook(
    content: bytes,
    *,
    columns: Collection[str] | None,
    known: Collection[str],
    most: int | None,
    sheet: str | None,
) -> Rows:
    """Read a sheet of a workbook.

    Args:
        columns: Those whose cells are wanted; None takes all.
        known: Columns that tell which sheet and which row the header is in.
        sheet: As the user says; None takes the only one that has something, or the columns.

    Raises:
        TableError: Which sheet is meant is in doubt; it is broken or has a formula without
            a value; names the row.
        MissingPackageError: openpyxl is not installed.
    """
    _check_parts(content)
    with _open(content, stored=True) as book:
        name, rows, notes = _choose_sheet(book, known, sheet)
    place, names = _find_header(rows, known)
    if place:
        notes.append(f"the header is row {rows[place][0]}; what stands before it is left out")
    others = [row for row in rows[place + 1 :] if not known or _name_columns(row[1]) != names]
    if left := len(rows) - place - 1 - len(others):
        notes.append(f"rows that repeat the header are left out: {left}")
    wanted = [at for at, column in enumerate(names) if columns is None or column in columns]
    _check_formulas(content, name, others, wanted)
    errors = [number for number, row in others for cell in row if _is_error(cell)]
    if errors:
        notes.append(f"errors of formulas count as empty cells: {len(errors)} (row {errors[0]})")
    kept = others if most is None else others[:most]
    cells: list[Cells] = [
        pick_cells(
            {
                column: None if _is_error(cell) else cell
                for column, cell in zip(names, row, strict=False)
            },
            columns,
        )
        for _, row in kept
    ]
    lines = tuple(number for number, _ in kept)
    return Rows(tuple(names), tuple(cells), lines, len(others), tuple(notes), "row")


def render_workbook(columns: Mapping[str, Sequence[object]]) -> bytes:
    """Write a workbook of one sheet; a text that begins with = stays a text.

    Raises:
        TableError: A text or the table is longer than a spreadsheet program takes.
        MissingPackageError: openpyxl is not installed.
    """
    import_openpyxl()
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.workbook import Workbook

    rows = [tuple(columns), *zip(*columns.values(), strict=True)]
    rows = [
        tuple(
            _escape(value, f"column {name!r} of row {number}") if isinstance(value, str) else value
            for name, value in zip(columns, row, strict=True)
        )
        for number, row in enumerate(rows, start=1)
    ]
    if len(rows) > _MOST_ROWS:
        raise TableError(f"a sheet has at most {_MOST_ROWS} rows, and there are {len(rows)}")
    book = Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")
    for row in rows:
        cells = []
        for value in row:
            cell = WriteOnlyCell(sheet, value=value)
            if isinstance(value, str):
                cell.data_type = "s"  # `=1` is no formula
            cells.append(cell)
        sheet.append(cells)
    out = BytesIO()
    book.save(out)
    return out.getvalue()


def _escape(text: str, place: str) -> str:
    text = _CONTROL.sub(lambda sign: f"_x{ord(sign[0]):04X}_", text)
    if len(text) > _LONGEST_CELL:
        raise TableError(
            f"a cell of a workbook holds at most {_LONGEST_CELL} characters, and {len(text)} are "
            f"in {place}",
            needed="another format is needed",
            remedy="write .csv or .jsonl",
        )
    return text


def import_openpyxl() -> Any:
    """Get the package that reads and writes workbooks.

    Raises:
        MissingPackageError: It is not installed.
    """
    need_packages("read or write a workbook (.xlsx)", "openpyxl", extra="excel")
    import openpyxl

    return openpyxl


@contextmanager
def _open(content: bytes, *, stored: bool) -> Iterator["Workbook"]:
    """Open a workbook, with the stored values of formulas or with the formulas themselves."""
    openpyxl = import_openpyxl()
    try:
        with catch_warnings():
            simplefilter("ignore")  # of parts that hold no cells
            # Only a workbook that is loaded as a whole tells what is merged and hidden.
            plain = not _has_merged(content)
            book = openpyxl.load_workbook(BytesIO(content), read_only=plain, data_only=stored)
            try:
                yield book
            finally:
                book.close()
    except (MissingPackageError, TableError):
        raise
    except Exception as error:  # whatever broken XML makes openpyxl raise
        raise TableError(
            f"it is a workbook that openpyxl does not read ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:100]})",
            needed="an unbroken workbook is needed",
            remedy="open it in a spreadsheet program and save it anew as .xlsx or .csv",
        ) from error


def _check_parts(content: bytes) -> None:
    """Refuse what unpacks without bound, and XML that defines entities."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        size = sum(part.file_size for part in archive.infolist())
        if size > _LARGEST:
            raise TableError(
                f"unpacked it has {size} bytes, at most {_LARGEST} are read",
                needed="a smaller workbook is needed",
                remedy="save the sheet as .csv",
            )
        for part in archive.infolist():
            if part.filename.endswith((".xml", ".rels")):
                try:
                    with archive.open(part) as file:
                        start = file.read(2048).replace(b"\0", b"")
                except (*_BROKEN, OSError, RuntimeError, ValueError, EOFError) as error:
                    raise TableError(f"its part {part.filename!r} is broken ({error})") from error
                if b"<!DOCTYPE" in start or b"<!ENTITY" in start:
                    raise TableError(f"its part {part.filename!r} defines entities of XML")


def _has_merged(content: bytes) -> bool:
    with zipfile.ZipFile(BytesIO(content)) as archive:
        parts = [part for part in archive.infolist() if "worksheets/" in part.filename]
        small = sum(part.file_size for part in parts) < _LARGEST // 16
        marks = re.compile(b'<mergeCell |<row [^>]*hidden="(?:1|true)"')
        return small and any(marks.search(archive.read(part)) for part in parts)


def _choose_sheet(
    book: "Workbook", known: Collection[str], sheet: str | None
) -> tuple[str, list[_Row], list[str]]:
    names = [part.title for part in book.worksheets]
    if not names and book.chartsheets:
        charts = _list([chart.title for chart in book.chartsheets])
        raise TableError(
            f"it has charts only ({charts})",
            needed="a sheet of rows is needed",
            remedy="save the workbook that the charts were made of, or its table as .csv",
        )
    if sheet is not None:
        if sheet not in names:
            raise TableError(
                f"it has no sheet {sheet[:60]!r}",
                needed=f"one of {_list(names)} is needed",
                remedy="name it with `sheet`",
            )
        return sheet, list(_read_rows(book[sheet])), []
    tables = {part.title: rows for part in book.worksheets if (rows := list(_read_rows(part)))}
    if not tables:
        return names[0] if names else "", [], []
    fits = [name for name, rows in tables.items() if known and _has_header(rows, known)]
    visible = [name for name in tables if book[name].sheet_state == "visible"]
    chosen = [name for name in fits if name in visible] or [*visible, *fits] or list(tables)
    if len(chosen) > 1:
        raise TableError(
            f"it has {len(chosen)} sheets that may be meant, {_list(chosen)}",
            needed="one of them is needed",
            remedy="name it with `sheet`",
        )
    name, rows = chosen[0], tables[chosen[0]]
    notes = [f"the sheet is {name!r}, of {_list(names)}"] if len(names) > 1 else []
    if count := _fill_merged(book[name], dict(rows)):
        notes.append(f"merged cells count for each of their rows: {count} are filled in")
    sizes = getattr(book[name], "row_dimensions", {})
    if hidden := [number for number, _ in rows if number in sizes and sizes[number].hidden]:
        notes.append(f"rows that are hidden, as by a filter, are read too: {len(hidden)}")
    return name, rows, notes


def _read_rows(sheet: Any) -> Iterator[_Row]:
    """Rows that have something in a cell, with their numbers."""
    if hasattr(sheet, "reset_dimensions"):
        sheet.reset_dimensions()  # some programs write them wrong
    for number, row in enumerate(sheet.iter_rows(), start=1):
        cells = [_value_of(cell) for cell in row]
        if any(cell is not None and cell != "" for cell in cells):
            yield number, cells


def _fill_merged(sheet: Any, rows: Mapping[int, list[object]]) -> int:
    """Write what stands in a cell over several rows into each of them; count these."""
    count = 0
    for area in getattr(sheet, "merged_cells", ()):
        first, at = rows.get(area.min_row, []), area.min_col - 1
        for number in range(area.min_row + 1, area.max_row + 1) if at < len(first) else ():
            if number in rows:
                rows[number][at] = first[at]
                count += 1
    return count


def _value_of(cell: Any) -> object:
    """A cell as a person sees it."""
    value = cell.value
    if isinstance(value, str):
        if cell.data_type == "e":
            return _Error(value)
        return _ESCAPED.sub(lambda code: chr(int(code[1], 16)), value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    if isinstance(value, int):
        zeros = re.fullmatch("0+", str(cell.number_format))
        return str(value).zfill(len(zeros[0])) if zeros and len(zeros[0]) > 1 else value
    if isinstance(value, datetime):
        midnight = value.time() == time()
        return value.date().isoformat() if midnight else value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, timedelta) else value


class _Error(str):
    """What stands in a cell whose formula cannot be computed."""

    __slots__ = ()


def _is_error(cell: object) -> bool:
    return isinstance(cell, _Error)


def _has_header(rows: Sequence[_Row], known: Collection[str]) -> bool:
    return any(set(known) <= set(_names(row)) for _, row in rows[:_HEADER_ROWS])


def _find_header(rows: Sequence[_Row], known: Collection[str]) -> tuple[int, list[str]]:
    """Place and names of the header: it has the known names, or is as wide as most rows."""
    if not rows:
        return 0, []
    for place, (_, row) in enumerate(rows[:_HEADER_ROWS] if known else ()):
        if set(known) <= set(_names(row)):
            return place, _name_columns(row)
    filled = [sum(name != "" for name in _names(row)) for _, row in rows[:_HEADER_ROWS]]
    usual = max(set(filled), key=filled.count)
    place = next(place for place, count in enumerate(filled) if count >= usual)
    return place, _name_columns(rows[place][1])


def _names(row: Sequence[object]) -> list[str]:
    return ["" if cell is None else str(cell).strip() for cell in row]


def _name_columns(row: Sequence[object]) -> list[str]:
    names = _names(row)
    while names and not names[-1]:
        names.pop()
    return [name or f"column {place}" for place, name in enumerate(names, start=1)]


def _check_formulas(
    content: bytes, sheet: str, rows: Sequence[_Row], wanted: Sequence[int]
) -> None:
    """Stop at a formula that its program stored no value with."""
    empty = {
        (number, at) for number, row in rows for at in wanted if at >= len(row) or row[at] is None
    }
    if not empty:
        return
    with _open(content, stored=False) as book:
        for number, row in enumerate(book[sheet].iter_rows(), start=1):
            for at in wanted:
                if (number, at) in empty and at < len(row) and row[at].data_type == "f":
                    raise TableError(
                        f"row {number} has a formula without a value",
                        needed="values that were stored with formulas are needed",
                        remedy="open the workbook in a spreadsheet program and save it there, or "
                        "save the sheet as .csv",
                    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:_SHOWN]) + (
        ", ..." if names[_SHOWN:] else ""
    )
