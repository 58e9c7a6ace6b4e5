"""From a meta-model and a few dozen labels to an adapted model: the steps in between.

Calibration: one temperature that makes probabilities as sure as they are right.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from nlp_meta.data.answers import Prediction, only_predictions
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import Backbone, choose_autocast, choose_device, load_backbone
from nlp_meta.encoders.batches import tokenize
from nlp_meta.encoders.lora import BIAS, WEIGHT
from nlp_meta.encoders.prefix import whole_network
from nlp_meta.errors import DataError, DivergedError
from nlp_meta.meta.choice import held_out_path
from nlp_meta.meta.inner_loop import (
    STEP_SIZE,
    InnerLoop,
    Weights,
    adaptation_path,
    drop_step_sizes,
    repeat,
)
from nlp_meta.meta.objective import begin_episodes
from nlp_meta.models.texts import count_long_texts
from nlp_meta.objectives.classification import Classification, build_classification
from nlp_meta.objectives.retrieval import Retrieval, build_retrieval
from nlp_meta.progress import Ticker
from nlp_meta.settings import ModelSettings

LOWEST, HIGHEST = 0.25, 8.0
"""Bounds of a temperature: a few dozen examples cannot speak for more."""


def fit_temperature(log_probabilities: Tensor, targets: Tensor) -> float:
    """Temperature that makes held-out answers most likely.

    Args:
        log_probabilities: `(examples, labels)`, of examples that were not adapted to.
        targets: `(examples,)` indices of labels.

    Returns:
        What logits are divided by, between 0.25 and 8.

    Source:
        Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """

    def loss(log_temperature: float) -> float:
        scaled = log_probabilities.double() / math.exp(log_temperature)
        return float(torch.nn.functional.cross_entropy(scaled, targets))

    bounds = (math.log(LOWEST), math.log(HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded")
    return math.exp(float(found.x))


FOLDS = 4
STOPS = (0.25, 0.5, 1.0)
"""Shares of the inner steps after which an adaptation may stop early."""
PREDICTION_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Calibrated:
    """An adaptation, and what the held-out folds of its support set said.

    Attributes:
        held_out: Log-probabilities of the support examples, `(examples, labels)`, each by
            an adaptation that had not seen it; the temperature is in them.
    """

    weights: dict[str, Tensor]
    steps: int
    temperature: float
    held_out_accuracy: float
    held_out: Tensor


def build_objective(
    settings: ModelSettings,
    *,
    labels: Sequence[str],
    device: torch.device | str | None = None,
    precision: str = "auto",
    batch_tokens: int = 2048,
    token: str | None = None,
) -> Classification:
    """Load the backbone that settings name and plan its adapter."""
    backbone = _load_backbone(settings, device, token=token)
    return build_classification(
        backbone,
        labels=labels,
        head=settings.head,
        lora_r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_layers=settings.lora_layers,
        lora_target_modules=settings.lora_target_modules,
        autocast=choose_autocast(precision, backbone.device),
        batch_tokens=batch_tokens,
    )


def build_retriever(
    settings: ModelSettings,
    *,
    device: torch.device | str | None = None,
    precision: str = "auto",
    batch_tokens: int = 2048,
    token: str | None = None,
) -> Retrieval:
    """Load the backbone that settings name to find translations with; it has no head."""
    backbone = _load_backbone(settings, device, token=token)
    return build_retrieval(
        backbone,
        lora_r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_layers=settings.lora_layers,
        lora_target_modules=settings.lora_target_modules,
        autocast=choose_autocast(precision, backbone.device),
        batch_tokens=batch_tokens,
    )


def _load_backbone(
    settings: ModelSettings, device: torch.device | str | None, *, token: str | None
) -> Backbone:
    return load_backbone(
        settings.model_name_or_path,
        pooling=settings.pooling,
        max_tokens=settings.max_tokens,
        prefix_text=settings.prefix_text,
        device=choose_device(device),
        revision=settings.revision,
        token=token,
    )


def narrow_labels(
    objective: Classification, meta_parameters: Weights, labels: Iterable[str], *, shared: bool
) -> tuple[Classification, dict[str, Tensor]]:
    """Fit the objective and the meta-parameters to the labels of one domain.

    Of a shared head the rows of these labels remain, which answers as masking the
    others would. Labels that meta-training never saw get a head of prototypes.
    """
    used = set(labels)
    last = objective.plan.head[-1]
    own = {last + WEIGHT, last + BIAS}
    if not shared:
        names = tuple(sorted(used))
        dropped = own | {STEP_SIZE + name for name in own}
        kept = {name: v for name, v in meta_parameters.items() if name not in dropped}
        return replace(objective, labels=names, head="prototype"), kept
    rows = [place for place, name in enumerate(objective.labels) if name in used]
    names = tuple(objective.labels[row] for row in rows)
    narrowed = {n: v[rows] if n in own else v for n, v in meta_parameters.items()}
    return replace(objective, labels=names), narrowed


def adapt_calibrated(
    objective: Classification,
    meta_parameters: Weights,
    support: Sequence[Example],
    *,
    inner: InnerLoop,
    minibatch: int | None,
    early_stop: bool,
    seed: int,
    on_step: Callable[[int, int], None] | None,
) -> Calibrated:
    """Adapt to a support set, as long and as sure as its held-out folds advise.

    K copies of the support set, each without one fold, are adapted in one stack. Their
    answers to the folds that they have not seen choose the number of steps (of 0, a
    quarter, a half and all) and the temperature, which is folded into the last linear
    layer, so that a plain softmax is calibrated wherever the model is loaded.
    """
    episode = Episode("support", objective.labels, tuple(support), (), 0)
    tick = Ticker(on_step, total=2 * inner.steps)
    fewest = min(sum(e.target == name for e in support) for name in objective.labels)
    found = held_out_path(
        objective,
        meta_parameters,
        episode,
        inner=inner,
        minibatch=minibatch,
        at_steps=_stops(objective, inner.steps) if early_stop else [inner.steps],
        folds=min(FOLDS, fewest),
        seed=seed,
        on_step=tick,
    )
    answers = {step: only_predictions(some) for step, some in found.items()}
    steps, temperature, accuracy, logs = _advise(answers, support, objective.labels)
    batches, start = begin_episodes(objective, meta_parameters, [episode], minibatch=minibatch)
    path = adaptation_path(objective.loss, start, batches, inner=replace(inner, steps=steps))
    fast: Weights = start
    for fast in path:  # noqa: B007  the last one is the result
        tick()
    return Calibrated(_cool(objective, fast, temperature), steps, temperature, accuracy, logs)


def _stops(objective: Classification, steps: int) -> list[int]:
    """Numbers of steps to choose among; a shared head already answers at 0."""
    stops = {round(steps * share) for share in STOPS} - {0}
    return sorted(stops | ({0} if objective.head == "shared" else set()))


def _advise(
    answers: Mapping[int, Sequence[Prediction]], support: Sequence[Example], labels: Sequence[str]
) -> tuple[int, float, float, Tensor]:
    """Steps with the least held-out loss, their temperature, accuracy and cooled answers."""
    targets = torch.tensor([labels.index(example.target) for example in support])
    best: tuple[float, int, float, float, Tensor] | None = None
    for step in sorted(answers, reverse=True):
        logs = log_probabilities(answers[step], labels)
        _check_finite(logs, step)
        temperature = fit_temperature(logs, targets)
        cooled = (logs / temperature).log_softmax(-1)
        loss = float(torch.nn.functional.nll_loss(cooled, targets))
        if best is None or loss < best[0]:
            right = float((logs.argmax(-1) == targets).float().mean())
            best = (loss, step, temperature, right, cooled)
    if best is None:
        raise ValueError("no answers to choose among")
    return best[1:]


def predict_texts(
    objective: Classification, weights: Weights, texts: Sequence[str]
) -> list[Prediction]:
    """Answer texts with one set of weights, in float32, through the whole model.

    Raises:
        DataError: A text is empty.
    """
    check_texts(texts)
    if not texts:
        return []
    exact = replace(
        objective,
        network=whole_network(objective.backbone),
        autocast=None,
        batch_tokens=PREDICTION_TOKENS,
    )
    query = tuple(Example(text.strip(), "") for text in texts)
    episode = Episode("texts", objective.labels, (), query, 0)
    stacked = repeat(weights, tasks=1)
    return exact.answer(stacked, exact.query_batches([episode]), [episode])[0]


def check_pairs(texts: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse texts and labels that differ in number, and empty texts."""
    if len(texts) != len(labels):
        raise DataError(
            f"cannot adapt to {len(texts)} texts with {len(labels)} labels: one label for each "
            "text is needed; give as many"
        )
    check_texts(texts)


