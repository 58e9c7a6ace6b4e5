"""JSON that holds a table: objects in an array or in lines, under a key, or by columns.

Values are read one by one, whatever white space stands between them, by the reader of the
standard library: strings stay strings, whatever they look like.
"""

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import Any, NamedTuple

from nlp_meta.tables.rows import Cells, Rows, TableError, pick_cells

# White space, a byte order mark where files were joined, and the separator of RFC 7464.
_BETWEEN = re.compile(r"[\s\ufeff\x1e]*")
_DEEPEST = 100
"""Levels of lists and objects in a cell; a table has few."""
_DIGITS = 4000
"""Longer numbers stay as they are written."""
_NESTED = 3
"""Keys on the way to the rows."""
_SHOWN = 5

_NEEDED = 'rows such as {"text": "...", "label": "..."} are needed'


class _Item(NamedTuple):
    """A value of the top level, or of an array there.

    Attributes:
        array: Number of the array; 0 outside of one.
    """

    line: int
    array: int
    value: Any


def read_json(
    text: str, *, columns: Collection[str] | None, known: Collection[str], most: int | None
) -> Rows:
    """Read a table from JSON or JSON lines.

    Args:
        columns: Those whose cells are wanted; None takes all.
        known: Columns that tell which of several lists the table is.

    Raises:
        TableError: It is not JSON, or of no shape that is known; names the line.
    """
    names: dict[str, None] = {}
    cells: list[Cells] = []
    lines: list[int] = []
    notes: list[str] = []
    count, escapes = 0, "\\u" in text
    for line, row in _find_rows(_read_items(text), known, notes):
        if not isinstance(row, dict):
            raise TableError(
                f"it is not a JSON object but {_kind(row)}",
                line,
                needed=_NEEDED,
                remedy="write each row as an object",
            )
        _check_values(row, line, escapes=escapes)
        names |= dict.fromkeys(row)
        count += 1
        if most is None or count <= most:
            cells.append(pick_cells(row, columns))
            lines.append(line)
    if notes or len(set(lines)) < len(lines):  # several rows in a line: it is no place
        numbers = tuple(range(1, len(cells) + 1))
        return Rows(tuple(names), tuple(cells), numbers, count, tuple(notes), "row")
    return Rows(tuple(names), tuple(cells), tuple(lines), count, (), "line")


def _find_rows(
    items: Iterator[_Item], known: Collection[str], notes: list[str]
) -> Iterator[tuple[int, object]]:
    """Rows with their lines, or with their numbers where a note tells where they are."""
    first = next(items, None)
    if first is None:
        return
    second = next(items, None)
    every = chain((first,) if second is None else (first, second), items)
    if isinstance(first.value, dict) and second is None and not first.array:
        yield from enumerate(_unpack(first.value, known, notes), start=1)
    elif first.array and not isinstance(first.value, dict):
        groups = [[item.value for item in group] for _, group in groupby(every, lambda i: i.array)]
        rows = groups[0] if len(groups) == 1 else groups
        yield from enumerate(_name_lists(rows, known, notes), start=1)
    else:
        yield from ((item.line, item.value) for item in every)


def _unpack(value: dict[str, Any], known: Collection[str], notes: list[str]) -> list[object]:
    """The rows of an object that stands alone: it may be a table, and else is the only row."""
    if known and value.keys() >= set(known):
        kinds = {type(value[name]) for name in known}
        if kinds == {list} or kinds == {dict}:
            notes.append("the table is given by columns")
            return _turn(value)
        return [value]
    if isinstance(value.get("columns"), list) and _is_list_of(value.get("data"), list):
        notes.append("the rows are the list under 'data', their names that under 'columns'")
        return _name_lists([value["columns"], *value["data"]], known, [])
    lists = dict(_find_lists(value))
    if found := _choose(lists, known):
        notes.append(f"the rows are the list under {found!r}")
        rows = lists[found]
        if isinstance(rows[0], list):
            return _name_lists(rows, known, [])
        wrapped = all(isinstance(row.get("row"), dict) and "row_idx" in row for row in rows)
        return _name_classes([row["row"] for row in rows], value) if wrapped else rows
    values = list(value.values())
    if _is_list_of(values, dict) and len(values) > 1 and set(known) <= values[0].keys():
        notes.append("the rows are the values of an object")
        return values
    if _are_columns(values):
        notes.append("the table is given by columns")
        return _turn(value)
    if _is_list_of(values, list) and not any(isinstance(v, dict | list) for v in chain(*values)):
        notes.append("the table is given by columns")
        return _turn(value)
    return [value]


