"""PURe and the ResNets for small images (tables 1, 5 and 6): one body, :class:`ResidualNetwork`, builds both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pure.models.registry import refuse_options, register_model
from pure.nn.blocks import (
    SHORTCUTS,
    BasicBlock,
    BlockFactory,
    GlobalAvgPool2d,
    ProductUnitBlock,
    Shortcut,
    UnitNorm,
    Units,
    initialize_convolutions,
    make_stage,
    require_pixels,
    require_sizes,
)
from pure.nn.checks import require_choice
from pure.nn.complex import ComplexProductUnit2d
from pure.nn.stabilised import StabilisedProductUnit2d
from pure.nn.units import ProductUnit2d

__all__ = [
    "IMAGENET",
    "UNITS",
    "VARIANTS",
    "ResidualNetwork",
    "Stem",
    "Variant",
    "make_stem",
    "relus_of",
    "unit_factory",
]

Stem = Literal["cifar", "imagenet"]
Variant = Literal["v1", "v3"]

VARIANTS: dict[str, dict[str, bool]] = {
    "v1": {"relu_in_block": False, "relu_after_sum": False, "relu_in_stem": False},
    "v3": {"relu_in_block": False, "relu_after_sum": True, "relu_in_stem": True},
}
"""Where each version of the paper keeps a ReLU: the first none anywhere, the third after the sum and in the stem."""


class ResidualNetwork(nn.Module):
    """The body of PURe and of the ResNets for small images (table 1, section 4.3.2): stem, stages, pool, linear.

    Stages are ``layer1``, ``layer2``, ...; from the second on, the first block of a stage halves the size.  Attribute
    names are those of torchvision's ResNet.

    Args:
        block: makes a block, called as ``(inplanes, planes, stride, downsample)``.
        blocks: number of blocks in each stage.
        widths: channels of each stage.
        num_classes: length of the output.
        in_channels: channels of the input images.
        stem: ``"cifar"``, a 3x3 convolution with BN that keeps the size, or ``"imagenet"``, a 7x7 convolution of stride
            2 with BN and a 3x3 max pool of stride 2.
        shortcut: what stands on a shortcut where the shape changes: ``"A"``, subsampling and zero channels, or
            ``"B"``, a 1x1 convolution with BN; or ``"none"``, a network without any shortcut, to see what they do.
        activation: what follows the BN of the stem: the identity for PURe, ReLU for ResNet.

    Raises:
        ValueError: no classes, no channels, stages and widths of different number, an unknown stem or shortcut; calling
            the network with images so small that a layer of stride 2 would meet a single pixel.
    """

    def __init__(
        self,
        block: BlockFactory,
        blocks: Sequence[int],
        widths: Sequence[int] = (16, 32, 64),
        num_classes: int = 10,
        in_channels: int = 3,
        stem: Stem = "cifar",
        shortcut: Shortcut = "B",
        activation: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        require_sizes(num_classes, in_channels, blocks, widths)
        if shortcut not in tuple(SHORTCUTS):
            raise ValueError(
                f"unknown shortcut {shortcut!r}; expected 'A' (zero padding) or 'B' (1x1 convolution), or 'none'"
            )
        self.conv1, maxpool = make_stem(stem, in_channels, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act1 = activation()
        self.maxpool = maxpool  # the children stand in the order in which they are applied
        self.stages = [f"layer{i}" for i in range(1, len(widths) + 1)]
        self.halvings = len(widths) - 1 + (2 if stem == "imagenet" else 0)
        for i, stage in enumerate(self.stages):
            inplanes, stride = (widths[i - 1], 2) if i else (widths[0], 1)
            self.add_module(stage, make_stage(block, inplanes, widths[i], blocks[i], stride, shortcut))
        self.avgpool = GlobalAvgPool2d()
        self.fc = nn.Linear(widths[-1], num_classes)
        initialize_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, in_channels, H, W)`` to logits ``(N, num_classes)``."""
        require_pixels(x, self.halvings)
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))  # (N, widths[0], H, W), or a quarter of H and W
        for stage in self.stages:
            x = getattr(self, stage)(x)  # (N, widths[i], H / 2**i, W / 2**i)
        return self.fc(torch.flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]


def make_stem(stem: Stem, in_channels: int, planes: int) -> tuple[nn.Conv2d, nn.Module]:
    """The convolution of a stem and its pooling."""
    require_choice("stem", stem, ("cifar", "imagenet"))
    if stem == "imagenet":
        convolution = nn.Conv2d(in_channels, planes, 7, stride=2, padding=3, bias=False)
        return convolution, nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Conv2d(in_channels, planes, 3, padding=1, bias=False), nn.Identity()


# The families.  Options come as keywords; the caller's override those of the entry function.

IMAGENET: dict[str, Any] = {"widths": (64, 128, 256, 512), "stem": "imagenet"}

_UNIT_OPTIONS = ("threshold", "granularity", "eps", "init_a", "theta_init", "padding_mode")

UNITS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "paper": (ProductUnit2d, _UNIT_OPTIONS),
    "stabilised": (StabilisedProductUnit2d, (*_UNIT_OPTIONS, "smoothness", "bound")),
    "complex": (ComplexProductUnit2d, ("eps", "init_a")),
}
"""The product units by name, each with the settings that are the caller's; sizes and device belong to the network."""


def relus_of(variant: str, **asked: bool | None) -> dict[str, bool]:
    """Where a variant keeps a ReLU, and whoever asks for one there, or for none, in place of it.

    Raises:
        ValueError: an unknown variant, or another value than True, False or None, which leaves it to the variant.
    """
    require_choice("variant", variant, tuple(VARIANTS))
    for option, value in asked.items():
        if value is not None:
            require_choice(option, value, (False, True))
    return {**VARIANTS[variant], **{option: value for option, value in asked.items() if value is not None}}


