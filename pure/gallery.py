"""Figures of data sets: a contact sheet by class, the balance of the classes, and images side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from pure import style

if TYPE_CHECKING:
    from pure.data.splits import Images, Splits

__all__ = ["class_balance", "contact_sheet", "side_by_side"]

_WIDTH = 7.0  # inches: the width of the book's text
_TITLE = 0.22  # inches for the titles above a grid
_LETTER = 0.07  # inches; about the width of a letter at the size of the names
_LARGEST = 1.6  # inches; an image of a few pixels says no more when it is larger
_MANY = 50  # classes; more of them have no room for their names


def contact_sheet(
    images: Images, classes: Sequence[str], per_class: int = 8, seed: int = 0, white: float = 255
) -> Figure:
    """Some images of each class, drawn without replacement: a row for each class (the paper's figure 4).

    Only the images that are shown are read.

    Args:
        images: the set; its images ``(C, H, W)`` have one channel, shown in grey, or three.
        classes: names of the classes, in the order of the labels.
        per_class: images in a row; a class that has fewer leaves the rest of its row empty.
        seed: fixes which images are shown.
        white: the grey level that is shown white; 16 for the digits.

    Raises:
        ValueError: no images, or labels without a class.
    """
    labels = images.labels
    if len(labels) == 0 or int(labels.max()) >= len(classes):
        largest = int(labels.max()) if len(labels) else "none"
        raise ValueError(f"expected images with labels below {len(classes)}, got {len(labels)}, largest {largest}")
    generator = torch.Generator().manual_seed(seed)
    wrapped = [textwrap.fill(name, 14) for name in classes]
    names = 0.1 + _LETTER * max(len(line) for name in wrapped for line in name.splitlines())
    cell = min((_WIDTH - names) / per_class, _LARGEST)
    figure, axes = _grid(len(classes), per_class, cell, left=names)
    for label, (name, row) in enumerate(zip(wrapped, axes, strict=True)):
        rows = (labels == label).nonzero().squeeze(1)
        drawn = rows[torch.randperm(len(rows), generator=generator)[:per_class]].tolist()
        for axis, index in zip(row, drawn, strict=False):
            _show(axis, images[index][0], white)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=4, fontsize=8)
    return figure


def class_balance(splits: Splits) -> Figure:
    """Number of images of each class, as stacked bars: one colour for each part of the data set.

    More than 50 classes stand side by side, by number in place of name.
    """
    number = len(splits.classes)
    many = number > _MANY
    style.use()
    figure, axis = plt.subplots(figsize=(_WIDTH, 3.0 if many else 0.7 + 0.26 * number))
    start = np.zeros(number, dtype=np.int64)
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    for (name, part), colour in zip(parts.items(), style.PALETTE, strict=False):
        if part is None:
            continue
        counts = np.bincount(part.labels.numpy(), minlength=number)
        look: dict[str, Any] = {"color": colour, "label": f"{name} ({counts.sum():,})"}
        if many:
            axis.bar(range(number), counts, bottom=start, width=1.0, **look)
        else:
            axis.barh(range(number), counts, left=start, height=0.72, **look)
        start += counts
    values = axis.yaxis if many else axis.xaxis
    values.set_major_formatter("{x:,.0f}")
    values.set_label_text("images")
    axis.grid(visible=False, axis="x" if many else "y")
    if many:
        axis.set(xlabel="class, by its label", xlim=(-0.5, number - 0.5))
    else:
        axis.set_yticks(range(number), splits.classes)
        axis.tick_params(axis="y", length=0)
        axis.invert_yaxis()  # the first class on top, as in a table
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    return figure


def side_by_side(columns: Mapping[str, Tensor], white: float = 255) -> Figure:
    """The same images in several versions, such as original, augmented and noisy: a row each, a column a version.

    Args:
        columns: by title, images ``(n, C, H, W)``; the sizes may differ between columns.
        white: the grey level that is shown white; brighter ones are cut off.

    Raises:
        ValueError: no columns, or columns of different length.
    """
    lengths = {title: len(images) for title, images in columns.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"expected columns with the same number of images, at least one, got {lengths or 'none'}")
    cell = min(_WIDTH / len(columns), _LARGEST)
    figure, axes = _grid(next(iter(lengths.values())), len(columns), cell, top=_TITLE)
    for column, (title, images) in enumerate(columns.items()):
        axes[0, column].set_title(title, fontsize=8, loc="center", pad=4)
        for axis, image in zip(axes[:, column], images, strict=True):
            _show(axis, image, white)
    return figure


def _grid(rows: int, columns: int, cell: float, left: float = 0.0, top: float = 0.0) -> tuple[Figure, NDArray[Any]]:
    """Square cells of a size in inches, close together, with room for names at the left and titles above."""
    style.use()
    width, height = left + columns * cell, top + rows * cell
    figure = plt.figure(figsize=(width, height), layout="none")
    grid = figure.add_gridspec(
        rows, columns, left=left / width, right=1, bottom=0, top=1 - top / height, wspace=0.05, hspace=0.05
    )
    axes: NDArray[Any] = grid.subplots(squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
    return figure, axes


def _show(axis: Axes, image: Tensor, white: float) -> None:
    """An image ``(C, H, W)`` in grey levels from 0 to ``white``."""
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"expected an image (1, H, W) or (3, H, W), got {tuple(image.shape)}")
    pixels = (image.float() / white).clamp(0, 1).movedim(0, -1).numpy()
    if pixels.shape[-1] == 1:
        axis.imshow(pixels[..., 0], cmap="gray", vmin=0, vmax=1, interpolation=_interpolation(image))
    else:
        axis.imshow(pixels, interpolation=_interpolation(image))


def _interpolation(image: Tensor) -> str:
    """Small images show their pixels; large ones are shrunk to the cell without a moire."""
    return "nearest" if max(image.shape[1:]) <= 64 else "antialiased"
