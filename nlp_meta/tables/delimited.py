"""CSV and TSV as people's programs write them: which separator, which quotes, where the header is.

A line that is a row by itself is read as one. Quotes join lines only where they keep to the
form of a table and the lines between them are no rows of their own.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, zip_longest

from nlp_meta.tables.rows import Cells, Rows, TableError, pick_cells

SEPARATORS = {"csv": ",", "tsv": "\t"}
"""Of the endings; `txt` has none."""

_CANDIDATES = (",", ";", "\t", "|")
_NAMES = {"\t": "a tabulator", " ": "a blank"}
_QUOTES = ('""', "''", "“”", "„“", "„”", "«»", "\u2018\u2019")
_AS_TEXT = re.compile(r'\A="(.*)"\Z', re.DOTALL)
"""A text that a spreadsheet is to take for no number: ="007"."""
_RULE = re.compile(r"\s*[+|├┌└╞╔╠╚]?(?=.*[+┼┬┴╪╬╦╩])[-=─═+┼┬┴╪╬╦╩]{5,}[+|┤┐┘╡╗╣╝]?\s*")
_BARS = str.maketrans("│║", "||")
_COUNTED = re.compile(r"\s*(\(\d+ \w+\)|\d+ rows? in set.*|Time: .*)\s*")
"""What programs of databases draw around tables, and write below them."""
_GOES_ON = re.compile(r"[+\u21b5](\||\s*\Z)|\u2026\||(\A|\|)[.\u2026]")
"""Where psql breaks a text: the marks stand beside a bar, where else a blank does."""
_SAMPLE = 1000
"""Lines that are looked at."""
_HEADER_LINES = 50
"""Lines among which the header is looked for."""
_START = 2**16
_FEW = 3
_SHOWN = 40
_MOST = 0.8
"""Share of the lines that a separator gives one width where the ending is right."""


@dataclass(frozen=True)
class Dialect:
    """How cells are written.

    Attributes:
        quotes: The one that opens and the one that closes.
        escapes: A backslash stands before quotes, and before separators, of a text.
    """

    separator: str
    quotes: str = '""'
    escapes: bool = False

    def split(self, line: str) -> tuple[list[str], bool]:
        """The cells of a line, and whether no quote in them is out of place."""
        if self.quotes[0] not in line and not self.escapes:
            return line.split(self.separator), True
        cells, clean = [], True
        for quoted, plain in self._cell.findall(line):
            if not plain:
                cells.append(self._unquote(quoted))
                continue
            bare, text = plain.strip(" "), plain
            if bare.startswith(self.quotes[0]):
                clean = False
                if len(bare) > 1 and bare.endswith(self.quotes[1]):
                    text = self._unquote(bare[1:-1])
            elif self.escapes:
                text = re.sub(rf"\\([{re.escape(self.separator)}\\\"'])", r"\1", plain)
            cells.append(text)
        return cells, clean

    def split_loosely(self, line: str) -> list[str]:
        """The cells of a line where a quote closes a text only before a separator."""
        opening, closing, separator = map(re.escape, (*self.quotes, self.separator))
        cell = rf"(?:\A|{separator})(?:{opening}(.*?){closing}(?={separator}|\Z)|([^{separator}]*))"
        return [self._unquote(quoted) or plain for quoted, plain in re.findall(cell, line)]

    def join(self, lines: Sequence[str], first: int) -> tuple[list[str] | None, int]:
        """Read a row whose texts in quotes may go on over several lines.

        Returns:
            Its cells, None where its quotes do not keep to the form of a table; and the place
            of the line after those that were read.
        """
        cells: list[str] = []
        rest, place = lines[first].rstrip("\r"), first
        while True:
            inside = None
            for cell in self._cell.finditer(rest):
                if cell[2] and cell[2].lstrip(" ").startswith(self.quotes[0]):
                    inside = rest[rest.index(self.quotes[0], cell.start(2)) + 1 :]
                    break
                cells.append(self._unquote(cell[1]) if cell[1] else cell[2] or "")
            if inside is None:
                return cells, place + 1
            parts: list[str] = []
            while (end := self._end.match(inside.rstrip("\r"))) is None:
                parts.append(inside)
                place += 1
                if place == len(lines):
                    return None, place
                inside = lines[place]
            rest = inside[end.end() :].rstrip("\r").lstrip(" ")
            if rest and not rest.startswith(self.separator):
                return None, max(place, first + 1)
            cells.append(self._unquote("\n".join([*parts, end[1]])))
            if not rest:
                return cells, place + 1
            rest = rest[1:]

    @cached_property
    def _cell(self) -> re.Pattern[str]:
        """A cell and what stands before it: a text in quotes, or one as it is."""
        opening, closing, separator = map(re.escape, (*self.quotes, self.separator))
        blanks = "" if self.separator == " " else "[ ]*"
        plain = rf"(?:\\.|[^{separator}\\]|\\\Z)*" if self.escapes else rf"[^{separator}]*"
        quoted = rf"{blanks}{opening}({self._inner}){closing}{blanks}(?={separator}|\Z)"
        return re.compile(rf"(?:\A|{separator})(?:{quoted}|({plain}))", re.DOTALL)

    @cached_property
    def _end(self) -> re.Pattern[str]:
        """The end of a text in quotes that began before."""
        closing = re.escape(self.quotes[1])
        return re.compile(rf"({self._inner}){closing}(?!{closing})", re.DOTALL)

    @property
    def _inner(self) -> str:
        """A text in quotes; quotes of its own are doubled, or escaped."""
        closing = re.escape(self.quotes[1])
        if self.escapes:
            return rf"[^{closing}\\]*(?:(?:\\(?:.|\Z)|{closing}{closing})[^{closing}\\]*)*"
        return rf"[^{closing}]*(?:{closing}{closing}[^{closing}]*)*"

    def _unquote(self, text: str) -> str:
        text = text.replace(self.quotes[1] * 2, self.quotes[1])
        return re.sub(r"\\([\"'\\])", r"\1", text) if self.escapes else text


@dataclass(frozen=True)
class Survey:
    """What a look at the lines of a table has found.

    Attributes:
        lines: Of the file, without line feeds.
        header: Place of the header among the lines.
        columns: Their names.
    """

    lines: Sequence[str]
    dialect: Dialect
    header: int
    columns: Sequence[str]
    notes: Sequence[str]

    def after_header(self, most: int) -> Iterator[str]:
        """Lines of the table that are not blank."""
        lines = islice(self.lines, self.header + 1, self.header + 1 + most)
        return (line.rstrip("\r") for line in lines if line.strip())


def read_delimited(
    text: str,
    form: str,
    *,
    columns: Collection[str] | None,
    known: Collection[str],
    most: int | None,
    separator: str | None,
) -> Rows:
    """Read a text of cells.

    Args:
        form: Its ending: `csv`, `tsv`, or another that says nothing of the separator.
        columns: Those whose cells are wanted; None takes all.
        known: Columns that tell which line the header is.
        separator: As the user says; None looks.

    Raises:
        TableError: Quotes can be read in two ways, or in none; a row is wider than the header.
    """
    written = _unwrap(_join_header(_unbox(split_lines(text))), known)
    survey = _survey(written, form, known=known, separator=separator)
    reader, header = _RowReader(survey), list(survey.columns)
    is_named = bool(known) and set(known) <= set(header)
    cells: list[Cells] = []
    lines, count, number, repeated = [], 0, 0, 0
    for line, row in reader.read():
        if is_named and row == header:
            repeated += 1
        else:
            number += 1
            if any(map(str.strip, row)):
                count = number
            if most is None or number <= most:
                row = [_AS_TEXT.sub(r"\1", cell) for cell in row]
                cells.append(pick_cells(dict(zip(header, row, strict=False)), columns))
                lines.append(line)
    notes = [*survey.notes, *reader.notes()]
    if repeated:
        notes.append(f"rows that repeat the header are left out: {repeated}")
    first = survey.lines[survey.header : survey.header + 1]
    return Rows(
        tuple(header),
        tuple(cells[:count]),
        tuple(lines[:count]),
        count,
        tuple(notes),
        header=tuple(survey.dialect.split(first[0].rstrip("\r"))[0] if first else ()),
    )


def _is_ruler(row: Sequence[str], separator: str) -> bool:
    """Whether a row is the line that Markdown draws below a header: |---|---|."""
    cells = [cell.strip() for cell in row if cell.strip()]
    is_ruled = all(re.fullmatch(":?-{2,}:?", cell) for cell in cells)
    return separator == "|" and bool(cells) and is_ruled


def has_header(text: str, known: Collection[str]) -> bool:
    """Whether the first line of a text has these names of columns."""
    lines = (line.translate(_BARS) for line in split_lines(text[:_START]) if line.strip())
    first = islice((line for line in lines if not _RULE.fullmatch(line)), 1)
    return _find_names(dict(enumerate(first)), _CANDIDATES, known) is not None


def has_tabs(content: bytes) -> bool:
    """Whether a tabulator stands in nearly every line of a text that is not blank."""
    lines = [line for line in content[:_START].split(b"\n") if line.strip()]
    return sum(b"\t" in line for line in lines) > 0.9 * len(lines)


class _RowReader:
    """Reads the rows below a header, and remembers which quotes it took for texts' own."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._lines, self._dialect = survey.lines, survey.dialect
        self._width = len(survey.columns)
        self._stray: list[int] = []
        self._blank: list[int] = []
        self._is_markdown = False
        # No text in quotes that begins before this line ends as it must.
        self._unclosed = 0

    def read(self) -> Iterator[tuple[int, list[str]]]:
        """Give the rows with their lines, from 1."""
        place, separator = self._survey.header + 1, self._dialect.separator
        while place < len(self._lines):
            line, first = self._lines[place].rstrip("\r"), place
            place += 1
            is_cells = line.strip() or (line and self._width == 1) or separator in line
            if not is_cells:
                self._blank.append(first + 1)
                continue
            row, clean = self._dialect.split(line)
            if first == self._survey.header + 1 and _is_ruler(row, separator):
                self._is_markdown = True
                continue
            rows = [row]
            if not clean or len(row) > self._width:
                rows, place = self._resolve(first, row, clean)
            for row in rows:
                yield first + 1, [cell.strip() for cell in row] if self._is_markdown else row

    def notes(self) -> list[str]:
        """What was taken for granted."""
        notes = ["it is a table drawn with bars, as in Markdown"] if self._is_markdown else []
        if self._stray:
            lines = _list_lines(self._stray)
            notes.append(f"a quote that encloses no cell is part of the text ({lines})")
        end = max((place for place, line in enumerate(self._lines) if line), default=0)
        inside = [line for line in self._blank if line <= end]
        if inside and self._width == 1:
            notes.append(f"a line with nothing in it is no row ({_list_lines(inside)})")
        return notes

    def _resolve(self, first: int, row: list[str], clean: bool) -> tuple[list[list[str]], int]:
        """Read a line that is no row by itself, or has quotes of its own."""
        line, width = self._lines[first].rstrip("\r"), self._width
        if not clean and first >= self._unclosed:
            joined, after = self._dialect.join(self._lines, first)
            if joined is None:
                self._unclosed = after
            elif not self._are_rows(first, after) and self._fits(joined):
                return [joined[:width]], after
            elif self._dialect.separator != "\t" and after > first + 1:
                raise self._doubt(first, after)
        for cells in (row, self._dialect.split_loosely(line), self._pieces(line)):
            if not clean and len(cells) == width:
                self._stray.append(first + 1)
                return [cells], first + 1
        if clean and self._fits(row):
            return [row[:width]], first + 1
        pieces = [self._dialect.split(piece) for piece in line.split("\r")]
        if len(pieces) > 1 and all(tidy and len(cells) == width for cells, tidy in pieces):
            return [cells for cells, _ in pieces], first + 1
        if width == 1 and clean and row == self._pieces(line):
            return [[line]], first + 1
        raise self._misfit(first, row, clean)

    def _pieces(self, line: str) -> list[str]:
        return line.split(self._dialect.separator)

    def _fits(self, row: Sequence[str]) -> bool:
        return not any(map(str.strip, row[self._width :]))

    def _are_rows(self, first: int, after: int) -> bool:
        """Whether lines that quotes join may be rows by themselves.

        They are as wide as the table then, without an empty cell, without doubled quotes, and
        no blank follows a separator, as in sentences. Where a column has few values, such as
        labels, theirs are among these. Where no column has, a file that puts quotes around
        other cells as it must is believed to do so here.
        """
        lines = [line.rstrip("\r") for line in self._lines[first:after]]
        if len(lines) == 1 or self._width == 1 or self._dialect.quotes[1] * 2 in "".join(lines):
            return False
        rows = [self._dialect.split(line)[0] for line in lines]
        usual, writes_quotes, writes_blanks = self._habits
        for row in rows:
            if len(row) != self._width or not all(map(str.strip, row)):
                return False
            if not writes_blanks and any(cell[0] == " " for cell in row):
                return False
        if usual:
            return all(row[column].strip() in usual[column] for row in rows for column in usual)
        return not writes_quotes

    @cached_property
    def _habits(self) -> tuple[dict[int, set[str]], bool, bool]:
        """How the rows are written that are in no doubt.

        Returns:
            Values of columns that have few; whether quotes enclose cells; whether blanks
            follow separators.
        """
        rows, writes_quotes, writes_blanks = [], False, False
        for line in self._survey.after_header(_SAMPLE):
            row, clean = self._dialect.split(line)
            if clean and len(row) == self._width:
                rows.append([cell.strip() for cell in row])
                writes_blanks = writes_blanks or any(cell.startswith(" ") for cell in row)
                writes_quotes = writes_quotes or row != self._pieces(line)
        values = {place: set(cells) for place, cells in enumerate(zip(*rows, strict=True))}
        few = {place: cells for place, cells in values.items() if len(cells) <= len(rows) / 3}
        return few, writes_quotes, writes_blanks

    def _doubt(self, first: int, after: int) -> TableError:
        return TableError(
            f"its quote opens a text that ends in line {after}, or is part of the text, as each "
            "of these lines is a row by itself",
            first + 1,
            needed="quotes that can be read in one way are needed",
            remedy="take the quote out; or put the text between two quotes and write its own twice",
        )

    def _misfit(self, first: int, row: Sequence[str], clean: bool) -> TableError:
        opening, closing = self._dialect.quotes[0], self._dialect.quotes[1]
        if not clean:
            return TableError(
                f"a cell begins with {opening} and does not end with {closing} before a separator",
                first + 1,
                needed=f"a text between {opening} and {closing}, its own quotes twice, is needed",
                remedy="correct the line",
            )
        separator = self._dialect.separator
        advice = f"texts that contain {separator!r} are put in double quotes"
        if any(separator in cell for cell in row):
            advice = f"its quotes are read; what {separator!r} stands outside them separates cells"
        return TableError(
            f"it has {len(row)} cells where the header has {self._width} ({advice})",
            first + 1,
            needed="as many cells as names in the header are needed",
            remedy="correct the line or the header, or name the `separator`",
        )


