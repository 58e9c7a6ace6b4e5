"""Batches of rows that are made here; a state says which example it is of."""

import numpy as np
import pytest
import torch

from nlp_meta.encoders.backbone import load_backbone
from nlp_meta.encoders.batches import (
    Row,
    by_length,
    pad_rows,
    split_minibatches,
    stack_batches,
    tokenize,
)

CPU = torch.device("cpu")
PAD = -7


def make_rows(lengths, *, targets=None, allowed=(True, True), first=0):
    """Row `i` is `i + first`, repeated to its length."""
    targets = targets or [0] * len(lengths)
    return [
        Row(torch.full((length,), place + first), target, allowed)
        for place, (length, target) in enumerate(zip(lengths, targets, strict=True))
    ]


def stack(*tasks, tokens):
    return stack_batches(tasks, padding=PAD, tokens=tokens, device=CPU)


def random_tasks(seed: int):
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 20, size=generator.integers(1, 5)).tolist()
    return [
        make_rows(generator.integers(1, 30, size=size).tolist(), first=100 * task)
        for task, size in enumerate(sizes)
    ]


def test_short_rows_are_padded_at_the_end_and_masked():
    block, mask = pad_rows([torch.tensor([5, 6, 7]), torch.tensor([8])], padding=PAD)

    assert block.tolist() == [[5, 6, 7], [8, PAD, PAD]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_states_are_padded_along_their_tokens():
    block, mask = pad_rows([torch.ones(1, 2), torch.ones(3, 2)], padding=0)

    assert block.sum(-1).tolist() == [[2, 0, 0], [2, 2, 2]]
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tokens", [1, 16, 64, 1000])
def test_groups_hold_every_row_once_and_no_more_than_the_bound(seed, tokens):
    lengths = np.random.default_rng(seed).integers(1, 40, size=33).tolist()

    groups = list(by_length(lengths, tokens=tokens))

    assert sorted(row for group in groups for row in group) == list(range(33))
    for group in groups:
        padded = len(group) * max(lengths[row] for row in group)
        assert padded <= tokens or len(group) == 1
    ordered = [lengths[row] for group in groups for row in group]
    assert ordered == sorted(ordered, reverse=True)


def test_groups_are_filled_up_to_the_bound():
    """By hand: two of 5 are 10, three of 3 are 9, and a fourth row would make 12."""
    groups = list(by_length([3, 5, 3, 5, 3, 2], tokens=10))

    assert groups == [[1, 3], [0, 2, 4], [5]]


def test_rows_of_two_tasks_stand_in_one_batch_in_order_of_tasks():
    """By hand: everything fits one batch; the longest row has three tokens."""
    one = make_rows([2, 3, 1], targets=[0, 1, 1])
    two = make_rows([1, 2], targets=[1, 0], allowed=(True, False), first=10)

    (batch,) = stack(one, two, tokens=100)

    assert batch.states.tolist() == [
        [0, 0, PAD],
        [1, 1, 1],
        [2, PAD, PAD],
        [10, PAD, PAD],
        [11, 11, PAD],
    ]
    assert batch.mask.sum(1).tolist() == [2, 3, 1, 1, 2]
    assert batch.owners.index.tolist() == [0, 0, 0, 1, 1] and batch.owners.counts == (3, 2)
    assert batch.targets.tolist() == [0, 1, 1, 1, 0]
    assert batch.positions.tolist() == [0, 1, 2, 0, 1]
    torch.testing.assert_close(batch.shares, torch.tensor([1 / 3] * 3 + [0.5] * 2))
    assert batch.allowed.tolist() == [[True, True]] * 3 + [[True, False]] * 2


def test_rows_of_like_length_share_a_batch_whatever_their_tasks():
    """By hand: two rows of 5 are 10 tokens, then three of at most 2 are 6."""
    long, short = stack(make_rows([5, 1, 2]), make_rows([5, 2], first=10), tokens=10)

    assert long.states[:, 0].tolist() == [0, 10]
    assert short.states[:, 0].tolist() == [1, 2, 11]
    assert (long.owners.counts, short.owners.counts) == ((1, 1), (2, 1))


def test_a_batch_may_hold_no_row_of_a_task():
    """By hand: a row of 9 tokens leaves no room for another."""
    first, second = stack(make_rows([1]), make_rows([9], first=10), tokens=9)

    assert (first.owners.counts, second.owners.counts) == ((0, 1), (1, 0))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tokens", [1, 40, 200, 5000])
def test_shares_of_each_task_add_up_to_one(seed, tokens):
    tasks = random_tasks(seed)

    batches = stack(*tasks, tokens=tokens)

    shares = torch.zeros(len(tasks))
    for batch in batches:
        shares.index_add_(0, batch.owners.index, batch.shares)
    torch.testing.assert_close(shares, torch.ones(len(tasks)))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tokens", [1, 40, 200, 5000])
def test_every_example_stands_once_where_its_position_says(seed, tokens):
    tasks = random_tasks(seed)

    batches = stack(*tasks, tokens=tokens)

    found = {}
    for batch in batches:
        owners, places = batch.owners.index.tolist(), batch.positions.tolist()
        assert owners == sorted(owners)
        assert batch.owners.counts == tuple(owners.count(task) for task in range(len(tasks)))
        for row, key in enumerate(zip(owners, places, strict=True)):
            assert key not in found
            found[key] = batch.states[row][batch.mask[row].bool()].tolist()
    assert found == {
        (task, place): row.states.tolist()
        for task, rows in enumerate(tasks)
        for place, row in enumerate(rows)
    }


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tokens", [1, 40, 200, 5000])
def test_padded_batches_keep_to_the_bound(seed, tokens):
    for batch in stack(*random_tasks(seed), tokens=tokens):
        assert batch.states.numel() <= tokens or len(batch.states) == 1


@pytest.mark.parametrize(("negative", "positive", "count"), [(8, 8, 4), (5, 7, 3), (3, 1, 2)])
def test_minibatches_have_like_shares_of_each_label(negative, positive, count):
    """By hand: n examples dealt to k parts give each n // k of them or one more."""
    rows = make_rows([1] * (negative + positive), targets=[0] * negative + [1] * positive)

    parts = split_minibatches(rows, count=count)

    assert sorted(int(row.states) for part in parts for row in part) == list(range(len(rows)))
    for part in parts:
        assert len(part) in (len(rows) // count, len(rows) // count + 1)
        for target, total in enumerate((negative, positive)):
            number = sum(row.target == target for row in part)
            assert number in (total // count, total // count + 1)


def test_long_texts_are_cut_and_the_prefix_text_counts(tiny_encoder):
    """By hand: a word of the vocabulary is one token, and two special ones stand around it."""

    def lengths(texts, *, prefix_text=""):
        backbone = load_backbone(
            str(tiny_encoder), pooling="native", max_tokens=8, prefix_text=prefix_text
        )
        return [len(ids) for ids in tokenize(backbone, texts)]

    texts = ["good", "good food", "good " * 6, "good " * 50]
    assert lengths(texts) == [3, 4, 8, 8]
    assert lengths(texts, prefix_text="bad ") == [4, 5, 8, 8]
    assert lengths([]) == []


def test_ids_are_those_of_the_tokenizer(tiny_encoder):
    """Another route: the tokens' own names."""
    backbone = load_backbone(str(tiny_encoder), pooling="mean", max_tokens=32)

    (ids,) = tokenize(backbone, ["Good food!"])

    names = backbone.tokenizer.convert_ids_to_tokens(ids.tolist())
    assert names == ["[CLS]", "good", "food", "!", "[SEP]"]
