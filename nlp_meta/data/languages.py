"""English names of languages, by their codes of ISO 639-3, for prompts and reports.

Language tags and pairs of them: when two tags name one language, and how a pair is written.

`ind`, `id`, `id-ID` and `in` all mean Indonesian. A pair is one word, such as `ind-pt_BR`:
the hyphen stands between the languages, so a tag's own are written as underscores.
"""

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import NamedTuple

from nlp_meta.errors import DataError, EpisodeError

# ISO 639-1 and what it is called in ISO 639-3.
_TWO_LETTERS = (
    "aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak "
    "be:bel bg:bul bi:bis bm:bam bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre "
    "cs:ces cu:chu cv:chv cy:cym da:dan de:deu dv:div dz:dzo ee:ewe el:ell en:eng eo:epo es:spa "
    "et:est eu:eus fa:fas ff:ful fi:fin fj:fij fo:fao fr:fra fy:fry ga:gle gd:gla gl:glg gn:grn "
    "gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat hu:hun hy:hye hz:her ia:ina id:ind "
    "ie:ile ig:ibo ii:iii ik:ipk io:ido is:isl it:ita iu:iku ja:jpn jv:jav ka:kat kg:kon ki:kik "
    "kj:kua kk:kaz kl:kal km:khm kn:kan ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir la:lat "
    "lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri mk:mkd ml:mal "
    "mn:mon mr:mar ms:msa mt:mlt my:mya na:nau nb:nob nd:nde ne:nep ng:ndo nl:nld nn:nno no:nor "
    "nr:nbl nv:nav ny:nya oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli pl:pol ps:pus pt:por "
    "qu:que rm:roh rn:run ro:ron ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag sh:hbs si:sin "
    "sk:slk sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw st:sot su:sun sv:swe sw:swa ta:tam "
    "te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi ty:tah "
    "ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol wa:wln wo:wol xh:xho yi:yid yo:yor za:zha "
    "zh:zho zu:zul"
)
# Codes that were withdrawn and live on in Java's files; bibliographic ones of ISO 639-2; and
# the member that a macrolanguage's own code nearly always means.
_OTHER_NAMES = (
    "in:ind iw:heb ji:yid jw:jav mo:ron tib:bod cze:ces wel:cym ger:deu gre:ell baq:eus per:fas "
    "fre:fra arm:hye ice:isl geo:kat mac:mkd mao:mri may:msa bur:mya dut:nld rum:ron slo:slk "
    "alb:sqi chi:zho als:sqi arb:ara ayr:aym azj:aze cmn:zho ekk:est fil:tgl fuv:ful gaz:orm "
    "gug:grn khk:mon kmr:kur lvs:lav nob:nor npi:nep ory:ori pbt:pus pes:fas plt:mlg quy:que "
    "swh:swa twi:aka uzn:uzb ydd:yid zsm:msa"
)
_SCRIPT_OF_REGION = {"CN": "Hans", "SG": "Hans", "TW": "Hant", "HK": "Hant", "MO": "Hant"}


class LanguageTag(NamedTuple):
    """A language and, where its tag says so, its script and region."""

    language: str
    script: str | None
    region: str | None


@lru_cache(maxsize=1024)
def parse_tag(tag: str) -> LanguageTag:
    """Take a tag such as `pt_BR`, `zh-Hant-TW` or `jav_Java` apart; the language as in ISO 639-3.

    Variants and private parts are ignored. What is no known code stays itself.
    """
    language, *parts = tag.strip().replace("_", "-").replace("@", "-").split("-")
    language = _read_codes(_TWO_LETTERS).get(language.lower(), language.lower())
    language = _read_codes(_OTHER_NAMES).get(language, language)
    script = next((part.title() for part in parts if len(part) == 4 and part.isalpha()), None)
    region = next(
        (
            part.upper()
            for part in parts
            if (len(part) == 2 and part.isalpha()) or (len(part) == 3 and part.isdigit())
        ),
        None,
    )
    if script is None and language == "zho" and region is not None:
        script = _SCRIPT_OF_REGION.get(region)
    return LanguageTag(language, script, region)


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
            "two different ones are needed; change `--source-lang` or `--target-lang`"
        )


def list_languages(language: str) -> tuple[str, ...]:
    """Languages of a tag or of a pair, without script and region.

    That is `pt` of `pt-BR`, and `ind` and `zh` of `ind-zh_Hant`.
    """
    # A region or a script begins with a capital, a language does not.
    return tuple(part.split("_")[0] for part in language.split("-") if part[:1].islower())


@cache
def _read_codes(codes: str) -> dict[str, str]:
    return dict(code.split(":") for code in codes.split())


