"""What users hold: `MetaModel`, a start that adapts, and `AdaptedModel`, which predicts."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nlp_meta.data.answers import Prediction
from nlp_meta.data.labels import check_labels, match_labels
from nlp_meta.data.tasks import Example
from nlp_meta.errors import LabelError
from nlp_meta.hub.pull import ADAPTER, Source, hash_file, source_of, tell_source
from nlp_meta.hub.pushable import Pushable
from nlp_meta.hub.records import META_MODEL, Record, find_model
from nlp_meta.hub.storage import StoredCompanion, load_companion, load_weights, save_model
from nlp_meta.meta.inner_loop import (
    InnerLoop,
    describe_step_sizes,
    drop_step_sizes,
    restore_step_sizes,
)
from nlp_meta.models.adaptation import (
    adapt_calibrated,
    check_pairs,
    count_cut,
    narrow_labels,
    predict_texts,
)
from nlp_meta.models.classification import AdaptationReport, AdaptedModel, build_recorded
from nlp_meta.models.companion import check_when, find_companion
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.ngrams import NgramModel
from nlp_meta.settings import ModelSettings

__all__ = ["AdaptationReport", "AdaptedModel", "MetaModel"]


@dataclass(frozen=True, slots=True)
class MetaModel(Pushable):
    """A meta-learned start with the defaults that its adaptation was found to need.

    Attributes:
        adaptation: Defaults found on the meta-validation tasks.
        minibatch: Support examples of one inner step; None takes all.
        early_stop: Let held-out folds of the support set choose fewer steps.
        provenance: Settings and results of its training.
        companion: Character n-grams of the meta-train tasks, from which those of a new
            domain start; None where there are none.
        translation: What an `AlignmentMetaModel` has beside these weights; None where
            meta-training saw no translation.
        source: Where on the Hub it was pulled from, and at which commit.
        adapter_sha256: Of the file it was read from; by it what is adapted from here finds its
            start among those of a comparison.
    """

    objective: Classification
    weights: Mapping[str, Tensor]
    settings: ModelSettings
    adaptation: InnerLoop
    minibatch: int | None
    early_stop: bool
    provenance: Mapping[str, Any]
    companion: NgramModel | None = None
    translation: Mapping[str, Any] | None = None
    source: Source | None = None
    adapter_sha256: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the meta-train tasks; the shared head answers with them."""
        return self.objective.labels

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str | None = None,
    ) -> "MetaModel":
        """Load from a folder or the Hub, at a branch, tag or commit of it.

        Raises:
            MetaModelError: There is no meta-model.
        """
        name = str(name_or_path)
        folder, record = find_model(name, kind=META_MODEL, revision=revision, token=token)
        settings, objective = build_recorded(record, device=device, token=token)
        weights = load_weights(folder, backbone=objective.backbone, plan=objective.plan)
        weights |= restore_step_sizes(record.step_sizes, objective.backbone.device)
        defaults = dict(record.adaptation)
        translation = defaults.pop("translation", None)
        minibatch, early_stop = defaults.pop("minibatch"), defaults.pop("early_stop")
        stored = load_companion(folder, labels=record.labels, factors=())
        return cls(
            objective,
            weights,
            settings,
            InnerLoop(**defaults),
            minibatch,
            early_stop,
            record.provenance,
            None if stored is None else stored.model,
            translation,
            source_of(name, folder),
            hash_file(folder / ADAPTER),
        )

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Answer with the labels of meta-training, without any label of the new domain.

        Raises:
            LabelError: The head is built from labeled examples, so it needs some.
        """
        if self.objective.head != "shared":
            raise LabelError(
                "cannot predict with zero labels: this meta-model builds its head from labeled "
                "examples and some are needed; call `adapt` first"
            )
        return predict_texts(self.objective, self.weights, texts)

    def adapt(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        label_map: Mapping[str, str] | None = None,
        steps: int | None = None,
        learning_rate: float | None = None,
        seed: int = 0,
        long_texts: str = "cut",
        companion: str = "auto",
        on_step: Callable[[int, int], None] | None = None,
    ) -> AdaptedModel:
        """Adapt to a new domain from a few dozen labeled texts.

        Labels that mean those of meta-training are matched to them; a label set never
        seen gets a head of its own, begun at the class means.

        Args:
            label_map: From labels as written to the meta-model's; wins over matching.
            steps, learning_rate: In place of the defaults found on meta-validation.
            long_texts: What to do with texts longer than the encoder takes: `cut` them and
                count them in the report, or `stop`.
            companion: Mix character n-grams into the predictions: `auto` where the held-out
                folds of these texts say that it pays, `ngrams` always, `none` never.
            on_step: Called with the steps done and their number.

        Raises:
            LabelError: One label only, fewer than two examples of a label, ambiguous names.
            DataError: Texts and labels differ in number, or a text is empty or too long.
            DivergedError: A loss became infinite; nothing is returned.
            SettingsError: `companion` is none of these words.
        """
        began = time.monotonic()
        check_when(companion)
        check_pairs(texts, labels)
        match = match_labels(labels, self.labels, label_map=label_map)
        check_labels(match.labels)
        support = [Example(t.strip(), label) for t, label in zip(texts, match.labels, strict=True)]
        inner = self.adaptation.instead(steps=steps, learning_rate=learning_rate)
        cut = count_cut(self.objective, [one.source for one in support], long_texts=long_texts)
        known = match.shared
        objective, start = narrow_labels(self.objective, self.weights, match.labels, shared=known)
        found = adapt_calibrated(
            objective,
            start,
            support,
            inner=inner,
            minibatch=self.minibatch,
            early_stop=self.early_stop and steps is None,
            seed=seed,
            on_step=on_step,
        )
        own, said = find_companion(
            support, objective.labels, found, prior=self.companion, when=companion, seed=seed
        )
        rate, seconds = inner.learning_rate, time.monotonic() - began
        report = AdaptationReport.of(found, len(support), rate, cut, seconds, said)
        told = self._origin()
        return AdaptedModel(objective, found.weights, self.settings, match, report, own, told)

    def _origin(self) -> dict[str, object]:
        """What an adapted model tells of its start."""
        told = tell_source(self.provenance, self.source)
        return {**told, "adapter_sha256": self.adapter_sha256}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a PEFT adapter with its head, the tokenizer and a record."""
        sizes = describe_step_sizes(self.weights)
        defaults = {
            **asdict(self.adaptation),
            "minibatch": self.minibatch,
            "early_stop": self.early_stop,
            **({"translation": self.translation} if self.translation else {}),
        }
        record = Record(
            META_MODEL, asdict(self.settings), self.labels, defaults, sizes, self.provenance
        )
        weights = drop_step_sizes(self.weights)
        stored = None if self.companion is None else StoredCompanion(self.companion)
        backbone, plan = self.objective.backbone, self.objective.plan
        save_model(Path(folder), record, weights, backbone=backbone, plan=plan, companion=stored)
