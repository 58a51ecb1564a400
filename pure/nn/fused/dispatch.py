"""Which path computes the logarithm and the exponential of a product unit.

========== ====================================================== ================================================
path       where                                                  module
========== ====================================================== ================================================
reference  everywhere else: exported, traced, transformed, ...    :mod:`pure.nn.functional`
eager      CPU, CUDA and meta tensors under autograd alone        :mod:`pure.nn.fused.operators`
operators  the same where a mode or :func:`torch.vmap` listens    :mod:`pure.nn.fused.operators`
triton     within these two, CUDA tensors of at most float32      ``pure.nn.fused.triton``
graph      :func:`torch.compile`                                  :mod:`pure.nn.fused.graph`
========== ====================================================== ================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pure.nn.autocast import log_dtype, lowered
from pure.nn.fused import graph, operators
from pure.nn.fused.operators import has_kernels, is_plain

__all__ = ["applies", "compiles", "disabled", "exp", "log", "over_pixels", "tau_like"]

_enabled = True


@contextmanager
def disabled() -> Iterator[None]:
    """Compute by the reference within this context: what tests and benchmarks compare the other paths with."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def log(reference: Callable[[Tensor, Tensor], Tensor], x: Tensor, threshold: Tensor | float) -> Tensor:
    """``log(max(x, threshold))`` by the fastest path that holds, in the dtype of ``pure.nn.autocast.log_dtype``.

    The operators hand it to the product of matrices in the dtype that autocast would make of it.  Where an input equals
    the threshold, any split of the gradient between the two is right: the reference gives it to the input, the others
    to the threshold.

    Args:
        reference: the formula, of ``x`` and a threshold of its dtype.
        x: inputs, floating point; NaN and infinities give NaN.
        threshold: a number, or a tensor that broadcasts to ``x``.
    """
    dtype = log_dtype(x)
    tau = tau_like(threshold, x, dtype)
    if applies(x) and has_kernels(x):  # they widen what they read, and lower what they write
        return operators.eager_log(x, tau, lowered(dtype, x))
    x = x.to(dtype)
    if applies(x):
        return operators.eager_log(x, tau, dtype)
    if compiles():
        return graph.log(x, tau)
    return reference(x, tau)


def exp(argument: Callable[..., Tensor], tensors: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    """``exp(argument(*tensors))`` in a dtype, by the fastest path that holds.

    Args:
        argument: gives a tensor that nothing else keeps; may be called again in the backward pass, see
            :func:`pure.nn.fused.operators.eager_exp`.
        tensors: what it is called with.
        dtype: that of the output.
    """
    z = argument(*tensors)
    if compiles():
        return graph.exp(z) if z.dtype == dtype and z.is_cpu else z.to(dtype).exp()
    if _enabled and z.requires_grad and is_plain(z) and forward_ad._current_level < 0:
        return operators.eager_exp(z, dtype, argument, tensors)
    if z.dtype != dtype and applies(z) and has_kernels(z):
        return operators.exp(z, dtype)  # type: ignore[no-any-return]
    return z.to(dtype).exp()


def over_pixels(threshold: Tensor, x: Tensor) -> Tensor:
    """A threshold, ``()``, ``(1,)`` or ``(C,)``, as it broadcasts to feature maps ``(N, C, H, W)``."""
    if threshold.numel() > 1:
        return threshold[:, None, None]  # (C, 1, 1): one value per channel
    if torch.compiler.is_compiling():
        # its gradient is then a sum for each channel first, which a compiler puts into the loop of BN's own sums
        return threshold.expand(x.shape[-3], 1, 1)
    return threshold


def tau_like(threshold: Tensor | float, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The threshold in a dtype, by default that of ``x``; what rounds to zero there is lifted to the least positive."""
    dtype = dtype or x.dtype
    least = 2.0**-24 if dtype == torch.float16 else torch.finfo(dtype).tiny  # float16 has tau = 1e-7 as a subnormal
    tau = torch.as_tensor(threshold, dtype=dtype, device=x.device)
    # on small maps, a clamp and its gradient are one per cent of a network's step
    if tau.numel() == 1 and is_plain(tau) and (tau.is_meta or (tau.is_cpu and _value(tau) >= least)):
        return tau
    return tau.clamp(min=least)


def _value(scalar: Tensor) -> float:
    """The one number in a tensor, read unseen by any mode, so that what is kept does not depend on who listens."""
    value: Any = scalar.tolist()
    return value[0] if scalar.ndim else value  # type: ignore[no-any-return]


def applies(x: Tensor) -> bool:
    """Whether the operators take the inputs ``x``, in the forms for autograd alone or registered.

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
    """Whether a derivative is being taken by other means than ``backward``: operators have no rule for that."""
    transforms = torch._C._functorch.get_interpreter_stack() or ()
    vmap = torch._C._functorch.TransformType.Vmap
    return forward_ad._current_level >= 0 or any(transform.key() != vmap for transform in transforms)


def compiles() -> bool:
    """Whether :func:`torch.compile` captures a graph, and no transformation differentiates or maps within it.

    An exported program is left as plain formulas; so is what :mod:`torch.func` transforms, or forward mode
    differentiates, since the gradients of :mod:`pure.nn.fused.graph` have no rule for that.
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
