"""JSON objects that others wrote: read whole or refused, however deep, large or odd they are."""

import json
from pathlib import Path
from typing import Any

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
