"""Bare matrix products: what the processor could do with the least that an outer step multiplies.

A text of n tokens needs no padding, no layer below the adapted ones (their states are kept),
and of the last layer no more than the head reads, the first token's state. Backward, the
gradient of a product's input is one more product of the same size; frozen weights have no
gradient. Low-rank terms are counted, element-wise work is not.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from measures.episodes import Case, Problem

TOKENS = 2048
"""Rows of a bare product of hidden states: a run's largest batch, `run.batch_tokens`."""


@dataclass(frozen=True, slots=True)
class Product:
    """`count` products of `(batch, rows, inner)` and `(batch, inner, columns)`.

    Attributes:
        count: May be a fraction: a product of half as many rows counts half.
    """

    batch: int
    rows: int
    inner: int
    columns: int
    count: float

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        return 2.0 * self.batch * self.rows * self.inner * self.columns * self.count


def least_products(problem: Problem) -> list[Product]:
    """The products of one outer step of FOMAML over a problem's episodes."""
    case, config = problem.case, problem.objective.backbone.config
    products: list[Product] = []
    for passes, lengths in _lengths(problem):
        for layer in range(case.layers):
            lowest, last = layer == 0, layer == case.layers - 1
            products += _layer(case, config, lengths, lowest=lowest, last=last, passes=passes)
        # The pooler and its weights' slope, task by task.
        rows = len(lengths) // case.tasks
        size = config.hidden_size
        products.append(Product(1, rows, size, size, 3.0 * passes * case.tasks))
    return products


def _lengths(problem: Problem) -> Iterator[tuple[int, list[int]]]:
    """Tokens of the support texts, passed at each inner step, and of the query texts."""
    read = problem.objective.backbone.tokenizer
    for passes, side in ((problem.case.steps, "support"), (1, "query")):
        texts = [e.source for episode in problem.episodes for e in getattr(episode, side)]
        ids: Any = read(texts, truncation=True, max_length=problem.case.tokens[1])
        yield passes, [len(row) for row in ids["input_ids"]]


def _layer(
    case: Case, config: Any, lengths: Sequence[int], *, lowest: bool, last: bool, passes: int
) -> Iterator[Product]:
    """Forward and backward through one adapted layer, all texts."""
    hidden, wide = config.hidden_size, config.intermediate_size
    heads, rows = config.num_attention_heads, len(lengths)
    tokens, first = sum(lengths), rows if last else sum(lengths)
    blocks = tokens / TOKENS * passes
    # Below the lowest layer nothing needs a slope.
    into = 1 if lowest else 2
    yield Product(1, TOKENS, hidden, hidden, 2 * into * blocks)  # key, value
    kept = first / TOKENS * passes
    yield Product(1, TOKENS, hidden, hidden, (into + 2) * kept)  # query, output
    yield Product(1, TOKENS, hidden, wide, 2 * kept)
    yield Product(1, TOKENS, wide, hidden, 2 * kept)
    for length in lengths:
        asked = 1 if last else length
        yield Product(heads, asked, hidden // heads, length, 3.0 * passes)
        yield Product(heads, asked, length, hidden // heads, 3.0 * passes)
    for name in case.targets:
        ends = (
            [(hidden, hidden, first), (hidden, wide, first), (wide, hidden, first)]
            if name == "dense"
            else [(hidden, hidden, first if name == "query" else tokens)]
        )
        for inside, outside, count in ends:
            # Forward, the slope of the matrix, and that of its input.
            yield Product(1, TOKENS, inside, case.rank, 3.0 * count / TOKENS * passes)
            yield Product(1, TOKENS, case.rank, outside, 3.0 * count / TOKENS * passes)


def attainable_seconds(products: Sequence[Product], *, dtype: torch.dtype, device: Any) -> float:
    """Time of bare products of these shapes, each shape timed on its own, in turns."""
    seconds, timed = 0.0, dict[tuple[int, ...], float]()
    for product in products:
        # Attention of texts of about one length runs in one product: 16 lengths stand for all.
        step = max(1, TOKENS // 128)
        rows, inner, columns = (
            -(-size // step) * step if product.batch > 1 and size > 1 else size
            for size in (product.rows, product.inner, product.columns)
        )
        together = max(1, TOKENS // max(rows, inner, columns)) if product.batch > 1 else 1
        shape = (product.batch * together, rows, inner, columns)
        if shape not in timed:
            timed[shape] = _time(shape, dtype=dtype, device=device) / (
                2.0 * shape[0] * rows * inner * columns
            )
        seconds += timed[shape] * product.operations
    return seconds


def _time(shape: tuple[int, ...], *, dtype: torch.dtype, device: Any) -> float:
    """Seconds of one product, the median of several."""
    batch, rows, inner, columns = shape
    left = torch.randn(batch, rows, inner, dtype=dtype, device=device)
    right = torch.randn(batch, inner, columns, dtype=dtype, device=device)
    if batch == 1:
        left, right = left[0], right[0]
    seconds = []
    while len(seconds) < 5 or (sum(seconds) < 0.05 and len(seconds) < 50):
        began = time.perf_counter()
        torch.matmul(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])
