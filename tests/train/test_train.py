"""Training from the recipe to the record: what is computed, in which order, and what is left behind."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training import QUICK, SMALL, contents, pure8, resnet8

from pure import data, records, train
from pure.data import ImageSet, Splits
from pure.execution import Execution
from pure.models import registry
from pure.nn import units as layers
from pure.recipes import get_recipe
from pure.records import RECORD_NAME, Evaluation, RunRecord, unpack_classes
from pure.train import WEIGHTS_NAME, fit, load_run, predict, run, run_folder, thresholds
from pure.train.__main__ import main, parse_setting
from pure.train.checkpoint import LATEST, PREVIOUS
from pure.train.engine import Engine


@pytest.fixture(autouse=True, scope="module")
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, entry in SMALL.items():
            patch.setitem(registry.REGISTRY, name, entry)
        yield


@pytest.fixture(scope="module")
def finished(small_networks: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    """A finished run; whoever changes it works on a copy."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, fit("digits", "pure8", seed=0, out=folder, overrides={**QUICK, "epochs": 2})


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for name in (RECORD_NAME, WEIGHTS_NAME):
        (to / name).write_bytes((folder / name).read_bytes())
    return to


# The measure


def test_pure20_reaches_97_percent_on_the_digits_in_30_seconds() -> None:
    assert torch.get_num_threads() == 1  # then the processor's time is what a clock would show on a quiet machine
    clock = time.process_time()
    record = fit("digits", "pure20", seed=0)
    seconds = time.process_time() - clock
    assert record.overrides == ()
    assert record.data.test == 360
    assert record.test.accuracy >= 0.97
    # The promise is 30 s on two cores that do nothing else.  One of them is enough, and its own time does not count
    # what other processes take from it, so that no allowance for a busy machine is needed.
    assert seconds < 30


# What a run leaves behind


def test_fit_returns_what_it_wrote(finished: tuple[Path, RunRecord]) -> None:
    folder, record = finished
    assert records.read_record(folder / RECORD_NAME) == record
    assert sorted(contents(folder)) == [RECORD_NAME, WEIGHTS_NAME]
    json.loads((folder / RECORD_NAME).read_text(), parse_constant=pytest.fail)  # no NaN, no Infinity: strict JSON


def test_record_holds_what_was_asked_for(finished: tuple[Path, RunRecord]) -> None:
    _, record = finished
    assert record.recipe == get_recipe("digits", "pure", **{**QUICK, "epochs": 2})
    assert record.overrides == ("batch_size", "epochs")
    assert record.execution == Execution(channels_last=True, compile=False, loader="device")  # what auto stood for
    assert (record.model.name, record.model.options, record.seed) == ("pure8", {}, 0)
    assert record.model.parameters == sum(p.numel() for p in pure8(10, 1).parameters())
    splits = data.load("digits")
    assert record.data.fingerprint == splits.fingerprint
    assert (record.data.train, record.data.validation, record.data.test) == (1078, 359, 360)
    assert record.data.classes == splits.classes
    assert len(record.epochs) == 2
    assert record.selected == 2
    assert record.data.mean == tuple(splits.statistics[0].tolist())
    assert record.data.std == tuple(splits.statistics[1].tolist())
    assert record.resources is not None
    assert (record.resources.loader, record.resources.devices) == ("device", 1)
    times = sorted(epoch.train_s for epoch in record.epochs)
    assert record.resources.throughput == pytest.approx(1078 * (1 / times[0] + 1 / times[1]) / 2)
    assert record.resources.peak_memory > 100e6  # PyTorch alone takes more
    assert record.times.train_s == sum(epoch.train_s for epoch in record.epochs)
    assert 0 < record.times.train_s < record.times.total_s


def test_an_override_that_changes_nothing_is_none() -> None:
    record = fit("digits", "resnet8", overrides={**QUICK, "lr": 0.1, "momentum": 0.9})
    assert record.overrides == ("batch_size", "epochs")


