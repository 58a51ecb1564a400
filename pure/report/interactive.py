"""Figures that a reader can touch: sliders over a product unit, drawn by Bokeh in the browser, without a kernel.

What is shown at first is computed by :mod:`pure.nn.functional`; a few lines of JavaScript with the same formulas draw
again when a slider moves.  In the book BokehJS lies among the static files; a notebook by itself carries it along.
Where scripts are off a still picture is left.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping
from uuid import uuid4

import matplotlib.pyplot as plt
import numpy as np
import torch
from bokeh.document import Document
from bokeh.embed import components
from bokeh.events import DocumentReady
from bokeh.models import ColumnDataSource, CustomJS, InlineStyleSheet, LinearColorMapper, Model, Select, Slider, Span
from bokeh.palettes import gray
from bokeh.plotting import figure as bokeh_figure
from bokeh.resources import INLINE
from matplotlib.figure import Figure
from torch import Tensor

from pure.data.augment import parse
from pure.nn.functional import product_unit, product_unit2d
from pure.report.data_pages import photographs
from pure.report.style import COLOURS, ON_BOTH, PALETTE

__all__ = [
    "BUNDLED",
    "FILTERS",
    "Touchable",
    "filter_explorer",
    "lit",
    "sample_picture",
    "unit_curves",
    "unit_explorer",
]

BUNDLED = "PURE_BOKEHJS"
"""Environment variable: ``bundled`` while the book is built, whose pages load BokehJS themselves."""

FILTERS: Mapping[str, tuple[float, ...]] = {
    "right neighbour divided by left": (0, 0, 0, -1, 0, 1, 0, 0, 0),
    "pixel below divided by above": (0, -1, 0, 0, 0, 0, 0, 1, 0),
    "pixel divided by its four neighbours": (0, -0.25, 0, -0.25, 1, -0.25, 0, -0.25, 0),
    "square root of the pixel": (0, 0, 0, 0, 0.5, 0, 0, 0, 0),
    "the pixel itself": (0, 0, 0, 0, 1, 0, 0, 0, 0),
}
"""Exponents of a 3 x 3 window, row by row, under the names of the list to choose from."""

# the derivatives: what the curve is called, its colour and its dashes in Bokeh and in matplotlib
_DERIVATIVES = {
    "dx": ("dy/dx", PALETTE[0], "solid", "-"),
    "dw": ("dy/dw", PALETTE[1], "dashed", "--"),
    "dtau": ("dy/dτ", PALETTE[2], "dotted", ":"),
}
_SUBSCRIPTS = "₁₂₃₄₅₆₇₈₉"
_DARKEST, _BRIGHTEST = 2, 98  # per cent of the pixels; those outside are drawn black, and white


class Touchable:
    """What a cell shows: plots with controls, and a still picture where scripts are off and on paper.

    Attributes:
        name: the identifier of its element on a page, which scripts find it by.
        parts: HTML of the plots and controls by their names, by which a style sheet arranges them.
        script: what starts them.
        still: the picture, PNG.
        description: what is seen and what can be moved: the alternative text.
        classes: of the picture on a page.
    """

    def __init__(
        self, parts: Mapping[str, Model], update: CustomJS, still: Figure, description: str, photo: bool = False
    ) -> None:
        """Put plots and controls into a document of their own.

        Args:
            parts: plots and controls, by name.
            update: what every control starts, and the page at first; its code finds the line of text below the figure
                as ``readout``.
            still: closed afterwards.
            description: the alternative text.
            photo: whether the still picture keeps its colours on a dark page.
        """
        self.classes = "still photo" if photo else "still"
        self.name, self.description = f"touchable-{uuid4().hex}", description
        document = Document()
        for part in parts.values():
            document.add_root(part)
        update.args = {"readout": self.name, **update.args}
        update.code = f'readout = document.querySelector("#" + readout + " .readout");\n{update.code}'
        controls = [part for part in parts.values() if isinstance(part, Slider | Select)]
        for control in controls:
            control.js_on_change("value", update)
        titles = {control.id: control.title for control in controls if isinstance(control, Slider)}
        document.js_on_event(
            DocumentReady, CustomJS(args={"name": self.name, "titles": titles, "update": update}, code=_STARTED)
        )
        self.script, self.parts = components(dict(parts), wrap_script=False)
        buffer = io.BytesIO()
        still.savefig(buffer, format="png", dpi=150)
        plt.close(still)
        self.still = buffer.getvalue()

    def _repr_html_(self) -> str:
        """The figure for a page; BokehJS is part of it unless the page has it already."""
        picture, words = base64.b64encode(self.still).decode(), html.escape(self.description)
        parts = "".join(f'<div class="part part-{name}">{part}</div>' for name, part in self.parts.items())
        library = "" if os.environ.get(BUNDLED) == "bundled" else INLINE.render_js()
        return (
            f'<div class="touchable" id="{self.name}" role="group" aria-label="{words}">'
            f'<img class="{self.classes}" alt="{words}" src="data:image/png;base64,{picture}">'
            f'<div class="parts">{parts}</div><p class="readout" aria-live="polite"></p>'
            f"</div>{library}<script>{self.script}</script>"
        )

    def _repr_png_(self) -> bytes:
        """The still picture, for paper and for programs that show no HTML."""
        return self.still


# The still picture goes, screen readers get the names of the sliders, and the figure is drawn for their values.
_STARTED = """
document.getElementById(name).classList.add("started");
for (const [id, title] of Object.entries(titles)) {
    const {shadow_el} = Bokeh.index.find_one_by_id(id);
    for (const handle of shadow_el.querySelectorAll("[role=slider]")) handle.setAttribute("aria-label", title);
}
update.execute(null);
"""


def unit_curves(x: Tensor, exponent: float, threshold: float) -> dict[str, Tensor]:
    """A product unit of one input, ``y = max(x, tau) ** w``, and its derivatives, by automatic differentiation.

    Args:
        x: inputs, shape ``(n,)``, floating point.
        exponent: w.
        threshold: tau, positive.

    Returns:
        ``x``, ``y``, ``dx`` for dy/dx, ``dw`` for dy/dw and ``dtau`` for dy/dtau, each of the shape and dtype of ``x``.
    """
    inputs = x.clone().requires_grad_()
    w = torch.full_like(x, exponent).requires_grad_()
    tau = torch.full_like(x, threshold).requires_grad_()
    y = product_unit(inputs, torch.diag(w), tau)  # output i has input i alone: the other exponents are 0
    dx, dw, dtau = torch.autograd.grad(y.sum(), [inputs, w, tau])
    return {"x": x, "y": y.detach(), "dx": dx, "dw": dw, "dtau": dtau}


_DRAW_CURVES = """
const tau = threshold.value, w = exponent.value;
const unit = x => {
    const above = x >= tau, base = above ? x : tau, y = base ** w, slope = w * base ** (w - 1);
    return {y: y, dx: above ? slope : 0, dw: y * Math.log(base), dtau: above ? 0 : slope};
};
const curves = {x: source.data.x};
for (const key of ["y", "dx", "dw", "dtau"]) curves[key] = Float64Array.from(source.data.x, x => unit(x)[key]);
source.data = curves;
for (const line of lines) line.location = tau;
const here = unit(input.value);
point.data = Object.fromEntries(Object.entries({x: input.value, ...here}).map(([key, value]) => [key, [value]]));
const shown = value => String(Number(value.toPrecision(3))).replace("-", "\\u2212");
readout.textContent = `At x = ${shown(input.value)}, ${input.value >= tau ? "above" : "below"} the threshold: `
    + `y = ${shown(here.y)}, dy/dx = ${shown(here.dx)}, dy/dw = ${shown(here.dw)}, dy/d\\u03c4 = ${shown(here.dtau)}.`;
