"""Data cards: what a corpus is, where its rows are, and which tasks it holds.

A card is one Markdown file whose front matter has the Hub's dataset-card keys and
one `nlp_meta` block. To add a corpus is to add a card; nothing here changes.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nlp_meta.data.front_matter import HUB_KEYS, Block, read_front_matter
from nlp_meta.errors import CardError

META_SPLITS = ("meta-train", "meta-validation", "meta-test")
KINDS = ("sentiment",)


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that hold a row's parts; `group` only in parallel corpora."""

    text: str
    label: str
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
        splits: `train`, and `test` where there is one, to the word in the file's name.
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
        labels: Value in the rows, as text, to the label's name.
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


def cards_folder() -> Path:
    """Find the cards: inside the installed package, else beside it in a checkout.

    Raises:
        CardError: Neither folder is there.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "data_cards", package.parent / "data_cards"):
        if folder.is_dir():
            return folder
    raise CardError(
        f"cannot find the data cards beside '{package}': the folder `data_cards` is needed; "
        "install the package again"
    )


def list_cards() -> tuple[str, ...]:
    """Name the cards that ship with the package, sorted."""
    return tuple(sorted(path.stem for path in cards_folder().glob("*.md")))


def find_card(name_or_path: str | os.PathLike[str]) -> Path:
    """Resolve a shipped card's name, or the path of a card of one's own.

    Raises:
        CardError: It is neither; lists the cards there are.
    """
    written = os.fspath(name_or_path)
    if written.endswith(".md") and Path(written).is_file():
        return Path(written)
    known = list_cards()
    if written in known:
        return cards_folder() / f"{written}.md"
    nearest = get_close_matches(written, known, n=1)
    hint = f"did you mean '{nearest[0]}'? Else write" if nearest else "write"
    raise CardError(
        f"cannot find card '{written}': a path ending in .md or one of the shipped cards is "
        f"needed ({', '.join(known)}); {hint} one of them in `data.cards`"
    )


def load_card(path: str | os.PathLike[str]) -> DataCard:
    """Read and check one card.

    Raises:
        CardError: A key is unknown, missing or of the wrong type, or a task
            contradicts the card; names the file, the key and the remedy.
    """
    top = read_front_matter(Path(path))
    top.check_keys((*HUB_KEYS, "nlp_meta"))
    for key in ("language", "task_categories", "size_categories", "source_datasets"):
        top.texts(key)
    own = top.block("nlp_meta")
    own.check_keys(("kind", "parallel", "source", "columns", "labels", "tasks"))
    source = own.block("source")
    source.check_keys(("files", "builtin", "hub", "obtain"))
    files, builtin = _read_patterns(source)
    columns, labels = _read_columns(own.block("columns")), own.text_mapping("labels")
    return DataCard(
        name=Path(path).stem,
        path=Path(path),
        pretty_name=top.text("pretty_name"),
        license=_read_license(top),
        kind=own.choice("kind", KINDS),
        parallel=own.flag("parallel"),
        files=files,
        builtin=builtin,
        hub=_read_hub(source, columns=columns, labels=labels),
        obtain=source.text("obtain"),
        columns=columns,
        labels=labels,
        tasks=_read_tasks(own, labels=labels),
    )


def _read_license(top: Block) -> str:
    if top.values.get("license") is None:
        raise top.error(
            "license",
            "is missing",
            needed="every card needs a licence id of the Hub",
            remedy="add it, `license: unknown` where the origin states none",
        )
    found = ", ".join(top.texts("license"))
    if found == "other":
        top.text("license_name")
    return found


def _read_patterns(source: Block) -> tuple[str | None, str | None]:
    files, builtin = source.optional_text("files"), source.optional_text("builtin")
    if (files is None) == (builtin is None):
        raise source.error(
            "files",
            "and `builtin` are both given" if files else "and `builtin` are both missing",
            needed="exactly one of them says where the rows are",
            remedy="keep `files`, or `builtin` for the corpus that ships with the package",
        )
    if "{task}" not in (files or builtin or ""):
        key = "files" if files else "builtin"
        raise source.error(
            key,
            f"is '{files or builtin}'",
            needed="one file a task is needed",
            remedy="put {task}, and {split} where tasks have a test part, into the pattern",
        )
    return files, builtin


def _read_columns(block: Block) -> Columns:
    block.check_keys(("text", "label", "group"))
    return Columns(block.text("text"), block.text("label"), block.optional_text("group"))


def _read_hub(source: Block, *, columns: Columns, labels: dict[str, str]) -> HubSource | None:
    block = source.optional_block("hub")
    if block is None:
        return None
    block.check_keys(("id", "revision", "columns", "labels"))
    own_columns = block.optional_block("columns")
    own_labels = block.text_mapping("labels") if block.values.get("labels") else labels
    _check_labels(block, tuple(own_labels.values()), labels=labels)
    return HubSource(
        id=block.text("id"),
        revision=block.optional_text("revision"),
        columns=_read_columns(own_columns) if own_columns else columns,
        labels=own_labels,
    )


def _read_tasks(own: Block, *, labels: dict[str, str]) -> tuple[TaskCard, ...]:
    tasks: dict[str, TaskCard] = {}
    for block in own.blocks("tasks"):
        task = _read_task(block, labels=labels)
        if task.name in tasks:
            raise block.error(
                "name",
                f"is '{task.name}' a second time",
                needed="each task of a card needs a name of its own",
                remedy="rename one of the two",
            )
        tasks[task.name] = task
    return tuple(tasks.values())


def _read_task(block: Block, *, labels: dict[str, str]) -> TaskCard:
    block.check_keys(("name", "domain", "language", "meta_split", "splits", "labels", "hub"))
    own_labels = block.texts("labels") if block.values.get("labels") is not None else None
    _check_labels(block, own_labels or (), labels=labels)
    hub = block.optional_block("hub")
    if hub:
        hub.check_keys(("config", "splits", "filter"))
    return TaskCard(
        name=block.text("name"),
        domain=block.text("domain"),
        language=block.text("language"),
        meta_split=block.choice("meta_split", META_SPLITS),
        splits=_read_splits(block),
        labels=own_labels,
        hub=_read_hub_task(hub) if hub else None,
    )


def _read_hub_task(hub: Block) -> HubTask:
    found = hub.optional_block("filter")
    values = {str(key): value for key, value in found.values.items()} if found else {}
    return HubTask(hub.optional_text("config"), _read_splits(hub), values)


def _read_splits(block: Block) -> dict[str, str]:
    splits = block.text_mapping("splits")
    block.block("splits").check_keys(("train", "test"))
    block.block("splits").text("train")
    return splits


def _check_labels(block: Block, names: tuple[str, ...], *, labels: dict[str, str]) -> None:
    for name in names:
        if name not in labels.values():
            known = ", ".join(dict.fromkeys(labels.values()))
            raise block.error(
                "labels",
                f"names '{name}'",
                needed=f"the card's mapping `nlp_meta.labels` has {known}",
                remedy="add it to the mapping or correct the name",
            )
