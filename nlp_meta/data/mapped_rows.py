"""Rows of tasks too large for memory: they stay in Arrow files, and an episode reads what it draws.

`datasets` maps the files of a dataset into memory, so the system keeps the pages in use and
drops the others. A task holds four bytes a row: its place in the dataset.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.sources import normalize_text
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 4096
"""Rows that are read at once while a task is mapped."""


@dataclass(frozen=True, slots=True, eq=False)
class MappedRows(Sequence[Example]):
    """Labeled examples that are read from a dataset when they are asked for, label after label.

    Attributes:
        columns: Of the text and of its label.
        places: Rows of the dataset, `(examples,)`.
        ends: By label, where its examples end.
    """

    dataset: "Dataset"
    columns: tuple[str, str]
    places: NDArray[np.uint32]
    ends: dict[str, int]

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        row = self.dataset[int(self.places[index])]
        text, label = self.columns
        (name,) = name_labels(self.dataset, label, [row[label]])
        return Example(normalize_text(row[text]), name)

    def of_label(self, label: str) -> "Units":
        """The examples of one label, no two of which share a text."""
        labels = list(self.ends)
        place = labels.index(label)
        first = self.ends[labels[place - 1]] if place else 0
        return Units(self, range(first, self.ends[label]))

    @property
    def fingerprint(self) -> str:
        """Changes with the rows, as `datasets` tells it."""
        return str(self.dataset._fingerprint)


@dataclass(frozen=True, slots=True)
class Units(Sequence[tuple[Example, ...]]):
    """Examples one by one, as episodes draw them."""

    rows: MappedRows
    places: range

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> tuple[Example, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> "Units": ...
    def __getitem__(self, index: int | slice) -> "tuple[Example, ...] | Units":
        if isinstance(index, slice):
            return Units(self.rows, self.places[index])
        return (self.rows[self.places[index]],)


def map_task(
    dataset: "Dataset",
    *,
    name: str,
    text: str = "text",
    label: str = "label",
    language: str = "und",
) -> Task:
    """Make a meta-train task of a dataset whose rows stay on disk.

    Reads it once, from beginning to end. Of texts that are equal up to case and punctuation the
    first one counts; rows without a text or a label do not.

    Args:
        dataset: Of `datasets`, mapped as `load_dataset` and `from_generator` give it.
        text, label: Columns.

    Raises:
        DataError: A column is missing, or no row has a text and a label.
    """
    if missing := {text, label}.difference(dataset.column_names):
        raise DataError(
            f"cannot map task '{name}': its rows have no column {', '.join(sorted(missing))}; a "
            f"text and a label are needed, and there are {', '.join(dataset.column_names)}; "
            "change `text` or `label`"
        )
    places, ends = _sort_places(dataset, text, label)
    if not ends:
        raise DataError(
            f"cannot map task '{name}': none of its {len(dataset)} rows has a text and a label, "
            "and at least one is needed; leave the task out"
        )
    return Task(
        name=name,
        kind=CLASSIFICATION,
        language=language,
        domain=name,
        meta_split="meta-train",
        labels=tuple(ends),
        train=MappedRows(dataset, (text, label), places, ends),
        test=(),
    )


def _sort_places(
    dataset: "Dataset", text: str, label: str
) -> tuple[NDArray[np.uint32], dict[str, int]]:
    """Rows of different texts, label after label, and where those of each label end."""
    keys, codes = np.zeros(len(dataset), np.uint64), np.full(len(dataset), -1, np.int32)
    code_of: dict[str, int] = {}
    for first in range(0, len(dataset), BATCH):
        batch = dataset[first : first + BATCH]
        names = name_labels(dataset, label, batch[label])
        for place, (written, target) in enumerate(zip(batch[text], names, strict=True), first):
            source = normalize_text(str(written or ""))
            if source and target:
                keys[place] = _hash(text_key(source))
                codes[place] = code_of.setdefault(target, len(code_of))
    filled = np.flatnonzero(codes >= 0)
    places = np.sort(filled[np.unique(keys[filled], return_index=True)[1]])
    order = np.argsort(codes[places], kind="stable")
    ends = np.bincount(codes[places], minlength=len(code_of)).cumsum().tolist()
    return places[order].astype(np.uint32), dict(zip(code_of, ends, strict=True))


def name_labels(dataset: "Dataset", column: str, values: Sequence[Any]) -> list[str]:
    """Labels as text; the number of a class as the class's name, a missing one as nothing."""
    names = getattr(dataset.features[column], "names", None)
    if names is None:
        return ["" if value is None else str(value).strip() for value in values]
    return ["" if value is None or value < 0 else names[value] for value in values]


def _hash(key: str) -> int:
    """Eight bytes of a text: in one task of 37 million two of a million texts share them."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