"""


def unit_explorer(exponent: float = 0.5, threshold: float = 0.3, at: float = 1.5) -> Touchable:
    """``y = max(x, tau) ** w`` and its three derivatives over x, with sliders for the exponent, the threshold and x.

    Args:
        exponent: w at first, from -2 to 3.
        threshold: tau at first, from 0.01 to 1.
        at: the x at first whose values are told, from -0.5 to 2.5.
    """
    # between the steps of the sliders: no input is equal to a threshold
    x = torch.arange(-0.495, 2.5, 0.01, dtype=torch.float64)
    curves = unit_curves(x, exponent, threshold)
    source = ColumnDataSource({name: values.numpy() for name, values in curves.items()}, name="curves")
    here = unit_curves(torch.tensor([at], dtype=x.dtype), exponent, threshold)
    point = ColumnDataSource({name: values.numpy() for name, values in here.items()})
    controls = {
        "exponent": _slider("exponent w", start=-2, end=3, step=0.1, value=exponent),
        "threshold": _slider("threshold τ", start=0.01, end=1, step=0.01, value=threshold),
        "input": _slider("input x", start=-0.5, end=2.5, step=0.05, value=at),
    }
    plots, lines = {}, []
    for name, label, keys, limits in (
        ("output", "output y", ["y"], (0, 6)),
        ("derivatives", "derivatives of y", list(_DERIVATIVES), (-6, 6)),
    ):
        plot = _plot(label, (-0.5, 2.5), limits)
        for key in keys:
            word, colour, dashes, _ = _DERIVATIVES.get(key, ("", COLOURS["neutral"], "solid", "-"))
            legend = {"legend_label": word} if word else {}
            plot.line("x", key, source=source, color=colour, line_dash=dashes, line_width=2.5, **legend)
            plot.scatter("x", key, source=point, color=colour, size=9)
        lines.append(Span(location=threshold, dimension="height", line_color=COLOURS["neutral"], line_dash=[3, 3]))
        plot.add_layout(lines[-1])
        plots[name] = plot
    plots["derivatives"].legend[0].update(
        location="top_right",
        background_fill_alpha=0,
        border_line_alpha=0,
        orientation="horizontal",
        padding=0,
        spacing=12,
    )
    update = CustomJS(args={"source": source, "point": point, "lines": lines, **controls}, code=_DRAW_CURVES)
    description = (
        "A product unit of one input and its derivatives by the input, the exponent and the threshold, with sliders "
        "for exponent, threshold and input"
    )
    return Touchable({**plots, **controls}, update, _curves_figure(curves, threshold), description)


_HANDLE = f"""
.noUi-handle {{ background: {COLOURS["neutral"]}; border-color: {COLOURS["neutral"]}; box-shadow: none; }}
.noUi-handle:focus-visible {{ outline: 3px solid {PALETTE[0]}; outline-offset: 2px; }}
"""


def _slider(title: str, **limits: float) -> Slider:
    """A slider as wide as its place; arrow keys move it when it has the focus."""
    look = InlineStyleSheet(css=_HANDLE)
    return Slider(title=title, sizing_mode="stretch_width", bar_color=PALETTE[5], stylesheets=[look], **limits)


def _plot(label: str, x_limits: tuple[float, float], y_limits: tuple[float, float]) -> bokeh_figure:
    """An empty plot over x, as wide as its place, which no gesture moves: a telephone scrolls past it."""
    plot = bokeh_figure(
        height=260,
        sizing_mode="stretch_width",
        tools="",
        toolbar_location=None,
        x_range=x_limits,
        y_range=y_limits,
        x_axis_label="input x",
        y_axis_label=label,
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_alpha=0,
        min_border_right=12,
    )
    for axis in plot.axis:
        axis.update(
            axis_label_text_font_style="normal",
            axis_label_text_color="black",
            axis_label_text_font_size="13px",
            major_label_text_color="black",
            major_label_text_font_size="12px",
        )
    return plot


def _curves_figure(curves: Mapping[str, Tensor], threshold: float) -> Figure:
    """The still picture of :func:`unit_explorer`."""
    still, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8))
    left.plot(curves["x"], curves["y"], color=COLOURS["neutral"])
    left.set(xlabel="input x", ylabel="output y", ylim=(0, 6))
    for key, (word, colour, _, dashes) in _DERIVATIVES.items():
        right.plot(curves["x"], curves[key], dashes, color=colour, label=word)
    right.set(xlabel="input x", ylabel="derivatives of y", ylim=(-6, 6))
    right.legend(ncols=3, loc="upper right")
    for axes in (left, right):
        axes.axvline(threshold, color=COLOURS["neutral"], linestyle=":", linewidth=1)
    return still


def sample_picture(size: int = 128) -> Tensor:
    """A photograph of a temple that comes with scikit-learn, in grey: ``(size, size)``, float32 from 0 to 1."""
    photograph, shrink = photographs().images[:1], parse(f"resize({size})+center-crop({size})")
    small = shrink.apply(photograph, shrink.draw(1, (3, photograph.shape[2], photograph.shape[3]), torch.Generator()))
    return small[0].float().mean(0) / 255


def lit(picture: Tensor, light: float) -> Tensor:
    """A picture ``(H, W)`` under light that changes evenly from 1 at the left edge to ``light`` at the right one."""
    return picture * torch.linspace(1, light, picture.shape[1])


# A choice from the list sets nine sliders, each of which would draw: its tag says that it is still setting them.
_DRAW_PICTURES = """
if (choice.tags.length) return;
if (cb_obj === choice) {
    choice.tags = ["setting"];
    filters[choice.value].forEach((exponent, i) => { exponents[i].value = exponent; });
    choice.tags = [];
}
const w = exponents.map(slider => slider.value), tau = threshold.value;
const [x, y] = [before.data.image[0], after.data.image[0]], [rows, columns] = x.shape;
const log = new Float64Array(x.length);
let lifted = 0;
for (let i = 0; i < x.length; i++) {
    x[i] = picture.data.image[0][i] * (1 + (light.value - 1) * (i % columns) / (columns - 1));
    lifted += x[i] < tau;
    log[i] = Math.log(Math.max(x[i], tau));
}
for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
    let sum = 0;
    for (let k = 0; k < 9; k++) {
        // row 0 is the lowest, and the first three exponents are those of the row above
        const r = row + 1 - Math.floor(k / 3), c = column + k % 3 - 1;
        // beyond the border a pixel counts as 1, whose logarithm is 0
        if (r >= 0 && r < rows && c >= 0 && c < columns) sum += w[k] * log[r * columns + c];
    }
    y[row * columns + column] = Math.exp(sum);
}
before.change.emit();
const sorted = Float64Array.from(y).sort(), at = percent => sorted[Math.round(percent / 100 * (sorted.length - 1))];
const low = at(darkest), high = Math.max(at(brightest), low + 1e-6);
mapper.setv({low: low, high: high});
after.change.emit();
const shown = value => String(Number(value.toPrecision(3))).replace("-", "\u2212");
readout.textContent = `Right picture: black is y = ${shown(low)}, white is y = ${shown(high)}. `
    + `The threshold lifts ${shown(100 * lifted / x.length)} % of the pixels.`;
