"""Blended galaxies with their true masks: which pixels belong to the galaxy in the middle.

GalSim draws the galaxy, its neighbours, the stars and the noise apart, so the mask is known and not drawn by hand.
Deblending is what astronomers call the task.  The pictures are simulations, and the name says so in every record.
They are made with GalSim, an extra: ``pip install 'pure-networks[galaxies]'``; a file that exists is read without it.
"""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import pure.data.sets.galaxies
from pure.data.images import ImageSet
from pure.data.splits import Splits, stratified_split
from pure.data.storage.download import locked, unwritable
from pure.data.storage.files import write_atomically
from pure.data.storage.root import data_root
from pure.extras import require_extra

if TYPE_CHECKING:
    from pure.data.sets.galaxies.sky import Canvas

__all__ = ["Scene", "Settings", "deblending", "simulate_blend"]

SIZE = 64
"""Pixels along an edge."""

_GRID = 2 * SIZE
"""Pixels along the edge of the frame that is drawn, of which the central quarter is shown: 0.52 seconds of arc each."""

ISOPHOTE = 24.0
"""Down to so many magnitudes per square arcsecond in r a pixel belongs to a galaxy, some five times its noise."""

EMPTY = 0.15
"""Share of the scenes with nothing in the middle."""

_NOISELESS = 1e12
"""Exposure of the true brightness, in units of the survey's: its noise is a millionth of that of a picture."""

_SHOWN = range(2, 10)
"""Classes that are drawn: all but the disturbed and the merging, of which one cannot say where one galaxy ends."""

