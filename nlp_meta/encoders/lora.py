"""Stacked LoRA: the low-rank terms of W tasks in one pass through a frozen model.

Which layers are adapted, and with what scale, is as PEFT would have it. The stacked form is our
own: each adapted linear layer adds, for each task of the stack, that task's term

    out[row] = frozen(x[row]) + scale * (x[row] @ A[w].T) @ B[w].T,  w the task of the row

Rows of all tasks stand in one batch, those of one task side by side, so each task's term is a
product of its own block. The linear layers of the head move as a whole and replace the frozen
ones. `layers.py` computes so directly. Any other Hugging Face model works unmodified: `stacked`
adds the terms through hooks that live as long as one forward pass, in which the encoder is this
thread's alone; no module is copied, patched or restored.

Source:
    Hu et al. 2021, arXiv:2106.09685, section 4.1.
"""

import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nlp_meta.encoders import seq2seq
from nlp_meta.encoders.backbone import Backbone, loading, skeleton
from nlp_meta.encoders.batches import Owners
from nlp_meta.encoders.families import FAMILIES
from nlp_meta.encoders.seq2seq import Seq2Seq
from nlp_meta.errors import BackboneError

Weights = Mapping[str, Tensor]

SIDES = {"encoder": ("encoder",), "decoder": ("decoder",), "both": ("encoder", "decoder")}
_NO_CHECKPOINTING = {"is_gradient_checkpointing": False}
LORA_A, LORA_B, WEIGHT, BIAS = ".lora_A", ".lora_B", ".weight", ".bias"


@dataclass(frozen=True, slots=True)
class LoraPlan:
    """Which linear layers move, and how.

    Attributes:
        scales: Factor of the low-rank term, by the adapted layer's name.
        head: Linear layers that move as a whole, in forward order.
        config: Arguments of PEFT's `LoraConfig`, which are stored beside the adapter.
    """

    rank: int
    scales: Mapping[str, float]
    head: tuple[str, ...]
    config: Mapping[str, Any]


def plan_lora(
    backbone: Backbone,
    *,
    lora_r: int,
    lora_alpha: float,
    lora_layers: int,
    lora_target_modules: Sequence[str] | None,
) -> LoraPlan:
    """Find the layers of a backbone that PEFT would adapt.

    Args:
        lora_layers: The topmost n transformer layers are adapted.
        lora_target_modules: Suffixes of module names; None takes PEFT's choice for
            the model's family.

    Raises:
        BackboneError: More layers than there are, or nothing that could be adapted.
    """
    depth = int(backbone.config.num_hidden_layers)
    if not 1 <= lora_layers <= depth:
        raise BackboneError(
            f"cannot adapt the topmost {lora_layers} layers of '{backbone.name}': 1 to {depth} "
            "are needed; change `model.lora_layers`"
        )
    config: dict[str, Any] = {
        "r": lora_r,
        "lora_alpha": lora_alpha,
        "target_modules": list(lora_target_modules) if lora_target_modules else None,
        "layers_to_transform": list(range(depth - lora_layers, depth)),
        "layers_pattern": _layers_pattern(backbone),
        "modules_to_save": _modules_to_save(backbone),
        "task_type": "FEATURE_EXTRACTION" if backbone.pooling == "mean" else "SEQ_CLS",
    }
    inner = "encoder." if backbone.pooling == "mean" else ""
    scales = dict.fromkeys(_match_layers(backbone.model, config, inner), lora_alpha / lora_r)
    if not scales:
        peft_scales = _ask_peft(skeleton(backbone), config, name=backbone.name)
        scales = {inner + name: scale for name, scale in peft_scales.items()}
        # A later PEFT may choose others for the family.
        config["target_modules"] = sorted({name.rpartition(".")[2] for name in peft_scales})
    return LoraPlan(lora_r, scales, backbone.head, config)


def _layers_pattern(backbone: Backbone) -> str | None:
    """The name of a list of layers that stands on top, where PEFT does not look for one."""
    family = FAMILIES.get(backbone.config.model_type)
    return family.layers if family and "." not in family.layers else None


