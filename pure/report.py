"""From run records to tables and figures: no number of the book or the README comes from anywhere else.

``python -m pure.report README.md results`` renews the table between the README's markers from the committed records.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats
from torch import Tensor

from pure.records import RunRecord, load_all, write_atomically
from pure.style import COLOURS
from pure.summary import architecture_table as architecture_table  # tables over networks, beside those over records
from pure.summary import blocks_table as blocks_table
from pure.summary import costs_table as costs_table
from pure.summary import display_name
from pure.summary import parameters_table as parameters_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "accuracy_table",
    "confusion_figure",
    "curves",
    "difference_table",
    "hardware",
    "main",
    "markdown",
    "misclassified_figure",
    "renew_table",
    "runs_table",
    "thresholds_figure",
]

BEGIN, END = "<!-- table from the records: begin -->", "<!-- table from the records: end -->"


def accuracy_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """What each network reached: one row for each recipe and network, over all its seeds.

    Columns: recipe (with what was overridden), network (with its options), parameters, test accuracy in percent (mean,
    and sample deviation where there are two runs or more), number of runs, number of test images, median training time
    in seconds.  Everything is formatted text, ready to print.
    """
    rows = []
    for runs in _groups(records):
        accuracy = np.array([100 * run.test.accuracy for run in runs])
        rows.append(
            {
                "Recipe": _recipe_title(runs[0]),
                "Network": _title(runs[0]),
                "Parameters": f"{runs[0].model.parameters:,}",
                "Test accuracy (%)": _mean_and_deviation(accuracy),
                "Runs": str(len(runs)),
                "Test images": f"{runs[0].data.test:,}",
                "Training time (s)": f"{np.median([run.times.train_s for run in runs]):.1f}",
            }
        )
    return pd.DataFrame(rows)


def difference_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """How far PURe is ahead of the ResNet of the same depth, under one recipe.

    One row for each pair ``pureN`` and ``resnetN`` with two runs or more each.  The interval is Welch's, for the
    difference of the mean test accuracies, at 95 %; it covers the seeds' scatter, not that of the test images.
    Everything is formatted text.
    """
    groups = [(_recipe_title(runs[0]), _title(runs[0]), runs) for runs in _groups(records) if len(runs) > 1]
    pairs = [
        (recipe, network, runs, baseline)
        for recipe, network, runs in groups
        for other_recipe, other, baseline in groups
        if network.startswith("PURe") and (other_recipe, other) == (recipe, network.replace("PURe", "ResNet"))
    ]
    rows = []
    for recipe, network, runs, baseline in pairs:
        ours, theirs = ([100 * run.test.accuracy for run in group] for group in (runs, baseline))
        low, high = _welch_interval(ours, theirs)
        rows.append(
            {
                "Recipe": recipe,
                "Compared": f"{network} against {_title(baseline[0])}",
                "Difference (points)": f"{np.mean(ours) - np.mean(theirs):+.2f}",
                "95 % interval": f"{low:+.2f} to {high:+.2f}",
                "Runs": f"{len(ours)} and {len(theirs)}",
                "Verdict": "undecided" if low <= 0 <= high else ("PURe better" if low > 0 else "ResNet better"),
            }
        )
    return pd.DataFrame(rows)


def runs_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Every run on a row of its own: network, seed, accuracies in percent, loss, seconds.  Formatted text."""
    rows = [
        {
            "Recipe": _recipe_title(run),
            "Network": _title(run),
            "Seed": str(run.seed),
            "Validation accuracy (%)": f"{100 * run.epochs[run.test.epoch - 1].validation_accuracy:.2f}",
            "Test accuracy (%)": f"{100 * run.test.accuracy:.2f}",
            "Test loss (nats)": f"{run.test.loss:.3f}",
            "Epochs": str(len(run.epochs)),
            "Training time (s)": f"{run.times.train_s:.1f}",
        }
        for run in records
    ]
    return pd.DataFrame(rows)


def hardware(records: Iterable[RunRecord]) -> str:
    """What the runs ran on, in one sentence."""
    places = {
        f"{run.environment.device_name}"
        + (
            f", {run.environment.threads} thread{'s' if run.environment.threads > 1 else ''}"
            if run.environment.device == "cpu"
            else ""
        )
        + f", PyTorch {run.environment.torch}"
        for run in records
    }
    return "; ".join(sorted(places)) or "no runs"


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
    """Whether a cell is empty or begins with a number."""
    return re.match(r"$|(\W )?[-+]?\d", text) is not None


def curves(records: Iterable[RunRecord]) -> Figure:
    """Loss and accuracy over the epochs: a thin line for each run, a thick one for the mean of a network's runs.

    Dashed lines are the training set as it was trained on, full lines the validation set.
    """
    groups = _groups(records)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for runs in groups:
        colour = COLOURS[runs[0].recipe.family]
        for axes, quantity in ((left, "loss"), (right, "accuracy")):
            for subset, line in (("train", "--"), ("validation", "-")):
                values = _by_epoch(runs, f"{subset}_{quantity}")  # (runs, epochs)
                values = 100 * values if quantity == "accuracy" else values
                epochs = np.arange(1, values.shape[1] + 1)
                if len(runs) > 1:
                    axes.plot(epochs, values.T, line, color=colour, alpha=0.25, linewidth=0.8)
                label = f"{_title(runs[0])}, {'training' if subset == 'train' else subset}"
                axes.plot(epochs, values.mean(axis=0), line, color=colour, linewidth=1.8, label=label)
    left.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    right.set(xlabel="epoch", ylabel="accuracy (%)")
    if groups:
        right.legend(loc="lower right")
    return figure


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


