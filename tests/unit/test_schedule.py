"""The outer optimizer's rate, its gradient's length and its name."""

import math

import pytest
import torch

from nlp_meta.errors import SettingsError
from nlp_meta.meta.outer_loop import OuterLoop, build_optimizer, clip, rate_at


def make(**changed) -> OuterLoop:
    values = {
        "steps": 12,
        "meta_batch_size": 4,
        "stack": 2,
        "optimizer": "AdamW",
        "learning_rate": 0.8,
        "options": {},
        "warmup_steps": 4,
        "schedule": "cosine",
        "max_gradient_norm": None,
        "validate_every": 3,
        "patience": None,
        "checkpoint_every": 3,
        "average_last": 0,
    }
    return OuterLoop(**{**values, **changed})


def test_warm_up_rises_in_equal_parts_to_the_full_rate():
    """By hand: quarters of 0.8."""
    rates = [rate_at(step, make()) for step in (1, 2, 3, 4)]

    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_cosine_falls_from_the_full_rate_behind_the_warm_up():
    """By hand: 0, 4, 6 and 7 of 8 parts of half a turn: (1 + cos) / 2 = 1, 0.5, 0.1464, 0.0381."""
    rates = [rate_at(step, make()) for step in (5, 9, 11, 12)]

    assert rates == pytest.approx([0.8, 0.4, 0.8 * 0.1464466, 0.8 * 0.0380602], abs=1e-6)


def test_constant_rate_stays():
    outer = make(schedule="constant", warmup_steps=0)

    assert {rate_at(step, outer) for step in range(1, 13)} == {0.8}


@pytest.mark.parametrize("warmup_steps", [0, 12, 20])
def test_every_step_has_a_finite_rate_above_zero(warmup_steps):
    """Also where warm-up takes the whole run, or longer."""
    rates = [rate_at(step, make(warmup_steps=warmup_steps)) for step in range(1, 13)]

    assert all(0 < rate < 0.8 + 1e-9 for rate in rates)


def test_a_long_gradient_is_shortened_as_a_whole():
    """By hand: 3 and 4 make a length of 5; half of it halves both."""
    gradient = {"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}

    shortened, norm = clip(gradient, longest=2.5)

    assert norm == 5
    torch.testing.assert_close(shortened["a"], torch.tensor([1.5]))
    torch.testing.assert_close(shortened["b"], torch.tensor([[2.0]]))
    assert gradient["a"].item() == 3


@pytest.mark.parametrize("longest", [None, 5.0, 6.0])
def test_a_short_gradient_stays(longest):
    shortened, norm = clip({"a": torch.tensor([3.0, 4.0])}, longest=longest)

    assert norm == 5
    assert shortened["a"].tolist() == [3, 4]


def test_a_gradient_that_is_not_a_number_says_so_in_its_length():
    assert math.isnan(clip({"a": torch.tensor([math.nan])}, longest=1.0)[1])


def test_any_optimizer_of_torch_takes_its_options():
    """By hand: SGD at 0.1 against a slope of 2, with momentum 0.5: -0.2, then -0.3 more."""
    weights = {"w": torch.zeros(1)}
    options = {"momentum": 0.5}
    optimizer = build_optimizer(weights, make(optimizer="SGD", learning_rate=0.1, options=options))

    for _ in range(2):
        weights["w"].grad = torch.tensor([2.0])
        optimizer.step()

    torch.testing.assert_close(weights["w"], torch.tensor([-0.5]))


def test_meta_parameters_are_ordered_by_name():
    """The order of a dictionary must not decide which state a resumed tensor gets."""
    first, second = torch.zeros(1), torch.zeros(2)

    groups = build_optimizer({"b": second, "a": first}, make()).param_groups

    assert [tensor.numel() for tensor in groups[0]["params"]] == [1, 2]


@pytest.mark.parametrize("name", ["Adamm", "lr_scheduler", "sgd", "", "Optimizer"])
def test_an_unknown_optimizer_is_an_error(name):
    with pytest.raises(SettingsError, match=r"outer optimizer.*`outer\.opti"):
        build_optimizer({"w": torch.zeros(1)}, make(optimizer=name))


@pytest.mark.parametrize(
    "changed", [{"options": {"momentun": 0.9}}, {"options": {"eps": -1.0}}, {"learning_rate": -1.0}]
)
def test_an_option_that_the_optimizer_refuses_is_an_error(changed):
    with pytest.raises(SettingsError, match=r"outer optimizer AdamW \(.*`outer\.options`"):
        build_optimizer({"w": torch.zeros(1)}, make(**changed))


@pytest.mark.parametrize(
    ("changed", "setting"),
    [
        ({"schedule": "linear"}, "schedule"),
        ({"stack": 0}, "stack"),
        ({"meta_batch_size": 0}, "meta_batch_size"),
        ({"validate_every": 0}, "validate_every"),
        ({"checkpoint_every": -1}, "checkpoint_every"),
        ({"average_last": -1}, "average_last"),
        ({"average_last": 13}, "average_last"),
    ],
)
def test_a_loop_that_cannot_run_names_the_setting(changed, setting):
    with pytest.raises(SettingsError, match=rf"`outer\.{setting}`"):
        make(**changed)
