"""Product units as modules, shaped like :class:`torch.nn.Linear` and :class:`torch.nn.Conv2d`.

Both hold the exponents as ``weight`` and the raw threshold parameter as ``theta``.  The threshold that clamps the
inputs is ``tau = activation(theta) + eps``: section 3.2 of the paper calls it "the activation of the trainable
parameter, shifted by a small constant".  There is no bias, no activation and no clamp on the output.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pure.nn.functional import PaddingMode, product_unit, product_unit2d

__all__ = ["Granularity", "ProductUnit", "ProductUnit2d", "ThresholdActivation"]

ThresholdActivation = Literal["softplus", "exp", "sigmoid", "relu"]
Granularity = Literal["layer", "channel"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softplus": F.softplus,
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
}


_EXPECTED_THRESHOLD = (
    f"expected one of {', '.join(map(repr, _ACTIVATIONS))}, or a positive number for a fixed threshold"
)


def at_own_precision(forward: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """A unit's ``forward`` under an autocast of its own where ``precision`` is set, whatever autocast is around it.

    What autocast has lowered before is widened again, to the dtype of the exponents.
    """

    @functools.wraps(forward)
    def at_precision(unit: Any, x: Tensor) -> Tensor:
        precision = unit.precision
        if precision is None:
            return forward(unit, x)
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.to(unit.weight.dtype)
        lowered = precision != torch.float32
        with torch.autocast(x.device.type, precision if lowered else None, enabled=lowered):
            return forward(unit, x)

    return at_precision


class _ThresholdedUnit(nn.Module):
    """What both product units share: the exponents, the threshold, their initialisation and the precision.

    Attributes:
        precision: as of :class:`ProductUnit`; may be set at any time, and is no part of the state.
    """

    precision: torch.dtype | None = None
    weight: nn.Parameter
    theta: nn.Parameter | None
    fixed_threshold: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        inputs: int,
        threshold: ThresholdActivation | float,
        granularity: Granularity,
        eps: float,
        init_a: float,
        precision: torch.dtype | None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if granularity not in ("layer", "channel"):
            raise ValueError(f"{name}: unknown granularity {granularity!r}; expected 'layer' or 'channel'")
        _require_number(name, "eps", eps, least=0.0, hint="the paper's reading is 1e-7")
        _require_number(name, "init_a", init_a, least=-math.inf, hint="the paper's reading is 5")
        if threshold == "relu" and eps == 0:
            raise ValueError(f"{name}: threshold='relu' needs a positive eps; at theta = 0 the threshold would be 0")
        self.threshold_setting = threshold if isinstance(threshold, str) else _fixed_threshold(name, threshold)
        self.granularity = granularity
        self.eps = eps
        self.init_a = init_a
        self.precision = require_precision(name, precision)
        self.weight = nn.Parameter(weight)
        shape = () if granularity == "layer" else (inputs,)
        if isinstance(threshold, str):
            if threshold not in _ACTIVATIONS:
                raise ValueError(f"{name}: unknown threshold {threshold!r}; {_EXPECTED_THRESHOLD}")
            self.theta = nn.Parameter(weight.new_empty(shape))
            self.register_buffer("fixed_threshold", None)
        else:
            self.register_parameter("theta", None)
            self.register_buffer("fixed_threshold", weight.new_empty(shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the exponents by Kaiming uniform with ``a=init_a`` and set ``theta`` to zero (section 4.1.2).

        The default ``a=5`` gives exponents within ``0.480 / sqrt(fan_in)``.  The sentence "a scaling factor of 5" can
        also be read as ``a=sqrt(5)``, the default of :class:`torch.nn.Conv2d`, with ``1 / sqrt(fan_in)``.
        """
        nn.init.kaiming_uniform_(self.weight, a=self.init_a)
        if self.theta is not None:
            nn.init.zeros_(self.theta)
        if self.fixed_threshold is not None:
            assert not isinstance(self.threshold_setting, str)
            nn.init.constant_(self.fixed_threshold, self.threshold_setting)  # after to_empty it holds anything

    @property
    def threshold(self) -> Tensor:
        """The lower bound ``tau`` of the inputs: a scalar, or one value per input channel.

        ``softplus(theta) + eps`` unless another activation or a fixed value was set, so it starts at ``ln 2``.
        """
        if self.theta is None:
            assert self.fixed_threshold is not None
            return self.fixed_threshold
        assert isinstance(self.threshold_setting, str)
        return _ACTIVATIONS[self.threshold_setting](self.theta) + self.eps

    def _settings_repr(self) -> str:
        """The settings that differ from the paper's, for ``extra_repr``."""
        settings = {
            "threshold": (self.threshold_setting, "softplus"),
            "granularity": (self.granularity, "layer"),
            "eps": (self.eps, 1e-7),
            "init_a": (self.init_a, 5.0),
            "precision": (self.precision, None),
        }
        return "".join(f", {name}={value!r}" for name, (value, default) in settings.items() if value != default)


