"""Galaxy10's file: what is read of it, what is refused, how it is divided, and the augmented copies that are kept."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from pure.data import augment
from pure.data.images import Images, Joined
from pure.data.sets import galaxy10
from pure.data.sets.galaxy10 import COUNTS, FILE, Galaxy10DECaLS, divide_galaxies, leaks
from pure.data.storage import hdf5
from pure.data.storage.download import ChecksumError, file_sha256
from pure.data.storage.hdf5 import HDF5Images, augmented_once, stored_by_image

ROWS, EDGE = 120, 16
STATIC = "rotate(180)+flip+resized-crop(16)"


def write(path: Path, change: Callable[[h5py.File], None] = lambda _: None, **images: Any) -> Path:
    """A synthetic file: 120 images in ten classes, sorted by class, each image with its row in its first pixel."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (ROWS, EDGE, EDGE, 3), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(ROWS)
    with h5py.File(path, "w") as file:
        file.attrs["synthetic"] = True
        file.create_dataset("images", data=pixels, **images)
        file["ans"] = np.repeat(np.arange(10, dtype=np.uint8), ROWS // 10)
        file["ra"] = generator.uniform(0, 360, ROWS)
        file["dec"] = generator.uniform(-60, 60, ROWS)
        file["redshift"] = np.full(ROWS, np.nan)
        file["pxscale"] = np.full(ROWS, 0.262)
        change(file)
    return path


def replaced(key: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[key]
        if value is not None:
            file[key] = value(file) if callable(value) else value

    return change


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / FILE)
    return tmp_path


@pytest.fixture
def pixels(root: Path) -> torch.Tensor:
    """The images of the file, channels first."""
    with h5py.File(root / FILE) as file:
        return torch.from_numpy(file["images"][:]).permute(0, 3, 1, 2).contiguous()


def published(root: Path, monkeypatch: pytest.MonkeyPatch, counts: list[int] | None = None) -> Path:
    """A file of the published size and layout, its pixels black and not stored; its checksum is taken for the right."""
    labels = np.repeat(np.arange(10, dtype=np.uint8), counts or list(COUNTS.values()))
    n = len(labels)
    generator = np.random.default_rng(0)
    with h5py.File(root / FILE, "w") as file:
        file.create_dataset("images", (n, 256, 256, 3), np.uint8, chunks=(1, 256, 256, 3))
        file["ans"] = labels
        file["ra"], file["dec"] = generator.uniform(0, 360, n), generator.uniform(-20, 30, n)
        file["redshift"], file["pxscale"] = np.zeros(n), np.full(n, 0.262)
    monkeypatch.setattr(galaxy10, "SHA256", file_sha256(root / FILE))
    return root


# The file as torchvision's data sets are


def test_the_data_set_gives_pillow_images_and_their_labels(root: Path, pixels: torch.Tensor) -> None:
    dataset = Galaxy10DECaLS(root)
    assert len(dataset) == ROWS
    image, label = dataset[37]
    assert isinstance(image, Image.Image)
    assert np.array_equal(np.asarray(image), pixels[37].permute(1, 2, 0).numpy())
    assert label == 3
    dataset = Galaxy10DECaLS(root, transform=lambda image: image.size, target_transform=lambda label: label + 100)
    assert dataset[119] == ((EDGE, EDGE), 109)
    assert dataset[-1] == dataset[119]
    with pytest.raises(IndexError):
        dataset[120]


def test_it_knows_its_classes_their_counts_and_that_it_is_synthetic(root: Path) -> None:
    dataset = Galaxy10DECaLS(root)
    assert dataset.name == "galaxy10-synthetic"
    assert dataset.counts == dict.fromkeys(COUNTS, 12)
    assert dataset.class_to_idx["Cigar Shaped Smooth"] == 4
    assert "9 Edge-on with Bulge: 12" in repr(dataset)
    assert np.isnan(dataset.redshift).all()
    assert dataset.verify() == (
        f"galaxy10-synthetic in {root / FILE}: 120 synthetic images, each read; "
        + ", ".join(f"{name} 12" for name in COUNTS)
    )


def test_the_documented_counts_are_those_of_the_publication() -> None:
    assert sum(COUNTS.values()) == 17_736
    assert list(COUNTS)[4] == "Cigar Shaped Smooth"
    assert min(COUNTS.values()) == COUNTS["Cigar Shaped Smooth"] == 334


def test_a_file_of_the_published_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path, monkeypatch)
    dataset = Galaxy10DECaLS(tmp_path)
    assert dataset.name == "galaxy10"
    assert dataset.counts == COUNTS
    assert "17,736 images, SHA-256 and counts as documented; Disturbed 1,081, Merging 1,853" in galaxy10.verify(
        tmp_path
    )
    splits = galaxy10.galaxy10(tmp_path, static_augmentation=None)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [14_188, 1_774, 1_774]
    assert splits.train.shape == (3, 256, 256)
    assert splits.name == "galaxy10"
    assert not splits.synthetic
    assert not (tmp_path / "cache").exists()  # nothing was to be made


