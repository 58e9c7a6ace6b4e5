"""The style page, as far as a program can read it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LIBRARY = sorted((REPOSITORY / "nlp_meta").rglob("*.py"))
RECIPES = sorted((REPOSITORY / "recipes").rglob("*.py"))
FILE_LINES, FUNCTION_LINES, RECIPE_LINES = 300, 40, 99
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

    assert count_lines(path) <= FILE_LINES
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
