"""Several seeds of one small network: in turn, stacked under vmap, or in processes side by side.

::

    python benchmarks/seeds.py pure20 --seeds 4 --batch 128 --pixels 32 --device cuda --json FILE

A step is forward pass, cross-entropy and backward pass of every seed on its own batch, without optimizer and loader:
the most that stacking can gain.  Running statistics are stacked like the weights, since vmap refuses to update shared
ones in place.  Side by side needs an idle machine.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timing import machine, paired, ratio, write
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

import pure


def networks(model: str, seeds: int, device: str) -> list[nn.Module]:
    """One for each seed, in training mode."""
    made = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        made.append(pure.create_model(model).to(device).train())
    return made


def one_after_another(made: list[nn.Module], images: Tensor, labels: Tensor) -> Callable[[], None]:
    """Images ``(S, N, C, H, W)``, labels ``(S, N)``: a step of each network in its turn."""

    def step() -> None:
        for network, x, y in zip(made, images, labels, strict=True):
            network.zero_grad()
            F.cross_entropy(network(x), y).backward()

    return step


def stacked(made: list[nn.Module], images: Tensor, labels: Tensor) -> tuple[Callable[[], None], dict[str, Tensor]]:
    """The same in one call.  Returns the step, and the stacked parameters that it leaves gradients in."""
    parameters, buffers = stack_module_state(made)
    skeleton = copy.deepcopy(made[0]).to("meta")

    def loss(weights: Any, state: Any, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(skeleton, (weights, state), (x,)), y)

    def step() -> None:
        for parameter in parameters.values():
            parameter.grad = None
        vmap(loss)(parameters, buffers, images, labels).sum().backward()

    return step, parameters


def largest_difference(made: list[nn.Module], parameters: dict[str, Tensor]) -> float:
    """Of the stacked gradients to those of the networks, relative to the largest gradient of each parameter."""
    worst = 0.0
    for name, together in parameters.items():
        assert together.grad is not None
        alone = torch.stack([network.get_parameter(name).grad for network in made])  # type: ignore[misc]
        scale = alone.abs().max().clamp_min(1e-12)
        worst = max(worst, float((together.grad - alone).abs().max() / scale))
    return worst


def batches(seeds: int, batch: int, pixels: int, device: str) -> tuple[Tensor, Tensor]:
    """Random images and labels for every seed."""
    torch.manual_seed(0)
    images = torch.randn(seeds, batch, 3, pixels, pixels, device=device)
    return images, torch.randint(10, (seeds, batch), device=device)


def _count(model: str, batch: int, pixels: int, device: str, start: Any, results: Any, seconds: float) -> None:
    """Steps a second of one network in a new process."""
    torch.set_num_threads(1)
    step = one_after_another(networks(model, 1, device), *batches(1, batch, pixels, device))
    for _ in range(3):
        step()
    start.wait()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        step()
        if device != "cpu":
            torch.cuda.synchronize()
        count += 1
    results.put(count / (time.perf_counter() - begin))


def side_by_side(processes: int, seconds: float, **given: Any) -> float:
    """Steps a second of several processes together, one thread each."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(processes), context.Queue()
    args = (given["model"], given["batch"], given["pixels"], given["device"], start, results, seconds)
    started = [context.Process(target=_count, args=args) for _ in range(processes)]
    for process in started:
        process.start()
    total = sum(results.get(timeout=300) for _ in started)
    for process in started:
        process.join()
    return total


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description="Seeds an hour: in turn, stacked, side by side.")
    parser.add_argument("model", nargs="?", default="pure20")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pixels", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    made = networks(options.model, options.seeds, options.device)
    images, labels = batches(options.seeds, options.batch, options.pixels, options.device)
    alone = one_after_another(made, images, labels)
    together, parameters = stacked(made, images, labels)
    alone()
    together()
    gap = largest_difference(made, parameters)
    times = paired({"alone": alone, "stacked": together}, options.device, options.rounds)
    gain = ratio(times, "alone", "stacked")
    given = {name: getattr(options, name) for name in ("model", "batch", "pixels", "device")}
    one = side_by_side(1, options.seconds, **given)
    several = side_by_side(options.processes, options.seconds, **given)
    result = {
        "machine": machine(options.device),
        "settings": {**given, "seeds": options.seeds, "threads": options.threads, "processes": options.processes},
        "gradients_differ_by": gap,
        "seeds_per_hour_stacked_over_alone": gain._asdict(),
        "seeds_per_hour_side_by_side_over_one_process": several / one,
    }
    print(f"stacked {gain} times the seeds an hour of one after another; gradients differ by {gap:.1e}")
    print(f"{options.processes} processes: {several / one:.2f} times those of one")
    if options.json:
        write(options.json, result)


if __name__ == "__main__":
    main()
