"""The verdict of a comparison: is ours better than the best rival, and how sure is that?

The answer is a verdict, and a sentence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nlp_meta.report.scores import (
    Results,
    Score,
    check_results,
    headline_labels,
    is_significant,
    join_names,
    measure_of,
    measured,
    p_of,
    paired_with,
    read_score,
    say_interval,
    say_number,
    say_p,
    say_score,
    score_of,
    scored_methods,
    skipped,
    title_of,
    words_of,
)

Outcome = Literal["ahead", "behind", "undecided", "untested", "alone", "absent"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Ours against the best rival at one number of labels.

    Attributes:
        rival: Of the rivals the one with the highest mean, references are none; without a
            score of ours the best method of all.
        difference: Ours minus the rival, paired; without an interval where it was not tested.
        p: Corrected for the number of comparisons if `corrected_for` is a number.
        outcome: `untested` without a p, `alone` without a rival, `absent` without ours.
    """

    labels: int
    ours: Score | None
    rival: str | None
    rival_score: Score | None
    difference: Score | None
    p: float | None
    corrected_for: int | None
    outcome: Outcome


def judge_ours(results: Results, labels: int) -> Verdict:
    """Hold ours against the best rival."""
    ours = score_of(results, results["ours"], labels)
    groups = ["rival"] if ours else ["ours", "rival", "reference"]
    rivals = [name for name in scored_methods(results, labels, groups) if name != results["ours"]]
    rival = rivals[0] if rivals else None
    rival_score = score_of(results, rival, labels) if rival else None
    difference, p, corrected_for = None, None, None
    if ours and rival and rival_score:
        difference = Score(ours.mean - rival_score.mean, None, None)
        row = paired_with(results, rival, labels)
        if row is not None:
            difference = read_score(row, "difference") or difference
            p, corrected_for = p_of(results, row)
    outcome = _outcome(ours, rival, difference, p)
    return Verdict(labels, ours, rival, rival_score, difference, p, corrected_for, outcome)


def answer_sentence(results: Results, *, labels: int | None = None) -> str:
    """Say the answer in one sentence, and name what was skipped in a second.

    Args:
        labels: The number of labels to speak of; the largest one unless told.

    Raises:
        DataError: Nothing was measured at that number of labels.
    """
    check_results(results)
    verdict = judge_ours(results, headline_labels(results, labels))
    parts = [_say_ours(results, verdict)]
    if verdict.rival and verdict.rival_score:
        title, places = title_of(results, verdict.rival), _decimals(results, verdict)
        best = "the best rival" if verdict.ours else "the best method measured"
        parts.append(f"{best} ({title}) gives {say_score(verdict.rival_score, places)}")
    if verdict.difference:
        parts.append(_say_difference(results, verdict, verdict.difference))
    elif verdict.outcome == "alone":
        parts.append("no rival was measured, so nothing says whether that is good")
    parts += _say_prompting(results, verdict)
    left_out = list(skipped(results))
    return "; ".join(parts) + "." + (f" Skipped: {join_names(left_out)}." if left_out else "")


def _outcome(
    ours: Score | None, rival: str | None, difference: Score | None, p: float | None
) -> Outcome:
    if ours is None:
        return "absent"
    if rival is None or difference is None:
        return "alone"
    if p is None:
        return "untested"
    if not is_significant(p):
        return "undecided"
    return "ahead" if difference.mean > 0 else "behind"


def _say_ours(results: Results, verdict: Verdict) -> str:
    labels, metric, words = verdict.labels, measure_of(results).name, words_of(results)
    whom = _say_tasks(results)
    given = words.given_at_first
    many = f"With {labels} {given}{'' if labels == 1 else 's'}"
    lead = f"{many if labels else f'Without a {given}'}{whom}"
    if not results["ours"]:
        return f"{lead}, no method is named as ours"
    title = title_of(results, results["ours"])
    if verdict.ours is None:
        return f"{lead}, ours ({title}) was not measured"
    doing = "adapting our start" if labels else "our start"
    once = ", from one support draw" if results["draws"] == 1 else ""
    once += " and without an interval" if once and verdict.ours.low is None else ""
    score = say_score(verdict.ours, _decimals(results, verdict))
    return f"{lead}, {doing} ({title}) gives {metric} {score}{once}"


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


def _say_difference(results: Results, verdict: Verdict, difference: Score) -> str:
    places = _decimals(results, verdict)
    number = say_number(difference.mean, places, sign=True)
    text = f"the difference {number}{say_interval(difference, places, sign=True)}"
    if verdict.ours and verdict.rival_score:
        of_means = verdict.ours.mean - verdict.rival_score.mean
        apart = abs(of_means - difference.mean) > 0.0005 * measure_of(results).top
        text += " on the draws that both have" if apart else ""
    if verdict.p is None:
        return f"{text} was not tested"
    count = verdict.corrected_for
    how = "not corrected" if count is None else f"corrected for {count} comparisons"
    how = "the only comparison" if count == 1 else how
    meanings = {
        "ahead": "significant, ours is better",
        "behind": "significant, the rival is better",
    }
    meaning = meanings.get(verdict.outcome, "not significant")
    return f"{text} is {meaning} ({say_p(verdict.p)}, {how})"


def _say_prompting(results: Results, verdict: Verdict) -> list[str]:
    """Prompting at the same number of labels, else at the most that fit its context."""
    parts = []
    for name in measured(results):
        words = f"{name} {results['methods'][name].get('kind')} {title_of(results, name)}"
        if "prompt" not in words or name in (verdict.rival, results["ours"]):
            continue
        for labels in sorted((n for n in results["labels"] if n <= verdict.labels), reverse=True):
            if score := score_of(results, name, labels):
                most = f" with {words_of(results).count(labels)}, the most it was given"
                limit = "" if labels == verdict.labels else most
                value = say_number(score.mean, _decimals(results, verdict))
                parts.append(f"{title_of(results, name)} gives {value}{limit}")
                break
    return parts


def _decimals(results: Results, verdict: Verdict) -> int:
    """One fewer than in tables, or as many where that hides or contradicts a difference."""
    most = measure_of(results).places
    few = most - 1
    if not (verdict.ours and verdict.rival_score and verdict.difference):
        return few
    gap, difference = verdict.difference, verdict.difference.mean
    ends = [abs(x) for x in (difference, gap.low, gap.high) if x]
    apart = round(verdict.ours.mean, few) - round(verdict.rival_score.mean, few)
    clear = all(round(end, few) > 0 for end in ends)
    return few if clear and abs(apart - round(difference, few)) < 1e-9 else most
