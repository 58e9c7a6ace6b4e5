"""What a person sees: results on standard output, all else on standard error."""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from nlp_meta.cli.options import name_options
from nlp_meta.escapes import LONGEST, one_line, visible
from nlp_meta.progress import show_count

_CELL = 300
"""Signs that a cell of a table shows."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Two consoles.

    Attributes:
        results: What the command found; on standard error where JSON takes its place.
        notes: Progress and remarks; always on standard error.
        parser: Of the command; notes name its options in place of arguments.
        noted: What `show_notes` printed; the JSON object has it as `notes`.
    """

    results: Console
    notes: Console
    parser: ArgumentParser
    noted: list[str] = field(default_factory=list)


def make_screen(options: Namespace) -> Screen:
    """Build consoles that print users' texts as they are: no markup, no emoji codes."""
    return Screen(
        results=Console(stderr=options.json, markup=False, emoji=False, highlight=False),
        notes=Console(stderr=True, markup=False, emoji=False, highlight=False),
        parser=options.parser,
    )


def show_table(
    screen: Screen,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str | None = None,
) -> None:
    """Print a table; columns after the first are aligned as numbers are."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*(one_line(cell, most=_CELL) for cell in row))
    screen.results.print(table)


def show_facts(screen: Screen, facts: Mapping[str, str]) -> None:
    """Print one fact a line, never wrapped: a path or a command can be copied whole."""
    width = max(map(len, facts))
    for name, value in facts.items():
        screen.results.print(visible(f"{name:<{width}}  {value}")[:LONGEST], soft_wrap=True)


def show_sentence(screen: Screen, sentence: str) -> None:
    """Print a sentence about what was done, never wrapped."""
    screen.results.print(one_line(sentence), soft_wrap=True)


def show_notes(screen: Screen, notes: Sequence[str]) -> None:
    """Print what was taken for granted, and keep it for the JSON object."""
    for note in notes:
        screen.noted.append(name_options(note, screen.parser))
        screen.notes.print(f"note: {one_line(screen.noted[-1])}", soft_wrap=True)


class _Remarks(logging.Handler):
    """Prints what is logged."""

    def __init__(self, screen: Screen, *, keep: bool) -> None:
        super().__init__(logging.INFO)
        self._screen, self._keep = screen, keep

    def emit(self, record: logging.LogRecord) -> None:
        message = name_options(record.getMessage(), self._screen.parser)
        self._screen.notes.print(one_line(message), soft_wrap=True)
        if self._keep:
            self._screen.noted.append(message)


@contextmanager
def show_remarks(screen: Screen, module: str, *, keep: bool = True) -> Iterator[None]:
    """Print what a module of the package logs while it works.

    Args:
        keep: For the JSON object, as notes.
    """
    logger, remarks = logging.getLogger(module), _Remarks(screen, keep=keep)
    level = logger.level
    logger.addHandler(remarks)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(remarks)


@contextmanager
def show_work(screen: Screen, title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a work as `show_count` does, how long it takes, and what labels were taken for."""
    with (
        show_remarks(screen, "nlp_meta.progress", keep=False),
        show_count(title, console=screen.notes) as on_step,
        show_remarks(screen, "nlp_meta.data.labels"),
    ):
        yield on_step
