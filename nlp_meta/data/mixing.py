"""Mixing: episodes of several kinds from one stream, in a ratio that every stretch of it keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from nlp_meta.data.episodes import Episode
from nlp_meta.errors import EpisodeError, SettingsError

_FINEST = 10_000
"""Shares are rounded to fractions with no larger denominator, so that positions are exact."""


class Stream(Protocol):
    """Episodes by number."""

    def at(self, index: int) -> Episode: ...


@dataclass(frozen=True, slots=True)
class MixedStream:
    """Endless episodes of several kinds; `at(i)` gives the i-th.

    Each kind's own stream is taken from its beginning, one episode after another, so the
    sentiment episodes of a mixed run are those of a run on sentiment alone.

    Attributes:
        shares: Part of the episodes that each kind gives, above 0, in any unit: 1 and 3
            are a quarter and three quarters.
    """

    streams: Mapping[str, Stream]
    shares: Mapping[str, float]
    _parts: Mapping[str, Fraction] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_shares(self.shares)
        if set(self.streams) != set(self.shares):
            raise SettingsError(
                f"cannot mix episodes of {', '.join(self.streams) or 'no kind'} by shares for "
                f"{', '.join(self.shares)}: a share for each kind is needed; change "
                "`episode.shares`"
            )
        object.__setattr__(self, "_parts", _conditional_parts(self.shares))

    def at(self, index: int) -> Episode:
        """Draw episode `index`: the same for the same streams, whatever was drawn before.

        Any n episodes in a row hold a kind's share of n, less or more by 1 for two kinds.

        Raises:
            EpisodeError: `index` is below 0.
        """
        if index < 0:
            raise EpisodeError(
                f"cannot draw episode {index}: episodes are numbered from 0; ask for 0 or above"
            )
        *kinds, last = self._parts
        for kind in kinds:
            place = _taken(index, self._parts[kind])
            if _taken(index + 1, self._parts[kind]) > place:
                return self.streams[kind].at(place)
            index -= place
        return self.streams[last].at(index)


def check_shares(shares: Mapping[str, float]) -> None:
    """Stop unless there is a kind, and each has a share above 0.

    Raises:
        SettingsError: There is none, or one is 0, negative, infinite or not a number.
    """
    if not shares or not all(0 < share < float("inf") for share in shares.values()):
        raise SettingsError(
            f"cannot mix episodes by the shares {dict(shares)}: at least one kind, each with a "
            "number above 0, is needed; change `episode.shares`, and leave out a kind that is not "
            "wanted"
        )


def _taken(count: int, part: Fraction) -> int:
    """How many of the first `count` places go to a kind with this part."""
    return count * part.numerator // part.denominator


def _conditional_parts(shares: Mapping[str, float]) -> dict[str, Fraction]:
    """Each kind's part of what the kinds before it leave; that of the last is 1."""
    left = sum(shares.values())
    parts: dict[str, Fraction] = {}
    for kind in sorted(shares):
        last = len(parts) + 1 == len(shares)
        parts[kind] = Fraction(1) if last else Fraction(shares[kind] / left)
        parts[kind] = parts[kind].limit_denominator(_FINEST)
        left -= shares[kind]
    return parts
