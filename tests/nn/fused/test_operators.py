"""The operators against the plain formulas: the same numbers, less kept, and out of the way where they do not hold."""

from __future__ import annotations

import copy
import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._inductor.decomposition import select_decomp_table
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from pure import ComplexProductUnit2d, ProductUnit, ProductUnit2d, StabilisedProductUnit2d
from pure.nn.functional import product_unit, product_unit2d
from pure.nn.fused import dispatch
from pure.nn.fused import operators as ops

LN2 = math.log(2)


def channels_last(x: Tensor) -> Tensor:
    return x.movedim(-3, -1).contiguous().movedim(-1, -3)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": channels_last,
    "strided": lambda x: torch.stack([x, -x], -1)[..., 0],
    "transposed": lambda x: x.mT.contiguous().mT,
}


class Operators(TorchDispatchMode):
    """Collects the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))

    @property
    def ours(self) -> set[str]:
        return {name for name in self.names if name.startswith("pure.")}


def operators(function: Callable[[], Any]) -> set[str]:
    with Operators() as seen:
        function()
    return seen.ours


def every_way(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The output of a function and its gradients: past the dispatcher, by the operators, by the plain formulas."""

    def outcome() -> list[Tensor]:
        leaves = [value.detach().requires_grad_() for value in inputs]
        y = function(*leaves)
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y))
        return [y, *(leaf.grad for leaf in leaves)]

    direct = outcome()
    with Operators() as seen:
        dispatched = outcome()
    assert {"pure.log.default", "pure.log_backward.default"} == seen.ours
    with dispatch.disabled(), Operators() as seen:
        plain = outcome()
    assert seen.ours == set()
    return direct, dispatched, plain


# ------------------------------------------------------------------------------------------------- values and gradients


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 6, 7, 5), (6, 7, 5), (1, 6, 1, 1), (2, 6, 33, 31)])
@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_unit_is_the_formula(
    layout: str, shape: tuple[int, ...], granularity: str, dtype: torch.dtype
) -> None:
    x = LAYOUTS[layout](torch.randn(shape, dtype=dtype) * 2)
    tau = torch.rand(() if granularity == "layer" else (6,), dtype=dtype) + 0.2
    weight = torch.randn(4, 3, 3, 2, dtype=dtype) * 0.3

    def unit(x: Tensor, weight: Tensor, tau: Tensor) -> Tensor:
        return product_unit2d(x, weight, tau, padding=(1, 2), groups=2)

    for direct, got, expected in zip(*every_way(unit, x, weight, tau), strict=True):
        assert torch.equal(direct, got)
        scale = expected.abs().max().item()
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=20 * torch.finfo(dtype).eps * scale)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 1, 3, 5), (0, 5)])
@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_a_dense_unit_is_the_formula(shape: tuple[int, ...], granularity: str) -> None:
    x, weight = torch.randn(shape, dtype=torch.float64) * 2, torch.randn(3, 5, dtype=torch.float64)
    tau = torch.rand(() if granularity == "layer" else (5,), dtype=torch.float64) + 0.2
    for direct, got, expected in zip(*every_way(product_unit, x, weight, tau), strict=True):
        assert torch.equal(direct, got)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding_mode", ["ones", "threshold"])
@pytest.mark.parametrize("threshold", ["softplus", "exp", 0.5])
def test_a_layer_is_the_formula(padding_mode: str, threshold: str | float) -> None:
    unit = ProductUnit2d(4, 6, 3, stride=2, padding=1, padding_mode=padding_mode, threshold=threshold)
    other = copy.deepcopy(unit)
    x = torch.randn(2, 4, 9, 8)
    y = unit(x)
    with dispatch.disabled():
        expected = other(x)
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    for got, wanted in zip(unit.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad)


