"""What holds for every episode, whatever the tasks."""

import math
import random
from collections import Counter

import pytest

from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import EpisodeStream, draw_support, evaluation_episode
from nlp_meta.data.tasks import Example, Task

SEEDS = range(5)


def tangled_task(name: str, seed: int, *, size: int = 120, test: int = 40) -> Task:
    """Texts with copies in other case and punctuation, some in a group, some under two labels."""
    chance = random.Random(f"{name} {seed}")

    def example() -> Example:
        words = f"{chance.choice(['good', 'bad'])} text {chance.randrange(3 * size)}"
        source = chance.choice([words, words.upper(), words + "!", f" {words.title()}..."])
        group = chance.choice([None, str(chance.randrange(2 * size))])
        return Example(source, chance.choice(["negative", "neutral", "positive"]), group)

    return Task(
        name=name,
        kind="classification",
        language="eng",
        domain="any",
        meta_split="meta-train",
        labels=("negative", "neutral", "positive"),
        train=tuple(example() for _ in range(size)),
        test=tuple(example() for _ in range(test)),
    )


def tasks(seed: int) -> tuple[Task, ...]:
    return tuple(tangled_task(f"c/{i}", seed, size=100 + 40 * i) for i in range(4))


def stream(seed: int, given: tuple[Task, ...], sampling: str | float = "size") -> EpisodeStream:
    return EpisodeStream(given, shot=2, query_shot=3, sampling=sampling, seed=seed)


def keys(examples) -> set[str]:
    return {text_key(example.source) for example in examples}


def groups(examples) -> set[str]:
    return {example.group for example in examples} - {None}


@pytest.mark.parametrize("seed", SEEDS)
def test_support_and_query_share_no_text_and_no_group(seed):
    training = stream(seed, tasks(seed))
    episodes = [training.at(i) for i in range(60)]
    for given in tasks(seed):
        bare = Task(**{f: getattr(given, f) for f in Task.__slots__} | {"test": ()})
        for each in (given, bare):
            episodes += [
                evaluation_episode(each, labels_total=n, seed=seed, draw=d, reserve=16)
                for n in (8, 16)
                for d in range(3)
            ]

    for episode in episodes:
        assert keys(episode.support).isdisjoint(keys(episode.query))
        assert groups(episode.support).isdisjoint(groups(episode.query))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_support_examples_share_a_text_or_a_group(seed):
    """A budget of n labels buys n different texts."""
    support = draw_support(tangled_task("c/t", seed), labels_total=30, seed=seed, draw=0)

    assert len(keys(support)) == 30
    assert len(groups(support)) == sum(example.group is not None for example in support)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_episode_is_balanced(seed):
    training = stream(seed, tasks(seed))

    for episode in map(training.at, range(60)):
        for side, number in ((episode.support, 2), (episode.query, 3)):
            assert Counter(e.target for e in side) == dict.fromkeys(episode.labels, number)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_index_gives_the_same_episode_whatever_came_before(seed):
    first, second = stream(seed, tasks(seed)), stream(seed, tasks(seed))

    forwards = [first.at(i) for i in range(20)]
    backwards = [second.at(i) for i in reversed(range(20))]

    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 20


def test_another_seed_gives_other_episodes():
    given = tasks(0)

    assert stream(1, given).at(0).support != stream(2, given).at(0).support


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_tasks_does_not_matter(seed):
    given = tasks(seed)
    shuffled = tuple(random.Random(seed).sample(given, len(given)))

    assert stream(seed, given) == stream(seed, shuffled)
    for i in range(20):
        assert stream(seed, given).at(i) == stream(seed, shuffled).at(i)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_smaller_support_set_begins_a_larger_one_and_both_are_asked_the_same(seed):
    given = tangled_task("c/t", seed)
    sizes = (0, 1, 8, 16, 30)
    episodes = [
        evaluation_episode(given, labels_total=n, seed=seed, draw=1, reserve=30, max_query=9)
        for n in sizes
    ]

    for n, episode in zip(sizes, episodes, strict=True):
        assert episode.support == episodes[-1].support[:n]
        assert episode.query == episodes[0].query
        counts = Counter(e.target for e in episode.support)
        spread = [counts[label] for label in given.labels]
        assert max(spread) - min(spread) <= 1


def test_another_draw_buys_other_labels():
    given = tangled_task("c/t", 0)
    supports = {draw_support(given, labels_total=8, seed=0, draw=d) for d in range(10)}

    assert len(supports) == 10


@pytest.mark.parametrize(
    ("sampling", "chances"),
    [
        ("uniform", (1 / 3, 1 / 3, 1 / 3)),
        ("size", (1 / 21, 4 / 21, 16 / 21)),
        (0.5, (1 / 7, 2 / 7, 4 / 7)),
    ],
)
def test_tasks_come_as_often_as_sampling_says(sampling, chances):
    """By hand: sizes 12, 48, 192 are 1:4:16, their roots 1:2:4; within five deviations."""
    given = tuple(
        Task(
            name=f"c/{size}",
            kind="classification",
            language="eng",
            domain="any",
            meta_split="meta-train",
            labels=("a", "b"),
            train=tuple(Example(f"text {i}", "ab"[i % 2]) for i in range(size)),
            test=(),
        )
        for size in (12, 48, 192)
    )
    draws = 2000
    training = EpisodeStream(given, shot=1, query_shot=1, sampling=sampling, seed=7)

    seen = Counter(training.at(i).task for i in range(draws))

    for each, chance in zip(given, chances, strict=True):
        deviation = math.sqrt(draws * chance * (1 - chance))
        assert abs(seen[each.name] - draws * chance) < 5 * deviation


def test_every_example_comes_up_on_both_sides():
    """24 examples, half of them in each of 200 episodes: never on one side has chance 2**-200."""
    given = Task(
        name="c/t",
        kind="classification",
        language="eng",
        domain="any",
        meta_split="meta-train",
        labels=("a", "b"),
        train=tuple(Example(f"text {i}", "ab"[i % 2]) for i in range(24)),
        test=(),
    )
    training = EpisodeStream((given,), shot=6, query_shot=6, sampling="uniform", seed=0)

    episodes = [training.at(i) for i in range(200)]

    assert {e for episode in episodes for e in episode.support} == set(given.train)
    assert {e for episode in episodes for e in episode.query} == set(given.train)


def test_translations_of_one_sentence_never_meet_across_the_sides():
    """A task of three languages: 20 sentences a label, each thrice, give 20 units of 3."""
    given = Task(
        name="parallel/all",
        kind="classification",
        language="mul",
        domain="any",
        meta_split="meta-train",
        labels=("a", "b"),
        train=tuple(
            Example(f"{language} {label} {i}", label, f"{label}{i}")
            for label in "ab"
            for language in ("ban", "jav", "sun")
            for i in range(20)
        ),
        test=tuple(
            Example(f"ace {label} {i}", label, f"{label}{i}") for label in "ab" for i in range(20)
        ),
    )
    training = EpisodeStream((given,), shot=10, query_shot=10, sampling="uniform", seed=0)

    for index in range(50):
        episode = training.at(index)
        assert len(groups(episode.support) | groups(episode.query)) == 40
    evaluation = evaluation_episode(given, labels_total=16, seed=0, draw=0)
    assert len(evaluation.query) == 40 - 16
    assert groups(evaluation.support).isdisjoint(groups(evaluation.query))
