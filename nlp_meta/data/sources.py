"""Rows of a task, from local files or from the Hugging Face Hub.

Both sources pass through the same normalization, so one corpus gives the same rows
from either. Nothing is ever run that a dataset brings along.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_meta.data.cards import (
    CLASSIFICATION,
    COLUMN_KEYS,
    Columns,
    DataCard,
    HubSource,
    HubTask,
    TaskCard,
)
from nlp_meta.errors import CardError, SettingsError, need_packages
from nlp_meta.tables.delimited import SEPARATORS
from nlp_meta.tables.formats import TABLE_FORMS, parse_table
from nlp_meta.tables.rows import Reading

SOURCES = ("files", "hub")

Record = Mapping[str, Any]

# Blanks among the control characters are left to `str.split`, which is faster.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]+")


@dataclass(frozen=True, slots=True)
class Row:
    """A normalized text, its label's name or its translation, and what groups it with others."""

    source: str
    target: str
    group: str | None


def read_rows(
    card: DataCard,
    task: TaskCard,
    split: str,
    *,
    source: str,
    data_root: str | os.PathLike[str] | None,
) -> tuple[Row, ...]:
    """Read the rows of one part of a task, in the order of the source.

    Args:
        split: `train` or `test`; a part that the task does not have gives no rows.
        source: `files` or `hub`; a built-in corpus needs neither.
        data_root: Folder of the files; None takes the environment's NLP_META_DATA.

    Raises:
        CardError: The rows are not where the card says, or hold a label or lack a
            column that the card has.
        SettingsError: `source` is neither of the two.
    """
    if source not in SOURCES:
        raise SettingsError(
            f"cannot read from source '{source}'; one of {', '.join(SOURCES)} is needed; "
            "correct `data.source`"
        )
    if source == "hub" and card.builtin is None:
        return _read_hub(card, task, split)
    if split not in task.splits:
        return ()
    rows: list[Row] = []
    for word in task.splits[split].split("+"):
        path = _find_file(card, task, word, data_root=data_root)
        rows += _normalize(
            _read_file(card, path, columns=card.columns),
            card=card,
            task=task,
            columns=card.columns,
            labels=card.labels,
            place=str(path),
        )
    return tuple(rows)


def normalize_text(text: str) -> str:
    """Compose the characters (NFC) and make control characters and blanks one space."""
    return " ".join(_CONTROL.sub(" ", unicodedata.normalize("NFC", text)).split())


def _normalize(
    records: Iterable[Record],
    *,
    card: DataCard,
    task: TaskCard,
    columns: Columns,
    labels: Mapping[str, str],
    place: str,
) -> tuple[Row, ...]:
    rows: list[Row] = []
    source_key, target_key = COLUMN_KEYS[card.kind]
    for record in records:
        for key, column in ((source_key, columns.source), (target_key, columns.target)):
            if column not in record:
                raise _column_error(card, key, column, record=record, place=place)
        if columns.group is not None and record.get(columns.group) is None:
            raise _column_error(card, "group", columns.group, record=record, place=place)
        source, value = _normalize_value(record[columns.source]), record[columns.target]
        if not source:
            continue
        if card.kind == CLASSIFICATION:
            target = _name_label(str(value), card=card, task=task, labels=labels, place=place)
        else:
            target = _normalize_value(value)
        group = None if columns.group is None else str(record[columns.group])
        if target:
            rows.append(Row(source, target, group))
    return tuple(rows)


def _normalize_value(value: Any) -> str:
    return "" if value is None else normalize_text(str(value))


def _name_label(
    value: str, *, card: DataCard, task: TaskCard, labels: Mapping[str, str], place: str
) -> str:
    label = labels.get(value)
    if label is None or (task.labels is not None and label not in task.labels):
        raise CardError(
            f"cannot use card '{card.path}': key `labels` has no label '{value}' for task "
            f"'{task.name}', which {place} holds; known there are "
            f"{', '.join(task.labels or labels)}; add '{value}' to `nlp_meta.labels`, to the "
            "task's or the Hub's `labels` where it has its own, or correct the rows"
        )
    return label


def _column_error(
    card: DataCard, key: str, column: str, *, record: Record, place: str
) -> CardError:
    return CardError(
        f"cannot use card '{card.path}': key `columns.{key}` is '{column}', of which a row of "
        f"{place} has nothing; that column is needed in every row, which has "
        f"{', '.join(map(str, record))}; correct `nlp_meta.columns` or the rows"
    )


