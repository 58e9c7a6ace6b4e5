"""States of units: whether the tool that wrote a translation calls it finished.

XLIFF keeps a state on its target or segment, and most tools add one of their own: Trados Studio
on `sdl:seg`, memoQ and Phrase as attributes of the unit, WorldServer in an element. TMX has
none; tools write properties. Whatever says "not finished" counts.
"""

import re
from collections.abc import Mapping
from typing import Any

from nlp_meta.files.entries import FUZZY, MACHINE

# States of XLIFF 1.2 that need nothing more; `x-...` and words of no standard are none of them.
_FINISHED_STATES = ("translated", "final", "signed-off")
_LAST_STATES = ("final", "signed-off")
_MACHINE_QUALIFIERS = ("leveraged-mt", "mt-suggestion")
_GUESS_QUALIFIERS = ("fuzzy-match", "tm-suggestion")

# What tools call an attribute with the state of a unit, in a namespace of theirs.
_STATE_NAMES = ("status", "state", "conf", "confirmed", "approved", "translation_status")
_ORIGIN_NAMES = ("origin", "trans-origin", "translation_type")
_FINISHED_WORDS = {
    "1", "2", "3", "4", "5", "yes", "true", "translated", "reviewed", "final", "signedoff",
    "approved", "approvedtranslation", "approvedsignoff", "finished", "complete", "completed",
    "proofread", "done",
}  # fmt: skip
_APPROVED_WORDS = {"approvedtranslation", "approvedsignoff", "proofread", "reviewed", "final"}
_MACHINE_WORDS = {
    "mt", "nmt", "amt", "machine", "machinetranslation", "machinetranslated", "automatic",
    "automatedtranslation", "mttranslation",
}  # fmt: skip
# A memory holds translations: of its properties a word must say that one is unfinished.
_UNFINISHED = re.compile(
    r"no|false|0|un(?!known).*|not.*|draft.*|new|initial|needs.*|fuzzy.*|reject.*|pending.*|"
    r"pretranslated|partial.*|inprogress|todo|wip|suggest.*|candidate"
)
_STATE_PROPERTIES = {
    "confirmationlevel", "status", "state", "review", "translationstatus", "translationstate",
    "segmentstatus", "approved", "isapproved", "confirmed", "isconfirmed", "matecatstatus",
    "reviewstatus", "conf",
}  # fmt: skip
_MACHINE_PROPERTIES = {
    "mt", "ismt", "machinetranslation", "machinetranslated", "mtengine", "mtprovider", "mtsystem",
}  # fmt: skip
_NO = ("no", "false", "0")
_MACHINE_AUTHOR = re.compile(
    r"(?:n?mt!?|machine ?translation|google ?translate|deepl|microsoft ?translator|bing|systran|"
    r"modernmt|amazon ?translate|moses)(?:[ _-]?(?:engine|api|pro|v\d))?",
    re.IGNORECASE,
)


def xliff_reason(unit: Any, target: Any, segment: Any | None) -> str | None:
    """Why a translation of XLIFF 1 is not finished; None if it is.

    Args:
        segment: What Trados Studio keeps of it, `sdl:seg`.
    """
    marks = [*_marks(unit), *_marks(target), *_worldserver(unit)]
    if segment is not None:
        # Studio leaves the word out where nothing has been done yet.
        marks.append(("conf", segment.get("conf") or "Unspecified"))
        marks.append(("origin", segment.get("origin") or ""))
    states = [_plain(word) for name, word in marks if name in _STATE_NAMES]
    if any(word in _MACHINE_WORDS for word in states):
        return MACHINE
    if not all(_is_finished(word) for word in states):
        return FUZZY
    machine = any(_plain(word) in _MACHINE_WORDS for name, word in marks if name in _ORIGIN_NAMES)
    # Who confirms in Phrase or memoQ is a person; Studio says "Translated" of what nobody changed.
    checked = _APPROVED_WORDS if segment is not None else _FINISHED_WORDS
    if machine and not any(word in checked or word.endswith("confirmed") for word in states):
        return MACHINE
    return _standard_reason(
        unit.get("approved"), target.get("state"), target.get("state-qualifier")
    )


