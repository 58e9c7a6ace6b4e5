"""From mixed meta-training to mined pairs, by recipes and the command line, on built-in text."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate import Accelerator
from safetensors.torch import load_file

from nlp_meta.cli import main
from nlp_meta.data.tasks import load_tasks
from nlp_meta.encoders.similarity import Overlap, ratio_margin
from nlp_meta.errors import MetaModelError, NlpMetaError
from nlp_meta.models.retrieval import RetrievalModel
from nlp_meta.settings import MetaTraining
from nlp_meta.training.config import read_settings
from nlp_meta.training.plan import load_splits
from nlp_meta.training.run import train_meta_model

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = REPOSITORY / "recipes"
ADAPT = ["--source-lang", "eng", "--target-lang", "spa"]


def make_config(encoder: Path) -> dict[str, Any]:
    """The shipped mixed config on the built-in corpora, with little of everything."""
    path = RECIPES / "configs" / "mixed_multilingual.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["data"] |= {"cards": ["nlp_meta_reviews", "nlp_meta_phrases"]}
    config["episode"] |= {"shot": 2, "query_shot": 2, "pairs": 6, "query_pairs": 4}
    config["model"] |= {"model_name_or_path": str(encoder), "max_tokens": 24, "prefix_text": ""}
    config["model"] |= {"lora_r": 2, "lora_alpha": 4.0, "lora_layers": 2}
    config["inner"] |= {"steps": 2, "learning_rate": 0.1, "optimizer": "sgd", "batch_size": 4}
    config["outer"] |= {"steps": 4, "meta_batch_size": 4, "stack": 2, "warmup_steps": 1}
    config["outer"] |= {"optimizer": "SGD", "learning_rate": 0.1, "options": {"momentum": 0.9}}
    config["outer"] |= {"validate_every": 2, "checkpoint_every": 2}
    config["adaptation"] |= {"labels": 8, "draws": 1, "max_query": 8, "batch_size": 4}
    config["adaptation"] |= {"steps": [1, 2], "learning_rates": [0.001]}
    config["run"] |= {"init_from": None, "mixed_precision": "no"}
    return config


Train = Callable[..., Path]


@pytest.fixture(scope="module")
def train(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """What recipes/meta_train.py does, in this process, with overrides of the config."""
    root = tmp_path_factory.mktemp("alignment")
    config = root / "config.yaml"
    config.write_text(yaml.safe_dump(make_config(tiny_encoder)), encoding="utf-8")

    def start(folder: str, *words: str) -> Path:
        path = root / folder
        words = ("--config", str(config), "--run.output_dir", str(path), *words)
        settings = read_settings(MetaTraining, words)
        tasks = load_splits(settings.data, "meta-train", "meta-validation")
        model, _ = train_meta_model(settings, *tasks, accelerator=Accelerator(cpu=True))
        assert model is not None
        model.save_pretrained(path)
        return path

    start.root, start.config = root, config
    return start


@pytest.fixture(scope="module")
def mixed(train: Train) -> Path:
    return train("mixed")


@pytest.fixture(scope="module")
def alone(train: Train) -> Path:
    words = ["--skills", "[retrieval]", "--episode.shares", "null", "--episode.weights", "null"]
    return train("alone", *words, "--adaptation.metric", "precision_at_1")


@pytest.fixture(scope="module")
def memory(train: Train) -> Path:
    """30 pairs of the held-out language pair, one of them without a translation."""
    (task,) = load_tasks(["nlp_meta_phrases"], meta_split="meta-test")
    path = train.root / "memory.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "target"])
        writer.writerows([one.source, one.target] for one in task.train[:30])
        writer.writerow(["Nobody translated this.", ""])
    return path


@pytest.fixture(scope="module")
def adapted(train: Train, mixed: Path, memory: Path) -> Path:
    folder = train.root / "eng-spa"
    words = ["adapt", str(mixed), "--data", str(memory), *ADAPT, "--output-dir", str(folder)]
    assert main([*words, "--json"]) == 0
    return folder


def read_record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "nlp_meta.json").read_text(encoding="utf-8"))


def test_a_mixed_run_logs_both_kinds(mixed):
    """By hand: of 4 episodes two are of each kind."""
    log = [json.loads(line) for line in (mixed / "log.jsonl").read_text("utf-8").splitlines()]

    assert [set(line["skills"]) for line in log] == [{"classification", "retrieval"}] * 4
    assert {its["episodes"] for line in log for its in line["skills"].values()} == {2.0}
    scores = [its["score"] for its in log[1]["skills"].values()]
    assert log[1]["score"] == pytest.approx(sum(scores) / 2)


def test_a_mixed_meta_model_holds_the_defaults_of_both_kinds(mixed):
    record = read_record(mixed)

    assert (record["role"], record["skills"]) == ("start", ["classification", "retrieval"])
    assert record["labels"] == ["negative", "positive"]
    labels, pairs = (record["adaptation"][skill] for skill in record["skills"])
    assert set(pairs) == {*labels, "temperature"}
    assert 0 < pairs["temperature"] < 1
    assert len(record["provenance"]["trials"]) == 2
    assert len(record["provenance"]["retrieval_trials"]) == 2
    kinds = {name.partition("/")[0] for name in record["provenance"]["meta_train"]}
    assert kinds == {"nlp_meta_reviews", "nlp_meta_phrases"}
    assert (mixed / "head.safetensors").is_file()


def test_translation_alone_has_neither_labels_nor_a_head(alone):
    record = read_record(alone)

    assert (record["role"], record["skills"]) == ("start", ["retrieval"])
    assert record["labels"] == []
    assert list(record["adaptation"]) == ["retrieval"]
    assert record["provenance"]["meta_train"] == ["nlp_meta_phrases/eng-deu"]
    assert not (alone / "head.safetensors").exists()


@pytest.mark.long
def test_two_processes_equal_one(train, mixed):
    """The recipe itself, launched."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    recipe = [str(RECIPES / "meta_train.py"), "--config", str(train.config)]
    run = subprocess.run(
        [sys.executable, *launch, *recipe, "--run.output_dir", str(train.root / "two")],
        capture_output=True,
        text=True,
        check=False,
        cwd=train.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "ACCELERATE_USE_CPU": "true"},
        timeout=240,
    )
    assert run.returncode == 0, run.stderr

    state = "checkpoints/step_00000004/state.safetensors"
    one, two = load_file(mixed / state), load_file(train.root / "two" / state)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert (two[name] - value).abs().max() < 1e-6, name


