"""The options of `update`, and how a new domain is named."""

import math
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from nlp_meta.cli.options import add_label_options, add_seed, positive


def add_update(command: ArgumentParser) -> None:
    """Add what `update` takes."""
    command.add_argument("meta", metavar="META", help="meta-model: a folder, or a name on the Hub")
    command.add_argument(
        "--add-domain",
        required=True,
        action="append",
        type=_domain,
        metavar="NAME=FILE",
        help="a new domain and its table of labeled texts; may be given several times",
    )
    command.add_argument(
        "--output-dir",
        required=True,
        type=Path,
        metavar="DIR",
        help="new or empty folder for the new meta-model",
    )
    add_label_options(command)
    command.add_argument(
        "--steps",
        type=positive,
        metavar="N",
        help="outer steps (default: a quarter of those of the first training)",
    )
    command.add_argument(
        "--replay",
        type=_share,
        default=0.5,
        metavar="SHARE",
        help="share of the episodes that old tasks give, from 0 to below 1 (default: %(default)s)",
    )
    command.add_argument(
        "--data-root",
        metavar="DIR",
        help="folder of the old tasks' files (default: the environment's NLP_META_DATA)",
    )
    add_seed(command)


def _domain(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (equals and name.strip() and path) or "/" in name:
        raise ArgumentTypeError(
            f"{text!r} is not of the form NAME=FILE, such as fashion=fashion.csv"
        )
    return name.strip(), Path(path)


def _share(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < 1:
        raise ArgumentTypeError(f"{text!r} is not a share, a number from 0 to below 1 is needed")
    return found
