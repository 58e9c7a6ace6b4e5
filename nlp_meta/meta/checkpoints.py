"""Checkpoints of the outer loop, complete or not there at all.

A checkpoint is a folder of two files: `state.safetensors` and `state.json`, which
holds the other's hash. It is written beside its place and renamed, so that a process
killed at any moment leaves either the whole of it or nothing.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nlp_meta.errors import CheckpointError

TENSORS, RECORD = "state.safetensors", "state.json"
KEPT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The outer loop after `step` outer steps.

    Attributes:
        tensors: Everything that has a shape, by name.
        record: Everything else, as JSON takes it.
    """

    step: int
    tensors: Mapping[str, Tensor]
    record: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint beside its place, rename it, and keep only it and the one before."""
    target = folder / f"step_{checkpoint.step:08d}"
    beside = folder / f".{target.name}.part"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()
    }
    save_file(tensors, beside / TENSORS)
    record = {
        "step": checkpoint.step,
        "sha256": _hash(beside / TENSORS),
        "record": dict(checkpoint.record),
    }
    (beside / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    for name in (TENSORS, RECORD):
        with (beside / name).open("rb") as file:
            os.fsync(file.fileno())
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)
    found = _complete(folder)
    newest = found.index(target) + 1
    # Later steps are of an older run, which this one has replaced.
    for other in found[: max(newest - KEPT, 0)] + found[newest:]:
        shutil.rmtree(other)
    return target


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest checkpoint below a folder.

    Raises:
        CheckpointError: There is none, or the newest one is damaged.
    """
    found = _complete(folder)
    if not found:
        raise CheckpointError(
            f"cannot resume from '{folder}': it holds no complete checkpoint and one is needed; "
            "leave out `--resume` to start anew"
        )
    path = found[-1]
    try:
        stored = json.loads((path / RECORD).read_text(encoding="utf-8"))
        intact = stored["sha256"] == _hash(path / TENSORS)
        tensors = load_file(path / TENSORS) if intact else {}
        checkpoint = Checkpoint(int(stored["step"]), tensors, stored["record"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if not intact:
        raise _damaged(path)
    return checkpoint


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into tensors and what JSON takes."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for place, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{place}.{key}"] = value
            else:
                plain[f"{place}.{key}"] = value
    return tensors, plain


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
) -> None:
    """Give an optimizer back what `flatten_optimizer` took from one like it."""
    state: dict[int, dict[str, Any]] = {}
    named = {
        n.removeprefix("optimizer."): v for n, v in tensors.items() if n.startswith("optimizer.")
    }
    for name, value in {**plain, **named}.items():
        place, key = name.split(".", 1)
        state.setdefault(int(place), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _complete(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*")) if folder.is_dir() else []


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"cannot resume from '{path}': its files are incomplete or damaged and whole ones are "
        "needed; delete that folder to resume from the checkpoint before it"
    )
