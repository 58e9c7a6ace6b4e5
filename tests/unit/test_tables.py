"""Users' tables: the same rows from every format, and one sentence for every bad file."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from nlp_meta.errors import DataError
from nlp_meta.files.tables import read_table

TEXTS = ("The agent called back, twice.", "NA", "null", 'A "quiet" street,\nthey said', "007")
LABELS = ("1", "0", "1", "0", "1")


def write(path: Path, texts, labels, text_column="text", label_column="label") -> Path:
    """Written by hand or by the standard library, so that reading has an independent partner."""
    columns = {text_column: list(texts), label_column: list(labels)}
    rows = [{text_column: t, label_column: y} for t, y in zip(texts, labels, strict=True)]
    if path.suffix in (".csv", ".tsv"):
        separator = "," if path.suffix == ".csv" else "\t"
        quoted = [[f'"{str(c).replace(chr(34), chr(34) * 2)}"' for c in r.values()] for r in rows]
        lines = [separator.join(cells) for cells in [[text_column, label_column], *quoted]]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        pq.write_table(pa.table(columns), path)
    return path


def raw(tmp_path: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
@pytest.mark.parametrize("labels", [LABELS, [int(y) for y in LABELS], [float(y) for y in LABELS]])
def test_every_format_gives_the_same_rows(tmp_path, ending, labels):
    path = write(tmp_path / f"reviews.{ending}", TEXTS, labels)

    table = read_table(path, max_rows=5)

    assert (table.texts, table.labels) == (TEXTS, LABELS)
    assert (table.columns, table.path) == (("text", "label"), path)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_boolean_labels_become_text(tmp_path, ending):
    path = write(tmp_path / f"reviews.{ending}", ["a", "b"], [True, False])

    assert read_table(path, max_rows=9).labels == ("True", "False")


def test_class_labels_of_a_parquet_file_become_their_names(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = {"text": ["a", "b"], "label": [1, 0]}
    path = tmp_path / "reviews.parquet"
    Dataset.from_dict(rows, features=features).to_parquet(str(path))

    assert read_table(path, max_rows=9).labels == ("good", "bad")


def test_columns_may_have_any_names_and_labels_may_be_left_out(tmp_path):
    path = write(tmp_path / "reviews.csv", ["a", "b"], ["x", "y"], "Review text", "stars")

    table = read_table(path, text_column="Review text", label_column=None, max_rows=9)

    assert (table.texts, table.labels) == (("a", "b"), None)
    assert table.columns == ("Review text", "stars")
    named = read_table(path, text_column="Review text", label_column="stars", max_rows=9)
    assert named.labels == ("x", "y")


def test_a_number_is_the_same_label_whatever_stands_beside_it(tmp_path):
    """Else a part of the table, with numbers only, would have another label."""
    path = write(tmp_path / "versions.csv", ["a", "b"], ["1.0", "beta"])

    assert read_table(path, max_rows=9).labels == ("1", "beta")


def test_byte_order_mark_and_blank_rows_at_the_end_do_no_harm(tmp_path):
    path = raw(tmp_path, "\ufefftext,label\r\nfine,pos\r\n,\r\n\r\n")

    assert read_table(path, max_rows=1).texts == ("fine",)


def test_names_with_pattern_characters_are_plain_names(tmp_path):
    folder = tmp_path / ".hidden" / "a[1]*"
    folder.mkdir(parents=True)

    assert read_table(raw(folder, "text,label\na,b\n", "x[2].csv"), max_rows=9).texts == ("a",)


def test_ten_thousand_rows_keep_their_order(tmp_path):
    """More rows than one chunk of the reader holds; only the last label is not a number."""
    texts = [f"row {i}" for i in range(10_500)]
    path = write(tmp_path / "long.csv", texts, ["1"] * 10_499 + ["no"])

    table = read_table(path, max_rows=20_000)

    assert table.texts == tuple(texts)
    assert table.labels == ("1",) * 10_499 + ("no",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.docx",
            "x",
            r"its ending '.docx' is unknown, one of \.csv, .*\.xlsx, .*, or ",
        ),
        ("a.csv", "", r"it has no rows"),
        ("a.csv", "text,label\n", r"it has no rows"),
        ("a.jsonl", "", r"it has no rows"),
        ("a.csv", "text,label\na,b\n,c\n", r"no text \(line 3\).*`text_column`"),
        (
            "a.jsonl",
            '{"text":"a","label":1}\n{"text":null,"label":1}\n',
            r"1 of 2 rows has no text \(line 2\)",
        ),
        ("a.csv", "text,label\na,b\nc,d\ne, \n", r"no label \(line 4\).*`label_column`"),
        ("a.csv", "text,label\na,b\nc\n", r"no label \(line 3\)"),
        ("a.jsonl", '{"text":"a","label":1}\n{"text":"b"}\n', r"no label \(line 2\)"),
        ("a.csv", "Txt,label\na,b\n", r"'text' .*are 'Txt', 'label' \(nearest: 'Txt'\)"),
        ("a.csv", "text,lable\na,b\n", r"nearest: 'lable'\); .*`label_column`"),
        ("a.jsonl", '{"txt":"a","label":1}\n', r"nearest: 'txt'\); .*`text_column`"),
        ("a.csv", "text,text,label\na,b,c\n", r"2 have that name"),
        ("a.csv", "text,label\nno, no,bad\n", r"line 2: it has 3 cells where the header has 2"),
        (
            "a.csv",
            b"text,label\ntr\xe8s,a\n",
            r"byte 0xe8 in line 2 is not UTF-8.*'très' in cp1252.*`encoding`",
        ),
        ("a.jsonl", b'{"text":"tr\xe8s","label":1}\n', r"byte 0xe8 in line 1 is not UTF-8"),
        ("a.csv", 'text,label\n"a, b,c\nd,e\n', r"line 2: a cell begins with \" and does not"),
        ("a.jsonl", '{"text":"a","label":1}\n{"text": b}\n', r"a well-formed .jsonl file"),
        ("a.json", '[{"text":"a"', r"a well-formed .json file is needed"),
        (
            "a.jsonl",
            '{"text":"a","label":1}\n{"text":"\\ud800","label":1}\n',
            r"line 2: .*half of",
        ),
        (
            "a.json",
            '[{"text":"a","label":"\\udc00"}]',
            r"line 1: a text has half of a surrogate",
        ),
        ("a.json", '[{"text":["a"],"label":"b"}]', r"line 1 has a list in column 'text'"),
        ("a.parquet", "x", r"a well-formed .parquet file is needed"),
    ],
)
def test_a_bad_table_stops_with_one_sentence(tmp_path, name, content, message):
    path = raw(tmp_path, content, name)

    with pytest.raises(DataError, match=message) as caught:
        read_table(path, max_rows=100)

    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_stops(tmp_path):
    with pytest.raises(DataError, match=r"there is no such file.*check the path"):
        read_table(tmp_path / "nope.csv", max_rows=9)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "parquet"])
def test_more_rows_than_are_taken_stop(tmp_path, ending):
    path = write(tmp_path / f"long.{ending}", ["a"] * 1000, ["b"] * 1000)

    with pytest.raises(DataError, match=r"1000 rows where at most 999 are taken;.*`max_rows`"):
        read_table(path, max_rows=999)
    assert len(read_table(path, max_rows=1000).texts) == 1000


def test_quotes_of_texts_join_no_rows_of_a_tsv_file(tmp_path):
    """Half a quotation in each of two rows: every line has the header's two cells already."""
    rows = '"I was glad.\tpositive\nThen it broke."\tnegative\n'
    path = raw(tmp_path, f"text\tlabel\n{rows}", "a.tsv")

    table = read_table(path, max_rows=9)

    assert table.texts == ('"I was glad.', 'Then it broke."')
    assert table.labels == ("positive", "negative")


