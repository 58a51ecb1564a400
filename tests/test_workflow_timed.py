"""Runs within a limited time: the trainer's command, what is left, what travels to the next call."""

from __future__ import annotations

import importlib
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from pure.records import read_record

ROOT = Path(__file__).parents[1]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "workflow"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield importlib.import_module("timed")
    for name in ("timed", "experiments"):
        sys.modules.pop(name, None)


@pytest.fixture
def experiments(tmp_path: Path) -> Path:
    options = {"model_options": {"shortcut": "B", "blocks": [1, 1, 1]}, "overrides": {"epochs": 2}}
    group = {"recipe": "digits", "networks": ["resnet20"], "seeds": [0, 1], "variant": "small", **options}
    path = tmp_path / "experiments.yaml"
    path.write_text(yaml.safe_dump({"mine": [group]}))
    return path


def test_the_command_is_the_trainers_own(timed: ModuleType) -> None:
    run = timed.Run(
        "cifar10-tenth",
        "pure20",
        3,
        "x",
        {"relu_after_sum": True, "threshold": "exp", "blocks": [1, 2, 3]},
        {"test": "batch5"},
        {"lr": 0.1},
        {"compile": False},
    )
    words = timed.command(run, Path("root"), 100.4, ["--device", "cuda"])
    expected = (
        "-m pure.train --recipe cifar10-tenth --model pure20 --seed 3 --out root/cifar10-tenth/pure20-x/seed3 "
        "--if-exists resume --max-seconds 100 --model-option relu_after_sum=true --model-option threshold=exp "
        "--model-option blocks=[1,2,3] --data-option test=batch5 --set lr=0.1 --execution compile=false --device cuda"
    )
    assert [word.replace(" ", "") for word in words[1:]] == expected.split()


@pytest.mark.slow
def test_runs_go_on_in_another_place_until_all_have_a_record(
    timed: ModuleType, experiments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    state = tmp_path / "out" / "state.tar"

    def call(root: str, *more: str) -> int:
        given = ["mine", "--seconds", "300", "--root", str(tmp_path / root), "--state", str(state)]
        given += ["--experiments", str(experiments), "--at-once", "2", "--data", str(tmp_path / "data"), *more]
        return int(timed.main(given))

    whole = timed.command
    monkeypatch.setattr(timed, "command", lambda run, root, seconds, more: whole(run, root, 0.0, more))
    assert call("first") == 75  # both stop after their first batch
    assert "resnet20-small-seed0: stopped" in capsys.readouterr().out
    with tarfile.open(state) as archive:
        assert sorted(Path(name).name for name in archive.getnames()) == ["checkpoint.pt", "checkpoint.pt"]
    monkeypatch.setattr(timed, "command", whole)
    assert call("second") == 0
    assert "2 of 2 runs have their record" in capsys.readouterr().out
    record = read_record(tmp_path / "second" / "digits" / "resnet20-small" / "seed1" / "record.json")
    assert record.times.interruptions == 1
    assert record.model.options == {"shortcut": "B", "blocks": (1, 1, 1)}
    assert call("third") == 0
    assert "started" not in capsys.readouterr().out


def test_records_travel_first_and_what_does_not_fit_is_named(timed: ModuleType, tmp_path: Path) -> None:
    root, state = tmp_path / "root", tmp_path / "state.tar"
    root.mkdir()
    for name, size in {
        "record.json": 5_000,
        "weights.safetensors": 20_000,
        "checkpoint.pt": 2_000,
        "seed0.log": 9,
    }.items():
        (root / name).write_bytes(bytes(size))
    assert timed.pack(root, state, 45_000) == []
    assert state.stat().st_size <= 45_000
    assert timed.pack(root, state, 20_000) == ["weights.safetensors"]
    with tarfile.open(state) as archive:
        assert archive.getnames() == ["record.json", "checkpoint.pt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["min", "--seconds", "60"], r"no target 'min' in .*experiments\.yaml; did you mean 'mine'"),
        (["mine", "--seconds", "5"], "--seconds at least 40"),
        (["mine", "--seconds", "60", "--at-once", "0"], "--at-once is at least 1"),
    ],
)
def test_wrong_input_is_named_before_anything_starts(
    arguments: list[str], message: str, timed: ModuleType, experiments: Path, tmp_path: Path, capsys: Any
) -> None:
    assert timed.main([*arguments, "--root", str(tmp_path / "root"), "--experiments", str(experiments)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "root").exists()
