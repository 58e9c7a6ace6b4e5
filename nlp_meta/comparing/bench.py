"""The bench that methods are built on: settings, judged episodes, and models loaded once.

Choices that methods made before they met a support set, so that none is made twice.

A folder holds one file a method, `choices/METHOD.FINGERPRINT.json`.

Cross-validation inside a support set: each fold is the query set of the others.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from nlp_meta.data.answers import Rival
from nlp_meta.data.episodes import Episode, split_folds
from nlp_meta.encoders.prefix import Embed, mean_pooled_embedder
from nlp_meta.models.adaptation import build_objective
from nlp_meta.models.meta_model import AdaptedModel, MetaModel
from nlp_meta.objectives.classification import Classification
from nlp_meta.settings import (
    AdaptationSettings,
    Comparison,
    ComparisonSettings,
    DataSettings,
    ModelSettings,
    PromptingSettings,
    RunSettings,
)

BYTES_A_NUMBER = 4
_SAID = {"reptile": "Reptile", "fomaml": "FOMAML", "maml": "exact MAML", "joint": "joint training"}


@dataclass(frozen=True, slots=True)
class Method:
    """A method that learns and answers, and what is worth saying of it beside its scores.

    Attributes:
        least_labels: Fewest support examples that it can learn from, `least_a_label` of each
            label among them.
        examples: Support examples to examples through forward and backward, or forward
            alone where nothing is differentiated.
        facts: JSON-able: what was chosen, examples before, parameters moved, bytes to store.
        announce: Told the episodes that are to come, before the first: says what they cost.
        without_labels: It also answers without any support example.
    """

    learn: Rival
    least_labels: int
    examples: Callable[[int], int]
    facts: Mapping[str, object]
    announce: Callable[[Sequence[Episode]], None] | None = None
    without_labels: bool = False
    least_a_label: int = 0

    def can_answer(self, episode: Episode) -> bool:
        """Whether the support set is large enough, and that of its rarest label too."""
        if not episode.support:
            return self.without_labels or not self.least_labels
        counts = Counter(example.target for example in episode.support)
        enough = all(counts[label] >= self.least_a_label for label in episode.labels)
        return enough and len(episode.support) >= self.least_labels


class AnySettings(Protocol):
    """What the settings of every comparison have, whatever its methods answer with."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def data(self) -> DataSettings: ...

    @property
    def comparison(self) -> ComparisonSettings: ...

    @property
    def adaptation(self) -> AdaptationSettings: ...

    @property
    def run(self) -> RunSettings: ...


class AnyBench(Protocol):
    """What running a comparison asks of the bench that its methods are built on."""

    @property
    def settings(self) -> AnySettings: ...


class AskingSettings(AnySettings, Protocol):
    """Settings that name a language model to prompt."""

    @property
    def prompting(self) -> PromptingSettings: ...


class AskingBench(Protocol):
    """A bench whose methods prompt a language model."""

    @property
    def settings(self) -> AskingSettings: ...

    @property
    def judged(self) -> tuple[Episode, ...]: ...


@dataclass(frozen=True, slots=True)
class Bench:
    """What every builder of a method is given.

    Attributes:
        labels: Of all tasks that methods will meet.
        judged: Episodes of the meta-validation tasks, for every choice there is; without
            any, a method chooses inside each support set.
        adapted: The last adaptation of a meta-model with its seconds, by start and support
            set, for methods that read it in two ways.
    """

    settings: Comparison
    labels: tuple[str, ...]
    judged: tuple[Episode, ...]
    adapted: dict[str, tuple[AdaptedModel, float]] = field(default_factory=dict, repr=False)
    _loaded: dict[str, Classification] = field(default_factory=dict, repr=False)
    _embedders: dict[str, Embed] = field(default_factory=dict, repr=False)

    def objective(self, model: ModelSettings, labels: Sequence[str]) -> Classification:
        """Load a backbone with its adapter's plan; a second time give the same, states kept."""
        key = json.dumps([asdict(model), list(labels)])
        if key not in self._loaded:
            run = self.settings.run
            self._loaded[key] = build_objective(
                model, labels=labels, precision=run.mixed_precision, batch_tokens=run.batch_tokens
            )
        return self._loaded[key]

    def start(self, folder: str) -> MetaModel:
        """Load a meta-model; those of one backbone and label set share it."""
        model = MetaModel.from_pretrained(folder)
        shared = self.objective(model.settings, model.labels)
        return replace(model, objective=replace(shared, plan=model.objective.plan))

    def knows(self, model: MetaModel) -> bool:
        """Whether a meta-model's own head has every label that methods will meet."""
        return model.objective.head == "shared" and set(self.labels) <= set(model.labels)

    def embed(self) -> Embed:
        """Mean-pooled features of the frozen encoder that the settings name."""
        model = replace(self.settings.model, pooling="mean")
        key = json.dumps(asdict(model))
        if key not in self._embedders:
            backbone = self.objective(model, self.labels).backbone
            tokens = self.settings.run.batch_tokens
            self._embedders[key] = mean_pooled_embedder(backbone, batch_tokens=tokens)
        return self._embedders[key]


def name_start(model: MetaModel) -> str:
    """How its meta-parameters were trained, as people say it."""
    return name_training(model.provenance)


def name_training(provenance: Mapping[str, Any]) -> str:
    """How a start was trained, read from its provenance."""
    algorithm = trained_by(provenance)
    return _SAID.get(algorithm, algorithm)


def trained_by(provenance: Mapping[str, Any]) -> str:
    """The algorithm of a start, by its name in the config."""
    settings = provenance.get("settings", {})
    return str(settings.get("outer", {}).get("algorithm", "a meta-model"))


FOLDER = "choices"


def choice_path(folder: Path, method: str, fingerprint: str) -> Path:
    """Where a method's choice is."""
    return folder / FOLDER / f"{method}.{fingerprint}.json"


def read_choice(path: Path) -> dict[str, object] | None:
    """What was chosen; None where there is no whole file, and it is to be made."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def save_choice(path: Path, choice: Mapping[str, object]) -> None:
    """Write a choice; all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(choice) + "\n", encoding="utf-8")
    beside.rename(path)


def fold_episodes(episode: Episode, *, folds: int, seed: int) -> list[Episode]:
    """Give one episode a fold; fewer folds where a label has fewer examples, none where one has 1.

    Args:
        episode: Its query set is not looked at.
    """
    counts = [sum(e.target == name for e in episode.support) for name in episode.labels]
    fewest = min((count for count in counts if count), default=0)
    if fewest < 2:
        return []
    parts = split_folds(episode.support, folds=min(folds, fewest), seed=seed)
    return [
        replace(
            episode,
            support=tuple(e for place, e in enumerate(episode.support) if place not in set(part)),
            query=tuple(episode.support[place] for place in part),
        )
        for part in parts
    ]
