"""The paper's figures 1 to 3, drawn by code: the 2D product unit, the residual blocks, the whole network.

Blocks and networks are drawn from live modules, as :func:`pure.report.networks.walk` sees them: a switch of a block
shows in its picture.  All lengths are inches, the axes of a figure cover all of it, and positions count from its lower
left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from pure.nn.blocks import ProductUnitBlock
from pure.nn.functional import product_unit2d
from pure.report.networks import Layer, stages, walk
from pure.report.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["block_figure", "network_figure", "product_unit_figure"]

WIDTH = 7.0
"""Inches; the text of the book is as wide."""

INK = "#1F262B"
LINE = COLOURS["neutral"]
TIMES = "\N{MULTIPLICATION SIGN}"

_FILLS = {"unit": COLOURS["pure"], "relu": "#F6D9C6", "conv": "#E4E8EB", "linear": "#E4E8EB"}
_PLAIN = "#FFFFFF"
_NAMES = {
    "bn": "BN",
    "relu": "ReLU",
    "avgpool": "average pool",
    "linear": "linear",
}


@dataclass(frozen=True)
class _Box:
    """A box that has been drawn: its centre and its size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> tuple[float, float]:
        return self.x, self.y + self.height / 2

    @property
    def bottom(self) -> tuple[float, float]:
        return self.x, self.y - self.height / 2

    @property
    def left(self) -> tuple[float, float]:
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y


# Figure 1


def product_unit_figure(
    window: Tensor | None = None, weight: Tensor | None = None, theta: float = 0.0, eps: float = 1e-7
) -> Figure:
    """How a 2D product unit with a kernel of 3x3 gets from a window to its output (figure 1), with numbers.

    The numbers are the layer's: the output is that of :func:`pure.nn.functional.product_unit2d`.

    Args:
        window: pixels of one channel under the kernel, shape ``(3, 3)``; an example if None.
        weight: exponents, shape ``(3, 3)``; an example if None.
        theta: the trainable parameter of the threshold.
        eps: the constant that keeps the threshold positive.
    """
    x = torch.tensor([[0.3, 1.2, 2.0], [0.9, 4.0, 1.5], [-0.8, 0.5, 3.0]]) if window is None else window
    w = torch.tensor([[0.5, 0.0, -0.5], [1.0, 1.0, -1.0], [0.5, 0.0, 0.5]]) if weight is None else weight
    if x.shape != (3, 3) or w.shape != (3, 3):
        raise ValueError(f"expected a window and exponents of shape (3, 3), got {tuple(x.shape)} and {tuple(w.shape)}")
    x, w = x.double(), w.double()
    tau = torch.nn.functional.softplus(torch.tensor(theta, dtype=torch.float64)) + eps
    clamped = torch.maximum(x, tau)
    logs = clamped.log()
    y = product_unit2d(x[None], w[None, None], tau).item()

    figure, axes = _canvas(WIDTH, 2.6)
    cell, number, gap, middle = 0.31, 0.46, 0.15, 1.78
    grid, clamp, operation = 3 * cell, 0.62, 0.42  # widths
    left = (WIDTH - (3 * grid + clamp + 3 * operation + 2 * number + 8 * gap)) / 2
    raised = x < tau

    def operate(x_left: float, text: str, width: float = operation) -> _Box:
        return _box(axes, x_left + width / 2, middle, width, 0.34, text, COLOURS["pure"], size=8)

    at = left + grid / 2
    first = _grid(axes, at, middle, cell, x, "window $x$", raised)
    at = first.right[0] + gap
    maximum = operate(at, r"max$(\cdot,\tau)$", clamp)
    second = _grid(axes, maximum.right[0] + gap + grid / 2, middle, cell, clamped, r"$\max(x,\,\tau)$", raised)
    log = operate(second.right[0] + gap, "log")
    third = _grid(axes, log.right[0] + gap + grid / 2, middle, cell, logs, r"$\log\,\max(x,\,\tau)$", raised)
    convolve = operate(third.right[0] + gap, "conv")
    fourth = _grid(axes, convolve.right[0] + gap + number / 2, middle, number, (logs * w).sum()[None, None], "sum $z$")
    exponential = operate(fourth.right[0] + gap, "exp")
    fifth = _grid(axes, exponential.right[0] + gap + number / 2, middle, number, torch.tensor([[y]]), "output $y$")
    row = [first, maximum, second, log, third, convolve, fourth, exponential, fifth]
    for one, other in pairwise(row):
        _arrow(axes, [one.right, other.left])

    low = 0.62
    weights = _grid(axes, convolve.x, low, cell, w, None)
    axes.text(weights.right[0] + 0.1, low, "exponents $W$", ha="left", va="center", color=INK, fontsize=8)
    _arrow(axes, [weights.top, convolve.bottom])
    threshold = _box(axes, maximum.x, low, 2.02, 0.46, "", _PLAIN)
    axes.text(
        maximum.x,
        low,
        r"$\tau = \mathrm{softplus}(\theta) + \varepsilon$" + f" = {tau.item():.2f}\n" + rf"$\theta$ = {theta:g}",
        ha="center",
        va="center",
        fontsize=8,
        color=INK,
        linespacing=1.25,
    )
    _arrow(axes, [threshold.top, maximum.bottom])
    return figure


