"""From run records to tables and figures: no number of the book or the README comes from anywhere else.

``python -m pure.report README.md results`` renews the table between the README's markers from the committed records.
"""

from __future__ import annotations

from pure.extras import require_extra

require_extra("report", "making tables and figures of records", "matplotlib", "pandas", "scipy", "seaborn", "yaml")

import math
import re
import statistics
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator
from scipy import stats
from torch import Tensor

from pure.data.noise import relative_drop
from pure.recipes import Recipe, get_recipe, list_recipes, sources
from pure.records import Evaluation, RunRecord
from pure.report.networks import (
    architecture_table as architecture_table,  # tables over networks, not over records
)
from pure.report.networks import blocks_table as blocks_table
from pure.report.networks import costs_table as costs_table
from pure.report.networks import display_name, shortcut_of
from pure.report.networks import parameters_table as parameters_table
from pure.report.style import COLOURS, ON_BOTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Difference",
    "Sample",
    "accuracy_table",
    "confusion_figure",
    "curves",
    "difference",
    "difference_table",
    "hardware",
    "markdown",
    "misclassified_figure",
    "noise_table",
    "protocols_table",
    "recipe_table",
    "renew_table",
    "runs_table",
    "thresholds_figure",
    "times_table",
    "units_figure",
]

_LETTER = 0.075  # inches, the width of a small letter
_FIXED = "\N{NO-BREAK SPACE}"
BEGIN, END = "<!-- table from the records: begin -->", "<!-- table from the records: end -->"


@dataclass(frozen=True)
class Sample:
    """What several runs gave.

    Attributes:
        values: one for each run, at least one.
    """

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Sample:
        """The sample of some values.

        Raises:
            ValueError: there are none.
        """
        numbers = tuple(values)
        if not numbers:
            raise ValueError("no values: a sample has at least one")
        return cls(numbers)

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)  # exact, so that equal values have no deviation at all

    @property
    def deviation(self) -> float | None:
        """Their sample deviation, with ``n - 1`` in the denominator; None for one run."""
        return statistics.stdev(self.values) if self.n > 1 else None

    def __str__(self) -> str:
        """``91.25 ± 0.30``."""
        return f"{self.mean:.2f}" + (f" ± {self.deviation:.2f}" if self.deviation is not None else "")


@dataclass(frozen=True)
class Difference:
    """Difference of two means, and Welch's interval for it, which does not take the deviations to be equal.

    Attributes:
        mean: first mean less the second.
        low: lower end of the interval.
        high: upper end.
    """

    mean: float
    low: float
    high: float


def difference(ours: Sample, theirs: Sample, confidence: float = 0.95) -> Difference:
    """How far one sample's mean is ahead of another's; the interval is a point where neither side scatters.

    Raises:
        ValueError: a sample of one run has no deviation.
    """
    if ours.deviation is None or theirs.deviation is None:
        raise ValueError(f"expected two runs or more on each side, got {ours.n} and {theirs.n}")
    mean = ours.mean - theirs.mean
    if ours.deviation == theirs.deviation == 0:
        return Difference(mean, mean, mean)
    with warnings.catch_warnings():  # SciPy warns where one side does not scatter, as few test images make likely
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        welch = stats.ttest_ind(ours.values, theirs.values, equal_var=False)
    interval = welch.confidence_interval(confidence)
    return Difference(mean, float(interval.low), float(interval.high))


