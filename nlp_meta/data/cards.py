"""Data cards: what a corpus is, where its rows are, and which tasks it holds.

A card is one Markdown file whose front matter has the Hub's dataset-card keys and one
`nlp_meta` block. To add a corpus is to add a card; nothing here changes.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, StringConstraints

from nlp_meta.data.languages import split_pair
from nlp_meta.data.schema import FieldError, YamlError, check_keys, read_strict, read_yaml
from nlp_meta.errors import CardError, EpisodeError

MetaSplit = Literal["meta-train", "meta-validation", "meta-test"]
META_SPLITS: tuple[MetaSplit, ...] = get_args(MetaSplit)

Kind = Literal["classification", "translation"]
CLASSIFICATION, TRANSLATION = KINDS = get_args(Kind)

# What cards of a kind call the columns of a row's two parts.
COLUMN_KEYS = {CLASSIFICATION: ("text", "label"), TRANSLATION: ("source", "target")}

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Names = Annotated[tuple[Text, ...], Field(min_length=1)]
Texts = Text | Names
TextMapping = Annotated[Mapping[str, Text], Field(min_length=1)]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class HubTask:
    """Where one task is found in the Hub's copy.

    Attributes:
        splits: `train` and `test` to a split expression, such as `train+validation`.
        filter: Column to the value that a row of this task has in it.
    """

    config: Text | None = None
    splits: Mapping[str, Text]
    filter: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_keys("splits", self.splits, needed=["train"], optional=["test"])


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCard:
    """One task of a card.

    Attributes:
        language: Of the texts; the pair of a translation, such as `ind-jav`.
        splits: `train`, and `test` where there is one, to the word in the file's name,
            or to several that are read one after the other, such as `train+dev`.
        labels: The label names that this task has; None when it may have all.
        hub: None where the Hub's copy does not hold the task.
    """

    name: Text
    domain: Text
    language: Text
    meta_split: MetaSplit
    splits: Mapping[str, Text]
    labels: Names | None = None
    hub: HubTask | None = None

    def __post_init__(self) -> None:
        check_keys("splits", self.splits, needed=["train"], optional=["test"])


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginFile:
    """A file of a corpus as its authors publish it.

    Attributes:
        sha256: Of its bytes, 64 digits.
        split: The word of the file's name that its rows go to; `70/30` parts them into `train`
            and `test`.
        where: Column to the value that a row of this task has in it.
    """

    path: Text
    sha256: Text
    task: Text
    split: Text
    where: Mapping[str, Text] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise FieldError(
                "sha256",
                f"is '{self.sha256}'",
                "64 hexadecimal digits are needed",
                "write what `sha256sum` says of the file",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a corpus is published, pinned, and how its files become rows.

    Attributes:
        address: Of a file, with `{path}`.
        text: Column of the text.
        label: Column of the label; of several, the one value on which all agree that `labels`
            does not leave out.
        labels: Value in these files to the card's; None leaves a row out, or a column.
        header: Names of the columns where the files have none.
        separator: Between cells; None where the ending says it.
        pattern: Of files that are no table: a regular expression that a row matches, with
            groups named as the columns.
        mask_users: Write names of users, such as @ann, as @user.
    """

    address: Text
    text: Text
    label: Texts
    labels: Mapping[str, Text | None] | None = None
    header: Names | None = None
    separator: str | None = None
    pattern: Text | None = None
    mask_users: bool = False
    files: Annotated[tuple[OriginFile, ...], Field(min_length=1)]

    def __post_init__(self) -> None:
        is_safe = re.match(r"https://|http://(127\.0\.0\.1|localhost)[:/]", self.address)
        if not is_safe or "{path}" not in self.address:
            raise FieldError(
                "address",
                f"is '{self.address}'",
                "an address that begins with https:// and has {path} is needed",
                "write that of a file at a pinned commit",
            )


