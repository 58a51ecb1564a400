"""The U-Nets: what they compute, how large they are, what they refuse."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pure
from pure.models.unet import ResidualUNet
from pure.nn.blocks import BasicBlock, ProductUnitBlock, shortcut_b
from pure.nn.stabilised import StabilisedProductUnit2d

SMALL: dict[str, Any] = {"widths": (4, 6, 8), "blocks": (1, 2, 1)}


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def by_hand(classes: int, widths: tuple[int, ...]) -> int:
    """Parameters of a residual U-Net with one block a stage."""

    def block(inputs: int, width: int, shortcut: bool) -> int:
        return 9 * (inputs + width) * width + 4 * width + (inputs * width + 2 * width if shortcut else 0)

    total = 27 * widths[0] + 2 * widths[0] + block(widths[0], widths[0], False)
    for above, width in itertools.pairwise(widths):
        total += block(above, width, True) + block(above + width, above, True)
    return total + classes * (widths[0] + 1)


@pytest.mark.parametrize("widths", [(4, 6, 8), (16, 32, 64, 128, 256)])
def test_both_have_one_size_but_for_the_thresholds(widths: tuple[int, ...]) -> None:
    with torch.device("meta"):
        plain = pure.create_model("res_unet", 3, widths=widths, blocks=[1] * len(widths))
        ours = pure.create_model("pu_unet", 3, widths=widths, blocks=[1] * len(widths))
    units = [module for module in ours.modules() if isinstance(module, StabilisedProductUnit2d)]
    assert size(plain) == by_hand(3, widths)
    assert size(ours) == size(plain) + len(units) == size(plain) + 3
    names = [name for name in ours.state_dict() if not name.endswith("theta")]
    assert names == list(plain.state_dict())


def test_product_units_stand_at_the_lowest_resolutions_down_and_up() -> None:
    network = pure.create_model("pu_unet", **SMALL, product_stages=2, bound=5.0)
    seen: dict[str, int] = {}
    for name, module in network.named_modules():
        if isinstance(module, ProductUnitBlock):
            assert module.relu_after_sum
            assert module.conv2.bound == 5.0
            module.register_forward_hook(lambda module, x, y, name=name: seen.update({name: y.shape[-1]}))
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 2, 16, 16)
    assert seen == {"down.1.0": 8, "down.1.1": 8, "down.2.0": 4, "up.0.0": 8, "up.0.1": 8}
    assert not any(isinstance(m, ProductUnitBlock) for m in pure.create_model("pu_unet", product_stages=0).modules())


def test_a_u_net_of_two_resolutions_is_what_it_says() -> None:
    network = ResidualUNet([BasicBlock, BasicBlock], [1, 1], [4, 5], num_classes=3).eval()
    x = torch.randn(2, 3, 7, 9)
    first = network.down[0](F.relu(network.bn1(network.conv1(x))))
    below = network.down[1](first)
    assert below.shape == (2, 5, 4, 5)
    enlarged = F.interpolate(below, (7, 9), mode="bilinear")
    expected = network.head(network.up[0](torch.cat([enlarged, first], 1)))
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)
    assert expected.shape == (2, 3, 7, 9)  # odd sizes stay


@pytest.mark.parametrize("name", ["res_unet", "pu_unet"])
def test_export_and_compilation(name: str) -> None:
    network = pure.create_model(name, **SMALL)
    x = torch.randn(4, 3, 16, 16)
    torch.compiler.reset()
    expected = copy.deepcopy(network)(x)
    torch.testing.assert_close(torch.compile(network, fullgraph=True, backend="eager")(x), expected)
    network.eval()
    program = torch.export.export(network, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch", min=2)}})
    more = torch.randn(7, 3, 16, 16)
    torch.testing.assert_close(program.module()(more), network(more))


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("pu_unet", {"product_stages": 6}, ValueError, "0 to 5 of these 5, got 6"),
        ("pu_unet", {"product_stages": 1.0}, ValueError, "0 to 5 of these 5, got 1.0"),
        ("pu_unet", {"relu_after_sum": 1.5}, ValueError, "unknown relu_after_sum 1.5; expected False or True"),
        (
            "pu_unet",
            {"unit": "paper"},
            TypeError,
            "no option unit; expected widths, blocks, product_stages, relu_after",
        ),
        ("res_unet", {"bound": 5.0}, TypeError, "no option bound; expected widths, blocks"),
        ("res_unet", {"widths": (8, 16)}, ValueError, "blocks for each of the 2 stages"),
        ("pu_unet", {"widths": 16}, ValueError, "positive integers for widths, one for each stage, got 16"),
        ("res_unet", {"num_classes": 0}, ValueError, "num_classes=0 and in_channels=3 must both be integers"),
    ],
)
def test_wrong_options_name_the_right(name: str, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pure.create_model(name, **options)


def test_images_that_are_too_small_are_refused() -> None:
    network = pure.create_model("res_unet")
    assert network(torch.randn(2, 3, 9, 9)).shape == (2, 2, 9, 9)
    with pytest.raises(ValueError, match=r"images of 8 x 8 pixels are too small .* at least 9 x 9"):
        network(torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("width", [8, 16])
def test_a_narrow_shortcut_computes_what_a_wide_one_does(width: int) -> None:
    """In channels_last on a CPU a strided kernel for few channels was seen to write beyond its memory."""
    shortcut = shortcut_b(width, 8, 2)
    x = torch.randn(16, width, 65, 64).to(memory_format=torch.channels_last).requires_grad_()
    y = shortcut[0].to(memory_format=torch.channels_last)(x)
    y.square().sum().backward()
    assert x.grad is not None
    reference = x.detach().contiguous().requires_grad_()
    expected = F.conv2d(reference, shortcut[0].weight.contiguous(), stride=2)
    expected.square().sum().backward()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(x.grad, reference.grad)
