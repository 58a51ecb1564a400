"""A training step of PU-UNet against one of the residual U-Net: eager, in turns within one process.

::

    python benchmarks/unets.py [--device cpu] [--threads 1] [--out results/unets/cpu.json]

The two have one body and one loss, that of the recipe ``deblending``; contiguous and channels_last apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from layer import FORMATS
from timing import machine, paired, ratio, write
from torch import nn

import pure
from pure.data.images import ImageSet
from pure.data.splits import Splits
from pure.recipes import get_recipe
from pure.records import Environment
from pure.train.tasks import task_of

SIZES = {"default": {}, "small": {"widths": (8, 16, 32, 64, 128)}}
"""The widths that are measured, by name; the small ones are those of the committed runs."""


def measure(options: dict[str, Any], layout: str, device: str, rounds: int, pixels: int = 64) -> dict[str, Any]:
    """Parameters of both, and seconds of a step in each round."""
    recipe = get_recipe("deblending", "pu_unet")
    images = torch.randn(recipe.batch_size, 3, pixels, pixels, device=device).contiguous(memory_format=FORMATS[layout])
    masks = (images[:, 0] > 0).to(torch.uint8)
    some = ImageSet(torch.zeros(1, 3, pixels, pixels, dtype=torch.uint8), masks[:1].cpu())
    loss = task_of(recipe, Splits("noise", ("background", "object"), some, None, some)).loss

    def step_of(network: nn.Module) -> Callable[[], None]:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            loss(network(images), masks).backward()
            optimizer.step()

        return step

    networks = {}
    for name in ("res_unet", "pu_unet"):
        torch.manual_seed(0)
        networks[name] = pure.create_model(name, **options).to(device, memory_format=FORMATS[layout])
    times = paired({name: step_of(network) for name, network in networks.items()}, device, rounds)
    return {
        "layout": layout,
        "batch": recipe.batch_size,
        "pixels": pixels,
        "parameters": {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()},
        "seconds": times,
    }


def main() -> None:
    """Measure all sizes and formats, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("results/unets/cpu.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = [
        {"size": size, **measure(widths, layout, options.device, options.rounds)}
        for size, widths in SIZES.items()
        for layout in FORMATS
    ]
    commit = Environment.current(torch.device(options.device)).commit
    write(options.out, {"commit": commit, "machine": machine(options.device), "cases": cases})
    for case in cases:
        print(case["size"], case["layout"], case["parameters"], ratio(case["seconds"], "pu_unet", "res_unet"))


if __name__ == "__main__":
    main()
