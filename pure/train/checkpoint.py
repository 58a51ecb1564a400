"""Checkpoints: the whole state of a training in one file, from which it goes on as if nothing had happened.

A file is a line that names the format and its version, a line with the SHA-256 of all that follows, and what
:func:`torch.save` made of the state: nested dicts, lists, numbers, strings and tensors, so that it is read back with
``weights_only=True`` and no code in it is ever run.  The hash is compared before any of it is parsed.

A folder keeps two of them, the latest and the one before.  A new one gets its name only when it is complete and on the
disk, so whatever happens while it is written, the latest stays; and where the latest cannot be read, the one before is.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pure.data.storage.files import write_atomically
from pure.records import RECORD_NAME

__all__ = ["LATEST", "PREVIOUS", "CheckpointError", "Checkpoints", "ForeignCheckpointError", "decode", "encode"]

LATEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
_NEW = "checkpoint.new.pt"

_FORMAT = b"pure checkpoint, version 1\n"
_NAME = _FORMAT.partition(b",")[0]


class CheckpointError(ValueError):
    """A file is no checkpoint that can be gone on from; the message says why."""


class ForeignCheckpointError(CheckpointError):
    """A checkpoint is sound, but of another run."""


def encode(state: Mapping[str, Any]) -> bytes:
    """The content of a checkpoint file."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getbuffer()
    return b"".join((_FORMAT, hashlib.sha256(content).hexdigest().encode(), b"\n", content))


def decode(content: bytes) -> dict[str, Any]:
    """The state in a checkpoint file, its tensors on the CPU.

    Raises:
        CheckpointError: the content is of another format or version, was cut off or has changed, or holds code.
    """
    name, checksum, rest = _cut(content)
    if name != _FORMAT:
        if name.startswith(_NAME):
            raise CheckpointError(f"is of the format {_text(name)!r}; this package reads {_text(_FORMAT)!r}")
        raise CheckpointError("is no checkpoint of this package")
    if hashlib.sha256(rest).hexdigest().encode() != checksum:
        raise CheckpointError("was cut off or has changed: its checksum is another")
    try:
        return dict(torch.load(io.BytesIO(rest), map_location="cpu", weights_only=True))
    except pickle.UnpicklingError:
        raise CheckpointError("holds more than tensors, numbers and strings, and is not read") from None


class Checkpoints:
    """The two checkpoints of a run's folder.

    Args:
        folder: where they lie; made when the first one is written.
        identity: what tells this run from another: names and values that are compared as they are.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str | int]) -> None:
        self.folder = folder
        self.identity = dict(identity)

    def exist(self) -> bool:
        """Whether the folder holds a checkpoint, sound or not."""
        return any((self.folder / name).exists() for name in (LATEST, PREVIOUS))

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a state as the latest checkpoint; what was the latest is then the one before.

        Raises:
            OSError: it could not be written; the checkpoints that were there are untouched.
        """
        latest, previous, new = (self.folder / name for name in (LATEST, PREVIOUS, _NEW))
        write_atomically(new, encode({"identity": self.identity, "state": dict(state)}))
        if latest.exists():
            os.replace(latest, previous)
        os.replace(new, latest)  # killed before this line, the run goes on from the one before

    def load(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The state of the latest checkpoint that is sound and of this run.

        Returns:
            The state, None where there is no checkpoint or none is sound; and a message for each one refused.

        Raises:
            ForeignCheckpointError: there is no sound checkpoint of this run, but one of another run.
        """
        refused: list[str] = []
        foreign: ForeignCheckpointError | None = None
        for path in (self.folder / LATEST, self.folder / PREVIOUS):
            try:
                return self._read(path), refused
            except FileNotFoundError:
                continue
            except CheckpointError as error:
                refused.append(f"{path} {error}")
                foreign = foreign or (error if isinstance(error, ForeignCheckpointError) else None)
        if foreign is not None:
            raise ForeignCheckpointError(
                f"{'; '.join(refused)}; choose another folder, or give --overwrite (overwrite=True) to start anew"
            )
        return None, refused

    def clear(self) -> None:
        """Remove the checkpoints, and what a killed process left half-written."""
        for name in (LATEST, PREVIOUS, _NEW):
            (self.folder / name).unlink(missing_ok=True)
        for pattern in (".*.pt.*", f".{RECORD_NAME}.*"):  # as files.write_atomically names them
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, Any]:
        content = decode(path.read_bytes())
        found = content["identity"]
        if found != self.identity:
            fields = (found.keys() | self.identity.keys()) if isinstance(found, dict) else ()
            differing = sorted(field for field in fields if found.get(field) != self.identity.get(field))
            raise ForeignCheckpointError(f"is of another run: {', '.join(differing)} differ{'s'[: len(differing) < 2]}")
        return dict(content["state"])


def _cut(content: bytes) -> tuple[bytes, bytes, memoryview]:
    """The first line with its end, the second without, and the rest, which is not copied."""
    first = content.find(b"\n") + 1
    second = content.find(b"\n", first)
    return content[:first], content[first:second], memoryview(content)[second + 1 :]


def _text(line: bytes) -> str:
    return line[:80].decode(errors="replace").strip()
