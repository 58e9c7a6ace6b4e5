"""Storing a model of character n-grams beside an adapter: safetensors and JSON.

Only the columns that hold a weight are written. PEFT knows nothing of these two files and
reads the adapter as if they were not there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from nlp_meta.errors import MetaModelError
from nlp_meta.hub.model_files import COMPANION_FACTS, COMPANION_WEIGHTS
from nlp_meta.objectives.ngrams import CHARACTERS, ORDERS, NgramModel

WEIGHTS, FACTS = COMPANION_WEIGHTS, COMPANION_FACTS
_FORMAT = 1
_MOST_FEATURES = 2**24
_READ_AS = {"format": _FORMAT, "orders": list(ORDERS), "characters": CHARACTERS}
"""How texts become n-grams; weights that were fitted otherwise mean nothing here."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredCompanion:
    """What is written beside an adapter.

    Attributes:
        factors: What the log-probabilities of the `encoder` and of the `ngrams` are
            multiplied by; none beside a meta-model, where nothing is mixed yet.
    """

    model: NgramModel
    factors: Mapping[str, float] = field(default_factory=dict)


def save_companion(folder: Path, companion: StoredCompanion) -> None:
    """Write the two files into a folder."""
    model = companion.model
    columns = np.flatnonzero(model.weight.any(axis=0)).astype(np.int32)
    tensors = {
        "columns": columns,
        "weight": np.ascontiguousarray(model.weight[:, columns], dtype=np.float32),
        "bias": model.bias.astype(np.float32),
    }
    save_file(tensors, folder / WEIGHTS)
    facts = {
        **_READ_AS,
        "labels": list(model.labels),
        "features": model.weight.shape[1],
        "factors": dict(companion.factors),
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    (folder / FACTS).write_text(text + "\n", encoding="utf-8")


def load_companion(
    folder: Path, *, labels: Sequence[str], factors: Sequence[str], required: bool = False
) -> StoredCompanion | None:
    """Read the two files; None where a folder has neither and need not.

    Args:
        labels: Of the model beside it.
        factors: Names of those that must be there.
        required: The model's record says that it was saved with a companion.

    Raises:
        MetaModelError: A file is missing or damaged, or belongs to another model.
    """
    if not required and not any((folder / name).exists() for name in (WEIGHTS, FACTS)):
        return None
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        found = _read(facts, tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise MetaModelError(
            f"cannot load the n-grams in '{folder}': {WEIGHTS} or {FACTS} is missing or damaged "
            "and the files as they were saved are needed; save or download the model again"
        ) from error
    if found.model.labels != tuple(labels) or set(found.factors) != set(factors):
        raise MetaModelError(
            f"cannot use the n-grams in '{folder}': they are of the labels "
            f"{', '.join(found.model.labels)} with factors for {sorted(found.factors)}, and those "
            f"of the model beside them, {', '.join(labels)} and {sorted(factors)}, are needed; "
            "save or download the model again"
        )
    return found


def _read(
    facts: Mapping[str, object], tensors: Mapping[str, NDArray[np.generic]]
) -> StoredCompanion:
    """Check and unpack; any of several errors says that something is damaged."""
    if any(facts[name] != value for name, value in _READ_AS.items()):
        raise ValueError("n-grams of another kind")
    labels, features, factors = facts["labels"], facts["features"], facts["factors"]
    columns, weight, bias = tensors["columns"], tensors["weight"], tensors["bias"]
    if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
        raise ValueError("labels are not a list of names")
    if not isinstance(features, int) or not isinstance(factors, dict):
        raise ValueError("features or factors are of another type")
    if columns.dtype != np.int32 or weight.dtype != np.float32 or bias.dtype != np.float32:
        raise ValueError("tensors are of another type")
    if weight.shape != (len(labels), *columns.shape) or bias.shape != (len(labels),):
        raise ValueError("shapes do not fit the labels")
    numbers = [float(value) for value in factors.values()]
    if not (np.isfinite(weight).all() and np.isfinite(bias).all() and np.isfinite(numbers).all()):
        raise ValueError("not all numbers are finite")
    if features > _MOST_FEATURES or (np.diff([-1, *columns.tolist(), features]) < 1).any():
        raise ValueError("columns do not rise within the features")
    whole = np.zeros((len(labels), features), dtype=np.float32)
    whole[:, columns] = weight
    own = dict(zip(factors, numbers, strict=True))
    return StoredCompanion(NgramModel(tuple(labels), whole, bias.astype(np.float32)), own)
