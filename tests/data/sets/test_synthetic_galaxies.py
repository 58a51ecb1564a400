"""Synthetic galaxies: the same by row, in Galaxy10's layout, with the properties that the classes are named for."""

from __future__ import annotations

import inspect
import itertools
import json
import os
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pure.data import load
from pure.data.sets.galaxy10 import COUNTS, Galaxy10DECaLS, leaks
from pure.data.sets.synthetic_galaxies import Settings, galaxy10_synthetic, in_galaxy10s_shares, simulate, write_file
from pure.data.splits import read_split

galsim = pytest.importorskip("galsim")

from pure.data.sets.galaxies.shapes import SHAPES, add_field  # noqa: E402
from pure.data.sets.galaxies.sky import FIELD, PIXEL, Canvas, colour_picture, flux, spectrum  # noqa: E402

DISTURBED, MERGING, ROUND, IN_BETWEEN, CIGAR, BARRED, TIGHT, LOOSE, NEEDLE, BULGED = range(10)
SIZE = 64


@cache
def alone(label: int, n: int = 12) -> NDArray[np.float64]:
    """Galaxies of a class without field and noise: r band, nanomaggies per square arcsecond, shape (n, SIZE, SIZE)."""
    return bands(label, n)[:, 1]


@cache
def bands(label: int, n: int = 12) -> NDArray[np.float64]:
    seen = []
    for index in range(n):
        canvas = Canvas(SIZE)
        SHAPES[label](canvas, np.random.default_rng([7, label, index]))
        seen.append(canvas.expose(galsim.BaseDeviate(1), depth=1e6))  # as good as without noise
    return np.stack(seen)


def moments(image: NDArray[np.float64]) -> tuple[float, float, NDArray[np.float64]]:
    """Second moments along the minor and major axis, and the distance of each pixel along the major one, in pixels."""
    weight = np.where(image > 0.02 * image.max(), image, 0)
    weight = weight / weight.sum()
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    x, y = x - (weight * x).sum(), y - (weight * y).sum()
    (small, large), axes = np.linalg.eigh(np.cov(np.stack([x.ravel(), y.ravel()]), aweights=weight.ravel()))
    return small, large, np.stack([axes[0, k] * x + axes[1, k] * y for k in (0, 1)])


def axis_ratio(image: NDArray[np.float64]) -> float:
    small, large, _ = moments(image)
    return float(np.sqrt(small / large))


def wave(image: NDArray[np.float64], m: int, inner: float, outer: float) -> float:
    """Strength of the azimuthal wave of m crests in narrow rings, relative to the light in them."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    radius, azimuth = np.hypot(x, y) * FIELD / SIZE, np.arctan2(y, x)
    rings = [(radius > r) & (radius <= r + 1) for r in np.arange(inner, outer)]
    crests = image * np.exp(-1j * m * azimuth)
    return float(np.mean([np.abs(crests[ring].sum()) / image[ring].sum() for ring in rings]))


def typical(measure, label: int) -> float:
    return float(np.median([measure(image) for image in alone(label)]))


# --- what the classes are named for ------------------------------------------------------------------------------


def test_axis_ratios_order_the_smooth_classes_and_the_edges():
    ratios = {label: [axis_ratio(image) for image in alone(label)] for label in (ROUND, IN_BETWEEN, CIGAR, NEEDLE)}
    assert min(ratios[ROUND]) > 0.85
    assert 0.5 < min(ratios[IN_BETWEEN]) <= max(ratios[IN_BETWEEN]) < min(ratios[ROUND])
    assert max(ratios[CIGAR]) < min(ratios[IN_BETWEEN])
    assert max(ratios[NEEDLE]) < 0.25
    assert np.median(ratios[NEEDLE]) < np.median(ratios[CIGAR])


def test_the_bulge_stands_out_of_an_edge_on_disc():
    def thickening(image):
        """Share of the light that lies off the plane in the middle, relative to that further out."""
        _, _, (across, along) = moments(image)
        middle, outer = np.abs(along) < 2, (np.abs(along) > 5) & (np.abs(along) < 8)
        off = (np.abs(across) > 2) & (np.abs(across) < 6)
        return (image[middle & off].sum() / image[middle].sum()) / (image[outer & off].sum() / image[outer].sum())

    assert typical(thickening, BULGED) > 1.25 * typical(thickening, NEEDLE)
    assert typical(axis_ratio, BULGED) > 1.25 * typical(axis_ratio, NEEDLE)


def test_spirals_have_two_arms_where_smooth_galaxies_have_none():
    def two_arms(image):
        return wave(image, 2, 3, 10)

    for label in (BARRED, LOOSE):
        assert typical(two_arms, label) > 3 * typical(two_arms, ROUND), label


def face_on_pitch(label: int) -> float:
    """Median pitch of the two-armed wave, from how its phase turns between two radii, of galaxies seen face on."""
    found = []
    y, x = np.mgrid[:256, :256] - 127.5
    radius, azimuth = np.hypot(x, y) * PIXEL, np.arctan2(y, x)
    edges = np.geomspace(3.5, 9, 17)
    for index in range(30):
        rng = np.random.default_rng([3, label, index])
        canvas = Canvas(256)
        SHAPES[label](canvas, _FaceOn(rng))
        image = canvas.sharp[0]  # g, before the seeing
        phases = [
            np.angle((image * np.exp(-2j * azimuth))[(radius > a) & (radius <= b)].sum())
            for a, b in itertools.pairwise(edges)
        ]
        turning = np.polyfit(np.log(edges[1:]), np.unwrap(phases), 1)[0] / 2  # of the azimuth with the logarithm
        found.append(np.degrees(np.arctan(1 / abs(turning))))
    return float(np.median(found))


class _FaceOn:
    """Random numbers that turn every disc to face us with two arms: what is left is the arms' own shape."""

    def __init__(self, rng):
        self.rng = rng

    def __getattr__(self, name):
        return getattr(self.rng, name)

    def uniform(self, low=0.0, high=1.0, size=None):
        drawn = self.rng.uniform(low, high, size)
        return 1.0 if (low, high) == (0.45, 1.0) else drawn

    def choice(self, of):
        drawn = self.rng.choice(of)
        return 2 if 2 in of else drawn


