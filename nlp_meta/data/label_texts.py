"""How a label is written: one rule of which spellings are the same label."""

import re
import unicodedata
from decimal import Decimal

from nlp_meta.data.holes import is_unseen

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
