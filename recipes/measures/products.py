"""Bare matrix products: what the processor could do if an outer step were nothing but its products.

The products that a step executes are recorded, forward and backward, by their shapes. The same
shapes are then timed alone, in the same precision. Element-wise work, copies and Python make up
the difference.
"""

import time
from collections import Counter
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from measures.episodes import Problem, meta_gradient

Shape = tuple[int, int, int, int]
"""Of a product of `(batch, rows, inner)` and `(batch, inner, columns)`."""

# Places of the two factors among the arguments.
FACTORS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
ATTENTION = "scaled_dot_product"
"""In the names of fused attention; backward, five products stand for two."""


class ProductRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types
    """Counts the products that run inside it, by shape."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes = Counter[Shape]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in FACTORS:
            left, right = (args[place] for place in FACTORS[name])
            self.shapes[left.shape[:-2].numel(), *left.shape[-2:], right.shape[-1]] += 1
        elif ATTENTION in name:
            query, key = args[1:3] if "backward" in name else args[:2]
            *heads, rows, size = query.shape
            batch, tokens = torch.Size(heads).numel(), key.shape[-2]
            # Scores, and what they mix; backward the scores again, and two slopes of either.
            self.shapes[batch, rows, size, tokens] += 3 if "backward" in name else 1
            self.shapes[batch, rows, tokens, size] += 2 if "backward" in name else 1
        return func(*args, **(kwargs or {}))


def record_products(problem: Problem) -> Mapping[Shape, int]:
    """How often an outer step of FOMAML executes products of each shape."""
    meta_gradient(problem)  # fills what is kept of texts
    with ProductRecorder() as recorder:
        meta_gradient(problem)
    shapes: Mapping[Shape, int] = recorder.shapes
    return shapes


def operations(shapes: Mapping[Shape, int]) -> float:
    """Multiplications and additions of products."""
    return sum(2.0 * b * m * k * n * count for (b, m, k, n), count in shapes.items())


def attainable_seconds(
    shapes: Mapping[Shape, int], *, dtype: torch.dtype, device: torch.device
) -> float:
    """Time of bare products of these shapes, each shape timed alone."""
    return sum(count * _time(shape, dtype=dtype, device=device) for shape, count in shapes.items())


def _time(shape: Shape, *, dtype: torch.dtype, device: torch.device) -> float:
    """Seconds of one product, the median of several."""
    batch, rows, inner, columns = shape
    left = torch.randn(batch, rows, inner, dtype=dtype, device=device)
    right = torch.randn(batch, inner, columns, dtype=dtype, device=device)
    out = torch.empty(batch, rows, columns, dtype=dtype, device=device)
    if batch == 1:
        left, right, out = left[0], right[0], out[0]
    seconds: list[float] = []
    while len(seconds) < 4 or (sum(seconds) < 0.01 and len(seconds) < 20):
        began = time.perf_counter()
        torch.matmul(left, right, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])
