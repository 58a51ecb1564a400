"""The logarithm and the exponential of a product unit as registered operators that keep little and move little.

``l = log(max(x, tau))`` written with PyTorch's operators keeps the inputs, the clamped inputs, ``l`` and a mask of the
infinities for the backward pass; the convolution after it keeps ``l`` too.  But ``l`` alone says all that is asked: an
input was clamped where ``l`` is ``log(tau)``, and elsewhere ``1 / x = exp(-l)``.  With ``g`` the gradient of ``l``::

    dL/dx    =  g * exp(-l) where l > log(tau), else 0
    dL/dtau  =  sum of g / tau where l = log(tau)

With the exponential, which keeps its output as PyTorch's does, a product unit keeps two feature maps: as many as a ReLU
and a convolution with BN behind it.

:func:`eager_log` and :func:`eager_exp` are these operators.  Both are registered with PyTorch, and called by its
dispatcher where a transformation, a mode or a subclass has to see them; where nothing but autograd listens they pass it
by, since its way through Python takes as long as the computation on a small map.

:func:`applies` says where the operators stand in for the formulas of :mod:`pure.nn.functional`.  They do not while a
graph is captured: a compiler fuses plain formulas better than calls that it cannot look into, and an exported program
must run where this package is not installed.  Second derivatives are those of plain formulas of ``l``.

:func:`compiles` says where a compiler makes kernels of the formulas.  There, :func:`graph_log` and :func:`graph_exp`
write out the gradients that it fuses best.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode

__all__ = [
    "applies",
    "compiles",
    "disabled",
    "eager_exp",
    "eager_log",
    "exp",
    "graph_exp",
    "graph_log",
    "log",
    "only_autograd_listens",
]

T = TypeVar("T", float, Tensor)

_enabled = True
_TRITON_IS_INSTALLED = importlib.util.find_spec("triton") is not None  # not loaded before it is needed


@contextmanager
def disabled() -> Iterator[None]:
    """Compute with the plain formulas within this context: what tests and benchmarks compare the operators with."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def applies(x: Tensor) -> bool:
    """Whether the operators take the inputs ``x``; if not, the plain formulas hold.

    They take single and double precision on a CPU, by CUDA and on the meta device, and half precision by CUDA where
    Triton is installed; neither subclasses of tensors, nor forward-mode derivatives, nor what a graph is captured of.
    """
    if not _enabled or torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if type(x) not in (Tensor, torch.nn.Parameter) or _is_transformed():
        return False
    if x.dtype in (torch.float32, torch.float64):
        return x.is_cpu or x.is_cuda or x.is_meta
    return has_kernels(x)


def _is_transformed() -> bool:
    """Whether a derivative is being taken otherwise than by ``backward``: operators have no rule for that."""
    transforms = torch._C._functorch.get_interpreter_stack() or ()
    vmap = torch._C._functorch.TransformType.Vmap
    return forward_ad._current_level >= 0 or any(transform.key() != vmap for transform in transforms)


def only_autograd_listens(*tensors: Tensor) -> bool:
    """Whether tensors may be computed with, and numbers read from them, unseen by anybody but autograd.

    They are plain tensors, no graph is captured, nothing is transformed and no mode waits for operators.
    """
    functorch = torch._C._functorch
    return (
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and functorch.peek_interpreter_stack() is None
        and _get_current_dispatch_mode() is None
        and all(type(x) in (Tensor, torch.nn.Parameter) and not functorch.is_legacy_batchedtensor(x) for x in tensors)
    )


def compiles() -> bool:
    """Whether :func:`torch.compile` captures a graph, and no transformation differentiates or maps within it.

    An exported program is left as plain formulas; so is what :mod:`torch.func` transforms, or forward mode
    differentiates, since the gradients written out here have no rule for that.
    """
    return (
        _enabled
        and torch.compiler.is_compiling()
        and forward_ad._current_level < 0
        and not _is_exported_or_transformed()
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # a compiler asks, and cannot look into it
def _is_exported_or_transformed() -> bool:
    return torch.compiler.is_exporting() or torch._C._functorch.get_dynamic_layer_stack_depth() > 0


def has_kernels(x: Tensor) -> bool:
    """Whether the kernels of :mod:`pure.nn.fused.triton` take ``x``: on a GPU, and not of double precision."""
    return x.is_cuda and x.dtype != torch.float64 and _TRITON_IS_INSTALLED


# ------------------------------------------------------------------------------------------------------------ logarithm


def _log(x: Tensor, tau: Tensor, dtype: torch.dtype) -> Tensor:
    """See :func:`eager_log`."""
    if has_kernels(x):
        from pure.nn.fused import triton as kernels

        return kernels.log(x, tau, dtype)
    log_x = torch.maximum(x, tau).log_()
    if x.is_cpu and math.isfinite(x.sum().item()):  # one pass over x alone; a GPU would have to be waited for
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
    # the difference of two sums would take a pass less, and lose what few clamped inputs add beside large gradients
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
    backward = _log_backward if only_autograd_listens(grad) else log_backward
    return *backward(grad, log_x, tau, ctx.dtype), None


log.register_autograd(_log_vjp, setup_context=_keep_log)


class _EagerLog(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, tau: Tensor, dtype: torch.dtype) -> Tensor:
        log_x = _log(x, tau, dtype)
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
    if only_autograd_listens(x, tau):
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
    if has_kernels(z):
        from pure.nn.fused import triton as kernels

        return kernels.exp(z, dtype)
    return z.to(dtype).exp_()


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
    backward = _exp_backward if only_autograd_listens(grad) else exp_backward
    return backward(grad, y, ctx.dtype), None


exp.register_autograd(_exp_vjp, setup_context=_keep_exp)


class _EagerExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, dtype: torch.dtype) -> Tensor:
        y = _exp(z, dtype)
        _keep_exp(ctx, (z, dtype), y)
        return y

    backward = staticmethod(_exp_vjp)


def eager_exp(z: Tensor, dtype: torch.dtype) -> Tensor:
    """``exp(z)`` of half precision in a wider dtype, read and written once; same shape and memory format."""
    if only_autograd_listens(z):
        return _EagerExp.apply(z, dtype)  # type: ignore[no-any-return]
    return exp(z, dtype)  # type: ignore[no-any-return]


@exp.register_vmap
def _(info: Any, in_dims: tuple[int, None], z: Tensor, dtype: torch.dtype) -> Any:
    return exp(z, dtype), in_dims[0]


# ------------------------------------------------------------------------------------------------------ compiled graphs


class _GraphLog(torch.autograd.Function):
    """See :func:`graph_log`."""

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
    """See :func:`graph_exp`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        y = torch.ops.prims.exp(z)
        ctx.save_for_backward(y)
        return y  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * y  # type: ignore[no-any-return]


def graph_log(x: Tensor, tau: Tensor) -> Tensor:
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


def graph_exp(z: Tensor) -> Tensor:
    """``exp(z)`` in a compiled graph, kept for the backward pass in place of ``z``, which takes the same memory.

    Compilers take an exponential for free and rather keep the convolution's output ``z``, computing ``exp(z)`` again.
    That is right on a GPU, where memory is the limit, and costs a pass over the map on a CPU.  ``prims.exp`` is the
    same operation of PyTorch's, but not among those that its partitioner computes twice.

    Args:
        z: any shape, floating point.

    Returns:
        The exponentials, shape and dtype of ``z``.
    """
    return _GraphExp.apply(z)  # type: ignore[no-any-return]
