"""Product units in residual networks that exist: :func:`pure.convert`, the paper's module as a drop-in replacement.

A residual block is known by its class; :data:`pure.models.conversion.ANATOMIES` says which of its layers convolve and
where its activations stand.  Names and weights of what stays are kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from pure.models.residual import Variant, relus_of, unit_factory
from pure.nn.checks import integer
from pure.nn.fold import is_altered
from pure.nn.units import ProductUnitBase
from pure.wording import did_you_mean, some

__all__ = ["ANATOMIES", "Anatomy", "ResidualBlock", "convert"]


class Anatomy(NamedTuple):
    """Where a kind of residual block has what, as names of modules within it.

    Attributes:
        layers: its convolutions, in order, without the shortcut's.
        inner: the activations between them.
        after_sum: the activation of a sum: of the block's own, or, in a pre-activation block, of the one before.
    """

    layers: tuple[str, ...]
    inner: tuple[str, ...]
    after_sum: str

    @property
    def unit(self) -> str:
        """The layer that becomes a product unit: the second of two, and the middle one, which has the window, of three.

        The paper speaks of blocks of two layers alone.
        """
        return self.layers[1]


_BASIC = Anatomy(("conv1", "conv2"), ("act1",), "act2")
_BOTTLENECK = Anatomy(("conv1", "conv2", "conv3"), ("act1", "act2"), "act3")
_PREACT_V2 = Anatomy(("conv1", "conv2", "conv3"), ("norm2.act", "norm3.act"), "norm1.act")

ANATOMIES: dict[str, Anatomy] = {
    "torchvision.models.resnet.BasicBlock": _BASIC,  # once it is a ResidualBlock, like the next
    "torchvision.models.resnet.Bottleneck": _BOTTLENECK,
    "torchvision.models.regnet.ResBottleneckBlock": Anatomy(
        ("f.a.0", "f.b.0", "f.c.0"), ("f.a.2", "f.b.2"), "activation"
    ),
    "timm.models.resnet.BasicBlock": _BASIC,
    "timm.models.resnet.Bottleneck": _BOTTLENECK,
    "timm.models.resnetv2.PreActBasic": Anatomy(("conv1", "conv2"), ("norm2.act",), "norm1.act"),
    "timm.models.resnetv2.PreActBottleneck": _PREACT_V2,
    "timm.models.resnetv2.Bottleneck": Anatomy(("conv1", "conv2", "conv3"), ("norm1.act", "norm2.act"), "act3"),
    "timm.models.regnet.Bottleneck": Anatomy(
        ("conv1.conv", "conv2.conv", "conv3.conv"), ("conv1.bn.act", "conv2.bn.act"), "act3"
    ),
    "timm.models.regnet.PreBottleneck": _PREACT_V2,
    "timm.models.byobnet.BasicBlock": Anatomy(("conv1_kxk.conv", "conv2_kxk.conv"), ("conv1_kxk.bn.act",), "act"),
    "timm.models.byobnet.BottleneckBlock": Anatomy(
        ("conv1_1x1.conv", "conv2_kxk.conv", "conv3_1x1.conv"), ("conv1_1x1.bn.act", "conv2_kxk.bn.act"), "act"
    ),
    "pure.models.preact.PreActBasicBlock": Anatomy(("conv1", "conv2"), ("act2",), "act1"),
    "pure.models.preact.PreActBottleneck": Anatomy(("conv1", "conv2", "conv3"), ("act2", "act3"), "act1"),
}
"""The residual blocks that :func:`pure.convert` knows, by module and class."""

_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU),
    *(nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardtanh, nn.Softplus, nn.Tanh),
)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")

N = TypeVar("N", bound=nn.Module)


class ResidualBlock(nn.Module):
    """A basic or bottleneck block of torchvision's whose activations are modules of their own, ``act1``, ``act2``, ...

    In torchvision's, one ``relu`` stands in two or three places.  Layers, names and numbers are the block's.

    Args:
        block: one of torchvision's, whose modules it takes over; None as its ``downsample`` is the identity.
    """

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        self.depth = 3 if isinstance(block, Bottleneck) else 2
        for i in range(1, self.depth + 1):
            self.add_module(f"conv{i}", block.get_submodule(f"conv{i}"))
            self.add_module(f"bn{i}", block.get_submodule(f"bn{i}"))
            self.add_module(f"act{i}", copy.deepcopy(block.relu))
        self.downsample = block.downsample

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps ``(N, C, H, W)`` to what the block makes of them."""
        identity = x if self.downsample is None else self.downsample(x)
        for i in range(1, self.depth):
            x = self._layer(i, x)
            x = getattr(self, f"act{i}")(x)
        x = self._layer(self.depth, x) + identity
        return getattr(self, f"act{self.depth}")(x)  # type: ignore[no-any-return]

    def _layer(self, i: int, x: Tensor) -> Tensor:
        return getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))  # type: ignore[no-any-return]


