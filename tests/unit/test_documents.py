"""Files to translate, and memories written: what goes round comes back, placeholders too."""

import csv
import subprocess
import sys
from pathlib import Path

import openpyxl
import polib
import pytest
from lxml import etree

from nlp_meta.errors import DataError
from nlp_meta.files.documents import (
    TRANSLATED_FORMS,
    check_translations_path,
    read_sources,
    write_translations,
)
from nlp_meta.files.memories import Pair, read_memory, render_pairs
from nlp_meta.files.outputs import write_file
from nlp_meta.files.placeholders import find_placeholders

PAIRS = (
    Pair("Save %(name)s to {folder}?", "Simpan %(name)s ke {folder}?", 1),
    Pair(
        '<a href="x?a=1&amp;b=2">Go</a> & {{wait}}', '<a href="x?a=1&amp;b=2">Ayo</a>, {{wait}}', 2
    ),
    Pair("Two\nlines\t%1$d ${HOME}\\n", "Dua\nbaris\t%1$d ${HOME}\\n", 3),
    Pair("  'Quoted', \"so\" ]]>  ", "  'Dikutip', \"begitu\" ]]>  ", 4),
    Pair("Open", "Buka", 5),
    Pair("Open", "Terbuka", 6),
)


def put(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    return path


def shout(text: str) -> str:
    """Stands for a translator that keeps placeholders: all else is in capitals."""
    kept = find_placeholders(text)
    parts = []
    for placeholder in kept:
        before, _, text = text.partition(placeholder)
        parts += [before.upper(), placeholder]
    return "".join([*parts, text.upper()])


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "xlsx", "po", "tmx", "xlf", "xliff"])
def test_a_memory_comes_back_from_every_format_as_it_was_saved(tmp_path, form):
    path = tmp_path / f"memory.{form}"

    pairs = [(pair.source, pair.target) for pair in PAIRS]
    write_file(path, render_pairs(pairs, path, source_lang="en", target_lang="id", reviewed=True))
    memory = read_memory(path, source_lang="eng", target_lang="ind")

    assert [(p.source, p.target) for p in memory.pairs] == [(p.source, p.target) for p in PAIRS]
    assert memory.losses == ()
    assert memory.left_out == ({"header": 1} if form == "po" else {})
    assert len(memory.contradictions) == 1


PO = """\
# Of the shop.
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Language: id\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"

#: a.py:1
#, python-format
msgid "Hello %(name)s\\n"
msgstr ""

msgid "Done"
msgstr "Selesai"

#, fuzzy
msgid "Close"
msgstr "Buka"

msgctxt "files"
msgid "%d file"
msgid_plural "%d files"
msgstr[0] ""
msgstr[1] ""

#~ msgid "old"
#~ msgstr "lama"
"""


def test_a_gettext_file_comes_back_with_its_gaps_filled_and_marked_fuzzy(tmp_path):
    sources = read_sources(put(tmp_path, "shop.po", PO), source_lang="eng", target_lang="ind")
    assert sources.texts == ("Hello %(name)s\n", "%d file", "%d files")
    assert sources.lines == (8, 20, 20)
    assert sources.left_out == {"header": 1, "translated": 1, "fuzzy": 1, "obsolete": 1}

    write_translations(tmp_path / "out.po", sources, ["Halo %(name)s", "%d berkas", "%d berkas2"])

    hello, done, close, files, old = polib.pofile(str(tmp_path / "out.po"))
    assert (hello.msgstr, hello.flags) == ("Halo %(name)s\n", ["fuzzy", "python-format"])
    assert hello.occurrences == [("a.py", "1")]
    assert (done.msgstr, done.fuzzy) == ("Selesai", False)
    assert (close.msgstr, close.fuzzy) == ("Buka", True)
    assert files.msgstr_plural == {0: "%d berkas", 1: "%d berkas2"}
    assert (files.msgctxt, files.fuzzy) == ("files", True)
    assert (old.msgstr, bool(old.obsolete)) == ("lama", True)
    assert (tmp_path / "out.po").read_text(encoding="utf-8").startswith("# Of the shop.\n")


def test_a_template_becomes_a_gettext_file_with_all_its_forms(tmp_path):
    template = PO.replace('"Language: id\\n"', '"Language: \\n"').replace(
        "nplurals=2; plural=(n != 1)", "nplurals=3; plural=(n==1 ? 0 : n<5 ? 1 : 2)"
    )
    sources = read_sources(put(tmp_path, "shop.pot", template))

    write_translations(tmp_path / "out.po", sources, ["a", "b", "c"], target_lang="cs")

    catalog = polib.pofile(str(tmp_path / "out.po"))
    assert catalog.metadata["Language"] == "cs"
    assert catalog[3].msgstr_plural == {0: "b", 1: "c", 2: "c"}


