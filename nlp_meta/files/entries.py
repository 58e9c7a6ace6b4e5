"""Users' files, unpacked and decoded, and the entries that each format makes of them.

A format says itself which of its entries are no finished translations.
"""

import gzip
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath, PurePosixPath

from nlp_meta.errors import DataError

# Why an entry is not used as a pair of sentences.
HEADER, OBSOLETE, LOCKED = "header", "obsolete", "locked"
UNTRANSLATED, FUZZY = "untranslated", "fuzzy"
EMPTY, ONE_SIDED = "empty", "one-sided"
IDENTICAL, DUPLICATE = "identical", "duplicate"

_PACKED = (".gz", ".zip")
# A packed file that grows beyond this is a mistake or an attack.
_LARGEST = 2**30


@dataclass(frozen=True, slots=True)
class Entry:
    """One unit of a user's file.

    Attributes:
        source, target: None where the file has no such text.
        line: Where it begins in the file, from 1; the row where there are no lines.
        reason: Why its format does not call it a finished translation; None if it does.
    """

    source: str | None
    target: str | None
    line: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class UserFile:
    """A file as it was, unpacked.

    Attributes:
        form: Its ending below that of an archive, in small letters, without the point.
    """

    path: Path
    form: str
    content: bytes


def read_user_file(path: Path, *, forms: Sequence[str] | None = None, also: str = "") -> UserFile:
    """Read a file, or the one file in an archive `.gz` or `.zip`.

    Args:
        forms: Endings that are known, without the point; None takes any.
        also: What else an error about the ending lists.

    Raises:
        DataError: No such file, an unknown ending, an archive that is corrupt, holds not
            one file or grows beyond 1 GiB.
    """
    packed = path.suffix.lower() in _PACKED
    if not packed:
        _check_form(path, ending_of(path), forms, also)
    if not path.is_file():
        raise DataError(
            f"cannot read '{path}': there is no such file, one with sentences is needed; check the "
            "path"
        )
    name, content = PurePath(path.name), b""
    try:
        if path.suffix.lower() == ".gz":
            name, content = PurePath(path.stem), _unpack_gzip(path)
        elif packed:
            name, content = _unpack_zip(path)
        else:
            content = path.read_bytes()
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"cannot read '{path}': {reason}, an unbroken "
            f"{'archive of one file' if packed else 'file'} is needed; get or pack it anew"
        ) from error
    _check_form(path, ending_of(name), forms, also)
    return UserFile(path, ending_of(name), content)


def decode_text(file: UserFile, *, encoding: str = "utf-8-sig") -> str:
    """Decode a file as a whole.

    Raises:
        DataError: A byte is not of that encoding; names its line.
    """
    try:
        return file.content.decode(encoding)
    except UnicodeDecodeError as error:
        raise not_utf8(file, error, encoding=encoding) from error


def decode_lines(file: UserFile) -> list[str]:
    """Decode the lines of a plain text; only a line feed ends one, as in every aligned file."""
    lines = decode_text(file).split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in its place when it is complete; an error leaves what was there."""
    path = path.resolve()
    beside = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with beside.open("wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def ending_of(path: PurePath) -> str:
    """The ending of a file's name in small letters, without the point."""
    return path.suffix.lower().removeprefix(".")


def is_blank(text: str | None) -> bool:
    """Whether there is nothing to read in a text, or no text."""
    return text is None or not text.strip()


def not_utf8(
    file: UserFile, error: UnicodeDecodeError, *, encoding: str = "utf-8-sig"
) -> DataError:
    """Say which byte of a file is not of its encoding, and in which line."""
    line = file.content.count(b"\n", 0, error.start) + 1
    known = encoding.removesuffix("-sig").upper()
    return DataError(
        f"cannot read '{file.path}': byte 0x{file.content[error.start]:02x} in line {line} is "
        f"not {known}, one encoding throughout is needed; save the file with the encoding UTF-8"
    )


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


def _unpack_gzip(path: Path) -> bytes:
    with gzip.open(path) as file:
        return _check_size(path, file.read(_LARGEST + 1))


def _unpack_zip(path: Path) -> tuple[PurePath, bytes]:
    with zipfile.ZipFile(BytesIO(path.read_bytes())) as archive:
        names = [
            member.filename
            for member in archive.infolist()
            if not member.is_dir() and not member.filename.startswith("__MACOSX/")
        ]
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


def _check_form(path: Path, form: str, forms: Sequence[str] | None, also: str) -> None:
    if forms is not None and form not in forms:
        raise DataError(
            f"cannot read '{path}': its ending '{form and '.' + form}' is unknown, one of "
            f"{', '.join('.' + known for known in forms)}, or such a file in an archive .gz or "
            f".zip{also}, is needed; save it as one of these"
        )
