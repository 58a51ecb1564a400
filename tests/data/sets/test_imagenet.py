"""ImageNet's tree: found, checked against the published counts, and explained where it is not sorted."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pure.data.sets import imagenet as module
from pure.data.sets.imagenet import MEAN, STD, check_counts, imagenet, verify

WNIDS = [f"n{i:08d}" for i in range(1000)]


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "pure"


def image(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((3, 4, 3), level, dtype=np.uint8)).save(path)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ILSVRC with three classes of two to three images, and one of validation for each."""
    monkeypatch.setattr(module, "CLASSES", 3)
    monkeypatch.setattr(module, "TRAIN", 7)
    monkeypatch.setattr(module, "TRAIN_PER_CLASS", (2, 3))
    monkeypatch.setattr(module, "VALIDATION_PER_CLASS", 1)
    for wnid, number in zip(WNIDS, (2, 3, 2), strict=False):
        for i in range(number):
            image(tmp_path / "ilsvrc" / "train" / wnid / f"{wnid}_{i}.JPEG", 40 * i)
        image(tmp_path / "ilsvrc" / "val" / wnid / f"ILSVRC2012_val_{wnid}.JPEG")
    return tmp_path / "ilsvrc"


def labels(counts: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(counts)).repeat_interleave(counts)


def published() -> torch.Tensor:
    """Numbers of images of a training tree that is allowed: from 732 to 1300 in a class, 1,281,167 in all."""
    counts = torch.full((1000,), 1300)
    counts[:895] = 1279  # 895 * 1279 + 105 * 1300 = 1,281,205
    counts[0] -= 38
    return counts


def test_the_published_counts_pass() -> None:
    check_counts("train", WNIDS, labels(published()))
    check_counts("val", WNIDS, labels(torch.full((1000,), 50)))


def test_counts_that_differ_are_named() -> None:
    counts = published()
    counts[7] = 731
    with pytest.raises(ValueError, match=r"train has 1,280,619 images; .* 732 to 1300 in .* n00000007 \(731\)\."):
        check_counts("train", WNIDS, labels(counts))
    counts = published()
    counts[5] -= 1  # within the limits of a class
    with pytest.raises(ValueError, match=r"train has 1,281,166 images; .* 732 to 1300 in a class\. Unpack the archive"):
        check_counts("train", WNIDS, labels(counts))
    counts = torch.full((1000,), 50)
    counts[[3, 4]] = torch.tensor([49, 51])  # the sum is right
    with pytest.raises(ValueError, match=r"val has 50,000 .* 50 in a class; .* n00000003 \(49\), n00000004 \(51\)\."):
        check_counts("val", WNIDS, labels(counts))


def test_other_numbers_of_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"train has 999 classes; ILSVRC 2012 has 1000\. .* as data set image-folder"):
        check_counts("train", WNIDS[:-1], torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"1002 classes, of which 2 are not WordNet numbers, .* \(tmp, n1\);"):
        check_counts("train", [*WNIDS, "tmp", "n1"], torch.zeros(1, dtype=torch.int64))


def test_validation_images_are_the_test_set(small: Path) -> None:
    splits = imagenet(small)
    assert (splits.name, splits.classes) == ("imagenet", tuple(WNIDS[:3]))
    assert (len(splits.train), splits.validation, len(splits.test)) == (7, None, 3)
    assert splits.train.name(4) == str(small / "train" / WNIDS[1] / f"{WNIDS[1]}_2.JPEG")
    assert splits.test[1][1] == 1


def test_statistics_are_the_published_ones(small: Path) -> None:
    mean, std = imagenet(small).statistics
    assert torch.allclose(mean, torch.tensor([123.675, 116.28, 103.53]))
    assert torch.allclose(std, torch.tensor([58.395, 57.12, 57.375]))
    assert mean is MEAN
    assert std is STD


