"""Near duplicates: planted ones are found, others are not, similarities by hand and by sets."""

import random
import string

import pytest

from nlp_meta.data.duplicates import describe_repeats, text_key
from nlp_meta.data.leaks import Match, find_near_duplicates, find_repeats
from nlp_meta.errors import SettingsError


def make_texts(number: int, *, words: int, seed: int) -> list[str]:
    """Different texts of words of 2 to 7 letters, the common words far more often."""
    generator = random.Random(seed)
    known = [
        "".join(generator.choices(string.ascii_lowercase, k=generator.randint(2, 7)))
        for _ in range(300)
    ]
    weights = [1 / (place + 3) for place in range(len(known))]
    return [" ".join(generator.choices(known, weights, k=words)) for _ in range(number)]


def change_words(text: str, number: int, *, seed: int) -> str:
    generator = random.Random(seed)
    words = text.split()
    for place in generator.sample(range(len(words)), number):
        words[place] = "other"
    return " ".join(words)


def letters(first: int, number: int) -> str:
    """Letters that are all different, so that n of them have n - 4 shingles."""
    return "".join(chr(0x4E00 + first + place) for place in range(number))


def jaccard(left: str, right: str) -> float:
    one, other = (
        {key[i : i + 5] for i in range(len(key) - 4)} for key in (text_key(left), text_key(right))
    )
    return len(one & other) / len(one | other)


def test_every_text_of_30_words_with_one_changed_is_found_and_nothing_else():
    known = make_texts(300, words=30, seed=0)
    changed = [change_words(text, 1, seed=i) for i, text in enumerate(known)]
    different = make_texts(300, words=30, seed=1)

    matches = find_near_duplicates([*different, *changed], known, threshold=0.75)

    assert [(match.left, match.right) for match in matches] == [(300 + i, i) for i in range(300)]


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.75, 0.9, 1.0])
def test_matches_are_those_of_all_pairs_compared_as_sets(threshold):
    """Another route: Python sets, every pair, the largest and of equal ones the first."""
    known = make_texts(60, words=12, seed=2)
    sought = [change_words(text, i % 5, seed=i) for i, text in enumerate(known)]
    sought += make_texts(40, words=12, seed=3)

    matches = find_near_duplicates(sought, known, threshold=threshold)

    expected = []
    for left, text in enumerate(sought):
        similarity, right = max((jaccard(text, other), -i) for i, other in enumerate(known))
        if similarity >= threshold:
            expected.append(Match(left, -right, pytest.approx(similarity)))
    assert matches == expected
    assert len(expected) >= 12


def test_similarity_counts_shared_shingles():
    """By hand: 20 letters have 16 shingles, all of them among the 20 of 24 letters: 16 / 20."""
    short, long = letters(0, 20), letters(0, 24)

    assert find_near_duplicates([short], [long], threshold=0.8) == [Match(0, 0, 0.8)]
    assert find_near_duplicates([long], [short], threshold=0.8) == [Match(0, 0, 0.8)]
    assert find_near_duplicates([short], [long], threshold=0.81) == []


def test_short_texts_must_be_equal_but_for_case_and_punctuation():
    """By hand: 19 letters and one more share 15 of 16 shingles, which only the longer may use."""
    almost = find_near_duplicates([letters(0, 19)], [letters(0, 20)], threshold=0.5)

    assert almost == []
    assert find_near_duplicates(["So GOOD!"], ["bad", "so good"], threshold=0.9) == [Match(0, 1, 1)]
    assert find_near_duplicates([":)"], [":("], threshold=0.5) == []


def test_text_of_few_different_shingles_must_be_equal():
    laughs = ["ha" * 30, "ha" * 40]

    assert find_near_duplicates(laughs, laughs[:1], threshold=0.5) == [Match(0, 0, 1)]


def test_the_most_similar_text_is_taken_and_of_equal_ones_the_first():
    """By hand: one letter more gives 26 / 27, four more 26 / 30."""
    text = letters(0, 30)
    known = [letters(0, 34), letters(0, 31), letters(0, 31) + "!"]

    assert find_near_duplicates([text], known, threshold=0.5) == [
        Match(0, 1, pytest.approx(26 / 27))
    ]


def test_every_copy_of_a_text_is_matched():
    text = letters(0, 30)

    matches = find_near_duplicates([text, "other", text + "!"], [letters(0, 31)], threshold=0.9)

    assert [(match.left, match.right) for match in matches] == [(0, 0), (2, 0)]


def test_a_word_changed_is_found_in_writing_without_blanks_and_with_emoji():
    thai = "ร้านนี้อาหารอร่อยมากบริการดีเยี่ยมพนักงานสุภาพราคาไม่แพงจะกลับมาอีกแน่นอนครับ"
    emoji = "I have waited two weeks for this parcel and it came broken 😡😡 never again 🤬"

    changed = [thai.replace("สุภาพ", "น่ารัก"), emoji.replace("two", "six").replace("🤬", "")]

    matches = find_near_duplicates(changed, [thai, emoji], threshold=0.7)
    assert [(match.left, match.right) for match in matches] == [(0, 0), (1, 1)]


@pytest.mark.parametrize(("left", "right"), [([], ["a text"]), (["a text"], []), ([], [])])
def test_no_texts_have_no_matches(left, right):
    assert find_near_duplicates(left, right, threshold=0.8) == []
    assert find_repeats(left, threshold=0.8) == []


def test_more_texts_than_one_block_holds_find_their_partners():
    """Blocks have 512 rows."""
    known = make_texts(1100, words=14, seed=4)

    matches = find_near_duplicates([text + " x" for text in known], known, threshold=0.9)

    assert [match.right for match in matches] == list(range(1100))


def test_a_repeat_points_to_a_text_before_it():
    base = letters(0, 40)
    texts = [base, letters(100, 40), base + "!", letters(0, 41), "ok", "Ok."]

    matches = find_repeats(texts, threshold=0.9)

    assert [(match.left, match.right) for match in matches] == [(2, 0), (3, 0), (5, 4)]
    assert matches[1].similarity == pytest.approx(36 / 37)


def test_without_repeats_no_two_texts_are_alike():
    """A chain: each text has two letters more than the one before."""
    texts = [letters(0, 30 + 2 * i) for i in range(12)]

    repeats = {match.left for match in find_repeats(texts, threshold=0.8)}
    kept = [text for i, text in enumerate(texts) if i not in repeats]

    assert kept and find_repeats(kept, threshold=0.8) == []


@pytest.mark.parametrize("threshold", [0.49, 1.01, float("nan")])
def test_threshold_outside_its_range_stops(threshold):
    with pytest.raises(SettingsError, match=r"similarity .*0\.5 to 1 is needed"):
        find_near_duplicates(["a"], ["a"], threshold=threshold)
    with pytest.raises(SettingsError, match="change `threshold`"):
        find_repeats(["a"], threshold=threshold)


def test_repeats_and_texts_of_two_labels_are_told():
    texts = ["Good.", "bad", "good", "GOOD!", "fine", "bad"]

    notes = describe_repeats(texts, ["p", "n", "p", "n", "p", "n"])

    assert notes == [
        "3 of 6 rows repeat a text that stands there already, up to case and punctuation; 3 texts "
        "are different",
        "1 text has more than one label, such as that of rows 1 and 4: 'p' and 'n'",
    ]
    assert describe_repeats(["a", "b"], ["p", "n"]) == []
    (note,) = describe_repeats(["good: a room", "bad: a desk"], ["good", "bad"])
    assert note.startswith("2 of 2 texts have their label in them, such as that of row 1, 'good'")
