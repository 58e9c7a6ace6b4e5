"""Character n-grams: TF-IDF with logistic regression, alone or begun at a meta-trained prior."""

from collections.abc import Mapping, Sequence

import numpy as np

from nlp_meta.data.answers import Learned, Prediction, Rival
from nlp_meta.data.episodes import Queries, SupportSet, support_targets
from nlp_meta.errors import SettingsError
from nlp_meta.objectives.ngrams import (
    Array,
    NgramModel,
    fit_ngrams,
    held_out_parts,
)


def ngrams(
    *,
    regularization: Sequence[float],
    folds: int,
    seed: int,
    prior: NgramModel | None = None,
) -> Rival:
    """Make a method that fits logistic regression on the n-grams of the support set.

    A label of the task that the support set lacks has probability 0.

    Args:
        regularization: Values of scikit-learn's `C` to choose from, smaller is stronger;
            that of the smallest held-out loss is taken, of equal ones the strongest.
        folds: Of the cross-validation inside the support set; fewer where a label has
            fewer examples. A label of one example is never held out; where all have one,
            the strongest regularization is taken, and the whole of the prior.
        prior: Weights to start from, as far as the folds advise.

    Raises:
        SettingsError: No value of `C`, one that is not above 0, or fewer than 2 folds.
            Learning raises EpisodeError for a support set of fewer than 2 labels.
    """
    if not regularization or min(regularization) <= 0 or folds < 2:
        raise SettingsError(
            f"cannot cross-validate regularization {list(regularization)} in {folds} folds: at "
            "least one value, all above 0, and at least 2 folds are needed; change "
            "`regularization` or `folds`"
        )

    def learn(support_set: SupportSet) -> Learned:
        present = _present_labels(support_set)
        fitted = fit_ngrams(
            support_set.examples,
            present,
            parts=held_out_parts(support_set.examples, folds=folds, seed=seed),
            regularization=regularization,
            prior=prior,
        )

        def answer(queries: Queries) -> list[Prediction]:
            rows = np.exp(fitted.model.log_probabilities(queries.texts))
            return [_prediction(row, present, support_set.labels) for row in rows]

        return answer

    return learn


def _present_labels(support_set: SupportSet) -> tuple[str, ...]:
    places = support_targets(support_set, purpose="fit n-grams")
    return tuple(support_set.labels[place] for place in sorted(set(places)))


def _prediction(row: Array, present: Sequence[str], labels: Sequence[str]) -> Prediction:
    given: Mapping[str, float] = dict(zip(present, row.tolist(), strict=True))
    probabilities = {name: given.get(name, 0.0) for name in labels}
    return Prediction(max(labels, key=probabilities.__getitem__), probabilities)
