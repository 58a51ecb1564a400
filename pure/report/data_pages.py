"""What the pages about data sets show.

Contact sheets by class, the balance of the classes, images side by side, how a set is divided, its noise against
theory, and, where its files are missing, a notice that says how to get them.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from torch import Tensor

from pure.data.augment import parse
from pure.data.catalogue import describe
from pure.data.images import Images, ImageSet
from pure.data.noise import moments, poisson
from pure.data.splits import Splits
from pure.data.storage.root import ROOT_VARIABLE
from pure.report import style
from pure.report.parameters import shared_root as shared_root  # where a page looks for the data

__all__ = [
    "class_balance",
    "contact_sheet",
    "description",
    "division",
    "documented",
    "grey_levels",
    "noise_figure",
    "notice",
    "photographs",
    "shared_root",
    "side_by_side",
    "statistics",
    "versions",
]

_WIDTH = 7.0  # inches: the width of the book's text
_TITLE = 0.22  # inches for the titles above a grid
_LETTER = 0.07  # inches; about the width of a letter at the size of the names
_LARGEST = 1.6  # inches; an image of a few pixels says no more when it is larger
_MANY = 50  # classes; more of them have no room for their names


def description(name: str) -> pd.DataFrame:
    """What the catalogue says of a data set: a row for each property."""
    known = describe(name)
    rows = {
        "Name": f"`{known.name}`",
        "Content": known.content,
        "Classes": "as the files have them" if known.classes is None else f"{known.classes:,}",
        "Images": "any number, by an option" if known.images is None else f"{known.images:,}",
        "Size": f"{known.size / 1e6:,.0f} MB, packed" if known.size else "no file to get",
        "Licence": known.licence,
        "Source": f"[{urlsplit(known.homepage).hostname}]({known.homepage})",
        "Citation": f"{{cite}}`{known.citation}`",
    }
    return pd.DataFrame({"": list(rows), known.title: list(rows.values())})


def notice(name: str, instead: str) -> str:
    """HTML that says that the files of a data set are missing, what is shown instead, and how to get them."""
    known = describe(name)
    command = f"python -m pure.data {name} --data DIR --download"
    how = (
        f"<p>The command that gets them, and what names their folder to this page and to every run:</p>"
        f"<pre>{command}\nexport {ROOT_VARIABLE}=DIR</pre>"
        if known.download
        else f"<p>To get them, {html.escape(known.by_hand)}. Then set <code>{ROOT_VARIABLE}=DIR</code>.</p>"
    )
    return (
        f'<div class="admonition note"><p class="admonition-title">{html.escape(known.title)} is not on this machine'
        f"</p><p>{html.escape(instead)}</p>{how}</div>"
    )


def photographs() -> ImageSet:
    """The two photographs that come with scikit-learn, a temple and a dahlia: ``(2, 3, 427, 640)``, uint8.

    They stand in for photographs that are missing here; both under CC BY 2.0, see
    ``sklearn.datasets.load_sample_images``.
    """
    images = np.stack(load_sample_images().images)
    return ImageSet(torch.from_numpy(images).movedim(-1, 1).contiguous(), torch.arange(len(images)))


def documented(name: str, classes: Sequence[str], **counts: Sequence[int]) -> Splits:
    """A division without pixels: as many labels of each class as documented, in the order of the classes.

    Args:
        name: of the data set.
        classes: names of the classes.
        **counts: for ``train``, ``test`` and perhaps ``validation`` the number of images of each class.
    """

    def part(numbers: Sequence[int]) -> ImageSet:
        labels = torch.arange(len(classes)).repeat_interleave(torch.as_tensor(numbers))
        return ImageSet(torch.empty(len(labels), 1, 0, 0, dtype=torch.uint8), labels)

    parts = {part_name: part(numbers) for part_name, numbers in counts.items()}
    return Splits(name, tuple(classes), parts["train"], parts.get("validation"), parts["test"])


def division(splits: Splits) -> pd.DataFrame:
    """How many images each part has, and the beginnings of the hashes that prove which; the last row is the whole."""
    rows = [[name, f"{len(part):,}", f"`{part.digest[:16]}`"] for name, part in splits.parts.items()]
    total = sum(map(len, splits.parts.values()))
    return pd.DataFrame(
        [*rows, ["together", f"{total:,}", f"`{splits.fingerprint[:16]}`"]], columns=["Part", "Images", "SHA-256"]
    )


def statistics(splits: Splits) -> pd.DataFrame:
    """Mean and standard deviation of each channel, in grey levels and as shares of white."""
    mean, std = splits.statistics
    channels = ["grey"] if len(mean) == 1 else ["red", "green", "blue"]
    rows = [
        [channel, f"{m:.2f}", f"{s:.2f}", f"{m / splits.white:.4f}", f"{s / splits.white:.4f}"]
        for channel, m, s in zip(channels, mean.tolist(), std.tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=["Channel", "Mean", "Deviation", "Mean, white = 1", "Deviation, white = 1"])


def versions(
    images: Tensor,
    augmentation: str = "none",
    draws: int = 3,
    scales: Sequence[float] = (1.0,),
    white: int = 255,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Images as they are, augmented and under Poisson noise: the columns of :func:`side_by_side`.

    Args:
        images: shape ``(n, C, H, W)``, uint8.
        augmentation: as :func:`pure.data.augment.parse` reads it; ``"none"`` leaves these columns out.
        draws: how often it is drawn.
        scales: of the noise, a column each.
        white: the highest grey level.
        seed: of the augmentation and of the noise.
    """
    columns = {"as it is": images}
    steps = parse(augmentation)
    generator = torch.Generator().manual_seed(seed)
    shape = ImageSet(images, torch.zeros(len(images), dtype=torch.int64)).shape
    for draw in range(draws if steps.steps else 0):
        columns[f"augmented, {draw + 1}"] = steps.apply(images, steps.draw(len(images), shape, generator))
    for scale in scales:
        rows = ImageSet(images, torch.zeros(len(images), dtype=torch.int64))
        columns[f"noise, $s = {scale:g}$"] = poisson(rows, float(scale), seed, white).images
    return columns


