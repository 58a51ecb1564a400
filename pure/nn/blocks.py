"""The residual blocks: figure 2 (b) of the paper, the block of He et al. (2016), and the two shortcuts.

The block of the ResNets is torchvision's :class:`~torchvision.models.resnet.BasicBlock`; the product-unit block takes
the same arguments and names its layers alike, so that one body builds both families.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from pure.nn.checks import integer, require_choice
from pure.nn.tracing import leaf
from pure.nn.units import ProductUnit2d

__all__ = [
    "BasicBlock",
    "GlobalAvgPool2d",
    "NoShortcut",
    "ProductUnitBlock",
    "Shortcut",
    "ShortcutA",
    "UnitNorm",
    "Units",
    "shortcut_b",
]

Shortcut = Literal["A", "B", "none"]
Units = Literal["second", "first", "both"]
UnitNorm = Literal["both", "before", "after", "none"]


class ProductUnitBlock(nn.Module):
    """conv3x3 - BN - ProductUnit2d 3x3 - BN - add the shortcut; no ReLU anywhere (section 3.3, figure 2 b).

    Input ``(N, inplanes, H, W)``, output ``(N, planes, H / stride, W / stride)``, both floating point.

    The layers have torchvision's names, ``conv1``, ``bn1``, ``conv2``, ``bn2``: a state dict has the keys of a ResNet's
    and ``theta`` for each product unit.  The defaults are the paper's block, the switches what ablations vary:

    =========== ============================== ===============================
    ``units``   layers of the block            BN before and after a unit
    =========== ============================== ===============================
    ``second``  conv - bn1 - unit - bn2        bn1 before, bn2 after
    ``first``   unit - bn1 - conv - bn2        none before, bn1 after
    ``both``    unit - bn1 - unit - bn2        bn1 before and after, bn2 after
    =========== ============================== ===============================

    Args:
        inplanes: channels of the input.
        planes: channels of both layers and of the output.
        stride: stride of the first layer, be it convolution or product unit; the second keeps the size.
        downsample: the shortcut, a module that brings the input to the shape of the output; None is the identity.
        unit: makes a product unit, called as :class:`pure.ProductUnit2d`; this is where its settings go in.
        units: which layer is a product unit.
        unit_norm: the BN that stay next to a product unit.  One that stands on both sides, as between two units, stays
            if either side is kept; one that is next to no unit always stays.  A dropped BN costs its ``2 * planes``
            parameters, and nothing takes its place: the layers still have no bias.
        relu_after_sum: a ReLU after the addition, which later descriptions of the block keep.

    Raises:
        ValueError: a switch has another value than its type names.
    """

    expansion = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        *,
        unit: Callable[..., nn.Module] = ProductUnit2d,
        units: Units = "second",
        unit_norm: UnitNorm = "both",
        relu_after_sum: bool = False,
    ) -> None:
        super().__init__()
        require_choice("units", units, ("second", "first", "both"))
        require_choice("unit_norm", unit_norm, ("both", "before", "after", "none"))
        require_choice("relu_after_sum", relu_after_sum, (False, True))
        first, second = units != "second", units != "first"  # which layers are product units
        before, after = unit_norm in ("both", "before"), unit_norm in ("both", "after")
        convolution = partial(nn.Conv2d, bias=False)
        self.conv1 = (unit if first else convolution)(inplanes, planes, 3, stride=stride, padding=1)
        self.bn1 = _norm(planes, (first and after) or (second and before))
        self.conv2 = (unit if second else convolution)(planes, planes, 3, padding=1)
        self.bn2 = _norm(planes, after or not second)
        self.downsample = downsample
        self.relu_after_sum = relu_after_sum

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps ``(N, inplanes, H, W)`` to ``(N, planes, H / stride, W / stride)``."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn1(self.conv1(x))  # (N, planes, H / stride, W / stride)
        out = self.bn2(self.conv2(out)) + identity  # the same
        return F.relu(out) if self.relu_after_sum else out

    def extra_repr(self) -> str:
        """The ReLU after the sum, the only switch that the layers do not show."""
        return "relu_after_sum=True" if self.relu_after_sum else ""


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


class NoShortcut(nn.Module):
    """What stands on the shortcut of a network without shortcuts: zero, which adds nothing; no parameters.

    Input ``(N, inplanes, H, W)``, output a scalar, which broadcasts to the output of any block.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero, of the dtype and on the device of ``x``."""
        return x.new_zeros(())


def shortcut_b(inplanes: int, planes: int, stride: int) -> nn.Sequential:
    """Option B of He et al. (2016): a 1x1 convolution with the stride, then BN.

    Input ``(N, inplanes, H, W)``, output ``(N, planes, H / stride, W / stride)``.
    """
    convolution = SubsamplingConv2d if inplanes < _NARROW and stride > 1 else nn.Conv2d
    return nn.Sequential(convolution(inplanes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes))


_NARROW = 16
"""Channels below which PyTorch 2.15's gradient of a 1x1 convolution with a stride can write beyond its memory, on a CPU
in channels_last: seen with 3 to 9 channels, not with 12 and more."""


class SubsamplingConv2d(nn.Conv2d):
    """A 1x1 convolution with a stride that drops the pixels first: the same sums, without a stride in the kernel."""

    def forward(self, x: Tensor) -> Tensor:
        down, across = self.stride
        return F.conv2d(x[..., ::down, ::across], self.weight, self.bias)


class GlobalAvgPool2d(nn.AdaptiveAvgPool2d):
    """The mean over the pixels, with a gradient that lies in memory as the feature maps do.

    Input ``(N, C, H, W)``, output ``(N, C, 1, 1)``.  Numbers are those of ``nn.AdaptiveAvgPool2d(1)``, but that one's
    gradient is always contiguous.  In a network in channels_last without a ReLU nothing turns it, and the gradient of
    BN, slow where two formats meet, meets them in the whole last stage.
    """

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps ``(N, C, H, W)`` to their means ``(N, C, 1, 1)``."""
        return mean_over_pixels(x)