def _list_lines(lines: Sequence[int]) -> str:
    return f"line {', '.join(map(str, lines[:_FEW]))}{', ...' if lines[_FEW:] else ''}"


def split_lines(text: str) -> list[str]:
    """Split a text at its line ends: LF, CRLF, or CR where those are the fewer.

    Signs that only look like line ends, such as U+2028, are in a text. Byte order marks begin
    lines where files were joined.
    """
    if text.count("\r") - text.count("\r\n") > text.count("\n"):
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n\ufeff", "\n").split("\n")


def _unbox(lines: list[str]) -> list[str]:
    """Write a table that a database's program draws with rules as Markdown: | a | b |."""
    rules = [place for place, line in enumerate(lines) if _RULE.fullmatch(line)]
    before = [line for line in lines[: rules[0]] if line.strip()] if rules else lines
    if not rules or len(before) > 2:
        return lines
    rule = rules[0] if (before and "|" in before[-1]) or not rules[1:] else rules[1]
    drawn = [line.translate(_BARS) for line in lines]
    bars = next(line for line in drawn[rule - 1 :: -1] if line.strip()).count("|")
    is_grid = "=" in drawn[rule] and len([place for place in rules if place > rule]) > 1
    for place, line in enumerate(drawn):
        if place in rules or _COUNTED.fullmatch(line):
            drawn[place] = "|--|" if place == rule else ""
        elif (
            _GOES_ON.search(line)
            or (place > rule and line.strip() and line.count("|") < bars)
            or (is_grid and place > rule + 1 and line.strip() and place - 1 not in rules)
        ):
            raise TableError(
                "it is part of a text of several lines",
                place + 1,
                needed="a text in one line is needed",
                remedy="export the table as CSV, in psql with --csv, in MySQL with --batch",
            )
    return drawn


