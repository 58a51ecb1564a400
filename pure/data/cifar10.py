"""CIFAR-10 (Krizhevsky, 2009): 60,000 colour photographs, 32 x 32 pixels, 50,000 to train, 10,000 to test.

Three variants, never mixed, and part of the name that a record keeps:

- ``cifar10``: the original batches (the folder ``cifar-10-batches-py``), as torchvision downloads them;
- ``cifar10-jpeg``: a tree ``train/<class>/*.jpg``, ``test/<class>/*.jpg``.  JPEG loses detail, so an accuracy on it
  compares with another model's on the same files, not with a published one;
- ``cifar10-png``: the same tree with PNG files, which lose nothing.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity
from torchvision.io import ImageReadMode, decode_image
from tqdm import tqdm

from pure.data.root import data_root, missing, writable_folder
from pure.data.splits import ImageSet, Splits
from pure.data.splits import holdout as hold_out

__all__ = ["CLASSES", "cifar10", "download", "verify"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_VARIANTS = {".jpg": "cifar10-jpeg", ".jpeg": "cifar10-jpeg", ".png": "cifar10-png"}
_PER_CLASS = {"train": 5000, "test": 1000}
_SHAPE = (3, 32, 32)
_PIECE = 500  # images that a thread decodes in one go


@dataclass(frozen=True)
class _Source:
    """One variant at one place: a folder of batches, or a tree of images."""

    variant: str
    folder: Path


class _File(NamedTuple):
    """An image of a tree; the path is relative to the tree, with slashes on every system."""

    path: str
    label: int
    size: int
    modified: int  # ns


def cifar10(
    root: str | Path | None = None,
    variant: str | None = None,
    holdout: int = 0,
    split_seed: int = 0,
    skip_unreadable: bool = False,
    cache: bool = True,
) -> Splits:
    """CIFAR-10 in its official division, all of it in memory.

    The folder, or ``cifar10*`` in it, holds the original batches or a tree of images; what is found decides on the
    variant.  A tree is decoded once and then kept as one file in ``cache`` below the root, or, where that cannot be
    written, in the user's folder for caches.

    Args:
        root: folder of the data sets, or the data set's own.
        variant: ``cifar10``, ``cifar10-jpeg`` or ``cifar10-png``, to choose where several are there.
        holdout: number of training images that are held out as validation set, stratified; 0 trains on all 50,000,
            as the paper does, and leaves no validation set.
        split_seed: fixes which images are held out.
        skip_unreadable: leave out the images that cannot be decoded, with a warning that names them.
        cache: whether a decoded tree is kept and read again.

    Returns:
        Images ``(N, 3, 32, 32)``, uint8; the classes in alphabetical order, which is the original one.

    Raises:
        FileNotFoundError: no variant is there; what was looked for is named, and how to get it.
        ValueError: several variants and no choice, a wrong number of images, a checksum that differs, images that
            cannot be decoded, or a seed without anything to divide.
    """
    if not 0 <= holdout < len(CLASSES) * _PER_CLASS["train"]:
        limit = len(CLASSES) * _PER_CLASS["train"]
        raise ValueError(f"holdout takes 0 or a part of the {limit:,} training images, got {holdout}")
    if holdout == 0 and split_seed != 0:
        raise ValueError(f"split_seed={split_seed} divides nothing here: CIFAR-10 comes divided; give holdout too")
    source = _find(data_root(root), variant)
    train, test = _read(source, skip_unreadable, cache)
    validation = None
    if holdout:
        parts = hold_out(train.labels, holdout, split_seed)
        train, validation = (ImageSet(train.images[rows], train.labels[rows]) for rows in parts)
    return Splits(source.variant, CLASSES, train, validation, test)


def download(root: str | Path | None = None) -> Path:
    """Get the original batches (170 MB) from the University of Toronto, checked by MD5; what is there is not got again.

    Returns:
        The folder of the batches.
    """
    folder = data_root(root)
    CIFAR10(folder, download=True)
    return folder / str(CIFAR10.base_folder)


def verify(root: str | Path | None = None, variant: str | None = None, skip_unreadable: bool = False) -> str:
    """Read every image from its own file, not from the cache, and check numbers and checksums.

    Returns:
        What was checked, in words.

    Raises:
        FileNotFoundError, ValueError: as :func:`cifar10`.
    """
    source = _find(data_root(root), variant)
    parts = _read(source, skip_unreadable, cache=False)
    how = "MD5 of every batch" if source.variant == "cifar10" else "every image decoded"
    return f"{source.variant} in {source.folder}: {sum(len(part.labels) for part in parts):,} images, {how}"


def _find(root: Path, variant: str | None) -> _Source:
    """The one source below the root, or the one of the variant."""
    variants = ("cifar10", *dict.fromkeys(_VARIANTS.values()))
    if variant not in (None, *variants):
        raise ValueError(f"unknown variant {variant!r} of CIFAR-10; known are {', '.join(variants)}")
    found = [
        _Source("cifar10", folder)
        for folder in (root / CIFAR10.base_folder, root)
        if (folder / CIFAR10.train_list[0][0]).is_file()
    ]
    for folder in (root, *sorted(root.glob("cifar10*"))):
        if (folder / "train" / CLASSES[0]).is_dir():
            found.append(_Source(_variant(folder), folder))
    found = [source for source in found if variant in (None, source.variant)]
    if not found:
        wanted = f"CIFAR-10 (variant {variant})" if variant else "CIFAR-10"
        looked_for = f"{CIFAR10.base_folder}/{CIFAR10.train_list[0][0]}", f"train/{CLASSES[0]}", "cifar10*/train"
        raise missing("cifar10", wanted, root, looked_for)
    if len(found) > 1:
        places = ", ".join(f"{source.variant} in {source.folder}" for source in found)
        raise ValueError(
            f"several variants of CIFAR-10: {places}; choose one: variant={found[0].variant!r} "
            f"(--option variant={found[0].variant}), or as root the folder of one of them"
        )
    return found[0]


def _variant(tree: Path) -> str:
    """The variant of a tree, by the first image; that the others are alike is checked when they are listed."""
    with os.scandir(tree / "train" / CLASSES[0]) as entries:
        for entry in entries:
            if (suffix := Path(entry.name).suffix.lower()) in _VARIANTS:
                return _VARIANTS[suffix]
    raise ValueError(f"{tree / 'train' / CLASSES[0]} holds no image; expected files with {', '.join(_VARIANTS)}")


def _read(source: _Source, skip_unreadable: bool, cache: bool) -> tuple[ImageSet, ImageSet]:
    """Training and test set, in the order of the source."""
    if source.variant == "cifar10":
        batches = [name for name, _ in CIFAR10.train_list], [name for name, _ in CIFAR10.test_list]
        train, test = (_read_batches(source.folder, names) for names in batches)
        _check_counts(source.folder, "train", train.labels.tolist())
        _check_counts(source.folder, "test", test.labels.tolist())
        return train, test
    return _read_tree(source, skip_unreadable, cache)


def _read_batches(folder: Path, names: Iterable[str]) -> ImageSet:
    """Batches of the original one behind the other; each is checked before it is unpickled."""
    checksums = dict(CIFAR10.train_list + CIFAR10.test_list)
    images, labels = [], []
    for name in names:
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing while other batches of CIFAR-10 are there; unpack {CIFAR10.filename} again, or "
                f"get it with: python -m pure.data cifar10 --root {folder.parent} --download"
            )
        if not check_integrity(path, checksums[name]):
            raise ValueError(
                f"{path} ({path.stat().st_size:,} bytes) is damaged: its MD5 is not {checksums[name]}; remove it and "
                f"get it again with: python -m pure.data cifar10 --root {folder.parent} --download"
            )
        with path.open("rb") as file:
            batch = pickle.load(file, encoding="latin1")
        images.append(torch.from_numpy(batch["data"]).view(-1, *_SHAPE))
        labels += batch["labels"]
    return ImageSet(torch.cat(images), torch.tensor(labels))


def _read_tree(source: _Source, skip_unreadable: bool, cache: bool) -> tuple[ImageSet, ImageSet]:
    """The images of a tree, from the cache if that holds them."""
    files = {part: _list(source, part) for part in _PER_CLASS}
    for part, listed in files.items():
        _check_counts(source.folder / part, part, [file.label for file in listed])
    key = hashlib.sha256(repr(files).encode()).hexdigest()
    name = f"{source.variant}-{key[:16]}.npz"
    folders = (source.folder / "cache", Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pure")
    if cache:
        for folder in folders:
            if (kept := _read_cache(folder / name)) is not None:
                return kept
    train, test, complete = _decode(source.folder, files, skip_unreadable)
    if cache and complete:
        folder_to_write = writable_folder(folders)
        if folder_to_write is None:
            warnings.warn(
                f"cannot keep the decoded images: neither {folders[0]} nor {folders[1]} can be written; every load "
                "decodes the files again",
                stacklevel=3,
            )
        else:
            _write_cache(folder_to_write / name, train, test)
    return train, test


def _list(source: _Source, part: str) -> list[_File]:
    """The images of a part, class by class, each class by name.

    Raises:
        FileNotFoundError: a class has no folder.
        ValueError: a folder of another class, or images of another variant.
    """
    folder = source.folder / part
    if not folder.is_dir():
        raise FileNotFoundError(f"{source.folder} has no folder {part}; expected train/<class>/ and test/<class>/")
    there = {entry.name for entry in os.scandir(folder) if entry.is_dir()}
    if there != set(CLASSES):
        absent, strange = sorted(set(CLASSES) - there), sorted(there - set(CLASSES))
        problems = [
            f"{what}: {', '.join(names)}" for what, names in (("missing", absent), ("unknown", strange)) if names
        ]
        raise ValueError(f"{folder} does not hold the ten classes of CIFAR-10; {'; '.join(problems)}")
    files = []
    for label, name in enumerate(CLASSES):
        entries = sorted(os.scandir(folder / name), key=lambda entry: entry.name)
        for entry in entries:
            variant = _VARIANTS.get(Path(entry.name).suffix.lower())
            if variant is None:
                continue  # thumbnails, notes
            if variant != source.variant:
                raise ValueError(f"{entry.path} is {variant}, other images in {source.folder} are {source.variant}")
            status = entry.stat()
            files.append(_File(f"{part}/{name}/{entry.name}", label, status.st_size, status.st_mtime_ns))
    return files


def _check_counts(where: Path, part: str, labels: list[int]) -> None:
    """Every class has its 5,000 training images, or its 1,000 test images."""
    counts, expected = Counter(labels), _PER_CLASS[part]
    wrong = [f"{name} {counts[label]:,}" for label, name in enumerate(CLASSES) if counts[label] != expected]
    if wrong or len(labels) != expected * len(CLASSES):
        raise ValueError(
            f"{where}: expected {expected:,} images of each class for {part}, found {len(labels):,} in all, "
            f"{', '.join(wrong)}; unpack or download CIFAR-10 again"
        )


def _decode(tree: Path, files: dict[str, list[_File]], skip_unreadable: bool) -> tuple[ImageSet, ImageSet, bool]:
    """Decode the files of both parts; False at the end says that some were left out."""
    listed = [file for part in files.values() for file in part]
    images = torch.empty(len(listed), *_SHAPE, dtype=torch.uint8)

    def decode(rows: range) -> dict[int, str]:
        """Put some images into their rows.  Returns what is wrong with those that cannot be read."""
        problems = {}
        for row in rows:
            try:
                data = torch.from_numpy(np.fromfile(tree / listed[row].path, dtype=np.uint8))
                image = decode_image(data, ImageReadMode.RGB)
            except (OSError, RuntimeError, ValueError) as error:
                problems[row] = str(error).partition("\n")[0]
                continue
            if image.shape == _SHAPE and image.dtype == torch.uint8:
                images[row] = image
            else:
                problems[row] = f"{tuple(image.shape)} {image.dtype}, expected {_SHAPE} torch.uint8"
        return problems

    unreadable: dict[int, str] = {}
    pieces = [range(start, min(start + _PIECE, len(listed))) for start in range(0, len(listed), _PIECE)]
    with (
        tqdm(total=len(listed), desc="decode CIFAR-10", unit=" images", disable=None, leave=False) as bar,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for piece, problems in zip(pieces, pool.map(decode, pieces), strict=True):
            unreadable |= problems
            bar.update(len(piece))
    if unreadable:
        named = [f"{tree / listed[row].path} ({problem})" for row, problem in unreadable.items()]
        message = f"{len(named):,} of {len(listed):,} images cannot be read: {'; '.join(named[:5])}"
        message += "; ..." if len(named) > 5 else ""
        if not skip_unreadable:
            raise ValueError(f"{message}; get them again, or leave them out with skip_unreadable=True")
        warnings.warn(f"{message}; they are left out", stacklevel=4)
    labels = torch.tensor([file.label for file in listed])
    readable = torch.tensor([row not in unreadable for row in range(len(listed))])
    boundary = len(files["train"])
    train, test = (
        ImageSet(images[rows][readable[rows]], labels[rows][readable[rows]])
        for rows in (slice(boundary), slice(boundary, None))
    )
    return train, test, not unreadable


def _read_cache(path: Path) -> tuple[ImageSet, ImageSet] | None:
    """What :func:`_write_cache` wrote; None if there is nothing, or nothing whole."""
    try:
        with np.load(path) as file:
            train, test = (
                ImageSet(torch.from_numpy(file[f"{part}_images"]), torch.from_numpy(file[f"{part}_labels"]))
                for part in ("train", "test")
            )
            return train, test
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _write_cache(path: Path, train: ImageSet, test: ImageSet) -> None:
    """Write both parts into one file, which is there whole or not at all."""
    arrays = {
        f"{part}_{name}": tensor.numpy()
        for part, images in (("train", train), ("test", test))
        for name, tensor in (("images", images.images), ("labels", images.labels))
    }
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
