"""A start that writes translations, and how a few dozen sentence pairs make a model of it.

An encoder-decoder with the adapter of one language pair: it translates.

From a start that writes translations and a few dozen pairs to one language pair's own model.

A quarter of the pairs is held out while the others are adapted to: their loss chooses the
number of steps, their translations give the score that is reported. Then all pairs are
adapted to for as many steps.

What an encoder-decoder does with users' texts: it writes, and it embeds.

One set of weights at a time, in float32.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nlp_meta.data.answers import Translation
from nlp_meta.data.episodes import GENERATION, Episode
from nlp_meta.data.languages import check_pair, join_pair, split_pair
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import choose_autocast, choose_device
from nlp_meta.encoders.seq2seq import direct, load_seq2seq, tokenize_sources, tokenize_targets
from nlp_meta.encoders.similarity import NEIGHBORS
from nlp_meta.errors import DataError, DivergedError
from nlp_meta.evaluation.translation_metrics import chrf
from nlp_meta.hub.pull import Source, source_of, tell_source
from nlp_meta.hub.pushable import Pushable
from nlp_meta.hub.records import (
    TRANSLATION_META_MODEL,
    TRANSLATION_MODEL,
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
from nlp_meta.models.adaptation import check_texts
from nlp_meta.models.mining import (
    Mined,
    MinedPairs,
    choose_threshold,
    embed_in_blocks,
    mine_texts,
    pair_margins,
)
from nlp_meta.models.retrieval import fold_pairs
from nlp_meta.models.texts import count_long_texts, name_sentence
from nlp_meta.objectives.generation import Generation, build_generation
from nlp_meta.objectives.retrieval import tell_apart
from nlp_meta.progress import Ticker
from nlp_meta.settings import GenerationSettings

WRITING_TOKENS = 4096


def build_generator(
    settings: GenerationSettings,
    *,
    device: torch.device | str | None = None,
    precision: str = "auto",
    batch_tokens: int = 2048,
    token: str | None = None,
) -> Generation:
    """Load the encoder-decoder that settings name and plan its adapter."""
    place = choose_device(device)
    backbone = load_seq2seq(
        settings.model_name_or_path,
        max_tokens=settings.max_tokens,
        device=place,
        revision=settings.revision,
        token=token,
    )
    return build_generation(
        backbone,
        lora_r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_sides=settings.lora_sides,
        lora_layers=settings.lora_layers,
        lora_target_modules=settings.lora_target_modules,
        label_smoothing=settings.label_smoothing,
        num_beams=settings.num_beams,
        autocast=choose_autocast(precision, place),
        batch_tokens=batch_tokens,
    )


def write_texts(
    objective: Generation,
    weights: Weights,
    texts: Sequence[str],
    *,
    language: str,
    num_beams: int | None = None,
) -> list[str]:
    """Translate texts with one set of weights, in float32.

    Args:
        num_beams: None takes the objective's.

    Raises:
        DataError: A text is empty.
    """
    check_texts(texts)
    if not texts:
        return []
    exact = replace(
        objective,
        autocast=None,
        batch_tokens=WRITING_TOKENS,
        num_beams=num_beams or objective.num_beams,
    )
    episode = episode_of((), [Example(text.strip(), "") for text in texts], language)
    answers = exact.answer(repeat(weights, tasks=1), exact.query_batches([episode]), [episode])
    return [answer.text for answer in answers[0]]


def embed_texts(
    objective: Generation,
    weights: Weights,
    texts: Sequence[str],
    *,
    language: str,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Means of the adapted encoder's states as rows of length 1, in float32.

    Args:
        language: The texts' own and the one that the model translates into: `ind-jav`.
        on_step: Called with the number of texts just embedded.
    """
    check_texts(texts)
    exact = replace(objective, autocast=None, batch_tokens=WRITING_TOKENS)
    stacked = repeat(weights, tasks=1)

    def embed(some: list[str]) -> Tensor:
        episode = episode_of((), [Example(text, "") for text in some], language)
        return functional.normalize(exact.embed(stacked, exact.query_batches([episode]))[0], dim=1)

    width = int(objective.backbone.config.hidden_size)
    return embed_in_blocks(embed, texts, width=width, on_step=on_step)