"""


def filter_explorer(picture: Tensor, start: str = "right neighbour divided by left") -> Touchable:
    """One product unit that slides over a picture: its nine exponents, its threshold and the light as sliders.

    Args:
        picture: grey levels from 0 to 1, ``(H, W)``, of about 128 pixels: more take long on a telephone.
        start: the filter at first, a name of :data:`FILTERS`.

    Raises:
        KeyError: :data:`FILTERS` has no such name.
        ValueError: the picture has another shape.
    """
    if picture.ndim != 2:
        raise ValueError(
            f"filter_explorer takes one picture (H, W), not {tuple(picture.shape)}; take one channel of it"
        )
    threshold, light = 0.05, 1.0
    weight = torch.tensor(FILTERS[start], dtype=torch.float64).reshape(1, 1, 3, 3)
    picture = picture.double()
    y = product_unit2d(picture[None], weight, threshold, padding=1)[0]
    low, high = np.percentile(y.numpy(), (_DARKEST, _BRIGHTEST))
    sources = {
        name: ColumnDataSource({"image": [values.flip(0).float().numpy()]}, name=name)
        for name, values in (("picture", picture), ("before", picture), ("after", y))
    }
    mapper = LinearColorMapper(gray(256), low=low, high=high)
    controls = {
        "choice": Select(title="exponents", options=list(FILTERS), value=start, sizing_mode="stretch_width"),
        **{
            f"exponent-{i}": _slider(f"w{_SUBSCRIPTS[i]}", start=-2, end=2, step=0.25, value=exponent)
            for i, exponent in enumerate(FILTERS[start])
        },
        "threshold": _slider("threshold τ", start=0.01, end=1, step=0.01, value=threshold),
        "light": _slider("light at the right edge", start=0.1, end=1, step=0.05, value=light),
    }
    pictures = {
        "before": _picture_plot("before: x", sources["before"], LinearColorMapper(gray(256), low=0, high=1)),
        "after": _picture_plot("after: y", sources["after"], mapper),
    }
    exponents = [slider for name, slider in controls.items() if name.startswith("exponent-")]
    values = {"filters": dict(FILTERS), "darkest": _DARKEST, "brightest": _BRIGHTEST}
    models = {"exponents": exponents, "mapper": mapper, **sources}
    models |= {name: controls[name] for name in ("choice", "threshold", "light")}
    description = (
        "A photograph of a temple before and after a product unit of 3 x 3 pixels, with sliders for its exponents, its "
        "threshold and the light"
    )
    update, still = CustomJS(args=models | values, code=_DRAW_PICTURES), _pictures_figure(picture, y, (low, high))
    return Touchable({**pictures, **controls}, update, still, description, photo=True)


def _picture_plot(title: str, source: ColumnDataSource, mapper: LinearColorMapper) -> bokeh_figure:
    """A plot that is a picture and its name."""
    rows, columns = source.data["image"][0].shape
    plot = bokeh_figure(
        title=title,
        sizing_mode="scale_width",
        aspect_ratio=columns / (rows * 1.1),  # the name above takes a tenth
        tools="",
        toolbar_location=None,
        x_range=(0, columns),
        y_range=(0, rows),
        min_border=0,
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_alpha=0,
    )
    plot.title.update(text_color=ON_BOTH, text_font_style="normal", text_font_size="13px")
    plot.axis.visible = False
    plot.grid.visible = False
    plot.image("image", x=0, y=0, dw=columns, dh=rows, color_mapper=mapper, source=source)
    return plot


def _pictures_figure(picture: Tensor, y: Tensor, limits: tuple[float, float]) -> Figure:
    """The still picture of :func:`filter_explorer`."""
    still, (left, right) = plt.subplots(1, 2, figsize=(7, 3.8))
    left.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1)
    right.imshow(y.numpy(), cmap="gray", vmin=limits[0], vmax=limits[1])
    for axes, title in ((left, "before: x"), (right, "after: y")):
        axes.set_title(title, color=ON_BOTH)
        axes.axis("off")
    return still