def test_a_mixed_run_begins_at_a_mixed_start(train, mixed):
    further = train("further", "--run.init_from", str(mixed), "--outer.learning_rate", "1e-30")

    one, two = (read_record(folder)["adaptation"] for folder in (mixed, further))
    assert one["retrieval"]["temperature"] == pytest.approx(two["retrieval"]["temperature"])


def test_a_mixed_run_cannot_begin_at_a_start_of_translation_alone(train, alone):
    with pytest.raises(MetaModelError, match=r"its 'classifier.*labels and skills"):
        train("never", "--run.init_from", str(alone))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--episode.shares", "{classification: 1.0, retrieval: 0.0}"], "`episode.shares`"),
        (["--skills", "[poetry]"], "one or more of classification, retrieval"),
        (["--episode.weights", "{classification: 1.0}"], "`episode.weights`"),
        (["--data.cards", "[nlp_meta_reviews]"], "cannot draw episodes of retrieval"),
        (["--model.pooling", "native"], "set `model.pooling` to mean"),
        (["--episode.pairs", "1"], "`episode.pairs` 1"),
        (["--episode.query_pairs", "1"], "`episode.query_pairs` 1"),
        (["--episode.query_pairs", "90"], "lower `episode.query_pairs`"),
        (["--adaptation.metric", "bleu"], "cannot judge episodes of"),
    ],
)
def test_settings_that_cannot_be_mixed_are_refused_before_anything_is_written(
    train, words, message
):
    with pytest.raises(NlpMetaError, match=re.escape(message)):
        train("bad", *words)

    assert not (train.root / "bad").exists()


