r"""A network for inference alone: every batch normalisation folded into the layers beside it.

In evaluation mode BN is :math:`y \mapsto s\,y + t` for each channel, with :math:`s = \gamma / \sqrt{v + \epsilon}` and
:math:`t = \beta - s\,m`.  Behind a convolution both numbers go into its weights and a bias.  Behind a product unit,

.. math:: s\,e^{z} + t = \operatorname{sign}(s)\,e^{z + \log|s|} + t ,

the scale goes into the exponent, where it is the bias of the convolution that computes ``z``, and the sign and the
shift are what remains; the sign costs nothing where all are positive.  BN before a unit is that behind the convolution
in front of it::

    network.eval()
    fast = fold(network)
    logits = fast(images)
"""

from __future__ import annotations

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import Bottleneck, ResNet

from pure.models import ResidualNetwork
from pure.models.preact import PreActBasicBlock, PreActBottleneck
from pure.nn.blocks import BasicBlock, ProductUnitBlock
from pure.nn.functional import clamped_padding, exp, log_clamped, require_images, wide_dtype
from pure.nn.units import ProductUnit2d, at_own_precision

__all__ = ["FoldedProductUnit2d", "fold"]


class FoldedProductUnit2d(ProductUnit2d):
    """A product unit with the BN behind it: ``sign * exp(z + log_scale) + shift``, for inference.

    Input and output as of :class:`pure.ProductUnit2d`.  The three numbers of each channel are buffers of shape
    ``(out_channels,)``; where all signs are positive ``sign`` is None.

    Args:
        unit: the paper's unit, shares nothing with this one afterwards.
        bn: in evaluation mode, with running statistics.
    """

    log_scale: Tensor
    shift: Tensor
    sign: Tensor | None

    def __init__(self, unit: ProductUnit2d, bn: nn.BatchNorm2d) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy.deepcopy(unit).__dict__)
        scale, shift = _scale_and_shift(bn)
        dtype = unit.weight.dtype
        self.register_buffer(
            "log_scale", scale.abs().log().to(dtype)
        )  # minus infinity for a scale of zero, whose power is 0
        self.register_buffer("shift", shift.to(dtype))
        self.register_buffer("sign", None if (scale >= 0).all() else scale.sign().to(dtype))

    @at_own_precision
    def forward(self, x: Tensor) -> Tensor:
        """Normalised products over windows of ``x``, ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``."""
        require_images(x, self.weight, self.groups, type(self).__name__)
        x, threshold, padding = clamped_padding(
            x,
            self.weight,
            self.threshold,
            self.stride,
            self.padding,
            self.dilation,
            self.padding_mode,
            type(self).__name__,
        )
        log_x = log_clamped(x, threshold)
        z = F.conv2d(log_x, self.weight, self.log_scale, self.stride, padding, self.dilation, self.groups)
        y = exp(z, wide_dtype(x))
        if self.sign is not None:
            y = y * self.sign[:, None, None]
        shift = self.shift[:, None, None]
        return y + shift if torch.is_grad_enabled() else y.add_(shift)  # in place: no map is asked for, none read twice


def fold(network: nn.Module) -> nn.Module:
    """A copy of a network with each BN folded into the convolution or the product unit in front of it.

    Equal to the network to rounding in evaluation mode, in any memory format, with the names of the modules kept;
    what is folded away is ``nn.Identity``.  BN with nothing in front of it to take it stays: behind a stabilised or a
    complex product unit, and in networks with pre-activation, where it comes first.

    Args:
        network: one of :func:`pure.create_model`, or a block, in evaluation mode; is not changed.

    Returns:
        A network for inference.  It must not be trained, and its state has other keys.

    Raises:
        ValueError: the network is in training mode.
    """
    if any(module.training for module in network.modules()):
        raise ValueError(
            f"fold needs a network in evaluation mode, and {type(network).__name__} is in training mode, or a part of "
            "it; call network.eval() first"
        )
    folded = copy.deepcopy(network)
    for module in list(folded.modules()):
        for name, behind in _pairs(module).items():
            if (merged := _merge(getattr(module, name), getattr(module, behind))) is not None:
                setattr(module, name, merged)
                setattr(module, behind, nn.Identity())
    return folded.eval().requires_grad_(False)


_FOLLOWED_BY: dict[type[nn.Module], dict[str, str]] = {
    ResidualNetwork: {"conv1": "bn1"},
    ResNet: {"conv1": "bn1"},
    ProductUnitBlock: {"conv1": "bn1", "conv2": "bn2"},
    BasicBlock: {"conv1": "bn1", "conv2": "bn2"},
    Bottleneck: {"conv1": "bn1", "conv2": "bn2", "conv3": "bn3"},
    PreActBasicBlock: {"conv1": "bn2"},
    PreActBottleneck: {"conv1": "bn2", "conv2": "bn3"},
}
"""For each kind of module, the names of its layers and of the BN right behind each."""


def _pairs(module: nn.Module) -> dict[str, str]:
    """Names of the layers of a module and of what stands right behind them."""
    if isinstance(module, nn.Sequential):
        return dict(itertools.pairwise(name for name, _ in module.named_children()))
    return next((names for kind, names in _FOLLOWED_BY.items() if isinstance(module, kind)), {})


def _merge(layer: nn.Module, behind: nn.Module) -> nn.Module | None:
    """One layer in place of two; None where the second is no BN, or the first cannot take it."""
    if type(behind) is not nn.BatchNorm2d or behind.running_var is None:
        return None
    if type(layer) is nn.Conv2d:
        return fuse_conv_bn_eval(layer, behind)
    return FoldedProductUnit2d(layer, behind) if type(layer) is ProductUnit2d else None


def _scale_and_shift(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What BN multiplies by and adds in evaluation mode, shape ``(C,)``, in single or double precision."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    dtype = torch.promote_types(bn.running_var.dtype, torch.float32)
    scale = torch.rsqrt(bn.running_var.to(dtype) + bn.eps)
    if bn.weight is not None:
        scale = scale * bn.weight.detach()
    shift = -scale * bn.running_mean
    return scale, shift if bn.bias is None else shift + bn.bias.detach()
