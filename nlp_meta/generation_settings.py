"""The settings of runs over encoder-decoders; their other sections are those of every run."""

from dataclasses import dataclass

from nlp_meta.settings import (
    AdaptationSettings,
    ComparisonSettings,
    DataSettings,
    EpisodeSettings,
    HubSettings,
    InnerSettings,
    OuterSettings,
    PromptingSettings,
    RunSettings,
    TranslationPrompting,
)


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
