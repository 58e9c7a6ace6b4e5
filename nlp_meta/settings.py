"""The settings of a run: one dataclass a section, one YAML file a run.

Configs are complete: no field here has a default but `replace`, which is for one run. `--help`
of a recipe prints the docstrings below, so every key of a config has its line. Library functions
take plain arguments.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Which tasks a run reads.

    Attributes:
        cards: Data cards by name, or paths of `.md` files.
        root: Folder of the corpora; null reads the environment's NLP_META_DATA.
        source: `files` below the root, or the `hub`.
        splits: By meta-split, patterns of tasks that it gets in place of the cards' own.
        exclude: Patterns of tasks that are left out.
    """

    cards: list[str]
    root: str | None
    source: str
    splits: dict[str, list[str]]
    exclude: list[str]


@dataclass(frozen=True, slots=True)
class EpisodeSettings:
    """The episodes of training: their sizes, how tasks are drawn, how skills are mixed.

    Attributes:
        shot: Support examples per label, the most of them with `ways`; read by classification.
        query_shot: Query examples per label; read by classification.
        pairs: Support pairs; read by retrieval and generation.
        query_pairs: Query pairs; read by retrieval and generation.
        sampling: How often a task is drawn: `uniform`, `size`, a power of its size, 0 to 1, or
            `corpus`, which draws a corpus, then one of its tasks.
        ways: Episodes draw 2 to so many labels of their task, in random order, with 1 to `shot`
            examples each; needs a head that is made from each support set. Null takes all.
        sentiment_share: Part of the episodes that tasks of sentiment give, with all their labels;
            null treats them as all others.
        shares: By skill, its part of the episodes; null gives every skill the same.
        weights: By skill, a factor on its meta-gradients; null is 1 for each.
    """

    shot: int
    query_shot: int
    pairs: int
    query_pairs: int
    sampling: str | float
    ways: int | None
    sentiment_share: float | None
    shares: dict[str, float] | None
    weights: dict[str, float] | None


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The encoder of classification and retrieval, its head and what of it moves.

    Attributes:
        model_name_or_path: Name on the Hub, a folder, or `builtin:minilm`.
        revision: Branch, tag or commit on the Hub; null takes the newest.
        pooling: `native`, the encoder's own head, or `mean` of its last states.
        head: `shared` by all tasks; or made from each support set, of class means
            (`prototype`) or by `ridge` regression; or, for joint training, one `per_task`.
        prefix_text: What stands before every text.
        max_tokens: Longer texts are cut.
        lora_r: Rank of each LoRA pair.
        lora_alpha: Scale of the LoRA terms, divided by the rank.
        lora_layers: The topmost layers adapt; those below are frozen and cached.
        lora_target_modules: Linear layers that adapt; null takes PEFT's choice.
    """

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
class Seq2SeqSettings:
    """The encoder-decoder of generation and what of it moves.

    Attributes:
        model_name_or_path: Name on the Hub, or a folder.
        revision: Branch, tag or commit on the Hub; null takes the newest.
        max_tokens: Longer sentences are cut.
        lora_r: Rank of each LoRA pair.
        lora_alpha: Scale of the LoRA terms, divided by the rank.
        lora_sides: `encoder`, `decoder` or `both` adapt.
        lora_layers: The topmost layers of each side adapt; null takes all.
        lora_target_modules: Linear layers that adapt; null takes PEFT's choice.
        label_smoothing: Share of the probability that is spread over the vocabulary.
        num_beams: Of the search that answers users; judgements are greedy.
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
class InnerSettings:
    """The inner loop of training.

    Attributes:
        steps: Inner steps; 0 with joint training.
        learning_rate: Of an inner step.
        optimizer: `sgd` or `adam`.
        batch_size: Support examples of one inner step; null takes all.
        anchor: Pull back to the start, 0 for none.
    """

    steps: int
    learning_rate: float
    optimizer: str
    batch_size: int | None
    anchor: float


