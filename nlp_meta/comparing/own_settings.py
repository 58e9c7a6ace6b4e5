"""The settings of a comparison on a user's own table, written as a config would have them.

There are no meta-validation tasks beside a table, so every method chooses inside each
support set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from nlp_meta.comparing.methods import KINDS, Kind
from nlp_meta.errors import SettingsError
from nlp_meta.hub.records import META_MODEL, find_model
from nlp_meta.settings import (
    AdaptationSettings,
    Comparison,
    ComparisonSettings,
    DataSettings,
    ModelSettings,
    PromptingSettings,
    RivalSettings,
    RunSettings,
)

RIVALS = RivalSettings(
    regularization=[0.01, 0.1, 1.0, 10.0, 100.0],
    folds=4,
    scalings=["plain", "unit", "standard"],
    temperatures=[0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0],
    full_steps=[10, 20, 40],
    full_learning_rates=[3e-5, 1e-4],
    full_batch_size=16,
    setfit_pairs=2,
)
PROMPTING = PromptingSettings(
    model_name_or_path="builtin:smollm2",
    revision=None,
    gguf_file=None,
    context_tokens=None,
    templates=["review", "sentiment", "label"],
    scorings=["calibrated", "sum", "mean", "pmi"],
    demonstrations=None,
    selection="balanced",
    chat=False,
    choosing_draws=None,
    orders=1,
    endpoint=None,
    api_key_env="OPENAI_API_KEY",
    timeout=60.0,
    retries=5,
    requests_per_minute=None,
    price_per_million_tokens=None,
)
OVERLAP_THRESHOLD = 0.7
STEPS, LEARNING_RATES = [5, 10, 20], [1e-3, 3e-4]

ENCODER = "builtin:minilm"
PLAIN = ModelSettings(
    model_name_or_path=ENCODER,
    revision=None,
    pooling="mean",
    head="shared",
    prefix_text="",
    max_tokens=128,
    lora_r=8,
    lora_alpha=16.0,
    lora_layers=3,
    lora_target_modules=None,
)
QUICK = ("ngrams", "linear_probe", "prototypes", "memory")
WITH_META = ("hybrid", "adapt", *QUICK)
RESAMPLES = 2000
NO_CARDS = DataSettings([], None, "files", {}, [])


@dataclass(frozen=True, slots=True)
class Inner:
    """What the inner loop of a meta-model has beside steps and rate."""

    optimizer: str
    batch_size: int | None
    anchor: float
    average: float


@dataclass(frozen=True, slots=True)
class OwnComparison:
    """What a user asks for.

    Attributes:
        meta: Folder or name of the meta-model.
        joint: Folder of a jointly trained start, the rival at equal compute; None leaves it out.
        methods: Names, or `all`.
        labels: Support examples in all, as many budgets as wanted; those that the table
            cannot give are left out.
        metric: Empty takes the one that suits how a meta-model answers with translations.
        overlap: `exclude` or `stop`, for texts of the test table that are in the first.
    """

    meta: str | None
    joint: str | None
    methods: tuple[str, ...]
    labels: tuple[int, ...]
    draws: int
    metric: str
    overlap: str
    seed: int
    prompting: PromptingSettings


def read_start(meta: str | None, *, encoder: str) -> tuple[tuple[str, ...], ModelSettings, Inner]:
    """Labels, backbone and inner loop of a meta-model, or of plain LoRA on an encoder."""
    if meta is None:
        plain = replace(PLAIN, model_name_or_path=encoder)
        return (), plain, Inner("adam", 16, 0.0, 0.0)
    _, record = find_model(meta, kind=META_MODEL)
    defaults = record.adaptation
    # Meta-models that were saved before there was an average have none.
    further = defaults["anchor"], defaults.get("average", 0.0)
    inner = Inner(defaults["optimizer"], defaults["minibatch"], *further)
    return tuple(record.labels), ModelSettings(**record.model), inner


def build_settings(
    wanted: OwnComparison,
    model: ModelSettings,
    inner: Inner,
    labels: list[int],
    *,
    folder: str,
    kinds: Mapping[str, Kind] = KINDS,
) -> Comparison:
    """Write the config that a recipe would have for this comparison.

    Args:
        kinds: As for `name_methods`.
    """
    methods = name_methods(wanted, kinds=kinds)
    return Comparison(
        data=NO_CARDS,
        comparison=plan_comparison(wanted, methods, labels, title="Your labels"),
        model=replace(model, pooling="mean", head="shared"),
        adaptation=plan_adaptation(wanted, inner, labels),
        rivals=RIVALS,
        prompting=wanted.prompting,
        run=plan_run(wanted, folder=folder),
    )


OURS: Mapping[str, str] = {"hybrid": "hybrid", "adapt": "adapt"}
"""Names of methods that begin at the user's meta-model, and their kinds."""


