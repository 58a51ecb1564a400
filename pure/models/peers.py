"""Other multiplicative networks, at CIFAR's size: what a reader compares product units with.

A product unit multiplies powers of its inputs.  StarNet (Ma et al., 2024, *Rewrite the Stars*) multiplies two linear
maps, with one activation; a polynomial network (Chrysos et al., 2020 and 2023) multiplies them without any.  Both have
PURe20's three stages of three blocks, and within a tenth its number of parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pure.extras import require_extra
from pure.models.registry import refuse_options, register_model
from pure.models.residual import ResidualNetwork, Stem
from pure.nn.blocks import Shortcut

__all__ = ["PolynomialBlock", "StarBlock", "polynomial20", "starnet20"]


class PolynomialBlock(nn.Module):
    """``BN(conv(x)) * BN(conv(x))`` plus the shortcut: a polynomial of the second degree in ``x``.

    There is no activation, so ``n`` blocks are a polynomial of degree ``2**n``.  The two convolutions have the sizes of
    the two of a :class:`torchvision.models.resnet.BasicBlock`, but stand side by side.  Input ``(N, inplanes, H, W)``,
    output ``(N, planes, H / stride, W / stride)``.

    Args:
        inplanes: channels of the input.
        planes: channels of the output.
        stride: stride of both convolutions.
        downsample: shortcut; None is the identity.
    """

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps ``(N, inplanes, H, W)`` to ``(N, planes, H / stride, W / stride)``."""
        identity = x if self.downsample is None else self.downsample(x)
        product = self.bn1(self.conv1(x)) * self.bn2(self.conv2(x))  # (N, planes, H / stride, W / stride)
        return product + identity  # type: ignore[no-any-return]


class StarBlock(nn.Module):
    """A block of timm's StarNet, after a 3x3 convolution with BN where the shape changes, as between its stages.

    Input ``(N, inplanes, H, W)``, output ``(N, planes, H / stride, W / stride)``.

    Args:
        inplanes: channels of the input.
        planes: channels of the output.
        stride: stride of the convolution before the block.
        downsample: not used: the shortcut of StarNet is within its block, which never changes the shape.
    """

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        from timm.models.starnet import Block, ConvBN

        changes = stride != 1 or inplanes != planes
        self.down = ConvBN(inplanes, planes, 3, stride, 1) if changes else nn.Identity()
        self.block = Block(planes, mlp_ratio=3)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps ``(N, inplanes, H, W)`` to ``(N, planes, H / stride, W / stride)``."""
        return self.block(self.down(x))  # type: ignore[no-any-return]


def _polynomial(
    name: str,
    num_classes: int,
    in_channels: int,
    /,
    *,
    blocks: Sequence[int],
    widths: Sequence[int] = (16, 32, 64),
    stem: Stem = "cifar",
    shortcut: Shortcut = "B",
    **unknown: Any,
) -> ResidualNetwork:
    refuse_options(name, unknown, _polynomial)
    return ResidualNetwork(PolynomialBlock, blocks, widths, num_classes, in_channels, stem, shortcut)


def _starnet(
    name: str,
    num_classes: int,
    in_channels: int,
    /,
    *,
    blocks: Sequence[int],
    widths: Sequence[int],
    stem: Stem = "cifar",
    **unknown: Any,
) -> ResidualNetwork:
    refuse_options(name, unknown, _starnet)
    require_extra("timm", f"the network {name}", "timm")
    network = ResidualNetwork(StarBlock, blocks, widths, num_classes, in_channels, stem, activation=nn.ReLU6)
    for module in network.modules():  # as timm draws them
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


@register_model
def polynomial20(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """PURe20's body with :class:`PolynomialBlock`, blocks [3, 3, 3]."""
    return _polynomial("polynomial20", num_classes, in_channels, **{"blocks": [3, 3, 3], **options})


@register_model
def starnet20(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """PURe20's stages with StarNet's blocks, blocks [3, 3, 3], a little wider, for as many parameters."""
    defaults = {"blocks": [3, 3, 3], "widths": (18, 37, 74)}
    return _starnet("starnet20", num_classes, in_channels, **{**defaults, **options})
