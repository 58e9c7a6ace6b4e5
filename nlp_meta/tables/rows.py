"""Rows of a table, how a user says that it is to be read, and what is wrong with it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

Cells = Mapping[str, object]


class TableError(ValueError):
    """A table that cannot be read.

    Attributes:
        line: Where, from 1; None if that is not known.
        needed: What is needed in its place; empty for a well-formed file.
        remedy: What to change; empty where mending the file is all that can be done.
    """

    def __init__(
        self, reason: object, line: int | None = None, *, needed: str = "", remedy: str = ""
    ) -> None:
        super().__init__(str(reason))
        self.line = line
        self.needed = needed
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Rows:
    """A table as it is in its file.

    Attributes:
        columns: All of the file, in its order.
        cells: Of each row by column; a column that a row lacks is not there.
        lines: Where each row begins, from 1, in units of `unit`.
        count: Rows of the file, of which no more may have been read than were asked for.
        notes: What was taken for granted, a sentence each: `the separator is ';'`.
        unit: `line`, or `row` where a file has none.
        header: Cells of the line of names, as they are written; empty where a file has none.
    """

    columns: tuple[str, ...]
    cells: tuple[Cells, ...]
    lines: tuple[int, ...]
    count: int
    notes: tuple[str, ...] = ()
    unit: str = "line"
    header: tuple[str, ...] = ()


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


def pick_cells(row: Cells, columns: Collection[str] | None) -> Cells:
    """Keep the cells of these columns; None keeps all."""
    return row if columns is None else {name: row[name] for name in columns if name in row}
