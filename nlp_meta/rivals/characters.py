"""Rivals that read characters alone: n-grams for labels and for pairs, and the source copied.

Related languages share names, numbers and much of their words. So a translation looks like its
source, and what a model writes is worth something only beyond what the source alone scores.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from nlp_meta.data.answers import Learned, Prediction, Ranking, Rival, Translation
from nlp_meta.data.episodes import Queries, SupportSet, support_targets
from nlp_meta.encoders.similarity import NEIGHBORS, Overlap
from nlp_meta.errors import SettingsError
from nlp_meta.objectives.ngrams import Array, NgramModel, check_folds, fit_ngrams, held_out_parts
from nlp_meta.objectives.retrieval import rank_candidates


def ngrams(
    *, regularization: Sequence[float], folds: int, seed: int, prior: NgramModel | None = None
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
    check_folds(regularization, folds)

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


def ngram_overlap(*, orders: Sequence[int]) -> Rival:
    """Make a method that ranks candidates by the cosine of TF-IDF of character n-grams.

    n-grams are taken inside words, from the shortest order on; the longest one is chosen by
    how often a source's own target is the nearest among the support pairs, of equal ones the
    longest; it is the longest of all without support pairs. Frequencies are those of the
    texts at hand, which need no translation.

    Args:
        orders: Lengths of n-grams to choose from, ascending; the first is the shortest one.

    Raises:
        SettingsError: No order, one below 1, or orders that do not ascend.
    """
    if not orders or orders[0] < 1 or sorted(set(orders)) != list(orders):
        raise SettingsError(
            f"cannot count n-grams of the lengths {list(orders)}: at least one, from 1 on and "
            "ascending, is needed; change `retrieval.ngrams`"
        )

    def learn(support_set: SupportSet) -> Learned:
        longest = _choose_longest(support_set, orders)

        def answer(queries: Queries) -> list[Ranking]:
            cosines = compare_ngrams(
                queries.texts, queries.candidates, shortest=orders[0], longest=longest
            )
            return rank_candidates(cosines, neighbors=NEIGHBORS)

        return answer

    return learn


def compare_ngrams(
    sources: Sequence[str], targets: Sequence[str], *, shortest: int, longest: int
) -> Tensor:
    """Cosines of TF-IDF vectors, `(sources, targets)`; 0 where nothing is in common."""
    return Overlap.of(sources, targets, orders=(shortest, longest)).cosines()


def _choose_longest(support_set: SupportSet, orders: Sequence[int]) -> int:
    sources = support_set.texts
    targets = [example.target for example in support_set.examples]
    best, most_right = orders[-1], -1
    if not sources:
        return best
    for longest in reversed(orders):
        cosines = compare_ngrams(sources, targets, shortest=orders[0], longest=longest)
        right = int((cosines.argmax(1) == torch.arange(len(sources))).sum())
        if right > most_right:
            best, most_right = longest, right
    return best


def copied_source(_support_set: SupportSet) -> Learned:
    """Answer each source with itself; the pairs are never read. A `Rival`."""

    def answer(queries: Queries) -> list[Translation]:
        return [Translation(text) for text in queries.texts]

    return answer
