"""Poisson noise on images, and what it costs in accuracy (section 4.1.2 of the paper).

The noise is drawn once and kept: ``x' = clip(Poisson(s x) / s, 0, white)``, where a grey level ``x`` stands for ``s x``
photons.  A larger scale ``s`` is less noise: where nothing is clipped, the standard deviation is ``sqrt(x / s)`` grey
levels.  The paper does not state its scale, so the drop is reported as a curve over the scale too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pure.data.images import Images, ImageSet, name_of, read, rows_in_chunks
from pure.data.machine import processors

__all__ = ["Drop", "drop_curve", "moments", "poisson", "relative_drop"]

_READ_AT_ONCE = 256


def poisson(images: Images, scale: float = 1.0, seed: int = 0, white: int = 255) -> ImageSet:
    """A set under Poisson noise, with the same labels.

    The noise of a row depends on the seed and the row alone, not on which others are drawn, and is the same in every
    version of NumPy, whose legacy generators are frozen.

    Args:
        images: uint8 images of one shape.
        scale: photons for a grey level.
        seed: fixes the noise.
        white: the highest grey level, which clips the noise from above.

    Returns:
        Images in memory, ``(N, C, H, W)``: uint8 at scale 1, where photons are grey levels, else float32.

    Raises:
        ValueError: the scale is not above 0, the images have no common shape, or an image is not uint8 or brighter
            than white.
    """
    _require_scale(scale)
    if images.shape is None:
        raise ValueError("the images have no common shape and cannot be kept in one tensor; resize them first")
    noisy = torch.empty(len(images), *images.shape, dtype=torch.uint8 if scale == 1 else torch.float32)

    def draw(row: int, image: Tensor) -> None:
        if image.dtype != torch.uint8 or int(image.max()) > white:
            raise ValueError(
                f"expected uint8 images with grey levels up to white={white}, {name_of(images, row)} is {image.dtype} "
                f"up to {image.max()}"
            )
        bits = np.random.SFC64(np.random.SeedSequence((seed, row)))
        photons = np.random.RandomState(bits).poisson(float(scale) * image.numpy())  # several threads draw at once
        noisy[row] = torch.from_numpy(np.minimum(photons / scale, white))

    with ThreadPoolExecutor(processors()) as pool:
        for rows in rows_in_chunks(images, _READ_AT_ONCE):
            deque(pool.map(draw, rows.tolist(), read(images, rows)), maxlen=0)  # raises what a thread raised
    return ImageSet(noisy, images.labels)


def moments(grey: Tensor, scale: float = 1.0, white: float = 255) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of a grey level under clipped Poisson noise.

    Without clipping they are ``x`` and ``x / s``.  At white ``w`` the count is cut to ``min(P, c)`` with ``c = s w``
    and ``P`` Poisson of mean ``mu = s x``, so that, with ``k`` the last whole number below ``c`` and ``Q`` the
    probability of at most that many photons,

    ``E[min(P, c)] = mu Q(k - 1) + c (1 - Q(k))`` and ``E[min(P, c)^2] = mu^2 Q(k - 2) + mu Q(k - 1) + c^2 (1 - Q(k))``.

    Args:
        grey: grey levels ``x``, any shape.
        scale: photons for a grey level.
        white: where the noise is clipped.

    Returns:
        Mean in grey levels and variance in squared grey levels, of the shape of ``grey``, float64.
    """
    _require_scale(scale)
    mu, cut = scale * grey.double(), scale * white
    last = math.ceil(cut) - 1

    def at_most(count: int) -> Tensor:
        """The probability of at most ``count`` photons."""
        if count < 0:
            return torch.zeros_like(mu)
        return torch.where(mu > 0, torch.special.gammaincc(torch.tensor(count + 1.0, dtype=mu.dtype), mu), 1.0)

    bright = cut * (1 - at_most(last))
    mean = mu * at_most(last - 1) + bright
    square = mu.square() * at_most(last - 2) + mu * at_most(last - 1) + cut * bright
    return mean / scale, (square - mean.square()).clamp(min=0) / scale**2


def relative_drop(original: float, noisy: float) -> float:
    """How much of the accuracy is lost under noise, in percent, eq. (6): ``100 (A - A') / A``.

    Args:
        original: accuracy ``A`` on the images as they are, as a share or in percent.
        noisy: accuracy ``A'`` under noise, in the same unit.

    Raises:
        ValueError: the original accuracy is not above 0.
    """
    if not original > 0:
        raise ValueError(f"a relative drop needs an accuracy above 0 without noise, got {original}")
    return 100 * (original - noisy) / original


@dataclass(frozen=True)
class Drop:
    """What noise of one scale costs.

    Attributes:
        scale: photons for a grey level.
        accuracy: under this noise, in the unit of the measurement.
        relative_drop: percent, eq. (6).
    """

    scale: float
    accuracy: float
    relative_drop: float


def drop_curve(
    measure: Callable[[Images], float],
    images: Images,
    scales: Iterable[float],
    seed: int = 0,
    white: int = 255,
) -> list[Drop]:
    """The relative drop as a function of the noise's scale.

    Args:
        measure: gives the accuracy on a set of images, for example of a trained network.
        images: the set without noise, measured once.
        scales: photons for a grey level; each draws the noise again with the same seed.
        seed: fixes the noise.
        white: the highest grey level.

    Returns:
        One :class:`Drop` for each scale, in their order.
    """
    original = measure(images)
    curve = []
    for scale in scales:
        accuracy = measure(poisson(images, scale, seed, white))
        curve.append(Drop(scale, accuracy, relative_drop(original, accuracy)))
    return curve


def _require_scale(scale: float) -> None:
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"expected a scale above 0 photons for a grey level, got {scale}")
