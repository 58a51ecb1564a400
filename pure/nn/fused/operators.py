"""The logarithm and the exponential of a product unit as operators.

The logarithm ``l = log(max(x, tau))`` is enough for its own gradient: an input was clamped where ``l = log(tau)``, and
elsewhere ``1 / x = exp(-l)``.  With ``g`` the gradient of ``l``::

    dL/dx    =  g * exp(-l) where l > log(tau), else 0
    dL/dtau  =  sum of g / tau where l = log(tau)

The convolution keeps ``l`` too, so a product unit keeps two maps.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from pure.nn import autocast

__all__ = ["eager_exp", "eager_log", "exp", "has_kernels", "is_plain", "log"]

T = TypeVar("T", float, Tensor)

_TRITON_IS_INSTALLED = importlib.util.find_spec("triton") is not None  # not loaded before it is needed


def is_plain(x: Tensor) -> bool:
    """Whether an :class:`torch.autograd.Function` takes this tensor, and a number may be read from it.

    It is not a subclass, no graph is captured of it and nothing transforms it; a mode may listen.
    """
    functorch = torch._C._functorch
    return (
        (type(x) is Tensor or type(x) is torch.nn.Parameter)
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and functorch.peek_interpreter_stack() is None
        and not functorch.is_legacy_batchedtensor(x)
    )


def mode_listens() -> bool:
    """Whether a dispatch mode has to see every operator.

    If none has to, plain tensors skip the dispatcher, whose Python code takes as long as the computation on a small
    map.
    """
    return _get_current_dispatch_mode() is not None


def has_kernels(x: Tensor) -> bool:
    """Whether the kernels of ``pure.nn.fused.triton`` take ``x``: on a GPU, and not of double precision."""
    return x.is_cuda and x.dtype != torch.float64 and _TRITON_IS_INSTALLED


# ------------------------------------------------------------------------------------------------------------ logarithm


def _log(x: Tensor, tau: Tensor, dtype: torch.dtype) -> Tensor:
    """See :func:`eager_log`."""
    if has_kernels(x):
        from pure.nn.fused import triton as kernels

        return kernels.log(x, tau, dtype)
    log_x = torch.maximum(x, tau).log_()
    if x.is_cpu and math.isfinite(x.sum().item()):  # one pass over x alone; on a GPU, it would mean waiting
        return log_x
    return log_x.add_(x, alpha=0)  # zero times infinity is NaN


log = torch.library.custom_op("pure::log", _log, mutates_args=())
"""The registered operator ``pure::log``: what :func:`eager_log` computes, by the dispatcher."""


def _log_backward(grad: Tensor, log_x: Tensor, tau: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The gradients of the inputs and of the thresholds, given that of the logarithms.

    Args:
        grad: gradient of the logarithms, their shape and dtype.
        log_x: the logarithms.
        tau: the thresholds, as :func:`eager_log` was given them.
        dtype: that of the inputs.

    Returns:
        The gradient of the inputs, of that dtype, and that of the thresholds, shape and dtype of ``tau``.
    """
    if has_kernels(log_x):
        from pure.nn.fused import triton as kernels

        return kernels.log_backward(grad, log_x, tau, dtype)
    if tau.is_cpu and tau.numel() == 1:
        kept = torch.ops.aten.threshold_backward(grad, log_x, _edge(math.log(tau.item()), tau.dtype))
    else:  # zeros and ones in their dtype: comparisons into bytes, and what takes bytes, are not vectorised on CPUs
        kept = torch.gt(log_x, _edge(tau.log(), tau.dtype), out=torch.empty_like(log_x)).mul_(grad)
    ratio = torch.exp(log_x)
    torch.div(kept, ratio, out=ratio)
    # the difference of two sums would save a pass, but lose what a few clamped inputs add next to large gradients
    return ratio, torch.sub(grad, kept, out=kept).sum_to_size(tau.shape).div_(tau)


log_backward = torch.library.custom_op("pure::log_backward", _log_backward, mutates_args=())


def _edge(log_tau: T, dtype: torch.dtype) -> T:
    """The largest logarithm of an input that counts as clamped.

    A few roundings above ``log(tau)``: a library may round the logarithm of one number differently in the middle and at
    the end of a vector.
    """
    return log_tau + abs(log_tau) * (4 * torch.finfo(dtype).eps)


