"""The recipes and the command line end to end, on the built-in corpus; then all that is bad."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from nlp_meta.cli import main
from nlp_meta.data.cards import find_card, load_card
from nlp_meta.data.tasks import load_tasks

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = REPOSITORY / "recipes"
CORPUS = REPOSITORY / "nlp_meta" / "data" / "corpus"


@dataclass(frozen=True)
class Trained:
    """What the two recipes left, and the tables of one domain."""

    root: Path
    config: Path
    run: Callable[..., subprocess.CompletedProcess[str]]
    joint: subprocess.CompletedProcess[str]
    meta: subprocess.CompletedProcess[str]

    def __getitem__(self, name: str) -> str:
        return str(self.root / name)


def make_config(encoder: Path) -> dict[str, Any]:
    path = RECIPES / "configs" / "multitask_reviews.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["data"] |= {"cards": ["nlp_meta_reviews"]}
    config["episode"] |= {"shot": 2, "query_shot": 2}
    config["model"] |= {"model_name_or_path": str(encoder), "max_tokens": 24}
    config["model"] |= {"lora_r": 2, "lora_alpha": 4.0, "lora_layers": 2}
    config["outer"] |= {"steps": 4, "meta_batch_size": 4, "stack": 4, "warmup_steps": 1}
    config["outer"] |= {"validate_every": 2, "checkpoint_every": 2}
    config["adaptation"] |= {"labels": 8, "draws": 1, "max_query": 8, "batch_size": None}
    config["adaptation"] |= {"steps": [1, 2], "learning_rates": [0.001]}
    return config


def write_table(path: Path, rows: Sequence[dict[str, str]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture(scope="module")
def trained(
    tiny_encoder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    run_here: Callable[..., subprocess.CompletedProcess[str]],
) -> Trained:
    root = tmp_path_factory.mktemp("recipes")
    config = root / "config.yaml"
    config.write_text(yaml.safe_dump(make_config(tiny_encoder)), encoding="utf-8")
    words = ["--config", str(config), "--run.output_dir"]
    run = partial(run_here, root)
    joint = run("multitask_train", *words, "joint")
    further = ["--outer.algorithm", "reptile", "--outer.optimizer", "SGD", "--outer.options", "{}"]
    further += ["--outer.learning_rate", "0.5", "--inner.steps", "2", "--run.init_from", "joint"]
    further += ["--run.report_to", "[tensorboard]"]
    meta = run("meta_train", *words, "runs/meta", *further)
    lines = (CORPUS / "real_estate.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    by_label = [
        [row for row in rows if row["label"] == label] for label in ("negative", "positive")
    ]
    mixed = [row for pair in zip(*by_label, strict=True) for row in pair]
    names = {"negative": "neg", "positive": "pos"}
    write_table(
        root / "labeled.csv", [{"review": r["text"], "mood": names[r["label"]]} for r in mixed[:24]]
    )
    write_table(root / "new.csv", [{"review": row["text"]} for row in mixed[24:40]])
    write_table(root / "test.csv", [{"text": r["text"], "label": r["label"]} for r in mixed[24:64]])
    return Trained(root, config, run, joint, meta)


def words_of(trained: Trained) -> list[str]:
    return ["--data", trained["labeled.csv"], "--text-column", "review", "--label-column", "mood"]


@pytest.fixture(scope="module")
def adapted(trained: Trained) -> dict[str, Any]:
    """By a process of its own: nothing but the object may reach its standard output."""
    words = ["adapt", "runs/meta", *words_of(trained), "--output-dir", "adapted", "--json"]
    return one_object(
        subprocess.run(
            [sys.executable, "-m", "nlp_meta", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=trained.root,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            timeout=240,
        )
    )


def one_object(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("\n") == 1
    return json.loads(run.stdout)


def read_log(folder: str) -> list[dict[str, Any]]:
    lines = (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_multitask_train_saves_a_meta_model(trained):
    assert trained.joint.returncode == 0, trained.joint.stderr
    assert "start: joint\n" in trained.joint.stdout
    log = read_log(trained["joint"])
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    assert [line["loss_before"] is None for line in log] == [False, False, True, False]
    assert all(line["loss_before"] in (None, line["loss_after"]) for line in log)
    assert [line["score"] is None for line in log] == [True, False, True, False]


def test_the_command_trains_the_start_that_the_recipe_trains(trained):
    """The same bytes of its adapter, from the same config and option."""
    words = ["--config", str(trained.config), "--outer.steps", "2", "--run.output_dir"]
    recipe = trained.run("multitask_train", *words, "by_recipe")
    command = trained.run("nlp-meta", "train", *words, "by_command", "--json")

    assert recipe.returncode == command.returncode == 0, command.stderr
    record = json.loads(command.stdout)
    assert record["output_dir"] == "by_command" and record["step"] == 2
    assert "nlp-meta adapt by_command" in command.stderr
    folders = [trained.root / name for name in ("by_recipe", "by_command")]
    one, other = [(folder / "adapter_model.safetensors").read_bytes() for folder in folders]
    assert one == other
    unknown = trained.run("nlp-meta", "train", "--config", "no_such")
    assert (
        unknown.returncode == 2 and "or a name that `nlp-meta train --list` shows" in unknown.stderr
    )


def test_trackers_get_every_outer_step(trained):
    """Read by TensorBoard itself: each loss of the 4 outer steps that was measured."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = Path(trained["runs/meta"]).rglob("events.out.tfevents.*")
    read = EventAccumulator(str(events))
    read.Reload()
    assert [event.step for event in read.Scalars("loss_after")] == [1, 2, 3, 4]
    assert [event.step for event in read.Scalars("loss_before")] == [1, 2, 4]
    log = read_log(trained["runs/meta"])
    assert read.Scalars("loss_before")[-1].value == pytest.approx(log[-1]["loss_before"], rel=1e-6)


