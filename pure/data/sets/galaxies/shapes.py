"""What the ten classes look like: bulges, discs, bars, arms, dust, collisions, and what else lies in the frame.

A function for each class draws the properties of a galaxy and puts its light on a canvas.  Every draw is in seconds of
arc and magnitudes, none depends on the grid: a galaxy is the same at every size of the picture.  The ranges are chosen
by eye, so that the classes look as in Galaxy10 DECaLS and blend at their borders; they are no fit to any survey.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import galsim  # type: ignore[import-untyped, unused-ignore]
import numpy as np
from numpy.typing import NDArray

from pure.data.sets.galaxies.sky import FIELD, Canvas, flux, spectrum

__all__ = ["SHAPES", "add_field"]

Array = NDArray[np.float64]
Rng = np.random.Generator


# --- colours -----------------------------------------------------------------------------------------------------


def _old(rng: Rng) -> Array:
    """Spectrum of old stars: bulges, ellipticals and bars."""
    return spectrum(rng.normal(0.88, 0.07), rng.normal(0.62, 0.05))


def _mixed(rng: Rng) -> Array:
    """Spectrum of a disc between its arms."""
    return spectrum(rng.normal(0.6, 0.08), rng.normal(0.42, 0.06))


def _young(rng: Rng) -> Array:
    """Spectrum of young stars: arms, knots and tails."""
    return spectrum(rng.normal(0.22, 0.08), rng.normal(0.1, 0.08))


# --- parts of a galaxy -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plane:
    """The plane of a disc, as it is seen.

    Attributes:
        x: where its middle is, in seconds of arc.
        y: where its middle is.
        axis_ratio: cosine of the inclination.
        angle: of the major axis, in radians.
        lopsided: by how much the disc is longer on one side than on the other; 0 for none.
    """

    x: float
    y: float
    axis_ratio: float
    angle: float
    lopsided: float = 0.0

    def polar(self, canvas: Canvas) -> tuple[Array, Array]:
        """Radius in seconds of arc and azimuth of every pixel in the plane."""
        along, across = canvas.positions(self.x, self.y, self.angle)
        radius = np.hypot(along, across / self.axis_ratio) + 1e-3  # its logarithm is taken
        azimuth = np.arctan2(across / self.axis_ratio, along)
        if self.lopsided:
            radius = radius * (1 - self.lopsided * np.cos(azimuth) * radius / (radius + 3.0))
        return radius, azimuth

    def sky(self, radius: Array, azimuth: Array) -> tuple[Array, Array]:
        """Where points of the plane are seen."""
        along, across = radius * np.cos(azimuth), radius * np.sin(azimuth) * self.axis_ratio
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return self.x + along * cos - across * sin, self.y + along * sin + across * cos


def _plane(rng: Rng, flattest: float = 0.45, x: float = 0.0, y: float = 0.0, lopsided: float = 0.0) -> Plane:
    """A disc seen from a random side, no more inclined than to the axis ratio ``flattest``."""
    return Plane(x, y, rng.uniform(flattest, 1.0), rng.uniform(0, 2 * np.pi), lopsided)


def _spheroid(
    canvas: Canvas, light: Array, index: float, radius: float, axis_ratio: float, angle: float, x: float, y: float
) -> None:
    """A Sersic profile with half its light within ``radius``."""
    index = round(index * 2) / 2  # GalSim tabulates each index once
    profile = galsim.Sersic(index, half_light_radius=radius).shear(q=axis_ratio, beta=angle * galsim.radians)
    canvas.add_profile(profile, light, x, y)


@dataclass(frozen=True)
class Arm:
    """A logarithmic spiral: its azimuth grows with the logarithm of the radius, by 1 / tan(pitch)."""

    phase: float
    winding: float  # 1 / tan(pitch); its sign is the sense of rotation
    wave: tuple[float, float, float]  # amplitude, frequency and phase of the crest's wandering
    strength: float
    start: float
    end: float

    def crest(self, logarithm: Array) -> Array:
        """Azimuth of the crest, from the logarithm of the radius over that where the arms start."""
        amplitude, frequency, shift = self.wave
        return self.phase + self.winding * logarithm + amplitude * np.sin(frequency * logarithm + shift)

    def brightness(self, radius: Array, logarithm: Array, azimuth: Array, sharpness: float) -> Array:
        """Between 0 and ``strength``: highest on the crest, zero within the start and beyond the end."""
        across = np.exp(sharpness * (np.cos(azimuth - self.crest(logarithm)) - 1))
        inner, outer = (radius / self.start) ** 6, (radius / self.end) ** 6
        return np.asarray(self.strength * across * inner / (1 + inner) / (1 + outer))


def _spiral_disc(
    canvas: Canvas,
    rng: Rng,
    plane: Plane,
    scale: float,
    brightness: float,
    arms: int,
    pitch: float,
    start: float,
    phase: float | None = None,
    contrast: float = 1.0,
) -> None:
    """A disc of old stars with blue arms and their knots of young stars.

    Args:
        canvas: what it is drawn on.
        rng: draws what is not given.
        plane: of the disc.
        scale: the exponential's, in seconds of arc.
        brightness: of the old disc's middle, in the r band.
        arms: how many.
        pitch: their angle to a circle, in degrees.
        start: radius at which the arms begin.
        phase: azimuth of the first arm at its start.
        contrast: of the arms.
    """
    radius, azimuth = plane.polar(canvas)
    logarithm = np.log(radius / start)
    hand = rng.choice([-1, 1])
    phase = rng.uniform(0, 2 * np.pi) if phase is None else phase
    sharpness = arms**2 * rng.uniform(0.7, 1.6)
    tracks = [
        Arm(
            phase + 2 * np.pi * k / arms + rng.normal(0, 0.3 / arms),
            hand / np.tan(np.radians(pitch * rng.uniform(0.92, 1.08))),
            (rng.uniform(0, 0.5 / arms), rng.uniform(2, 5), rng.uniform(0, 2 * np.pi)),
            rng.uniform(0.65, 1.0),
            start,
            scale * rng.uniform(2.6, 4.2),
        )
        for k in range(arms)
    ]
    pattern = sum((arm.brightness(radius, logarithm, azimuth, sharpness) for arm in tracks), np.zeros_like(radius))
    smooth = np.exp(-radius / scale)
    old, young = _mixed(rng), _young(rng)
    canvas.add_map(brightness * smooth * (0.75 + 0.7 * contrast * pattern), old)
    canvas.add_map(brightness * 0.75 * contrast * np.exp(-radius / (1.25 * scale)) * pattern, young)
    for arm in tracks:
        n = rng.poisson(14)
        r = start + rng.gamma(2.0, 0.8 * scale, n)
        crest = arm.crest(np.log(r / start)) + rng.normal(0, 0.35 / arms, n)
        x, y = plane.sky(r, crest)
        light = 0.5 * contrast * brightness * np.exp(-r / (1.4 * scale)) * rng.exponential(1.0, n) * (r < arm.end)
        canvas.add_spots(x, y, rng.uniform(0.2, 0.7, n), light[:, None] * young)


def _bulge(canvas: Canvas, rng: Rng, plane: Plane, light: float, radius: float) -> None:
    """The round middle of a disc galaxy, with ``light`` nanomaggies in r."""
    axis_ratio = 1 - 0.6 * (1 - plane.axis_ratio)
    _spheroid(canvas, light * _old(rng), rng.uniform(1, 3.5), radius, axis_ratio, plane.angle, plane.x, plane.y)


def _stream(
    canvas: Canvas, rng: Rng, light: Array, x: float, y: float, heading: float, length: float, width: float
) -> None:
    """A curved tail of stars that leaves a galaxy, widens and fades."""
    n = 48
    turning = rng.choice([-1, 1]) * rng.uniform(0.4, 2.2)  # radians over its length
    along = np.linspace(0, 1, n)
    course = heading + turning * along**1.3
    xs = x + np.cumsum(np.cos(course)) * length / n
    ys = y + np.cumsum(np.sin(course)) * length / n
    fading = np.exp(-1.2 * along) * (1 - along**4) * (1 + 0.5 * np.sin(rng.uniform(0, 6) + 9 * along))
    canvas.add_spots(xs, ys, width * (0.6 + 0.9 * along), (fading / fading.sum())[:, None] * light)


def _edge_on_disc(canvas: Canvas, rng: Rng, scale: float, thickness: float, light: Array, angle: float) -> Array:
    """An exponential disc seen within a few degrees of its edge: surface brightness in three bands."""
    profile = galsim.InclinedExponential(
        rng.uniform(85, 90) * galsim.degrees, scale_radius=scale, scale_height=thickness
    ).rotate(angle * galsim.radians)
    return np.asarray(light[:, None, None] * canvas.image(profile))


def _dust_lane(canvas: Canvas, rng: Rng, depth: float, length: float, width: float, angle: float) -> Array:
    """What a lane of dust lets through, between 0 and 1 in three bands: it reddens."""
    along, across = canvas.positions(angle=angle)
    across = across - rng.normal(0, 0.25 * width) + 0.1 * width * np.sin(along / 2 + rng.uniform(0, 6))
    dust = depth * np.exp(-((across / width) ** 2) / 2 - (along / length) ** 4)
    return np.asarray(np.exp(-np.array([1.2, 0.84, 0.47])[:, None, None] * dust))  # in g, r, z, for 1 in V


# --- the ten classes ---------------------------------------------------------------------------------------------


def _smooth(canvas: Canvas, rng: Rng, axis_ratio: float, radius: float, index: float, mean_brightness: float) -> None:
    """An elliptical galaxy; ``mean_brightness`` in magnitudes per square arcsecond within the radius."""
    light = 2 * np.pi * radius**2 * flux(mean_brightness) * _old(rng)
    _spheroid(canvas, light, index, radius, axis_ratio, rng.uniform(0, np.pi), 0, 0)


def round_smooth(canvas: Canvas, rng: Rng) -> None:
    """A round elliptical galaxy."""
    _smooth(canvas, rng, rng.uniform(0.86, 1), rng.uniform(2.3, 5.2), rng.uniform(2, 4.5), rng.uniform(20.2, 22))


def in_between_smooth(canvas: Canvas, rng: Rng) -> None:
    """An elliptical galaxy between round and cigar-shaped."""
    _smooth(canvas, rng, rng.uniform(0.5, 0.76), rng.uniform(2.3, 5.2), rng.uniform(2, 4), rng.uniform(20.2, 22))


def cigar_smooth(canvas: Canvas, rng: Rng) -> None:
    """A long elliptical or lenticular galaxy without a disc that could be told."""
    _smooth(canvas, rng, rng.uniform(0.24, 0.38), rng.uniform(1.7, 3.3), rng.uniform(1.3, 2.7), rng.uniform(20.2, 21.8))


def _spiral(canvas: Canvas, rng: Rng, arms: int, pitch: float, bulge: float) -> None:
    """A spiral galaxy without a bar; ``bulge`` is its share of the light."""
    plane = _plane(rng)
    scale = rng.uniform(3.2, 6.2)
    brightness = float(flux(rng.uniform(20.8, 22.2)))
    contrast = rng.uniform(0.6, 1.1)
    _spiral_disc(canvas, rng, plane, scale, brightness, arms, pitch, scale * rng.uniform(0.45, 0.7), contrast=contrast)
    disc = 2 * np.pi * scale**2 * brightness * plane.axis_ratio
    _bulge(canvas, rng, plane, disc * bulge / (1 - bulge), scale * rng.uniform(0.2, 0.4))


def tight_spiral(canvas: Canvas, rng: Rng) -> None:
    """Arms that are wound tightly around a marked bulge."""
    _spiral(canvas, rng, int(rng.choice([2, 2, 2, 3, 4])), rng.uniform(7, 13), rng.uniform(0.12, 0.4))


def loose_spiral(canvas: Canvas, rng: Rng) -> None:
    """Open arms around a small bulge."""
    _spiral(canvas, rng, int(rng.choice([2, 2, 2, 3])), rng.uniform(22, 38), rng.uniform(0.02, 0.15))


def barred_spiral(canvas: Canvas, rng: Rng) -> None:
    """A bar from whose ends two arms begin, now and then with a ring."""
    plane = _plane(rng, flattest=0.5)
    scale = rng.uniform(3.2, 5.8)
    brightness = float(flux(rng.uniform(21.0, 22.2)))
    length, direction = scale * rng.uniform(0.9, 1.5), rng.uniform(0, np.pi)
    _spiral_disc(canvas, rng, plane, scale, brightness, 2, rng.uniform(11, 28), length, direction)
    radius, azimuth = plane.polar(canvas)
    along, across = radius * np.cos(azimuth - direction), radius * np.sin(azimuth - direction)
    boxy = (np.abs(along / length) ** 2.6 + np.abs(across / (length * rng.uniform(0.2, 0.34))) ** 2.6) ** (1 / 2.6)
    canvas.add_map(brightness * rng.uniform(1.1, 2.2) * np.exp(-(boxy**2.5)), _old(rng))
    if rng.random() < 0.35:
        ring = np.exp(-(((radius - length) / (0.16 * length)) ** 2) / 2)
        canvas.add_map(brightness * rng.uniform(0.3, 0.7) * ring, _mixed(rng))
    _bulge(canvas, rng, plane, 2 * np.pi * scale**2 * brightness * rng.uniform(0.05, 0.15), scale * 0.22)


def _edge_on(canvas: Canvas, rng: Rng, bulge: float, light: Array, dust: float) -> None:
    """A disc seen from its edge; ``bulge`` is the share of the bulge, ``dust`` the lane's optical depth."""
    angle = rng.uniform(0, np.pi)
    scale = rng.uniform(2.6, 5.6)
    thickness = scale * rng.uniform(0.05, 0.1)
    total = 2 * np.pi * scale**2 * float(flux(rng.uniform(21.4, 22.4)))
    image = _edge_on_disc(canvas, rng, scale, thickness, (1 - bulge) * total * light, angle)
    if bulge:
        radius, axis_ratio = scale * rng.uniform(0.28, 0.5), rng.uniform(0.65, 0.95)
        shape = galsim.Sersic(round(rng.uniform(1, 2.5) * 2) / 2, half_light_radius=radius)
        shape = shape.shear(q=axis_ratio, beta=angle * galsim.radians)
        image = image + bulge * total * _old(rng)[:, None, None] * canvas.image(shape)
    if dust:
        width = max(0.5, 0.6 * thickness)
        image = image * _dust_lane(canvas, rng, dust, 2.2 * scale, width, angle)
    canvas.blurred += image
    if not bulge:
        n = rng.poisson(8)
        along, across = rng.normal(0, 1.5 * scale, n), rng.normal(0, 0.3 * thickness, n)
        knots = total * rng.exponential(0.008, n)[:, None] * np.exp(-np.abs(along) / scale)[:, None] * _young(rng)
        cos, sin = np.cos(angle), np.sin(angle)
        canvas.add_spots(along * cos - across * sin, along * sin + across * cos, rng.uniform(0.2, 0.6, n), knots)


