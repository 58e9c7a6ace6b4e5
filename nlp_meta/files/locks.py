"""One process at a time: a file is held while a run works in its folder.

The system lets go what a process holds when it ends, however it ends.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nlp_meta.errors import OutputError


@contextmanager
def lock(path: Path, *, shared: bool = False, wait: bool = False) -> Iterator[bool]:
    """Hold a file or a folder for this process; a process that ends, however, lets it go.

    Args:
        shared: Others may hold it so at the same time.
        wait: Until another process lets it go.

    Returns:
        Whether it is held: False where another process holds it.
    """
    # Windows has no such module.
    import fcntl

    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


@contextmanager
def hold(path: Path, *, argument: str = "output_dir") -> Iterator[None]:
    """Keep other processes from work in the folder of a file while this one works.

    Raises:
        OutputError: Another one does.
    """
    with lock(path) as held:
        if not held:
            raise busy(path.parent, argument=argument)
        yield


def busy(folder: Path, *, argument: str) -> OutputError:
    """Say that another process works in a folder."""
    return OutputError(
        f"cannot run in '{folder}': another run goes on there at this moment, and one at a time is "
        f"needed; wait for its end, or name another folder with `{argument}`"
    )
