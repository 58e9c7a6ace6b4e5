"""Tables: what is written comes back cell by cell, and any content is rows or one sentence."""

import csv
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_meta.errors import NlpMetaError
from nlp_meta.files.tables import read_table
from nlp_meta.tables.formats import WRITTEN_TABLES, parse_table, render_table
from nlp_meta.tables.rows import TableError

quick = settings(max_examples=30, deadline=None, derandomize=True, database=None)

# Half of a surrogate pair cannot be written; a lone CR is a line end to some programs.
CELLS = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\r\ufeff"), max_size=30
) | st.sampled_from(
    ("007", "NA", "null", "2024-01-01", "=1+1", "1e5", "true", "'a'", 'a "b" c', "\\")
)
TABLES = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6).map(
    lambda rows: [*rows, ("the last", "row")]
)
PIECES = st.lists(
    st.sampled_from(
        [
            *"\",;|\t\n\r'\\[]{}:#",
            "text,label\n",
            '{"text": "a"}\n',
            "sep=;\n",
            "“",
            "”",
            "null",
            "1e999",
            *("a", "text", "label", "\x00", "\ufeff", "\u2028", "é", '""', "__label__a b\n"),
        ]
    ),
    max_size=40,
).map("".join)
CONTENTS = (
    st.binary(max_size=200)
    | PIECES.map(str.encode)
    | PIECES.map(lambda text: text.encode("utf-16"))
    | PIECES.map(lambda text: text.encode("cp1252", "replace"))
    | st.binary(max_size=60).map(lambda tail: b"PK\x03\x04" + tail)
    | st.binary(max_size=60).map(lambda tail: b"PAR1" + tail + b"PAR1")
)


SLOW = [
    pytest.param(form, marks=pytest.mark.slow) if form in ("xlsx", "parquet") else form
    for form in WRITTEN_TABLES
]


@pytest.mark.parametrize("form", SLOW)
@quick
@given(TABLES)
def test_cells_come_back_as_they_were_written(form, rows):
    """A row whose cells are all empty stays a row."""
    written = [{"text": text, "label": label} for text, label in rows]
    if form == "xlsx":  # a workbook has no rows without cells, and no empty texts
        written = [row for row in written if row["text"] and row["label"]]

    content = render_table(form, ("text", "label"), written)

    read = parse_table(form, content, known=("text", "label"))
    assert [dict(row) for row in read.cells] == written


@quick
@given(TABLES, st.sampled_from(",;|\t"), st.sampled_from(("\n", "\r\n")), st.booleans())
def test_a_csv_of_the_standard_library_comes_back(rows, separator, line_end, quote_all):
    out = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=separator, lineterminator=line_end, quoting=quoting)
    writer.writerows([("text", "label"), *rows])

    read = parse_table("csv", out.getvalue().encode(), known=("text", "label"))

    assert [tuple(row.values()) for row in read.cells] == rows


@pytest.mark.parametrize("form", ["csv", "tsv", "txt", "jsonl", "json", "parquet", "xlsx"])
@quick
@given(CONTENTS)
def test_any_content_is_rows_or_one_sentence(form, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table.{form}"
        path.write_bytes(content)
        sentence = ""
        try:
            table = read_table(path, label_column=None, max_rows=100)
        except NlpMetaError as error:
            sentence = str(error)
    assert len(sentence) <= 2000 and "\n" not in sentence
    assert sentence or all(isinstance(text, str) for text in table.texts)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | CELLS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(CELLS, inner, max_size=4),
    max_leaves=12,
)


@quick
@given(st.lists(JSON, max_size=4), st.booleans())
def test_any_json_is_rows_or_a_table_error(values, in_lines):
    text = "\n".join(map(json.dumps, values)) if in_lines else json.dumps(values)
    try:
        rows = parse_table("json", text.encode(), known=("text",))
    except TableError:
        return
    assert len(rows.cells) == rows.count == len(rows.lines)
