"""Values kept by text, and a clock that charges every job for those it finds ready.

What the frozen encoder says of a text is computed once and serves many methods and draws.
A method that is timed after others would look faster than it is; so each value remembers
what it had cost, and the first use of it in another job moves that job's clock on by as much.
"""

import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Value = TypeVar("Value")


class _Work:
    """The job that is timed now, and the seconds that kept values have spared all jobs."""

    job = 0
    spared = 0.0


def work_time() -> float:
    """Seconds of a clock that never goes back, as if nothing had been kept from earlier jobs."""
    return time.perf_counter() + _Work.spared


def begin_job() -> None:
    """From here on, what was kept before is charged once more, at its first use."""
    _Work.job += 1


def charge(seconds: float) -> None:
    """Move the clock on by what an earlier job has paid for and this one uses."""
    _Work.spared += seconds


class Kept(Generic[Value]):
    """Values by text, each computed once."""

    def __init__(self, compute: Callable[[Sequence[str]], Sequence[Value]]) -> None:
        """Keep what `compute` gives, one value a text; texts of one call cost by their length."""
        self._compute = compute
        self._values: dict[str, Value] = {}
        self._seconds: dict[str, float] = {}
        self._charged: dict[str, int] = {}

    def take(self, texts: Sequence[str]) -> list[Value]:
        """The values of some texts, in their order."""
        asked = dict.fromkeys(texts)
        missing = [text for text in asked if text not in self._values]
        for text in asked:
            if self._charged.get(text, _Work.job) != _Work.job:
                charge(self._seconds[text])
                self._charged[text] = _Work.job
        self._add(missing)
        return [self._values[text] for text in texts]

    def _add(self, texts: Sequence[str]) -> None:
        if not texts:
            return
        began = time.perf_counter()
        self._values.update(zip(texts, self._compute(texts), strict=True))
        seconds = time.perf_counter() - began
        lengths = [1 + len(text) for text in texts]
        for text, length in zip(texts, lengths, strict=True):
            self._seconds[text] = seconds * length / sum(lengths)
            self._charged[text] = _Work.job
