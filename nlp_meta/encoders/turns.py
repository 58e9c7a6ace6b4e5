"""Turns: one thread at a time uses an encoder, and one thread at a time loads models.

A pass puts hooks on the layers of an encoder, and a tokenizer keeps its options as state, so
models that share them take turns. A turn is one pass: whoever adapts for minutes lets others
answer in between. Libraries change torch itself while they load, so loads take turns too.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from nlp_meta.progress import quiet_transformers


class Turn:
    """A lock that all models of one load share; a thread may take it again while it has it.

    A forked process finds it free, whichever thread of its parent had it at that moment.
    """

    def __init__(self) -> None:
        self._locks: dict[int, Any] = {}

    def __call__(self) -> Any:
        """Give the lock, to be taken by `with`."""
        return self._locks.setdefault(os.getpid(), threading.RLock())

    def __deepcopy__(self, _: dict[int, object]) -> "Turn":
        return Turn()


_LOADING = Turn()
# transformers takes functions out of torch while it loads: one load at a time in a process.


@contextmanager
def loading() -> Iterator[None]:
    """Load a model: quiet, alone, with the caller's random numbers and modes of torch untouched."""
    with _LOADING(), quiet_transformers(), torch.random.fork_rng(devices=[]), plain_modes():
        yield


@contextmanager
def plain_modes() -> Iterator[None]:
    """Compute as if the caller had turned no gradient off, no precision down, no device on."""
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as others:
        for device in filter(torch.is_autocast_enabled, ("cpu", "cuda", "mps", "xpu")):
            others.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            others.enter_context(torch.device("cpu"))
        yield
