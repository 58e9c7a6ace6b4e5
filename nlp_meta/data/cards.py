"""Data cards: what a corpus is, where its rows are, and which tasks it holds.

A card is one Markdown file whose front matter has the Hub's dataset-card keys and
one `nlp_meta` block. To add a corpus is to add a card; nothing here changes.

What a data card says, once it has been read: the corpus, its columns, its tasks.

The YAML front matter of a data card, read with every key and type checked.

A `Block` knows where it stands in the file, so each error names the card, the
key in full and what to write instead.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from nlp_meta.data.languages import split_pair
from nlp_meta.errors import CardError, EpisodeError

META_SPLITS = ("meta-train", "meta-validation", "meta-test")

CLASSIFICATION, TRANSLATION = "classification", "translation"
KINDS = (CLASSIFICATION, TRANSLATION)

# What cards of a kind call the columns of a row's two parts.
COLUMN_KEYS = {CLASSIFICATION: ("text", "label"), TRANSLATION: ("source", "target")}


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that hold a row's parts; `group` only in parallel corpora.

    Attributes:
        source: Of the text; cards of kind `classification` write `text`.
        target: Of its label, or of its translation; cards of kind `classification` write `label`.
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


# Keys of the Hub's dataset cards. Their values are the Hub's business, apart from
# those that `cards.py` reads.
HUB_KEYS = (
    "annotations_creators",
    "config_names",
    "configs",
    "dataset_info",
    "language",
    "language_creators",
    "language_details",
    "license",
    "license_details",
    "license_link",
    "license_name",
    "multilinguality",
    "paperswithcode_id",
    "pretty_name",
    "size_categories",
    "source_datasets",
    "tags",
    "task_categories",
    "task_ids",
    "train-eval-index",
    "viewer",
)


@dataclass(frozen=True, slots=True)
class Block:
    """One mapping of a card's front matter and the place it stands at.

    Attributes:
        card: The card's path, as errors name it.
        key: Full key of this mapping; empty for the front matter itself.
        values: What YAML read, untyped until one of the methods took it.
    """

    card: Path
    key: str
    values: dict[Any, Any]

    def full_key(self, key: str) -> str:
        """Name `key` as a reader of the file would find it."""
        return f"{self.key}.{key}" if self.key else key

    def error(self, key: str, found: str, *, needed: str, remedy: str) -> CardError:
        """Build the error about one key: what is there, what was needed, what to change."""
        return CardError(
            f"cannot use card '{self.card}': key `{self.full_key(key)}` {found}; {needed}; {remedy}"
        )

    def check_keys(self, known: Collection[str]) -> None:
        """Refuse the first key that nobody would read."""
        for key in self.values:
            if key in known:
                continue
            nearest = get_close_matches(str(key), known, n=1)
            remedy = f"write `{nearest[0]}` for it" if nearest else "take it out"
            names = ", ".join(sorted(known))
            raise self.error(
                str(key), "is unknown", needed=f"the keys here are {names}", remedy=remedy
            )

    def text(self, key: str) -> str:
        """Take a text that is not empty."""
        value = self._need(key, "a text")
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(key, value, "a text")
        return value.strip()

    def optional_text(self, key: str) -> str | None:
        """Take a text, or None where the key is absent or null."""
        return None if self.values.get(key) is None else self.text(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """Take one text or a list of them, at least one."""
        value = self._need(key, "a text or a list of texts")
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not found or not all(_is_text(one) for one in found):
            raise self._wrong(key, value, "a text or a list of texts")
        return tuple(found)

    def flag(self, key: str) -> bool:
        """Take true or false."""
        value = self._need(key, "true or false")
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def choice(self, key: str, choices: Collection[str]) -> str:
        """Take one of a few words."""
        value = self.text(key)
        if value not in choices:
            nearest = get_close_matches(value, choices, n=1)
            raise self.error(
                key,
                f"is '{value}'",
                needed=f"it must be one of {', '.join(choices)}",
                remedy=f"write '{nearest[0]}'" if nearest else "write one of these",
            )
        return value

    def block(self, key: str) -> "Block":
        """Step into a mapping."""
        value = self._need(key, "a mapping")
        if not isinstance(value, dict):
            raise self._wrong(key, value, "a mapping")
        return Block(self.card, self.full_key(key), value)

    def optional_block(self, key: str) -> "Block | None":
        """Step into a mapping, or None where the key is absent or null."""
        return None if self.values.get(key) is None else self.block(key)

    def blocks(self, key: str) -> "tuple[Block, ...]":
        """Step into each mapping of a list, at least one."""
        value = self._need(key, "a list of mappings")
        if not isinstance(value, list) or not value:
            raise self._wrong(key, value, "a list of mappings")
        for one in value:
            if not isinstance(one, dict):
                raise self._wrong(key, one, "a list of mappings")
        name = self.full_key(key)
        return tuple(Block(self.card, f"{name}[{place}]", one) for place, one in enumerate(value))

    def text_mapping(self, key: str) -> dict[str, str]:
        """Take a mapping to texts; keys that YAML read as numbers or booleans become text."""
        block = self.block(key)
        if not block.values:
            raise self._wrong(key, {}, "a mapping with at least one entry")
        for one, value in block.values.items():
            if not _is_text(value):
                raise block._wrong(str(one), value, "a text")
        return {str(one): value for one, value in block.values.items()}

    def _need(self, key: str, kind: str) -> Any:
        if self.values.get(key) is None:
            raise self.error(
                key, "is missing", needed=f"every card needs {kind} there", remedy="add the key"
            )
        return self.values[key]

    def _wrong(self, key: str, value: object, kind: str) -> CardError:
        return self.error(
            key,
            f"is {value!r}",
            needed=f"{kind} is needed",
            remedy="correct it, with quotes where YAML reads a number or a boolean",
        )


def read_front_matter(path: Path) -> Block:
    """Read the YAML between the first two `---` lines of a card.

    Raises:
        CardError: The file cannot be read, has no front matter, or it is not YAML.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(
            f"cannot read card '{path}': {error}; a Markdown file in UTF-8 is needed; "
            "check the path and the file"
        ) from error
    if not lines or lines[0].strip() != "---" or "---" not in lines[1:]:
        raise CardError(
            f"cannot read card '{path}': there is no front matter; YAML between two lines "
            "`---` at the top of the file is needed; add it, as the other cards have it"
        )
    try:
        values = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise CardError(
            f"cannot read card '{path}': the front matter is not YAML ({reason}); "
            "a mapping of keys is needed; correct that line"
        ) from error
    if not isinstance(values, dict):
        raise CardError(
            f"cannot read card '{path}': the front matter is {type(values).__name__}; "
            "a mapping of keys is needed; write `key: value` lines"
        )
    return Block(path, "", values)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


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
    kind = _read_kind(own)
    source = own.block("source")
    source.check_keys(("files", "builtin", "hub", "obtain"))
    files, builtin = _read_patterns(source)
    columns = _read_columns(own.block("columns"), kind=kind)
    labels = own.text_mapping("labels") if kind == CLASSIFICATION else {}
    return DataCard(
        name=Path(path).stem,
        path=Path(path),
        pretty_name=top.text("pretty_name"),
        license=_read_license(top),
        kind=kind,
        parallel=own.flag("parallel"),
        files=files,
        builtin=builtin,
        hub=_read_hub(source, kind=kind, columns=columns, labels=labels),
        obtain=source.text("obtain"),
        columns=columns,
        labels=labels,
        tasks=_read_tasks(own, kind=kind, labels=labels),
    )