def _standard_reason(approved: str | None, state: str | None, qualifier: str | None) -> str | None:
    # Phases and qualifiers of tools may follow the standard word.
    qualifier = (qualifier or "").lower()
    if qualifier.startswith("rejected"):
        return FUZZY
    if approved == "yes" or state in _LAST_STATES:
        return None if state in (None, "", "new", *_FINISHED_STATES) else FUZZY
    if qualifier in _MACHINE_QUALIFIERS:
        return MACHINE
    unfinished = state not in (None, "", *_FINISHED_STATES)
    refused = approved == "no" and not state
    return FUZZY if unfinished or refused or qualifier in _GUESS_QUALIFIERS else None


def segment_reason(segment: Any, *, states_are_kept: bool) -> str | None:
    """Why the translation of a segment of XLIFF 2 is not finished; None if it is.

    Args:
        states_are_kept: Whether any segment of the file has a state. The standard takes one
            without for `initial`, but tools that keep none write translations alone.
    """
    state = segment.get("state") or ("initial" if states_are_kept else "translated")
    detail = _plain((segment.get("subState") or "").rpartition(":")[2])
    if detail in _MACHINE_WORDS and state not in ("reviewed", "final"):
        return MACHINE
    if state not in ("translated", "reviewed", "final") or _UNFINISHED.fullmatch(detail):
        return FUZZY
    states = [_plain(word) for name, word in _marks(segment) if name in _STATE_NAMES]
    return None if all(map(_is_finished, states)) else FUZZY


def is_locked(unit: Any, segment: Any | None) -> bool:
    """Whether a tool keeps a unit from being changed."""
    words = [word for name, word in _marks(unit) if name == "locked"]
    words.append("" if segment is None else segment.get("locked") or "")
    return any(word.lower() in ("true", "1", "yes", "locked") for word in words)


def tmx_reason(unit: Any, target: Any) -> str | None:
    """Why a unit of TMX is no finished translation, by its properties and author."""
    authors = (node.get(key) for node in (target, unit) for key in ("changeid", "creationid"))
    machine = bool(_MACHINE_AUTHOR.fullmatch(next(filter(None, authors), "").strip()))
    unfinished = checked = False
    for node in (unit, target):
        for item in node.iterchildren("{*}prop"):
            # `x-ConfirmationLevel:SinglePicklist` of Trados names a type after the colon.
            name = _plain((item.get("type") or "").partition(":")[0].removeprefix("x-"))
            word = _plain("".join(item.itertext()))
            if name in _STATE_PROPERTIES and word:
                machine |= word in _MACHINE_WORDS
                unfinished |= bool(_UNFINISHED.fullmatch(word))
                checked |= word in _APPROVED_WORDS or word == "approved"
            machine |= name == "origin" and word in _MACHINE_WORDS
            machine |= name in _MACHINE_PROPERTIES and word not in ("", *_NO)
    if unfinished:
        return FUZZY
    return MACHINE if machine and not checked else None


def row_reason(row: Mapping[str, object]) -> str | None:
    """Why a row of a table is no finished translation, by the columns that tools export."""
    words = {_plain(name): _plain(str(word)) for name, word in row.items() if word is not None}
    if words.get("fuzzy", "") not in ("", *_NO):
        return FUZZY
    words.pop("review", None)  # of a table that is a text of its own
    states = [words[name] for name in (*_STATE_PROPERTIES, "origin", "match") if name in words]
    if any(map(_UNFINISHED.fullmatch, states)):
        return FUZZY
    is_machine = any(words.get(name, "") not in ("", *_NO) for name in _MACHINE_PROPERTIES)
    return MACHINE if is_machine or _MACHINE_WORDS.intersection(states) else None


def _marks(node: Any) -> list[tuple[str, str]]:
    """Attributes of a tool's own namespace, by their local names."""
    return [
        (str(name).rpartition("}")[2], str(word))
        for name, word in node.attrib.items()
        if name.startswith("{") and "XML/1998" not in name
    ]


def _worldserver(unit: Any) -> list[tuple[str, str]]:
    return [
        (str(name), str(word))
        for metadata in unit.iterchildren("{*}segment-metadata")
        for status in metadata.iterchildren("{*}status")
        for name, word in status.attrib.items()
    ]


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


def _is_finished(word: str) -> bool:
    confirmed = word.endswith("confirmed") and not word.startswith(("un", "not", "partial"))
    return confirmed or word in _FINISHED_WORDS
