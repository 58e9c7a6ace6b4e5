"""Tables as people's programs write them: each is read and told, or named with a way out."""

import gzip
import io
import json
import time
import zipfile

import openpyxl
import pytest
from openpyxl.chart import BarChart

from nlp_meta.errors import DataError
from nlp_meta.files.tables import read_table

ROWS = [("Good, really", "pos"), ("Bad; sad", "neg"), ("Fine", "pos"), ("So so, no", "neg")] * 3
TEXTS = tuple(text for text, _ in ROWS)
CSV = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS)
RECORDS = [{"text": text, "label": label} for text, label in ROWS]
LISTS = [[text, label] for text, label in ROWS]


RULE = "+" + ("-" * 22 + "+") * 2
BARS = ["|" + "|".join(f" {cell:<20} " for cell in row) + "|" for row in (("text", "label"), *ROWS)]
DRAWN = [RULE, BARS[0], RULE, *BARS[1:], RULE, "12 rows in set (0.00 sec)"]


def read(folder, content, name="table.csv", **arguments):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, max_rows=999, **arguments)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (CSV.replace("\n", "\r"), ""),
        (CSV.replace("\n", "\r\r\n"), ""),
        (CSV.replace("\n", "\n\n"), ""),
        ("\n" + CSV.replace("s\n", "s,\n").replace("g\n", "g,,\n"), ""),
        (CSV.replace('",', '";').replace("text,", "text;"), "the separator is ';'"),
        ("sep=;\n" + CSV.replace('",', '";').replace("text,", "text;"), "the separator is ';'"),
        (CSV.replace('",', '"\t').replace("text,", "text\t"), "the separator is a tabulator"),
        (CSV.replace('"', "'"), "cells stand between ' and '"),
        ("# of today\n" + CSV, "the header is line 2"),
        ("Report,,\n\n" + CSV, "the header is line 3"),
        (CSV + CSV, "rows that repeat the header are left out: 1"),
        (CSV + "\ufeff" + CSV, "rows that repeat the header are left out: 1"),
        (CSV + "\x1a", ""),
        (CSV + "\0" * 40, ""),
        (CSV.replace('",', '"^').replace("text,", "text^"), "the separator is '^'"),
        (CSV.replace('",', '"\x01').replace("text,", "text\x01"), "the separator is '\\x01'"),
        (
            "| text | label |\n|:---|---|\n"
            + "".join(f"| {text} | {label} |\n" for text, label in ROWS),
            "the separator is '|'",
        ),
        ("\n".join(DRAWN), "it is a table drawn with bars"),
        ("\n".join(DRAWN[:-1]).replace("--", "=="), "it is a table drawn with bars"),
        ("\n".join(DRAWN[:-1]).translate({43: "┼", 45: "─", 124: "│"}), "it is a table drawn"),
        ("\n".join(row.strip("|+") for row in DRAWN[1:-2]) + "\n(12 rows)\n", "drawn with bars"),
        (CSV.encode("utf-16"), "the encoding is UTF-16, by its byte order mark"),
        (CSV.encode("utf-16-be"), "the encoding is UTF-16-BE"),
        (json.dumps(RECORDS), "it is read as JSON"),
    ],
)
def test_a_table_is_read_whatever_wrote_it_and_what_was_taken_is_told(tmp_path, content, note):
    table = read(tmp_path, content)

    assert set(table.texts) == set(TEXTS) and len(table.texts) % len(TEXTS) == 0
    assert note in " ".join(table.notes) and bool(note) == bool(table.notes)


@pytest.mark.parametrize(
    "value",
    [
        {"meta": {"n": 1}, "data": RECORDS},
        {"columns": ["text", "label"], "index": [0], "data": LISTS},
        {"values": [["text", "label"], *LISTS]},
        {"text": list(TEXTS), "label": [label for _, label in ROWS]},
        {name: {str(n): row[name] for n, row in enumerate(RECORDS)} for name in ("text", "label")},
        {str(n): row for n, row in enumerate(RECORDS)},
    ],
)
def test_json_around_rows_is_read(tmp_path, value):
    table = read(tmp_path, json.dumps(value), "table.json")

    assert (table.texts, len(table.notes)) == (TEXTS, 1)


