"""W stacked episodes adapt to the fast weights that each of them reaches alone."""

import numpy as np
import pytest
import torch

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import load_backbone
from nlp_meta.encoders.batches import Owners
from nlp_meta.encoders.lora import by_task, lowest_adapted_layer, plan_lora
from nlp_meta.encoders.prefix import build_network, whole_network
from nlp_meta.meta.algorithms import fomaml, maml, reptile
from nlp_meta.meta.inner_loop import InnerLoop, adapt, repeat
from nlp_meta.objectives.classification import Classification

LABELS = ("negative", "neutral", "positive")
WORDS = "the staff was not good and we loved a small house but hated slow cold food".split()
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def make_episode(labels, *, support: int, query: int, seed: int) -> Episode:
    """Random texts of 1 to 14 words, labels in turn."""
    generator = np.random.default_rng(seed)

    def examples(count: int) -> tuple[Example, ...]:
        lengths = generator.integers(1, 15, size=count)
        return tuple(
            Example(" ".join(generator.choice(WORDS, size=length)), labels[i % len(labels)])
            for i, length in enumerate(lengths)
        )

    return Episode(f"made/{seed}", labels, examples(support), examples(query), seed)


EPISODES = [
    make_episode(("negative", "positive"), support=8, query=5, seed=0),
    make_episode(LABELS, support=6, query=7, seed=1),
    make_episode(("neutral", "positive"), support=11, query=2, seed=2),
]


ALL = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")


def build(folder, *, pooling, head="shared", prefix=True, batch_tokens=150, targets=None):
    backbone = load_backbone(str(folder), pooling=pooling, max_tokens=12)
    plan = plan_lora(backbone, lora_r=4, lora_alpha=8, lora_layers=2, lora_target_modules=targets)
    frozen = lowest_adapted_layer(plan)
    network = (
        build_network(backbone, frozen_layers=frozen, cache_dtype=torch.float32)
        if prefix
        else whole_network(backbone)
    )
    return Classification(backbone, network, plan, LABELS, head, batch_tokens)


def begin(objective):
    """Meta-parameters away from their beginning, where every tensor has a gradient."""
    generator = torch.Generator().manual_seed(0)
    meta = objective.meta_parameters(generator)
    return {n: v + 0.1 * torch.randn(v.shape, generator=generator) for n, v in meta.items()}


def fast_weights(objective, meta, episodes, *, inner, minibatch=None):
    support = objective.support_batches(episodes, minibatch=minibatch)
    start = objective.start(repeat(meta, tasks=len(episodes)), support)
    return adapt(objective.loss, start, support, inner=inner)


def assert_stack_equals_single(objective, *, inner):
    meta = begin(objective)

    together = fast_weights(objective, meta, EPISODES, inner=inner)

    for task, episode in enumerate(EPISODES):
        alone = fast_weights(objective, meta, [episode], inner=inner)
        assert any(not torch.equal(alone[name][0], meta.get(name)) for name in meta)
        for name, value in alone.items():
            # A head that the stack's support sets make has rows for the most labels of a task.
            own = together[name][task][: len(value[0])]
            torch.testing.assert_close(own, value[0], **CLOSE)


@pytest.mark.parametrize("shape", ["tiny_encoder", "tiny_roberta"])
@pytest.mark.parametrize("pooling", ["native", "mean"])
@pytest.mark.parametrize("prefix", [True, False])
def test_stack_adapts_like_single_episodes(request, shape, pooling, prefix):
    """Another route: one episode at a time; sizes and label sets of the support sets differ."""
    objective = build(request.getfixturevalue(shape), pooling=pooling, prefix=prefix)

    assert_stack_equals_single(objective, inner=InnerLoop(2, 0.05, "sgd", anchor=0.1))


@pytest.mark.parametrize("shape", ["tiny_encoder", "tiny_roberta"])
@pytest.mark.parametrize("pooling", ["native", "mean"])
def test_stack_of_prototype_heads_adapts_like_single_episodes(request, shape, pooling):
    """Another route: one episode at a time."""
    objective = build(request.getfixturevalue(shape), pooling=pooling, head="prototype")

    assert_stack_equals_single(objective, inner=InnerLoop(2, 0.01, "sgd"))


