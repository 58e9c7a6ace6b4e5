"""Translation memories: the same pairs from every format, and one sentence for every bad file."""

import bz2
import gzip
import json
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nlp_meta.errors import DataError
from nlp_meta.files.memories import Memory, Pair, describe_memory, read_memory, record_memory
from nlp_meta.files.placeholders import PlaceholderLoss

PAIRS = (
    ("Save %s?", "Simpan %s?"),
    ("Hello <b>{name}</b> & co.", "Halo <b>{name}</b> & kawan."),
    ("Price:\n%(price)d", "Harga:\n%(price)d"),
)


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(memory: Memory) -> tuple[tuple[str, str], ...]:
    return tuple((pair.source, pair.target) for pair in memory.pairs)


def xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def po_string(text: str) -> str:
    return '"' + text.replace('"', r"\"").replace("\n", r"\n") + '"'


def tmx(*units: str, header: str = 'srclang="en"') -> str:
    body = "\n".join(units)
    return (
        f'<?xml version="1.0"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'
        f'<tmx version="1.4"><header {header}/><body>\n{body}\n</body></tmx>\n'
    )


def unit(**variants: str) -> str:
    inner = "".join(
        f'<tuv xml:lang="{tag.replace("_", "-")}"><seg>{text}</seg></tuv>'
        for tag, text in variants.items()
    )
    return f"<tu>{inner}</tu>"


def xliff(*units: str, languages: str = 'source-language="en" target-language="id"') -> str:
    body = "\n".join(units)
    return (
        '<?xml version="1.0"?>\n<xliff version="1.2" '
        'xmlns="urn:oasis:names:tc:xliff:document:1.2">\n'
        f'<file original="a" {languages} datatype="plaintext"><body>\n{body}\n</body></file>'
        "</xliff>\n"
    )


def xliff2(*segments: str) -> str:
    body = "\n".join(f'<unit id="{i}">{segment}</unit>' for i, segment in enumerate(segments))
    return (
        '<?xml version="1.0"?>\n<xliff version="2.0" xmlns="urn:oasis:names:tc:xliff:document:2.0" '
        f'srcLang="en" trgLang="id">\n<file id="f">\n{body}\n</file></xliff>\n'
    )


def write(folder: Path, form: str) -> Path:
    """Written by hand, so that reading has an independent partner."""
    path = folder / f"memory.{form}"
    if form in ("csv", "tsv"):
        separator = "," if form == "csv" else "\t"
        rows = [("source", "target"), *PAIRS]
        content = "".join(f"{quoted(s)}{separator}{quoted(t)}\r\n" for s, t in rows)
    elif form == "jsonl":
        content = "".join(json.dumps({"source": s, "target": t}) + "\n" for s, t in PAIRS)
    elif form == "parquet":
        columns = {"source": [s for s, _ in PAIRS], "target": [t for _, t in PAIRS]}
        pq.write_table(pa.table(columns), path)
        return path
    elif form == "po":
        content = "\n".join(f"msgid {po_string(s)}\nmsgstr {po_string(t)}\n" for s, t in PAIRS)
    elif form == "tmx":
        content = tmx(*(unit(en=xml(s), id=xml(t)) for s, t in PAIRS))
    elif form == "xlf":
        content = xliff(
            *(
                f'<trans-unit id="{i}" xml:space="preserve"><source>{xml(s)}</source>'
                f"<target>{xml(t)}</target></trans-unit>"
                for i, (s, t) in enumerate(PAIRS)
            )
        )
    else:
        content = xliff2(
            *(
                f'<segment xml:space="preserve"><source>{xml(s)}</source>'
                f"<target>{xml(t)}</target></segment>"
                for s, t in PAIRS
            )
        )
    return put(folder, path.name, content)


FORMS = ["csv", "tsv", "jsonl", "parquet", "po", "tmx", "xlf", "xliff"]


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_pairs(tmp_path, form):
    memory = read_memory(write(tmp_path, form), source_lang="eng", target_lang="ind")

    assert texts(memory) == PAIRS
    assert (memory.left_out, memory.contradictions, memory.losses) == ({}, (), ())


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        ("csv", (2, 3, 4)),
        ("tsv", (2, 3, 4)),
        ("jsonl", (1, 2, 3)),
        ("parquet", (1, 2, 3)),
        ("po", (1, 4, 7)),
        ("tmx", (4, 5, 6)),
        ("xlf", (4, 5, 6)),
        ("xliff", (4, 5, 6)),
    ],
)
def test_pairs_know_their_lines(tmp_path, form, lines):
    """Counted by hand in the files as `write` leaves them."""
    memory = read_memory(write(tmp_path, form))

    assert tuple(pair.line for pair in memory.pairs) == lines


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "zip"])
def test_packed_files_read_like_plain_ones(tmp_path, form, packing):
    plain = write(tmp_path, form)
    if packing != "zip":
        packed = {"gz": gzip, "bz2": bz2, "xz": lzma}[packing].compress(plain.read_bytes())
        path = put(tmp_path, f"{plain.name}.{packing}", packed)
    else:
        path = tmp_path / "memory.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(plain, f"inner/{plain.name}")

    assert texts(read_memory(path)) == PAIRS


def test_aligned_texts_pair_line_by_line(tmp_path):
    """A line separator of Unicode ends no line, and a blank line keeps its place."""
    source = put(tmp_path, "a.txt", "one\u2028more\r\n\r\nthree\r\n")
    target = put(tmp_path, "b.txt", "\ufeffsatu\n\ntiga")

    memory = read_memory((source, target))

    assert memory.pairs == (Pair("one\u2028more", "satu", 1), Pair("three", "tiga", 3))
    assert (memory.left_out, memory.lines) == ({"empty": 1}, {"empty": (2,)})


@pytest.mark.parametrize("given", ["news.id", "news.jav", "news.id.gz"])
def test_the_other_text_is_found_by_its_language(tmp_path, given):
    put(tmp_path, "news.id", "satu\n")
    put(tmp_path, "news.jav", "siji\n")
    put(tmp_path, "news.en", "one\n")
    if given.endswith(".gz"):
        (tmp_path / "news.id").unlink()
        put(tmp_path, given, gzip.compress(b"satu\n", mtime=0))

    memory = read_memory(tmp_path / given, source_lang="ind", target_lang="jav")

    assert memory.pairs == (Pair("satu", "siji", 1),)


@pytest.mark.parametrize("packing", ["", ".gz"])
def test_the_other_text_may_end_in_txt(tmp_path, packing):
    put(tmp_path, "news.ind.txt", "satu\n")
    content = b"siji\n"
    put(tmp_path, f"news.jav.txt{packing}", gzip.compress(content, mtime=0) if packing else content)
    put(tmp_path, "news.jav", "not this one\n")

    memory = read_memory(tmp_path / "news.ind.txt", source_lang="ind", target_lang="jav")

    assert memory.pairs == (Pair("satu", "siji", 1),)


@pytest.mark.parametrize(
    ("first", "second", "pair"),
    [
        ("train.src", "train.tgt", ("satu", "siji")),
        ("a.jav", "b.ind", ("siji", "satu")),
        ("a.jav.txt", "b.txt", ("satu", "siji")),
        ("a.ind", "b.jav", ("satu", "siji")),
        ("a", "b", ("satu", "siji")),
    ],
)
def test_two_texts_come_source_first_unless_both_names_say_otherwise(tmp_path, first, second, pair):
    paths = (put(tmp_path, first, "satu\n"), put(tmp_path, second, "siji\n"))

    memory = read_memory(paths, source_lang="ind", target_lang="jav")

    assert texts(memory) == (pair,)


def test_a_table_is_no_aligned_text(tmp_path):
    paths = (put(tmp_path, "a.txt", "satu\n"), put(tmp_path, "b.tmx", "<tmx/>\n"))

    with pytest.raises(DataError, match=r"b.tmx' as a text: it is a .tmx file, a plain text"):
        read_memory(paths)
    binary = put(tmp_path, "c.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0")
    with pytest.raises(DataError, match=r"c.doc' as a text: it is a workbook of Excel 97-2003"):
        read_memory((paths[0], binary))


