"""U-Nets of residual blocks, for segmentation: one of ordinary blocks, and PU-UNet (arXiv 2606.20035).

PU-UNet has product-unit blocks at its lowest resolutions, with the stabilised unit: a smooth threshold and a bounded
exponent.  Its paper could not be read here beyond that, see the ledger; both networks have the same body, so they
differ in these blocks alone, and in size by one threshold for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pure.models.registry import refuse_options, register_model
from pure.models.residual import UNITS
from pure.nn.blocks import (
    BasicBlock,
    BlockFactory,
    ProductUnitBlock,
    initialize_convolutions,
    make_stage,
    require_pixels,
    require_sizes,
)
from pure.nn.checks import integer, require_choice
from pure.nn.stabilised import StabilisedProductUnit2d

__all__ = ["SEGMENTERS", "ResidualUNet"]

SEGMENTERS = ("res_unet", "pu_unet")
"""The networks by name that tell the class of each pixel, and not that of an image."""


class ResidualUNet(nn.Module):
    """A U-Net (Ronneberger et al., 2015) of residual blocks: down to the lowest resolution, and up again.

    Each resolution has a stage on the way down, the first block of which halves the size, and, but for the lowest, one
    on the way up: it sees the maps from below, enlarged bilinearly to the size of those from the way down, and these.
    Images of any size keep it, odd ones too.

    Args:
        block: for each resolution, from the highest, what makes its blocks, called as ``(inplanes, planes, stride,
            downsample)``.
        blocks: number of blocks of each stage, from the highest resolution, down and up alike.
        widths: channels at each resolution.
        num_classes: length of the output at each pixel, the background included.
        in_channels: channels of the input images.

    Raises:
        ValueError: no classes or channels, or resolutions, widths and blocks of different number; calling the network
            with images so small that a layer of stride 2 would meet a single pixel.
    """

    def __init__(
        self,
        block: Sequence[BlockFactory],
        blocks: Sequence[int],
        widths: Sequence[int],
        num_classes: int = 2,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        require_sizes(num_classes, in_channels, blocks, widths)
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act1 = nn.ReLU()
        self.halvings = len(widths) - 1
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (make, number, width) in enumerate(zip(block, blocks, widths, strict=True)):
            above, stride = (widths[level - 1], 2) if level else (width, 1)
            self.down.append(make_stage(make, above, width, number, stride, "B"))
        for level in reversed(range(self.halvings)):
            joined = widths[level + 1] + widths[level]
            self.up.append(make_stage(block[level], joined, widths[level], blocks[level], 1, "B"))
        initialize_convolutions(self)
        self.head = nn.Conv2d(widths[0], num_classes, 1)  # last: it keeps PyTorch's default, as a linear layer does

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, in_channels, H, W)`` to logits of each pixel, ``(N, num_classes, H, W)``."""
        require_pixels(x, self.halvings)
        x = self.act1(self.bn1(self.conv1(x)))  # (N, widths[0], H, W)
        passed = []
        for stage in self.down:
            x = stage(x)  # (N, widths[i], H / 2**i, W / 2**i)
            passed.append(x)
        passed.pop()
        for stage in self.up:
            beside = passed.pop()  # (N, widths[i], H / 2**i, W / 2**i)
            x = F.interpolate(x, beside.shape[-2:], mode="bilinear", align_corners=False)
            x = stage(torch.cat([x, beside], 1))
        return self.head(x)  # type: ignore[no-any-return]


_WIDTHS = (16, 32, 64, 128, 256)
_BLOCKS = (1, 1, 1, 1, 1)


def _res_unet(
    name: str,
    num_classes: int,
    in_channels: int,
    /,
    *,
    widths: Sequence[int] = _WIDTHS,
    blocks: Sequence[int] = _BLOCKS,
    **unknown: Any,
) -> ResidualUNet:
    refuse_options(name, unknown, _res_unet)
    return ResidualUNet([BasicBlock] * _number(widths), blocks, widths, num_classes, in_channels)


def _pu_unet(
    name: str,
    num_classes: int,
    in_channels: int,
    /,
    *,
    widths: Sequence[int] = _WIDTHS,
    blocks: Sequence[int] = _BLOCKS,
    product_stages: int = 2,
    relu_after_sum: bool = True,
    **settings: Any,
) -> ResidualUNet:
    _, known = UNITS["stabilised"]
    refuse_options(name, [each for each in settings if each not in known], _pu_unet, known)
    require_choice("relu_after_sum", relu_after_sum, (False, True))
    levels = _number(widths)
    if isinstance(widths, Sequence) and integer(product_stages) not in range(levels + 1):
        raise ValueError(
            f"product_stages is the number of resolutions, from the lowest, with product-unit blocks: 0 to {levels} "
            f"of these {levels}, got {product_stages!r}"
        )
    ours = partial(ProductUnitBlock, unit=partial(StabilisedProductUnit2d, **settings), relu_after_sum=relu_after_sum)
    block = [*[BasicBlock] * (levels - product_stages), *[ours] * product_stages]
    return ResidualUNet(block, blocks, widths, num_classes, in_channels)


def _number(widths: Sequence[int]) -> int:
    """Of resolutions; what is no sequence is refused by the body, with a better message."""
    return len(widths) if isinstance(widths, Sequence) else 0


@register_model
def res_unet(num_classes: int = 2, in_channels: int = 3, **options: Any) -> ResidualUNet:
    """A U-Net of He et al.'s residual blocks, the baseline of PU-UNet."""
    return _res_unet("res_unet", num_classes, in_channels, **options)


@register_model
def pu_unet(num_classes: int = 2, in_channels: int = 3, **options: Any) -> ResidualUNet:
    """PU-UNet: stabilised product units at the lowest resolutions, two of five unless ``product_stages`` says so."""
    return _pu_unet("pu_unet", num_classes, in_channels, **options)
