"""Looking at a network while it computes, and leaving it as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

__all__ = ["Kept", "Signal", "kept_for_backward", "modes_restored", "signals"]


class Kept(NamedTuple):
    """A storage that is kept for the backward pass.

    Attributes:
        label: what was asked for when it was kept first.
        tensor: one that lies in it.
    """

    label: str
    tensor: Tensor

    @property
    def nbytes(self) -> int:
        """Of the whole storage."""
        return self.tensor.untyped_storage().nbytes()


def kept_for_backward(
    forward: Callable[[], Any], without: Iterable[Tensor] = (), label: Callable[[], str] = str
) -> tuple[Any, dict[int, Kept]]:
    """What a forward pass keeps for its backward pass, each storage once, on meta tensors too.

    Args:
        forward: the forward pass.
        without: tensors that do not count: parameters and buffers.
        label: called whenever a storage is kept first; by default every label is empty.

    Returns:
        What the forward pass gives, and the storages by their identity.
    """
    own = {_identity(tensor) for tensor in without}
    kept: dict[int, Kept] = {}  # holds the tensors: an address must not be used twice

    def keep(tensor: Tensor) -> Tensor:
        identity = _identity(tensor)
        if identity not in own and identity not in kept:
            kept[identity] = Kept(label(), tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    return result, kept


class Signal(NamedTuple):
    """How large a layer's output is, and the gradient of a loss there.

    Attributes:
        layer: its name in the network.
        output: root mean square of the elements of its output.
        gradient: root mean square of those of the gradient.
    """

    layer: str
    output: float
    gradient: float


def signals(network: nn.Module, loss: Callable[[], Tensor], kind: type[nn.Module]) -> list[Signal]:
    """How outputs and gradients change on their way through a network.

    Args:
        network: whose layers are looked at.  Weights and ``.grad`` stay; statistics of batch normalisation move as in
            any forward pass.
        loss: runs the network and gives a scalar.
        kind: which layers, blocks for instance; each must return one tensor.

    Returns:
        One for each call of such a layer, in the order of the calls.

    Raises:
        ValueError: no layer of this kind was called.
    """
    outputs: list[tuple[str, Tensor]] = []

    def watch(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: outputs.append((name, output))

    hooks = [
        module.register_forward_hook(watch(name))
        for name, module in network.named_modules()
        if isinstance(module, kind)
    ]
    try:
        value = loss()
    finally:
        for hook in hooks:
            hook.remove()
    if not outputs:
        raise ValueError(f"no {kind.__name__} was called in {type(network).__name__}; name a kind of layer that it has")
    gradients = torch.autograd.grad(value, [output for _, output in outputs])
    return [
        Signal(name, _rms(output), _rms(gradient)) for (name, output), gradient in zip(outputs, gradients, strict=True)
    ]


@contextmanager
def modes_restored(network: nn.Module) -> Iterator[None]:
    """Every module of the network is in training or evaluation mode afterwards as it was before."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _identity(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _rms(x: Tensor) -> float:
    """Root mean square, in double precision: what overflows in the square does not here."""
    return float(x.detach().double().square().mean().sqrt())
