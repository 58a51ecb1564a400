"""Records: the round trip through JSON, older versions, what is refused, and what is known about the machine."""

from __future__ import annotations

import base64
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
from pure.execution import Execution
from pure.recipes import get_recipe
from pure.records import (
    RECORD_NAME,
    DataSummary,
    Divergence,
    Environment,
    Epoch,
    Evaluation,
    ModelSummary,
    Resources,
    RunRecord,
    Score,
    Times,
    Unit,
    pack_classes,
    read_record,
    read_records,
    unpack_classes,
)

VERSION_1, VERSION_2 = (Path(__file__).parent / "records" / f"version{number}.json" for number in (1, 2))


def make_record(
    model: str = "pure20",
    seed: int = 0,
    accuracy: float = 0.5,
    *,
    recipe: str = "digits",
    losses: tuple[float, ...] = (2.0, 1.0),
    thresholds: dict[str, float | tuple[float, ...]] | None = None,
    options: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    train_s: float = 3.0,
    held_out: bool = True,
    data: str | None = None,
    diverged: bool = False,
    **changes: Any,
) -> RunRecord:
    """A record as of a run that never was; two classes of 50 test images each."""
    plan = get_recipe(recipe, model, **(overrides or {}))
    record = RunRecord(
        recipe=plan,
        execution=Execution(channels_last=True, compile=False, loader="device"),
        overrides=tuple(sorted(overrides or {})),
        model=ModelSummary(name=model, options=options or {}, parameters=1234),
        seed=seed,
        data=DataSummary(
            name=data or plan.dataset,
            classes=("a", "b"),
            train=10,
            validation=5 * held_out,
            test=100,
            fingerprint="f" * 64,
            mean=(0.5,),
            std=(0.25,),
        ),
        epochs=tuple(
            Epoch(
                lr=0.1,
                train=Score(loss=loss, accuracy=0.25 * (1 + number)),
                validation=Score(loss=2 * loss, accuracy=0.125 * (1 + number)) if held_out else None,
                gradient_norm=loss / 2,
                units={"unit": Unit(threshold=0.5 + number, clamped=0.75, exponent=(-1.0 - number, 2.0 + number))},
                train_s=train_s / len(losses),
                validation_s=0.5 * held_out,
            )
            for number, loss in enumerate(losses)
        ),
        selected=len(losses),
        test=evaluation(accuracy),
        thresholds=thresholds if thresholds is not None else {"unit": 0.5},
        times=Times(started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), train_s=train_s, total_s=train_s + 1),
        resources=Resources(throughput=100.0, peak_memory=2**20, loader="device"),
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
    )
    if diverged:
        changes = {"divergence": DIVERGENCE, "test": None, "selected": None, **changes}
    return record.model_copy(update=changes)


def evaluation(accuracy: float, **more: Any) -> Evaluation:
    """A test of two classes of 50 images each."""
    right = round(50 * accuracy)
    return Evaluation(
        **{"loss": 0.75, "accuracy": accuracy, "confusion": ((right, 50 - right), (50 - right, right)), **more}
    )


DIVERGENCE = Divergence(epoch=3, step=5, quantity="loss", layer="layer2.0.conv2", reason="12 values are infinite")


def write_changed(path: Path, change: Any) -> Path:
    """A record as a file, its JSON changed by a function."""
    content = json.loads(make_record().model_dump_json())
    change(content)
    path.write_text(json.dumps(content))
    return path


# The round trip