# The file as tensors


@pytest.mark.parametrize(
    "layout", [{}, {"chunks": (1, EDGE, EDGE, 3)}, {"chunks": (7, 4, EDGE, 1), "compression": "gzip"}]
)
def test_many_images_come_in_the_order_asked_for(tmp_path: Path, layout: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(hdf5, "_SLAB", 20 * EDGE * EDGE * 3)  # so that the file is read in several pieces
    images = Galaxy10DECaLS(write(tmp_path / FILE, **layout).parent).images
    assert isinstance(images, Images)
    assert images.shape == (3, EDGE, EDGE)
    for rows in ([], [5], [119, 0, 0, 64, 63, 65, 7], list(range(ROWS)), torch.randperm(ROWS).tolist()):
        found = images.read(torch.tensor(rows, dtype=torch.int64))
        assert found.dtype is torch.uint8
        assert found.shape == (len(rows), 3, EDGE, EDGE)
        assert found[:, 0, 0, 0].tolist() == rows
        for image, row in zip(found, rows, strict=True):
            assert torch.equal(image, images[row][0])


def test_neighbours_are_read_together_and_packed_images_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Galaxy10DECaLS(write(tmp_path / FILE, chunks=(8, EDGE, EDGE, 3)).parent).images
    runs: list[tuple[int, int]] = []
    monkeypatch.setattr(images, "_read_run", lambda _, start, stop: runs.append((start, stop)))
    images.read(torch.tensor([100, 3, 7, 1, 8, 40]))
    assert runs == [(1, 9), (40, 41), (100, 101)]  # chunk 0 and the next in one; chunks 5 and 12 alone
    runs.clear()
    monkeypatch.setattr(images, "rows_at_once", 16)
    images.read(torch.arange(40))
    assert runs == [(0, 16), (16, 32), (32, 40)]


def test_images_in_memory_are_the_same(root: Path, pixels: torch.Tensor) -> None:
    images = Galaxy10DECaLS(root).images
    loaded = images.in_memory()
    (root / FILE).unlink()  # it is needed no more
    assert torch.equal(loaded.read(torch.arange(ROWS)), pixels)
    assert torch.equal(loaded[-1][0], pixels[-1])
    assert loaded.digest == images.digest
    assert loaded.by_image


@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 1)])  # a spawned one imports torch again
def test_workers_open_the_file_for_themselves(root: Path, pixels: torch.Tensor, method: str, workers: int) -> None:
    images = Galaxy10DECaLS(root).images
    assert images[0][1] == 0  # open in this process before the workers start
    loader = DataLoader(images, batch_size=8, num_workers=workers, multiprocessing_context=method)
    found, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert torch.equal(found, pixels)
    assert torch.equal(labels, images.labels)
    assert torch.equal(images[1][0], pixels[1])  # the workers' end did not close it here


