"""The pre-activation networks of He et al. (2016b) for images of CIFAR's size, baselines of table 6.

BN and ReLU stand before each convolution, so that nothing stands on the path from unit to unit::

    y = x + conv(relu(bn(... conv(relu(bn(x))))))

The first unit of each stage is different: its BN and ReLU act before the two paths part (appendix of the paper, and the
authors' published code), and its shortcut brings the input to the shape of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pure.models.registry import refuse_options, register_model
from pure.nn.blocks import (
    GlobalAvgPool2d,
    Shortcut,
    ShortcutA,
    initialize_convolutions,
    require_pixels,
    require_sizes,
)
from pure.nn.checks import require_choice

__all__ = ["PreActBasicBlock", "PreActBottleneck", "PreActResidualNetwork"]


class PreActBasicBlock(nn.Module):
    """BN - ReLU - conv3x3 - BN - ReLU - conv3x3 - add the shortcut, the unit of the 110-layer network.

    Input ``(N, inplanes, H, W)``, output ``(N, planes, H / stride, W / stride)``.

    Args:
        inplanes: channels of the input.
        planes: channels of both convolutions and of the output.
        stride: stride of the first convolution.
        downsample: shortcut of the first unit of a stage, applied after the first BN and ReLU; None is the identity,
            which takes the input as it is.
    """

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inplanes)
        self.act1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.act2 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps ``(N, inplanes, H, W)`` to ``(N, planes, H / stride, W / stride)``."""
        out = self.act1(self.bn1(x))  # (N, inplanes, H, W)
        identity = x if self.downsample is None else self.downsample(out)
        out = self.conv1(out)  # (N, planes, H / stride, W / stride), like what follows
        out = self.conv2(self.act2(self.bn2(out)))
        return out + identity  # type: ignore[no-any-return]


class PreActBottleneck(nn.Module):
    """Three pre-activated convolutions, 1x1, 3x3 and 1x1, the unit of the 164- and 1001-layer networks.

    Input ``(N, inplanes, H, W)``, output ``(N, 4 * planes, H / stride, W / stride)``.

    Args:
        inplanes: channels of the input.
        planes: channels of the 3x3 convolution, a quarter of the output's.
        stride: stride of the first convolution, as in the authors' code.
        downsample: as of :class:`PreActBasicBlock`.
    """

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inplanes)
        self.act1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, stride=stride, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.act2 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes)
        self.act3 = nn.ReLU()
        self.conv3 = nn.Conv2d(planes, self.expansion * planes, 1, bias=False)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps ``(N, inplanes, H, W)`` to ``(N, 4 * planes, H / stride, W / stride)``."""
        out = self.act1(self.bn1(x))  # (N, inplanes, H, W)
        identity = x if self.downsample is None else self.downsample(out)
        out = self.conv1(out)  # (N, planes, H / stride, W / stride)
        out = self.conv2(self.act2(self.bn2(out)))  # the same
        out = self.conv3(self.act3(self.bn3(out)))  # (N, 4 * planes, H / stride, W / stride)
        return out + identity  # type: ignore[no-any-return]


class PreActResidualNetwork(nn.Module):
    """Stem without BN, stages of pre-activation units, BN and ReLU, average pool, linear (He et al., 2016b).

    Stages are ``layer1``, ``layer2``, ...; from the second on, the first unit of a stage halves the size.

    Args:
        block: :class:`PreActBasicBlock` or :class:`PreActBottleneck`.
        blocks: number of units in each stage.
        widths: channels of the stem and, times the block's expansion, of each stage.
        num_classes: length of the output.
        in_channels: channels of the input images.
        shortcut: ``"A"``, subsampling and zero channels, or ``"B"``, a 1x1 convolution (without BN: the unit's own BN
            and ReLU stand before it), where the shape changes.

    Raises:
        ValueError: no classes, no channels, stages and widths of different number, or an unknown shortcut; calling the
            network with images on which a layer of stride 2 would meet a single pixel.
    """

    def __init__(
        self,
        block: type[PreActBasicBlock | PreActBottleneck],
        blocks: Sequence[int],
        widths: Sequence[int] = (16, 32, 64),
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: Shortcut = "B",
    ) -> None:
        super().__init__()
        require_sizes(num_classes, in_channels, blocks, widths)
        require_choice("shortcut", shortcut, ("A", "B"))
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.stages = [f"layer{i}" for i in range(1, len(widths) + 1)]
        inplanes = widths[0]
        for i, stage in enumerate(self.stages):
            self.add_module(stage, _stage(block, inplanes, widths[i], blocks[i], 2 if i else 1, shortcut))
            inplanes = widths[i] * block.expansion
        self.bn1 = nn.BatchNorm2d(inplanes)
        self.act1 = nn.ReLU()
        self.avgpool = GlobalAvgPool2d()
        self.fc = nn.Linear(inplanes, num_classes)
        initialize_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, in_channels, H, W)`` to logits ``(N, num_classes)``."""
        require_pixels(x, halvings=len(self.stages) - 1)
        x = self.conv1(x)  # (N, widths[0], H, W)
        for stage in self.stages:
            x = getattr(self, stage)(x)  # (N, expansion * widths[i], H / 2**i, W / 2**i)
        x = self.act1(self.bn1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]