@pytest.mark.parametrize("pooling", ["native", "mean"])
def test_adam_has_a_state_of_its_own_for_every_episode(tiny_encoder, pooling):
    """Another route: one episode at a time."""
    assert_stack_equals_single(
        build(tiny_encoder, pooling=pooling), inner=InnerLoop(2, 1e-3, "adam")
    )


@pytest.mark.parametrize(
    ("shape", "pooling"), [("tiny_encoder", "native"), ("tiny_roberta", "mean")]
)
def test_prefix_and_whole_model_adapt_to_the_same_fast_weights(request, shape, pooling):
    """Another route: every pass from token ids."""
    folder, inner = request.getfixturevalue(shape), InnerLoop(2, 0.05, "sgd")
    cached, whole = (build(folder, pooling=pooling, prefix=prefix) for prefix in (True, False))

    torch.testing.assert_close(
        fast_weights(cached, begin(cached), EPISODES, inner=inner),
        fast_weights(whole, begin(whole), EPISODES, inner=inner),
        **CLOSE,
    )


def test_minibatches_of_a_stack_are_those_of_single_episodes(tiny_encoder):
    """Another route: one episode at a time, of equal sizes so that all are cut alike."""
    objective = build(tiny_encoder, pooling="native")
    episodes = [make_episode(LABELS[:2], support=8, query=2, seed=seed) for seed in range(3)]
    inner, meta = InnerLoop(3, 0.05, "sgd"), begin(objective)

    together = fast_weights(objective, meta, episodes, inner=inner, minibatch=4)

    for task, episode in enumerate(episodes):
        alone = fast_weights(objective, meta, [episode], inner=inner, minibatch=4)
        for name, value in alone.items():
            torch.testing.assert_close(together[name][task], value[0], **CLOSE)


@pytest.mark.parametrize("algorithm", [fomaml, reptile])
@pytest.mark.parametrize("head", ["shared", "prototype"])
def test_meta_gradients_of_a_stack_are_those_of_single_episodes(tiny_encoder, algorithm, head):
    """Another route: one episode at a time."""
    objective = build(tiny_encoder, pooling="native", head=head)
    meta = begin(objective)

    def direction(episodes):
        support = objective.support_batches(episodes, minibatch=None)
        return algorithm(
            objective.loss,
            repeat(meta, tasks=len(episodes)),
            support,
            objective.query_batches(episodes),
            inner=InnerLoop(2, 0.02, "sgd"),
            start=lambda weights: objective.start(weights, support),
        )

    together = direction(EPISODES)

    assert meta.keys() <= together.gradient.keys()
    for task, episode in enumerate(EPISODES):
        alone = direction([episode])
        for name in meta:
            torch.testing.assert_close(
                together.gradient[name][task], alone.gradient[name][0], rtol=1e-4, atol=1e-5
            )
        for measure in ("loss_after", "adaptation_size"):
            torch.testing.assert_close(
                getattr(together, measure)[task], getattr(alone, measure)[0], rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("counts", [(3, 0, 4), (2, 2, 2)])
def test_products_by_task_have_derivatives_of_both_orders(counts):
    """Another route: finite differences, in float64; each row has two tokens."""
    generator = torch.Generator().manual_seed(0)
    owners = Owners(torch.arange(3).repeat_interleave(torch.tensor(counts)), counts)
    rows = torch.randn(sum(counts), 2, 5, generator=generator, dtype=torch.float64)
    matrices = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)

    def product(x, m):
        return by_task(x, m, owners)

    each = torch.einsum("rti,rio->rto", rows, matrices[owners.index])
    torch.testing.assert_close(product(rows, matrices), each)
    inputs = (rows.requires_grad_(), matrices.requires_grad_())
    assert torch.autograd.gradcheck(product, inputs)
    assert torch.autograd.gradgradcheck(product, inputs)


def test_exact_maml_through_the_lean_layers_is_that_through_the_whole_model(tiny_encoder):
    """Another route: transformers' own layers; all linear layers adapt."""
    gradients = []
    for prefix in (True, False):
        objective = build(tiny_encoder, pooling="native", prefix=prefix, targets=ALL)
        support = objective.support_batches(EPISODES, minibatch=None)
        found = maml(
            objective.loss,
            repeat(begin(objective), tasks=len(EPISODES)),
            support,
            objective.query_batches(EPISODES),
            inner=InnerLoop(2, 0.05, "sgd"),
        )
        gradients.append(found.gradient)

    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)
