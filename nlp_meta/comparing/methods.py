"""The table of methods: for each its skills, what decides its answers, how it is built.

A config writes a method as `name` or `name folder`; the folder holds its meta-model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nlp_meta.comparing.bench import Bench, Method, trained_by
from nlp_meta.comparing.prompted import build_prompting, choose_prompting
from nlp_meta.comparing.rivals import (
    build_copied,
    build_full,
    build_memory,
    build_ngrams,
    build_overlap,
    build_probe,
    build_prototypes,
    build_setfit,
    choose_full,
)
from nlp_meta.comparing.starts import (
    build_adapt,
    build_hybrid,
    build_lora,
    build_pretrained,
    build_start,
    choose_lora,
    choose_start,
)
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.episodes import GENERATION, RETRIEVAL
from nlp_meta.errors import SettingsError
from nlp_meta.hub.pull import ADAPTER, COMPANION_WEIGHTS, HEAD, RECORD
from nlp_meta.hub.records import find_model
from nlp_meta.settings import ComparisonSettings

Choose = Callable[[Bench, str], dict[str, object]]
Build = Callable[[Bench, str, Mapping[str, object]], Method]
"""Behind the bench comes what follows the method's name in the config."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What decides a method's answers in one skill.

    Attributes:
        reads: What of a text it sees.
        settings: Sections of the config, or keys of one.
        files: Of its start's folder.
    """

    reads: str
    settings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MethodRow:
    """A row of the table.

    Attributes:
        group: `ours` or `rival`.
        skills: By skill that it has, what decides its answers.
        choose: What it has to choose before it meets a support set, JSON-able; slow.
        folder: Whether a meta-model's folder follows its name.
    """

    title: str
    group: str
    skills: Mapping[str, Inputs]
    choose: Choose
    build: Build
    folder: bool = False


def no_choice(bench: Bench, argument: str) -> dict[str, object]:
    """For methods whose every choice is made inside a support set, or that have none."""
    return {}


def _keys(section: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{section}.{name}" for name in names)


JUDGED = _keys("adaptation", "labels", "draws", "max_query")
"""What decides the episodes of the meta-validation tasks."""
ADAPTED = JUDGED + _keys(
    "adaptation",
    "metric",
    "optimizer",
    "batch_size",
    "anchor",
    "average",
    "early_stop",
    "steps",
    "learning_rates",
)
"""What decides an adaptation and its choice: all but how many episodes share a pass."""
ASKED = _keys(
    "prompting",
    "model_name_or_path",
    "revision",
    "gguf_file",
    "context_tokens",
    "demonstrations",
    "selection",
    "chat",
    "choosing_draws",
    "endpoint",
)
"""What decides a language model's answers, whatever they are: not how patiently it is asked."""
POOL = _keys("retrieval", "candidates", "fill_cards")
"""What decides the pools that translations are found in."""

_ENCODER, _TEXT = "the adapted encoder", "the text's characters"
_FROZEN = "the frozen encoder's mean-pooled states"
_STATES = "the adapted encoder's mean-pooled states"
_WRITER = "the adapted encoder-decoder"
_LM = "a causal language model"
_FITTED = ("rivals.regularization", "rivals.folds")
_FULL = _keys("rivals", "full_steps", "full_learning_rates", "full_batch_size")
_CHOSEN = (*JUDGED, "adaptation.metric")
_PAIR_START = (ADAPTER, RECORD)
_PRODUCT = (ADAPTER, HEAD, RECORD, COMPANION_WEIGHTS)

_TUNED: Mapping[str, Inputs] = {
    CLASSIFICATION: Inputs(_ENCODER, (*ADAPTED, "rivals.folds"), (ADAPTER, HEAD)),
    RETRIEVAL: Inputs(_STATES, (*POOL, *ADAPTED), _PAIR_START),
    GENERATION: Inputs(_WRITER, ("model.num_beams", *ADAPTED), _PAIR_START),
}


def _labels(reads: str, *settings: str) -> Mapping[str, Inputs]:
    return {CLASSIFICATION: Inputs(reads, settings)}


