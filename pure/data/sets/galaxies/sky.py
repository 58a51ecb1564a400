"""How a telescope sees a scene: seeing, pixels, the light of the sky, photon noise, and three bands made one picture.

The numbers are those of the DESI Legacy Imaging Surveys' DECam images (DECaLS), the source of Galaxy10.  Fluxes are in
nanomaggies (1 nanomaggy is magnitude 22.5), surface brightness in nanomaggies per square arcsecond, positions in
seconds of arc from the middle of the frame.  The bands are g, r and z, in this order along every axis of length 3.
"""

from __future__ import annotations

import galsim  # type: ignore[import-untyped, unused-ignore]
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import fftconvolve

__all__ = ["FIELD", "PIXEL", "Canvas", "colour_picture", "flux", "spectrum"]

Array = NDArray[np.float64]

PIXEL = 0.262
"""Edge of a pixel of DECam and of Galaxy10's pictures, in seconds of arc."""
FIELD = 256 * PIXEL
"""Edge of the frame, in seconds of arc: the same for every number of pixels."""
FINEST = 128
"""Smaller pictures are drawn on a grid of at least so many pixels and averaged, else arms and bulges would be lost."""

_SKY = 10 ** (0.4 * (22.5 - np.array([22.0, 20.9, 18.8])))
"""Brightness of a dark sky, from 22.0, 20.9 and 18.8 magnitudes per square arcsecond."""
_DEPTH = 10 ** (0.4 * (22.5 - np.array([24.7, 23.9, 23.0])))
"""Flux of a star at five standard deviations: what two exposures were to reach, as the survey's release 9 says."""
_AREA = 4 * np.pi * (1.5 / 2.355) ** 2
"""Square arcseconds whose noise enters such a measurement, in the seeing of 1.5 seconds of arc that it is for."""
_ELECTRONS = _SKY / (_DEPTH / 5) ** 2 * _AREA
"""Electrons per nanomaggy: the sky's own photon noise must give the depth."""

# Profiles are drawn by Fourier transforms as fine as 2 % of the light; the finer default costs six times the time.
_DRAWING = galsim.GSParams(folding_threshold=0.02, maxk_threshold=0.01, maximum_fft_size=8192)


def flux(magnitude: ArrayLike) -> Array:
    """Flux in nanomaggies, or surface brightness from magnitudes per square arcsecond."""
    return np.asarray(10 ** (0.4 * (22.5 - np.asarray(magnitude, dtype=np.float64))))


def spectrum(g_r: ArrayLike, r_z: ArrayLike) -> Array:
    """Fluxes in g, r and z relative to r, shape ``(..., 3)``, from the colours g - r and r - z in magnitudes."""
    g_r, r_z = np.asarray(g_r, dtype=np.float64), np.asarray(r_z, dtype=np.float64)
    return np.stack([10 ** (-0.4 * g_r), np.ones_like(g_r), 10 ** (0.4 * r_z)], axis=-1)


