"""The style page, as far as a program can read it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from nlp_meta import settings

REPOSITORY = Path(__file__).resolve().parents[1]
LIBRARY = sorted((REPOSITORY / "nlp_meta").rglob("*.py"))
RECIPES = sorted((REPOSITORY / "recipes").rglob("*.py"))
FILE_LINES, FUNCTION_LINES, RECIPE_LINES = 650, 40, 99
TOO_LONG_YET = {"nlp_meta/models/generation.py": 676}
COMMAND_LINE = "cli"

# Reading any of these can run code that came with the data.
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"torch.load", "yaml.load", "yaml.unsafe_load", "eval", "exec"}


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def walk(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def count_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` on; a docstring is for the reader and does nothing."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is None:
        return lines
    docstring = node.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_library_file_keeps_the_ceilings(path):
    long = [
        f"{path.name}:{node.lineno} {node.name} has {count_function(node)} lines"
        for node in walk(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and count_function(node) > FUNCTION_LINES
    ]

    assert count_lines(path) <= TOO_LONG_YET.get(name_of(path), FILE_LINES)
    assert long == []


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_recipe_is_under_100_lines_and_has_no_class(path):
    assert count_lines(path) <= RECIPE_LINES
    assert [node.name for node in walk(path) if isinstance(node, ast.ClassDef)] == []


def test_functions_are_counted_without_their_docstrings():
    """By hand: `def`, one statement and a return are three lines, the docstring two more."""
    source = 'def f():\n    """Say\n    it."""\n    x = 1\n    return x\n'
    function = ast.parse(source).body[0]

    assert isinstance(function, ast.FunctionDef)
    assert count_function(function) == 3


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_only_the_command_line_prints(path):
    if path.relative_to(REPOSITORY / "nlp_meta").parts[0].partition(".")[0] == COMMAND_LINE:
        return
    prints = [
        node.lineno
        for node in walk(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]

    assert prints == []


@pytest.mark.parametrize("path", LIBRARY + RECIPES, ids=name_of)
def test_nothing_is_unpickled_and_no_remote_code_runs(path):
    found = []
    for node in walk(path):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in UNSAFE_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in UNSAFE_MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE_CALLS:
            found.append(ast.unparse(node.func))
        elif "trust_remote_code" in (getattr(node, "arg", None), getattr(node, "value", None)):
            found.append("trust_remote_code")

    assert found == []


@pytest.mark.parametrize("path", LIBRARY + RECIPES, ids=name_of)
def test_no_error_is_swallowed_unseen(path):
    bare = [
        node.lineno
        for node in walk(path)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and all(isinstance(statement, ast.Pass) for statement in node.body)
    ]

    assert bare == []


# A key of data cards and a file, which are called as sections of the settings are.
NO_SETTINGS = {("hub", "filter"), ("run", "py")}


def sections() -> dict[str, set[str]]:
    """Keys of each section that the settings of any run have."""
    found: dict[str, set[str]] = {}
    for whole in vars(settings).values():
        if not is_dataclass(whole):
            continue
        for name, section in get_type_hints(whole).items():
            if is_dataclass(section):
                found.setdefault(name, set()).update(field.name for field in fields(section))
    return found


def named_settings(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Sections and keys that the texts of a file name in backticks; `{}` is filled in by code."""
    for node in ast.walk(tree):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        texts = [
            str(part.value)
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
            else "{}"
            for part in parts
        ]
        yield from re.findall(r"`(\w+)\.([\w{}]+)`", "".join(texts))


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_settings_that_texts_name_are_settings_that_there_are(path):
    known = sections()
    named = [
        pair
        for pair in named_settings(ast.parse(path.read_text(encoding="utf-8")))
        if pair[0] in known and pair not in NO_SETTINGS
    ]

    assert [
        f"{section}.{key}" for section, key in named if key not in known[section] | {"{}"}
    ] == []


def test_a_setting_that_is_none_is_found_in_a_text():
    """By hand: `model.head` and what code fills in are fine, `prompting.template` is none."""
    tree = ast.parse('f"{1} `prompting.template`" "or `model.head`", f"`outer.{name}`"')

    named = {("prompting", "template"), ("model", "head"), ("outer", "{}")}
    assert set(named_settings(tree)) == named
    assert "templates" in sections()["prompting"] and "template" not in sections()["prompting"]
