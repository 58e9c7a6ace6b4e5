"""Tables as values, and how Markdown writes them; `report.html.j2` writes the same as HTML."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

NONE = "-"


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of a table.

    Attributes:
        detail: Smaller, behind the text: an interval, a p.
        mark: `best`, `tie`, `ahead`, `behind` or nothing; also told in signs, not by color alone.
    """

    text: str
    detail: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row: what it is about, and an entry for each further column."""

    head: Entry
    entries: tuple[Entry, ...]
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its caption.

    Attributes:
        columns: Headings; the first stands above the heads of the rows.
        words: Whether entries are sentences and not numbers.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    words: bool = False


def to_markdown_table(table: Table) -> str:
    """Write a table in Markdown: the best in bold, ties and significance in signs."""
    lines = [f"**{_plain(table.caption)}**", "", _line(table.columns)]
    lines.append(_line(["---"] * len(table.columns)))
    for row in table.rows:
        lines.append(_line([_mark(entry) for entry in (row.head, *row.entries)]))
    return "\n".join(lines)


def say_count(value: float | None) -> str:
    """Write a count with its thousands apart."""
    return NONE if value is None else f"{round(value):,}"


def say_bytes(value: float | None) -> str:
    """Write a size in the unit that suits it."""
    if value is None:
        return NONE
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def say_quantity(value: float | None) -> str:
    """Write a time with two significant digits."""
    if value is None:
        return NONE
    if value == 0 or value >= 10:
        return f"{value:,.0f}"
    if value < 0.001:
        return "<0.001"
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}"


def _line(fields: Sequence[str]) -> str:
    return "| " + " | ".join(fields) + " |"


def _mark(entry: Entry) -> str:
    signs = {"tie": " ≈", "ahead": " ▲", "behind": " ▼"}
    text = f"**{_plain(entry.text)}**" if entry.mark == "best" else _plain(entry.text)
    return text + _plain(entry.detail) + signs.get(entry.mark, "")


def _plain(text: str) -> str:
    """Keep a text from ending a field, a line or the Markdown around it."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")
