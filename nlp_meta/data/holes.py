"""Holes in users' data: what looks empty, what stands for "missing", and what is done about it.

One policy for rows without a text or a label, wherever rows come from: `stop` names them all,
`skip` leaves them out and counts them, `keep` leaves them without an answer.
"""

import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nlp_meta.errors import DataError, SettingsError

A = TypeVar("A")

STOP, SKIP, KEEP = "stop", "skip", "keep"
POLICIES = (STOP, SKIP, KEEP)

# Letters by their category that fonts draw as nothing.
_BLANK_LETTERS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
_MISSING = frozenset(
    "nan n/a na n.a. n.a #n/a #na <na> nat none null nil undefined - -- ? ?? missing <missing> "
    "(missing) (blank) blank (empty) empty <empty> <null> (null) [null] <none> <nan> \\n #null! "
    "#ref! #value! #name? #div/0! #num! unlabeled unlabelled".split()
)
_LISTED = 10


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows that are used.

    Attributes:
        places: Of these rows, from 0, in their order.
        notes: Sentences on what was left out.
    """

    places: tuple[int, ...]
    notes: tuple[str, ...]


def is_unseen(sign: str) -> bool:
    """Whether nobody sees a character: blanks of all widths, controls, joiners, selectors."""
    return (
        sign.isspace()
        or unicodedata.category(sign) in ("Cc", "Cf", "Zs")
        or _is_selector(sign)
        or sign in _BLANK_LETTERS
    )


def _is_selector(sign: str) -> bool:
    """Whether a character only says how the one before it is drawn."""
    return "\ufe00" <= sign <= "\ufe0f" or "\U000e0100" <= sign <= "\U000e01ef"


def is_empty(text: str | None) -> bool:
    """Whether there is nothing to see in a text, or no text."""
    return text is None or all(map(is_unseen, text))


def is_missing_word(text: str) -> bool:
    """Whether programs write a word where something is missing, such as `nan` or `#N/A`."""
    return text.strip().casefold() in _MISSING


def check_policy(empty: str, *, policies: Collection[str] = POLICIES) -> None:
    """Refuse a word that is no policy.

    Raises:
        SettingsError: Lists those that are.
    """
    if empty not in policies:
        raise SettingsError(
            f"cannot treat empty rows by '{empty}': one of {', '.join(policies)} is needed; change "
            "`empty`"
        )


def select_rows(
    holes: Mapping[str, Collection[int]],
    *,
    count: int,
    empty: str,
    subject: str,
    name: Callable[[Sequence[int]], str],
    remedies: Mapping[str, str],
) -> Selection:
    """Apply the policy to rows that lack something.

    Args:
        holes: Places of such rows, from 0, by what they lack, such as `text`.
        count: Rows in all.
        empty: `stop`, `skip`, or `keep`, which leaves every row where it is.
        subject: What holds the rows, such as `table a.csv`.
        name: Says where some rows are, such as `lines 3 and 7`.
        remedies: What else to change, by what is lacking.

    Raises:
        DataError: There are such rows and `empty` is `stop`, or every row is one; names the
            first ten.
        SettingsError: `empty` is no policy.
    """
    check_policy(empty)
    lacking = {what: sorted(places) for what, places in holes.items() if places}
    lost = {place for places in lacking.values() for place in places}
    if lost and (empty == STOP or (empty == SKIP and len(lost) == count)):
        what, places = next(iter(lacking.items()))
        raise DataError(
            f"cannot use {subject}: {_count(places, count)} no {what} ({name(places)}), a {what} "
            f"in each row is needed; fill {'it' if len(places) == 1 else 'them'} in"
            + (f', leave such rows out with `empty="{SKIP}"`' if len(lost) < count else "")
            + f" or {remedies[what]}"
        )
    done = "left without an answer" if empty == KEEP else "left out"
    return Selection(
        tuple(place for place in range(count) if empty == KEEP or place not in lost),
        tuple(
            f"{len(rows)} of {count} rows have no {what} and are {done} ({name(rows)})"
            for what, rows in lacking.items()
        ),
    )


def answer_texts(
    texts: Sequence[str], answer: Callable[[Sequence[str]], Sequence[A]]
) -> list[A | None]:
    """Answer texts, and leave those without an answer in which there is nothing to see.

    Args:
        answer: Gives one answer to each text.
    """
    places = [place for place, text in enumerate(texts) if not is_empty(text)]
    answers: list[A | None] = [None] * len(texts)
    for place, given in zip(places, answer([texts[place] for place in places]), strict=True):
        answers[place] = given
    return answers


def list_places(unit: str, numbers: Sequence[int]) -> str:
    """Say where something is: `line 3`, `lines 3, 7 and 9`, the first ten of them."""
    shown = [str(number) for number in numbers[:_LISTED]]
    if len(numbers) > _LISTED:
        return f"{unit}s {', '.join(shown)} and {len(numbers) - _LISTED} more"
    listed = ", ".join(shown[:-1]) + (" and " if len(shown) > 1 else "") + shown[-1]
    return f"{unit}{'s' if len(shown) > 1 else ''} {listed}"


def note_missing_words(texts: Sequence[str], *, argument: str = "texts") -> tuple[str, ...]:
    """Doubt texts that are what programs write for a missing one.

    Raises:
        DataError: All of them are.
    """
    words = [text.strip() for text in texts if is_missing_word(text)]
    if words and len(words) == len(texts):
        raise DataError(
            f"cannot use the texts: all {len(words)} of them are {words[0]!r} or the like, which "
            "programs write where a text is missing, and texts are needed; look how they were "
            f"exported, or change `{argument}`"
        )
    if not words:
        return ()
    are = "text is" if len(words) == 1 else "texts are"
    return (
        f"{len(words)} {are} {words[0]!r} or the like, which programs write where a text is "
        "missing: an answer to it says nothing",
    )


def _count(places: Sequence[int], count: int) -> str:
    if len(places) == count:
        return f"all {count} rows have" if count > 1 else "its row has"
    return f"{len(places)} of {count} rows {'has' if len(places) == 1 else 'have'}"