def test_the_arms_of_tight_spirals_are_wound_more_tightly():
    tight, loose = face_on_pitch(TIGHT), face_on_pitch(LOOSE)
    assert 6 < tight < 15
    assert 18 < loose < 42


def test_a_merger_has_two_nuclei_and_its_light_lies_off_the_middle():
    def peaks(image):
        """Separate maxima above a fifth of the brightest."""
        inner = image[1:-1, 1:-1]
        around = [np.roll(image, shift, (0, 1))[1:-1, 1:-1] for shift in ((0, 1), (1, 0), (1, 1), (1, -1))]
        around += [np.roll(image, (-a, -b), (0, 1))[1:-1, 1:-1] for a, b in ((0, 1), (1, 0), (1, 1), (1, -1))]
        return int(((inner > np.max(around, axis=0)) & (inner > 0.2 * image.max())).sum())

    assert typical(peaks, ROUND) == 1
    assert np.mean([peaks(image) >= 2 for image in alone(MERGING)]) >= 0.6


def test_disturbed_galaxies_and_mergers_are_lopsided_and_others_are_not():
    def asymmetry(image):
        return np.abs(image - image[::-1, ::-1]).sum() / (2 * image.sum())

    regular = max(typical(asymmetry, label) for label in (ROUND, IN_BETWEEN, CIGAR, BULGED))
    assert min(typical(asymmetry, DISTURBED), typical(asymmetry, MERGING)) > 3 * regular


def test_spirals_are_bluer_than_ellipticals():
    def colour(label):
        total = bands(label).sum((0, 2, 3))
        return float(-2.5 * np.log10(total[0] / total[1]))  # g - r in magnitudes

    assert 0.75 < colour(ROUND) < 1.0
    assert max(colour(LOOSE), colour(TIGHT), colour(BARRED), colour(NEEDLE)) < colour(ROUND) - 0.2
    assert colour(NEEDLE) < colour(BULGED)


