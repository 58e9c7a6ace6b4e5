"""Full fine-tuning: every parameter of the encoder moves, under a fresh linear head.

The ordinary recipe: AdamW, a rate that rises and falls linearly, shuffled minibatches,
the mean of the last states into one linear layer. One thing is not ordinary: dropout
stays off, as everywhere in this package, so that an episode and a seed decide everything.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean

import torch
from torch import Tensor, nn

from nlp_meta.data.answers import Learned, Prediction, Rival
from nlp_meta.data.episodes import Episode, Queries, SupportSet, support_targets
from nlp_meta.encoders.backbone import Backbone
from nlp_meta.encoders.batches import by_length, pad_rows, tokenize
from nlp_meta.errors import DivergedError, SettingsError
from nlp_meta.meta.objective import Metric, Trial, best_trial
from nlp_meta.objectives.classification import to_predictions

# Share of the schedule over which the rates rise, and the longest gradient that is not
# shortened: what fine-tuning of this kind is done with everywhere.
_WARMUP, _LONGEST_GRADIENT = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class FullFineTuning:
    """How far and how fast every parameter moves.

    Attributes:
        learning_rate: Of the encoder where it is highest.
        head_learning_rate: Of the head, which starts at zero and has further to go, so a
            higher one.
        steps: Updates that are made.
        decay_steps: Updates over which the rates would fall to 0; with fewer `steps` the
            run ends on the way, and is the beginning of the longer one.
        batch_size: Support examples of an update, about.
        seed: Of the order of the examples.
    """

    learning_rate: float
    head_learning_rate: float
    steps: int
    decay_steps: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        rates = self.learning_rate, self.head_learning_rate
        if min(rates) <= 0 or not 1 <= self.steps <= self.decay_steps or self.batch_size < 1:
            raise SettingsError(
                f"cannot fine-tune fully for {self.steps} of {self.decay_steps} steps of "
                f"{self.batch_size} examples at the rates {rates}: rates above 0, 1 or more "
                "examples and steps, and no more steps than the schedule has, are needed; change "
                "`rivals.full_learning_rates`, `rivals.full_steps` or `rivals.full_batch_size`"
            )

    def at_rate(self, learning_rate: float, *, steps: int) -> "FullFineTuning":
        """Another rate over a whole schedule; the head's rate keeps its ratio to it."""
        ratio = self.head_learning_rate / self.learning_rate
        return replace(
            self,
            learning_rate=learning_rate,
            head_learning_rate=ratio * learning_rate,
            steps=steps,
            decay_steps=steps,
        )

    def rate_at(self, step: int) -> float:
        """Share of the highest rate that update `step` is made with, counted from 1."""
        warmup = round(_WARMUP * self.decay_steps)
        if step <= warmup:
            return step / warmup
        return (self.decay_steps - step + 1) / (self.decay_steps - warmup)


@dataclass(frozen=True, slots=True)
class _Network:
    """A copy of the encoder, and the head of one episode's labels."""

    backbone: Backbone
    encoder: nn.Module
    weight: nn.Parameter
    bias: nn.Parameter
    absent: Tensor
    batch_tokens: int
    autocast: torch.dtype | None

    def run(self, ids: Sequence[Tensor]) -> Tensor:
        """Logits `(rows, labels)`, -inf for labels that the support set lacks."""
        padded, mask = pad_rows(ids, padding=self.backbone.tokenizer.pad_token_id or 0)
        device = self.weight.device
        padded, mask = padded.to(device), mask.to(device)
        with torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None):
            states = self.encoder(input_ids=padded, attention_mask=mask).last_hidden_state
        real = mask.unsqueeze(-1).float()
        pooled = (states.float() * real).sum(1) / real.sum(1)
        logits = nn.functional.linear(pooled, self.weight, self.bias)
        return logits.masked_fill(self.absent, -torch.inf)

    def groups(self, ids: Sequence[Tensor]) -> Iterator[list[int]]:
        """Rows that go through the encoder together."""
        return by_length([len(row) for row in ids], tokens=self.batch_tokens)


def full_fine_tune(
    backbone: Backbone, *, tuning: FullFineTuning, batch_tokens: int, autocast: torch.dtype | None
) -> Rival:
    """Make a method that fine-tunes a copy of the whole encoder on each support set.

    The backbone itself never changes, whatever its head: texts are read by the mean of
    the encoder's last states. A label of the task that the support set lacks has
    probability 0.

    Args:
        batch_tokens: Most tokens of one padded batch; a minibatch is cut into several.
        autocast: Dtype of the matrix products; None computes in float32.

    Raises:
        DivergedError, EpisodeError: In learning, for a loss that is not finite and for
            a support set of fewer than 2 labels.

    Source:
        Devlin et al. 2019, arXiv:1810.04805, section 4.1; warm-up, and more updates than
        few examples seem to need: Mosbach et al. 2021, arXiv:2006.04884, section 6.
    """

    def learn(support_set: SupportSet) -> Learned:
        network = _start(backbone, support_set, batch_tokens=batch_tokens, autocast=autocast)
        for _ in _path(network, support_set, tuning=tuning):
            pass

        def answer(queries: Queries) -> list[Prediction]:
            return _answer(network, queries, labels=support_set.labels)

        return answer

    return learn


