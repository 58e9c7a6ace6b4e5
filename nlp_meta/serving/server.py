"""The server's process: uvicorn on one address, until it is told to stop.

No client fills its log, nothing in it steers a terminal, and no text of a client stands in it.
"""

import importlib.util
import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nlp_meta.errors import MissingPackageError, SettingsError
from nlp_meta.escapes import visible
from nlp_meta.serving.limits import THREADS

if TYPE_CHECKING:
    from fastapi import FastAPI


LOGGERS = (
    "asyncio",
    "uvicorn.error",
    "nlp_meta.serving.gate",
    "nlp_meta.serving.jobs",
)
MOST, SECONDS = 10, 60.0
"""Lines of one logger in so many seconds; the others are counted."""


@contextmanager
def quiet_log() -> Iterator[None]:
    """Within it, few lines of each kind are logged, in printable characters."""
    sieves = {name: Sieve() for name in LOGGERS}
    for name, sieve in sieves.items():
        logging.getLogger(name).addFilter(sieve)
    try:
        yield
    finally:
        for name, sieve in sieves.items():
            logging.getLogger(name).removeFilter(sieve)


class Sieve(logging.Filter):
    """Lets a few lines through and counts the others."""

    def __init__(self) -> None:
        super().__init__()
        self._until, self._passed, self._dropped = 0.0, 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether to log a record, which is made printable."""
        now = time.monotonic()
        if now >= self._until:
            self._until, self._passed = now + SECONDS, 0
        if self._passed == MOST:
            self._dropped += 1
            return False
        self._passed += 1
        note = f" ({self._dropped} lines before were left out)" if self._dropped else ""
        self._dropped = 0
        record.msg, record.args = visible(record.getMessage().strip()) + note, ()
        if record.exc_info:
            record.exc_text = "\n".join(_say_where(record.exc_info[1]))
            record.exc_info = None
        return True


def _say_where(error: BaseException | None) -> Iterator[str]:
    """Name an error and its places, the first cause first; its message may quote a text."""
    if error is None:
        return
    yield from _say_where(error.__cause__ or error.__context__)
    for place in traceback.extract_tb(error.__traceback__):
        yield visible(f"  {place.filename}:{place.lineno} {place.name}")
    yield visible(type(error).__qualname__)


PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


def check_packages() -> None:
    """Stop where a package of the extra `serve` is missing.

    Raises:
        MissingPackageError: Names it, and the extra.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"cannot serve: the package {missing[0]} is not installed and it is needed; install "
            "it with `pip install 'nlp-meta[serve]'`"
        )


def run_server(app: "FastAPI", listening: socket.socket) -> None:
    """Answer until SIGTERM or Ctrl-C, then end within the time that the limits of the app name.

    What was accepted is answered, or refused with a 503. A second signal ends the process at
    once; so does the end of that time, if something still runs that cannot be interrupted.
    """
    from nlp_meta.serving.connections import make_server
    from nlp_meta.serving.server import quiet_log

    service = app.state.service
    server = make_server(app, limits=service.limits, on_stop=service.stop)
    within, has_ended, is_clear = service.limits.stop_within, threading.Event(), threading.Event()

    def end_process() -> None:
        server.told_to_stop.wait()
        if not is_clear.wait(within):
            os._exit(0 if has_ended.is_set() else 1)

    threading.Thread(target=end_process, daemon=True).start()
    with quiet_log(), _after_sigterm():
        try:
            server.run(sockets=[listening])
        finally:
            has_ended.set()
            if _join_threads(until=server.stopped_at + 0.95 * within):
                is_clear.set()
                server.told_to_stop.set()


def _join_threads(*, until: float) -> bool:
    """Wait for the threads of a server; false if one still runs."""
    for thread in threading.enumerate():
        if thread.name.startswith(THREADS):
            thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.name.startswith(THREADS) for thread in threading.enumerate())


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Take an address; port 0 takes any that is free.

    Raises:
        SettingsError: The address is taken or is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(
            f"cannot listen on {host} at port {port}: {reason.lower()} and a free address of this "
            "machine is needed; change `port` or `host`"
        ) from error
    with listening:
        yield listening


@contextmanager
def _after_sigterm() -> Iterator[None]:
    """Make SIGTERM a normal end: uvicorn raises the signal once more when it has stopped."""
    handler: Callable[..., object] = lambda *_: None  # noqa: E731
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
