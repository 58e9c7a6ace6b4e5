"""Reading settings: a YAML file and overrides on the command line, into dataclasses.

Unknown keys, missing keys and wrong types stop the run.
"""

import contextlib
import dataclasses
import difflib
import io
import itertools
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from rich.console import Console

from nlp_meta.errors import NlpMetaError, SettingsError
from nlp_meta.progress import quiet_libraries

Settings = TypeVar("Settings")
Chosen = TypeVar("Chosen")
INTERRUPTED = 130
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+|[+-]?\d+[eE][+-]?\d+")


def read_settings(kind: type[Settings], arguments: Sequence[str]) -> Settings:
    """Read `--config FILE` and `--section.key value` overrides into a settings dataclass.

    `--resume` is short for `--run.resume true`, and the Hub's own options, `--push-to-hub`,
    `--hub-model-id NAME` and the others, for the keys of the section `hub`.

    Raises:
        SettingsError: A key is unknown or missing, or a value is of the wrong type.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False, default_env=False)
    parser.add_argument("--config", action="config", help="YAML file with every setting of the run")
    parser.add_class_arguments(kind, None, fail_untyped=True)
    words = [_in_full(word) for word in arguments]
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


def choose_by_section(table: Mapping[str, Chosen], arguments: Sequence[str]) -> Chosen:
    """Find what a config is for: the first of a table whose section it has.

    Args:
        table: By the name of a section that no other kind of config has.

    Raises:
        SettingsError: No config, or one without any of these sections.
    """
    for path in _config_paths(arguments):
        values = _read_config(path)
        for section, chosen in table.items():
            if section in values:
                return chosen
    sections = ", ".join(f"`{section}`" for section in table)
    raise SettingsError(
        f"cannot tell what to run: a config with one of the sections {sections} is needed; name "
        "one of recipes/configs with `--config`"
    )


def _in_full(word: str) -> str:
    """Write a short option with its section."""
    if word in ("--resume", "--push-to-hub"):
        return {"--resume": "--run.resume=true"}.get(word, "--hub.push_to_hub=true")
    if not word.startswith("--hub-"):
        return word
    name, sign, value = word.removeprefix("--").partition("=")
    return f"--hub.{name.replace('-', '_')}{sign}{value}"


def _config_paths(words: Sequence[str]) -> list[Path]:
    paths = [word.partition("=")[2] for word in words if word.startswith("--config=")]
    paths += [value for word, value in itertools.pairwise(words) if word == "--config"]
    return [Path(path) for path in paths]


def _check_config(path: Path, kind: type) -> None:
    _check_section(path, _read_config(path), kind, prefix="")


def _read_config(path: Path) -> dict[str, Any]:
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
    return values


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


def run_recipe(
    main: Callable[[Settings], int], kind: type[Settings] | Mapping[str, type[Settings]]
) -> None:
    """Read the settings, run, and leave: 0 done, 2 for an error, 130 when interrupted.

    Args:
        kind: Of the settings; of several the one whose section the config has.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("httpx", "accelerate", "absl"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with quiet_libraries():
            words = sys.argv[1:]
            wanted = choose_by_section(kind, words) if isinstance(kind, Mapping) else kind
            code = main(read_settings(wanted, words))
    except NlpMetaError as error:
        code = _stop(str(error))
    except OSError as error:
        name = f" '{error.filename}'" if error.filename else ""
        code = _stop(
            f"cannot write{name}: {error.strerror}; a folder with room that this user may write "
            "to is needed; change `run.output_dir`"
        )
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _stop(message: str) -> int:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"error: {message}", markup=False)
    return 2
