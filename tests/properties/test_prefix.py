"""The cached prefix gives the logits of the whole backbone, whatever moves above it."""

import logging
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
from nlp_meta.encoders.prefix import build_network, whole_network

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


@pytest.fixture(scope="module")
def tiny_distilbert(tiny_encoder, tmp_path_factory):
    """A model type that the prefix does not know, with the tokenizer of the tiny BERT."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    folder = tmp_path_factory.mktemp("tiny_distilbert")
    for file in tiny_encoder.glob("token*"):
        shutil.copy(file, folder)
    config = DistilBertConfig(
        vocab_size=200, dim=16, n_layers=3, n_heads=2, hidden_dim=32, max_position_embeddings=64
    )
    torch.manual_seed(0)
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    return folder


@BOTH
def test_unknown_model_type_runs_whole_and_says_so(tiny_distilbert, caplog, pooling):
    """Another route for the logits: a stack of three equal tasks and a stack of one."""
    backbone, plan, weights = prepare(
        tiny_distilbert, pooling=pooling, lora_layers=1, target_modules=["q_lin", "v_lin"]
    )

    with caplog.at_level(logging.INFO, logger="nlp_meta"):
        network = build_network(backbone, frozen_layers=2)

    assert "prefix of a distilbert model cannot be cached" in caplog.text
    alike = {name: value[:1].expand(value.shape) for name, value in weights.items()}
    one = {name: value[:1] for name, value in weights.items()}
    torch.testing.assert_close(
        logits(network, backbone, plan, alike), logits(network, backbone, plan, one)
    )


def test_known_model_types_say_nothing(tiny_encoder, caplog):
    backbone, _, _ = prepare(tiny_encoder, pooling="native", lora_layers=1)

    with caplog.at_level(logging.INFO, logger="nlp_meta"):
        build_network(backbone, frozen_layers=3)

    assert not [record for record in caplog.records if record.name.startswith("nlp_meta")]


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
