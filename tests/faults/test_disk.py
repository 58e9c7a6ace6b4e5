"""Killed or without room at any write: what was there is whole, and a sentence says why.

Faults happen in a child, a fork, so that it costs milliseconds: it is killed, or its disk fails,
at its n-th write. Writes are what Python's audit hooks tell of: files opened to be written,
renamed, linked, removed, and folders made. By default every write of each case is tried once;
`make faults` kills a thousand times more, at moments that are drawn, and prints what survived.
"""

import errno
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from nlp_meta.errors import NlpMetaError, OutputError
from nlp_meta.files.outputs import Layout, append_text, read_folder, write_file, write_folder
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.meta.state import Checkpoint, begin_log, load_checkpoint, save_checkpoint
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import ModelSettings

KILLS = int(os.environ.get("NLP_META_KILLS", "12"))
"""Kills at moments that are drawn, for each case."""
_WRITES = ("os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.chmod")
_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT
DONE, REFUSED = 0, 3
"""Exit codes of a child: it did its work, or said in an error of the package why not."""


def is_write(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        return isinstance(arguments[2], int) and bool(arguments[2] & _FLAGS)
    return event in _WRITES


def at_write(number: int, work: Callable[[], object], act: Callable[[], None]) -> int:
    """Work in a child that does something else at its n-th write; its exit code.

    Returns:
        That of the child, negative for the signal that ended it.
    """
    child = os.fork()
    if child == 0:
        seen = [0]

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            if is_write(event, arguments):
                seen[0] += 1
                if seen[0] == number:
                    act()

        _end_child(work, lambda: sys.addaudithook(watch))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail_with(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


def under_limit(size: int, work: Callable[[], object]) -> int:
    """Work in a child whose files may not grow beyond some bytes: what a full disk does to all
    who write, whatever language they are written in."""
    child = os.fork()
    if child == 0:

        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        _end_child(work, limit)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_after(seconds: float, work: Callable[[], object]) -> None:
    """Work over and over in a child, and kill it after a while."""
    child = os.fork()
    if child == 0:

        def repeat() -> None:
            while True:
                work()

        _end_child(repeat, lambda: None)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def draw_delays(count: int, *, longest: float) -> list[float]:
    generator = random.Random(0)
    return [generator.uniform(0, longest) for _ in range(count)]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that has a name of its own, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".nlp_meta-" not in path.as_posix()
    }


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".nlp_meta-*"))


def _end_child(work: Callable[[], object], prepare: Callable[[], object]) -> None:
    code = 1
    try:
        prepare()
        work()
        code = DONE
    except NlpMetaError:
        code = REFUSED
    finally:
        os._exit(code)


@dataclass(frozen=True)
class Case:
    """Work that replaces what stands in a folder.

    Attributes:
        prepare: Makes what stands there first.
        work: Replaces it.
        check: Raises where what is there is not whole, of the old or of the new.
    """

    prepare: Callable[[], object]
    work: Callable[[], object]
    check: Callable[[], object]


LAYOUT = Layout("a model", "record.json", names=("weights",))


def folder_case(root: Path, _: MetaModel) -> Case:
    def write(content: str) -> None:
        with write_folder(root / "m", LAYOUT) as draft:
            for name in ("weights", "more"):
                (draft.path / name).write_text(content * 1000, encoding="utf-8")

    def prepare() -> None:
        write("old")
        (root / "m" / "labels.csv").write_text("mine", encoding="utf-8")

    def check() -> None:
        read_folder(root / "m", LAYOUT)
        assert (root / "m" / "labels.csv").read_text(encoding="utf-8") == "mine"

    return Case(prepare, lambda: write("new"), check)


def file_case(root: Path, _: MetaModel) -> Case:
    path = root / "p.csv"

    def check() -> None:
        assert path.read_text(encoding="utf-8") in ("old" * 1000, "new" * 1000)

    return Case(
        lambda: write_file(path, "old" * 1000), lambda: write_file(path, "new" * 1000), check
    )


