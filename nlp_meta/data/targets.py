"""The labels of a support set as numbers, and what a support set must have to be learned from."""

from nlp_meta.data.episodes import Episode
from nlp_meta.errors import EpisodeError


def support_targets(episode: Episode, *, purpose: str) -> list[int]:
    """Place of each support example's label among the episode's.

    Args:
        purpose: What cannot be done without, for the message: `fit a linear probe`.

    Raises:
        EpisodeError: Fewer than 2 labels.
    """
    found = {example.target for example in episode.support}
    if len(found) < 2:
        raise EpisodeError(
            f"cannot {purpose} on task '{episode.task}': its support set of "
            f"{len(episode.support)} examples has {len(found)} labels, at least 2 are needed; "
            "raise the number of labels"
        )
    return [episode.labels.index(example.target) for example in episode.support]
