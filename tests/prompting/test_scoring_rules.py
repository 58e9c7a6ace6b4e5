"""Scoring rules against hand arithmetic."""

from math import exp, log

import numpy as np
import pytest

from nlp_meta.errors import SettingsError
from nlp_meta.prompting.in_context import SCORINGS, Evidence, find_scoring, label_probabilities
from nlp_meta.prompting.prompts import AnswerScore


def answers(*probabilities: float, tokens=(1, 1)) -> tuple[AnswerScore, ...]:
    return tuple(AnswerScore(log(p), n) for p, n in zip(probabilities, tokens, strict=True))


def ratio(name: str, evidence: Evidence) -> float:
    """How much more probable the first of two labels is than the second."""
    first, second = label_probabilities(evidence, find_scoring(name))
    assert first + second == pytest.approx(1)
    return first / second


def test_sum_compares_the_answers_as_they_are():
    """0.3 against 0.1 is three to one."""
    assert ratio("sum", Evidence(answers(0.3, 0.1))) == pytest.approx(3)


def test_mean_compares_the_likelihood_of_a_token():
    """0.09 in two tokens is 0.3 a token, which is three times 0.1."""
    evidence = Evidence(answers(0.09, 0.1, tokens=(2, 1)))

    assert ratio("mean", evidence) == pytest.approx(3)
    assert ratio("sum", evidence) == pytest.approx(0.9)


def test_pmi_divides_by_what_the_premise_gives():
    """(0.3 / 0.6) against (0.1 / 0.05) is 0.5 to 2."""
    evidence = Evidence(answers(0.3, 0.1), premise=answers(0.6, 0.05))

    assert ratio("pmi", evidence) == pytest.approx(0.25)


def test_calibration_divides_by_the_mean_content_free_probability():
    """Among the labels 0.3 : 0.1 is 3/4, 1/4; content-free 4/5, 1/5 and 2/5, 3/5 have the mean
    3/5, 2/5; (3/4) / (3/5) against (1/4) / (2/5) is 2 to 1."""
    evidence = Evidence(answers(0.3, 0.1), content_free=(answers(0.4, 0.1), answers(0.02, 0.03)))

    assert ratio("calibrated", evidence) == pytest.approx(2)


def test_calibration_makes_content_free_text_even():
    """A text that says what the one content-free text says has no label."""
    evidence = Evidence(answers(0.3, 0.1), content_free=(answers(0.3, 0.1),))

    assert ratio("calibrated", evidence) == pytest.approx(1)


def test_likelihoods_too_small_for_a_float_keep_their_order():
    """exp(-2000) is 0 in 64 bits; the difference of one nat is not."""
    evidence = Evidence(
        (AnswerScore(-2000.0, 1), AnswerScore(-2001.0, 1)),
        content_free=((AnswerScore(-1000.0, 1), AnswerScore(-3000.0, 1)),),
    )

    assert ratio("sum", evidence) == pytest.approx(exp(1))
    scores = SCORINGS["calibrated"].rule(evidence)
    np.testing.assert_allclose(scores[0] - scores[1], 1 - 2000)


def test_an_unknown_rule_is_refused():
    with pytest.raises(SettingsError, match="by 'best': one of sum, mean, pmi, calibrated is"):
        find_scoring("best")
