"""The gate: who may ask, how much, and for how long; every request that it takes is answered.

It reads the body of a request before anything else sees it. A request counts as accepted once
its body has come in whole: from then on it gets its answer, or a 503 when the server stops.
"""

import asyncio
import hmac
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from nlp_meta.errors import RequestError
from nlp_meta.serving.bodies import PROBLEM, write_problem
from nlp_meta.serving.limits import Limits, is_loopback

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Count = Callable[[str, int, float], None]

OPEN_PATHS = ("/", "/docs", "/healthz")
"""Answered without a token: whoever watches over the process has none."""
NO_ROUTE, GONE = "none", 499
"""Of requests that no route took, and of those whose client did not wait for the answer."""
SAFE_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
TOO_MANY = (
    "cannot answer: too many requests are under way and one that ends is needed; try again in a "
    "second"
)
LINGER = 2.0
"""Seconds in which what is left of a refused body is read, so that its sender sees the refusal."""
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


class Requests:
    """The requests under way, which a stop of the server ends in time."""

    def __init__(self) -> None:
        self._clocks: dict[asyncio.Timeout, bool] = {}
        self._answer_until: float | None = None

    @property
    def stopping(self) -> bool:
        """No more requests are taken."""
        return self._answer_until is not None

    @property
    def answered(self) -> int:
        """How many are being answered."""
        return sum(not reading for reading in self._clocks.values())

    def stop(self, *, within: float) -> None:
        """Turn away what is still being read, and end in some seconds what is being answered."""
        now = asyncio.get_running_loop().time()
        self._answer_until = now + within
        for clock, reading in self._clocks.items():
            if not clock.expired():
                clock.reschedule(now if reading else self._answer_until)

    @asynccontextmanager
    async def reading(self, seconds: float) -> AsyncIterator[None]:
        """Within it a body is read.

        Raises:
            RequestError: It takes longer, or the server stops.
        """
        clock = asyncio.timeout(0 if self.stopping else seconds)
        try:
            async with clock:
                self._clocks[clock] = True
                yield
        except TimeoutError as error:
            if self.stopping:
                raise _stops() from error
            raise RequestError(
                f"cannot wait for the rest of this request: it has not come in {seconds:g} seconds "
                "and whole requests are needed; send it at once",
                status=408,
            ) from error
        finally:
            self._clocks.pop(clock, None)

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Within it a request is answered.

        Raises:
            RequestError: The server stops before.
        """
        clock = asyncio.timeout_at(self._answer_until)
        try:
            async with clock:
                self._clocks[clock] = False
                yield
        except TimeoutError as error:
            if not clock.expired():
                raise
            raise _stops() from error
        finally:
            self._clocks.pop(clock, None)


@dataclass(slots=True)
class _Body:
    """What has come in of a request's body, and whether more is to come."""

    content: bytearray = field(default_factory=bytearray)
    goes_on: bool = True