@pytest.mark.parametrize("label", range(10))
def test_every_class_stands_out_of_the_sky_in_the_middle(label):
    for index in range(3):
        picture = simulate(label, SIZE, seed=5, index=index).astype(float).mean(2)
        middle = picture[SIZE // 4 : -SIZE // 4, SIZE // 4 : -SIZE // 4]
        assert np.sort(middle.ravel())[-20] > np.median(picture) + 30


# --- the telescope -----------------------------------------------------------------------------------------------


def test_the_noise_of_the_sky_gives_the_depth_of_the_survey():
    sky = Canvas(256).expose(galsim.BaseDeviate(3))
    assert np.abs(sky.mean((1, 2))).max() < 0.01  # the sky is subtracted
    # A star at five standard deviations: its noise is that of the area 4 pi sigma^2 that it is measured in.
    area = 4 * np.pi * (1.5 / 2.355) ** 2
    faintest = 5 * sky.std((1, 2)) * PIXEL * np.sqrt(area)
    np.testing.assert_allclose(22.5 - 2.5 * np.log10(faintest), [24.7, 23.9, 23.0], atol=0.02)


def test_noise_falls_with_depth_and_with_coarser_pixels():
    one, deep, coarse = (
        Canvas(size).expose(galsim.BaseDeviate(3), depth).std((1, 2)) for size, depth in ((128, 1), (128, 4), (64, 1))
    )
    np.testing.assert_allclose(deep, one / 2, rtol=0.03)
    np.testing.assert_allclose(coarse, one / 2, rtol=0.03)


def test_bright_sources_add_photon_noise():
    canvas = Canvas(128)
    canvas.add_map(np.full((128, 128), 100.0), np.ones(3))
    bright, dark = canvas.expose(galsim.BaseDeviate(3)), Canvas(128).expose(galsim.BaseDeviate(3))
    middle = (slice(None), slice(16, 112), slice(16, 112))
    sky = flux([22.0, 20.9, 18.8])
    ratio = bright[middle].std((1, 2)) / dark[middle].std((1, 2))
    np.testing.assert_allclose(ratio, np.sqrt(1 + 100 / sky), rtol=0.04)


@pytest.mark.parametrize("size", [64, 128, 129, 256])
def test_light_is_kept_and_stays_where_it_is_put(size):
    canvas = Canvas(size)
    light = np.array([100.0, 200.0, 300.0])
    canvas.add_spots(np.array([10.0]), np.array([-5.0]), 1.0, light[None])
    canvas.add_profile(galsim.Sersic(2, half_light_radius=2), light, 10.0, -5.0)
    seen = canvas.expose(galsim.BaseDeviate(1), depth=1e9)
    np.testing.assert_allclose(seen.sum((1, 2)) * (FIELD / size) ** 2, 2 * light, rtol=0.02)
    axis = (np.arange(size) - (size - 1) / 2) * FIELD / size
    weight = np.where(seen[1] > 0.05, seen[1], 0)
    weight = weight / weight.sum()
    np.testing.assert_allclose([(weight.sum(0) * axis).sum(), (weight.sum(1) * axis).sum()], [10, -5], atol=0.05)


def test_a_star_is_as_wide_as_the_seeing():
    canvas = Canvas(256, seeing=1.5)
    canvas.add_spots(np.array([PIXEL / 2]), np.array([PIXEL / 2]), 0.0, np.full((1, 3), 1e4))
    row = canvas.expose(galsim.BaseDeviate(1), depth=1e9)[1, 128]
    width = np.interp(-row.max() / 2, -row[128:], np.arange(128)) * 2 * PIXEL
    assert width == pytest.approx(1.5, rel=0.08)  # a little more: the star is drawn half a pixel wide


def test_colours_are_the_viewers():
    # Worked out by hand: planes 2.2, 3.4 and 6.0 times z, r and g in a pixel, and 0.03; I their mean.
    brightness = np.array([0.01, 0.02, 0.03])[:, None, None] / PIXEL**2
    planes = np.array([0.066 + 0.03, 0.068 + 0.03, 0.06 + 0.03])
    mean = planes.mean()
    expected = np.rint(255 * planes * np.arcsinh(20 * mean) / np.sqrt(20) / mean)
    assert colour_picture(brightness)[0, 0].tolist() == expected.tolist()
    assert colour_picture(np.full((3, 1, 1), 1e4))[0, 0].tolist() == [255, 255, 255]
    assert colour_picture(np.full((3, 1, 1), -1e4))[0, 0].tolist() == [0, 0, 0]


def test_spectrum_and_flux_are_magnitudes():
    assert flux(22.5) == 1
    assert flux(20.0) == pytest.approx(10)
    np.testing.assert_allclose(spectrum(2.5, 2.5), [0.1, 1, 10])


# --- one picture -------------------------------------------------------------------------------------------------


def test_a_picture_depends_on_seed_class_and_index_alone():
    one = simulate(LOOSE, SIZE, seed=1, index=4)
    assert one.shape == (SIZE, SIZE, 3)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, simulate(LOOSE, SIZE, seed=1, index=4))
    for other in ((TIGHT, 1, 4), (LOOSE, 2, 4), (LOOSE, 1, 5)):
        assert (one != simulate(other[0], SIZE, other[1], other[2])).mean() > 0.5, other


