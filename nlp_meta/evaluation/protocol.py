"""Protocol: every method answers the same episodes, and none sees a query label."""

import hashlib
import math
import time
from collections.abc import Sequence
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
        labels: Support examples in all.
        draw: Number of the support draw, the episode's index.
        rows: Query examples.
        seconds_adapt: From the support set to a predictor of this domain.
        ms_per_prediction: From a query text to its answer, in batches.
        support_hash: Of the support set: methods of the same hash learned from the same.
    """

    task: str
    labels: int
    draw: int
    rows: int
    accuracy: float
    macro_f1: float
    ece: float
    seconds_adapt: float
    ms_per_prediction: float
    support_hash: str


@dataclass(frozen=True, slots=True)
class Scores:
    """What one method scored, in the order of the episodes."""

    method: str
    cells: tuple[Cell, ...]


class Stopwatch:
    """Tells adaptation from prediction: a predictor is handed `adapted` as its `on_adapted`."""

    def __init__(self) -> None:
        self._began = self._adapted = time.perf_counter()

    def start(self) -> None:
        """Begin an episode; until `adapted` is called, adapting has taken no time."""
        self._began = self._adapted = time.perf_counter()

    def credit(self, seconds: float) -> None:
        """Count adaptation that was done before this episode and is used in it."""
        self._began -= seconds

    def adapted(self) -> None:
        """The support set has been learned, answering begins."""
        self._adapted = time.perf_counter()

    def read(self) -> tuple[float, float]:
        """Seconds of adaptation, and seconds since."""
        return self._adapted - self._began, time.perf_counter() - self._adapted


def evaluate(
    predict: Predict,
    episodes: Sequence[Episode],
    *,
    method: str,
    stopwatch: Stopwatch | None = None,
) -> Scores:
    """Score a predictor on episodes; arguments and errors are those of `judge`."""
    judged = (judge(predict, one, method=method, stopwatch=stopwatch) for one in episodes)
    return Scores(method, tuple(cell for cell, _ in judged))


def judge(
    predict: Predict, episode: Episode, *, method: str, stopwatch: Stopwatch | None = None
) -> tuple[Cell, tuple[Prediction, ...]]:
    """Score a predictor on an episode, handing it the query texts without their labels.

    Args:
        stopwatch: The one whose `adapted` the predictor calls; without it all the time
            counts as prediction.

    Raises:
        DataError: Not one prediction for each query text, or one whose label or
            probabilities are not those of the task; names method, task and draw.
    """
    watch = stopwatch or Stopwatch()
    watch.start()
    predictions = tuple(predict(hide_query(episode)))
    adapting, predicting = watch.read()
    _check_predictions(predictions, episode, method=method)
    cell = Cell(
        task=episode.task,
        labels=len(episode.support),
        draw=episode.index,
        rows=len(episode.query),
        **score_episode(episode, predictions),
        seconds_adapt=adapting,
        ms_per_prediction=1000 * predicting / len(episode.query),
        support_hash=hash_support(episode),
    )
    return cell, predictions


def hash_support(episode: Episode) -> str:
    """Sixteen hexadecimal digits that two support sets share if they are the same."""
    digest = hashlib.blake2b(digest_size=8)
    for example in episode.support:
        digest.update(f"{example.source}\x1f{example.target}\x1e".encode())
    return digest.hexdigest()


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
        metric: A name of `METRICS`, or `seconds_adapt`.

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
        DataError: `metric` is neither in `METRICS` nor `seconds_adapt`.
    """
    if metric not in (*METRICS, "seconds_adapt"):
        raise DataError(
            f"cannot summarize by '{metric}': one of {', '.join((*METRICS, 'seconds_adapt'))} is "
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
        totals = sorted({cell.labels for cell in one.cells})
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
