"""What is said when torchvision cannot download."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from urllib.error import URLError

import pytest

from pure.data.sets.official import get


def failing(error: Exception) -> object:
    def download() -> object:
        raise error

    return download


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            URLError("no route"),
            ConnectionError,
            r"cannot download Toys from http://toys \(no route\); check the network",
        ),
        (RuntimeError("File not found or corrupted."), ConnectionError, r"\(File not found or corrupted\.\); check"),
        (ConnectionResetError("reset by peer"), ConnectionError, r"\(reset by peer\); check the network"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            OSError,
            "the disk is full: Toys takes at least 1,234 bytes in toys; free as much, .* run it again: incompl",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            OSError,
            r"cannot write to toys \(Permission denied\): ch",
        ),
        (
            OSError(errno.EROFS, os.strerror(errno.EROFS)),
            OSError,
            r"cannot write to toys \(Read-only file system\): ch",
        ),
    ],
)
def test_a_download_that_fails_says_why_and_what_to_do(error: Exception, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        get("Toys", failing(error), "http://toys", Path("toys"), 1234)  # type: ignore[arg-type]
    assert isinstance(raised.value, ConnectionError) == (kind is ConnectionError)
    assert raised.value.__cause__ is error


def test_a_download_that_succeeds_gives_its_folder() -> None:
    called = []
    assert get("Toys", lambda: called.append(1), "http://toys", Path("toys"), 1234) == Path("toys")
    assert called == [1]
