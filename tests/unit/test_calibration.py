"""Temperatures of answers whose best one is known."""

import math

import pytest
import torch

from nlp_meta.objectives.classification import HIGHEST, LOWEST, fit_temperature


def answers(log_odds: float, *, count: int) -> torch.Tensor:
    """The same answer for every example: label 0 by so much."""
    return torch.tensor([[log_odds, 0.0]] * count).log_softmax(-1)


@pytest.mark.parametrize(("log_odds", "right", "wrong"), [(4.0, 3, 1), (1.0, 9, 1), (3.0, 6, 4)])
def test_temperature_makes_answers_as_sure_as_they_are_right(log_odds, right, wrong):
    """By hand: the likelihood is largest where the log-odds over T are log(right / wrong)."""
    targets = torch.tensor([0] * right + [1] * wrong)

    found = fit_temperature(answers(log_odds, count=right + wrong), targets)

    expected = log_odds / math.log(right / wrong)
    assert found == pytest.approx(expected, rel=1e-3) and LOWEST < found < HIGHEST


def test_temperature_keeps_within_its_bounds():
    """By hand: always right asks for a temperature of 0, always wrong for an infinite one."""
    logs = answers(3.0, count=6)

    assert fit_temperature(logs, torch.zeros(6).long()) == pytest.approx(LOWEST, rel=1e-3)
    assert fit_temperature(logs, torch.ones(6).long()) == pytest.approx(HIGHEST, rel=1e-3)
