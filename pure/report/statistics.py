"""Means, deviations and differences of networks over seeds and test images, and what could have been found.

Everything here is in the unit of its input: shares of images give shares, percent gives percentage points.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from scipy import optimize, stats

__all__ = [
    "Difference",
    "Effect",
    "Sample",
    "contrast",
    "detectable",
    "difference",
    "difference_from",
    "image_difference",
    "paired_difference",
]


@dataclass(frozen=True)
class Sample:
    """What several runs gave.

    Attributes:
        values: one for each run, at least one.
    """

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Sample:
        """The sample of some values.

        Raises:
            ValueError: there are none.
        """
        numbers = tuple(values)
        if not numbers:
            raise ValueError("no values: a sample has at least one")
        return cls(numbers)

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)  # exact, so that equal values have no deviation at all

    @property
    def deviation(self) -> float | None:
        """Their sample deviation, with ``n - 1`` in the denominator; None for one run."""
        return statistics.stdev(self.values) if self.n > 1 else None

    def __str__(self) -> str:
        """``91.25 ± 0.30``."""
        return f"{self.mean:.2f}" + (f" ± {self.deviation:.2f}" if self.deviation is not None else "")


@dataclass(frozen=True)
class Difference:
    """How far one mean is ahead of another.

    Attributes:
        mean: first mean less the second.
        low: lower end of the interval.
        high: upper end.
    """

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> int:
        """The sign of the difference where the interval leaves out zero, else 0, which is undecided."""
        return int(self.low > 0) - int(self.high < 0)

    def __str__(self) -> str:
        """``+0.17 (-0.52 to +0.85)``."""
        return f"{self.mean:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


@dataclass(frozen=True)
class Effect(Difference):
    """A difference over seeds that both sides share.

    Attributes:
        n: number of seeds.
        detectable: the smallest true difference that this many seeds find in four of five repetitions; NaN where the
            seeds do not scatter.
    """

    n: int
    detectable: float


def difference(ours: Sample, theirs: Sample, confidence: float = 0.95) -> Difference:
    """How far one sample's mean is ahead of another's, by Welch: the deviations need not be equal.

    The interval is a point where neither side scatters.

    Raises:
        ValueError: a sample of one run has no deviation.
    """
    if ours.deviation is None or theirs.deviation is None:
        raise ValueError(f"expected two runs or more on each side, got {ours.n} and {theirs.n}")
    mean = ours.mean - theirs.mean
    if ours.deviation == theirs.deviation == 0:
        return Difference(mean, mean, mean)
    with warnings.catch_warnings():  # SciPy warns where one side does not scatter, as few test images make likely
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        welch = stats.ttest_ind(ours.values, theirs.values, equal_var=False)
    interval = welch.confidence_interval(confidence)
    return Difference(mean, float(interval.low), float(interval.high))


def difference_from(
    ours: Sample, mean: float, deviation: float | None = None, n: int = 1, confidence: float = 0.95
) -> Difference:
    """How far a sample's mean is ahead of a published one, by Welch.

    Args:
        ours: two values or more.
        mean: the published mean.
        deviation: the published sample deviation; None takes the mean as exact, as of a single run nothing is known.
        n: number of runs behind the published mean.
        confidence: of the interval.

    Raises:
        ValueError: a sample of one run has no deviation.
    """
    if ours.deviation is None:
        raise ValueError(f"expected two runs or more, got {ours.n}")
    parts = [(ours.deviation**2 / ours.n, ours.n - 1)]
    if deviation is not None and n > 1:
        parts.append((deviation**2 / n, n - 1))
    variance = sum(part for part, _ in parts)
    ahead = ours.mean - mean
    if variance == 0:
        return Difference(ahead, ahead, ahead)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)
    return Difference(ahead, ahead - half, ahead + half)


def paired_difference(ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95) -> Effect:
    """Mean difference of two networks over the seeds that both were trained with, Student's interval for pairs.

    Args:
        ours: one value for each seed.
        theirs: those of the same seeds, in the same order.
        confidence: of the interval.

    Raises:
        ValueError: different numbers of seeds, or fewer than two.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"expected the same seeds on both sides, got {len(ours)} and {len(theirs)}")
    return _student([a - b for a, b in zip(ours, theirs, strict=True)], confidence)