def accuracy_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """What each network reached: one row for each recipe and network, over all its seeds.

    Columns: recipe (with what was overridden, and the data where they are not the recipe's own), network (with its
    options), parameters, test accuracy in percent by the recipe's first protocol (mean, and sample deviation where
    there are two runs or more), number of runs that were tested, number of test images, median training time in
    seconds.  Where they have a meaning: top-5 accuracy; protocol; accuracy with re-estimated statistics of batch
    normalisation, in place of what was measured where the loss was absurd, with the number of such runs; number of
    runs that diverged, which no mean includes.  Everything is formatted text, ready to print.
    """
    rows = []
    for runs in _groups(records):
        tests = _tests(runs)
        rows.append(
            {
                **_heading(runs[0]),
                "Parameters": f"{runs[0].model.parameters:,}",
                "Test accuracy (%)": _percent(test.accuracy for test in tests) or "none",
                "Top-5 (%)": _percent(_top5(runs[0], tests)),
                "Re-estimated (%)": _reestimated(tests),
                "Protocol": "" if runs[0].recipe.protocols[0] == "whole" else runs[0].recipe.protocols[0],
                "Runs": str(len(tests)),
                "Diverged": str(len(runs) - len(tests)),
                "Test images": f"{runs[0].data.test:,}",
                "Training time (s)": f"{np.median([run.times.train_s for run in _finished(runs) or runs]):.1f}",
            }
        )
    return _table(rows)


def difference_table(records: Iterable[RunRecord], equal_shortcuts: bool = False) -> pd.DataFrame:
    """How far PURe is ahead of the ResNet of the same depth, under one recipe and on the same data.

    One row for each pair ``pureN`` and ``resnetN``, with whatever options, with two tested runs or more each.  The
    column *Shortcuts* names those of a pair that has not the same kind; ``equal_shortcuts`` leaves such pairs out.  The
    interval is Welch's, for the difference of the mean test accuracies, at 95 %; it covers the seeds' scatter, not that
    of the test images, and knows nothing of runs that diverged: where there are any, they are counted.  Everything is
    formatted text.
    """
    groups = [runs for runs in _groups(records) if len(_tests(runs)) > 1]
    pairs = [
        (runs, baseline)
        for runs in groups
        for baseline in groups
        if runs[0].model.name.startswith("pure")
        and baseline[0].model.name == runs[0].model.name.replace("pure", "resnet", 1)
        and _recipe_title(baseline[0]) == _recipe_title(runs[0])
        and baseline[0].data.fingerprint == runs[0].data.fingerprint
    ]
    rows = []
    for pair in pairs:
        shortcuts = [shortcut_of(runs[0].model.name, **runs[0].model.options) for runs in pair]
        if equal_shortcuts and shortcuts[0] != shortcuts[1]:
            continue
        ours, theirs = (Sample.of(100 * test.accuracy for test in _tests(runs)) for runs in pair)
        found = difference(ours, theirs)
        diverged = [len(runs) - len(_tests(runs)) for runs in pair]
        rows.append(
            {
                "Recipe": _recipe_title(pair[0][0]),
                "Compared": " against ".join(_title(runs[0]) for runs in pair),
                "Shortcuts": " and ".join(shortcuts) if shortcuts[0] != shortcuts[1] else "",
                "Difference (points)": f"{found.mean:+.2f}",
                "95 % interval": f"{found.low:+.2f} to {found.high:+.2f}",
                "Runs": f"{ours.n} and {theirs.n}",
                "Diverged": "{} and {}".format(*diverged) if any(diverged) else "",
                "Verdict": (
                    "undecided" if found.low <= 0 <= found.high else "PURe better" if found.low > 0 else "ResNet better"
                ),
            }
        )
    return _table(rows)


def noise_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Test accuracy without and with Poisson noise, and the relative drop (section 4.1.2).

    The drop is eq. (6), of the means over the runs and not the mean of their drops.  One row for each recipe and
    network with noisy tests; formatted text.
    """
    rows = []
    for runs in _groups(records):
        pairs = [(run.test, run.noisy) for run in runs if run.test is not None and run.noisy is not None]
        if pairs:
            clean, noisy = (Sample.of(100 * test.accuracy for test in tests) for tests in zip(*pairs, strict=True))
            rows.append(
                {
                    **_heading(runs[0]),
                    "Test accuracy (%)": str(clean),
                    "With noise (%)": str(noisy),
                    "Relative drop (%)": f"{relative_drop(clean.mean, noisy.mean):.2f}",
                    "Runs": str(clean.n),
                    "Diverged": str(len(runs) - len(_tests(runs))),
                }
            )
    return _table(rows)


def protocols_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Test accuracy by every protocol, in percent: top-1 and, where it has a meaning, top-5.

    One row for each recipe and network that was tested by several; formatted text.
    """
    rows = []
    for runs in _groups(records):
        tests = [test for run in runs if run.test is not None and run.protocols for test in (run.test, *run.protocols)]
        if tests:
            row = _heading(runs[0])
            for protocol in dict.fromkeys(test.protocol for test in tests):
                chosen = [test for test in tests if test.protocol == protocol]
                row[f"{protocol}, top-1 (%)"] = _percent(test.accuracy for test in chosen)
                row[f"{protocol}, top-5 (%)"] = _percent(_top5(runs[0], chosen))
            rows.append({**row, "Runs": str(len(_tests(runs)))})
    return _table(rows)


