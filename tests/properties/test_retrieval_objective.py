"""Retrieval on a tiny random encoder, beside a copied PEFT model and loops over tasks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import load_backbone
from nlp_meta.encoders.lora import lowest_adapted_layer, plan_lora
from nlp_meta.encoders.prefix import build_network, mean_pooled_embedder, whole_network
from nlp_meta.meta.algorithms import ALGORITHMS
from nlp_meta.meta.inner_loop import InnerLoop, adapt, mean_gradient, repeat
from nlp_meta.objectives.retrieval import TEMPERATURE, Retrieval, rank_candidates

WORDS = "the staff was not good and we loved a small house but hated slow cold food".split()
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
PREFIX = "a: "


def make_episode(*, support: int, query: int, seed: int) -> Episode:
    """Random pairs of texts of 1 to 14 words; the last pair repeats the first one's source."""
    generator = np.random.default_rng(seed)

    def text() -> str:
        return " ".join(generator.choice(WORDS, size=generator.integers(1, 15)))

    def pairs(count: int) -> tuple[Example, ...]:
        found = [Example(text(), text()) for _ in range(count)]
        return (*found[:-1], Example(found[0].source.upper() + "!", found[-1].target))

    pool = tuple(dict.fromkeys(text() for _ in range(9)))
    return Episode(
        f"made/{seed}", (), pairs(support), pairs(query), seed, "retrieval", "aaa-bbb", pool
    )


EPISODES = [
    make_episode(support=8, query=5, seed=0),
    make_episode(support=4, query=7, seed=1),
    make_episode(support=11, query=3, seed=2),
]


def build(folder, *, prefix=True, batch_tokens=150) -> Retrieval:
    backbone = load_backbone(str(folder), pooling="mean", max_tokens=12, prefix_text=PREFIX)
    plan = plan_lora(backbone, lora_r=4, lora_alpha=8, lora_layers=2, lora_target_modules=None)
    network = (
        build_network(backbone, frozen_layers=lowest_adapted_layer(plan), cache_dtype=torch.float32)
        if prefix
        else whole_network(backbone)
    )
    return Retrieval(backbone, network, plan, batch_tokens)


def begin(objective) -> dict[str, torch.Tensor]:
    """Meta-parameters away from their beginning, where every tensor has a gradient.

    At a temperature of 0.1: a lower one makes as much more of rounding errors.
    """
    generator = torch.Generator().manual_seed(0)
    meta = {**objective.meta_parameters(generator), TEMPERATURE: torch.tensor(10.0).log()}
    return {n: v + 0.1 * torch.randn(v.shape, generator=generator) for n, v in meta.items()}


def copied_model(objective, meta):
    """PEFT's own model with the same adapter, its LoRA matrices the only ones that move."""
    encoder = AutoModel.from_pretrained(objective.backbone.name, dtype=torch.float32)
    model = get_peft_model(encoder, LoraConfig(**objective.plan.config)).eval()
    named = dict(model.named_parameters())
    own = {}
    for name, value in meta.items():
        if name == TEMPERATURE:
            continue
        plain = name.removeprefix("encoder.")
        parameter = named[f"base_model.model.{plain}.default.weight"]
        parameter.data.copy_(value)
        own[name] = parameter
    return model, own


def plain_loss(model, tokenizer, temperature, pairs) -> torch.Tensor:
    """Texts one by one; each pair's negatives by comparing texts; two cross-entropies."""

    def embed(text):
        inputs = tokenizer(PREFIX + text, return_tensors="pt", truncation=True, max_length=12)
        return normalize(model(**inputs).last_hidden_state[0].mean(0), dim=0)

    def key(text):
        return text.lower().strip("!")

    sources = [embed(pair.source) for pair in pairs]
    targets = [embed(pair.target) for pair in pairs]
    total = torch.zeros(())
    for i, pair in enumerate(pairs):
        told = [i] + [
            j
            for j, other in enumerate(pairs)
            if key(other.source) != key(pair.source) and key(other.target) != key(pair.target)
        ]
        there = torch.stack([sources[i] @ targets[j] for j in told]) * temperature.exp()
        back = torch.stack([targets[i] @ sources[j] for j in told]) * temperature.exp()
        first = torch.tensor(0)
        total = total + (cross_entropy(there, first) + cross_entropy(back, first)) / 2
    return total / len(pairs)


