"""Export to ONNX: a folder that onnxruntime, tokenizers and numpy can run, measured as written.

Beside the graphs it holds `run.py`, the few lines that answer by them, and what those read. The
graphs are held against the model, answer by answer and in speed, on real texts.
"""

import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from nlp_meta.data.tasks import load_tasks
from nlp_meta.encoders import plain_ngrams
from nlp_meta.encoders.backbone import Backbone
from nlp_meta.encoders.batches import Owners, tokenize
from nlp_meta.encoders.lora import Adapter
from nlp_meta.encoders.prefix import whole_network
from nlp_meta.errors import ExportError, SettingsError, need_packages
from nlp_meta.exporting.graph import INPUTS, Merged, merge, quantize, write_graph
from nlp_meta.files.outputs import Layout, check_folder, write_folder
from nlp_meta.hub.pull import COMPANION_FACTS, COMPANION_WEIGHTS
from nlp_meta.hub.storage import StoredCompanion, save_companion
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


FLOAT32, INT8, RECORD = "model.onnx", "model_int8.onnx", "export.json"
RUNNER, LABELS, TOKENIZER, NGRAMS = "run.py", "labels.json", "tokenizer.json", "ngrams.py"
LAYOUT = Layout(
    what="an export",
    record=RECORD,
    names=(
        *(FLOAT32, INT8, RUNNER, LABELS, TOKENIZER, NGRAMS),
        *(COMPANION_FACTS, COMPANION_WEIGHTS),
    ),
)
QUANTIZATIONS = ("int8", "none")
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
SAMPLES = 64
_FORMAT = 1

