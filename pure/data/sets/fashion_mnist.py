"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 70,000 pictures of clothes, 28 x 28 pixels, ten classes.

A full real benchmark that needs no account and little space: 31 MB, from the network or from Debian's package
``dataset-fashion-mnist``.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import FashionMNIST

from pure.data.images import ImageSet
from pure.data.sets.official import get, hold_out
from pure.data.splits import Splits
from pure.data.storage.root import data_root, missing

__all__ = ["CLASSES", "download", "fashion_mnist"]

CLASSES = tuple(FashionMNIST.classes)

_FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of the unpacked files.  Debian packs the same bytes differently, so the published MD5 of the packed files do
not hold for them."""

_ON_DISK = 30_878_645 + 70_000 * 28 * 28  # bytes: the four files, and the pixels unpacked

_DEBIAN = (Path("/usr/share/datasets/fashion-mnist"), Path("/usr/share/dataset-fashion-mnist"))
"""Where Debian's package may put the files."""


def fashion_mnist(root: str | Path | None = None, holdout: int = 5000, split_seed: int = 0) -> Splits:
    """Fashion-MNIST in its official division, with a validation set held out from the training set.

    Looked for in ``FashionMNIST/raw`` (where torchvision puts it) and ``fashion-mnist`` below the root, in the root
    itself, and in the folder of Debian's package.

    Args:
        root: folder of the data sets.
        holdout: number of training images that are held out as validation set, stratified.  Not 0, unlike CIFAR-10:
            no paper's recipe is followed here, so something other than the test set must choose.  0 trains on all
            60,000, to be compared with published accuracies.
        split_seed: fixes which images are held out.

    Returns:
        Images ``(N, 1, 28, 28)``, uint8.

    Raises:
        FileNotFoundError: the files are not there; where they were looked for is named, and how to get them.
        ValueError: a file is damaged, a holdout out of its range, or a seed without anything to divide.
    """
    folder = _find(data_root(root))
    train, test = (
        ImageSet(
            _read(folder, f"{part}-images-idx3-ubyte").unsqueeze(1),
            _read(folder, f"{part}-labels-idx1-ubyte").long(),
        )
        for part in ("train", "t10k")
    )
    return hold_out("fashion-mnist", CLASSES, train, test, holdout, split_seed)


def download(root: str | Path | None = None) -> Path:
    """Get the four files (31 MB), checked by MD5; complete files are kept.

    Returns:
        The folder of the files.

    Raises:
        ConnectionError: the server cannot be reached, or sends another file.
        OSError: the folder cannot be written to, or the disk is full.
    """
    folder = data_root(root)
    target = folder / "FashionMNIST" / "raw"
    return get("Fashion-MNIST", lambda: FashionMNIST(folder, download=True), FashionMNIST.mirrors[0], target, _ON_DISK)


def _find(root: Path) -> Path:
    """The first folder that holds the training images, packed or not."""
    folders = (root / "FashionMNIST" / "raw", root / "fashion-mnist", root, *_DEBIAN)
    first = next(iter(_FILES))
    for folder in folders:
        if (folder / first).is_file() or (folder / f"{first}.gz").is_file():
            return folder
    looked_for = (f"FashionMNIST/raw/{first}.gz", f"{first}.gz", f"{_DEBIAN[0]}/{first}.gz")
    raise missing("fashion-mnist", "Fashion-MNIST", root, looked_for)


def _read(folder: Path, name: str) -> Tensor:
    """An idx file, packed or not, checked: uint8 of the shape that its header tells."""
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{folder / name}.gz is missing while others of the four files of Fashion-MNIST are there; get it with: "
            "python -m pure.data fashion-mnist --data DIR --download"
        )
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be unpacked ({error}); move it elsewhere and get it again") from None
    if hashlib.sha256(data).hexdigest() != _FILES[name]:
        raise ValueError(
            f"{path} is damaged or another data set: its {len(data):,} unpacked bytes do not have the SHA-256 "
            f"{_FILES[name]}; move it elsewhere and get the published one"
        )
    dimensions = data[3]  # the header: two zeros, the type, the number of dimensions, and each of them in four bytes
    header = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    return torch.frombuffer(bytearray(data[header:]), dtype=torch.uint8).view(shape)
