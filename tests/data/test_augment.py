"""Augmentations: what each does to pixels, that it draws as torchvision does, and how bad text is answered."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as TF

from pure.data.augment import parse, resize_windows

KNOWN = "known are none, shift(pixels), pad-crop(pixels), flip, resized-crop(edge), scale-crop(least,greatest,edge), re"
RECIPES = [
    "none",
    "shift(1)",
    "pad-crop(4)+flip",
    "resized-crop(16)+flip",
    "scale-crop(20,40,16)+flip",
    "resize(24)+center-crop(20)",
    "rotate(180)+flip+resized-crop(24)",
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int, height: int = 24, width: int = 32, channels: int = 3) -> Tensor:
    """Smooth images, as photographs are; each is another."""
    noise = torch.randint(0, 256, (n, channels, height, width), dtype=torch.uint8, generator=generator(7))
    smooth: Tensor = TF.gaussian_blur(noise, 5, 1.5)
    return smooth


def drawn(text: str, images: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The augmented batch, and the parameters of the only step."""
    augmentation = parse(text)
    parameters = augmentation.draw(len(images), tuple(images.shape[1:]), generator(seed))  # type: ignore[arg-type]
    return augmentation.apply(images, parameters), parameters[0]


# Text


@pytest.mark.parametrize("text", RECIPES)
def test_a_chain_gives_the_shape_that_it_tells_and_keeps_the_type(text: str) -> None:
    augmentation = parse(text)
    assert augmentation.text == text
    for images in (pictures(5), pictures(5).float()):
        result = augmentation.apply(images, augmentation.draw(5, (3, 24, 32), generator()))
        assert tuple(result.shape) == (5, *augmentation.shape((3, 24, 32)))
        assert result.dtype is images.dtype
        single = augmentation.transform()(images[0])
        assert single.shape == result.shape[1:]
        assert single.dtype is images.dtype


def test_shapes() -> None:
    assert parse("none").shape((3, 24, 32)) == (3, 24, 32)
    assert parse("pad-crop(4)+flip+rotate(10)+shift(2)").shape((1, 8, 9)) == (1, 8, 9)
    assert parse("resized-crop(224)").shape((3, 375, 500)) == (3, 224, 224)
    assert parse("resize(256)+center-crop(224)").shape((3, 375, 500)) == (3, 224, 224)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flipp", f"unknown augmentation 'flipp' in 'flipp'; did you mean 'flip'? {KNOWN}"),
        ("pad-crop(4)+xyz(3)", f"unknown augmentation 'xyz(3)' in 'pad-crop(4)+xyz(3)'; {KNOWN}"),
        ("pad-crop(4)+", "unknown augmentation '' in 'pad-crop(4)+'; known are none, "),
        ("none+flip", "unknown augmentation 'none' in 'none+flip'; "),
        ("", "unknown augmentation '' in ''; known are none, "),
        ("pad-crop(4", "unknown augmentation 'pad-crop(4' in 'pad-crop(4'; did you mean 'pad-crop'?"),
        ("flip(2)", "augmentation 'flip' takes no number, got 'flip(2)'"),
        ("pad-crop", "'pad-crop' takes a whole number of pixels from 1 on, as pad-crop(4), got 'pad-crop'"),
        ("pad-crop(0)", "'pad-crop' takes a whole number of pixels from 1 on, as pad-crop(4), got 'pad-crop(0)'"),
        ("shift(1.5)", "'shift' takes a whole number of pixels from 1 on"),
        ("resize(a)", "'resize' takes a whole number of pixels from 1 on"),
        ("resized-crop(inf)", "'resized-crop' takes a whole number of pixels from 1 on"),
        ("rotate(0)", "'rotate' takes an angle above 0 and up to 180 degrees, got 'rotate(0)'"),
        ("rotate(181)", "'rotate' takes an angle above 0 and up to 180 degrees"),
        ("rotate(nan)", "'rotate' takes an angle above 0 and up to 180 degrees"),
        ("rotate", "'rotate' takes an angle above 0 and up to 180 degrees, got 'rotate'"),
    ],
)
def test_bad_text_is_answered_with_what_is_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        parse(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "number", ["", "(224)", "(256,480)", "(480,256,224)", "(256,480,300)", "(256,480,0)", "(a,b,c)"]
)
def test_a_scale_crop_takes_two_lengths_and_a_window_that_fits_into_both(number: str) -> None:
    with pytest.raises(ValueError, match=r"as scale-crop\(256,480,224\), got 'scale-crop"):
        parse(f"scale-crop{number}+flip")


def test_spaces_do_not_matter() -> None:
    assert parse(" pad-crop(4) + flip ").steps == parse("pad-crop(4)+flip").steps
    assert parse(" none ").steps == ()