@pytest.mark.parametrize("source", ["satu\rdua\r", "satu\ndua\n\x1a", "\ufeffsatu\r\ndua"])
def test_lines_of_texts_end_as_any_system_writes_them(tmp_path, source):
    paths = (put(tmp_path, "a.txt", source), put(tmp_path, "b.txt", "siji\nloro\n"))

    assert texts(read_memory(paths)) == (("satu", "siji"), ("dua", "loro"))


def test_a_text_of_cells_with_names_is_a_table(tmp_path):
    path = put(tmp_path, "a.txt", "source;target\nsatu;siji\n")

    assert texts(read_memory(path)) == (("satu", "siji"),)


def test_columns_may_have_any_names(tmp_path):
    path = put(tmp_path, "a.csv", "\ufeffid,Indonesian,Javanese\n7,satu,siji\n")

    memory = read_memory(path, source_column="Indonesian", target_column="Javanese")

    assert memory.pairs == (Pair("satu", "siji", 2),)


def test_a_tsv_file_with_quotes_of_its_own_is_taken_as_written(tmp_path):
    path = put(tmp_path, "a.tsv", 'source\ttarget\n"One" he said\t"Satu" katanya\n"two\tdua\n')

    assert texts(read_memory(path)) == (('"One" he said', '"Satu" katanya'), ('"two', "dua"))


def test_quotes_of_one_side_join_no_rows_of_a_tsv_file(tmp_path):
    """Both texts hold half of a quotation; every line has the header's two cells already."""
    rows = '"Saya senang.\t«I am glad.\nDia juga."\tHe too.»\nsatu\tone\n'

    memory = read_memory(put(tmp_path, "a.tsv", f"source\ttarget\n{rows}\n"))

    assert memory.pairs == (
        Pair('"Saya senang.', "«I am glad.", 2),
        Pair('Dia juga."', "He too.»", 3),
        Pair("satu", "one", 4),
    )


def test_a_quoted_cell_of_a_tsv_file_may_hold_tabs_and_line_breaks(tmp_path):
    rows = '"one\tor\ntwo"\t"satu\tatau\ndua"\nthree\ttiga\n'

    memory = read_memory(put(tmp_path, "a.tsv", f"source\ttarget\n{rows}"))

    assert texts(memory) == (("one\tor\ntwo", "satu\tatau\ndua"), ("three", "tiga"))


PO = """\
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Language: id\\n"
"Plural-Forms: nplurals=1; plural=0;\\n"

#: a.py:1
msgid "one"
msgstr "satu"

#, fuzzy
msgid "two"
msgstr "dua?"

msgctxt "number"
msgid "three"
msgstr ""

msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d berkas"

#~ msgid "old"
#~ msgstr "lama"
"""


def test_gettext_entries_that_are_no_translations_are_counted_by_reason(tmp_path):
    memory = read_memory(put(tmp_path, "a.po", PO))

    assert texts(memory) == (("one", "satu"), ("%d files", "%d berkas"))
    assert memory.left_out == {"header": 1, "fuzzy": 1, "untranslated": 1, "obsolete": 1}
    assert memory.lines["fuzzy"] == (11,)


@pytest.mark.parametrize(
    ("rule", "forms", "singular", "many"),
    [
        ("nplurals=2; plural=n != 1;", ["fichier", "fichiers"], "fichier", "fichiers"),
        (
            "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && "
            "(n%100<10 || n%100>=20) ? 1 : 2);",
            ["файл", "файла", "файлов"],
            "файл",
            "файлов",
        ),
        (
            "nplurals=4; plural=(n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : 3);",
            ["none", "one", "two", "many"],
            "one",
            "many",
        ),
    ],
)
def test_plural_forms_pair_by_the_rule_of_the_file(tmp_path, rule, forms, singular, many):
    """The rules as gettext's manual gives them, French, Russian, and one that begins at zero."""
    strings = "\n".join(f'msgstr[{i}] "{text}"' for i, text in enumerate(forms))
    header = f'msgid ""\nmsgstr ""\n"Plural-Forms: {rule}\\n"\n'
    path = put(tmp_path, "a.po", f'{header}\nmsgid "%d x"\nmsgid_plural "%d xs"\n{strings}\n')

    assert texts(read_memory(path)) == (("%d x", singular), ("%d xs", many))


def test_gettext_in_another_encoding_is_read_by_its_header(tmp_path):
    content = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=ISO-8859-1\\n"\n\n'
    path = put(tmp_path, "a.po", (content + 'msgid "coffee"\nmsgstr "café"\n').encode("latin-1"))

    assert texts(read_memory(path)) == (("coffee", "café"),)


def test_separators_of_unicode_end_no_line_of_a_gettext_file(tmp_path):
    path = put(tmp_path, "a.po", 'msgid "a\u2028b"\nmsgstr "c\x85d"\n')

    assert texts(read_memory(path)) == (("a\u2028b", "c\x85d"),)


def test_tmx_as_other_programs_write_it_is_read(tmp_path):
    """UTF-16, one language in two spellings, an entity that the format's own DTD may declare."""
    plain = tmx(unit(EN_US="a &hellip; b", id="c &hellip; d"), unit(en_us="e", ID="f"))
    content = plain.replace('"1.0"?>', '"1.0" encoding="UTF-16"?>')
    path = put(tmp_path, "a.tmx", content.encode("utf-16"))

    memory = read_memory(path, source_lang="eng", target_lang="ind")

    assert texts(memory) == (("a \u2026 b", "c \u2026 d"), ("e", "f"))


def test_a_file_of_the_opposite_direction_is_turned_round(tmp_path):
    header = '"Language: id\\n"\n'
    path = put(tmp_path, "a.po", PO.replace(header, f'{header}"X-Source-Language: en_US\\n"\n'))

    memory = read_memory(path, source_lang="ind", target_lang="eng")

    assert texts(memory)[0] == ("satu", "one")
    assert memory.left_out["fuzzy"] == 1


@pytest.mark.parametrize("target", ["ban", "eng"])
def test_a_file_that_names_one_language_is_not_turned_round(tmp_path, target):
    """What the texts of a gettext file are written in is not known; English is a habit only."""
    said = rf"for ind-{target}: it translates into id and does not name its .*X-Source-Language"
    with pytest.raises(DataError, match=said):
        read_memory(put(tmp_path, "a.po", PO), source_lang="ind", target_lang=target)
    unit = "<trans-unit id='1'><source>a</source><target>b</target></trans-unit>"
    path = put(tmp_path, "a.xlf", xliff(unit, languages=f'source-language="{target}"'))
    with pytest.raises(DataError, match=f"it translates from {target} and does not name"):
        read_memory(path, source_lang="ind", target_lang=target)


def test_xliff_states_decide_what_is_finished(tmp_path):
    units = [
        "<trans-unit id='1'><source>a</source><target state='translated'>b</target></trans-unit>",
        "<trans-unit id='2'><source>c</source><target>d</target></trans-unit>",
        "<trans-unit id='3'><source>e</source>"
        "<target state='needs-review-translation'>f</target></trans-unit>",
        "<trans-unit id='4'><source>g</source><target/></trans-unit>",
        "<trans-unit id='5'><source>h</source></trans-unit>",
        "<trans-unit id='6' translate='no'><source>i</source><target>j</target></trans-unit>",
        "<trans-unit id='7'><source>k</source>"
        "<target state-qualifier='fuzzy-match'>l</target></trans-unit>",
        "<trans-unit id='8' approved='no'><source>m</source><target>n</target></trans-unit>",
    ]

    memory = read_memory(put(tmp_path, "a.xlf", xliff(*units)))

    assert texts(memory) == (("a", "b"), ("c", "d"))
    assert memory.left_out == {"fuzzy": 3, "untranslated": 2, "locked": 1}