@dataclass(frozen=True, slots=True)
class DataCard:
    """One corpus.

    Attributes:
        name: The card's file name without its ending.
        parallel: Whether the tasks hold the same sentences in several languages.
        files: Pattern below the data root, with `{task}` and `{split}`; None for
            the corpus that ships with the package.
        builtin: Pattern below the package's own corpus folder; else None.
        origin: Where the files are published; None where the card does not say.
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
    origin: Origin | None
    obtain: str
    columns: Columns
    labels: Mapping[str, str]
    tasks: tuple[TaskCard, ...]

    @property
    def label_names(self) -> tuple[str, ...]:
        """The label names, each once, in the order of the card."""
        return tuple(dict.fromkeys(self.labels.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _HubBlock:
    id: Text
    revision: Text | None = None
    columns: Mapping[str, Text | None] | None = None
    labels: TextMapping | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _SourceBlock:
    files: Text | None = None
    builtin: Text | None = None
    hub: _HubBlock | None = None
    origin: Origin | None = None
    obtain: Text

    def __post_init__(self) -> None:
        if (self.files is None) == (self.builtin is None):
            raise FieldError(
                "files",
                f"and `builtin` are both {'given' if self.files else 'missing'}",
                "exactly one of them says where the rows are",
                "keep `files`, or `builtin` for the corpus that ships with the package",
            )
        pattern = self.files or self.builtin or ""
        if "{task}" not in pattern:
            raise FieldError(
                "files" if self.files else "builtin",
                f"is '{pattern}'",
                "one file a task is needed",
                "put {task}, and {split} where tasks have a test part, into the pattern",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _CardBlock:
    kind: Kind
    parallel: bool
    source: _SourceBlock
    columns: Mapping[str, Text | None]
    labels: TextMapping | Names | None = None
    tasks: Annotated[tuple[TaskCard, ...], Field(min_length=1)]

    def __post_init__(self) -> None:
        hub = self.source.hub
        _check_columns("columns", self.columns, self.kind)
        if hub and hub.columns:
            _check_columns("source.hub.columns", hub.columns, self.kind)
        if self.kind == CLASSIFICATION and not self.labels:
            check_keys("", {}, needed=["labels"])
        if hub and hub.labels:
            self._check_labels("source.hub.labels", tuple(hub.labels.values()))
        if self.kind == TRANSLATION and self.labels:
            self._check_labels("labels", ())
        if self.source.origin:
            self._check_origin(self.source.origin)
        for place, task in enumerate(self.tasks):
            self._check_task(f"tasks[{place}]", task, [other.name for other in self.tasks[:place]])

    def _check_origin(self, origin: Origin) -> None:
        known = [task.name for task in self.tasks]
        if self.kind == TRANSLATION or (self.columns.get("group") is not None):
            key, word, needed = "source.origin", "is unknown", "only labeled texts are fetched"
            raise FieldError(key, word, needed, "take it out")
        for place, file in enumerate(origin.files):
            if file.task not in known:
                raise FieldError(
                    f"source.origin.files[{place}].task",
                    f"is '{file.task}'",
                    f"one of the card's tasks is needed ({', '.join(known)})",
                    "correct the name",
                )

    def _check_task(self, key: str, task: TaskCard, names_before: list[str]) -> None:
        if task.name in names_before:
            raise FieldError(
                f"{key}.name",
                f"is '{task.name}' a second time",
                "each task of a card needs a name of its own",
                "rename one of the two",
            )
        if task.labels:
            self._check_labels(f"{key}.labels", task.labels)
        if self.kind == TRANSLATION:
            _check_language(f"{key}.language", task.language)

    def _check_labels(self, key: str, names: tuple[str, ...]) -> None:
        if self.kind == TRANSLATION:
            raise FieldError(key, "is unknown", "translations have no labels", "take it out")
        known = tuple(_map_labels(self.labels).values())
        for name in names:
            if name not in known:
                raise FieldError(
                    key,
                    f"names '{name}'",
                    f"the card's mapping `nlp_meta.labels` has {', '.join(dict.fromkeys(known))}",
                    "add it to the mapping or correct the name",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class _FrontMatter:
    """The Hub's keys; the values of those that are never read are the Hub's business."""

    annotations_creators: Any = None
    config_names: Any = None
    configs: Any = None
    dataset_info: Any = None
    language: Texts
    language_creators: Any = None
    language_details: Any = None
    license: Texts | None = None
    license_details: Any = None
    license_link: Any = None
    license_name: Text | None = None
    multilinguality: Any = None
    paperswithcode_id: Any = None
    pretty_name: Text
    size_categories: Texts
    source_datasets: Texts
    tags: Any = None
    task_categories: Texts
    task_ids: Any = None
    train_eval_index: Annotated[Any, Field(alias="train-eval-index")] = None
    viewer: Any = None
    nlp_meta: _CardBlock

    def __post_init__(self) -> None:
        if self.license is None:
            raise FieldError(
                "license",
                "is missing",
                "every card needs a licence id of the Hub",
                "add it, `license: unknown` where the origin states none",
            )
        if self.license in ("other", ("other",)) and not self.license_name:
            check_keys("", {}, needed=["license_name"])


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
        CardError: It is neither; names one that is spelled alike.
    """
    written = os.fspath(name_or_path)
    if written.endswith(".md") and Path(written).is_file():
        return Path(written)
    known = list_cards()
    if written in known:
        return cards_folder() / f"{written}.md"
    nearest = get_close_matches(written, known, n=1)
    hint = f"did you mean '{nearest[0]}'?" if nearest else "correct it"
    raise CardError(
        f"cannot find card '{written}': a path ending in .md, or a name that `nlp-meta cards` "
        f"lists, is needed; {hint}"
    )