def times_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """How long the trainings took, in seconds: medians over the runs that were tested.

    Columns: training time until the validation accuracy was first 80 %, with the share of runs that reached it where
    not all did; until it was first at its best; training alone; all of it, evaluation included.  The first two are
    empty where nothing was held out.  Images a second and memory, in MiB, where the records have them.
    """
    rows = []
    for runs in _groups(records):
        finished = _finished(runs)
        if not finished:
            continue
        held_out = any(epoch.validation for run in finished for epoch in run.epochs)
        resources = [run.resources for run in finished if run.resources is not None]
        rows.append(
            {
                **_heading(runs[0]),
                "To 80 % (s)": _reached([run.time_to_accuracy() for run in finished]) if held_out else "",
                "To the best (s)": _reached([run.time_to_best() for run in finished]) if held_out else "",
                "Training (s)": _reached([run.times.train_s for run in finished]),
                "With evaluation (s)": _reached([run.times.total_s for run in finished]),
                "Images per second": f"{np.median([r.throughput for r in resources]):,.0f}" if resources else "",
                "Memory (MiB)": f"{np.median([r.peak_memory for r in resources]) / 2**20:,.0f}" if resources else "",
                "Runs": str(len(finished)),
            }
        )
    return _table(rows)


def runs_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Every run in its own row: network, seed, accuracies in percent, loss, seconds, and, if it diverged, where.

    The validation accuracy is that of the selected epoch.  Formatted text.
    """
    rows = []
    for run in records:
        validation = run.epochs[run.selected - 1].validation if run.selected is not None else None
        test = run.test
        rows.append(
            {
                **_heading(run),
                "Seed": str(run.seed),
                "Validation accuracy (%)": f"{100 * validation.accuracy:.2f}" if validation is not None else "",
                "Test accuracy (%)": f"{100 * test.accuracy:.2f}" if test is not None else "",
                "Top-5 (%)": _percent(_top5(run, _tests([run]))),
                "With noise (%)": f"{100 * run.noisy.accuracy:.2f}" if run.noisy is not None else "",
                "Test loss (nats)": _loss(test.loss) if test is not None else "",
                "Re-estimated": (
                    f"{100 * test.reestimated.accuracy:.2f} %, {_loss(test.reestimated.loss)} nats"
                    if test is not None and test.reestimated is not None
                    else ""
                ),
                "Diverged": _divergence(run),
                "Epochs": str(len(run.epochs)),
                "Training time (s)": f"{run.times.train_s:.1f}",
            }
        )
    return _table(rows)


def recipe_table(name: str, networks: Sequence[str] = ("pure", "resnet")) -> pd.DataFrame:
    """The values of a recipe, side by side for several networks or families, each with its source.

    Args:
        name: one of :func:`pure.recipes.list_recipes`.
        networks: names of networks, or ``"pure"`` and ``"resnet"`` for what a family shares.

    Returns:
        Columns setting (a field of :class:`pure.recipes.Recipe`), one for each network, and source.  Settings that the
        recipe does not name have the default of the class and are left out.  Formatted text.
    """
    titles = {network: {"pure": "PURe", "resnet": "ResNet"}.get(network, display_name(network)) for network in networks}
    recipes = {network: get_recipe(name, network) for network in networks}
    told = {network: sources(name, network) for network in networks}
    rows = []
    for field in Recipe.model_fields:
        named = [network for network in networks if field in told[network]]
        if named:
            origins = {titles[network]: told[network][field] for network in named}
            one = len(set(origins.values())) == 1
            rows.append(
                {
                    "Setting": f"`{field}`",
                    **{titles[network]: _value(getattr(recipes[network], field)) for network in networks},
                    "Source": origins[titles[named[0]]] if one else "; ".join(f"{k}: {v}" for k, v in origins.items()),
                }
            )
    return pd.DataFrame(rows)


def hardware(records: Iterable[RunRecord]) -> str:
    """What the runs ran on, in one sentence."""
    return "; ".join(sorted({_machine(run) for run in records})) or "no runs"


def _machine(run: RunRecord) -> str:
    environment = run.environment
    devices = run.resources.devices if run.resources is not None else 1
    threads = f", {environment.threads} thread{'s' if environment.threads > 1 else ''}"
    return (
        (f"{devices} x " if devices > 1 else "")
        + environment.device_name
        + (threads if environment.device == "cpu" else "")
        + f", PyTorch {environment.torch}"
    )


def markdown(table: pd.DataFrame) -> str:
    """A table as GitHub's Markdown; numbers to the right."""
    if table.empty:
        return "*no records*"
    right = [column for column in table if all(map(_is_figure, table[column]))]
    lines = [
        list(table),
        ["---:" if column in right else ":---" for column in table],
        *table.to_numpy().tolist(),
    ]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _is_figure(text: str) -> bool:
    """Whether a cell is empty, none, or begins with a number."""
    return re.match(r"$|none$|(\W )?[-+]?\d", text) is not None


