"""Metrics of rankings: is the right translation found among the candidates?

Of a ranking a metric needs the rank of the right candidate and whether mining would take it;
that, and what was taken in its place, is all that is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from nlp_meta.data.answers import Ranking
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import Episode
from nlp_meta.errors import DataError
from nlp_meta.evaluation.metrics import (
    STRINGS,
    Compute,
    Numbers,
    RowSums,
    make_metric_class,
    score_rows,
)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a ranking put the right candidate; candidates by their places in the episode.

    Attributes:
        rank: Of the right candidate, from 1.
        right: Place of the right candidate.
        first: Place of the candidate that it put first.
        mined: Place of the best candidate by margin.
    """

    rank: int
    right: int
    first: int
    mined: int


def place_rankings(episode: Episode, rankings: Sequence[Ranking]) -> tuple[Placed, ...]:
    """Look the right candidate up in the ranking of each query.

    Candidates and translations are the same where they differ in case and punctuation alone.

    Raises:
        DataError: The translation of a query is not among the candidates.
    """
    places: dict[str, int] = {}
    for place, candidate in enumerate(episode.candidates):
        places.setdefault(text_key(candidate), place)
    found = []
    for row, (example, one) in enumerate(zip(episode.query, rankings, strict=True)):
        right = places.get(text_key(example.target))
        if right is None:
            raise DataError(
                f"cannot score rankings on task '{episode.task}', draw {episode.index}: the "
                f"translation of text {row} is not among the {len(episode.candidates)} "
                "candidates, where it is needed; draw the episode with `candidates`"
            )
        found.append(Placed(one.order.index(right) + 1, right, one.order[0], one.mined))
    return tuple(found)


def precision_at_1(true: Sequence[str], placed: Sequence[Placed], known: Sequence[str]) -> float:
    """Share of queries whose translation is ranked first, from 0 to 1.

    Raises:
        DataError: No row, or as many answers as rows were not given.
    """
    return score_rows(ROW_SUMS["precision_at_1"], true, placed, known)


def mean_reciprocal_rank(
    true: Sequence[str], placed: Sequence[Placed], known: Sequence[str]
) -> float:
    """Mean of 1 / rank of the right translation, from 0 to 1.

    Raises:
        DataError: No row, or as many answers as rows were not given.
    """
    return score_rows(ROW_SUMS["mrr"], true, placed, known)


def xsim_error(true: Sequence[str], placed: Sequence[Placed], known: Sequence[str]) -> float:
    """Share of queries for which mining by margin would take a wrong translation, from 0 to 1.

    Raises:
        DataError: No row, or as many answers as rows were not given.

    Source:
        Artetxe and Schwenk 2019, arXiv:1811.01136, section 3, for the margin; Heffernan et al.
        2022, arXiv:2205.12654, section 3, for the error.
    """
    return score_rows(ROW_SUMS["xsim"], true, placed, known)


def _first(_true: Sequence[str], placed: Sequence[Placed], _known: Sequence[str]) -> Numbers:
    return np.array([[float(one.rank == 1)] for one in placed])


def _reciprocal(_true: Sequence[str], placed: Sequence[Placed], _known: Sequence[str]) -> Numbers:
    return np.array([[1 / one.rank] for one in placed])


def _mined_wrongly(
    _true: Sequence[str], placed: Sequence[Placed], _known: Sequence[str]
) -> Numbers:
    return np.array([[float(one.mined != one.right)] for one in placed])


def _mean(sums: Numbers, rows: int) -> Numbers:
    return np.asarray(sums[..., 0] / rows)


ROW_SUMS: Mapping[str, RowSums] = {
    "precision_at_1": RowSums(_first, _mean),
    "mrr": RowSums(_reciprocal, _mean),
    "xsim": RowSums(_mined_wrongly, _mean),
}
"""Metrics of rankings, in two steps; of a task nothing need be known."""


def __getattr__(name: str) -> Any:
    """Give `PrecisionAt1`, `MeanReciprocalRank` and `XsimError`, of `evaluate.Metric`.

    They are made at first use.
    """
    if name in _COMPUTE:
        return _metric_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _compute_precision(
    *, predictions: Sequence[Sequence[str]], references: Sequence[str]
) -> dict[str, float]:
    """`predictions` are ranked candidates, the likeliest first, with the right one among them."""
    return {"precision_at_1": precision_at_1(references, _look_up(predictions, references), ())}


def _compute_mrr(
    *, predictions: Sequence[Sequence[str]], references: Sequence[str]
) -> dict[str, float]:
    """`predictions` are ranked candidates, the likeliest first, with the right one among them."""
    return {"mrr": mean_reciprocal_rank(references, _look_up(predictions, references), ())}


def _compute_xsim(*, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """`predictions` are the candidates that mining takes, one a row."""
    placed = _look_up(
        [list(pair) for pair in zip(predictions, references, strict=True)], references
    )
    return {"xsim": xsim_error(references, placed, ())}


def _look_up(ranked: Sequence[Sequence[str]], references: Sequence[str]) -> tuple[Placed, ...]:
    found = []
    for row, (candidates, reference) in enumerate(zip(ranked, references, strict=True)):
        if reference not in candidates:
            raise DataError(
                f"cannot score the ranking of row {row}: '{reference}' is not among its "
                f"{len(candidates)} candidates, where it is needed; rank all candidates"
            )
        place = candidates.index(reference)
        found.append(Placed(place + 1, place, 0, 0))
    return tuple(found)


_RANKED: Mapping[str, str | list[str]] = {"predictions": ["string"], "references": "string"}
_COMPUTE: Mapping[str, tuple[Compute, Mapping[str, str | list[str]], str | None]] = {
    "PrecisionAt1": (_compute_precision, _RANKED, precision_at_1.__doc__),
    "MeanReciprocalRank": (_compute_mrr, _RANKED, mean_reciprocal_rank.__doc__),
    "XsimError": (_compute_xsim, {**STRINGS}, xsim_error.__doc__),
}


@cache
def _metric_class(name: str) -> type:
    compute, columns, about = _COMPUTE[name]
    return make_metric_class(name, compute, columns, description=about or "", module=__name__)
