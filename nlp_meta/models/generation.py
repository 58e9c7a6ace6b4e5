"""Models that write translations: how a start adapts to sentence pairs, what comes out.

One set of weights at a time, in float32.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from nlp_meta.data.duplicates import hash_texts
from nlp_meta.data.episodes import GENERATION, Episode
from nlp_meta.data.inputs import Texts, as_texts, check_choice, check_whole, check_word
from nlp_meta.data.languages import check_pair, join_pair, split_pair
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import plain_modes
from nlp_meta.encoders.prefix import whole_source_network
from nlp_meta.encoders.seq2seq import direct, tokenize_sources, tokenize_targets
from nlp_meta.encoders.similarity import (
    NEIGHBORS,
    Mined,
    MinedPairs,
    choose_threshold,
    embed_in_blocks,
    mine_texts,
    pair_margins,
)
from nlp_meta.errors import DivergedError
from nlp_meta.evaluation.metrics import chrf
from nlp_meta.hub.model import Model, Parts, Saved
from nlp_meta.hub.pull import Source
from nlp_meta.hub.records import ADAPTATION, ADAPTED, Record, read_part, read_settings
from nlp_meta.hub.storage import load_weights
from nlp_meta.meta.inner_loop import Weights, repeat
from nlp_meta.models.adaptation import FOLDS, LONG_TEXTS, Adaptation, Adapted, adapt, hold_out
from nlp_meta.models.builders import build_generator
from nlp_meta.models.retrieval import fold_pairs
from nlp_meta.models.texts import check_sides, count_long_texts, name_sentence
from nlp_meta.objectives.generation import Generation
from nlp_meta.objectives.retrieval import tell_apart
from nlp_meta.settings import Seq2SeqSettings

STOPS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the inner steps after which an adaptation may stop early; a start can answer too."""
WRITING_TOKENS = 4096


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
class GenerationReport:
    """What one adaptation to sentence pairs did.

    Attributes:
        texts_cut: Sentences, of either side, longer than the model takes.
        held_out: What the pairs that it had not seen said.
        mined: What the adapted encoder finds of the same pairs, and from which margin on.
        is_new: The model has no code of its own for the target language.
        text_hashes: Of the sources; what is pushed has none.
    """

    pairs: int
    steps: int
    learning_rate: float
    texts_cut: int
    held_out: HeldOutPairs
    mined: MinedPairs
    is_new: bool
    seconds: float
    text_hashes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Languages:
    """What a record tells of the languages."""

    source_lang: str
    target_lang: str
    direction: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class GenerationModel(Model):
    """An encoder-decoder with the adapter of one language pair: it translates.

    Attributes:
        provenance: That of its start, and where that was pulled from.
        source: Where on the Hub it was pulled from, and at which commit.
    """

    role: ClassVar[str] = ADAPTED
    skill: ClassVar[str] = GENERATION

    objective: Generation
    weights: Mapping[str, Tensor]
    settings: Seq2SeqSettings
    source_lang: str
    target_lang: str
    report: GenerationReport | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None

    @property
    def pair(self) -> str:
        """Its languages as one word, such as `ind-jav`."""
        return join_pair(self.source_lang, self.target_lang)

    @property
    def threshold(self) -> float:
        """Margin from which on a pair is mined; 1, no margin at all, where no pair said more."""
        return 1.0 if self.report is None else self.report.mined.threshold

    @plain_modes()
    def translate(self, texts: Texts, *, num_beams: int | None = None) -> list[str]:
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
        self, texts: Texts, *, long_texts: str = "cut", lines: Sequence[int] | None = None
    ) -> int:
        """Number of texts longer than the model takes.

        Args:
            lines: Of the texts in their file, to name one that is too long by.

        Raises:
            DataError: There are some and `long_texts` is `stop`.
        """
        check_choice(long_texts, LONG_TEXTS, "long_texts")
        asked = as_texts(texts, "texts")
        return count_long(
            self.objective, asked, [], language=self.pair, long_texts=long_texts, lines=lines
        )

    @plain_modes()
    def embed(
        self,
        texts: Texts,
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
        if language is not None:
            check_word(language, "language", needed="a code of a language")
        pair = join_pair(language or self.source_lang, self.target_lang)
        return embed_texts(self.objective, self.weights, texts, language=pair, on_step=on_step)

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
        """Find the sentences of two texts that translate each other, by the adapted encoder.

        An encoder that learned to write was not taught to find: where only finding is wanted,
        a `RetrievalModel` does it better. See there for arguments and errors.
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

    @classmethod
    def _read(cls, saved: Saved) -> "GenerationModel":
        record, settings = saved.record, read_settings(saved.record, Seq2SeqSettings)
        objective = build_generator(settings, device=saved.device, token=saved.token)
        done = dict(record.adaptation)
        parts = {key: done.pop(key) for key in _Languages.__slots__ if key in done}
        languages = read_part(_Languages, parts, what=ADAPTATION)
        report = read_part(GenerationReport, done, what=ADAPTATION) if done else None
        weights = load_weights(
            saved.folder, record, backbone=objective.backbone, plan=objective.plan
        )
        pair = languages.source_lang, languages.target_lang
        return cls(objective, weights, settings, *pair, report, record.provenance, saved.source)

    def _parts(self) -> Parts:
        done = {
            "source_lang": self.source_lang,
            "target_lang": self.target_lang,
            "direction": self._direction(),
            **(asdict(self.report) if self.report else {}),
        }
        record = Record(
            ADAPTED, (GENERATION,), asdict(self.settings), (), done, provenance=self.provenance
        )
        return Parts(record, self.weights, self.objective.backbone, self.objective.plan)

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


@dataclass(frozen=True, slots=True)
class HeldOutLoss:
    """What held-out pairs said of an adaptation after some steps.

    Attributes:
        loss: In nats a token.
        fast: The stacked weights that were judged.
    """

    loss: float
    fast: Weights


class WritingJudge:
    """Judges by the loss of held-out pairs, one in four, which share no sentence with others."""

    def __init__(self, objective: Generation, support: Episode, *, seed: int) -> None:
        parts = fold_pairs(support.support, folds=FOLDS, seed=seed)
        self.folds = hold_out(support, parts[:1])
        self.objective = replace(objective, label_smoothing=0.0)
        self.query = objective.query_batches(self.folds)

    @torch.no_grad()
    def __call__(self, fast: Weights, step: int) -> HeldOutLoss:
        """Judge the stacked weights of the fold.

        Raises:
            DivergedError: The loss is infinite or not a number.
        """
        loss = sum(float(self.objective.loss(fast, batch)) for batch in self.query)
        if not loss < float("inf"):
            raise DivergedError(
                f"cannot adapt: after {step} steps the loss of held-out pairs is {loss} and a "
                "finite one is needed; lower `learning_rate`"
            )
        return HeldOutLoss(loss, fast)


def adapt_to_writing(
    objective: Generation,
    start: Weights,
    sources: Texts,
    targets: Texts,
    *,
    settings: Seq2SeqSettings,
    how: Adaptation,
    languages: tuple[str, str],
    seed: int,
    long_texts: str,
    lines: Sequence[int] | None,
    provenance: Mapping[str, Any],
    on_step: Callable[[int, int], None] | None,
) -> GenerationModel:
    """Adapt a start to sentence pairs; see `MetaModel.adapt_to_pairs` for arguments and errors."""
    began = time.monotonic()
    check_pair(*languages)
    sources, targets = check_sides(sources, targets)
    language = join_pair(*languages)
    direction = direct(objective.backbone, language)
    cut = count_long(
        objective, sources, targets, language=language, long_texts=long_texts, lines=lines
    )
    pairs = [Example(s.strip(), t.strip()) for s, t in zip(sources, targets, strict=True)]
    adapted, fold = learn_writing(
        objective, start, pairs, language=language, how=how, seed=seed, on_step=on_step
    )
    report = GenerationReport(
        pairs=len(sources),
        steps=adapted.steps,
        learning_rate=how.inner.learning_rate,
        texts_cut=cut,
        held_out=_tell_held_out(objective, adapted, fold),
        mined=_mine_held_out(objective, adapted.judgement.fast, pairs, fold),
        is_new=direction.is_new,
        seconds=time.monotonic() - began,
        text_hashes=tuple(sorted(set(hash_texts(sources)))),
    )
    objective = objective.over(objective.backbone)  # it keeps no text
    return GenerationModel(objective, adapted.weights, settings, *languages, report, provenance)


def learn_writing(
    objective: Generation,
    start: Weights,
    pairs: Sequence[Example],
    *,
    language: str,
    how: Adaptation,
    seed: int,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[Adapted[HeldOutLoss], Episode]:
    """Adapt to pairs and give the adaptation and the fold that judged it.

    Args:
        language: The pair, such as `ind-jav`.

    Raises:
        DataError: Fewer than 4 distinct pairs.
        DivergedError: A loss became infinite or not a number.
    """
    support = episode_of(pairs, (), language)
    judge = WritingJudge(objective, support, seed=seed)
    adapted = adapt(
        objective,
        start,
        support,
        judge=judge,
        stops=STOPS,
        how=how,
        judge_start=True,
        on_step=on_step,
    )
    return adapted, judge.folds[0]


def _tell_held_out(
    objective: Generation, adapted: Adapted[HeldOutLoss], fold: Episode
) -> HeldOutPairs:
    before = adapted.before or adapted.judgement
    greedy = replace(objective, num_beams=1)
    true = [pair.target for pair in fold.query]
    _, target = split_pair(fold.language)
    scores = []
    for judged in (before, adapted.judgement):
        answers = greedy.answer(judged.fast, greedy.query_batches([fold]), [fold])[0]
        scores.append(chrf(true, answers, (target,)))
    return HeldOutPairs(len(fold.query), before.loss, adapted.judgement.loss, *scores)


def _mine_held_out(
    objective: Generation, fast: Weights, pairs: Sequence[Example], fold: Episode
) -> MinedPairs:
    """What mining by the adapted encoder makes of the held-out pairs, among all targets."""
    weights = {name: value[0] for name, value in fast.items()}
    source, target = split_pair(fold.language)
    sides = (([pair.source for pair in pairs], source), ([pair.target for pair in pairs], target))
    left, right = (
        embed_texts(objective, weights, texts, language=join_pair(code, target))
        for texts, code in sides
    )
    margins = pair_margins(left @ right.T, tell_apart(pairs), neighbors=NEIGHBORS)
    held_out = set(fold.query)
    places = [place for place, pair in enumerate(pairs) if pair in held_out]
    return choose_threshold(*margins[places].unbind(1))


def write_texts(
    objective: Generation,
    weights: Weights,
    texts: Texts,
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
    texts = as_texts(texts, "texts")
    if not texts:
        return []
    if num_beams is not None:
        most = int(objective.backbone.config.vocab_size) // 2
        num_beams = check_whole(num_beams, "num_beams", least=1, most=most)
    exact = replace(
        objective,
        network=whole_source_network(objective.backbone),
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
    texts: Texts,
    *,
    language: str,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Means of the adapted encoder's states as rows of length 1, in float32.

    Args:
        language: The texts' own and the one that the model translates into: `ind-jav`.
        on_step: Called with the number of texts just embedded.
    """
    texts = as_texts(texts, "texts")
    network = whole_source_network(objective.backbone)
    exact = replace(objective, network=network, autocast=None, batch_tokens=WRITING_TOKENS)
    stacked = repeat(weights, tasks=1)

    def embed(block: list[str]) -> Tensor:
        episode = episode_of((), [Example(text, "") for text in block], language)
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
