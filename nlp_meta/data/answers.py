"""Answers: what a method gives for each query text, once it has learned a support set."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nlp_meta.data.episodes import Queries, SupportSet
from nlp_meta.errors import DataError


@dataclass(frozen=True, slots=True)
class Prediction:
    """A label and how sure it is.

    Attributes:
        label: The most probable one; the first of the label order where two are equal.
        probabilities: By label, adding up to 1.
    """

    label: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Translation:
    """A query text in the other language."""

    text: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates of an episode in the order in which they may be a query's translation.

    Attributes:
        order: Places among `Episode.candidates`, the likeliest first, each once.
        mined: Place of the best candidate by margin, as mining would take it.
    """

    order: tuple[int, ...]
    mined: int


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a ranking put the right candidate; candidates by their places in the episode.

    Attributes:
        rank: Of the right candidate, from 1.
        right: Place of the right candidate.
        first: Place of the candidate that it put first.
        mined: Place of the best candidate by margin.
    """

    rank: int
    right: int
    first: int
    mined: int


Answer = Prediction | Translation | Ranking

Learned = Callable[[Queries], Sequence[Answer]]
"""A method that has learned a support set: query texts to one answer for each."""

Rival = Callable[[SupportSet], Learned]
"""A method: it learns from a support set, then answers. It never meets a query's target."""


@dataclass(frozen=True, slots=True)
class LearnedWithFacts:
    """A learned method that also says what it did: steps it chose, demonstrations it showed.

    Attributes:
        facts: JSON-able, read after the queries are answered; `answer` may still add to it.
    """

    answer: Learned
    facts: Mapping[str, object]

    def __call__(self, queries: Queries) -> Sequence[Answer]:
        return self.answer(queries)


def only_predictions(answers: Sequence[Answer]) -> list[Prediction]:
    """Give the answers of a task with labels as what they are.

    Raises:
        DataError: One of them is a translation or a ranking.
    """
    predictions = [answer for answer in answers if isinstance(answer, Prediction)]
    if len(predictions) < len(answers):
        other = next(answer for answer in answers if not isinstance(answer, Prediction))
        raise DataError(
            f"cannot read a {type(other).__name__.lower()} as a label: an answer with a "
            "probability for each label is needed; use a method that names labels"
        )
    return predictions


Answered = Sequence[tuple[float, bool]]
"""How sure each answer was, and whether it was right."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is left of some answers when those that are less sure than a bound are left out.

    Attributes:
        answered: Share of the answers that stay.
        accuracy: Of those, with its 95% interval; None where none stays.
    """

    min_confidence: float
    answered: float
    accuracy: float | None
    low: float | None
    high: float | None


def cover(answers: Answered, min_confidence: float) -> Coverage:
    """Leave answers out that are less sure than a bound."""
    right = [is_right for confidence, is_right in answers if confidence >= min_confidence]
    if not right:
        return Coverage(min_confidence, 0.0, None, None, None)
    accuracy = sum(right) / len(right)
    interval = share_interval(accuracy, len(right))
    return Coverage(min_confidence, len(right) / len(answers), accuracy, *interval)


def risk_curve(answers: Answered) -> list[Coverage]:
    """Risk against coverage: all answers, then the surest 9 tenths of them, and so on.

    Answers that are equally sure stay together.

    Source:
        El-Yaniv and Wiener 2010, Journal of Machine Learning Research 11, section 2.
    """
    surest = sorted((confidence for confidence, _ in answers), reverse=True)
    places = [math.ceil(len(surest) * tenths / 10) - 1 for tenths in range(10, 0, -1)]
    return [cover(answers, bound) for bound in dict.fromkeys(surest[place] for place in places)]


def share_interval(share: float, rows: int) -> tuple[float, float]:
    """Compute the 95% interval of a share of right answers.

    It says what a handful of answers cannot: 5 of 5 right gives 0.57 to 1.

    Source:
        Wilson 1927, Journal of the American Statistical Association 22.
    """
    z = 1.96
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * math.sqrt(share * (1 - share) / rows + (z / (2 * rows)) ** 2) / (1 + z * z / rows)
    return max(middle - half, 0.0), min(middle + half, 1.0)
