"""Tables of run records: what each network reached, how they differ, under noise, by protocol, and how long it took."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from pure.data.noise import relative_drop
from pure.models.residual import VARIANTS
from pure.recipes import Recipe, get_recipe, list_recipes, sources
from pure.records import Evaluation, RunRecord
from pure.report.networks import display_name, shortcut_of
from pure.report.statistics import Sample, difference

__all__ = [
    "accuracy_table",
    "as_published",
    "difference_table",
    "finished",
    "grouped",
    "hardware",
    "markdown",
    "network_title",
    "noise_table",
    "places_table",
    "protocols_table",
    "recipe_table",
    "recipe_title",
    "runs_table",
    "shown",
    "tested",
    "text_table",
    "times_table",
]


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
    for runs in grouped(_classifications(records)):
        tests = tested(runs)
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
                "Training time (s)": f"{np.median([run.times.train_s for run in finished(runs) or runs]):.1f}",
            }
        )
    return text_table(rows)


def difference_table(records: Iterable[RunRecord], equal_shortcuts: bool = False) -> pd.DataFrame:
    """How far PURe is ahead of the ResNet of the same depth, under one recipe and on the same data.

    One row for each pair ``pureN`` and ``resnetN``, with whatever options, with two tested runs or more each.  The
    column *Shortcuts* names those of a pair that has not the same kind; ``equal_shortcuts`` leaves such pairs out.  The
    interval is Welch's, for the difference of the mean test accuracies, at 95 %; it covers the seeds' scatter, not that
    of the test images, and knows nothing of runs that diverged: where there are any, they are counted.  Everything is
    formatted text.
    """
    groups = [runs for runs in grouped(records) if len(tested(runs)) > 1]
    pairs = [
        (runs, baseline)
        for runs in groups
        for baseline in groups
        if runs[0].model.name.startswith("pure")
        and baseline[0].model.name == runs[0].model.name.replace("pure", "resnet", 1)
        and recipe_title(baseline[0]) == recipe_title(runs[0])
        and baseline[0].data.fingerprint == runs[0].data.fingerprint
    ]
    rows = []
    for pair in pairs:
        shortcuts = [shortcut_of(runs[0].model.name, **runs[0].model.options) for runs in pair]
        if equal_shortcuts and shortcuts[0] != shortcuts[1]:
            continue
        ours, theirs = (Sample.of(100 * test.accuracy for test in tested(runs)) for runs in pair)
        found = difference(ours, theirs)
        diverged = [len(runs) - len(tested(runs)) for runs in pair]
        rows.append(
            {
                "Recipe": recipe_title(pair[0][0]),
                "Compared": " against ".join(network_title(runs[0]) for runs in pair),
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
    return text_table(rows)


def noise_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Test accuracy without and with Poisson noise, and the relative drop (section 4.1.2).

    The drop is eq. (6), of the means over the runs and not the mean of their drops.  One row for each recipe and
    network with noisy tests; formatted text.
    """
    rows = []
    for runs in grouped(_classifications(records)):
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
                    "Diverged": str(len(runs) - len(tested(runs))),
                }
            )
    return text_table(rows)


