"""Outer loop: moves the meta-parameters along the mean meta-gradient of a meta-batch.

Episodes are functions of their number, so a run is a function of its settings: process
r of P takes the episodes r, r + P, ... of each meta-batch, the meta-gradients are added
up once per outer step, and every process makes the same step. Resuming needs the
number of the last step and the tensors, nothing else.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from nlp_meta.data.episodes import Episode
from nlp_meta.errors import DivergedError
from nlp_meta.meta.adaptation import InnerLoop, repeat
from nlp_meta.meta.algorithms import Algorithm
from nlp_meta.meta.checkpoints import load_checkpoint, save_checkpoint
from nlp_meta.meta.deviations import drop_deviations, join_deviations
from nlp_meta.meta.progress import Progress, StepRecord, begin_log, stop_signals, write_log
from nlp_meta.meta.schedule import OuterLoop, build_optimizer, clip, is_due, rate_at
from nlp_meta.meta.validation import Metric, Objective, in_stacks, score_path

CHECKPOINTS = "checkpoints"


class Stream(Protocol):
    """Episodes by number."""

    def at(self, index: int) -> Episode: ...


@dataclass(frozen=True, slots=True)
class Training:
    """What the episodes of a meta-batch are and how they adapt.

    Attributes:
        minibatch: Support examples of one inner step; None takes the whole support set.
    """

    objective: Objective
    stream: Stream
    algorithm: Algorithm
    inner: InnerLoop
    minibatch: int | None


@dataclass(frozen=True, slots=True)
class Validation:
    """How meta-parameters are judged: adapted to episodes of unseen tasks.

    Attributes:
        inner: The adaptation that is judged, which may differ from the one in training.
        stack: Episodes adapted in one pass.
    """

    episodes: Sequence[Episode]
    inner: InnerLoop
    minibatch: int | None
    stack: int
    metric: Metric


@dataclass(frozen=True, slots=True)
class MetaTrained:
    """The end of a run.

    Attributes:
        meta_parameters: The best judged ones; the last where nothing was judged.
        examples: Examples that went through forward and backward, over all processes.
        interrupted: Stopped by a signal; a checkpoint holds the state.
    """

    meta_parameters: dict[str, Tensor]
    step: int
    examples: int
    best_step: int
    best_score: float | None
    interrupted: bool


def meta_train(
    training: Training,
    meta_parameters: dict[str, Tensor],
    *,
    outer: OuterLoop,
    validation: Validation | None,
    accelerator: Accelerator,
    folder: Path,
    fingerprint: str,
    resume: bool = False,
    on_step: Callable[[StepRecord], None] | None = None,
) -> MetaTrained:
    """Move the meta-parameters for `outer.steps` outer steps, or until none judges better.

    Args:
        meta_parameters: Moved in place; the same on every process.
        folder: Gets `log.jsonl` and `checkpoints/`.
        fingerprint: Of the settings; a checkpoint of other settings is refused.
        resume: Go on from the newest checkpoint in `folder`.
        on_step: Called on every process after each outer step.

    Raises:
        CheckpointError: There is nothing to resume from, or it is of another run.
        DivergedError: A loss or the meta-gradient is infinite or not a number.
    """
    progress = Progress(meta_parameters, build_optimizer(meta_parameters, outer))
    if resume:
        progress.restore(load_checkpoint(folder / CHECKPOINTS), fingerprint)
    main = accelerator.is_main_process
    if main:
        begin_log(folder, after=progress.step)
    interrupted = False
    with stop_signals() as stopped:
        while not interrupted and not _is_over(progress, outer):
            record, interrupted = _judged_step(
                training, validation, progress, outer, accelerator, stopped
            )
            if main:
                write_log(folder, record)
                if interrupted or is_due(progress.step, outer.checkpoint_every, outer):
                    save_checkpoint(folder / CHECKPOINTS, progress.checkpoint(fingerprint))
            if on_step:
                on_step(record)
    accelerator.wait_for_everyone()
    return MetaTrained(
        meta_parameters=drop_deviations(progress.best or progress.found),
        step=progress.step,
        examples=progress.examples,
        best_step=progress.best_step,
        best_score=progress.best_score,
        interrupted=interrupted,
    )


def _judged_step(
    training: Training,
    validation: Validation | None,
    progress: Progress,
    outer: OuterLoop,
    accelerator: Accelerator,
    stopped: Event,
) -> tuple[StepRecord, bool]:
    """One outer step, judged where it is due; its record and whether a signal came."""
    began = time.monotonic()
    report = _outer_step(training, progress, outer, accelerator, stopped)
    interrupted = report.pop("stopped") > 0
    score = None
    if validation and is_due(progress.step, outer.validate_every, outer):
        score = _validate(training.objective, progress, validation, accelerator)
        progress.judge(score)
    record = StepRecord(
        step=progress.step,
        examples=progress.examples,
        score=score,
        best_score=progress.best_score,
        seconds=time.monotonic() - began,
        **report,
    )
    return record, interrupted


def _outer_step(
    training: Training,
    progress: Progress,
    outer: OuterLoop,
    accelerator: Accelerator,
    stopped: Event,
) -> dict[str, float]:
    """One meta-batch, one move; what it measured, averaged over the episodes."""
    first = progress.step * outer.meta_batch_size
    mine = range(
        first + accelerator.process_index,
        first + outer.meta_batch_size,
        accelerator.num_processes,
    )
    names = sorted(progress.meta_parameters)
    sums = {name: torch.zeros_like(progress.meta_parameters[name]) for name in names}
    measured = torch.zeros(5, dtype=torch.float64)
    for numbers in in_stacks(mine, size=outer.stack):
        episodes = [training.stream.at(number) for number in numbers]
        measured[:4] += _add_episodes(training, progress, episodes, sums)
    measured[4] = float(stopped.is_set())
    total, counts = _sum_processes(sums, measured, accelerator)
    mean = {name: value / outer.meta_batch_size for name, value in total.items()}
    gradient, norm = clip(mean, longest=outer.max_gradient_norm)
    progress.step += 1
    progress.examples += int(counts[3])
    _check_finite(norm, progress.step)
    rate = _move(progress, gradient, outer)
    if progress.step > outer.steps - outer.average_last:
        progress.average()
    before, after, size = (counts[:3] / outer.meta_batch_size).tolist()
    return {
        "learning_rate": rate,
        "loss_before": before,
        "loss_after": after,
        "adaptation_size": size,
        "gradient_norm": norm,
        "stopped": float(counts[4]),
    }


def _add_episodes(
    training: Training, progress: Progress, episodes: Sequence[Episode], sums: dict[str, Tensor]
) -> Tensor:
    """Add the meta-gradients of one stack to `sums`; sums of losses, sizes and examples."""
    objective = training.objective
    tasks = [episode.task for episode in episodes]
    support = objective.support_batches(episodes, minibatch=training.minibatch)
    found = training.algorithm(
        objective.loss,
        repeat(progress.meta_parameters, tasks=len(episodes)),
        support,
        objective.query_batches(episodes),
        inner=training.inner,
        start=lambda weights: objective.start(join_deviations(weights, tasks), support),
    )
    for name, total in sums.items():
        total += found.gradient[name].sum(0)
    # Reptile only measures its query sets; they count all the same, since the counts decide
    # how much a rival may train, and a rival should rather get too much.
    shown = sum(len(episode.support) for episode in episodes) * training.inner.steps
    seen = shown // max(len(support), 1) + sum(len(episode.query) for episode in episodes)
    sizes = (found.loss_before, found.loss_after, found.adaptation_size)
    return torch.tensor([*(float(each.sum()) for each in sizes), seen], dtype=torch.float64)


def _sum_processes(
    sums: dict[str, Tensor], measured: Tensor, accelerator: Accelerator
) -> tuple[dict[str, Tensor], Tensor]:
    """Add up over all processes, in one exchange of gradients and one of counts."""
    if accelerator.num_processes == 1:
        return sums, measured
    flat = torch.cat([value.flatten() for value in sums.values()])
    flat = accelerator.reduce(flat, reduction="sum")
    counts = accelerator.reduce(measured.float().to(flat.device), reduction="sum").cpu()
    total, place = {}, 0
    for name, value in sums.items():
        total[name] = flat[place : place + value.numel()].view_as(value)
        place += value.numel()
    return total, counts


def _move(progress: Progress, gradient: dict[str, Tensor], outer: OuterLoop) -> float:
    rate = rate_at(progress.step, outer)
    for group in progress.optimizer.param_groups:
        group["lr"] = rate
    for name, value in progress.meta_parameters.items():
        value.grad = gradient[name]
    progress.optimizer.step()
    progress.optimizer.zero_grad()
    return rate


def _validate(
    objective: Objective,
    progress: Progress,
    validation: Validation,
    accelerator: Accelerator,
) -> float:
    """Mean score over the validation episodes, each process adapting its share."""
    mine = validation.episodes[accelerator.process_index :: accelerator.num_processes]
    steps = validation.inner.steps
    total = 0.0
    for episodes in in_stacks(mine, size=validation.stack):
        scores = score_path(
            objective,
            drop_deviations(progress.found),
            episodes,
            inner=validation.inner,
            minibatch=validation.minibatch,
            at_steps=(steps,),
            metric=validation.metric,
        )
        total += sum(scores[steps])
    summed = accelerator.reduce(torch.tensor(total, device=accelerator.device), reduction="sum")
    return float(summed) / len(validation.episodes)


def _is_over(progress: Progress, outer: OuterLoop) -> bool:
    patient = outer.patience is None or progress.judged_since_best < outer.patience
    return progress.step >= outer.steps or not patient


def _check_finite(norm: float, step: int) -> None:
    if norm != norm or norm == float("inf"):
        raise DivergedError(
            f"cannot take outer step {step}: the meta-gradient's length is {norm} and a finite "
            "one is needed; lower `outer.learning_rate` or set `outer.max_gradient_norm`"
        )