def _match_layers(model: nn.Module, config: Mapping[str, Any], inner: str) -> list[str]:
    """Names of the layers that PEFT would adapt, by its rule, as it takes seconds to import.

    Args:
        inner: What stands before the names that PEFT sees.

    Returns:
        Nothing where PEFT has to be asked.
    """
    targets, apart = config["target_modules"] or (), config["modules_to_save"] or ()
    layers: list[str] = []
    for whole, module in model.named_modules():
        name = whole.removeprefix(inner)
        place = re.match(r".*?\.[^.]*\.(\d+)\.", name)
        ends = any(name.endswith(f".{target}") for target in targets)
        free = not any(part in apart for part in name.split("."))
        if ends and free and place and int(place[1]) in config["layers_to_transform"]:
            if type(module) is not nn.Linear:
                return []
            layers.append(whole)
    return layers


def plan_seq2seq_lora(
    backbone: Seq2Seq,
    *,
    lora_r: int,
    lora_alpha: float,
    lora_sides: str,
    lora_layers: int | None,
    lora_target_modules: Sequence[str] | None,
) -> LoraPlan:
    """Ask PEFT which layers of an encoder-decoder it would adapt.

    Args:
        lora_sides: `encoder`, `decoder` or `both`.
        lora_layers: The topmost n layers of each side are adapted; None takes all.
        lora_target_modules: Suffixes of module names; None takes PEFT's choice for the
            model's family, or for BART where PEFT does not know it.

    Raises:
        BackboneError: More layers than there are, or nothing that could be adapted.
    """
    if lora_sides not in SIDES:
        raise BackboneError(
            f"cannot adapt the side '{lora_sides}' of '{backbone.name}': one of "
            f"{', '.join(SIDES)} is needed; change `model.lora_sides`"
        )
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_CHOICES,
    )

    frame = seq2seq.skeleton(backbone)
    targets = lora_target_modules or PEFT_CHOICES.get(backbone.config.model_type)
    targets = "|".join(targets or PEFT_CHOICES["bart"])
    # The first number in a module's name is that of its layer, whatever the family calls it.
    patterns = [
        rf"(?:model\.)?{side}\.(?:[A-Za-z_]+\.)+(?:{_layers(backbone, frame, side, lora_layers)})"
        rf"\.(?:.+\.)?(?:{targets})"
        for side in SIDES[lora_sides]
    ]
    config: dict[str, Any] = {
        "r": lora_r,
        "lora_alpha": lora_alpha,
        "target_modules": "|".join(patterns),
        "task_type": "SEQ_2_SEQ_LM",
    }
    scales = _ask_peft(frame, config, name=backbone.name)
    return LoraPlan(lora_r, scales, (), config)


def _layers(backbone: Seq2Seq, frame: nn.Module, side: str, topmost: int | None) -> str:
    """Numbers of the topmost layers of one side, as alternatives of a pattern."""
    pattern = re.compile(rf"(?:model\.)?{side}\.(?:[A-Za-z_]+\.)+(\d+)(?:\..+)?")
    matches = (pattern.fullmatch(name) for name, _ in frame.named_modules())
    depth = len({int(match[1]) for match in matches if match})
    if topmost is not None and not 1 <= topmost <= depth:
        raise BackboneError(
            f"cannot adapt the topmost {topmost} layers of the {side} of '{backbone.name}': 1 to "
            f"{depth} are needed; change `model.lora_layers`"
        )
    return "|".join(str(layer) for layer in range(depth - (topmost or depth), depth))