def curves(records: Iterable[RunRecord]) -> Figure:
    """Loss and accuracy over the epochs: the mean of a network's runs, and a band of one sample deviation around it.

    Dashed lines are the training set as it was trained on, full lines the validation set, if any was held out.  An
    epoch without a number in one of the runs has no mean.  Runs that diverged are thin lines, end in a cross and are in
    no mean.
    """
    groups = _groups(records)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for runs in groups:
        colour = COLOURS[runs[0].recipe.family]
        for axes, quantity in ((left, "loss"), (right, "accuracy")):
            for subset, line in (("train", "--"), ("validation", "-")):
                for values in (_course(run, subset, quantity) for run in runs if run.divergence is not None):
                    epochs = range(1, len(values) + 1)
                    axes.plot(epochs, values, line, color=colour, alpha=0.4, linewidth=0.8)
                    axes.plot(epochs[-1:], values[-1:], "x", color=colour)
                courses = [values for run in _finished(runs) if (values := _course(run, subset, quantity))]
                if courses:
                    label = f"{_title(runs[0])}, {'training' if subset == 'train' else subset}"
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
        axes.plot(range(len(values)), values, "o-", label=f"{_title(run)}, seed {run.seed}", alpha=0.8)
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
        raise ValueError(f"no confusion matrix in the record of {_title(record)}, seed {record.seed}: {why}")
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


def renew_table(text: str, records: Sequence[RunRecord]) -> str:
    """A document with the table between its two marker lines renewed from the records.

    Raises:
        ValueError: the document does not hold the two markers, in their order.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the lines {BEGIN!r} and {END!r} in the document; put them where the table belongs")
    fair = difference_table(records, equal_shortcuts=True)
    tables = [accuracy_table(records), difference_table(records) if fair.empty else fair]
    parts = [markdown(table) for table in tables if not table.empty] or [markdown(tables[0])]
    body = "\n\n".join([*parts, f"Mean ± sample deviation over the seeds. Hardware: {hardware(records)}."])
    return f"{head}{BEGIN}\n{body}\n{END}{tail}"


def _groups(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """The runs that differ in nothing but the seed, together.

    The titles come first, for the order.  They do not tell everything: a recipe's values change from one version of
    this package to another, and runs of both must not be averaged.
    """

    def key(run: RunRecord) -> tuple[str, ...]:
        return _recipe_title(run), _title(run), *run.experiment

    return [list(runs) for _, runs in groupby(sorted(records, key=lambda run: (*key(run), run.seed)), key)]


def _finished(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Those that did not diverge."""
    return [run for run in runs if run.divergence is None]


