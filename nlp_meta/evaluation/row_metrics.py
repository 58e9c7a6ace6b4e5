"""Metrics as functions of sums over rows, each of which Hugging Face `evaluate` can call.

`row_terms` gives a row's terms, `finish` turns their sums into the score. So `statistics.py`
scores thousands of resamples of the rows by one matrix product, and the same two steps are
inside the `evaluate.Metric` that scores a whole query set, ours or a user's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlp_meta.errors import DataError

Numbers = NDArray[np.float64]
ColumnTypes = Mapping[str, str | list[str]]
"""Name to type, such as `string`; of a list of these, the type in a list."""


@dataclass(frozen=True, slots=True)
class Columns:
    """How `evaluate` holds what is true and the answers of one skill.

    Attributes:
        types: Of every column that a metric of the skill may read.
        write: What is true and one answer for each, to columns.
        read: Some of the columns, by name, back to what is true and the answers.
    """

    types: ColumnTypes
    write: Callable[[Sequence[str], Sequence[Any]], dict[str, list[Any]]]
    read: Callable[..., tuple[Sequence[str], Sequence[Any]]]


@dataclass(frozen=True, slots=True, eq=False)
class RowMetric:
    """A metric in two steps; called with what is true, answers, and what is known of the task.

    Attributes:
        row_terms: The same arguments, to `(rows, terms)`.
        finish: Sums over rows, `(..., terms)`, and the number of rows, to scores `(...)`.
        inputs: Names of its columns.
        option: What must be known of the task: its `labels`, its target `language`, or nothing.
    """

    name: str
    description: str
    row_terms: Callable[[Sequence[str], Sequence[Any], Sequence[str]], Numbers]
    finish: Callable[[Numbers, int], Numbers]
    columns: Columns
    inputs: tuple[str, ...] = ("predictions", "references")
    option: str | None = None

    def __call__(self, true: Sequence[str], answers: Sequence[Any], known: Sequence[str]) -> float:
        """Score answers.

        Raises:
            DataError: No row, or as many answers as rows were not given.
        """
        check_rows(true, answers)
        return float(self.finish(self.row_terms(true, answers, known).sum(0), len(true)))

    def compute(self, **given: Any) -> dict[str, float]:
        """Score columns, by name; those of other metrics are not looked at."""
        true, answers = self.columns.read(**{name: given[name] for name in self.inputs})
        known = given.get(self.option or "")
        if known is None and self.option == "labels":
            known = sorted({*true, *(answer.label for answer in answers)})
        named = [known] if isinstance(known, str) else list(known or ())
        return {self.name: self(true, answers, named)}


def check_rows(true: Sequence[str], answers: Sequence[object]) -> None:
    """Stop unless there is one answer for each of at least one row.

    Raises:
        DataError: There is not.
    """
    if not true or len(true) != len(answers):
        raise DataError(
            f"cannot score {len(answers)} predictions for {len(true)} texts: one prediction for "
            "each of at least one text is needed; give what is true and what was predicted of "
            "the same rows"
        )


def mean_of_terms(sums: Numbers, rows: int) -> Numbers:
    """The mean of the only term."""
    return np.asarray(sums[..., 0] / rows)


def make_module(metric: RowMetric, known: Mapping[str, Any], **options: Any) -> Any:
    """Make an `evaluate.Metric`, without network; unless told otherwise it writes no file.

    Args:
        known: Of the task, by the metric's option; a call of `compute` may give another.
        options: Of `evaluate.Metric`.
    """
    return _module_class()(metric, known, **{"keep_in_memory": True, **options})


@cache
def _module_class() -> Any:
    """Importing `evaluate` takes seconds, so it waits for the first score."""
    import evaluate
    from datasets import Features, List, Value

    class RowMetricModule(evaluate.Metric):  # type: ignore[misc]
        """A `RowMetric` that `evaluate` calls."""

        def __init__(self, metric: RowMetric, known: Mapping[str, Any], **options: Any) -> None:
            self.metric, self.known = metric, known
            super().__init__(**options)
            self.info.module_name = metric.name

        def _info(self) -> evaluate.MetricInfo:
            types = self.metric.columns.types
            features = {
                name: List(Value(column[0])) if isinstance(column, list) else Value(column)
                for name, column in types.items()
                if name in self.metric.inputs
            }
            about = f"`{self.metric.option}` is that of the task." if self.metric.option else ""
            return evaluate.MetricInfo(
                description=self.metric.description,
                citation="",
                inputs_description=about,
                features=Features(features),
            )

        def _build_data_dir(self) -> str:
            return "" if self.keep_in_memory else str(super()._build_data_dir())

        def _compute(self, **columns: Any) -> dict[str, float]:
            return self.metric.compute(**{**self.known, **columns})

    return RowMetricModule