def _grid(
    axes: Axes,
    x: float,
    y: float,
    cell: float,
    values: Tensor,
    title: str | None,
    marked: Tensor | None = None,
) -> _Box:
    """Numbers in cells, centred at ``(x, y)``; marked cells are those that the threshold changes."""
    rows, columns = values.shape
    left, top = x - columns * cell / 2, y + rows * cell / 2
    for i in range(rows):
        for j in range(columns):
            colour = "#CFE3F0" if marked is not None and marked[i, j] else _PLAIN
            corner = (left + j * cell, top - (i + 1) * cell)
            axes.add_patch(Rectangle(corner, cell, cell, facecolor=colour, edgecolor=LINE, linewidth=0.7))
            text = f"{values[i, j].item():.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")
            size = 6.5 if rows > 1 else 8
            axes.text(
                corner[0] + cell / 2, corner[1] + cell / 2, text, ha="center", va="center", fontsize=size, color=INK
            )
    if title:
        axes.text(x, top + 0.09, title, ha="center", va="bottom", fontsize=8, color=INK)
    return _Box(x, y, columns * cell, rows * cell)


# Figures 2 and 3


def block_figure(
    blocks: Mapping[str, nn.Module] | None = None, channels: int | Sequence[int] = 64, pixels: int = 56
) -> Figure:
    """Residual blocks side by side, top to bottom (figure 2).

    Args:
        blocks: the blocks, by their titles; the residual block of He et al. (2016) and the product-unit block if None.
        channels: channels of the blocks' inputs, one number for all or one for each.
        pixels: height and width of the inputs.
    """
    if blocks is None:
        blocks = {"(a) Residual block": BasicBlock(64, 64), "(b) Product-unit block": ProductUnitBlock(64, 64)}
    inputs = [channels] * len(blocks) if isinstance(channels, int) else channels
    plans = [_plan(walk(block, planes, pixels)) for block, planes in zip(blocks.values(), inputs, strict=True)]
    slot = WIDTH / len(plans)
    look = _Look(width=min(1.3, 0.5 * slot), height=0.25, gap=0.17, size=8 if slot > 2.2 else 6.2, maps=True)
    height = max(map(look.height_of, plans)) + 0.72
    figure, axes = _canvas(WIDTH, height)
    for i, (title, plan) in enumerate(zip(blocks, plans, strict=True)):
        middle = slot * (i + 0.5)
        x = middle + look.width / 4 - look.reach(plan) / 2  # what is drawn is centred, not its main path alone
        axes.text(middle, height - 0.14, title, ha="center", va="center", fontsize=9, color=INK)
        start = (x, height - 0.48)
        axes.text(*start, "$x$", ha="center", va="bottom", fontsize=9, color=INK)
        end = _column(axes, start, plan, look)
        axes.text(end[0], end[1] - 0.03, "$y$", ha="center", va="top", fontsize=9, color=INK)
    return figure


