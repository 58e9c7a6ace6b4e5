"""What users hold to translate: `TranslationMetaModel`, a start, and `TranslationModel`."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nlp_meta.data.tasks import Example
from nlp_meta.encoders.seq2seq import direct
from nlp_meta.generation_adapting import (
    HeldOutPairs,
    adapt_generation,
    build_generator,
    check_sentences,
    count_long,
    count_ticks,
    embed_texts,
    write_texts,
)
from nlp_meta.generation_settings import GenerationSettings
from nlp_meta.hub.packaging import (
    TRANSLATION_META_MODEL,
    TRANSLATION_MODEL,
    Record,
    find_model,
    load_weights,
    save_model,
)
from nlp_meta.meta.adaptation import InnerLoop
from nlp_meta.meta.step_sizes import describe_step_sizes, drop_step_sizes, restore_step_sizes
from nlp_meta.objectives.generation import Generation


@dataclass(frozen=True, slots=True)
class TranslationReport:
    """What one adaptation to sentence pairs did.

    Attributes:
        texts_cut: Sentences, of either side, longer than the model takes.
        held_out: What the pairs that it had not seen said.
        is_new: The model has no code of its own for the target language.
    """

    pairs: int
    steps: int
    learning_rate: float
    texts_cut: int
    held_out: HeldOutPairs
    is_new: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class TranslationModel:
    """An encoder-decoder with the adapter of one language pair."""

    objective: Generation
    weights: Mapping[str, Tensor]
    settings: GenerationSettings
    source_lang: str
    target_lang: str
    report: TranslationReport | None = None

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, revision: str | None = None, device: str | None = None
    ) -> "TranslationModel":
        """Load from a folder or the Hub.

        Raises:
            MetaModelError: There is no adapted model that translates.
        """
        folder, record = find_model(str(name_or_path), kind=TRANSLATION_MODEL, revision=revision)
        settings = GenerationSettings(**record.model)
        objective = build_generator(settings, device=device)
        weights = load_weights(folder, backbone=objective.backbone, plan=objective.plan)
        done = dict(record.adaptation)
        languages = (done.pop("source_lang"), done.pop("target_lang"))
        del done["direction"]
        report = None
        if done:
            report = TranslationReport(**{**done, "held_out": HeldOutPairs(**done["held_out"])})
        return cls(objective, weights, settings, *languages, report)

    def translate(self, texts: Sequence[str], *, num_beams: int | None = None) -> list[str]:
        """One translation a text; longer ones than the model takes are cut.

        Args:
            num_beams: Of the search, 1 is greedy; None takes the model's own setting.

        Raises:
            DataError: A text is empty.
        """
        language = f"{self.source_lang}-{self.target_lang}"
        return write_texts(
            self.objective, self.weights, texts, language=language, num_beams=num_beams
        )

    def count_cut(self, texts: Sequence[str], *, long_texts: str = "cut") -> int:
        """Number of texts longer than the model takes.

        Raises:
            DataError: There are some and `long_texts` is `stop`.
        """
        language = f"{self.source_lang}-{self.target_lang}"
        return count_long(self.objective, texts, [], language=language, long_texts=long_texts)

    def embed(self, texts: Sequence[str], *, language: str | None = None) -> NDArray[np.float32]:
        """Means of the adapted encoder's last states, `(texts, hidden)`, for finding pairs.

        Args:
            language: Of the texts; None takes the source language.
        """
        pair = f"{language or self.source_lang}-{self.target_lang}"
        found = embed_texts(self.objective, self.weights, texts, language=pair)
        return np.asarray(found.numpy(), dtype=np.float32)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write an ordinary PEFT adapter, the tokenizer and a record."""
        done = {
            "source_lang": self.source_lang,
            "target_lang": self.target_lang,
            "direction": self._direction(),
            **(asdict(self.report) if self.report else {}),
        }
        record = Record(TRANSLATION_MODEL, asdict(self.settings), (), done)
        backbone, plan = self.objective.backbone, self.objective.plan
        save_model(Path(folder), record, self.weights, backbone=backbone, plan=plan)

    def _direction(self) -> dict[str, object]:
        """What someone without this package tells the model of the languages."""
        backbone = self.objective.backbone
        direction = direct(backbone, f"{self.source_lang}-{self.target_lang}")
        last = backbone.languages.last
        return {
            "source": direction.source,
            "target": direction.target,
            "prefix_text": direction.prefix_text,
            "option": "decoder_start_token_id" if last else "forced_bos_token_id",
            "token": direction.start[-1],
        }


