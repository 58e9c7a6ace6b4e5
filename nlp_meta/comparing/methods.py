"""The table of methods: a name for each kind, how it chooses, and how it is built.

A config writes a method as `kind` or `kind folder`; the folder holds its meta-model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nlp_meta.comparing.bench import Method, trained_by
from nlp_meta.comparing.encoders import (
    build_full,
    build_memory,
    build_ngrams,
    build_probe,
    build_prototypes,
    build_setfit,
    choose_full,
)
from nlp_meta.comparing.prompted import build_prompting, choose_prompting
from nlp_meta.comparing.starts import (
    build_adapt,
    build_hybrid,
    build_lora,
    build_start,
    choose_lora,
    choose_start,
)
from nlp_meta.errors import SettingsError
from nlp_meta.hub.pull import ADAPTER, COMPANION_WEIGHTS, HEAD, RECORD
from nlp_meta.hub.records import find_any_model
from nlp_meta.settings import ComparisonSettings

Choose = Callable[[Any, str], dict[str, object]]
Build = Callable[[Any, str, Mapping[str, object]], Method]
"""The bench of the comparison comes first, then what follows the kind in the config."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of method.

    Attributes:
        group: `ours` or `rival`.
        reads: What of a text it sees.
        settings: Sections of the config, or keys of one, that decide its answers.
        choose: What it has to choose before it meets a support set, JSON-able; slow.
        folder: Whether a meta-model's folder follows its name.
        files: Of that folder, what decides its answers.
    """

    title: str
    group: str
    reads: str
    settings: tuple[str, ...]
    choose: Choose
    build: Build
    folder: bool = False
    files: tuple[str, ...] = (ADAPTER, HEAD)


def no_choice(bench: object, argument: str) -> dict[str, object]:
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

_ENCODER, _TEXT = "the adapted encoder", "the text's characters"
_FROZEN = "the frozen encoder's mean-pooled states"
_LM = "a causal language model"
_PRODUCT = (ADAPTER, HEAD, RECORD, COMPANION_WEIGHTS)
_FITTED = ("rivals.regularization", "rivals.folds")
_SCALED = ("rivals.scalings", "rivals.temperatures")
_ADAPTED = (*ADAPTED, "rivals.folds")
_FULL = _keys("rivals", "full_steps", "full_learning_rates", "full_batch_size")
_CHOSEN = (*JUDGED, "adaptation.metric")
_PROMPTS = _keys("prompting", "templates", "scorings")

KINDS: Mapping[str, Kind] = {
    "start": Kind(
        "a meta-model, fine-tuned",
        "ours",
        _ENCODER,
        _ADAPTED,
        choose_start,
        build_start,
        folder=True,
    ),
    "joint": Kind(
        "joint training, then fine-tuning",
        "rival",
        _ENCODER,
        _ADAPTED,
        choose_start,
        build_start,
        folder=True,
    ),
    "adapt": Kind(
        "a meta-model as `nlp-meta adapt` adapts it, without companion",
        "ours",
        _ENCODER,
        (),
        no_choice,
        build_adapt,
        folder=True,
        files=_PRODUCT,
    ),
    "hybrid": Kind(
        "a meta-model as `nlp-meta adapt` adapts it, with its n-gram companion",
        "ours",
        f"{_ENCODER} and {_TEXT}",
        (),
        no_choice,
        build_hybrid,
        folder=True,
        files=_PRODUCT,
    ),
    "lora": Kind("plain LoRA", "rival", _ENCODER, ("model", *_ADAPTED), choose_lora, build_lora),
    "full": Kind(
        "full fine-tuning",
        "rival",
        _ENCODER,
        ("model", *_CHOSEN, *_FULL),
        choose_full,
        build_full,
    ),
    "linear_probe": Kind(
        "linear probe", "rival", _FROZEN, ("model", *_FITTED), no_choice, build_probe
    ),
    "prototypes": Kind(
        "prototypes", "rival", _FROZEN, ("model", *_SCALED), no_choice, build_prototypes
    ),
    "memory": Kind(
        "memory of the support set",
        "rival",
        _FROZEN,
        ("model", "rivals.temperatures"),
        no_choice,
        build_memory,
    ),
    "ngrams": Kind("TF-IDF of character n-grams", "rival", _TEXT, _FITTED, no_choice, build_ngrams),
    "setfit": Kind(
        "SetFit", "rival", _ENCODER, ("model", "rivals.setfit_pairs"), no_choice, build_setfit
    ),
    "prompting": Kind(
        "in-context prompting",
        "rival",
        _LM,
        (*ASKED, *_PROMPTS, *_CHOSEN),
        choose_prompting,
        build_prompting,
    ),
}


def find_kind(text: str, kinds: Mapping[str, Kind] | None = None) -> tuple[Kind, str]:
    """Read a method's line in the config: its kind and what follows.

    Args:
        kinds: Table of another comparison than that of labels.

    Raises:
        SettingsError: There is no such kind, or its folder is missing or one too much.
    """
    table = KINDS if kinds is None else kinds
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


def group_of(plan: ComparisonSettings, name: str, kind: Kind, argument: str) -> str:
    """A joint start that is adapted just as ours is, with n-grams or without, is its rival."""
    ours = "" if plan.ours is None else plan.methods[plan.ours]
    way, _, start = ours.partition(" ")
    alike = kind.folder and plan.methods[name] == f"{way} {argument}" and argument != start
    if alike and trained_by(find_any_model(argument)[1].provenance) == "joint":
        return "rival"
    return kind.group