class ProductUnit(_ThresholdedUnit):
    """A dense layer of product units (eqs. 1 and 2), used like :class:`torch.nn.Linear` without a bias.

    Input ``(..., in_features)``, output ``(..., out_features)``, both in the layer's floating-point dtype.

    Args:
        in_features: number of inputs of each unit.
        out_features: number of units.
        threshold: the activation that turns ``theta`` into the threshold, ``"softplus"``, ``"exp"``, ``"sigmoid"`` or
            ``"relu"``; or a positive number, a fixed threshold without ``theta``.  With ``"relu"`` the threshold starts
            at ``eps`` and stays there, since the gradient of ReLU at ``theta = 0`` is zero: set ``theta`` to a positive
            number before training if it is to learn.
        granularity: one threshold for the whole ``"layer"``, or one for each input (``"channel"``).
        eps: constant added to the activation, so that the threshold stays positive.
        init_a: the argument ``a`` of :func:`torch.nn.init.kaiming_uniform_` for the exponents.
        precision: dtype in which the sum is computed that is the exponent of the product, ``torch.float32``,
            ``torch.bfloat16`` or ``torch.float16``, whatever autocast is around; None follows autocast.
        device: where the parameters are made.
        dtype: their floating-point dtype.

    Raises:
        ValueError: a number of features below one, or a setting out of its range.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        threshold: ThresholdActivation | float = "softplus",
        granularity: Granularity = "layer",
        eps: float = 1e-7,
        init_a: float = 5.0,
        precision: torch.dtype | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        require_at_least(1, type(self).__name__, in_features=in_features, out_features=out_features)
        weight = torch.empty(out_features, in_features, device=device, dtype=dtype)
        super().__init__(weight, in_features, threshold, granularity, eps, init_a, precision)
        self.in_features = in_features
        self.out_features = out_features

    @at_own_precision
    def forward(self, x: Tensor) -> Tensor:
        """Products of powers of ``x``, shape ``(..., in_features)`` to ``(..., out_features)``."""
        return product_unit(x, self.weight, self.threshold)

    def extra_repr(self) -> str:
        """The sizes, and the settings that differ from the paper's."""
        return f"in_features={self.in_features}, out_features={self.out_features}{self._settings_repr()}"


