"""How labelled images are divided into training, validation and test set, and the proof of which they were.

A division is *written down*: the rows of each part, a hash over the content, and the statistics for normalization.  A
later run is refused if the division or the images are others.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Tensor

from pure.data.images import Images, ImageSet, read, rows_in_chunks, sha256_of
from pure.data.storage.files import write_atomically
from pure.wording import some

__all__ = [
    "SplitFile",
    "Splits",
    "grouped_split",
    "holdout",
    "read_split",
    "stratified_split",
]


@dataclass(frozen=True)
class Splits:
    """A data set, divided.

    Attributes:
        name: the data set and its variant.
        classes: names of the classes, in the order of the labels.
        train: what the weights are fitted to, and what the statistics for normalization are computed on.
        validation: what a schedule or a selection may look at; None if nothing is held out.
        test: what is looked at once, at the end.
        white: the highest grey level.
        rows: of each part, the rows of the source in the order used; None if the data set comes divided.
        normalization: fixed mean and standard deviation, ``(C,)`` each in grey levels, where they are not to be
            computed on the training set.
        synthetic: whether the images are simulated.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    validation: Images | None
    test: Images
    white: int = 255
    rows: Mapping[str, Tensor] | None = None
    normalization: tuple[Tensor, Tensor] | None = None
    synthetic: bool = False

    @property
    def parts(self) -> dict[str, Images]:
        """The parts that there are by name, ``train``, ``validation`` and ``test``."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    @cached_property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel over the training set, shape ``(C,)`` each, grey levels.

        The set is read in chunks; the sums of uint8 images are exact.
        """
        if self.normalization is not None:
            return self.normalization
        pixels = 0
        total, squares = torch.zeros(2, self.train[0][0].shape[0], dtype=torch.float64)  # whole numbers up to 2**53
        levels = torch.arange(256)
        for chunk in _chunks(self.train):
            pixels += chunk.numel() // chunk.shape[1]
            if chunk.dtype == torch.uint8:  # counted: ten times as fast as adding up each pixel and its square
                counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in chunk.unbind(1)])
                total += (counts * levels).sum(1)
                squares += (counts * levels.square()).sum(1)
            else:
                exact = chunk.double()
                total += exact.sum((0, 2, 3))
                squares += exact.square().sum((0, 2, 3))
        mean = total / pixels
        return mean.float(), (squares / pixels - mean**2).clamp(min=0).sqrt().float()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the three sets, in their order; the same hash means the same split.

        It is taken over every pixel and label if all sets are in memory, else over their digests.
        """
        in_memory = [part for part in self.parts.values() if isinstance(part, ImageSet)]
        if len(in_memory) < len(self.parts):
            return sha256_of(f"{name} {part.digest}" for name, part in self.parts.items())
        digest = hashlib.sha256()
        for part in in_memory:
            part.add_to(digest)
        return digest.hexdigest()

    def write(self, path: Path | str) -> None:
        """Write the division down as JSON, whole or not at all; :func:`read_split` reads it."""
        mean, std = self.statistics
        content = {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "digest": {name: part.digest for name, part in self.parts.items()},
            "mean": mean.tolist(),
            "std": std.tolist(),
            "rows": None if self.rows is None else {name: rows.tolist() for name, rows in self.rows.items()},
        }
        write_atomically(Path(path), json.dumps(content).encode())


@dataclass(frozen=True)
class SplitFile:
    """A division as it was written down.

    Attributes:
        path: the file.
        name: the data set and its variant.
        fingerprint: :attr:`Splits.fingerprint`.
        digest: :attr:`pure.data.images.Images.digest` of each part.
        mean: shape ``(C,)``, grey levels.
        std: shape ``(C,)``, grey levels.
        rows: of each part, the rows of the source; None if the data set comes divided.
    """

    path: Path
    name: str
    fingerprint: str
    digest: Mapping[str, str]
    mean: Tensor
    std: Tensor
    rows: Mapping[str, Tensor] | None

    def check(self, splits: Splits) -> Splits:
        """The same splits, if they are those that were written down.

        Raises:
            ValueError: another data set, other images or another division; the parts that differ are named.
        """
        if splits.name != self.name:
            raise ValueError(f"{self.path} divides data set {self.name!r}, not {splits.name!r}")
        if splits.fingerprint != self.fingerprint:
            now = {name: part.digest for name, part in splits.parts.items()}
            differ = [name for name in {**self.digest, **now} if self.digest.get(name) != now.get(name)]
            raise ValueError(
                f"data set {self.name!r} is not the one that {self.path} divides: {', '.join(differ) or 'the parts'} "
                "differ; get the original files again, or move the file elsewhere to divide again"
            )
        return splits


def read_split(path: Path | str) -> SplitFile:
    """A written division.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a written division.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = content["rows"]
        return SplitFile(
            path=path,
            name=content["name"],
            fingerprint=content["fingerprint"],
            digest=content["digest"],
            mean=torch.tensor(content["mean"], dtype=torch.float32),
            std=torch.tensor(content["std"], dtype=torch.float32),
            rows=None if rows is None else {name: torch.tensor(part, dtype=torch.int64) for name, part in rows.items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a written split ({error}); move it elsewhere to divide again") from None


def stratified_split(
    labels: Tensor, fractions: tuple[float, float, float], seed: int, classes: Sequence[str] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Divide the rows so that every class keeps its share in each part.

    Args:
        labels: shape ``(N,)``, integer.
        fractions: shares of training, validation and test set; they add up to one.
        seed: fixes the division; the same on every machine.
        classes: names of the classes, for an error; by default their labels.

    Returns:
        Row numbers of the three parts, ascending, int64; together every row once.

    Raises:
        ValueError: the fractions are not three positive shares of one, or some classes are too small to be in each
            part: they are named, with their count and the number needed.
    """
    _require_shares(fractions)
    strata = labels.numpy()
    _, validation, test = fractions

    def cut() -> tuple[NDArray[np.int64], ...]:
        train, rest = train_test_split(
            np.arange(len(labels)), test_size=validation + test, stratify=strata, random_state=seed
        )
        share = test / (validation + test)
        return train, *train_test_split(rest, test_size=share, stratify=strata[rest], random_state=seed)

    where = "training, validation and test set"
    train, held_out, final = _with_every_class(cut, labels, _enough(fractions), where, classes)
    return train, held_out, final


def _enough(fractions: tuple[float, float, float]) -> int:
    """How many images of a class are surely in all three parts, whatever the other classes take of the roundings."""
    _, validation, test = fractions
    rest = validation + test
    for number in itertools.count(3):
        apart = math.floor(number * rest + 1e-9)
        smaller = math.floor(apart * min(validation, test) / rest + 1e-9)
        if smaller >= 1 and math.ceil(number * rest - 1e-9) < number:
            return number
    raise AssertionError


def _with_every_class(
    cut: Callable[[], Sequence[NDArray[np.int64]]],
    labels: Tensor,
    needed: int,
    where: str,
    classes: Sequence[str] | None,
) -> list[Tensor]:
    """The parts that a function of sklearn cuts, ascending, each with an image of every class.

    Raises:
        ValueError: a class is in fewer parts; the classes with fewer images than needed are named, the smallest first.
    """
    found, counts = labels.unique(return_counts=True)
    try:
        parts = [torch.from_numpy(np.sort(part)) for part in cut()]
    except ValueError:  # sklearn names the classes that a second cut finds too small, not those that a first cut lost
        parts = []
    if parts and all(len(labels[part].unique()) == len(found) for part in parts):
        return parts
    few = sorted((count, label) for label, count in zip(found.tolist(), counts.tolist(), strict=True) if count < needed)
    named = some(f"{classes[label] if classes else label} ({count})" for count, label in few)
    raise ValueError(
        f"{len(few)} of {len(found)} classes have too few images to be in {where}: {named}; {needed} of each are "
        "needed. Add some, leave these classes out, or divide by other shares"
    )


def grouped_split(
    labels: Tensor, groups: Tensor, fractions: tuple[float, float, float], seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Divide the rows so that no group lies in two parts, and every class about keeps its share in each.

    Larger groups come first, groups of one size in random order; each goes where its classes are farthest below their
    share.  With groups of one row that is a stratified random division.

    Args:
        labels: shape ``(N,)``, integer.
        groups: shape ``(N,)``, integer: rows with the same number stay together.
        fractions: shares of training, validation and test set; they add up to one.
        seed: fixes the division; the same on every machine.

    Returns:
        Row numbers of the three parts, ascending, int64; together every row once.

    Raises:
        ValueError: the fractions are not three positive shares of one, groups and labels differ in number, or a class
            lies in fewer than three groups.
    """
    _require_shares(fractions)
    if groups.shape != labels.shape:
        raise ValueError(f"expected a group for each of the {len(labels)} labels, got {tuple(groups.shape)}")
    classes, strata = np.unique(labels.numpy(), return_inverse=True)
    _, members = np.unique(groups.numpy(), return_inverse=True)
    counts = np.zeros((members.max(initial=-1) + 1, len(classes)), dtype=np.int64)  # (groups, classes)
    np.add.at(counts, (members, strata), 1)
    too_few = classes[(counts > 0).sum(0) < 3]
    if len(too_few):
        raise ValueError(f"class {too_few[0]} lies in fewer than three groups and cannot be in all three parts")
    shares = np.outer(fractions, counts.sum(0))  # (3, classes): images wanted
    wanted = shares.copy()
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    part_of = np.empty(len(counts), dtype=np.int64)
    for group in order:
        # Where the classes of this group lack most, relative to their share: a part fills up as fast as the others.
        part_of[group] = part = int(np.argmax((wanted / shares) @ counts[group]))
        wanted[part] -= counts[group]
    train, held_out, final = (torch.from_numpy(np.flatnonzero(part_of[members] == part)) for part in range(3))
    return train, held_out, final


def holdout(labels: Tensor, number: int, seed: int, classes: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
    """Hold out a number of rows so that every class keeps its share.

    Args:
        labels: shape ``(N,)``, integer.
        number: rows to hold out.
        seed: fixes the choice; the same on every machine.
        classes: names of the classes, for an error; by default their labels.

    Returns:
        Row numbers of the rest and of those held out, ascending, int64.

    Raises:
        ValueError: the number leaves a side without a row of each class, or some classes are too small to be on both
            sides: they are named, with their count and the number needed.
    """
    there = len(labels.unique())
    if not there <= number <= len(labels) - there:
        raise ValueError(
            f"cannot hold out {number} of {len(labels)} images: {there} classes need from {there} to "
            f"{len(labels) - there}"
        )

    def cut() -> Sequence[NDArray[np.int64]]:
        rows: Sequence[NDArray[np.int64]] = train_test_split(
            np.arange(len(labels)), test_size=number, stratify=labels.numpy(), random_state=seed
        )
        return rows

    needed = max(2, -(-len(labels) // min(number, len(labels) - number)))
    where = f"both the {number} held out and the other {len(labels) - number}"
    rest, held_out = _with_every_class(cut, labels, needed, where, classes)
    return rest, held_out


def _require_shares(fractions: tuple[float, float, float]) -> None:
    if len(fractions) != 3 or not (min(fractions) > 0 and abs(sum(fractions) - 1) < 1e-9):  # NaN fails both
        raise ValueError(f"expected three positive fractions that add up to 1, got {fractions}")


def _chunks(images: Images) -> Iterator[Tensor]:
    """All images in their order, ``(n, C, H, W)``; one by one if they differ in shape."""
    if images.shape is None:
        for row in range(len(images)):
            yield images[row][0].unsqueeze(0)
        return
    for rows in rows_in_chunks(images):
        yield images.images[rows[0] : rows[-1] + 1] if isinstance(images, ImageSet) else read(images, rows)
