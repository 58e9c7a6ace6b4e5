"""Files in and out: what the options name is read, and results are written whole or not at all.

Places for results are checked before the work. A file is written beside its place and
renamed when it is complete, so that an error, a full disk or Ctrl-C leaves what was there
before. Models do the same in `hub/storage.py`.
"""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_meta.cli.screen import Screen, show_notes
from nlp_meta.errors import DataError, MetaModelError

if TYPE_CHECKING:
    from nlp_meta.files.memories import Memory
    from nlp_meta.files.tables import LabeledTable

Data = Path | tuple[Path, Path]
"""What is given as `--data`: a file, or two aligned texts."""

Columns = Mapping[str, Sequence[str | int | float]]
"""The cells of a table, by the names of its columns."""


def read_rows(
    options: Namespace, data: Data, screen: Screen, *, max_rows: int = sys.maxsize
) -> "LabeledTable":
    """Read texts, and labels where the command has an option for their column."""
    from nlp_meta.data.duplicates import describe_repeats
    from nlp_meta.files.tables import read_table

    if isinstance(data, tuple):
        raise DataError(
            f"cannot read labels from '{data[0]}' and '{data[1]}': two paths are those of aligned "
            "texts, for translations, and one table is needed; name one file with `--data`, or "
            "the languages of the texts"
        )
    table = read_table(
        data,
        text_column=options.text_column,
        label_column=getattr(options, "label_column", None),
        max_rows=max_rows,
        empty=getattr(options, "empty", "stop"),
        drop_labels=getattr(options, "drop_labels", ()),
        **reading_of(options),
    )
    repeats = [] if table.labels is None else describe_repeats(table.texts, table.labels)
    show_notes(screen, [*table.notes, *repeats])
    return table


def read_pairs(
    options: Namespace,
    data: Data,
    screen: Screen,
    *,
    source_lang: str | None,
    target_lang: str | None,
) -> "Memory":
    """Read a translation memory."""
    from nlp_meta.files.memories import read_memory

    memory = read_memory(
        data,
        source_column=options.source_column,
        target_column=options.target_column,
        source_lang=source_lang,
        target_lang=target_lang,
        **reading_of(options),
    )
    show_notes(screen, memory.notes)
    return memory


def reading_of(options: Namespace) -> dict[str, Any]:
    """How the options say that a table is to be read."""
    return {name: getattr(options, name) for name in ("encoding", "separator", "sheet")}


def check_languages(options: Namespace) -> None:
    """Refuse one language without the other, and one for both sides."""
    from nlp_meta.data.languages import check_pair

    for side in ("source", "target"):
        if not getattr(options, f"{side}_lang"):
            raise DataError(
                f"cannot use sentence pairs without `--{side}-lang`: the languages translated from "
                "and into are both needed; give their codes, such as ind and jav"
            )
    check_pair(options.source_lang, options.target_lang)


def check_output_file(path: Path, *, data: Data, option: str = "--data") -> None:
    """Stop before the work if its result could not be kept, or would replace the input.

    Args:
        option: The one that names `data`.

    Raises:
        DataError: The path cannot be written, is a folder, a device or the input.
    """
    if path.resolve() in [given.resolve() for given in paths_of(data)]:
        raise DataError(
            f"cannot write '{path}': it is the file given as `{option}`, which is not overwritten; "
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


def paths_of(data: Data) -> tuple[Path, ...]:
    """The path, or both."""
    return data if isinstance(data, tuple) else (data,)


def check_ending(path: Path, endings: Sequence[str], *, what: str) -> None:
    """Stop before the work if a table is of no format that `write_columns` knows.

    Raises:
        DataError: Names the endings.
    """
    if path.suffix.lower() not in endings:
        raise DataError(
            f"cannot write {what} to '{path}': its ending {path.suffix!r} is unknown, one of "
            f"{', '.join(endings)} is needed; name such a file with `--output`"
        )


def write_columns(path: Path, columns: Columns) -> None:
    """Write a table whole: .csv, .tsv, .jsonl or .parquet."""
    from nlp_meta.data.table_formats import render_table
    from nlp_meta.files.entries import ending_of, write_whole

    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    write_whole(path, render_table(ending_of(path), tuple(columns), rows))


def write_scores(path: Path, record: Mapping[str, object]) -> None:
    """Write a record whole, as JSON."""
    from nlp_meta.files.entries import write_whole

    content = json.dumps(record, ensure_ascii=False, indent=2) + "\n"
    write_whole(path, content.encode())


def check_output_folder(folder: Path, *, what: str, replaces: bool) -> None:
    """Stop before the work if a folder cannot be made or holds what must not be replaced.

    Args:
        what: The model that is to be saved there.
        replaces: An adapted model, of whatever skill, may be replaced.

    Raises:
        MetaModelError: It cannot be written, or holds something else.
    """
    reason = _obstacle(folder.resolve())
    if not reason and folder.is_dir() and not (replaces and _is_adapted_model(folder)):
        names = sorted(path.name for path in folder.iterdir())
        shown = ", ".join(names[:3]) + (" and more" if len(names) > 3 else "")
        if names and replaces:
            reason = f"it holds {shown} and is not an adapted model"
        elif names:
            reason = f"it holds something already ({shown})"
    if reason:
        or_adapted = ", or an adapted model to replace," if replaces else ""
        raise MetaModelError(
            f"cannot save {what} to '{folder}': {reason}, a new or empty folder{or_adapted} is "
            "needed; name another folder with `--output-dir`"
        )


def _obstacle(folder: Path) -> str | None:
    """What keeps a folder from being made or written to; None if nothing does."""
    place = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not place.is_dir():
        return f"'{place}' is not a folder"
    return None if os.access(place, os.W_OK | os.X_OK) else f"'{place}' may not be written to"


def _is_adapted_model(folder: Path) -> bool:
    from nlp_meta.hub.records import ADAPTED, read_record

    try:
        record = read_record(folder, name=str(folder))
    except MetaModelError:
        return False
    return record.role == ADAPTED