@pytest.mark.parametrize("label", range(10))
def test_a_galaxy_is_the_same_at_every_size(label):
    seen = []
    for size in (256, SIZE):
        rng, canvas = np.random.default_rng([2, label]), Canvas(size)
        add_field(canvas, rng)
        SHAPES[label](canvas, rng)
        seen.append(canvas.expose(galsim.BaseDeviate(1), depth=1e7))
    averaged = seen[0].reshape(3, SIZE, 4, SIZE, 4).mean((2, 4))
    assert np.corrcoef(averaged.ravel(), seen[1].ravel())[0, 1] > 0.998
    np.testing.assert_allclose(averaged.sum((1, 2)), seen[1].sum((1, 2)), rtol=0.02)


def test_pictures_of_two_sizes_differ_by_their_noise_only():
    def picture(size, index):
        fine = simulate(MERGING, size, seed=2, index=index).astype(float)
        return fine.reshape(SIZE, size // SIZE, SIZE, size // SIZE, 3).mean((1, 3)).ravel()

    assert np.corrcoef(picture(128, 0), picture(SIZE, 0))[0, 1] > 0.9
    assert np.corrcoef(picture(128, 0), picture(SIZE, 1))[0, 1] < 0.7


@pytest.mark.parametrize("label", [10, -1, "Merging", 1.5, True])
def test_an_unknown_class_is_named_with_the_known_ones(label):
    with pytest.raises(ValueError, match=r"unknown class .*; known are 0 Disturbed, 1 Merging.*9 Edge-on with Bulge"):
        simulate(label, SIZE)


@pytest.mark.parametrize("size", [31, 0, -64, 1025, 64.0, True])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(ValueError, match=f"expected a size of 32 to 1024 pixels, got {size!r}"):
        simulate(0, size)


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="expected index to be 0 or above, got -1"):
        simulate(0, SIZE, index=-1)
    with pytest.raises(ValueError, match="expected seed to be 0 or above, got -3"):
        Settings((1,) * 10, SIZE, seed=-3)


def test_without_galsim_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "galsim", None)
    with pytest.raises(ImportError, match=r"needs galsim.*pip install 'pure-networks\[galaxies\]'"):
        simulate(0, SIZE)
    with pytest.raises(ImportError, match="needs galsim"):
        galaxy10_synthetic(tmp_path, number=100, size=32)
    assert not list(tmp_path.rglob("*.h5*"))


# --- a file ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("galaxies") / "small.h5"
    write_file(path, (3, 2, 2, 2, 2, 2, 2, 2, 2, 2), size=32, seed=4, progress=False)
    return path


def test_the_layout_is_galaxy10s(written: Path):
    with h5py.File(written) as file:
        assert sorted(file) == ["ans", "dec", "images", "pxscale", "ra", "redshift"]
        assert (file["images"].shape, file["images"].dtype) == ((21, 32, 32, 3), np.uint8)
        assert file["ans"].dtype == np.uint8
        assert file["ans"][:].tolist() == sorted([0, *list(range(10)) * 2])
        assert all(file[key].shape == (21,) and file[key].dtype == np.float64 for key in ("ra", "dec", "redshift"))
        np.testing.assert_allclose(file["pxscale"][:], 0.262 * 8)
        assert bool(file.attrs["synthetic"]) is True
        assert file.attrs["generator"] == "pure.data.sets.synthetic_galaxies"
        assert file.attrs["galsim"] == galsim.__version__
        settings = json.loads(file.attrs["settings"])
    assert {key: settings[key] for key in ("counts", "size", "seed", "pairs")} == {
        "counts": [3, 2, 2, 2, 2, 2, 2, 2, 2, 2],
        "size": 32,
        "seed": 4,
        "pairs": 2,
    }
    assert len(settings["code"]) == 64


