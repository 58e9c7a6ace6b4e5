"""Outer loop: moves the meta-parameters along the mean meta-gradient of a meta-batch.

Episodes are functions of their number, so a run is a function of its settings. A meta-batch
is cut into the same stacks for any number of processes up to that of the stacks; process r
of P adapts the stacks r, r + P, ... Their meta-gradients are added up in float64, whose sum
does not depend on the order by more than rounding to float32 takes away, and every process
makes the same step with any optimizer of `torch.optim`. Resuming needs the number of the
last step and the tensors, nothing else.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from threading import Event
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from nlp_meta.data.episodes import Episode, Stream
from nlp_meta.errors import DivergedError, SettingsError
from nlp_meta.meta.algorithms import Algorithm, query_loss
from nlp_meta.meta.inner_loop import InnerLoop, Weights, repeat
from nlp_meta.meta.objective import Objective, Validation, by_skill, in_stacks, score_path
from nlp_meta.meta.state import (
    CHECKPOINTS,
    Fingerprint,
    Progress,
    StepRecord,
    begin_log,
    hold_run,
    load_checkpoint,
    save_checkpoint,
    stop_signals,
    write_log,
)

SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True, slots=True)
class OuterLoop:
    """How the meta-parameters move.

    Attributes:
        steps: Outer steps at most.
        meta_batch_size: Episodes averaged into one outer step, over all processes.
        stack: Episodes that are adapted in one pass; bounds memory, and moves the result by
            rounding. `meta_batch_size / stack` processes or fewer give the same result.
        optimizer: Name of a class in `torch.optim`.
        options: Its further arguments, such as `weight_decay`.
        warmup_steps: Outer steps over which the rate rises from 0.
        schedule: `constant`, or `cosine` down to 0 at `steps`.
        max_gradient_norm: Longer mean meta-gradients are shortened to it; None never.
        validate_every: Outer steps between two judgements.
        patience: Judgements without a better score before the run stops; None never.
        checkpoint_every: Outer steps between two checkpoints.
        average_last: Of the last so many outer steps of `steps` the mean is judged and
            kept, in place of the meta-parameters where they stand; 0 never.
    """

    steps: int
    meta_batch_size: int
    stack: int
    optimizer: str
    learning_rate: float
    options: Mapping[str, Any]
    warmup_steps: int
    schedule: str
    max_gradient_norm: float | None
    validate_every: int
    patience: int | None
    checkpoint_every: int
    average_last: int

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise SettingsError(
                f"cannot schedule the outer rate by '{self.schedule}': one of "
                f"{', '.join(SCHEDULES)} is needed; change `outer.schedule`"
            )
        for name in ("meta_batch_size", "stack", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise SettingsError(
                    f"cannot run with {name} {getattr(self, name)}: 1 or more is needed; "
                    f"change `outer.{name}`"
                )
        if not 0 <= self.average_last <= self.steps:
            raise SettingsError(
                f"cannot average the last {self.average_last} of {self.steps} outer steps: 0 to "
                f"{self.steps} are needed; change `outer.average_last`"
            )


def build_optimizer(
    meta_parameters: Mapping[str, Tensor], outer: OuterLoop
) -> torch.optim.Optimizer:
    """Make the outer optimizer over the meta-parameters, in the order of their names.

    Raises:
        SettingsError: `torch.optim` has no such optimizer, or it lacks an option.
    """
    kind = getattr(torch.optim, outer.optimizer, None)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise SettingsError(
            f"cannot use the outer optimizer '{outer.optimizer}': the name of a class in "
            "torch.optim is needed, such as AdamW or SGD; change `outer.optimizer`"
        )
    tensors = [meta_parameters[name] for name in sorted(meta_parameters)]
    try:
        optimizer: torch.optim.Optimizer = kind(tensors, lr=outer.learning_rate, **outer.options)  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"cannot make the outer optimizer {outer.optimizer} ({error}): arguments that it "
            "takes are needed; change `outer.options`"
        ) from error
    return optimizer


def rate_at(step: int, outer: OuterLoop) -> float:
    """Learning rate of outer step `step`, counted from 1."""
    if step <= outer.warmup_steps:
        return outer.learning_rate * step / outer.warmup_steps
    if outer.schedule == "constant":
        return outer.learning_rate
    left = max(outer.steps - outer.warmup_steps, 1)
    done = (step - outer.warmup_steps - 1) / left
    return outer.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def is_due(step: int, every: int, outer: OuterLoop) -> bool:
    """Whether something happens behind outer step `step`; it does behind the last."""
    return step % every == 0 or step == outer.steps


def clip(
    gradient: Mapping[str, Tensor], *, longest: float | None
) -> tuple[dict[str, Tensor], float]:
    """Shorten a gradient to at most `longest`, and say how long it was."""
    norm = float(torch.stack([g.square().sum() for g in gradient.values()]).sum().sqrt())
    factor = 1.0 if longest is None or norm <= longest else longest / norm
    return {name: value * factor for name, value in gradient.items()}, norm


LOSS_BEFORE, LOSS_AFTER, SIZE, EPISODES, EXAMPLES = range(5)
MEASURES = 5
"""Sums over episodes, in this order: two losses, the way, their number, examples passed."""


@dataclass(frozen=True, slots=True)
class Training:
    """What the episodes of a meta-batch are and how they adapt.

    Attributes:
        objectives: By the skill of episode that they serve; all move the same meta-parameters,
            and one that has no part in a loss stays where it is.
        weights: Of each skill: its meta-gradients are multiplied by it before the mean over
            all episodes is taken.
        minibatch: Support examples of one inner step; None takes the whole support set.
    """

    objectives: Mapping[str, Objective]
    weights: Mapping[str, float]
    stream: Stream
    algorithm: Algorithm
    inner: InnerLoop
    minibatch: int | None


def add_stack(
    training: Training,
    skill: str,
    meta_parameters: Weights,
    episodes: Sequence[Episode],
    sums: Mapping[str, Tensor],
    *,
    compare: bool,
) -> Tensor:
    """Add the weighted meta-gradients of episodes of one skill to `sums`, in place.

    Args:
        compare: Measure the query loss before adaptation too, which takes a pass; else it is
            not a number.

    Returns:
        What they measured, `(MEASURES,)` in float64.
    """
    objective = training.objectives[skill]
    support = objective.support_batches(episodes, minibatch=training.minibatch)
    query, stack = objective.query_batches(episodes), repeat(meta_parameters, tasks=len(episodes))
    before = torch.tensor(math.nan)
    if compare:
        before = query_loss(objective.loss, objective.start(stack, support), query)
    starts: list[Weights] = []

    def begin(weights: Weights) -> Weights:
        starts.append(objective.start(weights, support))
        return starts[-1]

    meta_gradient = training.algorithm(
        objective.loss, stack, support, query, inner=training.inner, start=begin
    )
    for name, total in sums.items():
        total += training.weights[skill] * meta_gradient.gradient[name].sum(0)
    # A head that is made from the support set takes a pass over it.
    passes = training.inner.steps / max(len(support), 1) + (len(starts[0]) > len(stack))
    seen = count_seen(episodes, passes=passes)
    after, size = meta_gradient.loss_after, meta_gradient.adaptation_size
    sizes = torch.stack([before.to(after).sum(), after.sum(), size.sum()]).tolist()
    return torch.tensor([*sizes, len(episodes), seen], dtype=torch.float64)


def count_seen(episodes: Sequence[Episode], *, passes: float) -> int:
    """Examples that went through forward and backward, in so many passes over the support sets.

    Reptile only measures its query sets; they count all the same, since the counts decide
    how much a rival may train, and a rival should rather get too much.
    """
    shown = sum(len(episode.support) for episode in episodes) * passes
    return int(shown + 1e-6) + sum(len(episode.query) for episode in episodes)


def sum_processes(
    sums: Mapping[str, Tensor], measured: Tensor, reduce: Callable[[Tensor], Tensor] | None
) -> tuple[dict[str, Tensor], Tensor]:
    """Add up over all processes, in one exchange.

    Args:
        sums: In float64, where the device has it.
        reduce: Sums a tensor over the processes; None where there is one process.
    """
    if reduce is None:
        return dict(sums), measured
    parts = [*sums.values(), measured.to(next(iter(sums.values())))]
    flat = reduce(torch.cat([value.flatten() for value in parts]))
    pieces = torch.split(flat, [value.numel() for value in parts])
    *totals, counts = (piece.view_as(value) for piece, value in zip(pieces, parts, strict=True))
    return dict(zip(sums, totals, strict=True)), counts.cpu().double()


def describe_skills(skills: Sequence[str], measured: Tensor) -> dict[str, dict[str, float | None]]:
    """Means over the episodes of each skill that the meta-batch held.

    Args:
        measured: `(skills, MEASURES)`, over all processes.
    """
    return {
        skill: {
            "loss_before": _number(row[LOSS_BEFORE] / row[EPISODES]),
            "loss_after": float(row[LOSS_AFTER] / row[EPISODES]),
            "episodes": float(row[EPISODES]),
        }
        for skill, row in zip(skills, measured, strict=True)
        if row[EPISODES] > 0
    }


def _number(value: Tensor) -> float | None:
    """None where it was not measured."""
    return None if value.isnan() else float(value)


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


class Callback:
    """What a training tells of itself; inherit from it and write those that you want.

    What it raises ends the run, as an error of the training would.
    """

    def on_outer_step(self, record: StepRecord) -> None:
        """An outer step is done; on every process."""

    def on_validation(self, record: StepRecord) -> None:
        """The meta-parameters were judged, by `record.score`; on every process."""

    def on_checkpoint(self, record: StepRecord, folder: Path) -> None:
        """A checkpoint is whole, in `folder`; on the main process."""


def meta_train(
    training: Training,
    meta_parameters: dict[str, Tensor],
    *,
    outer: OuterLoop,
    validation: Validation | None,
    accelerator: Accelerator,
    folder: Path,
    fingerprint: Fingerprint,
    resume: bool = False,
    replace: bool = False,
    on_step: Callable[[StepRecord], None] | None = None,
    callbacks: Sequence[Callback] = (),
) -> MetaTrained:
    """Move the meta-parameters for `outer.steps` outer steps, or until none judges better.

    Args:
        meta_parameters: Moved in place; the same on every process.
        folder: Gets `log.jsonl` and `checkpoints/`.
        fingerprint: Of settings and data; a checkpoint of others is refused.
        resume: Go on from the newest checkpoint in `folder`.
        replace: A run that is in `folder` may be lost.
        on_step: Called on every process after each outer step.
        callbacks: Called next, in their order.

    Raises:
        CheckpointError: There is nothing to resume from, or it is of another run.
        OutputError: `folder` holds a run that would be lost, or the disk takes no more.
        DivergedError: A loss or the meta-gradient is infinite or not a number.
    """
    progress = Progress(meta_parameters, build_optimizer(meta_parameters, outer))
    main, interrupted = accelerator.is_main_process, False
    keep = hold_run(folder, resume=resume, replace=replace) if main else nullcontext()
    with keep, stop_signals() as stopped:
        if resume:
            progress.restore(load_checkpoint(folder / CHECKPOINTS), fingerprint)
        if main:
            begin_log(folder, after=progress.step)
        while not interrupted and not is_over(progress, outer):
            record, interrupted = _judged_step(
                training, validation, progress, outer, accelerator, stopped
            )
            saved = None
            if main:
                due = interrupted or is_due(progress.step, outer.checkpoint_every, outer)
                first = not resume and progress.step <= outer.checkpoint_every
                saved = _write(folder, record, progress, fingerprint, due=due, first=first)
            _tell(record, on_step, callbacks, saved)
    accelerator.wait_for_everyone()
    reached = {name: getattr(progress, name) for name in ("step", "examples", "best_step")}
    return MetaTrained(
        meta_parameters=progress.best or progress.current,
        best_score=progress.best_score,
        interrupted=interrupted,
        **reached,
    )


def _write(
    folder: Path,
    record: StepRecord,
    progress: Progress,
    fingerprint: Fingerprint,
    *,
    due: bool,
    first: bool,
) -> Path | None:
    """Write a line of the log and, where one is due, a checkpoint; its folder."""
    write_log(folder, record)
    if not due:
        return None
    return save_checkpoint(folder / CHECKPOINTS, progress.checkpoint(fingerprint), first=first)


def _tell(
    record: StepRecord,
    on_step: Callable[[StepRecord], None] | None,
    callbacks: Sequence[Callback],
    saved: Path | None,
) -> None:
    if on_step:
        on_step(record)
    for callback in callbacks:
        callback.on_outer_step(record)
        if record.score is not None:
            callback.on_validation(record)
        if saved is not None:
            callback.on_checkpoint(record, saved)


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
        scores = _validate(progress, validation, accelerator)
        score = fmean(scores.values())
        progress.judge(score)
        for skill, its in scores.items():
            report["skills"].setdefault(skill, {})["score"] = its
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
) -> dict[str, Any]:
    """One meta-batch, one move; what it measured, averaged over the episodes."""
    mean, measured, signals = _mean_gradient(training, progress, outer, accelerator, stopped)
    gradient, norm = clip(mean, longest=outer.max_gradient_norm)
    progress.step += 1
    progress.examples += int(measured[:, EXAMPLES].sum())
    _check_finite(norm, progress.step)
    rate = _move(progress, gradient, outer)
    if progress.step > outer.steps - outer.average_last:
        progress.average()
    before, after, size = measured.sum(0)[: SIZE + 1] / outer.meta_batch_size
    return {
        "learning_rate": rate,
        "loss_before": _number(before),
        "loss_after": float(after),
        "adaptation_size": float(size),
        "gradient_norm": norm,
        "skills": describe_skills(sorted(training.objectives), measured),
        "stopped": signals,
    }


def _mean_gradient(
    training: Training,
    progress: Progress,
    outer: OuterLoop,
    accelerator: Accelerator,
    stopped: Event,
) -> tuple[dict[str, Tensor], Tensor, float]:
    """Mean meta-gradient of the next meta-batch over all processes.

    Returns:
        It, what the skills measured, `(skills, MEASURES)`, and how many processes were told
        to stop.
    """
    skills, parameters = sorted(training.objectives), progress.meta_parameters
    wide = _wide(accelerator.device)
    sums = {name: torch.zeros_like(parameters[name], dtype=wide) for name in sorted(parameters)}
    measured = torch.zeros(len(skills), MEASURES, dtype=torch.float64)
    first = progress.step * outer.meta_batch_size
    meta_batch = [training.stream.at(first + place) for place in range(outer.meta_batch_size)]
    compare = progress.step == 0 or is_due(progress.step + 1, outer.validate_every, outer)
    for skill, episodes in own_stacks(meta_batch, size=outer.stack, accelerator=accelerator):
        measured[skills.index(skill)] += add_stack(
            training, skill, parameters, episodes, sums, compare=compare
        )
    tally = torch.cat([measured.flatten(), torch.tensor([float(stopped.is_set())]).double()])
    alone = accelerator.num_processes == 1
    reduce = None if alone else partial(accelerator.reduce, reduction="sum")
    totals, tally = sum_processes(sums, tally, reduce)
    mean = {
        name: (total / outer.meta_batch_size).to(parameters[name]) for name, total in totals.items()
    }
    return mean, tally[:-1].view_as(measured), float(tally[-1])


def own_stacks(
    episodes: Sequence[Episode], *, size: int, accelerator: Accelerator
) -> list[tuple[str, Sequence[Episode]]]:
    """Cut episodes into stacks of one skill, and take those of this process.

    Stacks are smaller than `size` only where some process would otherwise have none.
    """
    processes = accelerator.num_processes
    size = min(size, math.ceil(len(episodes) / processes))
    stacks = [
        (skill, stacked)
        for skill, its in by_skill(episodes).items()
        for stacked in in_stacks(its, size=size)
    ]
    return stacks[accelerator.process_index :: processes]


def _wide(device: torch.device) -> torch.dtype:
    """What to add up in: float64, but on a device that has none."""
    return torch.float32 if device.type == "mps" else torch.float64


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
    progress: Progress, validation: Validation, accelerator: Accelerator
) -> dict[str, float]:
    """Mean score over the validation episodes of each skill, each process adapting its share."""
    meta_parameters, judged = progress.current, by_skill(validation.episodes)
    totals = dict.fromkeys(judged, 0.0)
    for skill, episodes in own_stacks(
        validation.episodes, size=validation.stack, accelerator=accelerator
    ):
        scores = score_path(
            validation.objectives[skill],
            meta_parameters,
            episodes,
            inner=validation.inner,
            minibatch=validation.minibatch,
            at_steps=(validation.inner.steps,),
            metric=validation.metrics[skill],
        )
        totals[skill] += sum(scores[validation.inner.steps])
    device = accelerator.device
    summed = torch.tensor(list(totals.values()), dtype=_wide(device), device=device)
    summed = accelerator.reduce(summed, reduction="sum")
    return {
        skill: total / len(judged[skill])
        for skill, total in zip(totals, summed.tolist(), strict=True)
    }


def is_over(progress: Progress, outer: OuterLoop) -> bool:
    """Whether all outer steps are done, or too many judgements came without a better score."""
    patient = outer.patience is None or progress.judged_since_best < outer.patience
    return progress.step >= outer.steps or not patient


def _check_finite(norm: float, step: int) -> None:
    if norm != norm or norm == float("inf"):
        raise DivergedError(
            f"cannot take outer step {step}: the meta-gradient's length is {norm} and a finite "
            "one is needed; lower `outer.learning_rate` or set `outer.max_gradient_norm`"
        )