class Opener:
    """A data set that tells whether the process that asks is the one that opened the file."""

    def __init__(self, images: HDF5Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> bool:
        self.images[index]
        return self.images._opened[0] == os.getpid()


def test_a_forked_worker_does_not_read_through_its_parents_file(root: Path) -> None:
    images = Galaxy10DECaLS(root).images
    assert images[0][1] == 0
    assert all(DataLoader(Opener(images), batch_size=None, num_workers=1, multiprocessing_context="fork"))


def test_a_pickle_holds_no_open_file_and_no_pixels(root: Path, pixels: torch.Tensor) -> None:
    images = Galaxy10DECaLS(root).images
    assert images[0][1] == 0
    content = pickle.dumps(images)
    assert len(content) < 4000
    assert torch.equal(pickle.loads(content)[5][0], pixels[5])


def test_damage_inside_the_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / FILE, chunks=(1, EDGE, EDGE, 3), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["images"].id.get_chunk_info(77)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\x00" * chunk.size
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"cannot read images 77 to 77 of {path} .*restore it from a copy, or make or download it"
    ):
        Galaxy10DECaLS(tmp_path).images[77]
    with pytest.raises(ValueError, match="cannot read images 0 to 119"):
        Galaxy10DECaLS(tmp_path).verify()


# What is refused


def test_no_file(tmp_path: Path) -> None:
    message = rf"Galaxy10 DECaLS is not in {tmp_path} \(looked for {FILE}\); get it with: python -m pure.data galaxy10"
    with pytest.raises(FileNotFoundError, match=message):
        Galaxy10DECaLS(tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>", None])
def test_a_truncated_file_or_none_of_hdf5(root: Path, content: bytes | None) -> None:
    path = root / FILE
    path.write_bytes(path.read_bytes()[:-1000] if content is None else content)
    with pytest.raises(
        ValueError,
        match=rf"\({path.stat().st_size:,} bytes\) is truncated or no HDF5 file .*move it elsewhere, it may be yours",
    ):
        Galaxy10DECaLS(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("ans", None), r"lacks ans; it holds dec, images, pxscale, ra, redshift: it is not Galaxy10 DECaLS"),
        (lambda file: (replaced("ra", None)(file), file.create_group("ra")), "lacks ra; it holds .*, ra, redshift"),
        (replaced("ans", np.full(ROWS, 10)), "labels from 10 to 10, expected 0 to 9"),
        (replaced("ans", np.full(ROWS, -1)), "labels from -1 to -1, expected 0 to 9"),
        (replaced("ans", np.zeros(ROWS)), r"expected 120 integers in 'ans', got shape \(120,\) and dtype float64"),
        (replaced("ra", np.zeros(3)), r"expected 120 floating-point numbers in 'ra', got shape \(3,\)"),
        (replaced("dec", np.full(ROWS, np.nan)), "right ascensions or declinations are out of range or not finite"),
        (replaced("images", np.zeros((ROWS, 16, 8, 3), np.uint8)), r"shape \(N, 16, 16, 3\) .*got \(120, 16, 8, 3\)"),
        (replaced("images", np.zeros((ROWS, 16, 16, 3))), "dtype uint8, got .* and float64"),
        (lambda file: file.attrs.clear(), r"expected images of shape \(N, 256, 256, 3\) .*got \(120, 16, 16, 3\)"),
    ],
)
def test_another_content(tmp_path: Path, change: Callable[[h5py.File], None], message: str) -> None:
    write(tmp_path / FILE, change)
    with pytest.raises(ValueError, match=message) as caught:
        Galaxy10DECaLS(tmp_path)
    command = f"python -m pure.data galaxy10 --data {tmp_path} --download"
    assert f"move it elsewhere, it may be yours, and get the published one: {command}" in str(caught.value)


def test_other_counts_are_not_the_published_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [*list(COUNTS.values())[:8], 1424, 1872]
    published(tmp_path, monkeypatch, counts)
    message = r"Bulge 1,424 \(documented 1,423\), Edge-on with Bulge 1,872 \(documented 1,873\)\. A file of simulated"
    with pytest.raises(ValueError, match=message):
        Galaxy10DECaLS(tmp_path)


