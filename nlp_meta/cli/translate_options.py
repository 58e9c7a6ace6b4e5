"""Options of `nlp-meta translate`, and of pairs in files wherever they are given."""

from argparse import ArgumentParser
from pathlib import Path

from nlp_meta.cli.options import positive


def add_translate(command: ArgumentParser) -> None:
    """Add the options of `nlp-meta translate`."""
    command.add_argument(
        "model",
        metavar="MODEL",
        help="model adapted to sentence pairs: a folder, or a name on the Hub",
    )
    command.add_argument(
        "--data",
        required=True,
        type=Path,
        metavar="FILE",
        help="what to translate: .txt with one sentence a line, .csv, .tsv, .jsonl, .po, .pot or "
        ".xliff; what is translated already is left alone",
    )
    command.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="FILE",
        help="file to write: of the same ending, the same file with its gaps filled; or .txt, "
        ".csv, .tsv, .jsonl, .po, .tmx or .xliff of the pairs",
    )
    command.add_argument(
        "--num-beams",
        type=positive,
        metavar="N",
        help="of the search, 1 is greedy and fastest (default: the model's own setting)",
    )
    command.add_argument(
        "--long-texts",
        choices=("cut", "stop"),
        default="cut",
        help="texts longer than the model takes are cut and counted, or are an error "
        "(default: %(default)s)",
    )
    add_columns(command)


def add_columns(command: ArgumentParser) -> None:
    """Add the names of both columns of a table of pairs."""
    for side in ("source", "target"):
        command.add_argument(
            f"--{side}-column",
            default=side,
            metavar="NAME",
            help=f"column of {side} sentences, in a table (default: %(default)s)",
        )


def add_pairs(command: ArgumentParser) -> None:
    """Add the languages of a translation memory, and the names of its columns."""
    for side, word in (("source", "from"), ("target", "into")):
        command.add_argument(
            f"--{side}-lang",
            metavar="CODE",
            help=f"language to translate {word}: a code such as "
            f"{'ind, id or pt-BR' if side == 'source' else 'jav, jv or zh-Hant'}, or the model's "
            "own; with it --data is a translation memory: .tmx, .xliff, .po, a table, or two "
            "aligned texts, of which one is enough where they are named x.ind and x.jav, or "
            "x.ind.txt",
        )
    add_columns(command)
