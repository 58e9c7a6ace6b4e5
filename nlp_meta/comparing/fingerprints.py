"""Fingerprints: what decides the cells of a method, so that none of other settings counts.

Files decide and not their names: a start may be trained again in its folder, and so may the
base model that it or a rival stands on, and the language model that is prompted.

The same records say which tasks a method has seen: a comparison's config names meta-train tasks
of its own, but a start's record says what the start itself was trained and chosen on.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nlp_meta.comparing.bench import AnyComparison, skill_of
from nlp_meta.comparing.methods import Inputs, MethodRow, find_method
from nlp_meta.data.tasks import Task, name_tasks
from nlp_meta.errors import MissingPackageError, SettingsError
from nlp_meta.files.outputs import hash_file
from nlp_meta.hub.bases import hash_base
from nlp_meta.hub.pull import ADAPTER, TRAINING
from nlp_meta.hub.records import find_model
from nlp_meta.prompting.language_model import find_weights
from nlp_meta.settings import PromptingSettings

LANGUAGE_MODEL = "prompting"
"""The section that names a language model."""


def fingerprint(settings: AnyComparison, name: str) -> str:
    """Hash of everything that decides a method's cells; draws and labels may be added to."""
    text = settings.comparison.methods[name]
    row, argument = find_method(text, skill_of(settings))
    start, model = (argument, "") if row.folder else ("", argument)
    inputs, plan = row.skills[skill_of(settings)], settings.comparison
    values: dict[str, object] = {
        "method": text,
        "start": hash_files(start, inputs.files) if start else "",
        "bases": [
            hash_base(str(base["model_name_or_path"]), revision=base.get("revision"))
            for base in find_bases(settings, inputs, start)
        ]
        + ([hash_base(model, revision=None)] if model else []),
        "data": {**asdict(settings.data), "root": None},
        "query": [max(plan.labels), plan.max_query, plan.overlap, plan.overlap_threshold],
        "run": [settings.run.seed, settings.run.mixed_precision],
        **{name: _read_setting(settings, name) for name in inputs.settings},
    }
    if f"{LANGUAGE_MODEL}.model_name_or_path" in inputs.settings:
        values["language_model"] = hash_language_model(getattr(settings, LANGUAGE_MODEL))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def find_bases(settings: AnyComparison, inputs: Inputs, start: str) -> Iterator[Mapping[str, Any]]:
    """The base models that a method reads: as its start names its own, or the config."""
    if start:
        yield find_model(start)[1].model
    if "model" in inputs.settings:
        yield asdict(settings.model)


def hash_language_model(prompting: PromptingSettings) -> str:
    """Hash of a language model that is read here; of one behind an endpoint its name is all."""
    if prompting.endpoint is not None:
        return ""
    try:
        name, gguf_file = find_weights(prompting.model_name_or_path, prompting.gguf_file)
    except MissingPackageError:
        return ""  # the method is left out, and says so where it is built
    return hash_base(name, revision=prompting.revision, file=gguf_file)


def hash_files(start: str, files: Sequence[str]) -> str:
    """Hash of a start's files, wherever they lie; those that it lacks count for nothing."""
    folder, _ = find_model(start)
    paths = [folder / name for name in files]
    return " ".join(hash_file(path) if path.is_file() else "" for path in paths)


def hash_adapter(start: str) -> str | None:
    """Hash of a start's adapter, by which its model card finds it among the methods."""
    return hash_files(start, (ADAPTER,)) or None


def _read_setting(settings: AnyComparison, name: str) -> object:
    """A section of the settings, or one key of it: `model`, `rivals.folds`."""
    value: object = asdict(settings)
    for part in name.split("."):
        value = value[part] if isinstance(value, dict) else None
    return value


SPLITS = {"meta_train": "meta-train", "meta_validation": "meta-validation"}
"""Lists of a start's record, and the meta-splits that they are."""


def check_unseen(
    settings: AnyComparison, rows: Mapping[str, tuple[MethodRow, str]], tasks: Sequence[Task]
) -> None:
    """Stop if a method is to be judged on a task that it was trained or chosen on.

    Args:
        rows: By method, each with the start that its line names, if it names one.

    Raises:
        SettingsError: It is; names method, model and task.
    """
    judged = [task.name for task in tasks]
    for name, (row, argument) in rows.items():
        start = argument if row.folder else ""
        for model, meta_split, seen in _seen_by(settings, row, start, judged):
            for task in judged:
                if task in seen:
                    raise SettingsError(
                        f"cannot judge '{name}' on task '{task}': '{model}' has it among its "
                        f"{meta_split} tasks and one that it never saw is needed; leave the task "
                        "out with `data.exclude`, or the method out of `comparison.methods`"
                    )


def _seen_by(
    settings: AnyComparison, row: MethodRow, start: str, judged: Sequence[str]
) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Models that a method stands on, each with a meta-split and the names of its tasks."""
    if start:
        provenance = find_model(start)[1].provenance
        earlier = provenance.get("init_from") or {}
        for key, meta_split in SPLITS.items():
            yield start, meta_split, provenance.get(key, ())
            yield f"what {start} went on from", meta_split, earlier.get(key, ())
    for base in find_bases(settings, row.skills[skill_of(settings)], start):
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