def _ask_peft(frame: PreTrainedModel, config: Mapping[str, Any], *, name: str) -> dict[str, float]:
    """Adapted layers of a model by name, each with its scale."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer as PeftLoraLayer

    # PEFT asks by this name, which transformers warns that it will drop.
    frame.__class__ = type(type(frame).__name__, (type(frame),), _NO_CHECKPOINTING)
    try:
        with loading():
            adapted = get_peft_model(frame, LoraConfig(**copy.deepcopy(dict(config))))
    except ValueError as error:
        reason = str(error).split(".")[0]
        raise BackboneError(
            f"cannot adapt '{name}' ({reason}): names of linear layers are needed; "
            "change `model.lora_target_modules`"
        ) from error
    return {
        layer.removeprefix("base_model.model."): float(module.scaling["default"])
        for layer, module in adapted.named_modules()
        if isinstance(module, PeftLoraLayer)
    }


def lowest_adapted_layer(plan: LoraPlan) -> int:
    """Index of the first transformer layer that moves; those below are a fixed function."""
    layers = plan.config.get("layers_to_transform")
    return min(layers) if isinstance(layers, list) else int(layers or 0)


def lowest_adapted_source_layer(backbone: Seq2Seq, plan: LoraPlan) -> int:
    """Index of the first layer of the encoder that moves; all of its layers where none does."""
    numbers = (re.match(r"(?:model\.)?encoder\.[^\d]*(\d+)", name) for name in plan.scales)
    layers = [int(number[1]) for number in numbers if number]
    return min(layers, default=int(backbone.encoder.config.num_hidden_layers))


def start_weights(
    backbone: Backbone | Seq2Seq, plan: LoraPlan, *, num_labels: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Make the adapter that changes nothing, and a head that is still undecided.

    `A` is drawn as PEFT draws it, uniform within 1/sqrt(in_features), and `B` is zero.
    Square layers of the head (a pooler) start at the identity, the last one at zero.

    Returns:
        By name, in float32 on the backbone's device: `lora_A` `(rank, in_features)`,
        `lora_B` `(out_features, rank)`, head weights `(out_features, in_features)`.
    """
    weights: dict[str, Tensor] = {}
    for name in plan.scales:
        layer = _linear(backbone.model, name)
        bound = layer.in_features**-0.5
        drawn = torch.rand(plan.rank, layer.in_features, generator=generator) * 2 * bound - bound
        weights[name + LORA_A] = drawn.to(backbone.device)
        weights[name + LORA_B] = torch.zeros(layer.out_features, plan.rank, device=backbone.device)
    for name in plan.head:
        layer = _linear(backbone.model, name)
        last = name == plan.head[-1]
        rows = num_labels if last else layer.out_features
        square = not last and layer.in_features == layer.out_features
        weight = torch.eye(rows) if square else torch.zeros(rows, layer.in_features)
        weights[name + WEIGHT] = weight.to(backbone.device)
        weights[name + BIAS] = torch.zeros(rows, device=backbone.device)
    return weights


def lora_shapes(backbone: Backbone | Seq2Seq, plan: LoraPlan) -> dict[str, tuple[int, int]]:
    """Shape of each LoRA matrix that fits a backbone, by name."""
    shapes: dict[str, tuple[int, int]] = {}
    for name in plan.scales:
        layer = _linear(backbone.model, name)
        shapes[name + LORA_A] = (plan.rank, layer.in_features)
        shapes[name + LORA_B] = (layer.out_features, plan.rank)
    return shapes


@dataclass(frozen=True, slots=True)
class Adapter:
    """Stacked weights of W tasks, as one pass through a frozen model uses them.

    Where the last head layer's weights are absent it passes its input on, so the model
    returns features instead of logits.

    Attributes:
        weights: `(tasks, ...)` each; read, never written.
        owners: The task of each row of the batch; a search that widens each row to
            several, side by side, needs no others.
    """

    plan: LoraPlan
    weights: Weights
    owners: Owners

    def linear(self, name: str, layer: nn.Linear, x: Tensor) -> Tensor:
        """An adapted or a frozen linear layer of rows `(rows, ..., in_features)`."""
        out = nn.functional.linear(x, layer.weight, layer.bias)
        return self.add_terms([name], x, [out])[0]

    def add_terms(self, names: Sequence[str], x: Tensor, frozen: Sequence[Tensor]) -> list[Tensor]:
        """Add the low-rank terms of layers that share their input to what they gave of it.

        One product leads down for all of them, one up for each.
        """
        moving = [name for name in names if name in self.plan.scales]
        if not moving:
            return list(frozen)
        downs = [self.weights[name + LORA_A] for name in moving]
        all_low = by_task(x, torch.cat(downs, 1).to(x.dtype).mT, self.owners)
        # Domains that are served together may bring ranks of their own to each layer.
        low = torch.split(all_low, [down.shape[1] for down in downs], -1)
        terms = {
            name: by_task(part, self._up(name, x.dtype).mT, self.owners)
            for name, part in zip(moving, low, strict=True)
        }
        return [
            out + terms[name] if name in terms else out
            for name, out in zip(names, frozen, strict=True)
        ]

    def add_reversed(self, name: str, x: Tensor, frozen: Tensor) -> Tensor:
        """Add the transposed low-rank term of a layer to its transposed product with `x`."""
        if name not in self.plan.scales:
            return frozen
        low = by_task(x, self._up(name, x.dtype), self.owners)
        return frozen + by_task(low, self.weights[name + LORA_A].to(x.dtype), self.owners)

    def head(self, name: str, x: Tensor) -> Tensor:
        """A layer of the head, which moves as a whole, of rows `(rows, in_features)`."""
        weight, bias = self.weights.get(name + WEIGHT), self.weights.get(name + BIAS)
        if weight is None or bias is None:
            return x
        return by_task(x, weight.mT.to(x.dtype), self.owners) + bias.to(x.dtype)[self.owners.index]

    def _up(self, name: str, dtype: torch.dtype) -> Tensor:
        return (self.weights[name + LORA_B] * self.plan.scales[name]).to(dtype)