METHODS = {
    "reptile": "start runs/meta",
    "adapt": "adapt runs/meta",
    "hybrid": "hybrid runs/meta",
    "multitask": "joint joint",
    **{name: name for name in ("lora", "full", "linear_probe", "prototypes", "memory", "ngrams")},
}


@pytest.fixture(scope="module")
def comparison(trained: Trained) -> Path:
    """Write a config of a small comparison with every method that needs no other package."""
    config = yaml.safe_load((RECIPES / "configs/compare_reviews.yaml").read_text(encoding="utf-8"))
    like = yaml.safe_load(trained.config.read_text(encoding="utf-8"))
    config |= {"data": like["data"], "model": like["model"], "adaptation": like["adaptation"]}
    config["comparison"] |= {"labels": [0, 8], "draws": 2, "max_query": 10, "resamples": 50}
    config["comparison"]["limits"] = {}
    config["comparison"]["methods"] = METHODS
    config["rivals"] |= {"full_steps": [2], "full_learning_rates": [1e-4], "temperatures": [0.5]}
    config["run"]["output_dir"] = "comparison"
    path = trained.root / "compare.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    run = trained.run("compare", "--config", str(path))
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(": accuracy ") == 1
    return trained.root / "comparison"


def test_compare_scores_every_method_on_the_same_draws(comparison):
    """By hand: 2 draws at 8 labels for all, at 0 labels for those that can do without."""
    results = json.loads((comparison / "results.json").read_text(encoding="utf-8"))

    cells = {(cell["method"], cell["draw"], cell["labels"]) for cell in results["cells"]}
    zero = ("reptile", "adapt", "hybrid", "multitask")
    expected = {(name, draw, 8) for name in METHODS for draw in (0, 1)}
    assert cells == expected | {(name, draw, 0) for name in zero for draw in (0, 1)}
    supports = {(c["task"], c["draw"], c["labels"]): set() for c in results["cells"]}
    for cell in results["cells"]:
        supports[cell["task"], cell["draw"], cell["labels"]].add(cell["support_hash"])
    assert {len(hashes) for hashes in supports.values()} == {1}
    for values in results["summary"]:
        assert values["low"] <= values["mean"] + 1e-9
        assert values["mean"] <= values["high"] + 1e-9
    assert {one["rival"] for one in results["paired"]} == METHODS.keys() - {"reptile"}
    assert not any(facts["skipped"] for facts in results["methods"].values())
    facts = results["methods"]
    ngrams = facts["ngrams"]["parameters"], facts["ngrams"]["bytes"]
    assert ngrams == (2 * 2**16, 2 * 2**16 * 4)  # a weight for each label and n-gram, float32
    assert facts["hybrid"]["parameters"] == facts["adapt"]["parameters"] + ngrams[0]
    assert facts["hybrid"]["bytes"] == facts["adapt"]["bytes"] + ngrams[1]
    assert str(comparison.parent) not in json.dumps(results)


