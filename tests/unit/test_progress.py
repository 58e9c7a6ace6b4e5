"""Where a run stands: what it has to show, and what a judgement keeps."""

import torch

from nlp_meta.meta.state import Progress


def make(value: float) -> Progress:
    weights = {"w": torch.tensor([value])}
    return Progress(weights, torch.optim.SGD(list(weights.values()), lr=1.0))


def test_the_mean_of_outer_steps_takes_the_place_of_the_last():
    """By hand: 1, 2 and 6 have the mean 3."""
    progress = make(0.0)
    assert progress.found["w"].item() == 0.0

    for value in (1.0, 2.0, 6.0):
        progress.meta_parameters["w"].fill_(value)
        progress.average()

    assert progress.found["w"].item() == 3.0
    assert progress.meta_parameters["w"].item() == 6.0


def test_a_judgement_keeps_the_mean_as_it_was():
    """By hand: 4 alone, later 4 and 6."""
    progress = make(4.0)
    progress.average()
    progress.judge(0.5)
    progress.meta_parameters["w"].fill_(6.0)
    progress.average()
    progress.judge(0.4)

    assert progress.best["w"].item() == 4.0
    assert progress.found["w"].item() == 5.0
