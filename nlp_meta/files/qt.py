"""Qt Linguist's files (`.ts`): messages with their plural forms and their state."""

from collections.abc import Iterator
from typing import Any

from nlp_meta.errors import DataError
from nlp_meta.files.entries import (
    FUZZY,
    OBSOLETE,
    PLURAL,
    UNTRANSLATED,
    Catalog,
    Entry,
    UserFile,
    is_blank,
)
from nlp_meta.files.markup import read_xml

_STATES = {"unfinished": FUZZY, "obsolete": OBSOLETE, "vanished": OBSOLETE}


def ts_entries(file: UserFile) -> Catalog:
    """Read the messages of a Qt file.

    A message with plural forms pairs its source with the last, that of many things; its other
    forms are counted.

    Raises:
        DataError: The file is malformed or not safe, or has no messages.
    """
    document = read_xml(file, root="TS")
    messages = list(document.root.iter("message"))
    if not messages:
        raise DataError(
            f"cannot read '{file.path}': it has no messages (<message>), one with a translation is "
            "needed; update it from the program anew or name another file"
        )
    root = document.root
    languages = (root.get("sourcelanguage") or None, root.get("language") or None)
    entries = [entry for message in messages for entry in _entries(message)]
    return Catalog(entries, [languages], document.notes)


def _entries(message: Any) -> Iterator[Entry]:
    source, translation = message.find("source"), message.find("translation")
    left = None if source is None else _text(source)
    if translation is None:
        yield Entry(left, None, message.sourceline, UNTRANSLATED)
        return
    forms = [_text(form) for form in translation.iterchildren("numerusform")]
    state = _STATES.get(translation.get("type") or "", FUZZY if translation.get("type") else None)
    *others, right = forms or [_text(translation)]
    reason = UNTRANSLATED if is_blank(right) and state is not OBSOLETE else state
    yield Entry(left, right, message.sourceline, reason)
    for form in others:
        if not is_blank(form):
            yield Entry(left, form, message.sourceline, reason or PLURAL)


def _text(node: Any) -> str:
    """The text of a node; a variant for the longest place, and `<byte>` for a character."""
    variants = list(node.iterchildren("lengthvariant"))
    node = variants[0] if variants else node
    parts = [node.text or ""]
    for child in node:
        if child.tag == "byte":
            parts.append(_character(child.get("value") or ""))
        parts.append(child.tail or "")
    return "".join(parts)


def _character(number: str) -> str:
    digits = number.removeprefix("x")
    try:
        code = int(digits, 16 if digits != number else 10)
    except ValueError:
        return ""
    return chr(code) if 0 < code < 0xD800 else ""
