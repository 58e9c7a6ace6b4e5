"""The server's process: uvicorn on one address, until it is told to stop."""

import importlib.util
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nlp_meta.errors import MissingPackageError, SettingsError

if TYPE_CHECKING:
    from fastapi import FastAPI


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
    """Answer until SIGTERM or Ctrl-C, then finish what was accepted and return."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", lifespan="on", access_log=False)
    with _after_sigterm():
        uvicorn.Server(config).run(sockets=[listening])


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
