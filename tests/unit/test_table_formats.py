"""Tables as bytes: what is written is read again, and no more is kept than was asked for."""

import pytest

from nlp_meta.tables.formats import WRITTEN_TABLES, parse_table, render_table
from nlp_meta.tables.rows import TableError

ROWS = (
    {"text": 'A "quiet" street,\nthey said', "label": "NA"},
    {"text": "a\ttab", "label": "007"},
    {"text": "null", "label": "Łódź"},
)


@pytest.mark.parametrize("form", WRITTEN_TABLES)
def test_what_is_written_is_read_again(form):
    rows = parse_table(form, render_table(form, ("text", "label"), ROWS))

    assert (rows.columns, rows.cells, rows.count) == (("text", "label"), ROWS, 3)


@pytest.mark.parametrize(
    ("form", "lines"), [("csv", (2, 4, 5)), ("jsonl", (1, 2, 3)), ("parquet", (1, 2, 3))]
)
def test_a_row_knows_where_it_begins(form, lines):
    """By hand: the first row of the CSV file spans lines 2 and 3."""
    assert parse_table(form, render_table(form, ("text", "label"), ROWS)).lines == lines


@pytest.mark.parametrize("form", WRITTEN_TABLES)
def test_rows_beyond_the_most_are_counted_and_columns_not_wanted_are_left(form):
    content = render_table(form, ("text", "label"), ROWS)

    few, narrow = (
        parse_table(form, content, most=1),
        parse_table(form, content, columns=["label", "x"]),
    )

    assert few.count == 3 and len(few.cells) <= 1
    assert narrow.columns == ("text", "label")
    assert narrow.cells == tuple({"label": row["label"]} for row in ROWS)


def test_the_line_of_a_fault_in_an_array_is_that_of_the_text():
    with pytest.raises(TableError, match="it is not JSON") as caught:
        parse_table("json", b'[\n{"text": "a"},\n{"text": oops}\n]')

    assert caught.value.line == 3
