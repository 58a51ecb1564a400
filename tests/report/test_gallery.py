"""The figures of data sets: what they show, in which order, in which grey, and that they read no more than that."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from pure.data import ImageSet, Splits
from pure.report.data_pages import class_balance, contact_sheet, side_by_side

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    with matplotlib.rc_context():
        yield
    plt.close("all")


class Watched:
    """Images that note which of them were read; the image of row i has the grey level i everywhere."""

    digest = ""

    def __init__(self, labels: list[int], shape: tuple[int, int, int] = (1, 8, 8)) -> None:
        self.labels = torch.tensor(labels)
        self.shape = shape
        self.read_rows: list[int] = []

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.read_rows.append(index)
        return torch.full(self.shape, index, dtype=torch.uint8), int(self.labels[index])


def shown(figure: Figure) -> list[NDArray[np.float32]]:
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]


def test_contact_sheet_has_a_row_for_each_class_with_images_of_that_class() -> None:
    images = Watched([0, 1, 2] * 20)
    figure = contact_sheet(images, ("a", "b", "c"), per_class=4, white=100)
    assert len(images.read_rows) == 12  # no more than is shown
    assert len(set(images.read_rows)) == 12  # none twice
    assert [row % 3 for row in images.read_rows] == [0] * 4 + [1] * 4 + [2] * 4
    assert [axis.get_ylabel() for axis in figure.axes] == ["a", "", "", "", "b", "", "", "", "c", "", "", ""]
    levels = [round(float(image[0, 0]) * 100) for image in shown(figure)]
    assert levels == images.read_rows


def test_contact_sheet_is_seeded() -> None:
    first, again, other = (Watched([0] * 50) for _ in range(3))
    for images, seed in ((first, 0), (again, 0), (other, 1)):
        contact_sheet(images, ("a",), seed=seed)
    assert first.read_rows == again.read_rows
    assert first.read_rows != other.read_rows


def test_contact_sheet_leaves_room_where_a_class_has_few_or_no_images() -> None:
    figure = contact_sheet(Watched([0, 0, 2]), ("a", "b", "c"), per_class=3)
    assert [bool(axis.images) for axis in figure.axes] == [True, True, False, False, False, False, True, False, False]
    assert figure.axes[3].get_ylabel() == "b"


@pytest.mark.parametrize(("labels", "message"), [([], "got 0, largest none"), ([0, 5], "got 2, largest 5")])
def test_contact_sheet_refuses_what_it_cannot_sort(labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=f"expected images with labels below 2, {message}"):
        contact_sheet(Watched(labels), ("a", "b"))


@pytest.mark.parametrize("size", [8, 32, 64, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_are_shown_in_their_levels(size: int, channels: int) -> None:
    ramp = torch.arange(9, dtype=torch.uint8).repeat(size * size)[: size * size].view(1, 1, size, size)  # to white / 2
    images = ramp.expand(1, channels, size, size)
    figure = side_by_side({"digits": images}, white=16)
    (pixels,) = shown(figure)
    expected = ramp[0, 0].numpy() / 16
    assert pixels.shape == ((size, size) if channels == 1 else (size, size, 3))
    assert np.array_equal(pixels if channels == 1 else pixels[..., 2], expected)
    (image,) = (axis.images[0] for axis in figure.axes)
    assert image.get_interpolation() == ("nearest" if size <= 64 else "antialiased")
    if channels == 1:
        assert image.get_clim() == (0, 1)  # else a dim image would be stretched to white
        assert image.get_cmap().name == "gray"


def test_levels_above_white_are_cut_off() -> None:
    noisy = torch.tensor([[[[300.0, -5.0], [127.5, 255.0]]]])
    (pixels,) = shown(side_by_side({"noisy": noisy}))
    assert pixels.tolist() == [[1.0, 0.0], [0.5, 1.0]]


def test_side_by_side_has_a_column_for_each_version() -> None:
    first, second = (torch.tensor(levels).view(-1, 1, 1, 1).float() for levels in ([0, 51], [102, 255]))
    figure = side_by_side({"original": first, "noisy": second})
    assert [axis.get_title() for axis in figure.axes] == ["original", "noisy", "", ""]
    assert [float(image[0, 0]) for image in shown(figure)] == pytest.approx([0, 0.4, 0.2, 1])


@pytest.mark.parametrize("lengths", [(1, 2), (0, 0), ()])
def test_side_by_side_refuses_columns_that_do_not_belong_together(lengths: tuple[int, ...]) -> None:
    columns = {str(i): torch.zeros(length, 1, 4, 4) for i, length in enumerate(lengths)}
    with pytest.raises(ValueError, match="expected columns with the same number of images, at least one, got"):
        side_by_side(columns)


def test_two_channels_are_no_picture() -> None:
    with pytest.raises(ValueError, match=r"expected an image \(1, H, W\) or \(3, H, W\), got \(2, 4, 4\)"):
        side_by_side({"a": torch.zeros(1, 2, 4, 4)})


def test_images_are_squares_and_do_not_overlap() -> None:
    for figure in (
        contact_sheet(Watched([0, 1] * 5), ("a", "a class with a long name"), per_class=5),
        side_by_side({name: torch.zeros(2, 1, 4, 4) for name in "abc"}),
    ):
        width, height = figure.get_size_inches()
        boxes = [axis.get_position() for axis in figure.axes]
        for box in boxes:
            assert box.width * width == pytest.approx(box.height * height, rel=0.02)
        rows = sorted({round(box.y0, 6) for box in boxes})
        assert all(box.y1 < rows[1] for box in boxes if round(box.y0, 6) == rows[0])


def test_the_names_of_the_classes_are_not_cut_off() -> None:
    names = ("In-between Round Smooth", "Unbarred Tight Spiral", "Cigar Shaped Smooth")
    figure = contact_sheet(Watched([0, 1, 2] * 4), names, per_class=4)
    assert [axis.get_ylabel() for axis in figure.axes[::4]] == [
        "In-between\nRound Smooth",
        "Unbarred Tight\nSpiral",
        "Cigar Shaped\nSmooth",
    ]
    figure.canvas.draw()
    for axis in figure.axes:
        if axis.get_ylabel():
            box = axis.yaxis.label.get_window_extent()
            assert box.x0 >= 0
            assert box.x1 <= axis.get_window_extent().x0


def splits(classes: int) -> Splits:
    def part(number: int) -> ImageSet:
        labels = torch.arange(classes).repeat_interleave(torch.arange(1, classes + 1) * number)
        return ImageSet(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels)

    return Splits("made", tuple(f"class {i}" for i in range(classes)), part(3), None, part(1))


def test_class_balance_stacks_the_parts_of_each_class() -> None:
    (axis,) = class_balance(splits(3)).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["class 0", "class 1", "class 2"]
    assert [label.get_text() for label in axis.get_legend().get_texts()] == ["training (18)", "test (6)"]
    bars = [(bar.get_x(), bar.get_width()) for bar in axis.patches]
    assert bars == [(0, 3), (0, 6), (0, 9), (3, 1), (6, 2), (9, 3)]
    assert axis.yaxis_inverted()


def test_class_balance_of_many_classes_stands_upright() -> None:
    (axis,) = class_balance(splits(60)).axes
    bars = [(bar.get_y(), bar.get_height()) for bar in axis.patches]
    assert bars[:2] == [(0, 3), (0, 6)]
    assert bars[60:62] == [(3, 1), (6, 2)]
    assert axis.get_xlabel() == "class, by its label"
