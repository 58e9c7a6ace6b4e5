"""Merging: an adapted model as one plain network, its low-rank terms added to the weights."""

import copy

import torch
from torch import Tensor, nn

from nlp_meta.encoders.lora import BIAS, LORA_A, LORA_B, WEIGHT
from nlp_meta.models import AdaptedModel


class Merged(nn.Module):
    """Token ids and their mask, `(rows, tokens)` each, to logits `(rows, labels)`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out = self.network(input_ids=input_ids, attention_mask=attention_mask)
        logits: Tensor = out if isinstance(out, Tensor) else out.logits
        return logits


@torch.no_grad()
def merge(model: AdaptedModel) -> Merged:
    """Copy a model's network to the CPU in float32, with its adapter and its head inside.

    The temperature is in the head already, so a softmax of the logits is calibrated.
    """
    backbone, plan = model.objective.backbone, model.objective.plan
    network = copy.deepcopy(backbone.model).cpu().float()
    weights = {name: value.detach().float().cpu() for name, value in model.weights.items()}
    for name, scale in plan.scales.items():
        term = weights[name + LORA_B] @ weights[name + LORA_A]
        _weight(network, name).add_(scale * term)
    for name in plan.head:
        layer = network.get_submodule(name)
        # The last layer has as many rows as the domain has labels.
        layer.weight = nn.Parameter(weights[name + WEIGHT].clone(), requires_grad=False)
        layer.bias = nn.Parameter(weights[name + BIAS].clone(), requires_grad=False)
    return Merged(network).eval()


def _weight(network: nn.Module, name: str) -> Tensor:
    weight = network.get_submodule(name).weight
    assert isinstance(weight, Tensor)  # noqa: S101  narrows nn.Module's attribute
    return weight
