"""Train by two processes that are forked from this one: ``python rank_runs.py FOLDER``.

A process of its own, for the reason given in ``killed_runs.py``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from training import in_child, register_small_networks, wait

from pure import data, records
from pure.data import ImageSet
from pure.train import Stopped, fit

TRAINING: dict[str, Any] = {
    # 1,078 images: a last batch of 78, which four parts divide unequally, as two ranks do the 359 of either evaluation
    "overrides": {"epochs": 3, "batch_size": 100},
    "progress": False,
    "device": "cpu",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def train(folder: Path, **more: Any) -> None:
    given = {**TRAINING, **more, "overrides": {**TRAINING["overrides"], **more.get("overrides", {})}}
    try:
        fit("digits", "pure8", out=folder, **given)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        os._exit(75)


def on_ranks(number: int, folder: Path, **more: Any) -> list[int]:
    """Exit statuses of a training by so many processes."""
    place = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}

    def work(rank: int) -> None:
        os.environ.update({**place, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        alone = more.pop("only_rank", None)
        if alone is not None and rank != alone:
            more.pop("max_seconds", None)
        train(folder, **more)

    children = [in_child(lambda rank=rank: work(rank)) for rank in range(number)]  # type: ignore[misc]
    return [wait(child) for child in children]


def main(root: Path) -> None:
    torch.set_num_threads(1)
    register_small_networks()
    splits = data.load("digits")
    splits = dataclasses.replace(splits, test=ImageSet(splits.test.images[1:], splits.test.labels[1:]))
    data.load = lambda *_, **__: splits
    records._commit = lambda: None
    micro = {"execution": {"micro_batches": 2}}
    statuses = {
        "one process, two parts": on_ranks(1, root / "1x2", **micro),
        "two processes": on_ranks(2, root / "2x1"),
        "one process, four parts": on_ranks(1, root / "1x4", execution={"micro_batches": 4}),
        "two processes, two parts": on_ranks(2, root / "2x2", **micro),
        "whole batches": on_ranks(1, root / "1x1"),
        "diverging": on_ranks(2, root / "diverging", overrides={"lr": 10.0}),
        "stopped": on_ranks(2, root / "stopped", max_seconds=0.0, only_rank=1),
        "gone on": on_ranks(2, root / "stopped", if_exists="resume"),
        "told again": on_ranks(2, root / "stopped", if_exists="resume"),
    }
    print(json.dumps(statuses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