def unit_factory(
    name: str, unit: str, settings: Mapping[str, Any], family: Callable[..., nn.Module]
) -> Callable[..., nn.Module]:
    """What makes a product unit of a kind with these settings, called as :class:`pure.ProductUnit2d`.

    Args:
        name: what messages begin with.
        unit: ``"paper"``, ``"stabilised"`` or ``"complex"``.
        settings: of the unit.
        family: whose options an unknown setting's message names.

    Raises:
        ValueError: an unknown unit.
        TypeError: the unit has no such setting.
    """
    require_choice("unit", unit, tuple(UNITS))
    layer, known = UNITS[unit]
    refuse_options(name, [each for each in settings if each not in known], family, known)
    # with the complex layer's own eps of 0, gradients overflow from block to block
    usual = {"eps": math.log(2)} if unit == "complex" else {}
    return partial(layer, **{**usual, **settings})


def _pure(
    name: str,
    num_classes: int,
    in_channels: int,
    /,
    *,
    blocks: Sequence[int],
    widths: Sequence[int] = (16, 32, 64),
    stem: Stem = "cifar",
    shortcut: Shortcut = "B",
    variant: Variant = "v1",
    relu_in_stem: bool | None = None,
    relu_after_sum: bool | None = None,
    units: Units = "second",
    unit_norm: UnitNorm = "both",
    unit: str = "paper",
    **settings: Any,
) -> ResidualNetwork:
    relus = relus_of(variant, relu_in_stem=relu_in_stem, relu_after_sum=relu_after_sum)
    block = partial(
        ProductUnitBlock,
        unit=unit_factory(name, unit, settings, _pure),
        units=units,
        unit_norm=unit_norm,
        relu_after_sum=relus["relu_after_sum"],
    )
    activation = nn.ReLU if relus["relu_in_stem"] else nn.Identity
    return ResidualNetwork(block, blocks, widths, num_classes, in_channels, stem, shortcut, activation)


def _resnet(
    name: str,
    num_classes: int,
    in_channels: int,
    /,
    *,
    blocks: Sequence[int],
    widths: Sequence[int] = (16, 32, 64),
    stem: Stem = "cifar",
    shortcut: Shortcut = "A",
    **unknown: Any,
) -> ResidualNetwork:
    refuse_options(name, unknown, _resnet)
    return ResidualNetwork(BasicBlock, blocks, widths, num_classes, in_channels, stem, shortcut, nn.ReLU)


# The networks


@register_model
def pure20(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """PURe20 for images of CIFAR's size, blocks [3, 3, 3] (table 5)."""
    return _pure("pure20", num_classes, in_channels, **{"blocks": [3, 3, 3], **options})


@register_model
def pure32(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """PURe32 for images of CIFAR's size, blocks [5, 5, 5] (table 5)."""
    return _pure("pure32", num_classes, in_channels, **{"blocks": [5, 5, 5], **options})


@register_model
def pure44(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """PURe44 for images of CIFAR's size, blocks [7, 7, 7] (table 5)."""
    return _pure("pure44", num_classes, in_channels, **{"blocks": [7, 7, 7], **options})


@register_model
def pure56(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """PURe56 for images of CIFAR's size, blocks [9, 9, 9] (table 5)."""
    return _pure("pure56", num_classes, in_channels, **{"blocks": [9, 9, 9], **options})


@register_model
def pure110(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """PURe110 for images of CIFAR's size, blocks [18, 18, 18] (table 5)."""
    return _pure("pure110", num_classes, in_channels, **{"blocks": [18, 18, 18], **options})


@register_model
def pure272(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """PURe272 for images of CIFAR's size, blocks [45, 45, 45] (table 5)."""
    return _pure("pure272", num_classes, in_channels, **{"blocks": [45, 45, 45], **options})


@register_model
def pure18(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """PURe18 for photographs, blocks [2, 2, 2, 2] (table 1)."""
    return _pure("pure18", num_classes, in_channels, **{**IMAGENET, "blocks": [2, 2, 2, 2], **options})


@register_model
def pure34(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """PURe34 for photographs, blocks [3, 4, 6, 3] (table 1)."""
    return _pure("pure34", num_classes, in_channels, **{**IMAGENET, "blocks": [3, 4, 6, 3], **options})


@register_model
def resnet20(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """ResNet20 of He et al. (2016) for images of CIFAR's size, a baseline of table 6."""
    return _resnet("resnet20", num_classes, in_channels, **{"blocks": [3, 3, 3], **options})


@register_model
def resnet32(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """ResNet32 of He et al. (2016) for images of CIFAR's size, a baseline of table 6."""
    return _resnet("resnet32", num_classes, in_channels, **{"blocks": [5, 5, 5], **options})


@register_model
def resnet44(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """ResNet44 of He et al. (2016) for images of CIFAR's size, a baseline of table 6."""
    return _resnet("resnet44", num_classes, in_channels, **{"blocks": [7, 7, 7], **options})


@register_model
def resnet56(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """ResNet56 of He et al. (2016) for images of CIFAR's size, a baseline of table 6."""
    return _resnet("resnet56", num_classes, in_channels, **{"blocks": [9, 9, 9], **options})


@register_model
def resnet110(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResidualNetwork:
    """ResNet110 of He et al. (2016) for images of CIFAR's size, a baseline of table 6."""
    return _resnet("resnet110", num_classes, in_channels, **{"blocks": [18, 18, 18], **options})
