"""The door of Python: whatever holds texts, labels or options is taken, or refused by its place.

Texts and labels come as lists, arrays, columns of tables, tensors or generators; nothing here
imports the libraries that these are of. Labels follow the rule of a table's cells.
"""

import math
import operator
import os
import reprlib
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from numbers import Real
from typing import Any, TypeVar

from nlp_meta.data.cells import SKIP, is_empty, label_text, list_places, select_rows
from nlp_meta.errors import DataError, LabelError, NlpMetaError, SettingsError

Texts = Iterable[str]
Labels = Iterable[str | float]
"""Text, numbers or truth values."""

Frame = TypeVar("Frame")
"""A table in memory; its library is not imported here."""

_LISTED = 10
_LARGEST = 2**63
_LONGEST_NAME, _LONGEST_PATH = 255, 4095
"""Bytes of a name in a folder and of a path."""
_TIMES = ("datetime64", "timedelta64")


def as_texts(values: Texts, argument: str) -> list[str]:
    """Take texts from whatever can be walked through once: a list, an array, a column.

    Args:
        argument: Its name, such as `texts`; errors call each text by it.

    Raises:
        DataError: It holds no texts in an order; a text is missing, empty, no text or broken.
    """
    items = _walk(values, argument, DataError)
    noun = argument.removesuffix("s")
    wrong = _find_wrong(items, _wrong_text)
    if wrong:
        (place, *others), reason = wrong
        raise DataError(
            f"cannot read {noun} {place} of {len(items)}: {reason}{_list_others(others, noun)}"
        )
    return [str.__str__(text) for text in items]


def as_labels(values: Labels, argument: str) -> list[str]:
    """Take labels from whatever can be walked through once, by the rule of a table's cells.

    A column of `datasets` that knows the names of its classes has these.

    Args:
        argument: Its name, such as `labels`.

    Raises:
        LabelError: It holds no labels in an order; a label is missing, or of another kind than
            text, number or truth value.
    """
    names = _find_classes(values)
    items = [
        names.get(item, item) if isinstance(item, int) else item
        for item in _walk(values, argument, LabelError)
    ]
    wrong = _find_wrong(items, _wrong_label)
    if wrong:
        (place, *others), reason = wrong
        noun = "the label of example" if argument == "labels" else f"`{argument}`, label"
        raise LabelError(f"cannot use {noun} {place}: {reason}{_list_others(others, 'example')}")
    return [text for text in map(label_text, items) if text is not None]


def read_column(frame: object, column: str) -> list[str]:
    """Take the texts of a column of a table; an empty one where there is none.

    Raises:
        DataError: It is no table, has no such column, or a cell holds something else.
    """
    names = _column_names(frame)
    if names.count(column) != 1:
        raise DataError(
            f"cannot read the column {column!r}: the columns are "
            f"{', '.join(map(repr, names))[:_LONGEST_NAME]} and the name of one is needed; change "
            "`column`"
        )
    table: Any = frame
    items = _walk(table[column], "column", DataError)
    wrong = _find_wrong(items, lambda value: "" if _is_nothing(value) else _wrong_text(value))
    if wrong:
        (place, *others), reason = wrong
        raise DataError(
            f"cannot read row {place} of column {column!r}: {reason}{_list_others(others, 'row')}"
        )
    return ["" if _is_nothing(value) else str(value) for value in items]


def add_columns(frame: Frame, columns: Mapping[str, Sequence[object]]) -> Frame:
    """Give a table with columns added, of the same kind; `predicted_` where a name is taken."""
    names = _column_names(frame)
    added: dict[str, Any] = {}
    for name, values in columns.items():
        while name in names or name in added:
            name = f"predicted_{name}"
        added[name] = list(values)
    table: Any = frame
    if isinstance(frame, Mapping):
        table = {**table, **added}
    elif hasattr(table, "assign"):  # pandas
        table = table.assign(**added)
    elif hasattr(table, "hstack"):  # polars
        table = table.hstack(type(table)(added))
    elif hasattr(table, "append_column"):  # pyarrow
        for name, values in added.items():
            table = table.append_column(name, [values])
    else:  # datasets
        for name, values in added.items():
            table = table.add_column(name, values)
    answered: Frame = table
    return answered


def _column_names(frame: object) -> list[str]:
    """Names of the columns of a table; refuses what is none, or is not read yet."""
    table: Any = frame
    if isinstance(frame, Mapping) and not hasattr(frame, "column_names"):
        return list(frame)
    if hasattr(frame, "__len__"):
        if any(hasattr(frame, way) for way in ("assign", "hstack")):
            return list(table.columns)
        if any(hasattr(frame, way) for way in ("append_column", "add_column")):
            return list(table.column_names)
    raise DataError(
        f"cannot take the {type(frame).__name__} as `frame`: a table of pandas, polars, pyarrow or "
        "datasets, or a dictionary of columns, is needed; change `frame`"
    )


