"""Files in and out: what the options name is read, and places for results are checked before
the work. `nlp_meta/files/outputs.py` writes them.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_meta.cli.screen import Screen, show_notes
from nlp_meta.errors import DataError

if TYPE_CHECKING:
    from nlp_meta.files.memories import Memory
    from nlp_meta.files.outputs import Layout
    from nlp_meta.files.tables import LabeledTable

Data = Path | tuple[Path, Path]
"""What is given as `--data`: a file, or two aligned texts."""

ALIKE, MOST_ROWS, MOST_SIGNS = 0.8, 2_000, 300
"""Near repeats are as like each other as this, sought among so many rows and signs of each."""

Columns = Mapping[str, Sequence[str | int | float]]
"""The cells of a table, by the names of its columns."""


def read_rows(
    options: Namespace,
    data: Data,
    screen: Screen,
    *,
    max_rows: int = sys.maxsize,
    near: bool = True,
) -> "LabeledTable":
    """Read texts, and labels where the command has an option for their column.

    Args:
        near: Tell of rows that nearly repeat others; else `describe_near` does.
    """
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
    alike = describe_near(table) if near and table.labels is not None else []
    show_notes(screen, [*table.notes, *repeats, *alike])
    return table


def describe_near(table: "LabeledTable") -> list[str]:
    """Say that many rows nearly repeat others, which folds and test rows then share."""
    from nlp_meta.data.leaks import find_repeats

    texts = [text[:MOST_SIGNS] for text in table.texts[:MOST_ROWS]]
    near = [match for match in find_repeats(texts, threshold=ALIKE) if match.similarity < 1]
    if 20 * len(near) < len(texts):
        return []
    first, second = table.lines[near[0].right], table.lines[near[0].left]
    return [
        f"{len(near)} of {len(texts)} rows nearly repeat another's text, such as those of lines "
        f"{first} and {second}: a figure over them says less of other texts than it seems"
    ]


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


def check_output_file(options: Namespace) -> None:
    """Stop before the work if its result could not be kept, or would replace what is not ours.

    Raises:
        OutputError: Names what is in the way.
    """
    from nlp_meta.files.outputs import check_file

    check_file(options.output, inputs=options.inputs, replace=options.replace)


def paths_of(data: Data) -> tuple[Path, ...]:
    """The path, or both."""
    return data if isinstance(data, tuple) else (data,)


def check_ending(path: Path, endings: Sequence[str], *, what: str) -> None:
    """Stop before the work if a table is of no format that `write_columns` knows.

    Raises:
        DataError: Names the endings.
        MissingPackageError: What writes workbooks is not installed.
    """
    from nlp_meta.tables.workbooks import import_openpyxl

    if path.suffix.lower() not in endings:
        raise DataError(
            f"cannot write {what} to '{path}': its ending {path.suffix!r} is unknown, one of "
            f"{', '.join(endings)} is needed; name such a file with `--output`"
        )
    if path.suffix.lower() == ".xlsx":
        import_openpyxl()


def write_columns(options: Namespace, blocks: Iterable[Columns]) -> None:
    """Write a table whole, as `output` says: .csv, .tsv, .jsonl, .json, .parquet or .xlsx.

    Where `formulas` is `text`, an apostrophe stands before cells of .csv and .tsv files that a
    spreadsheet would take for formulas.

    Args:
        blocks: Rows of the table, one or more of each block, all with the same columns; formats
            that are written row by row hold one block at a time in memory.
    """
    from nlp_meta.files.entries import ending_of
    from nlp_meta.files.outputs import write_file
    from nlp_meta.files.tables import disarm, render_rows
    from nlp_meta.tables.formats import GROWING_TABLES

    form = ending_of(options.output)
    guarded = getattr(options, "formulas", "keep") == "text" and form in ("csv", "tsv")

    def render() -> Iterator[bytes]:
        for place, columns in enumerate(blocks if form in GROWING_TABLES else [_join(blocks)]):
            names = [disarm(name) if guarded else name for name in columns]
            cells: Iterable[Sequence[object]] = columns.values()
            if guarded:
                cells = [[disarm(cell) for cell in values] for values in cells]
            rows = [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)]
            yield render_rows(options.output, names, rows, goes_on=place > 0)

    write_file(options.output, render(), replace=options.replace)


def _join(blocks: Iterable[Columns]) -> Columns:
    joined: dict[str, list[Any]] = {}
    for block in blocks:
        for name, values in block.items():
            joined.setdefault(name, []).extend(values)
    return joined


def write_record(options: Namespace, record: Mapping[str, object]) -> None:
    """Write a record whole, as JSON."""
    from nlp_meta.files.outputs import write_file

    content = json.dumps(record, ensure_ascii=False, indent=2) + "\n"
    write_file(options.output, content, replace=options.replace)


def check_output_folder(options: Namespace, layout: "Layout") -> None:
    """Stop before the work if a folder cannot be made, or something in it would be lost.

    Raises:
        OutputError: Names what is in the way.
    """
    from nlp_meta.files.outputs import check_folder

    check_folder(
        options.output_dir,
        layout,
        inputs=options.inputs,
        replace=options.replace,
        argument="output_dir",
    )
