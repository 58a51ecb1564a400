"""A network for inference alone: every batch normalisation folded into the layer right before it.

After a convolution, BN goes into its weights and a bias.  After a product unit, BN's scale goes into the exponent, as
the bias of its convolution; the sign, where not all are positive, and the shift remain.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pure.nn.autocast import at_precision, output_dtype, widened
from pure.nn.blocks import SubsamplingConv2d
from pure.nn.checks import PaddingMode, Size, require_images, window_of
from pure.nn.functional import clamped_padding, convolved, log_clamped
from pure.nn.fused import dispatch
from pure.nn.tracing import leaf
from pure.nn.units import ProductUnit2d, ProductUnitBase

__all__ = ["FoldedProductUnit2d", "fold", "is_altered"]


class FoldedProductUnit2d(ProductUnit2d):
    r"""A product unit with the BN after it: ``sign * exp(z + log_scale) + shift``, for inference.

    In evaluation mode BN is :math:`y \mapsto s\,y + t` for each channel, with :math:`s = \gamma / \sqrt{v + \epsilon}`
    and :math:`t = \beta - s\,m`, so that after a product unit

    .. math:: s\,e^{z} + t = \operatorname{sign}(s)\,e^{z + \log|s|} + t .

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

    def forward(self, x: Tensor) -> Tensor:
        """Normalised products over windows of ``x``, ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``."""
        return folded_product_unit2d(
            x,
            self.weight,
            self.tau(),
            self.log_scale,
            self.sign,
            self.shift,
            *self.window,
            self.padding_mode,
            self.precision,
        )


@leaf
def folded_product_unit2d(
    x: Tensor,
    weight: Tensor,
    threshold: Tensor,
    log_scale: Tensor,
    sign: Tensor | None,
    shift: Tensor,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
    padding_mode: PaddingMode,
    precision: torch.dtype | None,
) -> Tensor:
    """``sign * exp(z + log_scale) + shift`` with ``z`` the logarithm of :func:`pure.nn.functional.product_unit2d`.

    Args and errors as of that function; ``log_scale``, ``sign`` and ``shift`` have one value for each output channel.
    """
    where = "FoldedProductUnit2d"
    require_images(x, weight, groups, where)
    window = window_of(where, stride, padding, dilation, groups)
    x, threshold_, window = clamped_padding(x, weight, threshold, window, padding_mode, where)
    x = widened(x, weight, precision)
    with at_precision(precision, x.device.type):
        log_x = log_clamped(x, threshold_)  # (N, C, H, W)
        y = dispatch.exp(partial(convolved, window), (log_x, weight, log_scale), output_dtype(x, weight))
    if sign is not None:
        y = y * sign[:, None, None]
    shift = shift[:, None, None]
    return y + shift if torch.is_grad_enabled() else y.add_(shift)  # in place: no new map


def fold(network: nn.Module) -> nn.Module:
    """A copy of a network with each BN folded into the convolution or the product unit right before it.

    Equal to the network to rounding in evaluation mode, in any memory format, with the names of the modules kept; what
    is folded away is ``nn.Identity``.  Only what a trace of the network proves to be adjacent is folded: a BN whose
    input is the output of that one layer, which nothing else uses, both called once and without hooks.  What
    :mod:`torch.fx` cannot trace is left as it is; so is BN after a stabilised or a complex product unit.

    Args:
        network: any network in evaluation mode; is not changed.

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
    for layer, norm in list(_adjacent(folded)):
        if (merged := _merge(folded.get_submodule(layer), folded.get_submodule(norm))) is not None:
            folded.set_submodule(layer, merged)
            folded.set_submodule(norm, nn.Identity())
    return folded.eval().requires_grad_(False)


class _Tracer(fx.Tracer):
    """Looks into every module but PyTorch's layers and product units."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (ProductUnitBase, SubsamplingConv2d)) or super().is_leaf_module(m, module_qualified_name)


def _adjacent(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of the layers, and of the BN that is the only user of each one's output, each called once."""
    try:
        graph = _Tracer().trace(network)
    except Exception:  # whatever a forward does with its inputs that a stand-in cannot: then nothing is proven
        return
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    names = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    for node in graph.nodes:
        if node.op == "call_module" and len(node.args) == 1 and isinstance(before := node.args[0], fx.Node):
            targets = (str(before.target), str(node.target))
            if (
                before.op == "call_module"
                and list(before.users) == [node]
                and all(calls[name] == names[id(network.get_submodule(name))] == 1 for name in targets)
            ):
                yield targets


def _merge(layer: nn.Module, norm: nn.Module) -> nn.Module | None:
    """One layer in place of two; None where the second is not a BN, or the first cannot take it."""
    if type(norm) is not nn.BatchNorm2d or norm.running_var is None or is_altered(layer) or is_altered(norm):
        return None
    if isinstance(layer, nn.Conv2d) and type(layer) in (nn.Conv2d, SubsamplingConv2d):
        return fuse_conv_bn_eval(layer, norm)
    return FoldedProductUnit2d(layer, norm) if type(layer) is ProductUnit2d else None


def is_altered(module: nn.Module) -> bool:
    """Whether a module overrides ``forward``, or has hooks, which see what folding changes."""
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return "forward" in vars(module) or any(getattr(module, name) for name in hooks)


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
