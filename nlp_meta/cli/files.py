"""Where results go: checked before the work, written whole or not at all.

A file is written beside its place and renamed when it is complete, so that an error, a
full disk or Ctrl-C leaves what was there before. Models do the same in `hub/packaging.py`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nlp_meta.errors import DataError, MetaModelError

Data = Path | tuple[Path, Path]
"""What is given as `--data`: a file, or two aligned texts."""


def paths_of(data: Data) -> tuple[Path, ...]:
    """The path, or both."""
    return data if isinstance(data, tuple) else (data,)


def one_table(data: Data) -> Path:
    """Refuse two aligned texts where a table of labels is needed."""
    if isinstance(data, tuple):
        raise DataError(
            f"cannot read labels from '{data[0]}' and '{data[1]}': two paths are those of aligned "
            "texts, for translations, and one table is needed; name one file with `--data`, or "
            "the languages of the texts"
        )
    return data


def check_output_file(
    path: Path, *, data: Data, given: str = "the table given as `--data`"
) -> None:
    """Stop before the work if its result could not be kept, or would replace the input.

    Args:
        given: What `data` is, for the message.

    Raises:
        DataError: The path cannot be written, is a folder, a device or the input table.
    """
    if path.resolve() in [one.resolve() for one in paths_of(data)]:
        raise DataError(
            f"cannot write '{path}': it is {given}, which is not overwritten; "
            "name another path with `--output`"
        )
    reason = _obstacle(path.resolve().parent)
    if path.exists() and not path.is_file():
        reason = "it is there and is not a file"
    if reason:
        raise DataError(
            f"cannot write '{path}': {reason}, a file in a folder that you may write to is needed; "
            "name another path with `--output`"
        )


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; what is there in the end takes the place of `path`."""
    path = path.resolve()
    beside = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_output_folder(folder: Path) -> None:
    """Stop before the work if a folder cannot be made or holds what must not be replaced.

    Raises:
        MetaModelError: It cannot be written, or holds something and is not an adapted
            model, of whatever kind; a meta-model is not replaced either.
    """
    reason = _obstacle(folder.resolve())
    if not reason and folder.is_dir():
        found = sorted(path.name for path in folder.iterdir())
        if found and not _is_adapted_model(folder):
            shown = ", ".join(found[:3]) + (" and more" if len(found) > 3 else "")
            reason = f"it holds {shown} and is not an adapted model"
    if reason:
        raise MetaModelError(
            f"cannot save an adapted model to '{folder}': {reason}, a new or empty folder, or an "
            "adapted model to replace, is needed; name another folder with `--output-dir`"
        )


def check_new_folder(folder: Path) -> None:
    """Stop before the work unless a folder is new or empty and can be written to.

    Raises:
        MetaModelError: It is not.
    """
    reason = _obstacle(folder.resolve())
    if not reason and folder.is_dir() and any(folder.iterdir()):
        reason = "it holds something already"
    if reason:
        raise MetaModelError(
            f"cannot save a meta-model to '{folder}': {reason}, a new or empty folder is needed; "
            "name another folder with `--output-dir`"
        )


def _obstacle(folder: Path) -> str | None:
    """What keeps a folder from being made or written to; None if nothing does."""
    place = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not place.is_dir():
        return f"'{place}' is not a folder"
    return None if os.access(place, os.W_OK | os.X_OK) else f"'{place}' may not be written to"


def _is_adapted_model(folder: Path) -> bool:
    from nlp_meta.hub.records import ADAPTED_MODELS, read_record

    try:
        record = read_record(folder, name=str(folder))
    except MetaModelError:
        return False
    return record.kind in ADAPTED_MODELS