def full_record() -> RunRecord:
    """With a value in every field that may be empty, but for the divergence."""
    record = make_record(
        "resnet110",
        recipe="imagenet",
        options={"threshold": 0.25, "shortcut": "A", "flag": True, "count": 3, "blocks": (1, 2), "none": None},
        overrides={"epochs": 4, "lr": 0.5, "milestones": (1, 3), "clip_norm": 1.0},
        thresholds={"a": 0.25, "b": (0.5, 1.5), "c": (2.0,)},
        test=evaluation(0.5, top5=0.9, protocol="single-crop", reestimated=Score(loss=1.0, accuracy=0.6, top5=0.8)),
        noisy=evaluation(0.25),
        protocols=(evaluation(0.75, protocol="ten-crop", confusion=None),),
        deterministic=True,
    )
    epoch = record.epochs[0].model_copy(
        update={
            "reestimated": Score(loss=0.5, accuracy=0.75),
            "units": {"u": Unit(threshold=(0.5, 0.25), clamped=1.0, exponent=(-math.inf, 3.0))},
        }
    )
    return record.model_copy(update={"epochs": (epoch, *record.epochs[1:])})


@pytest.mark.parametrize(
    "record",
    [make_record(), full_record(), make_record(diverged=True), make_record(held_out=False), make_record(losses=(1.0,))],
    ids=["plain", "full", "diverged", "nothing held out", "one epoch"],
)
def test_record_comes_back_from_its_file(record: RunRecord, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / RECORD_NAME
    record.write(path)
    again = read_record(path)
    assert again == record
    assert again.model_dump() == record.model_dump()
    assert {name: type(value) for name, value in again.model.options.items()} == {
        name: type(value) for name, value in record.model.options.items()
    }
    assert path.read_text().endswith("}\n")
    assert list(path.parent.iterdir()) == [path]


def test_every_epoch_has_a_line(tmp_path: Path) -> None:
    text = make_record(losses=(3.0, 2.0, 1.0)).to_json()
    assert [line[:14] for line in text.splitlines() if '"gradient_norm"' in line] == ['  {"lr": 0.1, '] * 3


def test_losses_that_are_no_numbers_stay_what_they_are_in_strict_json(tmp_path: Path) -> None:
    losses = (math.nan, math.inf, -math.inf, 1e300)
    record = make_record(losses=losses, thresholds={"a": math.nan, "b": (math.inf, 1.0)})
    record.write(tmp_path / RECORD_NAME)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    plain = json.loads((tmp_path / RECORD_NAME).read_text(), parse_constant=refuse)
    assert [epoch["train"]["loss"] for epoch in plain["epochs"]] == ["NaN", "Infinity", "-Infinity", 1e300]

    again = read_record(tmp_path / RECORD_NAME)
    assert [epoch.train.loss for epoch in again.epochs] == pytest.approx(list(losses), nan_ok=True)
    assert all(type(epoch.train.loss) is float for epoch in again.epochs)
    assert again.thresholds["a"] == pytest.approx(math.nan, nan_ok=True)
    assert again.thresholds["b"] == (math.inf, 1.0)


def test_a_record_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_record().seed = 1  # type: ignore[misc]


# What is no record


def extra_field(content: dict[str, Any]) -> None:
    content["test"]["top3"] = 0.9


def missing_field(content: dict[str, Any]) -> None:
    del content["data"]["fingerprint"]


def wrong_type(content: dict[str, Any]) -> None:
    content["epochs"][1]["train"]["loss"] = "low"


def impossible_recipe(content: dict[str, Any]) -> None:
    content["recipe"]["lr"] = -1.0


REFUSED = "is not a run record that this package reads; update the package, or repeat the run"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (extra_field, "test.top3"),
        (missing_field, "data.fingerprint"),
        (wrong_type, "epochs.1.train.loss"),
        (impossible_recipe, "recipe.lr"),
    ],
)
def test_the_message_names_file_and_field(change: Any, field: str, tmp_path: Path) -> None:
    path = write_changed(tmp_path / RECORD_NAME, change)
    with pytest.raises(ValueError, match=REFUSED) as raised:
        read_record(path)
    assert str(raised.value).startswith(str(path))
    assert f"\n{field}\n" in str(raised.value)


@pytest.mark.parametrize("version", [4, 0, "2", None])
def test_a_record_of_another_version_is_refused(version: Any, tmp_path: Path) -> None:
    path = write_changed(tmp_path / RECORD_NAME, lambda content: content.update(schema_version=version))
    with pytest.raises(ValueError, match=REFUSED) as raised:
        read_record(path)
    expected = f"schema version {version!r}; this package reads 1 to 3, a newer one may have written it"
    assert str(raised.value).endswith(expected)


