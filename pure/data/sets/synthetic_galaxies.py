"""Synthetic galaxies: a file of Galaxy10's layout that holds no observations, made here by simulation.

Every step of the galaxy experiment runs on it, on any machine, without a download.  What it cannot do is to stand for
the real images: accuracies reached on it are accuracies on simulations.  The file says so (its attribute
``synthetic`` is true), and so does the name of the data set, ``galaxy10-synthetic``, in every record.

The pictures are drawn with GalSim, an extra: ``pip install 'pure-networks[galaxies]'``; a file that exists is read
without it.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import h5py  # type: ignore[import-untyped, unused-ignore]
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import pure.data.sets.galaxies
from pure.data.sets.galaxy10 import COUNTS, Galaxy10DECaLS, divide_galaxies
from pure.data.splits import Splits
from pure.data.storage.download import locked, require_space, unwritable
from pure.data.storage.root import data_root
from pure.extras import require_extra

__all__ = ["Settings", "galaxy10_synthetic", "in_galaxy10s_shares", "simulate", "write_file"]

SMALLEST, LARGEST = 32, 1024
"""Pixels along an edge: below, the arms of a spiral are lost; above, there is nothing more to see."""
FEWEST = 10
"""Images of each class, so that a division 8:1:1 puts every class into each part."""


def simulate(label: int, size: int = 256, seed: int = 0, index: int = 0) -> NDArray[np.uint8]:
    """A synthetic galaxy; it depends on the arguments alone, and is the same galaxy at every size.

    Args:
        label: the class, 0 to 9, in the order of :data:`pure.data.sets.galaxy10.COUNTS`.
        size: pixels along an edge; the edge is always 67 seconds of arc long.
        seed: of the whole set.
        index: which galaxy of its class.

    Returns:
        Red, green and blue, uint8, shape ``(size, size, 3)``.

    Raises:
        ValueError: no such class, or a size, seed or index out of range.
        ModuleNotFoundError: GalSim is not installed.
    """
    if isinstance(label, bool) or label not in range(len(COUNTS)):
        known = ", ".join(f"{number} {name}" for number, name in enumerate(COUNTS))
        raise ValueError(f"unknown class {label!r}; known are {known}")
    _require_size(size)
    for name, value in (("seed", seed), ("index", index)):
        if value < 0:
            raise ValueError(f"expected {name} to be 0 or above, got {value}")
    require_extra("galaxies", "simulating galaxies", "galsim")
    import galsim  # type: ignore[import-untyped, unused-ignore]

    from pure.data.sets.galaxies.shapes import SHAPES, add_field
    from pure.data.sets.galaxies.sky import Canvas, colour_picture

    rng = np.random.default_rng([seed, label, index])
    noise = galsim.BaseDeviate(int(rng.integers(1, 2**31)))
    seeing, depth = np.exp(rng.normal([np.log(1.2), 0.0], [0.1, 0.3]))
    g1, g2 = rng.normal(0, 0.02, 2)
    canvas = Canvas(size, float(seeing), (float(g1), float(g2)))
    add_field(canvas, rng)
    SHAPES[label](canvas, rng)
    return colour_picture(canvas.expose(noise, float(depth)))


@dataclass(frozen=True)
class Settings:
    """All that a file depends on; written into it.

    Attributes:
        counts: images of each class.
        size: pixels along an edge.
        seed: of the whole set.
        pairs: pairs of rows that show the same galaxy under two different labels.  Galaxy10 has 59 such pairs among
            its 17,736 rows: a random division can put one galaxy into training and test set.
        code: SHA-256 of the code that draws, so that a file of older code is made anew.
    """

    counts: tuple[int, ...]
    size: int = 256
    seed: int = 0
    pairs: int = 0
    code: str = ""

    def __post_init__(self) -> None:
        if len(self.counts) != len(COUNTS) or min(self.counts) < 0 or sum(self.counts) == 0:
            raise ValueError(f"expected {len(COUNTS)} counts, none negative, some positive, got {self.counts}")
        _require_size(self.size)
        if self.seed < 0:
            raise ValueError(f"expected seed to be 0 or above, got {self.seed}")
        most = min(sum(self.counts) // 2, sum(self.counts) - max(self.counts))  # both labels of a pair differ
        if not 0 <= self.pairs <= most:
            raise ValueError(f"expected 0 to {most} pairs among counts of {self.counts}, got {self.pairs}")
        object.__setattr__(self, "code", _code())

    def json(self) -> str:
        """As text, the keys in order."""
        return json.dumps(asdict(self), sort_keys=True)

    def galaxies(self) -> NDArray[np.int64]:
        """The galaxy in each row: its class and its index within the class, shape ``(N, 2)``.

        Row i shows the galaxy of its own class and index, except for the second row of a pair: it shows the galaxy of
        the first.
        """
        labels = np.repeat(np.arange(len(self.counts)), self.counts)
        indices = np.concatenate([np.arange(count) for count in self.counts])
        shown = np.stack([labels, indices], axis=1)
        free = np.random.default_rng([self.seed, len(self.counts)]).permutation(len(labels))
        for _ in range(self.pairs):
            # The class with the most rows left comes first, so that partners of another class never run out.
            largest = np.bincount(labels[free]).argmax()
            first = free[labels[free] == largest][0] if 2 * (labels[free] == largest).sum() >= len(free) else free[0]
            second = free[labels[free] != labels[first]][0]
            shown[second] = shown[first]
            free = free[(free != first) & (free != second)]
        return shown


def in_galaxy10s_shares(number: int) -> tuple[int, ...]:
    """How many images of each class: as in Galaxy10, but at least ten.

    Args:
        number: of all images.

    Raises:
        ValueError: too few for ten of each class.
    """
    least = FEWEST * len(COUNTS)
    if number < least:
        raise ValueError(f"expected at least {least} images, {FEWEST} of each class, got {number}")
    wanted = np.array(list(COUNTS.values())) * number / sum(COUNTS.values())
    counts = np.maximum(np.floor(wanted), FEWEST).astype(int)
    while counts.sum() != number:  # the class that is furthest from its share gives or takes one
        if counts.sum() < number:
            counts[np.argmax(wanted - counts)] += 1
        else:
            counts[np.argmax(np.where(counts > FEWEST, counts - wanted, -np.inf))] -= 1
    return tuple(counts.tolist())


def write_file(
    path: str | Path,
    counts: Sequence[int],
    size: int = 256,
    seed: int = 0,
    pairs: int | None = None,
    processes: int | None = None,
    progress: bool | None = None,
) -> Settings:
    """Write a file of synthetic galaxies in Galaxy10's layout: all of it, or nothing.

    The keys are ``images`` ``(N, size, size, 3)`` uint8, ``ans`` ``(N,)``, the labels, ascending, and ``ra``, ``dec``
    in degrees, ``redshift`` and ``pxscale`` in seconds of arc; the attributes ``synthetic`` (true), ``generator``,
    ``galsim`` and ``settings`` (JSON).  Positions and redshifts are drawn at random and play no part in a picture.

    Args:
        path: of the file; one that is there is replaced.
        counts: images of each of the ten classes.
        size: pixels along an edge.
        seed: of the whole set.
        pairs: see :class:`Settings`; by default Galaxy10's share, but at least two if there are 20 rows.
        processes: that draw at the same time; the file is the same for any number.  By default one.  A script that
            asks for more must guard its main module, as always where processes are spawned.
        progress: whether a bar is shown; None shows it on a terminal only.

    Returns:
        The settings, as written into the file.

    Raises:
        ValueError: counts, size, seed, pairs or processes that cannot be.
        ModuleNotFoundError: GalSim is not installed.
        OSError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    settings = _settings(counts, size, seed, pairs)
    if processes is not None and processes < 1:
        raise ValueError(f"expected at least one process, got {processes}")
    require_extra("galaxies", "simulating galaxies", "galsim")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".part", prefix=f"{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    part = Path(name)
    try:
        require_space(path.parent, sum(settings.counts) * size * size * 3, "the file of synthetic galaxies")
        _write(part, settings, processes or 1, progress)
        part.chmod(0o666 & ~_umask())  # a temporary file is its owner's alone
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return settings


