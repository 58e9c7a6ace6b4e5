"""Scoring: from log-likelihoods of the answers to one number for each label.

A language model prefers some labels whatever the text: short ones, frequent ones, those
of the last demonstrations. Each rule takes something of that away, and all are arithmetic
on the same few numbers, so that one pass over the texts serves every rule.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, softmax

from nlp_meta.errors import SettingsError
from nlp_meta.prompting.prompts import AnswerScore

Numbers = NDArray[np.float64]

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Queries that say nothing, of Zhao et al. 2021, section 5."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Log-likelihoods that a language model gave for one query.

    Attributes:
        answers: Behind the query, one for each label.
        content_free: The same behind each content-free query of the same prompt.
        premise: The same behind the answer line alone.
    """

    answers: tuple[AnswerScore, ...]
    content_free: tuple[tuple[AnswerScore, ...], ...] = ()
    premise: tuple[AnswerScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Scoring:
    """A rule and the evidence that it needs beside the answers.

    Attributes:
        rule: Evidence to label scores, `(labels,)`, whose softmax are the probabilities.
    """

    rule: Callable[[Evidence], Numbers]
    content_free: bool = False
    premise: bool = False


def add_tokens(evidence: Evidence) -> Numbers:
    """Score a label by its answer's log-likelihood in nats."""
    return _log_likelihoods(evidence.answers)


def average_tokens(evidence: Evidence) -> Numbers:
    """Score a label by nats per token, so that long labels do not lose for their length."""
    counts = np.array([answer.tokens for answer in evidence.answers], dtype=np.float64)
    scores: Numbers = add_tokens(evidence) / counts
    return scores


def remove_premise(evidence: Evidence) -> Numbers:
    """Score a label by log p(answer | prompt) - log p(answer | answer line).

    Source:
        Holtzman et al. 2021, arXiv:2104.08315, section 3, PMI with a domain premise.
    """
    return add_tokens(evidence) - _log_likelihoods(evidence.premise)


def calibrate(evidence: Evidence) -> Numbers:
    """Score a label by log p(label | query) - log of its mean over content-free queries.

    Both are probabilities among the labels; the softmax of the scores is that of the
    paper, W p with W = diag(p_cf)^-1, made to add up to 1.

    Source:
        Zhao et al. 2021, arXiv:2102.09690, section 5.
    """
    rows = np.stack([_log_likelihoods(answers) for answers in evidence.content_free])
    mean = logsumexp(log_softmax(rows, axis=1), axis=0) - np.log(len(rows))
    scores: Numbers = add_tokens(evidence) - mean
    return scores


SCORINGS: Mapping[str, Scoring] = {
    "sum": Scoring(add_tokens),
    "mean": Scoring(average_tokens),
    "pmi": Scoring(remove_premise, premise=True),
    "calibrated": Scoring(calibrate, content_free=True),
}


def find_scoring(name: str) -> Scoring:
    """Look a rule up in `SCORINGS`.

    Raises:
        SettingsError: There is none of that name.
    """
    if name not in SCORINGS:
        raise SettingsError(
            f"cannot score labels by '{name}': one of {', '.join(SCORINGS)} is needed; change "
            "`prompting.scorings`"
        )
    return SCORINGS[name]


def find_scorings(names: Sequence[str], *, graded: bool) -> dict[str, Scoring]:
    """Look rules up by name; where scores only say which label was written, `sum` is the only one.

    Nothing can be taken away from such scores: of a label that texts without content are
    answered with, the rest would be nothing whatever the text.
    """
    rules = {name: find_scoring(name) for name in names}
    return rules if graded else {"sum": SCORINGS["sum"]}


def label_probabilities(evidence: Evidence, scoring: Scoring) -> list[float]:
    """Softmax over the label scores: adds up to 1, in label order."""
    probabilities: list[float] = softmax(scoring.rule(evidence)).tolist()
    return probabilities


def _log_likelihoods(answers: Sequence[AnswerScore]) -> Numbers:
    return np.array([answer.log_likelihood for answer in answers], dtype=np.float64)
