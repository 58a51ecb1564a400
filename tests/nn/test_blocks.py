"""The residual blocks and the two shortcuts, with values worked out by hand."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pure import ProductUnit2d
from pure.nn.blocks import SHORTCUTS, BasicBlock, GlobalAvgPool2d, ProductUnitBlock, ShortcutA, make_stage, shortcut_b

BN = 1 / math.sqrt(1 + 1e-5)  # what batch normalisation does in evaluation mode before any training


def centre(weight: Tensor, value: float) -> None:
    """Make a 3x3 kernel of each channel to itself: ``value`` in the centre, zero elsewhere."""
    with torch.no_grad():
        weight.zero_()
        weight[range(len(weight)), range(len(weight)), 1, 1] = value


def test_block_by_hand() -> None:
    block = ProductUnitBlock(2, 2, unit=partial(ProductUnit2d, threshold=0.5)).double().eval()
    centre(block.conv1.weight, 3.0)
    centre(block.conv2.weight, 2.0)
    nn.init.constant_(block.bn1.bias, 1.0)
    nn.init.constant_(block.bn2.bias, -10.0)
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    values = [max(3 * value * BN + 1, 0.5) ** 2 * BN - 10 + value for value in x.flatten().tolist()]
    assert min(values) < -9  # there is no ReLU after the addition
    torch.testing.assert_close(block(x).flatten().tolist(), values, rtol=1e-12, atol=0)


def test_block_with_exponents_of_zero_adds_one_to_the_shortcut() -> None:
    block = ProductUnitBlock(3, 5, stride=2, downsample=shortcut_b(3, 5, 2)).double().eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(block(x), block.downsample(x) + BN, rtol=1e-12, atol=1e-12)


def test_block_order_and_sizes() -> None:
    block = ProductUnitBlock(3, 5, stride=2)
    assert [name for name, _ in block.named_children()] == ["conv1", "bn1", "conv2", "bn2"]
    assert (block.conv1.kernel_size, block.conv1.stride, block.conv1.padding) == ((3, 3), (2, 2), (1, 1))
    assert (block.conv2.kernel_size, block.conv2.stride, block.conv2.padding) == ((3, 3), (1, 1), (1, 1))
    assert block.conv1.bias is None
    assert (block.conv1.out_channels, block.conv2.in_channels, block.conv2.out_channels) == (5, 5, 5)
    # one parameter, theta, more than the block of He et al.
    assert sum(p.numel() for p in block.parameters()) == sum(p.numel() for p in BasicBlock(3, 5).parameters()) + 1


def test_the_unit_of_the_block_takes_its_settings() -> None:
    block = ProductUnitBlock(3, 5, unit=partial(ProductUnit2d, threshold="exp", granularity="channel", eps=0.5))
    assert block.conv2.threshold.tolist() == [1.5] * 5


def test_shortcut_a_by_hand() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    kept = torch.tensor([[[0.0, 2.0], [8.0, 10.0]], [[16.0, 18.0], [24.0, 26.0]]])
    zeros = torch.zeros(1, 2, 2)
    assert torch.equal(ShortcutA(2, 4, 2)(x), torch.cat([zeros, kept, zeros])[None])
    assert torch.equal(ShortcutA(2, 5, 2)(x), torch.cat([zeros, kept, zeros, zeros])[None])
    assert torch.equal(ShortcutA(2, 2, 1)(x), x)
    assert list(ShortcutA(2, 4, 2).parameters()) == []
    assert repr(ShortcutA(2, 5, 2)) == "ShortcutA(stride=2, front=1, back=2)"


def test_shortcut_a_does_not_drop_channels() -> None:
    with pytest.raises(ValueError, match="pads channels, it cannot go from 4 to 2; use shortcut B"):
        ShortcutA(4, 2, 1)


def test_shortcut_b_by_hand() -> None:
    shortcut = shortcut_b(2, 3, 2).eval()
    with torch.no_grad():
        shortcut[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]])[:, :, None, None])
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    first, second = x[0, 0, ::2, ::2], x[0, 1, ::2, ::2]
    torch.testing.assert_close(shortcut(x)[0], BN * torch.stack([first, second, 2 * first - second]))
    assert shortcut[0].bias is None


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("name", ["A", "B"])
@pytest.mark.parametrize("block", [BasicBlock, ProductUnitBlock])
def test_shortcuts_meet_the_block_at_odd_and_even_sizes(block: Any, name: str, size: int) -> None:
    x = torch.randn(2, 4, size, size)
    assert block(4, 8, 2, SHORTCUTS[name](4, 8, 2))(x).shape == (2, 8, 4, 4)


@pytest.mark.parametrize("block", [BasicBlock, ProductUnitBlock])
def test_only_the_first_block_of_a_stage_changes_the_shape(block: Any) -> None:
    stage = make_stage(block, 4, 8, 3, 2, "B")
    assert [each.conv1.stride for each in stage] == [(2, 2), (1, 1), (1, 1)]
    assert [each.conv1.in_channels for each in stage] == [4, 8, 8]
    assert [each.downsample is None for each in stage] == [False, True, True]
    assert make_stage(block, 4, 4, 1, 1, "B")[0].downsample is None
    assert make_stage(block, 4, 8, 1, 1, "A")[0].downsample is not None
    assert make_stage(block, 4, 4, 1, 2, "A")[0].downsample is not None


@pytest.mark.parametrize("block", [BasicBlock, ProductUnitBlock])
def test_without_shortcuts_a_block_is_its_own_path_alone(block: Any) -> None:
    stage = make_stage(block, 4, 8, 2, 2, "none").eval()
    assert len(list(stage.parameters())) == len(list(make_stage(block, 4, 8, 2, 2, "A").parameters()))
    x = torch.randn(2, 4, 6, 6)
    expected = x
    for each in stage:
        inner = each.bn1(each.conv1(expected))
        inner = each.bn2(each.conv2(inner.relu() if block is BasicBlock else inner))
        expected = inner.relu() if block is BasicBlock else inner
    torch.testing.assert_close(stage(x), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pool_is_the_mean_and_its_gradient_lies_as_its_input(layout: torch.memory_format) -> None:
    x = torch.randn(2, 5, 4, 3, dtype=torch.double).contiguous(memory_format=layout).requires_grad_()
    laid_out = []
    inside = x * 1
    inside.register_hook(lambda grad: laid_out.append(grad.stride()))
    pooled = GlobalAvgPool2d()(inside)
    torch.testing.assert_close(pooled, nn.AdaptiveAvgPool2d(1)(x))
    weights = torch.arange(10.0).view(2, 5, 1, 1)
    (pooled * weights).sum().backward()
    assert laid_out == [x.stride()]
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (weights / 12).expand_as(x).double())
    per_image = torch.func.vmap(GlobalAvgPool2d())(x.detach())  # (C, H, W) each
    torch.testing.assert_close(per_image, pooled.detach())
