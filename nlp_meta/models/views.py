"""A head over several views of a text, whose trust in each was learned on other tasks.

Views are the features of the start's encoder and hashed character n-grams. Each gives a kernel; a
Gaussian process over their weighted sum, around what the start and its n-grams say without labels,
answers in milliseconds. How far each is trusted with so many labels is not left to the few labels
of a support set: thirteen numbers are learned by query loss over episodes of tasks that the start
was not trained on. What comes out is a linear head and linear n-grams.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array
from torch import Tensor

from nlp_meta.encoders.heads import kernel_head
from nlp_meta.meta.inner_loop import Weights
from nlp_meta.models.companion import Companion, CompanionReport
from nlp_meta.objectives.classification import Classification, pair_answers
from nlp_meta.objectives.ngrams import FEATURES, NgramModel, count_ngrams, narrow_ngrams, rarity_of

Array = NDArray[np.float64]

NEW_LABELS: Mapping[str, float] = {
    "encoder": 0.45,
    "encoder_growth": -0.72,
    "encoder_labels": 0.82,
    "ngrams": 0.50,
    "ngrams_growth": -0.43,
    "ngrams_labels": 0.54,
    "bias": -0.91,
    "start": 0.00,
    "start_growth": 0.00,
    "prior": 0.00,
    "prior_growth": 0.00,
    "temperature": -1.03,
    "temperature_growth": -0.15,
}
"""Trust where a start has no answers of its own: logarithms for 19 examples and 3 labels, and what
is added to them for each unit of log(1 + examples) and of log(labels). Learned on 46 English tasks
of any labels, over MiniLM as it is (`recipes/learn_trust.py --anew`)."""
KNOWN_LABELS: Mapping[str, float] = {
    "encoder": -0.34,
    "encoder_growth": -0.67,
    "encoder_labels": 0.64,
    "ngrams": 1.20,
    "ngrams_growth": -0.15,
    "ngrams_labels": 0.59,
    "bias": -0.48,
    "start": -0.78,
    "start_growth": -0.29,
    "prior": -1.79,
    "prior_growth": -0.01,
    "temperature": -0.23,
    "temperature_growth": -0.23,
}
"""The same where it has: learned on 48 tasks of 21 corpora, in many languages, new to a start."""
SLIPS, PARTS = 0.2, 5
"""The chance that a label is wrong where labels are questioned, and parts held out in turn: chosen
on meta-validation (`recipes/inspect_labels.py`)."""
MOST_EXAMPLES = 1000
"""Beyond it the kernel grows too large, and an inner loop has enough to learn from."""


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """What there is to see of some texts.

    Attributes:
        features: Of the start's encoder, `(texts, features)`.
        counts: Of n-grams, `(texts, n-grams)`; None leaves them out.
        start, prior: Logits of the start and of its n-grams without labels, `(texts, labels)`;
            zeros where there are none.
    """

    features: Array
    counts: csr_matrix | None
    start: Array
    prior: Array

    def __getitem__(self, places: Sequence[int] | NDArray[np.int64]) -> "Views":
        counts = None if self.counts is None else self.counts[places]
        return Views(self.features[places], counts, self.start[places], self.prior[places])


@torch.no_grad()
def look_at(
    objective: Classification,
    start: Weights,
    texts: Sequence[str],
    *,
    prior: NgramModel | None,
    ngrams: bool = True,
) -> Views:
    """See texts as a start and its n-grams see them.

    Args:
        objective: Its labels are those of the logits.
        prior: N-grams of the start; None where it has none.
        ngrams: Count n-grams too.
    """
    seen = objective.features(start, texts).double()
    logits = torch.zeros(len(texts), len(objective.labels), dtype=torch.float64)
    head = objective.own_head(start)
    if head is not None:
        logits = seen @ head[0].cpu().double().T + head[1].cpu().double()
    places = FEATURES if prior is None else prior.weight.shape[1]
    counts = count_ngrams(texts, features=places) if ngrams else None
    known = None if counts is None else narrow_ngrams(prior, objective.labels)
    said = np.zeros(logits.shape) if known is None else known.scores(counts)
    return Views(seen.numpy(), counts, _level(logits.numpy()), _level(said))


def _level(logits: Array) -> Array:
    """Logits whose mean over the labels is 0: a softmax answers the same."""
    level: Array = logits - logits.mean(1, keepdims=True)
    return level


@dataclass(frozen=True, slots=True, eq=False)
class _Basis:
    """One view of a support set: rows, less their mean, in the unit of their mean square."""

    rows: Array | csr_matrix
    scale: Array | float
    mean: Array
    unit: float

    @classmethod
    def of(cls, rows: Array | csr_matrix) -> "_Basis":
        scale: Array | float = 1.0
        if isinstance(rows, csr_matrix):
            scale = rarity_of(rows)
            rows = rows @ diags_array(scale)
        mean = np.asarray(rows.mean(axis=0)).ravel()
        squares = rows.multiply(rows) if isinstance(rows, csr_matrix) else rows**2
        unit = max(float(squares.sum()) / rows.shape[0] - float(mean @ mean), 1e-9)
        return cls(rows, scale, mean, unit)

    def products(self, rows: Array | csr_matrix) -> Tensor:
        """Of other rows with those of the support set, `(rows, examples)`."""
        scaled = rows @ diags_array(self.scale) if isinstance(rows, csr_matrix) else rows
        whole = scaled @ self.rows.T
        dense = whole.toarray() if isinstance(whole, csr_matrix) else whole
        side, other = (scaled @ self.mean)[:, None], (self.rows @ self.mean)[None]
        return torch.from_numpy((dense - side - other + self.mean @ self.mean) / self.unit)

    def linear(self, weights: Array) -> tuple[Array, Array]:
        """Weight `(labels, columns)` and bias `(labels,)` of the examples' weights."""
        moved = (np.asarray(self.rows.T @ weights) - np.outer(self.mean, weights.sum(0))).T
        moved /= self.unit
        return moved * self.scale, -moved @ self.mean


