"""Names of languages: codes of ISO 639-3, with a script or unknown, and pairs of them."""

import pytest

from nlp_meta.data.languages import LANGUAGES, name_language


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("jav", "Javanese"),
        ("cni", "Asháninka"),
        ("sin_Latn", "Sinhala in Latin script"),
        ("hau_Xyzt", "Hausa in Xyzt script"),
        ("id", "Indonesian"),
        ("pt-BR", "Portuguese"),
        ("tw", "Akan"),
        ("twi", "Twi"),
        ("nob", "Norwegian Bokmål"),
        ("zh", "Chinese"),
        ("zh-Hant", "Chinese in traditional Chinese script"),
        ("qqq", "qqq"),
        ("qqq_Latn", "qqq_Latn"),
    ],
)
def test_a_language_is_named_and_an_unknown_one_stands_for_itself(code, name):
    assert name_language(code) == name


def test_codes_have_three_letters_and_stand_in_their_order():
    assert list(LANGUAGES) == sorted(LANGUAGES)
    assert {len(code) for code in LANGUAGES} == {3}
