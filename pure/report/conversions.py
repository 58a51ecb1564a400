"""What :func:`pure.convert` makes of the networks of torchvision and timm: tried, not typed.

The page *Use the module* shows the tables, and the tests go through the same lists.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from pure.models.conversion import convert
from pure.models.residual import Variant
from pure.nn.batchnorm import reestimate
from pure.nn.units import ProductUnitBase

__all__ = ["CONVERTED", "REFUSED", "Attempt", "attempt", "conversions_table", "make", "refusals_table"]

CONVERTED = {
    "torchvision/resnet18": "basic",
    "torchvision/resnet50": "bottleneck",
    "torchvision/resnext50_32x4d": "bottleneck, 32 groups",
    "torchvision/wide_resnet50_2": "wide bottleneck",
    "torchvision/regnet_x_400mf": "bottleneck, groups of 16",
    "torchvision/regnet_y_400mf": "the same, with gates",
    "timm/resnet18": "basic",
    "timm/resnet26d": "bottleneck, deep stem, pooled shortcut",
    "timm/seresnet18": "basic, with gates",
    "timm/ecaresnet26t": "bottleneck, with gates",
    "timm/resnetblur18": "basic, blurred before it strides",
    "timm/resnext26ts": "bottleneck, SiLU for ReLU",
    "timm/resnetv2_18": "pre-activation, basic",
    "timm/resnetv2_50d": "pre-activation, bottleneck",
    "timm/regnetx_002": "bottleneck, groups of 8",
    "timm/gernet_s": "basic and bottleneck",
}
"""Networks that convert, each with its blocks in words."""

REFUSED = (
    "timm/resnetv2_50x1_bit",
    "timm/hrnet_w18_small",
    "timm/res2net50_26w_4s",
    "torchvision/densenet121",
    "torchvision/vgg11_bn",
)
"""Networks of which something cannot be converted as a whole."""

_CLASSES = 10


@dataclass(frozen=True)
class Attempt:
    """What became of one network.

    Attributes:
        network: the library's name for it.
        units: number of product units.
        parameters: number of trainable numbers.
        more: how many of them the conversion added.
        forward: every logit is finite.
        backward: every parameter has a gradient, and all of them are finite.
        unchanged: the parameters that one step of SGD left as they were.
        exported: the program of :func:`torch.export.export` gives the logits of the network.
    """

    network: str
    units: int
    parameters: int
    more: int
    forward: bool
    backward: bool
    unchanged: tuple[str, ...]
    exported: bool


def make(network: str) -> nn.Module:
    """A network of ten classes with random weights, by library and name, ``"timm/resnet18"``.

    timm's start the last normalisation of each block at 0, so that in the first step the rest of it has no gradient;
    here it starts at 1.
    """
    library, _, name = network.partition("/")
    if library == "torchvision":
        made: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=_CLASSES)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")  # in a notebook: no bar is shown here
            import timm  # an extra
        made = timm.create_model(name, num_classes=_CLASSES)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    return made


def attempt(network: str, variant: Variant = "v1", pixels: int = 64, seed: int = 0) -> Attempt:
    """Convert a network; take a training step on four images of noise; export what comes out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plain = make(network)
        converted = convert(plain, variant)
        images, labels = torch.randn(4, 3, pixels, pixels), torch.arange(4)
    before = copy.deepcopy(dict(converted.named_parameters()))
    logits = converted(images)
    F.cross_entropy(logits, labels).backward()
    parameters = dict(converted.named_parameters())
    torch.optim.SGD(parameters.values(), lr=0.01).step()
    return Attempt(
        network=network,
        units=sum(isinstance(module, ProductUnitBase) for module in converted.modules()),
        parameters=_size(converted),
        more=_size(converted) - _size(plain),
        forward=bool(logits.isfinite().all()),
        backward=all(each.grad is not None and bool(each.grad.isfinite().all()) for each in parameters.values()),
        unchanged=tuple(name for name, value in parameters.items() if torch.equal(value, before[name])),
        exported=_is_exported(converted, images),
    )


def conversions_table(attempts: list[Attempt]) -> pd.DataFrame:
    """One row for each network."""
    yes = {True: "✓", False: "✗"}
    return pd.DataFrame(
        {
            "Network": f"`{each.network}`",
            "Blocks": CONVERTED[each.network],
            "Product units": str(each.units),
            "Parameters": f"{each.parameters:,}",
            "More": f"+{each.more}",
            "Forward": yes[each.forward],
            "Backward": yes[each.backward],
            "Step": yes[not each.unchanged],
            "Export": yes[each.exported],
        }
        for each in attempts
    )


def refusals_table() -> pd.DataFrame:
    """What :func:`pure.convert` says of each network of :data:`REFUSED`."""
    rows = []
    for network in REFUSED:
        with torch.device("meta"):
            plain = make(network)
        try:
            convert(plain)
        except ValueError as error:
            rows.append({"Network": f"`{network}`", "Message": str(error)})
    return pd.DataFrame(rows)


def _is_exported(network: nn.Module, images: Tensor) -> bool:
    reestimate(network, [images])
    network.eval()
    with torch.no_grad():
        expected = network(images)
        program = torch.export.export(network, (images,))
        return torch.allclose(program.module()(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
