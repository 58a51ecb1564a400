"""Folders of images and masks: three layouts, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pure import data
from pure.data.storage.masks import find_pairs, read_pair


def write(path: Path, pixels: np.ndarray | None = None, size: tuple[int, int] = (20, 30)) -> None:  # type: ignore[type-arg]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, dtype=np.uint8) if pixels is None else pixels).save(path)


def square(size: tuple[int, int] = (20, 30), at: int = 4, level: int = 255) -> np.ndarray:  # type: ignore[type-arg]
    mask = np.zeros(size, dtype=np.uint8)
    mask[at : at + 10, at : at + 10] = level
    return mask


def isic(root: Path, parts: tuple[str, ...] = ("Training", "Validation", "Test")) -> Path:
    for number, part in enumerate(parts):
        for row in range(10 if part == "Training" else 2):
            name = f"ISIC_{number}{row:06}"
            write(root / f"ISIC2018_Task1-2_{part}_Input" / f"{name}.jpg")
            write(root / f"ISIC2018_Task1-2_{part}_Input" / f"{name}_superpixels.png")
            write(root / f"ISIC2018_Task1_{part}_GroundTruth" / f"{name}_segmentation.png", square())
        (root / f"ISIC2018_Task1-2_{part}_Input" / "LICENSE.txt").write_text("CC")
    return root


def kvasir(root: Path, number: int = 10) -> Path:
    for row in range(number):
        write(root / "images" / f"{row}.jpg")
        write(root / "masks" / f"{row}.jpg", square())
    return root


def busi(root: Path) -> Path:
    for group in ("benign", "malignant", "normal"):
        for row in range(10):
            write(root / group / f"{group} ({row}).png")
            mask = np.zeros((20, 30), dtype=np.uint8) if group == "normal" else square()
            write(root / group / f"{group} ({row})_mask.png", mask)
    write(root / "benign" / "benign (3)_mask_1.png", square(at=9))
    return root


def test_isic_stays_divided_as_it_is_published(tmp_path: Path) -> None:
    splits = data.load("mask-folder", isic(tmp_path), size=16)
    assert {name: len(part) for name, part in splits.parts.items()} == {"train": 10, "validation": 2, "test": 2}
    assert splits.train.images.shape == (10, 3, 16, 16)  # type: ignore[attr-defined]
    assert splits.train.labels.flatten(1).any(1).all()
    assert splits.classes == ("background", "object")


def test_the_command_counts_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pure.data.__main__ import main

    assert main(["mask-folder", "--data", str(kvasir(tmp_path)), "--data-option", "size=20", "--stats"]) == 0
    shown = capsys.readouterr().out
    assert "object" in shown
    assert "background" in shown


def test_the_training_images_of_isic_alone_are_divided(tmp_path: Path) -> None:
    splits = data.load("mask-folder", isic(tmp_path, ("Training",)), size=16)
    assert [len(part) for part in splits.parts.values()] == [8, 1, 1]
    isic(tmp_path, ("Test",))
    with pytest.raises(FileNotFoundError, match="holds Training and Test of ISIC 2018; add the others"):
        find_pairs(tmp_path)


def test_masks_in_jpeg_are_black_and_white_again(tmp_path: Path) -> None:
    (pair, *_) = find_pairs(kvasir(tmp_path / "Kvasir-SEG").parent)
    image, mask = read_pair(pair)
    assert image.shape == (3, 20, 30)
    assert torch.equal(mask, torch.from_numpy(square(level=1)))


def test_busi_joins_masks_and_holds_empty_images(tmp_path: Path) -> None:
    pairs = find_pairs(busi(tmp_path / "Dataset_BUSI_with_GT").parent)
    assert [pair.group for pair in pairs] == ["benign"] * 10 + ["malignant"] * 10 + ["normal"] * 10
    _, mask = read_pair(pairs[3])
    assert torch.equal(mask, torch.from_numpy(square(level=1) | square(at=9, level=1)))
    splits = data.load("mask-folder", tmp_path, size=16)
    for part, empty in (("train", 8), ("validation", 1), ("test", 1)):
        assert (splits.parts[part].labels.flatten(1).sum(1) == 0).sum().item() == empty


def test_image_and_mask_are_resized_alike(tmp_path: Path) -> None:
    pixels = np.repeat(square()[..., None], 3, 2)
    write(tmp_path / "images" / "a.png", pixels)
    write(tmp_path / "masks" / "a.png", square())
    image, mask = read_pair(find_pairs(tmp_path)[0], 40)
    assert type(image) is type(mask) is torch.Tensor
    assert mask.unique().tolist() == [0, 1]
    assert mask.sum().item() == pytest.approx(100 * 2 * 4 / 3, rel=0.1)
    assert ((image[0] > 127) == (mask > 0)).float().mean().item() > 0.97


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no images with masks: expected images/ and masks/ .* --data"):
        data.load("mask-folder", tmp_path)
    kvasir(tmp_path)
    (tmp_path / "masks" / "3.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 10 images have no mask in .*masks: 3\.jpg; add their masks, or"):
        find_pairs(tmp_path)
    (tmp_path / "images" / "3.jpg").unlink()
    (tmp_path / "images" / "4.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 masks in .*masks belong to no image: 4; add their images, or"):
        find_pairs(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"images holds no image \(\.jpg, .*unpack the archive there"):
        find_pairs(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    isic(tmp_path, ("Training",))
    (tmp_path / "ISIC2018_Task1_Training_GroundTruth").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"Training_GroundTruth is not there, but what belongs to it is"):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("mask", "suffix", "message"),
    [
        (square((20, 29)), "png", r"0\.png has 29 x 20 pixels, and its image 0\.jpg has 30 x 20; get the mask of this"),
        (square(level=1), "png", r"0\.png is no mask of black and white: it has the values 0, 1, where 0 .* and 255 "),
        (square(level=128), "jpg", r"0\.jpg is no mask of black and white: \d+ % of its pixels are grey, where 0"),
    ],
)
def test_a_wrong_mask_is_named(tmp_path: Path, mask: np.ndarray, suffix: str, message: str) -> None:  # type: ignore[type-arg]
    kvasir(tmp_path)
    (tmp_path / "masks" / "0.jpg").unlink()
    write(tmp_path / "masks" / f"0.{suffix}", mask)
    with pytest.raises(ValueError, match=message):
        data.load("mask-folder", tmp_path, size=16)


def test_a_damaged_file_and_a_wrong_size_are_named(tmp_path: Path) -> None:
    kvasir(tmp_path)
    with pytest.raises(ValueError, match="expected a size of at least 1 pixel, got 0"):
        data.load("mask-folder", tmp_path, size=0)
    (tmp_path / "images" / "2.jpg").write_bytes(b"no image")
    with pytest.raises(OSError, match=r"cannot read .*2\.jpg: it is not an image \(8 bytes\); replace the file"):
        data.load("mask-folder", tmp_path, size=16)
