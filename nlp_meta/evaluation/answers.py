"""Kinds of answers: labels, written translations, rankings; how each is checked, scored, kept.

What the rest of the comparison does with an answer goes by its kind alone. A new kind is
a row of the table below.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_meta.data.answers import Answer, Prediction, Ranking, Translation
from nlp_meta.data.episodes import Episode
from nlp_meta.data.languages import split_pair
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation import metrics, ranking_metrics, translation_metrics
from nlp_meta.evaluation.metrics import LOWER_IS_BETTER, RowSums, score_rows
from nlp_meta.evaluation.ranking_metrics import Placed, place_rankings

Kept = Prediction | Translation | Placed
"""An answer as it is scored and stored."""
Line = Mapping[str, Any]
Columns = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of answers.

    Attributes:
        metrics: By name, the main one first.
        known: What metrics know of a task: its labels, the target language of translations.
        lacking: What an answer should have been, nothing where it is that.
        damaged: Whether a stored answer is none to this episode.
        keep: Answers to an episode as they are scored and stored.
        write: Stored answers as parts of a line of JSON.
        read: The same back.
        columns: What a table of answers says of one: `predicted`, and how good or sure.
    """

    name: str
    metrics: Mapping[str, RowSums]
    known: Callable[[Episode], tuple[str, ...]]
    lacking: Callable[[Episode, Any], str | None]
    damaged: Callable[[Episode, Any], bool]
    keep: Callable[[Episode, Any], tuple[Kept, ...]]
    write: Callable[[Sequence[Any]], dict[str, object]]
    read: Callable[[Line], tuple[Kept, ...]]
    columns: Callable[[Episode, str, Any], Columns]

    @property
    def main_metrics(self) -> tuple[str, ...]:
        """Those of which more is better."""
        return tuple(name for name in self.metrics if name not in LOWER_IS_BETTER)


def kind_of(answers: Sequence[object]) -> Kind:
    """Find the kind of at least one answer, stored or not, by the first.

    Raises:
        DataError: It is no answer.
    """
    found = _KIND_OF.get(type(answers[0]))
    if found is None:
        raise DataError(
            f"cannot score {answers[0]!r:.200}: one of "
            f"{', '.join(one.__name__ for one in _KIND_OF)} is needed; correct the predictor"
        )
    return KINDS[found]


def kind_of_metric(metric: str, *, setting: str = "metric") -> Kind:
    """Find the kind of answers that a metric scores.

    Args:
        setting: Where the user named the metric, for the message.

    Raises:
        SettingsError: There is no metric of that name.
    """
    for kind in KINDS.values():
        if metric in kind.metrics:
            return kind
    names = [name for kind in KINDS.values() for name in kind.metrics]
    raise SettingsError(
        f"cannot score by '{metric}': one of {', '.join(names)} is needed; change `{setting}`"
    )


def find_metric(metric: str) -> RowSums:
    """Look a metric of any kind up by its name.

    Raises:
        SettingsError: There is none of that name.
    """
    return kind_of_metric(metric).metrics[metric]


def missing_for(metric: str) -> str | None:
    """Say why a metric cannot be computed on this machine, or nothing where it can."""
    return translation_metrics.spbleu_missing() if metric == "spbleu" else None


def score_episode(episode: Episode, answers: Sequence[Kept]) -> dict[str, float | None]:
    """Score stored answers by every metric of their kind; None where one cannot be computed."""
    kind = kind_of(answers)
    true, known = [example.target for example in episode.query], kind.known(episode)
    return {
        name: None if missing_for(name) else score_rows(metric, true, answers, known)
        for name, metric in kind.metrics.items()
    }


def is_damaged(
    episode: Episode, answers: Sequence[Kept], scores: Mapping[str, float | None]
) -> bool:
    """Whether stored answers are none to an episode, or not those that were scored.

    Args:
        scores: That were stored; the first of the kind's metrics is made again.
    """
    kind = kind_of(answers)
    if any(kind.damaged(episode, one) for one in answers):
        return True
    name, metric = next(iter(kind.metrics.items()))
    true = [example.target for example in episode.query]
    again = score_rows(metric, true, answers, kind.known(episode))
    return not math.isclose(again, scores[name] or 0.0, abs_tol=1e-6)


def episode_scorer(
    metric: str, *, setting: str = "metric"
) -> Callable[[Episode, Sequence[Answer]], float]:
    """Give a metric as a function of an episode and a predictor's answers to its queries.

    Arguments and errors are those of `kind_of_metric`.
    """
    kind = kind_of_metric(metric, setting=setting)

    def score(episode: Episode, answers: Sequence[Answer]) -> float:
        true = [example.target for example in episode.query]
        kept = kind.keep(episode, answers)
        return score_rows(kind.metrics[metric], true, kept, kind.known(episode))

    return score


