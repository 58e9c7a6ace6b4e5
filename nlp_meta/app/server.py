"""The app's process: who may enter, the process that learns, and the limits of both.

Whoever has the address with its token may enter, as a notebook server does it; the browser keeps
the token in a cookie that no other page can read or send.
"""

import hashlib
import hmac
import importlib.util
import os
import subprocess  # nosec B404  the one command is our own
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from fastapi import FastAPI

from nlp_meta.app.pages import add_pages
from nlp_meta.errors import MissingPackageError
from nlp_meta.files.projects import Project
from nlp_meta.serving.gate import Application, Gate, Message, Receive, Requests, Scope, Send
from nlp_meta.serving.limits import Limits

_LARGEST = 8_000_000
"""Characters of a table that is dropped; its bytes may be twelve times as many."""
_MOST_STARTS = 3
_GIVEN_UP = (
    f"what learns beside this page ended {_MOST_STARTS} times, and the terminal says why: end the "
    "app, mend that, and open it again; your labels are kept"
)
_HALF = str(max(1, (os.cpu_count() or 1) // 2))
"""Threads of one product: two are computed at once, or a person works beside one."""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_REPORT = "/report"
"""A page that says itself what it may load."""
_CLOSED = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>nlp-meta</title>
<main><h1>This page is closed</h1><p>Open the address that <code>nlp-meta app</code> has printed:
it ends in a token.</p></main></html>"""


class Door:
    """Let in who brings the token, and say what pages may load."""

    def __init__(self, app: Application, *, token: str) -> None:
        self.app = app
        self._token = token.encode()
        self._cookie = f"nlp_meta_{hashlib.sha256(self._token).hexdigest()[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if self._is_right(asked):
            cookie = f"{self._cookie}={asked}; HttpOnly; SameSite=Strict; Path=/"
            headers = [(b"location", b"/"), (b"set-cookie", cookie.encode())]
            await _answer(send, 303, headers, b"")
        elif not self._is_right(_read_cookie(scope, self._cookie)):
            await _answer(send, 401, [(b"content-type", b"text/html; charset=utf-8")], _CLOSED)
        else:

            async def send_guarded(message: Message) -> None:
                if message["type"] == "http.response.start" and scope["path"] != _REPORT:
                    policy = (b"content-security-policy", _POLICY.encode())
                    message["headers"] = [*message.get("headers", ()), policy]
                await send(message)

            await self.app(scope, receive, send_guarded)

    def _is_right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), self._token)


def _read_cookie(scope: Scope, name: str) -> str:
    values = [value for key, value in scope["headers"] if key == b"cookie"]
    try:
        jar = SimpleCookie(b"; ".join(values).decode("latin-1"))
    except CookieError:
        return ""
    return jar[name].value if name in jar else ""


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


class LearnerProcess:
    """The process that learns; it ends with this one, however that ends."""

    def __init__(self, project: Project, *, start: str | None) -> None:
        folder = str(project.folder)
        self._project = project
        self._command = [sys.executable, "-m", "nlp_meta.app.learner", folder, start or ""]
        self._process: subprocess.Popen[str] | None = None
        self._starts = 0
        self._lock = threading.Lock()

    def order(self, order: str) -> None:
        """Tell it to work, or to save; it is started where it does not run."""
        with self._lock:
            try:
                self._write(order)
            except OSError:
                self._forget()
                self._write(order)

    def _write(self, order: str) -> None:
        if self._process is None or self._process.poll() is not None:
            self._forget()
            if self._starts == _MOST_STARTS:
                self._project.write_fact("problem", _GIVEN_UP)
                self._project.write_fact("saving", False)
                return
            self._starts += 1
            self._process = subprocess.Popen(  # noqa: S603  # nosec B603  our own module
                self._command,
                stdin=subprocess.PIPE,
                stdout=sys.stderr,
                text=True,
                env={"OMP_NUM_THREADS": _HALF, **os.environ},
            )
        stream = self._process.stdin
        if stream is not None:
            stream.write(f"{order}\n")
            stream.flush()

    def _forget(self) -> None:
        """Let go of a process that has ended, with the orders that it did not read."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._process = None

    def stop(self) -> None:
        """End it; all that it writes is whole or not there."""
        with self._lock:
            if self._process is not None:
                self._process.terminate()
                self._process.wait()


class Service:
    """What `run_server` asks of an application."""

    def __init__(self) -> None:
        self.limits = Limits(max_characters=_LARGEST, max_connections=64)
        self.requests = Requests()

    def stop(self) -> None:
        """Take no more requests."""
        if not self.requests.stopping:
            self.requests.stop(within=self.limits.answer_within)


def build_app(
    project: Project,
    *,
    token: str,
    order: Callable[[str], None],
    stop: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Build the application; its `state.service` has `stop`.

    Args:
        token: Who brings it may enter.
        order: Tells the process that learns to work, or to save.
        stop: Ends that process.
    """
    service = Service()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        project.write_fact("saving", False)
        order("work")
        yield
        service.stop()
        stop()
        project.close()

    app = FastAPI(
        title="nlp-meta", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.state.service = service
    app.add_middleware(
        Gate,
        requests=service.requests,
        limits=service.limits,
        token=None,
        count=lambda route, status, seconds: None,
    )
    app.add_middleware(Door, token=token)
    add_pages(app, project, order)
    return app


def check_packages() -> None:
    """Stop where a package of the extra `app` is missing.

    Raises:
        MissingPackageError: Names it, and the extra.
    """
    for name in ("fastapi", "uvicorn", "python_multipart"):
        if importlib.util.find_spec(name) is None:
            raise MissingPackageError(
                f"cannot open the app: the package {name} is not installed and it is needed; "
                "install it with `pip install 'nlp-meta[app]'`"
            )
