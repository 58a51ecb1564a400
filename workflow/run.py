"""Execute all runs of a profile, one after another, leaving out what is up to date.

::

    python workflow/run.py workflow/quick.yaml --out _build/runs --notebooks book/runs

A run is up to date when its record is there and its executed notebook was made from the same notebook, the same package
and the same parameters.  A run that fails does not stop the others; the exit code tells.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import logging
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml
from execute import FAILURES, execute, explain

import pure
from pure.records import RECORD_NAME, load
from pure.train import outcome, run_folder


@dataclass(frozen=True)
class Run:
    """One cell of a profile's grid."""

    notebook: Path
    parameters: dict[str, Any]
    folder: Path
    output: Path

    @property
    def title(self) -> str:
        """Recipe, network and seed."""
        return "{recipe} {model} seed {seed}".format(**self.parameters)

    @property
    def fingerprint(self) -> str:
        """Hash of all that the executed notebook depends on."""
        package = Path(pure.__file__).parent
        digest = hashlib.sha256(json.dumps(self.parameters, sort_keys=True).encode())
        for path in [self.notebook, *sorted(package.rglob("*.py"))]:
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def is_up_to_date(self) -> bool:
        """Whether the record and the executed notebook are there and were made from what is there now."""
        try:
            load(self.folder / RECORD_NAME)
            metadata = nbformat.read(self.output, as_version=4).metadata
        except (OSError, ValueError):
            return False
        return bool(metadata.get("pure", {}).get("fingerprint") == self.fingerprint)


def read_profile(path: Path, out: Path, notebooks: Path) -> list[Run]:
    """The runs of a profile: every combination of its grid, or of each of its grids.

    Raises:
        ValueError: the profile lacks a field, has one that nobody reads, or has no list where a list belongs.
        FileNotFoundError: there is no such profile, or no such notebook.
    """
    profile = yaml.safe_load(path.read_text())
    fields = profile.keys() if isinstance(profile, dict) else None
    grids = profile["grid"] if fields == {"notebook", "grid"} else None
    runs = []
    for grid in grids if isinstance(grids, list) and grids else [grids]:
        if not isinstance(grid, dict) or grid.keys() != {"recipe", "model", "seed"}:
            raise ValueError(f"{path}: expected the fields notebook and grid, with recipe, model and seed in the grid")
        for field, values in grid.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"{path}: {field} must be a list, for example [{values or 0}], got {values!r}")
        runs += list(itertools.product(grid["recipe"], grid["model"], grid["seed"]))
    notebook = Path(profile["notebook"])
    if not notebook.is_file():
        raise FileNotFoundError(f"{path}: no notebook {notebook}; its path is relative to the current directory")
    return [_run(notebook, recipe, model, seed, out, notebooks) for recipe, model, seed in runs]


def _run(notebook: Path, recipe: str, model: str, seed: int, out: Path, notebooks: Path) -> Run:
    folder = run_folder(out, recipe, model, seed)
    parameters = {
        "recipe": recipe,
        "model": model,
        "seed": seed,
        "out": folder.as_posix(),
        "overwrite": True,  # a record that is not up to date is of an older notebook or package
        "resume": True,  # a run that was interrupted goes on
        "progress": False,
    }
    return Run(notebook, parameters, folder, notebooks / f"{recipe}-{model}-seed{seed}.ipynb")


def run_all(runs: Sequence[Run], force: bool = False, jobs: int = 1) -> int:
    """Execute the runs that are not up to date, ``jobs`` at a time, with lines for each.

    Returns:
        The number of failures.
    """

    def execute_one(numbered: tuple[int, Run]) -> bool:
        number, run = numbered
        text = f"[{number}/{len(runs)}] {run.title}"
        if not force and run.is_up_to_date():
            print(f"{text}: up to date", flush=True)
            return True
        print(f"{text}: training ...", flush=True)
        clock = time.perf_counter()
        try:
            execute(run.notebook, run.output, run.parameters, {"fingerprint": run.fingerprint})
        except FAILURES as error:
            partial = run.output.with_suffix(".failed.ipynb")
            print(f"{text}: failed\n  {explain(error)}\n  what it got to: {partial}", flush=True)
            return False
        record = load(run.folder / RECORD_NAME)
        told = f"test accuracy {100 * record.test.accuracy:.2f} %" if record.test is not None else outcome(record)
        print(f"{text}: {time.perf_counter() - clock:.0f} s, {told}", flush=True)
        return True

    with ThreadPoolExecutor(jobs) as pool:  # a thread only waits: each run computes in its kernel's process
        return sum(not succeeded for succeeded in pool.map(execute_one, enumerate(runs, 1)))


def main(arguments: Sequence[str] | None = None) -> int:
    """See ``--help``.  Returns the exit code."""
    parser = argparse.ArgumentParser(description="Execute all runs of a profile, leaving out what is up to date.")
    parser.add_argument("profile", type=Path, help="a YAML file: the notebook and the grid of its parameters")
    parser.add_argument("--out", type=Path, required=True, metavar="ROOT", help="root of the records")
    parser.add_argument("--notebooks", type=Path, required=True, metavar="DIR", help="folder of executed notebooks")
    parser.add_argument("--force", action="store_true", help="execute what is up to date as well")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs at a time; more than one only where each has a device"
    )
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs expects 1 or more, got {options.jobs}")
    logging.getLogger("papermill").setLevel(logging.WARNING)
    try:
        runs = read_profile(options.profile, options.out, options.notebooks)
    except (OSError, ValueError, yaml.YAMLError) as error:
        print(f"workflow/run.py: {error}", file=sys.stderr)
        return 2
    failures = run_all(runs, options.force, options.jobs)
    if failures:
        print(f"workflow/run.py: {failures} of {len(runs)} runs failed", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
