"""Adapting to pairs: thresholds by hand, folds that hold sentences together, refusals."""

import pytest
import torch

from nlp_meta.data.tasks import Example
from nlp_meta.encoders.similarity import MinedPairs, choose_threshold
from nlp_meta.errors import DataError, DivergedError
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_retriever
from nlp_meta.models.retrieval import SHARES, fold_pairs, learn_matches
from nlp_meta.objectives.retrieval import TEMPERATURE
from nlp_meta.settings import ModelSettings

THINGS = "house agent phone battery food staff room plot brake service money".split()
PAIRS = [Example(f"the good {thing}", f"{thing} was very good") for thing in THINGS]


@pytest.fixture(scope="module")
def objective(tiny_encoder):
    settings = ModelSettings(str(tiny_encoder), None, "mean", "shared", "", 24, 4, 8, 2, None)
    return build_retriever(settings, device="cpu", precision="no", batch_tokens=500)


def test_threshold_by_hand():
    """With their translations 1.3, 1.2 and 1.1 (wrongly: another has 1.1, the own one 1.0) are
    found; without them 1.0, 0.9 and 1.1. Mining from 1.2 on: 2 of 2 right, 2 of 3 found, F1 0.8;
    with more: 2 of 4, 2 of 5, 2 of 6. Halfway between 1.2 and 1.1 is 1.15.
    """
    found = choose_threshold(torch.tensor([1.3, 1.2, 1.0]), torch.tensor([1.0, 0.9, 1.1]))

    assert found == MinedPairs(
        first=pytest.approx(2 / 3), threshold=pytest.approx(1.15), precision=1.0, recall=2 / 3
    )


def test_a_threshold_does_not_part_equal_margins():
    """By hand: own 1.2 and 1.1, others 1.1 and 0.9. From 1.2: 1 of 1 and 1 of 2, F1 2/3; the two
    margins of 1.1 come together: 2 of 3 right and 2 of 2 found, F1 0.8.
    """
    found = choose_threshold(torch.tensor([1.2, 1.1]), torch.tensor([1.1, 0.9]))

    assert (found.first, found.recall) == (1.0, 1.0)
    assert found.precision == pytest.approx(2 / 3)
    assert found.threshold == pytest.approx(1.0)


def test_where_nothing_can_be_parted_everything_is_mined():
    """By hand: all margins 1; 2 of 4 trials would be right at best, none is found first."""
    found = choose_threshold(torch.ones(2), torch.ones(2))

    assert found == MinedPairs(first=0.0, threshold=1.0, precision=0.0, recall=0.0)


@pytest.mark.parametrize("folds", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_folds_hold_every_pair_once_and_copies_together(folds, seed):
    """Pairs 11 and 12 repeat the source of pair 0 and the target of pair 1."""
    pairs = [
        *PAIRS,
        Example("The good house!", "another one"),
        Example("something", "agent was very good."),
    ]

    parts = fold_pairs(pairs, folds=folds, seed=seed)

    assert sorted(place for part in parts for place in part) == list(range(13))
    assert all(len(part) >= 11 // folds for part in parts)
    for first, second in ((0, 11), (1, 12)):
        assert any({first, second} <= part for part in parts)


@pytest.mark.parametrize("seed", range(5))
def test_a_pair_that_links_two_others_keeps_them_in_its_fold(seed):
    """The last pair has the source of the first and the target of the second."""
    linked = [Example("aaa", "bbb"), Example("ccc", "ddd"), Example("aaa", "ddd")]

    parts = fold_pairs([*PAIRS, *linked], folds=4, seed=seed)

    assert sum({11, 12, 13} <= part for part in parts) == 1
    assert sorted(place for part in parts for place in part) == list(range(14))


def test_folds_depend_on_the_seed_alone():
    one, two, other = (fold_pairs(PAIRS, folds=3, seed=seed) for seed in (0, 0, 1))

    assert one == two != other


def adapt(
    objective, pairs=PAIRS, *, steps=8, rate=3e-3, early_stop=True, companion="none", **options
):
    meta = objective.meta_parameters(torch.Generator().manual_seed(0))
    return learn_matches(
        objective,
        {**meta, TEMPERATURE: torch.tensor(3.0)},
        pairs,
        how=Adaptation(InnerLoop(steps, rate, "adam"), None, early_stop),
        companion=companion,
        seed=0,
        **options,
    )


def test_steps_are_a_quarter_a_half_all_or_none(objective):
    ticks: list[int] = []

    found = adapt(objective, on_step=lambda done, total: ticks.append(done))

    assert found.steps in {0, 2, 4, 8}
    assert ticks[-1] == 8 + found.steps
    assert set(found.weights) == {*objective.meta_parameters(torch.Generator())}


def test_without_early_stop_all_steps_are_taken_and_help(objective):
    """What was not seen is found at least as often, and the margin parts it from the rest."""
    start, moved = (adapt(objective, steps=s, rate=3e-3, early_stop=False) for s in (0, 20))

    assert (start.steps, moved.steps) == (0, 20)
    assert moved.judgement.mined.first >= start.judgement.mined.first
    assert 0 <= moved.judgement.mined.recall <= moved.judgement.mined.first <= 1
    assert not torch.equal(*(each.weights[next(iter(each.weights))] for each in (start, moved)))


def test_the_same_seed_gives_the_same_weights(objective):
    one, two = adapt(objective), adapt(objective)

    assert one.judgement == two.judgement
    assert all(torch.equal(value, two.weights[name]) for name, value in one.weights.items())


def test_ngrams_count_where_held_out_pairs_are_found_by_them(objective):
    """Every target is its source but for the ending; the encoder's weights are random."""
    words = ("rumah", "makan", "pasar", "jalan", "bunga", "surat", "kapal", "gunung")
    alike = [Example(f"{word} sekali", f"{word} sakali") for word in words]

    without, auto = (adapt(objective, alike, companion=when) for when in ("none", "auto"))

    assert without.judgement.share == 0.0
    assert auto.judgement.share == max(SHARES)
    assert auto.judgement.mined.first == 1.0 >= without.judgement.mined.first


def test_ngrams_are_left_out_where_they_mislead(objective):
    """Every target shares its n-grams with the next pair's source."""
    words = ("rumah", "makan", "pasar", "jalan", "bunga", "surat", "kapal", "gunung")
    following = (*words[1:], words[0])
    crossed = [Example(f"{a} ini", f"{b} itu") for a, b in zip(words, following, strict=True)]

    assert adapt(objective, crossed, companion="auto").judgement.share == 0.0
    assert adapt(objective, crossed, companion="ngrams").judgement.share == min(SHARES)


@pytest.mark.parametrize("pairs", [PAIRS[:3], PAIRS[:3] * 4, PAIRS[:1], []])
def test_fewer_than_four_distinct_pairs_are_refused(objective, pairs):
    with pytest.raises(DataError, match=rf"{len(pairs)} sentence pairs.*at least 4"):
        adapt(objective, pairs)


def test_embeddings_that_are_not_numbers_are_refused(objective):
    with pytest.raises(DivergedError, match="`learning_rate`"):
        adapt(objective, steps=2, rate=1e38, early_stop=False)
