"""Models that find translations: what is saved is loaded, what is mined is one to one."""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nlp_meta.cli import main
from nlp_meta.encoders.similarity import Overlap, ratio_margin
from nlp_meta.errors import DataError, MetaModelError
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_classifier, build_retriever
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.retrieval import RetrievalModel
from nlp_meta.objectives.retrieval import TEMPERATURE
from nlp_meta.settings import ModelSettings
from nlp_meta.training.plan import draw_meta_parameters

THINGS = "house agent phone battery food staff room plot brake service money".split()
SOURCES = [f"the good {thing}" for thing in THINGS]
TARGETS = [f"{thing} was very good" for thing in THINGS]
INNER = InnerLoop(8, 0.003, "adam")
PROVENANCE = {"outer_steps": 3, "examples": 4}
# Runs in a fresh process: the README's lines with `folder` and `texts` given.
SCRIPT = """
import json, sys
folder, base, code, texts = json.load(sys.stdin)
values = {"folder": folder, "base": base, "texts": texts}
exec(code, values)
assert "nlp_meta" not in sys.modules
print(json.dumps(values["embeddings"].tolist()))
"""


@pytest.fixture(scope="module")
def settings(tiny_encoder: Path) -> ModelSettings:
    return ModelSettings(
        model_name_or_path=str(tiny_encoder),
        revision=None,
        pooling="mean",
        head="shared",
        prefix_text="query: ",
        max_tokens=24,
        lora_r=2,
        lora_alpha=4.0,
        lora_layers=2,
        lora_target_modules=["query", "value"],
    )


