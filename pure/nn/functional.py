"""The product unit as a function: readable formulas, and the reference that every faster path is tested against.

A product unit raises each input to a learned exponent and multiplies (Durbin and Rumelhart, 1989; eq. 1 of the
paper).  With the inputs clamped from below by a positive threshold ``tau``, the product becomes a weighted sum between
a logarithm and an exponential (eqs. 2 and 5), so that the matrix product or the convolution of the library does the
work::

    y = prod_i max(x_i, tau) ** w_i  =  exp(sum_i w_i * log(max(x_i, tau)))

Under autocast the logarithm and the exponential stay in float32, and so does the output; only the sum ``z`` between
them is lowered.  ``exp(15)``, as trained networks have it, is 3.3e6: float32 holds it, while float16, which ends at
65504, would make it infinite, as a network wholly in float16 does.  Two costs remain.  Half precision rounds ``z``
to 11 binary digits in float16 and 8 in bfloat16, and the product thereby: for ``z`` from 8 to 16 by up to 0.4 % and
3.2 %, to which the rounded logarithms and exponents add.  And the gradient of ``z``, ``y`` times that of ``y``, is
lowered too: it can overflow float16, where a ``GradScaler`` skips the step; bfloat16 has the range.

Where they hold, :mod:`pure.nn.fused.operators` computes the logarithm, and on a GPU the exponential: the same numbers
from operators that keep less for the backward pass and read and write less.
``with pure.nn.fused.operators.disabled():`` leaves the formulas alone.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pure.nn.fused import operators

__all__ = ["PaddingMode", "product_unit", "product_unit2d"]

PaddingMode = Literal["ones", "threshold"]


def product_unit(x: Tensor, weight: Tensor, threshold: Tensor | float) -> Tensor:
    """Multiply the inputs, each raised to a learned exponent (eqs. 1 and 2).

    ``y[..., o] = prod_i max(x[..., i], threshold) ** weight[o, i]``

    Args:
        x: inputs, shape ``(..., in_features)``, floating point.
        weight: exponents, shape ``(out_features, in_features)``, dtype of ``x``.
        threshold: positive lower bound of the inputs: a number, a scalar tensor, or one value per input feature, shape
            ``(in_features,)``.

    Returns:
        Products, shape ``(..., out_features)``, dtype of ``x``; float32 under autocast, which lowers the product of
        matrices alone.  They are positive, and overflow to infinity where the product does.  A NaN or an infinity among
        the inputs makes every product that it enters NaN: clamping would otherwise turn minus infinity into the
        threshold, and a negative exponent plus infinity into zero.

    Raises:
        TypeError: ``x`` is not a real floating-point tensor.
        ValueError: the last dimension of ``x`` is not ``in_features``, or ``weight`` or ``threshold`` has another shape
            or range than named above.
    """
    _require_vectors(x, weight, "product_unit")
    require_threshold(threshold, x.shape[-1], "product_unit")
    log_x = log_clamped(x, threshold)
    return exp(F.linear(log_x, weight), wide_dtype(x))


def product_unit2d(
    x: Tensor,
    weight: Tensor,
    threshold: Tensor | float,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "ones",
) -> Tensor:
    """Slide a product unit over an image (eqs. 4 and 5): ``exp(conv2d(log(max(x, threshold)), weight))``.

    Args:
        x: feature maps, shape ``(N, C, H, W)`` or ``(C, H, W)``, floating point.
        weight: exponents, shape ``(K, C / groups, kH, kW)``, dtype of ``x``.
        threshold: positive lower bound of the inputs: a number, a scalar tensor, or one value per input channel, shape
            ``(C,)``.
        stride: step of the window in pixels, as in :func:`torch.nn.functional.conv2d`, like the three that follow.
        padding: pixels added on each side, or ``"same"`` or ``"valid"``.
        dilation: distance in pixels between the factors of a window.
        groups: number of blocks that the channels are divided into.
        padding_mode: what a padded pixel counts as: ``"ones"``, the neutral factor (zero in log space), or
            ``"threshold"``, what the clamp makes of a padded zero.

    Returns:
        Products, shape ``(N, K, H', W')`` or ``(K, H', W')`` with ``H'`` and ``W'`` as of a convolution.  Their dtype,
        and NaN for what was NaN or infinite, as of :func:`product_unit`.

    Raises:
        TypeError: ``x`` is not a real floating-point tensor.
        ValueError: ``x`` has the wrong rank or number of channels, ``weight`` or ``threshold`` has another shape or
            range than named above, or ``padding`` or ``padding_mode`` is not one of the named ones.
    """
    require_images(x, weight, groups, "product_unit2d")
    x, threshold, padding = clamped_padding(
        x, weight, threshold, stride, padding, dilation, padding_mode, "product_unit2d"
    )
    log_x = log_clamped(x, threshold)
    return exp(F.conv2d(log_x, weight, None, stride, padding, dilation, groups), wide_dtype(x))


def log_clamped(x: Tensor, threshold: Tensor | float) -> Tensor:
    """``log(max(x, threshold))``, same shape; NaN where ``x`` is NaN or infinite.

    Taken in the dtype of :func:`wide_dtype`.  The operator hands it to the product of matrices in the dtype that
    autocast would make of it.  Where an input equals the threshold, any split of the gradient between the two is right:
    the formula gives it to the input, the operator and compiled graphs to the threshold.
    """
    dtype = wide_dtype(x)
    tau = tau_like(threshold, x, dtype)
    if operators.applies(x) and operators.has_kernels(x):  # they widen what they read, and lower what they write
        return operators.eager_log(x, tau, _lowered(dtype, x))
    x = x.to(dtype)
    if operators.applies(x):
        return operators.eager_log(x, tau, dtype)
    if operators.compiles():
        return operators.graph_log(x, tau)
    # Few masks: they are what a compiler is slow at on CPUs.  Zero times infinity is NaN
    return torch.clamp(x, min=tau).log() + 0 * x


def exp(z: Tensor, dtype: torch.dtype) -> Tensor:
    """``exp(z)`` in a dtype, that of ``z`` or wider."""
    if z.dtype != dtype and operators.applies(z) and operators.has_kernels(z):
        return operators.eager_exp(z, dtype)
    if z.dtype == dtype and z.is_cpu and operators.compiles():
        return operators.graph_exp(z)
    return z.to(dtype).exp()


def tau_like(threshold: Tensor | float, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The threshold in a dtype, by default that of ``x``; what rounds to zero there is lifted to the least positive."""
    dtype = dtype or x.dtype
    least = 2.0**-24 if dtype == torch.float16 else torch.finfo(dtype).tiny  # float16 has tau = 1e-7 as a subnormal
    tau = torch.as_tensor(threshold, dtype=dtype, device=x.device)
    if tau.ndim == 0 and operators.only_autograd_listens(tau) and (tau.is_meta or (tau.is_cpu and tau.item() >= least)):
        return tau  # on small maps, a clamp and its gradient are one per cent of a network's step
    return tau.clamp(min=least)


