"""Fingerprints: what decides the cells of a method, so that none of other settings counts.

Files decide and not their names: a start may be trained again in its folder, and so may the
base model that it or a rival stands on, and the language model that is prompted.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nlp_meta.comparing.bench import AnySettings
from nlp_meta.comparing.methods import Kind, find_kind
from nlp_meta.errors import MissingPackageError
from nlp_meta.hub.bases import hash_base
from nlp_meta.hub.model_files import ADAPTER
from nlp_meta.hub.pulling import hash_file
from nlp_meta.hub.records import find_any_model
from nlp_meta.prompting.language_model import find_weights
from nlp_meta.settings import PromptingSettings

SECTIONS = ("model", "generation")
"""Of a config, what names a base model."""
LANGUAGE_MODEL = "prompting"
"""The section that names a language model."""


def fingerprint(settings: AnySettings, name: str, table: Mapping[str, Kind] | None = None) -> str:
    """Hash of everything that decides a method's cells; draws and labels may be added to."""
    text = settings.comparison.methods[name]
    kind, start = find_kind(text, table)
    plan = settings.comparison
    values: dict[str, object] = {
        "method": text,
        "start": hash_files(start, kind.files) if start else "",
        "bases": [
            hash_base(str(one["model_name_or_path"]), revision=one.get("revision"))
            for one in find_bases(settings, kind, start)
        ],
        "data": {**asdict(settings.data), "root": None},
        "query": [max(plan.labels), plan.max_query, plan.overlap, plan.overlap_threshold],
        "run": [settings.run.seed, settings.run.mixed_precision],
        **{name: _read_setting(settings, name) for name in kind.settings},
    }
    if f"{LANGUAGE_MODEL}.model_name_or_path" in kind.settings:
        values["language_model"] = hash_language_model(getattr(settings, LANGUAGE_MODEL))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def find_bases(settings: AnySettings, kind: Kind, start: str) -> Iterator[Mapping[str, Any]]:
    """The base models that a method reads: as its start names its own, or the config."""
    if start:
        yield find_any_model(start)[1].model
    for section in SECTIONS:
        if section in kind.settings:
            yield asdict(getattr(settings, section))


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
    folder, _ = find_any_model(start)
    paths = [folder / name for name in files]
    return " ".join(hash_file(path) if path.is_file() else "" for path in paths)


def hash_adapter(start: str) -> str | None:
    """Hash of a start's adapter, by which its model card finds it among the methods."""
    return hash_files(start, (ADAPTER,)) or None


def _read_setting(settings: AnySettings, name: str) -> object:
    """A section of the settings, or one key of it: `model`, `rivals.folds`."""
    found: object = asdict(settings)
    for part in name.split("."):
        found = found[part] if isinstance(found, dict) else None
    return found
