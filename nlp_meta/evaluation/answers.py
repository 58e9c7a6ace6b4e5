"""Answers by skill: how labels, translations and rankings are checked, scored and kept.

What the rest of a comparison does with an answer is read from one table, `ANSWERS`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_meta.data.answers import Answer, Placed, Prediction, Ranking, Translation
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.duplicates import first_by_key, text_key
from nlp_meta.data.episodes import GENERATION, RETRIEVAL, Episode
from nlp_meta.data.languages import split_pair
from nlp_meta.errors import DataError
from nlp_meta.evaluation import metrics
from nlp_meta.evaluation.metrics import (
    LABEL_METRICS,
    LOWER_IS_BETTER,
    RANKING_METRICS,
    TRANSLATION_METRICS,
    RowMetric,
    chrf,
    find_metric,
    score,
)

Kept = Prediction | Translation | Placed
"""An answer as it is scored and stored."""
Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What the answers of a skill are like.

    Attributes:
        metrics: By name, the main one first.
        known: What metrics know of a task: its labels, the target language of translations.
        lacking: What an answer should have been, nothing where it is that.
        damaged: True, or what it lacks, where a stored answer is none to this episode.
        keep: Answers to an episode as they are scored and stored.
        write: Stored answers as parts of a line of JSON.
        read: The same back.
        columns: What a table of answers says of one: `predicted`, and how good or sure.
    """

    skill: str
    metrics: Mapping[str, RowMetric]
    known: Callable[[Episode], tuple[str, ...]]
    lacking: Callable[[Episode, Any], str | None]
    damaged: Callable[[Episode, Any], object]
    keep: Callable[[Episode, Any], tuple[Kept, ...]]
    write: Callable[[Sequence[Any]], dict[str, object]]
    read: Callable[[Line], tuple[Kept, ...]]
    columns: Callable[[Episode, str, Any], Mapping[str, object]]

    @property
    def main_metrics(self) -> tuple[str, ...]:
        """Those of which more is better."""
        return tuple(name for name in self.metrics if name not in LOWER_IS_BETTER)


def form_of(answers: Sequence[object]) -> AnswerForm:
    """Find the form of at least one answer, stored or not, by the first.

    Raises:
        DataError: It is no answer.
    """
    skill = _SKILL_OF.get(type(answers[0]))
    if skill is None:
        raise DataError(
            f"cannot score {answers[0]!r:.200}: one of "
            f"{', '.join(answer.__name__ for answer in _SKILL_OF)} is needed; correct the method"
        )
    return ANSWERS[skill]


def skill_of_metric(metric: str, *, setting: str = "metric") -> str:
    """Find the skill whose answers a metric scores.

    Args:
        setting: Where the user named the metric, for the message.

    Raises:
        SettingsError: There is no metric of that name.
    """
    scorer = find_metric(metric, setting=setting)
    return next(skill for skill, form in ANSWERS.items() if scorer in form.metrics.values())


def missing_for(metric: str) -> str | None:
    """Say why a metric cannot be computed on this machine, or nothing where it can."""
    return metrics.spbleu_missing() if metric == "spbleu" else None


def score_episode(episode: Episode, answers: Sequence[Kept]) -> dict[str, float | None]:
    """Score stored answers by every metric of their skill; None where one cannot be computed."""
    form = form_of(answers)
    true, known = [example.target for example in episode.query], form.known(episode)
    return {
        metric: None if missing_for(metric) else score(metric, true, answers, known)
        for metric in form.metrics
    }


def is_damaged(
    episode: Episode, answers: Sequence[Kept], scores: Mapping[str, float | None]
) -> bool:
    """Whether stored answers are none to an episode, or not those that were scored.

    Args:
        scores: That were stored; the first of the skill's metrics is made again.
    """
    form = form_of(answers)
    if any(form.damaged(episode, answer) for answer in answers):
        return True
    name, metric = next(iter(form.metrics.items()))
    true = [example.target for example in episode.query]
    again = metric(true, answers, form.known(episode))
    return not math.isclose(again, scores[name] or 0.0, abs_tol=1e-6)


def episode_scorer(
    metric: str, *, setting: str = "metric"
) -> Callable[[Episode, Sequence[Answer]], float]:
    """Give a metric as a function of an episode and a method's answers to its queries.

    Arguments and errors are those of `skill_of_metric`.
    """
    form = ANSWERS[skill_of_metric(metric, setting=setting)]

    def score(episode: Episode, answers: Sequence[Answer]) -> float:
        true = [example.target for example in episode.query]
        kept = form.keep(episode, answers)
        return form.metrics[metric](true, kept, form.known(episode))

    return score


def place_rankings(episode: Episode, rankings: Sequence[Ranking]) -> tuple[Placed, ...]:
    """Look the right candidate up in the ranking of each query.

    Candidates and translations are the same where they differ in case and punctuation alone.

    Raises:
        DataError: The translation of a query is not among the candidates.
    """
    places = first_by_key(episode.candidates)
    placed = []
    for row, (example, ranking) in enumerate(zip(episode.query, rankings, strict=True)):
        right = places.get(text_key(example.target))
        if right is None:
            raise DataError(
                f"cannot score rankings on task '{episode.task}', draw {episode.index}: the "
                f"translation of text {row} is not among the {len(episode.candidates)} "
                "candidates, where it is needed; draw the episode with `candidates`"
            )
        rank = ranking.order.index(right) + 1
        placed.append(Placed(rank, right, first=ranking.order[0], mined=ranking.mined))
    return tuple(placed)


