"""Models that find translations: how a start adapts to sentence pairs, what comes out."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from nlp_meta.data.answers import Ranking
from nlp_meta.data.cards import TRANSLATION
from nlp_meta.data.duplicates import hash_texts
from nlp_meta.data.episodes import RETRIEVAL, Episode, join_units
from nlp_meta.data.inputs import Texts, as_texts, check_callback
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import plain_modes
from nlp_meta.encoders.lora import LoraPlan
from nlp_meta.encoders.prefix import whole_network
from nlp_meta.encoders.similarity import (
    NEIGHBORS,
    Mined,
    MinedPairs,
    Overlap,
    choose_threshold,
    embed_in_blocks,
    mine_texts,
    pair_margins,
)
from nlp_meta.errors import DataError, DivergedError
from nlp_meta.hub.model import Model, Parts, Saved
from nlp_meta.hub.pull import Source
from nlp_meta.hub.records import ADAPTATION, ADAPTED, Record, read_part, read_settings
from nlp_meta.hub.storage import load_weights
from nlp_meta.meta.inner_loop import Weights, repeat
from nlp_meta.models.adaptation import FOLDS, Adaptation, Adapted, adapt, hold_out
from nlp_meta.models.builders import build_retriever
from nlp_meta.models.classification import prediction_tokens
from nlp_meta.models.texts import check_sides, count_cut, name_sentence
from nlp_meta.objectives.retrieval import TEMPERATURE, Retrieval, rank_candidates, tell_apart
from nlp_meta.progress import Ticker
from nlp_meta.settings import ModelSettings

STOPS = (0.0, 0.25, 0.5, 1.0)
"""Shares of the inner steps after which an adaptation may stop early; a start can answer too."""
FEWEST_PAIRS = 4
SHARES = (0.1, 0.2, 0.3, 0.5)
"""What n-grams may count for: a cosine of theirs, times this, is added to the encoder's."""


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """What one adaptation to pairs did; the held-out figures are those of `MinedPairs`.

    Attributes:
        temperature: Of the loss, as adaptation left it.
        overlap: What the overlap of n-grams counts for beside a cosine.
        texts_cut: Sentences longer than the encoder takes.
        text_hashes: Of the sources; what is pushed has none.
    """

    pairs: int
    steps: int
    learning_rate: float
    temperature: float
    overlap: float
    threshold: float
    held_out_first: float
    held_out_precision: float
    held_out_recall: float
    texts_cut: int
    seconds: float
    text_hashes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Advice:
    """What answers depend on, of all that a record tells of an adaptation."""

    threshold: float
    overlap: float
    languages: tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RetrievalModel(Model):
    """A backbone with the adapter of one language pair: it embeds sentences and finds pairs.

    Attributes:
        threshold: Margin from which on a pair is mined, unless another is asked for.
        languages: Of the sources and the targets, as the user named them; may be empty.
        provenance: That of its start, and where that was pulled from.
        source: Where on the Hub it was pulled from, and at which commit.
    """

    role: ClassVar[str] = ADAPTED
    skill: ClassVar[str] = RETRIEVAL

    objective: Retrieval
    weights: Mapping[str, Tensor]
    settings: ModelSettings
    threshold: float
    languages: tuple[str, str] = ("", "")
    report: RetrievalReport | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None

    @plain_modes()
    def embed(self, texts: Texts, *, on_step: Callable[[int], None] | None = None) -> Tensor:
        """Embed texts as rows of length 1, in float32, through the whole model.

        Args:
            on_step: Called with the number of texts just embedded.

        Raises:
            DataError: A text is empty.
        """
        texts = as_texts(texts, "texts")
        check_callback(on_step, "on_step")
        exact = replace(
            self.objective,
            network=whole_network(self.objective.backbone),
            batch_tokens=prediction_tokens(self.objective.backbone.device),
        )
        stacked = repeat(self.weights, tasks=1)
        width = int(exact.backbone.config.hidden_size)
        return embed_in_blocks(
            lambda block: exact.embed(stacked, [block])[0], texts, width=width, on_step=on_step
        )

    @plain_modes()
    def rank(
        self,
        sources: Texts,
        candidates: Texts,
        *,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Ranking]:
        """Order all candidates for each source, the likeliest translation first.

        Memory grows with the product of both numbers; `align` is for whole texts.

        Args:
            on_step: Called with the sentences embedded and their number.

        Raises:
            DataError: A text is empty.
        """
        sources, candidates = as_texts(sources, "sources"), as_texts(candidates, "candidates")
        check_callback(on_step, "on_step")
        tick = Ticker(on_step, total=len(sources) + len(candidates))
        left, right = (self.embed(texts, on_step=tick) for texts in (sources, candidates))
        cosines, share = left @ right.T, self.objective.overlap
        if share:
            cosines += share * Overlap.of(sources, candidates).cosines().to(cosines.device)
        return rank_candidates(cosines, neighbors=self.objective.neighbors)

    @plain_modes()
    def align(
        self,
        sources: Texts,
        targets: Texts,
        *,
        threshold: float | None = None,
        neighbors: int = NEIGHBORS,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Mined]:
        """Find the sentences of two texts that translate each other, each in one pair at most.

        Of sentences that are equal up to case, blanks and the stop at their end the first
        stands for all, and a sentence is no translation of its own copy, whatever its
        punctuation. Memory holds the embeddings and one
        block of cosines: a hundred thousand sentences a side need less than 1 GB beside the
        model, and about twice as much again while n-grams are counted, where they take part.

        Args:
            threshold: Least margin of a pair; None takes what the held-out pairs advised. The
                more sentences there are, the smaller margins become.
            on_step: Called with the sentences embedded and their number.

        Returns:
            Pairs by falling margin.

        Raises:
            DataError: A side has no sentence, or an empty one.
        """
        return mine_texts(
            self.embed,
            self.embed,
            sources,
            targets,
            threshold=self.threshold if threshold is None else threshold,
            neighbors=neighbors,
            overlap=self.objective.overlap,
            on_step=on_step,
        )

    @classmethod
    def _read(cls, saved: Saved) -> "RetrievalModel":
        record, settings = saved.record, read_settings(saved.record, ModelSettings)
        objective = build_retriever(settings, device=saved.device, token=saved.token)
        done = dict(saved.record.adaptation)
        parts = {key: done.pop(key) for key in _Advice.__slots__ if key in done}
        advice = read_part(_Advice, parts, what=ADAPTATION)
        values = {**done, "threshold": advice.threshold, "overlap": advice.overlap}
        report = read_part(RetrievalReport, values, what=ADAPTATION) if done else None
        weights = load_weights(
            saved.folder, record, backbone=objective.backbone, plan=objective.plan, with_head=False
        )
        return cls(
            replace(objective, overlap=advice.overlap),
            weights,
            settings,
            advice.threshold,
            advice.languages,
            report,
            record.provenance,
            saved.source,
        )

    def _parts(self) -> Parts:
        done = {
            **(asdict(self.report) if self.report else {}),
            "threshold": self.threshold,
            "overlap": self.objective.overlap,
            "languages": list(self.languages),
        }
        record = Record(
            ADAPTED, (RETRIEVAL,), asdict(self.settings), (), done, provenance=self.provenance
        )
        lora = keep_lora(self.weights, self.objective.plan)
        return Parts(record, lora, self.objective.backbone, self.objective.plan)


