"""Export to ONNX: a folder that onnxruntime, tokenizers and numpy can run, measured as written."""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nlp_meta.data.tasks import load_tasks
from nlp_meta.errors import ExportError, SettingsError
from nlp_meta.exporting.graph import check_packages, merge, quantize, write_graph
from nlp_meta.exporting.parity import Measured, check_parity, measure
from nlp_meta.exporting.runner import LABELS, check_tokenizer, write_runner
from nlp_meta.models.meta_model import AdaptedModel

FLOAT32, INT8, RECORD = "model.onnx", "model_int8.onnx", "export.json"
QUANTIZATIONS = ("int8", "none")
SAMPLES = 64
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written, and how it compares with the model in PyTorch.

    Attributes:
        opset: Of ONNX's operators.
        graph: The file that `run.py` opens.
        ngrams: Character n-grams were exported too, and `run.py` mixes them in.
    """

    labels: tuple[str, ...]
    opset: int
    graph: str
    ngrams: bool
    measured: Measured
    seconds: float


def export_onnx(
    model: AdaptedModel,
    folder: str | Path,
    *,
    quantization: str = "int8",
    opset: int | None = None,
    texts: Sequence[str] | None = None,
) -> ExportReport:
    """Merge the adapter into the encoder, write ONNX files with a runner, and check the answers.

    Nothing is kept unless the float32 graph gives the model's logits and labels; those of
    the quantized graph are measured and reported.

    Args:
        folder: New, empty, or an earlier export, which is replaced at the end.
        quantization: `int8` writes a second graph that is smaller and faster, `none` does not.
        opset: None takes the exporter's own.
        texts: To compare the answers on; None takes reviews of the built-in corpus.

    Raises:
        ExportError: The folder holds other things, the network or its tokenizer cannot be
            exported, or the answers differ.
        MissingPackageError: The extra `onnx` is not installed.
        SettingsError: There is no such quantization.
    """
    began = time.monotonic()
    folder = Path(folder).resolve()
    if quantization not in QUANTIZATIONS:
        raise SettingsError(
            f"cannot quantize to '{quantization}': one of {', '.join(QUANTIZATIONS)} is needed; "
            "change `--quantize`"
        )
    check_packages()
    check_export_folder(folder)
    check_tokenizer(model.objective.backbone.tokenizer, model.settings.model_name_or_path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.part"))
    try:
        network = merge(model)
        written = write_graph(network, beside / FLOAT32, opset=opset)
        names = [FLOAT32] if quantization == "none" else [FLOAT32, INT8]
        if INT8 in names:
            quantize(network, beside / FLOAT32, beside / INT8)
        write_runner(beside, model, graph=names[-1])
        measured = measure(model, network, beside, names, texts or sample_texts())
        check_parity(measured, FLOAT32)
        ngrams = model.companion is not None
        seconds = time.monotonic() - began
        report = ExportReport(model.labels, written, names[-1], ngrams, measured, seconds)
        text = json.dumps({"format": _FORMAT, **asdict(report)}, indent=1, ensure_ascii=False)
        (beside / RECORD).write_text(text + "\n", encoding="utf-8")
        beside.chmod(0o755)
        _replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return report


def check_export_folder(folder: Path) -> None:
    """Refuse to write over a folder that holds anything but an export.

    Raises:
        ExportError: It does, or it is no folder.
    """
    ours = folder.is_dir() and (
        all((folder / name).is_file() for name in (RECORD, FLOAT32, LABELS))
        or not any(folder.iterdir())
    )
    if folder.exists() and not ours:
        raise ExportError(
            f"cannot export to '{folder}': it holds other things and a new or empty folder, or an "
            "export to replace, is needed; name another folder with `--output-dir`"
        )


def sample_texts() -> tuple[str, ...]:
    """Built-in reviews of an industry that no meta-training sees."""
    tasks = load_tasks(["nlp_meta_reviews"], meta_split="meta-test")
    return tuple(example.source for task in tasks for example in task.train)[:SAMPLES]


def _replace(beside: Path, folder: Path) -> None:
    """Put a finished folder in the place of an old one."""
    if folder.exists():
        old = beside.with_name(beside.name + ".old")
        folder.rename(old)
        beside.rename(folder)
        shutil.rmtree(old)
    else:
        beside.rename(folder)
