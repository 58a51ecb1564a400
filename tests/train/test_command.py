"""The command as people and batch systems use it: signals, streams, folders, and messages before the training."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training import QUICK, SMALL, contents, pure4

from pure import data
from pure.data import ImageSet, Splits
from pure.models import list_models, registry
from pure.records import RECORD_NAME, read_record
from pure.train import WEIGHTS_NAME, Stopped, estimate, fit, load_run, lock, predict
from pure.train.__main__ import main, model_names
from pure.train.checkpoint import LATEST
from pure.train.engine import Engine
from pure.train.lock import LOCK_NAME, locked

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "pure.train", "--recipe", "digits", "--model", "pure20", "--device", "cpu"]


@pytest.fixture(autouse=True, scope="module")
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, entry in SMALL.items():
            patch.setitem(registry.REGISTRY, name, entry)
        yield


def given(folder: Path, *more: str) -> list[str]:
    words = ["--recipe", "digits", "--model", "pure4", "--out", str(folder), "--epochs", "2", "--device", "cpu"]
    return [*words, *more]


def started(folder: Path, *more: str, **how: Any) -> subprocess.Popen[str]:
    """The command in a group of its own, as a batch system starts it; what runs these tests may ignore signals."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    command = [*COMMAND, "--out", str(folder), *more]
    return subprocess.Popen(command, env=environment, text=True, process_group=0, preexec_fn=_hears, **streams)


def _hears() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


# Signals


@pytest.mark.parametrize(
    ("name", "code"), [("SIGTERM", 75), ("SIGHUP", 75), ("SIGINT", 130)], ids=["SIGTERM", "SIGHUP", "Ctrl-C"]
)
def test_a_signal_to_the_whole_group_is_no_end_of_the_loaders_processes(name: str, code: int, tmp_path: Path) -> None:
    more = ["--execution", "loader=workers", "--set", "batch_size=128"]
    process = started(tmp_path / "run", *more, "--epochs", "300")
    assert process.stderr is not None
    told = process.stderr.readline()
    if "epoch 1 of 300" not in told:
        pytest.fail(told + process.communicate()[1])
    os.killpg(process.pid, signal.Signals[name])
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, output) == (code, ""), errors
    last = errors.splitlines()[-1]
    assert f"{name} was received; stopped " in last
    assert "Traceback" not in errors
    assert LATEST in contents(tmp_path / "run")
    assert LOCK_NAME not in contents(tmp_path / "run")


def test_a_signal_while_python_is_importing_is_heard(tmp_path: Path) -> None:
    process = started(tmp_path / "run")

    def is_blocked() -> bool:
        status = Path(f"/proc/{process.pid}/status").read_text()
        blocked = next(line for line in status.splitlines() if line.startswith("SigBlk"))
        return bool(int(blocked.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)

    wait_for(is_blocked)
    os.kill(process.pid, signal.SIGUSR1)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 75
    (line,) = errors.splitlines()
    assert "SIGUSR1 was received; stopped before the first batch; give the same command again" in line


def test_what_is_ignored_from_the_start_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    step = Engine.step

    def hung_up(self: Engine, *rest: Any) -> bool:
        os.kill(os.getpid(), signal.SIGHUP)
        return step(self, *rest)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Engine, "step", hung_up)
            assert fit("digits", "pure4", out=tmp_path, overrides=QUICK).test is not None
    finally:
        signal.signal(signal.SIGHUP, before)


# Streams


def test_without_a_terminal_every_epoch_has_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(given(tmp_path / "run", "--set", "batch_size=128")) == 0
    record = read_record(tmp_path / "run" / RECORD_NAME)
    lines = [message.getMessage() for message in caplog.records]
    assert len(lines) == 2
    for number, (line, epoch) in enumerate(zip(lines, record.epochs, strict=True), 1):
        assert epoch.validation is not None
        expected = (
            f"epoch {number} of 2: loss {epoch.train.loss:.3f}, validation {100 * epoch.validation.accuracy:.1f} %"
        )
        assert expected in line


def test_a_stream_that_cannot_be_written_to_is_no_failure(tmp_path: Path) -> None:
    more = ["--epochs", "1", "--set", "batch_size=256"]
    with open("/dev/full", "w") as full:
        process = started(tmp_path / "a", *more, stdout=full)
    assert (process.communicate(timeout=300)[1].count("Traceback"), process.returncode) == (0, 0)
    closed = subprocess.run(
        ["bash", "-c", '"$@" >&- 2>&-', "bash", *COMMAND, "--out", str(tmp_path / "b"), *more],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=300,
    )
    assert closed.returncode == 0
    assert read_record(tmp_path / "a" / RECORD_NAME).outcome() == read_record(tmp_path / "b" / RECORD_NAME).outcome()