def _join_header(lines: list[str]) -> list[str]:
    """Put a first line whose names go on over several lines into one; the others become blank."""
    first = next((place for place, line in enumerate(lines) if line.strip()), 0)
    last = first + 1
    while last < min(len(lines), first + _HEADER_LINES) and lines[last].count('"') % 2 == 0:
        last += 1
    joined = "\n".join(line.rstrip("\r") for line in lines[first : last + 1])
    for separator in _CANDIDATES if lines[first].count('"') % 2 else ():
        dialect = Dialect(separator)
        if not dialect.split(lines[first])[1] and dialect.split(joined)[1]:
            return [*lines[:first], joined, *[""] * (last - first), *lines[last + 1 :]]
    return lines


def _unwrap(lines: list[str], known: Collection[str]) -> list[str]:
    """Take off the quotes around whole lines, as a spreadsheet of one column writes lines."""
    first = next((line.rstrip("\r") for line in lines if line.strip()), "")
    if (
        not known
        or not re.fullmatch('"[^"].*[^"]"|""".*"""', first)
        or set(known)
        <= {
            _clean_name(name)
            for separator in _CANDIDATES
            for name in Dialect(separator).split(first)[0]
        }
    ):
        return lines
    bare = [Dialect("\0").split(line.rstrip("\r"))[0][0] for line in lines]
    return bare if _find_names({0: bare[lines.index(first)]}, _CANDIDATES, known) else lines


