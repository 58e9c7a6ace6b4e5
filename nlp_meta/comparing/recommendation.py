"""Which method to use on a user's labels, how sure that is, and whether more would pay.

Everything comes from cross-validation inside the user's own table: folds are held out in
turn, several times over, and every method answers the same held-out rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product

import numpy as np

from nlp_meta.comparing.bench import Bench, Method, foretell
from nlp_meta.comparing.methods import find_method
from nlp_meta.data.answers import Prediction, only_predictions
from nlp_meta.data.episodes import Episode, split_folds
from nlp_meta.data.tasks import Task
from nlp_meta.errors import DataError, MissingPackageError
from nlp_meta.evaluation.judged import Judged
from nlp_meta.evaluation.learning_curve import PAYS, gain_of_doubling, scores_of_answers
from nlp_meta.evaluation.metrics import METRICS
from nlp_meta.evaluation.statistics import Interval, resampled_means
from nlp_meta.progress import Outlook, Ticker

SHARES = (0.4, 0.6, 0.8)
"""Parts of a fold's training rows that the learning curve is fitted to, beside all of them."""
RESAMPLES, LEVEL = 2000, 0.95
LEAST_PER_LABEL = 4

Answers = list[list[Prediction]]
"""One list a repeat: a prediction for each row of the table, by a model that had not seen it."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What cross-validation says.

    Attributes:
        scores: Mean over the repeats by method, best first.
        chance_best: Share of resamples of rows and repeats in which the best method scores best;
            of a tie each has its part.
        learned_from: Rows that each held-out row was answered from.
        curve: Scores of the best method over the repeats, by number of labels.
        gain: Of twice as many labels, by the fitted learning curve.
        skipped: Methods that could not be tried, with the reason.
        near_duplicates: Rows left out of the table, as they nearly repeat another.
    """

    best: str
    metric: str
    rows: int
    learned_from: int
    scores: Mapping[str, float]
    chance_best: float
    curve: Mapping[int, Sequence[float]]
    gain: Interval
    skipped: Mapping[str, str]
    near_duplicates: int = 0

    def sentence(self) -> str:
        """The answer in one sentence."""
        others = [name for name in self.scores if name != self.best]
        rival = f", the next best, {others[0]}, {self.scores[others[0]]:.2f}" if others else ""
        sure = f"; it comes out best in {self.chance_best:.0%} of resamples" if others else ""
        copies = f"; {self.near_duplicates} near-duplicates were left out"
        pays = "should pay" if self.gain.low > PAYS else "may not pay"
        return (
            f"use {self.best}: {self.metric.replace('_', '-')} {self.scores[self.best]:.2f} on "
            f"held-out rows, learned from {self.learned_from} labels{rival}{sure}; more labels "
            f"{pays}: twice as many are expected to add {self.gain.mean:+.2f} "
            f"[{self.gain.low:+.2f}, {self.gain.high:+.2f}]{copies if self.near_duplicates else ''}"
        )


def recommend(
    bench: Bench,
    task: Task,
    *,
    folds: int,
    repeats: int,
    seed: int,
    on_step: Callable[[int, int], None] | None = None,
) -> Recommendation:
    """Try every method of the bench's settings by repeated cross-validation.

    Args:
        on_step: Called with the trainings done and their number.

    Raises:
        DataError: A label has too few rows to be held out of.
    """
    _check_rows(task)
    methods, skipped = _build(bench)
    rounds = [fold_task(task, folds=folds, seed=seed + repeat) for repeat in range(repeats)]
    tick = Ticker(on_step, total=(len(methods) + len(SHARES)) * repeats * folds)
    turns = {(name, 0): tick.total / len(methods) for name in methods}
    outlook = Outlook(turns, expected=foretell(bench, methods, [*product(methods, chain(*rounds))]))
    answers = _answer(methods, task, rounds, tick, outlook)
    metric = bench.settings.comparison.metric
    scored = {name: _score(task, by_repeat, metric) for name, by_repeat in answers.items()}
    ranked = sorted(scored, key=lambda name: -float(np.mean(scored[name])))
    best = ranked[0]
    sizes: dict[int, Answers] = {}
    for share in SHARES:
        smaller = [[shrink(episode, share, seed=seed) for episode in fold] for fold in rounds]
        again = _answer({best: methods[best]}, task, smaller, tick, outlook)
        sizes[_support_size(smaller)] = again[best]
    learned_from = _support_size(rounds)
    sizes[learned_from] = answers[best]
    judged = {size: _judged(task, by_repeat) for size, by_repeat in sizes.items()}
    measured = scores_of_answers(judged, metric, resamples=RESAMPLES, seed=seed)
    return Recommendation(
        best=best,
        metric=metric,
        rows=len(task.train),
        learned_from=learned_from,
        scores={name: float(np.mean(scored[name])) for name in ranked},
        chance_best=chance_best(task, answers, best=best, metric=metric, seed=seed),
        curve={size: _score(task, by_repeat, metric) for size, by_repeat in sizes.items()},
        gain=gain_of_doubling(measured, len(task.train), level=LEVEL),
        skipped=skipped,
    )


