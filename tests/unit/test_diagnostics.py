"""Diagnostics: on a parabola whose every step can be worked out by hand."""

from dataclasses import dataclass, replace

import pytest
import torch

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example, Task
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.training.diagnosis import count_different, diagnose, tell_tasks


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


def shop(name: str, *texts: str) -> Task:
    rows = tuple(Example(text, "good") for text in texts)
    return Task(name, "classification", "eng", name, "meta-train", ("bad", "good"), rows, ())


def test_tasks_count_as_many_as_they_are_different(caplog):
    """By hand: two that share no n-gram count as two, a task and its copy as one."""
    hats, cars = shop("shops/hats", "aaaa bbbb"), shop("shops/cars", "xxxx yyyy")

    assert count_different([hats, cars]) == pytest.approx(2, abs=1e-6)
    assert count_different([hats, replace(hats, name="shops/caps")]) == pytest.approx(1, abs=1e-6)
    with caplog.at_level("INFO"):
        tell_tasks([hats, cars])
        tell_tasks([shop(f"shops/{sign}", sign * 8) for sign in "abcdefg"])
        tell_tasks([hats])
    few, enough, single = caplog.records
    assert few.levelname == "WARNING" and "2 meta-train tasks" in few.getMessage()
    assert enough.levelname == "INFO" and "count as 7.0 different ones" in enough.getMessage()
    assert "at least 2" in single.getMessage()