def trust_at(
    numbers: Mapping[str, Tensor] | Mapping[str, float], *, examples: int, labels: int
) -> dict[str, Tensor]:
    """How far each part counts with so many examples and labels; all above 0."""
    size, width = math.log(1 + examples) - 3, math.log(labels) - 1
    logs: dict[str, Tensor] = {}
    for name, value in numbers.items():
        part, _, grows = name.partition("_")
        factor = {"": 1.0, "growth": size, "labels": width}[grows]
        logs[part] = logs.get(part, torch.zeros((), dtype=torch.float64)) + factor * value
    return {part: log.exp() for part, log in logs.items()}


def answer_views(
    numbers: Mapping[str, Tensor] | Mapping[str, float],
    support: Views,
    targets: NDArray[np.int64],
    query: Views,
) -> Tensor:
    """Logits of queries after learning from a support set, `(queries, labels)`.

    Args:
        numbers: Those of `NEW_LABELS`; tensors get slopes.
        targets: Places of the support set's labels; none answers without labels.
    """
    return next(answer_each([numbers], support, targets, query))


def answer_each(
    choices: Iterable[Mapping[str, Tensor] | Mapping[str, float]],
    support: Views,
    targets: NDArray[np.int64],
    query: Views,
) -> Iterator[Tensor]:
    """The same by each of several choices of the numbers, from one look at the texts."""
    bases = _bases(support) if len(targets) else {}
    within, across = _products(bases, support), _products(bases, query)
    for numbers in choices:
        trust = trust_at(numbers, examples=len(targets), labels=support.start.shape[1])
        logits = _expect(trust, query)
        if len(targets):
            weights = _solve(trust, support, targets, within)
            logits = logits + _weigh(trust, across) @ weights
        yield logits / trust["temperature"]


def _expect(trust: Mapping[str, Tensor], views: Views) -> Tensor:
    start, prior = torch.from_numpy(views.start), torch.from_numpy(views.prior)
    return trust["start"] * start + trust["prior"] * prior


def _bases(support: Views) -> dict[str, _Basis]:
    rows = {"encoder": support.features, "ngrams": support.counts}
    return {name: _Basis.of(seen) for name, seen in rows.items() if seen is not None}


def _products(bases: Mapping[str, _Basis], seen: Views) -> dict[str, Tensor]:
    """By view, of texts with those of the support set that the bases are of."""
    rows = {"encoder": seen.features, "ngrams": seen.counts}
    return {name: basis.products(rows[name]) for name, basis in bases.items()}


def _weigh(trust: Mapping[str, Tensor], products: Mapping[str, Tensor]) -> Tensor:
    """The kernel: the weighted sum of the views' products."""
    parts = [trust[name] * product for name, product in products.items()]
    return torch.stack(parts).sum(0) + trust["bias"]


def _solve(
    trust: Mapping[str, Tensor],
    support: Views,
    targets: NDArray[np.int64],
    products: Mapping[str, Tensor],
) -> Tensor:
    answers = torch.nn.functional.one_hot(torch.from_numpy(targets), support.start.shape[1])
    return kernel_head(_weigh(trust, products), answers.double(), _expect(trust, support))


@dataclass(frozen=True, slots=True, eq=False)
class ViewHead:
    """What a support set gives: two linear models whose scores are added.

    Attributes:
        weight, bias: On the encoder's features, `(labels, features)` and `(labels,)`, with the
            start's own head in them.
        ngrams: None where they were left out.
        ngram_share: Of the kernel, the part of the n-grams.
        prior_scale: How much of the start's n-grams is in `ngrams`.
    """

    weight: Tensor
    bias: Tensor
    ngrams: NgramModel | None
    ngram_share: float
    prior_scale: float


