"""Answers: what a predictor gives for each query text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nlp_meta.data.episodes import Episode


@dataclass(frozen=True, slots=True)
class Prediction:
    """A label and how sure it is.

    Attributes:
        label: The most probable one; the first of the label order where two are equal.
        probabilities: By label, adding up to 1.
    """

    label: str
    probabilities: Mapping[str, float]


Predict = Callable[[Episode], Sequence[Prediction]]
"""A predictor: sees an episode's support set and the texts of its query set, no query label."""
