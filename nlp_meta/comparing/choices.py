"""Choices that methods made before they met a support set, so that none is made twice.

A folder holds one file a method, `choices/METHOD.FINGERPRINT.json`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

FOLDER = "choices"


def choice_path(folder: Path, method: str, fingerprint: str) -> Path:
    """Where a method's choice is."""
    return folder / FOLDER / f"{method}.{fingerprint}.json"


def read_choice(path: Path) -> dict[str, object] | None:
    """What was chosen; None where there is no whole file, and it is to be made."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def save_choice(path: Path, choice: Mapping[str, object]) -> None:
    """Write a choice; all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(choice) + "\n", encoding="utf-8")
    beside.rename(path)
