"""Progress: bars over steps and cells, a counter, and other libraries kept quiet."""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


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
    """A bar over the outer steps with the losses, the best score and the time left."""
    columns: Sequence[TextColumn | BarColumn | MofNCompleteColumn | TimeRemainingColumn] = (
        TextColumn("outer step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("loss {task.fields[before]:.3f} > {task.fields[after]:.3f}"),
        TextColumn("score {task.fields[score]}"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), disable=not enabled)
    task = bar.add_task("", total=steps, completed=first, before=0.0, after=0.0, score="-")

    def on_step(record: Step) -> None:
        best = "-" if record.best_score is None else f"{record.best_score:.3f}"
        losses = {"before": record.loss_before, "after": record.loss_after}
        known: dict[str, Any] = {name: loss for name, loss in losses.items() if loss is not None}
        bar.update(task, completed=record.step, score=best, **known)

    with bar:
        yield on_step


@contextmanager
def show_cells(*, enabled: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A bar over the cells of a comparison with the time left."""
    columns: Sequence[TextColumn | BarColumn | MofNCompleteColumn | TimeRemainingColumn] = (
        TextColumn("cell"),
        MofNCompleteColumn(),
        BarColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), disable=not enabled)
    task = bar.add_task("", total=None)
    with bar:
        yield lambda done, total: bar.update(task, completed=done, total=total)


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