def test_adapt_with_languages_tells_what_it_did(train, mixed, alone, memory, capfd):
    for meta in (mixed, alone):
        folder = train.root / f"from_{meta.name}"
        words = ["adapt", str(meta), "--data", str(memory), *ADAPT, "--output-dir", str(folder)]
        assert main([*words, "--json"]) == 0
        told = json.loads(capfd.readouterr().out)

        assert told["pairs"] == 30 and told["left_out"] == {"one-sided": 1}
        assert told["lines_left_out"] == {"one-sided": [32]}
        assert told["languages"] == ["eng", "spa"]
        assert told["steps"] in (0, 1, 2)
        assert 0 <= told["held_out_precision"] <= 1
        assert read_record(folder)["role"] == "adapted"
        assert main(words) == 0  # over the one that is there
        shown = capfd.readouterr().out
        assert "30" in shown and "1 one-sided (line 32)" in shown
        assert f"nlp-meta align {folder} --source a.txt" in shown


@pytest.mark.parametrize("when", ["none", "ngrams"])
def test_ngrams_beside_the_encoder_are_saved_and_mine(train, alone, memory, texts, capfd, when):
    """Another route: the margins of the file are those of both likenesses, added."""
    folder, output = train.root / when, train.root / f"{when}.tsv"
    words = ["adapt", str(alone), "--data", str(memory), *ADAPT, "--companion", when]
    assert main([*words, "--output-dir", str(folder)]) == 0
    shown = capfd.readouterr().out
    assert ("take no part" in shown) == (when == "none")
    share = read_record(folder)["adaptation"]["overlap"]
    assert (share > 0) == (when == "ngrams")

    words = ["align", str(folder), "--source", str(texts[0]), "--target", str(texts[1])]
    assert main([*words, "--output", str(output), "--threshold", "0.01"]) == 0

    left, right = (list(filter(None, path.read_text("utf-8").split("\n"))) for path in texts)
    model = RetrievalModel.from_pretrained(folder)
    cosines = model.embed(left) @ model.embed(right).T
    margins = ratio_margin(cosines + share * Overlap.of(left, right).cosines(), neighbors=4)
    with output.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            expected = margins[left.index(row["source"]), right.index(row["target"])]
            assert float(row["margin"]) == pytest.approx(float(expected), abs=1e-4)


