"""A project of the app: a folder with one SQLite file, which holds texts, labels and what came out.

Every change is on the disk before it is told: a killed process and a power cut lose nothing. Each
row has a version, so that a window that shows an old state overwrites no newer label.
"""

import json
import random
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_meta.errors import DataError, OutputError
from nlp_meta.tables.rows import Cells

DATABASE = "project.sqlite"
MODEL = "model"
"""Folder of a project that its model is saved to."""
LEAST_RANDOM = 8
"""Random labels from which on an accuracy is told."""
OPEN, LABELED, SKIPPED, UNSURE = "open", "labeled", "skipped", "unsure"
_GONE = "gone"
"""State of a pair that a better model no longer finds; whoever sees it yet may answer it."""
ACCEPTED, REJECTED = "accepted", "rejected"
"""Labels of pairs of sentences."""
_FORMAT = 2
_WAIT = 10.0
"""Seconds that a write waits for another process to end its own."""
_SCHEMA = """
CREATE TABLE rows (
    id INTEGER PRIMARY KEY, text TEXT NOT NULL, cells TEXT NOT NULL, turn INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'open', label TEXT, is_random INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0, target TEXT
);
CREATE INDEX rows_by_state ON rows (state, turn);
CREATE TABLE changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, row INTEGER NOT NULL, version INTEGER NOT NULL,
    state TEXT NOT NULL, label TEXT, is_random INTEGER NOT NULL
);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, version INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A text of a project.

    Attributes:
        id: From 1, in the order of the table.
        state: `open`, `labeled`, `skipped` or `unsure`.
        is_random: It was drawn whatever a model says of it, so its label may judge one.
        version: Grows with each change.
        target: The other sentence, where pairs are checked.
    """

    id: int
    text: str
    state: str
    label: str | None
    is_random: bool
    version: int
    target: str | None


_SELECT = "SELECT id, text, state, label, is_random, version, target FROM rows WHERE "