def _survey(
    lines: Sequence[str], form: str, *, known: Collection[str], separator: str | None
) -> Survey:
    """Find separator, header and quotes of a table."""
    stated = re.fullmatch(r"\s*\"?sep=(.)\"?\s*", lines[0])
    first = 1 if stated else 0
    usual = SEPARATORS.get(form)
    sample = {
        place: lines[place].rstrip("\r")
        for place in range(first, min(len(lines), first + _SAMPLE))
        if lines[place].strip()
    }
    if not sample:
        return Survey(lines, Dialect(","), len(lines), (), ())
    given = separator or (stated[1] if stated else _find_odd_separator(sample, known))
    candidates = [given] if given else _order(usual)
    chosen, header = _find_header(sample, candidates, known)
    dialect = _find_quotes(lines, sample, chosen, header)
    notes = []
    if chosen != usual and not separator:
        notes.append(f"the separator is {_NAMES.get(chosen, repr(chosen))}")
    if dialect.quotes != '""':
        notes.append(f"cells stand between {dialect.quotes[0]} and {dialect.quotes[1]}")
    if dialect.escapes:
        notes.append("a backslash before a quote of a text is not part of it")
    if header > min(sample):
        shown = sample[min(sample)].strip()[:_SHOWN]
        notes.append(
            f"the header is line {header + 1}; what stands before it, {shown!r}, is left out"
        )
    columns = _name_columns(sample, dialect, header)
    return Survey(lines, dialect, header, columns, notes)


