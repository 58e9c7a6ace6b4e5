"""The cached prefix gives the logits of the whole backbone, whatever moves above it."""

import shutil
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nlp_meta.encoders.backbone import load_backbone
from nlp_meta.encoders.batches import Owners, pad_rows
from nlp_meta.encoders.lora import (
    Adapter,
    lowest_adapted_layer,
    plan_lora,
    stacked,
    start_weights,
)
from nlp_meta.encoders.prefix import build_network, states_below, whole_network
from nlp_meta.models.builders import build_classifier
from nlp_meta.settings import ModelSettings

TEXTS = [
    "good",
    "the food was not good and the staff was slow, never again!",
    "we loved this house",
    "it is a plot with a room or two, small but warm and quiet, and the agent was great",
    "bad phone battery",
    "a",
]
SHAPES = pytest.mark.parametrize("shape", ["tiny_encoder", "tiny_roberta"])
BOTH = pytest.mark.parametrize("pooling", ["native", "mean"])


def prepare(folder, *, pooling, lora_layers, target_modules=None, max_tokens=32):
    """A backbone, its plan, and weights of three tasks in which nothing is zero."""
    backbone = load_backbone(str(folder), pooling=pooling, max_tokens=max_tokens)
    plan = plan_lora(
        backbone,
        lora_r=4,
        lora_alpha=8,
        lora_layers=lora_layers,
        lora_target_modules=target_modules,
    )
    generator = torch.Generator().manual_seed(0)
    start = start_weights(backbone, plan, num_labels=3, generator=generator)
    weights = {
        name: value + 0.2 * torch.randn(3, *value.shape, generator=generator)
        for name, value in start.items()
    }
    return backbone, plan, weights