@dataclass(frozen=True, slots=True)
class OuterSettings:
    """The algorithm and its outer loop.

    Attributes:
        algorithm: `fomaml`, `reptile`, `maml` or `joint`.
        steps: Outer steps.
        meta_batch_size: Episodes per outer step, over all processes.
        stack: Episodes adapted in one pass.
        optimizer: Any of `torch.optim`.
        learning_rate: Of an outer step.
        options: Further arguments of the optimizer.
        warmup_steps: Outer steps in which the rate rises.
        schedule: `constant`, or `cosine` down to 0 at `steps`.
        max_gradient_norm: Longer meta-gradients are clipped; null clips none.
        validate_every: Outer steps between two judgements on meta-validation.
        patience: Judgements without a better score that end the run; null for none.
        checkpoint_every: Outer steps between two checkpoints.
        average_last: Outer steps whose mean is judged and kept; 0 for none.
    """

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

    Attributes:
        labels: Labels, or sentence pairs, of each judged support set in all.
        draws: Support sets of each task.
        max_query: Most queries of each.
        metric: That judges; skills that it does not fit have their own.
        optimizer: `sgd` or `adam`.
        batch_size: Support examples of one inner step; null takes all.
        anchor: Pull back to the start, 0 for none.
        average: Decay of a moving average of the fast weights; 0 takes the last.
        early_stop: Held-out parts of a user's support set may choose fewer steps.
        stack: Episodes adapted in one pass.
        steps: Numbers of inner steps that are tried.
        learning_rates: Rates that are tried, each judged after every number of steps.
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
    """Where a run begins and ends.

    Attributes:
        seed: Of all that is drawn.
        output_dir: Folder of the start, the log and the checkpoints.
        init_from: Start that a run goes on from; null begins at the pretrained model.
        mixed_precision: `auto` takes bf16 where the processor multiplies it; or `bf16`, `no`.
        batch_tokens: Most tokens of one padded batch.
        num_processes: Stop unless so many were launched; null takes whatever was.
        report_to: Trackers of Accelerate: tensorboard, wandb, trackio, ...
        resume: Go on from the newest checkpoint of `output_dir`; short: --resume.
        replace: Replace a run, or a model, that is in `output_dir`; short: --replace.
        states_dir: Folder where what the frozen layers give is kept for other runs and processes;
            null keeps it until the run ends.
    """

    seed: int
    output_dir: str
    init_from: str | None
    mixed_precision: str
    batch_tokens: int
    num_processes: int | None
    report_to: list[str]
    resume: bool
    replace: bool = False
    states_dir: str | None = None


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Pushing a run's start, by the Hub's own names; short: --push-to-hub, --hub-model-id.

    Attributes:
        push_to_hub: Push the finished start.
        hub_model_id: Name on the Hub, such as me/name.
        hub_token_env: Environment variable with the token; null takes HF_TOKEN or the login.
        hub_private_repo: Of a new repository; null takes the Hub's default.
        hub_revision: Branch to push to; null is main.
        hub_strategy: `end`, `every_save` (a draft at each checkpoint), `checkpoint` (and the
            newest checkpoint, to resume from) or `all_checkpoints`.
        hub_base_model: Name on the Hub of a base that is a folder here.
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
    """One run of `recipes/meta_train.py` or `recipes/multitask_train.py`.

    Attributes:
        skills: What the model learns: `classification`, `retrieval` or both on an encoder;
            `generation` alone on an encoder-decoder.
    """

    skills: list[str]
    data: DataSettings
    episode: EpisodeSettings
    model: ModelSettings | Seq2SeqSettings
    outer: OuterSettings
    inner: InnerSettings
    adaptation: AdaptationSettings
    run: RunSettings
    hub: HubSettings


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """Rivals on the same episodes of the meta-test tasks.

    Attributes:
        title: Of the report.
        metric: That decides.
        ours: The method that the others are paired with; null for none.
        labels: Budgets: labels, or sentence pairs, of a support set in all.
        draws: Support sets of each task and budget.
        max_query: Most queries of each task; null takes all.
        overlap: `exclude` rows that repeat what was trained on, or `stop`.
        overlap_threshold: Similarity from which on a text repeats another.
        over_tasks: Intervals are over tasks too, not over draws and rows alone.
        resamples: Of each interval.
        methods: By name, the method and, where it has one, the folder of its start.
        limits: By name, the first draws that a costly method is judged on.
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
    """Choices that rivals make: inside the support set, or on meta-validation (full).

    Attributes:
        regularization: Values of `C` of logistic regression.
        folds: Of the cross-validation inside a support set.
        scalings: Of features of prototypes: `plain`, `unit`, `standard`.
        temperatures: Of memory and prototypes.
        full_steps: Numbers of steps of full fine-tuning.
        full_learning_rates: Rates of full fine-tuning.
        full_batch_size: Examples of one step of full fine-tuning.
        setfit_pairs: Pairs of each kind an example that SetFit learns from.
    """

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

    Attributes:
        model_name_or_path: Name on the Hub, a folder, or `builtin:smollm2`.
        revision: Branch, tag or commit on the Hub; null takes the newest.
        gguf_file: File of weights in the folder; null for none.
        context_tokens: Longest prompt; null takes the model's own.
        templates: Prompts to choose among; empty where translations are written.
        scorings: Rules of scoring to choose among; empty where translations are written.
        demonstrations: Most support examples shown; null takes what fits.
        selection: `balanced` or `nearest` demonstrations.
        chat: Write the prompt as a chat.
        choosing_draws: Judged draws that choose the prompt; null takes all.
        orders: Orders of demonstrations whose spread is measured.
        endpoint: Address; null loads the model here.
        api_key_env: Environment variable with the endpoint's key.
        timeout: Of a request, in seconds.
        retries: Of a request that fails.
        requests_per_minute: Most of them; null for no limit.
        price_per_million_tokens: Null is unknown: the estimate tells tokens alone.
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
    """How the language model of `prompting` is asked for translations.

    Attributes:
        max_new_tokens: The longest translation.
        num_beams: 1 is greedy.
        translation_templates: Prompts to choose among.
    """

    max_new_tokens: int
    num_beams: int
    translation_templates: list[str]


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The pool that translations are looked for in, and how n-grams that overlap are counted.

    Attributes:
        candidates: Pools are filled up to so many from other sentences of the language.
        fill_cards: Cards whose targets fill up what is then missing; in related languages,
            and not parallel to what is judged.
        ngrams: Lengths: the first is the shortest that is counted, all are tried as the
            longest.
    """

    candidates: int
    fill_cards: list[str]
    ngrams: list[int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run of `recipes/compare.py` on methods that name labels.

    Attributes:
        skills: `classification`.
    """

    skills: list[str]
    data: DataSettings
    comparison: ComparisonSettings
    model: ModelSettings
    adaptation: AdaptationSettings
    rivals: RivalSettings
    prompting: PromptingSettings
    run: RunSettings


@dataclass(frozen=True, slots=True)
class RetrievalComparison:
    """A run of `recipes/compare.py` on methods that find translations.

    Attributes:
        skills: `retrieval`.
    """

    skills: list[str]
    data: DataSettings
    comparison: ComparisonSettings
    retrieval: PoolSettings
    model: ModelSettings
    adaptation: AdaptationSettings
    run: RunSettings


@dataclass(frozen=True, slots=True)
class GenerationComparison:
    """A run of `recipes/compare.py` on methods that write translations.

    Attributes:
        skills: `generation`.
    """

    skills: list[str]
    data: DataSettings
    comparison: ComparisonSettings
    model: Seq2SeqSettings
    adaptation: AdaptationSettings
    prompting: PromptingSettings
    translation_prompting: TranslationPrompting
    run: RunSettings


@dataclass(frozen=True, slots=True)
class SmallModelSettings:
    """The encoder-decoder that is built here.

    Attributes:
        encoder_init: Pretrained encoder whose lowest layers it begins with; then `hidden`,
            `attention_heads` and `feed_forward` are that encoder's, and so are the pieces of
            the vocabulary. Null begins at nothing.
        vocabulary: Pieces.
        hidden: Width.
        encoder_layers: Layers of the encoder.
        decoder_layers: Layers of the decoder.
        attention_heads: Of each layer.
        feed_forward: Width of the feed-forward parts.
        dropout: While training.
        max_tokens: Longer sentences are cut.
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

    Attributes:
        both_directions: Every pair is read both ways.
        copies: Share of pairs whose target is to be written as it is.
        undetermined: Share of pairs whose target language is not told.
        held_out: Pairs that judge the training.
        label_smoothing: Share of the probability that is spread over the vocabulary.
    """

    both_directions: bool
    copies: float
    undetermined: float
    held_out: int
    label_smoothing: float


@dataclass(frozen=True, slots=True)
class SmallTraining:
    """A run of `recipes/multitask_train.py` that builds an encoder-decoder."""

    data: DataSettings
    small_model: SmallModelSettings
    corpus: CorpusSettings
    outer: OuterSettings
    run: RunSettings


def fingerprint(settings: Any) -> dict[str, object]:
    """All settings that decide a run's numbers, by their keys; not where it is written or resumed.

    Of a folder here its hash stands in place of its name: a checkpoint may be pushed.
    """
    values = asdict(settings)
    values.pop("hub", None)
    for name in ("output_dir", "resume", "replace", "states_dir", "num_processes", "report_to"):
        del values["run"][name]
    values["data"]["cards"] = [Path(card).stem for card in values["data"]["cards"]]
    del values["data"]["root"]
    if adaptation := values.get("adaptation"):
        # A run is judged by the first rate and the most steps; the others are tried at its end.
        adaptation["steps"] = max(adaptation["steps"], default=0)
        adaptation["learning_rates"] = adaptation["learning_rates"][:1]
    flat: dict[str, object] = {}
    for section, block in values.items():
        for key, value in block.items() if isinstance(block, dict) else [("", block)]:
            folder = isinstance(value, str) and Path(value).is_dir()
            hashed = hashlib.sha256(str(value).encode()).hexdigest()[:16]
            flat[f"{section}.{key}".rstrip(".")] = f"folder {hashed}" if folder else value
    return flat
