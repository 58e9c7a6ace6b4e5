"""What a translator's file is, by what is in it: endings are lost, renamed or of one tool alone."""

import re
import zipfile
from dataclasses import replace
from io import BytesIO

from nlp_meta.errors import DataError
from nlp_meta.files.entries import UserFile, looks_like_utf16

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
_BINARY = {
    b"\xde\x12\x04\x95": ("a compiled gettext file (.mo)", "make a .po file of it by msgunfmt"),
    b"\x95\x04\x12\xde": ("a compiled gettext file (.mo)", "make a .po file of it by msgunfmt"),
    b"SQLite format 3\x00": ("a database (SQLite), as Trados Studio's .sdltm", _EXPORT),
    b"\xd0\xcf\x11\xe0": ("a file of an old office program", _EXPORT),
    b"%PDF": ("a PDF", "save its sentences as a table"),
    b"7z\xbc\xaf": ("an archive (7z)", "unpack it and name a file in it"),
    b"Rar!": ("an archive (RAR)", "unpack it and name a file in it"),
}
_PACKAGES = {
    ".sdlproj": "a package of Trados Studio",
    ".sdlxliff": "a package of Trados Studio",
    ".mqxliff": "a package of memoQ",
    "word/document.xml": "a Word document",
    "xl/workbook.xml": "an Excel workbook",
    "content.xml": "an OpenDocument file",
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
        _refuse_binary(file)
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


def _refuse_binary(file: UserFile) -> None:
    for magic, (name, remedy) in _BINARY.items():
        if file.content.startswith(magic):
            raise _refusal(file, name, remedy)
    if not file.content.startswith(b"PK\x03\x04"):
        return
    try:
        with zipfile.ZipFile(BytesIO(file.content)) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise _refusal(file, "a damaged archive (ZIP)", "get it anew") from error
    known = (name for end, name in _PACKAGES.items() if any(m.endswith(end) for m in members))
    name = next(known, "an archive (ZIP)")
    shown = ", ".join(member[:80] for member in members[:3]) + (" ..." if len(members) > 3 else "")
    raise _refusal(
        file, f"{name} of {len(members)} files ({shown})", "unpack it and name a file in it"
    )


def _refusal(file: UserFile, name: str, remedy: str) -> DataError:
    return DataError(
        f"cannot read '{file.path}': it is {name}, a TMX, XLIFF, Qt or .po file, or a table, is "
        f"needed; {remedy}"
    )
