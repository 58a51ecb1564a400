"""From the results of the precision study (``benchmarks/precision.py``) to the tables and the figure of its page.

A study is one recipe on one machine; for each network and each pair of precisions, the network's and its units', it
holds test accuracies by seed, errors of the logits, and the time of a training step over that in float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import Tensor

from pure.recipes import Family, family_of
from pure.report import Difference, Sample
from pure.report.benchmarks import Ratio, machine_columns
from pure.report.networks import display_name
from pure.report.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "REFERENCE",
    "Result",
    "accuracy_table",
    "candidates",
    "decision",
    "decision_table",
    "logits_table",
    "machines_table",
    "read_results",
    "results",
    "rounded",
    "seeds_table",
    "steps_table",
    "study_figure",
]

Pair = tuple[str, str]
"""Precision of the network, and of its product units' exponents."""

REFERENCE: Pair = ("float32", "float32")


@dataclass(frozen=True)
class Result:
    """What a study found for one network in one pair of precisions.

    Attributes:
        study: the file's name, without its ending.
        recipe: the recipe's name.
        model: the network's name.
        pair: of precisions.
        epochs: of each training.
        seeds: test accuracies in percent, by seed; runs that diverged have none.
        diverged: number of these.
        difference: of the mean accuracy to that in float32, where both have two runs or more.
        logits: ``largest`` and ``median`` relative error to float64, shares of images ``changed`` and ``nonfinite``.
        step: ``median``, quartiles ``low`` and ``high``, and number of ``rounds`` of the time over that in float32.
    """

    study: str
    recipe: str
    model: str
    pair: Pair
    epochs: int
    seeds: Mapping[int, float]
    diverged: int
    difference: Difference | None
    logits: Mapping[str, float]
    step: Mapping[str, float]

    @property
    def family(self) -> Family:
        """Of the network."""
        return family_of(self.model)

    @property
    def heading(self) -> dict[str, str]:
        """The first columns of every table; a ResNet has no units."""
        network, units = self.pair
        title = {"Study": self.study, "Model": display_name(self.model)}
        return title | {"Network": network, "Units": units if self.family == "pure" else ""}

    @property
    def accuracy(self) -> str:
        """What the trainings say against float32; ``worse`` and ``better`` by an interval that leaves out zero."""
        if self.diverged:
            return "diverges"
        if self.difference is None:
            return "too few runs"
        return "better" if self.difference.low > 0 else "worse" if self.difference.high < 0 else "not resolved"

    @property
    def time(self) -> str:
        """What the rounds say against float32; both quartiles must lie on one side."""
        return "faster" if self.step["high"] < 1 else "slower" if self.step["low"] > 1 else "not resolved"

    @property
    def convinces(self) -> bool:
        """Whether it is faster than float32, without a resolved loss, a divergence, or a logit that is not finite."""
        sound = self.accuracy in ("better", "not resolved") and self.logits["nonfinite"] == 0
        return sound and self.time == "faster"


def rounded(values: Tensor, precision: str) -> Tensor:
    """Numbers rounded to the nearest that a precision can hold, ties to even, as float64; beyond its range, infinite.

    Args:
        values: floating point, any shape.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"tf32"``: float32 with 10 bits after the point.

    Raises:
        ValueError: another precision.
    """
    if precision == "tf32":
        bits = values.float().view(torch.int32)
        even = (bits >> 13) & 1  # the last of the 10 bits that stay
        return ((bits + 0xFFF + even) & ~0x1FFF).view(torch.float32).double()
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision not in known:
        raise ValueError(f"unknown precision {precision!r}; expected tf32, {', '.join(known)}")
    return values.to(known[precision]).double()


