"""TMX: units in any number of languages, of which two are chosen."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from nlp_meta.data.languages import match_tags, same_language
from nlp_meta.errors import DataError
from nlp_meta.files.entries import Entry, UserFile, damaged
from nlp_meta.files.markup import check_xml, flatten, space_is_kept

_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def tmx_entries(file: UserFile, *, source_lang: str | None, target_lang: str | None) -> list[Entry]:
    """Read the units of a TMX file in two of its languages.

    Args:
        source_lang: None takes the one that the header names.
        target_lang: None takes the other one where there are two.

    Raises:
        DataError: The file is malformed or not safe, or a language is not in it or cannot
            be told from another.
    """
    check_xml(file, root="tmx")
    store = _load(file)
    units = [(unit.xmlelement, _segments(unit.xmlelement)) for unit in store.units]
    tags = tuple(dict.fromkeys(tag for _, segments in units for tag in segments))
    named = store.sourcelanguage or ""
    source = _choose(file, source_lang, tags, likely=named, taken=target_lang, option="source")
    target = _choose(file, target_lang, tags, likely="", taken=source, option="target")
    if set(match_tags(source, tags)) == set(match_tags(target, tags)):
        raise DataError(
            f"cannot read '{file.path}': `source_lang` {source} and `target_lang` {target} are "
            f"one language there, two of {', '.join(tags)} are needed; name another"
        )
    return [
        Entry(
            _text(file, node, segments, source, option="source_lang"),
            _text(file, node, segments, target, option="target_lang"),
            node.sourceline,
        )
        for node, segments in units
    ]


def render_tmx(pairs: Sequence[tuple[str, str]], *, source_lang: str, target_lang: str) -> bytes:
    """Write pairs as a TMX 1.4 file."""
    from translate.storage.tmx import tmxfile

    store = tmxfile(None, sourcelanguage=source_lang, targetlanguage=target_lang)
    for source, target in pairs:
        store.addtranslation(source, source_lang, target, target_lang)
    out = BytesIO()
    store.serialize(out)
    return out.getvalue()


def _load(file: UserFile) -> Any:
    from lxml import etree
    from translate.storage.tmx import tmxfile

    try:
        return tmxfile(BytesIO(file.content))
    except (etree.XMLSyntaxError, AssertionError, ValueError) as error:
        wrong = isinstance(error, AssertionError)
        reason = "its elements are not those of TMX" if wrong else error
        raise damaged(file, reason) from error


def _segments(unit: Any) -> dict[str, Any]:
    """The first text of each language; its tag in the spelling of the file."""
    segments: dict[str, Any] = {}
    for variant in unit.iterchildren("{*}tuv"):
        tag = variant.get(_LANG) or variant.get("lang") or ""  # `lang` before TMX 1.4
        segment = variant.find("{*}seg")
        if tag and segment is not None:
            segments.setdefault(tag, segment)
    return segments


def _choose(
    file: UserFile,
    wanted: str | None,
    tags: Sequence[str],
    *,
    likely: str,
    taken: str | None,
    option: str,
) -> str:
    listed = ", ".join(tags) or "none"
    if wanted is not None:
        if match_tags(wanted, tags):
            return wanted
        raise DataError(
            f"cannot find the language '{wanted}' in '{file.path}': its languages are {listed}; "
            f"name one of them with `{option}_lang`"
        )
    if match_tags(likely, tags):
        return likely
    others = [tag for tag in tags if taken is None or not same_language(taken, tag)]
    if len(others) == 1:
        return others[0]
    raise DataError(
        f"cannot tell the {option} language of '{file.path}': its languages are {listed}, one of "
        f"them is needed; name it with `{option}_lang`"
    )


def _text(
    file: UserFile, unit: Any, segments: Mapping[str, Any], wanted: str, *, option: str
) -> str | None:
    tags = match_tags(wanted, segments)
    if not tags:
        return None
    if len({tag.lower().replace("_", "-") for tag in tags}) > 1:
        raise DataError(
            f"cannot read '{file.path}': the unit in line {unit.sourceline} has {wanted} as "
            f"{' and as '.join(tags)}, one is needed; name it with its region by `{option}`"
        )
    node = segments[tags[0]]
    return flatten(node, preserve=space_is_kept(node, default=True))
