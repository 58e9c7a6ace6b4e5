"""Cross-validation inside a support set: each fold is the query set of the others."""

from dataclasses import replace

from nlp_meta.data.episodes import Episode
from nlp_meta.meta.selection import split_folds


def fold_episodes(episode: Episode, *, folds: int, seed: int) -> list[Episode]:
    """Give one episode a fold; fewer folds where a label has fewer examples, none where one has 1.

    Args:
        episode: Its query set is not looked at.
    """
    counts = [sum(e.target == name for e in episode.support) for name in episode.labels]
    fewest = min((count for count in counts if count), default=0)
    if fewest < 2:
        return []
    parts = split_folds(episode.support, folds=min(folds, fewest), seed=seed)
    return [
        replace(
            episode,
            support=tuple(e for place, e in enumerate(episode.support) if place not in set(part)),
            query=tuple(episode.support[place] for place in part),
        )
        for part in parts
    ]
