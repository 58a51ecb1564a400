r"""A product unit without a threshold: real inputs of either sign, raised to real powers in the complex plane.

:func:`complex_product_unit` has the formulas and what happens at zero.  The sums ``z``, ``h`` and, with ``eps = 0``,
``e`` in them are three matrix products or convolutions with the same exponents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pure.nn.autocast import at_precision, log_dtype, output_dtype, widened
from pure.nn.checks import Size, require_images, require_vectors, window_of
from pure.nn.functional import convolved, product_unit, product_unit2d
from pure.nn.tracing import leaf
from pure.nn.units import InitA, ProductUnitBase, Windowed, dense_weight, window_weight

__all__ = ["ComplexProductUnit", "ComplexProductUnit2d", "complex_product_unit", "complex_product_unit2d"]


@leaf
def complex_product_unit(x: Tensor, weight: Tensor, eps: float = 0.0, precision: torch.dtype | None = None) -> Tensor:
    r"""Multiply real inputs of either sign, each raised to a real exponent, and take the real part.

    ``y[..., o] = Re prod_i x[..., i] ** weight[o, i]``, each power on the principal branch.

    A negative number has no real power with a fractional exponent, but it has a complex one.  With the principal branch
    of the logarithm, :math:`\operatorname{Log} x = \log|x| + i\pi\,[x < 0]` for real :math:`x \ne 0`, the product of
    powers is

    .. math:: \prod_i x_i^{w_i} = \exp\Bigl(\sum_i w_i \operatorname{Log} x_i\Bigr) = e^{z}\,e^{i\pi h}, \qquad
              z = \sum_i w_i \log|x_i|, \quad h = \sum_i w_i\,[x_i < 0],

    and the unit is its real part,

    .. math:: y = e^{z} \cos(\pi h) .

    Durbin and Rumelhart (1989) dropped the imaginary part too.  Real products do not change: positive inputs give the
    paper's unit above its threshold, and whole exponents the ordinary product with its sign :math:`(-1)^h`, so that
    :math:`x^2 y^3` is negative where :math:`y` is.  With fractional exponents, negative inputs turn the product away
    from the real axis, and the unit is its projection: the magnitude :math:`e^z` times a factor between -1 and 1.
    Scaling all inputs by ``c > 0`` scales it by :math:`c^{\sum_i w_i}`.

    *At x = 0* the logarithm is minus infinity.  The unit takes the limit in which all zeros among the factors are one
    :math:`\epsilon \to 0^+`: with :math:`e = \sum_i w_i\,[x_i = 0]` it is 0 for :math:`e > 0`, infinite for
    :math:`e < 0`, and a factor of one for :math:`e = 0`, as :math:`0^0 = 1` in Python.  So one zero decides a whole
    product, and zeros get no gradient; next to zero the gradient :math:`w\,y / x` has no bound, and through several
    layers such gradients multiply until they overflow.  With ``eps > 0``, magnitudes below it count as ``eps``: set it
    where zeros are common, after a ReLU for instance, and in networks.  :func:`pure.create_model` sets it to ``ln 2``,
    where the paper's threshold starts; with 0.1 and with 0.01, PURe20 diverged in its first epoch on the digits.

    Args:
        x: inputs, shape ``(..., in_features)``, floating point.
        weight: exponents, shape ``(out_features, in_features)``, dtype of ``x``.
        eps: magnitudes of the inputs below it count as ``eps``; with 0, zeros are powers of zero as above.
        precision: as of :func:`pure.nn.functional.product_unit`.

    Returns:
        Real parts, shape ``(..., out_features)``, dtype of ``x``; float32 under autocast, which lowers the products of
        matrices alone.  They overflow to infinity of either sign where the product does.  A NaN or an infinity among
        the inputs makes every product that it enters NaN.

    Raises:
        TypeError: ``x`` is not a real floating-point tensor.
        ValueError: the last dimension of ``x`` is not ``in_features``, ``weight`` has another rank than named above, or
            ``eps`` is negative or not finite.
    """
    require_vectors(x, weight, "complex_product_unit")
    _require_eps("complex_product_unit", eps)
    return _real_product(F.linear, x, weight, eps, precision)


@leaf
def complex_product_unit2d(
    x: Tensor,
    weight: Tensor,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    eps: float = 0.0,
    precision: torch.dtype | None = None,
) -> Tensor:
    """Slide a complex product unit over an image: ``exp(conv(log|x|, w)) * cos(pi * conv([x < 0], w))``.

    Args:
        x: feature maps, shape ``(N, C, H, W)`` or ``(C, H, W)``, floating point.
        weight: exponents, shape ``(K, C / groups, kH, kW)``, dtype of ``x``.
        stride: step of the window in pixels, as in :func:`torch.nn.functional.conv2d`, like the three that follow.
        padding: pixels added on each side, or ``"same"`` or ``"valid"``; a padded pixel counts as the neutral factor.
        dilation: distance in pixels between the factors of a window.
        groups: number of blocks that the channels are divided into.
        eps: as of :func:`complex_product_unit`.
        precision: as of :func:`complex_product_unit`.

    Returns:
        Real parts, shape ``(N, K, H', W')`` or ``(K, H', W')`` with ``H'`` and ``W'`` as of a convolution; values,
        dtype and NaN as of :func:`complex_product_unit`.

    Raises:
        TypeError: ``x`` is not a real floating-point tensor.
        ValueError: ``x`` has the wrong rank or number of channels, ``weight`` has another rank than named above,
            ``padding`` is not one of the named ones, or ``eps`` is negative or not finite.
    """
    require_images(x, weight, groups, "complex_product_unit2d")
    window = window_of("complex_product_unit2d", stride, padding, dilation, groups)
    _require_eps("complex_product_unit2d", eps)
    return _real_product(partial(convolved, window), x, weight, eps, precision)


class ComplexUnit(ProductUnitBase):
    """What both complex units share: the floor of the magnitudes."""

    def __init__(self, weight: Tensor, bias: bool, eps: float, init_a: InitA, precision: torch.dtype | None) -> None:
        super().__init__(weight, init_a, bias, precision)
        _require_eps(type(self).__name__, eps)
        self.eps = eps
        self.reset_parameters()

    @property
    def lower_bound(self) -> Tensor:
        """``eps``, the value that smaller magnitudes count as, a scalar."""
        return self.weight.new_tensor(self.eps)

    def clamped(self, x: Tensor) -> Tensor:
        """Where magnitudes count as ``eps``: booleans, shape of ``x``."""
        return super().clamped(x.abs())

    def floor(self, x: Tensor) -> float:
        """What the magnitudes of ``x`` are clamped at where zeros need a logarithm."""
        return max(self.eps, torch.finfo(x.dtype).tiny)

    def settings(self) -> dict[str, tuple[object, object]]:
        """The settings that differ from the defaults."""
        return {"eps": (self.eps, 0.0), **super().settings()}


class ComplexProductUnit(ComplexUnit):
    """A dense layer of complex product units, used like :class:`torch.nn.Linear` without a bias; it has no threshold.

    Input ``(..., in_features)``, output ``(..., out_features)``, both real and in the layer's floating-point dtype.

    Args:
        in_features: number of inputs of each unit.
        out_features: number of units.
        bias: must be False; a product unit has none.
        eps: magnitudes of the inputs below it count as ``eps``; with 0, an input of zero makes a product zero or
            infinite, as :func:`complex_product_unit` says.
        init_a: as of :class:`pure.ProductUnit`.
        precision: dtype of the sums with the exponents, as of :class:`pure.ProductUnit`; None follows autocast.
        device: where the exponents are made.
        dtype: their floating-point dtype.

    Raises:
        ValueError: a number of features below one, or ``eps`` negative or not finite.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        *,
        eps: float = 0.0,
        init_a: InitA = 5.0,
        precision: torch.dtype | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        weight = dense_weight(type(self).__name__, in_features, out_features, device, dtype)
        super().__init__(weight, bias, eps, init_a, precision)
        self.out_features, self.in_features = weight.shape

    def forward(self, x: Tensor) -> Tensor:
        """Real parts of products of powers of ``x``, shape ``(..., in_features)`` to ``(..., out_features)``."""
        return complex_product_unit(x, self.weight, self.eps, self.precision)

    def magnitude(self, x: Tensor) -> Tensor:
        """Products without the cosine: the paper's unit of the magnitudes."""
        return product_unit(x.abs(), self.weight, self.floor(x))


