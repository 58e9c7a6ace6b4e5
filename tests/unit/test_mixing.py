"""Mixed streams: counts by hand, each skill's own episodes in their order."""

from collections import Counter

import pytest

from nlp_meta.data.episodes import Episode, MixedStream
from nlp_meta.errors import EpisodeError, SettingsError


class Counting:
    """Episodes that are nothing but their number."""

    def __init__(self, skill: str) -> None:
        self.skill = skill

    def at(self, index: int) -> Episode:
        return Episode("made/task", (), (), (), index, self.skill)


def mix(**shares: float) -> MixedStream:
    return MixedStream({skill: Counting(skill) for skill in shares}, shares)


def test_equal_shares_take_turns():
    stream = mix(classification=1.0, retrieval=1.0)

    skills = [stream.at(i).skill for i in range(6)]

    assert skills == ["retrieval", "classification"] * 3


@pytest.mark.parametrize(
    ("shares", "counts"),
    [
        ({"classification": 0.25, "retrieval": 0.75}, {"classification": 2, "retrieval": 6}),
        ({"classification": 3, "retrieval": 1}, {"classification": 6, "retrieval": 2}),
        ({"a": 1, "b": 1, "c": 2}, {"a": 2, "b": 2, "c": 4}),
    ],
)
def test_every_meta_batch_of_eight_has_the_ratio(shares, counts):
    """By hand: eighths of each share."""
    stream = mix(**shares)

    for first in range(0, 400, 8):
        assert Counter(stream.at(first + i).skill for i in range(8)) == counts


@pytest.mark.parametrize("share", [0.1, 0.29, 1 / 3, 0.5, 0.7, 0.995])
@pytest.mark.parametrize("length", [1, 3, 8, 50])
def test_any_stretch_has_the_share_but_for_one(share, length):
    stream = mix(classification=share, retrieval=1 - share)
    skills = [stream.at(i).skill for i in range(1000)]

    for first in range(1000 - length):
        count = skills[first : first + length].count("classification")
        assert abs(count - share * length) < 1 + 1e-9


def test_each_kind_gives_its_episodes_one_after_another():
    stream = mix(a=2, b=5, c=1)
    found: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for i in range(80):
        episode = stream.at(i)
        found[episode.skill].append(episode.index)

    assert found == {"a": list(range(20)), "b": list(range(50)), "c": list(range(10))}


def test_one_kind_alone_is_its_own_stream():
    stream = mix(classification=0.4)

    assert [stream.at(i).index for i in (0, 1, 7, 12345)] == [0, 1, 7, 12345]


@pytest.mark.parametrize("share", [0.0, -1.0, float("inf"), float("nan")])
def test_a_share_must_be_above_0(share):
    with pytest.raises(SettingsError, match=r"above 0.*`episode\.shares`"):
        mix(classification=1.0, retrieval=share)


def test_no_kind_at_all_is_refused():
    with pytest.raises(SettingsError, match="at least one skill"):
        mix()


def test_every_stream_needs_a_share():
    with pytest.raises(SettingsError, match="a share for each skill"):
        MixedStream({"classification": Counting("classification")}, {"retrieval": 1.0})


def test_episodes_are_numbered_from_0():
    with pytest.raises(EpisodeError, match="episode -1"):
        mix(classification=1.0).at(-1)
