"""Options that several commands share, and how their values are read."""

import math
import sys
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

# Their data may be two aligned texts.
_READ_PAIRS = ("adapt", "compare", "evaluate")


def add_table(command: ArgumentParser, about: str) -> None:
    """Add `--data`, a table."""
    command.add_argument(
        "--data",
        required=True,
        type=Path,
        metavar="FILE",
        help=f"{about}; .csv, .tsv, .jsonl, .json or .parquet",
    )


def add_table_or_pairs(command: ArgumentParser, about: str) -> None:
    """Add `--data`, a table, or a translation memory of one file or of two aligned texts."""
    command.add_argument(
        "--data",
        required=True,
        action=TakePaths,
        type=Path,
        metavar="FILE",
        help=f"{about}; .csv, .tsv, .jsonl, .json or .parquet; of two texts both paths, A B",
    )


class TakePaths(Action):
    """One path, or two: both of aligned texts."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        if isinstance(before, tuple):
            parser.error(f"{option_string}: more than the two paths of aligned texts")
        setattr(namespace, self.dest, values if before is None else (before, values))


def repeat_data(words: Sequence[str]) -> list[str]:
    """Write `--data A B` as `--data A --data B`, which argparse can tell from `--data A MODEL`.

    That is one path and the model, where the model does not stand before the options.
    """
    if len(words) < 2 or words[0] not in _READ_PAIRS or words[1].startswith("-"):
        return list(words)
    repeated = list(words[:2])
    for option, first, word in zip(words, words[1:], words[2:], strict=False):
        is_path = not any(one.startswith("-") for one in (first, word))
        repeated += [option, word] if option in ("--data", "--test-data") and is_path else [word]
    return repeated


def add_text_column(command: ArgumentParser) -> None:
    """Add the name of the column of texts."""
    command.add_argument(
        "--text-column",
        default="text",
        metavar="NAME",
        help="column of texts (default: %(default)s)",
    )


def add_label_options(command: ArgumentParser) -> None:
    """Add the names of both columns, and of labels."""
    add_text_column(command)
    command.add_argument(
        "--label-column",
        default="label",
        metavar="NAME",
        help="column of labels (default: %(default)s)",
    )
    command.add_argument(
        "--label-map",
        metavar="A=B,C=D",
        help="names for labels, such as bad=negative,good=positive (default: those that mean the "
        "same are matched)",
    )


def add_seed(command: ArgumentParser) -> None:
    """Add the seed."""
    command.add_argument(
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="of all random draws (default: %(default)s)",
    )


def positive(text: str) -> int:
    """Read a whole number of 1 or more."""
    return whole(text, least=1)


def _seed(text: str) -> int:
    return whole(text, least=0)


def whole(text: str, *, least: int) -> int:
    """Read a whole number, or say in half a sentence what is wrong."""
    if not text.isdecimal() or not least <= int(text) <= sys.maxsize:
        raise ArgumentTypeError(f"{text!r} is not a whole number, one of {least} or more is needed")
    return int(text)


def above_zero(text: str) -> float:
    """Read a number above 0, such as a step size."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and found > 0):
        raise ArgumentTypeError(f"{text!r} is not a number above 0, one is needed")
    return found
