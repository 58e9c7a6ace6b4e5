"""Character n-grams of a text: what they are, and linear models of them.

A text is the L2-normalized `1 + log(count)` of its hashed n-grams. Rarity (IDF) does not
enter the features: it scales how far a weight may move, and so is part of the weights once
they are fitted. Weights that were fitted on different texts can therefore be added.

Fitting takes place in the span of the examples, where the best weights lie whatever the
number of features, so a hundred texts are cross-validated in a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, diags_array, vstack

from nlp_meta.data.episodes import count_texts, split_folds
from nlp_meta.data.tasks import Example, Task
from nlp_meta.encoders.plain_ngrams import hash_ngrams
from nlp_meta.errors import SettingsError

Array = NDArray[np.float64]

ORDERS = (2, 5)
"""Characters of the shortest and of the longest n-gram, blanks among them."""
FEATURES = 2**16
"""Places that n-grams are hashed to; four times as many score no better."""
CHARACTERS = 1000
"""What is read of a text; encoders read no more."""
PRIOR_SCALES = (0.0, 0.5, 1.0)
"""Shares of a prior to choose from; 0 does without it."""
ITERATIONS = 200
# Directions of the span that hold less of its largest variance than this are rounding.
_FLAT = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class NgramModel:
    """Linear scores of hashed character n-grams.

    Attributes:
        weight: `(labels, features)`, float32.
        bias: `(labels,)`, float32.
    """

    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def log_probabilities(self, texts: Sequence[str]) -> Array:
        """Score texts: `(texts, labels)`, in nats."""
        return log_softmax(self.scores(count_ngrams(texts, features=self.weight.shape[1])))

    def scores(self, rows: csr_matrix) -> Array:
        """Logits of counted texts, `(texts, labels)`."""
        logits: Array = np.asarray(rows @ self.weight.T.astype(np.float64) + self.bias)
        return logits


@dataclass(frozen=True, slots=True, eq=False)
class FittedNgrams:
    """A model of one support set, and what its held-out folds said.

    Attributes:
        held_out: Log-probabilities of each support example, `(examples, labels)`, by a
            model that had not seen it; not numbers where no fold holds it out.
        strength: scikit-learn's `C`, chosen.
        prior_scale: Share of the prior, chosen.
    """

    model: NgramModel
    held_out: Array
    strength: float
    prior_scale: float


def fit_ngrams(
    support: Sequence[Example],
    labels: Sequence[str],
    *,
    parts: Sequence[Sequence[int]],
    regularization: Sequence[float],
    prior: NgramModel | None,
) -> FittedNgrams:
    """Fit a support set, as near to the prior and as far as its held-out folds advise.

    The loss is the summed cross-entropy of `x (s P + D)` plus `|D / r|^2 / 2C`, where P is
    the prior, s its scale and r the rarity of each n-gram.

    Args:
        labels: All those of the support set, and no other.
        parts: Places to hold out, fold by fold; none takes the strongest regularization
            and the whole of the prior.
        prior: Matched by the names of labels; one that it does not know starts at 0.
    """
    features = FEATURES if prior is None else prior.weight.shape[1]
    rows = count_ngrams([example.source for example in support], features=features)
    targets = np.array([labels.index(example.target) for example in support])
    start = narrow_ngrams(prior, labels)
    offsets = np.zeros((len(support), len(labels))) if start is None else start.scores(rows)
    scales = PRIOR_SCALES[:1] if start is None else PRIOR_SCALES
    choices = [(scale, c) for scale in reversed(scales) for c in sorted(regularization)]
    losses = np.zeros(len(choices))
    held_out = np.full((len(choices), len(support), len(labels)), np.nan)
    for part in parts:
        kept = np.setdiff1d(np.arange(len(support)), part)
        span = _Span.of(rows[kept])
        inside, outside = span.coordinates(rows[kept]), span.coordinates(rows[part])
        coefficients = None
        for place, (scale, strength) in enumerate(choices):
            coefficients = fit_softmax(
                inside, targets[kept], scale * offsets[kept], strength=strength, begin=coefficients
            )
            logs = log_softmax(
                outside @ coefficients[:-1] + coefficients[-1] + scale * offsets[part]
            )
            held_out[place, part] = logs
            losses[place] -= logs[np.arange(len(part)), targets[part]].sum()
    best = int(losses.argmin())
    scale, strength = choices[best]
    span = _Span.of(rows)
    coefficients = fit_softmax(span.coordinates(rows), targets, scale * offsets, strength=strength)
    weight, bias = span.weights(coefficients[:-1]), coefficients[-1]
    if start is not None:
        weight, bias = weight + scale * start.weight, bias + scale * start.bias
    model = NgramModel(tuple(labels), weight.astype(np.float32), bias.astype(np.float32))
    return FittedNgrams(model, held_out[best], strength, scale)


def count_ngrams(texts: Sequence[str], *, features: int) -> csr_matrix:
    """Count hashed n-grams: `(texts, features)`, `1 + log(count)`, each row of length 1."""
    if not texts:
        return csr_matrix((0, features))
    owners, hashes = hash_ngrams(texts, orders=ORDERS, characters=CHARACTERS)
    cells, counts = np.unique(owners * features + hashes % features, return_counts=True)
    values, rows = 1 + np.log(counts), cells // features
    lengths = np.sqrt(np.bincount(rows, values**2, minlength=len(texts)))
    ends = np.cumsum(np.bincount(rows, minlength=len(texts)))
    placed = (values / lengths[rows], cells % features, np.concatenate([[0], ends]))
    return csr_matrix(placed, shape=(len(texts), features))


@dataclass(frozen=True, slots=True)
class _Span:
    """The directions in which examples differ: their rows, weighted by rarity, rotated."""

    rows: csr_matrix
    rarity: Array
    basis: Array

    @classmethod
    def of(cls, rows: csr_matrix) -> "_Span":
        rarity = rarity_of(rows)
        scaled = rows @ diags_array(rarity)
        variances, directions = np.linalg.eigh((scaled @ scaled.T).toarray())
        used = variances > _FLAT * variances[-1]
        return cls(rows, rarity, directions[:, used] / np.sqrt(variances[used]))

    def coordinates(self, rows: csr_matrix) -> Array:
        """Place rows in the span, `(rows, directions)`."""
        placed: Array = (rows @ diags_array(self.rarity**2) @ self.rows.T).toarray() @ self.basis
        return placed

    def weights(self, direction_weights: Array) -> Array:
        """Turn weights of directions, `(directions, labels)`, to `(labels, features)`."""
        spread: Array = self.rows.T @ (self.basis @ direction_weights)
        return (spread * self.rarity[:, None] ** 2).T


def fit_softmax(
    rows: Any,
    targets: NDArray[np.int64],
    offsets: Array,
    *,
    strength: float,
    shares: Array | None = None,
    begin: Array | None = None,
    iterations: int = ITERATIONS,
) -> Array:
    """Multinomial logistic regression on given logits: `(columns + 1, labels)`, bias last."""
    places, labels = np.arange(len(targets)), offsets.shape[1]
    weights = np.ones(len(targets)) if shares is None else shares
    shape = (rows.shape[1] + 1, labels)

    def loss(flat: Array) -> tuple[float, Array]:
        coefficients = flat.reshape(shape)
        logs = log_softmax(rows @ coefficients[:-1] + coefficients[-1] + offsets)
        value = (coefficients[:-1] ** 2).sum() / (2 * strength) - weights @ logs[places, targets]
        slopes = np.exp(logs)
        slopes[places, targets] -= 1
        slopes *= weights[:, None]
        gradient = np.vstack([rows.T @ slopes + coefficients[:-1] / strength, slopes.sum(0)])
        return float(value), gradient.ravel()

    optimum = minimize(
        loss,
        np.zeros(shape).ravel() if begin is None else begin.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations},
    )
    result: Array = optimum.x.reshape(shape)
    return result


def rarity_of(rows: csr_matrix) -> Array:
    """Inverse document frequency, `1 + log((1 + texts) / (1 + texts that have it))`."""
    having = np.bincount(rows.indices, minlength=rows.shape[1])
    rarity: Array = 1 + np.log((1 + rows.shape[0]) / (1 + having))
    return rarity


def narrow_ngrams(prior: NgramModel | None, labels: Sequence[str]) -> NgramModel | None:
    """Put a prior's labels in another order; None where it knows fewer than two of them."""
    if prior is None or sum(name in prior.labels for name in labels) < 2:
        return None
    places = {name: place for place, name in enumerate(prior.labels)}
    weight = np.zeros((len(labels), prior.weight.shape[1]), dtype=np.float32)
    bias = np.zeros(len(labels), dtype=np.float32)
    for row, name in enumerate(labels):
        if name in places:
            weight[row], bias[row] = prior.weight[places[name]], prior.bias[places[name]]
    return NgramModel(tuple(labels), weight, bias)


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def check_folds(regularization: Sequence[float], folds: int) -> None:
    """Refuse values of `C`, or a number of folds, that nothing can be chosen by."""
    if not regularization or min(regularization) <= 0 or folds < 2:
        raise SettingsError(
            f"cannot cross-validate regularization {list(regularization)} in {folds} folds: at "
            "least one value, all above 0, and at least 2 folds are needed; change "
            "`regularization` or `folds`"
        )