def by_task(x: Tensor, matrices: Tensor, owners: Owners) -> Tensor:
    """Multiply each task's rows by its own matrix.

    Args:
        x: `(rows, ..., in)`, rows in order of tasks; of each row of the batch as many.
        matrices: `(tasks, in, out)`.
    """
    if len(matrices) == 1:
        return x @ matrices[0]
    flat = x.flatten(0, -2)
    places = len(flat) // len(owners.index)
    if len(set(owners.counts)) == 1:
        out = flat.view(len(matrices), -1, flat.shape[-1]) @ matrices
    else:
        counts = [count * places for count in owners.counts]
        out = _product(flat, matrices, counts)
    return out.view(*x.shape[:-1], matrices.shape[-1])


def _product(x: Tensor, matrices: Tensor, counts: list[int]) -> Tensor:
    out: Tensor = _Product.apply(x, matrices, counts)  # type: ignore[no-untyped-call]
    return out


def _gram(x: Tensor, y: Tensor, counts: list[int]) -> Tensor:
    out: Tensor = _Gram.apply(x, y, counts)  # type: ignore[no-untyped-call]
    return out


class _Product(torch.autograd.Function):
    """Rows of each task times its matrix. With `_Gram` it can be derived any number of times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrices: Tensor, counts: list[int]) -> Tensor:
        ctx.save_for_backward(x, matrices)
        ctx.counts = counts
        out = x.new_empty(len(x), matrices.shape[-1])
        parts = zip(torch.split(x, counts), matrices, torch.split(out, counts), strict=True)
        for rows, matrix, target in parts:
            torch.mm(rows, matrix, out=target)
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, matrices = ctx.saved_tensors
        along_x, along_matrices, _ = ctx.needs_input_grad
        return (
            _product(slope, matrices.mT, ctx.counts) if along_x else None,
            _gram(x, slope, ctx.counts) if along_matrices else None,
            None,
        )


class _Gram(torch.autograd.Function):
    """Rows of each task, transposed, times other rows of it: `(tasks, in, out)`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, counts: list[int]) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.counts = counts
        out = x.new_empty(len(counts), x.shape[-1], y.shape[-1])
        parts = zip(torch.split(x, counts), torch.split(y, counts), out, strict=True)
        for rows, others, target in parts:
            torch.mm(rows.mT, others, out=target)
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        along_x, along_y, _ = ctx.needs_input_grad
        return (
            _product(y, slope.mT, ctx.counts) if along_x else None,
            _product(x, slope, ctx.counts) if along_y else None,
            None,
        )


@contextmanager
def stacked(
    backbone: Backbone | Seq2Seq, plan: LoraPlan, weights: Weights, owners: Owners
) -> Iterator[None]:
    """Let a backbone's own forward pass use the stacked weights of W tasks.

    Other threads wait for the end of the pass. The arguments are those of `Adapter`.
    """
    adapter, processes = Adapter(plan, weights, owners), [os.getpid()]
    with backbone.running(), ExitStack() as hooks:
        hooks.callback(processes.clear)
        for name in (*plan.scales, *plan.head):
            hook = partial(_answer_for, name, adapter, processes)
            handle = _linear(backbone.model, name).register_forward_hook(hook)
            hooks.callback(handle.remove)
        yield


def _answer_for(
    name: str, adapter: Adapter, processes: Sequence[int], _: nn.Module, args: Any, out: Tensor
) -> Tensor | None:
    """Nothing that an interrupt or a fork leaves behind of a pass acts on a later one."""
    if os.getpid() not in processes:
        return None
    if name in adapter.plan.head:
        return adapter.head(name, args[0])
    return adapter.add_terms([name], args[0], [out])[0]


def _linear(model: nn.Module, name: str) -> nn.Linear:
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        raise BackboneError(
            f"cannot adapt the layer '{name}' of type {type(layer).__name__}: linear layers are "
            "needed; leave it out of `model.lora_target_modules`"
        )
    return layer


def _modules_to_save(backbone: Backbone) -> list[str] | None:
    """PEFT's names for whatever the head adds to the pretrained encoder."""
    if backbone.pooling == "mean":
        return None
    inside = f"{backbone.model.base_model_prefix}."
    return sorted({name.removeprefix(inside).split(".")[0] for name in backbone.head})