def test_compare_leaves_every_answer_and_a_page(comparison):
    """By hand: the rows of the table are the query texts of all cells."""
    import pyarrow.parquet

    results = json.loads((comparison / "results.json").read_text(encoding="utf-8"))
    table = pyarrow.parquet.read_table(comparison / "predictions.parquet")

    assert table.num_rows == sum(cell["rows"] for cell in results["cells"])
    assert (comparison / "report.html").stat().st_size > 10_000
    assert len(list((comparison / "figures").glob("*.png"))) >= 3


def test_compare_makes_no_cell_twice(trained, comparison):
    before = {path: path.read_bytes() for path in (comparison / "cells").iterdir()}
    config = str(trained.root / "compare.yaml")
    run = trained.run("compare", "--config", config)

    assert run.returncode == 0, run.stderr
    assert {path: path.read_bytes() for path in (comparison / "cells").iterdir()} == before


COMPARE = ["--labels", "8,12", "--draws", "2", "--json", "--output-dir", "own"]


def test_compare_on_own_labels_judges_what_a_draw_leaves(trained):
    """By hand: 40 rows, a reserve of 12 leaves 28 to judge; a joint start was not given."""
    words = ["compare", "runs/meta", "--data", "test.csv", *COMPARE]
    words += ["--methods", "hybrid,lora,linear_probe,ngrams"]
    found = one_object(trained.run("nlp-meta", *words))

    results = json.loads((trained.root / "own/results.json").read_text(encoding="utf-8"))
    assert {cell["rows"] for cell in results["cells"]} == {28}
    assert len(results["cells"]) == 4 * 2 * 2
    assert results["ours"] == "hybrid"
    assert "12 labels" in found["answer"]
    assert Path(trained.root / found["report"]).is_file()
    assert found["skipped"] == {}


def test_compare_takes_labels_that_meta_training_never_saw(trained):
    """No start can answer without labels then; with some, its head is one of prototypes."""
    with (trained.root / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    new = {"negative": "spicy", "positive": "mild"}
    write_table(trained.root / "hot.csv", [{**r, "label": new[r["label"]]} for r in rows])
    words = ["compare", "runs/meta", "--data", "hot.csv", "--labels", "0,8", "--draws", "1"]
    names = ("adapt", "joint", "joint_adapt", "joint_hybrid", "ngrams")
    words += ["--methods", ",".join(names), "--joint", "joint", "--json"]
    found = one_object(trained.run("nlp-meta", *words, "--output-dir", "hot"))

    rows = [one for one in found["summary"] if one["metric"] == "accuracy"]
    assert {(one["method"], one["labels"]) for one in rows} == {(name, 8) for name in names}
    # What the joint start is worth, adapted just as ours is: a rival. With n-grams it is not.
    results = json.loads((trained.root / "hot/results.json").read_text(encoding="utf-8"))
    groups = {name: facts["group"] for name, facts in results["methods"].items()}
    assert groups == {
        **dict.fromkeys(("adapt", "joint_hybrid"), "ours"),
        **dict.fromkeys(("joint", "joint_adapt", "ngrams"), "rival"),
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "joint_hybrid"], "it needs a start: `--joint`"),
        (["--methods", "magic"], "one of"),
        (["--labels", "90"], "at most 27 leave enough to judge by"),
        (["--test-data", "other.csv"], "and, of the test table, odd"),
        (["--test-data", "single.csv"], "cannot judge by 1 row"),
    ],
)
def test_compare_says_in_one_sentence_what_it_cannot_do(trained, words, message):
    write_table(trained.root / "other.csv", [{"text": "a b", "label": "odd"}] * 3)
    write_table(trained.root / "single.csv", [{"text": "a b", "label": "positive"}])
    given = ["compare", "runs/meta", "--data", "test.csv", "--output-dir", "bad", *words]
    run = trained.run("nlp-meta", *given)

    assert run.returncode == 2
    assert message in run.stderr
    assert run.stderr.count("error: ") == 1
    assert not (trained.root / "bad").exists()


