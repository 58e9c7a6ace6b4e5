"""Bodies: strict JSON in, the fields of each request, and problems out, in the caller's words."""

import json
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, FailFast, Field

from nlp_meta.data.cells import STOP
from nlp_meta.errors import RequestError
from nlp_meta.serving.limits import shorten

PROBLEM = "application/problem+json"
MOST_STEPS = 100_000
"""Of one adaptation: other jobs wait for its end."""
_MOST_KEYS = 1000
_MOST_SEED = 2**32 - 1
_SURROGATE = re.compile("[\ud800-\udfff]")
_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}
_NEEDS = {
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "an object",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "at most {le}",
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# One error is told: a long list of wrong items must not cost a long list of errors.
_Strings = Annotated[list[str], FailFast()]


class PredictBody(_Body):
    domain: str
    texts: _Strings
    empty: str = STOP


class LoadBody(_Body):
    model: str
    revision: str | None = None


class AdaptBody(_Body):
    domain: str
    texts: _Strings
    labels: _Strings
    label_map: dict[str, str] | None = None
    drop_labels: _Strings = []
    empty: str = STOP
    steps: int | None = Field(default=None, ge=1, le=MOST_STEPS)
    learning_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    companion: str = "auto"
    seed: int = Field(default=0, ge=0, le=_MOST_SEED)
    replace: bool = False
    save: bool = False


class JsonRoute(APIRoute):
    """A route whose body, if it takes one, is strict JSON of a declared type."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()
        if self.body_field is None:
            return answer

        async def answer_json(request: Request) -> Response:
            check_content_type(request.headers)
            read = _ReadRequest(request.scope, request.receive)
            read.content = read_json(await read.body())
            return await answer(read)

        return answer_json


class _ReadRequest(Request):
    """A request whose body has been read by `read_json`."""

    content: object = None

    async def json(self) -> object:
        return self.content


def check_content_type(headers: Mapping[str, str]) -> None:
    """Refuse a body that is not sent as JSON in UTF-8, or is compressed.

    Raises:
        RequestError: Says how to send it.
    """
    content_type = headers.get("content-type", "")
    kind, _, parameters = content_type.lower().partition(";")
    kind, charset = kind.strip(), parameters.partition("charset=")[2].strip(' "')
    is_json = kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )
    if not is_json or charset not in ("", "utf-8", "utf8"):
        sent = f"as '{shorten(content_type, 100)}'" if content_type else "without a content type"
        raise RequestError(
            f"cannot read a body that is sent {sent}: JSON in UTF-8 is needed; send it as "
            "application/json, by the header `content-type: application/json`",
            status=415,
        )
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise RequestError(
            f"cannot read a body with the content encoding '{shorten(encoding, 100)}': plain JSON "
            "is needed; send it uncompressed, without the header `content-encoding`",
            status=415,
        )


def read_json(body: bytes) -> object:
    """Read JSON as its standard has it: each key once, no NaN, no half characters.

    Raises:
        RequestError: It is none; says where it ends to be.
    """
    if not body.strip():
        raise _unreadable("it has no body", "send one")
    try:
        value = json.loads(
            body.decode("utf-8-sig"), object_pairs_hook=_read_pairs, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        reason = (
            f"byte {body[error.start]:#04x} at place {error.start + 1} of its body is not UTF-8"
        )
        raise _unreadable(reason, "send it as UTF-8") from error
    except json.JSONDecodeError as error:
        reason = f"its body is not JSON from character {error.pos + 1} on ({error.msg.lower()})"
        raise _unreadable(reason, "correct it") from error
    except RecursionError as error:
        raise _unreadable("its body is nested too deeply", "send it flat") from error
    except ValueError as error:  # of a number
        raise _unreadable("a number in its body has too many digits", "correct it") from error
    # Only an escape can write half a character.
    if b"\\u" in body and _has_surrogate(value):
        reason = "a string in its body holds half a character (a lone surrogate)"
        raise _unreadable(reason, "take it out")
    return value


def describe_invalid(errors: Sequence[Mapping[str, Any]]) -> str:
    """Say in one sentence what is wrong with a body of strict JSON.

    Args:
        errors: Those of pydantic; the first one is told.
    """
    error = errors[0]
    place = _write_place(error["loc"][1:])
    if error["type"] == "missing":
        return f"cannot read the request: it has no field `{place}` and one is needed; add it"
    if error["type"] == "extra_forbidden":
        return (
            f"cannot read the request: it has a field `{place}` and only the fields of its route "
            "are needed; correct its name, or leave it out"
        )
    where = f"its field `{place}`" if place else "its body"
    need = _NEEDS.get(error["type"], "another value").format(**error.get("ctx", {}))
    value = error.get("input")
    kind = _KINDS.get(type(value), "of a wrong type")
    shown = f" {value}" if kind == "a number" and len(str(value)) < 30 else ""
    correct = f"correct `{place}`" if place else "correct it"
    return f"cannot read the request: {where} is {kind}{shown} and {need} is needed; {correct}"


def write_problem(message: str, status: int) -> bytes:
    """Write the body of a refusal: a JSON object whose `detail` is one sentence.

    Source:
        Nottingham, Wilde and Dalal 2023, RFC 9457.
    """
    title = HTTPStatus(status).phrase
    detail = shorten(" ".join(message.split()), 2000)
    problem = {"title": title, "status": status, "detail": detail}
    return json.dumps(problem).encode()


def _write_place(parts: Sequence[str | int]) -> str:
    """Write the path of a value as JavaScript would: `texts[1]`."""
    place = ""
    for part in parts:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    return shorten(place.removeprefix("."), 100)


def _read_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > _MOST_KEYS:
        raise _unreadable(f"an object in its body has {len(pairs)} keys", "send fewer")
    read: dict[str, object] = {}
    for key, value in pairs:
        if key in read:
            reason = f"its key '{shorten(key, 100)}' stands twice in one object"
            raise _unreadable(reason, "leave one out")
        read[key] = value
    return read


def _refuse_constant(name: str) -> object:
    raise _unreadable(f"{name} in its body is not JSON", "give a finite number, or leave it out")


def _unreadable(reason: str, change: str) -> RequestError:
    message = f"cannot read the request: {reason} and a JSON object is needed; {change}"
    return RequestError(message, status=400)


def _has_surrogate(value: object) -> bool:
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            if _SURROGATE.search(item):
                return True
        elif isinstance(item, list):
            rest += item
        elif isinstance(item, dict):
            rest += item.keys()
            rest += item.values()
    return False
