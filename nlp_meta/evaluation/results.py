"""Results: from finished cells to every number that a comparison reports."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nlp_meta.data.episodes import GENERATION, Episode
from nlp_meta.data.tasks import Example
from nlp_meta.evaluation.answers import ANSWERS, form_of, missing_for
from nlp_meta.evaluation.judged import Judged, worst_task
from nlp_meta.evaluation.learning_curve import FEWEST_SIZES, break_even, gain_of, scores_of_answers
from nlp_meta.evaluation.metrics import LOWER_IS_BETTER, signature_of
from nlp_meta.evaluation.protocol import CellKey, FinishedCell, flatten_cell, row_key
from nlp_meta.evaluation.statistics import SHARES, holm, paired_difference, resampled_interval

Rows = list[dict[str, object]]

FEW_LABELS = 30
"""A prediction of what more labels bring looks so far ahead, of more than twice as many half of
them; of fewer there, as many again."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """How numbers are made of cells.

    Attributes:
        metric: The main one; differences and break-even are given in it.
        ours: The method that every other is paired with; None pairs nothing.
        over_tasks: Whether intervals speak of other tasks than these.
    """

    metric: str
    ours: str | None
    over_tasks: bool
    resamples: int
    seed: int
    level: float = 0.95

    @property
    def resampling(self) -> dict[str, Any]:
        """How intervals are made."""
        names = ("over_tasks", "level", "resamples", "seed")
        return {name: getattr(self, name) for name in names}


def analyze(
    records: Mapping[CellKey, FinishedCell], episodes: Sequence[Episode], analysis: Analysis
) -> dict[str, Rows]:
    """Give cells, summaries, differences and break-even points, as lists of plain dicts."""
    by_place = {
        (episode.task, len(episode.support), episode.index): episode for episode in episodes
    }
    judged: dict[tuple[str, int], list[Judged]] = {}
    for record in records.values():
        cell = record.cell
        episode = by_place[cell.task, cell.labels, cell.draw]
        judged.setdefault((record.method, cell.labels), []).append(to_judged(record, episode))
    rows: dict[str, Rows] = {
        "cells": [
            {"method": record.method, **flatten_cell(record.cell), **record.facts}
            for record in records.values()
        ],
        "summary": list(_summaries(judged, analysis)),
        "worst": list(_worst(judged)),
        "by_task": list(_by_task(records)),
        "paired": _differences(judged, analysis),
        "break_even": list(_break_even(judged, analysis)),
        "gains": list(_gains(judged, analysis)),
    }
    signatures = _signatures(judged)
    return {**rows, "signatures": signatures} if signatures else rows


def to_judged(record: FinishedCell, episode: Episode) -> Judged:
    """Join a cell's answers with the targets that its method never saw."""
    return Judged(
        task=episode.task,
        draw=episode.index,
        labels=form_of(record.predictions).known(episode),
        rows=tuple(_sentence_key(episode.task, example) for example in episode.query),
        true=tuple(example.target for example in episode.query),
        predictions=record.predictions,
    )


def _signatures(judged: Mapping[tuple[str, int], Sequence[Judged]]) -> Rows:
    """sacrebleu's signature of each metric of translations, with the tasks that it is of."""
    rows: dict[tuple[str, str], list[str]] = {}
    languages = {cell.task: cell.labels for cells in judged.values() for cell in cells}
    skills = {form_of(cells[0].predictions).skill for cells in judged.values()}
    if skills != {GENERATION}:
        return []
    for metric in ANSWERS[GENERATION].metrics:
        for task, (language,) in languages.items():
            if not missing_for(metric):
                rows.setdefault((metric, signature_of(metric, language)), []).append(task)
    return [
        {"metric": metric, "signature": signature, "tasks": tasks}
        for (metric, signature), tasks in rows.items()
    ]


def _summaries(
    judged: Mapping[tuple[str, int], Sequence[Judged]], analysis: Analysis
) -> Iterator[dict[str, object]]:
    for (method, labels), cells in judged.items():
        for metric in form_of(cells[0].predictions).metrics:
            if missing_for(metric):
                continue
            interval = resampled_interval(
                cells,
                metric,
                **analysis.resampling,
            )
            yield {"method": method, "labels": labels, "metric": metric, **asdict(interval)}


def _worst(judged: Mapping[tuple[str, int], Sequence[Judged]]) -> Iterator[dict[str, object]]:
    for (method, labels), cells in judged.items():
        for metric in form_of(cells[0].predictions).main_metrics:
            if missing_for(metric):
                continue
            task, mean = worst_task(cells, metric)
            yield {"method": method, "labels": labels, "metric": metric, "task": task, "mean": mean}


