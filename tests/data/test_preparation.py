"""Any data set, cropped, resized, with fewer training images, or with each once more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pure import data
from pure.data.images import ImageSet
from pure.data.preparation import per_class_rows, prepare
from pure.data.splits import Splits


def splits(side: int = 8) -> Splits:
    """Three classes of 2, 5 and 9 training images, each pixel with a value of its own."""
    labels = torch.tensor([0] * 2 + [1] * 5 + [2] * 9)
    pixels = torch.arange(16 * side * side).reshape(16, 1, side, side).remainder(256).to(torch.uint8)
    part = ImageSet(pixels, labels)
    return Splits("ramp", ("a", "b", "c"), part, part, part)


def test_at_most_so_many_of_each_class_and_the_others_whole() -> None:
    found = prepare(splits(), per_class=4)
    assert found.train.labels.bincount().tolist() == [2, 4, 4]
    assert (len(found.validation or ()), len(found.test)) == (16, 16)
    assert found.rows is not None
    rows = found.rows["train"]
    assert rows.tolist() == sorted(rows.tolist())
    assert torch.equal(found.train.read(torch.arange(10)), splits().train.read(rows))  # type: ignore[attr-defined]
    assert found.rows["test"].tolist() == list(range(16))


def test_the_seed_chooses_and_more_keep_those_of_fewer() -> None:
    labels = splits().train.labels
    assert torch.equal(per_class_rows(labels, 3, 0), per_class_rows(labels, 3, 0))
    assert not torch.equal(per_class_rows(labels, 3, 0), per_class_rows(labels, 3, 1))
    assert set(per_class_rows(labels, 3, 0).tolist()) < set(per_class_rows(labels, 4, 0).tolist())


def test_the_central_pixels_are_kept_and_the_name_says_so() -> None:
    found = prepare(splits(), crop=4)
    assert (found.name, found.train.shape) == ("ramp-4px", (1, 4, 4))
    assert torch.equal(found.test[3][0], splits().test[3][0][:, 2:6, 2:6])
    halved = prepare(splits(), crop=4, size=2)
    assert halved.name == "ramp-2px"
    assert halved.train.shape == (1, 2, 2)


def test_each_training_image_once_more_after_the_choice(tmp_path: Path) -> None:
    found = prepare(splits(), per_class=2, static_augmentation="flip", cache=tmp_path)
    assert found.train.labels.tolist() == [0, 0, 1, 1, 2, 2] * 2
    original, copy = found.train[1][0], found.train[7][0]
    assert torch.equal(copy, original) or torch.equal(copy, original.flip(-1))
    assert len(found.test) == 16
    assert prepare(splits(), per_class=2, static_augmentation="flip", cache=tmp_path).fingerprint == found.fingerprint


def test_every_data_set_has_these_options(tmp_path: Path) -> None:
    few = data.load("digits", tmp_path, per_class=5, static_augmentation="flip")
    assert few.train.labels.bincount().tolist() == [10] * 10
    assert len(few.test) == len(data.load("digits", tmp_path).test)
    assert (tmp_path / "splits" / "digits-per_class=5-static_augmentation=flip.json").is_file()
    assert data.list_options("digits")["per_class"] is None
    assert data.list_options("galaxy10-synthetic")["size"] == 64  # its own: the size that is simulated


def test_galaxies_are_chosen_before_each_is_augmented(tmp_path: Path) -> None:
    pytest.importorskip("galsim")
    options = {"number": 100, "size": 32, "static_augmentation": "flip", "progress": False}
    all_of_them = data.load("galaxy10-synthetic", tmp_path, **options)
    few = data.load("galaxy10-synthetic", tmp_path, per_class=2, **options)
    assert few.train.labels.bincount().tolist() == [4] * 10
    assert len(all_of_them.train) == 160
    assert few.test.digest == all_of_them.test.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 9}, "an image of 8 x 8 pixels is too small for crop=9"),
        ({"size": 0}, "option 'size' of data set 'ramp' expects a number from 1, got 0"),
        ({"per_class": -1}, "option 'per_class' of data set 'ramp' expects a number from 1, got -1"),
        ({"per_class_seed": 1}, "per_class_seed=1 draws nothing without per_class"),
        ({"augmentation_seed": 1}, "augmentation_seed=1 draws nothing without static_augmentation"),
        ({"static_augmentation": "flop"}, "flop"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(splits(), **options)  # type: ignore[arg-type]
