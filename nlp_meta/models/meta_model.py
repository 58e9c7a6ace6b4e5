"""`MetaModel`: a meta-learned start, whatever its skills."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from nlp_meta.data.answers import Prediction
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.cells import STOP, LabelMap
from nlp_meta.data.episodes import GENERATION, RETRIEVAL
from nlp_meta.data.inputs import Labels, Texts, as_labels, as_lines, as_texts, check_word
from nlp_meta.data.labels import LabelMatch
from nlp_meta.data.languages import check_pair, join_pair
from nlp_meta.encoders.backbone import plain_modes
from nlp_meta.encoders.heads import RIDGE, RIDGE_START, ridge_numbers, ridge_parameters
from nlp_meta.encoders.lora import BIAS, WEIGHT
from nlp_meta.errors import DataError, LabelError, MetaModelError, SettingsError
from nlp_meta.hub.model import Model, Parts, Saved
from nlp_meta.hub.pull import ADAPTER, COMPANION_FACTS, Source, tell_source
from nlp_meta.hub.records import START, Record, read_settings
from nlp_meta.hub.storage import StoredCompanion, load_companion, load_weights
from nlp_meta.models.adaptation import Adaptation, check_options
from nlp_meta.models.classification import (
    AdaptedModel,
    adapt_to_labels,
    check_start,
    exact,
    narrow_labels,
    pretrained,
    see_texts,
)
from nlp_meta.models.companion import Companion
from nlp_meta.models.generation import GenerationModel, adapt_to_writing, write_texts
from nlp_meta.models.label_names import (
    answer_by_names,
    check_descriptions,
    gather_texts,
    name_head,
)
from nlp_meta.models.retrieval import RetrievalModel, adapt_to_matches
from nlp_meta.models.skills import SKILLS, AnyObjective, AnySettings, build_objectives
from nlp_meta.models.texts import check_labeled
from nlp_meta.models.views import MOST_EXAMPLES, NEW_LABELS, mix_unlabeled
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.generation import Generation
from nlp_meta.objectives.ngrams import NgramModel
from nlp_meta.objectives.retrieval import TEMPERATURE, Retrieval
from nlp_meta.settings import ModelSettings

O = TypeVar("O", Classification, Retrieval, Generation)  # noqa: E741  an objective


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MetaModel(Model):
    """A meta-learned start with the defaults that its adaptation was found to need.

    Attributes:
        objectives: By skill, on one backbone.
        weights: The meta-parameters of all its skills, with learned step sizes.
        adaptation: By skill, defaults found on the meta-validation tasks.
        provenance: Settings and results of its training.
        companion: Character n-grams of the meta-train tasks, from which those of a new
            domain start; None where there are none.
        source: Where on the Hub it was pulled from, and at which commit.
        adapter_sha256: Of the file it was read from; by it what is adapted from here finds its
            start among those of a comparison.
    """

    role: ClassVar[str] = START

    objectives: Mapping[str, AnyObjective]
    weights: Mapping[str, Tensor]
    settings: AnySettings
    adaptation: Mapping[str, Adaptation]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    companion: NgramModel | None = None
    source: Source | None = None
    adapter_sha256: str | None = None

    @property
    def skills(self) -> tuple[str, ...]:
        """What it does with a text."""
        return tuple(self.objectives)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the meta-train tasks, which the shared head answers with; may be none."""
        objective = self.objectives.get(CLASSIFICATION)
        return objective.labels if isinstance(objective, Classification) else ()

    def objective_of(self, skill: str, form: type[O]) -> O:
        """The objective of a skill.

        Raises:
            MetaModelError: The start did not learn it.
        """
        objective = self.objectives.get(skill)
        if not isinstance(objective, form):
            raise MetaModelError(
                f"cannot take this start for {skill}: this start learned "
                f"{' and '.join(self.skills)} and one that learned {skill} is needed; name another"
            )
        return objective

    @property
    def encoder_settings(self) -> ModelSettings:
        """Settings of its encoder.

        Raises:
            MetaModelError: It is an encoder-decoder.
        """
        if not isinstance(self.settings, ModelSettings):
            raise MetaModelError(
                f"cannot read the encoder of a start of {' and '.join(self.skills)}: it is an "
                "encoder-decoder and a start that learned classification or retrieval is needed; "
                "name another start"
            )
        return self.settings

    def start_of(self, skill: str) -> dict[str, Tensor]:
        """The meta-parameters that a skill moves."""
        foreign = {TEMPERATURE} if skill != RETRIEVAL else set()
        foreign |= set(ridge_parameters()) if skill != CLASSIFICATION else set()
        head = () if skill == CLASSIFICATION else self.objectives[skill].plan.head
        layers = tuple(f"{layer}." for layer in head)
        return {
            name: value
            for name, value in self.weights.items()
            if name not in foreign and not (layers and name.startswith(layers))
        }

    @property
    def unlabeled_mixture(self) -> Companion | None:
        """Its n-grams beside its answers without labels; None where none were learned so."""
        trust = self.adaptation[CLASSIFICATION].trust
        if trust is None or self.companion is None:
            return None
        return mix_unlabeled(trust, self.companion)

    def predict(self, texts: Texts) -> list[Prediction]:
        """Answer with the labels of meta-training; see `without_labels`."""
        return self.without_labels().predict(texts)

    def without_labels(self) -> AdaptedModel:
        """The model of a domain of which no label is known: it answers as meta-training taught.

        Raises:
            LabelError: The head is built from labeled examples, so it needs some.
        """
        objective = self.objective_of(CLASSIFICATION, Classification)
        if objective.head != "shared":
            raise LabelError(
                "cannot predict with zero labels: this start builds its head from labeled "
                "examples and some are needed; call `adapt` first"
            )
        return AdaptedModel(
            objective,
            self.start_of(CLASSIFICATION),
            self.encoder_settings,
            companion=self.unlabeled_mixture,
            provenance=self._origin(),
        )

    @plain_modes()
    def for_labels(self, labels: Labels | Mapping[str, str], texts: Texts) -> AdaptedModel:
        """The model of labels that no text has yet.

        Labels that the start knows are answered as meta-training taught, among these alone. Others
        are answered by their names and descriptions, as the encoder was before the start, or as it
        is in a start that makes a head from each support set.

        Args:
            labels: At least 2 names, or what each means by its name.
            texts: Some of those that it will be asked, the more the better up to 1000: what they
                have in common tells nothing of labels, and names move to what they gather.

        Raises:
            LabelError: Fewer than 2 labels, or a description is no text.
            DataError: There is no text.
        """
        described = dict(labels) if isinstance(labels, Mapping) else {}
        given = as_labels(list(described) or labels, "labels")
        names = dict(zip(given, described.values() or [""] * len(given), strict=True))
        if len(names) < 2:
            raise LabelError(
                f"cannot answer among {len(names)} labels: at least 2 different ones "
                "are needed; change `labels`"
            )
        if set(names) <= set(self.labels):
            return self.without_labels().among(list(names))
        check_descriptions(list(names), names)
        asked = [text.strip() for text in as_texts(texts, "texts")]
        if not asked:
            raise DataError("cannot read labels beside 0 texts: at least 1 is needed; give `texts`")
        return self._read_names(names, asked)

    def _read_names(self, labels: Mapping[str, str], texts: Sequence[str]) -> AdaptedModel:
        """A head made of what labels are called, over the features that `adapt` would take."""
        plain = self.objective_of(CLASSIFICATION, Classification)
        weights, settings = self.start_of(CLASSIFICATION), self.encoder_settings
        if plain.head == "shared":
            plain, weights, settings = pretrained(plain, settings)
        plain, weights = narrow_labels(plain, weights, labels, shared=False)
        sample = texts[:: -(-len(texts) // MOST_EXAMPLES)]  # a table may be sorted
        weights, views = see_texts(plain, weights, sample, prior=None, ngrams=False)
        head = name_head(exact(plain), weights, views.features, labels)
        head = answer_by_names(gather_texts(head, views.features))
        last, device = plain.plan.head[-1], plain.backbone.device
        weights |= {last + WEIGHT: head[0], last + BIAS: head[1]}
        weights = {name: value.detach().to(device, copy=True) for name, value in weights.items()}
        return AdaptedModel(plain, weights, settings, provenance=self._origin())

    @plain_modes()
    def check_meaning(self, texts: Sequence[str], match: LabelMatch) -> tuple[str, ...]:
        """Hold labels whose meaning was assumed against this start's own answers.

        Returns:
            A sentence on how far they agree; nothing where no meaning was assumed.

        Raises:
            LabelError: The answers clearly say that the two labels mean the opposite.
        """
        objective = self.objective_of(CLASSIFICATION, Classification)
        return check_start(objective, self.start_of(CLASSIFICATION), texts, match)

    @plain_modes()
    def translate(
        self, texts: Texts, *, source_lang: str, target_lang: str, num_beams: int | None = None
    ) -> list[str]:
        """Translate without any pair of the new languages.

        Raises:
            BackboneError: The model does not know a language; lists the near ones.
            DataError: Both languages are the same.
        """
        objective = self.objective_of(GENERATION, Generation)
        _check_languages(source_lang, target_lang, needed=True)
        check_pair(source_lang, target_lang)
        language = join_pair(source_lang, target_lang)
        return write_texts(objective, self.weights, texts, language=language, num_beams=num_beams)

    @plain_modes()
    def adapt(
        self,
        texts: Texts,
        labels: Labels,
        *,
        label_map: LabelMap | None = None,
        drop_labels: Labels = (),
        empty: str = STOP,
        steps: int | None = None,
        learning_rate: float | None = None,
        seed: int = 0,
        long_texts: str = "cut",
        companion: str = "auto",
        label_descriptions: Mapping[str, str] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> AdaptedModel:
        """Adapt to a new domain from a few dozen labeled texts.

        Labels that mean those of meta-training are matched to them; a label set never
        seen gets a head of its own, begun at the class means.

        Args:
            texts, labels: Lists, arrays, columns, or whatever else can be walked through; a
                label is text, a number or a truth value.
            label_map: From labels as written to the start's, or text such as
                `bad=negative`; wins over matching.
            drop_labels: Labels whose examples are left out, or one of them.
            empty: Examples without a text or a label `stop`, or `skip` leaves them out and
                tells them in the notes of the match.
            steps, learning_rate: In place of the defaults found on meta-validation.
            long_texts: What to do with texts longer than the encoder takes: `cut` them and
                count them in the report, or `stop`.
            companion: Mix character n-grams into the predictions: `auto` where the held-out
                folds of these texts say that it pays, `ngrams` always, `none` never.
            label_descriptions: What labels mean, by their names; counts beside the names where
                the start never saw the labels.
            on_step: Called with the steps done and their number.

        Raises:
            LabelError: One label only, fewer than two examples of a label, ambiguous names, or a
                description of none.
            DataError: Texts and labels differ in number, or a text is missing, empty, no text
                or too long.
            DivergedError: A loss became infinite; nothing is returned.
            MetaModelError: The start did not learn classification.
            SettingsError: An option is none of these words, or no such number.
        """
        seed = check_options(companion=companion, seed=seed, long_texts=long_texts, on_step=on_step)
        texts, labels, left_out = check_labeled(texts, labels, drop_labels=drop_labels, empty=empty)
        kept = self.objective_of(CLASSIFICATION, Classification)
        objective = kept.over(kept.backbone)  # kept states would change the last digits
        how = self.adaptation[CLASSIFICATION].instead(steps=steps, learning_rate=learning_rate)
        return adapt_to_labels(
            objective,
            self.start_of(CLASSIFICATION),
            texts,
            labels,
            settings=self.encoder_settings,
            how=how,
            label_map=label_map,
            prior=self.companion,
            companion=companion,
            seed=seed,
            long_texts=long_texts,
            provenance=self._origin(),
            left_out=left_out,
            on_step=on_step,
            descriptions=label_descriptions,
        )

    @plain_modes()
    def adapt_to_pairs(
        self,
        sources: Texts,
        targets: Texts,
        *,
        source_lang: str = "",
        target_lang: str = "",
        steps: int | None = None,
        learning_rate: float | None = None,
        seed: int = 0,
        long_texts: str = "cut",
        companion: str = "auto",
        lines: Sequence[int] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> RetrievalModel | GenerationModel:
        """Adapt to a language pair, or to an industry's words, from a few dozen sentence pairs.

        Args:
            source_lang, target_lang: A start that writes translations needs both, as ISO 639
                or the model's own codes; one that finds them saves them as names.
            steps, learning_rate: In place of the defaults found on meta-validation.
            long_texts: What to do with sentences longer than the model takes: `cut` them and
                count them in the report, or `stop`.
            companion: Let the overlap of character n-grams count beside an encoder that finds
                translations: `auto` where held-out pairs say that it pays, `ngrams` always,
                `none` never.
            lines: Of the pairs in their file, to name a sentence that is too long by.
            on_step: Called with the steps done and their number.

        Returns:
            What writes translations where the start learned it, else what finds them.

        Raises:
            BackboneError: The model does not know a language; lists the near ones.
            DataError: The sides differ in number, fewer than 4 pairs are distinct, a sentence
                is empty or too long, or both languages are the same.
            DivergedError: A loss became infinite; nothing is returned.
            MetaModelError: The start learned classification alone.
            SettingsError: `companion` is none of these words, or `ngrams` where translations
                are written.
        """
        seed = check_options(companion=companion, seed=seed, long_texts=long_texts, on_step=on_step)
        if lines is not None:
            lines = as_lines(lines, "lines")
        writes = GENERATION in self.objectives
        _check_languages(source_lang, target_lang, needed=writes)
        skill = GENERATION if writes else RETRIEVAL
        if writes and companion == "ngrams":
            raise SettingsError(
                "cannot write translations with n-grams: they help to find translations and "
                "`companion` auto or none is needed; change `companion`"
            )
        common: dict[str, Any] = {"languages": (source_lang, target_lang), "seed": seed}
        common |= {"long_texts": long_texts, "lines": lines, "on_step": on_step}
        common |= {"settings": self.settings, "provenance": self._origin()}
        if writes:
            generation = self.objective_of(skill, Generation)
            generation = generation.over(generation.backbone)
            common["how"] = self.adaptation[skill].instead(steps=steps, learning_rate=learning_rate)
            return adapt_to_writing(generation, self.start_of(skill), sources, targets, **common)
        retrieval = self.objective_of(skill, Retrieval)
        retrieval = retrieval.over(retrieval.backbone)
        common["how"] = self.adaptation[skill].instead(steps=steps, learning_rate=learning_rate)
        return adapt_to_matches(
            retrieval, self.start_of(skill), sources, targets, companion=companion, **common
        )

    @classmethod
    def _read(cls, saved: Saved) -> "MetaModel":
        record, folder = saved.record, saved.folder
        unknown = [skill for skill in record.skills if skill not in SKILLS]
        if unknown:
            raise MetaModelError(
                f"cannot load '{folder}': it learned '{unknown[0][:100]}' and skills of this "
                f"version, {', '.join(SKILLS)}, are needed; install the version that saved it"
            )
        settings = read_settings(record, SKILLS[record.skills[0]].settings)
        objectives = build_objectives(
            settings, record.skills, labels=record.labels, device=saved.device, token=saved.token
        )
        shared = next(iter(objectives.values()))
        weights = load_meta_parameters(folder, record, shared, with_head=bool(record.labels))
        with_ngrams = COMPANION_FACTS in record.files
        stored = load_companion(folder, labels=record.labels, factors=()) if with_ngrams else None
        return cls(
            objectives,
            weights,
            settings,
            {skill: _read_adaptation(record, skill, name=folder) for skill in record.skills},
            record.provenance,
            None if stored is None else stored.model,
            saved.source,
            record.files[ADAPTER].sha256,
        )

    def _parts(self) -> Parts:
        adaptation: dict[str, Any] = {s: how.stored for s, how in self.adaptation.items()}
        if RETRIEVAL in adaptation:
            temperature = math.exp(-float(self.weights[TEMPERATURE]))
            adaptation[RETRIEVAL] = {**adaptation[RETRIEVAL], "temperature": temperature}
        ridge = {n: v.double() for n, v in self.weights.items() if n.startswith(RIDGE)}
        if ridge:
            numbers = {f"ridge_{n}": float(v) for n, v in ridge_numbers(ridge).items()}
            adaptation[CLASSIFICATION] = {**adaptation[CLASSIFICATION], **numbers}
        record = Record(
            START, self.skills, asdict(self.settings), self.labels, adaptation, self.provenance
        )
        beside = {TEMPERATURE, *ridge}
        weights = {n: v for n, v in self.weights.items() if n not in beside}
        shared = next(iter(self.objectives.values()))
        stored = None if self.companion is None else StoredCompanion(self.companion)
        return Parts(record, weights, shared.backbone, shared.plan, stored)

    def _origin(self) -> dict[str, object]:
        """What an adapted model tells of its start."""
        origin = tell_source(self.provenance, self.source)
        return {**origin, "adapter_sha256": self.adapter_sha256}


def _check_languages(source_lang: str, target_lang: str, *, needed: bool) -> None:
    """Refuse what is no text; where a language is needed, an empty one too."""
    for argument, code in (("source_lang", source_lang), ("target_lang", target_lang)):
        if needed or not isinstance(code, str) or code:
            check_word(code, argument, needed="a code of a language")


def _read_adaptation(record: Record, skill: str, *, name: Path) -> Adaptation:
    how = Adaptation.of(record.adaptation[skill])
    if how.trust is not None and how.trust.keys() != NEW_LABELS.keys():
        raise MetaModelError(
            f"cannot load '{name}': its trust in the views of a text has other numbers than "
            f"{', '.join(NEW_LABELS)}, which are needed; install the version that saved it"
        )
    return how


def load_meta_parameters(
    folder: Path, record: Record, objective: AnyObjective, *, with_head: bool
) -> dict[str, Tensor]:
    """Read the meta-parameters of a saved start, with all numbers that its record holds.

    Args:
        objective: One of those on its backbone.
        with_head: Read the classifier of a mean-pooled encoder too.

    Raises:
        MetaModelError: A file is missing, damaged, or of another architecture.
    """
    backbone = objective.backbone
    weights = load_weights(
        folder, record, backbone=backbone, plan=objective.plan, with_head=with_head
    )
    stored = record.adaptation.get(CLASSIFICATION, {})
    ridge = {n: stored[f"ridge_{n}"] for n in RIDGE_START if f"ridge_{n}" in stored}
    if len(ridge) == len(RIDGE_START):
        weights |= ridge_parameters(ridge, device=backbone.device)
    retrieval = record.adaptation.get(RETRIEVAL)
    if retrieval is not None:
        coldness = -math.log(retrieval["temperature"])
        weights[TEMPERATURE] = torch.tensor(coldness, dtype=torch.float32, device=backbone.device)
    return weights
