"""Execute one run of the experiments, for Snakemake or without it.

::

    python workflow/run_one.py digits-pure20-seed0 --root _build/runs --notebooks book/runs

A run that is up to date is left alone, a stopped or killed one goes on from its checkpoint, and one that another
process executes is waited for.  Exit codes: 0, there is a record, of a training that finished or diverged; 1, it
failed; 2, wrong input, or an unwritable file; 75, stopped, can go on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from execute import (
    EXIT_FAILED,
    EXIT_STOPPED,
    EXIT_WRONG,
    FAILURES,
    Stopped,
    StopSignals,
    execute,
    explain,
    stop_signals,
)
from experiments import EXPERIMENTS, MADE_FROM, NOTEBOOK, Device, Run, find, read
from filelock import FileLock, Timeout
from gpus import one_gpu

from pure.data.storage.files import write_atomically
from pure.records import RECORD_NAME, RunRecord

REPLACED = ".replaced"
"""Ending of the folder, and of the record in it, that a run had before it was out of date; gone when it has ended."""


class Report:
    """What a run is doing, in a file that the batch reads; without a file, on the screen only."""

    def __init__(self, path: Path | None) -> None:
        self.path, self._clock = path, time.perf_counter()

    def write(self, state: str, text: str = "") -> None:
        """Say what goes on: waiting, training, or how it ended."""
        print(f"{state}{text and ': '}{text}", flush=True)
        if self.path is not None:
            seconds = time.perf_counter() - self._clock
            content = {"state": state, "text": text, "seconds": seconds, "host": socket.gethostname()}
            write_atomically(self.path, json.dumps(content).encode())


def perform(
    run: Run, root: Path, notebooks: Path, device: Device | None, keep: bool, requeue: bool, report: Report
) -> int:
    """Execute a run unless it is up to date.  Returns the exit code."""
    with stop_signals() as stop:
        try:
            with _alone(run.folder(root), stop, report):
                if run.finished(root, notebooks) is None:
                    _prepare(run.folder(root), run.training_fingerprint, keep)
                    _execute(run, root, notebooks, run.device or device, stop, report)
                record = run.finished(root, notebooks)
        except Stopped as stopped:
            report.write("stopped", str(stopped))
            if requeue and stop.received == signal.SIGUSR1:
                _queue_again()
            return EXIT_STOPPED
        except FAILURES as error:
            report.write("failed", explain(error))
            return EXIT_FAILED
        except OSError as error:
            report.write("failed", f"{error}; is the folder there, and may it be written to?")
            return EXIT_WRONG
    if record is None:
        report.write("failed", f"the notebook ran, but {run.folder(root)} holds no valid record of it")
        return EXIT_FAILED
    report.write("diverged" if record.divergence else "done", outcome(record))
    return 0


@contextlib.contextmanager
def _alone(folder: Path, stop: StopSignals, report: Report) -> Iterator[None]:
    """Wait until no other process executes this run."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report.write("waiting", "another process executes this run")
        while not lock.is_locked:
            _refuse_if_stopped(stop)
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=1)
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(
            missing_ok=True
        )  # while it is held: who waits sees that its file is gone, and retries
        lock.release()


def _prepare(folder: Path, fingerprint: str, keep: bool) -> None:
    """Leave in the folder only what comes from the training code and parameters of now, so that it can go on."""
    mark = folder / MADE_FROM
    if mark.is_file() and mark.read_text() == fingerprint:
        return
    if folder.exists() and not keep:
        replaced = folder.with_name(folder.name + REPLACED)
        shutil.rmtree(replaced, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):  # under its own name, tables would count it
            os.replace(folder / RECORD_NAME, folder / (RECORD_NAME + REPLACED))
        os.replace(folder, replaced)
    write_atomically(mark, fingerprint.encode())


def _execute(run: Run, root: Path, notebooks: Path, device: Device | None, stop: StopSignals, report: Report) -> None:
    folder = run.folder(root)
    with one_gpu(lambda: stop.reason is not None) if device == "gpu" else contextlib.nullcontext():
        _refuse_if_stopped(stop)
        report.write("training")
        execute(
            NOTEBOOK,
            run.output(notebooks),
            {
                **run.parameters,
                "out": folder.as_posix(),
                "execution": run.execution,
                "device": {"gpu": "cuda", "cpu": "cpu", None: ""}[device],
                "if_exists": "resume",
                "progress": False,
            },
            {"fingerprint": run.fingerprint},
            stop,
        )
    shutil.rmtree(folder.with_name(folder.name + REPLACED), ignore_errors=True)


def _refuse_if_stopped(stop: StopSignals) -> None:
    if stop.reason is not None:
        raise Stopped(f"{stop.reason} before it began")


def outcome(record: RunRecord) -> str:
    """How a training ended, in a few words."""
    if record.test is not None:
        return f"test accuracy {100 * record.test.accuracy:.2f} %"
    assert record.divergence is not None  # a record has either
    return f"in epoch {record.divergence.epoch}: {record.divergence.reason}"


def _queue_again() -> None:
    """Have Slurm end this job before its time limit, and start it again under the same number."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or subprocess.run(["scontrol", "requeue", job], check=False).returncode:
        return
    time.sleep(60)  # until it is ended: by an exit code, Snakemake would try again within this job


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Execute one run of workflow/experiments.yaml.",
        epilog=f"exit codes: 0, record and notebook are there; {EXIT_FAILED}, failed; {EXIT_WRONG}, something given is "
        f"wrong or could not be written; {EXIT_STOPPED}, stopped, and can go on",
    )
    parser.add_argument("run", help="<recipe>-<network>[-<variant>]-seed<k>, as the plan of a batch lists it")
    parser.add_argument("--root", type=Path, required=True, help="root of the records")
    parser.add_argument("--notebooks", type=Path, required=True, metavar="DIR", help="folder of executed notebooks")
    parser.add_argument("--experiments", type=Path, default=EXPERIMENTS, metavar="FILE", help="other experiments")
    parser.add_argument("--device", choices=["cpu", "gpu"], help="by default a GPU if there is one")
    parser.add_argument("--keep-records", action="store_true", help="take a record as it is, out of date or not")
    parser.add_argument("--requeue", action="store_true", help="a Slurm job that SIGUSR1 warns is queued again")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write down there what goes on")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """See ``--help``.  Returns the exit code."""
    options = parser().parse_args(arguments)
    logging.getLogger("papermill").setLevel(logging.WARNING)
    try:
        run = find(options.run, read(options.experiments))
        report = Report(options.report)
        code = perform(
            run, options.root, options.notebooks, options.device, options.keep_records, options.requeue, report
        )
    except (OSError, ValueError, yaml.YAMLError) as error:
        print(f"workflow/run_one.py: {error}", file=sys.stderr)
        return EXIT_WRONG
    return code


if __name__ == "__main__":
    sys.exit(main())
