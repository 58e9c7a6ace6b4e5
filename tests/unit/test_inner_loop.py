"""Inner loop on parabolas: half the squared distance of `w` to a target, for each task."""

import math

import pytest
import torch

from nlp_meta.errors import DivergedError, SettingsError
from nlp_meta.meta.inner_loop import (
    InnerLoop,
    adapt,
    adaptation_path,
    mean_gradient,
    repeat,
)


def half_square(weights, targets):
    """Its slope is `w` less the target."""
    return 0.5 * (weights["w"] - targets).square().sum(1)


def numbers(*values: float) -> torch.Tensor:
    """One task a value, each of one parameter: `(tasks, 1)`."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def move(*targets, start=None, **inner):
    """Adapt from 0, or `start`; each of `targets` is a minibatch of one piece."""
    loop = InnerLoop(**{"steps": 1, "learning_rate": 0.1, "optimizer": "sgd", **inner})
    begin = {"w": torch.zeros_like(targets[0])} if start is None else start
    return adapt(half_square, begin, [[target] for target in targets], inner=loop)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_zero_inner_steps_return_the_starting_point(optimizer):
    start = {"w": numbers(3.0, -1.0)}

    fast = move(numbers(0.0, 0.0), start=start, steps=0, optimizer=optimizer)

    assert fast.keys() == start.keys()
    assert torch.equal(fast["w"], start["w"])


def test_gradient_steps_walk_down_the_parabola():
    """By hand: a 0.1 step from 0 towards 2 lands on 0.2, the next one on 0.2 + 0.1 * 1.8."""
    torch.testing.assert_close(move(numbers(2.0))["w"], numbers(0.2))
    torch.testing.assert_close(move(numbers(2.0), steps=2)["w"], numbers(0.38))


def test_path_shows_the_start_and_every_step():
    """By hand, as above; the third point is 0.38 + 0.1 * 1.62."""
    inner = InnerLoop(3, 0.1, "sgd")

    path = adaptation_path(half_square, {"w": numbers(0.0)}, [[numbers(2.0)]], inner=inner)

    assert [float(fast["w"]) for fast in path] == pytest.approx([0.0, 0.2, 0.38, 0.542])


def test_tasks_of_a_stack_do_not_touch_each_other():
    """By hand: a tenth of the way to each task's own target."""
    fast = move(numbers(2.0, -30.0, 0.0))

    torch.testing.assert_close(fast["w"], numbers(0.2, -3.0, 0.0))


def test_first_adam_step_is_the_rate_against_the_sign_of_the_slope():
    """By hand: at step 1 both corrected moments are of the slope alone, g / |g|."""
    fast = move(numbers(0.002, -5000.0), optimizer="adam", learning_rate=0.25)

    torch.testing.assert_close(fast["w"], numbers(0.25, -0.25), rtol=1e-4, atol=0)


def test_adam_takes_the_steps_of_torch():
    """Another route: one `torch.optim.Adam` for each task."""
    targets = numbers(2.0, -0.7, 11.0)

    fast = move(targets, optimizer="adam", steps=7)

    for task, target in enumerate(targets):
        weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([weight], lr=0.1)
        for _ in range(7):
            optimizer.zero_grad()
            (0.5 * (weight - target).square().sum()).backward()
            optimizer.step()
        torch.testing.assert_close(fast["w"][task], weight.detach(), rtol=1e-6, atol=0)


def test_a_slope_of_zero_leaves_adam_where_it_is():
    """By hand: 0 / (0 + epsilon)."""
    start = {"w": numbers(2.0)}

    assert torch.equal(move(numbers(2.0), start=start, optimizer="adam", steps=3)["w"], start["w"])


def test_anchor_pulls_back_to_the_start_from_the_second_step_on():
    """By hand: 0.2 first; there the slope is (0.2 - 2) + 1 * 0.2 = -1.6, so 0.36."""
    torch.testing.assert_close(move(numbers(2.0), anchor=1.0)["w"], numbers(0.2))
    torch.testing.assert_close(move(numbers(2.0), anchor=1.0, steps=2)["w"], numbers(0.36))


def test_anchor_is_the_starting_point_and_not_zero():
    """By hand: 1 -> 1.1 towards 2; there the slope is -0.9 + 2 * 0.1 = -0.7, so 1.17."""
    fast = move(numbers(2.0), start={"w": numbers(1.0)}, anchor=2.0, steps=2)

    torch.testing.assert_close(fast["w"], numbers(1.17))


def test_the_average_of_the_fast_weights_comes_out_and_the_steps_go_on_without_it():
    """By hand at rate 0.5 towards 2: 0, 1, 1.5; averages of halves: 0, 0.5, 1."""
    found = [
        float(move(numbers(2.0), learning_rate=0.5, steps=n, average=0.5)["w"]) for n in (0, 1, 2)
    ]

    assert found == pytest.approx([0.0, 0.5, 1.0])