def test_another_checksum_is_not_the_published_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path, monkeypatch)
    monkeypatch.setattr(galaxy10, "SHA256", "0" * 64)
    with pytest.raises(
        ChecksumError, match=r"has the layout of Galaxy10 DECaLS, but its SHA-256 is \w{64}, expected 0"
    ):
        galaxy10.galaxy10(tmp_path)
    with pytest.raises(ChecksumError, match="move it elsewhere, then download it again"):
        galaxy10.galaxy10(tmp_path, download=True)


def test_synthetic_galaxies_never_stand_for_the_published_file(root: Path) -> None:
    for function in (galaxy10.galaxy10, galaxy10.verify):
        with pytest.raises(ValueError, match="holds synthetic galaxies and cannot stand for Galaxy10 DECaLS: load"):
            function(root)
    with pytest.raises(ChecksumError, match="is not the published file"):
        galaxy10.download(root)


# Division


def test_the_parts_are_stratified_and_proved(root: Path, pixels: torch.Tensor) -> None:
    dataset = Galaxy10DECaLS(root)
    splits = divide_galaxies(dataset, fractions=(0.5, 0.25, 0.25))
    assert splits.synthetic
    assert splits.name == "galaxy10-synthetic"
    assert splits.classes == tuple(COUNTS)
    for (name, part), each in zip(splits.parts.items(), (6, 3, 3), strict=True):
        assert part.labels.bincount().tolist() == [each] * 10
        assert torch.equal(part.read(torch.arange(len(part))), pixels[splits.rows[name]])
        assert torch.equal(part.labels, dataset.targets[splits.rows[name]])
    mean = pixels[splits.rows["train"]].double().mean((0, 2, 3))
    torch.testing.assert_close(splits.statistics[0], mean.float())
    same = divide_galaxies(Galaxy10DECaLS(root), fractions=(0.5, 0.25, 0.25), in_memory=True)
    assert same.fingerprint == splits.fingerprint  # wherever the pixels lie
    other = divide_galaxies(dataset, fractions=(0.5, 0.25, 0.25), split_seed=1)
    assert other.fingerprint != splits.fingerprint


def pairs(file: h5py.File) -> None:
    """Twenty pairs of rows at one position each, with two labels, as the published file has 59."""
    for key in ("ra", "dec"):
        file[key][100:] = file[key][:20]


def test_by_position_no_place_on_the_sky_is_in_two_parts(tmp_path: Path) -> None:
    dataset = Galaxy10DECaLS(write(tmp_path / FILE, pairs).parent)
    positions = dataset.positions()
    assert len(positions.unique()) == 100
    assert torch.equal(positions[100:], positions[:20])
    plain = divide_galaxies(dataset, fractions=(0.5, 0.25, 0.25))
    found = leaks(plain.rows, positions)
    by_hand = {
        (one, other): sum(
            (row in plain.rows[one]) != (row + 100 in plain.rows[one])
            and (row in plain.rows[other]) != (row + 100 in plain.rows[other])
            for row in range(20)
        )
        for one, other in [("train", "validation"), ("train", "test"), ("validation", "test")]
    }
    assert found == by_hand
    assert sum(found.values()) > 5
    grouped = divide_galaxies(dataset, split="by-position", fractions=(0.5, 0.25, 0.25))
    assert leaks(grouped.rows, positions) == dict.fromkeys(by_hand, 0)
    assert torch.cat(list(grouped.rows.values())).sort().values.tolist() == list(range(ROWS))


