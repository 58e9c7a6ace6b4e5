"""Languages: many spellings of one tag, and the names that people read."""

import pytest

from nlp_meta.data.languages import (
    LanguageTag,
    check_pair,
    common_codes,
    join_pair,
    list_languages,
    match_tags,
    name_language,
    parse_tag,
    same_language,
    split_pair,
)
from nlp_meta.errors import DataError, EpisodeError


@pytest.mark.parametrize("tag", ["ind", "id", "ID", "in", "id-ID", "id_ID", "ind_Latn", "IND-ID"])
def test_every_spelling_of_indonesian_is_indonesian(tag):
    """`in` was its code until 1989 and is so in Java."""
    assert parse_tag(tag).language == "ind"
    assert same_language("ind", tag) and same_language(tag, "id")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("jav", "jv-ID", True),
        ("eng", "en_US", True),
        ("ger", "deu", True),
        ("swh", "sw", True),
        ("zho_Hans", "zh-CN", True),
        ("zho_Hans", "zh-TW", False),
        ("pt-BR", "pt", True),
        ("pt-BR", "pt-PT", False),
        ("sr@latin", "srp", True),
        ("uzn_Cyrl", "uz-Latn", False),
        ("ind", "jav", False),
        ("hsb", "dsb", False),
        ("es-419", "spa", True),
    ],
)
def test_tags_are_one_language_unless_a_part_contradicts(one, other, same):
    assert same_language(one, other) is same
    assert same_language(other, one) is same


def test_parts_of_a_tag_are_told_apart():
    assert parse_tag("zh-hant-tw") == LanguageTag("zho", "Hant", "TW")
    assert parse_tag("es-419") == LanguageTag("spa", None, "419")
    assert parse_tag("de-CH-1996") == LanguageTag("deu", None, "CH")


def test_an_equal_tag_is_taken_before_those_that_may_be():
    assert match_tags("en", ["en-US", "en", "en-GB"]) == ("en",)
    assert match_tags("eng", ["en-US", "fr", "en-GB"]) == ("en-US", "en-GB")
    assert match_tags("en-GB", ["en-US", "fr", "en"]) == ("en",)
    assert match_tags("jav", ["en-US"]) == ()


@pytest.mark.parametrize("source", ["ind", "sin_Latn", "pt-BR", "zh-Hant-TW", "es-419", "sr@latin"])
@pytest.mark.parametrize("target", ["jav", "zh-Hant", "jav_Java"])
def test_two_tags_make_a_pair_that_comes_apart_into_the_same_languages(source, target):
    there = split_pair(join_pair(source, target))

    assert [parse_tag(code) for code in there] == [parse_tag(source), parse_tag(target)]
    assert join_pair(*there) == join_pair(source, target)


@pytest.mark.parametrize("pair", ["", "ind", "ind-", "-jav", "ind-jav-sun", "pt-BR-jav"])
def test_what_is_no_pair_is_refused(pair):
    with pytest.raises(EpisodeError, match=f"languages '{pair}': two codes with a hyphen"):
        split_pair(pair)


@pytest.mark.parametrize(
    ("language", "codes"),
    [
        ("ind", ("ind",)),
        ("pt-BR", ("pt",)),
        ("zh_Hans", ("zh",)),
        ("ind-jav", ("ind", "jav")),
        ("pt_BR-zh_Hant", ("pt", "zh")),
    ],
)
def test_languages_of_a_tag_or_a_pair_have_no_script_and_no_region(language, codes):
    assert list_languages(language) == codes


@pytest.mark.parametrize(("one", "other"), [("ind", "ind"), ("id", "ind"), ("pt-BR", "por_BR")])
def test_a_language_is_not_translated_into_itself(one, other):
    with pytest.raises(DataError, match=f"from '{one}' into '{other}': both are the same language"):
        check_pair(one, other)


@pytest.mark.parametrize(
    ("one", "other"), [("ind", "jav"), ("en-US", "en-GB"), ("zh-Hans", "zh-Hant"), ("sr", "hr")]
)
def test_another_script_or_region_is_another_language(one, other):
    check_pair(one, other)

    assert not same_language(one, other)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("jav", "Javanese"),
        ("cni", "Asháninka"),
        ("sin_Latn", "Sinhala in Latin script"),
        ("hau_Xyzt", "hau_Xyzt"),
        ("id", "Indonesian"),
        ("pt-BR", "Portuguese"),
        ("sr@latin", "Serbian"),
        ("ban", "Balinese"),
        ("bjn", "Banjarese"),
        ("quy", "Ayacucho Quechua"),
        ("arb", "Arabic"),
        ("tw", "Twi"),
        ("twi", "Twi"),
        ("nob", "Norwegian Bokmål"),
        ("zh", "Chinese"),
        ("zh-Hant", "Chinese in Traditional script"),
        ("qqq", "qqq"),
        ("qqq_Latn", "qqq_Latn"),
    ],
)
def test_a_language_is_named_and_an_unknown_one_stands_for_itself(code, name):
    assert name_language(code) == name


def test_common_codes_have_three_letters_and_a_name():
    assert {len(code) for code in common_codes()} == {3}
    assert all(name_language(code) != code for code in common_codes())
