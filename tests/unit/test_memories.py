"""Translation memories: the same pairs from every format, and one sentence for every bad file."""

import gzip
import json
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
@pytest.mark.parametrize("packing", ["gz", "zip"])
def test_packed_files_read_like_plain_ones(tmp_path, form, packing):
    plain = write(tmp_path, form)
    if packing == "gz":
        path = put(tmp_path, f"{plain.name}.gz", gzip.compress(plain.read_bytes()))
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

    assert texts(memory) == (("a &hellip; b", "c &hellip; d"), ("e", "f"))


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
        "<segment><source>e <ph id='1'/><pc id='2'>f</pc></source>"
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
        ("a.csv", "src,target\na,b\n", r"are 'src', 'target' \(nearest: 'src'\).*`source_col"),
        ("a.jsonl", '{"source":"a"}\n', r"column 'target' .*are 'source'.*`target_column`"),
        ("a.csv", "source,source,target\na,b,c\n", r"2 have that name"),
        ("a.csv", "source,target\na,b\nno, no,c\n", r"line 3: it has 3 cells where the header has"),
        ("a.csv", 'source,target\n"a"b,c\n', r"line 2: .*a well-formed .csv file is needed"),
        ("a.csv", b"source,target\na,b\ncaf\xe9,c\n", r"byte 0xe9 in line 3 is not UTF-8"),
        ("a.jsonl", b'{"source":"caf\xe9"}', r"byte 0xe9 in line 1 is not UTF-8"),
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
        ("a.tmx", "", r"line 1: no element found"),
        ("a.tmx", "<html/>", r"its root is <html> where <tmx> is needed"),
        ("a.tmx", tmx(unit(en="a"), unit(en="b")), r"cannot tell the target language .* are en"),
        ("a.tmx", tmx(unit(en="a"), unit(id="b")), r"no pair of sentences \(2 one-sided\)"),
        ("a.tmx", BOMB.format("tmx"), r"line 3 declares a document type or an entity"),
        ("a.xlf", BOMB.format("xliff"), r"line 2 declares a document type or an entity"),
        ("a.tmx", OUTSIDE.format("tmx"), r"line 1 declares a document type or an entity"),
        ("a.xlf", OUTSIDE.format("xliff"), r"line 1 declares a document type or an entity"),
        ("a.xlf", "<xliff version='1.2'/>", r"it has no <file>"),
        ("a.xlf", "<xliff version='1.2'>\n<a>&b;</a></xliff>", r"line 2: undefined entity"),
        ("a.xlf", "<xliff version='2.0'/>", r"its elements are not in the namespace of XLIFF"),
        ("a.docx", "x", r"ending '.docx' is unknown, one of .csv, .tsv, .jsonl, .parquet, .po"),
        ("a", "x", r"ending '' is unknown"),
        ("a.csv.gz", b"\x1f\x8b\x08\x00", r"an unbroken archive of one file is needed"),
        ("a.csv.gz", "source,target", r"an unbroken archive of one file is needed"),
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

    with pytest.raises(DataError, match=r"a well-formed .parquet file is needed"):
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
