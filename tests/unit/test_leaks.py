"""Leaks: what is planted is found, what gives an answer away goes, the rest stays."""

import json
import logging
import random
import string
from dataclasses import asdict

import pytest

from nlp_meta.data.leaks import EXCLUDED, KEPT, LEAKS, check_leaks, exclude_leaks, find_leaks
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import DataError, SettingsError

LABELS = ("negative", "positive")
PARCEL = "the parcel came two weeks late and the box was so crushed that the cups inside had broken"
PARCEL_AGAIN = PARCEL.replace("weeks", "months")
HOTEL = "we slept well in a quiet room above the garden and breakfast was fresh every single day"
HOTEL_AGAIN = HOTEL + " !!"
THRESHOLD = 0.7


def plain(place: int, label: str) -> Example:
    """A text like no other."""
    letters = random.Random(f"{place} {label}").choices(string.ascii_lowercase, k=40)
    return Example("".join(letters), label)


def task(name: str, *, train=(), test=(), filled=2) -> Task:
    """A task with so many texts of each label in each part that has any, after those given."""
    number = sum(map(ord, name)) * 100
    return Task(
        name=name,
        kind="classification",
        language="eng",
        domain="d",
        meta_split="meta-test",
        labels=LABELS,
        train=(*train, *(plain(number + i, label) for i in range(filled) for label in LABELS)),
        test=(*test, *(plain(number + 50 + i, label) for i in range(filled) for label in LABELS))
        if test
        else (),
    )


def translations(name: str, *, train=(), test=(), split="meta-test", dropped=0) -> Task:
    """A translation task of these pairs, and one pair like no other in each part that has any."""

    def pad(rows, place):
        own = [plain(sum(map(ord, name)) * 100 + place + i, "").source for i in range(2)]
        return (*rows, Example(*own)) if rows else ()

    return Task(
        name=name,
        kind="translation",
        language="eng-deu",
        domain="d",
        meta_split=split,
        labels=(),
        train=pad(tuple(Example(*row) for row in train), 0),
        test=pad(tuple(Example(*row) for row in test), 50),
        dropped=dropped,
    )


def describe(leaks) -> list[tuple]:
    return [
        (leak.kind, leak.task, leak.part, leak.row, leak.other_task, leak.action) for leak in leaks
    ]


def test_judged_row_that_meta_training_saw_is_excluded():
    seen = task("shops/toys", train=[Example(PARCEL, "negative")])
    judged = task("shops/cups", test=[Example(PARCEL_AGAIN, "negative")])

    leaks = find_leaks([seen], [judged], threshold=THRESHOLD)

    expected = ("meta-train/query", "shops/cups", "test", 0, "shops/toys", EXCLUDED)
    assert describe(leaks) == [expected]
    assert (leaks[0].text, leaks[0].other_text) == (PARCEL_AGAIN, PARCEL)
    assert THRESHOLD <= leaks[0].similarity < 1
    (kept,) = exclude_leaks([judged], leaks)
    assert kept.test == judged.test[1:] and kept.train == judged.train


def test_train_row_that_meta_training_saw_is_listed_and_kept():
    seen = task("shops/toys", train=[Example(PARCEL, "negative")])
    judged = task("shops/cups", train=[Example(PARCEL, "negative")], test=[plain(7, "positive")])

    leaks = find_leaks([seen], [judged], threshold=THRESHOLD)

    expected = ("meta-train/support", "shops/cups", "train", 0, "shops/toys", KEPT)
    assert describe(leaks) == [expected]
    assert exclude_leaks([judged], leaks) == (judged,)


def test_train_row_that_repeats_a_test_row_of_its_task_leaves_the_train_part():
    judged = task(
        "shops/cups",
        train=[plain(1, "negative"), Example(HOTEL_AGAIN, "positive")],
        test=[Example(HOTEL, "positive")],
    )

    leaks = find_leaks([], [judged], threshold=THRESHOLD)

    expected = ("support/query", "shops/cups", "train", 1, "shops/cups", EXCLUDED)
    assert describe(leaks) == [expected]
    (kept,) = exclude_leaks([judged], leaks)
    assert kept.test == judged.test
    assert kept.train == (judged.train[0], *judged.train[2:])


