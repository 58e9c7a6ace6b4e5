"""The whole path on the built-in corpus: meta-train on ten industries, adapt to an eleventh.

Joint training on eight industries comes first; the two others then choose how long and
how fast adaptation goes, and join the eight for Reptile. Real estate is seen by none of
this: it gives 60 labels to adapt to, five times, and is judged on the rest.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator

from nlp_meta.data.answers import Learned, Rival
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.episodes import Episode, evaluation_episode
from nlp_meta.data.tasks import Task, load_tasks
from nlp_meta.encoders.prefix import mean_pooled_embedder
from nlp_meta.errors import need_packages
from nlp_meta.evaluation.protocol import evaluate
from nlp_meta.evaluation.statistics import Interval, interval_of_draws
from nlp_meta.files.outputs import Layout, check_folder, write_file
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.companion import REGULARIZATION as NGRAM_REGULARIZATION
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.progress import show_steps
from nlp_meta.rivals.characters import ngrams
from nlp_meta.rivals.fine_tune import fine_tune, keep_start
from nlp_meta.rivals.linear_probe import linear_probe
from nlp_meta.settings import (
    AdaptationSettings,
    DataSettings,
    EpisodeSettings,
    HubSettings,
    InnerSettings,
    MetaTraining,
    ModelSettings,
    OuterSettings,
    RunSettings,
)
from nlp_meta.training.plan import begin, find_adaptation, validation_episodes
from nlp_meta.training.run import train_meta_model

logger = logging.getLogger(__name__)

CARD, HELD_OUT = "nlp_meta_reviews", "real_estate"
LABELS, DRAWS, RESAMPLES = 60, 5, 2000
REGULARIZATION, FOLDS = (0.001, 0.01, 0.1, 1.0, 10.0), 5

MODEL = ModelSettings(
    model_name_or_path="builtin:minilm",
    revision=None,
    pooling="native",
    head="shared",
    prefix_text="",
    max_tokens=96,
    lora_r=8,
    lora_alpha=16.0,
    lora_layers=4,
    lora_target_modules=["query", "value"],
)
EPISODE = EpisodeSettings(
    shot=0,
    query_shot=3,
    pairs=0,
    query_pairs=16,
    sampling="uniform",
    ways=None,
    sentiment_share=None,
    shares=None,
    weights=None,
)
ADAPTATION = AdaptationSettings(
    labels=LABELS,
    draws=2,
    max_query=60,
    metric="accuracy",
    optimizer="adam",
    batch_size=16,
    anchor=0.0,
    average=0.0,
    early_stop=True,
    stack=4,
    steps=[5, 10],
    learning_rates=[1e-3, 3e-4],
)
PLAIN_STEPS = [5, 10, 20]
"""Steps that plain LoRA may take: it begins with nothing learned."""
JOINT = OuterSettings(
    algorithm="joint",
    steps=80,
    meta_batch_size=8,
    stack=8,
    optimizer="AdamW",
    learning_rate=2e-3,
    options={"weight_decay": 0.01},
    warmup_steps=10,
    schedule="cosine",
    max_gradient_norm=1.0,
    validate_every=80,
    patience=None,
    checkpoint_every=80,
    average_last=0,
)
REPTILE = dataclasses.replace(
    JOINT,
    algorithm="reptile",
    steps=15,
    meta_batch_size=5,
    stack=5,
    optimizer="SGD",
    learning_rate=1.0,
    options={},
    warmup_steps=0,
    max_gradient_norm=None,
    validate_every=15,
    checkpoint_every=15,
)


@dataclass(frozen=True, slots=True)
class QuickstartResult:
    """What the quickstart measured and where it left its models.

    Attributes:
        methods: Accuracy on real estate over five support draws, by method.
    """

    methods: dict[str, Interval]
    seconds: float
    meta_dir: Path
    adapted_dir: Path


def run_quickstart(
    *, output_dir: Path, seed: int, progress: bool, replace: bool = False
) -> QuickstartResult:
    """Meta-train, adapt, compare and save, in a few minutes on two CPU cores.

    Args:
        replace: An earlier quickstart in `output_dir` may be lost.

    Raises:
        MissingPackageError: The extra `quickstart` is not installed.
        OutputError: `output_dir` holds an earlier quickstart or other things.
    """
    need_packages("run the quickstart", "sklearn", extra="quickstart")
    began = time.monotonic()
    layout = Layout("a quickstart", record="")
    check_folder(output_dir, layout, replace=replace, argument="output_dir")
    meta_dir, adapted_dir = output_dir / "meta", output_dir / HELD_OUT
    train, judged = _load("meta-train"), _load("meta-validation")
    (held_out,) = _load("meta-test")
    joint = _settings(JOINT, output_dir / "joint", seed=seed, over=replace)
    start = _train(joint, train, judged, progress=progress)
    start.save_pretrained(joint.run.output_dir, replace=replace)
    # The two judging industries are trained on from here, so what they chose is kept.
    chosen = start.adaptation[CLASSIFICATION].inner
    reptile = _settings(
        REPTILE, meta_dir, seed=seed, over=replace, init_from=joint.run.output_dir, chosen=chosen
    )
    model = _train(reptile, (*train, *judged), judged, progress=progress)
    model.save_pretrained(meta_dir, replace=replace)
    episodes = [
        evaluation_episode(held_out, labels_total=LABELS, seed=seed, draw=draw)
        for draw in range(DRAWS)
    ]
    adapted = {
        companion: {e.index: _adapt(model, e, companion, seed=seed) for e in episodes}
        for companion in ("none", "auto")
    }
    adapted["auto"][episodes[0].index].save_pretrained(adapted_dir, replace=replace)
    methods = _compare(model, adapted, reptile, judged, episodes, seed=seed)
    result = QuickstartResult(methods, time.monotonic() - began, meta_dir, adapted_dir)
    _write_results(output_dir / "results.json", result, seed=seed, over=replace)
    return result


def _load(meta_split: str) -> tuple[Task, ...]:
    return load_tasks([CARD], meta_split=meta_split)


def _settings(
    outer: OuterSettings,
    folder: Path,
    *,
    seed: int,
    over: bool,
    init_from: str | None = None,
    chosen: InnerLoop | None = None,
) -> MetaTraining:
    adaptation = ADAPTATION
    if chosen is not None:
        adaptation = dataclasses.replace(
            ADAPTATION, draws=1, steps=[chosen.steps], learning_rates=[chosen.learning_rate]
        )
    jointly = outer.algorithm == "joint"
    return MetaTraining(
        skills=[CLASSIFICATION],
        data=DataSettings([CARD], None, "files", {}, []),
        episode=EPISODE if jointly else dataclasses.replace(EPISODE, shot=16, query_shot=4),
        model=MODEL,
        inner=InnerSettings(0 if jointly else 6, 3e-4, "adam", 16, 0.0),
        outer=outer,
        adaptation=adaptation,
        run=RunSettings(seed, str(folder), init_from, "auto", 2048, None, [], False, replace=over),
        hub=HubSettings(False, None, None, None, None, "end", None),
    )


def _train(
    settings: MetaTraining, train: Sequence[Task], judged: Sequence[Task], *, progress: bool
) -> MetaModel:
    logger.info("%s training on %d industries", settings.outer.algorithm, len(train))
    with show_steps(settings.outer.steps, enabled=progress) as on_step:
        model, _ = train_meta_model(
            settings, train, judged, accelerator=Accelerator(), on_step=on_step
        )
    if not isinstance(model, MetaModel):
        raise KeyboardInterrupt
    return model


def _compare(
    model: MetaModel,
    adapted: Mapping[str, Mapping[int, AdaptedModel]],
    settings: MetaTraining,
    judged: Sequence[Task],
    episodes: Sequence[Episode],
    *,
    seed: int,
) -> dict[str, Interval]:
    """Every method on the same draws; adapted models go by `none` or `auto` n-grams, and draw."""
    logger.info("comparing on %s: %d labels, %d draws", HELD_OUT, LABELS, DRAWS)
    methods = _methods(model, adapted, settings, judged, seed=seed)
    scores = [evaluate(rival, episodes, method=name) for name, rival in methods.items()]
    return {
        scored.method: interval_of_draws(
            [score for cell in scored.cells if (score := cell.scores["accuracy"]) is not None],
            resamples=RESAMPLES,
            seed=seed,
        )
        for scored in scores
    }


def _methods(
    model: MetaModel,
    adapted: Mapping[str, Mapping[int, AdaptedModel]],
    settings: MetaTraining,
    judged: Sequence[Task],
    *,
    seed: int,
) -> dict[str, Rival]:
    """Ours and its rivals by name; rivals get the pooling that suits them best."""
    encoder = dataclasses.replace(MODEL, pooling="mean")
    plain = dataclasses.replace(settings, model=encoder)
    plain = dataclasses.replace(plain, run=dataclasses.replace(plain.run, init_from=None))
    objective = build_classifier(
        encoder,
        labels=model.labels,
        precision=plain.run.mixed_precision,
        batch_tokens=plain.run.batch_tokens,
    )
    fresh = begin({CLASSIFICATION: objective}, plain)
    longer = dataclasses.replace(ADAPTATION, steps=PLAIN_STEPS)
    chosen, _ = find_adaptation(
        objective, fresh, validation_episodes(judged, longer, (CLASSIFICATION,)), longer
    )
    embed = mean_pooled_embedder(objective.backbone, batch_tokens=4096)
    return {
        "zero labels": keep_start(model.objectives[CLASSIFICATION], model.start_of(CLASSIFICATION)),
        "plain LoRA": fine_tune(objective, fresh, inner=chosen, minibatch=ADAPTATION.batch_size),
        "linear probe": linear_probe(embed, regularization=REGULARIZATION, folds=FOLDS, seed=seed),
        "n-grams": ngrams(regularization=NGRAM_REGULARIZATION, folds=FOLDS, seed=seed),
        "ours": lambda support_set: _answer_by(adapted["none"][support_set.index]),
        "ours with n-grams": lambda support_set: _answer_by(adapted["auto"][support_set.index]),
    }


def _adapt(model: MetaModel, episode: Episode, companion: str, *, seed: int) -> AdaptedModel:
    texts, labels = zip(*((e.source, e.target) for e in episode.support), strict=True)
    return model.adapt(texts, labels, companion=companion, seed=seed)


def _answer_by(adapted: AdaptedModel) -> Learned:
    return lambda queries: adapted.predict(queries.texts)


def _write_results(path: Path, result: QuickstartResult, *, seed: int, over: bool) -> None:
    record = {
        "task": f"{CARD}/{HELD_OUT}",
        "metric": "accuracy",
        "labels": LABELS,
        "draws": DRAWS,
        "seed": seed,
        "seconds": round(result.seconds, 1),
        "methods": {name: asdict(score) for name, score in result.methods.items()},
    }
    write_file(path, json.dumps(record, indent=1) + "\n", replace=over, argument="output_dir")
