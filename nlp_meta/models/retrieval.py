"""A model of one language pair: it embeds sentences, and finds those that translate each other.

A meta-learned start that finds translations, and what its record keeps beside the adapter.

Finding translations: a start, and how a few dozen sentence pairs make a model of it.

A meta-model that learned translation, alone or beside sentiment, is a start; from a few
dozen sentence pairs `adapt_alignment` makes of it an `AlignmentModel`.

From a start that finds translations and a few dozen pairs to one language pair's own model.

K copies of the support set, each without one fold, are adapted in one stack. What they say
of the pairs that they have not seen chooses the number of steps, what the overlap of
n-grams counts for beside the encoder, the threshold of mining, and the precision that is
reported.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nlp_meta.data.answers import Ranking
from nlp_meta.data.cards import TRANSLATION
from nlp_meta.data.episodes import RETRIEVAL, Episode, join_units
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.prefix import whole_network
from nlp_meta.encoders.similarity import NEIGHBORS, Overlap
from nlp_meta.errors import DataError, DivergedError, MetaModelError
from nlp_meta.hub.pull import Source, source_of, tell_source
from nlp_meta.hub.pushable import Pushable
from nlp_meta.hub.records import (
    ALIGNMENT_META_MODEL,
    ALIGNMENT_MODEL,
    META_MODEL,
    Record,
    find_model,
    read_settings,
)
from nlp_meta.hub.storage import load_weights, save_model
from nlp_meta.meta.inner_loop import (
    InnerLoop,
    Weights,
    adaptation_path,
    describe_step_sizes,
    drop_step_sizes,
    repeat,
    restore_step_sizes,
)
from nlp_meta.meta.objective import begin_episodes
from nlp_meta.models.adaptation import PREDICTION_TOKENS, build_retriever, check_texts, count_cut
from nlp_meta.models.companion import check_when
from nlp_meta.models.mining import (
    Mined,
    MinedPairs,
    choose_threshold,
    embed_in_blocks,
    mine_texts,
    pair_margins,
)
from nlp_meta.models.texts import name_sentence
from nlp_meta.objectives.retrieval import TEMPERATURE, Retrieval, rank_candidates, tell_apart
from nlp_meta.progress import Ticker
from nlp_meta.settings import ModelSettings


@dataclass(frozen=True, slots=True)
class AlignmentMetaModel(Pushable):
    """A meta-learned start with the defaults that its adaptation to pairs was found to need.

    Attributes:
        weights: LoRA matrices, the temperature, learned step sizes; of a mixed run the
            classifier's head too, which has no part here.
        adaptation: Defaults found on the meta-validation tasks.
        minibatch: Support pairs of one inner step; None takes all.
        early_stop: Let held-out folds of the pairs choose fewer steps.
        provenance: Settings and results of its training.
        source: Where on the Hub it was pulled from, and at which commit.
    """

    objective: Retrieval
    weights: Mapping[str, Tensor]
    settings: ModelSettings
    adaptation: InnerLoop
    minibatch: int | None
    early_stop: bool
    provenance: Mapping[str, Any]
    source: Source | None = None

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str | None = None,
    ) -> "AlignmentMetaModel":
        """Load from a folder or the Hub; a mixed meta-model serves as well.

        Raises:
            MetaModelError: There is no meta-model, or it learned sentiment alone.
        """
        name, kinds = str(name_or_path), (ALIGNMENT_META_MODEL, META_MODEL)
        folder, record = find_model(
            name, kind=kinds[0], or_kind=kinds[1], revision=revision, token=token
        )
        defaults = dict(record.adaptation.get("translation") or {})
        if not defaults:
            raise MetaModelError(
                f"cannot find translations with '{name_or_path}': it learned sentiment alone and "
                "a meta-model that learned from sentence pairs is needed; name another, or train "
                "one with recipes/configs/mixed_multilingual.yaml"
            )
        settings, objective = build_recorded(record, device=device, token=token)
        backbone = objective.backbone
        weights = load_weights(folder, backbone=backbone, plan=objective.plan, with_head=False)
        weights |= _read_scalars(record, weights, backbone.device)
        del defaults["temperature"]
        minibatch, early_stop = defaults.pop("minibatch"), defaults.pop("early_stop")
        return cls(
            objective,
            weights,
            settings,
            InnerLoop(**defaults),
            minibatch,
            early_stop,
            record.provenance,
            source_of(name, folder),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write an ordinary PEFT adapter, the tokenizer and a record."""
        sizes = describe_step_sizes(self.weights)
        record = Record(
            ALIGNMENT_META_MODEL,
            asdict(self.settings),
            (),
            {"translation": describe_defaults(self)},
            sizes,
            self.provenance,
        )
        save_lora(Path(folder), record, self.objective, self.weights)