class ComplexProductUnit2d(Windowed, ComplexUnit):
    """A convolutional layer of complex product units, used like :class:`torch.nn.Conv2d` without a bias.

    Input ``(N, in_channels, H, W)`` or ``(in_channels, H, W)``, output ``(N, out_channels, H', W')`` or
    ``(out_channels, H', W')``, real and in the layer's floating-point dtype; ``H'`` and ``W'`` as of a convolution.

    Args:
        in_channels: channels of the input.
        out_channels: number of product units at each position.
        kernel_size: height and width of the window in pixels.
        stride: step of the window in pixels.
        padding: pixels added on each side, each a neutral factor, or ``"same"`` or ``"valid"``.
        dilation: distance in pixels between the factors of a window.
        groups: number of blocks that the channels are divided into.
        bias: must be False; a product unit has none.
        eps: as of :class:`ComplexProductUnit`.
        init_a: as of :class:`ComplexProductUnit`.
        precision: as of :class:`ComplexProductUnit`.
        device: where the exponents are made.
        dtype: their floating-point dtype.

    Raises:
        ValueError: a size below one, channels that the groups do not divide, or ``eps`` negative or not finite.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = False,
        *,
        eps: float = 0.0,
        init_a: InitA = 5.0,
        precision: torch.dtype | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        name = type(self).__name__
        weight = window_weight(name, in_channels, out_channels, kernel_size, groups, device, dtype)
        window = window_of(name, stride, padding, dilation, groups)
        super().__init__(weight, bias, eps, init_a, precision)
        self.set_sizes(weight, in_channels, window)

    def forward(self, x: Tensor) -> Tensor:
        """Real parts over windows of ``x``, ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``."""
        return complex_product_unit2d(x, self.weight, *self.window, self.eps, self.precision)

    def magnitude(self, x: Tensor) -> Tensor:
        """Products over windows without the cosine: the paper's unit of the magnitudes."""
        return product_unit2d(x.abs(), self.weight, self.floor(x), *self.window)


