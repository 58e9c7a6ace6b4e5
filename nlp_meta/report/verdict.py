"""The verdict of a comparison: which method to use, and what the tests show of the others.

It is advice in a few sentences: the method, what more labels would bring, and which differences
are shown. No difference is claimed that a test does not show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nlp_meta.evaluation.learning_curve import PAYS
from nlp_meta.evaluation.statistics import count_needed_draws, least_p
from nlp_meta.report.scores import (
    Results,
    Score,
    check_results,
    headline_labels,
    is_significant,
    join_names,
    judged_on,
    measure_of,
    p_of,
    paired_with,
    rank_advised,
    read_score,
    say_interval,
    say_number,
    say_p,
    say_score,
    score_of,
    skipped,
    title_of,
    words_of,
)

Outcome = Literal["shown", "undecided", "untested", "alone", "absent"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The method to use at one number of labels, and what it is held against.

    Attributes:
        other: Ours, where another is the best: the tests are of ours. Else the next best.
        difference: The best minus the other, paired; without an interval where it was not tested.
        p: Corrected for the number of comparisons if `corrected_for` is a number.
        outcome: `shown` if the best is better beyond chance, `untested` without a p, `alone`
            without another, `absent` without any score.
        behind: Methods that the best is shown to be better than, best first.
        level: Methods between which and the best nothing is shown, best first.
    """

    labels: int
    best: str | None
    score: Score | None
    other: str | None
    other_score: Score | None
    difference: Score | None
    p: float | None
    corrected_for: int | None
    outcome: Outcome
    behind: tuple[str, ...] = ()
    level: tuple[str, ...] = ()


def judge_methods(results: Results, labels: int) -> Verdict:
    """Find the best method and hold it against the others."""
    ranked, ours = rank_advised(results, labels), results["ours"]
    best = ranked[0] if ranked else None
    if best is None:
        return Verdict(labels, None, None, None, None, None, None, None, "absent")
    score = score_of(results, best, labels)
    others = [ours] if ours in ranked and best != ours else ranked[1:]
    if not others:
        return Verdict(labels, best, score, None, None, None, None, None, "alone")
    other_score = score_of(results, others[0], labels)
    difference, p, corrected_for = _hold(results, best, others[0], labels)
    tested = {name: _hold(results, best, name, labels)[1] for name in others}
    behind = tuple(name for name, value in tested.items() if is_significant(value))
    level = tuple(n for n, value in tested.items() if value is not None and n not in behind)
    outcome: Outcome = "shown" if is_significant(p) else "undecided"
    return Verdict(
        labels,
        best,
        score,
        others[0],
        other_score,
        difference,
        p,
        corrected_for,
        "untested" if p is None else outcome,
        behind,
        level,
    )


def answer_sentence(results: Results, *, labels: int | None = None) -> str:
    """Say the advice in a few sentences, and name what was skipped.

    Args:
        labels: The number of labels to speak of; the largest one unless told.

    Raises:
        DataError: Nothing was measured at that number of labels.
    """
    check_results(results)
    return " ".join(list_advice(results, judge_methods(results, headline_labels(results, labels))))


def list_advice(results: Results, verdict: Verdict) -> list[str]:
    """Give the advice, a sentence each: the method first."""
    left_out = list(skipped(results))
    sentences = [
        _say_best(results, verdict),
        _say_gain(results, verdict),
        *_say_tests(results, verdict),
        _say_few(results, verdict),
        f"Skipped: {join_names(left_out)}." if left_out else "",
    ]
    return [sentence for sentence in sentences if sentence]


def count_comparisons(results: Results, labels: int) -> int:
    """Count the tests at one number of labels that are corrected together."""
    family = (results["metric"], labels)
    return sum((o["metric"], o["labels"]) == family for o in results.get("paired") or ())


def _hold(
    results: Results, best: str, other: str, labels: int
) -> tuple[Score | None, float | None, int | None]:
    """The best minus another, its p, and for how many comparisons that is corrected."""
    first, second = score_of(results, best, labels), score_of(results, other, labels)
    plain = Score(first.mean - second.mean, None, None) if first and second else None
    ours = results["ours"]
    if ours not in (best, other):
        return plain, None, None
    row = paired_with(results, other if best == ours else best, labels)
    if row is None:
        return plain, None, None
    difference = read_score(row, "difference") or plain
    return difference if best == ours else _turn(difference), *p_of(results, row)


def _turn(score: Score | None) -> Score | None:
    """The same difference, seen from the other side."""
    if score is None:
        return None
    low, high = (None if end is None else -end for end in (score.high, score.low))
    return Score(-score.mean, low, high)


def _say_best(results: Results, verdict: Verdict) -> str:
    labels, words = verdict.labels, words_of(results)
    given = words.given_at_first
    many = f"with {labels} {given}{'' if labels == 1 else 's'}" if labels else f"without a {given}"
    where = f"{many}{_say_tasks(results)}"
    if verdict.best is None or verdict.score is None:
        return f"No method has a score {where}."
    draws = judged_on(results, verdict.best)
    few = f" (judged on {draws} of {results['draws']} draws)"
    few = few if 0 < draws < results["draws"] else ""
    once = ", from one support draw" if results["draws"] == 1 else ""
    once += " and without an interval" if once and verdict.score.low is None else ""
    score = f"{measure_of(results).name} {say_score(verdict.score, _decimals(results, verdict))}"
    title = f"{title_of(results, verdict.best)}{few}"
    if verdict.outcome == "alone":
        return (
            f"{title} gives {score} {where}{once}; no other method was measured, so nothing says "
            "whether that is good."
        )
    return f"Use {title}: {score} {where}{once}."


