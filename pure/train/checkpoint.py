"""Checkpoints: the whole state of a training in one file, from which it goes on as if nothing had happened.

``torch.load(weights_only=True)`` reads it: nested dicts, lists, numbers, strings and tensors.  The archive's comment is
the SHA-256 of all before it, which is compared before anything is parsed.

A folder keeps two, the latest and the one before.  A new one gets its name only when it is on the disk; where the
latest cannot be read, the one before is.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import struct
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from pure.data.storage.files import write_atomically
from pure.records import RECORD_NAME

__all__ = ["LATEST", "PREVIOUS", "CheckpointError", "Checkpoints", "ForeignCheckpointError", "decode", "encode"]

LATEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
_NEW = "checkpoint.new.pt"

_FORMAT = "pure checkpoint, version 2"
_OLD = b"pure checkpoint, version 1\n"
_DIGITS = 64  # of a SHA-256


class CheckpointError(ValueError):
    """A file is not a checkpoint that a run can go on from; the message says why."""


class ForeignCheckpointError(CheckpointError):
    """A checkpoint is sound, but belongs to another run."""


def encode(content: Mapping[str, Any]) -> bytes:
    """A checkpoint file with this content."""
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, **content}, buffer)
    archive = buffer.getvalue()
    # A zip archive ends in the length of its comment, 0 here, and the comment.
    archive = archive[:-2] + struct.pack("<H", _DIGITS)
    return archive + hashlib.sha256(archive).hexdigest().encode()


def decode(file: bytes) -> dict[str, Any]:
    """The content of a checkpoint file, its tensors on the CPU.

    Raises:
        CheckpointError: the file is of another format or version, was cut off or has changed, or holds code.
    """
    if file.startswith(_OLD):
        raise CheckpointError(f"is of the format {_OLD.decode().strip()!r}; this package reads {_FORMAT!r}")
    if hashlib.sha256(memoryview(file)[:-_DIGITS]).hexdigest().encode() != file[-_DIGITS:]:
        if not file.startswith(b"PK") or file[-22:-18] == b"PK\5\6":  # no archive, or a whole one without our comment
            raise CheckpointError("is not a checkpoint of this package")
        raise CheckpointError("was cut off or has changed: its checksum differs")
    try:
        content = dict(torch.load(io.BytesIO(file), map_location="cpu", weights_only=True))
    except pickle.UnpicklingError:
        raise CheckpointError("holds more than tensors, numbers and strings, and is not read") from None
    if (name := content.pop("format", None)) != _FORMAT:
        raise CheckpointError(f"is of the format {name!r}; this package reads {_FORMAT!r}")
    return content


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

    def latest(self) -> tuple[dict[str, Any] | None, list[str]]:
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
                f"{'; '.join(refused)}; choose another folder, or give --if-exists restart (if_exists='restart') to "
                "start from the beginning"
            )
        return None, refused

    def begun(self) -> list[datetime]:
        """When the runs began, this one or others, whose checkpoints are sound."""
        moments = []
        for name in (LATEST, PREVIOUS):
            with contextlib.suppress(FileNotFoundError, CheckpointError, KeyError, TypeError):
                moments.append(datetime.fromisoformat(decode((self.folder / name).read_bytes())["state"]["started"]))
        return moments

    def clear(self) -> None:
        """Remove the checkpoints, and what a killed process left half-written."""
        for name in (LATEST, PREVIOUS, _NEW):
            (self.folder / name).unlink(missing_ok=True)
        for pattern in (".*.pt.*", ".*.safetensors.*", f".{RECORD_NAME}.*"):  # as files.write_atomically names them
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
