"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file by way of a temporary one next to it, so that it is never seen half-written.

    The temporary file is called ``.NAME.`` and eight letters.  Permissions are those of any new file.

    Args:
        path: of the file; its folder is made if need be, and an old file is replaced.
        content: all of it.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; an old file is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if (
            isinstance(error, OSError) and error.errno and error.filename is None
        ):  # the system names no file where the disk is full
            error.filename = str(path)
        raise
