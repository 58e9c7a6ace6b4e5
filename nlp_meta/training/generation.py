"""A whole meta-training run over an encoder-decoder, from settings to a meta-model that writes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from nlp_meta.data.episodes import GENERATION, Episode
from nlp_meta.data.pairs import PairStream, evaluation_pairs
from nlp_meta.data.tasks import Task
from nlp_meta.errors import MetaModelError, SettingsError
from nlp_meta.evaluation.answers import KINDS, episode_scorer, kind_of_metric
from nlp_meta.hub.records import TRANSLATION_META_MODEL, find_model
from nlp_meta.hub.storage import load_weights
from nlp_meta.meta.algorithms import ALGORITHMS
from nlp_meta.meta.choice import Trial, choose_adaptation
from nlp_meta.meta.inner_loop import InnerLoop, learned_step_sizes
from nlp_meta.meta.objective import Metric, Validation
from nlp_meta.meta.outer_loop import MetaTrained, Training, meta_train
from nlp_meta.meta.schedule import OuterLoop
from nlp_meta.meta.state import Checkpoint, StepRecord, best_parameters
from nlp_meta.models.generation import TranslationMetaModel, build_generator
from nlp_meta.objectives.generation import Generation
from nlp_meta.settings import AdaptationSettings, GenerationTraining, fingerprint
from nlp_meta.training.launch import with_trackers
from nlp_meta.training.plan import VALIDATION_SEED, judged_inner
from nlp_meta.training.provenance import describe_draft, describe_run
from nlp_meta.training.pushes import with_pushes


def train_translation_meta_model(
    settings: GenerationTraining,
    train: Sequence[Task],
    validation: Sequence[Task],
    *,
    accelerator: Accelerator,
    on_step: Callable[[StepRecord], None] | None = None,
) -> tuple[TranslationMetaModel | None, MetaTrained]:
    """Meta-train, then find the defaults of users' adaptation on the validation tasks.

    Judgements translate greedily, whatever the search that answers users is.

    Returns:
        The meta-model, None where a signal ended the run; and how the run ended.
    """
    _check_algorithm(settings)
    run, device = settings.run, accelerator.device
    objective = build_generator(
        settings.generation,
        device=device,
        precision=run.mixed_precision,
        batch_tokens=run.batch_tokens,
    )
    greedy = replace(objective, num_beams=1)
    metric = find_metric(settings.adaptation.metric)
    judged = judged_pairs(validation, settings.adaptation)
    draft = _drafts(settings, objective, train, validation)
    ended = meta_train(
        _training(settings, greedy, train),
        begin_generation(greedy, settings),
        outer=_outer_loop(settings),
        validation=_validation(settings.adaptation, judged, metric),
        accelerator=accelerator,
        folder=Path(run.output_dir),
        fingerprint=fingerprint(settings),
        resume=run.resume,
        on_step=with_trackers(accelerator, with_pushes(settings, accelerator, draft, on_step)),
    )
    if ended.interrupted:
        return None, ended
    chosen, trials = find_writing_adaptation(
        greedy, ended.meta_parameters, judged, settings.adaptation
    )
    told = describe_run(settings, train, validation, ended, {GENERATION: trials})
    return _build_model(settings, objective, ended.meta_parameters, chosen, told), ended


def _build_model(
    settings: GenerationTraining,
    objective: Generation,
    weights: dict[str, Tensor],
    chosen: InnerLoop,
    provenance: dict[str, object],
) -> TranslationMetaModel:
    minibatch, early_stop = settings.adaptation.batch_size, settings.adaptation.early_stop
    return TranslationMetaModel(
        objective, weights, settings.generation, chosen, minibatch, early_stop, provenance
    )


def _drafts(
    settings: GenerationTraining,
    objective: Generation,
    train: Sequence[Task],
    validation: Sequence[Task],
) -> Callable[[Checkpoint, Path], None]:
    """Give a function that saves what a checkpoint holds as a meta-model, to be looked at."""

    def save(checkpoint: Checkpoint, folder: Path) -> None:
        told = describe_draft(settings, train, validation, checkpoint)
        weights, inner = best_parameters(checkpoint), judged_inner(settings.adaptation)
        _build_model(settings, objective, weights, inner, told).save_pretrained(folder)

    return save


def judged_pairs(tasks: Sequence[Task], adaptation: AdaptationSettings) -> tuple[Episode, ...]:
    """Fixed support draws of each meta-validation task."""
    return tuple(
        evaluation_pairs(
            task,
            pairs=adaptation.labels,
            seed=VALIDATION_SEED,
            draw=draw,
            max_query=adaptation.max_query,
            skill=GENERATION,
        )
        for draw in range(adaptation.draws)
        for task in tasks
    )


def find_writing_adaptation(
    objective: Generation,
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
        metric=find_metric(adaptation.metric),
    )


def find_metric(name: str) -> Metric:
    """A metric of translations as a function of an episode and its answers.

    Raises:
        SettingsError: There is no such metric, or it is of other answers.
    """
    if kind_of_metric(name, setting="adaptation.metric").name != GENERATION:
        raise SettingsError(
            f"cannot judge translations by '{name}': one of "
            f"{', '.join(KINDS[GENERATION].main_metrics)} is needed; change `adaptation.metric`"
        )
    return episode_scorer(name)


def begin_generation(objective: Generation, settings: GenerationTraining) -> dict[str, Tensor]:
    """Meta-parameters at the start of a run: drawn anew, or those of another meta-model.

    Raises:
        MetaModelError: `run.init_from` is of another model or adapter.
    """
    fresh = objective.meta_parameters(torch.Generator().manual_seed(settings.run.seed))
    if settings.run.init_from is not None:
        folder, _ = find_model(settings.run.init_from, kind=TRANSLATION_META_MODEL)
        saved = load_weights(folder, backbone=objective.backbone, plan=objective.plan)
        for name, value in fresh.items():
            if saved[name].shape != value.shape:
                raise MetaModelError(
                    f"cannot begin from '{settings.run.init_from}': its '{name}' does not fit and "
                    "a meta-model of the same model and adapter is needed; change "
                    "`run.init_from`, or set it to null"
                )
        fresh = {name: saved[name].clone() for name in fresh}
    if settings.inner.learned_step_sizes:
        fresh |= learned_step_sizes(fresh)
    return fresh


def _training(
    settings: GenerationTraining, objective: Generation, train: Sequence[Task]
) -> Training:
    episode, inner = settings.episode, settings.inner
    return Training(
        {GENERATION: objective},
        {GENERATION: 1.0},
        PairStream(
            tuple(train),
            episode.pairs,
            episode.query_pairs,
            episode.sampling,
            settings.run.seed,
            GENERATION,
        ),
        ALGORITHMS[settings.outer.algorithm],
        InnerLoop(inner.steps, inner.learning_rate, inner.optimizer, inner.anchor),
        inner.batch_size,
    )


def _validation(
    adaptation: AdaptationSettings, judged: Sequence[Episode], metric: Metric
) -> Validation:
    inner, size = judged_inner(adaptation), adaptation.batch_size
    return Validation(judged, inner, size, adaptation.stack, {GENERATION: metric})


def _outer_loop(settings: GenerationTraining) -> OuterLoop:
    values = asdict(settings.outer)
    del values["algorithm"], values["deviation_r"]
    return OuterLoop(**values)


def _check_algorithm(settings: GenerationTraining) -> None:
    algorithm, inner, episode = settings.outer.algorithm, settings.inner, settings.episode
    known = [name for name in ALGORITHMS if name != "deviations"]
    if algorithm not in known or settings.outer.deviation_r:
        raise SettingsError(
            f"cannot train by '{algorithm}' with deviations of rank "
            f"{settings.outer.deviation_r}: one of {', '.join(known)} and rank 0 are needed for "
            "translations; change `outer.algorithm` or `outer.deviation_r`"
        )
    if algorithm == "joint" and inner.steps:
        raise SettingsError(
            f"cannot train jointly with {inner.steps} inner steps: joint training takes none; "
            "set `inner.steps` to 0"
        )
    if inner.steps and episode.pairs < 1:
        raise SettingsError(
            f"cannot take {inner.steps} inner steps with `episode.pairs` {episode.pairs}: support "
            "pairs are needed; raise it to 1 or more"
        )
    if set(episode.shares) != {GENERATION}:
        raise SettingsError(
            f"cannot train an encoder-decoder on {' and '.join(episode.shares)}: generation "
            "alone is needed; set `episode.shares` and `episode.weights` to {generation: 1.0}"
        )
    if inner.learned_step_sizes and algorithm not in ("fomaml", "maml"):
        raise SettingsError(
            f"cannot learn step sizes with '{algorithm}': an algorithm with a query gradient is "
            "needed; set `outer.algorithm` to fomaml or maml"
        )