def build_recorded(
    record: Record, *, device: str | None, token: str | None
) -> tuple[ModelSettings, Retrieval]:
    """Build what a record says; its weights are not read yet.

    Raises:
        MetaModelError: The record is of another version.
    """
    settings = read_settings(record, ModelSettings)
    return settings, build_retriever(settings, device=device, token=token)


def _read_scalars(
    record: Record, lora: Mapping[str, Tensor], device: torch.device
) -> dict[str, Tensor]:
    """The temperature, and the step sizes of what retrieval moves."""
    found: dict[str, Tensor] = {}
    temperature = read_temperature(record, device)
    if temperature is not None:
        found[TEMPERATURE] = temperature
    moving = {*lora, *found}
    sizes = {name: value for name, value in record.step_sizes.items() if name in moving}
    return found | restore_step_sizes(sizes, device)


def describe_defaults(model: AlignmentMetaModel) -> dict[str, object]:
    """What a record keeps of translation beside the adapter: how to adapt, the temperature."""
    return {
        **asdict(model.adaptation),
        "minibatch": model.minibatch,
        "early_stop": model.early_stop,
        "temperature": math.exp(-float(model.weights[TEMPERATURE])),
    }


def read_temperature(record: Record, device: torch.device) -> Tensor | None:
    """The temperature's meta-parameter out of a record; None where there was no translation."""
    block = record.adaptation.get("translation")
    if not block:
        return None
    return torch.tensor(-math.log(block["temperature"]), dtype=torch.float32, device=device)


def save_lora(
    folder: Path, record: Record, objective: Retrieval, weights: Mapping[str, Tensor]
) -> None:
    """Save the LoRA matrices among some weights; all else is in the record."""
    lora = {
        name: value
        for name, value in weights.items()
        if any(name.startswith(layer + ".") for layer in objective.plan.scales)
    }
    save_model(folder, record, lora, backbone=objective.backbone, plan=objective.plan)


FOLDS = 4
STOPS = (0.0, 0.25, 0.5, 1.0)
"""Shares of the inner steps after which an adaptation may stop early; a start can answer too."""
LEAST_PAIRS = 4
SHARES = (0.1, 0.2, 0.3, 0.5)
"""What n-grams may count for: a cosine of theirs, times this, is added to the encoder's."""


@dataclass(frozen=True, slots=True)
class AdaptedPairs:
    """An adaptation to pairs, and what the held-out folds of its support set said.

    Attributes:
        overlap: What the overlap of n-grams counts for beside a cosine; 0 where it takes no
            part.
    """

    weights: dict[str, Tensor]
    steps: int
    held_out: MinedPairs
    overlap: float


