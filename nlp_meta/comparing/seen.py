"""Tasks that a method has seen: what its start, or the base model below it, was trained on.

A comparison's config names meta-train tasks of its own, but it is the record of a start that
says what the start itself was trained and chosen on.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nlp_meta.comparing.bench import AnySettings
from nlp_meta.comparing.fingerprints import find_bases
from nlp_meta.comparing.methods import Kind
from nlp_meta.data.tasks import Task, name_tasks
from nlp_meta.errors import SettingsError
from nlp_meta.hub.model_files import TRAINING
from nlp_meta.hub.records import find_any_model

SPLITS = {"meta_train": "meta-train", "meta_validation": "meta-validation"}
"""Lists of a start's record, and the meta-splits that they are."""


def check_unseen(
    settings: AnySettings, kinds: Mapping[str, tuple[Kind, str]], tasks: Sequence[Task]
) -> None:
    """Stop if a method is to be judged on a task that it was trained or chosen on.

    Args:
        kinds: By method, with the start that stands behind its kind, if one does.

    Raises:
        SettingsError: It is; names method, model and task.
    """
    judged = [task.name for task in tasks]
    for name, (kind, start) in kinds.items():
        for model, meta_split, seen in _seen_by(settings, kind, start, judged):
            for task in judged:
                if task in seen:
                    raise SettingsError(
                        f"cannot judge '{name}' on task '{task}': '{model}' has it among its "
                        f"{meta_split} tasks and one that it never saw is needed; leave the task "
                        "out with `data.exclude`, or the method out of `comparison.methods`"
                    )


def _seen_by(
    settings: AnySettings, kind: Kind, start: str, judged: Sequence[str]
) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Models that a method stands on, each with a meta-split and the names of its tasks."""
    if start:
        provenance = find_any_model(start)[1].provenance
        earlier = provenance.get("init_from") or {}
        for key, meta_split in SPLITS.items():
            yield start, meta_split, provenance.get(key, ())
            yield f"what {start} went on from", meta_split, earlier.get(key, ())
    for base in find_bases(settings, kind, start):
        path = Path(str(base["model_name_or_path"])) / TRAINING
        if path.is_file():
            data = json.loads(path.read_text(encoding="utf-8"))["settings"]["data"]
            yield str(path.parent), "meta-train", _trained_on(data, judged)


def _trained_on(data: Mapping[str, Any], judged: Sequence[str]) -> Sequence[str]:
    """Tasks of a small model's training; its cards are opened only where one is judged here."""
    cards = {Path(card).stem for card in data["cards"]}
    if cards.isdisjoint(name.partition("/")[0] for name in judged):
        return ()
    return name_tasks(
        data["cards"], meta_split="meta-train", splits=data["splits"], exclude=data["exclude"]
    )
