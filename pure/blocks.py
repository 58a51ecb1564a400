"""The residual blocks: figure 2 (b) of the paper beside the block of He et al. (2016), and the two shortcuts.

The block of the ResNets is torchvision's :class:`~torchvision.models.resnet.BasicBlock`; the product-unit block takes
the same arguments, so that one body builds both families.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from pure.layers import ProductUnit2d

__all__ = ["BasicBlock", "ProductUnitBlock", "Shortcut", "ShortcutA", "shortcut_b"]

Shortcut = Literal["A", "B"]


class ProductUnitBlock(nn.Module):
    """conv3x3 - BN - ProductUnit2d 3x3 - BN - add the shortcut; no ReLU anywhere (section 3.3, figure 2 b).

    Input ``(N, inplanes, H, W)``, output ``(N, planes, H / stride, W / stride)``, both floating point.

    Args:
        inplanes: channels of the input.
        planes: channels of both layers and of the output.
        stride: stride of the first convolution; the product unit keeps the size.
        downsample: the shortcut, a module that brings the input to the shape of the output; None is the identity.
        unit: makes the product unit, called as :class:`pure.ProductUnit2d`; this is where its settings go in.
    """

    expansion = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        *,
        unit: Callable[..., ProductUnit2d] = ProductUnit2d,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = unit(planes, planes, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps ``(N, inplanes, H, W)`` to ``(N, planes, H / stride, W / stride)``."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn1(self.conv1(x))  # (N, planes, H / stride, W / stride)
        out = self.bn2(self.conv2(out))  # the same
        return out + identity  # type: ignore[no-any-return]


class ShortcutA(nn.Module):
    """Option A of He et al. (2016): take every ``stride``-th pixel, pad the new channels with zeros; no parameters.

    Input ``(N, inplanes, H, W)``, output ``(N, planes, H / stride, W / stride)``.  Half of the zeros go in front; He
    et al. do not say where, and any place gives the same function up to the order of the channels.

    Raises:
        ValueError: ``planes`` is smaller than ``inplanes``: there is nothing to pad.
    """

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        if planes < inplanes:
            raise ValueError(f"shortcut A pads channels, it cannot go from {inplanes} to {planes}; use shortcut B")
        self.stride = stride
        self.front = (planes - inplanes) // 2
        self.back = planes - inplanes - self.front

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps ``(N, inplanes, H, W)`` to ``(N, planes, H / stride, W / stride)``."""
        return F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, self.front, self.back))

    def extra_repr(self) -> str:
        """The stride and the number of zero channels on either side."""
        return f"stride={self.stride}, front={self.front}, back={self.back}"


def shortcut_b(inplanes: int, planes: int, stride: int) -> nn.Sequential:
    """Option B of He et al. (2016): a 1x1 convolution with the stride, then BN.

    Input ``(N, inplanes, H, W)``, output ``(N, planes, H / stride, W / stride)``.
    """
    return nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes))


SHORTCUTS: dict[str, Callable[[int, int, int], nn.Module]] = {"A": ShortcutA, "B": shortcut_b}
"""What stands on the shortcut where the shape changes; called as ``(inplanes, planes, stride)``."""

BlockFactory = Callable[..., nn.Module]
"""Makes a block, called as ``(inplanes, planes, stride, downsample)``."""


def make_stage(
    block: BlockFactory, inplanes: int, planes: int, blocks: int, stride: int, shortcut: Shortcut, **options: Any
) -> nn.Sequential:
    """One stage: ``blocks`` residual blocks of one width; only the first one strides and needs a shortcut module."""
    downsample = SHORTCUTS[shortcut](inplanes, planes, stride) if stride != 1 or inplanes != planes else None
    layers = [block(inplanes, planes, stride, downsample, **options)]
    layers += [block(planes, planes, 1, None, **options) for _ in range(blocks - 1)]
    return nn.Sequential(*layers)