def test_the_input_is_left_alone() -> None:
    x = torch.randn(3, 4)
    before = x.clone()
    ops.log(x, torch.tensor(0.5), torch.float32)
    assert torch.equal(x, before)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_the_memory_format_stays(layout: str) -> None:
    x = LAYOUTS[layout](torch.randn(2, 3, 5, 4)).requires_grad_()
    y = ops.log(x, torch.tensor(0.5), torch.float32)
    y.sum().backward()  # a gradient that is expanded from one number
    assert y.stride() == x.stride() == x.grad.stride()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tau", [1e-30, 1e-7, 0.1, LN2, 0.999, 1.0, 1.0001, 3.0, 1e5])
def test_an_input_is_clamped_wherever_it_stands_in_the_vector(dtype: torch.dtype, tau: float) -> None:
    """The mask is read off the logarithm, which vectorised code may round differently at the end of an array."""
    for size in [*range(1, 70), 1023, 70_001]:
        threshold = torch.tensor(tau, dtype=dtype, requires_grad=True)
        x = torch.full((size,), tau, dtype=dtype)
        x[::3] *= 1.0001  # above it, next to those that are clamped
        x[1::3] *= 0.5
        x.requires_grad_()
        ops.log(x, threshold, dtype).backward(torch.ones_like(x))
        above = x > threshold
        torch.testing.assert_close(x.grad, torch.where(above, 1 / x, 0.0), rtol=1e-4, atol=0)
        torch.testing.assert_close(threshold.grad.item(), (~above).sum().item() / tau, rtol=1e-4, atol=0)


