"""Episodes of pairs: hand-worked sizes, pools of candidates, and what stops."""

import pytest

from nlp_meta.data.pairs import PairStream, draw_pairs, evaluation_pairs
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import DataError, EpisodeError, SettingsError


def task(name="notes/eng-deu", *, train=12, test=0, extra=(), extra_test=(), **facts) -> Task:
    """A task with so many pairs in each part, all sentences different, and some more."""
    return Task(
        name=name,
        kind=facts.get("kind", "translation"),
        language=facts.get("language", "eng-deu"),
        domain="notes",
        meta_split="meta-train",
        labels=(),
        train=(*(Example(f"{name} s {i}", f"{name} t {i}") for i in range(train)), *extra),
        test=(*(Example(f"{name} q {i}", f"{name} a {i}") for i in range(test)), *extra_test),
    )


def stream(*tasks: Task, shot=3, query_shot=4, sampling="uniform", seed=0) -> PairStream:
    return PairStream(tasks, shot=shot, query_shot=query_shot, sampling=sampling, seed=seed)


def test_an_episode_has_so_many_pairs_and_says_what_it_is():
    episode = stream(task()).at(5)

    assert (len(episode.support), len(episode.query)) == (3, 4)
    assert (episode.skill, episode.language, episode.labels) == ("retrieval", "eng-deu", ())
    assert (episode.task, episode.index, episode.candidates) == ("notes/eng-deu", 5, ())


def test_pairs_that_share_either_sentence_are_one_unit():
    """By hand: 2 pairs of one source, 2 of one target, 1 whose source is another's target: 3."""
    rows = [
        Example("hello", "hallo"),
        Example("Hello!", "guten Tag"),
        Example("bye", "tschau"),
        Example("so long", "Tschau."),
        Example("tschau", "ciao"),
        Example("yes", "ja"),
    ]
    tangled = task(train=0, extra=rows)

    PairStream((tangled,), 1, 2, "uniform", 0)
    with pytest.raises(EpisodeError, match=r"has 3 distinct pairs \(of 6\), 2 support \+ 2 query"):
        PairStream((tangled,), 2, 2, "uniform", 0)


def test_too_few_pairs_stop_with_the_remedy():
    """By hand: 12 pairs, 8 + 16 = 24 needed, 12 - 8 = 4 could be asked."""
    with pytest.raises(EpisodeError) as caught:
        stream(task(), shot=8, query_shot=16)

    assert str(caught.value) == (
        "cannot draw an episode of 8 pairs from task 'notes/eng-deu': it has 12 pairs, 8 support "
        "+ 16 query = 24 are needed; lower `episode.query_pairs` to 4 or leave the task out "
        "(`data.exclude`)"
    )


def test_streams_that_cannot_be_stop():
    with pytest.raises(EpisodeError, match="0 tasks"):
        stream()
    with pytest.raises(EpisodeError, match="2 have that name"):
        stream(task(), task())
    with pytest.raises(EpisodeError, match="of kind 'classification' and a translation is needed"):
        stream(task(kind="classification"))
    with pytest.raises(EpisodeError, match="numbered from 0"):
        stream(task()).at(-1)
    with pytest.raises(SettingsError, match=r"`episode\.pairs`"):
        stream(task(), shot=-1)
    with pytest.raises(SettingsError, match=r"`episode\.query_pairs`"):
        stream(task(), query_shot=0)
    with pytest.raises(SettingsError, match=r"`episode\.sampling`"):
        stream(task(), sampling="often")


def test_a_budget_beyond_the_data_stops():
    with pytest.raises(EpisodeError, match=r"of 13 pairs .* has 12 distinct training pairs"):
        draw_pairs(task(), pairs=13, seed=0, draw=0)
    with pytest.raises(EpisodeError, match=r"of -1 pairs"):
        draw_pairs(task(), pairs=-1, seed=0, draw=0)


