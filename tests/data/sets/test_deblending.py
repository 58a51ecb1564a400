"""Simulated blends: their masks are those of the galaxy in the middle, and the file is made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pure import data
from pure.data.sets import deblending as module
from pure.data.sets.deblending import Settings, simulate_blend

pytest.importorskip("galsim")


@pytest.fixture(scope="module")
def scenes() -> list[module.Scene]:
    return [simulate_blend(3, index) for index in range(24)]


def test_a_mask_lies_on_the_galaxy_in_the_middle(scenes: list[module.Scene]) -> None:
    held = [scene for scene in scenes if scene.mask.any()]
    assert 16 <= len(held) < 24  # with 15 % empty
    for image, mask in ((scene.image, scene.mask) for scene in scenes):
        assert image.shape == (3, 64, 64)
        assert image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 1}
    on_it = [scene.mask[30:34, 30:34].mean() for scene in held]
    assert np.mean(on_it) > 0.9  # a star or a brighter neighbour may stand before it
    for image, mask in ((scene.image, scene.mask) for scene in held):
        assert (
            image[:, mask == 1].mean() > image[:, mask == 0].mean() - 20
        )  # as bright as the rest, mostly far brighter


def test_a_scene_depends_on_its_numbers_alone(scenes: list[module.Scene]) -> None:
    again = simulate_blend(3, 5)
    assert np.array_equal(again.image, scenes[5].image)
    assert np.array_equal(again.mask, scenes[5].mask)
    assert not np.array_equal(simulate_blend(4, 5).image, scenes[5].image)
    with pytest.raises(ValueError, match="expected seed and index to be 0 or above, got 0 and -1"):
        simulate_blend(0, -1)


def test_a_neighbour_lands_where_it_is_put() -> None:
    from pure.data.sets.galaxies.sky import Canvas

    one, other = Canvas(128), Canvas(128)
    other.sharp[:, 64, 64] = other.blurred[:, 60, 70] = 2.0
    module._add(one, other, 0.5, 10 * one.scale, -62 * one.scale)
    assert one.sharp[0, 2, 74] == 1.0
    assert one.sharp.sum() == 3.0  # what would lie outside is gone
    assert one.blurred.sum() == 0.0


def test_the_file_is_made_once_and_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = data.load("deblending", tmp_path, number=40)
    assert {name: len(part) for name, part in splits.parts.items()} == {"train": 24, "validation": 6, "test": 10}
    assert splits.synthetic
    assert splits.classes == ("background", "galaxy")
    assert splits.test.labels.shape == (10, 64, 64)
    for part in splits.parts.values():
        assert part.labels.flatten(1).any(1).float().mean().item() == pytest.approx(0.85, abs=0.11)
    scene = simulate_blend(0, int(splits.rows["test"][3]))  # type: ignore[index]
    assert torch.equal(splits.test[3][0], torch.from_numpy(scene.image))
    assert torch.equal(splits.test[3][1], torch.from_numpy(scene.mask))
    monkeypatch.setattr(module, "simulate_blend", None)
    assert data.load("deblending", tmp_path, number=40).fingerprint == splits.fingerprint
    monkeypatch.setattr(module, "_code", lambda: "another")
    with pytest.raises(TypeError):  # newer code makes it again
        data.load("deblending", tmp_path, number=40)


def test_too_few_scenes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 40 scenes and a seed of 0 or above, got number=39 and seed=0"):
        Settings(39, 0)
