"""The state of a run: what it has to show, and checkpoints, which are whole or not there."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from nlp_meta.errors import CheckpointError
from nlp_meta.meta.state import (
    RECORD,
    TENSORS,
    Checkpoint,
    Progress,
    flatten_optimizer,
    load_checkpoint,
    restore_optimizer,
    save_checkpoint,
)


def make(step: int, value: float = 0.0) -> Checkpoint:
    tensors = {"meta.w": torch.full((2, 3), value), "count": torch.tensor(step)}
    return Checkpoint(step, tensors, {"fingerprint": "f", "best_score": None, "examples": 7})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_comes_back(tmp_path):
    save_checkpoint(tmp_path, make(5, value=0.1))

    found = load_checkpoint(tmp_path)

    assert found.step == 5
    assert found.record == {"fingerprint": "f", "best_score": None, "examples": 7}
    assert torch.equal(found.tensors["meta.w"], torch.full((2, 3), 0.1))


def test_the_newest_two_are_kept_and_the_newest_is_read(tmp_path):
    for step in (8, 9, 10, 11):
        save_checkpoint(tmp_path, make(step))

    assert names(tmp_path) == ["step_00000010", "step_00000011"]
    assert load_checkpoint(tmp_path).step == 11


def test_what_a_person_keeps_among_checkpoints_stays(tmp_path):
    first = save_checkpoint(tmp_path, make(8))
    shutil.copytree(first, tmp_path / "step_00000008_best")
    (first / "notes.txt").write_text("mine", encoding="utf-8")
    for step in (9, 10):
        save_checkpoint(tmp_path, make(step))

    kept = ["step_00000008", "step_00000008_best", "step_00000009", "step_00000010"]
    assert names(tmp_path) == kept
    assert names(first) == ["notes.txt"]
    assert load_checkpoint(tmp_path).step == 10


def test_a_run_that_starts_anew_is_not_outlived_by_the_one_before(tmp_path):
    """A new run saves at step 2 where an old one left 8 and 9: 2 is the newest from now on."""
    for step in (8, 9, 2):
        save_checkpoint(tmp_path, make(step, value=step))

    found = load_checkpoint(tmp_path)

    assert found.step == 2
    assert found.tensors["meta.w"][0, 0] == 2


def test_a_save_that_fails_leaves_the_one_before(tmp_path):
    """The record cannot be written, so the folder beside never takes the name of a checkpoint."""
    save_checkpoint(tmp_path, make(1))

    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, Checkpoint(2, make(2).tensors, {"fingerprint": object()}))

    assert [name for name in names(tmp_path) if name.startswith("step_")] == ["step_00000001"]
    assert load_checkpoint(tmp_path).step == 1


def test_a_half_written_part_is_never_resumed(tmp_path):
    """Even one that is complete inside: it was not renamed, so it does not count."""
    whole = save_checkpoint(tmp_path, make(3))
    whole.rename(tmp_path / ".nlp_meta-0123")

    with pytest.raises(CheckpointError, match=r"no complete checkpoint.*`run.resume`"):
        load_checkpoint(tmp_path)

    os.utime(tmp_path / ".nlp_meta-0123", (0, 0))
    save_checkpoint(tmp_path, make(3))
    assert names(tmp_path) == ["step_00000003"]


@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_no_checkpoint_is_an_error(tmp_path, folder):
    (tmp_path / "empty").mkdir()

    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        load_checkpoint(tmp_path / folder)


def cut_tensors(path: Path) -> None:
    file = path / TENSORS
    file.write_bytes(file.read_bytes()[:-8])


def change_one_byte(path: Path) -> None:
    content = bytearray((path / TENSORS).read_bytes())
    content[-1] ^= 1
    (path / TENSORS).write_bytes(content)


def cut_record(path: Path) -> None:
    file = path / RECORD
    file.write_text(file.read_text(encoding="utf-8")[:-10], encoding="utf-8")


def drop_step(path: Path) -> None:
    record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    del record["step"]
    (path / RECORD).write_text(json.dumps(record), encoding="utf-8")


def write_a_list(path: Path) -> None:
    (path / RECORD).write_text("[]", encoding="utf-8")


def drop_tensors(path: Path) -> None:
    (path / TENSORS).unlink()


@pytest.mark.parametrize(
    "damage", [cut_tensors, change_one_byte, cut_record, drop_step, write_a_list, drop_tensors]
)
def test_a_damaged_checkpoint_is_an_error_and_not_passed_over(tmp_path, damage):
    save_checkpoint(tmp_path, make(1))
    damage(save_checkpoint(tmp_path, make(2)))

    with pytest.raises(CheckpointError, match=r"step_00000002.*incomplete or damaged.*delete"):
        load_checkpoint(tmp_path)

    assert names(tmp_path) == ["step_00000001", "step_00000002"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [(torch.optim.AdamW, {}), (torch.optim.SGD, {"momentum": 0.9}), (torch.optim.SGD, {})],
)
def test_a_restored_optimizer_goes_on_as_if_never_stopped(tmp_path, kind, options):
    """The other route is one optimizer that makes all the steps itself."""
    gradients = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))

    def move(optimizer: torch.optim.Optimizer, value: torch.Tensor, steps: torch.Tensor) -> None:
        for gradient in steps:
            value.grad = gradient
            optimizer.step()

    straight = torch.zeros(4)
    move(kind([straight], lr=0.1, **options), straight, gradients)
    first = torch.zeros(4)
    stopped = kind([first], lr=0.1, **options)
    move(stopped, first, gradients[:3])
    tensors, plain = flatten_optimizer(stopped)
    save_checkpoint(tmp_path, Checkpoint(3, tensors | {"w": first}, plain))
    saved = load_checkpoint(tmp_path)
    second = saved.tensors["w"].clone()
    resumed = kind([second], lr=0.1, **options)
    restore_optimizer(resumed, saved.tensors, saved.record)
    move(resumed, second, gradients[3:])

    assert torch.equal(second, straight)


def make_progress(value: float) -> Progress:
    weights = {"w": torch.tensor([value])}
    return Progress(weights, torch.optim.SGD(list(weights.values()), lr=1.0))


def test_the_mean_of_outer_steps_takes_the_place_of_the_last():
    """By hand: 1, 2 and 6 have the mean 3."""
    progress = make_progress(0.0)
    assert progress.current["w"].item() == 0.0

    for value in (1.0, 2.0, 6.0):
        progress.meta_parameters["w"].fill_(value)
        progress.average()

    assert progress.current["w"].item() == 3.0
    assert progress.meta_parameters["w"].item() == 6.0


def test_a_judgement_keeps_the_mean_as_it_was():
    """By hand: 4 alone, later 4 and 6."""
    progress = make_progress(4.0)
    progress.average()
    progress.judge(0.5)
    progress.meta_parameters["w"].fill_(6.0)
    progress.average()
    progress.judge(0.4)

    assert progress.best["w"].item() == 4.0
    assert progress.current["w"].item() == 5.0
