"""Triton kernels of the operators in :mod:`pure.nn.fused.operators`: inputs are read once, outputs written once.

The arithmetic is float32.  Kernels see memory, not shapes: contiguous and channels_last
tensors are both taken as a matrix of ``columns`` numbers in a row, whose channel is ``column // inner``.  The gradient
of the thresholds is summed in two stages, without atomic operations: every run gives the same.

Imported on the first use on a GPU; with ``TRITON_INTERPRET=1`` the kernels run on the CPU.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

__all__ = ["exp", "exp_backward", "log", "log_backward"]

# Accurate to rounding, for float32 outputs; the interpreter knows Triton's own functions alone, which approximate
accurate = tl if os.environ.get("TRITON_INTERPRET") == "1" else libdevice

BLOCK = 2048
"""Numbers that a program takes at a time, a power of two."""

PROGRAMS = 1024
"""About as many programs share the sum over the clamped inputs: some eight for each processor of a large GPU."""


# -------------------------------------------------------------------------------------------------------------- kernels


@triton.jit
def _log(x, dtype: tl.constexpr):
    """The logarithm as exactly as ``dtype`` can hold it, rounded to it, as a float32."""
    return accurate.log(x) if dtype == tl.float32 else tl.log(x).to(dtype).to(tl.float32)


@triton.jit
def _tau(tau_ptr, column, columns, inner, PER_CHANNEL: tl.constexpr):
    """The thresholds of some columns, or the one of all."""
    if PER_CHANNEL:
        return tl.load(tau_ptr + column // inner, mask=column < columns, other=1.0)[None, :]
    else:
        return tl.load(tau_ptr)


@triton.jit
def _log_kernel(
    x_ptr,
    tau_ptr,
    log_x_ptr,
    size,
    columns,
    inner,
    STEP: tl.constexpr,
    LEAST: tl.constexpr,
    PER_CHANNEL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """``log(max(x, tau))`` of a tile; NaN where ``x`` is not finite.

    An output equals ``log(tau)`` if and only if the input was clamped: another logarithm that rounds to it is raised to
    the next number.  ``STEP`` and ``LEAST`` are the distance to that, in bits of a float32 and at zero.
    """
    dtype: tl.constexpr = log_x_ptr.dtype.element_ty
    strips = tl.cdiv(columns, COLUMNS)
    column = tl.program_id(0) % strips * COLUMNS + tl.arange(0, COLUMNS)
    row = (tl.program_id(0) // strips).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    offset = row[:, None] * columns + column[None, :]
    inside = (column < columns)[None, :] & (offset < size)
    tau = _tau(tau_ptr, column, columns, inner, PER_CHANNEL)
    edge = _log(tau, dtype)
    bits = edge.to(tl.int32, bitcast=True)
    above = tl.where(edge < 0, bits - STEP, bits + STEP).to(tl.float32, bitcast=True)
    above = tl.maximum(above, edge + LEAST)
    x = tl.load(x_ptr + offset, mask=inside, other=1.0).to(tl.float32)
    log_x = tl.maximum(_log(tl.maximum(x, tau), dtype), above)
    log_x = tl.where(x > tau, log_x, edge)
    log_x = tl.where(tl.abs(x) < float("inf"), log_x, float("nan"))
    tl.store(log_x_ptr + offset, log_x.to(dtype), mask=inside)


@triton.jit
def _log_backward_kernel(
    grad_ptr,
    log_x_ptr,
    tau_ptr,
    grad_x_ptr,
    partial_ptr,
    size,
    columns,
    inner,
    rows,
    PER_CHANNEL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The gradient of ``x`` in ``rows`` rows of some columns, and the sum of ``grad`` over the clamped among them."""
    dtype: tl.constexpr = log_x_ptr.dtype.element_ty
    strips = tl.cdiv(columns, COLUMNS)
    column = tl.program_id(0) % strips * COLUMNS + tl.arange(0, COLUMNS)
    part = (tl.program_id(0) // strips).to(tl.int64)
    edge = _log(_tau(tau_ptr, column, columns, inner, PER_CHANNEL), dtype)
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for start in range(0, rows, ROWS):  # rows is a multiple of ROWS
        row = part * rows + start + tl.arange(0, ROWS)
        offset = row[:, None] * columns + column[None, :]
        inside = (column < columns)[None, :] & (offset < size)
        grad = tl.load(grad_ptr + offset, mask=inside, other=0.0).to(tl.float32)
        log_x = tl.load(log_x_ptr + offset, mask=inside, other=0.0).to(tl.float32)
        clamped = log_x <= edge
        grad_x = tl.where(clamped, 0.0, grad * accurate.exp(-log_x))
        tl.store(grad_x_ptr + offset, grad_x.to(grad_x_ptr.dtype.element_ty), mask=inside)
        total += tl.where(clamped, grad, 0.0)
    tl.store(partial_ptr + part * columns + column, tl.sum(total, 0), mask=column < columns)


@triton.jit
def _exp_kernel(z_ptr, y_ptr, size, BLOCK: tl.constexpr):
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < size
    z = tl.load(z_ptr + offset, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + offset, accurate.exp(z).to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _exp_backward_kernel(grad_ptr, y_ptr, grad_z_ptr, size, BLOCK: tl.constexpr):
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < size
    grad = tl.load(grad_ptr + offset, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + offset, mask=inside, other=0.0).to(tl.float32)
    tl.store(grad_z_ptr + offset, (grad * y).to(grad_z_ptr.dtype.element_ty), mask=inside)


# ------------------------------------------------------------------------------------------------------------- launches


def log(x: Tensor, tau: Tensor, dtype: torch.dtype) -> Tensor:
    """:func:`pure.nn.fused.operators.eager_log`; ``tau`` in float32, ``x`` and the output in that or half precision."""
    x, tau = _dense(x), tau.contiguous()
    log_x = torch.empty_like(x, dtype=dtype)
    columns, inner, height, width = _tiles(x, tau)
    programs = triton.cdiv(columns, width) * triton.cdiv(triton.cdiv(x.numel(), columns), height)
    if programs:
        with torch.cuda.device_of(x):
            _log_kernel[(programs,)](
                x, tau, log_x, x.numel(), columns, inner, *_NEXT[dtype], tau.numel() > 1, height, width
            )
    return log_x


def log_backward(grad: Tensor, log_x: Tensor, tau: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """:func:`pure.nn.fused.operators.log_backward`; ``tau`` in float32, the others in float32 or half precision."""
    log_x, tau = _dense(log_x), tau.contiguous()
    grad = _as_laid_out(grad, log_x)
    grad_x = torch.empty_like(log_x, dtype=dtype)
    columns, inner, height, width = _tiles(log_x, tau)
    strips, tiles = triton.cdiv(columns, width), triton.cdiv(triton.cdiv(log_x.numel(), columns), height)
    if tiles == 0:
        return grad_x, torch.zeros_like(tau)
    each = triton.cdiv(tiles, max(1, PROGRAMS // strips))  # tiles, one below the other, that a program takes
    parts = triton.cdiv(tiles, each)
    partial = tau.new_empty(parts, columns)
    with torch.cuda.device_of(log_x):
        _log_backward_kernel[(strips * parts,)](
            grad,
            log_x,
            tau,
            grad_x,
            partial,
            log_x.numel(),
            columns,
            inner,
            each * height,
            tau.numel() > 1,
            height,
            width,
        )
    return grad_x, partial.view(parts, tau.numel(), inner).sum((0, 2)).view_as(tau) / tau


def exp(z: Tensor, dtype: torch.dtype) -> Tensor:
    """:func:`pure.nn.fused.operators.eager_exp`, between float32 and half precision."""
    z = _dense(z)
    y = torch.empty_like(z, dtype=dtype)
    with torch.cuda.device_of(z):
        if z.numel():
            _exp_kernel[_grid(z)](z, y, z.numel(), BLOCK=BLOCK)
    return y


def exp_backward(grad: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    """:func:`pure.nn.fused.operators.exp_backward`, between float32 and half precision."""
    y = _dense(y)
    grad = _as_laid_out(grad, y)
    grad_z = torch.empty_like(y, dtype=dtype)
    with torch.cuda.device_of(y):
        if y.numel():
            _exp_backward_kernel[_grid(y)](grad, y, grad_z, y.numel(), BLOCK=BLOCK)
    return grad_z


_NEXT = {torch.float32: (1, 2.0**-126), torch.bfloat16: (1 << 16, 2.0**-126), torch.float16: (1 << 13, 2.0**-24)}
"""From a number of a dtype to the next: what is added to its bits as a float32, and to zero."""


def _grid(x: Tensor) -> tuple[int]:
    return (triton.cdiv(x.numel(), BLOCK),)


def _dense(x: Tensor) -> Tensor:
    """``x`` as it lies if that is contiguous or channels_last, else a contiguous copy."""
    return x if x.is_contiguous() or _is_channels_last(x) else x.contiguous()


def _is_channels_last(x: Tensor) -> bool:
    return x.ndim >= 3 and x.movedim(-3, -1).is_contiguous()


def _as_laid_out(grad: Tensor, like: Tensor) -> Tensor:
    """``grad`` with the strides of another tensor of its shape; a copy only if they differ."""
    return grad if grad.stride() == like.stride() else torch.empty_like(like, dtype=grad.dtype).copy_(grad)


def _tiles(x: Tensor, tau: Tensor) -> tuple[int, int, int, int]:
    """``x`` as it lies, as a matrix: its columns, how many in turn have one threshold, height and width of a tile."""
    if tau.numel() == 1:
        return BLOCK, BLOCK, 1, BLOCK  # any matrix: there is one threshold
    inner = x.shape[-tau.ndim + 1 :].numel() if x.is_contiguous() and tau.ndim > 1 else 1
    columns = tau.numel() * inner
    width = min(triton.next_power_of_2(columns), 128)
    return columns, inner, BLOCK // width, width
