"""The gate: what is checked of a request before anything of it is read as JSON."""

import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

from nlp_meta.errors import RequestError

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
    """Wraps an ASGI application: bearer token, size of the body, times and statuses."""

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

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, self._bounded(receive), noting)
        except RequestError as error:
            await _refuse(error, noting)
        finally:
            route = getattr(scope.get("route"), "path", NO_ROUTE)
            self.count(route, status, time.perf_counter() - began)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self._expected is not None and scope["path"] not in OPEN_PATHS:
            given = headers.get(b"authorization", b"")
            # Bytes are compared in a time that does not tell how many of them are right.
            if not hmac.compare_digest(given, self._expected):
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
