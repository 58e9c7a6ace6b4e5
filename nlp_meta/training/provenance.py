"""What a meta-model tells of its training, free of machine paths; the model card reads it."""

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
from nlp_meta.settings import GenerationTraining, MetaTraining
from nlp_meta.training.start import examples_before

_ELSEWHERE = ("run", "model", "generation", "hub")
"""Sections of a config that a record keeps elsewhere, or not at all."""


def describe_run(
    settings: MetaTraining | GenerationTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    ended: MetaTrained,
    trials: Mapping[str, Sequence[Trial]],
) -> dict[str, object]:
    """Settings, tasks with their licences, results, time and hardware of a finished run."""
    return {
        **_common(settings, train, validation, steps=ended.step),
        "outer_steps": ended.step,
        "best_step": ended.best_step,
        "best_score": ended.best_score,
        "examples": ended.examples + examples_before(settings.run.init_from),
        "init_from": _find_start(settings.run.init_from),
        **{
            ("trials" if skill == CLASSIFICATION else f"{skill}_trials"): [
                asdict(one) for one in some
            ]
            for skill, some in trials.items()
        },
    }


def describe_draft(
    settings: MetaTraining | GenerationTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    checkpoint: Checkpoint,
) -> dict[str, object]:
    """The same of a run that has come to a checkpoint."""
    return {
        **_common(settings, train, validation, steps=checkpoint.step),
        "unfinished": True,
        "outer_steps": checkpoint.step,
        "best_step": checkpoint.record["best_step"],
        "best_score": checkpoint.record["best_score"],
        "examples": checkpoint.record["examples"] + examples_before(settings.run.init_from),
        "init_from": _find_start(settings.run.init_from),
        "trials": [],
    }


def describe_hardware() -> str:
    """Devices, cores and threads of this machine."""
    devices = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    cpu = f"{os.cpu_count()} CPU cores ({torch.backends.cpu.get_cpu_capability()})"
    return ", ".join([*devices, cpu, f"{torch.get_num_threads()} threads a process"])


def _common(
    settings: MetaTraining | GenerationTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    *,
    steps: int,
) -> dict[str, object]:
    # Folders of the machine that trained are no part of what a model is.
    names = [Path(card).stem if card.endswith(".md") else card for card in settings.data.cards]
    hidden = replace(settings.data, root=None, cards=names)
    own = asdict(replace(settings, data=hidden))
    own = {name: block for name, block in own.items() if name not in _ELSEWHERE}
    tasks = {
        "meta_train": [task.name for task in train],
        "meta_validation": [task.name for task in validation],
    }
    return {
        "settings": own,
        "seed": settings.run.seed,
        **tasks,
        "data": describe_data(settings.data.cards, tasks),
        "seconds": _seconds(Path(settings.run.output_dir) / LOG, steps=steps),
        "hardware": describe_hardware(),
    }


def _find_start(init_from: str | None) -> Mapping[str, Any] | None:
    """What a run went on from: its place on the Hub if it has one, and all tasks seen so far."""
    if init_from is None:
        return None
    folder, record = find_model(init_from, role=START)
    source = source_of(init_from, folder)
    place = {"name": None, "commit": None} if source is None else asdict(source)
    own, earlier = record.provenance, record.provenance.get("init_from") or {}
    return place | {
        use: list(dict.fromkeys([*own.get(use, ()), *earlier.get(use, ())]))
        for use in ("meta_train", "meta_validation")
    }


def _seconds(log: Path, *, steps: int) -> float | None:
    """Time of all outer steps, those before a resumption too; None where some left no line."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    if len(lines) != steps:
        return None
    return sum(float(json.loads(line)["seconds"]) for line in lines)
