"""Meta-algorithms: what W episodes ask the meta-parameters to move against.

Each function adapts all episodes of a stack and returns one `MetaGradient`. `fomaml`
and `reptile` are what this package is for; `maml` is their exact yardstick; `joint`
takes no inner step at all and is ordinary multi-task training, which every
meta-learned start has to beat and, by default, begins from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nlp_meta.meta.inner_loop import InnerLoop, Loss, Minibatch, Weights, adapt, mean_gradient

Start = Callable[[Weights], Weights]
"""Completes stacked meta-parameters to the weights that adaptation starts from."""


def unchanged(weights: Weights) -> Weights:
    """Start from the meta-parameters alone."""
    return weights


@dataclass(frozen=True, slots=True)
class MetaGradient:
    """The direction of W episodes, and what they say of themselves.

    Attributes:
        gradient: One direction for each episode, `(tasks, ...)`, by the meta-parameters' names.
        loss_after: Query loss at the fast weights, `(tasks,)`, in nats.
        adaptation_size: Length of the way from the starting point to the fast
            weights, `(tasks,)`.
    """

    gradient: Weights
    loss_after: Tensor
    adaptation_size: Tensor


class Algorithm(Protocol):
    """What the outer loop calls: stacked meta-parameters and the episodes that they face.

    `meta_parameters` are `(tasks, ...)` each, the same for all tasks; `start` completes
    them by what a support set gives (a head of prototypes).
    """

    def __call__(
        self,
        loss: Loss,
        meta_parameters: Weights,
        support: Sequence[Minibatch],
        query: Minibatch,
        *,
        inner: InnerLoop,
        start: Start,
    ) -> MetaGradient: ...


def fomaml(
    loss: Loss,
    meta_parameters: Weights,
    support: Sequence[Minibatch],
    query: Minibatch,
    *,
    inner: InnerLoop,
    start: Start = unchanged,
) -> MetaGradient:
    """First-order MAML: the query gradient at the fast weights, as if it were at the start.

    Where a head is made from the support set, its gradient goes on to what it was made from;
    without inner steps that is the exact gradient.

    Source:
        Finn et al. 2017, arXiv:1703.03400, section 5.2; heads: Triantafillou et al. 2020,
        arXiv:1903.03096, section 3.3.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in meta_parameters.items()}
    before = start(leaves)
    fast = adapt(loss, before, support, inner=inner)
    loss_after, gradient = mean_gradient(loss, fast, query)
    through = _through_start(gradient, before, leaves)
    return _describe(through, before, fast, loss_after)


def reptile(
    loss: Loss,
    meta_parameters: Weights,
    support: Sequence[Minibatch],
    query: Minibatch,
    *,
    inner: InnerLoop,
    start: Start = unchanged,
) -> MetaGradient:
    """Reptile: from the fast weights back to the starting point.

    Against this direction an outer step of rate 1 lands on the mean of the fast
    weights. The query set is measured, not learned from.

    Source:
        Nichol et al. 2018, arXiv:1803.02999, algorithm 2.
    """
    before = start(meta_parameters)
    fast = adapt(loss, before, support, inner=inner)
    gradient = {name: before[name].detach() - fast[name] for name in fast}
    return _describe(gradient, before, fast, query_loss(loss, fast, query))


def maml(
    loss: Loss,
    meta_parameters: Weights,
    support: Sequence[Minibatch],
    query: Minibatch,
    *,
    inner: InnerLoop,
    start: Start = unchanged,
) -> MetaGradient:
    """Exact MAML: the query gradient through every inner step.

    Keeps the graphs of all inner steps in memory.

    Source:
        Finn et al. 2017, arXiv:1703.03400, equation 1.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in meta_parameters.items()}
    before = start(leaves)
    fast = adapt(loss, before, support, inner=inner, first_order=False)
    losses = torch.stack([loss(fast, piece) for piece in query]).sum(0)
    gradients = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True)
    gradient = dict(zip(leaves, gradients, strict=True))
    return _describe(gradient, before, fast, losses.detach())


def joint(
    loss: Loss,
    meta_parameters: Weights,
    support: Sequence[Minibatch],
    query: Minibatch,
    *,
    inner: InnerLoop,
    start: Start = unchanged,
) -> MetaGradient:
    """Multi-task training: the gradient of the query sets at the starting point itself."""
    before = start(meta_parameters)
    losses, gradient = mean_gradient(loss, before, query)
    still = torch.zeros_like(losses)
    return MetaGradient(gradient, losses, still)


ALGORITHMS: dict[str, Algorithm] = {
    "fomaml": fomaml,
    "reptile": reptile,
    "maml": maml,
    "joint": joint,
}


def _through_start(gradient: Weights, before: Weights, leaves: Weights) -> Weights:
    """Add to the meta-parameters' gradient what comes back through what a start has made."""
    made = [name for name in before if name not in leaves]
    if not made:
        return gradient
    back = torch.autograd.grad(
        [before[name] for name in made],
        list(leaves.values()),
        [gradient[name] for name in made],
        materialize_grads=True,
    )
    return {name: gradient[name] + slope for name, slope in zip(leaves, back, strict=True)}


@torch.no_grad()
def query_loss(loss: Loss, weights: Weights, query: Minibatch) -> Tensor:
    """Loss of the query sets of W episodes, `(tasks,)` in nats."""
    return torch.stack([loss(weights, piece) for piece in query]).sum(0)


@torch.no_grad()
def _describe(
    gradient: Weights, before: Weights, fast: Weights, loss_after: Tensor
) -> MetaGradient:
    # A stacked scalar, `(tasks,)`, has one number of each task.
    ways = [(fast[n] - before[n]).reshape(len(loss_after), -1).square().sum(1) for n in fast]
    return MetaGradient(gradient, loss_after, torch.stack(ways).sum(0).sqrt())
