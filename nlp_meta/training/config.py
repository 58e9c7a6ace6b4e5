"""Reading configs: a YAML file and overrides on the command line, into a settings dataclass.

Unknown keys, missing keys and wrong types stop the run. `--help` explains every key.
"""

import dataclasses
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from rich.console import Console

from nlp_meta.data.schema import YamlError, read_strict, read_yaml
from nlp_meta.errors import NlpMetaError, SettingsError
from nlp_meta.escapes import one_line
from nlp_meta.progress import quiet_libraries

Settings = TypeVar("Settings")
Forms = Mapping[str, type[Any]]
"""Settings dataclasses by a skill that a config names, or by a section that it has."""
INTERRUPTED = 130
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
_SHORT = {"--resume": "run.resume", "--replace": "run.replace", "--push-to-hub": "hub.push_to_hub"}


def read_settings(form: type[Settings], arguments: Sequence[str]) -> Settings:
    """Read `--config FILE` and `--section.key value` overrides into a settings dataclass.

    `--resume` and `--replace` are short for `--run.resume true` and `--run.replace true`, and the
    Hub's own options, `--push-to-hub`, `--hub-model-id NAME` and the others, for the keys of the
    section `hub`.

    Raises:
        SettingsError: A key is unknown or missing, or a value is of the wrong type.
    """
    path, overrides = _split(arguments)
    values = _read_config(path)
    for name, word in overrides:
        _override(values, form, name, word)
    changed = " with what the command line changes" if overrides else ""
    return read_strict(form, values, where=f"the config '{path}'{changed}", error=SettingsError)


def choose_form(forms: Forms, arguments: Sequence[str]) -> type[Any]:
    """Find what a config is for, by its skills or by a section that no other has.

    Raises:
        SettingsError: No config, or one without any of these.
    """
    path, _ = _split(arguments)
    values = _read_config(path)
    skills = values.get("skills")
    for name, form in forms.items():
        if name in values or (isinstance(skills, list) and name in skills):
            return form
    raise SettingsError(
        f"cannot tell what to run from '{path}': `skills` with one of {', '.join(forms)} is "
        "needed; start from one that `nlp-meta train --list` shows"
    )


def explain_sections(form: type[Any]) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Give each section of a config: its name, what it is, and what its keys mean.

    The keys that stand in no section come first, under an empty name.
    """
    hints = get_type_hints(form)
    plain = [name for name, hint in hints.items() if not _sections_in(hint)]
    yield "", _summary(form), {name: _explain(form).get(name, "") for name in plain}
    for name, hint in hints.items():
        for section in _sections_in(hint):
            yield name, _summary(section), _explain(section)


def describe_settings(form: type[Any]) -> str:
    """Every key of a config with what it means, section by section."""
    lines: list[str] = []
    for name, summary, explained in explain_sections(form):
        lines += ["", f"{name}:  {summary}"] if name else [summary, ""]
        width, indent = max(map(len, explained), default=0), "  " if name else ""
        lines += [f"{indent}{key:<{width}}  {meaning}" for key, meaning in explained.items()]
    return "\n".join(lines)


def shipped_configs() -> dict[str, Path]:
    """The configs of the recipes by name: inside the installed package, else in a checkout."""
    package = Path(__file__).resolve().parents[1]
    folders = (package / "configs", package.parent / "recipes" / "configs")
    paths = [path for folder in folders for path in sorted(folder.glob("*.yaml"))]
    return {path.stem: path for path in paths}


def start_logging() -> None:
    """Show what a run logs on standard error, and warnings alone of other libraries."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("httpx", "accelerate", "absl"):
        logging.getLogger(name).setLevel(logging.WARNING)


def run_recipe(main: Callable[[Any], int], forms: type[Any] | Forms) -> None:
    """Read the settings, run, and leave: 0 done, 2 for an error, 130 when interrupted.

    Args:
        forms: Of the settings; of several the one that the config's skills or sections name.
    """
    start_logging()
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        sys.exit(_show_help(forms))
    try:
        with quiet_libraries():
            form = choose_form(forms, words) if isinstance(forms, Mapping) else forms
            code = main(read_settings(form, words))
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


