"""Values kept by text, and a clock that charges every job for those it finds ready.

What the frozen encoder says of a text is computed once and serves many methods and draws.
A method that is timed after others would look faster than it is; so each value remembers
what it had cost, and the first use of it in another job moves that job's clock on by as much.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(slots=True)
class _Hands:
    """The job that is timed now, and the seconds that kept values have spared all jobs."""

    job: int = 0
    spared: float = 0.0


class Clock:
    """Seconds as if nothing had been kept from earlier jobs."""

    def __init__(self) -> None:
        """Stand before the first job."""
        self._hands = _Hands()

    def follow(self, leader: "Clock") -> None:
        """Show the time of another clock from here on: their jobs are the same."""
        self._hands = leader._hands

    @property
    def job(self) -> int:
        """The number of the job that is timed now."""
        return self._hands.job

    def read(self) -> float:
        """Seconds; only the difference of two readings has a meaning."""
        return time.perf_counter() + self._hands.spared

    def begin_job(self) -> None:
        """From here on, what was kept before is charged once more, at its first use."""
        self._hands.job += 1

    def charge(self, seconds: float) -> None:
        """Move on by what an earlier job has paid for and this one uses."""
        self._hands.spared += seconds


class TextCache(Generic[Value]):
    """Values by text, each computed once."""

    def __init__(
        self, compute: Callable[[Sequence[str]], Sequence[Value]], *, clock: Clock
    ) -> None:
        """Keep what `compute` gives, one value a text; texts of one call cost by their length."""
        self._compute = compute
        self._clock = clock
        self._values: dict[str, Value] = {}
        self._seconds: dict[str, float] = {}
        self._charged: dict[str, int] = {}

    def take(self, texts: Sequence[str]) -> list[Value]:
        """The values of some texts, in their order."""
        asked, job = dict.fromkeys(texts), self._clock.job
        for text in asked:
            if self._charged.get(text, job) != job:
                self._clock.charge(self._seconds[text])
                self._charged[text] = job
        self._add([text for text in asked if text not in self._values])
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
            self._charged[text] = self._clock.job