def move(drawn: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    moved = {n: v + 0.1 * torch.randn(v.shape, generator=generator) for n, v in drawn.items()}
    return {**moved, TEMPERATURE: torch.tensor(3.25)}


@pytest.fixture(scope="module")
def start(settings) -> MetaModel:
    """A start of translation alone, all its tensors moved a little."""
    objective = build_retriever(settings, device="cpu")
    weights = move(objective.meta_parameters(torch.Generator().manual_seed(0)))
    return MetaModel(
        {"retrieval": objective},
        weights,
        settings,
        {"retrieval": Adaptation(INNER, 4, True)},
        PROVENANCE,
    )


@pytest.fixture(scope="module")
def model(start) -> RetrievalModel:
    return start.adapt_to_pairs(SOURCES, TARGETS, source_lang="eng", target_lang="xxx")


def test_a_saved_start_adapts_the_same(start, tmp_path):
    start.save_pretrained(tmp_path / "start")

    loaded = MetaModel.from_pretrained(tmp_path / "start")

    assert loaded.settings == start.settings and loaded.provenance == PROVENANCE
    assert loaded.adaptation == {"retrieval": Adaptation(INNER, 4, True)}
    assert loaded.weights.keys() == start.weights.keys()
    assert all(torch.equal(loaded.weights[name], v) for name, v in start.weights.items())
    record = json.loads((tmp_path / "start/nlp_meta.json").read_text(encoding="utf-8"))
    assert record["adaptation"]["retrieval"]["temperature"] == pytest.approx(math.exp(-3.25))
    assert record["labels"] == [] and not (tmp_path / "start/head.safetensors").exists()
    again = loaded.adapt_to_pairs(SOURCES, TARGETS)
    once = start.adapt_to_pairs(SOURCES, TARGETS)
    assert again.report.steps == once.report.steps
    torch.testing.assert_close(again.embed(SOURCES), once.embed(SOURCES), rtol=0, atol=1e-5)


def test_a_mixed_start_serves_both_kinds(settings, tmp_path):
    """Sentiment finds its head, translation the temperature; a later save loses neither."""
    sentiment = build_classifier(settings, labels=("n", "p"), device="cpu", precision="no")
    retrieval = build_retriever(settings, beside=sentiment)
    both = {"classification": sentiment, "retrieval": retrieval}
    weights = move(draw_meta_parameters(both, torch.Generator().manual_seed(0)))
    how = {
        "classification": Adaptation(InnerLoop(3, 0.01, "adam"), None, False),
        "retrieval": Adaptation(INNER, 4, True),
    }
    mixed = MetaModel(both, weights, settings, how, PROVENANCE)
    mixed.save_pretrained(tmp_path / "mixed")
    MetaModel.from_pretrained(tmp_path / "mixed").save_pretrained(tmp_path / "again")

    for name in ("mixed", "again"):
        loaded = MetaModel.from_pretrained(tmp_path / name)
        aligning = loaded.start_of("retrieval")

        assert loaded.adaptation == how and loaded.weights.keys() == weights.keys()
        assert set(loaded.start_of("classification")) == weights.keys() - {TEMPERATURE}
        assert set(aligning) == set(retrieval.meta_parameters(torch.Generator()))
        for key, value in aligning.items():
            assert torch.equal(value, weights[key])


def test_a_start_of_sentiment_alone_is_refused(settings, tmp_path):
    sentiment = build_classifier(settings, labels=("n", "p"), device="cpu", precision="no")
    weights = sentiment.meta_parameters(torch.Generator().manual_seed(0))
    MetaModel(
        {"classification": sentiment},
        weights,
        settings,
        {"classification": Adaptation(INNER, 4, True)},
        {},
    ).save_pretrained(tmp_path / "s")

    with pytest.raises(MetaModelError, match="this start learned classification and one"):
        MetaModel.from_pretrained(tmp_path / "s").adapt_to_pairs(SOURCES, TARGETS)


def test_a_saved_model_embeds_and_mines_the_same(model, tmp_path):
    model.save_pretrained(tmp_path / "model")

    loaded = RetrievalModel.from_pretrained(tmp_path / "model")

    assert loaded.languages == ("eng", "xxx")
    assert (loaded.threshold, loaded.report) == (model.threshold, model.report)
    torch.testing.assert_close(loaded.embed(SOURCES), model.embed(SOURCES), rtol=0, atol=1e-6)
    mined = [(one.source, one.target) for one in model.align(SOURCES, TARGETS)]
    assert [(one.source, one.target) for one in loaded.align(SOURCES, TARGETS)] == mined


@pytest.mark.slow
def test_plain_peft_gives_the_same_embeddings(model, tiny_encoder, tmp_path):
    """Another route: the code of the saved README in a process without this package."""
    model.save_pretrained(tmp_path / "model")
    text = (tmp_path / "model/README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (plain,) = (block for block in blocks if "from peft import" in block)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps([str(tmp_path / "model"), str(tiny_encoder), plain, SOURCES]),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )

    assert run.returncode == 0, run.stderr
    theirs = torch.tensor(json.loads(run.stdout))
    torch.testing.assert_close(theirs, model.embed(SOURCES), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "word"),
    [(AdaptedModel, "an adapted model of classification"), (MetaModel, "a start of retrieval")],
)
def test_a_model_of_pairs_is_not_taken_for_one_of_labels(model, tmp_path, kind, word):
    model.save_pretrained(tmp_path / "model")

    with pytest.raises(MetaModelError, match=f"adapted model of retrieval and {word} is needed"):
        kind.from_pretrained(tmp_path / "model")


def test_a_start_must_be_adapted_before_it_mines(start, tmp_path):
    start.save_pretrained(tmp_path / "start")

    with pytest.raises(MetaModelError, match=r"adapt it first"):
        RetrievalModel.from_pretrained(tmp_path / "start")


def test_each_sentence_is_mined_once_by_falling_margin(model):
    """Copies and spellings of a sentence are one; the first stands for all."""
    sources = [*SOURCES, SOURCES[0], SOURCES[1].upper() + "!"]

    mined = model.align(sources, TARGETS, threshold=0.01)

    assert 4 <= len(mined) <= len(TARGETS)
    assert len({one.source for one in mined}) == len({one.target for one in mined}) == len(mined)
    assert all(one.source < len(SOURCES) for one in mined)
    margins = [one.margin for one in mined]
    assert margins == sorted(margins, reverse=True)


def test_a_sentence_is_no_translation_of_its_own_copy(model):
    copies = [*(source + "." for source in SOURCES), *(f"({source})" for source in SOURCES)]

    mined = model.align(SOURCES, copies, threshold=0.01)

    assert mined and all(one.source != one.target % len(SOURCES) for one in mined)


def test_sentences_that_differ_in_a_sign_are_mined_apart(model):
    """Without their signs there are two: C and 5."""
    sources, targets = ["C#.", "C.", "-5", "5"], SOURCES[:4]

    mined = model.align(sources, targets, threshold=0.001)

    assert {one.source for one in mined} == {0, 1, 2, 3}


def test_a_threshold_leaves_out_what_is_below_it(model):
    whole = model.align(SOURCES, TARGETS, threshold=0.01)
    kept = model.align(SOURCES, TARGETS, threshold=whole[4].margin)

    assert kept == [one for one in whole if one.margin >= whole[4].margin]
    assert model.align(SOURCES, TARGETS, threshold=1000.0) == []
    assert all(one.margin >= model.threshold for one in model.align(SOURCES, TARGETS))


def test_every_text_is_embedded_whatever_the_order(model):
    """Another route: one text at a time."""
    ticks: list[int] = []
    texts = [*TARGETS, "a", "very " * 40]

    rows = model.embed(texts, on_step=ticks.append)

    assert sum(ticks) == len(texts)
    for text, row in zip(texts, rows, strict=True):
        torch.testing.assert_close(model.embed([text])[0], row, rtol=0, atol=1e-5)
        assert float(row.norm()) == pytest.approx(1.0, abs=1e-5)


def test_the_report_tells_what_was_done(start):
    steps: list[tuple[int, int]] = []
    long = "house " * 40

    model = start.adapt_to_pairs(
        [*SOURCES, long],
        [*TARGETS, "very long"],
        steps=5,
        learning_rate=0.001,
        on_step=lambda done, total: steps.append((done, total)),
    )

    report = model.report
    assert (report.pairs, report.steps, report.learning_rate) == (12, 5, 0.001)
    assert report.texts_cut == 1
    assert steps[-1] == (10, 10)
    assert report.temperature == pytest.approx(math.exp(-float(model.weights[TEMPERATURE])))
    assert model.threshold == report.threshold


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        (SOURCES, TARGETS[:-1], "11 sentences with 10 translations"),
        ([*SOURCES[:-1], " "], TARGETS, "source 11 of 11: it is empty"),
        (SOURCES[:3], TARGETS[:3], "at least 4 are needed"),
    ],
)
def test_pairs_that_cannot_be_learned_from_are_refused(start, sources, targets, message):
    with pytest.raises(DataError, match=message):
        start.adapt_to_pairs(sources, targets)


