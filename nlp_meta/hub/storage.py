"""Saving and loading models in PEFT's own format.

A folder holds an ordinary PEFT adapter with its head, the tokenizer, one JSON file with
what PEFT has no place for, character n-grams where the model has them, and a model card
that shows how to read it without this package. The writer of `nlp_meta/files/outputs.py` lists
these files in the record and puts the folder in its place.

N-grams are two files, safetensors and JSON, of which PEFT knows nothing: it reads the adapter
as if they were not there. Only the columns that hold a weight are written.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as numpy_tensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from nlp_meta.encoders.backbone import Backbone, resolve_name
from nlp_meta.encoders.lora import LORA_A, LORA_B, LoraPlan, lora_shapes
from nlp_meta.encoders.seq2seq import Seq2Seq
from nlp_meta.errors import MetaModelError
from nlp_meta.files.outputs import Layout, write_folder
from nlp_meta.hub.card_sections import CardFacts
from nlp_meta.hub.model_card import build_card
from nlp_meta.hub.pull import (
    ADAPTER,
    CARD,
    COMPANION_FACTS,
    COMPANION_WEIGHTS,
    HEAD,
    MODEL_FILES,
    RECORD,
)
from nlp_meta.hub.records import START, Record
from nlp_meta.objectives.ngrams import CHARACTERS, ORDERS, NgramModel

_RUN_LOG = "log.jsonl"
"""What a run of the outer loop leaves in the folder that its meta-model is saved to."""
_FORMAT, _NGRAMS_FORMAT = 2, 1
_PEFT_PREFIX = "base_model.model."
_MOST_FEATURES = 2**24
_READ_AS = {"format": _NGRAMS_FORMAT, "orders": list(ORDERS), "characters": CHARACTERS}
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
    numpy_tensors.save_file(tensors, folder / COMPANION_WEIGHTS)
    facts = {
        **_READ_AS,
        "labels": list(model.labels),
        "features": model.weight.shape[1],
        "factors": dict(companion.factors),
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    (folder / COMPANION_FACTS).write_text(text + "\n", encoding="utf-8")


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
    names = (COMPANION_WEIGHTS, COMPANION_FACTS)
    if not required and not any((folder / name).exists() for name in names):
        return None
    try:
        facts = json.loads((folder / COMPANION_FACTS).read_text(encoding="utf-8"))
        tensors = numpy_tensors.load_file(folder / COMPANION_WEIGHTS)
        companion = _read_companion(facts, tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise MetaModelError(
            f"cannot load the n-grams in '{folder}': {' or '.join(names)} is missing or damaged "
            "and the files as they were saved are needed; save or download the model again"
        ) from error
    stored = companion.model.labels
    if stored != tuple(labels) or set(companion.factors) != set(factors):
        raise MetaModelError(
            f"cannot use the n-grams in '{folder}': they are of the labels {', '.join(stored)} "
            f"with factors for {sorted(companion.factors)}, and those of the model beside them, "
            f"{', '.join(labels)} and {sorted(factors)}, are needed; save or download the model "
            "again"
        )
    return companion


def _read_companion(
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
    model = NgramModel(tuple(labels), whole, bias.astype(np.float32))
    return StoredCompanion(model, dict(zip(factors, numbers, strict=True)))


def save_model(
    folder: Path,
    record: Record,
    weights: Mapping[str, Tensor],
    *,
    backbone: Backbone | Seq2Seq,
    plan: LoraPlan,
    companion: StoredCompanion | None = None,
    replace: bool = False,
) -> None:
    """Write a model; nothing in `folder` is touched before all of it is written.

    Args:
        replace: As in `check_folder` of `nlp_meta/files/outputs.py`.

    Raises:
        OutputError: Something in `folder` would be lost, or the disk does not take the model.
    """
    with write_folder(folder, layout_of(record.role, record.skills), replace=replace) as draft:
        stored = _write(draft.path, record, weights, backbone=backbone, plan=plan)
        if companion is not None:
            save_companion(draft.path, companion)
        card = build_card(CardFacts(stored, companion is not None))
        (draft.path / CARD).write_text(card, encoding="utf-8")
        draft.record = stored


def layout_of(role: str, skills: Sequence[str]) -> Layout:
    """What a folder of such a model holds; a start may lie beside the log of its run."""
    return Layout(
        what="the meta-model" if role == START else "the adapted model",
        record=RECORD,
        names=MODEL_FILES,
        same={"role": role, "skills": list(skills)},
        run=(_RUN_LOG,) if role == START else (),
    )


def load_weights(
    folder: Path, *, backbone: Backbone | Seq2Seq, plan: LoraPlan, with_head: bool = True
) -> dict[str, Tensor]:
    """Read the tensors that `save_model` wrote, by this package's names.

    Args:
        with_head: Read the classifier of a mean-pooled encoder too.

    Raises:
        MetaModelError: A file is missing, damaged, or of another architecture.
    """
    try:
        stored = load_file(folder / ADAPTER)
        if backbone.pooling == "mean" and with_head:
            stored |= load_file(folder / HEAD)
    except (OSError, SafetensorError) as error:
        raise MetaModelError(
            f"cannot load the weights in '{folder}': {ADAPTER} is missing or damaged and the file "
            "as it was saved is needed; save or download the model again"
        ) from error
    inner = "encoder." if backbone.pooling == "mean" else ""
    weights = {_own_name(name, inner): value.to(backbone.device) for name, value in stored.items()}
    wanted = [name + suffix for name in plan.scales for suffix in (LORA_A, LORA_B)]
    missing = [name for name in wanted if name not in weights]
    if missing:
        raise MetaModelError(
            f"cannot load the weights in '{folder}': '{missing[0]}' is not among them and an "
            "adapter for this backbone is needed; check `model` in its record"
        )
    for name, shape in lora_shapes(backbone, plan).items():
        if tuple(weights[name].shape) != shape:
            raise MetaModelError(
                f"cannot load the weights in '{folder}': '{name}' is {tuple(weights[name].shape)} "
                f"and {shape} is needed: they are of another base than '{backbone.name}'; check "
                "`model` in its record"
            )
    return weights


def _write(
    folder: Path,
    record: Record,
    weights: Mapping[str, Tensor],
    *,
    backbone: Backbone | Seq2Seq,
    plan: LoraPlan,
) -> dict[str, Any]:
    """Write everything but n-grams, card and record; the record as it is to be written."""
    mean = backbone.pooling == "mean"
    adapter: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    for name, value in {**_unmoved(backbone, plan), **weights}.items():
        plain = value.detach().float().cpu().contiguous()
        if mean and name.startswith("classifier."):
            head[name] = plain
        else:
            adapter[_peft_name(name.removeprefix("encoder.") if mean else name)] = plain
    save_file(adapter, folder / ADAPTER, metadata={"format": "pt"})
    if mean and record.labels:
        save_file(head, folder / HEAD, metadata={"format": "pt"})
    config = copy.copy(plan.config)
    config.base_model_name_or_path = resolve_name(backbone.name)
    config.inference_mode = True
    # The commit of a base from the Hub, so that another machine reads the same weights.
    config.revision = getattr(backbone.config, "_commit_hash", None) or record.model.get("revision")
    config.save_pretrained(str(folder))
    backbone.tokenizer.save_pretrained(str(folder))
    stored = {"format": _FORMAT, **asdict(record)}
    stored["model"]["revision"] = config.revision
    return stored


def _unmoved(backbone: Backbone | Seq2Seq, plan: LoraPlan) -> dict[str, Tensor]:
    """Parameters of the head that do not move (a norm, say): PEFT stores its modules whole."""
    saved = tuple(plan.config.modules_to_save or ())
    moving = {f"{name}{suffix}" for name in plan.head for suffix in (".weight", ".bias")}
    return {
        name: value
        for name, value in backbone.model.named_parameters()
        if name not in moving and any(part in saved for part in name.split("."))
    }


def _peft_name(name: str) -> str:
    for suffix in (LORA_A, LORA_B):
        if name.endswith(suffix):
            return f"{_PEFT_PREFIX}{name}.weight"
    return _PEFT_PREFIX + name


def _own_name(name: str, inner: str) -> str:
    if not name.startswith(_PEFT_PREFIX):
        return name
    name = name.removeprefix(_PEFT_PREFIX)
    return inner + (name.removesuffix(".weight") if ".lora_" in name else name)