@leaf
def mean_over_pixels(x: Tensor) -> Tensor:
    """Feature maps ``(N, C, H, W)`` or ``(C, H, W)`` to their means, ``(N, C, 1, 1)`` or ``(C, 1, 1)``."""
    if x.ndim == 4 and x.stride(1) == 1:  # channels_last: taken as (N, H, W, C), in which a mean is expanded back
        return x.permute(0, 2, 3, 1).mean((1, 2))[..., None, None]
    return F.adaptive_avg_pool2d(x, 1)


SHORTCUTS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "A": ShortcutA,
    "B": shortcut_b,
    "none": lambda *_: NoShortcut(),
}
"""What stands on the shortcut where the shape changes, without shortcuts everywhere; called as ``(inplanes, planes,
stride)``."""

BlockFactory = Callable[..., nn.Module]
"""Makes a block, called as ``(inplanes, planes, stride, downsample)``."""


def make_stage(
    block: BlockFactory, inplanes: int, planes: int, blocks: int, stride: int, shortcut: Shortcut, **options: Any
) -> nn.Sequential:
    """One stage: ``blocks`` residual blocks of one width; only the first one strides and may change the shape."""
    shapes = [(inplanes, planes, stride), *[(planes, planes, 1)] * (blocks - 1)]
    changed = [shortcut == "none" or shape != (planes, planes, 1) for shape in shapes]
    modules = [SHORTCUTS[shortcut](*shape) if each else None for shape, each in zip(shapes, changed, strict=True)]
    return nn.Sequential(*(block(*shape, module, **options) for shape, module in zip(shapes, modules, strict=True)))


# What every body of blocks shares


def require_sizes(num_classes: int, in_channels: int, blocks: Sequence[int], widths: Sequence[int]) -> None:
    """Raise a ValueError unless all are positive integers, and stages and widths agree in number."""
    if not _positive([num_classes, in_channels]):
        raise ValueError(
            f"num_classes={num_classes!r} and in_channels={in_channels!r} must both be integers of at least 1"
        )
    if not _positive(widths):
        raise ValueError(f"expected a list of positive integers for widths, one for each stage, got {widths!r}")
    if not _positive(blocks) or len(blocks) != len(widths):
        raise ValueError(
            f"expected one positive number of blocks for each of the {len(widths)} stages, got {blocks!r}; other "
            f"numbers of stages need as many widths"
        )


@leaf
def require_pixels(x: Tensor, halvings: int) -> None:
    """Raise a ValueError for images on which a layer of stride 2 would meet a single pixel and halve nothing.

    Args:
        x: images, ``(N, C, H, W)``.
        halvings: number of layers of stride 2, each of which leaves ``ceil(H / 2)`` rows.
    """
    if x.ndim != 4:
        raise ValueError(f"expected images of shape (N, C, H, W), got {tuple(x.shape)}")
    least = 2 ** (halvings - 1) + 1 if halvings else 1
    height, width = x.shape[-2], x.shape[-1]
    if height < least or width < least:
        raise ValueError(
            f"images of {height} x {width} pixels are too small for a network that halves them {halvings} times; it "
            f"needs at least {least} x {least}: enlarge the images, or build a network with fewer layers of stride 2 "
            "(fewer stages, or stem='cifar' in place of 'imagenet')"
        )


def initialize_convolutions(network: nn.Module) -> None:
    """Kaiming normal by fan_out for every convolution (section 4.1.2).

    The rest is right as made: BN starts at weight 1 and bias 0, product units draw their own exponents (they are no
    :class:`torch.nn.Conv2d`, so this loop leaves them alone), and the linear layer, which the paper does not mention,
    keeps PyTorch's default as in torchvision's ResNet.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _positive(values: Sequence[int]) -> bool:
    """Whether these are integers of Python or NumPy, one or more and all above zero."""
    return isinstance(values, Sequence) and len(values) > 0 and all((integer(n) or 0) > 0 for n in values)


def _norm(planes: int, kept: bool) -> nn.Module:
    return nn.BatchNorm2d(planes) if kept else nn.Identity()
