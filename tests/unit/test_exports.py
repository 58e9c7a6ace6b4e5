"""An adapted model, exported: what runs without this package answers as the model does."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sklearn.utils import murmurhash3_32
from transformers import pipeline

from nlp_meta.cli import main
from nlp_meta.data.answers import Prediction
from nlp_meta.encoders import plain_ngrams
from nlp_meta.encoders.batches import tokenize
from nlp_meta.errors import ExportError, SettingsError
from nlp_meta.exporting import checkpoint, graph, onnx_export
from nlp_meta.exporting.checkpoint import export_transformers
from nlp_meta.exporting.graph import merge
from nlp_meta.exporting.onnx_export import (
    FLOAT32,
    INT8,
    ExportReport,
    FileReport,
    Measured,
    adapted_logits,
    check_parity,
    export_onnx,
    open_graph,
    read_feeds,
)
from nlp_meta.hub.storage import StoredCompanion, save_companion
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.companion import Companion
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.objectives.ngrams import FEATURES, NgramModel
from nlp_meta.settings import ModelSettings

TEXTS = (
    "the agent was great",
    "bad service and a loud room, never again! " * 9,
    "  it was good  ",
    "we hated this plot",
)
LABELS = ("negative", "neutral", "positive")
STRIPPED = """
import runpy, sys
sys.modules.update(dict.fromkeys({blocked!r}))
sys.path.insert(0, {folder!r})
sys.argv = {words!r}
runpy.run_path({words!r}[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def wide_encoder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tokenizer; four times as wide inside a layer as outside, as published ones are."""
    folder = tmp_path_factory.mktemp("wide") / "encoder"
    shutil.copytree(tiny_encoder, folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    config.intermediate_size = 4 * config.hidden_size
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def make_adapted(
    tiny_encoder: Path, tiny_roberta: Path, wide_encoder: Path
) -> Callable[..., AdaptedModel]:
    """Build an adapted model whose tensors are all moved from where they begin."""

    def make(
        *,
        pooling: str,
        roberta: bool = False,
        wide: bool = False,
        companion: bool = False,
        prefix_text: str = "",
    ) -> AdaptedModel:
        settings = ModelSettings(
            model_name_or_path=str(
                tiny_roberta if roberta else wide_encoder if wide else tiny_encoder
            ),
            revision=None,
            pooling=pooling,
            head="shared",
            prefix_text=prefix_text,
            max_tokens=16,
            lora_r=2,
            lora_alpha=4.0,
            lora_layers=2,
            lora_target_modules=["query", "value", "dense"],
        )
        objective = build_classifier(settings, labels=LABELS, device="cpu", precision="no")
        generator = torch.Generator().manual_seed(0)
        weights = {
            name: value + 0.2 * torch.randn(value.shape, generator=generator)
            for name, value in objective.meta_parameters(generator).items()
        }
        own = Companion(make_ngrams(), 0.6, 0.5) if companion else None
        return AdaptedModel(objective, weights, settings, companion=own)

    return make


def make_ngrams() -> NgramModel:
    """A model with a weight for one place in four."""
    drawn = np.random.default_rng(0)
    weight = drawn.normal(size=(len(LABELS), FEATURES)) * (drawn.random(FEATURES) < 0.25)
    return NgramModel(LABELS, weight.astype(np.float32), np.array([0.1, 0, -0.2], np.float32))


@pytest.fixture(scope="module")
def adapted(make_adapted: Callable[..., AdaptedModel]) -> AdaptedModel:
    return make_adapted(pooling="native", companion=True, prefix_text="query: ")


@pytest.fixture(scope="module")
def exported(
    adapted: AdaptedModel, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ExportReport]:
    folder = tmp_path_factory.mktemp("export") / "onnx"
    return folder, export_onnx(adapted, folder, texts=TEXTS)


@pytest.mark.parametrize(
    ("pooling", "roberta"), [("native", False), ("native", True), ("mean", False), ("mean", True)]
)
def test_merged_weights_answer_as_frozen_ones_with_low_rank_terms(
    make_adapted: Callable[..., AdaptedModel], pooling: str, roberta: bool
):
    """The stacked adapter, through hooks, is the other route to the same logits."""
    model = make_adapted(pooling=pooling, roberta=roberta)
    network = merge(model)

    for text in TEXTS:
        ids = tokenize(model.objective.backbone, [text])[0].unsqueeze(0)
        with torch.no_grad():
            found = network(ids, torch.ones_like(ids))[0].numpy()
        assert np.allclose(found, adapted_logits(model, text), atol=1e-5)
        assert np.ptp(found) > 0.01


def test_merging_leaves_the_model_as_it_was(make_adapted: Callable[..., AdaptedModel]):
    model = make_adapted(pooling="native")
    before = {
        name: value.clone() for name, value in model.objective.backbone.model.named_parameters()
    }

    merge(model)

    after = dict(model.objective.backbone.model.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("size", range(1, 21))
def test_hash_is_that_of_scikit_learn(size: int):
    """N-grams of one order, of letters that UTF-8 writes in one to four bytes."""
    signs = np.random.default_rng(size).choice(list("ab\u00e9\u4e2d\U0001f600"), 40)
    text = "".join(signs)
    words = [text[first : first + size].encode() for first in range(len(text) - size + 1)]

    owners, hashes = plain_ngrams.hash_ngrams([text], orders=(size, size), characters=100)

    assert sorted(hashes.tolist()) == sorted(abs(murmurhash3_32(one, seed=0)) for one in words)
    assert not owners.any()


def test_ngrams_by_numpy_mix_as_the_companion_does(tmp_path: Path):
    """scikit-learn counts the other side; composed, long, blank-ridden and tiny texts too."""
    texts = [
        *TEXTS,
        "e\u0301te\u0301 a\u0300 Nice",
        "İstanbul ÇOK güzel",
        "x",
        "a  \t b\n\nc",
        "好" * 3,
        "ab " * 600,
    ]
    companion = Companion(make_ngrams(), 0.6, 0.5)
    save_companion(tmp_path, StoredCompanion(companion.model, companion.factors))
    logits = np.random.default_rng(1).normal(size=(len(texts), len(LABELS)))
    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    answers = [Prediction("", dict(zip(LABELS, row.tolist(), strict=True))) for row in odds]

    mixed = np.exp(plain_ngrams.mix(texts, logits, *plain_ngrams.load(tmp_path)))

    expected = [list(one.probabilities.values()) for one in companion.mix(texts, answers)]
    assert np.allclose(mixed / mixed.sum(1, keepdims=True), expected, atol=1e-6)


@pytest.mark.slow
def test_export_is_measured_on_the_texts_given(exported: tuple[Path, ExportReport]):
    folder, report = exported
    exact, small = (report.measured.files[name] for name in (FLOAT32, INT8))

    assert report.measured.texts == len(TEXTS) and report.graph == FLOAT32 and report.ngrams
    assert exact.difference < 1e-4 and exact.agreement == 1
    assert 1e-4 < small.difference < 0.5 * report.measured.largest_logit
    assert small.bytes == (folder / INT8).stat().st_size < 0.7 * exact.bytes
    assert json.loads((folder / "export.json").read_text())["opset"] == report.opset
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        "companion.json companion.safetensors export.json labels.json model.onnx model_int8.onnx "
        "ngrams.py run.py tokenizer.json".split()
    )


@pytest.mark.slow
def test_runner_answers_alone_what_the_model_predicts(
    exported: tuple[Path, ExportReport], adapted: AdaptedModel, tmp_path: Path
):
    """In a process that can import neither this package nor torch, transformers, safetensors."""
    folder = tmp_path / "moved"
    shutil.copytree(exported[0], folder)

    found = run_alone(folder, list(TEXTS))

    expected = adapted.predict(TEXTS)
    assert [label for label, _, _ in found] == [one.label for one in expected]
    sure = [one.probabilities[one.label] for one in expected]
    assert np.allclose([float(p) for _, p, _ in found], sure, atol=2e-4)


@pytest.mark.slow
def test_runner_gives_one_line_for_each_text(exported: tuple[Path, ExportReport]):
    """Blank lines, a byte order mark, tabs and line ends inside a text keep their place."""
    lines = "\ufeffgood\r\n\n\u200b\na\tb\n never".encode()
    run = [sys.executable, str(exported[0] / "run.py")]
    piped = subprocess.run(run, input=lines, capture_output=True, check=True)
    named = subprocess.run([*run, "good", " ", "a\nb"], capture_output=True, check=True)
    small = subprocess.run([*run, "--graph", INT8, "good"], capture_output=True, check=True)

    rows = [line.split("\t") for line in piped.stdout.decode().split("\n")]
    assert [row[2:] for row in rows] == [["good"], [""], ["\u200b"], ["a b"], ["never"], []]
    assert [row[0] in LABELS for row in rows[:5]] == [True, False, False, True, True]
    assert [row.split(b"\t")[2] for row in named.stdout.splitlines()] == [b"good", b"", b"a b"]
    assert small.stdout.startswith(tuple(label.encode() for label in LABELS))
    usage = subprocess.run([*run, "--help"], capture_output=True, check=True)
    assert usage.stdout.startswith(b"Label texts: python run.py")


@pytest.mark.slow
def test_runner_without_its_folder_says_what_is_missing(
    exported: tuple[Path, ExportReport], tmp_path: Path
):
    shutil.copy(exported[0] / "run.py", tmp_path)

    run = [sys.executable, str(tmp_path / "run.py"), "good"]
    done = subprocess.run(run, capture_output=True, check=False)

    assert done.returncode == 1
    assert b"copy the whole folder" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "words", "sentence"),
    [
        (b"good\nna\xefve\n", ["--graph", FLOAT32], b"line 2 is not UTF-8"),
        (b"good\n", ["--graph", "none.onnx"], b"cannot label texts: "),
        (b"good\n", ["--graph"], b"--graph needs the name of a graph"),
    ],
)
def test_runner_says_in_a_sentence_what_it_cannot_read(
    exported: tuple[Path, ExportReport], lines: bytes, words: list[str], sentence: bytes
):
    run = [sys.executable, str(exported[0] / "run.py"), *words]
    done = subprocess.run(run, input=lines, capture_output=True, check=False)

    assert done.returncode == 1
    assert sentence in done.stderr and b"Traceback" not in done.stderr


def run_alone(folder: Path, texts: list[str]) -> list[list[str]]:
    blocked = ["torch", "transformers", "nlp_meta", "safetensors", "scipy", "sklearn"]
    words = [str(folder / "run.py"), *texts]
    code = STRIPPED.format(blocked=blocked, folder=str(folder), words=words)
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_graph_takes_any_number_of_rows_and_tokens(
    exported: tuple[Path, ExportReport], adapted: AdaptedModel
):
    folder, _ = exported
    session = open_graph(folder / FLOAT32, threads=1)
    one_by_one = [session.run(None, feed)[0][0] for feed in read_feeds(folder, TEXTS)]
    block = np.zeros((len(TEXTS), 16), np.int64)
    mask = np.zeros_like(block)
    for row, feed in enumerate(read_feeds(folder, TEXTS)):
        size = feed["input_ids"].shape[1]
        block[row, :size], mask[row, :size] = feed["input_ids"][0], 1

    together = session.run(None, {"input_ids": block, "attention_mask": mask})[0]

    assert sorted(set(mask.sum(1).tolist()))[-1] == 16 and len(set(mask.sum(1).tolist())) > 1
    assert np.allclose(together, one_by_one, atol=1e-5)


@pytest.mark.slow
def test_files_name_no_folder_of_the_machine(exported: tuple[Path, ExportReport]):
    places = (Path(transformers.__file__).parent, exported[0].parent, Path.cwd())

    for path in exported[0].iterdir():
        content = path.read_bytes()
        assert all(str(place).encode() not in content for place in places), path.name


@pytest.mark.slow
def test_mean_pooling_with_weights_beside_the_graph(
    make_adapted: Callable[..., AdaptedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Weights too large for one file lie beside it; both graphs still answer as the model."""
    monkeypatch.setattr(graph, "LARGEST", 0)

    report = export_onnx(make_adapted(pooling="mean"), tmp_path / "onnx", texts=TEXTS)

    names = {path.name for path in (tmp_path / "onnx").iterdir()}
    assert {FLOAT32 + ".data", INT8 + ".data"} <= names and "ngrams.py" not in names
    assert not report.ngrams and report.measured.files[FLOAT32].agreement == 1
    assert len(run_alone(tmp_path / "onnx", ["good", "bad"])) == 2


@pytest.fixture
def no_graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail where the first file would be written."""

    def stop(*_: object, **__: object) -> int:
        raise ExportError("cannot export: stopped by a test; nothing is needed")

    monkeypatch.setattr(onnx_export, "write_graph", stop)
    return


@pytest.mark.slow
@pytest.mark.usefixtures("no_graph")
def test_failure_leaves_the_earlier_export_and_nothing_beside_it(
    exported: tuple[Path, ExportReport], adapted: AdaptedModel, tmp_path: Path
):
    shutil.copytree(exported[0], tmp_path / "onnx")
    before = {path.name: path.read_bytes() for path in (tmp_path / "onnx").iterdir()}

    with pytest.raises(ExportError, match="stopped by a test"):
        export_onnx(adapted, tmp_path / "onnx", texts=TEXTS)

    assert {path.name: path.read_bytes() for path in (tmp_path / "onnx").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]


@pytest.mark.slow
def test_earlier_export_is_replaced_whole(
    adapted: AdaptedModel,
    exported: tuple[Path, ExportReport],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    shutil.copytree(exported[0], tmp_path / "onnx")

    def write(_: object, path: Path, **__: object) -> int:
        shutil.copy(exported[0] / FLOAT32, path)
        return 20

    monkeypatch.setattr(onnx_export, "write_graph", write)
    plain = replace(adapted, companion=None)
    export_onnx(plain, tmp_path / "onnx", quantization="none", texts=TEXTS)

    names = {path.name for path in (tmp_path / "onnx").iterdir()}
    assert INT8 not in names and "ngrams.py" not in names
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]


@pytest.mark.parametrize(
    ("difference", "agreement"), [(3e-3, 1.0), (float("nan"), 1.0), (0.0, 0.99)]
)
def test_graph_that_answers_otherwise_is_not_kept(difference: float, agreement: float):
    """A logit of 20 allows 20 times 1e-4."""
    measured = Measured(
        100, 1, 1.0, 20.0, {FLOAT32: FileReport(1, difference, agreement, 1.0, 1.0)}
    )

    with pytest.raises(ExportError, match="cannot keep the export"):
        check_parity(measured, FLOAT32)

    check_parity(replace(measured, files={FLOAT32: FileReport(1, 1e-3, 1.0, 1.0, 1.0)}), FLOAT32)


def test_unknown_quantization_is_refused(adapted: AdaptedModel, tmp_path: Path):
    with pytest.raises(SettingsError, match="cannot quantize to 'int4': one of int8, none"):
        export_onnx(adapted, tmp_path / "onnx", quantization="int4")


def test_command_refuses_what_it_cannot_export(
    adapted: AdaptedModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """One sentence each, and the folders stay as they were."""
    meta = tmp_path / "meta"
    MetaModel(
        {"classification": adapted.objective},
        adapted.weights,
        adapted.settings,
        {"classification": Adaptation(InnerLoop(1, 0.1, "sgd"), None, False)},
        {},
    ).save_pretrained(meta)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    words = {
        "it is a start of classification and an adapted model of classification": [
            str(meta),
            "--output-dir",
            str(tmp_path / "new"),
        ],
        "it holds other things": [str(meta), "--output-dir", str(tmp_path / "full")],
        "cannot read 'none.csv'": [
            str(meta),
            "--output-dir",
            str(tmp_path / "new"),
            "--data",
            "none.csv",
        ],
    }

    for said, arguments in words.items():
        assert main(["export", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1 and error.startswith("error: cannot")
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(meta), "--output-dir", str(tmp_path / "new"), "--format", "tflite"])
    assert stopped.value.code == 2 and "invalid choice: 'tflite'" in capsys.readouterr().err
    monkeypatch.setattr(onnx_export, "ONNX_PACKAGES", ("onnx", "no_such_package"))
    assert main(["export", str(meta), "--output-dir", str(tmp_path / "new")]) == 2
    assert "pip install 'nlp-meta[onnx]'" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "meta"]
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_command_says_what_it_wrote(
    adapted: AdaptedModel,
    exported: tuple[Path, ExportReport],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    adapted.save_pretrained(tmp_path / "adapted")
    (tmp_path / "texts.csv").write_text("text\ngood\nbad\n")
    asked: dict[str, object] = {}

    def export(_: AdaptedModel, folder: Path, **options: object) -> ExportReport:
        asked.update(options)
        return exported[1]

    monkeypatch.setattr(onnx_export, "export_onnx", export)
    words = ["export", str(tmp_path / "adapted"), "--output-dir", str(tmp_path / "onnx")]

    assert main([*words, "--data", str(tmp_path / "texts.csv"), "--opset", "20", "--json"]) == 0

    out = capsys.readouterr()
    record = json.loads(out.out)
    assert asked == {
        "quantization": "int8",
        "opset": 20,
        "texts": ("good", "bad"),
        "replace": False,
    }
    assert record["format"] == "onnx" and record["ngrams"] is True
    assert record["measured"]["files"][FLOAT32]["agreement"] == 1
    assert "run.py mixes them in" in out.err and "ms a text" in out.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        {"pooling": "native"},
        {"pooling": "native", "roberta": True},
        {"pooling": "native", "roberta": True, "prefix_text": "query: "},
        {"pooling": "mean", "wide": True, "prefix_text": "query: "},
    ],
)
def test_pipeline_of_transformers_reads_a_checkpoint_with_the_logits_and_names_of_the_model(
    make_adapted: Callable[..., AdaptedModel], tmp_path: Path, how: dict[str, object]
):
    """The other route is the frozen encoder with its low-rank terms; blanks around a text go.

    A class that takes the mean of all states counts padding in: it refuses, or gives no number.
    """
    model = make_adapted(**how)

    report = export_transformers(model, tmp_path / "checkpoint", texts=TEXTS)

    read = pipeline("text-classification", str(tmp_path / "checkpoint"), truncation=True)
    found = read(list(TEXTS), top_k=None, function_to_apply="none")
    for text, answer in zip(TEXTS, found, strict=True):
        scores = {row["label"]: row["score"] for row in answer}
        expected = adapted_logits(model, text.strip())
        assert np.allclose([scores[name] for name in LABELS], expected, atol=1e-5)
    assert [row["label"] for row in read(list(TEXTS))] == [a.label for a in model.predict(TEXTS)]
    assert report.difference <= 1e-5 and report.labels == LABELS and not report.ngrams_left_out
    assert report.one_by_one is (how["pooling"] == "mean")
    if report.one_by_one:
        with pytest.raises(ValueError, match="without pad_token cannot do batching"):
            read(list(TEXTS), batch_size=2)
        read.tokenizer.pad_token = model.objective.backbone.tokenizer.pad_token
        scores = [row["score"] for row in read([TEXTS[0], f"{TEXTS[0]} {TEXTS[1]}"], batch_size=2)]
        assert np.isnan(scores).tolist() == [True, False]
    for path in (tmp_path / "checkpoint").iterdir():
        assert str(tmp_path.parent).encode() not in path.read_bytes(), path.name


def test_checkpoint_that_would_answer_otherwise_is_refused(
    make_adapted: Callable[..., AdaptedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """N-grams and means of RoBERTa have no place in it; logits that differ leave no folder."""
    mixed = make_adapted(pooling="native", companion=True)

    with pytest.raises(ExportError, match="`without_ngrams`"):
        export_transformers(mixed, tmp_path / "new", texts=TEXTS)
    with pytest.raises(ExportError, match=r"`model\.pooling` is native"):
        export_transformers(make_adapted(pooling="mean", roberta=True), tmp_path / "new")
    monkeypatch.setattr(checkpoint, "adapted_logits", lambda *_: np.zeros(3, np.float32))
    with pytest.raises(ExportError, match="cannot keep the export: logits of the pipeline"):
        export_transformers(mixed, tmp_path / "new", texts=TEXTS, without_ngrams=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_command_writes_a_checkpoint_and_refuses_options_of_the_other_format(
    adapted: AdaptedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    adapted.save_pretrained(tmp_path / "adapted")
    words = ["export", str(tmp_path / "adapted"), "--output-dir", str(tmp_path / "new")]
    to_transformers = [*words, "--format", "transformers"]

    for arguments, said in (
        (to_transformers, "leave them out with `--without-ngrams`"),
        ([*to_transformers, "--opset", "20"], "cannot export with `--opset` in the format tran"),
        ([*words, "--without-ngrams"], "cannot export with `--without-ngrams` in the format onnx"),
    ):
        assert main(arguments) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "new").exists()
    assert main([*to_transformers, "--without-ngrams", "--json"]) == 0

    out = capsys.readouterr()
    record = json.loads(out.out)
    assert record["format"] == "transformers" and record["ngrams_left_out"] is True
    assert record["difference"] <= 1e-5 * max(1, record["largest_logit"])
    assert "pipeline(" in out.err
    assert main([*to_transformers, "--without-ngrams"]) == 0