def test_task_without_test_rows_is_judged_on_its_train_rows():
    """The first hotel was seen; of the two parcels the later goes."""
    seen = task("shops/toys", train=[Example(HOTEL, "positive")])
    rows = [
        Example(PARCEL, "negative"),
        Example(HOTEL_AGAIN, "positive"),
        Example(PARCEL_AGAIN, "negative"),
    ]
    judged = task("shops/cups", train=rows)

    leaks = find_leaks([seen], [judged], threshold=THRESHOLD)

    assert describe(leaks) == [
        ("meta-train/query", "shops/cups", "train", 1, "shops/toys", EXCLUDED),
        ("support/query", "shops/cups", "train", 2, "shops/cups", EXCLUDED),
    ]
    (kept,) = exclude_leaks([judged], leaks)
    assert kept.train == (judged.train[0], *judged.train[3:])


def test_translation_of_a_judged_row_is_found_by_its_group_within_a_corpus():
    seen = task("bible/deu", train=[Example("guten Tag", "positive", "7")])
    other = task("poems/deu", train=[Example("gute Nacht", "positive", "8")])
    judged = task(
        "bible/eng",
        train=[Example("hello", "positive", "7")],
        test=[
            Example("good day", "positive", "7"),
            Example("good night", "positive", "8"),
            Example("good luck", "positive", None),
        ],
    )

    leaks = find_leaks([seen, other], [judged], threshold=THRESHOLD)

    expected = ("parallel", "bible/eng", "test", 0, "bible/deu", EXCLUDED)
    assert describe(leaks) == [expected]
    assert leaks[0].similarity is None and leaks[0].other_text == "guten Tag"


def test_test_rows_of_a_seen_task_count_as_seen():
    """Choices between methods are made on the test rows of the meta-validation tasks."""
    seen = task("shops/toys", test=[Example(PARCEL, "negative")])
    judged = task("shops/cups", test=[Example(PARCEL, "negative")])

    assert [leak.kind for leak in find_leaks([seen], [judged], threshold=THRESHOLD)] == [
        "meta-train/query"
    ]


def test_report_counts_what_was_checked_found_and_excluded():
    """By hand: `task` fills each part with 4 rows; the second parcel is found twice, goes once."""
    seen = task("shops/toys", train=[Example(PARCEL, "negative", "1")])
    cups = task(
        "shops/cups",
        train=[Example(HOTEL, "positive")],
        test=[Example(PARCEL_AGAIN, "negative", "1"), Example(HOTEL_AGAIN, "positive")],
    )
    hats = task("shops/hats")

    kept, report = check_leaks([seen], [cups, hats], overlap="exclude", threshold=THRESHOLD)

    assert report.checked == {
        "meta_train_tasks": 1,
        "meta_train_rows": 5,
        "judged_tasks": 2,
        "judged_train_rows": 9,
        "judged_test_rows": 6,
    }
    assert report.found == {
        "meta-train/query": 1,
        "meta-train/support": 0,
        "support/query": 1,
        "parallel": 1,
    }
    assert report.excluded == {"shops/cups": {"train": 1, "test": 1}}
    assert [len(one.test) for one in kept] == [5, 0] and kept[1] == hats
    assert [one.kind for one in report.examples] == [
        "meta-train/query",
        "support/query",
        "parallel",
    ]


def test_report_is_json_and_lists_at_most_20_of_a_kind_shortened():
    rows = [Example(f"{word}{'x' * 100}", "positive") for word in map(str, range(30))]
    seen, judged = task("shops/toys", train=rows), task("shops/cups", test=rows)

    _, report = check_leaks([seen], [judged], overlap="exclude", threshold=1)

    written = json.loads(json.dumps(asdict(report)))
    assert written["found"]["meta-train/query"] == 30
    assert len(written["examples"]) == 20
    assert written["examples"][3]["text"] == "3" + "x" * 78 + "…"
    assert written["examples"][3]["similarity"] == 1
    assert tuple(written["found"]) == LEAKS


