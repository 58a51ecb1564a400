"""Runs that are stopped or killed, and go on: they end in the record of an undisturbed one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from training import SMALL, contents

from pure import records
from pure.models import registry
from pure.records import RECORD_NAME, RunRecord
from pure.train import WEIGHTS_NAME, Stopped, fit
from pure.train.__main__ import main
from pure.train.checkpoint import LATEST, PREVIOUS, Checkpoints
from pure.train.engine import Engine
from pure.train.interruption import EXIT_STOPPED, stop_requests

TESTS = Path(__file__).parents[1]
TRAINING: dict[str, Any] = {
    "seed": 1,
    "overrides": {"epochs": 3, "batch_size": 300, "selection": "lowest-validation-loss"},  # four batches an epoch
    "deterministic": True,
}


@pytest.fixture(autouse=True, scope="module")
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, entry in SMALL.items():
            patch.setitem(registry.REGISTRY, name, entry)
        yield


@pytest.fixture(scope="module")
def undisturbed(small_networks: None) -> RunRecord:
    return fit("digits", "pure4", **TRAINING)


@pytest.fixture
def stop_behind(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have a run told to stop, by SIGTERM, when it has taken this many steps in its process."""

    def set_up(steps: int) -> None:
        step, taken = Engine.step, iter(range(1, 10_000))

        def counted(self: Engine, *rest: Any) -> bool:
            stopping = step(self, *rest)
            if next(taken) == steps:
                os.kill(os.getpid(), signal.SIGTERM)
            return stopping

        monkeypatch.setattr(Engine, "step", counted)

    return set_up


def fit_in(folder: Path, **more: Any) -> RunRecord:
    return fit("digits", "pure4", out=folder, **{**TRAINING, **more})


# Killed