def edge_on_without_bulge(canvas: Canvas, rng: Rng) -> None:
    """A needle of a disc, bluish, seldom with dust."""
    light = 0.5 * (_mixed(rng) + _young(rng)) if rng.random() < 0.6 else _mixed(rng)
    _edge_on(canvas, rng, 0.0, light, rng.uniform(0.2, 0.8) if rng.random() < 0.3 else 0.0)


def edge_on_with_bulge(canvas: Canvas, rng: Rng) -> None:
    """A disc with a round bulge that stands out of it, often cut by a lane of dust."""
    light = 0.5 * (_mixed(rng) + _old(rng))
    _edge_on(canvas, rng, rng.uniform(0.35, 0.6), light, rng.uniform(0.4, 1.3) if rng.random() < 0.6 else 0.0)


def _member(canvas: Canvas, rng: Rng, x: float, y: float, share: float) -> float:
    """One of the galaxies of a collision, with ``share`` of the usual light; its radius."""
    radius = rng.uniform(1.8, 3.6) * share**0.4
    if rng.random() < 0.4:
        light = 2 * np.pi * radius**2 * flux(rng.uniform(20.3, 21.5)) * _old(rng)
        _spheroid(canvas, light, rng.uniform(2, 4), radius, rng.uniform(0.55, 1), rng.uniform(0, np.pi), x, y)
        return float(radius)
    plane = _plane(rng, 0.3, x, y, lopsided=rng.uniform(0.15, 0.4))
    brightness = float(flux(rng.uniform(20.3, 21.3)))
    _spiral_disc(canvas, rng, plane, radius, brightness, 2, rng.uniform(20, 40), 0.7 * radius, contrast=0.6)
    _bulge(canvas, rng, plane, 2 * np.pi * radius**2 * brightness * 0.25, 0.35 * radius)
    return float(radius)


