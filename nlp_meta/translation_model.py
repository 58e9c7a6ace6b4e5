"""An encoder-decoder with the adapter of one language pair: it translates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from nlp_meta.data.language_tags import join_pair
from nlp_meta.encoders.neighbors import NEIGHBORS
from nlp_meta.encoders.seq2seq import direct
from nlp_meta.generation_adapting import HeldOutPairs
from nlp_meta.generation_settings import GenerationSettings
from nlp_meta.hub.packaging import load_weights, save_model
from nlp_meta.hub.pulling import Source, source_of
from nlp_meta.hub.pushable import Pushable
from nlp_meta.hub.records import TRANSLATION_MODEL, Record, find_model, read_settings
from nlp_meta.mining import Mined, MinedPairs, mine_texts
from nlp_meta.objectives.generation import Generation
from nlp_meta.writing import build_generator, count_long, embed_texts, write_texts


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
