"""The runs of targets within a limited time, on a machine without notebooks and without a network.

::

    python workflow/timed.py campaign table6 --seconds 570 --root /tmp/runs --state state.tar --device cuda --at-once 5

Runs go in the order of the targets.  What is not finished when the time is over stops at a checkpoint; the state file
carries records and checkpoints to the next call, on the same machine or another.  Exit codes: 0, every run has its
record; 75, some are left; 2, wrong input.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from experiments import EXPERIMENTS, Run, check, nearest, read

from pure.records import RECORD_NAME
from pure.train.interruption import EXIT_STOPPED

EXIT_WRONG = 2

MARGIN_S = 20.0
"""Seconds before the end in which no run is started, and a stopped one writes its checkpoint."""

FIRST = (RECORD_NAME, "weights.safetensors")
"""Files that a state file takes first, as long as there is room; then come the checkpoints."""


def command(run: Run, root: Path, seconds: float, more: Sequence[str]) -> list[str]:
    """The trainer's command for a run that may take so many seconds."""
    words = [sys.executable, "-m", "pure.train", "--recipe", run.recipe, "--model", run.network]
    words += ["--seed", str(run.seed), "--out", str(run.folder(root)), "--if-exists", "resume"]
    words += ["--max-seconds", f"{seconds:.0f}"]
    options = {
        "--model-option": run.model_options,
        "--data-option": run.data_options,
        "--set": run.overrides,
        "--execution": run.execution,
    }
    for flag, values in options.items():
        for name, value in values.items():
            words += [flag, f"{name}={json.dumps(value) if not isinstance(value, str) else value}"]
    return [*words, *more]


def perform(runs: Sequence[Run], root: Path, seconds: float, at_once: int, more: Sequence[str]) -> list[Run]:
    """Train until all have a record or the time is over.  Returns the runs that are left."""
    deadline = time.monotonic() + seconds
    waiting = [run for run in runs if not (run.folder(root) / RECORD_NAME).exists()]
    running: dict[str, subprocess.Popen[bytes]] = {}
    for run in waiting:
        while len(running) >= at_once:
            _wait(running, deadline)
        left = deadline - time.monotonic() - MARGIN_S
        if left < MARGIN_S:
            break
        log = run.folder(root).with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            running[run.id] = subprocess.Popen(command(run, root, left, more), stdout=stream, stderr=stream)
        print(f"{run.title}: started, {left:.0f} s left", flush=True)
    while running:
        _wait(running, deadline)
    return [run for run in runs if not (run.folder(root) / RECORD_NAME).exists()]


def _wait(running: dict[str, subprocess.Popen[bytes]], deadline: float) -> None:
    """Until one of them has ended, or more; what goes on at the deadline is stopped."""
    while all(process.poll() is None for process in running.values()):
        if time.monotonic() > deadline:
            for process in running.values():  # a test that takes long: its training has its checkpoint
                process.kill()
        time.sleep(0.2)
    for name in [name for name, process in running.items() if process.poll() is not None]:
        ended = {0: "finished", EXIT_STOPPED: "stopped"}.get(running.pop(name).returncode, "failed, see its log")
        print(f"{name}: {ended}", flush=True)


def pack(root: Path, state: Path, most_bytes: int) -> list[str]:
    """Records, weights and checkpoints into one file, as far as there is room.  Returns what did not fit."""
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".log"]
    files.sort(key=lambda path: (FIRST.index(path.name) if path.name in FIRST else len(FIRST), path.stat().st_size))
    used, left_out = 0, []
    state.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(state, "w") as archive:
        for path in files:
            name, needed = path.relative_to(root).as_posix(), path.stat().st_size + 2 * tarfile.BLOCKSIZE
            if used + needed > most_bytes - tarfile.RECORDSIZE:
                left_out.append(name)
                continue
            archive.add(path, name)
            used += needed
    return left_out


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Train the runs of targets within a limited time, without notebooks.",
        epilog=f"exit codes: 0, every run has its record; {EXIT_STOPPED}, some are left; {EXIT_WRONG}, wrong input. "
        "Options that are not named here go to the trainer: --data DIR, --set epochs=1",
    )
    parser.add_argument("targets", nargs="+", help="of workflow/experiments.yaml, the most wanted one first")
    parser.add_argument("--seconds", type=float, required=True, help="after which everything has stopped")
    parser.add_argument("--root", type=Path, required=True, help="root of the records")
    parser.add_argument("--state", type=Path, metavar="FILE", help="unpacked into the root before, packed after")
    parser.add_argument("--most-bytes", type=int, default=16 * 2**20, metavar="N", help="size of the state file")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="runs side by side")
    parser.add_argument("--experiments", type=Path, default=EXPERIMENTS, metavar="FILE", help="other experiments")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """See ``--help``.  Returns the exit code."""
    options, more = parser().parse_known_args(arguments)
    try:
        targets = read(options.experiments)
        for target in options.targets:
            if target not in targets:
                raise ValueError(f"no target {target!r} in {options.experiments}; {nearest(target, targets)}")
        runs = list({run.id: run for target in options.targets for run in targets[target]}.values())
        check(runs)
        if options.at_once < 1 or options.seconds < 2 * MARGIN_S:
            raise ValueError(f"--at-once is at least 1, and --seconds at least {2 * MARGIN_S:.0f}")
        if options.state is not None and options.state.exists():
            with tarfile.open(options.state) as archive:
                archive.extractall(options.root, filter="data")
        elif options.state is not None:
            print(f"{options.state} is not there yet: starting from the beginning", flush=True)
    except (OSError, ValueError, tarfile.TarError) as error:
        print(f"workflow/timed.py: {error}", file=sys.stderr)
        return EXIT_WRONG
    left = perform(runs, options.root, options.seconds, options.at_once, ["--device", options.device, *more])
    if options.state is not None:
        for name in pack(options.root, options.state, options.most_bytes):
            print(f"{name} does not fit into {options.state}", flush=True)
    print(f"{len(runs) - len(left)} of {len(runs)} runs have their record", flush=True)
    return EXIT_STOPPED if left else 0


if __name__ == "__main__":
    sys.exit(main())