def adapt_to_pairs(
    objective: Retrieval,
    meta_parameters: Weights,
    support: Sequence[Example],
    *,
    inner: InnerLoop,
    minibatch: int | None,
    early_stop: bool,
    companion: str,
    seed: int,
    on_step: Callable[[], None] | None = None,
) -> AdaptedPairs:
    """Adapt to a support set of pairs, as long as its held-out folds advise.

    Of 0, a quarter, a half and all of the inner steps those with the least held-out loss
    are taken; without `early_stop` all of them.

    Args:
        companion: `auto` lets n-grams count where they lower the held-out loss, `ngrams`
            always, `none` never.

    Raises:
        DataError: Fewer than 4 distinct pairs.
        DivergedError: A loss became infinite, or the answers are not numbers.
    """
    tick = on_step or _do_nothing
    shares = {"auto": (0.0, *SHARES), "ngrams": SHARES, "none": (0.0,)}[companion]
    parts = fold_pairs(support, folds=min(FOLDS, len(support) // 2), seed=seed)
    stops = {round(inner.steps * share) for share in STOPS} if early_stop else {inner.steps}
    episodes = [_episode([e for i, e in enumerate(support) if i not in part]) for part in parts]
    batches, start = begin_episodes(objective, meta_parameters, episodes, minibatch=minibatch)
    judged: dict[int, _Judged] = {}
    alike = Overlap.of([e.source for e in support], [e.target for e in support]).cosines()
    judge = partial(_judge, objective, support=support, parts=parts, shares=shares, alike=alike)
    for step, each in enumerate(adaptation_path(objective.loss, start, batches, inner=inner)):
        tick()
        if step in stops:
            judged[step] = judge(each, step=step)
    # Of equal losses the longest: it is what the meta-model was found to need.
    steps = min(sorted(judged, reverse=True), key=lambda step: judged[step].loss)
    whole, start = begin_episodes(
        objective, meta_parameters, [_episode(support)], minibatch=minibatch
    )
    fast: Weights = start
    path = adaptation_path(objective.loss, start, whole, inner=replace(inner, steps=steps))
    for fast in path:  # noqa: B007  the last one is the result
        tick()
    kept = {n: v[0].detach().clone() for n, v in drop_step_sizes(fast).items()}
    return AdaptedPairs(kept, steps, judged[steps].mined, judged[steps].share)


def fold_pairs(support: Sequence[Example], *, folds: int, seed: int) -> list[set[int]]:
    """Places of pairs in K folds; pairs that share a sentence stay together.

    Raises:
        DataError: Fewer than 4 pairs are distinct.
    """
    units = join_units(support, TRANSLATION)
    if len(units) < LEAST_PAIRS:
        raise DataError(
            f"cannot adapt to {len(support)} sentence pairs, {len(units)} of them distinct: at "
            f"least {LEAST_PAIRS} are needed, some to learn from and some to hold out; give more"
        )
    order = np.random.default_rng(seed).permutation(len(units)).tolist()
    parts = [{pair for unit in order[fold::folds] for pair in units[unit]} for fold in range(folds)]
    return [{place for place, pair in enumerate(support) if pair in part} for part in parts]


@dataclass(frozen=True, slots=True)
class _Judged:
    """What held-out pairs said after some steps: at the share of n-grams with the least loss.

    Attributes:
        loss: In nats.
    """

    loss: float
    share: float
    mined: MinedPairs


def _judge(
    objective: Retrieval,
    fast: Weights,
    *,
    support: Sequence[Example],
    parts: Sequence[set[int]],
    shares: Sequence[float],
    alike: Tensor,
    step: int,
) -> _Judged:
    texts = [e.source for e in support] + [e.target for e in support]
    embedded = objective.embed(fast, [texts] * len(parts))
    cosines = [rows[: len(support)] @ rows[len(support) :].T for rows in embedded]
    for each in cosines:
        _check_finite(each, step)
    alike = alike.to(objective.backbone.device)
    apart = tell_apart(support).to(alike.device)
    told = apart | torch.eye(len(support), dtype=torch.bool, device=apart.device)
    places = [torch.tensor(sorted(part), device=apart.device) for part in parts]
    losses: dict[float, float] = {}
    for share in shares:
        scores = [
            (each + share * alike) * fast[TEMPERATURE][task].exp()
            for task, each in enumerate(cosines)
        ]
        held_out = [
            (each.masked_fill(~told, -torch.inf).logsumexp(1) - each.diagonal())[own]
            for each, own in zip(scores, places, strict=True)
        ]
        losses[share] = float(torch.cat(held_out).mean())
    best = min(shares, key=lambda share: losses[share])
    margins = [
        pair_margins(each + best * alike, apart, neighbors=objective.neighbors)[own]
        for each, own in zip(cosines, places, strict=True)
    ]
    return _Judged(losses[best], best, choose_threshold(*torch.cat(margins).unbind(1)))


def _episode(pairs: Sequence[Example]) -> Episode:
    return Episode("support", (), tuple(pairs), (), 0, skill=RETRIEVAL)


def _do_nothing() -> None:
    pass


def _check_finite(cosines: Tensor, step: int) -> None:
    """No support loss follows the last step, so its answers are what can tell."""
    if not bool(cosines.isfinite().all()):
        raise DivergedError(
            f"cannot adapt: after {step} steps the embeddings of held-out pairs are not numbers "
            "and finite ones are needed; lower the learning rate (`--learning-rate`, "
            "`learning_rate`)"
        )


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """What one adaptation to pairs did; the held-out figures are those of `MinedPairs`.

    Attributes:
        temperature: Of the loss, as adaptation left it.
        overlap: What the overlap of n-grams counts for beside a cosine.
        texts_cut: Sentences longer than the encoder takes.
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

    @classmethod
    def of(
        cls, found: AdaptedPairs, pairs: int, learning_rate: float, texts_cut: int, seconds: float
    ) -> "AlignmentReport":
        """Tell what an adaptation found."""
        return cls(
            pairs=pairs,
            steps=found.steps,
            learning_rate=learning_rate,
            temperature=math.exp(-float(found.weights[TEMPERATURE])),
            overlap=found.overlap,
            threshold=found.held_out.threshold,
            held_out_first=found.held_out.first,
            held_out_precision=found.held_out.precision,
            held_out_recall=found.held_out.recall,
            texts_cut=texts_cut,
            seconds=seconds,
        )


@dataclass(frozen=True, slots=True)
class AlignmentModel(Pushable):
    """A backbone with the adapter of one language pair.

    Attributes:
        threshold: Margin from which on a pair is mined, unless another is asked for.
        languages: Of the sources and the targets, as the user named them; may be empty.
        provenance: That of its meta-model, and where that was pulled from.
        source: Where on the Hub it was pulled from, and at which commit.
    """

    objective: Retrieval
    weights: Mapping[str, Tensor]
    settings: ModelSettings
    threshold: float
    languages: tuple[str, str] = ("", "")
    report: AlignmentReport | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str | None = None,
    ) -> "AlignmentModel":
        """Load from a folder or the Hub, at a branch, tag or commit of it.

        Raises:
            MetaModelError: There is no model that was adapted to sentence pairs.
        """
        name = str(name_or_path)
        folder, record = find_model(name, kind=ALIGNMENT_MODEL, revision=revision, token=token)
        settings, objective = build_recorded(record, device=device, token=token)
        weights = load_weights(
            folder, backbone=objective.backbone, plan=objective.plan, with_head=False
        )
        # Models that were saved before n-grams counted have no word of them.
        done = {"overlap": 0.0, **record.adaptation}
        first, second = done.pop("languages")
        report = AlignmentReport(**done) if "pairs" in done else None
        return cls(
            replace(objective, overlap=done["overlap"]),
            weights,
            settings,
            done["threshold"],
            (first, second),
            report,
            record.provenance,
            source_of(name, folder),
        )

    def embed(
        self, texts: Sequence[str], *, on_step: Callable[[int], None] | None = None
    ) -> Tensor:
        """Embed texts as rows of length 1, in float32, through the whole model.

        Args:
            on_step: Called with the number of texts just embedded.

        Raises:
            DataError: A text is empty.
        """
        check_texts(texts)
        exact = replace(
            self.objective,
            network=whole_network(self.objective.backbone),
            autocast=None,
            batch_tokens=PREDICTION_TOKENS,
        )
        stacked = repeat(self.weights, tasks=1)
        width = int(exact.backbone.config.hidden_size)
        return embed_in_blocks(
            lambda some: exact.embed(stacked, [some])[0], texts, width=width, on_step=on_step
        )

    def rank(
        self,
        sources: Sequence[str],
        candidates: Sequence[str],
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
        tick = Ticker(on_step, total=len(sources) + len(candidates))
        left, right = (self.embed(texts, on_step=tick) for texts in (sources, candidates))
        cosines, share = left @ right.T, self.objective.overlap
        if share:
            cosines += share * Overlap.of(sources, candidates).cosines().to(cosines.device)
        return rank_candidates(cosines, neighbors=self.objective.neighbors)

    def align(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
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

    def save_pretrained(self, folder: str | Path) -> None:
        """Write an ordinary PEFT adapter, the tokenizer and a record."""
        told = asdict(self.report) if self.report else {}
        own = {"threshold": self.threshold, "overlap": self.objective.overlap}
        done = {**told, **own, "languages": list(self.languages)}
        record = Record(
            ALIGNMENT_MODEL, asdict(self.settings), (), done, provenance=self.provenance
        )
        save_lora(Path(folder), record, self.objective, self.weights)


__all__ = ["AlignmentMetaModel", "AlignmentModel", "AlignmentReport", "Mined", "adapt_alignment"]


def adapt_alignment(
    meta_model: AlignmentMetaModel,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    languages: tuple[str, str] = ("", ""),
    steps: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    long_texts: str = "cut",
    companion: str = "auto",
    lines: Sequence[int] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> AlignmentModel:
    """Adapt to a language pair from a few dozen sentences and their translations.

    Args:
        languages: Names that are saved with the model.
        steps, learning_rate: In place of the defaults found on meta-validation.
        long_texts: What to do with sentences longer than the encoder takes: `cut` them and
            count them in the report, or `stop`.
        companion: Let the overlap of character n-grams count beside the encoder: `auto` where
            held-out pairs say that it pays, `ngrams` always, `none` never.
        lines: Of the pairs in their file, to name a sentence that is too long by.
        on_step: Called with the steps done and their number.

    Raises:
        DataError: The sides differ in number, fewer than 4 distinct pairs, a sentence that is
            empty or too long.
        DivergedError: A loss became infinite; nothing is returned.
        SettingsError: `companion` is none of these words.
    """
    began = time.monotonic()
    check_when(companion)
    check_sides(sources, targets)
    inner = meta_model.adaptation.instead(steps=steps, learning_rate=learning_rate)
    name = partial(name_sentence, sources=len(sources), lines=lines)
    cut = count_cut(meta_model.objective, [*sources, *targets], long_texts=long_texts, name=name)
    found = adapt_to_pairs(
        meta_model.objective,
        meta_model.weights,
        [Example(s.strip(), t.strip()) for s, t in zip(sources, targets, strict=True)],
        inner=inner,
        minibatch=meta_model.minibatch,
        early_stop=meta_model.early_stop and steps is None,
        companion=companion,
        seed=seed,
        on_step=Ticker(on_step, total=2 * (inner.steps + 1)),
    )
    done = (len(sources), inner.learning_rate, cut, time.monotonic() - began)
    report = AlignmentReport.of(found, *done)
    objective = replace(meta_model.objective, overlap=found.overlap)
    own = (objective, found.weights, meta_model.settings, found.held_out.threshold)
    told = tell_source(meta_model.provenance, meta_model.source)
    return AlignmentModel(*own, languages, report, told)


def check_sides(sources: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse sides that differ in number, and empty sentences."""
    if len(sources) != len(targets):
        raise DataError(
            f"cannot adapt to {len(sources)} sentences with {len(targets)} translations: one "
            "translation for each sentence is needed; give as many"
        )
    check_texts(sources)
    check_texts(targets)
