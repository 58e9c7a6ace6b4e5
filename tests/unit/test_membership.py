"""How well whoever holds a companion's n-grams can guess which texts it was adapted to.

docs/share.md and docs/reliability.md give these numbers; run this file with `-s` to see them.
"""

import json
from importlib import resources
from statistics import fmean

import numpy as np
import pytest

from nlp_meta.data.tasks import Example
from nlp_meta.models.companion import REGULARIZATION
from nlp_meta.objectives.ngrams import count_ngrams, fit_ngrams, held_out_parts

LABELS, DOMAINS = 50, ("automotive", "education", "fashion", "food", "real_estate", "travel")


def read_domain(name: str) -> list[Example]:
    path = resources.files("nlp_meta.data").joinpath("corpus", f"{name}.jsonl")
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [Example(row["text"], row["label"]) for row in rows]


def area_under_curve(members: np.ndarray, others: np.ndarray) -> float:
    """Share of pairs of a member and another in which the member scores higher."""
    higher = members[:, None] > others[None, :]
    return float((higher + 0.5 * (members[:, None] == others[None, :])).mean())


def guess_members(domain: str) -> tuple[float, float]:
    """Fit 50 texts; guess by known n-grams, and by how sure the n-grams alone are."""
    examples = read_domain(domain)
    order = np.random.default_rng(0).permutation(len(examples))
    support, others = ([examples[i] for i in part] for part in np.split(order, [LABELS]))
    labels = sorted({example.target for example in support})
    model = fit_ngrams(
        support,
        labels,
        parts=held_out_parts(support, folds=5, seed=0),
        regularization=REGULARIZATION,
        prior=None,
    ).model
    known = np.abs(model.weight).sum(0) > 0
    scores = []
    for part in (support, others):
        texts = [example.source for example in part]
        rows = count_ngrams(texts, features=model.weight.shape[1])
        shares = np.array([known[row.indices].mean() for row in rows])
        scores.append((shares, model.log_probabilities(texts).max(-1)))
    (shares, sure), (other_shares, other_sure) = scores
    return area_under_curve(shares, other_shares), area_under_curve(sure, other_sure)


@pytest.mark.slow
def test_hashed_ngrams_tell_who_was_a_member():
    """No n-gram of a support text is unknown to its companion: its share of known ones is 1."""
    guesses = {domain: guess_members(domain) for domain in DOMAINS}

    by_weights, by_answers = (fmean(side) for side in zip(*guesses.values(), strict=True))
    print(f"by weights {by_weights:.3f}, by answers {by_answers:.3f}: {guesses}")
    assert by_weights > 0.99
    assert 0.5 < by_answers <= 1.0
