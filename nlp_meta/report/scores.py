"""Scores of a comparison, read from the dict of `results.json`, and how they are written.

The page, its tables and its pictures read and write every number here, so that all of them say
the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_meta.errors import DataError
from nlp_meta.evaluation.answers import ANSWERS, skill_of_metric

Results = Mapping[str, Any]
"""What `results.json` holds."""

_FORMAT = 1
_MAIN_METRICS = tuple(name for form in ANSWERS.values() for name in form.main_metrics)
_NEEDED = ("title", "metric", "labels", "draws", "ours", "tasks", "methods", "summary")
_SIGNIFICANT = 0.05
NONE = "-"


@dataclass(frozen=True, slots=True)
class Score:
    """A mean, with its interval where there is one: a single draw has none."""

    mean: float
    low: float | None
    high: float | None


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


MEASURES: Mapping[str, Measure] = {
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
        answer: What a method gives for a text.
        task: What a task differs in from the others.
        fields: By the fields of a task that may tell it apart, the first that does.
    """

    given: str
    given_at_first: str
    text: str
    answer: str
    task: str
    fields: Mapping[str, str]

    def count(self, number: int) -> str:
        """Write a number of what support sets count."""
        return f"{number} {self.given}" if number == 1 else f"{number} {self.given}s"


_PAIRS = Words(
    given="pair",
    given_at_first="sentence pair",
    text="sentence",
    answer="sentence",
    task="task",
    fields={"language": "language pair", "domain": "domain"},
)
_WORDS: Mapping[str, Words] = {
    "classification": Words(
        given="label",
        given_at_first="label",
        text="text",
        answer="prediction",
        task="domain",
        fields={"domain": "domain", "language": "language"},
    ),
    "retrieval": _PAIRS,
    "generation": _PAIRS,
}


def skill_of(results: Results) -> str:
    """Name the skill that was judged, by the main metric."""
    return skill_of_metric(results["metric"])


def words_of(results: Results) -> Words:
    """Give the words that suit the skill."""
    return _WORDS[skill_of(results)]


def measure_of(results: Results) -> Measure:
    """Give the main metric."""
    return MEASURES[results["metric"]]


def measures_of(results: Results) -> dict[str, Measure]:
    """Give the metrics of these results by name, those that could be computed."""
    computed = {row["metric"] for row in results["summary"]}
    names = ANSWERS[skill_of_metric(results["metric"])].metrics
    return {name: MEASURES[name] for name in names if name in computed}


def check_results(results: Results) -> None:
    """Stop unless these are results that this version can report.

    Raises:
        DataError: Another format, a part is missing, or no label count was measured.
    """
    if results.get("format") != _FORMAT:
        raise DataError(
            f"cannot report results of format {results.get('format')}: format {_FORMAT} is needed; "
            "run the comparison again with this version"
        )
    missing = [name for name in _NEEDED if name not in results]
    if missing or results["metric"] not in _MAIN_METRICS or not results["labels"]:
        raise DataError(
            f"cannot report results without {missing}, by metric '{results.get('metric')}' at "
            f"labels {results.get('labels')}: all of {', '.join(_NEEDED)}, a metric of "
            f"{', '.join(_MAIN_METRICS)} and one number of labels are needed; run the comparison "
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
            return read_score(row)
    return None


def read_score(row: Mapping[str, Any], field: str = "mean") -> Score | None:
    """Read a mean, or a difference, with its interval; None where it is no number."""
    mean = _finite(row.get(field))
    if mean is None:
        return None
    return Score(mean, _finite(row.get("low")), _finite(row.get("high")))


def scored_methods(results: Results, labels: int) -> list[str]:
    """Order the methods that have a score, by the main metric, best first."""
    scores = {
        name: score.mean for name in measured(results) if (score := score_of(results, name, labels))
    }
    return sorted(scores, key=lambda name: -scores[name])


def rank_methods(results: Results, labels: int) -> list[str]:
    """Order the methods by the main metric, best first; those not measured there come last."""
    scored = scored_methods(results, labels)
    return [*scored, *(name for name in measured(results) if name not in scored)]


def rank_advised(results: Results, labels: int) -> list[str]:
    """Order the methods that could be advised, the best first; references are none.

    What counts is how far a method is ahead of ours: as the two were paired, on draws that both
    have, else by their means. Methods that were judged on fewer draws come last, unless they are
    shown to be better. Of a tie ours comes first, then the order given.
    """
    ours = score_of(results, results["ours"], labels)
    places: dict[str, tuple[bool, float, bool]] = {}
    for name in scored_methods(results, labels):
        score = score_of(results, name, labels)
        if score is None or results["methods"][name].get("group") == "reference":
            continue
        pair = paired_with(results, name, labels) if ours else None
        paired = read_score(pair, "difference") if pair else None
        ahead = -paired.mean if paired else score.mean - (ours.mean if ours else 0)
        few = 0 < judged_on(results, name) < results["draws"]
        shown = pair is not None and ahead > 0 and is_significant(p_of(results, pair)[0])
        places[name] = (few and not shown, -ahead, name != results["ours"])
    given = [name for name in measured(results) if name in places]
    return sorted(given, key=lambda name: places[name])


def kind_of(results: Results, method: str) -> str:
    """Say a method's name in the table of methods, as the settings have it."""
    plan = (results.get("settings") or {}).get("comparison") or {}
    return str((plan.get("methods") or {}).get(method, method)).partition(" ")[0]


def paired_with(results: Results, rival: str, labels: int) -> Mapping[str, Any] | None:
    """Look up the paired difference of ours and a rival, by the main metric."""
    wanted = (results["ours"], rival, labels, results["metric"])
    for row in results.get("paired") or ():
        if (row["method"], row["rival"], row["labels"], row["metric"]) == wanted:
            return dict(row)
    return None


def p_of(results: Results, row: Mapping[str, Any]) -> tuple[float | None, int | None]:
    """Read a paired row's p and for how many comparisons it was corrected, if it was.

    All rows of its metric and number of labels were corrected together.
    """
    corrected = _finite(row.get("p_adjusted"))
    if corrected is None:
        return _finite(row.get("p")), None
    family = (row["metric"], row["labels"])
    return corrected, sum((o["metric"], o["labels"]) == family for o in results["paired"])


def is_significant(p: float | None) -> bool:
    """Whether a p is below 0.05."""
    return p is not None and p < _SIGNIFICANT


def cost_of(results: Results, method: str, labels: int, field: str) -> float | None:
    """Average what a method's cells at one number of labels cost."""
    values = [
        float(cell[field])
        for cell in results.get("cells") or ()
        if (cell["method"], cell["labels"]) == (method, labels) and cell.get(field) is not None
    ]
    return sum(values) / len(values) if values else None


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


def say_count(value: float | None) -> str:
    """Write a count with its thousands apart."""
    return NONE if value is None else f"{round(value):,}"


def say_bytes(value: float | None) -> str:
    """Write a size in the unit that suits it."""
    if value is None:
        return NONE
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def say_quantity(value: float | None) -> str:
    """Write a time with two significant digits."""
    if value is None:
        return NONE
    if value == 0 or value >= 10:
        return f"{value:,.0f}"
    if value < 0.001:
        return "<0.001"
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}"


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
