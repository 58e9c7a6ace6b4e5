"""The settings of a run: one dataclass a section, one YAML file a run.

Configs are complete: no field here has a default. Settings are read by recipes, the
command line and `models.py`; library functions take plain arguments.

The settings of runs over encoder-decoders; their other sections are those of every run.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Which tasks. `splits` moves tasks to another meta-split than their card's."""

    cards: list[str]
    root: str | None
    source: str
    splits: dict[str, list[str]]
    exclude: list[str]


@dataclass(frozen=True, slots=True)
class EpisodeSettings:
    """The episodes of training: their sizes, how tasks are drawn, what kinds are mixed.

    `shot` and `query_shot` count sentiment examples per label, `pairs` and `query_pairs`
    those of a translation. `shares` is what part of the episodes is of each kind; a kind
    that has none is left out. `weights` multiplies the meta-gradient of each kind.
    """

    shot: int
    query_shot: int
    pairs: int
    query_pairs: int
    sampling: str | float
    shares: dict[str, float]
    weights: dict[str, float]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The backbone, its head and what of it moves."""

    model_name_or_path: str
    revision: str | None
    pooling: str
    head: str
    prefix_text: str
    max_tokens: int
    lora_r: int
    lora_alpha: float
    lora_layers: int
    lora_target_modules: list[str] | None


@dataclass(frozen=True, slots=True)
class InnerSettings:
    """The inner loop of training; `batch_size` is examples of one inner step, null all."""

    steps: int
    learning_rate: float
    optimizer: str
    batch_size: int | None
    anchor: float
    learned_step_sizes: bool


@dataclass(frozen=True, slots=True)
class OuterSettings:
    """The algorithm and its outer loop; see `nlp_meta.meta.schedule.OuterLoop`."""

    algorithm: str
    steps: int
    meta_batch_size: int
    stack: int
    optimizer: str
    learning_rate: float
    options: dict[str, float]
    warmup_steps: int
    schedule: str
    max_gradient_norm: float | None
    validate_every: int
    patience: int | None
    checkpoint_every: int
    average_last: int


@dataclass(frozen=True, slots=True)
class AdaptationSettings:
    """How users' adaptation is chosen on the meta-validation tasks.

    Every rate of `learning_rates` is tried, judged after each number of `steps`, on
    `draws` support sets of `labels` examples in all for each task.
    """

    labels: int
    draws: int
    max_query: int
    metric: str
    optimizer: str
    batch_size: int | None
    anchor: float
    average: float
    early_stop: bool
    stack: int
    steps: list[int]
    learning_rates: list[float]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Where a run begins and ends. `num_processes` null takes whatever was launched."""

    seed: int
    output_dir: str
    init_from: str | None
    mixed_precision: str
    batch_tokens: int
    num_processes: int | None
    report_to: list[str]
    resume: bool


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Pushing a run's meta-model, by the Hub's own names.

    `hub_token_env` names the environment variable that holds the token; a token itself never
    stands in a file. `hub_strategy` is `end`, `every_save` (a draft at each checkpoint),
    `checkpoint` (and the newest checkpoint, to resume from) or `all_checkpoints`.
    """

    push_to_hub: bool
    hub_model_id: str | None
    hub_token_env: str | None
    hub_private_repo: bool | None
    hub_revision: str | None
    hub_strategy: str
    hub_base_model: str | None


@dataclass(frozen=True, slots=True)
class MetaTraining:
    """One run of `recipes/meta_train.py` or `recipes/multitask_train.py`."""

    data: DataSettings
    episode: EpisodeSettings
    model: ModelSettings
    inner: InnerSettings
    outer: OuterSettings
    adaptation: AdaptationSettings
    run: RunSettings
    hub: HubSettings


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """Rivals on the same episodes of the meta-test tasks.

    `methods` gives each name its kind and, where it has one, the folder of its meta-model.
    `ours` is the method that the others are paired with. `limits` lets a costly method be
    judged on the first draws alone. `overlap` is `exclude` or `stop`, for texts at least
    `overlap_threshold` similar.
    """

    title: str
    metric: str
    ours: str | None
    labels: list[int]
    draws: int
    max_query: int | None
    overlap: str
    overlap_threshold: float
    over_tasks: bool
    resamples: int
    methods: dict[str, str]
    limits: dict[str, int]


@dataclass(frozen=True, slots=True)
class RivalSettings:
    """Choices that rivals make: inside the support set, or on meta-validation (full)."""

    regularization: list[float]
    folds: int
    scalings: list[str]
    temperatures: list[float]
    full_steps: list[int]
    full_learning_rates: list[float]
    full_batch_size: int
    setfit_pairs: int


@dataclass(frozen=True, slots=True)
class PromptingSettings:
    """The language model that is prompted, here or behind an OpenAI-compatible endpoint.

    `price_per_million_tokens` null is an unknown price: the estimate tells tokens alone. The
    prompt is chosen by the first `choosing_draws` of the judged draws of `adaptation`, null all.
    """

    model_name_or_path: str
    revision: str | None
    gguf_file: str | None
    context_tokens: int | None
    templates: list[str]
    scorings: list[str]
    demonstrations: int | None
    selection: str
    chat: bool
    choosing_draws: int | None
    orders: int
    endpoint: str | None
    api_key_env: str
    timeout: float
    retries: int
    requests_per_minute: float | None
    price_per_million_tokens: float | None


@dataclass(frozen=True, slots=True)
class TranslationPrompting:
    """How the language model of `PromptingSettings` is asked for translations.

    `max_new_tokens` is the longest that it writes, `num_beams` 1 is greedy. The template is
    chosen among `translation_templates`: those of `PromptingSettings` are for labels.
    """

    max_new_tokens: int
    num_beams: int
    translation_templates: list[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that `recipes/compare.py` reads."""

    data: DataSettings
    comparison: ComparisonSettings
    model: ModelSettings
    adaptation: AdaptationSettings
    rivals: RivalSettings
    prompting: PromptingSettings
    run: RunSettings


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The pool that translations are looked for in, and how n-grams that overlap are counted.

    Pools are filled up to `candidates` from other sentences of the language; where there are
    no more, from targets of `fill_cards`, which should be in related languages and must not
    be parallel to what is judged. `ngrams` are lengths: the first is the shortest that is
    counted, all are tried as the longest.
    """

    candidates: int
    fill_cards: list[str]
    ngrams: list[int]


@dataclass(frozen=True, slots=True)
class RetrievalComparison:
    """Everything that `recipes/compare.py` reads where translations are looked for.

    In `comparison` and `adaptation`, `labels` are sentence pairs.
    """

    data: DataSettings
    comparison: ComparisonSettings
    retrieval: PoolSettings
    model: ModelSettings
    adaptation: AdaptationSettings
    run: RunSettings


def fingerprint(settings: Any) -> str:
    """Hash of everything that decides a run's numbers; not where it is written or resumed."""
    values = asdict(settings)
    values.pop("hub", None)
    for name in ("output_dir", "resume", "num_processes", "report_to"):
        del values["run"][name]
    if adaptation := values.get("adaptation"):
        # A run is judged by the first rate and the most steps; the others are tried at its end.
        adaptation["steps"] = max(adaptation["steps"], default=0)
        adaptation["learning_rates"] = adaptation["learning_rates"][:1]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """The encoder-decoder that writes translations, and what of it moves.

    `lora_layers` counts the topmost layers of each side, null takes all; `num_beams` is of
    the search that answers users, judgements are greedy.
    """

    model_name_or_path: str
    revision: str | None
    max_tokens: int
    lora_r: int
    lora_alpha: float
    lora_sides: str
    lora_layers: int | None
    lora_target_modules: list[str] | None
    label_smoothing: float
    num_beams: int


