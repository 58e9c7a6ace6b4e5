"""What a run is made of, by skill: objectives, streams, judged draws and metrics.

Sentiment and translation share one backbone, one cache of frozen states and one set of
LoRA matrices. The meta-parameters are the union of what the skills have: LoRA, the
classifier's head, the temperature of retrieval.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from nlp_meta.data.cards import CLASSIFICATION, TRANSLATION
from nlp_meta.data.episodes import (
    RETRIEVAL,
    ROWS,
    Episode,
    EpisodeStream,
    MixedStream,
    Stream,
    check_shares,
    evaluation_episode,
)
from nlp_meta.data.pairs import PairStream, evaluation_pairs
from nlp_meta.data.tasks import Task
from nlp_meta.errors import SettingsError
from nlp_meta.evaluation.answers import KINDS as KINDS_OF_ANSWERS
from nlp_meta.evaluation.answers import episode_scorer, kind_of_metric
from nlp_meta.meta.algorithms import ALGORITHMS
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.meta.objective import Metric, Objective, Validation
from nlp_meta.meta.outer_loop import Training
from nlp_meta.models.adaptation import build_objective, build_retriever
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.retrieval import Retrieval
from nlp_meta.settings import AdaptationSettings, EpisodeSettings, MetaTraining

Objectives = Mapping[str, Classification | Retrieval]

VALIDATION_SEED = 7
"""Support draws of meta-validation are the same in every run, so that runs can be compared."""

_USUAL = {"classification": "macro_f1", "retrieval": "mrr"}

LEARNED_TOGETHER = (CLASSIFICATION, RETRIEVAL)
"""Skills that share one encoder."""
CANDIDATES_A_QUERY = 3
"""Judged pools hold so many translations for each query: more make a draw harder, and slower."""


def check_skills(episode: EpisodeSettings) -> None:
    """Stop unless shares and weights name the same skills, all known.

    Raises:
        SettingsError: They do not, or a share or a weight is not above 0.
    """
    check_shares(episode.shares)
    unknown = [skill for skill in episode.shares if skill not in LEARNED_TOGETHER]
    if unknown:
        raise SettingsError(
            f"cannot mix episodes of the skill '{unknown[0]}': one of "
            f"{', '.join(LEARNED_TOGETHER)} is needed; change `episode.shares`"
        )
    if set(episode.weights) != set(episode.shares) or min(episode.weights.values()) <= 0:
        raise SettingsError(
            f"cannot weigh {', '.join(episode.shares)} by {dict(episode.weights)}: a weight above "
            "0 for each skill of `episode.shares` is needed; change `episode.weights`"
        )


def choose_tasks(tasks: Sequence[Task], shares: Mapping[str, float]) -> tuple[Task, ...]:
    """Leave out tasks that no skill of a run learns from.

    Raises:
        SettingsError: A skill that has a share has no task.
    """
    for skill in shares:
        if not any(task.kind == ROWS[skill] for task in tasks):
            raise SettingsError(
                f"cannot draw episodes of {skill}: of {len(tasks)} tasks none has rows of "
                f"{ROWS[skill]} and at least one is needed for training and one for "
                "meta-validation; add a card to `data.cards`, or take the skill out of "
                "`episode.shares` and `episode.weights`"
            )
    return tuple(task for task in tasks if task.kind in {ROWS[skill] for skill in shares})


def build_objectives(
    settings: MetaTraining, *, labels: Sequence[str], device: torch.device | None = None
) -> dict[str, Classification | Retrieval]:
    """Load the backbone once, with what each skill of the run needs of it."""
    model, skills = settings.model, settings.episode.shares
    precision, tokens = settings.run.mixed_precision, settings.run.batch_tokens
    if CLASSIFICATION not in skills:
        retriever = build_retriever(model, device=device, precision=precision, batch_tokens=tokens)
        return {RETRIEVAL: retriever}
    classification = build_objective(
        model, labels=labels, device=device, precision=precision, batch_tokens=tokens
    )
    if RETRIEVAL not in skills:
        return {CLASSIFICATION: classification}
    return {CLASSIFICATION: classification, RETRIEVAL: retrieval_beside(classification)}


def retrieval_beside(objective: Classification) -> Retrieval:
    """Retrieval on the backbone, the cached states and the LoRA matrices of a classification."""
    return Retrieval(
        objective.backbone,
        objective.network,
        objective.plan,
        objective.autocast,
        objective.batch_tokens,
    )


def draw_meta_parameters(objectives: Objectives, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw the union of what the skills move; LoRA matrices once, for all."""
    first, *others = objectives.values()
    drawn = first.meta_parameters(generator)
    for objective in others:
        own = objective.meta_parameters(torch.Generator().manual_seed(0))
        drawn |= {name: value for name, value in own.items() if name not in drawn}
    return drawn


def build_training(
    settings: MetaTraining,
    objectives: Mapping[str, Objective],
    train: Sequence[Task],
    *,
    stream: Stream | None = None,
) -> Training:
    """Streams of each skill, mixed, and the algorithm that learns from them.

    Args:
        stream: In place of these streams.
    """
    _check_algorithm(settings)
    inner = settings.inner
    return Training(
        objectives,
        settings.episode.weights,
        stream or build_stream(settings, train),
        ALGORITHMS[settings.outer.algorithm],
        InnerLoop(inner.steps, inner.learning_rate, inner.optimizer, inner.anchor),
        inner.batch_size,
    )