def test_recommend_names_the_best_method_and_how_sure_it_is(trained):
    words = ["recommend", "--data", "test.csv", "--start", "runs/meta", "--json"]
    words += ["--methods", "adapt,ngrams,linear_probe", "--folds", "2", "--repeats", "2"]
    found = one_object(trained.run("nlp-meta", *words))

    assert found["best"] == max(found["scores"], key=found["scores"].get)
    assert set(found["scores"]) == {"adapt", "ngrams", "linear_probe"}
    assert 0 <= found["chance_best"] <= 1
    assert found["gain"]["low"] <= found["gain"]["high"]
    assert found["answer"].startswith(f"use {found['best']}: accuracy ")
    assert found["rows"] == 40
    assert found["learned_from"] == 20


def test_meta_train_begins_from_it(trained):
    """By hand: 4 episodes of 2 labels, each 2 + 2 examples twice through and 2 queries a label."""
    assert trained.meta.returncode == 0, trained.meta.stderr
    assert "best judged: " in trained.meta.stdout
    log = read_log(trained["runs/meta"])
    assert [line["examples"] for line in log] == [4 * (4 * 2 + 4) * step for step in (1, 2, 3, 4)]
    assert all(line["adaptation_size"] > 0 for line in log)
    record = json.loads((trained.root / "runs/meta/nlp_meta.json").read_text(encoding="utf-8"))
    assert record["provenance"]["settings"]["outer"]["algorithm"] == "reptile"
    assert len(record["provenance"]["meta_train"]) == 8
    assert record["provenance"]["init_from"]["meta_train"] == record["provenance"]["meta_train"]
    assert str(trained.root) not in json.dumps(record["provenance"])


def test_nothing_half_written_is_left(trained, adapted):
    assert list(trained.root.rglob("*.part*")) == []
    assert {path.name for path in (trained.root / "runs/meta/checkpoints").iterdir()} == {
        "step_00000002",
        "step_00000004",
    }


def test_adapt_tells_what_it_did(trained, adapted):
    assert adapted["labels"] == ["negative", "positive"]
    assert adapted["match"]["matched"] == {"neg": "negative", "pos": "positive"}
    assert adapted["examples"] == 24
    assert adapted["steps"] in {0, 1, 2}
    assert (trained.root / adapted["output_dir"] / "adapter_model.safetensors").is_file()


def test_predict_writes_one_row_a_text(trained, adapted):
    words = ["predict", "adapted", "--data", "new.csv", "--text-column", "review"]
    words += ["--output", "predictions.csv", "--json"]
    result = one_object(trained.run("nlp-meta", *words))

    assert result["rows"] == 16
    with (trained.root / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["review", "label", "negative", "positive"]
    for row in rows:
        sure = {name: float(row[name]) for name in ("negative", "positive")}
        assert sum(sure.values()) == pytest.approx(1)
        assert row["label"] == max(sure, key=sure.__getitem__)


def test_evaluate_scores_with_intervals(trained, adapted, capfd):
    words = ["evaluate", trained["adapted"], "--data", trained["test.csv"], "--json"]
    code = main([*words, "--output", trained["scores.json"]])

    assert code == 0
    scores = json.loads(capfd.readouterr().out)
    assert scores == json.loads((trained.root / "scores.json").read_text(encoding="utf-8"))
    assert scores["rows"] == 40
    assert scores["labels"] == {"negative": 20, "positive": 20}
    for metric in ("accuracy", "macro_f1", "ece"):
        assert 0 <= scores[metric]["low"] <= scores[metric]["high"] <= 1


def files(folder: Path, *, without: str = "") -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != without
    }


def one_sentence(errors: str) -> str:
    assert "Traceback" not in errors
    (line,) = (line for line in errors.splitlines() if line.startswith("error: "))
    return line


GOOD = [{"text": f"good room {i}", "label": "pos"} for i in range(4)]
BAD = [{"text": f"bad room {i}", "label": "neg"} for i in range(4)]


