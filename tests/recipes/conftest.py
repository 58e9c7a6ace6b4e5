"""Recipes and the command line in this process: what torch costs to import is paid once."""

import contextlib
import io
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture(scope="session")
def run_here() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a recipe, or `nlp-meta`, in a folder as `python` would, by its name and words."""

    def run(folder: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        path, out, err = RECIPES / f"{name}.py", io.StringIO(), io.StringIO()
        arguments, sys.argv = sys.argv, [str(path), *words]
        sys.path.insert(0, str(path.parent))
        try:
            with (
                contextlib.chdir(folder),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                code = _call(name, path, words)
        finally:
            sys.argv = arguments
            sys.path.remove(str(path.parent))
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    return run


def _call(name: str, path: Path, words: tuple[str, ...]) -> int:
    from nlp_meta.cli import main

    if name == "nlp-meta":
        return main(list(words))
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as left:
        return int(left.code or 0)
    return 0
