"""Meta-gradients on a tiny encoder, beside a copied PEFT model that `torch.optim` trains."""

from dataclasses import dataclass

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import Backbone, load_backbone
from nlp_meta.encoders.batches import Owners, pad_rows
from nlp_meta.encoders.lora import Adapter, LoraPlan, lowest_adapted_layer, plan_lora
from nlp_meta.encoders.prefix import build_network, whole_network
from nlp_meta.meta.algorithms import ALGORITHMS, fomaml, maml, reptile
from nlp_meta.meta.inner_loop import InnerLoop, repeat
from nlp_meta.objectives.classification import Classification

LABELS = ("negative", "positive")
SUPPORT = ["the food was great", "bad", "we loved the small quiet house", "the staff was slow"]
QUERY = ["awful phone battery, never again", "good service and warm food", "cheap but great plot"]
OPTIMIZERS = {"sgd": (torch.optim.SGD, 0.05), "adam": (torch.optim.Adam, 1e-3)}
SHAPES = pytest.mark.parametrize("shape", ["tiny_encoder", "tiny_roberta"])


def make_episode() -> Episode:
    def examples(texts, first):
        return tuple(Example(text, LABELS[(i + first) % 2]) for i, text in enumerate(texts))

    return Episode("made/task", LABELS, examples(SUPPORT, 1), examples(QUERY, 0), 0)


def build(folder) -> Classification:
    backbone = load_backbone(str(folder), pooling="native", max_tokens=24)
    plan = plan_lora(backbone, lora_r=4, lora_alpha=8, lora_layers=2, lora_target_modules=None)
    network = build_network(
        backbone, frozen_layers=lowest_adapted_layer(plan), cache_dtype=torch.float32
    )
    return Classification(backbone, network, plan, LABELS, "shared", 60)


def begin(objective) -> dict[str, torch.Tensor]:
    """Meta-parameters away from their beginning, where every tensor has a gradient."""
    generator = torch.Generator().manual_seed(0)
    meta = objective.meta_parameters(generator)
    return {n: v + 0.2 * torch.randn(v.shape, generator=generator) for n, v in meta.items()}


def direction(algorithm, objective, meta, *, inner, minibatch=None):
    """The meta-gradient of one episode, without the stack's dimension."""
    episodes = [make_episode()]
    found = algorithm(
        objective.loss,
        repeat(meta, tasks=1),
        objective.support_batches(episodes, minibatch=minibatch),
        objective.query_batches(episodes),
        inner=inner,
        start=lambda weights: weights,
    )
    return {name: value[0] for name, value in found.gradient.items()}


def own_name(name: str) -> str:
    """Our name of one of PEFT's trainable parameters."""
    short = name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
    for part in (".lora_A", ".lora_B"):
        short = short.replace(f"{part}.default.weight", part)
    return short


@dataclass
class Copied:
    """A PEFT model of the same start, and what it needs to read texts."""

    model: torch.nn.Module
    backbone: Backbone

    @property
    def trainable(self) -> dict[str, torch.nn.Parameter]:
        return {own_name(n): p for n, p in self.model.named_parameters() if p.requires_grad}

    def loss(self, examples) -> torch.Tensor:
        texts = [example.source for example in examples]
        ids = self.backbone.tokenizer(texts, padding=True, return_tensors="pt")
        out = self.model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"])
        return cross_entropy(out.logits, torch.tensor([LABELS.index(e.target) for e in examples]))

    def train(self, examples, *, optimizer: str, steps: int) -> None:
        kind, rate = OPTIMIZERS[optimizer]
        moving = kind(self.trainable.values(), lr=rate)
        for _ in range(steps):
            moving.zero_grad()
            self.loss(examples).backward()
            moving.step()


def copy_to_peft(folder, plan: LoraPlan, backbone: Backbone, meta) -> Copied:
    plain = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(LABELS), dtype=torch.float32
    )
    copied = Copied(get_peft_model(plain, LoraConfig(**plan.config)).eval(), backbone)
    assert copied.trainable.keys() == meta.keys()
    with torch.no_grad():
        for name, parameter in copied.trainable.items():
            parameter.copy_(meta[name])
    return copied


@SHAPES
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_fomaml_is_the_query_gradient_of_a_copied_model_trained_by_torch(request, shape, optimizer):
    """Another route: PEFT's own model, `backward`, and `torch.optim`."""
    folder = request.getfixturevalue(shape)
    objective, one = build(folder), make_episode()
    meta = begin(objective)
    copied = copy_to_peft(folder, objective.plan, objective.backbone, meta)

    inner = InnerLoop(3, OPTIMIZERS[optimizer][1], optimizer)
    found = direction(fomaml, objective, meta, inner=inner)

    copied.train(one.support, optimizer=optimizer, steps=3)
    copied.model.zero_grad()
    copied.loss(one.query).backward()
    assert any(float(gradient.abs().max()) > 0.01 for gradient in found.values())
    for name, parameter in copied.trainable.items():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5)


