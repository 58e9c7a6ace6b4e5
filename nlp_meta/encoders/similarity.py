"""How alike sentences are, and which of two texts translate each other, whatever model embeds them.

Embeddings are rows of length 1 in float32, so that a product is a cosine. A pair stands out
by its margin over the neighbors of both sides. The overlap of character n-grams is a second
cosine: a translation in a related language looks like its source, and names and numbers do
in any. An encoder's vocabulary breaks both apart, so the two cosines add to each other.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from nlp_meta.data.duplicates import first_places, text_key
from nlp_meta.data.inputs import Texts, as_texts, check_callback, check_number, check_whole
from nlp_meta.errors import DataError, need_packages
from nlp_meta.progress import Ticker

NEIGHBORS = 4
"""Nearest neighbors on either side that a margin is taken against."""
SMALLEST = 1e-6
"""Least mean cosine to divide by: random embeddings may have none above 0."""
BLOCK = 4096
"""Rows and columns of one block of cosines: 64 MiB."""
More = Callable[[slice, slice], Tensor]
"""What is added to the cosines of some sources with some targets."""


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The k nearest of the other side for each row, the nearest first.

    Attributes:
        cosines: `(rows, k)`.
        places: `(rows, k)`, rows of the other side.
    """

    cosines: Tensor
    places: Tensor


def ratio_margin(cosines: Tensor, *, neighbors: int) -> Tensor:
    """Score every pair by its cosine over the mean cosine of both sides' neighbors.

        margin(x, y) = cos(x, y) / (sum over z in N(x) of cos(x, z) / 2k
                                    + sum over z in N(y) of cos(y, z) / 2k)

    Args:
        cosines: `(sources, targets)` of all pairs.
        neighbors: k; no more than a side has rows.

    Source:
        Artetxe and Schwenk 2019, arXiv:1811.01136, section 3, ratio.
    """
    forward = cosines.topk(min(neighbors, cosines.shape[1]), dim=1).values.mean(1, keepdim=True)
    backward = cosines.topk(min(neighbors, cosines.shape[0]), dim=0).values.mean(0, keepdim=True)
    return cosines / ((forward + backward) / 2).clamp(min=SMALLEST)


def nearest(
    sources: Tensor,
    targets: Tensor,
    *,
    neighbors: int,
    block: int = BLOCK,
    more: More | None = None,
) -> tuple[Neighbors, Neighbors]:
    """Find the neighbors of every source among the targets and of every target among the sources.

    No more than one block of cosines is held at once, and each is computed once for both.
    """
    forward = _empty(len(sources), min(neighbors, len(targets)), sources.device)
    backward = _empty(len(targets), min(neighbors, len(sources)), sources.device)
    for rows in _slices(len(sources), block):
        for columns in _slices(len(targets), block):
            cosines = sources[rows] @ targets[columns].T
            if more is not None:
                cosines += more(rows, columns).to(cosines.device)
            _keep_nearest(forward, rows, cosines, first=columns.start)
            _keep_nearest(backward, columns, cosines.T, first=rows.start)
    return forward, backward


def margins_of(own: Neighbors, other: Neighbors) -> Tensor:
    """Ratio margins of each row with its neighbors, `(rows, k)`."""
    means, others = own.cosines.mean(1, keepdim=True), other.cosines.mean(1)
    return own.cosines / ((means + others[own.places]) / 2).clamp(min=SMALLEST)


def _empty(rows: int, neighbors: int, device: torch.device) -> Neighbors:
    cosines = torch.full((rows, neighbors), -torch.inf, device=device)
    return Neighbors(cosines, torch.zeros(rows, neighbors, dtype=torch.long, device=device))


def _slices(count: int, block: int) -> Iterator[slice]:
    for first in range(0, count, block):
        yield slice(first, min(first + block, count))


def _keep_nearest(kept: Neighbors, rows: slice, cosines: Tensor, *, first: int) -> None:
    """Let a block's nearest, whose places begin at `first`, take the places of farther ones."""
    wanted = kept.cosines.shape[1]
    near = cosines.topk(min(wanted, cosines.shape[1]), dim=1)
    both = torch.cat([kept.cosines[rows], near.values], dim=1)
    places = torch.cat([kept.places[rows], near.indices + first], dim=1)
    best = both.topk(wanted, dim=1)
    kept.cosines[rows] = best.values
    kept.places[rows] = places.gather(1, best.indices)