def count_long(
    objective: Generation,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    language: str,
    long_texts: str,
    lines: Sequence[int] | None = None,
) -> int:
    """Number of sentences, of both sides, longer than the model takes.

    Args:
        lines: Of the sources, and their targets, in their file.

    Raises:
        DataError: There are some and `long_texts` is `stop`.
    """
    longest = objective.backbone.max_tokens
    backbone = replace(objective.backbone, max_tokens=longest + 1)
    direction = direct(backbone, language)
    ids = [
        *tokenize_sources(backbone, sources, direction),
        *tokenize_targets(backbone, targets, direction),
    ]
    name = partial(name_sentence, sources=len(sources), lines=lines)
    lengths = list(map(len, ids))
    return count_long_texts(lengths, longest=longest, long_texts=long_texts, name=name)


def episode_of(support: Sequence[Example], query: Sequence[Example], language: str) -> Episode:
    """One episode of pairs that its user holds."""
    return Episode(
        "pairs", (), tuple(support), tuple(query), 0, skill=GENERATION, language=language
    )


HELD_OUT = 4
"""One pair of so many is held out."""
STOPS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the inner steps after which an adaptation may stop early; a start can answer too."""


@dataclass(frozen=True, slots=True)
class HeldOutPairs:
    """What an adaptation was worth on pairs that it had not seen.

    Attributes:
        loss: In nats a token, at the steps chosen; `loss_before` at the start as it was.
        chrf: chrF++ of greedy translations, from 0 to 100; `chrf_before` at the start.
    """

    pairs: int
    loss_before: float
    loss: float
    chrf_before: float
    chrf: float


@dataclass(frozen=True, slots=True)
class AdaptedGeneration:
    """An adaptation to pairs, and what the held-out ones among them said of both uses of it."""

    weights: dict[str, Tensor]
    steps: int
    held_out: HeldOutPairs
    mined: MinedPairs


def adapt_generation(
    objective: Generation,
    meta_parameters: Weights,
    support: Sequence[Example],
    *,
    language: str,
    inner: InnerLoop,
    minibatch: int | None,
    early_stop: bool,
    seed: int,
    on_step: Callable[[], None] | None = None,
) -> AdaptedGeneration:
    """Adapt to a support set of pairs, as long as the held-out ones advise.

    Args:
        language: The pair, such as `ind-jav`.
        early_stop: Of 0, a quarter, a half, three quarters and all of the inner steps take
            those with the least held-out loss; else all of them.

    Raises:
        DataError: Fewer than 4 distinct pairs.
        DivergedError: A loss became infinite or not a number.
    """
    tick = on_step or _do_nothing
    rest, judged = hold_out(support, seed=seed)
    episode = episode_of(rest, judged, language)
    stops = {0} | ({round(inner.steps * s) for s in STOPS} if early_stop else {inner.steps})
    batches, start = begin_episodes(objective, meta_parameters, [episode], minibatch=minibatch)
    losses: dict[int, float] = {}
    kept: dict[int, Weights] = {}
    for step, fast in enumerate(adaptation_path(objective.loss, start, batches, inner=inner)):
        tick()
        if step in stops:
            losses[step], kept[step] = _held_out_loss(objective, fast, episode, step), fast
    # Of equal losses the longest: it is what the meta-model was found to need.
    allowed = sorted(losses if early_stop else [inner.steps], reverse=True)
    steps = min(allowed, key=lambda step: losses[step])
    scores = [_held_out_chrf(objective, kept[step], episode) for step in (0, steps)]
    mined = _held_out_mining(objective, kept[steps], support, judged, language)
    whole = episode_of(support, (), language)
    batches, start = begin_episodes(objective, meta_parameters, [whole], minibatch=minibatch)
    weights: Weights = start
    path = adaptation_path(objective.loss, start, batches, inner=replace(inner, steps=steps))
    for weights in path:  # noqa: B007  the last one is the result
        tick()
    own = {n: v[0].detach().clone() for n, v in drop_step_sizes(weights).items()}
    said = HeldOutPairs(len(judged), losses[0], losses[steps], *scores)
    return AdaptedGeneration(own, steps, said, mined)


def hold_out(support: Sequence[Example], *, seed: int) -> tuple[list[Example], list[Example]]:
    """Pairs to learn from, and a quarter that shares no sentence with them.

    Raises:
        DataError: Fewer than 4 pairs are distinct.
    """
    held = fold_pairs(support, folds=HELD_OUT, seed=seed)[0]
    rest = [pair for place, pair in enumerate(support) if place not in held]
    return rest, [support[place] for place in sorted(held)]


def check_sentences(sources: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse sides that differ in number, and empty sentences."""
    if len(sources) != len(targets):
        raise DataError(
            f"cannot adapt to {len(sources)} sentences with {len(targets)} translations: one for "
            "each is needed; give as many"
        )
    check_texts(sources)
    check_texts(targets)


