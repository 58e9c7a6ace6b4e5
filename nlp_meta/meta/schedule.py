"""The outer optimizer: any of `torch.optim`, with warm-up, decay and clipping."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nlp_meta.errors import SettingsError

SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True, slots=True)
class OuterLoop:
    """How the meta-parameters move.

    Attributes:
        steps: Outer steps at most.
        meta_batch_size: Episodes averaged into one outer step, over all processes.
        stack: Episodes that are adapted in one pass; bounds memory, not the result.
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