def _order(usual: str | None) -> list[str]:
    rest = [candidate for candidate in _CANDIDATES if candidate != usual]
    return rest if usual is None else [usual, *rest]


def _find_header(
    sample: Mapping[int, str], candidates: Sequence[str], known: Collection[str]
) -> tuple[str, int]:
    """Separator and line of the header: it has the known names, or the width of most lines."""
    named = _find_names(sample, candidates, known)
    if named is not None:
        return named
    best = (0.0, 1, candidates[0])
    for separator in candidates:
        widths = Counter(len(Dialect(separator).split(line)[0]) for line in sample.values())
        width, count = max(widths.items(), key=lambda item: (item[0] > 1, item[1]))
        share = count / len(sample) if width > 1 else 0.0
        if separator == candidates[0] and share >= _MOST:
            share = 1.0
        if share > best[0]:
            best = (share, width, separator)
    _, width, separator = best
    for place, line in sample.items():
        is_comment = line.startswith("#") and place != max(sample)
        if not is_comment and len(Dialect(separator).split(line)[0]) == width:
            return separator, place
    return separator, min(sample)


def _find_odd_separator(sample: Mapping[int, str], known: Collection[str]) -> str | None:
    """What stands between the names of the first line, where it is no usual separator."""
    place = min(sample)
    pieces = re.split(r"([^\w\s\"'.-]+)", sample[place].strip("\ufeff"))
    names, between = {_clean_name(name) for name in pieces[::2]}, set(pieces[1::2])
    if len(between) != 1 or not known or not set(known) <= names:
        return None
    odd = between.pop()
    if len(odd) > 1:
        raise TableError(
            f"its cells are separated by {odd!r}",
            place + 1,
            needed="a separator of one character is needed",
            remedy="replace it by a tabulator in an editor, or export the table anew",
        )
    return None if odd in _CANDIDATES else odd