def _tests(runs: Iterable[RunRecord]) -> list[Evaluation]:
    return [run.test for run in runs if run.test is not None]


def _top5(run: RunRecord, tests: Iterable[Evaluation]) -> list[float]:
    """Shares of images whose class is among the five likeliest: not of ten classes, where chance alone gives half."""
    return [test.top5 for test in tests if test.top5 is not None and len(run.data.classes) > 10]


def _title(run: RunRecord) -> str:
    """``PURe20``, with its options after it."""
    options = ", ".join(f"{name}={value}" for name, value in sorted(run.model.options.items()))
    return display_name(run.model.name) + (f" ({options})" if options else "")


def _recipe_title(run: RunRecord) -> str:
    """The recipe's name, what was overridden, and the data where they are not the recipe's own."""
    recipe = run.recipe
    known = recipe.name in list_recipes()
    published = get_recipe(recipe.name, run.model.name).data_options if known else {}
    changes = {field: getattr(recipe, field) for field in run.overrides if field != "data_options"}
    if "data_options" in run.overrides:
        changes |= {name: value for name, value in recipe.data_options.items() if published.get(name) != value}
    text = ", ".join(f"{field}={value}" for field, value in changes.items())
    title = recipe.name + (f" ({text})" if text else "")
    title += f" on {run.data.name}" if run.data.name != recipe.dataset else ""
    return title + (", synthetic images" if run.data.synthetic else "")


def _heading(run: RunRecord) -> dict[str, str]:
    return {"Recipe": _recipe_title(run), "Network": _title(run)}


def _table(rows: list[dict[str, str]]) -> pd.DataFrame:
    """Rows as a table, without the columns that say nothing: empty ones, and that of no divergences."""
    table = pd.DataFrame(rows).fillna("")
    silent = [column for column in table if set(table[column]) <= ({"", "0"} if column == "Diverged" else {""})]
    return table.drop(columns=silent)


def _percent(shares: Iterable[float]) -> str:
    values = [100 * share for share in shares]
    return str(Sample.of(values)) if values else ""


def _reestimated(tests: Sequence[Evaluation]) -> str:
    """Accuracies with re-estimated statistics where the loss was absurd, as measured elsewhere."""
    absurd = sum(test.reestimated is not None for test in tests)
    text = _percent((test.reestimated or test).accuracy for test in tests)
    return f"{text} ({absurd} of {len(tests)} runs)" if absurd else ""


def _divergence(run: RunRecord) -> str:
    if run.divergence is None:
        return ""
    where = f" of {run.divergence.layer}" if run.divergence.layer is not None else ""
    return f"epoch {run.divergence.epoch}, step {run.divergence.step}: {run.divergence.quantity}{where}"


def _reached(times: Sequence[float | None]) -> str:
    """Median of the times that are not None, and their number if that is not all."""
    reached = [time for time in times if time is not None]
    if not reached:
        return "never"
    return f"{np.median(reached):.1f}" + (f" ({len(reached)} of {len(times)})" if len(reached) < len(times) else "")


def _loss(loss: float) -> str:
    """Three decimals; absurd ones by their order of magnitude."""
    return f"{loss:.3f}" if abs(loss) < 1000 else f"{loss:.2e}"


def _value(value: Any) -> str:
    """A recipe's value as a reader would write it."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={_value(each)}" for name, each in value.items()) or "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _course(run: RunRecord, subset: str, quantity: str) -> list[float]:
    """A measured quantity by epoch, accuracies in percent; nothing where the subset was not measured."""
    scores = [getattr(epoch, subset) for epoch in run.epochs]
    factor = 100 if quantity == "accuracy" else 1
    return [factor * getattr(score, quantity) for score in scores if score is not None]


def _show(axes: Axes, image: Tensor) -> None:
    """Draw one image ``(C, H, W)``; one channel in grey, darkest to brightest."""
    pixels = image.movedim(0, -1).numpy()  # (H, W, C)
    axes.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray_r", interpolation="nearest")
