"""Message catalogs of programs: gettext (`.po`) and Qt Linguist (`.ts`), plural forms among them.

Both are written again with translations, too. polib takes what is between the first
and the last character of a token for a string, so its quotes are checked before.
"""

import gettext
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_meta.data.cells import is_empty
from nlp_meta.errors import DataError, need_packages
from nlp_meta.files.entries import (
    FUZZY,
    HEADER,
    OBSOLETE,
    PLURAL,
    UNTRANSLATED,
    Catalog,
    Entry,
    UserFile,
    damaged,
    decode_declared,
    shorten,
)
from nlp_meta.files.markup import Document, fill, load_lxml, read_xml, write_xml
from nlp_meta.tables.rows import TableError

if TYPE_CHECKING:
    import polib

_KEYWORD = r"(?:#~\s*)?(?:msgid_plural|msgid|msgctxt|msgstr(?:\[\d+\])?)(?![\w\[])\s*"
_STARTS_TEXT = re.compile(rf'{_KEYWORD}|(?:#~\s*)?"')
_TEXT = re.compile(rf'(?:{_KEYWORD}|#~\s*)?"(?:[^"\\]|\\.)*"')
_PLURAL_FORMS = re.compile(r"nplurals\s*=\s*(\d+)\s*;\s*plural\s*=\s*([^;]+)")
_CHARSET = re.compile(rb"Content-Type:[^\n]{0,200}?charset=([\w:.-]+)", re.IGNORECASE)
# Of a comment: its sign, and what other programs write without a blank after it.
_COMMENT = re.compile(r"(#[,.:|]|#~\|?|#)(?=[^\s#,.:|~])")
# No language has more; Arabic has six.
_MOST_FORMS = 10
# Stands for "many" in the rules of every language that has a form of its own for it.
_MANY = 100
_MOST_BROKEN = 20


@dataclass(frozen=True, slots=True)
class _Slot:
    """A place for one translation: an entry, or its singular or other forms alike."""

    entry: Entry
    unit: "polib.POEntry | None"
    forms: tuple[int, ...] = ()


def po_entries(file: UserFile, *, leave_out: bool = False) -> Catalog:
    """Read a `.po` or `.pot` file.

    An entry with plural forms gives two: its singular, and its plural with the form that
    many things take; where a language has one form alone, that of the plural. Other forms that
    are translated are counted. The languages are those of `X-Source-Language` and `Language`.

    Args:
        leave_out: Leave out and tell entries that are not well-formed, 20 at most.

    Raises:
        DataError: It does not keep to its format; names the line.
    """
    catalog, notes = _parse(file, leave_out=leave_out)
    languages = (_language(catalog, "X-Source-Language"), _language(catalog, "Language"))
    if _plural_rule(catalog) is None and catalog.metadata.get("Plural-Forms"):
        shown = shorten(catalog.metadata["Plural-Forms"])
        notes = (
            *notes,
            f"its rule of plurals is none ({shown}): the first form is taken for one "
            "thing, the last for many",
        )
    return Catalog([slot.entry for slot in _slots(catalog)], [languages], notes)


def fill_po(
    file: UserFile, translations: Mapping[int, str], *, target_lang: str | None = None
) -> bytes:
    """Write translations into the entries at their places, marked fuzzy; all else stays."""
    catalog, _ = _parse(file)
    slots = list(_slots(catalog))
    for place, text in translations.items():
        unit = slots[place].unit
        if unit is None:
            continue
        unit.fuzzy = True
        if not slots[place].forms:
            unit.msgstr = text
        for form in slots[place].forms:
            unit.msgstr_plural[form] = unit.msgstr_plural.get(form) or text
    if target_lang and not catalog.metadata.get("Language"):
        catalog.metadata["Language"] = target_lang
    return _render(catalog)


def render_po(
    pairs: Sequence[tuple[str, str]], *, target_lang: str | None, reviewed: bool
) -> bytes:
    """Write pairs as a new file; a source that comes again is told apart by its context."""
    catalog = _load_polib().POFile()
    catalog.metadata["MIME-Version"] = "1.0"
    catalog.metadata["Content-Transfer-Encoding"] = "8bit"
    if target_lang:
        catalog.metadata["Language"] = target_lang
    seen: dict[str, int] = {}
    for source, target in pairs:
        seen[source] = seen.get(source, 0) + 1
        context = None if seen[source] == 1 else str(seen[source])
        unit = _load_polib().POEntry(msgid=source, msgstr=target, msgctxt=context)
        unit.fuzzy = not reviewed
        catalog.append(unit)
    return _render(catalog)


def _load_polib() -> Any:
    need_packages("read or write a catalog (.po)", "polib", extra="translation")
    import polib

    return polib