@pytest.mark.parametrize("keep", [0, 1, 100, -3])
def test_a_truncated_record_is_refused_by_name(keep: int, tmp_path: Path) -> None:
    path = tmp_path / RECORD_NAME
    make_record().write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf"record\.json {REFUSED}: .*(char|delimiter|Expecting)"):
        read_record(path)


@pytest.mark.parametrize(
    "content", [b"[]", b"1", b'"text"', b"\xff\xfe\xfd", b'{"schema_version": 1}', b'{"schema_version": 2}']
)
def test_what_is_no_record_at_all(content: bytes, tmp_path: Path) -> None:
    (tmp_path / RECORD_NAME).write_bytes(content)
    with pytest.raises(ValueError, match=REFUSED):
        read_record(tmp_path / RECORD_NAME)


def test_a_record_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="either a test and the epoch selected for it, or a divergence"):
        make_record(test=None).write(tmp_path / RECORD_NAME)
    assert list(tmp_path.iterdir()) == []


ONE_OUTCOME = "expected either a test and the epoch selected for it, or a divergence"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"divergence": DIVERGENCE}, ONE_OUTCOME),
        ({"divergence": DIVERGENCE, "selected": None}, ONE_OUTCOME),
        ({"divergence": DIVERGENCE, "test": None}, ONE_OUTCOME),
        ({"test": None}, ONE_OUTCOME),
        ({"selected": None}, ONE_OUTCOME),
        ({"test": None, "selected": None}, ONE_OUTCOME),
        ({"selected": 3}, "epoch 3 was selected, but 2 are recorded"),
        ({"selected": 0}, "epoch 0 was selected, but 2 are recorded"),
    ],
)
def test_a_run_has_one_outcome(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        records.parse(make_record(**change).to_json().encode())


def test_no_record(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=RECORD_NAME):
        read_record(tmp_path / RECORD_NAME)


# An older version


def test_a_record_of_version_1_has_the_same_values(tmp_path: Path) -> None:
    old, new = json.loads(VERSION_1.read_text()), read_record(VERSION_1)
    assert old["schema_version"] == 1
    assert new.schema_version == 3
    for field in ("model", "data", "environment"):
        assert json.loads(getattr(new, field).model_dump_json(exclude_unset=True)) == old[field]
    assert (new.seed, new.weights_sha256, new.overrides) == (0, old["weights_sha256"], ())
    assert new.thresholds == old["thresholds"]
    assert (new.times.train_s, new.times.total_s) == (old["times"]["train_s"], old["times"]["total_s"])
    assert (new.selected, len(new.epochs)) == (16, 16)
    assert new.test is not None
    assert (new.test.loss, new.test.accuracy) == (0.06338179853955316, 0.9833333333333333)
    assert new.test.protocol == "whole"
    assert new.test.confusion == tuple(map(tuple, old["test"]["confusion"]))
    first = new.epochs[0]
    assert first.train == Score(loss=1.4329470352914204, accuracy=0.5166975881261595)
    assert first.validation == Score(loss=1.4296796897585178, accuracy=0.5348189415041783)
    assert (first.lr, first.train_s, first.validation_s) == (0.01, 0.822811059999367, 0.043262125000183005)
    assert [epoch.train.loss for epoch in new.epochs] == [epoch["train_loss"] for epoch in old["epochs"]]
    recipe = new.recipe.model_dump()
    assert (recipe["augmentation"], recipe["data_options"]) == ("shift(1)", {"split_seed": 0})
    for field in old["recipe"].keys() - {"source", "max_shift", "split_seed", "milestones"}:
        assert recipe[field] == old["recipe"][field]
    assert new.execution == Execution(channels_last=False, compile=False)
    assert recipe["milestones"] == (8, 12)
    assert (new.resources, new.noisy, new.divergence, new.deterministic) == (None, None, None, False)
    new.write(tmp_path / RECORD_NAME)
    assert read_record(tmp_path / RECORD_NAME) == new


def test_what_version_1_set_otherwise_has_its_new_name(tmp_path: Path) -> None:
    old = json.loads(VERSION_1.read_text())
    old["recipe"].update(max_shift=0, split_seed=7)
    old["overrides"] = ["epochs", "max_shift", "split_seed"]
    path = tmp_path / RECORD_NAME
    path.write_text(json.dumps(old))
    new = read_record(path)
    assert new.overrides == ("augmentation", "data_options", "epochs")
    assert (new.recipe.augmentation, new.recipe.data_options) == ("none", {"split_seed": 7})


# What follows from a record


def test_times_to_an_accuracy_and_to_the_best() -> None:
    # Validation accuracies 1/8, 2/8, 3/8, 4/8; each epoch 2 s of training and 0.5 s of validation
    record = make_record(losses=(4.0, 3.0, 2.0, 1.0), train_s=8.0)
    assert record.time_to_accuracy(0.25) == 4.0
    assert record.time_to_accuracy(0.26) == 6.0
    assert record.time_to_accuracy(0.26, evaluation=True) == 7.5
    assert record.time_to_accuracy() is None  # 80 %
    assert (record.time_to_best(), record.time_to_best(evaluation=True)) == (8.0, 10.0)
    best_first = record.model_copy(update={"epochs": (record.epochs[3], *record.epochs)})
    assert best_first.time_to_best() == 2.0  # the first of two


def test_nothing_is_reached_where_nothing_is_held_out() -> None:
    record = make_record(held_out=False)
    assert (record.time_to_accuracy(0.0), record.time_to_best()) == (None, None)


def test_relative_drop_of_a_run() -> None:
    assert make_record(accuracy=0.8, noisy=evaluation(0.6)).relative_drop == pytest.approx(25.0)
    assert make_record().relative_drop is None
    assert make_record(diverged=True, noisy=evaluation(0.6)).relative_drop is None


def test_the_outcome_leaves_out_what_another_machine_changes() -> None:
    record = make_record()
    slower = make_record(train_s=9.0)
    slower = slower.model_copy(
        update={
            "environment": record.environment.model_copy(update={"device_name": "Another"}),
            "resources": None,
        }
    )
    assert slower != record
    assert slower.outcome() == record.outcome()
    epoch = record.epochs[1]
    for field, value in {"lr": 0.2, "train": Score(loss=1.0, accuracy=0.0), "gradient_norm": 9.0, "units": {}}.items():
        other = record.model_copy(update={"epochs": (record.epochs[0], epoch.model_copy(update={field: value}))})
        assert other.outcome() != record.outcome(), field
    for field, value in {"seed": 1, "weights_sha256": "0" * 64, "thresholds": {}, "deterministic": True}.items():
        assert record.model_copy(update={field: value}).outcome() != record.outcome(), field


# Many records


def test_a_record_of_version_2_has_the_execution_out_of_its_recipe(tmp_path: Path) -> None:
    old, new = json.loads(VERSION_2.read_text()), read_record(VERSION_2)
    assert old["schema_version"] == 2
    assert new.execution == Execution(channels_last=False, compile=False, loader="device")
    assert new.recipe == get_recipe("digits", "resnet20")
    again = json.loads(new.to_json())
    for field in old.keys() - {"schema_version", "recipe"}:
        if isinstance(old[field], dict):
            assert old[field] == {key: again[field][key] for key in old[field]}
    assert [epoch.train.loss for epoch in new.epochs] == [epoch["train"]["loss"] for epoch in old["epochs"]]
    new.write(tmp_path / RECORD_NAME)
    assert read_record(tmp_path / RECORD_NAME) == new

    old["recipe"] |= {"compile": True, "micro_batches": 2, "cuda_graphs": True}
    old["overrides"] = ["compile", "lr"]
    (tmp_path / RECORD_NAME).write_text(json.dumps(old))
    changed = read_record(tmp_path / RECORD_NAME)
    expected = {"channels_last": False, "compile": True, "cuda_graphs": True, "loader": "device", "micro_batches": 2}
    assert changed.execution == Execution(**expected)
    assert changed.overrides == ("lr",)
    assert changed.experiment == new.experiment  # executed differently, it is of the same experiment


def test_load_all_refuses_a_run_that_was_executed_in_another_way(tmp_path: Path) -> None:
    make_record().write(tmp_path / "a" / RECORD_NAME)
    make_record(execution=Execution(compile=True)).write(tmp_path / "b" / RECORD_NAME)
    with pytest.raises(ValueError, match="are the same run"):
        read_records(tmp_path)


def test_load_all_orders_by_recipe_network_and_seed(tmp_path: Path) -> None:
    for name, model, seed in [("a", "resnet20", 0), ("b", "pure20", 10), ("c", "pure20", 2), ("d", "pure20", 0)]:
        make_record(model, seed).write(tmp_path / name / RECORD_NAME)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "other.json").write_text("no record")
    found = [(record.model.name, record.seed) for record in read_records(tmp_path)]
    assert found == [("pure20", 0), ("pure20", 2), ("pure20", 10), ("resnet20", 0)]


