"""From run records to tables and figures: no number of the book or the README comes from anywhere else."""

from __future__ import annotations

from pure.extras import require_extra

require_extra("report", "making tables and figures of records", "matplotlib", "pandas", "scipy", "seaborn", "yaml")

from pure.report.figures import (
    confusion_figure,
    cost_figure,
    curves,
    misclassified_figure,
    noise_figure,
    thresholds_figure,
    units_figure,
)
from pure.report.networks import architecture_table, blocks_table, costs_table, parameters_table
from pure.report.statistics import Difference, Sample, difference
from pure.report.tables import (
    accuracy_table,
    as_published,
    difference_table,
    hardware,
    markdown,
    noise_table,
    places_table,
    protocols_table,
    recipe_table,
    runs_table,
    times_table,
)
from pure.report.verdicts import verdict_table

__all__ = [
    "Difference",
    "Sample",
    "accuracy_table",
    "architecture_table",
    "as_published",
    "blocks_table",
    "confusion_figure",
    "cost_figure",
    "costs_table",
    "curves",
    "difference",
    "difference_table",
    "hardware",
    "markdown",
    "misclassified_figure",
    "noise_figure",
    "noise_table",
    "parameters_table",
    "places_table",
    "protocols_table",
    "recipe_table",
    "runs_table",
    "thresholds_figure",
    "times_table",
    "units_figure",
    "verdict_table",
]