def _are_columns(values: list[Any]) -> bool:
    """Whether objects have the same keys, as columns of pandas, and files of languages, have."""
    if len(values) < 2 or not _is_list_of(values, dict) or not all(values):
        return False
    shared = set(values[0]).intersection(*values)
    cells = chain(*(column.values() for column in values))
    is_flat = not any(isinstance(cell, dict | list) for cell in cells)
    return is_flat and 2 * len(shared) > max(map(len, values))


def _name_classes(rows: list[Any], described: Mapping[str, Any]) -> list[object]:
    """Class names for class numbers, as the viewer of `datasets` describes its columns."""
    features = described.get("features")
    names: dict[str, dict[Any, Any]] = {}
    for feature in features if isinstance(features, list) else ():
        kind = feature.get("type") if isinstance(feature, dict) else None
        if isinstance(kind, dict) and isinstance(kind.get("names"), list):
            names[str(feature.get("name"))] = dict(enumerate(kind["names"]))
    return [
        {
            column: names[column].get(cell) if column in names and _is_whole(cell) else cell
            for column, cell in row.items()
        }
        for row in rows
    ]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _find_lists(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Lists of objects, or of lists, with the keys that lead to them."""
    for key, inner in value.items():
        place = f"{path}.{key}" if path else key
        if _is_list_of(inner, dict) or _is_list_of(inner, list):
            yield place, inner
        elif isinstance(inner, dict) and place.count(".") < _NESTED - 1:
            yield from _find_lists(inner, place)


def _choose(lists: Mapping[str, list[Any]], known: Collection[str]) -> str | None:
    def fit(place: str) -> tuple[int, bool]:
        rows = lists[place]
        row = rows[0].get("row", rows[0]) if isinstance(rows[0], dict) else rows[0]
        names = {name for name in row if isinstance(name, str)}
        return len(set(known) & names), place == "intents"  # of a chatbot

    best = max(map(fit, lists), default=None)
    fits = [place for place in lists if fit(place) == best]
    if len(fits) > 1 and {"images", "annotations"} <= {*fits}:
        raise TableError(
            "it is an export of COCO, which labels pictures",
            needed="texts and their labels are needed",
            remedy="write each text, such as a caption, and its label as a row of a .csv file",
        )
    if len(fits) > 1:
        shown = ", ".join(map(repr, fits[:_SHOWN])) + (", ..." if fits[_SHOWN:] else "")
        raise TableError(
            f"it has {len(fits)} lists that may be the rows, under {shown}",
            needed="one list of rows is needed",
            remedy="write the one that is meant into a file of its own",
        )
    return fits[0] if fits else None


def _turn(table: Mapping[str, Any]) -> list[object]:
    """Rows of a table that is given by columns: lists, or objects by the rows' numbers."""
    lists = {name: cells for name, cells in table.items() if isinstance(cells, list)}
    lengths = {name: len(cells) for name, cells in lists.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name!r} has {n}" for name, n in list(lengths.items())[:_SHOWN])
        raise TableError(
            f"it is given by columns, and they differ in length: {shown}",
            needed="as many cells in each column are needed",
            remedy="write an object for each row",
        )
    if lists:
        return [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
    objects = {name: cells for name, cells in table.items() if isinstance(cells, dict)}
    numbers = dict.fromkeys(chain(*objects.values()))
    return [
        {name: cells[number] for name, cells in objects.items() if number in cells}
        for number in numbers
    ]


def _name_lists(rows: list[Any], known: Collection[str], notes: list[str]) -> list[object]:
    """Rows of lists, of which the first is the header; or texts, where one column is wanted."""
    if not all(isinstance(row, list) for row in rows):
        texts = all(isinstance(row, str) for row in rows)
        if not texts or len(known) != 1:
            odd = next(row for row in rows if not isinstance(row, list))
            raise TableError(
                f"it is not a JSON object but a list that has {_kind(odd)}", 1, needed=_NEEDED
            )
        notes.append(f"the list of texts is column {next(iter(known))!r}")
        return [{next(iter(known)): row} for row in rows]
    if all(len(row) == 2 and isinstance(row[1], dict) for row in rows):
        notes.append("the rows are texts beside their categories, as spaCy writes them")
        return [{"text": text, **categories} for text, categories in rows]
    header, *others = rows
    if not set(known or ("text", "label")) & {name for name in header if isinstance(name, str)}:
        return [{str(place): cell for place, cell in enumerate(row)} for row in rows]
    if not all(isinstance(name, str) for name in header):
        raise TableError("its header has other than texts", 1, needed=_NEEDED)
    notes.append("the rows are lists, the first of them the header")
    for number, row in enumerate(others, start=2):
        if len(row) > len(header):
            raise TableError(
                f"list {number} has {len(row)} cells where the header has {len(header)}",
                needed="as many cells as names in the header are needed",
            )
    return [dict(zip(header, row, strict=False)) for row in others]


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, kind) for v in value)


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _check_values(row: Mapping[str, Any], line: int, *, escapes: bool) -> None:
    """Refuse what cannot be handed on: half of a surrogate pair, cells without a bottom."""
    level: Sequence[Any] = [value for value in row.values() if type(value) in (dict, list)]
    for _ in range(_DEEPEST) if level else ():
        inner = chain.from_iterable(v.values() if isinstance(v, dict) else v for v in level)
        level = [value for value in inner if type(value) in (dict, list)]
    if level:
        raise TableError(f"a cell is nested deeper than {_DEEPEST} levels", line)
    if escapes:
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise TableError("a text has half of a surrogate pair", line) from error


