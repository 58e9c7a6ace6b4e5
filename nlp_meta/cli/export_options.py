"""The options of `export`."""

from argparse import ArgumentParser
from pathlib import Path

from nlp_meta.cli.options import add_text_column, positive


def add_export(command: ArgumentParser) -> None:
    """Add what `export` takes."""
    command.add_argument(
        "model", metavar="MODEL", help="adapted model: a folder, or a name on the Hub"
    )
    command.add_argument(
        "--format", choices=("onnx",), default="onnx", help="of the files (default: %(default)s)"
    )
    command.add_argument(
        "--output-dir",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder for model.onnx, tokenizer.json, labels.json and run.py; an earlier export is "
        "replaced at the end",
    )
    command.add_argument(
        "--quantize",
        choices=("int8", "none"),
        default="int8",
        help="a second graph with weights of eight bits, or none (default: %(default)s)",
    )
    command.add_argument(
        "--opset",
        type=positive,
        metavar="N",
        help="version of ONNX's operators (default: the exporter's own)",
    )
    command.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="table of texts to compare the answers on (default: built-in reviews); .csv, .tsv, "
        ".jsonl, .json or .parquet",
    )
    add_text_column(command)
