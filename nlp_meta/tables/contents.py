"""What the bytes of a file hold: its kind, whatever its name says, and the encoding of its text.

An encoding is told by byte order marks, by looking, or by the user. What is not UTF-8 is
decoded without being asked only where all encodings in which it reads like a text give the
same text. Otherwise the user is shown what each of them makes of it.
"""

import codecs
import re
import unicodedata
import zipfile
from collections import Counter
from dataclasses import dataclass
from io import BytesIO

from nlp_meta.tables.rows import TableError

WORKBOOK, PARQUET, JSON, TEXT = "xlsx", "parquet", "json", "text"
ARCHIVE = "an archive (.zip)"

_SAVE = "open it in its program and save it as .xlsx or .csv"
_EXPORT = "write its rows into a .csv, .jsonl or .parquet file"
_UNFORMAT = "make a .po file of it by msgunfmt"
_SQL = "load it into its database and export the table as .csv"
_WHOLE = "write each whole text and its label as a row of a .csv or .jsonl file"
_UNPACK = "unpack it and name the file in it"

_SHEET = "copy its table into a spreadsheet and save it as .csv"
_WORDS = "a CoNLL file, which labels words"
_MAGIC = {
    b"PAR1": (PARQUET, ""),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("a workbook of Excel 97-2003 (.xls)", _SAVE),
    b"\x09\x08": ("a workbook of an early Excel (.xls)", _SAVE),
    b"%PDF": ("a PDF", _SHEET),
    b"{\\rtf": ("a text document (.rtf)", _SHEET),
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
    **dict.fromkeys(
        (b"\xde\x12\x04\x95", b"\x95\x04\x12\xde"), ("a compiled gettext file (.mo)", _UNFORMAT)
    ),
    b"$FL2": ("an SPSS file", _EXPORT),
    b"<stata_dta>": ("a Stata file", _EXPORT),
    b"HEADER RECORD****": ("a transport file of SAS (.xpt)", _EXPORT),
    b"RDX": ("a file of R (.RData)", "write its table by write.csv in R"),
    b"\xff\xff\xff\xff": ("an Arrow stream, as `datasets` saves it", _EXPORT),
    b"\x93NUMPY": ("a NumPy array", _EXPORT),
    **dict.fromkeys(
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        ("a pickle of Python, which is not read", _EXPORT),
    ),
    b"#FORMAT=WebAnno": ("a file of INCEpTION or WebAnno, which labels parts of texts", _WHOLE),
    **dict.fromkeys((b"INSERT INTO", b"CREATE TABLE"), ("a list of SQL statements", _SQL)),
    **dict.fromkeys((b"-- MySQL dump", b"--\n-- PostgreSQL"), ("a dump of a database", _SQL)),
    **dict.fromkeys(
        (b"-[ RECORD", b"*" * 27), ("a listing of a database, a cell in each line", _SQL)
    ),
    **dict.fromkeys(
        (b"@RELATION", b"@relation"), ("a file of Weka (.arff)", "save it in Weka as .csv")
    ),
    **dict.fromkeys((b"-DOCSTART-", b"# sent_id", b"# newdoc"), (_WORDS, _WHOLE)),
    **dict.fromkeys((b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), ("a picture", "name the table itself")),
    b"version https://git-lfs": (
        "a pointer of Git LFS, not the file itself",
        "run `git lfs pull` in its repository",
    ),
    b'{"url": "https://docs.google': (
        "a link to a Google document, not the table itself",
        "download the table in Google Sheets as .csv or .xlsx",
    ),
}
_BINARY = "a binary file of a program, no table of texts"

