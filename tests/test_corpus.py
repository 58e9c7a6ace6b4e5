"""The built-in corpora: eleven industries, balanced, and no review or phrase like another."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.resources import files
from itertools import combinations
from typing import NamedTuple

import pytest

from nlp_meta.data.pairs import PairStream, evaluation_pairs
from nlp_meta.data.tasks import load_tasks

INDUSTRIES = (
    "automotive education entertainment fashion finance food health home real_estate "
    "technology travel"
).split()
SHARED_RUN = 6  # words in a row that two reviews would have to share
NEAR = 0.5  # of two reviews' five-letter runs

# Each word praises in the first industries and complains in the second.
TURNING = {
    "unpredictable": (("entertainment",), ("automotive",)),
    "small": (("technology",), ("real_estate",)),
    "thin": (("technology",), ("real_estate",)),
    "cold": (("food",), ("real_estate", "finance")),
    "sticky": (("food",), ("technology", "travel")),
    "dark": (("entertainment", "food"), ("travel",)),
    "loud": (("entertainment",), ("home",)),
}

PLACEHOLDER = re.compile(r"%[sd]|\{\w+\}")
# Some of the commonest words of each language.
COMMON = {
    "eng": "the is and to of it you in".split(),
    "eng-deu": "der die das und nicht ist den ein".split(),
    "eng-fra": "le la les des et est une du".split(),
    "eng-spa": "el la los y es un una del".split(),
}


class Review(NamedTuple):
    industry: str
    row: int
    text: str
    label: str

    @property
    def words(self) -> list[str]:
        return re.findall(r"\w+", self.text.casefold().replace("'", ""))


def read_corpus() -> Iterator[Review]:
    folder = files("nlp_meta.data") / "corpus"
    reviews = (path for path in folder.iterdir() if path.is_file())
    for path in sorted(reviews, key=lambda path: path.name):
        industry, _, ending = path.name.partition(".")
        assert ending == "jsonl", path.name
        for row, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield Review(industry, row, **json.loads(line))


class Phrase(NamedTuple):
    task: str
    source: str
    target: str
    industry: str


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold().replace("'", ""))


@pytest.fixture(scope="module")
def phrases() -> list[Phrase]:
    folder = files("nlp_meta.data") / "corpus" / "translation"
    return [
        Phrase(path.name.removesuffix(".jsonl"), **json.loads(line))
        for path in folder.iterdir()
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


@pytest.fixture(scope="module")
def corpus() -> list[Review]:
    return list(read_corpus())


def test_eleven_industries_have_100_to_150_reviews_half_of_them_negative(corpus):
    assert sorted({review.industry for review in corpus}) == INDUSTRIES
    for industry in INDUSTRIES:
        labels = Counter(review.label for review in corpus if review.industry == industry)
        assert set(labels) == {"negative", "positive"}, industry
        assert 100 <= labels.total() <= 150, industry
        assert labels["negative"] == labels["positive"], industry


def test_reviews_are_clean_text_of_a_plausible_length(corpus):
    odd = [
        review
        for review in corpus
        if review.text != " ".join(review.text.split()) or not 3 <= len(review.words) <= 80
    ]

    assert odd == []


def test_no_two_reviews_share_a_run_of_six_words(corpus):
    holders = defaultdict(set)
    for review in corpus:
        words = review.words
        for start in range(len(words) - SHARED_RUN + 1):
            run = " ".join(words[start : start + SHARED_RUN])
            holders[run].add((review.industry, review.row))
        if len(words) < SHARED_RUN:  # shorter reviews may not be the same
            holders[" ".join(words)].add((review.industry, review.row))

    assert {run: rows for run, rows in holders.items() if len(rows) > 1} == {}


@pytest.mark.slow
def test_no_two_reviews_share_half_of_their_five_letter_runs(corpus):
    """Compares every pair, by counting: intersection over union of two sets of runs."""
    runs = []
    for review in corpus:
        text = " ".join(review.words)
        runs.append({text[start : start + 5] for start in range(max(1, len(text) - 4))})

    near = []
    for one, other in combinations(range(len(runs)), 2):
        shared = len(runs[one] & runs[other])
        if shared >= NEAR * (len(runs[one]) + len(runs[other]) - shared):
            near.append((corpus[one], corpus[other]))

    assert near == []


def test_reviews_open_in_many_ways(corpus):
    for industry in INDUSTRIES:
        openings = Counter(
            " ".join(review.words[:3]) for review in corpus if review.industry == industry
        )
        assert max(openings.values()) <= 3, (industry, openings.most_common(1))


@pytest.mark.parametrize("word", TURNING)
def test_word_turns_its_polarity_between_industries(corpus, word):
    """The pairs of industries were read off the reviews by a person."""
    uses = {(review.industry, review.label) for review in corpus if word in review.words}
    praising, complaining = TURNING[word]

    assert {(industry, "positive") for industry in praising} <= uses
    assert {(industry, "negative") for industry in complaining} <= uses


def test_three_language_pairs_have_four_phrases_of_each_industry(phrases):
    counts = Counter((phrase.task, phrase.industry) for phrase in phrases)
    pairs = ("eng-deu", "eng-fra", "eng-spa")

    assert counts == {(pair, industry): 4 for pair in pairs for industry in INDUSTRIES}


def test_phrases_are_clean_and_translations_of_a_plausible_length(phrases):
    odd = [
        phrase
        for phrase in phrases
        for text in (phrase.source, phrase.target)
        if text != " ".join(text.split()) or not 4 <= len(words_of(text)) <= 20
    ]

    assert odd == []
    assert all(0.5 < len(one.target) / len(one.source) < 2 for one in phrases)


def test_translations_keep_the_placeholders_and_some_of_each_pair_have_one(phrases):
    held = Counter()
    for phrase in phrases:
        found = sorted(PLACEHOLDER.findall(phrase.source))
        assert sorted(PLACEHOLDER.findall(phrase.target)) == found
        held[phrase.task] += bool(found)

    assert all(3 <= held[pair] <= 5 for pair in ("eng-deu", "eng-fra", "eng-spa"))


def test_each_side_is_in_its_language(phrases):
    """By the commonest words: the right language has more of them than any other."""
    for pair in ("eng-deu", "eng-fra", "eng-spa"):
        for side, right in (("source", "eng"), ("target", pair)):
            words = Counter(
                word for one in phrases if one.task == pair for word in words_of(getattr(one, side))
            )
            scores = {name: sum(words[word] for word in common) for name, common in COMMON.items()}
            assert max(scores, key=scores.__getitem__) == right, (pair, side, scores)


def test_no_phrase_is_in_two_pairs_or_shares_a_run_of_six_words_with_another_or_a_review(
    phrases, corpus
):
    holders = defaultdict(set)
    texts = [(f"{one.task} {one.source}", words_of(one.source)) for one in phrases]
    texts += [(f"{one.task} {one.target}", words_of(one.target)) for one in phrases]
    texts += [(f"{review.industry} {review.row}", review.words) for review in corpus]
    for name, words in texts:
        for start in range(max(1, len(words) - SHARED_RUN + 1)):
            holders[" ".join(words[start : start + SHARED_RUN])].add(name)

    assert {run: names for run, names in holders.items() if len(names) > 1} == {}


def test_episodes_of_eight_and_sixteen_pairs_can_be_drawn_and_one_pair_is_held_out():
    """By hand: 8 + 16 = 24 of 44 pairs; 16 of 44 to learn from leave 28 to be judged on."""
    card = ["nlp_meta_phrases"]
    train = load_tasks(card, meta_split="meta-train")
    (test,) = load_tasks(card, meta_split="meta-test")

    episode = PairStream(train, shot=8, query_shot=16, sampling="size", seed=0).at(0)
    judged = evaluation_pairs(test, pairs=16, seed=0, draw=0, candidates=1000)

    assert (train[0].pair, test.pair) == (("eng", "deu"), ("eng", "spa"))
    assert (len(episode.support), len(episode.query)) == (8, 16)
    assert len(judged.query) == len(judged.candidates) == 28
