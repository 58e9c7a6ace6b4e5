"""Statistics: how far a score may be from what other data would give, and which method is better.

Percentile bootstrap throughout: the score is computed on resamples of the data, and the
interval holds the middle `level` of the results. Of a few values (5 draws) it comes out too
narrow, by a factor of about sqrt((n - 1) / n).

In a comparison an answer belongs to a task, a support draw and a test row. The draws of a
task meet the same test rows, so a row is resampled once for all draws: what chance there is
in the test rows stays in the interval, however many draws are averaged.

Source:
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    Owen 2007, The pigeonhole bootstrap, doi:10.1214/07-AOAS122: the rows and the columns of
    a table are resampled each on their own, which errs on the wide side.
    Rao and Wu 1988, doi:10.1080/01621459.1988.10478591: of n draws n - 1 are resampled, so
    that the variance of their mean is not too small by the factor (n - 1) / n.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nlp_meta.data.answers import share_interval
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation.answers import Kept
from nlp_meta.evaluation.judged import Block, Judged, TermTable, find_blocks, tabulate, task_means
from nlp_meta.evaluation.metrics import Numbers, check_rows, find_metric, score

OVERSTATED = frozenset({"ece"})
"""Metrics that noise alone moves up: sums of absolute gaps."""
SHARES = frozenset({"accuracy", "macro_f1", "precision_at_1", "mrr", "xsim"})
"""Metrics from 0 to 1 of which every row has its own part."""

# Row numbers held at once, 8 bytes each and as many counts: 32 MB.
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A score and the interval around it.

    Attributes:
        mean: The statistic of all the data, a mean or not (macro-F1); not the resamples' mean.
    """

    mean: float
    low: float
    high: float


def interval_of_metric(
    true: Sequence[str],
    predictions: Sequence[Kept],
    metric: str,
    *,
    labels: Sequence[str],
    groups: Sequence[int] | None = None,
    level: float = 0.95,
    resamples: int,
    seed: int,
) -> Interval:
    """Interval of a metric over the rows of one test set.

    The same seed resamples the same rows for every metric; see `center_errors` for that of
    a calibration error. Where all rows answer alike, all right say, resampling finds no spread:
    then it is Wilson's interval of a share, of 95%.

    Args:
        metric: Of any skill: `accuracy`, `macro_f1`, `ece`, `chrf`, ...
        labels: Those of the task, macro-F1 is a mean over them; or whatever else must be known
            of it, such as the target language.
        groups: Of each row a number from 0: rows of one text are resampled together.

    Raises:
        DataError: No row, or as many predictions as rows were not given.
        SettingsError: An unknown metric, no resample, or a level not between 0 and 1.
    """
    sums = find_metric(metric)
    check_rows(true, predictions)
    check_settings(level, resamples)
    terms = sums.row_terms(true, predictions, labels)
    members = np.arange(len(true)) if groups is None else np.asarray(groups)
    rows = int(members.max()) + 1
    grouped = np.zeros((rows, terms.shape[-1]))
    np.add.at(grouped, members, terms)
    sizes, generator = np.bincount(members).astype(float), np.random.default_rng(seed)
    counts = map(count_rows, resampled_rows(rows, resamples, generator))
    replicates = [sums.finish(count @ grouped, count @ sizes) for count in counts]
    value = score(metric, true, predictions, labels)
    drawn = np.concatenate(replicates)
    if metric in SHARES and np.ptp(drawn) == 0:
        return Interval(value, *share_interval(value, rows))  # no row answered otherwise
    return percentile_interval(value, center_errors(metric, drawn, value), level)


def interval_of_draws(scores: Sequence[float], *, resamples: int, seed: int) -> Interval:
    """95% interval of the mean over the support draws of one task: other support sets.

    Test rows are not resampled: what a longer test set would change is not in it.

    Raises:
        DataError: A score that is infinite or not a number, or fewer than two.
        SettingsError: No resample.

    Source:
        Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8.
    """
    draws, level = _check_values(scores), 0.95
    check_settings(level, resamples)
    chosen = np.random.default_rng(seed).integers(len(draws), size=(resamples, len(draws)))
    return percentile_interval(float(draws.mean()), draws[chosen].mean(-1), level)


