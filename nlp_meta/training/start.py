"""Where a run begins: meta-parameters drawn anew, or those of another start."""

import torch
from torch import Tensor

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.encoders.lora import BIAS, WEIGHT
from nlp_meta.errors import MetaModelError
from nlp_meta.hub.records import START, find_model
from nlp_meta.meta.inner_loop import learned_step_sizes
from nlp_meta.models.meta_model import load_meta_parameters
from nlp_meta.settings import MetaTraining
from nlp_meta.training.plan import Objectives, draw_meta_parameters


def begin(objectives: Objectives, settings: MetaTraining) -> dict[str, Tensor]:
    """Meta-parameters at the start of a run: drawn anew, or those of another start.

    Raises:
        MetaModelError: `run.init_from` is of another backbone, adapter, label set or skill.
    """
    generator = torch.Generator().manual_seed(settings.run.seed)
    fresh = draw_meta_parameters(objectives, generator)
    saved: dict[str, Tensor] = {}
    if settings.run.init_from is not None:
        saved = _load_start(settings.run.init_from, objectives)
        for name, value in fresh.items():
            if name not in saved or saved[name].shape != value.shape:
                raise MetaModelError(
                    f"cannot begin from '{settings.run.init_from}': its '{name}' does not fit and "
                    "a start of the same backbone, adapter, labels and skills is needed; change "
                    "`run.init_from`, or set it to null"
                )
        fresh = {name: saved[name].clone() for name in fresh}
    if settings.inner.learned_step_sizes:
        sizes = learned_step_sizes(_adapted(objectives, fresh))
        fresh |= {name: saved.get(name, value) for name, value in sizes.items()}
    return fresh


def examples_before(init_from: str | None) -> int:
    """What the start of a run was trained on, so that counts of whole histories compare."""
    if init_from is None:
        return 0
    _, record = find_model(init_from, role=START)
    return int(record.provenance["examples"])


def _load_start(init_from: str, objectives: Objectives) -> dict[str, Tensor]:
    """The tensors of another start that some objectives move."""
    folder, record = find_model(init_from, role=START)
    objective = next(iter(objectives.values()))
    with_head = CLASSIFICATION in objectives and bool(record.labels)
    return load_meta_parameters(folder, record, objective, with_head=with_head)


def _adapted(objectives: Objectives, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor that adapts, the head of prototypes included."""
    if CLASSIFICATION not in objectives:
        return fresh
    last = objectives[CLASSIFICATION].plan.head[-1]
    return {**{last + suffix: fresh[next(iter(fresh))] for suffix in (WEIGHT, BIAS)}, **fresh}
