"""Differences by seed and by image, against SciPy, by hand, and by repetition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pure.report.statistics import contrast, detectable, image_difference, paired_difference

OURS, THEIRS = [91.0, 91.4, 91.2, 90.9, 91.3], [90.5, 91.0, 91.1, 90.6, 90.8]


def test_the_interval_is_students_for_pairs() -> None:
    found = paired_difference(OURS, THEIRS)
    expected = stats.ttest_rel(OURS, THEIRS).confidence_interval(0.95)
    assert (found.mean, found.n) == (pytest.approx(0.36), 5)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.verdict == 1
    assert paired_difference(THEIRS, OURS).verdict == -1
    assert paired_difference([1.0, 2.0], [2.0, 1.0]).verdict == 0


def test_an_interaction_is_the_difference_of_two_differences() -> None:
    cells = {
        ("pure", "own"): [5.0, 6.0],
        ("pure", "other"): [3.0, 5.0],
        ("conv", "own"): [4.0, 4.0],
        ("conv", "other"): [3.0, 1.0],
    }
    weights = {("pure", "own"): 1, ("pure", "other"): -1, ("conv", "own"): -1, ("conv", "other"): 1}
    found = contrast(cells, weights)
    by_seed = [(5 - 3) - (4 - 3), (6 - 5) - (4 - 1)]  # 1 and -2
    assert found.mean == pytest.approx(sum(by_seed) / 2)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 1) * 1.5)
    assert contrast(cells, {("pure", "own"): 0.5, ("pure", "other"): 0.5}).mean == pytest.approx(4.75)


def test_the_detectable_difference_is_found_in_four_of_five_repetitions() -> None:
    difference = detectable(1.0, 5)
    draws = np.random.default_rng(0).normal(difference, 1.0, (100_000, 5))
    found = np.abs(stats.ttest_1samp(draws, 0.0, axis=1).statistic) > stats.t.ppf(0.975, 4)
    assert found.mean() == pytest.approx(0.8, abs=0.005)
    assert detectable(2.0, 5) == pytest.approx(2 * difference)
    assert detectable(1.0, 20) < difference / 2
    assert math.isnan(detectable(0.0, 5))


def answers(seed: int, seeds: int = 5, images: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Two networks whose images are as hard for both, with scatter over seeds and images; ours is better."""
    draw = np.random.default_rng(seed)
    hard, apart = draw.normal(0, 1, images), draw.normal(0, 0.5, images)
    ours = hard + 1.2 + apart / 2 + draw.normal(0, 0.1, (seeds, 1)) + draw.normal(0, 0.7, (seeds, images)) > 0
    theirs = hard + 1.0 - apart / 2 + draw.normal(0, 0.7, (seeds, images)) > 0
    return ours, theirs


def test_the_interval_over_images_covers_what_is_true_of_all_images() -> None:
    ours, theirs = answers(10_000, seeds=200, images=20_000)
    true = ours.mean() - theirs.mean()
    found = [image_difference(*answers(seed)) for seed in range(300)]
    covered = np.mean([each.low <= true <= each.high for each in found])
    assert 0.91 <= covered <= 0.98
    mean, by_seed = found[0], paired_difference(*(each.mean(1) for each in answers(0)))
    assert mean.mean == pytest.approx(by_seed.mean)
    assert mean.detectable == pytest.approx(by_seed.detectable)


def test_where_the_parts_nearly_cancel_the_larger_one_counts_with_its_own_freedom() -> None:
    draw = np.random.default_rng(1714)  # chosen: seeds and images scatter less than independent answers do
    ours, theirs = draw.random((5, 60)) > 0.05, draw.random((5, 60)) > 0.08
    found = image_difference(ours, theirs)
    by_image = stats.ttest_1samp((ours.astype(float) - theirs).mean(0), 0.0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((by_image.low, by_image.high))


def test_two_equal_networks_differ_by_nothing() -> None:
    ours, _ = answers(0)
    found = image_difference(ours, ours)
    assert (found.mean, found.low, found.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_difference([1.0, 2.0], [1.0]), "the same seeds on both sides, got 2 and 1"),
        (lambda: paired_difference([1.0], [1.0]), "expected two seeds or more, got 1"),
        (lambda: contrast({"a": [1.0, 2.0]}, {"a": 1, "b": -1}), r"the same seeds in the cells \['a', 'b'\], got"),
        (lambda: image_difference(np.ones((2, 3)), np.ones((3, 2))), r"of the same shape, got \(2, 3\) and \(3, 2\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
