"""Quotes of delimited files: those of a table, or the texts' own."""

import csv
import re
from io import StringIO
from pathlib import Path


def table_quoting(path: Path) -> int:
    """How `csv` is to take the double quotes of a CSV or TSV file in UTF-8; see `tsv_quoting`."""
    if path.suffix.lower() != ".tsv":
        return csv.QUOTE_MINIMAL
    with path.open(encoding="utf-8-sig", newline="") as file:
        return tsv_quoting(file.read())


def tsv_quoting(text: str) -> int:
    """How `csv` is to take the double quotes of a TSV file.

    Most corpora write texts as they are, quotes included. So quotes are the texts' own where
    they do not keep to the form of a table, and where they would join lines that are rows of
    one width already.

    Args:
        text: The whole file.

    Returns:
        `csv.QUOTE_MINIMAL`, or `csv.QUOTE_NONE` where quotes are the texts' own.
    """
    if '"' not in text:
        return csv.QUOTE_MINIMAL
    try:
        rows = list(csv.reader(StringIO(text, newline=""), delimiter="\t", strict=True))
    except csv.Error:
        return csv.QUOTE_NONE
    if any(len(row) > len(rows[0]) for row in rows):
        return csv.QUOTE_NONE
    joined = any(re.search(r"[\t\r\n]", cell) for row in rows for cell in row)
    tabs = {line.count("\t") for line in StringIO(text, newline="") if line.strip()}
    return csv.QUOTE_NONE if joined and len(tabs) == 1 and 0 not in tabs else csv.QUOTE_MINIMAL
