"""Looking at a network while it computes, and leaving it as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

__all__ = ["Kept", "kept_for_backward", "modes_restored"]


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
