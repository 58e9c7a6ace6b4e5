"""Counting what is done for a progress bar."""

from collections.abc import Callable


class Ticker:
    """Tells a progress bar how much is done, never more than its total.

    Args:
        on_step: Called with what is done and the total; None for nobody.
    """

    def __init__(self, on_step: Callable[[int, int], None] | None, *, total: int) -> None:
        self.on_step, self.total, self.done = on_step, total, 0

    def __call__(self, done: int = 1) -> None:
        self.done += done
        if self.on_step:
            self.on_step(min(self.done, self.total), self.total)