def test_a_row_is_the_picture_of_its_seed_class_and_index(written: Path):
    settings = Settings((3, 2, 2, 2, 2, 2, 2, 2, 2, 2), 32, 4, 2)
    with h5py.File(written) as file:
        for row, (label, index) in enumerate(settings.galaxies()):
            np.testing.assert_array_equal(file["images"][row], simulate(int(label), 32, 4, int(index)), str(row))


def test_pairs_share_picture_and_position_under_two_labels(written: Path):
    dataset = Galaxy10DECaLS(written.parent, file=written.name)
    positions = dataset.positions()
    twice = [torch.nonzero(positions == position).flatten() for position in positions.unique()]
    pairs = [rows for rows in twice if len(rows) > 1]
    assert [len(rows) for rows in pairs] == [2, 2]
    for one, other in pairs:
        assert dataset.targets[one] != dataset.targets[other]
        assert torch.equal(dataset.images[int(one)][0], dataset.images[int(other)][0])
    assert dataset.name == "galaxy10-synthetic"


def test_any_number_of_processes_gives_the_same_file(written: Path, tmp_path: Path):
    write_file(tmp_path / "two.h5", (3, 2, 2, 2, 2, 2, 2, 2, 2, 2), 32, 4, processes=2, progress=False)
    assert (tmp_path / "two.h5").read_bytes() == written.read_bytes()


@pytest.mark.parametrize("pairs", [0, 1, 10])
def test_pairs_are_as_many_as_asked_for(pairs: int):
    counts = (2,) * 10
    galaxies = Settings(counts, 32, 0, pairs).galaxies()
    labels = np.repeat(np.arange(10), counts)
    assert (galaxies[:, 0] != labels).sum() == pairs
    assert len(np.unique(galaxies, axis=0)) == 20 - pairs


