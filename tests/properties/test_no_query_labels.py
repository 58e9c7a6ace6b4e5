"""No method sees a query label: with shuffled ones it answers the very same."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nlp_meta.comparing.bench import Bench
from nlp_meta.comparing.methods import KINDS, find_kind
from nlp_meta.data.episodes import Episode, evaluation_episode
from nlp_meta.data.tasks import load_tasks
from nlp_meta.evaluation.protocol import Stopwatch, judge
from nlp_meta.reading import read_settings
from nlp_meta.settings import Comparison

CONFIG = Path(__file__).resolve().parents[2] / "recipes/configs/compare_reviews.yaml"
ALONE = [name for name, kind in KINDS.items() if not kind.folder]
COSTLY = {"setfit", "prompting"}


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
    return Bench(settings, ("negative", "positive"), (), Stopwatch())


@pytest.mark.parametrize("name", [name for name in ALONE if name not in COSTLY])
def test_shuffled_query_labels_change_no_answer(bench, name):
    """The score of the shuffled labels is not asked for: the answers themselves are the same."""
    task = load_tasks(["nlp_meta_reviews"], meta_split="meta-validation")[0]
    episode = evaluation_episode(task, labels_total=12, seed=0, draw=0, max_query=10)
    kind, argument = find_kind(name)
    method = kind.build(bench, argument, kind.choose(bench, argument))

    _, honest = judge(method.predict, episode, method=name, stopwatch=bench.stopwatch)
    _, shuffled = judge(method.predict, shuffle(episode), method=name, stopwatch=bench.stopwatch)

    assert shuffle(episode) != episode
    assert honest == shuffled