def _real_product(
    summed: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, eps: float, precision: torch.dtype | None
) -> Tensor:
    """The real part of the product, given what sums the logarithms with the exponents."""
    x = widened(x, weight, precision)
    with at_precision(precision, x.device.type):
        wide = x.to(log_dtype(x))
        sums = [summed(part, weight).to(wide.dtype) for part in _log_parts(wide, eps)]
        return _real_exp(*sums).to(output_dtype(x, weight))


def _log_parts(x: Tensor, eps: float) -> tuple[Tensor, ...]:
    """What the exponents weigh: ``log|x|``, ``[x < 0]`` and, where zeros are not lifted to ``eps``, ``[x = 0]``.

    The logarithm is finite at zero, where the last part stands in for it, and NaN where ``x`` is NaN or infinite.
    """
    negative = (x < 0).to(x.dtype)
    if eps > 0:
        floor = max(eps, torch.finfo(x.dtype).tiny)  # half precision would round a smaller one to zero
        return x.abs().clamp(min=floor).log().masked_fill(x.isinf(), torch.nan), negative
    zero = x == 0
    log = x.abs().masked_fill(zero, 1.0).log().masked_fill(x.isinf(), torch.nan)
    return log, negative, zero.to(x.dtype)


def _real_exp(z: Tensor, h: Tensor, e: Tensor | None = None) -> Tensor:
    """``exp(z) * cos(pi * h)`` times the limit ``0 ** e``, which goes into ``z``: ``exp`` could overflow before it."""
    if e is not None:
        e = e.detach()
        z = z - torch.where(e == 0, e, e * torch.inf)
    half_turns = (h - 2 * (h / 2).round()).abs()  # exact, so that the cosine below is 1, 0 or -1 where h says so
    half = (z / 2).exp()  # its square may overflow where the product with a small cosine does not
    return half * torch.sin(math.pi * (0.5 - half_turns)) * half


def _require_eps(where: str, eps: float) -> None:
    if not 0 <= eps < math.inf:  # no math.isfinite: torch.compile can trace a comparison
        raise ValueError(f"{where}: eps must be finite and not negative, got {eps}; 0 keeps powers of zero")
