"""What is kept is computed once, every job is charged for it once, and files are never trusted."""

import errno
import os
import threading
import time

import numpy as np
import pytest
import torch

from nlp_meta.data.answers import Prediction
from nlp_meta.data.clock import Clock
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.cache import Computation, StateFile, Storage, TextCache
from nlp_meta.errors import OutputError
from nlp_meta.evaluation.protocol import judge

TEXTS = ("well made", "it broke", "a fine thing")
SLOW = 0.03
IDENTITY = bytes(range(32))


@pytest.fixture
def computed():
    return []


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def build(computed, clock):
    """A cache of numbers of letters: ids are letters, `(letters, 2)` holds each and its square."""

    def begin(storage=None, *, identity=IDENTITY, tokens=100, clock=clock):
        def run(ids):
            time.sleep(SLOW)
            computed.append(["".join(map(chr, row)) for row in ids])
            return [torch.stack([row, row**2], 1).bfloat16() for row in ids]

        return TextCache(
            lambda texts: [torch.tensor([ord(sign) for sign in text]) for text in texts],
            Computation(run, tokens, torch.bfloat16, (2,), torch.device("cpu"), lambda: identity),
            clock=clock,
            storage=storage or Storage(),
        )

    return begin


@pytest.fixture
def kept(build):
    return build()


@pytest.fixture
def spared(clock):
    """Seconds by which the clock ran ahead of the machine's while something was done."""

    def measure(act):
        began, machine = clock.read(), time.perf_counter()
        act()
        return (clock.read() - began) - (time.perf_counter() - machine)

    return measure


def is_right(tensors, texts):
    letters = [torch.tensor([ord(sign) for sign in text]) for text in texts]
    expected = [torch.stack([row, row**2], 1).bfloat16() for row in letters]
    return len(tensors) == len(texts) and all(map(torch.equal, tensors, expected))


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def test_each_text_is_computed_once_and_values_come_in_order(kept, computed):
    twice = ["it broke", "well made", "it broke"]

    assert is_right(kept.take(twice), twice)
    assert is_right(kept.take(TEXTS), TEXTS)
    assert kept.take([]) == []
    assert sorted(computed[0]) == ["it broke", "well made"]
    assert computed[1:] == [["a fine thing"]]


def test_the_job_that_computed_a_value_is_not_charged_again(kept, spared):
    kept.take(TEXTS)

    assert spared(lambda: kept.take(TEXTS)) == pytest.approx(0, abs=1e-3)


def test_another_job_is_charged_what_was_spared_once(kept, clock, spared):
    kept.take(TEXTS)
    clock.begin_job()

    first, second = spared(lambda: kept.take(TEXTS)), spared(lambda: kept.take(TEXTS))

    assert first >= SLOW - 1e-3
    assert second == pytest.approx(0, abs=1e-3)


def test_texts_of_one_computation_share_its_cost_by_their_length(kept, clock, spared):
    kept.take(["abc", "abcdef"])
    clock.begin_job()
    short = spared(lambda: kept.take(["abc"]))
    long = spared(lambda: kept.take(["abcdef"]))

    assert long == pytest.approx(2 * short, rel=0.1)


def test_a_method_judged_second_takes_as_long_as_the_first(kept, clock):
    def answer(queries):
        kept.take(queries.texts)
        return [Prediction("bad", {"bad": 1.0, "good": 0.0}) for _ in queries.texts]

    def learn(support_set):
        kept.take(support_set.texts)
        return answer

    support = (Example("s", "bad"), Example("t", "good"))
    query = tuple(Example(text, "bad") for text in TEXTS)
    episode = Episode("reviews/kitchen", ("bad", "good"), support, query, 0)

    cells = [judge(learn, episode, method="kept", clock=clock).cell for _ in range(2)]

    assert min(cell.seconds_adapt for cell in cells) >= SLOW - 1e-3
    assert min(cell.ms_per_prediction for cell in cells) >= 1000 * (SLOW - 1e-3) / len(TEXTS)
    assert np.ptp([cell.seconds_adapt for cell in cells]) < SLOW / 2


def test_a_clock_that_follows_another_shows_its_time(kept, clock):
    leader = Clock()
    clock.follow(leader)
    kept.take(TEXTS)
    leader.begin_job()

    began, machine = leader.read(), time.perf_counter()
    kept.take(TEXTS)

    assert leader.read() - began >= SLOW - 1e-3 > time.perf_counter() - machine


def test_what_memory_has_no_room_for_comes_from_a_file_that_nobody_sees(build, computed, tmp_path):
    """By hand: two numbers of two bytes a letter, so 40 bytes have room for "well made" alone."""
    kept = build(Storage(beside=tmp_path, memory=40), tokens=1)

    first, again = kept.take(TEXTS), kept.take(TEXTS)

    assert is_right(first, TEXTS)
    assert is_right(again, TEXTS)
    assert sum(map(len, computed)) == 3
    assert kept._used <= 40
    assert not list(tmp_path.iterdir())


