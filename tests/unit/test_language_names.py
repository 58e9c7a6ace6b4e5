"""Names of languages: codes of ISO 639-3, with a script or unknown, and pairs of them."""

import pytest

from nlp_meta.data.languages import COMMON_CODES, name_language


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
    assert {len(code) for code in COMMON_CODES} == {3}
    assert all(name_language(code) != code for code in COMMON_CODES)