def test_xliff_2_segments_are_entries_of_their_own(tmp_path):
    segments = (
        "<segment state='final'><source>a</source><target>b</target></segment>"
        "<segment state='initial'><source>c</source><target>d</target></segment>",
        "<segment state='translated'><source>e <ph id='1'/><pc id='2'>f</pc></source>"
        "<target><pc id='2'>g</pc> <ph id='1'/></target></segment>",
    )

    memory = read_memory(put(tmp_path, "a.xlf", xliff2(*segments)))

    assert texts(memory) == (
        ("a", "b"),
        ('e <ph id="1"/><pc id="2">f</pc>', '<pc id="2">g</pc> <ph id="1"/>'),
    )
    assert memory.left_out == {"fuzzy": 1}


def test_inline_elements_read_as_the_code_that_they_stand_for(tmp_path):
    """Native code as itself, an empty element as its tag, a highlight as its text."""
    source = '<bpt i="1">&lt;b&gt;</bpt>Go<ept i="1">&lt;/b&gt;</ept> <ph>%s</ph><ph x="2"/>'
    path = put(tmp_path, "a.tmx", tmx(unit(en=source, id="<hi>Ayo</hi> %s")))

    memory = read_memory(path)

    assert texts(memory) == (("<b>Go</b> %s<ph/>", "Ayo %s"),)
    assert memory.losses == (PlaceholderLoss(4, ("<b>", "</b>", "<ph/>"), ()),)


@pytest.mark.parametrize(
    ("source", "target", "pairs"),
    [
        ("ind", "jav", (("satu", "siji"), ("dua", "loro"))),
        ("id", "jv-ID", (("satu", "siji"), ("dua", "loro"))),
        ("eng", "ind", (("one", "satu"),)),
        ("en-GB", "jv", (("one", "siji"),)),
        (None, "jav", (("one", "siji"),)),
    ],
)
def test_two_languages_of_many_are_chosen(tmp_path, source, target, pairs):
    content = tmx(unit(en="one", id_ID="satu", jv="siji"), unit(id="dua", jv="loro"))
    path = put(tmp_path, "a.tmx", content)

    memory = read_memory(path, source_lang=source, target_lang=target)

    assert texts(memory) == pairs
    assert memory.left_out == ({"one-sided": 1} if len(pairs) == 1 else {})


@pytest.mark.parametrize(
    "tags", [("1033", "1057"), ("9", "33"), ("EN-US", "ID-ID"), ("en_us", "IND")]
)
def test_tags_are_read_as_tools_write_them(tmp_path, tags):
    """In Windows 1033 and 1057 are American English and Indonesian, 9 and 33 the languages."""
    content = tmx(unit(aa="one", bb="satu"), header='srclang="aa"')
    content = content.replace('"aa"', f'"{tags[0]}"').replace('"bb"', f'"{tags[1]}"')
    path = put(tmp_path, "a.tmx", content)

    for source, target in (("eng", "ind"), ("en-US", "id-ID"), (None, None)):
        memory = read_memory(path, source_lang=source, target_lang=target)
        assert texts(memory) == (("one", "satu"),)


def test_an_equal_region_is_taken_before_another(tmp_path):
    path = put(tmp_path, "a.tmx", tmx(unit(en="one", pt_BR="um", pt_PT="um (PT)")))

    assert texts(read_memory(path, target_lang="pt-PT")) == (("one", "um (PT)"),)


def test_duplicates_are_kept_once_and_contradictions_are_reported(tmp_path):
    rows = "one,satu\none,satu\none,siji\ntwo,two \n,\n  ,dua\nlast,%d akhir\n"

    memory = read_memory(put(tmp_path, "a.csv", f"source,target\n{rows}"))

    assert memory.pairs == (
        Pair("one", "satu", 2),
        Pair("one", "siji", 4),
        Pair("last", "%d akhir", 8),
    )
    assert memory.left_out == {"duplicate": 1, "identical": 1, "empty": 1, "one-sided": 1}
    assert memory.lines == {"duplicate": (3,), "identical": (5,), "empty": (6,), "one-sided": (7,)}
    assert memory.contradictions == (memory.pairs[:2],)
    assert memory.losses == (PlaceholderLoss(8, (), ("%d",)),)


def test_what_was_left_out_or_is_doubtful_is_told_with_its_lines(tmp_path):
    rows = "one,satu\none,siji\ntwo,two\n,dua\nthree,\nfour,\nfive,\nlast %s,akhir\nb,\nc,\n"

    memory = read_memory(put(tmp_path, "a.csv", f"source,target\n{rows}"))

    assert describe_memory(memory) == {
        "pairs": "3",
        "left out": "1 identical (line 4); 6 one-sided (line 5, 6, 7, ...)",
        "contradictions": "1 source with different targets, all used: line 2 and 3",
        "placeholders": "1 translation does not keep its own: line 9 lost %s",
    }
    assert record_memory(memory) == {
        "pairs": 3,
        "left_out": {"identical": 1, "one-sided": 6},
        "lines_left_out": {"identical": [4], "one-sided": [5, 6, 7, 8, 10, 11]},
        "contradictions": [[2, 3]],
        "placeholders": [{"line": 9, "lost": ["%s"], "added": []}],
    }


def test_a_memory_without_flaws_is_told_in_a_number(tmp_path):
    assert describe_memory(read_memory(write(tmp_path, "csv"))) == {"pairs": "3"}


BOMB = (
    '<?xml version="1.0"?>\n<!DOCTYPE {0} [\n<!ENTITY a "ha">\n'
    '<!ENTITY b "&a;&a;">]>\n<{0} version="1.2">&b;</{0}>'
)
OUTSIDE = '<!DOCTYPE {0} [<!ENTITY a SYSTEM "file:///etc/hostname">]>\n<{0} version="1">&a;</{0}>'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"cannot find column 'source' in table .*: its columns are none"),
        ("a.csv", "source,target\n", r"no pair of sentences \(no entries\)"),
        ("a.csv", "source,target\na,\n", r"no pair of sentences \(1 one-sided\)"),
        ("a.csv", "source,target\na,a\n", r"no pair of sentences \(1 identical\)"),
        ("a.csv", "sorce,target\na,b\n", r"are 'sorce', 'target' \(nearest: 'sorce'\).*`source_c"),
        ("a.jsonl", '{"source":"a"}\n', r"column 'target' .*are 'source'.*`target_column`"),
        ("a.csv", "source,source,target\na,b,c\n", r"2 have that name"),
        ("a.csv", "source,target\na,b\nno, no,c\n", r"line 3: it has 3 cells where the header has"),
        ("a.csv", 'source,target\n"a"b, d,c\n', r"line 2: a cell begins with"),
        ("a.csv", b"source,target\na,b\ntr\xe8s,c\n", r"byte 0xe8 in line 3 is not UTF-8"),
        ("a.jsonl", b'{"source":"tr\xe8s"}', r"byte 0xe8 in line 1 is not UTF-8"),
        ("a.jsonl", '{"source":"a","target":"b"}\n\n{"so\n', r"line 3: it is not JSON"),
        (
            "a.jsonl",
            '{"source":"a","target":"b"}\n{"x":"\\ud800"}\n',
            r"line 2: a text has half of",
        ),
        ("a.jsonl", "[1]\n", r"line 1: it is not a JSON object"),
        ("a.jsonl", '{"source":["a"],"target":"b"}\n', r"line 1 has a list in column 'source'"),
        ("a.parquet", "x", r"a well-formed .parquet file is needed"),
        ("a.po", 'msgid "a"\nmsgstr "b\n', r"line 2: a text in double quotes is missing or does"),
        ("a.po", 'msgid "a"\nmsgstr b\n', r"line 2: a text in double quotes"),
        ("a.po", 'msgid "a"\n\nwhat\n', r"line 3: it is out of place"),
        ("a.po", 'msgstr "a"\n', r"line 1: it is out of place"),
        ("a.po", b'msgid "a"\nmsgstr "caf\xe9"\n', r"byte 0xe9 in line 2 is not UTF-8"),
        ("a.po", 'msgid "a"\nmsgstr ""\n', r"no pair of sentences \(1 untranslated\)"),
        ("a.tmx", "<tmx>\n<body>\n</tmx>", r"line 3: mismatched tag"),
        ("a.tmx", "", r"line 1: it is empty"),
        (
            "a.tmx",
            "<html/>",
            r"it is a web page, a TMX, XLIFF, Qt or .po file, or a table, is needed",
        ),
        (
            "a.txt",
            "<TrU>\n<Seg L=EN_US>a",
            r"a memory of Trados Workbench.*export its pairs as TMX",
        ),
        ("a.tmx", "<tm/>", r"its root is <tm> where <tmx> is needed"),
        ("a.tmx", tmx(unit(en="a"), unit(en="b")), r"cannot tell the target language .* are en"),
        ("a.tmx", tmx(unit(en="a"), unit(id="b")), r"no pair of sentences \(2 one-sided\)"),
        ("a.tmx", BOMB.format("tmx"), r"line 3 declares a document type or an entity"),
        ("a.xlf", BOMB.format("xliff"), r"line 2 declares a document type or an entity"),
        ("a.tmx", OUTSIDE.format("tmx"), r"line 1 declares a document type or an entity"),
        ("a.xlf", OUTSIDE.format("xliff"), r"line 1 declares a document type or an entity"),
        ("a.xlf", "<xliff version='1.2'/>", r"it has no <file>"),
        ("a.xlf", "<xliff version='2.0'/>", r"it has no <file>"),
        ("a.docx", "x", r"ending '.docx' is unknown, one of .csv, .tsv, .*\.parquet, .*\.po"),
        ("a", "x", r"ending '' is unknown"),
        ("a.csv.gz", b"\x1f\x8b\x08\x00", r"an unbroken archive of one file is needed"),
        ("a.csv.gz", "source,target", r"no pair of sentences"),
        (
            "a.csv.gz",
            gzip.compress(b"source,target\n" * 99, mtime=0)[:-9],
            r"unbroken archive of one",
        ),
        ("a.zip", b"PK\x03\x04", r"an unbroken archive of one file is needed"),
        ("a.txt.gz", gzip.compress(b"a", mtime=0), r"ending '.txt' is unknown"),
    ],
)
def test_a_bad_memory_stops_with_one_sentence(tmp_path, name, content, message):
    path = put(tmp_path, name, content)

    with pytest.raises(DataError, match=message) as caught:
        read_memory(path)

    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_whole_pair_of_surrogates_is_a_character(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"source":"\\ud83d\\ude00 a","target":"b"}\n')

    assert texts(read_memory(path)) == (("😀 a", "b"),)