def _find_file(
    card: DataCard, task: TaskCard, word: str, *, data_root: str | os.PathLike[str] | None
) -> Path:
    pattern = card.files or card.builtin or ""
    name = pattern.replace("{task}", task.name).replace("{split}", word)
    if card.builtin is not None:
        root = Path(__file__).resolve().parent / "corpus"
        remedy = "install the package again"
    else:
        folder = data_root or os.environ.get("NLP_META_DATA")
        remedy = (
            "set `data.root` or NLP_META_DATA to the folder that holds it (the card's "
            "`obtain` says how to get the files)"
        )
        if not folder:
            raise CardError(
                f"cannot read '{name}' of card '{card.path}': no data root is set; the folder "
                f"that holds the files is needed; {remedy}"
            )
        root = Path(folder)
    if not (root / name).is_file():
        raise CardError(
            f"cannot read '{name}' of card '{card.path}': it is not in '{root}'; that file is "
            f"needed for task '{task.name}'; {remedy}"
        )
    return root / name


def _read_file(card: DataCard, path: Path, *, columns: Columns) -> Sequence[Record]:
    form = path.suffix.removeprefix(".")
    if form not in TABLE_FORMS:
        raise CardError(
            f"cannot read '{path}' of card '{card.path}': the ending '{path.suffix}' is unknown; "
            f"one of {', '.join('.' + known for known in TABLE_FORMS)} is needed; convert "
            "the file and correct `files`"
        )
    try:
        # A card says what its files are: nothing is guessed.
        reading = Reading(encoding="utf-8", separator=SEPARATORS.get(form))
        known = (columns.source, columns.target)
        return parse_table(form, path.read_bytes(), reading, known=known).cells
    except (OSError, ValueError) as error:
        line = getattr(error, "line", None)
        raise CardError(
            f"cannot read '{path}' of card '{card.path}': {f'line {line}: ' if line else ''}"
            f"{error}; an unbroken file in UTF-8 is needed; get the file again (the card's "
            "`obtain` says how)"
        ) from error


def _read_hub(card: DataCard, task: TaskCard, split: str) -> tuple[Row, ...]:
    if card.hub is None or task.hub is None:
        raise CardError(
            f"cannot read task '{task.name}' of card '{card.path}' from the Hub: the card names "
            f"no place of it there; a Hub id and the task's `hub` are needed; set `data.source` "
            f"to files ({card.obtain})"
        )
    if split not in task.hub.splits:
        return ()
    place = f"Hub dataset '{card.hub.id}'"
    records = _load_hub(card.hub, task.hub, split, card=card)
    kept = [row for row in records if _passes(card, row, task.hub.filter or {}, place=place)]
    return _normalize(
        kept, card=card, task=task, columns=card.hub.columns, labels=card.hub.labels, place=place
    )


def _load_hub(hub: HubSource, place: HubTask, split: str, *, card: DataCard) -> list[Record]:
    need_packages(f"read '{hub.id}' from the Hub", "datasets", extra="datasets")
    import datasets  # 1 s, and files need none of it

    try:
        loaded = datasets.load_dataset(
            hub.id, name=place.config, split=place.splits[split], revision=hub.revision
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise CardError(
            f"cannot read config '{place.config}' of Hub dataset '{hub.id}' for card "
            f"'{card.path}': {' '.join(str(error).split())}; the network, or a copy in the "
            "cache, and a config and splits that exist are needed; mend `nlp_meta.source.hub`, "
            "or set `data.source` to files"
        ) from error
    classes = {
        column: feature.names
        for column, feature in loaded.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    return [_name_classes(record, classes) for record in loaded.to_list()]


def _name_classes(record: Record, classes: Mapping[str, list[str]]) -> Record:
    """Write class names for class numbers; -1, which the Hub has for no label, stays."""
    named = dict(record)
    for column, names in classes.items():
        value = named[column]
        if value is not None and value >= 0:
            named[column] = names[value]
    return named


def _passes(card: DataCard, record: Record, wanted: Mapping[str, Any], *, place: str) -> bool:
    for column, value in wanted.items():
        if column not in record:
            raise CardError(
                f"cannot use card '{card.path}': key `hub.filter` names column '{column}', which "
                f"{place} does not have; one of {', '.join(map(str, record))} is needed; "
                "correct the filter"
            )
        if str(record[column]) != str(value):
            return False
    return True
