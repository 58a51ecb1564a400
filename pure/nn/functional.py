"""The product unit as a function: readable formulas, and the reference that every faster path is tested against.

A product unit raises each input to a learned exponent and multiplies (Durbin and Rumelhart, 1989; eq. 1 of the paper)::

    y = prod_i max(x_i, tau) ** w_i  =  exp(sum_i w_i * log(max(x_i, tau)))         (eqs. 2 and 5)

:mod:`pure.nn.fused.dispatch` computes the logarithm and the exponential by a faster path where one holds;
``with pure.nn.fused.dispatch.disabled():`` leaves these formulas alone.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pure.nn.autocast import at_precision, output_dtype, widened
from pure.nn.checks import (
    PaddingMode,
    Size,
    Window,
    require_choice,
    require_images,
    require_threshold,
    require_vectors,
    window_of,
)
from pure.nn.fused import dispatch
from pure.nn.tracing import leaf

__all__ = ["PaddingMode", "log_clamped", "product_unit", "product_unit2d"]


@leaf
def product_unit(x: Tensor, weight: Tensor, threshold: Tensor | float, precision: torch.dtype | None = None) -> Tensor:
    """Multiply the inputs, each raised to a learned exponent (eqs. 1 and 2).

    ``y[..., o] = prod_i max(x[..., i], threshold) ** weight[o, i]``

    Args:
        x: inputs, shape ``(..., in_features)``, floating point.
        weight: exponents, shape ``(out_features, in_features)``, dtype of ``x``.
        threshold: positive lower bound of the inputs: a number, a tensor of one, or one value per input feature, shape
            ``(in_features,)``.
        precision: dtype of the sum that is the exponent of the product, as of :class:`pure.ProductUnit`.

    Returns:
        Products, shape ``(..., out_features)``, dtype of ``x``; under autocast, which lowers the product of matrices
        alone, float32, or the dtype of ``weight`` if that is half precision.  They are positive, and overflow to
        infinity where the product does.  A NaN or an infinity among the inputs makes every product that it enters NaN:
        clamping would otherwise turn minus infinity into the threshold, and a negative exponent plus infinity into
        zero.

    Raises:
        TypeError: ``x`` is not a real floating-point tensor.
        ValueError: the last dimension of ``x`` is not ``in_features``, or ``weight`` or ``threshold`` has another shape
            or range than named above.
    """
    require_vectors(x, weight, "product_unit")
    require_threshold(threshold, x.shape[-1], "product_unit")
    x = widened(x, weight, precision)
    with at_precision(precision, x.device.type):
        log_x = log_clamped(x, threshold)  # (..., in_features)
        return dispatch.exp(F.linear, (log_x, weight), output_dtype(x, weight))


@leaf
def product_unit2d(
    x: Tensor,
    weight: Tensor,
    threshold: Tensor | float,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "ones",
    precision: torch.dtype | None = None,
) -> Tensor:
    """Slide a product unit over an image (eqs. 4 and 5): ``exp(conv2d(log(max(x, threshold)), weight))``.

    Args:
        x: feature maps, shape ``(N, C, H, W)`` or ``(C, H, W)``, floating point.
        weight: exponents, shape ``(K, C / groups, kH, kW)``, dtype of ``x``.
        threshold: positive lower bound of the inputs: a number, a tensor of one, or one value per input channel, shape
            ``(C,)``.
        stride: step of the window in pixels, as in :func:`torch.nn.functional.conv2d`, like the three that follow.
        padding: pixels added on each side, or ``"same"`` or ``"valid"``.
        dilation: distance in pixels between the factors of a window.
        groups: number of blocks that the channels are divided into.
        padding_mode: what a padded pixel counts as: ``"ones"``, the neutral factor (zero in log space), or
            ``"threshold"``, what the clamp makes of a padded zero.
        precision: as of :func:`product_unit`.

    Returns:
        Products, shape ``(N, K, H', W')`` or ``(K, H', W')`` with ``H'`` and ``W'`` as of a convolution.  Their dtype,
        and NaN for what was NaN or infinite, as of :func:`product_unit`.

    Raises:
        TypeError: ``x`` is not a real floating-point tensor.
        ValueError: ``x`` has the wrong rank or number of channels, ``weight`` or ``threshold`` has another shape or
            range than named above, or ``padding`` or ``padding_mode`` is not one of the named ones.
    """
    require_images(x, weight, groups, "product_unit2d")
    window = window_of("product_unit2d", stride, padding, dilation, groups)
    x, threshold, window = clamped_padding(x, weight, threshold, window, padding_mode, "product_unit2d")
    x = widened(x, weight, precision)
    with at_precision(precision, x.device.type):
        log_x = log_clamped(x, threshold)  # (N, C, H, W)
        return dispatch.exp(partial(convolved, window), (log_x, weight), output_dtype(x, weight))


def log_clamped(x: Tensor, threshold: Tensor | float) -> Tensor:
    """``log(max(x, threshold))``, same shape; NaN where ``x`` is NaN or infinite.

    Args:
        x: inputs, floating point.
        threshold: a number, or a tensor that broadcasts to ``x``.

    Returns:
        The logarithms, in the dtype of ``x``, or in float32 for half precision in autocast.
    """
    return dispatch.log(log_of_maximum, x, threshold)


def log_of_maximum(x: Tensor, tau: Tensor) -> Tensor:
    """``log(max(x, tau))`` of tensors of one dtype: the formula that :func:`pure.nn.fused.dispatch.log` stands for."""
    return torch.clamp(x, min=tau).log() + 0 * x  # zero times infinity is NaN, and masks are slow on CPUs


def convolved(window: Window, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution of feature maps ``(N, C, H, W)`` with a window's settings."""
    return F.conv2d(x, weight, bias, window.stride, window.padding, window.dilation, window.groups)


def clamped_padding(
    x: Tensor,
    weight: Tensor,
    threshold: Tensor | float,
    window: Window,
    padding_mode: PaddingMode,
    where: str,
) -> tuple[Tensor, Tensor | float, Window]:
    """Inputs, threshold and window as the logarithm and the convolution after it take them, checked.

    Returns:
        ``x``, padded where a padded pixel counts as the threshold; the threshold, ``(C, 1, 1)`` where there is one for
        each channel; and the window with the padding that is left to the convolution.
    """
    require_threshold(threshold, x.shape[-3], where)
    require_choice("padding_mode", padding_mode, ("ones", "threshold"), where)
    if isinstance(threshold, Tensor):
        threshold = dispatch.over_pixels(threshold, x)
    if padding_mode == "threshold":
        return F.pad(x, window.sides(weight)), threshold, window._replace(padding=(0, 0))  # the clamp lifts the zeros
    return x, threshold, window
