"""Answers of a method, arranged so that any reweighting of the test rows is scored at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlp_meta.errors import DataError
from nlp_meta.evaluation.answers import Kept
from nlp_meta.evaluation.metrics import LOWER_IS_BETTER, Numbers, RowMetric, find_metric


@dataclass(frozen=True, slots=True)
class Judged:
    """One method's answers on one episode.

    Attributes:
        labels: Of the task; of translations the target language, of rankings nothing.
        rows: Keys of the query rows. What two draws share under one key, or two tasks (a
            sentence in two languages), is resampled together in both.
    """

    task: str
    draw: int
    labels: tuple[str, ...]
    rows: tuple[str, ...]
    true: tuple[str, ...]
    predictions: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class TermTable:
    """One method's answers on one task, as terms of a metric.

    Attributes:
        draws: Their numbers, ascending.
        keys: Of the test rows of all draws, sorted.
        terms: Summed over the rows of a key, `(keys, draws * terms)`.
        counts: Rows of a key in a draw, `(keys, draws)`.
        scores: On all rows, `(draws,)`.
    """

    metric: RowMetric
    draws: tuple[int, ...]
    keys: tuple[str, ...]
    terms: Numbers
    counts: Numbers
    scores: Numbers

    def sums(self, weights: Numbers) -> Numbers:
        """Terms summed over weighted keys, `(resamples, keys)` to `(resamples, draws, terms)`."""
        return (weights @ self.terms).reshape(len(weights), len(self.draws), -1)

    def finish(self, sums: Numbers, rows: Numbers) -> Numbers:
        """Sums and numbers of rows, `(resamples, draws)`, to scores.

        A resample without a row of some draw says nothing of it: its score stays.
        """
        divisor: Any = np.maximum(rows, 1)
        return np.where(rows > 0, self.metric.finish(sums, divisor), self.scores)


@dataclass(frozen=True, slots=True)
class Block:
    """Tasks that share test rows, directly or through others; most often one task."""

    tasks: tuple[str, ...]
    keys: tuple[str, ...]

    def places(self, table: TermTable) -> NDArray[np.int64]:
        """Where the keys of a table stand among those of the block."""
        return np.searchsorted(np.array(self.keys), np.array(table.keys))


def tabulate(judged: Sequence[Judged], metric: str) -> dict[str, TermTable]:
    """Arrange answers by task, in the order of the tasks' names.

    Args:
        metric: Of the skill of the answers: `accuracy`, `macro_f1`, `ece`, `chrf`, ...

    Raises:
        DataError: No answer; an episode twice, or with keys, true labels and predictions
            of different numbers; a task whose labels differ between draws.
        SettingsError: An unknown metric.
    """
    terms = find_metric(metric)
    if not judged:
        raise DataError(
            "cannot score the answers to 0 episodes: at least one is needed; look for an "
            "evaluation that failed"
        )
    by_task: dict[str, list[Judged]] = {}
    for episode in sorted(judged, key=lambda episode: (episode.task, episode.draw)):
        by_task.setdefault(episode.task, []).append(episode)
    return {task: _tabulate_task(episodes, terms) for task, episodes in by_task.items()}


def find_blocks(tables: Sequence[Mapping[str, TermTable]]) -> list[Block]:
    """Put together the tasks of several methods that share test rows."""
    blocks: list[tuple[set[str], list[str]]] = []
    for task in tables[0]:
        keys, tasks = {key for table in tables for key in table[task].keys}, [task]
        for block in [block for block in blocks if not keys.isdisjoint(block[0])]:
            keys, tasks = keys | block[0], block[1] + tasks
            blocks.remove(block)
        blocks.append((keys, tasks))
    return [Block(tuple(tasks), tuple(sorted(keys))) for keys, tasks in blocks]


def task_means(judged: Sequence[Judged], metric: str) -> dict[str, float]:
    """Mean over draws of the metric on all test rows, by task; raises what `tabulate` does."""
    return {task: float(table.scores.mean()) for task, table in tabulate(judged, metric).items()}


def worst_task(judged: Sequence[Judged], metric: str) -> tuple[str, float]:
    """Find the task with the worst mean over its draws, and that mean.

    The greatest error is the worst. Of equal tasks the first by name is
    taken. Raises what `tabulate` does.
    """
    means = task_means(judged, metric)
    worst = max if metric in LOWER_IS_BETTER else min
    task = worst(means, key=lambda name: means[name])
    return task, means[task]


def _tabulate_task(episodes: Sequence[Judged], metric: RowMetric) -> TermTable:
    _check_episodes(episodes)
    keys = tuple(sorted({key for episode in episodes for key in episode.rows}))
    place = {key: number for number, key in enumerate(keys)}
    terms = []
    counts = np.zeros((len(keys), len(episodes)))
    scores = np.zeros(len(episodes))
    for draw, episode in enumerate(episodes):
        places = [place[key] for key in episode.rows]
        of_rows = metric.row_terms(episode.true, episode.predictions, episode.labels)
        of_keys = np.zeros((len(keys), of_rows.shape[1]))
        np.add.at(of_keys, places, of_rows)
        np.add.at(counts[:, draw], places, 1)
        terms.append(of_keys)
        scores[draw] = metric.finish(of_rows.sum(0), len(of_rows))
    draws = tuple(episode.draw for episode in episodes)
    return TermTable(metric, draws, keys, np.hstack(terms), counts, scores)


def _check_episodes(episodes: Sequence[Judged]) -> None:
    draws = [episode.draw for episode in episodes]
    for episode in episodes:
        where = f"cannot score the answers on task '{episode.task}', draw {episode.draw}"
        numbers = (len(episode.rows), len(episode.true), len(episode.predictions))
        if len(set(numbers)) > 1 or not episode.rows:
            raise DataError(
                f"{where}: {numbers[0]} keys, {numbers[1]} true labels and {numbers[2]} "
                "predictions were given, one of each for each of at least one row is needed; "
                "look for an evaluation that failed"
            )
        if draws.count(episode.draw) > 1:
            raise DataError(
                f"{where}: it is there {draws.count(episode.draw)} times, one method's answers at "
                "one number of labels are needed; score each method and number on its own"
            )
        if episode.labels != episodes[0].labels:
            raise DataError(
                f"{where}: its labels are {', '.join(episode.labels)} and those of draw {draws[0]} "
                f"{', '.join(episodes[0].labels)}, the same are needed; evaluate on one version "
                "of the data"
            )
