"""Images in memory, divided into training, validation and test set, with a fingerprint that proves which."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

__all__ = ["ImageSet", "Splits", "stratified_split"]


class ImageSet(NamedTuple):
    """Images and their classes.

    Attributes:
        images: shape ``(N, C, H, W)``, uint8.
        labels: shape ``(N,)``, int64, from 0 to the number of classes less one.
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Splits:
    """A data set, divided.

    Attributes:
        name: the data set and its variant.
        classes: names of the classes, in the order of the labels.
        train: what the weights are fitted to, and what the statistics for normalisation are computed on.
        validation: what a schedule or a selection may look at.
        test: what is looked at once, at the end.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    validation: ImageSet
    test: ImageSet

    @cached_property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel over the training set, shape ``(C,)`` each, grey levels."""
        pixels = self.train.images.double()
        mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3), correction=0)
        return mean.float(), std.float()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every pixel and label of the three sets, in their order; the same hash means the same split."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for tensor in split:
                array = np.ascontiguousarray(tensor.numpy())
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(array.tobytes())
        return digest.hexdigest()


def stratified_split(labels: Tensor, fractions: tuple[float, float, float], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Divide the rows so that every class keeps its share in each part.

    Args:
        labels: shape ``(N,)``, integer.
        fractions: shares of training, validation and test set; they add up to one.
        seed: fixes the division; the same on every machine.

    Returns:
        Row numbers of the three parts, ascending, int64; together every row once.

    Raises:
        ValueError: the fractions are not three positive shares of one, or a class is too small to be divided.
    """
    if len(fractions) != 3 or not (min(fractions) > 0 and abs(sum(fractions) - 1) < 1e-9):  # NaN fails both
        raise ValueError(f"expected three positive fractions that add up to 1, got {fractions}")
    rows = np.arange(len(labels))
    _, validation, test = fractions
    strata = labels.numpy()
    train_rows, rest = train_test_split(rows, test_size=validation + test, stratify=strata, random_state=seed)
    validation_rows, test_rows = train_test_split(
        rest, test_size=test / (validation + test), stratify=strata[rest], random_state=seed
    )
    train, held_out, final = (torch.from_numpy(np.sort(part)) for part in (train_rows, validation_rows, test_rows))
    return train, held_out, final
