"""TMX: units in any number of languages, of which two are chosen."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from locale import windows_locale
from typing import Any

from nlp_meta.data.languages import find_language, match_tags, same_language
from nlp_meta.errors import DataError
from nlp_meta.files.entries import (
    NO_LANGUAGE,
    NO_SEGMENT,
    OTHER_LANGUAGES,
    SEVERAL,
    UNEVEN,
    Catalog,
    Entry,
    UserFile,
    list_names,
)
from nlp_meta.files.markup import fill, flatten, load_lxml, read_xml, render_xml, space_is_kept
from nlp_meta.files.states import tmx_reason

_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
# Pairs of one unit; more variants of both its languages are a mistake.
_MOST_PAIRS = 100

Variants = Mapping[str, Sequence[Any]]
"""The `tuv` of a unit, by their language as the file spells it."""


def tmx_entries(file: UserFile, *, source_lang: str | None, target_lang: str | None) -> Catalog:
    """Read the units of a TMX file in two of its languages.

    A unit with several variants of a language gives a pair of each.

    Args:
        source_lang: None takes the one that the header names.
        target_lang: None takes the other one where there are two.

    Raises:
        DataError: The file is malformed or not safe, has no units or no segments, or a
            language is not in it or cannot be told from another.
    """
    document = read_xml(file, root="tmx")
    units = [(unit, _variants(unit)) for unit in document.root.iter("{*}tu")]
    _check_units(file, units)
    tags = tuple(dict.fromkeys(tag for _, variants in units for tag in variants if tag))
    header = document.root.find("{*}header")
    named = "" if header is None else _read_tag(header.get("srclang") or "")
    source = _choose(file, source_lang, tags, likely=named, taken=target_lang, option="source")
    target = _choose(file, target_lang, tags, likely="", taken=source, option="target")
    if set(match_tags(source, tags)) == set(match_tags(target, tags)):
        raise DataError(
            f"cannot read '{file.path}': `source_lang` {source} and `target_lang` {target} are "
            f"one language there, two of {list_names(tags)} are needed; name another"
        )
    entries = [
        entry for unit, variants in units for entry in _entries(unit, variants, source, target)
    ]
    _check_regions(file, units, entries, {"source_lang": source, "target_lang": target})
    notes = [*document.notes, *_region_notes(units, source, target)]
    return Catalog(entries, [(source, target)], tuple(notes))


def render_tmx(pairs: Sequence[tuple[str, str]], *, source_lang: str, target_lang: str) -> bytes:
    """Write pairs as a TMX 1.4 file."""
    etree = load_lxml()

    root = etree.Element("tmx", {"version": "1.4"})
    header = {"srclang": source_lang, "adminlang": "en", "segtype": "sentence"}
    tool = {"creationtool": "nlp-meta", "creationtoolversion": "1", "o-tmf": "nlp-meta"}
    etree.SubElement(root, "header", {**header, **tool, "datatype": "plaintext"})
    body = etree.SubElement(root, "body")
    for texts in pairs:
        unit = etree.SubElement(body, "tu")
        for tag, text in zip((source_lang, target_lang), texts, strict=True):
            segment = etree.SubElement(etree.SubElement(unit, "tuv", {_LANG: tag}), "seg")
            fill(segment, text, like=segment)
    return render_xml(root)


def _check_units(file: UserFile, units: Sequence[tuple[Any, Variants]]) -> None:
    """Refuse a file of which nothing can be used, and name the part that is missing."""
    variants = [node for _, variants in units for nodes in variants.values() for node in nodes]
    if not units:
        lack, needed = "it has no units (<tu>)", "one with a translation"
    elif not variants:
        lack, needed = "its units have no variants (<tuv>)", "one for each language"
    elif not any(node.find("{*}seg") is not None for node in variants):
        lack, needed = "its units have no <seg>", "one around the text of each <tuv>"
    elif not any(tag for _, variants in units for tag in variants):
        lack, needed = "its units name no language", "`xml:lang` of each <tuv>"
    else:
        return
    raise DataError(
        f"cannot read '{file.path}': {lack}, {needed} is needed; export the memory anew or name "
        "another file"
    )


def _variants(unit: Any) -> dict[str, list[Any]]:
    variants: dict[str, list[Any]] = {}
    for variant in unit.iterchildren("{*}tuv"):
        tag = variant.get(_LANG) or variant.get("lang") or ""  # `lang` before TMX 1.4
        variants.setdefault(_read_tag(tag), []).append(variant)
    return variants


def _read_tag(written: str) -> str:
    """A tag as it is; some tools write a name of the language, or its number of Windows."""
    tag = written.strip()
    if number := int(tag) if tag.isdecimal() and len(tag) < 6 else 0:
        # Below 1024 it says no region: 9 is English.
        language = windows_locale.get(number + 0x400, tag).partition("_")[0]
        return windows_locale.get(number, tag) if number > 0x3FF else language
    return find_language(tag) if tag[3:] and tag.isalpha() else tag


def _entries(unit: Any, variants: Variants, source: str, target: str) -> Iterator[Entry]:
    line = unit.sourceline
    tags = [match_tags(wanted, filter(None, variants)) for wanted in (source, target)]
    if not all(tags):
        # A variant that does not name its language may be the one that is missing.
        reason = NO_LANGUAGE if "" in variants else None if any(tags) else OTHER_LANGUAGES
        left, right = (_first_text(variants, names) for names in tags)
        yield Entry(left, right, line, reason)
        return
    if any(len({tag.lower().replace("_", "-") for tag in names}) > 1 for names in tags):
        yield Entry(None, None, line, SEVERAL)
        return
    sources, targets = ([node for tag in names for node in variants[tag]] for names in tags)
    if len(sources) * len(targets) > _MOST_PAIRS:
        yield Entry(None, None, line, UNEVEN)
        return
    for left, right in product(sources, targets):
        yield from _pairs(unit, left, right)


def _pairs(unit: Any, source: Any, target: Any) -> Iterator[Entry]:
    line = unit.sourceline
    segments = [list(node.iterchildren("{*}seg")) for node in (source, target)]
    if not all(segments):
        yield Entry(None, None, line, NO_SEGMENT)
    elif len({len(nodes) for nodes in segments}) > 1:
        yield Entry(None, None, line, UNEVEN)
    else:
        reason = tmx_reason(unit, target)
        for left, right in zip(*segments, strict=True):
            yield Entry(_text(left), _text(right), line, reason)


def _text(segment: Any) -> str:
    return flatten(segment, preserve=space_is_kept(segment, default=True))


def _first_text(variants: Variants, tags: Sequence[str]) -> str | None:
    segments = (node.find("{*}seg") for tag in tags for node in variants[tag])
    return next((_text(segment) for segment in segments if segment is not None), None)


def _check_regions(
    file: UserFile,
    units: Sequence[tuple[Any, Variants]],
    entries: Sequence[Entry],
    wanted: Mapping[str, str],
) -> None:
    """Stop where every translation is there in several regions: only the user knows which."""
    doubtful = {entry.line for entry in entries if entry.reason == SEVERAL}
    if not doubtful or any(entry.source and entry.target for entry in entries):
        return
    unit, variants = next(item for item in units if item[0].sourceline in doubtful)
    for option, language in wanted.items():
        tags = match_tags(language, filter(None, variants))
        if len(tags) > 1:
            raise DataError(
                f"cannot read '{file.path}': the unit in line {unit.sourceline} has {language} as "
                f"{' and as '.join(tags[:10])}, one is needed; name it with its region by "
                f"`{option}`"
            )


def _region_notes(units: Sequence[tuple[Any, Variants]], source: str, target: str) -> Iterator[str]:
    for language in (source, target):
        tags = {
            tag.lower().replace("_", "-")
            for _, variants in units
            for tag in match_tags(language, filter(None, variants))
        }
        if len(tags) > 1:
            yield f"{language} is there as {list_names(sorted(tags))}, and all of them are used"


def _choose(
    file: UserFile,
    wanted: str | None,
    tags: Sequence[str],
    *,
    likely: str,
    taken: str | None,
    option: str,
) -> str:
    listed = list_names(tags)
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
