"""Training from the recipe to the record: what is computed, in which order, and what is left behind."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pure import data, layers, models, records, train
from pure.blocks import BasicBlock, ProductUnitBlock
from pure.data import ImageSet, Splits
from pure.models import ResidualNetwork
from pure.recipes import get_recipe
from pure.records import RECORD_NAME, RunRecord
from pure.train import WEIGHTS_NAME, fit, load_run, main, predict, run_folder, thresholds

CPU = torch.device("cpu")
QUICK = {"epochs": 1, "batch_size": 128}
"""Not to learn anything: to run through every line."""


def pure8(num_classes: int, in_channels: int, **unit: Any) -> nn.Module:
    """One block in each stage: the smallest network of the family, in a third of PURe20's time."""
    block = partial(ProductUnitBlock, unit=partial(layers.ProductUnit2d, **unit))
    return ResidualNetwork(block, [1, 1, 1], num_classes=num_classes, in_channels=in_channels)


def resnet8(num_classes: int, in_channels: int) -> nn.Module:
    sizes = {"num_classes": num_classes, "in_channels": in_channels}
    return ResidualNetwork(BasicBlock, [1, 1, 1], shortcut="A", activation=nn.ReLU, **sizes)


@pytest.fixture(autouse=True, scope="module")
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models._REGISTRY, "pure8", pure8)
        patch.setitem(models._REGISTRY, "resnet8", resnet8)
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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_times(record: RunRecord) -> dict[str, Any]:
    values = record.model_dump(exclude={"times"})
    for epoch in values["epochs"]:
        del epoch["train_s"], epoch["validation_s"]
    return values


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
    assert records.load(folder / RECORD_NAME) == record
    assert sorted(contents(folder)) == [RECORD_NAME, WEIGHTS_NAME]
    json.loads((folder / RECORD_NAME).read_text(), parse_constant=pytest.fail)  # no NaN, no Infinity: strict JSON


def test_record_holds_what_was_asked_for(finished: tuple[Path, RunRecord]) -> None:
    _, record = finished
    assert record.recipe == get_recipe("digits", "pure", **{**QUICK, "epochs": 2})
    assert record.overrides == ("batch_size", "epochs")
    assert (record.model.name, record.model.options, record.seed) == ("pure8", {}, 0)
    assert record.model.parameters == sum(p.numel() for p in pure8(10, 1).parameters())
    splits = data.load("digits")
    assert record.data.fingerprint == splits.fingerprint
    assert (record.data.train, record.data.validation, record.data.test) == (1078, 359, 360)
    assert record.data.classes == splits.classes
    assert len(record.epochs) == 2
    assert record.test.epoch == 2
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


def test_load_run_gives_the_tested_network_again(finished: tuple[Path, RunRecord]) -> None:
    folder, record = finished
    loaded, network, splits = load_run(folder)
    assert loaded == record
    assert not network.training
    logits = predict(network, splits, splits.test)
    assert (logits.argmax(1) == splits.test.labels).double().mean().item() == record.test.accuracy
    assert F.cross_entropy(logits.double(), splits.test.labels).item() == record.test.loss
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
    with pytest.raises(ValueError, match=r"weights\.pt holds other weights than the record tested; repeat the run"):
        load_run(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"weights\.pt"):
        load_run(folder)