def shared_out(rows: int, weights) -> Owners:
    """As many rows for each task, in order."""
    tasks = len(next(iter(weights.values())))
    return Owners(torch.arange(tasks).repeat_interleave(rows // tasks), (rows // tasks,) * tasks)


def logits(network, backbone, plan, weights, texts=TEXTS):
    block, mask = pad_rows(network.encode(texts), padding=network.padding)
    with torch.no_grad():
        return network.run(block, mask, Adapter(plan, weights, shared_out(len(texts), weights)))


@SHAPES
@BOTH
@pytest.mark.parametrize("lora_layers", [1, 2, 4])
@pytest.mark.parametrize("target_modules", [None, ["query", "key", "value", "dense"]])
def test_prefix_gives_the_logits_of_the_whole_model(
    request, shape, pooling, lora_layers, target_modules
):
    """Another route: transformers' own forward pass over token ids."""
    made = prepare(
        request.getfixturevalue(shape),
        pooling=pooling,
        lora_layers=lora_layers,
        target_modules=target_modules,
    )
    backbone, plan, _ = made
    frozen = lowest_adapted_layer(plan)
    assert frozen == 4 - lora_layers

    cached = build_network(backbone, frozen_layers=frozen, cache_dtype=torch.float32)

    expected = logits(whole_network(backbone), *made)
    assert expected.std() > 0.01
    torch.testing.assert_close(logits(cached, *made), expected, rtol=1e-5, atol=1e-5)


@SHAPES
@BOTH
def test_prefix_gives_the_gradients_of_the_whole_model(request, shape, pooling):
    """Another route: autograd through transformers' own forward pass."""
    backbone, plan, weights = prepare(
        request.getfixturevalue(shape), pooling=pooling, lora_layers=2
    )

    def gradients(network):
        leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
        block, mask = pad_rows(network.encode(TEXTS), padding=network.padding)
        out = network.run(block, mask, Adapter(plan, leaves, shared_out(len(TEXTS), leaves)))
        return dict(
            zip(leaves, torch.autograd.grad(out.square().sum(), leaves.values()), strict=True)
        )

    cached = build_network(backbone, frozen_layers=2, cache_dtype=torch.float32)

    torch.testing.assert_close(
        gradients(cached), gradients(whole_network(backbone)), rtol=1e-4, atol=1e-4
    )


@SHAPES
@BOTH
def test_bfloat16_cache_is_near(request, shape, pooling):
    """By hand: bfloat16 keeps eight bits, so states are off by less than a part in 256."""
    made = prepare(request.getfixturevalue(shape), pooling=pooling, lora_layers=2)
    backbone, plan, _ = made

    cached = build_network(backbone, frozen_layers=lowest_adapted_layer(plan))

    assert {state.dtype for state in cached.encode(TEXTS)} == {torch.bfloat16}
    expected = logits(whole_network(backbone), *made)
    error = (logits(cached, *made) - expected).abs().max()
    assert error < 0.05 * expected.std()


@SHAPES
@BOTH
def test_neighbors_and_padding_do_not_matter(request, shape, pooling):
    """Another route: each text in a batch of its own."""
    backbone, plan, weights = prepare(
        request.getfixturevalue(shape), pooling=pooling, lora_layers=2
    )
    one = {name: value[:1] for name, value in weights.items()}
    cached = build_network(backbone, frozen_layers=2, cache_dtype=torch.float32)

    together = logits(cached, backbone, plan, one)

    for text, row in zip(TEXTS, together, strict=True):
        alone = logits(cached, backbone, plan, one, [text])[0]
        torch.testing.assert_close(alone, row, rtol=1e-5, atol=1e-5)


def test_a_text_is_encoded_once(tiny_encoder):
    backbone, _, _ = prepare(tiny_encoder, pooling="native", lora_layers=2)
    cached = build_network(backbone, frozen_layers=2)
    passes = []
    backbone.encoder.embeddings.register_forward_hook(lambda *_: passes.append(1))

    first = cached.encode([*TEXTS, TEXTS[0]])
    again = cached.encode(list(reversed(TEXTS)))

    assert len(passes) == 1
    assert all(one is other for one, other in zip(first, reversed(again), strict=False))
    assert first[0] is first[-1]


def test_hooks_are_gone_after_the_pass(tiny_encoder):
    """The backbone answers as before, also when the pass fails."""
    backbone, plan, weights = prepare(tiny_encoder, pooling="native", lora_layers=2)
    ids = torch.tensor([[2, 5, 6, 3]])
    before = backbone.model(input_ids=ids).logits

    owners = shared_out(3, weights)
    with pytest.raises(RuntimeError), stacked(backbone, plan, weights, owners):
        backbone.model(input_ids=ids)  # one row where the owners are of three

    assert torch.equal(backbone.model(input_ids=ids).logits, before)
    assert not any(module._forward_hooks for module in backbone.model.modules())


FAMILIES = {
    "deberta": (["in_proj"], {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "deberta-v2": (
        ["query_proj", "value_proj"],
        {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "conv_kernel_size": 3,
            "conv_act": "gelu",
        },
    ),
    "distilbert": (["q_lin", "v_lin"], {}),
    "electra": (["query", "value"], {"embedding_size": 8}),
    "ernie": (["query", "value"], {}),
    "modernbert": (
        ["Wqkv", "Wo"],
        {
            "local_attention": 8,
            "global_attn_every_n_layers": 3,
            **dict.fromkeys(("bos_token_id", "cls_token_id"), 2),
            **dict.fromkeys(("eos_token_id", "sep_token_id"), 3),
        },
    ),
    "mpnet": (["q", "v"], {}),
}
"""Adapted layers, and what makes an architecture its own; ERNIE is not among those known."""


@pytest.fixture(scope="session")
def encoder_folders(tiny_encoder, tmp_path_factory):
    """Give the folder of a tiny random classifier of a model type, made when first asked for."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    made = {}

    def find(model_type):
        if model_type not in made:
            made[model_type] = folder = tmp_path_factory.mktemp(model_type)
            for file in tiny_encoder.glob("token*"):
                shutil.copy(file, folder)
            config = AutoConfig.for_model(
                model_type,
                vocab_size=200,
                num_hidden_layers=3,
                num_attention_heads=2,
                hidden_size=16,
                intermediate_size=32,
                max_position_embeddings=64,
                pad_token_id=0,
                **FAMILIES[model_type][1],
            )
            model = AutoModelForSequenceClassification.from_config(config)
            generator = torch.Generator().manual_seed(0)
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.data.normal_(0.0, 0.2, generator=generator)
            model.save_pretrained(folder)
        return made[model_type]

    return find


def prepare_family(encoder_folders, model_type, *, pooling, lora_layers=1):
    return prepare(
        encoder_folders(model_type),
        pooling=pooling,
        lora_layers=lora_layers,
        target_modules=FAMILIES[model_type][0],
    )


@BOTH
@pytest.mark.parametrize("lora_layers", [1, 2])
@pytest.mark.parametrize("model_type", [name for name in FAMILIES if name != "ernie"])
def test_every_family_begins_at_a_layer(encoder_folders, model_type, pooling, lora_layers):
    """Another route: the family's own forward pass over token ids."""
    made = prepare_family(encoder_folders, model_type, pooling=pooling, lora_layers=lora_layers)
    backbone, plan, _ = made

    cached = build_network(
        backbone, frozen_layers=lowest_adapted_layer(plan), cache_dtype=torch.float32
    )

    assert {state.shape[1:] for state in cached.encode(TEXTS)} == {(16,)}
    expected = logits(whole_network(backbone), *made)
    assert expected.std() > 0.01
    torch.testing.assert_close(logits(cached, *made), expected, rtol=1e-5, atol=1e-5)


@BOTH
def test_other_families_run_whole(encoder_folders, pooling):
    """Another route: transformers' own forward pass over token ids."""
    made = prepare_family(encoder_folders, "ernie", pooling=pooling)

    network = build_network(made[0], frozen_layers=2)

    assert {row.dim() for row in network.encode(TEXTS)} == {1}
    assert torch.equal(logits(network, *made), logits(whole_network(made[0]), *made))


@pytest.mark.parametrize(("model_type", "lines"), [("ernie", 1), ("mpnet", 0)])
def test_only_frozen_layers_that_run_again_are_told_of_once(
    encoder_folders, caplog, model_type, lines
):
    targets = FAMILIES[model_type][0]
    settings = ModelSettings(
        str(encoder_folders(model_type)), None, "mean", "shared", "", 32, 2, 4.0, 1, targets
    )

    objective = build_classifier(settings, labels=("bad", "good"), device="cpu")
    objective.over(objective.backbone)

    told = [record for record in caplog.records if record.name.startswith("nlp_meta")]
    assert [record.levelname for record in told] == ["WARNING"] * lines
    assert all("layers of a ernie model" in record.getMessage() for record in told)


@SHAPES
@BOTH
@pytest.mark.parametrize("lora_layers", [1, 2])
def test_prepared_states_give_the_same_logits(request, shape, pooling, lora_layers):
    """Another route: the products with frozen weights computed in the pass itself."""
    backbone, plan, weights = prepare(
        request.getfixturevalue(shape), pooling=pooling, lora_layers=lora_layers
    )
    network = build_network(backbone, frozen_layers=4 - lora_layers, cache_dtype=torch.float32)
    block, mask = pad_rows(network.encode(TEXTS), padding=network.padding)
    adapter = Adapter(plan, weights, shared_out(len(TEXTS), weights))

    prepared = network.run(network.prepare(block, mask), mask, adapter)

    torch.testing.assert_close(prepared, network.run(block, mask, adapter), rtol=1e-5, atol=1e-5)


class Casts(TorchDispatchMode):
    """Sizes of what is copied into another dtype."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._to_copy.default and (kwargs or {}).get("dtype"):
            self.sizes.append(args[0].numel())
        return function(*args, **(kwargs or {}))


@SHAPES
@BOTH
def test_bfloat16_is_near_and_casts_no_activations(request, shape, pooling):
    """By hand: eight bits a number. Only LoRA, of rank 4, and what the head reads are cast."""
    backbone, plan, weights = prepare(
        request.getfixturevalue(shape), pooling=pooling, lora_layers=2
    )
    exact = build_network(backbone, frozen_layers=2, cache_dtype=torch.float32)
    lower = build_network(backbone, frozen_layers=2, dtype=torch.bfloat16)
    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    owners = shared_out(len(TEXTS), weights)

    def slopes(network, casts):
        block, mask = pad_rows(network.encode(TEXTS), padding=network.padding)
        block = network.prepare(block, mask)
        with casts:
            out = network.run(block, mask, Adapter(plan, leaves, owners))
        assert out.dtype == torch.float32
        return out, torch.autograd.grad(out.square().sum(), leaves.values())

    casts = Casts()
    (expected, gradients), (out, near) = slopes(exact, nullcontext()), slopes(lower, casts)

    assert (out - expected).abs().max() < 0.1 * expected.std()
    assert all(slope.dtype == torch.float32 for slope in near)
    for slope, other in zip(near, gradients, strict=True):
        assert (slope - other).norm() <= 0.1 * other.norm()
    allowed = max(v.numel() for v in weights.values())
    hidden = len(TEXTS) * 32 * backbone.config.hidden_size
    assert max(casts.sizes) <= max(allowed, hidden if pooling == "mean" else 0)


def test_what_a_layer_is_given_is_the_same_in_every_head_and_no_other_model(
    tiny_encoder, encoder_folders
):
    """Equal weights below a layer, equal names of files; another layer or a moved weight, not."""

    def identity(pooling, *, layer=2, moved=False):
        backbone = load_backbone(str(tiny_encoder), pooling=pooling, max_tokens=32)
        if moved:
            backbone.encoder.encoder.layer[1].output.dense.bias[0] += 1
        return states_below(backbone.encoder, layer, padding=0, dtype=torch.bfloat16).identity()

    assert identity("native") == identity("mean")
    assert len({identity("mean"), identity("mean", layer=3), identity("mean", moved=True)}) == 3