@pytest.mark.parametrize("joint", ["\n", "\n\n", " \r\n", "\x1e", "\ufeff"])
def test_json_values_are_rows_whatever_stands_between_them(tmp_path, joint):
    values = joint.join([json.dumps(RECORDS[:2]), *map(json.dumps, RECORDS[2:])])

    assert read(tmp_path, joint + values, "table.jsonl").texts == TEXTS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "%PDF-1.7", "it is a PDF, .*copy its table"),
        ("a.txt", "%PDF-1.7", "it is a PDF, .*copy its table"),
        ("a.csv", "INSERT INTO t (text,label) VALUES\n('a','b')", "SQL.*export the table as .csv"),
        ("a.csv", "@RELATION x\n@DATA\n'a',b\n", "a file of Weka.*save it in Weka"),
        ("a.tsv", "#FORMAT=WebAnno TSV 3.3\n", "labels parts of texts.*write each whole text"),
        ("a.txt", "# sent_id = 1\n1\tThe\tthe\n", "a CoNLL file.*write each whole text"),
        *(
            ("a.txt", drawn, f"line {line}: it is part of a text of several lines")
            for line, drawn in (
                (3, " text | label\n------+----\n a   +| good\n b    | \n"),
                (3, " text | label\n──────┼────\n a   ↵│ good\n b    │ \n"),
                (4, " text | label\n------+----\n a    | good\n.b    | \n"),
                (4, " text | label\n------+----\n a    | good\n b    : \n"),
                (4, f"{RULE}\n| text | label |\n{RULE}\n| a\nb | good |\n{RULE}\n"),
                (
                    5,
                    "+---+---+\n| text | label |\n+===+===+\n| a | good |\n| b |  |\n+---+---+\n"
                    "| c | bad |\n+---+---+\n",
                ),
            )
        ),
        ("a.txt", "-[ RECORD 1 ]\ntext | a\nlabel | good\n", "a listing of a database.*as .csv"),
        ("a.txt", "EU B-ORG\nrejects O\n\nPeter B-PER\n", "a CoNLL file.*write each whole text"),
        ("a.tsv", "1" + "\tx" * 9 + "\n2" + "\tx" * 9 + "\n", "a CoNLL file"),
        (
            "a.json",
            '{"images": [{"id": 1}], "annotations": [{"id": 1}]}',
            "COCO, which labels pict",
        ),
        ("a.json", '[{"data_row": {}, "projects": {}}]', "an export of Labelbox: .*write rows"),
        (
            "a.csv",
            "text,n,good,bad\na,1,0.9,.1\nb,2,0.25,0.75\n",
            "'good', 'bad': they hold shares",
        ),
        ("a.csv", "text,good,bad\na,90%,10%\nb,25%,75%\n", "that add up to 100 in each row"),
        ("a.csv", "<!doctype html><p>Sign in", "it is a web page.*load it anew"),
        ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel 97-2003.*save it as .xlsx"),
        ("a.csv", "text,label\n" + "a,pos\nb,neg\n" * 3 + '"c,pos\nd",neg\n', "line 8: its quote"),
        ("a.json", json.dumps({"a": RECORDS, "b": RECORDS}), "2 lists .* under 'a', 'b'"),
        ("a.jsonl", "null\n", "line 1: it is not a JSON object but null"),
        ("a.jsonl", '{"a":' + "[" * 30_000 + "]" * 30_000 + "}", "line 1: .*nested too deeply"),
        ("a.jsonl", '{"text": "a", "text": "b"}', "line 1: its key 'text' is there twice"),
        ("a.csv", b"text,label\nwell,a\ncaf\xc3\xa9,b\ntr\xe8s,c\n", "line 4 .*most"),
        ("a.csv", b"PAR1....PAR1", "it is a Parquet file that is damaged"),
        (
            "a.sas7bdat",
            b"\0" * 12 + b"\xc2\xea\x81\x60" + b"\0" * 99 + b"a",
            "a binary file .*open it",
        ),
        ("a.csv", b"\0" * 99, "a binary file of a program"),
        ("a.csv", b"text,label\n" + "a b,c\n".encode("utf-16-le") * 9, "a binary file"),
        ("a.arrow", b"\xff\xff\xff\xff\0", "an Arrow stream"),
        ("a.csv", "HEADER RECORD*******LIBRARY", "a transport file of SAS"),
        (
            "a.tgz",
            gzip.compress(b"a.csv".ljust(257, b"\0") + b"ustar", mtime=0),
            "an archive .*unpack it",
        ),
        ("a.gsheet", '{"url": "https://docs.google.com/a"}', "a link .*download the table"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content, name)


