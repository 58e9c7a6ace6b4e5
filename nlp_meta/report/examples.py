"""Examples: translations of two methods side by side, with what differs marked.

A row is one of the predictions table, as in `outcomes.py`; of written translations it has
`chrf`, its own score, and of rankings `rank`, that of the right sentence.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import fmean
from typing import Any, Literal

from nlp_meta.report.outcomes import Rows, take_turns
from nlp_meta.report.palette import shorten

_TEXT = 260  # signs of a text that the page shows
_LEAST_EQUAL = 2  # fewer signs alike between two changes are shown as changed
_LEAST_RATIO = 0.4  # share of signs alike below which single marks would be no help

Mark = Literal["same", "ins", "del"]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a marked text: in both, only in the answer, or only in the reference."""

    mark: Mark
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """One method's answer to a text.

    Attributes:
        parts: Against the reference; all `same` where the answer is the reference.
        note: How good it is, in words.
    """

    parts: tuple[Part, ...]
    note: str


@dataclass(frozen=True, slots=True)
class SideBySide:
    """A text that one method translates better than the other.

    Attributes:
        draws: In so many of the `judged` draws that both answered.
    """

    task: str
    text: str
    true: str
    better: Said
    worse: Said
    draws: int
    judged: int


def find_examples(better: Rows, worse: Rows, *, kind: str, most: int) -> list[SideBySide]:
    """Find texts on which the first method is furthest ahead of the second, tasks in turn.

    Shown is the draw in which they are furthest apart.

    Args:
        kind: `generation` or `retrieval`.
        most: Texts to give.
    """
    score, note = _SCORES[kind], _NOTES[kind]
    other = {(row["task"], row["draw"], row["row"]): row for row in worse}
    pairs: dict[tuple[str, str], list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for row in better:
        twin = other.get((row["task"], row["draw"], row["row"]))
        if twin is not None:
            pairs.setdefault((row["task"], row["row"]), []).append((row, twin))
    by_task: dict[str, list[tuple[float, SideBySide]]] = {}
    for (task, _), judged in pairs.items():
        gaps = [score(one) - score(two) for one, two in judged]
        ahead = sum(gap > 0 for gap in gaps)
        if not ahead or fmean(gaps) <= 0:
            continue
        one, two = judged[max(range(len(gaps)), key=gaps.__getitem__)]
        shown = SideBySide(
            task=task,
            text=shorten_text(one["text"]),
            true=shorten_text(one["true"]),
            better=_say(one, note),
            worse=_say(two, note),
            draws=ahead,
            judged=len(judged),
        )
        by_task.setdefault(task, []).append((fmean(gaps), shown))
    ordered = [sorted(found, key=lambda one: (-one[0], one[1].text)) for found in by_task.values()]
    return [shown for _, shown in take_turns(ordered)][:most]


def mark_differences(answer: str, reference: str) -> tuple[Part, ...]:
    """Mark what an answer has and the reference lacks, and the other way round.

    Signs are compared with the marks that belong to them, so that none is torn apart. An
    answer that has little in common with the reference is marked as a whole.
    """
    ours, theirs = _clusters(answer), _clusters(reference)
    matcher = SequenceMatcher(None, theirs, ours, autojunk=False)
    if matcher.ratio() < _LEAST_RATIO:
        return (Part("ins", answer),)
    codes = matcher.get_opcodes()
    parts: list[Part] = []
    lost, new = "", ""
    for place, (code, i, j, k, m) in enumerate(codes):
        inside = 0 < place < len(codes) - 1
        if code == "equal" and not (inside and j - i < _LEAST_EQUAL):
            parts += _changes(lost, new)
            lost, new = "", ""
            parts.append(Part("same", "".join(theirs[i:j])))
        else:
            lost, new = lost + "".join(theirs[i:j]), new + "".join(ours[k:m])
    return (*parts, *_changes(lost, new))


def shorten_text(text: object) -> str:
    """Cut a text to what the page shows, without signs that cannot be seen.

    Control characters are left out, those too that turn the direction of a text around.
    """
    unseen = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
    return shorten(re.sub(unseen, "", str(text)), _TEXT)


def _say(row: Mapping[str, Any], note: Callable[[Mapping[str, Any]], str]) -> Said:
    answer, reference = shorten_text(row["predicted"]), shorten_text(row["true"])
    return Said(mark_differences(answer, reference), note(row))


def _changes(lost: str, new: str) -> list[Part]:
    found: Sequence[tuple[Mark, str]] = (("del", lost), ("ins", new))
    return [Part(mark, text) for mark, text in found if text]


def _clusters(text: str) -> list[str]:
    """Signs with the marks and joiners that follow them."""
    found: list[str] = []
    for sign in text:
        if found and (unicodedata.category(sign)[0] == "M" or sign in "\u200c\u200d"):
            found[-1] += sign
        else:
            found.append(sign)
    return found


def _say_chrf(row: Mapping[str, Any]) -> str:
    return f"chrF++ {row['chrf']:.1f}"


def _say_rank(row: Mapping[str, Any]) -> str:
    return "the right one first" if row["rank"] == 1 else f"the right one at rank {row['rank']}"


_SCORES: Mapping[str, Callable[[Mapping[str, Any]], float]] = {
    "generation": lambda row: float(row["chrf"]),
    "retrieval": lambda row: float(row["rank"] == 1),
}
_NOTES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "generation": _say_chrf,
    "retrieval": _say_rank,
}