class Gate:
    """Wrap an ASGI application: check who asks, read the body, count answers, end in time."""

    def __init__(
        self,
        app: Application,
        *,
        requests: Requests,
        limits: Limits,
        token: str | None,
        count: Count,
    ) -> None:
        """Take requests for an application.

        Args:
            token: None lets everybody in who asks by a name of this machine's loopback.
            count: Called with route, status and seconds of each answer.
        """
        self.app, self.requests, self.limits, self.count = app, requests, limits, count
        self._expected = None if token is None else f"Bearer {token}".encode()
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, body = time.perf_counter(), GONE, _Body()

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SAFE_HEADERS]
            await send(message)

        error: RequestError | None = None
        try:
            self._check(scope)
            async with self.requests.reading(self.limits.body_seconds):
                is_there = await self._read(receive, body)
            if is_there:
                self._check_room(scope)
                async with self.requests.answering():
                    await self._answer(scope, bytes(body.content), receive, send_noted)
        except RequestError as refusal:
            error = refusal
        except Exception:
            logger.exception("a request failed")
            error = _unexpected()
        finally:
            self._bytes -= len(body.content)
        if error and status == GONE:
            linger = 0.1 if self.requests.stopping else LINGER
            rest = receive if body.goes_on else None
            await _refuse(error, send_noted, rest=rest, linger=linger)
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        self.count(route, status, time.perf_counter() - began)

    def _check(self, scope: Scope) -> None:
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        if self._expected is None:
            check_host(scope["headers"])
        elif scope["path"] not in OPEN_PATHS and not hmac.compare_digest(
            # Bytes are compared in a time that does not tell how many of them are right.
            headers.get(b"authorization", b""),
            self._expected,
        ):
            raise RequestError(
                "cannot let this request in: a header `Authorization: Bearer` with the "
                "server's token is needed; add it, or correct it",
                status=401,
            )
        check_origin(headers)
        length = headers.get(b"content-length", b"0")
        if len(length) > 18 or (length.isdigit() and int(length) > self.limits.max_bytes):
            raise self._too_large()

    def _check_room(self, scope: Scope) -> None:
        if scope["path"] in OPEN_PATHS:  # whoever asks whether the server lives is told so
            return
        if self.requests.answered >= self.limits.max_connections:
            raise RequestError(TOO_MANY, status=503)

    async def _read(self, receive: Receive, body: "_Body") -> bool:
        """Read a body that may not say how long it is; false where the client has gone."""
        while body.goes_on:
            message = await receive()
            piece, body.goes_on = message.get("body", b""), message.get("more_body", False)
            if message["type"] == "http.disconnect":
                return False
            body.content += piece
            self._bytes += len(piece)
            if len(body.content) > self.limits.max_bytes:
                raise self._too_large()
            if self._bytes > self.limits.max_bytes_in_all:
                raise RequestError(
                    "cannot read this request: those under way fill the memory for requests and "
                    "some room is needed; try again in a second",
                    status=503,
                )
        return True

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Answer for as long as the client waits."""
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])
        answered = False

        async def replay() -> Message:
            return next(messages, {"type": "http.disconnect"})

        async def send_watched(message: Message) -> None:
            nonlocal answered
            answered = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        answering = asyncio.ensure_future(self.app(scope, replay, send_watched))
        gone = asyncio.ensure_future(receive())
        try:
            await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
            if answered or answering.done():
                await answering
        finally:
            gone.cancel()
            answering.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)

    def _too_large(self) -> RequestError:
        return RequestError(
            f"cannot read a request of more than {self.limits.max_bytes} bytes: no request within "
            "the limits has more; send fewer texts at a time",
            status=413,
        )


def check_host(headers: list[tuple[bytes, bytes]]) -> None:
    """Let in what was asked of this machine by a name of its loopback.

    A page of a stranger may have its own name point here, and its browser would let it read the
    answers: it asks by that name.

    Raises:
        RequestError: The header `host` is another one.
    """
    for name, value in headers:
        match = _HOST.fullmatch(value.decode("latin-1").lower()) if name == b"host" else None
        if name == b"host" and not (match and is_loopback(match[1])):
            raise RequestError(
                "cannot answer for the host that was asked for: localhost, 127.0.0.1 or [::1] is "
                "needed where no token is asked for; ask by one of these, or start the server with "
                "a token",
                status=421,
            )


def check_origin(headers: Mapping[bytes, bytes]) -> None:
    """Refuse what a browser sends for a page of another server.

    Raises:
        RequestError: The header `origin` is of another host than the one asked for.
    """
    origin = headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2] != headers.get(b"host", b""):
        raise RequestError(
            "cannot answer a page of another origin: one of this server's own is needed; ask from "
            "a program, or from a page of this server",
            status=403,
        )


async def _refuse(error: RequestError, send: Send, *, rest: Receive | None, linger: float) -> None:
    """Answer with an error, and close.

    Args:
        rest: Gives what has not been read of the request.
        linger: Seconds in which that is read.
    """
    body = write_problem(str(error), error.status)
    headers = [
        (b"content-type", PROBLEM.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    # A connection that is closed upon unread bytes takes the refusal with it.
    try:
        async with asyncio.timeout(linger):
            while rest and (await rest()).get("more_body", False):
                pass
    except TimeoutError:
        logger.debug("a client goes on sending what was refused")
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _stops() -> RequestError:
    return RequestError(
        "cannot answer: the server stops and one that runs is needed; try again in a moment",
        status=503,
    )


def _unexpected() -> RequestError:
    return RequestError(
        "cannot answer: something unexpected went wrong and the server's log says what; report it "
        "with that log",
        status=500,
    )
