"""Protocol: every method answers the same episodes, and none sees a query label."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from nlp_meta.data.answers import Answer, LearnedWithFacts, Rival
from nlp_meta.data.cache import Clock
from nlp_meta.data.episodes import Episode, SupportSet
from nlp_meta.errors import DataError
from nlp_meta.evaluation.answers import Kept, Kind, kind_of, score_episode
from nlp_meta.evaluation.statistics import hierarchical_interval


@dataclass(frozen=True, slots=True)
class Cell:
    """What one method scored on one episode.

    Attributes:
        labels: Support examples in all.
        draw: Number of the support draw, the episode's index.
        rows: Query examples.
        scores: By every metric of the kind of answers; None where one could not be computed.
        seconds_adapt: From the support set to what answers in this domain.
        ms_per_prediction: From a query text to its answer, in batches.
        support_hash: Of the support set: methods of the same hash learned from the same.
    """

    task: str
    labels: int
    draw: int
    rows: int
    scores: Mapping[str, float | None]
    seconds_adapt: float
    ms_per_prediction: float
    support_hash: str


@dataclass(frozen=True, slots=True)
class Scores:
    """What one method scored, in the order of the episodes."""

    method: str
    cells: tuple[Cell, ...]


def flatten_cell(cell: Cell) -> dict[str, object]:
    """Give a cell as plain values, its scores beside the others by the metrics' names."""
    values: dict[str, object] = {}
    for name, value in asdict(cell).items():
        values |= value if name == "scores" else {name: value}
    return values


def read_cell(values: Mapping[str, object], kind: Kind) -> Cell:
    """Take back what `flatten_cell` gave; raises KeyError or TypeError for anything else."""
    rest = dict(values)
    scores = {name: rest.pop(name) for name in kind.metrics}
    return Cell(**rest, scores=scores)  # type: ignore[arg-type]


def evaluate(rival: Rival, episodes: Sequence[Episode], *, method: str) -> Scores:
    """Score a method on episodes; arguments and errors are those of `judge`."""
    return Scores(method, tuple(judge(rival, one, method=method).cell for one in episodes))


@dataclass(frozen=True, slots=True)
class Judgment:
    """A method's answers to one episode, and their scores.

    Attributes:
        facts: What the method said of itself: steps it chose, demonstrations it showed.
    """

    cell: Cell
    answers: tuple[Kept, ...]
    facts: Mapping[str, object]


def judge(rival: Rival, episode: Episode, *, method: str, clock: Clock | None = None) -> Judgment:
    """Let a method learn from an episode's support set, then answer its queries, and score it.

    The clock is read between the two. What the encoder has said of a text in an earlier
    episode counts as if it were computed anew.

    Args:
        clock: The one that is charged for what the method finds ready, if it keeps anything.

    Raises:
        DataError: Not one answer for each query text, or one that is not such as the task
            asks for; names method, task and draw.
    """
    clock = clock or Clock()
    clock.begin_job()
    began = clock.read()
    learned = rival(episode.support_set)
    learned_at = clock.read()
    answers = tuple(learned(episode.queries))
    predicting = clock.read() - learned_at
    kind = _check_answers(answers, episode, method=method)
    kept = kind.keep(episode, answers)
    cell = Cell(
        task=episode.task,
        labels=len(episode.support),
        draw=episode.index,
        rows=len(episode.query),
        scores=score_episode(episode, kept),
        seconds_adapt=learned_at - began,
        ms_per_prediction=1000 * predicting / len(episode.query),
        support_hash=hash_support(episode.support_set),
    )
    facts = learned.facts if isinstance(learned, LearnedWithFacts) else {}
    return Judgment(cell, kept, facts)


def hash_support(support_set: SupportSet) -> str:
    """Sixteen hexadecimal digits that two support sets share if they are the same."""
    digest = hashlib.blake2b(digest_size=8)
    for example in support_set.examples:
        digest.update(f"{example.source}\x1f{example.target}\x1e".encode())
    return digest.hexdigest()


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
        metric: Of the kind of the answers, or `seconds_adapt`.

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
        DataError: `metric` is neither one that every cell was scored by nor `seconds_adapt`.
    """
    cells: dict[str, list[float]] = {}
    for cell in scores.cells:
        values = {**cell.scores, "seconds_adapt": cell.seconds_adapt}
        value = values.get(metric)
        if value is None:
            there = [name for name, score in values.items() if score is not None]
            raise DataError(
                f"cannot summarize by '{metric}': one of {', '.join(there)} is needed; change "
                "`metric`"
            )
        cells.setdefault(cell.task, []).append(value)
    return cells


def _check_answers(answers: Sequence[Answer], episode: Episode, *, method: str) -> Kind:
    where = f"cannot score method '{method}' on task '{episode.task}', draw {episode.index}"
    if len(answers) != len(episode.query) or not answers:
        raise DataError(
            f"{where}: it gave {len(answers)} predictions for {len(episode.query)} texts, one for "
            "each of at least one is needed; correct the method"
        )
    kind = kind_of(answers)
    for row, one in enumerate(answers):
        needed = kind.lacking(episode, one)
        if needed:
            raise DataError(
                f"{where}: for text {row} it gave {one!r:.300}, {needed} is needed; correct its "
                "predictor"
            )
    return kind


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