def plan_comparison(
    wanted: OwnComparison, methods: Mapping[str, str], labels: list[int], *, title: str
) -> ComparisonSettings:
    """Write the section `comparison`: all rows that a draw leaves judge."""
    return ComparisonSettings(
        title=title,
        metric=wanted.metric,
        ours=next((name for name in OURS if name in methods), None),
        labels=labels,
        draws=wanted.draws,
        max_query=None,
        overlap=wanted.overlap,
        overlap_threshold=OVERLAP_THRESHOLD,
        over_tasks=False,
        resamples=RESAMPLES,
        methods=dict(methods),
        limits={},
    )


def plan_adaptation(
    wanted: OwnComparison,
    inner: Inner,
    labels: list[int],
    *,
    steps: Sequence[int] = STEPS,
    learning_rates: Sequence[float] = LEARNING_RATES,
) -> AdaptationSettings:
    """Write the section `adaptation`: there is no episode of another task to choose by."""
    return AdaptationSettings(
        labels=max(labels),
        draws=1,
        max_query=1,
        metric=wanted.metric,
        **asdict(inner),
        early_stop=True,
        stack=1,
        steps=list(steps),
        learning_rates=list(learning_rates),
    )


def plan_run(wanted: OwnComparison, *, folder: str) -> RunSettings:
    """Write the section `run`."""
    return RunSettings(wanted.seed, folder, None, "auto", 2048, None, [], resume=False)


def name_methods(
    wanted: OwnComparison,
    *,
    kinds: Mapping[str, Kind] = KINDS,
    ours: Mapping[str, str] = OURS,
) -> dict[str, str]:
    """Lines of a config for the methods asked for.

    Args:
        kinds: Of methods that there are; those with a folder stand under their own names.

    Raises:
        SettingsError: One is unknown, or needs a start that was not given.
    """
    lines = {name: name for name, kind in kinds.items() if not kind.folder}
    if wanted.meta is not None:
        lines = {**{name: f"{kind} {wanted.meta}" for name, kind in ours.items()}, **lines}
    # What a joint start is worth as ours is adapted; where that is fine-tuning alone, `joint` is.
    joint = {"joint": "joint"} if "joint" in kinds else {}
    joint |= {f"joint_{name}": kind for name, kind in ours.items() if kind != "start"}
    if wanted.joint is not None:
        lines |= {name: f"{kind} {wanted.joint}" for name, kind in joint.items()}
    if wanted.methods == ("all",):
        return lines
    starts = {**dict.fromkeys(ours, "--meta"), **dict.fromkeys(joint, "--joint")}
    for name in wanted.methods:
        if name not in lines:
            missing = f" (it needs a start: `{starts[name]}`)" if name in starts else ""
            raise SettingsError(
                f"cannot compare the method '{name}'{missing}: one of {', '.join(lines)} is "
                "needed; change `--methods`"
            )
    return {name: lines[name] for name in wanted.methods}