def _read_kind(own: Block) -> str:
    keys = ("kind", "parallel", "source", "columns", "tasks")
    own.check_keys((*keys, "labels"))
    kind = own.choice("kind", KINDS)
    own.check_keys((*keys, *_label_keys(kind)))
    return kind


def _label_keys(kind: str) -> tuple[str, ...]:
    return ("labels",) if kind == CLASSIFICATION else ()


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


def _read_columns(block: Block, *, kind: str) -> Columns:
    source, target = COLUMN_KEYS[kind]
    block.check_keys((source, target, "group"))
    return Columns(block.text(source), block.text(target), block.optional_text("group"))


def _read_hub(
    source: Block, *, kind: str, columns: Columns, labels: dict[str, str]
) -> HubSource | None:
    block = source.optional_block("hub")
    if block is None:
        return None
    block.check_keys(("id", "revision", "columns", *_label_keys(kind)))
    own_columns = block.optional_block("columns")
    own_labels = block.text_mapping("labels") if block.values.get("labels") else labels
    _check_labels(block, tuple(own_labels.values()), labels=labels)
    return HubSource(
        id=block.text("id"),
        revision=block.optional_text("revision"),
        columns=_read_columns(own_columns, kind=kind) if own_columns else columns,
        labels=own_labels,
    )


def _read_tasks(own: Block, *, kind: str, labels: dict[str, str]) -> tuple[TaskCard, ...]:
    tasks: dict[str, TaskCard] = {}
    for block in own.blocks("tasks"):
        task = _read_task(block, kind=kind, labels=labels)
        if task.name in tasks:
            raise block.error(
                "name",
                f"is '{task.name}' a second time",
                needed="each task of a card needs a name of its own",
                remedy="rename one of the two",
            )
        tasks[task.name] = task
    return tuple(tasks.values())


def _read_task(block: Block, *, kind: str, labels: dict[str, str]) -> TaskCard:
    keys = ("name", "domain", "language", "meta_split", "splits", "hub")
    block.check_keys((*keys, *_label_keys(kind)))
    own_labels = block.texts("labels") if block.values.get("labels") is not None else None
    _check_labels(block, own_labels or (), labels=labels)
    hub = block.optional_block("hub")
    if hub:
        hub.check_keys(("config", "splits", "filter"))
    return TaskCard(
        name=block.text("name"),
        domain=block.text("domain"),
        language=_read_language(block, kind=kind),
        meta_split=block.choice("meta_split", META_SPLITS),
        splits=_read_splits(block),
        labels=own_labels,
        hub=_read_hub_task(hub) if hub else None,
    )


def _read_language(block: Block, *, kind: str) -> str:
    language = block.text("language")
    if kind != TRANSLATION:
        return language
    try:
        split_pair(language)
    except EpisodeError as error:
        raise block.error(
            "language",
            f"is '{language}'",
            needed="a translation goes from one language into another",
            remedy="write both codes with a hyphen between them, such as ind-jav or pt_BR-jav",
        ) from error
    return language


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
