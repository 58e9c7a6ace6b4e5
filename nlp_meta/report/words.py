"""Words: how a comparison is spoken of, by what its methods answered with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nlp_meta.evaluation.kinds import kind_of_metric


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
