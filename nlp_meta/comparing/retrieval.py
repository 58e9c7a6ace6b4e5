"""Methods that find translations: ours, joint training then fine-tuning, and their rivals."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch

from nlp_meta.comparing.bench import Method
from nlp_meta.comparing.methods import ADAPTED, Kind, no_choice
from nlp_meta.comparing.pairs import (
    UNMOVED,
    Choice,
    Inside,
    build_lora,
    build_pretrained,
    build_product,
    build_start,
    choose_lora,
    choose_start,
    draw_pair_episodes,
    gather_texts,
)
from nlp_meta.comparing.run import Contest
from nlp_meta.data.episodes import Episode, SupportSet
from nlp_meta.data.tasks import Task
from nlp_meta.hub.pull import ADAPTER, RECORD
from nlp_meta.meta.inner_loop import Weights
from nlp_meta.models.adaptation import build_retriever
from nlp_meta.models.retrieval import AdaptedPairs, AlignmentMetaModel, adapt_to_pairs
from nlp_meta.objectives.retrieval import Retrieval
from nlp_meta.report.verdict import join_names
from nlp_meta.rivals.ngram_overlap import ngram_overlap
from nlp_meta.settings import ModelSettings, RetrievalComparison
from nlp_meta.training.run import load_splits


@dataclass(frozen=True, slots=True)
class RetrievalBench:
    """What every builder of a method that retrieves is given.

    Attributes:
        judged: Episodes of the meta-validation tasks, with candidates, for every choice.
    """

    passes: ClassVar[float] = 4.0  # its own, and copies of three quarters on four folds
    settings: RetrievalComparison
    judged: tuple[Episode, ...]
    _loaded: dict[str, Retrieval] = field(default_factory=dict, repr=False)

    def objective(self, model: ModelSettings) -> Retrieval:
        """Load a backbone with its adapter's plan; a second time give the same, states kept."""
        key = json.dumps(asdict(model))
        if key not in self._loaded:
            run = self.settings.run
            self._loaded[key] = build_retriever(
                model, precision=run.mixed_precision, batch_tokens=run.batch_tokens
            )
        return self._loaded[key]

    def start(self, folder: str) -> AlignmentMetaModel:
        """Load a meta-model; those of one backbone share it."""
        model = AlignmentMetaModel.from_pretrained(folder)
        shared = self.objective(model.settings)
        return replace(model, objective=replace(shared, plan=model.objective.plan))

    def pretrained(self) -> tuple[Retrieval, Weights]:
        """The encoder of the settings, with LoRA matrices that change nothing yet."""
        objective = self.objective(self.settings.model)
        generator = torch.Generator().manual_seed(self.settings.run.seed)
        return objective, objective.meta_parameters(generator)

    def adapt_inside(
        self,
        objective: Retrieval,
        weights: Weights,
        support_set: SupportSet,
        *,
        inside: Inside,
    ) -> tuple[Retrieval, AdaptedPairs]:
        """Adapt to a support set as `nlp-meta adapt` does."""
        found = adapt_to_pairs(
            objective,
            weights,
            support_set.examples,
            inner=inside.inner,
            minibatch=inside.minibatch,
            early_stop=inside.early_stop,
            companion=inside.companion,
            seed=self.settings.run.seed,
        )
        return replace(objective, overlap=found.overlap), found

    def while_choosing(self, objective: Retrieval) -> Retrieval:
        return objective


def build_adapt(bench: RetrievalBench, folder: str, choice: Choice) -> Method:
    """A meta-model as users adapt it, without n-grams."""
    return build_product(bench, folder, companion="none")


def build_hybrid(bench: RetrievalBench, folder: str, choice: Choice) -> Method:
    """A meta-model as users adapt it, with the overlap of n-grams where that pays."""
    return build_product(bench, folder, companion="auto")


def build_overlap(bench: RetrievalBench, _: str, choice: Choice) -> Method:
    """Overlap of character n-grams."""
    orders = bench.settings.retrieval.ngrams
    return Method(ngram_overlap(orders=orders), 0, lambda pairs: pairs, UNMOVED)


_ENCODER = "the adapted encoder's mean-pooled states"
_FOLDER = (ADAPTER, RECORD)
_POOL = ("retrieval.candidates", "retrieval.fill_cards")

KINDS: Mapping[str, Kind] = {
    "start": Kind(
        "a meta-model, fine-tuned",
        "ours",
        _ENCODER,
        (*_POOL, *ADAPTED),
        choose_start,
        build_start,
        folder=True,
        files=_FOLDER,
    ),
    "adapt": Kind(
        "`nlp-meta adapt` without n-grams",
        "ours",
        _ENCODER,
        _POOL,
        no_choice,
        build_adapt,
        folder=True,
        files=_FOLDER,
    ),
    "hybrid": Kind(
        "`nlp-meta adapt` with n-grams",
        "ours",
        f"{_ENCODER} and the text's characters",
        _POOL,
        no_choice,
        build_hybrid,
        folder=True,
        files=_FOLDER,
    ),
    "joint": Kind(
        "joint training, then fine-tuning",
        "rival",
        _ENCODER,
        (*_POOL, *ADAPTED),
        choose_start,
        build_start,
        folder=True,
        files=_FOLDER,
    ),
    "lora": Kind(
        "plain LoRA", "rival", _ENCODER, (*_POOL, "model", *ADAPTED), choose_lora, build_lora
    ),
    "frozen_retrieval": Kind(
        "the frozen encoder",
        "rival",
        "the frozen encoder's mean-pooled states",
        (*_POOL, "model"),
        no_choice,
        build_pretrained,
    ),
    "ngram_overlap": Kind(
        "overlap of character n-grams",
        "rival",
        "the text's characters",
        (*_POOL, "retrieval.ngrams"),
        no_choice,
        build_overlap,
    ),
}


def retrieval_contest(settings: RetrievalComparison, tasks: Sequence[Task]) -> Contest:
    """Finding translations in pools that sentences of other tasks fill up.

    Args:
        tasks: Of all meta-splits; what they hold in a pool's language may stand in it.
    """
    pool = settings.retrieval
    fill = _load_targets(settings)
    draw = partial(
        draw_pair_episodes,
        candidates=pool.candidates,
        distractors=gather_texts(tasks),
        fill=fill,
    )
    note = (
        f"Pools hold {pool.candidates:,} sentences or what there is of their language"
        f"{', then targets of ' + join_names(pool.fill_cards) if fill else ''}; none that a "
        "support set of the draw may show."
    )
    return Contest("retrieval", draw, KINDS, (note,))


def _load_targets(settings: RetrievalComparison) -> list[str]:
    """Targets of every task of the cards that fill pools up, in an order of the seed's."""
    cards = settings.retrieval.fill_cards
    if not cards:
        return []
    data = replace(settings.data, cards=cards, splits={"meta-train": ["*"]}, exclude=[])
    (tasks,) = load_splits(data, "meta-train")
    texts = list(dict.fromkeys(one.target for task in tasks for one in task.train))
    order = np.random.default_rng(settings.run.seed).permutation(len(texts))
    return [texts[place] for place in order]
