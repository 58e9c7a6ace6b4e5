"""What held-out examples say of an adaptation to labels by inner steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nlp_meta.data.answers import only_predictions
from nlp_meta.data.episodes import Episode, count_texts, split_folds
from nlp_meta.errors import DivergedError
from nlp_meta.meta.inner_loop import Weights
from nlp_meta.models.adaptation import FOLDS, hold_out
from nlp_meta.objectives.classification import Classification, fit_temperature, log_probabilities


@dataclass(frozen=True, slots=True)
class HeldOutLabels:
    """What held-out examples said of an adaptation after some steps.

    Attributes:
        loss: In nats, at the temperature.
        temperature: What the logits are best divided by.
        accuracy: Of the support examples, each by an adaptation that had not seen it.
        logs: Log-probabilities of the support examples at the temperature,
            `(examples, labels)`.
    """

    loss: float
    temperature: float
    accuracy: float
    logs: Tensor


class LabelJudge:
    """Judges by the answers to held-out examples, K folds with like shares of each label."""

    def __init__(self, objective: Classification, support: Episode, *, seed: int) -> None:
        names = [example.target for example in support.support]
        fewest = min(count_texts(support.support).values())
        self.objective = objective
        self.parts = split_folds(support.support, folds=min(FOLDS, fewest), seed=seed)
        self.folds = hold_out(support, self.parts)
        self.targets = torch.tensor([support.labels.index(name) for name in names])
        self.query = objective.query_batches(self.folds)

    def __call__(self, fast: Weights, step: int) -> HeldOutLabels:
        """Judge the stacked weights of all folds.

        Raises:
            DivergedError: The answers are not numbers.
        """
        answers = self.objective.answer(fast, self.query, self.folds)
        by_place = {
            place: answer
            for part, row in zip(self.parts, answers, strict=True)
            for place, answer in zip(part, row, strict=True)
        }
        in_order = [by_place[place] for place in range(len(self.targets))]
        logs = log_probabilities(only_predictions(in_order), self.objective.labels)
        # No support loss follows the last step, so the answers are what can tell.
        if not bool(logs.isfinite().all()):
            raise DivergedError(
                f"cannot adapt: after {step} steps the answers to held-out examples are not "
                "numbers and finite ones are needed; lower `learning_rate`"
            )
        temperature = fit_temperature(logs, self.targets)
        cooled = (logs / temperature).log_softmax(-1)
        loss = float(torch.nn.functional.nll_loss(cooled, self.targets))
        accuracy = float((logs.argmax(-1) == self.targets).float().mean())
        return HeldOutLabels(loss, temperature, accuracy, cooled)
