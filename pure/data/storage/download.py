"""One file from the web, resumable: it gets its name only when its SHA-256 is the published one.

The bytes go to ``NAME.part``.  Whatever interrupts the transfer, the part stays and the next call goes on from its end;
it gets its name when it is complete and checked.  The published checksum is also what tells a stale part: a file put
together from two calls that does not have it is downloaded once more from the start.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from pure.data.storage.root import ROOT_VARIABLE

__all__ = ["ChecksumError", "disk_full", "fetch", "file_sha256", "locked", "require_space", "unwritable"]

_BLOCK = 1 << 20
_BUSY = (408, 425, 429, 500, 502, 503, 504)  # statuses that pass: the request may be repeated
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LONGEST_PAUSE = 60.0  # seconds
_ANOTHER = f"root=, --data or the environment variable {ROOT_VARIABLE}; for a cache cache="


class ChecksumError(ValueError):
    """A file does not have the published content."""


class _Interrupted(Exception):
    """The transfer broke off in a way that trying again may mend."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause  # seconds that the server asked for


def fetch(
    url: str,
    path: str | Path,
    sha256: str,
    size: int | None = None,
    progress: bool | None = None,
    *,
    timeout: float = 30.0,
    retries: int = 4,
) -> Path:
    """Download a file, or find it complete, and prove its content.

    Args:
        url: its address, http or https.
        path: where it shall lie; folders are made.
        sha256: its published SHA-256, hexadecimal.
        size: its length in bytes, if known: then a wrong file is refused before it is transferred.
        progress: whether a bar is shown; None shows it on a terminal only.
        timeout: seconds to wait for the server at each step.
        retries: how often in a row, without a byte gained, a broken transfer is taken up again; the pauses grow.

    Returns:
        The path.

    Raises:
        ValueError: an address that is neither http nor https.
        ChecksumError: the file that is there, or that the server sends, is not the published one.
        ConnectionError: the server cannot be reached, breaks off again and again, or refuses; the part is kept.
        OSError: the folder cannot be written to, or the disk is full; the message says how much is missing, and the
            part is kept.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"expected an address with http or https, got {url!r}")
    path = Path(path)
    part = path.with_name(path.name + ".part")
    if path.exists():
        _check_existing(path, sha256)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    with locked(path):
        if path.exists():  # another process was quicker
            return path
        in_one = _transfer(url, part, size, progress, timeout, retries)
        found = file_sha256(part)
        if found != sha256 and not in_one:  # its pieces may be of different files: once more, from the start
            part.unlink()
            _transfer(url, part, size, progress, timeout, retries)
            found = file_sha256(part)
        if found != sha256:
            received = part.stat().st_size
            part.unlink()
            raise ChecksumError(
                f"{url} sent {received:,} bytes with SHA-256 {found}, expected {sha256}; nothing was kept. Try again; "
                f"if it repeats, the server's file was changed: get the published one elsewhere and save it as {path}"
            )
        part.replace(path)
    return path


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time make a file; another that comes here waits, and should then look again.

    Raises:
        OSError: the folder cannot be written to.
    """
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if sys.stderr.isatty():  # quiet elsewhere, as a progress bar is
            tqdm.write(f"waiting for another process that makes {path}", file=sys.stderr)
        lock.acquire()
    except OSError as error:
        raise unwritable(path.parent, error) from error
    try:
        yield
        Path(lock.lock_file).unlink(missing_ok=True)  # the file is there: who waits will find it
    finally:
        lock.release()


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        folder: an existing folder on the disk.
        needed: bytes still to be written.
        what: what they are, for the message.

    Raises:
        OSError: ``ENOSPC``; the message says how much is missing.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"{what} needs {needed:,} bytes in {folder}, {free:,} are free: free another {needed - free:,} bytes "
            f"and run it again, or choose another folder ({_ANOTHER})",
        )


def disk_full(error: OSError) -> bool:
    """Whether the disk, or the user's share of it, is full."""
    return error.errno in _FULL


def unwritable(path: Path, error: OSError) -> OSError:
    """The same error, with a message that says what to do."""
    return OSError(
        error.errno,
        f"cannot write to {path} ({error.strerror}): choose another folder ({_ANOTHER}), or change its permissions",
    )


