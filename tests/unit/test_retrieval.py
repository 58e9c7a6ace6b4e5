"""Retrieval: margins by hand, pairs that are no negatives of each other, minibatches, refusals."""

import math
from dataclasses import replace

import pytest
import torch

from nlp_meta.data.answers import Ranking
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.similarity import Overlap, margins_of, nearest, ratio_margin
from nlp_meta.errors import EpisodeError, SettingsError
from nlp_meta.meta.inner_loop import mean_gradient, repeat
from nlp_meta.models.builders import build_retriever
from nlp_meta.objectives.retrieval import (
    START_TEMPERATURE,
    TEMPERATURE,
    rank_candidates,
    tell_apart,
)
from nlp_meta.settings import ModelSettings


@pytest.fixture
def build(tiny_encoder):
    def build(*, pooling="mean", batch_tokens=200):
        settings = ModelSettings(str(tiny_encoder), None, pooling, "shared", "", 16, 2, 4, 2, None)
        return build_retriever(settings, device="cpu", precision="no", batch_tokens=batch_tokens)

    return build


def episode(*support: tuple[str, str], candidates: tuple[str, ...] = ()) -> Episode:
    pairs = tuple(Example(source, target) for source, target in support)
    return Episode("made/pair", (), pairs, pairs, 0, "retrieval", "aaa-bbb", candidates)


THREE = (("good food", "the house"), ("bad room", "a slow agent"), ("cold", "warm service"))


def test_ratio_margin_by_hand():
    """k = 2. Means of the rows' two largest: 0.7, 0.5; of the columns' two: 0.65, 0.55, 0.15.

    For row 0 and column 0: 0.8 / ((0.7 + 0.65) / 2) = 1.185...
    """
    cosines = torch.tensor([[0.8, 0.6, 0.2], [0.5, 0.5, 0.1]])

    margins = ratio_margin(cosines, neighbors=2)

    by_hand = [
        [0.8 / 0.675, 0.6 / 0.625, 0.2 / 0.425],
        [0.5 / 0.575, 0.5 / 0.525, 0.1 / 0.325],
    ]
    torch.testing.assert_close(margins, torch.tensor(by_hand))


def test_the_margin_mines_another_candidate_than_the_cosine_where_one_is_near_to_all():
    """By hand, k = 2: column 0 is a hub, 0.9 to both rows. Row 1: means of its two largest 0.88
    and of the columns' 0.9 and 0.58; so 0.9 / 0.89 = 1.011 against 0.86 / 0.73 = 1.178.
    """
    rankings = rank_candidates(torch.tensor([[0.9, 0.3], [0.9, 0.86]]), neighbors=2)

    assert rankings == [Ranking((0, 1), 0), Ranking((0, 1), 1)]


def test_of_equal_cosines_the_first_candidate_comes_first():
    (ranking,) = rank_candidates(torch.tensor([[0.5, 0.7, 0.5, 0.7]]))

    assert ranking.order == (1, 3, 0, 2)


@pytest.mark.parametrize("block", [1, 3, 7, 100])
@pytest.mark.parametrize("neighbors", [1, 4, 50])
def test_neighbors_in_blocks_are_those_of_the_whole_product(block, neighbors):
    """Another route: one product and one sort; margins of all pairs at once."""
    generator = torch.Generator().manual_seed(0)
    a, b = (
        torch.nn.functional.normalize(torch.rand(n, 5, generator=generator), dim=1) for n in (13, 9)
    )

    forward, backward = nearest(a, b, neighbors=neighbors, block=block)

    whole = a @ b.T
    for found, cosines in ((forward, whole), (backward, whole.T)):
        kept = min(neighbors, cosines.shape[1])
        torch.testing.assert_close(found.cosines, cosines.sort(1, descending=True)[0][:, :kept])
        torch.testing.assert_close(cosines.gather(1, found.places), found.cosines)
    margins = ratio_margin(whole, neighbors=neighbors)
    torch.testing.assert_close(margins_of(forward, backward), margins.gather(1, forward.places))
    torch.testing.assert_close(margins_of(backward, forward), margins.T.gather(1, backward.places))


def test_more_likeness_is_added_block_by_block():
    """Another route: the sum of both products, whole."""
    generator = torch.Generator().manual_seed(1)
    a, b, more = (torch.rand(*shape, generator=generator) for shape in ((6, 3), (5, 3), (6, 5)))

    forward, backward = nearest(
        a, b, neighbors=2, block=2, more=lambda rows, columns: more[rows, columns]
    )

    whole = a @ b.T + more
    torch.testing.assert_close(forward.cosines, whole.sort(1, descending=True)[0][:, :2])
    torch.testing.assert_close(backward.cosines, whole.T.sort(1, descending=True)[0][:, :2])


