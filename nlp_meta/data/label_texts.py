"""How a label is written: which spellings are the same, and the names that users give to them."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from nlp_meta.data.holes import is_unseen
from nlp_meta.errors import LabelError

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
    """Write a label so that spellings which differ in case, blanks or leading zeros are equal."""
    text = "".join(sign for sign in clean_text(label) if sign == " " or not is_unseen(sign))
    text = " ".join(unicodedata.normalize("NFC", text.casefold()).split())
    return write_number(re.sub(r"^([-+]?)0+(?=\d)", r"\1", text)) or text


def write_number(text: str) -> str | None:
    """Write a number the shortest way; None for what is none."""
    wide = range(0xFF01, 0xFF5F)
    signs = [chr(ord(sign) - 0xFEE0) if ord(sign) in wide else sign for sign in text]
    digits = (str(unicodedata.decimal(sign, sign)) for sign in signs)
    plain = "".join(digits).replace("\u2212", "-").replace("\u066b", ".")
    if len(plain) > 24 or not _NUMBER.fullmatch(plain) or _NO_NUMBER.fullmatch(plain):
        return None
    return f"{Decimal(plain.replace(',', '.')).normalize() + 0:f}"


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