def network_figure(
    network: nn.Module, channels: int = 3, pixels: int | None = None, title: str | None = None
) -> Figure:
    """A whole residual network from left to right: stem, stages with one of their blocks each, head (figure 3).

    Args:
        network: the network, with stages ``layer1``, ``layer2``, ...
        channels: channels of the images.
        pixels: their height and width; None for 224 with four stages and 32 with fewer.
        title: what stands above it.
    """
    found = stages(network)
    pixels = pixels or (224 if len(found) > 3 else 32)
    layers = walk(network, channels, pixels)
    first = next(i for i, layer in enumerate(layers) if layer.name.startswith("layer"))
    last = max(i for i, layer in enumerate(layers) if layer.name.startswith("layer"))

    look = _Look(width=0.66, height=0.2, gap=0.13, size=6, maps=False)
    wide = replace(look, width=0.8)  # where no shortcut needs the room
    parts: list[tuple[str, str, _Plan, tuple[int, ...]]] = []
    stem, head = layers[:first], [layer for layer in layers[last + 1 :] if layer.kind != "flatten"]
    parts.append(
        ("stem", f"from {_size_text((channels, pixels, pixels))}", _Plan([], stem, [], [], False), stem[-1].shape)
    )
    for i, (letter, stage) in enumerate(found.items(), start=1):
        mine = [layer for layer in layers if layer.name.startswith(f"layer{i}.")]
        begin = next(k for k, layer in enumerate(layers) if layer.name.startswith(f"layer{i}.{len(stage) - 1}"))
        block = [layer for layer in mine if layer.name.split(".")[1] == str(len(stage) - 1)]
        stride = max((_stride(layer) for layer in mine), default=1)
        note = f"{TIMES} {len(stage)}" + (f", first stride {stride}" if stride > 1 else "")
        parts.append((f"stage {letter}", note, _plan(block, begin), mine[-1].shape))
    parts.append(("head", "", _Plan([], head, [], [], False), head[-1].shape))

    frame, lead = 0.88, 0.34
    step = (WIDTH - 2 * lead - frame) / (len(parts) - 1)
    frame = min(1.02, step - 0.17)
    tall = max(look.height_of(plan) for _, _, plan, _ in parts)
    below, above = 0.3, 0.38 + (0.24 if title else 0)
    figure, axes = _canvas(WIDTH, tall + below + above)
    centre = below + tall / 2
    boxes = []
    for i, (name, note, plan, shape) in enumerate(parts):
        x = WIDTH / 2 + (i - (len(parts) - 1) / 2) * step
        fill = "#F5F7F8"
        boxes.append(_box(axes, x, centre, frame, tall + 0.06, "", fill))
        axes.text(x, centre + tall / 2 + 0.24, name, ha="center", va="center", fontsize=8, color=INK)
        axes.text(x, centre + tall / 2 + 0.11, note, ha="center", va="center", fontsize=6.5, color=LINE)
        high = look.height_of(plan)
        inside = x - (0.07 if plan.adds else 0)
        _column(axes, (inside, centre + high / 2), plan, look if plan.adds else wide)
        axes.text(x, below - 0.14, _size_text(shape), ha="center", va="center", fontsize=6.5, color=INK)
    for one, other in pairwise(boxes):
        _arrow(axes, [one.right, other.left])
    _arrow(axes, [(0.0, centre), boxes[0].left])
    _arrow(axes, [boxes[-1].right, (WIDTH, centre)])
    if title:
        axes.text(WIDTH / 2, tall + below + above - 0.12, title, ha="center", va="center", fontsize=9, color=INK)
    return figure


