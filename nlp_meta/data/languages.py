"""Language tags, pairs of them, and the English names of languages for prompts and reports.

`ind`, `id`, `id-ID` and `in` all mean Indonesian. A pair is one word, such as `ind-pt_BR`:
the hyphen stands between the languages, so a tag's own are written as underscores.
"""

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from nlp_meta.errors import DataError, EpisodeError, need_packages

if TYPE_CHECKING:
    from langcodes import Language

# Members of macrolanguages that CLDR does not count as what the macrolanguage's code means.
_MACROLANGUAGES = {"fuv": "ful", "nob": "nor", "pbt": "pus", "quy": "que"}

# Names of which CLDR has others; prompts and measured numbers were made with these.
_NAMES = {
    "ben": "Bengali",
    "bjn": "Banjarese",
    "fil": "Tagalog",
    "fry": "West Frisian",
    "hch": "Wixarika",
    "ilo": "Ilocano",
    "kmr": "Northern Kurdish",
    "lug": "Luganda",
    "luo": "Luo",
    "mak": "Makassarese",
    "mri": "Maori",
    "nah": "Nahuatl",
    "nya": "Chichewa",
    "oto": "Otomi",
    "run": "Kirundi",
    "shp": "Shipibo-Konibo",
    "tar": "Rarámuri",
    "twi": "Twi",
}


@cache
def common_codes() -> tuple[str, ...]:
    """ISO 639-3 codes of the languages that have one of two letters too."""
    _language_class()
    from langcodes.data_dicts import LANGUAGE_ALPHA3

    return tuple(sorted(set(LANGUAGE_ALPHA3.values())))


@cache
def _language_class() -> "type[Language]":
    need_packages("tell languages apart", "langcodes", "language_data", extra="translation")
    from langcodes import Language

    return Language


class LanguageTag(NamedTuple):
    """A language and, where its tag says so, its script and region."""

    language: str
    script: str | None
    region: str | None


@lru_cache(maxsize=1024)
def parse_tag(tag: str) -> LanguageTag:
    """Take a tag such as `pt_BR`, `zh-Hant-TW` or `jav_Java` apart; the language as in ISO 639-3.

    A member of a macrolanguage that the macrolanguage's code nearly always means stands for
    it. Variants and private parts are ignored. What is no known code stays itself.
    """
    code, *parts = _split(tag)
    script = next((part.title() for part in parts if len(part) == 4 and part.isalpha()), None)
    region = next(
        (
            part.upper()
            for part in parts
            if (len(part) == 2 and part.isalpha()) or (len(part) == 3 and part.isdigit())
        ),
        None,
    )
    language = _find(code)
    if language is None:
        return LanguageTag(code.lower(), script, region)
    if script is None and language.language == "zh" and region is not None:
        script = _language_class().make("zh", territory=region).maximize().script
    name = language.prefer_macrolanguage().to_alpha3()
    return LanguageTag(_MACROLANGUAGES.get(name, name), script, region)


def name_language(tag: str) -> str:
    """Name a language in English: `jav` is Javanese, `sin_Latn` Sinhala in Latin script.

    Any spelling that `parse_tag` reads will do: `jv`, `pt-BR`. A language or a script without
    a name stands for itself.
    """
    language, script = _find(_split(tag)[0]), parse_tag(tag).script
    if language is None or not (script is None or _language_class().make(script=script).is_valid()):
        return tag
    # A member of a macrolanguage may have a name of its own.
    name = _NAMES.get(language.to_alpha3()) or language.prefer_macrolanguage().language_name("en")
    if name.startswith("Unknown"):
        return tag
    if script is None:
        return name
    return f"{name} in {_language_class().make(script=script).script_name('en')} script"


def find_language(name: str) -> str:
    """The code of a language by its name in any language: `Deutsch`; else the name itself."""
    _language_class()
    import langcodes

    try:
        return langcodes.find(name).to_tag()
    except LookupError:
        return name


def same_language(wanted: str, tag: str) -> bool:
    """Whether a tag may stand for the wanted one: no part of the two contradicts.

    `id` and `ind-ID` are one language, as are `pt` and `pt-BR`; `pt-PT` and `pt-BR` are not.
    """
    return all(
        mine == other or mine is None or other is None
        for mine, other in zip(parse_tag(wanted), parse_tag(tag), strict=True)
    )


def match_tags(wanted: str, tags: Iterable[str]) -> tuple[str, ...]:
    """Find the tags that the wanted one means: those equal in all parts, else all that may be."""
    matching = [tag for tag in tags if same_language(wanted, tag)]
    equal = [tag for tag in matching if parse_tag(tag) == parse_tag(wanted)]
    return tuple(dict.fromkeys(equal or matching))


def join_pair(source: str, target: str) -> str:
    """Write two languages as a pair: `pt-BR` and `jav` are `pt_BR-jav`."""
    return "-".join(tag.replace("-", "_") for tag in (source, target))


def split_pair(pair: str) -> tuple[str, str]:
    """Codes of the language that a pair translates from, and of the one it translates into.

    Raises:
        EpisodeError: Not two codes with a hyphen between them.
    """
    codes = pair.split("-")
    if len(codes) != 2 or not all(codes):
        raise EpisodeError(
            f"cannot translate between the languages '{pair}': two codes with a hyphen between "
            "them, such as ind-jav or pt_BR-jav, are needed; change the language of the task"
        )
    return codes[0], codes[1]


def check_pair(source: str, target: str) -> None:
    """Refuse to translate a language into itself; into another script or region of it is fine.

    Raises:
        DataError: Both tags mean the same.
    """
    if parse_tag(source) == parse_tag(target):
        raise DataError(
            f"cannot translate from '{source}' into '{target}': both are the same language and "
            "two different ones are needed; change `source_lang` or `target_lang`"
        )


def list_languages(language: str) -> tuple[str, ...]:
    """Languages of a tag or of a pair, without script and region.

    That is `pt` of `pt-BR`, and `ind` and `zh` of `ind-zh_Hant`.
    """
    # A region or a script begins with a capital, a language does not.
    return tuple(part.split("_")[0] for part in language.split("-") if part[:1].islower())


def _find(code: str) -> "Language | None":
    """A language by its code alone, without script and region; None for what is no code."""
    try:
        language = _language_class().get(code)
        language.to_alpha3()
    except (ValueError, LookupError):
        return None
    return language


def _split(tag: str) -> list[str]:
    return re.split("[-_@]", tag.strip())
