"""The domains that a start knows: by their names, by their tables and by their texts."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from nlp_meta.data.duplicates import text_key
from nlp_meta.data.tasks import Task, texts_of
from nlp_meta.errors import SettingsError
from nlp_meta.hub.records import Record


def check_new(record: Record, hashes: Mapping[str, str]) -> None:
    """Stop before the work where a domain is no new one.

    Args:
        hashes: Of the texts of each domain, by its name, as `hash_texts` gives them.

    Raises:
        SettingsError: A name, or a table, is one that the start knows or comes twice.
    """
    provenance = record.provenance
    earlier = provenance.get("init_from") or {}
    known = {
        _plain(name): name
        for source in (provenance, earlier)
        for use in ("meta_train", "meta_validation")
        for name in source.get(use, ())
    }
    tables = {
        entry.get("sha256"): entry["task"]
        for update in provenance.get("updates", ())
        for entry in update["added"]
    }
    for name, sha256 in hashes.items():
        there = known.get(_plain(name)) or tables.get(sha256)
        if there:
            raise SettingsError(
                f"cannot add the domain '{name}': the start knows it already, as '{there}', "
                "and a new one is needed; give another name to other texts of that domain, or "
                "leave it out of `added`"
            )
        known[_plain(name)] = tables[sha256] = name


def hash_texts(texts: Sequence[str]) -> str:
    """Hash of the different texts of a table, in whatever order."""
    keys = sorted({text_key(text) for text in texts})
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def _plain(name: str) -> str:
    """The name of a domain as people tell it apart: letters and digits, in one case."""
    return "".join(filter(str.isalnum, name.rpartition("/")[2].casefold()))


def check_texts(new: Task, known: Iterable[Task]) -> None:
    """Stop where most texts of a domain are those of one that the start knows.

    Raises:
        SettingsError: Names both.
    """
    texts = {text_key(row.source) for row in (*new.train, *new.test)}
    for task in known:
        rows = (*task.train, *task.test)
        shared = texts & {text_key(text) for row in rows for text in texts_of(row, task.kind)}
        if 2 * len(shared) > len(texts):
            raise SettingsError(
                f"cannot add the domain '{new.domain}': {len(shared)} of its {len(texts)} texts "
                f"are those of '{task.name}', which the start knows, and others are needed; "
                "leave it out of `added`"
            )
