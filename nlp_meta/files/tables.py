"""Users' own tables: texts, and labels where there are any, from one file.

CSV, TSV, JSONL, JSON and Parquet are read through `datasets` into a cache that is
gone afterwards. A cell is what was written: `NA` and `null` are texts, 007 is not 7.

Quotes of delimited files: those of a table, or the texts' own.
"""

import csv
import difflib
import glob
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.exceptions import DatasetGenerationError

from nlp_meta.data.labels import label_text
from nlp_meta.errors import DataError
from nlp_meta.files.entries import is_unicode, tsv_quoting


def table_quoting(path: Path) -> int:
    """How `csv` is to take the double quotes of a CSV or TSV file in UTF-8; see `tsv_quoting`."""
    if path.suffix.lower() != ".tsv":
        return csv.QUOTE_MINIMAL
    with path.open(encoding="utf-8-sig", newline="") as file:
        return tsv_quoting(file.read())


_NUMBER = re.compile(r"\s*[-+]?\d+(\.\d+)?\s*")


@dataclass(frozen=True, slots=True)
class Table:
    """A user's rows, in the file's order.

    Attributes:
        labels: None where no label column was asked for.
        columns: All columns that the file has.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None
    columns: tuple[str, ...]
    path: Path


def read_table(
    path: str | Path,
    *,
    text_column: str = "text",
    label_column: str | None = "label",
    max_rows: int,
) -> Table:
    """Read texts and labels from a CSV, TSV, JSONL, JSON or Parquet file.

    Integers, booleans and whole floats are labels too: 1, 1.0 and "1" are one label.
    Blank rows at the end of a CSV or TSV file are left out, quotes of a TSV file's texts kept.

    Args:
        label_column: None reads texts only.
        max_rows: A longer table is an error, found before its cells are read.

    Raises:
        DataError: No such file, an unknown ending, not UTF-8, damaged, no rows or
            too many, a missing column, an empty text or a missing label; names the
            row, counted from 1 below the header.
    """
    path = Path(path)
    form = _find_format(path)
    columns, rows = _survey(path, form)
    _check_rows(path, rows, max_rows)
    wanted = {"--text-column": text_column}
    if label_column is not None:
        wanted["--label-column"] = label_column
    data = _load(path, form, columns=columns, wanted=wanted)
    return Table(
        texts=_texts(_cells(data, path, text_column, rows), path, text_column),
        labels=None if label_column is None else _labels(data, path, label_column, rows),
        columns=tuple(columns or data.column_names),
        path=path,
    )


def _find_format(path: Path) -> str:
    form = path.suffix.lower().removeprefix(".")
    if form not in _SURVEYS:
        raise DataError(
            f"cannot read table {path}: its ending {path.suffix!r} is unknown, one of "
            f"{', '.join('.' + known for known in _SURVEYS)} is needed; save it as one of these"
        )
    if not path.is_file():
        raise DataError(
            f"cannot read table {path}: there is no such file, a table with a column of texts "
            "is needed; check the path"
        )
    return form


def _survey(path: Path, form: str) -> tuple[list[str] | None, int]:
    """Column names (None if only the rows tell) and the number of rows, at the least cost."""
    try:
        return _SURVEYS[form](path)
    except UnicodeDecodeError as error:
        raise DataError(
            f"cannot read table {path}: byte 0x{error.object[error.start]:02x} in it is not "
            "UTF-8, a file in UTF-8 is needed; save it with the encoding UTF-8"
        ) from error
    except (csv.Error, ValueError, OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _survey_delimited(path: Path, *, separator: str) -> tuple[list[str], int]:
    rows, quoting = 0, table_quoting(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator, quoting=quoting)  # type: ignore[arg-type]
        header = next(reader, [])
        for row, cells in enumerate(reader, start=1):
            # pandas would take the first cells of such a row for an index and shift the rest.
            if len(cells) > len(header):
                raise DataError(
                    f"cannot read table {path}: row {row} has {len(cells)} cells where the header "
                    f"has {len(header)}; put texts that contain {separator!r} in double quotes"
                )
            if any(cell.strip() for cell in cells):
                rows = row
    return header, rows


def _survey_json(path: Path) -> tuple[None, int]:
    with path.open(encoding="utf-8-sig") as file:
        is_array = file.read(1) == "["
        file.seek(0)
        found = json.load(file) if is_array else (line for line in file if line.strip())
        rows = 0
        for rows, row in enumerate(found, start=1):
            if is_array or "\\u" in row:
                _check_unicode(path, row if is_array else json.loads(row), rows)
    return None, rows


def _check_unicode(path: Path, row: object, number: int) -> None:
    if not is_unicode(row):
        raise DataError(
            f"cannot read table {path}: row {number} has a text with half of a surrogate pair, "
            "text that can be written in UTF-8 is needed; correct the row or remove it"
        )


def _survey_parquet(path: Path) -> tuple[list[str], int]:
    with pq.ParquetFile(path) as file:
        return list(file.schema_arrow.names), file.metadata.num_rows


_SURVEYS: dict[str, Callable[[Path], tuple[list[str] | None, int]]] = {
    "csv": partial(_survey_delimited, separator=","),
    "tsv": partial(_survey_delimited, separator="\t"),
    "jsonl": _survey_json,
    "json": _survey_json,
    "parquet": _survey_parquet,
}


def _load(
    path: Path, form: str, *, columns: Sequence[str] | None, wanted: dict[str, str]
) -> datasets.Dataset:
    if columns is not None:
        _check_columns(path, columns, wanted)
    names = list(dict.fromkeys(wanted.values()))
    pattern = glob.escape(str(path.resolve()))
    with tempfile.TemporaryDirectory() as folder, _quiet():
        options: dict[str, Any] = {"cache_dir": folder, "keep_in_memory": True}
        try:
            if form == "parquet":
                data = datasets.Dataset.from_parquet(pattern, columns=names, **options)
            elif form in ("json", "jsonl"):
                data = datasets.Dataset.from_json(pattern, **options)
            else:
                data = datasets.Dataset.from_csv(
                    pattern,
                    features=datasets.Features({name: datasets.Value("string") for name in names}),
                    sep="," if form == "csv" else "\t",
                    quoting=table_quoting(path),
                    usecols=names,
                    na_filter=False,
                    skip_blank_lines=False,
                    encoding="utf-8-sig",
                    **options,
                )
        except (DatasetGenerationError, ValueError, TypeError, pa.ArrowException) as error:
            raise _damaged(path, error.__cause__ or error) from error
    if columns is None:
        _check_columns(path, data.column_names, wanted)
    return data


def _check_rows(path: Path, rows: int, max_rows: int) -> None:
    if rows == 0:
        raise DataError(
            f"cannot use table {path}: it has no rows, at least one is needed; "
            "add rows or name another file"
        )
    if rows > max_rows:
        raise DataError(
            f"cannot use table {path}: it has {rows} rows where at most {max_rows} are taken; "
            "give a sample of it or raise `--max-rows`"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and log lines of `datasets`: an error here says it all in one sentence."""
    verbosity = datasets.logging.get_verbosity()
    had_bars = not datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if had_bars:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if had_bars:
            datasets.enable_progress_bars()


