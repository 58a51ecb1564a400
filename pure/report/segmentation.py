"""Tables and figures of segmentations: what each network reached, how they differ, where they are wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from torch import Tensor

from pure.records import RunRecord
from pure.report.benchmarks import ratio
from pure.report.networks import display_name
from pure.report.statistics import Effect, Sample, image_difference, paired_difference
from pure.report.style import COLOURS, ON_BOTH
from pure.report.tables import finished, grouped, network_title, recipe_title, tested

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "dice_figure",
    "masks_figure",
    "pairs",
    "segmentation_differences",
    "segmentation_table",
    "segmentations",
    "steps_table",
]

FIGURES = {"dice": "Dice", "iou": "IoU", "false_positives": "Found on empty images"}
"""The figures of a test by the field of the record, as tables name them; the last is the better the lower."""

OURS, THEIRS = "pu_unet", "res_unet"

_INK = {"true": "#FFFFFF", "found": "#E69F00"}


def segmentations(records: Iterable[RunRecord]) -> list[RunRecord]:
    """The runs whose task is segmentation."""
    return [run for run in records if run.recipe.task == "segmentation"]


def segmentation_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """What each network reached: one row for each recipe and network, over all its seeds.

    Mean and sample deviation in percent of Dice, IoU and the empty images on which something was found; parameters,
    runs, divergences, which no mean includes, test images, and median training time in seconds.  Formatted text.
    """
    rows = []
    for runs in grouped(segmentations(records)):
        tests = tested(runs)
        measured = {
            f"{title} (%)": [100 * getattr(test, field) for test in tests if getattr(test, field) is not None]
            for field, title in FIGURES.items()
        }
        rows.append(
            {
                "Recipe": recipe_title(runs[0]),
                "Network": network_title(runs[0]),
                "Parameters": f"{runs[0].model.parameters:,}",
                **{title: str(Sample.of(values)) if values else "" for title, values in measured.items()},
                "Runs": str(len(tests)),
                "Diverged": str(len(runs) - len(tests)),
                "Test images": f"{runs[0].data.test:,}",
                "Training time (s)": f"{np.median([run.times.train_s for run in finished(runs) or runs]):.0f}",
            }
        )
    return pd.DataFrame(rows)


def pairs(records: Iterable[RunRecord]) -> list[list[tuple[RunRecord, RunRecord]]]:
    """PU-UNet and the residual U-Net from the same seed, with the same recipe, data and sizes; tested runs alone.

    Returns:
        For each recipe and size a list of pairs, by seed.
    """
    groups = grouped(run for run in segmentations(records) if run.test is not None)
    found = []
    for ours in (runs for runs in groups if runs[0].model.name == OURS):
        for theirs in (runs for runs in groups if runs[0].model.name == THEIRS):
            if _setting(ours[0]) == _setting(theirs[0]):
                by_seed = {run.seed: run for run in theirs}
                found.append([(run, by_seed[run.seed]) for run in ours if run.seed in by_seed])
    return [each for each in found if each]


def _setting(run: RunRecord) -> tuple[Any, ...]:
    return run.recipe.model_copy(update={"family": "resnet"}), run.data.fingerprint, run.model.options


def segmentation_differences(records: Iterable[RunRecord]) -> pd.DataFrame:
    """PU-UNet less the residual U-Net over the seeds of both, in points, with 95 % intervals; formatted text.

    The interval is Student's for pairs of one seed, and speaks for further seeds on these test images; that of Dice
    stands again for further test images too (:func:`~pure.report.statistics.image_difference`).  The last column is the
    difference that so many seeds would find in four of five repetitions.
    """
    rows = []
    for group in pairs(records):
        if len(group) < 2:
            continue
        effects = {f"{title}, these images": _effect(group, field) for field, title in FIGURES.items()}
        effects["Dice, further images too"] = _over_images(group)
        for title, effect in effects.items():
            if effect is None:
                continue
            rows.append(
                {
                    "Recipe": recipe_title(group[0][0]),
                    "Measure": title,
                    "Difference (points)": f"{effect.mean:+.2f}",
                    "95 % interval": f"{effect.low:+.2f} to {effect.high:+.2f}",
                    "Seeds": str(effect.n),
                    "Found if at least": "" if math.isnan(effect.detectable) else f"{effect.detectable:.2f}",
                    "Verdict": ("PU-UNet lower", "undecided", "PU-UNet higher")[effect.verdict + 1],
                }
            )
    return pd.DataFrame(rows)


def _effect(group: Sequence[tuple[RunRecord, RunRecord]], field: str) -> Effect | None:
    values = [[getattr(run.test, field) for run in side] for side in zip(*group, strict=True)]
    if any(value is None for side in values for value in side):
        return None
    ours, theirs = ([100 * value for value in side] for side in values)
    return paired_difference(ours, theirs)


def _over_images(group: Sequence[tuple[RunRecord, RunRecord]]) -> Effect | None:
    """Of the images that hold an object: the others have none."""
    sides = [[run.test.image_dice for run in side if run.test is not None] for side in zip(*group, strict=True)]
    if any(dice is None for side in sides for dice in side):
        return None
    ours, theirs = (np.array(side, dtype=float) for side in sides)
    held = ~np.isnan(ours[0])
    return image_difference(100 * ours[:, held], 100 * theirs[:, held])


def dice_figure(records: Iterable[RunRecord]) -> Figure:
    """Dice on the validation images over the epochs, and on the test images by seed, of a pair's runs."""
    (group, *_) = pairs(records)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 2.8), width_ratios=(3, 2))
    sides = list(zip(*group, strict=True))
    for runs, family, marker in zip(sides, ("pure", "resnet"), ("o", "s"), strict=True):
        courses = np.array([[100 * _dice(epoch.validation) for epoch in run.epochs] for run in runs])
        epochs = np.arange(1, courses.shape[1] + 1)
        mean = courses.mean(0)
        label = display_name(runs[0].model.name)
        left.plot(epochs, mean, color=COLOURS[family], marker=marker, label=label)
        left.fill_between(epochs, courses.min(0), courses.max(0), color=COLOURS[family], alpha=0.2, linewidth=0)
    left.set(xlabel="epoch", ylabel="Dice, validation (%)")
    left.legend(loc="lower right")
    for place, pair in enumerate(group):
        values = [100 * _dice(run.test) for run in pair]
        right.plot(values, [place, place], color=COLOURS["neutral"], linewidth=1, zorder=1)
        for value, family, marker in zip(values, ("pure", "resnet"), ("o", "s"), strict=True):
            right.plot(value, place, color=COLOURS[family], marker=marker, linestyle="none", markersize=6)
    right.set(xlabel="Dice, test (%)", ylabel="seed", ylim=(len(group) - 0.5, -0.5))
    right.set_yticks(range(len(group)), [str(pair[0].seed) for pair in group])
    return figure


