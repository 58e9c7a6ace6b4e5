"""Protocol: every method answers the same episodes, and what it scored is kept.

A method learns from the support set of an episode and answers its queries; it never meets a
target of theirs. Each finished cell is written with its answers, one JSON line in a file of
its method and process, so that none is made twice. A line that an interruption tore is no
line; all processes' files are read, so that two may go on where one stopped.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from nlp_meta.data.answers import Answer, LearnedWithFacts, Rival
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.clock import Clock
from nlp_meta.data.episodes import Episode, SupportSet
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation.answers import (
    ANSWERS,
    AnswerForm,
    Kept,
    form_of,
    is_damaged,
    score_episode,
)
from nlp_meta.files.outputs import append_text


@dataclass(frozen=True, slots=True)
class Cell:
    """What one method scored on one episode.

    Attributes:
        labels: Support examples in all.
        draw: Number of the support draw, the episode's index.
        rows: Query examples.
        scores: By every metric of the skill; None where one could not be computed.
        seconds_adapt: From the support set to what answers in this domain.
        ms_per_prediction: From a query text to its answer, in batches.
        support_hash: Of the support set: methods of the same hash learned from the same.
    """

    task: str
    labels: int
    draw: int
    rows: int
    scores: Mapping[str, float | None]
    seconds_adapt: float
    ms_per_prediction: float
    support_hash: str


@dataclass(frozen=True, slots=True)
class Scores:
    """What one method scored, in the order of the episodes."""

    method: str
    cells: tuple[Cell, ...]


def flatten_cell(cell: Cell) -> dict[str, object]:
    """Give a cell as plain values, its scores beside the others by the metrics' names."""
    values: dict[str, object] = {}
    for name, value in asdict(cell).items():
        values |= value if name == "scores" else {name: value}
    return values


def read_cell(values: Mapping[str, object], form: AnswerForm) -> Cell:
    """Take back what `flatten_cell` gave; raises KeyError or TypeError for anything else."""
    rest = dict(values)
    scores = {name: rest.pop(name) for name in form.metrics}
    return Cell(**rest, scores=scores)  # type: ignore[arg-type]


def evaluate(rival: Rival, episodes: Sequence[Episode], *, method: str) -> Scores:
    """Score a method on episodes; arguments and errors are those of `judge`."""
    return Scores(method, tuple(judge(rival, episode, method=method).cell for episode in episodes))


@dataclass(frozen=True, slots=True)
class Judgment:
    """A method's answers to one episode, and their scores.

    Attributes:
        facts: What the method said of itself: steps it chose, demonstrations it showed.
    """

    cell: Cell
    answers: tuple[Kept, ...]
    facts: Mapping[str, object]


def judge(rival: Rival, episode: Episode, *, method: str, clock: Clock | None = None) -> Judgment:
    """Let a method learn from an episode's support set, then answer its queries, and score it.

    The clock is read between the two. What the encoder has said of a text in an earlier
    episode counts as if it were computed anew.

    Args:
        clock: The one that is charged for what the method finds ready, if it keeps anything.

    Raises:
        DataError: Not one answer for each query text, or one that is not such as the task
            asks for; names method, task and draw.
    """
    clock = clock or Clock()
    clock.begin_job()
    began = clock.read()
    learned = rival(episode.support_set)
    learned_at = clock.read()
    answers = tuple(learned(episode.queries))
    predicting = clock.read() - learned_at
    form = _check_answers(answers, episode, method=method)
    kept = form.keep(episode, answers)
    cell = Cell(
        task=episode.task,
        labels=len(episode.support),
        draw=episode.index,
        rows=len(episode.query),
        scores=score_episode(episode, kept),
        seconds_adapt=learned_at - began,
        ms_per_prediction=1000 * predicting / len(episode.query),
        support_hash=hash_support(episode.support_set),
    )
    facts = learned.facts if isinstance(learned, LearnedWithFacts) else {}
    return Judgment(cell, kept, facts)


