"""Passes cover every text once, and cost no more than any other split of neighbors."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from nlp_meta.serving.pack import PASS_OVERHEAD, PASS_TOKENS, plan_passes


def cost(lengths: list[int], groups: list[list[int]]) -> int:
    return sum(max(lengths[row] for row in group) * len(group) + PASS_OVERHEAD for group in groups)


def cheapest(lengths: list[int]) -> int:
    """Try all ways to cut the texts, in order of length, into groups within the limit."""
    ordered = sorted(lengths)
    found = []
    for cuts in range(len(ordered)):
        for places in combinations(range(1, len(ordered)), cuts):
            ends = [0, *places, len(ordered)]
            parts = [ordered[a:b] for a, b in pairwise(ends)]
            if all(part[-1] * len(part) <= PASS_TOKENS or len(part) == 1 for part in parts):
                found.append(sum(part[-1] * len(part) + PASS_OVERHEAD for part in parts))
    return min(found)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_split_of_texts_in_order_of_length_costs_less(seed):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, (60, 600, 3000)[seed % 3], size=9).tolist()
    groups = plan_passes(lengths)

    assert sorted(row for group in groups for row in group) == list(range(9))
    assert cost(lengths, groups) == cheapest(lengths)


def test_texts_of_one_length_share_passes_up_to_the_limit():
    """By hand: 20 texts of 512 tokens fill passes of 4."""
    assert [len(group) for group in plan_passes([512] * 20)] == [4] * 5
    assert plan_passes([PASS_TOKENS + 1]) == [[0]]
    assert plan_passes([]) == []
