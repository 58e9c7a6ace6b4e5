"""Values that a YAML file gave, read into a dataclass with every key and type checked.

The dataclass is the schema: it says which keys there are and what each of them holds. A key
without a default must be there, a key that no field reads is refused, and no value is
converted: 3 is no text and "3" no number. A class checks what types cannot say in its
`__post_init__` and raises `FieldError`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from nlp_meta.errors import NlpMetaError

Model = TypeVar("Model")
Path = tuple[str | int, ...]
"""Keys and places in lists, from the outermost value to the one that is meant."""

_UNKNOWN, _MISSING, _CHOICE = "unexpected_keyword_argument", "missing", "literal_error"
_ABSENT = ("is missing", "that key is needed", "add the key")
_NEEDED = {
    "bool": "true or false",
    "dataclass": "a mapping",
    "dict": "a mapping",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "none": "null",
    "string": "a text",
    "too": "at least one entry",
    "tuple": "a list",
}
# Numbers that YAML 1.1 takes for texts: the point or the sign of the exponent is missing.
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


class FieldError(ValueError):
    """What is wrong with one key of a mapping, raised by the `__post_init__` of its class.

    Attributes:
        key: The key below the mapping; empty for the mapping itself.
    """

    def __init__(self, key: str, state: str, needed: str, remedy: str) -> None:
        """Say of `key` what it is or holds, what was needed and what to change."""
        super().__init__(f"{state}; {needed}; {remedy}")
        self.key = key


def check_keys(
    key: str, values: Mapping[str, object], *, needed: Sequence[str], optional: Sequence[str] = ()
) -> None:
    """Refuse a mapping with unknown or missing keys, where another key decides which they are.

    Args:
        key: Of the mapping, below the class that checks it.

    Raises:
        FieldError: Names the first such key.
    """
    for name in values:
        if name not in (*needed, *optional):
            raise FieldError(
                f"{key}.{name}".lstrip("."), *_describe_unknown(name, (*needed, *optional))
            )
    for name in needed:
        if values.get(name) is None:
            raise FieldError(f"{key}.{name}".lstrip("."), *_ABSENT)


def read_strict(
    model_class: type[Model],
    values: object,
    *,
    where: str,
    error: type[NlpMetaError],
    key: str = "",
) -> Model:
    """Build a dataclass from values of YAML or JSON, or raise `error` about the first fault.

    Keys of mappings that YAML read as numbers or booleans become texts.

    Args:
        where: What the values are, for the error: `card 'nusax.md'`.
        key: Full key of `values` in their file; empty for the whole of it.

    Raises:
        NlpMetaError: As `error`; names the full key, its value and what to write instead.
    """
    text = json.dumps(_name_keys(values), default=str)
    try:
        # JSON, since a list may then stand for a tuple and a mapping for a dataclass.
        return TypeAdapter(model_class).validate_json(text, strict=True, extra="forbid")
    except ValidationError as refused:
        path, message = _describe_first(model_class, values, refused.errors())
        name = _full_key((*((key,) if key else ()), *path))
        raise error(f"cannot use {where}: {f'key `{name}` ' if name else 'it '}{message}") from None


def _name_keys(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _name_keys(item) for key, item in value.items()}
    return [_name_keys(item) for item in value] if isinstance(value, list | tuple) else value


def _describe_first(
    model_class: type, values: object, errors: Sequence[Mapping[str, Any]]
) -> tuple[Path, str]:
    """Path and message of the fault that a writer mends first: a misspelled key before all."""
    first = next((item for item in errors if item["type"] == _UNKNOWN), errors[0])
    path = _path_in(values, first["loc"])
    for item in errors:
        # A union gives one error for each of its types; the one that got furthest was meant.
        inner = _path_in(values, item["loc"])
        if len(inner) > len(path) and inner[: len(path)] == path:
            first, path = item, inner
    fault = first.get("ctx", {}).get("error")
    if isinstance(fault, FieldError):
        return (*path, *((fault.key,) if fault.key else ())), str(fault)
    if first["type"] == _UNKNOWN:
        parts = _describe_unknown(str(path[-1]), _keys_at(model_class, path[:-1]))
    elif first["type"] == _MISSING:
        path, parts = (*path, first["loc"][-1]), _ABSENT
    elif first["type"] == _CHOICE:
        parts = _describe_choice(first["input"], first["ctx"]["expected"])
    else:
        kinds = [item["type"] for item in errors if _path_in(values, item["loc"]) == path]
        parts = _describe_type(first["input"], kinds)
    return path, "; ".join(parts)


def _path_in(values: object, loc: Path) -> Path:
    """The parts of an error's place that are there in the values; the others name types."""
    value: Any = _name_keys(values)
    path: Path = ()
    for part in loc:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            continue
        path = (*path, part)
    return path


def _keys_at(model_class: type, path: Path) -> list[str]:
    """Keys of the innermost dataclass on the way to a value."""
    for part in path:
        hints: dict[str, Any] = get_type_hints(model_class)
        model_class = _find_dataclass(hints.get(str(part))) or model_class
    return [field.name for field in fields(model_class)]


def _find_dataclass(hint: Any) -> type | None:
    if isinstance(hint, type) and is_dataclass(hint):
        return hint
    return next(filter(None, map(_find_dataclass, get_args(hint))), None)


def _describe_unknown(key: str, known: Sequence[str]) -> tuple[str, str, str]:
    nearest = get_close_matches(key, known, n=1)
    remedy = f"write `{nearest[0]}` for it" if nearest else "take it out"
    return "is unknown", f"the keys here are {', '.join(sorted(known))}", remedy


def _describe_choice(value: object, expected: str) -> tuple[str, str, str]:
    choices = re.findall(r"'([^']*)'", expected)
    nearest = get_close_matches(str(value), choices, n=1)
    remedy = f"write '{nearest[0]}'" if nearest else "write one of these"
    return f"is {value!r}", f"it must be one of {', '.join(choices)}", remedy


def _describe_type(value: object, kinds: Sequence[str]) -> tuple[str, str, str]:
    needed = dict.fromkeys(_NEEDED.get(kind.partition("_")[0], "another value") for kind in kinds)
    remedy = "correct it"
    if isinstance(value, str) and _NUMBER.fullmatch(value) and "a number" in needed:
        remedy = f"YAML takes it for a text; write {float(value)!r} or {_with_point(value)}"
    elif "a text" in needed and isinstance(value, int | float):
        remedy = "write it in quotes"
    return f"is {value!r}", f"{' or '.join(needed)} is needed", remedy


def _with_point(number: str) -> str:
    mantissa, exponent = re.split("[eE]", number)
    point = "" if "." in mantissa else ".0"
    sign = "" if exponent[0] in "+-" else "+"
    return f"{mantissa}{point}e{sign}{exponent}"


def _full_key(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]
