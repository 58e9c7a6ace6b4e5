"""The server's process: uvicorn on one address, until it is told to stop.

What a client may hold of the server ends in time, and so does the server. uvicorn waits for as
long as a client likes: for the rest of a head, for a client that does not take its answer, for
connections at its own stop. A body is waited for by the gate. No client fills the log, nothing
in it steers a terminal, and no text of a client stands in it.
"""

import asyncio
import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from nlp_meta.errors import SettingsError
from nlp_meta.escapes import visible
from nlp_meta.serving.bodies import PROBLEM, write_problem
from nlp_meta.serving.gate import LINGER, TOO_MANY
from nlp_meta.serving.limits import THREADS, Limits

HEAD_BYTES = 2**15
BACKLOG = 128
KEEP_ALIVE = 5
"""Seconds in which a connection may ask for nothing."""


class Connection(H11Protocol):
    """A connection that ends where its client does not go on, or room is needed."""

    def __init__(self, *args: Any, limits: Limits, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.limits = limits
        self.waits_since = self.loop.time()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._answers = 0
        self._is_refused = False

    @property
    def is_answered(self) -> bool:
        """A whole request has come in, its answer is not complete, and earlier ones are taken."""
        cycle = self.cycle
        is_open = cycle is not None and not cycle.more_body and not cycle.response_complete
        return is_open and not self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer("head", self.limits.head_seconds, self._end_head)
        self._make_room()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer("head")
        elif not self._is_refused:
            self._start_timer("head", self.limits.head_seconds, self._end_head)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_reader()

    def on_response_complete(self) -> None:
        self._answers += 1
        self.waits_since = self.loop.time()
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._wait_for_reader()

    def timeout_keep_alive_handler(self) -> None:
        # h11 has no word for closing upon half a head.
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self.refuse(
            400, "cannot read the request: it is no HTTP/1.1 and that is needed; correct it"
        )

    def connection_lost(self, exc: Exception | None) -> None:
        for name in list(self._timers):
            self._stop_timer(name)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self._is_refused:
            self.transport.close()
        else:
            super().shutdown()

    def refuse(self, status: int, message: str) -> None:
        """Answer with an error where no request can be answered, and close."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
                return
        self._is_refused = True
        self._unset_keepalive_if_required()
        body = write_problem(message, status)
        self.transport.write(
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {PROBLEM}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
            + body
        )
        # What still comes is read, or the refusal would be lost with the connection.
        self.transport.write_eof()
        self.flow.resume_reading()
        self._stop_timer("head")
        self._start_timer("refusal", LINGER, self.transport.abort)

    def _make_room(self) -> None:
        """Close the connection that has waited for longest, if there are too many.

        Where all others are being answered, a few more may still ask whether the server lives.
        """
        open_ones = [
            connection
            for connection in self.connections
            if isinstance(connection, Connection) and not connection.transport.is_closing()
        ]
        if len(open_ones) <= self.limits.max_connections:
            return
        waiting = [connection for connection in open_ones if not connection.is_answered]
        oldest = min(waiting, key=lambda connection: connection.waits_since)
        if oldest is not self:
            oldest.transport.abort()
        elif len(open_ones) > 2 * self.limits.max_connections:
            self.refuse(503, TOO_MANY)

    def _end_head(self) -> None:
        self.refuse(
            408,
            "cannot wait for the rest of this request: its head has not come in "
            f"{self.limits.head_seconds:g} seconds and a whole one is needed; send it at once",
        )

    def _wait_for_reader(self) -> None:
        end = partial(self._end_answer, self._answers)
        self._start_timer("answer", self.limits.write_seconds, end)

    def _end_answer(self, answers: int) -> None:
        self._stop_timer("answer")
        if not self.transport.get_write_buffer_size():
            return
        if answers == self._answers:
            self.transport.abort()
        else:  # what waits is a later answer
            self._wait_for_reader()

    def _start_timer(self, name: str, seconds: float, end: Callable[[], None]) -> None:
        """Call a function in some seconds, unless a timer of that name runs already."""
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(seconds, end)

    def _stop_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()


class Server(uvicorn.Server):
    """A server that ends in time, and at once when it is told to end again."""

    def __init__(
        self, config: uvicorn.Config, *, limits: Limits, on_stop: Callable[[], None]
    ) -> None:
        """Take a configuration.

        Args:
            on_stop: Called on the event loop when the server begins to stop.
        """
        super().__init__(config)
        self.limits, self.on_stop = limits, on_stop
        self.told_to_stop = threading.Event()
        self.stopped_at = time.monotonic()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.told_to_stop.set()
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)

    async def shutdown(self, sockets: Any = None) -> None:
        self.stopped_at = time.monotonic()
        self.on_stop()
        loop = asyncio.get_running_loop()
        loop.call_later(0.5 + self.limits.answer_within, self._abort_connections)
        await super().shutdown(sockets)

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def make_server(app: Any, *, limits: Limits, on_stop: Callable[[], None]) -> Server:
    """Make a server that no client holds."""

    def connect(*args: Any, **settings: Any) -> Connection:
        return Connection(*args, limits=limits, **settings)

    config = uvicorn.Config(
        app,
        http=connect,  # type: ignore[arg-type]  # it is called as a class would be
        ws="none",
        log_level="warning",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    return Server(config, limits=limits, on_stop=on_stop)


LOGGERS = ("asyncio", "uvicorn.error", "nlp_meta.serving.gate", "nlp_meta.serving.jobs")
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


def run_server(app: FastAPI, listening: socket.socket) -> None:
    """Answer until SIGTERM or Ctrl-C, then end within the time that the limits of the app name.

    What was accepted is answered, or refused with a 503. A second signal ends the process at
    once; so does the end of that time, if something still runs that cannot be interrupted.
    """
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
