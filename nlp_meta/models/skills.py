"""The table of skills: whatever differs between them above the objectives stands in one row.

Trainer, adaptation, comparison and command line read the row of a skill; none asks which
skill it is.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

from nlp_meta.data.cards import CLASSIFICATION, TRANSLATION
from nlp_meta.data.episodes import (
    GENERATION,
    RETRIEVAL,
    Episode,
    EpisodeStream,
    Stream,
    evaluation_episode,
)
from nlp_meta.data.pairs import PairStream, evaluation_pairs
from nlp_meta.data.tasks import Task
from nlp_meta.errors import SettingsError
from nlp_meta.models.builders import LoadOptions, build_classifier, build_generator, build_retriever
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.generation import GenerationModel
from nlp_meta.models.retrieval import RetrievalModel
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.generation import Generation
from nlp_meta.objectives.retrieval import Retrieval
from nlp_meta.settings import AdaptationSettings, EpisodeSettings, ModelSettings, Seq2SeqSettings

AnyObjective = Classification | Retrieval | Generation
AnySettings = ModelSettings | Seq2SeqSettings

VALIDATION_SEED = 7
"""Support draws of meta-validation are the same in every run, so that runs can be compared."""
CANDIDATES_A_QUERY = 3
"""Judged pools hold so many translations for each query: more make a draw harder, and slower."""


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill.

    Attributes:
        rows: The kind of tasks that it learns from.
        fewest_pairs: Sentence pairs that a support set and a query set of training have.
        settings: Of the base and its adapter, the section `model` of a config.
        build: Its objective, from these settings, the labels of the tasks and `LoadOptions`;
            `beside` is an objective that has the base already, or None.
        adapted: What adapting a start gives.
        metric: That episodes are judged by, where no other of the skill is asked for.
        stream: Training episodes of tasks, from their settings, a seed and the skill's name.
        judged: The episode of a meta-validation task, from settings, the draw's number and
            the skill's name.
    """

    rows: str
    fewest_pairs: int
    settings: type[AnySettings]
    build: Callable[..., AnyObjective]
    adapted: type[AdaptedModel] | type[RetrievalModel] | type[GenerationModel]
    metric: str
    stream: Callable[[tuple[Task, ...], EpisodeSettings, int, str], Stream]
    judged: Callable[[Task, AdaptationSettings, int, str], Episode]


def build_objectives(
    settings: AnySettings,
    skills: Collection[str],
    *,
    labels: Sequence[str],
    **options: Unpack[LoadOptions],
) -> dict[str, AnyObjective]:
    """Load the base once, with what each skill needs of it.

    Args:
        labels: In the order of the logits; read by classification alone.

    Raises:
        SettingsError: The skills do not share a base.
    """
    served = [skill for skill, row in SKILLS.items() if isinstance(settings, row.settings)]
    if not skills or not set(skills) <= set(served):
        raise SettingsError(
            f"cannot learn {' and '.join(skills) or 'no skill'} on one base: that of `model` "
            f"serves {' and '.join(served)} and at least one of these alone is needed; change "
            "`skills`"
        )
    objectives: dict[str, AnyObjective] = {}
    beside: AnyObjective | None = None
    for skill in served:
        if skill in skills:
            beside = SKILLS[skill].build(settings, labels=labels, beside=beside, **options)
            objectives[skill] = beside
    return objectives


def labeled_stream(
    tasks: tuple[Task, ...], episode: EpisodeSettings, seed: int, skill: str
) -> Stream:
    """Training episodes of labeled texts."""
    return EpisodeStream(
        tasks,
        episode.shot,
        episode.query_shot,
        episode.sampling,
        seed,
        skill,
        episode.ways,
        episode.sentiment_share,
    )


def pair_stream(tasks: tuple[Task, ...], episode: EpisodeSettings, seed: int, skill: str) -> Stream:
    """Training episodes of sentence pairs."""
    pairs, query_pairs = episode.pairs, episode.query_pairs
    return PairStream(tasks, pairs, query_pairs, episode.sampling, seed, skill)


def judged_labels(task: Task, adaptation: AdaptationSettings, draw: int, skill: str) -> Episode:
    """An episode of labeled texts of a meta-validation task."""
    return evaluation_episode(
        task,
        labels_total=adaptation.labels,
        seed=VALIDATION_SEED,
        draw=draw,
        max_query=adaptation.max_query,
        skill=skill,
    )


def judged_pairs(task: Task, adaptation: AdaptationSettings, draw: int, skill: str) -> Episode:
    """An episode of sentence pairs, with candidates where they are to be found."""
    pool = CANDIDATES_A_QUERY * adaptation.max_query
    return evaluation_pairs(
        task,
        pairs=adaptation.labels,
        seed=VALIDATION_SEED,
        draw=draw,
        max_query=adaptation.max_query,
        candidates=pool if skill == RETRIEVAL else None,
        skill=skill,
    )


SKILLS: Mapping[str, Skill] = {
    CLASSIFICATION: Skill(
        rows=CLASSIFICATION,
        fewest_pairs=0,
        settings=ModelSettings,
        build=build_classifier,
        adapted=AdaptedModel,
        metric="macro_f1",
        stream=labeled_stream,
        judged=judged_labels,
    ),
    RETRIEVAL: Skill(
        rows=TRANSLATION,
        fewest_pairs=2,  # a pair is told from others
        settings=ModelSettings,
        build=build_retriever,
        adapted=RetrievalModel,
        metric="mrr",
        stream=pair_stream,
        judged=judged_pairs,
    ),
    GENERATION: Skill(
        rows=TRANSLATION,
        fewest_pairs=1,
        settings=Seq2SeqSettings,
        build=build_generator,
        adapted=GenerationModel,
        metric="chrf",
        stream=pair_stream,
        judged=judged_pairs,
    ),
}