XLIFF = """\
<?xml version="1.0" encoding="UTF-8"?>
<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">
  <file original="a.html" source-language="en" target-language="id" datatype="html">
    <body>
      <group id="g"><!-- the page's head -->
      <trans-unit id="1">
        <source>Read <g id="1" ctype="bold">this</g><x id="2"/> or <ph id="3">%s</ph></source>
        <note>Of the manual</note>
      </trans-unit>
      <trans-unit id="2">
        <source>Done</source>
        <target state="final">Selesai</target>
      </trans-unit>
      </group>
      <trans-unit id="3">
        <source>Close it</source>
        <seg-source><mrk mtype="seg" mid="1">Close it</mrk></seg-source>
        <target></target>
      </trans-unit>
      <trans-unit id="4" translate="no"><source>ACME</source></trans-unit>
    </body>
  </file>
</xliff>
"""
V12 = {"x": "urn:oasis:names:tc:xliff:document:1.2"}
V20 = {"x": "urn:oasis:names:tc:xliff:document:2.0"}


def test_an_xliff_file_comes_back_filled_with_its_inline_elements(tmp_path):
    """What it holds besides is told by taking the new targets out again."""
    path = put(tmp_path, "page.xlf", XLIFF)
    sources = read_sources(path, source_lang="eng", target_lang="ind")
    assert sources.texts == ('Read <g id="1">this</g><x id="2"/> or %s', "Close it")
    assert sources.left_out == {"translated": 1, "locked": 1}

    written = ['%s atau <x id="2"/><g id="1">ini</g> & > baca', "Tutup <b>"]
    write_translations(tmp_path / "out.xlf", sources, written)

    tree = etree.parse(tmp_path / "out.xlf")
    first, second, third = tree.iterfind(".//x:target", V12)
    inline = [(etree.QName(node).localname, dict(node.attrib), node.text) for node in first]
    assert inline == [
        ("ph", {"id": "3"}, "%s"),
        ("x", {"id": "2"}, None),
        ("g", {"id": "1", "ctype": "bold"}, "ini"),
    ]
    assert first[-1].tail == " & > baca"
    assert first.get("state") == third.get("state") == "needs-review-translation"
    assert (second.text, second.get("state")) == ("Selesai", "final")
    assert (third.text, len(third)) == ("Tutup <b>", 0)
    first.getparent().remove(first)
    third.text = ""
    del third.attrib["state"]
    blank = etree.XMLParser(remove_blank_text=True)
    plain = [etree.tostring(tree, method="c14n"), XLIFF.encode()]
    assert len({etree.tostring(etree.fromstring(one, blank), method="c14n") for one in plain}) == 1

    with pytest.raises(DataError, match=r"\(2 fuzzy, 1 translated, 1 locked\)"):
        read_sources(tmp_path / "out.xlf")


def test_an_xliff_2_file_comes_back_filled(tmp_path):
    path = put(
        tmp_path,
        "page.xliff",
        '<xliff version="2.0" xmlns="urn:oasis:names:tc:xliff:document:2.0" srcLang="en">\n'
        '<file id="f"><unit id="1"><segment><source>Press <pc id="1">OK</pc><ph id="2"/></source>'
        "</segment><ignorable><source> </source></ignorable>"
        '<segment state="final"><source>a</source><target>b</target></segment></unit></file>'
        "</xliff>",
    )
    sources = read_sources(path)
    assert sources.texts == ('Press <pc id="1">OK</pc><ph id="2"/>',)

    out = tmp_path / "out.xliff"
    write_translations(
        out, sources, ['Tekan <pc id="1">OKE</pc><ph id="2"/><ph id="2"/>'], target_lang="id"
    )

    root = etree.parse(out).getroot()
    target = root.find(".//x:target", V20)
    assert root.get("trgLang") == "id"
    assert target.getparent().get("state") == "initial"
    assert [etree.QName(node).localname for node in target] == ["pc", "ph"]
    assert target[1].tail == '<ph id="2"/>'  # the source has it once
    assert read_memory(out).left_out == {"fuzzy": 1}


