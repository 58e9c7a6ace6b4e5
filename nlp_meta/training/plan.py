"""The plan of a run, from its settings: skills, tasks, objectives, episodes, start, judges.

All skills of a run share one backbone, one cache of frozen states and one set of LoRA
matrices. The meta-parameters are the union of what the skills move: LoRA, the classifier's
head, the temperature of retrieval. They are drawn anew, or those of another start.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.episodes import Episode, MixedStream, Stream
from nlp_meta.data.tasks import Task, load_tasks
from nlp_meta.encoders.cache import Storage
from nlp_meta.errors import MetaModelError, SettingsError
from nlp_meta.evaluation.answers import ANSWERS, episode_scorer, skill_of_metric
from nlp_meta.hub.records import START, find_model
from nlp_meta.meta.algorithms import ALGORITHMS
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.meta.objective import Metric, Objective, Trial, Validation, choose_adaptation
from nlp_meta.meta.outer_loop import OuterLoop, Training
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.meta_model import load_meta_parameters
from nlp_meta.models.skills import SKILLS, AnyObjective, AnySettings, build_objectives
from nlp_meta.objectives.classification import FROM_SUPPORT, Classification, name_row
from nlp_meta.objectives.generation import Generation
from nlp_meta.settings import (
    AdaptationSettings,
    DataSettings,
    MetaTraining,
    ModelSettings,
    OuterSettings,
    RunSettings,
)

Objectives = Mapping[str, AnyObjective]


def check_plan(settings: MetaTraining) -> None:
    """Stop before anything is loaded where settings contradict each other.

    Raises:
        SettingsError: They do; names the setting to change.
    """
    _check_skills(settings)
    _check_algorithm(settings)
    _check_sizes(settings)


def load_splits(data: DataSettings, *meta_splits: str) -> list[tuple[Task, ...]]:
    """Tasks of each meta-split named, as the section `data` of a config places them."""
    return [
        load_tasks(
            data.cards,
            meta_split=meta_split,
            data_root=data.root,
            source=data.source,
            splits=data.splits,
            exclude=data.exclude,
        )
        for meta_split in meta_splits
    ]


def choose_tasks(tasks: Sequence[Task], skills: Collection[str]) -> tuple[Task, ...]:
    """Leave out tasks that no skill of a run learns from.

    Raises:
        SettingsError: A skill has no task.
    """
    for skill in skills:
        if not any(task.kind == SKILLS[skill].rows for task in tasks):
            raise SettingsError(
                f"cannot draw episodes of {skill}: of {len(tasks)} tasks none has rows of "
                f"{SKILLS[skill].rows} and at least one is needed for training and one for "
                "meta-validation; add a card to `data.cards`, or take the skill out of `skills`"
            )
    return tuple(task for task in tasks if task.kind in {SKILLS[skill].rows for skill in skills})


def union_of_labels(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Every label of the tasks, in the order in which they first appear in the longest set."""
    ordered = sorted(tasks, key=lambda task: -len(task.labels))
    return tuple(dict.fromkeys(label for task in ordered for label in task.labels))


def labels_of_head(model: AnySettings, tasks: Sequence[Task]) -> tuple[str, ...]:
    """The labels that a head has rows for; none where it is made from any support set."""
    head = model.head if isinstance(model, ModelSettings) else "shared"
    if head == "per_task":
        return tuple(name_row(task.name, label) for task in tasks for label in task.labels)
    return () if head == "ridge" else union_of_labels(tasks)


def check_labels_known(
    settings: MetaTraining, labels: Sequence[str], validation: Sequence[Task]
) -> None:
    """Stop where the `shared` head would be judged on labels that it has no place for.

    Raises:
        SettingsError: Names the task.
    """
    for task in validation if getattr(settings.model, "head", None) == "shared" else ():
        unknown = [label for label in task.labels if label not in labels]
        if unknown:
            raise SettingsError(
                f"cannot judge the `shared` head on task '{task.name}': its label '{unknown[0]}' "
                "is of no meta-train task; a head that is made from each support set is needed; "
                "change `model.head`, or leave the task out (`data.exclude`)"
            )


def plan_objectives(
    settings: MetaTraining, *, labels: Sequence[str], device: torch.device | None = None
) -> dict[str, AnyObjective]:
    """Load the backbone once, with what each skill of the run needs of it."""
    return build_objectives(
        settings.model,
        settings.skills,
        labels=labels,
        device=device,
        precision=settings.run.mixed_precision,
        batch_tokens=settings.run.batch_tokens,
        storage=plan_storage(settings.run),
    )


def plan_storage(run: RunSettings) -> Storage:
    """Keep states where other runs look for them, or what memory has no room for in this run's."""
    shared = None if run.states_dir is None else Path(run.states_dir)
    return Storage(shared, beside=Path(run.output_dir) if run.output_dir else None)


