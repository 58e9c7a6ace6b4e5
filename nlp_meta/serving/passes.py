"""Passes: which texts of a mixed batch go through the encoder together, and with what weights."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nlp_meta.encoders.lora import BIAS, LORA_A, LORA_B, WEIGHT, LoraPlan
from nlp_meta.objectives.classification import MASKED
from nlp_meta.serving.domains import Domain

PASS_TOKENS = 2048
"""Most tokens of one pass, padded, unless a single text has more: larger ones are no faster."""
PASS_OVERHEAD = 32
"""Tokens that could be computed in the time that one more pass takes by itself."""


def plan_passes(lengths: Sequence[int]) -> list[list[int]]:
    """Group texts of like length so that padding and passes together cost least.

    A pass costs its tokens with padding and a fixed number more. Once texts are in order of
    length each pass takes neighbors, so the best groups follow from those of fewer texts.

    Returns:
        Places in `lengths`, each once.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    least, begins = [0], [0]
    for end, longest in enumerate((lengths[row] for row in order), start=1):
        first = max(0, end - max(1, PASS_TOKENS // longest))
        costs = [least[begin] + longest * (end - begin) for begin in range(first, end)]
        best = min(range(len(costs)), key=costs.__getitem__)
        least.append(costs[best] + PASS_OVERHEAD)
        begins.append(first + best)
    groups: list[list[int]] = []
    end = len(order)
    while end:
        groups.append(order[begins[end] : end])
        end = begins[end]
    return groups


def stack_domains(domains: Sequence[Domain], plan: LoraPlan) -> tuple[LoraPlan, dict[str, Tensor]]:
    """Put the weights of domains side by side, whatever their ranks, layers and labels.

    Smaller ranks are filled up with zeros and so is a layer that a domain leaves as it is,
    which adds nothing; labels that a domain lacks get a logit that no softmax sees.
    """
    layers = dict.fromkeys(name for domain in domains for name in domain.layers)
    weights: dict[str, Tensor] = {}
    for name in layers:
        a, b = name + LORA_A, name + LORA_B
        weights[a] = _pad(_fill([domain.weights.get(a) for domain in domains]))
        columns = [None if b not in domain.weights else domain.weights[b].mT for domain in domains]
        weights[b] = _pad(_fill(columns)).mT
    for name in plan.head:
        padding = MASKED if name == plan.head[-1] else 0.0
        weights[name + WEIGHT] = _pad([domain.weights[name + WEIGHT] for domain in domains])
        weights[name + BIAS] = _pad([domain.weights[name + BIAS] for domain in domains], padding)
    scales: Mapping[str, float] = dict.fromkeys(layers, 1.0)
    return replace(plan, scales=scales), weights


def _fill(matrices: Sequence[Tensor | None]) -> list[Tensor]:
    """Rank 0 where there is no matrix."""
    like = next(matrix for matrix in matrices if matrix is not None)
    return [like[:0] if matrix is None else matrix for matrix in matrices]


def _pad(tensors: Sequence[Tensor], value: float = 0.0) -> Tensor:
    if len({tensor.shape for tensor in tensors}) == 1:
        return torch.stack(list(tensors))
    return pad_sequence(list(tensors), batch_first=True, padding_value=value)
