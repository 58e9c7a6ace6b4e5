"""The companion: a model of character n-grams beside an adapted encoder, and their mixture.

N-grams carry what the subword vocabulary of an encoder breaks apart. Both answer the
held-out folds of the support set, the same folds; how far their log-odds are mixed, and
whether at all, is what these answers say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nlp_meta.data.answers import Prediction
from nlp_meta.data.tasks import Example
from nlp_meta.models.adaptation import FOLDS
from nlp_meta.objectives.classification import fit_temperature, log_probabilities, to_predictions
from nlp_meta.objectives.ngrams import NgramModel, fit_ngrams, held_out_parts

FACTORS = ("encoder", "ngrams")
REGULARIZATION = (1.0, 3.0, 10.0, 30.0, 100.0)
WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the n-grams to choose from: a companion has no more to say than the encoder."""


@dataclass(frozen=True, slots=True)
class CompanionReport:
    """What the held-out folds said of the encoder and the n-grams, alone and mixed.

    Attributes:
        on: The n-grams take part in predictions.
        weight: Their share in the mixture; the best one where they take no part.
        prior_scale: How much of the meta-trained n-gram weights they started from.
        encoder_loss, mixed_loss: In nats.
    """

    on: bool
    weight: float
    prior_scale: float
    encoder_accuracy: float
    ngram_accuracy: float
    mixed_accuracy: float
    encoder_loss: float
    ngram_loss: float
    mixed_loss: float


@dataclass(frozen=True, slots=True, eq=False)
class Companion:
    """N-grams and what they count for: log-probabilities times factors, added.

    Attributes:
        encoder_factor, ngram_factor: Shares of the mixture; that of the n-grams is divided by
            their temperature, which that of the encoder's answers already is.
    """

    model: NgramModel
    encoder_factor: float
    ngram_factor: float

    @classmethod
    def of(cls, model: NgramModel, factors: Mapping[str, float]) -> "Companion":
        """Build from what was stored."""
        return cls(model, *(factors[name] for name in FACTORS))

    @property
    def factors(self) -> dict[str, float]:
        """By name, to be stored."""
        return dict(zip(FACTORS, (self.encoder_factor, self.ngram_factor), strict=True))

    def mix(self, texts: Sequence[str], answers: Sequence[Prediction]) -> list[Prediction]:
        """Mix an encoder's answers to texts with those of the n-grams."""
        if not texts:
            return []
        labels = self.model.labels
        ngram_logs = torch.from_numpy(
            self.model.log_probabilities([text.strip() for text in texts])
        )
        mixed = (
            self.encoder_factor * log_probabilities(answers, labels)
            + self.ngram_factor * ngram_logs
        )
        return to_predictions(mixed.log_softmax(-1), labels, labels)


def find_companion(
    support: Sequence[Example],
    labels: Sequence[str],
    encoder: Tensor,
    *,
    prior: NgramModel | None,
    when: str,
    seed: int,
) -> tuple[Companion | None, CompanionReport | None, Tensor]:
    """Fit the n-grams of a support set and weigh them against its adapted encoder.

    Args:
        labels: In the order of the encoder's logits.
        encoder: The encoder's calibrated answers to the held-out folds, log-probabilities
            `(examples, labels)`.
        when: `auto` takes the n-grams where they lower the held-out loss, `ngrams` always,
            `none` never.
        seed: Of the adaptation, so that the folds are the same.

    Returns:
        The n-grams and their report, None where they were not asked for; and what both together
        answer to the held-out folds, as `encoder`.
    """
    if when == "none":
        return None, None, encoder
    fitted = fit_ngrams(
        support,
        labels,
        parts=held_out_parts(support, folds=FOLDS, seed=seed),
        regularization=REGULARIZATION,
        prior=prior,
    )
    targets = torch.tensor([labels.index(example.target) for example in support])
    ngram_logs = torch.from_numpy(fitted.held_out)
    cold = fit_temperature(ngram_logs, targets)
    ngram_logs = (ngram_logs / cold).log_softmax(-1)
    weight, mixed = _weigh(encoder, ngram_logs, targets)
    answers = (encoder, ngram_logs, mixed)
    losses = [_loss(logs, targets) for logs in answers]
    right = [float((logs.argmax(-1) == targets).double().mean()) for logs in answers]
    on = when == "ngrams" or losses[2] < losses[0]
    report = CompanionReport(on, weight, fitted.prior_scale, *right, *losses)
    companion = Companion(fitted.model, 1 - weight, weight / cold) if on else None
    return companion, report, mixed if on else encoder


def _weigh(encoder: Tensor, ngrams: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    """Share of the n-grams with the least held-out loss, and the mixture that it gives.

    Each side is calibrated by itself. A temperature of the mixture, fitted to the same few
    answers as its weight, makes it far too sure.
    """
    mixed = {w: ((1 - w) * encoder + w * ngrams).log_softmax(-1) for w in WEIGHTS}
    best = min(WEIGHTS, key=lambda weight: _loss(mixed[weight], targets))
    return best, mixed[best]


def _loss(logs: Tensor, targets: Tensor) -> float:
    return float(torch.nn.functional.nll_loss(logs, targets))