def grey_levels(
    original: Tensor, noisy: Tensor, scale: float = 1.0, white: int = 255, least: int = 500
) -> pd.DataFrame:
    """Mean and variance of the noise for each grey level, measured and by theory.

    Args:
        original: grey levels, uint8, any shape.
        noisy: the same under Poisson noise.
        scale: of the noise.
        white: the highest grey level.
        least: levels with fewer pixels are left out.

    Returns:
        Columns ``level``, ``pixels``, ``mean``, ``variance``, ``expected_mean``, ``expected_variance`` and
        ``standard_errors``: by how many of them the mean is off; 0 where theory leaves no variance.
    """
    levels = original.flatten().long()
    values = noisy.flatten().double()
    pixels, total, squares = (
        torch.bincount(levels, weights, minlength=white + 1) for weights in (None, values, values.square())
    )
    level = (pixels >= least).nonzero().squeeze(1)
    number = pixels[level]
    mean = total[level] / number
    variance = (squares[level] / number - mean.square()) * number / (number - 1)
    expected_mean, expected_variance = moments(level, scale, white)
    error = (expected_variance / number).sqrt()
    columns = {
        "level": level,
        "pixels": number,
        "mean": mean,
        "variance": variance,
        "expected_mean": expected_mean,
        "expected_variance": expected_variance,
        "standard_errors": torch.where(error > 0, (mean - expected_mean) / error, 0.0),
    }
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def noise_figure(levels: pd.DataFrame) -> Figure:
    """Mean and variance of the noise over the grey level, against theory.

    Args:
        levels: from :func:`grey_levels`.
    """
    style.use()
    figure, axes = plt.subplots(1, 2, figsize=(_WIDTH, 2.6))
    for axis, name in zip(axes, ("mean", "variance"), strict=True):
        axis.plot(levels["level"], levels[name], "o", color=style.PALETTE[0], label="measured", markersize=3)
        axis.plot(levels["level"], levels[f"expected_{name}"], color=style.PALETTE[1], label="theory, clipped at white")
        axis.set(xlabel="grey level without noise", title=f"{name} under noise")
    axes[0].legend()
    return figure


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
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=4, fontsize=8, color=style.ON_BOTH)
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


def side_by_side(columns: Mapping[str, Tensor | Sequence[Tensor]], white: float = 255) -> Figure:
    """The same images in several versions, such as original, augmented and noisy: a row each, a column a version.

    Args:
        columns: by title, images ``(n, C, H, W)``, or a list of images ``(C, H, W)``; sizes may differ.
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
        axes[0, column].set_title(title, fontsize=8, loc="center", pad=4, color=style.ON_BOTH)
        for axis, image in zip(axes[:, column], images, strict=True):
            _show(axis, image, white)
    return figure


def _grid(rows: int, columns: int, cell: float, left: float = 0.0, top: float = 0.0) -> tuple[Figure, NDArray[Any]]:
    """Square cells of a size in inches, close together, with room for names at the left and titles above."""
    style.use()
    width, height = left + columns * cell, top + rows * cell
    # Coarser than the book's other figures: photographs in PNG come to megabytes, which a reader has to load.
    figure = plt.figure(figsize=(width, height), dpi=130, layout="none")
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