_TAGGED = re.compile(
    rb"(?=(?s:.*)[ \t][BIES]-[A-Z])((\S+[ \t]+)+(O|[BIES]-[\w-]+)[ \t]*\r?\n\s*){3}"
    rb"|1\t([^\t\n]+\t){8}[^\t\n]+\n2\t"
)
"""Words, one a line, with the tags of CoNLL, or with the ten columns of CoNLL-U."""

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
    if "EncryptedPackage".encode("utf-16-le") in content[:_SAMPLE]:
        return FileKind("a workbook with a password", "save it without one, as .xlsx or .csv")
    for magic, kind in _MAGIC.items():
        if content.startswith(magic):
            return FileKind(*kind)
    if content[257:262] == b"ustar":
        return FileKind("an archive (.tar)", _UNPACK)
    if _is_binary(content[:_SAMPLE]):
        return FileKind(_BINARY, f"open it in its program, or {_EXPORT}")
    start = content[:1024].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    if start.startswith(b"<"):
        return _name_markup(content[:4096].replace(b"\0", b"").lower())
    if _TAGGED.match(start):
        return FileKind(_WORDS, _WHOLE)
    return FileKind(JSON if re.match(rb"[\[{]\s*([\[{\"\]}]|\Z)", start) else TEXT)


def _is_binary(sample: bytes) -> bool:
    """Whether more bytes are controls than in a text of any encoding."""
    copied = sample.rstrip(b"\0") or sample  # a broken copy ends with zeros
    return not find_wide(sample) and 16 * len(copied.translate(None, _TEXT_BYTES)) > len(copied)


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


_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"\x84\x31\x95\x33": "gb18030",
}
"""The marks of UTF-32 stand before those of UTF-16, which they begin with."""

_ONE_BYTE = (
    *("cp1252", "cp1250", "cp1251", "cp1254", "cp1257", "cp1253", "cp1255", "cp1256", "cp874"),
    *("koi8_r", "iso8859_2", "iso8859_15"),
)
_TWO_BYTES = ("cp932", "euc_jp", "cp949", "big5", "gb18030")
_OLD = ("mac_roman", "cp850", "cp866", "cp437")
"""Of systems that few have today: they count where no other encoding does."""

_ALPHABETS = (
    "äöüß àâæçéèêëîïôùûüÿœ áéíóúüñ áâãàçéêíóôõúü àèéìíîòóù éëïóöüáèê æøåéó åäöéü áðéíóúýþæö "
    "àèéíòóúïüç ąćęłńóśźż áčďéěíňóřšťúůýž áäčďéíĺľňóôŕšťúýž áéíóöőúüű ăâîşţșț čćđšž "
    "çğ\u0131öşüâîûi\u0307 ąčęėįšųūž āčēģīķļņšūž äõöüšž"
).split()
"""Letters of languages beside those of ASCII: a text has those of one of them."""

_TEXT_BYTES = bytes({*b"\1\t\n\v\f\r", *range(26, 256)})
_SAMPLE = 2**16
"""Characters that are looked at, in lines that have others than ASCII."""
_SHOWN = 3
_LISTED = 10

_TYPOGRAPHY = set("\u2018\u2019\u201a“”„\u2013—…€£°«»·•§®™©¿¡ºª½¼¾²³\u00b4№،؛؟\u00a0\u200e\u200f")
_INSIDE = set("\u2018\u2019·\u00b4\u2013—…")
"""Signs that stand between two letters."""
_UNUSED = ("Cc", "Cn", "Co")
_LEAST = 8
"""Letters that tell an encoding of another script than Latin, at least."""
_MANY = 40
"""Letters that tell such encodings from each other."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The text of a file.

    Attributes:
        note: What was taken for granted; empty for UTF-8 and for what the user said.
    """

    text: str
    note: str = ""


def decode_bytes(content: bytes, *, encoding: str | None = None) -> Decoded:
    """Decode a file.

    Args:
        encoding: As the user says; None looks.

    Raises:
        TableError: A byte is not of the encoding, names its line; there is no such
            encoding; the file is of several or may be of several.
    """
    decoded = _decode(content, encoding)
    text = decoded.text.rstrip("\x1a\0")  # what DOS and a broken copy end a file with
    read_twice, count = _find_read_twice(text)
    if decoded.note or not read_twice:
        return Decoded(text, decoded.note)
    return Decoded(
        text,
        f"{read_twice[0]!r} and the like ({count} places) look like {read_twice[1]!r} in UTF-8 "
        "that a program read as another encoding and saved so: export the table anew as UTF-8",
    )