@torch.no_grad()
def make_head(
    numbers: Mapping[str, float],
    support: Views,
    targets: NDArray[np.int64],
    *,
    labels: Sequence[str],
    head: tuple[Tensor, Tensor] | None,
    prior: NgramModel | None,
) -> ViewHead:
    """Learn from a support set, and write what was learned as linear models.

    Args:
        head: Weight and bias of the start's head; None where it has none for these labels.
        prior: The start's n-grams; None where it has none.
    """
    trust = trust_at(numbers, examples=len(targets), labels=len(labels))
    parts = {name: float(value) for name, value in trust.items()}
    bases = _bases(support)
    weights = _solve(trust, support, targets, _products(bases, support)).numpy()
    cold, share = parts["temperature"], parts["ngrams"] / (parts["ngrams"] + parts["encoder"])
    weight, bias = (parts["encoder"] * part for part in bases["encoder"].linear(weights))
    bias = bias + parts["bias"] * weights.sum(0)
    if head is not None:
        own = [part.cpu().double().numpy() for part in head]
        weight, bias = (
            part + parts["start"] * (start - start.mean(0))
            for part, start in zip((weight, bias), own, strict=True)
        )
    learned = torch.from_numpy(weight / cold).float(), torch.from_numpy(bias / cold).float()
    if "ngrams" not in bases:
        return ViewHead(*learned, None, 0.0, 0.0)
    weight, bias = (parts["ngrams"] * part for part in bases["ngrams"].linear(weights))
    known = narrow_ngrams(prior, labels)
    if known is not None:
        weight = weight + parts["prior"] * (known.weight - known.weight.mean(0))
        bias = bias + parts["prior"] * (known.bias - known.bias.mean())
    columns = (weight / cold).astype(np.float32), (bias / cold).astype(np.float32)
    scale = 0.0 if known is None else parts["prior"]
    return ViewHead(*learned, NgramModel(tuple(labels), *columns), share, scale)


def mix_unlabeled(numbers: Mapping[str, float], prior: NgramModel) -> Companion:
    """What the start's n-grams count for beside its answers where there is no label."""
    trust = trust_at(numbers, examples=0, labels=len(prior.labels))
    cold = float(trust["temperature"])
    return Companion(prior, float(trust["start"]) / cold, float(trust["prior"]) / cold)


@torch.no_grad()
def question_labels(
    numbers: Mapping[str, float],
    support: Views,
    targets: NDArray[np.int64],
    parts: Sequence[Sequence[int]],
) -> Array:
    """How likely each label is the true one of each example, `(examples, labels)`.

    A label is wrong with the chance `SLIPS`, any other being as likely in its place. That and the
    answer of a head that has not seen the example give its share.

    Args:
        parts: Places held out in turn; what none holds out keeps its label.

    Source:
        Northcutt et al. 2021, arXiv:1911.00068, section 3.1, for answers of held-out parts.
    """
    labels = support.start.shape[1]
    shares = torch.nn.functional.one_hot(torch.from_numpy(targets), labels).double()
    chances = torch.where(shares > 0, 1 - SLIPS, SLIPS / max(labels - 1, 1))
    for part in parts:
        kept = np.setdiff1d(np.arange(len(targets)), part)
        answers = answer_views(numbers, support[kept], targets[kept], support[part]).softmax(-1)
        likely = answers * chances[part]
        shares[part] = likely / likely.sum(-1, keepdim=True)
    return shares.numpy()


@torch.no_grad()
def judge_views(
    numbers: Mapping[str, float],
    views: Views,
    targets: NDArray[np.int64],
    parts: Sequence[Sequence[int]],
    *,
    head: ViewHead,
) -> tuple[float, CompanionReport | None, tuple[tuple[float, bool], ...]]:
    """Hold parts of a support set out in turn, and see how the head answers them.

    The numbers were learned on other tasks, so what is held out has no say in them.

    Args:
        head: What the whole support set gave.

    Returns:
        The share of right answers; the same of the encoder and the n-grams alone, None where
        these were left out; and how sure each answer was, with whether it was right.
    """
    alone = {"both": numbers}
    if head.ngrams is not None:
        alone["encoder"] = {**numbers, "ngrams": _NOTHING, "prior": _NOTHING}
        alone["ngrams"] = {**numbers, "encoder": _NOTHING, "start": _NOTHING}
    held_out = np.concatenate([np.asarray(part) for part in parts])
    truth = torch.from_numpy(targets[held_out])
    answers = []
    for part in parts:
        kept = np.setdiff1d(np.arange(len(targets)), part)
        answers.append(answer_each(alone.values(), views[kept], targets[kept], views[part]))
    accuracy, loss = dict[str, float](), dict[str, float]()
    joined = {n: torch.cat(each) for n, each in zip(alone, zip(*answers, strict=True), strict=True)}
    for name, logits in joined.items():
        accuracy[name] = float((logits.argmax(-1) == truth).double().mean())
        loss[name] = float(torch.nn.functional.cross_entropy(logits, truth))
    pairs = pair_answers(joined["both"].log_softmax(-1), truth)
    if head.ngrams is None:
        return accuracy["both"], None, pairs
    told = [values[name] for values in (accuracy, loss) for name in ("encoder", "ngrams", "both")]
    report = CompanionReport(True, head.ngram_share, head.prior_scale, *told)
    return accuracy["both"], report, pairs


_NOTHING = -30.0
"""Logarithm of a trust that counts for nothing."""
