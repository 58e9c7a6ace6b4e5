"""Users' files, unpacked, recognized and decoded, and the entries that each format makes of them.

A translator's file is what is in it: endings are lost, renamed or of one tool alone. A format
says itself which of its entries are no finished translations.
"""

import bz2
import codecs
import gzip
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from nlp_meta.errors import DataError
from nlp_meta.tables.contents import ARCHIVE, JSON, TEXT, WORKBOOK, find_kind, find_wide

# Why an entry is not used as a pair of sentences.
HEADER, OBSOLETE, LOCKED = "header", "obsolete", "locked"
UNTRANSLATED, FUZZY, MACHINE = "untranslated", "fuzzy", "machine-translated"
EMPTY, ONE_SIDED = "empty", "one-sided"
IDENTICAL, DUPLICATE = "identical", "duplicate"
OTHER_LANGUAGES, NO_LANGUAGE = "of other languages", "without a language"
NO_SEGMENT, UNEVEN = "without a segment", "with uneven segments"
SEVERAL, PLURAL, KEY = "of several regions", "of another plural form", "key"

_ONE_LANGUAGE = {
    "arb": "a file of Flutter's texts",
    "ftl": "a file of Fluent",
    "ini": "a file of settings",
    "php": "a file of PHP",
    "properties": "a file of Java's texts",
    "srt": "a file of subtitles",
    "strings": "a file of Apple's texts",
    "stringsdict": "a file of Apple's plural forms",
    "vtt": "a file of subtitles",
    "yaml": "a YAML file",
    "yml": "a YAML file",
}
"""By their endings."""
_COMPRESSED: Mapping[str, tuple[bytes, Callable[[BytesIO], Any]]] = {
    ".gz": (b"\x1f\x8b", gzip.open),
    ".bz2": (b"BZh", bz2.open),
    ".xz": (b"\xfd7zXZ", lzma.open),
}
"""By ending what such a file begins with, and what opens it."""
_PACKED = (*_COMPRESSED, ".zip")
_BROKEN = (zlib.error, zipfile.BadZipFile, lzma.LZMAError)
_ANY_TABLE = ("xls", "tab", "psv", "dat", "train", "valid", "test")
"""Endings that tables of many kinds have; what is in such a file says which."""
# A packed file that grows beyond this is a mistake or an attack.
_LARGEST = 2**30
_CHANCE = 10
# home.title, /home/title, home/title/0, {{home.title}}, 1001
_KEY = re.compile(
    r"[$%#/{@]*(?=.*[._:#\[\\]|.*/(?:.*/|\d)|(?<=/).*/)[A-Za-z][\w$]*(?:(?:::|[.:/\-#\\])?[\w$\[\]]+)*}*|\d+"
)
# saveButton, save-button
_JOINED = re.compile(r"[a-z]+[0-9]*(?:[A-Z][a-z0-9]+)+|[a-z][a-z0-9]*(?:-[a-z0-9]+)+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One unit of a user's file.

    Attributes:
        source, target: None where the file has no such text.
        line: Where it begins in the file, from 1; the row where there are no lines.
        reason: Why its format does not call it a finished translation; None if it does.
        part: The part of the file that it is of; parts may differ in their languages.
    """

    source: str | None
    target: str | None
    line: int
    reason: str | None = None
    part: int = 0


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a file of a translators' format holds.

    Attributes:
        languages: Of each part: translated from and into; None where the file does not say.
        notes: Sentences on what was taken for granted.
    """

    entries: Sequence[Entry]
    languages: Sequence[tuple[str | None, str | None]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserFile:
    """A file as it was, unpacked.

    Attributes:
        form: Its ending below that of an archive, in small letters, without the point.
        encoding: The one that its user names; None where the file is to say it.
    """

    path: Path
    form: str
    content: bytes
    encoding: str | None = None


def read_user_file(path: Path, *, forms: Sequence[str] | None = None, also: str = "") -> UserFile:
    """Read a file, or the one file in an archive `.gz`, `.bz2`, `.xz` or `.zip`.

    Args:
        forms: Endings that are known, without the point; None takes any.
        also: What else an error about the ending lists.

    Raises:
        DataError: No such file, an unknown ending, an archive that is corrupt, holds not
            one file or grows beyond 1 GiB.
    """
    packed = path.suffix.lower() in _PACKED
    # `Path.is_file` raises where a path is too long.
    if os.path.isdir(path):  # noqa: PTH112
        raise DataError(
            f"cannot read '{path}': it is a folder and a file is needed; name the file in it"
        )
    if not os.path.isfile(path):  # noqa: PTH113
        if not packed:
            check_form(path, ending_of(path), forms, also)
        raise DataError(
            f"cannot read '{path}': there is no such file, one with texts is needed; check the path"
        )
    try:
        name, content = _unpack(PurePath(path.name), path.read_bytes(), path)
    except (*_BROKEN, OSError, EOFError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"cannot read '{path}': {reason}, an unbroken "
            f"{'archive of one file' if packed else 'file'} is needed; get or pack it anew"
        ) from error
    check_form(path, ending_of(name), forms, also, content=content)
    return UserFile(path, ending_of(name), content)


def decode_text(file: UserFile, *, encoding: str = "utf-8-sig") -> str:
    """Decode a file as a whole.

    Raises:
        DataError: A byte is not of that encoding; names its line.
    """
    try:
        return file.content.decode(encoding)
    except UnicodeDecodeError as error:
        line = file.content.count(b"\n", 0, error.start) + 1
        known = encoding.removesuffix("-sig").upper()
        raise DataError(
            f"cannot read '{file.path}': byte 0x{file.content[error.start]:02x} in line {line} is "
            f"not {known}, one encoding throughout is needed; save the file with the encoding "
            "UTF-8, or name its own with `encoding`"
        ) from error


def decode_declared(file: UserFile, declared: str | None) -> tuple[str, str, tuple[str, ...]]:
    """Decode a file that names its encoding, unless its bytes contradict that.

    Args:
        declared: As the file writes it; None where it names none.

    Returns:
        The text, its encoding, and a note where another than the declared one was taken.

    Raises:
        DataError: A byte is not of the encoding, or the file names none of texts and is not
            UTF-8; names the line.
    """
    content = file.content
    if file.encoding is not None:
        encoding = _text_encoding(file.encoding)
        if encoding is None:
            raise DataError(
                f"cannot read '{file.path}': '{shorten(file.encoding)}' is no encoding of texts, "
                "one such as utf-8 or windows-1252 is needed; correct `encoding`"
            )
        return decode_text(file, encoding=encoding).removeprefix("\ufeff"), encoding, ()
    marked = find_wide(content)
    if marked is not None:
        return decode_text(file, encoding=marked).removeprefix("\ufeff"), marked, ()
    named = _text_encoding(declared or "utf-8")
    if named is not None and named.startswith(("utf-16", "utf-32")):
        named = None  # what declares it would not be readable
    if named == "utf-8":
        return decode_text(file), "utf-8", ()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        if named is not None:
            return decode_text(file, encoding=named), named, ()
        raise DataError(
            f"cannot read '{file.path}': it says that it is written in {shorten(declared or '')}, "
            "which is no encoding of texts or not its own, and it is not UTF-8 either, one of "
            "these is needed; save the file with the encoding UTF-8, or name its own with "
            "`encoding`"
        ) from None
    if named is not None and (text.isascii() or not _is_doubtful(text, named)):
        return decode_text(file, encoding=named), named, ()
    note = (
        f"it says that it is written in {shorten(declared or '')}, but its bytes are valid UTF-8, "
        "and it is read as UTF-8"
    )
    return text, "utf-8", () if text.isascii() else (note,)


def _text_encoding(name: str) -> str | None:
    """Python's name of an encoding of whole texts; None for what is none."""
    try:
        known = codecs.lookup(name).name
        "".encode(known)  # refuses `rot13` and `base64`
    except (LookupError, ValueError):
        return None
    if known in ("idna", "punycode", "unicode_escape", "raw-unicode-escape", "undefined"):
        return None
    return "utf-8" if known in ("utf-8", "utf-8-sig", "ascii") else known


def _is_doubtful(text: str, named: str) -> bool:
    """Whether valid UTF-8 is not by chance also what an encoding would write."""
    count = sum(not character.isascii() for character in text)
    # Two letters of a Chinese or Japanese encoding are often one of UTF-8, of others hardly ever.
    single = len(bytes(range(256)).decode(named, errors="replace")) == 256
    return count > (0 if single else _CHANCE)


def decode_lines(file: UserFile) -> list[str]:
    """Decode the lines of a plain text; only a line feed ends one, as in every aligned file."""
    text = decode_declared(file, None)[0].rstrip("\x1a\0")
    lines = text.split("\n" if "\n" in text else "\r")  # as an old Mac writes them
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def ending_of(path: PurePath) -> str:
    """The ending of a file's name in small letters, without the point."""
    return path.suffix.lower().removeprefix(".")


def is_key(text: str) -> bool:
    """Whether a text looks like the name that a program gives to one: `form.save.button`."""
    name = text.strip()
    return len(name) < 200 and bool(_KEY.fullmatch(name) or _JOINED.fullmatch(name))


def shorten(text: str, limit: int = 80) -> str:
    """A text of a file as a message may show it: in one line, and not too long."""
    line = " ".join(text[: 2 * limit].split())
    return line if len(line) <= limit and len(text) <= 2 * limit else f"{line[:limit]}..."


def list_names(names: Iterable[str]) -> str:
    """The first names of many, as a message may show them."""
    shown = [shorten(name) for name in names]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")


def describe_reasons(left_out: Mapping[str, int]) -> str:
    """Say how many entries are not used, by reason: `2 empty, 1 fuzzy`."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no entries"


def damaged(file: UserFile, reason: object, *, line: int | None = None) -> DataError:
    """Say that a file does not keep to its format, and in which line."""
    where = "" if line is None else f"line {line}: "
    shown = " ".join(str(reason).split())[:200] or type(reason).__name__
    return DataError(
        f"cannot read '{file.path}': {where}{shown}, a well-formed .{file.form} file is needed; "
        "mend it or save it anew"
    )


def _unpack(name: PurePath, content: bytes, path: Path) -> tuple[PurePath, bytes]:
    """The name and content of a file in an archive, whatever the archive's ending says."""
    ending = name.suffix.lower()
    for packed, (magic, unpack) in _COMPRESSED.items():
        if ending == packed and content and find_kind(content).is_read:
            return PurePath(name.stem), content  # a browser has unpacked it
        if content.startswith(magic) or ending == packed:
            with unpack(BytesIO(content)) as file:
                inner = _check_size(path, file.read(_LARGEST + 1))
            return PurePath(name.stem if ending == packed else name), inner
    if ending != ".zip" and find_kind(content).name != ARCHIVE:
        return name, content
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = [
            member.filename
            for member in archive.infolist()
            if not member.filename.startswith("__MACOSX/")
            and PurePosixPath(f"/{member.filename}").name[:1] not in ("", ".")
            and not member.is_dir()
        ]
        if len(names) != 1 and ending != ".zip":
            return name, content  # a package of some tool
        if len(names) != 1:
            shown = ", ".join(names[:3]) + (" and more" if len(names) > 3 else "")
            raise DataError(
                f"cannot read '{path}': it holds {len(names)} files{shown and f' ({shown})'}, an "
                "archive of one file is needed; unpack it and name the file"
            )
        with archive.open(names[0]) as file:
            return PurePosixPath(names[0]), _check_size(path, file.read(_LARGEST + 1))


def _check_size(path: Path, content: bytes) -> bytes:
    if len(content) > _LARGEST:
        raise DataError(
            f"cannot read '{path}': unpacked it is larger than {_LARGEST} bytes, at most as many "
            "are needed; unpack it and give a part of it"
        )
    return content


def check_form(
    path: Path, form: str, forms: Sequence[str] | None, also: str = "", *, content: bytes = b""
) -> None:
    """Refuse a form that is none of those known; arguments are those of `read_user_file`."""
    if forms is None or form in forms:
        return
    kind = find_kind(content)
    if kind.is_read and content and form in _ANY_TABLE and "txt" in forms:
        return
    if not kind.is_read and form not in _ONE_LANGUAGE:
        raise DataError(
            f"cannot read '{path}': it is {kind.name}, one of "
            f"{', '.join('.' + known for known in forms)} is needed; {kind.remedy}"
        )
    if form in _ONE_LANGUAGE and "tmx" in forms:
        raise DataError(
            f"cannot read '{path}': it is {_ONE_LANGUAGE[form]}, which holds one language, and "
            "sentences beside their translations are needed; put the texts of both languages into "
            "a table with a column each, or export them as TMX, XLIFF or .po"
        )
    raise DataError(
        f"cannot read '{path}': its ending '{form and '.' + form}' is unknown, one of "
        f"{', '.join('.' + known for known in forms)}, or such a file in an archive "
        f"{', '.join(_PACKED[:-1])} or .zip{also}, is needed; save it as one of these"
    )


# Endings of tools whose files are XLIFF.
XLIFF_ENDINGS = ("xlf", "xliff", "xliff2", "sdlxliff", "mqxliff", "mxliff", "txlf")

_ROOTS = {"tmx": "tmx", "xliff": "xliff", "TS": "ts"}
# By the name of the root; what each is called, and how its pairs come out.
_EXPORT = "export its pairs as TMX from the tool that wrote it"
_OTHER_ROOTS = {
    "martif": ("a termbase (TBX)", "name a translation memory; terms are no sentences"),
    "tbx": ("a termbase (TBX)", "name a translation memory; terms are no sentences"),
    "txml": ("a document of Wordfast Pro (TXML)", _EXPORT),
    "TrU": ("a memory of Trados Workbench", _EXPORT),
    "RTF": ("a memory of Trados Workbench", _EXPORT),
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
    text = head.decode(find_wide(head) or "utf-8-sig", errors="replace").lstrip("\ufeff")
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