def _render(catalog: "polib.POFile") -> bytes:
    catalog.metadata["Content-Type"] = "text/plain; charset=UTF-8"
    return (str(catalog).rstrip("\n") + "\n").encode()


def _parse(file: UserFile, *, leave_out: bool = False) -> "tuple[polib.POFile, tuple[str, ...]]":
    declared = _CHARSET.search(_header(file.content))
    named = None if declared is None else declared[1].decode("ascii", errors="replace")
    # A template names no encoding yet.
    text, _, notes = decode_declared(file, None if named == "CHARSET" else named)
    # Carriage returns belong to the line ends; polib splits a text in memory at more than those.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = [_COMMENT.sub(r"\1 ", line, count=1) if line[:1] == "#" else line for line in lines]
    broken: list[TableError] = []
    while True:
        try:
            catalog = _read_lines(lines)
            break
        except TableError as error:
            broken.append(error)
            can_go = leave_out and len(broken) <= _MOST_BROKEN
            if not can_go or not _blank_entry(lines, error.line):
                raise damaged(file, error, line=error.line) from error
    if broken and not len(catalog):
        raise damaged(file, broken[0], line=broken[0].line)
    if broken:
        count = f"{len(broken)} (line {', '.join(str(error.line) for error in broken)})"
        notes = (*notes, f"entries that are not well-formed are left out: {count}")
    return catalog, notes


