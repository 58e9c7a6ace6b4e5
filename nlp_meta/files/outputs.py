"""The one writer: what a command writes is whole or not there, and nothing of the user's is lost.

Files and folders are written beside their place and renamed. What stands at the place is
replaced without being told only where this package wrote it and nobody changed it since: the
record of a folder lists its files with their hashes, and a single file carries a hash as an
extended attribute. Anything else in a folder stays, and a file that is in the way stops the
command unless it is told to replace. An input of the command is never replaced.
"""

import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from nlp_meta.data.inputs import check_switch
from nlp_meta.errors import OutputError
from nlp_meta.files.locks import lock

CARD = "README.md"
RUN_LOG, RUN_PAGE = "log.jsonl", "run.html"
"""What a training run leaves beside its model."""
FILES, SEAL, CARD_ENTRY = "files", "seal", "card"
"""Keys of a record: the files beside it, the hash of all its other keys, and the card."""
_MARK = "user.nlp_meta"
_BESIDE = ".nlp_meta-"
_STALE_AFTER = 60.0
"""Seconds after which what a killed process left beside its place may be removed."""
_ASIDE = "-old"
"""Ending of a folder that steps aside; it is never removed unless the new one is in its place."""
_EXCHANGE, _HERE = 2, -100
_ASKS = "it may be somebody's work"
_REASONS = {
    errno.ENOSPC: ("its disk is full", "free some room"),
    errno.EDQUOT: ("the quota of its disk is used up", "free some room"),
    errno.EFBIG: ("it is larger than a file may be there", "raise that limit"),
    errno.EROFS: ("its disk is read-only", "make it writable"),
    errno.EACCES: ("its folder may not be written to", "change its permissions"),
    errno.EPERM: ("its folder may not be written to", "change its permissions"),
    errno.ENAMETOOLONG: ("its name is too long", "shorten it"),
    errno.ELOOP: ("it is a link that leads to itself", "mend the link"),
    errno.ENOTDIR: ("a part of its path is not a folder", "correct the path"),
    errno.EISDIR: ("it is a folder", "correct the path"),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a folder of one kind holds.

    Attributes:
        what: The kind in words, such as `a model`.
        record: The JSON file that lists the others.
        names: Of files that mean something in such a folder, whoever put them there.
        same: Keys of the record and the values that they must have in what is replaced.
        run: Of files that a run keeps in a folder that has no record yet.
        among: It may lie among other files, so that its folder is never exchanged.
    """

    what: str
    record: str
    names: Sequence[str] = ()
    same: Mapping[str, Any] = field(default_factory=dict)
    run: Sequence[str] = ()
    among: bool = False


@dataclass(slots=True)
class Draft:
    """A folder that is being written.

    Attributes:
        path: Where its files are written; the writer adds the record.
        record: What the record says beside the list of files.
    """

    path: Path
    record: Mapping[str, Any] = field(default_factory=dict)


def write_file(
    path: Path,
    content: bytes | str | Iterable[bytes],
    *,
    replace: bool = False,
    argument: str = "output",
) -> None:
    """Put a file in its place when it is complete; an error leaves what was there.

    A link stays a link and keeps leading to the file.

    Args:
        content: In one piece, or in pieces that are made while it is written.
        replace: A file that this package did not write, or that was changed since, may go.
        argument: What the user named the path with.

    Raises:
        OutputError: Such a file is there, or the disk does not take the new one.
    """
    check_file(path, replace=replace, argument=argument)
    content = content.encode() if isinstance(content, str) else content
    pieces = [content] if isinstance(content, bytes) else content
    with _telling(path, argument):
        place = path.resolve()
        made = _make_parents(place)
        _remove_stale(place.parent)
        beside = place.with_name(_BESIDE + secrets.token_hex(8))
        try:
            with beside.open("xb") as file:
                file.writelines(pieces)
                file.flush()
                if place.exists():
                    beside.chmod(stat.S_IMODE(place.stat().st_mode))
                _mark(beside, place)
                os.fsync(file.fileno())
            beside.replace(place)
        finally:
            beside.unlink(missing_ok=True)
            _remove_empty(made)


def check_file(
    path: Path, *, inputs: Iterable[Path] = (), replace: bool = False, argument: str = "output"
) -> None:
    """Stop before the work if a file could not be kept, or would replace what is not ours.

    Args:
        inputs: Files and folders that the command reads.
        replace, argument: As in `write_file`.

    Raises:
        OutputError: Names what is in the way.
    """
    check_switch(replace, _replace_of(argument))
    with _telling(path, argument):
        reason, needed = _find_reason_of_file(path.resolve(), inputs, replace=replace)
    if reason:
        remedy = f", or replace it with `{_replace_of(argument)}`" if needed == _ASKS else ""
        raise OutputError(
            f"cannot write '{path}': {reason}, and {needed}; name another path with "
            f"`{argument}`{remedy}"
        )


def check_folder(
    folder: Path,
    layout: Layout,
    *,
    inputs: Iterable[Path] = (),
    replace: bool = False,
    argument: str = "folder",
) -> None:
    """Stop before the work if a folder cannot be made, or something in it would be lost.

    Args:
        inputs: Files and folders that the command reads.
        replace: Files that a person put or changed where ours go, and a model of another kind,
            may be replaced; whatever has another name stays.
        argument: What the user named the folder with.

    Raises:
        OutputError: Names what is in the way.
    """
    check_switch(replace, _replace_of(argument))
    with _telling(folder, argument, what=layout.what):
        place = folder.resolve()
        obstacle = _find_obstacle(place)
        if os.fsencode(place).decode(errors="replace") != str(place):
            obstacle = "its path is not UTF-8"
        if obstacle:
            raise OutputError(
                f"cannot save {layout.what} to '{folder}': {obstacle}, a folder that you may write "
                f"to is needed; name another folder with `{argument}`"
            )
        for given in inputs:
            read = [n for n in (layout.record, *layout.names) if _is_same(place / n, given)]
            if read or (given.is_dir() and _is_same(place, given)):
                raise OutputError(
                    f"cannot save {layout.what} to '{folder}': '{given}' is read by this command "
                    f"and is never replaced; name another folder with `{argument}`"
                )
        reason = _find_reason(place, layout, layout.names)
    if reason and not replace:
        raise OutputError(
            f"cannot save {layout.what} to '{folder}': {reason}, and nothing that may be somebody's"
            f" work is replaced; name a new or empty folder with `{argument}`, or replace what "
            f"stands there with `{_replace_of(argument)}`"
        )


@contextmanager
def write_folder(
    folder: Path, layout: Layout, *, replace: bool = False, argument: str = "folder"
) -> Iterator[Draft]:
    """Write a folder whole: the body fills a draft, which then takes the place at once.

    What was there before stays whole until then. Files that the old record lists go; all
    others stay. A folder that is a link stays one.

    Args:
        replace, argument: As in `check_folder`.

    Raises:
        OutputError: As `check_folder` does, or the disk does not take it.
    """
    check_folder(folder, layout, replace=replace, argument=argument)
    with _telling(folder, argument, what=layout.what):
        place = folder.resolve()
        made = _make_parents(place)
        _remove_stale(place.parent)
        beside = _home_of(place) / (_BESIDE + secrets.token_hex(8))
        try:
            beside.mkdir()
            with lock(beside):
                draft = Draft(beside)
                yield draft
                _write_record(draft, layout)
                reason = _find_reason(place, layout, [*layout.names, *_names_in(beside)])
                if reason and not replace:
                    raise OutputError(
                        f"cannot save {layout.what} to '{folder}': {reason}, and it is not "
                        f"replaced; name another folder with `{argument}`"
                    )
                _put(beside, place, layout)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            _remove_empty(made)


def append_text(path: Path, text: str, *, argument: str = "output_dir") -> None:
    """Add to a file of ours, or begin it; of what the disk does not take whole nothing stays.

    Raises:
        OutputError: The disk does not take it.
    """
    with _telling(path, argument):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text.encode()
        with path.open("ab", buffering=0) as file:
            whole = file.tell()
            try:
                if file.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(whole)
                raise


def remove_folder(folder: Path, *, ours: str) -> None:
    """Remove the files of a folder whose names fit a pattern; with it where it holds no others.

    A process that is killed meanwhile leaves nothing of its name.
    """
    beside = folder.with_name(_BESIDE + secrets.token_hex(8))
    with _telling(folder, "output_dir"):
        own = [path for path in folder.iterdir() if re.fullmatch(ours, path.name)]
        if len(own) == len(list(folder.iterdir())):
            folder.rename(beside)
            shutil.rmtree(beside, ignore_errors=True)
        for path in own if folder.exists() else ():
            path.unlink()


def read_folder(folder: Path, layout: Layout) -> dict[str, Any]:
    """Read the record of a folder that must be as it was written.

    Raises:
        OSError: The record cannot be read.
        ValueError: It, or a file that it lists, was changed; names the file.
    """
    record = _read_record(folder / layout.record)
    changed = _find_changed(folder, layout, record)
    missing = [name for name in record[FILES] if not (folder / name).is_file()]
    if changed or missing:
        raise ValueError(f"{[*changed, *missing][0]} is not as it was written")
    return record


def describe_files(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Hash and size of files, by name, as a record lists them."""
    return {
        name: {"sha256": hash_file(folder / name), "bytes": (folder / name).stat().st_size}
        for name in sorted(names)
    }


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """Give a record the hash of all else that it says."""
    values = {key: value for key, value in record.items() if key != SEAL}
    text = json.dumps(values, sort_keys=True, ensure_ascii=True)
    return {**values, SEAL: hashlib.sha256(text.encode()).hexdigest()}


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _telling(path: Path, argument: str, *, what: str = "") -> Iterator[None]:
    """Say in one sentence why a disk does not take something.

    Libraries that write files in Rust raise errors of their own, one of them a bare `Exception`.
    """
    try:
        yield
    except OSError as error:
        raise _explain(path, error, argument, what=what) from error
    except Exception as error:
        numbered = re.search(r"\(os error (\d+)\)", str(error))
        named = isinstance(error, SafetensorError) or type(error) is Exception
        embedded = isinstance(error, ValueError) and "null byte" in str(error)
        looped = isinstance(error, RuntimeError) and "ymlink loop" in str(error)
        if numbered or named or embedded or looped:
            number = int(numbered[1]) if numbered else errno.ELOOP if looped else 0
            cause = OSError(number, str(error).rstrip("."))
            raise _explain(path, cause, argument, what=what) from error
        raise


def _explain(path: Path, error: OSError, argument: str, *, what: str) -> OutputError:
    strerror = error.strerror or str(error) or type(error).__name__
    reason, remedy = _REASONS.get(error.errno or 0, (strerror, "mend that"))
    doing = f"save {what} to" if what else "write"
    return OutputError(
        f"cannot {doing} '{path}': {reason}, and a place that takes it is needed; nothing that was "
        f"there has changed; {remedy}, or name another place with `{argument}`"
    )


def _replace_of(argument: str) -> str:
    section, point, _ = argument.rpartition(".")
    return f"{section}{point}replace"


def _find_reason_of_file(
    place: Path, inputs: Iterable[Path], *, replace: bool
) -> tuple[str | None, str]:
    """Why a file must not be written, and what is needed; None where it may be."""
    obstacle = _find_obstacle(place.parent, place.name)
    for given in inputs:
        if _is_same(place, given):
            return f"it is '{given}', which this command reads", "an input is never overwritten"
    if os.path.lexists(place) and not place.is_file():
        obstacle = "it is there and is not a file"
    if obstacle:
        return obstacle, "a file in a folder that you may write to is needed"
    if not place.is_file() or _is_marked(place):
        return None, ""
    for given in inputs:
        if given.is_dir() and place.is_relative_to(given.resolve()):
            reason = f"it is a file of '{given}', which this command reads"
            return reason, "nothing of an input is ever overwritten"
    reason = "the file that is there was not written by nlp-meta, or was changed since"
    return (None if replace else reason), _ASKS


def _find_obstacle(folder: Path, name: str = "") -> str | None:
    """What keeps a folder from being made or written to, or a file of that name in it."""
    place = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not place.is_dir():
        return f"'{place}' is not a folder"
    longest = os.pathconf(place, "PC_NAME_MAX")
    if any(len(os.fsencode(part)) > longest for part in (*folder.parts, name)):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return None if os.access(place, os.W_OK | os.X_OK) else f"'{place}' may not be written to"


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one thing, over links of either kind and letters of either case."""
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()


def _find_reason(place: Path, layout: Layout, names: Iterable[str]) -> str | None:
    """Why something would be lost where files of these names go, or must not stay; else None."""
    present = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    present = [name for name in present if not name.startswith(_BESIDE)]
    if not present:
        return None
    blocked = [name for name in names if (place / name).is_dir()]
    if blocked:
        raise OutputError(
            f"cannot save {layout.what} to '{place}': '{blocked[0]}' is a folder there and a file "
            "of that name is needed; move it away"
        )
    there = [name for name in dict.fromkeys(names) if os.path.lexists(place / name)]
    if layout.record not in present:
        if layout.among or any(name in layout.run for name in present):
            return _tell("holds", there)
        return _tell("holds other things:", present)
    try:
        record = _read_record(place / layout.record)
    except ValueError as error:
        return f"its {layout.record} {error}"
    for key, value in layout.same.items():
        if record.get(key) != value:
            return f"it holds another kind of thing, {key} {record.get(key)!r}"
    known = {layout.record, *record[FILES], *([CARD] if CARD_ENTRY in record else ())}
    strange = [name for name in there if name not in known]
    return _tell("was changed since it was written:", _find_changed(place, layout, record)) or (
        _tell("holds files that nlp-meta did not write:", strange)
    )


def _tell(what: str, names: Sequence[str]) -> str | None:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"it {what} {', '.join(names[:3])}{more}" if names else None


def _read_record(path: Path) -> dict[str, Any]:
    """Read the record of a folder; an error ends a sentence on what is wrong with it."""
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError("is no JSON") from error
    listed = record.get(FILES) if isinstance(record, dict) else None
    if not isinstance(listed, dict) or not all(
        isinstance(entry, dict) for entry in listed.values()
    ):
        raise ValueError("does not list the files that were written, so nobody can tell whose")
    return dict(record)


def _find_changed(place: Path, layout: Layout, record: Mapping[str, Any]) -> list[str]:
    """Files of ours that a person worked on; one that was deleted is none."""
    listed = {**record[FILES], **({CARD: record[CARD_ENTRY]} if CARD_ENTRY in record else {})}
    changed = [] if seal(record)[SEAL] == record.get(SEAL) else [layout.record]
    for name, entry in listed.items():
        path = place / name
        if not os.path.lexists(path):
            continue
        whole = path.is_file() and not path.is_symlink()
        same = whole and path.stat().st_size == entry.get("bytes")
        if not same or hash_file(path) != entry.get("sha256"):
            changed.append(name)
    return changed


def _names_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]


def _write_record(draft: Draft, layout: Layout) -> None:
    """List what is in a draft, and give every file the mode that the umask asks for."""
    names = _names_in(draft.path)
    listed = describe_files(draft.path, [name for name in names if name != CARD])
    card = describe_files(draft.path, [name for name in names if name == CARD])
    values = {**draft.record, FILES: listed, **({CARD_ENTRY: card[CARD]} if card else {})}
    text = json.dumps(seal(values), indent=1, ensure_ascii=False)
    record = draft.path / layout.record
    record.write_text(text + "\n", encoding="utf-8")
    mode = stat.S_IMODE(record.stat().st_mode)
    for name in (*names, layout.record):
        path = draft.path / name
        path.chmod(mode)
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _put(beside: Path, place: Path, layout: Layout) -> None:
    """Let a draft take its place in one step, and bring along what stays of the old folder."""
    if not place.exists():
        beside.rename(place)
        _sync(place.parent)
        return
    new, old = set(_names_in(beside)), _names_of_record(place, layout)
    shutil.copystat(place, beside)
    for name in new:
        if (place / name).is_file():
            shutil.copymode(place / name, beside / name)
    if not (layout.among or beside.parent == place or _is_stood_in(place)):
        _link_rest(place, beside, without=new | old)
        if _exchange(beside, place):
            _link_rest(beside, place, without=new | old)  # what came meanwhile
            _sync(place.parent)
            return
    _put_in_place(beside, place, new, gone=old - new)


def _is_stood_in(place: Path) -> bool:
    """Whether this process, and so the shell that began it, stands in a folder: it must stay."""
    with suppress(OSError):
        return Path.cwd().is_relative_to(place)
    return False


def _names_of_record(place: Path, layout: Layout) -> set[str]:
    """Files of a folder that do not outlive a new record."""
    listed: set[str] = set()
    with suppress(OSError, ValueError):
        listed = set(_read_record(place / layout.record)[FILES])
    return {name for name in {*listed, *layout.names, layout.record} if (place / name).is_file()}


def _link_rest(source: Path, target: Path, *, without: set[str], below: str = "") -> None:
    """Give what stays a second name in the new folder; the first goes with the old one."""
    for entry in os.scandir(source):
        name, path = below + entry.name, target / entry.name
        if name in without or entry.name.startswith(_BESIDE):
            continue
        if entry.is_dir(follow_symlinks=False):
            path.mkdir(exist_ok=True)
            _link_rest(Path(entry.path), path, without=without, below=f"{name}/")
            shutil.copystat(entry.path, path)
        elif not os.path.lexists(path):
            try:
                os.link(entry.path, path, follow_symlinks=False)
            except OSError:
                # Some file systems give no file two names.
                shutil.copy2(entry.path, path, follow_symlinks=False)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change their names in one step of the file system, where it can.

    Elsewhere the old one steps aside first. False where a folder cannot be renamed at all, such
    as one that a disk is mounted on.
    """
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(one), os.fsencode(other)
    if rename is not None and rename(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0:
        return True
    aside = one.with_name(one.name + _ASIDE)
    try:
        other.rename(aside)
    except OSError:
        return False
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        return False
    aside.rename(one)
    return True


def _put_in_place(beside: Path, place: Path, new: set[str], *, gone: set[str]) -> None:
    """Exchange the files one by one; an error brings the old ones back.

    Only for a folder that must stay or cannot be renamed: a process that is killed meanwhile
    leaves a mixture, which loading refuses.
    """
    kept = beside / (_BESIDE + "kept")
    moved: list[str] = []
    try:
        for name in sorted({*new, *gone}):
            moved.append(name)
            if (place / name).is_file():
                (kept / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).rename(kept / name)
            if name in new:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (beside / name).rename(place / name)
    except OSError:
        for name in moved:
            if (kept / name).is_file():
                (kept / name).replace(place / name)
            elif name in new:
                (place / name).unlink(missing_ok=True)
        raise
    _sync(place)


def _home_of(place: Path) -> Path:
    """Where a draft is written: beside its place, or in it where that is another disk or closed."""
    parent = place.parent
    if not place.is_dir() or (
        os.access(parent, os.W_OK | os.X_OK) and parent.stat().st_dev == place.stat().st_dev
    ):
        return parent
    return place


def _make_parents(place: Path) -> list[Path]:
    """Make the folders above a place; those that were not there, from the innermost."""
    made = [folder for folder in place.parents if not folder.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    return made


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # it holds what was written
            folder.rmdir()


def _remove_stale(folder: Path) -> None:
    """Remove what killed processes left beside their places: no process holds it any more."""
    for path in folder.glob(f"{_BESIDE}*"):
        if path.is_symlink() or time.time() - path.lstat().st_mtime < _STALE_AFTER:
            continue
        with suppress(OSError), lock(path) as held:  # another process may be removing it too
            if held and path.is_dir() and not path.name.endswith(_ASIDE):
                shutil.rmtree(path, ignore_errors=True)
            elif held and path.is_file():
                path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Bring the names in a folder to its disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mark(path: Path, place: Path) -> None:
    """Note in a file that this package wrote it at a place, where files have attributes.

    A copy, a renamed file and a changed one are thereby a person's.
    """
    with suppress(OSError, AttributeError):
        os.setxattr(path, _MARK, _seal_of(place, path))


def _is_marked(place: Path) -> bool:
    """Whether a file is as this package wrote it there."""
    with suppress(OSError, AttributeError):
        return os.getxattr(place, _MARK) == _seal_of(place, place)
    return False


def _seal_of(place: Path, path: Path) -> bytes:
    """A hash of a file's content and of the place that it is for."""
    with path.open("rb") as file:
        seal = hashlib.file_digest(file, lambda: hashlib.sha256(os.fsencode(place) + b"\0"))
    return seal.hexdigest().encode()
