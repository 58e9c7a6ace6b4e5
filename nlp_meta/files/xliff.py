"""XLIFF 1.2 and 2.0: units with their state, and the same file with translations."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from nlp_meta.errors import DataError
from nlp_meta.files.entries import (
    FUZZY,
    HEADER,
    LOCKED,
    UNTRANSLATED,
    Entry,
    UserFile,
    damaged,
    is_blank,
)
from nlp_meta.files.markup import check_xml, fill, flatten, space_is_kept

_FINISHED = ("translated", "final", "signed-off")
_GUESSES = ("fuzzy-match", "mt-suggestion", "leveraged-mt")

_SPACE = "{http://www.w3.org/XML/1998/namespace}space"
_NEW_FILE = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">\n'
    '<file original="pairs" source-language="" datatype="plaintext"><body></body></file>\n'
    "</xliff>"
)


def xliff_entries(file: UserFile) -> tuple[list[Entry], str | None, str | None]:
    """Read the units of an XLIFF file; those of version 2 segment by segment.

    Returns:
        The entries, and the languages of both sides where the file names them.

    Raises:
        DataError: The file is malformed or not safe, or has translations into several
            languages.
    """
    store = _load(file)
    languages = {node.get("target-language") for node in store.document.getroot().iterchildren()}
    targets = sorted(languages - {None, ""})
    if len(targets) > 1:
        raise DataError(
            f"cannot read '{file.path}': its parts are translated into {', '.join(targets)}, one "
            "language is needed; give the parts as files of their own"
        )
    target = targets[0] if targets else store.targetlanguage
    return [_entry(unit) for unit in store.units], store.sourcelanguage or None, target or None


def fill_xliff(
    file: UserFile, translations: Mapping[int, str], *, target_lang: str | None = None
) -> bytes:
    """Write translations into the units at their places, marked for review; all else stays."""
    from lxml import etree

    store = _load(file)
    for place, text in translations.items():
        unit = store.units[place]
        target = unit.target_dom
        if target is None:
            target = _add_target(unit)
        fill(target, text, like=unit.source_dom)
        _mark_for_review(unit.xmlelement, target)
    if target_lang and not store.targetlanguage:
        store.settargetlanguage(target_lang)
    encoding = store.document.docinfo.encoding or "UTF-8"
    written: bytes = etree.tostring(store.document, xml_declaration=True, encoding=encoding)
    return written + b"\n" if encoding.upper() == "UTF-8" else written


def render_xliff(
    pairs: Sequence[tuple[str, str]], *, source_lang: str, target_lang: str, reviewed: bool
) -> bytes:
    """Write pairs as an XLIFF 1.2 file."""
    from translate.storage.xliff import Xliff1File

    store: Any = Xliff1File(BytesIO(_NEW_FILE.encode()))
    store.setsourcelanguage(source_lang)
    store.settargetlanguage(target_lang)
    for number, (source, target) in enumerate(pairs, start=1):
        unit = store.UnitClass("")
        unit.setid(str(number))
        store.addunit(unit)
        fill(unit.source_dom, source, like=unit.source_dom)
        node = _add_target(unit)
        fill(node, target, like=node)
        node.set("state", "translated" if reviewed else "needs-review-translation")
    out = BytesIO()
    store.serialize(out)
    return out.getvalue()


def _load(file: UserFile) -> Any:
    attributes = check_xml(file, root="xliff")
    from lxml import etree
    from translate.storage.xliff import Xliff1File
    from translate.storage.xliff2 import Xliff2File

    version = attributes.get("version", "")
    try:
        store: Any = (Xliff2File if version.startswith("2.") else Xliff1File)(BytesIO(file.content))
    except (etree.XMLSyntaxError, AssertionError, ValueError, StopIteration) as error:
        reason = {
            StopIteration: "it has no <file>",
            AssertionError: "its elements are not in the namespace of XLIFF",
        }.get(type(error), error)
        raise damaged(file, reason) from error
    return store


def _entry(unit: Any) -> Entry:
    node, source, target = unit.xmlelement, unit.source_dom, unit.target_dom
    texts = [
        None if part is None else flatten(part, preserve=space_is_kept(part, default=False))
        for part in (source, target)
    ]
    reason = None
    if "gettext-domain-header" in (node.get("restype") or ""):
        reason = HEADER
    elif not unit.istranslatable():
        reason = LOCKED
    elif is_blank(texts[1]):
        reason = UNTRANSLATED
    elif _is_fuzzy(unit):
        reason = FUZZY
    return Entry(texts[0], texts[1], node.sourceline, reason)


def _is_fuzzy(unit: Any) -> bool:
    """Whether a translation is still to be looked at."""
    if _local_name(unit.xmlelement) == "segment":
        return bool(unit.isfuzzy())
    # The toolkit asks for approval, which few programs give.
    state = unit.target_dom.get("state") or ""
    if unit.target_dom.get("state-qualifier") in _GUESSES or state == "new":
        return bool(unit.xmlelement.get("approved") != "yes")
    refused: bool = unit.xmlelement.get("approved") == "no" and state not in _FINISHED
    return refused or str(state).startswith("needs-")


def _add_target(unit: Any) -> Any:
    """An empty target where the schema wants it, indented like its source."""
    from lxml import etree

    before = unit.source_dom
    after = before.getnext()
    if after is not None and isinstance(after.tag, str) and _local_name(after) == "seg-source":
        before = after
    target = etree.Element(unit.namespaced("target"))
    inner = unit.xmlelement.text
    if unit.source_dom.get(_SPACE):
        target.set(_SPACE, unit.source_dom.get(_SPACE))
    target.tail = before.tail
    before.tail = inner if is_blank(inner) else None
    unit.xmlelement.insert(unit.xmlelement.index(before) + 1, target)
    return target


def _mark_for_review(unit: Any, target: Any) -> None:
    if _local_name(unit) == "segment":
        unit.set("state", "initial")
        return
    target.set("state", "needs-review-translation")
    target.attrib.pop("state-qualifier", None)
    if unit.get("approved") == "yes":
        unit.set("approved", "no")


def _local_name(node: Any) -> str:
    return str(node.tag).rpartition("}")[2]
