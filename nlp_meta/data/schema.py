"""YAML of cards and configs, read into a dataclass with every key and type checked.

The dataclass is the schema: it says which keys there are and what each of them holds. A key
without a default must be there, a key that no field reads is refused, and no value is
converted: 3 is no text and "3" no number. A class checks what types cannot say in its
`__post_init__` and raises `FieldError`.

JSON objects that others wrote are read whole or refused, however deep, large or odd they are.
"""

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from nlp_meta.errors import NlpMetaError

Model = TypeVar("Model")
KeyPath = tuple[str | int, ...]
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


# No card and no config comes near; a few lines of aliases may stand for millions of values.
_DEEPEST, _MOST_VALUES, _LONGEST_NUMBER = 50, 100_000, 400
_SHOWN = Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 80


class YamlError(ValueError):
    """What is wrong with a YAML text, in one line that names the line of the text."""


class _Loader(yaml.SafeLoader):
    """Reads plain values; refuses what would be lost, or grows without bound."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > _DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _fault(f"it is nested more than {_DEEPEST} deep", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        is_text = node.tag == "tag:yaml.org,2002:str"
        if isinstance(node, yaml.ScalarNode) and not is_text and len(node.value) > _LONGEST_NUMBER:
            raise _fault(f"a value of {len(node.value)} characters is no text", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
            if isinstance(error, YamlError):
                raise
            raise _fault(
                f"{_SHOWN.repr(node.value)} is no {_kind(node)}", node.start_mark
            ) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        names: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else []:
            if not isinstance(key, yaml.ScalarNode):
                raise _fault("a key is no text", key.start_mark)
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            name = str(self.construct_object(key, deep=True))
            if name in names:
                raise _fault(f"the key {_SHOWN.repr(name)} is there twice", key.start_mark)
            names.add(name)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """Read plain values from YAML.

    Raises:
        YamlError: It is no YAML, repeats a key, has a value that its tag does not take, or is
            nested or repeated by aliases beyond bounds; names the line.
    """
    try:
        loader = _Loader(text.removeprefix("\ufeff"))
        node = loader.get_single_node()
        if node is None:
            return None
        _count_values(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _fault(error.problem or error.context or "it is no YAML", mark) from None
    except yaml.YAMLError as error:  # a character that YAML does not have
        place = getattr(error, "position", None)
        line = "" if place is None else f"line {text.count(chr(10), 0, place) + 1}: "
        raise YamlError(f"{line}a character is not allowed in YAML") from None


def _fault(reason: str, mark: Any | None) -> YamlError:
    shown = " ".join(reason.split())
    shown = f"{shown[:200]}..." if len(shown) > 200 else shown
    return YamlError(shown if mark is None else f"line {mark.line + 1}: {shown}")


def _kind(node: Any) -> str:
    tag = str(node.tag).rpartition(":")[2]
    return {"int": "whole number", "float": "number", "timestamp": "date"}.get(tag, tag[:40])


def _count_values(node: Any, known: dict[int, int]) -> int:
    """Count the values below a node, those of an alias as often as it stands there."""
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES + 1  # while it is open: an alias within itself
        inner = [] if isinstance(node, yaml.ScalarNode) else node.value
        parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_count_values(part, known) for part in parts)
    if known[id(node)] > _MOST_VALUES:
        raise _fault(
            f"with what its aliases repeat it has more than {_MOST_VALUES:,} values",
            node.start_mark,
        )
    return known[id(node)]


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
        adapter = _adapter(model_class)  # type: ignore[arg-type]  # classes are hashable
        value: Model = adapter.validate_json(text, strict=True, extra="forbid")
        return value
    except ValidationError as refused:
        path, message = _describe_first(model_class, values, refused.errors())
        parts = (*((key,) if key else ()), *path)
        name = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts)[1:]
        raise error(f"cannot use {where}: {f'key `{name}` ' if name else 'it '}{message}") from None


@cache
def _adapter(model_class: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(model_class)


def _name_keys(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _name_keys(item) for key, item in value.items()}
    return [_name_keys(item) for item in value] if isinstance(value, list | tuple) else value


def _describe_first(
    model_class: type, values: object, errors: Sequence[Mapping[str, Any]]
) -> tuple[KeyPath, str]:
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


def _path_in(values: object, loc: KeyPath) -> KeyPath:
    """The parts of an error's place that are there in the values; the others name types."""
    value: Any = _name_keys(values)
    path: KeyPath = ()
    for part in loc:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            continue
        path = (*path, part)
    return path


def _keys_at(model_class: type, path: KeyPath) -> list[str]:
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
    return f"is {_SHOWN.repr(value)}", f"it must be one of {', '.join(choices)}", remedy


def _describe_type(value: object, kinds: Sequence[str]) -> tuple[str, str, str]:
    needed = dict.fromkeys(_NEEDED.get(kind.partition("_")[0], "another value") for kind in kinds)
    remedy = "correct it"
    if isinstance(value, str) and _NUMBER.fullmatch(value) and "a number" in needed:
        remedy = f"YAML takes it for a text; write {float(value)!r} or {_with_point(value)}"
    elif "a text" in needed and isinstance(value, int | float):
        remedy = "write it in quotes"
    return f"is {_SHOWN.repr(value)}", f"{' or '.join(needed)} is needed", remedy


def _with_point(number: str) -> str:
    mantissa, exponent = re.split("[eE]", number)
    point = "" if "." in mantissa else ".0"
    sign = "" if exponent[0] in "+-" else "+"
    return f"{mantissa}{point}e{sign}{exponent}"


MOST_BYTES = 2**24
MOST_DEPTH = 64


def read_object(path: Path, *, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Read the JSON object that a file holds.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds something else; says what, in half a sentence.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    with path.open("rb") as file:
        return parse_object(file.read(most_bytes + 1), most_bytes=most_bytes)


def parse_object(content: bytes, *, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Read a JSON object in UTF-8: each key once, texts that can be written, 64 levels at most.

    Raises:
        ValueError: It is something else; says what, in half a sentence.
    """
    if len(content) > most_bytes:
        raise ValueError(f"it is longer than {most_bytes:,} bytes")
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_join)
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error.msg.lower()} at character {error.pos}") from error
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    _check_values(value)
    return value


def _join(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    joined = dict(pairs)
    if len(joined) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the key {twice[:50]!r} twice")
    return joined


def _check_values(value: object) -> None:
    """Walk level by level: no call is as deep as the value."""
    level: list[object] = [value]
    for _ in range(MOST_DEPTH):
        inside: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inside += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                inside += item
            elif isinstance(item, str) and not item.isascii():
                item.encode("utf-8")  # half of a surrogate pair could not be written or shown
        level = inside
    if level:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels")
