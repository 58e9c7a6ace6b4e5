"""A start that writes translations, and how a few dozen sentence pairs make a model of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nlp_meta.data.language_tags import check_pair, join_pair
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.seq2seq import direct
from nlp_meta.generation_adapting import adapt_generation, check_sentences
from nlp_meta.generation_settings import GenerationSettings
from nlp_meta.hub.packaging import load_weights, save_model
from nlp_meta.hub.pulling import Source, source_of, tell_source
from nlp_meta.hub.pushable import Pushable
from nlp_meta.hub.records import TRANSLATION_META_MODEL, Record, find_model, read_settings
from nlp_meta.meta.adaptation import InnerLoop
from nlp_meta.meta.step_sizes import describe_step_sizes, drop_step_sizes, restore_step_sizes
from nlp_meta.objectives.generation import Generation
from nlp_meta.ticker import Ticker
from nlp_meta.translation_model import TranslationModel, TranslationReport
from nlp_meta.writing import build_generator, count_long, write_texts

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
