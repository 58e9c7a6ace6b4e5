"""The command line, `nlp-meta`: what a user does, one file a command.

A result goes to standard output, as a table or, with `--json`, as exactly one JSON
object; progress, remarks and errors go to standard error. Nothing heavy is imported
before a command needs it.
"""

import json
import math
import os
import sys
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from nlp_meta import __version__
from nlp_meta.cli.options import (
    CommandParser,
    add_common_options,
    find_inputs,
    list_parsers,
    name_options,
    repeat_data,
)
from nlp_meta.cli.screen import make_screen
from nlp_meta.errors import CardError, NlpMetaError
from nlp_meta.escapes import one_line

COMMANDS = {
    "app": "Label a table in the browser, and get a model of it.",
    "inspect": "Find wrong labels and other doubtful rows of a table.",
    "adapt": "Adapt a start to your labels, or to translations.",
    "predict": "Label the texts of a table with an adapted model.",
    "evaluate": "Score an adapted model on labels, or on sentence pairs.",
    "explain": "Tell which words decided, and which labeled texts are alike.",
    "suggest": "Choose the texts to label next from a table.",
    "translate": "Translate a file with a model adapted to sentence pairs.",
    "align": "Find sentences of two files that translate each other.",
    "starts": "List the starts that come with the package.",
    "quickstart": "Meta-train, adapt and compare on built-in reviews.",
    "train": "Meta-train a start from a config of tasks.",
    "runs": "Show training runs side by side on a page.",
    "compare": "Compare methods on draws of your labels or pairs.",
    "recommend": "Say which method suits your labels, and how sure.",
    "export": "Export an adapted model to ONNX or transformers, checked.",
    "update": "Go on meta-training with new domains, old ones replayed.",
    "push": "Push a saved model to the Hub, with its card.",
    "serve": "Answer over HTTP for adapted models of many domains.",
    "cards": "List the data cards, check or push them.",
}
"""Each command is a file here, with its `EXAMPLE`, `add_options` and `run`."""

INTERRUPTED = 130
_LIMITS = Path("/sys/fs/cgroup/cpu.max")
_MOST_THREADS = 16
"""Batches of an adaptation have too few rows for more."""

_ABOUT = """\
Adapt a meta-trained model to a new domain or language from 50 to 100 labels.

label a table in the browser, and get a model of it:
  nlp-meta app
see it work, on built-in reviews, in a few minutes:
  nlp-meta quickstart
learn from your labels, then label new texts, and score the answers:
  nlp-meta adapt --data labeled.csv --output-dir adapted
  nlp-meta predict adapted --data new.csv --output predictions.csv
  nlp-meta evaluate adapted --data test.csv --output scores.json
know which method to use, and compare them all:
  nlp-meta recommend --data labeled.csv
  nlp-meta compare runs/quickstart/meta --data labeled.csv --output-dir report
answer over HTTP for many domains at once:
  nlp-meta serve adapted --port 8000"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Those of the process where None.

    Returns:
        The exit code: 0, 2 after an error that the user can mend, 130 after Ctrl-C.

    Raises:
        SystemExit: After `--help`, `--version` or an option that is wrong.
    """
    options = read_options(sys.argv[1:] if arguments is None else arguments)
    try:
        record = _run(options)
        if options.json:
            print(json.dumps(_finite(record), allow_nan=False))
        sys.stdout.flush()
    except CardError as error:
        # What it names are keys of a card, not arguments.
        return _stop(str(error))
    except NlpMetaError as error:
        return _stop(name_options(str(error), options.parser))
    except BrokenPipeError:
        # Whoever read the output has enough; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _stop(_explain(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def read_options(words: Sequence[str]) -> Namespace:
    """Read the options of a command.

    Returns:
        Beside the options of the command: `command`, `json`, `parser`, its own, `typed`, `inputs`.
    """
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser = build_parser([chosen] if chosen in COMMANDS else [])
    for part in list_parsers(parser):
        part.set_defaults(typed=words)  # an error looks there for what was meant
    options, unknown = parser.parse_known_args(repeat_data(words))
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.inputs = find_inputs(words)
    return options