def wide_dtype(x: Tensor) -> torch.dtype:
    """The dtype of the logarithm and of the exponential: that of ``x``, or float32 for half precision in autocast."""
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) and _autocast(x) else x.dtype


def _lowered(dtype: torch.dtype, x: Tensor) -> torch.dtype:
    """What autocast makes of a dtype in front of a convolution or a product of matrices on the device of ``x``."""
    return torch.get_autocast_dtype(x.device.type) if dtype == torch.float32 and _autocast(x) else dtype


def _autocast(x: Tensor) -> bool:
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def checked_vectors(x: Tensor, weight: Tensor, where: str) -> Tensor:
    """The inputs of a dense unit, checked, and widened under autocast."""
    _require_vectors(x, weight, where)
    return x.to(wide_dtype(x))


def checked_images(x: Tensor, weight: Tensor, groups: int, where: str) -> Tensor:
    """The inputs of a convolutional unit, checked, and widened under autocast."""
    require_images(x, weight, groups, where)
    return x.to(wide_dtype(x))


def _require_vectors(x: Tensor, weight: Tensor, where: str) -> None:
    _require_floating(x, where)
    if weight.ndim != 2:
        raise ValueError(f"{where}: expected weight (out_features, in_features), got {tuple(weight.shape)}")
    in_features = weight.shape[1]
    if x.ndim == 0 or x.shape[-1] != in_features:
        raise ValueError(
            f"{where}: expected inputs of shape (..., {in_features}), one for each column of weight "
            f"{tuple(weight.shape)}, got {tuple(x.shape)}; make the last dimension {in_features}, or build the unit "
            f"with in_features={x.shape[-1] if x.ndim else 1}"
        )


