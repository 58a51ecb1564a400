"""One training in a folder at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["LOCK_NAME", "locked"]

LOCK_NAME = ".lock"

WAIT_S = 10.0
"""As long as the loader's processes of a training that was killed may outlive it: the lock is theirs until then."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if need be; the system lets go of it when the process ends, however it ends.

    Where the file system knows no locks, nothing is held.

    Raises:
        BlockingIOError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(WAIT_S)
    except Timeout:
        raise BlockingIOError(
            f"{folder} is in use by another training; wait until it is finished, or choose another folder"
        ) from None
    except NotImplementedError:
        yield
        return
    try:
        yield
    finally:
        (folder / LOCK_NAME).unlink(missing_ok=True)
        lock.release()