def _stage(
    block: type[PreActBasicBlock | PreActBottleneck],
    inplanes: int,
    planes: int,
    blocks: int,
    stride: int,
    shortcut: Shortcut,
) -> nn.Sequential:
    """One stage; the first unit shares its BN and ReLU with the shortcut even where that is the identity."""
    outplanes = planes * block.expansion
    downsample: nn.Module
    if stride == 1 and inplanes == outplanes:
        downsample = nn.Identity()
    elif shortcut == "A":
        downsample = ShortcutA(inplanes, outplanes, stride)
    else:
        downsample = nn.Conv2d(inplanes, outplanes, 1, stride=stride, bias=False)
    first = block(inplanes, planes, stride, downsample)
    return nn.Sequential(first, *(block(outplanes, planes) for _ in range(blocks - 1)))


def _preact(
    name: str,
    num_classes: int,
    in_channels: int,
    block: type[PreActBasicBlock | PreActBottleneck],
    /,
    *,
    blocks: Sequence[int],
    widths: Sequence[int] = (16, 32, 64),
    shortcut: Shortcut = "B",
    **unknown: Any,
) -> PreActResidualNetwork:
    refuse_options(name, unknown, _preact)
    return PreActResidualNetwork(block, blocks, widths, num_classes, in_channels, shortcut)


@register_model
def preact_resnet110(num_classes: int = 10, in_channels: int = 3, **options: Any) -> PreActResidualNetwork:
    """Pre-activation ResNet110 of He et al. (2016b), a baseline of table 6, which prints no size.

    Shortcut A, as of the 110-layer network of He et al. (2016) that this one rearranges: as many parameters as that
    one, 1,727,962.  Public implementations with shortcut B have 1,730,522, as this one then has.
    """
    return _preact(
        "preact_resnet110",
        num_classes,
        in_channels,
        PreActBasicBlock,
        **{"blocks": [18, 18, 18], "shortcut": "A", **options},
    )


@register_model
def preact_resnet164(num_classes: int = 10, in_channels: int = 3, **options: Any) -> PreActResidualNetwork:
    """Pre-activation ResNet164 of He et al. (2016b), a baseline of table 6.

    It has 1,703,258 parameters, like other public implementations, and agrees with the 1.7 M that He et al. print; the
    1.76 M of table 6 match no variant that we tried (100 classes, biases, shortcut A, BN's buffers).
    """
    return _preact(
        "preact_resnet164", num_classes, in_channels, PreActBottleneck, **{"blocks": [18, 18, 18], **options}
    )


@register_model
def preact_resnet1001(num_classes: int = 10, in_channels: int = 3, **options: Any) -> PreActResidualNetwork:
    """Pre-activation ResNet1001 of He et al. (2016b), a baseline of table 6.

    Built as the authors' published code builds it, it has 10,327,706 parameters, like other public implementations.
    He et al. print 10.2 M, which is its convolutions and linear layer alone (10,178,490); the 10.15 M of table 6
    match no variant that we tried.
    """
    return _preact(
        "preact_resnet1001", num_classes, in_channels, PreActBottleneck, **{"blocks": [111, 111, 111], **options}
    )
