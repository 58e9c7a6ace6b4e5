"""Deviations: a small low-rank pair of each task's own beside the shared one, while training.

Joint training asks one adapter to serve all tasks as it is. Here every task may add a
deviation of low rank, so the shared pair becomes what the tasks have in common and a later
adaptation has a short way to go. The deviations are meta-parameters like any other until
the run ends; then they are dropped.

Source:
    Block et al. 2025, Provable Meta-Learning with Low-Rank Adaptations, NeurIPS 2025.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nlp_meta.encoders.lora import LORA_A, LORA_B
from nlp_meta.meta.inner_loop import Weights

DEVIATION = "deviation."
"""Meta-parameters of this prefix go on with a task's name, a colon and a tensor's name."""

_RANK = {LORA_A: 0, LORA_B: 1}


def begin_deviations(pairs: Weights, tasks: Sequence[str]) -> dict[str, Tensor]:
    """Give each task a copy of one drawn pair for each adapted layer.

    Args:
        pairs: `lora_A` and `lora_B` of the deviations' rank, by name, as an adapter that
            changes nothing; other tensors are left out.
    """
    return {
        _name(task, name): value.clone()
        for task in tasks
        for name, value in pairs.items()
        if _rank_axis(name) is not None
    }


def join_deviations(stacked: Weights, tasks: Sequence[str]) -> Weights:
    """Lay the deviation of each task of a stack beside the shared pair: ranks add up.

    Args:
        stacked: Meta-parameters, `(tasks, ...)` each, with the deviations of all tasks.
        tasks: Names of the tasks of the stack, in order.

    Returns:
        Stacked weights without deviations; `stacked` itself where there are none.
    """
    if not any(name.startswith(DEVIATION) for name in stacked):
        return stacked
    joined = drop_deviations(stacked)
    for name, shared in joined.items():
        axis = _rank_axis(name)
        if axis is not None:
            own = [stacked[_name(task, name)][place] for place, task in enumerate(tasks)]
            joined[name] = torch.cat([shared, torch.stack(own)], dim=axis + 1)
    return joined


def drop_deviations(meta_parameters: Weights) -> dict[str, Tensor]:
    """Keep what all tasks share."""
    return {n: v for n, v in meta_parameters.items() if not n.startswith(DEVIATION)}


def _rank_axis(name: str) -> int | None:
    return next((axis for suffix, axis in _RANK.items() if name.endswith(suffix)), None)


def _name(task: str, name: str) -> str:
    return f"{DEVIATION}{task}:{name}"
