"""The look inside a network: values worked out by hand, the layer at fault by name, and nothing changed by looking."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import pure
from pure.records import Unit
from pure.train.monitor import ABSURD, first_nonfinite, gradient_norm, inner, is_absurd, observe_units


def images(number: int = 4) -> Tensor:
    return torch.randn(number, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def labels(number: int = 4) -> Tensor:
    return torch.arange(number) % 3


def network(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return pure.create_model("pure20", 3, blocks=[1, 1], widths=[4, 8], **options)


@pytest.fixture
def group_of_one(tmp_path: Any) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


# Product units


@pytest.mark.parametrize(
    ("granularity", "threshold", "clamped"),
    # inputs 0.5 2 / 1 4: of four, those not above tau.  With a tau for each input: 0.5 <= 0.5, 1 > 0.5, 2 <= 3, 4 > 3
    [("layer", 1.0, 0.5), ("channel", (0.5, 3.0), 0.5)],
)
def test_state_of_a_dense_unit_by_hand(granularity: Any, threshold: Any, clamped: float) -> None:
    unit = pure.ProductUnit(2, 1, granularity=granularity, eps=0.0, threshold="exp")
    with torch.no_grad():
        unit.theta.copy_(torch.tensor(threshold).log())
        unit.weight.copy_(torch.tensor([[2.0, -1.0]]))
    (state,) = observe_units(nn.Sequential(unit), torch.tensor([[0.5, 2.0], [1.0, 4.0]])).values()
    assert state.threshold == pytest.approx(threshold, rel=1e-6)
    assert state.clamped == clamped
    if granularity == "layer":  # 2 log 1 - log 2 and 2 log 1 - log 4
        assert state.exponent == pytest.approx((-math.log(4), -math.log(2)), rel=1e-5)
    else:  # 2 log 0.5 - log 3 and 2 log 1 - log 4
        assert state.exponent == pytest.approx((2 * math.log(0.5) - math.log(3), -math.log(4)), rel=1e-5)


def test_state_of_a_convolutional_unit_by_hand() -> None:
    unit = pure.ProductUnit2d(2, 1, 1, granularity="channel", eps=0.0, threshold="exp")
    with torch.no_grad():
        unit.theta.copy_(torch.tensor([1.0, 2.0]).log())
        unit.weight.copy_(torch.tensor([100.0, -200.0]).view(1, 2, 1, 1))
    x = torch.tensor([[[1.0, 3.0, -5.0]], [[4.0, 1.5, 8.0]]])[None]  # (1, 2, 1, 3)
    (state,) = observe_units(nn.Sequential(unit), x).values()
    # at the threshold: 1 and -5 of the first channel, 1.5 of the second
    assert (state.threshold, state.clamped) == ((1.0, 2.0), 0.5)
    z = [-200 * math.log(4), 100 * math.log(3) - 200 * math.log(2), -200 * math.log(8)]
    assert state.exponent == pytest.approx((min(z), max(z)), rel=1e-5)  # exp(-416) is zero in float32


@pytest.mark.parametrize("exponent", [200.0, -200.0, 1e6])
def test_exponent_is_known_where_the_product_overflows(exponent: float) -> None:
    unit = pure.ProductUnit(1, 1)
    with torch.no_grad():
        unit.weight.fill_(exponent)
    x = torch.tensor([[math.e]])
    assert unit(x).item() in (0.0, math.inf)
    assert observe_units(unit, x)[""].exponent == pytest.approx((exponent, exponent), rel=1e-5)


def test_exponent_of_a_stabilised_unit_is_the_bounded_one() -> None:
    unit = pure.StabilisedProductUnit(1, 1, smoothness=None, bound=11.0)
    with torch.no_grad():
        unit.weight.fill_(100.0)
    expected = 11 * math.tanh(100 / 11)
    assert observe_units(unit, torch.tensor([[math.e]]))[""].exponent == pytest.approx((expected, expected), rel=1e-5)


@pytest.mark.parametrize("eps", [0.5, 0.0])
def test_state_of_a_complex_unit_is_that_of_magnitudes(eps: float) -> None:
    unit = pure.ComplexProductUnit(2, 1, eps=eps)
    with torch.no_grad():
        unit.weight.copy_(torch.tensor([[1.5, 2.0]]))
    (state,) = observe_units(nn.Sequential(unit), torch.tensor([[-0.25, -3.0]])).values()
    assert (state.threshold, state.clamped) == (eps, 0.5 if eps else 0.0)
    z = 1.5 * math.log(max(0.25, eps)) + 2 * math.log(3)
    assert state.exponent == pytest.approx((z, z), rel=1e-5)


@pytest.mark.parametrize("unit", ["paper", "stabilised", "complex"])
def test_every_unit_of_a_network_has_its_name_and_six_digits(unit: str) -> None:
    states = observe_units(network(unit=unit), images())
    assert list(states) == ["layer1.0.conv2", "layer2.0.conv2"]
    for state in states.values():
        assert state.threshold == 0.693147
        assert 0 < state.clamped < 1
        assert state.exponent[0] < 0 < state.exponent[1]
        assert all(value == float(f"{value:.6g}") for value in (state.clamped, *state.exponent))


def test_exponent_of_the_complex_convolution_against_the_plain_one() -> None:
    # Positive inputs: both units are the same product
    plain, other = pure.ProductUnit2d(2, 3, 3, 2, 1, threshold=0.5), pure.ComplexProductUnit2d(2, 3, 3, 2, 1, eps=0.5)
    other.weight = plain.weight
    x = torch.rand(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    assert observe_units(other, x)[""] == observe_units(plain, x)[""]


def test_a_network_without_product_units_is_not_run() -> None:
    assert observe_units(pure.create_model("resnet20"), torch.zeros(0)) == {}


def test_state_does_not_depend_on_autocast_but_for_the_inputs() -> None:
    unit = pure.ProductUnit(8, 8)
    x = torch.rand(16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert observe_units(unit, x) == observe_units(unit, x.clone())
        lowered = observe_units(unit, x)
    assert lowered == observe_units(unit, x)


# Nothing is changed by looking


def everything(net: nn.Module) -> dict[str, Any]:
    return {
        "state": {name: value.clone() for name, value in net.state_dict().items()},
        "gradients": {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None},
        "modes": [module.training for module in net.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()],
        "random": torch.get_rng_state(),
    }


def same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return torch.equal(first, second) if isinstance(first, Tensor) else first == second


@pytest.mark.parametrize("look", ["observe", "repeat"])
def test_looking_changes_nothing(look: str) -> None:
    net = nn.Sequential(network(), nn.Dropout(0.5))  # which draws
    net[0].bn1.eval()  # its own mode
    net(images()).sum().backward()
    before = everything(net)
    x = images()
    if look == "observe":
        observe_units(net, x)
    else:
        first_nonfinite(net, x, labels())
    assert same(everything(net), before)
    assert torch.equal(x, images())
    assert all(not parameter.requires_grad or parameter.grad is not None for parameter in net.parameters())


def test_looking_changes_nothing_when_the_network_fails() -> None:
    net = network()
    before = everything(net)
    with pytest.raises(ValueError, match="too small"):
        observe_units(net, images()[..., :1, :1])
    with pytest.raises(ValueError, match="too small"):
        first_nonfinite(net, images()[..., :1, :1], labels())
    assert same(everything(net), before)


def test_wrapped_and_compiled_networks_are_looked_at_from_within(group_of_one: None) -> None:
    expected = observe_units(network(), images())
    wrapped = DistributedDataParallel(network())
    compiled = torch.compile(wrapped, backend="eager")
    in_place = network()
    in_place.compile(backend="eager")
    in_place.eval()(images())
    for net in (wrapped, compiled, in_place):
        assert observe_units(net, images()) == expected
        assert "is finite" in first_nonfinite(net, images(), labels()).reason
    assert inner(compiled) is wrapped.module
    with torch.compiler.set_stance("fail_on_recompile"):
        in_place(images())  # the hooks are gone


# The first layer that is not finite


def test_overflow_of_a_unit_is_found_and_explained() -> None:
    net = network()
    with torch.no_grad():
        net.layer2[0].conv2.weight.mul_(1e4)
    found = first_nonfinite(net, images(), labels())
    assert (found.quantity, found.layer) == ("loss", "layer2.0.conv2")
    exponent = observe_in_training(net)
    assert found.reason.startswith("output of ProductUnit2d: of 512 values ")
    assert (
        f"exponents from {exponent[0]:.6g} to {exponent[1]:.6g} (the exponential overflows float32 beyond 88.7228)"
        in (found.reason)
    )


def observe_in_training(net: nn.Module) -> tuple[float, float]:
    """Range of the exponent of the second unit in training mode, by the formula."""
    caught: list[Tensor] = []
    unit = net.layer2[0].conv2
    hook = unit.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    net.train()(images())
    hook.remove()
    tau = unit.threshold.double()
    z = nn.functional.conv2d(torch.maximum(caught[0].double(), tau).log(), unit.weight.double(), padding=1).detach()
    return float(z.min()), float(z.max())


def test_output_that_is_not_a_number_is_counted() -> None:
    net = nn.Sequential(nn.Identity(), nn.Threshold(0.0, math.nan), nn.Linear(3, 3))
    x = torch.tensor([[1.0, -2.0, -3.0], [4.0, 5.0, 0.5]])
    found = first_nonfinite(net, x, torch.tensor([0, 1]))
    assert (found.quantity, found.layer) == ("loss", "1")
    assert found.reason == ("output of Threshold: of 6 values 2 NaN, the others from 0.5 to 5; inputs from -3 to 5")


class Power(nn.Module):
    """The square root, whose gradient at zero is infinite while all outputs are finite."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


