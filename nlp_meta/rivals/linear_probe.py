"""Linear probe: logistic regression on what the frozen encoder says of a text."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nlp_meta.data.answers import Learned, Prediction, Rival
from nlp_meta.data.episodes import Queries, SupportSet, support_targets
from nlp_meta.encoders.prefix import Embed
from nlp_meta.errors import need_packages
from nlp_meta.objectives.ngrams import check_folds

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# Standardized features of a support set are fitted within some hundred iterations.
_MAX_ITERATIONS = 5000


def linear_probe(embed: Embed, *, regularization: Sequence[float], folds: int, seed: int) -> Rival:
    """Make a method that fits logistic regression on the features of the support set.

    Features are standardized by the support set's mean and deviation. A label of the
    task that the support set lacks has probability 0.

    Args:
        regularization: Values of scikit-learn's `C` to choose from, smaller is stronger;
            that of the smallest held-out loss is taken, of equal ones the strongest.
        folds: Of the stratified cross-validation inside the support set; fewer where a
            label has fewer examples. A label of one example is never held out; where all
            have one, the strongest regularization is taken.
        seed: Of the split into folds.

    Raises:
        MissingPackageError: scikit-learn is not installed.
        SettingsError: No value of `C`, one that is not above 0, or fewer than 2 folds.
            Learning raises EpisodeError for a support set of fewer than 2 labels.
    """
    check_folds(regularization, folds)
    need_packages("compare `linear_probe`", "sklearn", extra="compare")
    strengths = sorted(regularization)

    def learn(support_set: SupportSet) -> Learned:
        targets = np.array(support_targets(support_set, purpose="fit a linear probe"))
        support = _features(embed, support_set.texts)
        strength = choose_regularization(support, targets, strengths, folds=folds, seed=seed)
        model = _fit(support, targets, strength=strength)
        labels = support_set.labels

        def answer(queries: Queries) -> list[Prediction]:
            rows = _probabilities(model, _features(embed, queries.texts), labels=len(labels))
            return [
                Prediction(labels[int(row.argmax())], dict(zip(labels, row.tolist(), strict=True)))
                for row in rows
            ]

        return answer

    return learn


def choose_regularization(
    features: NDArray[np.float64],
    targets: NDArray[np.int64],
    regularization: Sequence[float],
    *,
    folds: int,
    seed: int,
) -> float:
    """Find the value of `C` with the smallest held-out log loss, the first of equal ones."""
    splits = list(_stratified_splits(targets, folds=folds, seed=seed))
    if not splits or len(regularization) == 1:
        return regularization[0]
    labels = int(targets.max()) + 1
    losses = []
    for strength in regularization:
        total = 0.0
        for kept, held in splits:
            model = _fit(features[kept], targets[kept], strength=strength)
            rows = _probabilities(model, features[held], labels=labels)
            given = rows[np.arange(len(held)), targets[held]]
            total -= float(np.log(np.maximum(given, np.finfo(np.float64).tiny)).sum())
        losses.append(total)
    return regularization[int(np.argmin(losses))]


def _features(embed: Embed, texts: Sequence[str]) -> NDArray[np.float64]:
    return np.asarray(embed(texts), dtype=np.float64)


def _fit(
    features: NDArray[np.float64], targets: NDArray[np.int64], *, strength: float
) -> "Pipeline":
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
    )
    return model.fit(features, targets)


def _probabilities(
    model: "Pipeline", query: NDArray[np.float64], *, labels: int
) -> NDArray[np.float64]:
    """Probabilities `(queries, labels)`; 0 for a label without an example."""
    probabilities = np.zeros((len(query), labels))
    if len(query):
        probabilities[:, model.classes_] = model.predict_proba(query)
    return probabilities


def _stratified_splits(
    targets: NDArray[np.int64], *, folds: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Kept and held-out rows of each fold."""
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(targets)
    alone = np.flatnonzero(counts[targets] == 1)
    shared = np.flatnonzero(counts[targets] > 1)
    if not len(shared):
        return
    splitter = StratifiedKFold(
        min(folds, int(counts[counts > 1].min())), shuffle=True, random_state=seed
    )
    for kept, held in splitter.split(shared, targets[shared]):
        yield np.concatenate([shared[kept], alone]), shared[held]
