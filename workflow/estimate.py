"""What a batch will take, before it starts: hours, memory and cost, from records of such runs or worked out."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from experiments import Run, tuples

import pure
from pure.recipes import Recipe, get_recipe
from pure.records import RECORD_NAME, read_record
from pure.report.networks import costs

IMAGES = {
    "cifar10": (50_000, 32),
    "digits": (1_149, 8),
    "fashion-mnist": (60_000, 28),
    "galaxy10": (2 * 14_189, 256),
    "galaxy10-synthetic": (2 * 640, 64),
    "gz2": (2 * 10_000, 64),
    "image-folder": (9_469, 64),
    "imagenet": (1_281_167, 224),
}
"""Training images, static copies included, and their edge in pixels; the image folder is taken to be Imagenette."""

SPEED = {"gpu": 5e12, "cpu": 1.5e10}
"""Multiply-adds a second.  GPU: ResNet18's 30 epochs in 1149 s on the paper's two V100 (table 2); small networks are
slower.  CPU: the records of the digits, on one thread."""


@dataclass(frozen=True)
class Estimate:
    """Of one run: seconds, bytes on the device, and where the seconds come from."""

    seconds: float
    memory: int
    source: str


def estimate(run: Run, device: str, roots: Iterable[Path]) -> Estimate:
    """Seconds as the records of such runs on such a device say; else from the arithmetic of a training."""
    recipe = get_recipe(run.recipe, run.network, **tuples(run.overrides))
    multiply_adds, memory = _costs(run.network, tuple(sorted(run.model_options.items())), recipe)
    measured = [seconds for root in roots for seconds in _seconds_an_epoch(root / run.recipe / run.label, device)]
    if measured:
        return Estimate(statistics.median(measured) * recipe.epochs, memory, "measured")
    images, _ = IMAGES.get(recipe.dataset, (50_000, 32))
    steps = 3 * multiply_adds * images * recipe.epochs  # forward, and twice as much backward
    return Estimate(steps / SPEED[device], memory, "worked out")


@cache
def _seconds_an_epoch(folder: Path, device: str) -> list[float]:
    found = []
    for path in folder.glob(f"seed*/{RECORD_NAME}"):
        with contextlib.suppress(OSError, ValueError):
            record = read_record(path)
            if record.environment.device == {"gpu": "cuda", "cpu": "cpu"}[device] and record.epochs:
                found.append(record.times.total_s / len(record.epochs))
    return found


@cache
def _costs_of(network: str, options: tuple[tuple[str, Any], ...], pixels: int) -> tuple[int, int, int]:
    try:
        cost = costs(pure.create_model(network, **tuples(dict(options))), pixels=pixels)
    except ValueError:  # images too small for its strides
        return 0, 0, 0
    return cost.multiply_adds, cost.kept_bytes, cost.parameters


def _costs(network: str, options: tuple[tuple[str, Any], ...], recipe: Recipe) -> tuple[int, int]:
    """Multiply-adds of an image, and bytes of a training step."""
    _, pixels = IMAGES.get(recipe.dataset, (50_000, 32))
    multiply_adds, kept, parameters = _costs_of(network, options, pixels)
    weights = 3 * 4 * parameters  # with gradients and momentum, in single precision
    return multiply_adds, kept * recipe.batch_size + weights
