"""The command line, `nlp-meta`: what a user does, one file a command.

A result goes to standard output, as a table or, with `--json`, as exactly one JSON
object; progress, remarks and errors go to standard error. Nothing heavy is imported
before a command needs it.
"""

import json
import math
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout

from nlp_meta.cli.options import repeat_data
from nlp_meta.cli.parser import build_parser
from nlp_meta.cli.screen import Screen, make_screen
from nlp_meta.errors import NlpMetaError

INTERRUPTED = 130

Command = Callable[[Namespace, Screen], Mapping[str, object]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Those of the process where None.

    Returns:
        The exit code: 0, 2 after an error that the user can mend, 130 after Ctrl-C.

    Raises:
        SystemExit: After `--help`, `--version` or an option that is wrong.
    """
    words = sys.argv[1:] if arguments is None else arguments
    options = build_parser().parse_args(repeat_data(words))
    try:
        record = _run(options)
        if options.json:
            print(json.dumps(_finite(record), allow_nan=False))
        sys.stdout.flush()
    except NlpMetaError as error:
        return _stop(str(error))
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


def _run(options: Namespace) -> Mapping[str, object]:
    command = _find_command(_name_command(options))
    if not options.json:
        return command(options, make_screen(as_json=False))
    # Whatever a library prints must not mix with the one JSON object.
    with redirect_stdout(sys.stderr):
        return command(options, make_screen(as_json=True))


def _name_command(options: Namespace) -> str:
    """Translations have commands of their own, told by options or by the kind of the model."""
    if options.command in ("adapt", "compare") and (options.source_lang or options.target_lang):
        return f"{options.command} pairs"
    if options.command == "evaluate":
        from nlp_meta.cli.evaluate_pairs import finds_translations, writes_translations

        if finds_translations(options.model):
            return "evaluate alignment"
        return "evaluate pairs" if writes_translations(options.model) else "evaluate"
    return str(options.command)


def _find_command(name: str) -> Command:
    match name:
        case "adapt":
            from nlp_meta.cli.adapt import run_adapt as command
        case "adapt pairs":
            from nlp_meta.cli.adapt_pairs import run_adapt_pairs as command
        case "translate":
            from nlp_meta.cli.translate import run_translate as command
        case "align":
            from nlp_meta.cli.align import run_align as command
        case "predict":
            from nlp_meta.cli.predict import run_predict as command
        case "evaluate":
            from nlp_meta.cli.evaluate import run_evaluate as command
        case "evaluate pairs":
            from nlp_meta.cli.evaluate_pairs import run_evaluate_pairs as command
        case "evaluate alignment":
            from nlp_meta.cli.evaluate_pairs import run_evaluate_alignment as command
        case "compare":
            from nlp_meta.cli.compare import run_compare as command
        case "compare pairs":
            from nlp_meta.cli.compare_pairs import run_compare_pairs as command
        case "recommend":
            from nlp_meta.cli.recommend import run_recommend as command
        case "export":
            from nlp_meta.cli.export import run_export as command
        case "update":
            from nlp_meta.cli.update import run_update as command
        case "quickstart":
            from nlp_meta.cli.quickstart import run_quickstart_command as command
        case "push":
            from nlp_meta.cli.push import run_push as command
        case "serve":
            from nlp_meta.cli.serve import run_serve as command
        case _:
            from nlp_meta.cli.cards import run_cards as command
    return command


def _stop(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
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