def judged_objectives(objectives: Objectives) -> dict[str, AnyObjective]:
    """The same as a run is judged: greedy translations, heads for tasks that have no rows."""
    return {skill: _judged(objective) for skill, objective in objectives.items()}


def _judged(objective: AnyObjective) -> AnyObjective:
    if isinstance(objective, Generation):
        return replace(objective, num_beams=1)
    if isinstance(objective, Classification) and objective.head == "per_task":
        return replace(objective, head="ridge", labels=())
    return objective


def draw_meta_parameters(objectives: Objectives, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw the union of what the skills move; LoRA matrices once, for all."""
    first, *others = objectives.values()
    drawn = first.meta_parameters(generator)
    for objective in others:
        beside = objective.meta_parameters(torch.Generator().manual_seed(0))
        drawn |= {name: value for name, value in beside.items() if name not in drawn}
    return drawn


def plan_stream(settings: MetaTraining, train: Sequence[Task]) -> Stream:
    """Episodes of the tasks, of each skill by its share."""
    episode, seed = settings.episode, settings.run.seed
    streams = {
        skill: SKILLS[skill].stream(
            tuple(task for task in train if task.kind == SKILLS[skill].rows), episode, seed, skill
        )
        for skill in settings.skills
    }
    if len(streams) == 1:
        return next(iter(streams.values()))
    return MixedStream(streams, episode.shares or dict.fromkeys(streams, 1.0))


def plan_training(
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
    inner = settings.inner
    return Training(
        objectives,
        settings.episode.weights or dict.fromkeys(settings.skills, 1.0),
        stream or plan_stream(settings, train),
        ALGORITHMS[settings.outer.algorithm],
        InnerLoop(inner.steps, inner.learning_rate, inner.optimizer, inner.anchor),
        inner.batch_size,
    )


def plan_outer_loop(outer: OuterSettings) -> OuterLoop:
    """The outer loop of a run, from its settings."""
    values = asdict(outer)
    del values["algorithm"]
    return OuterLoop(**values)


def judged_adaptation(adaptation: AdaptationSettings) -> Adaptation:
    """The adaptation that a run is judged by while it trains: the first rate, most steps."""
    inner = InnerLoop(
        max(adaptation.steps),
        adaptation.learning_rates[0],
        adaptation.optimizer,
        adaptation.anchor,
        adaptation.average,
    )
    return Adaptation(inner, adaptation.batch_size, adaptation.early_stop)


def validation_episodes(
    tasks: Sequence[Task], adaptation: AdaptationSettings, skills: Collection[str]
) -> tuple[Episode, ...]:
    """Fixed support draws of each meta-validation task, for each skill that it serves."""
    return tuple(
        SKILLS[skill].judged(task, adaptation, draw, skill)
        for draw in range(adaptation.draws)
        for task in tasks
        for skill in skills
        if SKILLS[skill].rows == task.kind
    )


def plan_validation(
    settings: MetaTraining, objectives: Mapping[str, Objective], validation: Sequence[Task]
) -> Validation:
    """Judge fixed support draws of the meta-validation tasks by each skill's metric.

    Args:
        objectives: As `judged_objectives` gives them.
    """
    adaptation, skills = settings.adaptation, settings.skills
    return Validation(
        validation_episodes(validation, adaptation, skills),
        judged_adaptation(adaptation).inner,
        adaptation.batch_size,
        adaptation.stack,
        find_metrics(adaptation.metric, skills),
        objectives,
    )


def find_metrics(name: str, skills: Collection[str]) -> dict[str, Metric]:
    """Metrics as functions of an episode and its answers, by skill.

    Args:
        name: Of a metric of one of the skills; each other is judged by its own.

    Raises:
        SettingsError: There is no such metric, or it is of none of the skills.
    """
    scored = skill_of_metric(name, setting="adaptation.metric")
    # A new skill may give the answers of another, and is then judged as that is.
    answered = {skill: skill_of_metric(SKILLS[skill].metric) for skill in skills}
    if scored not in answered.values():
        fitting = [metric for form in answered.values() for metric in ANSWERS[form].main_metrics]
        raise SettingsError(
            f"cannot judge episodes of {' and '.join(skills)} by '{name}': one of "
            f"{', '.join(fitting)} is needed; change `adaptation.metric`"
        )
    return {
        skill: episode_scorer(name if form == scored else SKILLS[skill].metric)
        for skill, form in answered.items()
    }


def find_adaptation(
    objective: Objective,
    meta_parameters: dict[str, Tensor],
    episodes: Sequence[Episode],
    adaptation: AdaptationSettings,
    *,
    metric: Metric | None = None,
) -> tuple[InnerLoop, tuple[Trial, ...]]:
    """Choose steps and rate on episodes of the meta-validation tasks, all of one skill.

    Args:
        metric: In place of the one that `adaptation` names.
    """
    (skill,) = {episode.skill for episode in episodes}
    return choose_adaptation(
        objective,
        meta_parameters,
        episodes,
        inner=judged_adaptation(adaptation).inner,
        minibatch=adaptation.batch_size,
        steps=adaptation.steps,
        learning_rates=adaptation.learning_rates,
        stack=adaptation.stack,
        metric=metric or find_metrics(adaptation.metric, {skill})[skill],
    )


def _check_skills(settings: MetaTraining) -> None:
    skills, episode = settings.skills, settings.episode
    unknown = [skill for skill in skills if skill not in SKILLS]
    if unknown or not skills or len(set(skills)) < len(skills):
        raise SettingsError(
            f"cannot learn the skills {skills}: one or more of {', '.join(SKILLS)}, each "
            "once, are needed; change `skills`"
        )
    for name, by_skill in (("shares", episode.shares), ("weights", episode.weights)):
        if by_skill is not None and (
            set(by_skill) != set(skills) or min(by_skill.values(), default=0) <= 0
        ):
            raise SettingsError(
                f"cannot mix {', '.join(skills)} by the {name} {dict(by_skill)}: a number above 0 "
                f"for each of `skills` is needed; change `episode.{name}`, or set it to null"
            )


def _check_algorithm(settings: MetaTraining) -> None:
    algorithm, inner = settings.outer.algorithm, settings.inner
    if algorithm not in ALGORITHMS:
        raise SettingsError(
            f"cannot train by '{algorithm}': one of {', '.join(ALGORITHMS)} is needed; change "
            "`outer.algorithm`"
        )
    if algorithm == "joint" and inner.steps:
        raise SettingsError(
            f"cannot train jointly with {inner.steps} inner steps: joint training takes none; set "
            "`inner.steps` to 0"
        )


def _check_sizes(settings: MetaTraining) -> None:
    episode, inner = settings.episode, settings.inner
    head = getattr(settings.model, "head", "shared")
    from_support = inner.steps or head in FROM_SUPPORT
    if CLASSIFICATION in settings.skills and episode.shot == 0 and from_support:
        raise SettingsError(
            "cannot train with `episode.shot` 0: inner steps and a head that is made from the "
            "support set need examples of it; raise it to 1 or more"
        )
    if head == "per_task" and settings.outer.algorithm != "joint":
        raise SettingsError(
            f"cannot train by '{settings.outer.algorithm}' with a head per task, which no new task "
            "has: joint training is needed; set `outer.algorithm` to joint, or change `model.head`"
        )
    if CLASSIFICATION in settings.skills and episode.ways and head == "shared":
        raise SettingsError(
            f"cannot train the `shared` head on episodes of 2 to {episode.ways} labels: a head "
            "that is made from each support set is needed, since label sets differ; change "
            "`model.head`, or set `episode.ways` to null"
        )
    fewest = max(SKILLS[skill].fewest_pairs for skill in settings.skills)
    if inner.steps and episode.pairs < fewest:
        raise SettingsError(
            f"cannot take {inner.steps} inner steps with `episode.pairs` {episode.pairs}: at "
            f"least {fewest} support pairs are needed; raise it to {fewest} or more"
        )
    if episode.query_pairs < fewest:
        raise SettingsError(
            f"cannot train with `episode.query_pairs` {episode.query_pairs}: at least {fewest} "
            f"query pairs are needed; raise it to {fewest} or more"
        )


def begin(objectives: Objectives, settings: MetaTraining) -> dict[str, Tensor]:
    """Meta-parameters at the start of a run: drawn anew, or those of another start.

    Raises:
        MetaModelError: `run.init_from` is of another backbone, adapter, label set or skill.
    """
    generator = torch.Generator().manual_seed(settings.run.seed)
    fresh = draw_meta_parameters(objectives, generator)
    if settings.run.init_from is not None:
        saved = _load_start(settings.run.init_from, objectives)
        for name, value in fresh.items():
            if name not in saved or saved[name].shape != value.shape:
                raise MetaModelError(
                    f"cannot begin from '{settings.run.init_from}': its '{name}' does not fit and "
                    "a start of the same backbone, adapter, labels and skills is needed; change "
                    "`run.init_from`, or set it to null"
                )
        fresh = {name: saved[name].clone() for name in fresh}
    return fresh


def examples_before(init_from: str | None) -> int:
    """What the start of a run was trained on, so that counts of whole histories compare."""
    if init_from is None:
        return 0
    _, record = find_model(init_from, role=START)
    return int(record.provenance.get("examples", 0))


def _load_start(init_from: str, objectives: Objectives) -> dict[str, Tensor]:
    """The tensors of another start that some objectives move."""
    folder, record = find_model(init_from, role=START)
    objective = next(iter(objectives.values()))
    with_head = CLASSIFICATION in objectives and bool(record.labels)
    return load_meta_parameters(folder, record, objective, with_head=with_head)