def test_a_parquet_text_that_is_no_unicode_stops(tmp_path):
    """Arrow takes the bytes as they are: those of half of a surrogate pair."""
    offsets, content = pa.array([0, 3], pa.int32()).buffers()[1], pa.py_buffer(b"\xed\xa0\x80")
    column = pa.StringArray.from_buffers(1, offsets, content)
    pq.write_table(pa.table({"source": column, "target": ["b"]}), tmp_path / "a.parquet")

    with pytest.raises(DataError, match=r"a Parquet file that is damaged"):
        read_memory(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (("eng", "sun"), r"cannot find the language 'sun' in .*en, id, pt-BR, pt-PT.*`target_"),
        (("eng", "por"), r"unit in line 4 has por as pt-BR and as pt-PT, one is needed"),
        (("eng", None), r"cannot tell the target language .*are en, id, pt-BR, pt-PT"),
        (("en", "en-US"), r"`source_lang` en and `target_lang` en-US are one language there"),
    ],
)
def test_languages_that_a_file_does_not_tell_apart_stop(tmp_path, languages, message):
    path = put(tmp_path, "a.tmx", tmx(unit(en="one", id="satu", pt_BR="um", pt_PT="um")))

    with pytest.raises(DataError, match=message):
        read_memory(path, source_lang=languages[0], target_lang=languages[1])


def test_a_file_into_another_language_stops(tmp_path):
    with pytest.raises(DataError, match=r"for eng-jav: it translates into id, both"):
        read_memory(put(tmp_path, "a.po", PO), source_lang="eng", target_lang="jav")
    units = "<trans-unit id='1'><source>a</source><target>b</target></trans-unit>"
    with pytest.raises(DataError, match=r"for fra-ind: it translates from en into id"):
        read_memory(put(tmp_path, "a.xlf", xliff(units)), source_lang="fra", target_lang="ind")


def test_aligned_texts_of_different_lengths_stop(tmp_path):
    source, target = put(tmp_path, "a.txt", "one\ntwo\nthree\n"), put(tmp_path, "b.txt", "satu\n")

    with pytest.raises(DataError, match=r"3 and 1 lines, .* line 2 at the latest"):
        read_memory((source, target))


def test_a_text_without_its_other_side_stops(tmp_path):
    path = put(tmp_path, "news.ind", "satu\n")

    with pytest.raises(DataError, match=r"beside it is no file named news.jav"):
        read_memory(path, source_lang="ind", target_lang="jav")
    with pytest.raises(DataError, match=r"ending '.ind' is unknown, .*or two aligned texts, both"):
        read_memory(path)


def test_a_missing_file_stops(tmp_path):
    with pytest.raises(DataError, match=r"there is no such file.*check the path"):
        read_memory(tmp_path / "nope.tmx")


def test_an_archive_of_several_files_stops(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "source,target\n")
        archive.writestr("b.csv", "source,target\n")

    with pytest.raises(DataError, match=r"holds 2 files \(a.csv, b.csv\), an archive of one file"):
        read_memory(path)