def check_texts(texts: Sequence[str]) -> None:
    """Refuse empty texts, by their place."""
    for place, text in enumerate(texts, start=1):
        if not text.strip():
            raise DataError(
                f"cannot read text {place} of {len(texts)}: it is empty and every text needs at "
                "least one character; leave it out"
            )


def count_cut(
    objective: Classification | Retrieval,
    texts: Sequence[str],
    *,
    long_texts: str,
    name: Callable[[int], str] = lambda place: f"text {place + 1}",
) -> int:
    """Number of texts longer than the encoder takes.

    Args:
        name: What a text is called, by its place from 0.

    Raises:
        DataError: There are some and `long_texts` is `stop`.
    """
    longest = objective.backbone.max_tokens
    rows = tokenize(replace(objective.backbone, max_tokens=longest + 1), texts)
    lengths = list(map(len, rows))
    return count_long_texts(lengths, longest=longest, long_texts=long_texts, name=name)


def log_probabilities(answers: Sequence[Prediction], labels: Sequence[str]) -> Tensor:
    """Logarithms of predictions, `(texts, labels)`, float64; never infinite."""
    rows = [[answer.probabilities[name] for name in labels] for answer in answers]
    return torch.tensor(rows, dtype=torch.float64).clamp(min=1e-12).log()


def _check_finite(logs: Tensor, step: int) -> None:
    """No support loss follows the last step, so its answers are what can tell."""
    if not bool(logs.isfinite().all()):
        raise DivergedError(
            f"cannot adapt: after {step} steps the answers to held-out examples are not numbers "
            "and finite ones are needed; lower the learning rate (`--learning-rate`, "
            "`learning_rate`)"
        )


def _cool(objective: Classification, fast: Weights, temperature: float) -> dict[str, Tensor]:
    """Unstack one episode's fast weights and divide its logits by the temperature."""
    last = objective.plan.head[-1]
    own: Mapping[str, float] = {last + WEIGHT: temperature, last + BIAS: temperature}
    return {
        name: value[0].detach().clone() / own.get(name, 1.0)
        for name, value in drop_step_sizes(fast).items()
    }
