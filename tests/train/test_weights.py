"""Weights beside committed records: only those that were tested, only small ones, read without the data."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from pure.records import RECORD_NAME, RunRecord
from pure.train import WEIGHTS_NAME, fit, load_network, load_run, weights


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    """A run of one epoch below a root, and a committed record of it below another."""
    root = tmp_path_factory.mktemp("weights")
    run, committed = (root / name / "digits" / "pure20" / "seed0" for name in ("runs", "results"))
    options = {"blocks": [1, 1], "widths": [4, 8]}
    record = fit("digits", "pure20", out=run, overrides={"epochs": 1}, model_options=options, progress=False)
    committed.mkdir(parents=True)
    shutil.copyfile(run / RECORD_NAME, committed / RECORD_NAME)
    return root, record


def test_tested_weights_are_stored_and_read_without_the_data(
    finished: tuple[Path, RunRecord], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, record = finished
    place = Path("digits", "pure20", "seed0")
    assert weights.main([str(root / "runs"), str(root / "results")]) == 0
    size = (root / "results" / place / WEIGHTS_NAME).stat().st_size
    assert capsys.readouterr().out == f"{root / 'results' / place}: stored, {size:,} bytes\n"
    _, expected, _ = load_run(root / "runs" / place)
    monkeypatch.setattr("pure.data.load", None)  # no data set is asked for
    loaded, network = load_network(root / "results" / place)
    assert loaded == record
    assert not network.training
    for (name, ours), theirs in zip(network.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_what_is_not_stored_is_said(
    finished: tuple[Path, RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[0] / "runs", tmp_path / "runs")
    shutil.copytree(finished[0] / "results", tmp_path / "results")
    place = Path("digits", "pure20", "seed0")
    (tmp_path / "results" / place / WEIGHTS_NAME).unlink(missing_ok=True)

    def said() -> str:
        (words,) = weights.store_weights(tmp_path / "runs", tmp_path / "results").values()
        assert not (tmp_path / "results" / place / WEIGHTS_NAME).exists()
        return words

    source = tmp_path / "runs" / place / WEIGHTS_NAME
    with monkeypatch.context() as patch:
        patch.setattr(weights, "LARGEST", 100)
        assert said().endswith("bytes, more than 100")
    source.write_bytes(source.read_bytes() + b" ")
    assert said() == "not the weights that the record tested"
    source.unlink()
    assert said().startswith(f"no {WEIGHTS_NAME} in ")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=f"no {RECORD_NAME} below"):
        weights.store_weights(tmp_path / "runs", tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="is not a folder; expected one of runs"):
        weights.store_weights(tmp_path / "none", tmp_path / "results")


def test_weights_of_an_earlier_format_are_stored_in_today_s(finished: tuple[Path, RunRecord], tmp_path: Path) -> None:
    place = Path("digits", "pure20", "seed0")
    _, network = load_network(finished[0] / "runs" / place)
    for name in ("runs", "results"):
        (tmp_path / name / place).mkdir(parents=True)
    old = tmp_path / "runs" / place / "weights.pt"
    torch.save(network.to(memory_format=torch.channels_last).state_dict(), old)  # as trainings on a CPU are
    digest = hashlib.sha256(old.read_bytes()).hexdigest()
    record = finished[1].model_copy(update={"weights_sha256": digest})
    record.write(tmp_path / "results" / place / RECORD_NAME)
    (words,) = weights.store_weights(tmp_path / "runs", tmp_path / "results").values()
    assert words.startswith("stored")
    _, stored = load_network(tmp_path / "results" / place)
    assert all(torch.equal(a, b) for a, b in zip(stored.parameters(), network.parameters(), strict=True))
    finished[1].write(tmp_path / "results" / place / RECORD_NAME)
    with pytest.raises(ValueError, match="holds other weights than the record tested"):
        load_network(tmp_path / "results" / place)