def leave_out_empty(
    texts: Texts, labels: Labels
) -> tuple[list[object], list[object], tuple[str, ...]]:
    """Leave out examples without a text or a label.

    Returns:
        The texts and labels that stay, and sentences on what is left out.

    Raises:
        DataError, LabelError: They hold nothing in an order, or every example lacks something.
    """
    items, names = _walk(texts, "texts", DataError), _walk(labels, "labels", LabelError)
    if len(items) != len(names):
        return items, names, ()
    empty = {
        argument: {place for place, value in enumerate(values) if _is_nothing(value)}
        for argument, values in (("text", items), ("label", names))
    }
    selection = select_rows(
        empty,
        count=len(items),
        empty=SKIP,
        subject="the examples",
        name=lambda places: list_places("example", [place + 1 for place in places]),
        remedies={name: f"change `{name}s`" for name in empty},
    )
    used = selection.places
    return [items[place] for place in used], [names[place] for place in used], selection.notes


def as_lines(values: Iterable[int], argument: str) -> list[int]:
    """Take the numbers of lines from whatever can be walked through once.

    Raises:
        DataError, SettingsError: It holds none, or one is no whole number.
    """
    return [check_whole(value, argument) for value in _walk(values, argument, DataError)]


def check_choice(value: object, choices: Collection[str], argument: str) -> str:
    """Refuse what is none of some words.

    Raises:
        SettingsError: Lists the words.
    """
    if not isinstance(value, str) or value not in choices:
        raise _refuse(value, argument, f"one of {', '.join(choices)}")
    return value


def check_whole(value: object, argument: str, *, least: int = 0, most: int = sys.maxsize) -> int:
    """Refuse what is no whole number within bounds; those of arrays and tensors will do.

    Raises:
        SettingsError: Tells the bounds.
    """
    needed = f"a whole number from {least} to {most}"
    if most == sys.maxsize:
        needed = f"a whole number, {least} or more,"
    plain = _plain(value)
    try:
        number = operator.index(plain)  # type: ignore[arg-type]
    except TypeError:
        raise _refuse(value, argument, needed) from None
    if isinstance(plain, bool) or not least <= number <= most:
        raise _refuse(value, argument, needed)
    return number


def check_number(
    value: object, argument: str, *, above: float = -math.inf, share: bool = False
) -> float:
    """Refuse what is no finite number above a bound; those of arrays and tensors will do.

    Args:
        share: It must lie from 0 to 1.

    Raises:
        SettingsError: Tells the bound.
    """
    bound = f" above {above:g}" if above > -math.inf else " from 0 to 1" if share else ""
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, Real):
        raise _refuse(value, argument, f"a number{bound}")
    try:
        number = float(plain)
    except OverflowError:
        raise _refuse(value, argument, f"a number{bound}") from None
    if not math.isfinite(number) or number <= above or (share and not 0 <= number <= 1):
        raise _refuse(value, argument, f"a number{bound}")
    return number


def check_word(value: object, argument: str, *, needed: str) -> str:
    """Refuse what is no text with something in it.

    Args:
        needed: Such as `a language code`.

    Raises:
        SettingsError: Tells what is needed.
    """
    if not isinstance(value, str) or not value.strip() or not _is_whole(value):
        raise _refuse(value, argument, needed)
    return str.__str__(value)


def check_place(value: str | os.PathLike[str], argument: str, *, needed: str) -> str:
    """Refuse what can be no path and no name on the Hub; `~` is the user's own folder.

    Raises:
        SettingsError: Tells what is needed.
    """
    path = value.__fspath__() if isinstance(value, os.PathLike) else value
    word = check_word(path, argument, needed=needed)
    parts = map(len, map(os.fsencode, word.split("/")))
    if "\0" in word or max(parts) > _LONGEST_NAME or len(os.fsencode(word)) > _LONGEST_PATH:
        raise _refuse(value, argument, needed)
    return os.path.expanduser(word)  # noqa: PTH111 - of Path, it fails for an unknown user


def check_switch(value: object, argument: str) -> bool:
    """Refuse what is neither True nor False: the word "no" would count as true.

    Raises:
        SettingsError: It is another value.
    """
    plain = _plain(value)
    if not isinstance(plain, bool):
        raise _refuse(value, argument, "True or False")
    return plain


def check_callback(value: Callable[..., object] | None, argument: str) -> None:
    """Refuse what can be called by nobody.

    Raises:
        SettingsError: It is neither a function nor None.
    """
    if value is not None and not callable(value):
        raise _refuse(value, argument, "a function, or None,")


