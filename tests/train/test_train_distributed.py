"""Trainings by two processes against trainings by one that works off its batches in parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pure.records import RECORD_NAME, RunRecord, read_record
from pure.train import WEIGHTS_NAME

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[int]], str]:
    folder = tmp_path_factory.mktemp("ranks")
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    environment |= {"PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error::FutureWarning:pure", str(TESTS / "rank_runs.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


def record(runs: tuple[Path, Any, str], name: str) -> RunRecord:
    return read_record(runs[0] / name / RECORD_NAME)


def losses(run: RunRecord) -> list[float]:
    return [epoch.train.loss for epoch in run.epochs]


def test_every_process_ends_as_it_should(runs: tuple[Path, dict[str, list[int]], str]) -> None:
    assert runs[1] == {
        "one process, two parts": [0],
        "two processes": [0, 0],
        "one process, four parts": [0],
        "two processes, two parts": [0, 0],
        "whole batches": [0],
        "diverging": [0, 0],
        "stopped": [75, 75],
        "gone on": [0, 0],
        "told again": [0, 0],
    }


@pytest.mark.parametrize(("alone", "together"), [("1x2", "2x1"), ("1x4", "2x2")])
def test_ranks_train_as_one_process_that_accumulates(
    alone: str, together: str, runs: tuple[Path, dict[str, list[int]], str]
) -> None:
    one, two = record(runs, alone), record(runs, together)
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    assert [e.train.accuracy for e in two.epochs] == [e.train.accuracy for e in one.epochs]
    norms = [e.gradient_norm for e in one.epochs]
    assert [e.gradient_norm for e in two.epochs] == pytest.approx(norms, rel=1e-5)
    assert one.resources is not None
    assert two.resources is not None
    assert (one.resources.devices, two.resources.devices) == (1, 2)


def test_cutting_a_batch_changes_what_batch_normalisation_sees(
    runs: tuple[Path, dict[str, list[int]], str],
) -> None:
    # Otherwise the comparison above would hold without any exchange between the ranks being right.
    whole, halves, quarters = (losses(record(runs, name))[-1] for name in ("1x1", "1x2", "1x4"))
    assert abs(whole - halves) > 1e-4
    assert abs(halves - quarters) > 1e-4


@pytest.mark.parametrize(("alone", "together"), [("1x2", "2x1"), ("1x4", "2x2")])
def test_metrics_count_each_image_once_though_the_ranks_do_not_divide_the_set(
    alone: str, together: str, runs: tuple[Path, dict[str, list[int]], str]
) -> None:
    one, two = record(runs, alone), record(runs, together)
    assert two.data.validation == two.data.test == 359
    for ours, theirs in zip(two.epochs, one.epochs, strict=True):
        assert ours.validation is not None
        assert theirs.validation is not None
        assert ours.validation.loss == pytest.approx(theirs.validation.loss, rel=1e-4)
        assert ours.validation.accuracy == theirs.validation.accuracy
    assert two.test is not None
    assert one.test is not None
    assert two.test.loss == pytest.approx(one.test.loss, rel=1e-4)
    assert (two.test.accuracy, two.test.top5) == (one.test.accuracy, one.test.top5)
    assert two.test.confusion == one.test.confusion
    assert sum(map(sum, two.test.confusion or ())) == 359


def test_divergence_is_recorded_by_one_process(runs: tuple[Path, dict[str, list[int]], str]) -> None:
    found = record(runs, "diverging")
    assert found.divergence is not None
    assert found.test is None
    assert (found.divergence.epoch, found.divergence.quantity) == (1, "loss")
    assert found.divergence.layer is not None


def test_one_process_that_is_to_stop_stops_all_and_they_go_on(runs: tuple[Path, dict[str, list[int]], str]) -> None:
    assert "another process was asked to; stopped in epoch 1 of 3, after batch 1/11" in runs[2]
    assert "0 seconds are over; stopped in epoch 1 of 3, after batch 1/11" in runs[2]
    whole, again = record(runs, "2x1"), record(runs, "stopped")
    assert again.times.interruptions == 1
    assert losses(again) == pytest.approx(losses(whole), rel=1e-5)
    assert again.test is not None
    assert whole.test is not None
    assert again.test.confusion == whole.test.confusion
    assert sorted(path.name for path in (runs[0] / "stopped").iterdir()) == [RECORD_NAME, WEIGHTS_NAME]