def test_stop_says_how_many_shows_one_and_names_the_way_out():
    seen = task("shops/toys", train=[Example(PARCEL, "negative")])
    judged = task(
        "shops/cups",
        train=[Example(HOTEL, "positive")],
        test=[plain(7, "positive"), Example(PARCEL, "negative"), Example(HOTEL, "positive")],
    )

    with pytest.raises(DataError) as caught:
        check_leaks([seen], [judged], overlap="stop", threshold=THRESHOLD)

    message = str(caught.value)
    assert "1 meta-train/query, 1 support/query rows" in message
    assert "test row 1 of 'shops/cups' ('the parcel came" in message and "…'" in message
    assert "one of 'shops/toys'" in message
    assert '`overlap="exclude"`' in message


def test_stop_lets_through_what_gives_no_answer_away():
    seen = task("shops/toys", train=[Example(PARCEL, "negative")])
    judged = task("shops/cups", train=[Example(PARCEL, "negative")], test=[plain(7, "positive")])

    kept, report = check_leaks([seen], [judged], overlap="stop", threshold=THRESHOLD)

    assert kept == (judged,)
    assert report.found["meta-train/support"] == 1 and report.excluded == {}
    assert report.examples[0].action == KEPT


def test_task_that_would_lose_a_label_stops_and_is_named():
    rows = [Example(PARCEL, "negative"), Example(HOTEL, "positive")]
    seen = task("shops/toys", train=rows[:1])
    judged = task("shops/cups", test=[*rows[:1], plain(7, "positive")], filled=0)

    with pytest.raises(DataError, match=r"'shops/cups'.* 1 of its 2 test rows .*'negative'"):
        check_leaks([seen], [judged], overlap="exclude", threshold=THRESHOLD)


def test_task_that_would_lose_all_test_rows_stops_and_is_not_judged_on_train_rows():
    judged = task("shops/cups", test=[Example(HOTEL, "positive")])

    with pytest.raises(DataError, match=r"5 of its 5 test rows .*`data\.exclude`"):
        check_leaks([judged], [judged], overlap="exclude", threshold=THRESHOLD)


def test_clean_tasks_come_back_as_they_are():
    seen, judged = task("shops/toys"), task("shops/cups", test=[plain(7, "positive")])

    kept, report = check_leaks([seen], [judged], overlap="stop", threshold=THRESHOLD)

    assert kept == (judged,)
    assert report.found == dict.fromkeys(LEAKS, 0) and report.examples == ()


def test_exclusion_is_logged_by_task_and_part(caplog):
    seen = task("shops/toys", train=[Example(PARCEL, "negative")])
    judged = task("shops/cups", test=[Example(PARCEL, "negative")])

    with caplog.at_level(logging.INFO):
        check_leaks([seen], [judged], overlap="exclude", threshold=THRESHOLD)

    assert caplog.messages == ["shops/cups: 1 test rows excluded that leak"]


def test_unknown_way_to_treat_leaks_stops():
    with pytest.raises(SettingsError, match="one of exclude, stop is needed; change `overlap`"):
        check_leaks([], [], overlap="ignore", threshold=THRESHOLD)


PAKET = "das Paket kam zwei Wochen zu spaet und der Karton war so zerdrueckt dass alles zerbrach"
PAKET_AGAIN = PAKET.replace("Wochen", "Monate")


