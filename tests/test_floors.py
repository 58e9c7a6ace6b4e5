"""The floors of the house: a file imports files of its folder and of folders below its own.

Every import statement of the package is read, those inside functions and those for type
checkers too. A new folder gets a place in the table below; a new file of a folder needs none.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "nlp_meta"

FLOORS = (
    ("errors", "escapes", "settings", "progress"),
    ("tables",),
    ("data",),
    ("files",),
    ("encoders",),
    ("objectives",),
    ("meta",),
    ("evaluation",),
    ("report", "hub"),
    ("models",),
    ("rivals", "prompting"),
    ("training",),
    ("comparing",),
    ("serving", "exporting", "sklearn"),
    ("app",),
    ("cli",),
    ("__main__", "train", ""),
)
"""From the ground up; the last is the face of the package, its root."""

ROOT = {
    "__init__.py",
    "__main__.py",
    "errors.py",
    "escapes.py",
    "settings.py",
    "progress.py",
    "py.typed",
    "sklearn.py",
    "train.py",
}

CORE = ("data", "encoders", "objectives", "meta", "models")
"""Read to understand the package, without `data.sources` and `data.leaks`."""

CORE_DOORS = {
    "nlp_meta.evaluation.metrics",  # of held-out translations
    "nlp_meta.files.locks",
    "nlp_meta.files.outputs",
    "nlp_meta.hub.model",
    "nlp_meta.hub.pull",
    "nlp_meta.hub.records",
    "nlp_meta.hub.storage",
}
"""All that the core imports of the wings."""

LEAKS = "nlp_meta.data.leaks"

APART = ("objectives", "rivals")
"""Folders whose files know nothing of each other."""

_ABOVE_ENCODERS = ["nlp_meta.encoders", "nlp_meta.objectives", "nlp_meta.meta", "nlp_meta.rivals"]

# What a file or folder never imports, though its floor would allow it.
NEVER = {
    "nlp_meta": ["recipes"],
    "nlp_meta.data": ["torch"],
    "nlp_meta.files": ["torch"],
    "nlp_meta.encoders": ["nlp_meta.data.sources"],
    "nlp_meta.meta": ["nlp_meta.objectives", "peft"],
    "nlp_meta.rivals": ["nlp_meta.meta.outer_loop", "nlp_meta.training"],
    "nlp_meta.prompting": ["nlp_meta.meta", "nlp_meta.encoders.lora", "nlp_meta.training"],
    "nlp_meta.evaluation": _ABOVE_ENCODERS,
    "nlp_meta.hub": ["nlp_meta.evaluation"],
    "nlp_meta.report": [*_ABOVE_ENCODERS, "nlp_meta.data", "nlp_meta.hub"],
}

# What only these may import.
DOORS = {
    "accelerate": ["nlp_meta.meta.outer_loop", "nlp_meta.training"],
    "peft": ["nlp_meta.encoders.lora", "nlp_meta.hub"],
    "fastapi": ["nlp_meta.serving", "nlp_meta.app", "nlp_meta.cli.serve"],
    "uvicorn": ["nlp_meta.serving"],
    "huggingface_hub": [
        "nlp_meta.data.session",
        "nlp_meta.data.sources",
        "nlp_meta.encoders.backbone",
        "nlp_meta.prompting",
        "nlp_meta.hub",
        "nlp_meta.training.pushes",
    ],
    # The floor of what users hold; everything below takes plain arguments.
    "nlp_meta.settings": [
        "nlp_meta.models",
        "nlp_meta.training",
        "nlp_meta.comparing",
        "nlp_meta.serving",
        "nlp_meta.cli",
    ],
}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def within(module: str, names: list[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def folder_of(module: str) -> str:
    """Name of the folder, or of the file beside the folders; nothing for the root."""
    return (*module.split("."), "")[1]


def floor_of(module: str) -> int:
    """Look a file up in the table."""
    folder = folder_of(module)
    floors = [place for place, names in enumerate(FLOORS) if folder in names]
    assert floors, f"{module} has no floor: give '{folder}' one in FLOORS"
    return floors[0]


def read_imports(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of each thing that a file imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports by a relative name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield node.lineno, whole if whole in MODULES else str(node.module)


def may_import(module: str, target: str) -> bool:
    here, there = folder_of(module), folder_of(target)
    if here == there:
        return here not in APART or target == f"nlp_meta.{there}"
    return floor_of(target) < floor_of(module)


def find_breaches(module: str, source: str) -> list[str]:
    breaches = []
    for line, target in read_imports(module, source):
        if target == "nlp_meta" and "__version__" in source:
            continue  # plain text, for `--version` and the headers of files
        for name, never in NEVER.items():
            if within(module, [name]) and within(target, never):
                breaches.append(f"{module}:{line} may never import {target}")
        for door, keepers in DOORS.items():
            if within(target, [door]) and module != "nlp_meta" and not within(module, keepers):
                breaches.append(f"{module}:{line} imports {target}, which only {keepers} may")
        if within(target, ["nlp_meta"]) and not may_import(module, target):
            breaches.append(f"{module}:{line} imports {target}, which is not below it")
        if floor_of(module) == 0 and within(target, ["nlp_meta", "torch"]):
            breaches.append(f"{module}:{line} imports {target}; the ground imports nothing of ours")
    return breaches


def find_circle(imports: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, in order; none where there is no circle."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        for target in sorted(imports.get(module, ())):
            if circle := walk(target, [*path, module]):
                return circle
        done.add(module)
        return []

    return next(filter(None, (walk(module, []) for module in imports)), [])


@pytest.mark.parametrize("module", MODULES)
def test_file_imports_only_what_is_below_it(module):
    assert find_breaches(module, MODULES[module].read_text(encoding="utf-8")) == []


def test_no_file_imports_itself_in_a_circle():
    imports = {
        module: {target for _, target in read_imports(module, path.read_text(encoding="utf-8"))}
        for module, path in MODULES.items()
        if module != "nlp_meta"
    }
    known = {module: targets & imports.keys() - {module} for module, targets in imports.items()}

    assert find_circle(known) == []


def test_the_core_imports_no_wing_but_through_its_doors():
    ground = {*FLOORS[0], *FLOORS[1], *CORE, ""}
    wings = {
        target
        for module, path in MODULES.items()
        if folder_of(module) in CORE
        for _, target in read_imports(module, path.read_text(encoding="utf-8"))
        if target in MODULES and (folder_of(target) not in ground or target == LEAKS)
    }

    assert wings == CORE_DOORS


def test_circle_of_three_is_found():
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_root_holds_its_face_and_the_ground_alone():
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == ROOT


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("nlp_meta.errors", "import nlp_meta.settings"),
        ("nlp_meta.data.cards", "import nlp_meta.encoders.backbone"),
        ("nlp_meta.data.episodes", "def draw():\n    from torch import nn"),
        ("nlp_meta.encoders.prefix", "from nlp_meta.data.sources import read_rows"),
        ("nlp_meta.encoders.prefix", "import peft.tuners"),
        ("nlp_meta.objectives.retrieval", "from nlp_meta.objectives import classification"),
        ("nlp_meta.meta.inner_loop", "from nlp_meta.objectives.classification import loss"),
        ("nlp_meta.meta.state", "import accelerate"),
        ("nlp_meta.meta.outer_loop", "from huggingface_hub import hf_hub_download"),
        ("nlp_meta.rivals.memory", "from nlp_meta.meta.outer_loop import meta_train"),
        ("nlp_meta.rivals.memory", "from nlp_meta.rivals.characters import ngrams"),
        ("nlp_meta.evaluation.protocol", "from nlp_meta.rivals import linear_probe"),
        ("nlp_meta.evaluation.protocol", "from nlp_meta.hub.storage import save"),
        ("nlp_meta.hub.storage", "from nlp_meta.evaluation.metrics import accuracy"),
        ("nlp_meta.hub.storage", "from nlp_meta.settings import MetaTraining"),
        ("nlp_meta.models.meta_model", "from nlp_meta.rivals.characters import ngrams"),
        ("nlp_meta.models.meta_model", "from nlp_meta.cli import main"),
        ("nlp_meta.models.meta_model", "from nlp_meta import MetaModel"),
        ("nlp_meta.models.meta_model", "import recipes.meta_train"),
    ],
)
def test_import_that_goes_up_or_through_a_wall_is_found(module, line):
    """One line each that breaks a rule of the architecture page."""
    assert len(find_breaches(module, line)) >= 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("nlp_meta.data.cards", "from nlp_meta.data.languages import parse_tag"),
        ("nlp_meta.encoders.lora", "from peft import LoraConfig"),
        ("nlp_meta.meta.outer_loop", "from accelerate import Accelerator"),
        ("nlp_meta.rivals.memory", "from nlp_meta.objectives.classification import loss"),
        ("nlp_meta.evaluation.protocol", "from nlp_meta.data.episodes import Episode"),
        ("nlp_meta.models.meta_model", "from nlp_meta.settings import MetaTraining"),
        ("nlp_meta.cli", "from nlp_meta import __version__, models"),
        ("nlp_meta", "from nlp_meta import models"),
    ],
)
def test_import_that_goes_down_is_let_through(module, line):
    assert find_breaches(module, line) == []


def test_new_file_in_an_unknown_folder_has_no_floor():
    with pytest.raises(AssertionError, match="has no floor"):
        floor_of("nlp_meta.utils.misc")
