"""The style page, as far as a program can read it."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import get_type_hints

import nlp_meta
from nlp_meta import settings

REPOSITORY = Path(__file__).resolve().parents[1]
LIBRARY = sorted((REPOSITORY / "nlp_meta").rglob("*.py"))
RECIPES = sorted((REPOSITORY / "recipes").rglob("*.py"))
FILE_LINES, FUNCTION_LINES, RECIPE_LINES = 650, 40, 99
COMMAND_LINE = "cli"
FACES = ("nlp_meta/sklearn.py", "nlp_meta/evaluation/metrics.py")
"""Files whose names others write; `nlp_meta/__init__.py` lists its own."""

# Reading any of these can run code that came with the data.
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"torch.load", "yaml.load", "yaml.unsafe_load", "eval", "exec"}


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@cache
def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(read(path))))


def count_lines(path: Path) -> int:
    return len(read(path).splitlines())


def count_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` on; a docstring is for the reader and does nothing."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is None:
        return lines
    docstring = node.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def test_library_files_keep_their_ceiling():
    lines = {name_of(path): count_lines(path) for path in LIBRARY}

    assert {name for name, count in lines.items() if count > FILE_LINES} == set()


def test_functions_of_the_library_keep_their_ceiling():
    long = {
        f"{name_of(path)} {node.name}": count_function(node)
        for path in LIBRARY
        for node in nodes_of(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and count_function(node) > FUNCTION_LINES
    }

    assert long == {}


def test_files_of_the_library_are_named_by_nouns():
    """A folder may be called as its field is; in it, a file is a thing."""
    gerunds = {path.stem for path in LIBRARY if path.stem.endswith("ing")}

    assert sorted(gerunds) == []


def test_recipes_are_under_100_lines_and_have_no_class():
    """But for the parts of the benchmark, which one recipe calls."""
    recipes = [path for path in RECIPES if path.parent.name != "measures"]
    lines = {name_of(path): count_lines(path) for path in recipes}

    assert {name: count for name, count in lines.items() if count > RECIPE_LINES} == {}
    assert [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in recipes
        for node in nodes_of(path)
        if isinstance(node, ast.ClassDef)
    ] == []


def test_functions_are_counted_without_their_docstrings():
    """By hand: `def`, one statement and a return are three lines, the docstring two more."""
    source = 'def f():\n    """Say\n    it."""\n    x = 1\n    return x\n'
    function = ast.parse(source).body[0]

    assert isinstance(function, ast.FunctionDef)
    assert count_function(function) == 3


def test_only_the_command_line_prints():
    assert [
        f"{name_of(path)}:{node.lineno}"
        for path in LIBRARY
        if path.relative_to(REPOSITORY / "nlp_meta").parts[0] != COMMAND_LINE
        for node in nodes_of(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ] == []


def unsafe_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name in UNSAFE_MODULES]
    if isinstance(node, ast.ImportFrom):
        return [node.module] if node.module in UNSAFE_MODULES else []
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        return [called] if called in UNSAFE_CALLS else []
    if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
        return [] if ast.unparse(node.value) == "False" else ["trust_remote_code"]
    return []


def test_nothing_is_unpickled_and_no_remote_code_runs():
    assert [
        f"{name_of(path)} uses {name}"
        for path in LIBRARY + RECIPES
        for node in nodes_of(path)
        for name in unsafe_names(node)
    ] == []


def test_no_error_is_swallowed_unseen():
    assert [
        f"{name_of(path)}:{node.lineno}"
        for path in LIBRARY + RECIPES
        for node in nodes_of(path)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and all(isinstance(statement, ast.Pass) for statement in node.body)
    ] == []


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


def named_settings(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """Sections and keys that the texts of a file name in backticks; `{}` is filled in by code."""
    for node in nodes:
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        texts = [
            str(part.value)
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
            else "{}"
            for part in parts
        ]
        yield from re.findall(r"`(\w+)\.([\w{}]+)`", "".join(texts))


def test_settings_that_texts_name_are_settings_that_there_are():
    known = sections()

    assert [
        f"{name_of(path)} names {section}.{key}"
        for path in LIBRARY
        for section, key in named_settings(nodes_of(path))
        if section in known
        and (section, key) not in NO_SETTINGS
        and key not in known[section] | {"{}"}
    ] == []


def test_a_setting_that_is_none_is_found_in_a_text():
    """By hand: `model.head` and what code fills in are fine, `prompting.template` is none."""
    tree = ast.parse('f"{1} `prompting.template`" "or `model.head`", f"`outer.{name}`"')

    named = {("prompting", "template"), ("model", "head"), ("outer", "{}")}
    assert set(named_settings(ast.walk(tree))) == named
    assert "templates" in sections()["prompting"] and "template" not in sections()["prompting"]


def names_in(nodes: Iterable[ast.AST]) -> Counter[str]:
    """Names that code uses, also those of attributes; an import alone uses nothing."""
    return Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for node in nodes
        if isinstance(node, ast.Name | ast.Attribute)
    )


def public_definitions(path: Path) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in ast.parse(read(path)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def test_nothing_is_there_for_tests_alone():
    """A function or class that only its own code names serves nobody.

    Commands and what the package's face offers are found by their names.
    """
    used = sum((names_in(nodes_of(path)) for path in LIBRARY + RECIPES), Counter())

    assert [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in LIBRARY
        if path.parent.name != COMMAND_LINE and name_of(path) not in FACES
        for node in public_definitions(path)
        if node.name not in nlp_meta.__all__
        and used[node.name] == names_in(ast.walk(node))[node.name]
    ] == []


CORE = ("data", "encoders", "objectives", "meta", "models")
NOT_CORE = ("data/sources.py", "data/leaks.py")


def test_the_house_grows_no_larger():
    """Files, lines, lines of the core, files at the root: lower a ceiling when a number falls."""
    places = {path.relative_to(REPOSITORY / "nlp_meta").as_posix(): path for path in LIBRARY}
    core = [
        path
        for name, path in places.items()
        if name.partition("/")[0] in CORE and name not in NOT_CORE
    ]

    assert len(places) <= 199
    assert sum(map(count_lines, LIBRARY)) <= 53_840
    assert sum(map(count_lines, core)) <= 13_780
    assert len([name for name in places if "/" not in name]) <= 8
