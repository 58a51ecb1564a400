"""Batches without workers: the set lies on the device as uint8 and is normalised, augmented and shuffled there."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pure.data.splits import ImageSet

__all__ = ["DeviceLoader", "shift"]


class DeviceLoader:
    """Iterates over normalised batches of an image set that is kept on the device.

    Each iteration yields images ``(B, C, H, W)``, float32, and labels ``(B,)``, int64; the last batch may be smaller.

    Args:
        images: the set; moved to the device once, as uint8.
        mean: mean of each channel in grey levels, shape ``(C,)``.
        std: standard deviation of each channel in grey levels, shape ``(C,)``; a constant channel is only centred.
        batch_size: images in a batch.
        device: where the set lies and the batches are made.
        shuffle: the generator that draws a new order for each epoch; None keeps the order of the set.
        max_shift: with a generator, each image is moved by up to so many pixels, its border filled with its edge.

    Raises:
        ValueError: an empty set, or a batch size below one.
    """

    def __init__(
        self,
        images: ImageSet,
        mean: Tensor,
        std: Tensor,
        batch_size: int,
        device: torch.device,
        shuffle: torch.Generator | None = None,
        max_shift: int = 0,
    ) -> None:
        if len(images.labels) == 0 or batch_size < 1:
            raise ValueError(
                f"expected images and a batch size of at least 1, got {len(images.labels)} and {batch_size}"
            )
        self.images = images.images.to(device)
        self.labels = images.labels.to(device)
        self.mean = mean.to(device).view(1, -1, 1, 1)
        self.std = torch.where(std > 0, std, 1.0).to(device).view(1, -1, 1, 1)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.max_shift = max_shift

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n = len(self.labels)
        order = torch.arange(n) if self.shuffle is None else torch.randperm(n, generator=self.shuffle)
        for rows in order.to(self.labels.device).split(self.batch_size):
            images = self.images[rows]
            if self.shuffle is not None and self.max_shift:
                images = shift(images, self.max_shift, self.shuffle)
            yield (images.float() - self.mean) / self.std, self.labels[rows]


def shift(images: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    """Move each image by its own whole number of pixels, at most ``max_shift``, filling the border with its edge.

    Args:
        images: shape ``(N, C, H, W)``, any dtype.
        max_shift: largest distance in pixels, along each axis.
        generator: draws the distances, on the CPU.

    Returns:
        Images of the same shape and dtype.
    """
    n, _, height, width = images.shape
    dy, dx = torch.randint(-max_shift, max_shift + 1, (2, n, 1), generator=generator).to(images.device)
    rows = (torch.arange(height, device=images.device) + dy).clamp(0, height - 1)  # (N, H): where each row comes from
    columns = (torch.arange(width, device=images.device) + dx).clamp(0, width - 1)  # (N, W)
    image = torch.arange(n, device=images.device).view(n, 1, 1)
    # Indexing with a slice between the index tensors puts the channels last.
    return images[image, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)  # (N, H, W, C) to (N, C, H, W)
