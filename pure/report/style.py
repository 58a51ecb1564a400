"""One look for all figures of the notebooks, the book and the README."""

from __future__ import annotations

import matplotlib.pyplot as plt
from cycler import cycler

__all__ = ["COLOURS", "ON_BOTH", "PALETTE", "use"]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of Okabe and Ito (2008), which people with any colour vision can tell apart, without the pale yellow."""

COLOURS = {"pure": PALETTE[0], "resnet": PALETTE[1], "neutral": "#5F6B76"}
"""One colour for each family in every figure: product units blue, sums with ReLU vermilion, everything else grey."""


ON_BOTH = "#757B82"
"""A grey that can be read on white and on a dark page: for words beside photographs, which keep their colours."""


def use() -> None:
    """Make the look the default of matplotlib, and so of seaborn, for the rest of the session.

    Figures are laid out so that no label is cut off.  Their 200 dots per inch keep a full-width figure sharp in print.
    """
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.2),  # inches; as wide as the text of the book
            "figure.dpi": 200,
            "figure.constrained_layout.use": True,
            # Transparent: on a dark page the book's style sheet turns what is drawn here in black into white.
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.prop_cycle": cycler(color=PALETTE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": COLOURS["neutral"],
            "axes.linewidth": 0.7,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.titlesize": 9,
            "axes.titlelocation": "left",
            "axes.labelsize": 9,
            "grid.color": "#E3E6E8",
            "grid.linewidth": 0.6,
            "font.size": 9,
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "xtick.color": COLOURS["neutral"],
            "ytick.color": COLOURS["neutral"],
            "xtick.labelcolor": "black",
            "ytick.labelcolor": "black",
            "legend.fontsize": 8,
            "legend.frameon": False,
            "lines.linewidth": 1.5,
            "lines.markersize": 4,
            "image.cmap": "viridis",
            "image.interpolation": "nearest",  # a pixel of the data is a square of the figure
        }
    )
