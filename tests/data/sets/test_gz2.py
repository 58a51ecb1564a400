"""Galaxy Zoo 2: classes by votes, from a tree and from Kaggle's files."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pure.data import describe, load
from pure.data.sets.gz2 import CLASSES, COLUMNS, COUNTS, clean_class, gz2, verify
from pure.data.storage.folders import UnreadableImageError


def votes(**shares: float) -> dict[str, float]:
    """A row of Kaggle's table; ``c71=0.4`` stands for ``Class7.1``."""
    given = {f"Class{name[1]}.{name[2]}": share for name, share in shares.items()}
    return {column: given.get(column, 0.0) for column in COLUMNS}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (votes(c11=0.469, c12=0.5, c71=0.2345), "smooth_round"),  # half of the 0.469
        (votes(c11=0.469, c71=0.234), None),
        (votes(c11=0.468, c71=0.468), None),
        (votes(c11=0.8, c71=0.1, c72=0.4, c73=0.3), "smooth_in_between"),
        (votes(c11=0.8, c71=0.1, c72=0.3, c73=0.4), "smooth_cigar"),
        (votes(c12=0.43, c21=0.25886, c22=0.17114), "edge_on"),  # 0.602 of 0.43
        (votes(c12=0.43, c21=0.2580, c22=0.172), None),
        (votes(c12=0.429, c21=0.429), None),
        (votes(c12=0.8, c21=0.2279, c22=0.5721, c41=0.35414), "spiral"),  # just above 0.715 of 0.8, 0.619 of that
        (votes(c12=0.8, c21=0.228, c22=0.572, c41=0.354), None),
        (votes(c12=0.8, c21=0.230, c22=0.570, c41=0.57), None),
    ],
)
def test_classes_by_the_thresholds(row: dict[str, float], expected: str | None) -> None:
    assert clean_class(row) == expected


ROWS = {
    "edge_on": votes(c12=1.0, c21=1.0),
    "smooth_cigar": votes(c11=1.0, c73=1.0),
    "smooth_in_between": votes(c11=1.0, c72=1.0),
    "smooth_round": votes(c11=1.0, c71=1.0),
    "spiral": votes(c12=1.0, c22=1.0, c41=1.0),
    "": votes(c11=0.4, c12=0.4),
}


def image(galaxy: int, side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(galaxy).integers(0, 256, (side, side, 3), dtype=np.uint8))


def write_kaggle(folder: Path, each: int = 10) -> Path:
    """Galaxies of each class, and some without one, as Kaggle's files have them."""
    (folder / "images_training_rev1").mkdir(parents=True)
    with (folder / "training_solutions_rev1.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["GalaxyID", *COLUMNS])
        table.writeheader()
        for number in range(each):
            for k, row in enumerate(ROWS.values()):
                galaxy = 100_000 + 10 * number + k
                table.writerow({"GalaxyID": galaxy, **row})
                image(galaxy, 24).save(folder / "images_training_rev1" / f"{galaxy}.jpg")
    return folder


def galaxies(label: int) -> list[int]:
    """Those of a class in the order of the SHA-1 of their numbers: one to test, one to validate, the rest to train."""
    numbers = [100_000 + 10 * number + label for number in range(10)]
    return sorted(numbers, key=lambda galaxy: hashlib.sha1(str(galaxy).encode()).hexdigest())


def test_kaggles_files_are_divided_by_the_hash_of_each_galaxy(tmp_path: Path) -> None:
    write_kaggle(tmp_path / "gz2")
    splits = gz2(tmp_path)
    assert (splits.name, splits.classes) == ("gz2-clean5", CLASSES)
    counts = {name: part.labels.bincount().tolist() for name, part in splits.parts.items()}
    assert counts == {"train": [8] * 5, "validation": [1] * 5, "test": [1] * 5}
    for label in range(5):
        test, validation, *train = galaxies(label)
        assert [Path(splits.test.name(label)).stem] == [str(test)]  # type: ignore[attr-defined]
        assert [Path(splits.validation.name(label)).stem] == [str(validation)]  # type: ignore[union-attr]
        found = [Path(splits.train.name(row)).stem for row in range(8 * label, 8 * label + 8)]  # type: ignore[attr-defined]
        assert sorted(found) == sorted(map(str, train))
    assert splits.test[0][0].shape == (3, 24, 24)
    assert verify(tmp_path).endswith("50 images, every image decoded")


def test_a_tree_is_read_first_and_named_by_its_pixels(tmp_path: Path) -> None:
    write_kaggle(tmp_path / "gz2")
    for part, number in (("train", 4), ("val", 1), ("test", 1)):
        for label, name in enumerate(CLASSES):
            (tmp_path / "gz2" / part / name).mkdir(parents=True)
            for k in range(number):
                image(10 * label + k, 69).save(tmp_path / "gz2" / part / name / f"{k}.jpg")
    splits = gz2(tmp_path)
    assert (splits.name, splits.train.shape) == ("gz2-clean5-69", (3, 69, 69))
    assert [len(part) for part in splits.parts.values()] == [20, 5, 5]
    cropped = load("gz2", tmp_path, crop=64, per_class=3)
    assert (cropped.name, cropped.train.shape) == ("gz2-clean5-69-64px", (3, 64, 64))
    assert [len(part) for part in cropped.parts.values()] == [15, 5, 5]
    assert torch.equal(cropped.test[2][0], splits.test[2][0][:, 2:66, 2:66])


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"Galaxy Zoo 2 is not in .* \(looked for train/edge_on, .*Kaggle's Gal"
    ):
        gz2(tmp_path)
    folder = write_kaggle(tmp_path / "gz2")
    victim = folder / "images_training_rev1" / f"{galaxies(0)[0]}.jpg"
    content = victim.read_bytes()
    victim.write_bytes(content[:100])
    with pytest.raises(UnreadableImageError, match=rf"cannot read 1 of 50 images: .*{victim.name}"):
        verify(tmp_path)
    victim.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{victim.name} is missing, and .*training_solutions_rev1.csv names"):
        gz2(tmp_path)
    table = folder / "training_solutions_rev1.csv"
    text = table.read_text()
    table.write_text(text.replace("1.0", "7", 1))
    with pytest.raises(ValueError, match=r"training_solutions_rev1.csv, line 2: expected shares from 0 to 1; get the"):
        gz2(tmp_path)
    table.write_text(text.replace("Class7.3", "Class73"))
    with pytest.raises(ValueError, match=r"lacks Class7.3; it holds GalaxyID, Class1.1.*: it is not the vote table"):
        gz2(tmp_path)


def test_documented_counts_are_those_of_the_catalogue() -> None:
    assert sum(COUNTS.values()) == describe("gz2").images
    assert tuple(sorted(COUNTS)) == CLASSES
