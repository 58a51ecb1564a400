"""Folders of images and masks, in the layouts that ISIC 2018, Kvasir-SEG and BUSI are published in.

======================================================= ==========================================================
``ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg``    ``ISIC2018_Task1_Training_GroundTruth/``
                                                        ``ISIC_0000000_segmentation.png``; likewise ``Validation``
                                                        and ``Test``
``images/cju0.jpg``                                     ``masks/cju0.jpg`` (Kvasir-SEG)
``benign/benign (1).png``                               ``benign/benign (1)_mask.png``, more as ``..._mask_1.png``;
                                                        likewise ``malignant`` and ``normal`` (BUSI)
======================================================= ==========================================================
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from tqdm import tqdm

from pure.data.images import ImageSet
from pure.data.machine import processors, require_memory
from pure.data.splits import Splits, stratified_split
from pure.data.storage.decoding import decode
from pure.data.storage.folders import EXTENSIONS
from pure.data.storage.root import data_root
from pure.wording import some

__all__ = ["Pair", "find_pairs", "mask_folder", "read_pair"]

_ISIC = ("Training", "Validation", "Test")
_BUSI = ("benign", "malignant", "normal")
_TOP = ("", "Kvasir-SEG", "Dataset_BUSI_with_GT")  # the folders that the archives unpack to
_LOSSY = (".jpg", ".jpeg", ".webp")
_BETWEEN = 0.02
"""Share of a lossy mask's pixels that may be grey, between a quarter and three quarters of white: JPEG blurs edges."""


@dataclass(frozen=True)
class Pair:
    """An image and its masks, which together are one.

    Attributes:
        image: file.
        masks: files, one or more.
        group: what is divided evenly: the folder, as BUSI's ``normal``; or the part that it is published in.
    """

    image: Path
    masks: tuple[Path, ...]
    group: str


def mask_folder(
    root: str | Path | None = None,
    size: int = 256,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    split_seed: int = 0,
    data_name: str = "mask-folder",
    progress: bool | None = None,
) -> Splits:
    """Images with masks, each resized to a square, in memory.

    Images are resized bilinearly with antialiasing, masks to the nearest pixel.  What comes divided, as ISIC 2018 with
    all three of its parts, stays so.

    Args:
        root: the folder that holds the images' folders, see :func:`pure.data.storage.root.data_root`.
        size: pixels along an edge.
        fractions: shares of training, validation and test set; BUSI's three folders have them each.
        split_seed: fixes the division.
        data_name: what the records call the set.
        progress: whether a bar is shown; None shows it on a terminal only.

    Returns:
        Images ``(3, size, size)`` with masks ``(size, size)``, 0 for background and 1 for the object.

    Raises:
        FileNotFoundError: no layout is there, a folder is empty, or images lack masks or masks images; they are named.
        ValueError: a mask has another size than its image, or grey levels other than black and white; or the size is
            not positive.
        OSError: a file is damaged; it is named.
    """
    if size < 1:
        raise ValueError(f"expected a size of at least 1 pixel, got {size}")
    pairs = find_pairs(data_root(root))
    read = _read_all(pairs, size, progress)
    groups = sorted({pair.group for pair in pairs})
    numbers = torch.tensor([groups.index(pair.group) for pair in pairs])
    if set(groups) == set(_ISIC):
        chosen = [(numbers == groups.index(part)).nonzero().flatten() for part in _ISIC]
    else:
        chosen = list(stratified_split(numbers, fractions, split_seed, groups))
    rows = dict(zip(("train", "validation", "test"), chosen, strict=True))
    parts: dict[str, Any] = {part: ImageSet(read.images[each], read.labels[each]) for part, each in rows.items()}
    return Splits(data_name, ("background", "object"), **parts, rows=rows)


def find_pairs(root: Path) -> list[Pair]:
    """All images with their masks, by folder and name.

    Raises:
        FileNotFoundError: as :func:`mask_folder`.
    """
    for top in (root / name for name in _TOP):
        if found := _isic(top) or _kvasir(top) or _busi(top):
            return found
    raise FileNotFoundError(
        f"{root} holds no images with masks: expected images/ and masks/ (as Kvasir-SEG), "
        "ISIC2018_Task1-2_Training_Input/ and ISIC2018_Task1_Training_GroundTruth/, or benign/, malignant/ and normal/ "
        "(as BUSI); give the folder that holds these by --data (data=)"
    )


def _isic(top: Path) -> list[Pair]:
    folders = {
        part: (top / f"ISIC2018_Task1-2_{part}_Input", top / f"ISIC2018_Task1_{part}_GroundTruth") for part in _ISIC
    }
    there = {part: both for part, both in folders.items() if any(folder.is_dir() for folder in both)}
    if there and set(there) not in ({"Training"}, set(_ISIC)):
        raise FileNotFoundError(
            f"{top} holds {' and '.join(there)} of ISIC 2018; add the others, or leave the training images alone "
            "there, which are then divided"
        )
    pairs = []
    for part, (images, truth) in there.items():
        found = [path for path in _files(images) if "superpixels" not in path.stem]
        pairs += _paired(
            found, {path.stem.removesuffix("_segmentation"): (path,) for path in _files(truth)}, truth, part
        )
    return pairs