def _say_tasks(results: Results) -> str:
    tasks: Sequence[Mapping[str, Any]] = results["tasks"]
    fields = words_of(results).fields
    if not tasks:
        return ""
    if len(tasks) == 1:
        name = next((tasks[0][field] for field in fields if tasks[0].get(field)), "")
        return f" of {name}" if name else ""
    for field, word in fields.items():
        if len({task.get(field) for task in tasks if task.get(field)}) == len(tasks):
            return f" of each of {len(tasks)} new {word}s"
    return f" of each of {len(tasks)} new tasks"


def _say_gain(results: Results, verdict: Verdict) -> str:
    """What more labels would bring, by the curve that is fitted to the best method's scores."""
    for row in results.get("gains") or ():
        gain = read_score(row)
        where = (row["method"], row["labels"], row["metric"])
        if gain is None or where != (verdict.best, verdict.labels, results["metric"]):
            continue
        points = round(100 * gain.mean)
        sure = "should" if gain.low is not None and gain.low > PAYS else "may"
        much = f"about +{points} point{'' if points == 1 else 's'}"
        number = f"{say_number(gain.mean, 2, sign=True)}{say_interval(gain, 2, sign=True)}"
        given = f"{words_of(results).given}s" if row["more"] > 1 else words_of(results).given
        return f"{row['more']} more {given} {sure} bring {much if points else 'little'} ({number})."
    return ""


def _say_tests(results: Results, verdict: Verdict) -> list[str]:
    if verdict.other is None or verdict.best is None or not verdict.difference:
        return []
    numbers = f"({_say_difference(results, verdict, verdict.difference)})"
    told: dict[str, str] = {verdict.other: numbers}
    sentences = []
    if verdict.behind:
        names = _name_some(results, verdict.behind, told, "and")
        sentences.append(f"It is shown to be better than {names}.")
    if verdict.level:
        names = _name_some(results, verdict.level, told, "or")
        sentences.append(f"No difference is shown between it and {names}.")
    if verdict.outcome == "untested":
        title = title_of(results, verdict.other)
        sentences.append(f"Its difference from {title} {numbers} was not tested.")
    rest = [n for n in rank_advised(results, verdict.labels) if n not in (verdict.best, *told)]
    rest = [name for name in rest if name not in (*verdict.behind, *verdict.level)]
    if rest and results["ours"] in told and verdict.outcome != "untested":
        score = score_of(results, rest[0], verdict.labels)
        value = say_number(score.mean, _decimals(results, verdict)) if score else ""
        sentences.append(
            f"It was not tested against {'the others, of which ' if len(rest) > 1 else ''}"
            f"{title_of(results, rest[0])}{' is nearest with' if len(rest) > 1 else ', which has'}"
            f" {value}."
        )
    return sentences


def _name_some(results: Results, names: Sequence[str], told: Mapping[str, str], joint: str) -> str:
    """Name the first, with its numbers where there are any, and count the others."""
    first = " ".join(filter(None, (title_of(results, names[0]), told.get(names[0]))))
    rest = len(names) - 1
    if rest == 1:
        return f"{first} {joint} {title_of(results, names[1])}"
    return f"{first} {joint} {rest} others" if rest else first


def _say_difference(results: Results, verdict: Verdict, difference: Score) -> str:
    places = _decimals(results, verdict)
    text = say_number(difference.mean, places, sign=True)
    text += say_interval(difference, places, sign=True)
    if verdict.score and verdict.other_score:
        of_means = verdict.score.mean - verdict.other_score.mean
        apart = abs(of_means - difference.mean) > 0.0005 * measure_of(results).top
        text += " on the draws that both have" if apart else ""
    if verdict.p is None:
        return text
    count = verdict.corrected_for
    how = "not corrected" if count is None else f"corrected for {count} comparisons"
    return f"{text}, {say_p(verdict.p)}, {'the only comparison' if count == 1 else how}"


def _say_few(results: Results, verdict: Verdict) -> str:
    """Say where the draws are too few for a test to show anything, and how many are needed."""
    comparisons, tasks = count_comparisons(results, verdict.labels), len(results["tasks"])
    plan = (results.get("settings") or {}).get("comparison") or {}
    over_tasks, draws = bool(plan.get("over_tasks")), results["draws"]
    least = least_p(tasks=tasks, draws=draws, over_tasks=over_tasks)
    if not comparisons or verdict.behind or is_significant(comparisons * least):
        return ""
    if over_tasks:
        return f"With {tasks} tasks no difference could be shown; it takes more tasks."
    needed = count_needed_draws(comparisons, tasks=tasks)
    return f"With {draws} draws no difference could be shown; it takes {needed} or more."


def _decimals(results: Results, verdict: Verdict) -> int:
    """One fewer than in tables, or as many where that hides or contradicts a difference."""
    most = measure_of(results).places
    few = most - 1
    if not (verdict.score and verdict.other_score and verdict.difference):
        return few
    gap, difference = verdict.difference, verdict.difference.mean
    ends = [abs(x) for x in (difference, gap.low, gap.high) if x]
    apart = round(verdict.score.mean, few) - round(verdict.other_score.mean, few)
    clear = all(round(end, few) > 0 for end in ends)
    return few if clear and abs(apart - round(difference, few)) < 1e-9 else most
