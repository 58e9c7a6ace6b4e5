"""Label maps: names that users give to labels as they are written, as text or as rows."""

import re
from collections.abc import Iterable, Iterator, Mapping

from nlp_meta.data.label_texts import label_text
from nlp_meta.errors import LabelError

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
