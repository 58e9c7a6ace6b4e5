"""What holds for every episode of pairs, whatever the tasks."""

import random
from collections import Counter

import pytest

from nlp_meta.data.duplicates import text_key
from nlp_meta.data.pairs import PairStream, draw_pairs, evaluation_pairs
from nlp_meta.data.tasks import Example, Task

SEEDS = range(5)


def tangled_task(name: str, seed: int, *, size: int = 150, test: int = 60) -> Task:
    """Pairs with sentences in several, on either side, in other case, some in a group."""
    chance = random.Random(f"{name} {seed}")

    def sentence() -> str:
        words = f"sentence {chance.randrange(6 * size)}"
        return chance.choice([words, words.upper(), words + "!", f" {words.title()}..."])

    def example() -> Example:
        return Example(sentence(), sentence(), chance.choice([None, str(chance.randrange(999))]))

    return Task(
        name=name,
        kind="translation",
        language="eng-deu",
        domain="any",
        meta_split="meta-train",
        labels=(),
        train=tuple(example() for _ in range(size)),
        test=tuple(example() for _ in range(test)),
    )


def tasks(seed: int) -> tuple[Task, ...]:
    return tuple(tangled_task(f"c/{i}", seed, size=120 + 40 * i) for i in range(3))


def stream(seed: int, given: tuple[Task, ...], sampling: str | float = "size") -> PairStream:
    return PairStream(given, shot=6, query_shot=9, sampling=sampling, seed=seed)


def keys(examples) -> set[str]:
    return {text_key(text) for one in examples for text in (one.source, one.target)}


def groups(examples) -> set[str]:
    return {one.group for one in examples} - {None}


@pytest.mark.parametrize("seed", SEEDS)
def test_support_and_query_share_no_sentence_on_any_side_and_no_group(seed):
    training = stream(seed, tasks(seed))
    episodes = [training.at(i) for i in range(60)]
    for given in tasks(seed):
        bare = Task(**{f: getattr(given, f) for f in Task.__slots__} | {"test": ()})
        episodes += [
            evaluation_pairs(each, pairs=n, seed=seed, draw=d, reserve=16, candidates=90)
            for each in (given, bare)
            for n in (8, 16)
            for d in range(3)
        ]

    for episode in episodes:
        assert keys(episode.support).isdisjoint(keys(episode.query))
        assert groups(episode.support).isdisjoint(groups(episode.query))
        assert keys(episode.support).isdisjoint(map(text_key, episode.candidates))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_pairs_of_a_set_share_a_sentence_or_a_group(seed):
    training = stream(seed, tasks(seed))

    for episode in map(training.at, range(60)):
        for side in (episode.support, episode.query):
            for place, one in enumerate(side):
                assert keys([one]).isdisjoint(keys(side[:place]))
                assert groups([one]).isdisjoint(groups(side[:place]))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_index_gives_the_same_episode_whatever_came_before(seed):
    given = tasks(seed)
    first, second = stream(seed, given), stream(seed, given[::-1])

    forwards = [first.at(i) for i in range(20)]
    backwards = [second.at(i) for i in reversed(range(20))]

    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 20


@pytest.mark.parametrize("seed", SEEDS)
def test_a_smaller_support_set_begins_a_larger_one_and_both_are_asked_the_same(seed):
    given = tangled_task("c/t", seed)
    sizes = (0, 1, 8, 16, 30)
    episodes = [
        evaluation_pairs(given, pairs=n, seed=seed, draw=1, reserve=30, max_query=9, candidates=40)
        for n in sizes
    ]

    for n, episode in zip(sizes, episodes, strict=True):
        assert episode.support == draw_pairs(given, pairs=n, seed=seed, draw=1)
        assert episode.support == episodes[-1].support[:n]
        assert episode.query == episodes[0].query
        assert episode.candidates == episodes[0].candidates


@pytest.mark.parametrize("seed", SEEDS)
def test_every_query_target_is_among_the_candidates_once(seed):
    for number in (0, 20, 200):
        episode = evaluation_pairs(
            tangled_task("c/t", seed), pairs=8, seed=seed, draw=0, candidates=number
        )
        counts = Counter(episode.candidates)
        assert [counts[one.target] for one in episode.query] == [1] * len(episode.query)
        assert len(set(map(text_key, episode.candidates))) == len(episode.candidates)
        assert len(episode.candidates) >= min(number, len(episode.query))


def test_another_draw_and_another_seed_buy_other_pairs():
    given = tangled_task("c/t", 0)
    supports = {draw_pairs(given, pairs=8, seed=s, draw=d) for s in range(3) for d in range(5)}

    assert len(supports) == 15


def test_every_pair_comes_up_on_both_sides():
    """24 pairs, half of them in each of 200 episodes: never on one side has chance 2**-200."""
    given = Task(
        name="c/t",
        kind="translation",
        language="eng-deu",
        domain="any",
        meta_split="meta-train",
        labels=(),
        train=tuple(Example(f"s {i}", f"t {i}") for i in range(24)),
        test=(),
    )
    training = PairStream((given,), shot=12, query_shot=12, sampling="uniform", seed=0)

    episodes = [training.at(i) for i in range(200)]

    assert {one for episode in episodes for one in episode.support} == set(given.train)
    assert {one for episode in episodes for one in episode.query} == set(given.train)