def test_long_sentences_may_stop_an_adaptation(start):
    long, lines = "house " * 40, range(2, 13)
    targets = [*TARGETS[:3], long, *TARGETS[4:]]

    with pytest.raises(DataError, match="1 of 22 texts, source 11 the first"):
        start.adapt_to_pairs([*SOURCES[:-1], long], TARGETS, long_texts="stop")
    with pytest.raises(DataError, match="1 of 22 texts, the target in line 5 the first"):
        start.adapt_to_pairs(SOURCES, targets, long_texts="stop", lines=lines)


@pytest.mark.parametrize(("sources", "targets"), [([], TARGETS), (SOURCES, [])])
def test_a_side_without_sentences_is_refused(model, sources, targets):
    with pytest.raises(DataError, match="at least one on each side"):
        model.align(sources, targets)


def write_memory(path: Path, pairs) -> Path:
    lines = [f"{source}\t{target}\n" for source, target in [("source", "target"), *pairs]]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_evaluate_scores_what_is_found(model, overlap, tmp_path, capsys):
    """By the other route: ranks by sorting cosines, in numpy; n-grams add to them."""
    own = replace(model, objective=replace(model.objective, overlap=overlap))
    own.save_pretrained(tmp_path / "model")
    data = write_memory(tmp_path / "test.tsv", zip(SOURCES, TARGETS, strict=True))
    words = ["evaluate", str(tmp_path / "model"), "--data", str(data)]

    code = main([*words, "--output", str(tmp_path / "scores.json"), "--json"])

    assert code == 0
    record = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert record == json.loads(capsys.readouterr().out)
    cosines = own.embed(SOURCES) @ own.embed(TARGETS).T
    cosines += overlap * Overlap.of(SOURCES, TARGETS).cosines()
    better = (cosines > cosines.diagonal().unsqueeze(1)).sum(1).numpy()
    mined = ratio_margin(cosines, neighbors=4).argmax(1)
    expected = {
        "precision_at_1": np.mean(better == 0),
        "mrr": np.mean(1 / (1 + better)),
        "xsim": np.mean(mined.numpy() != np.arange(11)),
    }
    for metric, value in expected.items():
        assert record[metric]["value"] == pytest.approx(value)
        assert record[metric]["low"] <= value <= record[metric]["high"]
    assert (record["pairs"], record["overlap"]) == (11, overlap)
    assert record["languages"] == ["eng", "xxx"]


def test_evaluate_leaves_out_pairs_whose_sentence_was_there_before(model, tmp_path, capsys):
    """A source with two translations has no rank of the right one."""
    model.save_pretrained(tmp_path / "model")
    pairs = [*zip(SOURCES, TARGETS, strict=True), (SOURCES[0].upper(), "it was good")]
    data = write_memory(tmp_path / "test.tsv", pairs)
    words = ["evaluate", str(tmp_path / "model"), "--data", str(data)]

    assert main([*words, "--output", str(tmp_path / "scores.json")]) == 0

    shown = " ".join(capsys.readouterr().out.split())
    assert "precision-at-1" in shown
    assert "11 of 12, each among 11 targets" in shown
    record = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert (record["pairs"], record["pairs_given"]) == (11, 12)
    assert f"{len(SOURCES)} of 11 pairs have a source that the model learned" in str(record)
