"""The digits: content, division, statistics and fingerprint."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pure import data
from pure.data.images import ImageSet
from pure.data.splits import Splits


@pytest.fixture(scope="module")
def digits() -> Splits:
    return data.digits()


def parts(splits: Splits) -> tuple[ImageSet, ImageSet, ImageSet]:
    train, validation, test = splits.parts.values()
    return train, validation, test  # type: ignore[return-value]


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
    assert digits.white == 16
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
    assert data.digits().fingerprint == digits.fingerprint
    other = data.digits(split_seed=1)
    assert other.fingerprint != digits.fingerprint
    assert not torch.equal(other.test.images, digits.test.images)


def test_the_division_is_the_one_that_records_were_made_with(digits: Splits) -> None:
    # Pinned: another value means that no committed record can be compared with a new one.
    assert digits.fingerprint == "0d5a873871e729393e41ec4e11e3e7e455d04b8a0c44d63a85a23a48440bf4d0"


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_fingerprint_changes_with_one_pixel_and_with_one_label(digits: Splits, part: str) -> None:
    images, labels = getattr(digits, part).images, getattr(digits, part).labels
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


def test_rows_are_those_of_scikit_learns_images(digits: Splits) -> None:
    bunch = load_digits()
    assert digits.rows is not None
    assert torch.cat(list(digits.rows.values())).sort().values.tolist() == list(range(1797))
    for part, rows in zip(parts(digits), digits.rows.values(), strict=True):
        assert np.array_equal(part.images.squeeze(1).numpy(), bunch.images[rows].astype(np.uint8))


def test_digits_keep_the_share_of_every_class(digits: Splits) -> None:
    total = torch.cat([part.labels for part in parts(digits)]).bincount()
    for part, share in zip(parts(digits), (0.6, 0.2, 0.2), strict=True):
        assert (part.labels.bincount() - share * total).abs().max() <= 1.0  # an image, for the rounding
