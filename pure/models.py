"""The networks by name: ``pure20`` to ``pure272`` and ``resnet20`` to ``resnet110`` for images of CIFAR's size.

One body, :class:`ResidualNetwork`, builds both families; a network is named by its entry function, which registers
itself, and is made by :func:`create_model`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pure.blocks import SHORTCUTS, BasicBlock, BlockFactory, ProductUnitBlock, Shortcut, make_stage
from pure.layers import ProductUnit2d

__all__ = ["ResidualNetwork", "create_model", "list_models", "register_model"]

_REGISTRY: dict[str, Callable[..., nn.Module]] = {}


def register_model(entry: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Make an entry function known to :func:`create_model` under its own name."""
    _REGISTRY[entry.__name__] = entry
    return entry


def list_models() -> list[str]:
    """The names that :func:`create_model` knows: by family, then by depth."""

    def family_and_depth(name: str) -> tuple[str, int]:
        family = name.rstrip("0123456789")
        return family, int(name[len(family) :] or 0)

    return sorted(_REGISTRY, key=family_and_depth)


def create_model(name: str, num_classes: int = 10, in_channels: int = 3, **options: Any) -> nn.Module:
    """A network by name, initialised as section 4.1.2 says.

    Args:
        name: one of :func:`list_models`.
        num_classes: length of the output.
        in_channels: channels of the input images.
        **options: ``shortcut="A"`` or ``"B"``; for the product-unit networks also the settings of
            :class:`pure.ProductUnit2d` (``threshold``, ``granularity``, ``eps``, ``init_a``, ``padding_mode``).

    Returns:
        A module from images ``(N, in_channels, H, W)``, floating point, to logits ``(N, num_classes)``.

    Raises:
        ValueError: the name is unknown (the nearest known ones are named), or an option is out of its range.
        TypeError: the network has no such option.
    """
    if name not in _REGISTRY:
        nearest = difflib.get_close_matches(name.lower(), _REGISTRY, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"known are {', '.join(list_models())};"
        raise ValueError(f"unknown model {name!r}; {hint} pure.list_models() names all {len(_REGISTRY)}")
    return _REGISTRY[name](num_classes=num_classes, in_channels=in_channels, **options)


class ResidualNetwork(nn.Module):
    """The body of every network for small images (section 4.3.2): stem, stages, average pool, linear.

    The stem is one 3x3 convolution with BN; stages are ``layer1``, ``layer2``, ...; from the second on, the first
    block of a stage halves the size.  Attribute names are those of torchvision's ResNet.

    Args:
        block: makes a block, called as ``(inplanes, planes, stride, downsample)``.
        blocks: number of blocks in each stage.
        widths: channels of each stage.
        num_classes: length of the output.
        in_channels: channels of the input images.
        shortcut: what stands on a shortcut where the shape changes: ``"A"``, subsampling and zero channels, or
            ``"B"``, a 1x1 convolution with BN.
        activation: what follows the stem: the identity for PURe, ReLU for ResNet.

    Raises:
        ValueError: no classes, no channels, stages and widths of different number, or an unknown shortcut.
    """

    def __init__(
        self,
        block: BlockFactory,
        blocks: Sequence[int],
        widths: Sequence[int] = (16, 32, 64),
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: Shortcut = "B",
        activation: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        if num_classes < 1 or in_channels < 1:
            raise ValueError(f"num_classes={num_classes} and in_channels={in_channels} must both be at least 1")
        if len(blocks) != len(widths) or min(blocks, default=0) < 1:
            raise ValueError(
                f"expected one positive number of blocks for each of the {len(widths)} stages, got {list(blocks)}"
            )
        if shortcut not in SHORTCUTS:
            raise ValueError(f"unknown shortcut {shortcut!r}; expected 'A' (zero padding) or 'B' (1x1 convolution)")
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act1 = activation()
        self.stages = [f"layer{i}" for i in range(1, len(widths) + 1)]
        for i, stage in enumerate(self.stages):
            inplanes, stride = (widths[i - 1], 2) if i else (widths[0], 1)
            self.add_module(stage, make_stage(block, inplanes, widths[i], blocks[i], stride, shortcut))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """Kaiming normal for every convolution (section 4.1.2).

        The rest is right as made: BN starts at weight 1 and bias 0, product units draw their own exponents (they are
        no :class:`torch.nn.Conv2d`, so this loop leaves them alone), and the linear layer, which the paper does not
        mention, keeps PyTorch's default as in torchvision's ResNet.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, in_channels, H, W)`` to logits ``(N, num_classes)``."""
        x = self.act1(self.bn1(self.conv1(x)))  # (N, widths[0], H, W)
        for stage in self.stages:
            x = getattr(self, stage)(x)  # (N, widths[i], H / 2**i, W / 2**i)
        return self.fc(torch.flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]


_UNIT_OPTIONS = ("threshold", "granularity", "eps", "init_a", "padding_mode")


def _cifar_pure(depth: int, num_classes: int, in_channels: int, shortcut: Shortcut, **unit: Any) -> ResidualNetwork:
    unknown = [name for name in unit if name not in _UNIT_OPTIONS]  # stride, padding, device belong to the network
    if unknown:
        raise TypeError(
            f"pure{depth} has no option {', '.join(unknown)}; expected shortcut or a setting of its product units: "
            f"{', '.join(_UNIT_OPTIONS)}"
        )
    block = partial(ProductUnitBlock, unit=partial(ProductUnit2d, **unit))
    return ResidualNetwork(
        block, _cifar_blocks(depth), num_classes=num_classes, in_channels=in_channels, shortcut=shortcut
    )


def _cifar_resnet(depth: int, num_classes: int, in_channels: int, shortcut: Shortcut) -> ResidualNetwork:
    return ResidualNetwork(
        BasicBlock,
        _cifar_blocks(depth),
        num_classes=num_classes,
        in_channels=in_channels,
        shortcut=shortcut,
        activation=nn.ReLU,
    )


def _cifar_blocks(depth: int) -> list[int]:
    """Blocks in stages A, B, C of a network of depth ``6n + 2`` (table 5)."""
    return [(depth - 2) // 6] * 3


@register_model
def pure20(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "B", **unit: Any) -> ResidualNetwork:
    """PURe20 for images of CIFAR's size, blocks [3, 3, 3] (table 5)."""
    return _cifar_pure(20, num_classes, in_channels, shortcut, **unit)


@register_model
def pure32(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "B", **unit: Any) -> ResidualNetwork:
    """PURe32 for images of CIFAR's size, blocks [5, 5, 5] (table 5)."""
    return _cifar_pure(32, num_classes, in_channels, shortcut, **unit)


@register_model
def pure44(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "B", **unit: Any) -> ResidualNetwork:
    """PURe44 for images of CIFAR's size, blocks [7, 7, 7] (table 5)."""
    return _cifar_pure(44, num_classes, in_channels, shortcut, **unit)


@register_model
def pure56(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "B", **unit: Any) -> ResidualNetwork:
    """PURe56 for images of CIFAR's size, blocks [9, 9, 9] (table 5)."""
    return _cifar_pure(56, num_classes, in_channels, shortcut, **unit)


@register_model
def pure110(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "B", **unit: Any) -> ResidualNetwork:
    """PURe110 for images of CIFAR's size, blocks [18, 18, 18] (table 5)."""
    return _cifar_pure(110, num_classes, in_channels, shortcut, **unit)


@register_model
def pure272(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "B", **unit: Any) -> ResidualNetwork:
    """PURe272 for images of CIFAR's size, blocks [45, 45, 45] (table 5)."""
    return _cifar_pure(272, num_classes, in_channels, shortcut, **unit)


@register_model
def resnet20(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "A") -> ResidualNetwork:
    """ResNet20 of He et al. (2016) for images of CIFAR's size, the baseline of table 6."""
    return _cifar_resnet(20, num_classes, in_channels, shortcut)


@register_model
def resnet32(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "A") -> ResidualNetwork:
    """ResNet32 of He et al. (2016) for images of CIFAR's size, the baseline of table 6."""
    return _cifar_resnet(32, num_classes, in_channels, shortcut)


@register_model
def resnet44(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "A") -> ResidualNetwork:
    """ResNet44 of He et al. (2016) for images of CIFAR's size, the baseline of table 6."""
    return _cifar_resnet(44, num_classes, in_channels, shortcut)


@register_model
def resnet56(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "A") -> ResidualNetwork:
    """ResNet56 of He et al. (2016) for images of CIFAR's size, the baseline of table 6."""
    return _cifar_resnet(56, num_classes, in_channels, shortcut)


@register_model
def resnet110(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "A") -> ResidualNetwork:
    """ResNet110 of He et al. (2016) for images of CIFAR's size, the baseline of table 6."""
    return _cifar_resnet(110, num_classes, in_channels, shortcut)