@pytest.mark.parametrize("prefix", [True, False])
def test_loss_and_gradient_are_those_of_a_copied_model(tiny_encoder, prefix):
    """Another route: transformers and PEFT, one task and one text at a time, `backward`."""
    objective = build(tiny_encoder, prefix=prefix)
    meta = begin(objective)
    (minibatch,) = objective.support_batches(EPISODES, minibatch=None)

    losses, gradient = mean_gradient(objective.loss, repeat(meta, tasks=3), minibatch)

    assert set(gradient) == set(meta) and losses.shape == (3,)
    for task, episode in enumerate(EPISODES):
        model, own = copied_model(objective, meta)
        temperature = meta[TEMPERATURE].clone().requires_grad_()
        loss = plain_loss(model, objective.backbone.tokenizer, temperature, episode.support)
        loss.backward()
        torch.testing.assert_close(losses[task], loss.detach(), **CLOSE)
        torch.testing.assert_close(gradient[TEMPERATURE][task], temperature.grad, **CLOSE)
        for name, parameter in own.items():
            torch.testing.assert_close(gradient[name][task], parameter.grad, **CLOSE)


@pytest.mark.parametrize("batch_tokens", [20, 150, 10_000])
@pytest.mark.parametrize("minibatch", [None, 4])
def test_stacked_episodes_adapt_as_each_does_alone(tiny_encoder, batch_tokens, minibatch):
    """Another route: one episode at a time, everything in one piece."""
    objective, whole = (build(tiny_encoder, batch_tokens=n) for n in (batch_tokens, 10_000))
    meta = begin(objective)
    episodes = [replace(one, support=one.support[:8]) for one in (EPISODES[0], EPISODES[2])]
    inner = InnerLoop(3, 0.05, "sgd")

    def fast(one, some):
        support = one.support_batches(some, minibatch=minibatch)
        return adapt(one.loss, repeat(meta, tasks=len(some)), support, inner=inner)

    together = fast(objective, episodes)

    for task, episode in enumerate(episodes):
        alone = fast(whole, [episode])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][task], value[0], **CLOSE)
            assert not torch.equal(value[0], meta[name])


@pytest.mark.parametrize("algorithm", ["fomaml", "reptile", "maml", "joint"])
def test_meta_gradients_of_a_stack_are_those_of_single_episodes(tiny_encoder, algorithm):
    """Another route: one episode at a time."""
    objective = build(tiny_encoder)
    meta = begin(objective)

    def direction(episodes):
        return ALGORITHMS[algorithm](
            objective.loss,
            repeat(meta, tasks=len(episodes)),
            objective.support_batches(episodes, minibatch=None),
            objective.query_batches(episodes),
            inner=InnerLoop(0 if algorithm == "joint" else 2, 0.02, "sgd"),
            start=lambda weights: objective.start(weights, ()),
        )

    together = direction(EPISODES)

    for task, episode in enumerate(EPISODES):
        alone = direction([episode])
        for name in meta:
            torch.testing.assert_close(
                together.gradient[name][task], alone.gradient[name][0], rtol=1e-3, atol=1e-5
            )
        torch.testing.assert_close(together.loss_after[task], alone.loss_after[0], **CLOSE)
        torch.testing.assert_close(
            together.adaptation_size[task], alone.adaptation_size[0], **CLOSE
        )


def test_the_beginning_ranks_as_the_frozen_encoder(tiny_encoder):
    """Another route: mean-pooled features of the frozen encoder, and their cosines."""
    objective = build(tiny_encoder)
    meta = objective.meta_parameters(torch.Generator().manual_seed(0))
    embed = mean_pooled_embedder(objective.backbone, batch_tokens=500)

    query = objective.query_batches(EPISODES)
    answers = objective.answer(repeat(meta, tasks=3), query, EPISODES)

    for episode, rankings in zip(EPISODES, answers, strict=True):
        sources, targets = (
            normalize(torch.from_numpy(embed(texts)))
            for texts in ([example.source for example in episode.query], episode.candidates)
        )
        assert rankings == rank_candidates(sources @ targets.T)


def test_rankings_of_a_stack_are_those_of_texts_one_by_one(tiny_encoder):
    """Another route: PEFT's model, one text at a time, sorted by Python."""
    objective = build(tiny_encoder)
    meta = begin(objective)
    model, _ = copied_model(objective, meta)
    tokenizer = objective.backbone.tokenizer

    def embed(text):
        inputs = tokenizer(PREFIX + text, return_tensors="pt", truncation=True, max_length=12)
        return normalize(model(**inputs).last_hidden_state[0].mean(0), dim=0).detach()

    query = objective.query_batches(EPISODES)
    answers = objective.answer(repeat(meta, tasks=3), query, EPISODES)

    for episode, rankings in zip(EPISODES, answers, strict=True):
        pool = [embed(text) for text in episode.candidates]
        for example, ranking in zip(episode.query, rankings, strict=True):
            cosines = [float(embed(example.source) @ one) for one in pool]
            expected = sorted(range(len(pool)), key=lambda place: -cosines[place])
            assert list(ranking.order) == expected
