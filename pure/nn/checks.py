"""What the units and the networks refuse: shapes, dtypes and settings, each message with what to do."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeGuard

import torch
from torch import Tensor

__all__ = [
    "PaddingMode",
    "Size",
    "Window",
    "integer",
    "pair",
    "require_at_least",
    "require_choice",
    "require_floating",
    "require_images",
    "require_no_bias",
    "require_number",
    "require_positive",
    "require_precision",
    "require_threshold",
    "require_vectors",
    "window_of",
]

PaddingMode = Literal["ones", "threshold"]

Size = int | Sequence[int]
"""One number for height and width, or a sequence of one or both, as PyTorch's convolutions take it."""


# ----------------------------------------------------------------------------------------------------------- settings


def integer(value: object) -> int | None:
    """An integer of Python or NumPy as Python's; None for anything else, booleans included."""
    return int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else None


def pair(value: Size) -> tuple[int, int]:
    """Height and width as Python's integers, from one number or a sequence of one or two."""
    if isinstance(value, (int, numbers.Integral)):
        return int(value), int(value)
    sizes = [int(size) for size in value]
    height, width = sizes if len(sizes) == 2 else (*sizes, *sizes)
    return height, width


def require_at_least(minimum: int, where: str, *, lengths: Sequence[int] = (1, 2), **sizes: Size) -> None:
    """Raise a ValueError unless these are integers of at least so much.

    Args:
        minimum: the least that is allowed.
        where: what the message begins with.
        lengths: how many integers a sequence may have.
        **sizes: each an integer, or a sequence of them.
    """
    for name, size in sizes.items():
        each = list(size) if isinstance(size, (tuple, list)) else [size]
        wrong = isinstance(size, (tuple, list)) and len(each) not in lengths
        if wrong or not all((n := integer(one)) is not None and n >= minimum for one in each):
            kind = "" if integer(size) is not None else "an integer, or (height, width) where there are two, "
            raise ValueError(f"{where}: {name} must be {kind}at least {minimum}, got {size}")


def require_choice(option: str, value: object, choices: Sequence[object], where: str = "") -> None:
    """Raise a ValueError that names what is allowed, unless ``value`` is one of the choices."""
    if value not in choices:
        prefix = f"{where}: " if where else ""
        raise ValueError(f"{prefix}unknown {option} {value!r}; expected {' or '.join(map(repr, choices))}")


def require_number(where: str, name: str, value: Any, least: float, hint: str) -> None:
    """Raise a ValueError unless this is a finite real number of at least ``least``."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and value >= least and math.isfinite(value)):
        kind = "finite" if least == -math.inf else "finite and not negative"
        raise ValueError(f"{where}: {name} must be {kind}, got {value!r}; {hint}")


def require_positive(where: str, **settings: float | None) -> None:
    """Raise a ValueError unless these are positive and finite, or None, which switches them off."""
    for name, value in settings.items():
        if value is not None and not 0 < value < math.inf:  # no math.isfinite: torch.compile can trace a comparison
            raise ValueError(f"{where}: {name} must be positive and finite, or None to switch it off, got {value}")


def require_precision(where: str, precision: torch.dtype | None) -> torch.dtype | None:
    """The precision, if it is one in which a unit can sum."""
    if precision not in (None, torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(
            f"{where}: precision must be torch.float32, torch.bfloat16 or torch.float16, or None to follow autocast, "
            f"got {precision!r}"
        )
    return precision


def require_no_bias(where: str, bias: bool) -> None:
    """Raise a ValueError for a bias: a product unit has none."""
    if bias:
        raise ValueError(
            f"{where}: a product unit has no bias, got bias={bias!r}: a term added to its exponent would scale the "
            "product, which the batch normalisation after it does already; leave bias out, or give bias=False"
        )


class Window(NamedTuple):
    """How a window moves over feature maps, as :func:`torch.nn.functional.conv2d` takes it."""

    stride: tuple[int, int]
    padding: tuple[int, int] | str
    dilation: tuple[int, int]
    groups: int

    def sides(self, weight: Tensor) -> tuple[int, int, int, int]:
        """The padding as :func:`torch.nn.functional.pad` takes it: left, right, top, bottom."""
        if self.padding == "valid":
            return 0, 0, 0, 0
        if self.padding == "same":
            high, wide = (step * (size - 1) for step, size in zip(self.dilation, weight.shape[2:], strict=True))
            return wide // 2, wide - wide // 2, high // 2, high - high // 2
        assert not isinstance(self.padding, str)
        high, wide = self.padding
        return wide, wide, high, high


def _is_pair(size: object, least: int) -> TypeGuard[tuple[int, int]]:
    return type(size) is tuple and len(size) == 2 and type(size[0]) is type(size[1]) is int and min(size) >= least


def window_of(where: str, stride: Size, padding: Size | str, dilation: Size, groups: int) -> Window:
    """The settings of a window, checked, each as a pair.

    Raises:
        ValueError: a size of the wrong kind or out of its range, or a padding that does not go with the stride.
    """
    if _is_pair(stride, 1) and _is_pair(padding, 0) and _is_pair(dilation, 1) and type(groups) is int and groups > 0:
        return Window(stride, padding, dilation, groups)  # as units hand them on: what follows takes several us
    require_at_least(1, where, stride=stride, dilation=dilation, groups=groups)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f"{where}: unknown padding {padding!r}; expected pixels, 'same' or 'valid'")
        if padding == "same" and pair(stride) != (1, 1):
            raise ValueError(f"{where}: padding='same' needs stride 1, got stride {stride}; give pixels")
    else:
        require_at_least(0, where, padding=padding)
    return Window(pair(stride), padding if isinstance(padding, str) else pair(padding), pair(dilation), int(groups))


# ------------------------------------------------------------------------------------------------------------- inputs


def require_floating(x: Tensor, where: str) -> None:
    """Raise a TypeError unless these are real floating-point numbers."""
    if not x.is_floating_point():
        raise TypeError(
            f"{where}: expected a real floating-point tensor, got {x.dtype}; convert it first, for example with "
            "x.float() / 255 for 8-bit images"
        )


def require_vectors(x: Tensor, weight: Tensor, where: str) -> None:
    """Raise an error unless ``x`` is ``(..., in_features)`` and ``weight`` ``(out_features, in_features)``."""
    require_floating(x, where)
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
    """Raise an error unless ``x`` is ``(N, C, H, W)`` or ``(C, H, W)`` and ``weight`` ``(K, C / groups, kH, kW)``."""
    require_floating(x, where)
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


def require_threshold(threshold: Tensor | float, inputs: int, where: str) -> None:
    """Raise a ValueError unless this is a positive number, a scalar, or one value for each input."""
    if isinstance(threshold, Tensor):
        if threshold.shape not in ((), (1,), (inputs,)):  # another shape could broadcast, over pixels for instance
            raise ValueError(
                f"{where}: expected one threshold, a scalar, or one for each input, shape ({inputs},), got "
                f"{tuple(threshold.shape)}"
            )
    elif not 0 < threshold < float("inf"):
        raise ValueError(f"{where}: the threshold must be positive and finite, got {threshold}; the logarithm needs it")
