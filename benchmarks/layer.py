"""The product unit against the convolution of its shape, and against its own plain form.

::

    python benchmarks/layer.py [--quick] [--device cuda] [--json FILE]

Timed in turns in one process, for shapes of the paper's product units::

    conv        ``nn.Conv2d`` without a bias
    relu+conv   what the unit replaces in a residual block
    unit        :class:`pure.ProductUnit2d`
    plain       the formulas of ``pure.nn.functional`` alone

A step is forward and backward pass.  The last column is the extra cost over the convolution, in copies of the input.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from timing import Times, kept_bytes, machine, paired, ratio, write
from torch import Tensor, nn

from pure import ProductUnit2d
from pure.nn.fused import dispatch

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Shape(NamedTuple):
    """The product units of a stage: input and output have this shape, the window is 3 x 3."""

    network: str
    batch: int
    channels: int
    pixels: int


def shapes(device: str) -> list[Shape]:
    """Those of PURe20 on 32 x 32 pixels and of PURe18 and PURe34 on 224 x 224."""
    small = [Shape("pure20", 128, 16 * 2**i, 32 // 2**i) for i in range(3)]
    large = [Shape("pure18, pure34", 64 if device == "cuda" else 4, 64 * 2**i, 56 // 2**i) for i in range(4)]
    return small + large


def candidates(shape: Shape, device: str, memory_format: torch.memory_format) -> dict[str, Any]:
    """The four layers, made of two modules."""
    width = shape.channels
    conv = nn.Conv2d(width, width, 3, padding=1, bias=False).to(device, memory_format=memory_format)
    unit = ProductUnit2d(width, width, 3, padding=1).to(device, memory_format=memory_format)

    def plain(x: Tensor) -> Tensor:
        with dispatch.disabled():
            return unit(x)

    return {"conv": conv, "relu+conv": lambda x: conv(F.relu(x)), "unit": unit, "plain": plain}


def measure(shape: Shape, device: str, layout: str, precision: str, compiled: bool, rounds: int) -> dict[str, Any]:
    """All figures of one shape, memory format and precision."""
    torch.manual_seed(0)
    torch.compiler.reset()
    memory_format, lowered = FORMATS[layout], AUTOCAST[precision]
    layers = candidates(shape, device, memory_format)
    conv, unit = (list(layers[name].parameters()) for name in ("conv", "unit"))
    parameters = {"conv": conv, "relu+conv": conv, "unit": unit, "plain": unit}
    if compiled:
        layers = {name: torch.compile(layer, fullgraph=True) for name, layer in layers.items() if name != "plain"}
    x = torch.randn(shape.batch, shape.channels, shape.pixels, shape.pixels, device=device, dtype=lowered)
    x = x.contiguous(memory_format=memory_format).requires_grad_()

    def forward(layer: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.autocast(device, lowered) if lowered else nullcontext():
            return layer(x)

    gradients = {name: torch.randn_like(forward(layer)) for name, layer in layers.items()}

    def step(name: str) -> Callable[[], Any]:
        wanted = (x, *parameters[name])
        return lambda: torch.autograd.grad(forward(layers[name]), wanted, gradients[name])

    def inference(name: str) -> Callable[[], Any]:
        return torch.no_grad()(lambda: forward(layers[name]))

    copied = torch.empty_like(x)
    copy = {"copy": torch.no_grad()(lambda: copied.copy_(x))}
    timed = {
        "inference": paired({name: inference(name) for name in layers} | copy, device, rounds),
        "training": paired({name: step(name) for name in layers} | copy, device, rounds),
    }
    return {
        **shape._asdict(),
        "layout": layout,
        "precision": precision,
        "compiled": compiled,
        "seconds": timed,
        "kept_bytes": {name: kept_bytes(lambda n=name: forward(layers[n]), parameters[name]) for name in layers},
        "copies": {mode: _copies(times) for mode, times in timed.items()},
    }


def _copies(times: Times) -> float:
    """What the unit costs above the convolution, in copies of the input: the median over the rounds.

    A copy is one read and one write of every number: a measure that goes with the memory's bandwidth and not with the
    convolution's speed.
    """
    each = [(u - c) / k for u, c, k in zip(times["unit"], times["conv"], times["copy"], strict=True)]
    return sorted(each)[len(each) // 2]


def line(row: dict[str, Any]) -> str:
    """A row of the printed table."""
    cells = [
        f"{row['network']:14} {row['batch']:3} x {row['channels']:3} x {row['pixels']:2}^2",
        f"{row['layout']:13} {row['precision']:8}",
    ]
    for mode in ("inference", "training"):
        times = row["seconds"][mode]
        for other in ("conv", "relu+conv", "plain"):
            cells.append(f"{ratio(times, 'unit', other)!s:>18}" if other in times else " " * 18)
    cells.append(f"{row['kept_bytes']['unit'] / row['kept_bytes']['relu+conv']:5.2f}")
    cells.append(f"{row['copies']['training']:5.1f}")
    return " ".join(cells)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU; by default as PyTorch has it")
    parser.add_argument("--compile", action="store_true", help="compile every layer; without the plain form")
    parser.add_argument("--precision", nargs="+", choices=AUTOCAST, help="float32, and autocast to the others")
    parser.add_argument("--quick", action="store_true", help="few rounds, one shape of each network: below a minute")
    parser.add_argument("--json", help="file for the result")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    wanted = shapes(options.device)
    if options.quick:
        wanted, options.rounds = [wanted[0], wanted[4]], 5
    precisions = options.precision or (["float32", "bfloat16"] if options.device == "cuda" else ["float32"])

    heads = [f"{mode}, unit / {other}" for mode in ("forward", "step") for other in ("conv", "relu+conv", "plain")]
    print(f"{'':50}" + " ".join(f"{head:>18}" for head in heads) + "  kept copies")
    rows = []
    for shape, layout, precision in itertools.product(wanted, FORMATS, precisions):
        rows.append(measure(shape, options.device, layout, precision, options.compile, options.rounds))
        print(line(rows[-1]), flush=True)
    if options.json:
        write(options.json, {"machine": machine(options.device), "rows": rows})


if __name__ == "__main__":
    main()
