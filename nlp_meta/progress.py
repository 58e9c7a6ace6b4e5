"""Progress: bars on a terminal, lines elsewhere, a counter, and other libraries kept quiet."""

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two lines of progress, where there is no terminal."""


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Without bars, load reports and deprecations that only their own authors can act on."""
    with quiet_transformers(), warnings.catch_warnings():
        # PEFT asks transformers by a name that transformers is about to drop.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        yield


class _Hush:
    """How many ask transformers to be quiet now, and how loud it was before the first.

    Its loudness is one for the process, so the count is too.
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.verbosity, self.had_bars = 0, False


_HUSH = _Hush()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without bars and load reports of transformers; any thread may call it at any time."""
    import transformers

    # Its functions carry no types.
    logging: Any = transformers.utils.logging

    with _HUSH.lock:
        if not _HUSH.inside:
            _HUSH.verbosity = logging.get_verbosity()
            _HUSH.had_bars = logging.is_progress_bar_enabled()
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        _HUSH.inside += 1
    try:
        yield
    finally:
        with _HUSH.lock:
            _HUSH.inside -= 1
            if not _HUSH.inside:
                logging.set_verbosity(_HUSH.verbosity)
                if _HUSH.had_bars:
                    logging.enable_progress_bar()


class Step(Protocol):
    """What a bar tells of an outer step; losses in nats, None where not measured."""

    @property
    def step(self) -> int: ...
    @property
    def loss_before(self) -> float | None: ...
    @property
    def loss_after(self) -> float: ...
    @property
    def best_score(self) -> float | None: ...


@contextmanager
def show_steps(
    steps: int, *, first: int = 0, enabled: bool = True
) -> Iterator[Callable[[Step], None]]:
    """Show the outer steps with the losses, the best score and the time left.

    Where there is no terminal, in a notebook or a log file, that is a line every 30 seconds.
    """
    words: dict[str, Any] = {"losses": "", "score": ""}
    columns = (
        TextColumn("outer step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[losses]}"),
        TextColumn("{task.fields[score]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, disable=not (enabled and console.is_terminal))
    task = bar.add_task("", total=steps, completed=first, **words)
    lines = _Lines(console, "outer step", first=first)

    def on_step(record: Step) -> None:
        before = "" if record.loss_before is None else f"{record.loss_before:.3f} > "
        words["losses"] = f"loss {before}{record.loss_after:.3f}"
        if record.best_score is not None:
            words["score"] = f"score {record.best_score:.3f}"
        bar.update(task, completed=record.step, **words)
        if enabled:
            lines(record.step, steps, *filter(None, words.values()))

    with bar:
        yield on_step


@contextmanager
def show_count(
    title: str, *, console: Console | None = None, enabled: bool = True
) -> Iterator[Callable[[int, int], None]]:
    """Show how many of how many are done, and the time left; as `show_steps` does.

    Args:
        title: What is counted or done, such as `cell` or `comparing`.
        console: Where; None takes standard error.
    """
    console = console or Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disabled = not (enabled and console.is_terminal)
    bar = Progress(*columns, console=console, transient=True, disable=disabled)
    task, lines = bar.add_task("", total=None), _Lines(console, title)

    def on_step(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if enabled:
            lines(done, total)

    with bar:
        yield on_step


class _Lines:
    """Prints where a work is, at most once in `EVERY` seconds; nothing on a terminal.

    Args:
        first: What was done before it began.
    """

    def __init__(self, console: Console, title: str, *, first: int = 0) -> None:
        self.console, self.title, self.first = console, title, first
        self.began = self.last = time.monotonic()

    def __call__(self, done: int, total: int, *words: str) -> None:
        now = time.monotonic()
        if self.console.is_terminal or now - self.last < EVERY:
            return
        self.last = now
        parts = [f"{self.title} {done} of {total}", *words]
        if done > self.first:
            left = (now - self.began) / (done - self.first) * (total - done)
            parts.append(f"about {say_duration(left)} left")
        self.console.print(", ".join(parts), markup=False, highlight=False, soft_wrap=True)


def say_duration(seconds: float) -> str:
    """Write a time in the two units that matter: `40 s`, `12 min`, `3 h 10 min`."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{max(round(seconds), 1)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Outlook:
    """Logs how long a work of several methods takes: roughly at first, again when each worked once.

    Args:
        turns: How often each method works, by its name and a size that its time depends on.
        expected: Seconds that a rough look says; None for no such look.
    """

    def __init__(
        self, turns: Mapping[tuple[str, int], float], *, expected: float | None = None
    ) -> None:
        self.turns = turns
        if expected is not None:
            methods = len({name for name, _ in turns})
            logger.info("%d methods, about %s by a first look", methods, say_duration(expected))
        self.seconds: dict[tuple[str, int], float] = {}
        self.began = time.monotonic()

    def __call__(self, method: str, size: int = 0) -> None:
        """A method has worked, since the last call."""
        now, key = time.monotonic(), (method, size)
        is_new, spent, self.began = key not in self.seconds, now - self.began, now
        if not is_new or key not in self.turns:
            return
        self.seconds[key] = spent
        if len(self.seconds) < len(self.turns):
            return
        left = {key: self.seconds[key] * (self.turns[key] - 1) for key in self.turns}
        total, (slowest, _) = sum(left.values()), max(left, key=lambda key: left[key])
        if total > 0:
            logger.info(
                "%d trainings of %d methods, about %s more, most of it for %s",
                round(sum(self.turns.values())),
                len({name for name, _ in left}),
                say_duration(total),
                slowest,
            )


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