def test_a_tsv_file_with_quotes_of_its_own_is_taken_as_written(tmp_path):
    path = raw(tmp_path, 'text\tlabel\n"Good" value\tpositive\n', "a.tsv")

    assert read_table(path, max_rows=9).texts == ('"Good" value',)


def test_a_quoted_cell_of_a_tsv_file_may_hold_tabs_and_line_breaks(tmp_path):
    path = raw(tmp_path, 'text\tlabel\n"one\tor\ttwo\nthree"\tpositive\n', "a.tsv")

    assert read_table(path, max_rows=9).texts == ("one\tor\ttwo\nthree",)


def test_a_tsv_file_of_one_column_may_quote_line_breaks(tmp_path):
    path = raw(tmp_path, 'text\n"one\ntwo"\nthree\n', "a.tsv")

    assert read_table(path, label_column=None, max_rows=9).texts == ("one\ntwo", "three")


def test_nothing_is_left_behind_and_nothing_is_printed(tmp_path):
    """A process of its own with its own home and temporary folder: both stay empty."""
    path = raw(tmp_path, "text,label\na,b\n")
    broken = raw(tmp_path, '{"text": oops}\n', "broken.jsonl")
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    program = (
        "import sys\n"
        "from nlp_meta.files.tables import read_table\n"
        "from nlp_meta.errors import DataError\n"
        "read_table(sys.argv[1], max_rows=9)\n"
        "try:\n"
        "    read_table(sys.argv[2], max_rows=9)\n"
        "except DataError:\n"
        "    pass\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(broken)],
        env={"HF_HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [*home.rglob("*"), *temporary.rglob("*")] == []
