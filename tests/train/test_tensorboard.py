"""Figures for TensorBoard, read back by its own reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from pure import extras
from pure.records import Epoch, Score, Unit
from pure.train import fit
from pure.train.__main__ import main
from pure.train.tensorboard import scalar_writer, scalars

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_names_of_the_curves() -> None:
    epoch = Epoch(
        lr=0.1,
        train=Score(loss=1.0, accuracy=0.5, top5=0.9),
        validation=Score(loss=2.0, accuracy=0.25),
        gradient_norm=3.0,
        units={"a": Unit(threshold=0.7, clamped=0.5, exponent=(-1.0, 2.0))},
        train_s=1.0,
        validation_s=1.0,
    )
    assert scalars(epoch) == {
        "learning rate": 0.1,
        "gradient norm": 3.0,
        "loss/train": 1.0,
        "accuracy/train": 0.5,
        "top5/train": 0.9,
        "loss/validation": 2.0,
        "accuracy/validation": 0.25,
        "threshold/a": 0.7,
        "clamped/a": 0.5,
        "lowest exponent/a": -1.0,
        "highest exponent/a": 2.0,
    }


def test_a_run_writes_its_epochs(tmp_path: Path) -> None:
    record = fit("digits", "resnet20", out=tmp_path, overrides={"epochs": 2, "batch_size": 539}, tensorboard=True)
    found = read(tmp_path / "tensorboard")
    for name, values in found.items():
        expected = [scalars(epoch)[name] for epoch in record.epochs]
        assert values == [(1, pytest.approx(expected[0])), (2, pytest.approx(expected[1]))]
    assert found.keys() == scalars(record.epochs[0]).keys()


def test_an_epoch_that_is_written_again_replaces_the_older_one(tmp_path: Path) -> None:
    write = scalar_writer(tmp_path / "board")
    for number, rate in ((1, 0.1), (2, 0.2), (2, 0.3)):
        write(number, Epoch(lr=rate, train=Score(loss=1.0, accuracy=0.5), train_s=1.0, validation_s=0.0))
    assert read(tmp_path / "board")["learning rate"] == [(1, pytest.approx(0.1)), (2, pytest.approx(0.3))]


def test_not_installed_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "tensorboard" else real(name))
    given = ["--recipe", "digits", "--model", "pure20", "--out", str(tmp_path / "run"), "--tensorboard"]
    assert main(given) == 2
    assert "needs tensorboard, not installed here: pip install 'pure-networks[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
