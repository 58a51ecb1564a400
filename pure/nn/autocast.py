"""The dtypes of a product unit under autocast: only the sum between logarithm and exponential is lowered.

The exponential of a sum of 15, as trained networks have it, is 3.3e6: float32 holds it, float16 ends at 65504.  What
that costs in precision is in the book, "Mixed precision".
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["at_precision", "log_dtype", "lowered", "output_dtype", "resumed", "state", "widened"]

HALF = (torch.float16, torch.bfloat16)


def listens(device: str) -> bool:
    """Whether autocast is on for a type of device."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def log_dtype(x: Tensor) -> torch.dtype:
    """The dtype of the logarithm: that of ``x``, or float32 for half precision in autocast."""
    return torch.float32 if x.dtype in HALF and listens(x.device.type) else x.dtype


def output_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """The dtype of the products: that of the logarithm, or in autocast that of exponents in half precision.

    Such a network is in half precision as a whole, and the batch normalisation that follows expects it.
    """
    return weight.dtype if weight.dtype in HALF and listens(x.device.type) else log_dtype(x)


def lowered(dtype: torch.dtype, x: Tensor) -> torch.dtype:
    """What autocast makes of a dtype in front of a convolution or a product of matrices on the device of ``x``."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if dtype == torch.float32 and listens(device) else dtype


def widened(x: Tensor, weight: Tensor, precision: torch.dtype | None) -> Tensor:
    """``x``, in the dtype of the exponents if the unit sets a precision and autocast has lowered ``x``."""
    return x if precision is None or x.dtype not in HALF else x.to(weight.dtype)


def at_precision(precision: torch.dtype | None, device: str) -> AbstractContextManager[object]:
    """An autocast to this precision, whatever the surrounding one is; None leaves that one on.

    A device without autocast, as ``meta``, computes in the dtypes that it is given.
    """
    if precision is None or not torch.amp.is_autocast_available(device):
        return nullcontext()
    half = precision in HALF
    return torch.autocast(device, precision if half else None, enabled=half)


def state(device: str) -> tuple[torch.dtype | None, bool]:
    """The autocast as it is now, for :func:`resumed`: its dtype, and whether it is on."""
    return (torch.get_autocast_dtype(device), True) if listens(device) else (None, False)


def resumed(device: str, dtype: torch.dtype | None, enabled: bool) -> AbstractContextManager[object]:
    """The autocast as it was when :func:`state` was asked."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, dtype, enabled=enabled)
