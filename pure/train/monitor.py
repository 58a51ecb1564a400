"""What goes on inside a training network: the state of its product units, and where it first stopped being finite.

Looking changes nothing: weights, gradients, running statistics, each module's mode and the random numbers are as found
afterwards.  Of a network in DDP, or compiled, the bare modules are observed, uncompiled.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pure.nn.inspection import modes_restored
from pure.nn.units import ProductUnitBase
from pure.records import Unit

__all__ = ["ABSURD", "NonFinite", "first_nonfinite", "gradient_norm", "inner", "is_absurd", "observe_units"]

ABSURD = 10.0
"""A loss above this many times ``ln classes``, the loss of guessing, is absurd: no sensible prediction is that sure of
so many wrong classes.  On the digits it is 23 nats; a network without training loses about 2.4, overfitted ones up to 5
on the images that they get wrong, and lagging statistics of batch normalisation were seen to give up to 1e28."""

_SCALE = 2.0**20
"""Leaves room for exponents up to 7e8, and their last digits within 1e-9."""

Forward = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From a network, images and labels to the loss that is minimised."""


def is_absurd(loss: float, classes: int) -> bool:
    """Whether a loss in evaluation mode is not finite, or far above what guessing among the classes would give.

    Args:
        loss: mean cross-entropy (nats).
        classes: their number.
    """
    return not loss <= ABSURD * math.log(max(classes, 2))  # written so that a NaN is absurd