def _decode(content: bytes, encoding: str | None) -> Decoded:
    marked = _find_mark(content)
    if encoding is not None:
        text = _decode_as(content, _check_name(encoding, marked), marked)
        is_doubtful = not codecs.lookup(encoding).name.startswith("utf") and _is_mostly_utf8(
            content.decode(errors="replace")
        )
        note = f"it is read as {encoding}, though most of it is valid UTF-8" if is_doubtful else ""
        return Decoded(text, note)
    if marked == "utf-8-sig":
        return Decoded(_decode_as(content, marked, marked))
    if marked is not None:
        text = _decode_as(content, marked, marked)
        return Decoded(text, f"the encoding is {marked.upper()}, by its byte order mark")
    if wide := _find_wide(content):
        text = _decode_as(content, wide, None)
        return Decoded(text, f"the encoding is {wide.upper()}, by looking at it")
    try:
        return Decoded(content.decode())
    except UnicodeDecodeError as error:
        joined = _join_halves(content)
        note = "signs of UTF-8 are joined of two halves, as Java and Oracle write them (CESU-8)"
        return _look(content, error) if joined is None else Decoded(joined, note)


def _join_halves(content: bytes) -> str | None:
    try:
        return (
            content.decode(errors="surrogatepass")
            .encode("utf-16", "surrogatepass")
            .decode("utf-16")
        )
    except UnicodeError:
        return None


def line_of(content: bytes, place: int) -> int:
    """The line of a byte, from 1."""
    before = content[:place]
    return max(before.count(b"\n"), before.count(b"\r")) + 1


def find_wide(content: bytes) -> str | None:
    """The encoding that a byte order mark says, or of which two bytes and more make a sign."""
    return _find_mark(content) or _find_wide(content)


def _find_mark(content: bytes) -> str | None:
    return next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)


def _check_name(encoding: str, marked: str | None) -> str:
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)
        b"".decode(name)
    except (LookupError, ValueError) as error:
        raise TableError(
            f"there is no encoding {encoding[:40]!r}",
            needed="the name of one is needed",
            remedy="write `encoding` like utf-8, utf-16, cp1252 or gb18030",
        ) from error
    if marked is not None and name.split("-")[:2] != codecs.lookup(marked).name.split("-")[:2]:
        shown = marked.removesuffix("-sig").upper()
        raise TableError(
            f"it begins with the byte order mark of {shown}, and `encoding` says {encoding}",
            needed="one encoding is needed",
            remedy="leave `encoding` out",
        )
    return name


def _decode_as(content: bytes, encoding: str, marked: str | None) -> str:
    if encoding == "utf-16" and marked is None:
        encoding = _find_wide(content) or "utf-16-le"
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        known = encoding.removesuffix("-sig").upper()
        raise TableError(
            f"{_show_byte(content, error)} is not {known}",
            needed="one encoding throughout is needed",
            remedy="save the file with the encoding UTF-8, or name its own with `encoding`",
        ) from error


def _show_byte(content: bytes, error: UnicodeDecodeError) -> str:
    return f"byte 0x{content[error.start]:02x} in line {line_of(content, error.start)}"


