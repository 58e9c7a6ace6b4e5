"""Pushing from a run of meta-training: checkpoints on the way, resuming elsewhere, the end."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from nlp_meta.errors import SettingsError
from nlp_meta.settings import HubSettings
from nlp_meta.training.pushes import checkpoint_files, destination_of

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
NAME = "me/joint"
PLACE = f"models/{NAME}"
RECIPE = """
import runpy, sys
sys.path.insert(0, {folder!r})
sys.argv = [{path!r}, *{words!r}]
runpy.run_path({path!r}, run_name="__main__")
"""


def write_config(encoder: Path, path: Path) -> Path:
    shipped = RECIPES / "configs" / "multitask_reviews.yaml"
    config = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    config["data"] |= {"cards": ["nlp_meta_reviews"]}
    config["episode"] |= {"shot": 1, "query_shot": 1}
    config["model"] |= {"model_name_or_path": str(encoder), "max_tokens": 16}
    config["model"] |= {"lora_r": 2, "lora_alpha": 4.0, "lora_layers": 1}
    config["outer"] |= {"steps": 4, "meta_batch_size": 2, "stack": 2, "warmup_steps": 1}
    config["outer"] |= {"validate_every": 2, "checkpoint_every": 2}
    config["adaptation"] |= {"labels": 4, "draws": 1, "max_query": 4, "batch_size": None}
    config["adaptation"] |= {"steps": [1], "learning_rates": [0.001]}
    config["run"] |= {"output_dir": str(path.parent / "run"), "mixed_precision": "no"}
    config["hub"] |= {"hub_strategy": "checkpoint", "hub_base_model": "base/tiny"}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def run_recipe(client, config, *words, **options):
    path = str(RECIPES / "multitask_train.py")
    given = ["--config", str(config), "--push-to-hub", "--hub-model-id", NAME, *words]
    code = RECIPE.format(folder=str(RECIPES), path=path, words=given)
    return client.code(code, **options)


def test_a_run_pushes_its_checkpoints_and_goes_on_from_them_on_another_machine(
    hub, client, tiny_encoder, tmp_path
):
    """The push of step 2 fails: the run ends all the same, and step 4 brings everything."""
    config = write_config(tiny_encoder, tmp_path / "config.yaml")
    hub.fail("POST", "/commit/", times=1)

    first = run_recipe(client, config)

    assert first.value == 0, first.err
    assert "step 2 is not on the Hub: cannot push to 'me/joint'" in first.err
    messages = [one.message for one in hub.repositories[PLACE].commits.values()]
    assert len(messages) == 3  # made, step 4, the end
    assert json.loads(hub.files(PLACE)["last-checkpoint/state.json"])["step"] == 4
    suffixes = {Path(name).suffix for name in hub.files(PLACE)}
    assert suffixes == {"", ".json", ".md", ".safetensors"}
    trained = load_file(tmp_path / "run" / "adapter_model.safetensors")
    shutil.rmtree(tmp_path / "run")

    second = run_recipe(client, config, "--resume")

    assert second.value == 0, second.err
    assert hub.count("GET", "/resolve/.*/last-checkpoint/state") == 2
    assert (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8") == ""
    resumed = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert {n: v.tolist() for n, v in resumed.items()} == {
        n: v.tolist() for n, v in trained.items()
    }


def test_a_run_that_the_hub_would_refuse_does_not_begin(hub, client, tiny_encoder, tmp_path):
    config = write_config(tiny_encoder, tmp_path / "config.yaml")

    for words, options, says in (
        ([], {"token": "hf_read"}, "the token is read-only"),
        (["--hub-base-model", "base/none"], {}, "find the base model 'base/none'"),
        (["--hub-strategy", "often"], {}, "`hub.hub_strategy`"),
        (["--hub-token-env", "MY_TOKEN"], {}, "'MY_TOKEN' is not set"),
    ):
        answer = run_recipe(client, config, *words, **options)
        told = " ".join(answer.err.split())
        assert answer.value == 2, answer.err
        assert says in told
    assert not (tmp_path / "run").exists()
    assert PLACE not in hub.repositories


def settings(**changes) -> HubSettings:
    values = {"push_to_hub": True, "hub_model_id": NAME, "hub_token_env": None}
    values |= {"hub_private_repo": True, "hub_revision": "draft", "hub_strategy": "end"}
    return HubSettings(**{**values, "hub_base_model": None, **changes})


def test_the_token_is_read_from_the_variable_that_is_named(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "hf_mine")

    to = destination_of(settings(hub_token_env="MY_TOKEN"))

    assert to is not None
    assert (to.repo_id, to.token, to.private, to.revision) == (NAME, "hf_mine", True, "draft")
    assert destination_of(settings(push_to_hub=False)) is None
    with pytest.raises(SettingsError, match=r"`hub\.hub_model_id`"):
        destination_of(settings(hub_model_id=None))


def test_a_checkpoint_is_two_files_of_safetensors_and_json(tmp_path):
    files = checkpoint_files(tmp_path / "step_00000020", place="checkpoints/step_00000020")

    assert list(files) == [
        "checkpoints/step_00000020/state.safetensors",
        "checkpoints/step_00000020/state.json",
    ]
