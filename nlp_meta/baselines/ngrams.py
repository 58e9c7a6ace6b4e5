"""Character n-grams: TF-IDF with logistic regression, alone or begun at a meta-trained prior."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.sparse import diags_array, vstack

from nlp_meta.data.answers import Predict, Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.data.targets import support_targets
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import SettingsError
from nlp_meta.meta.selection import split_folds
from nlp_meta.objectives.ngrams import (
    FEATURES,
    Array,
    NgramModel,
    count_ngrams,
    fit_ngrams,
    fit_softmax,
    rarity_of,
)

_PRIOR_ITERATIONS = 60
_PRIOR_STRENGTH = 0.3
_PRIOR_EXAMPLES = 20_000
_ABSENT = -1e4
"""Logit of a label that a task lacks."""


def ngrams(
    *,
    regularization: Sequence[float],
    folds: int,
    seed: int,
    on_adapted: Callable[[], None] | None = None,
    prior: NgramModel | None = None,
) -> Predict:
    """Make a predictor that fits logistic regression on the n-grams of the support set.

    A label of the task that the support set lacks has probability 0.

    Args:
        regularization: Values of scikit-learn's `C` to choose from, smaller is stronger;
            that of the smallest held-out loss is taken, of equal ones the strongest.
        folds: Of the cross-validation inside the support set; fewer where a label has
            fewer examples. A label of one example is never held out; where all have one,
            the strongest regularization is taken, and the whole of the prior.
        on_adapted: Called once an episode, before its query texts are answered.
        prior: Weights to start from, as far as the folds advise.

    Raises:
        SettingsError: No value of `C`, one that is not above 0, or fewer than 2 folds.
            The predictor raises EpisodeError for a support set of fewer than 2 labels.
    """
    if not regularization or min(regularization) <= 0 or folds < 2:
        raise SettingsError(
            f"cannot cross-validate regularization {list(regularization)} in {folds} folds: at "
            "least one value, all above 0, and at least 2 folds are needed; change "
            "`regularization` or `folds`"
        )

    def predict(episode: Episode) -> list[Prediction]:
        present = _present_labels(episode)
        fitted = fit_ngrams(
            episode.support,
            present,
            parts=held_out_parts(episode.support, folds=folds, seed=seed),
            regularization=regularization,
            prior=prior,
        )
        if on_adapted:
            on_adapted()
        rows = np.exp(fitted.model.log_probabilities([one.source for one in episode.query]))
        return [_prediction(row, present, episode.labels) for row in rows]

    return predict


def held_out_parts(examples: Sequence[Example], *, folds: int, seed: int) -> list[list[int]]:
    """Places of examples to hold out, fold by fold; a label's only example stays in."""
    counts = Counter(example.target for example in examples)
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
    own = fit_softmax(
        rows @ diags_array(rarity),
        targets,
        offsets,
        strength=_PRIOR_STRENGTH,
        shares=shares * len(targets) / shares.sum(),
        iterations=_PRIOR_ITERATIONS,
    )
    weight = (own[:-1] * rarity[:, None]).T
    return NgramModel(tuple(labels), weight.astype(np.float32), own[-1].astype(np.float32))


def _take(examples: Sequence[Example], share: int, *, seed: int, task: int) -> Sequence[Example]:
    if len(examples) <= share:
        return examples
    order = np.random.default_rng([seed, task]).permutation(len(examples))
    return [examples[place] for place in order[:share]]


def _present_labels(episode: Episode) -> tuple[str, ...]:
    found = support_targets(episode, purpose="fit n-grams")
    return tuple(episode.labels[place] for place in sorted(set(found)))


def _prediction(row: Array, present: Sequence[str], labels: Sequence[str]) -> Prediction:
    found: Mapping[str, float] = dict(zip(present, row.tolist(), strict=True))
    probabilities = {name: found.get(name, 0.0) for name in labels}
    return Prediction(max(labels, key=probabilities.__getitem__), probabilities)
