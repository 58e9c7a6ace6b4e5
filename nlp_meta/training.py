"""A whole meta-training run: from settings and tasks to a meta-model."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from nlp_meta.adapting import build_objective
from nlp_meta.baselines.ngrams import fit_prior
from nlp_meta.data.episodes import Episode, EpisodeStream, evaluation_episode
from nlp_meta.data.tasks import Task, load_tasks
from nlp_meta.encoders.lora import BIAS, WEIGHT, start_weights
from nlp_meta.errors import MetaModelError, SettingsError
from nlp_meta.evaluation.kinds import episode_scorer
from nlp_meta.hub.packaging import META_MODEL, find_model, load_weights
from nlp_meta.launch import with_trackers
from nlp_meta.meta.adaptation import InnerLoop
from nlp_meta.meta.algorithms import ALGORITHMS, learned_step_sizes
from nlp_meta.meta.deviations import begin_deviations
from nlp_meta.meta.outer_loop import MetaTrained, Training, Validation, meta_train
from nlp_meta.meta.progress import StepRecord
from nlp_meta.meta.schedule import OuterLoop
from nlp_meta.meta.selection import Trial, choose_adaptation
from nlp_meta.meta.validation import Metric
from nlp_meta.models import MetaModel
from nlp_meta.objectives.classification import Classification
from nlp_meta.settings import AdaptationSettings, DataSettings, MetaTraining, fingerprint

VALIDATION_SEED = 7
"""Support draws of meta-validation are the same in every run, so that runs can be compared."""


def train_meta_model(
    settings: MetaTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    *,
    accelerator: Accelerator,
    on_step: Callable[[StepRecord], None] | None = None,
) -> tuple[MetaModel | None, MetaTrained]:
    """Meta-train, then find the defaults of users' adaptation on the validation tasks.

    Returns:
        The meta-model, None where a signal ended the run; and how the run ended.
    """
    objective = build_training_objective(
        settings, labels=union_of_labels(train), device=accelerator.device
    )
    judged = validation_episodes(validation, settings.adaptation)
    ended = meta_train(
        _training(settings, objective, train),
        begin(objective, settings, tasks=[task.name for task in train]),
        outer=_outer_loop(settings),
        validation=_validation(settings, judged),
        accelerator=accelerator,
        folder=Path(settings.run.output_dir),
        fingerprint=fingerprint(settings),
        resume=settings.run.resume,
        on_step=with_trackers(accelerator, on_step),
    )
    if ended.interrupted:
        return None, ended
    chosen, trials = find_adaptation(objective, ended.meta_parameters, judged, settings.adaptation)
    model = MetaModel(
        objective,
        ended.meta_parameters,
        settings.model,
        chosen,
        settings.adaptation.batch_size,
        settings.adaptation.early_stop,
        _provenance(settings, train, validation, ended, trials),
        companion=fit_prior(train, objective.labels, seed=settings.run.seed),
    )
    return model, ended


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


def build_training_objective(
    settings: MetaTraining, *, labels: Sequence[str], device: torch.device | None = None
) -> Classification:
    """The backbone, adapter and labels of a run."""
    return build_objective(
        settings.model,
        labels=labels,
        device=device,
        precision=settings.run.mixed_precision,
        batch_tokens=settings.run.batch_tokens,
    )


def union_of_labels(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Every label of the tasks, in the order in which they first appear in the longest set."""
    ordered = sorted(tasks, key=lambda task: -len(task.labels))
    return tuple(dict.fromkeys(label for task in ordered for label in task.labels))


def begin(
    objective: Classification, settings: MetaTraining, *, tasks: Sequence[str]
) -> dict[str, Tensor]:
    """Meta-parameters at the start of a run: drawn anew, or those of another meta-model.

    Args:
        tasks: Names of those that get a deviation of their own, where the config asks for one.

    Raises:
        MetaModelError: `run.init_from` is of another backbone, adapter or label set.
    """
    generator = torch.Generator().manual_seed(settings.run.seed)
    fresh = objective.meta_parameters(generator)
    if settings.run.init_from is not None:
        folder, _ = find_model(settings.run.init_from, kind=META_MODEL)
        saved = load_weights(folder, backbone=objective.backbone, plan=objective.plan)
        for name, value in fresh.items():
            if name not in saved or saved[name].shape != value.shape:
                raise MetaModelError(
                    f"cannot begin from '{settings.run.init_from}': its '{name}' does not fit and "
                    "a meta-model of the same backbone, adapter and labels is needed; change "
                    "`run.init_from`, or set it to null"
                )
        fresh = {name: saved[name].clone() for name in fresh}
    if settings.inner.learned_step_sizes:
        if settings.outer.algorithm not in ("fomaml", "maml"):
            raise SettingsError(
                f"cannot learn step sizes with '{settings.outer.algorithm}': an algorithm with a "
                "query gradient is needed; set `outer.algorithm` to fomaml or maml"
            )
        fresh |= learned_step_sizes(_adapted(objective, fresh))
    if settings.outer.deviation_r:
        plan = replace(objective.plan, rank=settings.outer.deviation_r)
        pairs = start_weights(objective.backbone, plan, num_labels=1, generator=generator)
        fresh |= begin_deviations(pairs, tasks)
    return fresh