def test_the_tolerance_joins_near_positions_also_across_the_zero_of_right_ascension(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        arc_second = 1 / 3600
        file["ra"][:4], file["dec"][:4] = [10, 10, 10, 10], [0, 0.5 * arc_second, 3 * arc_second, 6.5 * arc_second]
        file["ra"][4:6], file["dec"][4:6] = [359.9999, 0.0001], [60, 60]  # 0.72 * cos 60 = 0.36 arc seconds

    dataset = Galaxy10DECaLS(write(tmp_path / FILE, change).parent)
    one, wide = dataset.positions(1), dataset.positions(3)
    assert len(one[:4].unique()) == 3
    assert one[0] == one[1]
    assert one[4] == one[5]
    for tolerance, places in ((0.37, 1), (0.35, 2)):
        assert len(dataset.positions(tolerance)[4:6].unique()) == places
    assert wide[0] == wide[1] == wide[2] != wide[3]
    for tolerance in (0, -1, float("nan"), 3600):
        with pytest.raises(ValueError, match=r"a tolerance above 0 and below 3600 arc seconds, got"):
            dataset.positions(tolerance)


def test_options_that_do_not_exist(root: Path) -> None:
    dataset = Galaxy10DECaLS(root)
    with pytest.raises(ValueError, match="unknown split 'random'; known are 'stratified' and 'by-position'"):
        divide_galaxies(dataset, split="random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown augmentation 'turn"):
        divide_galaxies(dataset, static_augmentation="turn(3)", cache=root / "cache")
    assert not (root / "cache").exists()
    with pytest.raises(ValueError, match=rf"only {FILE} can be downloaded, not mine\.h5"):
        Galaxy10DECaLS(root, download=True, file="mine.h5")


def test_pixels_in_memory_need_no_copy_that_is_not_packed(tmp_path: Path) -> None:
    dataset = Galaxy10DECaLS(write(tmp_path / FILE, chunks=(50, 4, 4, 1), compression="gzip").parent)
    splits = divide_galaxies(dataset, static_augmentation=STATIC, cache=tmp_path / "cache", in_memory=True)
    assert [name.partition("-")[0] for name in caches(tmp_path)] == ["augmented"]
    lazy = divide_galaxies(dataset, static_augmentation=STATIC, cache=tmp_path / "cache")
    assert [name.partition("-")[0] for name in caches(tmp_path)] == ["augmented", "unpacked"]
    assert lazy.fingerprint == splits.fingerprint
    shutil.rmtree(tmp_path / "cache")  # it is read no more
    assert torch.equal(splits.train.read(torch.tensor([95, 96]))[0], splits.train[95][0])


# Static augmentation


def augmented(root: Path, **options: Any) -> HDF5Images:
    settings = {"augmentation": STATIC, "seed": 0, "folder": root / "cache"} | options
    return augmented_once(Galaxy10DECaLS(root).images, **settings)


def caches(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "cache").iterdir())


def test_the_training_set_is_the_originals_and_each_once_more(root: Path, pixels: torch.Tensor) -> None:
    splits = divide_galaxies(Galaxy10DECaLS(root), static_augmentation=STATIC, cache=root / "cache")
    train, rows = splits.train, splits.rows["train"]
    assert isinstance(train, Joined)
    assert len(train) == 2 * len(rows) == 192
    assert torch.equal(train.labels, torch.cat([splits.test.images.labels[rows]] * 2))
    assert torch.equal(train.read(torch.arange(96)), pixels[rows])
    again = train.read(torch.arange(96, 192))
    assert not any(torch.equal(one, other) for one, other in zip(again, pixels[rows], strict=True))
    chance = augment.parse(STATIC)
    generator = torch.Generator().manual_seed(hdf5._chunk_seed(0, 1))  # the images 64 to 95 are the second chunk
    by_hand = chance.apply(pixels[rows][64:], chance.draw(32, (3, EDGE, EDGE), generator))
    assert torch.equal(again[64:], by_hand)
    assert len(splits.validation) == len(splits.test) == 12  # not augmented
    mean = torch.cat([pixels[rows], again]).double().mean((0, 2, 3))
    torch.testing.assert_close(splits.statistics[0], mean.float())


def test_augmented_images_are_drawn_once_and_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = augmented(root)
    assert caches(root) == [first.path.name]  # neither part nor lock
    changed = first.path.stat().st_mtime_ns
    monkeypatch.setattr(hdf5, "_write", None)  # it must not be needed
    second = augmented(root)
    assert second.path.stat().st_mtime_ns == changed
    assert second.digest == first.digest
    assert torch.equal(first.labels, Galaxy10DECaLS(root).targets)


