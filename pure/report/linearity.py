"""How far from linear a layer, a block or a network is, measured at the inputs that it really gets.

A map is affine if and only if the middle between two inputs goes to the middle between their outputs.  The midpoint
defect is how far it misses that, over how far apart the outputs are:

``|| f((a + b) / 2) - (f(a) + f(b)) / 2 ||  /  || (f(a) - f(b)) / 2 ||``

both root mean squares over all pairs and all outputs.  It is 0 for an affine map, does not change with the scale of the
outputs or a constant added to them, and is comparable between families of networks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pure.nn.blocks import BasicBlock, ProductUnitBlock
from pure.nn.inspection import modes_restored
from pure.nn.units import ProductUnitBase

__all__ = ["block_defects", "inputs_of", "midpoint_defect", "step_defects"]


def midpoint_defect(function: Callable[[Tensor], Tensor], a: Tensor, b: Tensor) -> float:
    """How far a function misses the middle, as the module says; 0 for an affine one.

    Args:
        function: from ``(N, ...)`` to ``(N, ...)``, row by row.
        a: one end of each pair, shape ``(N, ...)``.
        b: the other, of the same shape.

    Raises:
        ValueError: the ends have other shapes, or go to the same outputs, so that there is nothing to compare with.
    """
    if a.shape != b.shape:
        raise ValueError(f"expected pairs of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    with torch.no_grad():
        first, second, middle = (function(x).double() for x in (a, b, (a + b) / 2))
    apart = ((first - second) / 2).square().mean().sqrt()
    if apart == 0:
        raise ValueError("both ends of every pair go to the same output: the function is constant here")
    return float((middle - (first + second) / 2).square().mean().sqrt() / apart)


def inputs_of(
    network: nn.Module, kind: type[nn.Module] | tuple[type[nn.Module], ...], images: Tensor
) -> dict[str, Any]:
    """What every module of a kind is given in evaluation mode, by its name in the network.

    Args:
        network: maps images to logits; its modes are restored.
        kind: the class, or several.
        images: normalised, shape ``(N, C, H, W)``.

    Returns:
        For each module the tensor ``(N, ...)`` that it was called with.
    """
    found: dict[str, Any] = {}

    def keep(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:  # at its first call
        found.setdefault(name, inputs[0].detach().clone())  # a copy: a ReLU in place writes into its input

    hooks = [
        module.register_forward_pre_hook(partial(keep, name))
        for name, module in network.named_modules()
        if isinstance(module, kind)
    ]
    try:
        with modes_restored(network), torch.no_grad():
            network.eval()
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def block_defects(network: nn.Module, images: Tensor) -> dict[str, tuple[float, float]]:
    """The midpoint defect of every residual block in evaluation mode, by its name.

    Pairs are the first and the second half of the images, as they arrive at the block.

    Args:
        network: with blocks of :mod:`pure.nn.blocks`.
        images: normalised, shape ``(2 N, C, H, W)``.

    Returns:
        For each block the defect of what is added to the shortcut, and that of the whole block.

    Raises:
        ValueError: the network has no such blocks.
    """
    inputs = inputs_of(network, (ProductUnitBlock, BasicBlock), images)
    if not inputs:
        raise ValueError(f"expected a network of residual blocks, {type(network).__name__} has none")
    found = {}
    with modes_restored(network):
        network.eval()
        for name, x in inputs.items():
            block: Any = network.get_submodule(name)
            a, b = x.chunk(2)
            branch = midpoint_defect(partial(_branch, block), a, b)
            found[name] = (branch, midpoint_defect(partial(_whole, block), a, b))
    return found


def _branch(block: Any, x: Tensor) -> Tensor:
    """What a block adds to its shortcut: the output of its last layer before the sum."""
    outputs: list[Tensor] = []
    hook = block.bn2.register_forward_hook(lambda *call: outputs.append(call[2].clone()))
    try:
        _whole(block, x)
    finally:
        hook.remove()
    return outputs[0]


def _whole(block: Any, x: Tensor) -> Tensor:
    """The output of a block, which may write into a copy of its input."""
    return block(x.clone())  # type: ignore[no-any-return]


def step_defects(network: nn.Module, images: Tensor) -> dict[str, tuple[float, float]]:
    """The midpoint defects of the two steps of every product unit that are not linear, in evaluation mode.

    Args:
        network: with the paper's product units.
        images: normalised, shape ``(2 N, C, H, W)``.

    Returns:
        For each unit by its name that of the clamp with the logarithm, at the unit's inputs, and that of the
        exponential, at its exponents.
    """
    found = {}
    for name, x in inputs_of(network, ProductUnitBase, images).items():
        unit: Any = network.get_submodule(name)
        bound = unit.lower_bound.detach()
        bound = bound[:, None, None] if bound.ndim and x.ndim == 4 else bound
        with torch.no_grad():
            exponents = unit.magnitude(x).log()
        logarithm = midpoint_defect(partial(_log_of_clamped, bound), *x.chunk(2))
        found[name] = (logarithm, midpoint_defect(torch.exp, *exponents.chunk(2)))
    return found


def _log_of_clamped(bound: Tensor, x: Tensor) -> Tensor:
    return x.maximum(bound).log()