class Project:
    """One connection to a project; threads may share it, and processes open one each."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        """Open a project.

        Args:
            create: Make it where there is none.

        Raises:
            DataError: There is none, or a later release wrote it.
            OutputError: It cannot be made.
        """
        self.folder, path = folder, folder / DATABASE
        if not create and not is_project(folder):
            raise DataError(
                f"cannot open the project '{folder}': there is no {DATABASE} in it and one is "
                "needed; name another folder, or make one with `nlp-meta app`"
            )
        self._lock = threading.RLock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(
                path, timeout=_WAIT, isolation_level=None, check_same_thread=False
            )
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = FULL")
            with self._writing():
                version = self._number("PRAGMA user_version")
                older = {0: _SCHEMA, 1: "ALTER TABLE rows ADD COLUMN target TEXT"}
                for statement in older.get(version, "").split(";"):
                    self._base.execute(statement)
                if version in older:
                    self._base.execute(f"PRAGMA user_version = {_FORMAT}")
        except (OSError, sqlite3.Error) as error:
            raise OutputError(
                f"cannot open the project '{folder}': {error}, and a folder that can be written "
                "to is needed; name another one"
            ) from error
        if self._number("PRAGMA user_version") > _FORMAT:
            raise DataError(
                f"cannot open the project '{folder}': a later release of nlp-meta wrote it and "
                "that one is needed; update the package"
            )

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            self._base.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """All of it is written, or nothing."""
        with self._lock:
            try:
                self._base.execute("BEGIN IMMEDIATE")
                yield
                self._base.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise OutputError(
                    f"cannot write to the project '{self.folder}': {error}, and nothing of this "
                    "change is kept; free some room on its disk, or see its permissions"
                ) from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._base.in_transaction:
            self._base.execute("ROLLBACK")

    def _rows(self, condition: str, *values: object) -> list[Row]:
        with self._lock:
            found = self._base.execute(_SELECT + condition, values).fetchall()
        return [
            Row(row, text, state, label, bool(is_random), version, target)
            for row, text, state, label, is_random, version, target in found
        ]

    def _number(self, query: str, *values: object) -> int:
        with self._lock:
            return int(self._base.execute(query, values).fetchone()[0])

    def write_fact(self, name: str, value: object) -> None:
        """Keep a JSON-able value under a name."""
        with self._writing():
            self._write_fact(name, value)

    def _write_fact(self, name: str, value: object) -> None:
        self._base.execute(
            "INSERT INTO facts VALUES (?, ?, 1) ON CONFLICT (name) DO UPDATE "
            "SET value = excluded.value, version = version + 1",
            (name, json.dumps(value, ensure_ascii=False)),
        )

    def read_fact(self, name: str) -> Any:
        """What is kept under a name; None where nothing is."""
        with self._lock:
            query = "SELECT value FROM facts WHERE name = ?"
            found = self._base.execute(query, (name,)).fetchone()
        return None if found is None else json.loads(found[0])

    def fact_version(self, name: str) -> int:
        """How often it was written."""
        query = "SELECT coalesce(max(version), 0) FROM facts WHERE name = ?"
        return self._number(query, name)

    @property
    def labels(self) -> list[str]:
        """Names of the labels, in the order of their keys; none before the project is set up."""
        return list((self.read_fact("setup") or {}).get("labels", ()))

    @property
    def has_pairs(self) -> bool:
        """Pairs of sentences are checked in it, not texts labeled."""
        return "languages" in (self.read_fact("setup") or {})

    def set_up(
        self,
        texts: Sequence[str],
        cells: Sequence[Cells],
        *,
        text_column: str,
        columns: Sequence[str],
        labels: Sequence[str],
        given: Sequence[str | None],
        seed: int = 0,
    ) -> None:
        """Take the rows of a table, once.

        Args:
            cells: All cells of each row, for what is downloaded.
            labels: Their names.
            given: The label that a row has already.

        Raises:
            DataError: The project has rows.
        """
        turns = random.Random(seed).sample(range(len(texts)), len(texts))  # noqa: S311  no secret
        with self._writing():
            self._check_new()
            self._base.executemany(
                "INSERT INTO rows (text, cells, turn, state, label, is_random) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (text, json.dumps(dict(row), ensure_ascii=False, default=str), turn, *rest)
                    for text, row, turn, rest in zip(
                        texts, cells, turns, map(_state_of, given), strict=True
                    )
                ],
            )
            facts = {"text_column": text_column, "columns": list(columns), "labels": list(labels)}
            self._write_fact("setup", facts)

    def _check_new(self) -> None:
        if self.labels:
            raise DataError(
                f"cannot set up the project '{self.folder}': it has texts already and an empty "
                "one is needed; name another folder"
            )

    def set_up_pairs(self, pairs: Sequence[tuple[str, str]], *, languages: tuple[str, str]) -> None:
        """Begin to check pairs of sentences, once.

        Args:
            pairs: Those of a memory; of two texts there are none before they are paired.

        Raises:
            DataError: The project has rows.
        """
        with self._writing():
            self._check_new()
            setup = {"labels": [ACCEPTED, REJECTED], "languages": languages, "fixed": bool(pairs)}
            self._write_fact("setup", setup)
            self._place_pairs(pairs)

    def place_pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Say which pairs there are now; those that have an answer stay as they are."""
        with self._writing():
            self._place_pairs(pairs)

    def _place_pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        before = {(row.text, row.target): row for row in self._rows("1")}
        now = set(pairs)
        draw = random.Random(len(before))  # noqa: S311  no secret
        self._base.executemany(
            "INSERT INTO rows (text, target, cells, turn) VALUES (?, ?, '{}', ?)",
            [(*pair, draw.randrange(2**31)) for pair in pairs if pair not in before],
        )
        changed = [
            (OPEN if pair in now else _GONE, row.id)
            for pair, row in before.items()
            if row.state == (_GONE if pair in now else OPEN)
        ]
        self._base.executemany("UPDATE rows SET state = ? WHERE id = ?", changed)

    def add_label(self, name: str) -> None:
        """Name one label more."""
        with self._writing():
            setup = self.read_fact("setup")
            if name not in setup["labels"]:
                self._write_fact("setup", {**setup, "labels": [*setup["labels"], name]})

    @property
    def changes(self) -> int:
        """How many changes there were; it never falls."""
        return self._number("SELECT coalesce(max(id), 0) FROM changes")

    def count_states(self) -> dict[str, int]:
        """Rows by their state."""
        with self._lock:
            query = "SELECT state, count(*) FROM rows GROUP BY state"
            counts = dict(self._base.execute(query).fetchall())
        return {state: counts.get(state, 0) for state in (OPEN, LABELED, SKIPPED, UNSURE)}

    def count_labels(self) -> dict[str, int]:
        """Rows by their label."""
        with self._lock:
            query = "SELECT label, count(*) FROM rows WHERE state = 'labeled' GROUP BY label"
            counts = dict(self._base.execute(query).fetchall())
        return {name: counts.get(name, 0) for name in dict.fromkeys([*self.labels, *counts])}

    def find_row(self, row: int) -> Row | None:
        """One row by its id."""
        return next(iter(self._rows("id = ?", row)), None)

    def find_rows(self, rows: Sequence[int]) -> list[Row]:
        """Some rows by their ids, in the order of the table."""
        places = ",".join("?" * len(rows))
        return self._rows(f"id IN ({places}) ORDER BY id", *rows)

    def list_rows(self, state: str | None = None) -> list[Row]:
        """All rows, or those of a state, in the order of the table."""
        return self._rows("state = coalesce(?, state) AND state != ? ORDER BY id", state, _GONE)

    def list_accepted(self) -> list[Row]:
        """Pairs that a person accepted."""
        return [row for row in self.list_rows(LABELED) if row.label == ACCEPTED]

    def list_turns(self) -> list[int]:
        """Ids of all rows in the order of the draw: what is labeled, then what is open."""
        with self._lock:
            found = self._base.execute("SELECT id FROM rows ORDER BY state != 'labeled', turn")
            return [row for (row,) in found]

    def read_cells(self) -> list[dict[str, Any]]:
        """All cells of all rows, in the order of the table."""
        with self._lock:
            found = self._base.execute("SELECT cells FROM rows ORDER BY id").fetchall()
        return [json.loads(cells) for (cells,) in found]

    def next_row(self) -> tuple[Row, bool] | None:
        """The text to label next, and whether it is a random one; None where none is left.

        Every other text is random. What was skipped comes again at the end.
        """
        suggested: Sequence[int] = self.read_fact("suggested") or ()
        if suggested and self.count_states()[LABELED] % 2:
            rows = [row for row in self.find_rows(suggested) if row.state == OPEN]
            if rows:
                return min(rows, key=lambda row: suggested.index(row.id)), False
        for state in (OPEN, SKIPPED):
            order = "turn" if state == OPEN else "version, turn"
            rows = self._rows(f"state = ? ORDER BY {order} LIMIT 1", state)
            if rows:
                return rows[0], True
        return None

    def answer(
        self,
        row: int,
        version: int,
        *,
        state: str,
        label: str | None = None,
        is_random: bool = False,
    ) -> bool:
        """Give a row a label or another state; on the disk when it returns.

        Args:
            version: That of the row as it was shown.

        Returns:
            False, and nothing is written, where the row was changed since.
        """
        with self._writing():
            before = self.find_row(row)
            if before is None or before.version != version:
                return before is not None and (before.state, before.label) == (state, label)
            self._base.execute(
                "INSERT INTO changes (row, version, state, label, is_random) "
                "VALUES (?, ?, ?, ?, ?)",
                (row, version + 1, before.state, before.label, before.is_random),
            )
            is_random = before.is_random if before.state == LABELED else is_random
            self._change(row, version + 1, state, label, is_random)
        return True

    def _change(
        self, row: int, version: int, state: str, label: str | None, is_random: bool
    ) -> None:
        self._base.execute(
            "UPDATE rows SET state = ?, label = ?, is_random = ?, version = ? WHERE id = ?",
            (state, label, is_random, version, row),
        )

    def undo(self) -> Row | None:
        """Take the last change back that was not taken back; None where there is none."""
        with self._writing():
            query = (
                "SELECT c.id, c.row, c.version, c.state, c.label, c.is_random FROM changes c "
                "JOIN rows r ON r.id = c.row AND r.version = c.version ORDER BY c.id DESC LIMIT 1"
            )
            change = self._base.execute(query).fetchone()
            if change is None:
                return None
            undone, row, version, state, label, is_random = change
            self._base.execute("UPDATE changes SET version = -1 WHERE id = ?", (undone,))
            # The number of changes grows, so that what was learned is learned anew.
            self._base.execute(
                "INSERT INTO changes (row, version, state, label, is_random) "
                "VALUES (?, ?, ?, ?, ?)",
                (row, -1, state, label, is_random),
            )
            self._change(row, version + 1, state, label, bool(is_random))
            # The change before it is the next to be taken back.
            self._base.execute(
                "UPDATE changes SET version = ? WHERE row = ? AND version = ?",
                (version + 1, row, version - 1),
            )
        return self.find_row(row)