def confusion_figure(record: RunRecord) -> Figure:
    """Test images by true and predicted class; errors stand out, the diagonal is grey."""
    counts = np.array(record.test.confusion)
    classes = record.data.classes
    figure, axes = plt.subplots(figsize=(1.6 + 0.42 * len(classes),) * 2, layout="constrained")
    errors = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    darkest = max(3, errors.max())
    axes.imshow(errors, cmap="Reds", vmin=0, vmax=darkest)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "0.55" if row == column else ("white" if count > 0.6 * darkest else "black")
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize="small")
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(False)
    return figure


def misclassified_figure(
    images: Tensor, labels: Tensor, logits: Tensor, classes: Sequence[str], most: int = 16
) -> Figure:
    """The test images that were classified wrongly, the surest errors first.

    Args:
        images: shape ``(N, C, H, W)``, uint8.
        labels: true classes, shape ``(N,)``.
        logits: shape ``(N, classes)``.
        classes: their names.
        most: how many to show at most.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    wrong = (predicted != labels).nonzero().flatten()
    wrong = wrong[confidence[wrong].argsort(descending=True)][:most]
    columns = 8
    rows = max(1, -(-len(wrong) // columns))
    figure, grid = plt.subplots(rows, columns, figsize=(9, 1.5 * rows), layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, index in zip(grid.flat, wrong.tolist(), strict=False):
        _show(axes, images[index])
        sure = f"{100 * confidence[index]:.0f} %"
        title = f"{classes[int(predicted[index])]} ({sure})\nis {classes[int(labels[index])]}"
        axes.set_title(title, fontsize="small")
    if not len(wrong):
        grid.flat[0].text(0, 0.5, "none: every test image was classified rightly", va="center")
    return figure


def renew_table(text: str, records: Sequence[RunRecord]) -> str:
    """A document with the table between its two marker lines renewed from the records.

    Raises:
        ValueError: the document does not hold the two markers, in their order.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the lines {BEGIN!r} and {END!r} in the document; put them where the table belongs")
    tables = [accuracy_table(records), difference_table(records)]
    parts = [markdown(table) for table in tables if not table.empty] or [markdown(tables[0])]
    body = "\n\n".join([*parts, f"Mean ± sample deviation over the seeds. Hardware: {hardware(records)}."])
    return f"{head}{BEGIN}\n{body}\n{END}{tail}"


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m pure.report DOCUMENT ROOT ...``: see ``--help``.  Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pure.report", description="Renew the table between a document's markers from run records."
    )
    parser.add_argument("document", type=Path, help="a Markdown file with the two marker lines")
    parser.add_argument("roots", type=Path, nargs="+", help="folders with records")
    options = parser.parse_args(arguments)
    try:
        text = renew_table(options.document.read_text(encoding="utf-8"), load_all(*options.roots))
    except (ValueError, OSError) as error:
        print(f"python -m pure.report: {error}", file=sys.stderr)
        return 2
    write_atomically(options.document, text.encode())
    return 0


def _groups(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """The runs that differ in nothing but the seed, together.

    The titles come first, for the order.  They do not tell everything: a recipe's values change from one version of
    this package to another, and runs of both must not be averaged.
    """

    def key(run: RunRecord) -> tuple[str, ...]:
        return _recipe_title(run), _title(run), run.recipe.model_dump_json(), run.data.fingerprint

    return [list(runs) for _, runs in groupby(sorted(records, key=lambda run: (*key(run), run.seed)), key)]


def _title(run: RunRecord) -> str:
    """``PURe20``, with its options behind it."""
    options = ", ".join(f"{name}={value}" for name, value in sorted(run.model.options.items()))
    return display_name(run.model.name) + (f" ({options})" if options else "")


def _recipe_title(run: RunRecord) -> str:
    changes = ", ".join(f"{field}={getattr(run.recipe, field)}" for field in run.overrides)
    return run.recipe.name + (f" ({changes})" if changes else "")


def _mean_and_deviation(values: np.ndarray) -> str:
    return f"{values.mean():.2f}" + (f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else "")


def _welch_interval(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Welch's 95 % interval for the difference of two means; a point where neither side scatters."""
    difference = float(np.mean(ours) - np.mean(theirs))
    if np.ptp(ours) == np.ptp(theirs) == 0:
        return difference, difference
    # Written out: scipy.stats.ttest_ind warns where one side does not scatter, which few test images make likely.
    n = np.array([len(ours), len(theirs)])
    squared_errors = np.array([np.var(ours, ddof=1), np.var(theirs, ddof=1)]) / n
    freedom = squared_errors.sum() ** 2 / (squared_errors**2 / (n - 1)).sum()  # Welch and Satterthwaite
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(squared_errors.sum())
    return difference - half, difference + half


def _by_epoch(runs: Sequence[RunRecord], field: str) -> np.ndarray:
    """A measured quantity, shape ``(runs, epochs)``, NaN behind the end of a shorter run."""
    length = max(len(run.epochs) for run in runs)
    values = [[getattr(epoch, field) for epoch in run.epochs] for run in runs]
    return np.array([row + [math.nan] * (length - len(row)) for row in values], dtype=float)


def _show(axes: Axes, image: Tensor) -> None:
    """Draw one image ``(C, H, W)``; one channel in grey, darkest to brightest."""
    pixels = image.movedim(0, -1).numpy()  # (H, W, C)
    axes.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray_r", interpolation="nearest")


if __name__ == "__main__":
    sys.exit(main())