def test_killed_at_any_moment_a_run_goes_on_to_the_same_record(tmp_path: Path) -> None:
    command = [sys.executable, str(TESTS / "killed_runs.py"), str(tmp_path), "20", "0"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    moments, renamings = found["moments"], found["renamings"]
    assert len(moments) == 20
    assert len(renamings) == 10  # three for each of three checkpoints but two for the first, the weights, the record
    for run in moments + renamings:
        assert run["finished"], run
        assert run["same"], run
        assert run["files"] == [RECORD_NAME, WEIGHTS_NAME], run
    # The test did what it says: runs were killed, before, between and after checkpoints.
    assert all(run["status"] == -signal.SIGKILL for run in renamings)
    assert sum(run["status"] == -signal.SIGKILL for run in moments) >= 15
    assert sum(run["interruptions"] for run in moments) >= 5
    assert {tuple(run["left"]) for run in moments} >= {(), (LATEST,), (PREVIOUS, LATEST)}


# Stopped


@pytest.mark.parametrize("steps", [1, 3, 4, 6, 12])
def test_stopped_behind_any_batch_a_run_goes_on_to_the_same_record(
    steps: int, stop_behind: Callable[[int], None], undisturbed: RunRecord, tmp_path: Path
) -> None:
    stop_behind(steps)
    with pytest.raises(Stopped) as stopped:
        fit_in(tmp_path)
    told = {
        1: "in epoch 1 of 3, after batch 2/4",  # the current batch is finished first
        3: "in epoch 1 of 3, after batch 4/4",
        4: "in epoch 1 of 3, after batch 4/4",
        6: "in epoch 2 of 3, after batch 3/4",
        12: "in epoch 3 of 3, after batch 4/4",
    }
    assert str(stopped.value) == (
        f"digits pure4 seed 1: SIGTERM was received; stopped {told[steps]}; give --if-exists resume "
        "(if_exists='resume') to go on"
    )
    assert not (tmp_path / RECORD_NAME).exists()
    record = fit_in(tmp_path, if_exists="resume")
    assert record.outcome() == undisturbed.outcome()
    assert record.times.interruptions == 1
    assert sorted(contents(tmp_path)) == [RECORD_NAME, WEIGHTS_NAME]


@pytest.mark.parametrize("told", [True, False])
def test_a_compiler_that_the_signal_ends_is_no_failure(
    told: bool, undisturbed: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Engine.step

    def fails(self: Engine, *rest: Any) -> bool:
        if self.done == 5:
            if told:
                os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("the compiler was killed")
        return step(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", fails)
        expected = "SIGTERM was received; stopped without a new checkpoint" if told else "the compiler was killed"
        with pytest.raises(Stopped if told else RuntimeError, match=expected):
            fit_in(tmp_path)
    assert fit_in(tmp_path, if_exists="resume").outcome() == undisturbed.outcome()


def test_a_signal_breaks_off_a_validation_which_is_then_made_anew(
    undisturbed: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Engine.measure

    def told(self: Engine, *rest: Any) -> Any:
        if len(self.epochs) == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
            pytest.fail("it went on")
        return measure(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "measure", told)
        with pytest.raises(Stopped, match="SIGUSR1 was received; stopped in epoch 3 of 3, after batch 4/4; give"):
            fit_in(tmp_path)
    monkeypatch.setattr(Engine, "step", lambda *_: pytest.fail("it trained"))
    record = fit_in(tmp_path, if_exists="resume")
    assert record.outcome() == undisturbed.outcome()
    assert record.times.interruptions == 1


def test_a_signal_breaks_off_the_test_which_is_then_made_anew(
    undisturbed: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Engine.measure

    def told(self: Engine, *rest: Any) -> Any:
        if len(self.epochs) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("it went on")
        return measure(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "measure", told)
        with pytest.raises(Stopped, match="SIGTERM was received; stopped in the test; give --if-exists resume"):
            fit_in(tmp_path)
    assert not (tmp_path / RECORD_NAME).exists()
    monkeypatch.setattr(Engine, "step", lambda *_: pytest.fail("it trained"))
    assert fit_in(tmp_path, if_exists="resume").outcome() == undisturbed.outcome()


def test_a_second_signal_does_not_disturb_what_the_first_one_has_saved() -> None:
    with stop_requests() as stop:
        with pytest.raises(Stopped), stop.interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Stopped), stop.interruptible():  # one that came before counts too
            pytest.fail("it went on")


def test_a_run_that_is_stopped_again_and_again_ends_in_the_same_record(undisturbed: RunRecord, tmp_path: Path) -> None:
    for _ in range(40):  # twelve batches and three validations
        try:
            record = fit_in(tmp_path, if_exists="resume", max_seconds=0)  # one batch each
            break
        except Stopped:
            continue
    assert record.outcome() == undisturbed.outcome()
    assert record.times.interruptions >= 11
    assert 0 < record.times.train_s < record.times.total_s


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_signals_are_heard_and_handlers_restored(name: str) -> None:
    number = signal.Signals[name]
    before = signal.getsignal(number)
    with stop_requests() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert stop.reason == f"{name} was received"
    assert signal.getsignal(number) is before


def test_command_line_tells_that_it_was_stopped_and_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "--recipe",
        "digits",
        "--model",
        "pure4",
        "--epochs",
        "2",
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    assert main([*given, "--max-seconds", "0"]) == EXIT_STOPPED == 75
    output = capsys.readouterr()
    assert output.out == ""
    assert "0 seconds are over; stopped in epoch 1 of 2, after batch 1/34; give --if-exists resume" in output.err
    assert main(given) == 2
    expected = "holds an unfinished run; give --if-exists resume (if_exists='resume') to go on with it, or --if-exists"
    assert expected in capsys.readouterr().err
    assert main([*given, "--if-exists", "resume"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert main([*given, "--if-exists", "resume"]) == 0  # a finished run is told again
    assert "test accuracy" in capsys.readouterr().out


# What is gone on from


def stopped_run(folder: Path) -> Path:
    with pytest.raises(Stopped):
        fit_in(folder, max_seconds=0)
    return folder


def test_resume_starts_where_there_is_nothing(undisturbed: RunRecord, tmp_path: Path) -> None:
    record = fit_in(tmp_path / "new", if_exists="resume")
    assert record.outcome() == undisturbed.outcome()
    assert record.times.interruptions == 0


def test_resume_of_a_finished_run_returns_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = fit_in(tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(Engine, "batches_left", lambda *_: pytest.fail("it trained"))
    assert fit_in(tmp_path, if_exists="resume") == record
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("more", "differing"),
    [
        ({"seed": 2}, "seed differ"),
        ({"deterministic": False}, "deterministic differ"),
        ({"overrides": {**TRAINING["overrides"], "lr": 0.5}}, r"recipe\.lr differ"),
        ({"overrides": {**TRAINING["overrides"], "epochs": 4}}, r"recipe\.epochs, recipe\.milestones differ"),
        ({"model_options": {"relu_in_stem": True}}, "model_options differ"),
    ],
)
def test_resume_refuses_another_run_finished_or_not(more: dict[str, Any], differing: str, tmp_path: Path) -> None:
    registry.REGISTRY["pure4"], plain = lambda relu_in_stem=False, **sizes: SMALL["pure4"](**sizes), SMALL["pure4"]
    try:
        stopped_run(tmp_path)
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=f"is of another run: {differing}"):
            fit_in(tmp_path, if_exists="resume", **more)
        assert contents(tmp_path) == before
        fit_in(tmp_path, if_exists="resume")
        with pytest.raises(ValueError, match=f"the finished record of another run: {differing}; choose another folder"):
            fit_in(tmp_path, if_exists="resume", **more)
    finally:
        registry.REGISTRY["pure4"] = plain


def test_a_truncated_checkpoint_is_told_and_the_one_before_used(
    undisturbed: RunRecord, stop_behind: Callable[[int], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop_behind(6)
    with pytest.raises(Stopped):
        fit_in(tmp_path)
    latest = tmp_path / LATEST
    latest.write_bytes(latest.read_bytes()[:1000])
    record = fit_in(tmp_path, if_exists="resume")
    assert record.outcome() == undisturbed.outcome()
    assert [message.getMessage() for message in caplog.records] == [
        f"digits pure4 seed 1: {latest} was cut off or has changed: its checksum differs"
    ]


def test_where_no_checkpoint_can_be_read_it_starts_anew_and_says_so(
    undisturbed: RunRecord, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopped_run(tmp_path)
    (tmp_path / LATEST).write_bytes(b"")
    assert fit_in(tmp_path, if_exists="resume").outcome() == undisturbed.outcome()
    assert caplog.records[-1].getMessage() == "digits pure4 seed 1: starting from the beginning"


def test_a_checkpoint_beside_its_own_record_is_of_a_finished_run(tmp_path: Path) -> None:
    stopped_run(tmp_path)
    checkpoint = (tmp_path / LATEST).read_bytes()
    record = fit_in(tmp_path, if_exists="resume")
    (tmp_path / LATEST).write_bytes(checkpoint)  # as if it had been killed before it removed it
    assert fit_in(tmp_path, if_exists="resume") == record
    assert sorted(contents(tmp_path)) == [RECORD_NAME, WEIGHTS_NAME]
    (tmp_path / LATEST).write_bytes(checkpoint)
    again = fit_in(tmp_path, if_exists="replace")  # the record is to be replaced: not gone on with
    assert again.times.interruptions == 0
    assert again.times.started > record.times.started


def test_overwrite_and_resume_go_on_with_a_run_that_replaces_a_record(undisturbed: RunRecord, tmp_path: Path) -> None:
    first = fit_in(tmp_path)
    with pytest.raises(Stopped):
        fit_in(tmp_path, if_exists="restart", max_seconds=0)
    assert records.read_record(tmp_path / RECORD_NAME) == first  # until the other one is there
    record = fit_in(tmp_path, if_exists="replace")
    assert record.times.interruptions == 1
    assert record.outcome() == undisturbed.outcome()


def test_overwrite_alone_starts_anew(undisturbed: RunRecord, tmp_path: Path) -> None:
    stopped_run(tmp_path)
    record = fit_in(tmp_path, if_exists="restart")
    assert record.times.interruptions == 0
    assert record.outcome() == undisturbed.outcome()


def test_another_environment_is_told_or_with_overwrite_starts_anew(
    undisturbed: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped_run(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    monkeypatch.setattr(records, "_processor", lambda: "another processor")
    assert fit_in(tmp_path / "a", if_exists="resume").times.interruptions == 1
    assert "goes on, though device_name differ from those of the checkpoint" in caplog.records[-1].getMessage()
    assert fit_in(tmp_path / "b", if_exists="replace").times.interruptions == 0
    assert "starting from the beginning, since device_name differ" in caplog.records[-1].getMessage()


def test_weights_that_do_not_fit_the_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_run(tmp_path)
    monkeypatch.setitem(registry.REGISTRY, "pure4", SMALL["pure8"])
    with pytest.raises(ValueError, match=r"is of another version of this package, .* give --if-exists restart"):
        fit_in(tmp_path, if_exists="resume")


@pytest.mark.parametrize("given", [{"if_exists": "resume"}, {"max_seconds": 3.0}, {"tensorboard": True}])
def test_what_needs_a_folder_is_refused_without(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"cannot use {next(iter(given))} without a folder; give out="):
        fit("digits", "pure4", **given)


# A disk that is full


def test_a_disk_that_is_full_meanwhile_costs_no_training(
    undisturbed: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save, calls = Checkpoints.save, iter(range(1, 10))

    def full_at_the_second(self: Checkpoints, state: Any) -> None:
        if next(calls) == 2:
            raise OSError(28, "No space left on device")
        save(self, state)

    monkeypatch.setattr(Checkpoints, "save", full_at_the_second)
    record = fit_in(tmp_path)
    assert record.outcome() == undisturbed.outcome()
    (message,) = caplog.records
    assert message.getMessage() == (
        "digits pure4 seed 1: no checkpoint after epoch 2 of 3: [Errno 28] No space left on device; the one before "
        "stays"
    )


def test_a_stop_on_a_full_disk_says_that_the_last_checkpoint_is_an_older_one(
    undisturbed: RunRecord, stop_behind: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = Checkpoints.save, iter(range(1, 10))

    def full_at_the_second(self: Checkpoints, state: Any) -> None:
        if next(calls) == 2:
            raise OSError(28, "No space left on device")
        save(self, state)

    monkeypatch.setattr(Checkpoints, "save", full_at_the_second)
    stop_behind(6)
    expected = "SIGTERM was received; stopped without a new checkpoint; give --if-exists resume"
    with pytest.raises(Stopped, match=expected):
        fit_in(tmp_path)
    assert fit_in(tmp_path, if_exists="resume").outcome() == undisturbed.outcome()


# Random numbers


def test_random_numbers_of_the_network_itself_go_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dropping(**sizes: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 10))

    monkeypatch.setitem(registry.REGISTRY, "pure_dropping", dropping)
    changes = {"epochs": 2, "batch_size": 300}
    whole = fit("digits", "pure_dropping", overrides=changes)
    with pytest.raises(Stopped):
        fit("digits", "pure_dropping", out=tmp_path, overrides=changes, max_seconds=0)
    torch.manual_seed(99)
    again = fit("digits", "pure_dropping", out=tmp_path, overrides=changes, if_exists="resume")
    assert again.outcome() == whole.outcome()
