"""What a run of a batch will take, before it starts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from experiments import Device, Run, tuples

from pure.recipes import get_recipe
from pure.records import RECORD_NAME, RunRecord, read_record
from pure.report import plans


def estimate(run: Run, device: Device, roots: Iterable[Path]) -> plans.Estimate:
    """Seconds as the records of such runs on such a device say; else from the arithmetic of a training."""
    recipe = get_recipe(run.recipe, run.network, **tuples(run.overrides))
    measured = [record for root in roots for record in _records(root / run.recipe / run.label)]
    return plans.estimate(recipe, run.network, tuples(run.model_options), device, measured)


@cache
def _records(folder: Path) -> list[RunRecord]:
    found = []
    for path in folder.glob(f"seed*/{RECORD_NAME}"):
        with contextlib.suppress(OSError, ValueError):
            found.append(read_record(path))
    return found
