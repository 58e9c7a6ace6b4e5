"""Inner loop: from a starting point and W support sets to fast weights.

Values go in and values come out. The model's own parameters, the outer optimizer and
the random state are never touched, so the same `adapt` serves meta-training,
evaluation and export.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from nlp_meta.errors import DivergedError, SettingsError

Weights = Mapping[str, Tensor]
Batch = Any
Minibatch = Sequence[Batch]
Loss = Callable[[Weights, Batch], Tensor]

INNER_OPTIMIZERS = ("sgd", "adam")
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class InnerLoop:
    """How an episode adapts.

    Attributes:
        steps: Inner steps; 0 leaves the starting point as it is.
        learning_rate: Step size, above 0.
        optimizer: `sgd`, or `adam` with state of its own for every episode.
        anchor: Weight of half the squared distance to the starting point, added to
            the loss; 0 leaves it out.
        average: Decay of a moving average of the fast weights, begun at the starting
            point; the average is what comes out. 0 gives the fast weights themselves.
    """

    steps: int
    learning_rate: float
    optimizer: str
    anchor: float = 0.0
    average: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in INNER_OPTIMIZERS:
            raise SettingsError(
                f"cannot adapt with the optimizer '{self.optimizer}': one of "
                f"{', '.join(INNER_OPTIMIZERS)} is needed; change `inner.optimizer`"
            )
        if self.steps < 0 or not self.learning_rate > 0:
            raise SettingsError(
                f"cannot take {self.steps} inner steps at a rate of {self.learning_rate}: 0 or "
                "more steps and a rate above 0 are needed; change `inner.steps` or "
                "`inner.learning_rate`"
            )
        if not 0 <= self.average < 1:
            raise SettingsError(
                f"cannot average fast weights with a decay of {self.average}: 0 or more, below 1, "
                "is needed; change `adaptation.average`"
            )

    def instead(self, *, steps: int | None, learning_rate: float | None) -> "InnerLoop":
        """The same with other steps, or another rate; None keeps what is here."""
        return replace(
            self,
            steps=self.steps if steps is None else steps,
            learning_rate=self.learning_rate if learning_rate is None else learning_rate,
        )


def repeat(meta_parameters: Weights, *, tasks: int) -> dict[str, Tensor]:
    """Stack W views of the meta-parameters: `(...)` becomes `(tasks, ...)`."""
    return {name: value.expand(tasks, *value.shape) for name, value in meta_parameters.items()}


def mean_gradient(
    loss: Loss, weights: Weights, minibatch: Minibatch, *, create_graph: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of W tasks over the pieces of a minibatch, and its gradient for each task.

    The tasks' losses are summed before differentiating: no task's weights act on
    another's loss, so each gets its own gradient. Pieces are freed one after another.

    Returns:
        `(tasks,)` losses in nats, and `(tasks, ...)` gradients.
    """
    # Own views: a head that is computed from other weights has no part in their gradient.
    leaves = {
        n: v.view_as(v) if create_graph else v.detach().requires_grad_() for n, v in weights.items()
    }
    losses: list[Tensor] = []
    total: dict[str, Tensor] = {}
    for piece in minibatch:
        # Fused attention has no second derivative.
        with sdpa_kernel(SDPBackend.MATH) if create_graph else nullcontext():
            piece_losses = loss(leaves, piece)
        gradients = torch.autograd.grad(
            piece_losses.sum(),
            list(leaves.values()),
            create_graph=create_graph,
            materialize_grads=True,
        )
        losses.append(piece_losses if create_graph else piece_losses.detach())
        for name, gradient in zip(leaves, gradients, strict=True):
            total[name] = total[name] + gradient if name in total else gradient
    return torch.stack(losses).sum(0), total


def adaptation_path(
    loss: Loss,
    start: Weights,
    support: Sequence[Minibatch],
    *,
    inner: InnerLoop,
    first_order: bool = True,
) -> Iterator[dict[str, Tensor]]:
    """Yield the fast weights, or their average, before the first inner step and after each one.

    With `first_order` the graph is cut at every step: memory does not grow with the
    number of steps and no gradient flows back to `start`.

    Args:
        start: Stacked starting point, `(tasks, ...)` each; read, never written.
        support: Minibatches, used in turn, one an inner step; a list of one is the
            whole support set at every step.

    Raises:
        DivergedError: A support loss is infinite or not a number; names the step.

    Source:
        Finn et al. 2017, arXiv:1703.03400, sections 2.2 and 5.2; Adam: Kingma and Ba
        2015, arXiv:1412.6980; averages: Polyak and Juditsky 1992, doi:10.1137/0330046.
    """
    shapes = {name: value.shape for name, value in start.items()}
    # All numbers of a task in one row: an update is a few operations, not as many a tensor.
    fast = _flatten({n: v.detach() for n, v in start.items()} if first_order else start)
    anchor, shown = fast, fast
    first = second = torch.zeros_like(fast)
    yield _unflatten(fast, shapes)
    for step in range(1, inner.steps + 1):
        minibatch = support[(step - 1) % len(support)]
        losses, gradients = mean_gradient(
            loss, _unflatten(fast, shapes), minibatch, create_graph=not first_order
        )
        _check_finite(losses, step)
        slope = _flatten(gradients)
        if inner.anchor:
            slope = slope + inner.anchor * (fast - anchor)
        if inner.optimizer == "adam":
            first = BETA_1 * first + (1 - BETA_1) * slope
            second = BETA_2 * second + (1 - BETA_2) * slope.square()
            mean = first / (1 - BETA_1**step)
            # Inside the root: the slope of a root at 0 is infinite, exact MAML needs it.
            slope = mean / (second / (1 - BETA_2**step) + EPSILON**2).sqrt()
        fast = fast - inner.learning_rate * slope
        shown = inner.average * shown + (1 - inner.average) * fast if inner.average else fast
        yield _unflatten(shown, shapes)


def adapt(
    loss: Loss,
    start: Weights,
    support: Sequence[Minibatch],
    *,
    inner: InnerLoop,
    first_order: bool = True,
) -> dict[str, Tensor]:
    """Take the inner steps of W episodes at once and return their fast weights.

    Arguments, errors and sources are those of `adaptation_path`.

    Returns:
        `(tasks, ...)` tensors with the names, dtypes and devices of `start`.
    """
    fast: dict[str, Tensor] = {}
    for fast in adaptation_path(  # noqa: B007  the last one is the result
        loss, start, support, inner=inner, first_order=first_order
    ):
        pass
    return fast


def _flatten(weights: Weights) -> Tensor:
    """All numbers of each task side by side, `(tasks, numbers)`."""
    return torch.cat([value.reshape(len(value), -1) for value in weights.values()], 1)


def _unflatten(flat: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Views of the tensors that were flattened."""
    pieces = torch.split(flat, [shape[1:].numel() for shape in shapes.values()], 1)
    return {
        name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }


def _check_finite(losses: Tensor, step: int) -> None:
    if not bool(losses.isfinite().all()):
        loss = losses[~losses.isfinite()][0].item()
        raise DivergedError(
            f"cannot adapt: a support loss at inner step {step} is {loss} and a finite one is "
            "needed; lower the `learning_rate` of inner steps"
        )
