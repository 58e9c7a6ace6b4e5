"""Episodes of generated texts, and one meta-training step on them as a run takes it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example, load_tasks
from nlp_meta.meta.algorithms import ALGORITHMS
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.meta.outer_loop import Training, add_stack
from nlp_meta.models.builders import build_classifier
from nlp_meta.objectives.classification import Classification
from nlp_meta.settings import ModelSettings

LABELS = ("negative", "positive")
QUERY_VALUE = ("query", "value")
ALL_LINEAR = ("query", "key", "value", "dense")
"""Every linear layer of a BERT's transformer layers, by the ends of their names."""

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The episodes of one measurement and what adapts to them.

    Attributes:
        layers: The topmost n layers adapt.
        examples: Of the support set of each task; its query set has as many.
        tokens: Of the shortest and the longest text, special tokens included; lengths between
            the two are as frequent as each other.
    """

    model: str
    layers: int
    targets: Sequence[str] = QUERY_VALUE
    rank: int = 8
    tasks: int = 8
    examples: int = 16
    tokens: tuple[int, int] = (36, 128)
    steps: int = 5

    @property
    def passes(self) -> int:
        """Examples that go through forward and backward in one outer step."""
        return self.tasks * self.examples * (self.steps + 1)

    @property
    def settings(self) -> ModelSettings:
        """The same as a config would say it."""
        return ModelSettings(
            model_name_or_path=self.model,
            revision=None,
            pooling="native",
            head="shared",
            prefix_text="",
            max_tokens=self.tokens[1],
            lora_r=self.rank,
            lora_alpha=2.0 * self.rank,
            lora_layers=self.layers,
            lora_target_modules=list(self.targets),
        )

    @property
    def inner(self) -> InnerLoop:
        """Plain gradient steps."""
        return InnerLoop(self.steps, 0.01, "sgd")


@dataclass(frozen=True, slots=True)
class Problem:
    """A case with its model loaded and its episodes drawn."""

    case: Case
    objective: Classification
    weights: Weights
    episodes: list[Episode]

    def first(self, tasks: int) -> "Problem":
        """The same with fewer episodes."""
        return replace(self, case=replace(self.case, tasks=tasks), episodes=self.episodes[:tasks])


def pose(case: Case, *, precision: str = "auto", device: str | None = None) -> Problem:
    """Load the model, draw the episodes and meta-parameters in which every layer has a slope."""
    objective = build_classifier(case.settings, labels=LABELS, precision=precision, device=device)
    generator = torch.Generator().manual_seed(0)
    weights = objective.meta_parameters(generator)
    # A matrix of zeros would hide a fault in the other one of its pair.
    for name, value in weights.items():
        noise = torch.randn(value.shape, generator=generator).to(value.device)
        weights[name] = value + 0.02 * noise
    return Problem(case, objective, weights, draw_episodes(case, objective.backbone.tokenizer))


def draw_episodes(case: Case, tokenizer: Any) -> list[Episode]:
    """Draw episodes of texts that are made of the words of the built-in reviews."""
    chance = random.Random(0)  # noqa: S311  no secret
    words = sorted({word for text in read_reviews() for word in text.split()})
    counts = [len(ids) for ids in tokenizer(words, add_special_tokens=False)["input_ids"]]
    counted = list(zip(words, counts, strict=True))

    def write() -> str:
        left, text = chance.randint(*case.tokens) - 2, []
        while left > 0:
            word, count = chance.choice(counted)
            if count <= left:
                text.append(word)
                left -= count
        return " ".join(text)

    def draw() -> tuple[Example, ...]:
        return tuple(Example(write(), LABELS[i % 2]) for i in range(case.examples))

    return [Episode(f"task {i}", LABELS, draw(), draw(), i) for i in range(case.tasks)]


def read_reviews() -> list[str]:
    """Texts of the built-in corpus."""
    tasks = load_tasks(["nlp_meta_reviews"], meta_split="meta-train")
    return [example.source for task in tasks for example in task.train]


@dataclass(frozen=True, slots=True)
class _NoStream:
    """A step that is given its episodes draws none."""

    def at(self, index: int) -> Episode:
        raise IndexError(index)


def meta_gradient(problem: Problem, algorithm: str = "fomaml") -> Weights:
    """Mean meta-gradient of the episodes, from texts on, as an outer step computes it."""
    case, objective = problem.case, problem.objective
    training = Training(
        {CLASSIFICATION: objective},
        {CLASSIFICATION: 1.0},
        _NoStream(),
        ALGORITHMS[algorithm],
        case.inner,
        None,
    )
    sums = {name: torch.zeros_like(value) for name, value in problem.weights.items()}
    skill, episodes = CLASSIFICATION, problem.episodes
    add_stack(training, skill, problem.weights, episodes, sums, compare=False)
    return {name: total / case.tasks for name, total in sums.items()}
