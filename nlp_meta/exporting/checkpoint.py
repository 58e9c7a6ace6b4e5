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
from transformers import PreTrainedTokenizerFast, XLMConfig, XLMForSequenceClassification, pipeline

from nlp_meta.encoders.backbone import Backbone, MeanPooled, loading
from nlp_meta.errors import ExportError
from nlp_meta.exporting.graph import INPUTS, merge
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


_LAYER = {
    "attention.self.query": "attentions.{}.q_lin",
    "attention.self.key": "attentions.{}.k_lin",
    "attention.self.value": "attentions.{}.v_lin",
    "attention.output.dense": "attentions.{}.out_lin",
    "attention.output.LayerNorm": "layer_norm1.{}",
    "intermediate.dense": "ffns.{}.lin1",
    "output.dense": "ffns.{}.lin2",
    "output.LayerNorm": "layer_norm2.{}",
}
"""Parts of a layer of BERT by the names that XLM, which computes the same, has for them."""


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """The checkpoint that was written, and how it compares with the model.

    Attributes:
        difference: The largest one between two logits, over all texts.
        largest_logit: Without its sign.
        ngrams_left_out: The model mixes n-grams in, which the checkpoint cannot hold.
        one_by_one: It answers one text a pass, as it takes the mean of all states that it is given.
    """

    labels: tuple[str, ...]
    max_tokens: int
    bytes: int
    texts: int
    difference: float
    largest_logit: float
    ngrams_left_out: bool
    one_by_one: bool
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
    Nothing is kept unless a pipeline that reads the folder gives the model's logits. An encoder of
    BERT's shape that pools by the mean becomes an XLM, the one class that does so too. It would
    count padding in, so its tokenizer knows none, and what is padded all the same gets no number.

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
            one_by_one=backbone.pooling == "mean",
            seconds=time.monotonic() - began,
        )
        draft.record = {"kind": "transformers", **asdict(report)}
    return report


def check_expressible(model: AdaptedModel, *, without_ngrams: bool) -> None:
    """Refuse a model that no sequence classifier of transformers can stand for.

    Raises:
        ExportError: It pools another than BERT by the mean, mixes n-grams in, or is of a tokenizer
            of another kind.
    """
    backbone = model.objective.backbone
    config = backbone.config
    if backbone.pooling == "mean" and not (
        config.model_type == "bert"
        and config.hidden_act == "gelu"
        and config.intermediate_size == 4 * config.hidden_size
    ):
        raise ExportError(
            "cannot export to transformers: the model classifies the mean of its last states, as "
            f"no class of transformers does over this '{config.model_type}', and BERT's shape or "
            "the head of the family itself is needed; set `format` to onnx, or adapt a start whose "
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
    if isinstance(network, MeanPooled):
        network = _write_as_xlm(network, pad=model.objective.backbone.tokenizer.pad_token_id)
    network.config.id2label = dict(enumerate(model.labels))
    network.config.label2id = {name: place for place, name in enumerate(model.labels)}
    network.config.problem_type = "single_label_classification"  # a pipeline then takes a softmax
    with loading():
        network.save_pretrained(folder)


def _write_as_xlm(pooled: MeanPooled, *, pad: int) -> XLMForSequenceClassification:
    bert, parts = pooled.config, pooled.encoder.state_dict()
    config = XLMConfig(use_lang_emb=False, summary_type="mean", pad_token_id=pad)
    config.bos_token_id = config.eos_token_id = None  # neither is to be taken for padding
    config.num_labels = len(pooled.classifier.bias)
    for name in (
        "vocab_size hidden_size num_hidden_layers num_attention_heads max_position_embeddings "
        "layer_norm_eps"
    ).split():
        setattr(config, name, getattr(bert, name))
    words, places, kinds = (
        parts[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
    )
    words = words.index_fill(0, torch.tensor([pad]), torch.nan)
    state = {"embeddings.weight": words, "position_embeddings.weight": places + kinds[0]}
    names = {"embeddings.LayerNorm": "layer_norm_emb"}
    for place in range(bert.num_hidden_layers):
        names |= {f"encoder.layer.{place}.{old}": new.format(place) for old, new in _LAYER.items()}
    for old, new in names.items():
        state |= {f"{new}.{kind}": parts[f"{old}.{kind}"] for kind in ("weight", "bias")}
    network = XLMForSequenceClassification(config)
    network.transformer.load_state_dict(state)
    network.sequence_summary.summary.load_state_dict(pooled.classifier.state_dict())
    return network


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
    special = dict(plain.special_tokens_map)
    if backbone.pooling == "mean":
        del special["pad_token"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=backbone.max_tokens,
        model_input_names=list(INPUTS),
        padding_side=plain.padding_side,
        **special,
    ).save_pretrained(folder)


def _compare(model: AdaptedModel, folder: Path, texts: Sequence[str]) -> tuple[float, float]:
    """The largest difference of two logits, and the largest logit; an error where one differs."""
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
