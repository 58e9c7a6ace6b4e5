"""The recipes that look into adaptation, labels that may be wrong, and what is labeled next."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = REPOSITORY / "recipes"
STEPS = ["0", "1", "3"]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def config(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory, run_here: Run) -> Path:
    """A joint start of the built-in corpus, and a config that begins there."""
    root = tmp_path_factory.mktemp("diagnoses")
    values = yaml.safe_load((RECIPES / "configs/multitask_reviews.yaml").read_text("utf-8"))
    values["data"] |= {"cards": ["nlp_meta_reviews"]}
    values["model"] |= {"model_name_or_path": str(tiny_encoder), "max_tokens": 24}
    values["model"] |= {"lora_r": 2, "lora_alpha": 4.0, "lora_layers": 2}
    values["episode"] |= {"query_shot": 2}
    values["outer"] |= {"steps": 4, "meta_batch_size": 4, "stack": 4, "warmup_steps": 1}
    values["adaptation"] |= {"labels": 8, "draws": 1, "max_query": 8, "batch_size": 4}
    values["adaptation"] |= {"steps": [1, 3], "learning_rates": [0.01], "stack": 2}
    values["run"] |= {"output_dir": str(root / "joint"), "mixed_precision": "no"}
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert run_here(root, "multitask_train", "--config", str(path)).returncode == 0
    values["run"]["init_from"] = values["run"]["output_dir"]
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture
def tell(run_here: Run, config: Path) -> Callable[..., dict[str, Any]]:
    """Run a recipe on the config; the JSON object that it prints."""

    def run(recipe: str, *words: str) -> dict[str, Any]:
        done = run_here(config.parent, recipe, "--config", str(config), *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_diagnose_tells_a_score_for_each_episode_and_what_each_layer_moved(tell):
    told = tell("diagnose")

    assert list(told["scores"]) == STEPS
    assert {len(scores) for scores in told["scores"].values()} == {2}
    assert told["support_loss"]["3"] < told["support_loss"]["0"]
    assert told["adaptation_size"]["0"] == 0 < told["adaptation_size"]["3"]
    assert set(told["relative_size"]) == {"layer 2", "layer 3", "head"}


def test_diagnose_needs_a_start(config, run_here):
    done = run_here(config.parent, "diagnose", "--config", str(config), "--run.init_from", "null")

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: cannot diagnose the pretrained encoder")


@pytest.fixture
def measured(run_here: Run, config: Path) -> Callable[..., Any]:
    """Run a recipe on the tasks of the config; what it writes."""
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    tasks = config.with_name("tasks.yaml")
    kept = {name: values[name] for name in ("data", "model")}
    tasks.write_text(yaml.safe_dump({**kept, "comparison": {"metric": "accuracy"}}), "utf-8")

    def run(recipe: str, *words: str) -> Any:
        output = config.with_name(f"{recipe}.json")
        done = run_here(config.parent, recipe, str(tasks), *words, "--output", str(output))
        assert done.returncode == 0, done.stderr
        return json.loads(output.read_text(encoding="utf-8"))

    return run


@pytest.mark.slow
def test_flipped_labels_are_counted_and_cost_nothing_where_none_is(measured):
    record = measured("inspect_labels", "--start", "joint")

    assert list(record) == ["0.0", "0.1", "0.2"]
    for share, by_task in record.items():
        for measures in (one for draws in by_task.values() for one in draws):
            assert ("found" in measures) == (share != "0.0")
            if share == "0.0":
                assert measures["clean"] == measures["flipped"] == measures["mended"]


@pytest.mark.slow
def test_labels_that_are_chosen_and_drawn_are_scored_on_the_same_rows(measured):
    record = measured("suggest", "--start", "joint")

    for ways in record["curves"].values():
        assert {len(curve) for curve in ways.values()} == {8}  # 80 of 120 rows, 10 a round
        assert all(0 <= score <= 1 for curve in ways.values() for score in curve)
    assert record["saved"].keys() == {"random", "suggest"}


@pytest.mark.slow
def test_names_answer_without_labels_and_stand_beside_some(measured):
    record = measured("label_names", "--labels", "0", "8", "--draws", "1")

    assert record["0"].keys() == {"names", "names_alone", "chance", "majority"}
    assert record["8"].keys() == {"adapt", "named", "mixed_up"}
