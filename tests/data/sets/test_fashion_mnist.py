"""Fashion-MNIST: small files of the same layout, and the real ones where Debian's package is installed."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from pure import data
from pure.data.sets import fashion_mnist as module
from pure.data.sets.fashion_mnist import CLASSES, fashion_mnist

COUNTS = {"train": 6, "t10k": 2}  # images of each class, in place of 6,000 and 1,000
TRAIN_IMAGES = "train-images-idx3-ubyte"


def contents() -> dict[str, bytes]:
    """The four files, with pixels that are drawn, and labels in turn."""
    rng = np.random.default_rng(0)
    files = {}
    for part, count in COUNTS.items():
        pixels = rng.integers(0, 256, (10 * count, 28, 28), dtype=np.uint8)
        labels = np.arange(10, dtype=np.uint8).repeat(count)[::-1]
        files[f"{part}-images-idx3-ubyte"] = struct.pack(">HBBIII", 0, 8, 3, *pixels.shape) + pixels.tobytes()
        files[f"{part}-labels-idx1-ubyte"] = struct.pack(">HBBI", 0, 8, 1, *labels.shape) + labels.tobytes()
    return files


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in contents().items()}
    monkeypatch.setattr(module, "_FILES", checksums)
    monkeypatch.setattr(module, "_DEBIAN", (Path("/nowhere"),))


def write(folder: Path, packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents().items():
        (folder / f"{name}{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["FashionMNIST/raw", "fashion-mnist", ""])
def test_files_become_images_with_their_labels(tmp_path: Path, below: str, packed: bool) -> None:
    write(tmp_path / below, packed)
    splits = fashion_mnist(tmp_path, holdout=0)
    assert (splits.name, splits.validation, splits.white) == ("fashion-mnist", None, 255)
    assert splits.train.shape == (1, 28, 28)
    assert splits.train.labels.tolist() == [label for label in range(9, -1, -1) for _ in range(6)]
    assert splits.test.labels.tolist() == [label for label in range(9, -1, -1) for _ in range(2)]
    image = np.frombuffer(contents()[TRAIN_IMAGES][16:], dtype=np.uint8).reshape(-1, 28, 28)[17]
    assert splits.train[17][0].squeeze(0).numpy().tolist() == image.tolist()


def test_the_classes_are_the_published_ones() -> None:
    assert CLASSES == (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )


def test_debians_folder_is_found_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DEBIAN", (tmp_path / "absent", write(tmp_path / "usr")))
    assert len(fashion_mnist(tmp_path / "empty", holdout=0).train) == 60


def test_held_out_images_are_stratified_and_seeded(tmp_path: Path) -> None:
    write(tmp_path)
    whole = fashion_mnist(tmp_path, holdout=0)
    splits, other = (fashion_mnist(tmp_path, holdout=20, split_seed=seed) for seed in (0, 1))
    assert splits.validation is not None
    assert splits.train.labels.bincount().tolist() == [4] * 10
    assert splits.validation.labels.bincount().tolist() == [2] * 10
    assert splits.rows is not None
    for part in ("train", "validation"):
        assert torch.equal(splits.parts[part].labels, whole.train.labels[splits.rows[part]])
    assert splits.test.digest == whole.test.digest
    assert other.fingerprint != splits.fingerprint
    with pytest.raises(ValueError, match="split_seed=1 divides nothing"):
        fashion_mnist(tmp_path, holdout=0, split_seed=1)


def test_by_default_five_thousand_are_held_out() -> None:
    assert {"holdout": 5000, "split_seed": 0}.items() <= data.list_options("fashion-mnist").items()


def test_nothing_there_says_where_it_looked_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        fashion_mnist(tmp_path)
    assert str(caught.value) == (
        f"Fashion-MNIST is not in {tmp_path} (looked for FashionMNIST/raw/{TRAIN_IMAGES}.gz, {TRAIN_IMAGES}.gz, "
        f"/nowhere/{TRAIN_IMAGES}.gz); get it with: python -m pure.data fashion-mnist --data {tmp_path} --download, "
        "or name the folder that holds it: root=, --data or the environment variable PURE_DATA"
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte\.gz is missing while others of the four"):
        fashion_mnist(tmp_path)


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    file = write(tmp_path) / f"{TRAIN_IMAGES}.gz"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz cannot be unpacked \(.*\); move it elsewhere"):
        fashion_mnist(tmp_path)


def test_a_file_with_another_content_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, packed=False) / "train-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte is damaged or another data set: its 67 unpacked"):
        fashion_mnist(tmp_path)


def test_the_real_files_are_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    if not any(folder.is_dir() for folder in module._DEBIAN):
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    splits = fashion_mnist(tmp_path)
    counts = {name: part.labels.bincount().tolist() for name, part in splits.parts.items()}
    assert counts == {"train": [5500] * 10, "validation": [500] * 10, "test": [1000] * 10}
    assert splits.statistics[0].item() / 255 == pytest.approx(0.2860, abs=0.001)  # the mean that is widely used
    assert splits.statistics[1].item() / 255 == pytest.approx(0.3530, abs=0.001)
