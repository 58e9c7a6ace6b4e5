"""Fine-tuning from a start, on parabolas: half the squared distance to the support text."""

import pytest
import torch

from nlp_meta.data.answers import Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.rivals.fine_tune import fine_tune, keep_start

TOWARDS_1 = Episode("made/task", ("w",), (Example("1.0", "w"),), (Example("text", ""),), 0)
START = {"w": torch.tensor(0.0)}


class Watched:
    """Answers with `w`, and remembers what was asked of it."""

    def __init__(self):
        self.happened = []

    def loss(self, weights, targets):
        return 0.5 * (weights["w"] - targets).square()

    def start(self, weights, support):
        return weights

    def support_batches(self, episodes, *, minibatch):
        self.happened.append("support")
        return [[torch.tensor([float(one.support[0].source) for one in episodes])]]

    def query_batches(self, episodes):
        self.happened.append("query")
        return []

    def answer(self, weights, query, episodes):
        return [[Prediction("w", {"w": value})] for value in weights["w"].tolist()]


def test_the_support_set_is_learned_before_the_query_set_is_read():
    """By hand: two steps of 0.1 from 0 towards 1 lead to 0.19."""
    objective = Watched()
    inner = InnerLoop(2, 0.1, "sgd")

    rival = fine_tune(objective, START, inner=inner, minibatch=None)
    learned = rival(TOWARDS_1.support_set)
    objective.happened.append("learned")
    answers = learned(TOWARDS_1.queries)

    assert answers[0].probabilities["w"] == pytest.approx(0.19)
    assert objective.happened == ["support", "learned", "query"]


def test_a_start_that_is_kept_learns_nothing():
    objective = Watched()

    answers = keep_start(objective, START)(TOWARDS_1.support_set)(TOWARDS_1.queries)

    assert answers[0].probabilities["w"] == 0
    assert objective.happened == ["query"]