def choose_full_fine_tuning(
    backbone: Backbone,
    episodes: Sequence[Episode],
    *,
    tuning: FullFineTuning,
    steps: Sequence[int],
    learning_rates: Sequence[float],
    metric: Metric,
    batch_tokens: int,
    autocast: torch.dtype | None,
) -> tuple[FullFineTuning, tuple[Trial, ...]]:
    """Find the steps and the rate that score best on episodes of unseen tasks.

    One run for each rate and episode serves all numbers of steps, as in
    `meta.objective.choose_adaptation`: the schedule is that of the longest, which the
    chosen ones keep. A rate at which a loss becomes infinite scores nothing.

    Args:
        tuning: Its steps, schedule and rate are replaced; the head's rate keeps its ratio.

    Returns:
        The best choice, of equal ones the shortest, and every trial.

    Raises:
        SettingsError: No steps or no rates.
        DivergedError: No rate has finite losses.
    """
    if not steps or not learning_rates:
        raise SettingsError(
            f"cannot choose among the steps {list(steps)} and the rates {list(learning_rates)}: "
            "at least one of each is needed; change `rivals.full_steps` or "
            "`rivals.full_learning_rates`"
        )
    runs = [tuning.at_rate(rate, steps=max(steps)) for rate in learning_rates]
    trials: list[Trial] = []
    for run in runs:
        scores: dict[int, list[float]] = {step: [] for step in steps}
        try:
            for episode in episodes:
                support_set = episode.support_set
                network = _start(
                    backbone, support_set, batch_tokens=batch_tokens, autocast=autocast
                )
                for step in _path(network, support_set, tuning=run):
                    if step in scores:
                        answers = _answer(network, episode.queries, labels=support_set.labels)
                        scores[step].append(metric(episode, answers))
        except DivergedError:
            scores = {step: [float("-inf")] for step in steps}
        trials += [Trial(step, run.learning_rate, fmean(values)) for step, values in scores.items()]
    best = best_trial(trials, setting="rivals.full_learning_rates")
    run = next(run for run in runs if run.learning_rate == best.learning_rate)
    return replace(run, steps=best.steps), tuple(trials)


def _start(
    backbone: Backbone, support_set: SupportSet, *, batch_tokens: int, autocast: torch.dtype | None
) -> _Network:
    """Copy the encoder, in float32 whatever the backbone is in: small updates would be lost."""
    present = set(support_targets(support_set, purpose="fine-tune"))
    labels = len(support_set.labels)
    with backbone.running():
        encoder = copy.deepcopy(backbone.encoder).float().requires_grad_(True)
    shape = labels, int(backbone.config.hidden_size)
    return _Network(
        backbone,
        encoder,
        weight=nn.Parameter(torch.zeros(shape, device=backbone.device)),
        bias=nn.Parameter(torch.zeros(shape[0], device=backbone.device)),
        absent=torch.tensor([place not in present for place in range(labels)]).to(backbone.device),
        batch_tokens=batch_tokens,
        autocast=autocast,
    )


def _path(network: _Network, support_set: SupportSet, *, tuning: FullFineTuning) -> Iterator[int]:
    """Move the network in place; yield the number of each update when it has been made."""
    ids = tokenize(network.backbone, support_set.texts)
    targets = torch.tensor(support_targets(support_set, purpose="fine-tune"))
    head = [network.weight, network.bias]
    body = list(network.encoder.parameters())
    highest = tuning.learning_rate, tuning.head_learning_rate
    # Fused: ten times as fast on a CPU, where most parameters are embeddings.
    optimizer = torch.optim.AdamW([{"params": body}, {"params": head}], fused=True)
    minibatches = _minibatches(len(ids), size=tuning.batch_size, seed=tuning.seed)
    for step, rows in enumerate(islice(minibatches, tuning.steps), start=1):
        loss = _backward(network, [ids[row] for row in rows], targets[rows])
        if not loss < float("inf"):
            raise DivergedError(
                f"cannot fine-tune on task '{support_set.task}': its support loss at step "
                f"{step} is {loss}; a finite loss is needed; lower `rivals.full_learning_rates`"
            )
        nn.utils.clip_grad_norm_([*body, *head], _LONGEST_GRADIENT)
        for group, rate in zip(optimizer.param_groups, highest, strict=True):
            group["lr"] = rate * tuning.rate_at(step)
        optimizer.step()
        optimizer.zero_grad()
        yield step


def _minibatches(count: int, *, size: int, seed: int) -> Iterator[list[int]]:
    """Rows of one minibatch after another, without end: every epoch in another order."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator)
        for rows in order.tensor_split(max(1, round(count / size))):
            yield rows.tolist()


def _backward(network: _Network, ids: Sequence[Tensor], targets: Tensor) -> float:
    """Mean cross-entropy of a minibatch, in nats; its gradient is left on the parameters."""
    total = 0.0
    for rows in network.groups(ids):
        logits = network.run([ids[row] for row in rows])
        wanted = targets[rows].to(logits.device)
        loss = nn.functional.cross_entropy(logits, wanted, reduction="sum") / len(ids)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total


@torch.no_grad()
def _answer(network: _Network, queries: Queries, *, labels: Sequence[str]) -> list[Prediction]:
    ids = tokenize(network.backbone, queries.texts)
    logs = torch.empty(len(ids), len(labels))
    for rows in network.groups(ids):
        logs[rows] = network.run([ids[row] for row in rows]).log_softmax(-1).cpu()
    return to_predictions(logs, labels, labels)
