"""Other damage than Poisson noise, each of one strength, and strengths that damage equally.

Telescopes and cameras give noise that depends on the signal (photons: ``poisson``; gain that flickers: ``speckle``) or
not (read-out: ``gaussian``; dead and hot pixels: ``impulse``), light that is lost or added (``dim``, ``sky``) and a
lens out of focus (``blur``).  To compare them, :func:`matched_strength` finds the strength at which the root mean
square change of a grey level is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from pure.data.images import Images, ImageSet, read
from pure.data.noise import poisson
from pure.wording import did_you_mean

__all__ = ["CORRUPTIONS", "corrupt", "matched_strength"]

_Damage = Callable[[Tensor, float, torch.Generator, float], Tensor]


def _gaussian(x: Tensor, strength: float, draw: torch.Generator, white: float) -> Tensor:
    return x + strength * torch.randn(x.shape, generator=draw)


def _speckle(x: Tensor, strength: float, draw: torch.Generator, white: float) -> Tensor:
    return x * (1 + strength * torch.randn(x.shape, generator=draw))


def _impulse(x: Tensor, strength: float, draw: torch.Generator, white: float) -> Tensor:
    chance = torch.rand(x.shape, generator=draw)
    black, bright = chance < strength / 2, chance > 1 - strength / 2
    return x.masked_fill(black, 0.0).masked_fill(bright, white)


def _dim(x: Tensor, strength: float, draw: torch.Generator, white: float) -> Tensor:
    return x * (1 - strength)


def _sky(x: Tensor, strength: float, draw: torch.Generator, white: float) -> Tensor:
    return x + strength


def _blur(x: Tensor, strength: float, draw: torch.Generator, white: float) -> Tensor:
    size = 2 * math.ceil(3 * strength) + 1  # three deviations on each side
    most = 2 * (min(x.shape[-2:]) - 1) + 1  # what can be mirrored at the edge
    return transforms.gaussian_blur(x, [min(size, most)] * 2, [strength] * 2) if strength else x


_DAMAGES: Mapping[str, tuple[_Damage | None, float, str]] = {
    "poisson": (None, math.inf, "grey levels for a photon: the variance is strength times the grey level"),
    "gaussian": (_gaussian, math.inf, "deviation in grey levels, whatever the grey level"),
    "speckle": (_speckle, math.inf, "deviation of a factor on each grey level"),
    "impulse": (_impulse, 1.0, "share of values that are black or white"),
    "dim": (_dim, 1.0, "share of the light that is lost"),
    "sky": (_sky, math.inf, "grey levels that are added to all"),
    "blur": (_blur, math.inf, "deviation of a Gaussian in pixels"),
}

CORRUPTIONS: Mapping[str, str] = {name: meaning for name, (_, _, meaning) in _DAMAGES.items()}
"""What the strength of each kind means."""


def corrupt(images: Images, kind: str, strength: float, seed: int = 0, white: int = 255) -> ImageSet:
    """A set of damaged images with the same labels; at strength 0 they are as they were.

    What is random is drawn from the seed in the same order at every strength, so that a curve over the strength is
    smooth.

    Args:
        images: uint8 images of one shape.
        kind: one of :data:`CORRUPTIONS`, which says what the strength means.
        strength: 0 or above; of a share, up to 1.
        seed: fixes what is random.
        white: the highest grey level, to which values are clipped from above, as from below to 0.

    Returns:
        Images in memory, ``(N, C, H, W)``: float32; under Poisson noise as :func:`pure.data.noise.poisson` gives them.

    Raises:
        ValueError: an unknown kind, a strength out of its range, images without a common shape.
    """
    damage = _known(kind, strength)
    if images.shape is None:
        raise ValueError("the images have no common shape and cannot be kept in one tensor; resize them first")
    grey = read(images, torch.arange(len(images)))
    if strength == 0:
        return ImageSet(grey.float(), images.labels)
    if damage is None:
        return poisson(images, 1 / strength, seed, white)
    damaged = damage(grey.float(), strength, torch.Generator().manual_seed(seed), float(white))
    return ImageSet(damaged.clamp(0, white), images.labels)


def matched_strength(images: Images, kind: str, rms: float, seed: int = 0, white: int = 255) -> float:
    """The strength at which a corruption changes grey levels by ``rms``, their root mean square over all images.

    Args:
        images: as of :func:`corrupt`.
        kind: as of :func:`corrupt`.
        rms: in grey levels, above 0.
        seed: as of :func:`corrupt`.
        white: as of :func:`corrupt`.

    Raises:
        ValueError: this kind cannot change the images so much; how far it goes is named.
    """
    most = _DAMAGES[kind][1] if kind in _DAMAGES else math.inf
    _known(kind, 0.0)
    if not rms > 0:
        raise ValueError(f"expected a change above 0 grey levels, got {rms}")
    grey = read(images, torch.arange(len(images))).float()

    def change(strength: float) -> float:
        return float((corrupt(images, kind, strength, seed, white).images.float() - grey).square().mean().sqrt())

    high = min(1e-3, most)
    while change(high) < rms:
        if high >= min(most, 1e6):
            raise ValueError(f"{kind} changes these images by {change(high):.3g} grey levels at most, asked were {rms}")
        high = min(2 * high, most)
    low = 0.0
    for _ in range(12):  # to a few thousandths of it
        middle = (low + high) / 2
        low, high = (middle, high) if change(middle) < rms else (low, middle)
    return high


def _known(kind: str, strength: float) -> _Damage | None:
    if kind not in _DAMAGES:
        raise ValueError(f"unknown corruption {kind!r}; {did_you_mean(kind, _DAMAGES)}known are {', '.join(_DAMAGES)}")
    damage, most, meaning = _DAMAGES[kind]
    if not 0 <= strength <= most or not math.isfinite(strength):
        limit = f"0 to {most:g}" if math.isfinite(most) else "0 or above"
        raise ValueError(f"{kind}: expected a strength of {limit} ({meaning}), got {strength}")
    return damage
