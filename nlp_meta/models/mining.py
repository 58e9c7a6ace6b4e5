"""Mining: the sentences of two texts that translate each other, whatever model embeds them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nlp_meta.data.duplicates import first_places, text_key
from nlp_meta.data.inputs import Texts, as_texts, check_callback, check_number, check_whole
from nlp_meta.encoders.similarity import More, Overlap, mine_pairs, ratio_margin
from nlp_meta.errors import DataError
from nlp_meta.progress import Ticker

EMBEDDED_AT_ONCE = 2048
"""Texts that are embedded between two calls of a progress bar."""


class Embed(Protocol):
    """Gives texts as rows of length 1, in float32."""

    def __call__(self, texts: Texts, *, on_step: Callable[[int], None] | None = None) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Mined:
    """A source and its translation, by their places, and the margin that they stand out by."""

    source: int
    target: int
    margin: float


@dataclass(frozen=True, slots=True)
class MinedPairs:
    """What adaptations said of pairs that they had not seen.

    Every source looks for its translation among the targets of all pairs twice: with its
    own among them, and without, as most sentences of two unrelated texts have none.

    Attributes:
        first: Share of sources whose own translation has the best margin when it is there.
        threshold: Margin from which on a pair is mined.
        precision: Share of what is mined in both searches that is right.
        recall: Share of the sources whose translation is mined when it is there.
    """

    first: float
    threshold: float
    precision: float
    recall: float


def mine_texts(
    embed_source: Embed,
    embed_target: Embed,
    sources: Texts,
    targets: Texts,
    *,
    threshold: float,
    neighbors: int,
    overlap: float = 0.0,
    on_step: Callable[[int, int], None] | None = None,
) -> list[Mined]:
    """Find the sentences of two texts that translate each other, each in one pair at most.

    Args:
        threshold: Least margin of a pair.
        overlap: What the overlap of two sentences' n-grams counts for beside their cosine.
        on_step: Called with the sentences embedded and their number.

    Returns:
        Pairs by falling margin.

    Raises:
        DataError: A side has no sentence, or an empty one.
    """
    sources, targets = as_texts(sources, "sources"), as_texts(targets, "targets")
    threshold = check_number(threshold, "threshold")
    neighbors = check_whole(neighbors, "neighbors", least=1)
    check_callback(on_step, "on_step")
    if not sources or not targets:
        raise DataError(
            f"cannot align {len(sources)} sentences with {len(targets)}: at least one on each "
            "side is needed; give `sources` and `targets` that have some"
        )
    firsts, seconds = first_places(sources), first_places(targets)
    left, right = [sources[p] for p in firsts], [targets[p] for p in seconds]
    tick = Ticker(on_step, total=len(left) + len(right))
    mined = mine_pairs(
        embed_source(left, on_step=tick),
        embed_target(right, on_step=tick),
        neighbors=neighbors,
        never=_find_copies(left, right),
        more=_weigh_overlap(left, right, overlap) if overlap else None,
    )
    return [
        Mined(firsts[source], seconds[target], margin)
        for source, target, margin in mined
        if margin >= threshold
    ]


def embed_in_blocks(
    embed: Callable[[list[str]], Tensor],
    texts: Sequence[str],
    *,
    width: int,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Embed texts, of like length side by side, and give them in their own order.

    A block of mixed lengths would be cut into many batches.

    Args:
        embed: Gives `(texts, width)`; texts come to it without white space around them.
        on_step: Called with the number of texts just embedded.
    """
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    blocks = [torch.zeros(0, width)] if not texts else []
    for first in range(0, len(order), EMBEDDED_AT_ONCE):
        places = order[first : first + EMBEDDED_AT_ONCE]
        blocks.append(embed([texts[place].strip() for place in places]))
        if on_step:
            on_step(len(places))
    rows = torch.cat(blocks)
    return torch.empty_like(rows).index_copy(0, torch.tensor(order, device=rows.device), rows)


def pair_margins(cosines: Tensor, apart: Tensor, *, neighbors: int) -> Tensor:
    """Margins of sources with their own translation and with the best of another.

    Args:
        cosines: `(pairs, pairs)` of sources with targets.
        apart: Which pairs are negatives of each other, of the same shape.

    Returns:
        `(pairs, 2)`.
    """
    margins = ratio_margin(cosines, neighbors=neighbors)
    return torch.stack([margins.diagonal(), margins.masked_fill(~apart, -torch.inf).amax(1)], 1)


def choose_threshold(own: Tensor, others: Tensor) -> MinedPairs:
    """Find the margin that mines best: with the largest F1 over both searches.

    Args:
        own: Margin of each source with its own translation, `(sources,)`.
        others: Its best margin with a translation of another, `(sources,)`.

    Returns:
        The threshold stands halfway between the margins that it parts; of equal ones the
        largest is taken, which is the most careful.
    """
    ranked_first = own > others
    margins = torch.cat([torch.maximum(own, others), others])
    right = torch.cat([ranked_first, torch.zeros_like(ranked_first)])
    order = margins.argsort(descending=True)
    ranked, hits = margins[order], right[order].cumsum(0).double()
    mined = torch.arange(1, len(ranked) + 1, device=ranked.device)
    f1 = 2 * hits / (mined + len(own))
    # A threshold cannot part equal margins.
    f1[:-1] = f1[:-1].where(ranked[:-1] > ranked[1:], -1.0)
    best = int(f1.argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best]
    return MinedPairs(
        first=float(ranked_first.double().mean()),
        threshold=float((ranked[best] + below) / 2),
        precision=float(hits[best] / mined[best]),
        recall=float(hits[best] / len(own)),
    )


def _weigh_overlap(sources: Sequence[str], targets: Sequence[str], share: float) -> More:
    counted = Overlap.of(sources, targets)
    return lambda rows, columns: share * counted.cosines(rows, columns)


def _find_copies(sources: Sequence[str], targets: Sequence[str]) -> dict[int, list[int]]:
    """The targets that are each source's own copies, up to case and punctuation."""
    places: dict[str, list[int]] = {}
    for place, text in enumerate(targets):
        places.setdefault(text_key(text), []).append(place)
    keys = [text_key(text) for text in sources]
    return {place: places[key] for place, key in enumerate(keys) if key in places}
