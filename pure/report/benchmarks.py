"""From records of benchmarks (``benchmarks/bench.py``) to the tables and figures of the page on speed.

A ratio is the quotient of two times within one round of one run; a record keeps the seconds of every round, so the
median and its quartiles are computed here, where they are shown.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.lines import Line2D

from pure.report.networks import display_name
from pure.report.style import COLOURS, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BARS",
    "Bar",
    "Ratio",
    "bandwidth_table",
    "bars_table",
    "case_title",
    "cases",
    "epochs_table",
    "floor_table",
    "machine_columns",
    "machines_table",
    "networks_table",
    "ratio",
    "ratios_figure",
    "read_results",
]

NOT_MEASURED = "not measured"

FOLDED = PALETTE[2]
"""The colour of both networks with BN folded."""

Case = Mapping[str, Any]
"""One thing measured: its settings and what came out, or ``error``."""


class Ratio(NamedTuple):
    """The median over the rounds of a quotient of two times, with its quartiles."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(times: Mapping[str, Sequence[float]], name: str, against: str) -> Ratio:
    """The quotients of two functions' times within each round.

    Args:
        times: seconds for each call, by name, in the order of the rounds.
        name: the function in the numerator.
        against: the function in the denominator.
    """
    quotients = [ours / theirs for ours, theirs in zip(times[name], times[against], strict=True)]
    if len(quotients) < 2:
        return Ratio(quotients[0], quotients[0], quotients[0], 1)
    low, median, high = statistics.quantiles(quotients, n=4, method="inclusive")
    return Ratio(median, low, high, len(quotients))


@dataclass(frozen=True)
class Bar:
    """A limit that a measurement should stay below.

    Attributes:
        text: in words.
        most: the highest value that meets it.
        where: settings of the cases that it is about.
        what: ``"kept"``, ``"plain"`` (operator to plain form), ``"training"`` (PURe to ResNet), or ``"run"``, the
            seconds of :attr:`epochs` epochs.
        epochs: of a run.
    """

    text: str
    most: float
    where: Mapping[str, Any]
    what: str
    epochs: int = 1


_CPU = {"device": "cpu", "part": "networks", "shortcuts": "B"}
_H100 = {"device": "cuda", "part": "networks", "model": "pure34", "layout": "channels_last", "precision": "bfloat16"}

BARS = (
    Bar("kept for backward, PURe20, eager", 1.00, {**_CPU, "model": "pure20", "compiled": False}, "kept"),
    Bar("kept for backward, PURe18, eager", 1.00, {**_CPU, "model": "pure18", "compiled": False}, "kept"),
    Bar("training step, eager, CPU", 1.15, {**_CPU, "compiled": False}, "training"),
    Bar("training step, compiled, CPU", 1.00, {**_CPU, "compiled": True}, "training"),
    Bar("training step, PURe34, eager, GPU", 1.05, {**_H100, "compiled": False}, "training"),
    Bar("training step, PURe34, compiled, GPU", 1.00, {**_H100, "compiled": True}, "training"),
    Bar("operator / plain form, training step, eager, GPU", 0.75, {**_H100, "compiled": False}, "plain"),
    Bar("160 epochs of PURe20, GPU (s)", 150, {"device": "cuda", "part": "epoch", "model": "pure20"}, "run", 160),
)
"""What the product unit's speed and memory should be, chosen before anything was measured."""


def read_results(folder: Path | str) -> list[dict[str, Any]]:
    """The records of a folder, by file name; those of a CPU first."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("*.json"))]
    return sorted(records, key=lambda record: str(record["device"]) != "cpu")


def cases(records: Iterable[Mapping[str, Any]], **where: Any) -> list[Case]:
    """All cases that were measured without an error and have these settings."""
    every = [{"device": record["device"], **case} for record in records for case in record["cases"]]
    return [case for case in every if "error" not in case and all(case.get(key) == where[key] for key in where)]


def value(case: Case, bar: Bar) -> Ratio:
    """What a case says about a limit."""
    if bar.what == "kept":
        kept = case["kept_bytes"]
        share = kept["pure"] / kept["resnet"]
        return Ratio(share, share, share, 1)
    if bar.what == "run":
        seconds = [bar.epochs * 50_000 / case["images"] * each for each in case["seconds"]["pure"]]
        return ratio({"run": seconds, "second": [1.0] * len(seconds)}, "run", "second")
    return ratio(case["seconds"]["training"], "pure", "plain" if bar.what == "plain" else "resnet")


def bars_table(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Every limit with each case that it is about; one without any case is named as not measured."""
    rows = []
    for bar in BARS:
        measured: list[Case | None] = [*cases(records, **bar.where)]
        for case in measured or [None]:
            found = value(case, bar) if case else None
            rows.append(
                {
                    "What": bar.text,
                    "Case": case_title(case) if case else "",
                    "At most": f"{bar.most:g}" if bar.what == "run" else f"{bar.most:.2f}",
                    "Measured": _figure(found, bar) if found else NOT_MEASURED,
                    "Met": "" if found is None else "yes" if found.median <= bar.most else "no",
                }
            )
    return pd.DataFrame(rows)