def _check_existing(path: Path, sha256: str) -> None:
    found = file_sha256(path)
    if found != sha256:
        raise ChecksumError(
            f"{path} ({path.stat().st_size:,} bytes) is not the published file: its SHA-256 is {found}, expected "
            f"{sha256}; move it elsewhere, then download it again"
        )


def _transfer(url: str, part: Path, size: int | None, progress: bool | None, timeout: float, retries: int) -> bool:
    """Bring the part to the full length, over as many connections as it takes; whether one sent all of it."""
    failures = 0
    disable = None if progress is None else not progress  # None: tqdm looks whether there is a terminal
    with tqdm(total=size, desc=part.stem, unit="B", unit_scale=True, unit_divisor=1024, disable=disable) as bar:
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                _connect(url, part, size, timeout, bar)
                return before == 0
            except _Interrupted as interruption:
                have = part.stat().st_size if part.exists() else 0
                failures = 1 if have > before else failures + 1
                if failures > retries:
                    raise ConnectionError(
                        f"cannot download {url}: {interruption}, {failures} times in a row; "
                        + (f"{have:,} bytes are kept in {part}. Run it again to go on" if have else "try again later")
                        + f", or get the file elsewhere and save it as {part.with_suffix('')}"
                    ) from interruption
                pause = min(interruption.pause or 2.0 ** (failures - 1), _LONGEST_PAUSE)
                bar.set_postfix_str(f"{interruption}; again in {pause:.0f} s")
                time.sleep(pause)


def _connect(url: str, part: Path, size: int | None, timeout: float, bar: tqdm[Any]) -> None:
    """One request, for what the part lacks."""
    have = part.stat().st_size if part.exists() else 0
    if have == size:
        return
    if size is not None and have > size:  # of another file
        part.unlink()
        have = 0
    headers = {"User-Agent": "pure-networks", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                    return  # nothing is missing
                part.unlink()
                raise _Interrupted("the part was longer than the server's file", pause=0.01) from error
            if error.code in _BUSY:
                asked = error.headers.get("Retry-After", "")
                pause = float(asked) if asked.isdigit() else None
                raise _Interrupted(f"the server answers {error.code} {error.reason}", pause) from error
        raise ConnectionError(
            f"cannot download {url}: the server answers {error.code} {error.reason}; look whether the address still "
            f"holds in a browser, or get the file elsewhere and save it as {part.with_suffix('')}"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _Interrupted(f"{getattr(error, 'reason', None) or error}") from error
    with response:
        if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server does not do ranges: it sends all of it
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        if size is not None and total is not None and total != size:
            raise ChecksumError(
                f"{url} is {total:,} bytes long, expected {size:,}: it is not the published file; look at it in a "
                f"browser, or get the file elsewhere and save it as {part.with_suffix('')}"
            )
        bar.total = total
        bar.n = bar.initial = have
        bar.refresh()
        if total is not None:
            require_space(part.parent, total - have, f"the download of {part.stem}")
        received = have + _receive(response, part, have, total, bar)
    if total is not None and received < total:
        raise _Interrupted(f"the connection was cut after {received:,} of {total:,} bytes")


def _receive(response: Any, part: Path, have: int, total: int | None, bar: tqdm[Any]) -> int:
    """Append the body to the part, or write it from the start if ``have`` is 0; returns the bytes received."""
    received = 0
    try:
        # Unbuffered: what was written is in the file, also if the next block finds the disk full.
        file = open(part, "ab" if have else "wb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise unwritable(part, error) from error
    with file:
        while True:
            try:
                block = memoryview(response.read(_BLOCK))
            except (http.client.HTTPException, OSError) as error:  # a timeout is an OSError
                raise _Interrupted(str(error) or type(error).__name__) from error
            if not block:
                return received
            while block:
                try:
                    written = file.write(block)
                except OSError as error:
                    raise _not_written(part, have + received, total, error) from error
                received += written
                bar.update(written)
                block = block[written:]


def _not_written(part: Path, have: int, total: int | None, error: OSError) -> OSError:
    if not disk_full(error):
        return unwritable(part, error)
    missing = "the rest" if total is None else f"another {total - have:,} bytes"
    return OSError(
        error.errno,
        f"the disk is full ({error.strerror}): {have:,} bytes are kept in {part}; free {missing} and run it again: it "
        "goes on from there",
    )