def _find_names(
    sample: Mapping[int, str], candidates: Sequence[str], known: Collection[str]
) -> tuple[str, int] | None:
    is_quoted = next(iter(sample.values()), "").startswith('"')  # as R writes a table
    for separator in (*candidates, *" " * is_quoted) if known else ():
        for place in islice(sample, _HEADER_LINES):
            names = [_clean_name(cell) for cell in Dialect(separator).split(sample[place])[0]]
            # One word alone stands in a sentence too.
            is_sure = (
                len(known) > 1 or place == min(sample) or not re.search(r"[^\w.-]", "".join(names))
            )
            if is_sure and set(known) <= set(names):
                return separator, place
    return None


def _clean_name(name: str) -> str:
    """Name a column as a person reads it: without blanks, marks and quotes around it."""
    bare = name.strip().strip("\ufeff\u200b").removeprefix("ï»¿").lstrip("#").strip()
    for quotes in _QUOTES:
        if len(bare) > 1 and bare.startswith(quotes[0]) and bare.endswith(quotes[1]):
            return bare[1:-1].strip()
    return bare


def _find_quotes(
    lines: Sequence[str], sample: Mapping[int, str], separator: str, header: int
) -> Dialect:
    """How quotes are written: the way in which most lines are rows by themselves."""
    plain = Dialect(separator)
    width = len(plain.split(sample[header])[0])
    rows = [line for place, line in sample.items() if place > header]
    escaped = islice((line for line in lines if '\\"' in line or f"\\{separator}" in line), _SAMPLE)
    escaping = Dialect(separator, escapes=True)
    if _gain(escaping, plain, [line.rstrip("\r") for line in escaped], width) > 0:
        return escaping
    for quotes in _QUOTES[1:]:
        if any(quotes[0] in line for line in rows):
            other = Dialect(separator, quotes)
            if _gain(other, plain, rows, width) > 0:
                return other
    around = (quotes for quotes in _QUOTES[1:] if _encloses(plain, rows, width, quotes))
    return Dialect(separator, next(around, '""'))


def _gain(other: Dialect, plain: Dialect, rows: Sequence[str], width: int) -> int:
    """Rows that quotes of another kind make as wide as the header, less those that they spoil."""
    gain = 0
    for row in rows:
        cells, clean = other.split(row)
        pieces = row.split(other.separator)
        matters = cells != pieces if other.escapes else len(cells) < len(pieces)
        fits = clean and not any(map(str.strip, cells[width:]))
        cells, clean = plain.split(row)
        fits_now = clean and not any(map(str.strip, cells[width:]))
        gain += (fits and matters and not fits_now) - (fits_now and not fits)
    return gain


def _encloses(plain: Dialect, rows: Sequence[str], width: int, quotes: str) -> bool:
    """Whether every cell of a column stands between such quotes."""
    columns = zip_longest(*(plain.split(row)[0][:width] for row in rows), fillvalue="")
    return len(rows) > 1 and any(
        all(
            len(cell.strip()) > 1 and cell.strip()[0] + cell.strip()[-1] == quotes
            for cell in column
        )
        for column in columns
    )


def _name_columns(sample: Mapping[int, str], dialect: Dialect, header: int) -> list[str]:
    """Names of the columns; those without a name are counted, or left out where they are empty."""
    names = [_clean_name(cell) for cell in Dialect(dialect.separator).split(sample[header])[0]]
    rows = [dialect.split(line)[0] for place, line in sample.items() if place > header]
    numbers = {row[0] for row in rows if len(row) == len(names) + 1 and row[0].isdecimal()}
    if len(numbers) == len(rows) > 1:  # names of rows, as R writes them
        names = ["", *names]
    while (
        names and not names[-1] and not any("".join(row[len(names) - 1 :]).strip() for row in rows)
    ):
        names.pop()
    return [name or f"column {place}" for place, name in enumerate(names, start=1)]
