"""Estimate the statistics of batch normalisation again, for the final weights.

Running averages lag: they cover the latest training batches.  A product unit's outputs are nearly log-normal, so while
weights still move, too small a variance lets single activations through that later units raise to
powers: after a short training the loss in evaluation mode can be absurd.  One pass over the training images repairs
that and changes no weight (as Izmailov et al., 2018, do after averaging weights).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from pure.nn.inspection import modes_restored

__all__ = ["reestimate"]


def reestimate(
    network: nn.Module, loader: Iterable[Tensor | tuple[Tensor, ...]], device: torch.device | str | None = None
) -> None:
    """Replace the running statistics of every batch normalisation by averages over one pass, in place.

    A thin wrapper of :func:`torch.optim.swa_utils.update_bn`.  The average is cumulative: each batch counts alike
    whatever the layer's ``momentum``, a smaller last one too.  Give the training images, shuffled, in batches as large
    as those of the training: the mean of the variances within batches leaves out what differs between them.

    Args:
        network: the network.  Its weights, each module's training mode and its ``momentum`` are as found afterwards.
        loader: yields images ``(N, C, H, W)``, alone or first in a tuple or list, as those of
            :func:`pure.data.loaders.make_loader` do.
        device: where the images are moved to; None is the device of the statistics.

    Raises:
        ValueError: the network has no batch normalisation with running statistics, or the loader yields nothing.
            Whatever is raised, in a batch too, the statistics are then as found.
    """
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    statistics = [layer.running_mean for layer in layers if layer.running_mean is not None]
    if not statistics:
        raise ValueError(
            f"{type(network).__name__} has no batch normalisation with running statistics: there is nothing to "
            "re-estimate, evaluate it as it is"
        )
    batches = _refuse_empty(loader)
    momenta = {layer: layer.momentum for layer in layers}
    as_found = [(buffer, buffer.clone()) for layer in layers for buffer in layer.buffers()]
    try:
        with modes_restored(network):  # update_bn gives every module the mode of the root
            update_bn(batches, network, torch.device(device or statistics[0].device))
    except BaseException:
        for buffer, value in as_found:
            buffer.copy_(value)
        raise
    finally:  # update_bn restores nothing when a batch fails
        for layer, momentum in momenta.items():
            layer.momentum = momentum


def _refuse_empty(loader: Iterable[Any]) -> Iterable[Any]:
    """The batches of a loader; an empty one is refused before the statistics are reset."""
    iterator = iter(loader)
    try:
        first = next(iterator)
    except StopIteration:
        raise ValueError("the loader yields no batch: there is nothing to re-estimate the statistics from") from None

    def batches() -> Iterable[Any]:
        yield first
        yield from iterator

    return batches()