def _check_answers(answers: Sequence[Answer], episode: Episode, *, method: str) -> AnswerForm:
    where = f"cannot score method '{method}' on task '{episode.task}', draw {episode.index}"
    if len(answers) != len(episode.query) or not answers:
        raise DataError(
            f"{where}: it gave {len(answers)} predictions for {len(episode.query)} texts, one for "
            "each of at least one is needed; correct the method"
        )
    form = form_of(answers)
    for row, answer in enumerate(answers):
        needed = form.lacking(episode, answer)
        if needed:
            raise DataError(
                f"{where}: for text {row} it gave {answer!r:.300}, {needed} is needed; correct the "
                "method"
            )
    return form


def hash_support(support_set: SupportSet) -> str:
    """Sixteen hexadecimal digits that two support sets share if they are the same."""
    digest = hashlib.blake2b(digest_size=8)
    for example in support_set.examples:
        digest.update(f"{example.source}\x1f{example.target}\x1e".encode())
    return digest.hexdigest()


def hash_query(episode: Episode) -> str:
    """Twelve hexadecimal digits of language, query texts, targets and candidates, in order."""
    rows = [f"{example.source}\x1f{example.target}" for example in episode.query]
    return row_key("\x1e".join((episode.language, *rows, *episode.candidates)))


def row_key(text: str) -> str:
    """Twelve hexadecimal digits that name a test row in every draw."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


FOLDER = "cells"
"""Of finished cells, a file for each method and process: `cells/METHOD.RANK.jsonl`."""


class CellKey(NamedTuple):
    """What tells cells apart."""

    method: str
    task: str
    labels: int
    draw: int


@dataclass(frozen=True, slots=True)
class FinishedCell:
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
    def key(self) -> CellKey:
        return key_of(self.method, self.cell)


def key_of(method: str, cell: Cell) -> CellKey:
    """Name a cell."""
    return CellKey(method, cell.task, cell.labels, cell.draw)


def key_of_episode(method: str, episode: Episode) -> CellKey:
    """Name the cell that a method will fill on an episode."""
    return CellKey(method, episode.task, len(episode.support), episode.index)


def append_record(folder: Path, record: FinishedCell, *, fingerprint: str, rank: int) -> None:
    """Add a finished cell to the file of its method and this process."""
    path = folder / FOLDER / f"{record.method}.{rank}.jsonl"
    line = {
        "fingerprint": fingerprint,
        "method": record.method,
        "cell": flatten_cell(record.cell),
        "facts": record.facts,
        "query_hash": record.query_hash,
        **form_of(record.predictions).write(record.predictions),
    }
    _drop_torn_line(path)
    append_text(path, json.dumps(line, ensure_ascii=False) + "\n")


def read_records(folder: Path, *, fingerprints: Mapping[str, str]) -> dict[CellKey, FinishedCell]:
    """Read what is finished of some methods.

    Args:
        fingerprints: Method to the hash of everything that decides its cells.

    Raises:
        SettingsError: Cells of a method were made with other settings.
        DataError: A line is damaged.
    """
    finished: dict[CellKey, FinishedCell] = {}
    for path in sorted((folder / FOLDER).glob("*.jsonl")):
        method = path.name.rsplit(".", 2)[0]
        if method not in fingerprints:
            continue
        whole = path.read_bytes().split(b"\n")[:-1]
        for number, line in enumerate(whole, start=1):
            record = _read_line(path, number, line, fingerprint=fingerprints[method])
            finished[record.key] = record
    return finished


def check_record(record: FinishedCell, episode: Episode) -> None:
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


def _read_line(path: Path, number: int, line: bytes, *, fingerprint: str) -> FinishedCell:
    try:
        values = json.loads(line)
        made_with = values["fingerprint"]
        form = ANSWERS[values.get("skill", CLASSIFICATION)]
        cell, answers = read_cell(values["cell"], form), form.read(values)
        record = FinishedCell(
            values["method"], cell, answers, values["facts"], values["query_hash"]
        )
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


def columns_of(
    records: Sequence[FinishedCell], episodes: Mapping[tuple[str, int, int], Episode]
) -> dict[str, list[object]]:
    """Every answer as columns of a table, one row for each method, episode and query text.

    Args:
        episodes: By task, labels and draw.
    """
    rows = [row for record in records for row in _rows(record, episodes)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _rows(
    record: FinishedCell, episodes: Mapping[tuple[str, int, int], Episode]
) -> Iterator[dict[str, object]]:
    cell, form = record.cell, form_of(record.predictions)
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
            **form.columns(episode, example.target, answer),
        }