def convert(
    network: N,
    variant: Variant = "v1",
    *,
    stages: Sequence[int] | None = None,
    layers: Sequence[str] | None = None,
    relu_in_block: bool | None = None,
    relu_after_sum: bool | None = None,
    relu_in_stem: bool | None = None,
    unit: str = "paper",
    **settings: Any,
) -> N:
    """A copy of a residual network with product units in place of convolutions: PURe's module as a drop-in.

    In each block the second of two convolutions becomes a product unit, or the middle one of three, with the sizes,
    stride, dilation and groups of the convolution; its exponents are drawn anew (section 4.1.2), since a convolution's
    weights mean nothing as exponents.  All other weights are kept, and all names: the state dict has the network's keys
    and ``theta`` for each unit.  Converting torchvision's ``resnet18`` gives the parameters of ``pure18``.

    Convert first, then wrap it in DDP or FSDP.  What :func:`torch.compile` made is converted and compiled again in the
    same way.  Gates such as squeeze-and-excitation keep their activations, and the new units train even where the
    convolutions were frozen.

    Args:
        network: one of the blocks in :data:`pure.models.conversion.ANATOMIES`, those of torchvision's and timm's
            ResNets, ResNeXts, RegNets and pre-activation ResNets; is not changed.
        variant: ``"v1"``, no ReLU anywhere, or ``"v3"``, a ReLU after the sum and in the stem.
        stages: which stages, counted from 1 or, negative, from the end; None for all.  What is not chosen, and then the
            stem too, stays as it is.
        layers: in place of ``stages``, names of convolutions or patterns of names such as ``"layer4.*.conv1"``, which
            need not stand in a known block; the known blocks that they stand in lose the ReLUs that the variant omits.
        relu_in_block: keep the activations between the layers of a block, in place of the variant's choice.
        relu_after_sum: keep the activation after the sum, in place of the variant's choice; in a pre-activation block
            the first one, and after the last stage the network's last.
        relu_in_stem: keep the activations before the first block, in place of the variant's choice.
        unit: ``"paper"``, ``"stabilised"`` or ``"complex"``, as of :func:`pure.create_model`.
        **settings: of the unit, as of :func:`pure.create_model`.

    Returns:
        A network of the same class, on the same device, in the same mode.

    Raises:
        TypeError: this is not a module, or the unit has no such setting.
        ValueError: no block is known, a stage or a layer is not there, the network is divided among processes already,
            or a layer, which the message names, cannot be converted.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"expected a torch.nn.Module to convert, got {type(network).__name__}")
    asked = {"relu_in_block": relu_in_block, "relu_after_sum": relu_after_sum, "relu_in_stem": relu_in_stem}
    kept = relus_of(variant, **asked)
    if stages is not None and layers is not None:
        raise ValueError("convert takes stages or layers, not both: name the layers alone")
    make = unit_factory("convert", unit, settings, convert)
    if isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):  # of torch.compile
        inner = convert(inner, variant, stages=stages, layers=layers, unit=unit, **asked, **settings)
        return type(network)(inner, network.dynamo_ctx)
    _refuse_divided(network)

    network = copy.deepcopy(network)
    blocks = _blocks(network)
    if "" in blocks:
        raise ValueError(f"{type(network).__name__} is a block, not a network: convert torch.nn.Sequential(block)")
    chosen = _chosen_layers(network, blocks, stages, layers)
    changed = {name: blocks[name] for name in blocks if any(layer.startswith(f"{name}.") for layer in chosen)}
    whole = stages is None and layers is None
    stem, between, tail = _activations_around(network, blocks) if blocks else ([], [], [])
    if between and whole and not kept["relu_after_sum"]:
        raise ValueError(
            f"{between[0]} is an activation between the blocks of {type(network).__name__}, in no block that convert "
            "knows, so that 'no ReLU anywhere' would not hold: choose what to convert by stages or layers, or give "
            "variant='v3'"
        )
    silenced = []
    for name, anatomy in changed.items():
        silenced += [f"{name}.{each}" for each in anatomy.inner if not kept["relu_in_block"]]
        silenced += [f"{name}.{anatomy.after_sum}"] if not kept["relu_after_sum"] else []
    silenced += stem if relu_in_stem is False or (whole and not kept["relu_in_stem"]) else []
    silenced += tail if not kept["relu_after_sum"] and list(blocks)[-1:] == list(changed)[-1:] else []

    _replace(network, {name: ResidualBlock for name in changed if _is_torchvision_s(network.get_submodule(name))})
    _replace(network, dict.fromkeys(silenced, lambda _: nn.Identity()))
    _replace(network, dict.fromkeys(chosen, lambda layer: _unit_for(make, layer)))
    return network


def _unit_for(make: Callable[..., nn.Module], layer: nn.Module) -> nn.Module:
    """A product unit with the sizes of a convolution, where that lies and as it lies in memory."""
    assert isinstance(layer, nn.Conv2d)
    weight = layer.weight
    window = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
    unit = make(layer.in_channels, layer.out_channels, *window, device=weight.device, dtype=weight.dtype)
    if weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous():
        unit = unit.to(memory_format=torch.channels_last)
    return unit


# -------------------------------------------------------------------------------------------------- what is converted


def _is_torchvision_s(module: nn.Module) -> bool:
    return type(module) in (BasicBlock, Bottleneck)


def _anatomy(module: nn.Module) -> Anatomy | None:
    if isinstance(module, ResidualBlock):
        return _BASIC if module.depth == 2 else _BOTTLENECK
    return ANATOMIES.get(f"{type(module).__module__}.{type(module).__qualname__}")


def _blocks(network: nn.Module) -> dict[str, Anatomy]:
    """The known residual blocks by name, in order."""
    return {name: anatomy for name, module in network.named_modules() if (anatomy := _anatomy(module)) is not None}


def _stages(blocks: Mapping[str, Anatomy]) -> dict[str, list[str]]:
    """The names of the blocks of each stage, by the name of the module that they stand in."""
    stages: dict[str, list[str]] = {}
    for name in blocks:
        stages.setdefault(name.rpartition(".")[0], []).append(name)
    return stages


def _chosen_layers(
    network: nn.Module, blocks: Mapping[str, Anatomy], stages: Sequence[int] | None, layers: Sequence[str] | None
) -> list[str]:
    """The names of the convolutions that become product units, each checked."""
    if layers is not None:
        names = _matching(network, layers)
    else:
        _require_blocks(network, blocks)
        names = [f"{name}.{blocks[name].unit}" for name in _blocks_of(blocks, stages)]
    for name in names:
        if (reason := _refusal(network.get_submodule(name), name)) is not None:
            raise ValueError(f"{name} cannot become a product unit: {reason}")
    return names


def _blocks_of(blocks: Mapping[str, Anatomy], stages: Sequence[int] | None) -> list[str]:
    if stages is None:
        return list(blocks)
    found = list(_stages(blocks).items())
    numbers = [integer(stage) for stage in stages] if isinstance(stages, Sequence) else [None]
    if not numbers or any(number is None or not 1 <= abs(number) <= len(found) for number in numbers):
        names = ", ".join(f"{i} ({name})" for i, (name, _) in enumerate(found, 1))
        raise ValueError(f"stages={stages!r}: expected a list of stages, by number or negative from the end: {names}")
    places = sorted({number - 1 if number > 0 else number + len(found) for number in numbers if number is not None})
    return [name for place in places for name in found[place][1]]


def _matching(network: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The names of the modules that patterns choose; one that chooses nothing is refused."""
    if isinstance(patterns, str) or not patterns:
        raise ValueError(f"layers={patterns!r}: expected a list of names or patterns such as ['layer4.*.conv2']")
    known = [name for name, module in network.named_modules() if isinstance(module, (nn.Conv2d, ProductUnitBase))]
    everything = {name for name, _ in network.named_modules(remove_duplicate=False) if name}
    for pattern in patterns:
        if pattern not in everything and not any(fnmatchcase(name, pattern) for name in known):
            raise ValueError(
                f"{pattern!r} names no convolution of {type(network).__name__}; {did_you_mean(pattern, known)}it has "
                f"{some(known) or 'none'}"
            )
    wanted = [name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)]
    return wanted + [pattern for pattern in patterns if pattern in everything - set(wanted)]  # refused with a reason