def _read_items(text: str) -> Iterator[_Item]:
    """The values of a text and the items of its arrays, one after the other."""
    decoder = json.JSONDecoder(
        object_pairs_hook=_make_object,
        parse_int=_read_whole,
        parse_float=_read_float,
        parse_constant=lambda name: math.nan if name == "NaN" else name,
    )
    place, line, counted, array, inside = _skip(text, 0), 1, 0, 0, False
    while place < len(text):
        line += text.count("\n", counted, place)
        counted, sign = place, text[place]
        if sign == ("]" if inside else "["):
            inside, array = not inside, array + (not inside)
            place = _skip(text, place + 1)
            continue
        value, place = _decode(decoder, text, place, line)
        yield _Item(line, array if inside else 0, value)
        place = _skip(text, place)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif inside and text[place : place + 1] != "]":
            raise TableError("it is not JSON (a comma or ']' is missing)", _line_at(text, place))
    if inside:
        raise TableError("it is not JSON (']' is missing at its end)", _line_at(text, len(text)))


def _skip(text: str, place: int) -> int:
    return _BETWEEN.match(text, place).end()  # type: ignore[union-attr]


def _decode(decoder: json.JSONDecoder, text: str, place: int, line: int) -> tuple[Any, int]:
    try:
        return decoder.raw_decode(text, place)
    except json.JSONDecodeError as error:
        remedy = ""
        if error.pos < len(text) and text[error.pos] == "'":
            remedy = "write it with a JSON library: texts stand in double quotes"
        elif text[: error.pos].rstrip()[-1:] == "," and text[error.pos : error.pos + 1] in "]}":
            remedy = "take out the comma before the bracket"
        elif error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            remedy = "get the file anew, as its end is missing"
        at = _line_at(text, error.pos)
        raise TableError(f"it is not JSON ({error.msg})", at, remedy=remedy) from error
    except RecursionError as error:
        raise TableError("it is not JSON that is read (nested too deeply)", line) from error
    except _TwiceError as error:
        raise TableError(
            f"its key {error.args[0][:60]!r} is there twice",
            line,
            needed="one value for each key is needed",
        ) from error


class _TwiceError(Exception):
    """An object has a key twice."""


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        raise _TwiceError(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return made


def _read_whole(digits: str) -> int | str:
    return int(digits) if len(digits) < _DIGITS else digits


def _read_float(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


def _line_at(text: str, place: int) -> int:
    """The line of a place, from 1; of the last sign where nothing follows it."""
    return text.count("\n", 0, min(place, len(text.rstrip()))) + 1
