"""Episodes: hand-worked shapes and chances, and what stops."""

from collections import Counter

import pytest

from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import (
    Episode,
    EpisodeStream,
    count_texts,
    draw_support,
    evaluation_episode,
    sampling_chances,
    split_folds,
)
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import EpisodeError, SettingsError


def task(name="reviews/kitchen", *, test=(), **counts: int) -> Task:
    """A task with so many training examples of each label, all texts different."""
    return Task(
        name=name,
        kind="classification",
        language="eng",
        domain="kitchen",
        meta_split="meta-train",
        labels=tuple(counts),
        train=tuple(
            Example(f"{name} {label} {i}", label) for label, n in counts.items() for i in range(n)
        ),
        test=tuple(test),
    )


def stream(*tasks: Task, shot=2, query_shot=3, sampling="uniform", seed=0) -> EpisodeStream:
    return EpisodeStream(tasks, shot=shot, query_shot=query_shot, sampling=sampling, seed=seed)


def count(examples, label: str) -> int:
    return sum(example.target == label for example in examples)


def test_an_episode_has_shot_and_query_shot_of_each_label():
    episode = stream(task(negative=9, neutral=5, positive=7)).at(3)

    assert (episode.task, episode.index) == ("reviews/kitchen", 3)
    assert episode.labels == ("negative", "neutral", "positive")
    assert [count(episode.support, label) for label in episode.labels] == [2, 2, 2]
    assert [count(episode.query, label) for label in episode.labels] == [3, 3, 3]


def test_tasks_of_different_label_sets_and_sizes_share_a_stream():
    tasks = task("a/x", negative=5, positive=5), task("b/y", refund=90, delay=6, other=5)

    labels = {e.task: e.labels for e in map(stream(*tasks).at, range(40))}

    assert labels == {"a/x": ("negative", "positive"), "b/y": ("refund", "delay", "other")}


def test_chances_go_with_size_to_a_power():
    """Sizes 4 and 16: power 0 is 1:1, power 1 is 4:16 = 1:4, power 1/2 is 2:4 = 1:2."""
    tasks = task("a/x", n=2, p=2), task("b/y", n=8, p=8)

    assert sampling_chances(tasks, sampling="uniform") == pytest.approx((1 / 2, 1 / 2))
    assert sampling_chances(tasks, sampling="size") == pytest.approx((1 / 5, 4 / 5))
    assert sampling_chances(tasks, sampling=0.5) == pytest.approx((1 / 3, 2 / 3))


@pytest.mark.parametrize("sampling", ["squared", "", -0.1, 1.5, float("nan")])
def test_an_unknown_sampling_stops(sampling):
    with pytest.raises(SettingsError, match=r"`episode.sampling`"):
        stream(task(n=9, p=9), sampling=sampling)


def test_a_label_with_too_few_examples_stops_with_the_remedy():
    """As the style page writes it: 11 examples, 5 + 15 = 20 needed, 11 - 5 = 6 could be asked."""
    with pytest.raises(EpisodeError) as caught:
        EpisodeStream((task(positive=30, neutral=11),), 5, 15, "uniform", 0)

    assert str(caught.value) == (
        "cannot draw a 5-shot episode from task 'reviews/kitchen': label 'neutral' has 11 "
        "examples, 5 support + 15 query = 20 are needed; lower `episode.query_shot` to 6 or "
        "leave the task out (`data.exclude`)"
    )


def test_no_query_shot_helps_where_support_alone_is_too_much():
    with pytest.raises(EpisodeError, match=r"= 20 are needed; leave the task out"):
        stream(task(positive=30, neutral=5), shot=5, query_shot=15)


def test_exact_fit_passes():
    fits = task(negative=25, neutral=24)
    EpisodeStream((fits,), 8, 16, "uniform", 0)

    assert len(stream(fits, shot=8, query_shot=16).at(0).query) == 2 * 16


def test_copies_of_a_text_count_once():
    kitchen = task(negative=4, positive=2)
    copies = tuple(Example("Too loud!" + "!" * i, "positive") for i in range(4))
    doubled = Task(
        **{f: getattr(kitchen, f) for f in Task.__slots__} | {"train": kitchen.train + copies}
    )

    EpisodeStream((doubled,), 1, 2, "uniform", 0)
    with pytest.raises(EpisodeError, match=r"has 3 distinct examples \(of 6\)"):
        EpisodeStream(
            (
                task("z", negative=9, positive=9),
                doubled,
            ),
            2,
            2,
            "uniform",
            0,
        )