def read_results(folder: Path | str) -> dict[str, dict[str, Any]]:
    """The files of a folder, by name without ending: studies, and what ``benchmarks/seeds.py`` wrote."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("*.json"))}


def results(files: Mapping[str, Mapping[str, Any]]) -> list[Result]:
    """All that is found in the studies among some files, in their order."""
    return [
        Result(
            study=name,
            recipe=found["recipe"],
            model=model,
            pair=(pair.split("/")[0], pair.split("/")[1]),
            epochs=measured["epochs"],
            seeds={int(seed): value for seed, value in accuracy["seeds"].items()},
            diverged=accuracy["diverged"],
            difference=Difference(**accuracy["difference"]) if "difference" in accuracy else None,
            logits=measured["logits"][pair],
            step=measured["step"][pair],
        )
        for name, found in files.items()
        for model, measured in found.get("models", {}).items()
        for pair, accuracy in measured["accuracy"].items()
    ]


def machines_table(files: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What was measured on what; formatted text, as in all tables here."""
    rows = []
    for name, found in files.items():
        machine = found["machine"]
        epochs = {str(measured["epochs"]) for measured in found.get("models", {}).values()}
        rows.append(
            {
                "Study": name,
                "Trained": f"{found['recipe']}, {' or '.join(sorted(epochs))} epochs" if epochs else "",
                **machine_columns(machine, [] if machine["load"] is None else [machine["load"]]),
            }
        )
    return pd.DataFrame(rows)


def accuracy_table(found: Iterable[Result]) -> pd.DataFrame:
    """Mean and deviation of each pair's test accuracies, and difference to float32 with Welch's interval at 95 %."""
    shown = list(found)
    rows = []
    for result in shown:
        change = result.difference
        row = {**result.heading, "Runs": str(len(result.seeds))}
        if any(each.diverged for each in shown):
            row["Diverged"] = str(result.diverged)
        row["Accuracy (%)"] = str(Sample.of(result.seeds.values())) if result.seeds else "none"
        row["Difference"] = f"{change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}]" if change else ""
        rows.append(row | {"Verdict": "" if result.pair == REFERENCE else result.accuracy})
    return pd.DataFrame(rows)


def steps_table(found: Iterable[Result]) -> pd.DataFrame:
    """The time of a training step over that in float32, median and quartiles, of all pairs but float32's."""
    rows = [
        {
            **result.heading,
            "Step / float32": f"{result.step['median']:.3f}",
            "Quartiles": f"{result.step['low']:.3f} to {result.step['high']:.3f}",
            "Rounds": str(result.step["rounds"]),
            "Verdict": result.time,
        }
        for result in found
        if result.pair != REFERENCE
    ]
    return pd.DataFrame(rows)


def logits_table(found: Iterable[Result]) -> pd.DataFrame:
    """How far the logits of the same weights and images are from those in float64."""
    rows = [
        {
            **result.heading,
            "Largest error": _error(result.logits["largest"]),
            "Median error": _error(result.logits["median"]),
            "Changed (%)": f"{100 * result.logits['changed']:.2f}",
            "Not finite (%)": f"{100 * result.logits['nonfinite']:.2f}",
        }
        for result in found
    ]
    return pd.DataFrame(rows)


def _error(value: float) -> str:
    """An error, or none where no image has finite logits."""
    return f"{value:.1e}" if math.isfinite(value) else "none"


