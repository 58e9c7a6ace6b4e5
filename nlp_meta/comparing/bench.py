"""The bench that methods of one skill are built on: settings, judged episodes, loaded models.

What methods of labels, of translations found and of translations written compete in stands in
`CONTESTS`.
"""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from nlp_meta.data.answers import Rival
from nlp_meta.data.cards import CLASSIFICATION, TRANSLATION
from nlp_meta.data.clock import Clock
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import (
    GENERATION,
    RETRIEVAL,
    Episode,
    count_texts,
    evaluation_episode,
    split_folds,
)
from nlp_meta.data.pairs import draw_pairs, evaluation_pairs
from nlp_meta.data.tasks import Task
from nlp_meta.encoders.cache import Storage
from nlp_meta.encoders.prefix import Embed, mean_pooled_embedder
from nlp_meta.errors import MetaModelError, SettingsError
from nlp_meta.meta.inner_loop import Weights
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.skills import SKILLS, AnySettings, build_objectives
from nlp_meta.objectives.classification import Classification
from nlp_meta.report.scores import join_names
from nlp_meta.settings import Comparison, GenerationComparison, RetrievalComparison
from nlp_meta.training.plan import load_splits, union_of_labels, validation_episodes

AnyComparison = Comparison | RetrievalComparison | GenerationComparison
Tasks = Sequence[Task]

BYTES_A_NUMBER = 4
UNMOVED: Mapping[str, object] = {"examples_before": 0, "parameters": 0, "bytes": 0}
"""Facts of a method that neither was trained before nor moves a number of its own."""
_SAMPLE = 16
"""Texts whose time is taken."""
_ALGORITHMS = {
    "reptile": "Reptile",
    "fomaml": "FOMAML",
    "maml": "exact MAML",
    "joint": "joint training",
}


def count_numbers(numbers: int) -> dict[str, object]:
    """Facts of a method that moves so many numbers of its own."""
    return {"parameters": numbers, "bytes": BYTES_A_NUMBER * numbers}


@dataclass(frozen=True, slots=True)
class Method:
    """A method that learns and answers, and what is worth saying of it beside its scores.

    Attributes:
        least_labels: Fewest support examples that it can learn from, `least_a_label` of each
            label among them.
        examples: Support examples to examples through forward and backward, or forward
            alone where nothing is differentiated.
        facts: JSON-able: what was chosen, examples before, parameters moved, bytes to store.
        announce: Told the episodes that are to come, before the first: says what they cost.
        without_labels: It also answers without any support example.
    """

    learn: Rival
    least_labels: int
    examples: Callable[[int], int]
    facts: Mapping[str, object]
    announce: Callable[[Sequence[Episode]], None] | None = None
    without_labels: bool = False
    least_a_label: int = 0

    def can_answer(self, episode: Episode) -> bool:
        """Whether the support set is large enough, and that of its rarest label too."""
        if not episode.support:
            return self.without_labels or not self.least_labels
        counts = Counter(example.target for example in episode.support)
        enough = all(counts[label] >= self.least_a_label for label in episode.labels)
        return enough and len(episode.support) >= self.least_labels


@dataclass(frozen=True, slots=True)
class Bench:
    """What every builder of a method is given.

    Attributes:
        settings: Of a comparison of the skill, `AnyComparison`.
        judged: Episodes of the meta-validation tasks, for every choice there is; without
            any, a method chooses inside each support set.
        labels: Of all tasks that methods will meet; none of translations.
        others: Tasks whose sentences may stand in the pools that translations are found in.
        adapted: The last adaptation of a start with its seconds, by start and support
            set, for methods that read it in two ways.
        clock: Charged for what methods find ready, kept from earlier episodes.
        storage: Where that is kept; by a comparison, for all its processes.
    """

    settings: Any
    judged: tuple[Episode, ...]
    labels: tuple[str, ...] = ()
    others: tuple[Task, ...] = ()
    adapted: dict[str, tuple[AdaptedModel, float]] = field(default_factory=dict, repr=False)
    clock: Clock = field(default_factory=Clock, repr=False)
    storage: Storage = field(default_factory=Storage, repr=False)
    _loaded: dict[str, Any] = field(default_factory=dict, repr=False)
    _embedders: dict[str, Embed] = field(default_factory=dict, repr=False)

    @property
    def skill(self) -> str:
        """What its methods answer with."""
        return skill_of(self.settings)

    def objective(self, model: AnySettings, labels: Sequence[str] = ()) -> Any:
        """Load a pretrained model with its adapter's plan; a second time give the same.

        All methods of a comparison write with as many beams, those of its own settings.
        """
        key = json.dumps([asdict(model), list(labels)])
        if key not in self._loaded:
            run = self.settings.run
            self._loaded[key] = build_objectives(
                model,
                (self.skill,),
                labels=labels,
                precision=run.mixed_precision,
                batch_tokens=run.batch_tokens,
                storage=self.storage,
            )[self.skill]
            self._loaded[key].backbone.clock.follow(self.clock)
        if self.skill == GENERATION:
            return replace(self._loaded[key], num_beams=self.settings.model.num_beams)
        return self._loaded[key]

    def start(self, folder: str) -> MetaModel:
        """Load a start; those of one pretrained model and label set share it."""
        model = MetaModel.from_pretrained(folder)
        plan = model.objectives[self.skill].plan if self.skill in model.skills else None
        if plan is None:
            raise MetaModelError(
                f"cannot compare '{folder}': it learned {' and '.join(model.skills)} and a start "
                f"that learned {self.skill} is needed; change `comparison.methods`"
            )
        labels = model.labels if self.skill == CLASSIFICATION else ()
        shared = self.objective(model.settings, labels)
        return replace(model, objectives={self.skill: replace(shared, plan=plan)})

    def pretrained(self) -> tuple[Any, Weights]:
        """The pretrained model of the settings, with LoRA matrices that change nothing yet."""
        objective = self.objective(self.settings.model, self.labels)
        generator = torch.Generator().manual_seed(self.settings.run.seed)
        return objective, objective.meta_parameters(generator)

    def knows(self, model: MetaModel) -> bool:
        """Whether a start's own head has every label that methods will meet."""
        objective = model.objective_of(CLASSIFICATION, Classification)
        return objective.head == "shared" and set(self.labels) <= set(model.labels)

    def embed(self) -> Embed:
        """Mean-pooled features of the frozen encoder that the settings name."""
        model = replace(self.settings.model, pooling="mean")
        key = json.dumps(asdict(model))
        if key not in self._embedders:
            backbone = self.objective(model, self.labels).backbone
            tokens = self.settings.run.batch_tokens
            self._embedders[key] = mean_pooled_embedder(
                backbone, batch_tokens=tokens, storage=self.storage
            )
        return self._embedders[key]