def held_out_parts(examples: Sequence[Example], *, folds: int, seed: int) -> list[list[int]]:
    """Places of examples to hold out, fold by fold; a label's only text stays in."""
    counts = count_texts(examples)
    several = [place for place, one in enumerate(examples) if counts[one.target] > 1]
    if not several:
        return []
    fewest = min(count for count in counts.values() if count > 1)
    parts = split_folds([examples[p] for p in several], folds=min(folds, fewest), seed=seed)
    return [[several[place] for place in part] for part in parts]


def fit_prior(
    tasks: Sequence[Task], labels: Sequence[str], *, seed: int, features: int = FEATURES
) -> NgramModel:
    """Fit one model to the training examples of many tasks, each weighing the same.

    A task that lacks some of the labels says nothing of them.

    Args:
        labels: All those of the tasks.
        seed: Of the examples that are taken of tasks that have more than their share.
    """
    parts = [
        _take(task.train, _PRIOR_EXAMPLES // len(tasks), seed=seed, task=number)
        for number, task in enumerate(tasks)
    ]
    counted = [count_ngrams([e.source for e in part], features=features) for part in parts]
    rows = vstack(counted, format="csr")
    rarity = rarity_of(rows)
    targets = np.array([labels.index(e.target) for part in parts for e in part])
    shares = np.concatenate([np.full(len(part), 1 / len(part)) for part in parts])
    absent = [[_ABSENT * (name not in task.labels) for name in labels] for task in tasks]
    offsets = np.repeat(np.array(absent), [len(part) for part in parts], axis=0)
    coefficients = fit_softmax(
        rows @ diags_array(rarity),
        targets,
        offsets,
        strength=_PRIOR_STRENGTH,
        shares=shares * len(targets) / shares.sum(),
        iterations=_PRIOR_ITERATIONS,
    )
    weight = (coefficients[:-1] * rarity[:, None]).T
    return NgramModel(tuple(labels), weight.astype(np.float32), coefficients[-1].astype(np.float32))


def _take(examples: Sequence[Example], share: int, *, seed: int, task: int) -> Sequence[Example]:
    if len(examples) <= share:
        return examples
    order = np.random.default_rng([seed, task]).permutation(len(examples))
    return [examples[place] for place in order[:share]]


_PRIOR_ITERATIONS, _PRIOR_STRENGTH, _PRIOR_EXAMPLES = 60, 0.3, 20_000
_ABSENT = -1e4
"""Logit of a label that a task lacks."""
