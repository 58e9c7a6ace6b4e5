"""The Hub's client, kept off the screens of users."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import utils


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Without its bars, and without its remarks on the tries that it makes again."""
    # Its functions carry no types.
    tools: Any = utils
    verbosity, had_bars = tools.logging.get_verbosity(), not tools.are_progress_bars_disabled()
    tools.logging.set_verbosity_error()
    tools.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Warnings while validating metadata", UserWarning)
            yield
    finally:
        tools.logging.set_verbosity(verbosity)
        if had_bars:
            tools.enable_progress_bars()
