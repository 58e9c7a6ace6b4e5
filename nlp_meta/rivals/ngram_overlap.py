"""Overlap of character n-grams: a translation in a related language looks like its source.

Nothing is learned from the support pairs but which n-grams to count, and by that only where
there are some: names, numbers and cognates do the work.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nlp_meta.data.answers import Learned, Ranking, Rival
from nlp_meta.data.episodes import Queries, SupportSet
from nlp_meta.encoders.similarity import NEIGHBORS, Overlap
from nlp_meta.errors import SettingsError
from nlp_meta.objectives.retrieval import rank_candidates


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