@pytest.mark.parametrize("text", RECIPES)
def test_a_transform_can_be_sent_to_a_worker(text: str) -> None:
    image = pictures(1)[0]
    torch.manual_seed(3)
    expected = parse(text).transform()(image)
    sent = pickle.loads(pickle.dumps(parse(text).transform()))
    torch.manual_seed(3)
    assert torch.equal(sent(image), expected)


# The batch and its parts


@pytest.mark.parametrize("text", RECIPES)
def test_a_part_of_a_batch_is_augmented_as_in_the_batch(text: str) -> None:
    augmentation, images = parse(text), pictures(9)
    parameters = augmentation.draw(9, (3, 24, 32), generator())
    whole = augmentation.apply(images, parameters)
    part = augmentation.apply(images[3:7], tuple(values[3:7] for values in parameters))
    assert torch.equal(part, whole[3:7])


@pytest.mark.parametrize("text", [text for text in RECIPES if text not in ("none", "resize(24)+center-crop(20)")])
def test_images_of_a_batch_are_drawn_apart_and_anew(text: str) -> None:
    augmentation = parse(text)
    same = pictures(1).expand(40, -1, -1, -1)
    first, second, again = (
        augmentation.apply(same, augmentation.draw(40, (3, 24, 32), generator(seed))) for seed in (0, 1, 0)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert len({image.numpy().tobytes() for image in first}) >= 6  # shift(1) has nine, a flip with it doubles


@pytest.mark.parametrize("text", RECIPES)
def test_the_batch_given_is_left_alone(text: str) -> None:
    images = pictures(6)
    before = images.clone()
    drawn(text, images) if text != "none" else None
    assert torch.equal(images, before)


def test_reduced_precision_around_it_changes_no_grey_level() -> None:
    images = pictures(4)
    augmentation = parse("rotate(180)")
    parameters = augmentation.draw(4, (3, 24, 32), generator())
    expected = augmentation.apply(images, parameters)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augmentation.apply(images, parameters), expected)


# Pixels: the same parameters give torchvision's image


def shifted_by_hand(image: list[list[int]], dy: int, dx: int) -> list[list[int]]:
    """Pixel by pixel: what comes in over the border is the nearest pixel of the edge."""
    height, width = len(image), len(image[0])
    return [
        [image[min(max(row + dy, 0), height - 1)][min(max(column + dx, 0), width - 1)] for column in range(width)]
        for row in range(height)
    ]


def test_shift_moves_each_image_by_its_own_distance() -> None:
    images = torch.randint(0, 256, (40, 3, 5, 7), dtype=torch.uint8)
    moved, parameters = drawn("shift(2)", images)
    for i, (top, left) in enumerate(parameters.tolist()):
        for channel in range(3):  # the channels of an image move together
            assert moved[i, channel].tolist() == shifted_by_hand(images[i, channel].tolist(), top - 2, left - 2)


@pytest.mark.parametrize(("text", "mode"), [("pad-crop(4)", "constant"), ("shift(4)", "edge"), ("shift(9)", "edge")])
def test_windows_are_torchvisions(text: str, mode: str) -> None:
    images = pictures(30, 8, 11)
    cut, parameters = drawn(text, images)
    padding = int(text.strip("shiftpadcro()-"))
    for result, image, (top, left) in zip(cut, images, parameters.tolist(), strict=True):
        expected = TF.crop(TF.pad(image, [padding], padding_mode=mode), top, left, 8, 11)
        assert torch.equal(result, expected)


def test_borders_of_a_padded_window_are_black() -> None:
    cut, parameters = drawn("pad-crop(3)", torch.full((200, 1, 5, 6), 9, dtype=torch.uint8))
    for image, (top, left) in zip(cut, parameters.tolist(), strict=True):
        inside = (5 - abs(top - 3)) * (6 - abs(left - 3))
        assert int(image.sum()) == 9 * inside


def test_flips_are_torchvisions() -> None:
    images = pictures(30)
    flipped, parameters = drawn("flip", images)
    assert 0 < int(parameters.sum()) < 30
    for result, image, flip in zip(flipped, images, parameters.flatten().tolist(), strict=True):
        assert torch.equal(result, TF.horizontal_flip(image) if flip else image)


@pytest.mark.parametrize("edge", [7, 16, 40])
@pytest.mark.parametrize("to", [torch.uint8, torch.float32])
def test_resized_crops_are_torchvisions(edge: int, to: torch.dtype) -> None:
    images = pictures(30).to(to)
    resized, parameters = drawn(f"resized-crop({edge})", images)
    for result, image, box in zip(resized, images, parameters.tolist(), strict=True):
        assert torch.equal(result, TF.resized_crop(image, *box, size=[edge, edge], antialias=True))


