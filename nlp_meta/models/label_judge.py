"""What held-out examples say of an adaptation to labels by inner steps.

Steps begin at a start, or behind a head that a support set has made already.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from nlp_meta.data.answers import only_predictions
from nlp_meta.data.episodes import Episode, count_texts, split_folds
from nlp_meta.encoders.lora import BIAS, WEIGHT
from nlp_meta.errors import DivergedError
from nlp_meta.meta.inner_loop import InnerLoop, Weights, adaptation_path, repeat
from nlp_meta.models.adaptation import FOLDS, hold_out, in_order
from nlp_meta.models.views import ViewHead
from nlp_meta.objectives.classification import Classification, fit_temperature, log_probabilities

BEHIND = InnerLoop(10, 1e-3, "adam")
"""Inner steps behind a head over views, for labels that a start never saw: number and rate were
chosen on 27 English tasks of meta-train and meta-validation (`recipes/RESULTS.md`)."""
MINIBATCH, LEAST = 16, 32
"""Examples of one such step, and of the smallest support set that takes them."""


def count_passed(examples: int) -> int:
    """Examples that go through the encoder where labels are new: for the head, then in steps."""
    steps = (FOLDS + 1) * BEHIND.steps * MINIBATCH
    return examples + steps if examples >= LEAST else examples


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
        judged = only_predictions(in_order(self.parts, answers))
        logs = log_probabilities(judged, self.objective.labels)
        # No support loss follows the last step, so the answers are what can tell.
        if not bool(logs.isfinite().all()):
            raise DivergedError(
                f"cannot adapt: after {step} steps the answers to held-out examples are not "
                "numbers and finite ones are needed; lower `learning_rate`"
            )
        return judge_logs(logs, self.targets)


def judge_logs(logs: Tensor, targets: Tensor, *, temperature: float | None = None) -> HeldOutLabels:
    """Judge answers to held-out examples.

    Args:
        logs: Log-probabilities, `(examples, labels)`.
        targets: Places of their labels, `(examples,)`.
        temperature: None fits it to these answers.
    """
    cold = fit_temperature(logs, targets) if temperature is None else temperature
    cooled = (logs / cold).log_softmax(-1)
    loss = float(torch.nn.functional.nll_loss(cooled, targets))
    accuracy = float((logs.argmax(-1) == targets).float().mean())
    return HeldOutLabels(loss, cold, accuracy, cooled)


@dataclass(frozen=True, slots=True)
class SteppedHead:
    """What inner steps behind a head gave.

    Attributes:
        weights: Without the task dimension, the head among them.
        encoder, both: What the held-out examples said, part by part, without n-grams and with
            them, at the temperature of both.
        targets: Places of their labels, `(examples,)`.
    """

    weights: dict[str, Tensor]
    encoder: HeldOutLabels
    both: HeldOutLabels
    targets: Tensor


def step_behind(
    objective: Classification,
    weights: Weights,
    heads: Sequence[ViewHead],
    support: Episode,
    counts: csr_matrix | None,
    parts: Sequence[Sequence[int]],
    *,
    on_step: Callable[[], None],
) -> SteppedHead:
    """Take inner steps with the head and the low-rank terms, from heads that are made already.

    All stand in one stack: the support sets without each held-out part, and the whole.

    Args:
        weights: Meta-parameters but for the head, without the task dimension.
        heads: Of the support set without each part, in their order; that of the whole last.
        counts: Of the n-grams of the support set; None leaves these out.
        parts: Places held out in turn, in order; one part or more.
        on_step: Called before the first step and behind each.

    Raises:
        DivergedError: A loss became infinite or not a number.

    Source:
        Kumar et al. 2022, arXiv:2202.10054, section 3.4: a linear probe, then fine-tuning.
    """
    plain, last = replace(objective, head="shared"), objective.plan.head[-1]
    folds, device = hold_out(support, parts), objective.backbone.device
    batches = plain.support_batches([*folds, support], minibatch=MINIBATCH)
    start = {
        **repeat(weights, tasks=len(heads)),
        last + WEIGHT: torch.stack([head.weight for head in heads]).to(device),
        last + BIAS: torch.stack([head.bias for head in heads]).to(device),
    }
    fast: Weights = start
    for fast in adaptation_path(plain.loss, start, batches, inner=BEHIND):  # noqa: B007
        on_step()
    of_folds = {name: value[:-1] for name, value in fast.items()}
    encoder = torch.cat(plain.predict(of_folds, plain.query_batches(folds))).double()
    logs, places = encoder, [place for part in parts for place in part]
    if counts is not None:
        pairs = zip(heads[:-1], parts, strict=True)
        scores = [head.ngrams.scores(counts[part]) for head, part in pairs if head.ngrams]
        logs = encoder + torch.from_numpy(np.concatenate(scores))
    targets = torch.tensor([support.labels.index(support.support[p].target) for p in places])
    both = judge_logs(logs, targets)
    without = judge_logs(encoder, targets, temperature=both.temperature)
    of_whole = {name: value[-1].detach().clone() for name, value in fast.items()}
    return SteppedHead(of_whole, without, both, targets)