def _figure(found: Ratio, bar: Bar) -> str:
    if bar.what == "kept":
        return f"{found.median:.3f}"
    return f"{found.median:.0f} [{found.low:.0f}, {found.high:.0f}]" if bar.what == "run" else str(found)


def case_title(case: Case) -> str:
    """The settings of a case in words."""
    if case["part"] == "epoch":
        graphs = ", CUDA graphs" if case.get("cuda_graphs") else ""
        return f"{display_name(case['model'])}, {case['precision']}{graphs}, {case['images']:,} images an epoch"
    words = [display_name(case["model"]), f"{case['batch']} x {case['pixels']} px", case["layout"]]
    if case["precision"] != "float32":
        words.append(case["precision"])
    if case["shortcuts"] != "B":
        words.append("default shortcuts")
    return ", ".join([*words, "compiled" if case["compiled"] else "eager"])


def networks_table(record: Mapping[str, Any]) -> pd.DataFrame:
    """All pairs of networks of a record: ratios with their quartiles, and memory."""
    rows = []
    for case in cases([record], part="networks"):
        training, inference = case["seconds"]["training"], case["seconds"]["inference"]
        row = {
            "Case": case_title(case),
            "Training step": str(ratio(training, "pure", "resnet")),
            "Inference": str(ratio(inference, "pure", "resnet")),
            "Folded": _if_there(inference, "pure_folded", "resnet_folded"),
            "Folded / unfolded": _if_there(inference, "pure_folded", "pure"),
            "Step / plain": _if_there(training, "pure", "plain"),
            "Kept": f"{case['kept_bytes']['pure'] / case['kept_bytes']['resnet']:.3f}" if "kept_bytes" in case else "",
        }
        if "peak_bytes" in case:
            row["Peak"] = f"{case['peak_bytes']['pure'] / case['peak_bytes']['resnet']:.3f}"
        rows.append(row | {"Rounds": str(len(training["pure"]))})
    return pd.DataFrame(rows).fillna("")


def _if_there(times: Mapping[str, Sequence[float]], name: str, against: str) -> str:
    return str(ratio(times, name, against)) if {name, against} <= times.keys() else ""


