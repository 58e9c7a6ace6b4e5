"""What a translator's file is, by what is in it: endings are lost, renamed or of one tool alone."""

import re
from dataclasses import replace

from nlp_meta.errors import DataError
from nlp_meta.files.entries import UserFile, looks_like_utf16
from nlp_meta.tables.file_kinds import JSON, TEXT, WORKBOOK, find_kind

# Endings of tools whose files are XLIFF.
XLIFF_ENDINGS = ("xlf", "xliff", "xliff2", "sdlxliff", "mqxliff", "mxliff", "txlf")

_ROOTS = {"tmx": "tmx", "xliff": "xliff", "TS": "ts"}
# By the name of the root; what each is called, and how its pairs come out.
_EXPORT = "export its pairs as TMX from the tool that wrote it"
_OTHER_ROOTS = {
    "martif": ("a termbase (TBX)", "name a translation memory; terms are no sentences"),
    "tbx": ("a termbase (TBX)", "name a translation memory; terms are no sentences"),
    "txml": ("a document of Wordfast Pro (TXML)", _EXPORT),
    "TRADOStag": ("a document of TagEditor (TTX)", _EXPORT),
    "resources": (
        "a file of Android strings, which holds one language",
        "put the strings of both languages into a table with a column each",
    ),
    "root": ("XML of one language", "put the texts of both languages into a table"),
    "html": ("a web page", "download the file itself, not the page that shows it"),
}
_ROOT = re.compile(r"<(?:[\w.-]+:)?([\w.-]+)")
# What may stand before the root, by its first characters and its last.
_BEFORE_ROOT = {"<?": "?>", "<!--": "-->", "<!DOCTYPE": ">"}
_GETTEXT = re.compile(
    r'(?:[ \t]*(?:#[^\n]*)?\r?\n)*(?:msgctxt[ \t]+"|msgid[ \t]+"[^\n]*\n(?:[ \t]*"[^\n]*\n)*'
    r"[ \t]*(?:msgid_plural|msgstr))"
)
_HEAD = 2**16


def recognize(file: UserFile, *, plain: tuple[str, ...] = ()) -> UserFile:
    """Give a file the form that its content shows: `tmx`, `xliff`, `ts` or `po`.

    Args:
        plain: Forms of texts and tables; such a file is refused by its own reader.

    Returns:
        The file, with the form of its ending where the content shows none.

    Raises:
        DataError: It is a file of translators that has no pairs to read; says what it is.
    """
    head = file.content[:_HEAD]
    text = head.decode(looks_like_utf16(head) or "utf-8-sig", errors="replace").lstrip("\ufeff")
    if text.lstrip().startswith("<"):
        root = _find_root(text)
        if root in _ROOTS:
            return replace(file, form=_ROOTS[root])
        root = "html" if root.lower() == "html" else root
        if root in _OTHER_ROOTS and file.form not in plain:
            raise _refusal(file, *_OTHER_ROOTS[root])
    if file.form not in ("po", "pot") and _GETTEXT.match(text):
        return replace(file, form="po")
    if file.form not in plain:
        kind = find_kind(file.content)
        if kind.name not in (TEXT, JSON) and not text.lstrip().startswith("<"):
            named = "a workbook (.xlsx)" if kind.name == WORKBOOK else kind.name
            raise _refusal(file, named, kind.remedy or "give it the ending of its form")
        if text.startswith("%") and "%Wordfast TM" in text[:500]:
            raise _refusal(file, "a memory of Wordfast Classic", _EXPORT)
    return replace(file, form="xliff") if file.form in XLIFF_ENDINGS else file


def _find_root(text: str) -> str:
    """The local name of the first element; empty where it is too far away."""
    place = len(text) - len(text.lstrip())
    # A web page may write its document type in small letters.
    text = re.sub("<!doctype", "<!DOCTYPE", text, count=1, flags=re.IGNORECASE)
    while end := next((e for b, e in _BEFORE_ROOT.items() if text.startswith(b, place)), ""):
        if end == ">" and text.find("[", place, text.find(end, place)) >= 0:
            place = max(place, text.find("]", place))
        place = text.find(end, place)
        if place < 0:
            return ""
        place += len(end)
        place += len(text[place:]) - len(text[place:].lstrip())
    opening = _ROOT.match(text, place)
    return opening[1] if opening else ""


def _refusal(file: UserFile, name: str, remedy: str) -> DataError:
    return DataError(
        f"cannot read '{file.path}': it is {name}, a TMX, XLIFF, Qt or .po file, or a table, is "
        f"needed; {remedy}"
    )
