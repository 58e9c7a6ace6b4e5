"""Names of languages: codes of ISO 639-3, with a script or unknown, and pairs of them."""

import pytest

from nlp_meta.data.language_names import LANGUAGES, name_language, split_pair
from nlp_meta.errors import EpisodeError


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("jav", "Javanese"),
        ("cni", "Asháninka"),
        ("sin_Latn", "Sinhala in Latin script"),
        ("hau_Xyzt", "Hausa in Xyzt script"),
        ("qqq", "qqq"),
        ("qqq_Latn", "qqq_Latn"),
    ],
)
def test_a_language_is_named_and_an_unknown_one_stands_for_itself(code, name):
    assert name_language(code) == name


def test_codes_have_three_letters_and_stand_in_their_order():
    assert list(LANGUAGES) == sorted(LANGUAGES)
    assert {len(code) for code in LANGUAGES} == {3}


def test_a_pair_is_two_codes():
    assert split_pair("ind-jav") == ("ind", "jav")
    assert split_pair("sin_Latn-eng") == ("sin_Latn", "eng")


@pytest.mark.parametrize("pair", ["", "ind", "ind-", "-jav", "ind-jav-sun"])
def test_what_is_no_pair_is_refused(pair):
    with pytest.raises(EpisodeError, match=f"languages '{pair}': two codes with a hyphen"):
        split_pair(pair)