def test_load_run_refuses_other_data(finished: tuple[Path, RunRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data._REGISTRY, "digits", lambda split_seed: data.digits(split_seed + 1))
    with pytest.raises(ValueError, match="data set 'digits' is divided otherwise here"):
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
    assert without_times(again) == without_times(first)
    assert other.epochs[0].train_loss != first.epochs[0].train_loss
    assert other.weights_sha256 != first.weights_sha256
    assert other.data == first.data  # all runs see the same division


def test_the_seed_fixes_initialisation_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    spied: list[tuple[nn.Module, int, float]] = []

    def spy(network: nn.Module, loader: Any, optimiser: torch.optim.Optimizer) -> tuple[float, float]:
        optimiser.step()
        spied.append((copy.deepcopy(network), loader.shuffle.initial_seed(), float(next(iter(loader))[0].sum())))
        return 0.0, 0.0

    monkeypatch.setattr(train, "_train_epoch", spy)
    for seed in (7, 7, 8):
        fit("digits", "pure8", seed=seed, overrides=QUICK)
    weights = [network.get_parameter("conv1.weight") for network, _, _ in spied]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert [seed for _, seed, _ in spied] == [7, 7, 8]
    assert spied[0][2] == spied[1][2] != spied[2][2]


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

    def spy(_: nn.Module, __: Any, optimiser: torch.optim.Optimizer) -> tuple[float, float]:
        optimiser.step()  # without a gradient: nothing moves, but the schedule sees that it is called in its order
        used.extend({group["lr"] for group in optimiser.param_groups})
        return 0.0, 0.0

    monkeypatch.setattr(train, "_train_epoch", spy)
    record = fit("digits", "pure8", overrides=overrides)
    assert used == pytest.approx(rates, rel=1e-12)
    assert [epoch.lr for epoch in record.epochs] == used


class Linear(nn.Module):
    """A network that can be written out: flattened pixels, one matrix, from zero."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes, 64 * in_channels))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


def test_an_epoch_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models._REGISTRY, "pure_linear", Linear)
    changes = {"epochs": 2, "batch_size": 300, "max_shift": 0, "milestones": (1,)}
    record = fit("digits", "pure_linear", seed=3, overrides=changes)

    splits = data.load("digits")
    mean, std = splits.statistics
    x = ((splits.train.images.float() - mean) / std).flatten(1).double()  # (1078, 64)
    y = splits.train.labels
    held_out = ((splits.validation.images.float() - mean) / std).flatten(1).double()
    weight, velocity = torch.zeros(10, 64).double(), torch.zeros(10, 64).double()
    generator = torch.Generator().manual_seed(3)
    for epoch, rate in zip(record.epochs, (0.01, 0.001), strict=True):
        loss, correct = 0.0, 0
        for rows in torch.randperm(1078, generator=generator).split(300):
            logits = x[rows] @ weight.T
            logarithms = logits.log_softmax(1)
            loss -= float(logarithms[range(len(rows)), y[rows]].sum())
            correct += int((logits.argmax(1) == y[rows]).sum())
            gradient = (logarithms.exp() - F.one_hot(y[rows], 10)).T @ x[rows] / len(rows) + 0.001 * weight
            velocity = 0.9 * velocity + gradient
            weight = weight - rate * velocity
        assert epoch.train_loss == pytest.approx(loss / 1078, rel=1e-5)
        assert epoch.train_accuracy == correct / 1078
        logits = held_out @ weight.T
        expected = -float(logits.log_softmax(1)[range(359), splits.validation.labels].mean())
        assert epoch.validation_loss == pytest.approx(expected, rel=1e-5)
        assert epoch.validation_accuracy == pytest.approx(
            float((logits.argmax(1) == splits.validation.labels).double().mean())
        )
    assert record.thresholds == {}


def test_training_is_in_training_mode_and_validation_in_evaluation_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[tuple[int, bool, bool]] = []

    class Spy(Linear):
        def forward(self, x: Tensor) -> Tensor:
            modes.append((len(x), self.training, torch.is_grad_enabled()))
            return super().forward(x)

    monkeypatch.setitem(models._REGISTRY, "pure_spy", Spy)
    fit("digits", "pure_spy", overrides={"epochs": 2, "batch_size": 1078})
    epoch = [(1078, True, True), (359, False, False)]
    assert modes == [*epoch, *epoch, (360, False, False)]


def test_predict_keeps_the_order_and_does_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = data.load("digits")
    network = pure8(10, 1).train()
    whole = predict(network, splits, splits.test)
    assert whole.shape == (360, 10)
    assert not network.training
    monkeypatch.setattr(train, "_EVALUATION_BATCH", 7)
    torch.testing.assert_close(predict(network, splits, splits.test), whole)


# Weight decay of theta


def test_decay_of_theta_by_parameter_groups() -> None:
    network = pure8(10, 1)
    names = {id(parameter): name for name, parameter in network.named_parameters()}

    def groups(**overrides: Any) -> list[tuple[float, set[str]]]:
        plan = get_recipe("digits", "pure", **overrides)
        return [
            (group["weight_decay"], {names[id(parameter)] for parameter in group["params"]})
            for group in train._parameter_groups(network, plan)
        ]

    thetas = {name for name in names.values() if name.endswith(".theta")}
    assert len(thetas) == 3
    assert groups() == [(0.001, set(names.values()))]
    assert groups(decay_theta=False) == [(0.001, set(names.values()) - thetas), (0.0, thetas)]


@pytest.mark.parametrize(("decay_theta", "left"), [(True, (1 - 0.1 * 0.5) ** 3), (False, 1.0)])
def test_decay_of_theta_by_its_effect(decay_theta: bool, left: float, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bystander(Linear):
        """Has a theta and another parameter that the loss does not depend on: only the decay moves them."""

        def __init__(self, num_classes: int, in_channels: int) -> None:
            super().__init__(num_classes, in_channels)
            self.theta = nn.Parameter(torch.ones(()))
            self.other = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0 * (self.theta + self.other)

    made: list[Bystander] = []

    def entry(**sizes: int) -> Bystander:
        made.append(Bystander(**sizes))
        return made[-1]

    monkeypatch.setitem(models._REGISTRY, "pure_bystander", entry)
    changes = {"weight_decay": 0.5, "lr": 0.1, "momentum": 0.0, "batch_size": 1078, "epochs": 3, "milestones": ()}
    fit("digits", "pure_bystander", overrides={**changes, "decay_theta": decay_theta})
    (network,) = made
    assert network.theta.item() == pytest.approx(left, rel=1e-6)
    assert network.other.item() == pytest.approx((1 - 0.1 * 0.5) ** 3, rel=1e-6)


def test_a_network_without_theta_can_be_exempted_too() -> None:
    assert fit("digits", "resnet8", overrides={**QUICK, "decay_theta": False}).thresholds == {}


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
    def step(network: nn.Module, _: Any, optimiser: torch.optim.Optimizer) -> tuple[float, float]:
        optimiser.step()
        with torch.no_grad():
            network.weight += 1  # type: ignore[operator]
        return 0.0, 0.0

    monkeypatch.setitem(models._REGISTRY, "pure_counter", Counter)
    monkeypatch.setattr(train, "_train_epoch", step)
    score, given = train._score, iter(losses)

    def scored(logits: Tensor, subset: ImageSet) -> tuple[float, float]:
        return (next(given), 0.5) if len(subset.labels) == 359 else score(logits, subset)

    monkeypatch.setattr(train, "_score", scored)
    changes = {"epochs": 4, "selection": selection}
    record = fit("digits", "pure_counter", out=tmp_path, overrides=changes)

    assert record.test.epoch == selected
    _, network, splits = load_run(tmp_path)
    assert network.weight.item() == selected
    # by hand: the true class has logit `selected` where it is 0, else 0, beside nine others
    zeros = int((splits.test.labels == 0).sum())
    expected = math.log(math.exp(selected) + 9) - selected * zeros / 360
    assert record.test.loss == pytest.approx(expected, rel=1e-9)
    written = records.load(tmp_path / RECORD_NAME)
    assert [epoch.validation_loss for epoch in written.epochs] == pytest.approx(losses, nan_ok=True)


# The test set


def test_the_test_set_is_used_once_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = data.load("digits")
    monkeypatch.setitem(data._REGISTRY, "digits", lambda split_seed: splits)
    used: list[str] = []
    loader = train.DeviceLoader

    def spy(images: ImageSet, *rest: Any, **more: Any) -> Any:
        used.append(
            {id(splits.train): "train", id(splits.validation): "validation", id(splits.test): "test"}[id(images)]
        )
        return loader(images, *rest, **more)

    monkeypatch.setattr(train, "DeviceLoader", spy)
    fit("digits", "pure8", overrides={**QUICK, "epochs": 3, "selection": "lowest-validation-loss"})
    assert used == ["train", "validation", "validation", "validation", "test"]


@pytest.mark.parametrize("selection", ["last", "lowest-validation-loss"])
def test_another_test_set_changes_nothing_but_the_test(selection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {**QUICK, "epochs": 2, "selection": selection}
    first = fit("digits", "pure8", overrides=changes)
    real = data.load("digits")
    upside_down = ImageSet(real.test.images.flip(2), (real.test.labels + 1) % 10)
    other = Splits(real.name, real.classes, real.train, real.validation, upside_down)
    monkeypatch.setitem(data._REGISTRY, "digits", lambda split_seed: other)
    second = fit("digits", "pure8", overrides=changes)
    assert second.weights_sha256 == first.weights_sha256
    left, right = without_times(first), without_times(second)
    assert {field for field in left if left[field] != right[field]} == {"data", "test"}


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
    monkeypatch.setattr(train, "_train", lambda *_: pytest.fail("it trained"))
    with pytest.raises(FileExistsError, match=r"already holds a finished record; .* --overwrite \(overwrite=True\)"):
        fit("digits", "pure8", seed=1, out=folder, overrides=QUICK)
    assert contents(folder) == before


def test_overwrite_replaces_record_and_weights(finished: tuple[Path, RunRecord], tmp_path: Path) -> None:
    folder = copied(finished[0], tmp_path / "copy")
    record = fit("digits", "pure8", seed=1, out=folder, overrides=QUICK, overwrite=True)
    assert record.seed == 1
    assert load_run(folder)[0] == record
    assert sorted(contents(folder)) == [RECORD_NAME, WEIGHTS_NAME]


@pytest.mark.parametrize("where", ["_train_epoch", "_test", "_serialise", "write_atomically"])
def test_a_crash_leaves_no_record_and_no_temporary_file(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> Any:
        raise RuntimeError("pulled the plug")

    monkeypatch.setattr(train, where, crash)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        fit("digits", "pure8", out=tmp_path / "run", overrides=QUICK)
    assert contents(tmp_path) == {}


def test_a_crash_while_the_record_is_written_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def crash(source: str, target: Path) -> None:
        if Path(target).name == RECORD_NAME:
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="disk full"):
        fit("digits", "pure8", out=tmp_path, overrides=QUICK)
    assert list(contents(tmp_path)) == [WEIGHTS_NAME]


@pytest.mark.parametrize(("where", "left"), [("_train_epoch", [RECORD_NAME, WEIGHTS_NAME]), ("write", [WEIGHTS_NAME])])
def test_a_crash_when_overwriting_leaves_the_old_run_or_none(
    where: str, left: list[str], finished: tuple[Path, RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> Any:
        raise RuntimeError("pulled the plug")

    folder = copied(finished[0], tmp_path / "copy")
    monkeypatch.setattr(RunRecord if where == "write" else train, where, crash)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        fit("digits", "pure8", seed=1, out=folder, overrides=QUICK, overwrite=True)
    assert sorted(contents(folder)) == left
    if RECORD_NAME in left:
        assert load_run(folder)[0] == finished[1]


def test_out_that_is_a_file_or_lies_below_one_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_train", lambda *_: pytest.fail("it trained"))
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
        ({"model": "pure21"}, ValueError, r"unknown model 'pure21'; did you mean pure"),
        ({"overrides": {"epoch": 1}}, ValueError, r"no field 'epoch'; did you mean 'epochs'\?"),
        ({"overrides": {"dataset": "digit"}}, ValueError, r"unknown data set 'digit'; did you mean 'digits'\?"),
        ({"model_options": {"stride": 2}}, TypeError, "pure20 has no option stride"),
        ({"model_options": {"granularity": "pixel"}}, ValueError, "pixel"),
        ({"device": "gpu"}, ValueError, "cannot use device 'gpu'; give cpu"),
    ],
)
def test_bad_input_is_refused_before_the_training_and_leaves_no_folder(
    arguments: dict[str, Any], error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_train", lambda *_: pytest.fail("it trained"))
    with pytest.raises(error, match=message):
        fit(**{"recipe": "digits", "model": "pure20", "out": tmp_path / "run", **arguments})
    assert not (tmp_path / "run").exists()


def test_an_option_that_no_record_can_hold_is_refused_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_train", lambda *_: pytest.fail("it trained"))
    monkeypatch.setitem(models._REGISTRY, "pure_any", lambda extra, **sizes: Linear(**sizes))
    with pytest.raises(ValueError, match=r"ModelSummary\noptions\.extra"):
        fit("digits", "pure_any", model_options={"extra": {"blocks": 1}})


def test_the_complex_unit_trains_in_a_network() -> None:
    record = fit("digits", "pure20", model_options={"unit": "complex"}, overrides={"epochs": 3})
    losses = [epoch.train_loss for epoch in record.epochs]
    assert all(map(math.isfinite, losses))
    assert record.epochs[-1].train_accuracy > 0.6  # chance is a tenth


# The command line


def test_command_line_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = ["--recipe", "digits", "--model", "pure20", "--seed", "3", "--out", "run", "--epochs", "1"]
    command += ["--set", "batch_size=256", "--set", "selection=lowest-validation-loss", "--device", "cpu"]
    root = Path(train.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pure.train", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")  # no bar where there is no terminal
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
        (["--model", "pur20"], "unknown model 'pur20'; did you mean pure"),
        (["--set", "weightdecay=0"], "has no field 'weightdecay'; did you mean 'weight_decay'?"),
        (["--set", "lr"], "--set expects NAME=VALUE, got 'lr'; for example --set lr=0.05"),
        (["--option", "shortcut"], "--option expects NAME=VALUE, got 'shortcut'"),
        (["--option", "shortcut=C"], "unknown shortcut 'C'"),
        (["--option", "shortcuts=A"], "has no option shortcuts"),
        (["--set", "lr=fast"], "lr\n  Input should be a valid number"),
        (["--set", "decay_theta=false"], "decay_theta\n  Input should be a valid boolean"),
        (["--epochs", "0"], "epochs\n  Input should be greater than 0"),
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
    assert "--overwrite" in capsys.readouterr().err
    assert contents(folder) == before
    assert main([*given, "--overwrite"]) == 0
    assert records.load(folder / RECORD_NAME).recipe.epochs == 1


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
        ("decay_theta=False", ("decay_theta", False)),
        ("selection=last", ("selection", "last")),
        ("source=a=b", ("source", "a=b")),
    ],
)
def test_values_on_the_command_line(text: str, expected: tuple[str, Any]) -> None:
    assert train._parse_setting("--set", text) == expected
