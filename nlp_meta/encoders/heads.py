"""Heads made from a support set: class means, ridge regression, a Gaussian process.

The first two are functions of the features of W tasks and come out as ordinary linear layers, for
any number of labels. They are differentiated through: what moves below learns to give features
that such a head can use. The ridge head has three numbers of its own, which are meta-parameters.
The third is made of a kernel, the sum of what several views say (`nlp_meta/models/views.py`).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nlp_meta.errors import DivergedError

LEAST_SPREAD = 0.1
"""Least spread within classes, as a share of the spread of the whole support set."""
RIDGE = "ridge."
"""Prefix of the names of the ridge head's numbers."""
RIDGE_START: Mapping[str, float] = {"lambda": 1.0, "scale": 8.0, "bias": 1.0}
"""Where the numbers begin."""
_REACH = 10.0
"""A number moves by so many times what its meta-parameter moves: rates are chosen for matrices."""


def ridge_parameters(
    numbers: Mapping[str, float] = RIDGE_START, *, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """The ridge head's numbers as meta-parameters: logarithms, 0 where a run begins."""
    return {
        RIDGE + name: torch.tensor(
            math.log(value / RIDGE_START[name]) / _REACH, dtype=torch.float32, device=device
        )
        for name, value in numbers.items()
    }


def ridge_numbers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ridge head's numbers among some weights, `(tasks,)` or scalars; all above 0.

    Weights without them, as those of a head per task, give those where a run begins.
    """
    begun = torch.zeros(())
    return {
        name: value * (_REACH * weights.get(RIDGE + name, begun)).exp()
        for name, value in RIDGE_START.items()
    }


def ridge_head(
    features: Tensor,
    targets: Tensor,
    owners: Tensor,
    *,
    tasks: int,
    num_labels: int,
    numbers: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """Ridge regression from features to labels for W tasks, each written as a linear layer.

    With F the features of a task's n examples, less their mean, and Y its labels as rows of 0
    and 1, the weight is `scale F' (F F' + lambda u I)^-1 Y`, where u is the mean square of the
    rows of F, so that lambda means the same for any encoder. The logits of the mean feature are
    `scale n / (n + lambda / bias)` times each label's share: a feature that is constant would
    give them, `bias u` being its square.

    Args:
        features: `(examples, features)` of all tasks.
        targets: `(examples,)` indices of labels.
        owners: `(examples,)` places of the examples' tasks.
        numbers: `lambda`, `scale` and `bias`, `(tasks,)` each.

    Returns:
        Weight `(tasks, labels, features)` and bias `(tasks, labels)`.

    Source:
        Bertinetto et al. 2019, arXiv:1805.08136, section 3.
    """
    features = features.float()
    centers, counts = means_by(owners, features, tasks)
    counts = counts.clamp(min=1)
    order = owners.argsort(stable=True)
    sizes = torch.bincount(owners, minlength=tasks)
    places = torch.arange(len(owners), device=owners.device)
    places = places - (sizes.cumsum(0) - sizes)[owners[order]]
    longest = int(sizes.max())
    # Rows of zeros fill up short tasks: they change neither the solution nor its slope.
    rows = features.new_zeros(tasks, longest, features.shape[1])
    rows = rows.index_put((owners[order], places), (features - centers[owners])[order])
    answers = features.new_zeros(tasks, longest, num_labels)
    answers = answers.index_put(
        (owners[order], places, targets[order]), features.new_ones(len(owners))
    )
    unit = rows.square().sum((1, 2)).clamp(min=1e-6) / counts
    ridge = (numbers["lambda"] * unit).view(-1, 1, 1) * torch.eye(longest, device=rows.device)
    solved = torch.linalg.solve(rows @ rows.mT + ridge, answers)
    scale = numbers["scale"].view(-1, 1, 1)
    weight = scale * (solved.mT @ rows)
    trust = counts / (counts + numbers["lambda"] / numbers["bias"])
    shares = answers.sum(1) / counts.unsqueeze(-1)
    at_center = scale.squeeze(-1) * trust.unsqueeze(-1) * shares
    return weight, at_center - (weight @ centers.unsqueeze(-1)).squeeze(-1)


def prototype_head(
    features: Tensor, targets: Tensor, owners: Tensor, *, tasks: int, num_labels: int
) -> tuple[Tensor, Tensor]:
    """Nearest class mean of W tasks, each written as a linear layer.

    The squared distance to the mean c of a class gives the logits 2c.x - |c|^2, up to
    what all classes share. They are divided by the mean squared distance of an example
    to its own class mean, so that the head is as sure on any encoder's scale, and the
    features are centered on the support set's mean, which leaves the answers as they
    are and keeps the weights small.

    Args:
        features: `(examples, features)` of all tasks.
        targets: `(examples,)` indices of labels.
        owners: `(examples,)` places of the examples' tasks.

    Returns:
        Weight `(tasks, labels, features)` and bias `(tasks, labels)`; zero for a label
        that has no example.

    Source:
        Snell et al. 2017, arXiv:1703.05175, section 2.4; Triantafillou et al. 2020,
        arXiv:1903.03096, section 3.2.
    """
    classes = owners * num_labels + targets
    means, counts = means_by(classes, features, tasks * num_labels)
    centers, _ = means_by(owners, features, tasks)
    distance = (features - means[classes]).square().sum(-1, keepdim=True)
    spread = means_by(owners, distance, tasks)[0]
    # A class of one example has no distance to its mean: it must not make the head certain.
    whole = means_by(owners, (features - centers[owners]).square().sum(-1, keepdim=True), tasks)[0]
    spread = torch.maximum(spread, LEAST_SPREAD * whole).clamp(min=1e-6).unsqueeze(-1)
    means = means.view(tasks, num_labels, -1)
    present = (counts > 0).view(tasks, num_labels, 1)
    weight = 2 * (means - centers.unsqueeze(1)) / spread * present
    shared = centers.square().sum(-1, keepdim=True).unsqueeze(-1)
    bias = (shared - means.square().sum(-1, keepdim=True)) / spread * present
    return weight, bias.squeeze(-1)


def means_by(places: Tensor, values: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Mean of the rows at each place, `(size, ...)`, 0 where there are none; and their number."""
    counts = torch.bincount(places, minlength=size).to(values.dtype)
    sums = values.new_zeros(size, values.shape[-1]).index_add(0, places, values)
    return sums / counts.clamp(min=1).unsqueeze(-1), counts


def kernel_head(kernel: Tensor, answers: Tensor, offsets: Tensor) -> Tensor:
    """Multinomial logistic regression from a kernel: the mode of a Gaussian process classifier.

    The logits of the examples are `offsets + kernel @ weights`, and the weights maximize their
    log-likelihood less `trace(weights' kernel weights) / 2`. Newton's steps find them. The last
    one is differentiated through, which at the mode gives the whole slope: how the mode itself
    moves with the kernel and the offsets.

    Args:
        kernel: `(examples, examples)`, positive semidefinite, float64.
        answers: `(examples, labels)`, rows of 0 and 1.
        offsets: Logits where nothing is learned, `(examples, labels)`.

    Returns:
        Weights of the examples, `(examples, labels)`: at the mode `answers` less the shares.

    Raises:
        DivergedError: The kernel or the offsets are not finite.

    Source:
        Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, algorithm 3.3.
    """
    if not bool(kernel.isfinite().all() and offsets.isfinite().all()):
        raise DivergedError(
            "cannot make a head: what the encoder or the n-grams say of the texts is not numbers, "
            "and finite ones are needed; take another start"
        )
    with torch.no_grad():
        weights = torch.zeros_like(answers)
        best = _log_posterior(kernel, answers, offsets, weights)
        for _ in range(_NEWTON_STEPS):
            step = _newton(kernel, answers, offsets, kernel @ weights) - weights
            for _ in range(_HALVINGS):
                reached = _log_posterior(kernel, answers, offsets, weights + step)
                if reached >= best:
                    break
                step = step / 2
            if reached - best <= _CONVERGED:
                break
            weights, best = weights + step, reached
        logits = kernel @ weights
    return _newton(kernel, answers, offsets, logits)


_NEWTON_STEPS, _HALVINGS, _CONVERGED = 50, 20, 1e-9


def _log_posterior(kernel: Tensor, answers: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    logits = kernel @ weights
    return ((offsets + logits).log_softmax(-1) * answers).sum() - (weights * logits).sum() / 2


def _newton(kernel: Tensor, answers: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
    """The weights one step of Newton's from where the kernel gives some logits.

    The labels share one kernel, so a label costs one factor of `(examples, examples)`.
    """
    shares = (offsets + logits).softmax(-1)
    roots = shares.T.sqrt()
    inner = roots.unsqueeze(-1) * kernel * roots.unsqueeze(-2)
    factor = torch.linalg.cholesky(inner + torch.eye(len(kernel), dtype=kernel.dtype))
    scaled = roots.unsqueeze(-1) * torch.cholesky_solve(torch.diag_embed(roots), factor)
    total = torch.linalg.cholesky(scaled.sum(0))
    moved = shares * logits
    residual = moved - shares * moved.sum(-1, keepdim=True) + answers - shares
    pulled = torch.einsum("lij,jl->li", scaled, kernel @ residual)
    shared = torch.cholesky_solve(pulled.sum(0).unsqueeze(-1), total).squeeze(-1)
    return residual - pulled.T + torch.einsum("lij,j->il", scaled, shared)
