"""What a data card says, once it has been read: the corpus, its columns, its tasks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

META_SPLITS = ("meta-train", "meta-validation", "meta-test")

SENTIMENT, TRANSLATION = "sentiment", "translation"
KINDS = (SENTIMENT, TRANSLATION)

# What cards of a kind call the columns of a row's two parts.
COLUMN_KEYS = {SENTIMENT: ("text", "label"), TRANSLATION: ("source", "target")}


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that hold a row's parts; `group` only in parallel corpora.

    Attributes:
        source: Of the text; cards of kind `sentiment` write `text`.
        target: Of its label, or of its translation; cards of kind `sentiment` write `label`.
    """

    source: str
    target: str
    group: str | None


@dataclass(frozen=True, slots=True)
class HubSource:
    """The corpus on the Hugging Face Hub.

    Attributes:
        revision: The commit that was looked at; None where none is known.
        columns, labels: Those of the Hub's copy, which may differ from the files'.
    """

    id: str
    revision: str | None
    columns: Columns
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HubTask:
    """Where one task is found in the Hub's copy.

    Attributes:
        splits: `train` and `test` to a split expression, such as `train+validation`.
        filter: Column to the value that a row of this task has in it.
    """

    config: str | None
    splits: Mapping[str, str]
    filter: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TaskCard:
    """One task of a card.

    Attributes:
        language: Of the texts; the pair of a translation, such as `ind-jav`.
        splits: `train`, and `test` where there is one, to the word in the file's name,
            or to several that are read one after the other, such as `train+dev`.
        labels: The label names that this task has; None when it may have all.
        hub: None where the Hub's copy does not hold the task.
    """

    name: str
    domain: str
    language: str
    meta_split: str
    splits: Mapping[str, str]
    labels: tuple[str, ...] | None
    hub: HubTask | None


@dataclass(frozen=True, slots=True)
class DataCard:
    """One corpus.

    Attributes:
        name: The card's file name without its ending.
        parallel: Whether the tasks hold the same sentences in several languages.
        files: Pattern below the data root, with `{task}` and `{split}`; None for
            the corpus that ships with the package.
        builtin: Pattern below the package's own corpus folder; else None.
        obtain: How to get the files, and whether a Hub id is known.
        labels: Value in the rows, as text, to the label's name; empty for translations.
    """

    name: str
    path: Path
    pretty_name: str
    license: str
    kind: str
    parallel: bool
    files: str | None
    builtin: str | None
    hub: HubSource | None
    obtain: str
    columns: Columns
    labels: Mapping[str, str]
    tasks: tuple[TaskCard, ...]

    @property
    def label_names(self) -> tuple[str, ...]:
        """The label names, each once, in the order of the card."""
        return tuple(dict.fromkeys(self.labels.values()))
