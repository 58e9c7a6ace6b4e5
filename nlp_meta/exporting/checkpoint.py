"""Export to transformers: one merged checkpoint that `pipeline("text-classification")` reads.

The folder is held against the model before it is kept: the pipeline reads it as a user would,
and its logits must be the model's.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, pipeline

from nlp_meta.encoders.backbone import Backbone, loading
from nlp_meta.errors import ExportError
from nlp_meta.exporting.graph import merge
from nlp_meta.exporting.onnx_export import RECORD, adapted_logits, check_tokenizer, sample_texts
from nlp_meta.files.outputs import Layout, check_folder, write_folder
from nlp_meta.models.classification import AdaptedModel

TOLERANCE = 1e-5
"""Largest difference of a logit, as a share of the largest logit where that is above 1."""

LAYOUT = Layout(
    what="an export to transformers",
    record=RECORD,
    names=(
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ),
    same={"kind": "transformers"},
)


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """The checkpoint that was written, and how it compares with the model.

    Attributes:
        difference: The largest one between two logits, over all texts.
        largest_logit: Without its sign.
        ngrams_left_out: The model mixes n-grams in, which the checkpoint cannot hold.
    """

    labels: tuple[str, ...]
    max_tokens: int
    bytes: int
    texts: int
    difference: float
    largest_logit: float
    ngrams_left_out: bool
    seconds: float


def export_transformers(
    model: AdaptedModel,
    folder: str | Path,
    *,
    without_ngrams: bool = False,
    texts: Sequence[str] | None = None,
    replace: bool = False,
) -> CheckpointReport:
    """Merge the adapter into the encoder, write it with its tokenizer, and check the answers.

    The tokenizer strips a text and puts the model's prefix before it, as `predict` does.
    Nothing is kept unless a pipeline that reads the folder gives the model's logits.

    Args:
        folder: New, empty, or an earlier export that nobody changed, which is replaced at the end.
        without_ngrams: Leave out the character n-grams of a model that has some.
        texts: To compare the answers on; None takes reviews of the built-in corpus.
        replace: Replace files of an export's names that a person put there or changed.

    Raises:
        ExportError: No class of transformers answers as the model does, or its answers differ.
        OutputError: Something in the folder would be lost, or the disk does not take the files.
    """
    began = time.monotonic()
    folder, backbone = Path(folder), model.objective.backbone
    check_expressible(model, without_ngrams=without_ngrams)
    check_folder(folder, LAYOUT, replace=replace)
    with write_folder(folder, LAYOUT, replace=replace) as draft:
        _write_network(model, draft.path)
        _write_tokenizer(backbone, draft.path)
        compared = sample_texts() if texts is None else texts
        difference, largest = _compare(model, draft.path, compared)
        report = CheckpointReport(
            labels=model.labels,
            max_tokens=backbone.max_tokens,
            bytes=sum(path.stat().st_size for path in draft.path.iterdir()),
            texts=len(compared),
            difference=difference,
            largest_logit=largest,
            ngrams_left_out=model.companion is not None,
            seconds=time.monotonic() - began,
        )
        draft.record = {"kind": "transformers", **asdict(report)}
    return report


def check_expressible(model: AdaptedModel, *, without_ngrams: bool) -> None:
    """Refuse a model that no sequence classifier of transformers can stand for.

    Raises:
        ExportError: It pools by the mean, mixes n-grams in, or its tokenizer is of another kind.
    """
    backbone = model.objective.backbone
    if not isinstance(backbone.model, PreTrainedModel):
        raise ExportError(
            "cannot export to transformers: the model classifies the mean of its last states, as "
            f"no class of transformers does over '{backbone.config.model_type}', and the head of "
            "the family itself is needed; set `format` to onnx, or adapt a start whose "
            "`model.pooling` is native"
        )
    if model.companion is not None and not without_ngrams:
        raise ExportError(
            "cannot export to transformers: the model mixes character n-grams in, which a "
            "checkpoint of transformers cannot hold, and a model without them is needed; leave "
            "them out with `without_ngrams` and lose what they add, or set `format` to onnx"
        )
    check_tokenizer(backbone.tokenizer, model.settings.model_name_or_path)


def _write_network(model: AdaptedModel, folder: Path) -> None:
    network: Any = merge(model).network
    network.config.id2label = dict(enumerate(model.labels))
    network.config.label2id = {name: place for place, name in enumerate(model.labels)}
    network.config.problem_type = "single_label_classification"  # a pipeline then takes a softmax
    with loading():
        network.save_pretrained(folder)


def _write_tokenizer(backbone: Backbone, folder: Path) -> None:
    """Write a tokenizer of no family's class: such a class would drop what stands before a text."""
    plain = backbone.tokenizer
    tokenizer = Tokenizer.from_str(plain.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    steps: list[Any] = [normalizers.Strip()]
    steps += [normalizers.Prepend(backbone.prefix_text)] if backbone.prefix_text else []
    steps += [tokenizer.normalizer] if tokenizer.normalizer else []
    tokenizer.normalizer = normalizers.Sequence(steps)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=backbone.max_tokens,
        model_input_names=plain.model_input_names,
        padding_side=plain.padding_side,
        **plain.special_tokens_map,
    ).save_pretrained(folder)


def _compare(model: AdaptedModel, folder: Path, texts: Sequence[str]) -> tuple[float, float]:
    """The largest difference of two logits, and the largest logit.

    Raises:
        ExportError: A logit differs.
    """
    with loading():
        read = pipeline("text-classification", str(folder), device="cpu", truncation=True)
        answers: Any = read(list(texts), top_k=None, function_to_apply="none")
    expected = torch.stack(
        [torch.from_numpy(adapted_logits(model, text.strip())) for text in texts]
    )
    scores = [{row["label"]: row["score"] for row in answer} for answer in answers]
    logits = torch.tensor([[row[name] for name in model.labels] for row in scores])
    difference, largest = float((logits - expected).abs().max()), float(expected.abs().max())
    allowed = TOLERANCE * max(1.0, largest)
    if not difference <= allowed:
        raise ExportError(
            f"cannot keep the export: logits of the pipeline differ by up to {difference:.2g} from "
            f"the model's and {allowed:.2g} is allowed; set `format` to onnx"
        )
    return difference, largest