# Help and spelling


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--help"], 0, "--if-exists"),
        (["--recipe", "digit", "--model", "pure20", "--out", "x"], 2, "did you mean 'digits'?"),
        (["--recipe", "digits", "--model", "pur20", "--out", "x"], 2, "unknown model 'pur20'; did you mean 'pure20'?"),
        (["--recipe", "digits", "--model", "pure20", "--out", "x", "--set", "lrr=1"], 2, "did you mean 'lr'?"),
        (["--recipe", "digits", "--model", "pure20", "--out", "x", "--execution", "compiled=1"], 2, "mean 'compile'?"),
        (["--recipe", "digits", "--model", "pure20", "--out", "x", "--execution", "micro_batches=0"], 2, "micro_batch"),
        (["--recipe", "digits", "--model", "pure20", "--out", "x", "--resum"], 2, "--if-exists resume"),
        (["--recipe", "digits", "--model", "pure20", "--out", "x", "--overwrite"], 2, "--if-exists restart"),
        (["--recipe", "digits", "--model", "pure20", "--out", "x", "--option", "a=1"], 2, "--model-option"),
    ],
)
def test_help_and_spelling_are_told_without_pytorch(words: list[str], code: int, message: str) -> None:
    program = (
        "import sys; from pure.train.__main__ import main\n"
        "try: code = main(sys.argv[1:])\n"
        "except SystemExit as stop: code = stop.code\n"
        "sys.exit(99 if 'torch' in sys.modules else code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == code, done.stderr
    assert message in done.stdout + done.stderr


def test_names_of_networks_are_those_that_are_registered() -> None:
    assert model_names() == set(list_models()) - SMALL.keys()


# Folders


def test_following_the_message_of_a_stopped_run_goes_on_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = given(tmp_path / "run", "--set", "batch_size=300")
    assert main(words) == 0
    first = read_record(tmp_path / "run" / RECORD_NAME)
    assert main([*words, "--if-exists", "restart", "--max-seconds", "0"]) == 75
    assert "give --if-exists resume" in capsys.readouterr().err
    assert main([*words, "--if-exists", "resume"]) == 0
    second = read_record(tmp_path / "run" / RECORD_NAME)
    assert second.times.started > first.times.started
    assert second.times.interruptions == 1
    assert second.outcome() == first.outcome()
    assert sorted(contents(tmp_path / "run")) == [RECORD_NAME, WEIGHTS_NAME]


def test_a_folder_in_use_is_refused_and_one_of_a_dead_owner_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAIT_S", 0.1)
    program = (
        "import sys, time; from pathlib import Path; from pure.train.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match="is in use by another training"):
            fit("digits", "pure4", out=tmp_path, overrides=QUICK)
        assert contents(tmp_path).keys() == {LOCK_NAME}
        owner.kill()
    assert fit("digits", "pure4", out=tmp_path, overrides=QUICK).test is not None
    assert sorted(contents(tmp_path)) == [RECORD_NAME, WEIGHTS_NAME]
    with locked(tmp_path):
        assert LOCK_NAME in contents(tmp_path)


def test_a_finished_run_that_is_damaged_says_what_to_do(tmp_path: Path) -> None:
    fit("digits", "pure4", out=tmp_path, overrides=QUICK)
    (tmp_path / WEIGHTS_NAME).unlink()
    with pytest.raises(ValueError, match=r"its weights are gone; give --if-exists restart \(if_exists='restart'\)"):
        fit("digits", "pure4", out=tmp_path, overrides=QUICK, if_exists="resume")
    (tmp_path / RECORD_NAME).write_bytes(b"{")
    with pytest.raises(ValueError, match=r"record\.json is damaged, or of a version .*; give --if-exists restart"):
        fit("digits", "pure4", out=tmp_path, overrides=QUICK, if_exists="resume")
    assert fit("digits", "pure4", out=tmp_path, overrides=QUICK, if_exists="restart").test is not None


def test_weights_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    fit("digits", "pure4", out=tmp_path, overrides=QUICK)
    _, network, _ = load_run(tmp_path)
    (tmp_path / WEIGHTS_NAME).unlink()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    import hashlib
    import json

    content = json.loads((tmp_path / RECORD_NAME).read_text())
    content["weights_sha256"] = hashlib.sha256((tmp_path / "weights.pt").read_bytes()).hexdigest()
    (tmp_path / RECORD_NAME).write_text(json.dumps(content))
    _, again, _ = load_run(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())


def test_a_full_disk_at_the_weights_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fsync = os.fsync

    def full(number: int) -> None:
        if WEIGHTS_NAME in os.readlink(f"/proc/self/fd/{number}"):
            raise OSError(28, "No space left on device")
        fsync(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(given(tmp_path, "--set", "batch_size=300")) == 2
    assert f"No space left on device: '{tmp_path / WEIGHTS_NAME}'" in capsys.readouterr().err


# What is refused before the training


def digits(number: int) -> Splits:
    splits = data.load("digits")
    return dataclasses.replace(splits, train=ImageSet(splits.train.images[:number], splits.train.labels[:number]))


def vanishing(num_classes: int, in_channels: int) -> nn.Module:
    """Its last map has one value of each channel."""
    return nn.Sequential(nn.Conv2d(in_channels, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, num_classes))


def test_a_last_batch_of_one_image_is_refused_where_it_cannot_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.REGISTRY, "vanishing", vanishing)
    changes = {"batch_size": 32, "epochs": 1}
    expected = "65 training images in batches of 32 leave a part of one image, .* choose another batch_size, such as 33"
    for call in (fit, estimate):
        with pytest.raises(ValueError, match=expected):
            call("digits", "vanishing", data=digits(65), overrides=changes)
    assert fit("digits", "vanishing", data=digits(66), overrides=changes).test is not None
    assert fit("digits", "vanishing", data=digits(65), overrides={**changes, "batch_size": 33}).test is not None
    assert fit("digits", "pure4", data=digits(65), overrides=changes).test is not None  # its maps have more values


def test_a_class_name_that_no_record_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "step", lambda *_: pytest.fail("it trained"))
    splits = dataclasses.replace(digits(64), classes=("caf\udce9", *"123456789"))
    with pytest.raises(ValueError, match=r"the class 'caf\\udce9' of 'digits' has a name that is not UTF-8; rename it"):
        fit("digits", "pure4", data=splits)
    one = dataclasses.replace(digits(64), classes=("a",))
    with pytest.raises(ValueError, match="has 1 class; there is nothing to tell apart"):
        fit("digits", "pure4", data=one)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "18446744073709551616"], "a seed is a whole number from 0 to 2**63 - 1, got 18446744073709551616"),
        (["--set", "name=x"], "recipe 'digits' has no field 'name'"),
        (["--model-option", "num_classes=3"], "num_classes: no option of a network here; classes and channels are"),
        (["--model-option", "name=x"], "name: no option of a network here"),
        (["--device", "mps"], "cannot use device 'mps'; give cpu"),
    ],
)
def test_messages_are_ours(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given(tmp_path / "run", *words)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_memory_of_a_batch_larger_than_the_set_is_that_of_the_set() -> None:
    text = estimate("digits", "pure4", data=digits(64), overrides={"batch_size": 2**20})
    assert "kept for the backward pass of 64 images" in text


# Networks and data that are given


def test_a_module_and_splits_train_as_their_names_do(tmp_path: Path) -> None:
    changes = {**QUICK, "epochs": 2}
    by_name = fit("digits", "pure4", overrides=changes)
    torch.manual_seed(0)
    network = pure4(10, 1)
    given = fit("digits", network, data=data.load("digits"), out=tmp_path, overrides=changes)
    assert given.epochs[-1].train == by_name.epochs[-1].train
    assert given.weights_sha256 == by_name.weights_sha256
    assert (given.model.name, given.recipe.family, given.recipe.dataset) == ("ResidualNetwork", "pure", "digits")
    assert given.model.options.keys() == {"layers"}
    record, again, splits = load_run(tmp_path, data.load("digits"), pure4(10, 1))
    assert record == given
    for name, value in network.state_dict().items():  # trained in place
        assert torch.equal(value, again.state_dict()[name])
    logarithms = predict(again, splits, splits.test)
    torch.testing.assert_close(logarithms.exp().sum(1), torch.ones(360))
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    linear = fit("digits", other, overrides=QUICK)
    assert (linear.model.name, linear.recipe.family, linear.model.parameters) == ("Sequential", "resnet", 650)
    with pytest.raises(ValueError, match="model_options are for networks that are given by their name"):
        fit("digits", other, model_options={"bias": True})
    with pytest.raises(ValueError, match="data_options are for data sets that are loaded by their name"):
        fit("digits", other, data=splits, data_options={"split_seed": 1})


def test_if_exists_is_one_of_four(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="if_exists is one of fail, resume, replace, restart, got 'overwrite'"):
        fit("digits", "pure4", out=tmp_path, if_exists="overwrite")  # type: ignore[arg-type]


def test_stopped_has_the_exit_code() -> None:
    assert Stopped().exit_code == 75