def mine_pairs(
    sources: Tensor,
    targets: Tensor,
    *,
    neighbors: int = NEIGHBORS,
    block: int = BLOCK,
    never: Mapping[int, Collection[int]] | None = None,
    more: More | None = None,
) -> list[tuple[int, int, float]]:
    """Pair rows one to one, the largest margins first.

    Each row's neighbors, in both directions, are its candidates; the best candidate of all
    is taken, its two rows are out, and so on.

    Args:
        never: For some sources the targets that they are not paired with.
        more: Another likeness, added to the cosines of the rows.

    Returns:
        Place of the source, of the target and their margin, by falling margin.

    Source:
        Artetxe and Schwenk 2019, arXiv:1811.01136, section 4, max retrieval.
    """
    forward, backward = nearest(sources, targets, neighbors=neighbors, block=block, more=more)
    candidates: list[tuple[float, int, int]] = []
    for one_way, other_way, turned in ((forward, backward, False), (backward, forward, True)):
        margins = margins_of(one_way, other_way)
        rows = torch.arange(len(margins), device=margins.device).unsqueeze(1)
        sides = (rows.expand_as(one_way.places), one_way.places)
        first, second = sides[::-1] if turned else sides
        columns = (margins, first, second)
        candidates += zip(*(value.flatten().tolist() for value in columns), strict=True)
    candidates.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    apart = never or {}
    taken: tuple[set[int], set[int]] = (set(), set())
    pairs: list[tuple[int, int, float]] = []
    for margin, source, target in candidates:
        free = source not in taken[0] and target not in taken[1]
        if free and target not in apart.get(source, ()):
            taken[0].add(source)
            taken[1].add(target)
            pairs.append((source, target, margin))
    return pairs


ORDERS = (2, 4)
"""Characters of the shortest and of the longest n-gram, inside words."""
WHOLE = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """TF-IDF vectors of two sides' n-grams, `(texts, n-grams)`, each of length 1 or 0.

    Rarity is that of the n-grams in both sides together: it needs no translation.
    """

    sources: csr_matrix
    targets: csr_matrix

    @classmethod
    def of(
        cls, sources: Sequence[str], targets: Sequence[str], *, orders: tuple[int, int] = ORDERS
    ) -> "Overlap":
        """Count the n-grams of two sides, which may be one."""
        # It takes a second to import, and only whoever looks for translations needs it.
        need_packages("compare the characters of texts", "sklearn", extra="translation")
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=orders, sublinear_tf=True)
        try:
            vectors = vectorizer.fit_transform([*sources, *targets]).astype(np.float32)
        except ValueError:  # no text has a character
            vectors = csr_matrix((len(sources) + len(targets), 1), dtype=np.float32)
        return cls(vectors[: len(sources)], vectors[len(sources) :])

    def cosines(self, rows: slice = WHOLE, columns: slice = WHOLE) -> Tensor:
        """Cosines of some sources with some targets, `(sources, targets)`, float32."""
        product = self.sources[rows] @ self.targets[columns].T
        return torch.from_numpy(product.toarray())


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
    counted = Overlap.of(left, right) if overlap else None
    mined = mine_pairs(
        embed_source(left, on_step=tick),
        embed_target(right, on_step=tick),
        neighbors=neighbors,
        never=find_copies(left, right),
        more=None
        if counted is None
        else lambda rows, columns: overlap * counted.cosines(rows, columns),
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
    at_once: int = EMBEDDED_AT_ONCE,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Embed texts, of like length side by side, and give them in their own order.

    A block of mixed lengths would be cut into many batches.

    Args:
        embed: Gives `(texts, width)`; texts come to it without white space around them.
        at_once: Texts of a block.
        on_step: Called with the number of texts just embedded.
    """
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    blocks = [torch.zeros(0, width)] if not texts else []
    for first in range(0, len(order), at_once):
        places = order[first : first + at_once]
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


def find_copies(sources: Sequence[str], targets: Sequence[str]) -> dict[int, list[int]]:
    """The targets that are each source's own copies, up to case and punctuation."""
    places: dict[str, list[int]] = {}
    for place, text in enumerate(targets):
        places.setdefault(text_key(text), []).append(place)
    keys = [text_key(text) for text in sources]
    return {place: places[key] for place, key in enumerate(keys) if key in places}
