"""Importing the package costs nothing and changes nothing."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

import nlp_meta

IMPORT = """
import json, logging, os, sys, time
environment, handlers = dict(os.environ), list(logging.getLogger().handlers)
start = time.perf_counter()
import nlp_meta
seconds = time.perf_counter() - start
heavy = sorted({"torch", "transformers", "datasets", "peft", "numpy"} & set(sys.modules))
print(json.dumps({
    "seconds": seconds,
    "heavy": heavy,
    "environment": environment == dict(os.environ),
    "handlers": handlers == logging.getLogger().handlers,
}))
"""


def import_once() -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
    )
    facts: dict[str, object] = json.loads(done.stdout)
    return facts


def test_import_takes_under_a_fifth_of_a_second_and_no_torch():
    """The best of three: a busy machine may slow one of them."""
    facts = [import_once() for _ in range(3)]

    assert min(float(str(fact["seconds"])) for fact in facts) < 0.2
    assert facts[0]["heavy"] == []


def test_import_changes_neither_environment_nor_logging():
    facts = import_once()

    assert facts["environment"]
    assert facts["handlers"]


def test_root_names_what_it_loads_lazily():
    assert {"MetaModel", "AdaptedModel", "__version__"} <= set(dir(nlp_meta))
    with pytest.raises(AttributeError, match="no attribute 'Model'"):
        nlp_meta.Model  # noqa: B018


def test_root_gives_the_models_of_the_models_file():
    from nlp_meta.models import meta_model as models

    assert nlp_meta.MetaModel is models.MetaModel
    assert nlp_meta.AdaptedModel is models.AdaptedModel


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(option):
    """On a build of torch for CPUs; another is loaded to tell the device."""
    if option == "--version" and not version("torch").endswith("+cpu"):
        pytest.skip("this build of torch has devices")
    code = f"import sys\nfrom nlp_meta.cli import main\ntry:\n    main([{option!r}])\nfinally:\n"
    code += "    print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_start_loads_nothing_that_it_does_not_use():
    code = "import sys\nimport nlp_meta.models.meta_model\n"
    code += "print(sorted({'peft', 'sklearn', 'datasets', 'evaluate'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
