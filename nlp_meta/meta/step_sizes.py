"""Learned step sizes: meta-parameters that say how fast other tensors adapt.

Each is named for the tensor whose rate it scales and holds the logarithm of a factor on the
inner learning rate. They travel with the weights and never adapt themselves.

Source:
    Li et al. 2017, arXiv:1707.09835.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

STEP_SIZE = "step_size."
"""Prefix of their names."""


def learned_step_sizes(meta_parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One step size for each tensor, of factor 1."""
    return {
        STEP_SIZE + name: torch.zeros((), device=value.device)
        for name, value in meta_parameters.items()
    }


def drop_step_sizes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep what adapts."""
    return {name: value for name, value in weights.items() if not name.startswith(STEP_SIZE)}


def describe_step_sizes(weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Give the step sizes among some weights as numbers, by the names of their tensors."""
    return {
        name.removeprefix(STEP_SIZE): float(value)
        for name, value in weights.items()
        if name.startswith(STEP_SIZE)
    }


def restore_step_sizes(described: Mapping[str, float], device: torch.device) -> dict[str, Tensor]:
    """Take back what `describe_step_sizes` gave."""
    return {
        STEP_SIZE + name: torch.tensor(value, device=device) for name, value in described.items()
    }
