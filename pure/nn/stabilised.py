"""A product unit that neither dies below its threshold nor overflows above it.

The paper's unit ``exp(sum_i w_i * log(max(x_i, tau)))`` has two hard edges.  Below the threshold the gradient of an
input is zero, and after training most inputs lie there; above it the exponential turns a sum of 15 into 3.3e6 and, in
single precision, a sum of 89 into infinity.  Each edge is rounded by one setting of :func:`stabilised_product_unit`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pure.nn.autocast import at_precision, log_dtype, output_dtype, widened
from pure.nn.checks import (
    PaddingMode,
    Size,
    require_images,
    require_positive,
    require_threshold,
    require_vectors,
    window_of,
)
from pure.nn.functional import clamped_padding, convolved, log_clamped
from pure.nn.fused import dispatch
from pure.nn.tracing import leaf
from pure.nn.units import ProductUnit, ProductUnit2d

__all__ = ["StabilisedProductUnit", "StabilisedProductUnit2d", "stabilised_product_unit", "stabilised_product_unit2d"]

SMOOTHNESS = 0.5
"""An input of zero then has 12 % of the gradient that it would have far above the threshold, the paper's unit 0."""

BOUND = 11.0
"""The largest whole number whose exponential float16 holds, which ends at ``exp(11.09)``; pre-exponents of trained
networks were seen from -11.5 to 15.1."""


@leaf
def stabilised_product_unit(
    x: Tensor,
    weight: Tensor,
    threshold: Tensor | float,
    smoothness: float | None = SMOOTHNESS,
    bound: float | None = BOUND,
    precision: torch.dtype | None = None,
) -> Tensor:
    r"""Multiply powers of smoothly positive inputs, within bounds: ``exp(B * tanh(z / B))``, ``z = w . log(x_plus)``.

    *Smooth positivity.*  With :math:`s = \sigma\tau`, ``smoothness`` :math:`\sigma`,

    .. math:: x^+ = \tau + s\,\log\bigl(1 + e^{(x - \tau)/s}\bigr), \qquad
              \frac{\partial x^+}{\partial x} = \frac{1}{1 + e^{-(x - \tau)/s}} > 0 .

    It lies above ``max(x, tau)`` by at most :math:`s \ln 2`, at ``x = tau``, equals it to rounding from some
    :math:`17 s` away in single precision, and tends to it for :math:`\sigma \to 0`.  The width :math:`s` grows with the
    threshold, so that scaling inputs and threshold together by ``c`` still scales the unbounded product by
    :math:`c^{\sum_i w_i}`.

    *Bounded exponent.*  With ``bound`` :math:`B` and :math:`z = \sum_i w_i \log x_i^+`,

    .. math:: y = \exp\bigl(B \tanh(z / B)\bigr), \qquad
              \frac{\partial y}{\partial z} = y\,\bigl(1 - \tanh^2(z / B)\bigr) .

    The exponent is the identity near zero, :math:`z - z^3 / (3 B^2)`, and odd, so that a product and its reciprocal are
    bounded alike: :math:`e^{-B} \le y \le e^B`.  The derivative stays below :math:`y` and tends to zero at both ends,
    so that neither direction overflows.

    Args:
        x: inputs, shape ``(..., in_features)``, floating point.
        weight: exponents, shape ``(out_features, in_features)``, dtype of ``x``.
        threshold: as of :func:`pure.nn.functional.product_unit`; what inputs far below it count as.
        smoothness: width of the transition at the threshold, in units of the threshold; None for the hard maximum.
        bound: largest magnitude of the exponent ``z``, the logarithm of the product; None for no bound.  With both None
            this is :func:`pure.nn.functional.product_unit`.
        precision: as of :func:`pure.nn.functional.product_unit`.

    Returns:
        Products, shape ``(..., out_features)``, between ``exp(-bound)`` and ``exp(bound)``, of the dtype that
        :func:`pure.nn.functional.product_unit` returns.  A NaN or an infinity among the inputs makes every product that
        it enters NaN, and so does a sum ``z`` that overflows: the bound would make a plausible number of it.

    Raises:
        TypeError: ``x`` is not a real floating-point tensor.
        ValueError: as of :func:`pure.nn.functional.product_unit`, or ``smoothness`` or ``bound`` is not positive and
            finite.
    """
    where = "stabilised_product_unit"
    require_vectors(x, weight, where)
    require_threshold(threshold, x.shape[-1], where)
    require_positive(where, smoothness=smoothness, bound=bound)
    x = widened(x, weight, precision)
    with at_precision(precision, x.device.type):
        log_x = _log_smooth(x, threshold, smoothness)  # (..., in_features)
        return _exp_bounded(F.linear, (log_x, weight), bound, output_dtype(x, weight))