def _kvasir(top: Path) -> list[Pair]:
    images, masks = top / "images", top / "masks"
    if not (images.is_dir() and masks.is_dir()):
        return []
    return _paired(_files(images), {path.stem: (path,) for path in _files(masks)}, masks, "images")


def _busi(top: Path) -> list[Pair]:
    pairs = []
    for group in (name for name in _BUSI if (top / name).is_dir()):
        images, masks = [], dict[str, tuple[Path, ...]]()
        for path in _files(top / group):
            name = re.sub(r"_mask(_\d+)?$", "", path.stem)
            if name == path.stem:
                images.append(path)
            else:
                masks[name] = (*masks.get(name, ()), path)
        if masks:  # else a tree of classes without masks
            pairs += _paired(images, masks, top / group, group)
    return pairs


def _files(folder: Path) -> list[Path]:
    """The images in a folder, by name; hidden files and texts are left out.

    Raises:
        FileNotFoundError: there are none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there, but what belongs to it is; unpack it too")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and path.name[0] != ".")
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no image ({', '.join(EXTENSIONS)}); unpack the archive there, or give another folder by "
            "--data (data=)"
        )
    return found


def _paired(images: Sequence[Path], masks: dict[str, tuple[Path, ...]], where: Path, group: str) -> list[Pair]:
    lacking = [path.name for path in images if path.stem not in masks]
    if lacking:
        raise FileNotFoundError(
            f"{len(lacking)} of {len(images)} images have no mask in {where}: {some(lacking)}; add their masks, or "
            "move these images elsewhere"
        )
    surplus = sorted(masks.keys() - {path.stem for path in images})
    if surplus:
        raise FileNotFoundError(
            f"{len(surplus)} masks in {where} belong to no image: {some(surplus)}; add their images, or move these "
            "masks elsewhere"
        )
    return [Pair(path, masks[path.stem], group) for path in images]


def read_pair(pair: Pair, size: int | None = None) -> tuple[Tensor, Tensor]:
    """An image ``(3, H, W)`` and its mask ``(H, W)``, 0 and 1, both uint8; resized to a square if a size is given.

    Several masks of one image are joined.

    Raises:
        ValueError: sizes differ, or a mask is not black and white.
        OSError: a file is damaged.
    """
    image = _decoded(pair.image)
    mask = torch.zeros(image.shape[1:], dtype=torch.uint8)
    for path in pair.masks:
        levels = _decoded(path).amax(0)
        if levels.shape != mask.shape:
            raise ValueError(
                f"{path} has {levels.shape[1]} x {levels.shape[0]} pixels, and its image {pair.image.name} has "
                f"{mask.shape[1]} x {mask.shape[0]}; get the mask of this image, or resize both alike"
            )
        mask |= _black_and_white(levels, path)
    if size is None:
        return image, mask
    # Of tensors of these kinds torchvision knows which to interpolate.
    resize = v2.Resize([size, size], antialias=True)
    image, mask = resize(tv_tensors.Image(image), tv_tensors.Mask(mask))
    return image.as_subclass(Tensor), mask.as_subclass(Tensor)


def _decoded(path: Path) -> Tensor:
    try:
        return decode(np.fromfile(path, dtype=np.uint8))
    except OSError as error:
        raise OSError(f"cannot read {path}: {error}; replace the file") from None


def _black_and_white(levels: Tensor, path: Path) -> Tensor:
    """1 for white and 0 for black, from grey levels ``(H, W)``; lossy files may come near them."""
    white = levels > 127
    if path.suffix.lower() in _LOSSY:
        between = ((levels > 63) & (levels < 192)).float().mean().item()
        right = between <= _BETWEEN
        seen = f"{100 * between:.0f} % of its pixels are grey"
    else:
        values = levels.unique().tolist()
        right = set(values) <= {0, 255}
        seen = f"it has the values {some(map(str, values))}"
    if not right:
        raise ValueError(
            f"{path} is no mask of black and white: {seen}, where 0 for the background and 255 for the object were "
            "expected; save it with these two values"
        )
    return white.to(torch.uint8)


def _read_all(pairs: Sequence[Pair], size: int, progress: bool | None) -> ImageSet:
    """All images and masks, in memory, read by threads."""
    require_memory(len(pairs), (4, size, size))  # three colours and the mask
    images = torch.empty((len(pairs), 3, size, size), dtype=torch.uint8)
    masks = torch.empty((len(pairs), size, size), dtype=torch.uint8)

    def load(row: int) -> None:
        images[row], masks[row] = read_pair(pairs[row], size)

    disable = None if progress is None else not progress
    with ThreadPoolExecutor(processors()) as pool:
        read: Iterable[None] = pool.map(load, range(len(pairs)))
        deque(tqdm(read, "reading images and masks", len(pairs), unit="image", disable=disable), maxlen=0)
    return ImageSet(images, masks)
