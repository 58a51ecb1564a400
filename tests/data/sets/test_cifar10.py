"""CIFAR-10 in its three variants, on small sets of the same layout: nothing is downloaded."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from pure import data
from pure.data.sets import cifar10 as module
from pure.data.sets.cifar10 import CLASSES, cifar10, verify
from pure.data.storage.folders import UnreadableImageError

COUNTS = {"train": 4, "test": 2}  # images of each class, in place of 5,000 and 1,000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_PER_CLASS", COUNTS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


def pixels(part: str, label: int, number: int) -> np.ndarray[Any, Any]:
    """An image (32, 32, 3) that is like no other."""
    seed = 1000 * label + number + (500 if part == "test" else 0)
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def write_tree(folder: Path, ending: str = "png") -> Path:
    for part, count in COUNTS.items():
        for label, name in enumerate(CLASSES):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(pixels(part, label, number)).save(folder / part / name / f"{number:04}.{ending}")
    return folder


def write_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The original's six files, two of the classes in each training batch, with checksums of their own."""
    folder.mkdir(parents=True)
    lists: dict[str, list[list[str]]] = {"train": [], "test": []}
    contents = [(f"data_batch_{i + 1}", "train", (2 * i, 2 * i + 1)) for i in range(5)]
    for name, part, labels in [*contents, ("test_batch", "test", tuple(range(10)))]:
        rows = [(label, number) for number in range(COUNTS[part]) for label in labels]
        images = [pixels(part, *row).transpose(2, 0, 1).reshape(-1) for row in rows]
        batch = {"data": np.stack(images), "labels": [label for label, _ in rows]}
        (folder / name).write_bytes(pickle.dumps(batch))
        lists[part].append([name, hashlib.md5((folder / name).read_bytes()).hexdigest()])
    monkeypatch.setattr(CIFAR10, "train_list", lists["train"])
    monkeypatch.setattr(CIFAR10, "test_list", lists["test"])
    return folder


def test_original_batches_become_images_with_their_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batches(tmp_path / "cifar-10-batches-py", monkeypatch)
    splits = cifar10(tmp_path)
    assert (splits.name, splits.classes, splits.validation) == ("cifar10", CLASSES, None)
    assert splits.train.labels[:8].tolist() == [0, 1] * 4
    assert splits.train.labels.bincount().tolist() == [4] * 10
    assert splits.test.labels.bincount().tolist() == [2] * 10
    assert splits.train.shape == (3, 32, 32)
    assert torch.equal(splits.train[2][0], torch.from_numpy(pixels("train", 0, 1)).permute(2, 0, 1))
    assert torch.equal(splits.test[13][0], torch.from_numpy(pixels("test", 3, 1)).permute(2, 0, 1))