def load_card(path: str | os.PathLike[str]) -> DataCard:
    """Read and check one card.

    Raises:
        CardError: A key is unknown, missing or of the wrong type, or a task
            contradicts the card; names the file, the key and the remedy.
    """
    path = Path(path)
    front = read_strict(
        _FrontMatter, read_front_matter(path), where=f"card '{path}'", error=CardError
    )
    block, licenses = front.nlp_meta, front.license or ""
    columns, labels = _name_columns(block.columns, block.kind), _map_labels(block.labels)
    return DataCard(
        name=path.stem,
        path=path,
        pretty_name=front.pretty_name,
        license=licenses if isinstance(licenses, str) else ", ".join(licenses),
        kind=block.kind,
        parallel=block.parallel,
        files=block.source.files,
        builtin=block.source.builtin,
        hub=_read_hub(block.source.hub, block.kind, columns, labels),
        origin=block.source.origin,
        obtain=block.source.obtain,
        columns=columns,
        labels=labels,
        tasks=block.tasks,
    )


def read_front_matter(path: Path) -> dict[str, Any]:
    """Read the YAML between the first two `---` lines of a card.

    Raises:
        CardError: The file cannot be read, has no front matter, or it is not YAML.
    """
    try:
        lines = [line.rstrip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(
            f"cannot read card '{path}': {error}; a Markdown file in UTF-8 is needed; "
            "check the path and the file"
        ) from error
    if lines[0] != "---" or "---" not in lines[1:]:
        raise CardError(
            f"cannot read card '{path}': there is no front matter; YAML between two lines "
            "`---` at the top of the file is needed; add it, as the other cards have it"
        )
    try:
        # The line `---` begins a document of YAML too: its lines are then those of the file.
        values = read_yaml("\n".join(lines[: lines.index("---", 1)]))
    except YamlError as error:
        raise CardError(
            f"cannot read card '{path}': the front matter is not YAML ({error}); "
            "a mapping of keys is needed; correct that line"
        ) from error
    if not isinstance(values, dict):
        raise CardError(
            f"cannot read card '{path}': the front matter is {type(values).__name__}; "
            "a mapping of keys is needed; write `key: value` lines"
        )
    return {str(key): value for key, value in values.items()}


def _read_hub(
    block: _HubBlock | None, kind: str, columns: Columns, labels: Mapping[str, str]
) -> HubSource | None:
    if block is None:
        return None
    return HubSource(
        id=block.id,
        revision=block.revision,
        columns=_name_columns(block.columns, kind) if block.columns else columns,
        labels=block.labels or labels,
    )


def _map_labels(labels: Mapping[str, str] | Sequence[str] | None) -> Mapping[str, str]:
    """Value in the rows to the label's name; a list is of names that stand in the rows."""
    return labels if isinstance(labels, Mapping) else {name: name for name in labels or ()}


def _name_columns(names: Mapping[str, str | None], kind: str) -> Columns:
    source, target = COLUMN_KEYS[kind]
    return Columns(names[source] or "", names[target] or "", names.get("group"))


def _check_columns(key: str, names: Mapping[str, str | None], kind: str) -> None:
    check_keys(key, names, needed=COLUMN_KEYS[kind], optional=["group"])


def _check_language(key: str, language: str) -> None:
    try:
        split_pair(language)
    except EpisodeError as error:
        raise FieldError(
            key,
            f"is '{language}'",
            "a translation goes from one language into another",
            "write both codes with a hyphen between them, such as ind-jav or pt_BR-jav",
        ) from error