def test_pairs_are_found_where_one_class_holds_half_of_all():
    galaxies = Settings((9, 1, 1, 1, 1, 1, 1, 1, 1, 1), 32, 0, 9).galaxies()
    assert len(np.unique(galaxies, axis=0)) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"counts": (1,) * 9}, r"expected 10 counts, none negative, some positive, got \(1, 1"),
        ({"counts": (0,) * 10}, "some positive"),
        ({"counts": (-1, *(1,) * 9)}, "none negative"),
        ({"size": 8}, "expected a size of 32 to 1024 pixels, got 8"),
        ({"pairs": 6}, "expected 0 to 5 pairs"),
        ({"processes": 0}, "expected at least one process, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(tmp_path: Path, arguments, message: str):
    with pytest.raises(ValueError, match=message):
        write_file(tmp_path / "a.h5", **{"counts": (1,) * 10, "size": 32, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_file_leaves_nothing_and_the_old_one_as_it_was(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.h5"
    path.write_bytes(b"the old one")

    def interrupted(*_):
        yield np.zeros((32, 32, 3), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr("pure.data.sets.synthetic_galaxies._pictures", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_file(path, (1,) * 10, 32, progress=False)
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    message = r"cannot write to .*file.*choose another folder"
    with pytest.raises(OSError, match=message):
        write_file(tmp_path / "file" / "a.h5", (1,) * 10, 32)
    with pytest.raises(OSError, match=message):
        galaxy10_synthetic(tmp_path / "file", number=100, size=32)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for the superuser")
def test_a_read_only_folder_is_named(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"cannot write to .*change its permissions"):
        write_file(tmp_path / "a.h5", (1,) * 10, 32)


def test_a_full_disk_is_told_before_the_first_picture(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(OSError, match=r"file of synthetic galaxies needs 30,720 bytes in .*, 100 are free"):
        write_file(tmp_path / "a.h5", (1,) * 10, 32, progress=False)
    assert list(tmp_path.iterdir()) == []


# --- the data set ------------------------------------------------------------------------------------------------


def test_shares_are_galaxy10s_but_no_class_is_empty():
    assert in_galaxy10s_shares(sum(COUNTS.values())) == tuple(COUNTS.values())
    assert in_galaxy10s_shares(100) == (10,) * 10
    counts = in_galaxy10s_shares(1000)
    assert sum(counts) == 1000
    np.testing.assert_allclose(counts, np.array(list(COUNTS.values())) / 17.736, atol=1)
    for number in range(100, 700, 7):
        assert sum(in_galaxy10s_shares(number)) == number
        assert min(in_galaxy10s_shares(number)) >= 10
    with pytest.raises(ValueError, match="expected at least 100 images, 10 of each class, got 99"):
        in_galaxy10s_shares(99)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def test_the_data_set_is_made_once_divided_and_says_that_it_is_synthetic(root: Path, monkeypatch):
    options = {"number": 100, "size": 32, "static_augmentation": "rotate(180)+flip", "progress": False}
    splits = load("galaxy10-synthetic", root, **options)
    assert (splits.name, splits.synthetic) == ("galaxy10-synthetic", True)
    assert splits.classes == tuple(COUNTS)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (160, 10, 10)
    image, label = splits.test[0]
    assert (image.shape, image.dtype) == ((3, 32, 32), torch.uint8)
    with h5py.File(root / "galaxy10-synthetic" / "100-images-32-pixels-seed-0.h5") as file:
        row = int(splits.rows["test"][0])
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), file["images"][row])
        assert label == file["ans"][row]

    monkeypatch.setattr("pure.data.sets.synthetic_galaxies.write_file", None)  # not called again
    again = galaxy10_synthetic(root, **options)
    assert again.fingerprint == splits.fingerprint


def test_a_division_by_position_keeps_pairs_together(root: Path):
    options = {"number": 100, "size": 32, "pairs": 20, "progress": False}
    by_position = galaxy10_synthetic(root, split="by-position", **options)
    at_random = galaxy10_synthetic(root, **options)
    positions = Galaxy10DECaLS(root / "galaxy10-synthetic", file="100-images-32-pixels-seed-0.h5").positions()
    assert sum(leaks(by_position.rows, positions).values()) == 0
    assert sum(leaks(at_random.rows, positions).values()) > 0


@pytest.mark.parametrize("change", ["setting", "code", "damage"])
def test_another_setting_other_code_or_damage_makes_the_file_anew(root: Path, change: str, monkeypatch):
    made = []

    def write(path, counts, size, seed, pairs, processes, progress):
        made.append(pairs)
        raise InterruptedError

    galaxy10_synthetic(root, number=100, size=32, pairs=1, progress=False)
    monkeypatch.setattr("pure.data.sets.synthetic_galaxies.write_file", write)
    pairs = 2 if change == "setting" else 1
    path = root / "galaxy10-synthetic" / "100-images-32-pixels-seed-0.h5"
    if change == "code":
        monkeypatch.setattr("pure.data.sets.synthetic_galaxies._code", lambda: "other")
    if change == "damage":
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InterruptedError):
        galaxy10_synthetic(root, number=100, size=32, pairs=pairs, progress=False)
    assert made == [pairs]


def test_images_made_anew_by_other_code_are_written_down_anew(tmp_path: Path, monkeypatch):
    options = {"number": 100, "size": 32, "progress": False}
    first = load("galaxy10-synthetic", tmp_path, **options)
    (written,) = (tmp_path / "splits").iterdir()
    assert read_split(written).fingerprint == first.fingerprint
    monkeypatch.setattr("pure.data.sets.synthetic_galaxies._code", lambda: "other")
    second = load("galaxy10-synthetic", tmp_path, **options)
    assert second.fingerprint != first.fingerprint
    assert read_split(written).fingerprint == second.fingerprint
    assert list((tmp_path / "splits").iterdir()) == [written]


def test_what_a_killed_process_left_is_removed(tmp_path: Path):
    folder = tmp_path / "galaxy10-synthetic"
    folder.mkdir()
    (folder / "100-images-32-pixels-seed-0.h5.abc.part").write_bytes(b"half")
    (folder / "100-images-64-pixels-seed-0.h5.abc.part").write_bytes(b"another set")
    galaxy10_synthetic(tmp_path, number=100, size=32, progress=False)
    assert sorted(path.name for path in folder.iterdir()) == [
        "100-images-32-pixels-seed-0.h5",
        "100-images-64-pixels-seed-0.h5.abc.part",
    ]


def test_an_unknown_option_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"has no option 'numbers'; did you mean 'number'\?"):
        load("galaxy10-synthetic", tmp_path, numbers=100)


def test_no_option_of_galaxy10_is_lacking():
    from pure.data.sets.galaxy10 import divide_galaxies

    lacking = set(inspect.signature(divide_galaxies).parameters) - set(inspect.signature(galaxy10_synthetic).parameters)
    assert lacking == {"dataset"}