def contrast(cells: Mapping[Any, Sequence[float]], weights: Mapping[Any, float], confidence: float = 0.95) -> Effect:
    """A weighted sum over the cells of an experiment, seed by seed: a main effect or an interaction.

    In a 2 x 2 experiment with cells ``(unit, recipe)``, the interaction has the weights 1, -1, -1, 1: how much the
    effect of the unit changes with the recipe.

    Args:
        cells: for each cell one value a seed, the same seeds in the same order.
        weights: of each cell; those that are not named do not count.
        confidence: of the interval.

    Raises:
        ValueError: a cell is missing, or the cells have different numbers of seeds, or fewer than two.
    """
    lacking = [cell for cell in weights if cell not in cells]
    numbers = {len(cells[cell]) for cell in weights if cell in cells}
    if lacking or len(numbers) != 1:
        raise ValueError(
            f"expected the same seeds in the cells {list(weights)}, got { ({k: len(v) for k, v in cells.items()}) }"
        )
    (number,) = numbers
    return _student([sum(w * cells[cell][seed] for cell, w in weights.items()) for seed in range(number)], confidence)


def image_difference(ours: NDArray[Any], theirs: NDArray[Any], confidence: float = 0.95) -> Effect:
    """The same difference, for further test images of the same kind too, and not for these alone.

    Both networks answered the same images, so the difference is taken image by image.  Seeds and images scatter
    independently: the variance of the mean is the sum of both, less what is counted twice (a two-way layout with one
    value a cell), and the degrees of freedom are Satterthwaite's.  It is never less than that of either alone.

    Args:
        ours: whether each answer was right, shape ``(seeds, images)``, bool.
        theirs: likewise, of the same seeds and images.
        confidence: of the interval.

    Raises:
        ValueError: other shapes, or fewer than two seeds or images.
    """
    if ours.shape != theirs.shape or ours.ndim != 2 or min(ours.shape) < 2:
        raise ValueError(f"expected two arrays (seeds, images) of the same shape, got {ours.shape} and {theirs.shape}")
    differences = ours.astype(float) - theirs.astype(float)
    seeds, images = differences.shape
    mean = float(differences.mean())
    by_seed, by_image = differences.mean(1), differences.mean(0)
    residual = differences - by_seed[:, None] - by_image[None, :] + mean
    parts = (  # variance of the mean, and its degrees of freedom
        (float(by_seed.var(ddof=1)) / seeds, seeds - 1),
        (float(by_image.var(ddof=1)) / images, images - 1),
        (-float((residual**2).sum()) / ((seeds - 1) * (images - 1)) / (seeds * images), (seeds - 1) * (images - 1)),
    )
    variance = sum(part for part, _ in parts)
    alone = max(parts[:2])
    if variance <= alone[0]:  # by chance: it is expected to be more than that of the seeds, or of the images, alone
        variance, freedom = alone
    else:
        freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)
    return Effect(mean, mean - half, mean + half, seeds, detectable(float(by_seed.std(ddof=1)), seeds))


def detectable(deviation: float, n: int, power: float = 0.8, level: float = 0.05) -> float:
    """The smallest true difference that a paired t-test finds with this probability.

    Args:
        deviation: sample deviation of the differences over the seeds.
        n: number of seeds, at least 2.
        power: probability to find it.
        level: of the two-sided test.

    Returns:
        In the unit of the deviation; NaN where that is 0.
    """
    if deviation == 0 or n < 2:
        return math.nan
    critical = stats.f.isf(level, 1, n - 1)  # the square of a t statistic

    def missing(noncentrality: float) -> float:
        return float(stats.ncf.sf(critical, 1, n - 1, noncentrality**2) - power)

    above = 1.0
    while missing(above) < 0:
        above *= 1.5
    noncentrality = optimize.brentq(missing, 0.0, above)
    return float(noncentrality * deviation / math.sqrt(n))


def _student(differences: Sequence[float], confidence: float) -> Effect:
    n = len(differences)
    if n < 2:
        raise ValueError(f"expected two seeds or more, got {n}")
    mean, deviation = statistics.fmean(differences), statistics.stdev(differences)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * deviation / math.sqrt(n)
    return Effect(mean, mean - half, mean + half, n, detectable(deviation, n))