def test_another_process_computes_nothing_and_is_charged_all(build, computed, tmp_path):
    """Its clock is another one, and nothing of the first process's memory is its own."""
    build(Storage(shared=tmp_path)).take(TEXTS)
    clock = Clock()
    other = build(Storage(shared=tmp_path), clock=clock)

    began, machine = clock.read(), time.perf_counter()
    tensors = other.take(TEXTS)

    assert is_right(tensors, TEXTS)
    assert sum(map(len, computed)) == 3
    assert clock.read() - began >= SLOW - 2e-3 > time.perf_counter() - machine
    clock.begin_job()
    began, machine = clock.read(), time.perf_counter()
    other.take(TEXTS)
    assert (clock.read() - began) - (time.perf_counter() - machine) >= SLOW - 2e-3


def test_a_shared_file_holds_no_text(build, tmp_path):
    build(Storage(shared=tmp_path)).take(TEXTS)

    content = only_file(tmp_path).read_bytes()

    assert not any(text.encode() in content for text in TEXTS)


def test_another_network_has_another_file(build, computed, tmp_path):
    for identity in (IDENTITY, bytes(32)):
        build(Storage(shared=tmp_path), identity=identity).take(TEXTS)

    assert len(list(tmp_path.iterdir())) == 2
    assert sum(map(len, computed)) == 6


@pytest.mark.parametrize("size", [0, 10, 64, 70, -1])
def test_a_file_that_was_cut_off_is_completed(build, computed, tmp_path, size):
    """The header has 64 bytes; at -1 the last record alone lacks a byte."""
    build(Storage(shared=tmp_path, memory=0), tokens=1).take(TEXTS)
    path = only_file(tmp_path)
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    computed.clear()

    assert is_right(build(Storage(shared=tmp_path, memory=0), tokens=1).take(TEXTS), TEXTS)
    assert sum(map(len, computed)) == (1 if size < 0 else 3)
    computed.clear()
    assert is_right(build(Storage(shared=tmp_path, memory=0)).take(TEXTS), TEXTS)
    assert not computed


@pytest.mark.parametrize("place", [0, 40, 64, 84, 96, 110, -1])
def test_a_damaged_byte_is_never_used(build, computed, tmp_path, place):
    """Of the header, of the first record's key, length, seal and values, and of the last value."""
    build(Storage(shared=tmp_path, memory=0), tokens=1).take(TEXTS)
    path = only_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    computed.clear()

    assert is_right(build(Storage(shared=tmp_path, memory=0), tokens=1).take(TEXTS), TEXTS)
    assert computed
    computed.clear()
    assert is_right(build(Storage(shared=tmp_path, memory=0)).take(TEXTS), TEXTS)
    assert not computed


def test_a_file_that_is_cut_off_while_it_is_used_is_completed(build, computed, tmp_path):
    kept = build(Storage(shared=tmp_path, memory=0), tokens=1)
    kept.take(TEXTS)
    os.truncate(only_file(tmp_path), 70)

    assert is_right(kept.take(TEXTS), TEXTS)
    assert sum(map(len, computed)) == 6


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    """Each has the file open for itself, as processes have; their records do not mix."""
    values = {bytes([n]) * 16: bytes([n]) * (1 + 37 * n) for n in range(60)}
    files = [StateFile(tmp_path, IDENTITY) for _ in range(4)]

    def write(file, turn):
        keys = list(values)
        for key in keys[turn * 15 :] + keys[: turn * 15]:
            file.append({key: (memoryview(values[key]), 0.5)})

    threads = [threading.Thread(target=write, args=(f, turn)) for turn, f in enumerate(files)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for file in (*files, StateFile(tmp_path, IDENTITY)):
        assert file.find(values) == dict.fromkeys(values, 0.5)
        assert file.read(values) == values
    assert only_file(tmp_path).stat().st_size == 64 + sum(32 + len(v) for v in values.values())


def test_a_full_disk_is_told_of(build, tmp_path, monkeypatch):
    kept = build(Storage(shared=tmp_path))
    kept.take(["a"])

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("nlp_meta.encoders.cache._write", refuse)

    with pytest.raises(OutputError, match=r"No space left .* `run\.states_dir`"):
        kept.take(TEXTS)


@pytest.mark.parametrize("content", [b"notes of mine", b"nlp_meta states 0 of before", b""])
def test_a_file_of_another_program_is_not_removed(tmp_path, content):
    """One of an earlier make is, and one that a killed process has only begun."""
    path = tmp_path / f"{bytes(range(32)).hex()[:16]}.states"
    path.write_bytes(content)
    if content.startswith(b"notes"):
        with pytest.raises(OutputError, match="another program's file"):
            StateFile(tmp_path, bytes(range(32)))
        assert path.read_bytes() == content
    else:
        assert StateFile(tmp_path, bytes(range(32))).find([b"key"]) == {}
