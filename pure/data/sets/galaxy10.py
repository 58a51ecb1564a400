"""Galaxy10 DECaLS (Leung and Bovy): 17,736 colour images of galaxies, 256 x 256 pixels, in ten classes (section 4.1.1).

The images are cut from the DESI Legacy Imaging Surveys, the labels come from the volunteers of Galaxy Zoo.  A file of
the same layout that says of itself that it is synthetic is read by the same code and never passes for the real one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import h5py  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.cluster import DBSCAN
from torch import Tensor
from torchvision.datasets import VisionDataset

from pure.data.augment import parse
from pure.data.images import Images, Subset
from pure.data.preparation import augment_once
from pure.data.splits import Splits, grouped_split, stratified_split
from pure.data.storage.download import ChecksumError, fetch, file_sha256
from pure.data.storage.hdf5 import HDF5Images, stored_by_image
from pure.data.storage.root import data_root, missing

__all__ = [
    "COUNTS",
    "FILE",
    "SHA256",
    "URL",
    "Galaxy10DECaLS",
    "divide_galaxies",
    "download",
    "galaxy10",
    "leaks",
    "verify",
]

URL = "https://zenodo.org/records/10845026/files/Galaxy10_DECals.h5"
FILE = "Galaxy10_DECals.h5"
SHA256 = "19aefc477c41bb7f77ff07599a6b82a038dc042f889a111b0d4d98bb755c1571"

COUNTS: Mapping[str, int] = {
    "Disturbed": 1081,
    "Merging": 1853,
    "Round Smooth": 2645,
    "In-between Round Smooth": 2027,
    "Cigar Shaped Smooth": 334,
    "Barred Spiral": 2043,
    "Unbarred Tight Spiral": 1829,
    "Unbarred Loose Spiral": 2628,
    "Edge-on without Bulge": 1423,
    "Edge-on with Bulge": 1873,
}
"""The classes in the order of their labels, and how many images the documentation gives to each."""

_SIZE = 256  # pixels, of the published images
_COLUMNS = ("ra", "dec", "redshift", "pxscale")


class Galaxy10DECaLS(VisionDataset):  # type: ignore[misc, unused-ignore]  # torchvision carries no types
    """The images as Pillow images with their labels, in torchvision's manner; read on demand.

    What a training needs, tensors and many at once, is in :attr:`images`.

    Args:
        root: the folder that holds the file.
        download: get the file, 2.7 GB, if it is not there; an interrupted download goes on where it ended.
        transform: applied to each image.
        target_transform: applied to each label.
        file: its name.

    Attributes:
        classes: names of the classes, in the order of the labels.
        class_to_idx: label of each name.
        targets: the labels, shape ``(N,)``, int64.
        ra, dec: right ascension and declination in degrees, shape ``(N,)``.
        redshift: shape ``(N,)``; NaN where unknown.
        pxscale: arc seconds per pixel, shape ``(N,)``.
        synthetic: whether the file says of itself that it holds no observations.

    Raises:
        FileNotFoundError: the file is not there; the message says how to get it.
        ValueError: it is no HDF5 file or truncated, lacks a key, has another shape, dtype, label or other counts than
            documented.
    """

    def __init__(
        self,
        root: str | Path,
        download: bool = False,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        file: str = FILE,
    ) -> None:
        super().__init__(str(root), transform=transform, target_transform=target_transform)
        self.path = Path(root) / file
        if download:
            if file != FILE:
                raise ValueError(f"only {FILE} can be downloaded, not {file}")
            fetch(URL, self.path, SHA256)
        if not self.path.is_file():
            raise missing("galaxy10", "Galaxy10 DECaLS", Path(root), [file])
        self.classes = list(COUNTS)
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        columns = self._read_columns()
        self.targets = torch.from_numpy(columns["ans"].astype(np.int64))
        self.ra, self.dec, self.redshift, self.pxscale = (columns[name] for name in _COLUMNS)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        pixels, target = self.images[index]
        image, label = Image.fromarray(pixels.permute(1, 2, 0).numpy()), target
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def extra_repr(self) -> str:
        """The classes with their counts, for ``repr``."""
        rows = [f"{label} {name}: {count:,}" for label, (name, count) in enumerate(self.counts.items())]
        return "\n".join([f"Synthetic: {self.synthetic}", *rows])

    @property
    def name(self) -> str:
        """``galaxy10``, or ``galaxy10-synthetic``."""
        return "galaxy10-synthetic" if self.synthetic else "galaxy10"

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of images of each class."""
        return dict(zip(self.classes, self.targets.bincount(minlength=len(self.classes)).tolist(), strict=True))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file; of the real one it takes seconds."""
        return file_sha256(self.path)

    @cached_property
    def images(self) -> HDF5Images:
        """The images as tensors, one or many at once; their digest is that of the file."""
        return HDF5Images(self.path, self.targets, self.sha256)

    def positions(self, tolerance: float = 1.0) -> Tensor:
        """Which position on the sky each image shows: images within the tolerance of each other share a number.

        Neighbours are joined in chains: the first and the last of a chain may be further apart.

        Args:
            tolerance: arc seconds; the pixels of the images are 0.262 wide.

        Returns:
            Numbers of positions, shape ``(N,)``, int64.

        Raises:
            ValueError: a tolerance that is not positive.
        """
        if not 0 < tolerance < 3600:  # NaN fails
            raise ValueError(f"expected a tolerance above 0 and below 3600 arc seconds, got {tolerance}")
        radians = np.deg2rad(np.stack([self.dec, self.ra], axis=1))
        clusters = DBSCAN(np.deg2rad(tolerance / 3600), min_samples=1, metric="haversine", algorithm="ball_tree")
        return torch.from_numpy(clusters.fit(radians).labels_.astype(np.int64))

    def verify(self) -> str:
        """Read the whole file and prove it: the published one by its SHA-256, a synthetic one by reading each image.

        Returns:
            What was checked, and the counts, in words.

        Raises:
            ChecksumError: the file is not the published one.
            OSError: it cannot be read.
        """
        counts = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        if self.synthetic:
            for rows in torch.arange(len(self)).split(self.images.rows_at_once):
                self.images.read(rows)
            return f"{self.name} in {self.path}: {len(self):,} synthetic images, each read; {counts}"
        if self.sha256 != SHA256:
            raise ChecksumError(
                f"{self.path} has the layout of Galaxy10 DECaLS, but its SHA-256 is {self.sha256}, expected {SHA256}; "
                f"move it elsewhere and get the published one: python -m pure.data galaxy10 --data {self.root} "
                "--download"
            )
        return f"{self.name} in {self.path}: {len(self):,} images, SHA-256 and counts as documented; {counts}"

    def _read_columns(self) -> dict[str, NDArray[Any]]:
        """All but the pixels, checked."""
        command = f"python -m pure.data galaxy10 --data {self.root} --download"
        again = f"move it elsewhere, it may be yours, and get the published one: {command}"
        try:
            with h5py.File(self.path, "r", locking="best-effort") as file:
                lacking = [key for key in ("images", "ans", *_COLUMNS) if not isinstance(file.get(key), h5py.Dataset)]
                if lacking:
                    raise ValueError(
                        f"{self.path} lacks {', '.join(lacking)}; it holds {', '.join(file) or 'nothing'}: it is not "
                        f"Galaxy10 DECaLS; {again}"
                    )
                self.synthetic = bool(file.attrs.get("synthetic", False))
                images = file["images"]
                shape, dtype = images.shape, images.dtype
                columns = {key: np.asarray(file[key][...]) for key in ("ans", *_COLUMNS)}
        except OSError as error:
            raise ValueError(
                f"{self.path} ({self.path.stat().st_size:,} bytes) is truncated or no HDF5 file ({error}); {again}"
            ) from error
        size = shape[1] if self.synthetic and len(shape) == 4 else _SIZE
        if dtype != np.uint8 or len(shape) != 4 or shape[1:] != (size, size, 3) or shape[0] == 0:
            raise ValueError(
                f"{self.path}: expected images of shape (N, {size}, {size}, 3) and dtype uint8, got {shape} and "
                f"{dtype}; {again}"
            )
        for key, column in columns.items():
            kind = "iu" if key == "ans" else "f"
            if column.shape != shape[:1] or column.dtype.kind not in kind:
                expected = "integers" if key == "ans" else "floating-point numbers"
                raise ValueError(
                    f"{self.path}: expected {shape[0]} {expected} in {key!r}, got shape {column.shape} and dtype "
                    f"{column.dtype}; {again}"
                )
        labels, ra, dec = columns["ans"], columns["ra"], columns["dec"]
        if labels.min() < 0 or labels.max() >= len(COUNTS):
            raise ValueError(
                f"{self.path}: labels from {labels.min()} to {labels.max()}, expected 0 to {len(COUNTS) - 1}; {again}"
            )
        if not ((ra >= 0) & (ra <= 360) & (dec >= -90) & (dec <= 90)).all():  # NaN fails
            raise ValueError(f"{self.path}: right ascensions or declinations are out of range or not finite; {again}")
        if not self.synthetic:
            self._require_documented_counts(labels, again)
        return columns

    def _require_documented_counts(self, labels: NDArray[Any], again: str) -> None:
        counts = np.bincount(labels, minlength=len(COUNTS)).tolist()
        wrong = [
            f"{name} {found:,} (documented {count:,})"
            for (name, count), found in zip(COUNTS.items(), counts, strict=True)
            if found != count
        ]
        if wrong:
            raise ValueError(
                f"{self.path} has {len(labels):,} images, documented are {sum(COUNTS.values()):,}; other counts: "
                f"{', '.join(wrong)}. A file of simulated galaxies has the attribute synthetic=True; else {again}"
            )


def galaxy10(
    root: str | Path | None = None,
    split: Literal["stratified", "by-position"] = "stratified",
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    split_seed: int = 0,
    tolerance: float = 1.0,
    static_augmentation: str | None = "rotate(180)+flip+resized-crop(256)",
    augmentation_seed: int = 0,
    in_memory: bool = False,
    cache: str | Path | None = None,
    download: bool = False,
    progress: bool | None = None,
) -> Splits:
    """Galaxy10 DECaLS, its checksum proved, divided, the training images doubled by static augmentation.

    Args:
        root: the folder that holds the file, see :func:`pure.data.storage.root.data_root`.
        split: see :func:`divide_galaxies`, as for all that is not named here.
        fractions: shares of training, validation and test set.
        split_seed: fixes the division.
        tolerance: arc seconds within which two images show the same position.
        static_augmentation: of each training image once more; None or ``"none"`` leaves the training set as it is.
        augmentation_seed: of what is drawn for it.
        in_memory: keep the pixels in memory.
        cache: folder for what is made of the file, up to 6.3 GB; ``cache`` below the root by default.
        download: get the file if it is not there.
        progress: whether bars are shown; None shows them on a terminal only.

    Raises:
        FileNotFoundError, ValueError: as :class:`Galaxy10DECaLS` and :func:`divide_galaxies`; ValueError too for a
            synthetic file, and its kind ChecksumError for one that is not the published.
        OSError: the cache cannot be written.
    """
    folder = data_root(root)
    dataset = Galaxy10DECaLS(folder, download=download)
    _verify_published(dataset)
    return divide_galaxies(
        dataset,
        split=split,
        fractions=fractions,
        split_seed=split_seed,
        tolerance=tolerance,
        static_augmentation=static_augmentation,
        augmentation_seed=augmentation_seed,
        in_memory=in_memory,
        cache=folder / "cache" if cache is None else cache,
        progress=progress,
    )


def divide_galaxies(
    dataset: Galaxy10DECaLS,
    *,
    split: Literal["stratified", "by-position"] = "stratified",
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    split_seed: int = 0,
    tolerance: float = 1.0,
    static_augmentation: str | None = None,
    augmentation_seed: int = 0,
    in_memory: bool = False,
    cache: str | Path = "cache",
    progress: bool | None = None,
) -> Splits:
    """Divide a file of galaxies, real or synthetic.

    Args:
        dataset: the file.
        split: ``"stratified"``: at random, each class with its share in each part, as the paper's figures suggest;
            ``"by-position"``: the same, but images of one position on the sky all go to one part.
        fractions: shares of training, validation and test set.
        split_seed: fixes the division.
        tolerance: arc seconds within which two images show the same position; by position only.
        static_augmentation: each training image once more, drawn once and kept (section 4.1.2); None or ``"none"``
            leaves the training set as it is.
        augmentation_seed: of what is drawn for it.
        in_memory: keep the pixels in memory.  Without, a loader reads them once if they fit on its device, and
            workers read them from the file otherwise.  With it, a loader on the CPU holds them a second time.
        cache: folder for the augmented images, and, unless they are kept in memory, for a copy of the others that is
            not packed, if the file packs many together.
        progress: whether bars are shown; None shows them on a terminal only.

    Returns:
        Images ``(3, H, W)``, uint8; first the training images, then all of them augmented, in the same order.

    Raises:
        ValueError: an unknown kind of split or augmentation, or fractions that cannot be.
        OSError: the cache cannot be written.
    """
    labels = dataset.targets
    if split == "stratified":
        parts = stratified_split(labels, fractions, split_seed, dataset.classes)
    elif split == "by-position":
        parts = grouped_split(labels, dataset.positions(tolerance), fractions, split_seed)
    else:
        raise ValueError(f"unknown split {split!r}; known are 'stratified' and 'by-position'")
    augmentation = parse(static_augmentation or "none")  # an unknown one is refused before anything is made
    images = dataset.images.in_memory(progress) if in_memory else stored_by_image(dataset.images, cache, progress)
    original, validation, test = (Subset(images, rows) for rows in parts)
    train: Images = original
    if augmentation.steps:
        train = augment_once(original, augmentation.text, augmentation_seed, cache, in_memory, progress)
    rows = dict(zip(("train", "validation", "test"), parts, strict=True))
    classes = tuple(dataset.classes)
    return Splits(dataset.name, classes, train, validation, test, rows=rows, synthetic=dataset.synthetic)


def leaks(rows: Mapping[str, Tensor], positions: Tensor) -> dict[tuple[str, str], int]:
    """How many positions on the sky two parts of a division share.

    Args:
        rows: of each part, such as :attr:`pure.data.splits.Splits.rows`.
        positions: of all rows, shape ``(N,)``, such as :meth:`Galaxy10DECaLS.positions` gives.

    Returns:
        For each two parts, the number of positions that occur in both.
    """
    found = {part: set(positions[chosen].tolist()) for part, chosen in rows.items()}
    return {(one, other): len(found[one] & found[other]) for one, other in itertools.combinations(rows, 2)}


def download(root: str | Path | None = None) -> Path:
    """Get the published file, 2.7 GB, proved by its SHA-256; an interrupted download goes on where it ended.

    Returns:
        The file.
    """
    return fetch(URL, data_root(root) / FILE, SHA256)


def verify(root: str | Path | None = None) -> str:
    """Read the whole published file and prove it; what was checked, in words.

    Raises:
        FileNotFoundError, ValueError: as :func:`galaxy10`.
    """
    return _verify_published(Galaxy10DECaLS(data_root(root)))


def _verify_published(dataset: Galaxy10DECaLS) -> str:
    if dataset.synthetic:
        raise ValueError(
            f"{dataset.path} holds synthetic galaxies and cannot stand for Galaxy10 DECaLS: load galaxy10-synthetic, "
            f"or move it and get the published file: python -m pure.data galaxy10 --data {dataset.root} --download"
        )
    return dataset.verify()
