"""The paper's tables with what was measured here beside each number, and the runs that each number comes from.

A cell is filled by runs of the paper's recipe in full, on the paper's data, and by nothing else.
"""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from pure.data.noise import relative_drop
from pure.recipes import get_recipe
from pure.records import RunRecord
from pure.report import plans
from pure.report.networks import display_name
from pure.report.statistics import Sample, difference_from
from pure.report.tables import (
    accuracy_table,
    as_published,
    finished,
    grouped,
    hardware,
    network_title,
    recipe_title,
    text_table,
)
from pure.wording import duration

__all__ = ["conditions", "family_values", "linked_accuracy_table", "paper_table", "repository_address", "runs_of"]

NOT_RUN = "not run"

TARGETS = {"galaxy10": "table2", "imagenet": "table4", "cifar10": "table6", "cifar10-extended": "table6"}
"""Of ``make reproduce``, by recipe of the paper's scale; those of reduced scale are in the target ``campaign``."""


@dataclass(frozen=True)
class Row:
    """A row of one of the paper's tables.

    Attributes:
        network: its name.
        recipe: what trains it here.
        printed: what the paper prints, by the name of a column.
        runs: number of trainings behind a mean.
        protocol: how the accuracy was taken.
        title: the network as the table calls it.
    """

    network: str
    recipe: str
    printed: Mapping[str, float]
    runs: int
    protocol: str
    title: str


