"""Placeholders: what a program fills in or reads in a text, and a translation must keep."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

# The first that fits wins: `{{x}}` is no `{x}` in braces, `%(n)d` no bare percent sign. Numbers
# are bounded, so that a long run of digits does not take the square of its length.
_FORMS = (
    r"\{\{\{?[^{}]*\}\}\}?",  # mustache
    r"[$%]\{[^{}]+\}",  # shell, Ruby
    r"%\([^()\s]{1,99}\)[#0+\-]{0,4}\d{0,3}(?:\.\d{1,3})?[diouxXeEfFgGcrsa]",  # named, Python
    # Percentages are none: not after a digit, no blank among the flags of C, and a hyphen only
    # before a width. `S` is of Mozilla's files.
    r"(?<![%\d])%(?:\d{1,3}\$)?[#0+']{0,3}(?:-?\d{1,3}|\*)?(?:\.(?:\d{1,3}|\*))?"
    r"(?:hh|ll|I64|I32|[hlLqjzt])?[diouxXeEfFgGaAcsSpn@]",
    r"\{\s*[$\-][\w.\-]+\s*\}",  # Fluent
    # ICU: what has branches in other words, and other numbers of them, is known by its head.
    r"(?P<branches>\{\s*[\w.]{1,99}\s*,\s*(?:plural|selectordinal|select)\s*,)",
    r"\{\s*[\w.]{1,99}\s*,\s*choice\s*,",
    r"\{\s*[\w.]{1,99}\s*,\s*(?:number|date|time|ordinal|duration|spellout|list)\s*(?:,[^{}]*)?\}",
    r"\{[\w.\[\]\-]*(?:![rsa])?(?::(?:[^{}\s]|\{[\w.\[\]]*\})*)?\}",  # Python, Java, .NET
    r"\{\s*[A-Za-z_][\w.\-]*\s*\}",  # with blanks only what programs have for a name
    r"</?\d{1,3}\s*/?>",  # React
    # HTML, XML; <what is quoted like this> has no attributes.
    r"</?[A-Za-z][\w:.\-]*(?:\s+[\w:.\-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s<>\"'=]+))*\s*/?>",
    r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{0,31});",
    r"\\[nrt]",  # written out, as in resource files
)
# ICU messages that are looked into inside each other.
_DEEPEST = 5
# Losses that people are shown one by one.
_SHOWN = 5
_LINKS = (
    r"https?://[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]",
    r"(?<![\w.+\-])[\w.+\-]{1,64}@[\w\-]{1,63}(?:\.[\w\-]{1,63})+",
)


@dataclass(frozen=True, slots=True)
class PlaceholderLoss:
    """A translation whose placeholders are not its source's.

    Attributes:
        line: Of the translation in its file, or its place among others, from 1.
        lost: Those of the source that it lacks, each as often as it lacks it.
        added: Those that the source does not have.
    """

    line: int
    lost: tuple[str, ...]
    added: tuple[str, ...]


def find_placeholders(text: str, *, links: bool = False) -> tuple[str, ...]:
    """List the placeholders of a text in their order, repeated ones too.

    `%%` is a percent sign and none. Blanks before the end of a tag and inside braces do not
    count: `<br />` is given as `<br/>`, `{ name }` as `{name}`. Of an ICU message such as
    `{count, plural, one {...} other {...}}` the head is one, and what its branches hold counts
    once, as languages have more or fewer of them.

    Args:
        links: Whether addresses of the web and of mail are to be kept as well.
    """
    return tuple(_find(text, _pattern(links), nested=0))


def lost_placeholders(
    source: str, target: str, *, links: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare the placeholders of a text and of its translation; their order is free.

    Returns:
        Those that the translation lost, and those that it added.
    """
    there = Counter(find_placeholders(source, links=links))
    here = Counter(find_placeholders(target, links=links))
    return tuple((there - here).elements()), tuple((here - there).elements())


def find_losses(
    pairs: Iterable[tuple[int, str, str]], *, links: bool = False
) -> tuple[PlaceholderLoss, ...]:
    """Report the translations, given as line, source and target, that lost or added any."""
    losses = []
    for line, source, target in pairs:
        lost, added = lost_placeholders(source, target, links=links)
        if lost or added:
            losses.append(PlaceholderLoss(line, lost, added))
    return tuple(losses)


def describe_losses(losses: Sequence[PlaceholderLoss]) -> str:
    """Say how many translations are to be mended by hand, and where the first ones are."""
    places = [
        f"line {loss.line}"
        + (f" lost {' '.join(loss.lost)}" if loss.lost else "")
        + (f" added {' '.join(loss.added)}" if loss.added else "")
        for loss in losses[:_SHOWN]
    ]
    more = ", ..." if len(losses) > _SHOWN else ""
    count = (
        "1 translation does not keep its own"
        if len(losses) == 1
        else f"{len(losses)} translations do not keep theirs"
    )
    return f"{count}: {', '.join(places)}{more}"


def record_losses(losses: Iterable[PlaceholderLoss]) -> list[dict[str, object]]:
    """All of them, for machines."""
    return [
        {"line": loss.line, "lost": list(loss.lost), "added": list(loss.added)} for loss in losses
    ]


def _find(text: str, pattern: re.Pattern[str], *, nested: int) -> list[str]:
    placeholders: list[str] = []
    place, whole = 0, nested < _DEEPEST
    while match := pattern.search(text, place):
        placeholders.append(_drop_blanks(match[0]))
        place = match.end()
        if whole and match["branches"]:
            branches, end = _read_branches(text, place)
            # What does not end is read as it stands, once and for all.
            whole, place = end is not None, end or place
            inner = (_find(branch, pattern, nested=nested + 1) for branch in branches)
            placeholders += dict.fromkeys(chain.from_iterable(inner))
    return placeholders


def _read_branches(text: str, place: int) -> tuple[list[str], int | None]:
    """What is in braces up to the one that ends an ICU message, and where that ends."""
    branches: list[str] = []
    depth, start = 0, place
    for brace in re.compile(r"[{}]").finditer(text, place):
        if brace[0] == "{":
            start = start if depth else brace.end()
            depth += 1
        elif depth == 0:
            return branches, brace.end()
        else:
            depth -= 1
            if depth == 0:
                branches.append(text[start : brace.start()])
    return [], None


def _drop_blanks(placeholder: str) -> str:
    if placeholder.startswith("{"):
        return re.sub(r"\s*([{},])\s*", r"\1", placeholder)
    return re.sub(r"\s*(/?>)$", r"\1", placeholder)


@cache
def _pattern(links: bool) -> re.Pattern[str]:
    return re.compile("|".join((*_LINKS, *_FORMS) if links else _FORMS))