_RUNNER = '''\
"""Label texts: python run.py "a text" "another", or one text a line on standard input.

Each text gives one line: label, probability, text. A blank text gives no label.
Needs onnxruntime, tokenizers and numpy. The temperature is in the weights, so
probabilities are calibrated{what}.
`python run.py --graph model_int8.onnx ...` opens another graph of this folder;
export.json tells how its answers compare.
"""

import json, sys
from pathlib import Path

try:
    import numpy, onnxruntime, tokenizers{imports}
except ImportError as error:
    install = "pip install onnxruntime tokenizers numpy"
    remedy = "copy the whole folder that was exported" if error.name == "ngrams" else install
    sys.exit(f"cannot label texts: {{error}}; {{remedy}}")

HERE = Path(__file__).resolve().parent


def load(graph=None):
    facts = json.loads((HERE / "labels.json").read_text(encoding="utf-8"))
    tokenizer = tokenizers.Tokenizer.from_file(str(HERE / "tokenizer.json"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(HERE / (graph or facts["model"])), options, providers=["CPUExecutionProvider"]
    )
    return facts, tokenizer, session, {companion}


def predict(text, facts, tokenizer, session, companion):
    row = tokenizer.encode(facts["prefix_text"] + text)
    feed = {{"input_ids": [row.ids], "attention_mask": [row.attention_mask]}}
    logits = session.run(None, {{k: numpy.array(v, numpy.int64) for k, v in feed.items()}})[0]
{mixes}    odds = numpy.exp(logits[0] - logits[0].max())
    return dict(zip(facts["labels"], (odds / odds.sum()).tolist()))


def read_texts(words):
    yield from words
    for place, line in enumerate([] if words else sys.stdin.buffer, start=1):
        try:
            yield line.decode("utf-8-sig" if place == 1 else "utf-8").rstrip("\\r\\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"line {{place}} is not UTF-8; save the texts as UTF-8") from error


def main(words):
    if words in (["-h"], ["--help"]):
        return print(__doc__)
    if words == ["--graph"]:
        raise ValueError("--graph needs the name of a graph in this folder after it")
    graph = words[1] if words[:1] == ["--graph"] else None
    parts = load(graph)
    for text in read_texts(words[2:] if graph else words):
        line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
        if not any(map(str.isprintable, line)):
            print("", "", line, sep="\\t")
            continue
        chances = predict(text.encode("utf-8", "replace").decode("utf-8").strip(), *parts)
        label = max(chances, key=chances.get)
        shown = label if label.isprintable() else ascii(label)[1:-1]
        print(shown, f"{{chances[label]:.4f}}", line, sep="\\t")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    try:
        main(sys.argv[1:])
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the answers has enough
    except Exception as error:
        sys.exit(f"cannot label texts: {{error}}")
'''
_WITHOUT_NGRAMS = {"what": "", "imports": "", "companion": "None", "mixes": ""}
_WITH_NGRAMS = {
    "what": "; character n-grams are mixed in",
    "imports": ", ngrams",
    "companion": "ngrams.load(HERE)",
    "mixes": "    logits = ngrams.mix([text], logits, *companion)\n",
}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The files that were written, and how they compare with the model in PyTorch.

    Attributes:
        opset: Of ONNX's operators.
        graph: The file that `run.py` opens unless told otherwise.
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
    replace: bool = False,
) -> ExportReport:
    """Merge the adapter into the encoder, write ONNX files with a runner, and check the answers.

    Nothing is kept unless the float32 graph gives the model's logits and labels; those of
    the quantized graph are measured and reported.

    Args:
        folder: New, empty, or an earlier export that nobody changed, which is replaced at the end.
        quantization: `int8` writes a second graph that is smaller and faster, and that the runner
            opens when it is told to; `none` does not.
        opset: None takes the exporter's own.
        texts: To compare the answers on; None takes reviews of the built-in corpus.
        replace: Replace files of an export's names that a person put there or changed.

    Raises:
        ExportError: The network or its tokenizer cannot be exported, or the answers differ.
        OutputError: Something in the folder would be lost, or the disk does not take the files.
        MissingPackageError: The extra `onnx` is not installed.
        SettingsError: There is no such quantization.
    """
    began = time.monotonic()
    folder = Path(folder)
    if quantization not in QUANTIZATIONS:
        raise SettingsError(
            f"cannot quantize to '{quantization}': one of {', '.join(QUANTIZATIONS)} is needed; "
            "change `quantization`"
        )
    need_packages("export to ONNX", *ONNX_PACKAGES, extra="onnx")
    check_folder(folder, LAYOUT, replace=replace)
    check_tokenizer(model.objective.backbone.tokenizer, model.settings.model_name_or_path)
    with write_folder(folder, LAYOUT, replace=replace) as draft:
        names = [FLOAT32] if quantization == "none" else [FLOAT32, INT8]
        written, measured = _write_graphs(draft.path, model, names, opset, texts or sample_texts())
        report = ExportReport(
            labels=model.labels,
            opset=written,
            graph=FLOAT32,
            ngrams=model.companion is not None,
            measured=measured,
            seconds=time.monotonic() - began,
        )
        draft.record = {"format": _FORMAT, **asdict(report)}
    return report


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a tokenizer that needs Python of its own.

    Raises:
        ExportError: It has no form that `tokenizers` reads.
    """
    if not isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
        raise ExportError(
            f"cannot export the tokenizer of '{name}': it has no tokenizer.json and one that the "
            "package tokenizers reads is needed; adapt a model with a fast tokenizer"
        )


def sample_texts() -> tuple[str, ...]:
    """Built-in reviews of an industry that no meta-training sees."""
    tasks = load_tasks(["nlp_meta_reviews"], meta_split="meta-test")
    return tuple(example.source for task in tasks for example in task.train)[:SAMPLES]


def _write_graphs(
    folder: Path, model: AdaptedModel, names: Sequence[str], opset: int | None, texts: Sequence[str]
) -> tuple[int, Measured]:
    """Write graphs and their runner, and measure them; return the opset too."""
    network = merge(model)
    written = write_graph(network, folder / FLOAT32, opset=opset)
    if INT8 in names:
        quantize(network, folder / FLOAT32, folder / INT8)
    _write_runner(folder, model, graph=FLOAT32)
    measured = measure(model, network, folder, names, texts)
    check_parity(measured, FLOAT32)
    return written, measured


def _write_runner(folder: Path, model: AdaptedModel, *, graph: str) -> None:
    """Write what runs a graph: the runner that opens it, labels, the tokenizer and n-grams."""
    backbone, companion = model.objective.backbone, model.companion
    _write_tokenizer(backbone, folder / TOKENIZER)
    facts = {"labels": model.labels, "model": graph, "prefix_text": backbone.prefix_text}
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    (folder / LABELS).write_text(text + "\n", encoding="utf-8")
    lines = _RUNNER.format(**(_WITHOUT_NGRAMS if companion is None else _WITH_NGRAMS))
    (folder / RUNNER).write_text(lines, encoding="utf-8")
    if companion is not None:
        save_companion(folder, StoredCompanion(companion.model, companion.factors))
        (folder / NGRAMS).write_text(inspect.getsource(plain_ngrams), encoding="utf-8")


def _write_tokenizer(backbone: Backbone, path: Path) -> None:
    """Write a tokenizer that cuts and fills texts by itself."""
    tokenizer = Tokenizer.from_str(backbone.tokenizer.backend_tokenizer.to_str())
    tokenizer.enable_truncation(max_length=backbone.max_tokens)
    pad = backbone.tokenizer.pad_token
    if isinstance(pad, str):
        tokenizer.enable_padding(pad_id=int(backbone.tokenizer.pad_token_id), pad_token=pad)
    else:
        tokenizer.no_padding()
    tokenizer.save(str(path))
