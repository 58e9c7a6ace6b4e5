"""The floors of the house: a file imports lower floors and earlier files of its own folder.

Every import statement of the package is read, those inside functions and those for type
checkers too. Whoever adds a file gives it a place in the tables below.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "nlp_meta"

FLOORS = {
    "errors": 0,
    "data": 1,
    "encoders": 2,
    "objectives": 3,
    "meta": 4,
    "baselines": 5,
    "prompting": 5,
    "evaluation": 6,
    "hub": 6,
    "report": 7,  # reads what evaluation/ wrote, and nothing else
    "settings": 7,
    "generation_settings": 7,
    "quiet": 7,
    "console": 7,
    "ticker": 7,
    "long_texts": 7,
    "adapting": 7,
    "companion": 7,
    "adapted_model": 7,
    "provenance": 7,
    "pushing": 7,
    "models": 7,
    "mining": 7,
    "pair_adapting": 7,
    "alignment_start": 7,
    "alignment_model": 7,
    "aligning": 7,
    "writing": 7,
    "generation_adapting": 7,
    "translation_model": 7,
    "translating": 7,
    "launch": 7,
    "starting": 7,
    "training": 7,
    "diagnosing": 7,
    "replaying": 7,
    "forgetting": 7,
    "updating": 7,
    "mixed_training": 7,
    "small_corpus": 7,
    "small_building": 7,
    "small_model": 7,
    "small_card": 7,
    "generation_training": 7,
    "reading": 7,
    # Of the seventh floor too: folders, and a file, above the files beside them.
    "comparing": 8,
    "exporting": 8,
    "serving": 8,
    "quickstart": 9,
    "cli": 10,
    "__main__": 11,
}
TOP_FLOOR = 11  # the root

# Files in the order in which they may build on each other. Those of a folder that is not
# named here (a rival, an objective) know nothing of each other.
ORDER = {
    "": [
        "errors",
        "quiet",
        "settings",
        "generation_settings",
        "reading",
        "console",
        "ticker",
        "long_texts",
        "adapting",
        "companion",
        "mining",
        "pair_adapting",
        "adapted_model",
        "models",
        "alignment_start",
        "alignment_model",
        "aligning",
        "writing",
        "generation_adapting",
        "translation_model",
        "translating",
        "launch",
        "mixed_training",
        "starting",
        "provenance",
        "pushing",
        "training",
        "diagnosing",
        "replaying",
        "forgetting",
        "updating",
        "small_corpus",
        "small_building",
        "small_model",
        "small_card",
        "generation_training",
        "quickstart",
    ],
    "data": [
        "reuse",
        "overlap",
        "language_tags",
        "language_names",
        "near_duplicates",
        "front_matter",
        "card_parts",
        "cards",
        "sources",
        "tasks",
        "leak_search",
        "leaks",
        "labels",
        "entries",
        "tabbed",
        "tables",
        "placeholders",
        "memory_tables",
        "memory_po",
        "inline_tags",
        "memory_xml",
        "memory_tmx",
        "memory_xliff",
        "aligned_texts",
        "memory_writing",
        "memories",
        "memory_facts",
        "units",
        "documents",
        "episodes",
        "pairs",
        "mixing",
        "targets",
        "answers",
    ],
    "encoders": [
        "precision",
        "backbone",
        "languages",
        "vocabulary",
        "small_models",
        "seq2seq",
        "batching",
        "pair_batching",
        "embedding",
        "lora",
        "prefix",
        "overlap",
        "neighbors",
    ],
    "meta": [
        "step_sizes",
        "adaptation",
        "algorithms",
        "deviations",
        "validation",
        "checkpoints",
        "schedule",
        "progress",
        "meta_batch",
        "outer_loop",
        "selection",
        "diagnostics",
    ],
    "prompting": [
        "prompts",
        "translation_prompts",
        "answer_cache",
        "questions",
        "replies",
        "requesting",
        "asking",
        "endpoint",
        "language_model",
        "shared_prefix",
        "local_scoring",
        "scoring",
        "demonstrations",
        "evidence",
        "in_context",
        "decoding",
        "translating",
    ],
    "comparing": [
        "bench",
        "folds",
        "adapted",
        "frozen",
        "whole",
        "product",
        "language_models",
        "prompted",
        "prompted_translation",
        "methods",
        "fingerprints",
        "choices",
        "seen",
        "running",
        "pair_episodes",
        "pairs",
        "retrieving",
        "generating",
        "contests",
        "reporting",
        "recommending",
        "own_settings",
        "own_table",
        "own_pairs",
    ],
    "evaluation": [
        "metrics",
        "translation_metrics",
        "ranking_metrics",
        "kinds",
        "statistics",
        "judged",
        "resampling",
        "pairing",
        "break_even",
        "learning_curve",
        "protocol",
        "records",
        "results",
    ],
    "report": [
        "words",
        "verdict",
        "answer",
        "layout",
        "tables",
        "facts",
        "contents",
        "markdown",
        "outcomes",
        "palette",
        "examples",
        "panels",
        "plots",
        "pictures",
        "page",
    ],
    "hub": [
        "quiet",
        "readme",
        "model_files",
        "companions",
        "licenses",
        "data_facts",
        "comparisons",
        "card_sections",
        "model_cards",
        "refusals",
        "pulling",
        "records",
        "packaging",
        "bases",
        "staging",
        "destinations",
        "publish",
        "pushable",
        "checkpoints",
        "data_cards",
    ],
    "serving": [
        "domains",
        "passes",
        "pack",
        "limits",
        "batches",
        "jobs",
        "measures",
        "gate",
        "app",
        "server",
    ],
    "cli": [
        "screen",
        "files",
        "answering",
        "options",
        "translate_options",
        "comparison_options",
        "export_options",
        "update_options",
        "hub_options",
        "serving_options",
        "parser",
        "push",
        "adapt",
        "adapt_pairs",
        "predict",
        "translate",
        "evaluate",
        "evaluate_pairs",
        "align",
        "cards",
        "quickstart",
        "compare",
        "compare_pairs",
        "recommend",
        "export",
        "update",
        "serve",
    ],
    "exporting": ["merging", "graph", "ngrams", "parity", "runner", "onnx_export"],
}

# What a file or folder never imports, though its floor would allow it.
NEVER = {
    "nlp_meta": ["recipes"],
    "nlp_meta.data": ["torch"],
    "nlp_meta.encoders": ["nlp_meta.data.sources"],
    "nlp_meta.meta": ["nlp_meta.objectives"],
    "nlp_meta.baselines": ["nlp_meta.meta.outer_loop"],
    "nlp_meta.prompting": ["nlp_meta.meta", "nlp_meta.encoders.lora"],
    "nlp_meta.evaluation": [
        "nlp_meta.encoders",
        "nlp_meta.objectives",
        "nlp_meta.meta",
        "nlp_meta.baselines",
        "nlp_meta.prompting",
    ],
    "nlp_meta.report": [
        "nlp_meta.data",
        "nlp_meta.encoders",
        "nlp_meta.objectives",
        "nlp_meta.meta",
        "nlp_meta.baselines",
        "nlp_meta.prompting",
        "nlp_meta.hub",
    ],
}

# What only these may import.
DOORS = {
    "accelerate": [
        "nlp_meta.meta.outer_loop",
        "nlp_meta.launch",
        "nlp_meta.pushing",
        "nlp_meta.training",
        "nlp_meta.updating",
        "nlp_meta.mixed_training",
        "nlp_meta.small_model",
        "nlp_meta.generation_training",
        "nlp_meta.quickstart",
    ],
    "peft": ["nlp_meta.encoders.lora", "nlp_meta.hub"],
    "fastapi": ["nlp_meta.serving", "nlp_meta.cli.serve"],
    "uvicorn": ["nlp_meta.serving"],
    "huggingface_hub": [
        "nlp_meta.data.sources",
        "nlp_meta.encoders.backbone",
        "nlp_meta.encoders.seq2seq",
        "nlp_meta.prompting",
        "nlp_meta.hub",
    ],
    # The floor of what users hold; everything below takes plain arguments.
    "nlp_meta.settings": [
        "nlp_meta.generation_settings",
        "nlp_meta.adapting",
        "nlp_meta.adapted_model",
        "nlp_meta.models",
        "nlp_meta.launch",
        "nlp_meta.starting",
        "nlp_meta.provenance",
        "nlp_meta.pushing",
        "nlp_meta.training",
        "nlp_meta.diagnosing",
        "nlp_meta.replaying",
        "nlp_meta.forgetting",
        "nlp_meta.updating",
        "nlp_meta.alignment_start",
        "nlp_meta.alignment_model",
        "nlp_meta.aligning",
        "nlp_meta.writing",
        "nlp_meta.generation_adapting",
        "nlp_meta.translation_model",
        "nlp_meta.translating",
        "nlp_meta.mixed_training",
        "nlp_meta.small_building",
        "nlp_meta.small_model",
        "nlp_meta.small_card",
        "nlp_meta.generation_training",
        "nlp_meta.comparing",
        "nlp_meta.serving",
        "nlp_meta.reading",
        "nlp_meta.console",
        "nlp_meta.quickstart",
        "nlp_meta.cli",
    ],
}


class Place(NamedTuple):
    floor: int
    folder: str  # empty for a file beside the folders
    rank: int | None  # among the files of its folder; None where they stand alone


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
VERSION = "nlp_meta.__version__"
KNOWN = {VERSION, *MODULES, *(f"nlp_meta.{name}" for name in FLOORS)} | {
    ".".join(filter(None, ("nlp_meta", folder, file)))
    for folder, order in ORDER.items()
    for file in order
}


def within(module: str, names: list[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def place_of(module: str) -> Place:
    """Look a file up in the tables; the root and a folder's own file come after all others."""
    parts = module.split(".")[1:]
    if not parts:
        return Place(TOP_FLOOR, "", 0)
    name = parts[0]
    assert name in FLOORS, f"{module} has no floor: give '{name}' one in FLOORS"
    if name in ORDER[""]:
        return Place(FLOORS[name], "", ORDER[""].index(name))
    order = ORDER.get(name)
    if len(parts) == 1:
        return Place(FLOORS[name], name, 99)
    if order is None:
        return Place(FLOORS[name], name, None)
    assert parts[1] in order, f"{module} has no place: give '{parts[1]}' one in ORDER['{name}']"
    return Place(FLOORS[name], name, order.index(parts[1]))


