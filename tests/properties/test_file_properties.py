"""Files of translators and YAML: what is written comes back, and any content is one sentence."""

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from nlp_meta.data.cells import is_empty
from nlp_meta.data.schema import YamlError, read_yaml
from nlp_meta.errors import NlpMetaError
from nlp_meta.files.catalogs import po_entries, render_po, ts_entries
from nlp_meta.files.documents import read_sources, write_translations
from nlp_meta.files.entries import UserFile
from nlp_meta.files.memories import read_memory
from nlp_meta.files.tmx import render_tmx, tmx_entries
from nlp_meta.files.xliff import render_xliff, xliff_entries

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

# All that XML has; of control characters that is the end of a line and a tab.
TEXTS = (
    st.text(
        st.characters(
            exclude_categories=("Cs", "Cc"),
            include_characters="\n\t",
            exclude_characters="\ufffe\uffff",
        ),
        min_size=1,
        max_size=40,
    )
    .map(lambda text: text.replace("|", "\n").replace("~", "\t"))
    .filter(lambda text: not is_empty(text))
)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5)
PIECES = """
<tmx version='1.4'>|<body>|<tu>|</tu>|<tuv xml:lang='en'>|</tuv>|<seg>|</seg>|a|</body>|</tmx>
<xliff version='1.2'>|<file>|<trans-unit>|&lt;|<source>|</source>|<target state='new'>|</target>
</trans-unit>|</file>|</xliff>|<TS>|<message>|</message>|</TS>|<!DOCTYPE TS>|&x;|<!--|-->
msgid "a"|msgstr "b"|msgstr[7] "c"|msgid_plural "d"|#, fuzzy|#~ |\\n
"""
MARKUP = st.lists(st.sampled_from(PIECES.replace("\n", "|").split("|")), max_size=30).map(
    lambda pieces: "\n".join(pieces)
)
UTF16 = MARKUP.map(lambda text: text.encode("utf-16"))
CONTENTS = st.binary(max_size=200) | MARKUP.map(str.encode) | UTF16


def user_file(form: str, content: bytes) -> UserFile:
    return UserFile(Path(f"memory.{form}"), form, content)


@quick
@given(PAIRS)
def test_pairs_come_back_from_tmx(pairs):
    content = render_tmx(pairs, source_lang="en", target_lang="de")

    entries = tmx_entries(user_file("tmx", content), source_lang="en", target_lang="de").entries

    assert [(entry.source, entry.target) for entry in entries] == pairs


@quick
@given(PAIRS, st.booleans())
def test_pairs_come_back_from_xliff(pairs, reviewed):
    content = render_xliff(pairs, source_lang="en", target_lang="de", reviewed=reviewed)

    entries = xliff_entries(user_file("xliff", content)).entries

    assert [(entry.source, entry.target) for entry in entries] == pairs
    assert {entry.reason for entry in entries} == {None if reviewed else "fuzzy"}


@quick
@given(PAIRS, st.booleans())
def test_pairs_come_back_from_gettext(pairs, reviewed):
    content = render_po(pairs, target_lang="de", reviewed=reviewed)

    header, *entries = po_entries(user_file("po", content)).entries

    assert header.reason == "header"
    assert [(entry.source, entry.target) for entry in entries] == pairs
    assert {entry.reason for entry in entries} == {None if reviewed else "fuzzy"}


@quick
@given(st.lists(TEXTS, min_size=1, max_size=4), st.lists(TEXTS, min_size=4, max_size=4))
def test_a_filled_xliff_file_holds_the_translations(sources, translations):
    """A translation has the blanks of its source around it, and is left for review."""
    pairs = [(source, "") for source in sources]
    content = render_xliff(pairs, source_lang="en", target_lang="de", reviewed=False)
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "a.xlf", Path(folder) / "b.xlf"
        path.write_bytes(content)
        document = read_sources(path)
        write_translations(out, document, translations[: len(sources)])
        entries = xliff_entries(user_file("xliff", out.read_bytes())).entries

    assert [entry.source for entry in entries] == sources
    wanted = translations[: len(sources)]
    assert [(entry.target or "").strip() for entry in entries] == [text.strip() for text in wanted]


@quick
@given(st.lists(TEXTS, min_size=1, max_size=4), st.lists(TEXTS, min_size=4, max_size=4))
def test_a_filled_qt_file_holds_the_translations(sources, translations):
    root = etree.Element("TS")
    for source in sources:
        etree.SubElement(etree.SubElement(root, "message"), "source").text = source
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "a.ts", Path(folder) / "b.ts"
        path.write_bytes(etree.tostring(root))
        write_translations(out, read_sources(path), translations[: len(sources)])
        entries = ts_entries(user_file("ts", out.read_bytes())).entries

    assert [entry.source for entry in entries] == sources
    wanted = translations[: len(sources)]
    assert [(entry.target or "").strip() for entry in entries] == [text.strip() for text in wanted]
    assert {entry.reason for entry in entries} == {"fuzzy"}


@pytest.mark.parametrize("form", ["tmx", "xlf", "ts", "po"])
@quick
@given(content=CONTENTS)
def test_any_content_is_a_memory_or_one_sentence(form, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{form}"
        path.write_bytes(content)
        refusal = ""
        try:
            assert read_memory(path, source_lang="en", target_lang="de").pairs
        except NlpMetaError as error:
            refusal = str(error)
    assert "\n" not in refusal and len(refusal) <= 2000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


@quick
@given(VALUES)
def test_yaml_comes_back(value):
    assert read_yaml(yaml.safe_dump(value)) == value


@quick
@given(st.text(st.sampled_from("ab:-?&*!<>|{}[]'\"#%@,\n\t 019.~=x\x00"), max_size=60))
def test_any_text_is_yaml_or_one_sentence(text):
    refusal, value = "", None
    try:
        value = read_yaml(text)
    except YamlError as error:
        refusal = str(error)
    assert "\n" not in refusal and len(refusal) < 400
    assert refusal or repr(value) == repr(yaml.safe_load(text))
