"""Data sets that come divided into training and test set, and that torchvision downloads."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import torch

from pure.data.images import ImageSet
from pure.data.splits import Splits, holdout
from pure.data.storage.download import disk_full, unwritable
from pure.data.storage.root import unreachable

__all__ = ["get", "hold_out"]


def get(title: str, download: Callable[[], object], source: str, target: Path, size: int) -> Path:
    """Let torchvision download a data set.

    Args:
        title: the data set, as people know it.
        download: calls torchvision; complete files are kept.
        source: the address, for an error.
        target: the folder where the files will lie.
        size: bytes that the files take at least, packed and unpacked.

    Returns:
        The target.

    Raises:
        ConnectionError: the server cannot be reached, breaks off, or sends another file.
        OSError: the folder cannot be written to, or the disk is full.
    """
    try:
        download()
    except (RuntimeError, URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
        raise unreachable(title, source, target, error) from error
    except OSError as error:
        if disk_full(error):
            raise OSError(
                error.errno,
                f"the disk is full: {title} takes at least {size:,} bytes in {target}; free as much, or choose another "
                "folder (--data), and run it again: incomplete files are downloaded again",
            ) from error
        raise unwritable(target, error) from error
    return target


def hold_out(
    name: str, classes: tuple[str, ...], train: ImageSet, test: ImageSet, number: int, split_seed: int
) -> Splits:
    """The official division, with some training images held out as validation set, stratified.

    Args:
        name: of the data set and its variant.
        classes: names of the classes.
        train: the official training set.
        test: the official test set.
        number: images to hold out; 0 holds out none, and there is no validation set.
        split_seed: fixes which.

    Raises:
        ValueError: more are held out than there are, or a seed is given where nothing is held out.
    """
    if number == 0:
        if split_seed != 0:
            raise ValueError(f"split_seed={split_seed} divides nothing: holdout=0 trains on all training images")
        return Splits(name, classes, train, None, test)
    rest, held_out = holdout(train.labels, number, split_seed, classes)
    return Splits(
        name,
        classes,
        ImageSet(train.images[rest], train.labels[rest]),
        ImageSet(train.images[held_out], train.labels[held_out]),
        test,
        rows={"train": rest, "validation": held_out, "test": torch.arange(len(test))},
    )