def protocols_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Test accuracy by every protocol, in percent: top-1 and, where it has a meaning, top-5.

    One row for each recipe and network that was tested by several; formatted text.
    """
    rows = []
    for runs in grouped(_classifications(records)):
        tests = [test for run in runs if run.test is not None and run.protocols for test in (run.test, *run.protocols)]
        if tests:
            row = _heading(runs[0])
            for protocol in dict.fromkeys(test.protocol for test in tests):
                chosen = [test for test in tests if test.protocol == protocol]
                row[f"{protocol}, top-1 (%)"] = _percent(test.accuracy for test in chosen)
                row[f"{protocol}, top-5 (%)"] = _percent(_top5(runs[0], chosen))
            rows.append({**row, "Runs": str(len(tested(runs)))})
    return text_table(rows)


def times_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """How long the trainings took, in seconds: medians over the runs that were tested.

    Columns: training time until the validation accuracy was first 80 %, with the share of runs that reached it where
    not all did; until it was first at its best; training alone; all of it, evaluation included.  The first two are
    empty where nothing was held out.  Images a second and memory, in MiB, where the records have them.
    """
    rows = []
    for runs in grouped(records):
        ended = finished(runs)
        if not ended:
            continue
        held_out = any(epoch.validation for run in ended for epoch in run.epochs)
        resources = [run.resources for run in ended if run.resources is not None]
        rows.append(
            {
                **_heading(runs[0]),
                "To 80 % (s)": _reached([run.time_to_accuracy() for run in ended]) if held_out else "",
                "To the best (s)": _reached([run.time_to_best() for run in ended]) if held_out else "",
                "Training (s)": _reached([run.times.train_s for run in ended]),
                "With evaluation (s)": _reached([run.times.total_s for run in ended]),
                "Images per second": f"{np.median([r.throughput for r in resources]):,.0f}" if resources else "",
                "Memory (MiB)": f"{np.median([r.peak_memory for r in resources]) / 2**20:,.0f}" if resources else "",
                "Runs": str(len(ended)),
            }
        )
    return text_table(rows)


def runs_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Every run in its own row: network, seed, accuracies in percent, loss, seconds, and, if it diverged, where.

    The validation accuracy is that of the selected epoch.  Formatted text.
    """
    rows = []
    for run in _classifications(records):
        validation = run.epochs[run.selected - 1].validation if run.selected is not None else None
        test = run.test
        rows.append(
            {
                **_heading(run),
                "Seed": str(run.seed),
                "Validation accuracy (%)": f"{100 * validation.accuracy:.2f}" if validation is not None else "",
                "Test accuracy (%)": f"{100 * test.accuracy:.2f}" if test is not None else "",
                "Top-5 (%)": _percent(_top5(run, tested([run]))),
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
    return text_table(rows)


def places_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """What ran where, when and at which commit: a row for one network, one machine and one commit.

    Columns: recipe, network, seeds, machine, first and last day (UTC), commit in eight digits, with ``-dirty`` where
    files differed from it, and hours of training and evaluation.  Formatted text; the latest runs first.
    """
    groups: dict[tuple[tuple[str, str], ...], list[RunRecord]] = {}
    for run in records:
        commit, dirty, _ = (run.environment.commit or "none").partition("-dirty")
        place = {**_heading(run), "Machine": _machine(run), "Commit": f"{commit[:8]}{dirty}"}
        groups.setdefault(tuple(place.items()), []).append(run)
    rows = []
    for row, runs in sorted(groups.items(), key=lambda group: max(run.times.started for run in group[1]), reverse=True):
        first, last = (choose(run.times.started for run in runs) for choose in (min, max))
        days = [f"{time:%d %b %Y}".lstrip("0").replace(" ", "\N{NO-BREAK SPACE}") for time in (first, last)]
        rows.append(
            {
                **dict(row),
                "Seeds": ", ".join(str(seed) for seed in sorted({run.seed for run in runs})),
                "Days": days[0] if days[0] == days[1] else f"{days[0]} to {days[1]}",
                "Hours": f"{sum(run.times.total_s for run in runs) / 3600:.2f}",
            }
        )
    return text_table(rows)


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
    """Whether a cell is empty, none, or begins with a number, which is not that of an item."""
    return re.match(r"$|none$|(?!\d+\. )(\W )?[-+]?\d", text) is not None


def as_published(records: Iterable[RunRecord]) -> list[RunRecord]:
    """The runs of recipes and networks as they stand; a ResNet's shortcut may be either: what is left are ablations."""
    return [
        run
        for run in records
        if not run.overrides and run.model.options.keys() <= ({"shortcut"} if run.recipe.family == "resnet" else set())
    ]


def grouped(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """The runs that differ in nothing but the seed, together.

    The titles come first, for the order.  They do not tell everything: a recipe's values change from one version of
    this package to another, and runs of both must not be averaged.
    """

    def key(run: RunRecord) -> tuple[str, ...]:
        return recipe_title(run), network_title(run), *run.experiment

    return [list(runs) for _, runs in groupby(sorted(records, key=lambda run: (*key(run), run.seed)), key)]


def _classifications(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Without segmentations, whose accuracy is that of pixels: :mod:`pure.report.segmentation` has their tables."""
    return [run for run in records if run.recipe.task == "classification"]


def finished(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Those that did not diverge."""
    return [run for run in runs if run.divergence is None]


def tested(runs: Iterable[RunRecord]) -> list[Evaluation]:
    """Their tests; those that diverged have none."""
    return [run.test for run in runs if run.test is not None]


def _top5(run: RunRecord, tests: Iterable[Evaluation]) -> list[float]:
    """Shares of images whose class is among the five likeliest: not of ten classes, where chance alone gives half."""
    return [test.top5 for test in tests if test.top5 is not None and len(run.data.classes) > 10]


def network_title(run: RunRecord) -> str:
    """``PURe20``, with its options after it; the two that make the paper's third version by its name."""
    given = dict(run.model.options)
    kept = {name: value for name, value in VARIANTS["v3"].items() if value}
    if all(given.get(name) is value for name, value in kept.items()):
        given = {name: value for name, value in given.items() if name not in kept} | {"variant": "v3"}
    options = ", ".join(f"{name}={shown(value)}" for name, value in sorted(given.items()))
    return display_name(run.model.name) + (f" ({options})" if options else "")


def recipe_title(run: RunRecord) -> str:
    """The recipe's name, what was overridden, and the data where they are not the recipe's own."""
    recipe = run.recipe
    known = recipe.name in list_recipes()
    published = get_recipe(recipe.name, run.model.name).data_options if known else {}
    changes = {field: getattr(recipe, field) for field in run.overrides if field != "data_options"}
    if "data_options" in run.overrides:
        changes |= {name: value for name, value in recipe.data_options.items() if published.get(name) != value}
    text = ", ".join(f"{field}={shown(value)}" for field, value in changes.items())
    title = recipe.name + (f" ({text})" if text else "")
    title += f" on {run.data.name}" if run.data.name != recipe.dataset else ""
    return title + (", synthetic images" if run.data.synthetic else "")


def _heading(run: RunRecord) -> dict[str, str]:
    return {"Recipe": recipe_title(run), "Network": network_title(run)}


def text_table(rows: list[dict[str, str]]) -> pd.DataFrame:
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


def shown(value: Any) -> str:
    """A setting in a title: of a long number four digits."""
    return f"{value:.4g}" if isinstance(value, float) and len(str(value)) > 6 else str(value)


def _value(value: Any) -> str:
    """A recipe's value as a reader would write it."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={_value(each)}" for name, each in value.items()) or "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