def test_an_altered_archive_stops(tmp_path):
    """One byte of the packed text is turned, so that its checksum fails."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "source,target\none,satu\n")
    path.write_bytes(path.read_bytes().replace(b"satu", b"satU"))

    with pytest.raises(DataError, match=r"Bad CRC-32.*an unbroken archive of one file is needed"):
        read_memory(path)


SDL = 'xmlns:sdl="http://sdl.com/FileTypes/SdlXliff/1.0"'


def studio(*segments: tuple[str, str, str]) -> str:
    """A unit as Trados Studio keeps it: texts by segment, states beside them."""
    sources = "".join(
        f'<mrk mtype="seg" mid="{i}">{s}</mrk> ' for i, (s, _, _) in enumerate(segments)
    )
    targets = "".join(
        f'<mrk mtype="seg" mid="{i}">{t}</mrk> ' for i, (_, t, _) in enumerate(segments)
    )
    states = "".join(f'<sdl:seg id="{i}" {state}/>' for i, (_, _, state) in enumerate(segments))
    return (
        f'<trans-unit id="u" {SDL}><source>{sources}</source><seg-source>{sources}</seg-source>'
        f"<target>{targets}</target><sdl:seg-defs>{states}</sdl:seg-defs></trans-unit>"
    )


def test_each_segment_of_trados_studio_counts_with_its_own_state(tmp_path):
    """The confirmation levels of Studio; a segment without one has not been worked on."""
    content = xliff(
        studio(
            ("one", "satu", 'conf="Translated"'),
            ("two", "dua", 'conf="Draft"'),
            ("three", "tiga", 'conf="ApprovedTranslation" origin="mt"'),
            ("four", "empat", 'conf="ApprovedSignOff" locked="true"'),
            ("five", "lima", 'conf="RejectedTranslation"'),
            ("six", "enam", ""),
            ("seven", "tujuh", 'conf="Translated" origin="nmt"'),
            ("eight", "", 'conf="Draft" locked="true"'),
            ("nine", "", ""),
        ),
        studio(("ten", "sepuluh", 'conf="Draft"')),
    )

    memory = read_memory(put(tmp_path, "a.sdlxliff", content))

    assert texts(memory) == (("one", "satu"), ("three", "tiga"), ("four", "empat"))
    assert memory.left_out == {"fuzzy": 4, "machine-translated": 1, "locked": 1, "untranslated": 1}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ('mq:status="ManuallyConfirmed"', None),
        ('mq:status="Proofread"', None),
        ('mq:status="Reviewer1Confirmed" mq:locked="locked"', None),
        ('mq:status="NotStarted"', "fuzzy"),
        ('mq:status="Pretranslated"', "fuzzy"),
        ('mq:status="PartiallyEdited"', "fuzzy"),
        ('mq:status="AssembledFromFragments"', "fuzzy"),
        ('mq:status="Rejected"', "fuzzy"),
        ('mq:status="MachineTranslated"', "machine-translated"),
        ('m:confirmed="1"', None),
        ('m:confirmed="2" m:level="2"', None),
        ('m:confirmed="0"', "fuzzy"),
        ('m:confirmed="false"', "fuzzy"),
        ('m:confirmed="1" m:trans-origin="mt"', None),
        ('m:trans-origin="mt"', "machine-translated"),
        ('translate="no"', "locked"),
    ],
)
def test_the_states_of_other_tools_are_read(tmp_path, attributes, reason):
    """Words as memoQ and Phrase write them."""
    unit = f"<trans-unit id='1' {attributes}><source>a</source><target>b</target></trans-unit>"
    good = "<trans-unit id='2'><source>c</source><target>d</target></trans-unit>"
    content = xliff(unit, good).replace("<xliff ", '<xliff xmlns:mq="MQXliff" xmlns:m="urn:m" ')

    memory = read_memory(put(tmp_path, "a.mqxliff", content))

    assert memory.left_out == ({} if reason is None else {reason: 1})


@pytest.mark.parametrize(
    ("unit", "target", "reason"),
    [
        ("", "state='final' state-qualifier='leveraged-mt'", None),
        ("", "state='translated' state-qualifier='leveraged-mt'", "machine-translated"),
        ("", "state-qualifier='mt-suggestion'", "machine-translated"),
        ("approved='yes'", "state-qualifier='leveraged-mt'", None),
        ("approved='yes'", "state='needs-translation'", "fuzzy"),
        ("approved='yes'", "state-qualifier='rejected-grammar'", "fuzzy"),
        ("", "state='signed-off'", None),
        ("", "state='x-reviewing'", "fuzzy"),
        ("", "state='banana'", "fuzzy"),
        ("", "state='new'", "fuzzy"),
        ("", "state-qualifier='exact-match'", None),
        ("approved='no'", "state='translated'", None),
        ("", "xml:lang='jv'", "of other languages"),
        ("", "xml:lang='id-ID'", None),
    ],
)
def test_only_what_the_standard_calls_finished_is_used(tmp_path, unit, target, reason):
    content = xliff(
        f"<trans-unit id='1' {unit}><source>a</source><target {target}>b</target></trans-unit>",
        "<trans-unit id='2'><source>c</source><target>d</target></trans-unit>",
    )

    memory = read_memory(put(tmp_path, "a.xlf", content))

    assert memory.left_out == ({} if reason is None else {reason: 1})


def test_a_group_that_is_not_to_be_translated_locks_its_units(tmp_path):
    unit = "<trans-unit id='1'><source>a</source><target>b</target></trans-unit>"
    content = xliff(f"<group translate='no'>{unit}</group>", unit.replace("a<", "c<"))

    assert read_memory(put(tmp_path, "a.xlf", content)).left_out == {"locked": 1}


def test_several_targets_of_a_unit_are_pairs_of_their_own(tmp_path):
    targets = "<target>b</target><target>c</target><target state='new'>d</target>"
    unit = f"<trans-unit id='1'><source>a</source>{targets}</trans-unit>"

    memory = read_memory(put(tmp_path, "a.xlf", xliff(unit)))

    assert texts(memory) == (("a", "b"), ("a", "c"))
    assert (len(memory.contradictions), memory.left_out) == (1, {"fuzzy": 1})


@pytest.mark.parametrize("target", ["Satu. Dua.", "<mrk mtype='seg' mid='1'>Satu.</mrk> Dua."])
def test_a_translation_outside_of_the_segments_counts_as_a_whole(tmp_path, target):
    source = "<mrk mtype='seg' mid='1'>One.</mrk> <mrk mtype='seg' mid='2'>Two.</mrk>"
    unit = (
        f"<trans-unit id='1'><source>One. Two.</source><seg-source>{source}</seg-source>"
        f"<target>{target}</target></trans-unit>"
    )

    assert texts(read_memory(put(tmp_path, "a.xlf", xliff(unit)))) == (("One. Two.", "Satu. Dua."),)


def test_a_state_of_one_segment_of_version_2_speaks_for_those_without(tmp_path):
    """The standard takes one without for `initial`; some tools write no state at all."""
    bare = "<segment><source>a</source><target>b</target></segment>"
    kept = "<segment state='translated'><source>c</source><target>d</target></segment>"
    marked = (
        "<segment state='translated' subState='x:mt'><source>e</source><target>f</target></segment>"
    )

    assert texts(read_memory(put(tmp_path, "a.xlf", xliff2(bare)))) == (("a", "b"),)
    memory = read_memory(put(tmp_path, "b.xlf", xliff2(bare, kept, marked)))
    assert texts(memory) == (("c", "d"),)
    assert memory.left_out == {"fuzzy": 1, "machine-translated": 1}


def test_parts_of_other_languages_are_counted(tmp_path):
    unit = "<trans-unit id='{0}'><source>{0}</source><target>{1}</target></trans-unit>"
    first, second = (
        xliff(unit.format(*pair), languages=f"source-language='en' target-language='{tag}'")
        for pair, tag in ((("a", "b"), "id"), (("c", "d"), "jv"))
    )
    content = first.replace("</xliff>", second[second.index("<file") :])
    path = put(tmp_path, "a.xlf", content)

    memory = read_memory(path, source_lang="eng", target_lang="jav")
    assert texts(memory) == (("c", "d"),)
    assert memory.left_out == {"of other languages": 1}
    with pytest.raises(
        DataError, match=r"parts are of several languages \(en-id, en-jv\), one pair"
    ):
        read_memory(path)
    with pytest.raises(DataError, match=r"translates from en into id, or from en into jv, both"):
        read_memory(path, source_lang="eng", target_lang="sun")


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ("<prop type='x-ConfirmationLevel'>Translated</prop>", None),
        ("<prop type='x-ConfirmationLevel'>Draft</prop>", "fuzzy"),
        ("<prop type='x-ConfirmationLevel:SinglePicklist'>RejectedSignOff</prop>", "fuzzy"),
        ("<prop type='x-MateCAT-status'>approved</prop>", None),
        ("<prop type='x-MateCAT-status'>NEW</prop>", "fuzzy"),
        ("<prop type='approved'>no</prop>", "fuzzy"),
        ("<prop type='x-Origin'>TM</prop>", None),
        ("<prop type='x-origin'>machine</prop>", "machine-translated"),
        ("<prop type='x-origin'>machine</prop><prop type='x-review'>approved</prop>", None),
        ("<prop type='x-origin'>machine</prop><prop type='x-review'>unreviewed</prop>", "fuzzy"),
        ("<prop type='x-MT'>true</prop>", "machine-translated"),
        ("<prop type='x-MT'>no</prop>", None),
        ("<prop type='x-filename'>draft.docx</prop>", None),
    ],
)
def test_properties_of_a_memory_tell_what_is_finished(tmp_path, properties, reason):
    content = tmx(unit(en="a", id="b").replace("<tu>", f"<tu>{properties}"), unit(en="c", id="d"))

    memory = read_memory(put(tmp_path, "a.tmx", content))

    assert memory.left_out == ({} if reason is None else {reason: 1})


@pytest.mark.parametrize(
    ("attributes", "left_out"),
    [
        ('creationid="MT!"', {"machine-translated": 1}),
        ('creationid="MT!" changeid="anna"', {}),
        ('changeid="Google Translate"', {"machine-translated": 1}),
        ('creationid="mtaylor"', {}),
    ],
)
def test_a_machine_that_wrote_a_unit_is_no_translator(tmp_path, attributes, left_out):
    content = tmx(unit(en="a", id="b").replace("<tu>", f"<tu {attributes}>"), unit(en="c", id="d"))

    assert read_memory(put(tmp_path, "a.tmx", content)).left_out == left_out


def test_one_bad_unit_of_tmx_costs_itself(tmp_path):
    good = unit(en="a", id="b")
    units = [
        good,
        "<tu><tuv xml:lang='en'>a</tuv><tuv xml:lang='id'><seg>b</seg></tuv></tu>",
        "<tu><tuv><seg>a</seg></tuv><tuv xml:lang='id'><seg>b</seg></tuv></tu>",
        "<tu><tuv xml:lang='en'><seg>a</seg></tuv></tu>",
        "<tu><tuv xml:lang='de'><seg>a</seg></tuv><tuv xml:lang='fr'><seg>b</seg></tuv></tu>",
        "<tu><tuv xml:lang='en'><seg>a</seg><seg>b</seg></tuv>"
        "<tuv xml:lang='id'><seg>c</seg></tuv></tu>",
        "<tu/>",
        "<tu><tuv xml:lang='en'><seg>a <bpt i='1'/></seg></tuv>"
        "<tuv xml:lang='id'><seg>b <ept/></seg></tuv></tu>",
    ]

    memory = read_memory(put(tmp_path, "a.tmx", tmx(*units)), source_lang="en", target_lang="id")

    assert texts(memory) == (("a", "b"), ("a <bpt/>", "b <ept/>"))
    assert memory.left_out == {
        "without a segment": 1,
        "without a language": 1,
        "one-sided": 1,
        "of other languages": 2,
        "with uneven segments": 1,
    }
    assert memory.lines["without a language"] == (6,)


def test_variants_and_segments_of_a_unit_all_count(tmp_path):
    two = "<tuv xml:lang='id'><seg>b</seg></tuv><tuv xml:lang='id'><seg>c</seg></tuv>"
    segments = "<tuv xml:lang='{0}'><seg>{0} 1</seg><seg>{0} 2</seg></tuv>"
    content = tmx(
        f"<tu><tuv xml:lang='en'><seg>a</seg></tuv>{two}</tu>",
        f"<tu>{segments.format('en')}{segments.format('id')}</tu>",
    )

    memory = read_memory(put(tmp_path, "a.tmx", content))

    assert texts(memory) == (("a", "b"), ("a", "c"), ("en 1", "id 1"), ("en 2", "id 2"))


def test_a_unit_in_several_regions_costs_itself_where_others_are_plain(tmp_path):
    content = tmx(unit(en="one", pt_BR="um", pt_PT="um"), unit(en="two", pt_BR="dois"))

    memory = read_memory(put(tmp_path, "a.tmx", content), source_lang="eng", target_lang="por")

    assert texts(memory) == (("two", "dois"),)
    assert memory.left_out == {"of several regions": 1}
    assert memory.notes == ("por is there as pt-br, pt-pt, and all of them are used",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tmx(), r"it has no units \(<tu>\)"),
        (tmx("<tu></tu>"), r"its units have no variants \(<tuv>\)"),
        (tmx("<tu><tuv xml:lang='en'>a</tuv></tu>"), r"its units have no <seg>"),
        (tmx("<tu><tuv><seg>a</seg></tuv></tu>"), r"its units name no language"),
        (xliff(), r"it has no units \(<trans-unit>\)"),
        (xliff2("<notes/>"), r"it has no units \(<segment>\)"),
        ("<TS version='2.1'></TS>", r"it has no messages \(<message>\)"),
    ],
)
def test_the_part_that_is_missing_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_memory(put(tmp_path, "a.tmx", content), source_lang="eng", target_lang="ind")


QT = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" sourcelanguage="en" language="id_ID">
<context><name>Main</name>
<message><source>Open</source><translation>Buka</translation></message>
<message><source>Close</source><translation type="unfinished">Tutup</translation></message>
<message><source>New</source><translation type="unfinished"></translation></message>
<message><source>Old</source><translation type="vanished">Lama</translation></message>
<message><source>Older</source><translation type="obsolete">Tua</translation></message>
<message numerus="yes"><source>%n files</source><translation>
<numerusform>%n berkas saja</numerusform><numerusform>%n berkas</numerusform>
</translation></message>
</context></TS>
"""


