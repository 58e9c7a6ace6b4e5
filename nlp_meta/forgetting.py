"""Forgetting: what further training did to each domain, old or new, with an interval.

Both meta-models adapt to the same support sets of a domain, each as it was found to need, and
answer the same held-out rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nlp_meta.baselines.fine_tune import fine_tune
from nlp_meta.data.card_parts import SENTIMENT
from nlp_meta.data.tasks import Task
from nlp_meta.evaluation.judged import Judged
from nlp_meta.evaluation.pairing import Paired, paired_difference
from nlp_meta.evaluation.protocol import judge
from nlp_meta.evaluation.records import row_key
from nlp_meta.evaluation.resampling import resampled_interval
from nlp_meta.evaluation.statistics import Interval
from nlp_meta.mixed_training import validation_episodes
from nlp_meta.models import MetaModel
from nlp_meta.settings import AdaptationSettings

RESAMPLES, LEVEL = 1000, 0.95


@dataclass(frozen=True, slots=True)
class DomainChange:
    """What an update did to one domain.

    Attributes:
        added: New in this update.
        rows: Held-out rows it was judged by, in each draw.
        difference: After minus before, on the same support sets and rows.
    """

    task: str
    added: bool
    rows: int
    before: Interval
    after: Interval
    difference: Paired

    @property
    def forgotten(self) -> bool:
        """An old domain is worse, beyond the interval."""
        return not self.added and self.difference.high < 0


@dataclass(frozen=True, slots=True)
class Forgetting:
    """All domains that could be judged, old ones first.

    Attributes:
        old: The old ones together; None where there is none.
    """

    old: Paired | None
    domains: tuple[DomainChange, ...]


def measure_forgetting(
    before: MetaModel,
    after: MetaModel,
    *,
    old: Sequence[Task],
    new: Sequence[Task],
    adaptation: AdaptationSettings,
) -> Forgetting:
    """Judge two meta-models on the test rows of each sentiment task.

    Args:
        adaptation: Draws, labels and metric; tasks with fewer rows are given fewer labels.
    """
    metric = adaptation.metric
    changes: list[DomainChange] = []
    first: list[Judged] = []
    second: list[Judged] = []
    for added, tasks in ((False, old), (True, new)):
        for task in tasks:
            if task.kind != SENTIMENT or len({row_key(one.source) for one in task.test}) < 2:
                continue
            one, other = (_judge(model, task, adaptation) for model in (before, after))
            if not added:
                first += one
                second += other
            scores = _interval(one, metric), _interval(other, metric)
            rows, difference = len(one[0].rows), _pair(other, one, metric)
            changes.append(DomainChange(task.name, added, rows, *scores, difference))
    return Forgetting(_pair(second, first, metric) if first else None, tuple(changes))


def _judge(model: MetaModel, task: Task, adaptation: AdaptationSettings) -> list[Judged]:
    # Draws of nearly all rows would be one and the same.
    labels = min(adaptation.labels, 3 * len(task.train) // 4)
    predict = fine_tune(
        model.objective, model.weights, inner=model.adaptation, minibatch=model.minibatch
    )
    return [
        Judged(
            task.name,
            episode.index,
            task.labels,
            tuple(row_key(one.source) for one in episode.query),
            tuple(one.target for one in episode.query),
            judge(predict, episode, method="meta-model")[1],
        )
        for episode in validation_episodes([task], replace(adaptation, labels=labels))
    ]


def _interval(judged: Sequence[Judged], metric: str) -> Interval:
    return resampled_interval(
        judged, metric, over_tasks=False, level=LEVEL, resamples=RESAMPLES, seed=0
    )


def _pair(after: Sequence[Judged], before: Sequence[Judged], metric: str) -> Paired:
    return paired_difference(
        after, before, metric, over_tasks=False, level=LEVEL, resamples=RESAMPLES, seed=0
    )