def test_query_set_is_the_test_part_in_order_without_what_support_has():
    """All 3 training pairs are support: test rows with a source or a target of theirs leave."""
    name = "notes/eng-deu"
    leaks = [Example(f"{name} S 1!", "new"), Example("new", f"({name} t 2)")]
    given = task(train=3, test=4, extra_test=leaks)

    episode = evaluation_pairs(given, pairs=3, seed=0, draw=2)

    assert episode.query == given.test[:4]
    assert (episode.index, episode.skill, episode.candidates) == (2, "retrieval", ())


def test_of_query_pairs_that_share_a_sentence_the_first_stays():
    given = task(
        extra_test=[Example("stop", "halt"), Example("Stop!", "Schluss"), Example("x", "y")]
    )

    episode = evaluation_pairs(given, pairs=0, seed=0, draw=0)

    assert [one.target for one in episode.query] == ["halt", "y"]


def test_query_set_without_a_test_part_is_what_the_reserve_leaves():
    given = task(train=20)

    small = evaluation_pairs(given, pairs=0, seed=0, draw=0, reserve=8)
    large = evaluation_pairs(given, pairs=8, seed=0, draw=0, reserve=8)

    assert small.support == () and small.query == large.query
    assert set(large.support) | set(large.query) == set(given.train)
    assert (len(large.support), len(large.query)) == (8, 12)


def test_candidates_are_the_query_targets_then_own_rows_then_distractors():
    """By hand: 3 query targets, 10 - 4 train rows outside the reserve, then what is missing."""
    given = task(train=10, test=3)
    distractors = [f"far {i}" for i in range(50)]
    own = {one.target for one in given.test}

    def pool(number):
        episode = evaluation_pairs(
            given, pairs=4, seed=0, draw=0, candidates=number, distractors=distractors
        )
        assert len(set(episode.candidates)) == len(episode.candidates)
        return set(episode.candidates), {one.target for one in episode.support}

    assert pool(0)[0] == pool(3)[0] == own
    some, support = pool(9)
    assert len(some) == 9 and own < some and not some & {*distractors, *support}
    assert pool(11)[0] - some == {"far 0", "far 1"}
    assert len(pool(1000)[0]) == 3 + 6 + 50


def test_candidates_hold_each_text_once_whatever_its_case():
    given = task(train=0, extra=[Example("a", "Ja."), Example("b", "nein")], test=2)

    episode = evaluation_pairs(
        given, pairs=0, seed=0, draw=0, candidates=9, distractors=["ja", "NEIN!", "doch", "Doch"]
    )

    assert sorted(episode.candidates) == sorted(
        ["Ja.", "nein", "doch", *(one.target for one in given.test)]
    )


def test_order_of_candidates_does_not_give_the_answer_away():
    """Of 40 queries in a pool of 80 about half of their targets are in its first half."""
    given = task(train=60, test=40)

    episode = evaluation_pairs(given, pairs=10, seed=0, draw=0, candidates=80)

    first = set(episode.candidates[:40])
    assert 8 < sum(one.target in first for one in episode.query) < 32


def test_an_evaluation_that_cannot_be_stops():
    with pytest.raises(EpisodeError, match="leaves no query pair"):
        evaluation_pairs(task(train=4), pairs=4, seed=0, draw=0)
    with pytest.raises(EpisodeError, match="from a reserve of 2"):
        evaluation_pairs(task(), pairs=4, seed=0, draw=0, reserve=2)
    with pytest.raises(EpisodeError, match="a translation is needed"):
        evaluation_pairs(task(kind="classification"), pairs=1, seed=0, draw=0)


def test_a_task_names_its_pair_and_one_that_is_no_translation_has_none():
    assert task(language="eng-sin_Latn").pair == ("eng", "sin_Latn")
    with pytest.raises(DataError, match=r"'notes/eng-deu'.*a translation is needed"):
        _ = task(kind="classification").pair
    with pytest.raises(EpisodeError, match="languages 'eng': two codes"):
        _ = task(language="eng").pair
