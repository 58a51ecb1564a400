"""Galaxy Zoo 2 in five clean classes: galaxies of the Sloan survey on whose shape the volunteers agreed.

Willett et al. (2013) collected the votes; Zhu et al. (2019) kept the galaxies with a clear majority and five classes.
The images are those of Kaggle's Galaxy Zoo challenge.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from pure.data.splits import Splits
from pure.data.storage.folders import FolderImages, require_readable
from pure.data.storage.root import data_root, missing

__all__ = ["CLASSES", "COUNTS", "KaggleImages", "clean_class", "divide_by_hash", "gz2", "verify"]

COUNTS: Mapping[str, int] = {
    "edge_on": 3903,
    "smooth_cigar": 579,
    "smooth_in_between": 8069,
    "smooth_round": 8436,
    "spiral": 7806,
}
"""The classes in alphabetical order, as the folders of a tree, and how many galaxies of Kaggle's table are in each."""

CLASSES = tuple(COUNTS)

COLUMNS = ("Class1.1", "Class1.2", "Class2.1", "Class2.2", "Class4.1", "Class7.1", "Class7.2", "Class7.3")
"""Those of Kaggle's votes that decide (smooth, features or disc; edge-on, not; spiral; round, between, cigar)."""

_PARTS = ("train", "val", "test")
_TREES = ("gz2", "gz2clean5-69", "gz2-clean5", "")
_VOTES = "training_solutions_rev1.csv"
_IMAGES = "images_training_rev1"


def gz2(root: str | Path | None = None, progress: bool | None = None) -> Splits:
    """Galaxy Zoo 2, five clean classes, eight tenths to train, one to validate and one to test.

    Looked for are, below the root and in ``gz2`` there, a tree ``train|val|test/<class>/<GalaxyID>.jpg``, then Kaggle's
    files, ``images_training_rev1/<GalaxyID>.jpg`` and ``training_solutions_rev1.csv``.  The division is the same: see
    :func:`divide_by_hash`.  Images are read on demand; ``crop`` and ``size``, options of every data set,
    bring them into memory.

    Args:
        root: folder of the data sets, see :func:`pure.data.storage.root.data_root`.
        progress: whether bars are shown; None shows them on a terminal only.

    Returns:
        Images ``(3, H, W)``, uint8.  The name tells the source: ``gz2-clean5-69`` for a tree of images of 69 pixels,
        cut from the central 207 of Kaggle's 424; ``gz2-clean5`` for Kaggle's own.

    Raises:
        FileNotFoundError: neither is there; what was looked for is named.
        ValueError: the tree has other classes, or the vote table lacks a column or holds something else than shares.
    """
    folder = data_root(root)
    tree = next((folder / name for name in _TREES if (folder / name / "train" / CLASSES[0]).is_dir()), None)
    if tree is not None:
        train, validation, test = (FolderImages(tree / part, CLASSES, progress=progress) for part in _PARTS)
        return Splits(f"gz2-clean5-{train[0][0].shape[-1]}", CLASSES, train, validation, test)
    kaggle = next((folder / name for name in _TREES if (folder / name / _VOTES).is_file()), None)
    if kaggle is None:
        raise missing(
            "gz2",
            "Galaxy Zoo 2",
            folder,
            [f"train/{CLASSES[0]}", f"gz2/train/{CLASSES[0]}", f"{_VOTES} and {_IMAGES}"],
            "get the training images and their votes from Kaggle's Galaxy Zoo challenge and unpack them there",
        )
    images = KaggleImages(kaggle)
    rows = dict(zip(("train", "validation", "test"), divide_by_hash(images), strict=True))
    train, validation, test = map(images.subset, rows.values())
    return Splits("gz2-clean5", CLASSES, train, validation, test, rows=rows)


def verify(root: str | Path | None = None, progress: bool | None = None) -> str:
    """Decode every image.

    Returns:
        What was checked, in words.

    Raises:
        FileNotFoundError, ValueError: as :func:`gz2`.
        UnreadableImageError: some images cannot be read; they are counted and named.
    """
    trees = [cast(FolderImages, part) for part in gz2(root, progress).parts.values()]
    return require_readable(trees, progress)