def test_tags_that_do_not_close_are_plain_text(tmp_path):
    sources = read_sources(put(tmp_path, "page.xlf", XLIFF))

    write_translations(tmp_path / "out.xlf", sources, ['</g>baca<g id="1">\x00', "b"])

    target = etree.parse(tmp_path / "out.xlf").find(".//x:target", V12)
    assert (target.text, len(target)) == ('</g>baca<g id="1">', 0)


@pytest.mark.parametrize("form", ["po", "xlf"])
def test_placeholders_go_round_through_a_translation(tmp_path, form):
    units = "\n".join(
        f'<trans-unit id="{i}"><source xml:space="preserve">{escaped}</source></trans-unit>'
        for i, escaped in enumerate(
            pair.source.replace("&", "&amp;").replace("<", "&lt;").replace("]]>", "]]&gt;")
            for pair in PAIRS
        )
    )
    path = tmp_path / f"in.{form}"
    if form == "po":
        catalog = polib.POFile()
        for number, pair in enumerate(PAIRS):
            catalog.append(polib.POEntry(msgid=pair.source, msgctxt=str(number)))
        catalog.save(str(path))
    else:
        head, _, tail = XLIFF.partition("<body>")
        path.write_text(f"{head}<body>{units}{tail[tail.index('</body>') :]}", encoding="utf-8")
    sources = read_sources(path)
    out = tmp_path / f"out.{form}"

    write_translations(out, sources, [shout(text) for text in sources.texts])

    reviewed = out.read_text(encoding="utf-8").replace("#, fuzzy\n", "")
    reviewed = reviewed.replace("needs-review-translation", "translated")
    memory = read_memory(put(tmp_path, f"reviewed.{form}", reviewed))
    assert [pair.source for pair in memory.pairs] == list(dict.fromkeys(p.source for p in PAIRS))
    assert all(shout(pair.source) == pair.target for pair in memory.pairs)
    assert memory.losses == ()


TS = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE TS>
<TS version="2.1" sourcelanguage="en">
<context>
    <name>Window</name>
    <message>
        <source>Save &amp;all</source>
        <translation type="unfinished"></translation>
    </message>
    <message numerus="yes">
        <source>%n file(s)</source>
        <translation type="unfinished">
            <numerusform></numerusform>
            <numerusform></numerusform>
        </translation>
    </message>
    <message>
        <source>Open</source>
    </message>
    <message>
        <source>Close</source>
        <translation>Tutup</translation>
    </message>
    <message>
        <source>Gone</source>
        <translation type="vanished"></translation>
    </message>
