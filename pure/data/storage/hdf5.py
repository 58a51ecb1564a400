"""Images in an HDF5 file, read on demand, and the cache of images that are augmented once and kept.

The layout is Galaxy10's: ``images`` ``(N, H, W, C)`` uint8 and ``ans`` ``(N,)``, the labels.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import inspect
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from pure.data import augment
from pure.data.images import Images, read
from pure.data.storage.download import locked, require_space, unwritable

__all__ = ["HDF5Images", "augmented_once", "stored_by_image"]

_SLAB = 1 << 24  # bytes read from the file at a time
_CHUNK = 64  # images augmented at a time: part of what is drawn, and so of the settings of a cache
_FORMAT = 1  # of the cache


class HDF5Images:
    """The labelled images of an HDF5 file, read on demand: safe in forked and spawned workers.

    Every process opens the file for itself, at its first image; a pickle holds the path only.

    Args:
        path: the file.
        labels: the label of each of its images, shape ``(N,)``, int64.
        digest: proves the content of the file.

    Attributes:
        path, labels, digest: as given.
        shape: ``(C, H, W)`` of each image.
        rows_at_once: number of images that are best read together: none is unpacked twice.
    """

    def __init__(self, path: str | Path, labels: Tensor, digest: str) -> None:
        self.path = Path(path)
        self.labels = labels
        self.digest = digest
        self._opened: tuple[int, h5py.Dataset] | None = None  # the process that opened the file, and its images
        self._pixels: Tensor | None = None  # (N, C, H, W), if they are kept in memory
        height, width, channels = self._images.shape[1:]
        self.shape: tuple[int, int, int] = (channels, height, width)
        self._step = (self._images.chunks or (1,))[0]  # images that are stored and unpacked together
        self.rows_at_once = max(1, _SLAB // (height * width * channels * self._step)) * self._step

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image ``(C, H, W)``, uint8, and its label."""
        label = int(self.labels[index])  # an index beyond the end is an IndexError here
        return self.read(torch.tensor([index % len(self)]))[0], label

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    @property
    def by_image(self) -> bool:
        """Whether one image can be read without unpacking others, which shuffled reading needs."""
        return self._pixels is not None or self._step == 1

    def name(self, row: int) -> str:
        """What an image is called in an error."""
        return f"image {row} of {self.path}"

    def read(self, rows: Tensor) -> Tensor:
        """Many images at once; the file is read in runs of neighbouring rows, in its own order.

        Args:
            rows: shape ``(n,)``, int64, in any order, repeated or not.

        Returns:
            Shape ``(n, C, H, W)``, uint8, in the order of ``rows``.
        """
        if self._pixels is not None:
            return self._pixels[rows]
        channels, height, width = self.shape
        images = torch.empty((len(rows), channels, height, width), dtype=torch.uint8)
        order = rows.argsort()
        ordered = rows[order].numpy()
        runs = list(self._runs(ordered))
        longest = max((ordered[last - 1] - ordered[first] + 1 for first, last in runs), default=0)
        buffer = torch.empty((longest, height, width, channels), dtype=torch.uint8)  # one for all: fresh memory is slow
        for first, last in runs:
            start = int(ordered[first])
            self._read_run(buffer.numpy(), start, int(ordered[last - 1]) + 1)
            for place, row in zip(order[first:last].tolist(), ordered[first:last].tolist(), strict=True):
                images[place].copy_(buffer[row - start].permute(2, 0, 1))
        return images

    def in_memory(self, progress: bool | None = None) -> HDF5Images:
        """The same images, their pixels kept in memory; the digest stays.

        Args:
            progress: whether a bar is shown; None shows it on a terminal only.
        """
        if self._pixels is not None:
            return self
        pixels = torch.empty((len(self), *self.shape), dtype=torch.uint8)
        for rows in _progress(torch.arange(len(self)).split(self.rows_at_once), f"reading {self.path.name}", progress):
            pixels[rows] = self.read(rows)
        loaded = copy.copy(self)
        loaded._pixels, loaded._opened = pixels, None
        return loaded

    @property
    def _images(self) -> h5py.Dataset:
        """The images in the file, which this process opens if it has not yet."""
        if self._opened is None or self._opened[0] != os.getpid():
            # Best effort: some network file systems have no locks, and nothing writes to a finished file.
            self._opened = (os.getpid(), h5py.File(self.path, "r", locking="best-effort")["images"])
        return self._opened[1]

    def _runs(self, ordered: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Where to cut ascending rows so that each piece lies in neighbouring chunks and is no longer than a slab."""
        chunk, slab = ordered // self._step, ordered // self.rows_at_once
        cuts = np.flatnonzero((np.diff(chunk) > 1) | (np.diff(slab) > 0)) + 1
        edges = [0, *cuts.tolist(), len(ordered)]
        return ((first, last) for first, last in itertools.pairwise(edges) if first < last)

    def _read_run(self, buffer: NDArray[np.uint8], start: int, stop: int) -> None:
        """Read neighbouring images into the beginning of the buffer."""
        try:
            self._images.read_direct(buffer, np.s_[start:stop], np.s_[: stop - start])
        except OSError as error:
            raise ValueError(
                f"cannot read images {start} to {stop - 1} of {self.path} ({error}): it is damaged, or its disk is; "
                "restore it from a copy, or make or download it again"
            ) from error


def augmented_once(
    images: Images, augmentation: str, seed: int, folder: str | Path, progress: bool | None = None
) -> HDF5Images:
    """Each image once more, augmented: drawn once, written to a file, and read from there afterwards (section 4.1.2).

    The file's name and its attributes hold the fingerprint of all that it depends on: the images, the augmentation,
    the seed, the code that augments and the version of PyTorch that draws.  Another setting is another file; one that
    is damaged is made again.

    Args:
        images: what is augmented.
        augmentation: as :func:`pure.data.augment.parse` reads it.
        seed: of what is drawn.
        folder: where the file lies; made if need be.  Its files can be deleted at any time.
        progress: whether a bar is shown; None shows it on a terminal only.

    Returns:
        As many images, in the order and with the labels of those given; the digest is that of the pixels.

    Raises:
        ValueError: the augmentation is unknown, or the images are too small for it or of different shapes.
        OSError: the folder cannot be written to, or the disk is full.
    """
    drawn, original = augment.parse(augmentation), images.shape
    if original is None:
        raise ValueError("the images have no common shape and cannot be kept in one array")

    def apply(chunk: Tensor, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(_chunk_seed(seed, number))
        return drawn.apply(chunk, drawn.draw(len(chunk), original, generator))

    settings = {
        "images": images.digest,
        "augmentation": augmentation,
        "seed": seed,
        "code": hashlib.sha256(inspect.getsource(augment).encode()).hexdigest(),
        "torch": torch.__version__.partition("+")[0],
    }
    return _cached(images, apply, drawn.shape(original), _CHUNK, settings, Path(folder), "augmented", progress)


def stored_by_image(images: HDF5Images, folder: str | Path, progress: bool | None = None) -> HDF5Images:
    """The same images from a copy that is not packed, if one image of theirs cannot be read without unpacking others.

    Shuffled reading from a file that packs hundreds of images together would unpack it hundreds of times.

    Args:
        images: those of a file.
        folder: where the copy lies; made if need be.  It can be deleted at any time.
        progress: whether a bar is shown; None shows it on a terminal only.

    Returns:
        The images given, or those of the copy; the digest is the same.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    if images.by_image:
        return images
    settings = {"images": images.digest, "augmentation": "none"}
    copied = _cached(
        images, lambda chunk, _: chunk, images.shape, images.rows_at_once, settings, Path(folder), "unpacked", progress
    )
    copied.digest = images.digest
    return copied


def _cached(
    images: Images,
    function: Callable[[Tensor, int], Tensor],
    shape: tuple[int, int, int],
    rows_at_once: int,
    settings: dict[str, Any],
    folder: Path,
    name: str,
    progress: bool | None,
) -> HDF5Images:
    """The file that the settings ask for; made, if it is not there, by a function of each chunk and its number."""
    fingerprint = json.dumps({"format": _FORMAT, **settings}, sort_keys=True)
    path = folder / f"{name}-{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}.h5"
    found = _finished(path, fingerprint, images.labels)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    with locked(path):
        found = _finished(path, fingerprint, images.labels)  # another process may have been quicker
        if found is None:
            part = path.with_name(path.name + ".part")
            try:
                _write(part, images, function, shape, rows_at_once, fingerprint, f"{name} images", progress)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            found = _finished(path, fingerprint, images.labels)
    if found is None:
        raise OSError(f"{path} was written and cannot be read again: check the disk, or choose another folder")
    return found


def _finished(path: Path, fingerprint: str, labels: Tensor) -> HDF5Images | None:
    """The images of a cache; None if there is none, or one of other settings, or a damaged one."""
    if not path.exists():
        return None
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            same = file.attrs["fingerprint"] == fingerprint and np.array_equal(file["ans"][:], labels.numpy())
            digest = str(file.attrs["digest"])
        return HDF5Images(path, labels, digest) if same else None
    except (OSError, KeyError):
        return None


def _write(
    part: Path,
    images: Images,
    function: Callable[[Tensor, int], Tensor],
    shape: tuple[int, int, int],
    rows_at_once: int,
    fingerprint: str,
    what: str,
    progress: bool | None,
) -> None:
    """Write the function of the images, not packed, and what proves it."""
    channels, height, width = shape
    require_space(part.parent, len(images) * channels * height * width, f"the cache of {what}")
    digest = hashlib.sha256(images.labels.numpy().tobytes())
    try:
        with h5py.File(part, "w") as file:
            stored = file.create_dataset("images", (len(images), height, width, channels), np.uint8)
            chunks = torch.arange(len(images)).split(rows_at_once)
            for number, rows in enumerate(_progress(chunks, f"writing {what}", progress)):
                pixels = function(read(images, rows), number).permute(0, 2, 3, 1).contiguous().numpy()
                stored[int(rows[0]) : int(rows[-1]) + 1] = pixels
                digest.update(pixels.data)
            file["ans"] = images.labels.numpy().astype(np.uint8)
            file.attrs["fingerprint"], file.attrs["digest"] = fingerprint, digest.hexdigest()
        with open(part, "rb") as written:
            os.fsync(written.fileno())
    except (OSError, RuntimeError) as error:  # what HDF5 raises when it closes a file is a RuntimeError
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise OSError(
            errno.ENOSPC,
            f"the disk is full: the cache of {what} did not fit into {part.parent} and was removed; free as much as it "
            f"needs, {len(images) * channels * height * width:,} bytes, or choose another folder (cache=)",
        ) from error


def _chunk_seed(seed: int, number: int) -> int:
    """A different seed for each chunk; NumPy keeps this hash the same in all versions."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1)


def _progress(chunks: Sequence[Tensor], description: str, progress: bool | None) -> Iterator[Tensor]:
    """The chunks, under a bar that counts images."""
    disable = None if progress is None else not progress
    with tqdm(total=sum(map(len, chunks)), desc=description, unit="image", disable=disable) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))
