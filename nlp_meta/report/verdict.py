"""The verdict of a comparison: is ours better than the best rival, and how sure is that?

Everything that the page, its tables and its pictures say is read here from the dict of
`results.json`, so that all of them say the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nlp_meta.errors import DataError
from nlp_meta.evaluation.kinds import KINDS

Results = Mapping[str, Any]
"""What `results.json` holds."""

FORMAT = 1
MAIN_METRICS = tuple(name for kind in KINDS.values() for name in kind.main_metrics)

_NEEDED = ("title", "metric", "labels", "draws", "ours", "tasks", "methods", "summary")
_SIGNIFICANT = 0.05

Outcome = Literal["ahead", "behind", "undecided", "untested", "alone", "absent"]


@dataclass(frozen=True, slots=True)
class Score:
    """A mean, with its interval where there is one: a single draw has none."""

    mean: float
    low: float | None
    high: float | None


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


def check_results(results: Results) -> None:
    """Stop unless these are results that this version can report.

    Raises:
        DataError: Another format, a part is missing, or no label count was measured.
    """
    if results.get("format") != FORMAT:
        raise DataError(
            f"cannot report results of format {results.get('format')}: format {FORMAT} is needed; "
            "run the comparison again with this version"
        )
    missing = [name for name in _NEEDED if name not in results]
    if missing or results["metric"] not in MAIN_METRICS or not results["labels"]:
        raise DataError(
            f"cannot report results without {missing}, by metric '{results.get('metric')}' at "
            f"labels {results.get('labels')}: all of {', '.join(_NEEDED)}, a metric of "
            f"{', '.join(MAIN_METRICS)} and one number of labels are needed; run the comparison "
            "again"
        )


def headline_labels(results: Results, labels: int | None = None) -> int:
    """Find the number of labels that the answer speaks of: the largest one unless told.

    Raises:
        DataError: Nothing was measured there.
    """
    if labels is not None and labels not in results["labels"]:
        raise DataError(
            f"cannot answer at {labels} labels: one of {results['labels']} is needed; change "
            "`labels`"
        )
    return int(max(results["labels"]) if labels is None else labels)


def title_of(results: Results, method: str) -> str:
    """Say a method's name as people know it; its short name too where two share a title."""
    titles = [facts.get("title") for facts in results["methods"].values()]
    title = results["methods"].get(method, {}).get("title")
    if not title:
        return method
    return f"{title} ({method})" if titles.count(title) > 1 else str(title)


def measured(results: Results) -> list[str]:
    """Name the methods that were not skipped, in the order given."""
    return [name for name, facts in results["methods"].items() if not facts.get("skipped")]


def judged_on(results: Results, method: str) -> int:
    """Count the support draws that a method was judged on; 0 where it has no cell."""
    return len({c["draw"] for c in results.get("cells") or () if c["method"] == method})


def skipped(results: Results) -> dict[str, str]:
    """Title to reason of the methods that were skipped."""
    return {
        title_of(results, name): str(facts["skipped"])
        for name, facts in results["methods"].items()
        if facts.get("skipped")
    }


def score_of(results: Results, method: str, labels: int, metric: str | None = None) -> Score | None:
    """Look up a method's mean and interval, by the main metric unless told."""
    wanted = (method, labels, metric or results["metric"])
    for row in results["summary"]:
        if (row["method"], row["labels"], row["metric"]) == wanted:
            return _score(row, "mean")
    return None


def rank_methods(results: Results, labels: int, groups: Sequence[str] = ()) -> list[str]:
    """Order the methods by the main metric, best first; those not measured there come last.

    Args:
        groups: Only methods of these, and only measured ones; empty for all.
    """
    scores = {name: score_of(results, name, labels) for name in measured(results)}
    if groups:
        members = [name for name in scores if results["methods"][name].get("group") in groups]
        scores = {name: scores[name] for name in members if scores[name] is not None}
    return sorted(scores, key=lambda name: -one.mean if (one := scores[name]) else math.inf)


def judge_ours(results: Results, labels: int) -> Verdict:
    """Hold ours against the best rival."""
    ours = score_of(results, results["ours"], labels)
    groups = ["rival"] if ours else ["ours", "rival", "reference"]
    rivals = [name for name in rank_methods(results, labels, groups) if name != results["ours"]]
    rival = rivals[0] if rivals else None
    rival_score = score_of(results, rival, labels) if rival else None
    difference, p, corrected_for = None, None, None
    if ours and rival and rival_score:
        difference = Score(ours.mean - rival_score.mean, None, None)
        row = paired_with(results, rival, labels)
        if row is not None:
            difference = _score(row, "difference") or difference
            p, corrected_for = p_of(results, row)
    outcome = _outcome(ours, rival, difference, p)
    return Verdict(labels, ours, rival, rival_score, difference, p, corrected_for, outcome)


def paired_with(results: Results, rival: str, labels: int) -> Mapping[str, Any] | None:
    """Look up the paired difference of ours and a rival, by the main metric."""
    wanted = (results["ours"], rival, labels, results["metric"])
    for row in results.get("paired") or ():
        if (row["method"], row["rival"], row["labels"], row["metric"]) == wanted:
            return dict(row)
    return None


def p_of(results: Results, row: Mapping[str, Any]) -> tuple[float | None, int | None]:
    """Read a paired row's corrected p and for how many comparisons, else the plain p and None.

    A row that does not count its `comparisons` was corrected over the rivals of its metric
    and number of labels.
    """
    corrected = _finite(row.get("p_adjusted"))
    if corrected is None:
        return _finite(row.get("p")), None
    alike = [
        other
        for other in results["paired"]
        if (other["metric"], other["labels"]) == (row["metric"], row["labels"])
    ]
    return corrected, int(row.get("comparisons") or len(alike))


def is_significant(p: float | None) -> bool:
    """Whether a p is below 0.05."""
    return p is not None and p < _SIGNIFICANT


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


def _score(row: Mapping[str, Any], field: str) -> Score | None:
    mean = _finite(row.get(field))
    if mean is None:
        return None
    return Score(mean, _finite(row.get("low")), _finite(row.get("high")))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