def _log_backward_formula(grad: Tensor, log_x: Tensor, tau: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What :func:`log_backward` computes, differentiable: in ``log_x``, and thereby in ``x`` and ``tau``."""
    wide = log_x.to(tau.dtype)
    clamped = wide <= _edge(tau.log(), tau.dtype)
    ratio = grad.to(tau.dtype) * (-wide).exp()
    return ratio.masked_fill(clamped, 0).to(dtype), ratio.where(clamped, 0).sum_to_size(tau.shape)


@log.register_fake
def _(x: Tensor, tau: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(x, dtype=dtype)


@log_backward.register_fake
def _(grad: Tensor, log_x: Tensor, tau: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.empty_like(log_x, dtype=dtype), torch.empty_like(tau)


def _keep_log(ctx: Any, inputs: tuple[Tensor, Tensor, torch.dtype], output: Tensor) -> None:
    x, tau, _ = inputs
    ctx.save_for_backward(output, tau)
    ctx.dtype = x.dtype


def _log_vjp(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    log_x, tau = ctx.saved_tensors
    if torch.is_grad_enabled():
        return *_log_backward_formula(grad, log_x, tau, ctx.dtype), None
    backward = _log_backward if is_plain(grad) and not mode_listens() else log_backward
    return *backward(grad, log_x, tau, ctx.dtype), None


log.register_autograd(_log_vjp, setup_context=_keep_log)


class _EagerLog(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, tau: Tensor, dtype: torch.dtype) -> Tensor:
        log_x = (log if mode_listens() else _log)(x, tau, dtype)
        _keep_log(ctx, (x, tau, dtype), log_x)
        return log_x

    backward = staticmethod(_log_vjp)


def eager_log(x: Tensor, tau: Tensor, dtype: torch.dtype) -> Tensor:
    """``log(max(x, tau))``, in one operator; NaN where ``x`` is NaN or infinite.

    Args:
        x: inputs, any shape, floating point.
        tau: thresholds, positive, broadcast to ``x``; the logarithm is taken in their dtype.
        dtype: that of the output, which differs from that of ``tau`` only where there are kernels.

    Returns:
        The logarithms, shape and memory format of ``x``.  The gradient of a clamped input is zero.
    """
    if is_plain(x) and is_plain(tau):
        return _EagerLog.apply(x, tau, dtype)  # type: ignore[no-any-return]
    return log(x, tau, dtype)  # type: ignore[no-any-return]


@log.register_vmap
def _(info: Any, in_dims: tuple[int | None, int | None, None], x: Tensor, tau: Tensor, dtype: torch.dtype) -> Any:
    x = x.expand(info.batch_size, *x.shape) if in_dims[0] is None else x.movedim(in_dims[0], 0)
    if in_dims[1] is not None:  # (B, ...) to (B, 1, ..., 1, ...), which broadcasts to x
        tau = tau.movedim(in_dims[1], 0)
        tau = tau.reshape(len(tau), *(1,) * (x.ndim - tau.ndim), *tau.shape[1:])
    return log(x, tau, dtype), 0


# ---------------------------------------------------------------------------------------------------------- exponential


def _exp(z: Tensor, dtype: torch.dtype) -> Tensor:
    """See :func:`eager_exp`."""
    if has_kernels(z) and z.dtype != dtype:
        from pure.nn.fused import triton as kernels

        return kernels.exp(z, dtype)
    return z.to(dtype).exp()


exp = torch.library.custom_op("pure::exp", _exp, mutates_args=())
"""The registered operator ``pure::exp``: what :func:`eager_exp` computes, by the dispatcher."""


def _exp_backward(grad: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient of ``z``, ``grad * y``, in its dtype."""
    if has_kernels(y):
        from pure.nn.fused import triton as kernels

        return kernels.exp_backward(grad, y, dtype)
    return (grad * y).to(dtype)


exp_backward = torch.library.custom_op("pure::exp_backward", _exp_backward, mutates_args=())


@exp.register_fake
def _(z: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(z, dtype=dtype)


@exp_backward.register_fake
def _(grad: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(y, dtype=dtype)


def _keep_exp(ctx: Any, inputs: tuple[Tensor, torch.dtype], output: Tensor) -> None:
    ctx.save_for_backward(output)
    ctx.dtype = inputs[0].dtype


def _exp_vjp(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (y,) = ctx.saved_tensors
    if torch.is_grad_enabled():
        return (grad * y).to(ctx.dtype), None
    backward = _exp_backward if is_plain(grad) and not mode_listens() else exp_backward
    return backward(grad, y, ctx.dtype), None


exp.register_autograd(_exp_vjp, setup_context=_keep_exp)


class _EagerExp(torch.autograd.Function):
    """See :func:`eager_exp`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, dtype: torch.dtype, argument: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        y = exp(z, dtype) if has_kernels(z) and z.dtype != dtype and mode_listens() else _exp(z, dtype)
        ctx.save_for_backward(y.data, *tensors)  # without y's count of changes, which would refuse to be unpacked
        ctx.changes, ctx.before = _changes(y), y._version
        ctx.dtype, ctx.argument, ctx.autocast = z.dtype, argument, autocast.state(z.device.type)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, *tensors = ctx.saved_tensors
        if torch.is_grad_enabled() or ctx.changes._version != ctx.before:
            with autocast.resumed(grad.device.type, *ctx.autocast):
                y = ctx.argument(*tensors).to(y.dtype).exp()
        if torch.is_grad_enabled() or not has_kernels(grad) or grad.dtype == ctx.dtype:
            grad_z = (grad * y).to(ctx.dtype)
        else:
            grad_z = (_exp_backward if is_plain(grad) and not mode_listens() else exp_backward)(grad, y, ctx.dtype)
        return grad_z, *(None,) * (2 + len(tensors))


def _changes(y: Tensor) -> Tensor:
    """A tensor without memory whose ``_version`` counts the changes of ``y`` in place."""
    counter = y.detach()
    counter.data = counter.new_empty(0)
    return counter


def eager_exp(z: Tensor, dtype: torch.dtype, argument: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> Tensor:
    """``exp(z)`` in the dtype of ``z`` or a wider one; overwriting the output does not spoil the gradient.

    Like PyTorch's, it keeps its output, which the layer after it keeps too.  If that has been overwritten, as by
    ``nn.ReLU(inplace=True)``, it is computed again from what the layer before has kept, which takes no memory.

    Args:
        z: ``argument(*tensors)``, which requires a gradient.
        dtype: that of the output.
        argument: gives ``z`` once more, differentiably.
        tensors: what it takes; they are kept.

    Returns:
        The exponentials, shape and memory format of ``z``.
    """
    return _EagerExp.apply(z, dtype, argument, *tensors)  # type: ignore[no-any-return]


@exp.register_vmap
def _(info: Any, in_dims: tuple[int, None], z: Tensor, dtype: torch.dtype) -> Any:
    return exp(z, dtype), in_dims[0]
