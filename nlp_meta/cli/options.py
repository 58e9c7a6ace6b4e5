"""Options: those that several commands share, how values are read, and what help looks like."""

import math
import os
import re
import shlex
import sys
import textwrap
from argparse import (
    PARSER,
    SUPPRESS,
    Action,
    ArgumentError,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nlp_meta.errors import DataError
from nlp_meta.escapes import one_line

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Group  # a command, or a heading of its help

TABLES = ".csv, .tsv, .jsonl, .json, .parquet or .xlsx"
"""Endings of tables that are read."""

TABLES_OR_PAIRS = f"{TABLES}; of two texts both paths, A B"

OUTPUTS = ("--output", "--output-dir")
LABEL_OPTIONS = ("--text-column", "--label-column", "--label-map", "--drop-label", "--empty")
READING = ("--encoding", "--separator", "--sheet")
"""How a table is to be read."""
PAIR_COLUMNS = ("--source-column", "--target-column")
LANGUAGES = ("--source-lang", "--target-lang")
ANSWERING = (
    "adapted model, or a start, which answers as it does without labels: a folder, a name on the "
    "Hub, or builtin:NAME (`nlp-meta starts`)"
)

METHODS = "lora, full, setfit, linear_probe, prototypes, memory, ngrams, prompting"
"""Those that need no start."""

_PLACES = {"folder": ("output_dir",), "name_or_path": ("model", "start")}
"""Arguments of Python that have other names here."""

# Their data may be two aligned texts.
_READ_PAIRS = ("adapt", "compare", "evaluate")


class _Help(RawDescriptionHelpFormatter):
    """The usage line has only what must be given; all else stands under the headings.

    Options are never broken at their hyphens, and commands need no line that says so.
    """

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        words = ["%(prog)s"]
        for action in sorted(actions, key=lambda action: bool(action.option_strings)):
            if action.required or not action.option_strings:
                name = str(action.metavar or action.dest)
                values = name if action.nargs == PARSER else self._format_args(action, name)
                words += [*action.option_strings[:1], values]
        super().add_usage(" ".join([*words, "[options]"]), actions, groups, prefix)

    def _format_action(self, action: Action) -> str:
        if action.nargs == PARSER:
            return "".join(map(self._format_action, self._iter_indented_subactions(action)))
        return super()._format_action(action)

    def _iter_indented_subactions(self, action: Action) -> Generator[Action, None, None]:
        yield from getattr(action, "_get_subactions", list)()

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class CommandParser(ArgumentParser):
    """The parser of a command; an error is one line, as every other error of this package is.

    Args:
        example: Commands that the help text ends with.
    """

    def __init__(self, *, example: str | None = None, **settings: Any) -> None:
        settings |= {"formatter_class": _Help, "allow_abbrev": False, "add_help": False}
        if example is not None:
            settings["epilog"] = f"example:\n  {example}"
        super().__init__(**settings)

    def _get_value(self, action: Action, arg_string: str) -> Any:
        if not arg_string.strip() and action.dest in ("model", "data", "output", "output_dir"):
            raise ArgumentError(action, "it is empty, a path is needed; is its variable set?")
        return super()._get_value(action, arg_string)

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2, and name the nearest words of a command that is there."""
        message = " ".join(name_options(message, self).split())
        near = ", ".join(f"`{word}`" for word in _find_near(message, self))
        asked = f"did you mean {near}? " if near else ""
        self.exit(2, f"error: {one_line(message)}; {asked}see `{self.prog} --help`\n")


def _find_near(message: str, parser: ArgumentParser) -> list[str]:
    """Options and choices written like those that argparse refuses, or that were typed in vain."""
    refused = re.findall(r"invalid choice: '([^']*)'", message)
    known = [word for part in list_parsers(parser) for word in _words_of(part)]
    typed = [word.partition("=")[0] for word in parser.get_default("typed") or ()]
    refused += [word for word in typed if word.startswith("-") and word not in known]
    near = [get_close_matches(word, known, n=1, cutoff=0.75) for word in refused]
    return list(dict.fromkeys(word for words in near for word in words))


def list_parsers(parser: ArgumentParser) -> list[ArgumentParser]:
    """A parser and those of its commands, at every depth."""
    commands = [action.choices for action in parser._actions if action.nargs == PARSER]
    below = [part for choices in commands for part in dict(choices or {}).values()]
    return [parser, *(inner for part in below for inner in list_parsers(part))]


def _words_of(parser: ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        yield from map(str, action.choices or ())


def add_common_options(command: ArgumentParser, *, nested: bool = False) -> None:
    """Add what every command takes, as the last heading, and remember which command runs.

    Args:
        nested: A default of its own would overwrite a `--json` that stands before the action.
    """
    group = command.add_argument_group("other options")
    group.add_argument(
        "--json",
        action="store_true",
        default=SUPPRESS if nested else False,
        help="print the result as one JSON object on standard output, notes on standard error",
    )
    group.add_argument("-h", "--help", action="help", help="show this help and exit")
    command.set_defaults(parser=command)


def name_options(message: str, parser: ArgumentParser) -> str:
    """Put the options of a command in place of the arguments that an error of the library names.

    An argument stands between backticks, may follow the name of a section, and may have a
    value: `label_map` becomes `--label-map`, `run.output_dir` becomes `--output-dir`,
    `long_texts="cut"` becomes `--long-texts cut`. Columns that Python gives are a table here.
    """
    table = "`data`, or name another `label_column`"
    message = message.replace("`texts` and `labels`", table)
    # `config.json` is a file, and no option.
    options = {action.dest: action for action in parser._actions if action.dest != "json"}

    def replace(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        places = (name.replace(".", "_"), name.rpartition(".")[2], *_PLACES.get(name, ()))
        action = next((options[place] for place in places if place in options), None)
        if action is None:
            return match[0]
        word = action.option_strings[-1] if action.option_strings else str(action.metavar)
        takes_value = value is not None and action.nargs != 0
        return f"`{word} {shlex.quote(value.strip(chr(34)))}`" if takes_value else f"`{word}`"

    return re.sub(r"`(?P<name>[a-z_]+(?:\.[a-z_]+)?)(?:=(?P<value>[^`]*))?`", replace, message)


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
        is_path = not any(path.startswith("-") for path in (first, word))
        repeated += [option, word] if option in ("--data", "--test-data") and is_path else [word]
    return repeated


def find_inputs(words: Sequence[str]) -> tuple[Path, ...]:
    """Files and folders that a command line names, but for its outputs.

    Whatever option names them, as a word of its own or behind `=`.
    """
    inputs: list[Path] = []
    for before, word in zip(["", *words], words, strict=False):
        if before in OUTPUTS or word.startswith(tuple(f"{name}=" for name in OUTPUTS)):
            continue
        inputs += [read_path(part) for part in {word, word.partition("=")[2]} if part]
    # `Path.exists` raises where a word is too long for a path.
    return tuple(path for path in inputs if os.path.exists(path))  # noqa: PTH110


def add_shared(group: "Group", *names: str, **changes: Any) -> None:
    """Add options that several commands share, by their names.

    Args:
        changes: What this command says of them in its own way, such as `help`.
    """
    for name in names:
        group.add_argument(name, **{**_SHARED[name], **changes})


def read_path(text: str) -> Path:
    """Read a path; a shell leaves the `~` of `--output=~/scores.json` as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - of Path, it fails for an unknown user


def positive(text: str) -> int:
    """Read a whole number of 1 or more."""
    return whole(text, least=1)


def whole(text: str, *, least: int, most: int = sys.maxsize) -> int:
    """Read a whole number, or say in half a sentence what is wrong."""
    if not text.isdecimal() or int(text) < least:
        raise ArgumentTypeError(f"{text!r} is not a whole number, one of {least} or more is needed")
    if int(text) > most:
        raise ArgumentTypeError(f"{text!r} is too large, a number up to {most} is needed")
    return int(text)


def above_zero(text: str) -> float:
    """Read a number above 0, such as a step size."""
    value = read_float(text)
    if not (math.isfinite(value) and value > 0):
        raise ArgumentTypeError(f"{text!r} is not a number above 0, one is needed")
    return value


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    value = read_float(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text!r} is not a number from 0 to 1, one is needed")
    return value


def read_float(text: str) -> float:
    """Read a number; what is none becomes not-a-number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _label_map(text: str) -> Mapping[str, str]:
    from nlp_meta.data.cells import parse_label_map
    from nlp_meta.files.tables import read_label_file

    is_there = os.path.exists(text)  # noqa: PTH110  a map may be too long for a path
    is_file = Path(text).suffix and not set("=,:;>") & set(text)
    try:
        return read_label_file(Path(text)) if is_file or is_there else parse_label_map(text)
    except DataError as error:
        raise ArgumentTypeError(str(error)) from error


def _separator(text: str) -> str:
    separator = "\t" if text in ("tab", "\\t") else text
    if len(separator) != 1 or separator in '\r\n"':
        raise ArgumentTypeError(
            f"{text!r} is no separator, one character or the word tab is needed"
        )
    return separator


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ArgumentTypeError(f"{text!r} names no method, at least one is needed")
    return names


_SHARED: Mapping[str, Mapping[str, Any]] = {
    "start": {
        "metavar": "START",
        "help": "start: a folder, a name on the Hub, or builtin:NAME (`nlp-meta starts`)",
    },
    "model": {"metavar": "MODEL", "help": "adapted model: a folder, or a name on the Hub"},
    "--data": {"required": True, "type": read_path, "metavar": "FILE"},
    "--output": {"required": True, "type": read_path, "metavar": "FILE"},
    "--output-dir": {"required": True, "type": read_path, "metavar": "DIR"},
    "--replace": {
        "action": "store_true",
        "help": "replace what stands at the output; without it only what nlp-meta wrote and nobody "
        "changed since is replaced; what this command reads never is",
    },
    "--source-lang": {
        "metavar": "CODE",
        "help": "language to translate from: a code such as ind, id or pt-BR, or the model's own; "
        "with it --data is a translation memory: .tmx, .xliff, .po, a table, or two aligned "
        "texts, of which one is enough where they are named x.ind and x.jav, or x.ind.txt",
    },
    "--target-lang": {
        "metavar": "CODE",
        "help": "language to translate into: a code such as jav, jv or zh-Hant, or the model's "
        "own; needed where --source-lang is given",
    },
    "--text-column": {
        "default": "text",
        "metavar": "NAME",
        "help": "column of texts (default: %(default)s)",
    },
    "--label-column": {
        "default": "label",
        "metavar": "NAME",
        "help": "column of labels (default: %(default)s)",
    },
    "--label-map": {
        "type": _label_map,
        "metavar": "A=B,C=D",
        "help": "names for labels, such as bad=negative,good=positive; a label with , or = in it "
        "in double quotes; or a file of them: .csv or .tsv of two columns, .json or .yaml "
        "(default: those that mean the same are matched)",
    },
    "--drop-label": {
        "dest": "drop_labels",
        "action": "append",
        "default": [],
        "metavar": "NAME",
        "help": "leave out the rows of a label, and count them; may be given several times",
    },
    "--empty": {
        "choices": ("stop", "skip"),
        "default": "stop",
        "help": "rows without a text or a label are an error, or are left out and counted "
        "(default: %(default)s)",
    },
    "--source-column": {
        "default": "source",
        "metavar": "NAME",
        "help": "column of source sentences, in a table (default: %(default)s)",
    },
    "--target-column": {
        "default": "target",
        "metavar": "NAME",
        "help": "column of target sentences, in a table (default: %(default)s)",
    },
    "--encoding": {
        "metavar": "NAME",
        "help": "encoding of the file, such as cp1252 or utf-16 (default: it is looked for)",
    },
    "--separator": {
        "type": _separator,
        "metavar": "CHARACTER",
        "help": "what stands between two cells of a .csv or .tsv file; tab for a tabulator "
        "(default: it is looked for)",
    },
    "--sheet": {
        "metavar": "NAME",
        "help": "sheet of a workbook (default: the only one that has the columns)",
    },
    "--formulas": {
        "choices": ("text", "keep"),
        "default": "text",
        "help": "a cell that a spreadsheet would take for a formula, as it begins with =, +, - or "
        "@, gets an apostrophe in .csv and .tsv files, or stays as it is (default: %(default)s)",
    },
    "--long-texts": {
        "choices": ("cut", "stop"),
        "default": "cut",
        "help": "texts longer than the model takes are cut and counted, or are an error "
        "(default: %(default)s)",
    },
    "--methods": {"type": _names, "metavar": "A,B"},
    "--base": {
        "metavar": "PLACE",
        "help": "where the base model is now, a folder or a name on the Hub; its weights must be "
        "the same (default: where it was, or the folder of its name below the environment's "
        "NLP_META_MODELS)",
    },
    "--seed": {
        "type": partial(whole, least=0),
        "default": 0,
        "metavar": "N",
        "help": "seed of all random draws (default: %(default)s)",
    },
}
