"""Parity: the graphs beside the model, answer by answer and in speed, on real texts."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from nlp_meta.encoders import plain_ngrams
from nlp_meta.encoders.batches import Owners, tokenize
from nlp_meta.encoders.lora import Adapter
from nlp_meta.encoders.prefix import whole_network
from nlp_meta.errors import ExportError
from nlp_meta.exporting.graph import INPUTS, Merged
from nlp_meta.meta.inner_loop import repeat
from nlp_meta.models.classification import AdaptedModel

TOLERANCE = 1e-4
"""Largest difference of a logit, as a share of the largest logit where that is above 1."""

Logits = NDArray[Any]
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class FileReport:
    """One graph beside the model in PyTorch.

    Attributes:
        difference: The largest one between two logits, over all texts.
        agreement: Share of the texts that get the same label, n-grams included.
        milliseconds: For one text, median.
        times_faster: Than PyTorch in float32, median of the ratios text by text.
    """

    bytes: int
    difference: float
    agreement: float
    milliseconds: float
    times_faster: float


@dataclass(frozen=True, slots=True)
class Measured:
    """All graphs beside the model, on the same texts, one text at a time, in turns.

    Attributes:
        threads: Of PyTorch and of ONNX Runtime alike.
        torch_milliseconds: For one text with the merged weights, median.
        largest_logit: Without its sign.
    """

    texts: int
    threads: int
    torch_milliseconds: float
    largest_logit: float
    files: Mapping[str, FileReport]


def measure(
    model: AdaptedModel, network: Merged, folder: Path, names: Sequence[str], texts: Sequence[str]
) -> Measured:
    """Answer texts by the model, by its merged network and by each graph.

    Args:
        names: Of the graphs in `folder`; the tokenizer beside them feeds them.
    """
    threads = torch.get_num_threads()
    sessions = {name: open_graph(folder / name, threads=threads) for name in names}
    feeds = read_feeds(
        folder, [model.objective.backbone.prefix_text + text.strip() for text in texts]
    )
    runs: dict[str, Callable[[dict[str, Logits]], Logits]] = {
        "": partial(_run_merged, network),
        **{name: partial(_run_graph, session) for name, session in sessions.items()},
    }
    logits: dict[str, list[Logits]] = {name: [] for name in runs}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for place, feed in enumerate([feeds[0], *feeds]):
        for name, run in runs.items():
            took, output = _time(partial(run, feed))
            if place:  # the first text warms up, and comes again
                seconds[name].append(took)
                logits[name].append(output[0])
    expected = np.stack([adapted_logits(model, text.strip()) for text in texts])
    labels = [answer.label for answer in model.predict(texts)]
    files = {
        name: FileReport(
            bytes=sum(path.stat().st_size for path in folder.glob(name + "*")),
            difference=float(np.abs(np.stack(logits[name]) - expected).max()),
            agreement=_agreement(model, folder, texts, np.stack(logits[name]), labels),
            milliseconds=1000 * median(seconds[name]),
            times_faster=median(a / b for a, b in zip(seconds[""], seconds[name], strict=True)),
        )
        for name in names
    }
    largest = float(np.abs(expected).max())
    return Measured(len(texts), threads, 1000 * median(seconds[""]), largest, files)


def check_parity(measured: Measured, name: str) -> None:
    """Stop where a graph in float32 does not answer as the model does.

    Raises:
        ExportError: A logit or a label differs.
    """
    report = measured.files[name]
    allowed = TOLERANCE * max(1.0, measured.largest_logit)
    if not report.difference <= allowed or report.agreement < 1:
        raise ExportError(
            f"cannot keep the export: logits differ by up to {report.difference:.2g} from those of "
            f"PyTorch and {report.agreement:.1%} of {measured.texts} labels agree, {allowed:.2g} "
            "and all are needed; try another `opset`, or other texts if one of them is "
            "exactly between two labels"
        )


def open_graph(path: Path, *, threads: int) -> Any:
    """Open an ONNX file on the CPU.

    Raises:
        ExportError: ONNX Runtime cannot read it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0][:200].rstrip(".")
        raise ExportError(
            f"cannot run '{path.name}' ({reason}): a graph that the installed ONNX Runtime knows "
            "is needed; leave `opset` out or install a newer onnxruntime"
        ) from error


def read_feeds(folder: Path, texts: Sequence[str]) -> list[dict[str, Logits]]:
    """Tokenize texts one at a time, by the tokenizer that was written beside the graphs."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = [tokenizer.encode(text) for text in texts]
    return [
        {
            name: np.array([ids], dtype=np.int64)
            for name, ids in zip(INPUTS, (row.ids, row.attention_mask), strict=True)
        }
        for row in rows
    ]


@torch.no_grad()
def adapted_logits(model: AdaptedModel, text: str) -> Logits:
    """Compute logits as the model does: frozen weights and low-rank terms apart."""
    objective = model.objective
    device = objective.backbone.device
    ids = tokenize(objective.backbone, [text])[0].unsqueeze(0).to(device)
    owner = Owners(torch.zeros(1, dtype=torch.long, device=device), (1,))
    adapter = Adapter(objective.plan, repeat(model.weights, tasks=1), owner)
    logits = whole_network(objective.backbone).run(ids, torch.ones_like(ids), adapter)
    row: Logits = logits[0].float().cpu().numpy()
    return row


def _run_merged(network: Merged, feed: Mapping[str, Logits]) -> Logits:
    with torch.inference_mode():
        output: Tensor = network(**{name: torch.from_numpy(ids) for name, ids in feed.items()})
    logits: Logits = output.numpy()
    return logits


def _run_graph(session: Any, feed: Mapping[str, Logits]) -> Logits:
    logits: Logits = session.run(None, feed)[0]
    return logits


def _agreement(
    model: AdaptedModel, folder: Path, texts: Sequence[str], logits: Logits, labels: Sequence[str]
) -> float:
    if model.companion is not None:
        logits = plain_ngrams.mix(texts, logits, *plain_ngrams.load(folder))
    places: list[int] = logits.argmax(1).tolist()
    answers = [model.labels[place] for place in places]
    return sum(map(str.__eq__, answers, labels)) / len(labels)


def _time(run: Callable[[], _Result]) -> tuple[float, _Result]:
    began = time.perf_counter()
    result = run()
    return time.perf_counter() - began, result
