"""The training step by step: written out by hand, in parts, cut, and where it stops being finite."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training import SMALL, pure8, resnet8, train_epochs

from pure import data
from pure.data import Images, ImageSet, Splits
from pure.data.loaders import make_loader
from pure.execution import get_execution
from pure.models import registry
from pure.nn.units import ProductUnit2d
from pure.recipes import Recipe, get_recipe
from pure.records import Divergence, RunRecord
from pure.train import engine, fit
from pure.train.distributed import Group
from pure.train.engine import Diverged, Engine, parameter_groups
from pure.train.monitor import observe_units

CPU = torch.device("cpu")
ALONE = Group(0, 1, CPU)


@pytest.fixture(autouse=True, scope="module")
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, entry in SMALL.items():
            patch.setitem(registry.REGISTRY, name, entry)
        yield


class Linear(nn.Module):
    """A network that can be written out: flattened pixels, one matrix, from zero."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes, 64 * in_channels))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


def digits_recipe(**overrides: Any) -> Recipe:
    return get_recipe("digits", "pure", **overrides)


def engine_for(
    network: nn.Module,
    splits: Splits | None = None,
    seed: int = 0,
    execution: dict[str, Any] | None = None,
    **overrides: Any,
) -> Engine:
    recipe = digits_recipe(**overrides)
    return Engine(network, splits or data.load("digits"), recipe, get_execution(execution), seed, ALONE)


def run(network: nn.Module, splits: Splits | None = None, **settings: Any) -> Engine:
    trained = engine_for(network, splits, **settings)
    train_epochs(trained)
    return trained


# A training written out


@pytest.mark.parametrize(("micro_batches", "clip_norm"), [(1, None), (4, None), (1, 1.0), (4, 1.0)])
def test_an_epoch_written_out(micro_batches: int, clip_norm: float | None) -> None:
    changes = {"epochs": 2, "batch_size": 300, "augmentation": "none", "milestones": (1,)}
    parts = {"micro_batches": micro_batches}
    trained = run(Linear(10, 1), seed=3, execution=parts, **changes, clip_norm=clip_norm)

    splits = data.load("digits")
    assert splits.validation is not None
    loader = make_loader(splits.train, splits.statistics, 300, CPU, shuffle=True, seed=3)
    ((x, y),) = make_loader(splits.validation, splits.statistics, 1000, CPU)
    weight, velocity = torch.zeros(10, 64).double(), torch.zeros(10, 64).double()
    for number, (epoch, rate) in enumerate(zip(trained.epochs, (0.01, 0.001), strict=True), 1):
        loss, correct, among_five, norms = 0.0, 0, 0, []
        loader.set_epoch(number)
        for images, labels in loader:
            pixels = images.flatten(1).double()
            logits = pixels @ weight.T
            logarithms = logits.log_softmax(1)
            loss -= float(logarithms[range(len(labels)), labels].sum())
            correct += int((logits.argmax(1) == labels).sum())
            rank = (logits > logits.gather(1, labels[:, None])).sum(1)  # how many classes are likelier
            among_five += int((rank < 5).sum())
            gradient = (logarithms.exp() - F.one_hot(labels, 10)).T @ pixels / len(labels)
            norms.append(float(gradient.norm()))
            if clip_norm is not None:
                gradient *= min(1.0, clip_norm / (norms[-1] + 1e-6))
            velocity = 0.9 * velocity + gradient + 0.001 * weight
            weight = weight - rate * velocity
        assert epoch.lr == pytest.approx(rate, rel=1e-12)
        assert epoch.train.loss == pytest.approx(loss / 1078, rel=1e-5)
        assert epoch.train.accuracy == correct / 1078
        if number == 2:  # at first all logits are equal
            assert epoch.train.top5 == among_five / 1078
        assert epoch.gradient_norm == pytest.approx(sum(norms) / 4, rel=1e-5)  # before it is cut
        assert clip_norm is None or max(norms) > clip_norm
        logits = x.flatten(1).double() @ weight.T
        assert epoch.validation is not None
        expected = -float(logits.log_softmax(1)[range(359), y].mean())
        assert epoch.validation.loss == pytest.approx(expected, rel=1e-5)
        assert epoch.validation.accuracy == int((logits.argmax(1) == y).sum()) / 359
        assert epoch.units == {}