LANGUAGES: Mapping[str, str] = {
    "abs": "Ambonese Malay",
    "ace": "Acehnese",
    "afr": "Afrikaans",
    "aka": "Akan",
    "amh": "Amharic",
    "ara": "Arabic",
    "arb": "Arabic",
    "arq": "Algerian Arabic",
    "ary": "Moroccan Arabic",
    "asm": "Assamese",
    "ast": "Asturian",
    "aym": "Aymara",
    "ayr": "Aymara",
    "aze": "Azerbaijani",
    "bam": "Bambara",
    "ban": "Balinese",
    "bel": "Belarusian",
    "bem": "Bemba",
    "ben": "Bengali",
    "bew": "Betawi",
    "bhp": "Bima",
    "bjn": "Banjarese",
    "bos": "Bosnian",
    "bre": "Breton",
    "bug": "Buginese",
    "bul": "Bulgarian",
    "bzd": "Bribri",
    "cat": "Catalan",
    "ceb": "Cebuano",
    "ces": "Czech",
    "chr": "Cherokee",
    "ckb": "Central Kurdish",
    "cmn": "Chinese",
    "cni": "Asháninka",
    "cos": "Corsican",
    "cym": "Welsh",
    "dan": "Danish",
    "deu": "German",
    "dsb": "Lower Sorbian",
    "ell": "Greek",
    "eng": "English",
    "epo": "Esperanto",
    "est": "Estonian",
    "eus": "Basque",
    "ewe": "Ewe",
    "fas": "Persian",
    "fij": "Fijian",
    "fin": "Finnish",
    "fon": "Fon",
    "fra": "French",
    "fry": "West Frisian",
    "ful": "Fula",
    "fuv": "Nigerian Fulfulde",
    "gla": "Scottish Gaelic",
    "gle": "Irish",
    "glg": "Galician",
    "grn": "Guarani",
    "guj": "Gujarati",
    "hat": "Haitian Creole",
    "hau": "Hausa",
    "hbs": "Serbo-Croatian",
    "hch": "Wixarika",
    "heb": "Hebrew",
    "hil": "Hiligaynon",
    "hin": "Hindi",
    "hrv": "Croatian",
    "hsb": "Upper Sorbian",
    "hun": "Hungarian",
    "hye": "Armenian",
    "ibo": "Igbo",
    "ilo": "Ilocano",
    "ind": "Indonesian",
    "isl": "Icelandic",
    "ita": "Italian",
    "jav": "Javanese",
    "jpn": "Japanese",
    "kan": "Kannada",
    "kat": "Georgian",
    "kaz": "Kazakh",
    "khm": "Khmer",
    "kin": "Kinyarwanda",
    "kir": "Kyrgyz",
    "kmr": "Northern Kurdish",
    "kor": "Korean",
    "kur": "Kurdish",
    "lao": "Lao",
    "lav": "Latvian",
    "lin": "Lingala",
    "lit": "Lithuanian",
    "ltz": "Luxembourgish",
    "lug": "Luganda",
    "luo": "Luo",
    "mad": "Madurese",
    "mak": "Makassarese",
    "mal": "Malayalam",
    "mar": "Marathi",
    "min": "Minangkabau",
    "mkd": "Macedonian",
    "mlg": "Malagasy",
    "mlt": "Maltese",
    "mon": "Mongolian",
    "mos": "Mossi",
    "mri": "Maori",
    "msa": "Malay",
    "mui": "Musi",
    "mya": "Burmese",
    "nah": "Nahuatl",
    "nep": "Nepali",
    "nij": "Ngaju",
    "nld": "Dutch",
    "nob": "Norwegian Bokmål",
    "nor": "Norwegian",
    "npi": "Nepali",
    "nso": "Northern Sotho",
    "nya": "Chichewa",
    "oci": "Occitan",
    "ori": "Odia",
    "orm": "Oromo",
    "ory": "Odia",
    "oto": "Otomi",
    "pan": "Punjabi",
    "pcm": "Nigerian Pidgin",
    "pes": "Persian",
    "pol": "Polish",
    "por": "Portuguese",
    "pus": "Pashto",
    "que": "Quechua",
    "quy": "Ayacucho Quechua",
    "rej": "Rejang",
    "ron": "Romanian",
    "run": "Kirundi",
    "rus": "Russian",
    "scn": "Sicilian",
    "shp": "Shipibo-Konibo",
    "sin": "Sinhala",
    "slk": "Slovak",
    "slv": "Slovenian",
    "smo": "Samoan",
    "sna": "Shona",
    "snd": "Sindhi",
    "som": "Somali",
    "sot": "Southern Sotho",
    "spa": "Spanish",
    "sqi": "Albanian",
    "srd": "Sardinian",
    "srp": "Serbian",
    "ssw": "Swati",
    "sun": "Sundanese",
    "swa": "Swahili",
    "swe": "Swedish",
    "swh": "Swahili",
    "tam": "Tamil",
    "tar": "Rarámuri",
    "tat": "Tatar",
    "tel": "Telugu",
    "tgk": "Tajik",
    "tgl": "Tagalog",
    "tha": "Thai",
    "tir": "Tigrinya",
    "tpi": "Tok Pisin",
    "tsn": "Tswana",
    "tso": "Tsonga",
    "tuk": "Turkmen",
    "tur": "Turkish",
    "twi": "Twi",
    "uig": "Uyghur",
    "ukr": "Ukrainian",
    "urd": "Urdu",
    "uzb": "Uzbek",
    "vie": "Vietnamese",
    "war": "Waray",
    "wol": "Wolof",
    "xho": "Xhosa",
    "yid": "Yiddish",
    "yor": "Yoruba",
    "yue": "Cantonese",
    "zho": "Chinese",
    "zsm": "Malay",
    "zul": "Zulu",
}

SCRIPTS: Mapping[str, str] = {
    "Arab": "Arabic",
    "Beng": "Bengali",
    "Cyrl": "Cyrillic",
    "Deva": "Devanagari",
    "Ethi": "Ethiopic",
    "Hans": "simplified Chinese",
    "Hant": "traditional Chinese",
    "Latn": "Latin",
    "Sinh": "Sinhala",
    "Taml": "Tamil",
}
"""By their codes of ISO 15924."""


def name_language(code: str) -> str:
    """Name a language in English: `jav` is Javanese, `sin_Latn` Sinhala in Latin script.

    Any spelling that `parse_tag` reads will do: `jv`, `pt-BR`. A language that is not in the
    table stands for itself.
    """
    tag, written = parse_tag(code), code.replace("-", "_").partition("_")[0]
    # A member of a macrolanguage may have a name of its own.
    name = LANGUAGES.get(written) or LANGUAGES.get(tag.language)
    if name is None:
        return code
    return f"{name} in {SCRIPTS.get(tag.script, tag.script)} script" if tag.script else name