@dataclass(frozen=True, slots=True)
class TranslationMetaModel:
    """A meta-learned start that writes, with the defaults that its adaptation was found to need.

    Attributes:
        adaptation: Defaults found on the meta-validation tasks.
        minibatch: Support pairs of one inner step; None takes all.
        early_stop: Let a held-out part of the pairs choose fewer steps.
        provenance: Settings and results of its training.
    """

    objective: Generation
    weights: Mapping[str, Tensor]
    settings: GenerationSettings
    adaptation: InnerLoop
    minibatch: int | None
    early_stop: bool
    provenance: Mapping[str, Any]

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, revision: str | None = None, device: str | None = None
    ) -> "TranslationMetaModel":
        """Load from a folder or the Hub.

        Raises:
            MetaModelError: There is no meta-model that translates.
        """
        folder, record = find_model(
            str(name_or_path), kind=TRANSLATION_META_MODEL, revision=revision
        )
        settings = GenerationSettings(**record.model)
        objective = build_generator(settings, device=device)
        weights = load_weights(folder, backbone=objective.backbone, plan=objective.plan)
        weights |= restore_step_sizes(record.step_sizes, objective.backbone.device)
        defaults = dict(record.adaptation)
        minibatch, early_stop = defaults.pop("minibatch"), defaults.pop("early_stop")
        inner = InnerLoop(**defaults)
        return cls(objective, weights, settings, inner, minibatch, early_stop, record.provenance)

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
        """
        weights = drop_step_sizes(self.weights)
        language = f"{source_lang}-{target_lang}"
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
        on_step: Callable[[int, int], None] | None = None,
    ) -> TranslationModel:
        """Adapt to a language pair, or to the words of an industry, from a few dozen pairs.

        Args:
            source_lang, target_lang: ISO 639-3, or the model's own codes.
            steps, learning_rate: In place of the defaults found on meta-validation.
            long_texts: What to do with sentences longer than the model takes: `cut` them and
                count them in the report, or `stop`.
            on_step: Called with the steps done and their number.

        Raises:
            BackboneError: The model does not know a language; lists the near ones.
            DataError: The sides differ in number, a sentence is empty or too long, or fewer
                than 4 pairs are distinct.
            DivergedError: A loss became infinite; nothing is returned.
        """
        began = time.monotonic()
        check_sentences(sources, targets)
        language = f"{source_lang}-{target_lang}"
        direction = direct(self.objective.backbone, language)
        cut = count_long(self.objective, sources, targets, language=language, long_texts=long_texts)
        inner = _override(self.adaptation, steps=steps, learning_rate=learning_rate)
        found = adapt_generation(
            self.objective,
            self.weights,
            [Example(s.strip(), t.strip()) for s, t in zip(sources, targets, strict=True)],
            language=language,
            inner=inner,
            minibatch=self.minibatch,
            early_stop=self.early_stop and steps is None,
            seed=seed,
            on_step=count_ticks(on_step, total=2 * inner.steps + 2),
        )
        seconds = time.monotonic() - began
        done = (len(sources), found.steps, inner.learning_rate, cut)
        report = TranslationReport(*done, found.held_out, direction.is_new, seconds)
        return TranslationModel(
            self.objective, found.weights, self.settings, source_lang, target_lang, report
        )

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


def _override(inner: InnerLoop, *, steps: int | None, learning_rate: float | None) -> InnerLoop:
    inner = inner if steps is None else replace(inner, steps=steps)
    return inner if learning_rate is None else replace(inner, learning_rate=learning_rate)
