"""From the study of the first steps (``benchmarks/stability.py``) to the table and the figure of its page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import binomtest

from pure.report.style import COLOURS, PALETTE

__all__ = ["clopper_pearson", "courses_figure", "machines", "read_studies", "stability_table"]

Study = Mapping[str, Any]
"""One network with one arm: ``family``, ``depth``, ``arm``, ``recipe``, ``steps``, and its ``runs``, one a seed."""

ARMS = ("plain", "clip", "stabilised", "warm-up")
"""In the order of the table: as published; gradients cut to a norm; the stabilised unit; a learning rate that rises."""

_LAST = 20
"""Steps whose mean loss counts as the loss at the end."""


def read_studies(folder: Path | str) -> list[Study]:
    """What a folder of results holds, by family, depth and arm; an empty list where there is no folder.

    Raises:
        ValueError: a file is not a result of ``benchmarks/stability.py``.
    """
    studies = []
    for path in sorted(Path(folder).glob("*.json")):
        study = json.loads(path.read_text("utf-8"))
        lacking = {"family", "depth", "arm", "recipe", "steps", "runs"} - set(study)
        if lacking or study["arm"] not in ARMS:
            what = f"lacks {', '.join(sorted(lacking))}" if lacking else f"is of an unknown arm {study['arm']!r}"
            raise ValueError(f"{path.name} {what}; expected what benchmarks/stability.py writes")
        studies.append(study)
    return sorted(studies, key=lambda each: (each["family"], each["depth"], ARMS.index(each["arm"])))


def stability_table(studies: Sequence[Study]) -> pd.DataFrame:
    """A row for each network and arm: seeds, divergences with their 95 % interval, losses, the largest gradient.

    Losses are medians over the seeds: before the first step, the largest of any step, and the mean of the last 20
    steps, of the seeds that came to the end.
    """
    rows = []
    for study in studies:
        runs = study["runs"]
        diverged = sum(each["diverged"] is not None for each in runs)
        low, high = clopper_pearson(diverged, len(runs))
        ends = [float(np.mean(each["loss"][-_LAST:])) for each in runs if each["diverged"] is None]
        rows.append(
            {
                "Network": _title(study),
                "Arm": study["arm"],
                "Seeds": str(len(runs)),
                "Diverged": f"{diverged} ({low:.0%} to {high:.0%})",
                "First loss": _median([each["loss"][0] for each in runs if each["loss"]]),
                "Highest loss": _median([max(each["loss"]) for each in runs if each["loss"]]),
                "Loss at the end": _median(ends),
                "Largest gradient norm": _median([max(each["gradient_norm"]) for each in runs if each["loss"]]),
            }
        )
    return pd.DataFrame(rows)


def courses_figure(studies: Sequence[Study]) -> Figure:
    """Loss and norm of the gradient over the steps: a column for each network, a line for each arm.

    Lines are medians over the seeds, bands reach from the smallest to the largest; a cross marks the step at which a
    seed diverged.
    """
    networks = list(dict.fromkeys(_title(study) for study in studies))
    figure, grid = plt.subplots(
        2, len(networks), figsize=(max(3.5, 2.4 * len(networks)), 4.4), sharex=True, sharey="row", squeeze=False
    )
    colours = dict(zip(ARMS, (COLOURS["pure"], *PALETTE[2:5]), strict=True))
    for study in studies:
        column = networks.index(_title(study))
        for axes, quantity in zip(grid[:, column], ("loss", "gradient_norm"), strict=True):
            low, middle, high = _band([each[quantity] for each in study["runs"]])
            steps = np.arange(1, len(middle) + 1)
            axes.fill_between(steps, low, high, color=colours[study["arm"]], alpha=0.2, linewidth=0)
            axes.plot(steps, middle, color=colours[study["arm"]], label=study["arm"], linewidth=1.2)
            for each in study["runs"]:
                if each["diverged"] is not None and each[quantity]:
                    axes.plot(len(each[quantity]), each[quantity][-1], "x", color=colours[study["arm"]])
            axes.set_yscale("log")
    for column, title in enumerate(networks):
        grid[0, column].set_title(title)
        grid[1, column].set_xlabel("step")
    grid[0, 0].set_ylabel("loss of the batch (nats)")
    grid[1, 0].set_ylabel("norm of the gradient")
    lines = {line.get_label(): line for axes in grid[0] for line in axes.get_lines() if line.get_label() in ARMS}
    arms = [arm for arm in ARMS if arm in lines]
    figure.legend([lines[arm] for arm in arms], arms, loc="outside lower center", ncols=len(arms))
    return figure


def machines(studies: Sequence[Study]) -> str:
    """On what, by which commits."""
    found = [each for study in studies for each in study["runs"]]
    devices = sorted({each["machine"]["device"] for each in found})
    commits = sorted({(each["commit"] or "no commit")[:10] for each in found})
    return f"{', '.join(devices)}; commit {', '.join(commits)}"


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share, exact by the binomial distribution, from 0 to 1; for no trials all of it.

    Raises:
        ValueError: more successes than trials.
    """
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def _band(courses: Sequence[Sequence[float]]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Smallest, median and largest value of each step, over the courses that reach it."""
    longest = max((len(course) for course in courses), default=0)
    steps = [[course[step] for course in courses if step < len(course)] for step in range(longest)]
    return (
        np.array([min(values) for values in steps]),
        np.array([float(np.median(values)) for values in steps]),
        np.array([max(values) for values in steps]),
    )


def _median(values: Sequence[float]) -> str:
    return f"{float(np.median(values)):.3g}" if values else ""


def _title(study: Study) -> str:
    return f"{'PURe' if study['family'] == 'pure' else 'ResNet'}{study['depth']}"