def test_judged_pair_leaks_by_either_sentence_and_is_listed_once():
    """By hand: row 0 by its source, row 1 by its target as a source there, row 2 by both."""
    seen = translations("mail/eng-deu", train=[(PARCEL, "neu"), (PAKET, HOTEL)], split="meta-train")
    test = [(PARCEL_AGAIN, "anders"), ("other", PAKET_AGAIN), (HOTEL, PARCEL_AGAIN), ("x", "y")]
    judged = translations("post/eng-fra", test=test)

    leaks = find_leaks([seen], [judged], threshold=THRESHOLD)

    expected = [("meta-train/query", "post/eng-fra", "test", row) for row in range(3)]
    assert [found[:4] for found in describe(leaks)] == expected
    assert [leak.text for leak in leaks] == [PARCEL_AGAIN, PAKET_AGAIN, HOTEL]
    assert [leak.other_text for leak in leaks] == [PARCEL, PAKET, HOTEL]
    assert leaks[2].similarity == 1
    (kept,) = exclude_leaks([judged], leaks)
    assert kept.test == judged.test[3:]


def test_kinds_leak_into_each_other():
    pairs = translations("mail/eng-deu", train=[("anything", PAKET)], split="meta-train")
    reviews = task("shops/cups", test=[Example(PAKET_AGAIN, "negative")])
    seen_reviews = task("shops/toys", train=[Example(HOTEL, "positive")])
    judged_pairs = translations("post/eng-fra", test=[(HOTEL_AGAIN, "bien")])

    leaks = find_leaks([pairs, seen_reviews], [reviews, judged_pairs], threshold=THRESHOLD)

    assert describe(leaks) == [
        ("meta-train/query", "shops/cups", "test", 0, "mail/eng-deu", EXCLUDED),
        ("meta-train/query", "post/eng-fra", "test", 0, "shops/toys", EXCLUDED),
    ]


def test_sources_of_a_translation_that_was_only_chosen_on_are_no_leak():
    """A parallel corpus: the pairs have the same sources, and only one shares a target."""
    chosen = translations(
        "bible/eng-deu", test=[(PARCEL, PAKET), (HOTEL, "Hotel")], split="meta-validation"
    )
    judged = translations("bible/eng-fra", test=[(PARCEL, "le colis"), (HOTEL, PAKET_AGAIN)])

    leaks = find_leaks([chosen], [judged], threshold=THRESHOLD)

    assert [(leak.row, leak.text, leak.other_text) for leak in leaks] == [(1, PAKET_AGAIN, PAKET)]


def test_own_train_pair_is_compared_side_by_side_and_leaves():
    """By hand: row 1 by its target; a translation that is its own source is none."""
    judged = translations(
        "post/eng-deu",
        train=[(PARCEL, PARCEL), ("parcel", PAKET)],
        test=[("a", PAKET_AGAIN), (HOTEL, HOTEL)],
    )
    single = translations("post/eng-nds", train=[(HOTEL, HOTEL_AGAIN), (PARCEL, "x")])

    leaks = find_leaks([], [judged, single], threshold=THRESHOLD)

    assert describe(leaks) == [
        ("support/query", "post/eng-deu", "train", 1, "post/eng-deu", EXCLUDED)
    ]
    assert (leaks[0].text, leaks[0].other_text) == (PAKET, PAKET_AGAIN)


def test_report_names_what_loading_had_dropped_from_meta_train():
    seen = translations("mail/eng-deu", train=[("a", "b")], split="meta-train", dropped=7)
    whole = translations("mail/eng-nds", train=[("c", "d")], split="meta-train")
    chosen = translations("mail/eng-fra", train=[("e", "f")], split="meta-validation", dropped=2)

    _, report = check_leaks([seen, whole, chosen], [], overlap="exclude", threshold=THRESHOLD)

    assert report.dropped == {"mail/eng-deu": 7}


def test_translation_that_would_lose_all_test_rows_stops():
    seen = translations("mail/eng-deu", train=[(PARCEL, "x")], split="meta-train")
    judged = Task(
        **{f: getattr(seen, f) for f in Task.__slots__}
        | {"name": "post/eng-fra", "train": (), "test": (Example(PARCEL, "y"),)}
    )

    with pytest.raises(DataError, match=r"leaves none; at least one is needed.*data\.exclude"):
        check_leaks([seen], [judged], overlap="exclude", threshold=THRESHOLD)
