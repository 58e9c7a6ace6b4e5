"""Heads that are made from a support set, against arithmetic by hand, scikit-learn and slopes."""

from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import Ridge

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.heads import RIDGE, ridge_head, ridge_numbers, ridge_parameters
from nlp_meta.meta.algorithms import fomaml, joint, maml, reptile
from nlp_meta.meta.inner_loop import InnerLoop, adapt, mean_gradient, repeat
from nlp_meta.meta.outer_loop import EXAMPLES, Training, add_stack
from nlp_meta.models.builders import build_classifier
from nlp_meta.objectives.classification import name_row
from nlp_meta.settings import ModelSettings

WORDS = ("bad cold food", "awful staff", "slow room", "never again", "great warm food", "loved it")


def numbers(*, tasks=1, **values):
    """The head's three numbers, the same for all tasks."""
    chosen = {"lambda": 1.0, "scale": 8.0, "bias": 1.0, **values}
    return {name: torch.full((tasks,), value) for name, value in chosen.items()}


def draw(*, tasks=2, labels=3, features=5):
    """Features, targets and owners of tasks with unlike numbers of examples."""
    generator = torch.Generator().manual_seed(0)
    owners = torch.tensor([w for w in range(tasks) for _ in range(4 + 3 * w)])
    rows = torch.randn(len(owners), features, generator=generator)
    targets = torch.randint(labels, (len(owners),), generator=generator)
    return rows, targets, owners


def test_two_examples_on_a_line_by_hand():
    """F = (1, -1)', lambda 1: (F F' + I)^-1 has 1/3 along F, so W = (1/3, -1/3), times 8.

    Each label's share is 1/2, trusted by 2 / (2 + 1); the center is 0.
    """
    weight, bias = ridge_head(
        torch.tensor([[1.0], [-1.0]]),
        torch.tensor([0, 1]),
        torch.tensor([0, 0]),
        tasks=1,
        num_labels=2,
        numbers=numbers(),
    )
    assert weight.flatten().tolist() == pytest.approx([8 / 3, -8 / 3], rel=1e-5)
    assert bias.flatten().tolist() == pytest.approx([8 / 3, 8 / 3], rel=1e-5)


def test_it_is_the_ridge_regression_of_scikit_learn():
    """With a free intercept; its penalty counts in units of the mean square of a row."""
    rows, targets, owners = draw(tasks=1)
    weight, bias = ridge_head(
        rows, targets, owners, tasks=1, num_labels=3,
        numbers=numbers(**{"lambda": 0.3, "scale": 2.0, "bias": 1e9}),
    )  # fmt: skip
    unit = float((rows - rows.mean(0)).square().sum(1).mean())
    other = Ridge(alpha=0.3 * unit).fit(rows, torch.nn.functional.one_hot(targets, 3))
    torch.testing.assert_close(weight[0], 2 * torch.tensor(other.coef_).float())
    torch.testing.assert_close(bias[0], 2 * torch.tensor(other.intercept_).float())


def test_tasks_of_a_stack_do_not_touch_each_other():
    rows, targets, owners = draw(tasks=3)
    together = ridge_head(rows, targets, owners, tasks=3, num_labels=3, numbers=numbers(tasks=3))
    for w in range(3):
        own = owners == w
        alone = ridge_head(
            rows[own], targets[own], owners[own] * 0, tasks=1, num_labels=3, numbers=numbers()
        )
        for whole, part in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[w], part[0])


def test_the_scale_of_features_changes_no_answer():
    """Lambda and bias are in units of the features, so an encoder's scale is no matter."""
    rows, targets, owners = draw(tasks=1)
    logits = []
    for factor in (1.0, 50.0):
        weight, bias = ridge_head(
            factor * rows, targets, owners, tasks=1, num_labels=3, numbers=numbers()
        )
        logits.append(factor * rows @ weight[0].T + bias[0])
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-3, atol=1e-3)


def test_its_numbers_travel_as_logarithms():
    kept = {"lambda": 0.02, "scale": 12.0, "bias": 3.0}
    numbers_again = ridge_numbers(ridge_parameters(kept))
    assert {n: float(v) for n, v in numbers_again.items()} == pytest.approx(kept, rel=1e-5)
    assert all(float(value) == 0 for value in ridge_parameters().values())


@pytest.fixture
def build(tiny_encoder):
    def build(head, labels=()):
        settings = ModelSettings(str(tiny_encoder), None, "mean", head, "", 32, 2, 4, 2, None)
        return build_classifier(
            settings, labels=labels, device="cpu", precision="no", batch_tokens=200
        )

    return build


def episode(index=0) -> Episode:
    labels = (("bad", "good"), ("no", "so", "yes"))[index]
    rows = [Example(f"{text} {i}", labels[i % len(labels)]) for i, text in enumerate(WORDS * 2)]
    return Episode(f"made/{index}", labels, tuple(rows[:6]), tuple(rows[6:]), 0)


def begin(objective, episodes):
    """Meta-parameters away from their beginning, and the two sides of the episodes."""
    generator = torch.Generator().manual_seed(0)
    meta = objective.meta_parameters(generator)
    meta = {n: v + 0.05 * torch.randn(v.shape, generator=generator) for n, v in meta.items()}
    support = objective.support_batches(episodes, minibatch=None)
    return meta, support, objective.query_batches(episodes)


