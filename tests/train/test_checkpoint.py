"""Checkpoints: what is read back, what is refused, and what stays when writing fails."""

from __future__ import annotations

import errno
import io
import math
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from pure import records
from pure.train.checkpoint import LATEST, PREVIOUS, CheckpointError, Checkpoints, ForeignCheckpointError, decode, encode

IDENTITY: dict[str, str | int] = {"model": "pure20", "seed": 0}


def state(number: int) -> dict[str, Any]:
    return {
        "weights": {"a": torch.full((50,), float(number)), "n": torch.tensor(number)},
        "epochs": ["one", "two"],
        "batch": number,
        "loss": math.nan,
        "best": None,
        "options": {"momentum": 0.9, "betas": (1, 2.5), "fused": True},
    }


def folder_with(path: Path, *numbers: int, identity: dict[str, str | int] = IDENTITY) -> Checkpoints:
    checkpoints = Checkpoints(path, identity)
    for number in numbers:
        checkpoints.save(state(number))
    return checkpoints


def number_in(found: dict[str, Any] | None) -> int:
    assert found is not None
    return int(found["batch"])


def test_a_state_is_read_back_as_it_was() -> None:
    found = decode(encode(state(3)))
    assert torch.equal(found["weights"].pop("a"), torch.full((50,), 3.0))
    assert found["weights"].pop("n").item() == 3
    assert math.isnan(found.pop("loss"))
    assert found == {
        "weights": {},
        "epochs": ["one", "two"],
        "batch": 3,
        "best": None,
        "options": {"momentum": 0.9, "betas": (1, 2.5), "fused": True},
    }


def test_no_code_in_a_checkpoint_is_run() -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, ("/nowhere/at/all",)

    with pytest.raises(CheckpointError, match="holds more than tensors, numbers and strings"):
        decode(encode({"evil": Evil()}))


def test_the_latest_and_the_one_before_are_kept(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path / "run", 1, 2, 3)
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == [PREVIOUS, LATEST]
    found, refused = checkpoints.latest()
    assert (number_in(found), refused) == (3, [])
    (checkpoints.folder / LATEST).unlink()  # as between the two renamings of a save
    found, refused = checkpoints.latest()
    assert (number_in(found), refused) == (2, [])


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "nothing", IDENTITY)
    assert checkpoints.latest() == (None, [])
    assert not checkpoints.exist()


@pytest.mark.parametrize("kept", [0, 1, 10, 26, 27, 60, 91, 92, 500, -1])
def test_a_truncated_checkpoint_is_refused_and_the_one_before_used(kept: int, tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 1, 2)
    latest = tmp_path / LATEST
    latest.write_bytes(latest.read_bytes()[:kept])
    found, refused = checkpoints.latest()
    assert number_in(found) == 1
    (message,) = refused
    assert message.startswith(f"{latest} ")
    assert "is not a checkpoint of this package" in message or "was cut off or has changed" in message


def test_one_changed_byte_is_noticed(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 1, 2)
    content = bytearray((tmp_path / LATEST).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / LATEST).write_bytes(content)
    found, refused = checkpoints.latest()
    assert number_in(found) == 1
    assert refused == [f"{tmp_path / LATEST} was cut off or has changed: its checksum differs"]


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"epoch": 3}, buffer)
    for content in (buffer.getvalue(), b"", b"hello\nworld\n", b"\x00" * 500):
        with pytest.raises(CheckpointError, match="is not a checkpoint of this package"):
            decode(content)
    older = b"pure checkpoint, version 1\n" + 200 * b"."
    with pytest.raises(CheckpointError, match=r"'pure checkpoint, version 1'; this package reads '.*version 2'"):
        decode(older)


def test_torch_reads_a_checkpoint_by_itself(tmp_path: Path) -> None:
    folder_with(tmp_path, 7)
    found = torch.load(tmp_path / LATEST, weights_only=True)
    assert found["format"] == "pure checkpoint, version 2"
    assert found["identity"] == IDENTITY
    assert found["state"]["batch"] == 7
    assert torch.equal(found["state"]["weights"]["a"], torch.full((50,), 7.0))


def test_a_checkpoint_of_another_run_is_refused_and_the_one_before_used(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 1)
    folder_with(tmp_path, 2, identity={"model": "pure32", "seed": 1})
    found, refused = checkpoints.latest()
    assert number_in(found) == 1
    assert refused == [f"{tmp_path / LATEST} is of another run: model, seed differ"]


def test_only_checkpoints_of_another_run_are_an_error(tmp_path: Path) -> None:
    folder_with(tmp_path, 1, 2, identity={**IDENTITY, "seed": 1})
    expected = r"is of another run: seed differs; .*; choose another folder, or give --if-exists restart"
    with pytest.raises(ForeignCheckpointError, match=expected):
        Checkpoints(tmp_path, IDENTITY).latest()


def test_where_none_is_sound_there_is_none(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 1, 2)
    for name in (LATEST, PREVIOUS):
        (tmp_path / name).write_bytes(b"")
    found, refused = checkpoints.latest()
    assert found is None
    assert len(refused) == 2


# Writing that fails


def test_a_disk_that_is_full_leaves_both_checkpoints(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 1, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # the system then refuses to write more into a file, as it does on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(OSError, match="File too large"):
            checkpoints.save(state(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("call", [1, 2, 3])
def test_killed_at_any_renaming_a_sound_checkpoint_stays(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = folder_with(tmp_path, 1, 2)
    replace, calls = os.replace, []

    def dies(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == call:
            raise KeyboardInterrupt  # no error handler tidies up after it
        replace(source, target)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(state(3))
    monkeypatch.undo()
    found, refused = checkpoints.latest()
    assert (number_in(found), refused) == (2, [])
    checkpoints.save(state(4))
    assert number_in(checkpoints.latest()[0]) == 4


def test_no_space_while_it_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = folder_with(tmp_path, 1)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        checkpoints.save(state(2))
    assert [path.name for path in tmp_path.iterdir()] == [LATEST]
    assert number_in(checkpoints.latest()[0]) == 1


def test_clear_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 1, 2)
    for name in (".checkpoint.new.pt.x1y2", ".weights.safetensors.abc", ".record.json.abc"):
        (tmp_path / name).write_bytes(b"half")
    for name in ("weights.pt", records.RECORD_NAME, ".mine"):
        (tmp_path / name).write_bytes(b"whole")
    checkpoints.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine", records.RECORD_NAME, "weights.pt"]
    assert not checkpoints.exist()
