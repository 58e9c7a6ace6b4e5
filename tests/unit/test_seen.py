"""Tasks that a method has seen are not judged, whatever the comparison's config says of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nlp_meta.comparing.fingerprints import check_unseen
from nlp_meta.comparing.methods import find_method
from nlp_meta.data.tasks import Task, load_tasks, name_tasks
from nlp_meta.errors import CardError, SettingsError
from nlp_meta.settings import Comparison
from nlp_meta.training.config import read_settings

CONFIG = Path(__file__).resolve().parents[2] / "recipes/configs/compare_reviews.yaml"
CARD = "nlp_meta_reviews"


def save_base(folder: Path, **data: object) -> Path:
    """A base model as far as the record of its training goes."""
    folder.mkdir()
    whole = {"cards": [CARD], "root": None, "source": "files", "splits": {}, "exclude": [], **data}
    record = {"settings": {"data": whole}}
    (folder / "training.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def check(line: str, *names: str, base: str = "none") -> None:
    read = read_settings(Comparison, ["--config", str(CONFIG)])
    settings = replace(read, model=replace(read.model, model_name_or_path=base))
    tasks = [Task(name, "classification", "eng", "", "meta-test", (), (), ()) for name in names]
    lines = {"ngrams": "ngrams", "one": line}
    rows = {name: find_method(text, "classification") for name, text in lines.items()}
    check_unseen(settings, rows, tasks)


@pytest.mark.parametrize("split", ["meta_train", "meta_validation"])
def test_a_task_of_a_starts_own_training_is_not_judged(split, save_start, tmp_path):
    start = save_start(tmp_path / "start", **{split: ["x/seen", "x/other"]})

    with pytest.raises(SettingsError, match=rf"'one' on task 'x/seen': '{start}' has it among"):
        check(f"joint {start}", "x/new", "x/seen")
    check(f"joint {start}", "x/new", "own/table")


@pytest.mark.parametrize("split", ["meta_train", "meta_validation"])
def test_a_task_of_what_a_start_went_on_from_is_not_judged(split, save_start, tmp_path):
    start = save_start(tmp_path / "start", meta_train=["x/own"], init_from={split: ["x/seen"]})

    with pytest.raises(SettingsError, match=rf"'x/seen': 'what {start} went on from' has it"):
        check(f"start {start}", "x/new", "x/seen")
    check(f"start {start}", "x/new")


def test_a_task_that_a_base_model_was_built_from_is_not_judged(save_start, tmp_path):
    """A start stands on the base of its record; the rival on the one of the config."""
    base = save_base(tmp_path / "base")
    start = save_start(tmp_path / "start", base=str(base), meta_train=[])
    (seen, *_) = name_tasks([CARD], meta_split="meta-train", splits={}, exclude=[])
    (new, *_) = name_tasks([CARD], meta_split="meta-test", splits={}, exclude=[])

    for line, below in ((f"adapt {start}", "none"), ("lora", str(base))):
        with pytest.raises(SettingsError, match=rf"'{seen}': '{base}' has it among its meta-train"):
            check(line, new, seen, base=below)
        check(line, new, base=below)


def test_the_splits_of_a_base_models_own_config_count(tmp_path):
    (new, *_) = name_tasks([CARD], meta_split="meta-test", splits={}, exclude=[])
    base = save_base(tmp_path / "base", splits={"meta-train": [new]})

    with pytest.raises(SettingsError, match=f"on task '{new}'"):
        check("lora", new, base=str(base))


def test_cards_of_a_base_model_are_opened_only_where_one_of_theirs_is_judged(tmp_path):
    base = save_base(tmp_path / "base", cards=["/nowhere/private.md"])

    check("lora", "own/table", "x/new", base=str(base))
    with pytest.raises(CardError, match="private"):
        check("lora", "private/task", base=str(base))


@pytest.mark.parametrize("meta_split", ["meta-train", "meta-validation", "meta-test"])
def test_names_are_those_of_the_tasks_that_are_loaded(meta_split):
    loaded = load_tasks([CARD], meta_split=meta_split)

    assert name_tasks([CARD], meta_split=meta_split, splits={}, exclude=[]) == tuple(
        task.name for task in loaded
    )