_CLASSES = ("background", "galaxy")
_FRACTIONS = (0.6, 0.15, 0.25)
_FEWEST = 40


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and what is true of it.

    Attributes:
        image: red, green and blue, uint8, shape ``(3, 64, 64)``.
        mask: 1 where the pixel belongs to the galaxy in the middle, else 0; uint8, shape ``(64, 64)``.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def simulate_blend(seed: int = 0, index: int = 0) -> Scene:
    """A galaxy in the middle, or none, one to four neighbours on or beside it, stars, noise; from the numbers alone.

    A pixel belongs to the galaxy where its light, as the telescope would see it without noise, is brighter in r than
    :data:`ISOPHOTE` and than that of all else together.

    Args:
        seed: of the whole set.
        index: which scene.

    Raises:
        ValueError: a number is negative.
        ModuleNotFoundError: GalSim is not installed.
    """
    if min(seed, index) < 0:
        raise ValueError(f"expected seed and index to be 0 or above, got {seed} and {index}")
    require_extra("galaxies", "simulating galaxies", "galsim")
    import galsim  # type: ignore[import-untyped, unused-ignore]

    from pure.data.sets.galaxies.shapes import SHAPES, add_field
    from pure.data.sets.galaxies.sky import Canvas, colour_picture, flux

    rng = np.random.default_rng([seed, index])
    noise = galsim.BaseDeviate(int(rng.integers(1, 2**31)))
    seeing, depth = np.exp(rng.normal([np.log(1.2), 0.0], [0.1, 0.3]))

    def canvas() -> Canvas:
        return Canvas(_GRID, float(seeing))

    target, others, together = canvas(), canvas(), canvas()
    empty = rng.random() < EMPTY
    SHAPES[rng.choice(_SHOWN)](target, rng)
    add_field(others, rng)
    for _ in range(min(4, 1 + rng.poisson(0.8))):
        neighbour = canvas()
        SHAPES[rng.choice(_SHOWN)](neighbour, rng)
        light = 10 ** (-0.4 * rng.uniform(0.0, 1.5))
        distance, angle = rng.uniform(9.0, 15.0) if empty else rng.uniform(4.0, 14.0), rng.uniform(0, 2 * np.pi)
        _add(others, neighbour, light, distance * np.cos(angle), distance * np.sin(angle))
    _add(together, others)
    if not empty:
        _add(together, target)
    picture = colour_picture(together.expose(noise, float(depth)))
    own, other = (each.expose(noise, _NOISELESS)[1] for each in (target, others))
    mask = (own > flux(ISOPHOTE)) & (own > other) & (not empty)
    middle = slice(SIZE // 2, SIZE // 2 + SIZE)
    return Scene(
        np.ascontiguousarray(picture.transpose(2, 0, 1)[:, middle, middle]),
        np.ascontiguousarray(mask[middle, middle].astype(np.uint8)),
    )


def _add(canvas: Canvas, other: Canvas, light: float = 1.0, x: float = 0.0, y: float = 0.0) -> None:
    """Add the light of another canvas, moved by whole pixels next to ``x`` and ``y`` seconds of arc."""
    across, down = round(x / canvas.scale), round(y / canvas.scale)
    for ours, theirs in ((canvas.sharp, other.sharp), (canvas.blurred, other.blurred)):
        to_y, from_y = _overlap(down, canvas.pixels)
        to_x, from_x = _overlap(across, canvas.pixels)
        ours[:, to_y, to_x] += light * theirs[:, from_y, from_x]


def _overlap(moved: int, length: int) -> tuple[slice, slice]:
    """Where a row that is moved lands within the frame, and which part of it does."""
    return slice(max(0, moved), length + min(0, moved)), slice(max(0, -moved), length - max(0, moved))


@dataclass(frozen=True)
class Settings:
    """All that a file depends on; written into it.

    Attributes:
        number: of scenes.
        seed: of the whole set.
        code: SHA-256 of the code that draws, so that a file of older code is made again.
    """

    number: int
    seed: int
    code: str = ""

    def __post_init__(self) -> None:
        if self.number < _FEWEST or self.seed < 0:
            raise ValueError(
                f"expected at least {_FEWEST} scenes and a seed of 0 or above, got number={self.number} and "
                f"seed={self.seed}"
            )
        object.__setattr__(self, "code", _code())

    def json(self) -> str:
        """As text, the keys in order."""
        return json.dumps(asdict(self), sort_keys=True)


def deblending(
    root: str | Path | None = None,
    number: int = 1000,
    seed: int = 0,
    split_seed: int = 0,
    progress: bool | None = None,
) -> Splits:
    """Blended galaxies, made if they are not there yet, divided 60 : 15 : 25, the empty scenes alike.

    The file lies below ``deblending`` in the root; one that other settings or other code made is replaced.

    Args:
        root: folder of the data sets, see :func:`pure.data.storage.root.data_root`.
        number: of scenes, at least 40.
        seed: of the scenes; it is no part of a run's seed.
        split_seed: fixes the division.
        progress: whether a bar is shown; None shows it on a terminal only.

    Returns:
        Images ``(3, 64, 64)``, uint8, with masks ``(64, 64)``, uint8, for labels; ``synthetic`` is true.

    Raises:
        ValueError: too few scenes, or a negative seed.
        ModuleNotFoundError: the file is to be made and GalSim is not installed.
        OSError: the folder cannot be written to, or the disk is full.
    """
    settings = Settings(number, seed)
    folder = data_root(root) / "deblending"
    path = folder / f"{number}-scenes-seed-{seed}.npz"
    found = _read(path, settings)
    if found is None:
        require_extra("galaxies", "simulating galaxies", "galsim")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        with locked(path):
            found = _read(path, settings)  # another process may have been quicker
            if found is None:
                found = _write(path, settings, progress)
    images, masks = map(torch.from_numpy, found)
    holds = masks.flatten(1).any(1).long()
    rows = dict(zip(("train", "validation", "test"), stratified_split(holds, _FRACTIONS, split_seed), strict=True))
    parts: dict[str, Any] = {part: ImageSet(images[chosen], masks[chosen]) for part, chosen in rows.items()}
    return Splits("deblending", _CLASSES, **parts, rows=rows, synthetic=True)


Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def _read(path: Path, settings: Settings) -> Arrays | None:
    """Images and masks of a file that holds what the settings ask for; None of a damaged or another one."""
    with suppress(OSError, KeyError, ValueError, EOFError), np.load(path) as file:
        if file["settings"].item() == settings.json():
            return file["images"], file["masks"]
    return None


def _write(path: Path, settings: Settings, progress: bool | None) -> Arrays:
    disable = None if progress is None else not progress
    numbers = tqdm(range(settings.number), "simulating blended galaxies", unit="scene", disable=disable)
    scenes = [simulate_blend(settings.seed, index) for index in numbers]
    images, masks = (np.stack([getattr(scene, each) for scene in scenes]) for each in ("image", "mask"))
    content = io.BytesIO()
    np.savez_compressed(content, images=images, masks=masks, settings=np.array(settings.json()))
    write_atomically(path, content.getvalue())
    return images, masks


def _code() -> str:
    """SHA-256 of the code that draws a scene."""
    folder = Path(pure.data.sets.galaxies.__file__).parent
    sources = [Path(__file__), *sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
