"""What noise costs, from records: the relative drop of eq. (6) as a curve over the scale of the noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd

from pure.data.noise import relative_drop
from pure.records import RunRecord
from pure.report.networks import display_name
from pure.report.statistics import paired_difference
from pure.report.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["drop_figure", "drop_table", "drops"]


def drops(records: Iterable[RunRecord]) -> pd.DataFrame:
    """The tests of some runs under noise, one row for each run and scale.

    Returns:
        Columns ``data`` (its name), ``network`` (its name), ``family``, ``seed``, ``scale`` (photons for a grey level;
        a larger scale is less noise), ``accuracy`` and ``clean`` (percent, with and without noise) and ``drop``
        (percent of the clean accuracy).  Runs that diverged, and runs without a noisy test, have no row.
    """
    rows = []
    for run in records:
        noisy = [run.noisy, *run.noise_curve] if run.noisy is not None else run.noise_curve
        for test in sorted(noisy, key=lambda each: each.noise_scale or 0.0):
            if run.test is not None:
                clean = run.test.accuracy
                title = run.data.name, display_name(run.model.name), run.recipe.family, run.seed, test.noise_scale
                rows.append((*title, 100 * test.accuracy, 100 * clean, relative_drop(clean, test.accuracy)))
    return pd.DataFrame(
        rows, columns=["data", "network", "family", "seed", "scale", "accuracy", "clean", "drop"]
    ).sort_values(["data", "network", "scale", "seed"], ignore_index=True)


def drop_table(found: pd.DataFrame, ours: str, theirs: str) -> pd.DataFrame:
    """Two networks' relative drops at each scale, and their difference over the seeds that both have.

    Args:
        found: as :func:`drops` gives it, of one data set.
        ours: name of a network in it.
        theirs: of another.

    Returns:
        Formatted text with columns for the scale, the mean drop of each in percent, their difference in points with
        Student's interval for pairs at 95 % (a negative one: ours loses less), and what it says; without an interval
        below two seeds.
    """
    rows = []
    for scale, at_scale in found.groupby("scale"):
        by_seed = (
            at_scale.pivot(index="seed", columns="network", values="drop").reindex(columns=[ours, theirs]).dropna()
        )
        row = {"Scale": f"{scale:g}"} | {f"{name} (%)": f"{by_seed[name].mean():.1f}" for name in (ours, theirs)}
        if len(by_seed) > 1:
            effect = paired_difference(by_seed[ours].tolist(), by_seed[theirs].tolist())
            row["Difference (points)"] = f"{effect.mean:+.1f}"
            row["95 % interval"] = f"{effect.low:+.1f} to {effect.high:+.1f}"
            row["Loses less"] = {-1: ours, 0: "undecided", 1: theirs}[effect.verdict]
        rows.append(row | {"Seeds": str(len(by_seed))})
    return pd.DataFrame(rows)


def drop_figure(found: pd.DataFrame) -> Figure:
    """Accuracy (left) and relative drop (right) over the scale of the noise; dots are seeds, lines their means.

    Args:
        found: as :func:`drops` gives it, of one data set.
    """
    figure, panels = plt.subplots(1, 2, figsize=(7, 3.0))
    for axes, quantity in zip(panels, ("accuracy", "drop"), strict=True):
        for number, (network, rows) in enumerate(found.groupby("network", sort=False)):
            colour, line = COLOURS[rows["family"].iloc[0]], ("-", "--", ":", "-.")[number // 2 % 4]
            axes.plot(rows["scale"], rows[quantity], "o", color=colour, alpha=0.35, markersize=3, markeredgewidth=0)
            mean = rows.groupby("scale")[quantity].mean()
            axes.plot(mean.index, mean, line, color=colour, label=network)
        axes.set(xscale="log", xlabel="scale of the noise (photons a grey level)")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panels[0].set_ylabel("test accuracy (%)")
    panels[1].set_ylabel("relative drop (%)")
    panels[0].legend(loc="lower right")
    return figure
