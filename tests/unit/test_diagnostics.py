"""Diagnostics: on a parabola whose every step can be worked out by hand."""

from dataclasses import dataclass

import pytest
import torch

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.training.diagnosis import diagnose


@dataclass
class Parabola:
    """Half the squared distance of two weights to the number in each example's text."""

    def loss(self, weights, targets):
        head, layer = weights["classifier.weight"], weights["encoder.layer.5.lora_A"]
        return 0.5 * ((head - targets).square() + (layer - targets).square())

    def start(self, weights, support):
        return weights

    def support_batches(self, episodes, *, minibatch):
        return [[torch.tensor([float(one.support[0].source) for one in episodes])]]

    def query_batches(self, episodes):
        return [torch.tensor([float(one.query[0].source) for one in episodes])]

    def answer(self, weights, query, episodes):
        return weights["classifier.weight"].tolist()


def test_losses_and_lengths_are_those_of_the_steps_taken():
    """By hand: both weights go from 1 towards 3, halving the way: 1, 2, 2.5; the query wants 2.

    The answer is the weight, its score how far it lies above 2: -1, 0, 0.5, of each episode.
    Support losses 4, 1, 0.25; query losses 1, 0, 0.25; each tensor's way is 0, 1, 1.5, so
    that of both is sqrt(2) times that, and 1.5 times the length of its start, 1.
    """
    episode = Episode("made/task", ("w",), (Example("3", "w"),), (Example("2", "w"),), 0)
    start = {
        "classifier.weight": torch.tensor(1.0),
        "encoder.layer.5.lora_A": torch.tensor(1.0),
        "step_size.classifier.weight": torch.tensor(0.0),
    }

    found = diagnose(
        Parabola(),
        start,
        [episode, episode, episode],
        inner=InnerLoop(2, 0.5, "sgd"),
        minibatch=None,
        at_steps=[0, 1, 2],
        stack=2,
        metric=lambda one, answer: answer - float(one.query[0].source),
    )

    assert found.tasks == ["made/task"] * 3
    assert found.scores == {0: [-1.0] * 3, 1: [0.0] * 3, 2: [0.5] * 3}
    assert found.support_loss == pytest.approx({0: 4.0, 1: 1.0, 2: 0.25})
    assert found.query_loss == pytest.approx({0: 1.0, 1: 0.0, 2: 0.25})
    assert found.adaptation_size == pytest.approx({0: 0.0, 1: 2**0.5, 2: 1.5 * 2**0.5})
    assert found.relative_size == pytest.approx({"head": 1.5, "layer 5": 1.5})
