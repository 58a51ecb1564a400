"""Poisson noise: its moments against theory, its independence of what else is drawn, the drop and its curve."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy import stats
from torch import Tensor

from pure.data.images import Images, ImageSet, Joined, Subset
from pure.data.noise import drop_curve, moments, poisson, relative_drop

PAPER = yaml.safe_load((Path(__file__).parents[2] / "results" / "paper.yaml").read_text())
SCALES = [0.05, 0.5, 1.0, 4.0, 100.0]


def flat(*greys: int, rows: int = 1, edge: int = 100) -> ImageSet:
    """Each image has one grey level in each of its channels."""
    image = torch.tensor(greys, dtype=torch.uint8).view(1, -1, 1, 1)
    return ImageSet(image.expand(rows, -1, edge, edge).contiguous(), torch.arange(rows))


def by_summation(grey: int, scale: float, white: int) -> tuple[float, float]:
    """Mean and variance of the clipped grey level, count by count."""
    mu = scale * grey
    counts = np.arange(0, int(mu + 40 * math.sqrt(mu) + 100))
    probability = stats.poisson.pmf(counts, mu)
    values = np.minimum(counts / scale, white)
    mean = float(probability @ values)
    return mean, float(probability @ (values - mean) ** 2)


# Theory


@pytest.mark.parametrize("scale", [0.013, *SCALES])
@pytest.mark.parametrize("white", [16, 255])
def test_moments_are_those_of_the_sum_over_all_counts(scale: float, white: int) -> None:
    greys = [0, 1, 2, white // 2, white - 1, white]
    mean, variance = moments(torch.tensor(greys), scale, white)
    for i, grey in enumerate(greys):
        expected = by_summation(grey, scale, white)
        assert float(mean[i]) == pytest.approx(expected[0], rel=1e-9, abs=1e-12)
        assert float(variance[i]) == pytest.approx(expected[1], rel=1e-6, abs=1e-9)


def test_moments_are_those_of_the_plain_distribution_far_from_white() -> None:
    greys = torch.tensor([[0.0, 7.0], [40.0, 100.0]])
    mean, variance = moments(greys, 2.0, 255)
    torch.testing.assert_close(mean, greys.double())
    torch.testing.assert_close(variance, greys.double() / 2)


def test_clipping_takes_half_of_the_noise_at_white() -> None:
    """At white the noise is about normal with deviation d, and its upper half is cut to 0.

    What is left has the mean -d / sqrt(2 pi) and the variance d^2 (1/2 - 1/(2 pi)).
    """
    mean, variance = moments(torch.tensor(255), 100.0, 255)
    deviation = math.sqrt(255 / 100)
    assert float(mean) - 255 == pytest.approx(-deviation / math.sqrt(2 * math.pi), rel=0.01)
    assert float(variance) == pytest.approx(deviation**2 * (1 / 2 - 1 / (2 * math.pi)), rel=0.01)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("white", [16, 255])
def test_noise_has_the_mean_and_variance_of_theory(scale: float, white: int) -> None:
    greys = [0, 1, white // 3, white - 2, white]
    noisy = poisson(flat(*greys), scale, seed=1, white=white).images[0].flatten(1).double()  # (greys, 10,000)
    n = noisy.shape[1]
    mean, variance = moments(torch.tensor(greys), scale, white)
    assert torch.equal(noisy[0], torch.zeros(n, dtype=torch.float64))
    for values, expected, spread in zip(noisy[1:], mean[1:], variance[1:], strict=True):
        assert float(values.mean()) == pytest.approx(float(expected), abs=4.5 * math.sqrt(float(spread) / n))
        fourth = float((values - values.mean()).pow(4).mean())  # gives the error of a variance
        error = math.sqrt(max(fourth - float(spread) ** 2, 0) / n)
        assert float(values.var(correction=0)) == pytest.approx(float(spread), abs=4.5 * error + 1e-9)
        assert 0 <= float(values.min()) <= float(values.max()) <= white


def test_noise_has_the_distribution_of_poisson() -> None:
    counts = poisson(flat(9), seed=2).images.flatten().bincount(minlength=30).double()
    expected = torch.from_numpy(stats.poisson.pmf(np.arange(30), 9) * 10_000)
    common = expected > 5
    statistic = float(((counts - expected)[common] ** 2 / expected[common]).sum())
    assert stats.chi2(int(common.sum())).sf(statistic) > 1e-3


def test_grey_levels_under_noise_are_photons_over_the_scale() -> None:
    noisy = poisson(flat(50, 200), scale=4.0).images
    assert torch.equal(noisy * 4, (noisy * 4).round())
    assert noisy.unique().numel() > 100


@pytest.mark.parametrize(
    ("scale", "dtype"), [(1, torch.uint8), (1.0, torch.uint8), (0.5, torch.float32), (2.0, torch.float32)]
)
def test_noise_is_uint8_where_photons_are_grey_levels(scale: float, dtype: torch.dtype) -> None:
    original = flat(0, 128, 255, rows=3, edge=5)
    noisy = poisson(original, scale)
    assert noisy.images.dtype is dtype
    assert noisy.images.shape == original.images.shape
    assert torch.equal(noisy.labels, original.labels)
    assert torch.equal(original.images, flat(0, 128, 255, rows=3, edge=5).images)


# Counters


def test_the_noise_of_a_row_depends_on_seed_and_row_alone() -> None:
    images = flat(100, rows=300, edge=6)
    whole = poisson(images, seed=3).images
    assert torch.equal(poisson(images, seed=3).images, whole)
    assert torch.equal(poisson(ImageSet(images.images[:7], images.labels[:7]), seed=3).images, whole[:7])
    assert torch.equal(poisson(Joined(images), seed=3).images, whole)
    assert not torch.equal(poisson(images, seed=4).images, whole)
    assert len({image.numpy().tobytes() for image in whole}) == 300  # each row has its own


def test_noise_is_the_same_in_every_release() -> None:
    """Pinned: NumPy keeps its legacy distributions as they are, so that a noisy accuracy can be computed again."""
    assert poisson(flat(3, 100, edge=2), seed=7).images.flatten().tolist() == [0, 4, 3, 1, 87, 112, 110, 86]


def test_noise_leaves_the_generators_alone() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]  # noqa: NPY002
    poisson(flat(9, rows=3, edge=3))
    after = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]


# Bad input


@pytest.mark.parametrize("scale", [0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    for call in (lambda: poisson(flat(1), scale), lambda: moments(torch.tensor(1), scale)):
        with pytest.raises(ValueError, match="expected a scale above 0 photons for a grey level, got"):
            call()


def test_images_that_no_noise_can_be_drawn_for_are_refused() -> None:
    with pytest.raises(ValueError, match=r"grey levels up to white=16, image 1 is torch.uint8 up to 17"):
        poisson(ImageSet(torch.tensor([16, 17], dtype=torch.uint8).view(2, 1, 1, 1), torch.zeros(2).long()), white=16)
    with pytest.raises(ValueError, match=r"expected uint8 images .*, image 0 is torch.float32"):
        poisson(poisson(flat(9), scale=0.5))
    mixed = Joined(flat(1, edge=2), flat(1, edge=3))
    with pytest.raises(ValueError, match="no common shape"):
        poisson(mixed)


# What it costs


@pytest.mark.parametrize("model", PAPER["table2"]["rows"])
def test_relative_drop_is_that_of_table_2(model: str) -> None:
    columns = PAPER["table2"]["columns"]
    row = dict(zip(columns, PAPER["table2"]["rows"][model], strict=True))
    # Three figures that are rounded to two decimals
    error = 100 * (0.005 + 0.005) / row["mean_acc"] + 0.005
    assert relative_drop(row["mean_acc"], row["noisy_mean_acc"]) == pytest.approx(row["relative_drop"], abs=error)


def test_relative_drop() -> None:
    assert relative_drop(0.8, 0.6) == pytest.approx(25.0)
    assert relative_drop(80, 60) == pytest.approx(25.0)
    assert relative_drop(50, 55) == pytest.approx(-10.0)
    for nothing in (0.0, math.nan):
        with pytest.raises(ValueError, match="an accuracy above 0 without noise, got"):
            relative_drop(nothing, 0.0)


def test_the_curve_measures_each_scale_once_and_the_original_once() -> None:
    images = flat(100, rows=2, edge=30)
    seen: list[Images] = []

    def measure(subset: Images) -> float:
        seen.append(subset)
        return 80.0 - float(torch.stack([subset[row][0].float() for row in range(2)]).std()) * (len(seen) > 1)

    curve = drop_curve(measure, images, [0.5, 1, 25.0], seed=6)
    assert [point.scale for point in curve] == [0.5, 1, 25.0]
    assert seen[0] is images
    assert len(seen) == 4
    for point, noisy in zip(curve, seen[1:], strict=True):
        assert isinstance(noisy, ImageSet)
        assert torch.equal(noisy.images, poisson(images, point.scale, seed=6).images)
        assert point.accuracy == 80.0 - float(noisy.images.float().std())
        assert point.relative_drop == pytest.approx(100 * (80 - point.accuracy) / 80)
        # the deviation is sqrt(x / s): 14.1, 10 and 2 grey levels
        assert 80 - point.accuracy == pytest.approx(math.sqrt(100 / point.scale), rel=0.05)


def test_noise_is_drawn_for_images_that_are_read() -> None:
    images = flat(20, 200, rows=4, edge=3)
    chosen = Subset(Joined(images), torch.tensor([3, 1]))
    noisy = poisson(chosen, seed=1)
    assert noisy.labels.tolist() == [3, 1]
    expected: Tensor = poisson(ImageSet(images.images[[3, 1]], images.labels[[3, 1]]), seed=1).images
    assert torch.equal(noisy.images, expected)


def test_a_whole_scale_does_not_wrap_round() -> None:
    """NumPy keeps uint8 times a Python int in uint8: 4 x 200 would be 32."""
    images = ImageSet(torch.full((20, 1, 16, 16), 200, dtype=torch.uint8), torch.zeros(20, dtype=torch.long))
    whole, real = poisson(images, scale=4), poisson(images, scale=4.0)
    assert torch.equal(whole.images, real.images)
    assert abs(float(whole.images.mean()) - 200) < 1