def test_accuracy_is_that_of_the_confusion_matrix(finished: tuple[Path, RunRecord]) -> None:
    _, record = finished
    confusion = torch.tensor(record.test.confusion)
    assert confusion.sum(1).tolist() == data.load("digits").test.labels.bincount().tolist()  # rows: the true classes
    assert record.test.accuracy == pytest.approx(int(confusion.trace()) / 360, rel=1e-12)
    assert record.test.predictions is not None
    assert record.data.test_labels is not None
    predicted, labels = unpack_classes(record.test.predictions), unpack_classes(record.data.test_labels)
    assert labels.tolist() == data.load("digits").test.labels.tolist()
    assert torch.equal(torch.bincount(10 * labels + predicted, minlength=100).view(10, 10), confusion)


def test_load_run_gives_the_tested_network_again(finished: tuple[Path, RunRecord]) -> None:
    folder, record = finished
    loaded, network, splits = load_run(folder)
    assert loaded == record
    assert not network.training
    logits = predict(network, splits, splits.test)
    assert (logits.argmax(1) == splits.test.labels).double().mean().item() == record.test.accuracy
    assert F.cross_entropy(logits.double(), splits.test.labels).item() == pytest.approx(record.test.loss, rel=1e-6)
    assert thresholds(network) == record.thresholds


def test_load_run_gives_a_network_with_options_again(tmp_path: Path) -> None:
    options = {"granularity": "channel", "threshold": "exp", "init_a": 5**0.5}
    record = fit("digits", "pure8", out=tmp_path, overrides=QUICK, model_options=options)
    loaded, network, splits = load_run(tmp_path)
    assert loaded == record
    assert loaded.model.options == options
    assert (
        predict(network, splits, splits.test).argmax(1) == splits.test.labels
    ).double().mean() == loaded.test.accuracy