@dataclass(frozen=True, slots=True)
class HeldOutMatches:
    """What held-out pairs said of an adaptation after some steps.

    Attributes:
        loss: In nats, at the share of n-grams with the least loss.
        share: What n-grams count for beside a cosine; 0 where they take no part.
    """

    loss: float
    share: float
    mined: MinedPairs


class MatchJudge:
    """Judges by how sure held-out sources are of their translations among all targets."""

    def __init__(
        self, objective: Retrieval, support: Episode, *, shares: Sequence[float], seed: int
    ) -> None:
        pairs = support.support
        self.objective, self.shares = objective, shares
        self.parts = fold_pairs(pairs, folds=min(FOLDS, len(pairs) // 2), seed=seed)
        self.folds = hold_out(support, self.parts)
        self.sources, self.targets = [e.source for e in pairs], [e.target for e in pairs]
        device = objective.backbone.device
        self.alike = Overlap.of(self.sources, self.targets).cosines().to(device)
        self.apart = tell_apart(pairs).to(device)

    def __call__(self, fast: Weights, step: int) -> HeldOutMatches:
        """Judge the stacked weights of all folds.

        Raises:
            DivergedError: The embeddings are not numbers.
        """
        size = len(self.sources)
        texts = self.sources + self.targets
        embedded = self.objective.embed(fast, [texts] * len(self.parts))
        cosines = [rows[:size] @ rows[size:].T for rows in embedded]
        for rows in cosines:
            _check_finite(rows, step)
        held_out = [torch.tensor(sorted(part), device=self.apart.device) for part in self.parts]
        losses = {share: self._loss(fast, cosines, held_out, share) for share in self.shares}
        best = min(self.shares, key=lambda share: losses[share])
        margins = [
            pair_margins(rows + best * self.alike, self.apart, neighbors=self.objective.neighbors)[
                places
            ]
            for rows, places in zip(cosines, held_out, strict=True)
        ]
        return HeldOutMatches(losses[best], best, choose_threshold(*torch.cat(margins).unbind(1)))

    def _loss(
        self, fast: Weights, cosines: Sequence[Tensor], held_out: Sequence[Tensor], share: float
    ) -> float:
        size = len(self.sources)
        compared = self.apart | torch.eye(size, dtype=torch.bool, device=self.apart.device)
        losses = []
        for task, (task_cosines, places) in enumerate(zip(cosines, held_out, strict=True)):
            scores = (task_cosines + share * self.alike) * fast[TEMPERATURE][task].exp()
            rows = scores.masked_fill(~compared, -torch.inf).logsumexp(1) - scores.diagonal()
            losses.append(rows[places])
        return float(torch.cat(losses).mean())


def adapt_to_matches(
    objective: Retrieval,
    start: Weights,
    sources: Texts,
    targets: Texts,
    *,
    settings: ModelSettings,
    how: Adaptation,
    languages: tuple[str, str],
    companion: str,
    seed: int,
    long_texts: str,
    lines: Sequence[int] | None,
    provenance: Mapping[str, Any],
    on_step: Callable[[int, int], None] | None,
) -> RetrievalModel:
    """Adapt a start to sentence pairs; see `MetaModel.adapt_to_pairs` for arguments and errors."""
    began = time.monotonic()
    sources, targets = check_sides(sources, targets)
    name = partial(name_sentence, sources=len(sources), lines=lines)
    texts = [*sources, *targets]
    cut = count_cut(objective.backbone, texts, long_texts=long_texts, name=name)
    pairs = [Example(s.strip(), t.strip()) for s, t in zip(sources, targets, strict=True)]
    adapted = learn_matches(
        objective, start, pairs, how=how, companion=companion, seed=seed, on_step=on_step
    )
    report = _report(adapted, how, cut=cut, seconds=time.monotonic() - began, sources=sources)
    ready = replace(objective.over(objective.backbone), overlap=report.overlap)  # it keeps no text
    return RetrievalModel(
        ready, adapted.weights, settings, report.threshold, languages, report, provenance
    )


def _report(
    adapted: Adapted[HeldOutMatches],
    how: Adaptation,
    *,
    sources: Sequence[str],
    cut: int,
    seconds: float,
) -> RetrievalReport:
    mined = adapted.judgement.mined
    return RetrievalReport(
        pairs=len(sources),
        steps=adapted.steps,
        learning_rate=how.inner.learning_rate,
        temperature=math.exp(-float(adapted.weights[TEMPERATURE])),
        overlap=adapted.judgement.share,
        threshold=mined.threshold,
        held_out_first=mined.first,
        held_out_precision=mined.precision,
        held_out_recall=mined.recall,
        texts_cut=cut,
        seconds=seconds,
        text_hashes=tuple(sorted(set(hash_texts(sources)))),
    )


def learn_matches(
    objective: Retrieval,
    start: Weights,
    pairs: Sequence[Example],
    *,
    how: Adaptation,
    companion: str,
    seed: int,
    on_step: Callable[[int, int], None] | None = None,
) -> Adapted[HeldOutMatches]:
    """Adapt to pairs, as long as the held-out ones advise.

    Args:
        companion: `auto` lets n-grams count where they lower the held-out loss, `ngrams`
            always, `none` never.

    Raises:
        DataError: Fewer than 4 distinct pairs.
        DivergedError: A loss became infinite, or the answers are not numbers.
    """
    shares = {"auto": (0.0, *SHARES), "ngrams": SHARES, "none": (0.0,)}[companion]
    support = Episode("support", (), tuple(pairs), (), 0, skill=RETRIEVAL)
    judge = MatchJudge(objective, support, shares=shares, seed=seed)
    return adapt(objective, start, support, judge=judge, stops=STOPS, how=how, on_step=on_step)


def fold_pairs(support: Sequence[Example], *, folds: int, seed: int) -> list[set[int]]:
    """Places of pairs in K folds; pairs that share a sentence stay together.

    Raises:
        DataError: Fewer than 4 pairs are distinct.
    """
    units = join_units(support, TRANSLATION)
    if len(units) < FEWEST_PAIRS:
        raise DataError(
            f"cannot adapt to {len(support)} sentence pairs, {len(units)} of them distinct: at "
            f"least {FEWEST_PAIRS} are needed, some to learn from and some to hold out; give more"
        )
    order = np.random.default_rng(seed).permutation(len(units)).tolist()
    parts = [{pair for unit in order[fold::folds] for pair in units[unit]} for fold in range(folds)]
    return [{place for place, pair in enumerate(support) if pair in part} for part in parts]


def keep_lora(weights: Weights, plan: LoraPlan) -> dict[str, Tensor]:
    """The LoRA matrices among some weights; all else of retrieval is in its record."""
    layers = tuple(layer + "." for layer in plan.scales)
    return {name: value for name, value in weights.items() if name.startswith(layers)}


def _check_finite(cosines: Tensor, step: int) -> None:
    """No support loss follows the last step, so its answers are what can tell."""
    if not bool(cosines.isfinite().all()):
        raise DivergedError(
            f"cannot adapt: after {step} steps the embeddings of held-out pairs are not numbers "
            "and finite ones are needed; lower `learning_rate`"
        )
