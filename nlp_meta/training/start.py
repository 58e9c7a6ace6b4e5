"""Where a run begins: meta-parameters drawn anew, or those of another meta-model."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.encoders.lora import BIAS, WEIGHT, start_weights
from nlp_meta.errors import MetaModelError, SettingsError
from nlp_meta.hub.records import ALIGNMENT_META_MODEL, META_MODEL, OTHER_STARTS, find_model
from nlp_meta.hub.storage import load_weights
from nlp_meta.meta.deviations import begin_deviations
from nlp_meta.meta.inner_loop import learned_step_sizes, restore_step_sizes
from nlp_meta.models.retrieval import read_temperature
from nlp_meta.objectives.retrieval import TEMPERATURE
from nlp_meta.settings import MetaTraining
from nlp_meta.training.plan import Objectives, draw_meta_parameters


def begin(
    objectives: Objectives, settings: MetaTraining, *, tasks: Sequence[str]
) -> dict[str, Tensor]:
    """Meta-parameters at the start of a run: drawn anew, or those of another meta-model.

    Args:
        tasks: Names of those that get a deviation of their own, where the config asks for one.

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
                    "a meta-model of the same backbone, adapter, labels and skills is "
                    "needed; change `run.init_from`, or set it to null"
                )
        fresh = {name: saved[name].clone() for name in fresh}
    if settings.inner.learned_step_sizes:
        if settings.outer.algorithm not in ("fomaml", "maml"):
            raise SettingsError(
                f"cannot learn step sizes with '{settings.outer.algorithm}': an algorithm with a "
                "query gradient is needed; set `outer.algorithm` to fomaml or maml"
            )
        sizes = learned_step_sizes(_adapted(objectives, fresh))
        fresh |= {name: saved.get(name, value) for name, value in sizes.items()}
    if settings.outer.deviation_r:
        one = next(iter(objectives.values()))
        plan = replace(one.plan, rank=settings.outer.deviation_r)
        pairs = start_weights(one.backbone, plan, num_labels=1, generator=generator)
        fresh |= begin_deviations(pairs, tasks)
    return fresh


def _load_start(init_from: str, objectives: Objectives) -> dict[str, Tensor]:
    """The tensors of another meta-model, with its temperature and step sizes where it has some."""
    one = next(iter(objectives.values()))
    folder, record = find_model(init_from, kind=META_MODEL, or_kind=ALIGNMENT_META_MODEL)
    labeled = CLASSIFICATION in objectives and bool(record.labels)
    saved = load_weights(folder, backbone=one.backbone, plan=one.plan, with_head=labeled)
    device = one.backbone.device
    saved |= restore_step_sizes(record.step_sizes, device)
    temperature = read_temperature(record, device)
    return saved if temperature is None else {**saved, TEMPERATURE: temperature}


def examples_before(init_from: str | None) -> int:
    """What the start of a run was trained on, so that counts of whole histories compare."""
    if init_from is None:
        return 0
    _, record = find_model(init_from, kind=META_MODEL, or_kind=OTHER_STARTS)
    return int(record.provenance["examples"])


def _adapted(objectives: Objectives, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor that adapts, the head of prototypes included."""
    if CLASSIFICATION not in objectives:
        return fresh
    last = objectives[CLASSIFICATION].plan.head[-1]
    return {**{last + suffix: fresh[next(iter(fresh))] for suffix in (WEIGHT, BIAS)}, **fresh}