def _labels(episode: Episode) -> tuple[str, ...]:
    return episode.labels


def _language(episode: Episode) -> tuple[str, ...]:
    return (split_pair(episode.language)[1],)


def _nothing(_episode: Episode) -> tuple[str, ...]:
    return ()


def _lacking_label(episode: Episode, answer: Prediction) -> str | None:
    known = isinstance(answer, Prediction) and answer.label in episode.labels
    known = known and set(answer.probabilities) == set(episode.labels)
    # NaN fails this comparison, as it must; float32 rounding passes it.
    if known and math.isclose(sum(answer.probabilities.values()), 1, abs_tol=1e-3):
        return None
    return f"a probability for each of {', '.join(episode.labels)} that add up to 1"


def _lacking_translation(_episode: Episode, answer: Translation) -> str | None:
    good = isinstance(answer, Translation) and isinstance(answer.text, str)
    return None if good else "a translation that is a text"


def _lacking_ranking(episode: Episode, answer: Ranking) -> str | None:
    places = range(len(episode.candidates))
    if (
        isinstance(answer, Ranking)
        and answer.mined in places
        and sorted(answer.order) == list(places)
    ):
        return None
    return f"each of the places 0 to {len(places) - 1} of its candidates once, and a mined one"


def _damaged_place(episode: Episode, answer: Placed) -> bool:
    places = range(len(episode.candidates))
    return not all(
        place in places for place in (answer.rank - 1, answer.right, answer.first, answer.mined)
    )


def _keep_all(_episode: Episode, answers: Sequence[Kept]) -> tuple[Kept, ...]:
    return tuple(answers)


def _write_labels(answers: Sequence[Prediction]) -> dict[str, object]:
    names = list(answers[0].probabilities)
    rows = [
        [names.index(answer.label), *(answer.probabilities[name] for name in names)]
        for answer in answers
    ]
    return {"labels": names, "answers": rows}


def _read_labels(line: Line) -> tuple[Prediction, ...]:
    names = line["labels"]
    return tuple(
        Prediction(names[place], dict(zip(names, row, strict=True)))
        for place, *row in line["answers"]
    )


def _write_translations(answers: Sequence[Translation]) -> dict[str, object]:
    return {"skill": GENERATION, "answers": [answer.text for answer in answers]}


def _read_translations(line: Line) -> tuple[Translation, ...]:
    return tuple(Translation(str(text)) for text in line["answers"])


def _write_placed(answers: Sequence[Placed]) -> dict[str, object]:
    rows = [[answer.rank, answer.right, answer.first, answer.mined] for answer in answers]
    return {"skill": RETRIEVAL, "answers": rows}


def _read_placed(line: Line) -> tuple[Placed, ...]:
    return tuple(Placed(*map(int, row)) for row in line["answers"])


def _label_columns(_episode: Episode, _true: str, answer: Prediction) -> Mapping[str, object]:
    return {"predicted": answer.label, "probability": answer.probabilities[answer.label]}


def _translation_columns(_episode: Episode, true: str, answer: Translation) -> Mapping[str, object]:
    return {"predicted": answer.text, "chrf": chrf([true], [answer], ())}


def _placed_columns(episode: Episode, _true: str, answer: Placed) -> Mapping[str, object]:
    names = episode.candidates
    return {"predicted": names[answer.first], "rank": answer.rank, "mined": names[answer.mined]}


ANSWERS: Mapping[str, AnswerForm] = {
    CLASSIFICATION: AnswerForm(
        skill=CLASSIFICATION,
        metrics=LABEL_METRICS,
        known=_labels,
        lacking=_lacking_label,
        damaged=_lacking_label,
        keep=_keep_all,
        write=_write_labels,
        read=_read_labels,
        columns=_label_columns,
    ),
    GENERATION: AnswerForm(
        skill=GENERATION,
        metrics=TRANSLATION_METRICS,
        known=_language,
        lacking=_lacking_translation,
        damaged=_lacking_translation,
        keep=_keep_all,
        write=_write_translations,
        read=_read_translations,
        columns=_translation_columns,
    ),
    RETRIEVAL: AnswerForm(
        skill=RETRIEVAL,
        metrics=RANKING_METRICS,
        known=_nothing,
        lacking=_lacking_ranking,
        damaged=_damaged_place,
        keep=place_rankings,
        write=_write_placed,
        read=_read_placed,
        columns=_placed_columns,
    ),
}
"""By skill, as a stored line says it; one without a skill holds labels."""
_SKILL_OF: Mapping[type, str] = {
    Prediction: CLASSIFICATION,
    Translation: GENERATION,
    Ranking: RETRIEVAL,
    Placed: RETRIEVAL,
}