def _split(arguments: Sequence[str]) -> tuple[Path, list[tuple[str, str]]]:
    """The config's path, and overrides as names and words."""
    path: Path | None = None
    overrides: list[tuple[str, str]] = []
    words = iter(arguments)
    for word in words:
        name, sign, value = word.partition("=")
        if name in _SHORT and not sign:
            overrides.append((_SHORT[name], "true"))
            continue
        if not name.startswith("--") or len(name) < 3:
            raise SettingsError(
                f"cannot read '{word}' on the command line: options such as --config FILE and "
                "--inner.steps 5 are needed; take it out"
            )
        value = value if sign else next(words, "")
        if name == "--config":
            path = Path(value)
        else:
            overrides.append((_in_full(name.removeprefix("--")), value))
    if path is None:
        raise SettingsError(
            "cannot tell what to run: a config is needed; name a file, or one that `nlp-meta train "
            "--list` shows, with `--config`"
        )
    return path, overrides


def _in_full(name: str) -> str:
    """Write a Hub's own option with its section."""
    return f"hub.{name.replace('-', '_')}" if name.startswith("hub-") else name


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        path = shipped_configs().get(str(path), path)
    try:
        values = read_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, YamlError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"cannot read the config '{path}' ({reason}): a YAML file, or a name that `nlp-meta "
            "train --list` shows, is needed; change `--config`"
        ) from error
    if not isinstance(values, dict):
        raise SettingsError(
            f"cannot read the config '{path}': sections with keys are needed; "
            "start from one that `nlp-meta train --list` shows"
        )
    return values


def _override(values: dict[str, Any], form: type[Any], name: str, word: str) -> None:
    """Put a word of the command line into the place of a config that its name says."""
    *sections, key = name.split(".")
    hints = list(_hints(form, sections, key))
    for section in sections:
        inner = values.get(section)
        if not isinstance(inner, dict):
            raise SettingsError(
                f"cannot use the setting '{name}': there is no section '{section}' with keys; "
                f"one of {', '.join(values)} is needed; correct the name"
            )
        values = inner
    if key not in values and not hints:
        near = ", ".join(values)
        raise SettingsError(
            f"cannot use the setting '{name}': one of {near} is needed; correct the name"
        )
    values[key] = word if str in hints and type(None) not in hints else _parse(word, hints)


def _sections_in(hint: Any) -> list[type[Any]]:
    """The dataclasses among the types of a field."""
    variants = (hint, *get_args(hint))
    return [
        variant
        for variant in variants
        if isinstance(variant, type) and dataclasses.is_dataclass(variant)
    ]


def _hints(form: type[Any], sections: Sequence[str], key: str) -> Iterator[Any]:
    """Types that a key may have, each by itself; none where there is no such key."""
    forms: list[Any] = [form]
    for section in sections:
        inner = [get_type_hints(form).get(section) for form in forms]
        forms = [variant for hint in inner for variant in _sections_in(hint)]
    for form in forms:
        hint = get_type_hints(form).get(key)
        if hint is not None:
            yield from get_args(hint) if type(None) in get_args(hint) else [hint]


def _parse(word: str, hints: Sequence[Any]) -> object:
    """Read a word as YAML; texts stay as they are, and 1e-4 is a number here."""
    if _NUMBER.fullmatch(word):
        return float(word)
    try:
        value = read_yaml(word)
    except YamlError:
        return word
    return word if value is not None and str in hints else value


def _summary(form: type[Any]) -> str:
    return cleandoc(form.__doc__ or "").splitlines()[0]


def _explain(form: type[Any]) -> dict[str, str]:
    """Lines of a docstring's `Attributes`, by field."""
    _, _, block = cleandoc(form.__doc__ or "").partition("Attributes:\n")
    explained: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        field = re.match(r"    (\w+): (.*)", line)
        if field:
            name = field[1]
            explained[name] = field[2]
        elif name:
            explained[name] += f" {line.strip()}"
    return explained


def _show_help(forms: type[Any] | Forms) -> int:
    parts = [forms] if isinstance(forms, type) else list(dict.fromkeys(forms.values()))
    usage = (
        f"usage: {Path(sys.argv[0]).name} --config FILE [--section.key VALUE ...]\n\n"
        "Every key of a config, which is complete; an option changes one of them."
    )
    blocks = [usage, *(describe_settings(part) for part in parts)]
    Console(soft_wrap=True, highlight=False).print("\n\n".join(blocks), markup=False)
    return 0


def _stop(message: str) -> int:
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"error: {one_line(message)}", markup=False
    )
    return 2