def galaxy10_synthetic(
    root: str | Path | None = None,
    number: int = 1000,
    size: int = 64,
    seed: int = 0,
    pairs: int | None = None,
    split: Literal["stratified", "by-position"] = "stratified",
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    split_seed: int = 0,
    tolerance: float = 1.0,
    static_augmentation: str | None = None,
    augmentation_seed: int = 0,
    in_memory: bool = False,
    cache: str | Path | None = None,
    processes: int | None = None,
    progress: bool | None = None,
) -> Splits:
    """Synthetic galaxies, made if they are not there yet, divided as Galaxy10 is.

    The file lies below ``galaxy10-synthetic`` in the root; one that other settings or other code made is replaced.

    Args:
        root: folder of the data sets, see :func:`pure.data.storage.root.data_root`.
        number: of images; the classes have Galaxy10's shares, but at least ten images each.
        size: pixels along an edge.
        seed: of the galaxies; it is no part of a run's seed.
        pairs: rows of the same galaxy under two labels, see :func:`write_file`.
        split: see :func:`pure.data.sets.galaxy10.divide_galaxies`, as for all that is not named here.
        fractions: shares of training, validation and test set.
        split_seed: fixes the division.
        tolerance: arc seconds within which two images show the same position.
        static_augmentation: of each training image once more, such as ``"rotate(180)+flip+resized-crop(64)"``.
        augmentation_seed: of what is drawn for it.
        in_memory: whether the pixels are kept in memory.
        cache: folder for what is made of the file; ``cache`` below the root by default.
        processes: that draw at the same time, see :func:`write_file`.
        progress: whether bars are shown; None shows them on a terminal only.

    Returns:
        Images ``(3, size, size)``, uint8; the name is ``galaxy10-synthetic`` and ``synthetic`` is true.

    Raises:
        ValueError: settings that cannot be.
        ModuleNotFoundError: the file is to be made and GalSim is not installed.
        OSError: the folder cannot be written to, or the disk is full.
    """
    root = data_root(root)
    settings = _settings(in_galaxy10s_shares(number), size, seed, pairs)
    folder = root / "galaxy10-synthetic"
    path = folder / f"{number}-images-{size}-pixels-seed-{seed}.h5"
    if not _is_made(path, settings):
        require_extra("galaxies", "simulating galaxies", "galsim")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        with locked(path):
            if not _is_made(path, settings):  # another process may have been quicker
                for left in folder.glob(f"{path.name}.*.part"):  # by a process that was killed
                    left.unlink()
                write_file(path, settings.counts, size, seed, settings.pairs, processes, progress)
    return divide_galaxies(
        Galaxy10DECaLS(folder, file=path.name),
        split=split,
        fractions=fractions,
        split_seed=split_seed,
        tolerance=tolerance,
        static_augmentation=static_augmentation,
        augmentation_seed=augmentation_seed,
        in_memory=in_memory,
        cache=root / "cache" if cache is None else cache,
        progress=progress,
    )