@pytest.mark.parametrize("inplace", [False, True])
def test_the_layer_whose_backward_is_not_finite_is_found(inplace: bool) -> None:
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(inplace), Power(), nn.Linear(2, 2), nn.ReLU(inplace))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[-1.0, 0.0], [0.0, 1.0]]))  # the first unit is at zero after the ReLU
    found = first_nonfinite(net, torch.tensor([[1.0, 2.0]]), torch.tensor([1]))
    assert (found.quantity, found.layer) == ("gradient", "2")
    assert found.reason.startswith("gradient of its input: of 2 values 1 infinite, the others from ")


class Scaled(nn.Module):
    """Multiplies by a parameter; the gradient of the parameter overflows where that of the input does not."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1e-30))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_a_gradient_of_the_weights_alone_is_found() -> None:
    net = nn.Sequential(nn.Linear(2, 2), Scaled(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.fill_(1e38)
        net[0].bias.zero_()
        net[2].weight.copy_(torch.tensor([[1e4, 1e4], [-1e4, -1e4]]))
        net[2].bias.zero_()

    def forward(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return network(x).sum(0)[0]

    found = first_nonfinite(net, torch.tensor([[0.5, 0.5]]), torch.tensor([1]), forward)
    assert (found.quantity, found.layer) == ("gradient", "1")
    assert found.reason == "gradient of its factor: of 1 values 1 infinite"


def test_weights_and_images_that_are_not_finite_come_first() -> None:
    net = network()
    broken = images()
    broken[0, 0, 0, 0] = -math.inf
    low, high = float(images().flatten()[1:].min()), float(images().max())
    found = first_nonfinite(net, broken, labels())
    assert found[:2] == ("loss", None)
    assert found.reason == (
        f"the images were not finite: of 768 values 1 infinite, the others from {low:.6g} to {high:.6g}"
    )
    with torch.no_grad():
        net.layer1[0].conv2.theta.fill_(math.nan)
    assert first_nonfinite(net, broken, labels()) == (
        "weights",
        "layer1.0.conv2",
        "theta was not finite before the step: of 1 values 1 NaN",
    )


def test_loss_alone_and_norm_alone() -> None:
    net = nn.Sequential(nn.Linear(2, 2))

    def infinite(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return network(x).sum() / 0.0

    def steep(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return 1e30 * network(x)[0, 0]

    x, y = torch.ones(1, 2), torch.tensor([0])
    found = first_nonfinite(net, x, y, infinite)
    assert found[:2] == ("loss", None)
    assert found.reason.startswith("every layer is finite, but the loss is ")
    assert first_nonfinite(net, x, y, steep) == (
        "gradient",
        None,
        "every value of the gradient is finite, up to 1e+30, but its norm overflows",
    )


def test_a_step_that_is_finite_when_repeated_says_so() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.zero_()
    # loss ln 2; gradient (1/2, -1/2) times the input (3, 4) and 1: norm sqrt(2 (9 + 16 + 1)) / 2
    found = first_nonfinite(net, torch.tensor([[3.0, 4.0]]), torch.tensor([0]))
    norm = math.sqrt(2 * 26) / 2
    assert found == (
        "loss",
        None,
        f"the step, repeated, is finite: loss {math.log(2):.6g}, norm of the gradient {norm:.6g}",
    )


def test_a_training_at_a_rate_of_ten_diverges_and_the_layer_is_named() -> None:
    net = network()
    optimiser = torch.optim.SGD(net.parameters(), lr=10.0, momentum=0.9)
    for _ in range(100):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(images()), labels())
        loss.backward()
        if not (loss.isfinite() and gradient_norm(net).isfinite()):
            break
        optimiser.step()
    found = first_nonfinite(net, images(), labels())
    names = dict(net.named_modules())
    assert found.quantity == ("loss" if not loss.isfinite() else "gradient")
    assert found.layer in names or "norm" in found.reason


# Norms and losses


def test_norm_of_the_whole_gradient() -> None:
    net = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    net[0].weight.grad = torch.tensor([[3.0, 4.0]])
    net[1].bias.grad = torch.tensor([12.0])
    assert float(gradient_norm(net)) == 13.0
    assert float(gradient_norm(nn.Linear(1, 1))) == 0.0


@pytest.mark.parametrize(
    ("loss", "classes", "absurd"),
    [
        (math.log(10), 10, False),
        (ABSURD * math.log(10), 10, False),
        (ABSURD * math.log(10) + 0.1, 10, True),
        (ABSURD * math.log(10) + 0.1, 11, False),
        (1e28, 1000, True),
        (math.inf, 10, True),
        (math.nan, 10, True),
        (0.1, 1, False),
    ],
)
def test_absurd_losses(loss: float, classes: int, absurd: bool) -> None:
    assert is_absurd(loss, classes) is absurd


def test_states_are_what_records_hold() -> None:
    state = observe_units(pure.ProductUnit(2, 2), torch.rand(3, 2))[""]
    assert Unit.model_validate_json(state.model_dump_json()) == state