@dataclass(frozen=True)
class _Plan:
    """A block as it is drawn: before the paths part, both paths, after the addition."""

    before: list[Layer]
    main: list[Layer]
    shortcut: list[Layer]
    after: list[Layer]
    adds: bool


@dataclass(frozen=True)
class _Look:
    """Sizes of the boxes of a column, in inches and points; whether boxes name their number of maps."""

    width: float
    height: float
    gap: float
    size: float
    maps: bool

    def height_of(self, plan: _Plan) -> float:
        """From where the arrow into a column begins to where that out of it ends."""
        boxes = len(plan.before) + len(plan.main) + len(plan.after)
        arrows = boxes + 1
        parting = bool(plan.adds) * self.gap  # one more gap above the boxes, where the shortcut leaves
        return boxes * self.height + arrows * self.gap + parting + (self.circle + self.gap) * plan.adds

    def reach(self, plan: _Plan) -> float:
        """From the middle of the main path to the right end of the shortcut."""
        if plan.shortcut and self.maps:
            return self.width / 2 + 0.7 * self.gap + self.on_shortcut.width
        return self.width / 2 + self.gap * (0.95 if self.maps else 0.6) * plan.adds

    @property
    def on_shortcut(self) -> _Look:
        """The sizes of the boxes on a shortcut."""
        return replace(self, width=0.78 * self.width, size=self.size - 1.2)

    @property
    def circle(self) -> float:
        """Diameter of the circle of an addition."""
        return self.height * 0.8


def _plan(layers: list[Layer], first: int = 0) -> _Plan:
    """Sort the layers of a block by where they stand; ``first`` is the place of the block's first layer in the walk."""
    sources = [[source - first for source in layer.sources] for layer in layers]

    def chain(at: int) -> list[int]:
        found = []
        while at >= 0:
            found.append(at)
            at = sources[at][0]
        return found[::-1]

    add = next(i for i, layer in enumerate(layers) if layer.kind == "add")
    one, other = (chain(source) for source in sources[add])
    main, shortcut = (one, other) if len(one) >= len(other) else (other, one)
    common = [i for i in main if i in shortcut]

    def pick(places: list[int]) -> list[Layer]:
        return [layers[i] for i in places if i not in common]

    return _Plan([layers[i] for i in common], pick(main), pick(shortcut), layers[add + 1 :], True)


def _column(axes: Axes, start: tuple[float, float], plan: _Plan, look: _Look) -> tuple[float, float]:
    """Draw a block from ``start`` downwards; the end of its last arrow."""
    x, y = start

    def box(layer: Layer) -> None:
        nonlocal y
        y -= look.gap
        _arrow(axes, [(x, y + look.gap + slack), (x, y)], look)
        _layer_box(axes, x, y - look.height / 2, layer, look)
        y -= look.height

    slack = 0.0
    for layer in plan.before:
        box(layer)
    if plan.adds:
        slack = look.gap
        parting = (x, y - look.gap * 0.75)
        y -= look.gap
    for i, layer in enumerate(plan.main):
        slack = look.gap if plan.adds and i == 0 else 0.0
        box(layer)
    slack = 0.0
    if plan.adds:
        radius = look.circle / 2
        y -= look.gap
        _arrow(axes, [(x, y + look.gap), (x, y)], look)
        centre = y - radius
        _add(axes, x, centre, radius)
        aside = x + look.reach(plan)
        if plan.shortcut and look.maps:
            aside -= look.on_shortcut.width / 2
        _shortcut(axes, parting, (x + radius, centre), aside, plan.shortcut, look)
        y -= look.circle
    for layer in plan.after:
        box(layer)
    _arrow(axes, [(x, y), (x, y - look.gap)], look)
    return x, y - look.gap


