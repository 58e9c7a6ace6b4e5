"""What a file is by its content, whatever its name says."""

import re
import zipfile
from dataclasses import dataclass
from io import BytesIO

WORKBOOK, PARQUET, JSON, TEXT = "xlsx", "parquet", "json", "text"
ARCHIVE = "an archive (.zip)"

_SAVE = "open it in its program and save it as .xlsx or .csv"
_EXPORT = "write its rows into a .csv, .jsonl or .parquet file"
_UNFORMAT = "make a .po file of it by msgunfmt"
_UNPACK = "unpack it and name the file in it"

_MAGIC = {
    b"PAR1": (PARQUET, ""),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("a workbook of Excel 97-2003 (.xls)", _SAVE),
    b"\x09\x08": ("a workbook of an early Excel (.xls)", _SAVE),
    b"%PDF": ("a PDF", "copy its table into a spreadsheet and save it as .csv"),
    b"{\\rtf": ("a text document (.rtf)", "copy its table into a spreadsheet and save it as .csv"),
    b"\x1f\x8b": ("an archive (.gz)", _UNPACK),
    b"BZh": ("an archive (.bz2)", _UNPACK),
    b"\xfd7zXZ": ("an archive (.xz)", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("an archive (.zst)", _UNPACK),
    b"7z\xbc\xaf": ("an archive (.7z)", _UNPACK),
    b"Rar!": ("an archive (.rar)", _UNPACK),
    b"ARROW1": ("an Arrow or Feather file", _EXPORT),
    b"FEA1": ("a Feather file", _EXPORT),
    b"ORC": ("an ORC file", _EXPORT),
    b"Obj\x01": ("an Avro file", _EXPORT),
    b"\x89HDF": ("an HDF5 file", _EXPORT),
    b"SQLite format 3\0": ("an SQLite database, as Trados Studio's .sdltm", _EXPORT),
    b"\xde\x12\x04\x95": ("a compiled gettext file (.mo)", _UNFORMAT),
    b"\x95\x04\x12\xde": ("a compiled gettext file (.mo)", _UNFORMAT),
    b"$FL2": ("an SPSS file", _EXPORT),
    b"<stata_dta>": ("a Stata file", _EXPORT),
    b"\x93NUMPY": ("a NumPy array", _EXPORT),
    b"\x80\x02": ("a pickle of Python, which is not read", _EXPORT),
    b"\x80\x03": ("a pickle of Python, which is not read", _EXPORT),
    b"\x80\x04": ("a pickle of Python, which is not read", _EXPORT),
    b"\x80\x05": ("a pickle of Python, which is not read", _EXPORT),
    b"\x89PNG": ("a picture", "name the table itself"),
    b"\xff\xd8\xff": ("a picture", "name the table itself"),
    b"GIF8": ("a picture", "name the table itself"),
    b"version https://git-lfs": (
        "a pointer of Git LFS, not the file itself",
        "run `git lfs pull` in its repository",
    ),
}

_IN_ARCHIVES = {
    "xl/workbook.xml": (WORKBOOK, ""),
    "xl/workbook.bin": ("a binary workbook of Excel (.xlsb)", _SAVE),
    "word/document.xml": ("a text document (.docx)", "copy its table into a spreadsheet"),
    "ppt/presentation.xml": ("a presentation", "copy its table into a spreadsheet"),
    "Index/Document.iwa": ("a table of Numbers", "export it from Numbers as CSV"),
    "content.xml": ("an OpenDocument file (.ods)", _SAVE),
    "data.pkl": ("a file of PyTorch", _EXPORT),
}
_IN_PACKAGES = {
    ".sdlproj": "a package of Trados Studio",
    ".sdlxliff": "a package of Trados Studio",
    ".mqxliff": "a package of memoQ",
}
"""Endings of files in the packages of translators."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is.

    Attributes:
        name: `xlsx`, `parquet`, `json` or `text`; else a phrase that names what is not read.
        remedy: What to do with what is not read.
    """

    name: str
    remedy: str = ""

    @property
    def is_read(self) -> bool:
        """Whether a table can be read from it."""
        return self.name in (WORKBOOK, PARQUET, JSON, TEXT)


def find_kind(content: bytes) -> FileKind:
    """Look at the first bytes of a file, and into an archive.

    Text may be in any encoding; what begins as JSON does is `json`.
    """
    if content.startswith(b"PK\x03\x04"):
        return _look_into(content)
    for magic, kind in _MAGIC.items():
        if content.startswith(magic):
            return FileKind(*kind)
    start = content[:1024].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    if start.startswith(b"<"):
        return _name_markup(content[:4096].replace(b"\0", b"").lower())
    return FileKind(JSON if re.match(rb"[\[{]\s*([\[{\"\]}]|\Z)", start) else TEXT)


def _name_markup(start: bytes) -> FileKind:
    if b"schemas-microsoft-com:office:spreadsheet" in start:
        return FileKind("a workbook in XML of Excel 2003", _SAVE)
    if b"<html" in start or b"<!doctype html" in start or b"<table" in start:
        remedy = "open it in a spreadsheet and save it as .xlsx or .csv; if it shows a page of a "
        return FileKind(
            "a web page (HTML)", remedy + "server, such as one to sign in, load it anew"
        )
    if re.match(rb"\s*(\xef\xbb\xbf)?\s*<\?xml", start):
        return FileKind("an XML file", _EXPORT)
    return FileKind(TEXT)


def _look_into(content: bytes) -> FileKind:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        return FileKind(f"an archive that is broken ({error})", "get it anew")
    for inner, kind in _IN_ARCHIVES.items():
        if any(name == inner or name.endswith(f"/{inner}") for name in names):
            return FileKind(*kind)
    for ending, package in _IN_PACKAGES.items():
        if any(name.endswith(ending) for name in names):
            shown = ", ".join(name[:80] for name in names[:3]) + (" ..." if names[3:] else "")
            return FileKind(
                f"{package} of {len(names)} files ({shown})", "unpack it and name a file in it"
            )
    return FileKind(ARCHIVE, _UNPACK)
