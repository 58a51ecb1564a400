"""CIFAR-10 (Krizhevsky, 2009): 60,000 colour photographs, 32 x 32 pixels, 50,000 to train, 10,000 to test.

It circulates in three variants, which are never mixed and are part of the name that a record keeps: the original
batches, trees of PNG files, which lose nothing, and trees of JPEG files, which do.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity

from pure.data.images import ImageSet
from pure.data.sets.official import get, hold_out
from pure.data.splits import Splits
from pure.data.storage.files import write_atomically
from pure.data.storage.folders import FolderImages, Unreadable, UnreadableImageError
from pure.data.storage.root import data_root, missing, user_cache, writable_folder

__all__ = ["CLASSES", "cifar10", "download", "verify"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_VARIANTS = {".jpg": "cifar10-jpeg", ".jpeg": "cifar10-jpeg", ".png": "cifar10-png"}
_PER_CLASS = {"train": 5000, "test": 1000}
_SHAPE = (3, 32, 32)
_BINARY_FOLDER = "cifar-10-batches-bin"
_BINARY_MD5 = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
}
"""Of the training batches in binary form; the test batch's is not known here, its size and class counts are checked."""
_ON_DISK = 170_498_071 + 60_000 * 3 * 32 * 32  # bytes: the archive, and the pixels unpacked


@dataclass(frozen=True)
class _Source:
    """One variant at one place: a folder of batches, or a tree of images."""

    variant: str
    folder: Path


def cifar10(
    root: str | Path | None = None,
    variant: str | None = None,
    test: Literal["official", "batch5"] = "official",
    holdout: int = 0,
    split_seed: int = 0,
    unreadable: Unreadable = "error",
    cache: bool = True,
) -> Splits:
    """CIFAR-10, all of it in memory: in its official division, or without the official test set.

    The folder, or ``cifar10*`` in it, holds the original batches or a tree of images; what is found decides on the
    variant:

    - ``cifar10``: the original batches, in Python form (the folder ``cifar-10-batches-py``, as torchvision downloads
      them) or in binary form (``cifar-10-batches-bin``): the same images in the same order;
    - ``cifar10-jpeg``: a tree ``train/<class>/*.jpg``, ``test/<class>/*.jpg``.  JPEG loses detail, so an accuracy on it
      compares with another network's on the same files, not with a published one;
    - ``cifar10-png``: the same tree with PNG files, which lose nothing.

    A tree is decoded once and then kept as one file in ``cache`` below the root, or, where that cannot be
    written, in the user's folder for caches.

    Args:
        root: folder of the data sets, or the data set's own.
        variant: ``cifar10``, ``cifar10-jpeg`` or ``cifar10-png``, to choose where several are there.
        test: ``"official"``: the official 10,000 test images; ``"batch5"``: train on the original batches 1 to 4, test
            on batch 5, and name the set ``cifar10-batch5``.  The official test set need not be there.
        holdout: number of training images that are held out as validation set, stratified; 0 trains on all 50,000
            (40,000 before batch 5), as the paper does, and leaves no validation set.
        split_seed: fixes which images are held out.
        unreadable: ``"error"``: an image of a tree that cannot be decoded stops the run; ``"skip"``: such images are
            left out, counted and named.
        cache: whether a decoded tree is kept and read again.

    Returns:
        Images ``(N, 3, 32, 32)``, uint8; the classes in alphabetical order, which is the original one.

    Raises:
        FileNotFoundError: no variant is there; what was looked for is named, and how to get it.
        ValueError: several variants and no choice, a wrong number of images, a checksum that differs, images that
            cannot be decoded, batch 5 of a tree, which knows no batches, or a seed without anything to divide.
    """
    source = _find(data_root(root), variant)
    if test == "official":
        return hold_out(source.variant, CLASSES, *_read(source, unreadable, cache), holdout, split_seed)
    if test != "batch5":
        raise ValueError(f"unknown test={test!r}; expected 'official' or 'batch5'")
    if source.variant != "cifar10":
        raise ValueError(
            f"test='batch5' needs the original batches, and {source.folder} is a tree ({source.variant}), which does "
            f"not tell which image was in which; put {CIFAR10.base_folder} or {_BINARY_FOLDER} next to it"
        )
    *fitted, held_out = (name for name, _ in CIFAR10.train_list)
    parts = _read_batches(source.folder, fitted), _read_batches(source.folder, [held_out])
    return hold_out("cifar10-batch5", CLASSES, *parts, holdout, split_seed)