def test_training_is_in_training_mode_and_validation_in_evaluation_mode() -> None:
    modes: list[tuple[int, bool, bool]] = []

    class Spy(Linear):
        def forward(self, x: Tensor) -> Tensor:
            modes.append((len(x), self.training, torch.is_grad_enabled()))
            return super().forward(x)

    run(Spy(10, 1), epochs=2, batch_size=1078)
    assert modes[0] == modes[3] == (1078, True, True)
    assert modes[1:3] == modes[4:] == [(256, False, False), (103, False, False)]


def test_running_statistics_move_once_a_batch_whatever_its_parts() -> None:
    splits = data.load("digits")

    def statistics(parts: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        network = resnet8(10, 1)
        # a rate of almost nothing: the weights stay, the statistics move
        run(network, splits, epochs=1, batch_size=98, lr=1e-30, weight_decay=0.0, execution={"micro_batches": parts})
        return network.bn1.running_mean, network.conv1.weight  # type: ignore[return-value]

    (whole, weights), (halves, same_weights) = statistics(1), statistics(2)
    assert torch.equal(weights, same_weights)
    torch.testing.assert_close(halves, whole, rtol=1e-4, atol=1e-5)  # means of parts average to that of the whole
    assert whole.abs().max() > 0.01


# Weight decay of theta


def test_decay_of_theta_by_parameter_groups() -> None:
    network = pure8(10, 1)
    names = {id(parameter): name for name, parameter in network.named_parameters()}

    def groups(network: nn.Module, **overrides: Any) -> list[tuple[float, set[str]]]:
        return [
            (group["weight_decay"], {names[id(parameter)] for parameter in group["params"]})
            for group in parameter_groups(network, digits_recipe(**overrides))
        ]

    thetas = {name for name in names.values() if name.endswith(".theta")}
    assert len(thetas) == 3
    assert groups(network) == [(0.001, set(names.values()))]
    assert groups(network, decay_theta=False) == [(0.001, set(names.values()) - thetas), (0.0, thetas)]


@pytest.mark.parametrize(("decay_theta", "left"), [(True, (1 - 0.1 * 0.5) ** 3), (False, 1.0)])
def test_decay_of_theta_by_its_effect(decay_theta: bool, left: float) -> None:
    class Bystander(Linear):
        """Has a theta and another parameter that the loss does not depend on: only the decay moves them."""

        def __init__(self, num_classes: int, in_channels: int) -> None:
            super().__init__(num_classes, in_channels)
            self.theta = nn.Parameter(torch.ones(()))
            self.other = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0 * (self.theta + self.other)

    network = Bystander(10, 1)
    changes = {"weight_decay": 0.5, "lr": 0.1, "momentum": 0.0, "batch_size": 1078, "epochs": 3, "milestones": ()}
    run(network, **changes, decay_theta=decay_theta)
    assert network.theta.item() == pytest.approx(left, rel=1e-6)
    assert network.other.item() == pytest.approx((1 - 0.1 * 0.5) ** 3, rel=1e-6)


def test_a_network_without_theta_can_be_exempted_too() -> None:
    run(resnet8(10, 1), epochs=1, batch_size=539, decay_theta=False)


# What is measured after an epoch


def test_units_are_those_of_the_network_at_the_end_of_the_epoch() -> None:
    network = pure8(10, 1)
    trained = run(network, epochs=1, batch_size=128)
    expected = observe_units(network, trained._observed())
    assert trained._observed().shape == (64, 1, 8, 8)
    assert trained.epochs[0].units == expected
    assert list(expected) == [f"layer{stage}.0.conv2" for stage in (1, 2, 3)]


@pytest.mark.parametrize("loader", ["device", "workers"])
def test_looking_at_the_units_takes_nothing_from_the_epochs(loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def losses() -> list[float]:
        torch.manual_seed(0)
        trained = run(
            SMALL["pure4"](num_classes=10, in_channels=1), epochs=2, batch_size=300, execution={"loader": loader}
        )
        assert trained.loader.kind == loader
        return [epoch.train.loss for epoch in trained.epochs]

    looked_at = losses()
    monkeypatch.setattr(engine, "observe_units", lambda *_: {})
    monkeypatch.setattr(Engine, "_observed", lambda _: torch.zeros(1, 1, 8, 8))
    assert losses() == looked_at


class Lagging(nn.Module):
    """Right in training mode, and absurd in evaluation mode as long as its running statistics are the initial ones."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(64 * in_channels, momentum=1e-9)
        self.fc = nn.Linear(64 * in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(1e6 * x.flatten(1)))  # type: ignore[no-any-return]


def test_absurd_losses_are_recorded_with_the_value_of_new_statistics_beside_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry.REGISTRY, "pure_lagging", Lagging)
    changes = {"epochs": 3, "batch_size": 128, "lr": 0.1}
    record = fit("digits", "pure_lagging", overrides=changes)
    for epoch in record.epochs:
        assert epoch.validation is not None
        assert epoch.reestimated is not None
        assert epoch.validation.loss > 1e3
        assert epoch.reestimated.loss < 2
    assert record.test is not None
    assert record.test.reestimated is not None
    assert record.test.loss > 1e3
    assert record.test.reestimated.accuracy > 0.8 > record.test.accuracy

    # The training has not seen the new statistics: without them it is the same.
    monkeypatch.setattr(engine, "is_absurd", lambda *_: False)
    without = fit("digits", "pure_lagging", overrides=changes)
    assert without.weights_sha256 == record.weights_sha256
    assert [epoch.train for epoch in without.epochs] == [epoch.train for epoch in record.epochs]
    assert {epoch.reestimated for epoch in without.epochs} == {None}


def test_new_statistics_are_bounded_and_leave_the_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "REESTIMATION_BATCHES", 2)
    network = Lagging(10, 1)
    trained = engine_for(network, batch_size=128)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    twin = trained.reestimated()
    assert isinstance(twin, Lagging)
    assert int(twin.bn.num_batches_tracked) == 2  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert engine_for(Linear(10, 1)).reestimated() is None


# Divergence


def divergence(record: RunRecord) -> Divergence:
    assert record.divergence is not None
    return record.divergence


def test_a_learning_rate_of_ten_is_an_outcome() -> None:
    record = fit("digits", "pure20", overrides={"lr": 10.0, "epochs": 2})
    found = divergence(record)
    assert (found.epoch, found.quantity) == (1, "loss")
    assert found.layer is not None
    assert "the exponential overflows float32 beyond 88.7" in found.reason
    assert (record.test, record.selected, record.noisy, record.epochs) == (None, None, None, ())
    assert all(map(math.isfinite, record.thresholds.values()))  # type: ignore[arg-type]
    assert record.times.total_s > record.times.train_s > 0
    assert record.resources is not None
    assert record.resources.throughput > 0


def test_a_unit_that_overflows_is_named_and_the_epochs_before_are_kept() -> None:
    network = pure8(10, 1)
    trained = engine_for(network, epochs=3, batch_size=128)
    unit = network.get_submodule("layer2.0.conv2")
    assert isinstance(unit, ProductUnit2d)
    before: dict[str, Tensor] = {}

    def spoil() -> bool:
        if trained.done == 9 + 4:  # in the second epoch
            with torch.no_grad():
                unit.weight.fill_(-30.0)
            before.update({name: value.clone() for name, value in network.named_parameters()})
        return False

    with pytest.raises(Diverged) as diverged:
        train_epochs(trained, spoil)
    found = diverged.value.divergence
    assert (found.epoch, found.step, found.quantity, found.layer) == (2, 5, "loss", "layer2.0.conv2")
    assert len(trained.epochs) == 1
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())  # caught in the step


class Steep(Linear):
    """Its loss is finite and its gradient is not, from the third step on."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__(num_classes, in_channels)
        self.head = nn.Identity()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        logits = super().forward(x)
        steep = (logits - logits.detach()).abs().sqrt() if self.calls >= 3 else 0  # 0, of infinite slope
        return self.head(logits + steep)  # type: ignore[no-any-return]


def test_a_gradient_that_is_not_finite_is_caught_before_the_step() -> None:
    network = Steep(10, 1)
    with pytest.raises(Diverged) as diverged:
        run(network, batch_size=128)
    found = diverged.value.divergence
    assert (found.epoch, found.step, found.quantity) == (1, 3, "gradient")
    assert network.weight.isfinite().all()


def test_weights_that_the_last_update_of_an_epoch_leaves_infinite() -> None:
    class Loud(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(1e3 * x)

    network = Loud(10, 1)
    with pytest.raises(Diverged) as diverged:
        run(network, epochs=1, batch_size=1078, lr=3e38, augmentation="none")
    found = diverged.value.divergence
    assert (found.epoch, found.step, found.quantity) == (1, 1, "weights")
    assert found.reason == "weight is not finite after the step"


def test_the_fused_step_leaves_an_update_out_by_the_flag() -> None:
    # What the step relies on where the flag is read late, on CUDA.
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=0.5, fused=True)
    weight.grad = torch.full((3,), math.nan)
    for flag, expected in ((1.0, 1.0), (0.0, None)):
        optimizer.found_inf = torch.tensor(flag)  # type: ignore[attr-defined]
        optimizer.step()
        assert weight[0].item() == expected or (expected is None and weight[0].isnan())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_step_that_a_scaler_leaves_out_leaves_nothing_behind(momentum: float) -> None:
    torch.manual_seed(0)
    halves = {"precision": "float16", "unit_precision": "float16"}
    network = SMALL["pure4"](num_classes=10, in_channels=1)
    trained = engine_for(network, **halves, batch_size=300, epochs=1, momentum=momentum)
    trained.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=1000)  # overflows at first
    before = {name: value.clone() for name, value in network.named_parameters()}

    train_epochs(trained, lambda: True)
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert trained.scaler.get_scale() == 2.0**19
    train_epochs(trained)
    (epoch,) = trained.epochs
    assert epoch.gradient_norm is not None
    assert 0 < epoch.gradient_norm < 100  # steps that were left out do not count
    assert all(value.isfinite().all() and value.abs().max() < 10 for value in network.parameters())


# Validation sets, positions


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"selection": "lowest-validation-loss"}, "selection='lowest-validation-loss'"),
        ({"schedule": "plateau"}, "schedule='plateau'"),
        (
            {"schedule": "plateau", "selection": "lowest-validation-loss"},
            "schedule='plateau' and selection='lowest-validation-loss'",
        ),
    ],
)
def test_without_a_validation_set_what_needs_one_is_refused(overrides: dict[str, Any], named: str) -> None:
    splits = dataclasses.replace(data.load("digits"), validation=None)
    with pytest.raises(ValueError, match=f"needs a validation set for {named}, and 'digits' as it was loaded has none"):
        engine_for(Linear(10, 1), splits, **overrides)