def _shortcut(
    axes: Axes, begin: tuple[float, float], end: tuple[float, float], aside: float, layers: list[Layer], look: _Look
) -> None:
    """The line around the main path, with what stands on it."""
    points = [begin, (aside, begin[1]), (aside, end[1]), end]
    if layers and look.maps:
        middle = (begin[1] + end[1]) / 2
        small = look.on_shortcut
        high = len(layers) * small.height + (len(layers) - 1) * small.gap
        y = middle + high / 2
        above = [begin, (aside, begin[1])]
        for layer in layers:
            _arrow(axes, [*above, (aside, y)], look)
            _layer_box(axes, aside, y - small.height / 2, layer, small)
            y -= small.height
            above = [(aside, y)]
            y -= small.gap
        points = [*above, (aside, end[1]), end]
    _arrow(axes, points, look)


def _layer_box(axes: Axes, x: float, y: float, layer: Layer, look: _Look) -> _Box:
    return _box(
        axes, x, y, look.width, look.height, _label(layer, look.maps), _FILLS.get(layer.kind, _PLAIN), look.size
    )


def _label(layer: Layer, maps: bool) -> str:
    if layer.kind in ("conv", "unit", "maxpool"):
        module: Any = layer.module
        height, width = _pair(module.kernel_size)
        name = {"conv": "conv", "unit": "ConvPU", "maxpool": "max pool"}[layer.kind]
        stride = _stride(layer)
        number = f", {layer.shape[0]}" if maps and layer.kind != "maxpool" else ""
        step = f", /{stride}" if stride > 1 else ""
        if layer.kind == "maxpool" and not maps:
            return f"{name}{step}"  # in the small boxes of a whole network
        return f"{height}{TIMES}{width} {name}{number}{step}"
    if layer.kind == "pad":
        return f"zeros, /{_stride(layer)}"
    return _NAMES.get(layer.kind, layer.kind)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _stride(layer: Layer) -> int:
    return int(_pair(getattr(layer.module, "stride", 1))[0])


def _size_text(shape: tuple[int, ...]) -> str:
    return f" {TIMES} ".join(map(str, shape)) + (" logits" if len(shape) == 1 else "")


# The drawing kit


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure on nothing, as a dark page needs it, whose axes cover it, in inches."""
    figure = plt.figure(figsize=(width, height), layout="none", facecolor="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def _box(axes: Axes, x: float, y: float, width: float, height: float, text: str, fill: str, size: float = 8) -> _Box:
    """A rounded box with its text, white on dark fills."""
    radius = min(0.06, height / 4)
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle=f"round,pad=0,rounding_size={radius}",
            facecolor=fill,
            edgecolor=COLOURS["pure"] if fill == COLOURS["pure"] else LINE,
            linewidth=0.7,
        )
    )
    colour = "white" if fill == COLOURS["pure"] else INK
    axes.text(x, y, text, ha="center", va="center_baseline", fontsize=size, color=colour)
    return _Box(x, y, width, height)


def _add(axes: Axes, x: float, y: float, radius: float) -> None:
    """A circle with a plus, drawn as lines: a glyph would sit beside the centre."""
    axes.add_patch(Circle((x, y), radius, facecolor=_PLAIN, edgecolor=LINE, linewidth=0.7))
    arm = 0.55 * radius
    axes.plot([x - arm, x + arm], [y, y], color=INK, linewidth=0.9, solid_capstyle="butt")
    axes.plot([x, x], [y - arm, y + arm], color=INK, linewidth=0.9, solid_capstyle="butt")


def _arrow(axes: Axes, points: Sequence[tuple[float, float]], look: _Look | None = None) -> None:
    """A line along the points, its head's tip at the last one."""
    scale = 7.0 if look is None or look.maps else 4.5
    distinct = [point for i, point in enumerate(points) if i == 0 or math.dist(point, points[i - 1]) > 1e-9]
    axes.add_patch(
        FancyArrowPatch(
            path=Path(distinct),
            arrowstyle="-|>,head_length=0.45,head_width=0.22",
            mutation_scale=scale,
            color=LINE,
            linewidth=0.8,
            joinstyle="round",
            capstyle="butt",
        )
    )
