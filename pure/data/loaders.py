"""Batches for training and evaluation, made on the device or by worker processes.

The *device* loader keeps the whole set on the device as uint8 and augments, shuffles and normalizes there, whole
batches at once.  The *workers* loader is for what does not fit, or has no common shape: processes read and augment
single images, and the device only normalizes.  What is drawn depends on seed, epoch and place alone, so a training can
go on at any batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pure.data.augment import Augmentation, parse
from pure.data.images import Images, ImageSet, name_of, read, rows_in_chunks
from pure.data.machine import memory, processors
from pure.data.masks import augment_masks
from pure.signals import ignore_signals

__all__ = ["DeviceLoader", "Loader", "WorkerLoader", "choose_kind", "make_loader"]

Kind = Literal["device", "workers"]

_ORDER, _BATCH, _IMAGE = range(3)
"""Streams of random numbers: what is drawn for one purpose tells nothing about another."""

_MAX_WORKERS = 8
_READ_AT_ONCE = 256
_MAKE_ALIKE = "an augmentation that makes images alike, as resize(256)+center-crop(224)"

_FAULTS = (OSError, ValueError, RuntimeError, SyntaxError, EOFError)
"""What decoders raise where a file is damaged (SyntaxError is Pillow's for PNG).  Others are faults of the code."""


def make_loader(
    images: Images,
    statistics: tuple[Tensor, Tensor],
    batch_size: int,
    device: torch.device | str,
    *,
    augmentation: str = "none",
    shuffle: bool = False,
    seed: int = 0,
    kind: Literal["auto", "device", "workers"] = "auto",
    workers: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    micro_batches: int = 1,
) -> Loader:
    """A loader of normalized batches.

    Random numbers are counter-based.  The order of an epoch depends on ``(seed, epoch)`` only; the augmentation of a
    batch depends on ``(seed, epoch, batch)`` on the device, that of an image on ``(seed, epoch, row)`` in workers.  So
    the number of workers changes nothing, and a checkpoint holds no state of a sampler.  The numbers are drawn on the
    CPU, and are the same whatever the device.

    With ``W`` ranks and ``M`` micro-batches, each batch is cut into ``W * M`` contiguous parts of nearly equal size,
    and rank ``r`` gets part ``m * W + r`` as its micro-batch ``m``: one process with two micro-batches sees exactly
    what two ranks see.  An evaluation (``shuffle=False``) gives rank ``r`` the rows ``r, r + W, r + 2W, ...``, each row
    once.

    Args:
        images: the set.
        statistics: mean and standard deviation of each channel in grey levels, shape ``(C,)`` each; a constant channel
            is only centred.
        batch_size: images in a step, over all ranks and micro-batches.
        device: where the batches are wanted.
        augmentation: as :func:`pure.data.augment.parse` reads it.
        shuffle: a new order in each epoch, for training; otherwise the order of the set.
        seed: fixes order and augmentation.
        kind: ``"device"``, ``"workers"``, or ``"auto"``: see :func:`choose_kind`.
        workers: processes that read images; by default one for each processor core of a rank, at most 8.  0 reads in
            this process.
        rank: number of this process, from 0.
        world_size: number of processes.
        micro_batches: number of parts of its share of a batch that a rank computes in turn.

    Raises:
        ValueError: an empty set; a batch that ranks and micro-batches do not divide; statistics of another number of
            channels; images without a common shape on the device; an augmentation that is unknown, or needs larger
            images.
    """
    parsed = parse(augmentation)
    if images.shape is not None:
        parsed.shape(images.shape)  # raises where the images are too small
    device = torch.device(device)
    plan = _Plan(len(images), batch_size, shuffle, seed, rank, world_size, micro_batches)
    if kind == "auto":
        kind = choose_kind(images, device)
    if kind == "device":
        return DeviceLoader(images, statistics, device, parsed, plan, _worker_count(workers, world_size))
    if kind == "workers":
        return WorkerLoader(images, statistics, device, parsed, plan, _worker_count(workers, world_size))
    raise ValueError(f"unknown kind of loader {kind!r}; known are auto, device, workers")


def choose_kind(images: Images, device: torch.device) -> Kind:
    """Where a set is best kept.

    On the device, if its images have one shape and it fits: on CUDA into half of the memory that is free now, on a CPU
    into a quarter of the memory, or it is in memory already.
    """
    if images.shape is None:
        return "workers"
    if isinstance(images, ImageSet):
        size = images.images.nbytes
        if device.type == "cpu":
            return "device"
    else:
        size = len(images) * int(np.prod(images.shape))
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return "device" if size <= free // 2 else "workers"
    return "device" if size <= (memory() or 0) // 4 else "workers"


class _Part(NamedTuple):
    """A micro-batch of this rank."""

    batch: int
    """Number of the batch in the epoch."""
    rows: slice
    """Where the whole batch lies in the order of the epoch."""
    share: slice
    """Where the micro-batch lies in the batch."""


class _Plan:
    """Which images are in which micro-batch of which rank."""

    def __init__(
        self,
        images: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        rank: int,
        world_size: int,
        micro_batches: int,
    ) -> None:
        if images == 0 or batch_size < 1:
            raise ValueError(f"expected images and a batch size of at least 1, got {images} and {batch_size}")
        if not 0 <= rank < world_size:
            raise ValueError(f"expected a rank from 0 to world_size - 1, got rank {rank} of {world_size}")
        self.parts = world_size * micro_batches
        if micro_batches < 1 or batch_size % self.parts:
            raise ValueError(
                f"batch size {batch_size} is not divided by {world_size} ranks x {micro_batches} micro-batches; take a "
                f"multiple of {max(1, self.parts)}"
            )
        full, rest = divmod(images, batch_size)
        self.batches = full + (rest > 0)
        if shuffle and 0 < rest < self.parts:
            raise ValueError(
                f"the last batch of {rest} of {images} images cannot be cut into {self.parts} parts ({world_size} "
                f"ranks x {micro_batches} micro-batches); take another batch size than {batch_size}, or fewer parts"
            )
        self.images, self.batch_size, self.shuffle, self.seed = images, batch_size, shuffle, seed
        self.rank, self.world_size, self.micro_batches = rank, world_size, micro_batches
        self.epoch = self.first_batch = 0
        self._next = (0, 0)

    def set_epoch(self, epoch: int, first_batch: int) -> None:
        if epoch < 0 or not 0 <= first_batch <= self.batches:
            raise ValueError(
                f"expected an epoch from 0 and a first batch from 0 to {self.batches}, got {epoch} and {first_batch}"
            )
        self._next = (epoch, first_batch)

    def begin(self) -> None:
        """Begin the epoch that was chosen, or the one after the last that was begun."""
        self.epoch, self.first_batch = self._next
        self._next = (self.epoch + 1, 0)

    def order(self) -> Tensor:
        """Rows of the set in the order of this epoch, ``(N,)``, int64, on the CPU."""
        if not self.shuffle:
            return torch.arange(self.images)
        return torch.randperm(self.images, generator=_generator(_ORDER, self.seed, self.epoch))

    def rows(self, batch: int) -> slice:
        """Where a batch lies in the order."""
        start = batch * self.batch_size
        return slice(start, min(start + self.batch_size, self.images))

    def __len__(self) -> int:
        if self.shuffle:
            return self.batches * self.micro_batches
        own = len(range(self.rank, self.rows(self.batches - 1).stop, self.world_size))
        return math.ceil(own / (self.batch_size // self.parts))

    def __iter__(self) -> Iterator[_Part]:
        for batch in range(self.first_batch, self.batches):
            rows = self.rows(batch)
            size = rows.stop - rows.start
            for micro in range(self.micro_batches):
                if self.shuffle:
                    part = micro * self.world_size + self.rank
                    share = slice(part * size // self.parts, (part + 1) * size // self.parts)
                else:
                    step = self.batch_size // self.micro_batches
                    share = slice(micro * step + self.rank, min((micro + 1) * step, size), self.world_size)
                if share.start < share.stop:
                    yield _Part(batch, rows, share)


class Loader(ABC):
    """Iterates over the micro-batches of an epoch: images ``(b, C, H, W)``, float32, normalized, and labels ``(b,)``.

    Masks, ``(b, H, W)``, stand in place of labels where the set has them, and are augmented as the images are.

    Each iteration is the next epoch, from 0 on, in another order if it shuffles; :meth:`set_epoch` chooses one.
    Made by :func:`make_loader`.

    Attributes:
        kind: ``"device"`` or ``"workers"``.
        batches: batches in an epoch, over all ranks.
    """

    kind: ClassVar[Kind]

    def __init__(
        self, statistics: tuple[Tensor, Tensor], channels: int | None, device: torch.device, plan: _Plan
    ) -> None:
        mean, std = statistics
        if mean.shape != std.shape or mean.ndim != 1 or channels not in (None, len(mean)):
            raise ValueError(
                f"expected mean and deviation of {channels or 'all'} channels, got {tuple(mean.shape)} and "
                f"{tuple(std.shape)}"
            )
        self.device = device
        self.mean = mean.to(device).view(1, -1, 1, 1)
        self.std = torch.where(std > 0, std, 1.0).to(device).view(1, -1, 1, 1)
        self.batches = plan.batches
        self._plan = plan

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch of the next iteration, and the batch to begin it with; later iterations go on from there.

        Args:
            epoch: from 0.
            first_batch: batches, over all ranks, that are left out.
        """
        self._plan.set_epoch(epoch, first_batch)

    def batch_length(self, batch: int) -> int:
        """Number of images in a batch over all ranks and micro-batches, by which a mean over the batch divides."""
        return len(range(self._plan.images)[self._plan.rows(batch)])

    def __len__(self) -> int:
        """Micro-batches of this rank in a whole epoch."""
        return len(self._plan)

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def _normalize(self, images: Tensor) -> Tensor:
        return images.to(torch.float32, copy=True).sub_(self.mean).div_(self.std)


class DeviceLoader(Loader):
    """Keeps the whole set on the device, as uint8 unless it is float32, and makes the batches there."""

    kind = "device"

    def __init__(
        self,
        images: Images,
        statistics: tuple[Tensor, Tensor],
        device: torch.device,
        augmentation: Augmentation,
        plan: _Plan,
        workers: int = 0,
    ) -> None:
        if images.shape is None:
            raise ValueError(
                "the images have no common shape and cannot be kept on the device; take kind='workers' and "
                f"{_MAKE_ALIKE}"
            )
        super().__init__(statistics, images.shape[0], device, plan)
        self.augmentation = augmentation
        self.images = (images.images if isinstance(images, ImageSet) else _read_all(images, workers)).to(device)
        self.labels = images.labels.to(device)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        plan = self._plan
        plan.begin()
        channels, height, width = self.images.shape[1:]
        order = plan.order().to(self.device) if plan.shuffle else None
        seed, epoch = plan.seed, plan.epoch
        drawn, parameters = -1, tuple[Tensor, ...]()
        for batch, rows, share in plan:
            if order is None:
                images, labels = self.images[rows][share], self.labels[rows][share]
            else:
                chosen = order[rows][share]
                images, labels = self.images.index_select(0, chosen), self.labels.index_select(0, chosen)
            if self.augmentation.steps:
                if batch != drawn:
                    generator = _generator(_BATCH, seed, epoch, batch)
                    parameters = self.augmentation.draw(rows.stop - rows.start, (channels, height, width), generator)
                    drawn = batch
                shared = tuple(values[share] for values in parameters)
                images = self.augmentation.apply(images, shared)
                if labels.ndim == 3:
                    labels = augment_masks(self.augmentation, labels, shared)
            yield self._normalize(images), labels


class WorkerLoader(Loader):
    """Reads and augments the images in worker processes, which stay until the loader is gone."""

    kind = "workers"

    def __init__(
        self,
        images: Images,
        statistics: tuple[Tensor, Tensor],
        device: torch.device,
        augmentation: Augmentation,
        plan: _Plan,
        workers: int,
    ) -> None:
        super().__init__(statistics, None if images.shape is None else images.shape[0], device, plan)
        self.workers = workers
        self._batches = _Batches(images, augmentation, plan.seed)
        self._loader = self._make_loader()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self._plan.begin()
        try:
            for batch in self._loader:
                images, labels = _or_raise(batch)
                images = images.to(self.device, non_blocking=True)
                yield self._normalize(images), labels.to(self.device, non_blocking=True)
        except Exception:
            self._loader = self._make_loader()  # ends the workers now, not when the traceback is forgotten
            raise

    def _make_loader(self) -> DataLoader[tuple[Tensor, Tensor] | str]:
        """Workers start when it is first iterated over."""
        return DataLoader(
            self._batches,
            batch_size=None,  # the sampler gives whole micro-batches
            sampler=_Requests(self._plan),
            num_workers=self.workers,
            worker_init_fn=ignore_signals,
            persistent_workers=self.workers > 0,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # otherwise it draws from torch's own, which initialises networks
        )


class _Requests(Sampler[tuple[int, Tensor]]):
    """Tells the workers what to read: the epoch and the rows of each micro-batch."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        order, epoch = self.plan.order(), self.plan.epoch
        for _, rows, share in self.plan:
            yield epoch, order[rows][share]


class _Batches(Dataset[tuple[Tensor, Tensor] | str]):
    """What a worker does: read the images of a micro-batch, augment each, and stack them.

    What is wrong with an image comes back as a text, which :func:`_or_raise` raises in the main process: an exception
    would arrive there with the worker's traceback for a message.
    """

    def __init__(self, images: Images, augmentation: Augmentation, seed: int) -> None:
        self.images = images
        self.augmentation = augmentation
        self.transform = augmentation.transform() if augmentation.steps else None
        self.seed = seed
        self.at_once = hasattr(images, "read") and images.shape is not None

    def __getitem__(self, request: tuple[int, Tensor]) -> tuple[Tensor, Tensor] | str:
        epoch, rows = request
        labels = self.images.labels[rows]
        try:
            loaded = read(self.images, rows) if self.at_once else None
        except _FAULTS as error:
            return str(error)
        if loaded is not None and self.transform is None:
            return loaded, labels
        images: list[Tensor] = []
        masks: list[Tensor] = []
        with _drawing_restored():
            for place, row in enumerate(rows.tolist()):
                try:
                    image = self.images[row][0] if loaded is None else loaded[place]
                    images.append(self._augmented(image, epoch, row))
                    if labels.ndim == 3:
                        masks.append(self._augmented_mask(labels[place], epoch, row))
                except _FAULTS as error:
                    return _named(name_of(self.images, row), str(error))
                shape, others = images[-1].shape, images[0].shape
                if shape != others:
                    problem = (
                        f"it has shape {tuple(shape)}, others in its batch have {tuple(others)}; add {_MAKE_ALIKE}"
                    )
                    return _named(name_of(self.images, row), problem)
        return torch.stack(images), torch.stack(masks) if masks else labels

    def _augmented(self, image: Tensor, epoch: int, row: int) -> Tensor:
        if self.transform is None:
            return image
        torch.default_generator.manual_seed(_counter(_IMAGE, self.seed, epoch, row))
        return self.transform(image)

    def _augmented_mask(self, mask: Tensor, epoch: int, row: int) -> Tensor:
        """The mask ``(H, W)`` of an image, moved by the numbers that the image had."""
        if self.transform is None:
            return mask
        torch.default_generator.manual_seed(_counter(_IMAGE, self.seed, epoch, row))
        drawn = self.augmentation.draw(1, (1, *mask.shape), torch.default_generator)
        return augment_masks(self.augmentation, mask[None], drawn)[0]


@contextmanager
def _drawing_restored() -> Iterator[None]:
    """Leaves torch's default generator as it was: without workers, it is that of the process that trains."""
    state = torch.default_generator.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def _named(name: str, problem: str) -> str:
    return problem if name in problem else f"{name} cannot be used: {problem}"


def _or_raise(batch: tuple[Tensor, Tensor] | str) -> tuple[Tensor, Tensor]:
    if isinstance(batch, str):
        raise ValueError(batch)
    return batch


def _read_all(images: Images, workers: int) -> Tensor:
    """All images in one tensor ``(N, C, H, W)``, uint8, on the CPU; many are read by workers."""
    requests = [(0, rows) for rows in rows_in_chunks(images, _READ_AT_ONCE)]
    loader: DataLoader[Any] = DataLoader(
        _Batches(images, parse("none"), 0),
        batch_size=None,
        sampler=requests,
        num_workers=min(workers, len(requests) // 2),
        worker_init_fn=ignore_signals,
        generator=torch.Generator(),
    )
    result = None
    for (_, rows), batch in zip(requests, loader, strict=True):
        pixels, _ = _or_raise(batch)
        if result is None:
            result = torch.empty(len(images), *pixels.shape[1:], dtype=pixels.dtype)
        result[rows[0] : rows[-1] + 1] = pixels
    assert result is not None  # an empty set was refused
    return result


def _generator(stream: int, *counters: int) -> torch.Generator:
    """A generator on the CPU that depends on nothing but the numbers."""
    return torch.Generator().manual_seed(_counter(stream, *counters))


def _counter(stream: int, *counters: int) -> int:
    """A well mixed 63-bit number for a tuple of numbers; NumPy keeps this hash the same in all versions."""
    return int(np.random.SeedSequence((stream, *counters)).generate_state(1, np.uint64)[0] >> 1)


def _worker_count(workers: int | None, world_size: int) -> int:
    if workers is None:
        return min(_MAX_WORKERS, max(1, processors() // world_size))
    if workers < 0:
        raise ValueError(f"expected a number of workers from 0, got {workers}")
    return workers
