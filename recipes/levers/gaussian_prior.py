"""A lever: adaptation held by a Gaussian prior around the start, its widths learned.

A tensor's width is the root mean square of its way in adaptations to the meta-train tasks. On
the meta-validation tasks adaptation pays `adaptation.anchor` times half the squared way of each
tensor, over the square of its width; a tensor of mean width pays what `anchor` alone makes it
pay. So `recipes/diagnose.py` with the same `anchor` is this with one width for all tensors.

python recipes/levers/gaussian_prior.py --config recipes/configs/reptile_languages.yaml \
  --run.init_from runs/multitask_languages --adaptation.anchor 0.3

Source:
    Empirical Bayes: Grant et al. 2018, arXiv:1801.08930; for LoRA, by other means:
    arXiv:2508.14285.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Task
from nlp_meta.encoders.batches import Batch
from nlp_meta.meta.diagnosis import Lever
from nlp_meta.meta.inner_loop import Loss, Weights, drop_step_sizes
from nlp_meta.meta.objective import adapt_episodes, in_stacks
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import AdaptationSettings, MetaTraining
from nlp_meta.training.config import run_recipe
from nlp_meta.training.diagnosis import diagnose_start, load_start
from nlp_meta.training.plan import judged_inner, validation_episodes
from nlp_meta.training.run import load_splits


def main(settings: MetaTraining) -> int:
    model = load_start(settings)
    train, validation = load_splits(settings.data, "meta-train", "meta-validation")
    free = replace(settings.adaptation, anchor=0.0)
    squares = square_widths(model, train, free)
    lever = hold(model, squares, anchor=settings.adaptation.anchor)
    found = diagnose_start(replace(settings, adaptation=free), model, validation, lever=lever)
    widths = {name: square**0.5 for name, square in squares.items()}
    print(json.dumps({"widths": widths, **asdict(found)}, indent=1))
    return 0


def square_widths(
    model: MetaModel, train: Sequence[Task], adaptation: AdaptationSettings
) -> dict[str, float]:
    """Squared width of each tensor: the mean square of its way, one episode a meta-train task."""
    episodes = validation_episodes(train, replace(adaptation, draws=1, max_query=1))
    moving = drop_step_sizes(model.weights)
    squares = dict.fromkeys(moving, 0.0)
    for stacked in in_stacks(episodes, size=adaptation.stack):
        fast = adapt_episodes(
            model.objective,
            model.weights,
            stacked,
            inner=judged_inner(adaptation),
            minibatch=adaptation.batch_size,
        )
        for name, begun in moving.items():
            way = (fast[name] - begun).square().flatten(1).mean(1)
            squares[name] += float(way.sum()) / len(episodes)
    return squares


def hold(model: MetaModel, squares: Mapping[str, float], *, anchor: float) -> Lever:
    """Add the penalty to the loss of an adaptation; each tensor by its squared width."""
    elements = {name: model.weights[name].numel() for name in squares}
    mean = sum(elements[name] * squares[name] for name in squares) / sum(elements.values())
    strengths = {name: anchor * mean / square for name, square in squares.items()}

    def lever(episodes: Sequence[Episode], start: Weights) -> tuple[Loss, Weights]:
        def loss(weights: Weights, batch: Batch) -> Tensor:
            own = model.objective.loss(weights, batch)
            ways = {name: (weights[name] - start[name]).flatten(1) for name in strengths}
            pull = torch.stack([0.5 * s * ways[n].square().sum(1) for n, s in strengths.items()])
            # A minibatch comes in pieces: each bears its share of the penalty.
            share = own.new_zeros(len(own)).index_add(0, batch.owners.index, batch.shares)
            return own + pull.sum(0) * share

        return loss, start

    return lever


if __name__ == "__main__":
    run_recipe(main, MetaTraining)
