"""Records: every finished cell of a comparison with its answers, so that none is made twice.

A folder holds one file a method and process, `cells/METHOD.RANK.jsonl`, with one JSON line
for each cell, written when the cell is finished. A line that an interruption tore is no
line; all processes' files are read, so that two may go on where one stopped.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nlp_meta.data.episodes import Episode
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation.answers import KINDS, Kept, is_damaged, kind_of
from nlp_meta.evaluation.protocol import Cell, flatten_cell, hash_support, read_cell

FOLDER = "cells"


class Key(NamedTuple):
    """What tells cells apart."""

    method: str
    task: str
    labels: int
    draw: int


@dataclass(frozen=True, slots=True)
class Record:
    """A finished cell.

    Attributes:
        facts: What the method said of this very cell: steps taken, demonstrations used.
        query_hash: Of the language, the query texts, targets and candidates.
    """

    method: str
    cell: Cell
    predictions: tuple[Kept, ...]
    facts: Mapping[str, object]
    query_hash: str

    @property
    def key(self) -> Key:
        return key_of(self.method, self.cell)


def key_of(method: str, cell: Cell) -> Key:
    """Name a cell."""
    return Key(method, cell.task, cell.labels, cell.draw)


def key_of_episode(method: str, episode: Episode) -> Key:
    """Name the cell that a method will fill on an episode."""
    return Key(method, episode.task, len(episode.support), episode.index)


def append_record(folder: Path, record: Record, *, fingerprint: str, rank: int) -> None:
    """Add a finished cell to the file of its method and this process."""
    path = folder / FOLDER / f"{record.method}.{rank}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {
        "fingerprint": fingerprint,
        "method": record.method,
        "cell": flatten_cell(record.cell),
        "facts": record.facts,
        "query_hash": record.query_hash,
        **kind_of(record.predictions).write(record.predictions),
    }
    _drop_torn_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_records(folder: Path, *, fingerprints: Mapping[str, str]) -> dict[Key, Record]:
    """Read what is finished of some methods.

    Args:
        fingerprints: Method to the hash of everything that decides its cells.

    Raises:
        SettingsError: Cells of a method were made with other settings.
        DataError: A line is damaged.
    """
    found: dict[Key, Record] = {}
    for path in sorted((folder / FOLDER).glob("*.jsonl")):
        method = path.name.rsplit(".", 2)[0]
        if method not in fingerprints:
            continue
        whole = path.read_bytes().split(b"\n")[:-1]
        for number, line in enumerate(whole, start=1):
            record = _read_line(path, number, line, fingerprint=fingerprints[method])
            found[record.key] = record
    return found


def check_record(record: Record, episode: Episode) -> None:
    """Refuse a finished cell that is not of this episode.

    Raises:
        DataError: The data, or what the cell's file holds, have changed since.
    """
    same = record.cell.support_hash == hash_support(episode.support_set)
    same &= record.query_hash == hash_query(episode)
    if not same or len(record.predictions) != len(episode.query):
        raise DataError(
            f"cannot go on with '{record.method}' on task '{episode.task}', draw {episode.index}: "
            "its cell was made from other rows or languages and the same data are needed; restore "
            "them, or begin in a new folder (`run.output_dir`)"
        )
    if is_damaged(episode, record.predictions, record.cell.scores):
        raise DataError(
            f"cannot go on with '{record.method}' on task '{episode.task}', draw {episode.index}: "
            f"the answers of its cell at {record.cell.labels} labels are damaged and those that "
            f"were scored are needed; delete its line in '{FOLDER}/{record.method}.*.jsonl', the "
            "cell is then made again"
        )


def _read_line(path: Path, number: int, line: bytes, *, fingerprint: str) -> Record:
    try:
        values = json.loads(line)
        made_with = values["fingerprint"]
        kind = KINDS[values.get("kind", "classification")]
        cell, answers = read_cell(values["cell"], kind), kind.read(values)
        record = Record(values["method"], cell, answers, values["facts"], values["query_hash"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"cannot read line {number} of '{path}': it is damaged and a finished cell is needed; "
            "delete the line, its cell is then made again"
        ) from error
    if made_with != fingerprint:
        raise SettingsError(
            f"cannot go on with '{record.method}': '{path}' was made with other settings and the "
            "same are needed; restore them, delete the file, or change `run.output_dir`"
        )
    return record


def _drop_torn_line(path: Path) -> None:
    """Cut what stands behind the last line break."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def hash_query(episode: Episode) -> str:
    """Twelve hexadecimal digits of language, query texts, targets and candidates, in order."""
    rows = [f"{one.source}\x1f{one.target}" for one in episode.query]
    return row_key("\x1e".join((episode.language, *rows, *episode.candidates)))


def row_key(text: str) -> str:
    """Twelve hexadecimal digits that name a test row in every draw."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def columns_of(
    records: Sequence[Record], episodes: Mapping[tuple[str, int, int], Episode]
) -> dict[str, list[object]]:
    """Every answer as columns of a table, one row for each method, episode and query text.

    Args:
        episodes: By task, labels and draw.
    """
    rows = [row for one in records for row in _rows(one, episodes)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _rows(
    record: Record, episodes: Mapping[tuple[str, int, int], Episode]
) -> Iterator[dict[str, object]]:
    cell, kind = record.cell, kind_of(record.predictions)
    episode = episodes[cell.task, cell.labels, cell.draw]
    for example, answer in zip(episode.query, record.predictions, strict=True):
        yield {
            "method": record.method,
            "task": cell.task,
            "labels": cell.labels,
            "draw": cell.draw,
            "row": row_key(example.source),
            "text": example.source,
            "true": example.target,
            **kind.columns(episode, example.target, answer),
        }