METHODS: Mapping[str, MethodRow] = {
    "start": MethodRow(
        "a meta-model, fine-tuned", "ours", _TUNED, choose_start, build_start, folder=True
    ),
    "joint": MethodRow(
        "joint training, then fine-tuning", "rival", _TUNED, choose_start, build_start, folder=True
    ),
    "adapt": MethodRow(
        "a meta-model as `nlp-meta adapt` adapts it, without n-grams",
        "ours",
        {
            CLASSIFICATION: Inputs(_ENCODER, (), _PRODUCT),
            RETRIEVAL: Inputs(_STATES, POOL, _PAIR_START),
        },
        no_choice,
        build_adapt,
        folder=True,
    ),
    "hybrid": MethodRow(
        "a meta-model as `nlp-meta adapt` adapts it, with n-grams",
        "ours",
        {
            CLASSIFICATION: Inputs(f"{_ENCODER} and {_TEXT}", (), _PRODUCT),
            RETRIEVAL: Inputs(f"{_STATES} and {_TEXT}", POOL, _PAIR_START),
        },
        no_choice,
        build_hybrid,
        folder=True,
    ),
    "lora": MethodRow(
        "plain LoRA",
        "rival",
        {
            CLASSIFICATION: Inputs(_ENCODER, ("model", *ADAPTED, "rivals.folds")),
            RETRIEVAL: Inputs(_STATES, (*POOL, "model", *ADAPTED)),
            GENERATION: Inputs(_WRITER, ("model", *ADAPTED)),
        },
        choose_lora,
        build_lora,
    ),
    "full": MethodRow(
        "full fine-tuning",
        "rival",
        _labels(_ENCODER, "model", *_CHOSEN, *_FULL),
        choose_full,
        build_full,
    ),
    "linear_probe": MethodRow(
        "linear probe", "rival", _labels(_FROZEN, "model", *_FITTED), no_choice, build_probe
    ),
    "prototypes": MethodRow(
        "prototypes",
        "rival",
        _labels(_FROZEN, "model", "rivals.scalings", "rivals.temperatures"),
        no_choice,
        build_prototypes,
    ),
    "memory": MethodRow(
        "memory of the support set",
        "rival",
        _labels(_FROZEN, "model", "rivals.temperatures"),
        no_choice,
        build_memory,
    ),
    "ngrams": MethodRow(
        "TF-IDF of character n-grams", "rival", _labels(_TEXT, *_FITTED), no_choice, build_ngrams
    ),
    "setfit": MethodRow(
        "SetFit",
        "rival",
        _labels(_ENCODER, "model", "rivals.setfit_pairs"),
        no_choice,
        build_setfit,
    ),
    "frozen_retrieval": MethodRow(
        "the frozen encoder",
        "rival",
        {RETRIEVAL: Inputs(_FROZEN, (*POOL, "model"))},
        no_choice,
        build_pretrained,
    ),
    "ngram_overlap": MethodRow(
        "overlap of character n-grams",
        "rival",
        {RETRIEVAL: Inputs(_TEXT, (*POOL, "retrieval.ngrams"))},
        no_choice,
        build_overlap,
    ),
    "zero_pairs": MethodRow(
        "the encoder-decoder as it is",
        "rival",
        {GENERATION: Inputs("the frozen encoder-decoder", ("model",))},
        no_choice,
        build_pretrained,
    ),
    "copied_source": MethodRow(
        "the source as it is",
        "rival",
        {GENERATION: Inputs("the source's characters")},
        no_choice,
        build_copied,
    ),
    "prompting": MethodRow(
        "in-context prompting",
        "rival",
        {
            CLASSIFICATION: Inputs(
                _LM, (*ASKED, *_keys("prompting", "templates", "scorings"), *_CHOSEN)
            ),
            GENERATION: Inputs(_LM, (*ASKED, "translation_prompting", *JUDGED)),
        },
        choose_prompting,
        build_prompting,
    ),
}


def methods_of(skill: str) -> dict[str, MethodRow]:
    """The methods that have a skill, by name."""
    return {name: row for name, row in METHODS.items() if skill in row.skills}


def find_method(text: str, skill: str) -> tuple[MethodRow, str]:
    """Read a method's line in the config: its row and what follows the name.

    Raises:
        SettingsError: No method of that name has the skill, or its folder is missing or one
            too much.
    """
    table = methods_of(skill)
    name, _, argument = text.partition(" ")
    if name not in table:
        raise SettingsError(
            f"cannot compare the method '{text}': one of {', '.join(table)} is needed; change "
            "`comparison.methods`"
        )
    if table[name].folder != bool(argument):
        wanted = (
            "the folder of a meta-model behind it" if table[name].folder else "nothing behind it"
        )
        raise SettingsError(
            f"cannot compare the method '{text}': '{name}' and {wanted} are needed; change "
            "`comparison.methods`"
        )
    return table[name], argument


def group_of(plan: ComparisonSettings, name: str, row: MethodRow, argument: str) -> str:
    """A joint start that is adapted just as ours is, with n-grams or without, is its rival."""
    ours = "" if plan.ours is None else plan.methods[plan.ours]
    way, _, start = ours.partition(" ")
    alike = row.folder and plan.methods[name] == f"{way} {argument}" and argument != start
    if alike and trained_by(find_model(argument)[1].provenance) == "joint":
        return "rival"
    return row.group
