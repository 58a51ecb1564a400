"""Labelled images: in memory, read on demand, joined, or a part of a set."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

__all__ = [
    "ImageSet",
    "Images",
    "Joined",
    "Subset",
    "name_of",
    "read",
    "rows_in_chunks",
    "select",
    "sha256_of",
    "square",
]

_CHUNK_BYTES = 64 * 2**20


@runtime_checkable
class Images(Protocol):
    """Labelled images that are in memory or are read on demand: a map-style data set of PyTorch.

    It can be pickled and is safe to be read in the worker processes of a ``DataLoader``.  Two methods are optional:
    ``read(rows) -> Tensor`` gives many images ``(n, C, H, W)`` at once, for those that have one shape, and
    ``name(row) -> str`` tells what an image is called in an error, such as its file.
    """

    @property
    def labels(self) -> Tensor:
        """Shape ``(N,)``, int64, from 0 to the number of classes less one; or masks ``(N, H, W)``, uint8."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 that proves the content."""
        ...

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """``(C, H, W)`` if all images have the same, else None."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...


def read(images: Images, rows: Tensor) -> Tensor:
    """Many images at once, ``(n, C, H, W)``: by the set's own ``read`` if it has one, else one by one.

    Args:
        images: a set whose images have one shape.
        rows: shape ``(n,)``, int64, in any order.
    """
    at_once = getattr(images, "read", None)
    return at_once(rows) if at_once is not None else torch.stack([images[row][0] for row in rows.tolist()])


def rows_in_chunks(images: Images, most: int | None = None) -> list[Tensor]:
    """All rows in their order, cut so that the images of a piece take about 64 MB, whatever the size of the set.

    Args:
        images: a set whose images have one shape.
        most: images in a piece, at most.
    """
    assert images.shape is not None
    step = max(1, _CHUNK_BYTES // max(1, math.prod(images.shape)))
    return list(torch.arange(len(images)).split(step if most is None else min(step, most)))


def square(image: Tensor, side: int) -> Tensor:
    """The centre ``(..., C, side, side)`` of an image whose shorter side was brought to ``side``, antialiased."""
    scaled: Tensor = transforms.center_crop(transforms.resize(image, [side], antialias=True), [side, side])
    return scaled


def name_of(images: Images, row: int) -> str:
    """What an image is called in an error: its file if the set knows it, else its row."""
    name = getattr(images, "name", None)
    return name(row) if name is not None else f"image {row}"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory.

    Attributes:
        images: shape ``(N, C, H, W)``, uint8; float32 where grey levels are not whole numbers, as under noise.
        labels: shape ``(N,)``, int64; or masks, the class of each pixel, shape ``(N, H, W)``, uint8.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype not in (torch.uint8, torch.float32):
            raise ValueError(
                f"expected images (N, C, H, W), uint8 or float32, got {tuple(self.images.shape)} {self.images.dtype}"
            )
        number, _, height, width = self.images.shape
        known = {((number,), torch.int64), ((number, height, width), torch.uint8)}
        if (tuple(self.labels.shape), self.labels.dtype) not in known:
            raise ValueError(
                f"expected labels ({number},), int64, or masks ({number}, {height}, {width}), uint8, got "
                f"{tuple(self.labels.shape)} {self.labels.dtype}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every pixel and label."""
        digest = hashlib.sha256()
        self.add_to(digest)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        label = self.labels[index]
        return self.images[index], label if label.ndim else int(label)

    def read(self, rows: Tensor) -> Tensor:
        """The images of these rows, ``(n, C, H, W)``."""
        return self.images[rows]

    def add_to(self, digest: hashlib._Hash) -> None:
        """Take every pixel and label into a hash."""
        for tensor in (self.images, self.labels):
            array = np.ascontiguousarray(tensor.numpy(force=True))
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(array.data)


class Joined:
    """Several sets of images one after the other, such as the originals and their augmented copies.

    Args:
        parts: at least one set.
    """

    def __init__(self, *parts: Images) -> None:
        if not parts:
            raise ValueError("expected at least one set of images to join, got none")
        self.parts = parts
        self.labels = torch.cat([part.labels for part in parts])
        shapes = {part.shape for part in parts}
        self.shape = shapes.pop() if len(shapes) == 1 else None
        self._ends = np.cumsum([len(part) for part in parts])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the digests of the parts, in their order."""
        return sha256_of(part.digest for part in self.parts)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        part, row = self._locate(index)
        return part[row]

    def read(self, rows: Tensor) -> Tensor:
        """The images of these rows, ``(n, C, H, W)``: one read for each part."""
        numbers = np.searchsorted(self._ends, rows.numpy(), side="right")
        pieces: list[tuple[Tensor, Tensor]] = []
        for number in np.unique(numbers):
            places = torch.from_numpy(np.flatnonzero(numbers == number))
            pieces.append((places, read(self.parts[number], rows[places] - self._start(number))))
        result = torch.empty(len(rows), *pieces[0][1].shape[1:], dtype=pieces[0][1].dtype)
        for places, images in pieces:
            result[places] = images
        return result

    def name(self, row: int) -> str:
        """What the image is called in its own part."""
        return name_of(*self._locate(row))

    def _start(self, number: int) -> int:
        return int(self._ends[number]) - len(self.parts[number])

    def _locate(self, index: int) -> tuple[Images, int]:
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(f"row {index} of {len(self)} images")
        number = int(np.searchsorted(self._ends, row, side="right"))
        return self.parts[number], row - self._start(number)


class Subset:
    """Chosen rows of a set that stays where it is.

    Args:
        images: the set.
        rows: shape ``(n,)``, int64, in the order wanted.
    """

    def __init__(self, images: Images, rows: Tensor) -> None:
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(images):
            raise ValueError(
                f"expected rows from 0 to {len(images) - 1}, got {int(rows.min())} to {int(rows.max())}: "
                "they belong to another set"
            )
        self.images = images
        self.rows = rows
        self.labels = images.labels[rows]
        self.shape = images.shape

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the set's digest and the rows."""
        return sha256_of([self.images.digest, ",".join(map(str, self.rows.tolist()))])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[int(self.rows[index])]

    def read(self, rows: Tensor) -> Tensor:
        """The images of these rows, ``(n, C, H, W)``."""
        return read(self.images, self.rows[rows])

    def name(self, row: int) -> str:
        """What the image is called in the set."""
        return name_of(self.images, int(self.rows[row]))


def select(images: Images, rows: Tensor) -> ImageSet | Subset:
    """Chosen rows of a set: copied if it is in memory, else read on demand."""
    if isinstance(images, ImageSet):
        Subset(images, rows)  # checks the rows
        return ImageSet(images.images[rows], images.labels[rows])
    return Subset(images, rows)


def sha256_of(parts: Iterator[str] | Sequence[str]) -> str:
    """SHA-256 over lines of text."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
