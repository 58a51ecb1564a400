"""Formats, precisions and compilation: what they change, what they must not, and what they leave behind."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import pure
from pure.execution import Execution
from pure.recipes import Recipe, get_recipe
from pure.train import speed
from pure.train.monitor import observe_units

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def recipe(**settings: Any) -> Recipe:
    return get_recipe("cifar10", "pure", **settings)


def prepare(net: nn.Module, device: torch.device, **settings: Any) -> nn.Module:
    executed = {name: settings.pop(name) for name in tuple(settings) if name in Execution.model_fields}
    return speed.prepare(net, recipe(**settings), Execution(**executed), device)


def network(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return pure.create_model("pure20", 3, blocks=[1, 1], widths=[4, 8], **options)


def images() -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


# Preparing a network


def test_channels_last_weights_give_the_same_logits() -> None:
    net = speed.prepare(network(), recipe(), Execution(channels_last=True), CPU)
    assert net.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert not net.layer2[0].conv2.weight.is_contiguous()  # the unit's, too
    x = images().contiguous(memory_format=speed.memory_format(Execution(channels_last=True)))
    torch.testing.assert_close(net(x), network()(images()), rtol=1e-4, atol=1e-5)
    plain = speed.prepare(network(), recipe(), Execution(), CPU)
    assert all(parameter.is_contiguous() for parameter in plain.parameters())
    assert torch.equal(plain(images()), network()(images()))


def test_compiled_network_keeps_its_names_and_its_logits() -> None:
    expected = network()(images())
    net = speed.prepare(network(), recipe(), Execution(compile=True), CPU)
    assert list(net.state_dict()) == list(network().state_dict())
    with torch.compiler.set_stance("force_eager"):
        assert torch.equal(net(images()), expected)
    assert net._compiled_call_impl is not None  # the call, not the class, is what is compiled
    assert network()._compiled_call_impl is None


def test_compiled_once_for_each_size_of_a_batch_and_each_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    net, counter = network(), CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(net, "compile", partial(net.compile, backend=counter))
    speed.prepare(net, recipe(), Execution(compile=True), CPU)
    graphs = []
    for _ in range(3):  # epochs
        for size in (4, 4, 3):  # the last batch is smaller
            net.train()(images()[:size]).sum().backward()
        with torch.no_grad():
            for size in (4, 3):
                net.eval()(images()[:size])
        graphs.append(counter.frame_count)
    assert graphs == [4, 4, 4]


@pytest.mark.parametrize(
    ("settings", "device", "message"),
    [
        ({"cuda_graphs": True}, CPU, "cuda_graphs needs a CUDA device, and this runs on cpu; set cuda_graphs=False"),
        ({"cuda_graphs": True, "micro_batches": 2}, CUDA, "replays whole batches, and micro_batches=2 cuts them"),
        ({"precision": "tf32"}, CUDA, "precision='tf32' and unit_precision='float32' exclude each other"),
        ({"unit_precision": "tf32"}, CUDA, "precision='float32' and unit_precision='tf32' exclude each other"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], device: torch.device, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(network(), device, **settings)
    if "cuda_graphs" not in settings:
        with pytest.raises(ValueError, match=message), speed.tf32(recipe(**settings), device):
            pytest.fail("entered")


def test_graphs_are_refused_off_cuda() -> None:
    with pytest.raises(ValueError, match="CUDA graphs need a CUDA device, and this runs on cpu"):
        speed.graphed(lambda x, y: (x, y), network(), CPU)


# Precisions


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("float32", torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_autocast_lowers_convolutions(name: str, dtype: torch.dtype) -> None:
    convolution = nn.Conv2d(3, 2, 3)
    with speed.autocast(recipe(precision=name), CPU):
        assert convolution(images()).dtype == dtype
        with speed.autocast(recipe(), CPU):
            assert convolution(images()).dtype == torch.float32  # a recipe in float32 lowers nothing
    assert convolution(images()).dtype == torch.float32
    assert convolution.weight.dtype == torch.float32


UNITS: list[Any] = [
    lambda: pure.ProductUnit2d(3, 5, 3),
    lambda: pure.StabilisedProductUnit2d(3, 5, 3),
    lambda: pure.ComplexProductUnit2d(3, 5, 3, eps=0.5),
    lambda: nn.Sequential(nn.Flatten(), pure.ProductUnit(192, 5)),
    lambda: nn.Sequential(nn.Flatten(), pure.StabilisedProductUnit(192, 5)),
    lambda: nn.Sequential(nn.Flatten(), pure.ComplexProductUnit(192, 5, eps=0.5)),
]


@pytest.mark.parametrize("make", UNITS)
@pytest.mark.parametrize("around", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("own", ["float32", "bfloat16", "float16"])
def test_unit_has_its_own_precision_whatever_is_around(make: Any, around: str, own: str) -> None:
    torch.manual_seed(0)
    unit = make()
    with speed.autocast(recipe(precision=own), CPU):
        expected = unit(images())  # as if all were in its precision
    net = prepare(unit, CPU, precision=around, unit_precision=own)
    with speed.autocast(recipe(precision=around), CPU):
        found = net(images())
    assert found.dtype == expected.dtype == torch.float32
    assert torch.equal(found, expected)


def test_half_precision_does_cost_something_in_the_unit() -> None:
    unit = pure.ProductUnit2d(3, 5, 3)
    exact = unit(images())
    speed.set_unit_precision(unit, "bfloat16")
    error = ((unit(images()) - exact) / exact).abs().max()
    assert 1e-4 < error.item() < 0.1
    speed.set_unit_precision(unit, "float32")  # and back
    assert torch.equal(unit(images()), exact)


def test_inputs_that_autocast_lowered_are_widened_again() -> None:
    unit = pure.ProductUnit2d(3, 5, 3)
    expected = unit(images().bfloat16().float())
    speed.set_unit_precision(unit, "float32")
    with torch.autocast("cpu", torch.bfloat16):
        found = unit(images().bfloat16())
    assert torch.equal(found, expected)


def test_unit_with_a_precision_trains_is_saved_and_is_looked_at() -> None:
    net = prepare(network(), CPU, precision="bfloat16")
    with speed.autocast(recipe(precision="bfloat16"), CPU):
        F.cross_entropy(net(images()), torch.tensor([0, 1, 2, 0])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert list(net.state_dict()) == list(network().state_dict())
    assert observe_units(net, images()).keys() == {"layer1.0.conv2", "layer2.0.conv2"}
    unit = pure.ProductUnit2d(3, 5, 3)
    exact = observe_units(unit, images())
    speed.set_unit_precision(unit, "bfloat16")
    assert observe_units(unit, images()) == exact  # in float64, whatever the unit computes in


@pytest.mark.parametrize("unit", ["paper", "complex"])
def test_unit_with_a_precision_does_not_break_the_graph(unit: str) -> None:
    settings = recipe(precision="bfloat16")
    net = speed.prepare(network(unit=unit), settings, Execution(), CPU)
    with speed.autocast(settings, CPU):
        expected = net(images())
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager", dynamic=False)
        found = compiled(images())
    found.sum().backward()
    torch.testing.assert_close(found, expected)


def flags() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("as_found", [(True, False), (False, True)])
@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, False),
        ({"precision": "tf32", "unit_precision": "tf32"}, True),
        ({"precision": "bfloat16", "unit_precision": "tf32"}, True),
        ({"precision": "bfloat16"}, False),
    ],
)
def test_tf32_is_allowed_where_the_recipe_has_it_and_as_found_afterwards(
    settings: dict[str, Any], allowed: bool, as_found: tuple[bool, bool]
) -> None:
    before = flags()
    try:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = as_found
        with speed.tf32(recipe(**settings), CPU):
            assert flags() == (allowed, allowed)
        assert flags() == as_found
        with pytest.raises(RuntimeError, match="stop"), speed.tf32(recipe(**settings), CPU):
            raise RuntimeError("stop")
        assert flags() == as_found
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_loss_is_scaled_for_float16_alone() -> None:
    loss = torch.tensor(2.0)
    for settings in ({}, {"precision": "bfloat16"}, {"precision": "tf32"}):
        assert float(speed.grad_scaler(recipe(**settings), CPU).scale(loss)) == 2.0
    for settings in ({"precision": "float16"}, {"unit_precision": "float16"}):
        assert float(speed.grad_scaler(recipe(**settings), CPU).scale(loss)) == 2.0 * 65536


# What can be tried on a GPU only


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_replayed_steps_are_the_steps() -> None:  # pragma: no cover
    losses = {}
    for graphs in (False, True):
        net = prepare(network(), CUDA)
        optimiser = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)

        def step(x: Tensor, y: Tensor, net: nn.Module = net) -> tuple[Tensor, ...]:
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return (loss.detach(),)

        run = speed.graphed(step, net, CUDA) if graphs else step
        x, y = images().to(CUDA), torch.tensor([0, 1, 2, 0], device=CUDA)
        losses[graphs] = []
        for number in (4, 4, 3, 4, 4):
            optimiser.zero_grad()
            losses[graphs].append(float(run(x[:number], y[:number])[0]))
            optimiser.step()
        losses[graphs].append(float(net.bn1.running_var.sum()))
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    assert not math.isclose(losses[True][0], losses[True][-2], rel_tol=1e-2)