def is_project(path: Path) -> bool:
    """Whether a folder holds a project."""
    return (path / DATABASE).is_file()


def _state_of(label: str | None) -> tuple[str, str | None, bool]:
    return (OPEN, None, False) if label is None else (LABELED, label, True)


def read_project(
    folder: Path, *, labeled: bool
) -> tuple[Mapping[str, Any], list[Row], list[Cells]]:
    """Read a project as a table: how it was set up, its rows, and their cells.

    Args:
        labeled: Those that have a label; else all.

    Raises:
        DataError: There is no such project, or no row of that kind.
    """
    project = Project(folder)
    try:
        setup, rows, cells = project.read_fact("setup"), project.list_rows(), project.read_cells()
    finally:
        project.close()
    if "languages" in (setup or {}):
        raise DataError(
            f"cannot read the project '{folder}' as a table of labels: it has pairs of sentences "
            "and labeled texts are needed; give `source_lang` and `target_lang`, or name "
            "another folder"
        )
    pairs = [pair for pair in zip(rows, cells, strict=True) if not labeled or pair[0].label]
    if not pairs:
        raise DataError(
            f"cannot read the project '{folder}': it has no {'label' if labeled else 'text'} yet "
            f"and some are needed; add them with `nlp-meta app {folder}`"
        )
    return setup, [row for row, _ in pairs], [fields for _, fields in pairs]