def checkpoint_case(root: Path, _: MetaModel) -> Case:
    def save(step: int) -> None:
        tensors = {"meta.w": torch.full((50, 50), float(step))}
        save_checkpoint(root / "checkpoints", Checkpoint(step, tensors, {"fingerprint": {}}))

    def work() -> None:
        save(load_checkpoint(root / "checkpoints").step + 1)

    def check() -> None:
        saved = load_checkpoint(root / "checkpoints")
        assert (saved.tensors["meta.w"] == saved.step).all()

    return Case(lambda: (save(1), save(2)), work, check)


def log_case(root: Path, _: MetaModel) -> Case:
    line = json.dumps({"step": 1, "seconds": 1.0}) + "\n"

    def check() -> None:
        begin_log(root, after=1)
        for text in (root / "log.jsonl").read_text(encoding="utf-8").splitlines():
            assert json.loads(text)["step"] == 1

    def write() -> None:
        append_text(root / "log.jsonl", line)

    return Case(write, write, check)


def model_case(root: Path, model: MetaModel) -> Case:
    def prepare() -> None:
        model.save_pretrained(root / "m")
        (root / "m" / "log.jsonl").write_text("a run", encoding="utf-8")

    def check() -> None:
        MetaModel.from_pretrained(root / "m")
        assert (root / "m" / "log.jsonl").read_text(encoding="utf-8") == "a run"

    return Case(prepare, lambda: model.save_pretrained(root / "m"), check)


QUICK = {
    "folder": folder_case,
    "file": file_case,
    "checkpoint": checkpoint_case,
    "log": log_case,
}
CASES = {**QUICK, "model": model_case}
Make = Callable[[Path, MetaModel], Case]


@pytest.fixture(scope="module")
def model(tiny_encoder: Path) -> MetaModel:
    torch.set_num_threads(1)  # a fork has no threads but its own
    settings = ModelSettings(
        str(tiny_encoder), None, "native", "shared", "", 12, 2, 4.0, 2, ["query", "value"]
    )
    objective = build_classifier(
        settings, labels=("negative", "positive"), device="cpu", precision="no"
    )
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    adaptation = {"classification": Adaptation(InnerLoop(1, 0.01, "sgd"), None, False)}
    return MetaModel({"classification": objective}, weights, settings, adaptation, {})


@pytest.mark.slow
@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_a_kill_at_any_write_leaves_the_old_or_the_new(
    make: Make, model: MetaModel, tmp_path: Path
) -> None:
    case = make(tmp_path, model)
    case.prepare()
    number, code = 0, -9
    while code != DONE:
        number += 1
        code = at_write(number, case.work, die)
        assert code in (DONE, -9)
        case.check()
    assert number > 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("make", QUICK.values(), ids=QUICK)
def test_a_disk_that_fails_at_any_write_harms_nothing(
    make: Make, number: int, model: MetaModel, tmp_path: Path
) -> None:
    case = make(tmp_path, model)
    case.prepare()
    before, refused = contents(tmp_path), 0
    for write in range(1, 60):
        code = at_write(write, case.work, fail_with(number))
        assert code in (DONE, REFUSED)
        case.check()
        refused += code == REFUSED
        if code == DONE:
            before = contents(tmp_path)
        # What failed after the new one was in its place has left it there.
        assert before.items() <= contents(tmp_path).items()
    assert refused


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_disk_that_is_full_is_one_sentence_for_every_library(
    size: int, model: MetaModel, tmp_path: Path
) -> None:
    """Weights are written in Rust, which raises errors of its own."""
    case = model_case(tmp_path, model)
    case.prepare()
    before = contents(tmp_path)

    assert under_limit(size, case.work) == REFUSED

    assert contents(tmp_path) == before and leftovers(tmp_path) == []
    case.check()


@pytest.mark.slow
@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_kills_at_moments_that_are_drawn_lose_nothing(
    make: Make, model: MetaModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = make(tmp_path, model)
    case.prepare()
    for delay in draw_delays(KILLS, longest=0.05):
        kill_after(delay, case.work)
        case.check()
    with capsys.disabled():
        print(f"\n{make.__name__}: {KILLS} kills of {KILLS} survived")


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="may not be written to"):
        write_file(tmp_path / "p.csv", "a")
