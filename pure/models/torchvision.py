"""The ResNets for photographs (tables 2 and 4), torchvision's own networks, and PURe with their bottleneck blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchvision.models.resnet import Bottleneck, ResNet

from pure.models.conversion import convert
from pure.models.registry import refuse_options, register_model
from pure.models.residual import IMAGENET, Stem, Variant, make_stem, unit_factory
from pure.nn.blocks import BasicBlock, GlobalAvgPool2d, initialize_convolutions, require_sizes


def _torchvision(
    name: str,
    num_classes: int,
    in_channels: int,
    block: type[BasicBlock | Bottleneck],
    /,
    *,
    blocks: Sequence[int],
    stem: Stem = "imagenet",
    **unknown: Any,
) -> ResNet:
    """The ResNets of torchvision; a stem that is not its own is drawn as it draws its convolutions."""
    refuse_options(name, unknown, _torchvision)
    require_sizes(num_classes, in_channels, blocks, IMAGENET["widths"])
    network = ResNet(block, list(blocks), num_classes=num_classes)
    if in_channels != 3 or stem != "imagenet":
        network.conv1, network.maxpool = make_stem(stem, in_channels, 64)
        initialize_convolutions(network.conv1)
    return network


def _pure(
    name: str,
    num_classes: int,
    in_channels: int,
    /,
    *,
    blocks: Sequence[int],
    stem: Stem = "imagenet",
    variant: Variant = "v1",
    relu_in_stem: bool | None = None,
    relu_after_sum: bool | None = None,
    unit: str = "paper",
    **settings: Any,
) -> ResNet:
    """PURe with bottleneck blocks: torchvision's network, converted."""
    unit_factory(name, unit, settings, _pure)  # an error names this network, not convert
    relus: dict[str, Any] = {"relu_in_stem": relu_in_stem, "relu_after_sum": relu_after_sum}
    resnet = _torchvision(name, num_classes, in_channels, Bottleneck, blocks=blocks, stem=stem)
    network = convert(resnet, variant, unit=unit, **relus, **settings)
    network.avgpool = GlobalAvgPool2d()  # without a ReLU its gradient would be contiguous in channels_last too
    return network


@register_model
def resnet18(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNet18 of torchvision, a baseline of table 2."""
    return _torchvision("resnet18", num_classes, in_channels, BasicBlock, **{"blocks": [2, 2, 2, 2], **options})


@register_model
def resnet34(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNet34 of torchvision, a baseline of tables 2 and 4."""
    return _torchvision("resnet34", num_classes, in_channels, BasicBlock, **{"blocks": [3, 4, 6, 3], **options})


@register_model
def resnet50(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNet50 of torchvision, a baseline of tables 2 and 4."""
    return _torchvision("resnet50", num_classes, in_channels, Bottleneck, **{"blocks": [3, 4, 6, 3], **options})


@register_model
def resnet101(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNet101 of torchvision, a baseline of tables 2 and 4."""
    return _torchvision("resnet101", num_classes, in_channels, Bottleneck, **{"blocks": [3, 4, 23, 3], **options})


@register_model
def resnet152(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNet152 of torchvision, a baseline of tables 2 and 4."""
    return _torchvision("resnet152", num_classes, in_channels, Bottleneck, **{"blocks": [3, 8, 36, 3], **options})


@register_model
def pure50(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """PURe50, ResNet50 with product units for its 3x3 convolutions; not in the paper, which saw no gain beyond 34."""
    return _pure("pure50", num_classes, in_channels, **{"blocks": [3, 4, 6, 3], **options})


@register_model
def pure101(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """PURe101, ResNet101 with product units for its 3x3 convolutions; not in the paper, as :func:`pure50`."""
    return _pure("pure101", num_classes, in_channels, **{"blocks": [3, 4, 23, 3], **options})


@register_model
def pure152(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """PURe152, ResNet152 with product units for its 3x3 convolutions; not in the paper, as :func:`pure50`."""
    return _pure("pure152", num_classes, in_channels, **{"blocks": [3, 8, 36, 3], **options})