def foretell(
    bench: Bench, methods: Mapping[str, Method], cells: Sequence[tuple[str, Episode]]
) -> float | None:
    """Seconds that cells will take, roughly, by those that the encoder takes for a few texts.

    Every text is read once. An example that is learned from is read once more; where the whole
    encoder moves three times, as there is a way back, and queries are read anew.

    Returns:
        None where translations are written, or no method trains an encoder or on one.
    """
    encoders = [loaded.backbone for loaded in bench._loaded.values()]
    texts = {text for _, e in cells for text in (*e.support_set.texts, *e.queries.texts)}
    texts |= {text for _, e in cells for text in e.candidates}
    sample = sorted(texts)[:: len(texts) // _SAMPLE or 1][: _SAMPLE + 1]
    if bench.skill == GENERATION or not encoders or len(sample) < 2:
        return None
    size, looks = sum(value.numel() for value in encoders[0].encoder.parameters()), len(texts)
    for method, episode in ((methods[name], episode) for name, episode in cells):
        learned = method.examples(len(episode.support))
        if int(str(method.facts.get("parameters") or 0)) >= size:
            looks += 3 * learned + len(episode.query)
        elif learned > len(episode.support):
            looks += learned
    if looks == len(texts):
        return None
    embed = mean_pooled_embedder(encoders[0], batch_tokens=bench.settings.run.batch_tokens)
    embed(sample[:1])
    began = time.perf_counter()
    embed(sample[1:])
    return (time.perf_counter() - began) / len(sample[1:]) * looks


@dataclass(frozen=True, slots=True)
class Contest:
    """What methods of one skill compete in.

    Attributes:
        settings: What its configs are read into.
        draw: Episodes that methods are compared on.
        notes: What a reader of the results must know.
    """

    settings: type[AnyComparison]
    draw: Callable[[Bench, Tasks], tuple[Episode, ...]]
    notes: Callable[[Any], tuple[str, ...]]


def skill_of(settings: AnyComparison) -> str:
    """The skill that a config compares methods of."""
    (skill,) = settings.skills
    return skill


def open_bench(settings: AnyComparison, *, train: Tasks, validation: Tasks, test: Tasks) -> Bench:
    """Set up what methods are built on.

    Args:
        test: Without what leaks.
    """
    fitting = fitting_tasks(settings, validation)
    judged = validation_episodes(fitting, settings.adaptation, (skill_of(settings),))
    # Tasks of translations have no labels.
    labels = union_of_labels((*fitting, *test))
    return Bench(settings, judged, labels, others=(*validation, *train))


def fitting_tasks(settings: AnyComparison, tasks: Tasks) -> tuple[Task, ...]:
    """Leave out tasks of other rows, which the cards of mixed training bring along.

    Raises:
        SettingsError: None is left.
    """
    skill = skill_of(settings)
    fitting = tuple(task for task in tasks if task.kind == SKILLS[skill].rows)
    if not fitting:
        raise SettingsError(
            f"cannot compare methods of {skill} on {len(tasks)} tasks of which none has rows of "
            f"{SKILLS[skill].rows}: at least one for meta-validation and one for meta-test are "
            "needed; add a card to `data.cards`"
        )
    return fitting


def draw_episodes(bench: Bench, tasks: Tasks) -> tuple[Episode, ...]:
    """Give every episode of a comparison: draws, then tasks, then numbers of labels.

    Raises:
        EpisodeError: A task has too few examples.
    """
    return CONTESTS[bench.skill].draw(bench, tasks)


def _draw_labels(bench: Bench, tasks: Tasks) -> tuple[Episode, ...]:
    plan = bench.settings.comparison
    return tuple(
        evaluation_episode(
            task,
            labels_total=labels,
            seed=bench.settings.run.seed,
            draw=draw,
            reserve=max(plan.labels),
            max_query=plan.max_query,
        )
        for draw in range(plan.draws)
        for task in tasks
        for labels in plan.labels
    )


def _draw_pairs(bench: Bench, tasks: Tasks) -> tuple[Episode, ...]:
    """Draw pairs; those of retrieval with pools, which other sentences of a language fill up.

    Texts that a support set of the draw may show are left out of its pools.
    """
    plan, seed, skill = bench.settings.comparison, bench.settings.run.seed, bench.skill
    finds = skill == RETRIEVAL
    distractors = gather_texts((*tasks, *bench.others)) if finds else {}
    fill = load_fill(bench.settings) if finds else []
    episodes: list[Episode] = []
    for draw, task in itertools.product(range(plan.draws), tasks):
        reserved = draw_pairs(task, pairs=max(plan.labels), seed=seed, draw=draw)
        shown = {text_key(example.target) for example in reserved}
        others = [*distractors.get(task.pair[1], ()), *fill]
        episodes += [
            evaluation_pairs(
                task,
                pairs=pairs,
                seed=seed,
                draw=draw,
                reserve=max(plan.labels),
                max_query=plan.max_query,
                candidates=bench.settings.retrieval.candidates if finds else None,
                distractors=[text for text in others if text_key(text) not in shown],
                skill=skill,
            )
            for pairs in plan.labels
        ]
    return tuple(episodes)


def gather_texts(tasks: Tasks) -> dict[str, list[str]]:
    """Every sentence of some tasks, by its language."""
    texts: dict[str, dict[str, None]] = {}
    for task in tasks:
        if task.kind != TRANSLATION:
            continue
        source, target = task.pair
        for example in (*task.train, *task.test):
            texts.setdefault(source, {})[example.source] = None
            texts.setdefault(target, {})[example.target] = None
    return {language: list(known) for language, known in texts.items()}


def load_fill(settings: RetrievalComparison) -> list[str]:
    """Targets of every task of the cards that fill pools up, in an order of the seed's."""
    cards = settings.retrieval.fill_cards
    if not cards:
        return []
    data = replace(settings.data, cards=cards, splits={"meta-train": ["*"]}, exclude=[])
    (tasks,) = load_splits(data, "meta-train")
    texts = list(dict.fromkeys(example.target for task in tasks for example in task.train))
    order = np.random.default_rng(settings.run.seed).permutation(len(texts))
    return [texts[place] for place in order]


def _tell_pools(settings: RetrievalComparison) -> tuple[str, ...]:
    pool = settings.retrieval
    fill = f", then targets of {join_names(pool.fill_cards)}" if pool.fill_cards else ""
    return (
        f"Pools hold {pool.candidates:,} sentences or what there is of their language{fill}; none "
        "that a support set of the draw may show.",
    )


CONTESTS: Mapping[str, Contest] = {
    CLASSIFICATION: Contest(settings=Comparison, draw=_draw_labels, notes=lambda _: ()),
    RETRIEVAL: Contest(settings=RetrievalComparison, draw=_draw_pairs, notes=_tell_pools),
    GENERATION: Contest(settings=GenerationComparison, draw=_draw_pairs, notes=lambda _: ()),
}
FORMS: Mapping[str, type[AnyComparison]] = {
    skill: contest.settings for skill, contest in CONTESTS.items()
}
"""Settings by the skill that a config names."""


def name_training(provenance: Mapping[str, Any]) -> str:
    """How a start was trained, as people say it, read from its provenance."""
    algorithm = trained_by(provenance)
    return _ALGORITHMS.get(algorithm, algorithm)


def trained_by(provenance: Mapping[str, Any]) -> str:
    """The algorithm of a start, by its name in the config."""
    settings = provenance.get("settings", {})
    return str(settings.get("outer", {}).get("algorithm", "a start"))


def fold_episodes(episode: Episode, *, folds: int, seed: int) -> list[Episode]:
    """Cross-validate inside a support set: each fold is the query set of the others.

    Fewer folds where a label has fewer different texts, none where one has 1.

    Args:
        episode: Its query set is not looked at.
    """
    fewest = min(count_texts(episode.support).values(), default=0)
    if fewest < 2:
        return []
    parts = split_folds(episode.support, folds=min(folds, fewest), seed=seed)
    return [
        replace(
            episode,
            support=tuple(e for place, e in enumerate(episode.support) if place not in set(part)),
            query=tuple(episode.support[place] for place in part),
        )
        for part in parts
    ]
