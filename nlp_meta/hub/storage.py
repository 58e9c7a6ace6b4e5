"""Saving and loading models in PEFT's own format.

A folder holds an ordinary PEFT adapter with its head, the tokenizer, one JSON file with
what PEFT has no place for, character n-grams where the model has them, and a model card
that shows how to read it without this package. The writer of `nlp_meta/files/outputs.py` lists
these files in the record and puts the folder in its place.

N-grams are two files, safetensors and JSON, of which PEFT knows nothing: it reads the adapter
as if they were not there. Only the columns that hold a weight are written.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as numpy_tensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.schema import read_object
from nlp_meta.encoders.backbone import Backbone
from nlp_meta.encoders.lora import BIAS, LORA_A, LORA_B, WEIGHT, LoraPlan, lora_shapes
from nlp_meta.encoders.seq2seq import Seq2Seq
from nlp_meta.errors import MetaModelError
from nlp_meta.files.outputs import RUN_LOG, RUN_PAGE, Layout, write_folder
from nlp_meta.hub.bases import BaseWeights, hash_base, name_on_hub, public_name
from nlp_meta.hub.model_card import CardFacts, build_card
from nlp_meta.hub.pull import (
    ADAPTER,
    ADAPTER_CONFIG,
    CARD,
    COMPANION_FACTS,
    COMPANION_WEIGHTS,
    HEAD,
    MODEL_FILES,
    RECORD,
)
from nlp_meta.hub.records import ADAPTED, FORMAT, START, Record, check_tensors, read_header
from nlp_meta.objectives.ngrams import CHARACTERS, ORDERS, NgramModel

"""What a run of the outer loop leaves in the folder that its start is saved to."""
_NGRAMS_FORMAT = 1
_PEFT_PREFIX = "base_model.model."
_MOST_FEATURES, _MOST_NUMBERS = 2**20, 2**28
"""Of n-grams: columns of the whole matrix, and numbers in it, which is 1 GiB."""
_MOST_FACTOR = 100.0
_READ_AS = {"format": _NGRAMS_FORMAT, "orders": list(ORDERS), "characters": CHARACTERS}
"""How texts become n-grams; weights that were fitted otherwise mean nothing here."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredCompanion:
    """What is written beside an adapter.

    Attributes:
        factors: What the log-probabilities of the `encoder` and of the `ngrams` are
            multiplied by; none beside a start, where nothing is mixed yet.
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
    folder: Path, *, labels: Sequence[str], factors: Sequence[str]
) -> StoredCompanion:
    """Read the two files of a model that was saved with n-grams.

    Args:
        labels: Of the model beside it.
        factors: Names of those that must be there.

    Raises:
        MetaModelError: A file is missing or damaged, or belongs to another model.
    """
    try:
        facts = read_object(folder / COMPANION_FACTS)
        stored = facts["labels"]
        if stored == list(labels) and set(facts["factors"]) == set(factors):
            return _read_companion(facts, folder / COMPANION_WEIGHTS)
        shown = ", ".join(map(str, stored))[:200], ", ".join(sorted(facts["factors"]))[:200]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise MetaModelError(
            f"cannot load the n-grams in '{folder}': {COMPANION_WEIGHTS} or {COMPANION_FACTS} is "
            "missing or damaged and the files as they were saved are needed; save or download the "
            "model again"
        ) from error
    raise MetaModelError(
        f"cannot use the n-grams in '{folder}': they are of the labels {shown[0]} with factors for "
        f"{shown[1] or 'nothing'}, and those of the model beside them, {', '.join(labels)[:200]} "
        f"and {', '.join(sorted(factors)) or 'nothing'}, are needed; save or download the model "
        "again"
    )


def _read_companion(facts: Mapping[str, Any], path: Path) -> StoredCompanion:
    """Check and unpack; any of several errors says that something is damaged."""
    if any(facts[name] != value for name, value in _READ_AS.items()):
        raise ValueError("n-grams of another kind")
    labels, features = tuple(facts["labels"]), facts["features"]
    whole = type(features) is int and 0 < features <= _MOST_FEATURES
    # Before anything is read: a few bytes can ask for a matrix that no memory holds.
    if not whole or features * len(labels) > _MOST_NUMBERS:
        raise ValueError("features are no number, or too large a one")
    promised = read_header(path)
    wide = promised["weight"].shape[1:]
    dtypes = {"columns": "I32", "weight": "F32", "bias": "F32"}
    shapes = {"columns": wide, "weight": (len(labels), *wide), "bias": (len(labels),)}
    if {name: tuple(tensor) for name, tensor in promised.items()} != {
        name: (dtypes[name], shapes[name]) for name in shapes
    }:
        raise ValueError("other tensors, or of another shape or type, than the labels need")
    if any(type(value) not in (int, float) for value in facts["factors"].values()):
        raise ValueError("factors are not numbers")
    numbers = [float(value) for value in facts["factors"].values()]
    if not all(0 <= number <= _MOST_FACTOR for number in numbers) or (numbers and not any(numbers)):
        raise ValueError("factors are not numbers, or absurd ones")
    tensors = numpy_tensors.load_file(path)
    columns, weight, bias = tensors["columns"], tensors["weight"], tensors["bias"]
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ValueError("not all numbers are finite")
    if (np.diff([-1, *columns.tolist(), features]) < 1).any():
        raise ValueError("columns do not rise within the features")
    matrix = np.zeros((len(labels), features), dtype=np.float32)
    matrix[:, columns] = weight
    model = NgramModel(labels, matrix, bias)
    return StoredCompanion(model, dict(zip(facts["factors"], numbers, strict=True)))


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
    """What a folder of such a model holds; a start may lie beside the log and page of its run."""
    return Layout(
        what="the start" if role == START else "the adapted model",
        record=RECORD,
        names=MODEL_FILES,
        same={"role": role, "skills": list(skills)},
        run=(RUN_LOG, RUN_PAGE) if role == START else (),
    )


def load_weights(
    folder: Path,
    record: Record,
    *,
    backbone: Backbone | Seq2Seq,
    plan: LoraPlan,
    with_head: bool = True,
) -> dict[str, Tensor]:
    """Read the tensors that `save_model` wrote, by this package's names.

    Args:
        record: Of the model, whose files have been checked.
        with_head: Read the classifier of a mean-pooled encoder too.

    Raises:
        MetaModelError: A file is missing or damaged, lacks a tensor that the record promises,
            holds others, or numbers that are none.
    """
    adapter, head = _promised_shapes(record, backbone, plan)
    if backbone.pooling == "mean":
        files = {ADAPTER: adapter, **({HEAD: head} if record.labels else {})}
    else:
        files = {ADAPTER: adapter | head}
    stored: dict[str, Tensor] = {}
    for name, wanted in files.items():
        check_tensors(folder / name, wanted, head=head, base=backbone.name)
        if name != HEAD or with_head:
            stored |= load_file(folder / name)
    wrong = next((name for name, value in stored.items() if not value.isfinite().all()), None)
    if wrong is not None:
        raise MetaModelError(
            f"cannot load the weights in '{folder}': '{wrong}' holds values that are not finite "
            "numbers, which every answer would be made of, and finite ones are needed; make the "
            "model again"
        )
    inner = "encoder." if backbone.pooling == "mean" else ""
    return {_own_name(name, inner): value.to(backbone.device) for name, value in stored.items()}


def _promised_shapes(
    record: Record, backbone: Backbone | Seq2Seq, plan: LoraPlan
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Shapes of the adapter's and the head's tensors in their files, by their names there."""
    mean = backbone.pooling == "mean"
    inner = "encoder." if mean else ""
    lora = lora_shapes(backbone, plan)
    adapter: dict[str, tuple[int, ...]] = {
        _peft_name(name.removeprefix(inner)): shape for name, shape in lora.items()
    }
    fixed = _unmoved(backbone, plan)
    adapter |= {_peft_name(name): tuple(value.shape) for name, value in fixed.items()}
    labels, classifies = len(record.labels), CLASSIFICATION in record.skills
    rebuilt = record.role != ADAPTED and record.model.get("head") != "shared"
    layers = plan.head[:-1] if rebuilt else plan.head
    head: dict[str, tuple[int, ...]] = {}
    for layer in layers if classifies else ():
        weight = backbone.model.get_parameter(layer + WEIGHT)
        rows = labels if layer == plan.head[-1] else len(weight)
        name = layer if mean else _PEFT_PREFIX + layer
        head |= {name + WEIGHT: (rows, *weight.shape[1:]), name + BIAS: (rows,)}
    return adapter, head


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
    # The commit of a base from the Hub, so that another machine reads the same weights.
    revision = getattr(backbone.config, "_commit_hash", None) or record.model.get("revision")
    name, revision = name_on_hub(backbone.name) or (backbone.name, revision)
    config = {
        "peft_type": "LORA",
        "peft_version": version("peft"),
        **plan.config,
        "base_model_name_or_path": public_name(name),
        "revision": revision,
        "bias": "none",
        "inference_mode": True,
    }
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")
    backbone.tokenizer.save_pretrained(str(folder))
    values = {"format": FORMAT, **asdict(record)}
    values["model"] |= {"model_name_or_path": name, "revision": revision}
    values["base"] = asdict(BaseWeights(name, revision, hash_base(name, revision=revision)))
    return values


def _unmoved(backbone: Backbone | Seq2Seq, plan: LoraPlan) -> dict[str, Tensor]:
    """Parameters of the head that do not move (a norm, say): PEFT stores its modules whole."""
    saved = tuple(plan.config.get("modules_to_save") or ())
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