def _dice(score: Any) -> float:
    return math.nan if score is None or score.dice is None else score.dice


def masks_figure(
    images: Tensor,
    masks: Tensor,
    answers: Tensor | None = None,
    titles: Sequence[str] = (),
    columns: int = 6,
) -> Figure:
    """Images with the outline of their mask, and of a network's answer.

    Args:
        images: shape ``(n, 3, H, W)``, uint8.
        masks: shape ``(n, H, W)``, what is true.
        answers: likewise, what a network found; None shows the masks alone.
        titles: what stands above the images, if anything.
        columns: images in a row.
    """
    rows = -(-len(images) // columns)
    height = 7.0 / columns * rows + 0.25 * (bool(titles) + (answers is not None))
    figure, grid = plt.subplots(rows, columns, figsize=(7.0, height), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (axes, image) in enumerate(zip(grid.flat, images, strict=False)):
        axes.imshow(image.movedim(0, -1).numpy())
        outlines = {"true": masks} | ({"found": answers} if answers is not None else {})
        for kind, shapes in outlines.items():
            if shapes[number].any():
                look: dict[str, Any] = {"colors": _INK[kind], "linewidths": 1.0}
                axes.contour(shapes[number].numpy(), [0.5], **look, linestyles="-" if kind == "true" else "--")
    for axes, title in zip(grid.flat, titles, strict=False):
        axes.set_title(title, color=ON_BOTH, loc="center")
    if answers is not None:
        handles = [
            Line2D([], [], color="#8A8A8A", label="true mask (white)"),
            Line2D([], [], color=_INK["found"], linestyle="--", label="found"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def steps_table(measured: Mapping[str, Any]) -> pd.DataFrame:
    """Parameters of both networks, and the ratio of their steps' times, from a record of ``benchmarks/unets.py``.

    The ratio is the median over rounds in which both took a step in turns, with its quartiles.  Formatted text.
    """
    rows = []
    for case in measured["cases"]:
        parameters, found = case["parameters"], ratio(case["seconds"], OURS, THEIRS)
        rows.append(
            {
                "Widths": case["size"],
                "Memory format": case["layout"],
                display_name(THEIRS): f"{parameters[THEIRS]:,}",
                display_name(OURS): f"{parameters[OURS]:,}",
                "Step, ratio": f"{found.median:.3f}",
                "Quartiles": f"{found.low:.3f} to {found.high:.3f}",
                "Rounds": str(found.rounds),
            }
        )
    return pd.DataFrame(rows)