def gradient_norm(network: nn.Module) -> Tensor:
    """Norm of the whole gradient, a scalar on its device without waiting for it; 0 where there is none."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return nn.utils.get_total_norm(gradients)


def inner(network: nn.Module) -> nn.Module:
    """The network itself, out of the wrappers of DDP and :func:`torch.compile`."""
    while True:
        if isinstance(network, DistributedDataParallel):
            network = network.module
        elif isinstance(network, torch._dynamo.OptimizedModule):
            network = network._orig_mod
        else:
            return network


def observe_units(network: nn.Module, images: Tensor) -> dict[str, Unit]:
    """Threshold, share of inputs at the threshold and range of the exponent of every product unit, by name.

    One forward pass in evaluation mode.  The exponent, the argument of the exponential, is computed in float64 from
    the inputs that the unit really had, and is known where the product overflows; that of a stabilised unit is the
    bounded one.  A complex unit has its ``eps`` for a threshold, which holds for magnitudes.

    Args:
        network: maps images to logits.
        images: normalised, shape ``(N, C, H, W)``, on the network's device.

    Returns:
        By the unit's name in the network; values rounded to six significant digits.  Empty without product units.
    """
    network = inner(network)
    units = {name: module for name, module in network.named_modules() if isinstance(module, ProductUnitBase)}
    exponents = {name: _exponents_of(unit) for name, unit in units.items()}
    found: dict[str, Unit] = {}

    def observe(name: str, unit: Any, inputs: tuple[Tensor, ...]) -> None:
        found[name] = _state(unit, inputs[0], exponents[name](inputs[0]))

    hooks = [unit.register_forward_pre_hook(partial(observe, name)) for name, unit in units.items()]
    try:
        if units:
            with _untouched(network), torch.no_grad():
                network.eval()
                network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: found[name] for name in units if name in found}


class NonFinite(NamedTuple):
    """Where a step stopped being finite; what :class:`pure.records.Divergence` says of it."""

    quantity: Literal["loss", "gradient", "weights"]
    layer: str | None
    reason: str


def _cross_entropy(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(network(images), labels)


def first_nonfinite(network: nn.Module, images: Tensor, labels: Tensor, forward: Forward = _cross_entropy) -> NonFinite:
    """Repeat a step in training mode, on the weights that it began with, and find where it stops being finite.

    Args:
        network: before the optimizer's step; each layer is observed when it is called.
        images: normalised, as they were trained on, shape ``(N, C, H, W)``.
        labels: shape ``(N,)``.
        forward: the step's own way to the loss, called with the bare network, images and labels.

    Returns:
        The first layer in the order of the computation whose output is not finite, or, if all are, the last one whose
        gradient is not: the gradient of its output, of its input or of its parameters.  Weights that are not finite
        come before either.  The layer is None where none is at fault: where the images are not finite, only the loss or
        the norm is not, or the step, repeated, is finite.
    """
    network = inner(network)
    for name, parameter in network.named_parameters():
        if not parameter.isfinite().all():
            layer, _, weight = name.rpartition(".")
            return NonFinite("weights", layer or None, f"{weight} was not finite before the step: {_counts(parameter)}")
    if not images.isfinite().all():
        return NonFinite("loss", None, f"the images were not finite: {_counts(images)}")

    layers: list[str] = []  # in the order of the computation
    outputs: list[NonFinite] = []
    gradients: dict[str, str] = {}

    def watch(name: str, what: str, gradient: Tensor) -> None:
        if not gradient.isfinite().all():
            gradients.setdefault(name, f"gradient of its {what}: {_counts(gradient)}")

    def enter(name: str, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        layers.append(name)
        copies = tuple(_copy(x) for x in inputs)  # whose gradients come from this layer alone
        for x in copies:
            if isinstance(x, Tensor) and x.requires_grad:
                x.register_hook(partial(watch, name, "input"))
        return copies

    def leave(name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        if not outputs and not output.isfinite().all():
            reason = f"output of {type(layer).__name__}: {_counts(output)}{_cause(layer, inputs[0])}"
            outputs.append(NonFinite("loss", name or None, reason))
        if output.requires_grad:
            output.register_hook(partial(watch, name, "output"))

    # Layers are modules without parts; a network that is a single layer is one too.
    leaves = {name: module for name, module in network.named_modules() if not list(module.children())}
    hooks = [module.register_forward_pre_hook(partial(enter, name)) for name, module in leaves.items()]
    hooks += [module.register_forward_hook(partial(leave, name)) for name, module in leaves.items()]
    parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
    try:
        with _untouched(network), torch.enable_grad():
            network.train()
            loss = forward(network, images, labels)
            if outputs:
                return outputs[0]
            if not loss.isfinite().all():
                return NonFinite("loss", None, f"every layer is finite, but the loss is {loss.item():.6g}")
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    for name, gradient in zip(parameters, found, strict=True):
        if gradient is not None:
            layer, _, weight = name.rpartition(".")
            watch(layer, weight, gradient)
    for name in reversed(layers):
        if name in gradients:
            return NonFinite("gradient", name or None, gradients[name])
    for name, reason in gradients.items():  # a parameter outside the layers
        return NonFinite("gradient", name or None, reason)
    present = [gradient for gradient in found if gradient is not None]
    norm = nn.utils.get_total_norm(present)
    if not norm.isfinite():
        largest = max(float(gradient.abs().max()) for gradient in present)
        reason = f"every value of the gradient is finite, up to {largest:.6g}, but its norm overflows"
        return NonFinite("gradient", None, reason)
    reason = f"the step, repeated, is finite: loss {loss.item():.6g}, norm of the gradient {norm.item():.6g}"
    return NonFinite("loss", None, reason)


@contextmanager
def _untouched(network: nn.Module) -> Iterator[None]:
    """Buffers, modes and random numbers are as found afterwards; nothing is compiled meanwhile."""
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    devices = {tensor.device for tensor in (*network.parameters(), *network.buffers()) if tensor.is_cuda}
    try:
        with (
            modes_restored(network),
            torch.random.fork_rng(list(devices)),
            torch.compiler.set_stance("force_eager"),
        ):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def _exponents_of(unit: ProductUnitBase) -> Callable[[Tensor], Tensor]:
    """A function from the unit's inputs to the arguments of its exponential, float64.

    They are the logarithms of the products, for exponents divided by a power of two, so that no product overflows.
    """
    twin = copy.deepcopy(unit).double()
    scale = _SCALE if unit.bound is None else 1.0  # a bounded argument is not linear, and overflows nowhere
    with torch.no_grad():
        twin.weight.div_(scale)

    def exponents(x: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return scale * twin.magnitude(x.double()).log()

    return exponents


def _state(unit: ProductUnitBase, x: Tensor, exponents: Tensor) -> Unit:
    values = unit.lower_bound.tolist()
    return Unit(
        threshold=tuple(map(_rounded, values)) if isinstance(values, list) else _rounded(values),
        clamped=_rounded(float(unit.clamped(x).double().mean())),
        exponent=(_rounded(float(exponents.min())), _rounded(float(exponents.max()))),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _copy(x: Any) -> Any:
    """A tensor apart, through which gradients flow: a layer that works in place then changes only the copy."""
    return x.clone() if isinstance(x, Tensor) and x.requires_grad else x


def _counts(tensor: Tensor) -> str:
    """How many values are not finite, and where the others lie."""
    nan, infinite = int(tensor.isnan().sum()), int(tensor.isinf().sum())
    counts = [f"{number:,} {kind}" for number, kind in ((nan, "NaN"), (infinite, "infinite")) if number]
    finite = tensor[tensor.isfinite()]
    text = f"of {tensor.numel():,} values {' and '.join(counts)}"
    return text + (f", the others from {finite.min().item():.6g} to {finite.max().item():.6g}" if len(finite) else "")


def _cause(layer: nn.Module, x: Any) -> str:
    """What came in; of a product unit also the range of the exponent."""
    if not isinstance(x, Tensor):
        return ""
    low, high = (float(value) for value in x.detach().aminmax())
    text = f"; inputs from {low:.6g} to {high:.6g}"
    if isinstance(layer, ProductUnitBase):
        exponents = _exponents_of(layer)(x.detach())
        largest = math.log(torch.finfo(torch.float32).max)
        text += f", exponents from {float(exponents.min()):.6g} to {float(exponents.max()):.6g}"
        text += f" (the exponential overflows float32 beyond {largest:.6g})"
    return text
