"""Fingerprints: what decides a method's cells, by what files hold and not by their names."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from nlp_meta.comparing.fingerprints import fingerprint, hash_adapter
from nlp_meta.files.outputs import hash_file
from nlp_meta.hub.bases import hash_base
from nlp_meta.settings import Comparison
from nlp_meta.training.config import read_settings

CONFIG = Path(__file__).resolve().parents[2] / "recipes/configs/compare_reviews.yaml"
COMMIT = "0123456789" * 4


def settings(method: str, base: Path | str) -> Comparison:
    read = read_settings(Comparison, ["--config", str(CONFIG)])
    model = replace(read.model, model_name_or_path=str(base))
    plan = replace(read.comparison, methods={"one": method})
    return replace(read, comparison=plan, model=model)


def train_again(path: Path) -> None:
    """Move a single number; the file keeps its name and its size."""
    tensors = load_file(path)
    name = next(iter(tensors))
    tensors[name].view(-1)[0] += 1
    save_file(tensors, path)


@pytest.fixture
def base(tiny_encoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_encoder, tmp_path / "base"))


@pytest.mark.parametrize("method", ["lora", "linear_probe", "full", "start", "hybrid"])
def test_a_base_that_is_trained_again_in_its_folder_is_another_one(
    method, base, save_start, tmp_path
):
    """A start stands on the base of its record, whatever the config names."""
    line = f"{method} {save_start(tmp_path / 'start', base)}"
    own = settings(method if method not in ("start", "hybrid") else line, base)
    before = fingerprint(own, "one")
    assert fingerprint(own, "one") == before

    train_again(base / "model.safetensors")

    assert fingerprint(own, "one") != before


def test_a_method_that_reads_no_base_does_not_ask_for_one():
    one, other = (fingerprint(settings("ngrams", name), "one") for name in ("a", "b"))
    assert one == other


def put_on_hub(monkeypatch: pytest.MonkeyPatch, folder: Path, cache: Path) -> None:
    """Put files into the cache of the Hub's client, as `some/model`."""
    place = cache / "models--some--model"
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(COMMIT, encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_base_on_the_hub_is_known_by_its_weights(base, tmp_path, monkeypatch):
    """Another route: the hash of the very files; in several files, of each in turn."""
    put_on_hub(monkeypatch, base, tmp_path / "cache")
    own = hash_file(base / "model.safetensors")
    assert hash_base("some/model", revision=None) == own
    assert hash_base("some/model", revision=COMMIT) == own
    assert hash_base("some/other", revision=None) == ""

    snapshot = tmp_path / "cache/models--some--model/snapshots" / COMMIT
    (snapshot / "model.safetensors").rename(snapshot / "model-1.safetensors")
    save_file({"more": torch.zeros(1)}, snapshot / "model-2.safetensors")
    parts = [f"model-{number}.safetensors" for number in (1, 2)]
    index = {"weight_map": {"x": parts[1], "y": parts[0], "z": parts[1]}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert hash_base("some/model", revision=None) == f"{own} {hash_file(snapshot / parts[1])}"


def test_a_start_on_the_hub_is_known_by_its_files(base, save_start, tmp_path, monkeypatch):
    start = save_start(tmp_path / "start", base)
    put_on_hub(monkeypatch, start, tmp_path / "cache")
    own = settings("start some/model", base)
    before = fingerprint(own, "one")

    assert hash_adapter("some/model") == hash_file(start / "adapter_model.safetensors")
    train_again(
        tmp_path / f"cache/models--some--model/snapshots/{COMMIT}/adapter_model.safetensors"
    )
    assert fingerprint(own, "one") != before


@pytest.mark.parametrize("file", [None, "toy.gguf"])
def test_a_language_model_that_is_trained_again_in_its_folder_is_another_one(
    file, base, tmp_path, monkeypatch
):
    """Of one behind an endpoint nothing can be read: its name is all that is known."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    (base / "toy.gguf").write_bytes(b"GGUF 1")
    own = settings("prompting", tmp_path)
    prompting = replace(own.prompting, model_name_or_path=str(base), gguf_file=file)
    here = replace(own, prompting=prompting)
    asked = replace(own, prompting=replace(prompting, endpoint="http://127.0.0.1:1"))
    before = fingerprint(here, "one"), fingerprint(asked, "one")

    if file is None:
        train_again(base / "model.safetensors")
    else:
        (base / "toy.gguf").write_bytes(b"GGUF 2")

    assert fingerprint(here, "one") != before[0]
    assert fingerprint(asked, "one") == before[1]


def test_a_gguf_file_on_the_hub_is_known_by_its_bytes(base, tmp_path, monkeypatch):
    (base / "toy.gguf").write_bytes(b"GGUF 1")
    put_on_hub(monkeypatch, base, tmp_path / "cache")

    assert hash_base("some/model", revision=None, file="toy.gguf") == hash_file(base / "toy.gguf")
    assert hash_base("some/model", revision=None, file="other.gguf") == ""