@pytest.mark.parametrize(
    ("rows", "words", "says"),
    [
        ([*GOOD, *BAD, {"text": " ", "label": "pos"}], [], "line 10"),
        ([*GOOD, *BAD], ["--text-column", "review"], "--text-column"),
        ([*GOOD, *BAD], ["--label-column", "mood"], "--label-column"),
        (GOOD, [], "one label only"),
        ([{**GOOD[0], "text": f"good {i}"} for i in range(20)] + BAD[:1], [], "from 1 example:"),
        ([*GOOD, *BAD] * 12_500, [], "100000 rows"),
        (
            [{**row, "label": "Refund"} for row in GOOD] + [{**BAD[0], "label": "refund "}],
            [],
            "apart",
        ),
        ([*GOOD, *BAD], ["--learning-rate", "1e30"], "lower `--learning-rate`"),
        ([*GOOD, *BAD], ["--learning-rate", "1e30", "--steps", "1"], "lower `--learning-rate`"),
    ],
    ids=[
        "empty text",
        "missing text column",
        "missing label column",
        "one label",
        "single example",
        "100,000 rows",
        "labels alike",
        "loss not a number",
        "answers not a number",
    ],
)
def test_a_bad_table_stops_with_one_sentence(trained, adapted, tmp_path, capfd, rows, words, says):
    before = files(trained.root)
    data = ["--data", write_table(tmp_path / "bad.csv", rows)]

    code = main(["adapt", trained["runs/meta"], *data, "--output-dir", trained["adapted"], *words])

    told = capfd.readouterr()
    assert code == 2
    assert told.out == ""
    assert says in one_sentence(told.err)
    assert files(trained.root) == before


@pytest.mark.parametrize("name", ["nowhere", "joint/checkpoints"])
def test_a_missing_model_stops_with_one_sentence(trained, adapted, capfd, name):
    before = files(trained.root)

    code = main(["adapt", trained[name], *words_of(trained), "--output-dir", trained["adapted"]])

    told = capfd.readouterr()
    assert (code, told.out) == (2, "")
    sentence = one_sentence(told.err)
    assert "nlp_meta.json" in sentence or "there is no such folder here" in sentence
    assert files(trained.root) == before


@pytest.fixture
def recipe(trained) -> Callable[..., tuple[int, str]]:
    """Run joint training; its exit code and what it said on standard error."""

    def run(*words: str, config: Path | None = None) -> tuple[int, str]:
        done = trained.run("multitask_train", "--config", str(config or trained.config), *words)
        return done.returncode, done.stderr

    return run


def change(trained: Trained, path: Path, before: str, after: str) -> Path:
    text = trained.config.read_text(encoding="utf-8")
    assert text.count(before) == 1
    path.write_text(text.replace(before, after), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("\n  lora_r: 2", "\n  lora_rank: 2", "`model.lora_rank` is unknown"),
        ("\n    weight_decay: 0.01", "\n    weight_decay: 1e-3", "write 0.001 or 1.0e-3"),
        ("\n  patience: null\n", "\n", "`outer.patience` is missing"),
        ("\n  shot: 2", "\n  shot: two", "episode.shot"),
        ("\n  algorithm: joint", "\n  algorithm: maml", "`outer.algorithm`"),
        ("\n  lora_layers: 2", "\n  lora_layers: 9", "`model.lora_layers`"),
        ("\n  query_shot: 2", "\n  query_shot: 900", "`episode.query_shot`"),
        ("\n  init_from: null", "\n  init_from: nowhere", "cannot find the model 'nowhere'"),
        ("\n  optimizer: AdamW", "\n  optimizer: Adamm", "`outer.optimizer`"),
        ("\n  metric: accuracy", "\n  metric: acuracy", "`adaptation.metric`"),
        ("- nlp_meta_reviews\n", "- nlp_meta_review\n", "nlp_meta_review"),
        ("\n  source: files", "\n  source: file", "source"),
    ],
)
def test_a_wrong_setting_stops_with_one_sentence(trained, recipe, tmp_path, before, after, says):
    """The folder of an earlier run is named as output; it stays as it is."""
    saved = files(trained.root)

    code, told = recipe(
        *("--run.output_dir", "joint", "--replace"),
        config=change(trained, tmp_path / "bad.yaml", before, after),
    )

    assert code == 2
    assert says in one_sentence(told)
    assert files(trained.root) == saved