def _walk(values: object, argument: str, error: type[NlpMetaError]) -> list[object]:
    """The values of a column, whatever it is, as Python's own."""
    kind = type(values).__name__
    refused = f"cannot take the {kind} {_show(values)} as `{argument}`:"
    if isinstance(values, str | bytes | bytearray | memoryview):
        raise error(f"{refused} a list is needed; put it in brackets: `{argument}`=[...]")
    tabular = any(hasattr(type(values), name) for name in ("columns", "column_names"))
    if tabular or isinstance(values, Mapping):
        raise error(
            f"cannot take a {kind} as `{argument}`: it may have several columns and one is needed; "
            f"name the column, as in `{argument}`=data['column']"
        )
    if isinstance(values, set | frozenset):
        raise error(
            f"cannot take a {kind} as `{argument}`: it has no order and one is needed; give a list"
        )
    shape = getattr(values, "shape", None)
    if isinstance(shape, tuple) and len(shape) != 1:
        raise error(
            f"cannot take a {kind} of shape {tuple(shape)} as `{argument}`: one dimension is "
            f"needed; give one column of it, such as `{argument}`=array[:, 0]"
            + (
                f", or the places of ones, `{argument}`=array.argmax(1)"
                if argument == "labels"
                else ""
            )
        )
    try:
        items = iter(values)  # type: ignore[call-overload]
    except TypeError:
        raise error(f"{refused} a list is needed; change `{argument}`") from None
    return [_plain(value) for value in items]


def _find_classes(values: object) -> dict[object, object]:
    """Names of class numbers that a column of `datasets` has; -1 stands for no label there."""
    features = getattr(getattr(values, "source", None), "features", None)
    if not isinstance(features, Mapping):
        return {}
    names = getattr(features.get(getattr(values, "column_name", None)), "names", None)
    return {} if names is None else {-1: None, **dict(enumerate(names))}


def _plain(value: Any) -> object:
    """A value of an array, a tensor, an Arrow column or an enumeration as Python's own."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, Decimal):  # as databases give numbers
        return float(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    # A time in nanoseconds would become a number.
    if getattr(value, "shape", ()) == () and type(value).__name__ not in _TIMES:
        for name in ("as_py", "tolist"):
            if callable(getattr(value, name, None)):
                return getattr(value, name)()
    return value


def _find_wrong(
    items: Sequence[object], describe: Callable[[object], str]
) -> tuple[list[int], str] | None:
    """Places, from 1, of all values that have the first one's fault; and that fault."""
    reasons = [describe(item) for item in items]
    first = next(filter(None, reasons), "")
    places = [place for place, reason in enumerate(reasons, start=1) if reason == first]
    return (places, first) if first else None


def _list_others(places: Sequence[int], noun: str) -> str:
    if not places:
        return ""
    more = f" and {len(places) - _LISTED} more" if len(places) > _LISTED else ""
    listed = ", ".join(map(str, places[:_LISTED]))
    return f"; the same goes for {noun}{'s' * (len(places) > 1)} {listed}{more}"


def _is_hole(value: object) -> bool:
    """None and what libraries have in its place; not-a-number is no number and equals nothing."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, Real) and value != value


def _is_nothing(value: object) -> bool:
    """Whether there is no value, or nothing to see in a text."""
    return _is_hole(value) or (isinstance(value, str) and is_empty(value))


def _wrong_text(value: object) -> str:
    """What is wrong with a text; empty where nothing is."""
    if _is_hole(value):
        return f"it is missing ({value}) and every text needs at least one character; leave it out"
    if isinstance(value, bytes | bytearray):
        return f"it is the bytes {_show(value)} and text is needed; decode it"
    if not isinstance(value, str):
        shown = f"{type(value).__name__} {_show(value)}"
        return f"it is the {shown} and text is needed; write it as text, or leave it out"
    if is_empty(value):
        return "it is empty and every text needs at least one character; leave it out"
    if not _is_whole(value):
        return (
            f"it has half of a character in {_show(value)} and whole ones are needed; read "
            "it with the encoding that it was written in"
        )
    return ""


def _wrong_label(value: Any) -> str:
    """What is wrong with a label; empty where nothing is."""
    if _is_hole(value) or (isinstance(value, str) and label_text(value) is None):
        return "it is empty, a label for each example is needed; fill it in or remove the example"
    if isinstance(value, str) and _is_whole(value):
        return ""
    number: Any = value if isinstance(value, Real) else math.inf
    if abs(number) < _LARGEST:
        return ""
    return (
        f"it is the {type(value).__name__} {_show(value)} and text, a number or a truth "
        "value is needed; write it as one of these"
    )


def _is_whole(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which no encoding can write."""
    return text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text)


def _show(value: object) -> str:
    """A value as it is written in code, no longer than a message bears."""
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return f"{'-' * (value < 0)}2**{value.bit_length() - 1}"
    return reprlib.repr(value)


def _refuse(value: object, argument: str, needed: str) -> SettingsError:
    shown = _show(value)
    if not isinstance(value, str | int | float | None):
        shown = f"the {type(value).__name__} {shown}"
    if isinstance(value, str) and not _is_whole(value):
        needed = f"{needed.rstrip(',')}, in UTF-8,"
    return SettingsError(
        f"cannot take {shown} as `{argument}`: {needed} is needed; change `{argument}`"
    )