def test_load_all_of_several_roots_reads_each_file_once(tmp_path: Path) -> None:
    make_record(seed=0).write(tmp_path / "a" / RECORD_NAME)
    make_record(seed=1).write(tmp_path / "b" / "c" / RECORD_NAME)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    roots = [tmp_path / "a", tmp_path / "b", str(tmp_path), tmp_path / "link", tmp_path / "none"]
    assert [record.seed for record in read_records(*roots)] == [0, 1]
    assert read_records(tmp_path / "none") == []
    assert read_records() == []


def test_load_all_refuses_the_same_run_twice(tmp_path: Path) -> None:
    first, second = tmp_path / "results" / RECORD_NAME, tmp_path / "_build" / RECORD_NAME
    make_record(accuracy=0.5).write(first)
    make_record(accuracy=0.6, train_s=9.0).write(second)  # repeated, on a slower machine
    with pytest.raises(ValueError, match="are the same run; remove one of them, or name only one folder") as raised:
        read_records(tmp_path / "results", tmp_path / "_build")
    assert str(raised.value).startswith(f"{first} and {second}")


@pytest.mark.parametrize(
    "difference",
    [
        {"seed": 1},
        {"model": "pure32"},
        {"options": {"granularity": "channel"}},
        {"overrides": {"lr": 0.5}},
        {"recipe": "cifar10"},
        {"overrides": {"data_options": {"split_seed": 1}}},
    ],
)
def test_runs_that_differ_are_not_the_same(difference: dict[str, Any], tmp_path: Path) -> None:
    make_record().write(tmp_path / "a" / RECORD_NAME)
    make_record(**difference).write(tmp_path / "b" / RECORD_NAME)
    assert len(read_records(tmp_path)) == 2


def test_load_all_names_the_file_that_is_no_record(tmp_path: Path) -> None:
    make_record().write(tmp_path / "a" / RECORD_NAME)
    bad = tmp_path / "b" / RECORD_NAME
    bad.parent.mkdir()
    bad.write_text("{}")
    with pytest.raises(ValueError, match=REFUSED) as raised:
        read_records(tmp_path)
    assert str(raised.value).startswith(str(bad))


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


def test_classes_are_packed_and_unpacked() -> None:
    classes = torch.tensor([3, 0, 255, 7, 7])
    packed = pack_classes(classes)
    assert base64.b64decode(packed)[:1] == b"x"  # zlib's first byte
    assert unpack_classes(packed).tolist() == [3, 0, 255, 7, 7]


def test_macro_accuracy_counts_each_class_the_same() -> None:
    found = Evaluation(loss=1.0, accuracy=0.9, confusion=((90, 0), (10, 0)))
    assert found.class_accuracies == (1.0, 0.0)
    assert found.macro_accuracy == 0.5
    assert Evaluation(loss=1.0, accuracy=0.9).macro_accuracy is None