def validation_episodes(
    tasks: Sequence[Task], adaptation: AdaptationSettings
) -> tuple[Episode, ...]:
    """Fixed support draws of each meta-validation task."""
    return tuple(
        evaluation_episode(
            task,
            labels_total=adaptation.labels,
            seed=VALIDATION_SEED,
            draw=draw,
            max_query=adaptation.max_query,
        )
        for draw in range(adaptation.draws)
        for task in tasks
    )


def find_adaptation(
    objective: Classification,
    meta_parameters: dict[str, Tensor],
    episodes: Sequence[Episode],
    adaptation: AdaptationSettings,
) -> tuple[InnerLoop, tuple[Trial, ...]]:
    """Choose steps and rate on episodes of the meta-validation tasks."""
    return choose_adaptation(
        objective,
        meta_parameters,
        episodes,
        inner=judged_inner(adaptation),
        minibatch=adaptation.batch_size,
        steps=adaptation.steps,
        learning_rates=adaptation.learning_rates,
        stack=adaptation.stack,
        metric=episode_metric(adaptation.metric),
    )


def judged_inner(adaptation: AdaptationSettings) -> InnerLoop:
    """The adaptation that a run is judged by while it trains: the first rate, most steps."""
    return InnerLoop(
        max(adaptation.steps),
        adaptation.learning_rates[0],
        adaptation.optimizer,
        adaptation.anchor,
    )


def episode_metric(name: str) -> Metric:
    """A metric of any kind as a function of an episode and its answers.

    Raises:
        SettingsError: There is none of that name.
    """
    return episode_scorer(name, setting="adaptation.metric")


def _adapted(objective: Classification, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor that adapts, the head of prototypes included."""
    last = objective.plan.head[-1]
    return {**{last + suffix: fresh[next(iter(fresh))] for suffix in (WEIGHT, BIAS)}, **fresh}


def _training(settings: MetaTraining, objective: Classification, train: Sequence[Task]) -> Training:
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
    if settings.episode.shot == 0 and (settings.inner.steps or settings.model.head != "shared"):
        raise SettingsError(
            "cannot train with `episode.shot` 0: inner steps and the prototype head need support "
            "examples; raise it to 1 or more"
        )
    episode, inner = settings.episode, settings.inner
    stream = EpisodeStream(
        tuple(train),
        shot=episode.shot,
        query_shot=episode.query_shot,
        sampling=episode.sampling,
        seed=settings.run.seed,
    )
    loop = InnerLoop(inner.steps, inner.learning_rate, inner.optimizer, inner.anchor)
    algorithm = ALGORITHMS[settings.outer.algorithm]
    return Training(objective, stream, algorithm, loop, inner.batch_size)


def _outer_loop(settings: MetaTraining) -> OuterLoop:
    values = asdict(settings.outer)
    del values["algorithm"], values["deviation_r"]
    return OuterLoop(**values)


def _validation(settings: MetaTraining, judged: Sequence[Episode]) -> Validation:
    adaptation = settings.adaptation
    return Validation(
        judged,
        judged_inner(adaptation),
        adaptation.batch_size,
        adaptation.stack,
        episode_metric(adaptation.metric),
    )


def _examples_before(init_from: str | None) -> int:
    """What the start of a run was trained on, so that counts of whole histories compare."""
    if init_from is None:
        return 0
    _, record = find_model(init_from, kind=META_MODEL)
    return int(record.provenance["examples"])


def _provenance(
    settings: MetaTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    ended: MetaTrained,
    trials: Sequence[Trial],
) -> dict[str, object]:
    # Folders of the machine that trained are no part of what a model is.
    hidden = replace(settings.data, root=None)
    own = asdict(replace(settings, data=hidden))
    del own["run"], own["model"]
    return {
        "settings": own,
        "seed": settings.run.seed,
        "meta_train": [task.name for task in train],
        "meta_validation": [task.name for task in validation],
        "outer_steps": ended.step,
        "best_step": ended.best_step,
        "best_score": ended.best_score,
        "examples": ended.examples + _examples_before(settings.run.init_from),
        "trials": [asdict(trial) for trial in trials],
    }
