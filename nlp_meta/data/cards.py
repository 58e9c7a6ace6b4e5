"""Data cards: what a corpus is, where its rows are, and which tasks it holds.

A card is one Markdown file whose front matter has the Hub's dataset-card keys and
one `nlp_meta` block. To add a corpus is to add a card; nothing here changes.
"""

import os
from difflib import get_close_matches
from pathlib import Path

from nlp_meta.data.card_parts import (
    COLUMN_KEYS,
    KINDS,
    META_SPLITS,
    SENTIMENT,
    TRANSLATION,
    Columns,
    DataCard,
    HubSource,
    HubTask,
    TaskCard,
)
from nlp_meta.data.front_matter import HUB_KEYS, Block, read_front_matter
from nlp_meta.data.language_tags import split_pair
from nlp_meta.errors import CardError, EpisodeError


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
    labels = own.text_mapping("labels") if kind == SENTIMENT else {}
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
    return ("labels",) if kind == SENTIMENT else ()


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
