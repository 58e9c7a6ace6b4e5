"""Storing n-grams beside an adapter: what is written, and that nothing damaged is read."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nlp_meta.errors import MetaModelError
from nlp_meta.hub.bases import public_name
from nlp_meta.hub.pull import COMPANION_FACTS, COMPANION_WEIGHTS
from nlp_meta.hub.storage import StoredCompanion, load_companion, save_companion
from nlp_meta.objectives.ngrams import NgramModel

LABELS = ("negative", "positive")
FACTORS = {"encoder": 0.1 + 0.2, "ngrams": 1 / 3}


@pytest.fixture
def stored() -> StoredCompanion:
    """Three of 16 columns hold a weight."""
    weight = np.zeros((2, 16), dtype=np.float32)
    weight[0, 3], weight[1, 3], weight[0, 7], weight[1, 15] = 0.1, -0.2, 0.3, 1e-30
    bias = np.array([0.5, -0.5], dtype=np.float32)
    return StoredCompanion(NgramModel(LABELS, weight, bias), FACTORS)


@pytest.fixture
def folder(stored: StoredCompanion, tmp_path: Path) -> Path:
    save_companion(tmp_path, stored)
    return tmp_path


def load(folder: Path, **changes):
    return load_companion(folder, **{"labels": LABELS, "factors": tuple(FACTORS), **changes})


def test_what_is_read_is_what_was_written(stored, folder):
    found = load(folder)

    assert found.model.labels == LABELS
    assert found.factors == FACTORS
    np.testing.assert_array_equal(found.model.weight, stored.model.weight)
    np.testing.assert_array_equal(found.model.bias, stored.model.bias)


def test_only_columns_that_hold_a_weight_are_written(folder):
    tensors = load_file(folder / COMPANION_WEIGHTS)

    assert tensors["columns"].tolist() == [3, 7, 15]
    assert tensors["weight"].shape == (2, 3)


def test_a_model_without_a_weight_can_be_stored(tmp_path):
    """What very strong regularization leaves: the bias."""
    model = NgramModel(LABELS, np.zeros((2, 16), np.float32), np.ones(2, np.float32))
    save_companion(tmp_path, StoredCompanion(model))

    found = load(tmp_path, factors=())

    assert found.model.weight.shape == (2, 16)
    assert not found.model.weight.any()


def test_a_companion_that_a_record_tells_of_must_be_there(tmp_path):
    with pytest.raises(MetaModelError, match="missing or damaged"):
        load(tmp_path)


def change_facts(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        facts = json.loads((folder / COMPANION_FACTS).read_text(encoding="utf-8"))
        (folder / COMPANION_FACTS).write_text(json.dumps(facts | changes), encoding="utf-8")

    return change


def change_tensors(**changes: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: save_file(
        load_file(folder / COMPANION_WEIGHTS) | changes, folder / COMPANION_WEIGHTS
    )


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-9])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / COMPANION_FACTS).unlink(),
        lambda folder: (folder / COMPANION_WEIGHTS).unlink(),
        lambda folder: (folder / COMPANION_FACTS).write_text("[]", encoding="utf-8"),
        cut(COMPANION_FACTS),
        cut(COMPANION_WEIGHTS),
        change_facts(format=2),
        change_facts(orders=[1, 3]),
        change_facts(characters=7),
        change_facts(features=15),
        change_facts(features=10**15),
        change_facts(features="16"),
        change_facts(features=2**24),
        change_facts(factors={"encoder": 1e9, "ngrams": 1.0}),
        change_facts(factors={"encoder": 0.0, "ngrams": 0.0}),
        change_facts(factors={"encoder": -1.0, "ngrams": 1.0}),
        lambda folder: (folder / COMPANION_FACTS).write_text("[" * 50_000, encoding="utf-8"),
        change_facts(factors=None),
        change_facts(factors={"encoder": float("nan"), "ngrams": 1.0}),
        change_facts(factors={"encoder": "much", "ngrams": 1.0}),
        change_tensors(columns=np.array([3, 7, -1], np.int32)),
        change_tensors(columns=np.array([3, 3, 7], np.int32)),
        change_tensors(columns=np.array([3, 7], np.int32)),
        change_tensors(columns=np.array([3.0, 7.0, 15.0])),
        change_tensors(weight=np.full((2, 3), np.nan, np.float32)),
        change_tensors(weight=np.zeros((2, 3))),
        change_tensors(bias=np.zeros(3, np.float32)),
        change_tensors(bias=np.array([np.inf, 0], np.float32)),
    ],
)
def test_damaged_files_stop(folder, damage):
    damage(folder)

    with pytest.raises(MetaModelError, match=r"companion\.json is missing or damaged"):
        load(folder)


@pytest.mark.parametrize(
    "changes", [{"labels": LABELS[::-1]}, {"labels": ("negative",)}, {"factors": ()}]
)
def test_n_grams_of_another_model_stop(folder, changes):
    with pytest.raises(MetaModelError, match="cannot use the n-grams"):
        load(folder, **changes)


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("me/encoder", "me/encoder"),
        ("builtin:minilm", "sentence-transformers/all-MiniLM-L6-v2"),
        ("/cache/models--me--encoder/snapshots/" + "0a" * 20, "me/encoder"),
        ("/home/somebody/models/encoder", "encoder"),
        (r"C:\models\encoder", "encoder"),
    ],
)
def test_no_place_of_this_machine_names_a_base(name, public):
    assert public_name(name) == public
