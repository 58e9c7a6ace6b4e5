"""What a cell says: nothing, a word for "missing", or a label.

One policy for rows without a text or a label, wherever rows come from: `stop` names them all,
`skip` leaves them out and counts them, `keep` leaves them without an answer. One rule says which
spellings are the same label, and reads the names that users give to them.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TypeVar

from nlp_meta.errors import DataError, LabelError, SettingsError

A = TypeVar("A")

STOP, SKIP, KEEP = "stop", "skip", "keep"
POLICIES = (STOP, SKIP, KEEP)

# Letters by their category that fonts draw as nothing.
_BLANK_LETTERS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
_MISSING = frozenset(
    "nan n/a na n.a. n.a #n/a #na <na> nat none null nil undefined missing <missing> nodata "
    "(missing) (blank) blank (empty) empty <empty> <null> (null) [null] <none> <nan> \\n #null! "
    "#ref! #value! #name? #div/0! #num! unlabeled unlabelled n/d #n/d #nv #wert! #bezug! "
    "#valeur! #valore! #¡valor! #valor! noanswer noresponse n/r k.a. k.a keineangabe s/d sindatos "
    "nonrenseigné n.v.t. brakdanych b/d tbd todo notlabeled unspecified notavailable "
    "notapplicable [deleted] [removed]".split()
)
_LISTED = 10
_CODE = re.compile(r"(?=.*[\d/=])[!-~]+")


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
    word = "".join(text.split()).casefold().translate(_ALIKE)
    return word in _MISSING or bool(re.fullmatch(r"[-?._\u2026]+", word))


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
    codes = [text for text in texts if _CODE.fullmatch(text.strip())]
    if len(codes) > 0.8 * len(texts) and len({*codes}) > _LISTED:
        return (
            f"{len(codes)} of {len(texts)} texts are numbers, addresses or codes, such as "
            f"{codes[0].strip()[:40]!r}: see whether `{argument}` is the one with the texts",
        )
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


_ALIKE = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")
_ALIKE |= dict.fromkeys(map(ord, "\u2018\u2019\u00b4“”„«»"), "'")
_ALIKE |= dict(
    zip(
        map(ord, "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u03bf"),
        "aeopcyxijsdo",
        strict=True,
    )
)
"""Dashes, quotes, and letters of Cyrillic and Greek that look Latin."""
_SKINS = "[\U0001f3fb-\U0001f3ff]"
"""Colors of emoji."""
_IN_QUOTES = re.compile("[\"'](.+)[\"']")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")
_AS_FLOAT = Context(prec=15)
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?[01]?\d)?", re.IGNORECASE)
# 1,000 may be a thousand, and 007 is a name.
_NO_NUMBER = re.compile(r"[-+]?([1-9]\d{0,2}(,\d{3})+|0\d.*)")


def label_text(value: object) -> str | None:
    """Write a cell of a label column as text: the one rule of what is the same label.

    1, 1.0, "1,0", "+1" and "1.00E+00" are one label. Characters that nobody sees go, blanks
    around a label too; composed and decomposed letters are the same.

    Returns:
        None for a missing label: None, not a number, nothing to see.
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
        return None
    text = clean_text(str(value))
    return (write_number(text) or text) if text else None


def clean_text(text: str) -> str:
    """Drop what nobody sees of a text, and write blanks of all kinds as blanks.

    Joiners between letters outside of ASCII stay: some scripts and emoji are written with them.
    """
    text = unicodedata.normalize("NFC", text)
    if text.isascii() and text.isprintable():
        return text.strip()
    signs = [" " if sign.isspace() else sign for sign in text]
    places = range(len(signs))
    return "".join(signs[place] for place in places if _is_kept(signs, place)).strip()


def fold_label(label: str) -> str:
    """Write a label so that spellings which a person would call the same are equal.

    They differ in case, blanks, hyphens between words, quotes around them, a point at the end,
    leading zeros, commas of thousands or signs that look alike.
    """
    signs = clean_text(label)[:1] + re.sub(_SKINS, "", clean_text(label)[1:])
    text = "".join(sign for sign in signs if sign == " " or not is_unseen(sign))
    text = unicodedata.normalize("NFC", text.casefold())
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("i\u0307", "i").translate(_ALIKE)
    text = re.sub(r"(?<=[^\W\d])[-_]+(?=[^\W\d])", " ", _IN_QUOTES.sub(r"\1", text))
    text = re.sub(r"(?<=[^\W\d])[.,:;]+$| *([/&|]) *", r"\1", text)
    text = " ".join(text.split())
    plain = text.replace(",", "") if _THOUSANDS.fullmatch(text) else text
    return write_number(re.sub(r"^([-+]?)0+(?=\d)", r"\1", plain)) or text