def test_a_stray_quote_swallows_no_rows(tmp_path):
    """By hand: the quote of line 3 closes nowhere, so that each line is a row."""
    table = read(tmp_path, 'text,label\na,pos\n"b,neg\nc,pos\n')

    assert table.texts == ("a", '"b', "c")
    assert table.notes == ("a quote that encloses no cell is part of the text (line 3)",)


def test_a_text_of_several_lines_with_commas_is_one_cell(tmp_path):
    table = read(tmp_path, CSV + '"First, then\nsecond, last",pos\n')

    assert table.texts[-1] == "First, then\nsecond, last"


def test_backslashes_before_quotes_are_no_part_of_a_text(tmp_path):
    table = read(tmp_path, 'text,label\n"so \\"good\\", yes",pos\nb,neg\n')

    assert table.texts == ('so "good", yes', "b")


def test_a_text_may_be_longer_than_the_reader_of_the_standard_library_takes(tmp_path):
    assert len(read(tmp_path, f"text,label\n{'a ' * 100_000}b,pos\n").texts[0]) == 200_001


def test_a_first_row_that_comes_again_is_a_row_where_there_is_no_header(tmp_path):
    table = read(tmp_path, CSV.split("\n", 1)[1])

    assert table.texts == TEXTS


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Très déçu, ça"),
        ("cp1250", "Dostawa przyszła za późno, nie działa"),
        ("cp1251", "Доставка пришла слишком поздно, коробка была повреждена, не рекомендую"),
        ("cp932", "とても良い商品です"),
        (
            "gb18030",
            "送货太晚了 非常好的产品 推荐购买 不能用 很失望 质量很好 谢谢 盒子坏了 下次还会再来的",
        ),
        ("koi8_r", "Доставка пришла слишком поздно, коробка была повреждена, не рекомендую"),
    ],
)
def test_an_encoding_beyond_doubt_is_taken_and_told(tmp_path, encoding, text):
    content = f'text,label\n"{text}",pos\nplain,neg\n'

    table = read(tmp_path, content.encode(encoding))

    assert table.texts == (text, "plain")
    assert table.notes[0].startswith(f"the encoding is {encoding}")


def test_an_encoding_in_doubt_is_the_users_to_say(tmp_path):
    content = 'text,label\n"a très b",pos\n'.encode("cp1252")
    with pytest.raises(DataError, match=r"'très' in cp1252, 'trčs' in cp1250.*`encoding`"):
        read(tmp_path, content)

    assert read(tmp_path, content, encoding="cp1252").texts == ("a très b",)
    with pytest.raises(DataError, match="there is no encoding 'klingon'"):
        read(tmp_path, content, encoding="klingon")


def test_an_encoding_that_the_bytes_contradict_is_doubted(tmp_path):
    table = read(tmp_path, "text,label\ncafé,pos\n", encoding="cp1252")

    assert table.texts == ("cafÃ©",)
    assert table.notes == ("it is read as cp1252, though most of it is valid UTF-8",)


def workbook(**sheets) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


HEADER = ["text", "label"]