def _by_task(records: Mapping[CellKey, FinishedCell]) -> Iterator[dict[str, object]]:
    cells: dict[tuple[str, int, str], list[FinishedCell]] = {}
    for record in records.values():
        cells.setdefault((record.method, record.cell.labels, record.cell.task), []).append(record)
    for (method, labels, task), cells_of_task in cells.items():
        for metric in cells_of_task[0].cell.scores:
            scores = [
                s for record in cells_of_task if (s := record.cell.scores[metric]) is not None
            ]
            if len(scores) < len(cells_of_task):
                continue
            yield {
                "method": method,
                "labels": labels,
                "metric": metric,
                "task": task,
                "mean": sum(scores) / len(scores),
            }


def _differences(judged: Mapping[tuple[str, int], Sequence[Judged]], analysis: Analysis) -> Rows:
    """Ours minus every other at every number of labels; Holm over the rivals of each number."""
    rows: Rows = []
    for labels in sorted({labels for _, labels in judged}):
        ours = judged.get((analysis.ours or "", labels))
        if ours is None:
            continue
        family: Rows = []
        for (method, budget), cells in judged.items():
            if budget != labels or method == analysis.ours:
                continue
            shared = _places(ours) & _places(cells)
            if not shared:
                continue
            paired = paired_difference(
                _at(ours, shared),
                _at(cells, shared),
                analysis.metric,
                **analysis.resampling,
            )
            family.append(
                {
                    "method": analysis.ours,
                    "rival": method,
                    "labels": labels,
                    "metric": analysis.metric,
                    **asdict(paired),
                }
            )
        adjusted = holm([float(str(row["p"])) for row in family])
        rows += [{**row, "p_adjusted": p} for row, p in zip(family, adjusted, strict=True)]
    return rows


def _break_even(
    judged: Mapping[tuple[str, int], Sequence[Judged]], analysis: Analysis
) -> Iterator[dict[str, object]]:
    """For ours at each number of labels: how many each rival needs to do as well."""
    rivals = dict.fromkeys(method for method, _ in judged if method != analysis.ours)
    for (method, at), ours in judged.items():
        if method != analysis.ours:
            continue
        for rival in rivals:
            curve = {labels: cells for (name, labels), cells in judged.items() if name == rival}
            shared = set.intersection(*(_places(cells) for cells in (ours, *curve.values())))
            if not shared:
                continue
            even = break_even(
                _at(ours, shared),
                {labels: _at(cells, shared) for labels, cells in curve.items()},
                analysis.metric,
                **analysis.resampling,
            )
            yield {
                "method": method,
                "rival": rival,
                "metric": analysis.metric,
                "at": at,
                **asdict(even),
            }


def _gains(
    judged: Mapping[tuple[str, int], Sequence[Judged]], analysis: Analysis
) -> Iterator[dict[str, object]]:
    """For each method: what more labels than it was given at most should bring."""
    if analysis.metric not in SHARES - LOWER_IS_BETTER:
        return
    for method in dict.fromkeys(method for method, _ in judged):
        curve = {n: cells for (name, n), cells in judged.items() if name == method and n}
        shared = set.intersection(*(_places(cells) for cells in curve.values())) if curve else set()
        if len(curve) < FEWEST_SIZES or not shared:
            continue
        scored = scores_of_answers(
            {labels: _at(cells, shared) for labels, cells in curve.items()},
            analysis.metric,
            resamples=analysis.resamples,
            seed=analysis.seed,
        )
        most = max(curve)
        more = max(min(most, FEW_LABELS), most // 2)
        gain = gain_of(scored, most, more=more, level=analysis.level)
        yield {
            "method": method,
            "labels": most,
            "metric": analysis.metric,
            "more": more,
            **asdict(gain),
        }


def _places(cells: Sequence[Judged]) -> set[tuple[str, int]]:
    """The tasks and draws that a method was judged on: costly ones, or poor tasks, lack some."""
    return {(cell.task, cell.draw) for cell in cells}


def _at(cells: Sequence[Judged], places: set[tuple[str, int]]) -> list[Judged]:
    return [cell for cell in cells if (cell.task, cell.draw) in places]


def _sentence_key(task: str, example: Example) -> str:
    """One key for a sentence in all languages of a parallel corpus: their luck is shared."""
    if example.group is None:
        return row_key(example.source)
    return row_key(f"{task.split('/')[0]} {example.group}")
