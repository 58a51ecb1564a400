"""Ways to execute a training step, in turns: memory formats and compilation, for a PURe and the ResNet of its depth.

::

    python benchmarks/execution.py --out results/execution/cpu.json

From this record ``pure.execution`` decides what ``auto`` stands for.  Network, batch and images are a recipe's.  The
cost of compiling is the time of the first calls, less that of later ones, for one training batch and one evaluation
batch; the smaller last batches of a run cost as much again.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timing import machine, paired, write
from torch import nn

import pure

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

WORKLOADS: dict[str, dict[str, Any]] = {
    "cifar10": {"depth": 20, "channels": 3, "pixels": 32, "batch": 128},
    "imagenette64": {"depth": 18, "channels": 3, "pixels": 64, "batch": 64},
    "digits": {"depth": 20, "channels": 1, "pixels": 8, "batch": 32},
}
"""By recipe: depth of the networks, channels and edge of the images, images of a batch."""

EVALUATED = 256
"""Images that are evaluated at once."""


class Way:
    """A network that is executed in one way, and a step of its training."""

    def __init__(self, model: str, workload: dict[str, Any], layout: str, compiled: bool, device: str) -> None:
        torch.manual_seed(0)
        options = {"shortcut": "B"} if model == "resnet20" else {}
        self.network: nn.Module = pure.create_model(model, 10, workload["channels"], **options)
        self.network.to(device, memory_format=FORMATS[layout])
        if compiled:
            self.network.compile(dynamic=False)
        self.layout, self.workload, self.device = layout, workload, device
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.0, momentum=0.9, fused=True)

    def images(self, number: int) -> torch.Tensor:
        """So many, of noise."""
        edge = self.workload["pixels"]
        images = torch.randn(number, self.workload["channels"], edge, edge, device=self.device)
        return images.contiguous(memory_format=FORMATS[self.layout])

    def step(self, images: torch.Tensor) -> None:
        """Forward, backward and SGD at a rate of zero, so that all rounds are the same."""
        self.network.train()
        self.optimizer.zero_grad()
        labels = torch.arange(len(images), device=self.device) % 10
        F.cross_entropy(self.network(images), labels).backward()
        self.optimizer.step()

    @torch.no_grad()
    def show(self, images: torch.Tensor) -> None:
        """Forward alone, as in an evaluation."""
        self.network.eval()
        self.network(images)

    def start_s(self) -> float:
        """Seconds that the first calls take beyond what they take afterwards."""
        calls = [
            partial(self.step, self.images(self.workload["batch"])),
            partial(self.show, self.images(EVALUATED)),
        ]
        return sum(_seconds(call) - _seconds(call) for call in calls)


def _seconds(call: Callable[[], None]) -> float:
    clock = time.perf_counter()
    call()
    return time.perf_counter() - clock


def measure(name: str, device: str, rounds: int) -> dict[str, Any]:
    """Seconds of a step by network and way, and seconds that the start takes."""
    workload = WORKLOADS[name]
    torch.compiler.reset()
    ways, start = {}, {}
    for family, layout, compiled in itertools.product(("pure", "resnet"), FORMATS, (False, True)):
        model = f"{family}{workload['depth']}"
        title = f"{model} {layout}{' compiled' if compiled else ''}"
        ways[title] = Way(model, workload, layout, compiled, device)
        start[title] = round(ways[title].start_s(), 1)
    steps = {title: partial(way.step, way.images(workload["batch"])) for title, way in ways.items()}
    seconds = paired(steps, device, rounds)
    rounded = {title: [float(f"{each:.4g}") for each in values] for title, values in seconds.items()}
    return {"workload": name, **workload, "start_s": start, "seconds": rounded}


def main() -> None:
    """Measure every workload and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch._dynamo.config.recompile_limit = 64  # the ways share their code: none may fall back to eager
    rows = []
    for name in WORKLOADS:
        rows.append(measure(name, options.device, options.rounds))
        write(options.out, {"machine": machine(options.device), "rows": rows})
        for title, seconds in rows[-1]["seconds"].items():
            rate = WORKLOADS[name]["batch"] / sorted(seconds)[len(seconds) // 2]
            print(f"{name} {title}: {rate:.0f} images/s, start {rows[-1]['start_s'][title]:.1f} s", flush=True)


if __name__ == "__main__":
    main()
