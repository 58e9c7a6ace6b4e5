"""Deviations: what lies beside the shared pair, and what of it is learned."""

import torch

from nlp_meta.meta.algorithms import deviations
from nlp_meta.meta.deviations import DEVIATION, begin_deviations, drop_deviations, join_deviations
from nlp_meta.meta.inner_loop import InnerLoop, repeat

A, B = "layer.lora_A", "layer.lora_B"


def low_rank_error(weights, targets):
    """Half the squared distance of `B @ A` to a number; rank axes are 1 of A and 2 of B."""
    return 0.5 * ((weights[B] @ weights[A]).flatten(1) - targets).square().sum(1)


def number(value: float, *shape: int) -> torch.Tensor:
    return torch.full(shape or (1, 1), value, dtype=torch.float64)


def make() -> dict[str, torch.Tensor]:
    """The shared pair is 2 * 3; that of task x is 1 * 5, that of task y 1 * 7."""
    own = {"x": (5.0, 1.0), "y": (7.0, 1.0)}
    named = {
        f"{DEVIATION}{task}:{name}": number(value)
        for task, pair in own.items()
        for name, value in zip((A, B), pair, strict=True)
    }
    return {A: number(3.0), B: number(2.0), "head.weight": number(1.0), **named}


def test_ranks_of_the_shared_and_the_own_pair_add_up():
    """By hand: 2 * 3 + 1 * 7 = 13 of task y, 2 * 3 + 1 * 5 = 11 of task x; the head is shared."""
    joined = join_deviations(repeat(make(), tasks=2), ["y", "x"])

    assert set(joined) == {A, B, "head.weight"}
    assert (joined[A].shape, joined[B].shape) == ((2, 2, 1), (2, 1, 2))
    assert (joined[B] @ joined[A]).flatten().tolist() == [13.0, 11.0]
    assert joined["head.weight"].shape == (2, 1, 1)


def test_weights_without_deviations_stay_as_they_are():
    weights = repeat({A: number(3.0), B: number(2.0)}, tasks=1)

    assert join_deviations(weights, ["x"]) is weights


def test_deviations_begin_as_an_adapter_that_changes_nothing():
    """Of the drawn pair alone, for each task; the product with a `B` of zero is zero."""
    drawn = {A: number(4.0, 2, 3), B: number(0.0, 5, 2), "head.bias": number(0.0, 1)}

    begun = begin_deviations(drawn, ["x", "y"])

    names = {f"{DEVIATION}{task}:{name}" for task in ("x", "y") for name in (A, B)}
    assert set(begun) == names
    assert begun[f"{DEVIATION}x:{A}"] is not begun[f"{DEVIATION}y:{A}"]


def test_what_tasks_share_is_left_when_deviations_are_dropped():
    assert set(drop_deviations(make())) == {A, B, "head.weight"}


def test_the_slope_reaches_the_shared_pair_and_the_own_deviation_alone():
    """By hand: task x is at 11 and 1 below its target, so every slope is -1 times the other half.

    The error of y, at 13, is 2 above: slopes of 2 times the other half.
    """
    start = make()
    targets = torch.tensor([[12.0], [11.0]], dtype=torch.float64)

    found = deviations(
        low_rank_error,
        repeat(start, tasks=2),
        [],
        [targets],
        inner=InnerLoop(0, 0.1, "sgd"),
        start=lambda weights: join_deviations(weights, ["x", "y"]),
    )

    slopes = {name: value.flatten().tolist() for name, value in found.gradient.items()}
    assert slopes == {
        A: [-2.0, 4.0],
        B: [-3.0, 6.0],
        "head.weight": [0.0, 0.0],
        f"{DEVIATION}x:{A}": [-1.0, 0.0],
        f"{DEVIATION}x:{B}": [-5.0, 0.0],
        f"{DEVIATION}y:{A}": [0.0, 2.0],
        f"{DEVIATION}y:{B}": [0.0, 14.0],
    }
    assert found.loss_before.tolist() == found.loss_after.tolist() == [0.5, 2.0]
    assert found.adaptation_size.tolist() == [0.0, 0.0]