def read_imports(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of each thing that a file imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports by a relative name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield node.lineno, whole if whole in KNOWN else str(node.module)


def may_import(module: str, target: str) -> bool:
    below, here = place_of(target), place_of(module)
    if (below.floor, below.folder) != (here.floor, here.folder):
        return below.floor < here.floor
    if here.rank is None or below.rank is None:
        return below.rank is None and here.rank is not None
    return below.rank < here.rank


def find_breaches(module: str, source: str) -> list[str]:
    breaches = []
    for line, target in read_imports(module, source):
        if target == VERSION:
            continue  # plain text, for `--version` and the headers of files
        for name, never in NEVER.items():
            if within(module, [name]) and within(target, never):
                breaches.append(f"{module}:{line} may never import {target}")
        for door, keepers in DOORS.items():
            if within(target, [door]) and module != "nlp_meta" and not within(module, keepers):
                breaches.append(f"{module}:{line} imports {target}, which only {keepers} may")
        if within(target, ["nlp_meta"]) and not may_import(module, target):
            breaches.append(f"{module}:{line} imports {target}, which is not below it")
        if module == "nlp_meta.errors":
            breaches.append(f"{module}:{line} imports {target}; floor 0 imports nothing")
    return breaches


@pytest.mark.parametrize("module", MODULES)
def test_file_has_a_place_and_imports_only_what_is_below_it(module):
    place_of(module)

    assert find_breaches(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("nlp_meta.errors", "import os"),
        ("nlp_meta.data.cards", "from nlp_meta.data.tasks import Task"),
        ("nlp_meta.data.cards", "from nlp_meta.data import tasks"),
        ("nlp_meta.data.cards", "import nlp_meta.encoders.backbone"),
        ("nlp_meta.data.episodes", "def draw():\n    from torch import nn"),
        ("nlp_meta.encoders.prefix", "from nlp_meta.data.sources import read_rows"),
        ("nlp_meta.encoders.prefix", "import peft.tuners"),
        ("nlp_meta.objectives.retrieval", "from nlp_meta.objectives import classification"),
        ("nlp_meta.meta.adaptation", "from nlp_meta.objectives.classification import loss"),
        ("nlp_meta.meta.checkpoints", "import accelerate"),
        ("nlp_meta.meta.outer_loop", "from huggingface_hub import hf_hub_download"),
        ("nlp_meta.baselines.memory", "from nlp_meta.meta.outer_loop import meta_train"),
        ("nlp_meta.evaluation.protocol", "from nlp_meta.baselines import linear_probe"),
        ("nlp_meta.evaluation.protocol", "from nlp_meta.hub.packaging import save"),
        ("nlp_meta.hub.packaging", "from nlp_meta.evaluation.metrics import accuracy"),
        ("nlp_meta.hub.packaging", "from nlp_meta.settings import MetaTraining"),
        ("nlp_meta.models", "from nlp_meta.cli import main"),
        ("nlp_meta.models", "from nlp_meta import MetaModel"),
        ("nlp_meta.models", "import recipes.meta_train"),
    ],
)
def test_import_that_goes_up_or_through_a_wall_is_found(module, line):
    """One line each that breaks a rule of the architecture page."""
    assert len(find_breaches(module, line)) >= 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("nlp_meta.data.answers", "from nlp_meta.data.episodes import Episode"),
        ("nlp_meta.encoders.lora", "from peft import LoraConfig"),
        ("nlp_meta.meta.outer_loop", "from accelerate import Accelerator"),
        ("nlp_meta.baselines.memory", "from nlp_meta.objectives.classification import loss"),
        ("nlp_meta.evaluation.protocol", "from nlp_meta.data.episodes import Episode"),
        ("nlp_meta.models", "from nlp_meta.settings import MetaTraining"),
        ("nlp_meta.cli", "from nlp_meta import __version__, models"),
        ("nlp_meta", "from nlp_meta import models"),
    ],
)
def test_import_that_goes_down_is_let_through(module, line):
    assert find_breaches(module, line) == []


def test_new_file_in_an_unknown_folder_has_no_floor():
    with pytest.raises(AssertionError, match="has no floor"):
        place_of("nlp_meta.utils.misc")