def resampled_rows(
    rows: int, resamples: int, generator: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Row numbers drawn with replacement, some resamples at a time, `(resamples, rows)`."""
    for size in chunk_sizes(rows, resamples):
        yield generator.integers(rows, size=(size, rows))


def chunk_sizes(rows: int, resamples: int) -> Iterator[int]:
    """Split resamples of so many rows into parts that fit into 32 MB."""
    size = max(1, _CHUNK // rows)
    for first in range(0, resamples, size):
        yield min(size, resamples - first)


def count_rows(chosen: NDArray[np.int64]) -> Numbers:
    """How often each resample holds each row, `(resamples, rows)`."""
    resamples, rows = chosen.shape
    shifted = chosen + rows * np.arange(resamples)[:, None]
    counts = np.bincount(shifted.ravel(), minlength=resamples * rows)
    return counts.reshape(resamples, rows).astype(np.float64)


def center_errors(metric: str, replicates: Numbers, value: float) -> Numbers:
    """Move a calibration error's resamples back by how much resampling added to it.

    Resampling adds noise, and noise adds to a sum of absolute gaps: all resamples of a small
    error may lie above it, and an interval of them would miss it. Other metrics stay.
    """
    if metric not in OVERSTATED:
        return replicates
    return np.asarray(np.maximum(replicates - (replicates.mean() - value), 0))


def percentile_interval(value: float, replicates: Numbers, level: float) -> Interval:
    """Put the middle `level` of the resamples' results around the result of all the data."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _check_values(values: Sequence[float]) -> Numbers:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) < 2 or not np.isfinite(numbers).all():
        raise DataError(
            f"cannot give an interval of scores with shape {numbers.shape} of which "
            f"{int(np.isfinite(numbers).sum())} are finite numbers: a list of at least 2, all "
            "finite, is needed; raise the number of support draws, or look for an evaluation that "
            "failed or diverged"
        )
    return numbers


def check_settings(level: float, resamples: int) -> None:
    """Stop unless these settings can give an interval.

    Raises:
        SettingsError: They cannot.
    """
    if not 0 < level < 1 or resamples < 1:
        raise SettingsError(
            f"cannot give an interval of level {level} from {resamples} resamples: a level "
            "between 0 and 1 and at least 1 resample are needed; change `level` or `resamples`"
        )


Tables = Mapping[str, TermTable]
"""One method's answers by task."""


def resampled_interval(
    judged: Sequence[Judged],
    metric: str,
    *,
    over_tasks: bool,
    level: float,
    resamples: int,
    seed: int,
) -> Interval:
    """Interval of the mean over tasks of the mean over draws of a metric on the test rows.

    Every task weighs the same. The two intervals answer different questions:

    - `over_tasks=False`: these tasks, other support sets and other test rows.
    - `over_tasks=True`: other tasks of this sort too. Too wide where tasks differ little:
      their means vary by draws and rows already, and those are resampled once more.

    A task with one draw (all draws of a method without labels are alike) has its rows
    alone resampled; of other support sets the interval then says nothing.

    Percentiles of few units are too narrow. In 600 simulated comparisons each, intervals of
    level 0.95 held the truth in 95 to 97 % with 3 or more tasks of 5 or more draws and in 87 %
    with 5 draws of one task where draws are what varies most; over tasks of which that is
    true in 86 % with 3 of them, 88 % with 5 and 92 % with 8. Resampling moves macro-F1 of a
    rare label down, and the interval with it. It moves a small calibration error up so far
    that the interval would miss it: there the resamples are moved back by their mean. Where all
    rows answer alike, it is Wilson's interval of a share, of 95%.

    Raises:
        DataError: What `tabulate` refuses; fewer than 2 test rows in a task or, over
            tasks, fewer than 2 tasks.
        SettingsError: An unknown metric, no resample, or a level not between 0 and 1.
    """
    check_settings(level, resamples)
    mean = float(np.mean(list(task_means(judged, metric).values())))
    means = resampled_means([judged], metric, over_tasks=over_tasks, resamples=resamples, seed=seed)
    if metric in SHARES and np.ptp(means[0]) == 0:  # no row answered otherwise
        return Interval(
            mean, *share_interval(mean, len({row for one in judged for row in one.rows}))
        )
    return percentile_interval(mean, center_errors(metric, means[0], mean), level)


def resampled_means(
    methods: Sequence[Sequence[Judged]], metric: str, *, over_tasks: bool, resamples: int, seed: int
) -> Numbers:
    """Means over tasks, draws and rows of several methods, in the same resamples.

    Tasks, draws and rows are chosen once for all methods, so that what is hard for all
    cancels in their differences. A task that is chosen twice has its draws chosen anew for
    each place. The order of the answers does not matter.

    Args:
        methods: Of the same tasks. Each has the same draws of a task, or only one.

    Returns:
        `(methods, resamples)`.

    Raises:
        DataError: As in `resampled_interval`, or methods of other tasks or draws.
        SettingsError: An unknown metric.
    """
    tables = [tabulate(judged, metric) for judged in methods]
    draws = _check_tables(tables, over_tasks=over_tasks)
    generator = np.random.default_rng(seed)
    times = _choose_tasks(list(draws), resamples, generator, over_tasks=over_tasks)
    means = np.zeros((len(methods), resamples))
    for block in find_blocks(tables):
        first = 0
        for chosen in resampled_rows(len(block.keys), resamples, generator):
            part = slice(first, first + len(chosen))
            first = part.stop
            held = {task: times[task][part] for task in block.tasks}
            means[:, part] += _sum_block(block, tables, count_rows(chosen), held, draws, generator)
    return means / sum(times.values())


def _sum_block(
    block: Block,
    tables: Sequence[Tables],
    weights: Numbers,
    times: Mapping[str, NDArray[np.int64]],
    draws: Mapping[str, int],
    generator: np.random.Generator,
) -> Numbers:
    """Sum resampled means over the tasks of a block, `(methods, resamples)`."""
    sums = np.zeros((len(tables), len(weights)))
    for task in block.tasks:
        held = times[task]
        share = _choose_draws(held, draws[task], generator)
        for row, table in zip(sums, (by_task[task] for by_task in tables), strict=True):
            counts = weights[:, block.places(table)]
            scores = table.finish(table.sums(counts), counts @ table.counts)
            # All draws of a method that has one are alike.
            alike = len(table.draws) < draws[task]
            row += (scores * (held[:, None] if alike else share)).sum(1)
    return sums


def _choose_tasks(
    tasks: Sequence[str], resamples: int, generator: np.random.Generator, *, over_tasks: bool
) -> dict[str, NDArray[np.int64]]:
    """How often each resample holds each task."""
    if not over_tasks:
        return {task: np.ones(resamples, dtype=np.int64) for task in tasks}
    chances = [1 / len(tasks)] * len(tasks)
    times = generator.multinomial(len(tasks) - 1, chances, size=resamples)
    return dict(zip(tasks, times.T, strict=True))


def _choose_draws(times: NDArray[np.int64], draws: int, generator: np.random.Generator) -> Numbers:
    """Weight of each draw of a task that is there so many times, `(resamples, draws)`."""
    places = max(draws - 1, 1)
    return np.asarray(generator.multinomial(times * places, [1 / draws] * draws) / places)


def _check_tables(tables: Sequence[Tables], *, over_tasks: bool) -> dict[str, int]:
    """Give the number of draws of each task, if these answers can be resampled together."""
    first = tables[0]
    if any(by_task.keys() != first.keys() for by_task in tables):
        raise DataError(
            f"cannot resample methods together that were judged on {len(first)} and on other "
            "tasks: the same are needed; evaluate all on the same episodes"
        )
    if over_tasks and len(first) < 2:
        raise DataError(
            f"cannot resample {len(first)} task: at least 2 are needed; add tasks or give an "
            "interval for this task alone (`over_tasks`)"
        )
    for task in first:
        several = {by_task[task].draws for by_task in tables if len(by_task[task].draws) > 1}
        if len(several) > 1:
            numbers = " and ".join(str(len(draws)) for draws in several)
            raise DataError(
                f"cannot resample {numbers} draws of task '{task}' together: the same draws of "
                "each method, or one, are needed; evaluate all on the same episodes"
            )
        fewest = min(len(by_task[task].keys) for by_task in tables)
        if fewest < 2:
            raise DataError(
                f"cannot resample {fewest} test row of task '{task}': at least 2 with keys of "
                "their own are needed; add test rows or leave the task out"
            )
    return {task: max(len(by_task[task].draws) for by_task in tables) for task in first}


# All 65,536 signs of 16 units are enumerated; of more, random ones are drawn.
_MOST_EXACT = 16


@dataclass(frozen=True, slots=True)
class Paired:
    """How much more a method scores than a rival.

    Attributes:
        difference: Ours minus the rival's; a calibration error is better below 0.
        low: Of the interval around it.
        high: Of the same.
        p: Chance of a difference as large, either way, did the methods not differ; to be
            corrected by `holm` where there are several rivals.
    """

    difference: float
    low: float
    high: float
    p: float


def paired_difference(
    ours: Sequence[Judged],
    rival: Sequence[Judged],
    metric: str,
    *,
    over_tasks: bool,
    level: float,
    resamples: int,
    seed: int,
) -> Paired:
    """Compare two methods in the same resamples, and test by exchanging their answers.

    Did the methods not differ, their answers could be exchanged. Exchanging those of a unit
    turns the sign of its difference, and p is the share of sign patterns that give as large
    a difference as was found. But draws of a task share its test rows: a method that is
    lucky with these rows is lucky in every draw, and no turning of draws shows it. So where
    units share test rows, exchanges of rows (in all draws at once) are drawn too, and what
    they give is added. In simulated comparisons of equal methods by accuracy, on 3 and on 6
    tasks, 5 to 15 % of tests by draws alone had p <= 0.05, and 0 to 6 % with rows. These tasks
    (`over_tasks=False`) with one draw each are tested by rows alone.

    Args:
        over_tasks: The question, as in `resampled_interval`, of interval and p alike. The units
            are tasks then, which takes 6 of them to give a p below 0.05; otherwise the draws of
            each task, as support sets are drawn for each task on its own.

    Raises:
        DataError: The methods were not judged on the same rows of the same draws of the
            same tasks, or what `resampled_interval` refuses.
        SettingsError: As in `resampled_interval`.

    Source:
        Noreen 1989, Computer-Intensive Methods for Testing Hypotheses, chapter 2; Yeh 2000,
        C00-2137 in the ACL Anthology, exchanges the answers to test rows.
    """
    check_settings(level, resamples)
    _check_same(ours, rival)
    mine, other = tabulate(ours, metric), tabulate(rival, metric)
    means = resampled_means(
        [ours, rival], metric, over_tasks=over_tasks, resamples=resamples, seed=seed
    )
    cells = {task: mine[task].scores - other[task].scores for task in mine}
    difference = float(np.mean([cell.mean() for cell in cells.values()]))
    interval = percentile_interval(difference, means[0] - means[1], level)
    p = _exchange(mine, other, cells, over_tasks=over_tasks, resamples=resamples, seed=seed)
    return Paired(difference, interval.low, interval.high, p)


def sign_flip(differences: Sequence[float] | Numbers, *, resamples: int, seed: int) -> float:
    """Test whether independent differences add up to 0, turning their signs.

    Up to 16 differences have all their sign patterns enumerated; of more, `resamples` random
    ones are drawn and the pattern found is counted with them.

    Returns:
        Two-sided p. Of n differences it is never below 2 / 2^n.
    """
    units = np.asarray(differences, dtype=np.float64)
    total = float(units.sum())
    if len(units) <= _MOST_EXACT:
        bits = np.arange(2 ** len(units))[:, None] >> np.arange(len(units))
        patterns = (bits & 1) * 2.0 - 1
        return float(_as_large(patterns @ units, total).mean())
    sums = _turn_signs(units, resamples, np.random.default_rng(seed))
    return _share_as_large(sums, total)


def least_p(*, tasks: int, draws: int, over_tasks: bool) -> float:
    """The smallest p that `paired_difference` can give, whatever the scores; 0 is no bound.

    Of n units all signs are alike in 2 of 2^n patterns. Exchanged rows, which are added, take
    such a pattern below the difference found in half of the cases at most. These tasks with one
    draw each are tested by rows alone, of which there are many.
    """
    if over_tasks:
        return 2.0 ** (1 - tasks)
    return 0.0 if draws == 1 else 2.0 ** -(tasks * draws)


def count_needed_draws(comparisons: int, *, tasks: int, level: float = 0.05) -> int:
    """Fewest draws of each task with which `holm` can leave one of so many p below a level.

    At least 2: of one draw the test says nothing of other support sets.
    """
    draws = 2
    while comparisons * least_p(tasks=tasks, draws=draws, over_tasks=False) >= level:
        draws += 1
    return draws


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, each in its place.

    Rejecting those at or below a level keeps the chance of any false rejection below that
    level, however the tests depend on each other.

    Raises:
        DataError: A value is not between 0 and 1.

    Source:
        Holm 1979, A simple sequentially rejective multiple test procedure, section 3.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError(
            f"cannot correct the p-values {list(p_values)}: numbers from 0 to 1 are needed; look "
            "for a comparison that failed"
        )
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return [float(value) for value in adjusted]


def _exchange(
    ours: Mapping[str, TermTable],
    rival: Mapping[str, TermTable],
    cells: Mapping[str, Numbers],
    *,
    over_tasks: bool,
    resamples: int,
    seed: int,
) -> float:
    blocks = find_blocks([ours, rival])
    differences = _sum_units(cells, over_tasks=over_tasks)
    if over_tasks and len(blocks) == len(ours):
        return sign_flip(differences, resamples=resamples, seed=seed)
    generator = np.random.default_rng(seed)
    exchanged = np.zeros(resamples)
    for block in blocks:
        exchanged += _exchange_rows(block, ours, rival, resamples, generator) / len(ours)
    # One draw of each task says nothing of other draws; its test rows are all there is.
    if over_tasks or any(len(table.draws) > 1 for table in ours.values()):
        exchanged += _turn_signs(differences, resamples, generator)
    return _share_as_large(exchanged, float(differences.sum()))


def _exchange_rows(
    block: Block,
    ours: Mapping[str, TermTable],
    rival: Mapping[str, TermTable],
    resamples: int,
    generator: np.random.Generator,
) -> Numbers:
    """Differences, summed over tasks, when answers to random rows are exchanged."""
    parts = []
    for size in chunk_sizes(len(block.keys), resamples):
        exchanged = generator.integers(2, size=(size, len(block.keys))).astype(np.float64)
        part = np.zeros(size)
        for task in block.tasks:
            mine, other = ours[task], rival[task]
            chosen, every = exchanged[:, block.places(mine)], np.ones((1, len(mine.keys)))
            moved = other.sums(chosen) - mine.sums(chosen)
            rows = every @ mine.counts
            differences = mine.finish(mine.sums(every) + moved, rows) - other.finish(
                other.sums(every) - moved, rows
            )
            part += differences.mean(1)
        parts.append(part)
    return np.concatenate(parts)


def _sum_units(cells: Mapping[str, Numbers], *, over_tasks: bool) -> Numbers:
    """What each unit adds to the difference of the means."""
    shares = [cell / len(cell) / len(cells) for cell in cells.values()]
    return np.array([share.cumsum()[-1] for share in shares] if over_tasks else np.hstack(shares))


def _turn_signs(differences: Numbers, resamples: int, generator: np.random.Generator) -> Numbers:
    """Sums of the differences under random signs."""
    signs = generator.integers(2, size=(resamples, len(differences))) * 2.0 - 1
    return np.asarray(signs @ differences)


def _share_as_large(sums: Numbers, total: float) -> float:
    """Share of random sums as far from 0 as the one found, which counts among them."""
    return float((1 + _as_large(sums, total).sum()) / (1 + len(sums)))


def _as_large(sums: Numbers, total: float) -> NDArray[np.bool_]:
    # Sums of the same numbers in another order differ by rounding.
    return np.abs(sums) >= abs(total) - 1e-12


def _check_same(ours: Sequence[Judged], rival: Sequence[Judged]) -> None:
    mine = {(cell.task, cell.draw): cell for cell in ours}
    other = {(cell.task, cell.draw): cell for cell in rival}
    for task, draw in sorted(mine.keys() | other.keys()):
        first, second = mine.get((task, draw)), other.get((task, draw))
        if first is None or second is None:
            raise DataError(
                f"cannot pair methods on task '{task}', draw {draw}: only one was judged on it, "
                "both are needed; evaluate both on the same episodes"
            )
        if (first.rows, first.true, first.labels) != (second.rows, second.true, second.labels):
            raise DataError(
                f"cannot pair methods on task '{task}', draw {draw}: their test rows differ, the "
                "same rows in the same order are needed; evaluate both on the same episodes"
            )