def merging(canvas: Canvas, rng: Rng) -> None:
    """Two galaxies, seldom three, that touch, with tails and a bridge of stars."""
    heading, distance = rng.uniform(0, 2 * np.pi), rng.uniform(4.5, 11)
    share = rng.uniform(0.3, 1.0)
    middle = distance * share / (1 + share)  # the heavier one is nearer to the middle of the frame
    x, y = distance * np.cos(heading), distance * np.sin(heading)
    first = (-middle * np.cos(heading), -middle * np.sin(heading))
    second = (first[0] + x, first[1] + y)
    sizes = _member(canvas, rng, *first, 1.0), _member(canvas, rng, *second, share)
    if rng.random() < 0.12:
        around = heading + rng.uniform(1, 5)
        _member(canvas, rng, second[0] + 7 * np.cos(around), second[1] + 7 * np.sin(around), rng.uniform(0.2, 0.5))
    colour = 0.5 * (_mixed(rng) + _young(rng))
    total = float(flux(rng.uniform(17.3, 19.2)))
    for (px, py), size, away in ((first, sizes[0], heading + np.pi), (second, sizes[1], heading)):
        if rng.random() < 0.8:
            leaving = away + rng.normal(0, 0.7)
            px, py = px + 0.8 * size * np.cos(leaving), py + 0.8 * size * np.sin(leaving)
            length, width = rng.uniform(9, 22), rng.uniform(0.8, 2.2)
            _stream(canvas, rng, total * rng.uniform(0.5, 1) * colour, px, py, leaving, length, width)
    if rng.random() < 0.7:
        _stream(canvas, rng, 0.5 * total * colour, *first, heading, distance, rng.uniform(0.9, 1.6))


