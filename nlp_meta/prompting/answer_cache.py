"""Answers of an endpoint, kept on disk: an interrupted run asks no question twice.

The file holds hashes of what was asked and the little that was read from each answer:
no prompt, no key.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nlp_meta.errors import DataError

_FILE = "endpoint_answers.jsonl"


def hash_question(*parts: object) -> str:
    """Hash what an answer depends on, the same in every process."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """Answers by the hash of their question, in memory and, given a folder, on disk.

    Each answer is one line, appended in a single write as soon as it is there; a line
    that was torn by a crash is not read, and costs one question. Threads may share it.
    """

    def __init__(self, folder: Path | None) -> None:
        """Read what earlier runs left in a folder, which is made where it is missing.

        Raises:
            DataError: The folder cannot be made, or its file cannot be read.
        """
        self._path = None if folder is None else folder / _FILE
        self._lock = threading.Lock()
        self._answers: dict[str, Mapping[str, Any]] = {}
        self._torn = False
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            content = self._path.read_bytes() if self._path.exists() else b""
        except OSError as error:
            raise _name_folder(error, self._path.parent) from error
        self._torn = bool(content) and not content.endswith(b"\n")
        for line in content.splitlines():
            self._answers.update(_read_line(line))

    def __len__(self) -> int:
        """Count the answers."""
        return len(self._answers)

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Look an answer up."""
        return self._answers.get(key)

    def keep(self, key: str, answer: Mapping[str, Any]) -> None:
        """Write an answer down.

        Raises:
            DataError: The disk does not take it.
        """
        line = json.dumps({"key": key, "answer": answer}).encode() + b"\n"
        with self._lock:
            self._answers[key] = answer
            if self._path is None:
                return
            try:
                with self._path.open("ab", buffering=0) as file:
                    file.write(b"\n" + line if self._torn else line)
            except OSError as error:
                raise _name_folder(error, self._path.parent) from error
            self._torn = False


def _read_line(line: bytes) -> dict[str, Mapping[str, Any]]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(row, dict) or not isinstance(row.get("answer"), dict):
        return {}
    return {str(row.get("key")): row["answer"]}


def _name_folder(error: OSError, folder: Path) -> DataError:
    return DataError(
        f"cannot keep answers in {folder} ({error.strerror}): a folder that can be read and "
        "written is needed; change `--output-dir`, `run.output_dir` or, in Python, `cache_dir` of "
        "`connect_endpoint`"
    )
