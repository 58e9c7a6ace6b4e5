"""An encoder-decoder with the adapter of one language pair: it translates."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nlp_meta.encoders.seq2seq import direct
from nlp_meta.generation_adapting import (
    HeldOutPairs,
    build_generator,
    count_long,
    embed_texts,
    write_texts,
)
from nlp_meta.generation_settings import GenerationSettings
from nlp_meta.hub.packaging import load_weights, save_model
from nlp_meta.hub.pulling import Source, source_of
from nlp_meta.hub.pushable import Pushable
from nlp_meta.hub.records import TRANSLATION_MODEL, Record, find_model, read_settings
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
        report = None
        if done:
            report = TranslationReport(**{**done, "held_out": HeldOutPairs(**done["held_out"])})
        told, source = record.provenance, source_of(name, folder)
        return cls(objective, weights, settings, *languages, report, told, source)

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
        record = Record(
            TRANSLATION_MODEL, asdict(self.settings), (), done, provenance=self.provenance
        )
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
