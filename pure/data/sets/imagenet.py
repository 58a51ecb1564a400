"""ImageNet's ILSVRC 2012 as a tree with one folder per class, checked against the published counts (section 4.2)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pure.data.catalogue import describe
from pure.data.splits import Splits
from pure.data.storage.folders import FolderImages, Unreadable, divide, require_readable
from pure.data.storage.root import data_root, missing, user_cache, writable_folder
from pure.wording import some

__all__ = ["MEAN", "STD", "check_counts", "imagenet", "verify"]

MEAN = torch.tensor([0.485, 0.456, 0.406]) * 255
"""Mean of each channel in grey levels: "the standard ImageNet statistics" of section 4.2.2, as torchvision has them."""

STD = torch.tensor([0.229, 0.224, 0.225]) * 255
"""Standard deviation of each channel in grey levels."""

CLASSES = 1000
TRAIN = 1_281_167
TRAIN_PER_CLASS = (732, 1300)
VALIDATION_PER_CLASS = 50

_LAYOUTS = ("", "imagenet", "ILSVRC*/Data/CLS-LOC", "ILSVRC*", "imagenet/ILSVRC*/Data/CLS-LOC")
"""Where below the root the trees may lie: in it, in a folder, or as the archive of the object localisation has them."""


def imagenet(
    root: Path | str | None = None,
    *,
    holdout: int = 0,
    split_seed: int = 0,
    unreadable: Unreadable = "error",
    cache: bool = True,
    progress: bool | None = None,
) -> Splits:
    """ILSVRC 2012: ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG``, read on demand.

    The published validation set is the test set here, since its accuracy is what is reported and it must not choose
    anything; the published test set has no labels.  Images are normalized by the published statistics.

    Args:
        root: the folder that holds ``train`` and ``val``, or one above it; by default
            :func:`pure.data.storage.root.data_root`.
        holdout: number of training images to hold out as validation set, stratified; by default none.
        split_seed: fixes which are held out.
        unreadable: ``"error"`` or ``"skip"``, as in :func:`pure.data.storage.folders.image_folder`.
        cache: whether the listings, and what is unreadable, are kept in the user's folder for caches and read again:
            1.3 million files take ten seconds to list on a local disk, and minutes on some file servers.
        progress: whether to show bars; by default only on a terminal.

    Raises:
        FileNotFoundError: there is no such tree, or no ``val`` in it.
        ValueError: classes or counts are not ILSVRC 2012's, or the validation images lie in one folder; the message
            says what is there, and what to do.
    """
    folder = _find(data_root(root))
    train, test = _trees(folder, cache, progress)
    return divide(
        "imagenet",
        train,
        None,
        test,
        holdout=holdout,
        split_seed=split_seed,
        unreadable=unreadable,
        size=None,
        progress=progress,
        normalization=(MEAN, STD),
    )


def check_counts(part: str, classes: Sequence[str], labels: Tensor) -> None:
    """Compare a tree with what is published.

    Args:
        part: ``"train"`` or ``"val"``.
        classes: names of its folders.
        labels: shape ``(N,)``.

    Raises:
        ValueError: the numbers of classes or of images differ.
    """
    if len(classes) != CLASSES:
        strange = [name for name in classes if not (name[:1] == "n" and len(name) == 9 and name[1:].isdigit())]
        detail = f", of which {len(strange)} are not WordNet numbers, like n01440764 ({some(strange)})" * bool(strange)
        raise ValueError(
            f"the tree {part} has {len(classes)} classes{detail}; ILSVRC 2012 has {CLASSES}. Unpack it completely, or "
            "read another tree (Imagenette, a subset) as data set image-folder"
        )
    counts = torch.bincount(labels, minlength=CLASSES)
    least, most = TRAIN_PER_CLASS if part == "train" else (VALIDATION_PER_CLASS, VALIDATION_PER_CLASS)
    total = TRAIN if part == "train" else CLASSES * VALIDATION_PER_CLASS
    wrong = torch.nonzero((counts < least) | (counts > most)).flatten().tolist()
    if wrong or len(labels) != total:
        per_class = f"{least} to {most}" if least < most else f"{least}"
        named = f"; other numbers have {some([f'{classes[i]} ({int(counts[i])})' for i in wrong])}" if wrong else ""
        raise ValueError(
            f"the tree {part} has {len(labels):,} images; ILSVRC 2012 has {total:,}, {per_class} in a class{named}. "
            "Unpack the archive again"
        )


def verify(root: Path | str | None = None, progress: bool | None = None) -> str:
    """Decode every image.

    Args:
        root: as of :func:`imagenet`.
        progress: whether to show bars; by default only on a terminal.

    Returns:
        What was checked, in words.

    Raises:
        FileNotFoundError: there is no such tree.
        ValueError: classes or counts are not ILSVRC 2012's.
        UnreadableImageError: some images cannot be read; they are counted and named.
    """
    return require_readable(_trees(_find(data_root(root)), cache=False, progress=progress), progress)


def _find(root: Path) -> Path:
    """The folder that holds ``train``."""
    for layout in _LAYOUTS:
        for folder in sorted(root.glob(layout)) if layout else [root]:
            if (folder / "train").is_dir():
                return folder
    looked_for = [f"{layout}/train".lstrip("/") for layout in _LAYOUTS]
    raise missing("imagenet", "ImageNet", root, looked_for, describe("imagenet").by_hand)


def _trees(folder: Path, cache: bool, progress: bool | None) -> tuple[FolderImages, FolderImages]:
    """The training and the validation tree, checked."""
    _require_folders(folder)
    caches = user_cache()
    kept = writable_folder([caches]) if cache and caches is not None else None
    train = FolderImages(folder / "train", cache=kept, progress=progress)
    check_counts("train", train.classes, train.labels)
    test = FolderImages(folder / "val", train.classes, cache=kept, progress=progress)
    check_counts("val", test.classes, test.labels)
    return train, test


def _require_folders(folder: Path) -> None:
    """Raise an error that says what to do where the archives were unpacked, but not sorted into folders."""
    train, val = folder / "train", folder / "val"
    if not val.is_dir():
        raise FileNotFoundError(
            f"no folder {val}, the validation images, which serve as test set; unpack ILSVRC2012_img_val.tar into one "
            "folder for each class"
        )
    for part, ending, explanation in ((train, ".tar", _PACKED_CLASSES), (val, ".jpeg", _FLAT_VALIDATION)):
        with os.scandir(part) as entries:
            files = [entry.name for entry in entries if not entry.is_dir()]
        if number := sum(name.lower().endswith(ending) for name in files):
            raise ValueError(explanation.format(part=part, root=folder, number=f"{number:,}"))


_PACKED_CLASSES = """{part} holds {number} archives of classes; unpack each into a folder of its name:
  (cd {part} && for f in n*.tar; do mkdir -p "${{f%.tar}}" && tar -xf "$f" -C "${{f%.tar}}" && rm "$f"; done)"""

_FLAT_VALIDATION = """{part} holds {number} images without folders for their classes, which their names do not \
tell. Sort them: either from the archives ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz in {root} \
(needs SciPy):
  mv {part} {part}-flat && python -c "from torchvision.datasets import ImageNet; ImageNet('{root}', 'val')"
or by the list LOC_val_solution.csv that comes with the object localisation challenge, in {root}:
  (cd {part} && tail -n +2 ../LOC_val_solution.csv | while IFS=', ' read -r image wnid _; do mkdir -p "$wnid" && \
mv "$image.JPEG" "$wnid/"; done)"""
