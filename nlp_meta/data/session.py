"""The session of the Hub's client, whose answers all come to an end.

The client itself waits for some answers without a limit, and takes as much as comes.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator

import httpx2
from huggingface_hub import get_session

PATIENCE = 60.0
"""Seconds without a byte, after which a connection is given up."""
_LONGEST = 300.0
"""Seconds that the headers of an answer may take, and a body which is no file of a stated size."""
_LARGEST = 2**26
"""Bytes of such an answer."""
_LEAST_RATE = 1024
"""Bytes a second that a file comes with, on average."""
_MOST_STALLS, _PROGRESS = 10, 2**20
"""How often a file may stall before so many more bytes have come."""


def bound_session() -> None:
    """Let no answer to the Hub's client go on without end, from now on in this process."""
    session = get_session()
    hooks = session.event_hooks
    if not any(isinstance(hook, _Bounds) for hook in hooks["response"]):
        bounds = _Bounds()
        session.event_hooks = {
            "request": [*hooks["request"], bounds.prepare],
            "response": [bounds, *hooks["response"]],
        }


class _Bounds:
    """Gives each request a time to wait, and each answer an end."""

    def __init__(self) -> None:
        self.stalls: Counter[str] = Counter()

    def prepare(self, request: httpx2.Request) -> None:
        # What is packed may be any size unpacked.
        request.headers["Accept-Encoding"] = "identity"
        given = request.extensions.get("timeout") or {}
        waits = {name: given.get(name) or PATIENCE for name in ("connect", "read", "write")}
        headers = {"read": _HeaderTime(waits["read"])}
        request.extensions = {**request.extensions, "timeout": {**given, **waits, **headers}}

    def __call__(self, response: httpx2.Response) -> None:
        times = response.request.extensions["timeout"]
        times["read"] = getattr(times["read"], "patience", times["read"])
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise OSError("it sends an answer that is packed, unasked")
        if isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _Bounded(response, response.stream, self.stalls)


class _HeaderTime:
    """Seconds to wait for the next bytes of headers, as a socket takes them: fewer each time.

    A server that sends a byte now and then would keep any fixed time from running out.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._until: float | None = None

    def __index__(self) -> int:
        now = time.monotonic()
        self._until = now + _LONGEST if self._until is None else self._until
        if now > self._until:
            raise RuntimeError(f"its headers do not end after {_LONGEST:.0f} seconds")
        return math.ceil(min(self.patience, self._until - now)) or 1


class _Bounded(httpx2.SyncByteStream):
    """The body of an answer."""

    def __init__(
        self, response: httpx2.Response, stream: httpx2.SyncByteStream, stalls: Counter[str]
    ) -> None:
        self._url = str(response.request.url.copy_with(query=None))
        self._stream, self._stalls = stream, stalls
        is_file = "Content-Length" in response.headers and "/api/" not in self._url
        self._longest = math.inf if is_file else _LONGEST
        self._largest = math.inf if is_file else _LARGEST

    def __iter__(self) -> Iterator[bytes]:
        began, count = time.monotonic(), 0
        try:
            for chunk in self._stream:
                count += len(chunk)
                self._check(count, time.monotonic() - began)
                yield chunk
        except httpx2.TimeoutException as error:
            self._stalls[self._url] = 0 if count > _PROGRESS else self._stalls[self._url] + 1
            if self._stalls[self._url] > _MOST_STALLS:
                raise OSError("its answer stalls again and again") from error
            raise

    def _check(self, count: int, seconds: float) -> None:
        if count > self._largest:
            raise OSError(f"its answer does not end after {self._largest} bytes")
        if seconds > self._longest:
            raise OSError(f"its answer does not end after {self._longest:.0f} seconds")
        if seconds > PATIENCE and count < _LEAST_RATE * seconds:
            raise OSError(f"its answer comes with less than {_LEAST_RATE} bytes a second")

    def close(self) -> None:
        self._stream.close()
