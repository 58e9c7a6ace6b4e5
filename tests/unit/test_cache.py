"""What is kept is computed once, and every job is charged for it once."""

import time

import numpy as np
import pytest

from nlp_meta.data.answers import Prediction
from nlp_meta.data.cache import Clock, TextCache
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.evaluation.protocol import judge

TEXTS = ("well made", "it broke", "a fine thing")
SLOW = 0.03


@pytest.fixture
def computed():
    return []


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def kept(computed, clock):
    def compute(texts):
        time.sleep(SLOW)
        computed.append(list(texts))
        return [len(text) for text in texts]

    return TextCache(compute, clock=clock)


@pytest.fixture
def spared(clock):
    """Seconds by which the clock ran ahead of the machine's while something was done."""

    def measure(act):
        began, machine = clock.read(), time.perf_counter()
        act()
        return (clock.read() - began) - (time.perf_counter() - machine)

    return measure


def test_each_text_is_computed_once_and_values_come_in_order(kept, computed):
    assert kept.take(["it broke", "well made", "it broke"]) == [8, 9, 8]
    assert kept.take(TEXTS) == [9, 8, 12]
    assert kept.take([]) == []
    assert computed == [["it broke", "well made"], ["a fine thing"]]


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
    kept.take(["abc", "abcdefg"])  # 1 + 3 and 1 + 7 of 12
    clock.begin_job()
    short = spared(lambda: kept.take(["abc"]))
    long = spared(lambda: kept.take(["abcdefg"]))

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
