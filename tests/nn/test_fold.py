"""Folded networks: the same answers to rounding, with less to compute."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pure
from pure.nn.blocks import BasicBlock, ProductUnitBlock
from pure.nn.fold import FoldedProductUnit2d, fold
from pure.nn.units import ProductUnit2d


def network(name: str, **options: Any) -> nn.Module:
    """A small network whose BN have random statistics and scales of either sign, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    if not name.startswith("resnet") or "widths" in options:
        options = {"blocks": [1, 1], "widths": [4, 8], **options}
    torch.manual_seed(0)
    net = pure.create_model(name, 3, **options).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.copy_(0.3 * torch.randn(shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(shape, generator=generator))
            scales = torch.randn(shape, generator=generator)
            scales[0] = 0.0
            nn.init.normal_(module.bias, generator=generator)
            module.weight.data.copy_(scales)
    return net


def images(pixels: int = 16) -> Tensor:
    return torch.randn(2, 3, pixels, pixels, generator=torch.Generator().manual_seed(1), dtype=torch.double)


def left(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


NETWORKS: list[tuple[str, dict[str, Any], int]] = [
    ("pure20", {}, 0),
    ("pure20", {"shortcut": "A"}, 0),
    ("pure20", {"units": "first"}, 0),
    ("pure20", {"units": "both", "padding_mode": "threshold", "granularity": "channel"}, 0),
    ("pure20", {"unit_norm": "before", "relu_after_sum": True, "relu_in_stem": True}, 0),
    ("pure20", {"unit_norm": "none"}, 0),
    ("pure18", {"blocks": [1, 1], "widths": [4, 8]}, 0),
    ("pure20", {"unit": "stabilised"}, 2),  # after each unit
    ("pure20", {"unit": "complex"}, 2),
    ("resnet20", {"blocks": [1, 1], "widths": [4, 8]}, 0),
    ("resnet18", {"blocks": [1, 1, 1, 1]}, 0),
    ("resnet50", {"blocks": [1, 1, 1, 1]}, 0),
    ("preact_resnet110", {}, 2),  # in front of the second unit, whose shortcut takes the same, and of the pool
    ("preact_resnet164", {}, 2),
]


@pytest.mark.parametrize(("name", "options", "kept"), NETWORKS)
def test_folded_network_gives_the_same_logits(name: str, options: dict[str, Any], kept: int) -> None:
    net = network(name, **options)
    pixels = 64 if name in ("resnet18", "resnet50") else 16
    with torch.no_grad():
        expected = net(images(pixels))
        before = copy.deepcopy(net.state_dict())
        folded = fold(net)
        assert expected.std() > 1e-3  # logits that differ
        torch.testing.assert_close(folded(images(pixels)), expected, rtol=1e-9, atol=1e-10)
        laid_out = folded.to(memory_format=torch.channels_last)
        x = images(pixels).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(laid_out(x), expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(net(images(pixels)), expected, rtol=0, atol=0)
    assert left(folded) == kept < left(net)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_scales_of_either_sign_and_none_by_hand() -> None:
    unit = ProductUnit2d(1, 3, 1, threshold=0.5).double()
    nn.init.constant_(unit.weight, 2.0)
    bn = nn.BatchNorm2d(3, eps=0.0).double()
    bn.weight.data = torch.tensor([3.0, -3.0, 0.0]).double()
    bn.bias.data = torch.tensor([1.0, 1.0, 5.0]).double()
    bn.running_mean.fill_(2.0)
    bn.running_var.fill_(4.0)
    folded = fold(nn.Sequential(unit, bn).eval())
    assert isinstance(folded[0], FoldedProductUnit2d)
    assert type(folded[1]) is nn.Identity
    y = folded(torch.full((1, 1, 1, 1), 4.0, dtype=torch.double))  # (16 - 2) / 2 = 7
    torch.testing.assert_close(y.flatten(), torch.tensor([22.0, -20.0, 5.0]).double())
    bn.weight.data.abs_()
    positive = fold(nn.Sequential(unit, bn).eval())
    assert positive[0].sign is None
    torch.testing.assert_close(
        positive(torch.full((1, 1, 1, 1), 4.0).double()).flatten(), torch.tensor([22.0, 22, 5]).double()
    )


def test_network_in_training_mode_is_refused() -> None:
    net = network("pure20")
    net.layer2[0].bn1.train()
    message = r"fold needs a network in evaluation mode, and ResidualNetwork is in training mode, or a part of it; call"
    with pytest.raises(ValueError, match=message):
        fold(net)
    assert left(net) > 0


def test_bn_that_normalises_by_the_batch_stays() -> None:
    pair = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).double().eval()
    folded = fold(pair)
    assert left(folded) == 1
    assert torch.equal(folded(images()), pair(images()))


def test_folded_network_is_copied_pickled_compiled_and_differentiated() -> None:
    net = network("pure20")
    folded = fold(net)
    x = images().requires_grad_()
    expected = folded(x)
    (gradient,) = torch.autograd.grad(expected.square().sum(), x)
    (reference,) = torch.autograd.grad(net(x).square().sum(), x)
    torch.testing.assert_close(gradient, reference)
    for each in (copy.deepcopy(folded), pickle.loads(pickle.dumps(folded))):
        assert torch.equal(each(images()), expected)
    with torch.no_grad():
        compiled = torch.compile(folded, fullgraph=True, backend="aot_eager", dynamic=False)
        torch.testing.assert_close(compiled(images()), expected.detach())
    exported = torch.export.export(folded, (images(),)).module()
    torch.testing.assert_close(exported(images()), expected)


@pytest.mark.parametrize("precision", [None, torch.float32])
def test_folded_unit_keeps_its_precision(precision: torch.dtype | None) -> None:
    net = network("pure20").float()
    for unit in net.modules():
        if isinstance(unit, ProductUnit2d):
            unit.precision = precision
    folded = fold(net)
    assert [m.precision for m in folded.modules() if isinstance(m, FoldedProductUnit2d)] == [precision] * 2
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(folded(images().float()), net(images().float()), rtol=0.1, atol=0.1)


# Only what is proven adjacent is folded


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Away from the identity."""
    bn = nn.BatchNorm2d(channels).double()
    nn.init.uniform_(bn.weight, 0.5, 2.0)
    nn.init.normal_(bn.bias)
    nn.init.normal_(bn.running_mean)
    nn.init.uniform_(bn.running_var, 0.5, 2.0)
    return bn


def convolution(channels: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels, 3, 3, padding=1).double()


def repeated_activation() -> nn.Module:
    activation = nn.ReLU()
    return nn.Sequential(activation, convolution(), activation, batch_norm(3))


def repeated_layer() -> nn.Module:
    layer = convolution()
    return nn.Sequential(layer, batch_norm(3), layer)


def repeated_norm() -> nn.Module:
    norm = batch_norm(3)
    return nn.Sequential(convolution(), norm, nn.ReLU(), norm)


class Branches(nn.Module):
    """The output of a layer goes to a BN and past it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, batch_norm(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x + self.norm(x)


class Doubled(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return self[1](2 * self[0](x))


class Undecided(nn.Sequential):
    """Asks of its input what a stand-in cannot say."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.mean() > -1 else x


def other_forward(kind: type[nn.Module]) -> nn.Module:
    """A block that inherits the layers and not what is done with them."""

    class Block(kind):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> Tensor:
            return self.bn2(self.conv2(self.bn1(2.5 * self.conv1(x)).relu()).relu())

    return Block(3, 3).double()


def hooked(where: int) -> nn.Module:
    pair = nn.Sequential(ProductUnit2d(3, 3, 1).double(), batch_norm(3))
    pair[where].register_forward_hook(lambda module, inputs, output: 2 * output)
    return pair


def own_forward() -> nn.Module:
    pair = nn.Sequential(convolution(), batch_norm(3))
    pair[0].forward = lambda x: 2 * x
    return pair


@pytest.mark.parametrize(
    "make",
    [
        repeated_activation,
        repeated_layer,
        repeated_norm,
        lambda: Branches(convolution()),
        lambda: Branches(ProductUnit2d(3, 3, 3, padding=1).double()),
        lambda: Doubled(convolution(), batch_norm(3)),
        lambda: Undecided(convolution(), batch_norm(3)),
        lambda: other_forward(ProductUnitBlock),
        lambda: other_forward(BasicBlock),
        lambda: hooked(0),
        lambda: hooked(1),
        own_forward,
    ],
)
def test_what_is_not_adjacent_stays(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = make().eval()
    with torch.no_grad():
        folded = fold(net)
        torch.testing.assert_close(folded(images()), net(images()), rtol=1e-12, atol=1e-12)
    assert left(folded) == left(net)


def test_whatever_stands_around_what_is_adjacent_is_folded() -> None:
    torch.manual_seed(0)
    layers = [convolution(), batch_norm(3), ProductUnit2d(3, 3, 1).double(), batch_norm(3)]
    around = nn.Sequential(nn.ModuleDict({"inner": Branches(nn.Sequential(*layers))})["inner"], nn.ReLU()).eval()
    with torch.no_grad():
        folded = fold(around)
        torch.testing.assert_close(folded(images()), around(images()), rtol=1e-9, atol=1e-10)
    assert left(folded) == 1 == left(around) - 2
