"""The logarithm and the exponential in a graph that :func:`torch.compile` captures.

They are formulas with gradients written out as a compiler fuses them best; the timings that chose them are in
``benchmarks/NOTES.md``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["exp", "log"]


class _GraphLog(torch.autograd.Function):
    """See :func:`log`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tau: Tensor) -> Tensor:
        ctx.save_for_backward(x, tau)
        return torch.maximum(x, tau).log() + 0 * x  # zero times infinity is NaN

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, tau = ctx.saved_tensors
        ratio = grad / torch.maximum(x, tau)
        clamped = x <= tau
        return ratio.masked_fill(clamped, 0), ratio.where(clamped, 0).sum_to_size(tau.shape)


class _GraphExp(torch.autograd.Function):
    """See :func:`exp`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        y = torch.ops.prims.exp(z)
        ctx.save_for_backward(y)
        return y  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * y  # type: ignore[no-any-return]


def log(x: Tensor, tau: Tensor) -> Tensor:
    """``log`` in a compiled graph, its gradient as few operations of ``x``: one division, no split between equals.

    The compiler computes ``x`` again from what BN keeps.  As of a ReLU, the gradient of a clamped input is zero even
    where the one handed in is NaN; those of the exponents and of the threshold are NaN then.

    Args:
        x: inputs, any shape, floating point.
        tau: thresholds, positive, broadcast to ``x``, of its dtype.

    Returns:
        The logarithms, shape and dtype of ``x``; NaN where ``x`` is NaN or infinite.
    """
    return _GraphLog.apply(x, tau)  # type: ignore[no-any-return]


def exp(z: Tensor) -> Tensor:
    """``exp(z)`` in a compiled graph, kept for the backward pass in place of ``z``, which takes the same memory.

    Compilers count an exponential as free: they keep the convolution's output ``z`` and compute ``exp(z)`` again.
    That is right on a GPU, where memory is the limit, and costs a pass over the map on a CPU.  ``prims.exp`` is the
    same operation of PyTorch's, but not among those that its partitioner computes twice.

    Args:
        z: any shape, floating point.

    Returns:
        The exponentials, shape and dtype of ``z``.
    """
    return _GraphExp.apply(z)  # type: ignore[no-any-return]
