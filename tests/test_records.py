"""Records: the round trip through JSON, what is refused, and what is known about the machine."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import torchvision

import pure
from pure import records
from pure.recipes import family_of, get_recipe
from pure.records import (
    RECORD_NAME,
    DataSummary,
    Environment,
    Epoch,
    Evaluation,
    ModelSummary,
    RunRecord,
    Times,
    load,
    load_all,
    write_atomically,
)


def make_record(
    model: str = "pure20",
    seed: int = 0,
    accuracy: float = 0.5,
    *,
    losses: tuple[float, ...] = (2.0, 1.0),
    thresholds: dict[str, float | tuple[float, ...]] | None = None,
    options: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    train_s: float = 3.0,
    **changes: Any,
) -> RunRecord:
    """A record as of a run that never was; two classes of 50 test images each."""
    right = round(50 * accuracy)
    return RunRecord(
        recipe=get_recipe("digits", family_of(model), **(overrides or {})),
        overrides=tuple(sorted(overrides or {})),
        model=ModelSummary(name=model, options=options or {}, parameters=1234),
        seed=seed,
        data=DataSummary(name="two", classes=("a", "b"), train=10, validation=5, test=100, fingerprint="f" * 64),
        epochs=tuple(
            Epoch(
                lr=0.1,
                train_loss=loss,
                train_accuracy=0.25 * (1 + number),
                validation_loss=2 * loss,
                validation_accuracy=0.125 * (1 + number),
                train_s=train_s / len(losses),
                validation_s=0.5,
            )
            for number, loss in enumerate(losses)
        ),
        test=Evaluation(
            epoch=len(losses),
            loss=0.75,
            accuracy=accuracy,
            confusion=((right, 50 - right), (50 - right, right)),
        ),
        thresholds=thresholds if thresholds is not None else {"unit": 0.5},
        times=Times(started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), train_s=train_s, total_s=train_s + 1),
        environment=Environment(
            pure="0.1.0",
            commit="c" * 40,
            python="3.11.0",
            torch="2.11.0",
            torchvision="0.26.0",
            numpy="2.0.0",
            platform="Linux x86_64",
            device="cpu",
            device_name="A processor",
            threads=2,
        ),
        weights_sha256="e" * 64,
    ).model_copy(update=changes)


def write_changed(path: Path, change: Any) -> Path:
    """A record as a file, its JSON changed by a function."""
    content = json.loads(make_record().model_dump_json())
    change(content)
    path.write_text(json.dumps(content))
    return path


# The round trip


def test_record_comes_back_from_its_file(tmp_path: Path) -> None:
    record = make_record(
        options={"threshold": 0.25, "granularity": "channel", "flag": True, "count": 3},
        overrides={"epochs": 4, "lr": 0.5},
        thresholds={"a": 0.25, "b": (0.5, 1.5), "c": (2.0,)},
    )
    path = tmp_path / "a" / "b" / RECORD_NAME
    record.write(path)
    again = load(path)
    assert again == record
    assert [type(value) for value in again.model.options.values()] == [float, str, bool, int]
    assert path.read_text().endswith("}\n")
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_losses_that_are_no_numbers_stay_what_they_are_in_strict_json(tmp_path: Path) -> None:
    losses = (math.nan, math.inf, -math.inf, 1e300)
    record = make_record(losses=losses, thresholds={"a": math.nan, "b": (math.inf, 1.0)})
    record.write(tmp_path / RECORD_NAME)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    plain = json.loads((tmp_path / RECORD_NAME).read_text(), parse_constant=refuse)
    assert [epoch["train_loss"] for epoch in plain["epochs"]] == ["NaN", "Infinity", "-Infinity", 1e300]

    again = load(tmp_path / RECORD_NAME)
    assert [epoch.train_loss for epoch in again.epochs] == pytest.approx(list(losses), nan_ok=True)
    assert all(type(epoch.train_loss) is float for epoch in again.epochs)
    assert again.thresholds["a"] == pytest.approx(math.nan, nan_ok=True)
    assert again.thresholds["b"] == (math.inf, 1.0)


def test_a_record_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_record().seed = 1  # type: ignore[misc]


# What is no record


def wrong_version(content: dict[str, Any]) -> None:
    content["schema_version"] = 2


def extra_field(content: dict[str, Any]) -> None:
    content["test"]["top5"] = 0.9


def missing_field(content: dict[str, Any]) -> None:
    del content["data"]["fingerprint"]


def wrong_type(content: dict[str, Any]) -> None:
    content["epochs"][1]["train_loss"] = "low"


def impossible_recipe(content: dict[str, Any]) -> None:
    content["recipe"]["lr"] = -1.0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (wrong_version, "schema_version"),
        (extra_field, "test.top5"),
        (missing_field, "data.fingerprint"),
        (wrong_type, "epochs.1.train_loss"),
        (impossible_recipe, "recipe.lr"),
    ],
)
def test_the_message_names_file_and_field(change: Any, field: str, tmp_path: Path) -> None:
    path = write_changed(tmp_path / RECORD_NAME, change)
    with pytest.raises(ValueError, match="no run record of schema version 1; repeat the run or remove it") as raised:
        load(path)
    assert str(raised.value).startswith(str(path))
    assert f"\n{field}\n" in str(raised.value)


@pytest.mark.parametrize("keep", [0, 1, 100, -3])
def test_a_truncated_record_is_refused_by_name(keep: int, tmp_path: Path) -> None:
    path = tmp_path / RECORD_NAME
    make_record().write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"record\.json is no run record of schema version 1.*[\s\S]*Invalid JSON"):
        load(path)


def test_no_record(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=RECORD_NAME):
        load(tmp_path / RECORD_NAME)


# Many records


def test_load_all_orders_by_recipe_network_and_seed(tmp_path: Path) -> None:
    for name, model, seed in [("a", "resnet20", 0), ("b", "pure20", 10), ("c", "pure20", 2), ("d", "pure20", 0)]:
        make_record(model, seed).write(tmp_path / name / RECORD_NAME)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "other.json").write_text("no record")
    found = [(record.model.name, record.seed) for record in load_all(tmp_path)]
    assert found == [("pure20", 0), ("pure20", 2), ("pure20", 10), ("resnet20", 0)]


def test_load_all_of_several_roots_reads_each_file_once(tmp_path: Path) -> None:
    make_record(seed=0).write(tmp_path / "a" / RECORD_NAME)
    make_record(seed=1).write(tmp_path / "b" / "c" / RECORD_NAME)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    roots = [tmp_path / "a", tmp_path / "b", str(tmp_path), tmp_path / "link", tmp_path / "none"]
    assert [record.seed for record in load_all(*roots)] == [0, 1]
    assert load_all(tmp_path / "none") == []
    assert load_all() == []


def test_load_all_refuses_the_same_run_twice(tmp_path: Path) -> None:
    first, second = tmp_path / "results" / RECORD_NAME, tmp_path / "_build" / RECORD_NAME
    make_record(accuracy=0.5).write(first)
    make_record(accuracy=0.6, train_s=9.0).write(second)  # repeated, on a slower machine
    with pytest.raises(ValueError, match="are the same run; remove one of them, or name only one folder") as raised:
        load_all(tmp_path / "results", tmp_path / "_build")
    assert str(raised.value).startswith(f"{first} and {second}")


@pytest.mark.parametrize(
    "difference",
    [{"seed": 1}, {"model": "pure32"}, {"options": {"granularity": "channel"}}, {"overrides": {"lr": 0.5}}],
)
def test_runs_that_differ_are_not_the_same(difference: dict[str, Any], tmp_path: Path) -> None:
    make_record().write(tmp_path / "a" / RECORD_NAME)
    make_record(**difference).write(tmp_path / "b" / RECORD_NAME)
    assert len(load_all(tmp_path)) == 2


def test_load_all_names_the_file_that_is_no_record(tmp_path: Path) -> None:
    make_record().write(tmp_path / "a" / RECORD_NAME)
    bad = tmp_path / "b" / RECORD_NAME
    bad.parent.mkdir()
    bad.write_text("{}")
    with pytest.raises(ValueError, match="is no run record") as raised:
        load_all(tmp_path)
    assert str(raised.value).startswith(str(bad))


# Writing


def test_write_atomically_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def crash(_: int) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="disk full"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


# The environment


def test_environment_names_versions_and_device_and_no_path(tmp_path: Path) -> None:
    found = Environment.current(torch.device("cpu"))
    assert found.pure == pure.__version__
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert (found.torch, found.torchvision, found.numpy) == (
        torch.__version__,
        torchvision.__version__,
        numpy.__version__,
    )
    assert found.device == "cpu"
    assert found.device_name
    assert found.platform.split() == [os.uname().sysname, os.uname().machine]
    assert found.threads == torch.get_num_threads()
    text = found.model_dump_json()
    for place in (Path.cwd(), Path.home(), Path(sys.prefix), Path(pure.__file__).parent, tmp_path):
        assert str(place) not in text


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that this package is made to believe it was imported from."""
    root = tmp_path / "checkout"
    (root / "pure").mkdir(parents=True)
    (root / "pure" / "records.py").write_text("")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    monkeypatch.setattr(records, "__file__", str(root / "pure" / "records.py"))
    return root


def test_commit_of_a_checkout_and_whether_files_differ(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert records._commit() == head
    (checkout / "untracked").write_text("of no influence")
    assert records._commit() == head
    (checkout / "pure" / "records.py").write_text("changed")
    assert records._commit() == f"{head}-dirty"


def test_no_commit_where_the_package_is_installed_in_a_checkout_of_somebody_else(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = checkout / ".venv" / "pure"
    installed.mkdir(parents=True)
    monkeypatch.setattr(records, "__file__", str(installed / "records.py"))
    assert records._commit() is None


def test_no_commit_outside_a_checkout_or_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pure").mkdir()
    monkeypatch.setattr(records, "__file__", str(tmp_path / "pure" / "records.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert records._commit() is None
    monkeypatch.setenv("PATH", "")
    assert records._commit() is None