def test_a_workbook_gives_what_a_person_sees(tmp_path):
    rows = [["Report"], [], HEADER, ["007", 1.0], [42, 0], ["NA", True], [], ["#N/A", 1]]
    content = workbook(Reviews=rows, Notes=[["by hand"]])

    table = read(tmp_path, content, "table.xlsx", empty="skip")

    assert (table.texts, table.labels) == (("007", "42", "NA"), ("1", "0", "True"))
    assert table.lines == (4, 5, 6)


def test_one_of_several_sheets_is_the_users_to_say(tmp_path):
    content = workbook(May=[HEADER, ["a", "x"]], June=[HEADER, ["b", "y"]])
    with pytest.raises(DataError, match=r"2 sheets that may be meant, 'May', 'June'.*`sheet`"):
        read(tmp_path, content, "table.xlsx")

    assert read(tmp_path, content, "table.xlsx", sheet="June").texts == ("b",)
    with pytest.raises(DataError, match=r"no sheet 'July'.*'May', 'June'"):
        read(tmp_path, content, "table.xlsx", sheet="July")
    for name in ("table.csv", "table.txt"):
        with pytest.raises(DataError, match=r"no workbook.*leave `sheet` out"):
            read(tmp_path, b"text,label\na,good\nb,bad\n", name, sheet="July")


def test_a_workbook_tells_of_merged_hidden_and_repeated_rows(tmp_path):
    """By hand: one label stands beside two texts, a filter hides the third, a page has a header."""
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (HEADER, ["a", "x"], ["b"], HEADER, ["c", "y"]):
        sheet.append(row)
    sheet.merge_cells("B2:B3")
    sheet.row_dimensions[5].hidden = True
    book.create_sheet("About").append(["by hand"])
    book.save(tmp_path / "a.xlsx")

    table = read(tmp_path, (tmp_path / "a.xlsx").read_bytes(), "a.xlsx")

    assert (table.texts, table.labels) == (("a", "b", "c"), ("x", "x", "y"))
    told = ("merged cells count", "rows that are hidden", "repeat the header are left out: 1")
    assert all(words in " ".join(table.notes) for words in told)
    sheet.sheet_state = "hidden"
    book.active = 1
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match=r"may be meant, 'About', 'Sheet'"):
        read(tmp_path, (tmp_path / "a.xlsx").read_bytes(), "a.xlsx")


@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_signs_of_web_pages_are_told_and_stay(tmp_path, form):
    """By hand: two of four rows; `&foo;` and a bare & are no such signs, &amp;quot; is one."""
    cells = ["caf&eacute; b.,R&D", "a &foo; & b,R&D", "He said &amp;quot;c,x", "d,x"]
    content = "\n".join(["text,label", *cells]) + "\n"

    table = read(tmp_path, content.replace(",", "\t" if form == "tsv" else ","), f"a.{form}")

    assert table.texts[0] == "caf&eacute; b."
    (note,) = table.notes
    assert note.startswith("2 of 4 rows") and "'&eacute;' for 'é' (lines 2 and 4)" in note


def test_a_workbook_of_charts_alone_is_named(tmp_path):
    book = openpyxl.Workbook()
    book.remove(book.active)
    book.create_chartsheet("Sales").add_chart(BarChart())
    book.save(tmp_path / "a.xlsx")

    with pytest.raises(DataError, match=r"it has charts only \('Sales'\)"):
        read(tmp_path, (tmp_path / "a.xlsx").read_bytes(), "a.xlsx")


def test_a_formula_without_a_value_stops(tmp_path):
    with pytest.raises(DataError, match="row 2 has a formula without a value"):
        read(tmp_path, workbook(A=[HEADER, ["=1+1", "x"]]), "table.xlsx")