def _activations_around(network: nn.Module, blocks: Mapping[str, Anatomy]) -> tuple[list[str], list[str], list[str]]:
    """The activations before, between and after the blocks, within the module that they are the stages of."""
    levels = zip(*(name.split(".")[:-1] for name in blocks), strict=False)  # as deep as the shallowest block
    parts = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels)]
    while parts and type(network.get_submodule(".".join(parts))) in _CONTAINERS:
        parts = parts[:-1]
    body = ".".join(parts)
    names = [name for name, _ in network.named_modules() if not body or name == body or name.startswith(f"{body}.")]
    first, last = names.index(next(iter(blocks))), names.index(list(blocks)[-1])
    around: tuple[list[str], list[str], list[str]] = ([], [], [])
    for place, name in enumerate(names):
        within = any(name.startswith(f"{block}.") for block in blocks)
        if not within and isinstance(network.get_submodule(name), _ACTIVATIONS):
            around[0 if place < first else 1 if place < last else 2].append(name)
    return around


def _replace(network: nn.Module, replacements: Mapping[str, Callable[[Any], nn.Module]]) -> None:
    """Put what a function makes of a module in its place, in every place where it stands."""
    made: dict[nn.Module, nn.Module] = {}
    for name, make in replacements.items():
        module = network.get_submodule(name)
        if is_altered(module):
            raise ValueError(
                f"{name} has hooks, or a forward of its own, which would be lost: take them off, convert, and put them "
                "on again"
            )
        if module not in made:
            made[module] = make(module)
            made[module].training = module.training
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if module in made:
            network.set_submodule(name, made[module])


