"""Gettext files: their entries, plural forms among them, and the same file with translations.

polib takes what is between the first and the last character of a token for a string, so
its quotes are checked before.
"""

import codecs
import contextlib
import gettext
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polib

from nlp_meta.files.entries import (
    FUZZY,
    HEADER,
    OBSOLETE,
    UNTRANSLATED,
    Entry,
    UserFile,
    damaged,
    decode_text,
    is_blank,
)

_KEYWORD = r"(?:#~\s*)?(?:msgid_plural|msgid|msgctxt|msgstr(?:\[\d+\])?)(?![\w\[])\s*"
_STARTS_TEXT = re.compile(rf'{_KEYWORD}|(?:#~\s*)?"')
_TEXT = re.compile(rf'(?:{_KEYWORD}|#~\s*)?"(?:[^"\\]|\\.)*"')
_PLURAL_FORMS = re.compile(r"nplurals\s*=\s*(\d+)\s*;\s*plural\s*=\s*([^;]+)")
# Stands for "many" in the rules of every language that has a form of its own for it.
_MANY = 100


@dataclass(frozen=True, slots=True)
class _Slot:
    """A place for one translation: an entry, or its singular or other forms alike."""

    entry: Entry
    unit: polib.POEntry | None
    forms: tuple[int, ...] = ()


def po_entries(file: UserFile) -> tuple[list[Entry], str | None, str | None]:
    """Read a `.po` or `.pot` file.

    An entry with plural forms gives two: its singular, and its plural with the form that
    many things take; where a language has one form alone, that of the plural.

    Returns:
        The entries, and the languages of the texts (`X-Source-Language`) and of their
        translations (`Language`) where the header names them.

    Raises:
        DataError: It does not keep to its format; names the line.
    """
    catalog = _parse(file)
    there, into = (_language(catalog, name) for name in ("X-Source-Language", "Language"))
    return [slot.entry for slot in _slots(catalog)], there, into


def fill_po(
    file: UserFile, translations: Mapping[int, str], *, target_lang: str | None = None
) -> bytes:
    """Write translations into the entries at their places, marked fuzzy; all else stays."""
    catalog = _parse(file)
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
    catalog = polib.POFile()
    catalog.metadata["MIME-Version"] = "1.0"
    catalog.metadata["Content-Transfer-Encoding"] = "8bit"
    if target_lang:
        catalog.metadata["Language"] = target_lang
    seen: dict[str, int] = {}
    for source, target in pairs:
        seen[source] = seen.get(source, 0) + 1
        context = None if seen[source] == 1 else str(seen[source])
        unit = polib.POEntry(msgid=source, msgstr=target, msgctxt=context)
        unit.fuzzy = not reviewed
        catalog.append(unit)
    return _render(catalog)


def _render(catalog: polib.POFile) -> bytes:
    catalog.metadata["Content-Type"] = "text/plain; charset=UTF-8"
    return (str(catalog).rstrip("\n") + "\n").encode()


def _parse(file: UserFile) -> polib.POFile:
    text = decode_text(file, encoding=_find_encoding(file.content))
    # Carriage returns belong to the line ends; polib splits a text in memory at more than those.
    text = text.replace("\r\n", "\n")
    for number, line in enumerate(text.split("\n"), start=1):
        _check_quotes(file, line.strip(), number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "entries.po"
        path.write_text(text, encoding="utf-8", newline="")
        try:
            return polib.pofile(str(path), encoding="utf-8")
        except (OSError, ValueError, LookupError) as error:
            match = re.search(r"\(line (\d+)\):?\s*(.*)", str(error))
            place = int(match[1]) if match else None
            reason = (match and match[2]) or "it is out of place"
            raise damaged(file, reason, line=place) from error


def _language(catalog: polib.POFile, name: str) -> str | None:
    tag = catalog.metadata.get(name, "").strip()
    return tag if re.fullmatch(r"[a-z]{2,3}([_@-].*)?", tag) else None


def _find_encoding(content: bytes) -> str:
    declared = re.search(rb'"?Content-Type:.+? charset=([\w:.-]+)', content)
    named = declared[1].decode("ascii", errors="replace") if declared else "utf-8"
    try:
        known = codecs.lookup(named).name
    except LookupError:  # a template's `CHARSET`
        return "utf-8-sig"
    return "utf-8-sig" if known in ("utf-8", "ascii") else known


def _check_quotes(file: UserFile, line: str, number: int) -> None:
    if _STARTS_TEXT.match(line) and not _TEXT.fullmatch(line):
        raise damaged(file, "a text in double quotes is missing or does not end", line=number)


def _slots(catalog: polib.POFile) -> Iterator[_Slot]:
    if catalog.metadata:
        yield _Slot(Entry(None, None, 1, HEADER), None)
    singular, count, many = _plural_rule(catalog)
    for unit in catalog:
        for slot in _slots_of(unit, singular=singular, count=count, many=many):
            reason = None
            if unit.obsolete:
                reason = OBSOLETE
            elif is_blank(slot.entry.target):
                reason = UNTRANSLATED
            elif unit.fuzzy:
                reason = FUZZY
            yield replace(slot, entry=replace(slot.entry, reason=reason))


def _slots_of(unit: polib.POEntry, *, singular: int, count: int, many: int) -> Iterator[_Slot]:
    line = max(1, unit.linenum)
    if not unit.msgid_plural:
        yield _Slot(Entry(unit.msgid, unit.msgstr, line), unit)
        return
    forms = range(max(count, len(unit.msgstr_plural)))
    others = tuple(form for form in forms if form != singular or len(forms) == 1)
    wanted = [(unit.msgid_plural, others, many if many in others else others[-1])]
    if len(forms) > 1:
        wanted.insert(0, (unit.msgid, (singular,), singular))
    for source, places, shown in wanted:
        texts = [unit.msgstr_plural.get(form, "") for form in places]
        target = None if any(map(is_blank, texts)) else unit.msgstr_plural[shown]
        yield _Slot(Entry(source, target, line), unit, places)


def _plural_rule(catalog: polib.POFile) -> tuple[int, int, int]:
    """Which form one thing takes, how many forms there are, and which one many things take."""
    declared = _PLURAL_FORMS.search(catalog.metadata.get("Plural-Forms", ""))
    longest = max((len(unit.msgstr_plural) for unit in catalog), default=0)
    if declared:
        with contextlib.suppress(ValueError, ZeroDivisionError):
            rule = gettext.c2py(declared[2].strip())
            return rule(1), max(1, int(declared[1])), rule(_MANY)
    count = longest or 2
    return 0, count, count - 1
