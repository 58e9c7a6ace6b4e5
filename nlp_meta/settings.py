"""The settings of a run: one dataclass a section, one YAML file a run.

Configs are complete: no field here has a default. Unknown keys, missing keys and wrong
types stop the run. Settings are read by recipes, the command line and `models.py`;
library functions take plain arguments.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import io
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from nlp_meta.errors import SettingsError


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
    """The episodes of training: examples per label, and how tasks are drawn."""

    shot: int
    query_shot: int
    sampling: str | float


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
class MetaTraining:
    """One run of `recipes/meta_train.py` or `recipes/multitask_train.py`."""

    data: DataSettings
    episode: EpisodeSettings
    model: ModelSettings
    inner: InnerSettings
    outer: OuterSettings
    adaptation: AdaptationSettings
    run: RunSettings


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """One run of `recipes/compare.py`: rivals on the same episodes of meta-test tasks."""

    labels: list[int]
    draws: int
    max_query: int | None
    methods: dict[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that `recipes/compare.py` reads."""

    data: DataSettings
    comparison: ComparisonSettings
    model: ModelSettings
    adaptation: AdaptationSettings
    run: RunSettings


Settings = TypeVar("Settings")
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+|[+-]?\d+[eE][+-]?\d+")


def read_settings(kind: type[Settings], arguments: Sequence[str]) -> Settings:
    """Read `--config FILE` and `--section.key value` overrides into a settings dataclass.

    `--resume` is short for `--run.resume true`.

    Raises:
        SettingsError: A key is unknown or missing, or a value is of the wrong type.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False, default_env=False)
    parser.add_argument("--config", action="config", help="YAML file with every setting of the run")
    parser.add_class_arguments(kind, None, fail_untyped=True)
    words = ["--run.resume=true" if word == "--resume" else word for word in arguments]
    for path in _config_paths(words):
        _check_config(path, kind)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            parsed = parser.parse_args(words)
            settings = parser.instantiate(parsed)
    except ArgumentError as error:
        raise SettingsError(_one_sentence(str(error))) from error
    del settings["config"]
    built: Settings = kind(**settings.as_dict()) if not isinstance(settings, kind) else settings
    return built


def fingerprint(settings: MetaTraining) -> str:
    """Hash of everything that decides a run's numbers; not where it is written or resumed."""
    values = asdict(settings)
    for name in ("output_dir", "resume", "num_processes", "report_to"):
        del values["run"][name]
    # A run is judged by the first rate and the most steps; the others are tried at its end.
    values["adaptation"]["steps"] = max(settings.adaptation.steps, default=0)
    values["adaptation"]["learning_rates"] = settings.adaptation.learning_rates[:1]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _config_paths(words: Sequence[str]) -> list[Path]:
    paths = [word.partition("=")[2] for word in words if word.startswith("--config=")]
    paths += [value for word, value in itertools.pairwise(words) if word == "--config"]
    return [Path(path) for path in paths]


def _check_config(path: Path, kind: type) -> None:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"cannot read the config '{path}' ({reason}): a YAML file is needed; change `--config`"
        ) from error
    if not isinstance(values, dict):
        raise SettingsError(
            f"cannot read the config '{path}': sections with keys are needed; "
            "start from a file in recipes/configs"
        )
    _check_section(path, values, kind, prefix="")


def _check_section(path: Path, values: dict[str, Any], kind: type[Any], *, prefix: str) -> None:
    """Names of keys, and numbers that YAML takes for text; types are jsonargparse's task."""
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    for key, value in values.items():
        name = prefix + str(key)
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"write '{near[0]}'" if near else "take it out"
            raise SettingsError(
                f"cannot use the setting '{name}' in '{path}': one of {', '.join(fields)} is "
                f"needed; {hint}"
            )
        inner = fields[key]
        if isinstance(value, dict) and isinstance(inner, type) and dataclasses.is_dataclass(inner):
            _check_section(path, value, inner, prefix=name + ".")
        else:
            _check_numbers(path, name, value)
    missing = [prefix + name for name in fields if name not in values]
    if missing:
        raise SettingsError(
            f"cannot run '{path}': the setting '{missing[0]}' is missing and configs must be "
            "complete; add it"
        )


def _check_numbers(path: Path, name: str, value: object) -> None:
    found = list(value.values()) if isinstance(value, dict) else value
    for item in found if isinstance(found, list) else [found]:
        if isinstance(item, str) and NUMBER.fullmatch(item):
            raise SettingsError(
                f"cannot use '{item}' for the setting '{name}' in '{path}': YAML reads it as text "
                f"and a number is needed; write {float(item)!r} or {_with_point(item)}"
            )


def _with_point(number: str) -> str:
    mantissa, exponent = re.split("[eE]", number)
    mantissa = mantissa if "." in mantissa else mantissa + ".0"
    sign = "" if exponent[0] in "+-" else "+"
    return f"{mantissa}e{sign}{exponent}"


def _one_sentence(message: str) -> str:
    lines = [line.strip(" .-") for line in message.splitlines() if line.strip()]
    return (
        f"cannot read the settings ({'; '.join(lines[:3])}): every key of the config with a value "
        "of its type is needed; mend it there or on the command line"
    )