def test_without_a_validation_set_the_last_epoch_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = dataclasses.replace(data.load("digits"), validation=None)
    monkeypatch.setattr(data, "load", lambda *_, **__: splits)
    record = fit("digits", "pure4", overrides={"epochs": 2, "batch_size": 300})
    assert [epoch.validation for epoch in record.epochs] == [None, None]
    assert (record.selected, record.data.validation) == (2, 0)
    assert record.test is not None


def test_a_batch_that_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 32 cannot be cut into 1 ranks x 3 micro-batches of equal size"):
        engine_for(Linear(10, 1), execution={"micro_batches": 3})


def test_settings_for_cuda_are_refused_elsewhere() -> None:
    with pytest.raises(ValueError, match="cuda_graphs needs a CUDA device, and this runs on cpu"):
        engine_for(Linear(10, 1), execution={"cuda_graphs": True})


def test_an_engine_stops_where_it_is_told_and_says_where_it_stands() -> None:
    trained = engine_for(Linear(10, 1), batch_size=300)
    assert trained.position == "after epoch 0 of 16"
    train_epochs(trained, lambda: trained.done >= 5)
    assert trained.done == 6
    assert trained.position == "in epoch 2 of 16, after batch 2/4"


def test_only_training_and_validation_images_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(ImageSet):
        """Whoever reads it has looked at the test set."""

        @property
        def images(self) -> Tensor:  # type: ignore[override]
            pytest.fail("the test set was read")

        def __init__(self) -> None:
            object.__setattr__(self, "labels", torch.zeros(360, dtype=torch.int64))

    splits = data.load("digits")
    refusing: Images = Refusing()
    run(SMALL["pure4"](num_classes=10, in_channels=1), dataclasses.replace(splits, test=refusing), epochs=1)
