"""Demonstrations: which are chosen, in which order, and how many fit; tokens are words here."""

from collections import Counter
from dataclasses import dataclass

import pytest

from nlp_meta.data.tasks import Example
from nlp_meta.errors import EpisodeError
from nlp_meta.prompting.demonstrations import (
    arrange,
    cut_text,
    fit_prompt,
    rank_nearest,
    shuffle_balanced,
    without_texts,
)
from nlp_meta.prompting.prompts import TEMPLATES, build_prompt

LABELS = ("negative", "positive")
SUPPORT = tuple(
    Example(f"text {place} says", label)
    for place, label in enumerate(["negative"] * 7 + ["positive"] * 3)
)


@dataclass(frozen=True)
class Words:
    """Counts words; scores nothing."""

    context_tokens: int
    name: str = "words"

    def count_tokens(self, text):
        return len(text.split())

    def score(self, prompt, queries):
        raise NotImplementedError


def fit(context: int, *, demonstrations=None, query_tokens=5, candidates=SUPPORT):
    return fit_prompt(
        candidates,
        lambda chosen: build_prompt(TEMPLATES["review"], chosen, LABELS, chat=None),
        Words(context),
        task="made/task",
        demonstrations=demonstrations,
        query_tokens=query_tokens,
        fewest=1,
        answer_tokens=0,
    )


def test_any_beginning_is_as_balanced_as_the_support_set_allows():
    shuffled = shuffle_balanced(SUPPORT, seed=3)

    assert sorted(shuffled, key=SUPPORT.index) == list(SUPPORT)
    for number in range(len(SUPPORT) + 1):
        counts = Counter(example.target for example in shuffled[:number])
        fewer, more = sorted(counts[label] for label in LABELS)
        assert more - fewer <= 1 or counts["positive"] == 3


def test_the_choice_depends_on_the_seed_and_on_nothing_else():
    choices = [tuple(shuffle_balanced(SUPPORT, seed=seed)) for seed in range(8)]

    assert choices == [tuple(shuffle_balanced(SUPPORT, seed=seed)) for seed in range(8)]
    assert len(set(choices)) == 8
    assert len({choice[0].target for choice in choices}) == 2


def test_orders_hold_the_same_examples():
    orders = [tuple(arrange(SUPPORT, seed=0, order=order)) for order in range(5)]

    assert len(set(orders)) == 5
    assert {frozenset(order) for order in orders} == {frozenset(SUPPORT)}
    assert orders[2] == tuple(arrange(SUPPORT, seed=0, order=2))


def test_a_query_text_is_not_shown_whatever_its_case_and_signs():
    support = [Example("Slow and cold!", "negative"), Example("warm", "positive")]

    assert without_texts(support, ["slow, and COLD", "quiet"]) == support[1:]


def test_the_nearest_text_comes_first_and_of_equal_ones_the_first():
    support = ["the food was cold", "a lovely agent", "the battery dies fast", "a lovely agent"]

    battery, agent = rank_nearest(support, ["the battery dies", "lovely agents"])

    assert battery[0] == 2
    assert agent[:2] == [1, 3]
    assert rank_nearest(support, ["zzz"]) == [[0, 1, 2, 3]]


def test_ranking_nothing_gives_nothing():
    assert rank_nearest([], ["warm"]) == [[]]
    assert rank_nearest(["warm"], []) == []


def test_texts_are_cut_to_so_many_tokens_at_a_blank():
    words = Words(0).count_tokens

    assert cut_text("one two three", 3, words) == "one two three"
    assert cut_text("one two three", 2, words) == "one two"
    assert cut_text("one two three", 2, len) == "on"
    assert cut_text("one two three", 6, len) == "one"
    assert cut_text("one two three", 7, len) == "one two"
    assert cut_text("onetwothree", 4, len) == "onet"


def test_as_many_demonstrations_as_fit_are_shown_the_first_ones_first():
    """By hand: a demonstration has 6 words, the query 2 + 5, the answer 1, 4 are spare."""
    found = {context: fit(context) for context in (18, 23, 24, 29, 30, 72, 100)}

    assert [one.demonstrations for one in found.values()] == [1, 1, 2, 2, 3, 10, 10]
    for one in found.values():
        shown = build_prompt(TEMPLATES["review"], SUPPORT[: one.demonstrations], LABELS, chat=None)
        assert one.prompt == shown and one.query_tokens == 5


def test_no_more_are_shown_than_are_wanted():
    assert fit(100, demonstrations=4).demonstrations == 4
    assert fit(100, demonstrations=0).prompt.prefix == ""


def test_without_demonstrations_a_query_may_find_less_room():
    """By hand: of 10 words 2 + 1 + 4 are taken."""
    assert fit(10, demonstrations=0).query_tokens == 3
    assert fit(10, candidates=()).query_tokens == 3


def test_a_context_without_room_for_one_demonstration_and_the_query_is_refused():
    """By hand: 6 + 2 + 1 + 4 + 5 = 18 words are needed."""
    with pytest.raises(
        EpisodeError,
        match=r"'words' with task 'made/task': one demonstration and a query of 5 tokens need a "
        r"context of 18 tokens and it has 17; set `prompting.demonstrations` to 0, raise",
    ):
        fit(17)


def test_a_context_without_room_for_a_query_is_refused():
    with pytest.raises(
        EpisodeError,
        match="task 'made/task': a query of 5 tokens need a context of 12 tokens and it has 7",
    ):
        fit(7, demonstrations=0)
