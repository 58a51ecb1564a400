"""Reproduce a table or a figure of the paper: plan, runs by Snakemake, summary.

::

    python workflow/reproduce.py table6 --profile gpu -n

Runs that are up to date are left out.  Ctrl-C or SIGTERM stops all runs at a checkpoint, a second one kills them, and
the same command goes on.  Two batches with one root share the work.  Exit codes: 0, all records are there; 1, some runs
failed; 2, something given is wrong; 75, stopped, and can go on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from execute import EXIT_FAILED, EXIT_STOPPED, EXIT_WRONG, SIGNALS
from experiments import EXPERIMENTS, Device, Run, check, explain, nearest, read
from filelock import FileLock, Timeout
from gpus import visible
from pydantic import BaseModel, ConfigDict, ValidationError

from pure.wording import duration

if TYPE_CHECKING:  # PyTorch takes seconds to import: where it is used, Ctrl-C is understood
    from pure.report.plans import Estimate

HERE = Path(__file__).parent
STATES = Path("_build/batch")
"""Where each batch keeps its logs."""

MEANWHILE = ("waiting", "training")
"""What the one-run command reports before it has ended."""


class Settings(BaseModel):
    """What a profile sets under ``config``; all else in it are options of Snakemake, which refuses unknown ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Device
    root: Path
    notebooks: Path
    price: float = 0.0
    requeue: bool = False


@dataclass
class Batch:
    """The runs of a target, and what is known of them."""

    target: str
    runs: list[Run]
    settings: Settings
    estimates: dict[str, Estimate]
    state: Path
    experiments: Path
    pending: list[Run] = field(default_factory=list)

    def finished(self, run: Run) -> Any:
        """The record of a run that is up to date, or None."""
        return run.finished(self.settings.root, self.settings.notebooks)

    def report(self, run: Run) -> dict[str, Any]:
        """What the one-run command last said of it."""
        try:
            return dict(json.loads((self.state / f"{run.id}.json").read_text()))
        except (OSError, ValueError):
            return {}

    def log(self, run: Run) -> Path:
        """What it printed."""
        return self.state / f"{run.id}.log"


def read_profile(name: str) -> tuple[Settings, dict[str, Any]]:
    """The settings of a profile and its options for Snakemake.

    Raises:
        ValueError: there is no such profile, or a setting in it is unknown.
    """
    known = sorted(path.parent.name for path in HERE.glob("profiles/*/config.yaml"))
    path = HERE / "profiles" / name / "config.yaml"
    if not path.is_file():
        raise ValueError(f"no profile {name!r}; {nearest(name, known)}")
    options = yaml.safe_load(path.read_text())
    try:
        return Settings.model_validate(options.pop("config", {})), options
    except ValidationError as error:
        raise ValueError(f"{path}: config: {explain(error, Settings)}") from None


# The plan


def print_plan(batch: Batch, jobs: int) -> None:
    """Which runs there are, what they take, and what they take together."""
    waiting = {run.id for run in batch.pending}
    for number, run in enumerate(batch.runs, 1):
        planned = batch.estimates[run.id]
        told = f"{duration(planned.seconds):>9}  {size(planned.memory):>8}  {planned.source}"
        print(f"[{number}/{len(batch.runs)}] {run.id:<55} {told if run.id in waiting else 'up to date'}")
    seconds = sum(batch.estimates[run.id].seconds for run in batch.pending)
    memory = max((batch.estimates[run.id].memory for run in batch.pending), default=0)
    device = batch.settings.device.upper()
    print(f"{batch.target}: {len(batch.runs)} runs, {len(batch.runs) - len(batch.pending)} of them up to date")
    print(
        f"{duration(seconds)} of {device} time, {duration(wall_clock(batch, batch.pending, jobs))} with {jobs} at a "
        f"time; up to {size(memory)} each; cost {seconds / 3600 * batch.settings.price:,.2f} at "
        f"{batch.settings.price:g} an hour"
    )
    if batch.target in ("speed", "all"):
        print("and the speed of this machine: ten minutes, in which nothing else should run")


def wall_clock(batch: Batch, runs: Sequence[Run], jobs: int) -> float:
    """Seconds until the last of these runs ends, by their estimates, with so many at a time."""
    seconds = [batch.estimates[run.id].seconds for run in runs]
    return max(max(seconds, default=0.0), sum(seconds) / jobs)