@pytest.mark.parametrize(("shot", "query_shot", "name"), [(-1, 1, "shot"), (1, 0, "query_shot")])
def test_no_examples_on_one_side_stop(shot, query_shot, name):
    with pytest.raises(SettingsError, match=f"`episode.{name}`"):
        stream(task(n=9, p=9), shot=shot, query_shot=query_shot)


def test_no_task_two_of_a_name_and_one_label_stop():
    with pytest.raises(EpisodeError, match="0 tasks"):
        stream()
    with pytest.raises(EpisodeError, match="2 have that name"):
        stream(task(n=9, p=9), task(n=9, p=8))
    with pytest.raises(EpisodeError, match="it has 1 labels"):
        stream(task(n=9))
    with pytest.raises(EpisodeError, match="numbered from 0"):
        stream(task(n=9, p=9)).at(-1)


def test_a_budget_is_shared_by_turns_and_filled_from_the_others():
    """10 of 3 labels is 4 + 3 + 3; with only 1 of the second it is 5 + 1 + 4."""
    even = draw_support(task(a=9, b=9, c=9), labels_total=10, seed=0, draw=0)
    short = draw_support(task(a=9, b=1, c=9), labels_total=10, seed=0, draw=0)

    assert [count(even, label) for label in "abc"] == [4, 3, 3]
    assert [count(short, label) for label in "abc"] == [5, 1, 4]


def test_a_budget_beyond_the_data_stops():
    with pytest.raises(EpisodeError, match=r"of 8 examples .* has 7 distinct training examples"):
        draw_support(task(a=5, b=2), labels_total=8, seed=0, draw=0)
    with pytest.raises(EpisodeError, match=r"of -1 examples"):
        draw_support(task(a=5, b=2), labels_total=-1, seed=0, draw=0)


def test_query_set_is_the_test_part_without_what_support_has():
    """All 4 training examples are support: the copy of one of them leaves, in the test's order."""
    own = [Example(f"test {i}", "ab"[i % 2]) for i in range(5)]
    kitchen = task(a=2, b=2, test=[*own[:3], Example("REVIEWS/kitchen: a 1", "a"), *own[3:]])

    episode = evaluation_episode(kitchen, labels_total=4, seed=0, draw=2)

    assert episode.query == tuple(own)
    assert (episode.index, episode.task) == (2, "reviews/kitchen")


def test_query_set_without_a_test_part_is_what_the_reserve_leaves():
    kitchen = task(a=10, b=10)

    small = evaluation_episode(kitchen, labels_total=0, seed=0, draw=0, reserve=8)
    large = evaluation_episode(kitchen, labels_total=8, seed=0, draw=0, reserve=8)

    assert small.support == ()
    assert small.query == large.query
    assert set(large.support) | set(large.query) == set(kitchen.train)
    assert (len(large.support), len(large.query)) == (8, 12)


def test_max_query_keeps_a_part_in_order():
    kitchen = task(a=3, b=3, test=[Example(f"test {i:03}", "a") for i in range(100)])

    episode = evaluation_episode(kitchen, labels_total=2, seed=0, draw=0, max_query=10)

    texts = [example.source for example in episode.query]
    assert len(set(texts)) == 10
    assert texts == sorted(texts)


def test_an_evaluation_that_cannot_be_stops():
    with pytest.raises(EpisodeError, match="leaves no query example"):
        evaluation_episode(task(a=2, b=2), labels_total=4, seed=0, draw=0)
    with pytest.raises(EpisodeError, match="from a reserve of 2"):
        evaluation_episode(task(a=9, b=9), labels_total=4, seed=0, draw=0, reserve=2)


@pytest.mark.parametrize("copies", [1, 3])
def test_equal_texts_stand_in_one_fold(copies):
    """Copies differ in case and stops; a text of two labels counts for the rarer."""
    examples = [
        Example(f"text {number}{'!' * copy}", "ab"[number % 2])
        for copy in range(copies)
        for number in range(8)
    ]
    examples.append(Example("text 0", "b"))

    parts = split_folds(examples, folds=4, seed=0)

    assert sorted(place for part in parts for place in part) == list(range(len(examples)))
    keys = [{text_key(examples[place].source) for place in part} for part in parts]
    assert [len(part) for part in keys] == [2] * 4 and len(set.union(*keys)) == 8
    assert count_texts(examples) == {"a": 4, "b": 5}


LABELS = {f"label {number}": 12 for number in range(6)}


