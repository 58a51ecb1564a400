"""Product units as layers: the paper's, dense and convolutional, and the base that every kind of unit shares."""

from __future__ import annotations

import math
import numbers
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pure.nn import functional
from pure.nn.checks import (
    PaddingMode,
    Size,
    Window,
    pair,
    require_at_least,
    require_choice,
    require_no_bias,
    require_number,
    require_precision,
    window_of,
)

__all__ = [
    "Granularity",
    "InitA",
    "ProductUnit",
    "ProductUnit2d",
    "ProductUnitBase",
    "ThresholdActivation",
    "ThresholdedUnit",
]

ThresholdActivation = Literal["softplus", "exp", "sigmoid", "relu"]
Granularity = Literal["layer", "channel"]
InitA = float | Literal["kaiming_normal"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softplus": F.softplus,
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
}

_EXPECTED_THRESHOLD = (
    f"expected one of {', '.join(map(repr, _ACTIVATIONS))}, or a positive number for a fixed threshold"
)


class ProductUnitBase(nn.Module):
    """What every kind of product unit has and answers, whatever its formula.

    Attributes:
        weight: exponents, ``(out_features, in_features)`` or ``(out_channels, in_channels / groups, kH, kW)``.
        bias: None; a product unit has none.
        init_a: how the exponents are drawn, as of :class:`ProductUnit`.
        precision: as of :class:`ProductUnit`; may be set at any time, and is not part of the state.
        bound: the largest magnitude of the exponent of a product; None for none.
    """

    _version = 2  # of what is saved; a convolution's is 1
    weight: nn.Parameter
    bias: None
    bound: float | None = None
    precision: torch.dtype | None = None

    def __init__(self, weight: Tensor, init_a: InitA, bias: bool, precision: torch.dtype | None) -> None:
        super().__init__()
        name = type(self).__name__
        require_no_bias(name, bias)
        if init_a != "kaiming_normal":
            require_number(name, "init_a", init_a, -math.inf, "the paper's reading is 5; 'kaiming_normal' is another")
        self.init_a = init_a
        self.precision = require_precision(name, precision)
        self.weight = nn.Parameter(weight)
        self.register_parameter("bias", None)

    def reset_parameters(self) -> None:
        """Draw the exponents by Kaiming uniform with ``a=init_a`` (section 4.1.2), or by Kaiming normal.

        The default ``a=5`` gives exponents within ``0.480 / sqrt(fan_in)``.  The sentence "a scaling factor of 5" can
        also be read as ``a=sqrt(5)``, the default of :class:`torch.nn.Conv2d`, with ``1 / sqrt(fan_in)``.
        ``"kaiming_normal"`` has a deviation of ``sqrt(2 / fan_out)``, as the convolutions of torchvision's ResNets.
        """
        if self.init_a == "kaiming_normal":
            nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        else:
            nn.init.kaiming_uniform_(self.weight, a=self.init_a)

    @property
    @abstractmethod
    def lower_bound(self) -> Tensor:
        """What smaller inputs, or smaller magnitudes of inputs, count as: a scalar, or one value for each input."""

    def clamped(self, x: Tensor) -> Tensor:
        """Where inputs count as the lower bound: booleans, shape of ``x``."""
        bound = self.lower_bound
        return x <= (bound[:, None, None] if bound.ndim and self.weight.ndim == 4 else bound)

    def magnitude(self, x: Tensor) -> Tensor:
        """The absolute value of the products, which is the exponential of a sum; as :meth:`forward`, without hooks."""
        return self.forward(x)  # type: ignore[no-any-return]

    def is_of_convolution(self, state_dict: Mapping[str, Any], prefix: str, metadata: Mapping[str, Any]) -> bool:
        """Whether a state dict holds the weights of a convolution or a linear layer here, which are no exponents.

        Keys do not tell, where a unit has no others; PyTorch's layers save version 1.
        """
        return metadata.get("version") == 1

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Refuse the weights of a convolution: they have the name and the shape of the exponents."""
        if f"{prefix}weight" in state_dict and self.is_of_convolution(state_dict, prefix, local_metadata):
            error_msgs.append(
                f"{prefix}weight is a convolution's or a linear layer's in this state dict, and a product unit's here, "
                "whose exponents it cannot be; load it into the network that it is of, and convert that by pure.convert"
            )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def settings(self) -> dict[str, tuple[object, object]]:
        """The settings that ``repr`` shows where they differ from the default, each with that."""
        return {"init_a": (self.init_a, 5.0), "precision": (self.precision, None)}

    def extra_repr(self) -> str:
        """The sizes, and the settings that differ from the default."""
        settings = self.settings().items()
        return sizes_repr(self) + "".join(f", {name}={value!r}" for name, (value, usual) in settings if value != usual)


class ThresholdedUnit(ProductUnitBase):
    """What the paper's and the stabilised units share: the threshold and its initialisation."""

    theta: nn.Parameter | None
    fixed_threshold: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        inputs: int,
        bias: bool,
        threshold: ThresholdActivation | float,
        granularity: Granularity,
        eps: float,
        init_a: InitA,
        theta_init: float,
        precision: torch.dtype | None,
    ) -> None:
        super().__init__(weight, init_a, bias, precision)
        name = type(self).__name__
        require_choice("granularity", granularity, ("layer", "channel"), name)
        require_number(name, "eps", eps, least=0.0, hint="the paper's reading is 1e-7")
        require_number(name, "theta_init", theta_init, least=-math.inf, hint="the paper starts at 0")
        if threshold == "relu" and eps == 0 and theta_init <= 0:
            raise ValueError(
                f"{name}: threshold='relu' needs a positive eps; at theta = {theta_init:g} the threshold would be 0"
            )
        if theta_init != 0 and not isinstance(threshold, str):
            raise ValueError(f"{name}: theta_init={theta_init:g} has no effect on a fixed threshold; leave one out")
        self.threshold_setting = threshold if isinstance(threshold, str) else _fixed_threshold(name, threshold)
        self.granularity = granularity
        self.eps = eps
        self.theta_init = theta_init
        if isinstance(threshold, str):
            if threshold not in _ACTIVATIONS:
                raise ValueError(f"{name}: unknown threshold {threshold!r}; {_EXPECTED_THRESHOLD}")
            # (1,) for the whole layer: FSDP divides parameters along a dimension, and a scalar has none
            self.theta = nn.Parameter(weight.new_empty(1 if granularity == "layer" else inputs))
            self.register_buffer("fixed_threshold", None)
        else:
            self.register_parameter("theta", None)
            self.register_buffer("fixed_threshold", weight.new_empty(() if granularity == "layer" else inputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the exponents as the base does, and set ``theta`` to ``theta_init``, zero in section 4.1.2."""
        super().reset_parameters()
        if self.theta is not None:
            nn.init.constant_(self.theta, self.theta_init)
        if self.fixed_threshold is not None:
            assert not isinstance(self.threshold_setting, str)
            nn.init.constant_(self.fixed_threshold, self.threshold_setting)  # after to_empty it holds anything

    @property
    def threshold(self) -> Tensor:
        """The lower bound ``tau`` of the inputs: a scalar, or one value per input channel.

        ``softplus(theta) + eps`` unless another activation or a fixed value was set, so it starts at ``ln 2`` unless
        ``theta_init`` says otherwise.
        """
        tau = self.tau()
        return tau.reshape(()) if self.granularity == "layer" else tau

    def tau(self) -> Tensor:
        """The threshold as :meth:`forward` takes it: shape of ``theta``, which saves a view in every step."""
        if self.theta is None:
            assert self.fixed_threshold is not None
            return self.fixed_threshold
        assert isinstance(self.threshold_setting, str)
        return _ACTIVATIONS[self.threshold_setting](self.theta) + self.eps

    @property
    def lower_bound(self) -> Tensor:
        """The threshold."""
        return self.threshold

    def settings(self) -> dict[str, tuple[object, object]]:
        """The settings that differ from the paper's."""
        return {
            "threshold": (self.threshold_setting, "softplus"),
            "granularity": (self.granularity, "layer"),
            "eps": (self.eps, 1e-7),
            "theta_init": (self.theta_init, 0.0),
            **super().settings(),
        }

    def is_of_convolution(self, state_dict: Mapping[str, Any], prefix: str, metadata: Mapping[str, Any]) -> bool:
        """Whether neither a ``theta`` nor a fixed threshold stands beside the weights."""
        return not any(f"{prefix}{name}" in state_dict for name in ("theta", "fixed_threshold"))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take a ``theta`` without dimensions too, as it was saved before it had one."""
        theta = state_dict.get(f"{prefix}theta")
        if isinstance(theta, Tensor) and theta.ndim == 0 and self.granularity == "layer":
            state_dict[f"{prefix}theta"] = theta.reshape(1)  # load_state_dict gives a copy of the dictionary
        super()._load_from_state_dict(state_dict, prefix, *args)


class Windowed:
    """The attributes of a :class:`torch.nn.Conv2d`, for units that slide over feature maps."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] | str
    dilation: tuple[int, int]
    groups: int

    @property
    def window(self) -> tuple[tuple[int, int], tuple[int, int] | str, tuple[int, int], int]:
        """Stride, padding, dilation and groups, in the order in which the functions take them."""
        return self.stride, self.padding, self.dilation, self.groups

    def set_sizes(self, weight: Tensor, in_channels: int, window: Window) -> None:
        """Read the sizes off exponents ``(out_channels, in_channels / groups, kH, kW)``, and take a window."""
        self.in_channels, self.out_channels = int(in_channels), weight.shape[0]
        self.kernel_size = (weight.shape[2], weight.shape[3])
        self.stride, self.padding, self.dilation, self.groups = window


class ProductUnit(ThresholdedUnit):
    """A dense layer of product units (eqs. 1 and 2), used like :class:`torch.nn.Linear` without a bias.

    Input ``(..., in_features)``, output ``(..., out_features)``, both in the layer's floating-point dtype.

    Args:
        in_features: number of inputs of each unit.
        out_features: number of units.
        bias: must be False; a product unit has none.
        threshold: the activation that turns ``theta`` into the threshold, ``"softplus"``, ``"exp"``, ``"sigmoid"`` or
            ``"relu"``; or a positive number, a fixed threshold without ``theta``.  With ``"relu"`` the threshold starts
            at ``eps`` and stays there, since the gradient of ReLU at ``theta = 0`` is zero: set ``theta_init`` to a
            positive number if it is to learn.
        granularity: one threshold for the whole ``"layer"``, or one for each input (``"channel"``).
        eps: constant added to the activation, so that the threshold stays positive.
        init_a: the argument ``a`` of :func:`torch.nn.init.kaiming_uniform_` for the exponents; or
            ``"kaiming_normal"``, which draws them as the convolutions of torchvision's ResNets.
        theta_init: where ``theta`` starts, every element of it; the paper's zero gives a threshold of ``ln 2``.
        precision: dtype in which the sum is computed that is the exponent of the product, ``torch.float32``,
            ``torch.bfloat16`` or ``torch.float16``, whatever autocast is around; None follows autocast.
        device: where the parameters are made.
        dtype: their floating-point dtype.

    Raises:
        ValueError: a number of features below one, a bias, or a setting out of its range.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        *,
        threshold: ThresholdActivation | float = "softplus",
        granularity: Granularity = "layer",
        eps: float = 1e-7,
        init_a: InitA = 5.0,
        theta_init: float = 0.0,
        precision: torch.dtype | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        weight = dense_weight(type(self).__name__, in_features, out_features, device, dtype)
        super().__init__(weight, weight.shape[1], bias, threshold, granularity, eps, init_a, theta_init, precision)
        self.out_features, self.in_features = weight.shape

    def forward(self, x: Tensor) -> Tensor:
        """Products of powers of ``x``, shape ``(..., in_features)`` to ``(..., out_features)``."""
        return functional.product_unit(x, self.weight, self.tau(), self.precision)


class ProductUnit2d(Windowed, ThresholdedUnit):
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
        bias: must be False; a product unit has none.
        padding_mode: a padded pixel counts as the neutral factor (``"ones"``) or as the ``"threshold"``.
        threshold: as of :class:`ProductUnit`.
        granularity: one threshold for the whole ``"layer"``, or one for each input ``"channel"``.
        eps: as of :class:`ProductUnit`.
        init_a: as of :class:`ProductUnit`.
        theta_init: as of :class:`ProductUnit`.
        precision: as of :class:`ProductUnit`.
        device: where the parameters are made.
        dtype: their floating-point dtype.

    Raises:
        ValueError: a size below one, channels that the groups do not divide, a bias, or a setting out of its range.
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
        padding_mode: PaddingMode = "ones",
        threshold: ThresholdActivation | float = "softplus",
        granularity: Granularity = "layer",
        eps: float = 1e-7,
        init_a: InitA = 5.0,
        theta_init: float = 0.0,
        precision: torch.dtype | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        name = type(self).__name__
        weight = window_weight(name, in_channels, out_channels, kernel_size, groups, device, dtype)
        window = window_of(name, stride, padding, dilation, groups)
        require_choice("padding_mode", padding_mode, ("ones", "threshold"), name)
        super().__init__(weight, int(in_channels), bias, threshold, granularity, eps, init_a, theta_init, precision)
        self.set_sizes(weight, in_channels, window)
        self.padding_mode = padding_mode

    def forward(self, x: Tensor) -> Tensor:
        """Products over windows of ``x``, shape ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``."""
        return functional.product_unit2d(x, self.weight, self.tau(), *self.window, self.padding_mode, self.precision)

    def settings(self) -> dict[str, tuple[object, object]]:
        """The settings that differ from the paper's."""
        return {"padding_mode": (self.padding_mode, "ones"), **super().settings()}


# ------------------------------------------------------------------------------------ sizes, for every kind of unit


def dense_weight(
    name: str, in_features: int, out_features: int, device: torch.device | str | None, dtype: torch.dtype | None
) -> Tensor:
    """Exponents ``(out_features, in_features)``, not yet drawn; sizes below one raise a ValueError."""
    require_at_least(1, name, lengths=(), in_features=in_features, out_features=out_features)
    return torch.empty(int(out_features), int(in_features), device=device, dtype=dtype)


def window_weight(
    name: str,
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    groups: int,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> Tensor:
    """Exponents ``(out_channels, in_channels / groups, kH, kW)``, not yet drawn.

    Raises:
        ValueError: a size below one, or channels that the groups do not divide.
    """
    require_at_least(1, name, lengths=(), in_channels=in_channels, out_channels=out_channels, groups=groups)
    require_at_least(1, name, lengths=(2,), kernel_size=kernel_size)
    if in_channels % groups or out_channels % groups:
        raise ValueError(
            f"{name}: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
        )
    shape = (int(out_channels), int(in_channels) // int(groups), *pair(kernel_size))
    return torch.empty(shape, device=device, dtype=dtype)


def sizes_repr(unit: nn.Module) -> str:
    """The sizes of a dense layer or of a convolution, the defaults of a window left out, for ``extra_repr``."""
    if not isinstance(unit, Windowed):
        return f"in_features={unit.in_features}, out_features={unit.out_features}"
    text = f"{unit.in_channels}, {unit.out_channels}, kernel_size={unit.kernel_size}, stride={unit.stride}"
    defaults = {"padding": (0, 0), "dilation": (1, 1), "groups": 1}
    values = {name: getattr(unit, name) for name in defaults}
    return text + "".join(f", {name}={value!r}" for name, value in values.items() if value != defaults[name])


def _fixed_threshold(layer: str, threshold: Any) -> float:
    if isinstance(threshold, bool) or not isinstance(threshold, numbers.Real):
        raise ValueError(f"{layer}: unknown threshold {threshold!r}; {_EXPECTED_THRESHOLD}")
    value = float(threshold)
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{layer}: a fixed threshold must be positive and finite, got {value}; the logarithm needs it")
    return value