@torch.no_grad()
def _held_out_loss(objective: Generation, fast: Weights, episode: Episode, step: int) -> float:
    plain = replace(objective, label_smoothing=0.0)
    loss = sum(float(plain.loss(fast, batch)) for batch in plain.query_batches([episode]))
    if not loss < float("inf"):
        raise DivergedError(
            f"cannot adapt: after {step} steps the loss of held-out pairs is {loss} and a finite "
            "one is needed; lower the learning rate (`--learning-rate`, `learning_rate`)"
        )
    return loss


def _held_out_chrf(objective: Generation, fast: Weights, episode: Episode) -> float:
    greedy = replace(objective, num_beams=1)
    answers: list[Translation] = greedy.answer(fast, greedy.query_batches([episode]), [episode])[0]
    _, target = split_pair(episode.language)
    return chrf([pair.target for pair in episode.query], answers, (target,))


def _held_out_mining(
    objective: Generation,
    fast: Weights,
    support: Sequence[Example],
    judged: Sequence[Example],
    language: str,
) -> MinedPairs:
    """What mining by the adapted encoder makes of the held-out pairs, among all targets."""
    own = {name: value[0] for name, value in drop_step_sizes(fast).items()}
    source, target = split_pair(language)
    sides = (
        ([pair.source for pair in support], source),
        ([pair.target for pair in support], target),
    )
    left, right = (
        embed_texts(objective, own, texts, language=join_pair(code, target))
        for texts, code in sides
    )
    margins = pair_margins(left @ right.T, tell_apart(support), neighbors=NEIGHBORS)
    held = set(judged)
    places = [place for place, pair in enumerate(support) if pair in held]
    return choose_threshold(*margins[places].unbind(1))


