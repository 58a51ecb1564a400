"""What makes a training faster without changing what it computes but for rounding: formats, precisions, compilation.

All of it follows from the recipe's precision and the :class:`pure.execution.Execution`, and so is in the record.  In
the order in which a training uses it::

    with speed.tf32(recipe, device):
        network = group.wrap(speed.prepare(network, recipe, execution, device))
        scaler = speed.grad_scaler(recipe, device)
        ...
            with speed.autocast(recipe, device):
                logits = network(images)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pure.execution import Execution
from pure.nn.units import ProductUnitBase
from pure.recipes import Precision, Recipe

__all__ = ["Step", "autocast", "grad_scaler", "graphed", "memory_format", "prepare", "set_unit_precision", "tf32"]

Step = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""Forward and backward: from images and labels to whatever is wanted of them, the loss for instance.  It leaves the
gradient of each parameter in ``.grad``, which it finds empty."""

_LOWERED = {"bfloat16": torch.bfloat16, "float16": torch.float16}

_WARM_UPS = 3
"""Runs before a capture, as PyTorch's notes on CUDA graphs have them: libraries choose their algorithms meanwhile."""


def memory_format(execution: Execution) -> torch.memory_format:
    """How images and weights lie in memory."""
    return torch.channels_last if execution.channels_last is True else torch.contiguous_format


def prepare(network: nn.Module, recipe: Recipe, execution: Execution, device: torch.device) -> nn.Module:
    """Move a network to its device, in its format and precision, and have it compiled on its first call.

    Compilation is in place: names in the state stay what they were.  Shapes are fixed ones, so that the last, smaller
    batch of an epoch costs one compilation more and no speed.

    Args:
        network: is changed in place.
        recipe: its precisions.
        execution: its ``channels_last`` and ``compile``, decided: ``"auto"`` does neither.
        device: where the training computes.

    Returns:
        The same network.

    Raises:
        ValueError: the recipe's precisions exclude each other on this device.
    """
    _require_precisions(recipe, device)
    _require_graphs(execution, device)
    network = network.to(device).to(memory_format=memory_format(execution))
    if _LOWERED.get(recipe.unit_precision) != _LOWERED.get(recipe.precision):
        set_unit_precision(network, recipe.unit_precision)
    if execution.compile is True:
        network.compile(dynamic=False)
    return network


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The context of a forward pass, loss included: autocast in half precision, or none."""
    dtype = _LOWERED.get(recipe.precision)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def grad_scaler(recipe: Recipe, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss where gradients pass through float16, whose smallest number is 6e-8; does nothing elsewhere.

    A step whose gradients overflow is skipped, and the scale is halved: that is not a divergence.
    """
    return torch.amp.GradScaler(device.type, enabled="float16" in (recipe.precision, recipe.unit_precision))


@contextmanager
def tf32(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Allow TF32 where the recipe has it, and nowhere else; the process's flags are as found afterwards.

    PyTorch's own defaults would allow it in convolutions and not in products of matrices.

    Raises:
        ValueError: the recipe's precisions exclude each other on this device.
    """
    _require_precisions(recipe, device)
    allowed = "tf32" in (recipe.precision, recipe.unit_precision)
    as_found = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = as_found


def set_unit_precision(network: nn.Module, precision: Precision) -> None:
    """Let every product unit of a network sum its exponent in this precision, whatever autocast is around it.

    Args:
        network: is changed in place; its state and its names are not.
        precision: ``float32`` and ``tf32`` differ by the process's flags alone, see :func:`tf32`.
    """
    dtype = _LOWERED.get(precision, torch.float32)
    for unit in network.modules():
        if isinstance(unit, ProductUnitBase):
            unit.precision = dtype


def graphed(step: Step, network: nn.Module, device: torch.device) -> Step:
    """A step that is captured as a CUDA graph on its first call and replayed on the next ones.

    No kernel is then launched from Python, which is what small networks spend their time on.  The optimizer's step
    stays outside, where learning rates change and gradients are cut.  A batch of another size than the first, the last
    one of an epoch, takes the step as it is.

    Args:
        step: is run on the first images a few times before it is captured; it must not wait for the device, as
            ``.item()`` does, and find ``.grad`` empty.
        network: not in DDP.  Its buffers are as found after those first runs; a replay leaves gradients in ``.grad``.
        device: CUDA.

    Returns:
        A step that gives the same to rounding.  Its results are copies.

    Raises:
        ValueError: the device has no CUDA graphs, or the network is in DDP.
    """
    if device.type != "cuda":
        raise ValueError(f"CUDA graphs need a CUDA device, and this runs on {device.type}; set cuda_graphs=False")
    if isinstance(network, DistributedDataParallel):
        raise ValueError("CUDA graphs are for networks on one device, and this one is in DDP; set cuda_graphs=False")
    return _Graphed(step, network)


class _Graphed:
    """A captured step: the memory that it reads, the memory that it writes, and the graph between them."""

    def __init__(self, step: Step, network: nn.Module) -> None:
        self.step = step
        self.network = network
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        if self.graph is None:
            self._capture(images, labels)
        if images.shape != self.images.shape:
            return self.step(images, labels)
        assert self.graph is not None
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        for parameter, gradient in zip(self.network.parameters(), self.gradients, strict=True):
            parameter.grad = gradient  # zero_grad has taken it away; the replay has written it again
        return tuple(result.clone() for result in self.results)

    def _capture(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images.clone(), labels.clone()
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UPS):
                self.step(self.images, self.labels)
                self.network.zero_grad()
        torch.cuda.current_stream().wait_stream(beside)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):  # computes nothing: buffers stay as they are
            self.results = self.step(self.images, self.labels)
        self.gradients = [parameter.grad for parameter in self.network.parameters()]


def _require_precisions(recipe: Recipe, device: torch.device) -> None:
    if device.type == "cuda" and {recipe.precision, recipe.unit_precision} == {"tf32", "float32"}:
        raise ValueError(
            f"precision={recipe.precision!r} and unit_precision={recipe.unit_precision!r} exclude each other: TF32 is "
            "switched for the whole process; set both to the same, or one of them to 'bfloat16'"
        )


def _require_graphs(execution: Execution, device: torch.device) -> None:
    if not execution.cuda_graphs:
        return
    if device.type != "cuda":
        raise ValueError(f"cuda_graphs needs a CUDA device, and this runs on {device.type}; set cuda_graphs=False")
    if execution.micro_batches > 1:
        raise ValueError(
            f"cuda_graphs replays whole batches, and micro_batches={execution.micro_batches} cuts them; set either to "
            "its default"
        )