def test_images_can_be_held_out(small: Path) -> None:
    splits = imagenet(small, holdout=3, split_seed=4)
    assert splits.rows is not None
    assert splits.validation.labels.tolist() == [0, 1, 2]
    names = {part.name(i) for part in (splits.train, splits.validation) for i in range(len(part))}
    assert (len(splits.train), len(names)) == (4, 7)


@pytest.mark.parametrize(
    "layout", ["", "imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC", "imagenet/ILSVRC/Data/CLS-LOC"]
)
def test_found_where_archives_put_it(small: Path, tmp_path: Path, layout: str) -> None:
    root = tmp_path / "data"
    (root / layout).parent.mkdir(parents=True, exist_ok=True)
    small.rename(root / layout)
    assert imagenet(root).test.name(0).startswith(str(root / layout / "val"))


def test_missing_tree_is_explained(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"ImageNet is not in {tmp_path} \(looked for train, imagenet/train, "):
        imagenet(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"ask for access at https://image-net\.org/download-images"):
        imagenet(tmp_path)


def test_missing_validation_tree_is_explained(small: Path) -> None:
    (small / "val").rename(small / "validation")
    with pytest.raises(FileNotFoundError, match=r"no folder .*/val, .* as test set; unpack ILSVRC2012_img_val\.tar"):
        imagenet(small)


def test_flat_validation_folder_is_explained_by_a_command_that_works(small: Path) -> None:
    lines = ["ImageId,PredictionString"]
    for number, wnid in enumerate(WNIDS[:3], start=1):
        (small / "val" / wnid / f"ILSVRC2012_val_{wnid}.JPEG").rename(
            small / "val" / f"ILSVRC2012_val_0000000{number}.JPEG"
        )
        (small / "val" / wnid).rmdir()
        lines.append(f"ILSVRC2012_val_0000000{number},{wnid} 1 2 3 4 {wnid} 5 6 7 8 ")
    (small / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"val holds 3 images without folders for their classes") as error:
        imagenet(small)
    assert f"""python -c "from torchvision.datasets import ImageNet; ImageNet('{small}', 'val')\"""" in str(error.value)
    command = re.search(r"^  (\(cd .*val .*\))$", str(error.value), re.MULTILINE)
    assert command is not None
    subprocess.run(["bash", "-ec", command[1]], check=True)
    splits = imagenet(small)
    assert [splits.test.relative_path(i) for i in range(3)] == [
        f"{wnid}/ILSVRC2012_val_0000000{number}.JPEG" for number, wnid in enumerate(WNIDS[:3], start=1)
    ]


def test_packed_classes_are_explained_by_a_command_that_works(small: Path) -> None:
    for folder in sorted((small / "train").iterdir()):
        with tarfile.open(folder.with_suffix(".tar"), "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.add(file, file.name)
                file.unlink()
        folder.rmdir()
    with pytest.raises(ValueError, match=r"train holds 3 archives of classes; unpack each") as error:
        imagenet(small)
    subprocess.run(["bash", "-ec", str(error.value).split("\n")[1].strip()], check=True)
    assert len(imagenet(small).train) == 7


def test_listings_are_kept_if_wanted(small: Path, caches: Path) -> None:
    imagenet(small, cache=False)
    assert not list(caches.glob("*.npz"))
    imagenet(small)
    assert len(list(caches.glob("*.npz"))) == 2


def test_unreadable_images_are_counted_and_left_out_when_told_to(small: Path) -> None:
    assert verify(small) == f"{small}/train, {small}/val: 10 images, every image decoded"
    damaged = small / "train" / WNIDS[1] / f"{WNIDS[1]}_2.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    with pytest.raises(OSError, match=rf"cannot read 1 of 10 images: {damaged} \("):
        verify(small)
    assert len(imagenet(small, unreadable="skip").train) == 6
    with pytest.raises(ValueError, match=r"unknown unreadable='no'; expected 'error' \(stop\) or 'skip'"):
        imagenet(small, unreadable="no")