class Canvas:
    """A frame that light is added to, before the telescope sees it.

    Attributes:
        pixels: of the grid along an edge; a multiple of the picture's.
        scale: edge of a pixel of the grid in seconds of arc.
        axis: positions of the pixels' centres along an edge, shape ``(pixels,)``.
        sharp: surface brightness ``(3, pixels, pixels)`` that is still to be blurred.
        blurred: surface brightness ``(3, pixels, pixels)`` that was drawn with the seeing in it.

    Args:
        size: pixels of the picture along an edge.
        seeing: full width of a star's image at half its height, in seconds of arc.
        ellipticity: the two components of the star's distortion.
    """

    def __init__(self, size: int, seeing: float = 1.25, ellipticity: tuple[float, float] = (0.0, 0.0)) -> None:
        self.size = size
        self.pixels = size * -(-FINEST // size)
        self.scale = FIELD / self.pixels
        self.axis = (np.arange(self.pixels) - (self.pixels - 1) / 2) * self.scale
        self.sharp = np.zeros((3, self.pixels, self.pixels))
        self.blurred = np.zeros_like(self.sharp)
        g1, g2 = ellipticity
        self.psf = galsim.Moffat(beta=2.8, fwhm=seeing, gsparams=_DRAWING).shear(g1=g1, g2=g2)

    def positions(self, x: float = 0.0, y: float = 0.0, angle: float = 0.0) -> tuple[Array, Array]:
        """Coordinates of every pixel along an object's axes, two arrays ``(pixels, pixels)`` in seconds of arc.

        Args:
            x: where the object is.
            y: where the object is.
            angle: of its first axis, in radians.
        """
        dx, dy = self.axis[None, :] - x, self.axis[:, None] - y
        cos, sin = np.cos(angle), np.sin(angle)
        return dx * cos + dy * sin, dy * cos - dx * sin

    def image(self, profile: galsim.GSObject, x: float = 0.0, y: float = 0.0) -> Array:
        """A profile of GalSim seen through the atmosphere: surface brightness ``(pixels, pixels)``."""
        seen = galsim.Convolve(profile.withGSParams(_DRAWING).shift(x, y), self.psf)
        return self._drawn(seen, self.pixels) / self.scale**2

    def _drawn(self, profile: galsim.GSObject, width: int) -> Array:
        """Values at the centres of ``width`` x ``width`` pixels: fine enough a grid to need no mean over a pixel."""
        image = profile.drawImage(nx=width, ny=width, scale=self.scale, method="no_pixel", dtype=np.float64)
        return np.asarray(image.array)

    def add_profile(self, profile: galsim.GSObject, light: Array, x: float = 0.0, y: float = 0.0) -> None:
        """Add a profile of flux 1 with fluxes ``light``, shape ``(3,)``, in nanomaggies."""
        self.blurred += light[:, None, None] * self.image(profile, x, y)

    def add_map(self, brightness: Array, light: Array) -> None:
        """Add a map ``(pixels, pixels)`` times ``light``, shape ``(3,)``: surface brightness, not yet blurred."""
        self.sharp += light[:, None, None] * brightness

    def add_spots(self, x: Array, y: Array, width: ArrayLike, light: Array) -> None:
        """Add round Gaussian spots: stars, knots, and side by side the streams of a collision.

        Args:
            x: positions, shape ``(n,)``.
            y: positions, shape ``(n,)``.
            width: standard deviations; below half a pixel of the grid they are drawn half a pixel wide.
            light: fluxes, shape ``(n, 3)``, in nanomaggies.
        """
        sigma = np.maximum(np.broadcast_to(width, np.shape(x)), self.scale / 2)[:, None]
        # A Gaussian is a product of one in x and one in y, so that n of them are one product of matrices for each band.
        along_x = np.exp(-(((self.axis - x[:, None]) / sigma) ** 2) / 2)  # (n, pixels)
        along_y = np.exp(-(((self.axis - y[:, None]) / sigma) ** 2) / 2)
        for band in range(3):
            self.sharp[band] += (along_y * light[:, band, None] / (2 * np.pi * sigma**2)).T @ along_x

    def expose(self, noise: galsim.BaseDeviate, depth: float = 1.0) -> Array:
        """What the camera records, the sky subtracted: surface brightness ``(3, size, size)`` with photon noise.

        Args:
            noise: GalSim's random numbers.
            depth: time exposed, relative to the survey's two exposures; the noise falls with its square root.
        """
        width = self.pixels // 2 | 1  # odd, to have a middle; a star's light beyond is a hundredth of the noise or less
        star = self._drawn(self.psf, width)
        scene: Array = self.blurred + fftconvolve(self.sharp, star[None] / star.sum(), mode="same", axes=(1, 2))
        block = self.pixels // self.size
        scene = scene.reshape(3, self.size, block, self.size, block).mean((2, 4))
        electrons = _ELECTRONS * depth * (FIELD / self.size) ** 2  # for each unit of surface brightness in a pixel
        seen = np.empty_like(scene)
        for band in range(3):
            counts = galsim.ImageD(np.maximum(scene[band], 0) * electrons[band])  # a transform rings a little below 0
            counts.addNoise(galsim.PoissonNoise(noise, sky_level=_SKY[band] * electrons[band]))
            seen[band] = counts.array / electrons[band]
        return seen


def colour_picture(brightness: Array) -> NDArray[np.uint8]:
    """Three bands as one picture: the colours of the Legacy Surveys' viewer, which Galaxy10's pictures were taken from.

    After Lupton et al. (2004): the mean of the scaled bands goes through arsinh and keeps its colour.  The scales, the
    softening and the offset are the viewer's, for nanomaggies in a pixel of 0.262 seconds of arc.

    Args:
        brightness: nanomaggies per square arcsecond in g, r, z, shape ``(3, H, W)``.

    Returns:
        Red, green and blue, uint8, shape ``(H, W, 3)``.
    """
    softening, offset = 20.0, 0.03
    planes = brightness[::-1] * PIXEL**2 * np.array([2.2, 3.4, 6.0])[:, None, None]  # z, r, g are red, green, blue
    intensity = np.maximum(planes + offset, 0).mean(0)
    stretch = np.arcsinh(softening * intensity) / np.sqrt(softening) / np.where(intensity > 0, intensity, 1)
    picture = np.clip((planes + offset) * stretch, 0, 1) * 255
    return np.ascontiguousarray(np.rint(picture).astype(np.uint8).transpose(1, 2, 0))