def epochs_table(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Images a second over whole epochs, loader included, and the ratio of the epochs' times."""
    rows = []
    for case in cases(records, part="epoch"):
        seconds = case["seconds"]
        row = {"Device": case["device"], "Epoch": case_title(case)}
        for name, family in (("pure", "PURe"), ("resnet", "ResNet")):
            row[f"{family}, images/s"] = f"{case['images'] / statistics.median(seconds[name]):,.0f}"
        rows.append(row | {"Time, PURe / ResNet": str(ratio(seconds, "pure", "resnet"))})
    return pd.DataFrame(rows)


def floor_table(record: Mapping[str, Any]) -> pd.DataFrame:
    """Each pointwise part of a unit: bytes that must move, the time that a copy of them takes, and the time it took."""
    rows = []
    for case in cases([record], part="floor"):
        for name, part in case["parts"].items():
            took, floor = statistics.median(part["seconds"]), part["bytes"] / case["bytes_per_second"]
            rows.append(
                {
                    "Map": f"{case['batch']} x {case['channels']} x {case['pixels']}²",
                    "Precision": case["precision"],
                    "Part": name,
                    "MB": f"{part['bytes'] / 1e6:.1f}",
                    "Floor (us)": f"{1e6 * floor:.0f}",
                    "Took (us)": f"{1e6 * took:.0f}",
                    "Took / floor": f"{took / floor:.1f}",
                }
            )
    return pd.DataFrame(rows)


def ratios_figure(record: Mapping[str, Any], mode: str = "training") -> Figure:
    """The quotient PURe / ResNet of each case: every round a dot, the median a line, its quartiles a bar.

    Where inference was timed with BN folded too, the quotient of the folded networks stands below.

    Args:
        record: of one machine.
        mode: ``"training"`` or ``"inference"``.
    """
    found = cases([record], part="networks")
    folded = any("pure_folded" in case["seconds"][mode] for case in found)
    figure, axes = plt.subplots(figsize=(7.0, 0.7 + (0.42 if folded else 0.3) * max(1, len(found))))
    for place, case in enumerate(found):
        times = case["seconds"][mode]
        if "pure_folded" in times:
            _spread(axes, times, place - 0.2, COLOURS["pure"])
            _spread(axes, times, place + 0.2, FOLDED, "_folded")
        else:
            _spread(axes, times, place, COLOURS["pure"])
    if folded:
        shown = {"as trained": COLOURS["pure"], "both with BN folded": FOLDED}
        handles = [Line2D([], [], color=colour, linewidth=3, label=words) for words, colour in shown.items()]
        axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    axes.axvline(1, color=COLOURS["resnet"], linewidth=1)
    axes.set_yticks(range(len(found)), [case_title(case) for case in found])
    axes.set_ylim(len(found) - 0.4, -0.6)  # the first case at the top
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{'training step' if mode == 'training' else mode}: time of PURe / time of ResNet")
    return figure


def _spread(axes: Axes, times: Mapping[str, Sequence[float]], place: float, colour: str, form: str = "") -> None:
    """Rounds, quartiles and median of one quotient at a height; ``form`` is what follows the names of the networks."""
    ours, theirs = f"pure{form}", f"resnet{form}"
    quotients = [first / second for first, second in zip(times[ours], times[theirs], strict=True)]
    summary = ratio(times, ours, theirs)
    axes.plot(quotients, [place] * len(quotients), "o", color=colour, alpha=0.25, markersize=3)
    axes.hlines(place, summary.low, summary.high, color=colour, linewidth=3, alpha=0.6)  # without caps beyond its ends
    axes.plot(summary.median, place, "|", color="black", markersize=11, markeredgewidth=1.6)


def machine_columns(machine: Mapping[str, Any], loads: Sequence[float]) -> dict[str, str]:
    """What a record says of the machine, and how busy that was: the load at each measurement."""
    span = dict.fromkeys(f"{load:.1f}" for load in (min(loads), max(loads))) if loads else {}
    return {
        "Device": machine["device"],
        "Threads": str(machine["threads"]),
        "Cores": str(machine["cores"]),
        "Load": " to ".join(span),
        "PyTorch": machine["torch"],
        "CUDA": machine["cuda"] or "",
    }


def machines_table(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """What was measured on what."""
    rows = []
    for record in records:
        errors = sum("error" in case for case in record["cases"])
        loads = [case["load"] for case in record["cases"] if case.get("load") is not None]
        rows.append(
            {
                **machine_columns(record["machine"], loads),
                "Cases": str(len(record["cases"]) - errors),
                "Failed": str(errors),
                "Left out": str(len(record["left_out"])),
            }
        )
    return pd.DataFrame(rows)


def bandwidth_table(record: Mapping[str, Any]) -> pd.DataFrame:
    """The bandwidth of a copy, and what a unit's maps and the five of a ReLU need of it in a training step."""
    rows = []
    for case in cases([record], part="floor"):
        numbers = case["batch"] * case["channels"] * case["pixels"] ** 2
        unit = sum(part["bytes"] for part in case["parts"].values())
        moved = numbers * (2 if case["precision"] in ("float16", "bfloat16") else 4)
        rows.append(
            {
                "Map": f"{case['batch']} x {case['channels']} x {case['pixels']}²",
                "Precision": case["precision"],
                "nb (MB)": f"{moved / 1e6:.1f}",
                "B (GB/s)": f"{case['bytes_per_second'] / 1e9:.1f}",
                "Unit (us)": f"{1e6 * unit / case['bytes_per_second']:.0f}",
                "ReLU (us)": f"{1e6 * 5 * moved / case['bytes_per_second']:.0f}",
            }
        )
    return pd.DataFrame(rows)