def clean_class(votes: dict[str, float]) -> str | None:
    """The class on which the volunteers agreed; None where they did not.

    The thresholds are those of Zhu et al. (2019, table 1), on the share of each answer among those who were asked the
    question.  Kaggle's table holds products along the way to a question, which are divided here.

    Args:
        votes: the columns :data:`COLUMNS` of a row of Kaggle's table, each from 0 to 1.
    """
    smooth, features = votes["Class1.1"], votes["Class1.2"]
    if smooth >= 0.469:
        for name, column in (("smooth_round", 1), ("smooth_in_between", 2), ("smooth_cigar", 3)):
            if votes[f"Class7.{column}"] / smooth >= 0.50:
                return name
    if features >= 0.430:
        edge_on, face_on = votes["Class2.1"] / features, votes["Class2.2"] / features
        if edge_on >= 0.602:
            return "edge_on"
        if face_on >= 0.715 and votes["Class4.1"] / votes["Class2.2"] >= 0.619:
            return "spiral"
    return None


class KaggleImages(FolderImages):
    """The galaxies of Kaggle's challenge that have a clean class, read from its one folder of images.

    Args:
        root: the folder that holds the vote table and the folder of images.

    Raises:
        FileNotFoundError: an image that the table names is not there.
        ValueError: the table is not Kaggle's.
    """

    def __init__(self, root: Path) -> None:
        found = sorted((CLASSES.index(name), galaxy) for galaxy, name in _clean_galaxies(root / _VOTES))
        if not found:
            raise ValueError(f"{root / _VOTES} holds no galaxy with a clean class")
        self.root, self.classes, self._cache = root / _IMAGES, CLASSES, None
        self.labels = torch.tensor([label for label, _ in found])
        self._names = np.array([f"{galaxy}.jpg".encode() for _, galaxy in found])
        try:
            sizes = [self.path(row).stat().st_size for row in range(len(found))]
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error.filename} is missing, and {root / _VOTES} names it; unpack {_IMAGES}.zip again"
            ) from None
        self._sizes = np.array(sizes, dtype=np.int64)

    def relative_path(self, index: int) -> str:
        """The file, which lies in no folder of its class."""
        return bytes(self._names[index]).decode()


def divide_by_hash(images: FolderImages) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows to train, to validate and to test: the same on every machine, and without a seed.

    In each class the galaxies are ordered by the SHA-1 of their number; the first tenth is to test, the second to
    validate, the rest to train.
    """
    names = [Path(images.relative_path(row)).stem for row in range(len(images))]
    hashes = np.array([hashlib.sha1(name.encode()).hexdigest() for name in names])
    parts: tuple[list[int], list[int], list[int]] = [], [], []
    for label in range(len(images.classes)):
        rows = np.flatnonzero(images.labels.numpy() == label)
        ordered = rows[np.argsort(hashes[rows])].tolist()
        tenth = len(ordered) // 10
        for part, chosen in zip(
            parts, (ordered[2 * tenth :], ordered[tenth : 2 * tenth], ordered[:tenth]), strict=True
        ):
            part += chosen
    train, validation, test = (torch.tensor(sorted(part), dtype=torch.int64) for part in parts)
    return train, validation, test


def _clean_galaxies(table: Path) -> Iterator[tuple[str, str]]:
    """Number and class of each galaxy that has one."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        _require_columns(table, rows.fieldnames or ())
        for row in rows:
            try:
                votes = {column: float(row[column]) for column in COLUMNS}
                if not all(0 <= share <= 1 for share in votes.values()):  # NaN fails
                    raise ValueError("expected shares from 0 to 1")
                name = clean_class(votes)
            except (TypeError, ValueError, ZeroDivisionError) as error:
                raise ValueError(f"{table}, line {rows.line_num}: {error}; get the table again") from None
            if name is not None:
                yield row["GalaxyID"], name


def _require_columns(table: Path, found: Sequence[str]) -> None:
    lacking = [column for column in ("GalaxyID", *COLUMNS) if column not in found]
    if lacking:
        raise ValueError(
            f"{table} lacks {', '.join(lacking)}; it holds {', '.join(found) or 'nothing'}: it is not the vote table "
            "of Kaggle's Galaxy Zoo challenge"
        )