def write_number(text: str) -> str | None:
    """Write a number the shortest way; None for what is none."""
    if text[:1].isalpha():  # most labels are words
        return None
    wide = range(0xFF01, 0xFF5F)
    signs = [chr(ord(sign) - 0xFEE0) if ord(sign) in wide else sign for sign in text]
    digits = (str(unicodedata.decimal(sign, sign)) for sign in signs)
    plain = "".join(digits).replace("\u2212", "-").replace("\u066b", ".")
    if len(plain) > 24 or not _NUMBER.fullmatch(plain) or _NO_NUMBER.fullmatch(plain):
        return None
    number = Decimal(plain.replace(",", "."))
    # 0.30000000000000004 is 0.1 + 0.2; a whole number of 20 digits may be a name.
    is_whole = number == number.to_integral_value()
    rounded = number.normalize() if is_whole else number.normalize(_AS_FLOAT)
    return f"{rounded + 0:f}"


def _is_kept(signs: list[str], place: int) -> bool:
    sign = signs[place]
    if sign in "\u200c\u200d":
        beside = signs[max(place - 1, 0) : place] + signs[place + 1 : place + 2]
        return len(beside) == 2 and not any(map(str.isascii, beside))
    # Flags of regions are spelled with tags.
    return sign == " " or "\U000e0020" <= sign <= "\U000e007f" or not is_unseen(sign)


LabelMap = Mapping[str, str] | str
"""As users give it: label as written -> name, or the same as text."""

_FORM = "write `label_map` like bad=negative,good=positive"
_QUOTES = (
    "a label that has ',' or '=' in it stands in double quotes, as in "
    '\'"good, very"=positive,"not=good"=negative\', or in a file of two columns'
)
# A quote within quotes is doubled, as in a table; elsewhere it is a letter like others.
_PIECE = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",=][^,=]*)?)\s*(=|,|$)')


def parse_label_map(text: str) -> dict[str, str]:
    """Read what a user gave as `label_map`, such as `bad=negative,"good, very"=positive`.

    Raises:
        LabelError: A part is not `written=name`, or a label is there twice.
    """
    pairs, pieces, begin = [], [], 0
    for piece, sign, end in _split(text):
        pieces.append(piece)
        if sign != "=":
            if len(pieces) != 2 or not all(pieces):
                part = text[begin:end].strip(" ,")
                raise LabelError(
                    f"cannot read the label map {text!r}: {part!r} is not of the form "
                    f"written=name; {_FORM}; {_QUOTES}"
                )
            pairs.append((pieces[0], pieces[1]))
            pieces, begin = [], end
    return read_pairs(pairs, shown=repr(text))


def read_label_map(value: LabelMap | None) -> dict[str, str]:
    """Take a label map as Python gives it: a mapping, or text as on the command line.

    Raises:
        LabelError: A key or a name is empty, or two keys are the same label.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        return parse_label_map(value)
    if not isinstance(value, Mapping):
        raise LabelError(
            f"cannot read a label map of the type {type(value).__name__}: a mapping from labels as "
            f"written to their names, or text, is needed; {_FORM}"
        )
    return read_pairs(value.items(), shown="given")


def read_pairs(pairs: Iterable[tuple[object, object]], *, shown: str) -> dict[str, str]:
    """Make a label map of pairs of a label as written and its name.

    Args:
        shown: What an error calls the map.

    Raises:
        LabelError: A label or a name is empty, or a label is there twice.
    """
    label_map: dict[str, str] = {}
    for written, name in ((label_text(label), label_text(called)) for label, called in pairs):
        if written is None or name is None:
            raise LabelError(
                f"cannot read the label map {shown}: {name or written or ''!r} has no label or no "
                f"name beside it, both are needed; {_FORM}"
            )
        if written in label_map:
            raise LabelError(
                f"cannot read the label map {shown}: {written!r} is there twice, one name for "
                "each label is needed; keep one of them in `label_map`"
            )
        label_map[written] = name
    return label_map


def _split(text: str) -> Iterator[tuple[str, str, int]]:
    """Pieces, the sign behind each (`=`, `,` or nothing), and where that ends."""
    place = 0
    while True:
        match = _PIECE.match(text, place)
        if match is None:
            raise LabelError(
                f"cannot read the label map {text!r}: a double quote in it is not closed, or "
                f"something follows it; {_FORM}; {_QUOTES}"
            )
        quoted, plain, sign = match.groups()
        piece = plain or "" if quoted is None else quoted.replace('""', '"')
        yield piece.strip(), sign, match.end()
        if not sign:
            return
        place = match.end()
