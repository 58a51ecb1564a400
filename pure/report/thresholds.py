"""What a threshold does while a network trains, from records: where it goes, what lies on it, what it is worth."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from pure.records import RunRecord
from pure.report.statistics import Effect, Sample, paired_difference
from pure.report.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "choices",
    "choices_figure",
    "choices_table",
    "courses",
    "movement_figure",
    "state_table",
    "theta_left",
]

OPTIONS = ("threshold", "granularity", "theta_init")
"""The network's options that say what a threshold is; ``decay_theta`` of the recipe is the fourth."""

PAPER = "softplus"


def choices(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Runs of one network and recipe that differ in their thresholds alone, by what was chosen.

    The paper's choice comes first, as ``"softplus"``; others are called as they are set, ``"exp"``, ``"fixed at 2"``,
    ``"softplus, per channel"``, ``"softplus, theta from -2"``, ``"softplus, theta without decay"``.  Runs with another
    option of the network or another override of the recipe are left out, and so are networks without product units.

    Raises:
        ValueError: the runs are of several networks or recipes.
    """
    found: dict[str, list[RunRecord]] = {}
    for run in records:
        others = run.model.options.keys() - {*OPTIONS} or {*run.overrides} - {"decay_theta"}
        if run.recipe.family == "pure" and not others:
            found.setdefault(_choice(run), []).append(run)
    of = {(run.recipe.name, run.model.name) for runs in found.values() for run in runs}
    if len(of) > 1:
        raise ValueError(f"expected the runs of one network and one recipe, got {sorted(of)}; select one of them")
    return dict(sorted(found.items(), key=lambda item: (item[0] != PAPER, item[0])))


def _choice(run: RunRecord) -> str:
    options = run.model.options
    threshold = options.get("threshold", PAPER)
    name = threshold if isinstance(threshold, str) else f"fixed at {threshold:.3g}"
    name += ", per channel" if options.get("granularity") == "channel" else ""
    name += f", theta from {options['theta_init']:.3g}" if options.get("theta_init") else ""
    return name + ("" if run.recipe.decay_theta else ", theta without decay")


def choices_table(found: dict[str, list[RunRecord]]) -> pd.DataFrame:
    """What each choice of :func:`choices` was worth: a row each, formatted text.

    Columns: test accuracy in percent; its difference to the first choice over the seeds that both have, in points, with
    Student's interval for pairs at 95 %; the smallest true difference that so many pairs find in four of five cases;
    the median number of epochs to 90 % of the training images; the validations with an absurd loss, of all; the number
    of runs and of those that diverged, which no mean includes.
    """
    reference = next(iter(found.values()), [])
    rows = []
    for name, runs in found.items():
        tested = [run for run in runs if run.test is not None]
        effect = difference_to(reference, runs) if runs is not reference else None
        validations = [epoch for run in runs for epoch in run.epochs if epoch.validation is not None]
        rows.append(
            {
                "Threshold": name,
                "Test accuracy (%)": str(Sample.of(_accuracies(tested))) if tested else "none",
                "Difference (points)": f"{effect.mean:+.2f}" if effect else "",
                "95 % interval": f"{effect.low:+.2f} to {effect.high:+.2f}" if effect else "",
                "Detectable": f"{effect.detectable:.2f}" if effect and np.isfinite(effect.detectable) else "",
                "Epochs to 90 %": _epochs_to(tested, 0.9),
                "Absurd validations": f"{sum(epoch.reestimated is not None for epoch in validations)} of "
                f"{len(validations)}",
                "Runs": str(len(runs)),
                "Diverged": str(len(runs) - len(tested)),
            }
        )
    return pd.DataFrame(rows)


def difference_to(reference: Sequence[RunRecord], runs: Sequence[RunRecord]) -> Effect | None:
    """Mean difference of the test accuracies in points, over the seeds that both sides finished; None below two."""
    theirs = {run.seed: run.test.accuracy for run in reference if run.test is not None}
    ours = {run.seed: run.test.accuracy for run in runs if run.test is not None}
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < 2:
        return None
    return paired_difference([100 * ours[seed] for seed in seeds], [100 * theirs[seed] for seed in seeds])


def _accuracies(runs: Iterable[RunRecord]) -> list[float]:
    return [100 * run.test.accuracy for run in runs if run.test is not None]


def _epochs_to(runs: Sequence[RunRecord], accuracy: float) -> str:
    """Median over the runs of the first epoch whose training images reach this accuracy."""
    first = [next((n for n, e in enumerate(run.epochs, 1) if e.train.accuracy >= accuracy), None) for run in runs]
    reached = [number for number in first if number is not None]
    if not reached:
        return "never"
    return f"{np.median(reached):g}" + (f" ({len(reached)} of {len(runs)})" if len(reached) < len(runs) else "")


def choices_figure(found: dict[str, list[RunRecord]]) -> Figure:
    """Left the test accuracy of every run, each choice a row; right the difference to the first, with its interval."""
    reference = next(iter(found.values()), [])
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 0.9 + 0.32 * max(1, len(found))), sharey=True)
    for place, runs in enumerate(found.values()):
        values = _accuracies(runs)
        # a little apart: equal accuracies are frequent with few test images
        lifts = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else [0.0]
        left.plot(values, place + np.asarray(lifts), "o", color=COLOURS["pure"], alpha=0.6, markeredgewidth=0)
        if values:
            left.plot(Sample.of(values).mean, place, "|", color="black", markersize=14, markeredgewidth=1.6)
        effect = difference_to(reference, runs) if runs is not reference else None
        if effect is not None:
            right.hlines(place, effect.low, effect.high, color=COLOURS["pure"], linewidth=3, alpha=0.6)
            right.plot(effect.mean, place, "|", color="black", markersize=9, markeredgewidth=1.6)
    right.axvline(0, color=COLOURS["neutral"], linewidth=1, zorder=0)
    left.set_yticks(range(len(found)), [name.replace("theta", "$\\theta$") for name in found])
    left.set_ylim(len(found) - 0.5, -0.5)
    left.set_xlabel("test accuracy (%), each seed")
    right.set_xlabel("difference to softplus (points)")
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
    return figure


def courses(records: Iterable[RunRecord]) -> pd.DataFrame:
    """The observed units of some runs, epoch by epoch.

    Returns:
        Columns ``seed``, ``epoch`` (from 1), ``unit`` (its name), ``place`` (from 0, in the network's order),
        ``threshold`` (the mean, where a unit has several), ``clamped`` (share of its inputs at the threshold),
        ``low`` and ``high`` (of the exponent of its products).
    """
    rows = [
        (run.seed, epoch, name, place, float(np.mean(unit.threshold)), unit.clamped, *unit.exponent)
        for run in records
        for epoch, observed in enumerate(run.epochs, 1)
        for place, (name, unit) in enumerate(observed.units.items())
    ]
    return pd.DataFrame(rows, columns=["seed", "epoch", "unit", "place", "threshold", "clamped", "low", "high"])


def movement_figure(records: Iterable[RunRecord]) -> Figure:
    """Thresholds (left) and the share of inputs on them (right) over the epochs, a line for each unit, mean over seeds.

    The band is from the lowest to the highest seed.  Dark units are near the image, light ones near the classes.

    Raises:
        ValueError: no unit was observed in these runs.
    """
    table = courses(records)
    if table.empty:
        raise ValueError("no product unit was observed in these runs; expected records of a PURe")
    table["clamped"] *= 100
    figure, panels = plt.subplots(1, 2, figsize=(7, 3.0))
    units = table.drop_duplicates("unit").sort_values("place")["unit"].tolist()
    labels = {"threshold": "threshold $\\tau$", "clamped": "inputs at the threshold (%)"}
    for axes, (quantity, label) in zip(panels, labels.items(), strict=True):
        for place, unit in enumerate(units):
            course = table[table["unit"] == unit].groupby("epoch")[quantity].agg(["mean", "min", "max"])
            colour = plt.get_cmap("viridis")(0.9 * place / max(1, len(units) - 1))
            axes.plot(course.index, course["mean"], color=colour, label=unit if len(units) <= 10 else None)
            axes.fill_between(course.index, course["min"], course["max"], color=colour, alpha=0.06, linewidth=0)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=7)
    return figure


def state_table(found: dict[str, list[RunRecord]]) -> pd.DataFrame:
    """The thresholds and what lies on them after the last epoch, over all units and seeds of each choice.

    Columns: lowest, median and highest threshold (of channels, their mean); median, lowest and highest share of inputs
    at the threshold, in percent; the share of a standard normal variable below the median threshold; the largest
    magnitude of a product's exponent.  Formatted text.
    """
    rows = []
    for name, runs in found.items():
        table = courses([run for run in runs if run.divergence is None])
        if table.empty:
            continue
        last = table[table["epoch"] == table["epoch"].max()]
        share = 100 * last["clamped"]
        rows.append(
            {
                "Threshold": name,
                "Lowest": f"{last['threshold'].min():.3g}",
                "Median": f"{last['threshold'].median():.3g}",
                "Highest": f"{last['threshold'].max():.3g}",
                "On it (%)": f"{share.median():.0f} ({share.min():.0f} to {share.max():.0f})",
                "Normal law (%)": f"{100 * statistics.NormalDist().cdf(last['threshold'].median()):.0f}",
                "Largest exponent": f"{last[['low', 'high']].abs().max(axis=None):.1f}",
            }
        )
    return pd.DataFrame(rows)


def theta_left(rates: Sequence[float], steps: int, weight_decay: float, momentum: float = 0.9) -> float:
    """What weight decay alone leaves of a ``theta``, as a share: the loss gives no gradient.

    SGD's own recurrence ``v = momentum v + weight_decay theta``, ``theta = theta - lr v``, started at rest.

    Args:
        rates: learning rate of each epoch.
        steps: in an epoch.
        weight_decay: L2 penalty.
        momentum: of SGD.
    """
    theta, velocity = 1.0, 0.0
    for rate in itertools.chain.from_iterable(itertools.repeat(rate, steps) for rate in rates):
        velocity = momentum * velocity + weight_decay * theta
        theta -= rate * velocity
    return theta
