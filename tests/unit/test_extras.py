"""A base without extras: everything can be imported that a command without them needs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nlp_meta.errors import MissingPackageError, need_packages

PROJECT = tomllib.loads(
    (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
)["project"]
# Hides the packages of the extras from imports and from those who ask whether they are there.
HIDDEN = """
import importlib.metadata, importlib.util, sys
hidden = set({hidden!r}.split())
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hide())
find_spec, distribution = importlib.util.find_spec, importlib.metadata.distribution
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition(".")[0] in hidden else find_spec(name, package))
def known(name):
    if name.replace("-", "_") in hidden:
        raise importlib.metadata.PackageNotFoundError(name)
    return distribution(name)
importlib.metadata.distribution = known
"""
EXTRAS = (
    "datasets evaluate pyarrow pandas matplotlib lxml defusedxml polib sacrebleu sacremoses "
    "sentencepiece sklearn langcodes language_data openpyxl tensorboard polars"
)


def test_the_base_is_light():
    assert len(PROJECT["dependencies"]) <= 14
    wanted = PROJECT["optional-dependencies"]["quickstart"]
    assert not [name for name in wanted if "sentence-transformers" in name]


def test_each_extra_is_in_all_or_is_a_rival_or_a_tool():
    extras = PROJECT["optional-dependencies"]
    whole = " ".join(extras["all"])
    apart = {"all", "benchmark", "dev", "docs", "setfit"}

    assert {name for name in extras if name not in whole} - apart == set()


def test_what_is_missing_is_named_with_its_extra():
    with pytest.raises(MissingPackageError, match=r"\(no_such\); install .*'nlp-meta\[serve\]'`"):
        need_packages("serve", "json", "no_such", extra="serve")


@pytest.mark.slow
def test_the_models_need_no_extra():
    code = HIDDEN.format(hidden=EXTRAS)
    code += "import nlp_meta.models.meta_model, nlp_meta.training.run, nlp_meta.cli.evaluate\n"
    code += "import nlp_meta.comparing.own_tables, nlp_meta.hub.push, nlp_meta.files.documents\n"
    code += "print(sorted(hidden & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