</context>
</TS>
"""


def test_a_qt_file_comes_back_with_its_gaps_filled_and_unfinished(tmp_path):
    sources = read_sources(put(tmp_path, "app.ts", TS), source_lang="eng", target_lang="ind")
    assert (sources.texts, sources.lines) == (("Save &all", "%n file(s)", "Open"), (6, 10, 17))
    assert sources.left_out == {"translated": 1, "obsolete": 1}

    out = tmp_path / "out.ts"
    write_translations(out, sources, ["Simpan <semua>", "%n berkas", "Buka"], target_lang="id")

    written = out.read_text(encoding="utf-8")
    filled = TS.replace('sourcelanguage="en"', 'sourcelanguage="en" language="id"')
    filled = filled.replace(
        '"></translation>\n    </message>\n    <message numerus',
        ('">Simpan &lt;semua&gt;</translation>\n    </message>\n    <message numerus'),
    )
    filled = filled.replace("<numerusform></", "<numerusform>%n berkas</")
    filled = filled.replace(
        "<source>Open</source>\n",
        ('<source>Open</source>\n        <translation type="unfinished">Buka</translation>\n'),
    )
    # An empty element may be written in either way.
    assert written.replace("/>", "></translation>").replace("'", '"') == filled
    with pytest.raises(DataError, match="4 fuzzy, 1 translated, 1 obsolete"):
        read_sources(out)


def test_a_workbook_comes_back_with_its_gaps_filled(tmp_path):
    book = openpyxl.Workbook()
    for row in (["id", "source", "target"], [7, "one", None], [8, "two", "dua"], [9, "=x", ""]):
        book.active.append(row)
    book.active["B4"].data_type = "s"
    book.save(tmp_path / "new.xlsx")
    sources = read_sources(tmp_path / "new.xlsx")
    assert (sources.texts, sources.left_out) == (("one", "=x"), {"translated": 1})
    assert "no other sheet" in sources.notes[0]

    for name in ("out.xlsx", "out.csv"):
        write_translations(tmp_path / name, sources, ["satu", "=SUM(1)"])

    sheet = openpyxl.load_workbook(tmp_path / "out.xlsx").active
    assert [[cell.value for cell in row] for row in sheet.rows] == [
        ["id", "source", "target"],
        [7, "one", "satu"],
        [8, "two", "dua"],
        [9, "=x", "=SUM(1)"],
    ]
    assert {cell.data_type for cell in sheet["C"]} == {"s"}
    assert (
        tmp_path / "out.csv"
    ).read_text() == "id,source,target\n7,one,satu\n8,two,dua\n9,=x,=SUM(1)\n"


def test_what_no_workbook_holds_is_refused_in_one_sentence(tmp_path):
    sources = read_sources(put(tmp_path, "new.txt", "one"))
    with pytest.raises(DataError, match=r"at most 32767 characters.*write .csv"):
        write_translations(tmp_path / "out.xlsx", sources, ["a" * 40_000])


def test_a_text_is_translated_line_by_line(tmp_path):
    sources = read_sources(put(tmp_path, "new.txt", "one\n\n  two\nthree"))
    assert (sources.texts, sources.lines) == (("one", "  two", "three"), (1, 3, 4))
    assert sources.left_out == {"empty": 1}

    write_translations(tmp_path / "out.txt", sources, ["satu", "du\na", "tiga"])

    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "satu\n\ndu a\ntiga\n"


def test_a_table_keeps_its_other_columns_and_translations(tmp_path):
    content = 'key,source,target\r\n1,one,\r\n2,two,dua\r\n3,,\r\n4,"three, four",\r\n'
    sources = read_sources(put(tmp_path, "new.csv", content))
    assert (sources.texts, sources.lines) == (("one", "three, four"), (2, 5))
    assert sources.left_out == {"translated": 1, "empty": 1}

    write_translations(tmp_path / "out.csv", sources, ["satu", "tiga, empat"])
    write_translations(tmp_path / "out.jsonl", sources, ["satu", "tiga"])

    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["key", "source", "target"],
        ["1", "one", "satu"],
        ["2", "two", "dua"],
        ["3", "", ""],
        ["4", "three, four", "tiga, empat"],
    ]
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"key": "1", "source": "one", "target": "satu"}'


def test_another_column_takes_the_translations_of_a_whole_table(tmp_path):
    path = put(tmp_path, "test.tsv", "text\ttarget\none\tsatu\ntwo\tdua\n")
    sources = read_sources(path, source_column="text", target_column="output")

    write_translations(tmp_path / "out.tsv", sources, ["s", "d"])

    written = (tmp_path / "out.tsv").read_text(encoding="utf-8")
    assert written == "text\ttarget\toutput\none\tsatu\ts\ntwo\tdua\td\n"


@pytest.mark.parametrize("form", [form for form in TRANSLATED_FORMS if form != "txt"])
def test_lines_of_a_text_become_a_file_of_pairs_that_awaits_review(tmp_path, form):
    sources = read_sources(put(tmp_path, "new.txt", "one %s\ntwo\n"))
    out = tmp_path / f"out.{form}"

    write_translations(out, sources, ["satu %s", "dua"], source_lang="en", target_lang="id")

    if form in ("po", "xlf", "xliff"):
        with pytest.raises(DataError, match="2 fuzzy"):
            read_memory(out)
    else:
        pairs = [(pair.source, pair.target) for pair in read_memory(out).pairs]
        assert pairs == [("one %s", "satu %s"), ("two", "dua")]


def test_translations_of_a_gettext_file_may_be_a_plain_text(tmp_path):
    sources = read_sources(put(tmp_path, "shop.po", PO))

    write_translations(tmp_path / "out.txt", sources, ["a", "b", "c"])

    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "a\nb\nc\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "\n \n", r"nothing in it is to be translated \(2 empty\)"),
        ("a.csv", "source,target\na,b\n", r"\(1 translated\).*another `target_column`"),
        ("a.csv", "text\na\n", r"cannot find column 'source' .*'text'.*`source_column`"),
        (
            "a.tmx",
            "<tmx/>",
            r"ending '.tmx' is unknown, one of .txt, .csv, .tsv, .jsonl, .xlsx, .po",
        ),
        ("a.po", PO, r"cannot use .* for ind-eng: it translates into id and does not name its"),
        (
            "a.po",
            PO.replace('"Language', '"X-Source-Language: en\\n"\n"Language', 1),
            r"cannot use .* for ind-eng: it is the other way round.*name a model of its languages",
        ),
    ],
)
def test_a_file_with_nothing_to_translate_stops_with_one_sentence(tmp_path, name, content, message):
    path = put(tmp_path, name, content)

    with pytest.raises(DataError, match=message) as caught:
        read_sources(path, source_lang="ind", target_lang="eng")

    assert "\n" not in str(caught.value)
    assert "-lang`" not in str(caught.value)  # a model's languages are no options


def test_what_cannot_be_written_stops_before_the_work(tmp_path):
    sources = read_sources(put(tmp_path, "new.txt", "one"))
    check_translations_path(tmp_path / "out.txt", sources)
    with pytest.raises(DataError, match=r"ending '.docx' is unknown, one of .txt, "):
        check_translations_path(tmp_path / "out.docx", sources)
    with pytest.raises(DataError, match=r"a .tmx file names both its languages.*`source_lang`"):
        check_translations_path(tmp_path / "out.tmx", sources, source_lang="eng")
    with pytest.raises(DataError, match=r"ending '' is unknown"):
        check_translations_path(tmp_path / "memory", sources)
    with pytest.raises(DataError, match=r"ending '.ts' is unknown"):
        check_translations_path(tmp_path / "out.ts", sources)


def test_a_missing_translation_stops_and_leaves_what_was_there(tmp_path):
    sources = read_sources(put(tmp_path, "new.txt", "one\ntwo\n"))
    out = put(tmp_path, "out.txt", "before")

    with pytest.raises(DataError, match=r"1 translations of 2 texts"):
        write_translations(out, sources, ["satu"])

    assert out.read_text(encoding="utf-8") == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.txt", "out.txt"]


def test_importing_takes_none_of_the_readers(tmp_path):
    program = (
        "import sys, nlp_meta.files.documents\n"
        "print([name for name in ('translate', 'lxml', 'defusedxml', 'pyarrow', 'torch') "
        "if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout.strip()) == (0, "[]")


def test_a_file_of_trados_studio_comes_back_filled_segment_by_segment(tmp_path):
    """Its own state says that a filled segment is a draft; a finished one beside it stays."""
    sources = (
        "<mrk mtype='seg' mid='1'>One.</mrk> <mrk mtype='seg' mid='2'>Two <g id='1'>b</g>.</mrk>"
    )
    unit = (
        f"<trans-unit id='1'><source>One. Two.</source><seg-source>{sources}</seg-source><target>"
        "<mrk mtype='seg' mid='1'>Satu.</mrk> <mrk mtype='seg' mid='2'/></target><sdl:seg-defs>"
        "<sdl:seg id='1' conf='Translated'/><sdl:seg id='2'/></sdl:seg-defs></trans-unit>"
    )
    head, _, tail = XLIFF.partition("<body>")
    head = head.replace("<xliff ", '<xliff xmlns:sdl="http://sdl.com/FileTypes/SdlXliff/1.0" ')
    path = put(tmp_path, "in.sdlxliff", f"{head}<body>{unit}{tail[tail.index('</body>') :]}")
    document = read_sources(path, source_lang="eng", target_lang="ind")
    assert document.texts == ('Two <g id="1">b</g>.',)
    out = tmp_path / "out.sdlxliff"
    check_translations_path(out, document, source_lang="eng", target_lang="ind")

    write_translations(out, document, ['Dua <g id="1">c</g>.'])

    memory = read_memory(out)
    assert [(pair.source, pair.target) for pair in memory.pairs] == [("One.", "Satu.")]
    assert memory.left_out == {"fuzzy": 1}
    bold = etree.parse(out).find(".//x:target/x:mrk/x:g", V12)
    assert (bold.text, bold.tail) == ("c", ".")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "windows-1252"])
def test_a_filled_xliff_file_keeps_its_encoding(tmp_path, encoding):
    text = XLIFF.replace('"UTF-8"', f'"{encoding}"').replace("Selesai", "Café")
    path = tmp_path / "in.xlf"
    path.write_bytes(text.encode(encoding))
    document = read_sources(path)

    write_translations(tmp_path / "out.xlf", document, ["naïve", "日本"])

    texts = [node.text for node in etree.parse(tmp_path / "out.xlf").iterfind(".//x:target", V12)]
    assert texts == ["naïve", "Café", "日本"]


def test_texts_that_look_like_keys_are_told(tmp_path):
    content = 'msgid "form.save"\nmsgstr ""\n\nmsgid "form.open"\nmsgstr ""\n'

    assert read_sources(put(tmp_path, "a.po", content)).notes == (
        "2 of 2 texts look like keys, such as 'form.save', which stand for sentences; they are "
        "translated as they are",
    )
