"""Kill trainings at random moments and at every file that gets its name, go on with each, and print what came out.

A process of its own, since trainings are forked from it, which is safe only before PyTorch has started threads; and
since a fork has everything imported, a training costs no start.  ``python killed_runs.py FOLDER MOMENTS SEED``.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from training import in_child, register_small_networks, wait

from pure import data, records
from pure.records import RECORD_NAME, read_record
from pure.train import fit
from pure.train.lock import LOCK_NAME

TRAINING: dict[str, Any] = {
    "seed": 5,
    "overrides": {
        "epochs": 3,
        "batch_size": 128,
        "selection": "lowest-validation-loss",
        "noise_scale": 1.0,
        "schedule": "plateau",
        "patience": 1,
    },
    "data_options": {"split_seed": 1},
    "deterministic": True,
    "if_exists": "resume",
    "progress": False,
}


def train(folder: Path) -> None:
    fit("digits", "pure4", out=folder, **TRAINING)


def killed_at_renaming(folder: Path, number: int) -> Callable[[], None]:
    """A training that dies before it gives a file its name, for the so-manieth time."""

    def work() -> None:
        replace, calls = os.replace, iter(range(1, 10_000))

        def dies(source: Any, target: Any) -> None:
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = dies
        train(folder)

    return work


def seconds_of(child: int) -> float:
    """Of a processor, that the child has taken: as good a clock on a busy machine as on a quiet one."""
    state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
    clock = (~child << 3) | 2  # how Linux names the clock of another process
    return math.inf if state == "Z" else time.clock_gettime(clock)


def outcome(folder: Path, status: int, expected: dict[str, Any]) -> dict[str, Any]:
    """Go on with a run, and compare its record with that of an undisturbed one."""
    left = sorted(path.name for path in folder.iterdir() if path.name != LOCK_NAME) if folder.exists() else []
    begun = wait(in_child(lambda: train(folder)))
    record = read_record(folder / RECORD_NAME)
    return {
        "status": status,
        "left": left,
        "finished": begun == 0,
        "same": record.outcome() == expected,
        "interruptions": record.times.interruptions,
        "files": sorted(path.name for path in folder.iterdir()),
    }


def main(root: Path, moments: int, seed: int) -> None:
    torch.set_num_threads(1)
    register_small_networks()
    splits = data.load("digits", **TRAINING["data_options"])  # once, as the look at the checkout: to save time
    data.load = lambda *_, **__: splits
    records._commit = lambda: None
    wait(in_child(lambda: train(root / "first")))  # what the system caches is cached
    _, status, usage = os.wait4(in_child(lambda: train(root / "undisturbed")), 0)
    assert status == 0
    seconds = usage.ru_utime + usage.ru_stime
    expected = read_record(root / "undisturbed" / RECORD_NAME).outcome()

    draw = random.Random(seed)
    at_moments = []
    for number in range(moments):  # one in each part of the run, at random within it
        folder = root / f"moment{number}"
        child = in_child(lambda folder=folder: train(folder))  # type: ignore[misc]
        moment = seconds * (number + draw.random()) / moments
        while seconds_of(child) < moment:
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        at_moments.append(outcome(folder, wait(child), expected))

    at_renamings = []
    for number in range(1, 100):
        folder = root / f"renaming{number}"
        status = wait(in_child(killed_at_renaming(folder, number)))
        if status == 0:
            break
        at_renamings.append(outcome(folder, status, expected))
    print(json.dumps({"seconds": seconds, "moments": at_moments, "renamings": at_renamings}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