def disturbed(canvas: Canvas, rng: Rng) -> None:
    """One galaxy out of shape: lopsided, torn, with clumps, tails, plumes or shells."""
    if rng.random() < 0.65:
        plane = _plane(rng, 0.5, lopsided=rng.uniform(0.35, 0.6))
        scale, brightness = rng.uniform(2.4, 4.2), float(flux(rng.uniform(20.8, 22)))
        arms = int(rng.choice([1, 1, 2]))
        _spiral_disc(canvas, rng, plane, scale, brightness, arms, rng.uniform(22, 45), 0.8 * scale, contrast=0.9)
        off, around = scale * rng.uniform(0.1, 0.6), rng.uniform(0, 2 * np.pi)
        core = Plane(off * np.cos(around), off * np.sin(around), plane.axis_ratio, plane.angle)
        _bulge(canvas, rng, core, 2 * np.pi * scale**2 * brightness * rng.uniform(0.03, 0.2), 0.25 * scale)
        n = rng.integers(3, 10)
        x, y = rng.normal(0, 1.3 * scale, (2, n))
        light = 2 * np.pi * scale**2 * brightness * rng.uniform(0.005, 0.05, n)
        canvas.add_spots(x, y, rng.uniform(0.5, 1.3, n), light[:, None] * _young(rng))
        colour, total = 0.5 * (_mixed(rng) + _young(rng)), 2 * np.pi * scale**2 * brightness
    else:
        scale = rng.uniform(2.2, 4)
        total = 2 * np.pi * scale**2 * float(flux(rng.uniform(20.4, 21.6)))
        angle = rng.uniform(0, np.pi)
        _spheroid(canvas, total * _old(rng), rng.uniform(2, 4), scale, rng.uniform(0.6, 1), angle, 0, 0)
        colour = 0.5 * (_mixed(rng) + _old(rng))
        for k in range(rng.integers(1, 4)):  # shells: arcs of sharp outer edge, on alternate sides
            side, reach = angle + np.pi * k + rng.normal(0, 0.2), scale * rng.uniform(2, 3.6)
            along = side + np.linspace(-0.8, 0.8, 40)
            fading = np.cos(np.linspace(-1.4, 1.4, 40))[:, None]
            spots = rng.uniform(0.02, 0.06) * total * fading / fading.sum() * colour
            canvas.add_spots(reach * np.cos(along), reach * np.sin(along), rng.uniform(0.9, 1.8), spots)
    for _ in range(rng.integers(1, 3)):
        heading = rng.uniform(0, 2 * np.pi)
        x, y = scale * np.cos(heading), scale * np.sin(heading)
        light = total * rng.uniform(0.1, 0.25) * colour
        _stream(canvas, rng, light, x, y, heading + rng.normal(0, 0.7), rng.uniform(9, 20), rng.uniform(0.9, 1.8))