def ask(algorithm, objective, meta, support, query, *, steps):
    return algorithm(
        objective.loss,
        repeat(meta, tasks=2),
        support,
        query,
        inner=InnerLoop(steps, 0.05, "sgd"),
        start=lambda weights: objective.start(weights, support),
    )


@pytest.mark.parametrize("head", ["prototype", "ridge"])
@pytest.mark.parametrize(("algorithm", "steps"), [(fomaml, 0), (maml, 0), (maml, 2)])
def test_the_gradient_goes_through_the_head(build, head, algorithm, steps):
    """Another route: the query loss a little before and behind, along the gradient itself."""
    objective = build(head)
    meta, support, query = begin(objective, [episode(0), episode(1)])
    given = ask(algorithm, objective, meta, support, query, steps=steps)
    slope = {name: value.sum(0) for name, value in given.gradient.items() if name in meta}
    length = torch.stack([v.square().sum() for v in slope.values()]).sum().sqrt()

    def loss(step):
        moved = {n: v + step * slope[n] / length for n, v in meta.items()}
        return float(ask(algorithm, objective, moved, support, query, steps=steps).loss_after.sum())

    assert (loss(2e-3) - loss(-2e-3)) / 4e-3 == pytest.approx(float(length), rel=0.03)


def test_first_order_with_steps_adds_what_comes_back_through_the_head(build):
    """Another route: the slope of one number, in which the query gradient is held fixed."""
    objective = build("ridge")
    meta, support, query = begin(objective, [episode(0), episode(1)])
    given = ask(fomaml, objective, meta, support, query, steps=2).gradient

    leaves = {n: v.clone().requires_grad_() for n, v in repeat(meta, tasks=2).items()}
    start = objective.start(leaves, support)
    fast = adapt(objective.loss, start, support, inner=InnerLoop(2, 0.05, "sgd"))
    _, held = mean_gradient(objective.loss, fast, query)
    torch.stack([(start[name] * held[name]).sum() for name in held]).sum().backward()

    assert given.keys() == meta.keys()
    for name, value in leaves.items():
        torch.testing.assert_close(given[name], value.grad)
    assert all(float(given[name].abs().sum()) > 0 for name in given if name.startswith(RIDGE))


@pytest.mark.parametrize(("head", "seen"), [("ridge", 24), ("shared", 12)])
def test_examples_that_make_a_head_count_as_seen(build, head, seen):
    """Two episodes of six support examples and six queries; no inner step."""
    objective = build(head, labels=("bad", "good"))
    meta, _, _ = begin(objective, [episode(0)])
    objectives = {"classification": objective}
    training = Training(
        objectives, {"classification": 1.0}, None, fomaml, InnerLoop(0, 0.05, "sgd"), None
    )
    sums = {name: torch.zeros_like(value) for name, value in meta.items()}
    measured = add_stack(
        training, "classification", meta, [episode(0), episode(0)], sums, compare=False
    )
    assert int(measured[EXAMPLES]) == seen


def test_reptile_moves_what_is_below_the_head_alone(build):
    objective = build("ridge")
    meta, support, query = begin(objective, [episode(0), episode(1)])
    gradient = ask(reptile, objective, meta, support, query, steps=2).gradient
    moved = {name for name in meta if float(gradient[name].abs().sum()) > 0}
    assert moved == {name for name in meta if not name.startswith(RIDGE)}


def test_a_task_with_rows_of_its_own_moves_no_other_tasks_rows(build):
    episodes = [episode(0), episode(1)]
    rows = [name_row(e.task, label) for e in episodes for label in e.labels]
    objective = build("per_task", labels=rows)
    meta, support, query = begin(objective, episodes)
    slope = ask(joint, objective, meta, support, query, steps=0).gradient["classifier.bias"]
    assert float(slope[0, 2:].abs().max()) == float(slope[1, :2].abs().max()) == 0
    assert float(slope[0, :2].abs().min()) > 0 and float(slope[1, 2:].abs().min()) > 0
    answers = objective.answer(repeat(meta, tasks=2), query, episodes)
    assert [set(row[0].probabilities) for row in answers] == [set(e.labels) for e in episodes]


def test_what_a_head_per_task_learned_below_is_judged_by_the_ridge_head_as_it_begins(build):
    episodes = [episode(0), episode(1)]
    rows = [name_row(e.task, label) for e in episodes for label in e.labels]
    objective = build("per_task", labels=rows)
    meta, *_ = begin(objective, episodes)
    judged = replace(objective, head="ridge", labels=())
    support = judged.support_batches(episodes, minibatch=None)
    without, beside = (
        judged.start(repeat(weights, tasks=2), support)["classifier.weight"]
        for weights in (meta, meta | ridge_parameters())
    )
    torch.testing.assert_close(without, beside)


def test_labels_in_another_order_give_the_same_answers(build):
    """A label's place carries no meaning."""
    objective = build("ridge")
    one = episode(1)
    turned = replace(one, labels=one.labels[::-1])
    probabilities = []
    for e in (one, turned):
        meta, support, query = begin(objective, [e])
        start = objective.start(repeat(meta, tasks=1), support)
        (answers,) = objective.answer(start, query, [e])
        probabilities.append([answer.probabilities for answer in answers])
    for first, second in zip(*probabilities, strict=True):
        assert first == pytest.approx(second, abs=1e-5)
