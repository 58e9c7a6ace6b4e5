"""Where a run of the outer loop stands: its state, its checkpoints, its log, its stop signals.

A checkpoint is a folder of two files: `state.safetensors` and `state.json`, which
holds the other's hash. It is written beside its place and renamed, so that a process
killed at any moment leaves either the whole of it or nothing.
"""

import hashlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
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
    checkpoints = _complete(folder)
    newest = checkpoints.index(target) + 1
    # Later steps are of an older run, which this one has replaced.
    for other in checkpoints[: max(newest - KEPT, 0)] + checkpoints[newest:]:
        shutil.rmtree(other)
    return target


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest checkpoint below a folder.

    Raises:
        CheckpointError: There is none, or the newest one is damaged.
    """
    checkpoints = _complete(folder)
    if not checkpoints:
        raise CheckpointError(
            f"cannot resume from '{folder}': it holds no complete checkpoint and one is needed; "
            "start anew without `run.resume`"
        )
    path = checkpoints[-1]
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


LOG = "log.jsonl"
META, BEST, MEAN = "meta.", "best.", "mean."


@dataclass(slots=True)
class Progress:
    """The state of a run; all of it goes into a checkpoint.

    Attributes:
        examples: Examples that went through forward and backward so far, over all processes.
        best: Meta-parameters at the best judgement; empty before the first.
        mean: Of the meta-parameters over the `averaged` last outer steps; empty where none.
    """

    meta_parameters: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    step: int = 0
    examples: int = 0
    best_score: float | None = None
    best_step: int = 0
    judged_since_best: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    averaged: int = 0
    mean: dict[str, Tensor] = field(default_factory=dict)

    @property
    def current(self) -> dict[str, Tensor]:
        """The mean where steps are averaged, else the meta-parameters as they are."""
        return self.mean or self.meta_parameters

    def average(self) -> None:
        """Let the meta-parameters where they stand count for one step of the mean."""
        self.averaged += 1
        for name, value in self.meta_parameters.items():
            before = self.mean.get(name, torch.zeros_like(value))
            self.mean[name] = before + (value.detach() - before) / self.averaged

    def judge(self, score: float) -> None:
        """Keep the current ones if no earlier judgement was as good."""
        self.judged_since_best += 1
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best_step, self.judged_since_best = score, self.step, 0
            self.best = {name: value.clone() for name, value in self.current.items()}

    def checkpoint(self, fingerprint: str) -> Checkpoint:
        """Everything that a later process needs to go on."""
        moving, plain = flatten_optimizer(self.optimizer)
        tensors = {META + name: value for name, value in self.meta_parameters.items()}
        tensors |= {BEST + name: value for name, value in self.best.items()} | moving
        tensors |= {MEAN + name: value for name, value in self.mean.items()}
        record: dict[str, Any] = {
            "fingerprint": fingerprint,
            "optimizer": plain,
            "examples": self.examples,
            "best_score": self.best_score,
            "best_step": self.best_step,
            "judged_since_best": self.judged_since_best,
            "averaged": self.averaged,
        }
        return Checkpoint(self.step, tensors, record)

    def restore(self, saved: Checkpoint, fingerprint: str) -> None:
        """Go back to a checkpoint; the meta-parameters are overwritten in place.

        Raises:
            CheckpointError: It was saved under other settings or for another model.
        """
        names = {META + name for name in self.meta_parameters}
        if saved.record["fingerprint"] != fingerprint or not names <= saved.tensors.keys():
            raise CheckpointError(
                f"cannot resume at outer step {saved.step}: the checkpoint was saved under other "
                "settings and the same are needed; restore the config, or start anew in another "
                "`run.output_dir`"
            )
        for name, value in self.meta_parameters.items():
            value.copy_(saved.tensors[META + name])
            if BEST + name in saved.tensors:
                self.best[name] = saved.tensors[BEST + name].to(value.device)
            if MEAN + name in saved.tensors:
                self.mean[name] = saved.tensors[MEAN + name].to(value.device)
        restore_optimizer(self.optimizer, saved.tensors, saved.record["optimizer"])
        self.step = saved.step
        self.examples = int(saved.record["examples"])
        self.best_score = saved.record["best_score"]
        self.best_step = int(saved.record["best_step"])
        self.judged_since_best = int(saved.record["judged_since_best"])
        self.averaged = int(saved.record["averaged"])


def best_parameters(saved: Checkpoint) -> dict[str, Tensor]:
    """The best judged meta-parameters of a checkpoint; those found last where none was judged."""
    by_prefix = {
        prefix: {
            name.removeprefix(prefix): value
            for name, value in saved.tensors.items()
            if name.startswith(prefix)
        }
        for prefix in (BEST, MEAN, META)
    }
    return by_prefix[BEST] or by_prefix[MEAN] or by_prefix[META]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One outer step, as the log, the trackers and a progress bar get it.

    Attributes:
        examples: As in `Progress`.
        loss_before: Mean query loss at the starting point, in nats.
        loss_after: Mean query loss at the fast weights; where the two meet, adaptation
            has died.
        adaptation_size: Mean length of the way from the start to the fast weights.
        gradient_norm: Length of the mean meta-gradient, before clipping.
        skills: The losses and the number of episodes of each skill in the meta-batch, and its
            score where this step was judged.
        score: Validation score, where this step was judged.
        seconds: Of this step, judgement included.
    """

    step: int
    examples: int
    learning_rate: float
    loss_before: float
    loss_after: float
    adaptation_size: float
    gradient_norm: float
    skills: dict[str, dict[str, float]]
    score: float | None
    best_score: float | None
    seconds: float


def begin_log(folder: Path, *, after: int) -> None:
    """Keep the lines of the first `after` outer steps, drop what a killed run wrote later."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOG
    lines = path.read_text(encoding="utf-8").splitlines() if after and path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= after]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def write_log(folder: Path, record: StepRecord) -> None:
    """Add one JSON line."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(record)) + "\n")


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn SIGTERM and Ctrl-C into an event, so that the running outer step can end.

    A second signal of the same kind acts as it always did. Outside the main thread
    signals cannot be caught and stay as they are.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    kinds = (signal.SIGTERM, signal.SIGINT)
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def stop(kind: int, _: object) -> None:
        stopped.set()
        signal.signal(kind, before[signal.Signals(kind)])

    for kind in kinds:
        signal.signal(kind, stop)
    try:
        yield stopped
    finally:
        for kind in kinds:
            signal.signal(kind, before[kind])
