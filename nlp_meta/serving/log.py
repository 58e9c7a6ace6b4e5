"""The log of a server: no client fills it, nothing steers a terminal, no text stands in it."""

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from nlp_meta.escapes import visible

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
