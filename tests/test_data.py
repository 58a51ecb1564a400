"""The digits and their division, the statistics, the fingerprint, and the batches that are made of them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pure import data
from pure.data import DeviceLoader, ImageSet, Splits, stratified_split
from pure.data.loaders import shift

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> Splits:
    return data.load("digits")


def parts(splits: Splits) -> tuple[ImageSet, ImageSet, ImageSet]:
    return splits.train, splits.validation, splits.test


# The digits


def test_digits_are_scikit_learns_images_each_once(digits: Splits) -> None:
    bunch = load_digits()
    expected = sorted(
        (int(label), image.astype(np.uint8).tobytes()) for image, label in zip(bunch.images, bunch.target, strict=True)
    )
    ours = sorted(
        (int(label), image.numpy().tobytes())
        for part in parts(digits)
        for image, label in zip(part.images, part.labels, strict=True)
    )
    assert ours == expected
    assert bunch.images.min() == 0
    assert bunch.images.max() == 16
    assert np.array_equal(bunch.images, bunch.images.astype(np.uint8))  # so uint8 loses nothing


def test_digits_have_the_announced_sizes_types_and_classes(digits: Splits) -> None:
    assert digits.name == "digits"
    assert digits.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    # 40 % and then half of the rest, rounded up by scikit-learn: 1797 = 1078 + 719, 719 = 359 + 360
    for part, size in zip(parts(digits), (1078, 359, 360), strict=True):
        assert part.images.shape == (size, 1, 8, 8)
        assert part.labels.shape == (size,)
        assert part.images.dtype is torch.uint8
        assert part.labels.dtype is torch.int64
        assert part.labels.unique().tolist() == list(range(10))
        assert (int(part.images.min()), int(part.images.max())) == (0, 16)


def test_an_image_keeps_its_label(digits: Splits) -> None:
    bunch = load_digits()
    label_of = {image.astype(np.uint8).tobytes(): int(label) for image, label in zip(*_columns(bunch), strict=True)}
    assert len(label_of) == 1797  # no image is there twice, so none lies in two parts either
    for part in parts(digits):
        assert [label_of[image.numpy().tobytes()] for image in part.images] == part.labels.tolist()


def _columns(bunch: object) -> tuple[np.ndarray, np.ndarray]:
    return bunch.images, bunch.target  # type: ignore[attr-defined]


def test_same_split_seed_same_fingerprint_another_seed_another(digits: Splits) -> None:
    assert data.load("digits").fingerprint == digits.fingerprint
    other = data.load("digits", split_seed=1)
    assert other.fingerprint != digits.fingerprint
    assert not torch.equal(other.test.images, digits.test.images)


def test_the_division_is_the_one_that_records_were_made_with(digits: Splits) -> None:
    # Pinned: another value means that no committed record can be compared with a new one.
    assert digits.fingerprint == "0d5a873871e729393e41ec4e11e3e7e455d04b8a0c44d63a85a23a48440bf4d0"


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_fingerprint_changes_with_one_pixel_and_with_one_label(digits: Splits, part: str) -> None:
    images, labels = getattr(digits, part)
    pixel, label = images.clone(), labels.clone()
    pixel[-1, 0, 7, 7] += 1
    label[0] = (label[0] + 1) % 10
    for changed in (ImageSet(pixel, labels), ImageSet(images, label)):
        assert dataclasses.replace(digits, **{part: changed}).fingerprint != digits.fingerprint


def test_statistics_are_numpys_over_the_training_set_alone(digits: Splits) -> None:
    pixels = digits.train.images.numpy().astype(np.float64)
    mean, std = digits.statistics
    assert mean.shape == std.shape == (1,)
    assert mean.item() == pytest.approx(pixels.mean(), rel=1e-6)
    assert std.item() == pytest.approx(pixels.std(), rel=1e-6)


def test_statistics_of_each_channel() -> None:
    images = torch.tensor([[[[0, 2]], [[10, 10]]], [[[4, 2]], [[30, 30]]]], dtype=torch.uint8)  # (2, 2, 1, 2)
    part = ImageSet(images, torch.tensor([0, 1]))
    elsewhere = ImageSet(images + 100, torch.tensor([0, 1]))
    mean, std = Splits("two", ("a", "b"), part, elsewhere, elsewhere).statistics
    assert mean.tolist() == [2.0, 20.0]
    assert std.tolist() == pytest.approx([math.sqrt(2), 10.0])


def test_unknown_data_set_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown data set 'digit'; did you mean 'digits'\? known are digits"):
        data.load("digit")
    with pytest.raises(ValueError, match=r"unknown data set 'xyz'; known are digits"):
        data.load("xyz")
    assert data.list_datasets() == ["digits"]


# The division


def test_stratified_split_is_disjoint_complete_and_keeps_the_shares() -> None:
    labels = torch.tensor([0] * 100 + [1] * 40 + [2] * 20)[torch.randperm(160)]
    split = stratified_split(labels, (0.5, 0.25, 0.25), seed=3)
    assert torch.cat(split).sort().values.tolist() == list(range(160))
    assert [labels[rows].bincount().tolist() for rows in split] == [[50, 20, 10], [25, 10, 5], [25, 10, 5]]
    for rows in split:
        assert rows.dtype is torch.int64
        assert rows.tolist() == sorted(rows.tolist())


def test_digits_keep_the_share_of_every_class(digits: Splits) -> None:
    total = torch.cat([part.labels for part in parts(digits)]).bincount()
    for part, share in zip(parts(digits), (0.6, 0.2, 0.2), strict=True):
        assert (part.labels.bincount() - share * total).abs().max() <= 1.0  # an image, for the rounding


def test_stratified_split_is_seeded() -> None:
    labels = torch.arange(2).repeat(50)
    first, again, other = (stratified_split(labels, (0.6, 0.2, 0.2), seed) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize(
    "fractions",
    [(0.6, 0.2, 0.1), (0.8, 0.2, 0.0), (1.2, -0.1, -0.1), (0.5, 0.5), (0.4, 0.2, 0.2, 0.2), (math.nan, 0.5, 0.5)],
)
def test_fractions_that_are_no_shares_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected three positive fractions that add up to 1, got"):
        stratified_split(torch.arange(2).repeat(50), fractions, 0)  # type: ignore[arg-type]


def test_a_class_of_one_image_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="class"):
        stratified_split(torch.tensor([0] * 50 + [1]), (0.6, 0.2, 0.2), 0)


# Batches


def numbered(n: int) -> ImageSet:
    """Images of one pixel that say which they are; the label too."""
    return ImageSet(torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1), torch.arange(n))


def plain(images: ImageSet, batch_size: int, shuffle: torch.Generator | None = None) -> DeviceLoader:
    return DeviceLoader(images, torch.zeros(1), torch.ones(1), batch_size, CPU, shuffle)


def test_each_image_once_an_epoch_and_a_smaller_last_batch() -> None:
    loader = plain(numbered(10), 4, torch.Generator().manual_seed(0))
    epochs = [list(loader), list(loader)]
    for batches in epochs:
        assert [len(labels) for _, labels in batches] == [4, 4, 2]
        labels = torch.cat([labels for _, labels in batches])
        assert sorted(labels.tolist()) == list(range(10))
        assert torch.cat([images for images, _ in batches]).flatten().tolist() == labels.tolist()  # still its label
    orders = [torch.cat([labels for _, labels in batches]).tolist() for batches in epochs]
    assert orders[0] != orders[1]  # another order in each epoch
    assert len(loader) == 3
    assert len(plain(numbered(8), 4)) == 2


def test_order_is_that_of_the_generator() -> None:
    def order(seed: int) -> list[int]:
        loader = plain(numbered(20), 6, torch.Generator().manual_seed(seed))
        return torch.cat([labels for _, labels in loader]).tolist()

    assert order(5) == order(5) == torch.randperm(20, generator=torch.Generator().manual_seed(5)).tolist()
    assert order(5) != order(6)


def test_order_of_the_set_without_a_generator() -> None:
    loader = DeviceLoader(numbered(5), torch.zeros(1), torch.ones(1), 2, CPU, None, max_shift=1)
    assert torch.cat([labels for _, labels in loader]).tolist() == [0, 1, 2, 3, 4]


def test_batches_are_normalised_channel_by_channel() -> None:
    images = torch.tensor([[[[0, 8]], [[5, 7]], [[3, 3]]]], dtype=torch.uint8)  # (1, 3, 1, 2), the last one constant
    loader = DeviceLoader(
        ImageSet(images, torch.tensor([0])), torch.tensor([4.0, 6.0, 3.0]), torch.tensor([2.0, 0.5, 0.0]), 1, CPU
    )
    ((batch, labels),) = loader
    assert batch.dtype is torch.float32
    assert labels.dtype is torch.int64
    assert batch.tolist() == [[[[-2.0, 2.0]], [[-2.0, 2.0]], [[0.0, 0.0]]]]
    assert loader.images.dtype is torch.uint8


def test_normalised_training_set_has_mean_0_and_deviation_1(digits: Splits) -> None:
    pixels = torch.cat([images for images, _ in DeviceLoader(digits.train, *digits.statistics, 100, CPU)]).double()
    assert float(pixels.mean()) == pytest.approx(0, abs=1e-6)
    assert float(pixels.std(correction=0)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("n", "batch_size"), [(0, 4), (3, 0), (3, -1)])
def test_loader_refuses_an_empty_set_and_empty_batches(n: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"a batch size of at least 1, got {n} and {batch_size}"):
        plain(numbered(n), batch_size)


# Augmentation


def shifted_by_hand(image: list[list[int]], dy: int, dx: int) -> list[list[int]]:
    """Pixel by pixel: what comes in over the border is the nearest pixel of the edge."""
    height, width = len(image), len(image[0])
    return [
        [image[min(max(row + dy, 0), height - 1)][min(max(column + dx, 0), width - 1)] for column in range(width)]
        for row in range(height)
    ]


def test_shift_moves_each_image_by_its_own_distance() -> None:
    images = torch.randint(0, 256, (40, 3, 5, 7), dtype=torch.uint8)
    seed, most = 4, 2
    distances = torch.randint(-most, most + 1, (2, 40, 1), generator=torch.Generator().manual_seed(seed)).squeeze(-1)
    moved = shift(images, most, torch.Generator().manual_seed(seed))
    assert moved.shape == images.shape
    assert moved.dtype is torch.uint8
    for i, (dy, dx) in enumerate(distances.T.tolist()):
        for channel in range(3):  # the channels of an image move together
            assert moved[i, channel].tolist() == shifted_by_hand(images[i, channel].tolist(), dy, dx)


def test_shift_draws_all_distances_about_equally_often() -> None:
    most, n = 1, 9000
    # One bright pixel in the middle of 5 x 5: where it ends tells the distance.
    image = torch.zeros(n, 1, 5, 5, dtype=torch.uint8)
    image[:, :, 2, 2] = 1
    places = shift(image, most, torch.Generator().manual_seed(0)).sum(0).squeeze()
    assert int(places.sum()) == n
    inner = places[1:4, 1:4].double()
    assert int(inner.sum()) == n  # never farther than asked for
    # 1000 are expected of each of the nine; the deviation is sqrt(9000 * 1/9 * 8/9) = 30
    assert float((inner - 1000).abs().max()) < 5 * 30


def test_loader_shifts_training_batches_anew_in_each_epoch(digits: Splits) -> None:
    loader = DeviceLoader(
        digits.train, torch.zeros(1), torch.ones(1), 2000, CPU, torch.Generator().manual_seed(0), max_shift=1
    )
    originals = digits.train.images.float()
    seen = []
    for _ in range(2):
        generator = torch.Generator()
        generator.set_state(loader.shuffle.get_state())  # type: ignore[union-attr]
        ((images, labels),) = loader
        order = torch.randperm(1078, generator=generator)
        assert torch.equal(images, shift(originals[order], 1, generator))
        assert torch.equal(labels, digits.train.labels[order])
        seen.append(images[order.argsort()])  # back in the order of the set
    assert not torch.equal(seen[0], seen[1])
    assert (seen[0] != originals).flatten(1).any(1).float().mean() > 0.8  # 8 of 9 are moved
