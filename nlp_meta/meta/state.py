"""Where a run of the outer loop stands: its state, its checkpoints, its log, its stop signals.

A checkpoint is a folder of two files: `state.safetensors` and `state.json`, which
holds the hashes of the other and of itself. A process killed at any moment leaves either the
whole of it or nothing. A run holds its log while it lasts, so that no second one writes there.
"""

import json
import math
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nlp_meta.errors import CheckpointError, OutputError
from nlp_meta.files.locks import busy, hold, lock
from nlp_meta.files.outputs import (
    RUN_LOG,
    Layout,
    append_text,
    read_folder,
    remove_folder,
    write_folder,
)

TENSORS, RECORD = "state.safetensors", "state.json"
KEPT = 2
_LAYOUT = Layout(what="a checkpoint", record=RECORD, names=(TENSORS,))


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


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, first: bool = False) -> Path:
    """Write a checkpoint, and keep only it and the one before.

    Args:
        first: Of its run: all others are of an older one, which it replaces.

    Raises:
        OutputError: The disk does not take it; the earlier ones stay.
    """
    target = folder / f"step_{checkpoint.step:08d}"
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()
    }
    with write_folder(target, _LAYOUT, replace=True, argument="run.output_dir") as draft:
        save_file(tensors, draft.path / TENSORS)
        draft.record = {"step": checkpoint.step, "record": dict(checkpoint.record)}
    checkpoints = _complete(folder)
    newest = checkpoints.index(target) + 1
    kept = checkpoints[newest - 1 if first else max(newest - KEPT, 0) : newest]
    for other in checkpoints:
        if other not in kept:
            remove_folder(other, ours=f"{TENSORS}|{RECORD}")
    return target


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest checkpoint below a folder.

    Raises:
        CheckpointError: There is none, or the newest one is damaged.
    """
    path = _newest(folder)
    try:
        stored = read_folder(path, _LAYOUT)
        return Checkpoint(int(stored["step"]), load_file(path / TENSORS), stored["record"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot resume from '{path}': its files are incomplete or damaged and whole ones are "
            "needed; delete that folder to resume from the checkpoint before it"
        ) from error


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
    for name, value in {**plain, **_below("optimizer.", tensors)}.items():
        place, key = name.split(".", 1)
        state.setdefault(int(place), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _complete(folder: Path) -> list[Path]:
    # A copy that a person made, such as step_00000100_best, is none.
    return sorted(path for path in folder.glob("step_*") if path.name[5:].isdecimal())


def _newest(folder: Path) -> Path:
    checkpoints = _complete(folder)
    if not checkpoints:
        raise CheckpointError(
            f"cannot resume from '{folder}': it holds no complete checkpoint and one is needed; "
            "start anew without `run.resume`"
        )
    return checkpoints[-1]


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


CHECKPOINTS = "checkpoints"
Fingerprint = Mapping[str, object]
"""All that decides a run's numbers: settings, and hashes of the rows of its tasks, by name."""
ROWS = "rows of "
META, BEST, MEAN = "meta.", "best.", "mean."
_NUMBERS = ("examples", "best_score", "best_step", "judged_since_best", "averaged")


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

    def checkpoint(self, fingerprint: Fingerprint) -> Checkpoint:
        """Everything that a later process needs to go on."""
        moving, plain = flatten_optimizer(self.optimizer)
        tensors = {META + name: value for name, value in self.meta_parameters.items()}
        tensors |= {BEST + name: value for name, value in self.best.items()} | moving
        tensors |= {MEAN + name: value for name, value in self.mean.items()}
        record: dict[str, Any] = {
            "fingerprint": dict(fingerprint),
            "optimizer": plain,
            **{name: getattr(self, name) for name in _NUMBERS},
        }
        return Checkpoint(self.step, tensors, record)

    def restore(self, saved: Checkpoint, fingerprint: Fingerprint) -> None:
        """Go back to a checkpoint; the meta-parameters are overwritten in place.

        Raises:
            CheckpointError: It was saved under other settings, on other data or for another
                model; names what differs.
        """
        names = {META + name for name in self.meta_parameters}
        changes = describe_changes(saved.record["fingerprint"], fingerprint)
        if not changes and not names <= saved.tensors.keys():
            changes = "the model has other parameters"
        if changes:
            raise CheckpointError(
                f"cannot resume at outer step {saved.step}: the run so far had other settings or "
                f"data, and the same are needed: {changes}; restore them, or start anew in another "
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
        for name in _NUMBERS:
            setattr(self, name, saved.record[name])


def best_parameters(saved: Checkpoint) -> dict[str, Tensor]:
    """The best judged meta-parameters of a checkpoint; those found last where none was judged."""
    best, mean = _below(BEST, saved.tensors), _below(MEAN, saved.tensors)
    return best or mean or _below(META, saved.tensors)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One outer step, as the log, the trackers and a progress bar get it.

    Attributes:
        examples: As in `Progress`.
        loss_before: Mean query loss at the starting point, in nats; measured at the first
            step and where one is judged, None elsewhere.
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
    loss_before: float | None
    loss_after: float
    adaptation_size: float
    gradient_norm: float
    skills: dict[str, dict[str, float | None]]
    score: float | None
    best_score: float | None
    seconds: float


def describe_changes(before: Fingerprint, now: Fingerprint, *, most: int = 5) -> str:
    """Say key by key what differs between two runs; empty where nothing does."""
    absent = object()
    changes = []
    for name in [*before, *(name for name in now if name not in before)]:
        old, new = before.get(name, absent), now.get(name, absent)
        if old == new:
            continue
        if old is absent or new is absent:
            changes.append(f"{name} {'is new' if old is absent else 'is there no more'}")
        elif name.startswith(ROWS):
            changes.append(f"{name} have other texts or labels")
        else:
            changes.append(f"`{name}` was {old} and is {new}")
    rest = [f"{len(changes) - most} more differences"] if len(changes) > most else []
    return ", ".join([*changes[:most], *rest])


def check_run_folder(folder: Path, *, resume: bool, replace: bool) -> None:
    """Stop where a folder holds a run that would be lost, or that goes on at this moment.

    Args:
        resume: Go on with the run that is there.
        replace: It may be lost.

    Raises:
        OutputError: There is a run, finished or not.
    """
    log = folder / RUN_LOG
    if log.is_file():
        with lock(log, shared=True) as free:
            if not free:
                raise busy(folder, argument="run.output_dir")
    steps = len(log.read_bytes().splitlines()) if log.is_file() else 0
    checkpoints = _complete(folder / CHECKPOINTS)
    if resume or replace or not (steps or checkpoints):
        return
    newest = f", the last checkpoint at {checkpoints[-1].name}" if checkpoints else ""
    raise OutputError(
        f"cannot begin a run in '{folder}': a run of {steps} steps is there{newest}, and it is not "
        "lost without a word; go on with it with `run.resume`, name another folder with "
        "`run.output_dir`, or replace it with `run.replace`"
    )


@contextmanager
def hold_run(folder: Path, *, resume: bool, replace: bool) -> Iterator[None]:
    """Keep other processes from running in a folder as long as this one does.

    Args:
        resume, replace: As in `check_run_folder`.

    Raises:
        OutputError: Another one does, a run would be lost, or the folder cannot be written to.
    """
    check_run_folder(folder, resume=resume, replace=replace)
    if resume:
        _newest(folder / CHECKPOINTS)
    append_text(folder / RUN_LOG, "", argument="run.output_dir")
    with hold(folder / RUN_LOG, argument="run.output_dir"):
        yield


def begin_log(folder: Path, *, after: int) -> None:
    """Keep the lines of the first `after` outer steps, drop what a killed run wrote later."""
    path, kept, read = folder / RUN_LOG, 0, 0
    for line in path.read_bytes().splitlines(keepends=True):
        read += len(line)
        if after and line.endswith(b"\n") and _step_of(line) <= after:
            kept = read
    os.truncate(path, kept)


def _step_of(line: bytes) -> float:
    """The step of a line of the log; infinite where it was cut off or damaged."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def write_log(folder: Path, record: StepRecord) -> None:
    """Add one JSON line."""
    append_text(folder / RUN_LOG, json.dumps(asdict(record)) + "\n", argument="run.output_dir")


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