@SHAPES
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_reptile_is_the_way_back_from_a_copied_model_trained_by_torch(request, shape, optimizer):
    """Another route: PEFT's own model, `backward`, and `torch.optim`."""
    folder = request.getfixturevalue(shape)
    objective = build(folder)
    meta = begin(objective)
    copied = copy_to_peft(folder, objective.plan, objective.backbone, meta)

    inner = InnerLoop(3, OPTIMIZERS[optimizer][1], optimizer)
    found = direction(reptile, objective, meta, inner=inner)

    copied.train(make_episode().support, optimizer=optimizer, steps=3)
    for name, parameter in copied.trainable.items():
        way = meta[name] - parameter.detach()
        # Adam divides by the slope: where it is only rounding, single elements may differ.
        allowed = 0.01 if optimizer == "adam" else 1e-4
        assert float((found[name] - way).norm()) < allowed * float(way.norm())


def test_one_step_reptile_is_the_rate_times_the_gradient(tiny_encoder):
    """Another route: the support gradient of the copied PEFT model."""
    objective = build(tiny_encoder)
    meta = begin(objective)
    copied = copy_to_peft(tiny_encoder, objective.plan, objective.backbone, meta)

    found = direction(reptile, objective, meta, inner=InnerLoop(1, 0.05, "sgd"))

    copied.loss(make_episode().support).backward()
    for name, parameter in copied.trainable.items():
        torch.testing.assert_close(found[name], 0.05 * parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_exact_maml_agrees_with_finite_differences(tiny_encoder, optimizer):
    """Another route: central differences of the query loss after two steps, in float64.

    Along one random direction at once, through the whole model and the stacked
    adapters. The loss is written here: the package's own ends in float32.
    """
    backbone = load_backbone(
        str(tiny_encoder), pooling="native", max_tokens=24, dtype=torch.float64
    )
    plan = plan_lora(backbone, lora_r=2, lora_alpha=4, lora_layers=1, lora_target_modules=None)
    network = whole_network(backbone)
    meta = begin(Classification(backbone, network, plan, LABELS, "shared", 60))
    meta = repeat({n: v.double() for n, v in meta.items()}, tasks=1)

    def batch(examples):
        block, mask = pad_rows(network.encode([e.source for e in examples]), padding=0)
        return block, mask, torch.tensor([LABELS.index(e.target) for e in examples])

    def loss(weights, made):
        block, mask, targets = made
        owners = Owners(torch.zeros(len(block)).long(), (len(block),))
        logits = network.run(block, mask, Adapter(plan, weights, owners))
        return cross_entropy(logits, targets).unsqueeze(0)

    one = make_episode()
    support, query = [[batch(one.support)]], [batch(one.query)]
    inner = InnerLoop(2, OPTIMIZERS[optimizer][1], optimizer)
    generator = torch.Generator().manual_seed(1)
    along = {n: torch.randn(v.shape, generator=generator).double() for n, v in meta.items()}

    def query_loss(change: float) -> float:
        start = {name: value + change * along[name] for name, value in meta.items()}
        return float(fomaml(loss, start, support, query, inner=inner).loss_after)

    exact = maml(loss, meta, support, query, inner=inner).gradient
    first_order = fomaml(loss, meta, support, query, inner=inner).gradient

    slope = (query_loss(1e-6) - query_loss(-1e-6)) / 2e-6
    found, rough = (
        sum(float((gradient[name] * along[name]).sum()) for name in along)
        for gradient in (exact, first_order)
    )
    assert found == pytest.approx(slope, rel=1e-5)
    assert rough != pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_nothing_that_goes_in_is_changed(tiny_encoder, name):
    """The meta-parameters, the frozen weights, the batches and the random state stay."""
    objective = build(tiny_encoder)
    meta = begin(objective)
    episodes = [make_episode()]
    support = objective.support_batches(episodes, minibatch=2)
    query = objective.query_batches(episodes)

    def everything():
        batches = [*query, *(batch for minibatch in support for batch in minibatch)]
        fields = ("states", "mask", "targets", "allowed", "shares", "positions")
        return [
            *meta.values(),
            *objective.backbone.model.parameters(),
            *(getattr(batch, field) for batch in batches for field in fields),
            torch.get_rng_state(),
        ]

    before = [value.clone() for value in everything()]

    ALGORITHMS[name](
        objective.loss,
        repeat(meta, tasks=1),
        support,
        query,
        inner=InnerLoop(3, 1e-3, "adam", anchor=0.1),
        start=lambda weights: objective.start(weights, support),
    )

    after = everything()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(value.grad is None and not value.requires_grad for value in after)
