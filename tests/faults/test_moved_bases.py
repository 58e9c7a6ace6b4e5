"""A base that was a folder of another machine: what is said, and how its new place is given."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nlp_meta.cli import main
from nlp_meta.errors import BackboneError, MetaModelError
from nlp_meta.hub.bases import name_on_hub
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.serving.pack import DomainPack
from nlp_meta.settings import ModelSettings

ASKED = ("the room was cold", "i loved the house", "bad phone")


@pytest.fixture(scope="module")
def home(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a model of it, and that model after its base is gone from where it was."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(tiny_encoder, home / "old" / "minilm")
    settings = ModelSettings(
        model_name_or_path=str(home / "old" / "minilm"),
        revision=None,
        pooling="native",
        head="shared",
        prefix_text="",
        max_tokens=16,
        lora_r=2,
        lora_alpha=4.0,
        lora_layers=2,
        lora_target_modules=["query", "value"],
    )
    objective = build_classifier(settings, labels=("bad", "good"), device="cpu", precision="no")
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    AdaptedModel(objective, weights, settings).save_pretrained(home / "model")
    (home / "old").rename(home / "new")
    (home / "new.csv").write_text("text\ngood room\n", encoding="utf-8")
    return home


def edited(home: Path, folder: Path, *, place: str) -> Path:
    """A copy whose record and adapter name another place, as people edit them by hand."""
    shutil.copytree(home / "model", folder)
    for name, block, key in (
        ("nlp_meta.json", "model", "model_name_or_path"),
        ("adapter_config.json", None, "base_model_name_or_path"),
    ):
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        (values[block] if block else values)[key] = place
        (folder / name).write_text(json.dumps(values), encoding="utf-8")
    return folder


def test_a_base_that_is_not_here_is_named_and_so_is_the_way_to_give_its_place(home):
    with pytest.raises(MetaModelError) as refused:
        AdaptedModel.from_pretrained(home / "model")

    sentence = str(refused.value)
    assert f"the folder '{home / 'old' / 'minilm'}', that folder is not here" in sentence
    assert "give its new place with `base`, or set NLP_META_MODELS to the folder" in sentence
    assert "that holds 'minilm'" in sentence


@pytest.mark.parametrize(
    "place", ["/nowhere/minilm", "models/x/minilm", "..\\models\\minilm", "C:\\models\\minilm"]
)
def test_whatever_place_another_machine_had_is_told_as_a_folder(home, tmp_path, place):
    """Of Windows too, and of a folder beside the one that was worked in."""
    model = edited(home, tmp_path / "model", place=place)

    with pytest.raises(MetaModelError, match=r"is not here and the base is needed.*'minilm'"):
        AdaptedModel.from_pretrained(model)
    assert AdaptedModel.from_pretrained(model, base=home / "new" / "minilm").predict(ASKED)


def test_the_new_place_is_taken_from_the_argument_the_option_and_the_environment(
    home, tmp_path, monkeypatch, capsys
):
    place = str(home / "new" / "minilm")
    answers = AdaptedModel.from_pretrained(home / "model", base=place).predict(ASKED)
    words = ["predict", str(home / "model"), "--data", str(home / "new.csv")]
    words += ["--output", str(tmp_path / "out.csv")]

    assert main(words) == 2
    assert "give its new place with `--base`" in " ".join(capsys.readouterr().err.split())
    assert main([*words, "--base", place]) == 0
    monkeypatch.setenv("NLP_META_MODELS", str(home / "new"))
    assert AdaptedModel.from_pretrained(home / "model").predict(ASKED) == answers


def test_a_wrong_base_is_refused_by_its_weights(home, tmp_path):
    """Of the same shapes; and one that changed in its old place."""
    wrong = Path(shutil.copytree(home / "new" / "minilm", tmp_path / "wrong"))
    weights = load_file(wrong / "model.safetensors")
    save_file({n: v + 1e-3 for n, v in weights.items()}, wrong / "model.safetensors")

    for place, reason in ((wrong, "not those of"), (tmp_path, "no safetensors")):
        with pytest.raises(BackboneError, match=reason):
            AdaptedModel.from_pretrained(home / "model", base=place)
    with pytest.raises(MetaModelError, match="that folder is not here"):
        AdaptedModel.from_pretrained(home / "model", base=tmp_path / "none")
    model = AdaptedModel.from_pretrained(home / "model", base=home / "new" / "minilm")
    model.save_pretrained(tmp_path / "again")
    changed = edited(home, tmp_path / "model", place=str(wrong))
    with pytest.raises(BackboneError, match="its weights are not those"):
        AdaptedModel.from_pretrained(changed)


def test_models_of_one_base_serve_together_wherever_it_was(home, tmp_path):
    model = AdaptedModel.from_pretrained(home / "model", base=home / "new" / "minilm")
    pack = DomainPack(model, name="here")

    pack.load("moved", edited(home, tmp_path / "model", place="/nowhere/minilm"))

    answers = pack.predict(["here", "moved"], ASKED[:1] * 2)
    assert answers[0] == answers[1]


def test_a_folder_of_the_hubs_cache_is_known_by_its_name_on_the_hub():
    commit = "0123456789" * 4
    cached = f"/home/ann/.cache/huggingface/hub/models--me--x-y/snapshots/{commit}"

    assert name_on_hub(cached) == ("me/x-y", commit)
    assert name_on_hub("/home/ann/models/x") is None
