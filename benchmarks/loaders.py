"""Images a second of the loaders, compared with torchvision's usual ``DataLoader(CIFAR10, RandomCrop, Flip)``.

::

    python benchmarks/loaders.py [--root DIR] [--json FILE]

Images are CIFAR-10's if it is below ``--root``, else made up.  Each round measures every loader, in a different order,
on whole epochs after one that is not counted; ratios within a round are compared.  Timed is everything from asking for
the first batch to having the last one on the device, normalised unless the row says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pure import data
from pure.data.images import ImageSet
from pure.data.loaders import make_loader

Epoch = Callable[[], Iterable[tuple[Tensor, Tensor]]]

REFERENCE = "torchvision, not normalised"
AUGMENTATION = "pad-crop(4)+flip"


class PILImages(Dataset[tuple[Tensor, int]]):
    """As ``torchvision.datasets.CIFAR10`` gives its images: from an array to Pillow, then the transform."""

    def __init__(self, images: ImageSet, transform: Callable[[Image.Image], Tensor]) -> None:
        self.data = images.images.movedim(1, 3).contiguous().numpy()  # (N, H, W, C)
        self.targets = images.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


def read_images(root: Path | None, number: int) -> tuple[str, ImageSet]:
    """What is measured on, and its images."""
    if root is not None:
        splits = data.load("cifar10", root)
        train = splits.train
        assert isinstance(train, ImageSet)
        return splits.name, ImageSet(train.images[:number], train.labels[:number])
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (number, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return "made up", ImageSet(images, torch.arange(number) % 10)


def usual_loader(images: ImageSet, batch_size: int, workers: int, device: torch.device, normalise: bool) -> Epoch:
    """Torchvision's transforms and PyTorch's ``DataLoader``, as most trainings on CIFAR-10 have them."""
    steps: list[Any] = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    if normalise:
        steps.append(transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)))
    loader = DataLoader(
        PILImages(images, transforms.Compose(steps)),
        batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )

    def epoch() -> Iterable[tuple[Tensor, Tensor]]:
        for pixels, labels in loader:
            yield pixels.to(device, non_blocking=True), labels.to(device, non_blocking=True)

    return epoch


def our_loader(
    images: ImageSet, batch_size: int, workers: int, device: torch.device, kind: Any, augmentation: str
) -> Epoch:
    """A loader of this package; another epoch each time."""
    scale = torch.full((3,), 127.5)
    loader = make_loader(
        images, (scale, scale), batch_size, device, augmentation=augmentation, shuffle=True, kind=kind, workers=workers
    )
    epochs = iter(range(10**9))

    def epoch() -> Iterable[tuple[Tensor, Tensor]]:
        loader.set_epoch(next(epochs))
        return loader

    return epoch


def images_per_second(epoch: Epoch, seconds: float, device: torch.device) -> float:
    """Images a second over whole epochs, for at least this many seconds."""
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        for _, labels in epoch():
            count += len(labels)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return count / elapsed


def measure(loaders: dict[str, Epoch], rounds: int, seconds: float, device: torch.device) -> dict[str, list[float]]:
    """Images a second of each loader in each round."""
    for epoch in loaders.values():
        images_per_second(epoch, 1e-9, device)  # starts the workers
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(loaders), len(loaders)):
            rates[name].append(images_per_second(loaders[name], seconds, device))
    return rates


def summarise(values: list[float]) -> dict[str, float]:
    """Median and extremes."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description="Images a second of the loaders, beside torchvision's.")
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder with CIFAR-10; made-up images without")
    parser.add_argument("--device", default="cpu", help="where the batches are wanted")
    parser.add_argument("--images", type=int, default=10_000, help="images of an epoch")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2, help="processes of the loaders that have any")
    parser.add_argument("--threads", type=int, default=1, help="threads of this process, which is the device loader's")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="at least so long for each loader and round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    source, images = read_images(options.root, options.images)
    given = images, options.batch_size, options.workers, device
    loaders = {
        REFERENCE: usual_loader(*given, normalise=False),
        "torchvision": usual_loader(*given, normalise=True),
        f"workers, {AUGMENTATION}": our_loader(*given, "workers", AUGMENTATION),
        f"device, {AUGMENTATION}": our_loader(*given, "device", AUGMENTATION),
        "device, shift(1)": our_loader(*given, "device", "shift(1)"),
        "device, resized-crop(32)+flip": our_loader(*given, "device", "resized-crop(32)+flip"),
        "device, rotate(180)": our_loader(*given, "device", "rotate(180)"),
        "device, none": our_loader(*given, "device", "none"),
    }
    rates = measure(loaders, options.rounds, options.seconds, device)
    reference = rates[REFERENCE]
    table = {
        name: {
            "images_per_second": summarise(values),
            "ratio": summarise([value / other for value, other in zip(values, reference, strict=True)]),
            "rounds": values,
        }
        for name, values in rates.items()
    }
    print(
        f"{source} images {tuple(images.images.shape)}, batches of {options.batch_size}, {options.workers} workers or "
        f"{options.threads} thread(s), {device}; median (lowest to highest) of {options.rounds} rounds\n"
    )
    print(f"{'loader':32} {'images a second':>34} {'times the first':>26}")
    for name, row in table.items():
        rate, ratio = row["images_per_second"], row["ratio"]
        print(
            f"{name:32} {rate['median']:10,.0f} ({rate['min']:9,.0f} to {rate['max']:9,.0f}) "
            f"{ratio['median']:10.1f} ({ratio['min']:5.1f} to {ratio['max']:5.1f})"
        )
    if options.json:
        environment = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "machine": platform.processor() or platform.machine(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "cores": os.cpu_count(),
        }
        settings = {name: str(value) for name, value in vars(options).items() if name not in ("json", "root")}
        content = {"source": source, "settings": settings, "environment": environment, "loaders": table}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
