"""What can be done to any data set after it is read: crop, resize, take fewer training images, augment once.

The test set stays whole, and nothing here is drawn again in an epoch.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from pure.data.augment import parse
from pure.data.images import Images, ImageSet, Joined, select, square
from pure.data.machine import processors, require_memory
from pure.data.splits import Splits

__all__ = ["OPTIONS", "augment_once", "per_class_rows", "prepare"]

OPTIONS: Mapping[str, tuple[type[Any], Any]] = {
    "crop": (int | None, None),  # type: ignore[dict-item]
    "size": (int | None, None),  # type: ignore[dict-item]
    "per_class": (int | None, None),  # type: ignore[dict-item]
    "per_class_seed": (int, 0),
    "static_augmentation": (str | None, None),  # type: ignore[dict-item]
    "augmentation_seed": (int, 0),
}
"""The options by name, with type and default.  A data set with an option of the same name keeps its own."""

_READ_AT_ONCE = 64


def prepare(
    splits: Splits,
    *,
    crop: int | None = None,
    size: int | None = None,
    per_class: int | None = None,
    per_class_seed: int = 0,
    static_augmentation: str | None = None,
    augmentation_seed: int = 0,
    cache: str | Path = "cache",
    in_memory: bool = False,
    progress: bool | None = None,
) -> Splits:
    """A data set with fewer training images, smaller images, or each training image once more.

    Args:
        splits: the data set as it was read.
        crop: first the central ``crop x crop`` pixels are cut out of every image.
        size: then the shorter side is brought to ``size`` pixels (bilinear, antialiased) and the central square kept.
            Cropped or resized sets are in memory, and their name ends in the side, as ``-64px``.
        per_class: the most training images of each class that are kept, drawn at random; validation and test set
            stay whole.
        per_class_seed: fixes which.
        static_augmentation: each training image once more, drawn once and kept (section 4.1.2), as
            :func:`pure.data.augment.parse` reads it; None or ``"none"`` adds nothing.
        augmentation_seed: of what is drawn for it.
        cache: folder for the augmented images.
        in_memory: keep the augmented images in memory; those of a set in memory always are.
        progress: whether bars are shown; None shows them on a terminal only.

    Raises:
        ValueError: a set with masks, a number below 1, images smaller than the crop, an unknown augmentation, or a seed
            without anything to draw.
        OSError: the cache cannot be written.
    """
    if splits.train.labels.ndim == 3:
        raise ValueError(
            f"data set {splits.name!r} has masks, which crop, per_class and static_augmentation would leave behind; "
            "take an augmentation of the recipe, which moves them too"
        )
    _require_sense(splits.name, crop, size, per_class, per_class_seed, static_augmentation, augmentation_seed)
    parts, rows = splits.parts, splits.rows
    if per_class is not None:
        chosen = per_class_rows(splits.train.labels, per_class, per_class_seed)
        parts["train"] = select(splits.train, chosen)
        before = rows or {name: torch.arange(len(part)) for name, part in splits.parts.items()}
        rows = {**before, "train": before["train"][chosen]}
    name = splits.name
    if crop is not None or size is not None:
        parts = {part: _cut(images, crop, size) for part, images in parts.items()}
        name = f"{name}-{parts['train'].shape[-1]}px"  # type: ignore[index]
    if parse(static_augmentation or "none").steps:
        assert static_augmentation is not None
        kept = in_memory or isinstance(parts["train"], ImageSet)
        parts["train"] = augment_once(parts["train"], static_augmentation, augmentation_seed, cache, kept, progress)
    return dataclasses.replace(
        splits, name=name, train=parts["train"], validation=parts.get("validation"), test=parts["test"], rows=rows
    )


def augment_once(
    train: Images, augmentation: str, seed: int, cache: str | Path, in_memory: bool, progress: bool | None = None
) -> Joined:
    """The training images, then each of them once more, augmented, in the same order (section 4.1.2).

    Args:
        train: images of one shape.
        augmentation: as :func:`pure.data.augment.parse` reads it.
        seed: of what is drawn.
        cache: folder for the augmented images.
        in_memory: whether their pixels are kept in memory.
        progress: whether bars are shown; None shows them on a terminal only.
    """
    from pure.data.storage.hdf5 import augmented_once  # h5py is loaded only where a file is needed

    augmented = augmented_once(train, augmentation, seed, cache, progress)
    return Joined(train, augmented.in_memory(progress) if in_memory else augmented)


def per_class_rows(labels: Tensor, number: int, seed: int) -> Tensor:
    """Of each class ``number`` rows drawn at random, or all where it has fewer; ascending, int64.

    Args:
        labels: shape ``(N,)``, integer.
        number: rows of each class.
        seed: fixes the choice; the same on every machine.  A larger number keeps the rows of a smaller one.
    """
    generator = np.random.default_rng(seed)
    chosen = [
        generator.permutation(np.flatnonzero(labels.numpy() == label))[:number]
        for label in range(int(labels.max()) + 1)
    ]
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def _cut(images: Images, crop: int | None, size: int | None) -> ImageSet:
    """All images, cropped and resized, in memory."""
    first = _shrunk(images[0][0], crop, size)
    require_memory(len(images), tuple(first.shape))
    pixels = torch.empty((len(images), *first.shape), dtype=first.dtype)

    def load(row: int) -> None:
        pixels[row] = _shrunk(images[row][0], crop, size)

    with ThreadPoolExecutor(processors()) as pool:
        deque(pool.map(load, range(len(images)), chunksize=_READ_AT_ONCE), maxlen=0)  # raises what a thread raised
    return ImageSet(pixels, images.labels)


def _shrunk(image: Tensor, crop: int | None, size: int | None) -> Tensor:
    """The centre of an image ``(C, H, W)``, brought to the size."""
    if crop is not None:
        if min(image.shape[-2:]) < crop:
            raise ValueError(f"an image of {image.shape[-1]} x {image.shape[-2]} pixels is too small for crop={crop}")
        image = transforms.center_crop(image, [crop, crop])
    return image if size is None else square(image, size)


def _require_sense(
    name: str,
    crop: int | None,
    size: int | None,
    per_class: int | None,
    per_class_seed: int,
    static_augmentation: str | None,
    augmentation_seed: int,
) -> None:
    for option, value in (("crop", crop), ("size", size), ("per_class", per_class)):
        if value is not None and value < 1:
            raise ValueError(f"option {option!r} of data set {name!r} expects a number from 1, got {value}")
    if per_class_seed and per_class is None:
        raise ValueError(f"per_class_seed={per_class_seed} draws nothing without per_class")
    if augmentation_seed and static_augmentation in (None, "none"):
        raise ValueError(f"augmentation_seed={augmentation_seed} draws nothing without static_augmentation")
