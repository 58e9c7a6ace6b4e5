"""Limits of a server: how large requests may be, how domains are named, who may ask.

The gate checks a request before any of it is read as JSON.
"""

import hmac
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from nlp_meta.errors import RequestError, SettingsError
from nlp_meta.models.texts import check_texts

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
# JSON may write one character as two escapes of six bytes each.
_BYTES_PER_CHARACTER = 12
_BYTES_PER_TEXT = 256
WAITING_BATCHES = 64
"""Full batches that may wait; more requests are turned away."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server.

    Attributes:
        max_batch: Texts after which a batch is not filled up further.
        max_wait: Seconds that the first text of a batch waits for others.
        max_texts: Most texts of one request.
        max_characters: Most characters of one request, over all its texts and labels.
    """

    max_batch: int = 64
    max_wait: float = 0.005
    max_texts: int = 512
    max_characters: int = 200_000

    @property
    def max_bytes(self) -> int:
        """Most bytes of a request's body: no request within the other limits has more."""
        return (
            _BYTES_PER_CHARACTER * self.max_characters + 2 * _BYTES_PER_TEXT * self.max_texts + 4096
        )

    @property
    def max_waiting(self) -> int:
        """Most texts that wait for a batch at any time."""
        return max(WAITING_BATCHES * self.max_batch, self.max_texts)


def check_request(texts: Sequence[str], limits: Limits, *, labels: Sequence[str] = ()) -> None:
    """Refuse a request that has no text, a broken or empty one, or too many.

    Raises:
        RequestError: Too many texts or characters, or none.
        DataError: A text is empty.
    """
    if not texts:
        raise RequestError(
            "cannot answer 0 texts: at least one is needed; add some to `texts`", status=422
        )
    if len(texts) > limits.max_texts:
        raise RequestError(
            f"cannot take {len(texts)} texts in one request: at most {limits.max_texts} are "
            "allowed; send fewer at a time, or start the server with a higher `max_texts`",
            status=413,
        )
    characters = sum(map(len, texts)) + sum(map(len, labels))
    if characters > limits.max_characters:
        raise RequestError(
            f"cannot take {characters} characters in one request: at most "
            f"{limits.max_characters} are allowed; send fewer at a time, or start the server with "
            "a higher `max_characters`",
            status=413,
        )
    check_texts(texts)
    for place, text in enumerate([*texts, *labels], start=1):
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            raise RequestError(
                f"cannot read string {place}: it holds half a character (a lone surrogate) and "
                "whole ones are needed; take it out",
                status=422,
            )


def check_name(name: str) -> None:
    """Refuse a name of a domain that could not stand in an address or be a folder.

    Raises:
        SettingsError: It is not made of letters, digits, `_`, `-` and `.`.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"cannot call a domain {name!r}: 1 to 100 letters, digits, '_', '-' and '.' are "
            "needed, and no '.' or '-' in front; choose another name"
        )


def name_domains(models: Sequence[str]) -> dict[str, str]:
    """Name domains by the last part of their folder or Hub id, or as in `name=folder`.

    Raises:
        SettingsError: Two have the same name, or one cannot be a name.
    """
    named: dict[str, str] = {}
    for model in models:
        name, equals, path = model.partition("=")
        if not equals:
            name, path = Path(model.rstrip("/")).resolve().name, model
        check_name(name)
        if name in named:
            raise SettingsError(
                f"cannot serve '{named[name]}' and '{path}' both as '{name}': one model for each "
                "name is needed; name one of them otherwise, as in `other=" + path + "`"
            )
        named[name] = path
    return named


def read_token(name: str | None, environment: Mapping[str, str]) -> str | None:
    """Read the bearer token from the environment; None where none is asked for.

    Raises:
        SettingsError: The variable is not set, is empty or has blanks in it.
    """
    if name is None:
        return None
    token = environment.get(name, "")
    if not token or token.split() != [token] or not token.isascii():
        raise SettingsError(
            f"cannot take the token from the variable '{name}': it is not set, empty, or has "
            "blanks or accents in it, and a word is needed; set it, or name another one with "
            "`token_env`"
        )
    return token


Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Count = Callable[[str, int, float], None]

OPEN_PATHS = ("/healthz",)
"""Answered without a token: whoever watches over the process has none."""
NO_ROUTE = "none"


class Gate:
    """Wrap an ASGI application: check the bearer token and the size of bodies, count answers."""

    def __init__(
        self, app: Application, *, token: str | None, max_bytes: int, count: Count
    ) -> None:
        """Take requests for an application.

        Args:
            token: None lets everybody in.
            count: Called with route, status and seconds of each answer.
        """
        self.app, self.max_bytes, self.count = app, max_bytes, count
        self._expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, self._bounded(receive), send_noted)
        except RequestError as error:
            await _refuse(error, send_noted)
        finally:
            route = getattr(scope.get("route"), "path", NO_ROUTE)
            self.count(route, status, time.perf_counter() - began)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self._expected is not None and scope["path"] not in OPEN_PATHS:
            authorization = headers.get(b"authorization", b"")
            # Bytes are compared in a time that does not tell how many of them are right.
            if not hmac.compare_digest(authorization, self._expected):
                raise RequestError(
                    "cannot let this request in: a header `Authorization: Bearer` with the "
                    "server's token is needed; add it, or correct it",
                    status=401,
                )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.max_bytes:
            raise self._too_large()

    def _bounded(self, receive: Receive) -> Receive:
        """Count what comes in: a body may not say how long it is."""
        read = 0

        async def receive_bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.max_bytes:
                # FastAPI lets no other exception through while it reads a body.
                raise HTTPException(413, str(self._too_large()))
            return message

        return receive_bounded

    def _too_large(self) -> RequestError:
        return RequestError(
            f"cannot read a request of more than {self.max_bytes} bytes: no request within the "
            "limits has more; send fewer texts at a time",
            status=413,
        )


async def _refuse(error: RequestError, send: Send) -> None:
    body = json.dumps({"error": str(error)}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what is left of the body is not read
    ]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
