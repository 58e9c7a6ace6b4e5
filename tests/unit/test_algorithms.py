"""Meta-algorithms on parabolas: half the squared distance of `w` to a target."""

import pytest
import torch

from nlp_meta.meta.algorithms import ALGORITHMS, fomaml, joint, maml, reptile
from nlp_meta.meta.inner_loop import InnerLoop, repeat


def half_square(weights, targets):
    """Its slope is `w` less the target."""
    return 0.5 * (weights["w"] - targets).square().sum(1)


def numbers(*values: float) -> torch.Tensor:
    """One task a value, each of one parameter: `(tasks, 1)`."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def run(algorithm, *, support, query, start=None, loss=half_square, steps=1, rate=0.1, **more):
    """One direction from 0, or `start`."""
    return algorithm(
        loss,
        {"w": torch.zeros_like(support)} if start is None else start,
        [[support]],
        [query],
        inner=InnerLoop(steps, rate, more.pop("optimizer", "sgd")),
        **more,
    )


def test_fomaml_is_the_query_slope_at_the_fast_weights():
    """By hand: 0.1 steps from 0 towards 2 land on 0.2, 0.38; the slopes towards 5 follow."""
    one = run(fomaml, support=numbers(2.0), query=numbers(5.0))
    two = run(fomaml, support=numbers(2.0), query=numbers(5.0), steps=2)

    torch.testing.assert_close(one.gradient["w"], numbers(-4.8))
    torch.testing.assert_close(two.gradient["w"], numbers(-4.62))


def test_maml_is_the_query_slope_through_every_step():
    """By hand: each 0.1 step multiplies what comes from the start by 0.9."""
    one = run(maml, support=numbers(2.0), query=numbers(5.0))
    two = run(maml, support=numbers(2.0), query=numbers(5.0), steps=2)

    torch.testing.assert_close(one.gradient["w"], numbers(0.9 * -4.8))
    torch.testing.assert_close(two.gradient["w"], numbers(0.81 * -4.62))


def test_one_step_reptile_is_the_rate_times_the_gradient():
    """By hand: 0.1 times the slope at 0 towards 2; the query set has no say."""
    found = run(reptile, support=numbers(2.0), query=numbers(5.0))

    torch.testing.assert_close(found.gradient["w"], numbers(0.1 * -2.0))


def test_reptile_goes_against_the_whole_way():
    """By hand: three steps lead to 2 * (1 - 0.9 ** 3) = 0.542."""
    found = run(reptile, support=numbers(2.0), query=numbers(5.0), steps=3)

    torch.testing.assert_close(found.gradient["w"], numbers(-0.542))


def test_outer_step_of_one_against_reptile_lands_on_the_mean_of_the_fast_weights():
    """By hand: from 1, a step of 0.1 towards 2 and -8 lands on 1.1 and 0.1, 0.6 on average."""
    start = {"w": numbers(1.0, 1.0)}

    found = run(reptile, support=numbers(2.0, -8.0), query=numbers(0.0, 0.0), start=start)

    assert float(1.0 - found.gradient["w"].mean()) == pytest.approx(0.6)


def test_joint_is_the_query_slope_at_the_start():
    """By hand: towards 5 from 0; no inner step is taken, so nothing changes and nothing moves."""
    found = run(joint, support=numbers(2.0), query=numbers(5.0), steps=9)

    torch.testing.assert_close(found.gradient["w"], numbers(-5.0))
    assert found.loss_after.tolist() == [12.5]
    assert found.adaptation_size.tolist() == [0.0]


@pytest.mark.parametrize("algorithm", [fomaml, reptile, maml])
def test_losses_and_the_way_are_reported_for_each_task(algorithm):
    """By hand: half squares at 0.2 and -0.3, of 4.8 and 1.3."""
    found = run(algorithm, support=numbers(2.0, -3.0), query=numbers(5.0, 1.0))

    assert found.loss_after.tolist() == pytest.approx([0.5 * 4.8**2, 0.5 * 1.3**2])
    assert found.adaptation_size.tolist() == pytest.approx([0.2, 0.3])
    assert not found.loss_after.requires_grad


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_pieces_of_the_query_set_add_up(name):
    """Another route: one piece whose loss is the sum of both."""
    targets = numbers(5.0), numbers(-1.0)

    def summed(weights, batch):
        pieces = targets if batch is None else [batch]
        return torch.stack([half_square(weights, piece) for piece in pieces]).sum(0)

    def direction(query):
        start, inner = {"w": numbers(0.0)}, InnerLoop(2, 0.1, "sgd")
        return ALGORITHMS[name](
            summed, start, [[numbers(2.0)]], query, inner=inner, start=lambda weights: weights
        )

    parts, whole = direction(list(targets)), direction([None])

    torch.testing.assert_close(parts.gradient["w"], whole.gradient["w"])
    torch.testing.assert_close(parts.loss_after, whole.loss_after)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_exact_slopes_agree_with_finite_differences(optimizer):
    """Another route: central differences of the query loss after three steps."""
    start, nudge = {"w": numbers(0.5)}, 1e-5

    def query_loss(change: float) -> float:
        moved = {"w": start["w"] + change}
        found = run(fomaml, support=numbers(2.0), query=numbers(5.0), start=moved, **how)
        return float(found.loss_after)

    how = {"steps": 3, "optimizer": optimizer, "loss": quartic}
    found = run(maml, support=numbers(2.0), query=numbers(5.0), start=start, **how)

    slope = (query_loss(nudge) - query_loss(-nudge)) / (2 * nudge)
    assert float(found.gradient["w"]) == pytest.approx(slope, rel=1e-5)


def quartic(weights, targets):
    """Its curvature changes from place to place."""
    return (weights["w"] - targets).pow(4).sum(1) / 10


def sum_square(weights, targets):
    return 0.5 * (weights["w"] + weights["head"] - targets).square().sum(1)


def thrice(weights):
    """A head that is computed from the meta-parameters, as prototypes are."""
    return {**weights, "head": 3 * weights["w"]}


def run_with_head(algorithm):
    return algorithm(
        sum_square,
        {"w": numbers(1.0)},
        [[numbers(2.0)]],
        [numbers(0.0)],
        inner=InnerLoop(1, 0.1, "sgd"),
        start=thrice,
    )


def test_first_order_sends_the_gradient_of_a_computed_head_on():
    """By hand: w = 1, head = 3; both slopes towards 2 are 2, so 0.8 + 2.8 = 3.6, towards 0.

    The head is 3 w, so its slope of 3.6 comes back as 10.8.
    """
    found = run_with_head(fomaml)

    torch.testing.assert_close(found.gradient["w"], numbers(3.6 + 10.8))
    assert float(found.adaptation_size) == pytest.approx(0.08**0.5)


def test_exact_maml_takes_the_steps_of_adaptation_and_differentiates_the_head():
    """By hand: 4w - 0.2 * (4w - 2) has the value 3.6 and the slope 3.2 at w = 1."""
    found = run_with_head(maml)

    assert float(found.loss_after) == pytest.approx(0.5 * 3.6**2)
    torch.testing.assert_close(found.gradient["w"], numbers(3.6 * 3.2))


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_meta_parameters_are_never_changed(name):
    meta = {"w": torch.tensor([1.0], dtype=torch.float64)}

    run(
        ALGORITHMS[name],
        support=numbers(2.0, 3.0),
        query=numbers(5.0, 6.0),
        start=repeat(meta, tasks=2),
        steps=3,
        optimizer="adam",
    )

    assert {n: v.tolist() for n, v in meta.items()} == {"w": [1.0]}
    assert not any(value.requires_grad for value in meta.values())
