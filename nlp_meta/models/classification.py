"""A model adapted to one domain: what it answers, what its adaptation did, how it is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from nlp_meta.data.answers import Prediction
from nlp_meta.data.labels import LabelMatch
from nlp_meta.hub.pull import Source, source_of
from nlp_meta.hub.pushable import Pushable
from nlp_meta.hub.records import ADAPTED_MODEL, Record, find_model, read_settings
from nlp_meta.hub.storage import StoredCompanion, load_companion, load_weights, save_model
from nlp_meta.models.adaptation import Calibrated, build_objective, predict_texts
from nlp_meta.models.companion import FACTORS, Companion, CompanionReport
from nlp_meta.objectives.classification import Classification
from nlp_meta.settings import ModelSettings


@dataclass(frozen=True, slots=True)
class AdaptationReport:
    """What one adaptation did.

    Attributes:
        temperature: What logits are divided by, fitted on held-out folds.
        held_out_accuracy: Of the support examples, each answered by an adaptation that
            had not seen it.
        examples_cut: Texts longer than the encoder takes.
        companion: What the same folds said of character n-grams; None where none were asked.
    """

    examples: int
    steps: int
    learning_rate: float
    temperature: float
    held_out_accuracy: float
    examples_cut: int
    seconds: float
    companion: CompanionReport | None = None

    @classmethod
    def of(
        cls,
        found: Calibrated,
        examples: int,
        learning_rate: float,
        examples_cut: int,
        seconds: float,
        companion: CompanionReport | None,
    ) -> "AdaptationReport":
        """Tell what an adaptation found."""
        return cls(
            examples=examples,
            steps=found.steps,
            learning_rate=learning_rate,
            temperature=found.temperature,
            held_out_accuracy=found.held_out_accuracy,
            examples_cut=examples_cut,
            seconds=seconds,
            companion=companion,
        )

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> "AdaptationReport | None":
        """Read what was saved; None where nothing was, or another version wrote it."""
        try:
            companion = stored["companion"]
            told = None if companion is None else CompanionReport(**companion)
            return cls(**{**stored, "companion": told})
        except (KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class AdaptedModel(Pushable):
    """A backbone with the adapter and the head of one domain.

    Attributes:
        companion: Character n-grams that are mixed into the predictions.
        provenance: That of its meta-model, and where that was pulled from.
        source: Where on the Hub it was pulled from, and at which commit.
    """

    objective: Classification
    weights: Mapping[str, Tensor]
    settings: ModelSettings
    match: LabelMatch | None = None
    report: AdaptationReport | None = None
    companion: Companion | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels in the order of the logits."""
        return self.objective.labels

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str | None = None,
    ) -> "AdaptedModel":
        """Load from a folder or the Hub, at a branch, tag or commit of it.

        Raises:
            MetaModelError: There is no adapted model.
        """
        name = str(name_or_path)
        folder, record = find_model(name, kind=ADAPTED_MODEL, revision=revision, token=token)
        settings, objective = build_recorded(record, device=device, token=token)
        weights = load_weights(folder, backbone=objective.backbone, plan=objective.plan)
        done = record.adaptation.get("companion") or {}
        required = bool(done.get("on"))
        stored = load_companion(folder, labels=record.labels, factors=FACTORS, required=required)
        companion = None if stored is None else Companion.of(stored.model, stored.factors)
        return cls(
            objective,
            weights,
            settings,
            report=AdaptationReport.read(record.adaptation),
            companion=companion,
            provenance=record.provenance,
            source=source_of(name, folder),
        )

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """One prediction a text, with calibrated probabilities of every label."""
        answers = predict_texts(self.objective, self.weights, texts)
        return answers if self.companion is None else self.companion.mix(texts, answers)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a PEFT adapter with its head, the tokenizer and a record."""
        done = asdict(self.report) if self.report else {}
        record = Record(
            ADAPTED_MODEL, asdict(self.settings), self.labels, done, provenance=self.provenance
        )
        own = self.companion
        stored = None if own is None else StoredCompanion(own.model, own.factors)
        backbone, plan = self.objective.backbone, self.objective.plan
        save_model(
            Path(folder), record, self.weights, backbone=backbone, plan=plan, companion=stored
        )


def build_recorded(
    record: Record, *, device: str | None, token: str | None
) -> tuple[ModelSettings, Classification]:
    """Build what a record says; its weights are not read yet.

    Raises:
        MetaModelError: The record is of another version.
    """
    settings, labels = read_settings(record, ModelSettings), tuple(record.labels)
    return settings, build_objective(settings, labels=labels, device=device, token=token)
