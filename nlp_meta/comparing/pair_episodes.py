"""Episodes of sentence pairs that a comparison judges its methods on."""

import itertools
from collections.abc import Mapping, Sequence

from nlp_meta.comparing.bench import AnySettings
from nlp_meta.data.episodes import Episode
from nlp_meta.data.overlap import text_key
from nlp_meta.data.pairs import draw_pairs, evaluation_pairs
from nlp_meta.data.tasks import Task


def draw_pair_episodes(
    settings: AnySettings,
    tasks: Sequence[Task],
    *,
    candidates: int | None = None,
    distractors: Mapping[str, Sequence[str]] | None = None,
    fill: Sequence[str] = (),
) -> tuple[Episode, ...]:
    """Give every episode of pairs: draws, then tasks, then numbers of pairs.

    Args:
        candidates: Translations in each pool; None for methods that write.
        distractors: Texts that fill pools up, by their language; those that a support set of
            the draw may show are left out of its pools.
        fill: Texts of whatever language, for what is then still missing.

    Raises:
        EpisodeError: A task has too few pairs.
    """
    plan, seed = settings.comparison, settings.run.seed
    found = []
    for draw, task in itertools.product(range(plan.draws), tasks):
        others = [*(distractors or {}).get(task.pair[1], ()), *fill]
        reserved = draw_pairs(task, pairs=max(plan.labels), seed=seed, draw=draw)
        shown = {text_key(example.target) for example in reserved}
        kept = [text for text in others if text_key(text) not in shown]
        found += [
            evaluation_pairs(
                task,
                pairs=pairs,
                seed=seed,
                draw=draw,
                reserve=max(plan.labels),
                max_query=plan.max_query,
                candidates=candidates,
                distractors=kept,
            )
            for pairs in plan.labels
        ]
    return tuple(found)


def gather_texts(tasks: Sequence[Task]) -> dict[str, list[str]]:
    """Every sentence of some tasks, by its language."""
    found: dict[str, dict[str, None]] = {}
    for task in tasks:
        source, target = task.pair
        for example in (*task.train, *task.test):
            found.setdefault(source, {})[example.source] = None
            found.setdefault(target, {})[example.target] = None
    return {language: list(texts) for language, texts in found.items()}