def download(root: str | Path | None = None) -> Path:
    """Get the original batches (170 MB) from the University of Toronto, checked by MD5; complete files are kept.

    Returns:
        The folder of the batches.

    Raises:
        ConnectionError: the server cannot be reached, or sends another file.
        OSError: the folder cannot be written to, or the disk is full.
    """
    folder = data_root(root)
    target = folder / str(CIFAR10.base_folder)
    return get("CIFAR-10", lambda: CIFAR10(folder, download=True), CIFAR10.url, target, _ON_DISK)


def verify(
    root: str | Path | None = None,
    variant: str | None = None,
    test: Literal["official", "batch5"] = "official",
    unreadable: Unreadable = "error",
) -> str:
    """Read every image from its own file, not from the cache, and check numbers and checksums.

    With ``test="batch5"`` the official test set is not looked for.

    Returns:
        What was checked, in words.

    Raises:
        FileNotFoundError, ValueError: as :func:`cifar10`.
    """
    if test == "batch5":
        splits = cifar10(root, variant, test)
        return (
            f"{splits.name} in {data_root(root)}: {len(splits.train) + len(splits.test):,} images, MD5 of every batch"
        )
    source = _find(data_root(root), variant)
    parts = _read(source, unreadable, cache=False)
    how = "MD5 of every batch" if source.variant == "cifar10" else "every image decoded"
    return f"{source.variant} in {source.folder}: {sum(len(part.labels) for part in parts):,} images, {how}"


def _find(root: Path, variant: str | None) -> _Source:
    """The one source below the root, or the one of the variant."""
    variants = ("cifar10", *dict.fromkeys(_VARIANTS.values()))
    if variant not in (None, *variants):
        raise ValueError(f"unknown variant {variant!r} of CIFAR-10; known are {', '.join(variants)}")
    first = CIFAR10.train_list[0][0]
    batches = (root / CIFAR10.base_folder, root / _BINARY_FOLDER, root)
    there = [folder for folder in batches if (folder / first).is_file() or (folder / f"{first}.bin").is_file()]
    found = [_Source("cifar10", folder) for folder in there[:1]]  # both forms hold the same
    for folder in (root, *sorted(root.glob("cifar10*"))):
        if (folder / "train" / CLASSES[0]).is_dir():
            found.append(_Source(_variant(folder), folder))
    found = [source for source in found if variant in (None, source.variant)]
    if not found:
        wanted = f"CIFAR-10 (variant {variant})" if variant else "CIFAR-10"
        looked_for = (
            f"{CIFAR10.base_folder}/{first}",
            f"{_BINARY_FOLDER}/{first}.bin",
            f"train/{CLASSES[0]}",
            "cifar10*/train",
        )
        raise missing("cifar10", wanted, root, looked_for)
    if len(found) > 1:
        places = ", ".join(f"{source.variant} in {source.folder}" for source in found)
        raise ValueError(
            f"several variants of CIFAR-10: {places}; choose one: variant={found[0].variant!r} "
            f"(--data-option variant={found[0].variant}), or as root the folder of one of them"
        )
    return found[0]


def _variant(tree: Path) -> str:
    """The variant of a tree, by the first image; that the others are alike is checked when they are listed."""
    with os.scandir(tree / "train" / CLASSES[0]) as entries:
        for entry in entries:
            if (suffix := Path(entry.name).suffix.lower()) in _VARIANTS:
                return _VARIANTS[suffix]
    raise ValueError(f"{tree / 'train' / CLASSES[0]} holds no image; expected files with {', '.join(_VARIANTS)}")


def _read(source: _Source, unreadable: Unreadable, cache: bool) -> tuple[ImageSet, ImageSet]:
    """Training and test set, in the order of the source."""
    if source.variant == "cifar10":
        batches = [name for name, _ in CIFAR10.train_list], [name for name, _ in CIFAR10.test_list]
        train, test = (_read_batches(source.folder, names) for names in batches)
        _check_counts(source.folder, "train", train.labels)
        _check_counts(source.folder, "test", test.labels)
        return train, test
    return _read_tree(source, unreadable, cache)


def _read_batches(folder: Path, names: Iterable[str]) -> ImageSet:
    """Original batches, one after the other, in the form that the folder holds."""
    binary = not (folder / CIFAR10.train_list[0][0]).is_file()
    parts = [(_read_binary if binary else _read_pickled)(folder, name) for name in names]
    images, labels = zip(*parts, strict=True)
    return ImageSet(torch.cat(images).view(-1, *_SHAPE), torch.cat(labels))


