"""Adapted models of unlike domains over one tiny encoder, saved as users would have them."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel

# The file beside this one, from wherever the tests are started.
_PLACE = importlib.util.spec_from_file_location(
    "tiny_domains", Path(__file__).with_name("domains.py")
)
domains = importlib.util.module_from_spec(_PLACE)
sys.modules["tiny_domains"] = domains
_PLACE.loader.exec_module(domains)


@pytest.fixture(scope="session")
def models(tiny_encoder: Path) -> dict[str, AdaptedModel]:
    return {
        name: domains.build_domain(tiny_encoder, shape, seed=seed)
        for seed, (name, shape) in enumerate(domains.SHAPES.items())
    }


@pytest.fixture(scope="session")
def folders(
    models: dict[str, AdaptedModel], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("domains")
    for name, model in models.items():
        model.save_pretrained(root / name)
    return {name: root / name for name in models}


@pytest.fixture
def make_meta(tiny_encoder: Path) -> Callable[..., MetaModel]:
    """Build a start over the same encoder that takes as many steps as asked."""

    def make(*, steps: int = 4, pooling: str = "native") -> MetaModel:
        shape = domains.Shape(max_tokens=16)
        model = domains.build_domain(tiny_encoder, shape, seed=9, pooling=pooling)
        inner = InnerLoop(steps, 0.01, "adam")
        return MetaModel(
            {"classification": model.objective},
            model.weights,
            model.settings,
            {"classification": Adaptation(inner, None, False)},
            {},
        )

    return make