def size(number: int) -> str:
    """Bytes as a reader wants them."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


# The runs


def perform(batch: Batch, jobs: int, options: Sequence[str], keep: bool) -> int:
    """Let Snakemake execute what is pending, with a line for each run that begins or ends.  Returns the exit code."""
    batch.state.mkdir(parents=True)
    waiting = {run.id for run in batch.pending}
    for run in batch.runs:
        if run.id not in waiting:
            (batch.state / f"{run.id}.done").touch()
    with _first_at(batch.settings.root) as first:
        order = sorted(batch.pending, key=lambda run: -batch.estimates[run.id].seconds)
        if not first:
            print(f"another batch is running in {batch.settings.root}: the work is shared", flush=True)
            random.shuffle(order)  # so that the two seldom want the same run
        engine = _start(batch, jobs, options, keep, order)
        with _stopping(engine) as stopped:
            _follow(batch, engine, jobs)
    if (
        engine.returncode
        and not stopped
        and not any(batch.log(run).exists() for run in batch.pending)
        and batch.pending
    ):
        # Nothing began: an option, in the profile or given here, that Snakemake does not know, as its last lines say.
        told = (batch.state / "snakemake.log").read_text().strip().splitlines()
        print("\n".join(["workflow/reproduce.py: Snakemake started nothing:", *told[-5:]]), file=sys.stderr)
        return EXIT_WRONG
    return summarise(batch, engine.returncode, bool(stopped))


@contextlib.contextmanager
def _first_at(root: Path) -> Iterator[bool]:
    """Whether no other batch is running there."""
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".batch.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _start(
    batch: Batch, jobs: int, options: Sequence[str], keep: bool, order: Sequence[Run]
) -> subprocess.Popen[bytes]:
    settings = batch.settings
    config = {
        "state": batch.state,
        "experiments": batch.experiments,
        "root": settings.root,
        "notebooks": settings.notebooks,
        "device": settings.device,
        "requeue": "true" if settings.requeue else "",
        "keep-records": "true" if keep else "",
        "order": " ".join(run.id for run in order),
    }
    command = [sys.executable, "-m", "snakemake", batch.target, "--snakefile", str(HERE / "Snakefile"), *options]
    command += ["--jobs", str(jobs), "--keep-going", "--nolock", "--scheduler", "greedy", "--rerun-triggers", "mtime"]
    command += ["--resources", f"gpu={jobs}", "--config", *(f"{name}={value}" for name, value in config.items())]
    with (batch.state / "snakemake.log").open("wb") as log:
        # In a new session: Ctrl-C typed here reaches the runs through _stopping only, and once.
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


@contextlib.contextmanager
def _stopping(engine: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass a stop on to Snakemake and all runs that it started; a second one kills them."""
    received: list[int] = []

    def receive(number: int, _: Any) -> None:
        received.append(number)
        print(
            "stopping all runs at a checkpoint; once more kills them" if len(received) == 1 else "killing all runs",
            flush=True,
        )
        with contextlib.suppress(ProcessLookupError):  # Snakemake knows SIGINT: it starts nothing more, and waits
            os.killpg(engine.pid, signal.SIGINT if len(received) == 1 else signal.SIGKILL)

    found = {number: signal.signal(number, receive) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in found.items():
            signal.signal(number, handler)


def _follow(batch: Batch, engine: subprocess.Popen[bytes], jobs: int) -> None:
    """Say what begins and ends until Snakemake has ended."""
    told: dict[str, str] = {}
    while True:
        ended = engine.poll() is not None
        for number, run in enumerate(batch.pending, 1):
            report = batch.report(run)
            if report and told.get(run.id) != report["state"]:
                told[run.id] = report["state"]
                took = "" if report["state"] in MEANWHILE else f" {duration(report['seconds'])},"
                text = f"[{number}/{len(batch.pending)}] {run.title}:{took} {report['state']} {report['text']}".rstrip()
                print(text + _left(batch, told, report, jobs), flush=True)
        if ended:
            return
        time.sleep(0.5)


def _left(batch: Batch, told: dict[str, str], report: dict[str, Any], jobs: int) -> str:
    if report["state"] in MEANWHILE:
        return ""
    runs = [run for run in batch.pending if told.get(run.id, "waiting") in MEANWHILE]
    return f"; {len(runs)} left" + (f", {duration(wall_clock(batch, runs, jobs))} by the plan" if runs else "")


# The summary


def summarise(batch: Batch, code: int, stopped: bool) -> int:
    """Say how each run stands, by its record.  Returns the exit code."""
    from run_one import outcome

    waiting = {run.id for run in batch.pending}
    states: dict[str, list[Run]] = {name: [] for name in ("done", "skipped", "diverged", "stopped", "failed")}
    for run in batch.runs:
        record = batch.finished(run)
        if record is None:
            states["stopped" if _was_stopped(batch.report(run), stopped) else "failed"].append(run)
        elif record.divergence:
            states["diverged"].append(run)
        else:
            states["done" if run.id in waiting else "skipped"].append(run)
    print(f"{batch.target}: {', '.join(f'{len(runs)} {name}' for name, runs in states.items())}")
    for run in states["diverged"]:
        print(f"diverged: {run.title}: {outcome(batch.finished(run))}")
    for run in states["failed"]:
        text = batch.report(run).get("text") or "killed, or never started"
        print(f"failed: {run.title}: {text}\n  log: {batch.log(run)}", file=sys.stderr)
    if states["stopped"]:
        print("the same command goes on with what was stopped")
    print(f"logs: {batch.state}")
    if states["failed"] or (code and not states["stopped"] and batch.target in ("speed", "all")):
        print(f"workflow/reproduce.py: see {batch.state / 'snakemake.log'}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_STOPPED if states["stopped"] else 0


def _was_stopped(report: dict[str, Any], batch_stopped: bool) -> bool:
    state = report.get("state")
    return state == "stopped" or (batch_stopped and state in (None, *MEANWHILE))


# The command line


def main(arguments: Sequence[str] | None = None) -> int:
    """See ``--help``.  Returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Reproduce a table or a figure of the paper; unknown options go to Snakemake.",
    )
    parser.add_argument("target", help="a target of workflow/experiments.yaml, as table6; or speed; or all")
    parser.add_argument("--experiments", type=Path, default=EXPERIMENTS, metavar="FILE", help="other experiments")
    parser.add_argument("--profile", default="quick", help="a folder of workflow/profiles: quick, gpu or slurm")
    parser.add_argument("--root", type=Path, help="root of the records; by default the profile's")
    parser.add_argument("--notebooks", type=Path, metavar="DIR", help="folder of executed notebooks")
    parser.add_argument("--device", choices=["cpu", "gpu"], help="by default the profile's")
    parser.add_argument("--jobs", type=int, help="runs at a time; by default the profile's, or one for each GPU")
    parser.add_argument("--keep-records", action="store_true", help="take records as they are, out of date or not")
    parser.add_argument("-n", "--dry-run", action="store_true", help="print the plan, and start nothing")
    given, options = parser.parse_known_args(arguments)
    sys.stdout.reconfigure(line_buffering=True)  # in a file too, who waits wants to read the plan
    try:
        batch, jobs, profile = _prepare(given)
    except KeyboardInterrupt:
        print("stopped before anything began", file=sys.stderr)
        return EXIT_STOPPED
    except (OSError, ValueError, yaml.YAMLError) as error:
        print(f"workflow/reproduce.py: {error}", file=sys.stderr)
        return EXIT_WRONG
    print_plan(batch, jobs)
    if given.dry_run or not (batch.pending or batch.target in ("speed", "all")):
        return 0
    if batch.settings.device == "gpu" and profile.get("executor") is None and not visible():
        print("workflow/reproduce.py: no GPU is visible here; choose PROFILE=quick or --device cpu", file=sys.stderr)
        return EXIT_WRONG
    options = ["--workflow-profile", str(HERE / "profiles" / given.profile), *options]
    try:
        return perform(batch, jobs, options, given.keep_records)
    except OSError as error:
        print(f"workflow/reproduce.py: {error}; is the folder there, and may it be written to?", file=sys.stderr)
        return EXIT_WRONG


def _prepare(given: argparse.Namespace) -> tuple[Batch, int, dict[str, Any]]:
    settings, profile = read_profile(given.profile)
    changes = {name: getattr(given, name) for name in ("root", "notebooks", "device") if getattr(given, name)}
    settings = settings.model_copy(update=changes)
    targets = {**read(given.experiments), "speed": []}
    if given.target not in targets:
        raise ValueError(f"no target {given.target!r}; {nearest(given.target, targets)}")
    jobs = given.jobs if given.jobs is not None else profile.get("jobs") or max(1, len(visible()))
    if jobs < 1:
        raise ValueError(f"--jobs expects 1 or more, got {jobs}")
    runs = targets[given.target]
    check(runs)
    from estimate import estimate

    roots = {settings.root, Path("results")}
    estimates = {run.id: estimate(run, run.device or settings.device, roots) for run in runs}
    state = STATES / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
    batch = Batch(given.target, runs, settings, estimates, state, given.experiments)
    batch.pending = [run for run in runs if batch.finished(run) is None]
    return batch, jobs, profile


if __name__ == "__main__":
    sys.exit(main())
