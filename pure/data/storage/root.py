"""Where the data sets lie on this machine, and what is said when one is missing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["ROOT_VARIABLE", "data_root", "missing", "unreachable", "user_cache", "writable_folder"]

ROOT_VARIABLE = "PURE_DATA"
"""The environment variable that names the folder of the data sets."""


def data_root(root: str | Path | None = None) -> Path:
    """The folder of the data sets: the argument, else the environment variable PURE_DATA, else ``data``.

    The folder need not exist.

    Args:
        root: the folder; None takes the environment variable, or ``data`` below the working directory.

    Raises:
        ValueError: it begins with ``~``, and that home is unknown.
    """
    folder = Path(root or os.environ.get(ROOT_VARIABLE) or "data")
    try:
        return folder.expanduser()
    except RuntimeError:
        raise ValueError(f"{folder} begins with a home folder that this machine does not know; write it out") from None


def user_cache() -> Path | None:
    """The user's folder for our caches, which need not exist; None for a user without a home, as in some containers."""
    caches = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(caches) if caches else Path.home() / ".cache") / "pure"
    except RuntimeError:
        return None


def missing(name: str, title: str, root: Path, looked_for: Iterable[str], instead: str = "") -> FileNotFoundError:
    """The error of a data set that is not there: what was looked for, where, and how to get it.

    Args:
        name: as :func:`pure.data.load` knows it.
        title: as people know it.
        root: the folder that was searched.
        looked_for: files and folders, any of which would have done.
        instead: another way to get it than the command.
    """
    command = f"python -m pure.data {name} --data {root} --download"
    return FileNotFoundError(
        f"{title} is not in {root} (looked for {', '.join(looked_for)}); {instead or f'get it with: {command}'}, "
        f"or name the folder that holds it: root=, --data or the environment variable {ROOT_VARIABLE}"
    )


def unreachable(title: str, source: str, target: Path, error: Exception) -> ConnectionError:
    """The error of a download that failed: from where, why, and how to do without it.

    Args:
        title: the data set, as people know it.
        source: the address.
        target: the folder where the files belong.
        error: what went wrong.
    """
    reason = str(getattr(error, "reason", error)).strip().splitlines()[-1:] or [type(error).__name__]
    return ConnectionError(
        f"cannot download {title} from {source} ({reason[0]}); check the network and try again, or get the files "
        f"elsewhere and put them into {target}"
    )


def writable_folder(candidates: Iterable[Path]) -> Path | None:
    """The first of the folders that a file can be written to, made if need be; None if none can.

    A file is really written: permissions alone do not show a read-only mount or a full disk.
    """
    for folder in candidates:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"pure")
        except OSError:
            continue
        return folder
    return None
