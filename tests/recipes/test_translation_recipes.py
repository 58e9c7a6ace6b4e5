"""Writing translations end to end on the built-in phrases: from nothing to a translated file."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = REPOSITORY / "recipes"
PHRASES = REPOSITORY / "nlp_meta" / "data" / "corpus" / "translation"


def read_config(name: str) -> dict[str, Any]:
    return yaml.safe_load((RECIPES / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))


def start(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "ACCELERATE_USE_CPU": "true"},
        timeout=400,
    )


def small_config() -> dict[str, Any]:
    config = read_config("multitask_translation")
    config["data"] |= {"cards": ["nlp_meta_phrases"]}
    config["small_model"] |= {"vocabulary": 460, "hidden": 16, "feed_forward": 24, "max_tokens": 96}
    config["small_model"] |= {"encoder_layers": 1, "decoder_layers": 1, "attention_heads": 2}
    config["corpus"] |= {"held_out": 6}
    config["outer"] |= {"steps": 30, "warmup_steps": 5, "validate_every": 10, "average_last": 5}
    config["outer"] |= {"checkpoint_every": 10, "learning_rate": 0.01, "meta_batch_size": 2}
    config["run"] |= {"output_dir": "small", "batch_tokens": 1024, "mixed_precision": "no"}
    return config


def meta_config(name: str) -> dict[str, Any]:
    config = read_config(name)
    config["data"] |= {"cards": ["nlp_meta_phrases"]}
    config["model"] |= {"model_name_or_path": "small", "max_tokens": 96, "lora_r": 2}
    config["model"] |= {"num_beams": 2}
    config["outer"] |= {"steps": 2, "meta_batch_size": 2, "stack": 2, "warmup_steps": 1}
    config["outer"] |= {"validate_every": 2, "checkpoint_every": 1}
    config["inner"] |= {"batch_size": 4}
    config["adaptation"] |= {"labels": 8, "max_query": 4, "steps": [1, 2], "stack": 1}
    config["adaptation"] |= {"learning_rates": [0.01], "batch_size": 4}
    config["run"] |= {"output_dir": name, "mixed_precision": "no"}
    if config["inner"]["steps"]:
        config["episode"] |= {"pairs": 8, "query_pairs": 4}
        config["inner"] |= {"steps": 2}
    return config


@pytest.fixture(scope="module")
def run_recipe(run_here):
    def run(root: Path, recipe: str, config: dict[str, Any], *words: str):
        path = root / f"{recipe}_{config['run']['output_dir']}.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return run_here(root, recipe, "--config", str(path), *words)

    return run


@pytest.fixture(scope="module")
def root(tmp_path_factory, run_recipe):
    """A folder with the small model, trained; and a memory and a text of the meta-test pair."""
    root = tmp_path_factory.mktemp("translation")
    ran = run_recipe(root, "multitask_train", small_config())
    assert ran.returncode == 0, ran.stderr
    (root / "small.out").write_text(ran.stdout, encoding="utf-8")
    lines = (PHRASES / "eng-spa.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for name, some in (("memory.tsv", rows[:20]), ("test.tsv", rows[20:30])):
        with (root / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(["source", "target"])
            writer.writerows([row["source"], row["target"]] for row in some)
    text = "".join(row["source"] + "\n" for row in rows[30:34])
    (root / "new.txt").write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def meta(root, run_recipe):
    ran = run_recipe(root, "meta_train", meta_config("translation_generation"))
    assert ran.returncode == 0, ran.stderr
    return ran


def test_small_model_says_plainly_that_it_is_small(root):
    card = (root / "small" / "README.md").read_text(encoding="utf-8")
    told = json.loads((root / "small" / "training.json").read_text(encoding="utf-8"))

    assert "**This model is small and it translates badly.**" in card
    assert "nlp_meta_phrases (cc0-1.0)" in card
    assert f"| nlp_meta_phrases/eng-fra | eng-fra | no | {told['scores'][-1]['pairs']} |" in card
    assert told["pairs"] == 38
    log = [json.loads(line) for line in (root / "small" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss_before"] < log[0]["loss_before"]
    assert "held-out loss" in (root / "small.out").read_text()


def test_small_model_never_saw_meta_test_text(root):
    """Pieces are trained on German and English alone: no whole word is Spanish."""
    pieces = json.loads((root / "small" / "vocab.json").read_text(encoding="utf-8"))

    assert ">>deu<<" in pieces
    assert ">>eng<<" in pieces
    assert ">>spa<<" not in pieces
    assert not any("ñ" in piece or "¿" in piece for piece in pieces)


def test_a_stopped_training_of_the_small_model_goes_on(root, run_recipe):
    config = small_config()
    config["run"] |= {"output_dir": "again"}
    config["outer"] |= {"steps": 20, "average_last": 0}
    whole = run_recipe(root, "multitask_train", config)
    assert whole.returncode == 0, whole.stderr

    more = run_recipe(root, "multitask_train", config, "--resume")

    assert more.returncode == 0, more.stderr
    assert "after step 20 of 20" in more.stdout
    other = run_recipe(root, "multitask_train", config, "--resume", "--outer.learning_rate", "0.5")
    assert other.returncode == 2
    assert "`outer.learning_rate` was 0.01 and is 0.5" in other.stderr


@pytest.mark.long
def test_two_processes_build_the_same_small_model(root, run_here):
    """Two batches a step: one process works through both, each of two through one."""
    config = small_config()
    config["outer"] |= {"steps": 3, "optimizer": "SGD", "options": {}, "average_last": 0}
    states = []
    for processes in (1, 2):
        config["run"] |= {"output_dir": f"by_{processes}", "num_processes": processes}
        path = root / f"by_{processes}.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        recipe = str(RECIPES / "multitask_train.py")
        if processes == 1:
            ran = run_here(root, "multitask_train", "--config", str(path))
        else:
            launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
            ran = start(root, sys.executable, *launch, recipe, "--config", str(path))
        assert ran.returncode == 0, ran.stderr
        states.append(load_file(root / f"by_{processes}" / "model.safetensors"))

    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=1e-6, msg=name)


def test_meta_training_judges_and_saves_a_start(root, meta):
    assert "start: translation_generation" in meta.stdout
    record = json.loads((root / "translation_generation" / "nlp_meta.json").read_text())
    assert (record["role"], record["skills"]) == ("start", ["generation"])
    assert record["provenance"]["meta_train"] == ["nlp_meta_phrases/eng-deu"]
    assert record["provenance"]["meta_validation"] == ["nlp_meta_phrases/eng-fra"]
    # By hand: two steps, two episodes, 2 inner steps of 8 / 2 pairs and 4 query pairs.
    assert record["provenance"]["examples"] == 2 * 2 * (2 * 4 + 4)
    log = (root / "translation_generation" / "log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["score"] is not None


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("translation_generation_reptile", "meta_train"),
        ("multitask_translation_long", "multitask_train"),
    ],
)
def test_rivals_save_starts_of_the_same_kind(root, run_recipe, name, recipe):
    ran = run_recipe(root, recipe, meta_config(name))

    assert ran.returncode == 0, ran.stderr
    record = json.loads((root / name / "nlp_meta.json").read_text())
    assert (record["role"], record["skills"]) == ("start", ["generation"])


def test_adapt_translate_and_evaluate_a_held_out_pair(root, meta, run_here):
    languages = ["--source-lang", "eng", "--target-lang", "spa"]
    adapt = ["adapt", "translation_generation", "--data", "memory.tsv", *languages]
    ran = run_here(root, "nlp-meta", *adapt, "--output-dir", "eng-spa", "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["pairs"], told["is_new"]) == (20, True)

    words = ["translate", "eng-spa", "--data", "new.txt", "--output", "out.txt", "--json"]
    ran = run_here(root, "nlp-meta", *words)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["translated"] == 4
    assert len((root / "out.txt").read_text(encoding="utf-8").splitlines()) == 4

    words = ["evaluate", "eng-spa", "--data", "test.tsv", "--output", "scores.json", "--json"]
    ran = run_here(root, "nlp-meta", *words)
    assert ran.returncode == 0, ran.stderr
    scores = json.loads(ran.stdout)
    assert 0 <= scores["chrf"]["low"] <= scores["chrf"]["value"] <= scores["chrf"]["high"] <= 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--outer.algorithm", "deviations"), "`outer.algorithm`"),
        (("--outer.algorithm", "joint"), "`inner.steps`"),
        (("--episode.pairs", "0"), "`episode.pairs`"),
        (("--adaptation.metric", "accuracy"), "`adaptation.metric`"),
        (("--model.model_name_or_path", "nowhere"), "`model.model_name_or_path`"),
        (("--model.max_tokens", "97"), "`model.max_tokens`"),
    ],
)
def test_settings_that_do_not_fit_stop_in_one_sentence(root, run_recipe, words, message):
    config = meta_config("translation_generation")
    config["run"] |= {"output_dir": "refused"}

    ran = run_recipe(root, "meta_train", config, *words)

    assert ran.returncode == 2
    assert ran.stdout == ""
    assert message in ran.stderr.splitlines()[-1]
    assert not (root / "refused" / "nlp_meta.json").exists()


def test_configs_of_the_rivals_see_as_many_pairs():
    """By hand: episodes times the queries and the support pairs of every inner step."""

    def count(name: str) -> float:
        config = read_config(name)
        episode, inner, outer = config["episode"], config["inner"], config["outer"]
        batches = max(1, round(episode["pairs"] / (inner["batch_size"] or episode["pairs"] or 1)))
        used = inner["steps"] * episode["pairs"] / batches + episode["query_pairs"]
        return outer["steps"] * outer["meta_batch_size"] * used

    ours = count("translation_generation")
    assert ours == count("translation_generation_reptile") == 12_800
    assert count("multitask_translation_long") == ours
    starts = {
        read_config(name)["model"]["model_name_or_path"]
        for name in ("translation_generation", "multitask_translation_long")
    }
    assert starts == {read_config("multitask_translation")["run"]["output_dir"]}
