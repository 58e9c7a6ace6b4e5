"""Quotes of a TSV file: those of a table, or the texts' own."""

import csv
import re
from io import StringIO


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
    try:
        rows = list(csv.reader(StringIO(text, newline=""), delimiter="\t", strict=True))
    except csv.Error:
        return csv.QUOTE_NONE
    if any(len(row) > len(rows[0]) for row in rows):
        return csv.QUOTE_NONE
    joined = any(re.search(r"[\t\r\n]", cell) for row in rows for cell in row)
    tabs = {line.count("\t") for line in StringIO(text, newline="") if line.strip()}
    return csv.QUOTE_NONE if joined and len(tabs) == 1 and 0 not in tabs else csv.QUOTE_MINIMAL
