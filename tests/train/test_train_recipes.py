"""The recipes of the paper from end to end, on small data of the kind that they are for."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training import SMALL

from pure.models import registry
from pure.records import RECORD_NAME, read_record
from pure.train import fit, load_run, predict
from pure.train.schedule import learning_rate, selected_epoch


@pytest.fixture(autouse=True, scope="module")
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, entry in SMALL.items():
            patch.setitem(registry.REGISTRY, name, entry)
        yield


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-per-folder tree of colour images of several sizes: six classes, each with a colour of its own."""
    root = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    for part, number in (("train", 10), ("val", 4)):
        for label in range(6):
            folder = root / part / f"n{label}"
            folder.mkdir(parents=True)
            for index in range(number):
                height, width = draw.integers(36, 60, 2)
                colour = np.array([40 * label, 255 - 40 * label, 128])
                pixels = np.clip(colour + draw.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.jpeg")
    return root


IMAGENET: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "augmentation": "resized-crop(32)+flip",
    "protocols": ("single-crop(36,32)", "ten-crop(36,32)", "multi-scale(32,36)"),
}


def test_the_imagenet_recipe_on_a_tree_of_photographs(photographs: Path, tmp_path: Path) -> None:
    record = fit("imagenet-quick", "resnet8", data=photographs, out=tmp_path, overrides=IMAGENET)
    assert (record.data.train, record.data.validation, record.data.test) == (60, 0, 24)
    assert [epoch.lr for epoch in record.epochs] == pytest.approx([0.1, 0.01, 0.001])
    assert [epoch.validation for epoch in record.epochs] == [None] * 3
    assert record.resources is not None
    assert record.resources.loader == "workers"
    assert record.test is not None
    assert [record.test.protocol, *(test.protocol for test in record.protocols)] == list(IMAGENET["protocols"])
    for test in (record.test, *record.protocols):
        assert test.top5 is not None
        assert test.accuracy <= test.top5 <= 1
        assert sum(map(sum, test.confusion or ())) == 24
    assert record.test.accuracy > 0.4  # a sixth is chance

    loaded, network, splits = load_run(tmp_path, photographs)
    assert loaded == record
    scores = predict(network, splits, splits.test, "single-crop(36,32)")
    assert int((scores.argmax(1) == splits.test.labels).sum()) / 24 == record.test.accuracy


def test_images_held_out_of_a_tree_validate(photographs: Path) -> None:
    changes = {**IMAGENET, "protocols": ("single-crop(36,32)",), "selection": "lowest-validation-loss", "epochs": 2}
    options = {"holdout": 12, "split_seed": 1}
    record = fit("imagenet-quick", "resnet8", data=photographs, overrides=changes, data_options=options)
    assert (record.data.train, record.data.validation, record.data.test) == (48, 12, 24)
    assert all(epoch.validation is not None and epoch.validation.top5 is not None for epoch in record.epochs)
    assert "data_options" in record.overrides
    assert record.recipe.data_options["holdout"] == 12
    assert multiprocessing.active_children() == []  # the workers are gone with the run


def test_a_tree_without_validation_is_refused_by_a_recipe_that_needs_one(photographs: Path, tmp_path: Path) -> None:
    changes = {**IMAGENET, "selection": "lowest-validation-loss"}
    with pytest.raises(ValueError, match=r"needs a validation set for selection='lowest-validation-loss'"):
        fit("imagenet-quick", "resnet8", data=photographs, out=tmp_path / "run", overrides=changes)
    assert not (tmp_path / "run").exists()


def test_the_galaxy_recipe_on_synthetic_galaxies(tmp_path: Path) -> None:
    pytest.importorskip("galsim")
    options = {"number": 200, "size": 32, "static_augmentation": "rotate(180)+flip+resized-crop(32)"}
    changes = {"epochs": 6, "patience": 1, "lr": 0.05}
    record = fit("galaxy10-quick", "resnet8", data=tmp_path, out=tmp_path, overrides=changes, data_options=options)
    assert record == read_record(tmp_path / RECORD_NAME)
    assert record.data.synthetic
    assert record.data.train == 2 * 160  # each training image once more
    assert record.recipe.schedule == "plateau"
    rates = [learning_rate(record.recipe, record.epochs[:number]) for number in range(6)]
    assert [epoch.lr for epoch in record.epochs] == rates
    assert record.selected == selected_epoch(record.recipe, record.epochs)
    assert record.noisy is not None
    assert record.relative_drop is not None
    assert all(torch.tensor(epoch.train.loss).isfinite() for epoch in record.epochs)
    assert record.epochs[-1].train.loss < record.epochs[0].train.loss