def _find_wide(content: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: every second byte of Latin text is zero."""
    sample = content[: _SAMPLE - _SAMPLE % 4]
    if len(sample) < 4 or len(content) % 2 or b"\0" not in sample or not any(sample):
        return None
    zeros = [sample[place::4].count(0) * 4 / len(sample) for place in range(4)]
    for name, high in (("utf-32-le", zeros[2:]), ("utf-32-be", zeros[:2])):
        if min(high) > 0.99:
            return name
    for name, line_end in (("utf-16-le", b"\n\0"), ("utf-16-be", b"\0\n")):
        first = 1 if name.endswith("le") else 0
        zero, other = sample[first::2].count(0), sample[1 - first :: 2].count(0)
        is_latin = zero > 0.3 * len(sample) / 2 and other < 0.1 * zero
        if other == 0 and (is_latin or (line_end in sample and not _is_utf8(sample))):
            return name
    return None


def _is_utf8(sample: bytes) -> bool:
    """Whether a sample may be of a text in UTF-8; it may end within a sign."""
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(sample) - 3
    return True


def _look(content: bytes, error: UnicodeDecodeError) -> Decoded:
    place = _show_byte(content, error)
    lossy = content.decode(errors="replace")
    if _is_mostly_utf8(lossy):
        raise TableError(
            f"{place} is not UTF-8, as most of the file is{_list_lines(lossy)}",
            needed="one encoding throughout is needed",
            remedy="mend what is cut off or was joined from another file, or name the encoding of "
            "all lines with `encoding`",
        ) from error
    texts: dict[str, str] = {}
    for name in (*_ONE_BYTE, *_TWO_BYTES, *_OLD):
        text = _read_like_text(content, name)
        if text is not None and text not in texts.values():
            texts[name] = text
    chosen = _choose(content, texts)
    if chosen is not None:
        word = _odd_words(texts[chosen])[0]
        note = f"the encoding is {chosen}, by looking at it ({place} is in {word!r})"
        return Decoded(texts[chosen], note)
    raise TableError(
        f"{place} is not UTF-8{_compare_words(texts)}",
        needed="an encoding that is beyond doubt is needed",
        remedy=f"name it with `encoding`, such as {next(iter(texts), 'cp1252')}, or save the "
        "file with the encoding UTF-8",
    ) from error


def _is_mostly_utf8(lossy: str) -> bool:
    """Whether more signs beside ASCII could be decoded than could not."""
    bad = lossy.count("\ufffd")
    return 0 < sum(sign > "\x7f" for sign in lossy) - bad >= bad


def _list_lines(lossy: str) -> str:
    lines = [str(n) for n, line in enumerate(lossy.split("\n"), start=1) if "\ufffd" in line]
    more = ", ..." if len(lines) > _LISTED else ""
    return f" (lines that are not: {', '.join(lines[:_LISTED])}{more})" if len(lines) > 1 else ""


def _choose(content: bytes, texts: dict[str, str]) -> str | None:
    """The encoding that is beyond doubt.

    Between scripts other than Latin the library decides, as their letters tell them apart. It
    takes Spanish for Polish, so that it has no say in Latin ones: there the letters must be
    those of one language.
    """
    fits = {name: text for name, text in texts.items() if _is_foreign(text) or _is_language(text)}
    usual = {name: text for name, text in fits.items() if name not in _OLD} or fits
    for name, text in usual.items():
        if len(usual) == 1 and (_is_language(text) or len(_odd_letters(text)) >= _LEAST):
            return name
    few = any(len(_odd_letters(text)) < _MANY for text in usual.values())
    if few or not all(map(_is_foreign, usual.values())):
        return None
    from charset_normalizer import from_bytes

    best = from_bytes(content[:_SAMPLE]).best()
    names = () if best is None else (best.encoding, *best.could_be_from_charset)
    return next((name for name in usual if name in names), None)


def _is_foreign(text: str) -> bool:
    letters = _odd_letters(text)
    return sum(_script(letter) == "LATIN" for letter in letters) < 0.1 * len(letters)


def _is_language(text: str) -> bool:
    letters = {letter.lower() for letter in _odd_letters(text)}
    return any(letters <= set(alphabet) for alphabet in _ALPHABETS)


def _odd_letters(text: str) -> list[str]:
    return [letter for letter in _sample(text) if letter > "\x7f" and letter.isalpha()]


def _find_read_twice(text: str) -> tuple[tuple[str, str] | None, int]:
    """Signs that are UTF-8 read as cp1252, what they stood for, and how many such there are."""
    runs = [] if text.isascii() else re.findall(r"[^\x00-\x7f]+", _sample(text))
    twice = []
    for run in runs:
        try:
            twice.append((run, run.encode("cp1252").decode()))
        except UnicodeError:
            continue
    return (twice[0], len(twice)) if len(twice) > len(runs) / 2 else (None, 0)


def _odd_words(text: str) -> list[str]:
    # Bounded: of a long run of letters each one would begin a look through all others.
    return re.findall(r"\w{0,40}[^\x00-\x7f]\w{0,40}", _sample(text)) or [""]


def _compare_words(texts: dict[str, str]) -> str:
    """Show the first word that encodings read in different ways."""
    names = list(texts)[:_SHOWN]
    for words in zip(*(_odd_words(texts[name]) for name in names), strict=False):
        if len(set(words)) == len(words):
            readings = zip(words, names, strict=True)
            shown = ", ".join(f"{word[:30]!r} in {name}" for word, name in readings)
            return f"; a word of it is {shown}"
    return ""


def _sample(text: str) -> str:
    """Lines with others than ASCII characters, a part of them."""
    if len(text) <= _SAMPLE:
        return text
    lines, size = [], 0
    for line in text.split("\n"):
        if line.isascii():
            continue
        lines.append(line)
        size += len(line)
        if size > _SAMPLE:
            break
    return "\n".join(lines)


def _read_like_text(content: bytes, encoding: str) -> str | None:
    """Decode it; None where it does not read like a text of that encoding."""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return None
    sample = _sample(text)
    fits = _fits_wide(sample, encoding) if encoding in _TWO_BYTES else _fits_narrow(sample)
    return text if fits else None


def _fits_narrow(sample: str) -> bool:
    """Whether words are of one script, with capitals at their beginnings, without signs in them."""
    for odd in re.finditer(r"[^\x00-\x7f]", sample):
        place, sign = odd.start(), odd[0]
        before, after = sample[max(place - 1, 0) : place], sample[place + 1 : place + 2]
        if unicodedata.category(sign)[0] in "LM":
            neighbors = [letter for letter in (before, after) if letter.isalpha()]
            if any(_script(letter) != _script(sign) for letter in neighbors):
                return False
            if sign.isupper() and (before.islower() or (before.isupper() and after.islower())):
                return False
            if sign.islower() and after.isupper():
                return False
        elif sign not in (_INSIDE if before.isalpha() and after.isalpha() else _TYPOGRAPHY):
            return False
    return True


def _script(letter: str) -> str:
    return unicodedata.name(letter, "LATIN").partition(" ")[0]


def _fits_wide(sample: str, encoding: str) -> bool:
    """Whether the letters are those that nearly every text of the language has most of."""
    odd = [sign for sign in sample if sign > "\x7f"]
    scripts = Counter(map(_script, filter(str.isalpha, odd)))
    letters, kana = scripts.total(), scripts["HIRAGANA"] + scripts["KATAKANA"]
    if letters < _LEAST or any(unicodedata.category(sign) in _UNUSED for sign in odd):
        return False
    if encoding in ("cp932", "euc_jp"):
        return kana >= 0.2 * letters and not scripts["HALFWIDTH"]
    if encoding == "cp949":
        usual = sum("가" <= sign <= "힣" and min(sign.encode(encoding)) > 0xA0 for sign in odd)
        return usual >= 0.8 * letters
    first, last = (0xB0, 0xD7) if encoding == "gb18030" else (0xA4, 0xC6)
    usual = sum(first <= sign.encode(encoding)[0] <= last for sign in odd if _script(sign) == "CJK")
    return kana == 0 and usual >= 0.8 * letters
