"""Examples a second through forward and backward, in training episodes of long texts.

python recipes/speed.py
python recipes/speed.py --tokens 128 --rounds 5 --precision bf16

Compares, interleaved: the cached prefix with the whole model by eager attention and by sdpa,
and a stack of tasks with the same tasks one by one. Medians of the rounds.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.prefix import whole_network
from nlp_meta.meta.inner_loop import InnerLoop, adapt
from nlp_meta.meta.objective import begin_episodes
from nlp_meta.models.builders import build_classifier
from nlp_meta.objectives.classification import Classification
from nlp_meta.progress import quiet_libraries
from nlp_meta.settings import ModelSettings

LABELS = ("negative", "positive")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--support", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "no"))
    options = parser.parse_args()
    with quiet_libraries():
        model = ModelSettings(
            "builtin:minilm", None, "native", "shared", "", options.tokens, 8, 16.0,
            options.layers, ["query", "value"],
        )  # fmt: skip
        objective = build_classifier(model, labels=LABELS, precision=options.precision)
    texts = ["the room was cold and the agent never called back " * 40] * options.support
    support = tuple(Example(f"{i} {text}", LABELS[i % 2]) for i, text in enumerate(texts))
    episodes = [Episode(str(w), LABELS, support, (), w) for w in range(options.tasks)]
    whole = replace(objective, network=whole_network(objective.backbone))
    ways: dict[str, Callable[[], None]] = {
        "cached prefix, stacked": lambda: step(objective, episodes, "eager"),
        "cached prefix, one by one": lambda: one_by_one(objective, episodes),
        "whole model, stacked, eager": lambda: step(whole, episodes, "eager"),
        "whole model, stacked, sdpa": lambda: step(whole, episodes, "sdpa"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(options.rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if round_:
                seconds[name].append(time.perf_counter() - began)
    for name, measured in seconds.items():
        rate = options.tasks * options.support / median(measured)
        print(f"{rate:7.1f} examples/s  {name}")
    print(f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, "
          f"products in {objective.network.dtype or 'float32'}")  # fmt: skip


def one_by_one(objective: Classification, episodes: list[Episode]) -> None:
    for episode in episodes:
        step(objective, [episode], "eager")


def step(objective: Classification, episodes: list[Episode], attention: str) -> None:
    objective.backbone.encoder.set_attn_implementation(attention)
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    support, start = begin_episodes(objective, weights, episodes, minibatch=None)
    adapt(objective.loss, start, support, inner=InnerLoop(1, 1e-3, "adam"))


if __name__ == "__main__":
    main()