@pytest.mark.parametrize("edge", [7, 16, 40])
def test_the_products_that_resize_on_accelerators_give_torchvisions_image(edge: int) -> None:
    images = pictures(30)
    expected, windows = drawn(f"resized-crop({edge})", images.float())
    torch.testing.assert_close(resize_windows(images.float(), windows, edge), expected, atol=2e-4, rtol=0)
    # torch's kernel for uint8 on CPUs rounds between rows and columns, the product once
    rounded = resize_windows(images, windows, edge)
    assert rounded.dtype is torch.uint8
    assert int((rounded.int() - drawn(f"resized-crop({edge})", images)[0].int()).abs().max()) <= 1


def test_a_shrinking_window_is_antialiased() -> None:
    """Stripes as fine as a pixel: their mean with, and aliasing without."""
    stripes = torch.zeros(20, 1, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 200
    for shrunk in (parse("resize(8)").apply(stripes, (torch.empty(20, 0),)), v2.Resize(8, antialias=True)(stripes)):
        assert float((shrunk.float() - 100).abs()[..., 1:-1].max()) <= 2


@pytest.mark.parametrize(("height", "width"), [(24, 32), (32, 24), (9, 31), (17, 17), (50, 7)])
@pytest.mark.parametrize("edge", [5, 16, 33])
def test_resize_is_torchvisions(height: int, width: int, edge: int) -> None:
    images = pictures(3, height, width)
    expected = torch.stack([v2.Resize(edge, antialias=True)(image) for image in images])
    resized, _ = drawn(f"resize({edge})", images)
    assert parse(f"resize({edge})").shape((3, height, width)) == tuple(expected.shape[1:])
    assert torch.equal(resized, expected)


def test_scale_crops_are_windows_of_torchvisions_resized_image() -> None:
    images = pictures(40)
    result, parameters = drawn("scale-crop(20,40,16)", images)
    for image, window, (length, top, left) in zip(images, result, parameters.tolist(), strict=True):
        assert torch.equal(window, TF.crop(TF.resize(image, [length], antialias=True), top, left, 16, 16))


@pytest.mark.parametrize(("height", "width"), [(24, 32), (50, 20), (16, 16)])
def test_scale_crops_are_uniform_over_lengths_and_places(height: int, width: int) -> None:
    n, least, greatest, edge = 20_000, 16, 24, 16
    (parameters,) = parse(f"scale-crop({least},{greatest},{edge})").draw(n, (3, height, width), generator())
    for length in range(least, greatest + 1):
        places = parameters[parameters[:, 0] == length, 1:]
        assert stats.binomtest(len(places), n, 1 / (greatest - least + 1)).pvalue > 1e-4
        resized = TF.resize(torch.empty(1, height, width), [length])
        for place, size in zip(places.T, resized.shape[1:], strict=True):
            counts = place.bincount(minlength=size - edge + 1)
            assert len(counts) == size - edge + 1  # the last place is reached, and none beyond
            assert len(counts) == 1 or stats.chisquare(counts.numpy()).pvalue > 1e-4


@pytest.mark.parametrize("text", RECIPES)
def test_the_transform_of_an_image_is_a_batch_of_one(text: str) -> None:
    augmentation, image = parse(text), pictures(1)
    torch.manual_seed(3)
    single = augmentation.transform()(image[0])
    batch = augmentation.apply(image, augmentation.draw(1, (3, 24, 32), generator(3)))
    assert torch.equal(single, batch[0])


def test_center_crop_is_torchvisions_and_refuses_what_torchvision_pads() -> None:
    images = pictures(3, 24, 31)
    cut, _ = drawn("center-crop(20)", images)
    assert torch.equal(cut, v2.CenterCrop(20)(images))
    message = (
        r"center-crop\(25\) is larger than the images of 24 x 31 pixels; take a smaller one, or resize first: resize"
    )
    calls: list[Callable[[], object]] = [
        lambda: parse("center-crop(25)").shape((3, 24, 31)),
        lambda: parse("center-crop(25)").transform()(images[0]),
        lambda: drawn("center-crop(25)", images),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("size", [(24, 32), (32, 24), (25, 25)])
def test_rotations_are_torchvisions(size: tuple[int, int]) -> None:
    images = pictures(30, *size)
    turned, parameters = drawn("rotate(180)", images)
    for result, image, angle in zip(turned, images, parameters.flatten().tolist(), strict=True):
        expected = TF.rotate(image, angle, InterpolationMode.BILINEAR)
        # A sine of another rounding moves a few pixels over the border between two grey levels.
        difference = (result.int() - expected.int()).abs()
        assert int(difference.max()) <= 1
        assert float((difference > 0).float().mean()) < 0.005


# Distributions: drawn as torchvision draws


@pytest.mark.parametrize("text", ["shift(1)", "pad-crop(2)"])
def test_offsets_are_uniform_as_torchvisions(text: str) -> None:
    """One bright pixel in the middle: where it ends tells the distance."""
    most = int(text[-2])
    edge, n = 4 * most + 1, 3000
    image = torch.zeros(n, 1, edge, edge, dtype=torch.uint8)
    image[:, :, 2 * most, 2 * most] = 1
    torch.manual_seed(2)
    crop = v2.RandomCrop(edge, padding=most, padding_mode="edge" if "shift" in text else "constant")
    for places in (drawn(text, image)[0].sum(0), sum(crop(image[0]).int() for _ in range(n))):
        inner = places.squeeze()[most : 3 * most + 1, most : 3 * most + 1]  # type: ignore[union-attr]
        assert int(inner.sum()) == n  # never farther than asked for
        assert stats.chisquare(inner.flatten()).pvalue > 1e-3


def test_half_of_the_images_are_flipped_as_by_torchvision() -> None:
    image = torch.tensor([[[[1, 0]]]], dtype=torch.uint8).expand(4000, -1, -1, -1)
    torch.manual_seed(2)
    flip = v2.RandomHorizontalFlip(0.5)
    for flipped in (
        int(drawn("flip", image)[0][..., 1].sum()),
        sum(int(flip(image[0])[..., 1]) for _ in range(4000)),
    ):
        assert abs(flipped - 2000) < 4 * math.sqrt(4000 / 4)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 24), (20, 60), (256, 256)])
