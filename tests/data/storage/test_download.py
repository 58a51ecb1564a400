"""Downloads from a server on this machine that cuts connections, ignores ranges, stalls or sends the wrong file."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pure.data.storage import download
from pure.data.storage.download import ChecksumError, fetch, file_sha256, locked

# Longer than one block, so that a cut can fall between two writes.
CONTENT = np.random.default_rng(0).bytes(2_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What it sends, and what it was asked for."""

    content: bytes = CONTENT
    ranges: bool = True
    send_length: bool = True
    cut_after: list[int] = field(default_factory=list)  # bytes of the body sent, for each of the next requests
    statuses: list[int] = field(default_factory=list)  # answers to the next requests, without a body
    asked: list[str | None] = field(default_factory=list)  # the Range header of each request
    stall: threading.Event | None = None
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server asks for
            state.asked.append(self.headers["Range"])
            if state.statuses:
                self.send_response(state.statuses.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            total, start = len(state.content), 0
            if state.ranges and self.headers["Range"]:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                if start >= total:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{total}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            else:
                self.send_response(200)
            if state.send_length:
                self.send_header("Content-Length", str(total - start))
            self.end_headers()
            body = state.content[start:]
            if state.cut_after:
                body = body[: state.cut_after.pop(0)]
            self.wfile.write(body)
            if state.stall is not None:
                self.wfile.flush()
                state.stall.wait(10)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}/file.h5"
        yield state
        if state.stall is not None:
            state.stall.set()
        http.shutdown()
        thread.join()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses asked for, none of them kept."""
    asked: list[float] = []
    monkeypatch.setattr(download.time, "sleep", asked.append)
    return asked


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What goes well


def test_a_file_is_downloaded_checked_and_found_again(server: Server, tmp_path: Path) -> None:
    path = fetch(server.url, tmp_path / "new" / "file.h5", SHA256, size=len(CONTENT))
    assert path == tmp_path / "new" / "file.h5"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file.h5"]  # neither part nor lock
    assert fetch(server.url, path, SHA256) == path
    assert server.asked == [None]  # the second call asked nothing


def test_cut_connections_are_taken_up_where_they_ended(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.cut_after = [1_200_000, 0, 300_000]
    path = fetch(server.url, tmp_path / "file.h5", SHA256)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1200000-", "bytes=1200000-", "bytes=1500000-"]
    assert pauses == [1.0, 2.0, 1.0]  # longer without a byte gained, short again after some


def test_a_later_call_goes_on_from_the_part(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.cut_after = [1_000_000]
    with pytest.raises(ConnectionError, match=r"cut after 1,000,000 of 2,500,000 bytes, 1 times in a row; 1,000,000 "):
        fetch(server.url, tmp_path / "file.h5", SHA256, retries=0)
    assert names(tmp_path) == ["file.h5.lock", "file.h5.part"]
    assert fetch(server.url, tmp_path / "file.h5", SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-"]
    assert pauses == []


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.ranges = False
    server.cut_after = [1_000_000]
    assert fetch(server.url, tmp_path / "file.h5", SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-"]


@pytest.mark.parametrize("stale", [b"another file" * 1000, b"x" * 2_500_000, b"x" * 2_600_000])
def test_a_part_of_another_file_is_thrown_away(
    server: Server, tmp_path: Path, pauses: list[float], stale: bytes
) -> None:
    (tmp_path / "file.h5.part").write_bytes(stale)
    assert fetch(server.url, tmp_path / "file.h5", SHA256).read_bytes() == CONTENT
    assert names(tmp_path) == ["file.h5"]


def test_a_complete_part_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.h5.part").write_bytes(CONTENT)
    fetch(server.url, tmp_path / "file.h5", SHA256, size=len(CONTENT))
    assert server.asked == []
    (tmp_path / "file.h5").rename(tmp_path / "file.h5.part")
    fetch(server.url, tmp_path / "file.h5", SHA256)  # the length has to be asked for
    assert server.asked == ["bytes=2500000-"]
    assert names(tmp_path) == ["file.h5"]


def test_a_length_that_the_server_does_not_tell_is_no_obstacle(server: Server, tmp_path: Path) -> None:
    server.send_length = False
    assert fetch(server.url, tmp_path / "file.h5", SHA256).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.statuses = [503, 429]
    assert fetch(server.url, tmp_path / "file.h5", SHA256).read_bytes() == CONTENT
    assert pauses == [1.0, 2.0]


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"), [(None, False, False), (None, True, True), (True, False, True)]
)
def test_the_bar_is_for_terminals(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress: bool | None, terminal: bool, shown: bool
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    fetch(server.url, tmp_path / "file.h5", SHA256, progress=progress)
    assert ("file.h5: 100%" in stream.getvalue()) == shown
    assert bool(stream.getvalue()) == shown


# What does not


def test_wrong_content_never_gets_the_name(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>Sign in to the hotel's network</html>"
    found = hashlib.sha256(server.content).hexdigest()
    message = rf"sent 43 bytes with SHA-256 {found}, expected {SHA256}; nothing was kept. Try again"
    with pytest.raises(ChecksumError, match=message):
        fetch(server.url, tmp_path / "file.h5", SHA256)
    assert names(tmp_path) == ["file.h5.lock"]
    with pytest.raises(ChecksumError, match="is 43 bytes long, expected 2,500,000: it is not the published file"):
        fetch(server.url, tmp_path / "file.h5", SHA256, size=len(CONTENT))


def test_a_wrong_file_under_the_name_is_reported_and_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.h5").write_bytes(b"mine")
    with pytest.raises(ChecksumError, match=r"file\.h5 \(4 bytes\) is not the published file: .*move it elsewhere"):
        fetch(server.url, tmp_path / "file.h5", SHA256)
    assert (tmp_path / "file.h5").read_bytes() == b"mine"
    assert server.asked == []


def test_a_server_that_goes_on_failing_is_given_up(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.statuses = [503] * 9
    with pytest.raises(ConnectionError, match=r"answers 503 Service Unavailable, 5 times in a row; try again later"):
        fetch(server.url, tmp_path / "file.h5", SHA256)
    assert pauses == [1.0, 2.0, 4.0, 8.0]


def test_a_refusal_is_not_repeated(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(ConnectionError, match=r"answers 404 Not Found; .* save it as .*file\.h5$"):
        fetch(server.url, tmp_path / "file.h5", SHA256)
    assert server.asked == [None]


def test_nobody_listens(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    with pytest.raises(ConnectionError, match="Connection refused, 1 times in a row"):
        fetch("http://127.0.0.1:1/file.h5", tmp_path / "file.h5", SHA256, retries=0)


def test_a_silent_server_times_out_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    server.cut_after, server.stall = [1_500_000], threading.Event()
    with pytest.raises(ConnectionError, match="timed out"):
        fetch(server.url, tmp_path / "file.h5", SHA256, timeout=0.2, retries=0)
    kept = (tmp_path / "file.h5.part").read_bytes()
    assert len(kept) >= 1 << 20  # whole blocks
    assert kept == CONTENT[: len(kept)]


def test_too_little_space_is_said_before_anything_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1_500_000))
    message = r"file\.h5 needs 2,500,000 bytes in .*, 1,500,000 are free: free another 1,000,000 bytes"
    with pytest.raises(OSError, match=message) as caught:
        fetch(server.url, tmp_path / "file.h5", SHA256)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "file.h5.part").exists()
    (tmp_path / "file.h5.part").write_bytes(CONTENT[:1_200_000])  # what is there need not fit again
    fetch(server.url, tmp_path / "file.h5", SHA256)


def test_a_disk_that_fills_up_keeps_the_part(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SmallDisk(io.FileIO):
        def write(self, data: Any) -> int:
            left = 1_500_000 - self.tell()
            if left <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(memoryview(data)[:left])

    monkeypatch.setattr(download, "open", lambda path, mode, buffering=-1: SmallDisk(path, mode), raising=False)
    message = r"the disk is full .*: 1,500,000 bytes are kept in .*file\.h5\.part; free another 1,000,000 bytes and run"
    with pytest.raises(OSError, match=message) as caught:
        fetch(server.url, tmp_path / "file.h5", SHA256)
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "file.h5.part").read_bytes() == CONTENT[:1_500_000]
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert fetch(server.url, tmp_path / "file.h5", SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1500000-"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_full_device(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.h5.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="the disk is full") as caught:
        fetch(server.url, tmp_path / "file.h5", SHA256)
    assert caught.value.errno == errno.ENOSPC


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, no folder")
    with pytest.raises(
        OSError,
        match=r"cannot write to .*data .*: choose another folder \(root=, --data or the environment variable PURE_DATA",
    ):
        fetch(server.url, tmp_path / "data" / "file.h5", SHA256)
    assert server.asked == []


def test_a_read_only_root(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests may run as root, whom permissions do not stop: the error that a read-only file system gives.
    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match=r"cannot write to .*Read-only file system") as caught:
        fetch(server.url, tmp_path / "file.h5", SHA256)
    monkeypatch.undo()
    assert caught.value.errno == errno.EROFS
    assert server.asked == []


def test_an_address_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected an address with http or https, got 'file:///etc/passwd'"):
        fetch("file:///etc/passwd", tmp_path / "file", SHA256)


# Two at once


def test_two_calls_at_once_download_once(server: Server, tmp_path: Path) -> None:
    threads = [threading.Thread(target=fetch, args=(server.url, tmp_path / "file.h5", SHA256)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked == [None]
    assert file_sha256(tmp_path / "file.h5") == SHA256
    assert names(tmp_path) == ["file.h5"]


def test_a_lock_outlives_a_failure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="interrupted"), locked(tmp_path / "file"):
        raise RuntimeError("interrupted")
    assert names(tmp_path) == ["file.lock"]
    with locked(tmp_path / "file"):  # released
        assert names(tmp_path) == ["file.lock"]
    assert names(tmp_path) == []
