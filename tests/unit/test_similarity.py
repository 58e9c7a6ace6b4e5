"""Overlap of n-grams: against scikit-learn's whole product, and by hand."""

import pytest
import torch

from nlp_meta.encoders.similarity import Overlap

SOURCES = ("rumah itu besar", "pasar", "", "saya 2026")
TARGETS = ("rumah nang ganal", "pasar", "ulun 2026", "...")


def test_cosines_in_blocks_are_those_of_the_whole():
    overlap = Overlap.of(SOURCES, TARGETS)
    whole = overlap.cosines()

    assert whole.shape == (4, 4) and whole.dtype == torch.float32
    for rows in (slice(0, 2), slice(2, 4)):
        for columns in (slice(0, 1), slice(1, 4)):
            torch.testing.assert_close(overlap.cosines(rows, columns), whole[rows, columns])


def test_equal_texts_have_cosine_1_and_texts_without_ngrams_0():
    whole = Overlap.of(SOURCES, TARGETS).cosines()

    assert float(whole[1, 1]) == pytest.approx(1.0)
    assert whole[2].tolist() == [0.0] * 4
    assert whole[0].argmax() == 0 and whole[3].argmax() == 2
    assert float(whole[1, 2]) == 0.0


def test_texts_without_any_character_have_nothing_in_common():
    assert Overlap.of(("", " "), ("",)).cosines().tolist() == [[0.0], [0.0]]
