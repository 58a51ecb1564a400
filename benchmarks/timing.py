"""Paired timing: what is compared runs in turns within one process, and only ratios within a round are reported.

A machine that is shared, warms up or throttles slows neighbours in time alike; the ratio of two runs a moment apart
keeps what differs between the functions.  Each round calls every function once, in another order each time; the median
over the rounds is reported with its quartiles.
"""

from __future__ import annotations

import json
import os
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pure.nn.inspection import kept_for_backward
from pure.report.benchmarks import Ratio, ratio

__all__ = ["Ratio", "kept_bytes", "machine", "paired", "ratio", "write"]

Times = dict[str, list[float]]


def paired(
    functions: Mapping[str, Callable[[], Any]],
    device: torch.device | str,
    rounds: int = 15,
    least: float = 5e-3,
    seed: int = 0,
) -> Times:
    """Time functions in turns.

    Args:
        functions: what is timed, by name; each is called before, to warm up.
        device: where they compute.  On a CPU with one thread the time is the processor's, which stands still while
            another program has the core; with more threads it is the wall's.  On a GPU it is that between two events on
            the current stream, with nothing else in the queue before the first: where a GPU waits for the CPU that
            gives it its orders, this counts.
        rounds: number of times that every function is timed, in another order each round.
        least: seconds; a function that takes less is called several times in a row, and the mean is taken.
        seed: of the orders.

    Returns:
        Seconds for each call, by name, in the order of the rounds.
    """
    timer = _on_gpu if torch.device(device).type == "cuda" else _on_cpu
    repeats = {}
    for name, function in functions.items():
        timer(function, 3)
        repeats[name] = max(1, round(least / max(timer(function, 1), 1e-9)))
    times: Times = {name: [] for name in functions}
    order = random.Random(seed)
    for _ in range(rounds):
        for name in order.sample(list(functions), len(functions)):
            times[name].append(timer(functions[name], repeats[name]))
    return times


def kept_bytes(function: Callable[[], Any], without: Sequence[Tensor] = ()) -> int:
    """Memory that a forward pass keeps for the backward pass, each storage once.

    Args:
        function: the forward pass; its result is held while the memory is counted.
        without: tensors whose memory does not count: parameters and buffers.
    """
    _result, kept = kept_for_backward(function, without)
    return sum(storage.nbytes for storage in kept.values())


def machine(device: torch.device | str) -> dict[str, Any]:
    """What the times depend on: hardware, threads, versions."""
    cuda = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def write(path: Path | str, result: Mapping[str, Any]) -> None:
    """Write a result as JSON, with its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _on_cpu(function: Callable[[], Any], calls: int) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begin = clock()
    for _ in range(calls):
        function()
    return (clock() - begin) / calls


def _on_gpu(function: Callable[[], Any], calls: int) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(calls):
        function()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / calls


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if names:
            return names[0]
    return platform.processor() or platform.machine()
