"""Episodes of translation: few-shot problems of sentence pairs.

A pair of the query set shares neither of its sentences, on either side, nor its group
with any pair of the support set, and no two pairs of one set share any either.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nlp_meta.data.cards import TRANSLATION
from nlp_meta.data.duplicates import first_places, text_key
from nlp_meta.data.episodes import (
    CANDIDATES,
    PAIR_TRAINING,
    QUERY,
    RETRIEVAL,
    SUPPORT,
    Episode,
    Unit,
    check_names,
    check_shots,
    choose_task,
    draw_units,
    join_units,
    keep_some,
    make_episode,
    make_generator,
    number_of,
    sampling_chances,
    tokens_of,
)
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import EpisodeError


@dataclass(frozen=True, slots=True)
class PairStream:
    """Endless episodes of several translation tasks, for training; `at(i)` gives the i-th.

    The order in which the tasks are given does not matter.

    Attributes:
        shot: Support pairs; 0 for joint training, which looks at none.
        query_shot: Query pairs.
        sampling: As in `EpisodeStream`.
        skill: `retrieval`, or `generation` where translations are to be written.
    """

    tasks: tuple[Task, ...]
    shot: int
    query_shot: int
    sampling: str | float
    seed: int
    skill: str = RETRIEVAL
    _pools: tuple[list[Unit], ...] = field(init=False, repr=False, compare=False)
    _chances: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tasks = tuple(sorted(self.tasks, key=lambda task: task.name))
        pools = _check_pools(tasks, shot=self.shot, query_shot=self.query_shot)
        chances = sampling_chances(tasks, sampling=self.sampling)
        object.__setattr__(self, "tasks", tasks)
        object.__setattr__(self, "_pools", pools)
        object.__setattr__(self, "_chances", chances)

    def at(self, index: int) -> Episode:
        """Draw episode `index`: the same for the same seed, whatever was drawn before.

        Raises:
            EpisodeError: `index` is below 0.
        """
        generator, number = choose_task(self._chances, self.seed, PAIR_TRAINING, index)
        drawn = draw_units(self._pools[number], self.shot + self.query_shot, generator)
        support, query = drawn[: self.shot], drawn[self.shot :]
        return make_episode(self.tasks[number], support, query, index=index, skill=self.skill)


def draw_pairs(task: Task, *, pairs: int, seed: int, draw: int) -> tuple[Example, ...]:
    """Draw the pairs that someone with a budget of `pairs` translations would have.

    The support set of a smaller budget is the beginning of that of a larger one.

    Raises:
        EpisodeError: The task is no translation or has fewer pairs than `pairs`, or that
            is below 0.
    """
    pool = _pair_pool(task)
    if not 0 <= pairs <= len(pool):
        raise EpisodeError(
            f"cannot draw a support set of {pairs} pairs from task {task.name!r}: it has "
            f"{len(pool)} distinct training pairs, 0 to {len(pool)} can be drawn; lower the "
            "number of pairs or leave the task out (`data.exclude`)"
        )
    generator = make_generator(seed, SUPPORT, number_of(task), draw)
    return tuple(draw_units(pool, len(pool), generator)[:pairs])


def evaluation_pairs(
    task: Task,
    *,
    pairs: int,
    seed: int,
    draw: int,
    reserve: int | None = None,
    max_query: int | None = None,
    candidates: int | None = None,
    distractors: Sequence[str] = (),
    skill: str = RETRIEVAL,
) -> Episode:
    """Give the episode of pairs that every method is judged on.

    Its query set is the task's test part or, where there is none, its training part,
    in that order, without what shares a sentence or a group with the reserve, and of
    pairs that share a sentence the first.

    Args:
        pairs: Support pairs, by `draw_pairs`; 0 gives none.
        reserve: The largest `pairs` of the comparison: with it the query set and the
            candidates are the same for all sizes of a draw.
        max_query: Keep at most so many query pairs, drawn at random.
        candidates: Fill the episode's candidates up to so many, in random order: the
            targets of its query set, always all; then those of the task's other pairs
            that share nothing with the reserve; then `distractors`. None leaves them empty.
        distractors: Texts in the language of the targets, such as those of other tasks.
        skill: What is asked: `retrieval` or `generation`.

    Raises:
        EpisodeError: Too few pairs, or a reserve below `pairs`.
    """
    reserve = pairs if reserve is None else reserve
    if reserve < pairs:
        raise EpisodeError(
            f"cannot draw {pairs} support pairs from a reserve of {reserve}: the largest number "
            "of pairs of the comparison is needed; raise `reserve`"
        )
    reserved = draw_pairs(task, pairs=reserve, seed=seed, draw=draw)
    query = _query_without(reserved, task)
    query = keep_some(query, max_query, make_generator(seed, QUERY, number_of(task), draw))
    pool: tuple[str, ...] = ()
    if candidates is not None:
        others = [pair.target for pair in _without(reserved, (*task.test, *task.train), task)]
        texts = [*(pair.target for pair in query), *others, *distractors]
        different = first_places(texts, key=text_key)
        shown = [texts[place] for place in different[: max(candidates, len(query))]]
        order = make_generator(seed, CANDIDATES, number_of(task), draw).permutation(len(shown))
        pool = tuple(shown[i] for i in order)
    return make_episode(task, reserved[:pairs], query, index=draw, skill=skill, candidates=pool)


def _query_without(reserved: Sequence[Example], task: Task) -> tuple[Example, ...]:
    query: list[Example] = []
    seen: set[object] = set()
    for example in _without(reserved, task.test or task.train, task):
        tokens = tokens_of(example, task.kind)
        if seen.isdisjoint(tokens):
            query.append(example)
            seen.update(tokens)
    if not query:
        raise EpisodeError(
            f"cannot evaluate on task {task.name!r}: a support set of {len(reserved)} pairs "
            "leaves no query pair, at least one is needed; lower the number of pairs or leave "
            "the task out (`data.exclude`)"
        )
    return tuple(query)


def _without(reserved: Sequence[Example], examples: Sequence[Example], task: Task) -> list[Example]:
    taken = {token for example in reserved for token in tokens_of(example, task.kind)}
    return [example for example in examples if taken.isdisjoint(tokens_of(example, task.kind))]


def _check_pools(tasks: Sequence[Task], *, shot: int, query_shot: int) -> tuple[list[Unit], ...]:
    check_shots({"pairs": shot, "query_pairs": query_shot})
    check_names(tasks)
    pools = tuple(_pair_pool(task) for task in tasks)
    for task, pool in zip(tasks, pools, strict=True):
        count, needed = len(pool), shot + query_shot
        if count >= needed:
            continue
        written = len(task.train)
        distinct = "pairs" if written == count else f"distinct pairs (of {written})"
        lower = f"lower `episode.query_pairs` to {count - shot} or " if count > shot else ""
        raise EpisodeError(
            f"cannot draw an episode of {shot} pairs from task {task.name!r}: it has {count} "
            f"{distinct}, {shot} support + {query_shot} query = {needed} are needed; {lower}"
            "leave the task out (`data.exclude`)"
        )
    return pools


def _pair_pool(task: Task) -> list[Unit]:
    if task.kind != TRANSLATION:
        raise EpisodeError(
            f"cannot draw pairs from task {task.name!r}: it is of kind '{task.kind}' and a "
            "translation is needed; leave the task out (`data.exclude`)"
        )
    return join_units(task.train, task.kind)