def test_load_run_refuses_other_weights(finished: tuple[Path, RunRecord], tmp_path: Path) -> None:
    folder = copied(finished[0], tmp_path / "copy")
    weights = folder / WEIGHTS_NAME
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"weights\.safetensors holds other weights than the record tested; repeat the run"
    ):
        load_run(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors"):
        load_run(folder)


def test_load_run_refuses_other_data(finished: tuple[Path, RunRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load", lambda *_, **__: data.digits(1))
    with pytest.raises(ValueError, match="data set 'digits' is divided differently here"):
        load_run(finished[0])


def test_load_run_of_an_unfinished_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=RECORD_NAME):
        load_run(tmp_path)


# Seeds


def test_the_same_seed_gives_the_same_record_another_seed_another(finished: tuple[Path, RunRecord]) -> None:
    _, first = finished
    torch.manual_seed(99)  # what was drawn before the run is of no influence
    torch.randn(3)
    again, other = (fit("digits", "pure8", seed=seed, overrides={**QUICK, "epochs": 2}) for seed in (0, 1))
    assert again.outcome() == first.outcome()
    assert other.epochs[0].train.loss != first.epochs[0].train.loss
    assert other.weights_sha256 != first.weights_sha256
    assert other.data == first.data  # all runs see the same division


def test_the_seed_fixes_initialisation_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    spied: list[tuple[Tensor, Tensor]] = []

    def spy(self: Engine, *_: Any) -> None:
        self.loader.set_epoch(1)
        spied.append((self.network.get_parameter("conv1.weight").clone(), next(iter(self.loader))[0]))
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "batches_left", spy)
    for seed in (7, 7, 8):
        with pytest.raises(KeyboardInterrupt):
            fit("digits", "pure8", seed=seed, overrides=QUICK)
    for first, again, other in zip(*spied, strict=True):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


# The training itself


@pytest.mark.parametrize(
    ("overrides", "rates"),
    [
        ({"epochs": 4}, [0.01, 0.01, 0.001, 0.0001]),  # dropped after epochs 2 and 3
        ({"epochs": 1}, [0.01]),
        ({"epochs": 3, "milestones": (1,), "gamma": 0.5, "lr": 0.02}, [0.02, 0.01, 0.01]),
        ({"epochs": 2, "milestones": ()}, [0.01, 0.01]),
    ],
)
def test_learning_rate_of_each_epoch_as_it_ran(
    overrides: dict[str, Any], rates: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[float] = []
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *rest: Any) -> Any:
        used.extend({group["lr"] for group in self.param_groups})
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    record = fit("digits", "pure4", overrides={"batch_size": 1078, **overrides})
    assert used == pytest.approx(rates, rel=1e-12)
    assert [epoch.lr for epoch in record.epochs] == used


def test_predict_keeps_the_order_and_does_not_depend_on_the_batch() -> None:
    splits = data.load("digits")
    network = pure8(10, 1).train()
    whole = predict(network, splits, splits.test)
    assert whole.shape == (360, 10)
    assert network.training  # as it was
    some = ImageSet(splits.test.images[7:10], splits.test.labels[7:10])
    torch.testing.assert_close(predict(network, splits, some), whole[7:10])


# Selection


class Counter(nn.Module):
    """Its one weight is the number of the epoch; its logits favour class 0 by it."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        return F.one_hot(torch.zeros(len(x), dtype=torch.long), self.num_classes) * self.weight


@pytest.mark.parametrize(
    ("selection", "losses", "selected"),
    [
        ("last", [3.0, 1.0, 2.0, 2.5], 4),
        ("lowest-validation-loss", [3.0, 1.0, 2.0, 2.5], 2),
        ("lowest-validation-loss", [1.0, 1.0, 2.0, 1.0], 1),  # the earliest of equals
        ("lowest-validation-loss", [math.nan, math.inf, 2.0, 1.5], 4),  # running statistics lag at first
        ("lowest-validation-loss", [2.0, math.nan, -math.inf, 3.0], 1),
        ("lowest-validation-loss", [math.nan, math.nan, math.nan, math.nan], 1),
    ],
)
def test_the_weights_of_the_selected_epoch_are_tested_and_saved(
    selection: str, losses: list[float], selected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(self: Engine, parts: Any, stop: bool) -> bool:
        with torch.no_grad():
            self.network.weight += 1  # type: ignore[operator]
        self.sums += 1
        self.batch += 1
        return stop

    monkeypatch.setitem(registry.REGISTRY, "pure_counter", Counter)
    monkeypatch.setattr(Engine, "step", step)
    measure, given = Engine.measure, iter(losses)

    def measured(self: Engine, network: nn.Module, images: ImageSet, protocol: str) -> Evaluation:
        found = measure(self, network, images, protocol)
        return found.model_copy(update={"loss": next(given)}) if len(images) == 359 else found

    monkeypatch.setattr(Engine, "measure", measured)
    changes = {"epochs": 4, "selection": selection, "batch_size": 1078}
    record = fit("digits", "pure_counter", out=tmp_path, overrides=changes)

    assert record.selected == selected
    _, network, splits = load_run(tmp_path)
    assert network.weight.item() == selected
    # by hand: the true class has logit `selected` where it is 0, else 0, next to nine others
    zeros = int((splits.test.labels == 0).sum())
    expected = math.log(math.exp(selected) + 9) - selected * zeros / 360
    assert record.test is not None
    assert record.test.loss == pytest.approx(expected, rel=1e-6)
    written = records.read_record(tmp_path / RECORD_NAME)
    assert [epoch.validation.loss for epoch in written.epochs if epoch.validation] == pytest.approx(losses, nan_ok=True)


# The test set


class Watched:
    """Images that tell when they are read."""

    def __init__(self, name: str, images: ImageSet, log: list[str]) -> None:
        self.name, self.inside, self.log = name, images, log
        self.labels, self.digest, self.shape = images.labels, images.digest, images.shape

    def __len__(self) -> int:
        return len(self.inside)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.read(torch.tensor([index]))[0], int(self.labels[index])

    def read(self, rows: Tensor) -> Tensor:
        self.log.extend([self.name] * len(rows))
        return self.inside.images[rows]


@pytest.mark.parametrize(
    ("overrides", "times"), [({}, 1), ({"noise_scale": 1.0}, 2), ({"protocols": ("whole", "ten-crop(8,7)")}, 2)]
)
def test_the_test_set_is_read_once_for_each_test_and_at_the_end(
    overrides: dict[str, Any], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    splits, select = data.load("digits"), Engine.select
    watched = {name: Watched(name, images, log) for name, images in splits.parts.items()}
    monkeypatch.setattr(data, "load", lambda *_, **__: dataclasses.replace(splits, **watched))

    def trained(self: Engine) -> int:
        log.append("trained")
        return select(self)

    monkeypatch.setattr(Engine, "select", trained)
    fit("digits", "pure4", overrides={**QUICK, "epochs": 3, "selection": "lowest-validation-loss", **overrides})
    before, after = log[: log.index("trained")], log[log.index("trained") + 1 :]
    assert set(before) == {"train", "validation"}
    assert before.count("validation") == 3 * 359
    assert after == ["test"] * 360 * times


@pytest.mark.parametrize("selection", ["last", "lowest-validation-loss"])
def test_another_test_set_changes_nothing_but_the_test(selection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {**QUICK, "epochs": 2, "selection": selection}
    first = fit("digits", "pure8", overrides=changes)
    real = data.load("digits")
    upside_down = ImageSet(real.test.images.flip(2), (real.test.labels + 1) % 10)
    other = Splits(real.name, real.classes, real.train, real.validation, upside_down)
    monkeypatch.setattr(data, "load", lambda *_, **__: other)
    second = fit("digits", "pure8", overrides=changes)
    assert second.weights_sha256 == first.weights_sha256
    left, right = first.outcome(), second.outcome()
    assert {field for field in left if left[field] != right[field]} == {"data", "test"}


def test_noise_is_that_of_the_recipe_and_the_drop_is_in_the_record() -> None:
    changes = {**QUICK, "epochs": 4, "batch_size": 32}
    clean, weak, strong, other = (
        fit("digits", "pure4", overrides={**changes, **noise})
        for noise in (
            {},
            {"noise_scale": 100.0},
            {"noise_scale": 0.05},
            {"noise_scale": 0.05, "noise_seed": 1},
        )
    )
    assert clean.noisy is None
    assert clean.relative_drop is None
    assert {run.weights_sha256 for run in (weak, strong, other)} == {clean.weights_sha256}
    assert weak.test == strong.test == clean.test
    for noisy in (weak, strong, other):
        assert noisy.noisy is not None
        assert noisy.test is not None
        drop = 100 * (noisy.test.accuracy - noisy.noisy.accuracy) / noisy.test.accuracy
        assert noisy.relative_drop == pytest.approx(drop)
    assert weak.relative_drop is not None
    assert strong.relative_drop is not None
    assert abs(weak.relative_drop) < 10 < 20 < strong.relative_drop
    assert other.noisy != strong.noisy


def test_every_protocol_is_measured_and_named() -> None:
    protocols = ("whole", "single-crop(10,8)", "ten-crop(8,7)")
    record = fit("digits", "pure4", overrides={**QUICK, "protocols": protocols})
    assert record.test is not None
    assert (record.test.protocol, *(test.protocol for test in record.protocols)) == protocols
    assert len({record.test.loss, *(test.loss for test in record.protocols)}) == 3


def test_confusion_is_left_out_above_a_hundred_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = data.load("digits")
    many = dataclasses.replace(real, classes=tuple(map(str, range(101))))
    monkeypatch.setattr(data, "load", lambda *_, **__: many)
    record = fit("digits", "pure4", overrides=QUICK)
    assert record.test is not None
    assert record.test.confusion is None
    assert record.test.predictions is None
    assert record.data.test_labels is None


# Thresholds


def units(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, layers.ProductUnit2d)]


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({}, math.log(2) + 1e-7),
        ({"threshold": "exp", "eps": 0.5}, 1.5),
        ({"threshold": 0.25}, 0.25),
    ],
)
def test_thresholds_of_layers(options: dict[str, Any], start: float) -> None:
    network = pure8(10, 1, **options)
    found = thresholds(network)
    assert list(found) == units(network)
    assert len(found) == 3
    assert list(found.values()) == pytest.approx([start] * 3, rel=1e-6)


def test_thresholds_of_channels() -> None:
    network = pure8(10, 1, granularity="channel")
    first, second, third = units(network)
    unit = network.get_submodule(first)
    assert isinstance(unit, layers.ProductUnit2d)
    with torch.no_grad():
        unit.theta[3] = 2.0  # type: ignore[index]
    found = thresholds(network)
    widths = {name: len(value) for name, value in found.items()}  # type: ignore[arg-type]
    assert widths == {first: 16, second: 32, third: 64}
    expected = [math.log(2) + 1e-7] * 16
    expected[3] = math.log(1 + math.exp(2)) + 1e-7
    assert found[first] == pytest.approx(expected, rel=1e-6)


def test_thresholds_of_dense_units_and_of_none() -> None:
    assert thresholds(nn.Sequential(nn.Linear(2, 2), layers.ProductUnit(2, 1))) == {"1": pytest.approx(math.log(2))}
    assert thresholds(resnet8(10, 1)) == {}


def test_record_holds_the_thresholds_that_were_learnt(finished: tuple[Path, RunRecord]) -> None:
    _, record = finished
    assert list(record.thresholds) == units(pure8(10, 1))
    assert all(tau != pytest.approx(math.log(2), abs=1e-5) for tau in record.thresholds.values())  # they have moved


# Folders


def test_a_finished_folder_is_refused_and_left_as_it_is(
    finished: tuple[Path, RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = finished
    before = contents(folder)
    monkeypatch.setattr(Engine, "batches_left", lambda *_: pytest.fail("it trained"))
    with pytest.raises(FileExistsError, match=r"already holds a finished record; .* --if-exists replace"):
        fit("digits", "pure8", seed=1, out=folder, overrides=QUICK)
    assert contents(folder) == before


def test_overwrite_replaces_record_and_weights(finished: tuple[Path, RunRecord], tmp_path: Path) -> None:
    folder = copied(finished[0], tmp_path / "copy")
    record = fit("digits", "pure8", seed=1, out=folder, overrides=QUICK, if_exists="replace")
    assert record.seed == 1
    assert load_run(folder)[0] == record
    assert sorted(contents(folder)) == [RECORD_NAME, WEIGHTS_NAME]


def crash(*_: Any, **__: Any) -> Any:
    raise RuntimeError("pulled the plug")


CRASHES = {"batches_left": Engine, "_test": run, "_serialize": run, "write_atomically": run}


@pytest.mark.parametrize("where", CRASHES)
def test_a_crash_leaves_no_record_but_checkpoints_to_go_on_from(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(CRASHES[where], where, crash)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            fit("digits", "pure4", out=tmp_path / "run", overrides={**QUICK, "epochs": 2})
    expected = {} if where == "batches_left" else {f"run/{LATEST}", f"run/{PREVIOUS}"}
    assert contents(tmp_path).keys() == set(expected)
    record = fit("digits", "pure4", out=tmp_path / "run", overrides={**QUICK, "epochs": 2}, if_exists="resume")
    assert record.outcome() == fit("digits", "pure4", overrides={**QUICK, "epochs": 2}).outcome()


def test_a_crash_while_the_record_is_written_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def full(source: str, target: Path) -> None:
        if Path(target).name == RECORD_NAME:
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        fit("digits", "pure4", out=tmp_path, overrides=QUICK)
    assert sorted(contents(tmp_path)) == [LATEST, WEIGHTS_NAME]


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ("batches_left", [RECORD_NAME, WEIGHTS_NAME]),
        ("_test", [LATEST, RECORD_NAME, WEIGHTS_NAME]),
        ("write", [LATEST, WEIGHTS_NAME]),
    ],
)
def test_a_crash_when_overwriting_leaves_the_old_run_or_none(
    where: str, left: list[str], finished: tuple[Path, RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(finished[0], tmp_path / "copy")
    monkeypatch.setattr({"write": RunRecord, "_test": run}.get(where, Engine), where, crash)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        fit("digits", "pure8", seed=1, out=folder, overrides=QUICK, if_exists="replace")
    assert sorted(contents(folder)) == left
    if RECORD_NAME in left:
        assert load_run(folder)[0] == finished[1]


def test_out_that_is_a_file_or_lies_below_one_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "batches_left", lambda *_: pytest.fail("it trained"))
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"file is a file; --out \(out=\) takes a folder"):
        fit("digits", "pure8", out=file)
    with pytest.raises(NotADirectoryError):
        fit("digits", "pure8", out=file / "below")
    assert contents(tmp_path) == {"file": b"mine"}


def test_run_folder() -> None:
    assert run_folder("results", "digits", "pure20", 3) == Path("results/digits/pure20/seed3")


# Bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"recipe": "digit"}, ValueError, r"unknown recipe 'digit'; did you mean 'digits'\?"),
        ({"model": "pure21"}, ValueError, r"unknown model 'pure21'; did you mean 'pure"),
        ({"overrides": {"epoch": 1}}, ValueError, r"no field 'epoch'; did you mean 'epochs'\?"),
        ({"overrides": {"dataset": "digit"}}, ValueError, r"unknown data set 'digit'; did you mean 'digits'\?"),
        ({"data_options": {"split": 1}}, ValueError, r"data set 'digits' has no option 'split'"),
        ({"recipe": "galaxy10", "data": "nowhere"}, FileNotFoundError, "nowhere"),
        ({"model_options": {"stride": 2}}, TypeError, "pure20 has no option stride"),
        ({"model_options": {"granularity": "pixel"}}, ValueError, "pixel"),
        ({"device": "gpu"}, ValueError, "cannot use device 'gpu'; give cpu"),
    ],
)
def test_bad_input_is_refused_before_the_training_and_leaves_no_folder(
    arguments: dict[str, Any], error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "batches_left", lambda *_: pytest.fail("it trained"))
    with pytest.raises(error, match=message):
        fit(**{"recipe": "digits", "model": "pure20", "out": tmp_path / "run", **arguments})
    assert not (tmp_path / "run").exists()


def test_an_option_that_no_record_can_hold_is_refused_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "batches_left", lambda *_: pytest.fail("it trained"))
    monkeypatch.setitem(registry.REGISTRY, "pure_any", lambda extra, **sizes: Counter(**sizes))
    with pytest.raises(ValueError, match=r"ModelSummary\noptions\.extra"):
        fit("digits", "pure_any", model_options={"extra": {"blocks": 1}})


def test_the_complex_unit_trains_in_a_network() -> None:
    record = fit("digits", "pure20", model_options={"unit": "complex"}, overrides={"epochs": 3})
    losses = [epoch.train.loss for epoch in record.epochs]
    assert all(map(math.isfinite, losses))
    assert record.epochs[-1].train.accuracy > 0.6  # chance is a tenth


# The command line


def test_command_line_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = ["--recipe", "digits", "--model", "pure20", "--seed", "3", "--out", "run", "--epochs", "1"]
    command += ["--set", "batch_size=256", "--set", "selection=lowest-validation-loss", "--device", "cpu"]
    root = Path(train.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pure.train", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    # No bar where there is no terminal, but a line.
    assert re.fullmatch(r"python -m pure\.train: digits pure20 seed 3: epoch 1 of 1: [^\n]* s\n", done.stderr)
    record, _, _ = load_run(tmp_path / "run")
    assert (record.seed, record.recipe.epochs, record.recipe.batch_size) == (3, 1, 256)
    assert record.recipe.selection == "lowest-validation-loss"
    assert record.overrides == ("batch_size", "epochs", "selection")
    accuracy = re.escape(f"{100 * record.test.accuracy:.2f}")
    expected = (
        rf"digits pure20 seed 3: test accuracy {accuracy} % on 360 images, \d+\.\d s; record in run/record\.json\n"
    )
    assert re.fullmatch(expected, done.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "digit"], "unknown recipe 'digit'; did you mean 'digits'?"),
        (["--model", "pur20"], "unknown model 'pur20'; did you mean 'pure"),
        (["--set", "weightdecay=0"], "has no field 'weightdecay'; did you mean 'weight_decay'?"),
        (["--set", "lr"], "--set expects NAME=VALUE, got 'lr'; for example --set lr=0.05"),
        (["--set", "epochs=3", "--epochs", "2"], "epochs is given twice, as 3 and as 2; give it once"),
        (
            ["--model-option", "shortcut=A", "--model-option", "shortcut=B"],
            "shortcut is given twice, as 'A' and as 'B'",
        ),
        (["--model-option", "shortcut"], "--model-option expects NAME=VALUE, got 'shortcut'"),
        (["--model-option", "shortcut=C"], "unknown shortcut 'C'"),
        (["--model-option", "shortcuts=A"], "has no option shortcuts"),
        (["--set", "lr=fast"], "recipe 'digits': lr: input should be a valid number, got 'fast'\n"),
        (["--set", "decay_theta=no"], "decay_theta: input should be a valid boolean, got 'no'\n"),
        (["--epochs", "0"], "epochs: input should be greater than 0, got 0\n"),
        (["--set", "augmentation=rotat"], "recipe 'digits': augmentation: unknown augmentation 'rotat'"),
        (["--set", "warmup_lr=1"], "recipe 'digits': warmup_lr 1.0 is above lr 0.01"),
        (["--data-option", "fractions={}"], "recipe 'digits': data_options: input should be a valid string, got {}\n"),
        (["--seed", "-1"], "a seed is a whole number from 0 to 2**63 - 1, got -1"),
        (["--max-seconds", "nan"], "max_seconds must be 0 or more, got nan"),
        (["--max-seconds", "-1"], "max_seconds must be 0 or more, got -1.0"),
        (["--device", "gpu"], "cannot use device 'gpu'"),
    ],
)
def test_command_line_tells_bad_input(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--recipe", "digits", "--model", "pure20", "--out", str(tmp_path / "run"), *arguments]
    assert main(given) == 2
    output = capsys.readouterr()
    assert output.err.startswith("python -m pure.train: ")
    assert message in output.err
    assert output.out == ""
    assert not (tmp_path / "run").exists()


def test_command_line_refuses_a_finished_folder_and_overwrites_it_when_told(
    finished: tuple[Path, RunRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(finished[0], tmp_path / "copy")
    before = contents(folder)
    given = ["--recipe", "digits", "--model", "pure8", "--out", str(folder), "--epochs", "1", "--set", "batch_size=128"]
    assert main(given) == 2
    assert "--if-exists" in capsys.readouterr().err
    assert contents(folder) == before
    assert main([*given, "--if-exists", "replace"]) == 0
    assert records.read_record(folder / RECORD_NAME).recipe.epochs == 1


@pytest.mark.parametrize("missing", ["--recipe", "--model", "--out"])
def test_command_line_names_what_is_missing(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"--recipe": "digits", "--model": "pure20", "--out": "run"}
    del given[missing]
    with pytest.raises(SystemExit) as stopped:
        main([word for pair in given.items() for word in pair])
    assert stopped.value.code == 2
    assert f"required: {missing}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=0.05", ("lr", 0.05)),
        ("milestones=(3, 4)", ("milestones", (3, 4))),
        ("milestones=[3, 4]", ("milestones", (3, 4))),
        ("decay_theta=False", ("decay_theta", False)),
        ("decay_theta=true", ("decay_theta", True)),
        ("selection=last", ("selection", "last")),
        ("source=a=b", ("source", "a=b")),
    ],
)
def test_values_on_the_command_line(text: str, expected: tuple[str, Any]) -> None:
    assert parse_setting("--set", text) == expected