def _settings(counts: Sequence[int], size: int, seed: int, pairs: int | None) -> Settings:
    if pairs is None:
        total = sum(counts)
        pairs = max(round(total * 59 / sum(COUNTS.values())), 2) if total >= 20 else 0
        pairs = max(0, min(pairs, total - max(counts, default=0)))
    return Settings(tuple(map(int, counts)), size, seed, pairs)


def _is_made(path: Path, settings: Settings) -> bool:
    """Whether a file holds what the settings ask for; a damaged one does not."""
    with suppress(OSError, KeyError), h5py.File(path, "r", locking="best-effort") as file:
        return bool(file.attrs["settings"] == settings.json())
    return False


def _write(part: Path, settings: Settings, processes: int, progress: bool | None) -> None:
    galaxies = settings.galaxies()
    tasks = [(int(label), settings.size, settings.seed, int(index)) for label, index in galaxies]
    sky = np.array([_place(settings.seed, *galaxy) for galaxy in galaxies])  # (N, 3)
    with h5py.File(part, "w") as file:
        images = file.create_dataset("images", (len(tasks), settings.size, settings.size, 3), np.uint8)
        disable = None if progress is None else not progress
        pictures = tqdm(_pictures(tasks, processes), "simulating galaxies", len(tasks), unit="image", disable=disable)
        for row, picture in enumerate(pictures):
            images[row] = picture
        file["ans"] = np.repeat(np.arange(len(settings.counts)), settings.counts).astype(np.uint8)
        file["ra"], file["dec"], file["redshift"] = sky.T
        file["pxscale"] = np.full(len(tasks), 256 * 0.262 / settings.size)
        file.attrs["synthetic"] = True
        file.attrs["generator"] = "pure.data.sets.synthetic_galaxies"
        file.attrs["galsim"] = version("galsim")
        file.attrs["settings"] = settings.json()


def _pictures(tasks: Sequence[tuple[int, int, int, int]], processes: int) -> Iterator[NDArray[np.uint8]]:
    """The pictures in the order of the tasks."""
    if processes == 1:
        yield from (simulate(*task) for task in tasks)
        return
    # Spawned: a fork of a process with PyTorch's threads can hang.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(simulate, *zip(*tasks, strict=True), chunksize=8)


def _place(seed: int, label: int, index: int) -> tuple[float, float, float]:
    """Right ascension and declination within the survey, in degrees, and redshift."""
    rng = np.random.default_rng([seed, label, index, 1])  # another stream than the picture's
    declination = np.degrees(np.arcsin(rng.uniform(np.sin(np.radians(-18)), np.sin(np.radians(32)))))
    return rng.uniform(0, 360), float(declination), float(np.clip(rng.lognormal(np.log(0.06), 0.5), 0.005, 0.25))


def _code() -> str:
    """SHA-256 of the code that draws a picture."""
    folder = Path(pure.data.sets.galaxies.__file__).parent
    sources = [Path(__file__), *sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def _require_size(size: Any) -> None:
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not SMALLEST <= size <= LARGEST:
        raise ValueError(f"expected a size of {SMALLEST} to {LARGEST} pixels, got {size!r}")


def _umask() -> int:
    """Which permissions new files lack; the system tells it only when it is set."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