def test_windows_to_be_resized_have_torchvisions_distribution(height: int, width: int) -> None:
    """Area, aspect ratio and place; 20 x 60 falls back to the centre in some draws."""
    n = 3000
    ours = parse("resized-crop(16)").draw(n, (3, height, width), generator(1))[0].double()
    torch.manual_seed(2)
    theirs = boxes_of(v2.RandomResizedCrop(16), n, height, width).double()
    assert bool((ours[:, 0] + ours[:, 2] <= height).all())
    assert bool((ours[:, 1] + ours[:, 3] <= width).all())
    assert bool((ours >= torch.tensor([0, 0, 1, 1])).all())

    def features(boxes: Tensor) -> dict[str, Tensor]:
        top, left, h, w = boxes.T
        return {"area": h * w, "ratio": (w / h).log(), "top": top, "left": left, "middle": top + h / 2}

    for (name, mine), other in zip(features(ours).items(), features(theirs).values(), strict=True):
        assert stats.ks_2samp(mine, other).pvalue > 1e-3, name


@pytest.mark.parametrize(("height", "width"), [(4, 200), (200, 4), (1, 1)])
def test_the_fallback_is_torchvisions(height: int, width: int) -> None:
    """Where no window fits: the middle, cut to the nearest aspect ratio that is allowed."""
    ours = parse("resized-crop(8)").draw(100, (1, height, width), generator())[0]
    assert len(ours.unique(dim=0)) == 1
    assert torch.equal(ours, boxes_of(v2.RandomResizedCrop(8), 100, height, width))


def test_few_pixels_give_the_same_windows_as_often_as_torchvision() -> None:
    ours = parse("resized-crop(8)").draw(2000, (1, 3, 3), generator())[0]
    theirs = boxes_of(v2.RandomResizedCrop(8), 2000, 3, 3)
    windows, which = torch.cat([ours, theirs]).unique(dim=0, return_inverse=True)
    table = torch.stack([which[:2000].bincount(minlength=len(windows)), which[2000:].bincount(minlength=len(windows))])
    common = table[:, table.sum(0) >= 20]
    assert common.shape[1] >= 5
    assert stats.chi2_contingency(common).pvalue > 1e-3


def boxes_of(transform: v2.RandomResizedCrop, n: int, height: int, width: int) -> Tensor:
    """Top, left, height and width of windows that torchvision draws."""
    image = torch.empty(1, height, width)
    made = [transform.make_params([image]) for _ in range(n)]
    return torch.tensor([[each[key] for key in ("top", "left", "height", "width")] for each in made])


def test_angles_are_uniform_as_torchvisions() -> None:
    angles = parse("rotate(30)").draw(3000, (1, 4, 4), generator())[0].flatten()
    assert stats.kstest(angles, stats.uniform(-30, 60).cdf).pvalue > 1e-3
    torch.manual_seed(2)
    theirs = [v2.RandomRotation(30).make_params([])["angle"] for _ in range(3000)]
    assert stats.ks_2samp(angles, theirs).pvalue > 1e-3
