"""Figures of run records: curves, thresholds, product units, and what was classified wrongly."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator
from scipy import stats
from torch import Tensor

from pure.data.noise import relative_drop
from pure.records import RunRecord
from pure.report.statistics import Sample
from pure.report.style import COLOURS, ON_BOTH
from pure.report.tables import finished, grouped, network_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "confusion_figure",
    "cost_figure",
    "curves",
    "misclassified_figure",
    "noise_figure",
    "thresholds_figure",
    "units_figure",
]

_LETTER = 0.075  # inches, the width of a small letter
_FIXED = "\N{NO-BREAK SPACE}"


def curves(records: Iterable[RunRecord]) -> Figure:
    """Loss and accuracy over the epochs: the mean of a network's runs, and a band of one sample deviation around it.

    Dashed lines are the training set as it was trained on, full lines the validation set, if any was held out.  An
    epoch without a number in one of the runs has no mean.  Runs that diverged are thin lines, end in a cross and are in
    no mean.
    """
    groups = grouped(records)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for runs in groups:
        colour = COLOURS[runs[0].recipe.family]
        for axes, quantity in ((left, "loss"), (right, "accuracy")):
            for subset, line in (("train", "--"), ("validation", "-")):
                for values in (_course(run, subset, quantity) for run in runs if run.divergence is not None):
                    epochs = range(1, len(values) + 1)
                    axes.plot(epochs, values, line, color=colour, alpha=0.4, linewidth=0.8)
                    axes.plot(epochs[-1:], values[-1:], "x", color=colour)
                courses = [values for run in finished(runs) if (values := _course(run, subset, quantity))]
                if courses:
                    label = f"{network_title(runs[0])}, {'training' if subset == 'train' else subset}"
                    _mean_and_band(axes, courses, color=colour, linestyle=line, label=label)
    left.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")  # last: seaborn averages as the axis scales
    right.set(xlabel="epoch", ylabel="accuracy (%)")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if right.get_legend_handles_labels()[1]:
        right.legend(loc="lower right")
    return figure


def _mean_and_band(axes: Axes, courses: Sequence[Sequence[float]], **look: Any) -> None:
    """Draw the mean of several courses, and one sample deviation around it, where all of them have a number."""
    epochs = [epoch for epoch, values in enumerate(zip_longest(*courses), 1) if all(map(_is_number, values))]
    if not epochs:
        axes.plot([], [], **look)  # its name in the legend all the same
        return
    frame = pd.DataFrame(
        [(epoch, values[epoch - 1]) for values in courses for epoch in epochs], columns=["epoch", "value"]
    )
    band = "sd" if len(courses) > 1 else None
    sns.lineplot(frame, x="epoch", y="value", errorbar=band, ax=axes, linewidth=1.8, legend=False, **look)


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def thresholds_figure(records: Iterable[RunRecord]) -> Figure:
    """The thresholds of all product units at the end of the training, in the network's order; a line for each run."""
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    runs = [run for run in records if run.thresholds]
    for run in runs:
        # one threshold for each channel is drawn as their mean
        values = [np.mean(value) for value in run.thresholds.values()]
        axes.plot(range(len(values)), values, "o-", label=f"{network_title(run)}, seed {run.seed}", alpha=0.8)
    if runs:
        names = max((list(run.thresholds) for run in runs), key=len)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        if all(run.model.options.get("threshold", "softplus") == "softplus" for run in runs):
            axes.axhline(math.log(2), color="0.5", linestyle=":", label="at the start: ln 2")
        axes.legend(loc="best", fontsize="small")
    else:
        axes.text(0.5, 0.5, "no product units in this network", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
    axes.set_ylabel("threshold $\\tau$")
    return figure


def units_figure(record: RunRecord) -> Figure:
    """The product units of a run: thresholds over the epochs; share of inputs at the threshold, range of the exponent.

    The second and the third are of the last epoch, unit by unit in the network's order.  Thresholds of channels are
    drawn as their mean.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    observed = [(number, epoch.units) for number, epoch in enumerate(record.epochs, 1) if epoch.units]
    if not observed:
        for axes in (left, middle, right):
            axes.set_axis_off()
        left.text(0, 0.5, "no product units were observed in this run", va="center", transform=left.transAxes)
        return figure
    last = observed[-1][1]
    places = range(len(last))
    for place, name in enumerate(last):
        course = [(number, float(np.mean(units[name].threshold))) for number, units in observed if name in units]
        colour = plt.get_cmap("viridis")(0.9 * place / max(1, len(last) - 1))
        # of a deep network, only the two ends are named
        label = name if len(last) <= 10 or place in (0, len(last) - 1) else None
        left.plot(*zip(*course, strict=True), color=colour, label=label)
    left.set(xlabel="epoch", ylabel="threshold $\\tau$")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(fontsize="x-small")
    middle.plot(places, [100 * unit.clamped for unit in last.values()], "o-", color=COLOURS["pure"])
    middle.set(ylabel="inputs at the threshold (%)", ylim=(0, 100))
    low, high = zip(*(unit.exponent for unit in last.values()), strict=True)
    right.vlines(places, low, high, color=COLOURS["pure"], linewidth=3)
    right.axhline(math.log(65504), color=COLOURS["neutral"], linestyle=":", label="float16 overflows above")
    right.set(ylabel="exponent: lowest to highest")
    right.legend(fontsize="x-small")
    for axes in (middle, right):
        if len(last) <= 20:
            axes.set_xticks(places, list(last), rotation=90, fontsize="x-small")
        else:
            axes.set_xlabel("product unit, in the network's order")
    return figure


def confusion_figure(record: RunRecord) -> Figure:
    """Test images by true and predicted class; errors stand out, the diagonal is grey.

    Raises:
        ValueError: the record holds no counts, because the run diverged or has too many classes.
    """
    if record.test is None or record.test.confusion is None:
        why = "it diverged" if record.test is None else f"it has {len(record.data.classes)} classes"
        raise ValueError(f"no confusion matrix in the record of {network_title(record)}, seed {record.seed}: {why}")
    counts = np.array(record.test.confusion)
    classes = record.data.classes
    errors = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    longest = max(map(len, classes))
    edge = 0.9 + 0.42 * len(classes) + _LETTER * longest
    figure, axes = plt.subplots(figsize=(edge, edge), layout="constrained")
    sns.heatmap(
        errors,
        vmin=0,
        vmax=max(3, errors.max()),
        cmap="Reds",
        cbar=False,
        square=True,
        annot=np.where(counts > 0, counts.astype(str), ""),
        fmt="",
        annot_kws={"fontsize": "small"},
        xticklabels=classes,
        yticklabels=classes,
        ax=axes,
    )
    for text in axes.texts:
        column, row = (int(place) for place in text.get_position())
        if row == column:
            text.set_color("0.55")
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)
    if longest > 4:  # wider than a cell
        axes.set_xticks(axes.get_xticks(), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def misclassified_figure(
    images: Tensor | Sequence[Tensor], labels: Tensor, logits: Tensor, classes: Sequence[str], most: int = 16
) -> Figure:
    """The test images that were classified wrongly, the surest errors first.

    Args:
        images: shape ``(N, C, H, W)``, uint8, or as many of ``(C, H, W)``, whose sizes may differ.
        labels: true classes, shape ``(N,)``.
        logits: shape ``(N, classes)``.
        classes: their names.
        most: how many to show at most.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    wrong = (predicted != labels).nonzero().flatten()
    wrong = wrong[confidence[wrong].argsort(descending=True)][:most]
    columns = 8 if max(map(len, classes)) <= 8 else 4
    across = int(9 / columns / _LETTER)  # letters above an image
    titles = [
        f"{_wrapped(f'{classes[int(predicted[index])]} ({100 * confidence[index]:.0f}{_FIXED}%)', across)}\n"
        f"{_wrapped(f'is {classes[int(labels[index])]}', across)}"
        for index in wrong.tolist()
    ]
    lines = max([title.count("\n") + 1 for title in titles] or [2])
    rows = max(1, -(-len(wrong) // columns))
    height = rows * (9 / columns + 0.05 + 0.15 * lines)
    figure, grid = plt.subplots(rows, columns, figsize=(9, height), layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, index, title in zip(grid.flat, wrong.tolist(), titles, strict=False):
        _show(axes, images[index])
        axes.set_title(title, fontsize="small", loc="center", color=ON_BOTH)
    if not len(wrong):
        words = "none: every test image was classified rightly"
        grid.flat[0].text(0, 0.5, words, va="center", color=ON_BOTH)
    return figure


def _wrapped(text: str, width: int) -> str:
    """Lines of at most ``width`` letters; a number stays with its unit."""
    return textwrap.fill(text, width).replace(_FIXED, " ")


def _course(run: RunRecord, subset: str, quantity: str) -> list[float]:
    """A measured quantity by epoch, accuracies in percent; nothing where the subset was not measured."""
    scores = [getattr(epoch, subset) for epoch in run.epochs]
    factor = 100 if quantity == "accuracy" else 1
    return [factor * getattr(score, quantity) for score in scores if score is not None]


def _show(axes: Axes, image: Tensor) -> None:
    """Draw one image ``(C, H, W)``; one channel in grey, darkest to brightest."""
    pixels = image.movedim(0, -1).numpy()  # (H, W, C)
    axes.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray_r", interpolation="nearest")


def cost_figure(records: Iterable[RunRecord]) -> Figure:
    """Test accuracy against parameters, and against the time of the training: a point for each network.

    Points are means over the seeds, bars one sample deviation; the times are medians.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
    for runs in grouped(records):
        ended = finished(runs)
        tests = [100 * run.test.accuracy for run in ended if run.test is not None]
        if not tests:
            continue
        sample = Sample.of(tests)
        hours = float(np.median([run.times.train_s for run in ended])) / 3600
        look: dict[str, Any] = {"color": COLOURS[runs[0].recipe.family], "fmt": "o", "capsize": 2}
        for axes, place in ((left, runs[0].model.parameters / 1e6), (right, hours)):
            axes.errorbar([place], [sample.mean], yerr=sample.deviation or 0.0, **look)
            # PURe's name above its point and a ResNet's below: networks of one depth have nearly the same parameters
            beside = (4, 4 if runs[0].recipe.family == "pure" else -10)
            axes.annotate(
                network_title(runs[0]), (place, sample.mean), beside, textcoords="offset points", fontsize="x-small"
            )
    left.set(xlabel="parameters (millions)", ylabel="test accuracy (%)")
    right.set(xlabel="training time (hours)")
    for axes in (left, right):
        axes.margins(x=0.35, y=0.2)
    return figure


def noise_figure(records: Iterable[RunRecord]) -> Figure:
    """The relative drop (eq. 6) over the scale of the Poisson noise: mean over the seeds, and its 95 % interval.

    The smaller the scale, the fewer photons, the stronger the noise.
    """
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for runs in grouped(records):
        drops: dict[float, list[float]] = {}
        for run in finished(runs):
            for noisy in (run.noisy, *run.noise_curve):
                if run.test is not None and noisy is not None and noisy.noise_scale is not None:
                    drops.setdefault(noisy.noise_scale, []).append(relative_drop(run.test.accuracy, noisy.accuracy))
        if not drops:
            continue
        scales = sorted(drops)
        samples = [Sample.of(drops[scale]) for scale in scales]
        halves = [
            float(stats.t.ppf(0.975, each.n - 1)) * each.deviation / math.sqrt(each.n) if each.deviation else 0.0
            for each in samples
        ]
        line = "-" if runs[0].model.name.endswith("18") else "--"
        colour = COLOURS[runs[0].recipe.family]
        means = [each.mean for each in samples]
        axes.errorbar(scales, means, yerr=halves, fmt=f"o{line}", color=colour, capsize=2, label=network_title(runs[0]))
    axes.set(xlabel="scale of the noise (photons a grey level)", ylabel="relative drop (%)", xscale="log")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best")
    return figure
