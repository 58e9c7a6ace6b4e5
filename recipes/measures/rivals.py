"""The same meta-gradient as a user would compute it with public libraries, task by task.

Every rival holds PEFT's model with the same adapted layers, begins at the same weights and
reads the same texts. `tests/recipes/test_benchmark.py` holds their gradients equal to ours.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.func import functional_call, grad, vmap
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from measures.episodes import LABELS, Problem, Weights
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import autocasting, resolve_name

Texts = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class PeftRival:
    """PEFT's model of a problem, with what trains of it and where that begins."""

    problem: Problem
    model: Any
    tokenizer: Any
    moving: dict[str, Tensor]
    start: Weights
    autocast: torch.dtype | None

    def read(self, examples: Sequence[Example], *, padding: bool | str = True) -> Texts:
        """One padded batch of texts with their labels."""
        texts = self.tokenizer(
            [example.source for example in examples],
            padding=padding,
            truncation=True,
            max_length=self.problem.case.tokens[1],
            return_tensors="pt",
        )
        labels = torch.tensor([LABELS.index(example.target) for example in examples])
        return {**texts, "labels": labels}

    def computing(self) -> AbstractContextManager[None]:
        """In the precision that was asked for."""
        return autocasting(self.autocast, self.device)

    @property
    def device(self) -> torch.device:
        return self.problem.objective.backbone.device

    def loss(self, model: Any, examples: Sequence[Example]) -> Tensor:
        """Mean cross-entropy of one task."""
        batch = {name: value.to(self.device) for name, value in self.read(examples).items()}
        with self.computing():
            loss: Tensor = model(**batch).loss
        return loss

    def named(self, gradients: Iterable[Tensor | None]) -> Weights:
        """Gradients in the order of `moving`, over the number of tasks, by our names."""
        tasks = len(self.problem.episodes)
        return {
            meta_name(name): torch.zeros_like(value) if gradient is None else gradient / tasks
            for (name, value), gradient in zip(self.moving.items(), gradients, strict=True)
        }


def build_rival(
    problem: Problem, *, autocast: torch.dtype | None = None, attention: str = "sdpa"
) -> PeftRival:
    """Load PEFT's model of the same layers, at the same weights; transformers' default attention.

    Args:
        autocast: Dtype of its matrix products; None for float32.
    """
    case = problem.case
    path, settings = resolve_name(case.model), case.settings
    base = AutoModelForSequenceClassification.from_pretrained(  # nosec B615
        path, num_labels=len(LABELS), dtype=torch.float32, attn_implementation=attention
    )
    depth = base.config.num_hidden_layers
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=case.rank,
        lora_alpha=int(settings.lora_alpha),
        target_modules=list(case.targets),
        layers_to_transform=list(range(depth - case.layers, depth)),
        modules_to_save=["classifier", "pooler"],
    )
    model = get_peft_model(base, config).eval().to(problem.objective.backbone.device)
    moving: dict[str, Tensor] = {n: v for n, v in model.named_parameters() if v.requires_grad}
    start = {name: problem.weights[meta_name(name)] for name in moving}
    rival = PeftRival(
        problem,
        model,
        AutoTokenizer.from_pretrained(path),
        moving,
        start,
        autocast,  # nosec B615
    )
    begin(rival)
    return rival


def meta_name(peft_name: str) -> str:
    """Our name of a tensor that PEFT trains."""
    name = peft_name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
    return name.removesuffix(".default.weight")


@torch.no_grad()
def begin(rival: PeftRival) -> None:
    """Set the model to the starting point."""
    for name, value in rival.moving.items():
        value.copy_(rival.start[name])


def plain_loop(rival: PeftRival) -> Weights:
    """Train each episode with `torch.optim` from the start; its query gradient is what counts."""
    case, moving = rival.problem.case, list(rival.moving.values())
    totals = [torch.zeros_like(value) for value in moving]
    for episode in rival.problem.episodes:
        begin(rival)
        optimizer = torch.optim.SGD(moving, lr=case.inner.learning_rate)
        for _ in range(case.steps):
            optimizer.zero_grad()
            torch.autograd.backward(rival.loss(rival.model, episode.support))
            optimizer.step()
        optimizer.zero_grad()
        torch.autograd.backward(rival.loss(rival.model, episode.query))
        for total, value in zip(totals, moving, strict=True):
            total += value.new_zeros(()) if value.grad is None else value.grad
    begin(rival)
    return rival.named(totals)


def vmapped_loop(rival: PeftRival) -> Weights:
    """All tasks at once by `torch.func`: texts of all are padded to the longest one.

    transformers looks into a mask of two dimensions, which `vmap` forbids; one of four is taken
    as it is, by eager attention.
    """
    case, episodes = rival.problem.case, rival.problem.episodes

    def stack(sides: Sequence[Sequence[Example]]) -> Texts:
        rows = rival.read([example for side in sides for example in side])
        hidden = rows["attention_mask"][:, None, None, :] == 0
        rows["attention_mask"] = hidden * torch.finfo(torch.float32).min
        return {n: v.view(len(sides), -1, *v.shape[1:]).to(rival.device) for n, v in rows.items()}

    def loss(fast: Weights, batch: Texts) -> Tensor:
        with rival.computing():
            value: Tensor = functional_call(rival.model, fast, (), batch).loss
        return value

    gradient = vmap(grad(loss))
    support = stack([episode.support for episode in episodes])
    query = stack([episode.query for episode in episodes])
    fast = {n: v.expand(len(episodes), *v.shape) for n, v in rival.start.items()}
    for _ in range(case.steps):
        slopes = gradient(fast, support)
        fast = {n: v - case.inner.learning_rate * slopes[n] for n, v in fast.items()}
    slopes = gradient(fast, query)
    return rival.named(slopes[name].sum(0) for name in rival.moving)


def learn2learn_loop(rival: PeftRival) -> Weights:
    """`MAML(first_order=True)` of learn2learn: a clone for each episode, its own updates."""
    case, moving = rival.problem.case, list(rival.moving.values())
    maml = load_learn2learn().MAML(
        rival.model, lr=case.inner.learning_rate, first_order=True, allow_nograd=True
    )
    maml.zero_grad()
    for episode in rival.problem.episodes:
        learner = maml.clone()
        for _ in range(case.steps):
            learner.adapt(rival.loss(learner, episode.support))
        torch.autograd.backward(rival.loss(learner, episode.query))
    return rival.named(value.grad for value in moving)


def load_learn2learn() -> ModuleType:
    """Import learn2learn's MAML without its images and games, which need packages of their time.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    if "learn2learn" not in sys.modules:
        spec = importlib.util.find_spec("learn2learn")
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError("learn2learn is not installed; `make benchmark` installs it")
        package = ModuleType("learn2learn")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["learn2learn"] = package
    return importlib.import_module("learn2learn.algorithms.maml")
