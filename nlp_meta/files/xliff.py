"""XLIFF 1.x and 2.x: units and segments with their state, and the same file with translations.

A unit whose text is divided into segments on both sides (`mrk` of type `seg`, as Trados Studio
writes it) gives an entry of each; a unit with several targets one of each target.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_meta.data.cells import is_empty
from nlp_meta.data.languages import same_language
from nlp_meta.errors import DataError
from nlp_meta.files.entries import (
    HEADER,
    LOCKED,
    OTHER_LANGUAGES,
    UNTRANSLATED,
    Catalog,
    Entry,
    UserFile,
    damaged,
)
from nlp_meta.files.markup import (
    fill,
    flatten,
    load_lxml,
    read_xml,
    render_xml,
    space_is_kept,
    write_xml,
)
from nlp_meta.files.states import is_locked, segment_reason, xliff_reason

_SPACE = "{http://www.w3.org/XML/1998/namespace}space"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_NEW_FILE = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">\n'
    '<file original="pairs" source-language="" datatype="plaintext"><body></body></file>\n'
    "</xliff>"
)


@dataclass(frozen=True, slots=True)
class _Place:
    """A text and the place of its translation.

    Attributes:
        unit: `trans-unit` of version 1, `segment` of version 2.
        source, target: Elements with texts; `target` may yet be missing.
        segment: What Trados Studio keeps of a segment; else None.
        part: Of the file.
    """

    unit: Any
    source: Any | None
    target: Any | None
    segment: Any | None
    part: int


def xliff_entries(file: UserFile) -> Catalog:
    """Read the units of an XLIFF file, of version 2 its segments; each `file` in it is a part.

    Raises:
        DataError: The file is malformed or not safe, or has no units.
    """
    document = read_xml(file, root="xliff")
    root = document.root
    places = list(_places(file, root))
    if not places:
        unit = "<segment>" if _is_second(root) else "<trans-unit>"
        raise DataError(
            f"cannot read '{file.path}': it has no units ({unit}), one with a translation is "
            "needed; export it anew or name another file"
        )
    languages = _languages(root)
    states = any(place.unit.get("state") for place in places if _is_second(root))
    entries = [_entry(place, languages[place.part], states_are_kept=states) for place in places]
    return Catalog(entries, languages, document.notes)


def fill_xliff(
    file: UserFile, translations: Mapping[int, str], *, target_lang: str | None = None
) -> bytes:
    """Write translations into the units at their places, marked for review; all else stays."""
    document = read_xml(file, root="xliff")
    places = list(_places(file, document.root))
    for number, text in translations.items():
        place = places[number]
        target = _add_target(place) if place.target is None else place.target
        fill(target, text, like=place.source)
        _mark_for_review(place, target)
    if target_lang:
        name = "trgLang" if _is_second(document.root) else "target-language"
        for node in [document.root] if _is_second(document.root) else _files(document.root):
            if not node.get(name):
                node.set(name, target_lang)
    return write_xml(document)


def render_xliff(
    pairs: Sequence[tuple[str, str]], *, source_lang: str, target_lang: str, reviewed: bool
) -> bytes:
    """Write pairs as an XLIFF 1.2 file."""
    etree = load_lxml()

    root = etree.fromstring(_NEW_FILE.encode())
    part = root[0]
    part.set("source-language", source_lang)
    part.set("target-language", target_lang)
    name = part.tag.removesuffix("file")
    for number, texts in enumerate(pairs, start=1):
        unit = etree.SubElement(part[0], f"{name}trans-unit", {"id": str(number)})
        unit.set(_SPACE, "preserve")
        for side, text in zip(("source", "target"), texts, strict=True):
            node = etree.SubElement(unit, f"{name}{side}")
            fill(node, text, like=node)
        unit[1].set("state", "translated" if reviewed else "needs-review-translation")
    return render_xml(root)


def _is_second(root: Any) -> bool:
    version = root.get("version") or ""
    return version.startswith("2") or ":2." in root.tag


def _files(root: Any) -> list[Any]:
    return list(root.iterchildren("{*}file"))


def _languages(root: Any) -> list[tuple[str | None, str | None]]:
    if _is_second(root):
        both = (root.get("srcLang") or None, root.get("trgLang") or None)
        return [both] * len(_files(root))
    return [
        (node.get("source-language") or None, node.get("target-language") or None)
        for node in _files(root)
    ]


def _places(file: UserFile, root: Any) -> Iterator[_Place]:
    parts = _files(root)
    if not parts:
        raise damaged(file, "it has no <file>")
    for number, part in enumerate(parts):
        if _is_second(root):
            for node in part.iter("{*}segment"):
                source, target = node.find("{*}source"), node.find("{*}target")
                yield _Place(node, source, target, None, number)
        else:
            for unit in part.iter("{*}trans-unit"):
                yield from _places_of(unit, number)


def _places_of(unit: Any, part: int) -> Iterator[_Place]:
    source, divided = unit.find("{*}source"), unit.find("{*}seg-source")
    kept = {node.get("id"): node for node in unit.iterfind("{*}seg-defs/{*}seg")}
    whole = next(iter(kept.values())) if len(kept) == 1 else None
    targets = list(unit.iterchildren("{*}target"))
    for target in targets:
        left, right = _segments(divided), _segments(target)
        if not left or not right:
            yield _Place(unit, source, target, whole, part)
            continue
        for name in dict.fromkeys((*left, *right)):
            yield _Place(unit, left.get(name), right.get(name), kept.get(name), part)
    if not targets:
        yield _Place(unit, source, None, whole, part)


def _segments(node: Any | None) -> dict[str, Any] | None:
    """The segments of a text by their names; None where text is outside of them."""
    if node is None:
        return None
    segments = [mark for mark in node.iter("{*}mrk") if mark.get("mtype") == "seg"]
    named = {mark.get("mid") or "": mark for mark in segments}
    inside = sum(map(_count_ink, segments))
    return named if len(named) == len(segments) and inside == _count_ink(node) else None


def _count_ink(node: Any) -> int:
    return sum(len("".join(text.split())) for text in node.itertext())


def _entry(
    place: _Place, languages: tuple[str | None, str | None], *, states_are_kept: bool
) -> Entry:
    unit, target = place.unit, place.target
    texts = [
        None if node is None else flatten(node, preserve=space_is_kept(node, default=False))
        for node in (place.source, target)
    ]
    reason = None
    tag = None if target is None else target.get(_LANG)
    if "gettext-domain-header" in (unit.get("restype") or ""):
        reason = HEADER
    elif not _is_translatable(unit) or (is_empty(texts[1]) and is_locked(unit, place.segment)):
        reason = LOCKED
    elif is_empty(texts[1]):
        reason = UNTRANSLATED
    elif tag and languages[1] and not same_language(languages[1], tag):
        reason = OTHER_LANGUAGES
    elif _local_name(unit) == "segment":
        reason = segment_reason(unit, states_are_kept=states_are_kept)
    else:
        reason = xliff_reason(unit, target, place.segment)
    node = unit if place.source is None else place.source
    line = unit.sourceline if _local_name(node) != "mrk" else node.sourceline
    return Entry(texts[0], texts[1], line, reason, place.part)


def _is_translatable(unit: Any) -> bool:
    """By the nearest element that says so."""
    for node in (unit, *unit.iterancestors()):
        if node.get("translate"):
            return bool(node.get("translate").lower() != "no")
    return True


def _add_target(place: _Place) -> Any:
    """An empty target where the schema wants it, indented like its source."""
    etree = load_lxml()

    unit, before = place.unit, place.unit.find("{*}source")
    namespace = unit.tag[: unit.tag.rfind("}") + 1]
    if place.source is not None and _local_name(place.source) == "mrk":
        return etree.SubElement(
            unit.find("{*}target"), f"{namespace}mrk", dict(place.source.attrib)
        )
    after = before.getnext()
    if after is not None and isinstance(after.tag, str) and _local_name(after) == "seg-source":
        before = after
    target = etree.Element(f"{namespace}target")
    if place.source is not None and place.source.get(_SPACE):
        target.set(_SPACE, place.source.get(_SPACE))
    target.tail = before.tail
    before.tail = unit.text if is_empty(unit.text) else None
    unit.insert(unit.index(before) + 1, target)
    return target


def _mark_for_review(place: _Place, target: Any) -> None:
    unit = place.unit
    if _local_name(unit) == "segment":
        unit.set("state", "initial")
        return
    if place.segment is not None:
        place.segment.set("conf", "Draft")
        return
    while _local_name(target) != "target":
        target = target.getparent()
    target.set("state", "needs-review-translation")
    target.attrib.pop("state-qualifier", None)
    if unit.get("approved") == "yes":
        unit.set("approved", "no")


def _local_name(node: Any) -> str:
    return str(node.tag).rpartition("}")[2]
