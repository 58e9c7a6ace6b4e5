"""Provenance: a meta-model tells of its training, free of machine paths, and its card reads it."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.tasks import Task
from nlp_meta.hub.data_cards import describe_data
from nlp_meta.hub.pull import source_of
from nlp_meta.hub.records import START, find_model
from nlp_meta.meta.choice import Trial
from nlp_meta.meta.outer_loop import MetaTrained
from nlp_meta.meta.state import LOG, Checkpoint
from nlp_meta.settings import MetaTraining
from nlp_meta.training.plan import examples_before

_ELSEWHERE = ("skills", "run", "model", "hub")
"""Sections of a config that a record keeps elsewhere, or not at all."""


def describe_run(
    settings: MetaTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    ended: MetaTrained,
    trials: Mapping[str, Sequence[Trial]],
) -> dict[str, object]:
    """Settings, tasks with their licenses, results, time and hardware of a finished run."""
    reached = {name: getattr(ended, name) for name in ("best_step", "best_score", "examples")}
    chosen = {
        "trials" if skill == CLASSIFICATION else f"{skill}_trials": list(map(asdict, of_skill))
        for skill, of_skill in trials.items()
    }
    return _describe(settings, train, validation, steps=ended.step, reached=reached) | chosen


def describe_draft(
    settings: MetaTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    checkpoint: Checkpoint,
) -> dict[str, object]:
    """The same of a run that has come to a checkpoint."""
    steps, reached = checkpoint.step, checkpoint.record
    known = _describe(settings, train, validation, steps=steps, reached=reached)
    return known | {"unfinished": True, "trials": []}


def describe_hardware() -> str:
    """Devices, cores and threads of this machine."""
    devices = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    cpu = f"{os.cpu_count()} CPU cores ({torch.backends.cpu.get_cpu_capability()})"
    return ", ".join([*devices, cpu, f"{torch.get_num_threads()} threads a process"])


def _describe(
    settings: MetaTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    *,
    steps: int,
    reached: Mapping[str, Any],
) -> dict[str, object]:
    # Folders of the machine that trained are no part of what a model is.
    names = [Path(card).stem if card.endswith(".md") else card for card in settings.data.cards]
    blocks = asdict(replace(settings, data=replace(settings.data, root=None, cards=names)))
    tasks = {
        "meta_train": [task.name for task in train],
        "meta_validation": [task.name for task in validation],
    }
    return {
        "settings": {name: block for name, block in blocks.items() if name not in _ELSEWHERE},
        "seed": settings.run.seed,
        **tasks,
        "data": describe_data(settings.data.cards, tasks),
        "seconds": _seconds(Path(settings.run.output_dir) / LOG, steps=steps),
        "hardware": describe_hardware(),
        "outer_steps": steps,
        "best_step": reached["best_step"],
        "best_score": reached["best_score"],
        "examples": reached["examples"] + examples_before(settings.run.init_from),
        "init_from": _find_start(settings.run.init_from),
    }


def _find_start(init_from: str | None) -> Mapping[str, Any] | None:
    """What a run went on from: its place on the Hub if it has one, and all tasks seen so far."""
    if init_from is None:
        return None
    folder, record = find_model(init_from, role=START)
    source = source_of(init_from, folder)
    place = {"name": None, "commit": None} if source is None else asdict(source)
    last, earlier = record.provenance, record.provenance.get("init_from") or {}
    return place | {
        use: list(dict.fromkeys([*last.get(use, ()), *earlier.get(use, ())]))
        for use in ("meta_train", "meta_validation")
    }


def _seconds(log: Path, *, steps: int) -> float | None:
    """Time of all outer steps, those before a resumption too; None where some left no line."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    if len(lines) != steps:
        return None
    return sum(float(json.loads(line)["seconds"]) for line in lines)
