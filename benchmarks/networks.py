"""A PURe against the ResNet of its depth, and against its own plain form: time, kept memory, peak memory.

::

    python benchmarks/networks.py pure20 [--compile] [--layout channels_last] [--shortcuts defaults]

A training step is forward pass, cross-entropy, backward pass and SGD with momentum at learning rate zero, so that all
rounds are the same.  The plain form uses the formulas of ``pure.nn.functional`` alone.  Inference of eager networks is
timed with folded BN (``pure.nn.fold``) too.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from layer import AUTOCAST, FORMATS
from timing import kept_bytes, paired, ratio
from torch import Tensor, nn

import pure
from pure.nn.fold import fold
from pure.nn.fused import dispatch


@dataclass(frozen=True)
class Pair:
    """What is compared, and how.

    Attributes:
        model: a PURe; the ResNet is the one of its depth.
        batch: number of images.
        pixels: height and width of an image.
        classes: length of the output.
        layout: memory format of images and weights.
        precision: float32, or that of autocast.
        compiled: by inductor, as one graph.
        shortcuts: ``"B"`` in both, or ``"defaults"``: B in PURe, and in a ResNet for small images A, as published.
        rounds: see :func:`timing.paired`.
    """

    model: str
    batch: int
    pixels: int
    classes: int = 10
    layout: str = "contiguous"
    precision: str = "float32"
    compiled: bool = False
    shortcuts: str = "B"
    rounds: int = 15

    def networks(self) -> dict[str, nn.Module]:
        """The two, with torchvision's ResNet where it has one: its shortcut is B."""
        torch.manual_seed(0)
        other = self.model.replace("pure", "resnet")
        takes_option = self.shortcuts == "B" and self.pixels < 64
        options = {"shortcut": "B"} if takes_option else {}
        return {
            "pure": pure.create_model(self.model, self.classes),
            "resnet": pure.create_model(other, self.classes, **options),
        }


Step = Callable[[], Any]


def measure(pair: Pair, device: str) -> dict[str, Any]:
    """All figures of a pair: its settings, seconds by mode and name, bytes kept, and on a GPU peak bytes."""
    torch.compiler.reset()
    networks, own = {}, {}
    for name, network in pair.networks().items():
        network = network.to(device, memory_format=FORMATS[pair.layout])
        own[name] = [*network.parameters(), *network.buffers()]
        networks[name] = torch.compile(network, fullgraph=True, dynamic=False) if pair.compiled else network
    images = torch.randn(pair.batch, 3, pair.pixels, pair.pixels, device=device)
    images = images.contiguous(memory_format=FORMATS[pair.layout])
    labels = torch.arange(pair.batch, device=device) % pair.classes
    lowered = AUTOCAST[pair.precision]

    def logits(name: str) -> Tensor:
        with torch.autocast(device, lowered) if lowered else nullcontext():
            return networks[name](images).float()

    def loss(name: str) -> Tensor:
        return F.cross_entropy(logits(name), labels)

    def training(name: str) -> Step:
        optimiser = torch.optim.SGD(networks[name].parameters(), lr=0.0, momentum=0.9, weight_decay=1e-4, fused=True)

        def step() -> None:
            optimiser.zero_grad()
            loss(name).backward()
            optimiser.step()

        return step

    result: dict[str, Any] = asdict(pair) | {"seconds": {}}
    steps = {name: training(name) for name in networks}
    steps["plain"] = _plain(steps["pure"])  # where compiled, a separate graph
    if not pair.compiled:
        kept = {name: kept_bytes(lambda n=name: loss(n), own[name]) for name in networks}
        kept["plain"] = kept_bytes(_plain(lambda: loss("pure")), own["pure"])
        result["kept_bytes"] = kept
    if device == "cuda":
        result["peak_bytes"] = {name: _peak(step) for name, step in steps.items()}
    result["seconds"]["training"] = _rounded(paired(steps, device, pair.rounds))
    for network in networks.values():
        network.eval()
    answers = {name: torch.no_grad()(lambda n=name: logits(n)) for name in networks}
    answers["plain"] = _plain(answers["pure"])
    if not pair.compiled:
        for name in tuple(networks):
            networks[f"{name}_folded"] = fold(networks[name])
            answers[f"{name}_folded"] = torch.no_grad()(lambda n=f"{name}_folded": logits(n))
    result["seconds"]["inference"] = _rounded(paired(answers, device, pair.rounds))
    return result


def _plain(function: Step) -> Step:
    def call() -> Any:
        with dispatch.disabled():
            return function()

    return call


def _peak(step: Step) -> int:
    """Bytes that a step has allocated at most, above what was there before it."""
    step()  # gradients and momentum are there from now on
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _rounded(times: dict[str, list[float]]) -> dict[str, list[float]]:
    """To four figures: a clock does not give more, and records stay small."""
    return {name: [float(f"{each:.4g}") for each in values] for name, values in times.items()}


def line(row: dict[str, Any]) -> str:
    """A row of the printed table."""
    words = [row[key] for key in ("model", "layout", "precision", "shortcuts")]
    cells = [
        f"{' '.join(words)} {'compiled' if row['compiled'] else 'eager'} {row['batch']} x {row['pixels']} px: PURe"
    ]
    for mode, times in row["seconds"].items():
        against = [f"{ratio(times, 'pure', name)} of {name}" for name in ("resnet", "plain") if name in times]
        if "pure_folded" in times:
            against.append(f"both folded {ratio(times, 'pure_folded', 'resnet_folded')}")
        cells.append(f"{mode} {', '.join(against)};")
    for what in ("kept", "peak"):
        if found := row.get(f"{what}_bytes"):
            cells.append(f"{what} {found['pure'] / found['resnet']:.3f}")
    return " ".join(cells)


def main() -> None:
    """Measure the pair that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="pure20, pure110, pure18, ...; the ResNet is that of its depth")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--layout", default="contiguous", choices=FORMATS)
    parser.add_argument("--precision", default="float32", choices=AUTOCAST)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--shortcuts", default="B", choices=["B", "defaults"])
    parser.add_argument("--rounds", type=int, default=15)
    given = vars(parser.parse_args())
    device = given.pop("device")
    print(line(measure(Pair(compiled=given.pop("compile"), **given), device)))


if __name__ == "__main__":
    main()