def write_binary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The training batches in binary form: for each image its label, then red, green and blue."""
    folder.mkdir(parents=True)
    checksums = {}
    for i in range(5):
        rows = [(label, number) for number in range(COUNTS["train"]) for label in (2 * i, 2 * i + 1)]
        images = [bytes([label]) + pixels("train", label, n).transpose(2, 0, 1).tobytes() for label, n in rows]
        (folder / f"data_batch_{i + 1}.bin").write_bytes(b"".join(images))
        checksums[f"data_batch_{i + 1}.bin"] = hashlib.md5(b"".join(images)).hexdigest()
    monkeypatch.setattr(module, "_BINARY_MD5", checksums)
    return folder


def test_batch_5_tests_and_the_official_test_set_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_batches(tmp_path / "py" / "cifar-10-batches-py", monkeypatch)
    (folder / "test_batch").unlink()
    splits = cifar10(tmp_path / "py", test="batch5")
    assert (splits.name, splits.validation) == ("cifar10-batch5", None)
    assert splits.train.labels.tolist() == [label for pair in range(4) for label in (2 * pair, 2 * pair + 1) * 4]
    assert splits.test.labels.tolist() == [8, 9] * 4
    assert torch.equal(splits.test[3][0], torch.from_numpy(pixels("train", 9, 1)).permute(2, 0, 1))
    write_binary(tmp_path / "bin" / "cifar-10-batches-bin", monkeypatch)
    binary = cifar10(tmp_path / "bin", test="batch5")
    assert (binary.name, binary.fingerprint) == (splits.name, splits.fingerprint)
    assert (
        verify(tmp_path / "bin", test="batch5")
        == f"cifar10-batch5 in {tmp_path / 'bin'}: 40 images, MD5 of every batch"
    )
    with pytest.raises(FileNotFoundError, match=r"test_batch.bin is missing while other batches"):
        cifar10(tmp_path / "bin")
    held_out = cifar10(tmp_path / "bin", test="batch5", holdout=10)
    assert (len(held_out.train), len(held_out.validation or ()), len(held_out.test)) == (22, 10, 8)


def test_a_damaged_binary_batch_and_batch_5_of_a_tree_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_binary(tmp_path / "cifar-10-batches-bin", monkeypatch) / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"data_batch_2.bin \(24,583 bytes\) is damaged: its MD5 is not"):
        cifar10(tmp_path, test="batch5")
    monkeypatch.setattr(module, "_BINARY_MD5", {})
    with pytest.raises(ValueError, match=r"24,583 bytes, which is not a multiple of 3,073"):
        cifar10(tmp_path, test="batch5")
    with pytest.raises(ValueError, match=r"test='batch5' needs the original batches, and .* is a tree \(cifar10-png\)"):
        cifar10(write_tree(tmp_path / "cifar10-png"), test="batch5")
    with pytest.raises(ValueError, match="unknown test='batch4'; expected 'official' or 'batch5'"):
        cifar10(tmp_path, test="batch4", variant="cifar10")  # type: ignore[arg-type]


def test_the_folder_of_the_batches_is_a_root_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_batches(tmp_path / "elsewhere", monkeypatch)
    assert len(cifar10(folder).train) == 40
    assert verify(folder) == f"cifar10 in {folder}: 60 images, MD5 of every batch"


@pytest.mark.parametrize("below", ["", "cifar10-png", "cifar10"])
def test_a_tree_of_png_files_holds_the_same_images(tmp_path: Path, below: str) -> None:
    write_tree(tmp_path / below)
    splits = cifar10(tmp_path)
    assert splits.name == "cifar10-png"
    assert splits.classes == CLASSES
    assert splits.train.labels.tolist() == [label for label in range(10) for _ in range(4)]
    assert torch.equal(splits.train[4 * 3 + 2][0], torch.from_numpy(pixels("train", 3, 2)).permute(2, 0, 1))
    assert torch.equal(splits.test[2 * 9 + 1][0], torch.from_numpy(pixels("test", 9, 1)).permute(2, 0, 1))


@pytest.mark.parametrize("ending", ["jpg", "JPEG"])
def test_jpeg_files_are_another_variant_by_name(tmp_path: Path, ending: str) -> None:
    write_tree(tmp_path, ending)
    splits = cifar10(tmp_path)
    assert splits.name == "cifar10-jpeg"
    with Image.open(tmp_path / "train" / "cat" / f"0001.{ending}") as image:
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(splits.train[4 * 3 + 1][0], expected)


def test_two_variants_ask_for_a_choice_and_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batches(tmp_path / "cifar-10-batches-py", monkeypatch)
    write_tree(tmp_path / "cifar10-jpeg", "jpg")
    with pytest.raises(ValueError, match="several variants of CIFAR-10") as caught:
        cifar10(tmp_path)
    assert str(caught.value) == (
        f"several variants of CIFAR-10: cifar10 in {tmp_path}/cifar-10-batches-py, cifar10-jpeg in "
        f"{tmp_path}/cifar10-jpeg; choose one: variant='cifar10' (--data-option variant=cifar10), or as root "
        "the folder of "
        "one of them"
    )
    assert cifar10(tmp_path, variant="cifar10").name == "cifar10"
    assert cifar10(tmp_path, variant="cifar10-jpeg").name == "cifar10-jpeg"
    with pytest.raises(FileNotFoundError, match=r"CIFAR-10 \(variant cifar10-png\) is not in"):
        cifar10(tmp_path, variant="cifar10-png")
    with pytest.raises(ValueError, match="unknown variant 'png' of CIFAR-10; known are cifar10, cifar10-jpeg, cifar"):
        cifar10(tmp_path, variant="png")


def test_variants_are_never_mixed_within_a_tree(tmp_path: Path) -> None:
    write_tree(tmp_path)
    stray = tmp_path / "test" / "ship" / "0001"
    Image.open(f"{stray}.png").save(f"{stray}.jpg")
    os.remove(f"{stray}.png")
    with pytest.raises(ValueError, match=r"test/ship/0001\.jpg is cifar10-jpeg, other images in .* are cifar10-png"):
        cifar10(tmp_path)


def test_nothing_there_says_where_it_looked_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        cifar10(tmp_path)
    assert str(caught.value) == (
        f"CIFAR-10 is not in {tmp_path} (looked for cifar-10-batches-py/data_batch_1, "
        "cifar-10-batches-bin/data_batch_1.bin, train/airplane, cifar10*/train); "
        f"get it with: python -m pure.data cifar10 --data {tmp_path} --download, or name the folder that holds it: "
        "root=, --data or the environment variable PURE_DATA"
    )


def test_a_folder_of_a_class_without_images(tmp_path: Path) -> None:
    write_tree(tmp_path)
    for file in (tmp_path / "train" / "airplane").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"train/airplane holds no image; expected files with \.jpg, \.jpeg, \.png"):
        cifar10(tmp_path)


def test_wrong_counts_name_the_classes(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "train" / "dog" / "0003.png").unlink()
    Image.fromarray(pixels("train", 6, 7)).save(tmp_path / "train" / "frog" / "0007.png")
    with pytest.raises(ValueError, match="expected 4 images of each class, found 3 of dog, 5 of frog; unpack"):
        cifar10(tmp_path)


def test_missing_and_strange_classes_are_named(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "test" / "truck").rename(tmp_path / "test" / "lorry")
    with pytest.raises(ValueError, match=r"(?s)truck.*lorry"):
        cifar10(tmp_path)


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    write_tree(tmp_path)
    for file in (tmp_path / "train").glob("*/*.png"):
        Image.new("RGB", (64, 64)).save(file)
    with pytest.raises(ValueError, match=r"have the shape \(3, 64, 64\), those of CIFAR-10 have \(3, 32, 32\)"):
        cifar10(tmp_path)


def test_a_damaged_batch_is_named_and_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_batches(tmp_path / "cifar-10-batches-py", monkeypatch)
    batch = folder / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"data_batch_3 \(1,000 bytes\) is damaged: its MD5 is not .*--download"):
        cifar10(tmp_path)
    batch.unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_3 is missing while other batches of CIFAR-10 are there"):
        cifar10(tmp_path)


def test_unreadable_images_stop_the_load_or_are_left_out(tmp_path: Path) -> None:
    write_tree(tmp_path, "jpg")
    for name in ("cat/0001.jpg", "ship/0002.jpg"):
        file = tmp_path / "train" / name
        file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UnreadableImageError, match=r"2 of 40 images: .*cat/0001\.jpg .*ship/0002\.jpg .*'skip'"):
        cifar10(tmp_path)
    splits = cifar10(tmp_path, unreadable="skip")
    assert splits.train.labels.bincount().tolist() == [4, 4, 4, 3, 4, 4, 4, 4, 3, 4]
    assert len(splits.test) == 20
    with pytest.raises(UnreadableImageError, match="2 of 40"):  # what was left out was not kept as the whole set
        cifar10(tmp_path)


def test_a_decoded_tree_is_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path)
    first = cifar10(tmp_path)
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".npz"]
    monkeypatch.setattr(module.FolderImages, "in_memory", lambda *_: pytest.fail("decoded again"))
    again = cifar10(tmp_path)
    assert again.fingerprint == first.fingerprint
    with pytest.raises(pytest.fail.Exception, match="decoded again"):
        cifar10(tmp_path, cache=False)
    with pytest.raises(pytest.fail.Exception, match="decoded again"):  # a check reads the files themselves
        verify(tmp_path)


def test_a_changed_tree_and_a_damaged_cache_are_decoded_again(tmp_path: Path) -> None:
    write_tree(tmp_path)
    first = cifar10(tmp_path)
    (cache,) = (tmp_path / "cache").iterdir()
    cache.write_bytes(cache.read_bytes()[:-100])
    assert cifar10(tmp_path).fingerprint == first.fingerprint
    assert len(np.load(cache)["labels"]) == 40  # and kept again, whole
    Image.new("RGB", (32, 32), (255, 0, 0)).save(tmp_path / "train" / "airplane" / "0000.png")
    assert cifar10(tmp_path).train[0][0][:, 0, 0].tolist() == [255, 0, 0]


def test_a_root_that_cannot_be_written_keeps_the_images_with_the_user_or_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path / "root")
    (root / "cache").touch()  # a file where the folder should be: cannot be written, even by an administrator
    first = cifar10(root)
    assert len(list((tmp_path / "user-cache" / "pure").iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    with pytest.warns(UserWarning, match="cannot keep the decoded images: neither .* can be written; every load"):
        assert cifar10(root).fingerprint == first.fingerprint


def test_held_out_images_are_stratified_seeded_and_no_longer_trained_on(tmp_path: Path) -> None:
    write_tree(tmp_path)
    whole, splits, other = (
        cifar10(tmp_path, **options) for options in ({}, {"holdout": 10}, {"holdout": 10, "split_seed": 1})
    )
    assert splits.validation is not None
    assert splits.train.labels.bincount().tolist() == [3] * 10
    assert splits.validation.labels.bincount().tolist() == [1] * 10
    assert splits.rows is not None
    rows = torch.cat([splits.rows["train"], splits.rows["validation"]])
    assert rows.sort().values.tolist() == list(range(40))
    for part in ("train", "validation"):
        for row, source in enumerate(splits.rows[part].tolist()):
            assert torch.equal(splits.parts[part][row][0], whole.train[source][0])
    assert splits.test.digest == whole.test.digest
    assert other.fingerprint != splits.fingerprint


def test_a_seed_that_divides_nothing_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path)
    with pytest.raises(ValueError, match="split_seed=3 divides nothing: holdout=0 trains on all training images"):
        cifar10(tmp_path, split_seed=3)
    with pytest.raises(ValueError, match="cannot hold out 40 of 40 images"):
        cifar10(tmp_path, holdout=40)


def test_load_writes_the_division_down_and_refuses_another(tmp_path: Path) -> None:
    write_tree(tmp_path)
    splits = data.load("cifar10", tmp_path, holdout=10)
    path = tmp_path / "splits" / "cifar10-png-holdout=10.json"
    assert path.is_file()
    again = data.load("cifar10", tmp_path, holdout=10, cache=False)
    assert again.fingerprint == splits.fingerprint
    assert [torch.equal(*pair) for pair in zip(again.statistics, splits.statistics, strict=True)] == [True, True]
    Image.new("RGB", (32, 32)).save(tmp_path / "test" / "ship" / "0001.png")
    with pytest.raises(ValueError, match=r"is not the one that .* divides: test differ"):
        data.load("cifar10", tmp_path, holdout=10)
    path.unlink()
    assert data.load("cifar10", tmp_path, holdout=10).fingerprint != splits.fingerprint