def judged_inner(adaptation: AdaptationSettings) -> InnerLoop:
    """The adaptation that a run is judged by while it trains: the first rate, most steps."""
    return InnerLoop(
        max(adaptation.steps),
        adaptation.learning_rates[0],
        adaptation.optimizer,
        adaptation.anchor,
        adaptation.average,
    )


def build_validation(adaptation: AdaptationSettings, judged: Sequence[Episode]) -> Validation:
    """Judge by each skill's metric."""
    return Validation(
        judged,
        judged_inner(adaptation),
        adaptation.batch_size,
        adaptation.stack,
        find_metrics(adaptation.metric, {episode.skill for episode in judged}),
    )


def validation_episodes(
    tasks: Sequence[Task], adaptation: AdaptationSettings
) -> tuple[Episode, ...]:
    """Fixed support draws of each meta-validation task; pairs have a pool of candidates."""
    draw_one = {CLASSIFICATION: _judged_sentiment, TRANSLATION: _judged_pairs}
    return tuple(
        draw_one[task.kind](task, adaptation, draw)
        for draw in range(adaptation.draws)
        for task in tasks
    )


def find_metrics(name: str, skills: Iterable[str]) -> dict[str, Metric]:
    """Metrics as functions of an episode and its answers, by skill.

    Args:
        name: Of a metric of one of the skills; the other, where there is one, is judged by its
            own: macro F1 or the mean reciprocal rank.

    Raises:
        SettingsError: There is no such metric, or it is of neither skill.
    """
    judged = list(skills)
    answered = kind_of_metric(name, setting="adaptation.metric").name
    if answered not in judged:
        fitting = [metric for skill in judged for metric in KINDS_OF_ANSWERS[skill].main_metrics]
        raise SettingsError(
            f"cannot judge episodes of {' and '.join(judged)} by '{name}': one of "
            f"{', '.join(fitting)} is needed; change `adaptation.metric`"
        )
    return {skill: episode_scorer(name if skill == answered else _USUAL[skill]) for skill in judged}


def _judged_sentiment(task: Task, adaptation: AdaptationSettings, draw: int) -> Episode:
    return evaluation_episode(
        task,
        labels_total=adaptation.labels,
        seed=VALIDATION_SEED,
        draw=draw,
        max_query=adaptation.max_query,
    )


def _judged_pairs(task: Task, adaptation: AdaptationSettings, draw: int) -> Episode:
    return evaluation_pairs(
        task,
        pairs=adaptation.labels,
        seed=VALIDATION_SEED,
        draw=draw,
        max_query=adaptation.max_query,
        candidates=CANDIDATES_A_QUERY * adaptation.max_query,
    )


def build_stream(settings: MetaTraining, train: Sequence[Task]) -> Stream:
    """Episodes of the tasks, of each skill that has a share."""
    episode, seed = settings.episode, settings.run.seed
    streams: dict[str, Stream] = {}
    for skill in episode.shares:
        tasks = tuple(task for task in train if task.kind == ROWS[skill])
        streams[skill] = (
            EpisodeStream(tasks, episode.shot, episode.query_shot, episode.sampling, seed)
            if skill == CLASSIFICATION
            else PairStream(tasks, episode.pairs, episode.query_pairs, episode.sampling, seed)
        )
    return MixedStream(streams, episode.shares)


def _check_algorithm(settings: MetaTraining) -> None:
    if settings.outer.algorithm not in ALGORITHMS:
        raise SettingsError(
            f"cannot train by '{settings.outer.algorithm}': one of {', '.join(ALGORITHMS)} is "
            "needed; change `outer.algorithm`"
        )
    if settings.outer.algorithm in ("joint", "deviations") and settings.inner.steps:
        raise SettingsError(
            f"cannot train jointly with {settings.inner.steps} inner steps: joint training takes "
            "none; set `inner.steps` to 0"
        )
    if (settings.outer.algorithm == "deviations") != (settings.outer.deviation_r > 0):
        raise SettingsError(
            f"cannot train by '{settings.outer.algorithm}' with deviations of rank "
            f"{settings.outer.deviation_r}: 1 or more is needed for deviations and 0 for all "
            "others; change `outer.deviation_r`"
        )
    _check_sizes(settings)


def _check_sizes(settings: MetaTraining) -> None:
    episode, inner = settings.episode, settings.inner
    prototype = settings.model.head != "shared"
    if CLASSIFICATION in episode.shares and episode.shot == 0 and (inner.steps or prototype):
        raise SettingsError(
            "cannot train with `episode.shot` 0: inner steps and the prototype head need support "
            "examples; raise it to 1 or more"
        )
    if RETRIEVAL in episode.shares and (episode.pairs < 2 and inner.steps):
        raise SettingsError(
            f"cannot take inner steps with `episode.pairs` {episode.pairs}: a pair is told from "
            "others, so at least 2 are needed; raise it to 2 or more"
        )
    if RETRIEVAL in episode.shares and episode.query_pairs < 2:
        raise SettingsError(
            f"cannot train with `episode.query_pairs` {episode.query_pairs}: a pair is told from "
            "others, so at least 2 are needed; raise it to 2 or more"
        )
