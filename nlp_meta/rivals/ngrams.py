"""Character n-grams: TF-IDF with logistic regression, alone or begun at a meta-trained prior."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nlp_meta.data.answers import Predict, Prediction
from nlp_meta.data.episodes import Episode, support_targets
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


def _present_labels(episode: Episode) -> tuple[str, ...]:
    found = support_targets(episode, purpose="fit n-grams")
    return tuple(episode.labels[place] for place in sorted(set(found)))


def _prediction(row: Array, present: Sequence[str], labels: Sequence[str]) -> Prediction:
    found: Mapping[str, float] = dict(zip(present, row.tolist(), strict=True))
    probabilities = {name: found.get(name, 0.0) for name in labels}
    return Prediction(max(labels, key=probabilities.__getitem__), probabilities)