def test_a_workbook_that_defines_entities_is_refused(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("xl/workbook.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")

    with pytest.raises(DataError, match="defines entities"):
        read(tmp_path, out.getvalue(), "table.xlsx")


def test_text_that_was_read_twice_is_doubted(tmp_path):
    """é is C3 A9 in UTF-8, which cp1252 reads as two letters."""
    table = read(tmp_path, "ï»¿text,label\ncafÃ© good,pos\nfine,neg\n")

    assert table.texts == ("cafÃ© good", "fine")
    assert "in UTF-8 that a program read as another encoding" in table.notes[0]


def test_signs_of_two_halves_are_joined(tmp_path):
    """CESU-8: each half of a surrogate pair is written as three bytes."""
    content = "text,label\ngood \ud83d\ude00,pos\nfine,neg\n".encode(errors="surrogatepass")

    table = read(tmp_path, content)

    assert table.texts == ("good \U0001f600", "fine")
    assert "CESU-8" in table.notes[0]


def test_a_column_without_texts_is_doubted(tmp_path):
    rows = "".join(f"reviews/{number}.txt,{number % 2}\n" for number in range(12))

    assert "see whether `text_column`" in read(tmp_path, f"text,label\n{rows}").notes[0]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "text::label\na b::pos\n", "its cells are separated by '::'"),
        (
            "a.xlsx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "it is a workbook with a password",
        ),
        ("a.yml", "- &a [x]\n- *a\n", "it has references"),
        ("a.jsonl", '{"text": "a b", "label": "pos"}\n{"text": "c', "get the file anew"),
        ("a.json", '[{"text": "a b", "label": "pos",}]', "take out the comma before the bracket"),
    ],
)
def test_files_that_are_not_read_are_named(tmp_path, name, content, reason):
    with pytest.raises(DataError, match=reason):
        read(tmp_path, content, name)


def test_rows_of_one_line_are_told_by_their_numbers(tmp_path):
    content = json.dumps([*RECORDS, {"text": "a b", "label": None}])

    with pytest.raises(DataError, match=f"row {len(RECORDS) + 1}"):
        read(tmp_path, content, "a.json")


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(DataError, match="it is a folder"):
        read_table(tmp_path, max_rows=9)


def test_names_of_columns_may_go_on_over_lines(tmp_path):
    content = (
        'id,"How sure?\n(0 to 10)",text,label\n1,3,Good,pos\n2,4,Bad,neg\n,,,\n3,1,"A\nB",pos\n'
    )

    table = read(tmp_path, content, empty="skip")

    assert table.columns == ("id", "How sure?\n(0 to 10)", "text", "label")
    assert (table.texts, table.lines) == (("Good", "Bad", "A\nB"), (3, 4, 6))
    table = read(
        tmp_path,
        '"How was it?\n(in English)",label\nGood,pos\n',
        text_column="how was it in english",
    )
    assert table.texts == ("Good",)


def test_a_workbook_of_broken_xml_is_named_in_one_line(tmp_path):
    """The parser's own message has line ends."""
    book = io.BytesIO()
    openpyxl.Workbook().save(book)
    broken = io.BytesIO()
    with zipfile.ZipFile(book) as before, zipfile.ZipFile(broken, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, b"\x00" + content if name == "xl/workbook.xml" else content)

    with pytest.raises(DataError, match="openpyxl does not read") as caught:
        read(tmp_path, broken.getvalue(), "table.xlsx")
    assert "\n" not in str(caught.value)


def test_a_long_line_in_a_doubtful_encoding_takes_no_longer_than_its_length(tmp_path):
    """A look for words of other than ASCII signs once began anew at each letter before them."""
    path = tmp_path / "long.csv"
    path.write_bytes(b"text,label\n" + b"a" * 400_000 + b" \xa2,x\n")
    began = time.process_time()
    with pytest.raises(DataError, match="encoding"):
        read_table(path, max_rows=9)
    assert time.process_time() - began < 5


def test_a_member_without_a_name_is_none_of_an_archive(tmp_path):
    content = io.BytesIO()
    nameless = zipfile.ZipInfo("x")
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("table.csv", CSV)
        nameless.filename = ""
        with archive.open(nameless, "w") as member:
            member.write(b"nothing")
        archive.writestr(".DS_Store", "of a Mac")
    assert read(tmp_path, content.getvalue(), "table.zip").texts == TEXTS