def test_adam_is_averaged_along_its_own_path():
    """Another route: the points of the path without an average, weighed by hand at 0.9."""
    start = {"w": numbers(0.0)}

    def path(average):
        inner = InnerLoop(2, 0.1, "adam", average=average)
        found = adaptation_path(half_square, start, [[numbers(2.0)]], inner=inner)
        return [float(fast["w"]) for fast in found]

    _, first, second = path(0.0)

    assert path(0.9) == pytest.approx([0.0, 0.1 * first, 0.09 * first + 0.1 * second])


@pytest.mark.parametrize("average", [-0.1, 1.0])
def test_a_decay_that_is_none_is_an_error(average):
    with pytest.raises(SettingsError, match=r"decay.*`adaptation\.average`"):
        InnerLoop(1, 0.1, "sgd", average=average)


def test_minibatches_are_used_in_turn():
    """By hand at rate 0.5: 0 -> 0.5 (to 1) -> 1.75 (to 3) -> 1.375 (to 1 again)."""
    minibatches = numbers(1.0), numbers(3.0)

    found = [float(move(*minibatches, learning_rate=0.5, steps=n)["w"]) for n in (1, 2, 3)]

    assert found == pytest.approx([0.5, 1.75, 1.375])


def test_pieces_of_a_minibatch_add_up():
    """By hand at w = 1: losses 0.5 + 2 and slopes -1 - 2 towards 2 and 3."""
    weights = {"w": numbers(1.0)}

    losses, gradient = mean_gradient(half_square, weights, [numbers(2.0), numbers(3.0)])

    torch.testing.assert_close(losses, torch.tensor([2.5], dtype=torch.float64))
    torch.testing.assert_close(gradient["w"], numbers(-3.0))


def test_first_order_cuts_the_graph_and_exact_keeps_it():
    """By hand: fast = 0.9 * start + 0.2, so the slope of fast along start is 0.9."""
    start = {"w": numbers(0.0).requires_grad_()}
    inner = InnerLoop(1, 0.1, "sgd")

    cut = adapt(half_square, start, [[numbers(2.0)]], inner=inner)
    kept = adapt(half_square, start, [[numbers(2.0)]], inner=inner, first_order=False)

    assert not cut["w"].requires_grad
    torch.testing.assert_close(torch.autograd.grad(kept["w"].sum(), start["w"])[0], numbers(0.9))


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_inputs_are_never_changed(optimizer, first_order):
    shared = torch.tensor([1.0], dtype=torch.float64)
    start = {name: v.requires_grad_(not first_order) for name, v in {"w": shared}.items()}
    targets = numbers(5.0, -5.0)
    inner = InnerLoop(4, 0.1, optimizer, anchor=0.5)

    adapt(half_square, repeat(start, tasks=2), [[targets]], inner=inner, first_order=first_order)

    assert shared.detach().tolist() == [1.0] and shared.grad is None
    assert shared.requires_grad is not first_order
    assert targets.tolist() == [[5.0], [-5.0]]


def test_repeated_meta_parameters_are_views():
    """By hand: an expanded tensor has the memory of the one it shows."""
    value = torch.arange(6.0).view(2, 3)

    stacked = repeat({"w": value, "step": torch.tensor(1.0)}, tasks=4)

    assert stacked["w"].shape == (4, 2, 3) and stacked["step"].shape == (4,)
    assert stacked["w"].data_ptr() == value.data_ptr()


def test_infinite_loss_names_the_step_and_the_setting():
    targets = numbers(1.0, math.inf)

    with pytest.raises(DivergedError, match=r"loss at inner step 1 is inf.*learning_rate"):
        move(targets)


def test_a_rate_that_runs_away_stops_at_the_step_where_it_does():
    """By hand: 1e200 from a slope of 1, squared, is beyond float64 at the second step."""
    with pytest.raises(DivergedError, match=r"cannot adapt: .*inner step 2 is inf"):
        move(numbers(1.0), learning_rate=1e200, steps=5)


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ({"optimizer": "lbfgs"}, r"'lbfgs'.*sgd, adam.*`inner\.optimizer`"),
        ({"steps": -1}, r"-1 inner steps.*`inner\.steps`"),
        ({"learning_rate": 0.0}, r"rate of 0\.0.*`inner\.learning_rate`"),
        ({"learning_rate": math.nan}, r"rate of nan.*`inner\.learning_rate`"),
    ],
)
def test_inner_loop_that_cannot_be_taken_is_refused(wrong, setting):
    with pytest.raises(SettingsError, match=setting):
        InnerLoop(**{"steps": 1, "learning_rate": 0.1, "optimizer": "sgd", **wrong})
