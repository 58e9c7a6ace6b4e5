"""Diagnosis: how different tasks are, and what adaptation does to a start, step by step."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from statistics import fmean

import numpy as np
import torch
from scipy.sparse import diags_array
from torch import Tensor

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Task
from nlp_meta.errors import SettingsError
from nlp_meta.meta.inner_loop import InnerLoop, Loss, Minibatch, Weights, adaptation_path
from nlp_meta.meta.objective import Metric, Objective, begin_episodes, in_stacks
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.objectives.ngrams import FEATURES, count_ngrams, rarity_of
from nlp_meta.settings import MetaTraining
from nlp_meta.training.plan import find_metrics, judged_adaptation, validation_episodes

_LAYER = re.compile(r"\.(\d+)\.")

FEW_TASKS, FEW_DIFFERENT = 5, 2.0
"""Fewer tasks, or tasks that count as fewer different ones, teach themselves more than adapting."""
_TEXTS = 100  # of a task, which its n-grams are counted in

logger = logging.getLogger(__name__)


def count_different(tasks: Sequence[Task]) -> float:
    """How many different tasks some count as: 1 where all are alike, all where none is.

    Two tasks are as alike as the cosine of their mean n-grams, weighted by rarity over all texts.

    Source:
        Friedman and Dieng 2023, arXiv:2210.02410, definition 3.1.
    """
    texts = [[x.source for x in islice(task.train, _TEXTS)] for task in tasks]
    rows = count_ngrams([text for part in texts for text in part], features=FEATURES)
    rows = rows @ diags_array(rarity_of(rows))
    ends = np.cumsum([0, *map(len, texts)])
    means = np.stack(
        [np.asarray(rows[a:b].mean(axis=0)).ravel() for a, b in pairwise(ends.tolist())]
    )
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    shares = np.linalg.eigvalsh(means @ means.T / len(tasks)).clip(1e-12)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def tell_tasks(tasks: Sequence[Task]) -> None:
    """Log how many tasks of each kind there are, and how many different ones they count as.

    It is a warning where they are few, or too alike: a start then learns these tasks rather than
    how to adapt to another.
    """
    for kind in dict.fromkeys(task.kind for task in tasks):
        alike = [task for task in tasks if task.kind == kind and task.train]
        if len(alike) < 2:
            logger.warning("%d meta-train task of %s: at least 2 teach to adapt", len(alike), kind)
            continue
        different = count_different(alike)
        few = len(alike) < FEW_TASKS or different < FEW_DIFFERENT
        logger.log(
            logging.WARNING if few else logging.INFO,
            "%d meta-train tasks of %s count as %.1f different ones, by their n-grams%s",
            len(alike),
            kind,
            different,
            f": under {FEW_TASKS} tasks or {FEW_DIFFERENT:g} different ones a start learns these "
            "rather than to adapt; add tasks, of other kinds of texts"
            if few
            else "",
        )


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Means over episodes, and the score of each.

    Attributes:
        tasks: Of the episodes, in the order of the scores.
        scores: By number of steps, one an episode, so that two starts can be paired.
        support_loss: By number of steps, in nats, on the whole support set.
        query_loss: The same on the query set: where it rises, adaptation harms.
        adaptation_size: Length of the way from the start, by number of steps.
        relative_size: By group of tensors, the length of its way after the last step over
            the length of its start; `layer 5`, or `head`.
    """

    tasks: list[str]
    scores: dict[int, list[float]]
    support_loss: dict[int, float]
    query_loss: dict[int, float]
    adaptation_size: dict[int, float]
    relative_size: dict[str, float]


def diagnose(
    objective: Objective,
    meta_parameters: Weights,
    episodes: Sequence[Episode],
    *,
    inner: InnerLoop,
    minibatch: int | None,
    at_steps: Sequence[int],
    stack: int,
    metric: Metric,
) -> Diagnosis:
    """Follow the adaptation of a start to episodes whose query labels are known.

    Args:
        at_steps: Numbers of steps that losses are taken after; the last is the longest.
    """
    scores, support_loss, query_loss, sizes = (
        {step: list[float]() for step in at_steps} for _ in range(4)
    )
    relative: dict[str, list[float]] = {}
    for stacked in in_stacks(episodes, size=stack):
        support, start = begin_episodes(objective, meta_parameters, stacked, minibatch=minibatch)
        (whole,) = objective.support_batches(stacked, minibatch=None)
        query = objective.query_batches(stacked)
        fast: Weights = start
        path = adaptation_path(objective.loss, start, support, inner=inner)
        for step, fast in enumerate(path):
            if step in support_loss:
                support_loss[step] += _loss(objective.loss, fast, whole)
                query_loss[step] += _loss(objective.loss, fast, query)
                answers = objective.answer(fast, query, stacked)
                scores[step] += [metric(e, a) for e, a in zip(stacked, answers, strict=True)]
                sizes[step] += _length(start, fast, list(start)).tolist()
        for group, names in _group(start).items():
            way, begun = _length(start, fast, names), _length(None, start, names)
            relative.setdefault(group, []).extend((way / begun.clamp(min=1e-12)).tolist())
    return Diagnosis(
        [episode.task for episode in episodes],
        scores,
        {step: fmean(values) for step, values in support_loss.items()},
        {step: fmean(values) for step, values in query_loss.items()},
        {step: fmean(values) for step, values in sizes.items()},
        {group: fmean(values) for group, values in relative.items()},
    )


@torch.no_grad()
def _loss(loss: Loss, weights: Weights, batches: Minibatch) -> list[float]:
    losses: list[float] = torch.stack([loss(weights, batch) for batch in batches]).sum(0).tolist()
    return losses


def _group(weights: Weights) -> dict[str, list[str]]:
    """Tensors by layer; those of no layer are the head's."""
    groups: dict[str, list[str]] = {}
    for name in weights:
        layer = _LAYER.search(name)
        groups.setdefault(f"layer {layer[1]}" if layer else "head", []).append(name)
    return groups


def _length(start: Weights | None, end: Weights, names: Sequence[str]) -> Tensor:
    """Euclidean length of some tensors' way, or of the tensors themselves, `(tasks,)`."""
    ways = [end[name] - start[name] if start else end[name] for name in names]
    return (
        torch.stack([way.detach().reshape(len(way), -1).square().sum(1) for way in ways])
        .sum(0)
        .sqrt()
    )


def load_start(settings: MetaTraining) -> MetaModel:
    """The start that `run.init_from` names.

    Raises:
        SettingsError: It names none.
        MetaModelError: There is none of that name.
    """
    if settings.run.init_from is None:
        raise SettingsError(
            "cannot diagnose the pretrained encoder: a start is needed; set `run.init_from`"
        )
    return MetaModel.from_pretrained(settings.run.init_from)


def diagnose_start(
    settings: MetaTraining, model: MetaModel, validation: Sequence[Task]
) -> Diagnosis:
    """Follow the adaptation of `settings.adaptation` on fixed support draws of each task."""
    adaptation = settings.adaptation
    skill, objective = next(iter(model.objectives.items()))
    return diagnose(
        replace(objective, batch_tokens=settings.run.batch_tokens),
        model.start_of(skill),
        validation_episodes(validation, adaptation, (skill,)),
        inner=judged_adaptation(adaptation).inner,
        minibatch=adaptation.batch_size,
        at_steps=[0, *adaptation.steps],
        stack=adaptation.stack,
        metric=find_metrics(adaptation.metric, (skill,))[skill],
    )