def _do_nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class TranslationReport:
    """What one adaptation to sentence pairs did.

    Attributes:
        texts_cut: Sentences, of either side, longer than the model takes.
        held_out: What the pairs that it had not seen said.
        mined: What the adapted encoder finds of the same pairs, and from which margin on.
        is_new: The model has no code of its own for the target language.
    """

    pairs: int
    steps: int
    learning_rate: float
    texts_cut: int
    held_out: HeldOutPairs
    mined: MinedPairs
    is_new: bool
    seconds: float

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> "TranslationReport | None":
        """Read what was saved; None where nothing was, or another version wrote it."""
        try:
            held, mined = HeldOutPairs(**stored["held_out"]), MinedPairs(**stored["mined"])
            return cls(**{**stored, "held_out": held, "mined": mined})
        except (KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class TranslationModel(Pushable):
    """An encoder-decoder with the adapter of one language pair.

    Attributes:
        provenance: That of its meta-model, and where that was pulled from.
        source: Where on the Hub it was pulled from, and at which commit.
    """

    objective: Generation
    weights: Mapping[str, Tensor]
    settings: GenerationSettings
    source_lang: str
    target_lang: str
    report: TranslationReport | None = None
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
    ) -> "TranslationModel":
        """Load from a folder or the Hub, at a branch, tag or commit of it.

        Raises:
            MetaModelError: There is no adapted model that translates.
        """
        name = str(name_or_path)
        folder, record = find_model(name, kind=TRANSLATION_MODEL, revision=revision, token=token)
        settings = read_settings(record, GenerationSettings)
        objective = build_generator(settings, device=device, token=token)
        weights = load_weights(folder, backbone=objective.backbone, plan=objective.plan)
        done = dict(record.adaptation)
        languages = (done.pop("source_lang"), done.pop("target_lang"))
        del done["direction"]
        report = TranslationReport.read(done)
        told, source = record.provenance, source_of(name, folder)
        return cls(objective, weights, settings, *languages, report, told, source)

    @property
    def pair(self) -> str:
        """Its languages as one word, such as `ind-jav`."""
        return join_pair(self.source_lang, self.target_lang)

    def translate(self, texts: Sequence[str], *, num_beams: int | None = None) -> list[str]:
        """One translation a text; longer ones than the model takes are cut.

        Args:
            num_beams: Of the search, 1 is greedy; None takes the model's own setting.

        Raises:
            DataError: A text is empty.
        """
        return write_texts(
            self.objective, self.weights, texts, language=self.pair, num_beams=num_beams
        )

    def count_cut(
        self,
        texts: Sequence[str],
        *,
        long_texts: str = "cut",
        lines: Sequence[int] | None = None,
    ) -> int:
        """Number of texts longer than the model takes.

        Args:
            lines: Of the texts in their file, to name one that is too long by.

        Raises:
            DataError: There are some and `long_texts` is `stop`.
        """
        return count_long(
            self.objective, texts, [], language=self.pair, long_texts=long_texts, lines=lines
        )

    @property
    def threshold(self) -> float:
        """Margin from which on a pair is mined; 1, no margin at all, where no pair said more."""
        return 1.0 if self.report is None else self.report.mined.threshold

    def embed(
        self,
        texts: Sequence[str],
        *,
        language: str | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Means of the adapted encoder's last states as rows of length 1, for finding pairs.

        Args:
            language: Of the texts; None takes the source language.
            on_step: Called with the number of texts just embedded.

        Raises:
            DataError: A text is empty.
        """
        pair = join_pair(language or self.source_lang, self.target_lang)
        return embed_texts(self.objective, self.weights, texts, language=pair, on_step=on_step)

    def align(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        *,
        threshold: float | None = None,
        neighbors: int = NEIGHBORS,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Mined]:
        """Find the sentences of two texts that translate each other, by the adapted encoder.

        An encoder that learned to write was not taught to find: where only finding is wanted,
        an `AlignmentModel` does it better. See there for arguments and errors.
        """
        return mine_texts(
            self.embed,
            partial(self.embed, language=self.target_lang),
            sources,
            targets,
            threshold=self.threshold if threshold is None else threshold,
            neighbors=neighbors,
            on_step=on_step,
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write an ordinary PEFT adapter, the tokenizer and a record."""
        done = {
            "source_lang": self.source_lang,
            "target_lang": self.target_lang,
            "direction": self._direction(),
            **(asdict(self.report) if self.report else {}),
        }
        record = Record(
            TRANSLATION_MODEL, asdict(self.settings), (), done, provenance=self.provenance
        )
        backbone, plan = self.objective.backbone, self.objective.plan
        save_model(Path(folder), record, self.weights, backbone=backbone, plan=plan)

    def _direction(self) -> dict[str, object]:
        """What someone without this package tells the model of the languages."""
        backbone = self.objective.backbone
        direction = direct(backbone, self.pair)
        last = backbone.languages.last
        return {
            "source": direction.source,
            "target": direction.target,
            "prefix_text": direction.prefix_text,
            "option": "decoder_start_token_id" if last else "forced_bos_token_id",
            "token": direction.start[-1],
        }


__all__ = ["TranslationMetaModel", "TranslationModel", "TranslationReport"]


@dataclass(frozen=True, slots=True)
class TranslationMetaModel(Pushable):
    """A meta-learned start that writes, with the defaults that its adaptation was found to need.

    Attributes:
        adaptation: Defaults found on the meta-validation tasks.
        minibatch: Support pairs of one inner step; None takes all.
        early_stop: Let a held-out part of the pairs choose fewer steps.
        provenance: Settings and results of its training.
        source: Where on the Hub it was pulled from, and at which commit.
    """

    objective: Generation
    weights: Mapping[str, Tensor]
    settings: GenerationSettings
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
    ) -> "TranslationMetaModel":
        """Load from a folder or the Hub, at a branch, tag or commit of it.

        Raises:
            MetaModelError: There is no meta-model that translates.
        """
        name, kind = str(name_or_path), TRANSLATION_META_MODEL
        folder, record = find_model(name, kind=kind, revision=revision, token=token)
        settings = read_settings(record, GenerationSettings)
        objective = build_generator(settings, device=device, token=token)
        weights = load_weights(folder, backbone=objective.backbone, plan=objective.plan)
        weights |= restore_step_sizes(record.step_sizes, objective.backbone.device)
        defaults = dict(record.adaptation)
        minibatch, early_stop = defaults.pop("minibatch"), defaults.pop("early_stop")
        inner = InnerLoop(**defaults)
        told, source = record.provenance, source_of(name, folder)
        return cls(objective, weights, settings, inner, minibatch, early_stop, told, source)

    def translate(
        self,
        texts: Sequence[str],
        *,
        source_lang: str,
        target_lang: str,
        num_beams: int | None = None,
    ) -> list[str]:
        """Translate without any pair of the new languages.

        Raises:
            BackboneError: The model does not know a language; lists the near ones.
            DataError: Both languages are the same.
        """
        check_pair(source_lang, target_lang)
        weights = drop_step_sizes(self.weights)
        language = join_pair(source_lang, target_lang)
        return write_texts(self.objective, weights, texts, language=language, num_beams=num_beams)

    def adapt(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        *,
        source_lang: str,
        target_lang: str,
        steps: int | None = None,
        learning_rate: float | None = None,
        seed: int = 0,
        long_texts: str = "cut",
        lines: Sequence[int] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> TranslationModel:
        """Adapt to a language pair, or to the words of an industry, from a few dozen pairs.

        Args:
            source_lang, target_lang: ISO 639, or the model's own codes.
            steps, learning_rate: In place of the defaults found on meta-validation.
            long_texts: What to do with sentences longer than the model takes: `cut` them and
                count them in the report, or `stop`.
            lines: Of the pairs in their file, to name a sentence that is too long by.
            on_step: Called with the steps done and their number.

        Raises:
            BackboneError: The model does not know a language; lists the near ones.
            DataError: Both languages are the same, the sides differ in number, a sentence is
                empty or too long, or fewer than 4 pairs are distinct.
            DivergedError: A loss became infinite; nothing is returned.
        """
        began = time.monotonic()
        check_pair(source_lang, target_lang)
        check_sentences(sources, targets)
        language = join_pair(source_lang, target_lang)
        direction = direct(self.objective.backbone, language)
        cut = count_long(
            self.objective, sources, targets, language=language, long_texts=long_texts, lines=lines
        )
        inner = self.adaptation.instead(steps=steps, learning_rate=learning_rate)
        found = adapt_generation(
            self.objective,
            self.weights,
            [Example(s.strip(), t.strip()) for s, t in zip(sources, targets, strict=True)],
            language=language,
            inner=inner,
            minibatch=self.minibatch,
            early_stop=self.early_stop and steps is None,
            seed=seed,
            on_step=Ticker(on_step, total=2 * inner.steps + 2),
        )
        seconds = time.monotonic() - began
        done = (len(sources), found.steps, inner.learning_rate, cut)
        report = TranslationReport(*done, found.held_out, found.mined, direction.is_new, seconds)
        told = tell_source(self.provenance, self.source)
        own = (self.objective, found.weights, self.settings)
        return TranslationModel(*own, source_lang, target_lang, report, told)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write an ordinary PEFT adapter, the tokenizer and a record."""
        sizes = describe_step_sizes(self.weights)
        defaults = {
            **asdict(self.adaptation),
            "minibatch": self.minibatch,
            "early_stop": self.early_stop,
        }
        record = Record(
            TRANSLATION_META_MODEL, asdict(self.settings), (), defaults, sizes, self.provenance
        )
        weights = drop_step_sizes(self.weights)
        backbone, plan = self.objective.backbone, self.objective.plan
        save_model(Path(folder), record, weights, backbone=backbone, plan=plan)