def seeds_table(files: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Seeds an hour of one network, stacked or side by side, over one after another."""
    rows = []
    for name, found in files.items():
        if "seeds_per_hour_stacked_over_alone" not in found:
            continue
        settings, gain = found["settings"], Ratio(**found["seeds_per_hour_stacked_over_alone"])
        rows.append(
            {
                "Study": name,
                "Model": display_name(settings["model"]),
                "Seeds": str(settings["seeds"]),
                "Batch": f"{settings['batch']} x {settings['pixels']} px",
                "Stacked": str(gain),
                "Verdict": "gains" if gain.low > 1 else "loses" if gain.high < 1 else "not resolved",
                "Gradients off by": f"{found['gradients_differ_by']:.0e}",
                "Side by side": (
                    f"{found['seeds_per_hour_side_by_side_over_one_process']:.2f} by {settings['processes']}"
                ),
            }
        )
    return pd.DataFrame(rows)


def candidates(found: Iterable[Result]) -> Iterator[tuple[str, Pair, list[Result]]]:
    """Each study's lowered pairs, with all results that such a default would bring about.

    Networks that are compared must be trained in the same precision: a pair is listed together with the networks
    without units in the pair's precision of the network.
    """
    lowered = [result for result in found if result.pair != REFERENCE]
    for study in dict.fromkeys(result.study for result in lowered):
        ours = [result for result in lowered if result.study == study]
        units = [result for result in ours if result.family == "pure"]
        for pair in dict.fromkeys(result.pair for result in units or ours):
            plain = [result for result in ours if result.family != "pure" and result.pair[0] == pair[0]]
            yield study, pair, [result for result in units if result.pair == pair] + plain


def decision_table(found: Iterable[Result]) -> pd.DataFrame:
    """What each network of a study says about each pair, and whether all of them speak for it."""
    rows = []
    for study, pair, members in candidates(found):
        names = [display_name(result.model) for result in members]
        rows.append(
            {
                "Study": study,
                "Network": pair[0],
                "Units": pair[1],
                "Time": ", ".join(f"{name} {result.time}" for name, result in zip(names, members, strict=True)),
                "Accuracy": ", ".join(f"{name} {result.accuracy}" for name, result in zip(names, members, strict=True)),
                "Taken": "yes" if all(result.convinces for result in members) else "no",
            }
        )
    return pd.DataFrame(rows)


def decision(found: Sequence[Result], recipe: str) -> Pair:
    """The pair that a recipe should have by default.

    One that is convincing for every network in every study of the recipe; of several, the one whose slowest network
    gains the most time; float32 if no pair is.
    """
    ours = [result for result in found if result.recipe == recipe]
    studies = {result.study for result in ours}
    asked: dict[Pair, dict[str, list[Result]]] = {}
    for study, pair, members in candidates(ours):
        asked.setdefault(pair, {})[study] = members
    slowest = {
        pair: max(result.step["median"] for members in by_study.values() for result in members)
        for pair, by_study in asked.items()
        if by_study.keys() == studies and all(result.convinces for members in by_study.values() for result in members)
    }
    return min(slowest, key=slowest.__getitem__, default=REFERENCE)


def study_figure(found: Sequence[Result]) -> Figure:
    """One study: left the accuracy of every seed, each joined over the pairs; right the time of a step over float32.

    Args:
        found: all results of one study, networks together.
    """
    groups = [[each for each in found if each.model == model] for model in dict.fromkeys(each.model for each in found)]
    figure, grid = plt.subplots(
        len(groups),
        2,
        figsize=(7.0, 0.5 * len(groups) + 0.5 + 0.36 * len(found)),
        sharex="col",
        sharey="row",
        squeeze=False,
        width_ratios=(3, 2),
        height_ratios=[len(group) for group in groups],
    )
    for (left, right), group in zip(grid, groups, strict=True):
        colour = COLOURS[group[0].family]
        seeds = sorted({seed for result in group for seed in result.seeds})
        for number, seed in enumerate(seeds):  # a little apart: equal accuracies are frequent with few test images
            lift = 0.4 * ((number + 0.5) / len(seeds) - 0.5)
            reached = [result.seeds.get(seed, math.nan) for result in group]  # a gap where a run diverged
            places = [place + lift for place in range(len(group))]
            left.plot(reached, places, "-o", color=colour, linewidth=0.6, alpha=0.5, markeredgewidth=0)
        for place, result in enumerate(group):
            if result.seeds:
                mean = Sample.of(result.seeds.values()).mean
                left.plot(mean, place, "|", color="black", markersize=17, markeredgewidth=1.6)
            step = result.step
            right.hlines(place, step["low"], step["high"], color=colour, linewidth=4, alpha=0.6)
            right.plot(step["median"], place, "|", color="black", markersize=11, markeredgewidth=1.6)
        right.axvline(1, color=COLOURS["neutral"], linewidth=1, zorder=0)
        left.set_yticks(range(len(group)), [_row_label(result) for result in group])
        left.set_ylim(len(group) - 0.5, -0.5)  # float32 at the top
        left.set_title(display_name(group[0].model))
        for axes in (left, right):
            axes.grid(axis="y", visible=False)
    grid[-1, 0].set_xlabel("test accuracy (%), each seed")
    grid[-1, 1].set_xlabel("training step, time / float32's")
    return figure


def _row_label(result: Result) -> str:
    """``bfloat16 / float32``, and how many runs diverged."""
    words = "/".join(result.pair) if result.family == "pure" else result.pair[0]
    return words + (f" ({result.diverged} diverged)" if result.diverged else "")
