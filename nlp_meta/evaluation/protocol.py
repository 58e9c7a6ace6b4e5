"""Protocol: every method answers the same episodes, and none sees a query label."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from nlp_meta.data.answers import Predict, Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import DataError
from nlp_meta.evaluation.metrics import METRICS, score_episode
from nlp_meta.evaluation.statistics import hierarchical_interval


@dataclass(frozen=True, slots=True)
class Cell:
    """What one method scored on one episode.

    Attributes:
        labels_total: Support examples in all.
        draw: Number of the support draw, the episode's index.
        seconds: From support set to answers: adaptation and prediction together.
        rows: Query examples.
    """

    task: str
    labels_total: int
    draw: int
    accuracy: float
    macro_f1: float
    ece: float
    seconds: float
    rows: int


@dataclass(frozen=True, slots=True)
class Scores:
    """What one method scored, in the order of the episodes."""

    method: str
    cells: tuple[Cell, ...]


def evaluate(
    predict: Predict,
    episodes: Sequence[Episode],
    *,
    method: str,
    on_cell: Callable[[Cell], None] | None = None,
) -> Scores:
    """Score a predictor on episodes, handing it the query texts without their labels.

    Args:
        on_cell: Called after each episode: progress, or keeping what is done.

    Raises:
        DataError: Not one prediction for each query text, or one whose label or
            probabilities are not those of the task; names method, task and draw.
    """
    cells = []
    for episode in episodes:
        hidden = hide_query(episode)
        started = time.perf_counter()
        predictions = predict(hidden)
        seconds = time.perf_counter() - started
        _check_predictions(predictions, episode, method=method)
        cell = Cell(
            task=episode.task,
            labels_total=len(episode.support),
            draw=episode.index,
            **score_episode(episode, predictions),
            seconds=seconds,
            rows=len(episode.query),
        )
        cells.append(cell)
        if on_cell is not None:
            on_cell(cell)
    return Scores(method, tuple(cells))


def hide_query(episode: Episode) -> Episode:
    """Copy an episode with nothing left of its query set but the texts.

    Groups go too: in a parallel corpus they lead to translations with a label.
    """
    return replace(episode, query=tuple(Example(one.source, "") for one in episode.query))


def summarize(
    scores: Sequence[Scores],
    *,
    metric: str,
    over_tasks: bool,
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> dict[str, dict[str, float]]:
    """Mean and interval of each method, by `hierarchical_interval` over tasks and draws.

    Args:
        metric: A name of `METRICS`, or `seconds`.

    Returns:
        `{method: {"mean": ..., "low": ..., "high": ...}}`, in the order given.

    Raises:
        DataError: Methods that were not judged on the same tasks and draws, a method
            twice or with several numbers of labels, or too little for an interval.
    """
    _check_comparable(scores)
    return {
        one.method: asdict(
            hierarchical_interval(
                scores_by_task(one, metric=metric),
                over_tasks=over_tasks,
                level=level,
                resamples=resamples,
                seed=seed,
            )
        )
        for one in scores
    }


def scores_by_task(scores: Scores, *, metric: str) -> dict[str, list[float]]:
    """Scores of a method's draws, by task, in the order of the cells.

    Raises:
        DataError: `metric` is neither in `METRICS` nor `seconds`.
    """
    if metric not in (*METRICS, "seconds"):
        raise DataError(
            f"cannot summarize by '{metric}': one of {', '.join((*METRICS, 'seconds'))} is "
            "needed; change `metric`"
        )
    cells: dict[str, list[float]] = {}
    for cell in scores.cells:
        cells.setdefault(cell.task, []).append(float(getattr(cell, metric)))
    return cells


def _check_predictions(predictions: Sequence[Prediction], episode: Episode, *, method: str) -> None:
    where = f"cannot score method '{method}' on task '{episode.task}', draw {episode.index}"
    if len(predictions) != len(episode.query):
        raise DataError(
            f"{where}: it gave {len(predictions)} predictions for {len(episode.query)} texts, "
            "one for each is needed; correct its predictor"
        )
    for row, one in enumerate(predictions):
        known = set(one.probabilities) == set(episode.labels) and one.label in episode.labels
        # NaN fails this comparison, as it must; float32 rounding passes it.
        if not known or not math.isclose(sum(one.probabilities.values()), 1, abs_tol=1e-3):
            raise DataError(
                f"{where}: for text {row} it gave {one}, a probability for each of "
                f"{', '.join(episode.labels)} that add up to 1 is needed; correct its predictor"
            )


def _check_comparable(scores: Sequence[Scores]) -> None:
    names = [one.method for one in scores]
    episodes = [sorted((cell.task, cell.draw) for cell in one.cells) for one in scores]
    for number, one in enumerate(scores):
        totals = sorted({cell.labels_total for cell in one.cells})
        if len(totals) > 1:
            raise DataError(
                f"cannot summarize method '{one.method}' over {totals} labels at once: one number "
                "of labels a summary is needed; summarize each on its own"
            )
        if names.count(one.method) > 1:
            raise DataError(
                f"cannot summarize {names.count(one.method)} methods named '{one.method}': names "
                "must differ; change `method`"
            )
        if episodes[number] != episodes[0]:
            raise DataError(
                f"cannot compare '{one.method}' ({len(episodes[number])} episodes) with "
                f"'{names[0]}' ({len(episodes[0])}): the same tasks and draws are needed; "
                "evaluate both on the same episodes"
            )
