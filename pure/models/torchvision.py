"""The ResNets for photographs (tables 2 and 4): torchvision's own networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchvision.models.resnet import Bottleneck, ResNet

from pure.models.registry import refuse_options, register_model
from pure.models.residual import IMAGENET, Stem, make_stem
from pure.nn.blocks import BasicBlock, initialize_convolutions, require_sizes


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
