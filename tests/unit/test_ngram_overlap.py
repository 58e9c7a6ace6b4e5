"""Overlap of n-grams: related sentences are found, and the support pairs say what to count."""

import pytest
import torch

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import SettingsError
from nlp_meta.rivals.characters import compare_ngrams, ngram_overlap

PAIRS = (
    ("rumah besar di Jakarta", "omah gedhe ing Jakarta"),
    ("makan nasi goreng", "mangan sega goreng"),
    ("harga 2500 rupiah", "rega 2500 rupiah"),
    ("musik dan tari", "musik lan tari"),
)


def episode(support=()) -> Episode:
    query = tuple(Example(source, "") for source, _ in PAIRS)
    candidates = tuple(target for _, target in reversed(PAIRS))
    pairs = tuple(Example(*pair) for pair in support)
    return Episode("a/ind-jav", (), pairs, query, 0, "retrieval", "ind-jav", candidates)


def ask(rival, one: Episode):
    """Let a method learn the support set of an episode, then answer its queries."""
    return rival(one.support_set)(one.queries)


def test_cognates_names_and_numbers_find_the_translation():
    """By hand: every pair shares a word, the right candidate of query i stands at 3 - i."""
    rankings = ask(ngram_overlap(orders=(2, 3)), episode())

    assert [one.order[0] for one in rankings] == [3, 2, 1, 0]
    assert [one.mined for one in rankings] == [3, 2, 1, 0]
    assert all(sorted(one.order) == [0, 1, 2, 3] for one in rankings)


def test_cosines_are_those_of_what_is_in_common():
    """By hand: equal texts have cosine 1, texts without a common pair of letters 0."""
    found = compare_ngrams(["aba", "xyx"], ["aba", "cdc"], shortest=2, longest=2)

    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert compare_ngrams(["", " "], [""], shortest=2, longest=2).tolist() == [[0.0], [0.0]]


def test_support_pairs_choose_the_longest_n_gram(monkeypatch):
    """With n-grams of one length from 1 to 4 tried, that is used which finds the most pairs."""
    asked: list[tuple[int, int]] = []
    whole = compare_ngrams

    def note(sources, targets, *, shortest, longest):
        asked.append((longest, len(targets)))
        cosines = whole(sources, targets, shortest=shortest, longest=longest)
        if len(targets) == 3:  # the support set: only bigrams tell its pairs apart
            return torch.eye(3) if longest == 2 else torch.ones(3, 3)
        return cosines

    monkeypatch.setattr("nlp_meta.rivals.characters.compare_ngrams", note)

    rival = ngram_overlap(orders=(1, 2, 4))
    learned = rival(episode([("a b", "b a"), ("c d", "d c"), ("e f", "f e")]).support_set)
    assert asked == [(4, 3), (2, 3), (1, 3)]
    learned(episode().queries)
    ask(rival, episode())

    assert asked == [(4, 3), (2, 3), (1, 3), (2, 4), (4, 4)]


@pytest.mark.parametrize("orders", [(), (0, 2), (3, 2), (2, 2)])
def test_lengths_that_cannot_be_counted_are_refused(orders):
    with pytest.raises(SettingsError, match=r"change `retrieval\.ngrams`"):
        ngram_overlap(orders=orders)