@pytest.fixture(scope="module")
def texts(train: Train) -> tuple[Path, Path]:
    """Both sides of the pairs that were not learned from, the targets backwards, with gaps."""
    (task,) = load_tasks(["nlp_meta_phrases"], meta_split="meta-test")
    left, right = train.root / "a.txt", train.root / "b.txt"
    rest = task.train[30:]
    left.write_text("\n\n".join(one.source for one in rest) + "\n", encoding="utf-8")
    right.write_text("\n".join(one.target for one in rest[::-1]) + "\n", encoding="utf-8")
    return left, right


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl"])
def test_align_writes_one_row_a_pair(train, adapted, texts, capfd, ending):
    left, right = texts
    output = train.root / f"pairs.{ending}"
    words = ["align", str(adapted), "--source", str(left), "--target", str(right)]
    assert main([*words, "--output", str(output), "--threshold", "0.01", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)

    lines = output.read_text(encoding="utf-8").splitlines()
    if ending == "jsonl":
        rows = [json.loads(line) for line in lines]
    else:
        rows = list(csv.DictReader(lines, delimiter="\t" if ending == "tsv" else ","))
    assert told["pairs"] == len(rows) > 0
    assert told["sentences"] == {"source": 14, "target": 14}
    assert told["empty_lines"] == {"source": 13, "target": 0}
    sides = [path.read_text(encoding="utf-8").split("\n") for path in texts]
    for row in rows:
        assert sides[0][int(row["source_line"]) - 1] == row["source"]
        assert sides[1][int(row["target_line"]) - 1] == row["target"]
    margins = [float(row["margin"]) for row in rows]
    assert margins == sorted(margins, reverse=True)
    assert len({row["source"] for row in rows}) == len({row["target"] for row in rows}) == len(rows)


def test_align_takes_the_threshold_of_the_held_out_pairs(train, adapted, texts, capfd):
    words = ["align", str(adapted), "--source", str(texts[0]), "--target", str(texts[1])]
    assert main([*words, "--output", str(train.root / "own.tsv")]) == 0

    shown = capfd.readouterr().out
    assert f"{read_record(adapted)['adaptation']['threshold']:.3f}" in shown
    assert "13 of the source (line 2, 4, 6, ...)" in shown


def test_sentences_that_are_said_again_are_left_out_and_told(train, adapted, texts, capfd):
    """C and C# are two sentences, and so are 5 and -5."""
    source = train.root / "again.txt"
    source.write_text("C#.\nC.\n\n-5\n5\nc\nC  #\n C# !\n", encoding="utf-8")
    words = ["align", str(adapted), "--source", str(source), "--target", str(texts[1])]
    words += ["--output", str(train.root / "again.tsv")]

    assert main([*words, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["sentences"]["source"] == 7
    assert told["repeated_lines"] == {"source": [6, 8], "target": []}
    assert main(words) == 0
    assert "repeated sentences  2 of the source (line 6, 8)" in capfd.readouterr().out


def test_mined_pairs_are_a_memory_again(train, adapted, texts, mixed, capfd):
    words = ["align", str(adapted), "--source", str(texts[0]), "--target", str(texts[1])]
    mined = train.root / "mined.tsv"
    assert main([*words, "--output", str(mined), "--threshold", "0.01"]) == 0
    adapt = ["adapt", str(mixed), "--data", str(mined), *ADAPT, "--json"]
    capfd.readouterr()

    assert main([*adapt, "--output-dir", str(train.root / "again")]) == 0
    assert json.loads(capfd.readouterr().out)["pairs"] > 3


def test_what_align_cannot_do_is_one_sentence(train, adapted, mixed, texts, capfd):
    left, right = map(str, texts)
    empty, latin = train.root / "empty.txt", train.root / "latin.txt"
    empty.write_text("\n \n", encoding="utf-8")
    table = train.root / "pairs_already.csv"
    table.write_text("source,target\na,b\n", encoding="utf-8")
    latin.write_bytes("uno\ndos a\u00f1os\n".encode("latin-1"))
    good = {"--source": left, "--target": right, "--output": str(train.root / "no.tsv")}
    cases = [
        ({"--source": str(empty)}, "it has no sentence in 2 lines"),
        ({"--target": str(latin)}, "in line 2 is not UTF-8"),
        (
            {"--source": str(table)},
            "it is a .csv file, a plain text of one sentence a line is needed",
        ),
        ({"--source": "missing.txt"}, "check the path given as `--source`"),
        ({"--output": str(train.root / "no.docx")}, "one of .tsv, .csv, .jsonl, .xlsx is needed"),
        ({"--output": right}, "which this command reads, and an input is never overwritten"),
        ({"model": str(mixed)}, "adapt it first"),
        ({"model": str(train.root)}, "it holds no nlp_meta.json"),
    ]
    for changed, message in cases:
        model = changed.pop("model", str(adapted))
        words = [word for pair in {**good, **changed}.items() for word in pair]
        assert main(["align", model, *words]) == 2
        error = capfd.readouterr().err
        assert message in error and error.count("error: ") == 1
    assert not (train.root / "no.tsv").exists()


def test_what_adapt_cannot_do_with_pairs_is_one_sentence(train, adapted, mixed, memory, capfd):
    few = train.root / "few.csv"
    few.write_text("source,target\na house,una casa\nred,rojo\n", encoding="utf-8")
    good = ["--data", str(memory), "--output-dir", str(train.root / "never")]
    cases = [
        ([str(mixed), *good, "--source-lang", "eng"], "without `--target-lang`"),
        ([str(adapted), *good, *ADAPT], "it is an adapted model of retrieval"),
        ([str(mixed), *good, *ADAPT, "--max-rows", "20"], "at most 20 are taken"),
        ([str(mixed), "--data", str(few), *good[2:], *ADAPT], "at least 4 are needed"),
        ([str(mixed), *good, *ADAPT, "--source-column", "x"], "'x'"),
    ]
    for words, message in cases:
        assert main(["adapt", *words]) == 2
        error = capfd.readouterr().err
        assert message in error and error.count("error: ") == 1
    assert not (train.root / "never").exists()


def test_sentiment_of_a_mixed_start_is_adapted_as_ever(train, mixed, capfd):
    rows = ["good food,positive", "bad food,negative"] * 4
    table = train.root / "labels.csv"
    lines = [f"{i} {row}" for i, row in enumerate(rows)]
    table.write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    words = ["adapt", str(mixed), "--data", str(table), "--output-dir"]

    assert main([*words, str(train.root / "labels"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["labels"] == ["negative", "positive"]


def test_compare_judges_every_way_of_finding_pairs(train, alone, memory, tmp_path, capfd):
    folder = tmp_path / "report"
    words = ["compare", str(alone), "--data", str(memory), *ADAPT[:4], "--labels", "0,8"]
    words += ["--draws", "2", "--output-dir", str(folder), "--json"]

    assert main(words) == 0
    told = json.loads(capfd.readouterr().out)

    results = json.loads((folder / "results.json").read_text("utf-8"))
    names = ["hybrid", "adapt", "lora", "frozen_retrieval", "ngram_overlap"]
    assert list(results["methods"]) == names
    assert results["ours"] == "hybrid"
    assert results["metric"] == "precision_at_1"
    assert results["methods"]["adapt"]["choice"] == {
        "chosen": "by held-out pairs of each support set"
    }
    # By hand: 2 draws of 1 task, with 0 and 8 pairs; plain LoRA needs some.
    assert len(results["cells"]) == 2 * (2 * len(names) - 1)
    assert told["answer"].startswith("With 8 pairs") or "pairs" in told["answer"]
    page = (folder / "report.html").read_text("utf-8")
    assert memory.name in page
    judged = {one["query_rows"] for one in results["tasks"]}
    assert judged == {30 - 8}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "zero_pairs"], "one of hybrid, adapt, lora, frozen_retrieval"),
        (["--metric", "chrf"], "one of precision_at_1, mrr is needed; change `--metric`"),
        (["--labels", "29"], "at most 20 leave enough to judge by"),
        (["--target-lang", ""], "without `--target-lang`"),
    ],
)
def test_what_compare_cannot_do_with_pairs_is_one_sentence(
    alone, memory, tmp_path, capfd, words, said
):
    given = ["compare", str(alone), "--data", str(memory), *ADAPT[:4]]
    assert main([*given, "--output-dir", str(tmp_path / "report"), *words]) == 2

    (line,) = capfd.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("error: ")
    assert said in line


def test_compare_of_labels_refuses_metrics_of_pairs(alone, memory, tmp_path, capfd):
    words = ["compare", str(alone), "--data", str(memory), "--metric", "mrr"]

    assert main([*words, "--output-dir", str(tmp_path / "report")]) == 2
    assert "cannot compare labels by 'mrr'" in capfd.readouterr().err