def _check_columns(path: Path, columns: Sequence[str], wanted: dict[str, str]) -> None:
    for option, name in wanted.items():
        if name not in columns:
            nearest = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
            hint = f" (nearest: {nearest[0]!r})" if nearest else ""
            raise DataError(
                f"cannot find column {name!r} in table {path}: its columns are "
                f"{', '.join(map(repr, columns)) or 'none'}{hint}; name the right one with "
                f"`{option}`"
            )
        if columns.count(name) > 1:
            raise DataError(
                f"cannot tell the columns {name!r} of table {path} apart: {columns.count(name)} "
                f"have that name, one is needed; rename one or name another with `{option}`"
            )


def _cells(data: datasets.Dataset, path: Path, column: str, rows: int) -> Sequence[object]:
    try:
        return list(data[column][:rows])
    except UnicodeDecodeError as error:
        raise _damaged(path, error) from error


def _texts(cells: Sequence[object], path: Path, column: str) -> tuple[str, ...]:
    _check_cells(cells, path, column, option="--text-column")
    texts = tuple("" if label_text(cell) is None else str(cell) for cell in cells)
    for row, text in enumerate(texts, start=1):
        if not text.strip():
            raise DataError(
                f"cannot use table {path}: row {row} has an empty text in column {column!r}, a "
                "text in each row is needed; fill it in, remove the row or name another column "
                "with `--text-column`"
            )
    return texts


def _labels(data: datasets.Dataset, path: Path, column: str, rows: int) -> tuple[str, ...]:
    cells = _cells(data, path, column, rows)
    feature = data.features[column]
    if isinstance(feature, datasets.ClassLabel):
        # Number -1 stands for a missing label there.
        names: dict[object, str] = dict(enumerate(feature.names))
        cells = [names.get(cell) for cell in cells]
    _check_cells(cells, path, column, option="--label-column")
    labels = []
    for row, label in enumerate(map(label_text, cells), start=1):
        if label is None:
            raise DataError(
                f"cannot use table {path}: row {row} has no label in column {column!r}, a label "
                "in each row is needed; fill it in, remove the row or name another column with "
                "`--label-column`"
            )
        labels.append(label)
    if all(_NUMBER.fullmatch(label) for label in labels):
        # A column of whole numbers is written 1.0 by programs that keep numbers as floats.
        return tuple(re.sub(r"\.0+(?=\s*$)", "", label) for label in labels)
    return tuple(labels)


def _check_cells(cells: Sequence[object], path: Path, column: str, *, option: str) -> None:
    for row, cell in enumerate(cells, start=1):
        if cell is not None and not isinstance(cell, str | int | float | bool):
            raise DataError(
                f"cannot use table {path}: row {row} has a {type(cell).__name__} in column "
                f"{column!r}, text or a number is needed; name another column with `{option}`"
            )


def _damaged(path: Path, error: BaseException) -> DataError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(
        f"cannot read table {path}: {reason}, a well-formed {path.suffix} file is needed; "
        "mend it or save it anew"
    )