@cache
def _paper(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def rows_of(root: Path, table: str) -> list[Row]:
    """The rows of ``table2``, ``table4`` or ``table6``."""
    content = _paper(root / "paper.yaml")[table]
    protocols = content["protocols"]
    if table == "table6":
        rows = []
        for each in content["rows"]:
            extended = each.get("schedule") == "extended"
            title = display_name(each["model"]) + (", 220 epochs" if extended else "")
            printed = {name: each[name] for name in ("mean", "std", "params_m") if name in each}
            protocol = protocols.get(each["model"], protocols["rest"])
            recipe = "cifar10-extended" if extended else "cifar10"
            rows.append(Row(each["model"], recipe, printed, content["runs"], protocol, title))
        return rows
    recipe = {"table2": "galaxy10", "table4": "imagenet"}[table]
    return [
        Row(
            network,
            recipe,
            dict(zip(content["columns"], values, strict=True)),
            content["runs"],
            protocols.get(network, protocols["rest"]),
            display_name(network),
        )
        for network, values in content["rows"].items()
    ]


Cells = Callable[[Row, list[RunRecord]], dict[str, str]]


def paper_table(root: Path, files: Mapping[Path, RunRecord], table: str, part: str) -> pd.DataFrame:
    """A table of the paper, or a part of it, with what was measured here beside it.

    Args:
        root: the folder ``results``, for the paper's numbers.
        files: the records by file.
        table: ``table2``, ``table3``, ``table4`` or ``table6``.
        part: ``accuracy``, or ``noise`` and ``times`` of table 2, or ``protocols`` of table 4.

    Returns:
        One row for each network.  Our number is linked to the runs behind it; without runs stands what they would
        take.  Formatted text.

    Raises:
        KeyError: there is no such table or part.
    """
    if table == "table3":
        return _table3(root, files)
    cells = _PARTS[table, part]
    rows = []
    for row in rows_of(root, table):
        runs = _runs(files, row)
        rows.append({"Network": row.title, **cells(row, runs)})
    return text_table(rows)


def _runs(files: Mapping[Path, RunRecord], row: Row) -> list[RunRecord]:
    """The network as the paper's table has it: no option set, ResNets with the shortcut that is their default."""
    found = [
        run
        for run in as_published(files.values())
        if (run.recipe.name, run.model.name) == (row.recipe, row.network)
        and not run.model.options
        and not run.data.synthetic
    ]
    return sorted(found, key=lambda run: run.seed)


def _planned(row: Row) -> str:
    """What the runs of a row would take; on a GPU, at the speed of the paper's."""
    recipe = get_recipe(row.recipe, row.network)
    seconds = plans.seconds_by_arithmetic(recipe, row.network, {}, "gpu") * row.runs
    runs = f"{row.runs} runs" if row.runs > 1 else "1 run"
    return f"{NOT_RUN} ({runs}, some {duration(seconds)})"


def _against(row: Row, ours: Sample, mean: str = "mean", deviation: str = "std") -> str:
    """Our mean less the paper's, with its interval where either side scatters."""
    printed = row.printed[mean]
    if ours.n < 2:
        return f"{ours.mean - printed:+.2f} (one run)"
    return str(difference_from(ours, printed, row.printed.get(deviation), row.runs))


def _printed(row: Row, mean: str, deviation: str = "") -> str:
    scatter = f" ± {row.printed[deviation]:.2f}" if deviation in row.printed else ""
    return f"{row.printed[mean]:.2f}{scatter}"


def _measured(values: Iterable[float]) -> Sample | None:
    found = tuple(values)
    return Sample(found) if found else None


def _accuracy(mean: str, deviation: str) -> Cells:
    def cells(row: Row, runs: list[RunRecord]) -> dict[str, str]:
        ours = _measured(100 * run.test.accuracy for run in runs if run.test is not None)
        diverged = len(runs) - len(finished(runs))
        return {
            "Parameters (M)": _printed(row, "params_m") if "params_m" in row.printed else "",
            "The paper (%)": _printed(row, mean, deviation),
            "Here (%)": link_to(runs, str(ours)) if ours else _planned(row),
            "Difference (points), 95 %": _against(row, ours, mean, deviation) if ours else "",
            "Runs": str(ours.n) if ours else "",
            "Diverged": str(diverged),
        }

    return cells


def _noise(row: Row, runs: list[RunRecord]) -> dict[str, str]:
    pairs = [(100 * run.test.accuracy, 100 * run.noisy.accuracy) for run in runs if run.test and run.noisy]
    noisy = _measured(noisy for _, noisy in pairs)
    drops = _measured(relative_drop(clean, noisy) for clean, noisy in pairs)
    of_means = relative_drop(*map(statistics.fmean, zip(*pairs, strict=True))) if pairs else 0.0
    scatter = f" ± {drops.deviation:.2f}" if drops and drops.deviation is not None else ""
    return {
        "With noise, the paper (%)": _printed(row, "noisy_mean_acc"),
        "With noise, here (%)": link_to(runs, str(noisy)) if noisy else NOT_RUN,
        "Drop, the paper (%)": _printed(row, "relative_drop"),
        "Drop, here (%)": link_to(runs, f"{of_means:.2f}{scatter}") if drops else NOT_RUN,
        "Difference (points), 95 %": _against(row, drops, "relative_drop", "") if drops else "",
    }


def _times(row: Row, runs: list[RunRecord]) -> dict[str, str]:
    ended = finished(runs)
    times: dict[str, tuple[str, list[float | None]]] = {
        "t80_s": ("To 80 %", [run.time_to_accuracy() for run in ended]),
        "t_best_s": ("To the best", [run.time_to_best() for run in ended]),
        "t_total_s": ("In all", [run.times.total_s for run in ended]),
    }
    cells = {}
    for column, (title, values) in times.items():
        reached = [value for value in values if value is not None]
        cells[f"{title}, the paper (s)"] = f"{row.printed[column]:,.0f}"
        here = f"{statistics.fmean(reached):,.0f}" if reached else NOT_RUN if not values else "never"
        cells[f"{title}, here (s)"] = link_to(runs, here) if values else here
    return cells


def _protocols(row: Row, runs: list[RunRecord]) -> dict[str, str]:
    cells = {
        "Top-1, the paper (%)": _printed(row, "top1"),
        "Top-5, the paper (%)": _printed(row, "top5"),
        "Protocol of the paper's": row.protocol,
    }
    for protocol in ("single-crop", "ten-crop", "multi-scale"):
        tests = [
            test for run in finished(runs) for test in (run.test, *run.protocols) if test and test.protocol == protocol
        ]
        ours = _measured(100 * test.accuracy for test in tests)
        fifth = _measured(100 * test.top5 for test in tests if test.top5 is not None)
        cells[f"Here, {protocol} (%)"] = link_to(runs, f"{ours} / {fifth}") if ours else NOT_RUN
    return cells


_PARTS: Mapping[tuple[str, str], Cells] = {
    ("table2", "accuracy"): _accuracy("mean_acc", "std_acc"),
    ("table2", "noise"): _noise,
    ("table2", "times"): _times,
    ("table4", "accuracy"): _accuracy("top1", ""),
    ("table4", "protocols"): _protocols,
    ("table6", "accuracy"): _accuracy("mean", "std"),
}


def _table3(root: Path, files: Mapping[Path, RunRecord]) -> pd.DataFrame:
    """Published ResNets on Galaxy10 DECaLS, and those of table 2 that are trained here."""
    ours = {row.network: _runs(files, row) for row in rows_of(root, "table2")}
    rows = []
    for each in _paper(root / "paper.yaml")["table3"]:
        runs = ours.get(each["model"], [])
        tests = [100 * run.test.accuracy for run in runs if run.test is not None]
        here = link_to(runs, str(Sample.of(tests))) if tests else NOT_RUN if each["model"] in ours else ""
        rows.append(
            {
                "Augmentation": each["augmentation"],
                "Published by": each["reference"],
                "Network": display_name(each["model"]),
                "Printed (%)": f"{each['acc']:.2f}",
                "Here, by table 2's recipe (%)": here,
            }
        )
    return text_table(rows)


def family_values(recipe: str, family: str) -> tuple[float, float]:
    """Learning rate and weight decay of a recipe for a family of networks."""
    values = get_recipe(recipe, family)
    return values.lr, values.weight_decay


# The runs behind a number


def anchor(runs: Sequence[RunRecord]) -> str:
    """Where on its page the runs of a network are listed."""
    text = f"runs {recipe_title(runs[0])} {network_title(runs[0])}"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def link_to(runs: Sequence[RunRecord], text: str) -> str:
    """A number that leads to the runs behind it, on the same page."""
    return f'<a href="#{anchor(runs)}">{text}</a>' if runs else text


def linked_accuracy_table(files: Mapping[Path, RunRecord], recipe: str) -> pd.DataFrame:
    """:func:`pure.report.accuracy_table` of a recipe as it stands, each accuracy linked to its runs."""
    records = as_published(run for run in files.values() if run.recipe.name == recipe)
    table = accuracy_table(records)
    for number, runs in enumerate(grouped(records)):
        table.loc[number, "Test accuracy (%)"] = link_to(runs, str(table.loc[number, "Test accuracy (%)"]))
    return table


def runs_of(files: Mapping[Path, RunRecord], recipe: str, home: str) -> pd.DataFrame:
    """The runs of a recipe: each accuracy is linked to its record, and beside it stand commit and name.

    Args:
        files: the records by file, below ``results``.
        recipe: its name; ablations are listed too.
        home: the way from the page to the repository's root.

    Returns:
        One row for each network and what was changed, its seeds in order.  Formatted text.
    """
    paths = {id(run): path for path, run in files.items() if run.recipe.name == recipe}
    rows = []
    for runs in grouped(run for run in files.values() if id(run) in paths):
        commits = dict.fromkeys(run.environment.commit for run in runs if run.environment.commit is not None)
        changed = {field: getattr(runs[0].recipe, field) for field in runs[0].overrides}
        title = network_title(runs[0]) + "".join(f", {field} = {value}" for field, value in changed.items())
        rows.append(
            {
                "Network": f'<span id="{anchor(runs)}"></span>{title}',
                "Seed: test accuracy (%)": "; ".join(_linked_run(run, paths[id(run)], home) for run in runs),
                "Commit": ", ".join(f"[{each[:7]}]({repository_address()}/commit/{each[:40]})" for each in commits),
                "Name": f"`{'-'.join(paths[id(runs[0])].parts[:-2])}-seed{{k}}`",
                "Begun": f"{min(run.times.started for run in runs):%Y-%m-%d}",
                "Hours": f"{sum(run.times.total_s for run in runs) / 3600:.2f}",
            }
        )
    return text_table(rows)


def _linked_run(run: RunRecord, path: Path, home: str) -> str:
    """Seed and outcome of a run, which leads to its record; then its executed notebook, if this build has one."""
    text = f"{100 * run.test.accuracy:.2f}" if run.test is not None else "diverged"
    page = f"book/runs/{'-'.join(path.parts[:-1])}.ipynb"
    notebook = f" ([notebook]({home}/{page}))" if Path(home, page).is_file() else ""
    return f"{run.seed}: [{text}]({home}/results/{path.as_posix()}){notebook}"


def conditions(root: Path, records: Sequence[RunRecord], recipe: str) -> str:
    """Data, protocol and hardware of a recipe's runs, in a sentence; without runs, the command that makes them."""
    target = TARGETS.get(recipe)
    if not records:
        command = f"make reproduce TARGET={target or 'campaign'} PROFILE={'gpu' if target else 'quick'}"
        return (
            f"No run of the recipe `{recipe}` is here yet. `{command}` makes them; with `ARGS=-n`, it lists them first."
        )
    sizes = {f"{run.data.name}, {run.data.train:,} training and {run.data.test:,} test images" for run in records}
    data = "; ".join(sorted(sizes))
    protocols = ", ".join(sorted({run.recipe.protocols[0] for run in records}))
    return f"Data: {data}. Test images are shown: {protocols}. Hardware: {hardware(records)}."


def repository_address() -> str:
    """Where the repository is published, without a slash at the end; ``PURE_REPOSITORY_URL`` takes precedence."""
    named = dict(entry.split(", ", 1) for entry in metadata.metadata("pure-networks").get_all("Project-URL") or ())
    return (os.environ.get("PURE_REPOSITORY_URL") or named.get("Repository", "")).rstrip("/")
