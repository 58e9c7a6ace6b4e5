"""An adapted model as one plain network, that network as an ONNX file, and one of eight bits."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nlp_meta.encoders.lora import BIAS, LORA_A, LORA_B, WEIGHT
from nlp_meta.errors import ExportError
from nlp_meta.models.classification import AdaptedModel

INPUTS, OUTPUT = ("input_ids", "attention_mask"), "logits"
LARGEST = 1_800_000_000
"""Bytes of weights that are kept inside a file; protobuf reads no file above two gigabytes."""


class Merged(nn.Module):
    """Token ids and their mask, `(rows, tokens)` each, to logits `(rows, labels)`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        output = self.network(input_ids=input_ids, attention_mask=attention_mask)
        logits: Tensor = output if isinstance(output, Tensor) else output.logits
        return logits


@torch.no_grad()
def merge(model: AdaptedModel) -> Merged:
    """Copy a model's network to the CPU in float32, with its adapter and its head inside.

    The temperature is in the head already, so a softmax of the logits is calibrated.
    """
    backbone, plan = model.objective.backbone, model.objective.plan
    with backbone.running():
        network = copy.deepcopy(backbone.model)
    network = network.cpu().float()
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


def write_graph(network: Merged, path: Path, *, opset: int | None) -> int:
    """Write a network as a graph of any number of rows and tokens, and return its opset.

    Args:
        opset: Version of ONNX's operators; None takes the exporter's own.

    Raises:
        ExportError: Part of the network, or the opset, is beyond the exporter.
    """
    # A dimension of 1 would be taken for fixed.
    ids = torch.ones(2, 8, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    free = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                network,
                (ids, mask),
                input_names=INPUTS,
                output_names=[OUTPUT],
                dynamic_shapes=(free, free),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
        except (RuntimeError, ValueError, TypeError) as error:
            raise _export_error(error) from error
        _forget_sources(program.model)
        program.save(path, external_data=_is_large(network))
    written = int(program.model.opset_imports[""])
    if opset is not None and written != opset:
        raise ExportError(
            f"cannot export with opset {opset}: the graph came out with {written} and could not "
            f"be converted; leave `opset` out or name {written}"
        )
    return written


def quantize(network: Merged, source: Path, path: Path) -> None:
    """Write a graph again with weights of eight bits, one scale for each output channel.

    Activations are quantized as they come (dynamic). Weights take seven of the eight bits:
    sums of processors without VNNI would overflow, and answers would differ between machines.

    Args:
        network: What `source` was written from.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    large = _is_large(network)
    ready = source.with_name("preprocessed.onnx")
    with _quiet():
        quant_pre_process(
            source,
            ready,
            auto_merge=True,
            save_as_external_data=large,
            all_tensors_to_one_file=True,
            external_data_location=ready.name + ".data",
        )
        quantize_dynamic(
            ready,
            path,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            use_external_data_format=large,
        )
    for path in source.parent.glob(ready.name + "*"):
        path.unlink()


def _is_large(network: Merged) -> bool:
    tensors: list[Tensor] = list(network.state_dict().values())
    return sum(tensor.nbytes for tensor in tensors) > LARGEST


def _forget_sources(model: Any) -> None:
    """Clear the lines of code that the exporter notes of each node: they name local paths."""
    for graph in (model.graph, *model.functions.values()):
        values = [*graph.inputs, *graph.outputs, *getattr(graph, "initializers", {}).values()]
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            values += node.outputs
        for value in values:
            value.metadata_props.clear()
        graph.metadata_props.clear()
    model.metadata_props.clear()


def _export_error(error: Exception) -> ExportError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = (lines or [type(error).__name__])[0][:200].rstrip(".")
    return ExportError(
        f"cannot export to ONNX: torch.onnx.export stopped ({reason}); an encoder and an opset "
        "that it knows are needed; leave `opset` out, or adapt a model of another family"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence remarks on a missing torchvision, unused names of axes and how to quantize."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