def _read_pickled(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    """Pixels ``(10000, 3072)`` and labels of a batch in Python form, which is checked before it is unpickled."""
    path = _require_batch(folder / name, dict(CIFAR10.train_list + CIFAR10.test_list)[name])
    with path.open("rb") as file:
        batch = pickle.load(file, encoding="latin1")
    return torch.from_numpy(batch["data"]), torch.tensor(batch["labels"])


def _read_binary(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    """The same of a batch in binary form: for each image a byte for its label and 3,072 for its pixels."""
    path = _require_batch(folder / f"{name}.bin", _BINARY_MD5.get(f"{name}.bin"))
    record = 1 + int(np.prod(_SHAPE))
    content = np.fromfile(path, dtype=np.uint8)
    if len(content) % record or not len(content):
        raise ValueError(
            f"{path} has {len(content):,} bytes, which is not a multiple of {record:,} (a label and the pixels of an "
            "image); move it elsewhere and get the published one"
        )
    rows = torch.from_numpy(content.reshape(-1, record))
    return rows[:, 1:], rows[:, 0].long()


def _require_batch(path: Path, md5: str | None) -> Path:
    """The batch, if it is there and whole."""
    again = f"get it again with: python -m pure.data cifar10 --data {path.parent.parent} --download"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing while other batches of CIFAR-10 are there; unpack {CIFAR10.filename} (or its binary "
            f"version) again, or {again}"
        )
    if md5 is not None and not check_integrity(path, md5):
        raise ValueError(
            f"{path} ({path.stat().st_size:,} bytes) is damaged: its MD5 is not {md5}; move it elsewhere and {again}"
        )
    return path


def _read_tree(source: _Source, unreadable: Unreadable, cache: bool) -> tuple[ImageSet, ImageSet]:
    """The images of a tree, from the cache if that holds them."""
    trees = [FolderImages(source.folder / part, CLASSES) for part in _PER_CLASS]
    for part, tree in zip(_PER_CLASS, trees, strict=True):
        _check_variant(source, tree)
        _check_counts(tree.root, part, tree.labels)
    digest = hashlib.sha256("".join(tree.digest for tree in trees).encode()).hexdigest()
    folders = filter(None, (source.folder / "cache", user_cache()))
    files = [folder / f"{source.variant}-{digest[:16]}.npz" for folder in folders]
    if cache and (kept := next(filter(None, map(_read_cache, files)), None)):
        return kept
    readable = [tree if unreadable == "error" else tree.readable()[0] for tree in trees]
    for tree in readable:
        with contextlib.suppress(UnreadableImageError):  # of one header; below, all such images are counted and named
            if tree.shape != _SHAPE:
                raise ValueError(
                    f"the images of {tree.root} have the shape {tree.shape or '(of several sizes)'}, those of CIFAR-10 "
                    f"have {_SHAPE}"
                )
    train, test = (tree.in_memory(_SHAPE[-1]) for tree in readable)
    complete = all(len(tree) == len(part) for tree, part in zip(trees, readable, strict=True))
    if cache and complete:  # a set with gaps is never kept: it would be taken for the whole one
        _write_cache(files, train, test)
    return train, test


def _check_variant(source: _Source, tree: FolderImages) -> None:
    """All images of a tree are of one variant."""
    for index in range(len(tree)):
        path = tree.relative_path(index)
        variant = _VARIANTS.get(os.path.splitext(path)[1].lower(), "of no variant")
        if variant != source.variant:
            raise ValueError(
                f"{tree.root / path} is {variant}, other images in {source.folder} are {source.variant}; keep the "
                "variants in separate trees"
            )


def _check_counts(where: Path, part: str, labels: Tensor) -> None:
    """Every class has its 5,000 training images, or its 1,000 test images."""
    expected = _PER_CLASS[part]
    counts = labels.bincount(minlength=len(CLASSES)).tolist()
    if wrong := [f"{count:,} of {name}" for name, count in zip(CLASSES, counts, strict=True) if count != expected]:
        raise ValueError(
            f"{where}: expected {expected:,} images of each class, found {', '.join(wrong)}; unpack or download "
            "CIFAR-10 again"
        )


def _read_cache(path: Path) -> tuple[ImageSet, ImageSet] | None:
    """What :func:`_write_cache` wrote; None if there is nothing, or nothing whole."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            arrays = [torch.from_numpy(file[name]) for name in ("images", "labels", "test_images", "test_labels")]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return ImageSet(arrays[0], arrays[1]), ImageSet(arrays[2], arrays[3])


def _write_cache(files: Sequence[Path], train: ImageSet, test: ImageSet) -> None:
    """Keep both parts in the first of the files that can be written; it is there whole or not at all."""
    folder = writable_folder(file.parent for file in files)
    if folder is None:
        places = " nor ".join(str(file.parent) for file in files)
        warnings.warn(
            f"cannot keep the decoded images: neither {places} can be written; every load decodes the files again",
            stacklevel=2,
        )
        return
    buffer = io.BytesIO()
    np.savez(buffer, images=train.images, labels=train.labels, test_images=test.images, test_labels=test.labels)
    write_atomically(folder / files[0].name, buffer.getvalue())