def require_images(x: Tensor, weight: Tensor, groups: int, where: str) -> None:
    _require_floating(x, where)
    if weight.ndim != 4:
        raise ValueError(f"{where}: expected weight (K, C / groups, kH, kW), got {tuple(weight.shape)}")
    channels = weight.shape[1] * groups
    if x.ndim not in (3, 4):
        raise ValueError(
            f"{where}: expected feature maps of shape (N, {channels}, H, W) or ({channels}, H, W), got "
            f"{tuple(x.shape)} with {x.ndim} dimensions; reshape the input, or use "
            f"{where.removesuffix('2d')} for vectors"
        )
    if x.shape[-3] != channels:
        raise ValueError(
            f"{where}: expected {channels} input channels for weight {tuple(weight.shape)} and groups={groups}, "
            f"got {x.shape[-3]} in {tuple(x.shape)}; build the unit with in_channels={x.shape[-3]}, or put the "
            "channels before height and width"
        )


def clamped_padding(
    x: Tensor,
    weight: Tensor,
    threshold: Tensor | float,
    stride: int | tuple[int, int],
    padding: int | tuple[int, int] | str,
    dilation: int | tuple[int, int],
    padding_mode: PaddingMode,
    where: str,
) -> tuple[Tensor, Tensor | float, int | tuple[int, int] | str]:
    """Inputs, threshold and padding as the logarithm and the convolution after it want them, checked.

    Returns:
        ``x``, padded where a padded pixel counts as the threshold, the threshold, broadcast over the pixels, and the
        padding that is left to the convolution.
    """
    require_threshold(threshold, x.shape[-3], where)
    if isinstance(threshold, Tensor) and threshold.ndim == 1:
        threshold = threshold[:, None, None]  # (C, 1, 1): one value per channel
    elif isinstance(threshold, Tensor) and torch.compiler.is_compiling():
        # its gradient is then a sum for each channel first, which a compiler puts into the loop of BN's own sums
        threshold = threshold.expand(x.shape[-3], 1, 1)
    sides = padding_per_side(weight, stride, padding, dilation, where)
    if padding_mode == "threshold":
        return F.pad(x, sides), threshold, 0  # zeros lie below tau: the clamp lifts them to it
    if padding_mode != "ones":
        raise ValueError(f"{where}: unknown padding_mode {padding_mode!r}; expected 'ones' or 'threshold'")
    return x, threshold, padding


def padding_per_side(
    weight: Tensor,
    stride: int | tuple[int, int],
    padding: int | tuple[int, int] | str,
    dilation: int | tuple[int, int],
    where: str,
) -> tuple[int, int, int, int]:
    """The padding of a convolution as :func:`torch.nn.functional.pad` wants it: left, right, top, bottom."""
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        if stride not in (1, (1, 1)):
            raise ValueError(f"{where}: padding='same' needs stride 1, got stride {stride}; give pixels")
        dilation_h, dilation_w = (dilation, dilation) if isinstance(dilation, int) else dilation
        total_h, total_w = dilation_h * (weight.shape[2] - 1), dilation_w * (weight.shape[3] - 1)
        return total_w // 2, total_w - total_w // 2, total_h // 2, total_h - total_h // 2
    if isinstance(padding, str):
        raise ValueError(f"{where}: unknown padding {padding!r}; expected pixels, 'same' or 'valid'")
    padding_h, padding_w = (padding, padding) if isinstance(padding, int) else padding
    if min(padding_h, padding_w) < 0:  # F.pad would crop
        raise ValueError(f"{where}: padding must not be negative, got {padding}")
    return padding_w, padding_w, padding_h, padding_h


def _require_floating(x: Tensor, where: str) -> None:
    if not x.is_floating_point():
        raise TypeError(
            f"{where}: expected a real floating-point tensor, got {x.dtype}; convert it first, for example with "
            "x.float() / 255 for 8-bit images"
        )


def require_threshold(threshold: Tensor | float, inputs: int, where: str) -> None:
    if isinstance(threshold, Tensor):
        if threshold.shape not in ((), (inputs,)):  # another shape could broadcast, over pixels for instance
            raise ValueError(
                f"{where}: expected one threshold, a scalar, or one for each input, shape ({inputs},), got "
                f"{tuple(threshold.shape)}"
            )
    elif not 0 < threshold < float("inf"):
        raise ValueError(f"{where}: the threshold must be positive and finite, got {threshold}; the logarithm needs it")