# --------------------------------------------------------------------------------------------------- what is refused


def _require_blocks(network: nn.Module, blocks: Mapping[str, Anatomy]) -> None:
    if blocks:
        return
    kind = type(network).__name__
    advice = (
        "name the convolutions to convert by layers=[...], or describe the block in pure.models.conversion.ANATOMIES, "
        f"which has {some(ANATOMIES)}"
    )
    if any(isinstance(module, ProductUnitBase) for module in network.modules()):
        raise ValueError(f"{kind} has product units already, and no other block that convert knows; {advice}")
    for name, module in network.named_modules():
        convolutions = sum(isinstance(each, nn.Conv2d) for each in module.modules())
        if name and convolutions > 1 and type(module) not in _CONTAINERS:
            found = f"{name} is a {type(module).__module__}.{type(module).__qualname__}"
            raise ValueError(f"{found}, a kind of block that convert does not know: {advice}")
    raise ValueError(f"{kind} has no residual blocks: {advice}")


def _refusal(layer: nn.Module, name: str) -> str | None:
    """Why this is not converted, and what to do; None where it is."""
    others = "choose other convolutions by stages or layers"
    if isinstance(layer, ProductUnitBase):
        return f"it is one already; {others}"
    if type(layer) is not nn.Conv2d:
        return (
            f"it is a {type(layer).__name__}, which is not, or does more than, a torch.nn.Conv2d; {others}, or put a "
            "torch.nn.Conv2d in its place first"
        )
    if layer.bias is not None:
        return (
            f"it has a bias, and a product unit has none; a normalisation after it makes up for it: set "
            f"network.get_submodule({name!r}).bias = None first, or {others}"
        )
    if layer.padding_mode != "zeros":
        return f"it pads with padding_mode={layer.padding_mode!r}, a product unit with neutral factors; {others}"
    if not layer.weight.is_floating_point():
        return f"its weights are {layer.weight.dtype}, and exponents are real; convert the network before you lower it"
    return None


def _refuse_divided(network: nn.Module) -> None:
    """Raise a ValueError for a network that processes share: they would not know of the new parameters."""
    for name, module in network.named_modules():
        if (kind := type(module).__name__) in _WRAPPERS:
            at = f"{name} is wrapped in {kind}" if name else f"the network is wrapped in {kind}"
            raise ValueError(f"{at}, which would not see the new parameters: convert first, then wrap the result")
    for name, parameter in network.named_parameters():
        if type(parameter).__name__ == "DTensor" or type(parameter.data).__name__ == "DTensor":
            raise ValueError(f"{name} is divided among processes: convert the network before fully_shard")
