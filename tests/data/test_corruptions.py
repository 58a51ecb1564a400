"""Corruptions: what each does to known grey levels, and strengths that damage equally."""

from __future__ import annotations

import pytest
import torch

from pure.data.corruptions import CORRUPTIONS, corrupt, matched_strength
from pure.data.images import ImageSet
from pure.data.noise import poisson

LEVEL = 100


def flat(level: int = LEVEL, side: int = 64) -> ImageSet:
    return ImageSet(torch.full((8, 3, side, side), level, dtype=torch.uint8), torch.arange(8))


def textured() -> ImageSet:
    draw = torch.Generator().manual_seed(3)
    return ImageSet(torch.randint(20, 200, (8, 3, 32, 32), generator=draw, dtype=torch.uint8), torch.arange(8))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_no_strength_is_no_damage_and_labels_stay(kind: str) -> None:
    clean, damaged = textured(), corrupt(textured(), kind, 0.0)
    assert torch.equal(damaged.images, clean.images.float())
    assert torch.equal(damaged.labels, clean.labels)


@pytest.mark.parametrize(
    ("kind", "strength", "mean", "deviation"),
    [
        ("poisson", 4.0, LEVEL, 20.0),  # variance 4 x 100
        ("gaussian", 12.0, LEVEL, 12.0),
        ("speckle", 0.2, LEVEL, 20.0),
        ("dim", 0.25, 75, 0.0),
        ("sky", 30.0, 130, 0.0),
        ("blur", 2.0, LEVEL, 0.0),
        ("impulse", 0.1, 0.9 * LEVEL + 0.05 * 255, 41.15),  # sqrt(0.9 x 100^2 + 0.05 x 255^2 - mean^2)
    ],
)
def test_moments_of_a_flat_image(kind: str, strength: float, mean: float, deviation: float) -> None:
    damaged = corrupt(flat(), kind, strength).images.double()
    assert damaged.mean().item() == pytest.approx(mean, rel=0.01)
    assert damaged.std().item() == pytest.approx(deviation, rel=0.02, abs=1e-3)


def test_poisson_is_the_papers_noise_by_the_number_of_photons() -> None:
    assert torch.equal(corrupt(textured(), "poisson", 0.5, seed=2).images, poisson(textured(), 2.0, 2).images)


def test_grey_levels_stay_between_black_and_white_and_the_seed_decides() -> None:
    damaged = corrupt(textured(), "gaussian", 200.0).images
    assert (damaged.min(), damaged.max()) == (0, 255)
    assert torch.equal(damaged, corrupt(textured(), "gaussian", 200.0).images)
    assert not torch.equal(damaged, corrupt(textured(), "gaussian", 200.0, seed=1).images)


def test_a_blur_keeps_the_light_and_takes_the_texture() -> None:
    images = ImageSet(torch.zeros(1, 1, 31, 31, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    images.images[0, 0, 15, 15] = 255
    blurred = corrupt(images, "blur", 1.5).images[0, 0]
    assert blurred.sum().item() == pytest.approx(255, rel=1e-4)
    row = blurred[15] / blurred[15, 15]
    assert row[16].item() == pytest.approx(torch.tensor(-1 / (2 * 1.5**2)).exp().item(), rel=1e-4)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_matched_strength_changes_grey_levels_by_as_much(kind: str) -> None:
    images = textured()
    strength = matched_strength(images, kind, 10.0)
    change = (corrupt(images, kind, strength).images.float() - images.images).square().mean().sqrt()
    assert change.item() == pytest.approx(10.0, rel=0.01)


def test_what_cannot_be_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"unknown corruption 'spekle'; did you mean 'speckle'"):
        corrupt(flat(), "spekle", 1.0)
    with pytest.raises(
        ValueError, match=r"dim: expected a strength of 0 to 1 \(share of the light that is lost\), got 2"
    ):
        corrupt(flat(), "dim", 2.0)
    with pytest.raises(ValueError, match=r"dim changes these images by 100 grey levels at most, asked were 150"):
        matched_strength(flat(), "dim", 150.0)
    with pytest.raises(ValueError, match="above 0 grey levels, got 0"):
        matched_strength(flat(), "dim", 0.0)