def _labels(episode: Episode) -> tuple[str, ...]:
    return episode.labels


def _language(episode: Episode) -> tuple[str, ...]:
    return (split_pair(episode.language)[1],)


def _nothing(_episode: Episode) -> tuple[str, ...]:
    return ()


def _lacking_label(episode: Episode, one: Prediction) -> str | None:
    known = isinstance(one, Prediction) and one.label in episode.labels
    known = known and set(one.probabilities) == set(episode.labels)
    # NaN fails this comparison, as it must; float32 rounding passes it.
    if known and math.isclose(sum(one.probabilities.values()), 1, abs_tol=1e-3):
        return None
    return f"a probability for each of {', '.join(episode.labels)} that add up to 1"


def _lacking_translation(_episode: Episode, one: Translation) -> str | None:
    good = isinstance(one, Translation) and isinstance(one.text, str)
    return None if good else "a translation that is a text"


def _lacking_ranking(episode: Episode, one: Ranking) -> str | None:
    places = range(len(episode.candidates))
    if isinstance(one, Ranking) and one.mined in places and sorted(one.order) == list(places):
        return None
    return f"each of the places 0 to {len(places) - 1} of its candidates once, and a mined one"


def _damaged_label(episode: Episode, one: Prediction) -> bool:
    return _lacking_label(episode, one) is not None


def _damaged_translation(episode: Episode, one: Translation) -> bool:
    return _lacking_translation(episode, one) is not None


def _damaged_place(episode: Episode, one: Placed) -> bool:
    places = range(len(episode.candidates))
    return not all(place in places for place in (one.rank - 1, one.right, one.first, one.mined))


def _keep_all(_episode: Episode, answers: Sequence[Kept]) -> tuple[Kept, ...]:
    return tuple(answers)


def _write_labels(answers: Sequence[Prediction]) -> dict[str, object]:
    names = list(answers[0].probabilities)
    rows = [
        [names.index(one.label), *(one.probabilities[name] for name in names)] for one in answers
    ]
    return {"labels": names, "answers": rows}


def _read_labels(line: Line) -> tuple[Prediction, ...]:
    names = line["labels"]
    return tuple(
        Prediction(names[place], dict(zip(names, row, strict=True)))
        for place, *row in line["answers"]
    )


def _write_translations(answers: Sequence[Translation]) -> dict[str, object]:
    return {"kind": "generation", "answers": [one.text for one in answers]}


def _read_translations(line: Line) -> tuple[Translation, ...]:
    return tuple(Translation(str(text)) for text in line["answers"])


def _write_placed(answers: Sequence[Placed]) -> dict[str, object]:
    rows = [[one.rank, one.right, one.first, one.mined] for one in answers]
    return {"kind": "retrieval", "answers": rows}


def _read_placed(line: Line) -> tuple[Placed, ...]:
    return tuple(Placed(*map(int, row)) for row in line["answers"])


def _label_columns(_episode: Episode, _true: str, one: Prediction) -> Columns:
    return {"predicted": one.label, "probability": one.probabilities[one.label]}


def _translation_columns(_episode: Episode, true: str, one: Translation) -> Columns:
    return {"predicted": one.text, "chrf": translation_metrics.chrf([true], [one], ())}


def _placed_columns(episode: Episode, _true: str, one: Placed) -> Columns:
    names = episode.candidates
    return {"predicted": names[one.first], "rank": one.rank, "mined": names[one.mined]}


KINDS: Mapping[str, Kind] = {
    "classification": Kind(
        "classification",
        metrics.ROW_SUMS,
        _labels,
        _lacking_label,
        _damaged_label,
        _keep_all,
        _write_labels,
        _read_labels,
        _label_columns,
    ),
    "generation": Kind(
        "generation",
        translation_metrics.ROW_SUMS,
        _language,
        _lacking_translation,
        _damaged_translation,
        _keep_all,
        _write_translations,
        _read_translations,
        _translation_columns,
    ),
    "retrieval": Kind(
        "retrieval",
        ranking_metrics.ROW_SUMS,
        _nothing,
        _lacking_ranking,
        _damaged_place,
        place_rankings,
        _write_placed,
        _read_placed,
        _placed_columns,
    ),
}
"""By name, as a stored line says it; one without a kind holds labels."""
_KIND_OF: Mapping[type, str] = {
    Prediction: "classification",
    Translation: "generation",
    Ranking: "retrieval",
    Placed: "retrieval",
}
