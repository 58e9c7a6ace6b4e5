"""Calibration: one temperature that makes probabilities as sure as they are right."""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

LOWEST, HIGHEST = 0.25, 8.0
"""Bounds of a temperature: a few dozen examples cannot speak for more."""


def fit_temperature(log_probabilities: Tensor, targets: Tensor) -> float:
    """Temperature that makes held-out answers most likely.

    Args:
        log_probabilities: `(examples, labels)`, of examples that were not adapted to.
        targets: `(examples,)` indices of labels.

    Returns:
        What logits are divided by, between 0.25 and 8.

    Source:
        Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """

    def loss(log_temperature: float) -> float:
        scaled = log_probabilities.double() / math.exp(log_temperature)
        return float(torch.nn.functional.cross_entropy(scaled, targets))

    bounds = (math.log(LOWEST), math.log(HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded")
    return math.exp(float(found.x))