def _read_lines(lines: Sequence[str]) -> "polib.POFile":
    """Read the lines of a catalog; an error where one is not well-formed."""
    for number, line in enumerate(map(str.strip, lines), start=1):
        if _STARTS_TEXT.match(line) and not _TEXT.fullmatch(line):
            reason = "a text in double quotes is missing or does not end, or has a quote without \\"
            raise TableError(reason, number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "entries.po"
        path.write_text("\n".join(lines), encoding="utf-8", newline="")
        try:
            return _load_polib().pofile(str(path), encoding="utf-8")
        except (OSError, ValueError, LookupError) as error:
            match = re.search(r"\(line (\d+)\):?\s*(.*)", str(error))
            place = int(match[1]) if match else None
            torn = any(line.startswith("<<<<<<< ") for line in lines)
            reason = (match and match[2]) or "it is out of place"
            reason = "a merge of Git was not finished in it" if torn else reason
            raise TableError(reason, place) from error


def _blank_entry(lines: list[str], line: int | None) -> bool:
    """Take out the lines between blank ones around a line; False where they are not one entry."""
    if line is None or not lines[line - 1].strip():
        return False
    first = last = line - 1
    while first and lines[first - 1].strip():
        first -= 1
    while last + 1 < len(lines) and lines[last + 1].strip():
        last += 1
    entry = lines[first : last + 1]
    if sum(text.startswith("msgid ") for text in entry) != 1:
        return False
    lines[first : last + 1] = [""] * len(entry)
    return True


def _language(catalog: "polib.POFile", name: str) -> str | None:
    tag = catalog.metadata.get(name, "").strip()
    return tag if re.fullmatch(r"[a-z]{2,3}([_@-].*)?", tag) else None


def _header(content: bytes) -> bytes:
    """The entry of a file that says what it is: the first one."""
    place = content.find(b"msgid")
    end = content.find(b"msgid", place + 5)
    return content[: end if end > 0 else len(content)]


def _slots(catalog: "polib.POFile") -> Iterator[_Slot]:
    if catalog.metadata:
        yield _Slot(Entry(None, None, 1, HEADER), None)
    forms = [form for unit in catalog for form in unit.msgstr_plural]
    longest = max(forms, default=1) + 1
    singular, count, many = _plural_rule(catalog) or (0, longest, longest - 1)
    for unit in catalog:
        for slot in _slots_of(unit, singular=singular, count=count, many=many):
            reason = slot.entry.reason
            if unit.obsolete:
                reason = OBSOLETE
            elif is_empty(slot.entry.target):
                reason = UNTRANSLATED
            elif unit.fuzzy:
                reason = FUZZY
            yield replace(slot, entry=replace(slot.entry, reason=reason))


def _slots_of(unit: "polib.POEntry", *, singular: int, count: int, many: int) -> Iterator[_Slot]:
    line = max(1, unit.linenum)
    if not unit.msgid_plural:
        yield _Slot(Entry(unit.msgid, unit.msgstr, line), unit)
        return
    forms = range(max(count, *(form + 1 for form in unit.msgstr_plural), 1))
    others = tuple(form for form in forms if form != singular or len(forms) == 1)
    wanted = [(unit.msgid_plural, others, many if many in others else others[-1])]
    if len(forms) > 1:
        wanted.insert(0, (unit.msgid, (singular,), singular))
    for source, places, shown in wanted:
        texts = [unit.msgstr_plural.get(form, "") for form in places]
        target = None if any(map(is_empty, texts)) else unit.msgstr_plural[shown]
        yield _Slot(Entry(source, target, line), unit, places)
    # Russian has one form more for few things: a translation that is no pair of its own.
    if target is not None:
        for form in others:
            if form != shown:
                entry = Entry(unit.msgid_plural, unit.msgstr_plural[form], line, PLURAL)
                yield _Slot(entry, unit)


def _plural_rule(catalog: "polib.POFile") -> tuple[int, int, int] | None:
    """Which form one thing takes, how many forms there are, and which one many things take.

    Returns:
        None where the file has no rule, or one that does not fit its own forms.
    """
    declared = _PLURAL_FORMS.search(catalog.metadata.get("Plural-Forms", ""))
    if declared is None or not 0 < len(declared[1]) < 4:
        return None
    count = int(declared[1])
    try:
        rule = gettext.c2py(declared[2].strip())
        singular, many = rule(1), rule(_MANY)
    except (ValueError, ZeroDivisionError, OverflowError, RecursionError):
        return None
    if not (0 < count <= _MOST_FORMS and 0 <= singular < count and 0 <= many < count):
        return None
    return singular, count, many


_STATES = {"unfinished": FUZZY, "obsolete": OBSOLETE, "vanished": OBSOLETE}


def ts_entries(file: UserFile) -> Catalog:
    """Read the messages of a Qt file.

    A message with plural forms pairs its source with the last, that of many things; its other
    forms are counted.

    Raises:
        DataError: The file is malformed or not safe, or has no messages.
    """
    document, messages = _read(file)
    if not messages:
        raise DataError(
            f"cannot read '{file.path}': it has no messages (<message>), one with a translation is "
            "needed; update it from the program anew or name another file"
        )
    root = document.root
    languages = (root.get("sourcelanguage") or None, root.get("language") or None)
    entries = [entry for message in messages for entry in _entries(message)]
    return Catalog(entries, [languages], document.notes)


def fill_ts(
    file: UserFile, translations: Mapping[int, str], *, target_lang: str | None = None
) -> bytes:
    """Write translations into the messages at their places, unfinished; all else stays.

    Of a message with plural forms those are filled that are empty.
    """
    document, messages = _read(file)
    counts = [len(message.findall("translation/numerusform")) for message in messages]
    owners = [message for message in messages for _ in _entries(message)]
    for place, text in translations.items():
        for node in _add_forms(owners[place], count=max(1, *counts)):
            fill(node, text, like=node)
    if target_lang and not document.root.get("language"):
        document.root.set("language", target_lang)
    return write_xml(document)


def _read(file: UserFile) -> tuple[Document, list[Any]]:
    document = read_xml(file, root="TS")
    return document, list(document.root.iter("message"))


def _add_forms(message: Any, *, count: int) -> list[Any]:
    """The empty places of a message for its translation, `count` forms of plurals if it has any."""
    etree = load_lxml()

    translation = message.find("translation")
    if translation is None:
        translation = etree.SubElement(message, "translation")
        translation.tail, before = message.text, translation.getprevious()
        if before is not None:
            translation.tail, before.tail = before.tail, message.text
    translation.set("type", "unfinished")
    forms = translation.findall("numerusform")
    if message.get("numerus") == "yes" and not forms:
        forms = [etree.SubElement(translation, "numerusform") for _ in range(count)]
    return [form for form in forms if is_empty(_text(form))] or [translation]


def _entries(message: Any) -> Iterator[Entry]:
    source, translation = message.find("source"), message.find("translation")
    left = None if source is None else _text(source)
    if translation is None:
        yield Entry(left, None, message.sourceline, UNTRANSLATED)
        return
    forms = [_text(form) for form in translation.iterchildren("numerusform")]
    state = _STATES.get(translation.get("type") or "", FUZZY if translation.get("type") else None)
    *others, right = forms or [_text(translation)]
    reason = UNTRANSLATED if is_empty(right) and state is not OBSOLETE else state
    yield Entry(left, right, message.sourceline, reason)
    for form in others:
        if not is_empty(form):
            yield Entry(left, form, message.sourceline, reason or PLURAL)


def _text(node: Any) -> str:
    """The text of a node; a variant for the longest place, and `<byte>` for a character."""
    variants = list(node.iterchildren("lengthvariant"))
    node = variants[0] if variants else node
    parts = [node.text or ""]
    for child in node:
        if child.tag == "byte":
            parts.append(_character(child.get("value") or ""))
        parts.append(child.tail or "")
    return "".join(parts)


def _character(number: str) -> str:
    digits = number.removeprefix("x")
    try:
        code = int(digits, 16 if digits != number else 10)
    except ValueError:
        return ""
    return chr(code) if 0 < code < 0xD800 else ""
