"""What recipes and the command line show people: a progress bar, one-sentence errors."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nlp_meta.errors import NlpMetaError
from nlp_meta.meta.progress import StepRecord
from nlp_meta.quiet import quiet_libraries
from nlp_meta.reading import choose_by_section, read_settings

Settings = TypeVar("Settings")
INTERRUPTED = 130


def run_recipe(
    main: Callable[[Settings], int], kind: type[Settings] | Mapping[str, type[Settings]]
) -> None:
    """Read the settings, run, and leave: 0 done, 2 for an error, 130 when interrupted.

    Args:
        kind: Of the settings; of several the one whose section the config has.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("httpx", "accelerate", "absl"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with quiet_libraries():
            words = sys.argv[1:]
            wanted = choose_by_section(kind, words) if isinstance(kind, Mapping) else kind
            code = main(read_settings(wanted, words))
    except NlpMetaError as error:
        code = _stop(str(error))
    except OSError as error:
        name = f" '{error.filename}'" if error.filename else ""
        code = _stop(
            f"cannot write{name}: {error.strerror}; a folder with room that this user may write "
            "to is needed; change `run.output_dir`"
        )
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _stop(message: str) -> int:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"error: {message}", markup=False)
    return 2


@contextmanager
def show_steps(
    steps: int, *, first: int = 0, enabled: bool = True
) -> Iterator[Callable[[StepRecord], None]]:
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

    def on_step(record: StepRecord) -> None:
        best = "-" if record.best_score is None else f"{record.best_score:.3f}"
        bar.update(
            task,
            completed=record.step,
            before=record.loss_before,
            after=record.loss_after,
            score=best,
        )

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