@dataclass(frozen=True, slots=True)
class GenerationTraining:
    """One run of `recipes/meta_train.py` over an encoder-decoder."""

    data: DataSettings
    episode: EpisodeSettings
    generation: GenerationSettings
    inner: InnerSettings
    outer: OuterSettings
    adaptation: AdaptationSettings
    run: RunSettings
    hub: HubSettings

    @property
    def model(self) -> GenerationSettings:
        """The section that stands where runs over encoders have `model`."""
        return self.generation


@dataclass(frozen=True, slots=True)
class SmallModelSettings:
    """The encoder-decoder that is built here.

    `encoder_init` names a pretrained encoder whose lowest layers it begins with; then
    `hidden`, `attention_heads` and `feed_forward` are that encoder's, and so are the
    `vocabulary` pieces.
    """

    encoder_init: str | None
    vocabulary: int
    hidden: int
    encoder_layers: int
    decoder_layers: int
    attention_heads: int
    feed_forward: int
    dropout: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class CorpusSettings:
    """The sentence pairs that train it.

    `copies` and `undetermined` are shares of them: targets to be written as they are, and
    pairs whose target language is not told. `held_out` pairs judge the training.
    """

    both_directions: bool
    copies: float
    undetermined: float
    held_out: int
    label_smoothing: float


@dataclass(frozen=True, slots=True)
class SmallTraining:
    """One run of `recipes/multitask_train.py` that builds an encoder-decoder."""

    data: DataSettings
    small_model: SmallModelSettings
    corpus: CorpusSettings
    outer: OuterSettings
    run: RunSettings


@dataclass(frozen=True, slots=True)
class GenerationComparison:
    """Everything that `recipes/compare.py` reads where translations are written.

    In `comparison` and `adaptation`, `labels` are sentence pairs. Of `prompting`, the
    templates and scoring rules are for labels and stay empty.
    """

    data: DataSettings
    comparison: ComparisonSettings
    generation: GenerationSettings
    adaptation: AdaptationSettings
    prompting: PromptingSettings
    translation_prompting: TranslationPrompting
    run: RunSettings