def test_fewer_processes_than_asked_for_stop_with_one_sentence(trained, recipe):
    code, told = recipe("--run.output_dir", "fewer", "--run.num_processes", "3")

    assert code == 2
    assert "3 processes were asked for and 1 started" in one_sentence(told)
    assert not (trained.root / "fewer").exists()


def test_a_missing_encoder_stops_with_one_sentence(trained, recipe):
    saved = files(trained.root)

    code, told = recipe(
        *("--run.output_dir", "joint", "--replace", "--model.model_name_or_path", "nowhere")
    )

    assert code == 2
    assert "`model.model_name_or_path`" in one_sentence(told)
    assert files(trained.root) == saved


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_its_model(trained, recipe):
    """The log is of the newest run, all else of the last one that ended well."""
    shutil.copytree(trained["joint"], trained["diverged"])
    saved = files(trained.root / "diverged", without="log.jsonl")

    code, told = recipe(
        *("--run.output_dir", "diverged", "--replace", "--outer.learning_rate", "1e30")
    )

    assert code == 2
    assert "learning_rate`" in one_sentence(told)
    assert files(trained.root / "diverged", without="log.jsonl") == saved


def test_other_peoples_folders_are_refused_before_the_work(trained, recipe, tmp_path):
    (tmp_path / "chapter.tex").write_text("years of work", encoding="utf-8")

    code, told = recipe("--run.output_dir", str(tmp_path))

    assert code == 2
    assert "holds other things" in one_sentence(told)
    assert [path.name for path in tmp_path.iterdir()] == ["chapter.tex"]


def cut_tensors(checkpoints: Path) -> None:
    path = checkpoints / "step_00000004" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def leave_only_a_part(checkpoints: Path) -> None:
    shutil.rmtree(checkpoints / "step_00000002")
    (checkpoints / "step_00000004").rename(checkpoints / ".step_00000004.part")


@pytest.mark.parametrize(
    ("damage", "says"),
    [(cut_tensors, "incomplete or damaged"), (leave_only_a_part, "no complete checkpoint")],
)
def test_a_half_written_checkpoint_stops_with_one_sentence(trained, recipe, damage, says):
    folder = trained.root / damage.__name__
    shutil.copytree(trained["joint"], folder)
    damage(folder / "checkpoints")
    saved = files(folder)

    code, told = recipe("--run.output_dir", str(folder), "--resume")

    assert code == 2
    assert says in one_sentence(told)
    assert files(folder) == saved


def write_lines(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_rows_of_nusax_that_a_start_saw_have_no_translation_in_what_is_adapted_to(
    run_here, tmp_path
):
    """Made sentences: number 7 is `ban seven 7` in Balinese. No pair names the odd rows."""
    parts = {"train": range(30), "dev": range(30, 40), "test": range(40, 60)}
    for card, folder in (("nusax", "sentiment"), ("nusax_mt", "translation")):
        for task in load_card(find_card(card)).tasks:
            codes = task.language.split("-")
            for part, numbers in parts.items():
                texts = [[f"{code} seven {number}" for code in codes] for number in numbers]
                rows = [dict(zip(("source", "target"), pair, strict=False)) for pair in texts]
                if folder == "sentiment":
                    rows = [{"text": r["source"], "label": "neutral"} for r in rows]
                    rows.append({"text": f"{task.language} odd {part}", "label": "neutral"})
                write_lines(tmp_path / folder / card / f"{task.name}.{part}.jsonl", rows)

    done = run_here(tmp_path, "nusax_apart", "--root", str(tmp_path))

    assert done.returncode == 0, done.stderr
    card = str(REPOSITORY / "recipes/nusax_apart.md")
    learned, held_out = (
        load_tasks([card], meta_split=name, data_root=str(tmp_path))
        for name in ("meta-train", "meta-test")
    )
    seen = {example.group for task in learned for example in task.train}
    for task in held_out:
        support = {example.group for example in task.train}
        assert support and support.isdisjoint(seen) and len(support | seen) == 30
        assert len(task.test) == 20
    for example in (example for task in learned for example in task.train):
        number = example.source.split()[-1]
        same = {
            e.group
            for t in (*learned, *held_out)
            for e in t.train
            if e.source.endswith(f" {number}")
        }
        assert same == {example.group}