class ProductUnit2d(_ThresholdedUnit):
    """A convolutional layer of product units (eqs. 4 and 5), used like :class:`torch.nn.Conv2d` without a bias.

    Input ``(N, in_channels, H, W)`` or ``(in_channels, H, W)``, output ``(N, out_channels, H', W')`` or
    ``(out_channels, H', W')``, in the layer's floating-point dtype; ``H'`` and ``W'`` as of a convolution.

    Args:
        in_channels: channels of the input.
        out_channels: number of product units at each position.
        kernel_size: height and width of the window in pixels.
        stride: step of the window in pixels.
        padding: pixels added on each side, or ``"same"`` or ``"valid"``.
        dilation: distance in pixels between the factors of a window.
        groups: number of blocks that the channels are divided into.
        padding_mode: a padded pixel counts as the neutral factor (``"ones"``) or as the ``"threshold"``.
        threshold: as of :class:`ProductUnit`.
        granularity: one threshold for the whole ``"layer"``, or one for each input ``"channel"``.
        eps: as of :class:`ProductUnit`.
        init_a: as of :class:`ProductUnit`.
        precision: as of :class:`ProductUnit`.
        device: where the parameters are made.
        dtype: their floating-point dtype.

    Raises:
        ValueError: a size below one, channels that the groups do not divide, or a setting out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        *,
        padding_mode: PaddingMode = "ones",
        threshold: ThresholdActivation | float = "softplus",
        granularity: Granularity = "layer",
        eps: float = 1e-7,
        init_a: float = 5.0,
        precision: torch.dtype | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        name = type(self).__name__
        require_window(name, in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        if padding_mode not in ("ones", "threshold"):
            raise ValueError(f"{name}: unknown padding_mode {padding_mode!r}; expected 'ones' or 'threshold'")
        kernel = pair(kernel_size)
        weight = torch.empty(out_channels, in_channels // groups, *kernel, device=device, dtype=dtype)
        super().__init__(weight, in_channels, threshold, granularity, eps, init_a, precision)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel
        self.stride = pair(stride)
        self.padding = padding if isinstance(padding, str) else pair(padding)
        self.dilation = pair(dilation)
        self.groups = groups
        self.padding_mode = padding_mode

    @at_own_precision
    def forward(self, x: Tensor) -> Tensor:
        """Products over windows of ``x``, shape ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``."""
        return product_unit2d(
            x,
            self.weight,
            self.threshold,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.padding_mode,
        )

    def extra_repr(self) -> str:
        """The sizes, and the settings that differ from the defaults."""
        padding_mode = "" if self.padding_mode == "ones" else f", padding_mode={self.padding_mode!r}"
        return window_repr(self) + padding_mode + self._settings_repr()


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width, as a tuple of two; a list is accepted too, as by :class:`torch.nn.Conv2d`."""
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


def require_at_least(minimum: int, layer: str, **sizes: int | tuple[int, int]) -> None:
    for name, size in sizes.items():
        pair = size if isinstance(size, (tuple, list)) else (size, size)
        if len(pair) != 2 or not all(type(n) is int and n >= minimum for n in pair):
            kind = "" if isinstance(size, int) else "an integer, or (height, width) where there are two, "
            raise ValueError(f"{layer}: {name} must be {kind}at least {minimum}, got {size}")


def require_window(
    layer: str,
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int],
    padding: int | tuple[int, int] | str,
    dilation: int | tuple[int, int],
    groups: int,
) -> None:
    require_at_least(
        1,
        layer,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel_size,
        stride=stride,
        dilation=dilation,
        groups=groups,
    )
    if in_channels % groups or out_channels % groups:
        raise ValueError(
            f"{layer}: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
        )
    if not isinstance(padding, str):
        require_at_least(0, layer, padding=padding)
    elif padding not in ("same", "valid"):
        raise ValueError(f"{layer}: unknown padding {padding!r}; expected pixels, 'same' or 'valid'")
    elif padding == "same" and pair(stride) != (1, 1):
        raise ValueError(f"{layer}: padding='same' needs stride 1, got stride {stride}; give pixels")


def window_repr(unit: nn.Module) -> str:
    """The settings of a convolution, the defaults left out, for ``extra_repr``."""
    text = f"{unit.in_channels}, {unit.out_channels}, kernel_size={unit.kernel_size}, stride={unit.stride}"
    defaults = {"padding": (0, 0), "dilation": (1, 1), "groups": 1}
    values = {name: getattr(unit, name) for name in defaults}
    return text + "".join(f", {name}={value!r}" for name, value in values.items() if value != defaults[name])


def _require_number(layer: str, name: str, value: Any, least: float, hint: str) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and value >= least and math.isfinite(value)):
        kind = "finite" if least == -math.inf else "finite and not negative"
        raise ValueError(f"{layer}: {name} must be {kind}, got {value!r}; {hint}")


def _fixed_threshold(layer: str, threshold: Any) -> float:
    if isinstance(threshold, bool) or not isinstance(threshold, numbers.Real):
        raise ValueError(f"{layer}: unknown threshold {threshold!r}; {_EXPECTED_THRESHOLD}")
    value = float(threshold)
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{layer}: a fixed threshold must be positive and finite, got {value}; the logarithm needs it")
    return value


def require_precision(layer: str, precision: torch.dtype | None) -> torch.dtype | None:
    if precision not in (None, torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(
            f"{layer}: precision must be torch.float32, torch.bfloat16 or torch.float16, or None to follow autocast, "
            f"got {precision!r}"
        )
    return precision
