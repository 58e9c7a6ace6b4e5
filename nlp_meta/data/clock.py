"""A clock that charges every job for what it finds ready.

What the frozen encoder says of a text is computed once and serves many methods and draws.
A method that is timed after others would look faster than it is; so whatever is kept remembers
what it had cost, and its first use in another job moves that job's clock on by as much.
"""

import time
from dataclasses import dataclass


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