def test_a_tie_gives_the_threshold_all_of_the_gradient() -> None:
    """The plain formula gives it none; any share is a subgradient."""
    x = torch.tensor([0.5, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    tau = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    y = product_unit(x, torch.tensor([[1.0, 2.0, 1.0]], dtype=torch.float64), tau)
    y.backward()
    assert y.item() == pytest.approx(0.25 * 0.5 * 2)
    torch.testing.assert_close(x.grad.tolist(), [0.0, 0.0, 0.125])
    assert tau.grad.item() == pytest.approx(3 * 0.5**2 * 2)  # of tau**3 * 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_shows_forward_and_backward(bad: float) -> None:
    x, weight = torch.tensor([[1.0, bad], [1.0, 3.0]], requires_grad=True), torch.ones(1, 2, requires_grad=True)
    y = product_unit(x, weight, 0.5)
    assert y.flatten().isnan().tolist() == [True, False]
    y.sum().backward()
    assert x.grad[0].isnan().all()
    torch.testing.assert_close(x.grad[1].tolist(), [3.0, 1.0])
    assert weight.grad.isnan().all()


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_a_threshold_that_is_not_a_number_shows(granularity: str) -> None:
    unit = ProductUnit2d(3, 4, 3, granularity=granularity)
    nn.init.constant_(unit.theta, math.nan)
    y = unit(torch.randn(2, 3, 5, 5))
    y.sum().backward()
    assert y.isnan().all()
    assert unit.weight.grad.isnan().all()
    assert unit.theta.grad.isnan().all()


def test_without_inputs_there_is_an_empty_gradient() -> None:
    x, tau = torch.empty(0, 3, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    product_unit(x, torch.ones(2, 3), tau).sum().backward()
    assert x.grad.shape == (0, 3)
    assert tau.grad.item() == 0


@pytest.mark.parametrize("clamped", [0, 1])
@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_large_gradients_elsewhere_do_not_hide_that_of_the_threshold(clamped: int, granularity: str) -> None:
    x = torch.rand(1000, 1) + 1
    x[:clamped] = 0.1
    grad = torch.randn(1000, 1) * 1e6
    grad[:clamped] = 3
    tau = torch.full(() if granularity == "layer" else (1,), 0.5, requires_grad=True)
    ops.eager_log(x, tau, torch.float32).backward(grad)
    assert tau.grad.item() == 3 * clamped / 0.5


@pytest.mark.parametrize("wanted", [*itertools.product([True, False], repeat=2)])
def test_gradients_of_either_argument_alone(wanted: tuple[bool, bool]) -> None:
    x, tau = torch.tensor([0.2, 4.0]), torch.tensor(0.5)
    x.requires_grad_(wanted[0])
    tau.requires_grad_(wanted[1])
    y = ops.log(x, tau, torch.float32)
    assert y.requires_grad == any(wanted)
    if any(wanted):
        y.sum().backward()
    assert (None if x.grad is None else x.grad.tolist()) == (pytest.approx([0, 0.25]) if wanted[0] else None)
    assert (None if tau.grad is None else tau.grad.item()) == (pytest.approx(2) if wanted[1] else None)


# -------------------------------------------------------------------------------------------------- second derivatives


def smooth_inputs(channels: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Inputs on both sides of the thresholds and away from them."""
    tau = torch.linspace(0.5, 0.8, channels, dtype=torch.float64)
    x = torch.where(torch.rand(shape) < 0.4, 0.2, 1.5) + 0.1 * torch.rand(shape, dtype=torch.float64)
    return x.requires_grad_(), tau.requires_grad_()


def test_first_and_second_derivatives_against_finite_differences() -> None:
    x, tau = smooth_inputs(2, (2, 2, 4, 3))
    weight = (torch.randn(2, 2, 2, 2, dtype=torch.float64) * 0.5).requires_grad_()
    assert operators(lambda: product_unit2d(x, weight, tau)) == {"pure.log.default"}
    assert torch.autograd.gradcheck(product_unit2d, (x, weight, tau))
    assert torch.autograd.gradgradcheck(product_unit2d, (x, weight, tau))


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_second_derivatives_are_those_of_the_formula(granularity: str) -> None:
    x, tau = smooth_inputs(3, (4, 3))
    tau = (tau[0] if granularity == "layer" else tau).detach().requires_grad_()
    weight = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    inputs = (x, weight, tau)

    def second() -> tuple[Tensor, ...]:
        first = torch.autograd.grad(product_unit(*inputs).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), inputs)

    with dispatch.disabled():
        expected = second()
    for got, wanted in zip(second(), expected, strict=True):
        assert wanted.abs().max() > 0
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


# --------------------------------------------------------------------------------------------------------- what is kept


def kept(function: Callable[[], Tensor]) -> set[int]:
    """The memory that a function keeps for its backward pass."""
    found: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return set(found)


def test_the_logarithm_and_the_output_are_kept_and_nothing_else_of_that_size() -> None:
    x, weight, tau = torch.randn(2, 3, 8, 8), torch.randn(3, 3, 1, 1, requires_grad=True), torch.tensor(0.5)
    x.requires_grad_()
    tau.requires_grad_()
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = product_unit2d(x, weight, tau)
    assert x.untyped_storage().data_ptr() not in sizes
    assert sizes[y.untyped_storage().data_ptr()] == y.numel()
    assert sorted(size for size in sizes.values() if size > 9) == [x.numel(), y.numel()]


def test_inference_keeps_nothing() -> None:
    unit, x = ProductUnit2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert kept(lambda: unit(x)) == set()
        assert unit(x).grad_fn is None
    with torch.inference_mode():
        assert unit(x).is_inference()
        torch.testing.assert_close(unit(x), unit(x.clone()))
    unit.requires_grad_(False)
    assert kept(lambda: unit(x)) == set()


# ------------------------------------------------------------------------------------------- neighbours and listeners


def add_in_place(y: Tensor) -> Tensor:
    y += 1
    return y


NEIGHBOURS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.ReLU(inplace=True),
    "sum": add_in_place,
    "part": lambda y: (y[:, :1].mul_(2), y)[1],
    "dropout": lambda y: F.dropout(y, 0.5, training=False, inplace=True).mul_(3),
}
KINDS = [
    lambda: ProductUnit2d(3, 4, 3, padding=1),
    lambda: ProductUnit2d(3, 4, 3, padding=1, padding_mode="threshold", granularity="channel"),
    lambda: StabilisedProductUnit2d(3, 4, 3, padding=1),
    lambda: StabilisedProductUnit2d(3, 4, 3, padding=1, bound=None),
    lambda: ComplexProductUnit2d(3, 4, 3, padding=1, eps=0.1),
]


@pytest.mark.parametrize("mode", [nullcontext, lambda: FlopCounterMode(display=False)])
@pytest.mark.parametrize("neighbour", list(NEIGHBOURS))
@pytest.mark.parametrize("make", KINDS)
def test_a_neighbour_may_write_over_the_output(
    make: Callable[[], nn.Module], neighbour: str, mode: Callable[[], Any]
) -> None:
    unit, x = make(), torch.rand(2, 3, 6, 6, requires_grad=True)
    inputs = (x, *unit.parameters())
    direction = torch.randn(2, 4, 6, 6)
    expected = torch.autograd.grad((NEIGHBOURS[neighbour](unit(x).clone()) * direction).sum(), inputs)
    with mode():
        y = NEIGHBOURS[neighbour](unit(x))
    for got, wanted in zip(torch.autograd.grad((y * direction).sum(), inputs), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_a_dense_unit_before_a_neighbour_in_place_under_autocast() -> None:
    unit, x = ProductUnit(4, 3), torch.rand(5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        expected = torch.autograd.grad(unit(x).clone().mul_(2).sum(), list(unit.parameters()))
        y = unit(x).mul_(2)
    for got, wanted in zip(torch.autograd.grad(y.sum(), list(unit.parameters())), expected, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("make", KINDS)
def test_second_derivatives_past_a_neighbour_in_place(make: Callable[[], nn.Module]) -> None:
    unit, x = make().double(), torch.rand(1, 3, 4, 4, dtype=torch.double, requires_grad=True)

    def second(y: Tensor) -> Tensor:
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    torch.testing.assert_close(second(unit(x).mul_(2)), second(unit(x) * 2))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("make", [*KINDS, lambda: nn.Sequential(KINDS[0](), nn.ReLU(inplace=True))])
def test_a_checkpoint_within_what_counts_operations(make: Callable[[], nn.Module], reentrant: bool) -> None:
    unit, x = make(), torch.rand(2, 3, 6, 6, requires_grad=True)
    inputs = (x, *unit.parameters())
    expected = torch.autograd.grad(unit(x).sum(), inputs)
    with FlopCounterMode(display=False):
        y = checkpoint(unit, x, use_reentrant=reentrant)
    y.sum().backward()  # computes again what nobody counts
    for got, wanted in zip(inputs, expected, strict=True):
        torch.testing.assert_close(got.grad, wanted)


@pytest.mark.parametrize("make", KINDS)
def test_what_is_kept_does_not_depend_on_who_listens(make: Callable[[], nn.Module]) -> None:
    unit, x = make(), torch.rand(2, 3, 6, 6)

    def shapes() -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (found.append(tuple(t.shape)), t)[1], lambda t: t):
            unit(x)
        return found

    expected = shapes()
    with FlopCounterMode(display=False):
        assert shapes() == expected


# ---------------------------------------------------------------------------------------- compilers and transformations


def names(y: Tensor) -> set[str]:
    """The names of the functions that a tensor is computed by."""
    found, open_nodes = set(), [y.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        found.add(node.name())
        open_nodes += [following for following, _ in node.next_functions if following is not None]
    return found


def test_where_only_autograd_listens_the_dispatcher_is_passed_by() -> None:
    unit, x = ProductUnit2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    assert "_EagerLogBackward" in names(unit(x))
    with Operators() as seen:  # calls the registered operator, and keeps the same
        assert "_EagerLogBackward" in names(unit(x))
    assert seen.ours == {"pure.log.default"}
    y = unit(x)
    with Operators() as seen:  # which listens to the backward pass alone
        y.sum().backward()
    assert seen.ours == {"pure.log_backward.default"}
    z = torch.randn(3, dtype=torch.bfloat16, requires_grad=True)
    y = ops.eager_exp(z, torch.float32, torch.clone, (z,))
    assert "_EagerExpBackward" in names(y)
    assert operators(lambda: ops.exp(z, torch.float32).sum().backward()) == {
        "pure.exp.default",
        "pure.exp_backward.default",
    }


def test_several_gradients_at_once() -> None:
    unit, x = ProductUnit2d(3, 4, 3, granularity="channel"), torch.randn(2, 3, 8, 8, requires_grad=True)
    y, inputs = unit(x), [x, *unit.parameters()]
    grads = torch.randn(5, *y.shape)
    batched = torch.autograd.grad(y, inputs, grads, is_grads_batched=True, retain_graph=True)
    for i, grad in enumerate(grads):
        for got, expected in zip(batched, torch.autograd.grad(y, inputs, grad, retain_graph=True), strict=True):
            torch.testing.assert_close(got[i], expected, rtol=1e-4, atol=1e-4)


ignore_opcheck = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@ignore_opcheck
@pytest.mark.parametrize(
    "arguments",
    [
        (torch.randn(2, 3), torch.tensor(0.5)),
        (torch.randn(2, 3, 4, 4).requires_grad_(), torch.rand(3, 1, 1).add(0.1).requires_grad_()),
    ],
)
def test_the_logarithm_is_registered_as_pytorch_asks(arguments: tuple[Tensor, Tensor]) -> None:
    torch.library.opcheck(ops.log, (*arguments, torch.float32))


@ignore_opcheck
def test_the_exponential_is_registered_as_pytorch_asks() -> None:
    torch.library.opcheck(ops.exp, (torch.randn(2, 3, dtype=torch.bfloat16).requires_grad_(), torch.float32))


def test_the_exponential_widens() -> None:
    z = torch.tensor([15.0, -2.0], dtype=torch.float16, requires_grad=True)
    y = ops.exp(z, torch.float32)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.tolist(), [math.exp(15), math.exp(-2)], rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(y, z, torch.tensor([1e-3, 1.0]), create_graph=True)
    assert gradient.dtype == torch.float16
    expected = [math.exp(15) * 1e-3, math.exp(-2)]
    torch.testing.assert_close(gradient.tolist(), expected, rtol=1e-3, atol=0)
    (second,) = torch.autograd.grad(gradient.float().sum(), z)
    torch.testing.assert_close(second.tolist(), expected, rtol=1e-3, atol=0)
    ops.exp(z, torch.float32).backward(torch.tensor([1e-3, 1.0]))
    assert torch.equal(z.grad, gradient)


UNITS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (lambda: ProductUnit(4, 3), (5, 4)),
    "image": (lambda: ProductUnit2d(4, 3, 3, granularity="channel"), (2, 4, 6, 6)),
}
every_unit = pytest.mark.parametrize(("make", "shape"), UNITS.values(), ids=UNITS)


@every_unit
def test_captured_graphs_call_no_operator_of_ours(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    unit, x = make(), torch.randn(shape)
    captured = Captured()
    compiled = captured.compile(unit)
    torch.testing.assert_close(compiled(x), unit(x))
    compiled(x)
    assert len(captured.forward) == 1
    assert not any(name.startswith("pure") for name in captured.forward[0])
    program = torch.export.export(unit, (x,))
    torch.testing.assert_close(program.module()(x), unit(x))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert {name for name in called if "exp" in name and "expand" not in name} == {"aten.exp.default"}
    assert {"aten.clamp.Tensor", "aten.log.default"} <= set(called)  # the plain formula
    assert not any("pure" in name for name in called)


class Captured:
    """The operations of compiled graphs, forward and backward, as the compiler is given them."""

    def __init__(self) -> None:
        self.forward: list[list[str]] = []
        self.backward: list[list[str]] = []

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        backend = aot_autograd(
            fw_compiler=self._into(self.forward),
            bw_compiler=self._into(self.backward),
            partition_fn=min_cut_rematerialization_partition,
            decompositions=select_decomp_table(),
        )
        torch.compiler.reset()
        return torch.compile(function, fullgraph=True, backend=backend, dynamic=False)

    def _into(self, graphs: list[list[str]]) -> Callable[..., Any]:
        def compiler(graph: torch.fx.GraphModule, _: Any) -> Any:
            graphs.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
            return make_boxed_func(graph.forward)

        return compiler


def test_a_compiled_gradient_takes_no_exponential_again_and_divides_once() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.BatchNorm2d(4), ProductUnit2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    x = torch.randn(2, 4, 6, 6)

    def loss(x: Tensor) -> Tensor:
        return block(x).square().sum()

    def captured() -> Captured:
        graphs = Captured()
        graphs.compile(loss)(x).backward()
        return graphs

    ours = captured()
    with dispatch.disabled():
        plain = captured()
    (backward,), (as_formula,) = ours.backward, plain.backward
    assert as_formula.count("aten.exp.default") - backward.count("aten.exp.default") == 1  # the others are of softplus
    assert not any(name.startswith("prims.exp") for name in backward)
    assert ours.forward[0].count("prims.exp.default") == 1
    divisions = sum(name.startswith("aten.div") for name in backward)
    assert divisions == 2  # of the logarithm and of softplus; the formula may have a third, to split between equals


@every_unit
def test_compiled_gradients_are_those_of_the_operator(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """Of clamped inputs, and of some that equal the threshold; what is not finite shows."""
    torch.manual_seed(0)
    unit = make()
    compiled = Captured().compile(unit)
    x = torch.randn(shape)
    x[0, 0] = unit.threshold.detach().flatten()[0]
    inputs = [x.requires_grad_(), *unit.parameters()]
    expected = torch.autograd.grad(unit(x).square().sum(), inputs)
    for ours, theirs in zip(torch.autograd.grad(compiled(x).square().sum(), inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert (expected[0][0, 0] == 0).all()
    for bad in (math.nan, math.inf, -math.inf):
        spoilt = x.detach().clone()
        spoilt.view(-1)[-1] = bad
        y = compiled(spoilt)
        torch.testing.assert_close(y, unit(spoilt), equal_nan=True)
        assert y.isnan().any()
        assert all(gradient.isnan().any() for gradient in torch.autograd.grad(y.square().sum(), inputs[1:]))


@every_unit
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # PyTorch's own, in jvp
def test_transformations_within_a_compiled_graph(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """They have the plain formula: the gradients written out for compilers have no rule for them."""
    torch.manual_seed(0)
    unit, x, along = make(), torch.randn(shape), torch.randn(shape)

    def loss(x: Tensor) -> Tensor:
        return unit(x).square().sum()

    functions: list[Callable[[Tensor], Tensor]] = [
        torch.func.grad(loss),
        lambda x: torch.func.vmap(torch.func.grad(loss))(x[None])[0],
        lambda x: torch.func.jvp(loss, (x,), (along,))[1],
    ]
    for function in functions:
        graphs = Captured()
        torch.testing.assert_close(graphs.compile(function)(x), function(x))
        assert not any(name.startswith("prims.exp") for graph in graphs.forward for name in graph)
    stacked = Captured().compile(torch.func.vmap(unit))
    leaf = x[None].clone().requires_grad_()
    (found,) = torch.autograd.grad(stacked(leaf).square().sum(), leaf)
    torch.testing.assert_close(found[0], torch.func.grad(loss)(x))


@every_unit
def test_stacked_units_use_the_operator(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    units = [make() for _ in range(3)]
    for i, unit in enumerate(units):
        nn.init.constant_(unit.theta, i - 1.0)
    parameters, _ = torch.func.stack_module_state(units)
    for x, dim in (
        (torch.randn(shape), None),
        (torch.randn(3, *shape), 0),
        (torch.randn(3, *shape).movedim(0, -1), -1),
    ):

        def call(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(units[0], parameters, (x,))

        with Operators() as seen:
            together = torch.func.vmap(call, in_dims=(0, dim))(parameters, x)
        assert seen.ours == {"pure.log.default"}
        each = [x if dim is None else x.select(dim, i) for i in range(3)]
        torch.testing.assert_close(together, torch.stack([unit(one) for unit, one in zip(units, each, strict=True)]))
        loss = together.square().sum()
        got = torch.autograd.grad(loss, list(parameters.values()))
        expected = torch.autograd.grad(
            sum(unit(one).square().sum() for unit, one in zip(units, each, strict=True)),
            [unit.get_parameter(name) for name in parameters for unit in units],
        )
        for i, stacked in enumerate(got):
            torch.testing.assert_close(stacked, torch.stack(expected[3 * i : 3 * i + 3]))


def test_vmap_over_inputs_with_one_threshold_and_over_thresholds_with_one_input() -> None:
    x, tau = torch.randn(4, 3, 5), torch.tensor([0.3, 0.5, 0.9, 1.4])
    for in_dims in [(0, None), (1, None), (None, 0), (0, 0), (2, None)]:
        got = torch.func.vmap(lambda x, tau: ops.log(x, tau, torch.float32), in_dims)(
            x, tau if in_dims[1] == 0 else tau[0]
        )
        expected = torch.func.vmap(lambda x, tau: torch.maximum(x, tau).log(), in_dims)(
            x, tau if in_dims[1] == 0 else tau[0]
        )
        torch.testing.assert_close(got, expected)


@every_unit
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # PyTorch's own, in jvp
def test_functional_and_forward_derivatives(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    unit, x, direction = make().double(), torch.randn(shape, dtype=torch.float64), torch.randn(shape).double()

    def loss(x: Tensor) -> Tensor:
        return unit(x).square().sum()

    leaf = x.clone().requires_grad_()
    loss(leaf).backward()
    torch.testing.assert_close(torch.func.grad(loss)(x), leaf.grad)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(x[None])[0], leaf.grad)
    along = (leaf.grad * direction).sum()
    torch.testing.assert_close(torch.func.jvp(loss, (x,), (direction,))[1], along)
    with forward_ad.dual_level():
        dual = unit(forward_ad.make_dual(x, direction)).square().sum()
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, along)


def test_autocast_on_a_cpu_takes_the_logarithm_in_single_precision() -> None:
    unit = ProductUnit2d(4, 3, 3)
    x = torch.randn(2, 4, 6, 6, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16), Operators() as seen:
        y = unit(x)
    with dispatch.disabled(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(y, unit(x))
    assert y.dtype == torch.float32
    assert seen.ours == {"pure.log.default"}


class Subclass(Tensor):
    pass


def test_where_the_operators_apply() -> None:
    x = torch.randn(3)
    assert dispatch.applies(x)
    assert dispatch.applies(x.double())
    assert dispatch.applies(nn.Parameter(x))
    assert dispatch.applies(x.to("meta"))
    assert not dispatch.applies(x.half()), (
        "a CPU rounds the logarithm of half precision too coarsely to tell the clamped"
    )
    assert not dispatch.applies(x.bfloat16())
    assert not dispatch.applies(x.as_subclass(Subclass))
    assert not ops.has_kernels(x)
    with dispatch.disabled():
        assert not dispatch.applies(x)
        with dispatch.disabled():
            pass
        assert not dispatch.applies(x)
    assert dispatch.applies(x)
    with forward_ad.dual_level():
        assert not dispatch.applies(x)
    torch.func.vmap(lambda x: (assert_equal(dispatch.applies(x), True), x)[1])(x)
    torch.func.grad(lambda x: (assert_equal(dispatch.applies(x), False), x.sum())[1])(x)


def assert_equal(got: object, expected: object) -> None:
    assert got == expected


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")  # of what is deprecated
def test_a_trace_has_the_plain_formula() -> None:
    unit, x = ProductUnit2d(4, 3, 3), torch.randn(2, 4, 6, 6)
    traced = torch.jit.trace(unit, (x,))
    assert "pure::" not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(x), unit(x))


def test_the_package_does_not_load_the_kernels() -> None:
    code = "import sys, torch, pure; pure.ProductUnit(2, 3)(torch.ones(2)).sum().backward(); print(sorted(sys.modules))"
    modules = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "'pure.nn.fused.operators'" in modules
    assert "'pure.nn.fused.triton'" not in modules