SHAPES: tuple[Callable[[Canvas, Rng], None], ...] = (
    disturbed,
    merging,
    round_smooth,
    in_between_smooth,
    cigar_smooth,
    barred_spiral,
    tight_spiral,
    loose_spiral,
    edge_on_without_bulge,
    edge_on_with_bulge,
)
"""What draws each class, in Galaxy10's order."""


def add_field(canvas: Canvas, rng: Rng) -> None:
    """The stars before and the small galaxies behind: as many as a frame of this size has far from the Milky Way."""
    n = rng.poisson(4.5)
    magnitude = np.maximum(22.5 - rng.exponential(2.2, n), 14.5)
    x, y = rng.uniform(-FIELD / 2, FIELD / 2, (2, n))
    g_r = rng.uniform(0.35, 1.4, n)
    light = flux(magnitude)[:, None] * spectrum(g_r, 0.05 + 0.6 * g_r**2)
    free = (np.hypot(x, y) > 9) | (magnitude > 20)  # a survey's target is not hidden behind a star
    canvas.add_spots(x[free], y[free], 0.0, light[free])
    n = rng.poisson(12)
    x, y = rng.uniform(-FIELD / 2, FIELD / 2, (2, n))
    light = flux(np.maximum(23.3 - rng.exponential(1.2, n), 18.5))
    length, angle = rng.uniform(0.3, 1.2, n), rng.uniform(0, np.pi, n)
    across = np.linspace(-1, 1, 5)[:, None]
    share = np.array([0.1, 0.2, 0.4, 0.2, 0.1])[:, None, None]
    g_r = rng.uniform(0.3, 1.4, n)
    spots = (share * light[:, None] * spectrum(g_r, 0.1 + 0.6 * g_r + rng.normal(0, 0.1, n))).reshape(-1, 3)
    width = np.broadcast_to(0.5 * length, (5, n)).ravel()
    canvas.add_spots(
        (x + across * length * np.cos(angle)).ravel(), (y + across * length * np.sin(angle)).ravel(), width, spots
    )
