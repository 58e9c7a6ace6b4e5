"""The table of skills: whatever differs between them above the objectives stands in one row.

Trainer, adaptation, comparison and command line read the row of a skill; none asks which
skill it is.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from nlp_meta.data.cards import CLASSIFICATION
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
from nlp_meta.models.builders import (
    build_classifier,
    build_generator,
    build_retriever,
    retrieval_beside,
)
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.generation import GenerationModel
from nlp_meta.models.retrieval import RetrievalModel
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.generation import Generation
from nlp_meta.objectives.retrieval import Retrieval
from nlp_meta.settings import (
    AdaptationSettings,
    EpisodeSettings,
    ModelSettings,
    Seq2SeqSettings,
)

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
        settings: Of the backbone and its adapter, the section `model` of a config.
        adapted: What adapting a start gives.
        metric: That episodes are judged by, where no other of the skill is asked for.
        stream: Training episodes of tasks, from their settings and a seed.
        judged: The episode of a meta-validation task, from settings and the draw's number.
    """

    settings: type[AnySettings]
    adapted: type[AdaptedModel] | type[RetrievalModel] | type[GenerationModel]
    metric: str
    stream: Callable[[tuple[Task, ...], EpisodeSettings, int], Stream]
    judged: Callable[[Task, AdaptationSettings, int], Episode]


def build_objectives(
    settings: AnySettings,
    skills: Collection[str],
    *,
    labels: Sequence[str],
    device: torch.device | str | None = None,
    precision: str = "auto",
    batch_tokens: int = 2048,
    token: str | None = None,
) -> dict[str, AnyObjective]:
    """Load the backbone once, with what each skill needs of it.

    Args:
        labels: In the order of the logits; read by classification alone.

    Raises:
        SettingsError: The skills do not share a backbone.
    """
    wrong = [skill for skill in skills if not isinstance(settings, SKILLS[skill].settings)]
    if wrong or not skills:
        raise SettingsError(
            f"cannot learn {' and '.join(skills) or 'no skill'} on one backbone: "
            f"{' and '.join((CLASSIFICATION, RETRIEVAL))} share an encoder, {GENERATION} needs an "
            "encoder-decoder; change `skills`"
        )
    if isinstance(settings, Seq2SeqSettings):
        generation = build_generator(
            settings, device=device, precision=precision, batch_tokens=batch_tokens, token=token
        )
        return {GENERATION: generation}
    if CLASSIFICATION not in skills:
        retrieval = build_retriever(
            settings, device=device, precision=precision, batch_tokens=batch_tokens, token=token
        )
        return {RETRIEVAL: retrieval}
    classification = build_classifier(
        settings,
        labels=labels,
        device=device,
        precision=precision,
        batch_tokens=batch_tokens,
        token=token,
    )
    if RETRIEVAL not in skills:
        return {CLASSIFICATION: classification}
    return {CLASSIFICATION: classification, RETRIEVAL: retrieval_beside(classification)}


def _labeled_stream(tasks: tuple[Task, ...], episode: EpisodeSettings, seed: int) -> Stream:
    return EpisodeStream(tasks, episode.shot, episode.query_shot, episode.sampling, seed)


def _pair_stream(
    tasks: tuple[Task, ...], episode: EpisodeSettings, seed: int, *, skill: str
) -> Stream:
    pairs, query_pairs = episode.pairs, episode.query_pairs
    return PairStream(tasks, pairs, query_pairs, episode.sampling, seed, skill)


def _judged_labels(task: Task, adaptation: AdaptationSettings, draw: int) -> Episode:
    return evaluation_episode(
        task,
        labels_total=adaptation.labels,
        seed=VALIDATION_SEED,
        draw=draw,
        max_query=adaptation.max_query,
    )


def _judged_pairs(task: Task, adaptation: AdaptationSettings, draw: int, *, skill: str) -> Episode:
    """Pairs to be found have a pool of candidates; pairs to be written need none."""
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
        settings=ModelSettings,
        adapted=AdaptedModel,
        metric="macro_f1",
        stream=_labeled_stream,
        judged=_judged_labels,
    ),
    RETRIEVAL: Skill(
        settings=ModelSettings,
        adapted=RetrievalModel,
        metric="mrr",
        stream=partial(_pair_stream, skill=RETRIEVAL),
        judged=partial(_judged_pairs, skill=RETRIEVAL),
    ),
    GENERATION: Skill(
        settings=Seq2SeqSettings,
        adapted=GenerationModel,
        metric="chrf",
        stream=partial(_pair_stream, skill=GENERATION),
        judged=partial(_judged_pairs, skill=GENERATION),
    ),
}
