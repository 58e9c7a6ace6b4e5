"""Models of strangers: their code never runs, their pickles are not read, their bases not taken."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nlp_meta.encoders.backbone import load_backbone
from nlp_meta.encoders.seq2seq import load_seq2seq
from nlp_meta.errors import BackboneError
from nlp_meta.prompting.language_model import load_language_model

CODE = "import pathlib\npathlib.Path({place!r}).write_text('run')\nraise SystemExit\n"
CLASSES = {
    "AutoConfig": "evil.Config",
    "AutoModel": "evil.Model",
    "AutoModelForCausalLM": "evil.Model",
    "AutoModelForSeq2SeqLM": "evil.Model",
    "AutoModelForSequenceClassification": "evil.Model",
    "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"],
}
LOADS = {
    "native": lambda path: load_backbone(path, pooling="native", max_tokens=8),
    "mean": lambda path: load_backbone(path, pooling="mean", max_tokens=8),
    "seq2seq": lambda path: load_seq2seq(path, max_tokens=8),
    "language model": load_language_model,
}


@pytest.fixture
def base(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A copy of a base, to be spoiled."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "base"))


def refuse(load: Callable[[str], object], base: Path) -> str:
    """What loading is refused with; nothing where it is not."""
    try:
        load(str(base))
    except BackboneError as error:
        return str(error)
    return ""


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}), encoding="utf-8")


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("known", [True, False], ids=["a known type", "a type of its own"])
def test_code_of_a_base_never_runs_and_nobody_is_asked(base, monkeypatch, capsys, load, known):
    """The terminal would say yes to every question."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    mark = base.parent / "was_run"
    (base / "evil.py").write_text(CODE.format(place=str(mark)), encoding="utf-8")
    changed = {} if known else {"model_type": "evil"}
    change(base / "config.json", auto_map=CLASSES, **changed)
    change(base / "tokenizer_config.json", auto_map=CLASSES)

    refusal = refuse(LOADS[load], base)

    assert refusal or known
    assert "\n" not in refusal
    assert len(refusal) < 1000
    assert not mark.exists()
    assert sys.stdin.read() == "y\n" * 9
    assert "y/N" not in "".join(capsys.readouterr())


def pickle_alone(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    torch.save(weights, base / "pytorch_model.bin")


def cut_weights(base: Path) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def lack_weights(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    weights.pop("encoder.layer.0.attention.self.query.weight")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})


def hold_an_adapter(base: Path) -> None:
    path = base / "adapter_config.json"
    path.write_text(json.dumps({"base_model_name_or_path": "me/other", "peft_type": "LORA"}))


SPOILED = {
    "a pickle": pickle_alone,
    "weights that are cut off": cut_weights,
    "weights that lack a layer": lack_weights,
    "weights of other shapes": lambda base: change(base / "config.json", hidden_size=64),
    "a vocabulary of another model": lambda base: change(base / "config.json", vocab_size=7),
    "an adapter": hold_an_adapter,
    "attention from the Hub": lambda base: change(
        base / "config.json", _attn_implementation="kernels-community/evil"
    ),
    "an attention that is asked for": lambda base: change(
        base / "config.json", attn_implementation="me/evil"
    ),
    "a config that is deep": lambda base: (base / "config.json").write_text('{"a": ' * 30_000),
    "a config that is a list": lambda base: (base / "config.json").write_text("[]"),
    "a config of words": lambda base: change(base / "config.json", hidden_size="wide"),
    "no config": lambda base: (base / "config.json").unlink(),
    "a tokenizer that is cut off": lambda base: (base / "tokenizer.json").write_text("{"),
    "a tokenizer of odd settings": lambda base: change(
        base / "tokenizer_config.json", model_max_length="long"
    ),
    "no tokenizer": lambda base: [path.unlink() for path in base.glob("tok*")],
}


@pytest.mark.parametrize("spoil", SPOILED)
@pytest.mark.parametrize("pooling", ["native", "mean"])
def test_a_base_that_is_not_whole_is_refused_in_one_sentence(base, spoil, pooling):
    SPOILED[spoil](base)

    with pytest.raises(BackboneError, match=r"^cannot ") as refused:
        load_backbone(str(base), pooling=pooling, max_tokens=8)

    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000
