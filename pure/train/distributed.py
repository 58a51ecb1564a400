"""One training on several devices: each process has a part of every batch, and all take the same step.

``torchrun`` starts the processes and tells each its place by environment variables; :func:`ranks` reads them.  Without
them there is one process, for which everything here is the identity, so that the training is written once::

    with ranks() as group:
        network = group.wrap(network.to(group.device))
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Group", "part_momentum", "ranks"]

_PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_MEETING = ("MASTER_ADDR", "MASTER_PORT")


_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)
"""What DDP calls copying rank 0's buffers before each step; the second is PyTorch's older name."""

_ENTERED = itertools.count()
"""Numbers the groups that this process was in; its peers count alike."""


class Group:
    """The processes that train together, as one of them sees them.

    *Gradients.*  DDP averages them over the ranks.  The mean over a batch is the mean of its parts' means where the
    parts are equally large; the last batch of an epoch may leave parts that differ, so let each rank's loss be the
    *sum* over its images times ``group.world_size / images in the global batch``.

    *Batch normalisation* sees a part of the batch, on several devices as well as with micro-batches on one (see
    :func:`part_momentum`), unless it is synchronized.  Its running statistics are each rank's own during an epoch;
    their average over the ranks (:meth:`average_statistics`), taken before an evaluation, is what averaging after each
    step would have given, because a running average is linear.

    Attributes:
        rank: number of this process, from 0.
        world_size: number of processes.
        device: where this process computes.
    """

    def __init__(self, rank: int, world_size: int, device: torch.device) -> None:
        self.rank = rank
        self.world_size = world_size
        self.device = device

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes files and shows the bar."""
        return self.rank == 0

    def part_size(self, batch_size: int, micro_batches: int = 1) -> int:
        """Images of a full batch in one part: what a rank computes on at once.

        Raises:
            ValueError: the parts would not be equally large.
        """
        parts = self.world_size * micro_batches
        if batch_size % parts:
            raise ValueError(
                f"a batch of {batch_size} cannot be cut into {self.world_size} ranks x {micro_batches} micro-batches "
                f"of equal size; choose numbers whose product divides {batch_size}, or another batch_size"
            )
        return batch_size // parts

    def wrap(self, network: nn.Module, sync_batchnorm: bool = False) -> nn.Module:
        """The network for training, with the weights of rank 0 on every rank.

        Args:
            network: on this group's device, with its memory format and compiled in place, if at all.
            sync_batchnorm: whether batch normalisation takes its statistics over the images of all ranks.

        Returns:
            The network itself where there is one process; else it in DDP, as ``.module``.

        Raises:
            ValueError: batch normalisation cannot be synchronised on this device.
        """
        if self.world_size == 1:
            return network
        if sync_batchnorm:
            if self.device.type != "cuda":
                raise ValueError(
                    f"batch normalisation is synchronised on CUDA only, and this runs on {self.device.type}; "
                    "set sync_batchnorm=False"
                )
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        devices = [self.device.index] if self.device.type == "cuda" else None
        # Its buffers are not copied from rank 0 at each step: average_statistics makes one of all ranks'.
        buffers: dict[str, Any] = {_SYNC_BUFFERS: False}
        return DistributedDataParallel(network, devices, gradient_as_bucket_view=True, **buffers)

    def average_statistics(self, network: nn.Module) -> None:
        """Average the running statistics of batch normalisation over the ranks, in place: before each evaluation."""
        if self.world_size == 1:
            return
        for layer in network.modules():
            if isinstance(layer, _BatchNorm):
                for buffer in (layer.running_mean, layer.running_var):
                    if buffer is not None:
                        buffer.copy_(self.sum(buffer) / self.world_size)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, elementwise, the same on all: float64, on the group's device, in a new tensor."""
        total = tensor.detach().to(self.device, torch.float64, copy=True)
        if self.world_size > 1:
            distributed.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank: all ranks then do the same, such as stopping at the same step."""
        return bool(self.sum(torch.tensor(float(flag))) > 0) if self.world_size > 1 else flag

    def gather(self, tensor: Tensor) -> Tensor | None:
        """The rows of all ranks, dealt back: what an evaluation that took every ``world_size``-th image has together.

        Args:
            tensor: shape ``(n, ...)``, any dtype; ``n`` may differ between the ranks, and may be 0.

        Returns:
            On rank 0 the first rows of all ranks in their order, then the second rows, and so on; with rows
            ``rank::world_size`` on each rank, the rows in their old order.  None on the others.
        """
        if self.world_size == 1:
            return tensor
        device, tensor = tensor.device, tensor.detach().to(self.device)
        length = torch.zeros(self.world_size)
        length[self.rank] = len(tensor)
        lengths = self.sum(length).long().tolist()
        padded = tensor.new_zeros(max(lengths), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in lengths] if self.is_main else None
        distributed.gather(padded, parts)
        if parts is None:
            return None
        rows = torch.stack(parts, dim=1).flatten(0, 1)  # (longest * world_size, ...): row by row, rank by rank
        counts = torch.tensor(lengths, device=rows.device)
        real = torch.arange(max(lengths), device=rows.device)[:, None] < counts
        return rows[real.flatten()].to(device)

    def interleave(self, values: Tensor) -> Tensor:
        """Values in the order of a set of which each rank has every ``world_size``-th row, on all ranks.

        Args:
            values: of this rank's rows, shape ``(n,)``, on the CPU.

        Returns:
            Those of all ranks, shape ``(N,)``.
        """
        if self.world_size == 1:
            return values
        parts: list[Tensor] = [values] * self.world_size
        distributed.all_gather_object(parts, values)
        joined = values.new_empty(sum(map(len, parts)))
        for rank, part in enumerate(parts):
            joined[rank :: self.world_size] = part
        return joined

    def share(self, value: Any) -> Any:
        """What rank 0 gives, on every rank; anything that can be pickled."""
        if self.world_size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, device=self.device)
        return values[0]


@contextmanager
def ranks(device: torch.device | str | None = None) -> Iterator[Group]:
    """The group of processes that ``torchrun`` started, or this process alone.

    They speak by NCCL on CUDA and by Gloo on the CPU.  Under ``torchrun`` each process takes the GPU of its local rank.

    Args:
        device: ``cpu``, ``cuda`` or, for one process, any; by default CUDA if it is there.

    Yields:
        The group; it is left, and the connections closed, at the end of the block.

    Raises:
        ValueError: the environment names a place but not all of it, the device is not there, or one of several
            processes is given a certain GPU.
    """
    rank, world_size, local_rank = _place(os.environ)
    chosen = _device(device, world_size, local_rank)
    if world_size == 1:
        yield Group(0, 1, chosen)
        return
    on_cuda = chosen.type == "cuda"
    if on_cuda:
        torch.cuda.set_device(chosen)
    distributed.init_process_group(
        "nccl" if on_cuda else "gloo",
        # Each group has its place in the store: a second one would find the first one's addresses, and wait for them.
        store=PrefixStore(f"group{next(_ENTERED)}", _store(rank, world_size)),
        rank=rank,
        world_size=world_size,
        device_id=chosen if on_cuda else None,
    )
    try:
        yield Group(rank, world_size, chosen)
    finally:
        distributed.destroy_process_group()


def part_momentum(momentum: float, part: int, parts: int) -> float:
    """What moves a running average by one of several parts, so that all of them together move it once, by their mean.

    A step on ``parts`` micro-batches updates the running statistics of batch normalisation as often, and with the
    momentum ``m`` they would forget that much faster.  Set to this value for each part, they end at ``(1 - m) * old +
    m * mean(parts)``, where :meth:`Group.average_statistics` ends with as many ranks.

    Args:
        momentum: of a whole step; 0.1 in PyTorch.
        part: number of the micro-batch, from 0.
        parts: how many there are.

    Returns:
        ``(m / parts) / (1 - (parts - 1 - part) * m / parts)``: what is left of a part after those after it, which keep
        ``1 - m / parts`` and so on, is ``m / parts``.
    """
    share = momentum / parts
    return share / (1 - (parts - 1 - part) * share)


@functools.cache
def _store(rank: int, world_size: int) -> Store:
    """Where the processes find each other, at the address in the environment; it lives as long as the process."""
    store: Store = next(rendezvous("env://", rank, world_size))[0]
    return store


def _place(environment: Mapping[str, str]) -> tuple[int, int, int]:
    """Rank, world size and local rank of this process; 0, 1, 0 where nothing is said."""
    if not any(name in environment for name in _PLACE):
        return 0, 1, 0
    missing = [name for name in (*_PLACE, *_MEETING) if name not in environment]
    if missing:
        given = ", ".join(f"{name}={environment[name]}" for name in _PLACE if name in environment)
        raise ValueError(
            f"the environment has {given} but no {', '.join(missing)}; start with torchrun, which sets them all, or "
            "unset them to train in one process"
        )
    values = {name: environment[name] for name in _PLACE}
    if not all(value.isdecimal() for value in values.values()):
        given = ", ".join(f"{name}={value}" for name, value in values.items())
        raise ValueError(f"expected whole numbers in the environment, got {given}; start with torchrun")
    rank, world_size, local_rank = (int(value) for value in values.values())
    if not rank < world_size:
        raise ValueError(f"RANK={rank} is not below WORLD_SIZE={world_size}; ranks count from 0; start with torchrun")
    return rank, world_size, local_rank


def _device(device: torch.device | str | None, world_size: int, local_rank: int) -> torch.device:
    """The device of this process.  Raises ValueError where nothing can be put on it."""
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if chosen.type not in ("cpu", "cuda") and world_size > 1:
            raise RuntimeError("several processes compute on cpu or cuda")
        if chosen.type == "cuda" and world_size > 1:
            if chosen.index is not None:
                raise RuntimeError(f"one GPU for {world_size} processes; give cuda, and each takes its own")
            if local_rank >= torch.cuda.device_count():
                raise RuntimeError(
                    f"local rank {local_rank}, but {torch.cuda.device_count()} GPUs; start as many processes on a "
                    "machine as it has GPUs"
                )
        if chosen.type == "cuda" and chosen.index is None:
            chosen = torch.device("cuda", local_rank)
        torch.empty(1, device=chosen).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"cannot use device {str(device)!r}; give cpu, or cuda on a GPU ({reason})") from None
    return chosen
