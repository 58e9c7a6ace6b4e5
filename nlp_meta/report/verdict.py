"""The verdict of a comparison: is ours better than the best rival, and how sure is that?

Everything that the page, its tables and its pictures say is read here from the dict of
`results.json`, so that all of them say the same.

Words: how a comparison is spoken of, by what its methods answered with.

The answer in a sentence, and how scores are written everywhere: once, so that all agree.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nlp_meta.errors import DataError
from nlp_meta.evaluation.answers import KINDS, kind_of_metric

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


@dataclass(frozen=True, slots=True)
class Measure:
    """How a metric is written.

    Attributes:
        top: The best score there is; the worst is 0.
        places: Decimals in tables; pictures take one fewer, a sentence too where that hides
            nothing.
        fixed: Its first letter stays small.
    """

    name: str
    top: int = 1
    places: int = 3
    fixed: bool = False

    @property
    def title(self) -> str:
        """The name as a sentence begins with it."""
        return self.name if self.fixed else self.name[:1].upper() + self.name[1:]


METRICS: Mapping[str, Measure] = {
    "accuracy": Measure("accuracy"),
    "macro_f1": Measure("macro-F1"),
    "ece": Measure("calibration error"),
    "chrf": Measure("chrF++", 100, 2, fixed=True),
    "bleu": Measure("BLEU", 100, 2),
    "spbleu": Measure("spBLEU", 100, 2, fixed=True),
    "precision_at_1": Measure("precision@1"),
    "mrr": Measure("mean reciprocal rank"),
    "xsim": Measure("xsim error"),
}


@dataclass(frozen=True, slots=True)
class Words:
    """What the things of a comparison are called, in the singular.

    Attributes:
        given: What a support set counts; `given_at_first` where that is not yet clear.
        task: What a task differs in from the others.
    """

    given: str
    given_at_first: str
    text: str
    task: str

    def count(self, number: int) -> str:
        """Write a number of what support sets count."""
        return f"{number} {self.given}" if number == 1 else f"{number} {self.given}s"


_LABELS = Words("label", "label", "text", "domain")
_PAIRS = Words("pair", "sentence pair", "sentence", "task")


def kind_of_results(results: Mapping[str, Any]) -> str:
    """Name the kind of answers that were judged, by the main metric."""
    return kind_of_metric(results["metric"]).name


def measures_of(results: Mapping[str, Any]) -> dict[str, Measure]:
    """Give the metrics of these results by name, those that could be computed."""
    there = {row["metric"] for row in results["summary"]}
    names = kind_of_metric(results["metric"]).metrics
    return {name: METRICS[name] for name in names if name in there}


def words_of(results: Mapping[str, Any]) -> Words:
    """Give the words that suit the answers."""
    return _LABELS if kind_of_results(results) == "classification" else _PAIRS


def measure_of(results: Mapping[str, Any]) -> Measure:
    """Give the main metric."""
    return METRICS[results["metric"]]


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


def say_score(score: Score, places: int) -> str:
    """Write a mean and its interval, such as `0.87 [0.85, 0.89]`."""
    return say_number(score.mean, places) + say_interval(score, places)


def say_interval(score: Score, places: int, *, sign: bool = False) -> str:
    """Write an interval with a space before it, or nothing where there is none."""
    if score.low is None or score.high is None:
        return ""
    low, high = (say_number(end, places, sign=sign) for end in (score.low, score.high))
    return f" [{low}, {high}]"


def say_number(value: float, places: int, *, sign: bool = False) -> str:
    """Write a number, its sign too if asked; what rounds to zero has none."""
    text = f"{value:{'+' if sign else ''}.{places}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def say_p(p: float) -> str:
    """Write a p as `p = 0.41` or `p < 0.001`."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def join_names(names: Sequence[str]) -> str:
    """Write names as `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


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
    fields = {"domain": "domain", "language": "language"}
    if kind_of_results(results) != "classification":
        fields = {"language": "language pair", "domain": "domain"}
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
    meaning = {"ahead": "significant, ours is better", "behind": "significant, the rival is better"}
    said = meaning.get(verdict.outcome, "not significant")
    return f"{text} is {said} ({say_p(verdict.p)}, {how})"


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