def any_labels(*tasks: Task, shot=4, ways=4, **options) -> list[Episode]:
    """400 episodes of 2 to `ways` labels."""
    episodes = EpisodeStream(tasks, shot, 2, "corpus", 0, ways=ways, **options)
    return [episodes.at(index) for index in range(400)]


def test_labels_of_an_episode_are_drawn_uniformly_and_in_random_order():
    """By hand: 2, 3 or 4 of 6 labels, a third of the episodes each, so a label is in half of them.

    It stands first in a sixth. Bounds are four standard deviations of 400 draws: 40 and 30.
    """
    episodes = any_labels(task("a/x", **LABELS))

    sizes = Counter(len(episode.labels) for episode in episodes)
    assert set(sizes) == {2, 3, 4} and all(abs(sizes[way] - 400 / 3) < 38 for way in sizes)
    present = Counter(label for episode in episodes for label in episode.labels)
    assert set(present) == set(LABELS) and all(abs(n - 200) < 40 for n in present.values())
    first = Counter(episode.labels[0] for episode in episodes)
    assert set(first) == set(LABELS) and all(abs(n - 400 / 6) < 30 for n in first.values())


def test_an_episode_of_some_labels_has_one_to_shot_examples_of_each_and_no_other():
    shots = set()
    for episode in any_labels(task("a/x", **LABELS)):
        support = Counter(example.target for example in episode.support)
        query = Counter(example.target for example in episode.query)
        assert set(support) == set(query) == set(episode.labels)
        assert len(set(support.values())) == 1 and set(query.values()) == {2}
        assert not set(episode.support) & set(episode.query)
        shots.add(support[episode.labels[0]])

    assert shots == {1, 2, 3, 4}


def test_a_label_with_few_examples_keeps_its_queries_and_gives_less_support():
    """By hand: 3 examples are 2 queries and 1 of support, whatever the shot."""
    episodes = any_labels(task("a/x", rare=3, common=12), shot=8)

    assert {count(episode.support, "rare") for episode in episodes} == {1}
    assert {count(episode.query, "rare") for episode in episodes} == {2}
    assert max(count(episode.support, "common") for episode in episodes) == 8
    with pytest.raises(EpisodeError, match="has 2 examples, 1 support"):
        any_labels(task("a/x", rare=2, common=12))


def test_a_corpus_is_drawn_first_and_then_one_of_its_tasks():
    """By hand: a half for the corpus of one task, a sixth for each of three."""
    tasks = [task("a/x", n=9, p=9), *(task(f"b/{name}", n=90, p=9) for name in "xyz")]

    assert sampling_chances(tasks, sampling="corpus") == pytest.approx((1 / 2, *[1 / 6] * 3))


def test_tasks_of_sentiment_give_their_share_of_the_episodes_and_keep_their_labels():
    """By hand: 0.4 between two corpora; bounds are four standard deviations of 400 draws."""
    sentiment = [
        task("s/x", negative=9, positive=9, neutral=9),
        task("t/x", negative=9, positive=9),
    ]
    others = [task(f"{name}/x", **LABELS) for name in "abc"]
    chances = sampling_chances([*sentiment, *others], sampling="corpus", sentiment_share=0.4)

    episodes = any_labels(*sentiment, *others, ways=2, sentiment_share=0.4)
    kept = [episode for episode in episodes if episode.task in ("s/x", "t/x")]

    assert chances == pytest.approx((0.2, 0.2, 0.2, 0.2, 0.2))
    assert abs(len(kept) - 160) < 40
    assert {len(e.labels) for e in kept if e.task == "s/x"} == {3}
    assert len({e.labels for e in kept if e.task == "s/x"}) == 6


def test_a_share_without_two_sorts_of_tasks_and_one_way_stop():
    with pytest.raises(SettingsError, match=r"0 tasks of sentiment among 1.*sentiment_share"):
        any_labels(task("a/x", **LABELS), sentiment_share=0.5)
    with pytest.raises(SettingsError, match=r"`episode\.sentiment_share`"):
        any_labels(task("a/x", **LABELS), task("s/x", negative=9, positive=9), sentiment_share=1.0)
    with pytest.raises(SettingsError, match=r"raise `episode\.ways`"):
        any_labels(task("a/x", **LABELS), ways=1)


def test_an_episode_of_some_labels_depends_on_its_number_alone():
    episodes = any_labels(task("a/x", **LABELS), task("b/x", **LABELS))
    backwards = EpisodeStream(
        (task("b/x", **LABELS), task("a/x", **LABELS)), 4, 2, "corpus", 0, ways=4
    )

    assert [backwards.at(index) for index in reversed(range(40))] == episodes[39::-1]