def build_parser(names: Sequence[str]) -> ArgumentParser:
    """Build a parser of all commands that has the options of those named."""
    parser = CommandParser(prog="nlp-meta", description=_ABOUT)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands", prog=parser.prog, required=True
    )
    for name, about in COMMANDS.items():
        if name in names:
            module = _load(name)
            command = commands.add_parser(
                name, help=about, description=about, example=module.EXAMPLE
            )
            module.add_options(command)
            add_common_options(command)
        else:
            commands.add_parser(name, help=about)
    group = parser.add_argument_group("options")
    group.add_argument(
        "--version",
        action=_ShowVersions,
        nargs=0,
        help="show all versions and the device, and exit",
    )
    group.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh", "fish", "tcsh"),
        help="print what completes commands and options in a shell, and exit",
    )
    group.add_argument(
        "-h", "--help", action="help", help="show this help and exit; each command has its own"
    )
    return parser


class _ShowVersions(Action):
    """What a report of a fault needs to tell."""

    def __call__(self, parser: ArgumentParser, *_: object) -> NoReturn:
        lines = [f"nlp-meta {__version__}"]
        lines += [f"{name} {version(name)}" for name in ("torch", "transformers", "peft")]
        print("\n".join([*lines, f"device {_find_device()}"]))
        parser.exit()


class _PrintCompletion(Action):
    """Write the script by shtab, which knows parsers of argparse."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        try:
            import shtab
        except ImportError:
            parser.error(
                "cannot print a completion: the package shtab is not installed; install it with "
                "`pip install 'nlp-meta[completion]'`"
            )
        whole = build_parser(list(COMMANDS))
        places = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}
        places |= dict.fromkeys(("START", "MODEL", "FOLDER", "CARD", "PLACE"), shtab.FILE)
        for part in list_parsers(whole):
            for action in part._actions:
                if action.metavar in places and not action.choices:
                    vars(action)["complete"] = places[str(action.metavar)]
        print(shtab.complete(whole, shell=str(values)))
        parser.exit()


def _find_device() -> str:
    """The device that commands compute on; a build for CPUs alone need not be loaded to tell."""
    if version("torch").endswith("+cpu"):
        return "cpu"
    from nlp_meta.encoders.backbone import choose_device

    return str(choose_device())


def bound_threads(environment: MutableMapping[str, str], limits: Path = _LIMITS) -> None:
    """Let torch, which reads this when it is loaded, start no more threads than can run.

    It counts the cores of the machine, also in a container that may use only a few of them, and
    threads that wait for a core make everything several times slower.

    Args:
        environment: Gets OMP_NUM_THREADS where torch would start too many; the user's own stays.
        limits: Where a container's share of the processor's time is written, in microseconds.
    """
    if "OMP_NUM_THREADS" in environment:
        return
    words = limits.read_text(encoding="ascii").split() if limits.is_file() else []
    bounded = len(words) == 2 and words[0].isdecimal()
    share = math.ceil(int(words[0]) / int(words[1])) if bounded else _MOST_THREADS
    most = max(1, min(share, _MOST_THREADS))
    if most < (os.cpu_count() or 1):
        environment["OMP_NUM_THREADS"] = str(most)


def _load(command: str) -> Any:
    return import_module(f"nlp_meta.cli.{command}")


def _run(options: Namespace) -> Mapping[str, object]:
    bound_threads(os.environ)
    command, screen = _load(options.command), make_screen(options)
    # Whatever a library prints must not mix with the one JSON object.
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        record: Mapping[str, object] = command.run(options, screen)
    return {**record, "notes": screen.noted} if screen.noted else record


def _stop(message: str) -> int:
    print(f"error: {one_line(message)}", file=sys.stderr)
    return 2


def _explain(error: OSError) -> str:
    place = f"'{error.filename}'" if error.filename else "a file"
    reason = error.strerror or str(error) or type(error).__name__
    return (
        f"cannot read or write {place}: {reason}; a readable input and a writable output with room "
        "for it are needed; correct the path, its permissions or the space on its disk"
    )


def _finite(value: object) -> object:
    """JSON has no word for infinite and not-a-number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