@pytest.mark.parametrize("name", ["app_id.ts", "app.xml", "app"])
def test_qt_files_are_read_with_their_states(tmp_path, name):
    memory = read_memory(put(tmp_path, name, QT), source_lang="eng", target_lang="ind")

    assert texts(memory) == (("Open", "Buka"), ("%n files", "%n berkas"))
    assert memory.left_out == {
        "fuzzy": 1,
        "untranslated": 1,
        "obsolete": 2,
        "of another plural form": 1,
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xml", tmx(unit(en="one", id="satu"))),
        ("a.txt", tmx(unit(en="one", id="satu"))),
        (
            "a.tmx",
            xliff("<trans-unit id='1'><source>one</source><target>satu</target></trans-unit>"),
        ),
        ("a", xliff("<trans-unit id='1'><source>one</source><target>satu</target></trans-unit>")),
        ("a.xliff2", xliff2("<segment><source>one</source><target>satu</target></segment>")),
        ("a.txt", '# Of the shop.\n\n#: a.py\nmsgid "one"\nmsgstr "satu"\n'),
        ("a.po.bak", 'msgctxt "a"\nmsgid "one"\nmsgstr "satu"\n'),
    ],
)
def test_a_file_of_translators_is_known_by_its_content(tmp_path, name, content):
    assert texts(read_memory(put(tmp_path, name, content))) == (("one", "satu"),)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tbx", "<martif type='TBX'/>", "it is a termbase"),
        ("strings.xml", "<?xml version='1.0'?><!-- a --><resources/>", "a file of Android strings"),
        ("a.txml", "<txml/>", "a document of Wordfast Pro"),
        ("a.ttx", "<TRADOStag/>", "a document of TagEditor"),
        ("a.tmx", "<!doctype html>\n<HTML><body>Log in</body></HTML>", "it is a web page"),
        ("a.mo", b"\xde\x12\x04\x95\x00\x00", "a compiled gettext file .* by msgunfmt"),
        ("a.sdltm", b"SQLite format 3\x00", "an SQLite database"),
        (
            "a.txt",
            "%20051211~1150\t%User ID\t%TU=1\t%EN-US\t%Wordfast TM v.5\n",
            "Wordfast Classic",
        ),
        ("a.sdlppx", b"PK\x03\x04broken", "an archive that is broken"),
    ],
)
def test_what_holds_no_pairs_is_named_as_what_it_is(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        read_memory(put(tmp_path, name, content))


def test_a_package_is_named_with_what_is_in_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.sdlppx", "w") as archive:
        archive.writestr("de-DE/a.sdlxliff", "<xliff/>")
        archive.writestr("a.sdlproj", "<Project/>")

    with pytest.raises(
        DataError, match=r"package of Trados Studio of 2 files \(de-DE/a.sdlxliff, "
    ):
        read_memory(tmp_path / "a.sdlppx")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
@pytest.mark.parametrize("declared", ["UTF-16", "UTF-8", "ISO-8859-1"])
def test_the_bytes_of_a_file_are_believed_before_its_declaration(tmp_path, encoding, declared):
    content = tmx(unit(en="late", id="spät")).replace('"1.0"?>', f'"1.0" encoding="{declared}"?>')

    memory = read_memory(put(tmp_path, "a.tmx", content.encode(encoding)))

    assert texts(memory) == (("late", "spät"),)


HEADER = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset={}\\n"\n\n'


@pytest.mark.parametrize(
    "charset", ["ISO-8859-1", "windows-1252", "KOI8-R", "rot13", "base64", "idna"]
)
@pytest.mark.parametrize("form", ["po", "tmx"])
def test_utf8_under_another_name_is_read_as_utf8_and_told(tmp_path, charset, form):
    if form == "po":
        content = HEADER.format(charset) + 'msgid "late"\nmsgstr "spät"\n'
    else:
        content = tmx(unit(en="late", id="spät")).replace("?>", f' encoding="{charset}"?>', 1)

    memory = read_memory(put(tmp_path, f"a.{form}", content))

    assert texts(memory) == (("late", "spät"),)
    assert memory.notes == (
        f"it says that it is written in {charset}, but its bytes are valid UTF-8, and it is read "
        "as UTF-8",
    )


def test_an_encoding_that_is_true_is_not_doubted(tmp_path):
    """Two letters of GBK that are also one of UTF-8, and Cyrillic in windows-1251."""
    content = HEADER.format("GBK") + 'msgid "Unicom"\nmsgstr "联通"\n'
    memory = read_memory(put(tmp_path, "a.po", content.encode("gbk")))
    assert (texts(memory), memory.notes) == ((("Unicom", "联通"),), ())
    content = HEADER.format("windows-1251") + 'msgid "late"\nmsgstr "поздно"\n'
    memory = read_memory(put(tmp_path, "b.po", content.encode("cp1251")))
    assert (texts(memory), memory.notes) == ((("late", "поздно"),), ())


def test_an_encoding_of_no_texts_stops(tmp_path):
    content = (HEADER.format("rot13") + 'msgid "late"\nmsgstr "spät"\n').encode("latin-1")

    with pytest.raises(DataError, match=r"written in rot13, which is no encoding of texts"):
        read_memory(put(tmp_path, "a.po", content))


@pytest.mark.parametrize(
    "rule",
    [
        "nplurals=999999999; plural=n;",
        "nplurals=2; plural=n**n**n;",
        "nplurals=2; plural=((((",
        "nplurals=2; plural=" + "(" * 400 + "n" + ")" * 400 + ";",
        "nplurals=2; plural=5;",
        "nplurals=2; plural=1/0;",
        "nplurals=0; plural=0;",
        f"nplurals={'9' * 5000}; plural=0;",
    ],
)
def test_a_rule_of_plurals_that_is_none_is_told(tmp_path, rule):
    content = (
        f'msgid ""\nmsgstr "Plural-Forms: {rule}\\n"\n\nmsgid "%d file"\n'
        'msgid_plural "%d files"\nmsgstr[0] "%d fichier"\nmsgstr[1] "%d fichiers"\n'
    )

    memory = read_memory(put(tmp_path, "a.po", content))

    assert texts(memory) == (("%d file", "%d fichier"), ("%d files", "%d fichiers"))
    assert memory.notes[0].startswith("its rule of plurals is none")
    assert len(memory.notes[0]) < 300


def test_plural_forms_that_are_no_pair_are_counted(tmp_path):
    rule = "nplurals=3; plural=(n%10==1 ? 0 : n%10<5 ? 1 : 2);"
    forms = "".join(f'msgstr[{i}] "{text}"\n' for i, text in enumerate(["один", "два", "много"]))
    content = f'msgid ""\nmsgstr "Plural-Forms: {rule}\\n"\n\nmsgid "a"\nmsgid_plural "as"\n{forms}'

    memory = read_memory(put(tmp_path, "a.po", content))

    assert texts(memory) == (("a", "один"), ("as", "два"))
    assert memory.left_out == {"header": 1, "of another plural form": 1}


def test_comments_of_gettext_need_no_blank(tmp_path):
    content = (
        '#comment\n#,fuzzy\n#|msgid "older"\nmsgid "a"\nmsgstr "b"\n\n#:a.c:1\nmsgid "c"\n'
        'msgstr "d"\n\n#~msgid "e"\n#~msgstr "f"\n'
    )

    memory = read_memory(put(tmp_path, "a.po", content.replace("\n", "\r\n")))

    assert texts(memory) == (("c", "d"),)
    assert memory.left_out == {"fuzzy": 1, "obsolete": 1}


KEYS = "form.save.button,Simpan formulir\nmenu_open,Buka\nerrorLate,Terlambat\nlist-empty,Kosong\n"


@pytest.mark.parametrize(
    "key",
    ["home/title/0", "/home/title", "{{home.title}}", "home[0].title", "app::save", "$a.b", "1001"],
)
def test_a_path_to_a_text_is_no_sentence(tmp_path, key):
    """A word beside keys, in small letters or in capitals, is one too."""
    content = f"source,target\n{key},Judul\n{key},Isi\nintro,Awal\nThe lift is late.,Telat.\n"

    memory = read_memory(put(tmp_path, "a.csv", content))

    assert texts(memory) == (("The lift is late.", "Telat."),)
    assert memory.left_out == {"key": 3}
    words = "source,target\nand/or,dan atau\nSave,Simpan\n24/7,selalu\n"
    assert len(read_memory(put(tmp_path, "b.csv", words)).pairs) == 3


def test_sources_that_are_keys_are_no_sentences(tmp_path):
    with pytest.raises(DataError, match=r"\(4 key\).* sources look like keys, such as 'errorLate'"):
        read_memory(put(tmp_path, "a.csv", f"source,target\n{KEYS}"))
    memory = read_memory(put(tmp_path, "b.csv", f"source,target\n{KEYS}The lift is late.,Telat.\n"))
    assert texts(memory) == (("The lift is late.", "Telat."),)
    assert memory.left_out == {"key": 4}


def test_a_few_keys_among_sentences_are_told_and_used(tmp_path):
    rows = "".join(f"Sentence {i}.,Kalimat {i}.\n" for i in range(9))

    memory = read_memory(put(tmp_path, "a.csv", f"source,target\n{rows}read.me,Baca\n"))

    assert len(memory.pairs) == 10
    assert memory.notes == (
        "1 of 10 sources look like names of texts, not like sentences, such as 'read.me'; they are "
        "used",
    )


def test_characters_that_xml_does_not_have_are_dropped_and_told(tmp_path):
    content = tmx(unit(en="a&#x1E;b", id="c\x02d&#31;"), unit(en="tab&#9;", id="e&#xA0;"))

    memory = read_memory(put(tmp_path, "a.tmx", content))

    assert texts(memory) == (("ab", "cd"), ("tab\t", "e\xa0"))
    assert memory.notes == ("3 characters that XML does not have were dropped",)


def test_elements_without_end_stop(tmp_path):
    deep = tmx(unit(en="<hi>" * 300 + "a" + "</hi>" * 300, id="b"))

    with pytest.raises(DataError, match=r"line 4: its elements are nested more than 100 deep"):
        read_memory(put(tmp_path, "a.tmx", deep))


def test_many_languages_are_not_all_listed(tmp_path):
    content = tmx(unit(**{f"x{i:04}{'a' * 300}": "a" for i in range(500)}))

    with pytest.raises(DataError, match="and 490 more") as caught:
        read_memory(put(tmp_path, "a.tmx", content), source_lang="eng", target_lang="ind")

    assert len(str(caught.value)) < 2000


def test_a_header_of_all_languages_needs_the_source_named(tmp_path):
    content = tmx(unit(en="one", id="satu"), header='srclang="*all*"')

    assert texts(read_memory(put(tmp_path, "a.tmx", content), source_lang="id")) == (
        ("satu", "one"),
    )
    with pytest.raises(DataError, match=r"cannot tell the source language .* are en, id"):
        read_memory(put(tmp_path, "b.tmx", content))


def test_an_encoding_that_the_user_names_is_taken(tmp_path):
    content = HEADER.format("ISO-8859-1") + 'msgid "late"\nmsgstr "spÃ¤t"\n'
    path = put(tmp_path, "a.po", content.encode())

    assert texts(read_memory(path, encoding="utf-8")) == (("late", "spÃ¤t"),)
    assert texts(read_memory(path, encoding="latin-1")) != (("late", "spÃ¤t"),)
    with pytest.raises(DataError, match=r"'rot13' is no encoding of texts"):
        read_memory(path, encoding="rot13")


@pytest.mark.parametrize(
    ("column", "words", "left_out"),
    [
        ("fuzzy", ("True", "False"), {"fuzzy": 1}),
        ("Status", ("needs-review", "translated"), {"fuzzy": 1}),
        ("Match", ("MT", "100%"), {"machine-translated": 1}),
        ("approved", ("no", "yes"), {"fuzzy": 1}),
        ("is_mt", ("1", "0"), {"machine-translated": 1}),
        ("status", ("", "open"), {}),
        ("context", ("draft", "new"), {}),
    ],
)
def test_a_column_of_states_tells_what_is_finished(tmp_path, column, words, left_out):
    """The columns of Weblate's and other exports."""
    content = f"source,target,{column}\none,satu,{words[0]}\ntwo,dua,{words[1]}\n"

    assert read_memory(put(tmp_path, "a.csv", content)).left_out == left_out


def test_signs_that_begin_no_entity_are_read(tmp_path):
    content = tmx(unit(en="Save&nbsp;it", id="Simpan"), unit(en="Food & room", id="Makanan"))
    plain = content.replace('<!DOCTYPE tmx SYSTEM "tmx14.dtd">', "")

    for name, text in (("a.tmx", content), ("b.tmx", plain)):
        memory = read_memory(put(tmp_path, name, text), source_lang="eng", target_lang="ind")
        assert texts(memory) == (("Save\u00a0it", "Simpan"), ("Food & room", "Makanan"))
        assert "2" in memory.notes[0]


def test_a_declaration_that_it_could_not_be_read_in_is_not_believed(tmp_path):
    content = tmx(unit(en="Café open", id="Kafe buka"))
    content = content.replace('version="1.0"', 'version="1.0" encoding="UTF-16"')

    memory = read_memory(put(tmp_path, "a.tmx", content), source_lang="eng", target_lang="ind")

    assert texts(memory) == (("Café open", "Kafe buka"),)
    assert "UTF-16" in memory.notes[0]


def test_blank_lines_at_the_end_of_one_text_shift_nothing(tmp_path):
    put(tmp_path, "a.ind", "Simpan\nBuka\n\n \n")
    path = put(tmp_path, "a.eng", "Save\nOpen\n")

    memory = read_memory(path, source_lang="eng", target_lang="ind")

    assert texts(memory) == (("Save", "Simpan"), ("Open", "Buka"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.strings", '"Save" = "Simpan";', "holds one language"),
        ("app_id.arb", '{"save": "Simpan"}', "holds one language"),
        ("a.ts", "export const save = 1;", "it is no XML"),
        ("a.po", '<<<<<<< HEAD\nmsgid "a"\nmsgstr "b"\n=======\n', "a merge of Git was not"),
        ("a.tmx", tmx(unit(en="Save", id="Simpan"))[:-30], "its end is missing"),
    ],
)
def test_files_that_are_no_memories_are_named(tmp_path, name, content, reason):
    with pytest.raises(DataError, match=reason):
        read_memory(put(tmp_path, name, content), source_lang="eng", target_lang="ind")


XLF = xliff('<trans-unit id="1"><source>Save</source><target>Simpan</target></trans-unit>')
XLF_2 = (
    '<xliff version="2.0" xmlns="urn:oasis:names:tc:xliff:document:2.0" srcLang="en" trgLang="id">'
    '\n<file id="a">\n<group id="g">\n<unit id="1"><segment><source>Save</source>'
    "<target>Simpan</target></segment></unit>\n</group></body></file></xliff>"
)
CUT_TS = (
    '<TS version="2.1" language="id" sourcelanguage="en">\n<context>\n<name>a</name>\n<message>'
    "<source>Save</source><translation>Simpan</translation></message>\n</context></body></TS>"
)


@pytest.mark.parametrize("rest", ["<tu><tuv><seg>Op", "<t", ""])
@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("a.tmx", tmx(unit(en="Save", id="Simpan"))),
        ("a.xlf", XLF),
        ("a.sdlxliff", XLF),
        ("b.xlf", XLF_2),
        ("a.ts", CUT_TS),
    ],
)
def test_a_memory_that_is_cut_off_is_read_up_to_there_and_that_is_told(tmp_path, name, whole, rest):
    path = put(tmp_path, name, whole[: whole.index("</body>")] + rest)

    memory = read_memory(path, source_lang="eng", target_lang="ind")

    assert texts(memory) == (("Save", "Simpan"),)
    assert "its end is missing: it is read up to line 4" in memory.notes[0]


