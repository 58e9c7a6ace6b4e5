"""Refusals of the Hub: each becomes one sentence that says what to do about it.

The remarks of the Hub's own client are kept off the screens of users.
"""

import errno
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import httpx2
from huggingface_hub import utils
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from nlp_meta.errors import HubError

_NO_ANSWER = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What the client raises for an answer that is not the Hub's, such as a page to log in with."""
FAILURES = (httpx2.HTTPError, OSError, RuntimeError, EntryNotFoundError, *_NO_ANSWER)
"""What the Hub's client raises. `explain` makes one sentence of any of them."""
_LONGEST_REASON = 300
LOG_IN = "log in with `hf auth login`, set HF_TOKEN or give `token`"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOO_MANY = 429
_MOST_TRIES, _LONGEST_WAIT = 4, 60  # seconds

Result = TypeVar("Result")


class _Refusal(NamedTuple):
    """The parts of an error: why, what was needed, what to change."""

    reason: str
    needed: str
    remedy: str


def explain(error: BaseException, *, doing: str) -> HubError:
    """Build the error about a call of the Hub's client that failed.

    Args:
        doing: What could not be done, such as "push to 'me/x'".
    """
    reason, needed, remedy = _find_refusal(error)
    return HubError(f"cannot {doing}: {reason} and {needed} is needed; {remedy}")


def patiently(call: Callable[[], Result]) -> Result:
    """Call, and again after as long as the Hub asks for; its client does so for some calls only."""
    for _ in range(_MOST_TRIES - 1):
        try:
            return call()
        except HfHubHTTPError as error:
            wait = _seconds_to_wait(error)
            if error.response.status_code != _TOO_MANY or wait is None or wait > _LONGEST_WAIT:
                raise
            time.sleep(wait)
    return call()


def _seconds_to_wait(error: HfHubHTTPError) -> int | None:
    """The header `Retry-After`, where it is a number."""
    written = error.response.headers.get("Retry-After", "")
    return int(written) if written.isdecimal() else None


def _find_refusal(error: BaseException) -> _Refusal:
    """Say why, by the innermost error that tells."""
    for cause in _chain(error):
        if isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled):
            continue
        if isinstance(cause, HfHubHTTPError):
            return _by_answer(cause)
        if isinstance(cause, HFValidationError):
            return _Refusal(
                f"that is no name of a repository ({_first_line(cause)})",
                "a name such as me/real-estate-sentiment, of letters, digits, '-', '_' and '.',",
                "correct it",
            )
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return _Refusal(
                f"the disk has no room left ({cause.strerror})",
                "room for the model's files",
                "free some, or set HF_HOME to a folder on another disk, and repeat the command",
            )
    return _without_answer(error)


def _without_answer(error: BaseException) -> _Refusal:
    chain = list(_chain(error))
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in chain) or "offline" in str(error):
        return _Refusal(
            "HF_HUB_OFFLINE is set, the cache has no copy,",
            "a folder, a copy in the cache, or the Hub,",
            "correct the name, or unset HF_HUB_OFFLINE",
        )
    if any(isinstance(cause, httpx2.HTTPError) for cause in chain):
        return _Refusal(
            f"the connection to the Hub failed ({_first_line(chain[-1])})",
            "a connection that lasts",
            "check it, and HF_ENDPOINT, and repeat the command: what is complete is not sent again",
        )
    if isinstance(error, LocalEntryNotFoundError):
        return _Refusal(
            "the Hub does not answer and no copy is in the cache",
            "a connection to the Hub",
            "check it, HF_ENDPOINT and HF_HOME, and repeat the command",
        )
    last = chain[-1]
    if isinstance(last, _NO_ANSWER):
        return _Refusal(
            "what answers is not the Hub, or not as the Hub does",
            "the Hub itself",
            "check HF_ENDPOINT and whether the network asks you to log in, and repeat the command",
        )
    reason = last.strerror or _first_line(last) if isinstance(last, OSError) else _one_line(last)
    return _Refusal(
        f"it failed ({reason})", "another answer of the Hub", "mend that and repeat the command"
    )


def _by_answer(error: HfHubHTTPError) -> _Refusal:
    status = error.response.status_code
    if isinstance(error, RevisionNotFoundError):
        return _Refusal("it has no such revision", "a branch, tag or commit of it", "correct it")
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return _Refusal(
            f"the Hub knows no such repository, or does not show it to you ({status})",
            "the name of one that you may read",
            f"correct the name, or {LOG_IN} where it is private",
        )
    if status == _TOO_MANY:
        wait = _seconds_to_wait(error)
        when = "later" if wait is None else f"in {wait} seconds"
        return _Refusal("the Hub takes no more requests for now (429)", "a pause", f"try {when}")
    if status >= 500:
        return _Refusal(
            f"the Hub has a fault of its own ({status})",
            "a Hub that works",
            "repeat the command later: nothing is pushed or pulled by halves",
        )
    return _REFUSALS.get(status) or _Refusal(
        f"the Hub refuses ({status}: {_one_line(error.server_message or error)})",
        "something that it takes",
        "mend what it names and repeat the command",
    )


_REFUSALS = {
    401: _Refusal("the Hub does not accept the token (401)", "a valid token", LOG_IN),
    402: _Refusal("the Hub asks for payment (402)", "a plan that allows it", "see its settings"),
    403: _Refusal(
        "this token may not do that there (403)",
        "a token of the role write and a namespace of yours",
        f"change the name, or {LOG_IN}",
    ),
    409: _Refusal(
        "it exists already, or is being changed right now (409)",
        "a name that is free, or a repository at rest",
        "change the name or repeat the command",
    ),
    412: _Refusal(
        "somebody else pushed there in between (412)",
        "a repository at rest",
        "look at what they pushed and repeat the command",
    ),
}


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return _one_line(lines[0]) if lines else type(error).__name__


def _one_line(error: object) -> str:
    line = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Without its bars, and without its remarks on the tries that it makes again."""
    # Its functions carry no types.
    tools: Any = utils
    verbosity, had_bars = tools.logging.get_verbosity(), not tools.are_progress_bars_disabled()
    tools.logging.set_verbosity_error()
    tools.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Warnings while validating metadata", UserWarning)
            yield
    finally:
        tools.logging.set_verbosity(verbosity)
        if had_bars:
            tools.enable_progress_bars()