def test_each_setting_has_a_cache_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [
        augmented(root).digest,
        augmented(root, seed=1).digest,
        augmented(root, augmentation="rotate(90)+flip+resized-crop(16)").digest,
    ]
    write(root / FILE, replaced("pxscale", np.ones(ROWS)))  # the same pixels in another file
    digests.append(augmented(root).digest)
    assert len(caches(root)) == 4
    assert digests[3] == digests[0]  # the digest is that of the content
    assert len(set(digests)) == 3
    monkeypatch.setattr(hdf5.inspect, "getsource", lambda _: "other code")
    augmented(root)
    monkeypatch.setattr(torch, "__version__", "99.0")
    augmented(root)
    assert len(caches(root)) == 6


def test_augmented_images_may_have_another_size(root: Path) -> None:
    assert augmented(root, augmentation="resized-crop(8)").shape == (3, 8, 8)


def test_an_interrupted_cache_is_no_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = augmented(root)
    expected.path.unlink()
    read, calls = hdf5.read, []

    def interrupted(images: Images, rows: torch.Tensor) -> torch.Tensor:
        calls.append(len(rows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read(images, rows)

    monkeypatch.setattr(hdf5, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        augmented(root)
    assert calls == [64, 56]
    assert caches(root) == [f"{expected.path.name}.lock"]
    monkeypatch.undo()
    expected.path.with_name(f"{expected.path.name}.part").write_bytes(b"of a process that was killed")
    assert augmented(root).digest == expected.digest
    assert caches(root) == [expected.path.name]


@pytest.mark.parametrize("damage", ["truncated", "empty", "another", "labels", "settings"])
def test_a_damaged_cache_is_made_anew(root: Path, damage: str) -> None:
    expected = augmented(root)
    expected._opened[1].file.close()
    whole, inode = expected.path.read_bytes(), expected.path.stat().st_ino
    if damage == "truncated":
        expected.path.write_bytes(whole[:-500])
    elif damage == "empty":
        expected.path.write_bytes(b"")
    elif damage == "another":
        shutil.copy(root / FILE, expected.path)
    else:
        with h5py.File(expected.path, "r+") as file:
            if damage == "labels":
                file["ans"][0] = 9
            else:
                file.attrs["fingerprint"] = file.attrs["fingerprint"].replace('"seed": 0', '"seed": 1')
    found = augmented(root)
    assert found.digest == expected.digest
    assert torch.equal(found.labels, expected.labels)
    assert len(found.path.read_bytes()) == len(whole)
    assert found.path.stat().st_ino != inode


def test_no_space_for_the_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    needed = ROWS * EDGE * EDGE * 3
    with pytest.raises(OSError, match=f"the cache of augmented images needs {needed:,} bytes in .*, 1,000 are free"):
        augmented(root)
    assert not any(name.endswith((".h5", ".part")) for name in caches(root))


def test_a_disk_that_fills_up_removes_the_unfinished_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, f"Can't write data (file write failed: errno = 28, error message = '{os.strerror(28)}')")

    monkeypatch.setattr(h5py.Dataset, "__setitem__", full)
    with pytest.raises(OSError, match=r"the disk is full: the cache .* free as much as it needs, 92,160 by") as caught:
        augmented(root)
    assert caught.value.errno == errno.ENOSPC
    assert not any(name.endswith((".h5", ".part")) for name in caches(root))


def test_a_cache_folder_that_cannot_be_made(root: Path) -> None:
    (root / "cache").write_text("a file, no folder")
    with pytest.raises(OSError, match=r"cannot write to .*cache .*: choose another folder"):
        augmented(root)


def test_packed_images_are_unpacked_once_for_shuffled_reading(tmp_path: Path) -> None:
    layout = {"chunks": (50, 4, 4, 1), "compression": "gzip"}
    dataset = Galaxy10DECaLS(write(tmp_path / FILE, **layout).parent)
    assert not dataset.images.by_image
    copied = stored_by_image(dataset.images, tmp_path / "cache")
    assert copied.by_image
    assert copied.digest == dataset.images.digest
    rows = torch.randperm(ROWS)
    assert torch.equal(copied.read(rows), dataset.images.read(rows))
    assert stored_by_image(copied, tmp_path / "nowhere") is copied
    splits = divide_galaxies(dataset, cache=tmp_path / "cache")
    assert splits.train.images.path == copied.path
    assert caches(tmp_path) == [copied.path.name]