def test_an_entry_that_is_not_well_formed_costs_itself(tmp_path):
    entries = 'msgid "Save"\nmsgstr "Simpan"\n', 'msgid "a "b""\nmsgstr "x"\n', 'msgid "Op'
    path = put(tmp_path, "a.po", "\n".join(entries))

    memory = read_memory(path, source_lang="eng", target_lang="ind")

    assert texts(memory) == (("Save", "Simpan"),)
    assert "entries that are not well-formed are left out: 2 (line 4, 7)" in memory.notes


@pytest.mark.parametrize(
    ("name", "whole"), [("a.tmx", tmx(unit(en="Save", id="Simpan"))), ("a.xlf", XLF)]
)
def test_files_that_were_joined_are_read_as_one(tmp_path, name, whole):
    path = put(tmp_path, name, whole + "\ufeff" + whole.replace("Sa", "Wa").replace("Si", "Ti"))

    memory = read_memory(path, source_lang="eng", target_lang="ind")

    assert texts(memory) == (("Save", "Simpan"), ("Wave", "Timpan"))
    assert "2 files follow one another in it and are read as one" in memory.notes


def test_a_unit_of_xliff_that_is_no_xml_costs_itself(tmp_path):
    broken = XLF.replace("<source>", "<source><b ").replace('id="1"', 'id="2" x:lock="a"')
    start = XLF.index("<trans-unit"), XLF.index("</body>")
    units = (
        XLF[slice(*start)] + "\n" + broken[broken.index("<trans-unit") : broken.index("</body>")]
    )

    memory = read_memory(put(tmp_path, "a.xlf", XLF[: start[0]] + units + XLF[start[1] :]))

    assert texts(memory) == (("Save", "Simpan"),)
    assert "units that are no XML are left out: 1 (line 6)" in memory.notes


