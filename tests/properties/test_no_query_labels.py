"""No method sees a query label: with shuffled ones it answers the very same."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nlp_meta.comparing.bench import Bench, Method
from nlp_meta.comparing.methods import METHODS, find_method, methods_of
from nlp_meta.data.episodes import Episode, evaluation_episode
from nlp_meta.data.tasks import Example, load_tasks
from nlp_meta.evaluation.protocol import judge
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.objectives.ngrams import FEATURES, NgramModel
from nlp_meta.settings import Comparison
from nlp_meta.training.config import read_settings

CONFIG = Path(__file__).resolve().parents[2] / "recipes/configs/compare_reviews.yaml"
LABELS = ("negative", "positive")
STARTS = [name for name, row in METHODS.items() if row.folder]
ELSEWHERE = {"prompting", "ready"}  # they need models: tests/prompting, tests/unit/test_ready.py
SETFIT = all(importlib.util.find_spec(name) for name in ("setfit", "sentence_transformers"))


def shuffle(episode: Episode) -> Episode:
    order = np.random.default_rng(0).permutation(len(episode.query))
    targets = [episode.query[place].target for place in order]
    query = (replace(e, target=t) for e, t in zip(episode.query, targets, strict=True))
    return replace(episode, query=tuple(query))


@pytest.fixture(scope="module")
def bench(tiny_encoder: Path) -> Bench:
    words = ["--config", str(CONFIG), "--model.model_name_or_path", str(tiny_encoder)]
    words += ["--model.max_tokens", "24", "--model.lora_layers", "2"]
    words += ["--adaptation.steps", "[1, 2]", "--adaptation.learning_rates", "[0.01]"]
    words += ["--rivals.full_steps", "[2]", "--rivals.full_learning_rates", "[0.001]"]
    settings = read_settings(Comparison, [*words, "--comparison.methods", json.dumps({})])
    return Bench(settings, (), LABELS)


@pytest.fixture(scope="module")
def start(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a start whose tensors are all moved a little, with n-grams of its own beside it."""
    model = bench.settings.model
    objective = build_classifier(model, labels=LABELS, device="cpu", precision="no")
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in objective.meta_parameters(generator).items()
    }
    rows = np.random.default_rng(0).normal(size=(len(LABELS), FEATURES)).astype(np.float32)
    companion = NgramModel(LABELS, rows, np.zeros(len(LABELS), dtype=np.float32))
    inner, folder = InnerLoop(2, 0.01, "adam"), tmp_path_factory.mktemp("start")
    told = {"examples": 0}
    made = MetaModel(
        {"classification": objective},
        weights,
        model,
        {"classification": Adaptation(inner, None, True)},
        told,
        companion=companion,
    )
    made.save_pretrained(folder)
    return folder


def build(bench: Bench, start: Path, name: str) -> Method:
    line = f"{name} {start}" if name in STARTS else name
    row, argument = find_method(line, "classification")
    return row.build(bench, argument, row.choose(bench, argument))


@pytest.mark.parametrize("name", [n for n in methods_of("classification") if n not in ELSEWHERE])
def test_shuffled_query_labels_change_no_answer(bench, start, name):
    """The score of the shuffled labels is not asked for: the answers themselves are the same."""
    if name == "setfit" and not SETFIT:
        pytest.skip("setfit is not installed")
    task = load_tasks(["nlp_meta_reviews"], meta_split="meta-validation")[0]
    episode = evaluation_episode(task, labels_total=12, seed=0, draw=0, max_query=10)
    method = build(bench, start, name)

    honest = judge(method.learn, episode, method=name).answers
    bench.adapted.clear()  # else the second is answered by what the first has adapted
    shuffled = judge(method.learn, shuffle(episode), method=name).answers

    assert shuffle(episode) != episode
    assert honest == shuffled


@pytest.mark.parametrize("name", ["adapt", "hybrid"])
def test_what_adapts_as_users_do_needs_two_examples_of_each_label(bench, start, name):
    """As `nlp-meta adapt` does, which refuses one: 8 labels with a single negative are no task."""
    method = build(bench, start, name)

    def can(negative: int, positive: int) -> bool:
        targets = ["negative"] * negative + ["positive"] * positive
        support = tuple(Example(f"text {row}", target) for row, target in enumerate(targets))
        return method.can_answer(Episode("x/y", LABELS, support, (), 0))

    assert [can(1, 7), can(0, 8), can(2, 2), can(0, 0)] == [False, False, True, True]
