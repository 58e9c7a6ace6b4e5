"""What the tests of serving make: unlike domains, and texts for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nlp_meta.data.answers import Prediction
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.companion import Companion
from nlp_meta.objectives.ngrams import FEATURES, NgramModel
from nlp_meta.settings import ModelSettings

WORDS = (
    "the agent was great we hated this cold room and very slow staff but i loved it 42 !".split()
)
SUPPORT = (
    "the agent was great",
    "i loved this house",
    "good food and good staff",
    "the agent was awful",
    "we hated this plot",
    "bad food and slow staff",
)
SUPPORT_LABELS = ("positive",) * 3 + ("negative",) * 3


@dataclass(frozen=True)
class Shape:
    """How one domain differs from the others."""

    labels: tuple[str, ...] = ("negative", "positive")
    rank: int = 2
    layers: int = 2
    targets: tuple[str, ...] = ("query", "value")
    prefix_text: str = ""
    max_tokens: int = 24
    ngrams: bool = False


SHAPES = {
    "plain": Shape(),
    "other": Shape(),
    "three": Shape(labels=("bad", "fair", "good"), ngrams=True),
    "seven": Shape(labels=tuple("abcdefg"), rank=5, layers=4),
    "low": Shape(rank=1, layers=1, targets=("key", "dense"), prefix_text="query: ", max_tokens=9),
}


def build_settings(encoder: Path, shape: Shape, *, pooling: str) -> ModelSettings:
    return ModelSettings(
        model_name_or_path=str(encoder),
        revision=None,
        pooling=pooling,
        head="shared",
        prefix_text=shape.prefix_text,
        max_tokens=shape.max_tokens,
        lora_r=shape.rank,
        lora_alpha=3.0,
        lora_layers=shape.layers,
        lora_target_modules=list(shape.targets),
    )


def build_domain(
    encoder: Path, shape: Shape, *, seed: int, pooling: str = "native"
) -> AdaptedModel:
    """Draw the weights of one domain: its answers are its own, and sure enough to differ."""
    settings = build_settings(encoder, shape, pooling=pooling)
    objective = build_classifier(settings, labels=shape.labels, device="cpu", precision="no")
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: value + 0.3 * torch.randn(value.shape, generator=generator)
        for name, value in objective.meta_parameters(generator).items()
    }
    companion = None
    if shape.ngrams:
        drawn = np.random.default_rng(seed)
        rows = drawn.normal(size=(len(shape.labels), FEATURES)).astype(np.float32)
        model = NgramModel(shape.labels, rows, np.zeros(len(shape.labels), dtype=np.float32))
        companion = Companion(model, 0.6, 0.4)
    return AdaptedModel(objective, weights, settings, companion=companion)


def draw_texts(count: int, *, seed: int) -> list[str]:
    """Texts of 1 to 40 words: some are cut."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 41, size=count)
    return [" ".join(generator.choice(WORDS, size=length)) for length in lengths]


def probabilities(answers: Sequence[Prediction]) -> list[list[float]]:
    return [list(answer.probabilities.values()) for answer in answers]