def test_a_unit_that_is_no_xml_costs_itself(tmp_path):
    units = unit(en="Save", id="Simpan"), unit(en="Late", id="x")[:-9], unit(en="Open", id="Buka")
    path = put(tmp_path, "a.tmx", tmx(units[0], units[1] + "</tu>", units[2]))

    memory = read_memory(path, source_lang="eng", target_lang="ind")

    assert texts(memory) == (("Save", "Simpan"), ("Open", "Buka"))
    assert "units that are no XML are left out: 1 (line 5)" in memory.notes


def test_languages_of_a_memory_may_be_written_in_full(tmp_path):
    path = put(tmp_path, "a.tmx", tmx(unit(English="Save", Deutsch="Sichern"), header=""))

    memory = read_memory(path, source_lang="eng", target_lang="deu")

    assert texts(memory) == (("Save", "Sichern"),)


@pytest.mark.parametrize("error", ["#N/A", "#REF!", "#WERT!"])
def test_an_error_of_a_spreadsheet_is_no_translation(tmp_path, error):
    path = put(tmp_path, "a.csv", f"source,target\nSave,Simpan\nOpen,{error}\nKosong,None\n")

    memory = read_memory(path)

    assert texts(memory) == (("Save", "Simpan"), ("Kosong", "None"))
    assert dict(memory.left_out) == {"one-sided": 1}


def test_what_nobody_sees_is_no_sentence(tmp_path):
    path = put(tmp_path, "a.csv", "source,target\n\u200b,Simpan\nOpen,Buka\nYes,\ufeff\n")

    memory = read_memory(path)

    assert texts(memory) == (("Open", "Buka"),)
    assert dict(memory.left_out) == {"one-sided": 2}


def test_languages_as_keys_of_objects_are_columns(tmp_path):
    """Files of a program's texts, a language each, put together."""
    content = {"en": {"save": "Save it", "open": "Open"}, "id": {"save": "Simpan", "open": "Buka"}}

    memory = read_memory(
        put(tmp_path, "a.json", json.dumps(content)), source_lang="eng", target_lang="ind"
    )

    assert texts(memory) == (("Save it", "Simpan"), ("Open", "Buka"))


def test_a_message_lists_the_columns_of_the_file_alone(tmp_path):
    path = put(tmp_path, "a.csv", "en,de_DE,de_AT\nJanuary,Januar,J\u00e4nner\n")

    with pytest.raises(DataError, match="its columns are 'en', 'de_DE', 'de_AT';"):
        read_memory(path, source_lang="eng", target_lang="deu")


def test_an_encoding_that_is_not_declared_can_be_named(tmp_path):
    path = put(tmp_path, "a.tmx", tmx(unit(en="Open", id="Kaf\u00e9")).encode("cp1252"))

    with pytest.raises(DataError, match="name its own with `encoding`"):
        read_memory(path, source_lang="eng", target_lang="ind")
    memory = read_memory(path, source_lang="eng", target_lang="ind", encoding="cp1252")

    assert texts(memory) == (("Open", "Kaf\u00e9"),)