@leaf
def stabilised_product_unit2d(
    x: Tensor,
    weight: Tensor,
    threshold: Tensor | float,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "ones",
    smoothness: float | None = SMOOTHNESS,
    bound: float | None = BOUND,
    precision: torch.dtype | None = None,
) -> Tensor:
    """Slide a stabilised product unit over an image: the convolution of :func:`stabilised_product_unit`.

    Args:
        x: feature maps, shape ``(N, C, H, W)`` or ``(C, H, W)``, floating point.
        weight: exponents, shape ``(K, C / groups, kH, kW)``, dtype of ``x``.
        threshold: as of :func:`pure.nn.functional.product_unit2d`, like the five that follow.
        stride: step of the window in pixels.
        padding: pixels added on each side, or ``"same"`` or ``"valid"``.
        dilation: distance in pixels between the factors of a window.
        groups: number of blocks that the channels are divided into.
        padding_mode: a padded pixel counts as the neutral factor (``"ones"``), or as what the smooth maximum makes of a
            padded zero (``"threshold"``).
        smoothness: as of :func:`stabilised_product_unit`.
        bound: as of :func:`stabilised_product_unit`.
        precision: as of :func:`stabilised_product_unit`.

    Returns:
        Products, shape ``(N, K, H', W')`` or ``(K, H', W')`` with ``H'`` and ``W'`` as of a convolution; values, dtype
        and NaN as of :func:`stabilised_product_unit`.

    Raises:
        TypeError: ``x`` is not a real floating-point tensor.
        ValueError: as of :func:`pure.nn.functional.product_unit2d`, or ``smoothness`` or ``bound`` is not positive and
            finite.
    """
    where = "stabilised_product_unit2d"
    require_images(x, weight, groups, where)
    require_positive(where, smoothness=smoothness, bound=bound)
    window = window_of(where, stride, padding, dilation, groups)
    x, threshold, window = clamped_padding(x, weight, threshold, window, padding_mode, where)
    x = widened(x, weight, precision)
    with at_precision(precision, x.device.type):
        log_x = _log_smooth(x, threshold, smoothness)  # (N, C, H, W)
        return _exp_bounded(partial(convolved, window), (log_x, weight), bound, output_dtype(x, weight))


class StabilisedProductUnit(ProductUnit):
    """A dense layer of stabilised product units, in place of :class:`pure.ProductUnit`: same parameters, same state.

    Args:
        in_features: number of inputs of each unit.
        out_features: number of units.
        smoothness: width of the transition at the threshold, in units of the threshold; None for the hard maximum.
        bound: largest magnitude of the logarithm of a product; None for no bound.  The default holds in every
            floating-point dtype, float16 included.
        **settings: the others of :class:`pure.ProductUnit`.

    Raises:
        ValueError: as of :class:`pure.ProductUnit`, or ``smoothness`` or ``bound`` is not positive and finite.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        smoothness: float | None = SMOOTHNESS,
        bound: float | None = BOUND,
        **settings: Any,
    ) -> None:
        require_positive(type(self).__name__, smoothness=smoothness, bound=bound)
        super().__init__(in_features, out_features, **settings)
        self.smoothness = smoothness
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        """Bounded products of powers of ``x``, shape ``(..., in_features)`` to ``(..., out_features)``."""
        return stabilised_product_unit(x, self.weight, self.tau(), self.smoothness, self.bound, self.precision)

    def extra_repr(self) -> str:
        """The sizes, its two own settings, and the others that differ from the paper's."""
        return f"{super().extra_repr()}, smoothness={self.smoothness}, bound={self.bound}"


class StabilisedProductUnit2d(ProductUnit2d):
    """A convolutional layer of stabilised product units, in place of :class:`pure.ProductUnit2d`.

    Args:
        in_channels: channels of the input.
        out_channels: number of product units at each position.
        kernel_size: height and width of the window in pixels.
        *window: stride, padding, dilation and groups, by position or by name as of :class:`pure.ProductUnit2d`.
        smoothness: as of :class:`StabilisedProductUnit`.
        bound: as of :class:`StabilisedProductUnit`.
        **settings: the others of :class:`pure.ProductUnit2d`.

    Raises:
        ValueError: as of :class:`pure.ProductUnit2d`, or ``smoothness`` or ``bound`` is not positive and finite.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *window: Any,
        smoothness: float | None = SMOOTHNESS,
        bound: float | None = BOUND,
        **settings: Any,
    ) -> None:
        require_positive(type(self).__name__, smoothness=smoothness, bound=bound)
        super().__init__(in_channels, out_channels, kernel_size, *window, **settings)
        self.smoothness = smoothness
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        """Bounded products over windows of ``x``, ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``."""
        return stabilised_product_unit2d(
            x,
            self.weight,
            self.tau(),
            *self.window,
            self.padding_mode,
            self.smoothness,
            self.bound,
            self.precision,
        )

    def extra_repr(self) -> str:
        """The sizes, its two own settings, and the others that differ from the defaults."""
        return f"{super().extra_repr()}, smoothness={self.smoothness}, bound={self.bound}"


def _log_smooth(x: Tensor, threshold: Tensor | float, smoothness: float | None) -> Tensor:
    """Logarithm of the smooth maximum of ``x`` and the threshold, same shape; NaN for NaN and infinities.

    Written as the maximum plus the rounding of its edge, which keeps it exact to rounding on both sides.
    """
    if smoothness is None:
        return log_clamped(x, threshold)
    wide = _single_or_double(x)  # the width of the edge and its reciprocal need the range
    tau = dispatch.tau_like(threshold, wide)
    steepness = 1 / (smoothness * tau)  # multiplied by: in a quotient by tau, the gradient of tau could be 0 * infinity
    edge = smoothness * tau * F.softplus(-(wide - tau).abs() * steepness)
    log_x = (torch.maximum(wide, tau) + edge).log().masked_fill(x.isinf(), torch.nan)
    return log_x.to(log_dtype(x))


def _exp_bounded(
    argument: Callable[..., Tensor], tensors: tuple[Tensor, ...], bound: float | None, dtype: torch.dtype
) -> Tensor:
    """``exp(bound * tanh(z / bound))`` with ``z = argument(*tensors)``.

    NaN where ``z`` is infinite, of which tanh would make a finite number.
    """
    if bound is None:
        return dispatch.exp(argument, tensors, dtype)
    z = argument(*tensors)
    # in half precision, bound * y would overflow on the way back though the derivative does not
    wide = _single_or_double(z)
    squashed = (wide / bound + 0 * wide).tanh()  # zero times infinity is NaN
    return dispatch.exp(partial(torch.mul, bound), (squashed,), wide.dtype).to(dtype)


def _single_or_double(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