def fold_task(task: Task, *, folds: int, seed: int) -> list[Episode]:
    """Give one episode a fold: the fold's rows are its queries."""
    parts = split_folds(task.train, folds=folds, seed=seed)
    return [
        Episode(
            task.name,
            task.labels,
            tuple(e for place, e in enumerate(task.train) if place not in set(part)),
            tuple(task.train[place] for place in part),
            number,
        )
        for number, part in enumerate(parts)
    ]


def chance_best(
    task: Task, answers: Mapping[str, Answers], *, best: str, metric: str, seed: int
) -> float:
    """Share of resamples of rows and repeats in which `best` scores best; a tie is split."""
    judged = [_judged(task, by_repeat) for by_repeat in answers.values()]
    scores = resampled_means(judged, metric, over_tasks=False, resamples=RESAMPLES, seed=seed)
    first = np.isclose(scores, scores.max(axis=0), rtol=0, atol=1e-9)
    return float((first[list(answers).index(best)] / first.sum(axis=0)).mean())


def _check_rows(task: Task) -> None:
    counts = {name: sum(e.target == name for e in task.train) for name in task.labels}
    rare = min(counts, key=lambda name: counts[name])
    if counts[rare] < LEAST_PER_LABEL:
        raise DataError(
            f"cannot recommend a method from {counts[rare]} rows of label '{rare}': at least "
            f"{LEAST_PER_LABEL} of each label are needed to hold some out; label more of them"
        )


def _build(bench: Bench) -> tuple[dict[str, Method], dict[str, str]]:
    methods: dict[str, Method] = {}
    skipped: dict[str, str] = {}
    for name, text in bench.settings.comparison.methods.items():
        row, argument = find_method(text, bench.skill)
        try:
            methods[name] = row.build(bench, argument, row.choose(bench, argument))
        except MissingPackageError as error:
            skipped[name] = str(error)
    return methods, skipped


def _answer(
    methods: Mapping[str, Method],
    task: Task,
    rounds: Sequence[Sequence[Episode]],
    tick: Callable[[], None],
    outlook: Outlook,
) -> dict[str, Answers]:
    """Answer every row once a repeat, by what was learned without its fold.

    All methods take an episode before the next comes: two may share its adaptation.
    """
    by_method: dict[str, Answers] = {name: [] for name in methods}
    for episodes in rounds:
        by_text: dict[str, dict[str, Prediction]] = {name: {} for name in methods}
        for episode in episodes:
            for name, method in methods.items():
                queries = episode.queries
                answers = only_predictions(method.learn(episode.support_set)(queries))
                by_text[name] |= dict(zip(queries.texts, answers, strict=True))
                tick()
                outlook(name)
        for name, texts in by_text.items():
            by_method[name].append([texts[example.source] for example in task.train])
    return by_method


def _score(task: Task, answers: Answers, metric: str) -> list[float]:
    true = [example.target for example in task.train]
    return [METRICS[metric](true, predictions, task.labels) for predictions in answers]


def _judged(task: Task, answers: Answers) -> list[Judged]:
    """Answers of each repeat, as a draw of its own."""
    rows = tuple(str(place) for place in range(len(task.train)))
    true = tuple(example.target for example in task.train)
    return [
        Judged(task.name, repeat, task.labels, rows, true, tuple(predictions))
        for repeat, predictions in enumerate(answers)
    ]


def _support_size(rounds: Sequence[Sequence[Episode]]) -> int:
    return round(np.mean([len(episode.support) for episodes in rounds for episode in episodes]))


def shrink(episode: Episode, share: float, *, seed: int) -> Episode:
    """Keep a share of the support set, and of each label in it: what a smaller table would hold.

    At least two examples of a label stay, as many as some methods ask for; the smaller support
    set is part of the larger one.
    """
    order = np.random.default_rng([seed, episode.index]).permutation(len(episode.support))
    kept: list[int] = []
    for label in episode.labels:
        places = [place for place in order if episode.support[place].target == label]
        kept += places[: max(2, round(share * len(places)))]
    return replace(episode, support=tuple(episode.support[place] for place in sorted(kept)))
