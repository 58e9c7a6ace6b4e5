"""The built-in corpus: eleven industries, balanced, and no review like another."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.resources import files
from itertools import combinations
from typing import NamedTuple

import pytest

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
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        industry, _, ending = path.name.partition(".")
        assert ending == "jsonl", path.name
        for row, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield Review(industry, row, **json.loads(line))


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
