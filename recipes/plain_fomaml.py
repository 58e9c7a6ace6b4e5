"""First-order MAML from episodes to outer steps, without the trainer: the whole idea in one file.

The trainer adds what long runs need: checkpoints, judging, several processes, other algorithms.
A test holds the numbers of this file equal to the trainer's.

python recipes/plain_fomaml.py --steps 10 --model builtin:minilm
"""

import argparse

import torch
from torch import Tensor

from nlp_meta.data.episodes import Episode, EpisodeStream
from nlp_meta.data.tasks import load_tasks
from nlp_meta.encoders.batches import Batch
from nlp_meta.models.builders import build_classifier
from nlp_meta.objectives.classification import Classification
from nlp_meta.settings import ModelSettings

META_BATCH_SIZE, OUTER_RATE = 4, 3e-4
INNER_STEPS, INNER_RATE = 6, 0.1
Weights = dict[str, Tensor]


def gradient_of(
    objective: Classification, weights: Weights, batches: list[Batch]
) -> tuple[Tensor, Weights]:
    """Loss of each task over its batches, `(tasks,)`, and its slope along each weight."""
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    losses = torch.stack([objective.loss(leaves, batch) for batch in batches]).sum(0)
    slopes = torch.autograd.grad(losses.sum(), list(leaves.values()))
    return losses.detach(), dict(zip(leaves, slopes, strict=True))


def adapt(objective: Classification, start: Weights, support: list[Batch]) -> Weights:
    """The inner loop: a few plain gradient steps on the support sets, each task its own way."""
    fast = start
    for _ in range(INNER_STEPS):
        _, slopes = gradient_of(objective, fast, support)
        fast = {name: value - INNER_RATE * slopes[name] for name, value in fast.items()}
    return fast


def fomaml(
    objective: Classification, meta_parameters: Weights, episodes: list[Episode]
) -> tuple[Tensor, Weights]:
    """Query loss at the fast weights, and its gradient there, as if it were at the start."""
    (support,) = objective.support_batches(episodes, minibatch=None)
    query = objective.query_batches(episodes)
    # A copy of the weights for each task, `(tasks, ...)`: all tasks adapt in one pass.
    start = {n: value.expand(len(episodes), *value.shape) for n, value in meta_parameters.items()}
    fast = adapt(objective, start, list(support))
    losses, slopes = gradient_of(objective, fast, list(query))
    return losses.mean(), {name: slope.sum(0) / len(episodes) for name, slope in slopes.items()}


def train(objective: Classification, stream: EpisodeStream, *, steps: int, seed: int) -> Weights:
    """The outer loop: move the meta-parameters against the mean meta-gradient."""
    meta_parameters = objective.meta_parameters(torch.Generator().manual_seed(seed))
    optimizer = torch.optim.AdamW(list(meta_parameters.values()), lr=OUTER_RATE, weight_decay=0.0)
    for step in range(steps):
        first = step * META_BATCH_SIZE
        episodes = [stream.at(first + place) for place in range(META_BATCH_SIZE)]
        loss, gradient = fomaml(objective, meta_parameters, episodes)
        for name, value in meta_parameters.items():
            value.grad = gradient[name]
        optimizer.step()
        print(f"outer step {step + 1}: query loss after adaptation {loss:.3f}")
    return meta_parameters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin:minilm")
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    tasks = load_tasks(["nlp_meta_reviews"], meta_split="meta-train")
    settings = ModelSettings(
        model_name_or_path=arguments.model,
        revision=None,
        pooling="native",
        head="shared",
        prefix_text="",
        max_tokens=96,
        lora_r=8,
        lora_alpha=16.0,
        lora_layers=3,
        lora_target_modules=["query", "value"],
    )
    objective = build_classifier(settings, labels=tasks[0].labels)
    stream = EpisodeStream(tasks, shot=4, query_shot=4, sampling="uniform", seed=0)
    train(objective, stream, steps=arguments.steps, seed=0)


if __name__ == "__main__":
    main()