def test_an_overlap_of_ngrams_is_added_to_the_cosines(build):
    """By hand: among candidates of which one is the source itself, a large share finds it."""
    objective = build()
    weights = repeat(objective.meta_parameters(torch.Generator().manual_seed(0)), tasks=1)
    one = episode(*THREE, candidates=("the house", "cold", "bad room", "good food"))

    def first(share):
        ready = replace(objective, overlap=share)
        (found,) = ready.answer(weights, ready.query_batches([one]), [one])
        return [ranking.order[0] for ranking in found]

    assert first(5.0) == [3, 2, 1]
    sources = [source for source, _ in THREE]
    rows = objective.embed(weights, [[*sources, *one.candidates]])[0]
    added = 0.4 * Overlap.of(sources, one.candidates).cosines()
    assert first(0.4) == (rows[:3] @ rows[3:].T + added).argmax(1).tolist()


def test_pairs_that_share_a_side_or_a_group_are_no_negatives():
    """By hand: 0 and 1 share the source, 1 and 2 the target, 0 and 3 the group."""
    pairs = [
        Example("Good food!", "one", "g"),
        Example("good food", "two"),
        Example("other", "TWO."),
        Example("last", "three", "g"),
    ]

    apart = tell_apart(pairs)

    together = {(i, j) for i in range(4) for j in range(4) if not apart[i, j]}
    diagonal = {(i, i) for i in range(4)}
    assert together == diagonal | {(0, 1), (1, 0), (1, 2), (2, 1), (0, 3), (3, 0)}


def test_a_pair_without_negatives_costs_nothing(build):
    """By hand: one candidate has probability 1, and -log 1 is 0; so for copies of one pair."""
    objective = build()
    meta = repeat(objective.meta_parameters(torch.Generator().manual_seed(0)), tasks=2)
    episodes = [episode(THREE[0]), episode(THREE[0], THREE[0], THREE[0])]

    (batch,) = objective.query_batches(episodes)

    torch.testing.assert_close(objective.loss(meta, batch), torch.zeros(2))


def test_texts_that_cannot_be_told_apart_cost_the_logarithm_of_their_number(build):
    """By hand: as temperature grows, n equal scores cost log n nats in both directions."""
    objective = build()
    meta = objective.meta_parameters(torch.Generator().manual_seed(0))
    hot = repeat({**meta, TEMPERATURE: torch.tensor(-30.0)}, tasks=1)

    (batch,) = objective.query_batches([episode(*THREE)])

    torch.testing.assert_close(objective.loss(hot, batch), torch.tensor([math.log(3)]))


def test_no_gradient_crosses_tasks(build):
    """The second task's loss alone: what the first one's weights get is exactly 0."""
    objective = build(batch_tokens=60)
    weights = repeat(objective.meta_parameters(torch.Generator().manual_seed(0)), tasks=2)
    (batch,) = objective.query_batches([episode(*THREE), episode(*THREE[::-1])])

    def second(leaves, piece):
        return objective.loss(leaves, piece) * torch.tensor([0.0, 1.0])

    _, gradient = mean_gradient(second, weights, [batch])

    assert not any(value[0].any() for value in gradient.values())
    assert gradient[TEMPERATURE][1].any()


def test_meta_parameters_are_lora_and_the_temperature(build):
    objective = build()
    meta = objective.meta_parameters(torch.Generator().manual_seed(0))

    assert not any(name.startswith("classifier") for name in meta)
    assert float(meta.pop(TEMPERATURE)) == pytest.approx(math.log(1 / START_TEMPERATURE))
    assert set(meta) == {
        name + side for name in objective.plan.scales for side in (".lora_A", ".lora_B")
    }


@pytest.mark.parametrize(
    ("minibatch", "sizes"), [(None, [5]), (16, [5]), (3, [3, 2]), (2, [3, 2]), (1, [3, 2])]
)
def test_support_set_is_cut_into_minibatches_of_two_pairs_or_more(build, minibatch, sizes):
    """By hand: 5 pairs make at most 2 parts of at least 2."""
    five = [(f"good food {i}", f"a house {i}") for i in range(5)]

    parts = build().support_batches([episode(*five)], minibatch=minibatch)

    assert [len(part) for part in parts] == [1] * len(sizes)
    assert [part[0].shares.shape[1] for part in parts] == sizes
    assert all(float(part[0].shares.sum()) == pytest.approx(1) for part in parts)


def test_every_piece_holds_no_more_tokens_than_asked_for(build):
    objective = build(batch_tokens=16)

    (batch,) = objective.query_batches([episode(*THREE), episode(*THREE)])

    pieces = [*batch.sources, *batch.targets]
    assert len(pieces) > 2
    assert max(piece.mask.numel() for piece in pieces) <= 16


def test_native_pooling_is_refused(build):
    with pytest.raises(SettingsError, match=r"pooling 'native'.*set `model\.pooling` to mean"):
        build(pooling="native")


def test_an_episode_without_candidates_cannot_be_ranked(build):
    objective, one = build(), episode(*THREE)
    weights = repeat(objective.meta_parameters(torch.Generator().manual_seed(0)), tasks=1)

    with pytest.raises(EpisodeError, match="'made/pair': the episode has no candidates"):
        objective.answer(weights, objective.query_batches([one]), [one])
