"""The recipes that look into adaptation: diagnose.py and the levers beside it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from nlp_meta.settings import MetaTraining
from nlp_meta.training.config import read_settings
from nlp_meta.training.diagnosis import diagnose_start, load_start
from nlp_meta.training.run import load_splits

pytestmark = pytest.mark.slow

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


def test_a_prior_without_strength_leaves_the_adaptation_as_it_is(tell):
    """By hand: 0 times any way is nothing."""
    plain = tell("diagnose")
    free = tell("levers/gaussian_prior")

    assert free["scores"] == plain["scores"]
    assert free["query_loss"] == pytest.approx(plain["query_loss"], abs=1e-6)


def test_a_prior_holds_each_tensor_the_more_the_narrower_it_is(tell):
    plain = tell("diagnose")
    held = tell("levers/gaussian_prior", "--adaptation.anchor", "1000")

    assert held["adaptation_size"]["3"] < plain["adaptation_size"]["3"]
    assert all(width > 0 for width in held["widths"].values())


def test_widths_all_alike_are_the_anchor_itself(config, monkeypatch):
    """By hand: a tensor of mean width pays what `anchor` alone makes it pay."""
    import runpy

    prior = runpy.run_path(str(RECIPES / "levers/gaussian_prior.py"))
    monkeypatch.chdir(config.parent)
    settings = read_settings(
        MetaTraining, ["--config", str(config), "--adaptation.anchor", "10", "--run.seed", "1"]
    )
    model = load_start(settings)
    (validation,) = load_splits(settings.data, "meta-validation")
    alike = dict.fromkeys(model.weights, 0.25)

    lever = prior["hold"](model, alike, anchor=10.0)
    free = read_settings(MetaTraining, ["--config", str(config)])
    by_lever = diagnose_start(free, model, validation, lever=lever)
    by_anchor = diagnose_start(settings, model, validation)

    assert by_lever.scores == by_anchor.scores
    assert by_lever.adaptation_size == pytest.approx(by_anchor.adaptation_size, rel=1e-4)


def test_reading_unlabeled_texts_comes_before_the_support_set(tell):
    plain = tell("diagnose")
    read = tell("levers/masked_language")

    assert read["decoder_loss"]["last"] < read["decoder_loss"]["first"]
    assert list(read["scores"]) == STEPS
    assert read["query_loss"]["0"] != plain["query_loss"]["0"]


def test_difference_pairs_episodes_and_needs_the_same_ones(run_here, tmp_path):
    """By hand: task a is better by 0.1 and 0.3, task b by 0 twice: 0.1 on the mean.

    One of a's two draws is drawn: its mean is 0.1 or 0.3, that of both tasks 0.05 or 0.15.
    """
    told = [("one", ["a", "b", "a", "b"], [0.5, 0.4, 0.7, 0.4]), ("two", ["a", "b"] * 2, [0.4] * 4)]
    told.append(("other", ["a", "c"] * 2, [0.4] * 4))
    paths = [tmp_path / f"{name}.json" for name, _, _ in told]
    for path, (_, tasks, scores) in zip(paths, told, strict=True):
        found = {"tasks": tasks, "scores": {"20": scores}, "query_loss": {"20": 0.5}}
        path.write_text(json.dumps(found), encoding="utf-8")

    done, refused = (
        run_here(tmp_path, "levers/difference", str(paths[0]), str(path)) for path in paths[1:]
    )

    assert done.stdout == (
        "0.500 minus 0.400: +0.100 [+0.050, +0.150], 4 episodes; query loss 0.500 to 0.500\n"
    )
    assert refused.returncode == 2
    assert "the same tasks and draws are needed" in refused.stderr
